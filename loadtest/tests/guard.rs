//! A guarded program ends when the thread that has started it does, and with nothing else.

use std::os::unix::process::ExitStatusExt as _;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::channel;
use std::thread;
use std::time::Duration;

/// Time for what takes none.
const SHORT: Duration = Duration::from_millis(300);

const SIGTERM: i32 = 15;

fn guarded(owner: u32, command: &[&str]) -> Child {
    Command::new(env!("CARGO_BIN_EXE_hubring-loadtest"))
        .args(["guard", &owner.to_string(), "--"])
        .args(command)
        .stderr(Stdio::null())
        .spawn()
        .expect("it was built with this test")
}

#[test]
fn it_ends_with_its_owner() {
    let (end, ended) = channel::<()>();
    let owner = thread::spawn(move || {
        let child = guarded(std::process::id(), &["sleep", "60"]);
        // Until the other end is gone.
        let _ = ended.recv();
        child
    });
    thread::sleep(SHORT);
    assert!(!owner.is_finished());
    drop(end);
    let status = owner.join().unwrap().wait().unwrap();
    assert_eq!(status.signal(), Some(SIGTERM));
}

#[test]
fn it_is_the_program_itself() {
    let status =
        |command: &[&str]| -> ExitStatus { guarded(std::process::id(), command).wait().unwrap() };
    assert_eq!(status(&["sh", "-c", "exit 7"]).code(), Some(7));
    assert_eq!(status(&["/nowhere/no-such-program"]).code(), Some(1));
}

#[test]
fn it_does_not_start_for_somebody_else() {
    assert_eq!(guarded(1, &["sleep", "60"]).wait().unwrap().code(), Some(1));
}

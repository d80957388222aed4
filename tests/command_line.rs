//! What the program says and with which code it ends, when it is started wrongly or where it cannot run.
#![expect(clippy::unwrap_used, reason = "what fails here fails the test")]

use std::io::{BufRead as _, BufReader, Read as _};
use std::net::TcpListener;
use std::os::unix::process::CommandExt as _;
use std::process::{Command, Output, Stdio};

fn hubring(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_hubring"));
    command.args(arguments).env_clear().stdin(Stdio::null());
    command
}

/// Runs to the end. Whatever is started here ends by itself.
fn output_of(arguments: &[&str]) -> (Option<i32>, String, String) {
    let Output {
        status,
        stdout,
        stderr,
    } = hubring(arguments).output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (status.code(), text(stdout), text(stderr))
}

#[test]
fn help_names_every_command_and_flag() {
    let (code, help, _) = output_of(&["--help"]);
    assert_eq!(code, Some(0));
    for word in [
        "serve",
        "app-server",
        "demo",
        "--listen",
        "--admin",
        "--access-key",
        "--shards",
        "--cores",
        "HUBRING_LISTEN",
    ] {
        assert!(help.contains(word), "{word} is not in the help:\n{help}");
    }
}

#[test]
fn the_app_server_can_be_told_how_to_go_and_where_to_connect() {
    let (code, help, _) = output_of(&["app-server", "--help"]);
    assert_eq!(code, Some(0));
    for word in [
        "--connection-string",
        "--secondary",
        "--max-connections",
        "--graceful",
        "--graceful-timeout",
        "--actions",
        "--events",
    ] {
        assert!(help.contains(word), "{word} is not in the help:\n{help}");
    }
    let twice = ["--connection-string", "Endpoint=http://a;AccessKey=key;"].repeat(2);
    let arguments = [&["app-server", "--listen", "127.0.0.1:0"][..], &twice].concat();
    let (code, _, error) = output_of(&arguments);
    assert_eq!(code, Some(64));
    assert!(error.contains("named twice"), "{error}");
}

#[test]
fn a_wrong_flag_is_a_usage_error() {
    let (code, _, error) = output_of(&["serve", "--no-such-flag"]);
    assert_eq!(code, Some(64));
    assert!(error.contains("--no-such-flag"), "{error}");
}

#[test]
fn a_public_address_needs_a_key_of_its_own() {
    let (code, _, error) = output_of(&["serve", "--listen", "0.0.0.0:0", "--admin", "off"]);
    assert_eq!(code, Some(64));
    assert!(
        error.contains("0.0.0.0:0") && error.contains("everybody knows"),
        "{error}"
    );
}

/// It is for tests of the service itself, and asks nobody for a key.
#[test]
fn the_echo_is_in_no_help_and_on_no_public_address() {
    let (_, help, _) = output_of(&["serve", "--help"]);
    assert!(!help.contains("echo"), "{help}");
    let (code, _, error) = output_of(&[
        "serve",
        "--access-key",
        "a key of our own",
        "--websocket-echo",
        "0.0.0.0:0",
    ]);
    assert_eq!(code, Some(64));
    assert!(
        error.contains("0.0.0.0:0") && error.contains("echo"),
        "{error}"
    );
}

#[test]
fn an_address_in_use_is_named() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let (code, _, error) = output_of(&["serve", "--listen", &address, "--admin", "off"]);
    assert_eq!(code, Some(1));
    assert!(error.contains(&address), "{error}");
}

#[test]
fn an_address_that_becomes_free_in_time_is_waited_for() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let mut service = hubring(&["serve", "--listen", &address, "--admin", "off"])
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(service.stderr.take().unwrap())
        .lines()
        .map(Result::unwrap);
    assert!(lines.any(|line| line.contains("waits for an address that is in use")));
    drop(taken);
    assert!(lines.any(|line| line.contains("the service is up")));
    service.kill().unwrap();
    service.wait().unwrap();
}

#[test]
fn an_access_key_reaches_neither_log_nor_error() {
    let key = "a-secret-that-nobody-may-read";
    let (code, out, error) = output_of(&[
        "serve",
        "--access-key",
        key,
        "--listen",
        "127.0.0.1:0",
        "--admin",
        "off",
        "--shards",
        "9",
        "--cores",
        "0",
    ]);
    assert_eq!(code, Some(64), "more shards than the listed cores");
    assert!(!out.contains(key) && !error.contains(key), "{out}{error}");
}

#[test]
fn a_second_service_does_not_share_the_port() {
    let mut first = hubring(&[
        "serve",
        "--listen",
        "127.0.0.1:0",
        "--admin",
        "off",
        "--shards",
        "1",
    ])
    .stdout(Stdio::piped())
    .stderr(Stdio::null())
    .spawn()
    .unwrap();
    let mut line = String::new();
    BufReader::new(first.stdout.take().unwrap())
        .read_line(&mut line)
        .unwrap();
    let port = line
        .split("Port=")
        .nth(1)
        .and_then(|rest| rest.split(';').next())
        .unwrap();
    let (code, _, error) = output_of(&[
        "serve",
        "--listen",
        &format!("127.0.0.1:{port}"),
        "--admin",
        "off",
    ]);
    first.kill().unwrap();
    first.wait().unwrap();
    assert_eq!(
        code,
        Some(1),
        "two services would share the connections by chance: {error}"
    );
}

/// As in a container whose seccomp profile leaves io_uring out.
#[test]
fn a_refused_ring_is_explained() {
    let mut command = hubring(&["serve", "--listen", "127.0.0.1:0", "--admin", "off"]);
    // SAFETY: Between fork and exec only system calls are made, on memory that was there before.
    unsafe { command.pre_exec(refuse_rings) };
    let mut child = command
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let status = child.wait().unwrap();
    let mut error = String::new();
    child
        .stderr
        .take()
        .unwrap()
        .read_to_string(&mut error)
        .unwrap();
    assert_eq!(status.code(), Some(69), "{error}");
    assert!(
        error.contains("seccomp") && error.contains("io_uring_setup"),
        "{error}"
    );
}

/// Makes `io_uring_setup` fail with EPERM in this process.
fn refuse_rings() -> std::io::Result<()> {
    const LOAD_NUMBER: u16 = 0x20; // BPF_LD | BPF_W | BPF_ABS, of seccomp_data.nr at offset 0
    const JUMP_IF_EQUAL: u16 = 0x15; // BPF_JMP | BPF_JEQ | BPF_K
    const RETURN: u16 = 0x06; // BPF_RET | BPF_K
    let statement = |code, jt, jf, k| libc::sock_filter { code, jt, jf, k };
    let mut filter = [
        statement(LOAD_NUMBER, 0, 0, 0),
        statement(JUMP_IF_EQUAL, 0, 1, libc::SYS_io_uring_setup as u32),
        statement(RETURN, 0, 0, libc::SECCOMP_RET_ERRNO | libc::EPERM as u32),
        statement(RETURN, 0, 0, libc::SECCOMP_RET_ALLOW),
    ];
    let program = libc::sock_fprog {
        len: filter.len() as u16,
        filter: filter.as_mut_ptr(),
    };
    // SAFETY: A system call without pointers.
    let no_new_privileges = unsafe { libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) };
    // SAFETY: The program and the filter that it points to are alive during the call.
    let installed = unsafe {
        libc::prctl(
            libc::PR_SET_SECCOMP,
            libc::SECCOMP_MODE_FILTER,
            &raw const program,
        )
    };
    if no_new_privileges == 0 && installed == 0 {
        Ok(())
    } else {
        Err(std::io::Error::last_os_error())
    }
}

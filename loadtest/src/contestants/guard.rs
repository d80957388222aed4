//! What binds a contestant to the coordinator: it ends when that ends, in whatever way.
//!
//! A coordinator that is killed puts nothing away. So a contestant is not started directly but by this program, which asks Linux for a
//! signal at the end of its parent and then becomes the contestant. The wish survives that (prctl(2), `PR_SET_PDEATHSIG`), which is why
//! nothing of it stays behind to be measured.
//!
//! The signal is the one that asks to end: programs that have processes of their own end these, too. To Linux the parent is the thread
//! that has started the contestant, so that has to be one that lasts: the main thread.

use std::ffi::OsString;
use std::os::unix::process::CommandExt as _;
use std::path::PathBuf;
use std::process::Command;

use rustix::process::{Signal, getppid, set_parent_process_death_signal};

use crate::error::LoadError;

/// The same program with the same arguments and environment, but it ends with this process.
pub(super) fn guarded(command: &Command) -> Result<Command, LoadError> {
    let own = std::env::current_exe().map_err(LoadError::OwnPath)?;
    let mut guarded = Command::new(own);
    guarded
        .args(["guard", &std::process::id().to_string(), "--"])
        .arg(command.get_program())
        .args(command.get_args());
    for (name, value) in command.get_envs() {
        match value {
            Some(value) => guarded.env(name, value),
            None => guarded.env_remove(name),
        };
    }
    Ok(guarded)
}

/// Becomes the program that `command` begins with. Returns if that cannot be, and then says why.
pub(crate) fn become_program(owner: u32, command: &[OsString]) -> LoadError {
    if let Err(error) = set_parent_process_death_signal(Some(Signal::TERM)) {
        return LoadError::Guard(error.into());
    }
    // An owner that ended before that has sent nothing.
    let parent = getppid().map(|parent| parent.as_raw_nonzero().get().cast_unsigned());
    if parent != Some(owner) {
        return LoadError::OwnerEnded;
    }
    let Some((program, arguments)) = command.split_first() else {
        unreachable!("the command line asks for one");
    };
    let source = Command::new(program).args(arguments).exec();
    LoadError::StartService {
        path: PathBuf::from(program),
        source,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_guarded_program_keeps_its_arguments_and_environment() {
        let mut command = Command::new("relay");
        command
            .args(["--listen", "-"])
            .env("A", "1")
            .env_remove("B");
        let guarded = guarded(&command).unwrap();
        let arguments: Vec<_> = guarded.get_args().skip(2).collect();
        assert_eq!(arguments, ["--", "relay", "--listen", "-"]);
        assert!(guarded.get_envs().eq(command.get_envs()));
    }

    #[test]
    fn nothing_is_started_for_an_owner_that_has_ended() {
        let nobody = u32::MAX;
        // The thread's wish goes with the thread.
        let outcome = std::thread::spawn(move || become_program(nobody, &["true".into()]));
        assert!(matches!(outcome.join().unwrap(), LoadError::OwnerEnded));
    }
}

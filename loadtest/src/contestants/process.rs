//! A program under measurement: a group of processes that starts on given cores and ends with its owner.

use std::fs;
use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::os::unix::process::CommandExt as _;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process_group};
use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};

use super::guard::guarded;
use crate::error::LoadError;

/// Where contestants listen: from this address nobody connects, so none of the ports that Linux gives to connections is ever one of theirs.
/// With thousands of connections from 127.0.0.1 many a port that was free a moment ago is not free any more.
const LISTENING: Ipv4Addr = Ipv4Addr::new(127, 0, 255, 1);

/// Time until a program has to be ready.
const START_TIMEOUT: Duration = Duration::from_secs(20);

/// Time between looks whether it is.
const LOOK_INTERVAL: Duration = Duration::from_millis(10);

/// What the shell sets for a service of the user's, its access key included, is not meant for programs that are only measured.
const USERS_VARIABLES: &str = "HUBRING_";

/// A running program with all its descendants. Dropping it kills them, and they do not outlive this process either.
#[derive(Debug)]
pub(crate) struct ProgramUnderTest {
    child: Child,
    path: PathBuf,
}

impl ProgramUnderTest {
    /// Starts `command` on `core`, from where its descendants inherit it, while this process goes back to `own_core`.
    pub(crate) fn start(
        command: &mut Command,
        core: usize,
        own_core: usize,
    ) -> Result<Self, LoadError> {
        Self::start_on(command, &[core], &[own_core])
    }

    /// The same with several cores.
    pub(crate) fn start_on(
        command: &mut Command,
        cores: &[usize],
        own_cores: &[usize],
    ) -> Result<Self, LoadError> {
        let path = PathBuf::from(command.get_program());
        for (name, _) in std::env::vars_os() {
            if name.to_string_lossy().starts_with(USERS_VARIABLES) {
                command.env_remove(name);
            }
        }
        let mut guarded = guarded(command)?;
        // Unit tests are another program, which knows no guard.
        let command = if cfg!(test) { command } else { &mut guarded };
        pin(cores)?;
        // A group of its own: an interrupt at the terminal reaches only us, and we end the whole group.
        let child = command
            .process_group(0)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .spawn();
        pin(own_cores)?;
        let child = child.map_err(|source| LoadError::StartService {
            path: path.clone(),
            source,
        })?;
        Ok(Self { child, path })
    }

    /// Number of the process that was started.
    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    /// It and all its descendants that have not left its group.
    pub(crate) fn processes(&self) -> Vec<u32> {
        let numbers = fs::read_dir("/proc").into_iter().flatten().flatten();
        numbers
            .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
            .filter(|process| group_of(*process) == Some(self.child.id()))
            .collect()
    }

    /// Waits until `is_ready` says so, the program ends, or `stop` is set.
    pub(crate) fn wait_until(
        &mut self,
        stop: &AtomicBool,
        mut is_ready: impl FnMut() -> bool,
    ) -> Result<(), LoadError> {
        let deadline = Instant::now() + START_TIMEOUT;
        while !is_ready() {
            if stop.load(Ordering::Relaxed) {
                return Err(LoadError::Interrupted);
            }
            if let Ok(Some(status)) = self.child.try_wait() {
                return Err(LoadError::ProgramEnded {
                    path: self.path.clone(),
                    status,
                });
            }
            if Instant::now() > deadline {
                return Err(LoadError::ProgramNotReady {
                    path: self.path.clone(),
                    seconds: START_TIMEOUT.as_secs(),
                });
            }
            std::thread::sleep(LOOK_INTERVAL);
        }
        Ok(())
    }
}

impl Drop for ProgramUnderTest {
    fn drop(&mut self) {
        // It holds nothing that it would have to put away. If it has ended by itself there is nothing to kill.
        if let Some(group) = Pid::from_raw(self.child.id().cast_signed()) {
            let _ = kill_process_group(group, Signal::KILL);
        }
        let _ = self.child.wait();
    }
}

/// Whether something accepts connections there.
pub(crate) fn accepts_connections(address: SocketAddr) -> bool {
    TcpStream::connect_timeout(&address, LOOK_INTERVAL).is_ok()
}

/// Ports on loopback that were free a moment ago.
pub(crate) fn free_addresses<const N: usize>() -> Result<[SocketAddr; N], LoadError> {
    let bind = || TcpListener::bind((LISTENING, 0));
    let listeners: io::Result<Vec<TcpListener>> = (0..N).map(|_| bind()).collect();
    let listeners = listeners.map_err(LoadError::NoPort)?;
    let mut addresses = [SocketAddr::from((LISTENING, 0)); N];
    for (address, listener) in addresses.iter_mut().zip(&listeners) {
        *address = listener.local_addr().map_err(LoadError::NoPort)?;
    }
    Ok(addresses)
}

/// Restricts this thread, and what it starts, to these cores.
pub(crate) fn pin(cores: &[usize]) -> Result<(), LoadError> {
    let mut set = CpuSet::new();
    for core in cores {
        if *core >= CpuSet::MAX_CPU {
            return Err(LoadError::NoSuchCore(*core));
        }
        set.set(*core);
    }
    sched_setaffinity(None, &set)
        .map_err(|_| LoadError::NoSuchCore(cores.first().copied().unwrap_or_default()))?;
    // Linux takes what it can of the set, so a core that is not there has to be looked for.
    let allowed = sched_getaffinity(None).unwrap_or(set);
    match cores.iter().find(|core| !allowed.is_set(**core)) {
        Some(core) => Err(LoadError::NoSuchCore(*core)),
        None => Ok(()),
    }
}

/// The process group of a process: the third field behind the parenthesised name (proc(5)).
fn group_of(process: u32) -> Option<u32> {
    let stat = fs::read_to_string(format!("/proc/{process}/stat")).ok()?;
    let (_, behind_name) = stat.rsplit_once(')')?;
    behind_name.split_whitespace().nth(2)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_ends_with_its_owner_and_so_do_its_descendants() {
        let mut command = Command::new("sh");
        command.args(["-c", "sleep 60 & sleep 60"]);
        let core = core_affinity::get_core_ids().unwrap()[0].id;
        let mut program = ProgramUnderTest::start(&mut command, core, core).unwrap();
        let stop = AtomicBool::new(false);
        program.wait_until(&stop, || true).unwrap();
        while program.processes().len() < 3 {
            std::thread::sleep(LOOK_INTERVAL);
        }
        let processes = program.processes();
        drop(program);
        let deadline = Instant::now() + START_TIMEOUT;
        let is_running = |process: &u32| {
            let stat = fs::read_to_string(format!("/proc/{process}/stat")).unwrap_or_default();
            !stat.is_empty() && !stat.contains(") Z ")
        };
        while processes.iter().any(is_running) {
            assert!(Instant::now() < deadline, "still running");
            std::thread::sleep(LOOK_INTERVAL);
        }
    }

    #[test]
    fn a_core_that_is_not_there_is_an_error() {
        let here = core_affinity::get_core_ids().unwrap()[0].id;
        for cores in [&[CpuSet::MAX_CPU - 1][..], &[here, CpuSet::MAX_CPU + 5]] {
            let pinned = std::thread::scope(|scope| scope.spawn(|| pin(cores)).join().unwrap());
            assert!(matches!(pinned, Err(LoadError::NoSuchCore(_))));
        }
    }

    #[test]
    fn a_program_that_ends_at_once_is_an_error() {
        let core = core_affinity::get_core_ids().unwrap()[0].id;
        let mut program = ProgramUnderTest::start(&mut Command::new("false"), core, core).unwrap();
        let ended = program.wait_until(&AtomicBool::new(false), || false);
        assert!(matches!(ended, Err(LoadError::ProgramEnded { .. })));
    }
}

//! What Linux knows of a process: CPU time by thread, and memory (proc(5)).

use std::fs;
use std::io;
use std::path::Path;
use std::time::Duration;

use crate::error::LoadError;

/// What the scheduler has given to threads, and what it has not.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct ThreadTimes {
    /// Running.
    pub(crate) on_cpu: Duration,
    /// Ready to run, while something else had the core.
    pub(crate) waiting: Duration,
}

impl ThreadTimes {
    /// What has been added since `before`.
    pub(crate) fn since(self, before: Self) -> Self {
        Self {
            on_cpu: self.on_cpu.saturating_sub(before.on_cpu),
            waiting: self.waiting.saturating_sub(before.waiting),
        }
    }
}

/// The times so far of those threads of a process whose names begin with `name`, together. `process` is its number, or `self`.
pub(crate) fn thread_times(process: &str, name: &str) -> Result<ThreadTimes, LoadError> {
    let tasks = format!("/proc/{process}/task");
    let entries = fs::read_dir(&tasks).map_err(|source| LoadError::ReadProc {
        path: tasks.clone(),
        source,
    })?;
    let mut sum: Option<ThreadTimes> = None;
    for entry in entries.flatten() {
        // A thread that has ended since the directory was read counts for nothing.
        let Ok(comm) = read(&entry.path().join("comm")) else {
            continue;
        };
        if comm.starts_with(name)
            && let Ok(schedstat) = read(&entry.path().join("schedstat"))
        {
            let times = parse_schedstat(&schedstat);
            let times = times.ok_or_else(|| LoadError::OddProc(format!("{tasks}/*/schedstat")))?;
            let sum = sum.get_or_insert_default();
            sum.on_cpu += times.on_cpu;
            sum.waiting += times.waiting;
        }
    }
    sum.ok_or_else(|| LoadError::OddProc(format!("the list of threads in {tasks}")))
}

/// Memory that a process holds at the moment.
pub(crate) fn resident_bytes(process: &str) -> Result<u64, LoadError> {
    let path = format!("/proc/{process}/status");
    resident(&read(path.as_ref())?).ok_or(LoadError::OddProc(path))
}

fn read(path: &Path) -> Result<String, LoadError> {
    fs::read_to_string(path).map_err(|source: io::Error| LoadError::ReadProc {
        path: path.display().to_string(),
        source,
    })
}

/// The first two of the three numbers in `schedstat`, both in nanoseconds. The third counts time slices.
fn parse_schedstat(text: &str) -> Option<ThreadTimes> {
    let mut numbers = text.split_whitespace();
    let mut next = || Some(Duration::from_nanos(numbers.next()?.parse().ok()?));
    Some(ThreadTimes {
        on_cpu: next()?,
        waiting: next()?,
    })
}

fn resident(status: &str) -> Option<u64> {
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kibibytes: u64 = line.split_whitespace().next()?.parse().ok()?;
    Some(kibibytes * 1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_lines_of_linux_are_read() {
        let times = ThreadTimes {
            on_cpu: Duration::from_millis(2500),
            waiting: Duration::from_nanos(17),
        };
        assert_eq!(parse_schedstat("2500000000 17 42\n"), Some(times));
        assert_eq!(parse_schedstat(""), None);
        assert_eq!(resident("Name:\tx\nVmRSS:\t    1024 kB\n"), Some(1 << 20));
        assert_eq!(resident("Name:\tx\n"), None);
    }

    #[test]
    fn this_process_has_used_time_and_memory() {
        assert!(thread_times("self", "").unwrap().on_cpu > Duration::ZERO);
        assert!(resident_bytes("self").unwrap() > 0);
        assert!(thread_times("self", "no such thread").is_err());
    }
}

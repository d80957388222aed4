//! What Linux knows of a process: CPU time by thread, and memory (proc(5)).

use std::collections::HashMap;
use std::fs;
use std::io;
use std::path::Path;
use std::time::Duration;

use crate::error::LoadError;

/// What the scheduler has given to each of some threads so far, by the numbers that Linux gives them.
#[derive(Clone, Debug, Default)]
pub(crate) struct ThreadTimes(HashMap<u32, Times>);

/// What the scheduler has given, and what it has not.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Times {
    /// Running.
    pub(crate) on_cpu: Duration,
    /// Ready to run, while something else had the core.
    pub(crate) waiting: Duration,
}

impl ThreadTimes {
    /// Reads those threads of a process whose names begin with `name`. `process` is its number, or `self`.
    pub(crate) fn read(process: &str, name: &str) -> Result<Self, LoadError> {
        let tasks = format!("/proc/{process}/task");
        let entries = fs::read_dir(&tasks).map_err(|source| LoadError::ReadProc {
            path: tasks.clone(),
            source,
        })?;
        let mut threads = HashMap::new();
        for entry in entries.flatten() {
            // A thread that has ended since the directory was read counts for nothing.
            let Ok(comm) = read(&entry.path().join("comm")) else {
                continue;
            };
            if comm.starts_with(name)
                && let Ok(schedstat) = read(&entry.path().join("schedstat"))
            {
                let number = entry
                    .file_name()
                    .to_str()
                    .and_then(|name| name.parse().ok());
                let times = number.zip(parse_schedstat(&schedstat));
                threads.extend([times.ok_or_else(|| LoadError::OddProc(tasks.clone()))?]);
            }
        }
        if threads.is_empty() {
            return Err(LoadError::OddProc(format!(
                "the list of threads in {tasks}"
            )));
        }
        Ok(Self(threads))
    }

    /// Adds threads of another process.
    pub(crate) fn add(&mut self, others: Self) {
        self.0.extend(others.0);
    }

    /// What has been added since `before`, together. It is taken thread by thread: what one that has ended had before must not be
    /// missing from what the others have had since. .NET, for one, starts and ends threads as it likes.
    pub(crate) fn since(&self, before: &Self) -> Times {
        let mut sum = Times::default();
        for (number, times) in &self.0 {
            let before = before.0.get(number).copied().unwrap_or_default();
            sum.on_cpu += times.on_cpu.saturating_sub(before.on_cpu);
            sum.waiting += times.waiting.saturating_sub(before.waiting);
        }
        sum
    }
}

/// Memory that a process holds at the moment. `status` would show a figure that each thread brings up to date only now and then.
pub(crate) fn resident_bytes(process: &str) -> Result<u64, LoadError> {
    let path = format!("/proc/{process}/smaps_rollup");
    resident(&read(path.as_ref())?).ok_or(LoadError::OddProc(path))
}

fn read(path: &Path) -> Result<String, LoadError> {
    fs::read_to_string(path).map_err(|source: io::Error| LoadError::ReadProc {
        path: path.display().to_string(),
        source,
    })
}

/// The first two of the three numbers in `schedstat`, both in nanoseconds. The third counts time slices.
fn parse_schedstat(text: &str) -> Option<Times> {
    let mut numbers = text.split_whitespace();
    let mut next = || Some(Duration::from_nanos(numbers.next()?.parse().ok()?));
    Some(Times {
        on_cpu: next()?,
        waiting: next()?,
    })
}

fn resident(rollup: &str) -> Option<u64> {
    let line = rollup.lines().find_map(|line| line.strip_prefix("Rss:"))?;
    let kibibytes: u64 = line.split_whitespace().next()?.parse().ok()?;
    Some(kibibytes * 1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_lines_of_linux_are_read() {
        let times = Times {
            on_cpu: Duration::from_millis(2500),
            waiting: Duration::from_nanos(17),
        };
        assert_eq!(parse_schedstat("2500000000 17 42\n"), Some(times));
        assert_eq!(parse_schedstat(""), None);
        assert_eq!(
            resident("0-1 ---p\nRss:    1024 kB\nPss:  17 kB\n"),
            Some(1 << 20)
        );
        assert_eq!(resident("0-1 ---p\n"), None);
    }

    #[test]
    fn this_process_has_used_time_and_memory() {
        let times = ThreadTimes::read("self", "").unwrap();
        assert!(times.since(&ThreadTimes::default()).on_cpu > Duration::ZERO);
        assert!(resident_bytes("self").unwrap() > 0);
        assert!(ThreadTimes::read("self", "no such thread").is_err());
    }

    #[test]
    fn threads_that_come_and_go_leave_the_others_their_times() {
        let threads = |times: &[(u32, u64)]| {
            let times = times.iter().map(|(number, seconds)| {
                let on_cpu = Duration::from_secs(*seconds);
                (
                    *number,
                    Times {
                        on_cpu,
                        ..Times::default()
                    },
                )
            });
            ThreadTimes(times.collect())
        };
        let before = threads(&[(1, 10), (2, 500)]);
        let mut now = threads(&[(1, 12)]);
        now.add(threads(&[(3, 4)]));
        assert_eq!(now.since(&before).on_cpu, Duration::from_secs(6));
    }
}

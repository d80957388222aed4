//! The head of a report: on what, when and of what it was measured.

use std::fs;
use std::time::{Duration, SystemTime};

use super::number::median;
use super::place::Place;
use crate::contestants::kind::beside;
use crate::output::verdict::BUSY_MIN;
use crate::results::{Head, Report, Row, Run};

/// The machine.
pub(crate) struct Here {
    kernel: String,
    cpu: String,
    cores: usize,
    memory_bytes: u64,
    started: SystemTime,
}

impl Here {
    /// To be called before the process restricts itself to some cores.
    pub(crate) fn look() -> Self {
        let read = |path| fs::read_to_string(path).unwrap_or_default();
        Self {
            kernel: known(read("/proc/sys/kernel/osrelease").trim()),
            cpu: known(field(&read("/proc/cpuinfo"), "model name").unwrap_or_default()),
            cores: std::thread::available_parallelism().map_or(0, usize::from),
            memory_bytes: memory_bytes(&read("/proc/meminfo")).unwrap_or_default(),
            started: SystemTime::now(),
        }
    }

    /// All that is known before anything is measured.
    pub(crate) fn head(&self, mode: &str, place: &Place) -> Head {
        // What is known of this program is true of the service that was built with it, not of any other.
        let is_built_along = place.attached.is_none()
            && beside("hubring").is_ok_and(|program| program == place.service);
        let of_service = |text: &str| known(if is_built_along { text } else { "" });
        let since_1970 = self.started.duration_since(SystemTime::UNIX_EPOCH);
        Head {
            commit: of_service(env!("HUBRING_COMMIT")),
            version: of_service(env!("CARGO_PKG_VERSION")),
            kernel: self.kernel.clone(),
            cpu: self.cpu.clone(),
            cores: self.cores,
            memory_bytes: self.memory_bytes,
            started: rfc_3339(since_1970.unwrap_or_default()),
            mode: mode.to_owned(),
            // Where a service runs that somebody else has started is not known.
            service_cores: match place.attached {
                Some(_) => Vec::new(),
                None => place.service_cores.clone(),
            },
            own_cores: place.own_cores.clone(),
            notes: place.note().into_iter().collect(),
            ..Head::default()
        }
    }
}

/// The report, with the utilisation that its runs show.
pub(crate) fn report(mut head: Head, rows: Vec<Row>, runs: Vec<Run>) -> Report {
    let saturating: Vec<&Run> = runs.iter().filter(|run| is_saturating(run)).collect();
    head.service_busy = busy(&saturating, "service").filter(|_| !head.service_cores.is_empty());
    head.own_busy = busy(&saturating, "own");
    Report { head, rows, runs }
}

/// Whether hubring set the pace. Rates of other runs say nothing of it.
fn is_saturating(run: &Run) -> bool {
    run.contestant == "hubring" && busy(&[run], "service").is_some_and(|busy| busy >= BUSY_MIN)
}

fn busy(runs: &[&Run], name: &str) -> Option<f64> {
    let windows = runs.iter().flat_map(|run| &run.windows);
    let shares: Vec<f64> = windows
        .filter_map(|window| window.busy.get(name).copied())
        .collect();
    median(&shares)
}

/// The first `name : value` in a list of such lines.
fn field<'a>(text: &'a str, name: &str) -> Option<&'a str> {
    let mut lines = text.lines();
    let (_, value) = lines.find(|line| line.starts_with(name))?.split_once(':')?;
    Some(value.trim())
}

fn memory_bytes(meminfo: &str) -> Option<u64> {
    let kibibytes: u64 = field(meminfo, "MemTotal")?
        .split_whitespace()
        .next()?
        .parse()
        .ok()?;
    Some(kibibytes * 1024)
}

fn known(text: &str) -> String {
    if text.is_empty() { "unknown" } else { text }.to_owned()
}

/// A time in the form of RFC 3339, UTC, to the second.
fn rfc_3339(since_1970: Duration) -> String {
    let seconds = since_1970.as_secs();
    let (days, second) = (seconds / 86_400, seconds % 86_400);
    let (year, month, day) = civil(days);
    format!(
        "{year:04}-{month:02}-{day:02}T{:02}:{:02}:{:02}Z",
        second / 3600,
        second / 60 % 60,
        second % 60
    )
}

/// Year, month and day of a number of days since 1970-01-01, counted off year by year and month by month.
fn civil(mut days: u64) -> (u64, u64, u64) {
    let mut year = 1970;
    let is_leap = |year: u64| {
        year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400))
    };
    let of_year = |year| if is_leap(year) { 366 } else { 365 };
    while days >= of_year(year) {
        days -= of_year(year);
        year += 1;
    }
    let february = if is_leap(year) { 29 } else { 28 };
    let mut month = 1;
    for of_month in [31, february, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31] {
        if days < of_month {
            break;
        }
        days -= of_month;
        month += 1;
    }
    (year, month, days + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_those_of_the_calendar() {
        let text = |seconds| rfc_3339(Duration::from_secs(seconds));
        assert_eq!(text(0), "1970-01-01T00:00:00Z");
        assert_eq!(text(951_782_400), "2000-02-29T00:00:00Z");
        assert_eq!(text(1_735_689_599), "2024-12-31T23:59:59Z");
        assert_eq!(text(1_772_323_261), "2026-03-01T00:01:01Z");
    }

    #[test]
    fn the_files_of_linux_are_read() {
        let cpu = field("processor\t: 0\nmodel name\t: A: B\n", "model name");
        assert_eq!(cpu, Some("A: B"));
        assert_eq!(memory_bytes("MemTotal:    2 kB\n"), Some(2048));
        assert_eq!(memory_bytes(""), None);
    }

    #[test]
    fn this_machine_is_known() {
        let here = Here::look();
        assert!(here.cores > 0 && here.memory_bytes > 0);
        assert_ne!(here.kernel, "unknown");
    }
}

//! What is read at the edges of a window, and what lies between two of them.

use std::time::Instant;

use hdrhistogram::Histogram;

use crate::error::LoadError;
use crate::job::{CpuTimes, Sample, Watched};
use crate::process_figures::{ThreadTimes, Times};

/// How this worker's CPU time is named.
const OWN: &str = "own";

/// What is known at one moment.
pub(crate) struct Edge {
    pub(crate) at: Instant,
    messages: u64,
    slow_closed: u64,
    watched: Vec<ThreadTimes>,
    own: ThreadTimes,
}

impl Edge {
    pub(crate) fn take(
        watched: &[Watched],
        messages: u64,
        slow_closed: u64,
    ) -> Result<Self, LoadError> {
        Ok(Self {
            watched: watched.iter().map(times).collect::<Result<_, _>>()?,
            own: ThreadTimes::read("self", "")?,
            messages,
            slow_closed,
            at: Instant::now(),
        })
    }

    /// What was added since `before`, apart from latencies.
    pub(crate) fn since(&self, before: &Self, watched: &[Watched]) -> Sample {
        Sample {
            seconds: self.at.duration_since(before.at).as_secs_f64(),
            messages: self.messages - before.messages,
            slow_closed: self.slow_closed - before.slow_closed,
            watched: self.watched_since(before, watched),
            own: cpu_times(OWN, self.own.since(&before.own)),
            ..Sample::default()
        }
    }

    pub(crate) fn watched_since(&self, before: &Self, watched: &[Watched]) -> Vec<CpuTimes> {
        let times = self.watched.iter().zip(&before.watched);
        times
            .zip(watched)
            .map(|((now, before), watched)| cpu_times(&watched.name, now.since(before)))
            .collect()
    }
}

/// Values and how often each was recorded, in units of `unit`.
pub(crate) fn recorded(histogram: &Histogram<u64>, unit: u64) -> Vec<(u64, u64)> {
    let values = histogram.iter_recorded();
    values
        .map(|value| (value.value_iterated_to() / unit, value.count_at_value()))
        .collect()
}

fn times(watched: &Watched) -> Result<ThreadTimes, LoadError> {
    let mut all = ThreadTimes::default();
    for process in &watched.processes {
        all.add(ThreadTimes::read(&process.to_string(), &watched.threads)?);
    }
    Ok(all)
}

fn cpu_times(name: &str, times: Times) -> CpuTimes {
    CpuTimes {
        name: name.to_owned(),
        on_cpu_us: times.on_cpu.as_secs_f64() * 1e6,
        waiting_us: times.waiting.as_secs_f64() * 1e6,
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_sample_is_what_lies_between_two_edges() {
        let watched = [Watched {
            name: "service".to_owned(),
            processes: vec![std::process::id()],
            threads: String::new(),
        }];
        let before = Edge::take(&watched, 10, 1).unwrap();
        while before.at.elapsed() < Duration::from_millis(5) {}
        let sample = Edge::take(&watched, 17, 3)
            .unwrap()
            .since(&before, &watched);
        assert_eq!((sample.messages, sample.slow_closed), (7, 2));
        assert!(sample.seconds >= 0.005);
        assert_eq!(sample.watched[0].name, "service");
        assert!(sample.own.on_cpu_us > 0.0);
        assert!(sample.watched[0].on_cpu_us > 0.0);
    }

    #[test]
    fn recorded_values_are_ascending() {
        let mut histogram = Histogram::new(3).unwrap();
        for value in [3000, 1000, 3000] {
            histogram.record(value).unwrap();
        }
        assert_eq!(recorded(&histogram, 1000), [(1, 1), (3, 2)]);
    }
}

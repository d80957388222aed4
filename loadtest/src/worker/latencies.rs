//! How long messages took, each in the window in which it was due.
//!
//! When an answer arrives is no matter of choice, so it cannot decide where a latency counts: the slowest answers to what was due in a
//! window come after its end, and would be missing. So a window is complete only when nothing is under way any more. What never arrives
//! is no latency but the end of the measurement: the drain fails.

use std::time::Instant;

use hdrhistogram::Histogram;

/// Longest latency that is told from longer ones: a minute.
const LATENCY_NS_MAX: u64 = 60_000_000_000;

/// The windows of one measurement.
#[derive(Debug, Default)]
pub(crate) struct Latencies {
    /// In the order of time.
    windows: Vec<Window>,
    /// Where the last of them ends, if it has ended.
    end: Option<Instant>,
}

#[derive(Debug)]
struct Window {
    start: Instant,
    /// In nanoseconds.
    histogram: Histogram<u64>,
}

impl Latencies {
    /// A window begins, and with it ends the one before.
    pub(crate) fn begin_window(&mut self, start: Instant) {
        let histogram = histogram();
        self.windows.push(Window { start, histogram });
        self.end = None;
    }

    /// The last window ends. What is due later counts nowhere.
    pub(crate) fn end_windows(&mut self, end: Instant) {
        self.end = Some(end);
    }

    /// What was due at `due` has arrived at `now`. If there was no window then, it does not count.
    pub(crate) fn record(&mut self, due: Instant, now: Instant) {
        if self.end.is_some_and(|end| due >= end) {
            return;
        }
        let mut windows = self.windows.iter_mut().rev();
        if let Some(window) = windows.find(|window| window.start <= due) {
            let latency = now.saturating_duration_since(due);
            window
                .histogram
                .saturating_record(latency.as_nanos() as u64);
        }
    }

    /// The windows so far, in nanoseconds. From now on there are none.
    pub(crate) fn take(&mut self) -> impl Iterator<Item = Histogram<u64>> {
        let windows = std::mem::take(self).windows;
        windows.into_iter().map(|window| window.histogram)
    }
}

/// For latencies in nanoseconds.
pub(crate) fn histogram() -> Histogram<u64> {
    Histogram::new_with_bounds(1, LATENCY_NS_MAX, 3).expect("these bounds are possible")
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_latency_counts_where_its_message_was_due() {
        let start = Instant::now();
        let at = |ms| start + Duration::from_millis(ms);
        let mut latencies = Latencies::default();
        latencies.record(at(0), at(5));
        latencies.begin_window(at(10));
        latencies.record(at(9), at(11));
        latencies.record(at(10), at(12));
        latencies.begin_window(at(20));
        latencies.record(at(19), at(700));
        latencies.record(at(20), at(21));
        latencies.end_windows(at(30));
        latencies.record(at(29), at(5000));
        latencies.record(at(30), at(31));
        let windows: Vec<_> = latencies.take().collect();
        let of = |window: usize| {
            let histogram: &Histogram<u64> = &windows[window];
            (histogram.len(), histogram.max() / 1_000_000)
        };
        assert_eq!((windows.len(), of(0)), (2, (2, 681)));
        assert_eq!((of(1).0, of(1).1 / 10), (2, 497));
        latencies.record(at(29), at(30));
        assert_eq!(latencies.take().count(), 0);
    }
}

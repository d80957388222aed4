//! From runs to something to read: a table for people, JSON for programs.

use std::fmt;
use std::process::Command;
use std::time::Duration;

use hdrhistogram::Histogram;
use serde::Serialize;
use serde_json::{Map, Value, json};

use crate::cli::{RunArgs, Scenario};

/// What one run has shown. A message is one echo, or one delivery of a broadcast.
#[derive(Debug)]
pub(crate) struct Run {
    pub(crate) messages: f64,
    pub(crate) messages_per_second: f64,
    /// CPU time of the service's shard thread.
    pub(crate) service_us_per_message: f64,
    /// Share of the time in which that thread ran.
    pub(crate) service_busy: f64,
    /// Share of the time in which it could have run, but something else had its core. Where this is not small, the machine was not ours.
    pub(crate) service_disturbed: f64,
    /// The same of the load generator: clients and app server together.
    pub(crate) own_us_per_message: f64,
    pub(crate) own_busy: f64,
    pub(crate) resident_bytes: f64,
    pub(crate) round_trips: Option<RoundTrips>,
    pub(crate) frames_per_send: f64,
    pub(crate) sends_per_message: f64,
    pub(crate) receives_per_message: f64,
    pub(crate) turns_per_message: f64,
    pub(crate) wakes_per_message: f64,
    pub(crate) copied_bytes_per_message: f64,
    pub(crate) relays_crossed_shard: f64,
}

impl Run {
    fn json(&self) -> Map<String, Value> {
        let figures = FIGURES.iter().filter_map(|figure| {
            let value = (figure.of)(self)?;
            Some((figure.key.to_owned(), value.into()))
        });
        figures.collect()
    }
}

/// Round-trip times. As each client waits for its echo before it sends again, they tell of the load more than of the
/// service.
#[derive(Clone, Copy, Debug)]
pub(crate) struct RoundTrips {
    pub(crate) p50: Duration,
    pub(crate) p99: Duration,
    pub(crate) p999: Duration,
}

impl RoundTrips {
    /// Of a histogram of nanoseconds.
    pub(crate) fn of(histogram: &Histogram<u64>) -> Self {
        let at = |quantile| Duration::from_nanos(histogram.value_at_quantile(quantile));
        Self {
            p50: at(0.5),
            p99: at(0.99),
            p999: at(0.999),
        }
    }
}

impl fmt::Display for Run {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{:.0} messages/s, {:.2} µs of the service's CPU each, service {:.0} % busy",
            self.messages_per_second,
            self.service_us_per_message,
            self.service_busy * 100.0
        )
    }
}

/// Where it was measured.
#[derive(Debug, Serialize)]
pub(crate) struct Environment {
    kernel: String,
    cpu: String,
    cores: usize,
    /// Of the source tree that the load generator was built from.
    commit: String,
}

impl Environment {
    /// To be called before the process restricts itself to one core.
    pub(crate) fn here() -> Self {
        let read = |path| std::fs::read_to_string(path).unwrap_or_default();
        let cpu_info = read("/proc/cpuinfo");
        let model = cpu_info
            .lines()
            .find_map(|line| line.strip_prefix("model name")?.split_once(": "));
        Self {
            kernel: known(read("/proc/sys/kernel/osrelease").trim()),
            cpu: known(model.map_or("", |(_, name)| name)),
            cores: std::thread::available_parallelism().map_or(0, usize::from),
            commit: known(commit().unwrap_or_default().trim()),
        }
    }
}

/// All runs of one scenario.
pub(crate) struct Report<'a> {
    scenario: Scenario,
    args: &'a RunArgs,
    environment: Environment,
    pub(crate) runs: Vec<Run>,
}

impl<'a> Report<'a> {
    pub(crate) fn new(scenario: Scenario, args: &'a RunArgs, environment: Environment) -> Self {
        Self {
            scenario,
            args,
            environment,
            runs: Vec::new(),
        }
    }

    /// Everything, the single runs included.
    pub(crate) fn json(&self) -> Result<String, serde_json::Error> {
        let mut summary = Map::new();
        for figure in FIGURES {
            let values = self.runs.iter().filter_map(figure.of).collect();
            if let Some(Spread { median, min, max }) = Spread::of(values) {
                summary.insert(
                    figure.key.to_owned(),
                    json!({ "median": median, "min": min, "max": max }),
                );
            }
        }
        let runs: Vec<Map<String, Value>> = self.runs.iter().map(Run::json).collect();
        serde_json::to_string_pretty(&json!({
            "environment": self.environment,
            "load": self.scenario,
            "settings": self.args,
            "summary": Value::Object(summary),
            "runs": runs,
        }))
    }
}

impl fmt::Display for Report<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            scenario,
            args,
            environment,
            runs,
        } = self;
        match scenario {
            Scenario::Echo { depth } => write!(f, "echo, {depth} under way per client")?,
            Scenario::Broadcast { burst } => write!(f, "broadcast in bursts of {burst}")?,
        }
        writeln!(
            f,
            ": {} clients, {} bytes, {} server connections, {} runs of {} s after {} s",
            args.clients, args.size, args.server_connections, args.runs, args.seconds, args.warm_up
        )?;
        let Environment {
            kernel,
            cpu,
            cores,
            commit,
        } = environment;
        writeln!(f, "Linux {kernel}, {cores} cores ({cpu}), commit {commit}")?;
        writeln!(f, "a message is one {}\n", scenario.unit())?;
        write!(f, "{:34}{:>11}{:>23}", "", "median", "min – max")?;
        for number in 1..=runs.len() {
            write!(f, "{:>11}", format!("run {number}"))?;
        }
        writeln!(f)?;
        for figure in FIGURES {
            figure.write_row(runs, f)?;
        }
        if runs.iter().any(|run| run.service_busy < BUSY_MIN) {
            writeln!(
                f,
                "\nThe shard was not busy all the time, so messages/s tell of the load and the machine, not of what the service can do."
            )?;
        }
        Ok(())
    }
}

/// One line of the table.
struct Figure {
    key: &'static str,
    label: &'static str,
    decimals: usize,
    of: fn(&Run) -> Option<f64>,
}

impl Figure {
    fn write_row(&self, runs: &[Run], f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let values: Vec<f64> = runs.iter().filter_map(self.of).collect();
        let Some(Spread { median, min, max }) = Spread::of(values.clone()) else {
            return Ok(());
        };
        let decimals = self.decimals;
        let range = format!("{min:.decimals$} – {max:.decimals$}");
        write!(f, "{:34}{median:>11.decimals$}{range:>23}", self.label)?;
        for value in values {
            write!(f, "{value:>11.decimals$}")?;
        }
        writeln!(f)
    }
}

macro_rules! figures {
    ($($key:literal $label:literal $decimals:literal $of:expr;)*) => {
        &[$(Figure { key: $key, label: $label, decimals: $decimals, of: $of }),*]
    };
}

const FIGURES: &[Figure] = figures! {
    "messages" "messages" 0 |run| Some(run.messages);
    "messages_per_second" "messages/s" 0 |run| Some(run.messages_per_second);
    "service_us_per_message" "service CPU, µs/message" 2 |run| Some(run.service_us_per_message);
    "service_busy_percent" "service's shard busy, %" 1 |run| Some(run.service_busy * 100.0);
    "service_waited_percent" "shard waited for its core, %" 1 |run| Some(run.service_disturbed * 100.0);
    "own_us_per_message" "own CPU, µs/message" 2 |run| Some(run.own_us_per_message);
    "own_busy_percent" "own thread busy, %" 1 |run| Some(run.own_busy * 100.0);
    "resident_mebibytes" "service's resident memory, MiB" 1 |run| Some(run.resident_bytes / MEBIBYTE);
    "frames_per_send" "frames per send" 2 |run| Some(run.frames_per_send);
    "sends_per_message" "sends per message" 3 |run| Some(run.sends_per_message);
    "receives_per_message" "receives per message" 3 |run| Some(run.receives_per_message);
    "turns_per_message" "turns per message" 4 |run| Some(run.turns_per_message);
    "wakes_per_message" "wakes per message" 4 |run| Some(run.wakes_per_message);
    "copied_bytes_per_message" "payload bytes copied per message" 0 |run| Some(run.copied_bytes_per_message);
    "relays_crossed_shard" "relays that crossed a shard" 0 |run| Some(run.relays_crossed_shard);
    "round_trip_p50_us" "round trip p50, µs" 0 |run| run.round_trips.map(|times| microseconds(times.p50));
    "round_trip_p99_us" "round trip p99, µs" 0 |run| run.round_trips.map(|times| microseconds(times.p99));
    "round_trip_p999_us" "round trip p99.9, µs" 0 |run| run.round_trips.map(|times| microseconds(times.p999));
};

/// How far the runs are apart.
#[derive(Debug, PartialEq)]
struct Spread {
    median: f64,
    min: f64,
    max: f64,
}

impl Spread {
    /// `None` of nothing. The median of an even number of values is the mean of the two in the middle.
    fn of(mut values: Vec<f64>) -> Option<Self> {
        values.sort_by(f64::total_cmp);
        let upper = *values.get(values.len() / 2)?;
        let lower = *values.get((values.len() - 1) / 2)?;
        Some(Self {
            median: f64::midpoint(lower, upper),
            min: *values.first()?,
            max: *values.last()?,
        })
    }
}

/// A number of messages or bytes, to reckon with.
#[expect(
    clippy::cast_precision_loss,
    reason = "it is exact up to 2^53, which takes longer than any run"
)]
pub(crate) fn float(count: u64) -> f64 {
    count as f64
}

fn microseconds(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1e6
}

/// Share of the time in which the shard has to run for a rate to be its own.
const BUSY_MIN: f64 = 0.95;

const MEBIBYTE: f64 = 1_048_576.0;

fn commit() -> Option<String> {
    let output = Command::new("git")
        .args([
            "-C",
            env!("CARGO_MANIFEST_DIR"),
            "describe",
            "--always",
            "--dirty",
        ])
        .output()
        .ok()?;
    String::from_utf8(output.stdout).ok()
}

fn known(text: &str) -> String {
    if text.is_empty() { "unknown" } else { text }.to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_is_in_the_middle() {
        assert_eq!(Spread::of(vec![]), None);
        let spread = |median, min, max| Some(Spread { median, min, max });
        assert_eq!(Spread::of(vec![3.0]), spread(3.0, 3.0, 3.0));
        assert_eq!(Spread::of(vec![5.0, 1.0, 9.0]), spread(5.0, 1.0, 9.0));
        assert_eq!(Spread::of(vec![4.0, 1.0, 2.0, 9.0]), spread(3.0, 1.0, 9.0));
    }
}

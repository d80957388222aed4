//! One contestant with all its connections, and what it has shown so far.

use std::collections::BTreeMap;
use std::time::Duration;

use hdrhistogram::Histogram;

use super::number::float;
use super::place::Place;
use super::scenario::{Scenario, Timing};
use super::workers::{Measured, Workers, histogram};
use crate::contestants::Contestant;
use crate::contestants::kind::ContestantKind;
use crate::contestants::process::free_addresses;
use crate::contestants::service::SHARDS;
use crate::error::LoadError;
use crate::job::{CpuTimes, Load, Sample, Storm};
use crate::metrics::Metrics;
use crate::results::{Run, Window};

/// Time in which what opened the connections settles, before memory is looked at; longer where memory is what is measured.
const SETTLE: Duration = Duration::from_millis(50);
const SETTLE_OF_IDLE: Duration = Duration::from_millis(500);

/// Percentiles that are kept.
const PERCENTILES: [f64; 6] = [50.0, 90.0, 99.0, 99.9, 99.99, 100.0];

/// The counters of payload bytes that the service has copied.
const COPIES: [&str; 5] = [
    "copied_bytes_joint",
    "copied_bytes_assembled",
    "copied_bytes_fan_out",
    "copied_bytes_mail",
    "copied_bytes_detached",
];

/// Counters that are told per message, and how that is called.
const PER_MESSAGE: [(&str, &str); 4] = [
    ("sends", "sends_per_message"),
    ("receives", "receives_per_message"),
    ("turns", "turns_per_message"),
    ("wakes", "wakes_per_message"),
];

/// Counters that should not move, or not much.
const TOLD: [&str; 3] = ["relays_crossed_shard", "slow_consumers", "mails_delayed"];

/// Who takes part in a measurement, and with what.
#[derive(Clone, Debug)]
pub(crate) struct Entrant {
    /// Name of its run. Contestants that play the same scenario share it.
    pub(crate) run: &'static str,
    pub(crate) kind: ContestantKind,
    pub(crate) scenario: Scenario,
    /// Whether it is left out where time is short.
    pub(crate) is_extra: bool,
}

impl Entrant {
    /// Cores that its service can have busy at once: hubring's one for each shard, everybody else's one.
    fn cores(&self, place: &Place) -> usize {
        match self.kind {
            ContestantKind::Hubring | ContestantKind::Sdk => {
                place.service_cores.len().min(self.scenario.shards as usize)
            }
            ContestantKind::Floor
            | ContestantKind::Direct
            | ContestantKind::Haproxy
            | ContestantKind::Nchan
            | ContestantKind::Pushpin
            | ContestantKind::TokioRelay
            | ContestantKind::SelfHost => 1,
        }
    }
}

/// How many cores can be busy at once.
#[derive(Clone, Copy, Debug)]
struct Cores {
    service: usize,
    own: usize,
}

/// A contestant in the middle of a measurement.
pub(crate) struct Session {
    entrant: Entrant,
    // Before the contestant, so that clients are gone when it is killed.
    workers: Workers,
    contestant: Box<dyn Contestant>,
    windows: Vec<Window>,
    latencies: Histogram<u64>,
    /// Growth of the service's counters, and what they counted.
    growth: BTreeMap<&'static str, f64>,
    messages: u64,
    behind: u64,
    slow_closed: u64,
    figures: BTreeMap<String, f64>,
}

impl Session {
    /// Starts the contestant and opens all connections.
    pub(crate) fn open(entrant: &Entrant, place: &Place) -> Result<Self, LoadError> {
        let Entrant { kind, scenario, .. } = entrant;
        let contestant = kind.start(scenario, place)?;
        let empty = resident(contestant.as_ref())?;
        let [progress] = free_addresses()?;
        let jobs = place.jobs(contestant.as_ref(), scenario, Some(progress));
        let mut workers = Workers::start(kind.name(), &jobs, &place.stop)?;
        let connect_time = workers.open()?;
        let is_idle = scenario.load == Load::Idle;
        std::thread::sleep(if is_idle { SETTLE_OF_IDLE } else { SETTLE });

        let mut figures = BTreeMap::new();
        figures.insert("connect_seconds".to_owned(), connect_time.as_secs_f64());
        for (name, bytes) in resident(contestant.as_ref())? {
            let before = empty.get(&name).copied().unwrap_or_default();
            let of_each = (bytes - before) / f64::from(scenario.clients);
            let prefix = prefix(&name);
            figures.insert(format!("{prefix}resident_bytes"), bytes);
            figures.insert(format!("{prefix}resident_bytes_per_client"), of_each);
        }
        Ok(Self {
            entrant: entrant.clone(),
            workers,
            contestant,
            windows: Vec::new(),
            latencies: histogram(&[]),
            growth: BTreeMap::new(),
            messages: 0,
            behind: 0,
            slow_closed: 0,
            figures,
        })
    }

    pub(crate) fn entrant(&self) -> &Entrant {
        &self.entrant
    }

    pub(crate) fn version(&self) -> Option<String> {
        self.contestant.version()
    }

    /// Its turn: one window, or one storm.
    pub(crate) fn play(
        &mut self,
        round: u32,
        timing: &Timing,
        place: &Place,
    ) -> Result<(), LoadError> {
        let at = place.started;
        let before = self.contestant.metrics()?;
        if self.entrant.scenario.is_storm() {
            let began = at.elapsed();
            let storm = self.workers.storm()?;
            self.keep_storm(began, storm, place);
        } else {
            // What has nothing to do settles in no time.
            let settles = round == 0 && self.entrant.scenario.load != Load::Idle;
            let settling = if settles {
                self.contestant.settling_time()
            } else {
                Duration::ZERO
            };
            let warm_up = timing.warm_up_of(round).max(settling);
            let began = at.elapsed() + warm_up;
            let measured = self.workers.measure(warm_up, timing.window)?;
            self.keep_window(began, &measured, place);
            self.keep_memory()?;
        }
        if let (Some(before), Some(after)) = (before, self.contestant.metrics()?) {
            self.keep_counters(&before, &after)?;
        }
        Ok(())
    }

    /// Everything that it has shown.
    pub(crate) fn finish(mut self) -> Result<Run, LoadError> {
        for (name, bytes) in resident(self.contestant.as_ref())? {
            let key = format!("{}resident_bytes_at_end", prefix(&name));
            self.figures.insert(key, bytes);
        }
        self.figures.insert("behind".to_owned(), float(self.behind));
        if let Load::SlowConsumers { .. } = self.entrant.scenario.load {
            let closed = float(self.slow_closed);
            self.figures
                .insert("slow_clients_closed".to_owned(), closed);
        }
        let counted = counter_figures(&self.growth, float(self.messages));
        self.figures.extend(counted);
        let Entrant {
            run,
            kind,
            scenario,
            ..
        } = self.entrant;
        Ok(Run {
            name: run.to_owned(),
            contestant: kind.name().to_owned(),
            scenario: serde_json::to_value(&scenario)?,
            clients: scenario.clients,
            payload_bytes: scenario.payload_bytes,
            server_connections: scenario.server_connections,
            shards: scenario.shards,
            unit: scenario.unit().to_owned(),
            windows: self.windows,
            latencies_us: percentiles(&self.latencies),
            figures: self.figures,
        })
    }

    fn keep_window(&mut self, began: Duration, measured: &Measured, place: &Place) {
        self.messages += measured.messages;
        for sample in &measured.samples {
            let latencies = histogram(&sample.latencies);
            let cores = Cores {
                service: self.entrant.cores(place),
                own: self.workers.count().min(place.own_cores.len()),
            };
            let mut window = window(sample, cores);
            window.at_seconds = began.as_secs_f64();
            window.latencies_us = percentiles(&latencies);
            self.windows.push(window);
            self.behind += sample.behind;
            self.slow_closed += sample.slow_closed;
            // Both have the same bounds, so there is nothing to refuse.
            let _ = self.latencies.add(&latencies);
        }
    }

    /// Memory belongs to the window that has just ended.
    fn keep_memory(&mut self) -> Result<(), LoadError> {
        if self.entrant.scenario.load == Load::Idle
            && let Some(window) = self.windows.last_mut()
        {
            window.resident_bytes = resident(self.contestant.as_ref())?;
        }
        Ok(())
    }

    /// A storm is a window as long as it took until the last client was back.
    fn keep_storm(&mut self, began: Duration, storm: Storm, place: &Place) {
        let clients = u64::from(self.entrant.scenario.clients);
        let nanoseconds = storm.latencies.iter();
        let sample = Sample {
            seconds: float(storm.back_us) / 1e6,
            messages: clients - storm.failed.min(clients),
            watched: storm.watched,
            latencies: nanoseconds.map(|(us, count)| (us * 1000, *count)).collect(),
            ..Sample::default()
        };
        let measured = Measured {
            messages: sample.messages,
            samples: vec![sample],
        };
        self.keep_window(began, &measured, place);
        *self.figures.entry("retries".to_owned()).or_default() += float(storm.retries);
        *self.figures.entry("failed".to_owned()).or_default() += float(storm.failed);
    }

    fn keep_counters(&mut self, before: &Metrics, after: &Metrics) -> Result<(), LoadError> {
        let per_message = PER_MESSAGE.iter().map(|(counter, _)| counter);
        let counters = per_message.chain(&COPIES).chain(&TOLD);
        for name in counters.chain(&["sent_frames"]) {
            *self.growth.entry(name).or_default() += after.growth(before, name)?;
        }
        Ok(())
    }
}

/// Memory of each watched part. Shards have none of their own.
fn resident(contestant: &dyn Contestant) -> Result<BTreeMap<String, f64>, LoadError> {
    let watched = contestant.watched().into_iter();
    let parts = watched.filter(|watched| watched.name != SHARDS);
    let parts = parts.map(|watched| {
        let bytes = contestant.resident_bytes(&watched.name)?;
        Ok((watched.name, float(bytes)))
    });
    parts.collect()
}

/// Figures of the service itself bear no name.
fn prefix(watched: &str) -> String {
    match watched {
        "service" => String::new(),
        other => format!("{}_", other.replace(' ', "_")),
    }
}

/// What a sample says of each message, and how busy that kept everybody.
fn window(sample: &Sample, cores: Cores) -> Window {
    let mut window = Window {
        seconds: sample.seconds,
        messages: sample.messages,
        ..Window::default()
    };
    let messages = float(sample.messages);
    let all = sample
        .watched
        .iter()
        .map(|times| (times.name.as_str(), times));
    for (name, times) in all.chain([("own", &sample.own)]) {
        let CpuTimes {
            on_cpu_us,
            waiting_us,
            ..
        } = times;
        let cores = match name {
            "own" => cores.own,
            // It shares the load generator's first core.
            "app server" => 1,
            _ => cores.service,
        };
        let share = |us: f64| us / 1e6 / sample.seconds / float(cores.max(1) as u64);
        window.busy.insert(name.to_owned(), share(*on_cpu_us));
        window.cpu_seconds.insert(name.to_owned(), on_cpu_us / 1e6);
        if sample.messages > 0 {
            window
                .cpu_us_per_message
                .insert(name.to_owned(), on_cpu_us / messages);
        }
        if name == "service" {
            window.service_waited = share(*waiting_us);
        }
    }
    window
}

/// Percentiles in microseconds of a histogram in nanoseconds.
fn percentiles(histogram: &Histogram<u64>) -> Vec<(f64, f64)> {
    if histogram.is_empty() {
        return Vec::new();
    }
    let at = |percentile| float(histogram.value_at_percentile(percentile)) / 1e3;
    PERCENTILES
        .map(|percentile| (percentile, at(percentile)))
        .to_vec()
}

fn counter_figures(growth: &BTreeMap<&'static str, f64>, messages: f64) -> BTreeMap<String, f64> {
    let Some(sends) = growth.get("sends") else {
        return BTreeMap::new();
    };
    let of = |name| growth.get(name).copied().unwrap_or_default();
    let copied: f64 = COPIES.into_iter().map(of).sum();
    let mut figures = vec![("frames_per_send", of("sent_frames") / sends)];
    figures.extend(PER_MESSAGE.map(|(counter, figure)| (figure, of(counter) / messages)));
    figures.push(("copied_bytes_per_message", copied / messages));
    figures.extend(TOLD.map(|counter| (counter, of(counter))));
    let figures = figures.into_iter().filter(|(_, value)| value.is_finite());
    figures
        .map(|(name, value)| (name.to_owned(), value))
        .collect()
}

#[cfg(test)]
#[expect(clippy::float_cmp, reason = "the figures are exact")]
mod tests {
    use super::*;

    fn times(name: &str, on_cpu_us: f64, waiting_us: f64) -> CpuTimes {
        CpuTimes {
            name: name.to_owned(),
            on_cpu_us,
            waiting_us,
        }
    }

    #[test]
    fn a_window_tells_the_price_of_a_message_and_how_busy_everybody_was() {
        let sample = Sample {
            seconds: 2.0,
            messages: 1000,
            watched: vec![
                times("service", 1_000_000.0, 200_000.0),
                times("app server", 500_000.0, 0.0),
            ],
            own: times("", 2_000_000.0, 0.0),
            ..Sample::default()
        };
        let window = window(&sample, Cores { service: 1, own: 2 });
        assert_eq!(window.cpu_seconds["service"], 1.0);
        assert_eq!(window.cpu_us_per_message["service"], 1000.0);
        assert_eq!(window.cpu_us_per_message["app server"], 500.0);
        assert_eq!(window.busy["service"], 0.5);
        assert_eq!(window.busy["own"], 0.5);
        assert_eq!(window.service_waited, 0.1);
    }

    #[test]
    fn a_window_without_messages_has_no_price() {
        let sample = Sample {
            seconds: 1.0,
            watched: vec![times("service", 100.0, 0.0)],
            ..Sample::default()
        };
        assert!(
            window(&sample, Cores { service: 1, own: 1 })
                .cpu_us_per_message
                .is_empty()
        );
    }

    #[test]
    fn counters_become_figures_per_message() {
        let growth = BTreeMap::from([
            ("sends", 100.0),
            ("sent_frames", 250.0),
            ("copied_bytes_joint", 30.0),
            ("copied_bytes_mail", 20.0),
        ]);
        let figures = counter_figures(&growth, 50.0);
        assert_eq!(figures["frames_per_send"], 2.5);
        assert_eq!(figures["sends_per_message"], 2.0);
        assert_eq!(figures["copied_bytes_per_message"], 1.0);
        assert_eq!(figures["relays_crossed_shard"], 0.0);
        assert!(counter_figures(&BTreeMap::new(), 1.0).is_empty());
    }

    #[test]
    fn percentiles_are_microseconds() {
        let latencies = histogram(&[(100_000, 99), (900_000, 1)]);
        let percentiles = percentiles(&latencies);
        let (percentile, p50) = percentiles[0];
        assert_eq!(percentile, 50.0);
        assert!((99.0..102.0).contains(&p50), "{p50}");
        assert!(percentiles.last().unwrap().1 > 890.0);
    }
}

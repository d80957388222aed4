//! How the figure of a row comes from runs.
//!
//! Each window gives one sample. Where two runs are set in relation, windows of the same round are: they lay next to each other.

use std::collections::BTreeMap;

use super::number::{float, median};
use super::rows::RowPlan;
use crate::contestants::kind::ContestantKind;
use crate::contestants::service::SHARDS;
use crate::results::{Row, Run, Window};

/// What is taken from runs, which it names.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Figure {
    /// CPU time of the service, in microseconds.
    CpuPerMessage { run: &'static str },
    /// The same with everything else that is watched.
    CpuOfAll { run: &'static str },
    /// Messages for each second of the service's CPU time.
    MessagesPerCpuSecond { run: &'static str },
    /// CPU time of the service per message, divided by that of the floor.
    FloorRatio { run: &'static str },
    /// CPU time per message, divided by that in another run.
    CpuRatio { run: &'static str, to: &'static str },
    /// Messages per CPU second in percent of those in another run.
    RatePercent { run: &'static str, to: &'static str },
    /// A percentile, in microseconds.
    Latency { run: &'static str, percentile: f64 },
    /// What a percentile is above that without anything in between.
    LatencyAdded { run: &'static str, percentile: f64 },
    /// CPU time of the service for each client in a second, in microseconds.
    CpuPerClientSecond { run: &'static str },
    /// How long a window was: a storm's is as long as it took.
    Seconds { run: &'static str },
    /// A figure that a whole run has, the largest of several.
    OfRun {
        runs: &'static [&'static str],
        figure: &'static str,
    },
    /// Memory that each further client takes, which two runs of few and of many idle clients show: what a process needs without any, and
    /// what it needed only while they came, is in both.
    Memory {
        many: &'static str,
        few: &'static str,
    },
    /// The same of the app server, or of the service where that is the app server.
    AppServerMemory {
        many: &'static str,
        few: &'static str,
    },
    /// Groups to which nothing was sent, if the run came to its end.
    IdleGroups { run: &'static str },
}

impl Figure {
    /// The runs that it needs, the one that it belongs to first.
    pub(crate) fn runs(&self) -> Vec<&'static str> {
        match *self {
            Self::CpuPerMessage { run }
            | Self::CpuOfAll { run }
            | Self::MessagesPerCpuSecond { run }
            | Self::FloorRatio { run }
            | Self::Latency { run, .. }
            | Self::LatencyAdded { run, .. }
            | Self::CpuPerClientSecond { run }
            | Self::Seconds { run }
            | Self::IdleGroups { run } => vec![run],
            Self::CpuRatio { run, to } | Self::RatePercent { run, to } => vec![run, to],
            Self::Memory { many, few } | Self::AppServerMemory { many, few } => vec![many, few],
            Self::OfRun { runs, .. } => runs.to_vec(),
        }
    }

    /// What the contestant has to show. Empty if it did not take part.
    pub(crate) fn samples(&self, contestant: ContestantKind, all: &[Run]) -> Vec<f64> {
        let of = |run| find(all, run, contestant);
        match *self {
            Self::CpuPerMessage { run } => each(of(run), cpu),
            Self::CpuOfAll { run } => each(of(run), cpu_of_all),
            Self::MessagesPerCpuSecond { run } => {
                each(of(run), |window| cpu(window).map(|us| 1e6 / us))
            }
            Self::FloorRatio { run } => {
                let floor = find(all, run, ContestantKind::Floor);
                pairs(of(run), floor, cpu, |own, floor| own / floor)
            }
            Self::CpuRatio { run, to } => pairs(of(run), of(to), cpu, |own, other| own / other),
            Self::RatePercent { run, to } => {
                pairs(of(run), of(to), cpu, |own, other| 100.0 * other / own)
            }
            Self::Latency { run, percentile } => {
                each(of(run), |window| latency(window, percentile))
            }
            Self::LatencyAdded { run, percentile } => {
                let direct = find(all, run, ContestantKind::Direct);
                let latency = |window: &Window| latency(window, percentile);
                pairs(of(run), direct, latency, |own, direct| own - direct)
            }
            Self::CpuPerClientSecond { run } => {
                let clients = of(run).map_or(1, |run| run.clients);
                each(of(run), |window| {
                    let seconds = window.cpu_seconds.get("service")?;
                    Some(seconds * 1e6 / window.seconds / f64::from(clients))
                })
            }
            Self::Seconds { run } => each(of(run), |window| Some(window.seconds)),
            Self::OfRun { runs, figure } => {
                let figures = runs.iter().filter_map(|run| of(run)?.figures.get(figure));
                figures
                    .copied()
                    .max_by(f64::total_cmp)
                    .into_iter()
                    .collect()
            }
            Self::Memory { many, few } => {
                memory(of(many), of(few), |bytes| bytes.get("service").copied())
            }
            Self::AppServerMemory { many, few } => memory(of(many), of(few), |bytes| {
                let app_server = bytes.get("app server");
                app_server.or_else(|| bytes.get("service")).copied()
            }),
            Self::IdleGroups { run } => of(run).map_or_else(Vec::new, idle_groups),
        }
    }
}

impl RowPlan {
    /// The row with what was measured.
    pub(crate) fn of(&self, all: &[Run]) -> Row {
        let own = self.owner(all);
        let mut row = self.row().with_samples(self.figure.samples(own, all));
        let main_run = self.figure.runs().first().copied().unwrap_or_default();
        if let Some(run) = find(all, main_run, own) {
            row.service_busy = busy(run);
            row.run = Some(run.name.clone());
            row.note = row.note.or_else(|| remark(run));
            // A client that is lost is no reconnect, however fast the others were.
            let failed = run.figures.get("failed").copied().unwrap_or_default();
            if failed > 0.0 {
                row = self.row();
                row.note = Some(format!("{failed} clients did not come back"));
            }
        }
        if !self.is_relation() || matches!(self.figure, Figure::RatePercent { .. }) {
            row.peers = self.peers(own, all);
        }
        let has_floor_ratio = !self.is_relation() && !self.is_latency();
        if has_floor_ratio {
            row.floor_ratio = median(&Figure::FloorRatio { run: main_run }.samples(own, all));
        }
        // An open loop keeps nobody busy, nor has to.
        if has_floor_ratio || matches!(self.figure, Figure::FloorRatio { .. }) {
            row.floor_busy = find(all, main_run, ContestantKind::Floor).and_then(busy);
        }
        row
    }

    /// Whose figure it is: the SDK's rows have the service and the app server together.
    fn owner(&self, all: &[Run]) -> ContestantKind {
        let main_run = self.figure.runs().first().copied().unwrap_or_default();
        if find(all, main_run, ContestantKind::Hubring).is_some() {
            ContestantKind::Hubring
        } else {
            ContestantKind::Sdk
        }
    }

    fn peers(&self, own: ContestantKind, all: &[Run]) -> BTreeMap<String, f64> {
        // What a message costs is divided by the floor's price; latencies stand beside those of the floor.
        let floor = self.is_latency().then_some(ContestantKind::Floor);
        let peers = floor.into_iter().chain(ContestantKind::PEERS);
        let peers = peers.filter(|peer| *peer != own);
        let figures = peers.filter_map(|peer| {
            let figure = median(&self.figure.samples(peer, all))?;
            Some((peer.name().to_owned(), figure))
        });
        figures.collect()
    }

    fn is_latency(&self) -> bool {
        matches!(self.figure, Figure::Latency { .. })
    }

    /// Whether it says already how something is to something else.
    fn is_relation(&self) -> bool {
        match self.figure {
            Figure::FloorRatio { .. }
            | Figure::CpuRatio { .. }
            | Figure::RatePercent { .. }
            | Figure::LatencyAdded { .. } => true,
            Figure::CpuPerMessage { .. }
            | Figure::CpuOfAll { .. }
            | Figure::MessagesPerCpuSecond { .. }
            | Figure::Latency { .. }
            | Figure::CpuPerClientSecond { .. }
            | Figure::Seconds { .. }
            | Figure::OfRun { .. }
            | Figure::Memory { .. }
            | Figure::AppServerMemory { .. }
            | Figure::IdleGroups { .. } => false,
        }
    }
}

fn find<'a>(all: &'a [Run], name: &str, contestant: ContestantKind) -> Option<&'a Run> {
    let mut runs = all.iter();
    runs.find(|run| run.name == name && run.contestant == contestant.name())
}

/// A figure of every window that has it.
fn each(run: Option<&Run>, of: impl Fn(&Window) -> Option<f64>) -> Vec<f64> {
    let windows = run.into_iter().flat_map(|run| &run.windows);
    windows.filter_map(of).collect()
}

/// Share of the time in which a run had its service's cores.
fn busy(run: &Run) -> Option<f64> {
    median(&each(Some(run), |window| {
        window.busy.get("service").copied()
    }))
}

/// What a client more takes, round by round.
fn memory(
    many: Option<&Run>,
    few: Option<&Run>,
    of: impl Fn(&BTreeMap<String, f64>) -> Option<f64>,
) -> Vec<f64> {
    let clients = |run: Option<&Run>| run.map_or(0.0, |run| f64::from(run.clients));
    let more = clients(many) - clients(few);
    let bytes = |window: &Window| of(&window.resident_bytes);
    pairs(many, few, bytes, |many, few| (many - few) / more)
}

/// What the windows of each round are to one another.
fn pairs(
    run: Option<&Run>,
    other: Option<&Run>,
    of: impl Fn(&Window) -> Option<f64>,
    relate: impl Fn(f64, f64) -> f64,
) -> Vec<f64> {
    let (Some(run), Some(other)) = (run, other) else {
        return Vec::new();
    };
    let rounds = run.windows.iter().zip(&other.windows);
    rounds
        .filter_map(|(own, other)| Some(relate(of(own)?, of(other)?)))
        .collect()
}

fn cpu(window: &Window) -> Option<f64> {
    window.cpu_us_per_message.get("service").copied()
}

fn cpu_of_all(window: &Window) -> Option<f64> {
    let watched = window.cpu_us_per_message.iter();
    // The shards are in the price of the service already.
    let watched = watched.filter(|(name, _)| !["own", SHARDS].contains(&name.as_str()));
    watched.map(|(_, us)| *us).reduce(|one, other| one + other)
}

#[expect(clippy::float_cmp, reason = "it is looked for as it was written")]
fn latency(window: &Window, percentile: f64) -> Option<f64> {
    let mut latencies = window.latencies_us.iter();
    let (_, us) = latencies.find(|(at, _)| *at == percentile)?;
    Some(*us)
}

/// Groups that every client had for itself.
fn idle_groups(run: &Run) -> Vec<f64> {
    let of_each = run
        .scenario
        .get("idle_groups")
        .and_then(serde_json::Value::as_u64);
    of_each
        .map(|groups| float(groups) * f64::from(run.clients))
        .into_iter()
        .collect()
}

/// What has to be known beside the figure.
fn remark(run: &Run) -> Option<String> {
    let of = |name: &str| run.figures.get(name).copied().unwrap_or_default();
    if of("behind") > 0.0 {
        return Some(format!("{} messages were not sent in time", of("behind")));
    }
    let groups = *idle_groups(run).first().filter(|groups| **groups > 0.0)?;
    let bytes = of("resident_bytes_per_client") * f64::from(run.clients) / groups;
    Some(format!(
        "{bytes:.0} bytes for each group with its one member"
    ))
}

#[cfg(test)]
#[expect(clippy::float_cmp, reason = "the figures are exact")]
mod tests {
    use super::*;
    use crate::coordinator::rows::comparisons;
    use crate::results::Verdict;

    fn run(name: &str, kind: ContestantKind, cpu_us: &[f64]) -> Run {
        let window = |us: &f64| Window {
            seconds: 0.5,
            cpu_us_per_message: [("service", *us), (SHARDS, us / 2.0), ("own", 3.0)]
                .map(|(name, us)| (name.to_owned(), us))
                .into(),
            busy: [("service".to_owned(), 0.97)].into(),
            latencies_us: vec![(50.0, us * 10.0), (99.0, us * 100.0)],
            ..Window::default()
        };
        Run {
            name: name.to_owned(),
            contestant: kind.name().to_owned(),
            clients: 1000,
            windows: cpu_us.iter().map(window).collect(),
            ..Run::default()
        }
    }

    fn row(key: &str, all: &[Run]) -> Row {
        let mut rows = comparisons()
            .into_iter()
            .flat_map(|comparison| comparison.rows);
        rows.find(|row| row.key == key).unwrap().of(all)
    }

    #[test]
    fn the_price_of_an_echo_stands_beside_floor_and_peers() {
        let all = [
            run("echo_2k", ContestantKind::Hubring, &[6.0, 8.0, 5.0]),
            run("echo_2k", ContestantKind::Floor, &[4.0, 4.0, 4.0]),
            run("echo_2k", ContestantKind::Haproxy, &[10.0, 12.0, 11.0]),
        ];
        let echo = row("echo_2k", &all);
        assert_eq!(
            (echo.value, echo.min, echo.max),
            (Some(6.0), Some(5.0), Some(8.0))
        );
        assert_eq!(echo.verdict, Verdict::Target);
        assert_eq!(echo.floor_ratio, Some(1.5));
        assert_eq!(echo.peers, BTreeMap::from([("haproxy".to_owned(), 11.0)]));
        assert_eq!(echo.service_busy, Some(0.97));
        let ratio = row("echo_floor_ratio", &all);
        assert_eq!(ratio.value, Some(1.5));
        assert!(ratio.floor_ratio.is_none() && ratio.peers.is_empty());
    }

    #[test]
    fn windows_of_the_same_round_are_set_in_relation() {
        // The second round was disturbed, for both.
        let all = [
            run("shards_1", ContestantKind::Hubring, &[5.0, 10.0, 5.0]),
            run("shards_2", ContestantKind::Hubring, &[5.5, 11.0, 5.5]),
        ];
        let ratio = row("shards_2", &all);
        assert_eq!(ratio.samples, [1.1, 1.1, 1.1]);
        assert_eq!(ratio.verdict, Verdict::Must);
    }

    #[test]
    fn a_rate_is_of_a_second_of_cpu_time() {
        let all = [run("broadcast_2k", ContestantKind::Hubring, &[4.0])];
        assert_eq!(row("broadcast_2k", &all).value, Some(250_000.0));
        assert_eq!(row("broadcast_2k", &all).verdict, Verdict::Must);
    }

    #[test]
    fn added_latency_is_what_is_above_the_bare_connection() {
        let all = [
            run("latency_added", ContestantKind::Hubring, &[7.0, 8.0]),
            run("latency_added", ContestantKind::Direct, &[2.0, 2.0]),
        ];
        assert_eq!(row("latency_added_p50", &all).samples, [50.0, 60.0]);
    }

    #[test]
    fn clients_that_stay_away_leave_no_figure() {
        let mut storm = run("reconnect_18k", ContestantKind::Hubring, &[1.0]);
        assert_eq!(
            row("reconnect_18k", std::slice::from_ref(&storm)).value,
            Some(0.5)
        );
        storm.figures.insert("failed".to_owned(), 3.0);
        let row = row("reconnect_18k", &[storm]);
        assert_eq!(row.verdict, Verdict::Missing);
        assert_eq!(row.note.as_deref(), Some("3 clients did not come back"));
    }

    #[test]
    fn app_servers_count_together_with_the_service() {
        let mut sdk = run("sdk_echo_2k", ContestantKind::Sdk, &[6.0]);
        let window = sdk.windows.first_mut().unwrap();
        window
            .cpu_us_per_message
            .insert("app server".to_owned(), 24.0);
        let all = [sdk, run("sdk_echo_2k", ContestantKind::SelfHost, &[44.0])];
        let row = row("sdk_echo_2k", &all);
        assert_eq!(row.value, Some(30.0));
        assert_eq!(row.peers["self-host"], 44.0);
    }

    #[test]
    fn a_floor_that_waits_is_told() {
        let mut floor = run("echo_2k", ContestantKind::Floor, &[4.0]);
        for window in &mut floor.windows {
            window.busy.insert("service".to_owned(), 0.8);
        }
        let all = [run("echo_2k", ContestantKind::Hubring, &[6.0]), floor];
        for key in ["echo_2k", "echo_floor_ratio"] {
            let row = row(key, &all);
            assert_eq!(row.floor_busy, Some(0.8));
            assert!(row.is_floor_idle());
        }
    }

    #[test]
    fn latencies_stand_beside_those_of_the_floor() {
        let all = [
            run("latency_open", ContestantKind::Hubring, &[6.0, 8.0]),
            run("latency_open", ContestantKind::Floor, &[4.0, 4.0]),
        ];
        let row = row("latency_open_p50", &all);
        assert_eq!((row.value, row.floor_ratio), (Some(70.0), None));
        assert_eq!(row.peers["floor"], 40.0);
    }

    #[test]
    fn memory_of_a_client_is_without_what_all_clients_share() {
        let idle = |name, clients, bytes: &[f64]| {
            let mut run = run(name, ContestantKind::Hubring, &[1.0, 1.0]);
            run.clients = clients;
            for (window, bytes) in run.windows.iter_mut().zip(bytes) {
                window.resident_bytes.insert("service".to_owned(), *bytes);
            }
            run
        };
        let all = [
            idle("idle_memory_2k", 2000, &[30e6, 31e6]),
            idle("idle_memory_10k", 10_000, &[38e6, 39e6]),
        ];
        assert_eq!(row("idle_memory", &all).samples, [1000.0, 1000.0]);
    }

    #[test]
    fn cpu_time_of_idle_clients_is_that_of_all_cores() {
        let mut idle = run("idle", ContestantKind::Hubring, &[1.0]);
        for window in &mut idle.windows {
            window.cpu_seconds.insert("service".to_owned(), 0.001);
        }
        assert_eq!(row("idle_cpu", &[idle]).value, Some(2.0));
    }

    #[test]
    fn what_was_not_measured_is_missing() {
        let mut rows = comparisons()
            .into_iter()
            .flat_map(|comparison| comparison.rows);
        assert!(rows.all(|row| row.of(&[]).verdict == Verdict::Missing));
    }
}

//! What the same load is said to cost elsewhere.
//!
//! Azure's figures are those of Microsoft's "Performance guide for Azure SignalR Service"
//! (<https://learn.microsoft.com/azure/azure-signalr/signalr-concept-performance>): 2 KB messages, WebSockets, 99 % of the messages
//! within a second. The figures of a self-hosted ASP.NET Core app were measured with .NET 10 on a machine with two cores of the kind that
//! this load generator is tried on; they are a reference where none was measured in the same run.

use crate::output::runs::cpu_us;
use crate::output::verdict::Spread;
use crate::results::{Report, Run};

/// Connections for which one paid unit of Azure is meant.
const CONNECTIONS_PER_UNIT: f64 = 1_000.0;

/// Echoes per second of one unit.
const ECHOES_PER_UNIT: f64 = 1_000.0;

/// Messages per second that one unit sends to clients, when they are sent to all of them.
const OUTBOUND_PER_UNIT: f64 = 2_000.0;

/// Messages per second sent to single connections, no more with 100 units than with 20.
const SENDS_TO_CONNECTIONS_MAX: f64 = 20_000.0;

/// Messages per second sent to small groups, no more with 100 units than with 50.
const SENDS_TO_SMALL_GROUPS_MAX: f64 = 100_000.0;

/// What a self-hosted app needs, by row: from where to where.
const SELF_HOSTED: &[(&str, f64, f64)] = &[
    ("echo_2k", 40.0, 50.0),
    ("broadcast_2k", 20.0, 20.0),
    ("broadcast_burst_2k", 9.0, 11.0),
    ("idle_memory", 17_000.0, 17_000.0),
    ("connects", 320.0, 320.0),
];

/// Microseconds of CPU time per message, or bytes per client, of a self-hosted ASP.NET Core app.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct SelfHosted {
    pub(crate) low: f64,
    pub(crate) high: f64,
}

/// The reference for a row, if there is one.
pub(crate) fn self_hosted(row: &str) -> Option<SelfHosted> {
    let known = SELF_HOSTED.iter().find(|(name, _, _)| *name == row);
    known.map(|&(_, low, high)| SelfHosted { low, high })
}

/// Azure's guide beside what was measured.
#[derive(Debug, PartialEq)]
pub(crate) struct Comparison {
    pub(crate) what: &'static str,
    pub(crate) guide: Guide,
    /// Per second of CPU time, or clients in all.
    pub(crate) ours: f64,
    pub(crate) unit: &'static str,
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Guide {
    /// So much for each unit that is paid for.
    PerUnit(f64),
    /// So much at most. More units than these bring no more.
    AtMost { rate: f64, units: u32 },
}

impl Comparison {
    /// How many units, or how many times the most that they reach.
    pub(crate) fn replaced(&self) -> f64 {
        match self.guide {
            Guide::PerUnit(rate) | Guide::AtMost { rate, .. } => self.ours / rate,
        }
    }
}

/// All loads of the guide that were measured.
pub(crate) fn comparisons(report: &Report) -> Vec<Comparison> {
    let rate = |what, row, guide, unit| {
        let ours = rate_per_core(report, row)?;
        Some(Comparison {
            what,
            guide,
            ours,
            unit,
        })
    };
    let clients = own_runs(report).map(|run| run.clients).max();
    let connections = clients.map(|clients| Comparison {
        what: "Clients connected at once (as many as were tried)",
        guide: Guide::PerUnit(CONNECTIONS_PER_UNIT),
        ours: f64::from(clients),
        unit: "clients",
    });
    let connections_at_most = Guide::AtMost {
        rate: SENDS_TO_CONNECTIONS_MAX,
        units: 20,
    };
    let groups_at_most = Guide::AtMost {
        rate: SENDS_TO_SMALL_GROUPS_MAX,
        units: 50,
    };
    [
        rate(
            "Echo",
            "echo_2k",
            Guide::PerUnit(ECHOES_PER_UNIT),
            "echoes/s",
        ),
        rate(
            "Broadcast",
            "broadcast_2k",
            Guide::PerUnit(OUTBOUND_PER_UNIT),
            "deliveries/s",
        ),
        rate(
            "Send to single connections",
            "send_to_connection_1k",
            connections_at_most,
            "messages/s",
        ),
        rate(
            "Send to groups of 10",
            "small_groups",
            groups_at_most,
            "deliveries/s",
        ),
        connections,
    ]
    .into_iter()
    .flatten()
    .collect()
}

/// What a core that does nothing else would carry, by CPU time per message.
fn rate_per_core(report: &Report, name: &str) -> Option<f64> {
    let run = own_runs(report).find(|run| run.name == name)?;
    let cpu = Spread::of(&cpu_us(run, "service"))?.median;
    (cpu > 0.0).then(|| 1e6 / cpu)
}

fn own_runs(report: &Report) -> impl Iterator<Item = &Run> {
    let runs = report.runs.iter();
    runs.filter(|run| run.contestant == "hubring")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::output::sample;

    #[test]
    fn one_core_stands_beside_the_units() {
        let comparisons = comparisons(&sample::report());
        let echo = &comparisons[0];
        assert_eq!(echo.what, "Echo");
        // 5.6 µs each, so about 178 units' worth of a thousand echoes.
        assert!((170.0..187.0).contains(&echo.replaced()), "{echo:?}");
        let connections = comparisons.last().unwrap();
        assert_eq!(connections.guide, Guide::PerUnit(1_000.0));
    }

    #[test]
    fn what_was_not_measured_is_not_compared() {
        let mut report = sample::report();
        report.runs.clear();
        assert!(comparisons(&report).is_empty());
        assert_eq!(self_hosted("unknown"), None);
    }
}

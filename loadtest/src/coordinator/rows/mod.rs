//! The table as data: which comparisons are made, and which rows come from each.
//!
//! Rates are per second of the service's CPU time ("per core"): the figure of a machine whose core does nothing else, whatever else
//! happens on this one.

mod clients;
mod deployment;
mod messages;

use super::row_values::Figure;
use super::scenario::Scenario;
use super::session::Entrant;
use crate::contestants::kind::ContestantKind;
use crate::job::{HubProtocol, Load, Pacing};
use crate::output::verdict::Marks;
use crate::results::{Better, Row};

/// Part of a burst that may still be on its way when the next one is sent. With none the service would wait for the last client's
/// answer each time.
const OVERLAP_PERCENT: u32 = 10;

/// Several contestants in turn, and the rows that this gives.
#[derive(Clone)]
pub(crate) struct Comparison {
    pub(crate) name: &'static str,
    pub(crate) entrants: Vec<Entrant>,
    pub(crate) pace: Pace,
    pub(crate) rows: Vec<RowPlan>,
}

impl Comparison {
    /// Whether it says itself how many shards the service has.
    pub(crate) fn compares_shards(&self) -> bool {
        let mut rows = self.rows.iter();
        rows.any(|row| matches!(row.figure, Figure::CpuRatio { .. }))
    }
}

/// How its windows are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Pace {
    /// As long as the time allows.
    Usual,
    /// Half a second at least: for rare events such as the thousandth of the latencies, or the pings of idle clients.
    Long,
    /// Hardly at all: memory is there without waiting for it.
    Glances,
    /// No windows but storms.
    Storms,
}

/// A row before it is measured.
#[derive(Clone)]
pub(crate) struct RowPlan {
    pub(crate) key: &'static str,
    label: &'static str,
    unit: &'static str,
    better: Better,
    marks: Marks,
    pub(crate) figure: Figure,
    pub(crate) note: Option<&'static str>,
}

impl RowPlan {
    /// The row without a figure.
    pub(crate) fn row(&self) -> Row {
        let mut row = Row::new(self.key, self.label, self.unit, self.better, self.marks);
        row.note = self.note.map(str::to_owned);
        row
    }

    /// With what has to be known to read it.
    fn note(mut self, note: &'static str) -> Self {
        self.note = Some(note);
        self
    }
}

/// Keys of all rows.
pub(crate) fn keys() -> impl Iterator<Item = &'static str> {
    let rows = comparisons()
        .into_iter()
        .flat_map(|comparison| comparison.rows);
    rows.map(|row| row.key)
}

/// Everything there is, in the order of the table.
pub(crate) fn comparisons() -> Vec<Comparison> {
    [
        messages::comparisons(),
        clients::comparisons(),
        deployment::comparisons(),
    ]
    .into_iter()
    .flatten()
    .collect()
}

/// Echoes, of which each client has one under way.
fn echo() -> Load {
    Load::Echo {
        pacing: Pacing::Closed { depth: 1 },
    }
}

fn broadcast(burst: u32) -> Load {
    Load::Broadcast {
        burst,
        overlap_percent: OVERLAP_PERCENT,
    }
}

/// What is not said otherwise, as in the performance guide: 5 server connections, one shard, JSON.
fn scenario(load: Load, clients: u32, payload_bytes: u32) -> Scenario {
    Scenario {
        load,
        clients,
        payload_bytes,
        server_connections: 5,
        shards: 1,
        hub_protocol: HubProtocol::Json,
    }
}

/// The same scenario for several contestants.
fn entrants(run: &'static str, kinds: &[ContestantKind], scenario: &Scenario) -> Vec<Entrant> {
    let entrant = |kind: &ContestantKind| Entrant {
        run,
        kind: *kind,
        scenario: scenario.clone(),
        is_extra: false,
    };
    kinds.iter().map(entrant).collect()
}

/// Those who take part only where there is time for them.
fn extra(run: &'static str, kinds: &[ContestantKind], scenario: &Scenario) -> Vec<Entrant> {
    let mut extra = entrants(run, kinds, scenario);
    for entrant in &mut extra {
        entrant.is_extra = true;
    }
    extra
}

fn less(
    key: &'static str,
    label: &'static str,
    unit: &'static str,
    marks: [Option<f64>; 3],
    figure: Figure,
) -> RowPlan {
    plan(key, label, unit, Better::Less, marks, figure)
}

fn more(
    key: &'static str,
    label: &'static str,
    unit: &'static str,
    marks: [Option<f64>; 3],
    figure: Figure,
) -> RowPlan {
    plan(key, label, unit, Better::More, marks, figure)
}

fn plan(
    key: &'static str,
    label: &'static str,
    unit: &'static str,
    better: Better,
    [must, target, stretch]: [Option<f64>; 3],
    figure: Figure,
) -> RowPlan {
    RowPlan {
        key,
        label,
        unit,
        better,
        marks: Marks {
            must,
            target,
            stretch,
        },
        figure,
        note: None,
    }
}

fn thousands(marks: [u32; 3]) -> [Option<f64>; 3] {
    marks.map(|mark| Some(f64::from(mark) * 1e3))
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn keys_are_unique() {
        let mut known = HashSet::new();
        assert!(keys().all(|key| known.insert(key)));
    }

    #[test]
    fn every_row_has_a_run_to_come_from_and_everybody_can_play_it() {
        for comparison in comparisons() {
            let runs: HashSet<&str> = comparison
                .entrants
                .iter()
                .map(|entrant| entrant.run)
                .collect();
            for row in &comparison.rows {
                let needed = row.figure.runs();
                assert!(needed.iter().all(|run| runs.contains(run)), "{}", row.key);
            }
            for Entrant {
                kind,
                scenario,
                run,
                ..
            } in &comparison.entrants
            {
                assert!(kind.can_play(&scenario.load), "{run}: {}", kind.name());
            }
        }
    }

    #[test]
    fn no_process_needs_more_descriptors_than_it_can_have() {
        for comparison in comparisons() {
            for Entrant { scenario, .. } in &comparison.entrants {
                assert!(scenario.clients + scenario.server_connections < 19_900);
            }
        }
    }
}

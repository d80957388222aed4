//! The whole table: which comparisons are made, how long each may look, and the report that comes out.

use std::time::Duration;

use super::head::{Here, report};
use super::measurement::{Outcome, measure};
use super::place::Place;
use super::rows::{Comparison, Pace, comparisons};
use super::scenario::{Scenario, Timing};
use super::session::Entrant;
use crate::cli::TableArgs;
use crate::contestants::kind::ContestantKind;
use crate::contestants::sdk;
use crate::error::LoadError;
use crate::job::Load;
use crate::output::progress::Progress;
use crate::results::{Report, Row};

/// Windows are not made shorter than this, whatever time there is: CPU times of a shorter one would be too coarse.
const WINDOW_MIN: Duration = Duration::from_millis(150);

/// Nor longer: more windows say more than longer ones.
const WINDOW_MAX: Duration = Duration::from_secs(1);

/// Clients from which on they are many: each message of one waits for those of all others, so that short windows would see
/// only a round or two.
const MANY_CLIENTS: u32 = 5000;

/// Windows of so many are not made shorter than this.
const WINDOW_MIN_OF_MANY: Duration = Duration::from_millis(500);

/// Windows in which only memory is looked at.
const GLANCE: Duration = Duration::from_millis(20);

/// How much time there is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Budget {
    name: &'static str,
    all: Duration,
    rounds: u32,
    /// Windows of comparisons that have to look for long.
    long: Duration,
    /// Whether there is time for those who take part only then.
    has_extras: bool,
}

impl Budget {
    /// Three minutes, of which some are left for what takes longer than it should.
    const QUICK: Self = Self {
        name: "quick",
        all: Duration::from_secs(170),
        rounds: 5,
        long: Duration::from_millis(500),
        has_extras: false,
    };

    /// Fifteen minutes.
    const FULL: Self = Self {
        name: "full",
        all: Duration::from_secs(800),
        rounds: 9,
        long: Duration::from_secs(4),
        has_extras: true,
    };
}

/// Measures all rows that are asked for.
pub(crate) fn table(args: &TableArgs) -> Result<Report, LoadError> {
    let here = Here::look();
    let place = Place::take(&args.placement, None)?;
    let budget = if args.quick {
        Budget::QUICK
    } else {
        Budget::FULL
    };
    let has_sdk_app = sdk::program().is_ok();
    let comparisons = selected(comparisons(), args, budget, has_sdk_app);
    let plan = Plan::of(&comparisons, budget);
    let mut progress = Progress::new(comparisons.len() as u64, false);
    progress.note(&format!(
        "{} comparisons, about {} s",
        comparisons.len(),
        plan.estimate.as_secs()
    ));
    let mut head = here.head(budget.name, &place);
    let mut rows = Vec::new();
    let mut runs = Vec::new();
    for comparison in &comparisons {
        progress.step(comparison.name);
        let timing = |entrant: &Entrant| plan.timing(comparison.pace, &entrant.scenario);
        match measure(&comparison.entrants, timing, &place) {
            Ok(outcome) => {
                let Outcome {
                    runs: new,
                    notes,
                    versions,
                } = outcome;
                rows.extend(comparison.rows.iter().map(|row| row.of(&new)));
                runs.extend(new);
                head.peers.extend(versions);
                for note in notes {
                    let note = format!("{}: {note}", comparison.name);
                    progress.note(&note);
                    head.notes.push(note);
                }
            }
            Err(LoadError::Interrupted) => return Err(LoadError::Interrupted),
            Err(error) => {
                progress.note(&format!("{}: {error}", comparison.name));
                rows.extend(missing(comparison, &error));
            }
        }
    }
    progress.finish();
    if !has_sdk_app {
        let note = "ASP.NET Core is not measured: HUBRING_SDK_APP is not set";
        head.notes.push(note.to_owned());
    }
    head.seconds = place.started.elapsed().as_secs_f64();
    Ok(report(head, rows, runs))
}

/// Rows of a comparison that could not be made.
fn missing(comparison: &Comparison, error: &LoadError) -> Vec<Row> {
    let rows = comparison.rows.iter().map(|plan| {
        let mut row = plan.row();
        row.note = Some(error.to_string());
        row
    });
    rows.collect()
}

/// The comparisons that have one of the rows, without the peers that are not wanted.
fn selected(
    all: Vec<Comparison>,
    args: &TableArgs,
    budget: Budget,
    has_sdk_app: bool,
) -> Vec<Comparison> {
    let wants = |comparison: &Comparison| {
        let mut rows = comparison.rows.iter();
        args.rows.is_empty() || rows.any(|row| args.rows.iter().any(|key| key == row.key))
    };
    let mut chosen: Vec<Comparison> = all.into_iter().filter(wants).collect();
    for comparison in &mut chosen {
        comparison.entrants.retain(|entrant| {
            let needs_sdk_app =
                matches!(entrant.kind, ContestantKind::Sdk | ContestantKind::SelfHost);
            let is_peer = ContestantKind::PEERS.contains(&entrant.kind);
            let has_time = budget.has_extras || !entrant.is_extra;
            has_time && (has_sdk_app || !needs_sdk_app) && !(args.no_peers && is_peer)
        });
        if let Some(shards) = args.placement.shards
            && !comparison.compares_shards()
        {
            for entrant in &mut comparison.entrants {
                entrant.scenario.shards = shards.get();
            }
        }
    }
    chosen.retain(|comparison| !comparison.entrants.is_empty());
    chosen
}

/// How the time is spent.
#[derive(Debug)]
struct Plan {
    usual: Timing,
    /// The usual one where clients are many.
    of_many: Timing,
    glances: Timing,
    long: Timing,
    estimate: Duration,
}

impl Plan {
    /// Makes usual windows as long as the time allows.
    fn of(comparisons: &[Comparison], budget: Budget) -> Self {
        let lengths = (WINDOW_MIN.as_millis()..=WINDOW_MAX.as_millis())
            .rev()
            .step_by(10);
        let plans = lengths.map(|milliseconds| {
            let window = Duration::from_millis(u64::try_from(milliseconds).unwrap_or_default());
            Self::with_window(window, comparisons, budget)
        });
        let mut fitting = plans.filter(|plan| plan.estimate <= budget.all);
        fitting
            .next()
            .unwrap_or_else(|| Self::with_window(WINDOW_MIN, comparisons, budget))
    }

    fn with_window(window: Duration, comparisons: &[Comparison], budget: Budget) -> Self {
        let mut plan = Self {
            usual: timing(window, budget.rounds),
            of_many: timing(window.max(WINDOW_MIN_OF_MANY), budget.rounds),
            long: timing(budget.long, budget.rounds),
            glances: Timing {
                first_warm_up: Duration::ZERO,
                warm_up: Duration::ZERO,
                window: GLANCE,
                rounds: budget.rounds,
            },
            estimate: Duration::ZERO,
        };
        for comparison in comparisons {
            for Entrant { kind, scenario, .. } in &comparison.entrants {
                let opened = time_to_start(*kind) + time_to_open(scenario);
                let timing = plan.timing(comparison.pace, scenario);
                let played = match comparison.pace {
                    Pace::Storms => time_of_storm(scenario) * budget.rounds,
                    Pace::Glances => time_of(&timing),
                    Pace::Usual | Pace::Long => time_of(&timing) + time_to_settle(*kind, scenario),
                };
                plan.estimate += opened + played;
            }
        }
        plan
    }

    fn timing(&self, pace: Pace, scenario: &Scenario) -> Timing {
        let has_many = scenario.clients >= MANY_CLIENTS;
        match pace {
            Pace::Usual if has_many => self.of_many,
            Pace::Usual | Pace::Storms => self.usual,
            Pace::Long => self.long,
            Pace::Glances => self.glances,
        }
    }
}

/// Until all that was under way has arrived and the counters are read.
const END_OF_TURN: Duration = Duration::from_millis(70);

/// What contestant and workers need to start and to end, and to look at their memory.
const START: Duration = Duration::from_millis(500);

/// What ASP.NET Core needs for that: it compiles as it goes.
const START_OF_ASP_NET: Duration = Duration::from_millis(1500);

/// Connections that are opened in a second, on one core for each side.
const OPENED_A_SECOND: u32 = 8000;

/// Groups that are joined in a second.
const JOINED_A_SECOND: u32 = 200_000;

fn timing(window: Duration, rounds: u32) -> Timing {
    let warm_up = window / 4;
    Timing {
        first_warm_up: warm_up * 3,
        warm_up,
        window,
        rounds,
    }
}

fn time_of(timing: &Timing) -> Duration {
    let turns = (timing.window + timing.warm_up + END_OF_TURN) * timing.rounds;
    // The first warm-up takes the place of a usual one.
    turns + timing.first_warm_up.saturating_sub(timing.warm_up)
}

/// What the first warm-up is longer for those who need time until they are as fast as they will be.
fn time_to_settle(kind: ContestantKind, scenario: &Scenario) -> Duration {
    let needs_time = matches!(kind, ContestantKind::SelfHost | ContestantKind::Sdk);
    if needs_time && scenario.load != Load::Idle {
        sdk::SETTLING_TIME
    } else {
        Duration::ZERO
    }
}

fn time_to_start(kind: ContestantKind) -> Duration {
    match kind {
        ContestantKind::SelfHost | ContestantKind::Sdk => START_OF_ASP_NET,
        ContestantKind::Hubring
        | ContestantKind::Floor
        | ContestantKind::Direct
        | ContestantKind::Haproxy
        | ContestantKind::Nchan
        | ContestantKind::Pushpin
        | ContestantKind::TokioRelay => START,
    }
}

fn time_to_open(scenario: &Scenario) -> Duration {
    let groups = match scenario.load {
        Load::SendToGroup { idle_groups, .. } => scenario.clients * idle_groups,
        Load::Echo { .. }
        | Load::Broadcast { .. }
        | Load::SendToConnection { .. }
        | Load::SendToUser { .. }
        | Load::Membership { .. }
        | Load::Idle
        | Load::Connect { .. }
        | Load::Reconnect { .. }
        | Load::SlowConsumers { .. }
        | Load::Mixed { .. } => 0,
    };
    let rate =
        |count: u32, a_second: u32| Duration::from_secs_f64(f64::from(count) / f64::from(a_second));
    rate(scenario.clients, OPENED_A_SECOND) + rate(groups, JOINED_A_SECOND)
}

/// A storm is over when all are back; then the next one can come.
fn time_of_storm(scenario: &Scenario) -> Duration {
    let back = f64::from(scenario.clients) / f64::from(OPENED_A_SECOND);
    Duration::from_secs_f64(back) + END_OF_TURN
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::*;
    use crate::cli::{Cli, Command};

    fn args(text: &str) -> TableArgs {
        let words = ["hubring-loadtest"].into_iter().chain(text.split(' '));
        let Command::Table(args) = Cli::try_parse_from(words).unwrap().command else {
            panic!("{text} is not a table");
        };
        args
    }

    fn plan(text: &str, budget: Budget) -> Plan {
        Plan::of(&selected(comparisons(), &args(text), budget, true), budget)
    }

    #[test]
    fn the_table_keeps_within_its_time_with_everything_in_it() {
        let quick = plan("table --quick", Budget::QUICK);
        assert!(quick.estimate <= Duration::from_secs(175), "{quick:?}");
        let full = plan("table", Budget::FULL);
        assert!(full.estimate <= Duration::from_secs(860), "{full:?}");
        assert!(quick.usual.rounds >= 5 && full.usual.rounds >= 5);
        assert!(quick.usual.window < full.usual.window);
        assert!(quick.of_many.window >= WINDOW_MIN_OF_MANY);
    }

    #[test]
    fn a_few_rows_get_no_longer_windows_than_are_of_use() {
        let plan = plan("table --rows echo_2k --no-peers", Budget::FULL);
        assert_eq!(plan.usual.window, WINDOW_MAX);
        assert!(plan.estimate < Duration::from_mins(1), "{plan:?}");
    }

    #[test]
    fn shards_are_as_many_as_asked_for_but_where_they_are_compared() {
        let asked = args("table --shards 3");
        let chosen = selected(comparisons(), &asked, Budget::FULL, false);
        for comparison in chosen {
            let mut entrants = comparison.entrants.iter();
            let as_asked = entrants.all(|entrant| entrant.scenario.shards == 3);
            assert_eq!(as_asked, comparison.name != "shards");
        }
    }

    #[test]
    fn rows_are_chosen_with_the_comparison_they_come_from() {
        let chosen = selected(
            comparisons(),
            &args("table --rows send_flatness,connects"),
            Budget::QUICK,
            true,
        );
        let names: Vec<&str> = chosen.iter().map(|comparison| comparison.name).collect();
        assert_eq!(names, ["send_to_connection", "connects"]);
    }

    #[test]
    fn without_peers_and_sdk_hubring_and_the_floor_are_left() {
        let chosen = selected(
            comparisons(),
            &args("table --no-peers"),
            Budget::FULL,
            false,
        );
        let all = chosen.iter().flat_map(|comparison| &comparison.entrants);
        let mut strangers = all.filter(|entrant| {
            use ContestantKind::{Direct, Floor, Hubring};
            ![Hubring, Floor, Direct].contains(&entrant.kind)
        });
        assert!(strangers.next().is_none());
        assert!(
            chosen
                .iter()
                .all(|comparison| !comparison.name.starts_with("sdk"))
        );
    }

    #[test]
    fn a_comparison_that_fails_leaves_its_rows_with_the_reason() {
        let comparison = comparisons().remove(0);
        let rows = missing(&comparison, &LoadError::WorkerEnded("hubring".to_owned()));
        assert_eq!(rows.len(), comparison.rows.len());
        assert!(
            rows.iter()
                .all(|row| row.note.is_some() && row.value.is_none())
        );
    }
}

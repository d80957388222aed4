//! One scenario, with hubring and whoever is to stand beside it.

use super::head::{Here, report};
use super::measurement::measure;
use super::place::Place;
use super::scenario::Scenario;
use super::session::Entrant;
use crate::cli::{Peers, RunArgs, ScenarioCommand};
use crate::contestants::kind::ContestantKind;
use crate::error::LoadError;
use crate::output::progress::Progress;
use crate::results::Report;

/// Measures the scenario.
pub(crate) fn run(command: &ScenarioCommand) -> Result<Report, LoadError> {
    let args = command.args();
    let entrants = entrants(command)?;
    let here = Here::look();
    let place = Place::take(&args.placement, Some(&args.attach))?;
    let mut progress = Progress::new(1, false);
    progress.step(command.name());
    let outcome = measure(&entrants, |_| args.timing(), &place)?;
    progress.finish();
    let mut head = here.head(command.name(), &place);
    head.peers = outcome.versions;
    head.notes.extend(outcome.notes);
    head.seconds = place.started.elapsed().as_secs_f64();
    Ok(report(head, Vec::new(), outcome.runs))
}

/// Who takes part. Who is asked for by name has to be able to.
fn entrants(command: &ScenarioCommand) -> Result<Vec<Entrant>, LoadError> {
    let RunArgs { floor, peers, .. } = command.args();
    let scenario = command.scenario();
    let mut kinds = vec![ContestantKind::Hubring];
    if *floor {
        kinds.push(ContestantKind::Floor);
    }
    match peers {
        Peers::Named(named) => kinds.extend(named),
        Peers::All => kinds.extend(peers_for(&scenario)),
    }
    let entrant = |kind: ContestantKind| {
        if kind.can_play(&scenario.load) {
            Ok(Entrant {
                run: command.name(),
                kind,
                scenario: scenario.clone(),
                is_extra: false,
            })
        } else {
            Err(LoadError::CannotPlay {
                contestant: kind.name(),
                scenario: command.name(),
            })
        }
    };
    kinds.into_iter().map(entrant).collect()
}

fn peers_for(scenario: &Scenario) -> impl Iterator<Item = ContestantKind> {
    let peers = ContestantKind::PEERS.into_iter();
    peers.filter(|peer| peer.can_play(&scenario.load))
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::*;
    use crate::cli::{Cli, Command};

    fn names(text: &str) -> Result<Vec<&'static str>, LoadError> {
        let words = ["hubring-loadtest"].into_iter().chain(text.split(' '));
        let Command::Run { scenario } = Cli::try_parse_from(words).unwrap().command else {
            panic!("not a run");
        };
        let entrants = entrants(&scenario)?;
        Ok(entrants.iter().map(|entrant| entrant.kind.name()).collect())
    }

    #[test]
    fn hubring_comes_first_and_peers_as_asked_for() {
        assert_eq!(names("run idle").unwrap(), ["hubring"]);
        let echo = names("run echo --floor --peers haproxy").unwrap();
        assert_eq!(echo, ["hubring", "floor", "haproxy"]);
        let all = names("run broadcast --peers all").unwrap();
        assert!(all.contains(&"nchan") && !all.contains(&"haproxy"));
    }

    #[test]
    fn who_cannot_play_is_an_error() {
        for text in ["run broadcast --peers haproxy", "run connect --floor"] {
            assert!(matches!(names(text), Err(LoadError::CannotPlay { .. })));
        }
    }
}

//! One comparison: several contestants, each with all its connections open, in turn.
//!
//! A round gives each contestant one window; the others wait meanwhile. So the windows of a round lie next to each other, and what else
//! happens on the machine meets all of them: their ratio is worth more than either figure.

use std::collections::BTreeMap;

use super::place::Place;
use super::scenario::Timing;
use super::session::{Entrant, Session};
use crate::contestants::kind::ContestantKind;
use crate::error::LoadError;
use crate::results::Run;

/// What a comparison leaves behind.
#[derive(Debug, Default)]
pub(crate) struct Outcome {
    /// In the order of the entrants, as far as they stayed to the end.
    pub(crate) runs: Vec<Run>,
    /// Who did not, and why.
    pub(crate) notes: Vec<String>,
    /// Versions of the others by their names.
    pub(crate) versions: BTreeMap<String, String>,
}

/// Lets the entrants play. A peer that fails is left out from then on; without hubring there is nothing to compare.
pub(crate) fn measure(
    entrants: &[Entrant],
    timing: impl Fn(&Entrant) -> Timing,
    place: &Place,
) -> Result<Outcome, LoadError> {
    let mut outcome = Outcome::default();
    let mut sessions = Vec::new();
    for entrant in entrants {
        match Session::open(entrant, place) {
            Ok(session) => sessions.push(session),
            Err(error) => outcome.leave_out(entrant.kind, error)?,
        }
    }
    let rounds = entrants.iter().map(|entrant| timing(entrant).rounds).max();
    for round in 0..rounds.unwrap_or_default() {
        let mut still_there = Vec::new();
        for mut session in sessions {
            let Entrant { kind, .. } = *session.entrant();
            let timing = timing(session.entrant());
            match session.play(round, &timing, place) {
                Ok(()) => still_there.push(session),
                Err(error) => outcome.leave_out(kind, error)?,
            }
        }
        sessions = still_there;
    }
    for session in sessions {
        let kind = session.entrant().kind;
        if kind != ContestantKind::Hubring
            && let Some(version) = session.version()
        {
            outcome.versions.insert(kind.name().to_owned(), version);
        }
        match session.finish() {
            Ok(run) => outcome.runs.push(run),
            Err(error) => outcome.leave_out(kind, error)?,
        }
    }
    Ok(outcome)
}

impl Outcome {
    fn leave_out(&mut self, kind: ContestantKind, error: LoadError) -> Result<(), LoadError> {
        if kind == ContestantKind::Hubring || matches!(error, LoadError::Interrupted) {
            return Err(error);
        }
        let name = kind.name();
        let error = error.to_string();
        let says_who = error.starts_with(name);
        self.notes.push(if says_who {
            error
        } else {
            format!("{name}: {error}")
        });
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_peer_that_fails_is_a_note_and_hubring_is_the_end() {
        let mut outcome = Outcome::default();
        let ended = || LoadError::WorkerEnded("nchan".to_owned());
        outcome.leave_out(ContestantKind::Nchan, ended()).unwrap();
        assert_eq!(outcome.notes, ["nchan: a worker ended without a word"]);
        assert!(outcome.leave_out(ContestantKind::Hubring, ended()).is_err());
        let interrupted = outcome.leave_out(ContestantKind::Nchan, LoadError::Interrupted);
        assert!(interrupted.is_err());
    }
}

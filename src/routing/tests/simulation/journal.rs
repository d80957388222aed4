//! What has happened in a world, for whoever wants to read it.

use std::fmt;
use std::io::{self, Write as _};
use std::time::{Duration, Instant};

/// One line for each step, with when it happened. Below it, indented, what came of it.
pub(super) struct Journal {
    is_told: bool,
    start: Instant,
    steps: usize,
}

impl Journal {
    pub(super) fn new(is_told: bool, start: Instant) -> Self {
        Self {
            is_told,
            start,
            steps: 0,
        }
    }

    pub(super) fn is_told(&self) -> bool {
        self.is_told
    }

    /// How many steps there have been.
    pub(super) fn steps(&self) -> usize {
        self.steps
    }

    pub(super) fn step(&mut self, now: Instant, what: fmt::Arguments<'_>) {
        self.steps += 1;
        if self.is_told {
            let since: Duration = now - self.start;
            say(format_args!(
                "{:4} {:7.1} s  {what}",
                self.steps,
                since.as_secs_f64()
            ));
        }
    }

    pub(super) fn note(&self, what: fmt::Arguments<'_>) {
        if self.is_told {
            say(format_args!("                 {what}"));
        }
    }
}

/// Past what the test harness captures: who names a seed wants to read, also when all goes well.
fn say(line: fmt::Arguments<'_>) {
    // Nobody may be listening.
    let _ = writeln!(io::stderr().lock(), "{line}");
}

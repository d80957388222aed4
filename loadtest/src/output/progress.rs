//! How far a measurement has come: bars where standard error is a terminal, lines where it is not.

use std::io::{IsTerminal as _, stderr};
use std::time::Duration;

use indicatif::{MultiProgress, ProgressBar, ProgressStyle};

/// Time between redraws when nothing happens: often enough to look alive, seldom enough to cost nothing beside a measurement.
const REDRAW_INTERVAL: Duration = Duration::from_millis(500);

/// Shows the steps of a measurement. To be finished before anything else is printed.
#[derive(Debug)]
pub(crate) struct Progress {
    total: u64,
    done: u64,
    shown: Shown,
}

#[derive(Debug)]
enum Shown {
    Nothing,
    Lines,
    Bars {
        screen: MultiProgress,
        overall: ProgressBar,
        current: ProgressBar,
    },
}

impl Progress {
    /// Begins; nothing is done yet.
    pub(crate) fn new(total_steps: u64, quiet: bool) -> Self {
        let shown = if quiet {
            Shown::Nothing
        } else if stderr().is_terminal() {
            Shown::bars(total_steps)
        } else {
            Shown::Lines
        };
        Self {
            total: total_steps,
            done: 0,
            shown,
        }
    }

    /// The step before is done, and `name` begins.
    pub(crate) fn step(&mut self, name: &str) {
        self.done += 1;
        match &self.shown {
            Shown::Nothing => {}
            Shown::Lines => eprintln!("{}", self.line(name)),
            Shown::Bars {
                overall, current, ..
            } => {
                overall.set_position(self.done - 1);
                current.reset_elapsed();
                current.set_message(name.to_owned());
            }
        }
    }

    /// Something to know, which stays on the screen.
    pub(crate) fn note(&self, text: &str) {
        match &self.shown {
            Shown::Nothing => {}
            Shown::Lines => eprintln!("{text}"),
            Shown::Bars { screen, .. } => {
                // What cannot be shown on a terminal that has gone is no reason to stop.
                let _ = screen.println(text);
            }
        }
    }

    /// Takes the bars away.
    pub(crate) fn finish(&mut self) {
        if let Shown::Bars {
            overall,
            current,
            screen,
        } = &self.shown
        {
            current.finish_and_clear();
            overall.finish_and_clear();
            let _ = screen.clear();
        }
        self.shown = Shown::Nothing;
    }

    fn line(&self, name: &str) -> String {
        format!("[{}/{}] {name}", self.done, self.total)
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.finish();
    }
}

impl Shown {
    fn bars(total_steps: u64) -> Self {
        let style = |template| {
            let style = ProgressStyle::with_template(template);
            // Colour is dropped by the library itself where NO_COLOR is set.
            style
                .unwrap_or_else(|_| ProgressStyle::default_bar())
                .progress_chars("━╸─")
        };
        let screen = MultiProgress::new();
        let overall = ProgressBar::new(total_steps).with_style(style(
            "{bar:40.cyan/dim} {pos}/{len}  {elapsed_precise}, about {eta} left",
        ));
        let current =
            ProgressBar::new_spinner().with_style(style("{spinner} {wide_msg} {elapsed:.dim}"));
        let overall = screen.add(overall);
        let current = screen.add(current);
        overall.enable_steady_tick(REDRAW_INTERVAL);
        current.enable_steady_tick(REDRAW_INTERVAL);
        Self::Bars {
            screen,
            overall,
            current,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_count_the_steps() {
        let mut progress = Progress {
            total: 2,
            done: 0,
            shown: Shown::Nothing,
        };
        progress.step("echo_2k");
        assert_eq!(progress.line("echo_2k"), "[1/2] echo_2k");
        progress.step("broadcast_2k");
        assert_eq!(progress.line("broadcast_2k"), "[2/2] broadcast_2k");
    }

    #[test]
    fn the_bars_are_drawn_as_they_are_written() {
        for template in [
            "{bar:40.cyan/dim} {pos}/{len}  {elapsed_precise}, about {eta} left",
            "{spinner} {wide_msg} {elapsed:.dim}",
        ] {
            assert!(ProgressStyle::with_template(template).is_ok());
        }
        let mut progress = Progress {
            total: 3,
            done: 0,
            shown: Shown::bars(3),
        };
        progress.step("echo_2k");
        progress.note("a note");
        progress.finish();
    }
}

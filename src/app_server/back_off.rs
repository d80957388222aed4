//! How long to wait before the next attempt to connect.
//!
//! As the SDK does it: nothing before the first attempt, then 1, 2, 4 … 32 and at last 60 seconds, each with up to a second of
//! chance on top, so that many app servers do not return in step. Other than the SDK, which reconnects without a pause after
//! a connection that was accepted and then dropped, a connection that lasts only for a moment counts as a failure too: an
//! overloaded service would otherwise be asked some 40 times a second by each of them.
//!
//! Pure: time and chance are arguments.

use std::time::Duration;

/// Failures in a row, and what follows from them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct BackOff {
    failures: u32,
}

impl BackOff {
    /// A connection that ends sooner than this has failed.
    pub(super) const LASTING: Duration = Duration::from_secs(5);

    /// The wait before the next attempt, counted from the start of the one before. `chance` is anything from 0 to 65535.
    pub(super) fn delay(self, chance: u16) -> Duration {
        match self.failures.checked_sub(1) {
            None => Duration::ZERO,
            Some(doublings) => {
                let seconds = match doublings {
                    0..=5 => 1 << doublings,
                    6.. => DELAY_SECONDS_MAX,
                };
                Duration::from_secs(seconds) + CHANCE_MAX * u32::from(chance) / u32::from(u16::MAX)
            }
        }
    }

    /// An attempt did not lead to a connection.
    pub(super) fn on_failure(&mut self) {
        self.failures = self.failures.saturating_add(1);
    }

    /// A connection has ended after `lasted`.
    pub(super) fn on_end(&mut self, lasted: Duration) {
        if lasted < Self::LASTING {
            self.on_failure();
        } else {
            self.failures = 0;
        }
    }
}

const DELAY_SECONDS_MAX: u64 = 60;

const CHANCE_MAX: Duration = Duration::from_secs(1);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_waits_are_those_of_the_sdk() {
        let mut back_off = BackOff::default();
        let mut seconds = Vec::new();
        for _ in 0..10 {
            seconds.push(back_off.delay(0).as_secs());
            back_off.on_failure();
        }
        assert_eq!(seconds, [0, 1, 2, 4, 8, 16, 32, 60, 60, 60]);
    }

    #[test]
    fn chance_adds_a_second_at_most_and_nothing_to_the_first_attempt() {
        let mut back_off = BackOff::default();
        assert_eq!(back_off.delay(u16::MAX), Duration::ZERO);
        back_off.on_failure();
        assert_eq!(back_off.delay(u16::MAX), Duration::from_secs(2));
        assert!(back_off.delay(u16::MAX / 2) < Duration::from_millis(1500));
    }

    #[test]
    fn a_connection_that_lasted_forgets_what_was_before() {
        let mut back_off = BackOff::default();
        back_off.on_failure();
        back_off.on_failure();
        back_off.on_end(BackOff::LASTING);
        assert_eq!(back_off.delay(0), Duration::ZERO);
    }

    #[test]
    fn accept_then_drop_slows_down_like_a_refusal() {
        let mut back_off = BackOff::default();
        for _ in 0..4 {
            back_off.on_end(Duration::from_millis(20));
        }
        assert_eq!(back_off.delay(0), Duration::from_secs(8));
    }
}

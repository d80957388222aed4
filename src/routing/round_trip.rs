//! How long a ping to an app server and back takes.
//!
//! The SDK returns an `echo` ping unchanged. One is under way at a time; one that is never returned, because the peer knows no echoes, is
//! the last. What was sent here is a number, so an echo with another text, or with another number, is not ours and means nothing.

use std::time::{Duration, Instant};

use crate::limits::ECHO_INTERVAL;

/// Of one server connection.
#[derive(Debug)]
pub(super) struct RoundTrip {
    /// The number of the last echo.
    number: u64,
    /// When it was sent, until it has come back.
    sent: Option<Instant>,
    next: Instant,
    smoothed: Option<Duration>,
}

impl RoundTrip {
    pub(super) fn new(now: Instant) -> Self {
        Self {
            number: 0,
            sent: None,
            next: now + ECHO_INTERVAL,
            smoothed: None,
        }
    }

    /// The number to send as an echo, if it is time.
    pub(super) fn poll(&mut self, now: Instant) -> Option<u64> {
        if self.sent.is_some() || now < self.next {
            return None;
        }
        self.number += 1;
        self.sent = Some(now);
        self.next = now + ECHO_INTERVAL;
        Some(self.number)
    }

    /// An echo has come.
    pub(super) fn on_echo(&mut self, number: u64, now: Instant) {
        // As TCP smooths its own (RFC 6298 §2).
        const WEIGHT: u32 = 8;
        if number != self.number {
            return;
        }
        if let Some(sent) = self.sent.take() {
            let sample = now.saturating_duration_since(sent);
            self.smoothed = Some(match self.smoothed {
                Some(smoothed) => (smoothed * (WEIGHT - 1) + sample) / WEIGHT,
                None => sample,
            });
        }
    }

    /// The smoothed time, once there has been one.
    pub(super) fn time(&self) -> Option<Duration> {
        self.smoothed
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_echo_is_under_way_at_a_time_and_the_time_is_smoothed() {
        let mut now = Instant::now();
        let mut round_trip = RoundTrip::new(now);
        assert_eq!(round_trip.poll(now), None);
        now += ECHO_INTERVAL;
        assert_eq!(round_trip.poll(now), Some(1));
        assert_eq!(round_trip.time(), None);
        now += Duration::from_millis(80);
        round_trip.on_echo(1, now);
        assert_eq!(round_trip.time(), Some(Duration::from_millis(80)));
        now += ECHO_INTERVAL;
        assert_eq!(round_trip.poll(now), Some(2));
        round_trip.on_echo(2, now);
        assert_eq!(round_trip.time(), Some(Duration::from_millis(70)));
        now += 3 * ECHO_INTERVAL;
        assert_eq!(round_trip.poll(now), Some(3));
        now += 3 * ECHO_INTERVAL;
        assert_eq!(round_trip.poll(now), None, "the third is still under way");
    }

    #[test]
    fn echoes_that_are_not_ours_are_ignored() {
        let mut now = Instant::now();
        let mut round_trip = RoundTrip::new(now);
        round_trip.on_echo(0, now);
        now += ECHO_INTERVAL;
        assert_eq!(round_trip.poll(now), Some(1));
        for number in [0, 2, u64::MAX] {
            round_trip.on_echo(number, now);
        }
        assert_eq!(round_trip.time(), None);
        round_trip.on_echo(1, now + Duration::from_millis(5));
        round_trip.on_echo(1, now + Duration::from_millis(500));
        assert_eq!(round_trip.time(), Some(Duration::from_millis(5)));
    }
}

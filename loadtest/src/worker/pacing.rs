//! When messages are due if they do not wait for each other (open loop).
//!
//! Clients take turns, each at the same distance from the one before, whichever worker they belong to: message number k of all clients is
//! due k intervals after the start, and is that of client k modulo their count. What is late is sent at once; that it was late counts,
//! since its latency is taken from the time at which it was due.

use std::time::{Duration, Instant};

use crate::job::Job;

/// The due times of the clients of one worker.
#[derive(Debug)]
pub(crate) struct Schedule {
    start: Instant,
    interval_ns: f64,
    clients: u32,
    first_client: u32,
    clients_total: u32,
    /// How often each client has had its turn.
    round: u64,
    /// The position of the client that is next.
    position: u32,
}

impl Schedule {
    /// `per_second` messages of all clients of all workers.
    pub(crate) fn new(job: &Job, per_second: f64, start: Instant) -> Self {
        Self {
            start,
            interval_ns: 1e9 / per_second.max(f64::MIN_POSITIVE),
            clients: job.clients,
            first_client: job.first_client,
            clients_total: job.clients_total.max(1),
            round: 0,
            position: 0,
        }
    }

    /// When the next message is due.
    pub(crate) fn next_due(&self) -> Option<Instant> {
        if self.clients == 0 {
            return None;
        }
        let number = u64::from(self.first_client + self.position);
        let before = self.round * u64::from(self.clients_total) + number;
        #[expect(
            clippy::cast_precision_loss,
            clippy::cast_sign_loss,
            reason = "a count of messages and nanoseconds of a measurement, never negative"
        )]
        let since_start_ns = (before as f64 * self.interval_ns) as u64;
        self.start.checked_add(Duration::from_nanos(since_start_ns))
    }

    /// The position of the client whose message is due at `now`, and since when. That of the one behind it is next.
    pub(crate) fn take_due(&mut self, now: Instant) -> Option<(usize, Instant)> {
        let due = self.next_due().filter(|due| *due <= now)?;
        let position = self.position as usize;
        self.position += 1;
        if self.position == self.clients {
            self.position = 0;
            self.round += 1;
        }
        Some((position, due))
    }

    /// How many messages are due at `now` but have not been taken.
    pub(crate) fn behind(&self, now: Instant) -> u64 {
        let mut later = Self { ..*self };
        std::iter::from_fn(|| later.take_due(now)).count() as u64
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::job::{HubProtocol, Load, Target};

    fn job(first_client: u32, clients: u32) -> Job {
        let address = ([127, 0, 0, 1], 0).into();
        Job {
            target: Target::Floor {
                clients: address,
                servers: address,
            },
            load: Load::Idle,
            clients,
            first_client,
            clients_total: 5,
            plays_other_side: false,
            server_connections: 0,
            payload_bytes: 0,
            hub_protocol: HubProtocol::Json,
            checked_one_in: 0,
            progress: None,
            core: 0,
            watched: Vec::new(),
        }
    }

    #[test]
    fn the_clients_of_all_workers_take_turns_at_equal_distances() {
        let start = Instant::now();
        let at = |ms| start + Duration::from_millis(ms);
        let mut first = Schedule::new(&job(0, 3), 1000.0, start);
        let mut second = Schedule::new(&job(3, 2), 1000.0, start);
        assert_eq!(first.take_due(at(0)), Some((0, at(0))));
        assert_eq!(first.take_due(at(0)), None);
        assert_eq!(first.next_due(), Some(at(1)));
        assert_eq!(second.take_due(at(2)), None);
        // Late messages keep their times.
        assert_eq!(second.behind(at(8)), 3);
        for expected in [(0, at(3)), (1, at(4)), (0, at(8))] {
            assert_eq!(second.take_due(at(8)), Some(expected));
        }
        assert_eq!(second.take_due(at(8)), None);
        assert_eq!(second.behind(at(8)), 0);
        for expected in [(1, at(1)), (2, at(2)), (0, at(5))] {
            assert_eq!(first.take_due(at(5)), Some(expected));
        }
    }

    #[test]
    fn without_clients_nothing_is_due() {
        let now = Instant::now();
        let mut schedule = Schedule::new(&job(0, 0), 1000.0, now);
        assert_eq!(schedule.next_due(), None);
        assert_eq!(schedule.take_due(now + Duration::from_secs(1)), None);
    }
}

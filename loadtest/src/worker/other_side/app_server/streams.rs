//! When the app server calls what: every load is a few streams of calls, each at a pace of its own.

use std::time::{Duration, Instant};

use super::memberships::GroupRule;
use crate::job::{Job, Load, MIXED_SHARES, Pacing};

/// What a call does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::worker) enum CallKind {
    SendToAll,
    SendToConnection,
    SendToUser,
    SendToGroup,
    /// Joins or leaves a group.
    Membership,
}

/// Calls of one kind, one after the other.
#[derive(Debug)]
pub(in crate::worker) struct Stream {
    kind: CallKind,
    pace: Pace,
    /// Calls made so far. It goes on counting from one measurement to the next, so that whose turn it is goes on too.
    made: u64,
}

#[derive(Debug)]
enum Pace {
    /// So many calls at once, whenever no more than that is under way: deliveries, or joins and leaves.
    WhenArrived { calls: u64, under_way_max: u64 },
    /// At their times.
    OnTime(Schedule),
}

/// Times at equal distances.
#[derive(Debug)]
struct Schedule {
    per_second: f64,
    /// When it began, and which call came first; `None` before the first measurement.
    began: Option<(Instant, u64)>,
}

impl Stream {
    /// The streams of what `job` wants.
    pub(in crate::worker) fn of(job: &Job, groups: GroupRule) -> Vec<Self> {
        let clients = u64::from(job.clients_total);
        let group_members = groups.in_turn(0).map_or(1, |(_, members)| members);
        match job.load {
            Load::Echo { .. } | Load::Idle | Load::Connect { .. } | Load::Reconnect { .. } => {
                Vec::new()
            }
            Load::Broadcast {
                burst,
                overlap_percent,
            } => vec![Self::burst(burst.into(), overlap_percent.into(), clients)],
            Load::SendToConnection { pacing } => {
                vec![Self::paced(CallKind::SendToConnection, pacing, 1)]
            }
            Load::SendToUser { pacing } => vec![Self::paced(CallKind::SendToUser, pacing, 1)],
            Load::SendToGroup { pacing, .. } => {
                vec![Self::paced(CallKind::SendToGroup, pacing, group_members)]
            }
            Load::Membership { pacing, .. } => vec![Self::paced(CallKind::Membership, pacing, 1)],
            Load::SlowConsumers { per_second, .. } => {
                vec![Self::timed(CallKind::SendToAll, f64::from(per_second))]
            }
            Load::Mixed { per_second } => Self::mixed(per_second, clients, group_members),
        }
    }

    pub(in crate::worker) fn kind(&self) -> CallKind {
        self.kind
    }

    /// Whether calls wait for their times only.
    pub(in crate::worker) fn is_timed(&self) -> bool {
        matches!(self.pace, Pace::OnTime(_))
    }

    /// Begins at `now`, or goes on: what was due while it stood still is not made up for.
    pub(in crate::worker) fn start(&mut self, now: Instant) {
        if let Pace::OnTime(schedule) = &mut self.pace {
            schedule.began = Some((now, self.made));
        }
    }

    /// How many calls to make at `now`, if so much is under way.
    pub(in crate::worker) fn due(&self, now: Instant, under_way: u64) -> u64 {
        match &self.pace {
            Pace::WhenArrived {
                calls,
                under_way_max,
            } if under_way <= *under_way_max => *calls,
            Pace::WhenArrived { .. } => 0,
            Pace::OnTime(schedule) => schedule.until(now).saturating_sub(self.made),
        }
    }

    /// When the next call is due, if that is a matter of time.
    pub(in crate::worker) fn next_due(&self) -> Option<Instant> {
        match &self.pace {
            Pace::WhenArrived { .. } => None,
            Pace::OnTime(schedule) => schedule.time_of(self.made),
        }
    }

    /// The number of the next call, which is made now.
    pub(in crate::worker) fn next(&mut self) -> u64 {
        self.made += 1;
        self.made - 1
    }

    /// When a call was due that is made at `now`.
    pub(in crate::worker) fn time_of(&self, number: u64, now: Instant) -> Instant {
        match &self.pace {
            Pace::WhenArrived { .. } => now,
            Pace::OnTime(schedule) => schedule.time_of(number).unwrap_or(now),
        }
    }

    /// The number of the burst that a call is part of. A call at its time is one by itself.
    pub(in crate::worker) fn burst_of(&self, number: u64) -> u64 {
        match &self.pace {
            Pace::WhenArrived { calls, .. } => number.checked_div(*calls).unwrap_or_default(),
            Pace::OnTime(_) => number,
        }
    }

    fn burst(calls: u64, overlap_percent: u64, clients: u64) -> Self {
        let pace = Pace::WhenArrived {
            calls,
            under_way_max: calls * clients * overlap_percent / 100,
        };
        Self::new(CallKind::SendToAll, pace)
    }

    fn paced(kind: CallKind, pacing: Pacing, deliveries: u64) -> Self {
        match pacing {
            Pacing::Closed { depth } => {
                let pace = Pace::WhenArrived {
                    calls: 1,
                    under_way_max: u64::from(depth.saturating_sub(1)) * deliveries,
                };
                Self::new(kind, pace)
            }
            Pacing::Open { per_second } => Self::timed(kind, f64::from(per_second)),
        }
    }

    fn timed(kind: CallKind, per_second: f64) -> Self {
        let schedule = Schedule {
            per_second,
            began: None,
        };
        Self::new(kind, Pace::OnTime(schedule))
    }

    /// The echoes are the clients' own. The rates of the rest are such that deliveries have their shares.
    fn mixed(per_second: u32, clients: u64, group_members: u64) -> Vec<Self> {
        let shares = MIXED_SHARES;
        let stream = |kind, percent: u32, deliveries: u64| {
            let share = f64::from(per_second) * f64::from(percent) / 100.0;
            Self::timed(kind, share / f64::from(deliveries.max(1) as u32))
        };
        vec![
            stream(CallKind::SendToAll, shares.to_all_percent, clients),
            stream(CallKind::SendToUser, shares.to_users_percent, 1),
            stream(
                CallKind::SendToGroup,
                shares.to_groups_percent,
                group_members,
            ),
            stream(CallKind::Membership, shares.memberships_percent, 1),
        ]
    }

    fn new(kind: CallKind, pace: Pace) -> Self {
        Self {
            kind,
            pace,
            made: 0,
        }
    }
}

#[expect(
    clippy::cast_precision_loss,
    clippy::cast_sign_loss,
    reason = "calls of a measurement, and time that has passed"
)]
impl Schedule {
    /// How many calls should have been made by `now`, those before it began included.
    fn until(&self, now: Instant) -> u64 {
        match self.began {
            // The first is due at once, so at any time one more than have passed.
            Some((began, first)) if self.per_second > 0.0 => {
                let passed = now.saturating_duration_since(began).as_secs_f64() * self.per_second;
                first + passed as u64 + 1
            }
            _ => 0,
        }
    }

    fn time_of(&self, call: u64) -> Option<Instant> {
        let (began, first) = self.began.filter(|_| self.per_second > 0.0)?;
        let seconds = call.saturating_sub(first) as f64 / self.per_second;
        Some(began + Duration::from_secs_f64(seconds))
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::job;
    use super::*;

    fn streams(load: Load, clients: u32) -> Vec<Stream> {
        let job = job(load, clients);
        let groups = GroupRule::of(&job.load, u64::from(clients));
        Stream::of(&job, groups)
    }

    #[test]
    fn a_burst_follows_when_enough_of_the_one_before_has_arrived() {
        let now = Instant::now();
        for (overlap_percent, under_way_max) in [(0, 0), (25, 20)] {
            let load = Load::Broadcast {
                burst: 8,
                overlap_percent,
            };
            let [stream] = &mut streams(load, 10)[..] else {
                panic!("a broadcast is one stream");
            };
            assert_eq!(stream.due(now, under_way_max), 8);
            assert_eq!(stream.due(now, under_way_max + 1), 0);
            assert_eq!(stream.next_due(), None);
            for burst in [0, 0, 0, 0, 0, 0, 0, 0, 1, 1] {
                let number = stream.next();
                assert_eq!(stream.burst_of(number), burst);
            }
        }
    }

    #[test]
    fn in_a_closed_loop_the_depth_is_what_may_be_under_way() {
        let now = Instant::now();
        let pacing = Pacing::Closed { depth: 3 };
        let loads = [
            (Load::SendToConnection { pacing }, 1),
            (Load::SendToUser { pacing }, 1),
            (Load::Membership { groups: 5, pacing }, 1),
            (
                Load::SendToGroup {
                    group_members: 10,
                    idle_groups: 0,
                    pacing,
                },
                10,
            ),
        ];
        for (load, deliveries) in loads {
            let streams = streams(load, 100);
            assert_eq!(streams.len(), 1);
            assert_eq!(streams[0].due(now, 2 * deliveries), 1);
            assert_eq!(streams[0].due(now, 2 * deliveries + 1), 0);
        }
    }

    #[test]
    fn in_an_open_loop_calls_are_due_at_their_times() {
        let pacing = Pacing::Open { per_second: 100 };
        let mut streams = streams(Load::SendToUser { pacing }, 10);
        let stream = &mut streams[0];
        let start = Instant::now();
        let at = |ms| start + Duration::from_millis(ms);
        assert_eq!((stream.due(start, 0), stream.next_due()), (0, None));
        stream.start(start);
        assert_eq!(stream.due(at(0), 1_000_000), 1);
        assert_eq!(stream.due(at(35), 0), 4);
        for _ in 0..4 {
            stream.next();
        }
        assert_eq!(stream.due(at(39), 0), 0);
        assert_eq!(stream.next_due(), Some(at(40)));

        // A pause is not made up for.
        stream.start(at(10_000));
        assert_eq!(stream.due(at(10_000), 0), 1);
        assert_eq!(stream.next_due(), Some(at(10_000)));
    }

    #[test]
    fn a_mixed_load_has_its_shares_in_deliveries() {
        let mut streams = streams(Load::Mixed { per_second: 10_000 }, 100);
        let start = Instant::now();
        let mut made = Vec::new();
        for stream in &mut streams {
            stream.start(start);
            made.push((
                stream.kind(),
                stream.due(start + Duration::from_secs(10), 0),
            ));
        }
        assert_eq!(
            made,
            [
                (CallKind::SendToAll, 201),
                (CallKind::SendToUser, 15_001),
                (CallKind::SendToGroup, 1501),
                (CallKind::Membership, 10_001),
            ]
        );
        let shares = MIXED_SHARES;
        let percent = shares.echoes_percent
            + shares.to_all_percent
            + shares.to_users_percent
            + shares.to_groups_percent
            + shares.memberships_percent;
        assert_eq!(percent, 100);
    }

    #[test]
    fn a_rate_of_nothing_is_never_due() {
        let load = Load::SlowConsumers {
            stalled: 1,
            per_second: 0,
        };
        let mut streams = streams(load, 10);
        let now = Instant::now();
        streams[0].start(now);
        assert_eq!(streams[0].due(now + Duration::from_mins(1), 0), 0);
        assert_eq!(streams[0].next_due(), None);
    }
}

//! Which shards want a server connection of a hub, and which app server is asked for it.
//!
//! A client lives on the shard of its server connection, so a hub uses only the shards that have one which takes clients. An app
//! server opens a few, whatever machine the service runs on; it opens another for each `target` ping, up to a limit of its own of
//! which the service learns nothing: at the limit, or when its attempt fails, the SDK stays silent, and what it opened on demand it
//! never opens again. So the service looks at what is there, and asks again where something is missing.
//!
//! Invariants:
//! * A shard is asked for at most once until its connection has come or its time is up; that time doubles with each failure.
//! * Nobody is asked while connections are coming by themselves, as they do when an app server starts or comes back.
//! * The app servers of a hub are asked in turn. One that is new has a limit of its own: what others did not open is asked for anew.

use std::time::{Duration, Instant};

use super::server_pool::Candidate;
use super::{Effect, HubId, Origin, Router};
use crate::id::ShardId;
use crate::limits::{REBALANCE_SETTLE, REBALANCE_WAIT_MAX, REBALANCE_WAIT_MIN};
use crate::protocol::service::ping::ServicePing;
use crate::protocol::service::{Message, Ping};

/// One hub's state, the same for all shards.
#[derive(Debug)]
pub struct Rebalance {
    /// By shard: since when it has had nothing, if it has nothing.
    gaps: Box<[Option<Gap>]>,
    /// Server connections that had come at the last look, and when there was a new one.
    arrivals: u32,
    last_arrival: Option<Instant>,
    /// The app servers that took clients at the last look, in the order of their ids.
    app_servers: Vec<Box<str>>,
    /// Counts the pings, so that the app servers are asked in turn.
    turn: usize,
}

/// A server connection that is wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Wanted {
    /// Where it has to be.
    pub shard: ShardId,
    /// The index of the candidate whose app server is to open it.
    pub through: usize,
}

#[derive(Clone, Copy, Debug)]
struct Gap {
    since: Instant,
    asked: Option<Asked>,
}

#[derive(Clone, Copy, Debug)]
struct Asked {
    /// Until then the connection may still come.
    until: Instant,
    wait: Duration,
}

impl Rebalance {
    /// For a service of so many shards.
    pub fn new(shard_count: usize) -> Self {
        Self {
            gaps: vec![None; shard_count].into(),
            arrivals: 0,
            last_arrival: None,
            app_servers: Vec::new(),
            turn: 0,
        }
    }

    /// What to ask for now. `candidates` are the hub's server connections, and `arrivals` counts those that have ever come, if only
    /// as far as their upgrade.
    pub fn on_tick(
        &mut self,
        candidates: &[Candidate<'_>],
        arrivals: u32,
        now: Instant,
    ) -> Vec<Wanted> {
        if arrivals != self.arrivals {
            self.arrivals = arrivals;
            self.last_arrival = Some(now);
        }
        let app_servers = app_servers(candidates);
        if app_servers.is_empty() {
            return Vec::new();
        }
        self.greet(&app_servers);
        let mut wanted = Vec::new();
        for (index, gap) in self.gaps.iter_mut().enumerate() {
            let shard = ShardId(index as u16);
            if serves(candidates, shard) {
                *gap = None;
                continue;
            }
            let gap = gap.get_or_insert(Gap {
                since: now,
                asked: None,
            });
            let quiet_since = self
                .last_arrival
                .map_or(gap.since, |last| last.max(gap.since));
            if now.duration_since(quiet_since) < REBALANCE_SETTLE || !gap.is_due(now) {
                continue;
            }
            gap.ask(now);
            if let Some((_, through)) = app_servers.get(self.turn % app_servers.len()) {
                self.turn = self.turn.wrapping_add(1);
                wanted.push(Wanted {
                    shard,
                    through: *through,
                });
            }
        }
        wanted
    }

    /// Looks for app servers that are new. That others have not opened a connection says nothing about them.
    fn greet(&mut self, app_servers: &[(&str, usize)]) {
        let is_known = |id: &str| self.app_servers.binary_search_by(|known| (**known).cmp(id));
        let is_any_new = app_servers.iter().any(|(id, _)| is_known(id).is_err());
        if is_any_new {
            for gap in self.gaps.iter_mut().flatten() {
                gap.asked = None;
            }
        }
        if is_any_new || app_servers.len() != self.app_servers.len() {
            self.app_servers = app_servers.iter().map(|(id, _)| (*id).into()).collect();
        }
    }
}

impl Gap {
    fn is_due(&self, now: Instant) -> bool {
        self.asked.is_none_or(|asked| now >= asked.until)
    }

    fn ask(&mut self, now: Instant) {
        let wait = self.asked.map_or(REBALANCE_WAIT_MIN, |asked| {
            (asked.wait * 2).min(REBALANCE_WAIT_MAX)
        });
        self.asked = Some(Asked {
            until: now + wait,
            wait,
        });
    }
}

/// The shard that looks after a hub: the first on which it has a server connection that takes clients.
pub fn caretaker(candidates: &[Candidate<'_>]) -> Option<ShardId> {
    let routable = candidates.iter().filter(|candidate| candidate.is_routable);
    routable.map(|candidate| candidate.shard).min()
}

/// What an app server is told to put into the URL of a server connection that shall be on `shard`.
pub fn target(instance_id: &str, shard: ShardId) -> String {
    format!("{instance_id}.{shard}")
}

/// The shard that a target names, if it is one of this instance's. An instance id may hold any text.
pub fn shard_of_target(target: &str, instance_id: &str, shard_count: usize) -> Option<ShardId> {
    let (instance, shard) = target.rsplit_once('.')?;
    let shard = ShardId(shard.parse().ok()?);
    (instance == instance_id && shard.index() < shard_count).then_some(shard)
}

impl Router {
    /// Asks an app server for another server connection, which shall be on `shard`.
    pub fn ask_for_server(
        &mut self,
        hub: HubId,
        through: &Origin,
        shard: ShardId,
        effects: &mut Vec<Effect>,
    ) {
        let ping = ServicePing::Rebalance(target(&self.instance_id, shard).into());
        let mut messages = Vec::new();
        Message::<&[u8]>::from(Ping::from(ping)).encode(&mut messages);
        self.counters.servers_asked_for.increment();
        self.answer(hub, through, messages, effects);
    }
}

/// Each app server that takes clients, in the order of their ids, with the index of the first of its server connections that does.
fn app_servers<'a>(candidates: &[Candidate<'a>]) -> Vec<(&'a str, usize)> {
    let mut routable: Vec<(&str, usize)> = (0..)
        .zip(candidates)
        .filter(|(_, candidate)| candidate.is_routable)
        .map(|(index, candidate)| (candidate.server_id, index))
        .collect();
    routable.sort_unstable();
    routable.dedup_by_key(|(server_id, _)| *server_id);
    routable
}

fn serves(candidates: &[Candidate<'_>], shard: ShardId) -> bool {
    candidates
        .iter()
        .any(|candidate| candidate.is_routable && candidate.shard == shard)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::limits::TICK;

    /// A hub whose app servers open what they are asked for, or do not.
    struct Hub {
        rebalance: Rebalance,
        servers: Vec<(&'static str, u16, bool)>,
        arrivals: u32,
        started: Instant,
        now: Instant,
    }

    impl Hub {
        fn new(shard_count: usize) -> Self {
            let now = Instant::now();
            Self {
                rebalance: Rebalance::new(shard_count),
                servers: Vec::new(),
                arrivals: 0,
                started: now,
                now,
            }
        }

        fn of(shard_count: usize, servers: &[(&'static str, u16)]) -> Self {
            let mut hub = Self::new(shard_count);
            for (server_id, shard) in servers {
                hub.arrive(server_id, *shard);
            }
            hub
        }

        fn arrive(&mut self, server_id: &'static str, shard: u16) {
            self.servers.push((server_id, shard, true));
            self.arrivals += 1;
        }

        /// What is asked for at this moment: of which app server, for which shard.
        fn look(&mut self) -> Vec<(&'static str, u16)> {
            let candidates: Vec<Candidate<'_>> = self
                .servers
                .iter()
                .map(|(server_id, shard, is_routable)| Candidate {
                    server_id,
                    shard: ShardId(*shard),
                    is_routable: *is_routable,
                    client_count: 0,
                })
                .collect();
            let wanted = self.rebalance.on_tick(&candidates, self.arrivals, self.now);
            let asked = |wanted: Wanted| (self.servers[wanted.through].0, wanted.shard.0);
            wanted.into_iter().map(asked).collect()
        }

        /// Looks at every tick of some time. What was asked for, with the seconds since the start.
        fn pass(&mut self, time: Duration) -> Vec<(u64, &'static str, u16)> {
            let end = self.now + time;
            let mut all = Vec::new();
            while self.now < end {
                self.now += TICK;
                let seconds = self.now.duration_since(self.started).as_secs();
                let asked = self.look();
                all.extend(asked.into_iter().map(|(id, shard)| (seconds, id, shard)));
            }
            all
        }
    }

    #[test]
    fn a_hub_that_is_on_every_shard_asks_for_nothing() {
        let mut hub = Hub::of(4, &[("a", 0), ("a", 1), ("a", 2), ("a", 3), ("a", 0)]);
        assert_eq!(hub.pass(Duration::from_mins(10)), []);
    }

    #[test]
    fn each_shard_without_a_connection_is_asked_for_once_when_no_more_come() {
        let mut hub = Hub::of(8, &[("a", 0), ("a", 1), ("a", 2)]);
        assert_eq!(hub.look(), [], "the others may be under way");
        hub.now += REBALANCE_SETTLE.saturating_sub(TICK);
        hub.arrive("a", 3);
        hub.arrive("a", 4);
        assert_eq!(hub.look(), []);
        hub.now += REBALANCE_SETTLE;
        assert_eq!(hub.look(), [("a", 5), ("a", 6), ("a", 7)]);
        assert_eq!(hub.look(), [], "they are under way");
        for shard in 5..8 {
            hub.arrive("a", shard);
        }
        assert_eq!(hub.pass(Duration::from_mins(10)), []);
    }

    #[test]
    fn app_servers_are_asked_in_turn() {
        let mut hub = Hub::of(6, &[("b", 0), ("a", 0), ("b", 0)]);
        hub.look();
        hub.now += REBALANCE_SETTLE;
        let asked = hub.look();
        assert_eq!(asked, [("a", 1), ("b", 2), ("a", 3), ("b", 4), ("a", 5)]);
    }

    #[test]
    fn when_nothing_comes_the_pauses_double_up_to_their_limit() {
        let mut hub = Hub::of(2, &[("a", 0)]);
        hub.look();
        hub.now += REBALANCE_SETTLE;
        hub.started = hub.now;
        assert_eq!(hub.look(), [("a", 1)]);
        let asked = hub.pass(Duration::from_mins(30));
        let times: Vec<u64> = asked.iter().map(|(seconds, ..)| *seconds).collect();
        assert_eq!(
            times,
            [5, 15, 35, 75, 155, 315, 615, 915, 1215, 1515],
            "seconds after the first"
        );
    }

    #[test]
    fn once_it_came_a_loss_is_asked_for_without_a_pause() {
        let mut hub = Hub::of(2, &[("a", 0)]);
        assert_eq!(hub.pass(Duration::from_mins(10)).len(), 7);
        hub.arrive("a", 1);
        assert_eq!(hub.pass(Duration::from_mins(1)), []);
        hub.servers.pop();
        hub.started = hub.now;
        let asked = hub.pass(Duration::from_secs(10));
        assert_eq!(asked, [(2, "a", 1), (7, "a", 1)]);
    }

    #[test]
    fn what_takes_no_clients_does_not_count_and_is_not_asked() {
        let mut hub = Hub::of(2, &[("a", 0), ("b", 0), ("a", 1)]);
        hub.servers[0].2 = false;
        hub.servers[2].2 = false;
        hub.look();
        hub.now += REBALANCE_SETTLE;
        assert_eq!(hub.look(), [("b", 1)]);
    }

    #[test]
    fn a_new_app_server_is_asked_though_others_could_open_no_more() {
        let mut hub = Hub::of(2, &[("a", 0)]);
        assert_eq!(hub.pass(Duration::from_mins(10)).len(), 7);
        hub.arrive("b", 0);
        hub.started = hub.now;
        let asked = hub.pass(Duration::from_secs(10));
        assert_eq!(asked, [(2, "b", 1), (7, "a", 1)]);
        hub.servers.retain(|(id, ..)| *id == "b");
        assert_eq!(hub.pass(Duration::from_secs(5)), [], "nobody is new");
    }

    /// Nobody looks after a hub that has nobody, so the one that comes next finds what was left.
    #[test]
    fn an_app_server_that_follows_on_another_is_asked_at_once() {
        let mut hub = Hub::of(2, &[("a", 0)]);
        assert_eq!(hub.pass(Duration::from_mins(10)).len(), 7);
        hub.servers.clear();
        assert_eq!(hub.look(), [], "there is nobody to ask");
        hub.arrive("b", 0);
        hub.started = hub.now;
        let asked = hub.pass(Duration::from_secs(10));
        assert_eq!(asked, [(2, "b", 1), (7, "b", 1)], "a new one, a new limit");
    }

    #[test]
    fn the_first_shard_that_is_served_looks_after_the_hub() {
        let candidate = |shard, is_routable| Candidate {
            server_id: "a",
            shard: ShardId(shard),
            is_routable,
            client_count: 0,
        };
        assert_eq!(caretaker(&[]), None);
        assert_eq!(caretaker(&[candidate(0, false)]), None);
        let candidates = [candidate(3, true), candidate(0, false), candidate(2, true)];
        assert_eq!(caretaker(&candidates), Some(ShardId(2)));
    }

    #[test]
    fn a_target_names_a_shard_of_this_instance_or_none() {
        for instance in ["5eed", "a.b.7", "", "é /"] {
            let shard = ShardId(7);
            let target = target(instance, shard);
            assert_eq!(shard_of_target(&target, instance, 8), Some(shard));
            assert_eq!(shard_of_target(&target, instance, 7), None, "no such shard");
            assert_eq!(shard_of_target(&target, "other", 8), None);
        }
        for text in ["", "7", "5eed", "5eed.", "5eed.x", "5eed.-1", "5eed.65536"] {
            assert_eq!(shard_of_target(text, "5eed", 8), None, "{text}");
        }
    }
}

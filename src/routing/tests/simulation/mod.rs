//! Many worlds in which anything happens in any order.
//!
//! App servers join, hang, say that they shut down, and die. Clients come, are slow with their handshakes or wrong about them, talk and
//! go. Mails between shards are late: only those from one shard to another keep their order. Time passes in small steps and in leaps.
//!
//! What must hold is looked at in three places:
//! * `check` of each router, after each event: the tables agree, every client is bound to a living server connection of its shard.
//! * The world, with each effect: nothing overtakes a handshake response, nothing is sent behind an end, no app server hears of a client
//!   that it was not told of.
//! * Here, against a model of who should hear what: each message at most once, in order and by nobody else; what a client says reaches its
//!   app server whole, also when it moves to another or is parked; each call and each question is answered once. Whenever all mails have arrived ([`settled`]), nobody still waits for anything,
//!   and groups, users and hubs reach exactly those that they should. In the end nothing is left.
//!
//! A world follows from its seed alone:
//!
//! ```text
//! HUBRING_SEED=17 cargo test --lib routing::tests::simulation        that world, with its journal
//! HUBRING_SEEDS=100000 cargo test --lib routing::tests::simulation   a long hunt
//! ```

mod app_servers;
mod clients;
mod fan_out;
mod groups;
mod invocations;
mod journal;
mod random;
mod received;
mod requests;
mod settled;
mod talk;
mod time;
mod user_groups;

use std::collections::{BTreeMap, VecDeque};
use std::fmt;
use std::panic::catch_unwind;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use self::app_servers::ServerModel;
use self::clients::{Arrival, ClientModel};
use self::fan_out::Sending;
use self::groups::Memberships;
use self::invocations::Invoked;
use self::journal::Journal;
use self::random::Random;
use self::requests::{CloseOrdered, Request, Wanted};
use self::user_groups::UserGroupsModel;
use super::messages::{
    broadcast, close_connection, close_group, close_hub, close_user, completion, connection_exists,
    error_completion, group_exists, is_user_in_group, join, join_with_ack, leave, leave_with_ack,
    ping, user_exists, user_join, user_join_with_ack, user_leave, user_leave_with_ack,
};
use super::*;
use crate::limits::PARKING_DEFAULT;

const SEEDS: u64 = 2_000;
const STEPS: usize = 100;
const STEPS_BETWEEN_LOOKS: usize = 50;
const THREADS: usize = 2;

const SHARDS_MAX: usize = 4;
const HUBS: [HubId; 2] = [CHAT, NEWS];
const USERS: [&str; 2] = ["ann", "bob"];
const GROUPS: [&str; 3] = ["x", "y", "z"];

#[test]
fn all_invariants_hold_whatever_happens_in_whatever_order() {
    if let Some(seed) = number_in("HUBRING_SEED") {
        return Simulation::run(seed, true);
    }
    let seeds = number_in("HUBRING_SEEDS").unwrap_or(SEEDS);
    if let Some(seed) = first_failure(seeds) {
        eprintln!("to run this world alone: HUBRING_SEED={seed}");
        Simulation::run(seed, true);
        panic!("the world of seed {seed} fails, but not when it is run again");
    }
}

fn number_in(variable: &str) -> Option<u64> {
    let text = std::env::var(variable).ok()?;
    Some(text.parse().expect("a number"))
}

fn first_failure(seeds: u64) -> Option<u64> {
    let (next, failed) = (AtomicU64::new(0), AtomicU64::new(u64::MAX));
    let hunt = || {
        loop {
            let seed = next.fetch_add(1, Ordering::Relaxed);
            if seed >= seeds || failed.load(Ordering::Relaxed) != u64::MAX {
                return;
            }
            if catch_unwind(|| Simulation::run(seed, false)).is_err() {
                failed.fetch_min(seed, Ordering::Relaxed);
            }
        }
    };
    thread::scope(|scope| {
        for _ in 0..THREADS {
            scope.spawn(hunt);
        }
    });
    Some(failed.into_inner()).filter(|seed| *seed != u64::MAX)
}

struct Simulation {
    random: Random,
    world: World,
    journal: Journal,
    /// Whether clients may be kept when their server connection is lost.
    parks: bool,
    /// Counts everything that has to be told apart: messages, acks, invocations.
    number: i32,
    /// As in the world, by `ServerEnd`.
    servers: Vec<ServerModel>,
    /// As in the world, by `ClientEnd`.
    clients: Vec<ClientModel>,
    /// Clients that have a place and are not yet on their shard.
    arriving: VecDeque<Arrival>,
    sendings: BTreeMap<i32, Sending>,
    memberships: Memberships,
    user_groups: UserGroupsModel,
    requests: BTreeMap<i32, Request>,
    /// Since all mails have arrived.
    closes_ordered: Vec<CloseOrdered>,
    invoked: BTreeMap<i32, Invoked>,
    /// Who hears the message that is being followed.
    followed: Option<i32>,
    hearers: Vec<ClientEnd>,
}

impl Simulation {
    fn run(seed: u64, is_told: bool) {
        let mut simulation = Self::new(seed, is_told);
        simulation.begin();
        for step in 1..=STEPS {
            simulation.step();
            if step % STEPS_BETWEEN_LOOKS == 0 {
                simulation.look_round();
            }
        }
        simulation.end();
    }

    fn new(seed: u64, is_told: bool) -> Self {
        let mut random = Random::new(seed);
        let mut world = World::new(1 + random.below(SHARDS_MAX) as u16);
        let parks = random.one_in(3);
        for router in &mut world.routers {
            router.park_on_drop(parks.then_some(PARKING_DEFAULT));
        }
        Self {
            random,
            journal: Journal::new(is_told, world.now),
            parks,
            world,
            number: 0,
            servers: Vec::new(),
            clients: Vec::new(),
            arriving: VecDeque::new(),
            sendings: BTreeMap::new(),
            memberships: Memberships::default(),
            user_groups: UserGroupsModel::default(),
            requests: BTreeMap::new(),
            closes_ordered: Vec::new(),
            invoked: BTreeMap::new(),
            followed: None,
            hearers: Vec::new(),
        }
    }

    /// Some are there already.
    fn begin(&mut self) {
        for _ in 0..4 {
            self.server_joins();
        }
        for _ in 0..6 {
            self.client_is_placed();
            self.client_arrives();
            self.client_says_hello();
            self.handshake_is_answered();
        }
    }

    /// Something happens; what cannot happen at the moment is passed over.
    fn step(&mut self) {
        let count = self.journal.steps();
        while self.journal.steps() == count {
            self.try_step();
        }
        if self.random.one_in(2) {
            self.clients_move();
        }
        self.read_all();
    }

    fn try_step(&mut self) {
        match self.random.below(110) {
            0..=4 => self.server_joins(),
            5..=12 => self.client_is_placed(),
            13..=20 => self.client_arrives(),
            21..=32 => self.client_says_hello(),
            33..=40 => self.handshake_is_answered(),
            41..=45 => self.client_talks(),
            46..=47 => self.call_is_answered(),
            48..=49 => self.client_leaves(),
            50 => self.server_ends(),
            51..=53 => self.client_is_closed(),
            54..=65 => self.fan_out(),
            66..=72 => self.change_membership(),
            73..=77 => self.change_user_groups(),
            78..=81 => self.invoke(),
            82..=84 => self.complete(),
            85..=88 => self.somebody_asks(),
            89 => self.many_are_closed(),
            90..=106 => self.mail_arrives(),
            _ => self.time_passes(),
        }
    }

    /// Turns of the shards end, and those move who can.
    fn clients_move(&mut self) {
        for shard in 0..self.world.routers.len() {
            while self.world.routers[shard].has_moves() {
                let mut effects = Vec::new();
                self.world.routers[shard].on_turn(&mut effects);
                self.world.apply(shard, effects, &[]);
            }
        }
    }

    fn mail_arrives(&mut self) {
        let shard_count = self.world.routers.len();
        let mut waiting: Vec<(usize, usize)> = Vec::new();
        for to in 0..shard_count {
            for (from, _) in &self.world.mails[to] {
                if !waiting.contains(&(to, *from)) {
                    waiting.push((to, *from));
                }
            }
        }
        if let Some((to, from)) = self.random.pick_any(&waiting) {
            self.log(format_args!("shard {to} takes a mail from shard {from}"));
            self.world.take_mail_from(to, from);
        }
    }

    fn log(&mut self, what: fmt::Arguments<'_>) {
        self.journal.step(self.world.now, what);
    }

    fn number(&mut self) -> i32 {
        self.number += 1;
        self.number
    }
}

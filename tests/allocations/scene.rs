//! A service with its peers, all warm, and what some work costs one of its shards.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use hubring::counters::{Counter, Counters};
use hubring::frame::websocket::Data;
use hubring::protocol::service::Message;

use crate::counting;
use crate::peers::{ACCEPTED, AppServer, Client, Heard, Peer, read};
use crate::stage::Stage;

/// Rounds until every table, pool and outbox has grown as far as it will.
const WARM_UP_ROUNDS: usize = 30;
/// Rounds of one measurement.
pub(crate) const ROUNDS: usize = 10;
/// A timer may fall into a measurement. What the work itself needs, it needs in all of them.
const MEASUREMENTS_MAX: usize = 20;

/// See the module.
pub(crate) struct Scene {
    pub(crate) servers: Vec<AppServer>,
    pub(crate) clients: Vec<Client>,
    pub(crate) stage: Stage,
    /// The kernel's numbers of its shards' threads.
    threads: Vec<i32>,
    /// One scene at a time, for what is counted is the process's.
    _alone: MutexGuard<'static, ()>,
}

/// What [`ROUNDS`] rounds have cost.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Cost {
    /// How often a shard has taken memory.
    pub(crate) allocations: u64,
    /// Payload bytes that all shards have copied.
    pub(crate) copied: Copied,
}

/// Payload bytes copied, by reason.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Copied {
    /// They were tiny.
    pub(crate) joint: u64,
    /// Into the one frame that many clients share.
    pub(crate) fan_out: u64,
    /// For another shard, or on the way from one.
    pub(crate) mail: u64,
    /// Their message was long, or buffers ran short.
    pub(crate) buffers: u64,
}

impl Scene {
    /// A service of so many shards, with server connections and clients that are through their handshakes.
    pub(crate) fn new(shards: u16, servers: usize, clients: usize) -> Self {
        static ALONE: Mutex<()> = Mutex::new(());
        let alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
        // A shard of an earlier scene may not be gone yet.
        let earlier = threads();
        let stage = Stage::new(shards);
        let mut servers = AppServer::connect_all(&stage, servers);
        let clients = (0..clients)
            .map(|_| Client::connect(&stage, &mut servers).0)
            .collect();
        // They have their names by now, since each has spoken.
        let new = threads()
            .into_iter()
            .filter(|thread| !earlier.contains(thread));
        let threads: BTreeMap<String, i32> =
            new.map(|thread| (thread.name, thread.number)).collect();
        let of_shard = |shard| threads[&format!("hubring-shard-{shard}")];
        Self {
            servers,
            clients,
            stage,
            threads: (0..shards).map(of_shard).collect(),
            _alone: alone,
        }
    }

    /// One more client, which speaks a hub protocol and has claims in its token.
    pub(crate) fn connect(&mut self, protocol: &str, claims: &[(&str, &str)]) {
        let request = self.stage.client_request_with(claims);
        let mut peer = Peer::upgrade(&self.stage, request, &[]).unwrap();
        let handshake = format!("{{\"protocol\":\"{protocol}\",\"version\":1}}\u{1e}");
        peer.send(Data::Text, handshake.as_bytes());
        let server = &mut self.servers[0];
        let open = server.next().expect("the server connection has ended");
        assert!(matches!(read(&open), Message::OpenConnection(_)));
        let (id, request) = server.next_data();
        assert!(request == handshake.as_bytes());
        server.send_to(&id, ACCEPTED);
        assert_eq!(peer.hear(), Heard::Bytes(ACCEPTED.to_vec()));
        self.clients.push(Client { peer, id });
    }

    /// What rounds of some work cost a shard in steady state: the first of several measurements that is within what is expected, or the
    /// last of them.
    pub(crate) fn cost(
        &mut self,
        shard: usize,
        expected: Cost,
        mut round: impl FnMut(&mut Self),
    ) -> Cost {
        self.watch(shard);
        for _ in 0..WARM_UP_ROUNDS {
            round(self);
        }
        if let Ok(count) = std::env::var("HUBRING_TRACE_ALLOCATIONS") {
            counting::trace(count.parse().expect("a number"));
        }
        let mut cost = self.measure(&mut round);
        for _ in 1..MEASUREMENTS_MAX {
            if !cost.is_within(expected) {
                cost = self.measure(&mut round);
            }
        }
        counting::watch(0);
        counting::trace(0);
        cost
    }

    fn measure(&mut self, round: &mut impl FnMut(&mut Self)) -> Cost {
        let (allocations, copied) = (counting::allocations(), self.copied());
        for _ in 0..ROUNDS {
            round(self);
        }
        Cost {
            allocations: counting::allocations() - allocations,
            copied: self.copied().since(copied),
        }
    }

    /// Watches the thread of a shard, and sees that it is the right one: a shard that describes itself takes memory.
    fn watch(&self, shard: usize) {
        counting::watch(self.threads[shard]);
        let before = counting::allocations();
        self.stage.server_connections();
        assert!(counting::allocations() > before, "nothing is counted");
    }

    /// A counter, over all shards.
    pub(crate) fn count(&self, counter: impl Fn(&Counters) -> &Counter) -> u64 {
        self.stage.sum(counter)
    }

    fn copied(&self) -> Copied {
        Copied {
            joint: self.count(|counters| &counters.copied_bytes_joint),
            fan_out: self.count(|counters| &counters.copied_bytes_fan_out),
            mail: self.count(|counters| &counters.copied_bytes_mail),
            buffers: self.count(|counters| &counters.copied_bytes_assembled)
                + self.count(|counters| &counters.copied_bytes_detached),
        }
    }
}

impl Cost {
    /// Whether nothing of it is more than expected.
    pub(crate) fn is_within(self, expected: Self) -> bool {
        let (copied, most) = (self.copied, expected.copied);
        self.allocations <= expected.allocations
            && copied.joint <= most.joint
            && copied.fan_out <= most.fan_out
            && copied.mail <= most.mail
            && copied.buffers <= most.buffers
    }
}

impl Copied {
    fn since(self, earlier: Self) -> Self {
        Self {
            joint: self.joint - earlier.joint,
            fan_out: self.fan_out - earlier.fan_out,
            mail: self.mail - earlier.mail,
            buffers: self.buffers - earlier.buffers,
        }
    }
}

/// A thread of this process.
#[derive(PartialEq, Eq)]
struct Thread {
    number: i32,
    name: String,
}

fn threads() -> Vec<Thread> {
    let entries = std::fs::read_dir("/proc/self/task").unwrap();
    let threads = entries.filter_map(|entry| {
        let entry = entry.ok()?;
        // It may end while we look.
        let name = std::fs::read_to_string(entry.path().join("comm")).ok()?;
        Some(Thread {
            number: entry.file_name().to_str()?.parse().ok()?,
            name: name.trim().to_owned(),
        })
    });
    threads.collect()
}

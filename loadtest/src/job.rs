//! What a worker process is told and what it answers: one JSON object a line, commands on its standard input, replies on its
//! standard output.
//!
//! A worker plays a share of the clients of one contestant, and the first worker of a contestant plays the other side too (the app server,
//! or whatever the contestant needs in its place). Workers of other contestants wait meanwhile; so each contestant has descriptors of its
//! own, and measurements of several contestants can alternate, second by second, on one machine.
//!
//! Order: a [`Job`]; `Open`, answered by `Opened`; any number of `Measure`, each answered by `Measured`, or `Storm`, answered first by
//! `Storming` and then by `Stormed`; the end of the input ends the worker. A fault is answered by `Failed`, after which the worker ends.

use std::fmt;
use std::net::SocketAddr;
use std::ops::Deref;

use serde::{Deserialize, Serialize};

/// Everything that does not change during the life of a worker.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Job {
    pub(crate) target: Target,
    pub(crate) load: Load,
    /// Clients of this worker, and the number of the first of them among all.
    pub(crate) clients: u32,
    pub(crate) first_client: u32,
    /// Clients of all workers of this contestant.
    pub(crate) clients_total: u32,
    /// Whether this worker plays the other side. Exactly one worker of a contestant does.
    pub(crate) plays_other_side: bool,
    pub(crate) server_connections: u32,
    /// Bytes of a message, with the byte that ends it.
    pub(crate) payload_bytes: u32,
    pub(crate) hub_protocol: HubProtocol,
    /// One client in so many checks every byte that it receives; the others count frames.
    pub(crate) checked_one_in: u32,
    /// Where the worker tells (or, playing the other side, is told) how many messages have arrived, if there are several workers.
    pub(crate) progress: Option<SocketAddr>,
    /// The core to run on.
    pub(crate) core: usize,
    /// Whose CPU time each sample shows. Only the worker that plays the other side has any.
    pub(crate) watched: Vec<Watched>,
}

/// Threads whose CPU time counts.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Watched {
    /// Name in the sample, such as `service` or `app server`.
    pub(crate) name: String,
    pub(crate) processes: Vec<u32>,
    /// How the names of its threads begin; empty for all.
    pub(crate) threads: String,
}

/// Who is measured, by the way one talks to it.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Target {
    /// hubring, or whatever else speaks the service protocol: clients at `/client/`, server connections at `/server/`.
    Service {
        address: SocketAddr,
        /// Host in the audience of access tokens.
        audience_host: String,
        hub: String,
        access_key: Secret,
        /// The app server is a process of its own (a hub of the SDK's test app), so no server connections are opened, and clients call
        /// its method `Echo`.
        app_server_elsewhere: bool,
        /// Its HTTP address, at which broadcasts are asked for.
        app_server: Option<SocketAddr>,
    },
    /// The raw relay: fixed-size records instead of any protocol.
    Floor {
        clients: SocketAddr,
        servers: SocketAddr,
    },
    /// A WebSocket proxy. The worker listens at `backend`, accepts its WebSockets there and sends each message back.
    Hop {
        address: SocketAddr,
        backend: SocketAddr,
    },
    /// Publish and subscribe: each client is a WebSocket subscriber, and each POST to `publish` reaches all of them.
    Channel {
        address: SocketAddr,
        /// Path and query for the subscriber's upgrade.
        subscribe: String,
        publish_address: SocketAddr,
        /// Path and query for the POST.
        publish: String,
        format: PublishFormat,
    },
    /// ASP.NET Core SignalR without any service: clients talk to the app itself and call its method `Echo`.
    SelfHost { address: SocketAddr, path: String },
}

/// A text with a key in it. It is not shown where what it is part of is shown.
#[derive(Clone, Serialize, Deserialize)]
#[serde(transparent)]
pub(crate) struct Secret(String);

impl From<String> for Secret {
    fn from(text: String) -> Self {
        Self(text)
    }
}

impl Deref for Secret {
    type Target = str;

    fn deref(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(…)")
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum PublishFormat {
    /// The body is the message.
    Plain,
    /// Pushpin's JSON items with a `ws-message`.
    Pushpin,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub(crate) enum HubProtocol {
    Json,
    #[value(name = "messagepack")]
    MessagePack,
}

/// What flows.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "scenario", rename_all = "kebab-case")]
pub(crate) enum Load {
    /// Each client to the app server and back. A message is one echo.
    Echo { pacing: Pacing },
    /// The app server to all clients, in bursts; the next one follows when all but `overlap_percent` of the deliveries of the one before
    /// have arrived. A message is one delivery, as in all that follow up to membership.
    Broadcast { burst: u32, overlap_percent: u32 },
    /// The app server to one client after the other, by connection id.
    SendToConnection { pacing: Pacing },
    /// The same by user id. Each client is a user of its own.
    SendToUser { pacing: Pacing },
    /// The app server to one group after the other. Each client is in one group; `group_members` clients make one. Besides, every client
    /// is in so many further `idle_groups`, which are only there.
    SendToGroup {
        group_members: u32,
        idle_groups: u32,
        pacing: Pacing,
    },
    /// The app server joins clients to groups and takes them out again, and waits for the acks. A message is one join or leave.
    Membership { groups: u32, pacing: Pacing },
    /// Clients that say nothing. Each has a user, claims and one group.
    Idle,
    /// Clients that connect, enter their hub and leave again, `at_once` at a time. A message is one connect.
    Connect { at_once: u32 },
    /// All clients are connected; a storm makes all of them connect again at the same time.
    Reconnect { app_server_dies: bool },
    /// Broadcast while `stalled` of the clients do not read. A message is one delivery to a client that does.
    /// `per_second` counts broadcasts.
    SlowConsumers { stalled: u32, per_second: u32 },
    /// Echoes, broadcasts to all, sends to users, to groups, joins and leaves together, each at its share of `per_second`: see
    /// [`MIXED_SHARES`]. Each client is a user of its own.
    Mixed { per_second: u32 },
}

/// How [`Load::Mixed`] divides its messages. One to many clients counts once for each of them, a join or leave counts as one.
pub(crate) const MIXED_SHARES: MixedShares = MixedShares {
    echoes_percent: 40,
    to_all_percent: 20,
    to_users_percent: 15,
    to_groups_percent: 15,
    memberships_percent: 10,
};

#[derive(Clone, Copy, Debug)]
#[expect(clippy::struct_field_names, reason = "units belong to names")]
pub(crate) struct MixedShares {
    pub(crate) echoes_percent: u32,
    pub(crate) to_all_percent: u32,
    pub(crate) to_users_percent: u32,
    /// Of ten clients each.
    pub(crate) to_groups_percent: u32,
    /// Joins and leaves.
    pub(crate) memberships_percent: u32,
}

/// When the next message is sent.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Pacing {
    /// When an earlier one has arrived. Echo: so many under way for each client. Otherwise: so many calls of the app server in all.
    Closed { depth: u32 },
    /// At its time, whatever has become of the earlier ones; so many a second, of all clients of all workers together.
    /// Latency counts from that time.
    Open { per_second: u32 },
}

#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Command {
    /// Open all connections of this worker.
    Open,
    /// Let it flow: `warm_up_ms` without looking, or longer if it takes longer to reach every client, then `windows` times `window_ms`, one sample each; then let what is under way arrive.
    Measure {
        warm_up_ms: u64,
        window_ms: u64,
        windows: u32,
    },
    /// Break all connections and build them up again at once.
    Storm,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Reply {
    /// All connections are open. `connect_us` is the time from the first connect to the last hub handshake.
    Opened {
        connect_us: u64,
    },
    Measured {
        samples: Vec<Sample>,
        /// Messages from the beginning of the warm-up to the last one that was under way: what the service's counters grew by belongs to
        /// these.
        messages: u64,
    },
    /// From now on connections may break: the first worker, whose app server may die, must not hear of a storm before the others are so
    /// far.
    Storming,
    Stormed(Storm),
    Failed {
        error: String,
    },
}

/// One window of one worker.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Sample {
    pub(crate) seconds: f64,
    /// What has arrived, as [`Load`] counts it.
    pub(crate) messages: u64,
    /// Messages that should have been sent in the window but were not when it ended (open loop only).
    pub(crate) behind: u64,
    /// Clients that do not read and were closed for it ([`Load::SlowConsumers`]). Each comes back and does not read again.
    #[serde(default)]
    pub(crate) slow_closed: u64,
    /// CPU time of what was watched.
    pub(crate) watched: Vec<CpuTimes>,
    /// Of this worker.
    pub(crate) own: CpuTimes,
    /// Nanoseconds and how many, ascending, of the messages that were due in the window, even if they arrived after its end. Closed
    /// loop: from the send, and of the app server's sends only what clients that check have received; open loop: from the time at which
    /// it should have been sent.
    pub(crate) latencies: Vec<(u64, u64)>,
}

/// What the scheduler gave and did not give.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct CpuTimes {
    pub(crate) name: String,
    pub(crate) on_cpu_us: f64,
    /// Ready to run, while something else had the core.
    pub(crate) waiting_us: f64,
}

/// What became of a storm.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Storm {
    /// From the first break until every client had entered its hub again.
    pub(crate) back_us: u64,
    /// Attempts that were refused, or broke, and were tried again.
    pub(crate) retries: u64,
    /// Clients that did not come back in time.
    pub(crate) failed: u64,
    pub(crate) watched: Vec<CpuTimes>,
    /// When each client was back, microseconds and how many, ascending.
    pub(crate) latencies: Vec<(u64, u64)>,
}

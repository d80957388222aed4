//! The data plane's I/O: one pinned thread per core, each with a tokio-uring runtime and a data ring.
//!
//! ```text
//!  client ──WS──►┌────────────────────── shard ──────────────────────┐◄──WS── app server
//!                │ admission   accept · request head · token · 101   │  tasks on the tokio-uring runtime
//!                │     │ adopt                                       │
//!                │     ▼                                             │
//!                │ data ring   receive → frame → protocol → routing  │  one task, woken by an eventfd
//!                │                     → outbox → gathered send      │
//!                └──────────▲───────────────────────┬────────────────┘
//!                           │ mailbox               ▼ postboxes of other shards
//! ```
//!
//! A shard works in turns. A turn takes what has come (completions, mails), lets the router say what has to be done, queues it, and
//! hands everything queued for a socket to the kernel in one piece. Turns follow each other until nothing is left; then the shard
//! sleeps until its eventfd is signalled.
//!
//! Invariants:
//! * A connection's descriptor is closed only after its last completion.
//! * The router is told exactly once that a connection has ended, unless it has said so itself.
//! * Nothing is awaited between reading and changing the state.

pub mod admission;
mod closing;
mod connection;
mod delivery;
pub mod directory;
mod echo;
pub mod environment;
mod http_clients;
pub mod mailbox;
pub mod outbox;
pub mod outlet;
pub mod pending;
pub mod place;
mod rebalance;
mod receiving;
mod resumption;
pub mod ring;
mod run;

use std::collections::VecDeque;
use std::fmt;
use std::os::fd::OwnedFd;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustc_hash::FxHashMap;

use self::admission::gate::SocketHold;
use self::connection::{Connection, Connections, Reading, Role, ServerEnd};
use self::delivery::Outgoing;
use self::directory::{Directory, ServerPlace};
pub use self::environment::{Environment, Listeners, ShardError};
use self::http_clients::HttpClients;
pub use self::http_clients::{AdmittedHttpClient, HttpData};
use self::mailbox::{Mailbox, Postbox, Postboxes, Signal};
use self::outbox::Outbox;
use self::place::ClientPlace;
pub use self::resumption::Resumption;
use self::ring::wake::Wake;
use self::ring::{Completion, Ring};
pub use self::run::start;
use crate::chunk::{Block, Chunk};
use crate::counters::Counters;
use crate::frame::websocket;
use crate::id::ShardId;
use crate::limits::{DRAIN_TIMEOUT, MAILS_PER_TURN};
use crate::protocol::negotiate::Transport;
use crate::protocol::service::ServerConnectionType;
use crate::routing::{Effect, Mail, NewClient, NewServer, Router, SocketKey};

/// What can be put into a shard's mailbox.
#[derive(Debug)]
pub enum Delivery {
    /// From another shard's router.
    Mail(Mail),
    /// A client that another shard has admitted.
    Client(Box<AdmittedClient>),
    /// A socket that wants to take the place of a client's old one.
    Resume(Box<Resumption>),
    /// A client that the control plane has admitted, and serves.
    HttpClient(Box<AdmittedHttpClient>),
    /// What such a client has sent.
    HttpData(HttpData),
    /// Such a client has gone, or has taken the end of what was sent to it. The last word on it.
    HttpClosed(SocketKey),
    /// A server connection that another shard has admitted.
    Server(Box<AdmittedServer>),
    /// Somebody wants to know what is on this shard. Also shows that the shard is alive.
    Describe(tokio::sync::oneshot::Sender<Description>),
    /// The service stops.
    Drain,
}

/// A postbox of a shard.
pub type ShardPostbox = Postbox<Delivery, Wake>;

/// A client that has been upgraded and belongs to this shard now.
#[derive(Debug)]
pub struct AdmittedClient {
    /// Its socket.
    pub fd: OwnedFd,
    /// Counts the socket.
    pub hold: SocketHold,
    /// What came behind its request head.
    pub early: Vec<u8>,
    /// What the router has to know.
    pub new: NewClient,
    /// Where it is counted.
    pub place: ClientPlace,
}

/// A server connection that has been upgraded and belongs to this shard now.
#[derive(Debug)]
pub struct AdmittedServer {
    /// Its socket.
    pub fd: OwnedFd,
    /// Counts the socket.
    pub hold: SocketHold,
    /// What came behind its request head.
    pub early: Vec<u8>,
    /// What the router has to know.
    pub new: NewServer,
    /// Where it is counted.
    pub place: ServerPlace,
}

/// What is on a shard at one moment.
#[derive(Debug, Clone, Default)]
pub struct Description {
    /// Its server connections.
    pub servers: Vec<ServerDescription>,
    /// Its client connections, the first so many.
    pub clients: Vec<ClientDescription>,
    /// How many client connections there are.
    pub client_count: usize,
    /// How many groups have members on it.
    pub group_count: usize,
}

/// A server connection at one moment.
#[derive(Debug, Clone)]
pub struct ServerDescription {
    /// Its own id.
    pub connection_id: String,
    /// Its app server.
    pub server_id: String,
    /// Its hub.
    pub hub: String,
    /// What it is for, once it has said so.
    pub connection_type: Option<ServerConnectionType>,
    /// Whether clients may be bound to it.
    pub is_routable: bool,
    /// How long a ping to its app server and back takes, once that has been measured.
    pub round_trip: Option<Duration>,
}

/// A client connection at one moment.
#[derive(Debug, Clone)]
pub struct ClientDescription {
    /// Its id.
    pub id: String,
    /// Its user.
    pub user: Option<String>,
    /// Its hub.
    pub hub: String,
    /// How it is connected.
    pub transport: Transport,
    /// The hub protocol it speaks.
    pub protocol: String,
    /// The server connection it is bound to.
    pub server_connection: Option<String>,
}

/// Clients that a [`Description`] names at the most.
const DESCRIBED_CLIENTS_MAX: usize = 200;

/// One shard's state. Lives on the shard's thread.
pub struct Shard {
    id: ShardId,
    ring: Ring,
    wake: Wake,
    connections: Connections,
    http_clients: HttpClients,
    router: Router,
    mailbox: Mailbox<Delivery>,
    outgoing: Outgoing,
    /// The places of clients that have lost their socket, by that socket.
    away: FxHashMap<SocketKey, Box<ClientPlace>>,
    directory: Arc<Directory>,
    counters: Arc<Counters>,
    /// Sockets that all shards together may hold.
    capacity: usize,
    dirty: Vec<SocketKey>,
    starved: Vec<SocketKey>,
    /// When connections that are closing have to be over. All get the same time, so the first is in front.
    closings: VecDeque<(Instant, SocketKey)>,
    #[expect(
        clippy::vec_box,
        reason = "they move from here to connections and to the ring, as one pointer"
    )]
    spare_outboxes: Vec<Box<Outbox>>,
    drain_deadline: Option<Instant>,
    /// Scratch space that is kept from turn to turn.
    completions: Vec<Completion>,
    effects: Vec<Effect>,
    events: Vec<websocket::Event>,
}

impl Shard {
    /// Makes a shard on its own thread.
    fn new(
        environment: &Environment,
        mailbox: Mailbox<Delivery>,
        wake: Wake,
    ) -> std::io::Result<Self> {
        let shard_count = environment.postboxes.len() as u16;
        let mut router = Router::new(
            environment.shard,
            shard_count,
            &environment.gate.instance_id,
            Arc::clone(&environment.counters),
        );
        router.park_on_drop(environment.park_on_drop);
        Ok(Self {
            id: environment.shard,
            ring: Ring::new(&wake)?,
            wake,
            connections: Connections::default(),
            http_clients: HttpClients::default(),
            router,
            mailbox,
            outgoing: Outgoing::new(Postboxes::clone(&environment.postboxes)),
            away: FxHashMap::default(),
            directory: Arc::clone(&environment.directory),
            counters: Arc::clone(&environment.counters),
            capacity: environment.gate.sockets.max(),
            dirty: Vec::new(),
            starved: Vec::new(),
            closings: VecDeque::new(),
            spare_outboxes: Vec::new(),
            drain_deadline: None,
            completions: Vec::new(),
            effects: Vec::new(),
            events: Vec::new(),
        })
    }

    /// Takes over an upgraded client, here or on the shard it belongs to.
    fn admit_client(&mut self, client: Box<AdmittedClient>, now: Instant) {
        if client.place.shard == self.id {
            self.adopt_client(*client, now);
        } else {
            let shard = client.place.shard;
            self.outgoing
                .post(shard, Delivery::Client(client), &self.counters);
        }
        self.wake.signal();
    }

    /// Asks the shard of a client, which may be this one, to let another socket take the place of its old one.
    fn ask_to_resume(&mut self, shard: ShardId, resumption: Box<Resumption>) {
        self.outgoing
            .post(shard, Delivery::Resume(resumption), &self.counters);
        self.wake.signal();
    }

    /// Takes over an upgraded server connection, here or on the shard it belongs to.
    fn admit_server(&mut self, server: Box<AdmittedServer>, now: Instant) {
        if server.place.shard == self.id {
            self.adopt_server(*server, now);
        } else {
            let shard = server.place.shard;
            self.outgoing
                .post(shard, Delivery::Server(server), &self.counters);
        }
        self.wake.signal();
    }

    /// Does everything there is to do right now. Whether there may be more.
    fn turn(&mut self, now: Instant) -> std::io::Result<bool> {
        self.counters.turns.increment();
        let mut completions = std::mem::take(&mut self.completions);
        self.ring.turn(&mut completions)?;
        let completed = completions.len();
        // After the completions have been collected and before they are acted on: what an app server says may follow from a mail that
        // was posted here before, such as where a client is to be found.
        let mails = self.take_mails(now);
        self.retry_posts();
        for completion in completions.drain(..) {
            self.complete(completion, now);
        }
        self.completions = completions;
        let moves = self.router.has_moves();
        if moves {
            self.router.on_turn(&mut self.effects);
            if self.apply_effects(&[], None, now).is_some() {
                self.router.on_congestion();
            }
        }
        self.feed_starved();
        self.hear_resumed(now);
        if self.ring.is_short_of_buffers() {
            self.detach_buffers();
        }
        self.flush();
        Ok(mails > 0 || completed > 0 || moves || self.ring.has_submissions())
    }

    /// Time has passed.
    fn tick(&mut self, now: Instant) {
        self.router.on_tick(now, &mut self.effects);
        self.apply_effects(&[], None, now);
        self.rebalance(now);
        self.end_late_closings(now);
        let (buffers, lent) = self.ring.buffer_counts();
        self.counters.receive_buffers.set(buffers as u64);
        self.counters.receive_buffers_lent.set(lent as u64);
        self.counters.mailbox_depth.set(self.mailbox.depth() as u64);
        self.wake.signal();
    }

    /// Whether nobody is let in any more.
    fn is_draining(&self) -> bool {
        self.drain_deadline.is_some()
    }

    /// Whether the shard has nothing more to do, ever.
    fn is_finished(&self, now: Instant) -> bool {
        let connections = self.connections.len() + self.http_clients.len();
        self.drain_deadline
            .is_some_and(|deadline| connections == 0 || now >= deadline)
    }

    fn take_mails(&mut self, now: Instant) -> usize {
        let mut taken = 0;
        while taken < MAILS_PER_TURN
            && let Some(delivery) = self.mailbox.take()
        {
            taken += 1;
            match delivery {
                Delivery::Mail(mail) => {
                    self.take_mail(mail, now);
                }
                Delivery::Client(client) => self.adopt_client(*client, now),
                Delivery::HttpClient(client) => self.adopt_http_client(*client, now),
                Delivery::HttpData(data) => self.on_http_data(data, now),
                Delivery::HttpClosed(client) => self.on_http_closed(client, now),
                Delivery::Server(server) => self.adopt_server(*server, now),
                Delivery::Resume(resumption) => self.resume_client(*resumption, now),
                Delivery::Describe(reply) => {
                    // Who asked may have gone; then nobody misses the answer.
                    let _ = reply.send(self.describe());
                }
                Delivery::Drain => self.drain(now),
            }
        }
        taken
    }

    fn adopt_client(&mut self, client: AdmittedClient, now: Instant) {
        let AdmittedClient {
            fd,
            hold,
            early,
            new,
            place,
        } = client;
        let socket = self.connections.insert(fd, hold, false);
        let key = self
            .router
            .on_client_adopted(socket, new, now, &mut self.effects);
        if let Some(connection) = self.connections.get_mut(socket) {
            connection.role = Role::Client {
                key,
                place: Box::new(place),
            };
        }
        self.begin(socket, early, now);
    }

    fn adopt_server(&mut self, server: AdmittedServer, now: Instant) {
        let AdmittedServer {
            fd,
            hold,
            early,
            new,
            place,
        } = server;
        let socket = self.connections.insert(fd, hold, true);
        let connection_id = new.connection_id.clone();
        let key = self.router.on_server_adopted(socket, new, now);
        if let Some(connection) = self.connections.get_mut(socket) {
            let end = ServerEnd {
                key,
                connection_id,
                place,
                reading: Some(Box::new(Reading::new())),
                paused_clients: Vec::new(),
            };
            connection.role = Role::Server(Box::new(end));
        }
        self.begin(socket, early, now);
    }

    /// Starts reading a connection whose role is set. What came early is read first.
    fn begin(&mut self, socket: SocketKey, early: Vec<u8>, now: Instant) {
        self.apply_effects(&[], None, now);
        if !early.is_empty() {
            let bytes = early.len();
            self.read(socket, Rc::new(Block::from(early)), bytes, now);
        }
        if self.is_draining() {
            // It arrived after all others had been told to leave.
            self.lose(socket, now);
        }
        self.resume(socket);
        self.remove_if_unused(socket);
    }

    fn complete(&mut self, completion: Completion, now: Instant) {
        match completion {
            Completion::Received {
                socket,
                block,
                bytes,
                armed,
            } => self.on_received(socket, block, bytes, armed, now),
            Completion::ReceiveEnded { socket, cause } => self.on_receive_ended(socket, cause, now),
            Completion::CancelMissed { socket } => self.on_cancel_missed(socket),
            Completion::Sent {
                socket,
                outbox,
                result,
            } => self.on_sent(socket, outbox, &result, now),
        }
    }

    fn drain(&mut self, now: Instant) {
        if self.drain_deadline.is_none() {
            tracing::debug!(shard = %self.id, connections = self.connections.len(), "the shard drains");
            self.drain_deadline = Some(now + DRAIN_TIMEOUT);
            self.router.on_drain(now, &mut self.effects);
            self.apply_effects(&[], None, now);
            self.drain_echoes(now);
        }
    }

    fn describe(&self) -> Description {
        let hub = |id| {
            self.directory
                .hub_by_id(id)
                .map_or_else(String::new, |hub| hub.name.to_string())
        };
        let servers = self.router.server_views().map(|server| ServerDescription {
            connection_id: server.connection_id.to_owned(),
            server_id: server.server_id.to_owned(),
            hub: hub(server.hub),
            connection_type: server.connection_type,
            is_routable: server.is_routable,
            round_trip: server.round_trip,
        });
        let clients = self
            .router
            .client_views()
            .take(DESCRIBED_CLIENTS_MAX)
            .map(|client| ClientDescription {
                id: client.id.to_string(),
                user: client.user.map(str::to_owned),
                hub: hub(client.hub),
                transport: client.transport,
                protocol: client.protocol.to_owned(),
                server_connection: client.server_connection_id.map(str::to_owned),
            });
        Description {
            servers: servers.collect(),
            clients: clients.collect(),
            client_count: self.router.client_views().count(),
            group_count: self.router.group_count(),
        }
    }
}

impl fmt::Debug for Shard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Shard")
            .field("id", &self.id)
            .field("connections", &self.connections.len())
            .finish_non_exhaustive()
    }
}

impl Signal for Wake {
    fn signal(&self) {
        Self::signal(self);
    }
}

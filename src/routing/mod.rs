//! Messages → effects: who is connected, who is in which group, and where a message has to go.
//!
//! One [`Router`] for each shard, holding that shard's slice of the client-to-server-connection map. It is told what happened
//! (`on_…`) and lists what has to be done ([`Effect`]), in the order in which it has to be done. It performs nothing itself and knows no
//! socket, clock or thread, so every sequence of events can be tried out in a test.
//!
//! ```text
//!  on_server_adopted ─► (on_server_heard ─► on_server_message …) … ─► on_server_closed     one server connection
//!  on_client_adopted ─► on_client_data … ─► on_client_closed                              one client connection
//!  on_mail, on_tick, on_drain                                                             at any time between
//! ```
//!
//! After `on_…_closed`, or after an effect that closes a connection, the router knows it no more and must not be told of it again.
//!
//! Invariants:
//! * A client that an app server knows of is bound to one server connection *of the same shard*, for life.
//! * `by_id`, a hub's client list, its users and its groups name exactly the clients that an app server knows of.
//! * Nothing is delivered to a client before its handshake response: it is held, in order, within a bound.
//! * What one server connection sends to one target (a connection, a user, a group, the hub) is delivered in the order sent.

mod client;
mod clients;
mod connections;
mod fan_out;
mod groups;
mod hub;
mod invocations;
mod router;
mod server;
pub mod server_pool;
mod service_messages;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use bytes::Bytes;
use smallvec::SmallVec;

pub use self::client::NewClient;
pub use self::router::Router;
pub use self::server::NewServer;
use crate::chunk::Chunk;
use crate::frame::websocket::MessageKind;
use crate::id::{ConnectionId, ShardId};

/// A socket of this shard, as the shard names it. The generation tells a reused slot from its earlier use.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct SocketKey {
    /// Where the shard keeps it.
    pub slot: u32,
    /// Which use of that place is meant.
    pub generation: u32,
}

/// A client connection within its router.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ClientKey(u32);

/// A server connection within its router.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ServerKey {
    slot: u32,
    generation: u32,
}

/// A server connection, from anywhere.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ServerRef {
    /// The shard that it is on.
    pub shard: ShardId,
    /// Which one there.
    pub server: ServerKey,
}

/// A hub, by number. The same on all shards.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct HubId(pub u32);

/// A payload as the slices in which it was received. Rarely more than two.
pub type Payload = SmallVec<[Chunk; 2]>;

/// What a router wants done.
#[derive(Debug)]
pub enum Effect {
    /// Send what a client sent to its app server, as one `ConnectionData`.
    RelayToServer {
        /// The client's server connection.
        server: SocketKey,
        /// The client.
        client: ConnectionId,
        /// Its bytes.
        payload: Chunk,
    },
    /// Send one WebSocket message to a client.
    RelayToClient {
        /// The client.
        client: SocketKey,
        /// Text or binary, as the client's hub protocol has it.
        kind: MessageKind,
        /// Its payload.
        payload: Payload,
    },
    /// Send whole service messages, with their length prefixes, to an app server.
    ToServer {
        /// The server connection.
        server: SocketKey,
        /// The encoded messages.
        messages: Vec<u8>,
    },
    /// Send one and the same WebSocket frame to many clients.
    FanOut {
        /// The whole frame, header included.
        frame: Chunk,
        /// The clients.
        clients: Vec<SocketKey>,
    },
    /// Pass the service message that is being handled on to other shards.
    Forward {
        /// To whom.
        to: ForwardTo,
        /// The hub in which it takes effect.
        hub: HubId,
        /// Who sent it.
        origin: Origin,
    },
    /// Post a mail.
    Post {
        /// To which shard.
        shard: ShardId,
        /// What.
        mail: Mail,
    },
    /// Close a client, once all that waits for it has been sent.
    CloseClient {
        /// The client.
        client: SocketKey,
        /// Why.
        cause: CloseCause,
    },
    /// Close a server connection, once all that waits for it has been sent.
    CloseServer {
        /// The server connection.
        server: SocketKey,
        /// Why.
        cause: CloseCause,
    },
    /// Make a server connection known to all shards: it has completed its handshake.
    ServerReady {
        /// Its hub.
        hub: HubId,
        /// The server connection and its app server.
        server: Origin,
        /// Whether clients may be bound to it.
        is_routable: bool,
    },
    /// Bind no more clients to a server connection.
    ServerDraining {
        /// Its hub.
        hub: HubId,
        /// The server connection.
        server: ServerRef,
    },
    /// Make all shards forget a server connection.
    ServerGone {
        /// Its hub.
        hub: HubId,
        /// The server connection.
        server: ServerRef,
    },
    /// Tell an app server whether its hub has clients.
    AnswerStatus(SocketKey),
    /// Tell an app server which app servers serve its hub.
    AnswerServers(SocketKey),
}

/// Which shards a service message is forwarded to.
#[derive(Debug, PartialEq, Eq)]
pub enum ForwardTo {
    /// All others that have clients of the hub.
    Hub,
    /// These.
    Shards(SmallVec<[ShardId; 4]>),
}

/// Why a connection is closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CloseCause {
    /// The app server asked for it.
    AppServer,
    /// The client's server connection has ended.
    ServerConnectionLost,
    /// No app server takes clients of the hub.
    NoAppServer,
    /// The handshake was wrong.
    BadHandshake,
    /// The handshake did not come in time.
    HandshakeTimeout,
    /// More is held for the client than it may be.
    SlowConsumer,
    /// Nothing came from the app server for too long.
    Silent,
    /// The app server broke the protocol.
    ProtocolError,
    /// The service stops.
    Drain,
}

/// Who sent a service message, so that an answer finds the way back.
#[derive(Clone, Debug)]
pub struct Origin {
    /// The server connection that it came on.
    pub server: ServerRef,
    /// The app server.
    pub server_id: Arc<str>,
}

/// What routers of one service tell each other.
#[derive(Debug)]
pub enum Mail {
    /// A service message that concerns clients of the other shard.
    Forwarded {
        /// The hub in which it takes effect.
        hub: HubId,
        /// Who sent it.
        origin: Origin,
        /// The message, without length prefix.
        message: Bytes,
    },
    /// Encoded service messages for an app server.
    Answer {
        /// The hub.
        hub: HubId,
        /// To which server connection; if that is gone, to another of the same app server, on whatever shard.
        to: Origin,
        /// The encoded messages.
        messages: Vec<u8>,
        /// Shards on which the app server was not to be found.
        shards_tried: u16,
    },
    /// A connection whose id names this shard lives on another one; `None`: no longer.
    Moved {
        /// The connection.
        id: ConnectionId,
        /// Where it is.
        to: Option<ShardId>,
    },
}

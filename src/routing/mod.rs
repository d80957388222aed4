//! Messages → effects: who is connected, who is in which group, and where a message has to go.
//!
//! One [`Router`] for each shard, holding that shard's slice of the client-to-server-connection map. It is told what happened
//! (`on_…`) and lists what has to be done ([`Effect`]), in the order in which it has to be done. It performs nothing itself and knows no
//! socket, clock or thread, so every sequence of events can be tried out in a test.
//!
//! ```text
//!  on_server_adopted ─► (on_server_heard ─► on_server_message …) … ─► on_server_closed     one server connection
//!  on_client_adopted ─► on_client_data … ─► on_client_closed                              one client connection
//!                       (on_client_lost ─► on_client_resumed ─► on_client_data …) …        the same with stateful reconnect
//!  on_mail, on_turn, on_tick, on_drain                                                    at any time between
//! ```
//!
//! After `on_…_closed`, or after an effect that closes a connection, the router knows it no more and must not be told of it again.
//!
//! Invariants:
//! * A client that an app server knows of is bound to one server connection *of the same shard*. It changes it only by a migration,
//!   and is without one only while it is parked.
//! * `by_id`, a hub's client list, its users and its groups name exactly the clients that an app server knows of.
//! * Nothing is delivered to a client before its handshake response: it is held, in order, within a bound.
//! * What one server connection sends to one target (a connection, a user, a group, the hub) is delivered in the order sent.
//!
//! # Bad input
//!
//! What becomes of each message is said in [`crate::protocol::service`]; here is what becomes of what should not come. An app server may
//! be old, new or broken: a message that makes no sense costs that message, a stream that cannot be read costs the server connection,
//! and nothing costs another connection or the process. Nothing that an app server sends is kept without a bound.
//!
//! | an app server sends | what happens | counter |
//! |---|---|---|
//! | a length beyond 2 GiB, or beyond `SERVICE_MESSAGE_BYTES_MAX` | `ServiceError`, close 1000; what stands before it counts, what follows is not read | `protocol_errors` |
//! | a WebSocket frame against RFC 6455 | `ServiceError`, or a refusal before the handshake, then close 1000 | `protocol_errors` |
//! | text frames, empty ones, a byte in each, any number of messages in one | read like any: only the bytes count | |
//! | a message without bytes, that is no array, too short, with nil for a list, of other types, with a number beyond 32 bits or unknown where it must be known, not of UTF-8, that announces more than comes | skipped | `service_messages_malformed` |
//! | more than `SERVICE_MESSAGE_ELEMENTS_MAX` elements | skipped, before memory is taken | `service_messages_malformed` |
//! | any of these, or any other message, before the handshake request; another version | `HandshakeResponse` with an error, close 1000 | `handshakes_failed` |
//! | no handshake request in time | the same | `handshakes_failed` |
//! | a second handshake request, an unknown type, one of the other direction | skipped | `service_messages_skipped` |
//! | a message to many with a filter, a language of its own that no SDK for hubs uses | skipped | `service_messages_skipped` |
//! | more elements, more bytes, unknown extensions with any value at any depth | ignored | |
//! | a connection id that is not of this hub, of no shard, or no id at all | nothing; a request is answered `NotFound`, an invocation with an `ErrorCompletion` | `unknown_targets` |
//! | a user or group that is not there | nobody is reached | |
//! | an ack id that is 0, negative, or in use | answered like any: nothing is kept under it | |
//! | connections, users, groups or exclusions named again | each is reached, or left out, once | |
//! | a payload twice for one protocol | the first counts | |
//! | no payload for a client's protocol, or none at all | that client is left out; an invocation is answered with an `ErrorCompletion` | `missing_payloads` |
//! | a join to a name beyond `NAME_BYTES_MAX`, or beyond `GROUPS_PER_CONNECTION_MAX` | not carried out, answered `InternalServerError` | `joins_refused` |
//! | an invocation with ids beyond `NAME_BYTES_MAX`, or one too many of them | answered with an `ErrorCompletion` | `invocations_refused` |
//! | a reason beyond `CLOSE_REASON_BYTES_MAX` for closing many | the rest of it is cut off | |
//! | memberships of users beyond `STANDING_MEMBERSHIPS_MAX` | not carried out, answered `InternalServerError` | `joins_refused` |
//! | requests to all shards, more than `SURVEYS_MAX` at a time | not carried out, answered `InternalServerError` | `surveys_refused` |
//! | an answer that nobody waits for, or a second one | dropped | `unknown_targets`, if the client is gone |
//! | pings without meaning, without end | nothing | |
//! | status and servers queries within `QUERY_INTERVAL` | the first is answered | `queries_skipped` |
//! | requests without end, and does not take the answers | `ServiceError` and close at `SERVER_OUTBOX_BYTES_MAX` | |
//!
//! Tested row by row by `routing::tests::bad_input`, and with sockets by `bad_input` and `faults` in `tests/data_plane`.

mod client;
mod clients;
mod connections;
mod expiry;
mod fan_out;
#[cfg(any(test, fuzzing))]
mod fuzz;
mod groups;
mod hub;
mod invocations;
mod migration;
mod parking;
mod pieces;
pub mod rebalance;
mod requests;
mod resuming;
mod round_trip;
mod router;
mod server;
pub mod server_pool;
mod service_messages;
mod stateful;
mod supervision;
mod surveys;
#[cfg(test)]
mod tests;
mod traffic;
mod user_groups;

use std::sync::Arc;

use bytes::Bytes;
use smallvec::SmallVec;

pub use self::client::NewClient;
pub use self::expiry::Expiry;
#[cfg(any(test, fuzzing))]
pub use self::fuzz::fuzz_router;
pub use self::resuming::ResumeError;
pub use self::router::Router;
pub use self::server::NewServer;
pub use self::surveys::{
    CloseOrder, CloseTarget, Findings, Member, MemberQuery, Question, SurveyRef,
};
pub use self::user_groups::UserGroupChange;
use crate::chunk::Chunk;
use crate::frame::websocket::MessageKind;
use crate::id::{ConnectionId, ShardId};

/// A socket of this shard, as the shard names it, or what a client has in the place of one. The generation tells a reused slot from its
/// earlier use.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct SocketKey {
    /// Where the shard keeps it.
    pub slot: u32,
    /// Which use of that place is meant.
    pub generation: u32,
}

impl SocketKey {
    /// Set in the slot of what is no socket. There are never so many sockets that one of them has it: a shard finds none by such a key,
    /// and looks elsewhere only then.
    pub const OUTLET: u32 = 1 << 31;
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

/// A payload as the slices in which it was received. One of a few KB rarely lies in more than three: cut by the end of a frame, and by that of
/// a receive. So many need no memory of their own.
pub type Payload = SmallVec<[Chunk; 4]>;

/// The clients that one frame goes to, often those of one user or of a small group.
pub type Recipients = SmallVec<[SocketKey; 8]>;

const _: () = assert!(
    size_of::<Effect>() <= size_of::<(ShardId, Mail)>(),
    "what an effect holds in place makes none larger than a mail to a shard"
);

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
        clients: Recipients,
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
        /// Whether its clients may survive the loss of their socket.
        allows_stateful_reconnects: bool,
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
    /// Count a client at another server connection: it has moved.
    ClientMoved {
        /// The client.
        client: SocketKey,
        /// Its server connection.
        server: ServerRef,
    },
    /// Read a client no more until it is resumed.
    PauseClient(SocketKey),
    /// Read a client again.
    ResumeClient(SocketKey),
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
    /// The client has lost its socket and has not come back in time.
    NotResumed,
    /// What the client sent cannot be followed.
    ClientFault,
    /// Nothing came from the app server for too long.
    Silent,
    /// The app server broke the protocol.
    ProtocolError,
    /// The app server sent more in one piece than it may, or than can be kept for a client.
    MessageTooLong,
    /// More waits for the app server than may.
    TooFarBehind,
    /// The client is signed in no longer, and its app wants it closed then.
    AuthenticationExpired,
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
    /// Something that all shards are asked.
    Question {
        /// The hub.
        hub: HubId,
        /// What.
        question: Arc<Question>,
        /// Where an answer is waited for, if it is.
        survey: Option<SurveyRef>,
    },
    /// What a shard has to say to that.
    Findings {
        /// The survey, by its number on the shard that this goes to.
        number: u64,
        /// What was found.
        findings: Findings,
    },
}

//! One client connection, as its router sees it.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use smallvec::SmallVec;

use super::groups::GroupKey;
use super::pieces::Pieces;
use super::stateful::Stateful;
use super::traffic::Traffic;
use super::{Expiry, HubId, ServerKey, SocketKey};
use crate::chunk::Chunk;
use crate::id::ConnectionId;
use crate::protocol::hub::HubProtocol;
use crate::protocol::negotiate::Transport;

/// What admission found out about a client.
#[derive(Debug)]
pub struct NewClient {
    /// Its id.
    pub id: ConnectionId,
    /// Its hub.
    pub hub: HubId,
    /// Who it is, if its token says so.
    pub user: Option<Box<str>>,
    /// The server connection chosen for it. `None` if there was none: then it is told so once it has said its protocol.
    pub server: Option<ServerKey>,
    /// The app server that it must be bound to, if its token demands one.
    pub required_server_id: Option<Box<str>>,
    /// Claims, headers and query, encoded as they stand in `OpenConnection`.
    pub open_body: Vec<u8>,
    /// How long it may take for its hub handshake.
    pub handshake_timeout: Duration,
    /// How it is connected.
    pub transport: Transport,
    /// Whether it has been promised that it may survive the loss of its socket. Means nothing if it has none.
    pub is_stateful: bool,
    /// When it has to be closed, if its app wants that.
    pub expiry: Option<Expiry>,
}

/// See the module.
#[derive(Debug)]
pub(super) struct Client {
    pub(super) id: ConnectionId,
    pub(super) socket: SocketKey,
    pub(super) transport: Transport,
    pub(super) hub: HubId,
    pub(super) server: Option<ServerKey>,
    pub(super) user: Option<Box<str>>,
    pub(super) protocol: HubProtocol,
    pub(super) phase: Phase,
    /// Place in the hub's client list.
    pub(super) place: u32,
    /// Place among its user's connections.
    pub(super) place_of_user: u32,
    /// Each group with this client's place among its members.
    pub(super) groups: SmallVec<[(GroupKey, u32); 2]>,
    /// The app server has said goodbye to it, or has rejected it: nothing more is delivered, and the `CloseConnection` that follows
    /// needs no answer.
    pub(super) said_goodbye: bool,
    /// What survives the loss of its socket, if it asked for that.
    pub(super) stateful: Option<Box<Stateful>>,
    /// Of an app server that cuts hub messages: what has come of one. See [`super::pieces`].
    pub(super) pieces: Option<Box<Pieces>>,
    pub(super) expiry: Option<Box<Expiry>>,
    /// Of a followed client: one that may move to another app server.
    pub(super) traffic: Option<Box<Traffic>>,
}

#[derive(Debug)]
pub(super) enum Phase {
    /// Its hub handshake request is not complete. No app server knows of it.
    Handshake(Box<Handshake>),
    /// The app server knows of it and has not answered its handshake yet.
    Opening(Box<Held>),
    /// Messages flow.
    Open,
}

#[derive(Debug)]
pub(super) struct Handshake {
    pub(super) deadline: Instant,
    pub(super) received: Vec<u8>,
    pub(super) open_body: Vec<u8>,
    pub(super) required_server_id: Option<Box<str>>,
    pub(super) is_stateful: bool,
}

/// Whole WebSocket frames that wait for the handshake response.
#[derive(Debug, Default)]
pub(super) struct Held {
    pub(super) frames: VecDeque<Chunk>,
    pub(super) bytes: usize,
}

impl Client {
    pub(super) fn new(socket: SocketKey, new: NewClient, now: Instant) -> Self {
        let handshake = Handshake {
            deadline: now + new.handshake_timeout,
            received: Vec::new(),
            open_body: new.open_body,
            required_server_id: new.required_server_id,
            // No other transport has a socket to lose.
            is_stateful: new.is_stateful && new.transport == Transport::WebSockets,
        };
        Self {
            id: new.id,
            socket,
            transport: new.transport,
            hub: new.hub,
            server: new.server,
            user: new.user,
            protocol: HubProtocol::Json,
            phase: Phase::Handshake(Box::new(handshake)),
            place: 0,
            place_of_user: 0,
            groups: SmallVec::new(),
            said_goodbye: false,
            stateful: None,
            pieces: None,
            expiry: new.expiry.map(Box::new),
            traffic: None,
        }
    }

    /// Whether a whole message of its app server can go to it as it is, and nobody has to look at it.
    pub(super) fn is_plain(&self) -> bool {
        self.traffic.is_none() && self.pieces.is_none() && self.transport == Transport::WebSockets
    }

    /// Whether it has lost its socket and may yet resume on another.
    pub(super) fn is_away(&self) -> bool {
        self.stateful
            .as_ref()
            .is_some_and(|stateful| stateful.is_away())
    }
}

//! The sockets of a shard: plain state in a table, not tasks. An idle one holds no buffer and no outbox.

use std::os::fd::{AsRawFd as _, OwnedFd, RawFd};

use slab::Slab;

use super::admission::gate::SocketHold;
use super::directory::ServerPlace;
use super::echo::Echo;
use super::outbox::Outbox;
use super::place::ClientPlace;
use crate::chunk::Chunk;
use crate::frame::record::VarintRecords;
use crate::frame::websocket::{self, Decoder};
use crate::limits::{
    ASSEMBLE_IN_PLACE_BYTES_MAX, CLIENT_MESSAGE_BYTES_MAX, FRAMES_PER_MESSAGE_MAX,
    SERVER_WEBSOCKET_MESSAGE_BYTES_MAX, SERVICE_MESSAGE_BYTES_MAX,
};
use crate::routing::{ClientKey, Payload, ServerKey, SocketKey};

/// One upgraded connection.
#[derive(Debug)]
pub(super) struct Connection {
    fd: OwnedFd,
    _hold: SocketHold,
    generation: u32,
    pub(super) role: Role,
    pub(super) decoder: Decoder,
    pub(super) receiving: Receiving,
    pub(super) stage: Stage,
    /// What waits to be sent, and whether the shard will look at it at the end of the turn.
    pub(super) queued: Option<Box<Outbox>>,
    pub(super) is_dirty: bool,
    /// The peer broke the protocol: what it still sends has no meaning.
    pub(super) is_deaf: bool,
    /// Bytes that are on their way; 0 if nothing is.
    pub(super) sending_bytes: usize,
}

/// Who is at the other end, as long as the router knows it.
#[derive(Debug)]
pub(super) enum Role {
    Client {
        key: ClientKey,
        place: Box<ClientPlace>,
    },
    Server(Box<ServerEnd>),
    /// A test suite, of which the router knows nothing.
    Echo(Box<Echo>),
    /// The router has been told, or has said itself, that this connection ends.
    Leaving,
}

/// What is needed for a server connection beyond what a client needs.
#[derive(Debug)]
pub(super) struct ServerEnd {
    pub(super) key: ServerKey,
    pub(super) connection_id: Box<str>,
    pub(super) place: ServerPlace,
    /// `None` only while it is at work.
    pub(super) reading: Option<Box<Reading>>,
    /// Clients that are not read because too much waits for this server connection.
    pub(super) paused_clients: Vec<SocketKey>,
}

/// Puts the service messages of a server connection together.
#[derive(Debug)]
pub(super) struct Reading {
    pub(super) records: VarintRecords,
    pieces: Payload,
    /// What was copied instead. At most one of the two holds anything.
    long: Vec<u8>,
}

/// Whether a socket is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Receiving {
    Armed,
    /// It was, and its last completion is to come; then it is paused.
    Pausing,
    /// Not read until its receiver has room again.
    Paused,
    /// Not read because there was no buffer.
    Starved,
    /// Nothing more will come.
    Ended,
}

/// How far the end of a connection has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stage {
    Open,
    /// Our close frame is queued behind what waits.
    Closing {
        peer_said_close: bool,
    },
    /// All has been sent. The peer is to close too.
    Lingering,
    /// Over; only the kernel's last completions are to come.
    Dead,
}

impl Connection {
    pub(super) fn fd(&self) -> RawFd {
        self.fd.as_raw_fd()
    }

    pub(super) fn descriptor(&self) -> &OwnedFd {
        &self.fd
    }

    /// Bytes that wait or are on their way.
    pub(super) fn pending_bytes(&self) -> usize {
        self.sending_bytes + self.queued.as_ref().map_or(0, |outbox| outbox.bytes())
    }

    /// Whether the kernel may still use the descriptor.
    pub(super) fn is_in_use(&self) -> bool {
        self.sending_bytes > 0 || matches!(self.receiving, Receiving::Armed | Receiving::Pausing)
    }

    pub(super) fn client_key(&self) -> Option<ClientKey> {
        match &self.role {
            Role::Client { key, .. } => Some(*key),
            Role::Server(_) | Role::Echo(_) | Role::Leaving => None,
        }
    }

    pub(super) fn server_end(&mut self) -> Option<&mut ServerEnd> {
        match &mut self.role {
            Role::Server(end) => Some(end),
            Role::Client { .. } | Role::Echo(_) | Role::Leaving => None,
        }
    }
}

impl Reading {
    pub(super) fn new() -> Self {
        Self {
            records: VarintRecords::new(SERVICE_MESSAGE_BYTES_MAX as u32),
            pieces: Payload::new(),
            long: Vec::new(),
        }
    }

    /// Adds a piece of a message of `message_bytes`. How many bytes were copied: those of long messages are, so that they do not
    /// hold receive buffers back while the rest of them is under way.
    pub(super) fn add(&mut self, piece: Chunk, message_bytes: usize) -> usize {
        if message_bytes <= ASSEMBLE_IN_PLACE_BYTES_MAX && self.long.is_empty() {
            self.pieces.push(piece);
            return 0;
        }
        self.long.extend_from_slice(&piece);
        piece.len()
    }

    /// Copies what has come of a message out of the receive buffers. How many bytes that was.
    pub(super) fn detach(&mut self) -> usize {
        let before = self.long.len();
        for piece in self.pieces.drain(..) {
            self.long.extend_from_slice(&piece);
        }
        self.long.len() - before
    }

    /// The message whose last piece has been added.
    pub(super) fn take_message(&mut self) -> Payload {
        if !self.long.is_empty() {
            self.pieces
                .push(Chunk::from(std::mem::take(&mut self.long)));
        }
        std::mem::take(&mut self.pieces)
    }
}

/// All sockets of a shard.
#[derive(Debug, Default)]
pub(super) struct Connections {
    slots: Slab<Connection>,
    generations: u32,
}

impl Connections {
    pub(super) fn insert(&mut self, fd: OwnedFd, hold: SocketHold, is_server: bool) -> SocketKey {
        // 24 bits travel with each operation. A slot is not used again before its last completion, so this is a second lock only.
        self.generations = self.generations.wrapping_add(1) & 0x00ff_ffff;
        let limits = websocket::Limits {
            message_bytes_max: if is_server {
                SERVER_WEBSOCKET_MESSAGE_BYTES_MAX
            } else {
                CLIENT_MESSAGE_BYTES_MAX
            },
            frames_per_message_max: if is_server {
                u32::MAX
            } else {
                FRAMES_PER_MESSAGE_MAX
            },
            text_checked: !is_server,
        };
        let connection = Connection {
            fd,
            _hold: hold,
            generation: self.generations,
            role: Role::Leaving,
            decoder: Decoder::new(websocket::Role::Server, limits),
            receiving: Receiving::Paused,
            stage: Stage::Open,
            queued: None,
            is_dirty: false,
            is_deaf: false,
            sending_bytes: 0,
        };
        SocketKey {
            slot: self.slots.insert(connection) as u32,
            generation: self.generations,
        }
    }

    pub(super) fn get_mut(&mut self, socket: SocketKey) -> Option<&mut Connection> {
        self.slots
            .get_mut(socket.slot as usize)
            .filter(|connection| connection.generation == socket.generation)
    }

    pub(super) fn remove(&mut self, socket: SocketKey) {
        if self.get_mut(socket).is_some() {
            self.slots.remove(socket.slot as usize);
        }
    }

    pub(super) fn len(&self) -> usize {
        self.slots.len()
    }

    pub(super) fn iter_mut(&mut self) -> impl Iterator<Item = (SocketKey, &mut Connection)> {
        self.slots.iter_mut().map(|(slot, connection)| {
            (
                SocketKey {
                    slot: slot as u32,
                    generation: connection.generation,
                },
                connection,
            )
        })
    }
}

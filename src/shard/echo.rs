//! Connections whose messages go back to where they came from, for test suites of RFC 6455.
//!
//! Such a suite cannot drive an endpoint of a hub, which wants a token first and a SignalR handshake next. What it would look at is the
//! same here: the frame codec, the data ring, outboxes, the limits of clients and the closing handshake. Nobody is asked for a token, so
//! the address is one of its own, on loopback only; without `--websocket-echo` there is none.
//!
//! Invariants:
//! * A message goes back whole, in the kind that it had, and in the order of their ends.
//! * No more than one message of a connection is put together at a time, and the decoder bounds it before its bytes come.

use std::os::fd::OwnedFd;
use std::rc::Rc;
use std::time::Instant;

use super::admission::gate::SocketHold;
use super::connection::Role;
use super::{Chunk, Shard};
use crate::chunk::Block;
use crate::frame::websocket::{CloseCode, Event, Piece};
use crate::routing::SocketKey;

/// Why a connection has ended, for the log.
const DRAINED: &str = "the service stops";

/// What has come of a message that has not ended.
#[derive(Debug, Default)]
pub(super) struct Echo {
    begun: Vec<u8>,
}

impl Shard {
    /// Takes over a connection that has been upgraded.
    pub(super) fn adopt_echo(
        &mut self,
        fd: OwnedFd,
        hold: SocketHold,
        early: Vec<u8>,
        now: Instant,
    ) {
        let socket = self.connections.insert(fd, hold, false);
        if let Some(connection) = self.connections.get_mut(socket) {
            connection.role = Role::Echo(Box::default());
        }
        self.begin(socket, early, now);
        self.wake.signal();
    }

    /// As for a client, but for where the data goes.
    #[cold]
    pub(super) fn read_echo(
        &mut self,
        socket: SocketKey,
        block: &Rc<Block>,
        events: &mut Vec<Event>,
        now: Instant,
    ) {
        for event in events.drain(..) {
            match event {
                Event::Data(piece) => self.echo(socket, block, piece, now),
                Event::Ping(payload) => self.send_pong(socket, &payload),
                Event::Pong(_) => {}
                Event::Close(frame) => self.on_peer_close(socket, frame, now),
            }
        }
    }

    /// Ends all of them, in order: the router knows of none.
    pub(super) fn drain_echoes(&mut self, now: Instant) {
        let connections = self.connections.iter_mut();
        let echoes: Vec<SocketKey> = connections
            .filter(|(_, connection)| matches!(connection.role, Role::Echo(_)))
            .map(|(socket, _)| socket)
            .collect();
        for socket in echoes {
            self.leave(socket, DRAINED, now);
            self.close(socket, CloseCode::Away, "", now);
        }
    }

    fn echo(&mut self, socket: SocketKey, block: &Rc<Block>, piece: Piece, now: Instant) {
        let connection = self.connections.get_mut(socket);
        let Some(Role::Echo(echo)) = connection.map(|connection| &mut connection.role) else {
            return;
        };
        let bytes = Chunk::new(Rc::clone(block), piece.range);
        if let Some(message) = echo.add(bytes, piece.ends_message) {
            let message_bytes = message.len();
            self.push_to_client(socket, now, |outbox| {
                outbox.push_message(piece.kind, [message], message_bytes);
            });
        }
    }
}

impl Echo {
    /// The message, if this is its end. One that has come in a single piece is not copied.
    fn add(&mut self, piece: Chunk, ends_message: bool) -> Option<Chunk> {
        if ends_message && self.begun.is_empty() {
            return Some(piece);
        }
        self.begun.extend_from_slice(&piece);
        ends_message.then(|| Chunk::from(std::mem::take(&mut self.begun)))
    }
}

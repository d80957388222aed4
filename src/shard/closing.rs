//! How connections end.
//!
//! ```text
//!  Open ──close──► Closing ──all sent──► Lingering ──peer closes, or time is up──► Dead ──last completion──► gone
//!    └──────────────────────────── lost or reset ─────────────────────────────────►┘
//! ```

use std::fmt;
use std::net::Shutdown;
use std::time::Instant;

use socket2::SockRef;

use super::connection::{Receiving, Role, Stage};
use super::{Connection, Shard, websocket};
use crate::frame::websocket::{CloseCode, Control};
use crate::limits::{CLIENT_OUTBOX_BYTES_MAX, CLOSE_TIMEOUT};
use crate::routing::SocketKey;

/// Why a connection has ended, for the log.
const BROKEN: &str = "it broke";

impl Shard {
    /// Tells the router, once, that a connection ends, and does what follows from it. The reason is for the log.
    pub(super) fn leave(&mut self, socket: SocketKey, reason: &str, now: Instant) {
        let Some(role) = self.take_role(socket) else {
            return;
        };
        match &role {
            Role::Client { key, .. } => self.router.on_client_closed(*key, now, &mut self.effects),
            Role::Server(end) => self
                .router
                .on_server_closed(end.key, now, &mut self.effects),
            Role::Echo(_) | Role::Leaving => return,
        }
        self.apply_effects(&[], None, now);
        self.free_place(role, reason);
    }

    /// As [`Self::leave`], for a connection that nobody wanted to end: a client may come back to it on another socket.
    pub(super) fn part(&mut self, socket: SocketKey, reason: &str, now: Instant) {
        let connection = self.connections.get_mut(socket);
        match connection.and_then(|connection| connection.client_key()) {
            Some(client) => self.part_with_client(socket, client, now),
            None => self.leave(socket, reason, now),
        }
    }

    /// Sends a close frame behind what waits. Nothing else is sent after it.
    pub(super) fn close(&mut self, socket: SocketKey, code: CloseCode, reason: &str, now: Instant) {
        self.push_raw(socket, &websocket::close_frame(code, reason, None));
        let Some(connection) = self.connections.get_mut(socket) else {
            return;
        };
        if connection.stage != Stage::Open {
            return;
        }
        connection.stage = Stage::Closing {
            peer_said_close: false,
        };
        self.closings.push_back((now + CLOSE_TIMEOUT, socket));
        // A paused peer could not say that it closes too.
        self.resume(socket);
    }

    /// Answers the peer's close frame, or takes it as the answer to ours.
    pub(super) fn answer_close(&mut self, socket: SocketKey, code: CloseCode, now: Instant) {
        self.close(socket, code, "", now);
        let Some(connection) = self.connections.get_mut(socket) else {
            return;
        };
        match &mut connection.stage {
            Stage::Closing { peer_said_close } => *peer_said_close = true,
            // All has been said on both sides; it is the server that ends the TCP connection (RFC 6455 §7.1.1).
            Stage::Lingering => self.kill(socket),
            Stage::Open | Stage::Dead => {}
        }
    }

    /// The connection has broken, or must not go on. What waits for it is dropped.
    pub(super) fn lose(&mut self, socket: SocketKey, now: Instant) {
        self.kill(socket);
        self.leave(socket, BROKEN, now);
    }

    /// Drops what waits for a connection that is about to be closed. What the kernel has been given goes on its way.
    pub(super) fn drop_queued(&mut self, socket: SocketKey) {
        let queued = self
            .connections
            .get_mut(socket)
            .and_then(|connection| connection.queued.take());
        if let Some(outbox) = queued {
            self.keep_outbox(outbox);
        }
    }

    /// As [`Self::lose`], for a connection that nobody wanted to end.
    pub(super) fn break_off(&mut self, socket: SocketKey, now: Instant) {
        self.kill(socket);
        self.part(socket, BROKEN, now);
    }

    /// All that waited for a closing connection has been sent.
    pub(super) fn on_flushed(&mut self, socket: SocketKey) {
        let Some(connection) = self.connections.get_mut(socket) else {
            return;
        };
        match connection.stage {
            Stage::Closing {
                peer_said_close: true,
            } if connection.receiving == Receiving::Ended => self.kill(socket),
            Stage::Closing {
                peer_said_close: true,
            } => {
                connection.stage = Stage::Lingering;
                // Not both directions: unread bytes would turn the end into a reset that destroys what we sent.
                shutdown(connection, Shutdown::Write);
            }
            Stage::Closing {
                peer_said_close: false,
            } => connection.stage = Stage::Lingering,
            Stage::Open | Stage::Lingering | Stage::Dead => {}
        }
    }

    pub(super) fn end_late_closings(&mut self, now: Instant) {
        while self
            .closings
            .front()
            .is_some_and(|(deadline, _)| *deadline <= now)
        {
            if let Some((_, socket)) = self.closings.pop_front() {
                self.lose(socket, now);
                self.remove_if_unused(socket);
            }
        }
    }

    /// Forgets a dead connection, and closes its descriptor, once the kernel is done with it.
    pub(super) fn remove_if_unused(&mut self, socket: SocketKey) {
        let Some(connection) = self.connections.get_mut(socket) else {
            return;
        };
        if connection.stage == Stage::Dead && !connection.is_in_use() {
            self.connections.remove(socket);
        }
    }

    /// Takes away who is at the other end: from now on the router is not told of this connection any more.
    pub(super) fn take_role(&mut self, socket: SocketKey) -> Option<Role> {
        let connection = self.connections.get_mut(socket)?;
        Some(std::mem::replace(&mut connection.role, Role::Leaving))
    }

    /// Gives up a place, and reads again those who waited for a server connection that is gone.
    pub(super) fn free_place(&mut self, role: Role, reason: impl fmt::Display) {
        if let Role::Server(end) = role {
            tracing::info!(shard = %self.id, hub = %end.place.hub.name, cid = %end.connection_id, %reason, "a server connection has ended");
            for client in end.paused_clients {
                self.resume(client);
            }
        }
    }

    /// Answers a ping, unless the peer is far behind with reading: the answers would pile up.
    pub(super) fn send_pong(&mut self, socket: SocketKey, payload: &[u8]) {
        if self.connections.get_mut(socket).is_some_and(|connection| {
            connection.stage == Stage::Open && connection.pending_bytes() < CLIENT_OUTBOX_BYTES_MAX
        }) {
            self.push_raw(
                socket,
                &websocket::control_frame(Control::Pong, payload, None),
            );
        }
    }

    /// Makes the kernel finish whatever it still does for a connection.
    pub(super) fn kill(&mut self, socket: SocketKey) {
        let Some(connection) = self.connections.get_mut(socket) else {
            return;
        };
        if connection.stage == Stage::Dead {
            return;
        }
        connection.stage = Stage::Dead;
        shutdown(connection, Shutdown::Both);
        if matches!(connection.receiving, Receiving::Paused | Receiving::Starved) {
            connection.receiving = Receiving::Ended;
        }
        if let Some(outbox) = connection.queued.take() {
            self.keep_outbox(outbox);
        }
    }
}

/// Both ends learn that nothing more will come. An error says that they know already.
fn shutdown(connection: &Connection, how: Shutdown) {
    let _ = SockRef::from(connection.descriptor()).shutdown(how);
}

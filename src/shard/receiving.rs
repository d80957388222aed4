//! From received bytes to the router: frames, service messages, and the pauses that back-pressure asks for.

use std::rc::Rc;
use std::time::Instant;

use super::connection::{Reading, Receiving, Role, Stage};
use super::ring::ReceiveEnd;
use super::{Chunk, Connection, Shard, websocket};
use crate::chunk::Block;
use crate::frame::websocket::{CloseCode, Event, FrameError};
use crate::limits::SERVER_OUTBOX_BYTES_HIGH;
use crate::routing::{ClientKey, ServerKey, SocketKey};

/// Why a connection has ended, for the log.
const PEER_CLOSED: &str = "its peer closed it";

impl Shard {
    pub(super) fn on_received(
        &mut self,
        socket: SocketKey,
        block: Rc<Block>,
        bytes: usize,
        armed: bool,
        now: Instant,
    ) {
        self.counters.receives.increment();
        let Some(connection) = self.connections.get_mut(socket) else {
            debug_assert!(false, "a completion came after the last one");
            return give_back(block);
        };
        if !armed {
            // The kernel ended it only because its completion queue was full; or we did, and this came first.
            connection.receiving = if connection.receiving == Receiving::Pausing {
                Receiving::Paused
            } else {
                Receiving::Starved
            };
            if connection.receiving == Receiving::Starved {
                self.starved.push(socket);
            }
        }
        self.read(socket, block, bytes, now);
        self.remove_if_unused(socket);
    }

    pub(super) fn on_receive_ended(&mut self, socket: SocketKey, cause: ReceiveEnd, now: Instant) {
        let Some(connection) = self.connections.get_mut(socket) else {
            return;
        };
        match cause {
            ReceiveEnd::NoBuffer if connection.stage != Stage::Dead => {
                if connection.receiving == Receiving::Pausing {
                    connection.receiving = Receiving::Paused;
                } else {
                    connection.receiving = Receiving::Starved;
                    self.starved.push(socket);
                }
            }
            ReceiveEnd::Cancelled if connection.stage != Stage::Dead => {
                // It may have been asked for again while the cancellation was under way.
                let wanted = connection.receiving == Receiving::Armed;
                connection.receiving = Receiving::Paused;
                if wanted {
                    self.resume(socket);
                }
            }
            ReceiveEnd::NoBuffer | ReceiveEnd::Cancelled => connection.receiving = Receiving::Ended,
            ReceiveEnd::PeerClosed | ReceiveEnd::Failed(_) => {
                connection.receiving = Receiving::Ended;
                match &mut connection.stage {
                    // The peer has ended only its own side: it may be waiting for our close frame.
                    Stage::Closing { peer_said_close } if cause == ReceiveEnd::PeerClosed => {
                        *peer_said_close = true;
                    }
                    Stage::Open | Stage::Closing { .. } | Stage::Lingering | Stage::Dead => {
                        self.break_off(socket, now);
                    }
                }
            }
        }
        self.remove_if_unused(socket);
    }

    /// A pause that has had no effect is tried again, if it is still wanted.
    pub(super) fn on_cancel_missed(&mut self, socket: SocketKey) {
        if let Some(connection) = self.connections.get_mut(socket)
            && connection.receiving == Receiving::Pausing
        {
            self.ring.cancel_receive(socket);
        }
    }

    /// Decodes received bytes in place and acts on what they hold.
    pub(super) fn read(
        &mut self,
        socket: SocketKey,
        mut block: Rc<Block>,
        bytes: usize,
        now: Instant,
    ) {
        let connection = match self.connections.get_mut(socket) {
            Some(connection) if !connection.is_deaf => connection,
            _ => return give_back(block),
        };
        let mut events = std::mem::take(&mut self.events);
        let fault = decode(connection, &mut block, bytes, &mut events);
        match &mut connection.role {
            Role::Server(end) => {
                let key = end.key;
                // Out of the connection while it is at work: the router may close that meanwhile.
                let Some(mut reading) = end.reading.take() else {
                    debug_assert!(false, "a server connection is read once at a time");
                    self.events = events;
                    return self.lose(socket, now);
                };
                self.read_server(socket, key, &mut reading, &block, &mut events, now);
                if let Some(end) = self
                    .connections
                    .get_mut(socket)
                    .and_then(Connection::server_end)
                {
                    end.reading = Some(reading);
                }
            }
            Role::Client { .. } | Role::Leaving => {
                let client = connection.client_key();
                self.read_client(socket, client, &block, &mut events, now);
            }
            Role::Echo(_) => self.read_echo(socket, &block, &mut events, now),
        }
        events.clear();
        self.events = events;
        if let Some(fault) = fault {
            self.fail(socket, fault, now);
        }
        give_back(block);
    }

    fn read_client(
        &mut self,
        socket: SocketKey,
        mut client: Option<ClientKey>,
        block: &Rc<Block>,
        events: &mut Vec<Event>,
        now: Instant,
    ) {
        for event in events.drain(..) {
            match event {
                Event::Data(piece) => {
                    let Some(key) = client.filter(|_| !piece.range.is_empty()) else {
                        continue;
                    };
                    let payload = Chunk::new(Rc::clone(block), piece.range);
                    if !self
                        .router
                        .on_client_data(key, payload, now, &mut self.effects)
                    {
                        client = None;
                    }
                    let congested = self.apply_effects(&[], None, now);
                    if let Some(server) = congested {
                        self.pause_client(socket, server);
                    }
                }
                Event::Ping(payload) => self.send_pong(socket, &payload),
                Event::Pong(_) => {}
                Event::Close(frame) => self.on_peer_close(socket, frame, now),
            }
        }
    }

    fn read_server(
        &mut self,
        socket: SocketKey,
        server: ServerKey,
        reading: &mut Reading,
        block: &Rc<Block>,
        events: &mut Vec<Event>,
        now: Instant,
    ) {
        let mut is_readable = true;
        for event in events.drain(..) {
            match event {
                Event::Data(piece) if is_readable => {
                    let payload = Chunk::new(Rc::clone(block), piece.range);
                    if let Err(error) =
                        self.read_service_messages(socket, server, reading, &payload, now)
                    {
                        // Nobody knows where the next message begins.
                        is_readable = false;
                        self.counters.protocol_errors.increment();
                        self.router.on_server_fault(
                            server,
                            &error.to_string(),
                            now,
                            &mut self.effects,
                        );
                        self.apply_effects(&[], None, now);
                    }
                }
                Event::Ping(payload) => self.send_pong(socket, &payload),
                Event::Data(_) | Event::Pong(_) => {}
                Event::Close(frame) => self.on_peer_close(socket, frame, now),
            }
        }
    }

    fn read_service_messages(
        &mut self,
        socket: SocketKey,
        server: ServerKey,
        reading: &mut Reading,
        payload: &Chunk,
        now: Instant,
    ) -> Result<(), crate::frame::record::LengthError> {
        self.router.on_server_heard(server, now);
        let mut at = 0;
        while let Some(piece) = reading.records.next(payload, &mut at)? {
            let copied = reading.add(payload.slice(piece.range), piece.record_bytes);
            self.counters.copied_bytes_assembled.add(copied as u64);
            if piece.ends_record {
                let message = reading.take_message();
                self.router
                    .on_server_message(server, &message, now, &mut self.effects);
                self.apply_effects(&message, Some(socket), now);
            }
        }
        Ok(())
    }

    /// Stops reading a client until its server connection has room again.
    pub(super) fn pause_client(&mut self, client: SocketKey, server: SocketKey) {
        let is_full = self
            .connections
            .get_mut(server)
            .is_some_and(|server| server.pending_bytes() >= SERVER_OUTBOX_BYTES_HIGH);
        if is_full
            && self.pause(client)
            && let Some(end) = self
                .connections
                .get_mut(server)
                .and_then(Connection::server_end)
        {
            end.paused_clients.push(client);
        }
    }

    /// Stops reading a socket, or hearing a client without one. False if that is so already.
    pub(super) fn pause(&mut self, socket: SocketKey) -> bool {
        let Some(connection) = self.connections.get_mut(socket) else {
            let is_paused = self.http_clients.pause(socket);
            self.counters.reads_paused.add(u64::from(is_paused));
            return is_paused;
        };
        match connection.receiving {
            Receiving::Armed => {
                connection.receiving = Receiving::Pausing;
                self.ring.cancel_receive(socket);
            }
            Receiving::Starved => connection.receiving = Receiving::Paused,
            Receiving::Pausing | Receiving::Paused | Receiving::Ended => return false,
        }
        self.counters.reads_paused.increment();
        true
    }

    /// Reads a paused socket again, or hears such a client.
    pub(super) fn resume(&mut self, socket: SocketKey) {
        let Some(connection) = self.connections.get_mut(socket) else {
            return self.http_clients.resume(socket);
        };
        if connection.stage == Stage::Dead {
            return;
        }
        match connection.receiving {
            Receiving::Paused => {
                connection.receiving = Receiving::Armed;
                self.ring.receive(connection.fd(), socket);
            }
            // Its last completion is still to come, and will find that it is wanted.
            Receiving::Pausing => connection.receiving = Receiving::Armed,
            Receiving::Armed | Receiving::Starved | Receiving::Ended => {}
        }
    }

    /// Reads sockets again that had no buffer, now that there are some.
    pub(super) fn feed_starved(&mut self) {
        if self.starved.is_empty() || !self.ring.has_buffers() {
            return;
        }
        for socket in std::mem::take(&mut self.starved) {
            if let Some(connection) = self.connections.get_mut(socket)
                && connection.receiving == Receiving::Starved
                && connection.stage != Stage::Dead
            {
                connection.receiving = Receiving::Armed;
                self.ring.receive(connection.fd(), socket);
            }
        }
    }

    /// The peer broke a rule of the WebSocket protocol.
    fn fail(&mut self, socket: SocketKey, fault: FrameError, now: Instant) {
        self.counters.protocol_errors.increment();
        tracing::debug!(%fault, "a peer broke the WebSocket protocol");
        let mut server = None;
        if let Some(connection) = self.connections.get_mut(socket) {
            connection.is_deaf = true;
            server = connection.server_end().map(|end| end.key);
        }
        if let Some(server) = server {
            let (router, effects) = (&mut self.router, &mut self.effects);
            if fault.close_code() == CloseCode::Size {
                router.on_server_message_too_long(server, &fault.to_string(), now, effects);
            } else {
                router.on_server_fault(server, &fault.to_string(), now, effects);
            }
            self.apply_effects(&[], None, now);
        }
        self.leave(socket, "it broke the WebSocket protocol", now);
        // Its close frame could not be told from what else it sends, so none is waited for (RFC 6455 §7.1.7).
        self.answer_close(socket, fault.close_code(), now);
    }

    pub(super) fn on_peer_close(
        &mut self,
        socket: SocketKey,
        frame: Option<websocket::CloseFrame>,
        now: Instant,
    ) {
        // The code is echoed (RFC 6455 §5.5.1). An app server closes with 1000 whatever happened.
        let code = frame.map_or(CloseCode::Normal, |frame| frame.code);
        // A client whose application stops it says so in the hub protocol. If it only closes its socket it may come back, as Microsoft's
        // JavaScript client does when it has heard nothing for too long; but a page that is left does not.
        if code == CloseCode::Away {
            self.leave(socket, PEER_CLOSED, now);
        } else {
            self.part(socket, PEER_CLOSED, now);
        }
        self.answer_close(socket, code, now);
    }
}

/// Decodes all of `bytes`. What was decoded before a fault counts.
fn decode(
    connection: &mut Connection,
    block: &mut Rc<Block>,
    bytes: usize,
    events: &mut Vec<Event>,
) -> Option<FrameError> {
    let Some(alone) = Rc::get_mut(block) else {
        debug_assert!(false, "a received block belongs to nobody else");
        return None;
    };
    let input = alone.bytes_mut().get_mut(..bytes)?;
    let mut at = 0;
    loop {
        match connection.decoder.next(input, &mut at) {
            Ok(Some(event)) => events.push(event),
            Ok(None) => return None,
            Err(fault) => return Some(fault),
        }
    }
}

/// Returns a block to its pool, unless chunks of it are in use.
fn give_back(block: Rc<Block>) {
    drop(Chunk::new(block, 0..0));
}

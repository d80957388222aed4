//! From the router to the sockets and to other shards: effects are carried out here.

use std::collections::VecDeque;
use std::io;
use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use smallvec::SmallVec;

use super::connection::{Role, Stage};
use super::directory::{HubEntry, ServerEntry};
use super::mailbox::Postboxes;
use super::outbox::Outbox;
use super::ring::wake::Wake;
use super::{Chunk, Delivery, Shard};
use crate::counters::Counters;
use crate::frame::websocket::CloseCode;
use crate::id::{ConnectionId, ShardId};
use crate::limits::{
    CLIENT_OUTBOX_BYTES_MAX, SERVER_OUTBOX_BYTES_HIGH, SERVER_OUTBOX_BYTES_LOW,
    SERVER_OUTBOX_BYTES_MAX, SPARE_OUTBOXES_MAX,
};
use crate::protocol::service::ping::{HubStatus, ServersTag, ServicePing};
use crate::protocol::service::{CONNECTION_DATA_TRAILER, Message, Ping, connection_data_header};
use crate::routing::{CloseCause, Effect, ForwardTo, HubId, Mail, Origin, ServerRef, SocketKey};

/// Mails to other shards that have found no room yet.
#[derive(Debug)]
pub(super) struct Outgoing {
    postboxes: Postboxes<Delivery, Wake>,
    /// By shard. What is here goes before anything new.
    delayed: Vec<VecDeque<Delivery>>,
    delayed_count: usize,
    /// Server connections that are not read until there is room again.
    paused: Vec<SocketKey>,
}

impl Outgoing {
    pub(super) fn new(postboxes: Postboxes<Delivery, Wake>) -> Self {
        let delayed = postboxes.iter().map(|_| VecDeque::new()).collect();
        Self {
            postboxes,
            delayed,
            delayed_count: 0,
            paused: Vec::new(),
        }
    }

    /// Posts a mail, now or as soon as there is room. False if it has to wait.
    pub(super) fn post(&mut self, shard: ShardId, delivery: Delivery, counters: &Counters) -> bool {
        let (Some(postbox), Some(delayed)) = (
            self.postboxes.get(shard.index()),
            self.delayed.get_mut(shard.index()),
        ) else {
            debug_assert!(false, "mail for a shard that does not exist");
            return true;
        };
        counters.mails_posted.increment();
        let delivery = if delayed.is_empty() {
            postbox.post(delivery)
        } else {
            Err(delivery)
        };
        match delivery {
            Ok(()) => true,
            Err(delivery) => {
                counters.mails_delayed.increment();
                delayed.push_back(delivery);
                self.delayed_count += 1;
                false
            }
        }
    }

    /// Whether mails wait for room.
    pub(super) fn has_delayed(&self) -> bool {
        self.delayed_count > 0
    }

    fn retry(&mut self) {
        for (postbox, delayed) in self.postboxes.iter().zip(&mut self.delayed) {
            while let Some(delivery) = delayed.pop_front() {
                if let Err(delivery) = postbox.post(delivery) {
                    delayed.push_front(delivery);
                    break;
                }
                self.delayed_count -= 1;
            }
        }
    }
}

/// What waits for a socket after something has been added.
struct Backlog {
    /// Bytes that had been waiting behind those on their way.
    behind: usize,
    /// Bytes that wait or are on their way.
    pending: usize,
}

impl Shard {
    /// Carries out what the router wants. `message` is the service message that it was told of, if any, and `source` the server
    /// connection that this came on. Returns a server connection for which more waits than should.
    pub(super) fn apply_effects(
        &mut self,
        message: &[Chunk],
        source: Option<SocketKey>,
        now: Instant,
    ) -> Option<SocketKey> {
        let mut congested = None;
        let mut effects = std::mem::take(&mut self.effects);
        for effect in effects.drain(..) {
            // A connection that is lost over an effect makes the router want more, which is carried out there and then.
            if let Some(server) = self.apply(effect, message, source, now) {
                congested = Some(server);
            }
        }
        self.effects = effects;
        congested
    }

    fn apply(
        &mut self,
        effect: Effect,
        message: &[Chunk],
        source: Option<SocketKey>,
        now: Instant,
    ) -> Option<SocketKey> {
        match effect {
            Effect::RelayToServer {
                server,
                client,
                payload,
            } => return self.relay_to_server(server, client, payload, now),
            Effect::RelayToClient {
                client,
                kind,
                mut payload,
            } => {
                let bytes = payload.iter().map(|chunk| chunk.len()).sum();
                let is_queued = self.push_to_client(client, now, |outbox| {
                    outbox.push_message(kind, std::mem::take(&mut payload), bytes);
                });
                if !is_queued {
                    self.relay_to_outlet(client, &payload, now);
                }
            }
            Effect::FanOut { frame, clients } => {
                let mut copy = None;
                for client in clients {
                    let push = |outbox: &mut Outbox| outbox.push_chunk(frame.clone());
                    if !self.push_to_client(client, now, push) {
                        self.fan_out_to_outlet(client, &frame, &mut copy, now);
                    }
                }
            }
            Effect::ToServer { server, messages } => {
                return self.push_to_server(server, now, |outbox| outbox.push_bytes(&messages));
            }
            Effect::Forward { to, hub, origin } => self.forward(&to, hub, &origin, message, source),
            Effect::Post { shard, mail } => self.post(shard, Delivery::Mail(mail), source),
            Effect::CloseClient { client, cause } => self.close_for(client, cause, now),
            Effect::CloseServer { server, cause } => self.close_for(server, cause, now),
            Effect::ServerReady {
                hub,
                server,
                is_routable,
                allows_stateful_reconnects,
            } => self.announce_server(hub, server, is_routable, allows_stateful_reconnects),
            Effect::ServerDraining { hub, server } => {
                self.with_hub(hub, |hub| hub.drain_server(server));
            }
            Effect::ServerGone { hub, server } => {
                self.with_hub(hub, |hub| hub.remove_server(server));
            }
            Effect::ClientMoved { client, server } => self.move_place(client, server),
            Effect::PauseClient(client) => {
                self.pause(client);
            }
            Effect::ResumeClient(client) => self.resume(client),
            Effect::AnswerStatus(server) => return self.answer_status(server, now),
            Effect::AnswerServers(server) => return self.answer_servers(server, now),
        }
        None
    }

    pub(super) fn take_mail(&mut self, mail: Mail, now: Instant) {
        // A forwarded message may have to be forwarded once more; see the router.
        let message = match &mail {
            Mail::Forwarded { message, .. } => Some(message.clone()),
            Mail::Answer { .. }
            | Mail::Moved { .. }
            | Mail::Question { .. }
            | Mail::Findings { .. } => None,
        };
        self.router.on_mail(mail, now, &mut self.effects);
        let needs_message = self
            .effects
            .iter()
            .any(|effect| matches!(effect, Effect::Forward { .. }));
        let message: Vec<Chunk> = message
            .filter(|_| needs_message)
            .map(|message| Chunk::from(message.to_vec()))
            .into_iter()
            .collect();
        self.apply_effects(&message, None, now);
    }

    /// Adds bytes to a socket's outbox as they are: control frames.
    pub(super) fn push_raw(&mut self, socket: SocketKey, bytes: &[u8]) {
        self.with_outbox(socket, |outbox| {
            outbox.close_message();
            outbox.push_bytes(bytes);
        });
    }

    /// Hands what is queued to the kernel, all of a socket's in one piece.
    pub(super) fn flush(&mut self) {
        let mut dirty = std::mem::take(&mut self.dirty);
        for socket in dirty.drain(..) {
            let Some(connection) = self.connections.get_mut(socket) else {
                continue;
            };
            connection.is_dirty = false;
            if connection.sending_bytes > 0 || connection.stage == Stage::Dead {
                continue;
            }
            if let Some(mut outbox) = connection.queued.take() {
                outbox.close_message();
                self.counters
                    .copied_bytes_joint
                    .add(outbox.take_copied() as u64);
                connection.sending_bytes = outbox.bytes();
                self.ring.send(connection.fd(), socket, outbox);
            }
        }
        self.dirty = dirty;
    }

    pub(super) fn on_sent(
        &mut self,
        socket: SocketKey,
        outbox: Box<Outbox>,
        result: &io::Result<()>,
        now: Instant,
    ) {
        self.counters.sends.increment();
        self.counters.sent_bytes.add(outbox.bytes() as u64);
        self.keep_outbox(outbox);
        let Some(connection) = self.connections.get_mut(socket) else {
            return;
        };
        connection.sending_bytes = 0;
        if result.is_err() {
            self.break_off(socket, now);
        } else if connection.queued.is_some() {
            self.mark_dirty(socket);
        } else {
            self.on_flushed(socket);
        }
        self.resume_paused_clients(socket);
        self.remove_if_unused(socket);
    }

    pub(super) fn keep_outbox(&mut self, mut outbox: Box<Outbox>) {
        outbox.clear();
        if self.spare_outboxes.len() < SPARE_OUTBOXES_MAX {
            self.spare_outboxes.push(outbox);
        }
    }

    /// Copies what waits for slow receivers, or for the rest of a message from a slow sender, out of the receive buffers.
    pub(super) fn detach_buffers(&mut self) {
        let mut copied = 0;
        for (_, connection) in self.connections.iter_mut() {
            if let Some(outbox) = &mut connection.queued {
                copied += outbox.detach();
            }
            if let Some(reading) = connection.server_end().and_then(|end| end.reading.as_mut()) {
                copied += reading.detach();
            }
        }
        self.counters.copied_bytes_detached.add(copied as u64);
    }

    /// Posts what had found no room, and reads those again who had to wait for it.
    pub(super) fn retry_posts(&mut self) {
        if self.outgoing.has_delayed() {
            self.outgoing.retry();
        }
        if !self.outgoing.has_delayed() {
            for server in std::mem::take(&mut self.outgoing.paused) {
                self.resume(server);
            }
        }
    }

    fn relay_to_server(
        &mut self,
        server: SocketKey,
        client: ConnectionId,
        payload: Chunk,
        now: Instant,
    ) -> Option<SocketKey> {
        let id = client.text();
        let header =
            connection_data_header(std::str::from_utf8(&id).unwrap_or_default(), payload.len());
        self.push_to_server(server, now, |outbox| {
            outbox.push_bytes(&header);
            outbox.push_chunk(payload);
            outbox.push_bytes(&CONNECTION_DATA_TRAILER);
        })
    }

    /// Adds service messages to the WebSocket message that is being gathered for an app server.
    fn push_to_server(
        &mut self,
        server: SocketKey,
        now: Instant,
        push: impl FnOnce(&mut Outbox),
    ) -> Option<SocketKey> {
        let bytes = self
            .with_outbox(server, |outbox| {
                outbox.open_message();
                push(outbox);
            })?
            .pending;
        if bytes >= SERVER_OUTBOX_BYTES_MAX {
            self.give_up_on(server, bytes, now);
            return None;
        }
        (bytes >= SERVER_OUTBOX_BYTES_HIGH).then_some(server)
    }

    /// Ends a server connection for which too much waits. Its clients are gone with it, so what waits is of no use to anybody, and in the
    /// way of the word that says why.
    fn give_up_on(&mut self, server: SocketKey, bytes: usize, now: Instant) {
        // What the kernel is sending may itself be too much, so this may come here once more; by then the role is gone.
        let Some(role @ Role::Server(_)) = self.take_role(server) else {
            return;
        };
        if let Role::Server(end) = &role {
            self.router
                .on_server_too_far_behind(end.key, now, &mut self.effects);
        }
        self.counters.servers_too_far_behind.increment();
        tracing::warn!(shard = %self.id, bytes, "closes a server connection that does not take what its clients send");
        self.drop_queued(server);
        self.apply_effects(&[], None, now);
        self.free_place(role, "too far behind");
    }

    /// Adds frames to what waits for a client. False if it has no socket that is open.
    pub(super) fn push_to_client(
        &mut self,
        client: SocketKey,
        now: Instant,
        push: impl FnOnce(&mut Outbox),
    ) -> bool {
        let Some(Backlog { behind, pending }) = self.with_outbox(client, push) else {
            return false;
        };
        if behind > CLIENT_OUTBOX_BYTES_MAX {
            self.counters.slow_consumers.increment();
            tracing::info!(shard = %self.id, bytes = pending, "closed a client that is too slow");
            self.lose(client, now);
            self.remove_if_unused(client);
        }
        true
    }

    /// Lets something be added to an open socket's outbox.
    fn with_outbox(
        &mut self,
        socket: SocketKey,
        push: impl FnOnce(&mut Outbox),
    ) -> Option<Backlog> {
        let connection = self.connections.get_mut(socket)?;
        // A close frame is the last that is sent.
        if connection.stage != Stage::Open {
            return None;
        }
        let outbox = connection
            .queued
            .get_or_insert_with(|| self.spare_outboxes.pop().unwrap_or_default());
        // Before anything is being sent, what waits has come in this very turn.
        let behind = if connection.sending_bytes > 0 {
            outbox.bytes()
        } else {
            0
        };
        push(outbox);
        self.counters.sent_frames.increment();
        let pending = connection.pending_bytes();
        self.mark_dirty(socket);
        Some(Backlog { behind, pending })
    }

    fn mark_dirty(&mut self, socket: SocketKey) {
        if let Some(connection) = self.connections.get_mut(socket)
            && !connection.is_dirty
        {
            connection.is_dirty = true;
            self.dirty.push(socket);
        }
    }

    /// Copies the message once, for all shards that need it.
    fn forward(
        &mut self,
        to: &ForwardTo,
        hub: HubId,
        origin: &Origin,
        message: &[Chunk],
        source: Option<SocketKey>,
    ) {
        let mut copy: Option<Bytes> = None;
        let entry = self.directory.hub_by_id(hub);
        for index in 0..self.outgoing.postboxes.len() {
            let shard = ShardId(index as u16);
            let wanted = match to {
                ForwardTo::Hub => entry.as_ref().is_some_and(|hub| hub.has_clients_on(shard)),
                ForwardTo::Shards(shards) => shards.contains(&shard),
            };
            if !wanted || shard == self.id {
                continue;
            }
            let message = copy.get_or_insert_with(|| {
                let slices: SmallVec<[&[u8]; 4]> = message.iter().map(|chunk| &**chunk).collect();
                let bytes = slices.concat();
                self.counters.copied_bytes_mail.add(bytes.len() as u64);
                bytes.into()
            });
            let mail = Mail::Forwarded {
                hub,
                origin: origin.clone(),
                message: message.clone(),
            };
            self.post(shard, Delivery::Mail(mail), source);
        }
    }

    /// Posts a mail. If it has to wait, so has the server connection that caused it.
    fn post(&mut self, shard: ShardId, delivery: Delivery, source: Option<SocketKey>) {
        if !self.outgoing.post(shard, delivery, &self.counters)
            && let Some(source) = source
            && self.pause(source)
        {
            self.outgoing.paused.push(source);
        }
    }

    fn close_for(&mut self, socket: SocketKey, cause: CloseCause, now: Instant) {
        // Of the two that a key may stand for, it finds one at most.
        self.close_outlet(socket, cause);
        if let Some(role) = self.take_role(socket) {
            self.free_place(role, format_args!("{cause:?}"));
        }
        self.away.remove(&socket);
        // An app server has been told in a `ServiceError`, which the SDK may leave unread if the close frame says that something is wrong.
        let reason = match cause {
            CloseCause::ProtocolError => "protocol error",
            CloseCause::MessageTooLong => "message too long",
            CloseCause::Silent => "silent",
            CloseCause::TooFarBehind => "too far behind",
            CloseCause::SlowConsumer => {
                self.lose(socket, now);
                // If it was not being read either, no completion will come to do this.
                return self.remove_if_unused(socket);
            }
            CloseCause::AppServer
            | CloseCause::AuthenticationExpired
            | CloseCause::ServerConnectionLost
            | CloseCause::NoAppServer
            | CloseCause::BadHandshake
            | CloseCause::HandshakeTimeout
            | CloseCause::NotResumed
            | CloseCause::ClientFault
            | CloseCause::Drain => "",
        };
        tracing::debug!(shard = %self.id, ?cause, "closes a connection");
        self.close(socket, CloseCode::Normal, reason, now);
    }

    /// Counts a client where it is now.
    fn move_place(&mut self, client: SocketKey, server: ServerRef) {
        let connection = self.connections.get_mut(client);
        let place = match connection.map(|connection| &mut connection.role) {
            Some(Role::Client { place, .. }) => Some(&mut **place),
            // One that has lost its socket has a place all the same, and so has one that never had any.
            Some(Role::Server(_) | Role::Echo(_) | Role::Leaving) | None => {
                match self.away.get_mut(&client) {
                    Some(place) => Some(&mut **place),
                    None => self.http_clients.place_mut(client),
                }
            }
        };
        if let Some(place) = place {
            place.server = place.hub.reserve(server);
        }
        // It may have had to wait for the server connection that it has left.
        self.resume(client);
    }

    fn announce_server(
        &self,
        hub: HubId,
        server: Origin,
        is_routable: bool,
        allows_stateful_reconnects: bool,
    ) {
        self.with_hub(hub, |hub| {
            let view = self.router.server_view(server.server.server);
            let connection_type = view.as_ref().and_then(|view| view.connection_type);
            let cid = view.as_ref().map(|view| view.connection_id);
            tracing::info!(shard = %self.id, hub = %hub.name, server_id = %server.server_id, cid, ?connection_type, is_routable, "a server connection is up");
            hub.add_server(Arc::new(ServerEntry::new(
                server.server,
                server.server_id,
                is_routable,
                allows_stateful_reconnects,
            )));
        });
    }

    fn with_hub(&self, hub: HubId, act: impl FnOnce(&HubEntry)) {
        if let Some(hub) = self.directory.hub_by_id(hub) {
            act(&hub);
        }
    }

    fn answer_status(&mut self, server: SocketKey, now: Instant) -> Option<SocketKey> {
        let end = self.connections.get_mut(server)?.server_end()?;
        let hub = &end.place.hub;
        let client_count = u64::from(hub.client_count());
        let status = ServicePing::Status(HubStatus {
            has_clients: client_count > 0,
            client_count: Some(client_count),
            server_count: Some(hub.server_count() as u64),
            capacity: Some(self.capacity as u64),
        });
        self.answer_ping(server, status, now)
    }

    fn answer_servers(&mut self, server: SocketKey, now: Instant) -> Option<SocketKey> {
        let end = self.connections.get_mut(server)?.server_end()?;
        let servers = end.place.hub.servers();
        let tag = ServersTag::new(
            dotnet_ticks(),
            servers.iter().map(|server| &*server.server_id),
        );
        self.answer_ping(server, ServicePing::Servers(tag), now)
    }

    fn answer_ping(
        &mut self,
        server: SocketKey,
        ping: ServicePing<'_>,
        now: Instant,
    ) -> Option<SocketKey> {
        let mut messages = Vec::new();
        Message::<&[u8]>::from(Ping::from(ping)).encode(&mut messages);
        self.push_to_server(server, now, |outbox| outbox.push_bytes(&messages))
    }

    fn resume_paused_clients(&mut self, server: SocketKey) {
        let Some(connection) = self.connections.get_mut(server) else {
            return;
        };
        if connection.pending_bytes() > SERVER_OUTBOX_BYTES_LOW {
            return;
        }
        if let Some(end) = connection.server_end()
            && !end.paused_clients.is_empty()
        {
            for client in std::mem::take(&mut end.paused_clients) {
                self.resume(client);
            }
        }
    }
}

/// The time in the form in which the SDK compares tags: 100 ns since the year 1.
fn dotnet_ticks() -> u64 {
    const TICKS_BEFORE_UNIX: u64 = 621_355_968_000_000_000;
    let since_unix = std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .unwrap_or_default();
    TICKS_BEFORE_UNIX + (since_unix.as_nanos() / 100) as u64
}

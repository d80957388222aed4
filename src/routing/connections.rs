//! The life of a client connection: handshake, binding, data, end.

use std::cmp::Reverse;
use std::collections::hash_map::Entry;
use std::time::Instant;

use smallvec::smallvec;

use super::client::{Client, Handshake, Phase};
use super::server::{Server, ServerPhase};
use super::stateful::Stateful;
use super::traffic::{Introduction, Traffic};
use super::{
    ClientKey, CloseCause, Effect, Mail, NewClient, Payload, Router, ServerKey, SocketKey,
};
use crate::chunk::Chunk;
use crate::frame::record::find_separator;
use crate::frame::websocket::MessageKind;
use crate::limits::HUB_HANDSHAKE_BYTES_MAX;
use crate::protocol::hub::HubProtocol;
use crate::protocol::hub::handshake::{self, HandshakeError, HandshakeRequest, find_handshake};
use crate::protocol::service::{
    CONNECTION_DATA_TRAILER, connection_data_header, write_close_connection, write_open_connection,
};

/// The version of the hub protocol that brought stateful reconnect.
const STATEFUL_VERSION_MIN: i64 = 2;
/// What a client is told when no app server can take it. It has been upgraded by then, since only so can it be told.
const NO_APP_SERVER: &str = "No app server is connected to the service.";
const APP_SERVER_LOST: &str = "The app server's connection to the service has ended.";
const CLOSED_ON_REQUEST: &str = "The connection has been closed.";
pub(super) const SERVICE_STOPS: &str = "The service is shutting down.";

impl Router {
    /// A client has been upgraded. It says its hub handshake next.
    pub fn on_client_adopted(
        &mut self,
        socket: SocketKey,
        new: NewClient,
        now: Instant,
        effects: &mut Vec<Effect>,
    ) -> ClientKey {
        let client = Client::new(socket, new, now);
        let (id, deadline) = (
            client.id,
            match &client.phase {
                Phase::Handshake(handshake) => handshake.deadline,
                Phase::Opening(_) | Phase::Open => now,
            },
        );
        if id.shard() != self.shard {
            effects.push(Effect::Post {
                shard: id.shard(),
                mail: Mail::Moved {
                    id,
                    to: Some(self.shard),
                },
            });
        }
        let expiry = client.expiry.as_deref().copied();
        let key = self.clients.insert(client);
        if let Some(expiry) = expiry {
            self.expiries.add(key, &expiry);
        }
        self.deadlines.push(Reverse((deadline, key.0, id)));
        self.counters
            .client_connections
            .set(self.clients.len() as u64);
        key
    }

    /// Bytes of a client. False if the client has been closed over them.
    pub fn on_client_data(
        &mut self,
        key: ClientKey,
        payload: Chunk,
        now: Instant,
        effects: &mut Vec<Effect>,
    ) -> bool {
        let Some(client) = self.clients.get_mut(key) else {
            return false;
        };
        if let Phase::Handshake(handshake) = &mut client.phase {
            let scanned = handshake.received.len();
            handshake.received.extend_from_slice(&payload);
            return self.read_handshake(key, scanned, now, effects);
        }
        if client.stateful.is_some() {
            return self.on_stateful_data(key, payload, now, effects);
        }
        self.relay_to_server(key, payload, effects)
    }

    /// What a client says to its app server.
    pub(super) fn relay_to_server(
        &mut self,
        key: ClientKey,
        payload: Chunk,
        effects: &mut Vec<Effect>,
    ) -> bool {
        let Some(client) = self.clients.get(key) else {
            return false;
        };
        if client.traffic.is_some() {
            return self.relay_from_followed(key, payload, effects);
        }
        let (client, server) = (client.id, client.server);
        let Some(server) = server.and_then(|server| self.server(server)) else {
            debug_assert!(false, "a client that its app server knows of is bound");
            return false;
        };
        self.counters.relayed_messages.increment();
        self.counters.relayed_bytes.add(payload.len() as u64);
        effects.push(Effect::RelayToServer {
            server: server.socket,
            client,
            payload,
        });
        true
    }

    /// The server connection that a client is bound to, or will be.
    pub fn server_socket(&self, key: ClientKey) -> Option<SocketKey> {
        let server = self.clients.get(key)?.server?;
        Some(self.server(server)?.socket)
    }

    /// A client's connection has ended, whoever ended it.
    pub fn on_client_closed(&mut self, key: ClientKey, _now: Instant, effects: &mut Vec<Effect>) {
        self.forget_client(key, effects);
    }

    /// As [`Self::on_client_closed`], for a client that this router closes itself.
    pub(super) fn forget_client(&mut self, key: ClientKey, effects: &mut Vec<Effect>) {
        if let Some(client) = self.remove_client(key, effects)
            && !matches!(client.phase, Phase::Handshake(_))
        {
            self.tell_server_of_end(&client, effects);
        }
    }

    /// Closes a client for a reason of the service's own, and tells it that it may come back.
    pub(super) fn close_for_service(
        &mut self,
        key: ClientKey,
        cause: CloseCause,
        effects: &mut Vec<Effect>,
    ) {
        let Some(client) = self.remove_client(key, effects) else {
            return;
        };
        let reason = if cause == CloseCause::Drain {
            SERVICE_STOPS
        } else {
            APP_SERVER_LOST
        };
        let close = handshake::close_message(&client.protocol, None, true);
        say_farewell(&client, close, reason, effects);
        effects.push(Effect::CloseClient {
            client: client.socket,
            cause,
        });
        if cause == CloseCause::Drain && !matches!(client.phase, Phase::Handshake(_)) {
            self.tell_server_of_end(&client, effects);
        }
    }

    /// Closes a client because an app server wants it closed. `error` is shown to the client if its app server has said nothing yet.
    pub(super) fn close_for_app_server(
        &mut self,
        key: ClientKey,
        error: Option<&str>,
        effects: &mut Vec<Effect>,
    ) {
        let Some(client) = self.remove_client(key, effects) else {
            return;
        };
        if let Some(error) = error.filter(|error| !error.is_empty()) {
            let close = handshake::close_message(&client.protocol, Some(error), false);
            say_farewell(&client, close, error, effects);
        }
        effects.push(Effect::CloseClient {
            client: client.socket,
            cause: CloseCause::AppServer,
        });
        // Without a goodbye it was not the hub that ended it: its app server goes on counting it until it is told.
        if !client.said_goodbye && !matches!(client.phase, Phase::Handshake(_)) {
            self.close_at_server(&client, effects);
        }
    }

    /// Closes a client because somebody who need not be its app server has asked for it. It is told why, and that it may come back.
    pub(super) fn close_on_request(
        &mut self,
        key: ClientKey,
        reason: Option<&str>,
        effects: &mut Vec<Effect>,
    ) {
        let Some(client) = self.remove_client(key, effects) else {
            return;
        };
        let reason = reason.filter(|reason| !reason.is_empty());
        let close = handshake::close_message(&client.protocol, reason, true);
        say_farewell(&client, close, reason.unwrap_or(CLOSED_ON_REQUEST), effects);
        effects.push(Effect::CloseClient {
            client: client.socket,
            cause: CloseCause::AppServer,
        });
        self.tell_server_of_end(&client, effects);
    }

    /// What the app server of a client says to it.
    pub(super) fn relay_to_client(
        &mut self,
        key: ClientKey,
        payload: Payload,
        is_goodbye: bool,
        effects: &mut Vec<Effect>,
    ) {
        let Some(client) = self.clients.get_mut(key) else {
            return;
        };
        let bytes: usize = payload.iter().map(|chunk| chunk.len()).sum();
        if bytes == 0 {
            // It says nothing, so it cannot be a handshake response either.
            return;
        }
        self.counters.relayed_messages.increment();
        self.counters.relayed_bytes.add(bytes as u64);
        client.said_goodbye |= is_goodbye;
        if let Phase::Opening(held) = &mut client.phase {
            let held = std::mem::take(held);
            client.phase = Phase::Open;
            // A rejection is JSON text whatever protocol had been asked for: the client has no other yet.
            let accepted = !is_rejection(&payload);
            let kind = if accepted {
                kind_of(&client.protocol)
            } else {
                MessageKind::Text
            };
            client.said_goodbye |= !accepted;
            effects.push(Effect::RelayToClient {
                client: client.socket,
                kind,
                payload,
            });
            if accepted && client.stateful.is_some() {
                self.on_stateful_answered(key, held.frames, effects);
            } else if accepted {
                effects.extend(held.frames.into_iter().map(|frame| Effect::FanOut {
                    frame,
                    clients: smallvec![client.socket],
                }));
            }
            return;
        }
        if client.stateful.is_some() {
            return self.relay_to_stateful(key, &payload, is_goodbye, effects);
        }
        effects.push(Effect::RelayToClient {
            client: client.socket,
            kind: kind_of(&client.protocol),
            payload,
        });
    }

    pub(super) fn close_late_handshakes(&mut self, now: Instant, effects: &mut Vec<Effect>) {
        while let Some(Reverse((deadline, slot, id))) = self.deadlines.peek().copied() {
            if deadline > now {
                return;
            }
            self.deadlines.pop();
            let key = ClientKey(slot);
            let is_late = self.clients.get(key).is_some_and(|client| {
                client.id == id && matches!(client.phase, Phase::Handshake(_))
            });
            if is_late {
                self.refuse_handshake(
                    key,
                    &HandshakeError::Canceled.public_text(),
                    CloseCause::HandshakeTimeout,
                    effects,
                );
            }
        }
    }

    fn read_handshake(
        &mut self,
        key: ClientKey,
        scanned: usize,
        now: Instant,
        effects: &mut Vec<Effect>,
    ) -> bool {
        let Some(client) = self.clients.get_mut(key) else {
            return false;
        };
        let Phase::Handshake(handshake) = &mut client.phase else {
            return false;
        };
        let request = match find_handshake(&handshake.received, scanned, HUB_HANDSHAKE_BYTES_MAX) {
            Ok(None) => return true,
            Ok(Some(record)) => HandshakeRequest::parse(record.json),
            Err(error) => Err(error),
        };
        let transport = client.transport;
        let request =
            request.and_then(|request| request.check_transport(transport).map(|()| request));
        match request {
            Ok(request) => {
                client.protocol = request.protocol;
                if handshake.is_stateful && request.version >= STATEFUL_VERSION_MIN {
                    client.stateful = Stateful::new(&client.protocol).map(Box::new);
                }
                self.open(key, now, effects)
            }
            Err(error) => {
                self.refuse_handshake(key, &error.public_text(), CloseCause::BadHandshake, effects);
                false
            }
        }
    }

    /// Tells the app server of a client whose handshake request is there, and passes that request on.
    fn open(&mut self, key: ClientKey, now: Instant, effects: &mut Vec<Effect>) -> bool {
        let Some(server) = self.server_for(key) else {
            self.refuse_handshake(key, NO_APP_SERVER, CloseCause::NoAppServer, effects);
            return false;
        };
        let is_followed = self.follows_clients(server);
        let Some(state) = self.server_mut(server) else {
            return false;
        };
        state.client_count += 1;
        let server_socket = state.socket;
        let Some(client) = self.clients.get_mut(key) else {
            return false;
        };
        let opening = Phase::Opening(Box::default());
        let Phase::Handshake(mut handshake) = std::mem::replace(&mut client.phase, opening) else {
            return false;
        };
        let messages_behind = client
            .stateful
            .is_some()
            .then(|| split_messages(&mut handshake.received));
        let (socket, chosen) = (client.socket, client.server.replace(server));
        let id = client.id.text();
        let id = std::str::from_utf8(&id).unwrap_or_default();
        let mut messages =
            Vec::with_capacity(handshake.open_body.len() + handshake.received.len() + 128);
        write_open_connection(
            id,
            &handshake.open_body,
            client.protocol.name(),
            &mut messages,
        );
        messages.extend_from_slice(&connection_data_header(id, handshake.received.len()));
        messages.extend_from_slice(&handshake.received);
        messages.extend_from_slice(&CONNECTION_DATA_TRAILER);
        if is_followed {
            client.traffic = follow(&client.protocol, *handshake);
        }
        let hub = client.hub;
        self.clients.publish(key);
        self.hubs
            .entry(hub)
            .or_default()
            .add(key, &mut self.clients);
        self.join_standing_groups(key, now);
        self.counters.clients_opened.increment();
        effects.push(Effect::ToServer {
            server: server_socket,
            messages,
        });
        if chosen != Some(server) {
            effects.push(Effect::ClientMoved {
                client: socket,
                server: self.server_ref(server),
            });
        }
        match messages_behind.filter(|behind| !behind.is_empty()) {
            Some(behind) => self.on_stateful_data(key, Chunk::from(behind), now, effects),
            None => true,
        }
    }

    /// The server connection that admission chose; if that takes no clients any more, another one of this shard.
    fn server_for(&self, key: ClientKey) -> Option<ServerKey> {
        let client = self.clients.get(key)?;
        let Phase::Handshake(handshake) = &client.phase else {
            return None;
        };
        let is_routable = |server: &Server| server.phase == ServerPhase::Routable;
        let chosen = client.server?;
        if self.server(chosen).is_some_and(is_routable) {
            return Some(chosen);
        }
        let required = handshake.required_server_id.as_deref();
        self.server_keys().find(|key| {
            self.server(*key).is_some_and(|server| {
                server.hub == client.hub
                    && is_routable(server)
                    && required.is_none_or(|server_id| server_id == &*server.server_id)
            })
        })
    }

    fn refuse_handshake(
        &mut self,
        key: ClientKey,
        error: &str,
        cause: CloseCause,
        effects: &mut Vec<Effect>,
    ) {
        let Some(client) = self.remove_client(key, effects) else {
            return;
        };
        self.counters.handshakes_failed.increment();
        let payload = smallvec![Chunk::from(handshake::error_response(error))];
        effects.push(Effect::RelayToClient {
            client: client.socket,
            kind: MessageKind::Text,
            payload,
        });
        effects.push(Effect::CloseClient {
            client: client.socket,
            cause,
        });
    }

    /// Forgets a client everywhere.
    pub(super) fn remove_client(
        &mut self,
        key: ClientKey,
        effects: &mut Vec<Effect>,
    ) -> Option<Client> {
        let client = self.clients.get(key)?;
        if !matches!(client.phase, Phase::Handshake(_))
            && let Entry::Occupied(mut hub) = self.hubs.entry(client.hub)
        {
            hub.get_mut().remove(key, &mut self.clients);
            if hub.get().is_empty() {
                hub.remove();
            }
        }
        let client = self.clients.remove(key)?;
        self.resuming.forget(key, &client, &self.counters);
        if let Some(expiry) = &client.expiry {
            self.expiries.remove(key, expiry);
        }
        self.fail_invocations_of(client.hub, client.id, effects);
        if !matches!(client.phase, Phase::Handshake(_))
            && let Some(server) = client.server.and_then(|server| self.server_mut(server))
        {
            server.client_count -= 1;
        }
        if client.id.shard() != self.shard {
            effects.push(Effect::Post {
                shard: client.id.shard(),
                mail: Mail::Moved {
                    id: client.id,
                    to: None,
                },
            });
        }
        self.counters.clients_closed.increment();
        self.counters
            .client_connections
            .set(self.clients.len() as u64);
        Some(client)
    }

    /// Its app server hears a client to its end: also what has been held for another one, which it will not have any more.
    pub(super) fn tell_server_of_end(&mut self, client: &Client, effects: &mut Vec<Effect>) {
        if let Some(traffic) = &client.traffic
            && let Some(server) = client.server.and_then(|server| self.server(server))
        {
            let held = traffic.held();
            if !held.is_empty() {
                self.counters.relayed_messages.increment();
                self.counters.relayed_bytes.add(held.len() as u64);
                effects.push(Effect::RelayToServer {
                    server: server.socket,
                    client: client.id,
                    payload: Chunk::from(held),
                });
            }
        }
        self.close_at_server(client, effects);
    }

    fn close_at_server(&self, client: &Client, effects: &mut Vec<Effect>) {
        if let Some(server) = client.server.and_then(|server| self.server(server)) {
            let mut messages = Vec::new();
            let id = client.id.text();
            write_close_connection(
                std::str::from_utf8(&id).unwrap_or_default(),
                "",
                &mut messages,
            );
            effects.push(Effect::ToServer {
                server: server.socket,
                messages,
            });
        }
    }
}

/// Begins to follow a client whose handshake request has been passed on, if its hub protocol is one that can be read.
fn follow(protocol: &HubProtocol, handshake: Handshake) -> Option<Box<Traffic>> {
    let message_protocol = protocol.message_protocol()?;
    let mut request = handshake.received;
    let request_bytes = find_separator(&request).map_or(request.len(), |end| end + 1);
    let rest = request.split_off(request_bytes);
    let introduction = Introduction {
        open_body: handshake.open_body.into(),
        request: request.into(),
        required_server_id: handshake.required_server_id,
    };
    let mut traffic = Traffic::new(message_protocol, introduction);
    traffic.on_client_bytes(&rest);
    Some(Box::new(traffic))
}

/// Tells a client why it is closed: by `close` in its hub protocol, or by `refusal` if its handshake has not been answered.
pub(super) fn say_farewell(
    client: &Client,
    close: Vec<u8>,
    refusal: &str,
    effects: &mut Vec<Effect>,
) {
    if client.is_away() {
        return;
    }
    if let Some(stateful) = &client.stateful {
        effects.extend(stateful.waiting().map(|frame| Effect::FanOut {
            frame,
            clients: smallvec![client.socket],
        }));
    }
    let (kind, farewell) = match client.phase {
        Phase::Open => (kind_of(&client.protocol), close),
        Phase::Opening(_) | Phase::Handshake(_) => {
            (MessageKind::Text, handshake::error_response(refusal))
        }
    };
    // An app server that ends in order has said goodbye itself; and of an unknown protocol we know no words.
    if !client.said_goodbye && !farewell.is_empty() {
        effects.push(Effect::RelayToClient {
            client: client.socket,
            kind,
            payload: smallvec![Chunk::from(farewell)],
        });
    }
}

/// Takes off what a client has sent behind its handshake.
fn split_messages(received: &mut Vec<u8>) -> Vec<u8> {
    let handshake_bytes = find_separator(received).map_or(received.len(), |end| end + 1);
    received.split_off(handshake_bytes)
}

pub(super) fn kind_of(protocol: &HubProtocol) -> MessageKind {
    if protocol.is_text() {
        MessageKind::Text
    } else {
        MessageKind::Binary
    }
}

/// Whether a handshake response says no. It is `{}` otherwise, or holds members of later versions.
fn is_rejection(payload: &Payload) -> bool {
    const REJECTION: &[u8] = b"{\"error\"";
    let start: Vec<u8> = payload
        .iter()
        .flat_map(|chunk| chunk.iter().copied())
        .take(REJECTION.len())
        .collect();
    start == REJECTION
}

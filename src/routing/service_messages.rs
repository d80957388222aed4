//! What each service message of an app server does.

use std::ops::Range;
use std::time::Instant;

use bytes::Bytes;
use smallvec::{SmallVec, smallvec};

use super::client::Client;
use super::round_trip::RoundTrip;
use super::server::ServerPhase;
use super::{
    ClientKey, CloseCause, Effect, ForwardTo, HubId, Origin, Payload, Router, ServerKey, ServerRef,
};
use crate::chunk::Chunk;
use crate::id::{ConnectionId, ShardId};
use crate::limits::{GROUPS_PER_CONNECTION_MAX, NAME_BYTES_MAX};
use crate::protocol::service::ping::{AppPing, ServicePing, ShutdownMode};
use crate::protocol::service::{
    self, AckStatus, ConnectionData, DataMessageType, Message, Ping, ServerConnectionType,
    write_ack,
};

pub(super) type Decoded<'a> = Message<'a, Range<usize>>;

/// A service message with where it came from.
#[derive(Clone, Copy)]
pub(super) struct Source<'a> {
    pub(super) hub: HubId,
    pub(super) origin: &'a Origin,
    /// The pieces that the message was decoded from.
    pub(super) message: &'a [Chunk],
    /// It came on a server connection of this shard, and has not been forwarded yet.
    pub(super) is_first_hand: bool,
}

/// Where a connection that a message names is to be found.
enum Target {
    Here(ClientKey),
    /// On another shard, to which the message is on its way.
    Elsewhere,
    Nowhere,
}

impl Router {
    pub(super) fn handle_server_message(
        &mut self,
        server: ServerKey,
        message: &[Chunk],
        now: Instant,
        effects: &mut Vec<Effect>,
    ) {
        let Some(state) = self.server(server) else {
            return;
        };
        let (hub, phase) = (state.hub, state.phase);
        let pieces: SmallVec<[&[u8]; 4]> = message.iter().map(|chunk| &**chunk).collect();
        let decoded = match service::decode(&pieces) {
            Ok(decoded) => decoded,
            Err(error) => {
                self.counters.service_messages_malformed.increment();
                tracing::debug!(%error, "skipped a service message");
                if let ServerPhase::Handshake { .. } = phase {
                    // Nobody may be left waiting for an answer to what cannot be read.
                    self.refuse_service_handshake(
                        server,
                        "The handshake request cannot be read.",
                        now,
                        effects,
                    );
                }
                // Else as the SDK does: the frame is well formed, so only this message is lost.
                return;
            }
        };
        if let ServerPhase::Handshake { .. } = phase {
            return self.handle_service_handshake(server, &decoded, now, effects);
        }
        // The hot path: what an app server says to one client, on the shard that they share.
        if let Message::ConnectionData(data) = &decoded
            && let Some(client) = self.find(hub, &data.connection_id)
        {
            let server = self.server_ref(server);
            return self.handle_connection_data(server, client, message, data, effects);
        }
        if let Message::Ping(ping) = &decoded {
            return self.handle_ping(server, ping, now, effects);
        }
        if let Some(origin) = self.origin(server) {
            let source = Source {
                hub,
                origin: &origin,
                message,
                is_first_hand: true,
            };
            self.dispatch(source, &decoded, now, effects);
        }
    }

    /// The same for a message that another shard has received.
    pub(super) fn handle_forwarded(
        &mut self,
        hub: HubId,
        origin: &Origin,
        message: &Bytes,
        now: Instant,
        effects: &mut Vec<Effect>,
    ) {
        let chunks = [Chunk::from(message.to_vec())];
        self.counters.copied_bytes_mail.add(message.len() as u64);
        let [chunk] = &chunks;
        match service::decode(&[chunk]) {
            Ok(decoded) => {
                let source = Source {
                    hub,
                    origin,
                    message: &chunks,
                    is_first_hand: false,
                };
                self.dispatch(source, &decoded, now, effects);
            }
            Err(_) => debug_assert!(false, "what is forwarded has been decoded before"),
        }
    }

    fn handle_service_handshake(
        &mut self,
        server: ServerKey,
        message: &Decoded<'_>,
        now: Instant,
        effects: &mut Vec<Effect>,
    ) {
        let (connection_type, phase) = match phase_after(message) {
            Ok(accepted) => accepted,
            Err(refusal) => return self.refuse_service_handshake(server, &refusal, now, effects),
        };
        let Some(state) = self.server_mut(server) else {
            return;
        };
        let mut messages = Vec::new();
        service::write_handshake_response("", Some(&state.connection_id), &mut messages);
        effects.push(Effect::ToServer {
            server: state.socket,
            messages,
        });
        state.connection_type = Some(connection_type);
        state.phase = phase;
        let mut allows_stateful_reconnects = false;
        if let Message::HandshakeRequest(request) = message {
            state.migration_level = request.migration_level;
            allows_stateful_reconnects = request.allow_stateful_reconnects;
        }
        state.last_ping = now;
        state.round_trip = RoundTrip::new(now);
        let hub = state.hub;
        if let Some(origin) = self.origin(server) {
            effects.push(Effect::ServerReady {
                hub,
                server: origin,
                is_routable: phase == ServerPhase::Routable,
                allows_stateful_reconnects,
            });
        }
        if phase == ServerPhase::Routable {
            self.welcome_moves(hub, effects);
        }
    }

    fn refuse_service_handshake(
        &mut self,
        server: ServerKey,
        refusal: &str,
        now: Instant,
        effects: &mut Vec<Effect>,
    ) {
        self.counters.handshakes_failed.increment();
        self.close_server(server, CloseCause::BadHandshake, refusal, now, effects);
    }

    fn handle_connection_data(
        &mut self,
        server: ServerRef,
        client: ClientKey,
        message: &[Chunk],
        data: &ConnectionData<'_, Range<usize>>,
        effects: &mut Vec<Effect>,
    ) {
        let is_goodbye = data.data_type == DataMessageType::Close;
        let is_whole = data.data_type != DataMessageType::Unknown && !data.is_partial;
        let mut payload = slices(message, &data.payload);
        if is_whole && self.clients.get(client).is_some_and(Client::is_plain) {
            return self.relay_to_client(client, payload, is_goodbye, effects);
        }
        if !is_whole || self.gathers_pieces(client) {
            match self.whole_messages(client, payload, effects) {
                Some(whole) => payload = whole,
                None => return,
            }
        }
        if self.is_followed(client) {
            return self.relay_to_followed(server, client, payload, data.data_type, effects);
        }
        self.relay_to_client(client, payload, is_goodbye, effects);
    }

    fn handle_ping(
        &mut self,
        server: ServerKey,
        ping: &Ping<'_>,
        now: Instant,
        effects: &mut Vec<Effect>,
    ) {
        let Some(state) = self.server_mut(server) else {
            return;
        };
        let socket = state.socket;
        match AppPing::parse(ping) {
            AppPing::StatusQuery if state.queries.status.is_due(now) => {
                effects.push(Effect::AnswerStatus(socket));
            }
            AppPing::ServersQuery if state.queries.servers.is_due(now) => {
                effects.push(Effect::AnswerServers(socket));
            }
            AppPing::StatusQuery | AppPing::ServersQuery => {
                self.counters.queries_skipped.increment();
            }
            AppPing::Echo(number) => state.round_trip.on_echo(number, now),
            AppPing::Fin(mode) => {
                // First no new clients, then the answer that says so. It is asked again until the answer has come.
                state.phase = ServerPhase::SendOnly;
                state.shutdown = Some(mode);
                let hub = state.hub;
                effects.push(Effect::ServerDraining {
                    hub,
                    server: self.server_ref(server),
                });
                let mut messages = Vec::new();
                Message::<&[u8]>::from(Ping::from(ServicePing::FinAck)).encode(&mut messages);
                effects.push(Effect::ToServer {
                    server: socket,
                    messages,
                });
                if mode == ShutdownMode::MigrateClients {
                    self.begin_departure(server, now, effects);
                }
            }
            AppPing::KeepAlive(_) | AppPing::Other => {}
        }
    }

    #[expect(
        clippy::wildcard_enum_match_arm,
        reason = "the rest is looked at by the next step"
    )]
    fn dispatch(
        &mut self,
        source: Source<'_>,
        message: &Decoded<'_>,
        now: Instant,
        effects: &mut Vec<Effect>,
    ) {
        match message {
            // Not on the connection that its client is bound to, or for a client that has left: that is what the SDK answers a
            // `CloseConnection` with, so it is no fault.
            Message::ConnectionData(data) => {
                if let Target::Here(client) = self.locate(source, &data.connection_id, effects) {
                    self.counters.relays_crossed_shard.increment();
                    let server = source.origin.server;
                    self.handle_connection_data(server, client, source.message, data, effects);
                }
            }
            Message::CloseConnection(close) => {
                if let Target::Here(client) = self.locate(source, &close.connection_id, effects) {
                    self.close_for_app_server(client, Some(&close.error_message), effects);
                }
            }
            Message::JoinGroup(join) => {
                self.join(source, &join.connection_id, &join.group, effects);
            }
            Message::JoinGroupWithAck(join) => {
                let status = self.join(source, &join.connection_id, &join.group, effects);
                self.acknowledge(source, join.ack_id, status, effects);
            }
            Message::LeaveGroup(leave) => {
                let group = leave.group.as_deref();
                self.leave(source, &leave.connection_id, group, effects);
            }
            Message::LeaveGroupWithAck(leave) => {
                let group = leave.group.as_deref();
                let status = self.leave(source, &leave.connection_id, group, effects);
                self.acknowledge(source, leave.ack_id, status, effects);
            }
            Message::ClientInvocation(invocation) => {
                self.handle_invocation(source, invocation, now, effects);
            }
            Message::ClientCompletion(completion) => {
                self.handle_completion(source, completion, effects);
            }
            Message::ErrorCompletion(completion) => {
                self.handle_error_completion(source, completion, effects);
            }
            other => self.handle_fan_out(source, other, now, effects),
        }
    }

    /// Finds the client that a message names, or sends the message on to the shard that has it.
    fn locate(
        &mut self,
        source: Source<'_>,
        connection_id: &str,
        effects: &mut Vec<Effect>,
    ) -> Target {
        let Some(id) = ConnectionId::parse(connection_id) else {
            self.counters.unknown_targets.increment();
            return Target::Nowhere;
        };
        if self.clients.find(id).is_some() {
            let here = self.find(source.hub, connection_id);
            if here.is_none() {
                self.counters.unknown_targets.increment();
            }
            return here.map_or(Target::Nowhere, Target::Here);
        }
        let Some(shard) = self.shard_of(source, id) else {
            self.counters.unknown_targets.increment();
            return Target::Nowhere;
        };
        effects.push(Effect::Forward {
            to: ForwardTo::Shards(smallvec![shard]),
            hub: source.hub,
            origin: source.origin.clone(),
        });
        Target::Elsewhere
    }

    /// The client of that hub and id, if it is here.
    fn find(&self, hub: HubId, connection_id: &str) -> Option<ClientKey> {
        let key = self.clients.find(ConnectionId::parse(connection_id)?)?;
        let client = self.clients.get(key)?;
        (client.hub == hub).then_some(key)
    }

    /// The client that a message names, if it is here; what else there is to do has been done.
    pub(super) fn locate_here(
        &mut self,
        source: Source<'_>,
        connection_id: &str,
        effects: &mut Vec<Effect>,
    ) -> Result<ClientKey, Absent> {
        match self.locate(source, connection_id, effects) {
            Target::Here(key) => Ok(key),
            Target::Elsewhere => Err(Absent::Elsewhere),
            Target::Nowhere => Err(Absent::Nowhere),
        }
    }

    /// The other shard on which a connection might be. A message is sent on by the shard that received it, and by the one that the id
    /// names if it knows better; nobody else, or it could go round for ever.
    pub(super) fn shard_of(&self, source: Source<'_>, id: ConnectionId) -> Option<ShardId> {
        if let Some(shard) = self.moved.get(&id) {
            return Some(*shard);
        }
        (source.is_first_hand && id.shard() != self.shard && id.shard().0 < self.shard_count)
            .then(|| id.shard())
    }

    fn join(
        &mut self,
        source: Source<'_>,
        connection_id: &str,
        group: &str,
        effects: &mut Vec<Effect>,
    ) -> Option<AckStatus> {
        match self.locate(source, connection_id, effects) {
            Target::Elsewhere => None,
            Target::Nowhere => Some(AckStatus::NotFound),
            Target::Here(client) => {
                let Some(hub) = self.hubs.get_mut(&source.hub) else {
                    return Some(AckStatus::NotFound);
                };
                if group.len() > NAME_BYTES_MAX
                    || hub
                        .groups
                        .join(group, client, &mut self.clients, GROUPS_PER_CONNECTION_MAX)
                        .is_err()
                {
                    self.counters.joins_refused.increment();
                    return Some(AckStatus::InternalServerError);
                }
                Some(AckStatus::Ok)
            }
        }
    }

    fn leave(
        &mut self,
        source: Source<'_>,
        connection_id: &str,
        group: Option<&str>,
        effects: &mut Vec<Effect>,
    ) -> Option<AckStatus> {
        match self.locate(source, connection_id, effects) {
            Target::Elsewhere => None,
            Target::Nowhere => Some(AckStatus::NotFound),
            Target::Here(client) => {
                if let Some(hub) = self.hubs.get_mut(&source.hub) {
                    match group {
                        Some(group) => hub.groups.leave(group, client, &mut self.clients),
                        None => hub.groups.leave_all(client, &mut self.clients),
                    }
                }
                Some(AckStatus::Ok)
            }
        }
    }

    /// Answers a request, unless another shard will.
    pub(super) fn acknowledge(
        &mut self,
        source: Source<'_>,
        ack_id: i32,
        status: Option<AckStatus>,
        effects: &mut Vec<Effect>,
    ) {
        let Some(status) = status else { return };
        let mut messages = Vec::new();
        write_ack(ack_id, status, "", &mut messages);
        self.answer(source.hub, source.origin, messages, effects);
    }
}

/// Why a client is not on this shard.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Absent {
    /// Another shard has been told.
    Elsewhere,
    /// There is no such client.
    Nowhere,
}

/// What the first message of a server connection makes of it, or why it is refused.
///
/// Its target means nothing: the SDK leaves it empty, and names what it was asked for in the URL. A type without a name takes clients,
/// as those known today do but for one.
fn phase_after(first: &Decoded<'_>) -> Result<(ServerConnectionType, ServerPhase), String> {
    const VERSION: i32 = 1;
    let Message::HandshakeRequest(request) = first else {
        return Err("A handshake request was expected.".to_owned());
    };
    if request.version != VERSION {
        let version = request.version;
        return Err(format!(
            "Version {version} of the service protocol is not supported."
        ));
    }
    let phase = match request.connection_type {
        ServerConnectionType::Weak => ServerPhase::SendOnly,
        ServerConnectionType::Default
        | ServerConnectionType::OnDemand
        | ServerConnectionType::Unrecognized(_) => ServerPhase::Routable,
    };
    Ok((request.connection_type, phase))
}

/// The part `range` of a message, without copying.
pub(super) fn slices(message: &[Chunk], range: &Range<usize>) -> Payload {
    let mut payload = Payload::new();
    let mut start = 0;
    for chunk in message {
        let end = start + chunk.len();
        let from = range.start.max(start);
        let to = range.end.min(end);
        if from < to {
            payload.push(chunk.slice(from - start..to - start));
        }
        start = end;
    }
    payload
}

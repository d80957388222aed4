//! Clients move from an app server that shuts down to another one.
//!
//! An app server whose connection says `fin:1` gives its clients up. Each of them moves by itself, at a moment when nothing is open
//! between the two (see [`super::traffic`]), so that no call loses its answer and nothing overtakes anything:
//!
//! | time since `fin:1` | a client moves |
//! |---|---|
//! | from the start | when no call and no stream is open, between two messages |
//! | [`MIGRATION_PATIENCE`] | the same; its new calls are held, so that this moment comes |
//! | [`MIGRATION_DEADLINE`] | between any two messages; its open calls are answered with an error, for nobody else will |
//!
//! The old app server is told that the client goes to another one, and says no more to it. The new one is told of the client as it was
//! when it came, with its handshake request, whose answer the SDK swallows. Id, groups and user stay: they are the service's.
//!
//! Who does not move: a client whose token requires the app server that leaves (its state is there and nowhere else), one that speaks
//! a hub protocol that cannot be read here, and one whose app server said at its handshake that clients never move. They stay until
//! the old server connection ends. So do all, as long as no other app server has a server connection *on this shard*: a client's
//! traffic never crosses one.
//!
//! Late messages of the old app server reach the client if they are no more than invocations without an answer, and the new one is not
//! in the midst of a message. What else might come belongs to what has ended: answers, items, requests for a result, and above all its
//! goodbye. What is held for a client's next app server is said to the one that it has, if the client ends before it moves.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::client::{Client, Phase};
use super::parking::ParkedClients;
use super::server::{Server, ServerPhase};
use super::traffic::{Fate, Stage, Traffic};
use super::{ClientKey, Effect, HubId, Payload, Router, ServerKey, ServerRef, SocketKey};
use crate::chunk::Chunk;
use crate::frame::record::find_separator;
use crate::id::ConnectionId;
use crate::limits::{
    FOLLOWED_HELD_BYTES_MAX, MIGRATION_DEADLINE, MIGRATION_PATIENCE, MIGRATIONS_PER_TURN,
};
use crate::protocol::service::{
    CONNECTION_DATA_TRAILER, DataMessageType, MigrationLevel, connection_data_header,
    write_migration_in, write_migration_out,
};

/// Who has to move.
#[derive(Debug, Default)]
pub(super) struct Migration {
    departures: Vec<Departure>,
    /// Clients to look at, each at most once. One that cannot move then does so at an event of its own, or is put here again when
    /// something has changed.
    due: VecDeque<(ClientKey, ConnectionId)>,
    /// So much waits for an app server that nobody moves before the next tick.
    is_congested: bool,
    pub(super) parked: ParkedClients,
}

/// A server connection that gives its clients up.
#[derive(Debug)]
struct Departure {
    server: ServerKey,
    hub: HubId,
    since: Instant,
    stage: Stage,
}

impl Router {
    /// Whether [`Self::on_turn`] has something to do.
    pub fn has_moves(&self) -> bool {
        !self.migration.due.is_empty() && !self.migration.is_congested
    }

    /// A turn of the shard is about to end. Moves some of the clients that have to, so that many of them hold nobody up.
    pub fn on_turn(&mut self, effects: &mut Vec<Effect>) {
        if !self.migration.is_congested {
            self.move_some(effects);
        }
    }

    /// More waits for an app server than should. Moves are put off until the next tick.
    pub fn on_congestion(&mut self) {
        self.migration.is_congested = true;
    }

    /// An app server wants its clients to be moved. To be told so again changes nothing.
    pub(super) fn begin_departure(
        &mut self,
        server: ServerKey,
        now: Instant,
        effects: &mut Vec<Effect>,
    ) {
        let known = |departure: &Departure| departure.server == server;
        if self.migration.departures.iter().any(known) {
            return;
        }
        let Some(hub) = self
            .server(server)
            .filter(|server| server.migration_level != MigrationLevel::Off)
            .map(|server| server.hub)
        else {
            return;
        };
        self.migration.departures.push(Departure {
            server,
            hub,
            since: now,
            stage: Stage::Leaving,
        });
        self.look_at(hub, |client| client.server == Some(server));
        self.move_some(effects);
    }

    pub(super) fn end_departure(&mut self, server: ServerKey) {
        self.migration
            .departures
            .retain(|departure| departure.server != server);
    }

    /// Time has passed: those who are still here get less choice.
    pub(super) fn press_departures(&mut self, now: Instant, effects: &mut Vec<Effect>) {
        self.migration.is_congested = false;
        let mut pressed = Vec::new();
        for departure in &mut self.migration.departures {
            let stage = stage_after(now.duration_since(departure.since));
            if departure.stage != stage {
                departure.stage = stage;
                pressed.push((departure.hub, departure.server));
            }
        }
        for (hub, server) in pressed {
            self.look_at(hub, |client| client.server == Some(server));
        }
        self.move_some(effects);
    }

    /// A server connection has come that takes clients: those may move that have had nowhere to go.
    pub(super) fn welcome_moves(&mut self, hub: HubId, effects: &mut Vec<Effect>) {
        if self.migration.departures.is_empty() && self.migration.parked.is_empty() {
            return;
        }
        let departing: Vec<ServerKey> = self
            .migration
            .departures
            .iter()
            .map(|departure| departure.server)
            .collect();
        self.look_at(hub, |client| match client.server {
            Some(server) => departing.contains(&server),
            None => true,
        });
        self.move_some(effects);
    }

    /// Whether clients that are bound to a server connection are followed: they may have to move one day.
    pub(super) fn follows_clients(&self, server: ServerKey) -> bool {
        self.migration.parked.is_wanted()
            || self
                .server(server)
                .is_some_and(|server| server.migration_level != MigrationLevel::Off)
    }

    pub(super) fn is_followed(&self, key: ClientKey) -> bool {
        self.clients
            .get(key)
            .is_some_and(|client| client.traffic.is_some())
    }

    /// Bytes of a followed client, in place of [`Self::on_client_data`].
    pub(super) fn relay_from_followed(
        &mut self,
        key: ClientKey,
        payload: Chunk,
        effects: &mut Vec<Effect>,
    ) -> bool {
        let mut rest = payload;
        loop {
            let Some((client, traffic)) = self.followed_mut(key) else {
                return false;
            };
            let fate = traffic.on_client_bytes(&rest);
            match fate {
                Fate::Relayed => {
                    self.send_to_server_of(key, rest, effects);
                    self.move_if_possible(key, effects);
                    return true;
                }
                Fate::RelayedTo(end) => {
                    let head = rest.slice(0..end);
                    rest = rest.slice(end..rest.len());
                    self.send_to_server_of(key, head, effects);
                    self.move_if_possible(key, effects);
                }
                Fate::Held(passing) => {
                    if traffic.held_bytes() > FOLLOWED_HELD_BYTES_MAX {
                        traffic.is_paused = true;
                        effects.push(Effect::PauseClient(client));
                    }
                    if !passing.is_empty() {
                        self.send_to_server_of(key, Chunk::from(passing), effects);
                        self.move_if_possible(key, effects);
                    }
                    return true;
                }
            }
        }
    }

    /// What an app server says to a followed client.
    pub(super) fn relay_to_followed(
        &mut self,
        from: ServerRef,
        key: ClientKey,
        payload: Payload,
        data_type: DataMessageType,
        effects: &mut Vec<Effect>,
    ) {
        let is_goodbye = data_type == DataMessageType::Close;
        let Some(client) = self.clients.get_mut(key) else {
            return;
        };
        let Some(traffic) = &mut client.traffic else {
            return;
        };
        let shard = self.shard;
        let bound = client.server.map(|server| ServerRef { shard, server });
        let is_handshake = data_type == DataMessageType::Handshake;
        if traffic.has_moved && is_handshake {
            // The client has been answered long ago. The SDK does not send this, others may.
            return self.counters.late_messages.increment();
        }
        if bound.is_none() || traffic.has_moved && bound != Some(from) {
            if is_goodbye || !traffic.accepts_late(&joined(&payload)) {
                return self.counters.late_messages.increment();
            }
            return self.relay_to_client(key, payload, false, effects);
        }
        if matches!(client.phase, Phase::Opening(_)) {
            let bytes = joined(&payload);
            let end = find_separator(&bytes).map_or(bytes.len(), |end| end + 1);
            traffic.on_server_bytes(bytes.get(end..).unwrap_or_default());
        } else {
            for chunk in &payload {
                traffic.on_server_bytes(chunk);
            }
        }
        self.relay_to_client(key, payload, is_goodbye, effects);
        self.move_if_possible(key, effects);
    }

    /// Moves clients that are due, a bounded number of them.
    pub(super) fn move_some(&mut self, effects: &mut Vec<Effect>) {
        for _ in 0..MIGRATIONS_PER_TURN {
            let Some((key, id)) = self.migration.due.pop_front() else {
                return;
            };
            let client = self.clients.get_mut(key).filter(|client| client.id == id);
            let Some(client) = client else {
                continue;
            };
            if let Some(traffic) = &mut client.traffic {
                traffic.is_due = false;
            }
            if matches!(client.phase, Phase::Open) {
                self.press(key, effects);
            }
        }
    }

    /// Puts clients of a hub, of those that are followed, where they are looked at.
    pub(super) fn look_at(&mut self, hub: HubId, which: impl Fn(&Client) -> bool) {
        let Some(hub) = self.hubs.get(&hub) else {
            return;
        };
        for key in hub.clients() {
            let client = self.clients.get_mut(*key);
            if let Some(client) = client.filter(|client| which(client)) {
                self.migration.look_at(*key, client);
            }
        }
    }

    /// The same for one client.
    pub(super) fn move_soon(&mut self, key: ClientKey, id: ConnectionId) {
        let client = self.clients.get_mut(key);
        if let Some(client) = client.filter(|client| client.id == id) {
            self.migration.look_at(key, client);
        }
    }

    /// Answers the open calls of a client that nobody else will answer any more.
    pub(super) fn abandon_open(&mut self, key: ClientKey, effects: &mut Vec<Effect>) {
        let Some(client) = self.clients.get_mut(key) else {
            return;
        };
        let (hub, id) = (client.hub, client.id);
        let Some(traffic) = &mut client.traffic else {
            return;
        };
        let abandoned = traffic.abandon_open();
        if !abandoned.completions.is_empty() {
            self.counters.calls_abandoned.add(abandoned.calls as u64);
            self.say_to_client(key, abandoned.completions, effects);
        }
        self.fail_invocations_of(hub, id, effects);
    }

    /// Something has happened between a followed client and its app server.
    fn move_if_possible(&mut self, key: ClientKey, effects: &mut Vec<Effect>) {
        let client = self.clients.get(key);
        let traffic = client.and_then(|client| client.traffic.as_deref());
        match traffic.map(|traffic| &traffic.stage) {
            // It was opening when its app server began to shut down.
            Some(Stage::Settled) if !self.migration.departures.is_empty() => {
                self.press(key, effects);
            }
            Some(Stage::Leaving | Stage::Holding | Stage::Overdue) => {
                self.move_now(key, effects);
            }
            Some(Stage::Settled | Stage::Parked(_)) | None => {}
        }
    }

    /// Looks whether a client has to move, how urgently, and whether it can.
    fn press(&mut self, key: ClientKey, effects: &mut Vec<Effect>) {
        let Some(client) = self.clients.get(key) else {
            return;
        };
        if let Some(server) = client.server {
            let departures = &self.migration.departures;
            let Some(departure) = departures.iter().find(|each| each.server == server) else {
                return;
            };
            let mut stage = departure.stage.clone();
            // Nothing is held for a move that cannot be.
            if stage == Stage::Holding && self.destination(client).is_none() {
                stage = Stage::Leaving;
            }
            if let Some((_, traffic)) = self.followed_mut(key) {
                traffic.stage = stage;
            }
        }
        if self.move_now(key, effects) {
            return;
        }
        if let Some((_, traffic)) = self.followed_mut(key)
            && matches!(traffic.stage, Stage::Leaving | Stage::Overdue)
        {
            let held = traffic.release();
            self.say_held(key, held, effects);
        }
    }

    /// Moves a client if this is the moment and there is an app server for it.
    fn move_now(&mut self, key: ClientKey, effects: &mut Vec<Effect>) -> bool {
        let Some(client) = self.clients.get(key) else {
            return false;
        };
        let can_move = |traffic: &Traffic| traffic.can_move();
        if client.said_goodbye
            || !matches!(client.phase, Phase::Open)
            || !client.traffic.as_deref().is_some_and(can_move)
        {
            return false;
        }
        match self.destination(client) {
            Some(to) => self.move_to(key, to, effects),
            None => false,
        }
    }

    /// The server connection for a client that has to leave its own.
    fn destination(&self, client: &Client) -> Option<ServerKey> {
        let traffic = client.traffic.as_deref()?;
        let (from, may_return, must_return) = match &traffic.stage {
            Stage::Parked(parked) => (&parked.from, true, parked.must_return),
            Stage::Settled | Stage::Leaving | Stage::Holding | Stage::Overdue => {
                (&self.server(client.server?)?.server_id, false, false)
            }
        };
        let required = traffic.introduction.required_server_id.as_deref();
        let suits = |server: &Server| {
            let returns = server.server_id == *from;
            server.hub == client.hub
                && server.phase == ServerPhase::Routable
                && (if returns { may_return } else { !must_return })
                && required.is_none_or(|server_id| *server_id == *server.server_id)
        };
        self.server_keys()
            .filter_map(|key| Some((key, self.server(key)?)))
            .filter(|(_, server)| suits(server))
            .min_by_key(|(_, server)| (server.server_id != *from, server.client_count))
            .map(|(key, _)| key)
    }

    /// Lets the old app server forget a client, tells the new one of it, and binds it to that.
    fn move_to(&mut self, key: ClientKey, to: ServerKey, effects: &mut Vec<Effect>) -> bool {
        let (Some(client), Some(new)) = (self.clients.get(key), self.server(to)) else {
            return false;
        };
        let Some(traffic) = &client.traffic else {
            return false;
        };
        let old = client.server.and_then(|server| self.server(server));
        let from: Arc<str> = match (&traffic.stage, old) {
            (Stage::Parked(parked), _) => Arc::clone(&parked.from),
            (_, Some(old)) => Arc::clone(&old.server_id),
            (_, None) => return false,
        };
        let Some(opening) = opening(client, traffic, &from) else {
            debug_assert!(false, "what was encoded here can be read");
            return false;
        };
        let (new_socket, client_socket) = (new.socket, client.socket);
        let has_open = traffic.has_open();
        if let Some(old) = old {
            let mut messages = Vec::new();
            let id = client.id.text();
            let id = std::str::from_utf8(&id).unwrap_or_default();
            write_migration_out(id, &new.server_id, &mut messages);
            effects.push(Effect::ToServer {
                server: old.socket,
                messages,
            });
            self.counters.clients_migrated.increment();
        } else {
            self.counters.clients_reopened.increment();
            self.ping(key, effects);
        }
        if has_open {
            self.abandon_open(key, effects);
            if self.clients.get(key).is_none() {
                // More than can be kept for one that has no socket; see `super::resuming`.
                return false;
            }
        }
        effects.push(Effect::ToServer {
            server: new_socket,
            messages: opening,
        });
        effects.push(Effect::ClientMoved {
            client: client_socket,
            server: self.server_ref(to),
        });
        self.bind(key, to);
        if let Some((_, traffic)) = self.followed_mut(key) {
            let held = traffic.settle();
            self.say_held(key, held, effects);
        }
        true
    }

    fn bind(&mut self, key: ClientKey, to: ServerKey) {
        let Some(client) = self.clients.get_mut(key) else {
            return;
        };
        // Its end will not come.
        client.pieces = None;
        let old = client.server.replace(to);
        if let Some(old) = old.and_then(|old| self.server_mut(old)) {
            old.client_count -= 1;
        }
        if let Some(new) = self.server_mut(to) {
            new.client_count += 1;
        }
    }

    /// Says what had been held, and hears the client again.
    fn say_held(&mut self, key: ClientKey, held: Vec<u8>, effects: &mut Vec<Effect>) {
        if let Some((client, traffic)) = self.followed_mut(key)
            && std::mem::take(&mut traffic.is_paused)
        {
            effects.push(Effect::ResumeClient(client));
        }
        if !held.is_empty() {
            self.relay_from_followed(key, Chunk::from(held), effects);
        }
    }

    fn send_to_server_of(&mut self, key: ClientKey, payload: Chunk, effects: &mut Vec<Effect>) {
        let Some(client) = self.clients.get(key) else {
            return;
        };
        let Some(server) = client.server.and_then(|server| self.server(server)) else {
            debug_assert!(false, "what a client without app server says is held");
            return;
        };
        self.counters.relayed_messages.increment();
        self.counters.relayed_bytes.add(payload.len() as u64);
        effects.push(Effect::RelayToServer {
            server: server.socket,
            client: client.id,
            payload,
        });
    }

    pub(super) fn followed_mut(&mut self, key: ClientKey) -> Option<(SocketKey, &mut Traffic)> {
        let client = self.clients.get_mut(key)?;
        Some((client.socket, client.traffic.as_deref_mut()?))
    }
}

impl Migration {
    fn look_at(&mut self, key: ClientKey, client: &mut Client) {
        if let Some(traffic) = &mut client.traffic
            && !std::mem::replace(&mut traffic.is_due, true)
        {
            self.due.push_back((key, client.id));
        }
    }
}

fn stage_after(time: Duration) -> Stage {
    if time >= MIGRATION_DEADLINE {
        Stage::Overdue
    } else if time >= MIGRATION_PATIENCE {
        Stage::Holding
    } else {
        Stage::Leaving
    }
}

/// What the new app server of a client is told first.
fn opening(client: &Client, traffic: &Traffic, from: &str) -> Option<Vec<u8>> {
    let introduction = &traffic.introduction;
    let id = client.id.text();
    let id = std::str::from_utf8(&id).unwrap_or_default();
    let mut messages = Vec::new();
    write_migration_in(
        id,
        &introduction.open_body,
        client.protocol.name(),
        from,
        &mut messages,
    )
    .ok()?;
    messages.extend_from_slice(&connection_data_header(id, introduction.request.len()));
    messages.extend_from_slice(&introduction.request);
    messages.extend_from_slice(&CONNECTION_DATA_TRAILER);
    Some(messages)
}

fn joined(payload: &Payload) -> Vec<u8> {
    payload
        .iter()
        .flat_map(|chunk| chunk.iter().copied())
        .collect()
}

//! The router's state, and what happens to connections as a whole: they come, they go, time passes.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustc_hash::FxHashMap;
use slab::Slab;

use super::clients::Clients;
use super::connections::SERVICE_STOPS;
use super::expiry::Expiries;
use super::hub::Hub;
use super::invocations::Invocations;
use super::migration::Migration;
use super::resuming::Resuming;
use super::round_trip::RoundTrip;
use super::server::{Queries, Server, ServerPhase};
use super::surveys::Surveys;
use super::user_groups::UserGroups;
use super::{
    ClientKey, CloseCause, Effect, HubId, Mail, NewServer, Origin, ServerKey, ServerRef, SocketKey,
};
use crate::chunk::Chunk;
use crate::counters::Counters;
use crate::id::{ConnectionId, ShardId};
use crate::limits::{INVOCATION_TIMEOUT, SERVICE_HANDSHAKE_TIMEOUT};
use crate::protocol::negotiate::Transport;
use crate::protocol::service::{
    Message, MigrationLevel, ServerConnectionType, ServiceEvent, ServiceEventKind,
    ServiceEventObject,
};

/// See the module above for the order in which it wants to be called.
#[derive(Debug)]
pub struct Router {
    pub(super) shard: ShardId,
    pub(super) shard_count: u16,
    /// The public name of this process.
    pub(super) instance_id: Box<str>,
    pub(super) clients: Clients,
    pub(super) servers: Slab<Server>,
    pub(super) hubs: FxHashMap<HubId, Hub>,
    pub(super) invocations: Invocations,
    pub(super) resuming: Resuming,
    pub(super) user_groups: UserGroups,
    pub(super) surveys: Surveys,
    pub(super) migration: Migration,
    /// Connections whose id names this shard but which live on another one.
    pub(super) moved: FxHashMap<ConnectionId, ShardId>,
    pub(super) deadlines: BinaryHeap<Reverse<(Instant, u32, ConnectionId)>>,
    pub(super) expiries: Expiries,
    pub(super) counters: Arc<Counters>,
    generations: u32,
    is_draining: bool,
}

/// A server connection, for whoever wants to look.
#[derive(Debug)]
pub struct ServerView<'a> {
    /// Which one.
    pub server: ServerKey,
    /// Its hub.
    pub hub: HubId,
    /// Its app server.
    pub server_id: &'a str,
    /// Its own id.
    pub connection_id: &'a str,
    /// What it is for, once it has said so.
    pub connection_type: Option<ServerConnectionType>,
    /// Whether clients may be bound to it.
    pub is_routable: bool,
    /// How long a ping to its app server and back takes, once that has been measured.
    pub round_trip: Option<Duration>,
}

/// A client connection, for whoever wants to look.
#[derive(Debug)]
pub struct ClientView<'a> {
    /// Its id.
    pub id: ConnectionId,
    /// Its hub.
    pub hub: HubId,
    /// Its user.
    pub user: Option<&'a str>,
    /// How it is connected.
    pub transport: Transport,
    /// The hub protocol it speaks.
    pub protocol: &'a str,
    /// The id of its server connection.
    pub server_connection_id: Option<&'a str>,
}

impl Router {
    /// The router of `shard`, one of `shard_count`.
    pub fn new(
        shard: ShardId,
        shard_count: u16,
        instance_id: &str,
        counters: Arc<Counters>,
    ) -> Self {
        Self {
            shard,
            shard_count,
            instance_id: instance_id.into(),
            clients: Clients::default(),
            servers: Slab::new(),
            hubs: FxHashMap::default(),
            invocations: Invocations::default(),
            resuming: Resuming::default(),
            user_groups: UserGroups::new(shard, shard_count),
            surveys: Surveys::default(),
            migration: Migration::default(),
            moved: FxHashMap::default(),
            deadlines: BinaryHeap::new(),
            expiries: Expiries::default(),
            counters,
            generations: 0,
            is_draining: false,
        }
    }

    /// A server connection has been upgraded. It says its service handshake next.
    pub fn on_server_adopted(
        &mut self,
        socket: SocketKey,
        new: NewServer,
        now: Instant,
    ) -> ServerKey {
        self.generations = self.generations.wrapping_add(1);
        let generation = self.generations;
        let phase = ServerPhase::Handshake {
            deadline: now + SERVICE_HANDSHAKE_TIMEOUT,
        };
        let server = Server {
            generation,
            socket,
            hub: new.hub,
            server_id: new.server_id,
            connection_id: new.connection_id,
            connection_type: None,
            phase,
            migration_level: MigrationLevel::Off,
            shutdown: None,
            client_count: 0,
            last_heard: now,
            last_ping: now,
            round_trip: RoundTrip::new(now),
            queries: Queries::default(),
        };
        let slot = self.servers.insert(server) as u32;
        self.counters
            .server_connections
            .set(self.servers.len() as u64);
        ServerKey { slot, generation }
    }

    /// Something has come on a server connection, if only a part of a long message: it is alive.
    pub fn on_server_heard(&mut self, server: ServerKey, now: Instant) {
        if let Some(state) = self.server_mut(server) {
            state.last_heard = now;
        }
    }

    /// A whole service message has come on a server connection: its pieces, without length prefix. Follows on [`Self::on_server_heard`].
    pub fn on_server_message(
        &mut self,
        server: ServerKey,
        message: &[Chunk],
        now: Instant,
        effects: &mut Vec<Effect>,
    ) {
        self.counters.service_messages.increment();
        self.handle_server_message(server, message, now, effects);
    }

    /// A server connection has ended. Its clients are closed, so that they may come back on another one, or are parked.
    pub fn on_server_closed(&mut self, server: ServerKey, now: Instant, effects: &mut Vec<Effect>) {
        let Some(state) = self.take_server(server) else {
            return;
        };
        effects.push(Effect::ServerGone {
            hub: state.hub,
            server: self.server_ref(server),
        });
        let bound: Vec<ClientKey> = match self.hubs.get(&state.hub) {
            Some(hub) => hub
                .clients()
                .iter()
                .copied()
                .filter(|client| self.is_bound(*client, server))
                .collect(),
            None => Vec::new(),
        };
        for client in bound {
            if !self.park(client, &state, now, effects) {
                self.close_for_service(client, CloseCause::ServerConnectionLost, effects);
            }
        }
        self.end_departure(server);
    }

    /// A router of another shard says something.
    pub fn on_mail(&mut self, mail: Mail, now: Instant, effects: &mut Vec<Effect>) {
        match mail {
            Mail::Forwarded {
                hub,
                origin,
                message,
            } => self.handle_forwarded(hub, &origin, &message, now, effects),
            Mail::Answer {
                hub,
                to,
                messages,
                shards_tried,
            } => self.deliver_answer(hub, to, messages, shards_tried, effects),
            Mail::Moved {
                id,
                to: Some(shard),
            } => {
                self.moved.insert(id, shard);
            }
            Mail::Moved { id, to: None } => {
                self.moved.remove(&id);
            }
            Mail::Question {
                hub,
                question,
                survey,
            } => self.handle_question(hub, &question, survey, effects),
            Mail::Findings { number, findings } => self.handle_findings(number, findings, effects),
        }
    }

    /// Time has passed. To be called every [`crate::limits::TICK`].
    pub fn on_tick(&mut self, now: Instant, effects: &mut Vec<Effect>) {
        self.close_late_handshakes(now, effects);
        self.tend_stateful(now, effects);
        self.close_expired(now, effects);
        self.keep_servers_alive(now, effects);
        self.expire_invocations(now, INVOCATION_TIMEOUT, effects);
        self.expire_surveys(now, effects);
        self.forget_user_groups(now);
        self.close_parked(now, effects);
        self.wake_parked(now);
        self.press_departures(now, effects);
    }

    /// The service stops: all clients are told that they may come back, then the server connections end.
    pub fn on_drain(&mut self, now: Instant, effects: &mut Vec<Effect>) {
        self.is_draining = true;
        self.announce_drain(effects);
        let clients: Vec<ClientKey> = self.clients.iter().map(|(key, _)| key).collect();
        for client in clients {
            self.close_for_service(client, CloseCause::Drain, effects);
        }
        let servers: Vec<ServerKey> = self.server_keys().collect();
        for server in servers {
            if let Some(state) = self.server(server) {
                effects.push(Effect::CloseServer {
                    server: state.socket,
                    cause: CloseCause::Drain,
                });
            }
            self.on_server_closed(server, now, effects);
        }
    }

    /// Says to the app servers why they lose their clients and connections: it goes into their logs.
    fn announce_drain(&self, effects: &mut Vec<Effect>) {
        let event = Message::<&[u8]>::from(ServiceEvent {
            object: ServiceEventObject::ServiceInstance,
            id: (&*self.instance_id).into(),
            kind: ServiceEventKind::Reloading,
            message: SERVICE_STOPS.into(),
        });
        let mut messages = Vec::new();
        event.encode(&mut messages);
        for (_, server) in &self.servers {
            // One that waits for its handshake response takes anything else for a refusal.
            if !matches!(server.phase, ServerPhase::Handshake { .. }) {
                effects.push(Effect::ToServer {
                    server: server.socket,
                    messages: messages.clone(),
                });
            }
        }
    }

    /// Whether the service stops.
    pub fn is_draining(&self) -> bool {
        self.is_draining
    }

    /// The server connections of this shard.
    pub fn server_views(&self) -> impl Iterator<Item = ServerView<'_>> {
        self.server_keys()
            .filter_map(|server| self.server_view(server))
    }

    /// One of the server connections of this shard.
    pub fn server_view(&self, server: ServerKey) -> Option<ServerView<'_>> {
        let state = self.server(server)?;
        Some(ServerView {
            server,
            hub: state.hub,
            server_id: &state.server_id,
            connection_id: &state.connection_id,
            connection_type: state.connection_type,
            is_routable: state.phase == ServerPhase::Routable,
            round_trip: state.round_trip.time(),
        })
    }

    /// The client connections of this shard.
    pub fn client_views(&self) -> impl Iterator<Item = ClientView<'_>> {
        self.clients.iter().map(|(_, client)| ClientView {
            id: client.id,
            hub: client.hub,
            user: client.user.as_deref(),
            transport: client.transport,
            protocol: client.protocol.name(),
            server_connection_id: client
                .server
                .and_then(|server| self.server(server))
                .map(|server| &*server.connection_id),
        })
    }

    /// Groups that have members on this shard.
    pub fn group_count(&self) -> usize {
        self.hubs.values().map(|hub| hub.groups.count()).sum()
    }

    pub(super) fn server(&self, key: ServerKey) -> Option<&Server> {
        self.servers
            .get(key.slot as usize)
            .filter(|server| server.generation == key.generation)
    }

    pub(super) fn server_mut(&mut self, key: ServerKey) -> Option<&mut Server> {
        self.servers
            .get_mut(key.slot as usize)
            .filter(|server| server.generation == key.generation)
    }

    pub(super) fn server_ref(&self, server: ServerKey) -> ServerRef {
        ServerRef {
            shard: self.shard,
            server,
        }
    }

    /// Who a message on this server connection comes from.
    pub(super) fn origin(&self, server: ServerKey) -> Option<Origin> {
        self.server(server).map(|state| Origin {
            server: self.server_ref(server),
            server_id: Arc::clone(&state.server_id),
        })
    }

    pub(super) fn server_keys(&self) -> impl Iterator<Item = ServerKey> + '_ {
        self.servers.iter().map(|(slot, server)| ServerKey {
            slot: slot as u32,
            generation: server.generation,
        })
    }

    /// Sends service messages back to who asked, wherever that is.
    pub(super) fn answer(
        &mut self,
        hub: HubId,
        to: &Origin,
        messages: Vec<u8>,
        effects: &mut Vec<Effect>,
    ) {
        if to.server.shard == self.shard {
            self.deliver_answer(hub, to.clone(), messages, 0, effects);
        } else {
            let mail = Mail::Answer {
                hub,
                to: to.clone(),
                messages,
                shards_tried: 0,
            };
            effects.push(Effect::Post {
                shard: to.server.shard,
                mail,
            });
        }
    }

    /// Where the server connection that asked is gone, any other of the same app server will do. They may all be on other shards:
    /// then the answer goes from shard to shard until one is found.
    fn deliver_answer(
        &mut self,
        hub: HubId,
        to: Origin,
        messages: Vec<u8>,
        shards_tried: u16,
        effects: &mut Vec<Effect>,
    ) {
        let asking = Some(to.server)
            .filter(|asking| asking.shard == self.shard)
            .and_then(|asking| self.server(asking.server));
        // One that waits for its handshake response takes anything else for a refusal.
        let may_answer = |server: &&Server| {
            server.hub == hub
                && server.server_id == to.server_id
                && !matches!(server.phase, ServerPhase::Handshake { .. })
        };
        let server = asking.or_else(|| {
            let mut servers = self.servers.iter().map(|(_, server)| server);
            servers.find(may_answer)
        });
        if let Some(server) = server {
            effects.push(Effect::ToServer {
                server: server.socket,
                messages,
            });
        } else if shards_tried + 1 < self.shard_count {
            effects.push(Effect::Post {
                shard: ShardId((self.shard.0 + 1) % self.shard_count),
                mail: Mail::Answer {
                    hub,
                    to,
                    messages,
                    shards_tried: shards_tried + 1,
                },
            });
        } else {
            self.counters.unknown_targets.increment();
        }
    }

    fn take_server(&mut self, key: ServerKey) -> Option<Server> {
        self.server(key)?;
        let server = self.servers.try_remove(key.slot as usize);
        self.counters
            .server_connections
            .set(self.servers.len() as u64);
        server
    }

    fn is_bound(&self, client: ClientKey, server: ServerKey) -> bool {
        self.clients
            .get(client)
            .is_some_and(|client| client.server == Some(server))
    }
}

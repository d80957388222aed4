//! The router's state, and what happens to connections as a whole: they come, they go, time passes.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::sync::Arc;
use std::time::Instant;

use rustc_hash::FxHashMap;
use slab::Slab;

use super::clients::Clients;
use super::hub::Hub;
use super::invocations::Invocations;
use super::server::{Server, ServerPhase};
use super::{
    ClientKey, CloseCause, Effect, HubId, Mail, NewServer, Origin, ServerKey, ServerRef, SocketKey,
};
use crate::chunk::Chunk;
use crate::counters::Counters;
use crate::id::{ConnectionId, ShardId};
use crate::limits::{
    INVOCATION_TIMEOUT, SERVER_PING_INTERVAL, SERVER_SILENCE_MAX, SERVICE_HANDSHAKE_TIMEOUT, TICK,
};
use crate::protocol::service::{self, KEEP_ALIVE_PING};

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
    /// Connections whose id names this shard but which live on another one.
    pub(super) moved: FxHashMap<ConnectionId, ShardId>,
    pub(super) deadlines: BinaryHeap<Reverse<(Instant, u32, ConnectionId)>>,
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
            moved: FxHashMap::default(),
            deadlines: BinaryHeap::new(),
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
            phase,
            last_heard: now,
            last_ping: now,
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

    /// A server connection has broken the protocol in a way that leaves its stream unreadable.
    pub fn on_server_fault(
        &mut self,
        server: ServerKey,
        text: &str,
        now: Instant,
        effects: &mut Vec<Effect>,
    ) {
        let Some(state) = self.server(server) else {
            return;
        };
        let socket = state.socket;
        let mut messages = Vec::new();
        service::write_service_error(text, &mut messages);
        effects.push(Effect::ToServer {
            server: socket,
            messages,
        });
        effects.push(Effect::CloseServer {
            server: socket,
            cause: CloseCause::ProtocolError,
        });
        self.on_server_closed(server, now, effects);
    }

    /// A server connection has ended. Its clients are closed, so that they may come back on another one.
    pub fn on_server_closed(
        &mut self,
        server: ServerKey,
        _now: Instant,
        effects: &mut Vec<Effect>,
    ) {
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
            self.close_for_service(client, CloseCause::ServerConnectionLost, effects);
        }
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
        }
    }

    /// Time has passed. To be called every [`TICK`].
    pub fn on_tick(&mut self, now: Instant, effects: &mut Vec<Effect>) {
        self.close_late_handshakes(now, effects);
        self.keep_servers_alive(now, effects);
        self.expire_invocations(now, INVOCATION_TIMEOUT, effects);
    }

    /// The service stops: all clients are told that they may come back, then the server connections end.
    pub fn on_drain(&mut self, now: Instant, effects: &mut Vec<Effect>) {
        self.is_draining = true;
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

    /// Whether the service stops.
    pub fn is_draining(&self) -> bool {
        self.is_draining
    }

    /// The server connections of this shard.
    pub fn server_views(&self) -> impl Iterator<Item = ServerView<'_>> {
        self.servers.iter().map(|(slot, server)| ServerView {
            server: ServerKey {
                slot: slot as u32,
                generation: server.generation,
            },
            hub: server.hub,
            server_id: &server.server_id,
            connection_id: &server.connection_id,
        })
    }

    /// The client connections of this shard.
    pub fn client_views(&self) -> impl Iterator<Item = ClientView<'_>> {
        self.clients.iter().map(|(_, client)| ClientView {
            id: client.id,
            hub: client.hub,
            user: client.user.as_deref(),
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

    fn keep_servers_alive(&mut self, now: Instant, effects: &mut Vec<Effect>) {
        let mut lost = Vec::new();
        for (slot, server) in &mut self.servers {
            let key = ServerKey {
                slot: slot as u32,
                generation: server.generation,
            };
            if let ServerPhase::Handshake { deadline } = server.phase {
                if now >= deadline {
                    self.counters.handshakes_failed.increment();
                    lost.push((key, server.socket, CloseCause::HandshakeTimeout));
                }
                continue;
            }
            if now.duration_since(server.last_heard) >= SERVER_SILENCE_MAX {
                self.counters.silent_servers.increment();
                lost.push((key, server.socket, CloseCause::Silent));
            } else if now.duration_since(server.last_ping) + TICK >= SERVER_PING_INTERVAL {
                server.last_ping = now;
                effects.push(Effect::ToServer {
                    server: server.socket,
                    messages: KEEP_ALIVE_PING.to_vec(),
                });
            }
        }
        for (key, socket, cause) in lost {
            effects.push(Effect::CloseServer {
                server: socket,
                cause,
            });
            self.on_server_closed(key, now, effects);
        }
    }
}

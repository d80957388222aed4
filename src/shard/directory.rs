//! What all shards know together: which hubs there are and which server connections serve them.
//!
//! Read once per new connection, written when a server connection comes or goes. Nothing here is touched for a message, except a
//! hub's count of clients per shard, which a fan-out reads to leave out shards that have none.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicUsize, Ordering};
use std::sync::{Arc, PoisonError, RwLock};

use crate::id::{HubName, ShardId};
use crate::limits::{HUBS_MAX, SERVER_CONNECTIONS_MAX};
use crate::protocol::access_token::Sticky;
use crate::routing::server_pool::{self, Candidate};
use crate::routing::{HubId, ServerRef};

/// The hubs of this service.
#[derive(Debug)]
pub struct Directory {
    hubs: RwLock<HashMap<HubName, Arc<HubEntry>>>,
    by_id: RwLock<Vec<Arc<HubEntry>>>,
    shard_count: usize,
    server_connections: AtomicUsize,
}

/// One hub, as all shards see it.
#[derive(Debug)]
pub struct HubEntry {
    /// Its number, for the life of the process.
    pub id: HubId,
    /// Its name.
    pub name: HubName,
    servers: RwLock<Vec<Arc<ServerEntry>>>,
    /// By shard: clients of the hub.
    clients: Box<[AtomicU32]>,
    /// By shard: server connections of the hub, those included that are still being adopted.
    placed_servers: Box<[AtomicU32]>,
}

/// A server connection that has completed its handshake.
#[derive(Debug)]
pub struct ServerEntry {
    /// Where it is.
    pub reference: ServerRef,
    /// The app server it belongs to.
    pub server_id: Arc<str>,
    routable: AtomicBool,
    clients: AtomicU32,
}

/// More hubs or server connections than [`crate::limits`] allows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum DirectoryFull {
    /// See [`HUBS_MAX`].
    #[error("this service has {HUBS_MAX} hubs already")]
    Hubs,
    /// See [`SERVER_CONNECTIONS_MAX`].
    #[error("this service has {SERVER_CONNECTIONS_MAX} server connections already")]
    ServerConnections,
}

impl Directory {
    /// A directory for so many shards.
    pub fn new(shard_count: usize) -> Self {
        Self {
            hubs: RwLock::default(),
            by_id: RwLock::default(),
            shard_count,
            server_connections: AtomicUsize::new(0),
        }
    }

    /// The hub of that name, which comes into being with its first use.
    pub fn hub(&self, name: &HubName) -> Result<Arc<HubEntry>, DirectoryFull> {
        if let Some(hub) = self
            .hubs
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .get(name)
        {
            return Ok(Arc::clone(hub));
        }
        let mut hubs = self.hubs.write().unwrap_or_else(PoisonError::into_inner);
        if let Some(hub) = hubs.get(name) {
            return Ok(Arc::clone(hub));
        }
        if hubs.len() >= HUBS_MAX {
            return Err(DirectoryFull::Hubs);
        }
        let counters = || (0..self.shard_count).map(|_| AtomicU32::new(0)).collect();
        let hub = Arc::new(HubEntry {
            id: HubId(hubs.len() as u32),
            name: name.clone(),
            servers: RwLock::default(),
            clients: counters(),
            placed_servers: counters(),
        });
        hubs.insert(name.clone(), Arc::clone(&hub));
        self.by_id
            .write()
            .unwrap_or_else(PoisonError::into_inner)
            .push(Arc::clone(&hub));
        Ok(hub)
    }

    /// The hub with that number.
    pub fn hub_by_id(&self, id: HubId) -> Option<Arc<HubEntry>> {
        self.by_id
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .get(id.0 as usize)
            .cloned()
    }

    /// Chooses the shard for a new server connection of a hub: the one that has the fewest of them, and among these `here` first.
    pub fn place_server(
        self: &Arc<Self>,
        hub: &Arc<HubEntry>,
        here: ShardId,
    ) -> Result<ServerPlace, DirectoryFull> {
        if self.server_connections.fetch_add(1, Ordering::Relaxed) >= SERVER_CONNECTIONS_MAX {
            self.server_connections.fetch_sub(1, Ordering::Relaxed);
            return Err(DirectoryFull::ServerConnections);
        }
        // Several connections of an app server arrive at the same moment: choosing and counting are one step.
        let _one_at_a_time = hub.servers.write().unwrap_or_else(PoisonError::into_inner);
        let fewest = hub
            .placed_servers
            .iter()
            .enumerate()
            .min_by_key(|(shard, count)| {
                (
                    count.load(Ordering::Relaxed),
                    (shard + self.shard_count - here.index()) % self.shard_count,
                )
            });
        let shard = fewest.map_or(here, |(shard, count)| {
            count.fetch_add(1, Ordering::Relaxed);
            ShardId(shard as u16)
        });
        Ok(ServerPlace {
            directory: Arc::clone(self),
            hub: Arc::clone(hub),
            shard,
        })
    }
}

impl HubEntry {
    /// Chooses a server connection for a client, or for one that has negotiated and will come in a moment, and counts it there. `None`
    /// if no app server can take it.
    pub fn place_client(&self, sticky: &Sticky, prefer: Option<ShardId>) -> Option<Reservation> {
        let servers = self.servers.read().unwrap_or_else(PoisonError::into_inner);
        let candidates = servers.iter().map(|server| server.candidate());
        let chosen = Arc::clone(servers.get(server_pool::pick(candidates, sticky, prefer)?)?);
        chosen.clients.fetch_add(1, Ordering::Relaxed);
        Some(Reservation(chosen))
    }

    /// Makes a server connection known to all shards.
    pub fn add_server(&self, entry: Arc<ServerEntry>) {
        self.servers
            .write()
            .unwrap_or_else(PoisonError::into_inner)
            .push(entry);
    }

    /// Forgets a server connection.
    pub fn remove_server(&self, reference: ServerRef) {
        self.drain_server(reference);
        self.servers
            .write()
            .unwrap_or_else(PoisonError::into_inner)
            .retain(|server| server.reference != reference);
    }

    /// Stops routing new clients to a server connection.
    pub fn drain_server(&self, reference: ServerRef) {
        let servers = self.servers.read().unwrap_or_else(PoisonError::into_inner);
        if let Some(server) = servers.iter().find(|server| server.reference == reference) {
            server.routable.store(false, Ordering::Relaxed);
        }
    }

    /// The server connections at this moment.
    pub fn servers(&self) -> Vec<Arc<ServerEntry>> {
        self.servers
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// Whether a shard has clients of this hub.
    pub fn has_clients_on(&self, shard: ShardId) -> bool {
        self.clients
            .get(shard.index())
            .is_some_and(|count| count.load(Ordering::Relaxed) > 0)
    }

    pub(super) fn count_client(&self, shard: ShardId) {
        if let Some(count) = self.clients.get(shard.index()) {
            count.fetch_add(1, Ordering::Relaxed);
        }
    }

    pub(super) fn uncount_client(&self, shard: ShardId) {
        if let Some(count) = self.clients.get(shard.index()) {
            count.fetch_sub(1, Ordering::Relaxed);
        }
    }

    /// Clients of this hub on all shards.
    pub fn client_count(&self) -> u32 {
        self.clients
            .iter()
            .map(|count| count.load(Ordering::Relaxed))
            .sum()
    }
}

impl ServerEntry {
    /// An entry for a server connection that may be given clients, unless it is of a kind that never carries any.
    pub fn new(reference: ServerRef, server_id: Arc<str>, routable: bool) -> Self {
        Self {
            reference,
            server_id,
            routable: AtomicBool::new(routable),
            clients: AtomicU32::new(0),
        }
    }

    /// Clients bound to it.
    pub fn client_count(&self) -> u32 {
        self.clients.load(Ordering::Relaxed)
    }

    fn candidate(&self) -> Candidate<'_> {
        Candidate {
            server_id: &self.server_id,
            shard: self.reference.shard,
            is_routable: self.routable.load(Ordering::Relaxed),
            client_count: self.client_count(),
        }
    }
}

/// A client's place at a server connection, which counts it until this is dropped.
#[derive(Debug)]
pub struct Reservation(Arc<ServerEntry>);

impl Reservation {
    /// Where the server connection is.
    pub fn server(&self) -> ServerRef {
        self.0.reference
    }

    /// Whether it is still one that takes clients.
    pub fn is_good(&self) -> bool {
        self.0.routable.load(Ordering::Relaxed)
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        self.0.clients.fetch_sub(1, Ordering::Relaxed);
    }
}

/// A server connection's place on a shard, given back when dropped.
#[derive(Debug)]
pub struct ServerPlace {
    directory: Arc<Directory>,
    /// Its hub.
    pub hub: Arc<HubEntry>,
    /// Its shard.
    pub shard: ShardId,
}

impl Drop for ServerPlace {
    fn drop(&mut self) {
        self.directory
            .server_connections
            .fetch_sub(1, Ordering::Relaxed);
        if let Some(count) = self.hub.placed_servers.get(self.shard.index()) {
            count.fetch_sub(1, Ordering::Relaxed);
        }
    }
}

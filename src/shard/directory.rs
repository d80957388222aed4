//! What all shards know together: which hubs there are and which server connections serve them.
//!
//! Read once per new connection, written when a server connection comes or goes, looked through for gaps at each tick. Nothing here is
//! touched for a message, except a hub's count of clients per shard, which a fan-out reads to leave out shards that have none.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};
use std::time::Instant;

use crate::id::{HubName, ShardId};
use crate::limits::{HUBS_MAX, SERVER_CONNECTIONS_MAX};
use crate::protocol::access_token::Sticky;
use crate::routing::rebalance::{self, Rebalance};
use crate::routing::server_pool::{self, Candidate, ShardLoad};
use crate::routing::{HubId, Origin, ServerRef};

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
    /// Server connections of the hub with their app servers, those included that are still being adopted.
    placed_servers: Mutex<Vec<(ShardId, Arc<str>)>>,
    /// Server connections that have ever been placed.
    server_arrivals: AtomicU32,
    rebalance: Mutex<Rebalance>,
}

/// A server connection that has completed its handshake.
#[derive(Debug)]
pub struct ServerEntry {
    /// Where it is.
    pub reference: ServerRef,
    /// The app server it belongs to.
    pub server_id: Arc<str>,
    routable: AtomicBool,
    allows_stateful_reconnects: bool,
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
            placed_servers: Mutex::default(),
            server_arrivals: AtomicU32::new(0),
            rebalance: Mutex::new(Rebalance::new(self.shard_count)),
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

    /// How many shards there are.
    pub fn shard_count(&self) -> usize {
        self.shard_count
    }

    /// Chooses the shard for a new server connection of a hub: the one that it was asked for, or else the one that has the fewest of them
    /// that take clients, and among these the one that has the fewest of the same app server; so each app server comes to all shards
    /// that it has connections for. Among equals `here` comes first.
    pub fn place_server(
        self: &Arc<Self>,
        hub: &Arc<HubEntry>,
        server_id: &Arc<str>,
        asked: Option<ShardId>,
        here: ShardId,
    ) -> Result<ServerPlace, DirectoryFull> {
        if self.server_connections.fetch_add(1, Ordering::Relaxed) >= SERVER_CONNECTIONS_MAX {
            self.server_connections.fetch_sub(1, Ordering::Relaxed);
            return Err(DirectoryFull::ServerConnections);
        }
        // Several connections of an app server arrive at the same moment: choosing and counting are one step.
        let mut placed = hub.placed_servers();
        let mut loads = vec![ShardLoad::default(); self.shard_count];
        for (shard, of) in placed.iter() {
            if let Some(load) = loads.get_mut(shard.index()) {
                load.placed += 1;
                load.own += u32::from(of == server_id);
            }
        }
        for server in hub.servers().iter().filter(|server| !server.is_routable()) {
            if let Some(load) = loads.get_mut(server.reference.shard.index()) {
                load.send_only += 1;
            }
        }
        let shard = asked
            .filter(|asked| asked.index() < self.shard_count)
            .unwrap_or_else(|| server_pool::shard_for_server(&loads, here));
        placed.push((shard, Arc::clone(server_id)));
        hub.server_arrivals.fetch_add(1, Ordering::Relaxed);
        drop(placed);
        Ok(ServerPlace {
            directory: Arc::clone(self),
            hub: Arc::clone(hub),
            server_id: Arc::clone(server_id),
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

    /// Counts a client at a server connection that its shard has chosen. `None` if that is gone.
    pub fn reserve(&self, reference: ServerRef) -> Option<Reservation> {
        let servers = self.servers.read().unwrap_or_else(PoisonError::into_inner);
        let chosen = servers
            .iter()
            .find(|server| server.reference == reference)?;
        chosen.clients.fetch_add(1, Ordering::Relaxed);
        Some(Reservation(Arc::clone(chosen)))
    }

    fn placed_servers(&self) -> MutexGuard<'_, Vec<(ShardId, Arc<str>)>> {
        self.placed_servers
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
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

    /// Which server connections to ask for now, of which app server and for which shard. All shards ask, and one of them is answered.
    pub fn wanted_servers(&self, here: ShardId, now: Instant) -> Vec<(Origin, ShardId)> {
        let servers = self.servers();
        let candidates: Vec<Candidate<'_>> =
            servers.iter().map(|server| server.candidate()).collect();
        if rebalance::caretaker(&candidates) != Some(here) {
            return Vec::new();
        }
        let arrivals = self.server_arrivals.load(Ordering::Relaxed);
        let mut rebalance = self
            .rebalance
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let wanted = rebalance.on_tick(&candidates, arrivals, now).into_iter();
        wanted
            .filter_map(|wanted| Some((servers.get(wanted.through)?.origin(), wanted.shard)))
            .collect()
    }

    /// How many server connections there are at this moment.
    pub fn server_count(&self) -> usize {
        self.servers
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .len()
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
    pub fn new(
        reference: ServerRef,
        server_id: Arc<str>,
        routable: bool,
        allows_stateful_reconnects: bool,
    ) -> Self {
        Self {
            reference,
            server_id,
            routable: AtomicBool::new(routable),
            allows_stateful_reconnects,
            clients: AtomicU32::new(0),
        }
    }

    /// Clients bound to it.
    pub fn client_count(&self) -> u32 {
        self.clients.load(Ordering::Relaxed)
    }

    /// Whether clients may be bound to it.
    fn is_routable(&self) -> bool {
        self.routable.load(Ordering::Relaxed)
    }

    fn origin(&self) -> Origin {
        Origin {
            server: self.reference,
            server_id: Arc::clone(&self.server_id),
        }
    }

    fn candidate(&self) -> Candidate<'_> {
        Candidate {
            server_id: &self.server_id,
            shard: self.reference.shard,
            is_routable: self.is_routable(),
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

    /// Whether its app server lets clients keep their state when they reconnect.
    pub fn allows_stateful_reconnects(&self) -> bool {
        self.0.allows_stateful_reconnects
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
    server_id: Arc<str>,
}

impl Drop for ServerPlace {
    fn drop(&mut self) {
        self.directory
            .server_connections
            .fetch_sub(1, Ordering::Relaxed);
        let mut placed = self.hub.placed_servers();
        let own = |(shard, of): &(ShardId, Arc<str>)| *shard == self.shard && *of == self.server_id;
        if let Some(index) = placed.iter().position(own) {
            placed.swap_remove(index);
        }
    }
}

//! This shard's slice of the client-to-server-connection map.

use rustc_hash::FxHashMap;
use slab::Slab;

use super::ClientKey;
use super::client::Client;
use crate::id::ConnectionId;

/// All client connections of the shard, of whatever hub. Those that an app server knows of can be found by id.
#[derive(Debug, Default)]
pub(super) struct Clients {
    clients: Slab<Client>,
    by_id: FxHashMap<ConnectionId, ClientKey>,
}

impl Clients {
    pub(super) fn insert(&mut self, client: Client) -> ClientKey {
        ClientKey(self.clients.insert(client) as u32)
    }

    pub(super) fn remove(&mut self, key: ClientKey) -> Option<Client> {
        let client = self.clients.try_remove(key.0 as usize)?;
        if self.by_id.get(&client.id) == Some(&key) {
            self.by_id.remove(&client.id);
        }
        Some(client)
    }

    pub(super) fn get(&self, key: ClientKey) -> Option<&Client> {
        self.clients.get(key.0 as usize)
    }

    pub(super) fn get_mut(&mut self, key: ClientKey) -> Option<&mut Client> {
        self.clients.get_mut(key.0 as usize)
    }

    /// Lets a client be found by its id, from when its app server is told of it.
    pub(super) fn publish(&mut self, key: ClientKey) {
        if let Some(client) = self.get(key) {
            self.by_id.insert(client.id, key);
        }
    }

    pub(super) fn find(&self, id: ConnectionId) -> Option<ClientKey> {
        self.by_id.get(&id).copied()
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (ClientKey, &Client)> {
        self.clients
            .iter()
            .map(|(slot, client)| (ClientKey(slot as u32), client))
    }

    pub(super) fn len(&self) -> usize {
        self.clients.len()
    }

    /// How many can be found by their id.
    #[cfg(test)]
    pub(super) fn published_count(&self) -> usize {
        self.by_id.len()
    }
}

//! One hub's clients, users and groups on one shard.
//!
//! A hub exists as long as it has clients here, a user as long as it has connections: what is empty is removed by whoever emptied it.

use rustc_hash::FxHashMap;
use smallvec::SmallVec;

use super::ClientKey;
use super::clients::Clients;
use super::groups::Groups;

#[derive(Debug, Default)]
pub(super) struct Hub {
    /// In no order; each client knows its place.
    clients: Vec<ClientKey>,
    /// In no order either. A user may be shared by all clients, so here too each knows its place.
    users: FxHashMap<Box<str>, SmallVec<[ClientKey; 2]>>,
    pub(super) groups: Groups,
}

impl Hub {
    pub(super) fn clients(&self) -> &[ClientKey] {
        &self.clients
    }

    /// Whether it has no clients, and so no users and no groups either.
    pub(super) fn is_empty(&self) -> bool {
        self.clients.is_empty()
    }

    /// The connections of a user.
    pub(super) fn user(&self, user: &str) -> &[ClientKey] {
        self.users
            .get(user)
            .map_or(&[], |connections| connections.as_slice())
    }

    pub(super) fn add(&mut self, key: ClientKey, clients: &mut Clients) {
        let Some(client) = clients.get_mut(key) else {
            return;
        };
        client.place = self.clients.len() as u32;
        self.clients.push(key);
        if let Some(user) = &client.user {
            if let Some(connections) = self.users.get_mut(user) {
                client.place_of_user = connections.len() as u32;
                connections.push(key);
            } else {
                client.place_of_user = 0;
                self.users
                    .insert(user.clone(), SmallVec::from_slice(&[key]));
            }
        }
    }

    pub(super) fn remove(&mut self, key: ClientKey, clients: &mut Clients) {
        self.groups.leave_all(key, clients);
        let Some(client) = clients.get(key) else {
            return;
        };
        let place = client.place;
        if let Some(user) = &client.user
            && let Some(connections) = self.users.get_mut(user)
        {
            let place = client.place_of_user;
            if connections.get(place as usize) != Some(&key) {
                debug_assert!(false, "a client knows its place among its user's");
                return;
            }
            connections.swap_remove(place as usize);
            let moved = connections.get(place as usize).copied();
            if connections.is_empty() {
                self.users.remove(user);
            }
            if let Some(moved) = moved.and_then(|moved| clients.get_mut(moved)) {
                moved.place_of_user = place;
            }
        }
        if self.clients.get(place as usize) != Some(&key) {
            debug_assert!(false, "a client knows its place in its hub");
            return;
        }
        self.clients.swap_remove(place as usize);
        if let Some(moved) = self.clients.get(place as usize)
            && let Some(moved) = clients.get_mut(*moved)
        {
            moved.place = place;
        }
    }
}

#[cfg(test)]
impl Hub {
    /// What must hold between any two events. How many memberships there are.
    pub(super) fn check(&self, clients: &Clients) -> usize {
        assert!(!self.is_empty(), "an empty hub is removed");
        let mut with_user = 0;
        for (place, key) in self.clients.iter().enumerate() {
            let client = clients.get(*key).expect("a hub's client exists");
            assert_eq!(client.place as usize, place, "a client knows its place");
            if let Some(user) = &client.user {
                with_user += 1;
                let of_user = self.user(user).get(client.place_of_user as usize);
                assert_eq!(of_user, Some(key), "a client knows its place");
            }
        }
        assert!(
            self.users.values().all(|of_user| !of_user.is_empty()),
            "a user without connections is removed"
        );
        let of_users: usize = self.users.values().map(SmallVec::len).sum();
        assert_eq!(of_users, with_user, "a user has nothing but its own");
        self.groups.check(clients)
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use super::*;
    use crate::id::{ConnectionId, ShardId};
    use crate::routing::client::Client;
    use crate::routing::{HubId, NewClient, SocketKey};

    fn client_of(user: &str, number: u32, now: Instant) -> Client {
        let socket = SocketKey {
            slot: number,
            generation: 1,
        };
        let new = NewClient {
            id: ConnectionId::new(ShardId(0), u128::from(number)),
            hub: HubId(0),
            user: Some(user.into()),
            server: None,
            required_server_id: None,
            open_body: Vec::new(),
            handshake_timeout: Duration::ZERO,
            transport: crate::protocol::negotiate::Transport::WebSockets,
            is_stateful: false,
            expiry: None,
        };
        Client::new(socket, new, now)
    }

    /// Many clients of one user, as where an app gives all of them the same. When they end together, as over the loss of a server
    /// connection, it is one event: with a search for each it would hold the shard up for a minute.
    #[test]
    fn clients_of_one_user_leave_without_a_search() {
        const CLIENTS: u32 = 100_000;
        let now = Instant::now();
        let (mut clients, mut hub) = (Clients::default(), Hub::default());
        let keys: Vec<ClientKey> = (0..CLIENTS)
            .map(|number| clients.insert(client_of("u", number, now)))
            .collect();
        for key in &keys {
            hub.add(*key, &mut clients);
        }
        let (middle, others) = keys.split_at(keys.len() / 2);
        for key in middle {
            hub.remove(*key, &mut clients);
            clients.remove(*key);
        }
        hub.check(&clients);
        for key in others {
            hub.remove(*key, &mut clients);
            clients.remove(*key);
        }
        assert!(hub.is_empty() && hub.users.is_empty());
        let taken = now.elapsed();
        assert!(taken < Duration::from_secs(10), "{taken:?}");
    }
}

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
            match self.users.get_mut(user) {
                Some(connections) => connections.push(key),
                None => {
                    self.users
                        .insert(user.clone(), SmallVec::from_slice(&[key]));
                }
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
            connections.retain(|connection| *connection != key);
            if connections.is_empty() {
                self.users.remove(user);
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
                let of_user = self.user(user).iter().filter(|other| *other == key);
                assert_eq!(of_user.count(), 1, "a user has each connection once");
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

//! The clients that the app server knows, in the order in which they came, so that it can address one after the other.

use std::collections::{HashMap, HashSet};

/// All clients of all server connections.
#[derive(Debug, Default)]
pub(super) struct Clients {
    all: Vec<Client>,
    /// Where in `all` a connection id is.
    positions: HashMap<Box<str>, usize>,
}

#[derive(Debug, PartialEq, Eq)]
pub(super) struct Client {
    pub(super) connection_id: Box<str>,
    /// Empty if its access token names none.
    pub(super) user_id: Box<str>,
    /// The server connection that carries its traffic, by position.
    pub(super) connection: usize,
}

/// A client that has its turn.
#[derive(Debug)]
pub(super) struct Turn<'a> {
    pub(super) client: &'a Client,
    pub(super) position: u64,
    pub(super) round: u64,
}

impl Clients {
    pub(super) fn insert(&mut self, client: Client) {
        self.positions
            .insert(client.connection_id.clone(), self.all.len());
        self.all.push(client);
    }

    /// Forgets a client. The last one takes its place.
    pub(super) fn remove(&mut self, connection_id: &str) {
        let Some(position) = self.positions.remove(connection_id) else {
            return;
        };
        self.all.swap_remove(position);
        if let Some(moved) = self.all.get(position)
            && let Some(entry) = self.positions.get_mut(&moved.connection_id)
        {
            *entry = position;
        }
    }

    /// Whether each is a user of its own.
    pub(super) fn are_users_of_their_own(&self) -> bool {
        let mut seen = HashSet::new();
        let mut users = self.all.iter().map(|client| &client.user_id);
        users.all(|user_id| !user_id.is_empty() && seen.insert(user_id))
    }

    pub(super) fn count(&self) -> u64 {
        self.all.len() as u64
    }

    /// The client whose turn it is, its position, and how often all have had their turn: after the last comes the first again. `None`
    /// only if there is none at all.
    pub(super) fn in_turn(&self, number: u64) -> Option<Turn<'_>> {
        let position = number.checked_rem(self.count())?;
        Some(Turn {
            client: self.all.get(position as usize)?,
            position,
            round: number / self.count(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn client(connection_id: &str) -> Client {
        Client {
            connection_id: connection_id.into(),
            user_id: "u".into(),
            connection: 0,
        }
    }

    fn in_turn(clients: &Clients, numbers: std::ops::Range<u64>) -> Vec<(&str, u64)> {
        numbers
            .filter_map(|number| clients.in_turn(number))
            .map(|turn| (&*turn.client.connection_id, turn.round))
            .collect()
    }

    #[test]
    fn clients_take_turns_and_those_that_leave_are_left_out() {
        let mut clients = Clients::default();
        assert!(clients.in_turn(0).is_none());
        for connection_id in ["a", "b", "c"] {
            clients.insert(client(connection_id));
        }
        assert_eq!(
            in_turn(&clients, 1..5),
            [("b", 0), ("c", 0), ("a", 1), ("b", 1)]
        );

        clients.remove("a");
        clients.remove("a");
        assert_eq!(in_turn(&clients, 0..3), [("c", 0), ("b", 0), ("c", 1)]);
        clients.remove("c");
        clients.remove("b");
        assert_eq!(clients.count(), 0);
    }
}

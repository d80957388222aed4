//! Clients that are kept when their server connection is lost.
//!
//! Without parking such clients are closed and come back by themselves. With it they notice nothing: they wait, within a bound, for
//! another server connection on this shard, and are opened there as in a migration ([`super::migration`]). It is off unless the
//! operator asks for it or the app server allows migration at any time, which no SDK does so far.
//!
//! | what | becomes of it |
//! |---|---|
//! | open calls, in both directions | answered with an error at once: nobody else will answer them |
//! | what the app server had in full | gone with it, if it had not acted on it |
//! | a message that it had in part | said again from its start to the next one |
//! | what the client says meanwhile | held; above a bound it is not read |
//! | what is sent to the client by others | delivered |
//! | groups and user | kept |
//! | a client that is in the midst of its handshake or of a message to it, or that has said or heard goodbye | closed as without parking |
//! | a time without a server connection | closed as without parking |
//!
//! Where a client may go: at once to a server connection that comes, after a short rest ([`PARKING_PAUSE`]) to one that is there. First
//! to the same app server, which may have lost only one of its connections; to any other only if the app server has said at its handshake that its clients may move at all, and the client's token does not require the one that is gone.
//! An app that shuts down in another way than by migration has decided what becomes of its clients: they are not parked.
//!
//! The app sees its client disconnect when the server connection is lost, and connect anew, with the same id and the header
//! `Asrs-Migrate-From`, when it is opened again. The client hears a hub ping at both times, so that it does not count the wait as the
//! silence of its app server.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::client::Phase;
use super::clients::Clients;
use super::server::Server;
use super::traffic::{Parked, Stage};
use super::{ClientKey, CloseCause, Effect, Router};
use crate::id::ConnectionId;
use crate::limits::{PARKING_DEFAULT, PARKING_PAUSE};
use crate::protocol::hub::handshake::ping_message;
use crate::protocol::service::MigrationLevel;
use crate::protocol::service::ping::ShutdownMode;

/// Who is parked, and until when. Whoever has been opened again may stay in the list until then.
#[derive(Debug, Default)]
pub(super) struct ParkedClients {
    /// How long, if the operator wants it.
    wanted: Option<Duration>,
    until: BinaryHeap<Reverse<(Instant, ClientKey, ConnectionId)>>,
    /// Who has been parked so recently, and since when, that it is not yet given to another server connection.
    resting: VecDeque<(Instant, ClientKey, ConnectionId)>,
}

impl ParkedClients {
    pub(super) fn is_wanted(&self) -> bool {
        self.wanted.is_some()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.until.is_empty()
    }
}

impl Router {
    /// Parks clients for so long when their server connection is lost. To be said before anybody is adopted.
    pub fn park_on_drop(&mut self, time: Option<Duration>) {
        self.migration.parked.wanted = time;
    }

    /// Keeps a client whose server connection is lost. False if it cannot be kept.
    pub(super) fn park(
        &mut self,
        key: ClientKey,
        lost: &Server,
        now: Instant,
        effects: &mut Vec<Effect>,
    ) -> bool {
        let Some(time) = self.parking_time(lost) else {
            return false;
        };
        let Some(client) = self.clients.get_mut(key) else {
            return false;
        };
        if !matches!(client.phase, Phase::Open) || client.said_goodbye {
            return false;
        }
        let Some(traffic) = client.traffic.as_deref_mut() else {
            return false;
        };
        if !traffic.can_park() {
            return false;
        }
        traffic.park(Parked {
            from: Arc::clone(&lost.server_id),
            must_return: lost.migration_level == MigrationLevel::Off,
            until: now + time,
        });
        client.server = None;
        client.pieces = None;
        let id = client.id;
        self.abandon_open(key, effects);
        if self.clients.get(key).is_none() {
            // More than can be kept for one that has no socket; see `super::resuming`.
            return true;
        }
        self.ping(key, effects);
        let until = Reverse((now + time, key, id));
        self.migration.parked.until.push(until);
        self.forget_opened();
        self.migration.parked.resting.push_back((now, key, id));
        self.counters.clients_parked.increment();
        true
    }

    /// Closes those who have waited long enough.
    pub(super) fn close_parked(&mut self, now: Instant, effects: &mut Vec<Effect>) {
        while let Some(Reverse((until, key, id))) = self.migration.parked.until.peek().copied() {
            if until > now {
                return;
            }
            self.migration.parked.until.pop();
            // It may have been opened again since, or even parked anew.
            if is_parked(&self.clients, key, id, until) {
                self.close_for_service(key, CloseCause::ServerConnectionLost, effects);
            }
        }
    }

    /// Looks for server connections for those who have rested.
    pub(super) fn wake_parked(&mut self, now: Instant) {
        while let Some((since, key, id)) = self.migration.parked.resting.front().copied() {
            if now.duration_since(since) < PARKING_PAUSE {
                return;
            }
            self.migration.parked.resting.pop_front();
            self.move_soon(key, id);
        }
    }

    /// Lets a client hear that the service is alive.
    pub(super) fn ping(&mut self, key: ClientKey, effects: &mut Vec<Effect>) {
        if let Some(client) = self.clients.get(key) {
            let ping = ping_message(&client.protocol).to_vec();
            self.say_to_client(key, ping, effects);
        }
    }

    /// An app server that is lost again and again must not make the list grow.
    fn forget_opened(&mut self) {
        let (clients, until) = (&self.clients, &mut self.migration.parked.until);
        if until.len() > 2 * clients.len() {
            until.retain(|Reverse((until, key, id))| is_parked(clients, *key, *id, *until));
        }
    }

    fn parking_time(&self, lost: &Server) -> Option<Duration> {
        let may_park = match lost.shutdown {
            None | Some(ShutdownMode::MigrateClients) => true,
            Some(ShutdownMode::Off | ShutdownMode::WaitForClientsClose) => false,
        };
        let by_level = (lost.migration_level == MigrationLevel::Any).then_some(PARKING_DEFAULT);
        self.migration
            .parked
            .wanted
            .or(by_level)
            .filter(|_| may_park)
    }
}

/// Whether a client is parked until then, and not until another time.
fn is_parked(clients: &Clients, key: ClientKey, id: ConnectionId, until: Instant) -> bool {
    clients.get(key).is_some_and(|client| {
        let stage = client.traffic.as_ref().map(|traffic| &traffic.stage);
        client.id == id && matches!(stage, Some(Stage::Parked(parked)) if parked.until == until)
    })
}

#[cfg(test)]
impl ParkedClients {
    /// Entries of the list, those without a meaning included.
    pub(super) fn listed(&self) -> usize {
        self.until.len()
    }
}

//! Connections that have been negotiated and are expected: which id belongs to which token.
//!
//! Written by the control plane, read by admission: once per connection each. A token is good for one connection, and stays known while
//! that lives, so that a second use can be told from an unknown one; and where that lives, if a second socket may take its place.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use super::directory::Reservation;
use crate::id::{ConnectionId, ConnectionToken, HubName, ShardId};
use crate::limits::{PENDING_CONNECTION_LIFETIME, PENDING_CONNECTIONS_MAX};
use crate::protocol::negotiate::Transport;

/// See the module.
#[derive(Debug, Default)]
pub struct PendingConnections {
    table: Mutex<Table>,
}

#[derive(Debug, Default)]
struct Table {
    entries: HashMap<ConnectionToken, Entry>,
    /// When waiting entries run out. All live equally long, so the oldest is in front.
    expiries: VecDeque<(Instant, ConnectionToken)>,
}

#[derive(Debug)]
enum Entry {
    Waiting {
        expected: Expected,
        hub: HubName,
    },
    InUse {
        hub: HubName,
        transport: Transport,
        /// Only a WebSocket lodges: no other transport has a socket to lose.
        lodging: Option<Lodging>,
    },
}

/// What has become of a token that was given out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TokenUse {
    /// Its connection is expected.
    Waiting,
    /// Its connection is there.
    InUse(Transport),
}

/// Where a connection lives that may go on on another socket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Lodging {
    /// Its id.
    pub id: ConnectionId,
    /// Its shard.
    pub shard: ShardId,
}

/// A connection that is expected.
#[derive(Debug)]
pub struct Expected {
    /// The id it was given.
    pub id: ConnectionId,
    /// Whether it has been promised that it may survive the loss of its socket.
    pub is_stateful: bool,
    /// Its place at a server connection, kept for it meanwhile. `None` if there was no app server.
    pub reservation: Option<Reservation>,
}

/// There are too many of them; see [`PENDING_CONNECTIONS_MAX`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("too many connections have been negotiated and not been opened")]
pub struct TooManyPending;

/// Why a token does not open a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum TakeError {
    /// It was never given out, not for this hub, or too long ago.
    #[error("No Connection with that ID")]
    Unknown,
    /// Its connection is there already.
    #[error("The connection with that ID is in use")]
    InUse,
    /// Its connection is there already, over another transport.
    #[error("Cannot change transports mid-connection")]
    OtherTransport(Transport),
    /// Its connection is there already, but may have lost its socket.
    #[error("The connection with that ID may be resumed")]
    Lives(Lodging),
}

impl PendingConnections {
    /// Expects a connection.
    pub fn expect(
        &self,
        token: ConnectionToken,
        expected: Expected,
        hub: HubName,
        now: Instant,
    ) -> Result<(), TooManyPending> {
        let mut table = self.table();
        table.expire(now);
        if table.expiries.len() >= PENDING_CONNECTIONS_MAX {
            return Err(TooManyPending);
        }
        table
            .entries
            .insert(token, Entry::Waiting { expected, hub });
        table
            .expiries
            .push_back((now + PENDING_CONNECTION_LIFETIME, token));
        Ok(())
    }

    /// The connection is there: what was kept for it, and a hold on the token for as long as it lives.
    pub fn take(
        self: &Arc<Self>,
        token: ConnectionToken,
        hub: &HubName,
        transport: Transport,
        now: Instant,
    ) -> Result<(Expected, TokenHold), TakeError> {
        let mut table = self.table();
        table.expire(now);
        let entry = table.entries.get_mut(&token).ok_or(TakeError::Unknown)?;
        if entry.hub() != hub {
            return Err(TakeError::Unknown);
        }
        match entry {
            Entry::InUse {
                transport: other, ..
            } if *other != transport => Err(TakeError::OtherTransport(*other)),
            Entry::InUse { lodging: None, .. } => Err(TakeError::InUse),
            Entry::InUse {
                lodging: Some(lodging),
                ..
            } => Err(TakeError::Lives(*lodging)),
            Entry::Waiting { .. } => {
                let in_use = Entry::InUse {
                    hub: hub.clone(),
                    transport,
                    lodging: None,
                };
                match std::mem::replace(entry, in_use) {
                    Entry::Waiting { expected, .. } => Ok((
                        expected,
                        TokenHold {
                            pending: Arc::clone(self),
                            token,
                        },
                    )),
                    Entry::InUse { .. } => Err(TakeError::InUse),
                }
            }
        }
    }

    /// What has become of a token of that hub. `None` if it was never given out, or too long ago.
    pub fn token_use(
        &self,
        token: ConnectionToken,
        hub: &HubName,
        now: Instant,
    ) -> Option<TokenUse> {
        let mut table = self.table();
        table.expire(now);
        let entry = table.entries.get(&token);
        entry
            .filter(|entry| entry.hub() == hub)
            .map(|entry| match entry {
                Entry::Waiting { .. } => TokenUse::Waiting,
                Entry::InUse { transport, .. } => TokenUse::InUse(*transport),
            })
    }

    fn table(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Entry {
    fn hub(&self) -> &HubName {
        match self {
            Self::Waiting { hub, .. } | Self::InUse { hub, .. } => hub,
        }
    }
}

impl Table {
    fn expire(&mut self, now: Instant) {
        while let Some((expiry, token)) = self.expiries.front().copied() {
            if expiry > now {
                return;
            }
            self.expiries.pop_front();
            if let Some(Entry::Waiting { .. }) = self.entries.get(&token) {
                self.entries.remove(&token);
            }
        }
    }
}

/// Keeps a token from being used twice, until dropped.
#[derive(Debug)]
pub struct TokenHold {
    pending: Arc<PendingConnections>,
    token: ConnectionToken,
}

impl TokenHold {
    /// Lets another socket take the place of the connection's own.
    pub fn lodge(&self, lodging: Lodging) {
        let mut table = self.pending.table();
        if let Some(Entry::InUse { lodging: kept, .. }) = table.entries.get_mut(&self.token) {
            *kept = Some(lodging);
        }
    }
}

impl Drop for TokenHold {
    fn drop(&mut self) {
        self.pending.table().entries.remove(&self.token);
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    const WS: Transport = Transport::WebSockets;

    fn hub(name: &str) -> HubName {
        HubName::parse(name).unwrap()
    }

    #[test]
    fn a_token_opens_one_connection_of_its_hub_in_time() {
        let pending = Arc::new(PendingConnections::default());
        let (now, token, id) = (
            Instant::now(),
            ConnectionToken::new(7),
            ConnectionId::new(ShardId(0), 9),
        );
        pending
            .expect(
                token,
                Expected {
                    id,
                    is_stateful: false,
                    reservation: None,
                },
                hub("chat"),
                now,
            )
            .unwrap();
        assert_eq!(
            pending.take(token, &hub("other"), WS, now).unwrap_err(),
            TakeError::Unknown
        );
        let (expected, hold) = pending.take(token, &hub("chat"), WS, now).unwrap();
        assert_eq!(expected.id, id);
        assert_eq!(
            pending.take(token, &hub("chat"), WS, now).unwrap_err(),
            TakeError::InUse
        );
        let later = now + PENDING_CONNECTION_LIFETIME;
        assert_eq!(
            pending.take(token, &hub("chat"), WS, later).unwrap_err(),
            TakeError::InUse,
            "in use for as long as it lives"
        );
        drop(hold);
        assert_eq!(
            pending.take(token, &hub("chat"), WS, later).unwrap_err(),
            TakeError::Unknown
        );
    }

    #[test]
    fn a_token_is_bound_to_the_transport_that_has_taken_it() {
        let pending = Arc::new(PendingConnections::default());
        let (now, token, chat) = (Instant::now(), ConnectionToken::new(7), hub("chat"));
        let expected = Expected {
            id: ConnectionId::new(ShardId(0), 9),
            is_stateful: false,
            reservation: None,
        };
        assert_eq!(pending.token_use(token, &chat, now), None);
        pending.expect(token, expected, chat.clone(), now).unwrap();
        assert_eq!(
            pending.token_use(token, &chat, now),
            Some(TokenUse::Waiting)
        );
        let polling = Transport::LongPolling;
        let _hold = pending.take(token, &chat, polling, now).unwrap();
        assert_eq!(
            pending.token_use(token, &chat, now),
            Some(TokenUse::InUse(polling))
        );
        assert_eq!(
            pending.take(token, &chat, WS, now).unwrap_err(),
            TakeError::OtherTransport(polling)
        );
        let other = hub("other");
        assert_eq!(pending.token_use(token, &other, now), None);
        assert_eq!(
            pending.take(token, &other, polling, now).unwrap_err(),
            TakeError::Unknown
        );
    }

    #[test]
    fn a_token_runs_out() {
        let pending = Arc::new(PendingConnections::default());
        let (now, token) = (Instant::now(), ConnectionToken::new(7));
        let expected = Expected {
            id: ConnectionId::new(ShardId(0), 9),
            is_stateful: false,
            reservation: None,
        };
        pending.expect(token, expected, hub("chat"), now).unwrap();
        let late = now + PENDING_CONNECTION_LIFETIME + Duration::from_millis(1);
        assert_eq!(
            pending.take(token, &hub("chat"), WS, late).unwrap_err(),
            TakeError::Unknown
        );
        assert!(pending.table().entries.is_empty() && pending.table().expiries.is_empty());
    }
}

//! Clients that are closed when their authentication expires.
//!
//! An app that wants this (`CloseOnAuthenticationExpiration` in ASP.NET Core) has the time written into the client's access token. The
//! client is told that it may come back, since it will have to sign in again on the way; a diagnostic client is not.
//!
//! Invariant: exactly the clients of this shard that have an expiry are listed, each with its own.

use std::collections::BTreeSet;
use std::time::Instant;

use super::client::Phase;
use super::connections::say_farewell;
use super::{ClientKey, CloseCause, Effect, Router};
use crate::limits::EXPIRIES_PER_TICK;
use crate::protocol::hub::handshake;

const AUTHENTICATION_EXPIRED: &str = "The authentication has expired.";

/// When a client is closed because it is signed in no longer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Expiry {
    /// When.
    pub at: Instant,
    /// Whether it is told to come back by itself.
    pub allow_reconnect: bool,
}

/// In the order of their times. A list of their own: a deadline may be hours away, and must not be kept for a client that left long ago.
#[derive(Debug, Default)]
pub(super) struct Expiries(BTreeSet<(Instant, ClientKey)>);

impl Expiries {
    pub(super) fn add(&mut self, client: ClientKey, expiry: &Expiry) {
        self.0.insert((expiry.at, client));
    }

    pub(super) fn remove(&mut self, client: ClientKey, expiry: &Expiry) {
        self.0.remove(&(expiry.at, client));
    }

    /// The first whose time has come.
    fn due(&self, now: Instant) -> Option<ClientKey> {
        let (at, client) = self.0.first()?;
        (*at <= now).then_some(*client)
    }

    #[cfg(test)]
    pub(super) fn list(&self) -> Vec<(Instant, ClientKey)> {
        self.0.iter().copied().collect()
    }
}

impl Router {
    /// Closes those whose time has come, in slices: thousands may have signed in at the same moment.
    pub(super) fn close_expired(&mut self, now: Instant, effects: &mut Vec<Effect>) {
        for _ in 0..EXPIRIES_PER_TICK {
            let Some(key) = self.expiries.due(now) else {
                return;
            };
            self.close_expired_client(key, effects);
        }
    }

    fn close_expired_client(&mut self, key: ClientKey, effects: &mut Vec<Effect>) {
        let Some(client) = self.remove_client(key, effects) else {
            debug_assert!(false, "who is listed is connected");
            return;
        };
        let allow_reconnect = client
            .expiry
            .as_ref()
            .is_some_and(|expiry| expiry.allow_reconnect);
        self.counters.authentications_expired.increment();
        tracing::debug!(client = %client.id, "closed a client whose authentication has expired");
        let close = handshake::close_message(
            &client.protocol,
            Some(AUTHENTICATION_EXPIRED),
            allow_reconnect,
        );
        say_farewell(&client, close, AUTHENTICATION_EXPIRED, effects);
        effects.push(Effect::CloseClient {
            client: client.socket,
            cause: CloseCause::AuthenticationExpired,
        });
        if !matches!(client.phase, Phase::Handshake(_)) {
            self.tell_server_of_end(&client, effects);
        }
    }
}

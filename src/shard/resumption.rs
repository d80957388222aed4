//! A client that has lost its socket, or will have, and the socket that takes its place.
//!
//! Who asks is answered only by the shard that has the client, and the upgrade is answered only then: a client whose connection has ended
//! is refused with an HTTP status. Were it upgraded and then dropped, Microsoft's JavaScript client would come back at once, for ever.

use std::os::fd::OwnedFd;
use std::time::Instant;

use tokio::sync::oneshot;

use super::Shard;
use super::admission::gate::SocketHold;
use super::connection::Role;
use super::place::ClientPlace;
use crate::id::ConnectionId;
use crate::routing::{ClientKey, HubId, ResumeError, SocketKey};

/// A socket whose upgrade is to be answered, and the client that it wants to be.
#[derive(Debug)]
pub struct Resumption {
    /// The socket.
    pub fd: OwnedFd,
    /// Counts the socket.
    pub hold: SocketHold,
    /// What came behind its request head.
    pub early: Vec<u8>,
    /// The answer to the upgrade, which goes before everything else.
    pub switching_protocols: Vec<u8>,
    /// The client.
    pub id: ConnectionId,
    /// The hub that the access token is for.
    pub hub: HubId,
    /// The user that it names.
    pub user: Option<Box<str>>,
    /// Is told whether the socket has been taken over.
    pub answer: oneshot::Sender<Result<(), ResumeError>>,
}

impl Shard {
    /// Lets a socket take the place of a client's old one, if it may.
    pub(super) fn resume_client(&mut self, resumption: Resumption, now: Instant) {
        let Resumption {
            fd,
            hold,
            early,
            switching_protocols,
            id,
            hub,
            user,
            answer,
        } = resumption;
        let key = match self.router.resumable(id, hub, user.as_deref()) {
            Ok(key) => key,
            Err(error) => {
                self.counters.resumes_refused.increment();
                // Before who asked is told, or it would be counted on while its refusal is being sent.
                drop((fd, hold));
                let _ = answer.send(Err(error));
                return;
            }
        };
        let socket = self.connections.insert(fd, hold, false);
        let place = self
            .router
            .on_client_resumed(key, socket, &mut self.effects)
            .and_then(|old| self.take_place(old));
        let Some(place) = place else {
            debug_assert!(false, "a client has a place, on a socket or without one");
            return self.connections.remove(socket);
        };
        if let Some(connection) = self.connections.get_mut(socket) {
            connection.role = Role::Client { key, place };
        }
        self.push_raw(socket, &switching_protocols);
        self.begin(socket, early, now);
        tracing::debug!(shard = %self.id, client = %id, "a client has resumed");
        // If nobody waits for this any more, the loss of the new socket will be noticed as that of any other.
        let _ = answer.send(Ok(()));
    }

    /// A client's socket is lost. Its place is kept while it may come back.
    pub(super) fn part_with_client(&mut self, socket: SocketKey, key: ClientKey, now: Instant) {
        let Some(role) = self.take_role(socket) else {
            return;
        };
        let is_away = self.router.on_client_lost(key, now, &mut self.effects);
        self.apply_effects(&[], None, now);
        match role {
            Role::Client { place, .. } if is_away => {
                self.away.insert(socket, place);
            }
            role @ (Role::Client { .. } | Role::Server(_) | Role::Echo(_) | Role::Leaving) => {
                self.free_place(role, "its socket is lost");
            }
        }
    }

    /// Takes a client's place away from its old socket, which ends if it has not.
    fn take_place(&mut self, old: SocketKey) -> Option<Box<ClientPlace>> {
        if let Some(place) = self.away.remove(&old) {
            return Some(place);
        }
        let role = self.take_role(old)?;
        self.kill(old);
        self.remove_if_unused(old);
        match role {
            Role::Client { place, .. } => Some(place),
            Role::Server(_) | Role::Echo(_) | Role::Leaving => None,
        }
    }
}

//! One server connection, as its router sees it.

use std::sync::Arc;
use std::time::Instant;

use super::round_trip::RoundTrip;
use super::{HubId, SocketKey};
use crate::limits::QUERY_INTERVAL;
use crate::protocol::service::ping::ShutdownMode;
use crate::protocol::service::{MigrationLevel, ServerConnectionType};

/// What admission found out about a server connection.
#[derive(Debug)]
pub struct NewServer {
    /// Its hub.
    pub hub: HubId,
    /// The app server that it belongs to.
    pub server_id: Arc<str>,
    /// Its own id, chosen by the app server.
    pub connection_id: Box<str>,
}

/// See the module.
#[derive(Debug)]
#[expect(
    clippy::struct_field_names,
    reason = "it is the id of the app server, not of this connection"
)]
pub(super) struct Server {
    pub(super) generation: u32,
    pub(super) socket: SocketKey,
    pub(super) hub: HubId,
    pub(super) server_id: Arc<str>,
    pub(super) connection_id: Box<str>,
    /// As it said in its handshake.
    pub(super) connection_type: Option<ServerConnectionType>,
    pub(super) phase: ServerPhase,
    /// When its clients may move to another app server.
    pub(super) migration_level: MigrationLevel,
    /// How its app server shuts down, if it does.
    pub(super) shutdown: Option<ShutdownMode>,
    /// Clients bound to it.
    pub(super) client_count: usize,
    pub(super) last_heard: Instant,
    pub(super) last_ping: Instant,
    pub(super) round_trip: RoundTrip,
    pub(super) queries: Queries,
}

/// When the questions that cost something were last answered. Asked again too soon, they are not: the answer would be the same.
#[derive(Debug, Default)]
pub(super) struct Queries {
    pub(super) status: LastAnswer,
    pub(super) servers: LastAnswer,
}

#[derive(Debug, Default)]
pub(super) struct LastAnswer(Option<Instant>);

impl LastAnswer {
    /// Whether to answer now, in which case it counts as done.
    pub(super) fn is_due(&mut self, now: Instant) -> bool {
        let is_due = self
            .0
            .is_none_or(|last| now.duration_since(last) >= QUERY_INTERVAL);
        if is_due {
            self.0 = Some(now);
        }
        is_due
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ServerPhase {
    /// It has not sent its handshake request.
    Handshake { deadline: Instant },
    /// Clients may be bound to it.
    Routable,
    /// It sends, but takes no clients: a weak connection, or one that is shutting down.
    SendOnly,
}

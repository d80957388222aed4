//! One server connection, as its router sees it.

use std::sync::Arc;
use std::time::Instant;

use super::{HubId, SocketKey};

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
    pub(super) phase: ServerPhase,
    pub(super) last_heard: Instant,
    pub(super) last_ping: Instant,
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

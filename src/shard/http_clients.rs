//! Clients whose transport is HTTP requests: on Server-Sent Events or long polling. They live in the control plane; here they are clients like
//! any other, with an [`Outlet`] in the place of a socket.

use std::sync::Arc;
use std::time::Instant;

use tokio::sync::oneshot;

use super::Shard;
use super::outlet::Outlet;
use super::place::ClientPlace;
use crate::routing::{NewClient, SocketKey};

/// A client on another transport than a WebSocket, which belongs to this shard now.
#[derive(Debug)]
pub struct AdmittedHttpClient {
    /// What the router has to know.
    pub new: NewClient,
    /// Where it is counted.
    pub place: ClientPlace,
    /// Where what is sent to it goes.
    pub outlet: Arc<Outlet>,
    /// Is told by what name the shard knows it. Dropped if the shard does not take it.
    pub adopted: oneshot::Sender<SocketKey>,
}

/// Bytes from such a client.
#[derive(Debug)]
pub struct HttpData {
    /// Who.
    pub client: SocketKey,
    /// Hub messages, cut anywhere.
    pub bytes: Vec<u8>,
    /// Is told when they have been passed on, which may take until its app server has room. Dropped if the client is gone.
    pub taken: oneshot::Sender<()>,
}

impl Shard {
    /// Takes over a client that the control plane serves.
    pub(super) fn adopt_http_client(&mut self, client: AdmittedHttpClient, now: Instant) {
        let _ = (client, now);
    }

    /// Such a client has sent something.
    pub(super) fn on_http_data(&mut self, data: HttpData, now: Instant) {
        let _ = (data, now);
    }

    /// Such a client has gone. What waits for it is of no use any more.
    pub(super) fn on_http_closed(&mut self, client: SocketKey, now: Instant) {
        let _ = (client, now);
    }
}

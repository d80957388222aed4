//! The way to one client: the server connection that it lives on, and whether its output is held.
//!
//! The service may pause a client's output, for as long as it moves the client, and let it go on by another server connection.
//! Nothing is buffered meanwhile: whoever has something to say to the client waits, so what is held is bounded by the calls that run.
//! Once a pause is acknowledged nothing of the client is on its way on the old server connection any more.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use tokio::sync::{OwnedRwLockWriteGuard, RwLock, RwLockReadGuard};

use super::byte_queue::Closed;
use super::lock::Lock;
use super::server_connection::ServerConnection;
use crate::protocol::service::Message;

/// See the module's documentation.
#[derive(Debug)]
pub(super) struct Way {
    server_connection: Lock<Arc<ServerConnection>>,
    /// Read by whoever sends, from the decision to send until the message is queued; written by whoever pauses.
    gate: Arc<RwLock<()>>,
    pause: Lock<Option<OwnedRwLockWriteGuard<()>>>,
}

/// The permission to send, as long as it is held.
#[derive(Debug)]
pub(super) struct Open<'a> {
    way: &'a Way,
    _gate: RwLockReadGuard<'a, ()>,
}

impl Way {
    /// The way that begins with this server connection.
    pub(super) fn new(server_connection: Arc<ServerConnection>) -> Self {
        server_connection
            .client_count
            .fetch_add(1, Ordering::Relaxed);
        Self {
            server_connection: Lock::new(server_connection),
            gate: Arc::default(),
            pause: Lock::default(),
        }
    }

    /// The server connection that the client lives on now.
    pub(super) fn server_connection(&self) -> Arc<ServerConnection> {
        self.server_connection.with(|known| Arc::clone(known))
    }

    /// Whether the client lives on this server connection.
    pub(super) fn is_on(&self, server_connection: &Arc<ServerConnection>) -> bool {
        self.server_connection
            .with(|known| Arc::ptr_eq(known, server_connection))
    }

    /// The permission to send, if the way is not paused.
    pub(super) fn try_open(&self) -> Option<Open<'_>> {
        let gate = self.gate.try_read().ok()?;
        Some(Open {
            way: self,
            _gate: gate,
        })
    }

    /// The permission to send, as soon as the way is not paused.
    pub(super) async fn open(&self) -> Open<'_> {
        let gate = self.gate.read().await;
        Open {
            way: self,
            _gate: gate,
        }
    }

    /// Holds the output, once all that is on its way has been queued. Tells whether it was not held already.
    pub(super) async fn pause(&self) -> bool {
        if self.pause.with(|pause| pause.is_some()) {
            return false;
        }
        let gate = Arc::clone(&self.gate).write_owned().await;
        self.pause.with(|pause| *pause = Some(gate));
        true
    }

    /// Lets the output go on, by this server connection.
    pub(super) fn resume(&self, server_connection: &Arc<ServerConnection>) {
        server_connection
            .client_count
            .fetch_add(1, Ordering::Relaxed);
        let before = self
            .server_connection
            .with(|known| std::mem::replace(known, Arc::clone(server_connection)));
        before.client_count.fetch_sub(1, Ordering::Relaxed);
        self.pause.with(|pause| drop(pause.take()));
    }
}

impl Drop for Way {
    fn drop(&mut self) {
        self.server_connection()
            .client_count
            .fetch_sub(1, Ordering::Relaxed);
    }
}

impl Open<'_> {
    /// Queues a message for the client.
    pub(super) async fn send<P: AsRef<[u8]>>(
        &self,
        message: &Message<'_, P>,
    ) -> Result<(), Closed> {
        self.way.server_connection().send(message).await
    }
}

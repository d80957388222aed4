//! One hub as this process serves it: its clients here, and the server connections that lead to them and to all others.

use std::collections::HashMap;
use std::fmt;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;

use super::client::{Client, SuddenEnd};
use super::clients::SendError;
use super::hub::AnyHub;
use super::lock::Lock;
use super::pending::{Acks, ClientResults};
use super::server_connection::ServerConnection;
use crate::id::HubName;
use crate::protocol::connection_string::ConnectionString;

/// What all hubs of the process share.
#[derive(Debug)]
pub(super) struct Process {
    /// Names the process to the service, anew each time it starts.
    pub(super) server_id: String,
    pub(super) connection_string: ConnectionString,
    pub(super) options: Options,
    pub(super) acks: Acks,
    pub(super) results: ClientResults,
}

/// What can be chosen.
#[derive(Clone, Copy, Debug)]
pub(super) struct Options {
    /// Server connections that are kept up for each hub.
    pub(super) server_connections: usize,
    /// Whether clients may read the texts of all errors.
    pub(super) detailed_errors: bool,
    /// The longest hub message that a client may send.
    pub(super) message_bytes_max: usize,
}

/// A hub of this process.
pub(super) struct HubServer {
    pub(super) name: HubName,
    /// Where clients negotiate, without `/negotiate`.
    pub(super) path: String,
    pub(super) hub: Box<dyn AnyHub>,
    pub(super) process: Arc<Process>,
    clients: watch::Sender<HashMap<String, Arc<Client>>>,
    /// Their order matters: sends about the same name go to the same place in it.
    up: watch::Sender<Vec<Arc<ServerConnection>>>,
    is_stopping: Lock<bool>,
}

impl HubServer {
    pub(super) fn new(
        name: HubName,
        path: String,
        hub: Box<dyn AnyHub>,
        process: Arc<Process>,
    ) -> Self {
        Self {
            name,
            path,
            hub,
            process,
            clients: watch::Sender::default(),
            up: watch::Sender::default(),
            is_stopping: Lock::new(false),
        }
    }

    /// The client with this id, if it is connected by way of this process.
    pub(super) fn client(&self, id: &str) -> Option<Arc<Client>> {
        self.clients.borrow().get(id).cloned()
    }

    /// All clients that are connected by way of this process.
    pub(super) fn clients(&self) -> Vec<Arc<Client>> {
        self.clients.borrow().values().cloned().collect()
    }

    /// How many clients are connected by way of this process.
    pub(super) fn client_count(&self) -> usize {
        self.clients.borrow().len()
    }

    /// Takes a client in. Tells whether its id was free.
    pub(super) fn add_client(&self, client: &Arc<Client>) -> bool {
        self.clients.send_if_modified(|clients| {
            let is_free = !clients.contains_key(&client.id);
            if is_free {
                clients.insert(client.id.clone(), Arc::clone(client));
            }
            is_free
        })
    }

    /// Forgets a client.
    pub(super) fn remove_client(&self, client: &Arc<Client>) {
        self.clients.send_if_modified(|clients| {
            let is_this = clients
                .get(&client.id)
                .is_some_and(|known| Arc::ptr_eq(known, client));
            is_this && clients.remove(&client.id).is_some()
        });
    }

    /// Waits until there is no client left, but not longer than `limit`.
    pub(super) async fn without_clients(&self, limit: Duration) {
        let mut clients = self.clients.subscribe();
        // Neither an elapsed limit nor a sender that is gone changes what comes next.
        let _ = tokio::time::timeout(limit, clients.wait_for(HashMap::is_empty)).await;
    }

    /// The server connection to send on: `via` if it is given and up, else one that depends on `key` alone, so that whatever is
    /// about the same key stays in order.
    pub(super) fn server_connection(
        &self,
        via: Option<&Arc<ServerConnection>>,
        key: &str,
    ) -> Result<Arc<ServerConnection>, SendError> {
        if let Some(via) = via.filter(|via| via.is_open()) {
            return Ok(Arc::clone(via));
        }
        let up = self.up.borrow();
        let mut hasher = DefaultHasher::new();
        key.hash(&mut hasher);
        let index = hasher.finish() as usize % up.len().max(1);
        up.get(index).cloned().ok_or(SendError::NoServerConnection)
    }

    /// The server connections that are up.
    pub(super) fn server_connections(&self) -> Vec<Arc<ServerConnection>> {
        self.up.borrow().clone()
    }

    /// To be told when server connections come and go.
    pub(super) fn watch_server_connections(&self) -> watch::Receiver<Vec<Arc<ServerConnection>>> {
        self.up.subscribe()
    }

    /// A server connection is up.
    pub(super) fn on_server_connection(&self, server_connection: &Arc<ServerConnection>) {
        self.up
            .send_modify(|up| up.push(Arc::clone(server_connection)));
    }

    /// A server connection is gone, and with it the way to its clients.
    pub(super) fn on_server_connection_lost(&self, server_connection: &Arc<ServerConnection>) {
        self.up
            .send_modify(|up| up.retain(|known| !Arc::ptr_eq(known, server_connection)));
        for client in self.clients() {
            if Arc::ptr_eq(&client.server_connection, server_connection) {
                client.end(SuddenEnd::ServerConnectionLost);
            }
        }
    }

    /// No new clients are let in from now on.
    pub(super) fn stop(&self) {
        self.is_stopping.with(|is_stopping| *is_stopping = true);
    }

    /// Whether clients may be sent to the service now.
    pub(super) fn is_available(&self) -> bool {
        !self.is_stopping() && !self.up.borrow().is_empty()
    }

    /// Whether the app server shuts down.
    pub(super) fn is_stopping(&self) -> bool {
        self.is_stopping.with(|is_stopping| *is_stopping)
    }
}

impl fmt::Debug for HubServer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HubServer")
            .field("name", &self.name)
            .field("path", &self.path)
            .field("clients", &self.client_count())
            .field("server_connections", &self.up.borrow().len())
            .finish_non_exhaustive()
    }
}

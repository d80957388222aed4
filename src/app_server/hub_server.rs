//! One hub as this process serves it: its clients here, and the server connections that lead to them and to all others.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::Instant;

use super::client::{Client, SuddenEnd};
use super::clients::SendError;
use super::endpoint::{HubEndpoint, ServiceEndpoint};
use super::hub::AnyHub;
use super::lock::Lock;
use super::pending::{Acks, ClientResults};
use super::routes::Routes;
use super::server_connection::ServerConnection;
use crate::id::HubName;
use crate::protocol::service::ping::ShutdownMode;

/// What all hubs of the process share.
#[derive(Debug)]
pub(super) struct Process {
    /// Names the process to the service, anew each time it starts.
    pub(super) server_id: String,
    pub(super) endpoints: Vec<Arc<ServiceEndpoint>>,
    pub(super) options: Options,
    pub(super) acks: Acks,
    pub(super) results: ClientResults,
}

/// What can be chosen.
#[derive(Clone, Copy, Debug)]
pub(super) struct Options {
    /// Server connections that are kept up for each hub and endpoint.
    pub(super) server_connections: usize,
    /// How many there may be together with those that the service asks for.
    pub(super) server_connections_max: usize,
    /// What becomes of the clients when the app server shuts down.
    pub(super) shutdown_mode: ShutdownMode,
    /// How long a shutdown may take before the connections are closed.
    pub(super) shutdown_timeout: Duration,
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
    /// In the order in which the program named them.
    pub(super) endpoints: Vec<Arc<HubEndpoint>>,
    clients: watch::Sender<HashMap<String, Arc<Client>>>,
    /// Clients that are served, those among them that are gone and whose `disconnected` is still to come or to end.
    served: watch::Sender<usize>,
    /// Clients that are gone and whose goodbye is still to be queued.
    parting: watch::Sender<usize>,
    is_stopping: Lock<bool>,
}

impl HubServer {
    pub(super) fn new(
        name: HubName,
        path: String,
        hub: Box<dyn AnyHub>,
        process: Arc<Process>,
    ) -> Self {
        let endpoints = process
            .endpoints
            .iter()
            .map(|service| Arc::new(HubEndpoint::new(Arc::clone(service))))
            .collect();
        Self {
            name,
            path,
            hub,
            process,
            endpoints,
            clients: watch::Sender::default(),
            served: watch::Sender::default(),
            parting: watch::Sender::default(),
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

    /// Takes a client in. Tells whether its id was free. A client that is on its way out gives its id free: the service may have
    /// moved it to another of our server connections before we have let go of it.
    pub(super) fn add_client(&self, client: &Arc<Client>) -> bool {
        let mut before = None;
        let is_added = self.clients.send_if_modified(|clients| {
            let is_free = clients
                .get(&client.id)
                .is_none_or(|known| known.is_leaving());
            if is_free {
                before = clients.insert(client.id.clone(), Arc::clone(client));
            }
            is_free
        });
        if before.is_some() {
            self.process.results.fail_connection(&client.id);
        }
        is_added
    }

    /// Forgets a client, and whatever was asked of it fails. Another client may have its id by now.
    pub(super) fn remove_client(&self, client: &Arc<Client>) {
        let is_removed = self.clients.send_if_modified(|clients| {
            let is_this = clients
                .get(&client.id)
                .is_some_and(|known| Arc::ptr_eq(known, client));
            is_this && clients.remove(&client.id).is_some()
        });
        if is_removed {
            self.process.results.fail_connection(&client.id);
        }
    }

    /// Waits until there is no client left and the goodbyes are queued. Tells whether that is so before the deadline.
    pub(super) async fn without_clients(&self, deadline: Instant) -> bool {
        let (mut clients, mut parting) = (self.clients.subscribe(), self.parting.subscribe());
        let gone = async {
            // The senders live in `self`, so the waits cannot fail.
            let _ = clients.wait_for(HashMap::is_empty).await;
            let _ = parting.wait_for(|count| *count == 0).await;
        };
        tokio::time::timeout_at(deadline, gone).await.is_ok()
    }

    /// A client is served from now on, until what this gives is dropped.
    pub(super) fn begin_serving(&self) -> Counted {
        Counted::among(&self.served)
    }

    /// A client is about to be forgotten and has a goodbye to come, until what this gives is dropped.
    pub(super) fn begin_parting(&self) -> Counted {
        Counted::among(&self.parting)
    }

    /// Waits until the hub has done with all clients, those included that are gone.
    pub(super) async fn all_served(&self) {
        let mut served = self.served.subscribe();
        // The sender lives in `self`, so the wait cannot fail.
        let _ = served.wait_for(|count| *count == 0).await;
    }

    /// The way of what concerns clients that may be anywhere: to each endpoint `via` if that leads to it and is open, else a server
    /// connection that depends on `key` alone.
    pub(super) fn routes(
        &self,
        via: Option<&Arc<ServerConnection>>,
        key: &str,
    ) -> Result<Routes, SendError> {
        let endpoints = self.endpoints.iter();
        Routes::new(endpoints.filter_map(|endpoint| endpoint.server_connection(via, key)))
    }

    /// The server connections that are up.
    pub(super) fn server_connections(&self) -> Vec<Arc<ServerConnection>> {
        let endpoints = self.endpoints.iter();
        endpoints
            .flat_map(|endpoint| endpoint.server_connections())
            .collect()
    }

    /// The clients that live on a server connection.
    pub(super) fn clients_on(
        &self,
        server_connection: &Arc<ServerConnection>,
    ) -> impl Iterator<Item = Arc<Client>> {
        let clients = self.clients().into_iter();
        clients.filter(|client| client.way.is_on(server_connection))
    }

    /// A server connection is gone, and with it the way to its clients.
    pub(super) fn on_server_connection_lost(&self, server_connection: &Arc<ServerConnection>) {
        for client in self.clients_on(server_connection) {
            client.end(SuddenEnd::ServerConnectionLost);
        }
    }

    /// No new clients are let in from now on.
    pub(super) fn stop(&self) {
        self.is_stopping.with(|is_stopping| *is_stopping = true);
    }

    /// Whether the app server shuts down.
    pub(super) fn is_stopping(&self) -> bool {
        self.is_stopping.with(|is_stopping| *is_stopping)
    }
}

/// Something that counts as long as this lives.
#[derive(Debug)]
pub(super) struct Counted(watch::Sender<usize>);

impl Counted {
    fn among(count: &watch::Sender<usize>) -> Self {
        count.send_modify(|count| *count += 1);
        Self(count.clone())
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.send_modify(|count| *count -= 1);
    }
}

impl fmt::Debug for HubServer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HubServer")
            .field("name", &self.name)
            .field("path", &self.path)
            .field("clients", &self.client_count())
            .field("endpoints", &self.endpoints)
            .finish_non_exhaustive()
    }
}

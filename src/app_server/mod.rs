//! Serving a hub in Rust, behind the service.
//!
//! This is the other end of the service protocol, what the SDK is for a .NET program. Clients negotiate with the app server, are
//! redirected to the service, and from then on talk to their [`Hub`] through one of the few server connections that the app
//! server keeps to it. Runs on ordinary tokio, wherever the service is.
//!
//! ```no_run
//! use hubring::app_server::{Answer, AppServer, Caller, Hub, HubError, Invocation};
//!
//! struct Chat;
//!
//! impl Hub for Chat {
//!     async fn invoke(&self, caller: &Caller, mut call: Invocation) -> Result<Answer, HubError> {
//!         match call.target() {
//!             "Say" => {
//!                 let (text,): (String,) = call.bind()?;
//!                 let from = caller.user_id().unwrap_or("somebody");
//!                 let message = [from.into(), text.into()];
//!                 caller.clients().all().send("said", message).await?;
//!                 Ok(Answer::Nothing)
//!             }
//!             _ => Err(HubError::UnknownMethod),
//!         }
//!     }
//! }
//!
//! # async fn serve() -> Result<(), Box<dyn std::error::Error>> {
//! let connection_string = std::env::var("CONNECTION_STRING")?;
//! let app_server = AppServer::builder(&connection_string)
//!     .hub("chat", "/chat", Chat)
//!     .build()?;
//!
//! let listener = tokio::net::TcpListener::bind("127.0.0.1:5000").await?;
//! tokio::spawn(axum::serve(listener, app_server.router()).into_future());
//! app_server.run(async { drop(tokio::signal::ctrl_c().await) }).await;
//! # Ok(())
//! # }
//! ```
//!
//! | | |
//! |---|---|
//! | [`Hub`], [`Invocation`], [`Answer`], [`HubError`] | what a program writes |
//! | [`Caller`], [`Clients`], [`Groups`] | what it uses; `administration` and `members` are parts of them |
//! | `negotiate` | redirect and token |
//! | `endpoint`, `routes` | the endpoints of the service, and which of them a message goes to |
//! | `server_connections`, `server_connection`, `back_off`, `shutdown` | keeping the connections to the service up, one of them, and taking them down |
//! | `inbound` → `client`, `client_connection` → `calls` | from a service message to a hub method |
//! | `way` | from a hub method back to its client, where the service may hold it up |
//! | `request`, `pending` | requests to the service; acks and client results that are waited for |
//! | [`mod@reference`], [`demo`] | a hub with every kind of call, and a page to look at |
//!
//! Bounds: what a client sends and what is queued for the service is limited in bytes, and whoever is ahead waits (`byte_queue`).
//! Order: all that a method sends goes out on its caller's own server connection, in the order sent.
#![forbid(unsafe_code)]

mod administration;
mod back_off;
mod builder;
mod byte_queue;
mod caller;
mod calls;
mod claims;
mod client;
mod client_connection;
mod clients;
pub mod demo;
mod endpoint;
mod groups;
mod hub;
mod hub_server;
mod inbound;
mod lock;
mod members;
mod negotiate;
mod pending;
mod random;
pub mod reference;
mod request;
mod routes;
mod server_connection;
mod server_connections;
mod shutdown;
#[cfg(test)]
mod tests;
mod way;

use std::fmt;
use std::future::Future;
use std::sync::Arc;

use axum::Router;
use futures_util::future::join_all;

pub use self::administration::Close;
pub use self::builder::{AppServerError, Builder};
pub use self::caller::{Caller, CallerClients};
pub use self::claims::Claim;
pub use self::clients::{Clients, Recipient, Recipients, SendError};
pub use self::endpoint::EndpointKind;
pub use self::groups::{Groups, UnacknowledgedGroups};
pub use self::hub::{Answer, FromArguments, FromValue, Hub, HubError, Invocation, Items};
use self::hub_server::HubServer;
pub use self::members::{GroupMember, MemberQuery};
use self::negotiate::{ClaimsOf, Negotiate};
pub use self::pending::AckError;
pub use self::request::RequestError;
use crate::id::HubName;
pub use crate::protocol::hub::message::Value;
pub use crate::protocol::service::ping::ShutdownMode;

/// Hubs that are served behind the service. Cheap to clone.
#[derive(Clone)]
pub struct AppServer {
    hubs: Arc<[Arc<HubServer>]>,
    claims_of: ClaimsOf,
}

impl AppServer {
    /// Begins with the line that the service prints, or Azure's portal: `Endpoint=http://localhost;Port=8888;AccessKey=…`.
    pub fn builder(connection_string: &str) -> Builder {
        Builder::new(connection_string)
    }

    /// The negotiate endpoints of all hubs.
    pub fn router(&self) -> Router {
        self.hubs.iter().fold(Router::new(), |router, hub| {
            router.merge(negotiate::router(Negotiate {
                hub: Arc::clone(hub),
                claims_of: Arc::clone(&self.claims_of),
            }))
        })
    }

    /// Connects to the service and stays connected until `shutdown` ends. Then says goodbye: the service sends no new clients, those
    /// that are here go as [`Builder::shutdown`] says, and the connections are closed.
    pub async fn run(&self, shutdown: impl Future<Output = ()>) {
        let keep_up = join_all(self.hubs.iter().map(server_connections::keep_up));
        let take_down = async {
            shutdown.await;
            join_all(self.hubs.iter().map(shutdown::take_down)).await;
        };
        tokio::select! {
            _ = keep_up => {}
            () = take_down => {}
        }
    }

    /// The clients of a hub, to send to from outside of its methods.
    pub fn clients(&self, hub: &str) -> Option<Clients> {
        self.hub(hub).map(|hub| Clients::new(Arc::clone(hub), None))
    }

    /// The groups of a hub, to change from outside of its methods.
    pub fn groups(&self, hub: &str) -> Option<Groups> {
        self.hub(hub).map(|hub| Groups::new(Arc::clone(hub), None))
    }

    /// How each hub stands with the service.
    pub fn states(&self) -> Vec<HubState> {
        let state = |hub: &Arc<HubServer>| HubState {
            hub: hub.name.to_string(),
            endpoints: hub
                .endpoints
                .iter()
                .map(|endpoint| EndpointState {
                    endpoint: endpoint.service.connection_string.server_url_base(),
                    kind: endpoint.service.kind,
                    is_online: endpoint.is_online(),
                    server_connections: endpoint
                        .server_connections()
                        .iter()
                        .map(|connection| connection.id.clone())
                        .collect(),
                    server_connections_wanted: hub.process.options.server_connections,
                })
                .collect(),
            clients: hub.client_count(),
        };
        self.hubs.iter().map(state).collect()
    }

    fn hub(&self, name: &str) -> Option<&Arc<HubServer>> {
        let name = HubName::parse(name)?;
        self.hubs.iter().find(|hub| hub.name == name)
    }
}

impl fmt::Debug for AppServer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AppServer")
            .field("hubs", &self.hubs)
            .finish_non_exhaustive()
    }
}

/// How a hub stands with the service.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct HubState {
    /// The hub's name.
    pub hub: String,
    /// How it stands with each endpoint.
    pub endpoints: Vec<EndpointState>,
    /// How many clients this process has.
    pub clients: usize,
}

/// How a hub stands with one endpoint of the service.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct EndpointState {
    /// The endpoint's address for app servers.
    pub endpoint: String,
    /// What it is used for.
    pub kind: EndpointKind,
    /// Whether anything can be sent there.
    pub is_online: bool,
    /// The ids of the server connections that are up.
    pub server_connections: Vec<String>,
    /// How many there shall be.
    pub server_connections_wanted: usize,
}

impl HubState {
    /// Whether all server connections are up.
    pub fn is_complete(&self) -> bool {
        self.endpoints
            .iter()
            .all(|endpoint| endpoint.server_connections.len() >= endpoint.server_connections_wanted)
    }
}

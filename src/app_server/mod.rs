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
//! | [`Caller`], [`Clients`], [`Groups`] | what it uses |
//! | `negotiate` | redirect and token |
//! | `server_connections`, `server_connection`, `back_off` | keeping the connections to the service up, and one of them |
//! | `inbound` → `client`, `client_connection` → `calls` | from a service message to a hub method |
//! | `pending` | acks and client results |
//! | [`mod@reference`], [`demo`] | a hub with every kind of call, and a page to look at |
//!
//! Bounds: what a client sends and what is queued for the service is limited in bytes, and whoever is ahead waits (`byte_queue`).
//! Order: all that a method sends goes out on its caller's own server connection, in the order sent.
#![forbid(unsafe_code)]

mod back_off;
mod byte_queue;
mod caller;
mod calls;
mod claims;
mod client;
mod client_connection;
mod clients;
pub mod demo;
mod groups;
mod hub;
mod hub_server;
mod inbound;
mod lock;
mod negotiate;
mod pending;
mod random;
pub mod reference;
mod run;
mod server_connection;
mod server_connections;
#[cfg(test)]
mod tests;

use std::collections::HashSet;
use std::fmt;
use std::future::Future;
use std::io;
use std::sync::Arc;

use axum::Router;
use axum::http::request::Parts;
use futures_util::future::join_all;

pub use self::caller::{Caller, CallerClients};
pub use self::claims::Claim;
pub use self::clients::{Clients, Recipient, Recipients, SendError};
pub use self::groups::{GroupError, Groups};
use self::hub::AnyHub;
pub use self::hub::{Answer, FromArguments, FromValue, Hub, HubError, Invocation, Items};
use self::hub_server::{HubServer, Options, Process};
use self::negotiate::{ClaimsOf, Negotiate};
pub use self::pending::AckError;
use self::pending::{Acks, ClientResults};
pub use self::run::{ReferenceOptions, run_reference};
use crate::id::HubName;
use crate::protocol::connection_string::{ConnectionString, ConnectionStringError};
pub use crate::protocol::hub::message::Value;

/// Hubs that are served behind the service. Cheap to clone.
#[derive(Clone)]
pub struct AppServer {
    hubs: Arc<[Arc<HubServer>]>,
    claims_of: ClaimsOf,
}

impl AppServer {
    /// Begins with the line that the service prints, or Azure's portal: `Endpoint=http://localhost;Port=8888;AccessKey=…`.
    pub fn builder(connection_string: &str) -> Builder {
        Builder {
            connection_string: connection_string.to_owned(),
            hubs: Vec::new(),
            claims_of: Arc::new(|_| Vec::new()),
            options: Options {
                server_connections: 5,
                detailed_errors: false,
                message_bytes_max: 32 << 10,
            },
        }
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
    /// that are here are told to reconnect elsewhere, and the connections are closed.
    pub async fn run(&self, shutdown: impl Future<Output = ()>) {
        let keep_up = join_all(self.hubs.iter().map(server_connections::keep_up));
        let take_down = async {
            shutdown.await;
            join_all(self.hubs.iter().map(server_connections::take_down)).await;
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
            server_connections: hub
                .server_connections()
                .iter()
                .map(|connection| connection.id.clone())
                .collect(),
            server_connections_wanted: hub.process.options.server_connections,
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
    /// The ids of the server connections that are up.
    pub server_connections: Vec<String>,
    /// How many there shall be.
    pub server_connections_wanted: usize,
    /// How many clients this process has.
    pub clients: usize,
}

impl HubState {
    /// Whether all server connections are up.
    pub fn is_complete(&self) -> bool {
        self.server_connections.len() >= self.server_connections_wanted
    }
}

/// Puts an [`AppServer`] together.
pub struct Builder {
    connection_string: String,
    hubs: Vec<(String, String, Box<dyn AnyHub>)>,
    claims_of: ClaimsOf,
    options: Options,
}

impl Builder {
    /// Adds a hub. Clients negotiate at `path`, for instance `/chat`.
    #[must_use]
    pub fn hub(mut self, name: &str, path: &str, hub: impl Hub) -> Self {
        self.hubs
            .push((name.to_owned(), path.to_owned(), Box::new(hub)));
        self
    }

    /// Says who a client is, from its negotiate request. Without it all clients are anonymous. The claim `nameid` is the user id.
    #[must_use]
    pub fn claims(
        mut self,
        claims_of: impl Fn(&Parts) -> Vec<Claim> + Send + Sync + 'static,
    ) -> Self {
        self.claims_of = Arc::new(claims_of);
        self
    }

    /// How many server connections are kept up for each hub: 5 unless something else is said.
    #[must_use]
    pub fn server_connections(mut self, count: usize) -> Self {
        self.options.server_connections = count;
        self
    }

    /// Whether clients may read the texts of all errors, not only of those made for them. Not unless it is said.
    #[must_use]
    pub fn detailed_errors(mut self, allowed: bool) -> Self {
        self.options.detailed_errors = allowed;
        self
    }

    /// The longest hub message that a client may send: 32 KiB unless something else is said.
    #[must_use]
    pub fn message_bytes_max(mut self, bytes: usize) -> Self {
        self.options.message_bytes_max = bytes;
        self
    }

    /// Checks all that was said.
    pub fn build(self) -> Result<AppServer, AppServerError> {
        let connection_string = ConnectionString::parse(&self.connection_string)?;
        if connection_string.server_endpoint().is_secure() {
            return Err(AppServerError::HttpsNotSupported);
        }
        let process = Arc::new(Process {
            server_id: format!("{}_{}", host_name(), random::hex()),
            connection_string,
            options: self.options,
            acks: Acks::default(),
            results: ClientResults::new(),
        });
        let (mut names, mut paths) = (HashSet::new(), HashSet::new());
        let hubs = self
            .hubs
            .into_iter()
            .map(|(name, path, hub)| {
                let name = HubName::parse(&name).ok_or(AppServerError::InvalidHubName { name })?;
                if !is_plain_path(&path) {
                    return Err(AppServerError::InvalidPath { path });
                }
                if !names.insert(name.clone()) || !paths.insert(path.clone()) {
                    return Err(AppServerError::HubTwice { name, path });
                }
                Ok(Arc::new(HubServer::new(
                    name,
                    path,
                    hub,
                    Arc::clone(&process),
                )))
            })
            .collect::<Result<_, _>>()?;
        Ok(AppServer {
            hubs,
            claims_of: self.claims_of,
        })
    }
}

impl fmt::Debug for Builder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let hubs: Vec<_> = self
            .hubs
            .iter()
            .map(|(name, path, _)| (name, path))
            .collect();
        f.debug_struct("Builder")
            .field("hubs", &hubs)
            .field("options", &self.options)
            .finish_non_exhaustive()
    }
}

/// Why an app server cannot be.
#[derive(Debug, thiserror::Error)]
pub enum AppServerError {
    /// The connection string is no good.
    #[error("connection string: {0}")]
    ConnectionString(#[from] ConnectionStringError),
    /// TLS is for whatever stands in front of the service.
    #[error(
        "the endpoint is https, which is not supported yet: use http inside the network, or put a TLS proxy beside the app server"
    )]
    HttpsNotSupported,
    /// A hub's name is empty, too long or holds a control character.
    #[error("{name:?} is no name for a hub")]
    InvalidHubName {
        /// As given.
        name: String,
    },
    /// A hub's path is no plain path, such as `/chat`.
    #[error(
        "the path {path:?} must begin with a slash and hold only letters, digits and - . _ ~ /"
    )]
    InvalidPath {
        /// As given.
        path: String,
    },
    /// Two hubs have the same name or path.
    #[error("there are two hubs named {name} or at {path}")]
    HubTwice {
        /// The second one's name.
        name: HubName,
        /// The second one's path.
        path: String,
    },
    /// The HTTP server has failed.
    #[error("the HTTP server failed: {0}")]
    Serve(io::Error),
}

/// Whether a path means itself and nothing else to the HTTP router.
fn is_plain_path(path: &str) -> bool {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~/".contains(&byte);
    path.starts_with('/') && !path.contains("//") && path.bytes().all(is_plain)
}

/// The machine's name, part of the server id, so that a person can tell app servers apart.
fn host_name() -> String {
    let name = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    let name: String = name.trim().chars().filter(char::is_ascii_graphic).collect();
    if name.is_empty() {
        "localhost".to_owned()
    } else {
        name
    }
}

//! Putting an app server together, and what can be wrong with what was said about it.

use std::collections::HashSet;
use std::fmt;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use axum::http::request::Parts;

use super::claims::Claim;
use super::endpoint::{EndpointKind, ServiceEndpoint};
use super::hub::{AnyHub, Hub};
use super::hub_server::{HubServer, Options, Process};
use super::negotiate::ClaimsOf;
use super::pending::{Acks, ClientResults};
use super::{AppServer, random};
use crate::id::HubName;
use crate::protocol::connection_string::{ConnectionString, ConnectionStringError};
use crate::protocol::service::ping::ShutdownMode;

/// Puts an [`AppServer`] together.
pub struct Builder {
    endpoints: Vec<(String, EndpointKind)>,
    hubs: Vec<(String, String, Box<dyn AnyHub>)>,
    claims_of: ClaimsOf,
    options: Options,
}

impl Builder {
    pub(super) fn new(connection_string: &str) -> Self {
        Self {
            endpoints: vec![(connection_string.to_owned(), EndpointKind::Primary)],
            hubs: Vec::new(),
            claims_of: Arc::new(|_| Vec::new()),
            options: Options {
                server_connections: 5,
                server_connections_max: 256,
                shutdown_mode: ShutdownMode::Off,
                shutdown_timeout: Duration::from_secs(30),
                detailed_errors: false,
                message_bytes_max: 32 << 10,
            },
        }
    }

    /// Adds another endpoint of the service. Clients are shared out among all endpoints that are online.
    #[must_use]
    pub fn endpoint(mut self, connection_string: &str) -> Self {
        self.endpoints
            .push((connection_string.to_owned(), EndpointKind::Primary));
        self
    }

    /// Adds an endpoint of the service that clients are sent to only while none of the others is online. It gets all sends at any
    /// time, since clients that are there stay.
    #[must_use]
    pub fn secondary_endpoint(mut self, connection_string: &str) -> Self {
        self.endpoints
            .push((connection_string.to_owned(), EndpointKind::Secondary));
        self
    }

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

    /// How many server connections are kept up for each hub and endpoint: 5 unless something else is said.
    #[must_use]
    pub fn server_connections(mut self, count: usize) -> Self {
        self.options.server_connections = count;
        self
    }

    /// How many server connections there may be for each hub and endpoint, together with those that the service asks for: 256 unless
    /// something else is said.
    #[must_use]
    pub fn server_connections_max(mut self, count: usize) -> Self {
        self.options.server_connections_max = count;
        self
    }

    /// What becomes of the clients when the app server shuts down, and how long that may take: `Off` and 30 s unless something else
    /// is said.
    #[must_use]
    pub fn shutdown(mut self, mode: ShutdownMode, timeout: Duration) -> Self {
        self.options.shutdown_mode = mode;
        self.options.shutdown_timeout = timeout;
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
        let endpoints = parse_endpoints(&self.endpoints)?;
        let process = Arc::new(Process {
            server_id: format!("{}_{}", host_name(), random::hex()),
            endpoints,
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
                // With and without a slash at its end it is the same to who negotiates.
                let place = path.trim_end_matches('/').to_owned();
                if !names.insert(name.clone()) || !paths.insert(place) {
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
    /// The same endpoint was named twice: its clients would get everything twice.
    #[error("the endpoint {endpoint} is named twice")]
    EndpointTwice {
        /// Its address for app servers.
        endpoint: String,
    },
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

fn parse_endpoints(
    endpoints: &[(String, EndpointKind)],
) -> Result<Vec<Arc<ServiceEndpoint>>, AppServerError> {
    let mut addresses = HashSet::new();
    let parse = |(text, kind): &(String, EndpointKind)| {
        let connection_string = ConnectionString::parse(text)?;
        if connection_string.server_endpoint().is_secure() {
            return Err(AppServerError::HttpsNotSupported);
        }
        let endpoint = connection_string.server_url_base();
        if !addresses.insert(endpoint.clone()) {
            return Err(AppServerError::EndpointTwice { endpoint });
        }
        Ok(Arc::new(ServiceEndpoint {
            connection_string,
            kind: *kind,
        }))
    };
    endpoints.iter().map(parse).collect()
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::app_server::reference::ReferenceHub;

    #[test]
    fn two_hubs_cannot_be_at_the_same_path() {
        let error_of = |second: &str| {
            Builder::new("Endpoint=http://localhost;AccessKey=key;")
                .hub("one", "/chat", ReferenceHub::default())
                .hub("two", second, ReferenceHub::default())
                .build()
                .err()
        };
        for path in ["/chat", "/chat/"] {
            let error = error_of(path);
            assert!(matches!(error, Some(AppServerError::HubTwice { .. })));
        }
        assert!(error_of("/chat2").is_none());
    }
}

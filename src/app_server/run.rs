//! The reference hub as a process of its own.

use std::future::Future;

use axum::Router;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Json};
use axum::routing::get;
use tokio::net::TcpListener;
use tokio::sync::oneshot;
use tracing::info;

use super::reference::{ReferenceHub, claims_of};
use super::{AppServer, AppServerError};

/// What can be chosen about the reference app server.
#[derive(Clone, Debug)]
pub struct ReferenceOptions {
    /// Where the service is.
    pub connection_string: String,
    /// Server connections of each hub.
    pub server_connections: usize,
    /// Whether there is a second hub at `/second`, with the same methods.
    pub second_hub: bool,
    /// The longest hub message that a client may send.
    pub message_bytes_max: usize,
    /// Served beside the hubs, the demo's page for instance.
    pub pages: Router,
}

impl ReferenceOptions {
    /// The hub at `/chat` alone, with five server connections and room for messages of 1 MiB.
    pub fn new(connection_string: impl Into<String>) -> Self {
        Self {
            connection_string: connection_string.into(),
            server_connections: 5,
            second_hub: false,
            message_bytes_max: 1 << 20,
            pages: Router::new(),
        }
    }
}

/// Serves the reference hub, to whom `listener` accepts, until `shutdown` ends, then says goodbye to its clients.
///
/// `GET /healthz` answers 200 when every hub has all its server connections up, otherwise 503, both with their states.
pub async fn run_reference(
    options: ReferenceOptions,
    listener: TcpListener,
    shutdown: impl Future<Output = ()>,
) -> Result<(), AppServerError> {
    let mut builder = AppServer::builder(&options.connection_string)
        .hub("chat", "/chat", ReferenceHub)
        .claims(claims_of)
        .server_connections(options.server_connections)
        .detailed_errors(true)
        .message_bytes_max(options.message_bytes_max);
    if options.second_hub {
        builder = builder.hub("second", "/second", ReferenceHub);
    }
    let app_server = builder.build()?;
    info!(address = ?listener.local_addr().ok(), "app server listens");
    let health = Router::new()
        .route("/healthz", get(health))
        .with_state(app_server.clone());
    let router = app_server.router().merge(health).merge(options.pages);
    let (stop, stopped) = oneshot::channel::<()>();
    let http = axum::serve(listener, router).with_graceful_shutdown(async {
        // Dropped or sent: either way it is over.
        let _ = stopped.await;
    });
    let hubs = async {
        app_server.run(shutdown).await;
        drop(stop);
    };
    // The HTTP server ends by itself only when it has failed; kept-alive connections must not hold up the end.
    tokio::select! {
        served = http.into_future() => served.map_err(AppServerError::Serve),
        () = hubs => Ok(()),
    }
}

async fn health(State(app_server): State<AppServer>) -> impl IntoResponse {
    let states = app_server.states();
    let code = if states.iter().all(super::HubState::is_complete) {
        StatusCode::OK
    } else {
        StatusCode::SERVICE_UNAVAILABLE
    };
    (code, Json(states))
}

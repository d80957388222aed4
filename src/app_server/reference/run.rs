//! The reference hub as a process of its own.

use std::future::Future;
use std::time::Duration;

use axum::Router;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Json};
use axum::routing::get;
use tokio::net::TcpListener;
use tokio::sync::oneshot;
use tracing::info;

use super::super::{AppServer, AppServerError, Builder, HubState, ShutdownMode};
use super::actions::{Target, actions};
use super::{Events, ReferenceHub, claims_of};

/// What can be chosen about the reference app server.
#[derive(Clone, Debug)]
pub struct ReferenceOptions {
    /// Where the service is: all endpoints that share the clients.
    pub connection_strings: Vec<String>,
    /// Endpoints that clients are sent to only while none of the others is online.
    pub secondary_connection_strings: Vec<String>,
    /// Server connections of each hub and endpoint.
    pub server_connections: usize,
    /// How many there may be together with those that the service asks for.
    pub server_connections_max: usize,
    /// What becomes of the clients at the end.
    pub shutdown_mode: ShutdownMode,
    /// How long the end may take.
    pub shutdown_timeout: Duration,
    /// Where clients that come and go are told of.
    pub events: Events,
    /// Whether anybody may act on the hubs by HTTP, without being asked who they are: see `actions`.
    pub actions: bool,
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
            connection_strings: vec![connection_string.into()],
            secondary_connection_strings: Vec::new(),
            server_connections: 5,
            server_connections_max: 256,
            shutdown_mode: ShutdownMode::Off,
            shutdown_timeout: Duration::from_secs(30),
            events: Events::default(),
            actions: false,
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
    let events = options.events;
    let app_server = builder(&options).build()?;
    let address = listener.local_addr().ok();
    info!(?address, "app server listens");
    let url = address.map(|address| format!("http://{address}"));
    events.write("started", [("url", url.into())]);
    let health = Router::new()
        .route("/healthz", get(health))
        .with_state(app_server.clone());
    let mut router = app_server.router().merge(health).merge(options.pages);
    if options.actions {
        router = router.merge(all_actions(&app_server));
    }
    let (stop, stopped) = oneshot::channel::<()>();
    let http = axum::serve(listener, router).with_graceful_shutdown(async {
        // Dropped or sent: either way it is over.
        let _ = stopped.await;
    });
    let hubs = async {
        let shutdown = async {
            shutdown.await;
            events.write("stopping", []);
        };
        app_server.run(shutdown).await;
        events.write("stopped", []);
        drop(stop);
    };
    // The HTTP server ends by itself only when it has failed; kept-alive connections must not hold up the end.
    tokio::select! {
        served = http.into_future() => served.map_err(AppServerError::Serve),
        () = hubs => Ok(()),
    }
}

fn builder(options: &ReferenceOptions) -> Builder {
    let (first, others) = match options.connection_strings.split_first() {
        Some((first, others)) => (first.as_str(), others),
        // The builder says what is wrong with it.
        None => ("", &[][..]),
    };
    let mut builder = AppServer::builder(first);
    for connection_string in others {
        builder = builder.endpoint(connection_string);
    }
    for connection_string in &options.secondary_connection_strings {
        builder = builder.secondary_endpoint(connection_string);
    }
    let hub = ReferenceHub {
        events: options.events,
    };
    if options.second_hub {
        builder = builder.hub("second", "/second", hub);
    }
    builder
        .hub("chat", "/chat", hub)
        .claims(claims_of)
        .server_connections(options.server_connections)
        .server_connections_max(options.server_connections_max)
        .shutdown(options.shutdown_mode, options.shutdown_timeout)
        .detailed_errors(true)
        .message_bytes_max(options.message_bytes_max)
}

/// Those on the first hub at the root, those on the second behind `/hub2`.
fn all_actions(app_server: &AppServer) -> Router {
    [("", "chat"), ("/hub2", "second")]
        .into_iter()
        .filter_map(|(prefix, hub)| {
            let (clients, groups) = (app_server.clients(hub)?, app_server.groups(hub)?);
            Some(actions(prefix, Target { clients, groups }))
        })
        .fold(Router::new(), Router::merge)
}

async fn health(State(app_server): State<AppServer>) -> impl IntoResponse {
    let states = app_server.states();
    let code = if states.iter().all(HubState::is_complete) {
        StatusCode::OK
    } else {
        StatusCode::SERVICE_UNAVAILABLE
    };
    (code, Json(states))
}

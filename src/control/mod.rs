//! The control plane: HTTP on ordinary tokio threads.
//!
//! Shards hand over every connection whose first request is not an upgrade, with the bytes that they have read. A connection is kept
//! from request to request; when an upgrade comes, it goes back to the shard that it has come from.

pub mod admin;
mod answers;
mod client;
mod connection;
mod cross_origin;
mod exchange;
pub mod http_clients;
mod long_polling;
mod negotiate;
mod reader;
mod server_sent_events;

use std::sync::Arc;

use axum::Router;
use axum::http::request::Parts;
use axum::http::{StatusCode, header};
use axum::middleware;
use axum::response::{IntoResponse as _, Response};
use axum::routing::any;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;

use self::connection::Serving;
use self::http_clients::HttpClients;
use self::reader::Deadlines;
use crate::counters::ControlCounters;
use crate::inspector::Inspector;
use crate::shard::Delivery;
use crate::shard::admission::gate::{Gate, HandedOver};
use crate::shard::admission::refusal::Refusal;
use crate::shard::directory::Directory;
use crate::shard::mailbox::Postboxes;
use crate::shard::ring::wake::Wake;

/// What requests need.
#[derive(Debug, Clone)]
pub struct Control {
    /// The hubs.
    pub directory: Arc<Directory>,
    /// Keys and expected connections.
    pub gate: Arc<Gate>,
    /// The ways to the shards.
    pub postboxes: Postboxes<Delivery, Wake>,
    /// The clients that are served here.
    pub http_clients: Arc<HttpClients>,
    /// What is counted here.
    pub counters: Arc<ControlCounters>,
}

impl Control {
    /// With the shards that an inspector looks into.
    pub fn new(directory: Arc<Directory>, gate: Arc<Gate>, inspector: &Inspector) -> Self {
        let counters = inspector.control_counters();
        Self {
            directory,
            gate,
            postboxes: Arc::clone(inspector.postboxes()),
            http_clients: Arc::new(HttpClients::new(Arc::clone(&counters))),
            counters,
        }
    }

    /// A request is refused. What is wrong with it is told to who asked, and to whoever debugs.
    fn on_refused(&self, request: &Parts, refusal: &Refusal) {
        self.counters.requests_refused.increment();
        let (method, path) = (&request.method, request.uri.path());
        tracing::debug!(%method, path, status = refusal.status, reason = %refusal.text, "refused a request");
    }
}

/// Serves connections as shards hand them over, until the service stops and the last request has been answered.
pub async fn serve(
    mut handed_over: mpsc::Receiver<HandedOver>,
    control: Control,
    is_draining: watch::Receiver<bool>,
) {
    let sockets = Arc::clone(&control.gate.sockets);
    let serving = Serving {
        sockets,
        router: router(control),
        deadlines: Deadlines::default(),
        is_draining,
    };
    let mut until = serving.clone();
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            Some(connection) = handed_over.recv() => {
                connections.spawn(serve_connection(connection, serving.clone()));
            }
            Some(_) = connections.join_next() => {}
            () = until.drain() => break,
        }
    }
    // Shards refuse what comes from now on. What is on its way is served.
    handed_over.close();
    while let Some(connection) = handed_over.recv().await {
        connections.spawn(serve_connection(connection, serving.clone()));
    }
    while connections.join_next().await.is_some() {}
}

async fn serve_connection(connection: HandedOver, serving: Serving) {
    let peer = connection.peer;
    if let Err(error) = connection::serve(connection, serving).await {
        tracing::debug!(%peer, %error, "a connection cannot be served");
    }
}

fn router(control: Control) -> Router {
    Router::new()
        .route("/client/negotiate", any(negotiate::negotiate))
        .route("/client/negotiate/", any(negotiate::negotiate))
        .route("/client", any(client::client))
        .route("/client/", any(client::client))
        .route("/server", any(not_an_upgrade))
        .route("/server/", any(not_an_upgrade))
        .fallback(|| async { (StatusCode::NOT_FOUND, "There is nothing here.") })
        .layer(middleware::from_fn(cross_origin::cross_origin))
        .with_state(control)
}

async fn not_an_upgrade() -> Response {
    let headers = [
        (header::UPGRADE, "websocket"),
        (header::CONNECTION, "Upgrade"),
    ];
    (
        StatusCode::UPGRADE_REQUIRED,
        headers,
        "Server connections are WebSockets.",
    )
        .into_response()
}

//! The control plane: HTTP on ordinary tokio threads.
//!
//! Shards hand over every connection whose first request is not an upgrade, with the bytes that they have read. A connection serves
//! one request and is closed: what follows on it could be an upgrade, which belongs to a shard.

pub mod admin;
mod answers;
mod client;
mod connection;
mod cross_origin;
pub mod http_clients;
mod long_polling;
mod negotiate;
mod rewound;
mod server_sent_events;

use std::sync::Arc;

use axum::Router;
use axum::http::{StatusCode, header};
use axum::middleware;
use axum::response::{IntoResponse as _, Response};
use axum::routing::any;
use tokio::sync::mpsc;

use self::http_clients::HttpClients;
use crate::shard::Delivery;
use crate::shard::admission::gate::{Gate, HandedOver};
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
}

/// Serves connections as shards hand them over, until there are no shards any more.
pub async fn serve(mut handed_over: mpsc::Receiver<HandedOver>, control: Control) {
    let router = router(control);
    while let Some(connection) = handed_over.recv().await {
        let router = router.clone();
        tokio::spawn(async move {
            let peer = connection.peer;
            if let Err(error) = connection::serve(connection, router).await {
                tracing::debug!(%peer, %error, "a request could not be served");
            }
        });
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

//! The control plane: HTTP on ordinary tokio threads.
//!
//! Shards hand over every connection whose first request is not an upgrade, with the bytes that they have read. A connection serves
//! one request and is closed: what follows on it could be an upgrade, which belongs to a shard.

pub mod admin;
mod connection;
mod negotiate;
mod rewound;

use std::sync::Arc;

use axum::Router;
use axum::extract::Request;
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse as _, Response};
use axum::routing::any;
use tokio::sync::mpsc;

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
        .route("/client", any(not_served))
        .route("/client/", any(not_served))
        .route("/server", any(not_an_upgrade))
        .route("/server/", any(not_an_upgrade))
        .fallback(|| async { (StatusCode::NOT_FOUND, "There is nothing here.") })
        .layer(middleware::from_fn(cross_origin))
        .with_state(control)
}

/// Server-Sent Events and long polling come with a plain GET.
async fn not_served(method: Method, headers: HeaderMap) -> Response {
    let wants_events = headers
        .get(header::ACCEPT)
        .and_then(|accept| accept.to_str().ok())
        .is_some_and(|accept| accept.contains("text/event-stream"));
    let transport = if wants_events {
        "ServerSentEvents"
    } else {
        "LongPolling"
    };
    if method == Method::GET || method == Method::POST || method == Method::DELETE {
        return (
            StatusCode::NOT_FOUND,
            format!("{transport} transport not supported by this end point type"),
        )
            .into_response();
    }
    StatusCode::METHOD_NOT_ALLOWED.into_response()
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

/// Lets pages of any origin in: who may use the service is for the access token to say. A preflight carries no token and is answered
/// before anything is checked; every other answer carries the headers too, or a page would learn nothing of an error.
async fn cross_origin(request: Request, next: Next) -> Response {
    let origin = request.headers().get(header::ORIGIN).cloned();
    let asked_method = request
        .headers()
        .get(header::ACCESS_CONTROL_REQUEST_METHOD)
        .cloned();
    let asked_headers = request
        .headers()
        .get(header::ACCESS_CONTROL_REQUEST_HEADERS)
        .cloned();
    let is_preflight = request.method() == Method::OPTIONS && asked_method.is_some();
    let mut response = if is_preflight {
        StatusCode::NO_CONTENT.into_response()
    } else {
        next.run(request).await
    };
    let Some(origin) = origin else {
        return response;
    };
    let headers = response.headers_mut();
    headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, origin);
    headers.insert(
        header::ACCESS_CONTROL_ALLOW_CREDENTIALS,
        HeaderValue::from_static("true"),
    );
    headers.insert(header::VARY, HeaderValue::from_static("Origin"));
    if let (true, Some(method)) = (is_preflight, asked_method) {
        headers.insert(header::ACCESS_CONTROL_ALLOW_METHODS, method);
        headers.insert(
            header::ACCESS_CONTROL_MAX_AGE,
            HeaderValue::from_static("7200"),
        );
        if let Some(asked) = asked_headers {
            headers.insert(header::ACCESS_CONTROL_ALLOW_HEADERS, asked);
        }
    }
    response
}

//! The demo's page: a chat, and beside it what flows through the service.
//!
//! The page is plain HTML with its own small script, which speaks SignalR's JSON protocol on the browser's own WebSocket. Every
//! second it asks `GET /flow`, whose answer is the service's to give.

use std::future::Future;

use axum::Router;
use axum::http::header::{CACHE_CONTROL, CONTENT_TYPE};
use axum::response::{IntoResponse, Json};
use axum::routing::get;

/// The page at `/`, and `/flow`, which answers what `flow` gives.
///
/// The page reads `{"shards":[{"id":0,"relayed":0,"fan_out":0,"clients":0,"server_connections":0}],
/// "clients":[{"id":"…","user":"…","hub":"chat","server_connection":"…","shard":0}]}`.
pub fn demo_router<F, Fut>(flow: F) -> Router
where
    F: Fn() -> Fut + Clone + Send + Sync + 'static,
    Fut: Future<Output = serde_json::Value> + Send,
{
    Router::new()
        .route("/", get(async || file("text/html; charset=utf-8", INDEX)))
        .route(
            "/chat.js",
            get(async || file("text/javascript; charset=utf-8", SCRIPT)),
        )
        .route(
            "/style.css",
            get(async || file("text/css; charset=utf-8", STYLE)),
        )
        .route("/flow", get(move || async move { Json(flow().await) }))
}

const INDEX: &str = include_str!("demo/index.html");
const SCRIPT: &str = include_str!("demo/chat.js");
const STYLE: &str = include_str!("demo/style.css");

fn file(content_type: &'static str, text: &'static str) -> impl IntoResponse {
    // A page that belongs to the running program must not come from the cache of an older one.
    let headers = [(CONTENT_TYPE, content_type), (CACHE_CONTROL, "no-cache")];
    (headers, text)
}

//! The stream of a client on Server-Sent Events: one answer that ends when the client does.

use std::convert::Infallible;
use std::sync::Arc;

use axum::body::Body;
use axum::http::{HeaderName, HeaderValue, header};
use axum::response::{IntoResponse as _, Response};
use bytes::Bytes;
use futures_util::future::ready;
use futures_util::stream::{self, StreamExt as _};

use super::http_clients::{HttpClient, HttpClients};
use crate::frame::server_sent_events::{PREAMBLE, event_bytes, write_event};

/// Keeps caches from keeping the stream and proxies from changing it. As ASP.NET Core has them; a proxy that buffers has to be told not to.
const HEADERS: [(HeaderName, HeaderValue); 4] = [
    (
        header::CONTENT_TYPE,
        HeaderValue::from_static("text/event-stream"),
    ),
    (
        header::CACHE_CONTROL,
        HeaderValue::from_static("no-cache,no-store"),
    ),
    (header::PRAGMA, HeaderValue::from_static("no-cache")),
    (
        header::CONTENT_ENCODING,
        HeaderValue::from_static("identity"),
    ),
];

/// The answer to the request that has opened the transport.
///
/// Messages are taken from the client's outlet only when the connection has room for them, so what waits for a client that does not read
/// waits there, where it is bounded.
pub(super) fn stream(client: Arc<HttpClient>, clients: Arc<HttpClients>) -> Response {
    let open = OpenStream { client, clients };
    let preamble = stream::once(ready(Bytes::from_static(PREAMBLE)));
    let events = stream::unfold(open, |open| async {
        let messages = open.client.next_messages().await?;
        Some((events(&messages), open))
    });
    let body = Body::from_stream(preamble.chain(events).map(Ok::<_, Infallible>));
    (HEADERS, body).into_response()
}

/// A client whose stream has not ended. It leaves with its stream, whichever end that comes from.
struct OpenStream {
    client: Arc<HttpClient>,
    clients: Arc<HttpClients>,
}

impl Drop for OpenStream {
    fn drop(&mut self) {
        self.clients.remove(&self.client);
    }
}

/// Each message as an event.
fn events(messages: &[Bytes]) -> Bytes {
    let bytes = messages
        .iter()
        .map(|message| event_bytes(message.len()))
        .sum();
    let mut events = Vec::with_capacity(bytes);
    for message in messages {
        write_event(message, &mut events);
    }
    events.into()
}

//! The polls of a client on long polling: each is answered with all that waits for the client, or waits for something.

use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll as TaskPoll};

use axum::body::Body;
use axum::http::{HeaderName, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use bytes::Bytes;
use hyper::body::{Frame, SizeHint};

use super::answers;
use super::http_clients::{Answer, HttpClient, HttpClients, Poll};
use crate::limits::POLL_PART_BYTES;

/// What every answer to a poll carries: it is for this moment only.
pub(super) const NO_CACHE: [(HeaderName, HeaderValue); 3] = [
    (
        header::CACHE_CONTROL,
        HeaderValue::from_static("no-cache, no-store"),
    ),
    (header::PRAGMA, HeaderValue::from_static("no-cache")),
    (
        header::EXPIRES,
        HeaderValue::from_static("Thu, 01 Jan 1970 00:00:00 GMT"),
    ),
];
const OCTETS: HeaderValue = HeaderValue::from_static("application/octet-stream");

/// The answer to the poll that has opened the transport: only that it has.
pub(super) fn first_poll() -> Response {
    [(header::CONTENT_TYPE, OCTETS)].into_response()
}

/// Answers another poll.
pub(super) async fn poll(client: Arc<HttpClient>, clients: &HttpClients) -> Response {
    let mut poll = client.begin_poll();
    match poll.answer().await {
        Answer::Messages(messages) => {
            let body = PollBody {
                rest: messages.concat().into(),
                _poll: poll,
            };
            ([(header::CONTENT_TYPE, OCTETS)], Body::new(body)).into_response()
        }
        Answer::Nothing => answers::empty(StatusCode::OK),
        Answer::Superseded => answers::empty(StatusCode::NO_CONTENT),
        Answer::Ended => {
            clients.remove(poll.client());
            answers::empty(StatusCode::NO_CONTENT)
        }
    }
}

/// The messages that answer a poll. It is not over while some are left, or a client with a slow connection would have left before it has
/// them.
struct PollBody {
    rest: Bytes,
    _poll: Poll,
}

impl hyper::body::Body for PollBody {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> TaskPoll<Option<Result<Frame<Bytes>, Infallible>>> {
        if self.rest.is_empty() {
            return TaskPoll::Ready(None);
        }
        let bytes = self.rest.len().min(POLL_PART_BYTES);
        TaskPoll::Ready(Some(Ok(Frame::data(self.rest.split_to(bytes)))))
    }

    fn is_end_stream(&self) -> bool {
        self.rest.is_empty()
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.rest.len() as u64)
    }
}

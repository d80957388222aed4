//! One request and its answer, as the HTTP library sees them: a connection on which nothing comes before or after.
//!
//! The library reads the request from an [`Exchange`] and writes the answer to it. Once the answer has gone, the connection seems to be
//! at its end, so the library lets go of it; whether it would have gone on tells whether the connection may be kept. Until then the
//! real one is watched: when the peer goes, the library learns it at once and drops whoever is still at work on the answer.

use std::convert::Infallible;
use std::io::{self, IoSlice};
use std::net::SocketAddr;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use axum::Router;
use axum::extract::ConnectInfo;
use axum::http::{HeaderValue, Request, Response, header};
use bytes::Bytes;
use hyper::body::{Body, Frame, Incoming, SizeHint};
use hyper::rt::ReadBufCursor;
use hyper::server::conn::http1;
use hyper::service::{Service as _, service_fn};
use hyper_util::service::TowerToHyperService;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::{Sleep, sleep};

use super::reader::{READ_BYTES, Reader};
use crate::frame::upgrade::{BodyLength, HEAD_BYTES_MAX};
use crate::limits::EARLY_BYTES_MAX;

/// Bytes of an answer that the library may hold. Whoever makes the answer is to know how far it has come; a head has to fit in as well.
const ANSWER_BUFFER_BYTES: usize = 2 * HEAD_BYTES_MAX;

/// A request whose head has been read ahead.
#[derive(Debug)]
pub(super) struct Asked {
    pub(super) head_bytes: usize,
    pub(super) body: BodyLength,
    /// Time in which the body has to come.
    pub(super) body_timeout: Duration,
    /// Who asks.
    pub(super) peer: SocketAddr,
    /// Whether the connection has to end after the answer.
    pub(super) is_last: bool,
}

/// What has become of a connection with a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Outcome {
    /// It is ready for another one.
    Kept,
    /// It has to end.
    Over,
    /// The same, and the peer has sent what nobody has read, or is going to.
    Unread,
}

/// Has a request answered.
pub(super) async fn answer<S>(reader: &mut Reader<S>, asked: &Asked, router: Router) -> Outcome
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    // The end of such a body is found by the library, which may have read beyond it by then.
    let is_last = asked.is_last || asked.body == BodyLength::Chunked;
    let progress = Arc::new(Progress::default());
    let exchange = Exchange {
        reader,
        left: match asked.body {
            BodyLength::Exact(bytes) => Some(bytes.saturating_add(asked.head_bytes as u64)),
            BodyLength::Chunked => None,
        },
        progress: Arc::clone(&progress),
        is_flushed: false,
        is_kept: false,
    };
    let service = service(router, asked, Arc::clone(&progress));
    let mut http = http1::Builder::new();
    http.keep_alive(!is_last)
        .header_read_timeout(None)
        .max_buf_size(ANSWER_BUFFER_BYTES);
    let mut connection = http.serve_connection(exchange, service);
    let served = Pin::new(&mut connection).await;
    if let Err(error) = &served {
        tracing::debug!(peer = %asked.peer, %error, "a request has not been answered");
    }
    let parts = connection.into_parts();
    let is_taken = progress.is_taken();
    if served.is_ok() && parts.io.is_kept && is_taken && parts.read_buf.is_empty() {
        Outcome::Kept
    } else if is_taken && parts.io.reader.ahead().is_empty() {
        Outcome::Over
    } else {
        Outcome::Unread
    }
}

/// The routes, as the library wants them.
fn service(
    router: Router,
    asked: &Asked,
    progress: Arc<Progress>,
) -> impl hyper::service::Service<
    Request<Incoming>,
    Response = Response<Answer>,
    Error = Infallible,
    Future: Send,
> {
    let peer = asked.peer;
    let body_timeout = asked.body_timeout;
    let router = TowerToHyperService::new(router);
    service_fn(move |request: Request<Incoming>| {
        let mut request = request.map(|body| Upload::new(body, body_timeout));
        request.extensions_mut().insert(ConnectInfo(peer));
        let answering = router.call(request);
        let progress = Arc::clone(&progress);
        async move {
            let Ok(mut response) = answering.await;
            if !progress.is_taken() {
                // Who does not want the rest of the body gets no other request behind it.
                let close = HeaderValue::from_static("close");
                response.headers_mut().insert(header::CONNECTION, close);
            }
            Ok(response.map(|body| Answer { body, progress }))
        }
    })
}

/// How far an exchange has come. Shared by parts that the library keeps apart.
#[derive(Debug, Default)]
struct Progress {
    /// Whether the library has all of the request.
    is_taken: AtomicBool,
    /// Whether the library has all of the answer.
    is_answered: AtomicBool,
}

impl Progress {
    fn is_taken(&self) -> bool {
        self.is_taken.load(Ordering::Acquire)
    }

    fn is_answered(&self) -> bool {
        self.is_answered.load(Ordering::Acquire)
    }
}

/// A connection with nothing but one request on it.
#[derive(Debug)]
struct Exchange<'a, S> {
    reader: &'a mut Reader<S>,
    /// Bytes of the request that the library has not got. None: it has to find the end itself.
    left: Option<u64>,
    progress: Arc<Progress>,
    /// Whether the answer has gone to the socket.
    is_flushed: bool,
    /// Whether the library has asked for more after that: for another request, or the rest of a body that nobody wants.
    is_kept: bool,
}

impl<S: AsyncRead + Unpin> hyper::rt::Read for Exchange<'_, S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        mut buffer: ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        let this = &mut *self;
        loop {
            if this.is_flushed {
                this.is_kept = true;
                return Poll::Ready(Ok(()));
            }
            let ahead_bytes = this.reader.ahead().len();
            let room = if !this.progress.is_taken() {
                if ahead_bytes > 0 {
                    this.give(&mut buffer);
                    return Poll::Ready(Ok(()));
                }
                READ_BYTES
            } else if ahead_bytes < EARLY_BYTES_MAX {
                EARLY_BYTES_MAX - ahead_bytes
            } else {
                // It is read on when the answer has gone.
                return Poll::Pending;
            };
            if ready!(this.reader.poll_fill(room, context))? == 0 {
                return Poll::Ready(Ok(()));
            }
        }
    }
}

impl<S> Exchange<'_, S> {
    /// Gives the library what is there of the request.
    fn give(&mut self, buffer: &mut ReadBufCursor<'_>) {
        let left = self.left.unwrap_or(u64::MAX);
        let bytes = usize::try_from(left)
            .unwrap_or(usize::MAX)
            .min(self.reader.ahead().len())
            .min(buffer.remaining());
        buffer.put_slice(self.reader.ahead().get(..bytes).unwrap_or_default());
        self.reader.take(bytes);
        if let Some(left) = &mut self.left {
            *left -= bytes as u64;
            self.progress.is_taken.store(*left == 0, Ordering::Release);
        }
    }
}

impl<S: AsyncWrite + Unpin> hyper::rt::Write for Exchange<'_, S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.reader.stream().poll_write(context, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.reader.stream().poll_write_vectored(context, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.reader.is_write_vectored()
    }

    /// Is called when all that the library had has been written.
    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.reader.stream().poll_flush(context))?;
        if self.progress.is_answered() && !self.is_flushed {
            self.is_flushed = true;
            // The library may wait for the peer's next bytes. It need not any more.
            context.waker().wake_by_ref();
        }
        Poll::Ready(Ok(()))
    }

    /// Only the exchange ends.
    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

/// The body of an answer. The library drops it when it has all of it.
struct Answer {
    body: axum::body::Body,
    progress: Arc<Progress>,
}

impl Body for Answer {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        pin!(&mut self.body).poll_frame(context)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

impl Drop for Answer {
    fn drop(&mut self) {
        self.progress.is_answered.store(true, Ordering::Release);
    }
}

/// The body of a request, which has to come in time once it is waited for.
struct Upload {
    body: Incoming,
    timeout: Duration,
    deadline: Option<Pin<Box<Sleep>>>,
}

impl Upload {
    fn new(body: Incoming, timeout: Duration) -> Self {
        Self {
            body,
            timeout,
            deadline: None,
        }
    }
}

impl Body for Upload {
    type Data = Bytes;
    type Error = Box<dyn std::error::Error + Send + Sync>;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        if let Poll::Ready(frame) = Pin::new(&mut self.body).poll_frame(context) {
            return Poll::Ready(frame.map(|frame| frame.map_err(Into::into)));
        }
        // Whoever reads it may have let it wait for longer than it may take.
        let timeout = self.timeout;
        let deadline = self
            .deadline
            .get_or_insert_with(|| Box::pin(sleep(timeout)));
        ready!(deadline.as_mut().poll(context));
        let error = io::Error::new(io::ErrorKind::TimedOut, "the body did not come in time");
        Poll::Ready(Some(Err(error.into())))
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

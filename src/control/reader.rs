//! Reads a connection, one request at a time.
//!
//! Nothing else reads it. A request is told apart by the parser that shards use too, so there is one opinion on where a request begins,
//! and what the HTTP library gets to see is one request with its body and not a byte of the next one. What has been read beyond that
//! stays here, until the next request is asked for or the connection goes back to a shard.

use std::future::poll_fn;
use std::io;
use std::mem::MaybeUninit;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use axum::http::Uri;
use bytes::{Buf as _, BytesMut};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, timeout_at};

use crate::frame::upgrade::{
    BodyLength, HeadError, cors_headers, origin_of_refused, parse, refusal,
};
use crate::limits::{KEEP_ALIVE_MAX, REQUEST_BODY_TIMEOUT, REQUEST_HEAD_TIMEOUT};
use crate::shard::admission::Endpoint;

/// Bytes that are read in one go.
pub(super) const READ_BYTES: usize = 8 * 1024;

/// A connection, with what has been read from it but has not been asked for.
#[derive(Debug)]
pub(super) struct Reader<S> {
    stream: S,
    ahead: BytesMut,
}

/// For what the peer is waited for, and how long.
#[derive(Debug, Clone, Copy)]
pub(super) struct Deadlines {
    /// For the first byte of a request.
    pub(super) idle: Duration,
    /// From there to the end of its head.
    pub(super) head: Duration,
    /// From there to the end of its body.
    pub(super) body: Duration,
}

/// What comes next on a connection.
#[derive(Debug)]
pub(super) enum Next {
    /// A request, of which nothing has been taken yet.
    Request { head_bytes: usize, body: BodyLength },
    /// An upgrade, which belongs to a shard. Nothing of it has been taken.
    Upgrade,
    /// Something that is not served: this is the answer. Nobody knows where the next request would begin.
    Refused { answer: Vec<u8>, reason: String },
    /// The peer has gone, or did not say anything in time.
    Over,
}

impl Default for Deadlines {
    fn default() -> Self {
        Self {
            idle: KEEP_ALIVE_MAX,
            head: REQUEST_HEAD_TIMEOUT,
            body: REQUEST_BODY_TIMEOUT,
        }
    }
}

impl<S> Reader<S> {
    /// `received` has been read from the stream already.
    pub(super) fn new(stream: S, received: &[u8]) -> Self {
        Self {
            stream,
            ahead: BytesMut::from(received),
        }
    }

    /// What has been read ahead.
    pub(super) fn ahead(&self) -> &[u8] {
        &self.ahead
    }

    /// Bytes have been asked for.
    pub(super) fn take(&mut self, bytes: usize) {
        self.ahead.advance(bytes);
    }

    /// Where answers go.
    pub(super) fn stream(&mut self) -> Pin<&mut S>
    where
        S: Unpin,
    {
        Pin::new(&mut self.stream)
    }

    /// Gives the connection back.
    pub(super) fn into_parts(self) -> (S, Vec<u8>) {
        (self.stream, self.ahead.into())
    }
}

impl<S: AsyncRead + Unpin> Reader<S> {
    /// Waits for the head of the next request. May be dropped and called again, but the time begins anew then.
    pub(super) async fn next(&mut self, deadlines: &Deadlines) -> Next {
        let mut deadline = if self.ahead.is_empty() {
            // A connection that waits needs no memory for it.
            self.ahead = BytesMut::new();
            Instant::now() + deadlines.idle
        } else {
            Instant::now() + deadlines.head
        };
        loop {
            if let Some(next) = look(&self.ahead) {
                return next;
            }
            let was_idle = self.ahead.is_empty();
            match timeout_at(deadline, self.fill(READ_BYTES)).await {
                Ok(Ok(bytes)) if bytes > 0 => {}
                Ok(_) | Err(_) => return Next::Over,
            }
            if was_idle {
                deadline = Instant::now() + deadlines.head;
            }
        }
    }

    /// Reads so many bytes more ahead, or fewer. None at all is the end.
    pub(super) async fn fill(&mut self, bytes_max: usize) -> io::Result<usize> {
        poll_fn(|context| self.poll_fill(bytes_max, context)).await
    }

    /// As [`Self::fill`].
    pub(super) fn poll_fill(
        &mut self,
        bytes_max: usize,
        context: &mut Context<'_>,
    ) -> Poll<io::Result<usize>> {
        let mut memory = [MaybeUninit::uninit(); READ_BYTES];
        let room = bytes_max.min(READ_BYTES);
        let mut buffer = ReadBuf::uninit(memory.get_mut(..room).unwrap_or_default());
        ready!(self.stream().poll_read(context, &mut buffer))?;
        self.ahead.extend_from_slice(buffer.filled());
        Poll::Ready(Ok(buffer.filled().len()))
    }
}

impl<S: AsyncWrite + Unpin> Reader<S> {
    pub(super) async fn write_all(&mut self, mut bytes: &[u8]) -> io::Result<()> {
        while !bytes.is_empty() {
            match poll_fn(|context| self.stream().poll_write(context, bytes)).await? {
                0 => return Err(io::ErrorKind::WriteZero.into()),
                written => bytes = bytes.get(written..).unwrap_or_default(),
            }
        }
        poll_fn(|context| self.stream().poll_flush(context)).await
    }

    pub(super) fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    /// Says that nothing more will be sent.
    pub(super) async fn shut_down(&mut self) -> io::Result<()> {
        poll_fn(|context| self.stream().poll_shutdown(context)).await
    }
}

/// What comes next, if that much of it is there already.
fn look(ahead: &[u8]) -> Option<Next> {
    let (head, head_bytes) = match parse(ahead) {
        Ok(head) => head?,
        Err(error) => return Some(refused(error.status(), &error, origin_of_refused(ahead))),
    };
    if Endpoint::of(&head).is_some() {
        return Some(Next::Upgrade);
    }
    let origin = head.header("origin");
    if head.target().parse::<Uri>().is_err() {
        // The library is stricter here, and would not say why.
        let error = HeadError::Target;
        return Some(refused(error.status(), &error, origin));
    }
    Some(match head.body_length() {
        Ok(body) => Next::Request { head_bytes, body },
        Err(error) => refused(error.status(), &error, origin),
    })
}

fn refused(status: u16, error: &impl ToString, origin: Option<&str>) -> Next {
    let reason = error.to_string();
    Next::Refused {
        answer: refusal(status, &reason, &cors_headers(origin)),
        reason,
    }
}

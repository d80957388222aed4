//! One connection of the control plane: request after request, until it ends or asks for an upgrade.

use std::future::pending;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use axum::Router;
use socket2::SockRef;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::time::timeout;

use super::exchange::{self, Asked, Outcome};
use super::reader::{Deadlines, Next, READ_BYTES, Reader};
use crate::frame::upgrade::{cors_headers, parse, refusal};
use crate::limits::CLOSE_TIMEOUT;
use crate::shard::admission::gate::{HandedOver, Sockets};
use crate::shard::admission::watch_for_stalling;

/// What a connection is served with.
#[derive(Debug, Clone)]
pub(super) struct Serving {
    pub(super) router: Router,
    pub(super) deadlines: Deadlines,
    /// Whether the service stops.
    pub(super) is_draining: watch::Receiver<bool>,
    /// What connections are counted against.
    pub(super) sockets: Arc<Sockets>,
}

/// Serves a connection until it ends, or goes back to the shard that it has come from.
pub(super) async fn serve(connection: HandedOver, mut serving: Serving) -> io::Result<()> {
    let HandedOver {
        stream,
        hold,
        received,
        peer,
        home,
    } = connection;
    stream.set_nonblocking(true)?;
    stream.set_nodelay(true)?;
    // Answers may go on for as long as they want to, to a peer that takes them.
    watch_for_stalling(&stream);
    let mut reader = Reader::new(TcpStream::from_std(stream)?, &received);
    drop(received);
    if !serve_requests(&mut reader, peer, &mut serving).await {
        return Ok(());
    }
    // A shard that stops takes nobody.
    let permit = match home.try_reserve() {
        Ok(permit) if !serving.has_to_end() => permit,
        Ok(_) | Err(_) => {
            let head = parse(reader.ahead()).ok().flatten().map(|(head, _)| head);
            let cors = cors_headers(head.as_ref().and_then(|head| head.header("origin")));
            refuse(&mut reader, &refusal(503, "The service is busy.", &cors)).await;
            return Ok(());
        }
    };
    let (stream, received) = reader.into_parts();
    let stream = stream.into_std()?;
    // The rings of a shard want to wait themselves.
    stream.set_nonblocking(false)?;
    SockRef::from(&stream).set_tcp_user_timeout(None)?;
    permit.send(HandedOver {
        stream,
        hold,
        received,
        peer,
        home: home.clone(),
    });
    Ok(())
}

impl Serving {
    /// Waits until the service stops.
    pub(super) async fn drain(&mut self) {
        if self
            .is_draining
            .wait_for(|is_draining| *is_draining)
            .await
            .is_err()
        {
            // A service whose handle has been dropped goes on.
            pending::<()>().await;
        }
    }

    fn has_to_end(&self) -> bool {
        *self.is_draining.borrow()
    }
}

/// Serves requests for as long as there are any. Whether an upgrade comes next.
async fn serve_requests<S>(reader: &mut Reader<S>, peer: SocketAddr, serving: &mut Serving) -> bool
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let deadlines = serving.deadlines;
    let sockets = Arc::clone(&serving.sockets);
    loop {
        let next = tokio::select! {
            // What has come before the end is served.
            biased;
            next = reader.next(&deadlines) => next,
            // Others need the place more than who has nothing to ask.
            () = sockets.grow_scarce() => Next::Over,
            () = serving.drain() => Next::Over,
        };
        let asked = match next {
            Next::Request { head_bytes, body } => Asked {
                head_bytes,
                body,
                body_timeout: deadlines.body,
                peer,
                is_last: serving.has_to_end(),
            },
            Next::Upgrade => return true,
            Next::Refused { answer, reason } => {
                tracing::debug!(%peer, reason, "refused a request");
                refuse(reader, &answer).await;
                return false;
            }
            Next::Over => return false,
        };
        match exchange::answer(reader, &asked, serving.router.clone()).await {
            Outcome::Kept => {}
            Outcome::Over => return false,
            Outcome::Unread => {
                linger(reader).await;
                return false;
            }
        }
    }
}

/// Sends an answer that is the last one.
async fn refuse<S: AsyncRead + AsyncWrite + Unpin>(reader: &mut Reader<S>, answer: &[u8]) {
    // Whether it arrives is the peer's concern.
    if let Ok(Ok(())) = timeout(CLOSE_TIMEOUT, reader.write_all(answer)).await {
        linger(reader).await;
    }
}

/// Says that nothing more will be sent, and waits for the peer to say so too. What it still sends is dropped: closed with unread bytes,
/// the connection would be reset, and the peer might lose the answer.
async fn linger<S: AsyncRead + AsyncWrite + Unpin>(reader: &mut Reader<S>) {
    let lingering = async {
        reader.shut_down().await?;
        while reader.fill(READ_BYTES).await? > 0 {
            reader.take(reader.ahead().len());
        }
        Ok::<_, io::Error>(())
    };
    let _ = timeout(CLOSE_TIMEOUT, lingering).await;
}

#[cfg(test)]
mod tests;

//! From an accepted socket to an upgraded connection: request head, token, server connection, 101.
//!
//! Each connection is a short-lived task with a deadline. Whatever is not an upgrade to `/client` or `/server` is handed over to the
//! control plane, with the bytes read so far. When its next request is such an upgrade after all, it comes back, and what has been read of
//! it by then comes with it. A connection that cannot be served is refused with an HTTP status: an app server that
//! was accepted and then dropped would come back at once, one that is refused backs off.

pub(crate) mod arrival;
mod client;
mod echo;
pub mod gate;
mod heads;
pub(crate) mod identity;
pub(crate) mod refusal;
mod resume;
mod server;

use std::cell::{Cell, RefCell};
use std::future::Future;
use std::net::{Shutdown, SocketAddr, TcpListener};
use std::os::fd::{AsFd as _, AsRawFd as _, BorrowedFd, OwnedFd};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio_uring::buf::BoundedBuf as _;
use tokio_uring::net::TcpStream;

use self::client::admit_client;
pub(crate) use self::client::watch_for_stalling;
use self::echo::admit_echo;
use self::gate::{Gate, HandedOver, SocketHold};
use self::heads::Heads;
use self::refusal::Refusal;
use self::server::admit_server;
use super::Shard;
use super::directory::Directory;
use super::environment::{Environment, PanicWatch};
use crate::counters::Counters;
use crate::frame::upgrade::{self as http, RequestHead, UpgradeKey};
use crate::id::ShardId;
use crate::limits::{
    ADMISSIONS_MAX, EARLY_BYTES_MAX, HANDED_BACK_DEPTH, HEADS_GIVEN_UP_AT_A_TIME,
    REQUEST_HEAD_TIMEOUT,
};

/// Time until it is tried again to accept, after the system had no descriptor or memory for it.
const ACCEPT_RETRY_DELAY: Duration = Duration::from_millis(50);

/// By which of the service's addresses a connection has come.
#[derive(Clone, Copy, Debug)]
pub(super) enum Entrance {
    /// That of clients and app servers.
    Service,
    /// That of test suites of RFC 6455.
    Echo,
}

/// What the admission tasks of a shard share.
#[derive(Debug)]
pub(super) struct Admission {
    shard_id: ShardId,
    shard: Rc<RefCell<Shard>>,
    directory: Arc<Directory>,
    counters: Arc<Counters>,
    gate: Arc<Gate>,
    watch: PanicWatch,
    running: Cell<usize>,
    heads: Heads,
    /// The way back from the control plane.
    home: mpsc::Sender<HandedOver>,
}

/// A connection, before its head is complete.
struct Arrived {
    stream: TcpStream,
    peer: SocketAddr,
    /// What has been read from it, by the control plane.
    received: Vec<u8>,
    /// Counts the socket, if it has been counted already.
    hold: Option<SocketHold>,
    entrance: Entrance,
}

/// A request whose head is complete.
struct Asked<'a> {
    stream: &'a TcpStream,
    peer: SocketAddr,
    head: RequestHead,
    /// The head, and what came behind it.
    received: Vec<u8>,
    head_bytes: usize,
    /// Counts the socket, if it has been counted already.
    hold: Option<SocketHold>,
}

/// What an upgrade asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Endpoint {
    Client,
    Server,
}

impl Endpoint {
    /// None for any request that does not belong to a shard.
    pub(crate) fn of(head: &RequestHead) -> Option<Self> {
        match head.path().trim_end_matches('/') {
            "/client" if head.wants_websocket() => Some(Self::Client),
            "/server" if head.wants_websocket() => Some(Self::Server),
            _ => None,
        }
    }
}

impl Admission {
    /// With what the control plane gives back.
    pub(super) fn new(
        environment: &Environment,
        shard: Rc<RefCell<Shard>>,
    ) -> (Rc<Self>, mpsc::Receiver<HandedOver>) {
        let (home, handed_back) = mpsc::channel(HANDED_BACK_DEPTH);
        let admission = Rc::new(Self {
            shard_id: environment.shard,
            shard,
            directory: Arc::clone(&environment.directory),
            counters: Arc::clone(&environment.counters),
            gate: Arc::clone(&environment.gate),
            watch: PanicWatch::new(environment),
            running: Cell::new(0),
            heads: Heads::default(),
            home,
        });
        (admission, handed_back)
    }
}

/// Accepts connections, each into a task of its own.
pub(super) async fn accept(listener: TcpListener, entrance: Entrance, admission: Rc<Admission>) {
    let _watch = admission.watch.clone();
    let listener = tokio_uring::net::TcpListener::from_std(listener);
    loop {
        match listener.accept().await {
            Ok((stream, peer)) => {
                admission.counters.accepted.increment();
                admission.room().await;
                let arrived = Arrived {
                    stream,
                    peer,
                    received: Vec::new(),
                    hold: None,
                    entrance,
                };
                start(arrived, &admission);
            }
            Err(error) => {
                tracing::warn!(shard = %admission.shard_id, %error, "cannot accept connections");
                tokio::time::sleep(ACCEPT_RETRY_DELAY).await;
            }
        }
    }
}

/// Takes connections back from the control plane.
pub(super) async fn take_back(
    mut handed_back: mpsc::Receiver<HandedOver>,
    admission: Rc<Admission>,
) {
    let _watch = admission.watch.clone();
    while let Some(connection) = handed_back.recv().await {
        admission.room().await;
        admission.counters.handed_back.increment();
        let arrived = Arrived {
            stream: TcpStream::from_std(connection.stream),
            peer: connection.peer,
            received: connection.received,
            hold: Some(connection.hold),
            entrance: Entrance::Service,
        };
        start(arrived, &admission);
    }
}

fn start(arrived: Arrived, admission: &Rc<Admission>) {
    admission.count(admission.running.get() + 1);
    let admission = Rc::clone(admission);
    tokio_uring::spawn(async move {
        let _watch = admission.watch.clone();
        admit(arrived, &admission).await;
        admission.count(admission.running.get() - 1);
    });
}

async fn admit(arrived: Arrived, admission: &Admission) {
    let Arrived {
        stream,
        peer,
        received,
        hold,
        entrance,
    } = arrived;
    let stream = Rc::new(stream);
    let waiting = admission.heads.wait(&stream);
    let stream = &*stream;
    let read = within(REQUEST_HEAD_TIMEOUT, stream, read_head(stream, received)).await;
    drop(waiting);
    let mut asked = match read {
        Some(Ok(Some((head, head_bytes, received)))) => Asked {
            stream,
            peer,
            head,
            received,
            head_bytes,
            hold,
        },
        // There is nobody to answer.
        Some(Ok(None)) => return,
        None => {
            tracing::debug!(shard = %admission.shard_id, %peer, "a request head did not come in time");
            return;
        }
        Some(Err((refusal, received))) => {
            let origin = http::origin_of_refused(&received);
            return refuse(stream, origin, &refusal, admission).await;
        }
    };
    let admitted = match (entrance, Endpoint::of(&asked.head)) {
        (Entrance::Echo, _) => admit_echo(&mut asked, admission).await,
        (Entrance::Service, Some(Endpoint::Client)) => admit_client(&mut asked, admission).await,
        (Entrance::Service, Some(Endpoint::Server)) => admit_server(&mut asked, admission).await,
        (Entrance::Service, None) => hand_over(&mut asked, admission),
    };
    if let Err(refusal) = admitted {
        let (shard, path) = (admission.shard_id, asked.head.path());
        tracing::debug!(%shard, %peer, path, status = refusal.status, reason = %refusal.text, "refused a connection");
        refuse(stream, asked.head.header("origin"), &refusal, admission).await;
    }
}

fn hand_over(asked: &mut Asked<'_>, admission: &Admission) -> Result<(), Refusal> {
    let hold = admission.hold_socket(asked.hold.take())?;
    let received = std::mem::take(&mut asked.received);
    let handed_over = HandedOver {
        stream: duplicate(asked.stream)?.into(),
        hold,
        received,
        peer: asked.peer,
        home: admission.home.clone(),
    };
    admission.counters.handed_over.increment();
    admission
        .gate
        .control
        .try_send(handed_over)
        .map_err(|_| Refusal::unavailable("The service is busy."))
}

impl Asked<'_> {
    /// What came behind the head: the first frames of a client in a hurry.
    fn take_early(&mut self) -> Vec<u8> {
        self.received.split_off(self.head_bytes)
    }
}

impl Admission {
    /// Waits until another connection may be admitted.
    async fn room(&self) {
        while self.running.get() >= ADMISSIONS_MAX {
            let given_up = self.heads.give_up(HEADS_GIVEN_UP_AT_A_TIME);
            self.counters.heads_given_up.add(given_up as u64);
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }

    fn count(&self, running: usize) {
        self.running.set(running);
        self.counters.admissions.set(running as u64);
    }

    /// Refuses what there would be no descriptor for, and what would have to be closed again at once.
    fn hold_socket(&self, counted: Option<SocketHold>) -> Result<SocketHold, Refusal> {
        if self.shard.borrow().is_draining() {
            return Err(Refusal::unavailable("The service is shutting down."));
        }
        let hold = counted.or_else(|| self.gate.sockets.hold());
        hold.ok_or_else(|| {
            Refusal::unavailable("The service has as many connections as it may have.")
        })
    }
}

/// Takes the socket over and answers 101. None if the client has gone meanwhile.
async fn upgrade(stream: &TcpStream, key: &UpgradeKey) -> Result<Option<OwnedFd>, Refusal> {
    // First what may fail for a reason of ours: after the 101 nothing can be refused any more.
    let fd = duplicate(stream)?;
    let answer = stream.write_all(http::switching_protocols(key));
    let written = within(REQUEST_HEAD_TIMEOUT, stream, answer).await;
    let is_there = written.is_some_and(|(written, _)| written.is_ok());
    Ok((is_there && stream.set_nodelay(true).is_ok()).then_some(fd))
}

async fn refuse(
    stream: &TcpStream,
    origin: Option<&str>,
    refusal: &Refusal,
    admission: &Admission,
) {
    admission.counters.refused.increment();
    let mut headers: Vec<(&str, &str)> = refusal.headers.to_vec();
    if let Some(challenge) = &refusal.challenge {
        headers.push(("WWW-Authenticate", challenge));
    }
    let cors = http::cors_headers(origin);
    headers.extend(cors.iter().copied());
    let response = http::refusal(refusal.status, &refusal.text, &headers);
    // Whether it arrives is the client's concern.
    let _ = within(REQUEST_HEAD_TIMEOUT, stream, stream.write_all(response)).await;
    let _ = stream.shutdown(Shutdown::Write);
}

/// Reads until the head is complete. The head, how long it is, and all that has been read; none if the client has gone before. A refusal
/// comes with what has been read too.
async fn read_head(
    stream: &TcpStream,
    mut received: Vec<u8>,
) -> Result<Option<(RequestHead, usize, Vec<u8>)>, (Refusal, Vec<u8>)> {
    const FIRST_READ_BYTES: usize = 2048;
    loop {
        match http::parse(&received) {
            Ok(Some((_, head_bytes))) if received.len() - head_bytes > EARLY_BYTES_MAX => {
                let refusal = Refusal::bad_request("Too much has been sent before the answer.");
                return Err((refusal, received));
            }
            Ok(Some((head, head_bytes))) => return Ok(Some((head, head_bytes, received))),
            Ok(None) => {}
            Err(error) => {
                let refusal = Refusal::new(error.status(), error.to_string());
                return Err((refusal, received));
            }
        }
        if received.len() == received.capacity() {
            received.reserve(received.len().max(FIRST_READ_BYTES));
        }
        let start = received.len();
        let (read, buffer) = stream.read(received.slice(start..)).await;
        received = buffer.into_inner();
        match read {
            Ok(0) | Err(_) => return Ok(None),
            Ok(_) => {}
        }
    }
}

/// Waits for an operation on a stream, but not for ever. After the time the stream is shut down, so that the operation ends.
async fn within<T>(
    timeout: Duration,
    stream: &TcpStream,
    operation: impl Future<Output = T>,
) -> Option<T> {
    let result = tokio::time::timeout(timeout, operation).await.ok();
    if result.is_none() {
        let _ = stream.shutdown(Shutdown::Both);
    }
    result
}

/// A descriptor of our own for the same socket: the runtime's goes with its stream.
fn duplicate(stream: &TcpStream) -> Result<OwnedFd, Refusal> {
    // SAFETY: The stream keeps its descriptor open while it is borrowed.
    let borrowed = unsafe { BorrowedFd::borrow_raw(stream.as_raw_fd()) };
    borrowed.as_fd().try_clone_to_owned().map_err(|error| {
        tracing::warn!(%error, "there is no descriptor for a connection");
        Refusal::unavailable("The service has no descriptor left.")
    })
}

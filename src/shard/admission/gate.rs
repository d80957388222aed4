//! Who may come in, and how many. Shared by all shards and the control plane.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::sync::Notify;

use crate::protocol::access_token::AccessKeys;
use crate::shard::pending::PendingConnections;

/// Who may come in, and where those go who belong elsewhere. The same for all shards.
#[derive(Debug)]
pub struct Gate {
    /// The public name of this service process.
    pub instance_id: Arc<str>,
    /// The keys that tokens are checked with.
    pub keys: AccessKeys,
    /// Connections that have been negotiated.
    pub pending: Arc<PendingConnections>,
    /// The sockets that all shards and the control plane hold together.
    pub sockets: Arc<Sockets>,
    /// Whether to believe an `X-Forwarded-For` that a client sends: only behind a proxy that sets it.
    pub trust_forwarded_for: bool,
    /// Whether clients may survive the loss of their socket, where their app server allows it.
    pub stateful_reconnect: bool,
    /// The control plane.
    pub control: tokio::sync::mpsc::Sender<HandedOver>,
}

/// Sockets are scarce when less than one in so many is left.
const SCARCE_SHARE: usize = 8;

/// Counts sockets against what there may be of them.
#[derive(Debug)]
pub struct Sockets {
    count: AtomicUsize,
    max: usize,
    /// One has been counted of the last few.
    scarce: Notify,
}

/// One socket that counts, until dropped.
#[derive(Debug)]
pub struct SocketHold(Arc<Sockets>);

impl Sockets {
    /// There may be so many.
    pub fn new(max: usize) -> Self {
        Self {
            count: AtomicUsize::new(0),
            max,
            scarce: Notify::new(),
        }
    }

    /// How many there may be.
    pub fn max(&self) -> usize {
        self.max
    }

    /// Counts one more, if there may be one more.
    pub fn hold(self: &Arc<Self>) -> Option<SocketHold> {
        // Counting comes first, or many who look at the same time would all find room.
        let hold = SocketHold(Arc::clone(self));
        let before = self.count.fetch_add(1, Ordering::Relaxed);
        if before + 1 >= self.scarce_from() {
            self.scarce.notify_waiters();
        }
        (before < self.max).then_some(hold)
    }

    /// Waits until one more is counted while few are left: connections that do nothing had better make room then.
    pub async fn grow_scarce(&self) {
        self.scarce.notified().await;
    }

    fn scarce_from(&self) -> usize {
        self.max - self.max / SCARCE_SHARE
    }
}

impl Drop for SocketHold {
    fn drop(&mut self) {
        self.0.count.fetch_sub(1, Ordering::Relaxed);
    }
}

/// A connection on its way from a shard to the control plane, or back.
#[derive(Debug)]
pub struct HandedOver {
    /// Its socket.
    pub stream: std::net::TcpStream,
    /// Counts the socket.
    pub hold: SocketHold,
    /// What has been read from it: a request, or its beginning, and what came behind it.
    pub received: Vec<u8>,
    /// Who is at the other end.
    pub peer: SocketAddr,
    /// The way back to the shard that has accepted it.
    pub home: tokio::sync::mpsc::Sender<Self>,
}

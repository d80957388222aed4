//! Who may come in, and how many. Shared by all shards and the control plane.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

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

/// Counts sockets against what there may be of them.
#[derive(Debug)]
pub struct Sockets {
    count: AtomicUsize,
    max: usize,
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
        (self.count.fetch_add(1, Ordering::Relaxed) < self.max).then_some(hold)
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

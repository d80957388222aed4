//! A queue between two tasks that is bounded by bytes.
//!
//! Whoever sends waits while the queue is full, and those who wait are served in turn. So a slow reader slows its writers
//! down, and memory stays bounded however small or large the entries are. An entry larger than the whole queue passes alone.

use std::fmt;
use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};

/// A queue that holds entries of `bytes_max` in all.
pub(super) fn byte_queue<T>(bytes_max: u32) -> (Sender<T>, Receiver<T>) {
    let room = Arc::new(Semaphore::new(bytes_max as usize));
    let (sender, receiver) = mpsc::unbounded_channel();
    let sender = Sender {
        room: Arc::clone(&room),
        bytes_max,
        entries: sender,
    };
    let receiver = Receiver {
        room,
        entries: receiver,
    };
    (sender, receiver)
}

/// The end that entries go into.
pub(super) struct Sender<T> {
    room: Arc<Semaphore>,
    bytes_max: u32,
    entries: mpsc::UnboundedSender<Entry<T>>,
}

/// The end that entries come out of. Once it is dropped, senders are told so.
pub(super) struct Receiver<T> {
    room: Arc<Semaphore>,
    entries: mpsc::UnboundedReceiver<Entry<T>>,
}

/// Nobody takes entries out any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the other end of the queue is gone")]
pub(super) struct Closed;

struct Entry<T> {
    value: T,
    /// Gives the room back when the entry is taken out.
    _room: Option<OwnedSemaphorePermit>,
}

/// What an entry costs besides its bytes, so that many empty ones are bounded too.
const ENTRY_OVERHEAD_BYTES: usize = 64;

impl<T> Clone for Sender<T> {
    fn clone(&self) -> Self {
        Self {
            room: Arc::clone(&self.room),
            bytes_max: self.bytes_max,
            entries: self.entries.clone(),
        }
    }
}

impl<T> Sender<T> {
    /// Adds an entry of `bytes`, as soon as there is room for it.
    pub(super) async fn send(&self, value: T, bytes: usize) -> Result<(), Closed> {
        let cost = u32::try_from(bytes.saturating_add(ENTRY_OVERHEAD_BYTES))
            .unwrap_or(u32::MAX)
            .min(self.bytes_max);
        let room = Arc::clone(&self.room)
            .acquire_many_owned(cost)
            .await
            .map_err(|_| Closed)?;
        self.push(value, Some(room))
    }

    /// Adds an entry at once, whether or not there is room. For what is rare and small.
    pub(super) fn send_now(&self, value: T) -> Result<(), Closed> {
        self.push(value, None)
    }

    /// Whether nobody takes entries out any more.
    pub(super) fn is_closed(&self) -> bool {
        self.entries.is_closed()
    }

    /// Waits until nobody takes entries out any more.
    pub(super) async fn closed(&self) {
        self.entries.closed().await;
    }

    fn push(&self, value: T, room: Option<OwnedSemaphorePermit>) -> Result<(), Closed> {
        self.entries
            .send(Entry { value, _room: room })
            .map_err(|_| Closed)
    }
}

impl<T> Receiver<T> {
    /// Takes the next entry out. `None` when all senders are gone. Safe to cancel.
    pub(super) async fn recv(&mut self) -> Option<T> {
        self.entries.recv().await.map(|entry| entry.value)
    }

    /// Takes the next entry out if there is one now.
    pub(super) fn try_recv(&mut self) -> Option<T> {
        self.entries.try_recv().ok().map(|entry| entry.value)
    }
}

impl<T> Drop for Receiver<T> {
    fn drop(&mut self) {
        self.room.close();
    }
}

impl<T> fmt::Debug for Sender<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let free = self.room.available_permits();
        write!(f, "Sender({free} of {} bytes free)", self.bytes_max)
    }
}

impl<T> fmt::Debug for Receiver<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Receiver({} entries)", self.entries.len())
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt as _;

    use super::*;

    #[tokio::test]
    async fn a_full_queue_makes_its_sender_wait() {
        let (sender, mut receiver) = byte_queue(200);
        sender.send(1, 100).await.unwrap();
        let mut second = Box::pin(sender.send(2, 100));
        assert!((&mut second).now_or_never().is_none(), "there is no room");
        assert_eq!(receiver.recv().await, Some(1));
        second.await.unwrap();
        assert_eq!(receiver.try_recv(), Some(2));
        assert_eq!(receiver.try_recv(), None);
    }

    #[tokio::test]
    async fn an_entry_larger_than_the_queue_passes_alone() {
        let (sender, mut receiver) = byte_queue(200);
        sender.send(1, 1 << 40).await.unwrap();
        assert!(sender.send(2, 0).now_or_never().is_none());
        sender.send_now(3).unwrap();
        assert_eq!(receiver.recv().await, Some(1));
        assert_eq!(receiver.recv().await, Some(3));
    }

    #[tokio::test]
    async fn senders_learn_that_the_receiver_is_gone() {
        let (sender, receiver) = byte_queue(100);
        sender.send(1, 100).await.unwrap();
        let waiting = sender.send(2, 100);
        drop(receiver);
        assert_eq!(waiting.await, Err(Closed));
        assert_eq!(sender.send_now(3), Err(Closed));
        assert!(sender.is_closed());
    }
}

//! The way out to a client whose transport is HTTP requests: it has no socket here, so what is sent to it waits in an outlet until the
//! control plane takes it.
//!
//! Written by the shard, read by the control plane. What waits are whole hub messages, without any framing of a transport. Bounded like the
//! outbox of a socket: a client that does not take what is sent to it is closed as a slow consumer.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use tokio::sync::Notify;

/// See the module.
#[derive(Debug, Default)]
pub struct Outlet {
    queue: Mutex<Queue>,
    /// Something has been added, or the end has come.
    changed: Notify,
}

#[derive(Debug, Default)]
struct Queue {
    messages: VecDeque<Bytes>,
    bytes: usize,
    has_ended: bool,
}

/// What there is for a client at one moment.
#[derive(Debug, PartialEq, Eq)]
pub enum Taken {
    /// All that waited, in order. Never empty.
    Messages(VecDeque<Bytes>),
    /// Nothing yet.
    Nothing,
    /// Nothing, and nothing will come.
    Ended,
}

impl Outlet {
    /// Takes all that waits.
    pub fn take(&self) -> Taken {
        let mut queue = self.queue();
        if queue.messages.is_empty() {
            return if queue.has_ended {
                Taken::Ended
            } else {
                Taken::Nothing
            };
        }
        queue.bytes = 0;
        Taken::Messages(std::mem::take(&mut queue.messages))
    }

    /// Waits until there is something to take, or the end has come. Several may wait; all are woken.
    pub async fn is_ready(&self) {
        loop {
            let changed = self.changed.notified();
            tokio::pin!(changed);
            // Before the look, or a change between the two would be missed.
            changed.as_mut().enable();
            {
                let queue = self.queue();
                if queue.has_ended || !queue.messages.is_empty() {
                    return;
                }
            }
            changed.await;
        }
    }

    /// Adds a whole hub message, or several. Returns how many bytes had been waiting before. After the end nothing is added.
    pub(crate) fn push(&self, message: Bytes) -> usize {
        let mut queue = self.queue();
        let waiting = queue.bytes;
        if !queue.has_ended {
            queue.bytes += message.len();
            queue.messages.push_back(message);
            drop(queue);
            self.changed.notify_waiters();
        }
        waiting
    }

    /// Nothing more will come. What waits can still be taken.
    pub(crate) fn end(&self) {
        self.queue().has_ended = true;
        self.changed.notify_waiters();
    }

    /// Nothing more will come, and what waits is dropped.
    pub(crate) fn abort(&self) {
        *self.queue() = Queue {
            has_ended: true,
            ..Queue::default()
        };
        self.changed.notify_waiters();
    }

    fn queue(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

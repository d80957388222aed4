//! The way out to a client whose transport is HTTP requests: it has no socket here, so what is sent to it waits in an outlet until the
//! control plane takes it.
//!
//! Written by the shard, read by the control plane. What waits are whole hub messages, without any framing of a transport. Bounded like the
//! outbox of a socket: a client that does not take what is sent to it is closed as a slow consumer.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use tokio::sync::Notify;

use crate::limits::OUTLET_MESSAGE_OVERHEAD_BYTES;

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
    /// What waits counts for.
    bytes: usize,
    has_ended: bool,
}

/// What there is for a client at one moment.
#[derive(Debug, PartialEq, Eq)]
pub enum Taken {
    /// What waited, in order. Never empty.
    Messages(VecDeque<Bytes>),
    /// Nothing yet.
    Nothing,
    /// Nothing, and nothing will come.
    Ended,
}

impl Outlet {
    /// Takes what waits, in order: all of it, or only so much that `bytes_max` are reached.
    pub fn take(&self, bytes_max: usize) -> Taken {
        let mut queue = self.queue();
        if queue.messages.is_empty() {
            return if queue.has_ended {
                Taken::Ended
            } else {
                Taken::Nothing
            };
        }
        if queue.bytes <= bytes_max {
            queue.bytes = 0;
            return Taken::Messages(std::mem::take(&mut queue.messages));
        }
        let mut messages = VecDeque::new();
        let mut bytes = 0;
        while bytes < bytes_max
            && let Some(message) = queue.messages.pop_front()
        {
            bytes += weight(&message);
            messages.push_back(message);
        }
        queue.bytes -= bytes;
        Taken::Messages(messages)
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

    /// Adds a whole hub message, or several. Returns how much had been waiting before: bytes, and something for each message. After the
    /// end nothing is added, and nothing waits.
    pub(crate) fn push(&self, message: Bytes) -> usize {
        let mut queue = self.queue();
        if queue.has_ended {
            return 0;
        }
        let waiting = queue.bytes;
        queue.bytes += weight(&message);
        queue.messages.push_back(message);
        drop(queue);
        self.changed.notify_waiters();
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

/// What a message that waits counts for.
fn weight(message: &Bytes) -> usize {
    message.len() + OUTLET_MESSAGE_OVERHEAD_BYTES
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::thread;
    use std::time::Duration;

    use futures_util::FutureExt as _;
    use futures_util::future::join_all;

    use super::*;

    fn messages(outlet: &Outlet) -> Vec<Bytes> {
        match outlet.take(usize::MAX) {
            Taken::Messages(messages) => messages.into(),
            Taken::Nothing | Taken::Ended => Vec::new(),
        }
    }

    #[test]
    fn what_waits_is_taken_at_once_and_in_order() {
        let outlet = Outlet::default();
        assert_eq!(outlet.take(usize::MAX), Taken::Nothing);
        for message in ["one", "two"] {
            outlet.push(message.into());
        }
        assert_eq!(messages(&outlet), ["one", "two"]);
        assert_eq!(outlet.take(usize::MAX), Taken::Nothing);
        outlet.push("three".into());
        assert_eq!(messages(&outlet), ["three"]);
    }

    #[test]
    fn no_more_is_taken_than_is_asked_for() {
        let outlet = Outlet::default();
        for message in ["one", "two", "three"] {
            outlet.push(message.into());
        }
        let two = 2 * (3 + OUTLET_MESSAGE_OVERHEAD_BYTES);
        for (bytes_max, expected) in [(two - 1, &["one", "two"][..]), (1, &["three"])] {
            let Taken::Messages(messages) = outlet.take(bytes_max) else {
                panic!("something waits");
            };
            assert_eq!(messages, expected);
        }
        assert_eq!(outlet.push("four".into()), 0, "nothing waits");
    }

    #[test]
    fn it_is_told_how_much_had_been_waiting() {
        let outlet = Outlet::default();
        assert_eq!(outlet.push("four".into()), 0);
        let four = 4 + OUTLET_MESSAGE_OVERHEAD_BYTES;
        assert_eq!(outlet.push(Bytes::new()), four);
        assert_eq!(
            outlet.push("x".into()),
            four + OUTLET_MESSAGE_OVERHEAD_BYTES
        );
        assert_eq!(messages(&outlet).len(), 3);
        assert_eq!(outlet.push("again".into()), 0);
    }

    #[test]
    fn what_came_before_the_end_is_taken_before_it() {
        let outlet = Outlet::default();
        outlet.push("last words".into());
        outlet.end();
        outlet.push("too late".into());
        outlet.end();
        assert_eq!(messages(&outlet), ["last words"]);
        assert_eq!(
            (outlet.take(usize::MAX), outlet.take(usize::MAX)),
            (Taken::Ended, Taken::Ended)
        );
    }

    #[test]
    fn an_abort_drops_what_waits_and_is_not_undone_by_an_end() {
        let outlet = Outlet::default();
        outlet.push("lost".into());
        outlet.abort();
        outlet.end();
        assert_eq!(outlet.push("too late".into()), 0);
        assert_eq!(outlet.take(usize::MAX), Taken::Ended);
    }

    #[tokio::test]
    async fn all_who_wait_are_woken_whatever_happens() {
        let changes: [fn(&Outlet); 3] = [
            |outlet| {
                outlet.push("something".into());
            },
            Outlet::end,
            Outlet::abort,
        ];
        for change in changes {
            let outlet = Outlet::default();
            let waiting = join_all((0..3).map(|_| outlet.is_ready()));
            tokio::pin!(waiting);
            assert!(waiting.as_mut().now_or_never().is_none());
            change(&outlet);
            assert!(waiting.now_or_never().is_some());
            assert!(outlet.is_ready().now_or_never().is_some(), "it stays so");
        }
    }

    #[tokio::test]
    async fn who_comes_late_to_what_another_has_taken_waits_on() {
        let outlet = Outlet::default();
        let waiting = outlet.is_ready();
        tokio::pin!(waiting);
        assert!(waiting.as_mut().now_or_never().is_none());
        outlet.push("for one".into());
        assert_eq!(messages(&outlet), ["for one"]);
        assert!(waiting.as_mut().now_or_never().is_none());
        outlet.end();
        assert!(waiting.now_or_never().is_some());
    }

    /// Readers wait and take while another thread writes; none may sleep over a message or the end.
    #[test]
    fn nothing_is_missed_by_readers_on_other_threads() {
        const MESSAGES: usize = 50_000;
        const READERS: usize = 3;
        let outlet = Arc::new(Outlet::default());
        let taken = Arc::new(AtomicUsize::new(0));
        let readers: Vec<_> = (0..READERS)
            .map(|_| {
                let (outlet, taken) = (Arc::clone(&outlet), Arc::clone(&taken));
                thread::spawn(move || read_to_the_end(&outlet, &taken))
            })
            .collect();
        for number in 0..MESSAGES {
            outlet.push(number.to_le_bytes().to_vec().into());
            if number % 64 == 0 {
                // So that the readers run dry now and then.
                thread::yield_now();
            }
        }
        // With more to come they must have got all that there is.
        let started = std::time::Instant::now();
        while taken.load(Ordering::Relaxed) < MESSAGES {
            assert!(started.elapsed() < Duration::from_secs(20), "slept over it");
            thread::yield_now();
        }
        outlet.end();
        let mut numbers: Vec<usize> = Vec::new();
        for reader in readers {
            let read = reader.join().unwrap();
            assert!(read.is_sorted(), "each reader sees them in order");
            numbers.extend(read);
        }
        numbers.sort_unstable();
        assert!(numbers.into_iter().eq(0..MESSAGES));
    }

    fn read_to_the_end(outlet: &Outlet, taken: &AtomicUsize) -> Vec<usize> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .build()
            .unwrap();
        let mut numbers = Vec::new();
        loop {
            runtime.block_on(outlet.is_ready());
            match outlet.take(usize::MAX) {
                Taken::Messages(messages) => {
                    taken.fetch_add(messages.len(), Ordering::Relaxed);
                    numbers.extend(
                        messages.iter().map(|message| {
                            usize::from_le_bytes(message.as_ref().try_into().unwrap())
                        }),
                    );
                }
                // Another reader was quicker.
                Taken::Nothing => {}
                Taken::Ended => return numbers,
            }
        }
    }
}

//! The only way into a shard from another thread.
//!
//! A bounded queue with one reader. Whoever posts signals the shard only if it sleeps, so a busy shard is not disturbed by a
//! system call for each mail. Two rules keep a wake-up from being lost: the reader says that it sleeps *before* it looks a last time
//! whether there is mail, and the poster puts its mail in *before* it looks whether the reader sleeps.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering, fence};

use crossbeam_channel::{Receiver, Sender, TrySendError, bounded};

use crate::id::ShardId;

/// How a waiting reader is woken. The real one is an eventfd; tests use their own.
pub trait Signal {
    /// Wakes the reader.
    fn signal(&self);
}

/// The reader's end.
#[derive(Debug)]
pub struct Mailbox<T> {
    mails: Receiver<T>,
    asleep: Arc<AtomicBool>,
}

/// A poster's end.
#[derive(Debug)]
pub struct Postbox<T, S> {
    mails: Sender<T>,
    asleep: Arc<AtomicBool>,
    signal: S,
}

impl<T, S: Clone> Clone for Postbox<T, S> {
    fn clone(&self) -> Self {
        Self {
            mails: self.mails.clone(),
            asleep: Arc::clone(&self.asleep),
            signal: self.signal.clone(),
        }
    }
}

/// Makes a mailbox for `depth` mails.
pub fn mailbox<T, S: Signal>(depth: usize, signal: S) -> (Postbox<T, S>, Mailbox<T>) {
    let (sender, receiver) = bounded(depth);
    let asleep = Arc::new(AtomicBool::new(false));
    (
        Postbox {
            mails: sender,
            asleep: Arc::clone(&asleep),
            signal,
        },
        Mailbox {
            mails: receiver,
            asleep,
        },
    )
}

impl<T, S: Signal> Postbox<T, S> {
    /// Posts a mail, or gives it back when there is no room.
    pub fn post(&self, mail: T) -> Result<(), T> {
        match self.mails.try_send(mail) {
            Ok(()) => {
                fence(Ordering::SeqCst);
                if self.asleep.load(Ordering::SeqCst) && self.asleep.swap(false, Ordering::SeqCst) {
                    self.signal.signal();
                }
                Ok(())
            }
            // A reader that is gone takes its mail with it: the shard has ended, and so does the process.
            Err(TrySendError::Disconnected(_)) => Ok(()),
            Err(TrySendError::Full(mail)) => Err(mail),
        }
    }
}

impl<T> Mailbox<T> {
    /// The next mail, if there is one.
    pub fn take(&self) -> Option<T> {
        self.mails.try_recv().ok()
    }

    /// Mails that wait.
    pub fn depth(&self) -> usize {
        self.mails.len()
    }

    /// Says that the reader is about to wait for its signal. False if there is mail after all and it must not wait.
    pub fn sleep(&self) -> bool {
        self.asleep.store(true, Ordering::SeqCst);
        fence(Ordering::SeqCst);
        if self.mails.is_empty() {
            return true;
        }
        self.wake();
        false
    }

    /// Says that the reader is at work and need not be signalled.
    pub fn wake(&self) {
        self.asleep.store(false, Ordering::SeqCst);
    }
}

/// One postbox for each shard.
pub type Postboxes<T, S> = Arc<[Postbox<T, S>]>;

/// The postbox of a shard.
pub fn postbox_of<T, S>(postboxes: &Postboxes<T, S>, shard: ShardId) -> Option<&Postbox<T, S>> {
    postboxes.get(shard.index())
}

#[cfg(test)]
mod tests {
    use std::sync::{Condvar, Mutex};
    use std::time::Duration;

    use super::*;

    /// Stands in for the eventfd: signals add up until they are waited for.
    #[derive(Clone, Default)]
    struct Bell(Arc<(Mutex<u64>, Condvar)>);

    impl Signal for Bell {
        fn signal(&self) {
            *self.0.0.lock().unwrap() += 1;
            self.0.1.notify_one();
        }
    }

    impl Bell {
        /// Whether a signal came in time.
        fn wait(&self) -> bool {
            let guard = self.0.0.lock().unwrap();
            let (mut signals, timeout) = self
                .0
                .1
                .wait_timeout_while(guard, Duration::from_secs(20), |signals| *signals == 0)
                .unwrap();
            *signals = 0;
            !timeout.timed_out()
        }
    }

    /// Many posters, one reader that sleeps whenever it can. Each mail has to arrive once, in its poster's order, without the reader
    /// ever sleeping over mail.
    #[test]
    fn no_wake_up_is_lost_and_each_posters_order_is_kept() {
        const POSTERS: usize = 4;
        const MAILS: usize = 50_000;
        let bell = Bell::default();
        let (postbox, mailbox) = mailbox::<(usize, usize), _>(64, bell.clone());
        let mut sleeps = 0_u64;
        std::thread::scope(|scope| {
            for poster in 0..POSTERS {
                let postbox = postbox.clone();
                scope.spawn(move || {
                    for number in 0..MAILS {
                        let mut mail = (poster, number);
                        while let Err(back) = postbox.post(mail) {
                            mail = back;
                            std::thread::yield_now();
                        }
                        if number % 97 == 0 {
                            std::thread::yield_now();
                        }
                    }
                });
            }
            let mut next = [0; POSTERS];
            while next.iter().sum::<usize>() < POSTERS * MAILS {
                match mailbox.take() {
                    Some((poster, number)) => {
                        assert_eq!(number, next[poster], "poster {poster} out of order");
                        next[poster] += 1;
                    }
                    None if mailbox.sleep() => {
                        sleeps += 1;
                        assert!(bell.wait(), "slept over mail: {next:?}");
                        mailbox.wake();
                    }
                    None => {}
                }
            }
        });
        assert!(sleeps > 0, "the reader never slept, so nothing was tested");
    }

    #[test]
    fn a_full_mailbox_gives_the_mail_back() {
        let (postbox, mailbox) = mailbox(2, Bell::default());
        assert_eq!(postbox.post(1), Ok(()));
        assert_eq!(postbox.post(2), Ok(()));
        assert_eq!(postbox.post(3), Err(3));
        assert_eq!(mailbox.take(), Some(1));
        assert_eq!(postbox.post(3), Ok(()));
        assert_eq!(
            (mailbox.take(), mailbox.take(), mailbox.take()),
            (Some(2), Some(3), None)
        );
    }
}

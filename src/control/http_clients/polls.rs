//! The polls of one client: which of them is served, and for how long there has been none.
//!
//! The newest poll wins. An older one that still waits ends without a message, and only then does the newer one look for some: what
//! waits for the client goes to one of them, in order.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use tokio::sync::{Notify, OwnedMutexGuard};

use crate::shard::outlet::{Outlet, Taken};

/// See the module.
#[derive(Debug)]
pub(crate) struct Polls {
    state: Mutex<State>,
    /// A newer poll has come.
    superseded: Notify,
    /// Held by the poll that looks for messages, until they have been sent.
    turn: Arc<tokio::sync::Mutex<()>>,
}

#[derive(Debug)]
struct State {
    /// How many polls have come.
    newest: u64,
    /// How many of them are not over.
    open: usize,
    /// When the last one was over.
    idle_since: Instant,
}

/// The right to look for messages.
pub(super) type Turn = OwnedMutexGuard<()>;

/// What a poll is answered with.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Answer {
    /// All that waited, in order.
    Messages(Vec<Bytes>),
    /// There was nothing for as long as a poll may take.
    Nothing,
    /// A newer poll has come.
    Superseded,
    /// There will be nothing any more.
    Ended,
}

impl Polls {
    pub(super) fn new(now: Instant) -> Self {
        Self {
            state: Mutex::new(State {
                newest: 0,
                open: 0,
                idle_since: now,
            }),
            superseded: Notify::new(),
            turn: Arc::default(),
        }
    }

    /// A poll has come. Its number; for as long as it is not [ended](Self::end), the client is there.
    pub(super) fn begin(&self) -> u64 {
        let mut state = self.state();
        state.newest += 1;
        state.open += 1;
        let number = state.newest;
        drop(state);
        self.superseded.notify_waiters();
        number
    }

    /// A poll is over: it has been answered, or nobody waits for its answer any more.
    pub(super) fn end(&self, now: Instant) {
        let mut state = self.state();
        state.open -= 1;
        if state.open == 0 {
            state.idle_since = now;
        }
    }

    /// For how long there has been no poll, if there is none.
    pub(super) fn idle_time(&self, now: Instant) -> Option<Duration> {
        let state = self.state();
        (state.open == 0).then(|| now.saturating_duration_since(state.idle_since))
    }

    /// Waits for an answer to a poll, but not longer than `timeout`. If it is given up, nothing is lost.
    ///
    /// With messages comes the turn, which is to be held until they have been sent: or a client could have any number of answers on their
    /// way by asking again and again.
    pub(super) async fn answer(
        &self,
        number: u64,
        outlet: &Outlet,
        timeout: Duration,
    ) -> (Answer, Option<Turn>) {
        let wait = async {
            let turn = Arc::clone(&self.turn).lock_owned().await;
            loop {
                outlet.is_ready().await;
                if self.state().newest != number {
                    return (Answer::Superseded, None);
                }
                match outlet.take(usize::MAX) {
                    Taken::Messages(messages) => {
                        return (Answer::Messages(messages.into()), Some(turn));
                    }
                    Taken::Nothing => {}
                    Taken::Ended => return (Answer::Ended, None),
                }
            }
        };
        tokio::select! {
            biased;
            () = self.is_superseded(number) => (Answer::Superseded, None),
            answer = wait => answer,
            () = tokio::time::sleep(timeout) => (Answer::Nothing, None),
        }
    }

    async fn is_superseded(&self, number: u64) {
        loop {
            let superseded = self.superseded.notified();
            tokio::pin!(superseded);
            // Before the look, or a poll that comes between the two would be missed.
            superseded.as_mut().enable();
            if self.state().newest != number {
                return;
            }
            superseded.await;
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::limits::POLL_TIMEOUT;

    struct Scene {
        polls: Polls,
        outlet: Outlet,
    }

    impl Scene {
        fn new() -> Arc<Self> {
            Arc::new(Self {
                polls: Polls::new(Instant::now()),
                outlet: Outlet::default(),
            })
        }

        /// Begins a poll that waits for its answer on its own.
        fn poll(self: &Arc<Self>) -> tokio::task::JoinHandle<Answer> {
            let (scene, number) = (Arc::clone(self), self.polls.begin());
            tokio::spawn(async move {
                let answer = scene.polls.answer(number, &scene.outlet, POLL_TIMEOUT);
                let (answer, _turn) = answer.await;
                scene.polls.end(Instant::now());
                answer
            })
        }
    }

    fn messages(texts: &[&'static str]) -> Answer {
        Answer::Messages(texts.iter().map(|text| Bytes::from(*text)).collect())
    }

    #[tokio::test]
    async fn a_poll_gets_all_that_waits() {
        let scene = Scene::new();
        scene.outlet.push(Bytes::from("a"));
        scene.outlet.push(Bytes::from("b"));
        assert_eq!(scene.poll().await.unwrap(), messages(&["a", "b"]));
        let poll = scene.poll();
        tokio::task::yield_now().await;
        scene.outlet.push(Bytes::from("c"));
        assert_eq!(poll.await.unwrap(), messages(&["c"]));
    }

    #[tokio::test]
    async fn a_poll_with_nothing_to_say_ends_in_time() {
        let scene = Scene::new();
        let number = scene.polls.begin();
        let answer = scene
            .polls
            .answer(number, &scene.outlet, Duration::from_millis(5))
            .await
            .0;
        assert_eq!(answer, Answer::Nothing);
    }

    #[tokio::test]
    async fn what_waits_is_fetched_before_the_end_is_told() {
        let scene = Scene::new();
        scene.outlet.push(Bytes::from("bye"));
        scene.outlet.end();
        assert_eq!(scene.poll().await.unwrap(), messages(&["bye"]));
        assert_eq!(scene.poll().await.unwrap(), Answer::Ended);
        let waiting = Scene::new();
        let poll = waiting.poll();
        tokio::task::yield_now().await;
        waiting.outlet.abort();
        assert_eq!(poll.await.unwrap(), Answer::Ended);
    }

    #[tokio::test]
    async fn the_newest_poll_wins() {
        let scene = Scene::new();
        let polls = [scene.poll(), scene.poll()];
        tokio::task::yield_now().await;
        let newest = scene.poll();
        for older in polls {
            assert_eq!(older.await.unwrap(), Answer::Superseded);
        }
        scene.outlet.push(Bytes::from("a"));
        assert_eq!(newest.await.unwrap(), messages(&["a"]));
    }

    /// Its answer may take long to be sent, and holds a place that no other answer of the client gets.
    #[tokio::test]
    async fn who_has_messages_to_send_keeps_the_turn() {
        let scene = Scene::new();
        scene.outlet.push(Bytes::from("a"));
        let first = scene.polls.begin();
        let answering = scene.polls.answer(first, &scene.outlet, POLL_TIMEOUT);
        let (answer, turn) = answering.await;
        assert_eq!(answer, messages(&["a"]));
        scene.outlet.push(Bytes::from("b"));
        let second = scene.poll();
        for _ in 0..10 {
            tokio::task::yield_now().await;
        }
        assert!(!second.is_finished(), "the first answer has not been sent");
        drop(turn);
        assert_eq!(second.await.unwrap(), messages(&["b"]));
    }

    /// Two polls at a time while messages come, and the newer one is given up now and then. Each message arrives once, in order.
    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn messages_are_neither_lost_nor_doubled_between_polls() {
        const MESSAGES: usize = 20_000;
        let scene = Scene::new();
        let shard = Arc::clone(&scene);
        let pushing = std::thread::spawn(move || {
            for number in 0..MESSAGES {
                shard.outlet.push(Bytes::from(number.to_string()));
                std::thread::yield_now();
            }
            shard.outlet.end();
        });
        let (mut heard, mut superseded, mut given_up, mut has_ended) = (Vec::new(), 0, 0, false);
        for round in 0.. {
            let older = scene.poll();
            let newer = scene.polls.begin();
            let (older, newer) = tokio::join!(older, async {
                tokio::select! {
                    biased;
                    answer = scene.polls.answer(newer, &scene.outlet, POLL_TIMEOUT) => Some(answer.0),
                    () = yield_now(round % 5) => None,
                }
            });
            scene.polls.end(Instant::now());
            for answer in [Some(older.unwrap()), newer] {
                match answer {
                    Some(Answer::Messages(messages)) => heard.extend(messages),
                    Some(Answer::Superseded) => superseded += 1,
                    Some(Answer::Ended) => has_ended = true,
                    Some(Answer::Nothing) => panic!("a message was not noticed"),
                    None => given_up += 1,
                }
            }
            if has_ended {
                break;
            }
        }
        pushing.join().unwrap();
        let expected: Vec<Bytes> = (0..MESSAGES)
            .map(|number| Bytes::from(number.to_string()))
            .collect();
        assert!(heard == expected, "{} of {MESSAGES}", heard.len());
        assert!(superseded > 0 && given_up > 0, "{superseded} {given_up}");
    }

    async fn yield_now(times: usize) {
        for _ in 0..times {
            tokio::task::yield_now().await;
        }
    }

    #[test]
    fn a_client_is_idle_while_no_poll_is_open() {
        let start = Instant::now();
        let after = |seconds| start + Duration::from_secs(seconds);
        let polls = Polls::new(start);
        assert_eq!(polls.idle_time(after(14)), Some(Duration::from_secs(14)));
        polls.begin();
        polls.begin();
        assert_eq!(polls.idle_time(after(100)), None);
        polls.end(after(100));
        assert_eq!(polls.idle_time(after(120)), None);
        polls.end(after(130));
        assert_eq!(polls.idle_time(after(145)), Some(Duration::from_secs(15)));
    }
}

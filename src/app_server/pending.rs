//! What this process has asked and still waits for: acks from the service, and results from clients.
//!
//! Both are process-wide, because the service may answer on any server connection. An entry lives exactly as long as somebody
//! waits for it: dropping the wait takes the entry out, so nothing piles up. An answer that nobody waits for is ignored.

use std::collections::HashMap;
use std::sync::atomic::{AtomicI32, AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::oneshot;

use super::lock::Lock;
use super::random;
use super::request::Answer;
use crate::protocol::hub::message::Value;
use crate::protocol::service::AckStatus;

/// Requests that the service acknowledges.
#[derive(Debug, Default)]
pub(super) struct Acks {
    last_id: AtomicI32,
    waiting: Lock<HashMap<i32, oneshot::Sender<AckAnswer>>>,
}

/// What the service acknowledges.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct AckAnswer {
    pub(super) status: AckStatus,
    pub(super) message: String,
    pub(super) payload: Option<Bytes>,
}

/// One request that the service has not acknowledged yet.
#[derive(Debug)]
pub(super) struct PendingAck<'a> {
    /// Goes with the request.
    pub(super) id: i32,
    acks: &'a Acks,
    answer: oneshot::Receiver<AckAnswer>,
}

/// Why a request was not carried out.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AckError {
    /// No answer came in time, or the service says that it took too long.
    #[error("the service did not acknowledge in time")]
    Timeout,
    /// The service has failed.
    #[error("the service failed: {message:?}")]
    Failed {
        /// What the service says about it.
        message: String,
    },
    /// The service does not allow it.
    #[error("the service does not allow this: {message:?}")]
    Forbidden {
        /// What the service says about it.
        message: String,
    },
    /// The service answers with a status that has no meaning here.
    #[error("the service answered with status {status}: {message:?}")]
    Unexpected {
        /// The number that the service gave.
        status: i32,
        /// What the service says about it.
        message: String,
    },
}

/// How long to wait for an ack, as the SDK does.
const ACK_TIMEOUT: Duration = Duration::from_secs(10);

impl Acks {
    /// Begins a wait. To be done before the request is sent.
    pub(super) fn begin(&self) -> PendingAck<'_> {
        let id = self.last_id.fetch_add(1, Ordering::Relaxed).wrapping_add(1);
        let (sender, answer) = oneshot::channel();
        self.waiting.with(|waiting| waiting.insert(id, sender));
        PendingAck {
            id,
            acks: self,
            answer,
        }
    }

    /// The service has answered.
    pub(super) fn complete(&self, id: i32, answer: AckAnswer) {
        if let Some(waiting) = self.waiting.with(|waiting| waiting.remove(&id)) {
            // An error means that the wait was given up just now.
            let _ = waiting.send(answer);
        }
    }
}

impl PendingAck<'_> {
    /// Waits for the answer: yes or no, and what comes with it. A server connection that is lost meanwhile does not end the wait:
    /// the service may answer on another one.
    pub(super) async fn wait(mut self) -> Result<Answer, AckError> {
        let Ok(Ok(AckAnswer {
            status,
            message,
            payload,
        })) = tokio::time::timeout(ACK_TIMEOUT, &mut self.answer).await
        else {
            return Err(AckError::Timeout);
        };
        let is_yes = match status {
            AckStatus::Ok => true,
            AckStatus::NotFound => false,
            AckStatus::Timeout => return Err(AckError::Timeout),
            AckStatus::InternalServerError => return Err(AckError::Failed { message }),
            AckStatus::Forbidden => return Err(AckError::Forbidden { message }),
            AckStatus::Unrecognized(status) => {
                return Err(AckError::Unexpected { status, message });
            }
        };
        Ok(Answer { is_yes, payload })
    }
}

impl Drop for PendingAck<'_> {
    fn drop(&mut self) {
        self.acks.waiting.with(|waiting| waiting.remove(&self.id));
    }
}

/// Invocations of clients that shall give a result.
#[derive(Debug)]
pub(super) struct ClientResults {
    /// Tells the invocations of this process from those of any other.
    mark: String,
    last_number: AtomicU64,
    waiting: Lock<HashMap<String, WaitingResult>>,
    /// Invocations that another app server makes on clients of this one: invocation id → connection id.
    routed: Lock<HashMap<String, String>>,
}

#[derive(Debug)]
struct WaitingResult {
    connection_id: String,
    /// The service process that holds the client, where the service has named it.
    instance_id: Option<String>,
    /// Endpoints that were asked and have not said that the client is not theirs.
    endpoints: usize,
    answer: oneshot::Sender<ClientResult>,
}

/// What the client returned, or an error text.
pub(super) type ClientResult = Result<Value, String>;

/// One invocation of a client that has no result yet.
#[derive(Debug)]
pub(super) struct PendingResult<'a> {
    /// Goes with the invocation.
    pub(super) invocation_id: String,
    results: &'a ClientResults,
    answer: oneshot::Receiver<ClientResult>,
}

/// Invocations by other app servers that are remembered at most. Each lives until its client answers or leaves.
const ROUTED_MAX: usize = 100_000;

impl ClientResults {
    pub(super) fn new() -> Self {
        Self {
            mark: random::hex(),
            last_number: AtomicU64::new(0),
            waiting: Lock::default(),
            routed: Lock::default(),
        }
    }

    /// Begins a wait for a client of one of so many endpoints. To be done before the invocation is sent: a client on the same
    /// machine answers at once.
    pub(super) fn begin(&self, connection_id: &str, endpoints: usize) -> PendingResult<'_> {
        let number = self.last_number.fetch_add(1, Ordering::Relaxed) + 1;
        let invocation_id = format!("{connection_id}-{}-{number}", self.mark);
        let (sender, answer) = oneshot::channel();
        let waiting = WaitingResult {
            connection_id: connection_id.to_owned(),
            instance_id: None,
            endpoints,
            answer: sender,
        };
        self.waiting
            .with(|all| all.insert(invocation_id.clone(), waiting));
        PendingResult {
            invocation_id,
            results: self,
            answer,
        }
    }

    /// A result has come, said to be of the client `connection_id`. Tells whether anybody here has waited for it.
    pub(super) fn complete(
        &self,
        invocation_id: &str,
        connection_id: &str,
        result: ClientResult,
    ) -> bool {
        let waiting = self.waiting.with(|all| {
            // Only the client that was asked may answer.
            all.get(invocation_id)
                .is_some_and(|waiting| waiting.connection_id == connection_id)
                .then(|| all.remove(invocation_id))
                .flatten()
        });
        // An error of the send means that the wait was given up just now.
        waiting
            .map(|waiting| waiting.answer.send(result).is_ok())
            .is_some()
    }

    /// One of the endpoints has no result for us. While another may have one the wait goes on.
    pub(super) fn fail_one(&self, invocation_id: &str, connection_id: &str, error: &str) {
        let is_last = self.waiting.with(|all| {
            let waiting = all
                .get_mut(invocation_id)
                .filter(|waiting| waiting.connection_id == connection_id);
            waiting.is_some_and(|waiting| {
                waiting.endpoints = waiting.endpoints.saturating_sub(1);
                waiting.endpoints == 0
            })
        });
        if is_last {
            self.complete(invocation_id, connection_id, Err(error.to_owned()));
        }
    }

    /// The service says which of its processes holds the client that was asked.
    pub(super) fn map_instance(&self, invocation_id: &str, instance_id: &str) {
        self.waiting.with(|all| {
            if let Some(waiting) = all.get_mut(invocation_id) {
                waiting.instance_id = Some(instance_id.to_owned());
            }
        });
    }

    /// A client is gone: what it was asked fails.
    pub(super) fn fail_connection(&self, connection_id: &str) {
        self.fail_where(|waiting| waiting.connection_id == connection_id);
        self.routed
            .with(|routed| routed.retain(|_, connection| connection != connection_id));
    }

    /// A service process is gone, and with it the clients that it holds.
    pub(super) fn fail_instance(&self, instance_id: &str) {
        self.fail_where(|waiting| waiting.instance_id.as_deref() == Some(instance_id));
    }

    /// Another app server has asked a client of this one. Its answer has to go by way of the service.
    pub(super) fn route(&self, invocation_id: &str, connection_id: &str) {
        self.routed.with(|routed| {
            if routed.len() < ROUTED_MAX {
                routed.insert(invocation_id.to_owned(), connection_id.to_owned());
            }
        });
    }

    /// Whether the answer of this client is one that another app server waits for. True only once.
    pub(super) fn take_route(&self, invocation_id: &str, connection_id: &str) -> bool {
        self.routed.with(|routed| {
            let is_routed = routed
                .get(invocation_id)
                .is_some_and(|connection| connection == connection_id);
            is_routed && routed.remove(invocation_id).is_some()
        })
    }

    fn fail_where(&self, is_lost: impl Fn(&WaitingResult) -> bool) {
        let lost: Vec<_> = self
            .waiting
            .with(|all| all.extract_if(|_, waiting| is_lost(waiting)).collect());
        for (_, waiting) in lost {
            let text = format!("Connection '{}' is disconnected.", waiting.connection_id);
            let _ = waiting.answer.send(Err(text));
        }
    }
}

impl PendingResult<'_> {
    /// Waits for the result.
    pub(super) async fn wait(mut self) -> ClientResult {
        (&mut self.answer)
            .await
            .unwrap_or_else(|_| Err("The invocation was dropped.".to_owned()))
    }
}

impl Drop for PendingResult<'_> {
    fn drop(&mut self) {
        self.results
            .waiting
            .with(|all| all.remove(&self.invocation_id));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(status: AckStatus) -> AckAnswer {
        AckAnswer {
            status,
            message: "why".to_owned(),
            payload: None,
        }
    }

    #[tokio::test]
    async fn an_ack_reaches_the_one_who_waits() {
        let acks = Acks::default();
        let (first, second) = (acks.begin(), acks.begin());
        assert_eq!((first.id, second.id), (1, 2));
        acks.complete(2, answer(AckStatus::NotFound));
        acks.complete(1, answer(AckStatus::Ok));
        acks.complete(99, answer(AckStatus::Ok));
        assert!(first.wait().await.unwrap().is_yes);
        assert!(!second.wait().await.unwrap().is_yes);
    }

    #[tokio::test]
    async fn a_status_other_than_found_or_not_is_an_error() {
        let acks = Acks::default();
        let message = || "why".to_owned();
        for (status, error) in [
            (3, AckError::Timeout),
            (4, AckError::Failed { message: message() }),
            (5, AckError::Forbidden { message: message() }),
            (
                100,
                AckError::Unexpected {
                    status: 100,
                    message: message(),
                },
            ),
            (
                -1,
                AckError::Unexpected {
                    status: -1,
                    message: message(),
                },
            ),
        ] {
            let pending = acks.begin();
            acks.complete(pending.id, answer(AckStatus::from(status)));
            assert_eq!(pending.wait().await.unwrap_err(), error);
        }
    }

    #[tokio::test]
    async fn with_several_endpoints_the_last_error_counts_and_the_first_result() {
        let results = ClientResults::new();
        let pending = results.begin("a", 2);
        results.fail_one(&pending.invocation_id, "b", "of another client");
        results.fail_one(&pending.invocation_id, "a", "not here");
        assert!(results.complete(&pending.invocation_id, "a", Ok(1.into())));
        assert_eq!(pending.wait().await, Ok(1.into()));
        let pending = results.begin("a", 2);
        results.fail_one(&pending.invocation_id, "a", "not here");
        results.fail_one(&pending.invocation_id, "a", "nor here");
        assert_eq!(pending.wait().await, Err("nor here".into()));
    }

    #[test]
    fn whoever_gives_up_leaves_nothing_behind() {
        let (acks, results) = (Acks::default(), ClientResults::new());
        drop(acks.begin());
        drop(results.begin("a", 1));
        assert!(acks.waiting.with(|waiting| waiting.is_empty()));
        assert!(results.waiting.with(|waiting| waiting.is_empty()));
    }

    #[tokio::test]
    async fn only_the_client_that_was_asked_may_answer() {
        let results = ClientResults::new();
        let pending = results.begin("a", 1);
        let id = pending.invocation_id.clone();
        assert!(id.starts_with("a-") && id.ends_with("-1"));
        assert!(!results.complete(&id, "b", Ok(1.into())));
        assert!(results.complete(&id, "a", Ok(2.into())));
        assert!(!results.complete(&id, "a", Ok(3.into())));
        assert_eq!(pending.wait().await, Ok(2.into()));
    }

    #[tokio::test]
    async fn a_client_or_an_instance_that_is_gone_fails_what_it_was_asked() {
        let results = ClientResults::new();
        let (first, second) = (results.begin("a", 1), results.begin("b", 1));
        results.map_instance(&second.invocation_id, "i1");
        results.fail_instance("other");
        results.fail_connection("a");
        results.fail_instance("i1");
        assert_eq!(
            first.wait().await,
            Err("Connection 'a' is disconnected.".into())
        );
        assert_eq!(
            second.wait().await,
            Err("Connection 'b' is disconnected.".into())
        );
    }

    #[test]
    fn an_answer_for_another_app_server_is_routed_once() {
        let results = ClientResults::new();
        results.route("x", "a");
        assert!(!results.take_route("x", "b"));
        assert!(results.take_route("x", "a"));
        assert!(!results.take_route("x", "a"));
        results.route("y", "a");
        results.fail_connection("a");
        assert!(!results.take_route("y", "a"));
    }
}

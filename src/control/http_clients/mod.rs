//! Clients whose transport is HTTP requests, by their connection token.
//!
//! A client is on its shard like any other; here is what its requests have in common. It is here from the request that opens its transport
//! until it has left: a client on Server-Sent Events with its stream, one on long polling when it says so, when it has fetched
//! everything after its end, or when it has not polled for too long. Shards bound how many there are.

mod link;
mod polls;

use std::collections::HashMap;
use std::fmt;
use std::future::pending;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use tokio::sync::{OwnedMutexGuard, watch};
use tokio::time::timeout;

use self::link::Link;
pub(super) use self::polls::Answer;
use self::polls::{Polls, Turn};
use crate::counters::ControlCounters;
use crate::id::{ConnectionToken, HubName};
use crate::limits::{EVENTS_TAKEN_BYTES, POLL_INTERVAL_CHECK, POLL_TIMEOUT};
use crate::protocol::negotiate::Transport;
use crate::routing::NewClient;
use crate::shard::ShardPostbox;
use crate::shard::outlet::Taken;
use crate::shard::pending::TakeError;
use crate::shard::place::ClientPlace;

/// Time between looks at clients without a poll while the service stops.
const DRAIN_CHECK: Duration = Duration::from_millis(10);

/// See the module.
#[derive(Debug)]
pub struct HttpClients {
    table: Mutex<HashMap<ConnectionToken, Arc<HttpClient>>>,
    counters: Arc<ControlCounters>,
}

/// Who a client is, to the requests that follow the one that opened its transport.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Identity {
    pub(super) token: ConnectionToken,
    pub(super) hub: HubName,
    /// Whoever learns a token cannot use it as somebody else.
    pub(super) user: Option<Box<str>>,
}

/// One client.
pub(super) struct HttpClient {
    identity: Identity,
    transport: Transport,
    link: Link,
    /// Held by the request whose bytes are being passed on.
    posts: Arc<tokio::sync::Mutex<()>>,
    polls: Polls,
    poll_interval_max: Duration,
}

impl HttpClients {
    /// None, at first.
    pub fn new(counters: Arc<ControlCounters>) -> Self {
        Self {
            table: Mutex::default(),
            counters,
        }
    }

    /// The client of that identity, if it is here. An error if its token belongs to another hub or user.
    pub(super) fn get(&self, identity: &Identity) -> Result<Option<Arc<HttpClient>>, TakeError> {
        match self.table().get(&identity.token) {
            Some(client) if client.identity == *identity => Ok(Some(Arc::clone(client))),
            Some(_) => Err(TakeError::Unknown),
            None => Ok(None),
        }
    }

    /// Keeps a client until it is removed.
    pub(super) fn insert(&self, client: Arc<HttpClient>) {
        let replaced = self.table().insert(client.identity.token, client);
        debug_assert!(replaced.is_none(), "a token opens one connection");
    }

    /// The client has left.
    pub(super) fn remove(&self, client: &HttpClient) {
        // Dropped behind the lock.
        let _removed = self.table().remove(&client.identity.token);
        client.link.close();
    }

    /// Removes the clients on long polling that have not polled for too long. If the service stops, it does not answer another poll, and so
    /// any time without one is.
    fn remove_idle(&self, now: Instant, service_stops: bool) {
        let mut removed = Vec::new();
        self.table().retain(|_, client| {
            let idle_time = client.idle_time(now);
            let is_idle =
                idle_time.is_some_and(|time| service_stops || time > client.poll_interval_max);
            if is_idle {
                removed.push(Arc::clone(client));
            }
            !is_idle
        });
        for client in removed {
            self.counters.polls_missed.increment();
            tracing::debug!(hub = %client.identity.hub, "a client has not polled for too long");
            client.link.close();
        }
    }

    fn table(&self) -> MutexGuard<'_, HashMap<ConnectionToken, Arc<HttpClient>>> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Removes clients that do not poll any more, for ever.
pub async fn remove_idle_clients(
    clients: Arc<HttpClients>,
    mut is_draining: watch::Receiver<bool>,
) {
    loop {
        let service_stops = *is_draining.borrow_and_update();
        clients.remove_idle(Instant::now(), service_stops);
        if service_stops {
            // Shards wait for the last of them.
            tokio::time::sleep(DRAIN_CHECK).await;
        } else {
            let stops = async {
                // A service whose handle has been dropped goes on.
                if is_draining.changed().await.is_err() {
                    pending::<()>().await;
                }
            };
            let _ = timeout(POLL_INTERVAL_CHECK, stops).await;
        }
    }
}

impl HttpClient {
    /// Gives a client to its shard. None if the shard does not take it.
    ///
    /// Goes on if nobody waits for it any more: a client that its shard takes but that nobody asks for then would stay for ever.
    pub(super) async fn open(
        identity: Identity,
        poll_interval_max: Duration,
        postbox: ShardPostbox,
        new: NewClient,
        place: ClientPlace,
    ) -> Option<Arc<Self>> {
        let transport = new.transport;
        let opening = tokio::spawn(async move {
            let link = Link::open(postbox, new, place).await?;
            Some(Arc::new(Self {
                identity,
                transport,
                link,
                posts: Arc::default(),
                polls: Polls::new(Instant::now()),
                poll_interval_max,
            }))
        });
        opening.await.ok().flatten()
    }

    pub(super) fn transport(&self) -> Transport {
        self.transport
    }

    /// Waits until the requests that came earlier have passed on what they brought.
    pub(super) async fn turn_to_send(&self) -> OwnedMutexGuard<()> {
        Arc::clone(&self.posts).lock_owned().await
    }

    /// Passes on bytes from the client. An error if it is not there any more.
    ///
    /// The turn ends when the shard has taken them, even if nobody waits for it: or who does not wait could fill our memory.
    pub(super) async fn send(
        self: Arc<Self>,
        bytes: Vec<u8>,
        turn: OwnedMutexGuard<()>,
    ) -> Result<(), link::Gone> {
        let sending = tokio::spawn(async move {
            let sent = self.link.send(bytes).await;
            drop(turn);
            sent
        });
        sending.await.unwrap_or(Err(link::Gone))
    }

    /// The next messages for the client, in order. None if there will be none any more.
    pub(super) async fn next_messages(&self) -> Option<Vec<Bytes>> {
        loop {
            match self.link.outlet().take(EVENTS_TAKEN_BYTES) {
                Taken::Messages(messages) => return Some(messages.into()),
                Taken::Nothing => self.link.outlet().is_ready().await,
                Taken::Ended => return None,
            }
        }
    }

    /// A poll has come.
    pub(super) fn begin_poll(self: Arc<Self>) -> Poll {
        Poll {
            number: self.polls.begin(),
            client: self,
            turn: None,
        }
    }

    /// For how long the client has been without a poll, if it should have one.
    fn idle_time(&self, now: Instant) -> Option<Duration> {
        match self.transport {
            Transport::LongPolling => self.polls.idle_time(now),
            Transport::ServerSentEvents | Transport::WebSockets => None,
        }
    }
}

impl fmt::Debug for HttpClient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HttpClient")
            .field("transport", &self.transport)
            .field("link", &self.link)
            .finish_non_exhaustive()
    }
}

/// A poll that is not over. The client is not idle before it is dropped.
#[derive(Debug)]
pub(super) struct Poll {
    client: Arc<HttpClient>,
    number: u64,
    /// No other poll gets messages as long as this one has some.
    turn: Option<Turn>,
}

impl Poll {
    /// Waits for something to answer.
    pub(super) async fn answer(&mut self) -> Answer {
        let client = &self.client;
        let answering = client
            .polls
            .answer(self.number, client.link.outlet(), POLL_TIMEOUT);
        let (answer, turn) = answering.await;
        self.turn = turn;
        answer
    }

    pub(super) fn client(&self) -> &HttpClient {
        &self.client
    }
}

impl Drop for Poll {
    fn drop(&mut self) {
        self.client.polls.end(Instant::now());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::routing::SocketKey;
    use crate::shard::Delivery;
    use crate::shard::mailbox::{Mailbox, mailbox};
    use crate::shard::ring::wake::Wake;

    const INTERVAL: Duration = Duration::from_secs(15);

    fn clients() -> HttpClients {
        HttpClients::new(Arc::default())
    }

    fn identity(user: Option<&str>) -> Identity {
        Identity {
            token: ConnectionToken::new(7),
            hub: HubName::parse("chat").unwrap(),
            user: user.map(Into::into),
        }
    }

    fn client(transport: Transport) -> (Arc<HttpClient>, Mailbox<Delivery>) {
        let (postbox, mailbox) = mailbox(16, Wake::new().unwrap());
        let key = SocketKey {
            slot: 1,
            generation: 1,
        };
        let client = HttpClient {
            identity: identity(Some("alice")),
            transport,
            link: Link::new(postbox, key, Arc::default()),
            posts: Arc::default(),
            polls: Polls::new(Instant::now()),
            poll_interval_max: INTERVAL,
        };
        (Arc::new(client), mailbox)
    }

    fn is_closed(mailbox: &Mailbox<Delivery>) -> bool {
        matches!(mailbox.take(), Some(Delivery::HttpClosed(_)))
    }

    #[test]
    fn a_client_is_found_by_its_own_requests_only() {
        let (clients, (client, _mailbox)) = (clients(), client(Transport::LongPolling));
        clients.insert(Arc::clone(&client));
        let is_found = |identity| clients.get(&identity).map(|found| found.is_some());
        assert_eq!(is_found(identity(Some("alice"))), Ok(true));
        assert_eq!(is_found(identity(Some("bob"))), Err(TakeError::Unknown));
        assert_eq!(is_found(identity(None)), Err(TakeError::Unknown));
        let other_hub = Identity {
            hub: HubName::parse("other").unwrap(),
            ..identity(Some("alice"))
        };
        assert_eq!(is_found(other_hub), Err(TakeError::Unknown));
        clients.remove(&client);
        assert_eq!(is_found(identity(Some("alice"))), Ok(false));
    }

    #[test]
    fn a_client_that_does_not_poll_leaves() {
        let (clients, (polling, mailbox)) = (clients(), client(Transport::LongPolling));
        clients.insert(Arc::clone(&polling));
        let poll = Arc::clone(&polling).begin_poll();
        let late = || Instant::now() + INTERVAL + Duration::from_secs(1);
        clients.remove_idle(late(), false);
        assert!(!is_closed(&mailbox), "a poll is open");
        drop(poll);
        clients.remove_idle(Instant::now(), false);
        assert!(!is_closed(&mailbox), "it has time to poll again");
        clients.remove_idle(late(), false);
        assert!(is_closed(&mailbox));
        assert!(clients.get(&identity(Some("alice"))).unwrap().is_none());
    }

    #[test]
    fn a_client_that_cannot_poll_again_leaves() {
        let (clients, (polling, mailbox)) = (clients(), client(Transport::LongPolling));
        clients.insert(Arc::clone(&polling));
        let poll = polling.begin_poll();
        clients.remove_idle(Instant::now(), true);
        assert!(!is_closed(&mailbox), "a poll is open");
        drop(poll);
        clients.remove_idle(Instant::now(), true);
        assert!(is_closed(&mailbox));
    }

    #[test]
    fn a_client_with_a_stream_is_never_idle() {
        let (clients, (streaming, mailbox)) = (clients(), client(Transport::ServerSentEvents));
        clients.insert(streaming);
        for service_stops in [false, true] {
            clients.remove_idle(Instant::now() + 100 * INTERVAL, service_stops);
            assert!(!is_closed(&mailbox));
        }
    }

    /// The second request must not overtake the first, even if that is given up while its bytes wait to be taken.
    #[tokio::test]
    async fn requests_are_passed_on_one_after_the_other() {
        let (client, mailbox) = client(Transport::LongPolling);
        let turn = client.turn_to_send().await;
        let first = tokio::spawn(Arc::clone(&client).send(b"1".to_vec(), turn));
        let first_data = taken(&mailbox).await;
        first.abort();
        let second = tokio::spawn(async move {
            let turn = client.turn_to_send().await;
            client.send(b"2".to_vec(), turn).await
        });
        for _ in 0..20 {
            tokio::task::yield_now().await;
            assert!(mailbox.take().is_none(), "the first is not done");
        }
        assert_eq!(first_data.bytes, b"1");
        first_data.taken.send(()).unwrap();
        let second_data = taken(&mailbox).await;
        assert_eq!(second_data.bytes, b"2");
        second_data.taken.send(()).unwrap();
        assert_eq!(second.await.unwrap(), Ok(()));
    }

    async fn taken(mailbox: &Mailbox<Delivery>) -> crate::shard::HttpData {
        loop {
            match mailbox.take() {
                Some(Delivery::HttpData(data)) => return data,
                Some(other) => panic!("no data: {other:?}"),
                None => tokio::task::yield_now().await,
            }
        }
    }
}

//! What a shard does for clients without a socket, without anything at the other end.

use std::collections::VecDeque;

use tokio::sync::mpsc;
use tokio::sync::oneshot::error::TryRecvError;

use super::*;
use crate::config::ServiceConfig;
use crate::counters::Counters;
use crate::id::{ConnectionId, HubName, ShardId};
use crate::limits::HUB_HANDSHAKE_TIMEOUT;
use crate::protocol::negotiate::Transport;
use crate::shard::admission::gate::{Gate, Sockets};
use crate::shard::directory::{Directory, HubEntry};
use crate::shard::mailbox::{Mailbox, mailbox};
use crate::shard::outlet::Taken;
use crate::shard::ring::wake::Wake;
use crate::shard::{Delivery, Environment};

const REFUSAL: &str =
    "{\"error\":\"An unexpected error occurred during connection handshake.\"}\u{1e}";

/// A shard that is turned by hand.
struct Stage {
    shard: Shard,
    hub: Arc<HubEntry>,
    counters: Arc<Counters>,
    now: Instant,
}

impl Stage {
    fn new() -> Self {
        let wake = Wake::new().unwrap();
        let (postbox, mailbox): (_, Mailbox<Delivery>) = mailbox(16, wake.clone());
        let gate = Gate {
            instance_id: "instance".into(),
            keys: ServiceConfig::default().token_keys(),
            pending: Arc::default(),
            sockets: Arc::new(Sockets::new(16)),
            trust_forwarded_for: false,
            stateful_reconnect: false,
            control: mpsc::channel(1).0,
        };
        let environment = Environment {
            shard: ShardId(0),
            core: None,
            postboxes: Arc::new([postbox]),
            directory: Arc::new(Directory::new(1)),
            counters: Arc::default(),
            gate: Arc::new(gate),
            park_on_drop: None,
            failed: mpsc::unbounded_channel().0,
        };
        let hub = HubName::parse("chat").unwrap();
        Self {
            shard: Shard::new(&environment, mailbox, wake).unwrap(),
            hub: environment.directory.hub(&hub).unwrap(),
            counters: environment.counters,
            now: Instant::now(),
        }
    }

    /// A client that asks to be taken in, its outlet, and what it is told.
    fn asking(
        &self,
    ) -> (
        AdmittedHttpClient,
        Arc<Outlet>,
        oneshot::Receiver<SocketKey>,
    ) {
        let (adopted, answer) = oneshot::channel();
        let outlet: Arc<Outlet> = Arc::default();
        let client = AdmittedHttpClient {
            new: NewClient {
                id: ConnectionId::new(ShardId(0), 7),
                hub: self.hub.id,
                user: None,
                server: None,
                required_server_id: None,
                open_body: Vec::new(),
                handshake_timeout: HUB_HANDSHAKE_TIMEOUT,
                transport: Transport::LongPolling,
                is_stateful: false,
                expiry: None,
            },
            place: ClientPlace::new(Arc::clone(&self.hub), ShardId(0), None, None),
            outlet: Arc::clone(&outlet),
            adopted,
        };
        (client, outlet, answer)
    }

    fn client(&mut self) -> (SocketKey, Arc<Outlet>) {
        let (client, outlet, mut answer) = self.asking();
        self.shard.adopt_http_client(client, self.now);
        (answer.try_recv().unwrap(), outlet)
    }

    /// What a client says, and whether it has been taken.
    fn say(&mut self, client: SocketKey, bytes: &[u8]) -> oneshot::Receiver<()> {
        let (taken, answer) = oneshot::channel();
        let data = HttpData {
            client,
            bytes: bytes.to_vec(),
            taken,
        };
        self.shard.on_http_data(data, self.now);
        answer
    }

    /// How many clients are counted anywhere.
    fn counts(&self) -> [u64; 3] {
        [
            u64::from(self.hub.client_count()),
            self.counters.client_connections.value(),
            self.counters.http_clients.value(),
        ]
    }
}

#[test]
fn a_client_is_counted_from_when_it_is_taken_in_until_it_has_gone() {
    let mut stage = Stage::new();
    let (client, outlet) = stage.client();
    assert_eq!(stage.counts(), [1, 1, 1]);
    stage.shard.on_http_closed(client, stage.now);
    assert_eq!(stage.counts(), [0, 0, 0]);
    assert_eq!(outlet.take(usize::MAX), Taken::Ended, "whoever polls still");
    // What comes late changes nothing.
    stage.shard.on_http_closed(client, stage.now);
    assert_eq!(
        stage.say(client, b"late").try_recv(),
        Err(TryRecvError::Closed)
    );
    assert_eq!(stage.counts(), [0, 0, 0]);
}

#[test]
fn who_is_closed_keeps_its_slot_until_it_has_gone_and_nothing_else() {
    let mut stage = Stage::new();
    let (client, outlet) = stage.client();
    assert_eq!(stage.say(client, b"hello\x1e").try_recv(), Ok(()));
    assert_eq!(stage.counts(), [0, 0, 1]);
    let refusal = VecDeque::from([Bytes::from_static(REFUSAL.as_bytes())]);
    assert_eq!(outlet.take(usize::MAX), Taken::Messages(refusal));
    assert_eq!(outlet.take(usize::MAX), Taken::Ended);
    assert_eq!(
        stage.say(client, b"more").try_recv(),
        Err(TryRecvError::Closed)
    );
    stage.shard.on_http_closed(client, stage.now);
    assert_eq!(stage.counts(), [0, 0, 0]);
}

#[test]
fn as_many_are_taken_in_as_may_be_and_none_while_the_service_stops() {
    let mut stage = Stage::new();
    for _ in 0..HTTP_CLIENTS_MAX {
        stage.shard.http_clients.insert(Arc::default());
    }
    let (client, _, mut answer) = stage.asking();
    stage.shard.adopt_http_client(client, stage.now);
    assert_eq!(answer.try_recv(), Err(TryRecvError::Closed));
    assert_eq!(stage.counters.refused.value(), 1);

    let mut stage = Stage::new();
    let (leaving, outlet) = stage.client();
    stage.shard.drain(stage.now);
    let (client, _, mut answer) = stage.asking();
    stage.shard.adopt_http_client(client, stage.now);
    assert_eq!(answer.try_recv(), Err(TryRecvError::Closed));
    assert_eq!(stage.counts(), [0, 0, 1], "nobody else came in");
    assert!(matches!(outlet.take(usize::MAX), Taken::Messages(_)));
    assert!(!stage.shard.is_finished(stage.now), "it is waited for");
    stage.shard.on_http_closed(leaving, stage.now);
    assert!(stage.shard.is_finished(stage.now));
}

#[test]
fn who_has_gone_before_it_could_be_taken_in_does_not_stay() {
    let mut stage = Stage::new();
    let (client, outlet, answer) = stage.asking();
    drop(answer);
    stage.shard.adopt_http_client(client, stage.now);
    assert_eq!(stage.counts(), [0, 0, 0]);
    assert_eq!(outlet.take(usize::MAX), Taken::Ended);
}

#[test]
fn what_a_paused_client_says_waits_and_no_second_piece_with_it() {
    let mut stage = Stage::new();
    let (client, _outlet) = stage.client();
    assert!(stage.shard.pause(client));
    assert!(!stage.shard.pause(client), "it is so already");
    let mut first = stage.say(client, b"{\"protocol\"");
    let mut second = stage.say(client, b":\"json\"}");
    assert_eq!(first.try_recv(), Err(TryRecvError::Empty));
    assert_eq!(second.try_recv(), Err(TryRecvError::Closed));
    stage.shard.resume(client);
    assert_eq!(
        first.try_recv(),
        Err(TryRecvError::Empty),
        "not in the midst of what is being done"
    );
    let mut overtaking = stage.say(client, b"overtaking");
    assert_eq!(overtaking.try_recv(), Err(TryRecvError::Closed));
    stage.shard.hear_resumed(stage.now);
    assert_eq!(first.try_recv(), Ok(()));
    assert_eq!(stage.say(client, b"").try_recv(), Ok(()));
    assert_eq!(stage.counters.reads_paused.value(), 1);
}

#[test]
fn who_is_paused_again_goes_on_waiting() {
    let mut stage = Stage::new();
    let (client, _outlet) = stage.client();
    stage.shard.pause(client);
    let mut waiting = stage.say(client, b"{");
    stage.shard.resume(client);
    stage.shard.pause(client);
    stage.shard.hear_resumed(stage.now);
    assert_eq!(waiting.try_recv(), Err(TryRecvError::Empty));
    stage.shard.resume(client);
    stage.shard.hear_resumed(stage.now);
    assert_eq!(waiting.try_recv(), Ok(()));
}

#[test]
fn what_waits_ends_with_its_client() {
    for cause in [CloseCause::Drain, CloseCause::SlowConsumer] {
        let mut stage = Stage::new();
        let (client, outlet) = stage.client();
        stage.shard.pause(client);
        let mut waiting = stage.say(client, b"{");
        outlet.push(Bytes::from_static(b"last words"));
        stage.shard.close_outlet(client, cause);
        assert_eq!(waiting.try_recv(), Err(TryRecvError::Closed));
        let is_heard = matches!(outlet.take(usize::MAX), Taken::Messages(_));
        assert_eq!(is_heard, cause == CloseCause::Drain);
        assert_eq!(outlet.take(usize::MAX), Taken::Ended);
        stage.shard.resume(client);
        stage.shard.hear_resumed(stage.now);
    }
}

#[test]
fn a_slot_that_is_used_again_is_not_taken_for_what_it_was() {
    let mut clients = HttpClients::default();
    let first = clients.insert(Arc::default());
    assert!(clients.remove(first).is_some());
    let second = clients.insert(Arc::default());
    assert_eq!(first.slot, second.slot);
    assert!(!clients.contains(first) && clients.contains(second));
    assert!(clients.remove(first).is_none());
    assert_eq!(clients.len(), 1);
}

#[test]
fn a_socket_is_none_of_them() {
    let mut clients = HttpClients::default();
    let key = clients.insert(Arc::default());
    let socket = SocketKey {
        slot: key.slot & !SocketKey::OUTLET,
        generation: key.generation,
    };
    assert!(!clients.contains(socket) && !clients.pause(socket));
    assert!(clients.remove(socket).is_none());
    assert!(clients.contains(key));
}

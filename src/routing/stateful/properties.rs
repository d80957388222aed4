//! A client and its app server, and between them a socket that is lost at any moment, within whatever is on its way.
//!
//! The client is modelled on Microsoft's message buffer. Whatever happens, each side gets what the other has sent once and in order, and
//! the client never finds a `Sequence` that it cannot follow.

use std::collections::VecDeque;

use proptest::collection::vec;
use proptest::prelude::*;

use super::*;
use crate::protocol::hub::message::Value;

/// One thing that happens.
#[derive(Clone, Debug)]
enum Step {
    ClientCalls,
    ClientPings,
    ClientAcknowledges,
    /// So many bytes reach the service.
    Upward(usize),
    AppServerCalls,
    AppServerPings,
    /// To many clients, and so in a frame of its own.
    FanOut,
    ServiceAcknowledges,
    /// So many frames reach the client.
    Downward(usize),
    Lose,
    Resume,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => Just(Step::ClientCalls),
        1 => Just(Step::ClientPings),
        2 => Just(Step::ClientAcknowledges),
        6 => (1_usize..120).prop_map(Step::Upward),
        4 => Just(Step::AppServerCalls),
        1 => Just(Step::AppServerPings),
        2 => Just(Step::FanOut),
        2 => Just(Step::ServiceAcknowledges),
        6 => (1_usize..4).prop_map(Step::Downward),
        2 => Just(Step::Lose),
        3 => Just(Step::Resume),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn each_message_arrives_once_and_in_order(steps in vec(step(), 0..200), in_text: bool) {
        let protocol = if in_text { MessageProtocol::Json } else { MessageProtocol::MessagePack };
        let mut world = World::new(protocol);
        for step in steps {
            world.take(&step);
        }
        world.settle();
        prop_assert_eq!(&world.app_server_heard, &(0..world.client_called).collect::<Vec<_>>());
        prop_assert_eq!(&world.client.heard, &(0..world.app_server_called).collect::<Vec<_>>());
        // Once something new has been acknowledged, nothing is left on either side.
        world.take(&Step::AppServerCalls);
        world.take(&Step::ClientCalls);
        world.settle();
        world.take(&Step::ServiceAcknowledges);
        world.settle();
        world.take(&Step::ClientAcknowledges);
        world.settle();
        prop_assert_eq!(world.stateful.kept_bytes(), 0);
        prop_assert!(world.client.kept.is_empty());
    }
}

struct World {
    protocol: MessageProtocol,
    stateful: Stateful,
    client: Client,
    /// On its way.
    upward: VecDeque<u8>,
    downward: VecDeque<Chunk>,
    is_connected: bool,
    client_called: i64,
    app_server_called: i64,
    app_server_heard: Vec<i64>,
    app_server_received: Vec<u8>,
}

/// The other side, as Microsoft wrote it.
#[derive(Default)]
struct Client {
    /// What has not been acknowledged, with its number.
    kept: VecDeque<(i64, Vec<u8>)>,
    last_sent: i64,
    /// The number that the next message from the service has, and the highest that has come.
    next: i64,
    last_received: i64,
    awaits_sequence: bool,
    heard: Vec<i64>,
}

impl World {
    fn new(protocol: MessageProtocol) -> Self {
        Self {
            protocol,
            stateful: Stateful::new(&HubProtocol::from_name(protocol.name())).unwrap(),
            client: Client {
                next: 1,
                ..Client::default()
            },
            upward: VecDeque::new(),
            downward: VecDeque::new(),
            is_connected: true,
            client_called: 0,
            app_server_called: 0,
            app_server_heard: Vec::new(),
            app_server_received: Vec::new(),
        }
    }

    fn take(&mut self, step: &Step) {
        match step {
            Step::ClientCalls => {
                let call = self.protocol.encode(&call(self.client_called));
                self.client_called += 1;
                self.client.last_sent += 1;
                let number = self.client.last_sent;
                self.client.kept.push_back((number, call.clone()));
                self.client_sends(&call);
            }
            Step::ClientPings => self.client_sends(&self.protocol.encode(&HubMessage::Ping)),
            Step::ClientAcknowledges => {
                let sequence_id = self.client.last_received;
                self.client_sends(&self.protocol.encode(&HubMessage::Ack { sequence_id }));
            }
            Step::Upward(bytes) => self.pass_upward(*bytes),
            Step::AppServerCalls | Step::FanOut => {
                let call = self.protocol.encode(&call(self.app_server_called));
                self.app_server_called += 1;
                self.app_server_sends(&call, matches!(step, Step::FanOut));
            }
            Step::AppServerPings => {
                let ping = self.protocol.encode(&HubMessage::Ping);
                self.app_server_sends(&ping, false);
            }
            Step::ServiceAcknowledges => {
                if let Some(ack) = self.stateful.take_ack() {
                    self.service_sends(framed(self.protocol, std::iter::once(&*ack)));
                }
            }
            Step::Downward(frames) => self.pass_downward(*frames),
            Step::Lose => self.lose(),
            Step::Resume => self.resume(),
        }
    }

    fn client_sends(&mut self, bytes: &[u8]) {
        if self.is_connected {
            self.upward.extend(bytes);
        }
    }

    fn pass_upward(&mut self, bytes: usize) {
        let bytes = bytes.min(self.upward.len());
        let piece: Vec<u8> = self.upward.drain(..bytes).collect();
        let relayed = self.stateful.receive(Chunk::from(piece)).unwrap();
        for chunk in relayed {
            self.app_server_received.extend_from_slice(&chunk);
        }
        for number in calls(self.protocol, &self.app_server_received) {
            self.app_server_heard.push(number);
        }
        self.app_server_received.clear();
    }

    fn app_server_sends(&mut self, bytes: &[u8], to_many: bool) {
        let (frame, content) = if to_many {
            let frame = framed(self.protocol, std::iter::once(bytes));
            let content = Content::of_frame(self.protocol, &frame);
            (frame, content)
        } else {
            let payload = smallvec::smallvec![Chunk::from(bytes.to_vec())];
            self.stateful.gather(&payload).unwrap()
        };
        assert_eq!(self.stateful.keep(&frame, content), 0);
        self.service_sends(frame);
    }

    fn service_sends(&mut self, frame: Chunk) {
        if !self.stateful.is_away() {
            self.downward.push_back(frame);
        }
    }

    fn pass_downward(&mut self, frames: usize) {
        for _ in 0..frames.min(self.downward.len()) {
            let frame = self.downward.pop_front().unwrap();
            let payload = frame[2..].to_vec();
            for record in records(self.protocol, &payload) {
                let message = self.protocol.decode(record.content).unwrap().unwrap();
                self.client.hear(message);
            }
        }
    }

    fn lose(&mut self) {
        if self.is_connected {
            self.is_connected = false;
            self.upward.clear();
            self.downward.clear();
            assert!(self.stateful.is_resumable());
            self.stateful.leave();
        }
    }

    /// Sometimes the client notices the loss before the service does.
    fn resume(&mut self) {
        self.upward.clear();
        self.downward.clear();
        self.is_connected = true;
        self.downward.extend(self.stateful.resume());
        self.client.awaits_sequence = true;
        let first = self.client.kept.front();
        let sequence_id = first.map_or(self.client.last_sent + 1, |(number, _)| *number);
        let sequence = HubMessage::Sequence { sequence_id };
        self.upward.extend(self.protocol.encode(&sequence));
        for (_, message) in &self.client.kept {
            self.upward.extend(message);
        }
    }

    fn settle(&mut self) {
        if !self.is_connected || self.client.awaits_sequence {
            self.resume();
        }
        self.pass_upward(usize::MAX);
        self.pass_downward(usize::MAX);
    }
}

impl Client {
    fn hear(&mut self, message: HubMessage) {
        if let HubMessage::Sequence { sequence_id } = message {
            assert!(sequence_id <= self.next, "it would stop");
            self.next = sequence_id;
            self.awaits_sequence = false;
            return;
        }
        assert!(!self.awaits_sequence, "a sequence comes first");
        if let HubMessage::Ack { sequence_id } = message {
            self.kept.retain(|(number, _)| *number > sequence_id);
        }
        if let HubMessage::Invocation { arguments, .. } = message {
            let number = self.next;
            self.next += 1;
            if number > self.last_received {
                self.last_received = number;
                self.heard.push(arguments[0].as_i64().unwrap());
            }
        }
    }
}

fn call(number: i64) -> HubMessage {
    HubMessage::Invocation {
        headers: Vec::new(),
        invocation_id: None,
        target: "x".to_owned(),
        arguments: vec![Value::from(number)],
        stream_ids: Vec::new(),
    }
}

fn calls(protocol: MessageProtocol, bytes: &[u8]) -> Vec<i64> {
    assert_eq!(
        whole_bytes(protocol, bytes),
        bytes.len(),
        "only whole messages are passed on"
    );
    let messages = records(protocol, bytes).map(|record| protocol.decode(record.content));
    let number = |message| match message {
        Ok(Some(HubMessage::Invocation { arguments, .. })) => arguments[0].as_i64(),
        _ => None,
    };
    messages.filter_map(number).collect()
}

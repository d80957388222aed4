//! What clients say to their app servers, message by message, and what comes back.
//!
//! Each message is read once and whole, by the app server that the client is bound to, and in the order said; only the result of a
//! call of the app server's own may pass others that wait for a move. A client that moves is introduced by its handshake request. One
//! that had to be parked says again what its lost app server had read in part.
//!
//! A call is answered once: by the app server that has read it, or by the service, when that app server will not.

use super::clients::ClientModel;
use super::*;
use crate::protocol::hub::message::{HubMessage, MessageProtocol, Outcome, RecordBuffer, Value};
use crate::routing::traffic::Traffic;

/// What a client has to say to its app server.
#[derive(Default)]
pub(super) struct Talk {
    /// What has been said or begun and not been read to its end.
    unread: VecDeque<Said>,
    /// So much of the first has been read.
    partial: usize,
    calls: usize,
    /// Calls that have been read and not been answered, with who has read them.
    open: BTreeMap<usize, ServerEnd>,
    answered: BTreeSet<usize>,
    /// Calls that an app server has read which the client has left since.
    late: Vec<(usize, ServerEnd)>,
}

#[derive(Clone)]
struct Said {
    bytes: Vec<u8>,
    what: What,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum What {
    Hello,
    /// It wants no answer.
    Note,
    Call(usize),
    /// The answer to a call of the app server's.
    Result,
}

impl Talk {
    pub(super) fn says_hello(&mut self, bytes: &[u8]) {
        self.unread.push_back(Said {
            bytes: bytes.to_vec(),
            what: What::Hello,
        });
    }

    /// Another app server is told of the client. False if it had been parked in the midst of a message, which is then said again.
    fn is_introduced(&mut self, hello: &[u8]) -> bool {
        let is_between_messages = std::mem::take(&mut self.partial) == 0;
        let open = self.open.iter().map(|(call, server)| (*call, *server));
        self.late.extend(open);
        self.unread.push_front(Said {
            bytes: hello.to_vec(),
            what: What::Hello,
        });
        is_between_messages
    }

    /// An app server reads something. `None` if that is not what comes next.
    fn read(&mut self, mut bytes: &[u8], server: ServerEnd) -> Option<()> {
        while !bytes.is_empty() {
            if self.partial == 0 {
                self.choose(bytes)?;
            }
            let next = self.unread.front()?;
            let rest = &next.bytes[self.partial..];
            let length = rest.len().min(bytes.len());
            if rest[..length] != bytes[..length] {
                return None;
            }
            bytes = &bytes[length..];
            self.partial += length;
            if self.partial == next.bytes.len() {
                if let What::Call(call) = next.what {
                    self.open.insert(call, server);
                }
                self.partial = 0;
                self.unread.pop_front();
            }
        }
        Some(())
    }

    /// Brings to the front what is being read: what has waited longest, or a result that passes the rest.
    fn choose(&mut self, bytes: &[u8]) -> Option<()> {
        let begins = |said: &Said| {
            let length = said.bytes.len().min(bytes.len());
            said.bytes[..length] == bytes[..length]
        };
        if !self.unread.front().is_some_and(begins) {
            let passes = |said: &Said| said.what == What::Result && begins(said);
            let index = self.unread.iter().position(passes)?;
            let said = self.unread.remove(index)?;
            self.unread.push_front(said);
        }
        Some(())
    }

    /// Bytes that have been said or begun and not been read.
    pub(super) fn unread_bytes(&self) -> usize {
        let bytes: usize = self.unread.iter().map(|said| said.bytes.len()).sum();
        bytes - self.partial
    }
}

impl Simulation {
    pub(super) fn client_talks(&mut self) {
        let is_heard = |client: &ClientEnd| !self.world.clients[client.0].is_paused;
        let known: Vec<ClientEnd> = self.clients_known().filter(is_heard).collect();
        let Some(client) = self.random.pick_any(&known) else {
            return;
        };
        if self.clients[client.0].rest.is_empty() {
            let message = self.next_message(client);
            self.clients[client.0].rest = message;
        }
        let mut bytes = std::mem::take(&mut self.clients[client.0].rest);
        if self.random.one_in(4) {
            let part = self.random.below(bytes.len());
            self.clients[client.0].rest = bytes.split_off(part);
        }
        self.log(format_args!(
            "client {} says {} bytes, {} of its message are left",
            client.0,
            bytes.len(),
            self.clients[client.0].rest.len()
        ));
        self.world.say_bytes(client, &bytes);
    }

    /// A message that a client is about to say: a call of a hub method, for whose answer it may wait.
    pub(super) fn next_message(&mut self, client: ClientEnd) -> Vec<u8> {
        let is_call = self.random.one_in(3);
        let talk = &mut self.clients[client.0].talk;
        talk.calls += 1;
        let text = format!("call {} of client {}", talk.calls, client.0);
        let (invocation_id, what) = if is_call {
            (Some(talk.calls.to_string()), What::Call(talk.calls))
        } else {
            (None, What::Note)
        };
        let bytes = framed(&text, invocation_id, &self.world.clients[client.0].protocol);
        talk.unread.push_back(Said {
            bytes: bytes.clone(),
            what,
        });
        bytes
    }

    /// The client answers a call of its app server's, behind what it is just saying.
    pub(super) fn client_answers(&mut self, client: ClientEnd, invocation_id: String) {
        let message = HubMessage::Completion {
            headers: Vec::new(),
            invocation_id,
            outcome: Outcome::Result(Value::from(42)),
        };
        let bytes = protocol_of(&self.world.clients[client.0].protocol).encode(&message);
        let model = &mut self.clients[client.0];
        model.talk.unread.push_back(Said {
            bytes: bytes.clone(),
            what: What::Result,
        });
        let mut said = std::mem::take(&mut model.rest);
        said.extend(bytes);
        self.world.say_bytes(client, &said);
    }

    /// An app server answers a call that it has read. It may not know that the client has gone elsewhere, and even say goodbye.
    pub(super) fn call_is_answered(&mut self) {
        let open: Vec<(ClientEnd, usize, ServerEnd)> = self
            .clients_known()
            .filter(|client| {
                self.world.clients[client.0].is_answered && !self.clients[client.0].is_dismissed
            })
            .flat_map(|client| {
                let talk = &self.clients[client.0].talk;
                let open = talk.open.iter().map(|(call, server)| (*call, *server));
                let late = talk.late.iter().copied();
                open.chain(late)
                    .map(move |(call, server)| (client, call, server))
            })
            .filter(|(_, _, server)| self.speaks(*server))
            .collect();
        let Some((client, call, server)) = self.random.pick_any(&open) else {
            return;
        };
        self.log(format_args!(
            "server connection {} answers call {call} of client {}",
            server.0, client.0
        ));
        let message = HubMessage::Completion {
            headers: Vec::new(),
            invocation_id: call.to_string(),
            outcome: Outcome::Result(Value::Nil),
        };
        let payload = protocol_of(&self.world.clients[client.0].protocol).encode(&message);
        let has_left = self.clients[client.0].bound != Some(server);
        let data_type = if has_left && self.random.one_in(2) {
            DataMessageType::Close
        } else {
            DataMessageType::Invocation
        };
        let data = ConnectionData {
            connection_id: self.world.id(client).into(),
            payload: &payload[..],
            data_type,
            ..ConnectionData::default()
        };
        self.send(server, data);
    }

    /// A client hears what is no numbered message.
    pub(super) fn client_hears_words(&mut self, client: ClientEnd, payload: &[u8]) {
        let protocol = protocol_of(&self.world.clients[client.0].protocol);
        let mut buffer = RecordBuffer::default();
        buffer.extend(payload);
        while let Ok(Some(record)) = buffer.next(protocol, usize::MAX) {
            if let Ok(Some(HubMessage::Completion { invocation_id, .. })) = protocol.decode(&record)
            {
                self.journal.note(format_args!(
                    "client {} hears the end of call {invocation_id}",
                    client.0
                ));
                let talk = &mut self.clients[client.0].talk;
                let call: usize = invocation_id.parse().expect("it is one of its own");
                assert!(talk.answered.insert(call), "call {call} is answered once");
                assert!(
                    talk.open.remove(&call).is_some(),
                    "call {call} has been read"
                );
            }
        }
    }

    pub(super) fn server_reads(&mut self, server: ServerEnd, connection_id: &str, payload: &[u8]) {
        let client = self.client_named(connection_id);
        let model = &mut self.clients[client.0];
        assert_eq!(
            model.bound,
            Some(server),
            "only its own app server reads it"
        );
        let read = model.talk.read(payload, server);
        assert!(read.is_some(), "client {} said something else", client.0);
    }

    /// An app server is told of a client, the first or another one.
    pub(super) fn server_is_told(&mut self, server: ServerEnd, connection_id: &str) {
        let client = self.client_named(connection_id);
        let model = &mut self.clients[client.0];
        let Some(before) = model.bound.replace(server) else {
            return;
        };
        self.journal.note(format_args!(
            "client {} moves to server connection {}",
            client.0, server.0
        ));
        model.former = Some(before);
        let ClientModel { talk, request, .. } = model;
        let is_between_messages = talk.is_introduced(request);
        assert!(
            is_between_messages || !self.world.is_up(before),
            "a message is not torn apart"
        );
    }

    /// What is said has been read, or waits for a move; and nobody waits for an app server that is not its own any more.
    pub(super) fn check_talk(&self, client: ClientEnd) {
        let (record, model) = (&self.world.clients[client.0], &self.clients[client.0]);
        let state = self.world.routers[record.shard].clients.get(record.key);
        let traffic = state.and_then(|state| state.traffic.as_deref());
        let held = traffic.map_or(0, Traffic::held_bytes);
        let is_parked = state.is_some_and(|state| state.server.is_none());
        if !is_parked {
            assert_eq!(
                model.talk.unread_bytes(),
                model.rest.len() + held,
                "client {} has been read",
                client.0
            );
        }
        for (call, server) in &model.talk.open {
            assert_eq!(
                Some(*server),
                model.bound,
                "call {call} of client {}",
                client.0
            );
            assert!(!is_parked, "nobody will answer call {call}");
        }
    }
}

/// A call with `text`, as it stands in a connection.
pub(super) fn framed(text: &str, invocation_id: Option<String>, protocol: &HubProtocol) -> Vec<u8> {
    protocol_of(protocol).encode(&HubMessage::Invocation {
        headers: Vec::new(),
        invocation_id,
        target: "hear".to_owned(),
        arguments: vec![Value::from(text)],
        stream_ids: Vec::new(),
    })
}

fn protocol_of(protocol: &HubProtocol) -> MessageProtocol {
    if protocol.is_text() {
        MessageProtocol::Json
    } else {
        MessageProtocol::MessagePack
    }
}

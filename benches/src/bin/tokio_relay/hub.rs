//! One hub: its server connections, its clients, their users and groups, and what each service message does to them. No sockets
//! here: what is to be sent goes into the queue of the connection that it is for.
//!
//! Invariant: a client is in `clients`, in the list of its user and in the groups that it names itself, or in none of them. Only these
//! hold the sending end of its queue, so that its task ends when the hub lets it go.

use std::cell::{Cell, RefCell};
use std::collections::{HashMap, HashSet};
use std::ops::Range;
use std::rc::Rc;

use bytes::Bytes;
use hubring::protocol::hub::handshake::HubProtocol;
use hubring::protocol::service::{AckStatus, ConnectionData, Message, Payloads, Texts, write_ack};
use tokio::sync::mpsc;
use tokio_tungstenite::tungstenite::{Message as WebSocketMessage, Utf8Bytes};

/// Messages that may wait for a client. One that has no room is dropped: it does not read.
const CLIENT_QUEUE_MAX: usize = 1 << 10;

/// Messages of clients that may wait for a server connection. While there is no room its clients are not read.
const SERVER_QUEUE_MAX: usize = 1 << 14;

/// Who is there.
#[derive(Default)]
pub(crate) struct Hub {
    servers: HashMap<u64, Server>,
    clients: HashMap<Rc<str>, Rc<Client>>,
    users: Sets,
    groups: Sets,
    /// Numbers given to server connections and clients so far.
    numbers: u64,
}

/// What a server connection has to send.
pub(crate) enum ToServer {
    /// Bytes of a client.
    Data { client: Rc<str>, payload: Bytes },
    /// Service messages as they are on the wire.
    Messages(Vec<u8>),
}

/// A client that has been bound to a server connection.
pub(crate) struct Joined {
    pub(crate) id: Rc<str>,
    pub(crate) server: mpsc::Sender<ToServer>,
    /// Ends when the hub lets the client go.
    pub(crate) outbox: mpsc::Receiver<WebSocketMessage>,
}

struct Server {
    outbox: mpsc::Sender<ToServer>,
    client_count: usize,
}

struct Client {
    id: Rc<str>,
    user: Option<Rc<str>>,
    protocol: HubProtocol,
    server: u64,
    groups: RefCell<HashSet<Rc<str>>>,
    outbox: mpsc::Sender<WebSocketMessage>,
    /// What others sent it before the answer to its hub handshake has gone out, which has to be the first that it hears.
    held: RefCell<Vec<WebSocketMessage>>,
    has_entered: Cell<bool>,
}

/// Sets of clients by name. None of them is empty.
type Sets = HashMap<Rc<str>, HashMap<Rc<str>, Rc<Client>>>;

type Incoming<'a> = Message<'a, Range<usize>>;

/// One hub message in each encoding, as it is sent.
type Frames = Vec<(HubProtocol, WebSocketMessage)>;

impl Hub {
    /// A server connection has come. Its number is for [`Self::leave_server`].
    pub(crate) fn join_server(&mut self) -> (u64, mpsc::Receiver<ToServer>) {
        let (outbox, waiting) = mpsc::channel(SERVER_QUEUE_MAX);
        let number = self.next_number();
        let server = Server {
            outbox,
            client_count: 0,
        };
        self.servers.insert(number, server);
        (number, waiting)
    }

    /// A server connection has gone, and with it its clients.
    pub(crate) fn leave_server(&mut self, number: u64) {
        self.servers.remove(&number);
        let bound = self
            .clients
            .values()
            .filter(|client| client.server == number);
        let bound: Vec<_> = bound.map(|client| Rc::clone(&client.id)).collect();
        for id in bound {
            self.leave(&id);
        }
    }

    /// The queue of a server connection, while it is there.
    pub(crate) fn server(&self, number: u64) -> Option<mpsc::Sender<ToServer>> {
        Some(self.servers.get(&number)?.outbox.clone())
    }

    /// A client has come. It is bound to the server connection that has the fewest; `None` if there is no server connection.
    pub(crate) fn join(&mut self, user: Option<Rc<str>>, protocol: HubProtocol) -> Option<Joined> {
        let id: Rc<str> = format!("client-{:016}", self.next_number()).into();
        let (number, server) = self
            .servers
            .iter_mut()
            .min_by_key(|(_, server)| server.client_count)?;
        server.client_count += 1;
        let (outbox, waiting) = mpsc::channel(CLIENT_QUEUE_MAX);
        let client = Rc::new(Client {
            id: Rc::clone(&id),
            user,
            protocol,
            server: *number,
            groups: RefCell::default(),
            outbox,
            held: RefCell::default(),
            has_entered: Cell::new(false),
        });
        let server = server.outbox.clone();
        if let Some(user) = &client.user {
            enroll(&mut self.users, user, &client);
        }
        self.clients.insert(Rc::clone(&id), client);
        Some(Joined {
            id,
            server,
            outbox: waiting,
        })
    }

    /// A client has gone, or has to go.
    pub(crate) fn leave(&mut self, id: &str) {
        let Some(client) = self.clients.remove(id) else {
            return;
        };
        if let Some(server) = self.servers.get_mut(&client.server) {
            server.client_count -= 1;
        }
        if let Some(user) = &client.user {
            strike(&mut self.users, user, id);
        }
        for group in client.groups.take() {
            strike(&mut self.groups, &group, id);
        }
    }

    /// Does what an app server asks for. `record` holds the payloads of `message`; what is to be answered goes to `acks`.
    pub(crate) fn on_service_message(
        &mut self,
        record: &Bytes,
        message: &Incoming<'_>,
        acks: &mut Vec<u8>,
    ) {
        #[expect(
            clippy::wildcard_enum_match_arm,
            reason = "whatever else there is, this relay does not do"
        )]
        match message {
            Message::ConnectionData(data) => self.on_connection_data(record, data),
            Message::CloseConnection(close) => self.leave(&close.connection_id),
            Message::JoinGroup(join) => {
                self.join_group(&join.connection_id, &join.group);
            }
            Message::LeaveGroup(leave) => {
                self.leave_group(&leave.connection_id, leave.group.as_deref());
            }
            Message::JoinGroupWithAck(join) => {
                let status = self.join_group(&join.connection_id, &join.group);
                write_ack(join.ack_id, status, "", acks);
            }
            Message::LeaveGroupWithAck(leave) => {
                let status = self.leave_group(&leave.connection_id, leave.group.as_deref());
                write_ack(leave.ack_id, status, "", acks);
            }
            Message::MultiConnectionData(data) => {
                let receivers = data.connection_ids.iter();
                let receivers = receivers.filter_map(|id| self.clients.get(&**id));
                let slow = send(receivers, &frames(record, &data.payloads));
                self.drop_all(&slow);
            }
            Message::UserData(data) => {
                let receivers = members(&self.users, &data.user_id);
                let slow = send(receivers, &frames(record, &data.payloads));
                self.drop_all(&slow);
            }
            Message::BroadcastData(data) => {
                let receivers = self.clients.values();
                let receivers = receivers.filter(|client| !names(&data.excluded, &client.id));
                let slow = send(receivers, &frames(record, &data.payloads));
                self.drop_all(&slow);
            }
            Message::GroupBroadcastData(data) => {
                let is_excluded = |client: &Client| {
                    let user = client.user.as_deref();
                    names(&data.excluded, &client.id)
                        || user.is_some_and(|user| names(&data.excluded_users, user))
                };
                let receivers = members(&self.groups, &data.group);
                let receivers = receivers.filter(|client| !is_excluded(client));
                let slow = send(receivers, &frames(record, &data.payloads));
                self.drop_all(&slow);
            }
            _ => {}
        }
    }

    fn on_connection_data(&mut self, record: &Bytes, data: &ConnectionData<'_, Range<usize>>) {
        let Some(client) = self.clients.get(&*data.connection_id) else {
            return;
        };
        let frame = frame(&client.protocol, record.slice(data.payload.clone()));
        if !frame.is_some_and(|frame| client.answer(frame)) {
            self.leave(&data.connection_id);
        }
    }

    fn drop_all(&mut self, slow: &[Rc<str>]) {
        for id in slow {
            self.leave(id);
        }
    }

    fn join_group(&mut self, id: &str, group: &str) -> AckStatus {
        let Some(client) = self.clients.get(id) else {
            return AckStatus::NotFound;
        };
        let group = match self.groups.get_key_value(group) {
            Some((group, _)) => Rc::clone(group),
            None => group.into(),
        };
        enroll(&mut self.groups, &group, client);
        client.groups.borrow_mut().insert(group);
        AckStatus::Ok
    }

    /// Without a group: all of them.
    fn leave_group(&mut self, id: &str, group: Option<&str>) -> AckStatus {
        let Some(client) = self.clients.get(id) else {
            return AckStatus::NotFound;
        };
        match group {
            Some(group) => {
                client.groups.borrow_mut().remove(group);
                strike(&mut self.groups, group, id);
            }
            None => {
                for group in client.groups.take() {
                    strike(&mut self.groups, &group, id);
                }
            }
        }
        AckStatus::Ok
    }

    fn next_number(&mut self) -> u64 {
        self.numbers += 1;
        self.numbers
    }
}

impl Client {
    /// Queues what the app server has for this client alone, of which the first is the answer to the hub handshake. Whether there was
    /// room.
    fn answer(&self, frame: WebSocketMessage) -> bool {
        let is_queued = self.outbox.try_send(frame).is_ok();
        if self.has_entered.replace(true) {
            return is_queued;
        }
        let mut held = self.held.take().into_iter();
        is_queued && held.all(|frame| self.outbox.try_send(frame).is_ok())
    }

    /// Queues a frame that others may get too. Whether there was room.
    fn send(&self, frames: &Frames) -> bool {
        let frame = frames
            .iter()
            .find(|(protocol, _)| *protocol == self.protocol);
        let Some((_, frame)) = frame else {
            // The app server does not speak its language.
            return true;
        };
        if self.has_entered.get() {
            return self.outbox.try_send(frame.clone()).is_ok();
        }
        let mut held = self.held.borrow_mut();
        held.push(frame.clone());
        held.len() < CLIENT_QUEUE_MAX
    }
}

/// Sends to all of them. Those who did not have room are returned.
fn send<'a>(receivers: impl Iterator<Item = &'a Rc<Client>>, frames: &Frames) -> Vec<Rc<str>> {
    let slow = receivers.filter(|client| !client.send(frames));
    slow.map(|client| Rc::clone(&client.id)).collect()
}

fn frames(record: &Bytes, payloads: &Payloads<'_, Range<usize>>) -> Frames {
    let frames = payloads.iter().filter_map(|(protocol, payload)| {
        let protocol = HubProtocol::from_name(protocol);
        let frame = frame(&protocol, record.slice(payload.clone()))?;
        Some((protocol, frame))
    });
    frames.collect()
}

/// A payload as it is sent. `None` if it has to be text and is not.
fn frame(protocol: &HubProtocol, payload: Bytes) -> Option<WebSocketMessage> {
    if protocol.is_text() {
        let text = Utf8Bytes::try_from(payload).ok()?;
        Some(WebSocketMessage::Text(text))
    } else {
        Some(WebSocketMessage::Binary(payload))
    }
}

fn names(texts: &Texts<'_>, text: &str) -> bool {
    texts.iter().any(|name| name == text)
}

fn members<'a>(sets: &'a Sets, name: &str) -> impl Iterator<Item = &'a Rc<Client>> {
    sets.get(name).into_iter().flat_map(HashMap::values)
}

fn enroll(sets: &mut Sets, name: &Rc<str>, client: &Rc<Client>) {
    sets.entry(Rc::clone(name))
        .or_default()
        .insert(Rc::clone(&client.id), Rc::clone(client));
}

fn strike(sets: &mut Sets, name: &str, id: &str) {
    if let Some(members) = sets.get_mut(name) {
        members.remove(id);
        if members.is_empty() {
            sets.remove(name);
        }
    }
}

#[cfg(test)]
mod tests {
    use hubring::protocol::service::{BroadcastData, decode};

    use super::*;

    fn hub_of(servers: usize) -> (Hub, Vec<mpsc::Receiver<ToServer>>) {
        let mut hub = Hub::default();
        let queues = (0..servers).map(|_| hub.join_server().1).collect();
        (hub, queues)
    }

    fn join(hub: &mut Hub) -> Joined {
        hub.join(Some("ann".into()), HubProtocol::Json).unwrap()
    }

    fn handle(hub: &mut Hub, message: &Message<'_, &[u8]>) {
        let mut record = Vec::new();
        message.encode(&mut record);
        let prefix_bytes = record.iter().position(|byte| byte & 0x80 == 0).unwrap() + 1;
        let record = Bytes::from(record).slice(prefix_bytes..);
        let message = decode(&[&record]).unwrap();
        hub.on_service_message(&record, &message, &mut Vec::new());
    }

    fn answer(hub: &mut Hub, id: &str) {
        let data = ConnectionData {
            connection_id: id.into(),
            payload: b"{}\x1e".as_slice(),
            ..ConnectionData::default()
        };
        handle(hub, &Message::from(data));
    }

    fn broadcast(hub: &mut Hub, text: &str) {
        let data = BroadcastData {
            excluded: Texts::new(),
            payloads: std::iter::once(("json", text.as_bytes())).collect(),
            filter: None,
            tracing_id: None,
        };
        handle(hub, &Message::from(data));
    }

    #[test]
    fn a_client_goes_to_the_server_connection_with_the_fewest() {
        let (mut hub, _queues) = hub_of(3);
        assert_eq!(hub.numbers, 3);
        let clients: Vec<Joined> = (0..9).map(|_| join(&mut hub)).collect();
        let count = |hub: &Hub| {
            let mut counts: Vec<_> = hub.servers.values().map(|it| it.client_count).collect();
            counts.sort_unstable();
            counts
        };
        assert_eq!(count(&hub), [3, 3, 3]);
        hub.leave(&clients[0].id);
        assert_eq!(count(&hub), [2, 3, 3]);
        join(&mut hub);
        assert_eq!(count(&hub), [3, 3, 3]);
        hub.leave_server(1);
        assert_eq!(hub.clients.len(), 6);
        assert_eq!(hub.users["ann"].len(), 6);
    }

    #[test]
    fn without_a_server_connection_nobody_joins() {
        assert!(Hub::default().join(None, HubProtocol::Json).is_none());
    }

    #[test]
    fn the_answer_to_the_hub_handshake_comes_first() {
        let (mut hub, _queues) = hub_of(1);
        let mut client = join(&mut hub);
        broadcast(&mut hub, "1");
        broadcast(&mut hub, "2");
        assert!(client.outbox.try_recv().is_err());
        answer(&mut hub, &client.id);
        broadcast(&mut hub, "3");
        for expected in ["{}\x1e", "1", "2", "3"] {
            assert_eq!(
                client.outbox.try_recv().unwrap().to_text().unwrap(),
                expected
            );
        }
    }

    #[test]
    fn who_does_not_read_is_dropped_and_leaves_nothing_behind() {
        let (mut hub, _queues) = hub_of(1);
        let (mut slow, mut healthy) = (join(&mut hub), join(&mut hub));
        for client in [&slow, &healthy] {
            answer(&mut hub, &client.id);
            assert_eq!(hub.join_group(&client.id, "g"), AckStatus::Ok);
        }
        for _ in 0..CLIENT_QUEUE_MAX {
            broadcast(&mut hub, "x");
            while healthy.outbox.try_recv().is_ok() {}
        }
        assert_eq!(hub.clients.len(), 1);
        assert_eq!(hub.groups["g"].len(), 1);
        while slow.outbox.try_recv().is_ok() {}
        assert!(slow.outbox.is_closed());
        hub.leave(&healthy.id);
        assert!(hub.clients.is_empty() && hub.users.is_empty() && hub.groups.is_empty());
    }
}

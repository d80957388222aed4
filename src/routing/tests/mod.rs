//! A small world: routers, whose mails and messages are kept in memory until a test lets them arrive.
//!
//! Sockets are records of what was sent to them, read back by the decoders that the other end would use. Time stands still unless a
//! test lets it pass. After every event each router is searched for a broken invariant.

mod bad_input;
mod closes;
mod closing;
mod effects;
mod existence;
mod expiry;
mod fan_out;
mod forwarding;
mod group_members;
mod groups;
mod handshake;
mod invocations;
mod messages;
mod migration;
mod parking;
mod refusals;
mod relay;
mod simulation;
mod stateful;
mod supervision;
mod surveys;
mod survival;
mod transports;
mod user_groups;

use std::cell::RefCell;
use std::collections::{BTreeSet, HashSet, VecDeque};
use std::sync::Arc;
use std::time::Instant;

use super::{
    ClientKey, CloseCause, Effect, Expiry, HubId, Mail, NewClient, NewServer, Router, ServerKey,
    SocketKey,
};
use crate::chunk::Chunk;
use crate::counters::Counters;
use crate::frame::record::read_varint;
use crate::frame::websocket::MessageKind;
use crate::id::{ConnectionId, ShardId};
use crate::limits::HUB_HANDSHAKE_TIMEOUT;
use crate::protocol::hub::HubProtocol;
use crate::protocol::hub::handshake::close_message;
use crate::protocol::negotiate::Transport;
use crate::protocol::service::{
    CloseConnection, ConnectionData, DataMessageType, HandshakeRequest, Message, Payloads,
    ServerConnectionType, encode_open_connection_body,
};

const CHAT: HubId = HubId(0);
const NEWS: HubId = HubId(1);

const ACCEPTED: &str = "{}\u{1e}";
const REJECTED: &str = "{\"error\":\"no\"}\u{1e}";

/// What an app server receives.
type Received = Message<'static, &'static [u8]>;

/// A server connection's other end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
struct ServerEnd(usize);

/// A client connection's other end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
struct ClientEnd(usize);

struct World {
    routers: Vec<Router>,
    counters: Vec<Arc<Counters>>,
    /// By receiving shard: what waits in its mailbox, and from which shard.
    mails: Vec<VecDeque<(usize, Mail)>>,
    servers: Vec<ServerRecord>,
    clients: Vec<ClientRecord>,
    /// By whom a message was received, in the order in which they came.
    heard: Vec<ServerEnd>,
    /// Of clients that are yet to come.
    expiry: Option<Expiry>,
    now: Instant,
}

struct ServerRecord {
    shard: usize,
    key: ServerKey,
    hub: HubId,
    server_id: Arc<str>,
    /// As all shards know it.
    standing: Standing,
    received: Vec<Received>,
    /// Its clients, as far as its app server can know.
    clients: BTreeSet<String>,
    ended: Option<CloseCause>,
    is_lost: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Standing {
    Unknown,
    Routable,
    SendOnly,
    Gone,
}

struct ClientRecord {
    shard: usize,
    key: ClientKey,
    id: ConnectionId,
    hub: HubId,
    protocol: HubProtocol,
    /// The server connection that was told of it.
    server: Option<ServerEnd>,
    received: Vec<(MessageKind, Vec<u8>)>,
    is_answered: bool,
    is_paused: bool,
    /// The server connection at which the shards count it.
    place: Option<ServerKey>,
    ended: Option<CloseCause>,
    has_left: bool,
}

/// What is special about a client.
#[derive(Clone)]
struct Profile {
    user: Option<&'static str>,
    protocol: HubProtocol,
    /// The shard that its id names, if not the one where it lives.
    home: Option<u16>,
    required_server_id: Option<&'static str>,
    transport: Transport,
}

impl Default for Profile {
    fn default() -> Self {
        Self {
            user: None,
            protocol: HubProtocol::Json,
            home: None,
            required_server_id: None,
            transport: Transport::WebSockets,
        }
    }
}

impl Profile {
    fn user(user: &'static str) -> Self {
        Self {
            user: Some(user),
            ..Self::default()
        }
    }

    fn speaking(protocol: HubProtocol) -> Self {
        Self {
            protocol,
            ..Self::default()
        }
    }

    fn over(transport: Transport, protocol: HubProtocol) -> Self {
        Self {
            protocol,
            transport,
            ..Self::default()
        }
    }

    fn with_home(home: u16) -> Self {
        Self {
            home: Some(home),
            ..Self::default()
        }
    }
}

// --- What app servers do ---

impl World {
    fn new(shard_count: u16) -> Self {
        let counters: Vec<Arc<Counters>> = (0..shard_count).map(|_| Arc::default()).collect();
        let routers = (0..).zip(&counters).map(|(shard, counters)| {
            Router::new(
                ShardId(shard),
                shard_count,
                "instance",
                Arc::clone(counters),
            )
        });
        Self {
            routers: routers.collect(),
            mails: counters.iter().map(|_| VecDeque::new()).collect(),
            counters,
            servers: Vec::new(),
            clients: Vec::new(),
            heard: Vec::new(),
            expiry: None,
            now: Instant::now(),
        }
    }

    /// A server connection that is ready for clients.
    fn server(&mut self, shard: usize, hub: HubId, server_id: &str) -> ServerEnd {
        self.server_of_type(shard, hub, server_id, ServerConnectionType::Default)
    }

    fn server_of_type(
        &mut self,
        shard: usize,
        hub: HubId,
        server_id: &str,
        connection_type: ServerConnectionType,
    ) -> ServerEnd {
        let server = self.adopt_server(shard, hub, server_id);
        self.send(
            server,
            HandshakeRequest {
                version: 1,
                connection_type,
                ..HandshakeRequest::default()
            },
        );
        let response = self.take(server);
        assert!(matches!(
            response.as_slice(),
            [Message::HandshakeResponse(_)]
        ));
        server
    }

    /// A server connection that has said nothing yet.
    fn adopt_server(&mut self, shard: usize, hub: HubId, server_id: &str) -> ServerEnd {
        let end = ServerEnd(self.servers.len());
        let server_id: Arc<str> = server_id.into();
        let new = NewServer {
            hub,
            server_id: Arc::clone(&server_id),
            connection_id: format!("connection-{}", end.0).into(),
        };
        let key = self.routers[shard].on_server_adopted(end.socket(), new, self.now);
        self.servers.push(ServerRecord {
            shard,
            key,
            hub,
            server_id,
            standing: Standing::Unknown,
            received: Vec::new(),
            clients: BTreeSet::new(),
            ended: None,
            is_lost: false,
        });
        self.routers[shard].check();
        end
    }

    fn send<'a>(&mut self, server: ServerEnd, message: impl Into<Message<'a, &'a [u8]>>) {
        self.send_bytes(server, &encoded(message));
    }

    fn send_bytes(&mut self, server: ServerEnd, message: &[u8]) {
        let effects = self.effects_of(server, message);
        self.apply(self.servers[server.0].shard, effects, message);
    }

    /// What a message makes the router want. It comes in two pieces.
    fn effects_of(&mut self, server: ServerEnd, message: &[u8]) -> Vec<Effect> {
        let (head, tail) = message.split_at(message.len() / 2);
        let pieces = [Chunk::from(head.to_vec()), Chunk::from(tail.to_vec())];
        let ServerRecord { shard, key, .. } = self.servers[server.0];
        let mut effects = Vec::new();
        self.routers[shard].on_server_heard(key, self.now);
        self.routers[shard].on_server_message(key, &pieces, self.now, &mut effects);
        effects
    }

    /// The app server sends data to one of its clients.
    fn send_data(&mut self, client: ClientEnd, payload: &str, data_type: DataMessageType) {
        self.send_bytes_to(client, payload.as_bytes(), data_type);
    }

    fn send_bytes_to(&mut self, client: ClientEnd, payload: &[u8], data_type: DataMessageType) {
        let id = self.id(client);
        let server = self.clients[client.0].server.expect("it is bound");
        self.send(
            server,
            ConnectionData {
                connection_id: id.into(),
                payload,
                data_type,
                ..ConnectionData::default()
            },
        );
    }

    fn accept(&mut self, client: ClientEnd) {
        self.send_data(client, ACCEPTED, DataMessageType::Handshake);
    }

    /// The hub says goodbye and lets the client go, as after `Context.Abort()`.
    fn abort(&mut self, client: ClientEnd) {
        self.say_goodbye(client);
        self.close_from_server(client);
    }

    fn say_goodbye(&mut self, client: ClientEnd) {
        let goodbye = close_message(&self.clients[client.0].protocol, None, false);
        self.send_bytes_to(client, &goodbye, DataMessageType::Close);
    }

    fn close_from_server(&mut self, client: ClientEnd) {
        let id = self.id(client);
        let server = self.clients[client.0].server.expect("it is bound");
        self.servers[server.0].clients.remove(id);
        self.send(server, CloseConnection::of(id));
    }

    fn lose_server(&mut self, server: ServerEnd) {
        let record = &mut self.servers[server.0];
        record.is_lost = true;
        let (shard, key) = (record.shard, record.key);
        let mut effects = Vec::new();
        self.routers[shard].on_server_closed(key, self.now, &mut effects);
        self.apply(shard, effects, &[]);
    }

    fn is_up(&self, server: ServerEnd) -> bool {
        let record = &self.servers[server.0];
        record.ended.is_none() && !record.is_lost
    }

    /// What an app server has received since the last call.
    fn take(&mut self, server: ServerEnd) -> Vec<Received> {
        std::mem::take(&mut self.servers[server.0].received)
    }
}

// --- What clients do ---

impl World {
    /// A client whose messages flow.
    fn client(&mut self, server: ServerEnd) -> ClientEnd {
        self.client_as(server, &Profile::default())
    }

    fn user(&mut self, server: ServerEnd, user: &'static str) -> ClientEnd {
        self.client_as(server, &Profile::user(user))
    }

    fn client_as(&mut self, server: ServerEnd, profile: &Profile) -> ClientEnd {
        let client = self.opening_client(server, profile);
        self.accept(client);
        assert_eq!(self.heard(client), [ACCEPTED]);
        client
    }

    /// A client whose handshake request has reached its app server.
    fn opening_client(&mut self, server: ServerEnd, profile: &Profile) -> ClientEnd {
        let client = self.adopt_client(server, profile);
        self.say_hello(client);
        self.take(server);
        client
    }

    /// A client that has said nothing yet.
    fn adopt_client(&mut self, server: ServerEnd, profile: &Profile) -> ClientEnd {
        let ServerRecord {
            shard, hub, key, ..
        } = self.servers[server.0];
        self.adopt_client_with(shard, hub, Some(key), profile)
    }

    fn adopt_client_with(
        &mut self,
        shard: usize,
        hub: HubId,
        server: Option<ServerKey>,
        profile: &Profile,
    ) -> ClientEnd {
        let end = ClientEnd(self.clients.len());
        let home = ShardId(profile.home.unwrap_or(shard as u16));
        let id = ConnectionId::new(home, 0x5eed_0000 + end.0 as u128 * 0x1_0000_0001);
        let new = NewClient {
            id,
            hub,
            user: profile.user.map(Into::into),
            server,
            required_server_id: profile.required_server_id.map(Into::into),
            open_body: encode_open_connection_body(&[], &[], "?hub=chat"),
            handshake_timeout: HUB_HANDSHAKE_TIMEOUT,
            transport: profile.transport,
            is_stateful: true,
            expiry: self.expiry,
        };
        let mut effects = Vec::new();
        let key = self.routers[shard].on_client_adopted(end.socket(), new, self.now, &mut effects);
        self.clients.push(ClientRecord {
            shard,
            key,
            id,
            hub,
            protocol: profile.protocol.clone(),
            server: None,
            received: Vec::new(),
            is_answered: false,
            is_paused: false,
            place: server,
            ended: None,
            has_left: false,
        });
        self.apply(shard, effects, &[]);
        end
    }

    fn say_hello(&mut self, client: ClientEnd) {
        let request = self.hello_of(client);
        self.say(client, &request);
    }

    fn hello_of(&self, client: ClientEnd) -> String {
        let protocol = self.clients[client.0].protocol.name();
        format!("{{\"protocol\":\"{protocol}\",\"version\":1}}\u{1e}")
    }

    fn say(&mut self, client: ClientEnd, text: &str) {
        self.say_bytes(client, text.as_bytes());
    }

    fn say_bytes(&mut self, client: ClientEnd, bytes: &[u8]) {
        let ClientRecord { shard, key, .. } = self.clients[client.0];
        let payload = Chunk::from(bytes.to_vec());
        let mut effects = Vec::new();
        let goes_on = self.routers[shard].on_client_data(key, payload, self.now, &mut effects);
        self.apply(shard, effects, &[]);
        assert_eq!(goes_on, self.is_connected(client));
    }

    fn leave(&mut self, client: ClientEnd) {
        let record = &mut self.clients[client.0];
        record.has_left = true;
        let (shard, key) = (record.shard, record.key);
        let mut effects = Vec::new();
        self.routers[shard].on_client_closed(key, self.now, &mut effects);
        self.apply(shard, effects, &[]);
    }

    fn is_connected(&self, client: ClientEnd) -> bool {
        let record = &self.clients[client.0];
        record.ended.is_none() && !record.has_left
    }

    fn id(&self, client: ClientEnd) -> &'static str {
        kept_text(&self.clients[client.0].id.to_string())
    }

    /// What a client has received since the last call, as text.
    fn heard(&mut self, client: ClientEnd) -> Vec<String> {
        let text = |payload: Vec<u8>| String::from_utf8_lossy(&payload).into_owned();
        let received = self.take_messages(client).into_iter();
        received.map(|(_, payload)| text(payload)).collect()
    }

    fn take_messages(&mut self, client: ClientEnd) -> Vec<(MessageKind, Vec<u8>)> {
        std::mem::take(&mut self.clients[client.0].received)
    }
}

impl ServerEnd {
    fn socket(self) -> SocketKey {
        SocketKey {
            slot: self.0 as u32,
            generation: 1,
        }
    }
}

impl ClientEnd {
    fn socket(self) -> SocketKey {
        SocketKey {
            slot: self.0 as u32,
            generation: 0,
        }
    }
}

/// `text` for JSON clients, and the same with a mark for MessagePack clients.
fn payloads(text: &str) -> Payloads<'static, &'static [u8]> {
    let mut payloads = Payloads::default();
    payloads.push("json", kept(text.as_bytes()));
    payloads.push("messagepack", kept(format!("mp:{text}").as_bytes()));
    payloads
}

/// The same bytes for as long as the tests run. Equal bytes are kept once, so that thousands of similar worlds need no more than one.
fn kept(bytes: &[u8]) -> &'static [u8] {
    thread_local! {
        static KEPT: RefCell<HashSet<&'static [u8], rustc_hash::FxBuildHasher>> = RefCell::default();
    }
    KEPT.with_borrow_mut(|all| {
        if let Some(known) = all.get(bytes) {
            return *known;
        }
        let new: &'static [u8] = bytes.to_vec().leak();
        all.insert(new);
        new
    })
}

fn kept_text(text: &str) -> &'static str {
    std::str::from_utf8(kept(text.as_bytes())).expect("it is a text")
}

/// A message without its length prefix.
fn encoded<'a>(message: impl Into<Message<'a, &'a [u8]>>) -> Vec<u8> {
    let mut framed = Vec::new();
    message.into().encode(&mut framed);
    let (_, prefix_bytes) = read_varint(&framed).unwrap().unwrap();
    framed.split_off(prefix_bytes)
}

//! What clients do: they get a place, arrive, shake hands, talk and go. And what their app servers do about that.

use super::talk::Talk;
use super::*;
use crate::protocol::access_token::Sticky;
use crate::routing::server_pool::{self, Candidate};

const CLIENTS_MAX: usize = 16;
const HANDSHAKES_REFUSED: [&str; 3] = [
    "hello\u{1e}",
    "{\"protocol\":\"json\",\"version\":\"1\"}\u{1e}",
    "{\"protocol\":\"json\"}\u{1e}",
];

/// A client between its upgrade and its shard.
pub(super) struct Arrival {
    hub: HubId,
    shard: usize,
    server: Option<ServerEnd>,
    profile: Profile,
    user: Option<&'static str>,
}

/// What is known of a client besides what the world keeps.
#[expect(
    clippy::struct_excessive_bools,
    reason = "each is a fact of its own, in any combination"
)]
pub(super) struct ClientModel {
    pub(super) user: Option<&'static str>,
    /// The server connection that admission chose.
    pub(super) place: Option<ServerEnd>,
    required_server_id: Option<&'static str>,
    /// What it will say first, as far as it has not said it. It is right, or it is refused.
    hello: Vec<u8>,
    /// How much of that belongs to the handshake request.
    request_bytes: usize,
    is_right: bool,
    pub(super) handshake_deadline: Instant,
    /// When it is closed in any case.
    pub(super) expires: Option<Instant>,
    /// It has ended for a reason that is known.
    pub(super) is_accounted: bool,
    /// Its app server has said goodbye or no to it.
    pub(super) is_dismissed: bool,
    /// Somebody has told the service to close it.
    pub(super) is_unwanted: bool,
    pub(super) talk: Talk,
    /// The server connection that was told of it last.
    pub(super) bound: Option<ServerEnd>,
    /// The one before.
    pub(super) former: Option<ServerEnd>,
    /// Its handshake request, with which it is introduced.
    pub(super) request: Vec<u8>,
    /// The rest of a message that it has begun.
    pub(super) rest: Vec<u8>,
    /// By server connection and way: the last message that came.
    pub(super) last_heard: BTreeMap<(usize, char), i32>,
}

impl Simulation {
    /// As admission does it: with what all shards know of all server connections.
    pub(super) fn client_is_placed(&mut self) {
        if self.clients_connected().count() + self.arriving.len() >= CLIENTS_MAX {
            return;
        }
        let hub = self.random.pick(&HUBS);
        let shard = self.random.below(self.world.routers.len());
        let server_id = self.random.pick(&["a", "b"]);
        let sticky = match self.random.below(8) {
            0 => Sticky::Preferred(server_id.into()),
            1 => Sticky::Required(server_id.into()),
            _ => Sticky::None,
        };
        let known: Vec<ServerEnd> = self
            .servers_up()
            .filter(|end| {
                let server = &self.world.servers[end.0];
                server.hub == hub && server.standing != Standing::Unknown
            })
            .collect();
        let candidates = known.iter().map(|end| {
            let server = &self.world.servers[end.0];
            Candidate {
                server_id: &server.server_id,
                shard: ShardId(server.shard as u16),
                is_routable: server.standing == Standing::Routable,
                client_count: (self.counted_at(*end) + self.arriving_at(*end)) as u32,
            }
        });
        let picked = server_pool::pick(candidates, &sticky, Some(ShardId(shard as u16)));
        let server = picked.map(|index| known[index]);
        // Without any there is nobody to be told, most of the time.
        if server.is_none() && !self.random.one_in(8) {
            return;
        }
        let shard = server.map_or(shard, |end| self.world.servers[end.0].shard);
        let is_moved = self.random.one_in(4);
        let user = self.random.pick(&[None, Some(USERS[0]), Some(USERS[1])]);
        let transport = self.random.pick(&[
            Transport::WebSockets,
            Transport::ServerSentEvents,
            Transport::LongPolling,
        ]);
        let protocols = [HubProtocol::Json, HubProtocol::MessagePack];
        let choice = if transport.is_text_only() { 1 } else { 2 };
        let profile = Profile {
            user,
            protocol: protocols[self.random.below(choice)].clone(),
            home: is_moved.then(|| self.random.below(self.world.routers.len()) as u16),
            required_server_id: matches!(sticky, Sticky::Required(_)).then_some(server_id),
            transport,
        };
        self.log(format_args!(
            "a client of hub {} is placed on shard {shard}, server connection {:?}, {sticky:?}",
            hub.0,
            server.map(|end| end.0)
        ));
        self.arriving.push_back(Arrival {
            hub,
            shard,
            server,
            profile,
            user,
        });
    }

    pub(super) fn client_arrives(&mut self) {
        if self.arriving.is_empty() {
            return;
        }
        let index = self.random.below(self.arriving.len());
        let Some(arrival) = self.arriving.remove(index) else {
            return;
        };
        let Arrival {
            hub,
            shard,
            server,
            profile,
            user,
        } = arrival;
        let home = profile.home.map_or(shard, usize::from);
        self.log(format_args!(
            "client {} arrives on shard {shard}, its id names shard {home}; {} {}",
            self.clients.len(),
            profile.protocol.name(),
            user.unwrap_or("nobody"),
        ));
        let expiry = self.random.one_in(6).then(|| Expiry {
            at: self.world.now + Duration::from_millis(self.random.below(20_000) as u64),
            allow_reconnect: self.random.one_in(2),
        });
        self.world.expiry = expiry;
        // It may be gone by now.
        let key = server.map(|end| self.world.servers[end.0].key);
        let client = self.world.adopt_client_with(shard, hub, key, &profile);
        let is_right = !self.random.one_in(12);
        let hello = if is_right {
            self.world.hello_of(client)
        } else {
            self.random.pick(&HANDSHAKES_REFUSED).to_owned()
        };
        let request = hello.clone().into_bytes();
        let mut talk = Talk::default();
        talk.says_hello(&request);
        self.clients.push(ClientModel {
            user,
            place: server,
            required_server_id: profile.required_server_id,
            request_bytes: hello.len(),
            hello: hello.into_bytes(),
            is_right,
            handshake_deadline: self.world.now + HUB_HANDSHAKE_TIMEOUT,
            expires: expiry.map(|expiry| expiry.at),
            is_accounted: false,
            is_dismissed: false,
            is_unwanted: false,
            talk,
            bound: None,
            former: None,
            request,
            rest: Vec::new(),
            last_heard: BTreeMap::new(),
        });
        if is_right && self.random.one_in(6) {
            self.client_hurries(client);
        }
    }

    /// It does not wait for the answer to its handshake request.
    fn client_hurries(&mut self, client: ClientEnd) {
        let first = self.next_message(client);
        self.clients[client.0].hello.extend(first);
    }

    pub(super) fn client_says_hello(&mut self) {
        let silent: Vec<ClientEnd> = self
            .clients_connected()
            .filter(|client| self.world.clients[client.0].server.is_none())
            .collect();
        let Some(client) = self.random.pick_any(&silent) else {
            return;
        };
        // The shard that its id names has long heard of it when its app server does.
        let ClientRecord { shard, id, .. } = self.world.clients[client.0];
        while self.world.take_mail_from(id.shard().index(), shard) {}

        let bytes = self.clients[client.0].hello.len();
        let part = if self.random.one_in(3) {
            self.random.below(bytes)
        } else {
            bytes
        };
        let model = &mut self.clients[client.0];
        let rest = model.hello.split_off(part);
        let said = std::mem::replace(&mut model.hello, rest);
        let is_whole = part >= model.request_bytes;
        model.request_bytes = model.request_bytes.saturating_sub(part);
        self.log(format_args!(
            "client {} says {part} bytes of its hello, {} are left",
            client.0,
            bytes - part
        ));
        let had_server = is_whole && self.has_server_for(client);
        self.world.say_bytes(client, &said);
        if is_whole {
            self.check_hello(client, had_server);
        }
    }

    fn check_hello(&mut self, client: ClientEnd, had_server: bool) {
        let record = &self.world.clients[client.0];
        let model = &mut self.clients[client.0];
        let expected = match (model.is_right, had_server) {
            (false, _) => Some(CloseCause::BadHandshake),
            (true, false) => Some(CloseCause::NoAppServer),
            (true, true) => None,
        };
        assert_eq!(record.ended, expected);
        assert_eq!(record.server.is_some(), expected.is_none());
        model.rest = std::mem::take(&mut model.hello);
        if record.server.is_some() {
            self.note_opened(client);
        }
    }

    /// Whether its shard has a server connection that it may be bound to. If there was none anywhere when it came, it is told so.
    fn has_server_for(&self, client: ClientEnd) -> bool {
        let ClientRecord { shard, hub, .. } = self.world.clients[client.0];
        let model = &self.clients[client.0];
        model.place.is_some()
            && self.servers_up().any(|end| {
                let server = &self.world.servers[end.0];
                (server.shard, server.hub, server.standing) == (shard, hub, Standing::Routable)
                    && model
                        .required_server_id
                        .is_none_or(|id| id == &*server.server_id)
            })
    }

    pub(super) fn handshake_is_answered(&mut self) {
        let opening: Vec<ClientEnd> = self
            .clients_connected()
            .filter(|client| {
                let record = &self.world.clients[client.0];
                !record.is_answered && record.server.is_some_and(|server| self.speaks(server))
            })
            .collect();
        let Some(client) = self.random.pick_any(&opening) else {
            return;
        };
        self.own_server_speaks(client);
        if self.random.one_in(8) {
            self.log(format_args!("client {} is rejected", client.0));
            self.clients[client.0].is_dismissed = true;
            self.world
                .send_data(client, REJECTED, DataMessageType::Handshake);
        } else {
            self.log(format_args!("client {} is accepted", client.0));
            self.world.accept(client);
        }
    }

    pub(super) fn client_leaves(&mut self) {
        let connected: Vec<ClientEnd> = self.clients_connected().collect();
        if let Some(client) = self.random.pick_any(&connected) {
            self.log(format_args!("client {} leaves", client.0));
            self.world.leave(client);
        }
    }

    /// First the goodbye, as the SDK does it; or at once, from anywhere.
    pub(super) fn client_is_closed(&mut self) {
        let known: Vec<ClientEnd> = self.clients_known().collect();
        let Some(client) = self.random.pick_any(&known) else {
            return;
        };
        let former = self.clients[client.0].former;
        if let Some(former) = former.filter(|former| self.speaks(*former)) {
            return self.goodbye_comes_late(client, former);
        }
        let record = &self.world.clients[client.0];
        let (hub, is_answered) = (record.hub, record.is_answered);
        let server = record.server.filter(|server| self.speaks(*server));
        if server.is_some() && self.clients[client.0].is_dismissed {
            self.log(format_args!("client {} is let go", client.0));
            self.own_server_speaks(client);
            self.world.close_from_server(client);
        } else if server.is_some() && is_answered && self.random.one_in(2) {
            self.log(format_args!("client {} is said goodbye to", client.0));
            self.own_server_speaks(client);
            self.clients[client.0].is_dismissed = true;
            self.world.say_goodbye(client);
        } else if let Some(asking) = self.any_speaker(hub) {
            let reason = self.random.pick(&["", "enough"]);
            self.log(format_args!(
                "server connection {} wants client {} closed, '{reason}'",
                asking.0, client.0
            ));
            self.clients[client.0].is_unwanted = true;
            let close = CloseConnection {
                error_message: reason.into(),
                ..CloseConnection::of(self.world.id(client))
            };
            self.send(asking, close);
        }
    }

    /// An app server that has given a client up ends what it had with it. The client hears nothing of that.
    fn goodbye_comes_late(&mut self, client: ClientEnd, former: ServerEnd) {
        if self.clients[client.0].bound == Some(former) {
            return;
        }
        self.log(format_args!(
            "server connection {} says goodbye to client {}, which has left it",
            former.0, client.0
        ));
        let goodbye = ConnectionData {
            connection_id: self.world.id(client).into(),
            payload: &b"{\"type\":7}\x1e"[..],
            data_type: DataMessageType::Close,
            ..ConnectionData::default()
        };
        self.send(former, goodbye);
    }

    /// Its server connection is about to say something.
    pub(super) fn own_server_speaks(&mut self, client: ClientEnd) {
        if let Some(server) = self.world.clients[client.0].server {
            assert!(self.speaks(server), "who hangs says nothing");
            self.servers[server.0].last_spoke = self.world.now;
        }
    }

    pub(super) fn clients_connected(&self) -> impl Iterator<Item = ClientEnd> + '_ {
        let ends = (0..self.world.clients.len()).map(ClientEnd);
        ends.filter(|client| self.world.is_connected(*client))
    }

    /// Those that an app server was told of.
    pub(super) fn clients_known(&self) -> impl Iterator<Item = ClientEnd> + '_ {
        self.clients_connected()
            .filter(|client| self.world.clients[client.0].server.is_some())
    }

    /// Clients on their shard that hold a place at a server connection, as the shards count them.
    pub(super) fn counted_at(&self, server: ServerEnd) -> usize {
        let ServerRecord { shard, key, .. } = self.world.servers[server.0];
        let here = |client: &ClientEnd| {
            let record = &self.world.clients[client.0];
            (record.shard, record.place) == (shard, Some(key))
        };
        self.clients_connected().filter(here).count()
    }

    fn arriving_at(&self, server: ServerEnd) -> usize {
        let arriving = |arrival: &&Arrival| arrival.server == Some(server);
        self.arriving.iter().filter(arriving).count()
    }

    /// The id of a client that is there or was there. No app server has heard of others.
    pub(super) fn any_client_ever_known(&mut self) -> Option<ClientEnd> {
        let mut known: Vec<ClientEnd> = (0..self.world.clients.len()).map(ClientEnd).collect();
        known.retain(|client| self.world.clients[client.0].server.is_some());
        self.random.pick_any(&known)
    }
}

//! What happens by itself: effects are carried out, mails arrive, time passes. And what must hold meanwhile.

use std::time::Duration;

use bytes::Bytes;

use super::super::client::{Client, Phase};
use super::super::traffic::Stage;
use super::{ACCEPTED, ClientRecord, Received, ServerEnd, ServerRecord, Standing, World, kept};
use crate::frame::record::read_varint;
use crate::frame::websocket::{Decoder, Event, Limits, MessageKind, Role};
use crate::id::{ConnectionId, ShardId};
use crate::protocol::service::{
    CONNECTION_DATA_TRAILER, KEEP_ALIVE_PING, MIGRATE_FROM, Message, Text, Texts,
    connection_data_header, decode_whole,
};
use crate::routing::{Effect, ForwardTo, HubId, Mail, Origin, Router, ServerRef, SocketKey};

impl World {
    /// Lets time pass on all shards.
    pub(super) fn pass(&mut self, time: Duration) {
        self.now += time;
        for shard in 0..self.routers.len() {
            self.tick(shard);
        }
    }

    pub(super) fn tick(&mut self, shard: usize) {
        let mut effects = Vec::new();
        self.routers[shard].on_tick(self.now, &mut effects);
        self.apply(shard, effects, &[]);
    }

    pub(super) fn drain(&mut self) {
        for shard in 0..self.routers.len() {
            let mut effects = Vec::new();
            self.routers[shard].on_drain(self.now, &mut effects);
            self.apply(shard, effects, &[]);
        }
    }

    /// Lets a shard take its next mail. False if it has none.
    pub(super) fn take_mail(&mut self, shard: usize) -> bool {
        let Some((_, mail)) = self.mails[shard].pop_front() else {
            return false;
        };
        self.deliver_mail(shard, mail);
        true
    }

    /// The same for the next mail from one other shard: only from each single one do they come in order.
    pub(super) fn take_mail_from(&mut self, shard: usize, from: usize) -> bool {
        let is_from = |(sender, _): &(usize, Mail)| *sender == from;
        let Some(next) = self.mails[shard].iter().position(is_from) else {
            return false;
        };
        if let Some((_, mail)) = self.mails[shard].remove(next) {
            self.deliver_mail(shard, mail);
        }
        true
    }

    fn deliver_mail(&mut self, shard: usize, mail: Mail) {
        let message = match &mail {
            Mail::Forwarded { message, .. } => message.clone(),
            Mail::Answer { .. }
            | Mail::Moved { .. }
            | Mail::Question { .. }
            | Mail::Findings { .. } => Bytes::new(),
        };
        let mut effects = Vec::new();
        self.routers[shard].on_mail(mail, self.now, &mut effects);
        self.apply(shard, effects, &message);
    }

    /// Lets all mails arrive.
    pub(super) fn deliver_all(&mut self) {
        while (0..self.routers.len()).any(|shard| self.take_mail(shard)) {}
    }

    /// The same. Then the shards agree, and none waits for another.
    pub(super) fn settle(&mut self) {
        self.deliver_all();
        self.assert_same_memory();
        for router in &self.routers {
            assert!(router.surveys.is_empty(), "every shard has spoken");
        }
    }

    /// All shards remember the same of the users' groups.
    fn assert_same_memory(&self) {
        let (first, others) = self.routers.split_first().expect("there is a shard");
        let memory = first.user_groups.memory(self.now);
        for other in others {
            assert_eq!(other.user_groups.memory(self.now), memory);
        }
    }

    pub(super) fn apply(&mut self, shard: usize, effects: Vec<Effect>, message: &[u8]) {
        for effect in effects {
            self.apply_one(shard, effect, message);
        }
        self.routers[shard].check();
    }

    fn apply_one(&mut self, shard: usize, effect: Effect, message: &[u8]) {
        match effect {
            Effect::RelayToServer {
                server,
                client,
                payload,
            } => {
                let mut bytes = connection_data_header(&client.to_string(), payload.len()).to_vec();
                bytes.extend_from_slice(&payload);
                bytes.extend_from_slice(&CONNECTION_DATA_TRAILER);
                self.reach_server(server, &bytes);
            }
            Effect::RelayToClient {
                client,
                kind,
                payload,
            } => {
                let payload = payload.iter().flat_map(|chunk| chunk.to_vec()).collect();
                self.reach_client(client, kind, payload);
            }
            Effect::ToServer { server, messages } => self.reach_server(server, &messages),
            Effect::FanOut { frame, clients } => {
                for client in clients {
                    let (kind, payload) = decode_frame(&frame);
                    assert!(
                        self.clients[client.slot as usize].is_answered,
                        "nothing overtakes a handshake response"
                    );
                    self.reach_client(client, kind, payload);
                }
            }
            Effect::Forward { to, hub, origin } => self.forward(shard, &to, hub, &origin, message),
            Effect::Post { shard: to, mail } => {
                assert_ne!(to.index(), shard, "a shard posts nothing to itself");
                self.mails[to.index()].push_back((shard, mail));
            }
            Effect::CloseClient { client, cause } => {
                let record = &mut self.clients[client.slot as usize];
                assert_eq!(record.ended.replace(cause), None, "a client is closed once");
            }
            Effect::CloseServer { server, cause } => {
                let record = &mut self.servers[server.slot as usize];
                assert_eq!(
                    record.ended.replace(cause),
                    None,
                    "a server connection is closed once"
                );
            }
            Effect::ServerReady {
                server,
                is_routable,
                ..
            } => {
                let standing = if is_routable {
                    Standing::Routable
                } else {
                    Standing::SendOnly
                };
                self.set_standing(server.server, standing);
            }
            Effect::ServerDraining { server, .. } => self.set_standing(server, Standing::SendOnly),
            Effect::ServerGone { server, .. } => self.set_standing(server, Standing::Gone),
            Effect::ClientMoved { client, server } => self.move_place(shard, client, server),
            Effect::PauseClient(client) => self.clients[client.slot as usize].is_paused = true,
            Effect::ResumeClient(client) => self.clients[client.slot as usize].is_paused = false,
            Effect::AnswerStatus(server) | Effect::AnswerServers(server) => {
                self.reach_server(server, &KEEP_ALIVE_PING);
            }
        }
    }

    fn move_place(&mut self, shard: usize, client: SocketKey, server: ServerRef) {
        let record = &mut self.clients[client.slot as usize];
        record.place = Some(server.server);
        let bound = record.server.expect("it has been opened");
        assert_eq!(server.shard.index(), shard);
        assert_eq!(self.servers[bound.0].key, server.server);
    }

    /// As the shards do it: one copy to each that has clients of the hub, or to those that are named.
    fn forward(
        &mut self,
        from: usize,
        to: &ForwardTo,
        hub: HubId,
        origin: &Origin,
        message: &[u8],
    ) {
        assert!(!message.is_empty(), "what is forwarded is a message");
        for shard in 0..self.routers.len() {
            let has_clients = |client: &ClientRecord| {
                client.shard == shard
                    && client.hub == hub
                    && client.ended.is_none()
                    && !client.has_left
            };
            let is_wanted = match to {
                ForwardTo::Hub => self.clients.iter().any(has_clients),
                ForwardTo::Shards(shards) => shards.contains(&ShardId(shard as u16)),
            };
            if is_wanted && shard != from {
                let mail = Mail::Forwarded {
                    hub,
                    origin: origin.clone(),
                    message: message.to_vec().into(),
                };
                self.mails[shard].push_back((from, mail));
            }
        }
    }

    fn reach_client(&mut self, socket: SocketKey, kind: MessageKind, payload: Vec<u8>) {
        let client = &mut self.clients[socket.slot as usize];
        assert_eq!(client.ended, None, "nothing is sent behind a close");
        assert!(
            !client.has_left,
            "nothing is sent to a client that has left"
        );
        if !client.is_answered {
            let is_refusal = payload.starts_with(b"{\"error\"");
            assert!(
                payload == ACCEPTED.as_bytes() || is_refusal,
                "a handshake response is the first that a client hears"
            );
            assert_eq!(
                kind == MessageKind::Text,
                is_refusal || client.protocol.is_text()
            );
            client.is_answered = true;
        }
        client.received.push((kind, payload));
    }

    fn reach_server(&mut self, socket: SocketKey, bytes: &[u8]) {
        let server = &mut self.servers[socket.slot as usize];
        assert_eq!(server.ended, None, "nothing is sent behind a close");
        assert!(
            !server.is_lost,
            "nothing is sent on a connection that has ended"
        );
        let mut rest = kept(bytes);
        while !rest.is_empty() {
            let (length, prefix_bytes) = read_varint(rest)
                .unwrap()
                .expect("only whole messages are sent");
            let (message, behind) = rest[prefix_bytes..].split_at(length as usize);
            let message = decode_whole(message).expect("what is sent can be read");
            note_client(server, &message);
            if let Message::OpenConnection(open) = &message {
                let id = ConnectionId::parse(&open.connection_id);
                let named = |client: &&mut ClientRecord| Some(client.id) == id;
                let client = self.clients.iter_mut().find(named).expect("it exists");
                let before = client.server.replace(ServerEnd(socket.slot as usize));
                assert_eq!(
                    before.is_some(),
                    migrates(&open.headers),
                    "a client is bound once, but for a migration"
                );
                assert_eq!((client.shard, client.hub), (server.shard, server.hub));
                assert_eq!(
                    server.standing,
                    Standing::Routable,
                    "only such a connection is given clients"
                );
            }
            server.received.push(message);
            self.heard.push(ServerEnd(socket.slot as usize));
            rest = behind;
        }
    }

    fn set_standing(&mut self, server: ServerRef, standing: Standing) {
        let meant = |record: &&mut ServerRecord| {
            record.shard == server.shard.index() && record.key == server.server
        };
        if let Some(record) = self.servers.iter_mut().find(meant) {
            record.standing = standing;
        }
    }

    /// Nothing is left of anybody.
    pub(super) fn assert_empty(&self) {
        for router in &self.routers {
            assert_eq!(router.clients.len(), 0, "clients");
            assert!(router.servers.is_empty(), "server connections");
            assert!(router.hubs.is_empty(), "hubs, with their users and groups");
            assert!(router.invocations.is_empty(), "invocations");
            assert!(router.moved.is_empty(), "moved connections");
            assert!(router.surveys.is_empty(), "surveys");
            assert!(router.user_groups.is_empty(), "standing memberships");
        }
    }
}

/// Whether a client comes from another app server.
fn migrates(headers: &[(Text<'_>, Texts<'_>)]) -> bool {
    headers.iter().any(|(name, _)| name == MIGRATE_FROM)
}

/// An app server is told of a client before it hears of it, and once of its end.
fn note_client(server: &mut ServerRecord, message: &Received) {
    if let Message::OpenConnection(open) = message {
        let is_new = server.clients.insert(open.connection_id.to_string());
        assert!(is_new, "a client is opened once");
    }
    if let Message::ConnectionData(data) = message {
        assert!(
            server.clients.contains(&*data.connection_id),
            "data comes between open and close"
        );
    }
    if let Message::CloseConnection(close) = message {
        server.clients.remove(&*close.connection_id);
    }
}

impl Router {
    /// What must hold between any two events.
    pub(in crate::routing) fn check(&self) {
        let (mut known, mut memberships) = (0, 0);
        for (key, client) in self.clients.iter() {
            if matches!(client.phase, Phase::Handshake(_)) {
                assert_eq!(
                    self.clients.find(client.id),
                    None,
                    "no app server knows of it"
                );
                continue;
            }
            known += 1;
            memberships += client.groups.len();
            assert_eq!(
                self.clients.find(client.id),
                Some(key),
                "it is found by its id"
            );
            let hub = &self.hubs[&client.hub];
            assert_eq!(hub.clients().get(client.place as usize), Some(&key));
            let is_parked = client
                .traffic
                .as_ref()
                .is_some_and(|traffic| matches!(traffic.stage, Stage::Parked(_)));
            assert_eq!(client.server.is_none(), is_parked, "else it is bound");
            if let Some(server) = client.server {
                let server = self.server(server).expect("its server connection exists");
                assert_eq!(server.hub, client.hub);
            }
        }
        for (slot, server) in &self.servers {
            let is_its_own = |client: &Client| {
                let slots = client.server.map(|server| server.slot as usize);
                slots == Some(slot) && !matches!(client.phase, Phase::Handshake(_))
            };
            let bound = self.clients.iter().filter(|(_, client)| is_its_own(client));
            assert_eq!(bound.count(), server.client_count, "it counts its clients");
        }
        assert_eq!(self.clients.published_count(), known);
        let in_hubs: usize = self.hubs.values().map(|hub| hub.clients().len()).sum();
        assert_eq!(in_hubs, known);
        let in_groups: usize = self.hubs.values().map(|hub| hub.check(&self.clients)).sum();
        assert_eq!(
            in_groups, memberships,
            "both sides know the same memberships"
        );
        self.check_expiries();
        self.resuming.check(self.clients.iter());
        self.invocations.check(|id| self.clients.find(id).is_some());
        assert!(self.moved.values().all(|shard| *shard != self.shard));
        self.surveys.check();
        self.user_groups.check();
    }
}

impl Router {
    /// Exactly those that have one are listed.
    fn check_expiries(&self) {
        let own = self.clients.iter().filter_map(|(key, client)| {
            let expiry = client.expiry.as_ref()?;
            Some((expiry.at, key))
        });
        let mut own: Vec<_> = own.collect();
        own.sort_unstable();
        assert_eq!(self.expiries.list(), own);
    }
}

fn decode_frame(frame: &[u8]) -> (MessageKind, Vec<u8>) {
    let limits = Limits {
        message_bytes_max: u64::MAX,
        frames_per_message_max: 1,
        text_checked: false,
    };
    let mut input = frame.to_vec();
    let mut at = 0;
    let event = Decoder::new(Role::Client, limits).next(&mut input, &mut at);
    let Ok(Some(Event::Data(piece))) = event else {
        panic!("a fan-out sends data, not {event:?}");
    };
    assert!(piece.starts_message && piece.ends_message && at == frame.len());
    (piece.kind, input[piece.range].to_vec())
}

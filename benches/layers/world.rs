//! Routers of a hub's shards without sockets, with many clients and groups, and the outboxes that their effects end in.
//!
//! All shards run on one thread, one after the other, so what is measured is what all of them need together. A mail is handed on as it
//! is between shards: the message is copied once for all others.

use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use hubring::chunk::Chunk;
use hubring::counters::Counters;
use hubring::id::{ConnectionId, ShardId};
use hubring::limits::HUB_HANDSHAKE_TIMEOUT;
use hubring::protocol::service::{HandshakeRequest, encode_open_connection_body};
use hubring::routing::{
    ClientKey, Effect, ForwardTo, HubId, Mail, NewClient, NewServer, Router, ServerKey, SocketKey,
};
use hubring::shard::outbox::Outbox;

use crate::messages::{Outgoing, data, encoded, join};

const HUB: HubId = HubId(0);
pub(crate) const HANDSHAKE: &[u8] = b"{\"protocol\":\"json\",\"version\":1}\x1e";
pub(crate) const ACCEPTED: &[u8] = b"{}\x1e";
/// Members of each group, and groups of each client.
pub(crate) const GROUP_MEMBERS: usize = 10;

/// See the module.
pub(crate) struct World {
    pub(crate) shards: Vec<Shard>,
    pub(crate) clients: Vec<Client>,
    pub(crate) now: Instant,
    effects: Vec<Effect>,
    mails: Vec<(ShardId, Mail)>,
    /// By socket.
    outboxes: Vec<Outbox>,
    dirty: Vec<SocketKey>,
}

/// One shard, with one server connection.
pub(crate) struct Shard {
    pub(crate) router: Router,
    pub(crate) server: ServerKey,
}

/// A client connection whose messages flow. It is in [`GROUP_MEMBERS`] groups and has a user of its own.
#[derive(Clone, Copy)]
pub(crate) struct Client {
    pub(crate) shard: usize,
    pub(crate) key: ClientKey,
    pub(crate) id: ConnectionId,
}

impl World {
    /// Clients and their groups spread evenly over so many shards. There are as many groups as clients.
    pub(crate) fn new(shard_count: u16, client_count: usize) -> Self {
        let now = Instant::now();
        let mut world = Self {
            shards: (0..shard_count)
                .map(|shard| Shard::new(ShardId(shard), shard_count, now))
                .collect(),
            clients: Vec::with_capacity(client_count),
            now,
            effects: Vec::new(),
            mails: Vec::new(),
            outboxes: (0..client_count).map(|_| Outbox::default()).collect(),
            dirty: Vec::new(),
        };
        for index in 0..client_count {
            let client = world.open(index);
            world.clients.push(client);
        }
        for index in 0..client_count {
            let id = world.clients[index].id.to_string();
            for group in 0..GROUP_MEMBERS {
                let group = group_name((index + group) % client_count);
                world.route(world.clients[index].shard, join(&id, &group));
            }
        }
        world
    }

    /// Opens the client of this index, through both handshakes.
    fn open(&mut self, index: usize) -> Client {
        let shard = index % self.shards.len();
        let new = new_client(shard, index, self.shards[shard].server);
        let id = new.id;
        let key = self.shards[shard].open(socket_of(index), new, self.now, &mut self.effects);
        self.effects.clear();
        Client { shard, key, id }
    }

    /// Lets the app server send a message on its connection to a shard, and drops what follows from it.
    fn route<'a>(&mut self, shard: usize, message: impl Into<Outgoing<'a>>) {
        let message = [Chunk::from(encoded(message))];
        self.shards[shard].hear(&message, self.now, &mut self.effects);
        self.effects.clear();
    }

    /// The same, with all that follows from it on all shards, up to the outboxes. Says how many clients got something. What waits for
    /// them is then forgotten, as if it had been sent.
    pub(crate) fn send(&mut self, shard: usize, message: &[Chunk]) -> usize {
        self.shards[shard].hear(message, self.now, &mut self.effects);
        self.carry_out(message);
        while let Some((shard, mail)) = self.mails.pop() {
            let router = &mut self.shards[shard.index()].router;
            router.on_mail(mail, self.now, &mut self.effects);
            self.carry_out(&[]);
        }
        let delivered = self.dirty.len();
        for socket in self.dirty.drain(..) {
            self.outboxes[socket.slot as usize].clear();
        }
        delivered
    }

    fn carry_out(&mut self, message: &[Chunk]) {
        let mut effects = std::mem::take(&mut self.effects);
        for effect in effects.drain(..) {
            self.apply(effect, message);
        }
        self.effects = effects;
    }

    #[expect(
        clippy::wildcard_enum_match_arm,
        reason = "what does not end at a client or another shard is dropped"
    )]
    fn apply(&mut self, effect: Effect, message: &[Chunk]) {
        match effect {
            Effect::RelayToClient {
                client,
                kind,
                payload,
            } => {
                let bytes = payload.iter().map(|chunk| chunk.len()).sum();
                self.outboxes[client.slot as usize].push_message(kind, payload, bytes);
                self.dirty.push(client);
            }
            Effect::FanOut { frame, clients } => {
                for client in clients {
                    self.outboxes[client.slot as usize].push_chunk(frame.clone());
                    self.dirty.push(client);
                }
            }
            Effect::Forward { to, hub, origin } => {
                let slices: Vec<&[u8]> = message.iter().map(|chunk| &**chunk).collect();
                let message = Bytes::from(slices.concat());
                for shard in (0..self.shards.len() as u16).map(ShardId) {
                    let is_wanted = match &to {
                        ForwardTo::Hub => true,
                        ForwardTo::Shards(shards) => shards.contains(&shard),
                    };
                    if is_wanted && shard != origin.server.shard {
                        let mail = Mail::Forwarded {
                            hub,
                            origin: origin.clone(),
                            message: message.clone(),
                        };
                        self.mails.push((shard, mail));
                    }
                }
            }
            Effect::Post { shard, mail } => self.mails.push((shard, mail)),
            _ => {}
        }
    }
}

impl Shard {
    fn new(shard: ShardId, shard_count: u16, now: Instant) -> Self {
        let mut router = Router::new(
            shard,
            shard_count,
            "instance",
            Arc::new(Counters::default()),
        );
        let socket = SocketKey {
            slot: u32::MAX,
            generation: 1,
        };
        let new = NewServer {
            hub: HUB,
            server_id: "app".into(),
            connection_id: format!("server-{shard}").into(),
        };
        let server = router.on_server_adopted(socket, new, now);
        let request = HandshakeRequest {
            version: 1,
            ..HandshakeRequest::default()
        };
        let mut shard = Self { router, server };
        shard.hear(&[Chunk::from(encoded(request))], now, &mut Vec::new());
        shard
    }

    /// A whole service message has come on the server connection.
    pub(crate) fn hear(&mut self, message: &[Chunk], now: Instant, effects: &mut Vec<Effect>) {
        self.router.on_server_heard(self.server, now);
        self.router
            .on_server_message(self.server, message, now, effects);
    }

    /// A client comes, says its hub handshake, and is accepted.
    pub(crate) fn open(
        &mut self,
        socket: SocketKey,
        new: NewClient,
        now: Instant,
        effects: &mut Vec<Effect>,
    ) -> ClientKey {
        let id = new.id.to_string();
        let key = self.router.on_client_adopted(socket, new, now, effects);
        let request = Chunk::from(HANDSHAKE.to_vec());
        let goes_on = self.router.on_client_data(key, request, now, effects);
        assert!(goes_on, "a handshake is accepted");
        let answer = Chunk::from(encoded(data(&id, ACCEPTED)));
        self.hear(&[answer], now, effects);
        key
    }
}

/// What admission would say of the client of this index.
pub(crate) fn new_client(shard: usize, index: usize, server: ServerKey) -> NewClient {
    NewClient {
        id: ConnectionId::new(ShardId(shard as u16), random(index as u64)),
        hub: HUB,
        user: Some(user_name(index).into()),
        server: Some(server),
        required_server_id: None,
        open_body: encode_open_connection_body(
            &[("nameid".into(), user_name(index).into())],
            &[],
            "?hub=chat",
        ),
        handshake_timeout: HUB_HANDSHAKE_TIMEOUT,
        transport: hubring::protocol::negotiate::Transport::WebSockets,
        is_stateful: false,
        expiry: None,
    }
}

pub(crate) fn socket_of(index: usize) -> SocketKey {
    SocketKey {
        slot: index as u32,
        generation: 0,
    }
}

pub(crate) fn group_name(index: usize) -> String {
    format!("group-{index}")
}

pub(crate) fn user_name(index: usize) -> String {
    format!("user-{index}")
}

/// Every index below `count`, in an order that no cache foresees. Steps over a prime, which shares no divisor with any `count` used here.
pub(crate) fn shuffled(count: usize) -> impl Iterator<Item = usize> {
    const STEP: usize = 7919;
    debug_assert!(!count.is_multiple_of(STEP), "every index comes up");
    std::iter::successors(Some(0), move |index| Some((index + STEP) % count))
}

/// 128 well mixed bits (`SplitMix64`, twice).
fn random(seed: u64) -> u128 {
    let half = |seed: u64| {
        let mut z = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15);
        z = (z ^ z >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ z >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ z >> 31
    };
    u128::from(half(2 * seed + 1)) << 64 | u128::from(half(2 * seed + 2))
}

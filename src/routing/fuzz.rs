//! Any bytes as what two app servers send, to the routers of two shards.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;

use super::{Effect, ForwardTo, HubId, Mail, NewClient, NewServer, Router, ServerKey, SocketKey};
use crate::chunk::Chunk;
use crate::frame::record::read_varint;
use crate::id::{ConnectionId, ShardId};
use crate::limits::HUB_HANDSHAKE_TIMEOUT;
use crate::protocol::service::{
    ConnectionData, HandshakeRequest, Message, encode_open_connection_body,
};

const HUB: HubId = HubId(0);
const SHARDS: u16 = 2;

/// Takes any bytes for messages of app servers, lets two routers with a client each handle them, and checks that nothing is left when
/// all have gone. Before each message stand a byte that says which app server sends it and where it is cut, and its length.
///
/// # Panics
/// When a router does, or when something is left.
pub fn fuzz_router(data: &[u8]) {
    let mut pair = Pair::new();
    let mut rest = data;
    while let Some((way, behind)) = rest.split_first() {
        let Ok(Some((length, prefix_bytes))) = read_varint(behind) else {
            break;
        };
        let (_, behind) = behind.split_at(prefix_bytes);
        let (message, behind) = behind.split_at(behind.len().min(length as usize));
        pair.send(usize::from(way & 1), message, usize::from(way >> 1));
        rest = behind;
    }
    pair.end();
}

struct Pair {
    routers: Vec<Router>,
    servers: Vec<ServerKey>,
    mails: VecDeque<(usize, Mail)>,
    now: Instant,
}

impl Pair {
    fn new() -> Self {
        let router = |shard| Router::new(ShardId(shard), SHARDS, "instance", Arc::default());
        let mut pair = Self {
            routers: (0..SHARDS).map(router).collect(),
            servers: Vec::new(),
            mails: VecDeque::new(),
            now: Instant::now(),
        };
        for shard in 0..usize::from(SHARDS) {
            pair.connect(shard);
        }
        pair
    }

    /// A server connection with an open client, whose id is the same each time.
    fn connect(&mut self, shard: usize) {
        let socket = |slot| SocketKey {
            slot,
            generation: shard as u32,
        };
        let id = ConnectionId::new(ShardId(shard as u16), 0x5eed);
        let server = NewServer {
            hub: HUB,
            server_id: format!("app-{shard}").into(),
            connection_id: "cid".into(),
        };
        let client = NewClient {
            id,
            hub: HUB,
            user: Some("ann".into()),
            server: None,
            required_server_id: None,
            open_body: encode_open_connection_body(&[], &[], ""),
            handshake_timeout: HUB_HANDSHAKE_TIMEOUT,
            transport: crate::protocol::negotiate::Transport::WebSockets,
            is_stateful: true,
            expiry: None,
        };
        let Some(router) = self.routers.get_mut(shard) else {
            return;
        };
        let server = router.on_server_adopted(socket(0), server, self.now);
        self.servers.push(server);
        let request = HandshakeRequest {
            version: 1,
            ..HandshakeRequest::default()
        };
        self.send(shard, &encoded(request), 0);
        let Some(router) = self.routers.get_mut(shard) else {
            return;
        };
        let mut effects = Vec::new();
        let client = NewClient {
            server: Some(server),
            ..client
        };
        let key = router.on_client_adopted(socket(1), client, self.now, &mut effects);
        let hello = Chunk::from(b"{\"protocol\":\"json\",\"version\":1}\x1e".to_vec());
        router.on_client_data(key, hello, self.now, &mut effects);
        let accepted = ConnectionData {
            connection_id: id.to_string().into(),
            payload: &b"{}\x1e"[..],
            ..ConnectionData::default()
        };
        self.send(shard, &encoded(accepted), 0);
    }

    /// Sends a message in two pieces, and lets all mails arrive.
    fn send(&mut self, shard: usize, message: &[u8], cut: usize) {
        let (head, tail) = message.split_at(cut.min(message.len()));
        let pieces = [Chunk::from(head.to_vec()), Chunk::from(tail.to_vec())];
        let (Some(router), Some(server)) = (self.routers.get_mut(shard), self.servers.get(shard))
        else {
            return;
        };
        let mut effects = Vec::new();
        router.on_server_heard(*server, self.now);
        router.on_server_message(*server, &pieces, self.now, &mut effects);
        self.carry(shard, effects, &Bytes::copy_from_slice(message));
        while let Some((shard, mail)) = self.mails.pop_front() {
            let message = if let Mail::Forwarded { message, .. } = &mail {
                message.clone()
            } else {
                Bytes::new()
            };
            let mut effects = Vec::new();
            if let Some(router) = self.routers.get_mut(shard) {
                router.on_mail(mail, self.now, &mut effects);
            }
            self.carry(shard, effects, &message);
        }
    }

    /// Of what a router wants done only what reaches the other one.
    fn carry(&mut self, from: usize, effects: Vec<Effect>, message: &Bytes) {
        #[cfg(test)]
        for router in &self.routers {
            router.check();
        }
        for effect in effects {
            if let Effect::Post { shard, mail } = effect {
                assert_ne!(shard.index(), from, "a shard posts nothing to itself");
                self.mails.push_back((shard.index(), mail));
            } else if let Effect::Forward { to, hub, origin } = effect {
                let other = ShardId(1 - from as u16);
                if to == ForwardTo::Hub || to == ForwardTo::Shards([other].into_iter().collect()) {
                    let mail = Mail::Forwarded {
                        hub,
                        origin,
                        message: message.clone(),
                    };
                    self.mails.push_back((other.index(), mail));
                }
            }
        }
    }

    fn end(mut self) {
        for router in &mut self.routers {
            router.on_drain(self.now, &mut Vec::new());
            assert_eq!(router.clients.len(), 0, "no client is left");
            assert!(router.servers.is_empty(), "no server connection is left");
            assert!(router.hubs.is_empty(), "no hub, user or group is left");
        }
    }
}

fn encoded<'a>(message: impl Into<Message<'a, &'a [u8]>>) -> Vec<u8> {
    let mut framed = Vec::new();
    message.into().encode(&mut framed);
    let prefix_bytes = framed.iter().take_while(|byte| **byte >= 0x80).count() + 1;
    framed.split_off(prefix_bytes.min(framed.len()))
}

//! One message to many clients: who they are, and the one frame that they share.

use std::ops::Range;
use std::time::Instant;

use bytes::Bytes;
use smallvec::{SmallVec, smallvec};

use super::client::Phase;
use super::connections::kind_of;
use super::hub::Hub;
use super::resuming::Delivery;
use super::service_messages::{Decoded, Source, slices};
use super::stateful::Content;
use super::{ClientKey, CloseCause, Effect, ForwardTo, Mail, Recipients, Router};
use crate::chunk::Chunk;
use crate::frame::websocket;
use crate::id::{ConnectionId, ShardId};
use crate::limits::CLIENT_HELD_BYTES_MAX;
use crate::protocol::hub::HubProtocol;
use crate::protocol::hub::message::MessageProtocol;
use crate::protocol::service::{GroupBroadcastData, Message, MultiConnectionData, Payloads, Texts};

type Encodings<'a> = Payloads<'a, Range<usize>>;
type Targets = SmallVec<[ClientKey; 8]>;

impl Router {
    /// A message that goes to whom it names.
    #[expect(
        clippy::wildcard_enum_match_arm,
        reason = "the rest is looked at by the next step"
    )]
    pub(super) fn handle_fan_out(
        &mut self,
        source: Source<'_>,
        message: &Decoded<'_>,
        now: Instant,
        effects: &mut Vec<Effect>,
    ) {
        if filter_of(message).is_some_and(|filter| !filter.is_empty()) {
            // Whoever narrows a message down does not want it to reach everybody.
            self.counters.service_messages_skipped.increment();
            tracing::debug!(message = ?message.message_type(), "skipped a message with a filter, which is not supported");
            return;
        }
        match message {
            Message::MultiConnectionData(send) => {
                self.send_to_connections(source, &send.connection_ids, &send.payloads, effects);
            }
            Message::UserData(send) => {
                self.send_to_users(source, &[&send.user_id], &send.payloads, effects);
            }
            Message::MultiUserData(send) => {
                self.send_to_users(source, &distinct(&send.user_ids), &send.payloads, effects);
            }
            Message::BroadcastData(send) => {
                self.send_to_hub(source, &send.excluded, &send.payloads, effects);
            }
            Message::GroupBroadcastData(send) => self.send_to_group(source, send, effects),
            Message::MultiGroupBroadcastData(send) => {
                self.send_to_groups(source, &send.groups, &send.payloads, effects);
            }
            other => self.handle_request(source, other, now, effects),
        }
    }

    fn send_to_hub(
        &mut self,
        source: Source<'_>,
        excluded: &Texts<'_>,
        payloads: &Encodings<'_>,
        effects: &mut Vec<Effect>,
    ) {
        let excluded = self.excluded(excluded);
        let clients = self.hubs.get(&source.hub).map_or(&[][..], Hub::clients);
        let mut targets = Targets::with_capacity(clients.len());
        targets.extend(excluded.remaining(clients));
        self.deliver(source, &targets, payloads, effects);
        forward_to_hub(source, effects);
    }

    fn send_to_connections(
        &mut self,
        source: Source<'_>,
        ids: &Texts<'_>,
        payloads: &Encodings<'_>,
        effects: &mut Vec<Effect>,
    ) {
        let mut targets = Targets::new();
        let mut elsewhere: SmallVec<[(ShardId, Texts<'_>); 4]> = SmallVec::new();
        for text in ids {
            let Some(id) = ConnectionId::parse(text) else {
                continue;
            };
            if let Some(client) = self.clients.find(id) {
                targets.push(client);
            } else if let Some(shard) = self.shard_of(source, id) {
                match elsewhere.iter_mut().find(|(known, _)| *known == shard) {
                    Some((_, ids)) => ids.push(text.clone()),
                    None => elsewhere.push((shard, smallvec![text.clone()])),
                }
            } else {
                self.counters.unknown_targets.increment();
            }
        }
        let in_hub = |client: &ClientKey| {
            self.clients
                .get(*client)
                .is_some_and(|client| client.hub == source.hub)
        };
        let found = targets.len();
        targets.retain(|client| in_hub(client));
        let foreign = (found - targets.len()) as u64;
        self.counters.unknown_targets.add(foreign);
        self.deliver_once(source, targets, payloads, effects);
        self.forward_to_connections(source, ids.len(), elsewhere, payloads, effects);
    }

    fn send_to_users(
        &mut self,
        source: Source<'_>,
        users: &[&str],
        payloads: &Encodings<'_>,
        effects: &mut Vec<Effect>,
    ) {
        let mut targets = Targets::new();
        if let Some(hub) = self.hubs.get(&source.hub) {
            for user in users {
                targets.extend_from_slice(hub.user(user));
            }
        }
        self.deliver_once(source, targets, payloads, effects);
        forward_to_hub(source, effects);
    }

    fn send_to_group(
        &mut self,
        source: Source<'_>,
        send: &GroupBroadcastData<'_, Range<usize>>,
        effects: &mut Vec<Effect>,
    ) {
        let mut excluded = self.excluded(&send.excluded);
        let mut targets = Targets::new();
        if let Some(hub) = self.hubs.get(&source.hub) {
            let users = distinct(&send.excluded_users);
            excluded.extend(users.iter().flat_map(|user| hub.user(user)).copied());
            let members = hub.groups.members(&send.group);
            targets.reserve(members.len());
            targets.extend(excluded.remaining(members));
        }
        self.deliver(source, &targets, &send.payloads, effects);
        forward_to_hub(source, effects);
    }

    fn send_to_groups(
        &mut self,
        source: Source<'_>,
        groups: &Texts<'_>,
        payloads: &Encodings<'_>,
        effects: &mut Vec<Effect>,
    ) {
        let mut targets = Targets::new();
        if let Some(hub) = self.hubs.get(&source.hub) {
            for group in distinct(groups) {
                targets.extend_from_slice(hub.groups.members(group));
            }
        }
        self.deliver_once(source, targets, payloads, effects);
        forward_to_hub(source, effects);
    }

    /// Each shard is told of its own connections only. One that has moved could else be reached twice: by the shard where it is, which
    /// finds it in the list, and by the one that its id names, which sends the list on.
    fn forward_to_connections(
        &self,
        source: Source<'_>,
        named: usize,
        elsewhere: SmallVec<[(ShardId, Texts<'_>); 4]>,
        payloads: &Encodings<'_>,
        effects: &mut Vec<Effect>,
    ) {
        for (shard, connection_ids) in elsewhere {
            if connection_ids.len() == named {
                effects.push(Effect::Forward {
                    to: ForwardTo::Shards(smallvec![shard]),
                    hub: source.hub,
                    origin: source.origin.clone(),
                });
                return;
            }
            let message = part_for(source.message, &connection_ids, payloads);
            self.counters.copied_bytes_mail.add(message.len() as u64);
            let mail = Mail::Forwarded {
                hub: source.hub,
                origin: source.origin.clone(),
                message,
            };
            effects.push(Effect::Post { shard, mail });
        }
    }

    /// As [`Self::deliver`], for targets that may have been named several times.
    fn deliver_once(
        &mut self,
        source: Source<'_>,
        mut targets: Targets,
        payloads: &Encodings<'_>,
        effects: &mut Vec<Effect>,
    ) {
        if targets.len() > 1 {
            targets.sort_unstable();
            targets.dedup();
        }
        self.deliver(source, &targets, payloads, effects);
    }

    /// Delivers to clients of this shard. Those whose handshake response has not passed get it afterwards.
    pub(super) fn deliver(
        &mut self,
        source: Source<'_>,
        targets: &[ClientKey],
        payloads: &Encodings<'_>,
        effects: &mut Vec<Effect>,
    ) {
        if source.is_first_hand {
            self.counters.fan_out_messages.increment();
        }
        let mut encodings: SmallVec<[Encoding; 2]> = SmallVec::new();
        let mut overflowing = Targets::new();
        let mut delivered = 0;
        for key in targets {
            let Some(client) = self.clients.get_mut(*key) else {
                continue;
            };
            if client.said_goodbye {
                continue;
            }
            let encoding = encoding_for(&client.protocol, &mut encodings, payloads, targets.len());
            let Some(encoding) = encoding else {
                self.counters.missing_payloads.increment();
                continue;
            };
            match &mut client.phase {
                Phase::Open => match &mut client.stateful {
                    None => encoding.clients.push(client.socket),
                    Some(stateful) => {
                        let (frame, content) =
                            encoding.content(source.message, stateful.protocol());
                        let kept = self
                            .resuming
                            .keep(stateful, &frame, content, &self.counters);
                        match kept {
                            Delivery::Now => encoding.clients.push(client.socket),
                            Delivery::Later => {}
                            Delivery::Never => {
                                overflowing.push(*key);
                                continue;
                            }
                        }
                    }
                },
                Phase::Opening(held) => {
                    let frame = encoding.frame(source.message);
                    // As for an outbox: one message may be longer, but not come on top of too much.
                    if held.bytes > CLIENT_HELD_BYTES_MAX {
                        overflowing.push(*key);
                        continue;
                    }
                    held.bytes += frame.len();
                    held.frames.push_back(frame);
                }
                Phase::Handshake(_) => debug_assert!(
                    false,
                    "nothing names a client whose app server does not know it"
                ),
            }
            delivered += 1;
        }
        self.counters.fan_out_deliveries.add(delivered);
        for encoding in encodings {
            let copied = encoding.finish(source.message, effects);
            self.counters.copied_bytes_fan_out.add(copied as u64);
        }
        for key in overflowing {
            self.close_slow_consumer(key, effects);
        }
    }

    fn close_slow_consumer(&mut self, key: ClientKey, effects: &mut Vec<Effect>) {
        let Some(client) = self.clients.get(key) else {
            return;
        };
        self.counters.slow_consumers.increment();
        effects.push(Effect::CloseClient {
            client: client.socket,
            cause: CloseCause::SlowConsumer,
        });
        self.forget_client(key, effects);
    }

    /// The excluded connections that are on this shard.
    fn excluded(&self, ids: &Texts<'_>) -> Excluded {
        let mut keys: Targets = ids
            .iter()
            .filter_map(|id| self.clients.find(ConnectionId::parse(id)?))
            .collect();
        keys.sort_unstable();
        Excluded { keys }
    }
}

/// The expression by which a message chooses among those that it names.
#[expect(
    clippy::wildcard_enum_match_arm,
    reason = "only messages to many can have one"
)]
fn filter_of<'a>(message: &'a Decoded<'_>) -> Option<&'a str> {
    let filter = match message {
        Message::MultiConnectionData(send) => &send.filter,
        Message::UserData(send) => &send.filter,
        Message::MultiUserData(send) => &send.filter,
        Message::BroadcastData(send) => &send.filter,
        Message::GroupBroadcastData(send) => &send.filter,
        Message::MultiGroupBroadcastData(send) => &send.filter,
        _ => return None,
    };
    filter.as_deref()
}

fn forward_to_hub(source: Source<'_>, effects: &mut Vec<Effect>) {
    if source.is_first_hand {
        effects.push(Effect::Forward {
            to: ForwardTo::Hub,
            hub: source.hub,
            origin: source.origin.clone(),
        });
    }
}

/// Users or groups, each once: a name that comes again must not gather its connections again, or a short message could name more of
/// them than there are.
fn distinct<'a>(names: &'a Texts<'_>) -> SmallVec<[&'a str; 4]> {
    let mut names: SmallVec<[&str; 4]> = names.iter().map(|name| &**name).collect();
    if names.len() > 1 {
        names.sort_unstable();
        names.dedup();
    }
    names
}

/// Clients that a send must skip. Mostly none or one, but there may be thousands.
struct Excluded {
    keys: Targets,
}

impl Excluded {
    /// Those that are not to be skipped.
    fn remaining(&self, clients: &[ClientKey]) -> impl Iterator<Item = ClientKey> {
        let clients = clients.iter().copied();
        clients.filter(|client| !self.contains(*client))
    }

    fn contains(&self, client: ClientKey) -> bool {
        match self.keys.as_slice() {
            [] => false,
            [only] => *only == client,
            many => many.binary_search(&client).is_ok(),
        }
    }

    fn extend(&mut self, keys: impl Iterator<Item = ClientKey>) {
        let before = self.keys.len();
        self.keys.extend(keys);
        if self.keys.len() > before {
            self.keys.sort_unstable();
        }
    }
}

/// The message without the connections that are none of the other shard's concern. It has no length prefix.
fn part_for(message: &[Chunk], connection_ids: &Texts<'_>, payloads: &Encodings<'_>) -> Bytes {
    let mut part = MultiConnectionData {
        connection_ids: connection_ids.iter().map(|id| (&**id).into()).collect(),
        payloads: Payloads::default(),
        filter: None,
        tracing_id: None,
    };
    for (protocol, range) in payloads.iter() {
        let mut payload = Vec::with_capacity(range.len());
        for slice in slices(message, range) {
            payload.extend_from_slice(&slice);
        }
        part.payloads.push(protocol, payload);
    }
    let mut framed = Vec::new();
    Message::from(part).encode(&mut framed);
    let prefix_bytes = framed
        .iter()
        .position(|byte| byte & 0x80 == 0)
        .map_or(framed.len(), |last| last + 1);
    Bytes::from(framed).slice(prefix_bytes..)
}

/// `None` if the app server has not encoded the message so. That is not remembered: clients may name any protocol.
fn encoding_for<'a>(
    protocol: &HubProtocol,
    encodings: &'a mut SmallVec<[Encoding; 2]>,
    payloads: &Encodings<'_>,
    clients_max: usize,
) -> Option<&'a mut Encoding> {
    let known = encodings
        .iter()
        .position(|encoding| encoding.protocol == *protocol);
    let index = if let Some(index) = known {
        index
    } else {
        let payload = payloads.get(protocol.name())?.clone();
        encodings.push(Encoding::new(protocol.clone(), payload, clients_max));
        encodings.len() - 1
    };
    encodings.get_mut(index)
}

/// A message in one hub protocol, with the clients that want it so.
struct Encoding {
    protocol: HubProtocol,
    /// Where in the message it stands.
    payload: Range<usize>,
    frame: Option<Chunk>,
    /// Read once, if somebody needs it.
    content: Option<Content>,
    clients: Recipients,
}

impl Encoding {
    fn new(protocol: HubProtocol, payload: Range<usize>, clients_max: usize) -> Self {
        Self {
            protocol,
            payload,
            frame: None,
            content: None,
            clients: Recipients::with_capacity(clients_max),
        }
    }

    /// The whole WebSocket frame, made once.
    fn frame(&mut self, message: &[Chunk]) -> Chunk {
        let (protocol, payload) = (&self.protocol, &self.payload);
        let make = || {
            let header = websocket::header(kind_of(protocol), true, payload.len() as u64, None);
            let mut frame = Vec::with_capacity(header.len() + payload.len());
            frame.extend_from_slice(&header);
            for slice in slices(message, payload) {
                frame.extend_from_slice(&slice);
            }
            Chunk::from(frame)
        };
        self.frame.get_or_insert_with(make).clone()
    }

    /// The same with what it holds, for clients of stateful reconnect.
    fn content(&mut self, message: &[Chunk], read: MessageProtocol) -> (Chunk, Content) {
        let frame = self.frame(message);
        let content = self
            .content
            .get_or_insert_with(|| Content::of_frame(read, &frame));
        (frame, *content)
    }

    /// Says what is to be sent. How many payload bytes had to be copied for it.
    fn finish(mut self, message: &[Chunk], effects: &mut Vec<Effect>) -> usize {
        match self.clients.as_slice() {
            [] => {}
            // Nobody to share a frame with: the payload goes out as it lies there.
            [only] if self.frame.is_none() => {
                effects.push(Effect::RelayToClient {
                    client: *only,
                    kind: kind_of(&self.protocol),
                    payload: slices(message, &self.payload),
                });
            }
            _ => {
                effects.push(Effect::FanOut {
                    frame: self.frame(message),
                    clients: std::mem::take(&mut self.clients),
                });
            }
        }
        if self.frame.is_some() {
            self.payload.len()
        } else {
            0
        }
    }
}

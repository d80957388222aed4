//! Clients that may lose their socket: what happens while they have none, and how they come back.
//!
//! ```text
//!                on_client_lost                   on_client_resumed
//!   on a socket ───────────────► away ─────────────────────────────► on another socket
//!       │                          └── not back in time ──► closed
//!       └── on_client_resumed: the new socket takes the place of the old one, whose loss has not been noticed
//! ```
//!
//! The app server notices none of it, except the end. Which client is so, and what it is sent again, stands in [`super::stateful`].
//!
//! | what happens | to a client on a socket | to one that is away |
//! |---|---|---|
//! | its app server sends | it is kept, and sent | it is kept; pings are dropped |
//! | too much is kept | the oldest is given up, and the loss of the socket is the end | it is closed as a slow consumer |
//! | its app server lets it go | it is closed | it is forgotten, and a resume is refused |
//! | its server connection is lost, the service drains | it is told so and closed | the same without words |
//! | its socket takes too little of what is sent, or breaks the WebSocket protocol | it is closed: it would only do so again | – |
//! | it says goodbye, or its hub has | passed on; its socket's loss is the end | – |
//! | it sends a wrong `Sequence`, or no messages | it is told so and closed | – |
//! | it comes with another user or hub | refused, and nothing changes | the same |
//! | it loses its socket while `STATEFUL_AWAY_CLIENTS_MAX` others have none | closed as if it had left | – |
//! | `STATEFUL_AWAY_MAX` passes | – | closed as if it had left |

use std::collections::VecDeque;
use std::time::Instant;

use rustc_hash::FxHashMap;
use smallvec::smallvec;

use super::client::{Client, Phase};
use super::connections::{kind_of, say_farewell};
use super::stateful::{Content, Fault, Stateful};
use super::{ClientKey, CloseCause, Effect, HubId, Payload, Router, SocketKey};
use crate::chunk::Chunk;
use crate::counters::Counters;
use crate::id::ConnectionId;
use crate::limits::{STATEFUL_ACK_DELAY, STATEFUL_AWAY_CLIENTS_MAX, STATEFUL_AWAY_MAX};
use crate::protocol::hub::handshake;

/// Why a socket cannot take the place of another.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ResumeError {
    /// There is no such client, or it may not come back.
    #[error("No Connection with that ID")]
    Gone,
    /// It is there, and has not asked for this.
    #[error("The connection with that ID is in use")]
    InUse,
}

/// What is to be done for clients of stateful reconnect as time passes.
#[derive(Debug, Default)]
pub(super) struct Resuming {
    /// Those that have no socket, and until when they may have none.
    away: FxHashMap<ClientKey, Instant>,
    /// Those that wait for an `Ack`. All wait equally long, so the first is in front. At most one for each client.
    acks: VecDeque<(Instant, ClientKey, ConnectionId)>,
    /// Those that may not count yet: their handshake was answered before the last tick, and after it.
    new: Vec<(ClientKey, ConnectionId)>,
    newest: Vec<(ClientKey, ConnectionId)>,
    kept_bytes: u64,
}

/// What becomes of a frame for a client of stateful reconnect.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Delivery {
    /// It can be sent now.
    Now,
    /// When the client is back, if at all.
    Later,
    /// More is kept than may be, and nothing of it can be sent now.
    Never,
}

impl Router {
    /// The socket of a client is lost, and not because anybody wanted it so. Whether the client may come back on another one; else it is
    /// forgotten, as by [`Self::on_client_closed`].
    pub fn on_client_lost(
        &mut self,
        key: ClientKey,
        now: Instant,
        effects: &mut Vec<Effect>,
    ) -> bool {
        let Some(client) = self.clients.get_mut(key) else {
            return false;
        };
        let mut may_resume = may_resume(client);
        if may_resume && self.resuming.away.len() >= STATEFUL_AWAY_CLIENTS_MAX {
            may_resume = false;
            self.counters.clients_not_awaited.increment();
        }
        match &mut client.stateful {
            Some(stateful) if may_resume => {
                stateful.leave();
                self.resuming.away.insert(key, now + STATEFUL_AWAY_MAX);
                self.resuming.count(&self.counters);
                true
            }
            Some(_) | None => {
                self.forget_client(key, effects);
                false
            }
        }
    }

    /// The client whose place a new socket wants to take, if it may.
    pub fn resumable(
        &self,
        id: ConnectionId,
        hub: HubId,
        user: Option<&str>,
    ) -> Result<ClientKey, ResumeError> {
        let key = self.clients.find(id).ok_or(ResumeError::Gone)?;
        let client = self.clients.get(key).ok_or(ResumeError::Gone)?;
        if client.hub != hub || client.user.as_deref() != user {
            return Err(ResumeError::Gone);
        }
        if client.stateful.is_none() {
            return Err(ResumeError::InUse);
        }
        may_resume(client).then_some(key).ok_or(ResumeError::Gone)
    }

    /// A client that is [`Self::resumable`] has another socket. Its old one, of which the router must not be told any more.
    pub fn on_client_resumed(
        &mut self,
        key: ClientKey,
        socket: SocketKey,
        effects: &mut Vec<Effect>,
    ) -> Option<SocketKey> {
        let client = self.clients.get_mut(key)?;
        let stateful = client.stateful.as_deref_mut()?;
        let old = std::mem::replace(&mut client.socket, socket);
        let frames = stateful.resume();
        send_frames(socket, frames, effects);
        self.resuming.away.remove(&key);
        self.resuming.count(&self.counters);
        self.counters.clients_resumed.increment();
        Some(old)
    }

    /// Bytes of a client of stateful reconnect. False if the client has been closed over them.
    pub(super) fn on_stateful_data(
        &mut self,
        key: ClientKey,
        bytes: Chunk,
        now: Instant,
        effects: &mut Vec<Effect>,
    ) -> bool {
        let Some(client) = self.clients.get_mut(key) else {
            return false;
        };
        let id = client.id;
        if matches!(client.phase, Phase::Open) {
            begin_to_send(client, effects);
        }
        let Some(stateful) = client.stateful.as_deref_mut() else {
            return false;
        };
        let kept_bytes = stateful.kept_bytes();
        let received = stateful.receive(bytes);
        self.resuming.account(kept_bytes, stateful, &self.counters);
        let relayed = match received {
            Ok(relayed) => relayed,
            Err(fault) => {
                self.close_for_fault(key, &fault, effects);
                return false;
            }
        };
        if stateful.owes_ack_now() {
            send_ack(client, effects);
        } else if stateful.begins_to_owe_ack() {
            let due = now + STATEFUL_ACK_DELAY;
            self.resuming.acks.push_back((due, key, id));
        }
        for payload in relayed {
            self.relay_to_server(key, payload, effects);
        }
        true
    }

    /// What its app server says to a client of stateful reconnect.
    pub(super) fn relay_to_stateful(
        &mut self,
        key: ClientKey,
        payload: &Payload,
        is_goodbye: bool,
        effects: &mut Vec<Effect>,
    ) {
        let Some(client) = self.clients.get_mut(key) else {
            return;
        };
        let Some(stateful) = client.stateful.as_deref_mut() else {
            return;
        };
        if is_goodbye {
            stateful.finish();
        }
        if let Some((frame, content)) = stateful.gather(payload) {
            if content.says_goodbye {
                begin_to_send(client, effects);
            }
            self.send_to_stateful(key, frame, content, effects);
        }
    }

    /// What the service itself says to a client that may be one of stateful reconnect.
    pub(super) fn say_to_client(
        &mut self,
        key: ClientKey,
        messages: Vec<u8>,
        effects: &mut Vec<Effect>,
    ) {
        let Some(client) = self.clients.get(key) else {
            return;
        };
        if let Some(stateful) = &client.stateful {
            let (frame, content) = stateful.frame(&messages);
            return self.send_to_stateful(key, frame, content, effects);
        }
        effects.push(Effect::RelayToClient {
            client: client.socket,
            kind: kind_of(&client.protocol),
            payload: smallvec![Chunk::from(messages)],
        });
    }

    /// The handshake of a client of stateful reconnect has been answered. These frames have waited for that.
    pub(super) fn on_stateful_answered(
        &mut self,
        key: ClientKey,
        held: impl IntoIterator<Item = Chunk>,
        effects: &mut Vec<Effect>,
    ) {
        let Some(client) = self.clients.get(key) else {
            return;
        };
        self.resuming.newest.push((key, client.id));
        for frame in held {
            let client = self.clients.get(key);
            let stateful = client.and_then(|client| client.stateful.as_ref());
            let content = stateful.map(|stateful| Content::of_frame(stateful.protocol(), &frame));
            self.send_to_stateful(key, frame, content.unwrap_or_default(), effects);
        }
    }

    /// Acknowledges what is to be acknowledged now, and lets go those who have been away for too long.
    pub(super) fn tend_stateful(&mut self, now: Instant, effects: &mut Vec<Effect>) {
        while let Some((due, key, id)) = self.resuming.acks.front().copied() {
            if due > now {
                break;
            }
            self.resuming.acks.pop_front();
            let client = self.clients.get_mut(key).filter(|client| client.id == id);
            if let Some(client) = client {
                if let Some(stateful) = &mut client.stateful {
                    stateful.on_ack_due();
                }
                send_ack(client, effects);
            }
        }
        let newest = std::mem::take(&mut self.resuming.newest);
        for (key, id) in std::mem::replace(&mut self.resuming.new, newest) {
            let client = self.clients.get_mut(key).filter(|client| client.id == id);
            if let Some(client) = client {
                begin_to_send(client, effects);
            }
        }
        let is_late = |(_, until): &(&ClientKey, &Instant)| **until <= now;
        let late = self.resuming.away.iter().filter(is_late);
        let late: Vec<ClientKey> = late.map(|(key, _)| *key).collect();
        for key in late {
            self.counters.clients_not_resumed.increment();
            self.close_stateful(key, CloseCause::NotResumed, effects);
        }
    }

    fn send_to_stateful(
        &mut self,
        key: ClientKey,
        frame: Chunk,
        content: Content,
        effects: &mut Vec<Effect>,
    ) {
        let Some(client) = self.clients.get_mut(key) else {
            return;
        };
        let Some(stateful) = client.stateful.as_deref_mut() else {
            return;
        };
        let delivery = self
            .resuming
            .keep(stateful, &frame, content, &self.counters);
        match delivery {
            Delivery::Now => effects.push(Effect::FanOut {
                frame,
                clients: smallvec![client.socket],
            }),
            Delivery::Later => {}
            Delivery::Never => {
                self.counters.slow_consumers.increment();
                self.close_stateful(key, CloseCause::SlowConsumer, effects);
            }
        }
    }

    fn close_stateful(&mut self, key: ClientKey, cause: CloseCause, effects: &mut Vec<Effect>) {
        if let Some(client) = self.clients.get(key) {
            effects.push(Effect::CloseClient {
                client: client.socket,
                cause,
            });
            self.forget_client(key, effects);
        }
    }

    /// Tells a client what it has done, in the words of ASP.NET Core, and that it may come back as a new one.
    fn close_for_fault(&mut self, key: ClientKey, fault: &Fault, effects: &mut Vec<Effect>) {
        let Some(client) = self.remove_client(key, effects) else {
            return;
        };
        self.counters.protocol_errors.increment();
        let error = format!("Connection closed with an error. {fault}");
        let close = handshake::close_message(&client.protocol, Some(&error), true);
        say_farewell(&client, close, &error, effects);
        effects.push(Effect::CloseClient {
            client: client.socket,
            cause: CloseCause::ClientFault,
        });
        self.tell_server_of_end(&client, effects);
    }
}

impl Resuming {
    /// Keeps a frame for a client, if it has to be kept.
    pub(super) fn keep(
        &mut self,
        stateful: &mut Stateful,
        frame: &Chunk,
        content: Content,
        counters: &Counters,
    ) -> Delivery {
        let kept_bytes = stateful.kept_bytes();
        let given_up = stateful.keep(frame, content);
        counters.kept_given_up.add(given_up as u64);
        self.account(kept_bytes, stateful, counters);
        let waits = stateful.is_away() || stateful.is_new() && content.numbered > 0;
        match (waits, given_up) {
            (false, _) => Delivery::Now,
            (true, 0) => Delivery::Later,
            (true, _) if stateful.is_resumable() => Delivery::Later,
            (true, _) => Delivery::Never,
        }
    }

    /// A client is no longer there.
    pub(super) fn forget(&mut self, key: ClientKey, client: &Client, counters: &Counters) {
        if let Some(stateful) = &client.stateful {
            self.kept_bytes -= stateful.kept_bytes() as u64;
            self.away.remove(&key);
            self.count(counters);
        }
    }

    /// What is kept for a client weighed `kept_bytes`, and may weigh something else now.
    fn account(&mut self, kept_bytes: usize, stateful: &Stateful, counters: &Counters) {
        self.kept_bytes += stateful.kept_bytes() as u64;
        self.kept_bytes -= kept_bytes as u64;
        counters.kept_bytes.set(self.kept_bytes);
    }

    fn count(&self, counters: &Counters) {
        counters.clients_away.set(self.away.len() as u64);
        counters.kept_bytes.set(self.kept_bytes);
    }
}

#[cfg(test)]
impl Resuming {
    /// What must hold between any two events.
    pub(super) fn check<'a>(&self, clients: impl Iterator<Item = (ClientKey, &'a Client)>) {
        let (mut away, mut kept_bytes) = (0, 0);
        for (key, client) in clients {
            let is_away = client.is_away();
            assert_eq!(
                self.away.contains_key(&key),
                is_away,
                "who is away is known"
            );
            away += usize::from(is_away);
            let stateful = client.stateful.as_ref();
            kept_bytes += stateful.map_or(0, |stateful| stateful.kept_bytes() as u64);
        }
        assert_eq!(self.away.len(), away);
        assert_eq!(self.kept_bytes, kept_bytes);
    }
}

/// A client begins to count, if it has not yet: what waits for that is sent.
fn begin_to_send(client: &mut Client, effects: &mut Vec<Effect>) {
    let stateful = client.stateful.as_deref_mut();
    if let Some(new) = stateful.filter(|stateful| stateful.is_new() && !stateful.is_away()) {
        send_frames(client.socket, new.begin(), effects);
    }
}

fn send_frames(
    client: SocketKey,
    frames: impl IntoIterator<Item = Chunk>,
    effects: &mut Vec<Effect>,
) {
    effects.extend(frames.into_iter().map(|frame| Effect::FanOut {
        frame,
        clients: smallvec![client],
    }));
}

fn may_resume(client: &Client) -> bool {
    let stateful = client.stateful.as_ref();
    matches!(client.phase, Phase::Open)
        && !client.said_goodbye
        && stateful.is_some_and(|stateful| stateful.is_resumable())
}

/// Sends an `Ack`, if one is owed.
fn send_ack(client: &mut Client, effects: &mut Vec<Effect>) {
    let stateful = client.stateful.as_deref_mut();
    if let Some(ack) = stateful.and_then(Stateful::take_ack) {
        effects.push(Effect::RelayToClient {
            client: client.socket,
            kind: kind_of(&client.protocol),
            payload: smallvec![Chunk::from(ack)],
        });
    }
}

//! Stateful reconnect: one client's state that outlives its socket.
//!
//! Both sides number the messages that matter, keep what they have sent until the other side has acknowledged it, and after a loss of
//! the socket go on, on the next one, where the other side stopped hearing them. The app server takes no part, so all of it is done
//! here: the app server is sent each message of the client once, and neither `Ack` nor `Sequence`.
//!
//! | message | direction | here |
//! |---|---|---|
//! | 1 to 5 | from the client | numbered; passed on if new, dropped if it has been here before |
//! | 1 to 5 | to the client | numbered; kept until acknowledged, also while the client is away |
//! | 6 `Ping` | from the client | passed on |
//! | 6 `Ping` | to the client | passed on, unless it is away |
//! | 7 `Close` | either | passed on; from then on the loss of the socket is the end |
//! | 8 `Ack` | from the client | taken: frees what is kept; numbers that have not been sent are too high and count as the last |
//! | 8 `Ack` | to the client | made: some time after something has come, or at once after much |
//! | 9 `Sequence` | from the client | taken: says which number comes next; beyond what has come it is a fault |
//! | 9 `Sequence` | to the client | made: the first message on each socket after the first |
//! | others, and what cannot be read | either | passed on without a number: the receiver judges it |
//!
//! On a socket after the first nothing that comes before the client's `Sequence` counts. Messages are passed on whole, in both
//! directions: half a message that was cut off by a loss is dropped, since the client sends the whole of it again.
//!
//! Microsoft's JavaScript client begins to count a moment after it has read the handshake response. What it reads in one go with that,
//! as happens in Node.js, it does not count: one of the messages would arrive twice, or not at all, after a loss. So nothing is sent
//! behind the response before the client has said something, as that client does at once, or some time has passed.
//!
//! What is kept is bounded. Beyond the bound the oldest is given up; until the client has acknowledged that too, it is as if it had no
//! state: the loss of its socket is its end. Nobody is made to wait, as the writers of ASP.NET Core are: they would be the app server.
//!
//! The rules, numbers and texts are those of SignalR's `HubProtocol` page and of ASP.NET Core's own message buffer.

#[cfg(test)]
mod properties;
mod received;
mod records;
mod sent;
#[cfg(test)]
mod tests;

use smallvec::SmallVec;

use self::received::Received;
pub(super) use self::records::Content;
use self::records::{Gathering, is_numbered, records, whole_bytes};
use self::sent::Sent;
use super::Payload;
use crate::chunk::Chunk;
use crate::frame::websocket::{self, MessageKind};
use crate::limits::{SERVICE_MESSAGE_BYTES_MAX, STATEFUL_MESSAGE_BYTES_MAX};
use crate::protocol::hub::HubProtocol;
use crate::protocol::hub::envelope::{Envelope, Kind};
use crate::protocol::hub::message::{HubMessage, HubMessageError, MessageProtocol};

/// See the module.
#[derive(Debug)]
pub(super) struct Stateful {
    protocol: MessageProtocol,
    sent: Sent,
    received: Received,
    /// The message that the client is sending.
    incoming: Gathering,
    /// The message that its app server is sending to it alone.
    outgoing: Gathering,
    presence: Presence,
    /// One of both sides has said goodbye.
    is_finished: bool,
    /// It has been noted when to send an `Ack`.
    is_ack_due: bool,
}

/// Whether a client can be sent anything.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Presence {
    /// It may not count yet: what has a number is only kept.
    New,
    /// It can.
    There,
    /// It has no socket: everything with a number is only kept.
    Away,
}

/// Why a client cannot go on.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum Fault {
    /// It says that it has sent more than has come.
    #[error("Sequence ID greater than amount of messages we've received.")]
    SequenceAhead,
    /// What it sends cannot be told apart into messages.
    #[error(transparent)]
    Unreadable(#[from] HubMessageError),
}

/// What is for the app server.
pub(super) type Relayed = SmallVec<[Chunk; 1]>;

impl Stateful {
    /// A client that has just said its handshake. `None` in a protocol in which messages cannot be told apart.
    pub(super) fn new(protocol: &HubProtocol) -> Option<Self> {
        Some(Self {
            protocol: protocol.message_protocol()?,
            sent: Sent::default(),
            received: Received::default(),
            incoming: Gathering::default(),
            outgoing: Gathering::default(),
            presence: Presence::New,
            is_finished: false,
            is_ack_due: false,
        })
    }

    /// Takes bytes of the client. What of them its app server has to get.
    pub(super) fn receive(&mut self, bytes: Chunk) -> Result<Relayed, Fault> {
        let mut relayed = Relayed::new();
        let bytes_max = STATEFUL_MESSAGE_BYTES_MAX;
        let Some(whole) = self.incoming.push(self.protocol, bytes, bytes_max)? else {
            return Ok(relayed);
        };
        // Messages that lie next to each other go on as one.
        let mut run = 0..0;
        for record in records(self.protocol, &whole) {
            if !self.is_for_app_server(record.content)? {
                continue;
            }
            if run.end == record.range.start {
                run.end = record.range.end;
                continue;
            }
            if !run.is_empty() {
                relayed.push(whole.slice(run));
            }
            run = record.range;
        }
        if !run.is_empty() {
            relayed.push(whole.slice(run));
        }
        Ok(relayed)
    }

    /// Takes what its app server sends to the client alone. The frame with it, once there is a whole message, and its content.
    pub(super) fn gather(&mut self, payload: &Payload) -> Option<(Chunk, Content)> {
        let slices = payload.iter().map(|slice| &**slice);
        let payload_bytes = slices.clone().map(<[u8]>::len).sum::<usize>();
        let frame = framed(self.protocol, slices);
        let bytes = frame.slice(frame.len() - payload_bytes..frame.len());
        if self.outgoing.is_empty() && whole_bytes(self.protocol, &bytes) == payload_bytes {
            return Some((frame, Content::of(self.protocol, &bytes)));
        }
        let bytes_max = SERVICE_MESSAGE_BYTES_MAX;
        match self.outgoing.push(self.protocol, bytes, bytes_max) {
            Ok(None) => None,
            Ok(Some(whole)) => {
                let content = Content::of(self.protocol, &whole);
                Some((framed(self.protocol, std::iter::once(&*whole)), content))
            }
            Err(_) => {
                // Nobody can tell any more what has a number. The client gets it as it is, and will not get over it.
                self.outgoing.clear();
                self.is_finished = true;
                Some((frame, Content::default()))
            }
        }
    }

    /// The frame with whole messages of the service's own, and its content.
    pub(super) fn frame(&self, messages: &[u8]) -> (Chunk, Content) {
        let frame = framed(self.protocol, std::iter::once(messages));
        (frame, Content::of(self.protocol, messages))
    }

    /// The protocol in which it reads and writes.
    pub(super) fn protocol(&self) -> MessageProtocol {
        self.protocol
    }

    /// Keeps a frame that is for the client, if it has to be kept. How many older ones have been given up for it.
    pub(super) fn keep(&mut self, frame: &Chunk, content: Content) -> usize {
        self.is_finished |= content.says_goodbye;
        self.sent.push(frame, content.numbered)
    }

    /// Its hub lets it go.
    pub(super) fn finish(&mut self) {
        self.is_finished = true;
    }

    /// Whether the client could go on after the loss of its socket.
    pub(super) fn is_resumable(&self) -> bool {
        !self.is_finished && self.sent.is_complete()
    }

    /// Whether it has no socket at the moment.
    pub(super) fn is_away(&self) -> bool {
        self.presence == Presence::Away
    }

    /// Whether what it is to be sent is only kept, since it may not count yet.
    pub(super) fn is_new(&self) -> bool {
        self.presence == Presence::New
    }

    /// From now on it counts: the frames to begin with.
    pub(super) fn begin(&mut self) -> impl Iterator<Item = Chunk> + '_ {
        self.presence = Presence::There;
        self.sent.frames()
    }

    /// What waits until it counts.
    pub(super) fn waiting(&self) -> impl Iterator<Item = Chunk> + '_ {
        self.is_new()
            .then(|| self.sent.frames())
            .into_iter()
            .flatten()
    }

    /// The socket is lost.
    pub(super) fn leave(&mut self) {
        self.presence = Presence::Away;
        self.incoming.clear();
    }

    /// There is another socket: the frames to begin with.
    pub(super) fn resume(&mut self) -> Vec<Chunk> {
        self.presence = Presence::There;
        self.incoming.clear();
        self.received.await_sequence();
        let protocol = self.protocol;
        let (number, again) = self.sent.resend();
        let sequence_id = number.cast_signed();
        let first = protocol.encode(&HubMessage::Sequence { sequence_id });
        let mut frames = vec![framed(protocol, std::iter::once(&*first))];
        frames.extend(again);
        frames
    }

    /// Whether an `Ack` has to be sent after a while, and nobody has noted it yet. Now somebody has.
    pub(super) fn begins_to_owe_ack(&mut self) -> bool {
        let begins = self.received.owes_ack() && !self.is_ack_due;
        self.is_ack_due |= begins;
        begins
    }

    /// Whether an `Ack` has to be sent at once.
    pub(super) fn owes_ack_now(&self) -> bool {
        self.received.owes_ack_now()
    }

    /// It is time for the `Ack` that was noted.
    pub(super) fn on_ack_due(&mut self) {
        self.is_ack_due = false;
    }

    /// The `Ack` that is owed, if one is and there is a client to read it.
    pub(super) fn take_ack(&mut self) -> Option<Vec<u8>> {
        if self.is_away() || self.received.awaits_sequence() {
            return None;
        }
        let sequence_id = self.received.take_ack()?.cast_signed();
        Some(self.protocol.encode(&HubMessage::Ack { sequence_id }))
    }

    /// What is kept for the client weighs so much.
    pub(super) fn kept_bytes(&self) -> usize {
        self.sent.bytes()
    }

    fn is_for_app_server(&mut self, record: &[u8]) -> Result<bool, Fault> {
        let Ok(envelope) = Envelope::read(self.protocol, record) else {
            return Ok(!self.received.awaits_sequence());
        };
        let number = || u64::try_from(envelope.sequence_id.unwrap_or_default()).unwrap_or(0);
        if envelope.kind == Kind::Sequence {
            self.received.sequence(number())?;
            return Ok(false);
        }
        if self.received.awaits_sequence() {
            return Ok(false);
        }
        if is_numbered(envelope.kind) {
            return Ok(self.received.number(record.len()));
        }
        if envelope.kind == Kind::Ack {
            self.sent.acknowledge(number());
            return Ok(false);
        }
        self.is_finished |= envelope.kind == Kind::Close;
        Ok(true)
    }
}

/// A whole WebSocket frame.
fn framed<'a>(protocol: MessageProtocol, slices: impl Iterator<Item = &'a [u8]> + Clone) -> Chunk {
    let kind = match protocol {
        MessageProtocol::Json => MessageKind::Text,
        MessageProtocol::MessagePack => MessageKind::Binary,
    };
    let payload_bytes = slices.clone().map(<[u8]>::len).sum::<usize>();
    let header = websocket::header(kind, true, payload_bytes as u64, None);
    let mut frame = Vec::with_capacity(header.len() + payload_bytes);
    frame.extend_from_slice(&header);
    for slice in slices {
        frame.extend_from_slice(slice);
    }
    Chunk::from(frame)
}

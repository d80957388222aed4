//! What a followed client and its app server are in the middle of.
//!
//! A client can be given to another app server between two hub messages, and without any loss only while nothing is open: no call in
//! either direction waits for its answer and no stream is being fed. [`Traffic`] learns that from the envelopes of the messages that
//! pass; it changes none of them. It also keeps what another app server has to be told first, and what the client says while there is
//! nobody to hear it.
//!
//! Invariants:
//! * Bytes of a client are either relayed or held, never both, and leave in the order in which they came. The one exception is made
//!   in [`Stage::Holding`]: what ends a call that is open already passes those that wait.
//! * What is held starts at a message boundary.
//! * `open` names at most [`FOLLOWED_CALLS_MAX`] calls and streams. With more, or when a message is too long to be kept until its end
//!   has come, the client counts as busy until it moves at the deadline.
//!
//! A fan-out is not looked at. The only invocation that an app server wants an answer to is a `ClientInvocation`, which says so itself.

use std::sync::Arc;
use std::time::Instant;

use rustc_hash::FxHashSet;

use crate::frame::record::{
    LengthError, RECORD_BYTES_MAX, VarintRecords, find_separator, read_varint,
};
use crate::limits::{FOLLOWED_CALLS_MAX, FOLLOWED_RECORD_BYTES_MAX, NAME_BYTES_MAX};
use crate::protocol::hub::Envelope;
use crate::protocol::hub::envelope::Kind;
use crate::protocol::hub::message::{HubMessage, MessageProtocol, Outcome};

/// See the module.
#[derive(Debug)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "any of them may go with any other"
)]
pub(super) struct Traffic {
    protocol: MessageProtocol,
    pub(super) stage: Stage,
    pub(super) introduction: Introduction,
    /// It has had another app server before, from which something may still be on its way.
    pub(super) has_moved: bool,
    /// Its socket is not read because so much is held.
    pub(super) is_paused: bool,
    /// It is among those to be looked at; see [`super::migration`].
    pub(super) is_due: bool,
    open: Open,
    /// What has been relayed to the app server.
    to_server: Records,
    from_server: Records,
    /// What came after it: whole messages, and the one that has not ended.
    held: Vec<u8>,
    unended: Records,
    /// A length that no message can have has come: nobody knows where messages end any more.
    is_unreadable: bool,
}

/// Whether a client stays with its app server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Stage {
    /// It stays.
    Settled,
    /// It moves as soon as nothing is open.
    Leaving,
    /// The same, and new calls wait until it has moved.
    Holding,
    /// It moves at the next message boundary, whatever is open.
    Overdue,
    /// Its app server is lost. Whatever it says waits for another.
    Parked(Parked),
}

/// From where a parked client comes, and where it may go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Parked {
    pub(super) from: Arc<str>,
    /// Only other connections of the same app server will do.
    pub(super) must_return: bool,
    /// When it has waited long enough.
    pub(super) until: Instant,
}

/// What an app server is told of a client first.
#[derive(Debug)]
pub(super) struct Introduction {
    /// As in [`super::NewClient`].
    pub(super) open_body: Box<[u8]>,
    /// The hub handshake request, with its separator.
    pub(super) request: Box<[u8]>,
    /// As in [`super::NewClient`].
    pub(super) required_server_id: Option<Box<str>>,
}

/// What becomes of bytes that a client has sent.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Fate {
    /// All go to its app server.
    Relayed,
    /// So many go to its app server and end a message. The rest is to be looked at again.
    RelayedTo(usize),
    /// They wait, but for these messages, which go to its app server.
    Held(Vec<u8>),
}

impl Traffic {
    pub(super) fn new(protocol: MessageProtocol, introduction: Introduction) -> Self {
        Self {
            protocol,
            stage: Stage::Settled,
            introduction,
            has_moved: false,
            is_paused: false,
            is_due: false,
            open: Open::default(),
            to_server: Records::new(protocol, FOLLOWED_RECORD_BYTES_MAX),
            from_server: Records::new(protocol, FOLLOWED_RECORD_BYTES_MAX),
            held: Vec::new(),
            // Reading stops long before: see `FOLLOWED_HELD_BYTES_MAX`.
            unended: Records::new(protocol, usize::MAX),
            is_unreadable: false,
        }
    }

    /// The client has sent something.
    pub(super) fn on_client_bytes(&mut self, bytes: &[u8]) -> Fate {
        match self.stage {
            Stage::Settled | Stage::Leaving => {
                self.note_client_bytes(bytes);
                Fate::Relayed
            }
            Stage::Parked(_) => {
                self.held.extend_from_slice(bytes);
                Fate::Held(Vec::new())
            }
            Stage::Holding if self.to_server.is_at_boundary() => self.hold(bytes),
            Stage::Holding | Stage::Overdue => {
                let end = self.to_server.end_of_record(bytes).unwrap_or(bytes.len());
                let (head, rest) = bytes.split_at(end);
                self.note_client_bytes(head);
                if rest.is_empty() {
                    Fate::Relayed
                } else {
                    Fate::RelayedTo(end)
                }
            }
        }
    }

    /// The app server has sent something. Its handshake response does not count.
    pub(super) fn on_server_bytes(&mut self, bytes: &[u8]) {
        if self.is_unreadable {
            return;
        }
        let (protocol, open) = (self.protocol, &mut self.open);
        let pushed = self.from_server.push(bytes, |record| match record.body {
            Some(body) => {
                if let Ok(envelope) = Envelope::read(protocol, body) {
                    open.note_from_server(&envelope);
                }
            }
            None => open.is_exact = false,
        });
        self.is_unreadable |= pushed.is_err();
    }

    /// The client is asked for a result.
    pub(super) fn on_invocation(&mut self, invocation_id: &str) {
        self.open.add(invocation_id, |open| &mut open.asked);
    }

    /// Whether it can move now.
    pub(super) fn can_move(&self) -> bool {
        match self.stage {
            Stage::Settled => false,
            Stage::Leaving | Stage::Holding => self.is_between_messages() && self.open.is_empty(),
            Stage::Overdue => self.is_between_messages(),
            Stage::Parked(_) => true,
        }
    }

    /// Whether it can be parked: what it has begun to say can be said again, and what it has begun to hear has ended.
    pub(super) fn can_park(&self) -> bool {
        !self.is_unreadable
            && !self.to_server.is_too_long
            && self.from_server.is_at_boundary()
            && !self.open.is_ending
    }

    /// Its app server is lost. A message that it had heard in part is said again to the next one.
    pub(super) fn park(&mut self, parked: Parked) {
        let begun = self.to_server.take_partial();
        self.held.splice(0..0, begun);
        self.held.extend(self.unended.take_partial());
        self.stage = Stage::Parked(parked);
    }

    /// Whether something is open, or may be.
    pub(super) fn has_open(&self) -> bool {
        !self.open.is_empty()
    }

    /// Gives up all that is open. What the client is to be told: that its calls have failed.
    pub(super) fn abandon_open(&mut self) -> Abandoned {
        let mut calls: Vec<Box<str>> = std::mem::take(&mut self.open).calls.into_iter().collect();
        calls.sort_unstable();
        let completions = calls.iter().map(|call| {
            self.protocol.encode(&HubMessage::Completion {
                headers: Vec::new(),
                invocation_id: call.to_string(),
                outcome: Outcome::Error(CALL_ABANDONED.to_owned()),
            })
        });
        Abandoned {
            completions: completions.flatten().collect(),
            calls: calls.len(),
        }
    }

    /// It has another app server now. What it has said since it had none.
    pub(super) fn settle(&mut self) -> Vec<u8> {
        debug_assert!(self.open.is_empty(), "what was open has been given up");
        self.stage = Stage::Settled;
        self.has_moved = true;
        self.from_server = Records::new(self.protocol, FOLLOWED_RECORD_BYTES_MAX);
        self.release()
    }

    /// Holds nothing any more. What was held is to be taken as if it came now.
    pub(super) fn release(&mut self) -> Vec<u8> {
        let mut held = std::mem::take(&mut self.held);
        held.extend(self.unended.take_partial());
        held
    }

    /// What is held.
    pub(super) fn held(&self) -> Vec<u8> {
        [&*self.held, &*self.unended.partial].concat()
    }

    /// Bytes that are held.
    pub(super) fn held_bytes(&self) -> usize {
        self.held.len() + self.unended.partial.len()
    }

    /// Whether the client may hear this from an app server that it has left: whole messages that belong to no call, and between two
    /// messages of the app server that it has. All else is over.
    pub(super) fn accepts_late(&self, payload: &[u8]) -> bool {
        if !self.from_server.is_at_boundary() {
            return false;
        }
        let (mut records, mut is_welcome) = (Records::new(self.protocol, usize::MAX), true);
        let pushed = records.push(payload, |record| {
            let body = record.body.unwrap_or_default();
            is_welcome &= Envelope::read(self.protocol, body).is_ok_and(|envelope| {
                envelope.kind == Kind::Invocation && envelope.invocation_id.is_none()
            });
        });
        is_welcome && pushed.is_ok() && records.is_at_boundary()
    }

    fn is_between_messages(&self) -> bool {
        !self.is_unreadable
            && !self.open.is_ending
            && self.to_server.is_at_boundary()
            && self.from_server.is_at_boundary()
    }

    fn note_client_bytes(&mut self, bytes: &[u8]) {
        if self.is_unreadable {
            return;
        }
        let (protocol, open) = (self.protocol, &mut self.open);
        let pushed = self.to_server.push(bytes, |record| match record.body {
            Some(body) => {
                if let Ok(envelope) = Envelope::read(protocol, body) {
                    open.note_from_client(&envelope);
                }
            }
            None => open.is_exact = false,
        });
        self.is_unreadable |= pushed.is_err();
    }

    /// Holds new calls back and lets through what belongs to those that are open.
    fn hold(&mut self, bytes: &[u8]) -> Fate {
        if self.is_unreadable {
            self.held.extend_from_slice(bytes);
            return Fate::Held(Vec::new());
        }
        let Self {
            protocol,
            open,
            held,
            unended,
            ..
        } = self;
        let mut passing = Vec::new();
        let pushed = unended.push(bytes, |record| {
            let body = record.body.unwrap_or_default();
            match Envelope::read(*protocol, body) {
                Ok(envelope) if open.lets_through(&envelope) => {
                    open.note_from_client(&envelope);
                    passing.extend_from_slice(record.raw);
                }
                Ok(_) | Err(_) => held.extend_from_slice(record.raw),
            }
        });
        if let Err(Unreadable { unread }) = pushed {
            self.is_unreadable = true;
            self.held.extend(self.unended.take_partial());
            self.held.extend_from_slice(unread);
        }
        Fate::Held(passing)
    }
}

/// What is left of calls that nobody will answer.
#[derive(Debug)]
pub(super) struct Abandoned {
    /// Error completions for the client, framed.
    pub(super) completions: Vec<u8>,
    /// How many.
    pub(super) calls: usize,
}

/// The error of a call whose app server has gone before it answered.
const CALL_ABANDONED: &str = "The app server left before it answered.";

/// What has begun and not ended.
#[derive(Debug)]
struct Open {
    /// Calls of the client that its app server has not answered.
    calls: FxHashSet<Box<str>>,
    /// Streams that the client feeds.
    feeds: FxHashSet<Box<str>>,
    /// Invocations of an app server that the client has not answered.
    asked: FxHashSet<Box<str>>,
    /// Whether that is all.
    is_exact: bool,
    /// One of the two has said its last word.
    is_ending: bool,
}

impl Default for Open {
    fn default() -> Self {
        Self {
            calls: FxHashSet::default(),
            feeds: FxHashSet::default(),
            asked: FxHashSet::default(),
            is_exact: true,
            is_ending: false,
        }
    }
}

impl Open {
    fn is_empty(&self) -> bool {
        self.is_exact && self.count() == 0
    }

    fn count(&self) -> usize {
        self.calls.len() + self.feeds.len() + self.asked.len()
    }

    fn add(&mut self, id: &str, to: impl FnOnce(&mut Self) -> &mut FxHashSet<Box<str>>) {
        if self.count() >= FOLLOWED_CALLS_MAX || id.len() > NAME_BYTES_MAX {
            self.is_exact = false;
        } else {
            to(self).insert(id.into());
        }
    }

    fn note_from_client(&mut self, envelope: &Envelope<'_>) {
        let id = envelope.invocation_id.as_deref();
        match envelope.kind {
            Kind::Invocation | Kind::StreamInvocation => {
                if let Some(id) = id {
                    self.add(id, |open| &mut open.calls);
                }
                for stream in &envelope.stream_ids {
                    self.add(stream, |open| &mut open.feeds);
                }
            }
            Kind::Completion => {
                let id = id.unwrap_or_default();
                if !self.feeds.remove(id) {
                    self.asked.remove(id);
                }
            }
            Kind::Close => self.is_ending = true,
            Kind::StreamItem
            | Kind::CancelInvocation
            | Kind::Ping
            | Kind::Ack
            | Kind::Sequence
            | Kind::Unknown => {}
        }
    }

    fn note_from_server(&mut self, envelope: &Envelope<'_>) {
        let id = envelope.invocation_id.as_deref();
        match (envelope.kind, id) {
            (Kind::Completion, Some(id)) => {
                self.calls.remove(id);
            }
            (Kind::Invocation, Some(id)) => self.add(id, |open| &mut open.asked),
            (Kind::Close, _) => self.is_ending = true,
            (
                Kind::Invocation
                | Kind::StreamItem
                | Kind::Completion
                | Kind::StreamInvocation
                | Kind::CancelInvocation
                | Kind::Ping
                | Kind::Ack
                | Kind::Sequence
                | Kind::Unknown,
                _,
            ) => {}
        }
    }

    /// Whether a message of the client may pass while new calls wait: it helps to end what is open, or is no more than a sign of life.
    fn lets_through(&self, envelope: &Envelope<'_>) -> bool {
        let id = envelope.invocation_id.as_deref().unwrap_or_default();
        match envelope.kind {
            Kind::StreamItem => self.feeds.contains(id),
            Kind::Completion => self.feeds.contains(id) || self.asked.contains(id),
            Kind::CancelInvocation => self.calls.contains(id),
            Kind::Ping => true,
            Kind::Invocation
            | Kind::StreamInvocation
            | Kind::Close
            | Kind::Ack
            | Kind::Sequence
            | Kind::Unknown => false,
        }
    }
}

/// Cuts one direction into records, without copying those that come in one piece.
#[derive(Debug)]
struct Records {
    protocol: MessageProtocol,
    lengths: VarintRecords,
    /// The record that has not ended, from its very first byte.
    partial: Vec<u8>,
    partial_bytes_max: usize,
    /// It has not been kept.
    is_too_long: bool,
}

/// A whole record.
struct Record<'a> {
    /// With its separator or length, if it has been kept.
    raw: &'a [u8],
    /// Without. `None` if it was too long to be kept.
    body: Option<&'a [u8]>,
}

/// From here on nobody can say where a record ends.
struct Unreadable<'a> {
    unread: &'a [u8],
}

impl Records {
    fn new(protocol: MessageProtocol, partial_bytes_max: usize) -> Self {
        Self {
            protocol,
            lengths: VarintRecords::new(RECORD_BYTES_MAX),
            partial: Vec::new(),
            partial_bytes_max,
            is_too_long: false,
        }
    }

    fn is_at_boundary(&self) -> bool {
        self.partial.is_empty() && !self.is_too_long
    }

    fn push<'a>(
        &mut self,
        mut bytes: &'a [u8],
        mut each: impl FnMut(Record<'_>),
    ) -> Result<(), Unreadable<'a>> {
        while !bytes.is_empty() {
            let unread = bytes;
            let share = self.share(bytes).map_err(|_| Unreadable { unread })?;
            let (own, rest) = bytes.split_at(share.bytes);
            bytes = rest;
            if share.ends_record && self.is_at_boundary() {
                each(self.record(own));
                continue;
            }
            self.keep(own);
            if share.ends_record {
                let raw = std::mem::take(&mut self.partial);
                if std::mem::take(&mut self.is_too_long) {
                    let raw = &[];
                    each(Record { raw, body: None });
                } else {
                    each(self.record(&raw));
                }
            }
        }
        Ok(())
    }

    /// Where in `bytes` the current record ends, or the next one if none has begun.
    fn end_of_record(&self, bytes: &[u8]) -> Option<usize> {
        let share = match self.protocol {
            MessageProtocol::Json => return find_separator(bytes).map(|end| end + 1),
            MessageProtocol::MessagePack => next_share(&mut self.lengths.clone(), bytes),
        };
        let share = share.ok()?;
        share.ends_record.then_some(share.bytes)
    }

    /// Forgets the record that has not ended, and hands out what there was of it.
    fn take_partial(&mut self) -> Vec<u8> {
        self.lengths = VarintRecords::new(RECORD_BYTES_MAX);
        self.is_too_long = false;
        std::mem::take(&mut self.partial)
    }

    /// How much of `bytes` belongs to the current record.
    fn share(&mut self, bytes: &[u8]) -> Result<Share, LengthError> {
        match self.protocol {
            MessageProtocol::Json => {
                let end = find_separator(bytes).map(|end| end + 1);
                Ok(Share {
                    bytes: end.unwrap_or(bytes.len()),
                    ends_record: end.is_some(),
                })
            }
            MessageProtocol::MessagePack => next_share(&mut self.lengths, bytes),
        }
    }

    fn keep(&mut self, bytes: &[u8]) {
        if self.is_too_long || self.partial.len() + bytes.len() > self.partial_bytes_max {
            self.is_too_long = true;
            self.partial = Vec::new();
        } else {
            self.partial.extend_from_slice(bytes);
        }
    }

    fn record<'a>(&self, raw: &'a [u8]) -> Record<'a> {
        let body = match self.protocol {
            MessageProtocol::Json => raw.split_last().map(|(_, body)| body),
            MessageProtocol::MessagePack => match read_varint(raw) {
                Ok(Some((_, prefix_bytes))) => raw.get(prefix_bytes..),
                Ok(None) | Err(_) => None,
            },
        };
        Record { raw, body }
    }
}

/// A part of some bytes that belongs to one record.
struct Share {
    bytes: usize,
    ends_record: bool,
}

fn next_share(lengths: &mut VarintRecords, bytes: &[u8]) -> Result<Share, LengthError> {
    let mut at = 0;
    let piece = lengths.next(bytes, &mut at)?;
    Ok(Share {
        bytes: at,
        ends_record: piece.is_some_and(|piece| piece.ends_record),
    })
}

#[cfg(test)]
mod tests;

//! Hub messages in a run of bytes: where each begins and ends, and what kind it is.

use std::ops::Range;

use crate::chunk::Chunk;
use crate::frame::record::{find_separator, read_varint};
use crate::protocol::hub::envelope::{Envelope, Kind};
use crate::protocol::hub::message::{HubMessageError, MessageProtocol};

/// What the service has to know of some whole hub messages that are for a client.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(in crate::routing) struct Content {
    /// How many of them are numbered.
    pub(in crate::routing) numbered: u32,
    /// Whether one of them says goodbye.
    pub(in crate::routing) says_goodbye: bool,
}

impl Content {
    /// As [`Self::of`], for messages in a whole WebSocket frame.
    pub(in crate::routing) fn of_frame(protocol: MessageProtocol, frame: &[u8]) -> Self {
        Self::of(protocol, payload(frame))
    }

    /// Reads whole messages. What cannot be read has no number: its receiver ends over it.
    pub(in crate::routing) fn of(protocol: MessageProtocol, bytes: &[u8]) -> Self {
        let mut content = Self::default();
        for record in records(protocol, bytes) {
            let Ok(envelope) = Envelope::read(protocol, record.content) else {
                continue;
            };
            content.numbered += u32::from(is_numbered(envelope.kind));
            content.says_goodbye |= envelope.kind == Kind::Close;
        }
        content
    }
}

/// The payload of a whole WebSocket frame that is not masked.
fn payload(frame: &[u8]) -> &[u8] {
    let header_bytes = match frame.get(1) {
        Some(126) => 4,
        Some(127) => 10,
        Some(_) | None => 2,
    };
    frame.get(header_bytes..).unwrap_or_default()
}

/// Calls, their results and what belongs to streams are numbered; what only keeps the connection going is not.
pub(super) fn is_numbered(kind: Kind) -> bool {
    match kind {
        Kind::Invocation
        | Kind::StreamItem
        | Kind::Completion
        | Kind::StreamInvocation
        | Kind::CancelInvocation => true,
        Kind::Ping | Kind::Close | Kind::Ack | Kind::Sequence | Kind::Unknown => false,
    }
}

/// A hub message within a run of bytes.
pub(super) struct Record<'a> {
    /// Without its separator or length.
    pub(super) content: &'a [u8],
    /// With it.
    pub(super) range: Range<usize>,
}

/// The whole messages at the start of `bytes`.
pub(super) fn records(
    protocol: MessageProtocol,
    bytes: &[u8],
) -> impl Iterator<Item = Record<'_>> + '_ {
    let mut start = 0;
    std::iter::from_fn(move || {
        let rest = bytes.get(start..)?;
        let content = first_content(protocol, rest).ok()??;
        let end = start + content.end + usize::from(protocol == MessageProtocol::Json);
        let range = start..end;
        start = end;
        Some(Record {
            content: rest.get(content)?,
            range,
        })
    })
}

/// Holds the start of a hub message until the rest of it has come.
#[derive(Debug, Default)]
pub(super) struct Gathering {
    begun: Vec<u8>,
}

impl Gathering {
    /// Whether what comes next is the start of a message.
    pub(super) fn is_empty(&self) -> bool {
        self.begun.is_empty()
    }

    /// Takes what has come and gives back the whole messages that there are now. They stay where they are unless one of them had begun
    /// before. Of one that has begun there may be `bytes_max`.
    pub(super) fn push(
        &mut self,
        protocol: MessageProtocol,
        bytes: Chunk,
        bytes_max: usize,
    ) -> Result<Option<Chunk>, HubMessageError> {
        let bytes = if self.begun.is_empty() {
            bytes
        } else if protocol == MessageProtocol::Json && find_separator(&bytes).is_none() {
            // Looked through once, however many pieces a message comes in.
            self.begun.extend_from_slice(&bytes);
            return self.check(protocol, bytes_max).map(|()| None);
        } else {
            self.begun.extend_from_slice(&bytes);
            if first_content(protocol, &self.begun)?.is_none() {
                return self.check(protocol, bytes_max).map(|()| None);
            }
            Chunk::from(std::mem::take(&mut self.begun))
        };
        let whole = whole_bytes(protocol, &bytes);
        self.begun
            .extend_from_slice(bytes.get(whole..).unwrap_or_default());
        self.check(protocol, bytes_max)?;
        Ok((whole > 0).then(|| bytes.slice(0..whole)))
    }

    /// Drops what has begun: it will come again from its start.
    pub(super) fn clear(&mut self) {
        self.begun = Vec::new();
    }

    fn check(&self, protocol: MessageProtocol, bytes_max: usize) -> Result<(), HubMessageError> {
        let announced = match protocol {
            MessageProtocol::Json => None,
            MessageProtocol::MessagePack => prefix(&self.begun)?,
        };
        let announced_bytes = announced.map_or(0, |(content_bytes, _)| content_bytes);
        if self.begun.len().max(announced_bytes) > bytes_max {
            return Err(HubMessageError::TooLong { bytes_max });
        }
        Ok(())
    }
}

/// How many bytes the whole messages at the start of `bytes` take.
pub(super) fn whole_bytes(protocol: MessageProtocol, bytes: &[u8]) -> usize {
    let last = records(protocol, bytes).last();
    last.map_or(0, |record| record.range.end)
}

/// Where the content of the first message stands, if all of it is there.
fn first_content(
    protocol: MessageProtocol,
    bytes: &[u8],
) -> Result<Option<Range<usize>>, HubMessageError> {
    match protocol {
        MessageProtocol::Json => Ok(find_separator(bytes).map(|end| 0..end)),
        MessageProtocol::MessagePack => {
            let Some((content_bytes, start)) = prefix(bytes)? else {
                return Ok(None);
            };
            let end = start + content_bytes;
            Ok((end <= bytes.len()).then_some(start..end))
        }
    }
}

/// How long the first message says that it is, and how many bytes it takes to say so.
fn prefix(bytes: &[u8]) -> Result<Option<(usize, usize)>, HubMessageError> {
    let prefix = read_varint(bytes).map_err(|_| HubMessageError::LengthPrefix)?;
    Ok(prefix.map(|(content_bytes, prefix_bytes)| (content_bytes as usize, prefix_bytes)))
}

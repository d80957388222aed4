//! Frames in, pieces of messages out.

use std::ops::{Deref, Range};
use std::{fmt, mem};

use smallvec::SmallVec;

use super::header::{self, FrameKind, Received};
use super::mask::{mask, rotated};
use super::utf8::Utf8Check;
use super::{CloseFrame, FrameError, FrameHeader, Limits, MessageKind, Role, close};

/// What has been decoded.
#[derive(Debug)]
pub enum Event {
    /// A part of a message.
    Data(Piece),
    /// To be answered with a pong of the same payload.
    Ping(ControlPayload),
    /// The answer to a ping, or a sign of life nobody asked for.
    Pong(ControlPayload),
    /// The other end sends nothing more. To be answered with a close frame, unless one has been sent.
    Close(Option<CloseFrame>),
}

/// A part of a message, already unmasked.
///
/// It is empty only where a message ends without having any more bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Piece {
    /// What the message holds.
    pub kind: MessageKind,
    /// Where the bytes are in the input.
    pub range: Range<usize>,
    /// Whether it is the first piece of its message.
    pub starts_message: bool,
    /// Whether it is the last piece of its message.
    pub ends_message: bool,
}

/// The decoder of one connection. See the [module](super) for what it promises.
///
/// Call [`next`](Self::next) with a received buffer until it answers `None`, then with the next buffer.
pub struct Decoder {
    limits: Limits,
    role: Role,
    state: State,
    /// The beginning of a header that straddles buffers.
    partial: [u8; FrameHeader::BYTES_MAX],
    /// How much of `partial` is in use. Not zero only in [`State::Header`].
    partial_bytes: u8,
    /// Payload of the current frame that is still to come.
    payload_bytes: u64,
    /// The mask of the current frame, turned to its next payload byte.
    key: [u8; 4],
    /// Whether the current frame ends its message, if it is a data frame.
    is_final: bool,
    message: Message,
    /// What has arrived of a control payload.
    control: ControlPayload,
}

impl Decoder {
    /// A decoder for what a connection receives after the upgrade.
    pub fn new(role: Role, limits: Limits) -> Self {
        Self {
            limits,
            role,
            state: State::Header,
            partial: [0; FrameHeader::BYTES_MAX],
            partial_bytes: 0,
            payload_bytes: 0,
            key: [0; 4],
            is_final: false,
            message: Message::NONE,
            control: ControlPayload::default(),
        }
    }

    /// Decodes on from `input[*at..]`, unmasks what it reads and moves `at` behind it. `None` when all of `input` has been read.
    ///
    /// After an error the connection has to be failed with the error's [close code](FrameError::close_code). Whatever is fed after
    /// an error or a close frame is discarded.
    pub fn next(&mut self, input: &mut [u8], at: &mut usize) -> Result<Option<Event>, FrameError> {
        let event = self.advance(input, at);
        if event.is_err() {
            self.state = State::Closed;
        }
        event
    }

    /// Whether a message or a frame has begun that has not ended.
    pub fn is_inside_message(&self) -> bool {
        self.message.is_open()
            || self.partial_bytes > 0
            || matches!(self.state, State::Data | State::Control(_))
    }

    fn advance(&mut self, input: &mut [u8], at: &mut usize) -> Result<Option<Event>, FrameError> {
        loop {
            match self.state {
                State::Header => {
                    let Some(header) = self.read_header(input, at)? else {
                        return Ok(None);
                    };
                    self.begin_frame(header)?;
                }
                State::Data => {
                    if self.payload_bytes > 0 && *at >= input.len() {
                        return Ok(None);
                    }
                    let piece = self.read_data(input, at)?;
                    if piece.ends_message || !piece.range.is_empty() {
                        return Ok(Some(Event::Data(piece)));
                    }
                }
                State::Control(control) => {
                    let Some(payload) = self.read_control(input, at) else {
                        return Ok(None);
                    };
                    return self.end_control(control, payload).map(Some);
                }
                State::Closed => {
                    *at = input.len();
                    return Ok(None);
                }
            }
        }
    }

    fn read_header(
        &mut self,
        input: &[u8],
        at: &mut usize,
    ) -> Result<Option<Received>, FrameError> {
        let unread = input.get(*at..).unwrap_or_default();
        if unread.is_empty() {
            return Ok(None);
        }
        if self.partial_bytes == 0
            && let Some((header, header_bytes)) = header::parse(unread, self.role)?
        {
            *at += header_bytes;
            return Ok(Some(header));
        }
        self.read_partial_header(unread, at)
    }

    /// The header straddles buffers. It is taken together with what may follow it, so that it is complete if it can be.
    #[cold]
    fn read_partial_header(
        &mut self,
        unread: &[u8],
        at: &mut usize,
    ) -> Result<Option<Received>, FrameError> {
        let kept = usize::from(self.partial_bytes);
        let free = self.partial.get_mut(kept..).unwrap_or_default();
        let taken = free.len().min(unread.len());
        for (slot, byte) in free.iter_mut().zip(unread) {
            *slot = *byte;
        }
        let header = self.partial.get(..kept + taken).unwrap_or_default();
        let Some((header, header_bytes)) = header::parse(header, self.role)? else {
            // A whole header fits, so what is missing has yet to arrive.
            self.partial_bytes = (kept + taken) as u8;
            *at += taken;
            return Ok(None);
        };
        self.partial_bytes = 0;
        *at += header_bytes - kept;
        Ok(Some(header))
    }

    fn begin_frame(&mut self, header: Received) -> Result<(), FrameError> {
        self.state = match header.kind {
            FrameKind::Start(_) if self.message.is_open() => {
                return Err(FrameError::InterruptedMessage);
            }
            FrameKind::Continuation if !self.message.is_open() => {
                return Err(FrameError::StrayContinuation);
            }
            FrameKind::Start(kind) => {
                self.message.kind = kind;
                State::Data
            }
            FrameKind::Continuation => State::Data,
            FrameKind::Ping => State::Control(ControlKind::Ping),
            FrameKind::Pong => State::Control(ControlKind::Pong),
            FrameKind::Close => State::Control(ControlKind::Close),
        };
        if self.state == State::Data {
            self.message.add_frame(header.payload_bytes, &self.limits)?;
        }
        self.is_final = header.is_final;
        self.payload_bytes = header.payload_bytes;
        self.key = header.key;
        Ok(())
    }

    fn read_data(&mut self, input: &mut [u8], at: &mut usize) -> Result<Piece, FrameError> {
        let range = self.read_payload(input, at);
        let ends_frame = self.payload_bytes == 0;
        let ends_message = ends_frame && self.is_final;
        let message = &mut self.message;
        if message.kind == MessageKind::Text && self.limits.text_checked {
            let is_utf8 = message
                .text
                .push(input.get(range.clone()).unwrap_or_default());
            if !is_utf8 || ends_message && !message.text.is_complete() {
                return Err(FrameError::TextNotUtf8);
            }
        }
        let piece = Piece {
            kind: message.kind,
            starts_message: !message.has_piece,
            ends_message,
            range,
        };
        message.has_piece |= !piece.range.is_empty();
        if ends_frame {
            self.state = State::Header;
        }
        if ends_message {
            self.message = Message::NONE;
        }
        Ok(piece)
    }

    /// The payload of a control frame, once all of it is there.
    fn read_control(&mut self, input: &mut [u8], at: &mut usize) -> Option<ControlPayload> {
        let range = self.read_payload(input, at);
        self.control
            .0
            .extend_from_slice(input.get(range).unwrap_or_default());
        (self.payload_bytes == 0).then(|| mem::take(&mut self.control))
    }

    #[cold]
    fn end_control(
        &mut self,
        control: ControlKind,
        payload: ControlPayload,
    ) -> Result<Event, FrameError> {
        self.state = State::Header;
        Ok(match control {
            ControlKind::Ping => Event::Ping(payload),
            ControlKind::Pong => Event::Pong(payload),
            ControlKind::Close => {
                self.state = State::Closed;
                Event::Close(close::parse(&payload)?)
            }
        })
    }

    /// Unmasks as much of the frame's payload as there is, and tells where it is.
    fn read_payload(&mut self, input: &mut [u8], at: &mut usize) -> Range<usize> {
        let unread = input.get_mut(*at..).unwrap_or_default();
        let taken = usize::try_from(self.payload_bytes)
            .map_or(unread.len(), |bytes| bytes.min(unread.len()));
        if self.role == Role::Server
            && let Some(bytes) = unread.get_mut(..taken)
        {
            mask(bytes, self.key, 0);
            self.key = rotated(self.key, taken);
        }
        self.payload_bytes -= taken as u64;
        let start = *at;
        *at += taken;
        start..*at
    }
}

impl fmt::Debug for Decoder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Decoder")
            .field("role", &self.role)
            .field("state", &self.state)
            .field("payload_bytes", &self.payload_bytes)
            .field("message", &self.message)
            .finish_non_exhaustive()
    }
}

/// The payload of a ping or a pong.
///
/// It can have 125 bytes, but what is sent has four or eight, if any.
#[derive(Default)]
pub struct ControlPayload(SmallVec<[u8; 16]>);

impl Deref for ControlPayload {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Debug for ControlPayload {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ControlPayload({} bytes)", self.len())
    }
}

/// What comes next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Header,
    Data,
    Control(ControlKind),
    /// Nothing that counts: the other end has closed, or broken the rules.
    Closed,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum ControlKind {
    Ping,
    Pong,
    Close,
}

/// The message that is being received.
#[derive(Clone, Copy, Debug)]
struct Message {
    kind: MessageKind,
    /// Frames begun so far. Zero means that no message is being received; then the rest equals that of [`Message::NONE`].
    frames: u32,
    /// Declared by these frames.
    bytes: u64,
    /// Whether a piece of it has been given out.
    has_piece: bool,
    text: Utf8Check,
}

impl Message {
    const NONE: Self = Self {
        kind: MessageKind::Binary,
        frames: 0,
        bytes: 0,
        has_piece: false,
        text: Utf8Check::NEW,
    };

    fn is_open(&self) -> bool {
        self.frames > 0
    }

    fn add_frame(&mut self, payload_bytes: u64, limits: &Limits) -> Result<(), FrameError> {
        if self.frames >= limits.frames_per_message_max {
            return Err(FrameError::TooManyFrames {
                max: limits.frames_per_message_max,
            });
        }
        self.frames += 1;
        self.bytes = self.bytes.saturating_add(payload_bytes);
        if self.bytes > limits.message_bytes_max {
            return Err(FrameError::MessageTooLong {
                bytes: self.bytes,
                max: limits.message_bytes_max,
            });
        }
        Ok(())
    }
}

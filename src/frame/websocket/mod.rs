//! WebSocket frames, by RFC 6455.
//!
//! The [`Decoder`] is fed each received buffer once. It unmasks payloads where they lie and answers with ranges of that buffer, so
//! a payload is neither copied nor gathered: a message arrives as the pieces that the network and the other end happened to make
//! of it. Only what has to be seen whole is kept: a header that straddles buffers, and control payloads.
//!
//! Invariants:
//! * How the input was cut into buffers changes where pieces end, never what they hold, nor which fault ends the connection.
//! * A fault is found as soon as the bytes that prove it have been read.
//! * A declared length is checked before any of the payload is accepted, and never allocated.
//!
//! Extensions are never negotiated, so every reserved bit is a fault.

mod close;
mod decoder;
mod error;
mod header;
mod mask;
mod utf8;

#[cfg(any(test, fuzzing))]
mod properties;
#[cfg(test)]
mod tests;

pub use tungstenite::protocol::CloseFrame;
pub use tungstenite::protocol::frame::coding::{CloseCode, Control, Data, OpCode};

pub use close::close_frame;
pub use decoder::{ControlPayload, Decoder, Event, Piece};
pub use error::FrameError;
pub use header::{FrameHeader, control_frame, header, payload};
pub use mask::mask;
#[cfg(any(test, fuzzing))]
pub use properties::fuzz_websocket_frame;

/// Longest payload of a control frame (RFC 6455 §5.5).
pub const CONTROL_BYTES_MAX: usize = 125;

/// Which end of the connection this is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// What the other end sends must be masked, what we send must not.
    Server,
    /// The other way round.
    Client,
}

/// What a data message is declared to hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MessageKind {
    /// UTF-8.
    Text,
    /// Anything.
    Binary,
}

impl From<MessageKind> for OpCode {
    fn from(kind: MessageKind) -> Self {
        match kind {
            MessageKind::Text => Self::Data(Data::Text),
            MessageKind::Binary => Self::Data(Data::Binary),
        }
    }
}

/// What one connection may send.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Longest message, over all its frames.
    pub message_bytes_max: u64,
    /// Most frames in one message: without it a message of empty frames would never end.
    pub frames_per_message_max: u32,
    /// Whether text must be UTF-8. To be switched off only where whoever reads the text checks it anyway.
    pub text_checked: bool,
}

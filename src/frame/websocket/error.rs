//! What a connection can do wrong, and the code it is closed with.

use super::CloseCode;

/// A fault of the other end. The connection has to be failed (RFC 6455 §7.1.7).
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FrameError {
    /// RFC 6455 §5.2: reserved bits belong to extensions, and none was negotiated.
    #[error("reserved bits are set in a frame header")]
    ReservedBits,
    /// RFC 6455 §5.2.
    #[error("reserved opcode {0}")]
    ReservedOpcode(u8),
    /// RFC 6455 §5.1: a client must mask.
    #[error("a frame of a client is not masked")]
    Unmasked,
    /// RFC 6455 §5.1: a server must not mask.
    #[error("a frame of a server is masked")]
    Masked,
    /// RFC 6455 §5.5.
    #[error("a control frame is longer than 125 bytes")]
    ControlTooLong,
    /// RFC 6455 §5.5.
    #[error("a control frame is fragmented")]
    ControlFragmented,
    /// RFC 6455 §5.4.
    #[error("a continuation frame does not continue any message")]
    StrayContinuation,
    /// RFC 6455 §5.4.
    #[error("a message begins before the one before it has ended")]
    InterruptedMessage,
    /// RFC 6455 §5.2: the shortest form of a length must be used.
    #[error("a length of {0} bytes is not written in its shortest form")]
    LengthNotMinimal(u64),
    /// RFC 6455 §5.2: a length has 63 bits.
    #[error("a length has its topmost bit set")]
    LengthTopBit,
    /// Our limit.
    #[error("a message has at least {bytes} bytes, {max} are allowed")]
    MessageTooLong {
        /// Declared so far.
        bytes: u64,
        /// Allowed.
        max: u64,
    },
    /// Our limit.
    #[error("a message has more than {max} frames")]
    TooManyFrames {
        /// Allowed.
        max: u32,
    },
    /// RFC 6455 §8.1.
    #[error("a text message is not UTF-8")]
    TextNotUtf8,
    /// RFC 6455 §5.5.1: a close frame is empty or begins with a code of two bytes.
    #[error("a close frame has half a close code")]
    CloseCodeCut,
    /// RFC 6455 §7.4.
    #[error("close code {0} may not be sent")]
    CloseCodeForbidden(u16),
    /// RFC 6455 §5.5.1.
    #[error("the reason of a close frame is not UTF-8")]
    ReasonNotUtf8,
}

impl FrameError {
    /// The code for the close frame that answers this fault (RFC 6455 §7.4.1).
    pub fn close_code(self) -> CloseCode {
        match self {
            Self::ReservedBits
            | Self::ReservedOpcode(_)
            | Self::Unmasked
            | Self::Masked
            | Self::ControlTooLong
            | Self::ControlFragmented
            | Self::StrayContinuation
            | Self::InterruptedMessage
            | Self::LengthNotMinimal(_)
            | Self::LengthTopBit
            | Self::CloseCodeCut
            | Self::CloseCodeForbidden(_) => CloseCode::Protocol,
            Self::MessageTooLong { .. } | Self::TooManyFrames { .. } => CloseCode::Size,
            Self::TextNotUtf8 | Self::ReasonNotUtf8 => CloseCode::Invalid,
        }
    }
}

//! Frame headers (RFC 6455 §5.2), read and written.

use std::fmt;
use std::ops::Deref;

use super::{CONTROL_BYTES_MAX, Control, FrameError, MessageKind, OpCode, Role};

/// First byte: the frame ends its message.
const FINAL: u8 = 0x80;
/// First byte: bits for extensions.
const RESERVED: u8 = 0x70;
/// First byte: what the frame is.
const OPCODE: u8 = 0x0f;
/// Second byte: a key follows the length.
const MASKED: u8 = 0x80;
/// Second byte: the length follows in two bytes.
const LENGTH_16: u8 = 126;
/// Second byte: the length follows in eight bytes.
const LENGTH_64: u8 = 127;

/// The header of a frame with `payload_bytes` of payload, which the caller sends behind it, masked with the same key if there is one.
pub fn header(
    opcode: impl Into<OpCode>,
    is_final: bool,
    payload_bytes: u64,
    mask: Option<[u8; 4]>,
) -> FrameHeader {
    let mut header = FrameHeader {
        bytes: [0; FrameHeader::BYTES_MAX],
        length: 0,
    };
    let masked = if mask.is_some() { MASKED } else { 0 };
    header.push(&[u8::from(opcode.into()) | if is_final { FINAL } else { 0 }]);
    match payload_bytes {
        0..=125 => header.push(&[masked | payload_bytes as u8]),
        126..=0xffff => {
            header.push(&[masked | LENGTH_16]);
            header.push(&(payload_bytes as u16).to_be_bytes());
        }
        _ => {
            header.push(&[masked | LENGTH_64]);
            header.push(&payload_bytes.to_be_bytes());
        }
    }
    if let Some(key) = mask {
        header.push(&key);
    }
    header
}

/// The payload of a frame that is there as a whole and has no mask: what stands behind its [`header`]. `None` if it is not such a frame.
pub fn payload(frame: &[u8]) -> Option<&[u8]> {
    let (received, header_bytes) = parse(frame, Role::Client).ok()??;
    let payload = frame.get(header_bytes..)?;
    (payload.len() as u64 == received.payload_bytes).then_some(payload)
}

/// A whole control frame. A payload longer than a control frame may have is cut.
pub fn control_frame(control: Control, payload: &[u8], mask: Option<[u8; 4]>) -> Vec<u8> {
    debug_assert!(
        payload.len() <= CONTROL_BYTES_MAX,
        "a control payload has at most 125 bytes"
    );
    let payload = payload.get(..CONTROL_BYTES_MAX).unwrap_or(payload);
    let header = header(OpCode::Control(control), true, payload.len() as u64, mask);
    let mut frame = Vec::with_capacity(header.len() + payload.len());
    frame.extend_from_slice(&header);
    frame.extend_from_slice(payload);
    if let (Some(key), Some(payload)) = (mask, frame.get_mut(header.len()..)) {
        super::mask(payload, key, 0);
    }
    frame
}

/// A written frame header.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct FrameHeader {
    bytes: [u8; Self::BYTES_MAX],
    length: u8,
}

impl FrameHeader {
    /// The longest header: two bytes, a length of eight and a key of four.
    pub const BYTES_MAX: usize = 14;

    fn push(&mut self, bytes: &[u8]) {
        let start = usize::from(self.length);
        if let Some(free) = self.bytes.get_mut(start..start + bytes.len()) {
            free.copy_from_slice(bytes);
            self.length += bytes.len() as u8;
        }
    }
}

impl Deref for FrameHeader {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        self.bytes
            .get(..usize::from(self.length))
            .unwrap_or_default()
    }
}

impl fmt::Debug for FrameHeader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "FrameHeader({:02x?})", &**self)
    }
}

/// What a frame is. Unlike [`OpCode`] it has no reserved values.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum FrameKind {
    Start(MessageKind),
    Continuation,
    Ping,
    Pong,
    Close,
}

impl FrameKind {
    fn is_control(self) -> bool {
        matches!(self, Self::Ping | Self::Pong | Self::Close)
    }
}

/// What a received header says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Received {
    pub(super) kind: FrameKind,
    pub(super) is_final: bool,
    pub(super) payload_bytes: u64,
    /// All zero without a mask.
    pub(super) key: [u8; 4],
}

/// Reads the header at the start of `bytes` and tells how long it is. `None` if more bytes are needed.
///
/// Faults are looked for in the order of the bytes, so that it does not matter how many of them are there.
#[inline]
pub(super) fn parse(bytes: &[u8], role: Role) -> Result<Option<(Received, usize)>, FrameError> {
    let Some((&first, rest)) = bytes.split_first() else {
        return Ok(None);
    };
    let is_final = first & FINAL != 0;
    let kind = kind(first)?;
    if kind.is_control() && !is_final {
        return Err(FrameError::ControlFragmented);
    }

    let Some((&second, rest)) = rest.split_first() else {
        return Ok(None);
    };
    let is_masked = second & MASKED != 0;
    match (role, is_masked) {
        (Role::Server, false) => return Err(FrameError::Unmasked),
        (Role::Client, true) => return Err(FrameError::Masked),
        (Role::Server, true) | (Role::Client, false) => {}
    }
    let short_length = second & !MASKED;
    if kind.is_control() && usize::from(short_length) > CONTROL_BYTES_MAX {
        return Err(FrameError::ControlTooLong);
    }

    let Some((payload_bytes, rest)) = payload_bytes(short_length, rest)? else {
        return Ok(None);
    };
    let (key, rest) = if is_masked {
        let Some((key, rest)) = rest.split_first_chunk() else {
            return Ok(None);
        };
        (*key, rest)
    } else {
        ([0; 4], rest)
    };
    Ok(Some((
        Received {
            kind,
            is_final,
            payload_bytes,
            key,
        },
        bytes.len() - rest.len(),
    )))
}

#[inline]
fn kind(first: u8) -> Result<FrameKind, FrameError> {
    if first & RESERVED != 0 {
        return Err(FrameError::ReservedBits);
    }
    match first & OPCODE {
        0 => Ok(FrameKind::Continuation),
        1 => Ok(FrameKind::Start(MessageKind::Text)),
        2 => Ok(FrameKind::Start(MessageKind::Binary)),
        8 => Ok(FrameKind::Close),
        9 => Ok(FrameKind::Ping),
        10 => Ok(FrameKind::Pong),
        opcode => Err(FrameError::ReservedOpcode(opcode)),
    }
}

/// The payload's length and what follows it.
#[inline]
fn payload_bytes(short_length: u8, rest: &[u8]) -> Result<Option<(u64, &[u8])>, FrameError> {
    let (length, shortest, rest) = match short_length {
        LENGTH_16 => {
            let Some((length, rest)) = rest.split_first_chunk() else {
                return Ok(None);
            };
            (
                u64::from(u16::from_be_bytes(*length)),
                u64::from(LENGTH_16),
                rest,
            )
        }
        LENGTH_64 => {
            let Some((length, rest)) = rest.split_first_chunk() else {
                return Ok(None);
            };
            (u64::from_be_bytes(*length), 1 << 16, rest)
        }
        length => (u64::from(length), 0, rest),
    };
    if length < shortest {
        return Err(FrameError::LengthNotMinimal(length));
    }
    if length >> 63 != 0 {
        return Err(FrameError::LengthTopBit);
    }
    Ok(Some((length, rest)))
}

#[cfg(test)]
mod tests {
    use std::io::Cursor;

    use super::*;

    #[test]
    fn writes_what_tungstenite_reads() {
        for payload_bytes in [0, 1, 125, 126, 127, 0xffff, 0x1_0000, u64::MAX >> 1] {
            for (is_final, mask) in [(true, None), (false, Some([1, 2, 3, 4]))] {
                let written = header(MessageKind::Binary, is_final, payload_bytes, mask);
                let mut cursor = Cursor::new(&*written);
                let (read, read_bytes) =
                    tungstenite::protocol::frame::FrameHeader::parse(&mut cursor)
                        .unwrap()
                        .unwrap();
                assert_eq!(cursor.position(), written.len() as u64);
                assert_eq!(
                    (read.is_final, read.opcode, read.mask),
                    (is_final, MessageKind::Binary.into(), mask)
                );
                assert_eq!(read_bytes, payload_bytes);
            }
        }
    }

    #[test]
    fn reads_what_it_writes_and_needs_all_of_it() {
        for payload_bytes in [0, 125, 126, 0xffff, 0x1_0000, u64::MAX >> 1] {
            let written = header(MessageKind::Text, true, payload_bytes, Some([9, 8, 7, 6]));
            let kind = FrameKind::Start(MessageKind::Text);
            let expected = Received {
                kind,
                is_final: true,
                payload_bytes,
                key: [9, 8, 7, 6],
            };
            assert_eq!(
                parse(&written, Role::Server),
                Ok(Some((expected, written.len())))
            );
            for cut in 0..written.len() {
                assert_eq!(parse(&written[..cut], Role::Server), Ok(None));
            }
        }
    }
}

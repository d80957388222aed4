//! Turns the frames of a client into the frames that send its messages back, as they come and where they lie. No sockets here.
//!
//! A server's frame is that of a client without its mask: shorter, otherwise the same. So nothing has to be kept but where in a frame one
//! is, wherever the input is cut, and what goes out never overtakes what comes in.

use hubring::frame::websocket::mask;

use crate::error::LoadError;

const IS_MASKED: u8 = 0x80;
const LENGTH: u8 = 0x7f;
const OPCODE: u8 = 0x0f;
const PING: u8 = 0x9;
const PONG: u8 = 0xa;
const KEY_BYTES: usize = 4;

/// Where in a frame one is.
#[derive(Debug)]
pub(super) enum EchoFrames {
    /// Before its first byte.
    Start,
    /// Before the byte with the mask bit and the short length.
    Length,
    /// In the long length, of which `missing` bytes are to come.
    LongLength { missing: usize, length: u64 },
    /// In the key, of which `at` bytes have come.
    Key {
        at: usize,
        key: [u8; KEY_BYTES],
        length: u64,
    },
    /// In the payload, of which `done` bytes have come.
    Payload {
        key: [u8; KEY_BYTES],
        done: usize,
        length: u64,
    },
}

impl EchoFrames {
    pub(super) fn new() -> Self {
        Self::Start
    }

    /// Rewrites `bytes`, which follow those of the last call, and tells how many of them are to be sent back.
    ///
    /// Pings become pongs, and a close frame is answered by its like, as RFC 6455 §5.5 wants it.
    pub(super) fn rewrite(&mut self, bytes: &mut [u8]) -> Result<usize, LoadError> {
        let (mut read, mut written) = (0, 0);
        while let Some(&byte) = bytes.get(read) {
            if let Self::Payload { key, done, length } = *self {
                let rest = usize::try_from(length).unwrap_or(usize::MAX) - done;
                let end = bytes.len().min(read.saturating_add(rest));
                let payload = bytes.get_mut(read..end).unwrap_or_default();
                mask(payload, key, done);
                let count = payload.len();
                bytes.copy_within(read..end, written);
                written += count;
                read = end;
                *self = Self::payload(key, done + count, length);
                continue;
            }
            read += 1;
            if let Some(byte) = self.on_header_byte(byte)? {
                if let Some(place) = bytes.get_mut(written) {
                    *place = byte;
                }
                written += 1;
            }
        }
        Ok(written)
    }

    /// Goes on by one byte and tells what becomes of it.
    fn on_header_byte(&mut self, byte: u8) -> Result<Option<u8>, LoadError> {
        let (next, written) = match *self {
            Self::Start => {
                let is_ping = byte & OPCODE == PING;
                let answer = if is_ping { byte & !OPCODE | PONG } else { byte };
                (Self::Length, Some(answer))
            }
            Self::Length if byte & IS_MASKED == 0 => return Err(LoadError::UnmaskedFrame),
            Self::Length => {
                let next = match byte & LENGTH {
                    126 => Self::LongLength {
                        missing: 2,
                        length: 0,
                    },
                    127 => Self::LongLength {
                        missing: 8,
                        length: 0,
                    },
                    length => Self::key(length.into()),
                };
                (next, Some(byte & LENGTH))
            }
            Self::LongLength { missing, length } => {
                let length = length << 8 | u64::from(byte);
                let next = match missing - 1 {
                    0 => Self::key(length),
                    missing => Self::LongLength { missing, length },
                };
                (next, Some(byte))
            }
            Self::Key {
                at,
                mut key,
                length,
            } => {
                if let Some(place) = key.get_mut(at) {
                    *place = byte;
                }
                let next = if at + 1 == KEY_BYTES {
                    Self::payload(key, 0, length)
                } else {
                    Self::Key {
                        at: at + 1,
                        key,
                        length,
                    }
                };
                (next, None)
            }
            // A payload is not read byte by byte.
            Self::Payload { .. } => return Ok(Some(byte)),
        };
        *self = next;
        Ok(written)
    }

    fn key(length: u64) -> Self {
        Self::Key {
            at: 0,
            key: [0; KEY_BYTES],
            length,
        }
    }

    fn payload(key: [u8; KEY_BYTES], done: usize, length: u64) -> Self {
        if done as u64 == length {
            Self::Start
        } else {
            Self::Payload { key, done, length }
        }
    }
}

#[cfg(test)]
mod tests {
    use hubring::frame::websocket::{Control, MessageKind, OpCode, control_frame, header};
    use tungstenite::protocol::frame::coding::Data;

    use super::*;

    const KEY: [u8; KEY_BYTES] = [0x37, 0xfa, 0x21, 0x3d];

    fn frame(opcode: OpCode, is_final: bool, payload: &[u8], key: Option<[u8; 4]>) -> Vec<u8> {
        let mut frame = header(opcode, is_final, payload.len() as u64, key).to_vec();
        let start = frame.len();
        frame.extend_from_slice(payload);
        mask(&mut frame[start..], key.unwrap_or_default(), 0);
        frame
    }

    /// One behind the other: messages of all kinds of length, one in two frames, an empty one, a ping, and a close frame.
    fn stream(key: Option<[u8; 4]>, answer: Control) -> Vec<u8> {
        let text = MessageKind::Text.into();
        let long = vec![b'x'; 70_000];
        [
            frame(text, true, b"short", key),
            frame(text, true, b"", key),
            frame(text, true, &long[..126], key),
            control_frame(answer, b"are you there", key),
            frame(MessageKind::Binary.into(), false, &long[..2048], key),
            frame(OpCode::Data(Data::Continue), true, b"the end", key),
            frame(text, true, &long, key),
            control_frame(Control::Close, b"\x03\xe8", key),
        ]
        .concat()
    }

    fn rewrite(input: &[u8], step: usize) -> Result<Vec<u8>, LoadError> {
        let (mut frames, mut output) = (EchoFrames::new(), Vec::new());
        for part in input.chunks(step) {
            let mut part = part.to_vec();
            let count = frames.rewrite(&mut part)?;
            output.extend_from_slice(&part[..count]);
        }
        Ok(output)
    }

    #[test]
    fn what_comes_goes_back_without_its_mask_however_it_is_cut() {
        let input = stream(Some(KEY), Control::Ping);
        let expected = stream(None, Control::Pong);
        for step in (1..20).chain([100, 2048, 2056, 65_536, input.len()]) {
            assert_eq!(
                rewrite(&input, step).unwrap(),
                expected,
                "in steps of {step}"
            );
        }
    }

    #[test]
    fn a_cut_anywhere_changes_nothing() {
        let input = frame(MessageKind::Text.into(), true, &[b'x'; 300], Some(KEY));
        let expected = frame(MessageKind::Text.into(), true, &[b'x'; 300], None);
        for cut in 0..=input.len() {
            let mut frames = EchoFrames::new();
            let (mut first, mut second) = (input[..cut].to_vec(), input[cut..].to_vec());
            let count = frames.rewrite(&mut first).unwrap();
            first.truncate(count);
            let count = frames.rewrite(&mut second).unwrap();
            first.extend_from_slice(&second[..count]);
            assert_eq!(first, expected);
        }
    }

    #[test]
    fn a_frame_without_a_mask_is_an_error() {
        let input = frame(MessageKind::Text.into(), true, b"hello", None);
        assert!(matches!(rewrite(&input, 1), Err(LoadError::UnmaskedFrame)));
    }
}

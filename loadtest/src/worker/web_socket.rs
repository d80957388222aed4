//! Our end of a WebSocket whose upgrade is done: frames on top of a [`Socket`].
//!
//! What is received is decoded where it lies, in a buffer that all connections share.

use hubring::frame::websocket::{
    Control, Decoder, Event, Limits, MessageKind, OpCode, Piece, Role, control_frame, header, mask,
};
use tungstenite::protocol::frame::coding::Data;

use super::socket::Socket;
use crate::error::LoadError;

/// Most payload in one frame of an app server's message: the SDK cuts at the pages of its pipe.
const FRAME_BYTES_MAX: usize = 4096;

/// A client has to choose its keys so that nobody can foresee them. Here nobody needs protection, and a constant is cheap.
pub(crate) const MASKING_KEY: [u8; 4] = [0x37, 0xfa, 0x21, 0x3d];

const LIMITS: Limits = Limits {
    message_bytes_max: u64::MAX,
    frames_per_message_max: u32::MAX,
    text_checked: false,
};

/// A WebSocket of the app server.
pub(crate) struct WebSocket {
    socket: Socket,
    decoder: Decoder,
}

impl WebSocket {
    pub(crate) fn new(socket: Socket) -> Self {
        Self {
            socket,
            decoder: decoder(),
        }
    }

    /// Reads what there is and calls `on_piece` for each piece of a message. Pings are answered.
    pub(crate) fn receive(
        &mut self,
        buffer: &mut [u8],
        mut on_piece: impl FnMut(&Piece, &[u8]) -> Result<(), LoadError>,
    ) -> Result<(), LoadError> {
        while let Some(count) = self.socket.read_into(buffer).map_err(LoadError::Socket)? {
            if count == 0 {
                return Err(LoadError::ClosedSilently);
            }
            let is_all = count < buffer.len();
            self.on_bytes(buffer.get_mut(..count).unwrap_or_default(), &mut on_piece)?;
            if is_all {
                break;
            }
        }
        Ok(())
    }

    /// Reads on where the bytes lie: those that came together with the answer to the upgrade, for instance.
    pub(crate) fn on_bytes(
        &mut self,
        bytes: &mut [u8],
        mut on_piece: impl FnMut(&Piece, &[u8]) -> Result<(), LoadError>,
    ) -> Result<(), LoadError> {
        let mut at = 0;
        while let Some(event) = self.decoder.next(bytes, &mut at)? {
            match event {
                Event::Data(piece) => {
                    let data = bytes.get(piece.range.clone()).unwrap_or_default();
                    on_piece(&piece, data)?;
                }
                Event::Ping(payload) => {
                    let pong = control_frame(Control::Pong, &payload, Some(MASKING_KEY));
                    self.socket.queue(&pong);
                }
                Event::Pong(_) => {}
                Event::Close(close) => return Err(LoadError::Closed(close)),
            }
        }
        Ok(())
    }

    /// Queues one binary message, cut into frames as the SDK cuts it.
    pub(crate) fn queue_message(&mut self, message: &[u8]) {
        write_cut_message(message, self.socket.outbox());
    }

    /// Writes what is queued, as far as it goes.
    pub(crate) fn flush(&mut self) -> Result<(), LoadError> {
        self.socket.flush().map_err(LoadError::Socket)
    }

    pub(crate) fn queued_bytes(&self) -> usize {
        self.socket.queued_bytes()
    }
}

/// Reads what a service sends, without looking at what it holds.
pub(crate) fn decoder() -> Decoder {
    Decoder::new(Role::Client, LIMITS)
}

/// One message in one masked frame, as a client sends it.
pub(crate) fn client_frame(kind: MessageKind, payload: &[u8]) -> Vec<u8> {
    let mut frame = Vec::new();
    write_frame(kind.into(), true, payload, &mut frame);
    frame
}

/// One binary message, masked, in as many frames as the SDK makes of it.
pub(crate) fn write_cut_message(message: &[u8], out: &mut Vec<u8>) {
    let mut opcode = OpCode::Data(Data::Binary);
    let mut rest = message;
    loop {
        let (payload, behind) = rest
            .split_at_checked(FRAME_BYTES_MAX)
            .unwrap_or((rest, &[]));
        write_frame(opcode, behind.is_empty(), payload, out);
        if behind.is_empty() {
            return;
        }
        opcode = OpCode::Data(Data::Continue);
        rest = behind;
    }
}

fn write_frame(opcode: OpCode, is_final: bool, payload: &[u8], out: &mut Vec<u8>) {
    out.extend_from_slice(&header(
        opcode,
        is_final,
        payload.len() as u64,
        Some(MASKING_KEY),
    ));
    let start = out.len();
    out.extend_from_slice(payload);
    mask(out.get_mut(start..).unwrap_or_default(), MASKING_KEY, 0);
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The message in `bytes`, and the lengths of its pieces.
    fn decode(mut bytes: Vec<u8>) -> (MessageKind, Vec<u8>, Vec<usize>) {
        let mut decoder = Decoder::new(Role::Server, LIMITS);
        let (mut message, mut lengths, mut at) = (Vec::new(), Vec::new(), 0);
        while let Some(event) = decoder.next(&mut bytes, &mut at).unwrap() {
            let Event::Data(piece) = event else {
                panic!("only data was written");
            };
            assert_eq!(piece.starts_message, lengths.is_empty());
            message.extend_from_slice(&bytes[piece.range.clone()]);
            lengths.push(piece.range.len());
            if piece.ends_message {
                assert_eq!(at, bytes.len());
                return (piece.kind, message, lengths);
            }
        }
        panic!("the message did not end");
    }

    #[test]
    fn a_long_message_is_cut_into_frames_of_4096_bytes() {
        for (bytes, expected) in [
            (5, vec![5]),
            (4096, vec![4096]),
            (4097, vec![4096, 1]),
            (8192, vec![4096, 4096]),
        ] {
            let message: Vec<u8> = (0..=u8::MAX).cycle().take(bytes).collect();
            let mut frames = Vec::new();
            write_cut_message(&message, &mut frames);
            assert_eq!(decode(frames), (MessageKind::Binary, message, expected));
        }
    }

    #[test]
    fn a_client_sends_one_frame() {
        let payload = vec![b'x'; 70_000];
        for kind in [MessageKind::Text, MessageKind::Binary] {
            let frame = client_frame(kind, &payload);
            assert_eq!(decode(frame), (kind, payload.clone(), vec![70_000]));
        }
    }
}

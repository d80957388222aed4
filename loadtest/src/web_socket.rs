//! The client's end of a WebSocket, non-blocking.
//!
//! What is received is decoded where it lies, in a buffer that all connections share. What is to be sent is queued as frames and
//! written by [`WebSocket::flush`], as much as the kernel takes; the rest waits until the socket is writable.

use std::io::{self, Read as _, Write as _};

use hubring::frame::websocket::{
    Control, Decoder, Event, Limits, MessageKind, OpCode, Piece, Role, control_frame, header, mask,
};
use mio::event::Source;
use mio::net::TcpStream;
use mio::{Interest, Registry, Token};
use tungstenite::protocol::frame::coding::Data;

use crate::error::LoadError;

/// Most payload in one frame of an app server's message: the SDK cuts at the pages of its pipe.
const FRAME_BYTES_MAX: usize = 4096;

/// A client has to choose its keys so that nobody can foresee them. Here nobody needs protection, and a constant is cheap.
const MASKING_KEY: [u8; 4] = [0x37, 0xfa, 0x21, 0x3d];

const LIMITS: Limits = Limits {
    message_bytes_max: u64::MAX,
    frames_per_message_max: u32::MAX,
    text_checked: false,
};

/// Either a client connection or a server connection.
pub(crate) struct WebSocket {
    stream: TcpStream,
    decoder: Decoder,
    outbox: Vec<u8>,
    /// How much of `outbox` has been written.
    written_bytes: usize,
}

impl WebSocket {
    /// Takes over a stream whose upgrade is done.
    pub(crate) fn new(stream: TcpStream) -> Self {
        Self {
            stream,
            decoder: Decoder::new(Role::Client, LIMITS),
            outbox: Vec::new(),
            written_bytes: 0,
        }
    }

    pub(crate) fn register(&mut self, registry: &Registry, token: Token) -> io::Result<()> {
        let interest = Interest::READABLE | Interest::WRITABLE;
        self.stream.register(registry, token, interest)
    }

    /// Reads what there is and calls `on_piece` for each piece of a message.
    pub(crate) fn receive(
        &mut self,
        buffer: &mut [u8],
        mut on_piece: impl FnMut(&Piece, &[u8]) -> Result<(), LoadError>,
    ) -> Result<(), LoadError> {
        loop {
            let received_bytes = match self.stream.read(buffer) {
                Ok(0) => return Err(LoadError::ClosedSilently),
                Ok(bytes) => bytes,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(LoadError::Socket(error)),
            };
            let is_drained = received_bytes < buffer.len();
            let received = buffer.get_mut(..received_bytes).unwrap_or_default();
            let mut at = 0;
            while let Some(event) = self.decoder.next(received, &mut at)? {
                match event {
                    Event::Data(piece) => {
                        let bytes = received.get(piece.range.clone()).unwrap_or_default();
                        on_piece(&piece, bytes)?;
                    }
                    Event::Ping(payload) => {
                        let pong = control_frame(Control::Pong, &payload, Some(MASKING_KEY));
                        self.outbox.extend_from_slice(&pong);
                    }
                    Event::Pong(_) => {}
                    Event::Close(close) => return Err(LoadError::Closed(close)),
                }
            }
            // A read that does not fill the buffer has emptied the socket: whatever comes later raises a new event (epoll(7)). That
            // spares a second call for each message.
            if is_drained {
                return Ok(());
            }
        }
    }

    /// Queues bytes that are frames already.
    pub(crate) fn queue_frames(&mut self, frames: &[u8]) {
        self.outbox.extend_from_slice(frames);
    }

    /// Queues one binary message, cut into frames as the SDK cuts it.
    pub(crate) fn queue_message(&mut self, message: &[u8]) {
        write_cut_message(message, &mut self.outbox);
    }

    /// Writes what is queued, as far as it goes.
    pub(crate) fn flush(&mut self) -> Result<(), LoadError> {
        while let Some(waiting) = self
            .outbox
            .get(self.written_bytes..)
            .filter(|bytes| !bytes.is_empty())
        {
            match self.stream.write(waiting) {
                Ok(bytes) => self.written_bytes += bytes,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(LoadError::Socket(error)),
            }
        }
        self.outbox.clear();
        self.written_bytes = 0;
        Ok(())
    }
}

/// One text message in one masked frame, as a browser sends it.
pub(crate) fn text_frame(payload: &[u8]) -> Vec<u8> {
    let mut frame = Vec::new();
    write_frame(MessageKind::Text.into(), true, payload, &mut frame);
    frame
}

fn write_cut_message(message: &[u8], out: &mut Vec<u8>) {
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
    fn a_text_frame_holds_its_payload() {
        let payload = vec![b'x'; 70_000];
        assert_eq!(
            decode(text_frame(&payload)),
            (MessageKind::Text, payload, vec![70_000])
        );
    }
}

//! The clients: they send what they are given, check every byte that they receive, and count.

use std::collections::VecDeque;
use std::rc::Rc;
use std::time::Instant;

use hdrhistogram::Histogram;
use hubring::frame::websocket::Piece;
use mio::{Registry, Token};

use crate::dial::Dialer;
use crate::error::LoadError;
use crate::payload::payload;
use crate::web_socket::{WebSocket, text_frame};

/// The request with which a client enters its hub, and the answer that lets it in.
const HUB_HANDSHAKE: &[u8] = b"{\"protocol\":\"json\",\"version\":1}\x1e";
const HUB_HANDSHAKE_ACCEPTED: &[u8] = b"{}\x1e";

/// Longest round trip that is told from longer ones: a minute.
const ROUND_TRIP_NS_MAX: u64 = 60_000_000_000;

/// All client connections.
pub(crate) struct Clients {
    connections: Vec<Client>,
    handshake: Vec<u8>,
    counts: Counts,
}

/// What all clients count together.
pub(crate) struct Counts {
    /// Clients that their hub has let in.
    pub(crate) entered: u32,
    /// Messages received.
    pub(crate) received: u64,
    /// Round trips in nanoseconds, of those that sent something.
    pub(crate) round_trips: Histogram<u64>,
}

struct Client {
    number: u32,
    socket: WebSocket,
    /// What each message to it has to hold: first the answer to its handshake.
    expected: Rc<[u8]>,
    /// How much of the message that is being received has arrived.
    arrived_bytes: usize,
    has_entered: bool,
    /// Its message, as it is sent.
    frame: Vec<u8>,
    /// When each message under way was sent, oldest first.
    sent_at: VecDeque<Instant>,
}

impl Clients {
    pub(crate) fn new() -> Self {
        Self {
            connections: Vec::new(),
            handshake: text_frame(HUB_HANDSHAKE),
            counts: Counts {
                entered: 0,
                received: 0,
                round_trips: Histogram::new_with_bounds(1, ROUND_TRIP_NS_MAX, 3)
                    .expect("these bounds are possible"),
            },
        }
    }

    pub(crate) fn counts(&mut self) -> &mut Counts {
        &mut self.counts
    }

    /// Opens one more client connection and sends its hub handshake. Its token follows those of the first `tokens_before`.
    pub(crate) fn open(
        &mut self,
        dialer: &Dialer,
        registry: &Registry,
        tokens_before: usize,
    ) -> Result<(), LoadError> {
        let position = self.connections.len();
        let mut socket = dialer.client_connection()?;
        socket
            .register(registry, Token(tokens_before + position))
            .map_err(LoadError::Poll)?;
        socket.queue_frames(&self.handshake);
        socket.flush()?;
        self.connections.push(Client {
            number: position as u32,
            socket,
            expected: HUB_HANDSHAKE_ACCEPTED.into(),
            arrived_bytes: 0,
            has_entered: false,
            frame: Vec::new(),
            sent_at: VecDeque::new(),
        });
        Ok(())
    }

    /// Lets every client send `depth` messages, and another for each that comes back.
    pub(crate) fn start_echo(&mut self, depth: u32, payload_bytes: usize) -> Result<(), LoadError> {
        for client in &mut self.connections {
            let payload = payload(client.number, payload_bytes);
            client.frame = text_frame(&payload);
            client.expected = payload.into();
            client.send(depth)?;
        }
        Ok(())
    }

    /// Lets every client expect `payload`, however often.
    pub(crate) fn expect(&mut self, payload: &[u8]) {
        let payload: Rc<[u8]> = payload.into();
        for client in &mut self.connections {
            client.expected = Rc::clone(&payload);
        }
    }

    /// A connection has something to read or room to write.
    pub(crate) fn on_ready(&mut self, index: usize, buffer: &mut [u8]) -> Result<(), LoadError> {
        match self.connections.get_mut(index) {
            Some(client) => client.on_ready(buffer, &mut self.counts),
            None => Ok(()),
        }
    }
}

impl Client {
    fn on_ready(&mut self, buffer: &mut [u8], counts: &mut Counts) -> Result<(), LoadError> {
        let mut completed = 0;
        let Self {
            number,
            expected,
            arrived_bytes,
            ..
        } = self;
        self.socket.receive(buffer, |piece, bytes| {
            completed += check(*number, expected, arrived_bytes, piece, bytes)?;
            Ok(())
        })?;
        if !self.has_entered {
            // Before the first message is sent there is only the answer to the handshake.
            self.has_entered = completed > 0;
            counts.entered += completed;
            return self.socket.flush();
        }

        counts.received += u64::from(completed);
        if self.frame.is_empty() || completed == 0 {
            return self.socket.flush();
        }
        for sent_at in self
            .sent_at
            .drain(..self.sent_at.len().min(completed as usize))
        {
            counts
                .round_trips
                .saturating_record(sent_at.elapsed().as_nanos() as u64);
        }
        self.send(completed)
    }

    fn send(&mut self, count: u32) -> Result<(), LoadError> {
        let now = Instant::now();
        for _ in 0..count {
            self.socket.queue_frames(&self.frame);
            self.sent_at.push_back(now);
        }
        self.socket.flush()
    }
}

/// Compares a piece of a WebSocket message with what client `number` has to receive at that place, and tells how many payloads are complete
/// with it. A WebSocket message may hold several, since a hub message ends with a byte of its own.
fn check(
    number: u32,
    expected: &[u8],
    arrived_bytes: &mut usize,
    piece: &Piece,
    bytes: &[u8],
) -> Result<u32, LoadError> {
    let mut completed = 0;
    let mut unchecked = bytes;
    while !unchecked.is_empty() {
        let rest = expected.get(*arrived_bytes..).unwrap_or_default();
        let (part, behind) = unchecked
            .split_at_checked(rest.len())
            .unwrap_or((unchecked, &[]));
        if part.is_empty() || !rest.starts_with(part) {
            return Err(LoadError::WrongPayload(number));
        }
        *arrived_bytes += part.len();
        if *arrived_bytes == expected.len() {
            *arrived_bytes = 0;
            completed += 1;
        }
        unchecked = behind;
    }
    if piece.ends_message && *arrived_bytes > 0 {
        return Err(LoadError::WrongPayload(number));
    }
    Ok(completed)
}

#[cfg(test)]
mod tests {
    use hubring::frame::websocket::MessageKind;

    use super::*;

    fn check_pieces(pieces: &[(&[u8], bool)]) -> Result<u32, LoadError> {
        let (mut arrived_bytes, mut completed) = (0, 0);
        for (bytes, ends_message) in pieces {
            let piece = Piece {
                kind: MessageKind::Text,
                range: 0..bytes.len(),
                starts_message: arrived_bytes == 0,
                ends_message: *ends_message,
            };
            completed += check(7, b"hello", &mut arrived_bytes, &piece, bytes)?;
        }
        Ok(completed)
    }

    #[test]
    fn payloads_may_arrive_in_pieces_or_together() {
        for (pieces, completed) in [
            (
                &[(b"hello".as_slice(), true), (b"he", false), (b"llo", true)][..],
                2,
            ),
            (&[(b"hello", false), (b"", true)], 1),
            (&[(b"hellohellohe", false), (b"llo", true)], 3),
            (&[(b"he", false)], 0),
        ] {
            assert_eq!(check_pieces(pieces).unwrap(), completed);
        }
    }

    #[test]
    fn what_is_wrong_short_or_long_is_noticed() {
        let wrong: [&[(&[u8], bool)]; 5] = [
            &[(b"jello", true)],
            &[(b"he", true)],
            &[(b"hello", false), (b"!", true)],
            &[(b"he", false), (b"xlo", true)],
            &[(b"hellohe", true)],
        ];
        for pieces in wrong {
            assert!(matches!(
                check_pieces(pieces),
                Err(LoadError::WrongPayload(7))
            ));
        }
    }
}

//! Whole hub messages from app servers that send pieces of them.
//!
//! An SDK from before 2024 passes on what its pipe held: several hub messages, a piece of one, or the end of one and the beginning of the
//! next. Microsoft's JavaScript client wants whole messages in each WebSocket message, and text must not be cut inside a character, so
//! the pieces are kept here until the rest has come. Later SDKs send one whole message at a time and say of which type it is: what has a
//! type passes without being looked at, unless it follows a piece.
//!
//! A client on another transport than a WebSocket gets whole messages only, whatever its app server says of them: an event and the body
//! of a response each end somewhere, and nobody reads on over that. A message that is too long to be kept is the end of such a client.

use super::client::Phase;
use super::connections::say_farewell;
use super::{ClientKey, CloseCause, Effect, Payload, Router};
use crate::chunk::Chunk;
use crate::frame::record::{RECORD_SEPARATOR, find_separator, read_varint};
use crate::limits::PIECES_BYTES_MAX;
use crate::protocol::hub::handshake;
use crate::protocol::hub::message::MessageProtocol;
use crate::protocol::negotiate::Transport;

/// The beginning of a hub message whose end has not come.
#[derive(Debug)]
pub(super) struct Pieces(Vec<u8>);

/// What a client is told that cannot be given a message in pieces.
const TOO_LONG: &str = "Connection closed with an error. A message for it is too long.";

impl Router {
    /// Whether even what an app server calls whole has to be looked at.
    pub(super) fn gathers_pieces(&self, key: ClientKey) -> bool {
        self.clients.get(key).is_some_and(|client| {
            client.pieces.is_some() || client.transport != Transport::WebSockets
        })
    }

    /// What can be passed on to a client now that `payload` has come, if anything. The rest is kept.
    pub(super) fn whole_messages(
        &mut self,
        key: ClientKey,
        payload: Payload,
        effects: &mut Vec<Effect>,
    ) -> Option<Payload> {
        let client = self.clients.get_mut(key)?;
        let Some(protocol) = client.protocol.message_protocol() else {
            return Some(payload);
        };
        let is_answer = matches!(client.phase, Phase::Opening(_));
        let held = client.pieces.take();
        let held_bytes = held.as_ref().map_or(0, |pieces| pieces.0.len());
        let mut bytes = held.map_or_else(Vec::new, |pieces| pieces.0);
        for chunk in &payload {
            bytes.extend_from_slice(chunk);
        }
        let whole = whole_bytes(protocol, is_answer, &bytes, held_bytes);
        if whole == bytes.len() && held_bytes == 0 {
            return Some(payload);
        }
        if bytes.len() - whole > PIECES_BYTES_MAX {
            if client.transport != Transport::WebSockets {
                self.close_for_length(key, effects);
                return None;
            }
            // Clients of .NET read on over the end of a WebSocket message; others will fail.
            self.counters.pieces_passed_on.increment();
            return Some(Payload::from_iter([Chunk::from(bytes)]));
        }
        if whole == 0 {
            client.pieces = (!bytes.is_empty()).then(|| Box::new(Pieces(bytes)));
            return None;
        }
        let rest = bytes.split_off(whole);
        client.pieces = (!rest.is_empty()).then(|| Box::new(Pieces(rest)));
        Some(Payload::from_iter([Chunk::from(bytes)]))
    }

    /// The message may be one of a kind; so the client may come back.
    fn close_for_length(&mut self, key: ClientKey, effects: &mut Vec<Effect>) {
        let Some(client) = self.remove_client(key, effects) else {
            return;
        };
        self.counters.pieces_given_up.increment();
        let close = handshake::close_message(&client.protocol, Some(TOO_LONG), true);
        say_farewell(&client, close, TOO_LONG, effects);
        effects.push(Effect::CloseClient {
            client: client.socket,
            cause: CloseCause::MessageTooLong,
        });
        self.tell_server_of_end(&client, effects);
    }
}

/// How many of the bytes are whole messages. An answer to a handshake request, which is JSON in any protocol, comes first if there is
/// one. The first `scanned` bytes are known to be the beginning of a message.
fn whole_bytes(protocol: MessageProtocol, is_answer: bool, bytes: &[u8], scanned: usize) -> usize {
    if protocol == MessageProtocol::Json {
        let unseen = bytes.get(scanned..).unwrap_or_default();
        let last = unseen.iter().rposition(|byte| *byte == RECORD_SEPARATOR);
        return last.map_or(0, |last| scanned + last + 1);
    }
    let mut whole = 0;
    if is_answer {
        match find_separator(bytes) {
            Some(end) => whole = end + 1,
            None => return 0,
        }
    }
    while let Some(rest) = bytes.get(whole..).filter(|rest| !rest.is_empty()) {
        match read_varint(rest) {
            Ok(Some((length, prefix))) if prefix + length as usize <= rest.len() => {
                whole += prefix + length as usize;
            }
            Ok(_) => break,
            // No boundary is to be found any more, so the client may see for itself.
            Err(_) => return bytes.len(),
        }
    }
    whole
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Whatever comes in pieces leaves as whole messages, all of it and in order.
    fn check(protocol: MessageProtocol, messages: &[&[u8]]) {
        let stream = messages.concat();
        let mut ends: Vec<usize> = vec![0];
        for message in messages {
            ends.push(ends.last().unwrap() + message.len());
        }
        for cut in 0..=stream.len() {
            let whole = whole_bytes(protocol, true, &stream[..cut], 0);
            let expected = ends.iter().rfind(|end| **end <= cut).unwrap();
            assert_eq!(whole, *expected, "{protocol:?} cut at {cut}");
        }
    }

    #[test]
    fn messages_end_where_they_end_whatever_comes_with_them() {
        check(
            MessageProtocol::Json,
            &[b"{}\x1e", b"{\"type\":6}\x1e", "{\"é\":1}\x1e".as_bytes()],
        );
        let long = [&[0x80, 0x01][..], &[0x1e; 128]].concat();
        check(
            MessageProtocol::MessagePack,
            &[b"{}\x1e", &[2, 0x91, 6], &long, &[0]],
        );
    }

    #[test]
    fn a_length_that_is_none_is_left_to_the_client() {
        let bytes = [2, 0x91, 6, 0xff, 0xff, 0xff, 0xff, 0xff];
        assert_eq!(
            whole_bytes(MessageProtocol::MessagePack, false, &bytes, 0),
            bytes.len()
        );
    }
}

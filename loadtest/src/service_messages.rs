//! What the app server reads from a server connection, and what it answers. No sockets here: bytes in, bytes out.

use std::borrow::Cow;
use std::collections::HashMap;

use hubring::frame::record::{RECORD_BYTES_MAX, VarintRecords, find_separator};
use hubring::protocol::service::{
    BroadcastData, ConnectionData, DataMessageType, HandshakeRequest, KEEP_ALIVE_PING, Message,
    Payloads, Texts, decode_whole,
};

use crate::error::LoadError;

/// How every hub handshake of a client begins. No other payload of ours does.
const HUB_HANDSHAKE_START: &[u8] = br#"{"protocol""#;

/// The answer that accepts a client.
const HUB_HANDSHAKE_ACCEPTED: &[u8] = b"{}\x1e";

/// Reads the messages of one server connection and writes the answers that each of them calls for.
#[derive(Debug)]
pub(crate) struct EchoServer {
    records: VarintRecords,
    /// The message that has not arrived completely.
    partial: Vec<u8>,
    /// By client connection, the hub message that has not arrived completely. Rarely there is any.
    unfinished: HashMap<Box<str>, Vec<u8>>,
    is_accepted: bool,
    answers: Vec<u8>,
}

impl EchoServer {
    /// Begins a server connection: the handshake is the first answer.
    pub(crate) fn new() -> Self {
        let mut answers = Vec::new();
        let request = HandshakeRequest {
            version: 1,
            ..HandshakeRequest::default()
        };
        Outgoing::from(request).encode(&mut answers);
        Self {
            records: VarintRecords::new(RECORD_BYTES_MAX),
            partial: Vec::new(),
            unfinished: HashMap::new(),
            is_accepted: false,
            answers,
        }
    }

    /// Whether the service has taken the server connection.
    pub(crate) fn is_accepted(&self) -> bool {
        self.is_accepted
    }

    /// Reads on, wherever the bytes were cut.
    pub(crate) fn on_bytes(&mut self, bytes: &[u8]) -> Result<(), LoadError> {
        let mut at = 0;
        while let Some(piece) = self.records.next(bytes, &mut at)? {
            let part = bytes.get(piece.range).unwrap_or_default();
            if piece.starts_record && piece.ends_record {
                self.on_message(part)?;
                continue;
            }
            self.partial.extend_from_slice(part);
            if piece.ends_record {
                let message = std::mem::take(&mut self.partial);
                self.on_message(&message)?;
                self.partial = message;
                self.partial.clear();
            }
        }
        Ok(())
    }

    /// What is to be sent as one WebSocket message. Empty if there is nothing to say.
    pub(crate) fn answers(&self) -> &[u8] {
        &self.answers
    }

    /// The answers have been sent.
    pub(crate) fn clear_answers(&mut self) {
        self.answers.clear();
    }

    fn on_message(&mut self, message: &[u8]) -> Result<(), LoadError> {
        #[expect(
            clippy::wildcard_enum_match_arm,
            reason = "whatever else the service tells an app server asks for no answer"
        )]
        match decode_whole(message)? {
            Message::ConnectionData(data) => self.on_client_data(&data.connection_id, data.payload),
            Message::CloseConnection(close) => {
                self.unfinished.remove(&*close.connection_id);
            }
            Message::Ping(_) => self.answers.extend_from_slice(&KEEP_ALIVE_PING),
            Message::HandshakeResponse(response) if response.error_message.is_empty() => {
                self.is_accepted = true;
            }
            Message::HandshakeResponse(response) => {
                return Err(LoadError::HandshakeRefused(
                    response.error_message.into_owned(),
                ));
            }
            Message::ServiceError(error) => {
                return Err(LoadError::ServiceReports(error.error_message.into_owned()));
            }
            _ => {}
        }
        Ok(())
    }

    /// The service passes on bytes as they come: a part of a hub message, or several. An app server answers with whole ones.
    fn on_client_data(&mut self, connection_id: &str, payload: &[u8]) {
        let unfinished = if self.unfinished.is_empty() {
            None
        } else {
            self.unfinished.remove(connection_id)
        };
        match unfinished {
            None => self.echo_whole(connection_id, payload),
            Some(mut bytes) => {
                bytes.extend_from_slice(payload);
                self.echo_whole(connection_id, &bytes);
            }
        }
    }

    /// Sends back each hub message that is whole, as a service message of its own as the SDK does, and keeps what is left.
    fn echo_whole(&mut self, connection_id: &str, bytes: &[u8]) {
        let mut rest = bytes;
        while let Some((message, behind)) =
            find_separator(rest).and_then(|end| rest.split_at_checked(end + 1))
        {
            self.echo(connection_id, message);
            rest = behind;
        }
        if !rest.is_empty() {
            self.unfinished.insert(connection_id.into(), rest.to_vec());
        }
    }

    fn echo(&mut self, connection_id: &str, message: &[u8]) {
        let (payload, data_type) = if message.starts_with(HUB_HANDSHAKE_START) {
            (HUB_HANDSHAKE_ACCEPTED, DataMessageType::Handshake)
        } else {
            (message, DataMessageType::Invocation)
        };
        let answer = ConnectionData {
            connection_id: connection_id.into(),
            payload,
            data_type,
            ..ConnectionData::default()
        };
        Outgoing::from(answer).encode(&mut self.answers);
    }
}

/// A broadcast to all clients that speak JSON, with its length in front.
pub(crate) fn broadcast(payload: &[u8]) -> Vec<u8> {
    let mut message = Vec::new();
    let broadcast = BroadcastData {
        excluded: Texts::new(),
        payloads: std::iter::once((Cow::Borrowed("json"), payload)).collect::<Payloads<'_, _>>(),
        filter: None,
        tracing_id: None,
    };
    Outgoing::from(broadcast).encode(&mut message);
    message
}

type Outgoing<'a> = Message<'a, &'a [u8]>;

#[cfg(test)]
mod tests {
    use super::*;

    const HANDSHAKE_RESPONSE: &[u8] = b"\x05\x94\x02\xa0\x80\xc0";
    const HUB_HANDSHAKE: &[u8] =
        b"\x28\x94\x06\xa2c1\xc4\x20{\"protocol\":\"json\",\"version\":1}\x1e\x80";
    const INVOCATION: &[u8] = b"\x0e\x94\x06\xa2c1\xc4\x06hello\x1e\x80";
    const CLOSE: &[u8] = b"\x08\x95\x05\xa2c1\xa0\x80\x80";

    fn answers(parts: &[&[u8]]) -> (bool, Vec<u8>) {
        let mut server = EchoServer::new();
        server.clear_answers();
        for part in parts {
            server.on_bytes(part).unwrap();
        }
        (server.is_accepted(), server.answers().to_vec())
    }

    #[test]
    fn it_begins_with_the_handshake_of_the_sdk() {
        assert_eq!(
            EchoServer::new().answers(),
            b"\x08\x97\x01\x01\x00\xa0\x00\x80\xc2"
        );
    }

    #[test]
    fn it_answers_alike_however_the_bytes_are_cut() {
        let received = [
            HANDSHAKE_RESPONSE,
            HUB_HANDSHAKE,
            INVOCATION,
            &KEEP_ALIVE_PING,
            CLOSE,
        ]
        .concat();
        let expected = [
            b"\x0d\x94\x06\xa2c1\xc4\x03{}\x1e\x81\x05\x01".as_slice(),
            b"\x10\x94\x06\xa2c1\xc4\x06hello\x1e\x81\x05\x02",
            &KEEP_ALIVE_PING,
        ]
        .concat();
        for cut in 1..=received.len() {
            let parts: Vec<&[u8]> = received.chunks(cut).collect();
            assert_eq!(
                answers(&parts),
                (true, expected.clone()),
                "cut every {cut} bytes"
            );
        }
    }

    #[test]
    fn hub_messages_are_echoed_whole_and_one_by_one() {
        let echo = |message: &[u8]| {
            let mut expected = Vec::new();
            let data = ConnectionData {
                connection_id: "c1".into(),
                payload: message,
                data_type: DataMessageType::Invocation,
                ..ConnectionData::default()
            };
            Outgoing::from(data).encode(&mut expected);
            expected
        };
        let first = b"\x0d\x94\x06\xa2c1\xc4\x05a\x1eb\x1ec\x80";
        let of_another = b"\x0a\x94\x06\xa2c2\xc4\x02xy\x80";
        let second = b"\x0a\x94\x06\xa2c1\xc4\x02d\x1e\x80";
        let expected = [echo(b"a\x1e"), echo(b"b\x1e"), echo(b"cd\x1e")].concat();
        assert_eq!(answers(&[first, of_another, second]), (false, expected));
    }

    #[test]
    fn a_refusal_and_an_error_are_errors() {
        let error = EchoServer::new()
            .on_bytes(b"\x07\x92\x02\xa4full")
            .unwrap_err();
        assert!(matches!(error, LoadError::HandshakeRefused(text) if text == "full"));
        let error = EchoServer::new()
            .on_bytes(b"\x07\x92\x0f\xa4oops")
            .unwrap_err();
        assert!(matches!(error, LoadError::ServiceReports(text) if text == "oops"));
    }

    #[test]
    fn a_broadcast_is_that_of_the_sdk() {
        assert_eq!(
            broadcast(b"{}\x1e"),
            b"\x0f\x94\x0a\x90\x81\xa4json\xc4\x03{}\x1e\x80"
        );
    }
}

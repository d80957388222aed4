//! What is said on one server connection. No socket here: bytes in, bytes out.
//!
//! It answers what any hub would answer: it lets clients in, sends each hub message back to whom it came from, closes with those who
//! leave, and answers pings. All of that is [`Conversation::outgoing`], to which others add their calls; whoever owns the socket sends
//! it as one WebSocket message, as the SDK does with what it has in its pipe.
//!
//! Invariants: where the bytes are cut makes no difference, and an echo costs no allocation.

use std::collections::HashMap;

use hubring::frame::record::{
    RECORD_BYTES_MAX, VarintRecords, find_separator, read_varint, write_varint,
};
use hubring::protocol::hub;
use hubring::protocol::hub::handshake::close_message;
use hubring::protocol::service::ping::{AppPing, ClientCounts, ServicePing};
use hubring::protocol::service::{
    AckStatus, CONNECTION_DATA_TRAILER, ConnectionData, DataMessageType, HandshakeRequest, Message,
    OpenConnection, Ping, decode_whole,
};

use crate::error::LoadError;
use crate::job::HubProtocol;

/// How every hub handshake of a client begins, whichever protocol it asks for. No other payload of ours does.
const HUB_HANDSHAKE_START: &[u8] = br#"{"protocol""#;

/// The answer that accepts a client.
const HUB_HANDSHAKE_ACCEPTED: &[u8] = b"{}\x1e";

/// The first bytes of an [`OpenConnection`] as the service writes it: an array of six, and the type.
const OPEN_CONNECTION_START: &[u8] = &[0x96, 4];

/// The same of a [`ConnectionData`].
const CONNECTION_DATA_START: &[u8] = &[0x94, 6];

/// How a [`ConnectionData`] of an app server ends that holds a hub message: it says so.
const INVOCATION_TRAILER: &[u8] = &[0x81, 5, DATA_TYPE_INVOCATION];
const DATA_TYPE_INVOCATION: u8 = 2;

/// A claim that names the user, by what its kind ends with: the service passes on short and long kinds.
const USER_CLAIMS: [&str; 3] = ["asrs.s.uid", "/nameidentifier", "nameid"];

/// One server connection without its socket.
#[derive(Debug)]
pub(super) struct Conversation {
    hub_protocol: HubProtocol,
    /// Whether anyone wants to know who comes and goes.
    reports_clients: bool,
    records: VarintRecords,
    /// The service message that has not arrived completely.
    partial: Vec<u8>,
    /// By client connection, the hub message that has not arrived completely. Rarely there is any.
    unfinished: HashMap<Box<str>, Vec<u8>>,
    close_answer: Vec<u8>,
    is_accepted: bool,
    owes_ping: bool,
    clients: u64,
    echoed: u64,
    outgoing: Vec<u8>,
}

/// What others may want to know.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum News<'a> {
    /// A client has come.
    Opened {
        connection_id: &'a str,
        user_id: Option<&'a str>,
    },
    /// A client has gone.
    Closed { connection_id: &'a str },
    /// A join or leave is done.
    Acked { ack_id: i32 },
}

impl Conversation {
    /// Begins a server connection: the service handshake is the first that goes out.
    pub(super) fn new(hub_protocol: HubProtocol, reports_clients: bool) -> Self {
        let close_protocol = match hub_protocol {
            HubProtocol::Json => hub::HubProtocol::Json,
            HubProtocol::MessagePack => hub::HubProtocol::MessagePack,
        };
        let mut outgoing = Vec::new();
        let request = HandshakeRequest {
            version: 1,
            ..HandshakeRequest::default()
        };
        Outgoing::from(request).encode(&mut outgoing);
        Self {
            hub_protocol,
            reports_clients,
            records: VarintRecords::new(RECORD_BYTES_MAX),
            partial: Vec::new(),
            unfinished: HashMap::new(),
            close_answer: close_message(&close_protocol, None, true),
            is_accepted: false,
            owes_ping: false,
            clients: 0,
            echoed: 0,
            outgoing,
        }
    }

    /// Whether the service has taken the server connection.
    pub(super) fn is_accepted(&self) -> bool {
        self.is_accepted
    }

    /// Clients that live on it.
    pub(super) fn clients(&self) -> u64 {
        self.clients
    }

    /// Hub messages that were sent back.
    pub(super) fn echoed(&self) -> u64 {
        self.echoed
    }

    /// Reads on, wherever the bytes were cut.
    pub(super) fn on_bytes(
        &mut self,
        bytes: &[u8],
        on_news: &mut impl FnMut(News<'_>),
    ) -> Result<(), LoadError> {
        let mut at = 0;
        while let Some(piece) = self.records.next(bytes, &mut at)? {
            let part = bytes.get(piece.range).unwrap_or_default();
            if piece.starts_record && piece.ends_record {
                self.on_message(part, on_news)?;
                continue;
            }
            self.partial.extend_from_slice(part);
            if piece.ends_record {
                let message = std::mem::take(&mut self.partial);
                self.on_message(&message, on_news)?;
                self.partial = message;
                self.partial.clear();
            }
        }
        Ok(())
    }

    /// Answers a ping, if there was one, with how many clients there are here and on all server connections. The SDK does not ping by
    /// itself either.
    pub(super) fn answer_ping(&mut self, clients_in_hub: u64) {
        if std::mem::take(&mut self.owes_ping) {
            let counts = ClientCounts {
                in_hub: Some(clients_in_hub),
                here: Some(self.clients),
            };
            Outgoing::from(Ping::from(AppPing::KeepAlive(counts))).encode(&mut self.outgoing);
        }
    }

    /// What is to be sent as one WebSocket message; whoever sends it clears it.
    pub(super) fn outgoing(&mut self) -> &mut Vec<u8> {
        &mut self.outgoing
    }

    fn on_message(
        &mut self,
        message: &[u8],
        on_news: &mut impl FnMut(News<'_>),
    ) -> Result<(), LoadError> {
        if let Some((connection_id, payload)) = plain_connection_data(message) {
            if self.unfinished.is_empty() && self.is_one_invocation(payload)? {
                self.echo_as_it_came(message);
                return Ok(());
            }
            return self.on_client_data(&String::from_utf8_lossy(connection_id), payload);
        }
        if !self.reports_clients && message.starts_with(OPEN_CONNECTION_START) {
            self.clients += 1;
            return Ok(());
        }
        self.on_decoded(decode_whole(message)?, on_news)
    }

    fn on_decoded(
        &mut self,
        message: Incoming<'_>,
        on_news: &mut impl FnMut(News<'_>),
    ) -> Result<(), LoadError> {
        #[expect(
            clippy::wildcard_enum_match_arm,
            reason = "whatever else the service tells an app server asks for no answer"
        )]
        match message {
            Message::ConnectionData(data) => {
                self.on_client_data(&data.connection_id, data.payload)?;
            }
            Message::OpenConnection(open) => {
                self.clients += 1;
                on_news(News::Opened {
                    connection_id: &open.connection_id,
                    user_id: user_id(&open),
                });
            }
            Message::CloseConnection(close) => {
                on_news(News::Closed {
                    connection_id: &close.connection_id,
                });
                self.on_close(&close.connection_id);
            }
            Message::Ack(ack) if ack.status == AckStatus::Ok => {
                on_news(News::Acked { ack_id: ack.ack_id });
            }
            Message::Ack(ack) => return Err(LoadError::JoinRefused(ack.status)),
            Message::Ping(ping) => match ServicePing::parse(&ping) {
                ServicePing::Echo(_) => Outgoing::from(ping).encode(&mut self.outgoing),
                ServicePing::KeepAlive => self.owes_ping = true,
                _ => {}
            },
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

    /// The SDK says goodbye to a client that is gone already, and the service has to read that.
    fn on_close(&mut self, connection_id: &str) {
        self.clients = self.clients.saturating_sub(1);
        self.unfinished.remove(connection_id);
        let close = std::mem::take(&mut self.close_answer);
        self.send(connection_id, &close, DataMessageType::Close);
        self.close_answer = close;
    }

    /// The service passes on bytes as they come: a part of a hub message, or several. An app server answers whole ones.
    fn on_client_data(&mut self, connection_id: &str, payload: &[u8]) -> Result<(), LoadError> {
        let Some((key, mut bytes)) = self.unfinished.remove_entry(connection_id) else {
            let answered_bytes = self.answer_whole(connection_id, payload)?;
            let rest = payload.get(answered_bytes..).unwrap_or_default();
            if !rest.is_empty() {
                self.unfinished.insert(connection_id.into(), rest.to_vec());
            }
            return Ok(());
        };
        bytes.extend_from_slice(payload);
        let answered_bytes = self.answer_whole(connection_id, &bytes)?;
        bytes.drain(..answered_bytes);
        if !bytes.is_empty() {
            self.unfinished.insert(key, bytes);
        }
        Ok(())
    }

    /// Answers each hub message that is whole with a service message of its own, as the SDK does, and tells how many bytes they had.
    fn answer_whole(&mut self, connection_id: &str, bytes: &[u8]) -> Result<usize, LoadError> {
        let mut rest = bytes;
        while let Some((message, behind)) = self
            .hub_message_bytes(rest)?
            .and_then(|bytes| rest.split_at_checked(bytes))
        {
            if message.starts_with(HUB_HANDSHAKE_START) {
                let accepted = HUB_HANDSHAKE_ACCEPTED;
                self.send(connection_id, accepted, DataMessageType::Handshake);
            } else {
                self.echoed += 1;
                self.send(connection_id, message, DataMessageType::Invocation);
            }
            rest = behind;
        }
        Ok(bytes.len() - rest.len())
    }

    /// How long the hub message is that `bytes` begin with, its end mark or length included. `None` if that cannot be told yet.
    fn hub_message_bytes(&self, bytes: &[u8]) -> Result<Option<usize>, LoadError> {
        let is_text =
            self.hub_protocol == HubProtocol::Json || bytes.starts_with(HUB_HANDSHAKE_START);
        Ok(if is_text {
            find_separator(bytes).map(|end| end + 1)
        } else {
            read_varint(bytes)?.map(|(length, prefix_bytes)| prefix_bytes + length as usize)
        })
    }

    fn is_one_invocation(&self, payload: &[u8]) -> Result<bool, LoadError> {
        Ok(!payload.starts_with(HUB_HANDSHAKE_START)
            && self.hub_message_bytes(payload)? == Some(payload.len()))
    }

    /// The answer to a message that holds one invocation differs from it only in that it says so. So the bytes are taken as they are.
    fn echo_as_it_came(&mut self, message: &[u8]) {
        let (same, _) = message.split_at(message.len() - CONNECTION_DATA_TRAILER.len());
        self.echoed += 1;
        write_varint(
            (same.len() + INVOCATION_TRAILER.len()) as u32,
            &mut self.outgoing,
        );
        self.outgoing.extend_from_slice(same);
        self.outgoing.extend_from_slice(INVOCATION_TRAILER);
    }

    fn send(&mut self, connection_id: &str, payload: &[u8], data_type: DataMessageType) {
        let data = ConnectionData {
            connection_id: connection_id.into(),
            payload,
            data_type,
            ..ConnectionData::default()
        };
        Outgoing::from(data).encode(&mut self.outgoing);
    }
}

/// The connection id and the payload of a [`ConnectionData`] that says nothing else, as nearly every message of the service. Others
/// are left to the decoder.
fn plain_connection_data(message: &[u8]) -> Option<(&[u8], &[u8])> {
    let rest = message.strip_prefix(CONNECTION_DATA_START)?;
    let (connection_id, rest) = match rest {
        [marker @ 0xa0..=0xbf, rest @ ..] => rest.split_at_checked(usize::from(marker & 0x1f))?,
        [0xd9, length, rest @ ..] => rest.split_at_checked(usize::from(*length))?,
        _ => return None,
    };
    let (payload_bytes, rest) = match *rest {
        [0xc4, length, ref rest @ ..] => (u32::from(length), rest),
        [0xc5, a, b, ref rest @ ..] => (u32::from_be_bytes([0, 0, a, b]), rest),
        [0xc6, a, b, c, d, ref rest @ ..] => (u32::from_be_bytes([a, b, c, d]), rest),
        _ => return None,
    };
    let (payload, rest) = rest.split_at_checked(payload_bytes as usize)?;
    (rest == CONNECTION_DATA_TRAILER).then_some((connection_id, payload))
}

fn user_id<'a>(open: &'a OpenConnection<'_>) -> Option<&'a str> {
    USER_CLAIMS.iter().find_map(|end| {
        let mut claims = open.claims.iter();
        let (_, value) = claims.find(|(kind, _)| kind.ends_with(end))?;
        Some(&**value)
    })
}

type Incoming<'a> = Message<'a, &'a [u8]>;
type Outgoing<'a> = Message<'a, &'a [u8]>;

#[cfg(test)]
mod tests {
    use hubring::protocol::service::{
        Ack, CloseConnection, HandshakeResponse, KEEP_ALIVE_PING, ServiceError, write_ping,
    };

    use super::*;

    const HUB_HANDSHAKE: &[u8] = b"{\"protocol\":\"json\",\"version\":1}\x1e";

    fn framed<'a>(message: impl Into<Outgoing<'a>>) -> Vec<u8> {
        let mut bytes = Vec::new();
        message.into().encode(&mut bytes);
        bytes
    }

    fn data(connection_id: &str, payload: &[u8], data_type: DataMessageType) -> Vec<u8> {
        framed(ConnectionData {
            connection_id: connection_id.into(),
            payload,
            data_type,
            ..ConnectionData::default()
        })
    }

    fn received(connection_id: &str, payload: &[u8]) -> Vec<u8> {
        data(connection_id, payload, DataMessageType::Unknown)
    }

    fn echo(connection_id: &str, payload: &[u8]) -> Vec<u8> {
        data(connection_id, payload, DataMessageType::Invocation)
    }

    fn accepted(connection_id: &str) -> Vec<u8> {
        data(connection_id, b"{}\x1e", DataMessageType::Handshake)
    }

    fn opened(connection_id: &str, claims: &[(&'static str, &'static str)]) -> Vec<u8> {
        let text = |(kind, value): &(&'static str, &'static str)| ((*kind).into(), (*value).into());
        framed(OpenConnection {
            connection_id: connection_id.into(),
            claims: claims.iter().map(text).collect(),
            protocol: Some("json".into()),
            ..OpenConnection::default()
        })
    }

    fn new(hub_protocol: HubProtocol) -> Conversation {
        let mut conversation = Conversation::new(hub_protocol, true);
        conversation.outgoing().clear();
        conversation
    }

    /// All that is answered, and the news, when what comes is cut after every `step` bytes.
    fn hear(hub_protocol: HubProtocol, bytes: &[u8], step: usize) -> (Vec<u8>, Vec<String>) {
        let mut conversation = new(hub_protocol);
        let mut news = Vec::new();
        for part in bytes.chunks(step) {
            conversation
                .on_bytes(part, &mut |event| news.push(format!("{event:?}")))
                .unwrap();
            conversation.answer_ping(9);
        }
        (conversation.outgoing().clone(), news)
    }

    fn assert_answers(hub_protocol: HubProtocol, bytes: &[u8], answers: &[u8], news: &[&str]) {
        for step in 1..=bytes.len() {
            let (answered, heard) = hear(hub_protocol, bytes, step);
            assert_eq!(answered, answers, "cut every {step} bytes");
            assert_eq!(heard, news, "cut every {step} bytes");
        }
    }

    #[test]
    fn it_begins_with_the_handshake_of_the_sdk() {
        let mut conversation = Conversation::new(HubProtocol::Json, false);
        let handshake = b"\x08\x97\x01\x01\x00\xa0\x00\x80\xc2";
        assert_eq!(conversation.outgoing(), handshake);
        assert!(!conversation.is_accepted());
        let response = framed(HandshakeResponse::default());
        conversation.on_bytes(&response, &mut |_| {}).unwrap();
        assert!(conversation.is_accepted());
    }

    #[test]
    fn answers_do_not_depend_on_cuts() {
        let long = [&[b'x'; 300][..], b"\x1e"].concat();
        let huge = [vec![b'y'; 70_000].as_slice(), b"\x1e"].concat();
        let bytes = [
            framed(HandshakeResponse::default()),
            opened("c1", &[("aud", "http://x/"), ("nameid", "u1")]),
            received("c1", HUB_HANDSHAKE),
            received("c1", b"hello\x1e"),
            received("c1", &long),
        ];
        let answers = [accepted("c1"), echo("c1", b"hello\x1e"), echo("c1", &long)];
        let news = [r#"Opened { connection_id: "c1", user_id: Some("u1") }"#];
        assert_answers(HubProtocol::Json, &bytes.concat(), &answers.concat(), &news);
        for step in [1, 4096, 65_000, 100_000] {
            let (answered, _) = hear(HubProtocol::Json, &received("c1", &huge), step);
            assert_eq!(answered, echo("c1", &huge));
        }
    }

    #[test]
    fn hub_messages_are_echoed_whole_and_one_by_one() {
        let id = &"i".repeat(40);
        let bytes = [
            received(id, b"a\x1eb\x1ec"),
            received("c2", b"xy"),
            received(id, b"d\x1e"),
            received("c3", b"e\x1e"),
        ];
        let answers = [
            echo(id, b"a\x1e"),
            echo(id, b"b\x1e"),
            echo(id, b"cd\x1e"),
            echo("c3", b"e\x1e"),
        ];
        assert_answers(HubProtocol::Json, &bytes.concat(), &answers.concat(), &[]);
    }

    #[test]
    fn messagepack_is_cut_by_its_lengths() {
        let hub_handshake = b"{\"protocol\":\"messagepack\",\"version\":1}\x1e";
        let long = [&[0xac, 0x02][..], &[b'x'; 300]].concat();
        let (start, end) = long.split_at(1);
        let bytes = [
            received("c1", &[hub_handshake.as_slice(), b"\x02\x91\x06"].concat()),
            received("c1", b"\x01\x1e\x02\x1e\x1e\x03a"),
            received("c1", b"bc"),
            received("c1", &long),
            received("c1", start),
            received("c1", end),
        ];
        let answers = [
            accepted("c1"),
            echo("c1", b"\x02\x91\x06"),
            echo("c1", b"\x01\x1e"),
            echo("c1", b"\x02\x1e\x1e"),
            echo("c1", b"\x03abc"),
            echo("c1", &long),
            echo("c1", &long),
        ];
        let (bytes, answers) = (bytes.concat(), answers.concat());
        assert_answers(HubProtocol::MessagePack, &bytes, &answers, &[]);
    }

    #[test]
    fn other_forms_of_data_are_answered_too() {
        let traced = framed(ConnectionData {
            connection_id: "c1".into(),
            payload: b"hello\x1e".as_slice(),
            tracing_id: Some(7),
            ..ConnectionData::default()
        });
        let answers = echo("c1", b"hello\x1e");
        assert_answers(HubProtocol::Json, &traced, &answers, &[]);
    }

    #[test]
    fn whoever_leaves_is_said_goodbye_to() {
        let bytes = [
            opened("c1", &[]),
            received("c1", b"half"),
            framed(CloseConnection::of("c1")),
            received("c1", b"other\x1e"),
        ];
        let goodbye = b"{\"type\":7,\"allowReconnect\":true}\x1e";
        let answers = [
            data("c1", goodbye, DataMessageType::Close),
            echo("c1", b"other\x1e"),
        ];
        let news = [
            r#"Opened { connection_id: "c1", user_id: None }"#,
            r#"Closed { connection_id: "c1" }"#,
        ];
        assert_answers(HubProtocol::Json, &bytes.concat(), &answers.concat(), &news);
    }

    #[test]
    fn clients_are_counted_whether_or_not_they_are_reported() {
        for reports_clients in [false, true] {
            let mut conversation = Conversation::new(HubProtocol::Json, reports_clients);
            let mut opens = 0;
            let bytes = [
                opened("c1", &[]),
                opened("c2", &[]),
                framed(CloseConnection::of("c1")),
                received("c2", b"a\x1eb\x1e"),
            ];
            let mut on_news =
                |news: News<'_>| opens += u32::from(matches!(news, News::Opened { .. }));
            conversation
                .on_bytes(&bytes.concat(), &mut on_news)
                .unwrap();
            assert_eq!((conversation.clients(), conversation.echoed()), (1, 2));
            assert_eq!(opens, if reports_clients { 2 } else { 0 });
        }
    }

    #[test]
    fn the_user_is_whoever_the_service_says() {
        let claims = [
            ("nameid", "short"),
            ("http://schemas.example/claims/nameidentifier", "long"),
            ("asrs.s.uid", "said"),
        ];
        for (count, expected) in [
            (0, None),
            (1, Some("short")),
            (2, Some("long")),
            (3, Some("said")),
        ] {
            let (_, news) = hear(HubProtocol::Json, &opened("c", &claims[..count]), 1000);
            assert_eq!(
                news,
                [format!(
                    r#"Opened {{ connection_id: "c", user_id: {expected:?} }}"#
                )]
            );
        }
    }

    #[test]
    fn pings_are_answered_as_the_sdk_answers_them() {
        let mut echo = Vec::new();
        write_ping(&["echo", "12"], &mut echo);
        let bytes = [opened("c1", &[]), KEEP_ALIVE_PING.to_vec(), echo.clone()].concat();
        let keep_alive = b"\x1b\x95\x03\xac#clientInHub\xa19\xa7#client\xa11";
        let (answered, _) = hear(HubProtocol::Json, &bytes, 1000);
        assert_eq!(answered, [echo.as_slice(), keep_alive].concat());
        let mut unknown = Vec::new();
        write_ping(&["status", "1"], &mut unknown);
        assert_answers(HubProtocol::Json, &unknown, &[], &[]);
    }

    #[test]
    fn acks_are_news_and_refusals_are_errors() {
        let ack = |status| {
            framed(Ack {
                ack_id: 7,
                status,
                ..Ack::default()
            })
        };
        assert_answers(
            HubProtocol::Json,
            &ack(AckStatus::Ok),
            &[],
            &["Acked { ack_id: 7 }"],
        );
        let fault = |bytes: &[u8]| {
            new(HubProtocol::Json)
                .on_bytes(bytes, &mut |_| {})
                .unwrap_err()
        };
        let error = fault(&ack(AckStatus::NotFound));
        assert!(matches!(error, LoadError::JoinRefused(AckStatus::NotFound)));
        let error = fault(&framed(HandshakeResponse {
            error_message: "full".into(),
            connection_id: None,
        }));
        assert!(matches!(error, LoadError::HandshakeRefused(text) if text == "full"));
        let error = fault(&framed(ServiceError {
            error_message: "oops".into(),
        }));
        assert!(matches!(error, LoadError::ServiceReports(text) if text == "oops"));
    }
}

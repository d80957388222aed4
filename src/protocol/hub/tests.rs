//! What clients send from the first byte on, and the same however it is cut on its way: handshake, records, messages.
//!
//! The bytes are those of Microsoft's clients, pysignalr and signalrcore. What a single message looks like is in the tests of [`super::json`]
//! and [`super::messagepack`].

use super::envelope::{Envelope, Kind};
use super::handshake::{HandshakeRequest, HubProtocol, find_handshake};
use super::message::RecordBuffer;

const BYTES_MAX: usize = 64 * 1024;

// Handshake requests.
const JSON: &str = "7b2270726f746f636f6c223a226a736f6e222c2276657273696f6e223a317d1e";
const JSON_2: &str = "7b2270726f746f636f6c223a226a736f6e222c2276657273696f6e223a327d1e";
const JSON_WITH_BLANKS: &str =
    "7b2270726f746f636f6c223a20226a736f6e222c202276657273696f6e223a20317d1e";
const MESSAGEPACK: &str =
    "7b2270726f746f636f6c223a226d6573736167657061636b222c2276657273696f6e223a317d1e";
const BLAZORPACK: &str = "7b2276657273696f6e223a312c226578747261223a5b7b7d5d2c2270726f746f636f6c223a22626c617a6f727061636b227d1e";

/// A message as it is sent, and what it is.
type Sent = (&'static str, Kind);

const JSON_PING: Sent = ("7b2274797065223a367d1e", Kind::Ping);
const JSON_CLOSE: Sent = ("7b2274797065223a377d1e", Kind::Close);
const JSON_COMPLETION: Sent = (
    "7b2274797065223a332c22696e766f636174696f6e4964223a2231227d1e",
    Kind::Completion,
);
const JSON_ACK: Sent = (
    "7b2274797065223a382c2273657175656e63654964223a337d1e",
    Kind::Ack,
);
const JSON_INVOCATION: Sent = (
    "7b22746172676574223a22466f6f222c22617267756d656e7473223a5b312c2278225d2c2274797065223a317d1e",
    Kind::Invocation,
);
/// Letters that take several bytes, and an escaped 0x1e, which ends no record.
const JSON_LETTERS: Sent = (
    "7b2274797065223a312c22746172676574223a22c3a9e4b8ad222c22617267756d656e7473223a5b22615c753030316562225d7d1e",
    Kind::Invocation,
);
const PING: Sent = ("029106", Kind::Ping);
/// A length that takes more bytes than it needs.
const WIDE_PING: Sent = ("82009106", Kind::Ping);
const COMPLETION: Sent = ("06940380a13102", Kind::Completion);
const CLOSE: Sent = ("039207c0", Kind::Close);
const INVOCATION: Sent = ("0c950180c0a3466f6f9201a178", Kind::Invocation);

#[test]
fn conversations_are_read_alike_however_they_are_cut() {
    use HubProtocol::{BlazorPack, Json, MessagePack};
    let conversations: [(&str, HubProtocol, i64, &[Sent]); 9] = [
        (JSON, Json, 1, &[]),
        (JSON_2, Json, 2, &[JSON_ACK]),
        (JSON_WITH_BLANKS, Json, 1, &[JSON_PING]),
        (JSON, Json, 1, &[JSON_PING, JSON_INVOCATION, JSON_CLOSE]),
        (JSON, Json, 1, &[JSON_LETTERS, JSON_COMPLETION]),
        (MESSAGEPACK, MessagePack, 1, &[PING, WIDE_PING]),
        (
            MESSAGEPACK,
            MessagePack,
            1,
            &[PING, COMPLETION, CLOSE, INVOCATION],
        ),
        (MESSAGEPACK, MessagePack, 1, &[PING; 500]),
        (BLAZORPACK, BlazorPack, 1, &[PING]),
    ];
    for (request, protocol, version, messages) in conversations {
        let (messages, kinds): (Vec<&str>, Vec<Kind>) = messages.iter().copied().unzip();
        let stream = bytes(&[request, &messages.concat()].concat());
        let expected = (HandshakeRequest { protocol, version }, kinds);
        for piece_bytes in [1, 2, 7, stream.len()] {
            let pieces: Vec<&[u8]> = stream.chunks(piece_bytes).collect();
            assert_eq!(
                read(&pieces),
                expected,
                "{request} {messages:?} by {piece_bytes}"
            );
        }
        for cut in 0..stream.len().min(200) {
            let (head, tail) = stream.split_at(cut);
            assert_eq!(
                read(&[head, tail]),
                expected,
                "{request} {messages:?} at {cut}"
            );
        }
    }
}

#[test]
fn a_handshake_ends_with_its_last_byte_and_what_is_behind_it_is_a_message() {
    let request = bytes(JSON);
    for end in 0..request.len() {
        assert_eq!(find_handshake(&request[..end], 0, BYTES_MAX), Ok(None));
    }
    let found = find_handshake(&request, 0, BYTES_MAX).unwrap().unwrap();
    assert_eq!(found.rest, b"");
    // The first byte of a message may be what a handshake ends with: a record of 30 bytes.
    let stream = [bytes(MESSAGEPACK), vec![0x1e]].concat();
    let found = find_handshake(&stream, 0, BYTES_MAX).unwrap().unwrap();
    assert_eq!(found.rest, [0x1e]);
}

/// The handshake request, and the kinds of all messages behind it.
fn read(pieces: &[&[u8]]) -> (HandshakeRequest, Vec<Kind>) {
    let mut pieces = pieces.iter();
    let mut received = Vec::new();
    let mut scanned = 0;
    let record = loop {
        received.extend_from_slice(pieces.next().expect("a handshake"));
        if let Some(record) = find_handshake(&received, scanned, BYTES_MAX).unwrap() {
            break record;
        }
        scanned = received.len();
    };
    let request = HandshakeRequest::parse(record.json).unwrap();
    let protocol = request.protocol.message_protocol().unwrap();
    let mut records = RecordBuffer::default();
    let mut kinds = Vec::new();
    for piece in std::iter::once(&record.rest).chain(pieces) {
        records.extend(piece);
        while let Some(record) = records.next(protocol, BYTES_MAX).unwrap() {
            kinds.push(Envelope::read(protocol, &record).unwrap().kind);
        }
    }
    assert!(records.is_empty(), "nothing is left over");
    (request, kinds)
}

fn bytes(hex: &str) -> Vec<u8> {
    (0..hex.len())
        .step_by(2)
        .map(|at| u8::from_str_radix(&hex[at..at + 2], 16).unwrap())
        .collect()
}

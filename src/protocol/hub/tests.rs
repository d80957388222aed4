//! What clients send from the first byte on, and the same however it is cut on its way: handshake, records, messages.
//!
//! The bytes are those of Microsoft's clients, pysignalr and signalrcore. What a single message looks like is in the tests of [`super::json`]
//! and [`super::messagepack`].

use super::envelope::{Envelope, Kind};
use super::handshake::{HandshakeRequest, HubProtocol, find_handshake};
use super::message::RecordBuffer;

const BYTES_MAX: usize = 64 * 1024;

/// Handshake requests, and messages.
const JSON: &str = "7b2270726f746f636f6c223a226a736f6e222c2276657273696f6e223a317d1e";
const JSON_2: &str = "7b2270726f746f636f6c223a226a736f6e222c2276657273696f6e223a327d1e";
const JSON_WITH_BLANKS: &str =
    "7b2270726f746f636f6c223a20226a736f6e222c202276657273696f6e223a20317d1e";
const MESSAGEPACK: &str =
    "7b2270726f746f636f6c223a226d6573736167657061636b222c2276657273696f6e223a317d1e";
const BLAZORPACK: &str = "7b2276657273696f6e223a312c226578747261223a5b7b7d5d2c2270726f746f636f6c223a22626c617a6f727061636b227d1e";
const JSON_PING: &str = "7b2274797065223a367d1e";
const JSON_CLOSE: &str = "7b2274797065223a377d1e";
const JSON_COMPLETION: &str = "7b2274797065223a332c22696e766f636174696f6e4964223a2231227d1e";
const JSON_INVOCATION: &str =
    "7b22746172676574223a22466f6f222c22617267756d656e7473223a5b312c2278225d2c2274797065223a317d1e";
/// Letters that take several bytes, and an escaped 0x1e, which ends no record.
const JSON_LETTERS: &str = "7b2274797065223a312c22746172676574223a22c3a9e4b8ad222c22617267756d656e7473223a5b22615c753030316562225d7d1e";
const PING: &str = "029106";
/// A length that takes more bytes than it needs.
const WIDE_PING: &str = "82009106";
const COMPLETION: &str = "06940380a13102";
const CLOSE: &str = "039207c0";
const INVOCATION: &str = "0c950180c0a3466f6f9201a178";

#[test]
fn conversations_are_read_alike_however_they_are_cut() {
    use Kind::{Ack, Close, Completion, Invocation, Ping};
    let (json, messagepack) = (HubProtocol::Json, HubProtocol::MessagePack);
    let long = format!("8c01960180c0a14291d982{}90", "79".repeat(130));
    let pings = PING.repeat(500);
    let cases: Vec<(Vec<&str>, HubProtocol, i64, Vec<Kind>)> = vec![
        (vec![JSON], json.clone(), 1, vec![]),
        (
            vec![
                JSON_2,
                "7b2274797065223a382c2273657175656e63654964223a337d1e",
            ],
            json.clone(),
            2,
            vec![Ack],
        ),
        (
            vec![JSON_WITH_BLANKS, JSON_PING],
            json.clone(),
            1,
            vec![Ping],
        ),
        (
            vec![JSON, JSON_PING, JSON_INVOCATION, JSON_CLOSE],
            json.clone(),
            1,
            vec![Ping, Invocation, Close],
        ),
        (
            vec![JSON, JSON_PING, JSON_COMPLETION, JSON_CLOSE],
            json.clone(),
            1,
            vec![Ping, Completion, Close],
        ),
        (vec![JSON, JSON_LETTERS], json, 1, vec![Invocation]),
        (
            vec![MESSAGEPACK, PING, WIDE_PING],
            messagepack.clone(),
            1,
            vec![Ping, Ping],
        ),
        (
            vec![MESSAGEPACK, PING, COMPLETION, CLOSE, INVOCATION],
            messagepack.clone(),
            1,
            vec![Ping, Completion, Close, Invocation],
        ),
        (
            vec![MESSAGEPACK, &long],
            messagepack.clone(),
            1,
            vec![Invocation],
        ),
        (vec![MESSAGEPACK, &pings], messagepack, 1, vec![Ping; 500]),
        (
            vec![BLAZORPACK, PING],
            HubProtocol::BlazorPack,
            1,
            vec![Ping],
        ),
    ];
    for (parts, protocol, version, kinds) in cases {
        let stream = bytes(&parts.concat());
        let expected = (HandshakeRequest { protocol, version }, kinds);
        for piece_bytes in [1, 2, 7, stream.len()] {
            let pieces: Vec<&[u8]> = stream.chunks(piece_bytes).collect();
            assert_eq!(read(&pieces), expected, "{parts:?} by {piece_bytes}");
        }
        for cut in 0..stream.len().min(200) {
            let (head, tail) = stream.split_at(cut);
            assert_eq!(read(&[head, tail]), expected, "{parts:?} at {cut}");
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

//! Vectors, and tungstenite as the other end.

use std::io::{self, Read, Write};

use proptest::collection::vec;
use proptest::prelude::*;
use tungstenite::protocol::frame::Frame;
use tungstenite::{Message, WebSocket};

use super::properties::{Decoded, Whole, encode};
use super::*;

const LIMITS: Limits = Limits {
    message_bytes_max: 1 << 20,
    frames_per_message_max: 1000,
    text_checked: true,
};
const KEY: [u8; 4] = [0x37, 0xfa, 0x21, 0x3d];
const PING: &str = "898237fa213d5f93";
const HANDSHAKE_FRAGMENTS: [&str; 3] = [
    "018a37fa213d4cd8514f588e4e5e5896",
    "008a37fa213d15c0035744954f1f1bd8",
    "808c37fa213d419f534e5e954f1f0dcb5c23",
];

#[test]
fn frames_of_signalr_clients_and_of_the_service() {
    let close = |code: CloseCode| {
        Whole::Close(Some(CloseFrame {
            code,
            reason: "".into(),
        }))
    };
    let cases = [
        (
            Role::Server,
            "818b37fa213d4cd85544479f030701873f",
            text(b"{\"type\":6}\x1e"),
        ),
        (Role::Client, "81037b7d1e", text(b"{}\x1e")),
        (Role::Client, "8203029106", binary(b"\x02\x91\x06")),
        (Role::Client, "880203e8", close(CloseCode::Normal)),
        (Role::Client, "880203f3", close(CloseCode::Error)),
        (Role::Server, "888037fa213d", Whole::Close(None)),
        (Role::Server, PING, Whole::Ping(b"hi".to_vec())),
        (Role::Client, "8a026869", Whole::Pong(b"hi".to_vec())),
        // Data behind a close frame is discarded, whatever it is.
        (Role::Server, "888037fa213dffffff818b", Whole::Close(None)),
    ];
    for (role, frames, expected) in cases {
        assert_decodes(role, frames, &[expected]);
    }
}

#[test]
fn messages_in_several_frames_and_between_others() {
    let [first, second, third] = HANDSHAKE_FRAGMENTS;
    let handshake = text(b"{\"protocol\":\"json\",\"version\":1}\x1e");
    assert_decodes(
        Role::Server,
        &[first, second, third].concat(),
        std::slice::from_ref(&handshake),
    );
    let ping = Whole::Ping(b"hi".to_vec());
    assert_decodes(
        Role::Server,
        &[first, PING, second, third].concat(),
        &[ping, handshake],
    );
    assert_decodes(
        Role::Client,
        "8201068100820107",
        &[binary(b"\x06"), text(b""), binary(b"\x07")],
    );
    // The first fragment is empty, and so is the last.
    assert_decodes(Role::Client, "02000001068000", &[binary(b"\x06")]);
}

#[test]
fn frames_are_written_as_recorded() {
    assert_eq!(control_frame(Control::Pong, b"hi", None), bytes("8a026869"));
    assert_eq!(control_frame(Control::Ping, b"hi", Some(KEY)), bytes(PING));
    assert_eq!(
        control_frame(Control::Close, b"", Some(KEY)),
        bytes("888037fa213d")
    );
    assert_eq!(close_frame(CloseCode::Normal, "", None), bytes("880203e8"));
    assert_eq!(close_frame(CloseCode::Error, "", None), bytes("880203f3"));
    assert_eq!(
        encode(&[text(b"{\"type\":6}\x1e")], Role::Server, 100),
        bytes("818b37fa213d4cd85544479f030701873f")
    );
}

#[test]
fn the_payload_of_a_whole_frame_stands_behind_its_header() {
    for payload_bytes in [0, 1, 125, 126, 0xffff, 0x1_0000] {
        let expected = vec![0x61; payload_bytes];
        let header = header(MessageKind::Text, true, payload_bytes as u64, None);
        let mut frame = [&*header, &*expected].concat();
        assert_eq!(payload(&frame), Some(&*expected));
        frame.push(0);
        assert_eq!(payload(&frame), None, "there is more than the frame");
        frame.truncate(header.len() + payload_bytes.saturating_sub(1));
        let is_whole = payload_bytes == 0;
        assert_eq!(payload(&frame).is_some(), is_whole, "{payload_bytes}");
    }
    assert_eq!(payload(&bytes("818b37fa213d")), None, "it has a mask");
    assert_eq!(payload(&[]), None);
}

#[test]
fn records_do_not_care_for_frames() {
    let pings = [0x02, 0x91, 0x06].repeat(500);
    let invocation = vec![0x61; 40_000];
    for (message, frame_bytes) in [(&pings, 1500), (&invocation, 4096), (&invocation, 40_000)] {
        let expected = [binary(message)];
        let frames = encode(&expected, Role::Server, frame_bytes);
        for cut in [1, 13, 4096, usize::MAX] {
            assert_eq!(
                Decoded::from_cuts(Role::Server, LIMITS, &frames, |_| cut).events,
                expected
            );
        }
    }
    // A character may straddle frames of one text.
    let expected = [text("{\"target\":\"é中\"}\x1e".as_bytes())];
    for frame_bytes in 1..20 {
        let frames = encode(&expected, Role::Server, frame_bytes);
        assert_eq!(
            Decoded::from_cuts(Role::Server, LIMITS, &frames, |_| usize::MAX).events,
            expected
        );
    }
}

#[test]
fn faults_end_the_connection_with_the_code_of_the_rfc() {
    use FrameError as E;
    let cases = [
        ("810b7b2274797065223a367d1e", E::Unmasked, 1002),
        ("c18037fa213d", E::ReservedBits, 1002),
        ("a18037fa213d", E::ReservedBits, 1002),
        ("918037fa213d", E::ReservedBits, 1002),
        ("838037fa213d", E::ReservedOpcode(3), 1002),
        ("8b8037fa213d", E::ReservedOpcode(11), 1002),
        ("89fe007e37fa213d", E::ControlTooLong, 1002),
        ("098037fa213d", E::ControlFragmented, 1002),
        ("808037fa213d", E::StrayContinuation, 1002),
        ("018037fa213d818037fa213d", E::InterruptedMessage, 1002),
        ("82fe007d37fa213d", E::LengthNotMinimal(125), 1002),
        (
            "82ff000000000000ffff37fa213d",
            E::LengthNotMinimal(0xffff),
            1002,
        ),
        ("82ff800000000000000037fa213d", E::LengthTopBit, 1002),
        (
            "82ff000000000010000137fa213d",
            E::MessageTooLong {
                bytes: 0x10_0001,
                max: 1 << 20,
            },
            1009,
        ),
        ("818237fa213df4d2", E::TextNotUtf8, 1007),
        // A text that ends inside a character: c3.
        ("818137fa213df4", E::TextNotUtf8, 1007),
        ("888137fa213d34", E::CloseCodeCut, 1002),
        // Codes 1005, 1006 and 999.
        ("888237fa213d3417", E::CloseCodeForbidden(1005), 1002),
        ("888237fa213d3414", E::CloseCodeForbidden(1006), 1002),
        ("888237fa213d341d", E::CloseCodeForbidden(999), 1002),
        // Code 1000 with the reason c328.
        ("888437fa213d3412e215", E::ReasonNotUtf8, 1007),
    ];
    for (frames, fault, code) in cases {
        let frames = bytes(frames);
        for cut in 1..=frames.len() {
            let decoded = Decoded::from_cuts(Role::Server, LIMITS, &frames, |_| cut);
            assert_eq!(
                (decoded.fault, decoded.events),
                (Some(fault), vec![]),
                "{frames:02x?} by {cut}"
            );
        }
        assert_eq!(u16::from(fault.close_code()), code);
    }
    let masked = Decoded::from_cuts(Role::Client, LIMITS, &bytes("818037fa213d"), |_| 1);
    assert_eq!(masked.fault, Some(E::Masked));
}

#[test]
fn faults_are_found_at_the_first_byte_that_proves_them() {
    // Unknown bits; a text with a surrogate in its third byte of ten; a length above the limit, before any payload.
    for (frames, proof_bytes) in [
        ("c1", 1),
        ("810ceda080656469746564", 4),
        ("827f0000000100000000", 10),
    ] {
        let frames = bytes(frames);
        let mut decoder = Decoder::new(Role::Client, LIMITS);
        let fault = frames
            .iter()
            .position(|&byte| decoder.next(&mut [byte], &mut 0).is_err());
        assert_eq!(fault, Some(proof_bytes - 1), "{frames:02x?}");
    }
}

#[test]
fn text_is_not_looked_at_where_the_check_is_off() {
    let limits = Limits {
        text_checked: false,
        ..LIMITS
    };
    let decoded = Decoded::from_cuts(Role::Server, limits, &bytes("818237fa213df4d2"), |_| 1);
    assert_eq!(
        (decoded.events, decoded.fault),
        (vec![text(b"\xc3\x28")], None)
    );
}

#[test]
fn a_message_is_bounded_over_all_its_frames() {
    let limits = Limits {
        message_bytes_max: 5,
        frames_per_message_max: 3,
        text_checked: true,
    };
    let fault = |frames: &str| {
        Decoded::from_cuts(Role::Client, limits, &bytes(frames), |_| usize::MAX).fault
    };
    assert_eq!(fault("020361616180026161"), None);
    assert_eq!(
        fault("020361616180036161"),
        Some(FrameError::MessageTooLong { bytes: 6, max: 5 })
    );
    assert_eq!(fault("020000008000020000008000"), None);
    assert_eq!(fault("020000000000"), None);
    let endless = fault("0200000000000000").unwrap();
    assert_eq!(
        (endless, endless.close_code()),
        (FrameError::TooManyFrames { max: 3 }, CloseCode::Size)
    );
}

#[test]
fn a_decoder_is_small() {
    assert!(
        size_of::<Decoder>() <= 128,
        "there is one per connection: {}",
        size_of::<Decoder>()
    );
    assert!(size_of::<Result<Option<Event>, FrameError>>() <= 136);
}

#[test]
fn the_fuzz_body_holds() {
    for data in [
        "",
        "00",
        "000381",
        "0005818b37fa213d4cd85544479f030701873f",
        "018181037b7d1e880203e8",
        "0701c3288101c3",
    ] {
        fuzz_websocket_frame(&bytes(data));
    }
}

proptest! {
    #[test]
    fn any_bytes_decode_alike_however_they_are_cut(data in vec(any::<u8>(), 0..300)) {
        fuzz_websocket_frame(&data);
    }

    #[test]
    fn almost_valid_frames_decode_alike_however_they_are_cut(
        (choice, step, messages) in (0..8u8, any::<u8>(), vec(any_event(), 0..6)),
        change in proptest::option::of((any::<proptest::sample::Index>(), any::<u8>())),
    ) {
        let role = if choice & 1 == 0 { Role::Server } else { Role::Client };
        let mut data = encode(&messages, role, 20);
        if let Some((at, byte)) = change && !data.is_empty() {
            let at = at.index(data.len());
            data[at] = byte;
        }
        data.splice(0..0, [choice, step]);
        fuzz_websocket_frame(&data);
    }

    #[test]
    fn reads_what_tungstenite_writes(messages in vec((any_event(), 1..50usize), 0..8), cut in 1..100usize) {
        for (role, other) in [(Role::Server, tungstenite::protocol::Role::Client), (Role::Client, tungstenite::protocol::Role::Server)] {
            let mut writer = WebSocket::from_raw_socket(Memory::default(), other, None);
            for (message, frame_bytes) in &messages {
                for frame in frames(message, *frame_bytes) {
                    writer.send(Message::Frame(frame)).unwrap();
                }
            }
            let decoded = Decoded::from_cuts(role, LIMITS, &writer.get_ref().written, |_| cut);
            let sent: Vec<_> = messages.iter().map(|(message, _)| message.clone()).collect();
            prop_assert_eq!((decoded.events, decoded.fault), (sent, None));
        }
    }

    #[test]
    fn tungstenite_reads_what_is_written(messages in vec(any_event(), 0..8), frame_bytes in 1..300usize) {
        for role in [Role::Server, Role::Client] {
            let (read, is_refused) = read_with_tungstenite(role, encode(&messages, role, frame_bytes));
            prop_assert_eq!((read, is_refused), (messages.clone(), false));
        }
    }

    #[test]
    fn what_tungstenite_refuses_is_refused(
        messages in vec(any_event(), 1..5),
        frame_bytes in 1..100usize,
        changes in vec((any::<proptest::sample::Index>(), any::<u8>()), 1..3),
    ) {
        for role in [Role::Server, Role::Client] {
            let mut data = encode(&messages, role, frame_bytes);
            for (at, byte) in &changes {
                let at = at.index(data.len());
                data[at] = *byte;
            }
            let decoded = Decoded::from_cuts(role, LIMITS, &data, |_| usize::MAX);
            let (read, is_refused) = read_with_tungstenite(role, data);
            if decoded.fault.is_none() {
                prop_assert_eq!((decoded.events, false), (read, is_refused));
            } else {
                prop_assert!(read.starts_with(&decoded.events), "{:?} is the beginning of {:?}", decoded.events, read);
            }
        }
    }
}

fn assert_decodes(role: Role, frames: &str, expected: &[Whole]) {
    let frames = bytes(frames);
    for cut in 1..=frames.len() {
        let decoded = Decoded::from_cuts(role, LIMITS, &frames, |_| cut);
        assert_eq!(
            (&*decoded.events, decoded.open, decoded.fault),
            (expected, None, None),
            "{frames:02x?} by {cut}"
        );
    }
}

fn text(bytes: &[u8]) -> Whole {
    Whole::Message(MessageKind::Text, bytes.to_vec())
}

fn binary(bytes: &[u8]) -> Whole {
    Whole::Message(MessageKind::Binary, bytes.to_vec())
}

fn bytes(hex: &str) -> Vec<u8> {
    (0..hex.len())
        .step_by(2)
        .map(|at| u8::from_str_radix(&hex[at..at + 2], 16).unwrap())
        .collect()
}

/// Everything but a close, which would end the connection.
fn any_event() -> impl Strategy<Value = Whole> {
    prop_oneof![
        "(\\PC|[a-z]){0,60}".prop_map(|characters| text(characters.as_bytes())),
        vec(any::<u8>(), 0..300).prop_map(|payload| binary(&payload)),
        vec(any::<u8>(), 0..=125).prop_map(Whole::Ping),
        vec(any::<u8>(), 0..=125).prop_map(Whole::Pong),
    ]
}

/// The frames as tungstenite writes them, messages cut.
fn frames(event: &Whole, frame_bytes: usize) -> Vec<Frame> {
    match event {
        Whole::Ping(payload) => vec![Frame::ping(payload.clone())],
        Whole::Pong(payload) => vec![Frame::pong(payload.clone())],
        Whole::Close(close) => vec![Frame::close(close.clone())],
        Whole::Message(kind, payload) => {
            let mut parts: Vec<_> = payload.chunks(frame_bytes).map(<[u8]>::to_vec).collect();
            parts.extend(payload.is_empty().then(Vec::new));
            let last = parts.len() - 1;
            let opcode = |index| {
                if index == 0 {
                    OpCode::from(*kind)
                } else {
                    OpCode::Data(Data::Continue)
                }
            };
            parts
                .into_iter()
                .enumerate()
                .map(|(index, part)| Frame::message(part, opcode(index), index == last))
                .collect()
        }
    }
}

/// What tungstenite reads in the given role, and whether it found a fault.
fn read_with_tungstenite(role: Role, input: Vec<u8>) -> (Vec<Whole>, bool) {
    let role = match role {
        Role::Server => tungstenite::protocol::Role::Server,
        Role::Client => tungstenite::protocol::Role::Client,
    };
    let mut reader = WebSocket::from_raw_socket(
        Memory {
            unread: input.into(),
            ..Memory::default()
        },
        role,
        None,
    );
    let mut read = Vec::new();
    loop {
        read.push(match reader.read() {
            Ok(Message::Text(characters)) => text(characters.as_bytes()),
            Ok(Message::Binary(payload)) => binary(&payload),
            Ok(Message::Ping(payload)) => Whole::Ping(payload.to_vec()),
            Ok(Message::Pong(payload)) => Whole::Pong(payload.to_vec()),
            Ok(Message::Close(close)) => Whole::Close(close),
            Ok(Message::Frame(_)) => unreachable!("only written"),
            Err(fault) => {
                use tungstenite::error::ProtocolError::ResetWithoutClosingHandshake;
                let is_end = matches!(
                    fault,
                    tungstenite::Error::ConnectionClosed
                        | tungstenite::Error::AlreadyClosed
                        | tungstenite::Error::Protocol(ResetWithoutClosingHandshake)
                );
                return (read, !is_end);
            }
        });
    }
}

/// The two directions of a connection.
#[derive(Default)]
struct Memory {
    unread: std::collections::VecDeque<u8>,
    written: Vec<u8>,
}

impl Read for Memory {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        self.unread.read(out)
    }
}

impl Write for Memory {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.written.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

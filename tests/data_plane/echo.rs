//! The address on which messages are sent back: it is what test suites of RFC 6455 take it for, and bounded like any other.

use std::io::Write as _;
use std::net::SocketAddr;

use hubring::frame::websocket::{self, Control, Data, MessageKind, OpCode};
use hubring::limits::{CLIENT_MESSAGE_BYTES_MAX, DRAIN_TIMEOUT};

use crate::conformance::expect_raw;
use crate::peers::{Heard, MASK, Peer, frame};
use crate::stage::{Stage, until};

fn stage() -> Stage {
    Stage::with(2, |config| {
        config.websocket_echo = Some(SocketAddr::from(([127, 0, 0, 1], 0)));
    })
}

/// Nobody is asked for a token, and the path means nothing.
fn connect(stage: &Stage) -> Peer {
    let request = ("/any?path".to_owned(), String::new());
    Peer::upgrade_at(stage.echo_address(), request, &[]).unwrap()
}

/// A whole message as the service writes it.
fn echoed(kind: MessageKind, payload: &[u8]) -> Vec<u8> {
    let header = websocket::header(kind, true, payload.len() as u64, None);
    [&header, payload].concat()
}

#[test]
fn each_message_comes_back_whole_and_of_its_kind() {
    let stage = stage();
    let mut peer = connect(&stage);
    let kinds = [
        (Data::Text, MessageKind::Text),
        (Data::Binary, MessageKind::Binary),
    ];
    for (data, kind) in kinds {
        for payload_bytes in [0, 1, 125, 126, 65_535, 65_536, 1_000_000] {
            let payload = vec![b'x'; payload_bytes];
            peer.send(data, &payload);
            expect_raw(&mut peer.stream, &echoed(kind, &payload));
        }
        let ping = websocket::control_frame(Control::Ping, b"?", Some(MASK));
        peer.send_raw(&[frame(data, false, b"one, "), ping].concat());
        expect_raw(&mut peer.stream, b"\x8a\x01?");
        let rest = [
            frame(Data::Continue, false, b""),
            frame(Data::Continue, false, b"two"),
            frame(Data::Continue, true, b""),
            frame(data, true, b"three"),
        ];
        peer.send_raw(&rest.concat());
        let expected = [echoed(kind, b"one, two"), echoed(kind, b"three")];
        expect_raw(&mut peer.stream, &expected.concat());
    }
    drop(peer);
    until("the socket to be closed", || stage.echo_socket_count() == 1);
}

#[test]
fn what_came_early_is_echoed_too() {
    let stage = stage();
    let request = ("/".to_owned(), String::new());
    let early = frame(Data::Text, true, b"early");
    let mut peer = Peer::upgrade_at(stage.echo_address(), request, &early).unwrap();
    expect_raw(&mut peer.stream, &echoed(MessageKind::Text, b"early"));
}

#[test]
fn a_message_that_is_too_long_is_refused_by_its_header() {
    let stage = stage();
    let mut peer = connect(&stage);
    let opcode = OpCode::Data(Data::Binary);
    let header = websocket::header(opcode, true, CLIENT_MESSAGE_BYTES_MAX + 1, Some(MASK));
    peer.send_raw(&header);
    assert_eq!(peer.hear_end(), (Some(1009), Heard::End));
}

#[test]
fn who_does_not_read_is_closed_as_a_slow_consumer() {
    let stage = stage();
    let mut peer = connect(&stage);
    let message = frame(Data::Binary, true, &vec![b'x'; 60_000]);
    // Far more than the kernel's buffers and the outbox take together.
    let taken = (0..10_000).take_while(|_| peer.stream.write_all(&message).is_ok());
    assert!(taken.count() < 10_000);
    stage.until("slow consumers", 1, |counters| &counters.slow_consumers);
    until("its socket to be closed", || stage.echo_socket_count() == 1);
}

#[test]
fn all_are_told_when_the_service_stops() {
    let mut stage = stage();
    let mut peer = connect(&stage);
    peer.send(Data::Text, &[b'x'; 100]);
    expect_raw(&mut peer.stream, &echoed(MessageKind::Text, &[b'x'; 100]));
    let listening = std::thread::spawn(move || peer.hear_end());
    let took = stage.drain();
    assert_eq!(listening.join().unwrap(), (Some(1001), Heard::End));
    assert!(took < DRAIN_TIMEOUT / 2, "{took:?}");
}

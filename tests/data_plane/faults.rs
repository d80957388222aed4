//! Who breaks the rules is closed with the code that says so, in order, and nobody else notices.

use std::net::Shutdown;

use hubring::frame::websocket::{CloseCode, Data, OpCode, header};
use hubring::limits::CLOSE_TIMEOUT;
use hubring::protocol::service::Message;

use crate::peers::{AppServer, Client, Heard, MASK, Peer, frame, read};
use crate::stage::Stage;

/// What is sent, and the close code that answers it.
fn bad_frames() -> Vec<(&'static str, Vec<u8>, u16)> {
    let declared = |bytes| header(OpCode::Data(Data::Binary), true, bytes, Some(MASK)).to_vec();
    let masked_close = |code: u16| {
        let mut close = vec![0x88, 0x82, 0, 0, 0, 0];
        close.extend_from_slice(&code.to_be_bytes());
        close
    };
    vec![
        ("no mask", vec![0x81, 0x01, b'x'], 1002),
        ("reserved bit", vec![0xc1, 0x81, 0, 0, 0, 0, b'x'], 1002),
        ("reserved opcode", vec![0x83, 0x81, 0, 0, 0, 0, b'x'], 1002),
        (
            "reserved control opcode",
            vec![0x8b, 0x80, 0, 0, 0, 0],
            1002,
        ),
        ("fragmented ping", vec![0x09, 0x80, 0, 0, 0, 0], 1002),
        ("long ping", vec![0x89, 0xfe, 0, 126, 0, 0, 0, 0], 1002),
        (
            "stray continuation",
            frame(Data::Continue, true, b"x"),
            1002,
        ),
        (
            "interrupted message",
            [
                frame(Data::Text, false, b"x"),
                frame(Data::Text, true, b"x"),
            ]
            .concat(),
            1002,
        ),
        ("length of 2^63", declared(1 << 63), 1002),
        ("length of 2^62", declared(1 << 62), 1009),
        (
            "length not minimal",
            vec![0x82, 0xfe, 0, 5, 0, 0, 0, 0],
            1002,
        ),
        ("half a close code", vec![0x88, 0x81, 0, 0, 0, 0, 3], 1002),
        ("close code 999", masked_close(999), 1002),
        ("close code 1005", masked_close(1005), 1002),
        ("close code 1006", masked_close(1006), 1002),
        ("close code 2999", masked_close(2999), 1002),
        (
            "close reason not UTF-8",
            vec![0x88, 0x84, 0, 0, 0, 0, 0x03, 0xe8, 0xc3, 0x28],
            1007,
        ),
    ]
}

#[test]
fn bad_frames_are_answered_with_their_close_code() {
    let stage = Stage::new(1);
    let mut servers = AppServer::connect_all(&stage, 1);
    let (mut neighbour, _) = Client::connect(&stage, &mut servers);
    let mut for_clients = bad_frames();
    for_clients.push(("text not UTF-8", frame(Data::Text, true, b"\xc3\x28"), 1007));
    let cut = [
        frame(Data::Text, false, b"\xc3"),
        frame(Data::Continue, true, b""),
    ];
    for_clients.push(("text that ends inside a character", cut.concat(), 1007));
    for (what, bytes, code) in &for_clients {
        let (mut client, _) = Client::connect(&stage, &mut servers);
        client.peer.send_raw(bytes);
        // What comes after it is not looked at, and turns the end into no reset.
        client.peer.send_raw(&frame(Data::Text, true, b"more"));
        assert_eq!(client.peer.hear(), Heard::Close(*code), "{what}");
        assert_ends(&mut client.peer, what);
        loop {
            let message = servers[0].next().unwrap();
            match read(&message) {
                Message::CloseConnection(close) => {
                    break assert_eq!(close.connection_id, client.id);
                }
                Message::ConnectionData(_) => {}
                other => panic!("{other:?}"),
            }
        }
    }
    for (what, bytes, _) in &bad_frames() {
        let mut server = AppServer::connect(&stage, "bad");
        server.peer.send_raw(bytes);
        let message = server.next().unwrap();
        assert!(matches!(read(&message), Message::ServiceError(_)), "{what}");
        assert_eq!(server.peer.hear(), Heard::Close(1000), "{what}");
        assert_ends(&mut server.peer, what);
    }
    servers[0].send_to(&neighbour.id, b"all is well\x1e");
    neighbour.expect(b"all is well\x1e");
    stage.until("clients", 1, |counters| &counters.client_connections);
}

/// The service ends the connection at once: it cannot wait for a close frame where frames mean nothing any more.
fn assert_ends(peer: &mut Peer, what: &str) {
    assert_eq!(peer.hear_within(CLOSE_TIMEOUT / 2), Heard::End, "{what}");
}

#[test]
fn an_app_server_that_sends_an_impossible_length_is_told_so_and_closed() {
    let stage = Stage::new(1);
    for length in [
        &[0xff, 0xff, 0xff, 0xff, 0x7f][..],
        &[0x81, 0x80, 0x80, 0x20],
    ] {
        let mut servers = AppServer::connect_all(&stage, 1);
        let (mut client, _) = Client::connect(&stage, &mut servers);
        servers[0].peer.send(Data::Binary, length);
        let message = servers[0].next().unwrap();
        assert!(matches!(read(&message), Message::ServiceError(_)));
        assert_eq!(servers[0].peer.hear(), Heard::Close(1000));
        assert_eq!(client.peer.hear_end().0, Some(1000));
    }
}

/// A peer that says goodbye and ends its side at once still gets the answer.
#[test]
fn a_close_frame_is_answered_to_a_peer_that_has_shut_down_its_side() {
    let stage = Stage::new(1);
    let mut servers = AppServer::connect_all(&stage, 1);
    for _ in 0..20 {
        let (mut client, _) = Client::connect(&stage, &mut servers);
        client.peer.close(CloseCode::Away);
        client.peer.shutdown(Shutdown::Write);
        assert_eq!(client.peer.hear_end(), (Some(1001), Heard::End));
        assert!(matches!(
            read(&servers[0].next().unwrap()),
            Message::CloseConnection(_)
        ));
    }
}

//! How bytes were cut on their way makes no difference: TCP segments, WebSocket frames and service messages have nothing to do with
//! each other.

use std::io::Write as _;
use std::net::TcpStream;

use hubring::frame::websocket::{self, CloseCode, Control, Data};
use hubring::limits::SERVICE_MESSAGE_BYTES_MAX;
use hubring::protocol::service::Message;

use crate::peers::{
    AppServer, Client, HANDSHAKE, Heard, MASK, Peer, accept, connection_data, frame, head, read,
};
use crate::stage::Stage;

#[test]
fn a_service_message_of_the_greatest_length_arrives_whole_and_what_follows_it_too() {
    let stage = Stage::new(1);
    let mut servers = AppServer::connect_all(&stage, 1);
    let (mut client, _) = Client::connect(&stage, &mut servers);
    let payload: Vec<u8> = (0..SERVICE_MESSAGE_BYTES_MAX - 100)
        .map(|index| b' ' + (index % 89) as u8)
        .collect();
    std::thread::scope(|scope| {
        scope.spawn(|| {
            servers[0].send_to(&client.id, &payload);
            for _ in 0..50 {
                servers[0].send_to(&client.id, b"and this\x1e");
            }
        });
        expect(&mut client.peer, &payload);
        expect(&mut client.peer, &b"and this\x1e".repeat(50));
    });
}

fn expect(peer: &mut Peer, expected: &[u8]) {
    let mut at = 0;
    while at < expected.len() {
        match peer.hear() {
            Heard::Bytes(bytes) => {
                assert!(expected[at..].starts_with(&bytes), "other bytes at {at}");
                at += bytes.len();
            }
            other => panic!("{other:?} after {at} bytes"),
        }
    }
}

#[test]
fn service_messages_may_be_cut_anywhere_by_frames() {
    let stage = Stage::new(2);
    let mut servers = AppServer::connect_all(&stage, 2);
    let (mut client, server) = Client::connect(&stage, &mut servers);
    for frame_bytes in [1, 7, 127, 4096, 65_536] {
        let mut messages = Vec::new();
        let mut expected = Vec::new();
        let most = if frame_bytes < 100 { 300 } else { 20_000 };
        for payload_bytes in [0, 1, 2, 125, 126, 127, most / 3, most] {
            let payload = vec![b'a' + (payload_bytes % 26) as u8; payload_bytes];
            messages.extend_from_slice(&connection_data(&client.id, &payload));
            expected.extend_from_slice(&payload);
        }
        let count = messages.chunks(frame_bytes).count();
        let mut frames = Vec::new();
        for (index, part) in messages.chunks(frame_bytes).enumerate() {
            let data = if index == 0 {
                Data::Binary
            } else {
                Data::Continue
            };
            frames.extend_from_slice(&frame(data, index + 1 == count, part));
            if index % 5 == 0 {
                frames.extend_from_slice(&websocket::control_frame(
                    Control::Pong,
                    b"?",
                    Some(MASK),
                ));
            }
        }
        servers[server].peer.send_raw(&frames);
        client.expect(&expected);
    }
}

#[test]
fn all_may_come_byte_by_byte() {
    let stage = Stage::new(1);
    let (target, token) = stage.client_request();
    let mut servers = AppServer::connect_all(&stage, 1);
    let mut stream = TcpStream::connect(stage.address).unwrap();
    stream.set_nodelay(true).unwrap();
    let mut bytes = head(&target, &token).into_bytes();
    for byte in &bytes {
        stream.write_all(&[*byte]).unwrap();
    }
    let mut peer = Peer::upgraded(stream).unwrap();
    bytes.clear();
    bytes.extend_from_slice(&frame(Data::Text, true, HANDSHAKE));
    bytes.extend_from_slice(&frame(Data::Text, false, &[b'x'; 200]));
    bytes.extend_from_slice(&frame(Data::Continue, true, b"end"));
    bytes.extend_from_slice(&websocket::close_frame(CloseCode::Normal, "", Some(MASK)));
    for byte in bytes {
        peer.send_raw(&[byte]);
    }
    let (_, id) = accept(&mut servers);
    let mut data = Vec::new();
    loop {
        let message = servers[0].next().unwrap();
        match read(&message) {
            Message::ConnectionData(piece) => data.extend_from_slice(&message[piece.payload]),
            Message::CloseConnection(close) => {
                assert_eq!(close.connection_id, id);
                break;
            }
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(data, [&[b'x'; 200][..], b"end"].concat());
    assert_eq!(peer.hear_end(), (Some(1000), Heard::End));
}

#[test]
fn thousands_of_tiny_frames_may_come_at_once() {
    const FRAMES: usize = 20_000;
    let stage = Stage::new(1);
    let mut servers = AppServer::connect_all(&stage, 1);
    let (mut client, _) = Client::connect(&stage, &mut servers);
    let mut frames = Vec::new();
    for index in 0..FRAMES {
        frames.extend_from_slice(&frame(Data::Text, true, &[b'a' + (index % 26) as u8]));
        if index % 10 == 0 {
            frames.extend_from_slice(&frame(Data::Text, true, b""));
        }
    }
    std::thread::scope(|scope| {
        scope.spawn(|| client.peer.send_raw(&frames));
        for index in 0..FRAMES {
            assert_eq!(servers[0].next_data().1, [b'a' + (index % 26) as u8]);
        }
    });
}

#[test]
fn what_comes_with_the_request_is_read_behind_it() {
    let stage = Stage::new(2);
    let mut servers = [AppServer::connect_at_once(&stage)];
    let mut early = frame(Data::Text, true, HANDSHAKE);
    early.extend_from_slice(&frame(Data::Text, true, b"at once"));
    // Half of a frame comes early, the other half later.
    let late = early.split_off(early.len() - 3);
    let mut peer = Peer::upgrade(&stage, stage.client_request(), &early).unwrap();
    peer.send_raw(&late);
    let (_, id) = accept(&mut servers);
    let mut data = Vec::new();
    while data.len() < b"at once".len() {
        let (from, bytes) = servers[0].next_data();
        assert_eq!(from, id);
        data.extend_from_slice(&bytes);
    }
    assert_eq!(data, b"at once");
}

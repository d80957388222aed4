//! What clients and the service owe each other as WebSockets, beneath any hub protocol. Autobahn's test suite looks at the codec
//! (`scripts/conformance`); here it is what SignalR clients rely on beyond that, and what that suite does not ask.
//!
//! | What | Where |
//! |---|---|
//! | upgrades that are refused, and with which status | here |
//! | bytes behind the request for an upgrade | `cuts` |
//! | frames that break RFC 6455, each with its close code | `faults`; byte by byte in `frame::websocket::tests` |
//! | close codes, data behind a close frame, pongs | here |
//! | opcodes: ignored coming in, by hub protocol going out | here; rejections in `routing::tests::handshake` |
//! | hub messages cut and joined by frames | here and `cuts` |
//! | a peer that does not answer a close frame | `server_ends` |
//! | hub handshakes that are wrong, late or too long | `routing::tests::handshake`, `protocol::hub::handshake` |
//! | hub messages that no hub protocol allows: relayed | `routing::tests::relay` |
//! | no ping of ours | `peers`, which fails over one wherever it comes |

use std::io::{Read as _, Write as _};
use std::net::TcpStream;

use hubring::frame::websocket::{self, CloseCode, Control, Data};
use hubring::protocol::service::Message;

use crate::peers::{
    ACCEPTED, AppServer, Client, HANDSHAKE, Heard, MASK, accept, frame, head, read, read_some,
};
use crate::stage::{PATIENCE, Stage};

/// The answer to the nonce of [`head`], and nothing that was not asked for.
const SWITCH: &str = "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
    Sec-WebSocket-Accept: ICX+Yqv66kxgM0FcWaLWlFLwTAI=\r\n\r\n";

/// Frames of clients, masked with 37fa213d.
const HANDSHAKE_FRAGMENTS: [&str; 3] = [
    "018a37fa213d4cd8514f588e4e5e5896",
    "008a37fa213d15c0035744954f1f1bd8",
    "808c37fa213d419f534e5e954f1f0dcb5c23",
];
const PING_HI: &str = "898237fa213d5f93";
const CLOSE_WITHOUT_CODE: &str = "888037fa213d";

#[test]
fn an_upgrade_that_is_wrong_is_refused_with_its_status() {
    let stage = Stage::with(1, |config| {
        config.websocket_echo = "127.0.0.1:0".parse().ok();
    });
    let key = "Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n";
    let cases = [
        ("Version: 13", "Version: 8", "426 Upgrade Required"),
        ("Version: 13", "Version: 13, 8", "426 Upgrade Required"),
        ("Sec-WebSocket-Version: 13\r\n", "", "426 Upgrade Required"),
        (key, "", "400 Bad Request"),
        ("AAAAAAAAAA==", "==", "400 Bad Request"),
        (key, &key.repeat(2), "400 Bad Request"),
        ("GET", "POST", "400 Bad Request"),
        ("HTTP/1.1", "HTTP/1.0", "400 Bad Request"),
        ("Host:", "Content-Length: 3\r\nHost:", "400 Bad Request"),
    ];
    let (target, token) = stage.client_request();
    for address in [stage.address, stage.echo_address()] {
        for (right, wrong, status) in cases {
            let request = head(&target, &token);
            assert!(request.contains(right));
            let answer = answer_to(
                TcpStream::connect(address).unwrap(),
                &request.replacen(right, wrong, 1),
            );
            assert!(
                answer.starts_with(&format!("HTTP/1.1 {status}\r\n")),
                "{right} {wrong}: {answer}"
            );
            let names_version = answer.contains("\r\nSec-WebSocket-Version: 13\r\n");
            assert_eq!(names_version, status.starts_with("426"), "{answer}");
        }
    }
}

/// Browsers and most libraries offer compression. Some clients lose what comes in one piece with the answer, so nothing may.
#[test]
fn the_switch_agrees_to_nothing_that_was_offered_and_nothing_comes_with_it() {
    let stage = Stage::new(1);
    let mut servers = AppServer::connect_all(&stage, 1);
    let (target, token) = stage.client_request();
    let request = head(&target, &token).replace(
        "Upgrade: websocket\r\n",
        "Upgrade: websocket\r\nSec-WebSocket-Extensions: permessage-deflate; client_max_window_bits\r\nSec-WebSocket-Protocol: json, v1\r\n",
    );
    let mut stream = TcpStream::connect(stage.address).unwrap();
    let answer = answer_to(stream.try_clone().unwrap(), &request);
    assert_eq!(answer, SWITCH);
    // The first thing that comes is the answer to the first thing that is said.
    stream
        .write_all(&websocket::control_frame(Control::Ping, b"?", Some(MASK)))
        .unwrap();
    expect_raw(&mut stream, b"\x8a\x01?");
    stream
        .write_all(&frame(Data::Text, true, HANDSHAKE))
        .unwrap();
    accept(&mut servers);
    expect_raw(&mut stream, &[b"\x81\x03", ACCEPTED].concat());
}

#[test]
fn a_close_code_comes_back_and_what_follows_it_is_discarded() {
    let stage = Stage::new(1);
    let mut servers = AppServer::connect_all(&stage, 1);
    for code in [1000, 1001, 1002, 1003, 1007, 1011, 3000, 4999] {
        let close = websocket::close_frame(CloseCode::from(code), "because", Some(MASK));
        assert_closes(&stage, &mut servers, &close, code);
    }
    // As Microsoft's JavaScript client ends its connections.
    let close = bytes(CLOSE_WITHOUT_CODE);
    assert_closes(&stage, &mut servers, &close, 1000);
}

fn assert_closes(stage: &Stage, servers: &mut [AppServer], close: &[u8], code: u16) {
    let (mut client, _) = Client::connect(stage, servers);
    client.send("before");
    // Data, another close frame, and what would be a fault anywhere else.
    let behind = [&frame(Data::Text, true, b"behind"), close, &[0xff; 50]].concat();
    client.peer.send_raw(&[close, &behind].concat());
    assert_eq!(client.peer.hear(), Heard::Close(code));
    assert_eq!(client.peer.hear(), Heard::End, "{code}");
    let (id, data) = servers[0].next_data();
    assert_eq!((id, &*data), (client.id.clone(), &b"before"[..]));
    match read(&servers[0].next().unwrap()) {
        Message::CloseConnection(closed) => assert_eq!(closed.connection_id, client.id),
        other => panic!("{other:?} from behind the close frame"),
    }
}

/// Java's client sends JSON as binary messages, and Microsoft's JavaScript client its handshake as text whatever comes next; but a client
/// takes its own protocol only in the kind of message that belongs to it.
#[test]
fn the_kind_of_a_message_means_nothing_coming_in_and_follows_the_protocol_going_out() {
    let stage = Stage::new(1);
    let mut servers = AppServer::connect_all(&stage, 1);
    for (protocol, opcode) in [("json", 0x81), ("messagepack", 0x82), ("blazorpack", 0x82)] {
        for data in [Data::Text, Data::Binary] {
            let mut peer = Client::upgrade(&stage);
            let request = format!("{{\"protocol\":\"{protocol}\",\"version\":1}}\x1e");
            peer.send(data, request.as_bytes());
            let server = &mut servers[0];
            let id = match read(&server.next().unwrap()) {
                Message::OpenConnection(open) => {
                    assert_eq!(open.protocol.as_deref(), Some(protocol));
                    open.connection_id.into_owned()
                }
                other => panic!("{other:?}"),
            };
            let handshake = (id.clone(), request.into_bytes());
            assert_eq!(server.next_data(), handshake);
            server.send_to(&id, ACCEPTED);
            expect_raw(&mut peer.stream, &[&[opcode, 3], ACCEPTED].concat());
            peer.send(data, b"up");
            assert_eq!(server.next_data(), (id.clone(), b"up".to_vec()));
            server.send_to(&id, b"\x02\x91\x06");
            expect_raw(&mut peer.stream, &[opcode, 3, 0x02, 0x91, 0x06]);
            peer.close(CloseCode::Normal);
            let closed = server.next().unwrap();
            assert!(matches!(read(&closed), Message::CloseConnection(_)));
        }
    }
}

#[test]
fn frames_have_nothing_to_do_with_hub_messages() {
    let stage = Stage::new(1);
    let mut servers = AppServer::connect_all(&stage, 1);
    let mut peer = Client::upgrade(&stage);
    // A ping between the fragments of a message is answered before that has ended.
    let [first, second, third] = HANDSHAKE_FRAGMENTS.map(bytes);
    peer.send_raw(&[first, bytes(PING_HI)].concat());
    assert_eq!(peer.hear(), Heard::Pong(b"hi".to_vec()));
    peer.send_raw(&[second, third].concat());
    let (_, id) = accept(&mut servers);
    assert_eq!(peer.hear(), Heard::Bytes(ACCEPTED.to_vec()));

    let invocation = "{\"type\":1,\"target\":\"é中\",\"arguments\":[\"\\u001eb\"]}\x1e".as_bytes();
    let (head, tail) = invocation.split_at(21);
    assert_eq!(tail[0], 0xa9, "inside of é");
    let pings = b"{\"type\":6}\x1e".repeat(500);
    let long = vec![b'x'; 40_000];
    let messages = [
        // One character in two messages, which only binary ones may do, and in two frames of one text.
        frame(Data::Binary, true, head),
        frame(Data::Binary, true, tail),
        frame(Data::Text, false, head),
        frame(Data::Continue, true, tail),
        frame(Data::Text, true, b""),
        frame(Data::Text, true, &pings),
        fragments(&long, 4096),
    ];
    peer.send_raw(&messages.concat());
    let expected = [invocation, invocation, &pings, &long].concat();
    let mut data = Vec::new();
    while data.len() < expected.len() {
        let (from, piece) = servers[0].next_data();
        assert_eq!(from, id);
        assert!(!piece.is_empty(), "an empty message is not passed on");
        data.extend_from_slice(&piece);
    }
    assert!(data == expected);
}

/// One text message in frames of so many bytes.
fn fragments(payload: &[u8], frame_bytes: usize) -> Vec<u8> {
    let count = payload.chunks(frame_bytes).count();
    let mut frames = Vec::new();
    for (index, part) in payload.chunks(frame_bytes).enumerate() {
        let data = if index == 0 {
            Data::Text
        } else {
            Data::Continue
        };
        frames.extend_from_slice(&frame(data, index + 1 == count, part));
    }
    frames
}

/// The head of the answer, and its body as far as it comes with it.
fn answer_to(mut stream: TcpStream, request: &str) -> String {
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.write_all(request.as_bytes()).unwrap();
    let mut answer = Vec::new();
    let mut buffer = [0; 1024];
    while !answer.windows(4).any(|end| end == b"\r\n\r\n") {
        let bytes = read_some(&mut stream, &mut buffer);
        assert_ne!(bytes, 0, "no answer to {request}");
        answer.extend_from_slice(&buffer[..bytes]);
    }
    String::from_utf8(answer).unwrap()
}

/// The next bytes are these.
pub(crate) fn expect_raw(stream: &mut TcpStream, expected: &[u8]) {
    let mut received = vec![0; expected.len()];
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.read_exact(&mut received).unwrap();
    assert!(
        received == expected,
        "{:02x?} instead of {:02x?}",
        &received[..received.len().min(20)],
        &expected[..expected.len().min(20)]
    );
}

fn bytes(hex: &str) -> Vec<u8> {
    (0..hex.len())
        .step_by(2)
        .map(|at| u8::from_str_radix(&hex[at..at + 2], 16).unwrap())
        .collect()
}

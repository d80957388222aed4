//! What an app server sends that is no message: it costs that message, or the server connection, and never the process or anybody
//! else's connection. What messages say that cannot be is looked at in the router's own tests.

use hubring::frame::websocket::Data;
use hubring::limits::SERVICE_MESSAGE_BYTES_MAX;
use hubring::protocol::service::{AckStatus, JoinGroupWithAck, Message};

use crate::peers::{AppServer, Client, Heard, Peer, connection_data, frame, read};
use crate::stage::Stage;

/// An empty ping, with its length.
const PING: &[u8] = &[0x02, 0x91, 0x03];

/// A service with an app server that behaves, and its client.
struct Neighbours {
    stage: Stage,
    servers: Vec<AppServer>,
    client: Client,
}

impl Neighbours {
    fn new() -> Self {
        Self::on(Stage::new(1))
    }

    fn on(stage: Stage) -> Self {
        let mut servers = AppServer::connect_all(&stage, 1);
        let (client, _) = Client::connect(&stage, &mut servers);
        Self {
            stage,
            servers,
            client,
        }
    }

    /// A message of the client comes back to it.
    fn assert_unharmed(&mut self) {
        self.client.send("there");
        let (id, data) = self.servers[0].next_data();
        assert_eq!((&*id, &*data), (&*self.client.id, &b"there"[..]));
        self.servers[0].send_to(&id, b"and back\x1e");
        self.client.expect(b"and back\x1e");
    }

    /// The server connection is read on: what it asks is answered.
    fn assert_served(&self, server: &mut AppServer) {
        let join = JoinGroupWithAck {
            connection_id: (&*self.client.id).into(),
            group: "g".into(),
            ack_id: 5,
            ..JoinGroupWithAck::default()
        };
        server.send(&join.into());
        match read(&server.next().unwrap()) {
            Message::Ack(ack) => assert_eq!((ack.ack_id, ack.status), (5, AckStatus::Ok)),
            other => panic!("no ack: {other:?}"),
        }
    }
}

#[test]
fn messages_that_cannot_be_read_cost_only_themselves() {
    let mut neighbours = Neighbours::new();
    let mut bad = AppServer::connect(&neighbours.stage, "bad");
    let malformed: [&[u8]; 9] = [
        b"",
        b"\x90",
        b"\xc0",
        b"\x91\xa1x",
        b"\x91\x0b",
        b"\x93\x0b\xa2\xff\xfe\xa1g",
        b"\x93\x0a\xc0\x80",
        b"\x93\x0a\xdd\xff\xff\xff\xff",
        b"\xdd\xff\xff\xff\xff\x03",
    ];
    let mut messages = Vec::new();
    for message in malformed {
        messages.push(message.len() as u8);
        messages.extend_from_slice(message);
    }
    bad.peer.send(Data::Binary, &messages);
    neighbours.assert_served(&mut bad);
    let count = |name: u64, counted: u64| assert_eq!(name, counted);
    let counters = &neighbours.stage;
    count(counters.sum(|all| &all.service_messages_malformed), 9);
    count(counters.sum(|all| &all.protocol_errors), 0);
    neighbours.assert_unharmed();
}

#[test]
fn a_length_that_cannot_be_costs_the_connection_and_what_came_before_it_counts() {
    let mut neighbours = Neighbours::new();
    let too_long = SERVICE_MESSAGE_BYTES_MAX + 1;
    let lengths: [&[u8]; 5] = [
        b"\xff\xff\xff\xff\x07",
        b"\xff\xff\xff\xff\x0f",
        b"\xff\xff\xff\xff\xff\x01",
        b"\x80\x80\x80\x80\x80\x00",
        &[0x80 | (too_long & 0x7f) as u8, 0x80, 0x80, 0x20],
    ];
    for (count, length) in (1..).zip(lengths) {
        let mut bad = AppServer::connect(&neighbours.stage, "bad");
        let mut bytes = connection_data(&neighbours.client.id, b"before\x1e");
        bytes.extend_from_slice(length);
        // In the same frame and in later ones: as messages, and as more of such lengths.
        let behind = connection_data(&neighbours.client.id, b"behind\x1e");
        bytes.extend_from_slice(&behind);
        bytes.extend_from_slice(&length.repeat(100));
        bad.peer.send(Data::Binary, &bytes);
        bad.peer.send(Data::Binary, &behind);
        bad.peer.send(Data::Binary, &length.repeat(100));
        let message = bad.next().unwrap();
        assert!(matches!(read(&message), Message::ServiceError(_)));
        assert_eq!(bad.peer.hear(), Heard::Close(1000));
        neighbours.client.expect(b"before\x1e");
        neighbours.assert_unharmed();
        let faults = neighbours.stage.sum(|all| &all.protocol_errors);
        assert_eq!(faults, count, "each counts once");
    }
}

#[test]
fn what_comes_in_place_of_a_handshake_request_is_refused_with_an_answer() {
    let mut neighbours = Neighbours::new();
    let join = {
        let mut bytes = Vec::new();
        Message::<&[u8]>::from(JoinGroupWithAck::default()).encode(&mut bytes);
        bytes
    };
    let first: [&[u8]; 5] = [PING, &join, b"\x01\xc0", b"\x00", b"\x02\x91\x4d"];
    for bytes in first {
        let request = neighbours.stage.server_request("early");
        let mut peer = Peer::upgrade(&neighbours.stage, request, &[]).unwrap();
        peer.send(Data::Binary, bytes);
        let Heard::Bytes(answer) = peer.hear() else {
            panic!("no answer to {bytes:02x?}");
        };
        match read(&answer[1..]) {
            Message::HandshakeResponse(response) => assert_ne!(response.error_message, ""),
            other => panic!("{other:?}"),
        }
        assert_eq!(peer.hear(), Heard::Close(1000));
    }
    let failed = neighbours.stage.sum(|all| &all.handshakes_failed);
    assert_eq!(failed, first.len() as u64);
    neighbours.assert_unharmed();
}

/// The kind of a WebSocket message means nothing, nor does how the bytes are spread over frames.
#[test]
fn text_frames_empty_frames_and_single_bytes_are_read_like_any() {
    let mut neighbours = Neighbours::new();
    let mut odd = AppServer::connect(&neighbours.stage, "odd");
    let payload = [b"\xff\xfe", "all the same\x1e".as_bytes()].concat();
    let message = connection_data(&neighbours.client.id, &payload);
    odd.peer.send(Data::Text, &message);
    neighbours.client.expect(&payload);
    let mut frames = Vec::new();
    for byte in &message {
        frames.extend_from_slice(&frame(Data::Text, true, &[]));
        frames.extend_from_slice(&frame(Data::Binary, false, &[*byte]));
        frames.extend_from_slice(&frame(Data::Continue, true, &[]));
    }
    odd.peer.send_raw(&frames);
    neighbours.client.expect(&payload);
    neighbours.assert_served(&mut odd);
    neighbours.assert_unharmed();
}

#[test]
fn a_hundred_thousand_tiny_messages_in_one_hold_nobody_up_and_leave_nothing_behind() {
    const MESSAGES: usize = 100_000;
    let mut neighbours = Neighbours::new();
    let mut flooding = AppServer::connect(&neighbours.stage, "flooding");
    let status = [&b"\x0b\x93\x03"[..], b"\xa6status\xa11"].concat();
    let floods = [
        PING.repeat(MESSAGES),
        // Messages without a byte, of an unknown type, and questions.
        vec![0; MESSAGES],
        b"\x02\x91\x4d".repeat(MESSAGES),
        status.repeat(MESSAGES / 10),
    ];
    let before = neighbours.stage.sum(|all| &all.service_messages);
    for flood in &floods {
        std::thread::scope(|scope| {
            let peer = &mut flooding.peer;
            scope.spawn(|| peer.send(Data::Binary, flood));
            for _ in 0..20 {
                neighbours.assert_unharmed();
            }
        });
    }
    neighbours.assert_served(&mut flooding);
    let stage = &neighbours.stage;
    let answered = stage.sum(|all| &all.service_messages) - before;
    assert!(answered >= (3 * MESSAGES + MESSAGES / 10) as u64);
    let malformed = stage.sum(|all| &all.service_messages_malformed);
    let skipped = stage.sum(|all| &all.service_messages_skipped);
    assert_eq!((malformed, skipped), (MESSAGES as u64, MESSAGES as u64));
    assert_eq!(stage.sum(|all| &all.protocol_errors), 0);
}

/// The longest message there may be, made of nothing but the shortest strings: 24 bytes of memory for each byte on the wire, if each
/// were kept.
#[test]
fn a_message_of_millions_of_elements_costs_no_more_memory_than_its_bytes() {
    const HEAD: &[u8] = b"\x93\x0a\xdd";
    let mut neighbours = Neighbours::on(Stage::of_process(1));
    let mut bad = AppServer::connect(&neighbours.stage, "bad");
    let before = neighbours.stage.peak_bytes();
    let strings = SERVICE_MESSAGE_BYTES_MAX - HEAD.len() - 4;
    let mut bytes = vec![0x80, 0x80, 0x80, 0x20];
    bytes.extend_from_slice(HEAD);
    bytes.extend_from_slice(&(strings as u32).to_be_bytes());
    bytes.resize(bytes.len() + strings, 0xa0);
    for _ in 0..3 {
        bad.peer.send(Data::Binary, &bytes);
        neighbours.assert_served(&mut bad);
        neighbours.assert_unharmed();
    }
    let grown = neighbours.stage.peak_bytes() - before;
    assert!(
        grown < 4 * SERVICE_MESSAGE_BYTES_MAX,
        "{grown} bytes were taken for it"
    );
}

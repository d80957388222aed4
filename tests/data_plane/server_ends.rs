//! No server connection is closed for a cause without a word, and none takes longer over it than it may.

use std::io::Write as _;
use std::time::{Duration, Instant};

use hubring::frame::websocket::{Data, OpCode, header};
use hubring::limits::{CLOSE_TIMEOUT, SERVER_OUTBOX_BYTES_MAX, SERVER_SILENCE_MAX};
use hubring::protocol::service::{ClientInvocation, Message, Payloads};

use crate::peers::{AppServer, Client, Heard, MASK, Peer, frame, read};
use crate::stage::{Stage, until};

/// Both say nothing. One of them does not even read, and more waits for it than its socket takes.
#[test]
fn a_silent_app_server_is_found_whether_or_not_it_reads() {
    let stage = Stage::new(2);
    let mut servers = AppServer::connect_all(&stage, 2);
    let started = Instant::now();
    let (mut one, hung) = Client::connect(&stage, &mut servers);
    let (mut other, _) = Client::connect(&stage, &mut servers);
    one.peer
        .stream
        .set_write_timeout(Some(Duration::from_millis(500)))
        .unwrap();
    let flood = frame(Data::Text, true, &vec![b'z'; 1_000_000]);
    while one.peer.stream.write_all(&flood).is_ok() {}
    let mut reading = servers.remove(1 - hung);
    let message = reading
        .next_within(2 * SERVER_SILENCE_MAX)
        .unwrap()
        .unwrap();
    assert!(matches!(read(&message), Message::ServiceError(_)));
    assert_eq!(reading.peer.hear(), Heard::Close(1000));
    assert!(started.elapsed() >= SERVER_SILENCE_MAX);
    // The service has stopped reading in the middle of what the flooded client wrote.
    let close = b"{\"type\":7,\"allowReconnect\":true}\x1e";
    for client in [&mut one, &mut other] {
        client.expect(close);
        assert_eq!(client.peer.hear(), Heard::Close(1000));
    }
    let closed = Instant::now();
    stage.until("silent servers", 2, |counters| &counters.silent_servers);
    drop((one, other, reading));
    until("the hung one's socket to be closed", || {
        stage.socket_count() == 2
    });
    let took = closed.elapsed();
    assert!(took < CLOSE_TIMEOUT + Duration::from_secs(2), "{took:?}");
    drop(servers);
}

/// It asks again and again, and never takes an answer.
#[test]
fn an_app_server_for_which_too_much_waits_is_given_up_with_its_clients() {
    let stage = Stage::new(1);
    let mut servers = AppServer::connect_all(&stage, 1);
    let (mut client, _) = Client::connect(&stage, &mut servers);
    let mut invocation = Vec::new();
    let unknown = ClientInvocation {
        invocation_id: "x".repeat(60_000).into(),
        connection_id: "nobody".into(),
        caller_server_id: "app".into(),
        payloads: Payloads::default(),
        tracing_id: None,
    };
    Message::<&[u8]>::from(unknown).encode(&mut invocation);
    let question = frame(Data::Binary, true, &invocation.repeat(10));
    let most = 2 * SERVER_OUTBOX_BYTES_MAX / question.len();
    let mut asked = 0;
    while stage.sum(|counters| &counters.servers_too_far_behind) == 0 {
        asked += 1;
        assert!(asked < most, "the answers are hoarded");
        if servers[0].peer.stream.write_all(&question).is_err() {
            break;
        }
    }
    assert_eq!(client.peer.hear_end().0, Some(1000));
    // What the kernel had been given comes still; then the word that says why, with nothing of the rest before it.
    let mut taken = 0;
    let error = loop {
        let Some(message) = servers[0].next() else {
            panic!("it ended without a word");
        };
        match read(&message) {
            Message::ErrorCompletion(_) => taken += message.len(),
            Message::ServiceError(error) => break error.error_message.into_owned(),
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(error, "The app server does not take what its clients send.");
    assert!(taken < SERVER_OUTBOX_BYTES_MAX, "{taken} bytes");
    assert_eq!(servers[0].peer.hear(), Heard::Close(1000));
}

#[test]
fn before_the_handshake_response_a_fault_is_a_refusal() {
    let stage = Stage::new(1);
    let too_long = header(OpCode::Data(Data::Binary), true, 1 << 62, Some(MASK)).to_vec();
    let text_ping = vec![0x89, 0xfe, 0, 126, 0, 0, 0, 0];
    let impossible = frame(Data::Binary, true, &[0xff, 0xff, 0xff, 0xff, 0x7f]);
    for bytes in [too_long, text_ping, impossible] {
        let request = stage.server_request("bad");
        let mut peer = Peer::upgrade(&stage, request, &bytes).unwrap();
        let Heard::Bytes(answer) = peer.hear() else {
            panic!("an answer to the handshake");
        };
        let Message::HandshakeResponse(response) = read(&answer[1..]) else {
            panic!("{answer:?}");
        };
        assert_ne!(response.error_message, "");
        assert_eq!(peer.hear(), Heard::Close(1000));
    }
}

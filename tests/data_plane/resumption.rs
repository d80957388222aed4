//! A socket may take the place of another only if it is who it says, and is refused before it is upgraded if not.

use std::io::{Read as _, Write as _};
use std::net::{Shutdown, TcpStream};

use hubring::frame::websocket::{CloseCode, Data};
use hubring::protocol::service::Message;

use crate::peers::{ACCEPTED, AppServer, Heard, Peer, read};
use crate::stage::{PATIENCE, Stage};

const HELLO: &[u8] = b"{\"protocol\":\"json\",\"version\":2}\x1e";
const PING: &[u8] = b"{\"type\":6}\x1e";
const CALL: &[u8] = b"{\"type\":1,\"target\":\"x\",\"arguments\":[]}\x1e";

#[test]
fn a_client_goes_on_on_any_shard_whatever_became_of_its_socket() {
    let stage = Stage::new(2);
    let mut server = AppServer::connect_stateful(&stage);
    let sockets = stage.socket_count();
    let ways: [fn(Peer) -> Option<Peer>; 5] = [
        |peer| {
            peer.reset();
            None
        },
        |peer| {
            peer.shutdown(Shutdown::Both);
            None
        },
        |mut peer| {
            peer.close(CloseCode::Normal);
            None
        },
        |mut peer| {
            peer.send_raw(b"\x81");
            peer.reset();
            None
        },
        // Still there.
        Some,
    ];
    for (round, way) in ways.iter().cycle().take(20).enumerate() {
        let (mut client, id, request) = connect(&stage, &mut server);
        client.send(Data::Text, CALL);
        assert_eq!(server.next_data().1, CALL);
        let old = way(client);
        if old.is_none() && round % 2 == 0 {
            stage.until("clients away", 1, |counters| &counters.clients_away);
        }
        server.send_to(&id, CALL);
        let mut client = Peer::upgrade(&stage, request.clone(), &[]).unwrap();
        let first = text(&mut client);
        assert!(
            first.starts_with("{\"type\":9,\"sequenceId\":1}\u{1e}"),
            "{first}"
        );
        client.send(
            Data::Text,
            &[b"{\"type\":9,\"sequenceId\":1}\x1e", CALL, PING].concat(),
        );
        assert_eq!(server.next_data().1, PING, "the call has been here before");
        if let Some(mut old) = old {
            assert!(matches!(old.hear_end().1, Heard::End | Heard::Reset));
        }
        client.send(Data::Text, b"{\"type\":7}\x1e");
        server.next_data();
        client.reset();
        expect_end_of(&mut server, &id);
        assert_eq!(Peer::upgrade(&stage, request, &[]).err(), Some(404));
    }
    stage.until("clients", 0, |counters| &counters.client_connections);
    stage.until("clients away", 0, |counters| &counters.clients_away);
    crate::stage::until("sockets to be closed", || stage.socket_count() == sockets);
}

#[test]
fn a_page_that_is_left_does_not_come_back() {
    let stage = Stage::new(1);
    let mut server = AppServer::connect_stateful(&stage);
    let (mut client, id, request) = connect(&stage, &mut server);
    client.close(CloseCode::Away);
    expect_end_of(&mut server, &id);
    assert_eq!(Peer::upgrade(&stage, request, &[]).err(), Some(404));
}

#[test]
fn a_client_that_its_hub_lets_go_is_refused_before_the_upgrade() {
    let stage = Stage::new(1);
    let mut server = AppServer::connect_stateful(&stage);
    let (mut client, id, request) = connect(&stage, &mut server);
    server.send_to(&id, b"{\"type\":7,\"allowReconnect\":true}\x1e");
    assert!(text(&mut client).starts_with("{\"type\":7"));
    client.reset();
    expect_end_of(&mut server, &id);
    for _ in 0..3 {
        assert_eq!(Peer::upgrade(&stage, request.clone(), &[]).err(), Some(404));
    }
}

#[test]
fn a_client_without_state_is_in_use() {
    let stage = Stage::new(1);
    let mut server = AppServer::connect_stateful(&stage);
    let request = negotiate(&stage);
    let mut client = Peer::upgrade(&stage, request.clone(), &[]).unwrap();
    assert_eq!(
        Peer::upgrade(&stage, request.clone(), &[]).err(),
        Some(404),
        "it has said nothing yet"
    );
    client.send(Data::Text, b"{\"protocol\":\"json\",\"version\":1}\x1e");
    accept(&mut server);
    assert_eq!(client.hear(), Heard::Bytes(ACCEPTED.to_vec()));
    assert_eq!(Peer::upgrade(&stage, request, &[]).err(), Some(409));
    client.send(Data::Text, CALL);
    assert_eq!(server.next_data().1, CALL, "nothing has happened to it");
}

#[test]
fn where_it_is_switched_off_it_is_not_promised() {
    let stage = Stage::with(1, |config| config.stateful_reconnect = false);
    let _server = AppServer::connect_stateful(&stage);
    assert!(!negotiated(&stage).contains("useStatefulReconnect"));
    let stage = Stage::new(1);
    let _server = AppServer::connect(&stage, "ordinary");
    assert!(!negotiated(&stage).contains("useStatefulReconnect"));
}

/// A client whose handshake is through and who counts, with the request that it may resume with.
fn connect(stage: &Stage, server: &mut AppServer) -> (Peer, String, (String, String)) {
    let request = negotiate(stage);
    let mut client = Peer::upgrade(stage, request.clone(), &[]).unwrap();
    client.send(Data::Text, HELLO);
    let id = accept(server);
    assert_eq!(client.hear(), Heard::Bytes(ACCEPTED.to_vec()));
    client.send(Data::Text, PING);
    assert_eq!(server.next_data().1, PING);
    (client, id, request)
}

/// Accepts the next client, whatever it has said. Its id.
fn accept(server: &mut AppServer) -> String {
    let message = server.next().unwrap();
    assert!(matches!(read(&message), Message::OpenConnection(_)));
    let (id, _) = server.next_data();
    server.send_to(&id, ACCEPTED);
    id
}

fn expect_end_of(server: &mut AppServer, id: &str) {
    let message = server.next().unwrap();
    match read(&message) {
        Message::CloseConnection(close) => assert_eq!(close.connection_id, id),
        other => panic!("no end: {other:?}"),
    }
}

fn negotiate(stage: &Stage) -> (String, String) {
    let answer = negotiated(stage);
    assert!(
        answer.contains("{\"useStatefulReconnect\":true,\"negotiateVersion\":1,"),
        "{answer}"
    );
    let (_, rest) = answer.split_once("\"connectionToken\":\"").unwrap();
    let (connection_token, _) = rest.split_once('"').unwrap();
    let (target, token) = stage.client_request();
    (
        format!("{target}&useStatefulReconnect=true&id={connection_token}"),
        token,
    )
}

fn negotiated(stage: &Stage) -> String {
    let (target, token) = stage.client_request();
    let (_, query) = target.split_once('?').unwrap();
    let target = format!("/client/negotiate?{query}&negotiateVersion=1&useStatefulReconnect=true");
    let request = format!(
        "POST {target} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Length: 0\r\nAuthorization: Bearer {token}\r\n\r\n"
    );
    let mut stream = TcpStream::connect(stage.address).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.write_all(request.as_bytes()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer
}

fn text(peer: &mut Peer) -> String {
    match peer.hear() {
        Heard::Bytes(bytes) => String::from_utf8(bytes).unwrap(),
        other => panic!("no text: {other:?}"),
    }
}

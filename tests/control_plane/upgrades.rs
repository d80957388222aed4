//! A connection that has carried requests may become a WebSocket, with all that has been sent ahead.

use hubring::frame::websocket::Data;

use crate::http::{Http, NOTHING, field, negotiate};
use crate::peers::{ACCEPTED, AppServer, HANDSHAKE, Heard, Peer, accept, frame, head};
use crate::stage::{Stage, until};

/// The request that uses what negotiate has promised.
fn upgrade(stage: &Stage, token: &str) -> String {
    let (target, access_token) = stage.client_request();
    head(&format!("{target}&id={token}"), &access_token)
}

#[test]
fn a_client_upgrades_the_connection_on_which_it_has_negotiated() {
    let stage = Stage::new(2);
    let mut servers = AppServer::connect_all(&stage, 2);
    for round in 0..10 {
        let mut http = Http::connect(&stage);
        let answer = http.ask(negotiate(&stage));
        let mut request = upgrade(&stage, &field(&answer, "connectionToken")).into_bytes();
        // In a hurry, every second time.
        let is_early = round % 2 == 0;
        if is_early {
            request.extend(frame(Data::Text, true, HANDSHAKE));
        }
        http.send(&request);
        let mut peer = Peer::upgraded(http.stream).unwrap();
        if !is_early {
            peer.send(Data::Text, HANDSHAKE);
        }
        let (index, id) = accept(&mut servers);
        assert_eq!(id, field(&answer, "connectionId"));
        assert_eq!(peer.hear(), Heard::Bytes(ACCEPTED.to_vec()));
        peer.send(Data::Text, b"there");
        assert_eq!(servers[index].next_data(), (id.clone(), b"there".to_vec()));
        servers[index].send_to(&id, b"back\x1e");
        assert_eq!(peer.hear(), Heard::Bytes(b"back\x1e".to_vec()));
    }
    assert_eq!(stage.sum(|all| &all.handed_back), 10);
    assert_eq!(stage.sum(|all| &all.accepted), 12);
}

/// More than is read ahead at once, sent before any answer.
#[test]
fn nothing_is_lost_of_what_is_sent_with_the_requests() {
    let stage = Stage::new(1);
    let mut servers = AppServer::connect_all(&stage, 1);
    let token = field(
        &Http::connect(&stage).ask(negotiate(&stage)),
        "connectionToken",
    );
    let said = vec![b'x'; 12_000];
    let mut all = NOTHING.repeat(50).into_bytes();
    all.extend(upgrade(&stage, &token).into_bytes());
    all.extend(frame(Data::Text, true, HANDSHAKE));
    all.extend(frame(Data::Text, true, &said));
    let mut http = Http::connect(&stage);
    http.send(&all);
    for _ in 0..50 {
        assert_eq!(http.answer().status, 404);
    }
    let (_, id) = accept(&mut servers);
    let mut heard = Vec::new();
    while heard.len() < said.len() {
        let (from, data) = servers[0].next_data();
        assert_eq!(from, id);
        heard.extend(data);
    }
    assert!(heard == said);
}

#[test]
fn a_server_connection_may_come_that_way_too() {
    let stage = Stage::new(1);
    let mut http = Http::connect(&stage);
    assert_eq!(http.ask(NOTHING).status, 404);
    let (target, token) = stage.server_request("late");
    http.send(head(&target, &token));
    let _peer = Peer::upgraded(http.stream).unwrap();
    until("the server connection", || {
        stage.server_connections() == [["late"]]
    });
}

#[test]
fn an_upgrade_that_is_refused_ends_the_connection() {
    let stage = Stage::new(1);
    let (target, _) = stage.client_request();
    for (request, status) in [
        (head(&target, "no token"), 401),
        (upgrade(&stage, "unknown"), 404),
    ] {
        let mut http = Http::connect(&stage);
        assert_eq!(http.ask(NOTHING).status, 404);
        http.send(request.clone() + NOTHING);
        let answer = http.answer();
        assert_eq!(answer.status, status);
        assert!(answer.head.contains("connection: close"), "{answer:?}");
    }
    until("sockets to be closed", || stage.socket_count() == 1);
}

/// The connection counts as one, wherever it is.
#[test]
fn the_last_connection_that_there_may_be_can_be_upgraded() {
    let stage = Stage::with(1, |config| config.connections_max = Some(1));
    for _ in 0..3 {
        let mut http = Http::connect(&stage);
        let token = field(&http.ask(negotiate(&stage)), "connectionToken");
        http.send(upgrade(&stage, &token));
        assert!(Peer::upgraded(http.stream).is_ok());
        until("the socket to be closed", || stage.socket_count() == 1);
    }
}

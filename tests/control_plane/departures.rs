//! A peer that goes while its answer is pending is gone at once: what the answer was for ends with it.

use std::net::Shutdown;
use std::time::{Duration, Instant};

use hubring::protocol::service::Message;

use crate::http::{Http, field, negotiate};
use crate::peers::{AppServer, HANDSHAKE, accept, read};
use crate::stage::Stage;

/// The stream of a client on Server-Sent Events, on the connection on which it has negotiated. With its connection id.
fn stream(stage: &Stage, servers: &mut [AppServer]) -> (Http, String) {
    let mut http = Http::connect(stage);
    let answer = http.ask(negotiate(stage));
    let (target, token) = stage.client_request();
    let id = field(&answer, "connectionToken");
    let opened = http.ask(format!(
        "GET {target}&id={id} HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {token}\r\nAccept: text/event-stream\r\n\r\n"
    ));
    assert_eq!(opened.status, 200, "{opened:?}");
    http.expect("3\r\n:\r\n\r\n");
    let bytes = HANDSHAKE.len();
    let head = format!(
        "POST {target}&id={id} HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {token}\r\nContent-Length: {bytes}\r\n\r\n"
    );
    let sent = Http::connect(stage).ask([head.as_bytes(), HANDSHAKE].concat());
    assert_eq!(sent.status, 200, "{sent:?}");
    let (_, id) = accept(servers);
    (http, id)
}

#[test]
fn a_stream_that_nobody_listens_to_any_more_ends() {
    let stage = Stage::new(1);
    let mut servers = AppServer::connect_all(&stage, 1);
    for how in [Shutdown::Both, Shutdown::Write] {
        let (http, id) = stream(&stage, &mut servers);
        let left = Instant::now();
        http.stream.shutdown(how).unwrap();
        match read(&servers[0].next().unwrap()) {
            Message::CloseConnection(close) => assert_eq!(close.connection_id, id),
            other => panic!("{other:?}"),
        }
        assert!(left.elapsed() < Duration::from_secs(5), "at once");
    }
    // One that is reset.
    let (http, id) = stream(&stage, &mut servers);
    let socket = socket2::SockRef::from(&http.stream);
    socket.set_linger(Some(Duration::ZERO)).unwrap();
    drop(http);
    match read(&servers[0].next().unwrap()) {
        Message::CloseConnection(close) => assert_eq!(close.connection_id, id),
        other => panic!("{other:?}"),
    }
}

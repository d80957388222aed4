//! How server connections come up, go down and come back, and what clients are told when they negotiate.

use std::collections::HashSet;
use std::net::SocketAddr;
use std::time::Instant;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use super::*;
use crate::id::HubName;
use crate::protocol::access_token::{AccessKeys, Audience};
use crate::protocol::connection_string::AccessKey;
use crate::protocol::hub::message::Value;
use crate::protocol::service::Ping;

#[tokio::test]
async fn all_server_connections_come_up_with_the_headers_of_the_sdk() {
    let service = Service::start().await;
    let running = service.app_server(3);
    let mut links = Vec::new();
    for _ in 0..3 {
        links.push(service.accept_and_shake_hands().await);
    }
    let urls: HashSet<&str> = links.iter().map(|link| link.url.as_str()).collect();
    assert_eq!(urls.len(), 3, "each has an id of its own");
    let server_id = &running.app_server.hubs[0].process.server_id;
    for link in &links {
        assert!(link.url.starts_with("/server/?hub=chat&cid="));
        let header = |wanted: &str| {
            let header = link.headers.iter().find(|(name, _)| name == wanted);
            header.map_or("", |(_, value)| value.as_str())
        };
        assert_eq!(header("x-asrs-server-id"), server_id);
        assert_eq!(header("x-requested-with"), "XMLHttpRequest");
        assert!(header("asrs-user-agent").starts_with("hubring/"));
        let token = header("authorization").strip_prefix("Bearer ").unwrap();
        let keys = AccessKeys::new([&AccessKey::parse("key").unwrap()]);
        let hub = HubName::parse("chat").unwrap();
        let now = super::super::server_connection::unix_now();
        keys.validate(token, Audience::Server(&hub), now).unwrap();
    }
}

#[tokio::test]
async fn a_ping_is_answered_with_the_number_of_clients_but_not_more_often_than_every_5_seconds() {
    let service = Service::start().await;
    let _running = service.app_server(1);
    let mut link = service.accept_and_shake_hands().await;
    link.send_bytes(crate::protocol::service::KEEP_ALIVE_PING.to_vec())
        .await;
    let frame = link.next_frame().await.unwrap();
    let expected = Message::from(
        ["#clientInHub", "0", "#client", "0"]
            .into_iter()
            .collect::<Ping<'_>>(),
    );
    let mut bytes = Vec::new();
    expected.encode(&mut bytes);
    assert_eq!(frame, bytes);
    // An echo is answered at once all the same, and nothing comes before it.
    let echo: Ping<'_> = ["echo", "x"].into_iter().collect();
    link.send_bytes(crate::protocol::service::KEEP_ALIVE_PING.to_vec())
        .await;
    link.send(Message::from(echo.clone())).await;
    link.expect(Message::from(echo)).await;
}

#[tokio::test]
async fn a_lost_server_connection_ends_its_clients_and_comes_back_at_once() {
    let service = Service::start().await;
    let running = service.app_server(1);
    let mut link = service.accept_and_shake_hands().await;
    link.open("a", "json").await;
    assert_eq!(running.app_server.states()[0].clients, 1);
    let first_url = link.url.clone();
    // It must have lasted, or its end counts as a failure.
    tokio::time::sleep(super::super::back_off::BackOff::LASTING).await;
    drop(link);
    let lost = Instant::now();
    let link = service.accept_and_shake_hands().await;
    assert!(
        lost.elapsed() < Duration::from_millis(500),
        "after {:?}",
        lost.elapsed()
    );
    assert_ne!(link.url, first_url);
    assert_eq!(running.app_server.states()[0].clients, 0);
}

#[tokio::test]
async fn accept_then_drop_does_not_make_it_race() {
    let service = Service::start().await;
    let _running = service.app_server(1);
    let mut count = 0;
    let accept_and_drop = async {
        loop {
            drop(service.accept_and_shake_hands().await);
            count += 1;
        }
    };
    // At 0, 1 and 3 seconds or a little later.
    timeout(Duration::from_secs(4), accept_and_drop)
        .await
        .unwrap_err();
    assert!((2..=4).contains(&count), "{count} attempts");
}

#[tokio::test]
async fn a_refused_handshake_is_tried_again_later() {
    let service = Service::start().await;
    let _running = service.app_server(1);
    for _ in 0..2 {
        let mut link = service.accept().await;
        link.next_framed().await;
        let mut refusal = Vec::new();
        crate::protocol::service::write_handshake_response("not now", None, &mut refusal);
        link.send_bytes(refusal).await;
    }
    service.accept_and_shake_hands().await;
}

#[tokio::test]
async fn a_program_can_send_from_outside_of_a_method() {
    let service = Service::start().await;
    let running = service.app_server(1);
    let clients = running.app_server.clients("CHAT").unwrap();
    let message = || [Value::from("all"), Value::from("x")];
    assert_eq!(
        clients.all().send("recv", message()).await,
        Err(super::super::SendError::NoServerConnection)
    );
    let mut link = service.accept_and_shake_hands().await;
    while !running.app_server.states()[0].is_complete() {
        tokio::task::yield_now().await;
    }
    clients.all().send("recv", message()).await.unwrap();
    link.expect_hex("5f940a9082a46a736f6ec4337b2274797065223a312c22746172676574223a2272656376222c22617267756d656e7473223a5b22616c6c222c2278225d7d1eab6d6573736167657061636bc41211960180c0a47265637692a3616c6ca1789080").await;
    assert!(running.app_server.clients("other").is_none());
}

#[tokio::test]
async fn negotiating_redirects_once_a_server_connection_is_up() {
    let service = Service::start().await;
    let running = service.app_server(1);
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(axum::serve(listener, running.app_server.router()).into_future());
    let request = |line| request(address, line);

    let response = request("POST /chat/negotiate?negotiateVersion=1").await;
    assert!(response.starts_with("HTTP/1.1 500"));
    assert!(response.contains("access-control-allow-origin: http://page\r\n"));
    assert!(
        response.ends_with("Azure SignalR Service is not connected yet, please try again later.")
    );

    let _link = service.accept_and_shake_hands().await;
    while !running.app_server.states()[0].is_complete() {
        tokio::task::yield_now().await;
    }
    let response = request("POST /chat/negotiate?user=alice&negotiateVersion=1").await;
    assert!(response.starts_with("HTTP/1.1 200"), "{response}");
    let port = service.listener.local_addr().unwrap().port();
    let body = format!(
        r#"{{"negotiateVersion":0,"url":"http://127.0.0.1:{port}/client/?hub=chat&asrs.op=%2Fchat&user=alice&negotiateVersion=1&asrs_request_id="#
    );
    assert!(response.contains(&body), "{response}");
    let response = request("OPTIONS /chat/negotiate/").await;
    assert!(response.starts_with("HTTP/1.1 204"));
    assert!(response.contains("access-control-allow-credentials: true\r\n"));
}

/// What the app server answers to a client that wants to connect.
pub(super) async fn negotiate(app: SocketAddr) -> String {
    request(app, "POST /chat/negotiate?negotiateVersion=1").await
}

async fn request(address: SocketAddr, line: &str) -> String {
    let mut socket = TcpStream::connect(address).await.unwrap();
    let head = format!(
        "{line} HTTP/1.1\r\nHost: x\r\nOrigin: http://page\r\nConnection: close\r\nContent-Length: 0\r\n\r\n"
    );
    socket.write_all(head.as_bytes()).await.unwrap();
    let mut response = String::new();
    socket.read_to_string(&mut response).await.unwrap();
    response
}

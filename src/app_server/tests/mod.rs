//! The app server against a service that a test plays by hand.
//!
//! Setup: a listener in the test takes the app server's connections and speaks the service protocol message by message. What the
//! reference hub sends must equal, byte for byte, what Microsoft.Azure.SignalR 1.34.0 was recorded to send for the same calls.

mod clients;
mod connections;
mod endpoints;
mod flow;
mod migration;
mod on_demand;
mod requests;
mod results;
mod shutdown;

use std::time::Duration;

use bytes::{Buf as _, Bytes, BytesMut};
use futures_util::{SinkExt as _, StreamExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tokio_tungstenite::WebSocketStream;
use tungstenite::Message as WebSocketMessage;
use tungstenite::handshake::server::{Request, Response};

use super::reference::{ReferenceHub, claims_of};
use super::{AppServer, Builder, HubState};
use crate::frame::record::read_varint;
use crate::protocol::service::{
    Ack, AckStatus, CloseConnection, ConnectionData, DataMessageType, OpenConnection, Ping,
    decode_whole,
};

pub(super) type Message<'a> = crate::protocol::service::Message<'a, &'a [u8]>;

const A: &str = "clientA_00000000000000";
const B: &str = "clientB_00000000000000";

/// A service, its app server with one server connection, and the client A on it.
async fn with_client() -> (Service, Running, Link) {
    let service = Service::start().await;
    let running = service.app_server(1);
    let mut link = service.accept_and_shake_hands().await;
    link.open(A, "json").await;
    (service, running, link)
}

const PATIENCE: Duration = Duration::from_secs(20);

/// The service that a test plays.
struct Service {
    listener: TcpListener,
}

impl Service {
    async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        Self { listener }
    }

    fn connection_string(&self) -> String {
        let port = self.listener.local_addr().unwrap().port();
        format!("Endpoint=http://127.0.0.1;Port={port};AccessKey=key;Version=1.0;")
    }

    /// Starts an app server of the reference hub against this service.
    fn app_server(&self, server_connections: usize) -> Running {
        self.app_server_with(|builder| builder.server_connections(server_connections))
    }

    /// The same with one server connection, and whatever else is chosen.
    fn app_server_with(&self, choose: impl FnOnce(Builder) -> Builder) -> Running {
        let builder = AppServer::builder(&self.connection_string())
            .hub("Chat", "/chat", ReferenceHub::default())
            .claims(claims_of)
            .server_connections(1)
            .detailed_errors(true);
        let app_server = choose(builder).build().unwrap();
        let (stop, stopped) = oneshot::channel::<()>();
        let running = app_server.clone();
        let task = tokio::spawn(async move {
            running.run(async { drop(stopped.await) }).await;
        });
        Running {
            app_server,
            stop,
            task,
        }
    }

    /// Takes the next server connection, up to its upgrade.
    async fn accept(&self) -> Link {
        let (socket, _) = timeout(PATIENCE, self.listener.accept())
            .await
            .expect("a server connection")
            .unwrap();
        let (mut url, mut headers) = (String::new(), Vec::new());
        #[expect(clippy::result_large_err, reason = "the type is the library's")]
        let look = |request: &Request, response: Response| {
            url = request.uri().to_string();
            for (name, value) in request.headers() {
                headers.push((name.to_string(), value.to_str().unwrap().to_owned()));
            }
            Ok(response)
        };
        let socket = tokio_tungstenite::accept_hdr_async(socket, look)
            .await
            .unwrap();
        Link {
            socket,
            buffer: BytesMut::new(),
            url,
            headers,
        }
    }

    /// Takes the next server connection, with its handshake.
    async fn accept_and_shake_hands(&self) -> Link {
        self.accept_and_expect("0897010100a00080c2").await
    }

    /// Takes the next server connection, whose handshake must be this.
    async fn accept_and_expect(&self, handshake: &str) -> Link {
        let mut link = self.accept().await;
        assert_eq!(hex(&link.next_framed().await), handshake);
        link.send(Message::HandshakeResponse(
            crate::protocol::service::HandshakeResponse::default(),
        ))
        .await;
        link
    }
}

impl Running {
    /// Waits until all server connections are known to be up.
    async fn is_complete(&self) {
        let is_complete = |state: &HubState| state.is_complete();
        while !self.app_server.states().iter().all(is_complete) {
            tokio::task::yield_now().await;
        }
    }

    /// Waits until the app server has so many clients.
    async fn has_clients(&self, count: usize) {
        let counted = async {
            while self.app_server.states()[0].clients != count {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        };
        timeout(PATIENCE, counted).await.expect("as many clients");
    }
}

struct Running {
    app_server: AppServer,
    stop: oneshot::Sender<()>,
    task: JoinHandle<()>,
}

/// A server connection from the service's end.
struct Link {
    socket: WebSocketStream<TcpStream>,
    buffer: BytesMut,
    url: String,
    headers: Vec<(String, String)>,
}

impl Link {
    async fn send(&mut self, message: Message<'_>) {
        let mut bytes = Vec::new();
        message.encode(&mut bytes);
        self.send_bytes(bytes).await;
    }

    async fn send_bytes(&mut self, bytes: Vec<u8>) {
        self.socket
            .send(WebSocketMessage::binary(bytes))
            .await
            .unwrap();
    }

    /// The next message that is no keep-alive, with its length prefix.
    async fn next_framed(&mut self) -> Bytes {
        loop {
            let frame = self.next_frame().await.expect("a message");
            if !is_keep_alive(&frame) {
                return frame;
            }
        }
    }

    /// The next message, with its length prefix; `None` when the app server has closed.
    async fn next_frame(&mut self) -> Option<Bytes> {
        loop {
            if let Ok(Some((length, prefix_bytes))) = read_varint(&self.buffer)
                && self.buffer.len() >= prefix_bytes + length as usize
            {
                return Some(
                    self.buffer
                        .split_to(prefix_bytes + length as usize)
                        .freeze(),
                );
            }
            let received = timeout(PATIENCE, self.socket.next())
                .await
                .expect("something in time");
            match received {
                Some(Ok(WebSocketMessage::Binary(bytes))) => self.buffer.extend_from_slice(&bytes),
                Some(Ok(WebSocketMessage::Close(frame))) => {
                    assert_eq!(frame.unwrap().code, 1000.into());
                    return None;
                }
                other => panic!("bytes or a close were expected: {other:?}"),
            }
        }
    }

    /// A client connects, and its hub handshake is answered.
    async fn open(&mut self, id: &str, protocol: &str) {
        self.announce(id, protocol).await;
        let request = format!("{{\"protocol\":\"{protocol}\",\"version\":1}}\u{1e}");
        self.client_sends(id, request.as_bytes()).await;
        let expected = ConnectionData {
            connection_id: id.into(),
            payload: &b"{}\x1e"[..],
            data_type: DataMessageType::Handshake,
            ..ConnectionData::default()
        };
        self.expect(Message::from(expected)).await;
        let hello = self.next_framed().await;
        assert!(
            hello.windows(5).any(|part| part == b"hello"),
            "the hub greets"
        );
    }

    /// A client connects; it has not sent anything yet.
    async fn announce(&mut self, id: &str, protocol: &str) {
        self.send(Message::from(OpenConnection {
            connection_id: id.into(),
            claims: vec![("role".into(), "a".into())],
            query_string: "?hub=chat".into(),
            protocol: Some(protocol.into()),
            ..OpenConnection::default()
        }))
        .await;
    }

    async fn client_sends(&mut self, id: &str, payload: &[u8]) {
        self.send(Message::from(ConnectionData {
            connection_id: id.into(),
            payload,
            ..ConnectionData::default()
        }))
        .await;
    }

    async fn client_sends_json(&mut self, id: &str, json: &str) {
        self.client_sends(id, format!("{json}\u{1e}").as_bytes())
            .await;
    }

    async fn client_leaves(&mut self, id: &str) {
        self.send(Message::from(CloseConnection::of(id))).await;
    }

    async fn ping(&mut self, strings: &[&'static str]) {
        let ping: Ping<'_> = strings.iter().copied().collect();
        self.send(Message::from(ping)).await;
    }

    async fn acknowledge(&mut self, ack_id: i32, status: AckStatus) {
        self.send(Message::from(Ack {
            ack_id,
            status,
            ..Ack::default()
        }))
        .await;
    }

    /// The connection's own id, as its URL names it.
    fn cid(&self) -> String {
        let query = self.url.split_once("cid=").unwrap().1;
        query.split('&').next().unwrap().to_owned()
    }

    /// All that the app server had to say has come: an echo comes back, and nothing before it.
    async fn expect_nothing(&mut self) {
        let echo: Ping<'_> = ["echo", "nothing else"].into_iter().collect();
        self.send(Message::from(echo.clone())).await;
        self.expect(Message::from(echo)).await;
    }

    /// The app server closes in good order and says nothing more before.
    async fn expect_closed(mut self) {
        while let Some(frame) = self.next_frame().await {
            assert!(is_keep_alive(&frame), "got {}", text(&frame));
        }
    }

    async fn expect(&mut self, message: Message<'_>) {
        let mut expected = Vec::new();
        message.encode(&mut expected);
        self.expect_hex(&hex(&expected)).await;
    }

    async fn expect_hex(&mut self, expected: &str) {
        let frame = self.next_framed().await;
        assert_eq!(hex(&frame), expected, "got {}", text(&frame));
    }

    /// The app server sends this JSON to a client, answers and the like.
    async fn expect_json(&mut self, id: &str, data_type: DataMessageType, json: &str) {
        let payload = format!("{json}\u{1e}");
        let data = ConnectionData {
            connection_id: id.into(),
            payload: payload.as_bytes(),
            data_type,
            ..ConnectionData::default()
        };
        self.expect(Message::from(data)).await;
    }
}

fn is_keep_alive(frame: &[u8]) -> bool {
    frame.windows(12).any(|part| part == b"#clientInHub")
}

/// What a frame with its length prefix says, for whom a test fails.
fn text(frame: &Bytes) -> String {
    let mut body = frame.clone();
    if let Ok(Some((_, prefix_bytes))) = read_varint(frame) {
        body.advance(prefix_bytes);
    }
    let bytes = String::from_utf8_lossy(&body).into_owned();
    format!(
        "{:?} in {bytes:?}",
        decode_whole(&body).map(|message| message.message_type())
    )
}

fn hex(bytes: &[u8]) -> String {
    let digits = bytes.iter().map(|byte| format!("{byte:02x}"));
    digits.collect::<Vec<_>>().concat()
}

fn prefix_bytes(frame: &Bytes) -> usize {
    read_varint(frame).unwrap().unwrap().1
}

fn invocation_id(frame: &Bytes) -> String {
    match decode_whole(&frame[prefix_bytes(frame)..]) {
        Ok(Message::ClientInvocation(invocation)) => invocation.invocation_id.into_owned(),
        other => panic!("a question was expected: {other:?}"),
    }
}

//! The relay between real sockets: clients of this file, and an app server of the reference hub.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::net::SocketAddr;
use std::time::{Duration, SystemTime};

use futures_util::{SinkExt as _, StreamExt as _};
use hubring::app_server::reference::ReferenceHub;
use hubring::app_server::{AppServer, HubState};
use hubring::id::HubName;
use hubring::protocol::access_token::{Algorithm, Audience, TokenBuilder, UnixSeconds};
use hubring::protocol::connection_string::AccessKey;
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::{Builder, LocalOptions};
use tokio::sync::oneshot;
use tokio::time::{sleep, timeout};
use tokio_tungstenite::tungstenite::client::IntoClientRequest as _;
use tokio_tungstenite::tungstenite::http::HeaderValue;
use tokio_tungstenite::tungstenite::http::header::AUTHORIZATION;
use tokio_tungstenite::tungstenite::{self, Message};
use tokio_tungstenite::{WebSocketStream, client_async};

use crate::relay::Relay;

const KEY: &str = "the key of a test";
const PATIENCE: Duration = Duration::from_secs(20);

#[test]
fn a_client_is_answered_by_its_hub() {
    run(async |world| {
        let mut client = world.client("json", "ann").await;
        for bytes in [0, 2048, 300_000] {
            let text = "x".repeat(bytes);
            let completion = format!(r#"{{"type":3,"invocationId":"1","result":"{text}"}}"#);
            assert_eq!(client.call("Echo", &[&text]).await, completion);
        }
    });
}

#[test]
fn a_broadcast_reaches_all_in_their_own_language() {
    run(async |world| {
        let mut sender = world.client("json", "ann").await;
        let mut others = Vec::new();
        for _ in 0..5 {
            others.push(world.client("json", "bob").await);
        }
        let mut binary = world.client("messagepack", "cid").await;
        sender.call("Broadcast", &["hi"]).await;
        let expected = r#"{"type":1,"target":"recv","arguments":["all","hi"]}"#;
        for client in &mut others {
            assert_eq!(client.next_record().await, expected);
        }
        let Message::Binary(record) = binary.next().await else {
            panic!("MessagePack is not text");
        };
        assert!(record.ends_with(b"\xa2hi\x90"), "{record:?}");
        sender.call("Others", &["ho"]).await;
        sender.call("Caller", &["last"]).await;
        let expected = expected.replace("all", "others").replace("hi", "ho");
        assert_eq!(others[0].next_record().await, expected);
        // What was sent to all came to the sender too, what was sent to the others did not.
        assert!(sender.next_record().await.contains(r#"["all","hi"]"#));
        assert!(sender.next_record().await.contains(r#"["caller","last"]"#));
    });
}

#[test]
fn groups_and_users_get_what_is_theirs() {
    run(async |world| {
        let mut ann = world.client("json", "ann").await;
        let mut bob = world.client("json", "bob").await;
        ann.call("Join", &["g"]).await;
        bob.call("Join", &["g"]).await;
        ann.call("ToGroup", &["g", "1"]).await;
        for client in [&mut ann, &mut bob] {
            assert!(client.next_record().await.contains(r#"["group","1"]"#));
        }
        bob.call("Leave", &["g"]).await;
        ann.call("ToGroup", &["g", "2"]).await;
        ann.call("ToUser", &["bob", "3"]).await;
        assert!(ann.next_record().await.contains(r#"["group","2"]"#));
        assert!(bob.next_record().await.contains(r#"["user","3"]"#));
    });
}

#[test]
fn clients_go_with_their_app_server() {
    run(async |world| {
        let mut client = world.client("json", "ann").await;
        world.stop_app_server();
        while !matches!(client.next().await, Message::Close(_)) {}
    });
}

#[test]
fn only_those_with_a_token_come_in() {
    run(async |world| {
        let good = world.token("client", "ann");
        for (path, token, status) in [
            ("client/?hub=chat", "", 401),
            ("server/?hub=chat", &*good, 401),
            ("client/?hub=other", &good, 401),
            ("client/", &good, 400),
            ("else/?hub=chat", &good, 404),
        ] {
            let refused = world.open(path, token).await.err();
            let Some(tungstenite::Error::Http(response)) = refused else {
                panic!("{path} was not refused: {refused:?}");
            };
            assert_eq!(response.status(), status, "{path}");
        }
    });
}

/// A relay and an app server.
struct World {
    relay: SocketAddr,
    stop: RefCell<Option<oneshot::Sender<()>>>,
}

fn run(test: impl AsyncFnOnce(&World)) {
    let mut runtime = Builder::new_current_thread();
    let runtime = runtime.enable_all().build_local(LocalOptions::default());
    let runtime = runtime.unwrap();
    runtime.block_on(async {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let relay = listener.local_addr().unwrap();
        tokio::task::spawn_local(Relay::new(KEY).unwrap().serve(listener));
        let connection_string = format!(
            "Endpoint=http://127.0.0.1;Port={};AccessKey={KEY};Version=1.0;",
            relay.port()
        );
        let app_server = AppServer::builder(&connection_string)
            .hub("chat", "/chat", ReferenceHub::default())
            .server_connections(3)
            .message_bytes_max(1 << 20)
            .build()
            .unwrap();
        let (stop, stopped) = oneshot::channel();
        run_apart(app_server.clone(), stopped);
        while !app_server.states().iter().all(HubState::is_complete) {
            sleep(Duration::from_millis(1)).await;
        }
        let world = World {
            relay,
            stop: RefCell::new(Some(stop)),
        };
        timeout(PATIENCE, test(&world)).await.unwrap();
    });
}

/// Runs an app server on a thread of its own. Its tasks end with the runtime, without a farewell.
fn run_apart(app_server: AppServer, stopped: oneshot::Receiver<()>) {
    std::thread::spawn(move || {
        let runtime = Builder::new_current_thread().enable_all().build();
        runtime.unwrap().block_on(async {
            tokio::select! {
                () = app_server.run(std::future::pending()) => {}
                _ = stopped => {}
            }
        });
    });
}

impl World {
    /// A client that has entered its hub and has been greeted.
    async fn client(&self, protocol: &str, user: &str) -> Client {
        let token = self.token("client", user);
        let socket = self.open("client/?hub=chat", &token).await.unwrap();
        let early = VecDeque::new();
        let mut client = Client { socket, early };
        let request = format!("{{\"protocol\":\"{protocol}\",\"version\":1}}\x1e");
        client.socket.send(Message::text(request)).await.unwrap();
        assert_eq!(client.next().await.into_data(), "{}\x1e");
        let greeting = client.next().await.into_data();
        assert!(greeting.windows(5).any(|window| window == b"hello"));
        client
    }

    async fn open(
        &self,
        path: &str,
        token: &str,
    ) -> Result<WebSocketStream<TcpStream>, tungstenite::Error> {
        let stream = TcpStream::connect(self.relay).await.unwrap();
        let url = format!("ws://{}/{path}", self.relay);
        let mut request = url.into_client_request().unwrap();
        if !token.is_empty() {
            let value = HeaderValue::try_from(format!("Bearer {token}")).unwrap();
            request.headers_mut().insert(AUTHORIZATION, value);
        }
        let (socket, _) = client_async(request, stream).await?;
        Ok(socket)
    }

    fn token(&self, side: &str, user: &str) -> String {
        let hub = HubName::parse("chat").unwrap();
        let audience = match side {
            "client" => Audience::Client(&hub),
            _ => Audience::Server(&hub),
        };
        let since_1970 = SystemTime::UNIX_EPOCH.elapsed().unwrap();
        TokenBuilder::new()
            .claim("nameid", user)
            .life(
                UnixSeconds(since_1970.as_secs().cast_signed()),
                Duration::from_mins(1),
                &audience.text(&format!("http://{}/", self.relay.ip())),
            )
            .sign(&AccessKey::parse(KEY).unwrap(), Algorithm::Hs256)
            .unwrap()
    }

    fn stop_app_server(&self) {
        self.stop.take();
    }
}

struct Client {
    socket: WebSocketStream<TcpStream>,
    /// What arrived while a completion was waited for.
    early: VecDeque<Message>,
}

impl Client {
    async fn next(&mut self) -> Message {
        match self.early.pop_front() {
            Some(message) => message,
            None => self.socket.next().await.unwrap().unwrap(),
        }
    }

    /// The one hub message in the next text message.
    async fn next_record(&mut self) -> String {
        record(&self.next().await)
    }

    /// Calls a method and waits for its completion.
    async fn call(&mut self, method: &str, arguments: &[&str]) -> String {
        let arguments = arguments.join(r#"",""#);
        let call = format!(
            "{{\"type\":1,\"invocationId\":\"1\",\"target\":\"{method}\",\"arguments\":[\"{arguments}\"]}}\x1e"
        );
        self.socket.send(Message::text(call)).await.unwrap();
        loop {
            let message = self.socket.next().await.unwrap().unwrap();
            if record(&message).starts_with(r#"{"type":3"#) {
                return record(&message);
            }
            self.early.push_back(message);
        }
    }
}

fn record(message: &Message) -> String {
    let text = message.to_text().unwrap();
    text.strip_suffix('\x1e').unwrap().to_owned()
}

//! Connections made of memory, behind routes that write down what reaches them.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::{Path, State};
use axum::http::{Request, StatusCode};
use axum::response::{IntoResponse as _, Response};
use axum::routing::any as any_method;
use futures_util::stream;
use proptest::prelude::*;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream, duplex};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinHandle;

use super::{Deadlines, Reader, Serving, serve_requests};
use crate::limits::EARLY_BYTES_MAX;
use crate::shard::admission::gate::Sockets;

const UPGRADE: &str =
    "GET /client/?hub=a HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n";
/// Longer than anything here may take.
const LONG: Duration = Duration::from_secs(20);

/// One connection, served in a task of its own.
struct Served {
    peer: DuplexStream,
    /// With what has been read ahead and the rest, if an upgrade comes.
    serving: JoinHandle<Option<(Vec<u8>, DuplexStream)>>,
    log: Arc<Mutex<Vec<String>>>,
    draining: watch::Sender<bool>,
    /// Hears of each request to `/never` that is dropped.
    dropped: mpsc::UnboundedReceiver<()>,
}

/// What the routes share.
#[derive(Clone)]
struct Routes {
    log: Arc<Mutex<Vec<String>>>,
    dropped: mpsc::UnboundedSender<()>,
}

impl Served {
    fn new(received: &str) -> Self {
        Self::with(received, |_| {})
    }

    fn with(received: &str, change: impl FnOnce(&mut Deadlines)) -> Self {
        let mut deadlines = Deadlines {
            idle: LONG,
            head: LONG,
            body: LONG,
        };
        change(&mut deadlines);
        let (peer, stream) = duplex(1024);
        let (draining, is_draining) = watch::channel(false);
        let (drops, dropped) = mpsc::unbounded_channel();
        let log = Arc::default();
        let mut serving = Serving {
            router: routes(&Routes {
                log: Arc::clone(&log),
                dropped: drops,
            }),
            deadlines,
            is_draining,
            sockets: Arc::new(Sockets::new(8)),
        };
        let mut reader = Reader::new(stream, received.as_bytes());
        let serving = tokio::spawn(async move {
            let is_upgrade =
                serve_requests(&mut reader, ([127, 0, 0, 1], 1).into(), &mut serving).await;
            let (stream, ahead) = reader.into_parts();
            is_upgrade.then_some((ahead, stream))
        });
        Self {
            peer,
            serving,
            log,
            draining,
            dropped,
        }
    }

    async fn send(&mut self, text: &str) {
        self.peer.write_all(text.as_bytes()).await.unwrap();
    }

    /// Reads exactly one answer, whose length has to be known. Its head and its body.
    async fn answer(&mut self) -> (String, String) {
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            head.push(within(self.peer.read_u8()).await.unwrap());
        }
        let head = String::from_utf8(head).unwrap().to_lowercase();
        let length = head.split("content-length: ").nth(1).map_or(0, |rest| {
            rest.split("\r\n").next().unwrap().parse().unwrap()
        });
        let mut body = vec![0; length];
        within(self.peer.read_exact(&mut body)).await.unwrap();
        (head, String::from_utf8(body).unwrap())
    }

    /// Reads to the end of the connection.
    async fn rest(&mut self) -> String {
        let mut rest = Vec::new();
        within(self.peer.read_to_end(&mut rest)).await.unwrap();
        String::from_utf8(rest).unwrap()
    }

    /// What has reached the routes.
    fn log(&self) -> Vec<String> {
        self.log.lock().unwrap().clone()
    }

    /// Waits until the connection has ended.
    async fn ended(self) {
        assert!(within(self.serving).await.unwrap().is_none());
    }
}

async fn within<T>(something: impl Future<Output = T>) -> T {
    let in_time = tokio::time::timeout(LONG, something).await;
    in_time.expect("it has not come in time")
}

fn routes(routes: &Routes) -> Router {
    Router::new()
        .route("/echo/{name}", any_method(echo))
        .route("/deaf/{name}", any_method(deaf))
        .route("/slow/{name}", any_method(slow))
        .route("/never", any_method(never))
        .route("/stream", any_method(streamed))
        .with_state(routes.clone())
}

async fn echo(State(routes): State<Routes>, Path(name): Path<String>, body: Body) -> Response {
    match axum::body::to_bytes(body, usize::MAX).await {
        Ok(body) => {
            let text = format!("{name} {}", String::from_utf8_lossy(&body));
            routes.log.lock().unwrap().push(text.clone());
            text.into_response()
        }
        Err(_) => StatusCode::REQUEST_TIMEOUT.into_response(),
    }
}

/// Answers without having read the body.
async fn deaf(State(routes): State<Routes>, Path(name): Path<String>) -> String {
    routes.log.lock().unwrap().push(name.clone());
    name
}

/// Lets others run before it answers.
async fn slow(state: State<Routes>, path: Path<String>, body: Body) -> Response {
    for _ in 0..20 {
        tokio::task::yield_now().await;
    }
    echo(state, path, body).await
}

async fn never(State(routes): State<Routes>, request: Request<Body>) -> String {
    struct Told(mpsc::UnboundedSender<()>);
    impl Drop for Told {
        fn drop(&mut self) {
            let _ = self.0.send(());
        }
    }
    let _told = Told(routes.dropped);
    let _ = axum::body::to_bytes(request.into_body(), usize::MAX).await;
    routes.log.lock().unwrap().push("never".to_owned());
    std::future::pending().await
}

async fn streamed() -> Response {
    let pieces = stream::iter(["one ", "two ", "three"].map(Bytes::from));
    Body::from_stream(futures_util::StreamExt::map(
        pieces,
        Ok::<_, std::io::Error>,
    ))
    .into_response()
}

fn post(path: &str, body: &str) -> String {
    let length = body.len();
    format!("POST {path} HTTP/1.1\r\nHost: a\r\nContent-Length: {length}\r\n\r\n{body}")
}

fn get(path: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nHost: a\r\n\r\n")
}

#[tokio::test]
async fn requests_follow_each_other_on_one_connection() {
    let mut served = Served::new("");
    for round in 0..3 {
        served
            .send(&post("/echo/a", &"x".repeat(round * 700)))
            .await;
        let (head, body) = served.answer().await;
        assert!(head.starts_with("http/1.1 200 ok\r\n") && !head.contains("connection"));
        assert_eq!(body.len(), 2 + round * 700);
        served.send(&get("/echo/b")).await;
        assert_eq!(served.answer().await.1, "b ");
    }
    drop(served.peer);
    assert!(within(served.serving).await.unwrap().is_none());
}

#[tokio::test]
async fn a_request_begins_only_when_the_one_before_has_been_answered() {
    let mut served = Served::new(&(post("/slow/1", "a") + &get("/slow/2") + &get("/stream")));
    served.send(&(get("/echo/3") + &post("/slow/4", "b"))).await;
    for expected in ["1 a", "2 "] {
        assert_eq!(served.answer().await.1, expected);
    }
    let (head, _) = served.answer().await;
    assert!(head.contains("transfer-encoding: chunked"), "{head}");
    let mut chunks = vec![0; "4\r\none \r\n4\r\ntwo \r\n5\r\nthree\r\n0\r\n\r\n".len()];
    served.peer.read_exact(&mut chunks).await.unwrap();
    assert!(chunks.ends_with(b"three\r\n0\r\n\r\n"));
    for expected in ["3 ", "4 b"] {
        assert_eq!(served.answer().await.1, expected);
    }
    assert_eq!(served.log(), ["1 a", "2 ", "3 ", "4 b"]);
}

#[tokio::test]
async fn an_upgrade_ends_the_requests_with_all_that_has_been_read_of_it() {
    let mut served = Served::new(&get("/echo/a"));
    let early = "\u{1}\u{2}early";
    served.send(&format!("{UPGRADE}{early}")).await;
    assert_eq!(served.answer().await.1, "a ");
    let (ahead, _stream) = within(served.serving).await.unwrap().unwrap();
    assert_eq!(
        String::from_utf8(ahead).unwrap(),
        format!("{UPGRADE}{early}")
    );
}

/// What is refused with its length unknown is not looked at for another request.
#[tokio::test]
async fn a_request_that_hides_in_another_one_is_never_answered() {
    let hidden = get("/echo/hidden");
    let bytes = hidden.len();
    let head = "POST /echo/seen HTTP/1.1\r\nHost: a\r\n";
    let length = format!("Content-Length: {bytes}\r\n");
    let coding = "Transfer-Encoding: chunked\r\n";
    let long = "a".repeat(17 * 1024);
    for (request, status) in [
        (format!("{head}Content-Length: 0\r\n{length}\r\n"), 400),
        (format!("{head}{length}{coding}\r\n0\r\n\r\n"), 400),
        (format!("{head}Transfer-Encoding: x\r\n\r\n"), 501),
        (format!("{head}X: {long}\r\n\r\n"), 431),
    ] {
        let mut served = Served::new(&get("/echo/first"));
        // All of it is taken, and dropped: a peer that writes before it reads must get the answer too.
        served.send(&(request.clone() + &hidden)).await;
        assert_eq!(served.answer().await.1, "first ");
        let answer = served.rest().await.to_lowercase();
        assert!(
            answer.starts_with(&format!("http/1.1 {status} ")),
            "{answer}"
        );
        assert_eq!(
            answer.matches("http/1.1 ").count(),
            1,
            "one answer: {answer}"
        );
        assert!(answer.contains("\r\nconnection: close\r\n"), "{answer}");
        assert_eq!(served.log(), ["first "], "{request:?}");
        drop(served.peer);
        assert!(within(served.serving).await.unwrap().is_none());
    }
}

/// A length and a chunked body say clearly what belongs to them.
#[tokio::test]
async fn a_request_in_a_body_is_that_body() {
    let hidden = get("/echo/hidden");
    let mut served = Served::new(&(post("/echo/a", &hidden) + &post("/echo/b", UPGRADE)));
    assert_eq!(served.answer().await.1, format!("a {hidden}"));
    assert_eq!(served.answer().await.1, format!("b {UPGRADE}"));
    let bytes = hidden.len();
    served.send(&format!(
        "POST /echo/c HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n{bytes:x}\r\n{hidden}\r\n0\r\n\r\n{hidden}"
    )).await;
    let (head, body) = served.answer().await;
    assert_eq!(body, format!("c {hidden}"));
    assert!(head.contains("connection: close"), "{head}");
    assert_eq!(
        served.rest().await,
        "",
        "what follows a chunked body is not read"
    );
    assert_eq!(served.log().len(), 3);
}

#[tokio::test]
async fn a_body_that_nobody_has_read_ends_the_connection_behind_the_answer() {
    // The rest of the body looks like a request.
    let hidden = get("/echo/hidden");
    let length = 10 + hidden.len();
    let head = format!("POST /deaf/a HTTP/1.1\r\nHost: a\r\nContent-Length: {length}\r\n\r\n");
    let mut served = Served::new(&head);
    let (head, body) = served.answer().await;
    assert_eq!(body, "a");
    assert!(head.contains("connection: close"), "{head}");
    // It is taken, so that the answer is not lost by a reset.
    served.send(&format!("0123456789{hidden}{hidden}")).await;
    assert_eq!(served.rest().await, "");
    assert_eq!(served.log(), ["a"]);

    // One that has come with the head is no obstacle.
    let mut served = Served::new(&(post("/deaf/b", &hidden) + &get("/echo/c")));
    assert_eq!(served.answer().await.1, "b");
    assert_eq!(served.answer().await.1, "c ");
}

#[tokio::test]
async fn a_body_may_wait_for_leave() {
    let head =
        "POST /echo/a HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\nExpect: 100-continue\r\n\r\n";
    let mut served = Served::new(head);
    assert_eq!(served.answer().await.0, "http/1.1 100 continue\r\n\r\n");
    served.send("body").await;
    assert_eq!(served.answer().await.1, "a body");
    served.send(&head.replace("echo", "deaf")).await;
    let (head, _) = served.answer().await;
    assert!(head.starts_with("http/1.1 200") && head.contains("connection: close"));
    assert_eq!(served.rest().await, "");
}

#[tokio::test]
async fn who_wants_the_connection_closed_gets_it_closed() {
    for request in [
        "GET /echo/a HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n",
        "GET /echo/a HTTP/1.0\r\n\r\n",
        "GET /echo/a HTTP/1.0\r\nConnection: close\r\n\r\n",
    ] {
        let mut served = Served::new(&(request.to_owned() + &get("/echo/hidden")));
        let (head, body) = served.answer().await;
        assert!(head.contains(" 200 "), "{head}");
        assert_eq!(body, "a ");
        assert_eq!(served.rest().await, "");
        assert_eq!(served.log(), ["a "]);
    }
    let mut served = Served::new("GET /stream HTTP/1.0\r\n\r\n");
    assert!(served.rest().await.ends_with("\r\n\r\none two three"));
}

#[tokio::test]
async fn a_peer_that_goes_takes_its_request_with_it() {
    for request in [get("/never"), post("/never", "body")] {
        let mut served = Served::new(&request);
        while served.log().is_empty() {
            tokio::task::yield_now().await;
        }
        // What it has sent in the meantime changes nothing.
        served.send(&get("/echo/hidden")).await;
        assert!(served.dropped.try_recv().is_err());
        drop(served.peer);
        within(served.dropped.recv()).await.unwrap();
        assert!(within(served.serving).await.unwrap().is_none());
        assert_eq!(*served.log.lock().unwrap(), ["never"]);
    }
}

#[tokio::test]
async fn no_more_is_read_ahead_than_may_be() {
    let mut served = Served::new(&get("/never"));
    let mut written = 0;
    // The pipe takes a kilobyte by itself.
    while let Ok(bytes) =
        tokio::time::timeout(Duration::from_millis(50), served.peer.write(&[b'x'; 1000])).await
    {
        written += bytes.unwrap();
    }
    assert_eq!(written, EARLY_BYTES_MAX + 1024);
}

#[tokio::test]
async fn nobody_is_waited_for_without_end() {
    const SHORT: Duration = Duration::from_millis(50);
    // Idle from the beginning, and after an answer.
    Served::with("", |deadlines| deadlines.idle = SHORT)
        .ended()
        .await;
    let mut served = Served::with(&get("/echo/a"), |deadlines| deadlines.idle = SHORT);
    assert_eq!(served.answer().await.1, "a ");
    assert_eq!(served.rest().await, "");
    served.ended().await;

    // Byte after byte, so that it is never silent for long.
    let mut served = Served::with("", |deadlines| deadlines.head = 4 * SHORT);
    let request = get("/echo/a");
    let mut sent = 0;
    for byte in request.bytes() {
        if served.peer.write_u8(byte).await.is_err() {
            break;
        }
        sent += 1;
        tokio::time::sleep(SHORT / 5).await;
    }
    assert!(sent < request.len(), "it had all the time that it wanted");
    assert!(served.log().is_empty());
    served.ended().await;

    let half = "POST /echo/a HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\n\r\nbo";
    let mut served = Served::with(half, |deadlines| deadlines.body = SHORT);
    let answer = served.rest().await;
    assert!(answer.starts_with("HTTP/1.1 408 "), "{answer}");
    drop(served.peer);
    assert!(within(served.serving).await.unwrap().is_none());
}

#[tokio::test]
async fn a_service_that_stops_waits_for_answers_but_not_for_requests() {
    let idle = Served::new("");
    idle.draining.send_replace(true);
    idle.ended().await;
    let half = Served::new("GET /echo/a HT");
    half.draining.send_replace(true);
    half.ended().await;

    let mut running = Served::new("");
    running
        .send("POST /echo/a HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\n\r\nbo")
        .await;
    running.draining.send_replace(true);
    running.send("dy").await;
    // Whether the request or the stop has been noticed first is all the same to the one that is there.
    let answer = running.rest().await;
    assert!(answer.is_empty() || answer.ends_with("a body"), "{answer}");

    let mut late = Served::new(&(get("/echo/a") + &get("/echo/hidden")));
    late.draining.send_replace(true);
    assert!(late.rest().await.ends_with("\r\n\r\na "));
    assert_eq!(late.log(), ["a "]);
}

#[tokio::test]
async fn a_service_whose_handle_is_gone_goes_on() {
    let Served {
        mut peer, draining, ..
    } = Served::new("");
    drop(draining);
    peer.write_all(get("/echo/a").as_bytes()).await.unwrap();
    let mut status = [0; 12];
    within(peer.read_exact(&mut status)).await.unwrap();
    assert_eq!(&status, b"HTTP/1.1 200");
}

/// What a peer sends, piece by piece, and what it gets for it.
#[derive(Debug, Clone)]
enum Sent {
    Get(u16),
    Post(u16, String),
    Slow(u16, String),
}

impl Sent {
    fn any() -> impl Strategy<Value = Self> {
        // What is sent as a body may be anything; all the better if it looks like a request.
        let body = prop_oneof![
            "[a-z\r\n]{0,40}".boxed(),
            Just(get("/echo/hidden")).boxed(),
            Just(UPGRADE.to_owned()).boxed(),
            "x{1500,3000}".boxed(),
        ];
        prop_oneof![
            any::<u16>().prop_map(Self::Get),
            (any::<u16>(), body.clone()).prop_map(|(name, body)| Self::Post(name, body)),
            (any::<u16>(), body).prop_map(|(name, body)| Self::Slow(name, body)),
        ]
    }

    fn text(&self) -> String {
        match self {
            Self::Get(name) => get(&format!("/echo/{name}")),
            Self::Post(name, body) => post(&format!("/echo/{name}"), body),
            Self::Slow(name, body) => post(&format!("/slow/{name}"), body),
        }
    }

    fn answer(&self) -> String {
        match self {
            Self::Get(name) => format!("{name} "),
            Self::Post(name, body) | Self::Slow(name, body) => format!("{name} {body}"),
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(100))]

    /// However the bytes are cut, and however many requests are sent before the first answer: the same requests are answered in the same
    /// order, and the shard gets what follows.
    #[test]
    fn any_cut_of_any_requests_is_answered_alike(
        requests in proptest::collection::vec(Sent::any(), 0..8),
        cuts in proptest::collection::vec(1..400_usize, 1..8),
        received: prop::sample::Index,
        early in "[a-z]{0,3000}",
    ) {
        let upgrade = format!("{UPGRADE}{early}");
        let all: String = requests.iter().map(Sent::text).chain([upgrade.clone()]).collect();
        let expected: Vec<String> = requests.iter().map(Sent::answer).collect();
        let (received, rest) = all.split_at(received.index(all.len()));
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let Served { peer, serving, log, draining: _draining, .. } = Served::new(received);
            let (mut answers, mut requests) = tokio::io::split(peer);
            let (ended, has_ended) = oneshot::channel();
            let sending = async {
                let (mut rest, mut cuts) = (rest.as_bytes(), cuts.iter().cycle());
                while !rest.is_empty() {
                    let (piece, behind) = rest.split_at(rest.len().min(*cuts.next().unwrap()));
                    requests.write_all(piece).await.unwrap();
                    tokio::task::yield_now().await;
                    rest = behind;
                }
                // Not before, or it would seem to have gone.
                has_ended.await.unwrap();
                requests.shutdown().await.unwrap();
            };
            let ending = async {
                let (mut ahead, mut stream) = serving.await.unwrap().unwrap();
                ended.send(()).unwrap();
                stream.read_to_end(&mut ahead).await.unwrap();
                drop(stream);
                ahead
            };
            let listening = async {
                let mut text = Vec::new();
                answers.read_to_end(&mut text).await.unwrap();
                text
            };
            let ((), ahead, answers) = within(async { tokio::join!(sending, ending, listening) }).await;
            assert_eq!(String::from_utf8(ahead).unwrap(), upgrade);
            assert_eq!(*log.lock().unwrap(), expected);
            let answers = String::from_utf8(answers).unwrap();
            assert_eq!(answers.matches("HTTP/1.1 200 OK\r\n").count(), expected.len());
        });
    }
}

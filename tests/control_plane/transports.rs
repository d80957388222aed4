//! Clients without a WebSocket: what is on the wire, and whose requests are refused. What real clients see of it is in `clients/transports`.

use std::io::Read as _;
use std::net::Shutdown;
use std::time::Duration;

use hubring::limits::POST_BYTES_MAX;
use hubring::protocol::service::Message;

use crate::http::{Answer, Http, field, negotiate};
use crate::peers::{ACCEPTED, AppServer, HANDSHAKE, read};
use crate::stage::{PATIENCE, Stage, until};

/// A client that has negotiated, to make requests of.
struct Asking<'a> {
    stage: &'a Stage,
    id: String,
    token: String,
}

impl<'a> Asking<'a> {
    fn new(stage: &'a Stage) -> Self {
        let negotiated = Http::connect(stage).ask(negotiate(stage));
        Self {
            stage,
            id: field(&negotiated, "connectionToken"),
            token: stage.client_request().1,
        }
    }

    /// The same connection, asked about with another token.
    fn with_claims(&self, claims: &[(&str, &str)]) -> Self {
        Self {
            stage: self.stage,
            id: self.id.clone(),
            token: self.stage.client_request_with(claims).1,
        }
    }

    fn head(&self, method: &str, headers: &str) -> String {
        let Self { id, token, .. } = self;
        format!(
            "{method} /client/?hub=chat&id={id} HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {token}\r\n{headers}\r\n"
        )
    }

    fn ask(&self, method: &str, headers: &str) -> Answer {
        Http::connect(self.stage).ask(self.head(method, headers))
    }

    fn poll(&self) -> Answer {
        self.ask("GET", "")
    }

    fn post_head(&self, body_bytes: usize) -> String {
        self.head("POST", &format!("Content-Length: {body_bytes}\r\n"))
    }

    fn post(&self, http: &mut Http, body: &[u8]) -> Answer {
        http.ask([self.post_head(body.len()).as_bytes(), body].concat())
    }

    /// Opens long polling and shakes hands. The id that the app server knows.
    fn open_polling(&self, server: &mut AppServer) -> String {
        assert_eq!(self.poll().status, 200);
        let id = self.shake_hands(server);
        assert_eq!(self.poll().body.as_bytes(), ACCEPTED);
        id
    }

    fn shake_hands(&self, server: &mut AppServer) -> String {
        let mut http = Http::connect(self.stage);
        assert_eq!(self.post(&mut http, HANDSHAKE).status, 200);
        let opened = server.next().unwrap();
        let Message::OpenConnection(open) = read(&opened) else {
            panic!("no client has come");
        };
        let id = open.connection_id.into_owned();
        assert_eq!(server.next_data(), (id.clone(), HANDSHAKE.to_vec()));
        server.send_to(&id, ACCEPTED);
        id
    }
}

const EVENTS: &str = "Accept: text/event-stream\r\n";

#[test]
fn a_connection_is_unknown_to_other_users_and_hubs() {
    let stage = Stage::new(1);
    let polling = Asking::new(&stage);
    assert_eq!(polling.poll().status, 200);
    let stranger = polling.with_claims(&[("asrs.s.uid", "mallory")]);
    for (method, headers) in [
        ("GET", ""),
        ("GET", EVENTS),
        ("POST", "Content-Length: 0\r\n"),
        ("DELETE", ""),
    ] {
        let answer = stranger.ask(method, headers);
        assert_eq!(
            (answer.status, &*answer.body),
            (404, "No Connection with that ID"),
            "{method}"
        );
    }
    assert_eq!(
        polling.ask("DELETE", "").status,
        202,
        "it is there as before"
    );
}

#[test]
fn a_transport_that_the_token_does_not_permit_is_not_supported() {
    let stage = Stage::new(1);
    let connection = Asking::new(&stage);
    for (mask, headers, name) in [("1", "", "LongPolling"), ("5", EVENTS, "ServerSentEvents")] {
        let answer = connection
            .with_claims(&[("asrs.s.htt", mask)])
            .ask("GET", headers);
        let text = format!("{name} transport not supported by this end point type");
        assert_eq!((answer.status, answer.body), (404, text));
    }
    assert_eq!(connection.poll().status, 200, "it is still expected");
}

#[test]
fn a_thousand_posts_arrive_in_order() {
    const POSTS: usize = 1000;
    let stage = Stage::new(2);
    let mut server = AppServer::connect(&stage, "one");
    let polling = Asking::new(&stage);
    let id = polling.open_polling(&mut server);
    let mut http = Http::connect(&stage);
    // None of them waits for the answer to the one before.
    for number in 0..POSTS {
        let body = format!("{number};");
        http.send(polling.post_head(body.len()) + &body);
    }
    let expected = (0..POSTS)
        .map(|number| format!("{number};"))
        .collect::<Vec<_>>()
        .concat();
    let mut heard = Vec::new();
    while heard.len() < expected.len() {
        let (from, data) = server.next_data();
        assert_eq!(from, id);
        heard.extend(data);
    }
    assert!(heard == expected.as_bytes(), "out of order");
    for _ in 0..POSTS {
        assert_eq!(http.answer().status, 200);
    }
}

#[test]
fn a_post_may_be_as_long_as_the_limit_and_no_longer() {
    let stage = Stage::new(1);
    let mut server = AppServer::connect(&stage, "one");
    let polling = Asking::new(&stage);
    let id = polling.open_polling(&mut server);
    let longest = vec![b'x'; POST_BYTES_MAX];
    let answer = polling.post(&mut Http::connect(&stage), &longest);
    assert_eq!(answer.status, 200);
    let mut heard = 0;
    while heard < longest.len() {
        heard += server.next_data().1.len();
    }
    // Its length is enough to refuse it.
    let mut http = Http::connect(&stage);
    assert_eq!(http.ask(polling.post_head(POST_BYTES_MAX + 1)).status, 413);
    let closed = server.next().unwrap();
    assert!(matches!(read(&closed), Message::CloseConnection(close) if close.connection_id == id));
    assert_eq!(polling.poll().status, 404);
}

#[test]
fn a_post_without_a_length_is_measured_while_it_comes() {
    let stage = Stage::new(1);
    let mut server = AppServer::connect(&stage, "one");
    let polling = Asking::new(&stage);
    polling.open_polling(&mut server);
    let head = polling.head("POST", "Transfer-Encoding: chunked\r\n");
    let chunk = |bytes: usize| format!("{bytes:x}\r\n{}\r\n", "x".repeat(bytes));
    let mut http = Http::connect(&stage);
    http.send(head.clone() + &chunk(100) + &chunk(27) + "0\r\n\r\n");
    assert_eq!(http.answer().status, 200);
    assert_eq!(server.next_data().1, [b'x'; 127]);
    let mut http = Http::connect(&stage);
    http.send(head + &chunk(POST_BYTES_MAX) + &chunk(1));
    assert_eq!(http.answer().status, 413);
    assert_eq!(polling.poll().status, 404);
}

/// The app server cuts hub messages wherever it likes; every poll's body is whole ones.
#[test]
fn a_poll_gets_whole_hub_messages() {
    let stage = Stage::new(1);
    let mut server = AppServer::connect(&stage, "one");
    let polling = Asking::new(&stage);
    let id = polling.open_polling(&mut server);
    let messages: Vec<String> = (0..50)
        .map(|number| format!("{{\"type\":1,\"target\":\"t\",\"arguments\":[{number}]}}\u{1e}"))
        .collect();
    let all = messages.concat();
    let sending = std::thread::spawn({
        let all = all.clone();
        move || {
            for piece in all.as_bytes().chunks(7) {
                server.send_to(&id, piece);
            }
            server
        }
    });
    let mut heard = String::new();
    while heard.len() < all.len() {
        let answer = polling.poll();
        assert_eq!(answer.status, 200);
        assert!(answer.body.ends_with('\u{1e}'), "{}", answer.body);
        heard += &answer.body;
    }
    assert_eq!(heard, all);
    drop(sending.join().unwrap());
}

#[test]
fn a_stream_is_byte_by_byte_what_it_has_to_be() {
    let stage = Stage::new(1);
    let mut server = AppServer::connect(&stage, "one");
    let streaming = Asking::new(&stage);
    let mut http = Http::connect(&stage);
    let answer = http.ask(streaming.head("GET", EVENTS));
    assert_eq!(answer.status, 200);
    for line in [
        "content-type: text/event-stream",
        "cache-control: no-cache,no-store",
        "pragma: no-cache",
        "content-encoding: identity",
        "transfer-encoding: chunked",
    ] {
        assert!(answer.head.lines().any(|head| head == line), "{line}");
    }
    // One chunk each: nothing waits for more to come.
    http.expect("3\r\n:\r\n\r\n");
    assert_eq!(streaming.ask("GET", EVENTS).status, 409);
    let id = streaming.shake_hands(&mut server);
    http.expect("D\r\ndata: {}\u{1e}\r\n\r\n\r\n");
    server.send_to(&id, b"{\r\n\"type\":6}\x1e");
    http.expect("1D\r\ndata: {\r\ndata: \"type\":6}\u{1e}\r\n\r\n\r\n");
    drop(http);
    let closed = server.next().unwrap();
    assert!(matches!(read(&closed), Message::CloseConnection(close) if close.connection_id == id));
}

#[test]
fn who_goes_in_the_midst_of_a_poll_loses_nothing() {
    let stage = Stage::new(1);
    let mut server = AppServer::connect(&stage, "one");
    let polling = Asking::new(&stage);
    let id = polling.open_polling(&mut server);
    for number in 0..10 {
        let mut gone = open_poll(&polling);
        gone.stream.shutdown(Shutdown::Both).unwrap();
        gone.expect_end();
        // It has noticed when it has no socket but its listener and the app server's.
        until("the poll to be given up", || stage.socket_count() == 2);
        server.send_to(&id, format!("{number}\u{1e}").as_bytes());
        assert_eq!(polling.poll().body, format!("{number}\u{1e}"));
    }
}

/// A poll that is known to wait: of two, the other one has been told to go.
fn open_poll(polling: &Asking<'_>) -> Http {
    let mut polls: Vec<Http> = (0..2).map(|_| Http::connect(polling.stage)).collect();
    for poll in &mut polls {
        poll.send(polling.head("GET", ""));
        let moment = Some(Duration::from_millis(10));
        poll.stream.set_read_timeout(moment).unwrap();
    }
    let mut outdone = None;
    until("one of two polls to end", || {
        outdone = polls
            .iter()
            .position(|poll| poll.stream.peek(&mut [0]).is_ok());
        outdone.is_some()
    });
    assert_eq!(polls.remove(outdone.unwrap()).answer().status, 204);
    let open = polls.remove(0);
    open.stream.set_read_timeout(Some(PATIENCE)).unwrap();
    open
}

#[test]
fn whoever_has_not_polled_for_too_long_has_left() {
    let stage = Stage::new(1);
    let mut server = AppServer::connect(&stage, "one");
    let polling = Asking::new(&stage).with_claims(&[("asrs.s.ttl", "3")]);
    let id = polling.open_polling(&mut server);
    let closed = server.next().unwrap();
    assert!(matches!(read(&closed), Message::CloseConnection(close) if close.connection_id == id));
    assert_eq!(polling.poll().status, 404);
}

/// Some clients send their handshake and poll at the same moment, and whichever comes first lets them in.
#[test]
fn requests_that_meet_while_a_client_is_let_in_find_it() {
    let stage = Stage::new(1);
    let mut server = AppServer::connect(&stage, "one");
    for round in 0..40 {
        let polling = Asking::new(&stage);
        let (mut poll, mut post) = (Http::connect(&stage), Http::connect(&stage));
        let get = polling.head("GET", "");
        let send = [polling.post_head(HANDSHAKE.len()).as_bytes(), HANDSHAKE].concat();
        if round % 2 == 0 {
            poll.send(get);
            post.send(send);
        } else {
            post.send(send);
            poll.send(get);
        }
        assert_eq!(post.answer().status, 200);
        let opened = server.next().unwrap();
        let Message::OpenConnection(open) = read(&opened) else {
            panic!("no client has come");
        };
        server.send_to(&open.connection_id, ACCEPTED);
        let mut answer = poll.answer();
        assert_eq!(answer.status, 200);
        if answer.body.is_empty() {
            answer = polling.poll();
        }
        assert_eq!(answer.body.as_bytes(), ACCEPTED);
        let _handshake = server.next_data();
        assert_eq!(polling.ask("DELETE", "").status, 202);
        let closed = server.next().unwrap();
        assert!(matches!(read(&closed), Message::CloseConnection(_)));
    }
    for _ in 0..20 {
        let streaming = Asking::new(&stage);
        let mut streams = [Http::connect(&stage), Http::connect(&stage)];
        for stream in &mut streams {
            stream.send(streaming.head("GET", EVENTS));
        }
        let mut statuses = streams.each_mut().map(|stream| stream.answer().status);
        statuses.sort_unstable();
        assert_eq!(statuses, [200, 409]);
    }
}

/// A page asks whether it may, without a token; and it may read whatever it gets then.
#[test]
fn a_page_of_any_origin_may_ask() {
    let stage = Stage::new(1);
    let mut http = Http::connect(&stage);
    let allowed = http.ask(
        "OPTIONS /client/?hub=chat HTTP/1.1\r\nHost: localhost\r\nOrigin: null\r\nAccess-Control-Request-Method: DELETE\r\n\
         Access-Control-Request-Headers: authorization,x-own\r\nAccess-Control-Request-Private-Network: true\r\n\r\n",
    );
    assert_eq!(allowed.status, 204);
    for line in [
        "access-control-allow-origin: null",
        "access-control-allow-credentials: true",
        "access-control-allow-methods: delete",
        "access-control-allow-headers: authorization,x-own",
        "access-control-allow-private-network: true",
        "vary: origin",
    ] {
        assert!(allowed.head.lines().any(|head| head == line), "{line}");
    }
    let polling = Asking::new(&stage);
    for (method, headers, status) in [
        ("GET", "", 200),
        ("GET", EVENTS, 400),
        ("POST", "Content-Length: 2000000\r\n", 413),
        ("DELETE", "", 404),
        ("PUT", "Content-Length: 0\r\n", 405),
    ] {
        let answer = polling.ask(method, &format!("Origin: https://app.example\r\n{headers}"));
        assert_eq!(answer.status, status);
        let is_marked = answer
            .head
            .contains("\r\naccess-control-allow-origin: https://app.example\r\n");
        assert!(is_marked, "{method} {status}");
    }
}

/// Polls are ended by the service that stops, and it does not wait for clients that cannot poll again.
#[test]
fn a_service_that_stops_ends_streams_and_polls() {
    let mut stage = Stage::new(1);
    let mut server = AppServer::connect(&stage, "one");
    let (between, open) = (Asking::new(&stage), Asking::new(&stage));
    between.open_polling(&mut server);
    open.open_polling(&mut server);
    let mut poll = open_poll(&open);
    let reading = std::thread::spawn(move || {
        let answer = poll.answer();
        let mut rest = Vec::new();
        poll.stream.read_to_end(&mut rest).unwrap();
        (answer.body, rest)
    });
    let serving = std::thread::spawn(move || while server.next().is_some() {});
    let took = stage.drain();
    assert!(took < Duration::from_secs(3), "{took:?}");
    let goodbye = "{\"type\":7,\"allowReconnect\":true}\u{1e}".to_owned();
    assert_eq!(reading.join().unwrap(), (goodbye, Vec::new()));
    serving.join().unwrap();
}

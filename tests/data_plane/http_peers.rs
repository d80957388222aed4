//! Clients on Server-Sent Events and long polling, made of blocking sockets: one for each request.

use std::collections::VecDeque;
use std::io::{Read as _, Write as _};
use std::net::TcpStream;

use crate::peers::{ACCEPTED, AppServer, HANDSHAKE, accept, read_some};
use crate::stage::{PATIENCE, Stage};

/// A client that has negotiated.
pub(crate) struct HttpClient {
    address: std::net::SocketAddr,
    access_token: String,
    token: String,
    pub(crate) id: String,
}

/// The status of an answer and its body.
pub(crate) type Answer = (u16, Vec<u8>);

impl HttpClient {
    pub(crate) fn negotiate(stage: &Stage) -> Self {
        Self::negotiate_with(stage, &[])
    }

    /// The same with more claims in the token.
    fn negotiate_with(stage: &Stage, claims: &[(&str, &str)]) -> Self {
        let (_, access_token) = stage.client_request_with(claims);
        let mut client = Self {
            address: stage.address,
            access_token,
            token: String::new(),
            id: String::new(),
        };
        let target = "/client/negotiate?hub=chat&negotiateVersion=1";
        let (status, body) = answer(client.ask("POST", target, "", b""));
        assert_eq!(status, 200, "{}", String::from_utf8_lossy(&body));
        let answer: serde_json::Value = serde_json::from_slice(&body).unwrap();
        let text = |name: &str| answer[name].as_str().unwrap().to_owned();
        client.token = text("connectionToken");
        client.id = text("connectionId");
        client
    }

    /// One on long polling whose handshake is through, with the index of its server connection.
    pub(crate) fn polling(stage: &Stage, servers: &mut [AppServer]) -> (Self, usize) {
        Self::negotiate(stage).begin_polling(servers)
    }

    /// The same, and it may take its time between two polls.
    pub(crate) fn patient(stage: &Stage, servers: &mut [AppServer]) -> Self {
        let client = Self::negotiate_with(stage, &[("asrs.s.ttl", "60")]);
        client.begin_polling(servers).0
    }

    /// One on Server-Sent Events whose handshake is through, with its stream.
    pub(crate) fn streaming(stage: &Stage, servers: &mut [AppServer]) -> (Self, Events, usize) {
        let client = Self::negotiate(stage);
        let mut events = client.events();
        assert_eq!(client.post(HANDSHAKE), 200);
        let (index, id) = accept(servers);
        assert_eq!(id, client.id);
        assert_eq!(events.next().unwrap(), ACCEPTED);
        (client, events, index)
    }

    /// Opens the stream of events.
    pub(crate) fn events(&self) -> Events {
        let stream = self.ask("GET", &self.target(), "Accept: text/event-stream\r\n", b"");
        Events::of(stream)
    }

    /// Polls, and waits for the answer.
    pub(crate) fn poll(&self) -> Answer {
        answer(self.begin_poll())
    }

    /// Polls. The answer is still to be read.
    pub(crate) fn begin_poll(&self) -> TcpStream {
        self.ask("GET", &self.target(), "", b"")
    }

    /// Sends something and waits until it has been taken. The status of the answer.
    pub(crate) fn post(&self, body: &[u8]) -> u16 {
        answer(self.ask("POST", &self.target(), "", body)).0
    }

    pub(crate) fn delete(&self) -> u16 {
        answer(self.ask("DELETE", &self.target(), "", b"")).0
    }

    fn begin_polling(self, servers: &mut [AppServer]) -> (Self, usize) {
        assert_eq!(self.poll(), (200, Vec::new()), "the first poll");
        assert_eq!(self.post(HANDSHAKE), 200);
        let (index, id) = accept(servers);
        assert_eq!(id, self.id);
        assert_eq!(self.poll(), (200, ACCEPTED.to_vec()));
        (self, index)
    }

    fn target(&self) -> String {
        format!("/client/?hub=chat&id={}", self.token)
    }

    fn ask(&self, method: &str, target: &str, headers: &str, body: &[u8]) -> TcpStream {
        let mut stream = TcpStream::connect(self.address).unwrap();
        stream.set_nodelay(true).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.set_write_timeout(Some(PATIENCE)).unwrap();
        let (token, length) = (&self.access_token, body.len());
        let head = format!(
            "{method} {target} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nAuthorization: Bearer {token}\r\n\
             Content-Length: {length}\r\n{headers}\r\n"
        );
        stream.write_all(&[head.as_bytes(), body].concat()).unwrap();
        stream
    }
}

/// Reads an answer that says how long it is.
pub(crate) fn answer(mut stream: TcpStream) -> Answer {
    let head = read_head(&mut stream);
    let length = header(&head, "content-length").map_or(0, |length| length.parse().unwrap());
    let mut body = vec![0; length];
    stream.read_exact(&mut body).unwrap();
    (status(&head), body)
}

/// A stream of events.
pub(crate) struct Events {
    stream: TcpStream,
    /// What has come, without the framing of chunks.
    received: Vec<u8>,
    /// Of the chunk that is being read.
    chunk_left: usize,
    /// Whole ones that nobody has asked for yet.
    whole: VecDeque<Vec<u8>>,
    has_ended: bool,
}

impl Events {
    fn of(mut stream: TcpStream) -> Self {
        let head = read_head(&mut stream);
        assert_eq!(status(&head), 200, "{head}");
        assert_eq!(header(&head, "transfer-encoding"), Some("chunked"));
        let mut events = Self {
            stream,
            received: Vec::new(),
            chunk_left: 0,
            whole: VecDeque::new(),
            has_ended: false,
        };
        while events.received.len() < 3 {
            events.read_some();
        }
        assert_eq!(events.received.drain(..3).as_slice(), b":\r\n");
        events
    }

    /// The data of the next event. `None` when the stream has ended in order.
    pub(crate) fn next(&mut self) -> Option<Vec<u8>> {
        loop {
            if let Some(event) = self.whole.pop_front() {
                return Some(event);
            }
            if self.has_ended {
                assert!(self.received.is_empty(), "it ended in an event");
                return None;
            }
            self.read_some();
            self.split();
        }
    }

    fn read_some(&mut self) {
        if self.chunk_left == 0 {
            let size = read_line(&mut self.stream);
            self.chunk_left = usize::from_str_radix(&size, 16).unwrap();
            if self.chunk_left == 0 {
                self.has_ended = true;
                return;
            }
        }
        let mut bytes = vec![0; self.chunk_left.min(64 * 1024)];
        let count = read_some(&mut self.stream, &mut bytes);
        assert!(count > 0, "the stream broke off");
        self.received.extend_from_slice(&bytes[..count]);
        self.chunk_left -= count;
        if self.chunk_left == 0 {
            assert_eq!(read_line(&mut self.stream), "");
        }
    }

    fn split(&mut self) {
        const END: &[u8] = b"\r\n\r\n";
        let mut rest = &*self.received;
        while let Some(end) = rest.windows(END.len()).position(|bytes| bytes == END) {
            let data = rest[..end].strip_prefix(b"data: ").unwrap();
            self.whole.push_back(data.to_vec());
            rest = &rest[end + END.len()..];
        }
        self.received = rest.to_vec();
    }
}

fn read_head(stream: &mut TcpStream) -> String {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        stream.read_exact(&mut byte).expect("an answer");
        head.extend_from_slice(&byte);
    }
    String::from_utf8(head).unwrap()
}

fn read_line(stream: &mut TcpStream) -> String {
    let mut line = Vec::new();
    while !line.ends_with(b"\r\n") {
        let mut byte = [0];
        stream.read_exact(&mut byte).expect("a line");
        line.extend_from_slice(&byte);
    }
    line.truncate(line.len() - 2);
    String::from_utf8(line).unwrap()
}

fn status(head: &str) -> u16 {
    head.get(9..12).unwrap().parse().unwrap()
}

fn header<'a>(head: &'a str, wanted: &str) -> Option<&'a str> {
    head.lines().find_map(|line| {
        let (name, value) = line.split_once(": ")?;
        name.eq_ignore_ascii_case(wanted).then_some(value)
    })
}

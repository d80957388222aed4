//! Clients and app servers made of a blocking socket and hand-made frames.

use std::collections::VecDeque;
use std::io::{self, ErrorKind, Read as _, Write as _};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::ops::Range;
use std::time::{Duration, Instant};

use hubring::frame::record::VarintRecords;
use hubring::frame::websocket::{
    self, CloseCode, Control, Data, Decoder, Event, Limits, OpCode, Role,
};
use hubring::protocol::service::{
    ConnectionData, DataMessageType, HandshakeRequest, Message, OpenConnection, decode,
};

use crate::stage::{PATIENCE, Stage};

pub(crate) const MASK: [u8; 4] = [0x5a, 0x17, 0xc3, 0x08];
pub(crate) const HANDSHAKE: &[u8] = b"{\"protocol\":\"json\",\"version\":1}\x1e";
pub(crate) const ACCEPTED: &[u8] = b"{}\x1e";

/// What came from the service.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Heard {
    /// Some bytes of a message.
    Bytes(Vec<u8>),
    Pong(Vec<u8>),
    /// A close frame with its code.
    Close(u16),
    /// The connection has ended in order.
    End,
    /// It was reset.
    Reset,
    /// Nothing, in the time given.
    Nothing,
}

/// One end of a WebSocket.
pub(crate) struct Peer {
    pub(crate) stream: TcpStream,
    decoder: Decoder,
    heard: VecDeque<Heard>,
    buffer: Vec<u8>,
}

impl Peer {
    /// Connects and asks for an upgrade. What stands in `early` is sent in one piece with the request. The status of a refusal.
    pub(crate) fn upgrade(
        stage: &Stage,
        request: (String, String),
        early: &[u8],
    ) -> Result<Self, u16> {
        Self::upgrade_at(stage.address, request, early)
    }

    pub(crate) fn upgrade_at(
        address: SocketAddr,
        (target, token): (String, String),
        early: &[u8],
    ) -> Result<Self, u16> {
        let mut stream = TcpStream::connect(address).unwrap();
        stream.set_nodelay(true).unwrap();
        let mut request = head(&target, &token).into_bytes();
        request.extend_from_slice(early);
        stream.write_all(&request).unwrap();
        Self::upgraded(stream)
    }

    /// Reads the answer to a request for an upgrade.
    pub(crate) fn upgraded(mut stream: TcpStream) -> Result<Self, u16> {
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.set_write_timeout(Some(PATIENCE)).unwrap();
        let mut answer = Vec::new();
        while !answer.ends_with(b"\r\n\r\n") {
            let mut byte = [0];
            stream
                .read_exact(&mut byte)
                .expect("an answer to the upgrade");
            answer.extend_from_slice(&byte);
        }
        let answer = String::from_utf8(answer).unwrap();
        match answer.get(9..12).unwrap().parse().unwrap() {
            101 => Ok(Self {
                stream,
                decoder: Decoder::new(
                    Role::Client,
                    Limits {
                        message_bytes_max: u64::MAX,
                        frames_per_message_max: u32::MAX,
                        text_checked: false,
                    },
                ),
                heard: VecDeque::new(),
                buffer: vec![0; 64 * 1024],
            }),
            status => Err(status),
        }
    }

    pub(crate) fn send_raw(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).unwrap();
    }

    pub(crate) fn send(&mut self, data: Data, payload: &[u8]) {
        self.send_raw(&frame(data, true, payload));
    }

    pub(crate) fn ping(&mut self, payload: &[u8]) {
        self.send_raw(&websocket::control_frame(
            Control::Ping,
            payload,
            Some(MASK),
        ));
    }

    pub(crate) fn close(&mut self, code: CloseCode) {
        self.send_raw(&websocket::close_frame(code, "", Some(MASK)));
    }

    /// Ends the connection with a reset.
    pub(crate) fn reset(self) {
        socket2::SockRef::from(&self.stream)
            .set_linger(Some(Duration::ZERO))
            .unwrap();
    }

    pub(crate) fn shutdown(&self, how: Shutdown) {
        self.stream.shutdown(how).unwrap();
    }

    pub(crate) fn hear(&mut self) -> Heard {
        match self.hear_within(PATIENCE) {
            Heard::Nothing => panic!("nothing came from the service"),
            heard => heard,
        }
    }

    pub(crate) fn hear_within(&mut self, patience: Duration) -> Heard {
        let deadline = Instant::now() + patience;
        loop {
            if let Some(heard) = self.heard.pop_front() {
                return heard;
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Heard::Nothing;
            }
            self.stream.set_read_timeout(Some(left)).unwrap();
            match self.stream.read(&mut self.buffer) {
                Ok(0) => return Heard::End,
                Ok(bytes) => self.decode(bytes),
                Err(error) if is_timeout(&error) => {}
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) if error.kind() == ErrorKind::ConnectionReset => return Heard::Reset,
                Err(error) => panic!("{error}"),
            }
        }
    }

    /// Reads on to the end, and answers a close frame. Its code, if there was one, and how it ended.
    pub(crate) fn hear_end(&mut self) -> (Option<u16>, Heard) {
        let mut code = None;
        loop {
            match self.hear() {
                Heard::Close(with) => {
                    code = Some(with);
                    let answer = websocket::close_frame(CloseCode::Normal, "", Some(MASK));
                    // It may have ended the connection at once, or we our side of it.
                    let _ = self.stream.write_all(&answer);
                }
                heard @ (Heard::End | Heard::Reset) => return (code, heard),
                Heard::Bytes(_) | Heard::Pong(_) => {}
                Heard::Nothing => unreachable!("`hear` has panicked"),
            }
        }
    }

    fn decode(&mut self, bytes: usize) {
        let (input, mut at) = (&mut self.buffer[..bytes], 0);
        while let Some(event) = self.decoder.next(input, &mut at).unwrap() {
            self.heard.push_back(match event {
                Event::Data(piece) => Heard::Bytes(input[piece.range].to_vec()),
                Event::Pong(payload) => Heard::Pong(payload.to_vec()),
                Event::Close(frame) => {
                    Heard::Close(frame.map_or(1005, |frame| u16::from(frame.code)))
                }
                // signalrcore takes the payload of any frame for hub messages.
                Event::Ping(_) => panic!("the service sends no pings of WebSocket"),
            });
        }
    }
}

/// A client.
pub(crate) struct Client {
    pub(crate) peer: Peer,
    pub(crate) id: String,
}

impl Client {
    /// Upgrades, without a hub handshake.
    pub(crate) fn upgrade(stage: &Stage) -> Peer {
        Peer::upgrade(stage, stage.client_request(), &[]).unwrap()
    }

    /// A client whose handshake is through, with the index of the server connection that it is bound to.
    pub(crate) fn connect(stage: &Stage, servers: &mut [AppServer]) -> (Self, usize) {
        let mut peer = Self::upgrade(stage);
        peer.send(Data::Text, HANDSHAKE);
        let (index, id) = accept(servers);
        assert_eq!(peer.hear(), Heard::Bytes(ACCEPTED.to_vec()));
        (Self { peer, id }, index)
    }

    pub(crate) fn send(&mut self, text: &str) {
        self.peer.send(Data::Text, text.as_bytes());
    }

    /// Reads exactly this, whatever frames it comes in.
    pub(crate) fn expect(&mut self, expected: &[u8]) {
        let mut heard = Vec::new();
        while heard.len() < expected.len() {
            match self.peer.hear() {
                Heard::Bytes(bytes) => heard.extend_from_slice(&bytes),
                other => panic!("{other:?} after {} bytes", heard.len()),
            }
        }
        assert!(heard == expected, "other bytes than expected");
    }
}

/// Waits for a client on any of the server connections, and accepts its handshake.
pub(crate) fn accept(servers: &mut [AppServer]) -> (usize, String) {
    let started = Instant::now();
    loop {
        assert!(started.elapsed() < PATIENCE, "no client came");
        let each = Duration::from_millis(if servers.len() == 1 { 1000 } else { 2 });
        for (index, server) in servers.iter_mut().enumerate() {
            if let Some(id) = server.accept_within(each) {
                return (index, id);
            }
        }
    }
}

/// A server connection.
pub(crate) struct AppServer {
    pub(crate) peer: Peer,
    records: VarintRecords,
    partial: Vec<u8>,
    messages: VecDeque<Vec<u8>>,
    /// Instances that were named in `target` pings.
    pub(crate) targets: VecDeque<String>,
}

impl AppServer {
    /// A server connection whose handshake is through.
    pub(crate) fn connect(stage: &Stage, connection_id: &str) -> Self {
        Self::connect_with(stage, stage.server_request(connection_id))
    }

    pub(crate) fn connect_with(stage: &Stage, request: (String, String)) -> Self {
        let mut peer = Peer::upgrade(stage, request, &[]).unwrap();
        peer.send_raw(&handshake_request());
        Self::new(peer)
    }

    /// As [`Self::connect`], for an app server that lets clients keep their state.
    pub(crate) fn connect_stateful(stage: &Stage) -> Self {
        let mut peer = Peer::upgrade(stage, stage.server_request("stateful"), &[]).unwrap();
        peer.send_raw(&handshake_request_of(&HandshakeRequest {
            version: 1,
            allow_stateful_reconnects: true,
            ..HandshakeRequest::default()
        }));
        Self::new(peer)
    }

    /// As [`Self::connect`], with the handshake request in one piece with the request for the upgrade.
    pub(crate) fn connect_at_once(stage: &Stage) -> Self {
        let request = stage.server_request("early");
        Self::new(Peer::upgrade(stage, request, &handshake_request()).unwrap())
    }

    fn new(peer: Peer) -> Self {
        let mut server = Self {
            peer,
            records: VarintRecords::new(u32::MAX >> 1),
            partial: Vec::new(),
            messages: VecDeque::new(),
            targets: VecDeque::new(),
        };
        let answer = server.next().unwrap();
        let Message::HandshakeResponse(response) = read(&answer) else {
            panic!("no handshake response");
        };
        assert_eq!(response.error_message, "");
        server
    }

    /// As many as there are shards, so that each of these has one.
    pub(crate) fn connect_all(stage: &Stage, count: usize) -> Vec<Self> {
        (0..count)
            .map(|index| Self::connect(stage, &format!("server-{index}")))
            .collect()
    }

    pub(crate) fn send(&mut self, message: &Message<'_, &[u8]>) {
        let mut bytes = Vec::new();
        message.encode(&mut bytes);
        self.peer.send(Data::Binary, &bytes);
    }

    pub(crate) fn send_to(&mut self, id: &str, payload: &[u8]) {
        self.peer.send(Data::Binary, &connection_data(id, payload));
    }

    /// The next message that is no ping. `None` when the connection has ended.
    pub(crate) fn next(&mut self) -> Option<Vec<u8>> {
        match self.next_within(PATIENCE) {
            Ok(message) => message,
            Err(()) => panic!("nothing came from the service"),
        }
    }

    /// As [`Self::next`]; an error when nothing came in time.
    pub(crate) fn next_within(&mut self, patience: Duration) -> Result<Option<Vec<u8>>, ()> {
        let deadline = Instant::now() + patience;
        loop {
            if let Some(message) = self.messages.pop_front() {
                return Ok(Some(message));
            }
            let left = deadline.saturating_duration_since(Instant::now());
            match self.peer.hear_within(left) {
                Heard::Bytes(bytes) => self.split(&bytes),
                Heard::Pong(_) => {}
                Heard::Close(_) | Heard::End | Heard::Reset => return Ok(None),
                Heard::Nothing => return Err(()),
            }
        }
    }

    /// What a client has said, with its id.
    pub(crate) fn next_data(&mut self) -> (String, Vec<u8>) {
        let message = self.next().expect("the server connection has ended");
        match read(&message) {
            Message::ConnectionData(data) => (
                data.connection_id.into_owned(),
                message[data.payload].to_vec(),
            ),
            other => panic!("no data: {other:?}"),
        }
    }

    /// Accepts the handshake of the next client, if one comes in time. Its id.
    fn accept_within(&mut self, patience: Duration) -> Option<String> {
        let message = self.next_within(patience).ok()??;
        let Message::OpenConnection(OpenConnection { connection_id, .. }) = read(&message) else {
            // Another client has said something, or has left.
            return None;
        };
        let (from, handshake) = self.next_data();
        assert_eq!((&*from, &*handshake), (&*connection_id, HANDSHAKE));
        self.send_to(&connection_id, ACCEPTED);
        Some(connection_id.into_owned())
    }

    fn split(&mut self, bytes: &[u8]) {
        let mut at = 0;
        while let Some(piece) = self.records.next(bytes, &mut at).unwrap() {
            self.partial.extend_from_slice(&bytes[piece.range]);
            if piece.ends_record {
                let message = std::mem::take(&mut self.partial);
                if let Message::Ping(ping) = read(&message) {
                    self.targets.extend(ping.value("target").map(str::to_owned));
                } else {
                    self.messages.push_back(message);
                }
            }
        }
    }
}

fn handshake_request() -> Vec<u8> {
    handshake_request_of(&HandshakeRequest {
        version: 1,
        ..HandshakeRequest::default()
    })
}

fn handshake_request_of(request: &HandshakeRequest<'_>) -> Vec<u8> {
    let mut bytes = Vec::new();
    Message::<&[u8]>::from(request.clone()).encode(&mut bytes);
    frame(Data::Binary, true, &bytes)
}

pub(crate) fn read(message: &[u8]) -> Message<'_, Range<usize>> {
    decode(&[message]).unwrap()
}

pub(crate) fn connection_data(id: &str, payload: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::new();
    let data = ConnectionData {
        connection_id: id.into(),
        payload,
        // One of an SDK that does not say what it sends would be held until its hub message is whole.
        data_type: DataMessageType::Invocation,
        ..ConnectionData::default()
    };
    Message::from(data).encode(&mut bytes);
    bytes
}

/// A masked data frame.
pub(crate) fn frame(data: Data, is_final: bool, payload: &[u8]) -> Vec<u8> {
    let opcode = OpCode::Data(data);
    let header = websocket::header(opcode, is_final, payload.len() as u64, Some(MASK));
    let mut frame = header.to_vec();
    frame.extend_from_slice(payload);
    websocket::mask(&mut frame[header.len()..], MASK, 0);
    frame
}

pub(crate) fn head(target: &str, token: &str) -> String {
    format!(
        "GET {target} HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
         Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\nAuthorization: Bearer {token}\r\n\r\n"
    )
}

/// Reads once. Rings in this process may interrupt it.
pub(crate) fn read_some(stream: &mut TcpStream, buffer: &mut [u8]) -> usize {
    loop {
        match stream.read(buffer) {
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            read => return read.unwrap(),
        }
    }
}

fn is_timeout(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut)
}

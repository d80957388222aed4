//! What is behind a WebSocket proxy: it accepts every WebSocket that comes, and sends each message back.
//!
//! There are as many connections as clients, and each costs as little as can be: one read, the mask taken off where the bytes lie, one
//! write, for all messages that have come together.

use std::io::ErrorKind;
use std::net::SocketAddr;
use std::time::Instant;

use hubring::frame::upgrade;
use mio::net::{TcpListener, TcpStream};
use mio::{Interest, Token};

use super::OtherSide;
use super::echo_frames::EchoFrames;
use crate::error::LoadError;
use crate::job::Load;
use crate::worker::io::Io;
use crate::worker::socket::Socket;

/// The other side of `Target::Hop`.
pub(super) struct Backend {
    address: SocketAddr,
    listener: Option<(TcpListener, Token)>,
    /// By how much their tokens are behind the listener's, which has the first. Those that have closed are empty places.
    connections: Vec<Option<Connection>>,
}

struct Connection {
    socket: Socket,
    stage: Stage,
}

enum Stage {
    /// What has come of the request.
    Upgrade(Vec<u8>),
    Open(EchoFrames),
}

impl Backend {
    /// It has one thing to say, whatever it is asked: nothing but echoes will do.
    pub(super) fn new(address: SocketAddr, load: &Load) -> Result<Self, LoadError> {
        if !matches!(load, Load::Echo { .. }) {
            return Err(LoadError::OtherSideCannot {
                other_side: "the backend of a proxy",
                load: load.clone(),
            });
        }
        Ok(Self {
            address,
            listener: None,
            connections: Vec::new(),
        })
    }

    fn accept(&mut self, io: &mut Io<'_>) -> Result<(), LoadError> {
        let Some((listener, first)) = &self.listener else {
            return Ok(());
        };
        loop {
            let stream = match listener.accept() {
                Ok((stream, _)) => stream,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                // Who has gone before it was accepted wants nothing any more.
                Err(error) if error.kind() == ErrorKind::ConnectionAborted => continue,
                Err(error) => return Err(LoadError::Accept(error)),
            };
            let token = io.tokens.allocate();
            let connection = Connection::new(stream, token, io).map_err(LoadError::Socket)?;
            let place = token.0 - first.0;
            if self.connections.len() <= place {
                self.connections.resize_with(place + 1, || None);
            }
            if let Some(slot) = self.connections.get_mut(place) {
                *slot = Some(connection);
            }
        }
    }
}

impl OtherSide for Backend {
    fn open(&mut self, io: &mut Io<'_>) -> Result<(), LoadError> {
        let mut listener = TcpListener::bind(self.address).map_err(LoadError::Listen)?;
        let token = io.tokens.allocate();
        io.registry
            .register(&mut listener, token, Interest::READABLE)
            .map_err(LoadError::Poll)?;
        self.listener = Some((listener, token));
        Ok(())
    }

    fn is_ready(&self) -> bool {
        self.listener.is_some()
    }

    fn on_ready(&mut self, token: Token, io: &mut Io<'_>) -> Result<(), LoadError> {
        let Some((_, first)) = self.listener else {
            return Ok(());
        };
        if token == first {
            return self.accept(io);
        }
        // A token from before the listener's belongs to a connection of an earlier life.
        let place = token.0.checked_sub(first.0);
        let Some(slot) = place.and_then(|place| self.connections.get_mut(place)) else {
            return Ok(());
        };
        if let Some(connection) = slot
            && !connection.on_ready(io.buffer)?
        {
            *slot = None;
        }
        Ok(())
    }

    fn on_turn(&mut self, _: Instant, _: u64, _: &mut Io<'_>) -> Result<(), LoadError> {
        Ok(())
    }

    fn start(&mut self, _: Instant) {}

    fn stop(&mut self, _: Instant) {}

    /// The clients know what is still under way: all of it is theirs.
    fn is_quiet(&self) -> bool {
        true
    }

    fn next_due(&self) -> Option<Instant> {
        None
    }

    fn die(&mut self, _: &mut Io<'_>) {
        self.listener = None;
        self.connections.clear();
    }

    fn rise(&mut self, io: &mut Io<'_>) -> Result<(), LoadError> {
        self.open(io)
    }
}

impl Connection {
    fn new(stream: TcpStream, token: Token, io: &Io<'_>) -> std::io::Result<Self> {
        stream.set_nodelay(true)?;
        let mut socket = Socket::new(stream);
        socket.register(io.registry, token)?;
        Ok(Self {
            socket,
            stage: Stage::Upgrade(Vec::new()),
        })
    }

    /// Sends back what has come. `false` if the other end has closed.
    fn on_ready(&mut self, buffer: &mut [u8]) -> Result<bool, LoadError> {
        self.socket.flush().map_err(LoadError::Socket)?;
        loop {
            let count = match self.socket.read_into(buffer) {
                Ok(Some(0)) => return Ok(false),
                Ok(Some(count)) => count,
                Ok(None) => return Ok(true),
                // A proxy that has lost its client may leave without ceremony.
                Err(error) if error.kind() == ErrorKind::ConnectionReset => return Ok(false),
                Err(error) => return Err(LoadError::Socket(error)),
            };
            let answer_bytes = self.on_bytes(buffer, count)?;
            let answer = buffer.get(..answer_bytes).unwrap_or_default();
            self.socket.send(answer).map_err(LoadError::Socket)?;
            if count < buffer.len() {
                return Ok(true);
            }
        }
    }

    /// Takes the first `count` bytes of `buffer`, and tells how many bytes of answer lie there instead.
    fn on_bytes(&mut self, buffer: &mut [u8], count: usize) -> Result<usize, LoadError> {
        let bytes = buffer.get_mut(..count).unwrap_or_default();
        let request = match &mut self.stage {
            Stage::Open(frames) => return frames.rewrite(bytes),
            Stage::Upgrade(request) => request,
        };
        request.extend_from_slice(bytes);
        let Some((head, head_bytes)) = upgrade::parse(request)? else {
            return Ok(0);
        };
        let answer = upgrade::switching_protocols(&head.check_upgrade()?);
        self.socket.queue(&answer);
        // A client that does not wait for the answer has sent frames already.
        let behind = request.get(head_bytes..).unwrap_or_default();
        let behind_bytes = behind.len();
        let start = count - behind_bytes;
        bytes.copy_within(start.., 0);
        let mut frames = EchoFrames::new();
        let early = bytes.get_mut(..behind_bytes).unwrap_or_default();
        let answer_bytes = frames.rewrite(early)?;
        self.stage = Stage::Open(frames);
        Ok(answer_bytes)
    }
}

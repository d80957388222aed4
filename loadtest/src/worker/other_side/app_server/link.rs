//! The socket of a server connection, from the first packet to the last.

use mio::Token;

use super::App;
use crate::error::LoadError;
use crate::worker::io::Io;
use crate::worker::socket::Socket;
use crate::worker::upgrade::UpgradeAnswer;
use crate::worker::web_socket::WebSocket;

/// One server connection of the app server, at its position there.
pub(super) struct Link {
    pub(super) token: Token,
    position: usize,
    stage: Stage,
}

enum Stage {
    /// The request waits in the outbox until the connection stands; then its answer is read.
    Upgrading {
        socket: Socket,
        answer: UpgradeAnswer,
    },
    Open(WebSocket),
    /// A fault has ended it.
    Broken,
}

impl Link {
    /// Takes over a socket that is about to connect, and asks for the upgrade with `request`.
    pub(super) fn open(
        mut socket: Socket,
        request: &[u8],
        position: usize,
        io: &mut Io<'_>,
    ) -> Result<Self, LoadError> {
        let token = io.tokens.allocate();
        socket
            .register(io.registry, token)
            .map_err(LoadError::Poll)?;
        socket.queue(request);
        Ok(Self {
            token,
            position,
            stage: Stage::Upgrading {
                socket,
                answer: UpgradeAnswer::default(),
            },
        })
    }

    pub(super) fn is_open(&self) -> bool {
        matches!(self.stage, Stage::Open(_))
    }

    /// What the kernel has not taken yet.
    pub(super) fn queued_bytes(&self) -> usize {
        match &self.stage {
            Stage::Upgrading { .. } | Stage::Broken => 0,
            Stage::Open(web_socket) => web_socket.queued_bytes(),
        }
    }

    /// Reads what there is, and answers all of that in one message.
    pub(super) fn on_ready(&mut self, app: &mut App, buffer: &mut [u8]) -> Result<(), LoadError> {
        let position = self.position;
        self.stage = match std::mem::replace(&mut self.stage, Stage::Broken) {
            Stage::Upgrading { socket, answer } => upgrade(socket, answer, buffer, |bytes| {
                app.on_bytes(position, bytes)
            })?,
            later @ (Stage::Open(_) | Stage::Broken) => later,
        };
        if let Stage::Open(web_socket) = &mut self.stage {
            web_socket.receive(buffer, |_, bytes| app.on_bytes(position, bytes))?;
        }
        self.send(app)
    }

    /// Sends what the app server has to say.
    pub(super) fn send(&mut self, app: &mut App) -> Result<(), LoadError> {
        let Stage::Open(web_socket) = &mut self.stage else {
            return Ok(());
        };
        if let Some(outgoing) = app.outgoing(self.position)
            && !outgoing.is_empty()
        {
            web_socket.queue_message(outgoing);
            outgoing.clear();
        }
        web_socket.flush()
    }
}

/// Reads on in the answer to the upgrade; what comes behind it belongs to the WebSocket.
fn upgrade(
    mut socket: Socket,
    mut answer: UpgradeAnswer,
    buffer: &mut [u8],
    mut on_bytes: impl FnMut(&[u8]) -> Result<(), LoadError>,
) -> Result<Stage, LoadError> {
    socket.flush().map_err(LoadError::Connect)?;
    while let Some(count) = socket.read_into(buffer).map_err(LoadError::Connect)? {
        let received = buffer.get_mut(..count).unwrap_or_default();
        if received.is_empty() {
            return Err(LoadError::ClosedSilently);
        }
        if let Some(head_bytes) = answer.on_bytes(received)? {
            let mut web_socket = WebSocket::new(socket);
            let behind = received.get_mut(head_bytes..).unwrap_or_default();
            web_socket.on_bytes(behind, |_, bytes| on_bytes(bytes))?;
            return Ok(Stage::Open(web_socket));
        }
    }
    Ok(Stage::Upgrading { socket, answer })
}

#[cfg(test)]
mod tests {
    use std::io::{Read as _, Write as _};
    use std::net::{Ipv4Addr, TcpListener, TcpStream};
    use std::thread;
    use std::time::{Duration, Instant};

    use mio::{Events, Poll};

    use super::super::AppServer;
    use super::super::tests::job;
    use crate::job::Load;
    use crate::worker::access::TokenSigner;
    use crate::worker::io::{Io, TokenAllocator};
    use crate::worker::other_side::OtherSide;

    /// A ping and the handshake response, in one frame behind the head. Whoever is accepted has answered the ping.
    const ANSWER: &[u8] =
        b"HTTP/1.1 101 Switching Protocols\r\n\r\n\x82\x09\x02\x91\x03\x05\x94\x02\xa0\x80\xc0";

    /// Header and key of a frame of an app server, without its payload.
    const FRAME_HEADER_BYTES: usize = 6;

    /// Accepts a server connection, hears its handshake and the answer to a ping, and tells the target that it asked for.
    fn accept(listener: &TcpListener) -> (TcpStream, String) {
        let (mut stream, _) = listener.accept().unwrap();
        let mut request = Vec::new();
        while !request.ends_with(b"\r\n\r\n") {
            let mut byte = [0];
            stream.read_exact(&mut byte).unwrap();
            request.extend(byte);
        }
        for part in ANSWER.chunks(5) {
            stream.write_all(part).unwrap();
            thread::sleep(Duration::from_millis(1));
        }
        // Both may come in one message.
        let mut expected_bytes = 9 + 28;
        while expected_bytes > 0 {
            let mut header = [0; FRAME_HEADER_BYTES];
            stream.read_exact(&mut header).unwrap();
            let length = usize::from(header[1] & 0x7f);
            stream.read_exact(&mut vec![0; length]).unwrap();
            expected_bytes -= length;
        }
        let request = String::from_utf8(request).unwrap();
        let target = request.split(' ').nth(1).unwrap().to_owned();
        (stream, target)
    }

    #[test]
    fn server_connections_are_opened_lost_and_opened_again_with_new_ids() {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let address = listener.local_addr().unwrap();
        let service = thread::spawn(move || {
            let lives = [(); 2].map(|()| [accept(&listener), accept(&listener)]);
            lives.map(|life| life.map(|(_, target)| target))
        });

        let mut job = job(Load::Idle, 0);
        job.server_connections = 2;
        let signer = TokenSigner::new("chat", "a key", "127.0.0.1").unwrap();
        let mut app_server = AppServer::new(&job, address, "chat", &signer).unwrap();

        let mut poll = Poll::new().unwrap();
        let mut events = Events::with_capacity(8);
        let mut tokens = TokenAllocator::new();
        let mut buffer = vec![0; 16];
        for life in 0..2 {
            let registry = poll.registry().try_clone().unwrap();
            let mut io = Io {
                registry: &registry,
                tokens: &mut tokens,
                buffer: &mut buffer,
            };
            match life {
                0 => app_server.open(&mut io).unwrap(),
                _ => app_server.rise(&mut io).unwrap(),
            }
            while !app_server.is_ready() {
                poll.poll(&mut events, Some(Duration::from_secs(5)))
                    .unwrap();
                assert!(!events.is_empty(), "the service says nothing");
                for event in &events {
                    app_server.on_ready(event.token(), &mut io).unwrap();
                }
                app_server.on_turn(Instant::now(), 0, &mut io).unwrap();
            }
            assert!(app_server.is_quiet());
            if life == 0 {
                app_server.die(&mut io);
                assert!(!app_server.is_ready());
            }
        }

        let target = |id| format!("/server/?hub=chat&cid=loadtest-{id}");
        let expected = [["0-0", "0-1"], ["1-0", "1-1"]].map(|life| life.map(target));
        assert_eq!(service.join().unwrap(), expected);
    }
}

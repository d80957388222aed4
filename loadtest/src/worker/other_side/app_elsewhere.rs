//! An app server that is a process of its own: a hub of the SDK, by itself or behind a service. It answers its clients unasked; what it
//! shall send on its own account it is asked for by HTTP, one request at a time.

use std::net::SocketAddr;
use std::time::Instant;

use mio::Token;

use super::OtherSide;
use crate::error::LoadError;
use crate::job::{HubProtocol, Job, Load};
use crate::worker::http_answer::HttpAnswer;
use crate::worker::io::Io;
use crate::worker::payload::asp_net_invocation;
use crate::worker::socket::Socket;

/// What the app server calls at its clients, and the first argument; the second is the letter `x` as often as is asked for.
const METHOD: &str = "recv";
const KIND: &str = "rate";

/// The far end of an app server's HTTP port.
pub(crate) struct AppElsewhere {
    address: SocketAddr,
    /// None where nothing has to be asked for.
    broadcasts: Option<Broadcasts>,
    connection: Option<Connection>,
}

/// How broadcasts are asked for, and how far that has come.
struct Broadcasts {
    request: Vec<u8>,
    /// Deliveries that follow from one request, and how many of them may be missing when the next one is sent.
    deliveries: u64,
    overlap: u64,
    is_running: bool,
    /// Whether a request is under way.
    is_asking: bool,
    /// Messages that will have arrived at clients when all that was asked for has arrived.
    expected: u64,
    arrived: u64,
}

struct Connection {
    socket: Socket,
    token: Token,
    is_connected: bool,
    answer: HttpAnswer,
}

impl AppElsewhere {
    /// For an app server that listens at `address`.
    pub(crate) fn new(address: SocketAddr, job: &Job) -> Self {
        let broadcasts = if let Load::Broadcast {
            burst,
            overlap_percent,
        } = job.load
        {
            Some(Broadcasts::new(address, job, burst, overlap_percent))
        } else {
            None
        };
        Self {
            address,
            broadcasts,
            connection: None,
        }
    }

    fn ask_if_due(&mut self) -> Result<(), LoadError> {
        if let Some(broadcasts) = &mut self.broadcasts
            && let Some(connection) = &mut self.connection
            && connection.is_connected
            && broadcasts.is_due()
        {
            broadcasts.is_asking = true;
            broadcasts.expected += broadcasts.deliveries;
            let sent = connection.socket.send(&broadcasts.request);
            sent.map_err(LoadError::Socket)?;
        }
        Ok(())
    }
}

impl OtherSide for AppElsewhere {
    fn open(&mut self, io: &mut Io<'_>) -> Result<(), LoadError> {
        if self.broadcasts.is_some() {
            let mut socket = Socket::connect(self.address, None).map_err(LoadError::Connect)?;
            let token = io.tokens.allocate();
            socket
                .register(io.registry, token)
                .map_err(LoadError::Poll)?;
            self.connection = Some(Connection {
                socket,
                token,
                is_connected: false,
                answer: HttpAnswer::default(),
            });
        }
        Ok(())
    }

    fn is_ready(&self) -> bool {
        self.broadcasts.is_none()
            || self
                .connection
                .as_ref()
                .is_some_and(|connection| connection.is_connected)
    }

    fn on_ready(&mut self, token: Token, io: &mut Io<'_>) -> Result<(), LoadError> {
        let Some(connection) = self.connection.as_mut().filter(|it| it.token == token) else {
            return Ok(());
        };
        if connection.on_ready(io)?
            && let Some(broadcasts) = &mut self.broadcasts
        {
            broadcasts.is_asking = false;
        }
        self.ask_if_due()
    }

    fn on_turn(&mut self, _now: Instant, arrived: u64, _io: &mut Io<'_>) -> Result<(), LoadError> {
        if let Some(broadcasts) = &mut self.broadcasts {
            broadcasts.arrived = arrived;
        }
        self.ask_if_due()
    }

    fn start(&mut self, _now: Instant) {
        if let Some(broadcasts) = &mut self.broadcasts {
            broadcasts.is_running = true;
            broadcasts.expected = broadcasts.arrived;
        }
    }

    fn stop(&mut self, _end: Instant) {
        if let Some(broadcasts) = &mut self.broadcasts {
            broadcasts.is_running = false;
        }
    }

    fn is_quiet(&self) -> bool {
        self.broadcasts
            .as_ref()
            .is_none_or(|broadcasts| !broadcasts.is_asking && broadcasts.missing() == 0)
    }

    /// Broadcasts follow one another; none has a time.
    fn next_due(&self) -> Option<Instant> {
        None
    }

    fn die(&mut self, _io: &mut Io<'_>) {
        self.connection = None;
        if let Some(broadcasts) = &mut self.broadcasts {
            broadcasts.is_asking = false;
        }
    }

    fn rise(&mut self, io: &mut Io<'_>) -> Result<(), LoadError> {
        self.open(io)
    }
}

impl Broadcasts {
    fn new(address: SocketAddr, job: &Job, burst: u32, overlap_percent: u32) -> Self {
        let letters = letters(job.hub_protocol, job.payload_bytes as usize);
        let request = format!("GET /rate/{burst}/{letters} HTTP/1.1\r\nHost: {address}\r\n\r\n");
        let deliveries = u64::from(burst) * u64::from(job.clients_total);
        Self {
            request: request.into_bytes(),
            deliveries,
            overlap: deliveries * u64::from(overlap_percent) / 100,
            is_running: false,
            is_asking: false,
            expected: 0,
            arrived: 0,
        }
    }

    fn is_due(&self) -> bool {
        self.is_running && !self.is_asking && self.missing() <= self.overlap
    }

    fn missing(&self) -> u64 {
        self.expected.saturating_sub(self.arrived)
    }
}

impl Connection {
    /// Whether an answer has become complete.
    fn on_ready(&mut self, io: &mut Io<'_>) -> Result<bool, LoadError> {
        if !self.is_connected {
            self.is_connected = self.socket.connected().map_err(LoadError::Connect)?;
            return Ok(false);
        }
        self.socket.flush().map_err(LoadError::Socket)?;
        let mut is_complete = false;
        while let Some(count) = self
            .socket
            .read_into(io.buffer)
            .map_err(LoadError::Socket)?
        {
            if count == 0 {
                return Err(LoadError::ClosedSilently);
            }
            let bytes = io.buffer.get(..count).unwrap_or_default();
            is_complete |= self.answer.on_bytes(bytes)?;
        }
        Ok(is_complete)
    }
}

/// How many letters make a hub message of so many bytes, if that is at least
/// [`PAYLOAD_BYTES_MIN`](crate::worker::payload::PAYLOAD_BYTES_MIN).
fn letters(protocol: HubProtocol, bytes: usize) -> usize {
    let length = |letters: usize| {
        let text = "x".repeat(letters);
        asp_net_invocation(protocol, METHOD, [KIND, &text]).len()
    };
    // Lengths take more bytes when they are larger: up to five in front of the string and the record.
    let mut letters = bytes.saturating_sub(length(0) + 8);
    while length(letters + 1) <= bytes {
        letters += 1;
    }
    letters
}

#[cfg(test)]
mod tests {
    use std::io::{Read as _, Write as _};
    use std::net::TcpListener;
    use std::time::Duration;

    use mio::{Events, Poll};

    use super::*;
    use crate::job::{Pacing, Target};
    use crate::worker::io::TokenAllocator;

    const PATIENCE: Duration = Duration::from_secs(20);

    fn job(address: SocketAddr, load: Load) -> Job {
        Job {
            target: Target::SelfHost {
                address,
                path: "/chat".to_owned(),
            },
            load,
            clients: 10,
            first_client: 0,
            clients_total: 10,
            plays_other_side: true,
            server_connections: 0,
            payload_bytes: 2048,
            hub_protocol: HubProtocol::Json,
            checked_one_in: 1,
            progress: None,
            core: 0,
            watched: Vec::new(),
        }
    }

    /// An app server, what is asked of it, and the loop that it needs.
    struct World {
        app: AppElsewhere,
        poll: Poll,
        tokens: TokenAllocator,
        buffer: Vec<u8>,
    }

    impl World {
        fn new(app: AppElsewhere) -> Self {
            Self {
                app,
                poll: Poll::new().unwrap(),
                tokens: TokenAllocator::new(),
                buffer: vec![0; 4096],
            }
        }

        fn with_io(&mut self, act: impl FnOnce(&mut AppElsewhere, &mut Io<'_>)) {
            let mut io = Io {
                registry: self.poll.registry(),
                tokens: &mut self.tokens,
                buffer: &mut self.buffer,
            };
            act(&mut self.app, &mut io);
        }

        fn turn(&mut self, arrived: u64) {
            self.with_io(|app, io| app.on_turn(Instant::now(), arrived, io).unwrap());
        }

        fn run_until(&mut self, is_reached: impl Fn(&AppElsewhere) -> bool) {
            let mut events = Events::with_capacity(8);
            while !is_reached(&self.app) {
                self.poll.poll(&mut events, Some(PATIENCE)).unwrap();
                assert!(!events.is_empty(), "nothing happened in time");
                for event in &events {
                    self.with_io(|app, io| app.on_ready(event.token(), io).unwrap());
                }
            }
        }
    }

    /// What each client receives of a broadcast.
    fn broadcast_payload(protocol: HubProtocol, bytes: usize) -> Vec<u8> {
        let text = "x".repeat(letters(protocol, bytes));
        asp_net_invocation(protocol, METHOD, [KIND, &text])
    }

    #[test]
    fn a_broadcast_has_the_wanted_size() {
        for bytes in [96, 128, 512, 2048, 65_537] {
            let json = broadcast_payload(HubProtocol::Json, bytes);
            assert_eq!(json.len(), bytes);
            assert!(json.ends_with(b"xx\"]}\x1e"));
            // In MessagePack a few sizes cannot be reached.
            let packed = broadcast_payload(HubProtocol::MessagePack, bytes);
            assert!(packed.len() + 1 >= bytes && packed.len() <= bytes);
        }
        let text = String::from_utf8(broadcast_payload(HubProtocol::Json, 96)).unwrap();
        assert!(text.starts_with(r#"{"type":1,"target":"recv","arguments":["rate","xx"#));
    }

    #[test]
    fn the_next_broadcast_is_asked_for_when_the_last_one_has_been_answered_and_arrived() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let load = Load::Broadcast {
            burst: 8,
            overlap_percent: 25,
        };
        let mut world = World::new(AppElsewhere::new(address, &job(address, load)));
        world.with_io(|app, io| app.open(io).unwrap());
        assert!(!world.app.is_ready());
        let (mut stream, _) = listener.accept().unwrap();
        world.run_until(AppElsewhere::is_ready);

        let mut expect_request = || {
            let mut request = vec![0; 4096];
            let count = stream.read(&mut request).unwrap();
            let request = String::from_utf8(request[..count].to_vec()).unwrap();
            assert!(
                request.starts_with("GET /rate/8/1997 HTTP/1.1\r\n"),
                "{request}"
            );
            stream
                .write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
                .unwrap();
        };
        let is_answered = |app: &AppElsewhere| !app.broadcasts.as_ref().unwrap().is_asking;
        world.turn(5);
        assert!(is_answered(&world.app), "nothing before the start");
        world.app.start(Instant::now());
        world.turn(5);
        assert!(!is_answered(&world.app));
        expect_request();
        world.run_until(is_answered);
        // Of 80 deliveries 20 may be missing.
        world.turn(5 + 59);
        assert!(is_answered(&world.app));
        world.turn(5 + 60);
        assert!(!is_answered(&world.app));
        world.app.stop(Instant::now());
        expect_request();
        world.run_until(is_answered);
        world.turn(5 + 159);
        assert!(!world.app.is_quiet());
        world.turn(5 + 160);
        assert!(world.app.is_quiet() && is_answered(&world.app));
    }

    #[test]
    fn where_nothing_has_to_be_asked_for_it_needs_no_connection() {
        let pacing = Pacing::Closed { depth: 1 };
        let address = SocketAddr::from(([127, 0, 0, 1], 9));
        let mut world = World::new(AppElsewhere::new(
            address,
            &job(address, Load::Echo { pacing }),
        ));
        world.with_io(|app, io| app.open(io).unwrap());
        world.app.start(Instant::now());
        world.turn(0);
        assert!(world.app.is_ready() && world.app.is_quiet());
    }
}

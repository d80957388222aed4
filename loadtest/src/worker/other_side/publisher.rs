//! What publishes where clients only subscribe: it POSTs bursts of messages, and reads that they were taken.

use std::net::SocketAddr;
use std::time::Instant;

use mio::Token;
use serde_json::json;

use super::OtherSide;
use super::publish_answers::PublishAnswers;
use crate::contestants::pushpin;
use crate::error::LoadError;
use crate::job::{HubProtocol, Job, Load, PublishFormat};
use crate::worker::io::Io;
use crate::worker::payload::{OTHER_SIDE, payload};
use crate::worker::socket::Socket;

/// The other side of `Target::Channel`.
pub(super) struct Publisher {
    address: SocketAddr,
    publication: Publication,
    rounds: Rounds,
    /// Kept as long as the server keeps it.
    connection: Option<Connection>,
}

impl Publisher {
    /// Publishes at `address` what `job` asks for: a POST to `path`, which is path and query.
    pub(super) fn new(
        job: &Job,
        address: SocketAddr,
        path: &str,
        format: PublishFormat,
    ) -> Result<Self, LoadError> {
        let Load::Broadcast {
            burst,
            overlap_percent,
        } = job.load
        else {
            return Err(LoadError::OtherSideCannot {
                other_side: "a publisher",
                load: job.load.clone(),
            });
        };
        if job.hub_protocol != HubProtocol::Json {
            return Err(LoadError::TextOnly);
        }
        let message = payload(HubProtocol::Json, OTHER_SIDE, 0, job.payload_bytes as usize);
        let message = String::from_utf8_lossy(&message);
        Ok(Self {
            address,
            publication: Publication::new(&message, burst, format, address, path),
            rounds: Rounds::new(burst, overlap_percent, job.clients_total),
            connection: None,
        })
    }

    fn publish(&mut self, io: &mut Io<'_>) -> Result<(), LoadError> {
        let connection = match &mut self.connection {
            Some(connection) => connection,
            none => none.insert(Connection::open(self.address, io)?),
        };
        connection.send(&self.publication)?;
        self.rounds.on_published();
        Ok(())
    }

    fn awaited(&self) -> u32 {
        let connection = self.connection.as_ref();
        connection.map_or(0, |connection| connection.awaited)
    }
}

impl OtherSide for Publisher {
    fn open(&mut self, _: &mut Io<'_>) -> Result<(), LoadError> {
        Ok(())
    }

    /// Clients subscribe whether or not anything is published.
    fn is_ready(&self) -> bool {
        true
    }

    fn on_ready(&mut self, token: Token, io: &mut Io<'_>) -> Result<(), LoadError> {
        if let Some(connection) = &mut self.connection
            && connection.token == token
            && !connection.on_ready(io.buffer)?
        {
            self.connection = None;
        }
        Ok(())
    }

    fn on_turn(&mut self, _: Instant, arrived: u64, io: &mut Io<'_>) -> Result<(), LoadError> {
        self.rounds.on_arrived(arrived);
        let may_publish = self.publication.is_pipelined || self.awaited() == 0;
        if may_publish && self.rounds.is_due() {
            self.publish(io)?;
        }
        Ok(())
    }

    fn start(&mut self, _: Instant) {
        self.rounds.is_running = true;
    }

    fn stop(&mut self, _: Instant) {
        self.rounds.is_running = false;
    }

    fn is_quiet(&self) -> bool {
        self.awaited() == 0 && self.rounds.under_way() == 0
    }

    fn next_due(&self) -> Option<Instant> {
        None
    }

    fn die(&mut self, _: &mut Io<'_>) {
        self.connection = None;
    }

    fn rise(&mut self, _: &mut Io<'_>) -> Result<(), LoadError> {
        Ok(())
    }
}

/// A burst, as it is sent.
#[derive(Debug)]
struct Publication {
    requests: Vec<u8>,
    /// How many answers it asks for.
    answers: u32,
    /// Whether more may be sent on a connection before those answers have come. Pushpin closes after each.
    is_pipelined: bool,
}

impl Publication {
    fn new(
        message: &str,
        burst: u32,
        format: PublishFormat,
        address: SocketAddr,
        path: &str,
    ) -> Self {
        let post = |body: &str| {
            let body_bytes = body.len();
            format!(
                "POST {path} HTTP/1.1\r\nHost: {address}\r\nContent-Length: {body_bytes}\r\n\r\n{body}"
            )
        };
        let (requests, answers, is_pipelined) = match format {
            PublishFormat::Plain => (post(message).repeat(burst as usize), burst, true),
            PublishFormat::Pushpin => {
                let formats = json!({"ws-message": {"content": message}});
                let item = json!({"channel": pushpin::CHANNEL, "formats": formats});
                let items = vec![item; burst as usize];
                (post(&json!({"items": items}).to_string()), 1, false)
            }
        };
        Self {
            requests: requests.into_bytes(),
            answers,
            is_pipelined,
        }
    }
}

/// When the next burst is due: as soon as no more than so much of those before is under way.
#[derive(Debug)]
struct Rounds {
    is_running: bool,
    deliveries_per_round: u64,
    under_way_max: u64,
    /// Deliveries since the start of the worker, which published messages have led to or will.
    published: u64,
    arrived: u64,
}

impl Rounds {
    fn new(burst: u32, overlap_percent: u32, clients: u32) -> Self {
        let deliveries_per_round = u64::from(burst) * u64::from(clients);
        Self {
            is_running: false,
            deliveries_per_round,
            under_way_max: deliveries_per_round * u64::from(overlap_percent) / 100,
            published: 0,
            arrived: 0,
        }
    }

    fn on_published(&mut self) {
        self.published += self.deliveries_per_round;
    }

    fn on_arrived(&mut self, arrived: u64) {
        self.arrived = arrived;
    }

    fn under_way(&self) -> u64 {
        self.published.saturating_sub(self.arrived)
    }

    fn is_due(&self) -> bool {
        self.is_running && self.under_way() <= self.under_way_max
    }
}

struct Connection {
    socket: Socket,
    token: Token,
    is_connected: bool,
    answers: PublishAnswers,
    /// Answers that have still to come.
    awaited: u32,
}

impl Connection {
    fn open(address: SocketAddr, io: &mut Io<'_>) -> Result<Self, LoadError> {
        let mut socket = Socket::connect(address, None).map_err(LoadError::Connect)?;
        let token = io.tokens.allocate();
        socket
            .register(io.registry, token)
            .map_err(LoadError::Poll)?;
        Ok(Self {
            socket,
            token,
            is_connected: false,
            answers: PublishAnswers::default(),
            awaited: 0,
        })
    }

    fn send(&mut self, publication: &Publication) -> Result<(), LoadError> {
        self.awaited += publication.answers;
        if self.is_connected {
            let sent = self.socket.send(&publication.requests);
            return sent.map_err(LoadError::Socket);
        }
        self.socket.queue(&publication.requests);
        Ok(())
    }

    /// Goes on with what the socket allows. `false` if the server has closed it, having answered everything.
    fn on_ready(&mut self, buffer: &mut [u8]) -> Result<bool, LoadError> {
        if !self.is_connected {
            self.is_connected = self.socket.connected().map_err(LoadError::Connect)?;
            if !self.is_connected {
                return Ok(true);
            }
        }
        self.socket.flush().map_err(LoadError::Socket)?;
        while let Some(count) = self.socket.read_into(buffer).map_err(LoadError::Socket)? {
            if count == 0 && self.awaited > 0 {
                return Err(LoadError::ClosedSilently);
            }
            let bytes = buffer.get(..count).unwrap_or_default();
            let answered = self.answers.on_bytes(bytes)?;
            self.awaited = self.awaited.saturating_sub(answered);
            if count == 0 || self.answers.is_closing() && self.awaited == 0 {
                return Ok(false);
            }
            if count < buffer.len() {
                break;
            }
        }
        Ok(true)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ADDRESS: SocketAddr =
        SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 80);

    fn publication(message: &str, burst: u32, format: PublishFormat) -> (String, u32) {
        let publication = Publication::new(message, burst, format, ADDRESS, "/publish");
        let requests = String::from_utf8(publication.requests).unwrap();
        (requests, publication.answers)
    }

    #[test]
    fn a_burst_is_a_request_for_each_message() {
        let request =
            "POST /publish HTTP/1.1\r\nHost: 127.0.0.1:80\r\nContent-Length: 6\r\n\r\nhello\x1e";
        let burst = publication("hello\x1e", 3, PublishFormat::Plain);
        assert_eq!(burst, (request.repeat(3), 3));
    }

    #[test]
    fn for_pushpin_a_burst_is_one_request_with_all_messages() {
        let (request, answers) = publication("{\"a\"}\x1e", 8, PublishFormat::Pushpin);
        assert_eq!(answers, 1);
        let (head, body) = request.split_once("\r\n\r\n").unwrap();
        assert!(head.ends_with(&format!("Content-Length: {}", body.len())));
        let body: serde_json::Value = serde_json::from_str(body).unwrap();
        let items = body["items"].as_array().unwrap();
        assert_eq!(items.len(), 8);
        assert_eq!(items[7]["channel"], "test");
        assert_eq!(items[7]["formats"]["ws-message"]["content"], "{\"a\"}\x1e");
    }

    #[test]
    fn a_round_follows_when_all_but_the_overlap_has_arrived() {
        let mut rounds = Rounds::new(8, 25, 100);
        assert!(!rounds.is_due());
        rounds.is_running = true;
        assert!(rounds.is_due());
        rounds.on_published();
        for (arrived, is_due) in [(0, false), (599, false), (600, true), (800, true)] {
            rounds.on_arrived(arrived);
            assert_eq!(rounds.is_due(), is_due, "{arrived}");
        }
        rounds.is_running = false;
        assert!(!rounds.is_due());
        assert_eq!(rounds.under_way(), 0);
    }

    #[test]
    fn without_overlap_every_delivery_is_waited_for() {
        let mut rounds = Rounds::new(1, 0, 1000);
        rounds.is_running = true;
        rounds.on_published();
        rounds.on_arrived(999);
        assert!(!rounds.is_due());
        rounds.on_arrived(1000);
        assert!(rounds.is_due());
    }
}

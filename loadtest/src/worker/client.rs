//! One client: a connection that is made step by step, and what it sends and receives once it has entered its hub.
//!
//! Nothing here blocks, decides when to connect, or forgives a fault: that is for whoever owns [all clients](super::clients).

use std::collections::VecDeque;
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::rc::Rc;
use std::time::Instant;

use hubring::frame::record::find_separator;
use hubring::frame::websocket::{CloseCode, Control, Decoder, Event, close_frame, control_frame};
use mio::{Registry, Token};

use super::inbox::{Arrived, Inbox};
use super::script::ClientScript;
use super::socket::Socket;
use super::upgrade::UpgradeAnswer;
use super::web_socket::{MASKING_KEY, decoder};
use crate::error::LoadError;

/// How a hub accepts a client.
const HUB_HANDSHAKE_ACCEPTED: &[u8] = b"{}\x1e";

/// Clients that share a source address: few beside the 28,000 ports of one. Linux tries them one after the other from a random one on,
/// and would do so for milliseconds where most are taken.
const CLIENTS_PER_ADDRESS: u32 = 500;

/// What one event, or one attempt, has brought.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Happened {
    /// The client has entered its hub just now.
    pub(crate) has_entered: bool,
    pub(crate) arrived: Arrived,
    /// The connection has ended as it was asked to.
    pub(crate) has_left: bool,
}

impl Happened {
    fn add(&mut self, arrived: Arrived) {
        self.arrived.messages += arrived.messages;
        self.arrived.answers += arrived.answers;
    }
}

/// One of many.
#[derive(Debug)]
pub(crate) struct Client {
    number: u32,
    /// Among the clients of this worker.
    position: usize,
    connection: Option<Connection>,
    /// Connections that have been begun.
    attempts: u32,
    /// When the last of them was begun.
    attempted_at: Instant,
    inbox: Inbox,
    /// What it sends: so many frames of equal length, in turn.
    frames: Rc<[u8]>,
    frame_count: u32,
    next_frame: u32,
    /// When each message under way was due, oldest first.
    under_way: VecDeque<Instant>,
}

#[derive(Debug)]
struct Connection {
    socket: Socket,
    stage: Stage,
    /// Of no use where there are no frames.
    decoder: Box<Decoder>,
}

/// How far a connection has come.
#[derive(Debug)]
enum Stage {
    Connecting,
    Upgrading(UpgradeAnswer),
    /// The hub handshake has been sent. Holds what has arrived of the answer.
    Entering(Vec<u8>),
    Entered,
    /// Entered, and never read again.
    Stalled,
    /// A close frame has been sent.
    Leaving,
}

impl Client {
    pub(crate) fn new(script: &ClientScript, number: u32, position: usize, now: Instant) -> Self {
        let (frames, frame_count) = script.frames(number);
        Self {
            number,
            position,
            connection: None,
            attempts: 0,
            attempted_at: now,
            inbox: script.inbox(number),
            frames,
            frame_count,
            next_frame: 0,
            under_way: VecDeque::new(),
        }
    }

    pub(crate) fn number(&self) -> u32 {
        self.number
    }

    /// Begins a connection. The client is registered under `token`.
    pub(crate) fn connect(
        &mut self,
        address: SocketAddr,
        registry: &Registry,
        token: Token,
        now: Instant,
    ) -> Result<(), LoadError> {
        let source = source(address, std::process::id(), self.number, self.attempts);
        self.attempts = self.attempts.wrapping_add(1);
        self.attempted_at = now;
        self.inbox.reset();
        self.next_frame = 0;
        self.under_way.clear();
        let mut socket = Socket::connect(address, source).map_err(LoadError::Connect)?;
        socket.register(registry, token).map_err(LoadError::Poll)?;
        self.connection = Some(Connection {
            socket,
            stage: Stage::Connecting,
            decoder: Box::new(decoder()),
        });
        Ok(())
    }

    /// Drops the connection without a word.
    pub(crate) fn disconnect(&mut self) {
        self.connection = None;
        self.under_way.clear();
    }

    pub(crate) fn attempted_at(&self) -> Instant {
        self.attempted_at
    }

    pub(crate) fn is_connected(&self) -> bool {
        self.connection.is_some()
    }

    /// Whether it has come into its hub, and has not left it.
    pub(crate) fn has_entered(&self) -> bool {
        self.connection
            .as_ref()
            .is_some_and(|connection| connection.stage.has_entered())
    }

    pub(crate) fn is_stalled(&self) -> bool {
        self.connection
            .as_ref()
            .is_some_and(|connection| matches!(connection.stage, Stage::Stalled))
    }

    pub(crate) fn is_leaving(&self) -> bool {
        self.connection
            .as_ref()
            .is_some_and(|connection| matches!(connection.stage, Stage::Leaving))
    }

    pub(crate) fn under_way(&self) -> usize {
        self.under_way.len()
    }

    /// Messages that the kernel has not taken yet.
    pub(crate) fn queued(&self) -> u64 {
        let queued = self
            .connection
            .as_ref()
            .map_or(0, |connection| connection.socket.queued_bytes());
        queued.div_ceil(self.frame_bytes().max(1)) as u64
    }

    /// From now on nothing is read.
    pub(crate) fn stall(&mut self, registry: &Registry, token: Token) -> Result<(), LoadError> {
        if let Some(connection) = &mut self.connection {
            connection.stage = Stage::Stalled;
            let stopped = connection.socket.stop_reading(registry, token);
            stopped.map_err(LoadError::Poll)?;
        }
        Ok(())
    }

    /// Says goodbye. The connection ends when the other end has answered.
    pub(crate) fn leave(&mut self) -> Result<(), LoadError> {
        if let Some(connection) = &mut self.connection {
            connection.stage = Stage::Leaving;
            let frame = close_frame(CloseCode::Normal, "", Some(MASKING_KEY));
            connection.socket.send(&frame).map_err(LoadError::Socket)?;
        }
        Ok(())
    }

    /// Sends `count` messages, which were due at `due`.
    pub(crate) fn send(&mut self, count: u32, due: Instant) -> Result<(), LoadError> {
        let frame_bytes = self.frame_bytes();
        let Some(connection) = &mut self.connection else {
            return Ok(());
        };
        let mut left = count;
        while left > 0 {
            let together = left.min(self.frame_count - self.next_frame);
            let start = self.next_frame as usize * frame_bytes;
            let frames = self
                .frames
                .get(start..start + together as usize * frame_bytes);
            connection
                .socket
                .send(frames.unwrap_or_default())
                .map_err(LoadError::Socket)?;
            self.next_frame = (self.next_frame + together) % self.frame_count;
            left -= together;
        }
        self.under_way
            .extend(std::iter::repeat_n(due, count as usize));
        Ok(())
    }

    /// When the oldest message under way was due, which has arrived.
    pub(crate) fn take_due(&mut self) -> Option<Instant> {
        self.under_way.pop_front()
    }

    /// When the messages of the other side that have arrived since the last look were due, in nanoseconds of the shared clock.
    pub(crate) fn take_due_times(&mut self) -> impl Iterator<Item = u64> + '_ {
        self.inbox.take_due_times()
    }

    /// Something can be read, if `is_readable`, or written. `is_ending` tells that the end of the stream may be behind what there is to read.
    pub(crate) fn on_ready(
        &mut self,
        script: &ClientScript,
        is_readable: bool,
        is_ending: bool,
        buffer: &mut [u8],
    ) -> Result<Happened, LoadError> {
        let mut happened = Happened::default();
        let Some(connection) = &mut self.connection else {
            return Ok(happened);
        };
        if matches!(connection.stage, Stage::Connecting) {
            if !connection.socket.connected().map_err(LoadError::Connect)? {
                return Ok(happened);
            }
            connection.on_connected(script.request(self.position), &mut happened)?;
        }
        connection.socket.flush().map_err(LoadError::Socket)?;
        if !is_readable || matches!(connection.stage, Stage::Stalled) {
            return Ok(happened);
        }
        while let Some(count) = connection.read_into(buffer)? {
            if count == 0 {
                if matches!(connection.stage, Stage::Leaving) {
                    happened.has_left = true;
                    return Ok(happened);
                }
                return Err(LoadError::ClosedSilently);
            }
            let received = buffer.get_mut(..count).unwrap_or_default();
            connection.on_bytes(script, received, &mut self.inbox, &mut happened)?;
            if count < buffer.len() && !is_ending {
                break;
            }
        }
        Ok(happened)
    }

    fn frame_bytes(&self) -> usize {
        self.frames.len() / self.frame_count.max(1) as usize
    }
}

impl Connection {
    fn on_connected(
        &mut self,
        request: Option<&[u8]>,
        happened: &mut Happened,
    ) -> Result<(), LoadError> {
        if let Some(request) = request {
            self.stage = Stage::Upgrading(UpgradeAnswer::default());
            self.socket.send(request).map_err(LoadError::Socket)
        } else {
            self.stage = Stage::Entered;
            happened.has_entered = true;
            Ok(())
        }
    }

    /// An end that is torn down while it is left has ended all the same.
    fn read_into(&mut self, buffer: &mut [u8]) -> Result<Option<usize>, LoadError> {
        match self.socket.read_into(buffer) {
            Err(error)
                if error.kind() == io::ErrorKind::ConnectionReset
                    && matches!(self.stage, Stage::Leaving) =>
            {
                Ok(Some(0))
            }
            result => result.map_err(LoadError::Socket),
        }
    }

    fn on_bytes(
        &mut self,
        script: &ClientScript,
        mut bytes: &mut [u8],
        inbox: &mut Inbox,
        happened: &mut Happened,
    ) -> Result<(), LoadError> {
        if let Stage::Upgrading(answer) = &mut self.stage {
            let Some(head_bytes) = answer.on_bytes(bytes)? else {
                return Ok(());
            };
            bytes = bytes.get_mut(head_bytes..).unwrap_or_default();
            if let Some(hub_handshake) = script.hub_handshake() {
                self.stage = Stage::Entering(Vec::new());
                self.socket.send(hub_handshake).map_err(LoadError::Socket)?;
            } else {
                self.stage = Stage::Entered;
                happened.has_entered = true;
            }
        }
        if !script.is_framed() {
            happened.add(inbox.on_bytes(bytes)?);
            return Ok(());
        }
        let mut at = 0;
        while let Some(event) = self.decoder.next(bytes, &mut at)? {
            match event {
                Event::Data(piece) => {
                    let data = bytes.get(piece.range).unwrap_or_default();
                    self.on_data(data, inbox, happened)?;
                }
                Event::Ping(payload) => {
                    let pong = control_frame(Control::Pong, &payload, Some(MASKING_KEY));
                    self.socket.send(&pong).map_err(LoadError::Socket)?;
                }
                Event::Pong(_) => {}
                Event::Close(_) if matches!(self.stage, Stage::Leaving) => {}
                Event::Close(close) => return Err(LoadError::Closed(close)),
            }
        }
        Ok(())
    }

    fn on_data(
        &mut self,
        mut data: &[u8],
        inbox: &mut Inbox,
        happened: &mut Happened,
    ) -> Result<(), LoadError> {
        if let Stage::Entering(answer) = &mut self.stage {
            let Some(end) = find_separator(data) else {
                answer.extend_from_slice(data);
                return Ok(());
            };
            let (last, behind) = data.split_at(end + 1);
            answer.extend_from_slice(last);
            if answer != HUB_HANDSHAKE_ACCEPTED {
                let answer = String::from_utf8_lossy(answer);
                return Err(LoadError::HubRefused(answer.into_owned()));
            }
            self.stage = Stage::Entered;
            happened.has_entered = true;
            data = behind;
        }
        happened.add(inbox.on_bytes(data)?);
        Ok(())
    }
}

impl Stage {
    fn has_entered(&self) -> bool {
        match self {
            Self::Entered | Self::Stalled => true,
            Self::Connecting | Self::Upgrading(_) | Self::Entering(_) | Self::Leaving => false,
        }
    }
}

/// Where a client connects from: on loopback few clients share an address, and each new attempt has another one, since a port that has
/// just been in use is not free for a minute. Processes begin at different ones for the same reason.
fn source(target: SocketAddr, process: u32, client: u32, attempt: u32) -> Option<IpAddr> {
    match target.ip() {
        IpAddr::V4(target) if target.is_loopback() => {
            let group = (client / CLIENTS_PER_ADDRESS) % 250;
            let turn = process.wrapping_add(attempt) % 250;
            let address = Ipv4Addr::new(127, 0, turn as u8, 1 + group as u8);
            Some(address.into())
        }
        IpAddr::V4(_) | IpAddr::V6(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clients_on_loopback_spread_over_addresses() {
        let target = SocketAddr::from(([127, 0, 0, 1], 80));
        let address = |process, client, attempt| {
            source(target, process, client, attempt)
                .unwrap()
                .to_string()
        };
        assert_eq!(address(0, 0, 0), "127.0.0.1");
        assert_eq!(address(0, 499, 0), "127.0.0.1");
        assert_eq!(address(0, 500, 0), "127.0.0.2");
        assert_eq!(address(0, 500, 3), "127.0.3.2");
        assert_eq!(address(7, 500, 3), "127.0.10.2");
        assert_eq!(source(([192, 0, 2, 1], 80).into(), 0, 10_000, 0), None);
    }
}

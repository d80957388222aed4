//! The other side of the floor: server connections without any protocol, on which records of fixed sizes come and go.
//!
//! It sends what the app server would send to hubring, at the same moments and in batches of the same kind: answers to all that one read
//! has brought in one write, a burst in one write, server connections in turn.

use std::net::SocketAddr;
use std::time::Instant;

use mio::Token;

use super::OtherSide;
use super::app_server::memberships::GroupRule;
use super::app_server::streams::{CallKind, Stream};
use crate::error::LoadError;
use crate::job::Job;
use crate::worker::floor_records::{ALL_CLIENTS, FloorRecords, INDEX_BYTES};
use crate::worker::io::Io;
use crate::worker::socket::Socket;

/// See the module.
pub(crate) struct FloorSide {
    address: SocketAddr,
    server_connections: u32,
    clients: u64,
    links: Vec<Link>,
    echoes: Echoes,
    streams: Vec<Stream>,
    is_sending: bool,
    /// Messages that clients are to receive, answers included, and those that have arrived.
    sent: u64,
    arrived: u64,
}

/// One server connection.
struct Link {
    token: Token,
    socket: Socket,
    is_connected: bool,
    /// The record that has not arrived completely.
    partial: Vec<u8>,
    /// What is to be sent at the end of the turn.
    outgoing: Vec<u8>,
}

/// Turns records into answers.
#[derive(Clone, Copy, Debug)]
struct Echoes {
    record_bytes: usize,
    answer_bytes: usize,
}

impl FloorSide {
    /// The other side for `job`, with server connections to `address`.
    pub(crate) fn new(job: &Job, address: SocketAddr) -> Self {
        let records = FloorRecords::of(&job.load, job.hub_protocol, job.payload_bytes);
        Self {
            address,
            server_connections: job.server_connections,
            clients: u64::from(job.clients_total),
            links: Vec::new(),
            echoes: Echoes {
                record_bytes: records.server_record,
                answer_bytes: records.answer_record,
            },
            streams: Stream::of(job, GroupRule::default()),
            is_sending: false,
            sent: 0,
            arrived: 0,
        }
    }

    fn connect(&mut self, io: &mut Io<'_>) -> Result<(), LoadError> {
        for _ in 0..self.server_connections {
            let mut socket = Socket::connect(self.address, None).map_err(LoadError::Connect)?;
            let token = io.tokens.allocate();
            socket
                .register(io.registry, token)
                .map_err(LoadError::Poll)?;
            self.links.push(Link {
                token,
                socket,
                is_connected: false,
                partial: Vec::new(),
                outgoing: Vec::new(),
            });
        }
        Ok(())
    }

    fn call_all_due(&mut self, now: Instant, is_meant: impl Fn(&Stream) -> bool) {
        let mut streams = std::mem::take(&mut self.streams);
        for stream in streams.iter_mut().filter(|stream| is_meant(stream)) {
            self.call_due(stream, now);
        }
        self.streams = streams;
    }

    fn call_due(&mut self, stream: &mut Stream, now: Instant) {
        loop {
            let due = stream.due(now, self.under_way());
            for _ in 0..due {
                let number = stream.next();
                let burst = stream.burst_of(number);
                if self.call(stream.kind(), number, burst).is_none() {
                    return;
                }
            }
            if due == 0 {
                return;
            }
        }
    }

    /// Makes one call. `None` if there is nobody whom it would reach.
    fn call(&mut self, kind: CallKind, number: u64, burst: u64) -> Option<()> {
        let client = number.checked_rem(self.clients)?;
        let (index, by, deliveries) = match kind {
            CallKind::SendToAll => (ALL_CLIENTS, burst, self.clients),
            CallKind::SendToConnection => (client as u32, client, 1),
            // Of these the floor knows nothing.
            CallKind::SendToUser | CallKind::SendToGroup | CallKind::Membership => return None,
        };
        let link = by.checked_rem(self.links.len() as u64)?;
        let link = self.links.get_mut(link as usize)?;
        write_record(index, &[], self.echoes.answer_bytes, &mut link.outgoing);
        self.sent += deliveries;
        Some(())
    }

    fn under_way(&self) -> u64 {
        self.sent.saturating_sub(self.arrived)
    }
}

impl OtherSide for FloorSide {
    fn open(&mut self, io: &mut Io<'_>) -> Result<(), LoadError> {
        self.connect(io)
    }

    fn is_ready(&self) -> bool {
        self.links.iter().all(|link| link.is_connected)
    }

    fn on_ready(&mut self, token: Token, io: &mut Io<'_>) -> Result<(), LoadError> {
        if let Some(link) = self.links.iter_mut().find(|link| link.token == token) {
            self.sent += link.on_ready(self.echoes, io.buffer)?;
        }
        Ok(())
    }

    fn on_turn(&mut self, now: Instant, arrived: u64, _io: &mut Io<'_>) -> Result<(), LoadError> {
        self.arrived = arrived;
        if self.is_sending {
            self.call_all_due(now, |_| true);
        }
        self.links.iter_mut().try_for_each(Link::send)
    }

    fn start(&mut self, now: Instant) {
        for stream in &mut self.streams {
            stream.start(now);
        }
        self.is_sending = true;
    }

    fn stop(&mut self, end: Instant) {
        if self.is_sending {
            self.call_all_due(end, Stream::is_timed);
        }
        self.is_sending = false;
    }

    fn is_quiet(&self) -> bool {
        self.under_way() == 0 && !self.links.iter().any(Link::has_outgoing)
    }

    fn next_due(&self) -> Option<Instant> {
        let streams = self.streams.iter().filter(|_| self.is_sending);
        streams.filter_map(Stream::next_due).min()
    }

    fn die(&mut self, _io: &mut Io<'_>) {
        self.links.clear();
        self.sent = self.arrived;
    }

    fn rise(&mut self, io: &mut Io<'_>) -> Result<(), LoadError> {
        self.connect(io)
    }
}

impl Link {
    /// Reads all there is and returns how many answers it called for.
    fn on_ready(&mut self, echoes: Echoes, buffer: &mut [u8]) -> Result<u64, LoadError> {
        if !self.is_connected {
            self.is_connected = self.socket.connected().map_err(LoadError::Connect)?;
            if !self.is_connected {
                return Ok(0);
            }
        }
        self.socket.flush().map_err(LoadError::Socket)?;
        let mut answered = 0;
        while let Some(count) = self.socket.read_into(buffer).map_err(LoadError::Socket)? {
            if count == 0 {
                return Err(LoadError::ClosedSilently);
            }
            let bytes = buffer.get(..count).unwrap_or_default();
            answered += echoes.on_bytes(bytes, &mut self.partial, &mut self.outgoing);
            if count < buffer.len() {
                break;
            }
        }
        self.send()?;
        Ok(answered)
    }

    fn send(&mut self) -> Result<(), LoadError> {
        if self.is_connected && !self.outgoing.is_empty() {
            self.socket
                .send(&self.outgoing)
                .map_err(LoadError::Socket)?;
            self.outgoing.clear();
        }
        Ok(())
    }

    fn has_outgoing(&self) -> bool {
        self.socket.has_queued() || !self.outgoing.is_empty()
    }
}

impl Echoes {
    /// Answers each record that is complete, wherever the bytes were cut, and returns how many those were.
    fn on_bytes(self, bytes: &[u8], partial: &mut Vec<u8>, out: &mut Vec<u8>) -> u64 {
        let mut rest = bytes;
        let mut answered = 0;
        if !partial.is_empty() {
            let missing = self.record_bytes - partial.len();
            let (head, behind) = rest.split_at(missing.min(rest.len()));
            partial.extend_from_slice(head);
            rest = behind;
            if partial.len() < self.record_bytes {
                return 0;
            }
            self.answer(partial, out);
            partial.clear();
            answered += 1;
        }
        let records = rest.chunks_exact(self.record_bytes);
        partial.extend_from_slice(records.remainder());
        for record in records {
            self.answer(record, out);
            answered += 1;
        }
        answered
    }

    fn answer(self, record: &[u8], out: &mut Vec<u8>) {
        if let Some((index, body)) = record.split_first_chunk() {
            write_record(u32::from_le_bytes(*index), body, self.answer_bytes, out);
        }
    }
}

/// A record of exactly `record_bytes` that ends as `body` does.
fn write_record(index: u32, body: &[u8], record_bytes: usize, out: &mut Vec<u8>) {
    let start = out.len();
    out.extend_from_slice(&index.to_le_bytes());
    let room = record_bytes.saturating_sub(INDEX_BYTES);
    let body = body
        .get(body.len().saturating_sub(room)..)
        .unwrap_or_default();
    out.resize(start + record_bytes - body.len(), 0);
    out.extend_from_slice(body);
}

#[cfg(test)]
mod tests {
    use super::*;

    const ECHOES: Echoes = Echoes {
        record_bytes: 9,
        answer_bytes: 11,
    };

    #[test]
    fn each_record_is_answered_however_the_bytes_are_cut() {
        let received = b"\x01\0\0\0first\x02\x01\0\0other\x03\0\0\0third";
        let expected = b"\x01\0\0\0\0\0first\x02\x01\0\0\0\0other\x03\0\0\0\0\0third";
        for step in 1..=received.len() {
            let (mut partial, mut out) = (Vec::new(), Vec::new());
            let answered: u64 = received
                .chunks(step)
                .map(|part| ECHOES.on_bytes(part, &mut partial, &mut out))
                .sum();
            assert_eq!(answered, 3, "cut every {step} bytes");
            assert_eq!(out, expected, "cut every {step} bytes");
            assert!(partial.is_empty());
        }
    }

    #[test]
    fn a_longer_body_loses_its_start() {
        let mut out = Vec::new();
        write_record(7, b"abcdef", 7, &mut out);
        assert_eq!(out, b"\x07\0\0\0def");
    }
}

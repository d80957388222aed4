//! How the worker that plays the other side learns what the clients of the others have received.
//!
//! It listens; the others connect and write, at most once a turn, how many messages their clients have received since the start: a number
//! of eight bytes, the lowest first.

use std::net::{SocketAddr, TcpStream as StdTcpStream};
use std::time::{Duration, Instant};

use mio::net::{TcpListener, TcpStream};
use mio::{Interest, Registry, Token};

use super::socket::Socket;
use crate::error::LoadError;
use crate::job::Job;

/// The listener's token. Those of the reporters follow it, up to those of the clients.
pub(crate) const PROGRESS_FIRST: usize = 1;

/// Time until the worker that listens has to be there.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// Time between looks whether it is.
const CONNECT_INTERVAL: Duration = Duration::from_millis(10);

const NUMBER_BYTES: usize = size_of::<u64>();

/// What this worker has to do with the progress of others.
pub(crate) enum Progress {
    /// There are no others.
    Alone,
    Listening {
        listener: TcpListener,
        reporters: Vec<Reporter>,
    },
    Reporting {
        socket: Socket,
        told: u64,
    },
}

/// A worker that tells how far it is.
pub(crate) struct Reporter {
    socket: Socket,
    numbers: Numbers,
}

impl Progress {
    pub(crate) fn for_job(job: &Job, registry: &Registry) -> Result<Self, LoadError> {
        let Some(address) = job.progress else {
            return Ok(Self::Alone);
        };
        if job.plays_other_side {
            let mut listener = TcpListener::bind(address).map_err(LoadError::Progress)?;
            let token = Token(PROGRESS_FIRST);
            registry
                .register(&mut listener, token, Interest::READABLE)
                .map_err(LoadError::Poll)?;
            return Ok(Self::Listening {
                listener,
                reporters: Vec::new(),
            });
        }
        let mut socket = connect(address)?;
        socket
            .register(registry, Token(PROGRESS_FIRST))
            .map_err(LoadError::Poll)?;
        Ok(Self::Reporting { socket, told: 0 })
    }

    /// The socket with this token has something to read or room to write.
    pub(crate) fn on_ready(
        &mut self,
        token: Token,
        registry: &Registry,
        buffer: &mut [u8],
    ) -> Result<(), LoadError> {
        match self {
            Self::Alone => Ok(()),
            Self::Reporting { socket, .. } => socket.flush().map_err(LoadError::Progress),
            Self::Listening {
                listener,
                reporters,
            } => match token.0.checked_sub(PROGRESS_FIRST + 1) {
                None => accept(listener, reporters, registry),
                Some(index) => match reporters.get_mut(index) {
                    Some(reporter) => reporter.on_ready(buffer),
                    None => Ok(()),
                },
            },
        }
    }

    /// Passes on what the clients of this worker have received, and tells what those of all workers have, as far as it is known here.
    pub(crate) fn exchange(&mut self, own: u64) -> Result<u64, LoadError> {
        match self {
            Self::Alone => Ok(own),
            Self::Listening { reporters, .. } => {
                let others = reporters.iter().map(|reporter| reporter.numbers.last);
                Ok(own + others.sum::<u64>())
            }
            Self::Reporting { socket, told } => {
                if own != *told && !socket.has_queued() {
                    *told = own;
                    let sent = socket.send(&own.to_le_bytes());
                    sent.map_err(LoadError::Progress)?;
                }
                Ok(own)
            }
        }
    }
}

impl Reporter {
    /// A worker that has ended leaves its last number behind.
    fn on_ready(&mut self, buffer: &mut [u8]) -> Result<(), LoadError> {
        while let Some(count) = self.socket.read_into(buffer).map_err(LoadError::Progress)? {
            self.numbers
                .on_bytes(buffer.get(..count).unwrap_or_default());
            if count < buffer.len() {
                break;
            }
        }
        Ok(())
    }
}

/// Numbers one after the other, of which only the last counts.
#[derive(Debug, Default)]
struct Numbers {
    last: u64,
    partial: [u8; NUMBER_BYTES],
    partial_bytes: usize,
}

impl Numbers {
    fn on_bytes(&mut self, bytes: &[u8]) {
        for &byte in bytes {
            if let Some(slot) = self.partial.get_mut(self.partial_bytes) {
                *slot = byte;
            }
            self.partial_bytes += 1;
            if self.partial_bytes == NUMBER_BYTES {
                self.partial_bytes = 0;
                self.last = u64::from_le_bytes(self.partial);
            }
        }
    }
}

fn accept(
    listener: &TcpListener,
    reporters: &mut Vec<Reporter>,
    registry: &Registry,
) -> Result<(), LoadError> {
    loop {
        let stream = match listener.accept() {
            Ok((stream, _)) => stream,
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => return Ok(()),
            Err(error) => return Err(LoadError::Progress(error)),
        };
        let mut socket = Socket::new(stream);
        let token = Token(PROGRESS_FIRST + 1 + reporters.len());
        socket.register(registry, token).map_err(LoadError::Poll)?;
        reporters.push(Reporter {
            socket,
            numbers: Numbers::default(),
        });
    }
}

/// The other worker may not have come so far yet.
fn connect(address: SocketAddr) -> Result<Socket, LoadError> {
    let deadline = Instant::now() + CONNECT_TIMEOUT;
    loop {
        let connected = StdTcpStream::connect_timeout(&address, CONNECT_TIMEOUT);
        match connected {
            Ok(stream) => {
                stream.set_nodelay(true).map_err(LoadError::Progress)?;
                stream.set_nonblocking(true).map_err(LoadError::Progress)?;
                return Ok(Socket::new(TcpStream::from_std(stream)));
            }
            Err(_) if Instant::now() < deadline => std::thread::sleep(CONNECT_INTERVAL),
            Err(error) => return Err(LoadError::Progress(error)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_whole_number_counts_however_the_bytes_are_cut() {
        let bytes = [7_u64, 1 << 40, 9].map(u64::to_le_bytes).concat();
        for step in 1..=bytes.len() {
            let mut numbers = Numbers::default();
            for part in bytes.chunks(step) {
                numbers.on_bytes(part);
            }
            assert_eq!(numbers.last, 9);
        }
        let mut numbers = Numbers::default();
        numbers.on_bytes(&bytes[..20]);
        assert_eq!(numbers.last, 1 << 40);
    }
}

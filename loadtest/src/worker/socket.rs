//! A non-blocking stream with an outbox.
//!
//! Readiness is edge-triggered: who is told that there is something must read until the kernel has no more. Writing goes straight to
//! the kernel; only what it does not take is copied, and waits for the socket to become writable.

use std::io::{self, Read as _, Write as _};
use std::net::{IpAddr, SocketAddr};

use mio::event::Source as _;
use mio::net::TcpStream;
use mio::{Interest, Registry, Token};
use rustix::io::Errno;
use socket2::{Domain, Protocol, Type};

/// One end of a TCP connection.
#[derive(Debug)]
pub(crate) struct Socket {
    stream: TcpStream,
    /// What the kernel has not taken yet.
    outbox: Vec<u8>,
    /// How much of `outbox` has been written.
    written_bytes: usize,
}

impl Socket {
    /// Takes over a non-blocking stream.
    pub(crate) fn new(stream: TcpStream) -> Self {
        Self {
            stream,
            outbox: Vec::new(),
            written_bytes: 0,
        }
    }

    /// Begins to connect. The socket becomes writable when that has come to an end, which [`connected`](Self::connected) tells.
    ///
    /// With a `source` it is from there that the connection comes: a port is free again for each address.
    pub(crate) fn connect(address: SocketAddr, source: Option<IpAddr>) -> io::Result<Self> {
        let kind = Type::STREAM.nonblocking();
        let socket = socket2::Socket::new(Domain::for_address(address), kind, Some(Protocol::TCP))?;
        socket.set_tcp_nodelay(true)?;
        if let Some(source) = source {
            socket.bind(&SocketAddr::from((source, 0)).into())?;
        }
        match socket.connect(&address.into()) {
            Ok(()) => {}
            Err(error) if error.raw_os_error() == Some(Errno::INPROGRESS.raw_os_error()) => {}
            Err(error) => return Err(error),
        }
        Ok(Self::new(TcpStream::from_std(socket.into())))
    }

    /// Whether the connection stands; `false` while it is being made.
    pub(crate) fn connected(&self) -> io::Result<bool> {
        if let Some(error) = self.stream.take_error()? {
            return Err(error);
        }
        match self.stream.peer_addr() {
            Ok(_) => Ok(true),
            Err(error) if error.kind() == io::ErrorKind::NotConnected => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Wants to hear when there is something to read or room to write.
    pub(crate) fn register(&mut self, registry: &Registry, token: Token) -> io::Result<()> {
        let interest = Interest::READABLE | Interest::WRITABLE;
        self.stream.register(registry, token, interest)
    }

    /// Wants to hear nothing more but that the connection has broken.
    pub(crate) fn stop_reading(&mut self, registry: &Registry, token: Token) -> io::Result<()> {
        self.stream.reregister(registry, token, Interest::WRITABLE)
    }

    /// Reads once. `Some(0)` is the end of the stream, `None` that there is nothing now. Less than `buffer` holds means that it was all:
    /// whatever comes later raises a new event (epoll(7)), which spares a second call for each message.
    pub(crate) fn read_into(&mut self, buffer: &mut [u8]) -> io::Result<Option<usize>> {
        loop {
            match self.stream.read(buffer) {
                Ok(count) => return Ok(Some(count)),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(None),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
    }

    /// Writes at once what the kernel takes, behind what is queued already.
    pub(crate) fn send(&mut self, bytes: &[u8]) -> io::Result<()> {
        if self.has_queued() {
            self.queue(bytes);
            return self.flush();
        }
        let written_bytes = write(&mut self.stream, bytes)?;
        self.queue(bytes.get(written_bytes..).unwrap_or_default());
        Ok(())
    }

    /// Keeps `bytes` for the next [`flush`](Self::flush).
    pub(crate) fn queue(&mut self, bytes: &[u8]) {
        self.outbox.extend_from_slice(bytes);
    }

    /// The outbox, to write to its end.
    pub(crate) fn outbox(&mut self) -> &mut Vec<u8> {
        &mut self.outbox
    }

    /// Writes what is queued, as far as it goes. To be called when the socket has become writable.
    pub(crate) fn flush(&mut self) -> io::Result<()> {
        if self.has_queued() {
            let waiting = self.outbox.get(self.written_bytes..).unwrap_or_default();
            self.written_bytes += write(&mut self.stream, waiting)?;
            if !self.has_queued() {
                self.outbox.clear();
                self.written_bytes = 0;
            }
        }
        Ok(())
    }

    pub(crate) fn has_queued(&self) -> bool {
        self.queued_bytes() > 0
    }

    /// What has still to be written.
    pub(crate) fn queued_bytes(&self) -> usize {
        self.outbox.len() - self.written_bytes
    }
}

/// Writes until the kernel takes no more, and tells how much it took.
fn write(stream: &mut TcpStream, bytes: &[u8]) -> io::Result<usize> {
    let mut written_bytes = 0;
    while let Some(rest) = bytes.get(written_bytes..).filter(|rest| !rest.is_empty()) {
        match stream.write(rest) {
            Ok(count) => written_bytes += count,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(written_bytes)
}

#[cfg(test)]
mod tests {
    use std::net::{Ipv4Addr, TcpListener};
    use std::time::Duration;

    use mio::{Events, Poll};

    use super::*;

    #[test]
    fn it_connects_from_the_given_address_and_carries_more_than_the_kernel_takes_at_once() {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let source = IpAddr::from([127, 0, 0, 7]);
        let mut poll = Poll::new().unwrap();
        let mut socket = Socket::connect(listener.local_addr().unwrap(), Some(source)).unwrap();
        socket.register(poll.registry(), Token(1)).unwrap();
        let (mut other_end, from) = listener.accept().unwrap();
        assert_eq!(from.ip(), source);

        let mut events = Events::with_capacity(8);
        while !socket.connected().unwrap() {
            poll.poll(&mut events, Some(Duration::from_secs(5)))
                .unwrap();
        }
        let sent: Vec<u8> = (0..=u8::MAX).cycle().take(20 << 20).collect();
        let (first, second) = sent.split_at(15 << 20);
        socket.send(first).unwrap();
        assert!(socket.has_queued(), "no socket takes that much at once");
        socket.send(second).unwrap();
        let length = sent.len();
        let reader = std::thread::spawn(move || {
            let mut received = vec![0; length];
            other_end.read_exact(&mut received).map(|()| received)
        });
        while socket.has_queued() {
            poll.poll(&mut events, Some(Duration::from_secs(5)))
                .unwrap();
            socket.flush().unwrap();
        }
        assert_eq!(reader.join().unwrap().unwrap(), sent);
        let mut buffer = [0; 8];
        // The other end is gone, so what is left to read is the end.
        poll.poll(&mut events, Some(Duration::from_secs(5)))
            .unwrap();
        assert_eq!(socket.read_into(&mut buffer).unwrap(), Some(0));
    }
}

//! The app server: a handful of server connections that carry the traffic of all clients.

use mio::{Registry, Token};

use crate::dial::Dialer;
use crate::error::LoadError;
use crate::payload::payload;
use crate::service_messages::{EchoServer, broadcast};
use crate::web_socket::WebSocket;

/// All server connections.
pub(crate) struct AppServerSide {
    connections: Vec<ServerConnection>,
    /// The connection that sends the next broadcast: they take turns.
    next_sender: usize,
}

struct ServerConnection {
    socket: WebSocket,
    server: EchoServer,
}

impl AppServerSide {
    /// Opens `count` server connections and sends their handshakes.
    pub(crate) fn open(
        count: u32,
        dialer: &Dialer,
        registry: &Registry,
    ) -> Result<Self, LoadError> {
        let mut connections = Vec::new();
        for index in 0..count {
            let mut socket = dialer.server_connection(index)?;
            let position = connections.len();
            socket
                .register(registry, Token(position))
                .map_err(LoadError::Poll)?;
            let server = EchoServer::new();
            let mut connection = ServerConnection { socket, server };
            connection.send_answers()?;
            connections.push(connection);
        }
        Ok(Self {
            connections,
            next_sender: 0,
        })
    }

    pub(crate) fn count(&self) -> usize {
        self.connections.len()
    }

    pub(crate) fn is_accepted(&self) -> bool {
        self.connections
            .iter()
            .all(|connection| connection.server.is_accepted())
    }

    /// A connection has something to read or room to write. What one look at a connection brings is answered in one message.
    pub(crate) fn on_ready(&mut self, index: usize, buffer: &mut [u8]) -> Result<(), LoadError> {
        match self.connections.get_mut(index) {
            Some(connection) => connection.on_ready(buffer),
            None => Ok(()),
        }
    }

    /// Sends one WebSocket message of as many broadcasts as `burst` holds.
    pub(crate) fn send_broadcasts(&mut self, burst: &[u8]) -> Result<(), LoadError> {
        let sender = self.next_sender % self.connections.len().max(1);
        self.next_sender = sender + 1;
        let Some(ServerConnection { socket, .. }) = self.connections.get_mut(sender) else {
            return Ok(());
        };
        socket.queue_message(burst);
        socket.flush()
    }
}

impl ServerConnection {
    fn on_ready(&mut self, buffer: &mut [u8]) -> Result<(), LoadError> {
        let server = &mut self.server;
        self.socket
            .receive(buffer, |_, bytes| server.on_bytes(bytes))?;
        self.send_answers()
    }

    fn send_answers(&mut self) -> Result<(), LoadError> {
        if !self.server.answers().is_empty() {
            self.socket.queue_message(self.server.answers());
            self.server.clear_answers();
        }
        self.socket.flush()
    }
}

/// The service messages of one burst, and the payload that each client receives `count` times.
pub(crate) fn burst(count: u32, payload_bytes: usize) -> (Vec<u8>, Vec<u8>) {
    let payload = payload(u32::MAX, payload_bytes);
    (broadcast(&payload).repeat(count as usize), payload)
}

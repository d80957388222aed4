//! One server connection: the service handshake, then service messages in both directions.

use std::cell::RefCell;
use std::rc::Rc;
use std::time::Duration;

use bytes::{BufMut as _, Bytes, BytesMut};
use futures_util::{SinkExt as _, StreamExt as _};
use hubring::frame::record::{LengthError, read_varint};
use hubring::protocol::service::{
    CONNECTION_DATA_TRAILER, DecodeError, KEEP_ALIVE_PING, Message, connection_data_header, decode,
    write_handshake_response,
};
use thiserror::Error;
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio::time::{sleep, timeout};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::{self, Message as WebSocketMessage};

use crate::hub::{Hub, ToServer};

/// Time for the service handshake.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(15);

/// The SDK gives up a connection on which it hears nothing for 30 s.
const PING_INTERVAL: Duration = Duration::from_secs(5);

/// Beyond this a WebSocket message takes in nothing more.
const BATCH_BYTES_MAX: usize = 128 << 10;

/// The longest service message that is accepted.
const MESSAGE_BYTES_MAX: u32 = 16 << 20;

/// Serves a server connection from its upgrade to its end.
pub(crate) async fn serve(mut socket: WebSocketStream<TcpStream>, hub: Rc<RefCell<Hub>>) {
    let mut records = Records::default();
    let handshake = shake_hands(&mut socket, &mut records);
    let Ok(Ok(())) = timeout(HANDSHAKE_TIMEOUT, handshake).await else {
        return;
    };
    let (number, outbox) = hub.borrow_mut().join_server();
    tokio::task::spawn_local(ping(Rc::clone(&hub), number));
    // An error ends the connection as its end does.
    let _ = relay(&mut socket, &mut records, &hub, outbox).await;
    hub.borrow_mut().leave_server(number);
}

/// Why a server connection ended before its time.
#[derive(Debug, Error)]
enum Fault {
    #[error("the socket failed: {0}")]
    Socket(#[from] tungstenite::Error),
    #[error("the app server broke the framing of service messages: {0}")]
    Length(#[from] LengthError),
    #[error("the app server sent a malformed message: {0}")]
    Message(#[from] DecodeError),
    #[error("the app server did not begin with a handshake")]
    NoHandshake,
}

async fn shake_hands(
    socket: &mut WebSocketStream<TcpStream>,
    records: &mut Records,
) -> Result<(), Fault> {
    let record = loop {
        if let Some(record) = records.next()? {
            break record;
        }
        let received = socket.next().await.ok_or(Fault::NoHandshake)??;
        records.push(received.into_data());
    };
    let Message::HandshakeRequest(_) = decode(&[&record])? else {
        return Err(Fault::NoHandshake);
    };
    let mut response = Vec::new();
    write_handshake_response("", None, &mut response);
    Ok(socket.send(WebSocketMessage::binary(response)).await?)
}

/// Carries out what the app server sends, and sends it what its clients and the hub have for it.
async fn relay(
    socket: &mut WebSocketStream<TcpStream>,
    records: &mut Records,
    hub: &RefCell<Hub>,
    mut outbox: mpsc::Receiver<ToServer>,
) -> Result<(), Fault> {
    loop {
        tokio::select! {
            received = socket.next() => match received.transpose()? {
                Some(WebSocketMessage::Binary(bytes)) => {
                    let acks = carry_out(records, bytes, hub)?;
                    if !acks.is_empty() {
                        socket.send(WebSocketMessage::binary(acks)).await?;
                    }
                }
                Some(WebSocketMessage::Ping(_) | WebSocketMessage::Pong(_) | WebSocketMessage::Frame(_)) => {}
                Some(WebSocketMessage::Text(_) | WebSocketMessage::Close(_)) | None => {
                    return Ok(socket.close(None).await?);
                }
            },
            first = outbox.recv() => match first {
                Some(first) => {
                    let batch = gather(first, &mut outbox);
                    socket.send(WebSocketMessage::Binary(batch)).await?;
                }
                None => return Ok(socket.close(None).await?),
            },
        }
    }
}

/// Handles all messages that are complete. What they call for on this connection is the answer.
fn carry_out(records: &mut Records, received: Bytes, hub: &RefCell<Hub>) -> Result<Vec<u8>, Fault> {
    let mut acks = Vec::new();
    let mut hub = hub.borrow_mut();
    records.push(received);
    while let Some(record) = records.next()? {
        hub.on_service_message(&record, &decode(&[&record])?, &mut acks);
    }
    Ok(acks)
}

/// Everything that waits, as one WebSocket message of several service messages.
fn gather(first: ToServer, outbox: &mut mpsc::Receiver<ToServer>) -> Bytes {
    let mut batch = BytesMut::new();
    let mut next = Some(first);
    while let Some(outgoing) = next.take() {
        match outgoing {
            ToServer::Data { client, payload } => {
                let header = connection_data_header(&client, payload.len());
                batch.reserve(header.len() + payload.len() + CONNECTION_DATA_TRAILER.len());
                batch.put_slice(&header);
                batch.put_slice(&payload);
                batch.put_slice(&CONNECTION_DATA_TRAILER);
            }
            ToServer::Messages(messages) => batch.put_slice(&messages),
        }
        if batch.len() < BATCH_BYTES_MAX {
            next = outbox.try_recv().ok();
        }
    }
    batch.freeze()
}

/// Keeps a server connection alive as long as it is there.
async fn ping(hub: Rc<RefCell<Hub>>, number: u64) {
    loop {
        sleep(PING_INTERVAL).await;
        let Some(server) = hub.borrow().server(number) else {
            return;
        };
        // One that has no room has enough to read without a ping.
        let _ = server.try_send(ToServer::Messages(KEEP_ALIVE_PING.to_vec()));
    }
}

/// The stream of service messages, which need not end where a WebSocket message does.
#[derive(Default)]
struct Records {
    unread: Bytes,
}

impl Records {
    fn push(&mut self, received: Bytes) {
        self.unread = if self.unread.is_empty() {
            received
        } else {
            [&*self.unread, &*received].concat().into()
        };
    }

    /// The next message that is complete, without its length.
    fn next(&mut self) -> Result<Option<Bytes>, LengthError> {
        let Some((record_bytes, prefix_bytes)) = read_varint(&self.unread)? else {
            return Ok(None);
        };
        if record_bytes > MESSAGE_BYTES_MAX {
            return Err(LengthError::TooLong {
                bytes: record_bytes,
                max: MESSAGE_BYTES_MAX,
            });
        }
        let end = prefix_bytes + record_bytes as usize;
        if self.unread.len() < end {
            return Ok(None);
        }
        Ok(Some(self.unread.split_to(end).slice(prefix_bytes..)))
    }
}

//! One client connection: its hub handshake, then bytes in both directions until either side ends it.
//!
//! One task does both directions, which spares the lock of a split socket and a second wake-up for each message. The price: while a
//! client takes nothing, nothing is read from it.

use std::cell::RefCell;
use std::rc::Rc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use futures_util::{SinkExt as _, StreamExt as _};
use hubring::protocol::hub::handshake::{HandshakeRequest, HubProtocol, find_handshake};
use hubring::protocol::service::{CloseConnection, Message, write_open_connection};
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio::time::timeout;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::{self, Message as WebSocketMessage};

use crate::hub::{Hub, ToServer};
use crate::relay::Newcomer;

/// Time for the hub handshake.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(15);

/// Longest hub handshake.
const HANDSHAKE_BYTES_MAX: usize = 4 << 10;

/// Serves a client from its upgrade to its end.
pub(crate) async fn serve(
    mut socket: WebSocketStream<TcpStream>,
    hub: Rc<RefCell<Hub>>,
    newcomer: Newcomer,
) {
    let handshake = timeout(HANDSHAKE_TIMEOUT, hub_handshake(&mut socket)).await;
    let Ok(Some((protocol, received))) = handshake else {
        return;
    };
    let Newcomer { user, open_body } = newcomer;
    let joined = hub.borrow_mut().join(user, protocol.clone());
    // Without an app server there is nobody to talk to.
    let Some(joined) = joined else { return };
    let (id, server) = (joined.id, joined.server);

    let mut open = Vec::new();
    write_open_connection(&id, &open_body, protocol.name(), &mut open);
    drop(open_body);
    let first = ToServer::Data {
        client: Rc::clone(&id),
        payload: received,
    };
    if server.send(ToServer::Messages(open)).await.is_ok() && server.send(first).await.is_ok() {
        // An error ends the connection as its end does.
        let _ = relay(&mut socket, &id, &server, joined.outbox).await;
    }
    hub.borrow_mut().leave(&id);
    let mut close = Vec::new();
    Message::<&[u8]>::from(CloseConnection::of(&*id)).encode(&mut close);
    // Gone as well? Then it need not be told.
    let _ = server.send(ToServer::Messages(close)).await;
}

/// Reads until the request is complete. All that was read is for the app server, which answers the request.
async fn hub_handshake(socket: &mut WebSocketStream<TcpStream>) -> Option<(HubProtocol, Bytes)> {
    let mut received = BytesMut::new();
    loop {
        received.extend_from_slice(&socket.next().await?.ok()?.into_data());
        let record = find_handshake(&received, 0, HANDSHAKE_BYTES_MAX).ok()?;
        if let Some(record) = record {
            let request = HandshakeRequest::parse(record.json).ok()?;
            return Some((request.protocol, received.freeze()));
        }
    }
}

/// Passes everything on, until the client leaves, the app server has gone or the hub lets the client go.
async fn relay(
    socket: &mut WebSocketStream<TcpStream>,
    id: &Rc<str>,
    server: &mpsc::Sender<ToServer>,
    mut outbox: mpsc::Receiver<WebSocketMessage>,
) -> Result<(), tungstenite::Error> {
    loop {
        tokio::select! {
            received = socket.next() => match received.transpose()? {
                Some(message @ (WebSocketMessage::Text(_) | WebSocketMessage::Binary(_))) => {
                    let data = ToServer::Data {
                        client: Rc::clone(id),
                        payload: message.into_data(),
                    };
                    if server.send(data).await.is_err() {
                        return socket.close(None).await;
                    }
                }
                // Tungstenite has answered what had to be answered.
                Some(WebSocketMessage::Ping(_) | WebSocketMessage::Pong(_) | WebSocketMessage::Frame(_)) => {}
                Some(WebSocketMessage::Close(_)) | None => return socket.close(None).await,
            },
            first = outbox.recv() => match first {
                Some(first) => send_all(socket, first, &mut outbox).await?,
                None => return socket.close(None).await,
            },
        }
    }
}

/// Sends what waits with as few system calls as possible.
async fn send_all(
    socket: &mut WebSocketStream<TcpStream>,
    first: WebSocketMessage,
    outbox: &mut mpsc::Receiver<WebSocketMessage>,
) -> Result<(), tungstenite::Error> {
    socket.feed(first).await?;
    while let Ok(next) = outbox.try_recv() {
        socket.feed(next).await?;
    }
    socket.flush().await
}

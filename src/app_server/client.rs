//! One client as the rest of the process knows it: who it is, how to send to it, how to end it.
//!
//! What the client sends is worked off by its own task, `client_connection`. Everybody else holds this record.

use std::sync::{Arc, OnceLock};

use bytes::{Bytes, BytesMut};
use tokio::sync::watch;

use super::byte_queue::{Closed, Receiver, Sender, byte_queue};
use super::claims::{Claim, user_claims, user_id};
use super::lock::Lock;
use super::server_connection::ServerConnection;
use super::way::{Open, Way};
use crate::protocol::hub::message::{HubMessage, MessageProtocol};
use crate::protocol::service::{ConnectionData, DataMessageType, Message, OpenConnection};

/// A client that is connected by way of one of our server connections.
#[derive(Debug)]
pub(super) struct Client {
    pub(super) id: String,
    pub(super) protocol: MessageProtocol,
    pub(super) user_id: Option<String>,
    pub(super) claims: Vec<Claim>,
    pub(super) query: String,
    pub(super) headers: Vec<(String, String)>,
    pub(super) way: Way,
    input: Sender<Input>,
    /// The first parts of a piece of input whose last part has not come.
    parts: Lock<BytesMut>,
    /// The app server that the service moves it to.
    migrated_to: OnceLock<String>,
    state: watch::Sender<ClientState>,
}

/// What a client's task has to work off, in the order in which it came.
#[derive(Debug)]
pub(super) enum Input {
    /// Bytes that the client sent.
    Data(Bytes),
    /// The client has left. The last entry.
    Left,
}

/// Whether a client can still be sent to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ClientState {
    /// Yes.
    Open,
    /// It has left; what it sent before is still being worked off.
    Leaving,
    /// It ends at once; what it sent does not matter any more.
    Ended(SuddenEnd),
}

/// An end that does not wait for what the client has sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum SuddenEnd {
    /// The hub wants it gone.
    Aborted,
    /// The server connection that led to it is lost.
    ServerConnectionLost,
    /// The app server shuts down.
    Shutdown,
    /// It sends faster than the hub works, for too long, or a piece of its input is too long.
    InputOverflow,
    /// Its task has ended it, and has told it so.
    Finished,
}

/// Bytes of one client that may wait for its task. Beyond it the server connection is not read for a while.
const INPUT_BYTES_MAX: u32 = 4 << 20;

/// The header by which the service names its process that holds the client.
const INSTANCE_ID_HEADER: &str = "Asrs-Instance-Id";

/// The header by which it names the app server that the client was at before.
const MIGRATED_FROM_HEADER: &str = "Asrs-Migrate-From";

impl Client {
    /// The client that the service announces, and what it will send.
    pub(super) fn new(
        open: &OpenConnection<'_>,
        server_connection: Arc<ServerConnection>,
    ) -> (Arc<Self>, Receiver<Input>) {
        let (input, receiver) = byte_queue(INPUT_BYTES_MAX);
        let headers = open.headers.iter().flat_map(|(name, values)| {
            let name = name.to_string();
            values
                .iter()
                .map(move |value| (name.clone(), value.to_string()))
        });
        let client = Self {
            id: open.connection_id.to_string(),
            // A name that is not known is answered by the handshake, which is JSON whatever the protocol.
            protocol: open
                .protocol
                .as_deref()
                .and_then(MessageProtocol::from_name)
                .unwrap_or(MessageProtocol::Json),
            user_id: user_id(&open.claims),
            claims: user_claims(&open.claims),
            query: open.query_string.to_string(),
            headers: headers.collect(),
            way: Way::new(server_connection),
            input,
            parts: Lock::default(),
            migrated_to: OnceLock::new(),
            state: watch::Sender::new(ClientState::Open),
        };
        (Arc::new(client), receiver)
    }

    /// Hands on what the client has sent. Waits while too much is waiting already.
    pub(super) async fn receive(&self, bytes: Bytes) -> Result<(), Closed> {
        let length = bytes.len();
        self.input.send(Input::Data(bytes), length).await
    }

    /// Keeps a part of its input until the rest is there, and gives the whole once it is. `None` while something is missing.
    /// Too long a whole ends the client.
    pub(super) fn assemble(&self, part: Bytes, is_last: bool) -> Option<Bytes> {
        self.parts.with(|parts| {
            if is_last && parts.is_empty() {
                return Some(part);
            }
            if parts.len() + part.len() > INPUT_BYTES_MAX as usize {
                parts.clear();
                self.end(SuddenEnd::InputOverflow);
                return None;
            }
            parts.extend_from_slice(&part);
            is_last.then(|| std::mem::take(parts).freeze())
        })
    }

    /// The rest of what is kept will not come.
    pub(super) fn drop_parts(&self) {
        self.parts.with(|parts| drop(std::mem::take(parts)));
    }

    /// The client has moved to another app server. What it sent before is still answered, as long as that takes no time.
    pub(super) fn migrate_to(&self, server_id: &str) {
        // Said twice, it is the first that counts.
        let _ = self.migrated_to.set(server_id.to_owned());
        // An error means that its task has ended already.
        let _ = self.input.send_now(Input::Left);
    }

    /// The app server that it has moved to.
    pub(super) fn migrated_to(&self) -> Option<&str> {
        self.migrated_to.get().map(String::as_str)
    }

    /// The app server that it was at before.
    pub(super) fn migrated_from(&self) -> Option<&str> {
        self.header(MIGRATED_FROM_HEADER)
    }

    /// Whether it is gone or about to go.
    pub(super) fn is_leaving(&self) -> bool {
        *self.state.borrow() != ClientState::Open || self.migrated_to().is_some()
    }

    /// The client has left.
    pub(super) fn leave(&self) {
        self.state.send_if_modified(|state| {
            let is_open = *state == ClientState::Open;
            if is_open {
                *state = ClientState::Leaving;
            }
            is_open
        });
        // An error means that its task has ended already.
        let _ = self.input.send_now(Input::Left);
    }

    /// Ends the client now.
    pub(super) fn end(&self, end: SuddenEnd) {
        self.state.send_if_modified(|state| {
            let is_first = !matches!(state, ClientState::Ended(_));
            if is_first {
                *state = ClientState::Ended(end);
            }
            is_first
        });
    }

    /// Waits for a sudden end.
    pub(super) async fn ended(&self) -> SuddenEnd {
        let mut state = self.state.subscribe();
        match state
            .wait_for(|state| matches!(state, ClientState::Ended(_)))
            .await
            .map(|state| *state)
        {
            Ok(ClientState::Ended(end)) => end,
            // The sender lives in `self`, so the wait cannot fail.
            Ok(ClientState::Open | ClientState::Leaving) | Err(_) => SuddenEnd::Finished,
        }
    }

    /// Waits until the client is gone or about to go.
    pub(super) async fn aborted(&self) {
        let mut state = self.state.subscribe();
        // An error would mean that the client is gone altogether.
        let _ = state.wait_for(|state| *state != ClientState::Open).await;
    }

    /// Sends a hub message on the client's own way, as soon as that is open. Nothing is sent to a client that is gone.
    pub(super) async fn send(&self, message: &HubMessage) -> Result<(), Closed> {
        if *self.state.borrow() != ClientState::Open {
            return Ok(());
        }
        let data_type = match message {
            HubMessage::Invocation { .. }
            | HubMessage::StreamItem { .. }
            | HubMessage::Completion { .. }
            | HubMessage::StreamInvocation { .. }
            | HubMessage::CancelInvocation { .. } => DataMessageType::Invocation,
            HubMessage::Close { .. } => DataMessageType::Close,
            HubMessage::Ping | HubMessage::Ack { .. } | HubMessage::Sequence { .. } => {
                DataMessageType::Other
            }
        };
        let payload = self.protocol.encode(message);
        let way = if let Some(way) = self.way.try_open() {
            way
        } else {
            tokio::select! {
                way = self.way.open() => way,
                () = self.aborted() => return Ok(()),
            }
        };
        self.send_bytes(&way, &payload, data_type).await
    }

    /// Sends the last bytes, whatever state the client is in. A client whose output is held does without.
    pub(super) async fn send_last(
        &self,
        payload: &[u8],
        data_type: DataMessageType,
    ) -> Result<(), Closed> {
        match self.way.try_open() {
            Some(way) => self.send_bytes(&way, payload, data_type).await,
            None => Ok(()),
        }
    }

    /// Sends bytes.
    pub(super) async fn send_bytes(
        &self,
        way: &Open<'_>,
        payload: &[u8],
        data_type: DataMessageType,
    ) -> Result<(), Closed> {
        let message = Message::from(ConnectionData {
            connection_id: self.id.as_str().into(),
            payload,
            data_type,
            ..ConnectionData::default()
        });
        way.send(&message).await
    }

    /// The first value of a header of the client's request.
    pub(super) fn header(&self, name: &str) -> Option<&str> {
        self.headers
            .iter()
            .find(|(header, _)| header.eq_ignore_ascii_case(name))
            .map(|(_, value)| value.as_str())
    }

    /// The service process that holds it.
    pub(super) fn instance_id(&self) -> Option<&str> {
        self.header(INSTANCE_ID_HEADER)
    }
}

//! The life of one client at its hub: hub handshake, `connected`, messages, end, `disconnected`.
//!
//! One task for each client works off what the client sends, in order. The calls that the client makes run within the same task,
//! several at a time, so their starts keep the order of the messages and their number is bounded by `calls`.
//!
//! Whatever happens, a client that was `connected` is `disconnected` exactly once, and what it is told last is one hub Close.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt as _;
use tokio::time::{Instant, sleep_until, timeout};
use tracing::debug;

use super::byte_queue::Receiver;
use super::caller::Caller;
use super::calls::Calls;
use super::client::{Client, Input, SuddenEnd};
use super::hub::HubError;
use super::hub_server::HubServer;
use crate::protocol::hub::handshake::{ACCEPTED_RESPONSE, error_response};
use crate::protocol::hub::message::{HubMessage, HubMessageError, MessageProtocol, RecordBuffer};
use crate::protocol::hub::{HandshakeError, HandshakeRequest, HubProtocol};
use crate::protocol::service::{CloseConnection, DataMessageType};

type Message<'a> = crate::protocol::service::Message<'a, &'a [u8]>;

/// Begins to serve a client.
pub(super) fn start(hub: Arc<HubServer>, client: Arc<Client>, input: Receiver<Input>) {
    let served = hub.begin_serving();
    tokio::spawn(async move {
        let _served = served;
        let mut connection = ClientConnection::new(Caller { client, hub }, input);
        let end = connection.serve().await;
        connection.finish(end).await;
    });
}

/// How a client connection ends.
#[derive(Debug)]
pub(super) enum End {
    /// The client has left, and everything it sent has been worked off.
    Left,
    /// At once, for a reason from outside.
    Sudden(SuddenEnd),
    /// The service has moved the client to another app server.
    Migrated,
    /// The client said goodbye.
    Goodbye,
    /// The hub handshake failed.
    Handshake(HandshakeError),
    /// The hub does not want the client.
    TurnedAway(HubError),
    /// The client does not keep to the hub protocol.
    Protocol(HubMessageError),
    /// The client, which is one that pings, has been silent for too long.
    Timeout,
}

/// For the client's handshake.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(15);

/// The client hears from us at least so often.
const PING_INTERVAL: Duration = Duration::from_secs(15);

/// A client that has sent a ping has to send something at least so often.
const CLIENT_TIMEOUT: Duration = Duration::from_secs(30);

/// How long calls may go on once their client is gone.
const CALLS_TIMEOUT: Duration = Duration::from_secs(10);

const CLOSED_WITH_ERROR: &str = "Connection closed with an error.";

struct ClientConnection {
    caller: Caller,
    input: Receiver<Input>,
    /// What has come and is not worked off: less than a whole message, unless the calls are behind.
    buffer: RecordBuffer,
    calls: Calls,
    is_connected: bool,
    next_ping: Instant,
    /// When the client will have been silent for too long.
    timeout_at: Option<Instant>,
}

impl ClientConnection {
    fn new(caller: Caller, input: Receiver<Input>) -> Self {
        Self {
            calls: Calls::new(caller.clone()),
            caller,
            input,
            buffer: RecordBuffer::default(),
            is_connected: false,
            next_ping: Instant::now() + PING_INTERVAL,
            timeout_at: None,
        }
    }

    /// Everything up to the end.
    async fn serve(&mut self) -> End {
        let client = Arc::clone(&self.caller.client);
        tokio::select! {
            biased;
            end = client.ended() => End::Sudden(end),
            end = self.live() => end,
        }
    }

    async fn live(&mut self) -> End {
        if let Err(end) = self.shake_hands().await {
            return end;
        }
        if let Err(error) = self.connect().await {
            return End::TurnedAway(error);
        }
        self.is_connected = true;
        loop {
            match self.step().await {
                Ok(()) => {}
                Err(end) => return end,
            }
        }
    }

    async fn shake_hands(&mut self) -> Result<(), End> {
        let request = timeout(HANDSHAKE_TIMEOUT, self.handshake_request())
            .await
            .unwrap_or(Err(End::Handshake(HandshakeError::Canceled)))?;
        // Both are spoken here, but the service has announced one of them, and sends in that one are already under way.
        let served = match self.caller.client.protocol {
            MessageProtocol::Json => HubProtocol::Json,
            MessageProtocol::MessagePack => HubProtocol::MessagePack,
        };
        request.check(&[served]).map_err(End::Handshake)?;
        let client = Arc::clone(&self.caller.client);
        if client.migrated_from().is_some() {
            // It has had its response from the app server before.
            return Ok(());
        }
        let way = client.way.open().await;
        client
            .send_bytes(&way, ACCEPTED_RESPONSE, DataMessageType::Handshake)
            .await
            .map_err(|_| End::Sudden(SuddenEnd::ServerConnectionLost))
    }

    async fn handshake_request(&mut self) -> Result<HandshakeRequest, End> {
        let bytes_max = self.caller.hub.process.options.message_bytes_max;
        loop {
            // Whatever the hub protocol, this record is JSON.
            match self.buffer.next(MessageProtocol::Json, bytes_max) {
                Ok(Some(json)) => return HandshakeRequest::parse(&json).map_err(End::Handshake),
                Ok(None) => {}
                Err(_) => return Err(End::Handshake(HandshakeError::Canceled)),
            }
            let input = self.input.recv().await;
            self.on_input(input)?;
        }
    }

    /// Lets the hub greet the client, which meanwhile keeps hearing pings.
    async fn connect(&mut self) -> Result<(), HubError> {
        let caller = self.caller.clone();
        let connected = AssertUnwindSafe(caller.hub.hub.connected(&caller)).catch_unwind();
        tokio::pin!(connected);
        loop {
            tokio::select! {
                result = &mut connected => {
                    return result.unwrap_or_else(|_| Err(panicked()));
                }
                () = sleep_until(self.next_ping) => self.ping().await,
            }
        }
    }

    /// Works off the messages that are there, then waits for whatever is next.
    async fn step(&mut self) -> Result<(), End> {
        while self.calls.has_room() && self.next_message().await? {}
        let has_room = self.calls.has_room();
        tokio::select! {
            input = self.input.recv(), if has_room => self.on_input(input),
            () = self.calls.progress() => Ok(()),
            () = sleep_until(self.next_ping) => {
                self.ping().await;
                Ok(())
            }
            // While we do not read, silence is not the client's fault.
            () = elapsed(self.timeout_at), if has_room => Err(End::Timeout),
        }
    }

    fn on_input(&mut self, input: Option<Input>) -> Result<(), End> {
        match input {
            Some(Input::Data(bytes)) => {
                self.buffer.extend(&bytes);
                Ok(())
            }
            Some(Input::Left) | None if self.caller.client.migrated_to().is_some() => {
                Err(End::Migrated)
            }
            Some(Input::Left) | None => Err(End::Left),
        }
    }

    /// Works off one message, if there is a whole one.
    async fn next_message(&mut self) -> Result<bool, End> {
        let client = &self.caller.client;
        let bytes_max = self.caller.hub.process.options.message_bytes_max;
        let Some(record) = self
            .buffer
            .next(client.protocol, bytes_max)
            .map_err(End::Protocol)?
        else {
            return Ok(false);
        };
        let message = client.protocol.decode(&record).map_err(End::Protocol)?;
        if message == Some(HubMessage::Ping) || self.timeout_at.is_some() {
            self.timeout_at = Some(Instant::now() + CLIENT_TIMEOUT);
        }
        match message {
            Some(HubMessage::Close { .. }) => return Err(End::Goodbye),
            Some(message) => self.calls.on_message(message).await,
            None => {}
        }
        Ok(true)
    }

    async fn ping(&mut self) {
        self.next_ping = Instant::now() + PING_INTERVAL;
        // A server connection that is lost ends the client too, by another way.
        let _ = self.caller.client.send(&HubMessage::Ping).await;
    }

    async fn finish(mut self, end: End) {
        let Caller { client, hub } = &self.caller.clone();
        debug!(hub = %hub.name, connection = client.id, ?end, "client connection ends");
        if matches!(end, End::Migrated) {
            self.calls.progress_now();
        }
        let parting = hub.begin_parting();
        hub.remove_client(client);
        client.end(SuddenEnd::Finished);
        let detailed = hub.process.options.detailed_errors;
        if let Some((goodbye, data_type)) = end.goodbye(client.protocol, detailed) {
            // Where the server connection is lost there is nobody left to tell.
            let _ = client.send_last(&goodbye, data_type).await;
        }
        if end.closes_client() {
            let close = Message::from(CloseConnection::of(client.id.as_str()));
            let _ = client.way.server_connection().send(&close).await;
        }
        drop(parting);
        let works_off_calls = matches!(end, End::Left | End::Migrated);
        // Methods that do not notice that their client is gone are cut short.
        let _ = timeout(CALLS_TIMEOUT, self.calls.finish(works_off_calls)).await;
        if self.is_connected {
            let error = end.error_text();
            let disconnected = hub.hub.disconnected(&self.caller, error.as_deref());
            // A panic here has been reported by the panic hook, and there is nobody to answer.
            let _ = AssertUnwindSafe(disconnected).catch_unwind().await;
        }
    }
}

impl End {
    /// The last thing that the client is told.
    fn goodbye(
        &self,
        protocol: MessageProtocol,
        detailed: bool,
    ) -> Option<(Vec<u8>, DataMessageType)> {
        let close = |error, allow_reconnect| HubMessage::Close {
            error,
            allow_reconnect,
        };
        let with_detail = |detail: &str| {
            Some(if detailed {
                format!("{CLOSED_WITH_ERROR} {detail}")
            } else {
                CLOSED_WITH_ERROR.to_owned()
            })
        };
        let message = match self {
            Self::Left | Self::Sudden(SuddenEnd::Shutdown) => close(None, true),
            Self::Goodbye | Self::Sudden(SuddenEnd::Aborted | SuddenEnd::Finished) => {
                close(None, false)
            }
            Self::Migrated | Self::Sudden(SuddenEnd::ServerConnectionLost) => return None,
            Self::Sudden(SuddenEnd::InputOverflow) => {
                close(with_detail("The client sends too fast."), true)
            }
            Self::Handshake(error) => {
                let text = if detailed {
                    error.to_string()
                } else {
                    error.public_text()
                };
                return Some((error_response(&text), DataMessageType::Handshake));
            }
            Self::TurnedAway(error) if error.is_public() => {
                close(Some(format!("{CLOSED_WITH_ERROR} {error}")), false)
            }
            Self::TurnedAway(error) => close(with_detail(&error.to_string()), false),
            Self::Protocol(_) | Self::Timeout => {
                close(with_detail(&self.error_text().unwrap_or_default()), true)
            }
        };
        Some((protocol.encode(&message), DataMessageType::Close))
    }

    /// Whether the service has to be told that the client shall go. Otherwise it knows, or closes the client by itself.
    fn closes_client(&self) -> bool {
        match self {
            Self::Left
            | Self::Migrated
            | Self::Sudden(SuddenEnd::ServerConnectionLost | SuddenEnd::Shutdown) => false,
            Self::Sudden(SuddenEnd::Aborted | SuddenEnd::InputOverflow | SuddenEnd::Finished)
            | Self::Goodbye
            | Self::Handshake(_)
            | Self::TurnedAway(_)
            | Self::Protocol(_)
            | Self::Timeout => true,
        }
    }

    /// What the hub is told, in the words of .NET.
    fn error_text(&self) -> Option<String> {
        match self {
            Self::Protocol(error) => Some(format!("InvalidDataException: {error}")),
            Self::Timeout => Some(
                "OperationCanceledException: Client hasn't sent a message/ping within the configured ClientTimeoutInterval."
                    .to_owned(),
            ),
            Self::Left
            | Self::Migrated
            | Self::Sudden(_)
            | Self::Goodbye
            | Self::Handshake(_)
            | Self::TurnedAway(_) => None,
        }
    }
}

/// What the client is told of a panic.
pub(super) fn panicked() -> HubError {
    HubError::Internal("The method panicked.".to_owned())
}

async fn elapsed(deadline: Option<Instant>) {
    match deadline {
        Some(deadline) => sleep_until(deadline).await,
        None => std::future::pending().await,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn goodbye(end: &End, detailed: bool) -> String {
        end.goodbye(MessageProtocol::Json, detailed)
            .map_or_else(String::new, |(bytes, _)| String::from_utf8(bytes).unwrap())
    }

    #[test]
    fn each_end_has_its_last_word() {
        for (end, text, closes) in [
            (End::Left, r#"{"type":7,"allowReconnect":true}"#, false),
            (
                End::Sudden(SuddenEnd::Shutdown),
                r#"{"type":7,"allowReconnect":true}"#,
                false,
            ),
            (End::Sudden(SuddenEnd::Aborted), r#"{"type":7}"#, true),
            (End::Goodbye, r#"{"type":7}"#, true),
            (End::Migrated, "", false),
            (End::Sudden(SuddenEnd::ServerConnectionLost), "", false),
            (
                End::Handshake(HandshakeError::Canceled),
                r#"{"error":"Handshake was canceled."}"#,
                true,
            ),
            (
                End::TurnedAway(HubError::Internal("onconnected failed".into())),
                r#"{"type":7,"error":"Connection closed with an error. InvalidOperationException: onconnected failed"}"#,
                true,
            ),
            (
                End::Protocol(HubMessageError::Missing { property: "type" }),
                r#"{"type":7,"error":"Connection closed with an error. InvalidDataException: Missing required property 'type'.","allowReconnect":true}"#,
                true,
            ),
        ] {
            assert_eq!(goodbye(&end, true).trim_end_matches('\u{1e}'), text);
            assert_eq!(end.closes_client(), closes, "for {end:?}");
        }
    }

    #[test]
    fn details_are_kept_from_clients_unless_they_may_have_them() {
        let plain = "{\"type\":7,\"error\":\"Connection closed with an error.\"}\u{1e}";
        let end = End::TurnedAway(HubError::Internal("secret".into()));
        assert_eq!(goodbye(&end, false), plain);
        let end = End::TurnedAway(HubError::new("meant for you"));
        assert!(goodbye(&end, false).contains("HubException: meant for you"));
    }
}

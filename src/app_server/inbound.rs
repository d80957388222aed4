//! What the service says on a server connection, and what follows from it.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::Bytes;
use tokio::time::{Instant, timeout};
use tracing::{debug, warn};

use super::client::{Client, SuddenEnd};
use super::hub_server::HubServer;
use super::server_connection::ServerConnection;
use super::{client_connection, server_connections};
use crate::protocol::hub::message::{HubMessage, MessageProtocol, Outcome, RecordBuffer, Value};
use crate::protocol::service::ping::{AppPing, ClientCounts, ServicePing};
use crate::protocol::service::{
    ClientCompletion, ClientInvocation, ConnectionData, ErrorCompletion, OpenConnection, Ping,
    decode_whole,
};

type Message<'a> = crate::protocol::service::Message<'a, &'a [u8]>;

/// Works off the messages of one server connection, in order.
#[derive(Debug)]
pub(super) struct Inbound {
    hub: Arc<HubServer>,
    connection: Arc<ServerConnection>,
    last_ping: Option<Instant>,
}

/// The service hears from us no more often than this, unless we have something to say.
const PING_INTERVAL: Duration = Duration::from_secs(5);

/// How long a client whose input is full may hold up the others on its server connection.
const INPUT_PATIENCE: Duration = Duration::from_secs(5);

/// What is told to whoever waits for a client's result, where the service does not say what is wrong.
const NO_RESULT: &str = "The client did not return a result.";

impl Inbound {
    pub(super) fn new(hub: Arc<HubServer>, connection: Arc<ServerConnection>) -> Self {
        Self {
            hub,
            connection,
            last_ping: None,
        }
    }

    /// Works off one message.
    pub(super) async fn on_frame(&mut self, frame: &Bytes) {
        match decode_whole(frame) {
            Ok(message) => self.on_message(frame, message).await,
            // Where the next message begins is known all the same.
            Err(error) => {
                warn!(hub = %self.hub.name, %error, "passed over a message of the service");
            }
        }
        self.answer_ping();
    }

    #[expect(
        clippy::wildcard_enum_match_arm,
        reason = "most messages are for the service, and the rest does not concern an app server"
    )]
    async fn on_message(&mut self, frame: &Bytes, message: Message<'_>) {
        let results = &self.hub.process.results;
        match message {
            Message::ConnectionData(data) => self.on_data(frame, &data).await,
            Message::OpenConnection(open) => self.on_open(&open),
            Message::CloseConnection(close) => {
                if let Some(client) = self.hub.client(&close.connection_id) {
                    client.leave();
                }
            }
            Message::Ping(ping) => self.on_ping(&ping),
            Message::Ack(ack) => self.hub.process.acks.complete(ack.ack_id, ack.status),
            Message::ClientInvocation(invocation) => self.on_client_invocation(&invocation),
            Message::ClientCompletion(completion) => self.on_client_completion(&completion),
            Message::ErrorCompletion(error) => self.on_error_completion(&error),
            Message::ServiceMapping(mapping) => {
                results.map_instance(&mapping.invocation_id, &mapping.instance_id);
            }
            Message::ServiceError(error) if !error.error_message.is_empty() => {
                warn!(hub = %self.hub.name, server_connection = self.connection.id, error = %error.error_message, "the service reports an error");
            }
            other => {
                debug!(hub = %self.hub.name, message = ?other.message_type(), "ignored a message of the service");
            }
        }
    }

    fn on_open(&self, open: &OpenConnection<'_>) {
        let (client, input) = Client::new(open, Arc::clone(&self.connection));
        if self.hub.add_client(&client) {
            client_connection::start(Arc::clone(&self.hub), client, input);
        } else {
            warn!(hub = %self.hub.name, connection = %open.connection_id, "ignored a second client with the same id");
        }
    }

    async fn on_data(&self, frame: &Bytes, data: &ConnectionData<'_, &[u8]>) {
        let Some(client) = self.hub.client(&data.connection_id) else {
            return;
        };
        let payload = frame.slice_ref(data.payload);
        if timeout(INPUT_PATIENCE, client.receive(payload))
            .await
            .is_err()
        {
            warn!(hub = %self.hub.name, connection = client.id, "closed a client that sends more than the hub can work off");
            client.end(SuddenEnd::InputOverflow);
        }
    }

    fn on_ping(&self, ping: &Ping<'_>) {
        match ServicePing::parse(ping) {
            ServicePing::Echo(_) => self.send(ping.clone()),
            ServicePing::Offline(instance_id) => self.on_offline(&instance_id),
            ServicePing::FinAck => self.connection.on_fin_acknowledged(),
            ServicePing::Rebalance(instance_id) => {
                server_connections::open_on_demand(&self.hub, &instance_id);
            }
            ServicePing::KeepAlive
            | ServicePing::Status(_)
            | ServicePing::Servers(_)
            | ServicePing::MessageLog(_)
            | ServicePing::Other => {}
        }
    }

    /// A service process is gone: its clients on this connection are too. No name means any process.
    fn on_offline(&self, instance_id: &str) {
        for client in self.hub.clients() {
            let is_here = Arc::ptr_eq(&client.server_connection, &self.connection);
            if is_here && (instance_id.is_empty() || client.instance_id() == Some(instance_id)) {
                client.leave();
            }
        }
        self.hub.process.results.fail_instance(instance_id);
    }

    /// Another app server asks a client of this one. What the client answers has to go back to it.
    fn on_client_invocation(&self, invocation: &ClientInvocation<'_, &[u8]>) {
        let process = &self.hub.process;
        if invocation.caller_server_id != process.server_id {
            process
                .results
                .route(&invocation.invocation_id, &invocation.connection_id);
        }
    }

    fn on_client_completion(&self, completion: &ClientCompletion<'_, &[u8]>) {
        let result = read_result(completion).unwrap_or_else(|| Err(NO_RESULT.to_owned()));
        self.hub.process.results.complete(
            &completion.invocation_id,
            &completion.connection_id,
            result,
        );
    }

    fn on_error_completion(&self, error: &ErrorCompletion<'_>) {
        let text = Some(&*error.error)
            .filter(|text| !text.is_empty())
            .unwrap_or(NO_RESULT);
        self.hub.process.results.complete(
            &error.invocation_id,
            &error.connection_id,
            Err(text.to_owned()),
        );
    }

    /// Shows that we are alive. Only ever as an answer: a silent service gets a silent app server, as with the SDK.
    fn answer_ping(&mut self) {
        if self
            .last_ping
            .is_some_and(|last| last.elapsed() < PING_INTERVAL)
        {
            return;
        }
        self.last_ping = Some(Instant::now());
        let here = self.connection.client_count.load(Ordering::Relaxed);
        self.send(AppPing::KeepAlive(ClientCounts {
            in_hub: Some(self.hub.client_count() as u64),
            here: Some(here as u64),
        }));
    }

    fn send<'a>(&self, ping: impl Into<Ping<'a>>) {
        // An error means that the connection is ending, which its reader will find out.
        let _ = self.connection.send_now(&Message::from(ping.into()));
    }
}

/// What the client of another app server returned.
fn read_result(completion: &ClientCompletion<'_, &[u8]>) -> Option<Result<Value, String>> {
    let protocol = MessageProtocol::from_name(completion.protocol.as_deref()?)?;
    let mut buffer = RecordBuffer::default();
    buffer.extend(completion.payload);
    let record = buffer.next(protocol, completion.payload.len()).ok()??;
    match protocol.decode(&record).ok()?? {
        HubMessage::Completion { outcome, .. } => Some(into_result(outcome)),
        HubMessage::Invocation { .. }
        | HubMessage::StreamItem { .. }
        | HubMessage::StreamInvocation { .. }
        | HubMessage::CancelInvocation { .. }
        | HubMessage::Ping
        | HubMessage::Close { .. }
        | HubMessage::Ack { .. }
        | HubMessage::Sequence { .. } => None,
    }
}

/// A client's completion as a result. One without a value is nil.
pub(super) fn into_result(outcome: Outcome) -> Result<Value, String> {
    match outcome {
        Outcome::Void => Ok(Value::Nil),
        Outcome::Result(value) => Ok(value),
        Outcome::Error(error) => Err(error),
    }
}

//! What the service says on a server connection, and what follows from it.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::Bytes;
use tokio::time::{Instant, timeout};
use tracing::{debug, warn};

use super::client::{Client, SuddenEnd};
use super::endpoint::{EndpointKind, HubEndpoint};
use super::hub_server::HubServer;
use super::pending::AckAnswer;
use super::server_connection::ServerConnection;
use super::{client_connection, server_connections};
use crate::protocol::hub::message::{HubMessage, MessageProtocol, Outcome, RecordBuffer, Value};
use crate::protocol::service::ping::{AppPing, ClientCounts, ServicePing};
use crate::protocol::service::{
    Ack, ClientCompletion, ClientInvocation, CloseConnection, ConnectionData,
    ConnectionFlowControl, ErrorCompletion, FlowControlOperation, FlowControlTarget,
    OpenConnection, Ping, decode_whole,
};

type Message<'a> = crate::protocol::service::Message<'a, &'a [u8]>;

/// Works off the messages of one server connection, in order.
#[derive(Debug)]
pub(super) struct Inbound {
    hub: Arc<HubServer>,
    endpoint: Arc<HubEndpoint>,
    connection: Arc<ServerConnection>,
    last_ping: Option<Instant>,
}

/// The service hears from us no more often than this, unless we have something to say.
const PING_INTERVAL: Duration = Duration::from_secs(5);

/// How long a client whose input is full may hold up the others on its server connection.
const INPUT_PATIENCE: Duration = Duration::from_secs(5);

/// The header by which the service names the app server that a client moves to.
const MIGRATED_TO_HEADER: &str = "Asrs-Migrate-To";

/// What is told to whoever waits for a client's result, where the service does not say what is wrong.
const NO_RESULT: &str = "The client did not return a result.";

impl Inbound {
    pub(super) fn new(
        hub: Arc<HubServer>,
        endpoint: Arc<HubEndpoint>,
        connection: Arc<ServerConnection>,
    ) -> Self {
        Self {
            hub,
            endpoint,
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
            Message::CloseConnection(close) => self.on_close(&close),
            Message::ConnectionReconnect(reconnect) => {
                if let Some(client) = self.hub.client(&reconnect.connection_id) {
                    client.drop_parts();
                }
            }
            Message::ConnectionFlowControl(control) => self.on_flow_control(&control).await,
            Message::Ping(ping) => self.on_ping(&ping),
            Message::Ack(ack) => self.on_ack(frame, &ack),
            Message::ClientInvocation(invocation) => self.on_client_invocation(&invocation),
            Message::ClientCompletion(completion) => self.on_client_completion(&completion),
            Message::ErrorCompletion(error) => self.on_error_completion(&error),
            Message::ServiceMapping(mapping) => {
                results.map_instance(&mapping.invocation_id, &mapping.instance_id);
            }
            Message::ServiceError(error) if !error.error_message.is_empty() => {
                warn!(hub = %self.hub.name, server_connection = self.connection.id, error = %error.error_message, "the service reports an error");
                self.connection.withdraw();
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
        let part = frame.slice_ref(data.payload);
        let Some(payload) = client.assemble(part, !data.is_partial) else {
            return;
        };
        if timeout(INPUT_PATIENCE, client.receive(payload))
            .await
            .is_err()
        {
            warn!(hub = %self.hub.name, connection = client.id, "closed a client that sends more than the hub can work off");
            client.end(SuddenEnd::InputOverflow);
        }
    }

    /// The client has left, or has moved to another app server.
    fn on_close(&self, close: &CloseConnection<'_>) {
        let Some(client) = self.hub.client(&close.connection_id) else {
            return;
        };
        client.drop_parts();
        let migrated_to = close
            .headers
            .iter()
            .find(|(name, _)| name.eq_ignore_ascii_case(MIGRATED_TO_HEADER))
            .and_then(|(_, values)| values.first());
        match migrated_to {
            Some(server_id) => client.migrate_to(server_id),
            None => client.leave(),
        }
    }

    /// The service holds a client's output, lets it go on by this connection, or wants nothing more on this connection.
    async fn on_flow_control(&self, control: &ConnectionFlowControl<'_>) {
        let id = &*control.connection_id;
        match (control.target, control.operation) {
            (FlowControlTarget::Client, FlowControlOperation::Pause) => self.on_pause(id).await,
            (FlowControlTarget::Client, FlowControlOperation::Resume) => {
                if let Some(client) = self.hub.client(id) {
                    client.way.resume(&self.connection);
                }
            }
            (FlowControlTarget::Server, FlowControlOperation::Offline)
                if id == self.connection.id =>
            {
                self.connection.withdraw();
            }
            (target, operation) => {
                warn!(hub = %self.hub.name, ?target, ?operation, "ignored a flow control that makes no sense here");
            }
        }
    }

    async fn on_pause(&self, connection_id: &str) {
        let client = self.hub.client(connection_id);
        let Some(client) = client.filter(|client| client.way.is_on(&self.connection)) else {
            return;
        };
        match timeout(INPUT_PATIENCE, client.way.pause()).await {
            Ok(true) => self.send_now(ConnectionFlowControl {
                connection_id: connection_id.into(),
                target: FlowControlTarget::Client,
                operation: FlowControlOperation::PauseAck,
            }),
            Ok(false) => {}
            // Its output goes on, and the service knows by the missing answer.
            Err(_) => {
                warn!(hub = %self.hub.name, connection = client.id, "a client's output could not be held: the server connection is full");
            }
        }
    }

    fn on_ack(&self, frame: &Bytes, ack: &Ack<'_, &[u8]>) {
        let answer = AckAnswer {
            status: ack.status,
            message: ack.message.to_string(),
            payload: ack.payload.map(|payload| frame.slice_ref(payload)),
        };
        self.hub.process.acks.complete(ack.ack_id, answer);
    }

    fn on_ping(&self, ping: &Ping<'_>) {
        match ServicePing::parse(ping) {
            ServicePing::Echo(_) => self.send_now(ping.clone()),
            ServicePing::Offline(instance_id) => self.on_offline(&instance_id),
            ServicePing::FinAck => self.connection.on_fin_acknowledged(),
            ServicePing::Status(status) => self.endpoint.on_status(status),
            ServicePing::Rebalance(instance_id)
                if self.endpoint.service.kind == EndpointKind::Primary =>
            {
                server_connections::open_on_demand(&self.hub, &self.endpoint, &instance_id);
            }
            ServicePing::KeepAlive
            | ServicePing::Rebalance(_)
            | ServicePing::Servers(_)
            | ServicePing::MessageLog(_)
            | ServicePing::Other => {}
        }
    }

    /// A service process is gone: its clients on this connection are too. No name means any process.
    fn on_offline(&self, instance_id: &str) {
        for client in self.hub.clients_on(&self.connection) {
            if instance_id.is_empty() || client.instance_id() == Some(instance_id) {
                client.leave();
            }
        }
        self.hub.process.results.fail_instance(instance_id);
    }

    /// Another app server asks a client of this one. What the client answers has to go back to it.
    fn on_client_invocation(&self, invocation: &ClientInvocation<'_, &[u8]>) {
        let (process, connection_id) = (&self.hub.process, &invocation.connection_id);
        if invocation.caller_server_id == process.server_id {
            return;
        }
        let results = &process.results;
        results.route(&invocation.invocation_id, connection_id);
        // A client that is not here, or has gone this moment, will not answer: then the service does.
        if self.hub.client(connection_id).is_none() {
            results.take_route(&invocation.invocation_id, connection_id);
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
        self.hub
            .process
            .results
            .fail_one(&error.invocation_id, &error.connection_id, text);
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
        self.send_now(Ping::from(AppPing::KeepAlive(ClientCounts {
            in_hub: Some(self.hub.client_count() as u64),
            here: Some(here as u64),
        })));
    }

    fn send_now<'a>(&self, message: impl Into<Message<'a>>) {
        // An error means that the connection is ending, which its reader will find out.
        let _ = self.connection.send_now(&message.into());
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

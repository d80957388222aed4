//! One server connection: opening it, reading it, writing to it.
//!
//! A task reads: it cuts the stream into service messages and hands each to `inbound`. Another writes: it packs everything that
//! is queued into one WebSocket message, so that a burst costs one system call and not one each. The queue is bounded; who
//! sends into a full one waits.
//!
//! The service may withdraw a connection before it closes it, with an error or because it goes away itself. From then on only
//! keep-alives are written to it, but it is still read.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::{Buf as _, Bytes, BytesMut};
use futures_util::stream::{SplitSink, SplitStream};
use futures_util::{SinkExt as _, StreamExt as _};
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::time::{Instant, timeout, timeout_at};
use tokio_tungstenite::WebSocketStream;
use tungstenite::Message as WebSocketMessage;
use tungstenite::client::IntoClientRequest as _;
use tungstenite::http::HeaderValue;
use tungstenite::http::header::InvalidHeaderValue;
use tungstenite::protocol::WebSocketConfig;
use tungstenite::protocol::frame::CloseFrame;
use tungstenite::protocol::frame::coding::CloseCode;

use super::byte_queue::{Closed, Receiver, Sender, byte_queue};
use super::endpoint::HubEndpoint;
use super::hub_server::HubServer;
use super::inbound::Inbound;
use super::random;
use crate::frame::record::{LengthError, read_varint};
use crate::protocol::access_token::{Algorithm, Audience, SignError, TokenBuilder, UnixSeconds};
use crate::protocol::connection_string::ConnectionString;
use crate::protocol::service::ping::ShutdownMode;
use crate::protocol::service::{
    DecodeError, HandshakeRequest, MigrationLevel, ServerConnectionType, Text, decode_whole,
};

type Message<'a> = crate::protocol::service::Message<'a, &'a [u8]>;

/// A server connection that is up, as everybody sees it who sends.
pub(super) struct ServerConnection {
    /// A new one for each attempt.
    pub(super) id: String,
    pub(super) connection_type: ServerConnectionType,
    /// Clients that live on it.
    pub(super) client_count: AtomicUsize,
    outgoing: Sender<Outgoing>,
    is_withdrawn: AtomicBool,
    is_fin_acknowledged: watch::Sender<bool>,
}

/// What the writing task does.
#[derive(Debug)]
enum Outgoing {
    Message(Vec<u8>),
    /// The end: everything before it is sent, then the WebSocket is closed.
    Close,
}

impl ServerConnection {
    /// Queues a message. Waits while too much is queued.
    pub(super) async fn send<P: AsRef<[u8]>>(
        &self,
        message: &crate::protocol::service::Message<'_, P>,
    ) -> Result<(), Closed> {
        let mut bytes = Vec::new();
        message.encode(&mut bytes);
        self.send_bytes(bytes).await
    }

    /// Queues whole messages as they are on the wire.
    pub(super) async fn send_bytes(&self, bytes: Vec<u8>) -> Result<(), Closed> {
        if self.is_withdrawn.load(Ordering::Relaxed) {
            return Err(Closed);
        }
        let length = bytes.len();
        self.outgoing.send(Outgoing::Message(bytes), length).await
    }

    /// Queues a message without waiting, even where the service has withdrawn the connection. For pings and the like.
    pub(super) fn send_now(&self, message: &Message<'_>) -> Result<(), Closed> {
        let mut bytes = Vec::new();
        message.encode(&mut bytes);
        self.outgoing.send_now(Outgoing::Message(bytes))
    }

    /// Closes the connection once everything queued is sent.
    pub(super) fn close(&self) {
        // An error means that it is closed already.
        let _ = self.outgoing.send_now(Outgoing::Close);
    }

    /// Whether it still takes messages.
    pub(super) fn is_open(&self) -> bool {
        !self.outgoing.is_closed() && !self.is_withdrawn.load(Ordering::Relaxed)
    }

    /// The service wants no more messages here.
    pub(super) fn withdraw(&self) {
        self.is_withdrawn.store(true, Ordering::Relaxed);
    }

    /// Waits until the connection is gone.
    pub(super) async fn closed(&self) {
        self.outgoing.closed().await;
    }

    /// The service sends no new clients here.
    pub(super) fn on_fin_acknowledged(&self) {
        self.is_fin_acknowledged.send_replace(true);
    }

    /// Waits until the service sends no new clients here.
    pub(super) async fn fin_acknowledged(&self) {
        let mut is_acknowledged = self.is_fin_acknowledged.subscribe();
        // The sender lives in `self`, so the wait cannot fail.
        let _ = is_acknowledged
            .wait_for(|is_acknowledged| *is_acknowledged)
            .await;
    }
}

impl fmt::Debug for ServerConnection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ServerConnection")
            .field("id", &self.id)
            .field("outgoing", &self.outgoing)
            .finish_non_exhaustive()
    }
}

/// Why a server connection did not come up.
#[derive(Debug, thiserror::Error)]
pub(super) enum ConnectError {
    #[error("no access token: {0}")]
    Token(#[from] SignError),
    #[error("a header cannot be written: {0}")]
    Header(#[from] InvalidHeaderValue),
    #[error("cannot connect: {0}")]
    Connect(std::io::Error),
    #[error("the upgrade failed: {0}")]
    Upgrade(Box<tungstenite::Error>),
    #[error("the service was silent for {} s", HANDSHAKE_TIMEOUT.as_secs())]
    Timeout,
    #[error("the service refuses: {0}")]
    Refused(String),
    #[error("the service began with another message than the handshake response")]
    NotAResponse,
    #[error(transparent)]
    Lost(#[from] Lost),
}

/// Why a server connection ended.
#[derive(Debug, thiserror::Error)]
pub(super) enum Lost {
    #[error("closed by the service ({0})")]
    Closed(String),
    #[error("the service was silent for {} s", SILENCE_MAX.as_secs())]
    Silence,
    #[error("the service sent text instead of bytes")]
    Text,
    #[error("what came is no service message: {0}")]
    Length(#[from] LengthError),
    #[error("the handshake response cannot be read: {0}")]
    Response(#[from] DecodeError),
    #[error("the socket failed: {0}")]
    Socket(Box<tungstenite::Error>),
    #[error("closed by us")]
    ClosedByUs,
}

/// No bytes of messages for so long, and the service is gone. The real one sends a ping every 5 s.
const SILENCE_MAX: Duration = Duration::from_secs(30);

/// For the connection and the upgrade, and again for the answer to the handshake.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(15);

/// Bytes that may be queued for the service on one server connection.
const OUTGOING_BYTES_MAX: u32 = 16 << 20;

/// Beyond this a WebSocket message takes in nothing more.
const BATCH_BYTES_MAX: usize = 256 << 10;

/// The longest service message that is taken in.
const MESSAGE_BYTES_MAX: u32 = 64 << 20;

const ACCESS_TOKEN_LIFETIME: Duration = Duration::from_hours(1);

/// A server connection that has just come up.
pub(super) struct Connected {
    connection: Arc<ServerConnection>,
    endpoint: Arc<HubEndpoint>,
    incoming: Incoming,
    sink: SplitSink<WebSocketStream<TcpStream>, WebSocketMessage>,
    outgoing: Receiver<Outgoing>,
}

/// Opens a server connection and shakes hands. `target` names the service process that asked for it, if one did.
pub(super) async fn connect(
    hub: &HubServer,
    endpoint: &Arc<HubEndpoint>,
    target: Option<&str>,
) -> Result<Connected, ConnectError> {
    let id = random::guid();
    let socket = timeout(HANDSHAKE_TIMEOUT, upgrade(hub, endpoint, &id, target))
        .await
        .map_err(|_| ConnectError::Timeout)??;
    let (mut sink, stream) = socket.split();
    let mut incoming = Incoming::new(stream);
    let connection_type = if target.is_some() {
        ServerConnectionType::OnDemand
    } else {
        endpoint.connection_type()
    };
    let mut request = Vec::new();
    Message::from(HandshakeRequest {
        version: PROTOCOL_VERSION,
        connection_type,
        target: Text::default(),
        migration_level: match hub.process.options.shutdown_mode {
            ShutdownMode::MigrateClients => MigrationLevel::ShutdownOnly,
            ShutdownMode::Off | ShutdownMode::WaitForClientsClose => MigrationLevel::Off,
        },
        allow_stateful_reconnects: false,
    })
    .encode(&mut request);
    sink.send(WebSocketMessage::binary(request))
        .await
        .map_err(|error| Lost::Socket(Box::new(error)))?;
    let response = timeout(HANDSHAKE_TIMEOUT, incoming.next())
        .await
        .map_err(|_| ConnectError::Timeout)??;
    let Message::HandshakeResponse(response) = decode_whole(&response).map_err(Lost::Response)?
    else {
        return Err(ConnectError::NotAResponse);
    };
    if !response.error_message.is_empty() {
        return Err(ConnectError::Refused(response.error_message.into_owned()));
    }
    let (sender, outgoing) = byte_queue(OUTGOING_BYTES_MAX);
    let connection = ServerConnection {
        id,
        connection_type,
        client_count: AtomicUsize::new(0),
        outgoing: sender,
        is_withdrawn: AtomicBool::new(false),
        is_fin_acknowledged: watch::Sender::new(false),
    };
    Ok(Connected {
        connection: Arc::new(connection),
        endpoint: Arc::clone(endpoint),
        incoming,
        sink,
        outgoing,
    })
}

/// The only version of the service protocol.
const PROTOCOL_VERSION: i32 = 1;

async fn upgrade(
    hub: &HubServer,
    endpoint: &HubEndpoint,
    id: &str,
    target: Option<&str>,
) -> Result<WebSocketStream<TcpStream>, ConnectError> {
    let connection_string = &endpoint.service.connection_string;
    let address = connection_string.server_endpoint();
    let host = address.host().trim_start_matches('[').trim_end_matches(']');
    let socket = TcpStream::connect((host, address.port()))
        .await
        .map_err(ConnectError::Connect)?;
    socket.set_nodelay(true).map_err(ConnectError::Connect)?;
    let boxed = |error| ConnectError::Upgrade(Box::new(error));
    let mut request = url(hub, connection_string, id, target)
        .into_client_request()
        .map_err(boxed)?;
    let headers = request.headers_mut();
    let agent = concat!("hubring/", env!("CARGO_PKG_VERSION"));
    headers.insert("Asrs-User-Agent", HeaderValue::from_static(agent));
    headers.insert(
        "X-ASRS-Server-Id",
        HeaderValue::from_str(&hub.process.server_id)?,
    );
    headers.insert(
        "X-Requested-With",
        HeaderValue::from_static("XMLHttpRequest"),
    );
    let mut authorization =
        HeaderValue::from_str(&format!("Bearer {}", access_token(hub, connection_string)?))?;
    authorization.set_sensitive(true);
    headers.insert("Authorization", authorization);
    let config = WebSocketConfig::default()
        .max_message_size(None)
        .max_frame_size(Some(MESSAGE_BYTES_MAX as usize * 2));
    let (socket, _) = tokio_tungstenite::client_async_with_config(request, socket, Some(config))
        .await
        .map_err(boxed)?;
    Ok(socket)
}

fn url(
    hub: &HubServer,
    connection_string: &ConnectionString,
    id: &str,
    target: Option<&str>,
) -> String {
    let base = connection_string.server_url_base();
    let base = base.replacen("http", "ws", 1);
    let name: String = form_urlencoded::byte_serialize(hub.name.as_str().as_bytes()).collect();
    let mut url = format!("{base}server/?hub={name}&cid={id}");
    if let Some(target) = target {
        url.push_str("&target=");
        url.extend(form_urlencoded::byte_serialize(target.as_bytes()));
    }
    url
}

fn access_token(
    hub: &HubServer,
    connection_string: &ConnectionString,
) -> Result<String, SignError> {
    let audience = Audience::Server(&hub.name).text(&connection_string.audience_base());
    TokenBuilder::new()
        .claim("nameid", hub.process.server_id.as_str())
        .life(unix_now(), ACCESS_TOKEN_LIFETIME, &audience)
        .sign(connection_string.access_key(), Algorithm::Hs256)
}

/// The time of day, for tokens.
pub(super) fn unix_now() -> UnixSeconds {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    UnixSeconds(since.map_or(0, |since| since.as_secs().cast_signed()))
}

impl Connected {
    /// The connection's id.
    pub(super) fn id(&self) -> &str {
        &self.connection.id
    }

    /// Reads and writes until the connection ends.
    pub(super) async fn run(self, hub: &Arc<HubServer>) -> Lost {
        let Self {
            connection,
            endpoint,
            mut incoming,
            sink,
            outgoing,
        } = self;
        let mut writer = tokio::spawn(write(outgoing, sink));
        endpoint.on_server_connection(&connection);
        let inbound = Inbound::new(
            Arc::clone(hub),
            Arc::clone(&endpoint),
            Arc::clone(&connection),
        );
        let lost = tokio::select! {
            lost = read(inbound, &mut incoming) => lost,
            written = &mut writer => match written {
                Ok(Err(error)) => Lost::Socket(Box::new(error)),
                Ok(Ok(())) => incoming.until_closed().await,
                Err(_) => Lost::ClosedByUs,
            },
        };
        endpoint.on_server_connection_lost(&connection);
        hub.on_server_connection_lost(&connection);
        writer.abort();
        lost
    }
}

async fn read(mut inbound: Inbound, incoming: &mut Incoming) -> Lost {
    loop {
        match incoming.next().await {
            Ok(frame) => inbound.on_frame(&frame).await,
            Err(lost) => return lost,
        }
    }
}

async fn write(
    mut outgoing: Receiver<Outgoing>,
    mut sink: SplitSink<WebSocketStream<TcpStream>, WebSocketMessage>,
) -> Result<(), tungstenite::Error> {
    while let Some(first) = outgoing.recv().await {
        let mut batch = Vec::new();
        let mut next = Some(first);
        let mut is_closing = false;
        while let Some(entry) = next {
            match entry {
                Outgoing::Message(bytes) if batch.is_empty() => batch = bytes,
                Outgoing::Message(bytes) => batch.extend_from_slice(&bytes),
                Outgoing::Close => is_closing = true,
            }
            let is_full = is_closing || batch.len() >= BATCH_BYTES_MAX;
            next = if is_full { None } else { outgoing.try_recv() };
        }
        if !batch.is_empty() {
            sink.send(WebSocketMessage::binary(batch)).await?;
        }
        if is_closing {
            let frame = CloseFrame {
                code: CloseCode::Normal,
                reason: "".into(),
            };
            return sink.send(WebSocketMessage::Close(Some(frame))).await;
        }
    }
    Ok(())
}

/// The stream of bytes from the service, and what of it is not used up.
struct Incoming {
    stream: SplitStream<WebSocketStream<TcpStream>>,
    buffer: BytesMut,
    last_received: Instant,
}

impl Incoming {
    fn new(stream: SplitStream<WebSocketStream<TcpStream>>) -> Self {
        Self {
            stream,
            buffer: BytesMut::new(),
            last_received: Instant::now(),
        }
    }

    /// The next service message. WebSocket messages mean nothing: one may hold many service messages, or a part of one.
    async fn next(&mut self) -> Result<Bytes, Lost> {
        loop {
            if let Some(frame) = self.take_frame()? {
                return Ok(frame);
            }
            self.fill().await?;
        }
    }

    fn take_frame(&mut self) -> Result<Option<Bytes>, Lost> {
        let Some((length, prefix_bytes)) = read_varint(&self.buffer)? else {
            return Ok(None);
        };
        if length > MESSAGE_BYTES_MAX {
            return Err(Lost::Length(LengthError::TooLong {
                bytes: length,
                max: MESSAGE_BYTES_MAX,
            }));
        }
        let length = length as usize;
        if self.buffer.len() - prefix_bytes < length {
            return Ok(None);
        }
        self.buffer.advance(prefix_bytes);
        Ok(Some(self.buffer.split_to(length).freeze()))
    }

    async fn fill(&mut self) -> Result<(), Lost> {
        let deadline = self.last_received + SILENCE_MAX;
        let received = timeout_at(deadline, self.stream.next())
            .await
            .map_err(|_| Lost::Silence)?;
        match received {
            Some(Ok(WebSocketMessage::Binary(bytes))) => {
                if !bytes.is_empty() {
                    self.last_received = Instant::now();
                }
                self.buffer.extend_from_slice(&bytes);
                Ok(())
            }
            // WebSocket pings are answered by the library, and do not count: only messages show that the service is well.
            Some(Ok(
                WebSocketMessage::Ping(_) | WebSocketMessage::Pong(_) | WebSocketMessage::Frame(_),
            )) => Ok(()),
            Some(Ok(WebSocketMessage::Text(_))) => Err(Lost::Text),
            Some(Ok(WebSocketMessage::Close(frame))) => Err(Lost::Closed(
                frame.map_or_else(|| "without a status".to_owned(), |frame| frame.to_string()),
            )),
            Some(Err(error)) => Err(Lost::Socket(Box::new(error))),
            None => Err(Lost::Closed("without a goodbye".to_owned())),
        }
    }

    /// After our own close: reads on until the service has answered it.
    async fn until_closed(&mut self) -> Lost {
        let answered = async {
            while self.fill().await.is_ok() {
                self.buffer.clear();
            }
        };
        // Whether or not the answer comes, the connection is over.
        let _ = timeout(CLOSE_TIMEOUT, answered).await;
        Lost::ClosedByUs
    }
}

/// How long the service may take to answer our close.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(5);

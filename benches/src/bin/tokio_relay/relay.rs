//! The port: accepts connections, upgrades them, and gives each a task of its own.

use std::cell::RefCell;
use std::collections::HashMap;
use std::io;
use std::rc::Rc;
use std::time::{Duration, SystemTime};

use hubring::frame::upgrade::query;
use hubring::id::HubName;
use hubring::protocol::access_token::{AccessKeys, AccessToken, Audience, TokenError, UnixSeconds};
use hubring::protocol::connection_string::{AccessKey, ConnectionStringError};
use hubring::protocol::service::{Claims, Headers, encode_open_connection_body};
use socket2::SockRef;
use thiserror::Error;
use tokio::net::{TcpListener, TcpStream};
use tokio::time::{sleep, timeout};
use tokio_tungstenite::tungstenite::handshake::server::{ErrorResponse, Request, Response};
use tokio_tungstenite::tungstenite::http::StatusCode;
use tokio_tungstenite::tungstenite::http::header::AUTHORIZATION;
use tokio_tungstenite::tungstenite::protocol::{Role, WebSocketConfig};
use tokio_tungstenite::{WebSocketStream, accept_hdr_async_with_config};

use crate::hub::Hub;
use crate::{client, server};

/// Time for the upgrade.
const UPGRADE_TIMEOUT: Duration = Duration::from_secs(15);

/// A peer that takes nothing for so long is given up by the kernel.
const STALL_MAX: Duration = Duration::from_secs(30);

/// Pause after an accept that failed, which is for want of descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(10);

/// Before each read tungstenite fills the whole buffer with zeros, so a large one costs time. What a client sends is small, and there
/// are many clients; a server connection carries batches.
const CLIENT_BUFFER_BYTES: usize = 4 << 10;
const SERVER_BUFFER_BYTES: usize = 64 << 10;

/// Everything that is not of one connection.
pub(crate) struct Relay {
    keys: AccessKeys,
    hubs: RefCell<HashMap<HubName, Rc<RefCell<Hub>>>>,
}

#[derive(Debug, Error)]
pub(crate) enum RelayError {
    #[error("the access key cannot be used: {0}")]
    AccessKey(#[from] ConnectionStringError),
    #[error(transparent)]
    Io(#[from] io::Error),
}

impl Relay {
    pub(crate) fn new(access_key: &str) -> Result<Self, RelayError> {
        Ok(Self {
            keys: AccessKeys::new(&[AccessKey::parse(access_key)?]),
            hubs: RefCell::default(),
        })
    }

    /// Serves whoever connects, for ever.
    pub(crate) async fn serve(self, listener: TcpListener) {
        let relay = Rc::new(self);
        loop {
            match listener.accept().await {
                Ok((stream, _)) => {
                    let relay = Rc::clone(&relay);
                    // Whatever ends a connection concerns nobody else, and those at its other end are told by its task.
                    tokio::task::spawn_local(async move { relay.serve_connection(stream).await });
                }
                Err(_) => sleep(ACCEPT_PAUSE).await,
            }
        }
    }

    async fn serve_connection(&self, stream: TcpStream) -> Option<()> {
        stream.set_nodelay(true).ok()?;
        SockRef::from(&stream)
            .set_tcp_user_timeout(Some(STALL_MAX))
            .ok()?;
        let mut arrival = None;
        let upgrade = self.upgrade(stream, &mut arrival);
        let socket = timeout(UPGRADE_TIMEOUT, upgrade).await.ok()??;
        let Arrival { hub, side } = arrival?;
        let hub = Rc::clone(self.hubs.borrow_mut().entry(hub).or_default());
        match side {
            Side::Client(newcomer) => client::serve(socket, hub, newcomer).await,
            Side::Server => {
                // The app server speaks only after it has been let in, so no bytes are lost with the small buffer.
                let stream = socket.into_inner();
                let config = WebSocketConfig::default().read_buffer_size(SERVER_BUFFER_BYTES);
                let socket = WebSocketStream::from_raw_socket(stream, Role::Server, Some(config));
                server::serve(socket.await, hub).await;
            }
        }
        Some(())
    }

    async fn upgrade(
        &self,
        stream: TcpStream,
        arrival: &mut Option<Arrival>,
    ) -> Option<WebSocketStream<TcpStream>> {
        let config = WebSocketConfig::default().read_buffer_size(CLIENT_BUFFER_BYTES);
        #[expect(clippy::result_large_err, reason = "the type is the library's")]
        let admit = |request: &Request, response: Response| {
            *arrival = Some(self.admit(request).map_err(refusal)?);
            Ok(response)
        };
        accept_hdr_async_with_config(stream, admit, Some(config))
            .await
            .ok()
    }

    /// Whether the request may come in, and as what.
    fn admit(&self, request: &Request) -> Result<Arrival, Refusal> {
        let query = request.uri().query().unwrap_or_default();
        let hub = query::first(query, "hub").and_then(|name| HubName::parse(&name));
        let hub = hub.ok_or(Refusal::NoHub)?;
        let side = match request.uri().path().trim_end_matches('/') {
            "/client" => {
                let token = self.validate(request, Audience::Client(&hub))?;
                Side::Client(newcomer(request, &token))
            }
            "/server" => {
                self.validate(request, Audience::Server(&hub))?;
                Side::Server
            }
            _ => return Err(Refusal::NoSuchPath),
        };
        Ok(Arrival { hub, side })
    }

    /// The access token stands in a header, or where a browser cannot write one in the query.
    fn validate(&self, request: &Request, audience: Audience<'_>) -> Result<AccessToken, Refusal> {
        let from_query = query::last(request.uri().query().unwrap_or_default(), "access_token");
        let token = request
            .headers()
            .get(AUTHORIZATION)
            .and_then(|header| header.to_str().ok()?.strip_prefix("Bearer "))
            .or(from_query.as_deref())
            .ok_or(Refusal::NoToken)?;
        let since_1970 = SystemTime::UNIX_EPOCH.elapsed().unwrap_or_default();
        let now = UnixSeconds(since_1970.as_secs().cast_signed());
        Ok(self.keys.validate(token, audience, now)?)
    }
}

/// Who comes in, and to which hub.
struct Arrival {
    hub: HubName,
    side: Side,
}

enum Side {
    Client(Newcomer),
    Server,
}

/// What is known of a client before it has said anything.
pub(crate) struct Newcomer {
    pub(crate) user: Option<Rc<str>>,
    /// What its app server will be told: claims, headers and query.
    pub(crate) open_body: Vec<u8>,
}

fn newcomer(request: &Request, token: &AccessToken) -> Newcomer {
    let claims: Claims<'_> = token
        .forwarded_claims()
        .map(|(name, value)| (name.into(), value.into()))
        .collect();
    let headers = request.headers();
    let headers: Headers<'_> = headers
        .keys()
        .filter(|name| *name != AUTHORIZATION)
        .map(|name| {
            let values = headers.get_all(name).iter();
            let values = values.filter_map(|value| Some(value.to_str().ok()?.into()));
            (name.as_str().into(), values.collect())
        })
        .collect();
    let query = request.uri().query().unwrap_or_default();
    let query = format!("?{}", query::without_access_token(query));
    Newcomer {
        user: token.user_id().map(Into::into),
        open_body: encode_open_connection_body(&claims, &headers, &query),
    }
}

/// Why somebody may not come in.
#[derive(Debug, Error)]
enum Refusal {
    #[error("The query has to name a hub.")]
    NoHub,
    #[error("There is nothing here.")]
    NoSuchPath,
    #[error("An access token is required.")]
    NoToken,
    #[error(transparent)]
    Token(#[from] TokenError),
}

#[expect(clippy::needless_pass_by_value, reason = "a refusal ends here")]
fn refusal(refusal: Refusal) -> ErrorResponse {
    let mut response = ErrorResponse::new(Some(refusal.to_string()));
    *response.status_mut() = match refusal {
        Refusal::NoHub => StatusCode::BAD_REQUEST,
        Refusal::NoSuchPath => StatusCode::NOT_FOUND,
        Refusal::NoToken | Refusal::Token(_) => StatusCode::UNAUTHORIZED,
    };
    response
}

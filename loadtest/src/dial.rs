//! Opens connections: TCP, the upgrade, and the access tokens that the upgrade asks for.
//!
//! That much is done with a blocking socket, one connection after the other. It is not what is measured.

use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, SystemTime};

use hubring::id::HubName;
use hubring::protocol::access_token::{Algorithm, Audience, TokenBuilder, UnixSeconds};
use hubring::protocol::connection_string::AccessKey;
use tungstenite::client::IntoClientRequest as _;
use tungstenite::http::header::{AUTHORIZATION, HeaderValue, InvalidHeaderValue};
use tungstenite::{ClientHandshake, HandshakeError};

use crate::error::LoadError;
use crate::web_socket::WebSocket;

/// Time for one connection.
const TIMEOUT: Duration = Duration::from_secs(10);

const TOKEN_LIFETIME: Duration = Duration::from_hours(24);

const HUB: &str = "loadtest";

/// Knows where the service is, and proves that one may come in.
pub(crate) struct Dialer {
    address: SocketAddr,
    client_authorization: HeaderValue,
    server_authorization: HeaderValue,
}

impl Dialer {
    pub(crate) fn new(address: SocketAddr, key: &AccessKey) -> Result<Self, LoadError> {
        let hub = HubName::parse(HUB).expect("plain letters make a name");
        let since_1970 = SystemTime::UNIX_EPOCH.elapsed().unwrap_or_default();
        let now = UnixSeconds(since_1970.as_secs().cast_signed());
        let authorization = |audience: Audience<'_>| {
            let audience = audience.text(&format!("http://{}/", address.ip()));
            let token = TokenBuilder::new()
                .claim("nameid", HUB)
                .life(now, TOKEN_LIFETIME, &audience)
                .sign(key, Algorithm::Hs256)?;
            bearer(&token).map_err(|error| {
                LoadError::Upgrade(Box::new(tungstenite::http::Error::from(error).into()))
            })
        };
        Ok(Self {
            address,
            client_authorization: authorization(Audience::Client(&hub))?,
            server_authorization: authorization(Audience::Server(&hub))?,
        })
    }

    pub(crate) fn client_connection(&self) -> Result<WebSocket, LoadError> {
        self.open(&format!("client/?hub={HUB}"), &self.client_authorization)
    }

    /// Opens a server connection, whose id is made of `index`.
    pub(crate) fn server_connection(&self, index: u32) -> Result<WebSocket, LoadError> {
        let target = format!("server/?hub={HUB}&cid={HUB}-{index}");
        self.open(&target, &self.server_authorization)
    }

    fn open(&self, target: &str, authorization: &HeaderValue) -> Result<WebSocket, LoadError> {
        let stream = self.connect().map_err(LoadError::Connect)?;
        let upgrade_error = |error| LoadError::Upgrade(Box::new(error));
        let mut request = format!("ws://{}/{target}", self.address)
            .into_client_request()
            .map_err(upgrade_error)?;
        request
            .headers_mut()
            .insert(AUTHORIZATION, authorization.clone());
        let upgrade = ClientHandshake::start(stream, request, None)
            .map_err(upgrade_error)?
            .handshake();
        // The service says nothing on either kind of connection before it is spoken to, so no bytes are lost with the handshake.
        let (web_socket, _) = upgrade.map_err(|error| match error {
            HandshakeError::Failure(error) => upgrade_error(error),
            HandshakeError::Interrupted(_) => {
                LoadError::Connect(std::io::ErrorKind::TimedOut.into())
            }
        })?;
        let stream = web_socket.into_inner();
        stream.set_nonblocking(true).map_err(LoadError::Connect)?;
        Ok(WebSocket::new(mio::net::TcpStream::from_std(stream)))
    }

    fn connect(&self) -> std::io::Result<TcpStream> {
        let stream = TcpStream::connect_timeout(&self.address, TIMEOUT)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(TIMEOUT))?;
        stream.set_write_timeout(Some(TIMEOUT))?;
        Ok(stream)
    }
}

fn bearer(token: &str) -> Result<HeaderValue, InvalidHeaderValue> {
    let mut value = HeaderValue::try_from(format!("Bearer {token}"))?;
    value.set_sensitive(true);
    Ok(value)
}

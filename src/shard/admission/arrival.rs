//! What admission does alike for every client, whatever its transport: choose its server connection, and gather what its app server will be
//! told of it.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::gate::Gate;
use super::identity::{random, unix_now};
use super::refusal::Refusal;
use crate::frame::upgrade::query;
use crate::id::{ConnectionId, ShardId};
use crate::limits::{HUB_HANDSHAKE_TIMEOUT, NAME_BYTES_MAX};
use crate::protocol::access_token::{AccessToken, Sticky};
use crate::protocol::negotiate::Transport;
use crate::protocol::service::{
    Claims, Headers, MIGRATE_FROM, MIGRATE_TO, encode_open_connection_body,
};
use crate::routing::{Expiry, NewClient};
use crate::shard::directory::{HubEntry, Reservation};
use crate::shard::pending::{Expected, Lodging, TokenHold};
use crate::shard::place::ClientPlace;

/// Headers that concern the connection to us, not the app.
const CONNECTION_HEADERS: [&str; 8] = [
    "connection",
    "upgrade",
    "sec-websocket-key",
    "sec-websocket-version",
    "sec-websocket-extensions",
    "sec-websocket-protocol",
    "content-length",
    "transfer-encoding",
];
const FORWARDED_FOR: &str = "X-Forwarded-For";
const INSTANCE_ID: &str = "Asrs-Instance-Id";
const DIAGNOSTIC_CLIENT: &str = "Asrs-Is-Diagnostic-Client";
/// Headers by which the service talks to the SDK. A client has no say in them.
const SERVICE_HEADERS: [&str; 5] = [
    FORWARDED_FOR,
    INSTANCE_ID,
    DIAGNOSTIC_CLIENT,
    MIGRATE_FROM,
    MIGRATE_TO,
];

/// A client that asks to be let in.
#[derive(Debug)]
pub(crate) struct Arriving<'a> {
    /// Of its request, without the question mark.
    pub(crate) query: &'a str,
    /// Of its request, as they were sent.
    pub(crate) headers: Vec<(&'a str, &'a str)>,
    /// Who is at the other end.
    pub(crate) peer: SocketAddr,
    pub(crate) transport: Transport,
}

/// Refuses a transport that the token does not permit.
pub(crate) fn check_transport(token: &AccessToken, transport: Transport) -> Result<(), Refusal> {
    if token.transports().contains(transport.into()) {
        return Ok(());
    }
    Err(Refusal::not_found(format!(
        "{} transport not supported by this end point type",
        transport.name()
    )))
}

/// Chooses the server connection, and with it the shard, and gathers what the app server will be told of the client.
///
/// `prefer` is the shard to choose among equals.
pub(crate) fn place_client(
    arriving: &Arriving<'_>,
    token: &AccessToken,
    hub: &Arc<HubEntry>,
    expected: Option<(Expected, TokenHold)>,
    gate: &Gate,
    prefer: Option<ShardId>,
) -> Result<(NewClient, ClientPlace), Refusal> {
    let sticky = token.sticky();
    // It was promised when nobody knew which transport the client would choose, and no other has a socket to lose.
    let is_stateful = arriving.transport == Transport::WebSockets
        && expected
            .as_ref()
            .is_some_and(|(expected, _)| expected.is_stateful);
    let (id, reserved, hold) = match expected {
        Some((expected, hold)) => (Some(expected.id), expected.reservation, Some(hold)),
        None => (None, None, None),
    };
    let reserved = reserved.filter(Reservation::is_good);
    let server = reserved.or_else(|| hub.place_client(&sticky, prefer));
    let shard = match &server {
        Some(server) => server.server().shard,
        None => prefer.unwrap_or(ShardId(0)),
    };
    let id = match id {
        Some(id) => id,
        None => ConnectionId::new(
            shard,
            random().map_err(|error| Refusal::unavailable(error.to_string()))?,
        ),
    };
    if let Some(hold) = hold.as_ref().filter(|_| is_stateful) {
        hold.lodge(Lodging { id, shard });
    }
    let user = user_of(token);
    if user.is_some_and(|user| user.len() > NAME_BYTES_MAX) {
        return Err(Refusal::bad_request("The user id is too long."));
    }
    let new = NewClient {
        id,
        hub: hub.id,
        user: user.map(Into::into),
        server: server.as_ref().map(|server| server.server().server),
        required_server_id: match sticky {
            Sticky::Required(server_id) => Some(server_id),
            Sticky::None | Sticky::Preferred(_) => None,
        },
        open_body: open_body(arriving, token, gate),
        handshake_timeout: token.handshake_timeout().unwrap_or(HUB_HANDSHAKE_TIMEOUT),
        transport: arriving.transport,
        is_stateful,
        expiry: expiry(token),
    };
    Ok((new, ClientPlace::new(Arc::clone(hub), shard, server, hold)))
}

/// When the client has to be closed, on the clock that the shard goes by. A time so far away that this clock cannot tell it never comes.
fn expiry(token: &AccessToken) -> Option<Expiry> {
    let at = token.authentication_expiry().ok()??;
    let left = at.0.saturating_sub(unix_now().0).max(0).unsigned_abs();
    Some(Expiry {
        at: Instant::now().checked_add(Duration::from_secs(left))?,
        allow_reconnect: !token.is_diagnostic(),
    })
}

/// The user that a token names.
pub(crate) fn user_of(token: &AccessToken) -> Option<&str> {
    token.user_id().filter(|user| !user.is_empty())
}

/// Claims, headers and query, as they stand in `OpenConnection`.
fn open_body(arriving: &Arriving<'_>, token: &AccessToken, gate: &Gate) -> Vec<u8> {
    let claims: Claims<'_> = token
        .forwarded_claims()
        .map(|(name, value)| (name.into(), value.into()))
        .collect();
    let mut headers: Headers<'_> = Vec::new();
    for &(name, value) in &arriving.headers {
        let is_ours = CONNECTION_HEADERS
            .iter()
            .chain(&SERVICE_HEADERS)
            .any(|ours| ours.eq_ignore_ascii_case(name));
        if is_ours {
            continue;
        }
        // The SDK takes one name in two spellings for an error.
        match headers
            .iter_mut()
            .find(|(known, _)| known.eq_ignore_ascii_case(name))
        {
            Some((_, values)) => values.push(value.into()),
            None => headers.push((name.into(), std::iter::once(value.into()).collect())),
        }
    }
    let peer = address_text(arriving.peer.ip());
    let mut addresses: Vec<std::borrow::Cow<'_, str>> = Vec::new();
    if gate.trust_forwarded_for {
        let forwarded = arriving
            .headers
            .iter()
            .filter(|(name, _)| name.eq_ignore_ascii_case(FORWARDED_FOR));
        addresses.extend(forwarded.map(|(_, value)| (*value).into()));
    }
    addresses.push(peer.into());
    headers.push((
        FORWARDED_FOR.into(),
        std::iter::once(addresses.join(", ").into()).collect(),
    ));
    headers.push((
        INSTANCE_ID.into(),
        std::iter::once((&*gate.instance_id).into()).collect(),
    ));
    if token.is_diagnostic() {
        headers.push((
            DIAGNOSTIC_CLIENT.into(),
            std::iter::once("true".into()).collect(),
        ));
    }
    let query = format!("?{}", query::without_access_token(arriving.query));
    encode_open_connection_body(&claims, &headers, &query)
}

/// An address as .NET reads it: an IPv4 peer of an IPv6 socket is an IPv4 peer.
fn address_text(address: IpAddr) -> String {
    address.to_canonical().to_string()
}

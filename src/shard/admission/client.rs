//! Admission of client connections.

use std::net::{IpAddr, SocketAddr};
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::{Duration, Instant};

use socket2::SockRef;

use super::identity::{bearer, hub_name, random, unix_now, validate};
use super::refusal::Refusal;
use super::resume::resume_client;
use super::{Admission, Asked, upgrade};
use crate::frame::upgrade::{RequestHead, query};
use crate::id::{ConnectionId, ConnectionToken};
use crate::limits::{CLIENT_STALL_MAX, HUB_HANDSHAKE_TIMEOUT, NAME_BYTES_MAX};
use crate::protocol::access_token::{AccessToken, Audience, Sticky};
use crate::protocol::negotiate::Transports;
use crate::protocol::service::{
    Claims, Headers, MIGRATE_FROM, MIGRATE_TO, encode_open_connection_body,
};
use crate::routing::{Expiry, NewClient};
use crate::shard::AdmittedClient;
use crate::shard::directory::{HubEntry, Reservation};
use crate::shard::pending::{Expected, Lodging, TakeError, TokenHold};
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

/// Upgrades a client and hands it to the shard of the server connection that is chosen for it.
pub(super) async fn admit_client(
    asked: &mut Asked<'_>,
    admission: &Admission,
) -> Result<(), Refusal> {
    let head = &asked.head;
    let hub = hub_name(head.query())?;
    let from_query = query::last(head.query(), "access_token");
    let token = bearer(head.header("authorization")).or(from_query.as_deref());
    let token = validate(&admission.gate.keys, token, Audience::Client(&hub))?;
    if !token.transports().contains(Transports::WEB_SOCKETS) {
        return Err(Refusal::not_found(
            "WebSockets transport not supported by this end point type",
        ));
    }
    let key = head.check_upgrade()?;
    let hold = admission.hold_socket()?;
    let entry = admission.directory.hub(&hub)?;
    let expected = match expected(&asked.head, &entry, admission)? {
        Arrival::New(expected) => expected,
        Arrival::Back(lodging) => {
            return resume_client(asked, admission, &key, hold, lodging, entry.id, &token).await;
        }
    };
    let (new, place) = place_client(asked, &token, &entry, expected, admission)?;
    if let Some(fd) = upgrade(asked.stream, &key).await? {
        watch_for_stalling(&fd);
        let client = AdmittedClient {
            fd,
            hold,
            early: asked.take_early(),
            new,
            place,
        };
        admission
            .shard
            .borrow_mut()
            .admit_client(Box::new(client), Instant::now());
    }
    Ok(())
}

/// The kernel watches for clients that stop reading; a limit on what waits for them would not see one for whom little does.
pub(super) fn watch_for_stalling(fd: &OwnedFd) {
    let stall = SockRef::from(fd).set_tcp_user_timeout(Some(CLIENT_STALL_MAX));
    if let Err(error) = stall {
        tracing::debug!(%error, "a client cannot be watched for stalling");
    }
}

/// Chooses the server connection, and with it the shard, and gathers what the app server will be told of the client.
fn place_client(
    asked: &Asked<'_>,
    token: &AccessToken,
    hub: &Arc<HubEntry>,
    expected: Option<(Expected, TokenHold)>,
    admission: &Admission,
) -> Result<(NewClient, ClientPlace), Refusal> {
    let sticky = token.sticky();
    let is_stateful = expected
        .as_ref()
        .is_some_and(|(expected, _)| expected.is_stateful);
    let (id, reserved, hold) = match expected {
        Some((expected, hold)) => (Some(expected.id), expected.reservation, Some(hold)),
        None => (None, None, None),
    };
    let reserved = reserved.filter(Reservation::is_good);
    let server = reserved.or_else(|| hub.place_client(&sticky, Some(admission.shard_id)));
    let shard = server
        .as_ref()
        .map_or(admission.shard_id, |server| server.server().shard);
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
        open_body: open_body(&asked.head, asked.peer, token, admission),
        handshake_timeout: token.handshake_timeout().unwrap_or(HUB_HANDSHAKE_TIMEOUT),
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
pub(super) fn user_of(token: &AccessToken) -> Option<&str> {
    token.user_id().filter(|user| !user.is_empty())
}

/// Who has come.
enum Arrival {
    /// A new client, with what was kept for it when it negotiated. None: it did not negotiate with us, which it need not.
    New(Option<(Expected, TokenHold)>),
    /// One that is there already, and may have lost its socket.
    Back(Lodging),
}

fn expected(head: &RequestHead, hub: &HubEntry, admission: &Admission) -> Result<Arrival, Refusal> {
    let Some(id) = query::first(head.query(), "id") else {
        return Ok(Arrival::New(None));
    };
    let taken = match ConnectionToken::parse(&id) {
        Some(token) => admission
            .gate
            .pending
            .take(token, &hub.name, Instant::now()),
        None => Err(TakeError::Unknown),
    };
    match taken {
        Ok(expected) => Ok(Arrival::New(Some(expected))),
        Err(TakeError::Lives(lodging)) => Ok(Arrival::Back(lodging)),
        Err(error @ TakeError::Unknown) => Err(Refusal::not_found(error.to_string())),
        Err(error @ TakeError::InUse) => Err(Refusal::new(409, error.to_string())),
    }
}

/// Claims, headers and query, as they stand in `OpenConnection`.
fn open_body(
    head: &RequestHead,
    peer: SocketAddr,
    token: &AccessToken,
    admission: &Admission,
) -> Vec<u8> {
    let claims: Claims<'_> = token
        .forwarded_claims()
        .map(|(name, value)| (name.into(), value.into()))
        .collect();
    let mut headers: Headers<'_> = Vec::new();
    for (name, value) in head.headers() {
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
    let peer = address_text(peer.ip());
    let mut addresses: Vec<std::borrow::Cow<'_, str>> = Vec::new();
    if admission.gate.trust_forwarded_for {
        addresses.extend(head.header_values(FORWARDED_FOR).map(Into::into));
    }
    addresses.push(peer.into());
    headers.push((
        FORWARDED_FOR.into(),
        std::iter::once(addresses.join(", ").into()).collect(),
    ));
    headers.push((
        INSTANCE_ID.into(),
        std::iter::once((&*admission.instance_id).into()).collect(),
    ));
    if token.is_diagnostic() {
        headers.push((
            DIAGNOSTIC_CLIENT.into(),
            std::iter::once("true".into()).collect(),
        ));
    }
    let query = format!("?{}", query::without_access_token(head.query()));
    encode_open_connection_body(&claims, &headers, &query)
}

/// An address as .NET reads it: an IPv4 peer of an IPv6 socket is an IPv4 peer.
fn address_text(address: IpAddr) -> String {
    address.to_canonical().to_string()
}

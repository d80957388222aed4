//! Admission of client connections.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Instant;

use socket2::SockRef;

use super::identity::{bearer, hub_name, random, validate};
use super::refusal::Refusal;
use super::{Admission, Asked, upgrade};
use crate::frame::upgrade::{RequestHead, query};
use crate::id::{ConnectionId, ConnectionToken};
use crate::limits::{CLIENT_STALL_MAX, HUB_HANDSHAKE_TIMEOUT, NAME_BYTES_MAX};
use crate::protocol::access_token::{AccessToken, Audience, Sticky};
use crate::protocol::negotiate::Transports;
use crate::protocol::service::{Claims, Headers, encode_open_connection_body};
use crate::routing::NewClient;
use crate::shard::AdmittedClient;
use crate::shard::directory::{HubEntry, Reservation};
use crate::shard::pending::{Expected, TakeError, TokenHold};
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
    let (new, place) = place_client(asked, &token, &entry, admission)?;
    if let Some(fd) = upgrade(asked.stream, &key).await? {
        // The kernel watches for clients that stop reading; a limit on what waits for them would not see one for whom little does.
        let stall = SockRef::from(&fd).set_tcp_user_timeout(Some(CLIENT_STALL_MAX));
        if let Err(error) = stall {
            tracing::debug!(%error, "a client cannot be watched for stalling");
        }
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

/// Chooses the server connection, and with it the shard, and gathers what the app server will be told of the client.
fn place_client(
    asked: &Asked<'_>,
    token: &AccessToken,
    hub: &Arc<HubEntry>,
    admission: &Admission,
) -> Result<(NewClient, ClientPlace), Refusal> {
    let sticky = token.sticky();
    let (id, reserved, hold) = match expected(&asked.head, hub, admission)? {
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
    let user = token.user_id().filter(|user| !user.is_empty());
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
    };
    Ok((new, ClientPlace::new(Arc::clone(hub), shard, server, hold)))
}

/// What was kept for the client when it negotiated. None: it did not negotiate with us, which it need not.
fn expected(
    head: &RequestHead,
    hub: &HubEntry,
    admission: &Admission,
) -> Result<Option<(Expected, TokenHold)>, Refusal> {
    let Some(id) = query::first(head.query(), "id") else {
        return Ok(None);
    };
    let taken = match ConnectionToken::parse(&id) {
        Some(token) => admission
            .gate
            .pending
            .take(token, &hub.name, Instant::now()),
        None => Err(TakeError::Unknown),
    };
    taken.map(Some).map_err(|error| match error {
        TakeError::Unknown => Refusal::not_found(error.to_string()),
        TakeError::InUse => Refusal::new(409, error.to_string()),
    })
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
            .chain(&[FORWARDED_FOR, INSTANCE_ID, DIAGNOSTIC_CLIENT])
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

//! `POST /client/negotiate`: a client asks how it may connect, and gets an id to connect with.

use std::time::Instant;

use axum::extract::{Request, State};
use axum::http::request::Parts;
use axum::http::{Method, header};
use axum::response::{IntoResponse as _, Response};

use super::Control;
use crate::id::{ConnectionId, ConnectionToken, ShardId};
use crate::protocol::access_token::Audience;
use crate::protocol::negotiate::{
    NegotiateRequest, NegotiateResponse, NegotiateVersion, Transports, error_response,
};
use crate::shard::admission::identity::{bearer, hub_name, random, validate};
use crate::shard::admission::refusal::Refusal;
use crate::shard::directory::Reservation;
use crate::shard::pending::Expected;

pub(super) async fn negotiate(State(control): State<Control>, request: Request) -> Response {
    let (parts, _) = request.into_parts();
    match answer(&control, &parts) {
        Ok(body) => ([(header::CONTENT_TYPE, "application/json")], body).into_response(),
        Err(refusal) => {
            control.on_refused(&parts, &refusal);
            refusal.into_response()
        }
    }
}

fn answer(control: &Control, request: &Parts) -> Result<String, Refusal> {
    if request.method != Method::POST {
        return Err(Refusal {
            headers: &[("allow", "POST")],
            ..Refusal::new(405, "")
        });
    }
    let query = request.uri.query().unwrap_or_default();
    let hub = hub_name(query)?;
    let authorization = request
        .headers
        .get(header::AUTHORIZATION)
        .and_then(|value| value.to_str().ok());
    let token = validate(
        &control.gate.keys,
        bearer(authorization),
        Audience::Client(&hub),
    )?;
    let request = match NegotiateRequest::from_query(query) {
        Ok(request) => request,
        // With status 200, as clients expect it.
        Err(error) => return Ok(error_response(&error.to_string())),
    };
    let entry = control.directory.hub(&hub)?;
    let random = || random().map_err(|error| Refusal::unavailable(error.to_string()));
    // The place is taken now, so that the clients of a storm, who all negotiate first, spread over the server connections; and so that
    // the id can name the shard on which the connection will live.
    let reservation = entry.place_client(&token.sticky(), None);
    let shard = reservation
        .as_ref()
        .map_or(ShardId(0), |reservation| reservation.server().shard);
    let connection_id = ConnectionId::new(shard, random()?);
    let connection_token = match request.version {
        NegotiateVersion::Zero => ConnectionToken::from(connection_id),
        NegotiateVersion::One => ConnectionToken::new(random()?),
    };
    let transports = token.transports();
    // What is promised here is kept, whichever server connection the client will be bound to: its app server takes no part in it.
    let is_stateful = control.gate.stateful_reconnect
        && request.wants_stateful_reconnect
        && transports.contains(Transports::WEB_SOCKETS)
        && reservation
            .as_ref()
            .is_some_and(Reservation::allows_stateful_reconnects);
    let expected = Expected {
        id: connection_id,
        is_stateful,
        reservation,
    };
    let pending = &control.gate.pending;
    pending
        .expect(connection_token, expected, hub, Instant::now())
        .map_err(|full| Refusal::unavailable(full.to_string()))?;
    control.counters.negotiations.increment();
    Ok(NegotiateResponse {
        version: request.version,
        connection_id,
        connection_token,
        is_stateful,
        transports,
    }
    .to_json())
}

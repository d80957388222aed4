//! Who asks, and for which hub. The control plane asks the same questions.

use std::io;
use std::time::{SystemTime, UNIX_EPOCH};

use super::refusal::Refusal;
use crate::frame::upgrade::query;
use crate::id::{ConnectionToken, HubName};
use crate::protocol::access_token::{AccessKeys, AccessToken, Audience, UnixSeconds};
use crate::shard::pending::TakeError;

/// The one hub that a query names.
pub(crate) fn hub_name(query: &str) -> Result<HubName, Refusal> {
    let mut names = query::all(query, "hub");
    match (names.next(), names.next()) {
        (Some(name), None) => HubName::parse(&name)
            .ok_or_else(|| Refusal::bad_request("The hub's name is not valid.")),
        (None, _) => Err(Refusal::bad_request("The query has to name a hub.")),
        (Some(_), Some(_)) => Err(Refusal::bad_request("The query names more than one hub.")),
    }
}

/// The connection that a query names, if it names one. Who names several means none that was ever given out.
pub(crate) fn connection_token(query: &str) -> Result<Option<ConnectionToken>, TakeError> {
    let mut ids = query::all(query, "id");
    match (ids.next(), ids.next()) {
        (None, _) => Ok(None),
        (Some(id), None) if id.is_empty() => Ok(None),
        (Some(id), None) => ConnectionToken::parse(&id)
            .map(Some)
            .ok_or(TakeError::Unknown),
        (Some(_), Some(_)) => Err(TakeError::Unknown),
    }
}

/// The token in an `Authorization` header.
pub(crate) fn bearer(authorization: Option<&str>) -> Option<&str> {
    let (scheme, token) = authorization?.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| token.trim())
}

/// Checks a token against the keys and the time of day.
pub(crate) fn validate(
    keys: &AccessKeys,
    token: Option<&str>,
    audience: Audience<'_>,
) -> Result<AccessToken, Refusal> {
    let token = token.ok_or_else(|| Refusal::unauthorized("An access token is required."))?;
    keys.validate(token, audience, unix_now())
        .map_err(|error| Refusal {
            challenge: Some(error.challenge()),
            ..Refusal::new(401, error.to_string())
        })
}

/// The time of day.
pub(crate) fn unix_now() -> UnixSeconds {
    let since_1970 = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    UnixSeconds(since_1970.as_secs().cast_signed())
}

/// Bits for a new id.
pub(crate) fn random() -> io::Result<u128> {
    let mut bytes = [0; 16];
    getrandom::fill(&mut bytes).map_err(|error| io::Error::other(error.to_string()))?;
    Ok(u128::from_ne_bytes(bytes))
}

//! The JSON Web Token (RFC 7519) with which a client or an app server proves that it may come in.
//!
//! Tokens are signed with an HMAC over one of the service's access keys. A `kid` in the header is ignored: the SDK writes a number
//! that changes with each of its processes, so every configured key is tried. A token is good for one hub and one side, client
//! or server, which its audience names.
//!
//! Nothing of a token is looked at before its signature has been verified, except the header that names the algorithm. Texts about
//! a refused token never repeat any of it.

mod claim_names;
mod signing;

use std::fmt;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::DecodingKey;
use jsonwebtoken::crypto::verify;
use serde::Deserialize;
use serde::de::{Deserializer, IgnoredAny, MapAccess, Visitor};
use serde_json::value::RawValue;
use thiserror::Error;

pub use self::signing::{SignError, TokenBuilder};
use super::connection_string::AccessKey;
use super::negotiate::Transports;
use crate::id::HubName;

/// Seconds since 1970, the unit of a token's times.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct UnixSeconds(pub i64);

/// HMAC with one of the three lengths of SHA-2 (RFC 7518 §3.2). The SDK signs with 256 or 512 bits. No other algorithm is accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Algorithm {
    /// HMAC with SHA-256.
    Hs256,
    /// HMAC with SHA-384.
    Hs384,
    /// HMAC with SHA-512.
    Hs512,
}

/// What a token must have been made for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Audience<'a> {
    /// A client of this hub.
    Client(&'a HubName),
    /// An app server of this hub.
    Server(&'a HubName),
}

impl Audience<'_> {
    /// The claim `aud`, for a service whose [audience base](super::connection_string::ConnectionString::audience_base) is `base`.
    pub fn text(self, base: &str) -> String {
        let hub: String = form_urlencoded::byte_serialize(self.hub().as_str().as_bytes()).collect();
        format!("{base}{}/?hub={hub}", self.path())
    }

    fn path(self) -> &'static str {
        match self {
            Self::Client(_) => "client",
            Self::Server(_) => "server",
        }
    }

    fn hub(&self) -> &HubName {
        match self {
            Self::Client(hub) | Self::Server(hub) => hub,
        }
    }

    /// Whether `text`, one value of `aud`, means this audience. The slash after the path, a port and further names in the query make no
    /// difference. Which of its addresses a service is reached under is not its own to know, so any host is good unless `hosts`
    /// names some.
    fn matches(self, text: &str, hosts: &[Box<str>]) -> bool {
        let Some((scheme, rest)) = text.split_once("://") else {
            return false;
        };
        let (address, query) = rest.split_once('?').unwrap_or_default();
        let (authority, path) = address.split_once('/').unwrap_or_default();
        let mut hubs = form_urlencoded::parse(query.as_bytes())
            .filter(|(name, _)| name == "hub")
            .map(|(_, hub)| hub);
        let is_hub = |hub: &str| HubName::parse(hub).is_some_and(|hub| hub == *self.hub());
        matches!(scheme.to_ascii_lowercase().as_str(), "http" | "https")
            && path
                .strip_suffix('/')
                .unwrap_or(path)
                .eq_ignore_ascii_case(self.path())
            && matches!((hubs.next(), hubs.next()), (Some(hub), None) if is_hub(&hub))
            && (hosts.is_empty()
                || hosts
                    .iter()
                    .any(|host| host.eq_ignore_ascii_case(without_port(authority))))
    }
}

/// The keys whose tokens are accepted, all of them at any time: that is what allows a key to be replaced without a pause.
#[derive(Clone)]
pub struct AccessKeys {
    keys: Vec<DecodingKey>,
    audience_hosts: Vec<Box<str>>,
}

impl AccessKeys {
    /// Accepts tokens signed with any of `keys`, whatever host their audience names.
    pub fn new<'a>(keys: impl IntoIterator<Item = &'a AccessKey>) -> Self {
        let keys = keys
            .into_iter()
            .map(|key| DecodingKey::from_secret(key.as_str().as_bytes()))
            .collect();
        Self {
            keys,
            audience_hosts: Vec::new(),
        }
    }

    /// Accepts only audiences on one of `hosts`, unless there are none. An IPv6 address stands in brackets.
    #[must_use]
    pub fn with_audience_hosts(mut self, hosts: impl IntoIterator<Item = Box<str>>) -> Self {
        self.audience_hosts = hosts.into_iter().collect();
        self
    }

    /// The claims of `token`, if it opens the door to `audience` at the time `now`.
    pub fn validate(
        &self,
        token: &str,
        audience: Audience<'_>,
        now: UnixSeconds,
    ) -> Result<AccessToken, TokenError> {
        if token.len() > TOKEN_BYTES_MAX {
            return Err(TokenError::TooLong { bytes: token.len() });
        }
        let (message, signature) = token.rsplit_once('.').ok_or(TokenError::Malformed)?;
        let (header, payload) = message.split_once('.').ok_or(TokenError::Malformed)?;
        let algorithm = Header::decode(header)?.algorithm()?;
        if !self.keys.iter().any(|key| {
            verify(signature, message.as_bytes(), key, algorithm.into()).unwrap_or(false)
        }) {
            return Err(TokenError::UnknownKey);
        }
        let token = AccessToken::decode(payload)?;
        token.check_times(now)?;
        if !token
            .values("aud")
            .any(|text| audience.matches(text, &self.audience_hosts))
        {
            return Err(TokenError::WrongAudience);
        }
        Ok(token)
    }
}

impl fmt::Debug for AccessKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AccessKeys")
            .field("keys", &self.keys.len())
            .field("audience_hosts", &self.audience_hosts)
            .finish()
    }
}

/// What a valid token says about its bearer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AccessToken {
    /// In the order of the token.
    claims: Vec<Claim>,
}

/// One statement. A list in the token is several claims of the same name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Claim {
    /// Such as `role`.
    pub name: Box<str>,
    /// The text; of a number, a truth value or an object its JSON; of a null nothing.
    pub value: Box<str>,
}

/// Whether a client must be served by the app server that negotiated with it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Sticky {
    /// Any app server will do.
    #[default]
    None,
    /// This one if it is there, otherwise any.
    Preferred(Box<str>),
    /// This one or none.
    Required(Box<str>),
}

impl AccessToken {
    /// All claims, as they are, in the order of the token.
    pub fn claims(&self) -> &[Claim] {
        &self.claims
    }

    /// The first claim of that name.
    pub fn value(&self, name: &str) -> Option<&str> {
        self.values(name).next()
    }

    /// Who the client is, for messages that are sent to a user: what the app server's own user id provider said, or else the name
    /// identifier. Most clients are nobody.
    pub fn user_id(&self) -> Option<&str> {
        let is_name_identifier = |claim: &&Claim| {
            *claim.name == *claim_names::NAME_IDENTIFIER
                || claim_names::long(&claim.name) == Some(claim_names::NAME_IDENTIFIER)
        };
        let name_identifier = || {
            self.claims
                .iter()
                .find(is_name_identifier)
                .map(|claim| &*claim.value)
        };
        self.value("asrs.s.uid")
            .or_else(name_identifier)
            .filter(|user_id| !user_id.is_empty())
    }

    /// Which app server this is, in an app server's token.
    pub fn server_id(&self) -> Option<&str> {
        self.value("nameid")
            .filter(|server_id| !server_id.is_empty())
    }

    /// Where the client must be routed to.
    pub fn sticky(&self) -> Sticky {
        let server_id = self
            .value("asrs.s.sn")
            .filter(|server_id| !server_id.is_empty());
        match (self.value("asrs.s.ssticky"), server_id) {
            (Some(mode), Some(server_id)) if mode.eq_ignore_ascii_case("Preferred") => {
                Sticky::Preferred(server_id.into())
            }
            (Some(mode), Some(server_id)) if mode.eq_ignore_ascii_case("Required") => {
                Sticky::Required(server_id.into())
            }
            _ => Sticky::None,
        }
    }

    /// How long the client may take for its hub handshake, if the app server has a wish: 1 to 30 seconds.
    pub fn handshake_timeout(&self) -> Option<Duration> {
        let seconds: i64 = self.value("asrs.s.cht")?.parse().ok()?;
        Some(Duration::from_secs(seconds.clamp(1, 30).unsigned_abs()))
    }

    /// How long a client on long polling may be without a poll, if the app server has a wish: 1 to 300 seconds.
    pub fn poll_interval_max(&self) -> Option<Duration> {
        let seconds: i64 = self.value("asrs.s.ttl")?.parse().ok()?;
        Some(Duration::from_secs(seconds.clamp(1, 300).unsigned_abs()))
    }

    /// The transports that the app server permits.
    pub fn transports(&self) -> Transports {
        let mask = self.value("asrs.s.htt").and_then(|text| text.parse().ok());
        mask.map_or(Transports::ALL, Transports::from_mask)
    }

    /// When the client's authentication expires, if its app wants it closed then. An error if the token wants this and names no time: such
    /// a client would stay for ever.
    pub fn authentication_expiry(&self) -> Result<Option<UnixSeconds>, TokenError> {
        if !self.is_true("asrs.s.coae") {
            return Ok(None);
        }
        let expiry = self.value("asrs.s.aeo").and_then(numeric_date);
        expiry.map(Some).ok_or(TokenError::Malformed)
    }

    /// Whether the traffic of this client shall be traced.
    pub fn is_diagnostic(&self) -> bool {
        self.is_true("asrs.s.dc")
    }

    /// Whether the client may be told what went wrong inside.
    pub fn may_see_details(&self) -> bool {
        self.is_true("asrs.s.derror")
    }

    /// The claims as an app server wants to hear them: those that .NET knows under a URI stand under that first, and then under the
    /// name that they have in the token. Everything else stays as it is; the SDK itself sorts out what is not for the app.
    pub fn forwarded_claims(&self) -> impl Iterator<Item = (&str, &str)> {
        self.claims.iter().flat_map(|Claim { name, value }| {
            let long = claim_names::long(name).map(|long| (long, &**value));
            long.into_iter().chain([(&**name, &**value)])
        })
    }

    fn values(&self, name: &str) -> impl Iterator<Item = &str> {
        self.claims
            .iter()
            .filter(move |claim| *claim.name == *name)
            .map(|claim| &*claim.value)
    }

    fn is_true(&self, name: &str) -> bool {
        self.value(name)
            .is_some_and(|value| value.eq_ignore_ascii_case("true"))
    }

    /// Both ends of the token's life, and the end of the authentication. A claim that stands twice must hold twice.
    fn check_times(&self, now: UnixSeconds) -> Result<(), TokenError> {
        let times = |name| {
            self.values(name)
                .map(|text| numeric_date(text).ok_or(TokenError::Malformed))
        };
        if self.value("exp").is_none() {
            return Err(TokenError::MissingExpiry);
        }
        for expires_at in times("exp") {
            if now.0 >= expires_at?.0.saturating_add(CLOCK_SKEW_SECONDS) {
                return Err(TokenError::Expired);
            }
        }
        for valid_from in times("nbf") {
            if now.0 < valid_from?.0.saturating_sub(CLOCK_SKEW_SECONDS) {
                return Err(TokenError::NotYetValid);
            }
        }
        // Without a tolerance: who is late would be let in only to be closed at once.
        match self.authentication_expiry()? {
            Some(expiry) if now >= expiry => Err(TokenError::AuthenticationExpired),
            Some(_) | None => Ok(()),
        }
    }

    fn decode(payload: &str) -> Result<Self, TokenError> {
        let json = decode_base64(payload)?;
        let Claims(claims) = serde_json::from_slice(&json).map_err(|_| TokenError::Malformed)?;
        Ok(Self { claims })
    }
}

/// Why a token is refused. The messages are fit for whoever sent it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum TokenError {
    /// More than [`TOKEN_BYTES_MAX`] bytes.
    #[error("The token is too long")]
    TooLong {
        /// How long it is.
        bytes: usize,
    },
    /// Not a signed token: not three parts, not base64url, not JSON, or a time that is none.
    #[error("The token is malformed")]
    Malformed,
    /// An algorithm other than HMAC, or none.
    #[error("The signature is invalid")]
    AlgorithmNotAccepted,
    /// The header asks for something that must be understood (RFC 7515 §4.1.11), and is not.
    #[error("The token asks for an extension that is not known")]
    CriticalExtension,
    /// None of the keys made this signature.
    #[error("The signature key was not found")]
    UnknownKey,
    /// The token would be good for ever.
    #[error("The token has no expiration time")]
    MissingExpiry,
    /// Its time is over.
    #[error("The token expired")]
    Expired,
    /// Its time is yet to come.
    #[error("The token is not yet valid")]
    NotYetValid,
    /// The client is signed in no longer, and its app wants it closed then.
    #[error("The authentication expired")]
    AuthenticationExpired,
    /// Made for another hub, another host or the other side.
    #[error("The audience is invalid")]
    WrongAudience,
}

impl TokenError {
    /// The value of `WWW-Authenticate` (RFC 6750 §3) that goes with status 401.
    pub fn challenge(self) -> String {
        format!("Bearer error=\"invalid_token\", error_description=\"{self}\"")
    }
}

/// Longest token that is looked at. The SDK makes none of more than 4096 bytes.
pub const TOKEN_BYTES_MAX: usize = 16 * 1024;

/// How far the clock of an app server may be off, in seconds: five minutes, as in ASP.NET Core, for both ends of a token's life.
///
/// The SDK gives a token an hour, and dates it from the very second in which it is used, so without this an app server whose
/// clock is ahead by one second would be shut out.
pub const CLOCK_SKEW_SECONDS: i64 = 5 * 60;

impl Algorithm {
    const ALL: [Self; 3] = [Self::Hs256, Self::Hs384, Self::Hs512];

    fn name(self) -> &'static str {
        match self {
            Self::Hs256 => "HS256",
            Self::Hs384 => "HS384",
            Self::Hs512 => "HS512",
        }
    }
}

impl From<Algorithm> for jsonwebtoken::Algorithm {
    fn from(algorithm: Algorithm) -> Self {
        match algorithm {
            Algorithm::Hs256 => Self::HS256,
            Algorithm::Hs384 => Self::HS384,
            Algorithm::Hs512 => Self::HS512,
        }
    }
}

/// What counts of the part before the first dot.
#[derive(Deserialize)]
struct Header {
    alg: String,
    crit: Option<IgnoredAny>,
}

impl Header {
    fn decode(text: &str) -> Result<Self, TokenError> {
        serde_json::from_slice(&decode_base64(text)?).map_err(|_| TokenError::Malformed)
    }

    fn algorithm(&self) -> Result<Algorithm, TokenError> {
        if self.crit.is_some() {
            return Err(TokenError::CriticalExtension);
        }
        let accepted = Algorithm::ALL
            .into_iter()
            .find(|algorithm| algorithm.name() == self.alg);
        accepted.ok_or(TokenError::AlgorithmNotAccepted)
    }
}

/// The members of an object in their order, lists taken apart. A map would lose both order and repetition.
struct Claims(Vec<Claim>);

impl<'de> Deserialize<'de> for Claims {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(ClaimsVisitor)
    }
}

struct ClaimsVisitor;

impl<'de> Visitor<'de> for ClaimsVisitor {
    type Value = Claims;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object of claims")
    }

    fn visit_map<M: MapAccess<'de>>(self, mut members: M) -> Result<Claims, M::Error> {
        let mut claims = Vec::new();
        while let Some((name, json)) = members.next_entry::<Box<str>, &'de RawValue>()? {
            let values = claim_values(json).map_err(serde::de::Error::custom)?;
            claims.extend(values.into_iter().map(|value| Claim {
                name: name.clone(),
                value,
            }));
        }
        Ok(Claims(claims))
    }
}

fn claim_values(json: &RawValue) -> serde_json::Result<Vec<Box<str>>> {
    if json.get().starts_with('[') {
        let elements: Vec<&RawValue> = serde_json::from_str(json.get())?;
        return elements.into_iter().map(claim_text).collect();
    }
    claim_text(json).map(|value| vec![value])
}

fn claim_text(json: &RawValue) -> serde_json::Result<Box<str>> {
    match json.get() {
        text if text.starts_with('"') => serde_json::from_str(text),
        "null" => Ok(Box::default()),
        text => Ok(text.into()),
    }
}

/// A number of seconds, perhaps with a fraction (RFC 7519 §2), which does not matter here.
fn numeric_date(text: &str) -> Option<UnixSeconds> {
    let whole = text.parse().ok();
    let seconds = whole.or_else(|| {
        text.parse::<f64>()
            .ok()
            .filter(|seconds| seconds.is_finite())
            .map(|seconds| seconds as i64)
    });
    seconds.map(UnixSeconds)
}

/// The host of `host:port`, where an IPv6 address keeps its brackets.
fn without_port(authority: &str) -> &str {
    match authority.rsplit_once(':') {
        Some((host, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => host,
        _ => authority,
    }
}

fn decode_base64(text: &str) -> Result<Vec<u8>, TokenError> {
    URL_SAFE_NO_PAD
        .decode(text)
        .map_err(|_| TokenError::Malformed)
}

#[cfg(test)]
mod golden;
#[cfg(test)]
mod tests;

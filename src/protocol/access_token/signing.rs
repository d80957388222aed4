//! The app server's side: making a token.

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::EncodingKey;
use serde::ser::{Serialize, SerializeMap, Serializer};
use serde_json::Value;
use thiserror::Error;

use super::{Algorithm, UnixSeconds};
use crate::protocol::connection_string::AccessKey;

/// Collects claims and signs them. Equal input gives a token equal to the SDK's, byte for byte.
#[derive(Clone, Debug)]
pub struct TokenBuilder<'a> {
    key_id: Option<&'a str>,
    claims: Claims<'a>,
}

impl<'a> TokenBuilder<'a> {
    /// A token without claims.
    pub fn new() -> Self {
        Self {
            key_id: None,
            claims: Claims(Vec::new()),
        }
    }

    /// Names the key in the header. The service pays no heed to it.
    #[must_use]
    pub fn key_id(mut self, key_id: &'a str) -> Self {
        self.key_id = Some(key_id);
        self
    }

    /// Adds a claim. One that is there already becomes a list.
    #[must_use]
    pub fn claim(mut self, name: &'a str, value: impl Into<Value>) -> Self {
        let value = value.into();
        match self
            .claims
            .0
            .iter_mut()
            .find(|(existing, _)| *existing == name)
        {
            Some((_, Value::Array(values))) => values.push(value),
            Some((_, first)) => *first = Value::Array(vec![first.take(), value]),
            None => self.claims.0.push((name, value)),
        }
        self
    }

    /// Adds what every token must say, in the SDK's order: when it begins and ends, who made it, and whom for.
    #[must_use]
    pub fn life(self, now: UnixSeconds, lifetime: Duration, audience: &str) -> Self {
        let expires_at = now.0.saturating_add_unsigned(lifetime.as_secs());
        self.claim("nbf", now.0)
            .claim("exp", expires_at)
            .claim("iat", now.0)
            .claim("iss", ISSUER)
            .claim("aud", audience)
    }

    /// Signs. Like the SDK it makes no token that is too long for a client to carry in a URL.
    pub fn sign(&self, key: &AccessKey, algorithm: Algorithm) -> Result<String, SignError> {
        let mut header = Claims(vec![
            ("alg", algorithm.name().into()),
            ("typ", "JWT".into()),
        ]);
        header
            .0
            .extend(self.key_id.map(|key_id| ("kid", key_id.into())));
        let mut token = format!("{}.{}", encode(&header)?, encode(&self.claims)?);
        let key = EncodingKey::from_secret(key.as_str().as_bytes());
        let signature = jsonwebtoken::crypto::sign(token.as_bytes(), &key, algorithm.into())?;
        token.push('.');
        token.push_str(&signature);
        if token.len() > SIGNED_BYTES_MAX {
            return Err(SignError::TooLong { bytes: token.len() });
        }
        Ok(token)
    }
}

impl Default for TokenBuilder<'_> {
    fn default() -> Self {
        Self::new()
    }
}

/// Why there is no token.
#[derive(Debug, Error)]
pub enum SignError {
    /// Too many or too long claims.
    #[error("AccessToken must not be longer than 4K.")]
    TooLong {
        /// How long it became.
        bytes: usize,
    },
    /// The claims could not be written.
    #[error("the claims cannot be written as JSON")]
    Json(#[from] serde_json::Error),
    /// The library that signs has failed.
    #[error("the token cannot be signed")]
    Crypto(#[from] jsonwebtoken::errors::Error),
}

/// An object whose members keep their order.
#[derive(Clone, Debug)]
struct Claims<'a>(Vec<(&'a str, Value)>);

impl Serialize for Claims<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(self.0.len()))?;
        for (name, value) in &self.0 {
            map.serialize_entry(name, value)?;
        }
        map.end()
    }
}

fn encode(claims: &Claims<'_>) -> Result<String, SignError> {
    Ok(URL_SAFE_NO_PAD.encode(serde_json::to_vec(claims)?))
}

/// What the SDK calls itself. The service does not look at it.
const ISSUER: &str = "azure-signalr";

const SIGNED_BYTES_MAX: usize = 4096;

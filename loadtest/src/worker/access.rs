//! Access tokens: how clients and app servers prove that they may come in.

use std::time::{Duration, SystemTime};

use hubring::id::HubName;
use hubring::protocol::access_token::{Algorithm, Audience, TokenBuilder, UnixSeconds};
use hubring::protocol::connection_string::AccessKey;

use crate::error::LoadError;

const TOKEN_LIFETIME: Duration = Duration::from_hours(24);

/// Who is not a user of its own.
const NOBODY: &str = "loadtest";

/// What many apps say about their users, besides who they are.
const CUSTOMARY_CLAIMS: [(&str, &str); 4] = [
    ("role", "member"),
    ("tenant", "contoso"),
    ("email", "someone@example.com"),
    ("locale", "en-GB"),
];

/// Signs tokens for one hub.
pub(crate) struct TokenSigner {
    hub: HubName,
    key: AccessKey,
    audience_base: String,
}

impl TokenSigner {
    pub(crate) fn new(hub: &str, access_key: &str, audience_host: &str) -> Result<Self, LoadError> {
        Ok(Self {
            hub: HubName::parse(hub).ok_or_else(|| LoadError::HubName(hub.to_owned()))?,
            key: AccessKey::parse(access_key)?,
            audience_base: format!("http://{audience_host}/"),
        })
    }

    /// For all clients that nobody has to tell apart.
    pub(crate) fn for_any_client(&self) -> Result<String, LoadError> {
        self.sign(Audience::Client(&self.hub), NOBODY, &[])
    }

    /// For the client that is the user with this id, perhaps with the claims that users customarily have.
    pub(crate) fn for_user(&self, user_id: &str, has_claims: bool) -> Result<String, LoadError> {
        let claims: &[(&str, &str)] = if has_claims { &CUSTOMARY_CLAIMS } else { &[] };
        self.sign(Audience::Client(&self.hub), user_id, claims)
    }

    /// For the server connections of the app server with this id.
    pub(crate) fn for_app_server(&self, server_id: &str) -> Result<String, LoadError> {
        self.sign(Audience::Server(&self.hub), server_id, &[])
    }

    fn sign(
        &self,
        audience: Audience<'_>,
        name_id: &str,
        claims: &[(&str, &str)],
    ) -> Result<String, LoadError> {
        let since_1970 = SystemTime::UNIX_EPOCH.elapsed().unwrap_or_default();
        let now = UnixSeconds(since_1970.as_secs().cast_signed());
        let mut token = TokenBuilder::new().claim("nameid", name_id);
        for &(name, value) in claims {
            token = token.claim(name, value);
        }
        let audience = audience.text(&self.audience_base);
        let token = token.life(now, TOKEN_LIFETIME, &audience);
        Ok(token.sign(&self.key, Algorithm::Hs256)?)
    }
}

/// The user that a client is, where each client is a user of its own.
pub(crate) fn user_id(client: u32) -> String {
    format!("user-{client}")
}

#[cfg(test)]
mod tests {
    use hubring::protocol::access_token::AccessKeys;

    use super::*;

    #[test]
    fn the_service_accepts_the_tokens() {
        let signer = TokenSigner::new("chat", "a key", "example.com").unwrap();
        let keys = AccessKeys::new([&AccessKey::parse("a key").unwrap()])
            .with_audience_hosts(["example.com".into()]);
        let since_1970 = SystemTime::UNIX_EPOCH.elapsed().unwrap();
        let now = UnixSeconds(since_1970.as_secs().cast_signed());
        let hub = HubName::parse("chat").unwrap();

        let token = signer.for_user(&user_id(7), true).unwrap();
        let token = keys.validate(&token, Audience::Client(&hub), now).unwrap();
        assert_eq!(token.user_id(), Some("user-7"));
        assert_eq!(token.value("role"), Some("member"));
        let token = signer.for_app_server("one").unwrap();
        let token = keys.validate(&token, Audience::Server(&hub), now).unwrap();
        assert_eq!(token.server_id(), Some("one"));
        assert!(signer.for_any_client().is_ok());
    }
}

//! Claims: what an access token says about a client, on the way in and on the way out.
//!
//! The rules are those of the SDK. Claims whose names begin with `asrs.s.` are between the two sides' own code; those that a
//! token needs for itself are not about the user; a user's claim that has one of their names travels as `asrs.u.` and that name.

use crate::protocol::service::Text;

/// One statement about a user.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Claim {
    /// What it is about, such as `role` or a long URI.
    pub kind: String,
    /// What it says.
    pub value: String,
}

impl Claim {
    /// A claim.
    pub fn new(kind: impl Into<String>, value: impl Into<String>) -> Self {
        Self {
            kind: kind.into(),
            value: value.into(),
        }
    }
}

/// The name under which a claim of the user travels in a token, given the claims that go before it.
pub(super) fn token_name<'a>(claim: &Claim, before: impl IntoIterator<Item = &'a Claim>) -> String {
    let is_second_subject = claim.kind == SUBJECT
        && before
            .into_iter()
            .any(|claim: &Claim| claim.kind == SUBJECT);
    if SYSTEM_CLAIMS.contains(&claim.kind.as_str()) || is_second_subject {
        format!("{USER_PREFIX}{}", claim.kind)
    } else {
        claim.kind.clone()
    }
}

/// The claims about the user, out of all that the service hands on.
pub(super) fn user_claims(claims: &[(Text<'_>, Text<'_>)]) -> Vec<Claim> {
    claims
        .iter()
        .filter(|(kind, _)| {
            !SYSTEM_CLAIMS.contains(&kind.as_ref()) && !kind.starts_with(SERVICE_PREFIX)
        })
        .map(|(kind, value)| Claim::new(kind.strip_prefix(USER_PREFIX).unwrap_or(kind), &**value))
        .collect()
}

/// Who the user is, if the client has one. The claim made for this purpose goes before the name identifier.
pub(super) fn user_id(claims: &[(Text<'_>, Text<'_>)]) -> Option<String> {
    let value = |wanted: &str| {
        claims
            .iter()
            .find(|(kind, _)| kind == wanted)
            .map(|(_, value)| value.to_string())
    };
    value(USER_ID).or_else(|| value(NAME_IDENTIFIER))
}

const SERVICE_PREFIX: &str = "asrs.s.";

const USER_PREFIX: &str = "asrs.u.";

const USER_ID: &str = "asrs.s.uid";

/// The name identifier as the service writes it to app servers; in tokens it is `nameid`.
const NAME_IDENTIFIER: &str =
    "http://schemas.xmlsoap.org/ws/2005/05/identity/claims/nameidentifier";

const SUBJECT: &str = "sub";

/// Claims that are about the token.
const SYSTEM_CLAIMS: [&str; 11] = [
    "aud", "exp", "iat", "nbf", "iss", "actort", "acr", "azp", "c_hash", "jti", "nonce",
];

#[cfg(test)]
mod tests {
    use super::*;

    fn received(claims: &[(&'static str, &'static str)]) -> Vec<(Text<'static>, Text<'static>)> {
        claims
            .iter()
            .map(|(kind, value)| ((*kind).into(), (*value).into()))
            .collect()
    }

    #[test]
    fn what_is_not_about_the_user_is_left_out() {
        let claims = received(&[
            ("asrs.s.derror", "True"),
            ("role", "a"),
            ("role", "b"),
            ("aud", "x"),
            ("asrs.u.aud", "mine"),
            ("sub", "s"),
        ]);
        let expected = [("role", "a"), ("role", "b"), ("aud", "mine"), ("sub", "s")]
            .map(|(kind, value)| Claim::new(kind, value));
        assert_eq!(user_claims(&claims), expected);
    }

    #[test]
    fn the_user_id_is_the_services_own_claim_or_the_name_identifier() {
        assert_eq!(
            user_id(&received(&[(NAME_IDENTIFIER, "a"), (USER_ID, "b")])),
            Some("b".into())
        );
        assert_eq!(
            user_id(&received(&[("nameid", "x"), (NAME_IDENTIFIER, "a")])),
            Some("a".into())
        );
        assert_eq!(user_id(&received(&[("nameid", "x")])), None);
    }

    #[test]
    fn a_users_claim_does_not_take_the_name_of_one_about_the_token() {
        assert_eq!(token_name(&Claim::new("role", "a"), []), "role");
        assert_eq!(token_name(&Claim::new("iss", "a"), []), "asrs.u.iss");
        let first = Claim::new("sub", "a");
        assert_eq!(token_name(&first, []), "sub");
        assert_eq!(token_name(&Claim::new("sub", "b"), [&first]), "asrs.u.sub");
    }
}

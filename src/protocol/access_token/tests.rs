use super::golden::{self, Golden};
use super::*;

const NOW: UnixSeconds = UnixSeconds(1_800_000_000);

fn key(text: &str) -> AccessKey {
    AccessKey::parse(text).unwrap()
}

fn keys() -> AccessKeys {
    AccessKeys::new([&key(golden::KEY)])
}

fn hub(name: &str) -> HubName {
    HubName::parse(name).unwrap()
}

fn validate(golden: &Golden) -> AccessToken {
    let hub = hub(golden.hub);
    let audience = match golden.side {
        "server" => Audience::Server(&hub),
        _ => Audience::Client(&hub),
    };
    keys().validate(golden.token, audience, NOW).unwrap()
}

/// Signs claims that say when they end, but not for whom they are.
fn sign(builder: TokenBuilder<'_>) -> String {
    builder
        .claim("exp", NOW.0 + 60)
        .sign(&key(golden::KEY), Algorithm::Hs256)
        .unwrap()
}

/// What becomes of a token for `aud`, at the door for clients of the hub `chat`.
fn try_audience(keys: &AccessKeys, aud: &str) -> Result<AccessToken, TokenError> {
    keys.validate(
        &sign(TokenBuilder::new().claim("aud", aud)),
        Audience::Client(&hub("chat")),
        NOW,
    )
}

/// What becomes of a token whose three parts are these; the signature over them is right.
fn try_parts(header: &str, payload: &str) -> Result<AccessToken, TokenError> {
    let message = format!(
        "{}.{}",
        URL_SAFE_NO_PAD.encode(header),
        URL_SAFE_NO_PAD.encode(payload)
    );
    let secret = jsonwebtoken::EncodingKey::from_secret(golden::KEY.as_bytes());
    let signature =
        jsonwebtoken::crypto::sign(message.as_bytes(), &secret, jsonwebtoken::Algorithm::HS256)
            .unwrap();
    keys().validate(
        &format!("{message}.{signature}"),
        Audience::Client(&hub("chat")),
        NOW,
    )
}

#[test]
fn recorded_tokens_say_what_was_recorded() {
    for golden in golden::ALL {
        let token = validate(golden);
        let claims: Vec<_> = token
            .claims()
            .iter()
            .map(|claim| (&*claim.name, &*claim.value))
            .collect();
        assert_eq!(claims, golden.claims);
    }
}

#[test]
fn a_recorded_token_opens_no_other_door() {
    for golden in golden::ALL {
        let (right, other) = (hub(golden.hub), hub("other"));
        let (same_side, other_side): (fn(_) -> _, fn(_) -> _) = match golden.side {
            "server" => (Audience::Server, Audience::Client),
            _ => (Audience::Client, Audience::Server),
        };
        assert!(
            keys()
                .validate(golden.token, same_side(&right), NOW)
                .is_ok()
        );
        for wrong in [other_side(&right), same_side(&other)] {
            assert_eq!(
                keys().validate(golden.token, wrong, NOW),
                Err(TokenError::WrongAudience)
            );
        }
    }
}

#[test]
fn a_token_signed_here_equals_the_recorded_one() {
    let lifetime = Duration::from_hours(1);
    let audience = Audience::Server(&hub("Chat")).text("http://localhost/");
    let server = TokenBuilder::new()
        .key_id("-1234567890")
        .claim("nameid", "s1_0123456789abcdef0123456789abcdef")
        .life(NOW, lifetime, &audience);
    assert_eq!(
        server.sign(&key(golden::KEY), Algorithm::Hs256).unwrap(),
        golden::SERVER.token
    );

    let audience = Audience::Client(&hub("app1_chat")).text("http://localhost/");
    let client = TokenBuilder::new()
        .key_id("-1234567890")
        .claim("asrs.s.sn", "s1_0123456789abcdef0123456789abcdef")
        .claim("asrs.s.ssticky", "Required")
        .claim("asrs.s.dc", "true")
        .claim("asrs.s.derror", "True")
        .claim("asrs.s.ttl", "10")
        .claim("asrs.s.htt", "5")
        .claim("nameid", "alice")
        .claim("custom", "v1")
        .claim("role", "a")
        .claim("role", "b")
        .life(NOW, Duration::from_mins(2), &audience);
    assert_eq!(
        client.sign(&key(golden::KEY), Algorithm::Hs512).unwrap(),
        golden::ALL_OPTIONS.token
    );
}

#[test]
fn a_token_that_no_url_can_carry_is_not_made() {
    let token = TokenBuilder::new().claim("long", "x".repeat(4096));
    let error = token.sign(&key("k"), Algorithm::Hs256).unwrap_err();
    assert!(matches!(error, SignError::TooLong { bytes } if bytes > 4096));
}

#[test]
fn every_configured_key_opens_and_no_other() {
    let chat = hub("chat");
    let token = golden::ANONYMOUS.token;
    let (primary, secondary) = (key("primary"), key(golden::KEY));
    let both = AccessKeys::new([&primary, &secondary]);
    assert!(both.validate(token, Audience::Client(&chat), NOW).is_ok());
    for keys in [AccessKeys::new([&primary]), AccessKeys::new([])] {
        assert_eq!(
            keys.validate(token, Audience::Client(&chat), NOW),
            Err(TokenError::UnknownKey)
        );
    }
}

#[test]
fn a_token_lives_from_nbf_to_exp_with_five_minutes_to_spare() {
    let at = |seconds| {
        keys().validate(
            golden::ANONYMOUS.token,
            Audience::Client(&hub("chat")),
            UnixSeconds(seconds),
        )
    };
    let (begin, end) = (NOW.0, NOW.0 + 3600);
    assert_eq!(at(begin - 301), Err(TokenError::NotYetValid));
    assert!(at(begin - 300).is_ok());
    assert!(at(end + 299).is_ok());
    assert_eq!(at(end + 300), Err(TokenError::Expired));
    assert_eq!(at(end + 600), Err(TokenError::Expired));
}

#[test]
fn times_are_numbers_and_the_end_is_not_optional() {
    let chat = r#""aud":"http://localhost/client/?hub=chat""#;
    let header = r#"{"alg":"HS256"}"#;
    assert_eq!(
        try_parts(header, &format!("{{{chat}}}")),
        Err(TokenError::MissingExpiry)
    );
    assert!(try_parts(header, &format!(r#"{{{chat},"exp":1800000000.5}}"#)).is_ok());
    assert!(
        try_parts(
            header,
            &format!(r#"{{{chat},"exp":9223372036854775807,"nbf":-9223372036854775808}}"#)
        )
        .is_ok()
    );
    assert_eq!(
        try_parts(header, &format!(r#"{{{chat},"exp":-1e300}}"#)),
        Err(TokenError::Expired)
    );
    assert_eq!(
        try_parts(
            header,
            &format!(r#"{{{chat},"exp":1900000000,"exp":1700000000}}"#)
        ),
        Err(TokenError::Expired)
    );
    for time in ["\"NaN\"", "\"soon\"", "true", "null", "{}", "1e999"] {
        assert_eq!(
            try_parts(header, &format!(r#"{{{chat},"exp":{time}}}"#)),
            Err(TokenError::Malformed),
            "{time}"
        );
    }
}

#[test]
fn only_hmac_is_accepted() {
    let payload = r#"{"exp":1900000000,"aud":"http://localhost/client/?hub=chat"}"#;
    assert!(try_parts(r#"{"alg":"HS256","typ":"at+jwt","jwk":7}"#, payload).is_ok());
    for algorithm in ["none", "None", "RS256", "ES256", "hs256", ""] {
        let refused = try_parts(&format!(r#"{{"alg":"{algorithm}"}}"#), payload);
        assert_eq!(
            refused,
            Err(TokenError::AlgorithmNotAccepted),
            "{algorithm}"
        );
    }
    assert_eq!(
        try_parts(r#"{"alg":"HS384"}"#, payload),
        Err(TokenError::UnknownKey)
    );
    assert_eq!(
        try_parts(r#"{"alg":"HS256","crit":["b64"]}"#, payload),
        Err(TokenError::CriticalExtension)
    );
    assert_eq!(try_parts("{}", payload), Err(TokenError::Malformed));
    // What the SDK sends with an Entra credential.
    let entra = keys().validate(
        "eyJhbGciOiJSUzI1NiJ9.eyJmYWtlIjoxfQ.c2ln",
        Audience::Server(&hub("chat")),
        NOW,
    );
    assert_eq!(entra, Err(TokenError::AlgorithmNotAccepted));
}

#[test]
fn garbage_is_refused() {
    let chat = hub("chat");
    let (head, tail) = golden::ANONYMOUS.token.split_at(80);
    let with_blank = format!("{head} {tail}");
    for token in [
        "",
        ".",
        "..",
        "...",
        "a.b.c",
        "é.é.é",
        "e30.e30.",
        "eyJ",
        &with_blank,
    ] {
        let refused = keys()
            .validate(token, Audience::Client(&chat), NOW)
            .unwrap_err();
        assert!(
            matches!(refused, TokenError::Malformed | TokenError::UnknownKey),
            "{token}: {refused:?}"
        );
    }
    let too_long = "x".repeat(TOKEN_BYTES_MAX + 1);
    let refused = keys().validate(&too_long, Audience::Client(&chat), NOW);
    assert_eq!(
        refused,
        Err(TokenError::TooLong {
            bytes: TOKEN_BYTES_MAX + 1
        })
    );
    for payload in ["", "[]", "7", "{\"a\":1", "{\"a\":[}", "\u{0}"] {
        assert_eq!(
            try_parts(r#"{"alg":"HS256"}"#, payload),
            Err(TokenError::Malformed),
            "{payload}"
        );
    }
}

#[test]
fn a_changed_token_is_refused() {
    let chat = hub("chat");
    let token = golden::ANONYMOUS.token;
    for index in 0..token.len() {
        let mut bytes = token.as_bytes().to_vec();
        bytes[index] = if bytes[index] == b'A' { b'B' } else { b'A' };
        let changed = String::from_utf8(bytes).unwrap();
        assert!(
            keys()
                .validate(&changed, Audience::Client(&chat), NOW)
                .is_err(),
            "{index}"
        );
    }
}

#[test]
fn an_audience_is_a_path_and_a_hub_on_any_host() {
    for good in [
        "http://localhost/client/?hub=chat",
        "https://X.service.signalr.net/client/?hub=CHAT",
        "http://localhost:8888/client?hub=chat",
        "http://[::1]:8888/Client/?hub=chat&asrs.op=%2Fchat",
        "http://localhost/client/?a=b&hub=ch%61t",
    ] {
        assert!(try_audience(&keys(), good).is_ok(), "{good}");
    }
    for bad in [
        "",
        "chat",
        "http://localhost/server/?hub=chat",
        "http://localhost/client/?hub=chats",
        "http://localhost/client/?hub=",
        "http://localhost/client/",
        "http://localhost/clients/?hub=chat",
        "http://localhost/a/client/?hub=chat",
        "http://localhost/client//?hub=chat",
        "http://localhost/client/?hub=chat&hub=other",
        "http://localhost/?x=/client/?hub=chat",
        "http://localhost?/client/?hub=chat",
        "ftp://localhost/client/?hub=chat",
        "//localhost/client/?hub=chat",
    ] {
        assert_eq!(
            try_audience(&keys(), bad),
            Err(TokenError::WrongAudience),
            "{bad}"
        );
    }
}

#[test]
fn one_good_audience_among_several_is_enough() {
    let claims = TokenBuilder::new()
        .claim("aud", "mine")
        .claim("aud", "http://a/client/?hub=chat");
    assert!(
        keys()
            .validate(&sign(claims), Audience::Client(&hub("chat")), NOW)
            .is_ok()
    );
    let none = keys().validate(
        &sign(TokenBuilder::new()),
        Audience::Client(&hub("chat")),
        NOW,
    );
    assert_eq!(none, Err(TokenError::WrongAudience));
}

#[test]
fn hosts_count_if_some_are_configured() {
    let keys = keys().with_audience_hosts(["Chat.Example.com".into(), "[::1]".into()]);
    for good in [
        "https://chat.example.com/client/?hub=chat",
        "https://CHAT.EXAMPLE.COM:443/client/?hub=chat",
        "http://[::1]:1/client/?hub=chat",
        "http://[::1]/client/?hub=chat",
    ] {
        assert!(try_audience(&keys, good).is_ok(), "{good}");
    }
    for bad in [
        "https://example.com/client/?hub=chat",
        "https://chat.example.com:x/client/?hub=chat",
        "http://[::2]/client/?hub=chat",
    ] {
        assert_eq!(
            try_audience(&keys, bad),
            Err(TokenError::WrongAudience),
            "{bad}"
        );
    }
}

#[test]
fn options_are_read_from_their_claims() {
    let server = validate(&golden::SERVER);
    assert_eq!(
        server.server_id(),
        Some("s1_0123456789abcdef0123456789abcdef")
    );

    let plain = validate(&golden::ANONYMOUS);
    assert_eq!(
        (plain.user_id(), plain.server_id(), plain.sticky()),
        (None, None, Sticky::None)
    );
    assert_eq!(plain.handshake_timeout(), None);
    assert_eq!(plain.transports(), Transports::ALL);
    assert!(plain.may_see_details() && !plain.is_diagnostic());

    let options = validate(&golden::ALL_OPTIONS);
    assert_eq!(options.user_id(), Some("alice"));
    assert_eq!(
        options.sticky(),
        Sticky::Required("s1_0123456789abcdef0123456789abcdef".into())
    );
    assert_eq!(options.transports(), Transports::from_mask(5));
    assert!(options.is_diagnostic());

    let preferred = validate(&golden::STICKY_PREFERRED);
    assert_eq!(
        preferred.sticky(),
        Sticky::Preferred("s1_0123456789abcdef0123456789abcdef".into())
    );
}

#[test]
fn a_client_that_is_to_be_closed_when_its_authentication_expires_has_to_be_signed_in() {
    let at = |claims: &[(&str, &str)]| {
        let builder = TokenBuilder::new().claim("aud", "http://a/client/?hub=chat");
        let builder = claims.iter().fold(builder, |builder, (name, value)| {
            builder.claim(name, *value)
        });
        let token = keys().validate(&sign(builder), Audience::Client(&hub("chat")), NOW)?;
        token.authentication_expiry()
    };
    let expiring = |coae, aeo| at(&[("asrs.s.coae", coae), ("asrs.s.aeo", aeo)]);
    let golden = validate(&golden::PRINCIPAL_ALL_OPTIONS);
    let in_ten_minutes = UnixSeconds(NOW.0 + 600);
    assert_eq!(golden.authentication_expiry(), Ok(Some(in_ten_minutes)));
    for coae in ["true", "True"] {
        assert_eq!(
            expiring(coae, "1800000001"),
            Ok(Some(UnixSeconds(NOW.0 + 1)))
        );
        assert_eq!(
            expiring(coae, "1800000000"),
            Err(TokenError::AuthenticationExpired)
        );
    }
    assert_eq!(
        expiring("true", "9223372036854775807"),
        Ok(Some(UnixSeconds(i64::MAX)))
    );
    assert_eq!(
        expiring("true", "-9223372036854775808"),
        Err(TokenError::AuthenticationExpired)
    );
    assert_eq!(expiring("true", "tomorrow"), Err(TokenError::Malformed));
    assert_eq!(at(&[("asrs.s.coae", "true")]), Err(TokenError::Malformed));
    assert_eq!(expiring("false", "1"), Ok(None));
    assert_eq!(at(&[("asrs.s.aeo", "1")]), Ok(None), "it is only known");
}

#[test]
fn options_out_of_range_are_brought_back() {
    let token = |name, value: &str| {
        let claims = TokenBuilder::new()
            .claim("aud", "http://a/client/?hub=chat")
            .claim(name, value);
        keys()
            .validate(&sign(claims), Audience::Client(&hub("chat")), NOW)
            .unwrap()
    };
    for (text, seconds) in [
        ("5", Some(5)),
        ("0", Some(1)),
        ("-3", Some(1)),
        ("600", Some(30)),
        ("soon", None),
        ("", None),
    ] {
        assert_eq!(
            token("asrs.s.cht", text).handshake_timeout(),
            seconds.map(Duration::from_secs),
            "{text}"
        );
    }
    for (text, seconds) in [
        ("5", Some(5)),
        ("0", Some(1)),
        ("300", Some(300)),
        ("301", Some(300)),
        ("1.5", None),
        ("", None),
    ] {
        assert_eq!(
            token("asrs.s.ttl", text).poll_interval_max(),
            seconds.map(Duration::from_secs),
            "{text}"
        );
    }
    for (text, transports) in [
        ("1", Transports::WEB_SOCKETS),
        ("0", Transports::NONE),
        ("15", Transports::ALL),
        ("all", Transports::ALL),
    ] {
        assert_eq!(token("asrs.s.htt", text).transports(), transports, "{text}");
    }
    assert_eq!(
        token("asrs.s.ssticky", "Required").sticky(),
        Sticky::None,
        "no app server is named"
    );
}

#[test]
fn the_user_is_the_one_the_app_server_named() {
    let user_id = |claims: TokenBuilder<'_>| {
        let token = sign(claims.claim("aud", "http://a/client/?hub=chat"));
        keys()
            .validate(&token, Audience::Client(&hub("chat")), NOW)
            .unwrap()
            .user_id()
            .map(str::to_owned)
    };
    let new = TokenBuilder::new;
    assert_eq!(
        user_id(new().claim("nameid", "n").claim("asrs.s.uid", "u")).as_deref(),
        Some("u")
    );
    assert_eq!(
        user_id(new().claim("sub", "s").claim("nameid", "n")).as_deref(),
        Some("s")
    );
    assert_eq!(
        user_id(
            new()
                .claim(claim_names::NAME_IDENTIFIER, "l")
                .claim("sub", "s")
        )
        .as_deref(),
        Some("l")
    );
    assert_eq!(user_id(new().claim("asrs.s.uid", "")), None);
    assert_eq!(user_id(new().claim("sub", serde_json::Value::Null)), None);
    assert_eq!(user_id(new()), None);
}

/// The order is that of the claims in an `OpenConnection` that the SDK was seen to understand.
#[test]
fn known_claims_are_forwarded_under_both_names() {
    let token = validate(&golden::ALL_OPTIONS);
    let role = "http://schemas.microsoft.com/ws/2008/06/identity/claims/role";
    let expected = [
        (claim_names::NAME_IDENTIFIER, "alice"),
        ("nameid", "alice"),
        ("custom", "v1"),
        (role, "a"),
        ("role", "a"),
        (role, "b"),
        ("role", "b"),
        ("nbf", "1800000000"),
    ];
    let forwarded: Vec<_> = token
        .forwarded_claims()
        .skip_while(|(name, _)| name.starts_with("asrs."))
        .take(8)
        .collect();
    assert_eq!(forwarded, expected);
    assert_eq!(
        token.forwarded_claims().next(),
        Some(("asrs.s.sn", "s1_0123456789abcdef0123456789abcdef"))
    );
}

#[test]
fn refusals_say_why_but_repeat_nothing() {
    let refused = keys()
        .validate(
            "c2VjcmV0.c2VjcmV0.c2VjcmV0",
            Audience::Client(&hub("chat")),
            NOW,
        )
        .unwrap_err();
    assert_eq!(
        refused.challenge(),
        r#"Bearer error="invalid_token", error_description="The token is malformed""#
    );
    let debug = format!("{:?}", keys());
    assert!(!debug.contains(golden::KEY));
}

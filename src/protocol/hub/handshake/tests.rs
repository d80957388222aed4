use proptest::prelude::*;

use super::*;

fn parse(json: &str) -> Result<HandshakeRequest, HandshakeError> {
    HandshakeRequest::parse(json.as_bytes())
}

fn request(protocol: HubProtocol, version: i64) -> HandshakeRequest {
    HandshakeRequest { protocol, version }
}

#[test]
fn requests_of_all_clients_are_read() {
    let requests = [
        (
            r#"{"protocol":"json","version":1}"#,
            request(HubProtocol::Json, 1),
        ),
        (
            r#"{"protocol":"messagepack","version":1}"#,
            request(HubProtocol::MessagePack, 1),
        ),
        (
            r#"{"protocol":"json","version":2}"#,
            request(HubProtocol::Json, 2),
        ),
        (
            r#"{"protocol": "json", "version": 1}"#,
            request(HubProtocol::Json, 1),
        ),
        (
            r#"{"version":1,"extra":[{}],"protocol":"blazorpack"}"#,
            request(HubProtocol::BlazorPack, 1),
        ),
        (
            r#"{"protocol":"JSON","version":0}"#,
            request(HubProtocol::Json, 0),
        ),
        (
            r#"{"protocol":"Own","version":-1}"#,
            request(HubProtocol::Other("Own".into()), -1),
        ),
    ];
    for (json, expected) in requests {
        assert_eq!(parse(json), Ok(expected), "{json}");
    }
}

#[test]
fn what_is_sent_along_with_a_request_is_left_for_the_hub_protocol() {
    let bytes = b"{\"protocol\":\"messagepack\",\"version\":1}\x1e\x02\x91\x06";
    let record = find_handshake(bytes, 0, 4096).unwrap().unwrap();
    assert_eq!(
        HandshakeRequest::parse(record.json),
        Ok(request(HubProtocol::MessagePack, 1))
    );
    assert_eq!(record.rest, b"\x02\x91\x06");
}

#[test]
fn a_request_is_found_when_its_last_byte_is_there() {
    let bytes = b"{\"protocol\":\"json\",\"version\":1}\x1e";
    for end in 0..bytes.len() {
        assert_eq!(find_handshake(&bytes[..end], 0, 4096), Ok(None));
    }
    assert!(find_handshake(bytes, 0, 4096).unwrap().is_some());
}

#[test]
fn a_request_without_end_is_refused_at_the_limit() {
    assert_eq!(find_handshake(b"abc", 0, 4), Ok(None));
    assert_eq!(find_handshake(b"abcd", 0, 4), Err(HandshakeError::Canceled));
    assert_eq!(
        find_handshake(b"abcd\x1e", 0, 4),
        Err(HandshakeError::Canceled)
    );
    assert_eq!(
        find_handshake(b"abc\x1erest", 0, 4),
        Ok(Some(HandshakeRecord {
            json: b"abc",
            rest: b"rest"
        }))
    );
    assert_eq!(
        HandshakeError::Canceled.public_text(),
        "Handshake was canceled."
    );
}

#[test]
fn refusals_are_in_the_words_of_aspnet_core() {
    let unexpected = "An unexpected error occurred during connection handshake.";
    let details = [
        (
            "[]",
            "Unexpected JSON Token Type 'Array'. Expected a JSON Object.",
        ),
        (
            "42",
            "Unexpected JSON Token Type 'Number'. Expected a JSON Object.",
        ),
        (
            "{}",
            "Missing required property 'protocol'. Message content: {}",
        ),
        (
            r#"{"version":1}"#,
            r#"Missing required property 'protocol'. Message content: {"version":1}"#,
        ),
        (
            r#"{"protocol":"json"}"#,
            r#"Missing required property 'version'. Message content: {"protocol":"json"}"#,
        ),
        (
            r#"{"protocol":42,"version":1}"#,
            "Expected 'protocol' to be of type String.",
        ),
        (
            r#"{"protocol":null,"version":1}"#,
            "Expected 'protocol' to be of type String.",
        ),
        (
            r#"{"protocol":"json","version":"1"}"#,
            "Expected 'version' to be of type Number.",
        ),
        (
            r#"{"protocol":"json","version":1.5}"#,
            "Expected 'version' to be of type Number.",
        ),
    ];
    for (json, detail) in details {
        let error = parse(json).unwrap_err();
        assert_eq!(error.public_text(), unexpected, "{json}");
        assert_eq!(
            error.to_string(),
            format!("{unexpected} InvalidDataException: {detail}")
        );
    }
    for json in [
        "",
        "foo",
        "{",
        "{}x",
        "\u{2}\u{91}\u{6}",
        r#"{"protocol":"json","version":1"#,
    ] {
        let error = parse(json).unwrap_err();
        assert_eq!(
            (error.public_text().as_str(), &error),
            (unexpected, &HandshakeError::NotJson),
            "{json}"
        );
    }
    let nested = "[".repeat(4000);
    assert_eq!(parse(&nested), Err(HandshakeError::NotJson));
}

#[test]
fn whoever_answers_refuses_what_it_does_not_speak() {
    let served = [HubProtocol::Json, HubProtocol::MessagePack];
    let check = |protocol, version| request(protocol, version).check(&served);
    let foo = check(HubProtocol::from_name("foo"), 1).unwrap_err();
    assert_eq!(
        error_response(&foo.public_text()),
        b"{\"error\":\"The protocol 'foo' is not supported.\"}\x1e"
    );
    let version_3 = check(HubProtocol::Json, 3).unwrap_err();
    assert_eq!(
        version_3.public_text(),
        "The server does not support version 3 of the 'json' protocol."
    );
    for version in [2, 1, 0, -1] {
        assert_eq!(check(HubProtocol::MessagePack, version), Ok(()));
    }
}

#[test]
fn a_protocol_of_bytes_is_refused_where_only_text_passes() {
    let check = |name, transport| {
        let request = request(HubProtocol::from_name(name), 1);
        request.check_transport(transport)
    };
    for name in ["MessagePack", "blazorpack"] {
        let error = check(name, Transport::ServerSentEvents).unwrap_err();
        let name = name.to_ascii_lowercase();
        let text = format!(
            "Cannot use the '{name}' protocol on the current transport. The transport does not support 'Binary' transfer format."
        );
        assert_eq!(error.public_text(), text);
    }
    for name in ["json", "own"] {
        assert_eq!(check(name, Transport::ServerSentEvents), Ok(()));
    }
    for transport in [Transport::WebSockets, Transport::LongPolling] {
        assert_eq!(check("messagepack", transport), Ok(()));
    }
}

#[test]
fn messages_equal_those_of_aspnet_core() {
    let (json, messagepack) = (&HubProtocol::Json, &HubProtocol::MessagePack);
    assert_eq!(ping_message(json), b"{\"type\":6}\x1e");
    assert_eq!(ping_message(messagepack), [0x02, 0x91, 0x06]);
    assert_eq!(close_message(json, None, false), b"{\"type\":7}\x1e");
    assert_eq!(
        close_message(json, None, true),
        b"{\"type\":7,\"allowReconnect\":true}\x1e"
    );
    assert_eq!(
        close_message(json, Some("Connection closed with an error."), true),
        b"{\"type\":7,\"error\":\"Connection closed with an error.\",\"allowReconnect\":true}\x1e"
    );
    assert_eq!(
        close_message(messagepack, None, false),
        [0x04, 0x93, 0x07, 0xc0, 0xc2]
    );
    assert_eq!(
        close_message(messagepack, Some("bye"), true),
        [0x07, 0x93, 0x07, 0xa3, b'b', b'y', b'e', 0xc3]
    );
    assert_eq!(
        close_message(&HubProtocol::BlazorPack, None, true),
        [0x04, 0x93, 0x07, 0xc0, 0xc3]
    );
    assert!(close_message(&HubProtocol::Other("own".into()), None, true).is_empty());
}

#[test]
fn a_long_close_has_a_length_of_two_bytes() {
    let text = "x".repeat(200);
    let message = close_message(&HubProtocol::MessagePack, Some(&text), false);
    // 0x93, 0x07, two bytes before the text, the text and a truth value: 205 = 1 * 128 + 77.
    assert_eq!(message[..6], [128 + 77, 1, 0x93, 0x07, 0xd9, 200]);
    assert_eq!(message.len(), 2 + 205);
}

#[test]
fn a_text_cannot_end_the_record_early() {
    assert_eq!(
        error_response("a\u{1e}\"b"),
        b"{\"error\":\"a\\u001e\\\"b\"}\x1e"
    );
}

proptest! {
    #[test]
    fn any_bytes_can_be_dealt_with(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        fuzz_hub_handshake(&bytes);
    }

    #[test]
    fn anything_like_a_request_can_be_dealt_with(text in r#"[{\[]("(protocol|version|é)":("(json|own|\\u001e)"|-?[0-9]{1,20}|null|\{\}),?){0,3}[}\]]{0,2}\x1e?[a-z]{0,3}"#) {
        fuzz_hub_handshake(text.as_bytes());
    }
}

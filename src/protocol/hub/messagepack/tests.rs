//! The form of each message in MessagePack, and what is wrong with what is no message.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::*;

fn bytes(hex: &str) -> Vec<u8> {
    (0..hex.len())
        .step_by(2)
        .map(|at| u8::from_str_radix(&hex[at..at + 2], 16).unwrap())
        .collect()
}

fn invocation(id: Option<&str>, target: &str, arguments: Vec<Value>) -> HubMessage {
    HubMessage::Invocation {
        headers: Headers::new(),
        invocation_id: id.map(str::to_owned),
        target: target.to_owned(),
        arguments,
        stream_ids: Vec::new(),
    }
}

fn with_stream(mut message: HubMessage, id: &str) -> HubMessage {
    if let HubMessage::Invocation { stream_ids, .. } = &mut message {
        stream_ids.push(id.to_owned());
    }
    message
}

fn with_header(mut message: HubMessage) -> HubMessage {
    if let HubMessage::Invocation { headers, .. } = &mut message {
        headers.push(("k".into(), "v".into()));
    }
    message
}

fn stream_invocation(id: &str, target: &str, arguments: Vec<Value>) -> HubMessage {
    HubMessage::StreamInvocation {
        headers: Headers::new(),
        invocation_id: id.into(),
        target: target.into(),
        arguments,
        stream_ids: Vec::new(),
    }
}

fn item(id: &str, item: Value) -> HubMessage {
    HubMessage::StreamItem {
        headers: Headers::new(),
        invocation_id: id.into(),
        item,
    }
}

fn completion(id: &str, outcome: Outcome) -> HubMessage {
    HubMessage::Completion {
        headers: Headers::new(),
        invocation_id: id.into(),
        outcome,
    }
}

fn cancel(id: &str) -> HubMessage {
    HubMessage::CancelInvocation {
        headers: Headers::new(),
        invocation_id: id.into(),
    }
}

fn close(error: Option<&str>, allow_reconnect: bool) -> HubMessage {
    HubMessage::Close {
        error: error.map(str::to_owned),
        allow_reconnect,
    }
}

/// Records whose bytes are those which .NET writes, so they must hold in both directions.
fn written_forms() -> Vec<(String, HubMessage)> {
    let x = || vec![1.into(), "x".into()];
    let long = "y".repeat(130);
    let mut forms: Vec<(String, HubMessage)> = [
        ("029106", HubMessage::Ping),
        ("049307c0c2", close(None, false)),
        ("079307a3627965c3", close(Some("bye"), true)),
        ("0d960180c0a3466f6f9201a17890", invocation(None, "Foo", x())),
        (
            "0e960180a130a3466f6f9201a17890",
            invocation(Some("0"), "Foo", x()),
        ),
        (
            "0c960180a130a255709091a131",
            with_stream(invocation(Some("0"), "Up", vec![]), "1"),
        ),
        (
            "0e960181a16ba176c0a3466f6f9090",
            with_header(invocation(None, "Foo", vec![])),
        ),
        ("06940280a1302a", item("0", 42.into())),
        (
            "09950380a13001a26e6f",
            completion("0", Outcome::Error("no".into())),
        ),
        ("06940380a13002", completion("0", Outcome::Void)),
        (
            "07950380a130032a",
            completion("0", Outcome::Result(42.into())),
        ),
        (
            "07950380a13003c0",
            completion("0", Outcome::Result(Value::Nil)),
        ),
        (
            "0e960480a132a5436f756e74910390",
            stream_invocation("2", "Count", vec![3.into()]),
        ),
        ("05930580a132", cancel("2")),
        ("0392082a", HubMessage::Ack { sequence_id: 42 }),
        ("049209cc92", HubMessage::Sequence { sequence_id: 146 }),
        (
            "0c960180c0a15491c402010290",
            invocation(None, "T", vec![Value::Binary(vec![1, 2])]),
        ),
    ]
    .map(|(hex, message)| (hex.to_owned(), message))
    .into();
    // One length of two bytes, and one argument that is a timestamp.
    forms.push((
        format!("8c01960180c0a14291d982{}90", "79".repeat(130)),
        invocation(None, "B", vec![long.into()]),
    ));
    forms.push((
        "0e960180c0a15491d6ff6000000090".to_owned(),
        invocation(None, "T", vec![Value::Ext(-1, vec![0x60, 0, 0, 0])]),
    ));
    forms
}

#[test]
fn records_have_the_form_of_dot_net_in_both_directions() {
    for (hex, message) in written_forms() {
        let record = bytes(&hex);
        let prefix = if record.len() > 128 { 2 } else { 1 };
        assert_eq!(
            decode(&record[prefix..]),
            Ok(Some(message.clone())),
            "reading {hex}"
        );
        assert_eq!(encode(&message), record, "writing {hex}");
    }
}

/// The bodies come from Microsoft's published protocol tests.
#[test]
fn published_bodies_hold_in_both_directions() {
    for (body, message) in [
        (
            "lgGAo3h5eqZtZXRob2SQkA==",
            invocation(Some("xyz"), "method", vec![]),
        ),
        (
            "lgGAwKZtZXRob2SRKpA=",
            invocation(None, "method", vec![42.into()]),
        ),
        (
            "lgGAwKZUYXJnZXSQkatfX3Rlc3RfaWRfXw==",
            with_stream(invocation(None, "Target", vec![]), "__test_id__"),
        ),
        ("lAKAo3h5eio=", item("xyz", 42.into())),
        (
            "lQOAo3h5egGwRXJyb3Igbm90IGZvdW5kIQ==",
            completion("xyz", Outcome::Error("Error not found!".into())),
        ),
        ("lAOAo3h5egI=", completion("xyz", Outcome::Void)),
        (
            "lQOAo3h5egMq",
            completion("xyz", Outcome::Result(42.into())),
        ),
        (
            "lgSAo3h5eqZtZXRob2SRKpA=",
            stream_invocation("xyz", "method", vec![42.into()]),
        ),
        ("kwWAo3h5eg==", cancel("xyz")),
        ("kQY=", HubMessage::Ping),
        ("kwfAwg==", close(None, false)),
        ("kwfAww==", close(None, true)),
        ("kwemRXJyb3Ihwg==", close(Some("Error!"), false)),
        ("kwemRXJyb3Ihww==", close(Some("Error!"), true)),
        ("kggq", HubMessage::Ack { sequence_id: 42 }),
        ("kgnMkg==", HubMessage::Sequence { sequence_id: 146 }),
    ] {
        let body = STANDARD.decode(body).unwrap();
        assert_eq!(decode(&body), Ok(Some(message.clone())));
        assert_eq!(encode(&message)[1..], body);
    }
}

#[test]
fn forms_of_other_clients_are_read_too() {
    let foo = invocation(None, "Foo", vec![1.into(), "x".into()]);
    for (hex, message) in [
        ("9207c0", close(None, false)),
        ("950180c0a3466f6f9201a178", foo),
        (
            "950480a132a5436f756e749103",
            stream_invocation("2", "Count", vec![3.into()]),
        ),
        ("9306a17801", HubMessage::Ping),
        ("dc000106", HubMessage::Ping),
        ("960180a0a3466f6f9090", invocation(None, "Foo", vec![])),
    ] {
        assert_eq!(decode(&bytes(hex)), Ok(Some(message)), "reading {hex}");
    }
    assert_eq!(
        decode(&bytes("9163")),
        Ok(None),
        "an unknown type is skipped"
    );
}

#[test]
fn faults_are_named_as_in_dot_net() {
    for (hex, text) in [
        ("", "Reading array length for 'message' failed."),
        ("c0", "Reading array length for 'message' failed."),
        ("90", "Reading 'messageType' as Int32 failed."),
        ("9101", "Reading map length for 'headers' failed."),
        ("92012a", "Reading map length for 'headers' failed."),
        ("94018aa1", "Reading 'headers' as String failed."),
        ("9301802a", "Reading 'invocationId' as String failed."),
        (
            "960180c0c09090",
            "Null or empty target for Invocation message.",
        ),
        (
            "960180c0a09090",
            "Null or empty target for Invocation message.",
        ),
        ("940380a13004", "Invalid invocation result kind."),
        (
            "960180c0a1548190",
            "Reading array length for 'arguments' failed.",
        ),
    ] {
        assert_eq!(
            decode(&bytes(hex)).expect_err(hex).to_string(),
            text,
            "for {hex}"
        );
    }
}

#[test]
fn the_byte_that_is_never_used_is_refused_wherever_it_stands() {
    for hex in ["950180c0a15491c1", "950180c0a1549191c1", "950380a13003c1"] {
        assert!(decode(&bytes(hex)).is_err(), "{hex}");
    }
}

#[test]
fn announced_lengths_reserve_nothing() {
    for hex in [
        "9201dfffffffff",
        "950180c0a154ddffffffff",
        "950180c0a15491c6ffffffff",
        "950180c0a15491dbffffffff",
    ] {
        assert!(decode(&bytes(hex)).is_err(), "for {hex}");
    }
}

#[test]
fn deep_nesting_is_refused_and_does_not_use_up_the_stack() {
    let mut body = bytes("950180c0a154");
    body.extend(vec![0x91; 100_000]);
    assert!(decode(&body).is_err());
}

//! The form of each message in JSON, and what is wrong with what is no message.

use super::*;

fn invocation(id: Option<&str>, target: &str, arguments: Vec<Value>) -> HubMessage {
    HubMessage::Invocation {
        headers: Headers::new(),
        invocation_id: id.map(str::to_owned),
        target: target.to_owned(),
        arguments,
        stream_ids: Vec::new(),
    }
}

fn completion(outcome: Outcome) -> HubMessage {
    HubMessage::Completion {
        headers: Headers::new(),
        invocation_id: "0".into(),
        outcome,
    }
}

fn close(error: Option<&str>, allow_reconnect: bool) -> HubMessage {
    HubMessage::Close {
        error: error.map(str::to_owned),
        allow_reconnect,
    }
}

/// Messages whose JSON is that which .NET writes, so it must hold in both directions.
#[expect(clippy::too_many_lines, reason = "a table")]
fn written_forms() -> Vec<(&'static str, HubMessage)> {
    let mut with_headers = invocation(None, "Foo", vec![]);
    if let HubMessage::Invocation { headers, .. } = &mut with_headers {
        headers.push(("k".into(), "v".into()));
    }
    vec![
        (r#"{"type":6}"#, HubMessage::Ping),
        (r#"{"type":7}"#, close(None, false)),
        (r#"{"type":7,"allowReconnect":true}"#, close(None, true)),
        (
            r#"{"type":7,"error":"Connection closed with an error.","allowReconnect":true}"#,
            close(Some("Connection closed with an error."), true),
        ),
        (
            r#"{"type":1,"invocationId":"0","target":"Foo","arguments":[1,"x"]}"#,
            invocation(Some("0"), "Foo", vec![1.into(), "x".into()]),
        ),
        (
            r#"{"type":1,"headers":{"k":"v"},"target":"Foo","arguments":[]}"#,
            with_headers,
        ),
        (
            r#"{"type":2,"invocationId":"0","item":42}"#,
            HubMessage::StreamItem {
                headers: Headers::new(),
                invocation_id: "0".into(),
                item: 42.into(),
            },
        ),
        (
            r#"{"type":3,"invocationId":"0","result":42}"#,
            completion(Outcome::Result(42.into())),
        ),
        (
            r#"{"type":3,"invocationId":"0","result":null}"#,
            completion(Outcome::Result(Value::Nil)),
        ),
        (
            r#"{"type":3,"invocationId":"0"}"#,
            completion(Outcome::Void),
        ),
        (
            r#"{"type":3,"invocationId":"0","error":"Unknown hub method 'Foo'"}"#,
            completion(Outcome::Error("Unknown hub method 'Foo'".into())),
        ),
        (
            r#"{"type":4,"invocationId":"2","target":"Count","arguments":[3]}"#,
            HubMessage::StreamInvocation {
                headers: Headers::new(),
                invocation_id: "2".into(),
                target: "Count".into(),
                arguments: vec![3.into()],
                stream_ids: Vec::new(),
            },
        ),
        (
            r#"{"type":5,"invocationId":"2"}"#,
            HubMessage::CancelInvocation {
                headers: Headers::new(),
                invocation_id: "2".into(),
            },
        ),
        (
            r#"{"type":8,"sequenceId":3}"#,
            HubMessage::Ack { sequence_id: 3 },
        ),
        (
            r#"{"type":9,"sequenceId":2}"#,
            HubMessage::Sequence { sequence_id: 2 },
        ),
        (
            r#"{"type":1,"target":"é中","arguments":["\u001eb"]}"#,
            invocation(None, "é中", vec!["\u{1e}b".into()]),
        ),
    ]
}

#[test]
fn messages_have_the_form_of_dot_net_in_both_directions() {
    for (json, message) in written_forms() {
        assert_eq!(
            decode(json.as_bytes()),
            Ok(Some(message.clone())),
            "reading {json}"
        );
        assert_eq!(
            String::from_utf8(encode(&message)).unwrap(),
            format!("{json}\u{1e}")
        );
    }
}

#[test]
fn members_may_stand_in_any_order() {
    let expected = invocation(None, "Foo", vec![1.into(), "x".into()]);
    let javascript = br#"{"target":"Foo","arguments":[1,"x"],"type":1}"#;
    assert_eq!(decode(javascript), Ok(Some(expected)));

    let with_stream =
        br#"{"arguments":[],"target":"Up","streamIds":["1"],"invocationId":"0","type":1}"#;
    let Ok(Some(HubMessage::Invocation {
        stream_ids,
        invocation_id,
        ..
    })) = decode(with_stream)
    else {
        panic!("an invocation");
    };
    assert_eq!(
        (stream_ids, invocation_id),
        (vec!["1".to_owned()], Some("0".to_owned()))
    );
}

#[test]
fn unknown_members_and_types_are_skipped() {
    assert_eq!(
        decode(br#"{"extra":[{"type":1}],"type":6}"#),
        Ok(Some(HubMessage::Ping))
    );
    assert_eq!(decode(br#"{"type":99}"#), Ok(None));
    assert_eq!(
        decode(br#"{"type":1,"invocationId":"","target":"Foo","arguments":[]}"#),
        Ok(Some(invocation(None, "Foo", vec![])))
    );
}

#[test]
#[expect(clippy::too_many_lines, reason = "a table")]
fn faults_are_named_as_in_dot_net() {
    for (json, text) in [
        ("", "Error reading JSON."),
        (r#"{"type":6"#, "Error reading JSON."),
        ("{\"type\":6,\"x\":\"\u{0}\"}", "Error reading JSON."),
        (
            "null",
            "Unexpected JSON Token Type 'Null'. Expected a JSON Object.",
        ),
        (
            r#""foo""#,
            "Unexpected JSON Token Type 'String'. Expected a JSON Object.",
        ),
        (
            "[42]",
            "Unexpected JSON Token Type 'Array'. Expected a JSON Object.",
        ),
        ("{}", "Missing required property 'type'."),
        (r#"{"type":"foo"}"#, "Expected 'type' to be of type Number."),
        (
            r#"{"type":1,"invocationId":42}"#,
            "Expected 'invocationId' to be of type String.",
        ),
        (
            r#"{"type":1,"target":42}"#,
            "Expected 'target' to be of type String.",
        ),
        (
            r#"{"type":1,"arguments":[]}"#,
            "Missing required property 'target'.",
        ),
        (
            r#"{"type":1,"target":"a"}"#,
            "Missing required property 'arguments'.",
        ),
        (
            r#"{"type":1,"target":"a","arguments":{}}"#,
            "Expected 'arguments' to be of type Array.",
        ),
        (
            r#"{"type":1,"target":"a","arguments":[],"streamIds":{}}"#,
            "Expected 'streamIds' to be of type Array.",
        ),
        (
            r#"{"type":1,"headers":[]}"#,
            "Expected 'headers' to be of type StartObject.",
        ),
        (
            r#"{"type":1,"headers":{"Foo":42}}"#,
            "Expected header 'Foo' to be of type String.",
        ),
        (
            r#"{"type":2,"item":1}"#,
            "Missing required property 'invocationId'.",
        ),
        (r#"{"type":3}"#, "Missing required property 'invocationId'."),
        (
            r#"{"type":4,"target":"a","arguments":[]}"#,
            "Missing required property 'invocationId'.",
        ),
        (r#"{"type":5}"#, "Missing required property 'invocationId'."),
        (
            r#"{"type":2,"invocationId":"1"}"#,
            "Missing required property 'item'.",
        ),
        (
            r#"{"type":3,"invocationId":"1","result":1,"error":"e"}"#,
            "The 'error' and 'result' properties are mutually exclusive.",
        ),
        (r#"{"type":8}"#, "Missing required property 'sequenceId'."),
    ] {
        let error = decode(json.as_bytes()).expect_err(json);
        assert_eq!(error.to_string(), text, "for {json}");
    }
}

#[test]
fn deep_nesting_is_refused_and_does_not_use_up_the_stack() {
    let mut json = br#"{"type":1,"target":"a","arguments":"#.to_vec();
    json.extend(vec![b'['; 100_000]);
    assert_eq!(decode(&json), Err(HubMessageError::NotJson));
}

#[test]
fn values_that_json_does_not_know_are_written_as_dot_net_does() {
    for (value, json) in [
        (Value::Binary(vec![1, 2, 3]), r#""AQID""#),
        (Value::from(1.0_f64), "1"),
        (Value::from(-2.5_f64), "-2.5"),
        (Value::F32(0.1), "0.1"),
        (Value::from(f64::NAN), "null"),
        (
            Value::Map(vec![(Value::from(1), Value::from(true))]),
            r#"{"1":true}"#,
        ),
        (Value::from("it's <é>"), r#""it's <é>""#),
    ] {
        let mut out = Vec::new();
        write_value(&mut out, &value);
        assert_eq!(String::from_utf8(out).unwrap(), json);
    }
}

#[test]
fn members_of_an_argument_keep_their_order() {
    let json = br#"{"type":1,"target":"a","arguments":[{"z":1,"a":[null,true],"m":-0.5}]}"#;
    let message = decode(json).unwrap().unwrap();
    assert_eq!(encode(&message), [&json[..], b"\x1e"].concat());
}

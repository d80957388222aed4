//! What a hub's methods send, and how a client connection begins and ends.

use super::*;

/// Calls of client A, each with the frame that the SDK was recorded to send for it.
const RECORDED_SENDS: [(&str, &str, &str, &str); 9] = [
    (
        "2",
        "Caller",
        r#"["x"]"#,
        "59940791b6636c69656e74415f303030303030303030303030303081a46a736f6ec4367b2274797065223a312c22746172676574223a2272656376222c22617267756d656e7473223a5b2263616c6c6572222c2278225d7d1e80",
    ),
    (
        "3",
        "Broadcast",
        r#"["x"]"#,
        "5f940a9082a46a736f6ec4337b2274797065223a312c22746172676574223a2272656376222c22617267756d656e7473223a5b22616c6c222c2278225d7d1eab6d6573736167657061636bc41211960180c0a47265637692a3616c6ca1789080",
    ),
    (
        "4",
        "Others",
        r#"["x"]"#,
        "7c940a91b6636c69656e74415f303030303030303030303030303082a46a736f6ec4367b2274797065223a312c22746172676574223a2272656376222c22617267756d656e7473223a5b226f7468657273222c2278225d7d1eab6d6573736167657061636bc41514960180c0a47265637692a66f7468657273a1789080",
    ),
    (
        "5",
        "AllExcept",
        r#"[["clientB_00000000000000","zzz"],"x"]"#,
        "8601940a92b6636c69656e74425f3030303030303030303030303030a37a7a7a82a46a736f6ec4397b2274797065223a312c22746172676574223a2272656376222c22617267756d656e7473223a5b22616c6c657863657074222c2278225d7d1eab6d6573736167657061636bc41817960180c0a47265637692a9616c6c657863657074a1789080",
    ),
    (
        "6",
        "ToConn",
        r#"["nosuch","x"]"#,
        "68940791a66e6f7375636882a46a736f6ec4347b2274797065223a312c22746172676574223a2272656376222c22617267756d656e7473223a5b22636f6e6e222c2278225d7d1eab6d6573736167657061636bc41312960180c0a47265637692a4636f6e6ea1789080",
    ),
    (
        "7",
        "ToGroup",
        r#"["g1","x"]"#,
        "68970da267319082a46a736f6ec4357b2274797065223a312c22746172676574223a2272656376222c22617267756d656e7473223a5b2267726f7570222c2278225d7d1eab6d6573736167657061636bc41413960180c0a47265637692a567726f7570a178908090c0",
    ),
    (
        "8",
        "Groups",
        r#"[["g1","g2"],"x"]"#,
        "6b940e92a26731a2673282a46a736f6ec4367b2274797065223a312c22746172676574223a2272656376222c22617267756d656e7473223a5b2267726f757073222c2278225d7d1eab6d6573736167657061636bc41514960180c0a47265637692a667726f757073a1789080",
    ),
    (
        "9",
        "ToUser",
        r#"["bob","x"]"#,
        "649408a3626f6282a46a736f6ec4347b2274797065223a312c22746172676574223a2272656376222c22617267756d656e7473223a5b2275736572222c2278225d7d1eab6d6573736167657061636bc41312960180c0a47265637692a475736572a1789080",
    ),
    (
        "10",
        "Users",
        r#"[["bob","alice"],"x"]"#,
        "6d940992a3626f62a5616c69636582a46a736f6ec4357b2274797065223a312c22746172676574223a2272656376222c22617267756d656e7473223a5b227573657273222c2278225d7d1eab6d6573736167657061636bc41413960180c0a47265637692a57573657273a1789080",
    ),
];

#[tokio::test]
async fn calls_have_the_recorded_effects() {
    let (_service, _running, mut link) = with_client().await;
    let void = |id: &str| format!(r#"{{"type":3,"invocationId":"{id}","result":null}}"#);
    let invocation = DataMessageType::Invocation;

    link.client_sends_json(
        A,
        r#"{"target":"Echo","arguments":["hi"],"invocationId":"1","type":1}"#,
    )
    .await;
    link.expect_hex("4a9406b6636c69656e74415f3030303030303030303030303030c42c7b2274797065223a332c22696e766f636174696f6e4964223a2231222c22726573756c74223a226869227d1e810502").await;

    for (id, target, arguments, frame) in RECORDED_SENDS {
        let call = format!(
            r#"{{"type":1,"invocationId":"{id}","target":"{target}","arguments":{arguments}}}"#
        );
        link.client_sends_json(A, &call).await;
        link.expect_hex(frame).await;
        link.expect_json(A, invocation, &void(id)).await;
    }

    link.client_sends_json(
        A,
        r#"{"type":1,"invocationId":"19","target":"Fail","arguments":[]}"#,
    )
    .await;
    link.expect_hex("96019406b6636c69656e74415f3030303030303030303030303030c4787b2274797065223a332c22696e766f636174696f6e4964223a223139222c226572726f72223a22416e20756e6578706563746564206572726f72206f6363757272656420696e766f6b696e6720274661696c27206f6e20746865207365727665722e20487562457863657074696f6e3a20626f6f6d227d1e810502").await;
}

#[tokio::test]
async fn a_join_is_done_when_the_service_has_acknowledged_it() {
    let (_service, _running, mut link) = with_client().await;
    link.client_sends_json(
        A,
        r#"{"type":1,"invocationId":"1","target":"Join","arguments":["g1"]}"#,
    )
    .await;
    link.expect_hex("1e9512b6636c69656e74415f3030303030303030303030303030a267310180")
        .await;
    link.send(Message::from(Ack {
        ack_id: 1,
        status: AckStatus::Ok,
        ..Ack::default()
    }))
    .await;
    link.expect_json(
        A,
        DataMessageType::Invocation,
        r#"{"type":3,"invocationId":"1","result":"joined"}"#,
    )
    .await;
}

#[tokio::test]
async fn errors_have_the_texts_of_dot_net() {
    let (_service, _running, mut link) = with_client().await;
    for (target, arguments, error) in [
        (
            "Nope",
            "[]",
            "Failed to invoke 'Nope' due to an error on the server. HubException: Method does not exist.",
        ),
        (
            "Crash",
            "[]",
            "An unexpected error occurred invoking 'Crash' on the server. InvalidOperationException: crash",
        ),
        (
            "Echo",
            "[]",
            "Failed to invoke 'Echo' due to an error on the server. InvalidDataException: Invocation provides 0 argument(s) but target expects 1.",
        ),
        (
            "Count",
            "[1]",
            "The client attempted to invoke the streaming 'Count' method with a non-streaming invocation.",
        ),
    ] {
        // Without an id no answer is wanted, not even that of an error.
        let silent = format!(r#"{{"type":1,"target":"{target}","arguments":{arguments}}}"#);
        link.client_sends_json(A, &silent).await;
        let call = format!(
            r#"{{"type":1,"invocationId":"1","target":"{target}","arguments":{arguments}}}"#
        );
        link.client_sends_json(A, &call).await;
        let answer = format!(r#"{{"type":3,"invocationId":"1","error":"{error}"}}"#);
        link.expect_json(A, DataMessageType::Invocation, &answer)
            .await;
    }
    link.client_sends_json(
        A,
        r#"{"type":4,"invocationId":"1","target":"Echo","arguments":["x"]}"#,
    )
    .await;
    link.expect_json(
        A,
        DataMessageType::Invocation,
        r#"{"type":3,"invocationId":"1","error":"The client attempted to invoke the non-streaming 'Echo' method with a streaming invocation."}"#,
    )
    .await;
}

#[tokio::test]
async fn streams_go_out_come_in_and_can_be_cancelled() {
    let (_service, _running, mut link) = with_client().await;
    let invocation = DataMessageType::Invocation;
    link.client_sends_json(
        A,
        r#"{"type":4,"invocationId":"20","target":"Count","arguments":[2]}"#,
    )
    .await;
    for json in [
        r#"{"type":2,"invocationId":"20","item":0}"#,
        r#"{"type":2,"invocationId":"20","item":1}"#,
        r#"{"type":3,"invocationId":"20"}"#,
    ] {
        link.expect_json(A, invocation, json).await;
    }

    link.client_sends_json(
        A,
        r#"{"type":4,"invocationId":"21","target":"Ticks","arguments":[60000]}"#,
    )
    .await;
    link.expect_json(A, invocation, r#"{"type":2,"invocationId":"21","item":0}"#)
        .await;
    link.client_sends_json(A, r#"{"type":5,"invocationId":"21"}"#)
        .await;
    link.expect_json(A, invocation, r#"{"type":3,"invocationId":"21"}"#)
        .await;

    for json in [
        r#"{"type":1,"invocationId":"22","target":"Sum","arguments":[],"streamIds":["s1"]}"#,
        r#"{"type":2,"invocationId":"s1","item":40}"#,
        r#"{"type":2,"invocationId":"s1","item":2}"#,
        r#"{"type":2,"invocationId":"nosuch","item":2}"#,
        r#"{"type":3,"invocationId":"s1"}"#,
    ] {
        link.client_sends_json(A, json).await;
    }
    link.expect_json(
        A,
        invocation,
        r#"{"type":3,"invocationId":"22","result":42}"#,
    )
    .await;

    for json in [
        r#"{"type":4,"invocationId":"23","target":"Upper","arguments":[],"streamIds":["s2"]}"#,
        r#"{"type":2,"invocationId":"s2","item":"a"}"#,
        r#"{"type":3,"invocationId":"s2","error":"enough"}"#,
    ] {
        link.client_sends_json(A, json).await;
    }
    link.expect_json(
        A,
        invocation,
        r#"{"type":2,"invocationId":"23","item":"A"}"#,
    )
    .await;
    link.expect_json(
        A,
        invocation,
        r#"{"type":3,"invocationId":"23","error":"An error occurred on the server while streaming results. HubException: enough"}"#,
    )
    .await;
}

/// A stream whose method does not keep up stops its client's messages, and nothing is lost.
#[tokio::test]
async fn a_stream_with_more_than_fits_arrives_whole() {
    let (_service, _running, mut link) = with_client().await;
    link.client_sends_json(
        A,
        r#"{"type":1,"invocationId":"1","target":"Sum","arguments":[],"streamIds":["s"]}"#,
    )
    .await;
    let items = r#"{"type":2,"invocationId":"s","item":1}"#.to_owned() + "\u{1e}";
    link.client_sends(A, items.repeat(20_000).as_bytes()).await;
    link.client_sends_json(A, r#"{"type":3,"invocationId":"s"}"#)
        .await;
    link.expect_json(
        A,
        DataMessageType::Invocation,
        r#"{"type":3,"invocationId":"1","result":20000}"#,
    )
    .await;
}

/// Calls that a client makes without waiting start in order, however many run at a time, and none is lost.
#[tokio::test]
async fn sends_of_one_client_keep_their_order() {
    let (_service, _running, mut link) = with_client().await;
    let mut calls = String::new();
    for n in 0..300 {
        let call = format!(r#"{{"type":1,"target":"Broadcast","arguments":["{n:03}"]}}"#);
        calls.push_str(&call);
        calls.push('\u{1e}');
    }
    link.client_sends(A, calls.as_bytes()).await;
    for n in 0..300 {
        let frame = link.next_framed().await;
        let expected = format!("\"{n:03}\"");
        assert!(
            frame
                .windows(expected.len())
                .any(|part| part == expected.as_bytes()),
            "{n}: {}",
            text(&frame)
        );
    }
}

/// More calls than may run at a time wait, and a call that needs the client's own answer is not among the stuck.
#[tokio::test]
async fn calls_beyond_the_bound_wait_their_turn() {
    let (_service, _running, mut link) = with_client().await;
    for n in 0..12 {
        let call =
            format!(r#"{{"type":1,"invocationId":"{n}","target":"AskMe","arguments":["{n}"]}}"#);
        link.client_sends_json(A, &call).await;
    }
    let mut answered = 0;
    while answered < 12 {
        let frame = link.next_framed().await;
        match decode_whole(&frame[prefix_bytes(&frame)..]) {
            Ok(Message::ClientInvocation(question)) => {
                let id = &question.invocation_id;
                let answer = format!(r#"{{"type":3,"invocationId":"{id}","result":"yes"}}"#);
                link.client_sends_json(A, &answer).await;
            }
            Ok(Message::ClientCompletion(_)) => {}
            Ok(Message::ConnectionData(data)) => {
                assert!(data.payload.ends_with(b"\"result\":\"yes\"}\x1e"));
                answered += 1;
            }
            other => panic!("{other:?}"),
        }
    }
}

#[tokio::test]
async fn a_client_is_let_go_as_recorded() {
    let (_service, _running, mut link) = with_client().await;
    let close = DataMessageType::Close;

    // Abort of a MessagePack client: Close, then the service is told.
    link.open(B, "messagepack").await;
    link.client_sends(B, b"\x0f\x96\x01\x80\xa1\x31\xa7AbortMe\x90\x90")
        .await;
    link.expect_hex("239406b6636c69656e74425f3030303030303030303030303030c405049307c0c2810504")
        .await;
    link.expect_hex("1c9505b6636c69656e74425f3030303030303030303030303030a08080")
        .await;

    // The client says goodbye.
    link.client_sends_json(A, r#"{"type":7}"#).await;
    link.expect_json(A, close, r#"{"type":7}"#).await;
    link.expect(Message::from(CloseConnection::of(A))).await;

    // The client leaves: its last calls still count, then a Close that the service drops.
    link.open("c", "json").await;
    link.client_sends_json("c", r#"{"type":1,"target":"ToConn","arguments":["c","x"]}"#)
        .await;
    link.client_leaves("c").await;
    let frame = link.next_framed().await;
    assert!(frame.windows(4).any(|part| part == b"conn"));
    link.expect_json("c", close, r#"{"type":7,"allowReconnect":true}"#)
        .await;

    // The client does not keep to the protocol.
    link.open("d", "json").await;
    link.client_sends_json("d", "{}").await;
    link.expect_json("d", close, r#"{"type":7,"error":"Connection closed with an error. InvalidDataException: Missing required property 'type'.","allowReconnect":true}"#).await;
    link.expect(Message::from(CloseConnection::of("d"))).await;
}

#[tokio::test]
async fn a_bad_handshake_is_answered_with_its_error() {
    let (_service, _running, mut link) = with_client().await;
    for (request, error) in [
        (
            r#"{"protocol":"foo","version":1}"#,
            "The protocol 'foo' is not supported.",
        ),
        (
            r#"{"protocol":"json","version":3}"#,
            "The server does not support version 3 of the 'json' protocol.",
        ),
    ] {
        link.announce("x", "json").await;
        link.client_sends_json("x", request).await;
        let json = format!(r#"{{"error":"{error}"}}"#);
        link.expect_json("x", DataMessageType::Handshake, &json)
            .await;
        link.expect(Message::from(CloseConnection::of("x"))).await;
    }
}

//! Results that hub methods ask of clients, here and at other app servers.

use super::*;
use crate::protocol::service::{
    ClientCompletion, ClientInvocation, ErrorCompletion, ServiceMapping,
};

#[tokio::test]
async fn a_client_of_this_process_gives_a_result() {
    let (_service, _running, mut link) = with_client().await;
    link.client_sends_json(
        A,
        r#"{"type":1,"invocationId":"1","target":"AskMe","arguments":["q"]}"#,
    )
    .await;
    let question = link.next_framed().await;
    let id = invocation_id(&question);
    assert!(id.starts_with(A) && id.ends_with("-1"));
    link.client_sends_json(
        A,
        &format!(r#"{{"invocationId":"{id}","result":"a","type":3}}"#),
    )
    .await;
    let settled = link.next_framed().await;
    let Ok(Message::ClientCompletion(settled)) = decode_whole(&settled[prefix_bytes(&settled)..])
    else {
        panic!("the service is told that the matter is settled");
    };
    assert_eq!((&*settled.invocation_id, settled.payload), (&*id, &b""[..]));
    link.expect_json(
        A,
        DataMessageType::Invocation,
        r#"{"type":3,"invocationId":"1","result":"a"}"#,
    )
    .await;
}

#[tokio::test]
async fn a_client_elsewhere_that_is_not_there_is_an_error() {
    let (_service, _running, mut link) = with_client().await;
    link.client_sends_json(
        A,
        r#"{"type":1,"invocationId":"1","target":"Ask","arguments":["nosuch"]}"#,
    )
    .await;
    let question = link.next_framed().await;
    let id = invocation_id(&question);
    link.send(Message::from(ErrorCompletion {
        invocation_id: id.into(),
        connection_id: "nosuch".into(),
        error: "Connection nosuch not found".into(),
        ..ErrorCompletion::default()
    }))
    .await;
    link.expect_json(
        A,
        DataMessageType::Invocation,
        r#"{"type":3,"invocationId":"1","error":"An unexpected error occurred invoking 'Ask' on the server. HubException: Connection nosuch not found"}"#,
    )
    .await;
}

#[tokio::test]
async fn a_result_that_another_app_server_waits_for_goes_to_the_service() {
    let (_service, running, mut link) = with_client().await;
    link.send(Message::from(ClientInvocation {
        invocation_id: "theirs".into(),
        connection_id: A.into(),
        caller_server_id: "another".into(),
        payloads: std::iter::empty::<(&str, &[u8])>().collect(),
        tracing_id: None,
    }))
    .await;
    link.client_sends_json(A, r#"{"type":3,"invocationId":"theirs","result":7}"#)
        .await;
    let answer = link.next_framed().await;
    let Ok(Message::ClientCompletion(answer)) = decode_whole(&answer[prefix_bytes(&answer)..])
    else {
        panic!("a completion for the service");
    };
    assert_eq!(
        answer.payload,
        b"{\"type\":3,\"invocationId\":\"theirs\",\"result\":7}\x1e"
    );
    assert_eq!(
        answer.caller_server_id,
        running.app_server.hubs[0].process.server_id
    );
}

/// Client A asks a client of another app server; gives the invocation's id.
async fn ask_elsewhere(link: &mut Link) -> String {
    let call = r#"{"type":1,"invocationId":"1","target":"Ask","arguments":["elsewhere"]}"#;
    link.client_sends_json(A, call).await;
    invocation_id(&link.next_framed().await)
}

#[tokio::test]
async fn the_client_of_another_app_server_answers() {
    let (_service, _running, mut link) = with_client().await;
    let id = ask_elsewhere(&mut link).await;
    link.send(Message::from(ServiceMapping {
        invocation_id: id.as_str().into(),
        connection_id: "elsewhere".into(),
        instance_id: "i1".into(),
    }))
    .await;
    let mut answer = ClientCompletion {
        invocation_id: id.as_str().into(),
        connection_id: "another".into(),
        caller_server_id: "its own app server".into(),
        protocol: Some("messagepack".into()),
        payload: &[][..],
        tracing_id: None,
    };
    let record = [
        b"\x95\x03\x80\xd9",
        &[id.len() as u8][..],
        id.as_bytes(),
        b"\x03\xa1y",
    ]
    .concat();
    let payload = [&[record.len() as u8][..], &record].concat();
    answer.payload = &payload;
    // Only the client that was asked may answer.
    link.send(Message::from(answer.clone())).await;
    link.expect_nothing().await;
    answer.connection_id = "elsewhere".into();
    link.send(Message::from(answer)).await;
    let result = r#"{"type":3,"invocationId":"1","result":"y"}"#;
    link.expect_json(A, DataMessageType::Invocation, result)
        .await;
    link.expect_nothing().await;
}

#[tokio::test]
async fn a_service_process_that_is_lost_fails_what_its_clients_were_asked() {
    let (_service, _running, mut link) = with_client().await;
    let id = ask_elsewhere(&mut link).await;
    link.send(Message::from(ServiceMapping {
        invocation_id: id.into(),
        connection_id: "elsewhere".into(),
        instance_id: "i1".into(),
    }))
    .await;
    link.ping(&["offline", "i2"]).await;
    link.expect_nothing().await;
    link.ping(&["offline", "i1"]).await;
    let error = r#"{"type":3,"invocationId":"1","error":"An unexpected error occurred invoking 'Ask' on the server. HubException: Connection 'elsewhere' is disconnected."}"#;
    link.expect_json(A, DataMessageType::Invocation, error)
        .await;
}

#[tokio::test]
async fn a_question_that_is_given_up_is_no_news_to_anybody() {
    let (_service, running, mut link) = with_client().await;
    running.is_complete().await;
    let clients = running.app_server.clients("chat").unwrap();
    let recipient = clients.connection("elsewhere");
    let question = recipient.invoke("question", ["q".into()]);
    timeout(Duration::from_millis(20), question)
        .await
        .unwrap_err();
    let id = invocation_id(&link.next_framed().await);
    // The answer comes too late.
    link.send(Message::from(ErrorCompletion {
        invocation_id: id.into(),
        connection_id: "elsewhere".into(),
        ..ErrorCompletion::default()
    }))
    .await;
    link.expect_nothing().await;
}

#[tokio::test]
async fn a_question_for_a_client_that_is_not_here_is_not_kept() {
    let (_service, running, mut link) = with_client().await;
    for connection_id in ["nosuch", A] {
        link.send(Message::from(ClientInvocation {
            invocation_id: "theirs".into(),
            connection_id: connection_id.into(),
            caller_server_id: "another".into(),
            payloads: std::iter::empty::<(&str, &[u8])>().collect(),
            tracing_id: None,
        }))
        .await;
        link.expect_nothing().await;
        let results = &running.app_server.hubs[0].process.results;
        assert_eq!(
            results.take_route("theirs", connection_id),
            connection_id == A
        );
    }
}

//! An app server with more than one endpoint of the service.

use super::*;
use crate::app_server::{EndpointKind, SendError};
use crate::protocol::service::{ClientCompletion, ClientInvocation, ErrorCompletion};

const WEAK_HANDSHAKE: &str = "0897010102a00080c2";

/// An app server between a primary and a secondary endpoint, one server connection to each.
async fn with_two() -> ([Service; 2], Running, [Link; 2]) {
    let services = [Service::start().await, Service::start().await];
    let secondary = services[1].connection_string();
    let running = services[0].app_server_with(|builder| builder.secondary_endpoint(&secondary));
    let links = [
        services[0].accept_and_shake_hands().await,
        services[1].accept_and_expect(WEAK_HANDSHAKE).await,
    ];
    running.is_complete().await;
    (services, running, links)
}

#[tokio::test]
async fn what_anybody_may_be_meant_by_goes_to_every_endpoint() {
    let (_services, running, mut links) = with_two().await;
    let clients = running.app_server.clients("chat").unwrap();
    let nothing = || std::iter::empty::<crate::app_server::Value>();
    clients.all().send("x", nothing()).await.unwrap();
    clients.group("g").send("x", nothing()).await.unwrap();
    clients.user("u").send("x", nothing()).await.unwrap();
    clients
        .connection("unknown")
        .send("x", nothing())
        .await
        .unwrap();
    for link in &mut links {
        for number in [10, 13, 8, 7] {
            let frame = link.next_framed().await;
            let message = decode_whole(&frame[prefix_bytes(&frame)..]).unwrap();
            assert_eq!(message.message_type().unwrap().number(), number);
        }
        link.expect_nothing().await;
    }
}

#[tokio::test]
async fn what_is_for_an_own_client_takes_its_way_alone() {
    let (_services, running, [mut primary, mut secondary]) = with_two().await;
    primary.open(A, "json").await;
    secondary.open(B, "json").await;
    let clients = running.app_server.clients("chat").unwrap();
    for (id, here, there) in [(A, &mut primary, &mut secondary)] {
        clients.connection(id).send("x", []).await.unwrap();
        assert!(text(&here.next_framed().await).contains(id));
        there.expect_nothing().await;
    }
    clients.connection(B).send("x", []).await.unwrap();
    assert!(text(&secondary.next_framed().await).contains(B));
    primary.expect_nothing().await;
}

#[tokio::test]
async fn one_yes_is_enough() {
    let (_services, running, mut links) = with_two().await;
    let groups = running.app_server.groups("chat").unwrap();
    for (statuses, expected) in [
        ([AckStatus::NotFound, AckStatus::Ok], true),
        ([AckStatus::NotFound, AckStatus::NotFound], false),
        ([AckStatus::InternalServerError, AckStatus::Ok], true),
    ] {
        let groups = groups.clone();
        let joined = tokio::spawn(async move { groups.add("c", "g").await });
        let mut ids = Vec::new();
        for link in &mut links {
            let frame = link.next_framed().await;
            match decode_whole(&frame[prefix_bytes(&frame)..]) {
                Ok(Message::JoinGroupWithAck(join)) => ids.push(join.ack_id),
                other => panic!("a join was expected: {other:?}"),
            }
        }
        assert_ne!(ids[0], ids[1], "each has an ack of its own");
        for ((link, status), id) in links.iter_mut().zip(statuses).zip(ids) {
            link.acknowledge(id, status).await;
        }
        assert_eq!(joined.await.unwrap(), Ok(expected));
    }
}

/// A user may have connections at each of them, so what is sent afterwards must find the change at each.
#[tokio::test]
async fn what_concerns_a_user_is_done_when_every_endpoint_has_done_it() {
    let (_services, running, mut links) = with_two().await;
    let groups = running.app_server.groups("chat").unwrap();
    for (last, is_done) in [
        (AckStatus::Ok, true),
        (AckStatus::InternalServerError, false),
    ] {
        let groups = groups.clone();
        let joined = tokio::spawn(async move { groups.add_user("u", "g", None).await });
        let mut ids = Vec::new();
        for link in &mut links {
            let frame = link.next_framed().await;
            match decode_whole(&frame[prefix_bytes(&frame)..]) {
                Ok(Message::UserJoinGroupWithAck(join)) => ids.push(join.ack_id),
                other => panic!("a join was expected: {other:?}"),
            }
        }
        links[0].acknowledge(ids[0], AckStatus::Ok).await;
        links[0].expect_nothing().await;
        assert!(!joined.is_finished(), "the other has not answered");
        links[1].acknowledge(ids[1], last).await;
        assert_eq!(joined.await.unwrap().is_ok(), is_done);
    }
}

#[tokio::test]
async fn a_question_for_a_client_waits_for_every_endpoint() {
    let (_services, running, mut links) = with_two().await;
    let clients = running.app_server.clients("chat").unwrap();
    let ask = || {
        let recipient = clients.connection("elsewhere");
        tokio::spawn(async move { recipient.invoke("question", ["q".into()]).await })
    };
    let not_here = |id: &str| {
        Message::from(ErrorCompletion {
            invocation_id: id.to_owned().into(),
            connection_id: "elsewhere".into(),
            error: "not here".into(),
            ..ErrorCompletion::default()
        })
    };

    let asked = ask();
    let id = invocation_id(&links[0].next_framed().await);
    assert_eq!(invocation_id(&links[1].next_framed().await), id);
    links[0].send(not_here(&id)).await;
    links[0].expect_nothing().await;
    let payload = format!("{{\"type\":3,\"invocationId\":\"{id}\",\"result\":\"y\"}}\u{1e}");
    let answer = ClientCompletion {
        invocation_id: id.into(),
        connection_id: "elsewhere".into(),
        caller_server_id: "another".into(),
        protocol: Some("json".into()),
        payload: payload.as_bytes(),
        tracing_id: None,
    };
    links[1].send(Message::from(answer)).await;
    assert_eq!(asked.await.unwrap(), Ok("y".into()));

    let asked = ask();
    for link in &mut links {
        let id = invocation_id(&link.next_framed().await);
        link.send(not_here(&id)).await;
    }
    let error = asked.await.unwrap().unwrap_err();
    assert_eq!(error.to_string(), "HubException: not here");
}

/// Whoever was asked hears that the matter is settled, and a question of another app server is answered where it came from.
#[tokio::test]
async fn an_own_clients_result_is_settled_with_every_endpoint() {
    let (_services, _running, [mut primary, mut secondary]) = with_two().await;
    primary.open(A, "json").await;
    let call = r#"{"type":1,"invocationId":"1","target":"AskMe","arguments":["q"]}"#;
    primary.client_sends_json(A, call).await;
    let id = invocation_id(&primary.next_framed().await);
    assert_eq!(invocation_id(&secondary.next_framed().await), id);
    let answer = format!(r#"{{"type":3,"invocationId":"{id}","result":"a"}}"#);
    primary.client_sends_json(A, &answer).await;
    for link in [&mut primary, &mut secondary] {
        let frame = link.next_framed().await;
        match decode_whole(&frame[prefix_bytes(&frame)..]) {
            Ok(Message::ClientCompletion(settled)) => assert!(settled.payload.is_empty()),
            other => panic!("a completion was expected: {other:?}"),
        }
    }
    let result = r#"{"type":3,"invocationId":"1","result":"a"}"#;
    primary
        .expect_json(A, DataMessageType::Invocation, result)
        .await;

    let theirs = ClientInvocation {
        invocation_id: "theirs".into(),
        connection_id: A.into(),
        caller_server_id: "another".into(),
        payloads: std::iter::empty::<(&str, &[u8])>().collect(),
        tracing_id: None,
    };
    primary.send(Message::from(theirs)).await;
    let answer = r#"{"type":3,"invocationId":"theirs","result":7}"#;
    primary.client_sends_json(A, answer).await;
    primary.next_framed().await;
    secondary.expect_nothing().await;
}

#[tokio::test]
async fn clients_go_to_the_secondary_endpoint_only_while_no_other_is_online() {
    let (services, running, [primary, mut secondary]) = with_two().await;
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let app = listener.local_addr().unwrap();
    tokio::spawn(axum::serve(listener, running.app_server.router()).into_future());
    let port = |service: &Service| service.listener.local_addr().unwrap().port();
    let url = |port: u16| format!("http://127.0.0.1:{port}/client/?hub=chat");
    for _ in 0..10 {
        let answer = connections::negotiate(app).await;
        assert!(answer.contains(&url(port(&services[0]))), "{answer}");
    }
    // A rebalance is none of a weak connection's business.
    secondary.ping(&["target", "i1"]).await;
    drop(primary);
    let state = || running.app_server.states()[0].endpoints.clone();
    assert_eq!(
        state().iter().map(|state| state.kind).collect::<Vec<_>>(),
        [EndpointKind::Primary, EndpointKind::Secondary]
    );
    // The connection comes back only after a second or so, since it has not lasted.
    while state()[0].is_online {
        tokio::task::yield_now().await;
    }
    let answer = connections::negotiate(app).await;
    assert!(answer.contains(&url(port(&services[1]))), "{answer}");
    // What it was asked for would have come by now.
    secondary.expect_nothing().await;
    assert_eq!(state()[1].server_connections.len(), 1);
}

#[tokio::test]
async fn weak_connections_are_closed_without_an_announcement() {
    let (_services, running, [mut primary, mut secondary]) = with_two().await;
    running.stop.send(()).unwrap();
    primary
        .expect_hex("119303a873687574646f776ea566696e3a30")
        .await;
    secondary.expect_nothing().await;
    primary.ping(&["shutdown", "finack"]).await;
    tokio::join!(primary.expect_closed(), secondary.expect_closed());
    timeout(PATIENCE, running.task).await.unwrap().unwrap();
}

#[tokio::test]
async fn an_endpoint_that_is_not_there_does_not_hold_up_the_other() {
    let gone = Service::start().await;
    let nowhere = gone.connection_string();
    drop(gone);
    let service = Service::start().await;
    let running = service.app_server_with(|builder| builder.endpoint(&nowhere));
    let mut link = service.accept_and_shake_hands().await;
    let clients = running.app_server.clients("chat").unwrap();
    while clients.all().send("x", []).await == Err(SendError::NoServerConnection) {
        tokio::task::yield_now().await;
    }
    link.next_framed().await;
}

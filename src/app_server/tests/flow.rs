//! What a client sends in parts, and a client or a whole connection whose output the service holds up.

use super::*;
use crate::app_server::SendError;
use crate::protocol::service::{
    ConnectionFlowControl, ConnectionReconnect, FlowControlOperation as Operation,
    FlowControlTarget as Target, ServiceError,
};

impl Link {
    async fn control(&mut self, id: &str, target: Target, operation: Operation) {
        self.send(Message::from(ConnectionFlowControl {
            connection_id: id.to_owned().into(),
            target,
            operation,
        }))
        .await;
    }

    async fn client_sends_part(&mut self, part: &[u8]) {
        self.send(Message::from(ConnectionData {
            connection_id: A.into(),
            payload: part,
            is_partial: true,
            ..ConnectionData::default()
        }))
        .await;
    }
}

const ECHO: &[u8] =
    b"{\"type\":1,\"invocationId\":\"1\",\"target\":\"Echo\",\"arguments\":[\"x\"]}\x1e";

const ECHOED: &str = r#"{"type":3,"invocationId":"1","result":"x"}"#;

#[tokio::test]
async fn parts_are_held_until_the_last_has_come() {
    let (_service, _running, mut link) = with_client().await;
    let (first, rest) = ECHO.split_at(20);
    // Even what is a whole message by itself waits.
    link.client_sends_part(ECHO).await;
    link.client_sends_part(first).await;
    link.expect_nothing().await;
    link.client_sends(A, rest).await;
    link.expect_json(A, DataMessageType::Invocation, ECHOED)
        .await;
    link.expect_json(A, DataMessageType::Invocation, ECHOED)
        .await;
}

#[tokio::test]
async fn parts_whose_rest_will_not_come_are_dropped() {
    let (_service, _running, mut link) = with_client().await;
    link.client_sends_part(b"{\"type\":").await;
    link.send(Message::from(ConnectionReconnect {
        connection_id: A.into(),
    }))
    .await;
    link.client_sends(A, ECHO).await;
    link.expect_json(A, DataMessageType::Invocation, ECHOED)
        .await;
    link.expect_nothing().await;
}

#[tokio::test]
async fn parts_without_end_cost_the_client() {
    let (_service, _running, mut link) = with_client().await;
    let part = vec![b' '; 1 << 20];
    for _ in 0..5 {
        link.client_sends_part(&part).await;
    }
    let goodbye = r#"{"type":7,"error":"Connection closed with an error. The client sends too fast.","allowReconnect":true}"#;
    link.expect_json(A, DataMessageType::Close, goodbye).await;
    link.expect(Message::from(CloseConnection::of(A))).await;
}

#[tokio::test]
async fn a_pause_holds_a_clients_output_and_a_resume_moves_it() {
    let service = Service::start().await;
    let running = service.app_server(2);
    let mut first = service.accept_and_shake_hands().await;
    let mut second = service.accept_and_shake_hands().await;
    running.is_complete().await;
    first.open(A, "json").await;
    // From where it is not, a client cannot be paused.
    second.control(A, Target::Client, Operation::Pause).await;
    second.expect_nothing().await;
    first.control(A, Target::Client, Operation::Pause).await;
    let paused = ConnectionFlowControl {
        connection_id: A.into(),
        target: Target::Client,
        operation: Operation::PauseAck,
    };
    first.expect(Message::from(paused)).await;
    first.control(A, Target::Client, Operation::Pause).await;
    first.client_sends(A, ECHO).await;
    first.expect_nothing().await;

    // What anybody sends to the client is not its output.
    let clients = running.app_server.clients("chat").unwrap();
    clients.connection(A).send("x", []).await.unwrap();
    assert!(text(&first.next_framed().await).contains("MultiConnectionData"));

    second.control(A, Target::Client, Operation::Resume).await;
    second
        .expect_json(A, DataMessageType::Invocation, ECHOED)
        .await;
    clients.connection(A).send("x", []).await.unwrap();
    second.next_framed().await;
    // The connection that it was on before is nothing to it any more.
    drop(first);
    second.client_sends(A, ECHO).await;
    second
        .expect_json(A, DataMessageType::Invocation, ECHOED)
        .await;
}

#[tokio::test]
async fn flow_controls_that_make_no_sense_are_ignored() {
    let (_service, _running, mut link) = with_client().await;
    let cid = link.cid();
    for (id, target, operation) in [
        (A, Target::Client, Operation::Resume),
        (A, Target::Client, Operation::PauseAck),
        (A, Target::Client, Operation::Offline),
        ("nosuch", Target::Client, Operation::Pause),
        ("nosuch", Target::Client, Operation::Resume),
        ("nosuch", Target::Server, Operation::Offline),
        (&cid, Target::Server, Operation::Pause),
    ] {
        link.control(id, target, operation).await;
    }
    link.client_sends(A, ECHO).await;
    link.expect_json(A, DataMessageType::Invocation, ECHOED)
        .await;
    link.expect_nothing().await;
}

#[tokio::test]
async fn a_paused_client_can_leave() {
    let (_service, running, mut link) = with_client().await;
    link.control(A, Target::Client, Operation::Pause).await;
    link.next_framed().await;
    link.client_sends(A, ECHO).await;
    link.client_leaves(A).await;
    running.has_clients(0).await;
    link.expect_nothing().await;
}

/// Both ways in which the service withdraws a connection: nothing but keep-alives is written there, and sends find another one.
#[tokio::test]
async fn a_withdrawn_connection_is_read_but_not_written() {
    for offline in [true, false] {
        let service = Service::start().await;
        let running = service.app_server(2);
        let mut withdrawn = service.accept_and_shake_hands().await;
        let mut other = service.accept_and_shake_hands().await;
        running.is_complete().await;
        withdrawn.open(A, "json").await;
        if offline {
            let cid = withdrawn.cid();
            withdrawn
                .control(&cid, Target::Server, Operation::Offline)
                .await;
        } else {
            withdrawn
                .send(Message::from(ServiceError {
                    error_message: "".into(),
                }))
                .await;
            withdrawn
                .send(Message::from(ServiceError {
                    error_message: "no more".into(),
                }))
                .await;
        }
        withdrawn.client_sends(A, ECHO).await;
        withdrawn.expect_nothing().await;
        let clients = running.app_server.clients("chat").unwrap();
        for recipients in ["a", "b", "c", "d"].map(|group| clients.group(group)) {
            recipients.send("x", []).await.unwrap();
            other.next_framed().await;
        }
        clients.connection(A).send("x", []).await.unwrap();
        other.next_framed().await;
        assert_eq!(running.app_server.states()[0].clients, 1);

        drop(withdrawn);
        running.has_clients(0).await;
        other
            .send(Message::from(ServiceError {
                error_message: "neither".into(),
            }))
            .await;
        other.expect_nothing().await;
        let none = clients.all().send("x", []).await;
        assert_eq!(none, Err(SendError::NoServerConnection));
    }
}

//! What the service does not do: whoever waits for a word is told so, and the rest is passed over.

use super::messages::{ack, broadcast, join, mapping};
use super::*;
use crate::protocol::service::{
    AccessKeyRequest, AccessKeyResponse, Ack, AckStatus, BroadcastData, ConnectionFlowControl,
    ConnectionReconnect, FlowControlOperation, FlowControlTarget, GetConnectionClaims,
    GroupBroadcastData, HandshakeResponse, OpenConnection, RefreshAuth, ServiceError, ServiceEvent,
    Texts, Timestamp, UpdateConnectionClaims, UserData,
};

#[test]
fn an_app_server_that_asks_for_an_access_key_is_told_that_there_is_none() {
    let mut world = World::new(1);
    let server = world.server(0, CHAT, "app");
    let request = AccessKeyRequest {
        token: "eyJhbGciOiJSUzI1NiJ9.eyJmYWtlIjoxfQ.c2ln".into(),
        kid: None,
    };
    world.send(server, request);
    let error = "Microsoft Entra ID is not supported by this service; use an access key.";
    let refusal = AccessKeyResponse {
        error_type: Some("NotSupported".into()),
        error_message: Some(error.into()),
        ..AccessKeyResponse::default()
    };
    assert_eq!(world.take(server), [refusal.into()]);
    assert_eq!(world.counters[0].service_messages_skipped.value(), 1);
}

#[test]
fn claims_are_those_of_a_connection_that_is_not_there() {
    let mut world = World::new(2);
    let server = world.server(0, CHAT, "app");
    let get = GetConnectionClaims {
        connection_token: "token".into(),
        ack_id: 1,
    };
    let refresh = RefreshAuth {
        connection_token: "token".into(),
        claims: Vec::new(),
        expire_time: Timestamp::LATEST,
        ack_id: 2,
    };
    world.send(server, get);
    world.send(server, refresh);
    let refusal = |ack_id| {
        let error = "This service does not renew the authentication of clients.";
        Ack {
            ack_id,
            status: AckStatus::NotFound,
            message: error.into(),
            payload: None,
        }
    };
    assert_eq!(world.take(server), [refusal(1).into(), refusal(2).into()]);
}

/// To leave the filter out would bring the message to those whom it was to spare.
#[test]
fn a_message_with_a_filter_reaches_nobody() {
    let mut world = World::new(2);
    let near = world.server(0, CHAT, "app");
    let far = world.server(1, CHAT, "app");
    let clients = [world.user(near, "ann"), world.user(far, "ann")];
    for id in clients.map(|client| world.id(client)) {
        world.send(near, join(id, "g"));
    }
    let messages = |filter: &'static str| -> [Received; 3] {
        let (payloads, filter) = (payloads("x"), Some(filter.into()));
        let to_hub = BroadcastData {
            excluded: Texts::new(),
            payloads: payloads.clone(),
            filter: filter.clone(),
            tracing_id: None,
        };
        let to_user = UserData {
            user_id: "ann".into(),
            payloads: payloads.clone(),
            filter: filter.clone(),
            tracing_id: None,
        };
        let to_group = GroupBroadcastData {
            group: "g".into(),
            excluded: Texts::new(),
            payloads,
            excluded_users: Texts::new(),
            caller_user_id: None,
            filter,
            tracing_id: None,
        };
        [to_hub.into(), to_user.into(), to_group.into()]
    };
    for message in messages("userId ne 'ann'") {
        world.send(near, message);
    }
    world.settle();
    assert_eq!(clients.map(|client| world.heard(client).len()), [0, 0]);
    assert_eq!(world.counters[0].service_messages_skipped.value(), 3);
    for message in messages("") {
        world.send(near, message);
    }
    world.settle();
    assert_eq!(clients.map(|client| world.heard(client).len()), [3, 3]);
}

#[test]
fn what_only_a_service_says_is_passed_over() {
    let mut world = World::new(2);
    let server = world.server(0, CHAT, "app");
    let client = world.client(server);
    let id = world.id(client);
    let pause_ack = ConnectionFlowControl {
        connection_id: id.into(),
        target: FlowControlTarget::Client,
        operation: FlowControlOperation::PauseAck,
    };
    let messages: [Received; 11] = [
        HandshakeResponse::default().into(),
        OpenConnection::default().into(),
        ServiceError::default().into(),
        ack(1, AckStatus::Ok),
        ServiceEvent::default().into(),
        AccessKeyResponse::default().into(),
        mapping("i", id),
        ConnectionReconnect::default().into(),
        UpdateConnectionClaims::default().into(),
        pause_ack.into(),
        Message::Unknown(99),
    ];
    let count = messages.len() as u64;
    for message in messages {
        world.send(server, message);
    }
    world.settle();
    assert_eq!(world.take(server), []);
    assert_eq!(world.counters[0].service_messages_skipped.value(), count);
    world.send(server, broadcast("still there"));
    assert_eq!(world.heard(client), ["still there"]);
}

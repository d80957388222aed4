//! What app servers send, in short.

use super::payloads;
use crate::protocol::service::{
    AckStatus, BroadcastData, CheckConnectionExistenceWithAck, CheckGroupExistenceWithAck,
    CheckUserExistenceWithAck, CheckUserInGroupWithAck, ClientCompletion, ClientInvocation,
    CloseConnectionWithAck, CloseConnectionsWithAck, CloseGroupConnectionsWithAck,
    CloseUserConnectionsWithAck, ErrorCompletion, GroupBroadcastData, JoinGroup, JoinGroupWithAck,
    LeaveGroup, LeaveGroupWithAck, Message, MultiConnectionData, MultiGroupBroadcastData,
    MultiUserData, Ping, Text, Texts, UserData, UserJoinGroup, UserJoinGroupWithAck,
    UserLeaveGroup, UserLeaveGroupWithAck,
};

type Sent = Message<'static, &'static [u8]>;

pub(super) fn broadcast(text: &str) -> Sent {
    broadcast_except(&[], text)
}

pub(super) fn broadcast_except(excluded: &[&str], text: &str) -> Sent {
    let message = BroadcastData {
        excluded: texts(excluded),
        payloads: payloads(text),
        filter: None,
        tracing_id: None,
    };
    message.into()
}

pub(super) fn to_connections(ids: &[&str], text: &str) -> Sent {
    let message = MultiConnectionData {
        connection_ids: texts(ids),
        payloads: payloads(text),
        filter: None,
        tracing_id: None,
    };
    message.into()
}

pub(super) fn to_user(user: &str, text: &str) -> Sent {
    let message = UserData {
        user_id: owned(user),
        payloads: payloads(text),
        filter: None,
        tracing_id: None,
    };
    message.into()
}

pub(super) fn to_users(users: &[&str], text: &str) -> Sent {
    let message = MultiUserData {
        user_ids: texts(users),
        payloads: payloads(text),
        filter: None,
        tracing_id: None,
    };
    message.into()
}

pub(super) fn to_group(group: &str, text: &str) -> Sent {
    to_group_except(group, &[], &[], text)
}

pub(super) fn to_group_except(
    group: &str,
    excluded: &[&str],
    excluded_users: &[&str],
    text: &str,
) -> Sent {
    let message = GroupBroadcastData {
        group: owned(group),
        excluded: texts(excluded),
        payloads: payloads(text),
        excluded_users: texts(excluded_users),
        caller_user_id: None,
        filter: None,
        tracing_id: None,
    };
    message.into()
}

pub(super) fn to_groups(groups: &[&str], text: &str) -> Sent {
    let message = MultiGroupBroadcastData {
        groups: texts(groups),
        payloads: payloads(text),
        filter: None,
        tracing_id: None,
    };
    message.into()
}

pub(super) fn join(id: &str, group: &str) -> Sent {
    let message = JoinGroup {
        connection_id: owned(id),
        group: owned(group),
        ..JoinGroup::default()
    };
    message.into()
}

pub(super) fn join_with_ack(id: &str, group: &str, ack_id: i32) -> Sent {
    let message = JoinGroupWithAck {
        connection_id: owned(id),
        group: owned(group),
        ack_id,
        ..JoinGroupWithAck::default()
    };
    message.into()
}

/// Leaves all groups if none is named.
pub(super) fn leave(id: &str, group: Option<&str>) -> Sent {
    let message = LeaveGroup {
        connection_id: owned(id),
        group: group.map(owned),
        ..LeaveGroup::default()
    };
    message.into()
}

pub(super) fn leave_with_ack(id: &str, group: Option<&str>, ack_id: i32) -> Sent {
    let message = LeaveGroupWithAck {
        connection_id: owned(id),
        group: group.map(owned),
        ack_id,
        ..LeaveGroupWithAck::default()
    };
    message.into()
}

pub(super) fn user_join(user: &str, group: &str, ttl_seconds: Option<i32>) -> Sent {
    let message = UserJoinGroup {
        user_id: owned(user),
        group: owned(group),
        ttl_seconds,
        ..UserJoinGroup::default()
    };
    message.into()
}

pub(super) fn user_join_with_ack(
    user: &str,
    group: &str,
    ttl_seconds: Option<i32>,
    ack_id: i32,
) -> Sent {
    let message = UserJoinGroupWithAck {
        user_id: owned(user),
        group: owned(group),
        ack_id,
        ttl_seconds,
        ..UserJoinGroupWithAck::default()
    };
    message.into()
}

/// Leaves all groups if none is named.
pub(super) fn user_leave(user: &str, group: Option<&str>) -> Sent {
    let message = UserLeaveGroup {
        user_id: owned(user),
        group: group.map(owned),
        ..UserLeaveGroup::default()
    };
    message.into()
}

pub(super) fn user_leave_with_ack(user: &str, group: Option<&str>, ack_id: i32) -> Sent {
    let message = UserLeaveGroupWithAck {
        user_id: owned(user),
        group: group.map(owned),
        ack_id,
        ..UserLeaveGroupWithAck::default()
    };
    message.into()
}

pub(super) fn is_user_in_group(user: &str, group: &str, ack_id: i32) -> Sent {
    let message = CheckUserInGroupWithAck {
        user_id: owned(user),
        group: owned(group),
        ack_id,
        ..CheckUserInGroupWithAck::default()
    };
    message.into()
}

pub(super) fn connection_exists(id: &str, ack_id: i32) -> Sent {
    let message = CheckConnectionExistenceWithAck {
        connection_id: owned(id),
        ack_id,
        ..CheckConnectionExistenceWithAck::default()
    };
    message.into()
}

pub(super) fn user_exists(user: &str, ack_id: i32) -> Sent {
    let message = CheckUserExistenceWithAck {
        user_id: owned(user),
        ack_id,
        ..CheckUserExistenceWithAck::default()
    };
    message.into()
}

pub(super) fn group_exists(group: &str, ack_id: i32) -> Sent {
    let message = CheckGroupExistenceWithAck {
        group: owned(group),
        ack_id,
        ..CheckGroupExistenceWithAck::default()
    };
    message.into()
}

pub(super) fn close_connection(id: &str, reason: Option<&str>, ack_id: i32) -> Sent {
    let message = CloseConnectionWithAck {
        connection_id: owned(id),
        reason: reason.map(owned),
        ack_id,
        ..CloseConnectionWithAck::default()
    };
    message.into()
}

pub(super) fn close_hub(reason: Option<&str>, excluded: &[&str], ack_id: i32) -> Sent {
    let message = CloseConnectionsWithAck {
        reason: reason.map(owned),
        ack_id,
        excluded: texts(excluded),
        ..CloseConnectionsWithAck::default()
    };
    message.into()
}

pub(super) fn close_user(user: &str, excluded: &[&str], ack_id: i32) -> Sent {
    let message = CloseUserConnectionsWithAck {
        user_id: owned(user),
        ack_id,
        excluded: texts(excluded),
        ..CloseUserConnectionsWithAck::default()
    };
    message.into()
}

pub(super) fn close_group(group: &str, excluded: &[&str], ack_id: i32) -> Sent {
    let message = CloseGroupConnectionsWithAck {
        group: owned(group),
        ack_id,
        excluded: texts(excluded),
        ..CloseGroupConnectionsWithAck::default()
    };
    message.into()
}

pub(super) fn ack(ack_id: i32, status: AckStatus) -> Sent {
    let message = crate::protocol::service::Ack {
        ack_id,
        status,
        message: "".into(),
        payload: None,
    };
    message.into()
}

pub(super) fn ping(strings: &[&'static str]) -> Sent {
    strings.iter().copied().collect::<Ping<'_>>().into()
}

pub(super) fn invocation(invocation_id: &str, id: &str, caller: &str) -> Sent {
    let message = ClientInvocation {
        invocation_id: owned(invocation_id),
        connection_id: owned(id),
        caller_server_id: owned(caller),
        payloads: payloads(&format!("invoke {invocation_id}")),
        tracing_id: None,
    };
    message.into()
}

/// What the app server of the client gets: it needs no payload.
pub(super) fn announcement(invocation_id: &str, id: &str, caller: &str) -> Sent {
    let message = ClientInvocation {
        invocation_id: owned(invocation_id),
        connection_id: owned(id),
        caller_server_id: owned(caller),
        payloads: crate::protocol::service::Payloads::default(),
        tracing_id: None,
    };
    message.into()
}

pub(super) fn mapping(invocation_id: &str, id: &str) -> Sent {
    let message = crate::protocol::service::ServiceMapping {
        invocation_id: owned(invocation_id),
        connection_id: owned(id),
        instance_id: "instance".into(),
    };
    message.into()
}

/// An answer in the name of `router`, the app server that has the client. Empty: it needs none, it asked itself.
pub(super) fn completion(
    invocation_id: &str,
    id: &str,
    router: &str,
    payload: &'static str,
) -> Sent {
    let message = ClientCompletion {
        invocation_id: owned(invocation_id),
        connection_id: owned(id),
        caller_server_id: owned(router),
        protocol: Some("json".into()),
        payload: payload.as_bytes(),
        tracing_id: None,
    };
    message.into()
}

pub(super) fn error_completion(invocation_id: &str, id: &str, caller: &str, error: &str) -> Sent {
    let message = ErrorCompletion {
        invocation_id: owned(invocation_id),
        connection_id: owned(id),
        caller_server_id: owned(caller),
        error: owned(error),
        tracing_id: None,
    };
    message.into()
}

fn owned(text: &str) -> Text<'static> {
    text.to_owned().into()
}

fn texts(list: &[&str]) -> Texts<'static> {
    list.iter().copied().map(owned).collect()
}

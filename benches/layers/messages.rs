//! Service messages as app servers send them.

use hubring::frame::record::read_varint;
use hubring::protocol::service::{
    BroadcastData, ConnectionData, DataMessageType, GroupBroadcastData, JoinGroup,
    JoinGroupWithAck, LeaveGroupWithAck, Message, MultiConnectionData, Payloads, UserData,
};

/// A message with its payloads at hand.
pub(crate) type Outgoing<'a> = Message<'a, &'a [u8]>;

/// A message as a router gets it: without its length prefix.
pub(crate) fn encoded<'a>(message: impl Into<Outgoing<'a>>) -> Vec<u8> {
    let mut framed = Vec::new();
    message.into().encode(&mut framed);
    let (_, prefix_bytes) = read_varint(&framed).unwrap().unwrap();
    framed.split_off(prefix_bytes)
}

/// Data for one client, of a type: else the service looks for the ends of hub messages in it.
pub(crate) fn data<'a>(id: &'a str, payload: &'a [u8]) -> Outgoing<'a> {
    ConnectionData {
        connection_id: id.into(),
        payload,
        data_type: DataMessageType::Invocation,
        ..ConnectionData::default()
    }
    .into()
}

pub(crate) fn broadcast(payload: &[u8]) -> Outgoing<'_> {
    BroadcastData {
        excluded: [].into_iter().collect(),
        payloads: payloads(payload),
        filter: None,
        tracing_id: None,
    }
    .into()
}

pub(crate) fn to_connection<'a>(id: &'a str, payload: &'a [u8]) -> Outgoing<'a> {
    MultiConnectionData {
        connection_ids: [id.into()].into_iter().collect(),
        payloads: payloads(payload),
        filter: None,
        tracing_id: None,
    }
    .into()
}

pub(crate) fn to_user<'a>(user: &'a str, payload: &'a [u8]) -> Outgoing<'a> {
    UserData {
        user_id: user.into(),
        payloads: payloads(payload),
        filter: None,
        tracing_id: None,
    }
    .into()
}

pub(crate) fn to_group<'a>(group: &'a str, payload: &'a [u8]) -> Outgoing<'a> {
    GroupBroadcastData {
        group: group.into(),
        excluded: [].into_iter().collect(),
        payloads: payloads(payload),
        excluded_users: [].into_iter().collect(),
        caller_user_id: None,
        filter: None,
        tracing_id: None,
    }
    .into()
}

pub(crate) fn join<'a>(id: &'a str, group: &'a str) -> Outgoing<'a> {
    JoinGroup {
        connection_id: id.into(),
        group: group.into(),
        tracing_id: None,
    }
    .into()
}

pub(crate) fn join_with_ack<'a>(id: &'a str, group: &'a str) -> Outgoing<'a> {
    JoinGroupWithAck {
        connection_id: id.into(),
        group: group.into(),
        ack_id: 17,
        tracing_id: None,
    }
    .into()
}

pub(crate) fn leave_with_ack<'a>(id: &'a str, group: &'a str) -> Outgoing<'a> {
    LeaveGroupWithAck {
        connection_id: id.into(),
        group: Some(group.into()),
        ack_id: 18,
        tracing_id: None,
    }
    .into()
}

/// The same in both hub protocols, as the SDK encodes every message to many.
fn payloads(payload: &[u8]) -> Payloads<'_, &[u8]> {
    [("json", payload), ("messagepack", payload)]
        .into_iter()
        .collect()
}

//! The bytes of what an app server calls: sends to clients, joins and leaves.
//!
//! Each is what the SDK sends for the same call: `Clients.All` a broadcast, `Clients.Client` a multi-connection message with one id
//! and the payload of that client's protocol only, `Clients.User` and `Clients.Group` their own. All clients speak one protocol, which
//! stands for a hub that has only that.

use std::ops::Range;
use std::time::Instant;

use hubring::protocol::service::{
    BroadcastData, GroupBroadcastData, JoinGroupWithAck, LeaveGroupWithAck, Message,
    MultiConnectionData, Payloads, Texts, UserData,
};

use crate::job::HubProtocol;
use crate::worker::due_time::SharedClock;

/// Sends of one and the same hub message.
#[derive(Debug)]
pub(in crate::worker) struct Calls {
    protocol: &'static str,
    hub_message: Vec<u8>,
    /// The whole of a broadcast, and where the hub message is in it.
    broadcast: Vec<u8>,
    hub_message_at: usize,
}

impl Calls {
    pub(in crate::worker) fn new(hub_protocol: HubProtocol, hub_message: Vec<u8>) -> Self {
        let protocol = match hub_protocol {
            HubProtocol::Json => "json",
            HubProtocol::MessagePack => "messagepack",
        };
        let mut calls = Self {
            protocol,
            hub_message,
            broadcast: Vec::new(),
            hub_message_at: 0,
        };
        let mut broadcast = Vec::new();
        Outgoing::from(BroadcastData {
            excluded: Texts::new(),
            payloads: calls.payloads(),
            filter: None,
            tracing_id: None,
        })
        .encode(&mut broadcast);
        let mut windows = broadcast.windows(calls.hub_message.len().max(1));
        let hub_message_at = windows.position(|window| window == calls.hub_message);
        calls.hub_message_at = hub_message_at.unwrap_or(broadcast.len());
        calls.broadcast = broadcast;
        calls
    }

    /// What is called from now on was due at `due`, and tells so at this place in the hub message.
    pub(super) fn set_due(&mut self, due: Instant, clock: SharedClock, place: Range<usize>) {
        let in_broadcast = place.start + self.hub_message_at..place.end + self.hub_message_at;
        clock.write(due, in_broadcast, &mut self.broadcast);
        clock.write(due, place, &mut self.hub_message);
    }

    pub(in crate::worker) fn send_to_all(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.broadcast);
    }

    pub(in crate::worker) fn send_to_connection(&self, connection_id: &str, out: &mut Vec<u8>) {
        Outgoing::from(MultiConnectionData {
            connection_ids: std::iter::once(connection_id.into()).collect(),
            payloads: self.payloads(),
            filter: None,
            tracing_id: None,
        })
        .encode(out);
    }

    pub(super) fn send_to_user(&self, user_id: &str, out: &mut Vec<u8>) {
        Outgoing::from(UserData {
            user_id: user_id.into(),
            payloads: self.payloads(),
            filter: None,
            tracing_id: None,
        })
        .encode(out);
    }

    pub(super) fn send_to_group(&self, group: &str, out: &mut Vec<u8>) {
        Outgoing::from(GroupBroadcastData {
            group: group.into(),
            excluded: Texts::new(),
            payloads: self.payloads(),
            excluded_users: Texts::new(),
            caller_user_id: None,
            filter: None,
            tracing_id: None,
        })
        .encode(out);
    }

    fn payloads(&self) -> Payloads<'_, &[u8]> {
        std::iter::once((self.protocol, &*self.hub_message)).collect()
    }
}

pub(super) fn join(connection_id: &str, group: &str, ack_id: i32, out: &mut Vec<u8>) {
    Outgoing::from(JoinGroupWithAck {
        connection_id: connection_id.into(),
        group: group.into(),
        ack_id,
        tracing_id: None,
    })
    .encode(out);
}

pub(super) fn leave(connection_id: &str, group: &str, ack_id: i32, out: &mut Vec<u8>) {
    Outgoing::from(LeaveGroupWithAck {
        connection_id: connection_id.into(),
        group: Some(group.into()),
        ack_id,
        tracing_id: None,
    })
    .encode(out);
}

type Outgoing<'a> = Message<'a, &'a [u8]>;

#[cfg(test)]
mod tests {
    use super::*;

    fn written(write: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
        let mut out = Vec::new();
        write(&mut out);
        out
    }

    #[test]
    fn calls_are_those_of_the_sdk() {
        let json = Calls::new(HubProtocol::Json, b"{}\x1e".to_vec());
        let messagepack = Calls::new(HubProtocol::MessagePack, b"\x02\x91\x06".to_vec());
        for (call, expected) in [
            (
                written(|out| json.send_to_all(out)),
                b"\x0f\x94\x0a\x90\x81\xa4json\xc4\x03{}\x1e\x80".as_slice(),
            ),
            (
                written(|out| messagepack.send_to_all(out)),
                b"\x16\x94\x0a\x90\x81\xabmessagepack\xc4\x03\x02\x91\x06\x80",
            ),
            (
                written(|out| json.send_to_connection("c1", out)),
                b"\x12\x94\x07\x91\xa2c1\x81\xa4json\xc4\x03{}\x1e\x80",
            ),
            (
                written(|out| json.send_to_user("u1", out)),
                b"\x11\x94\x08\xa2u1\x81\xa4json\xc4\x03{}\x1e\x80",
            ),
            (
                written(|out| json.send_to_group("g1", out)),
                b"\x14\x97\x0d\xa2g1\x90\x81\xa4json\xc4\x03{}\x1e\x80\x90\xc0",
            ),
            (
                written(|out| join("c1", "g1", 7, out)),
                b"\x0a\x95\x12\xa2c1\xa2g1\x07\x80",
            ),
            (
                written(|out| leave("c1", "g1", 8, out)),
                b"\x0a\x95\x13\xa2c1\xa2g1\x08\x80",
            ),
        ] {
            assert_eq!(call, expected);
        }
    }
}

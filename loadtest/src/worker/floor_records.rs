//! The records that the floor relays in place of hubring's messages: as many bytes, without their meaning.
//!
//! For a hub message of P bytes the sizes are what hubring and its peers send for it. A client sends one masked frame of a header and P bytes,
//! and receives one frame without a mask. Between hubring and an app server it is a service message: its length, its type, the connection
//! id and the like, and P bytes. The app server's WebSocket messages are cut into frames of 4 KB, so each record also carries its share
//! of their headers. hubring's own are not cut: one header for all that is sent in one turn, which is left out here.

use hubring::frame::websocket::{MessageKind, header};
use hubring::id::ConnectionId;
use hubring::protocol::service::{ConnectionData, DataMessageType, Message};

use super::other_side::app_server::calls::Calls;
use super::payload::{OTHER_SIDE, payload};
use super::web_socket::{client_frame, write_cut_message};
use crate::job::{HubProtocol, Load};

/// A record on a server connection begins with the index of the client, little-endian: [`ALL_CLIENTS`], or its number in the order in
/// which the floor has accepted them.
pub(crate) const INDEX_BYTES: usize = size_of::<u32>();
pub(crate) const ALL_CLIENTS: u32 = u32::MAX;

/// Messages over which headers of frames are spread: as many as are sent in one go when it matters.
const MESSAGES_TOGETHER: usize = 64;

/// Bytes of each kind of record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct FloorRecords {
    /// From a client.
    pub(crate) client_frame: usize,
    /// What becomes of it on a server connection.
    pub(crate) server_record: usize,
    /// From a server connection.
    pub(crate) answer_record: usize,
    /// What becomes of it for a client.
    pub(crate) client_message: usize,
}

impl FloorRecords {
    /// For this load. What the app server sends decides about the answers, so a load that is none of its sends has those of an echo.
    pub(crate) fn of(load: &Load, hub_protocol: HubProtocol, payload_bytes: u32) -> Self {
        let payload = payload(hub_protocol, OTHER_SIDE, 0, payload_bytes as usize);
        let kind = match hub_protocol {
            HubProtocol::Json => MessageKind::Text,
            HubProtocol::MessagePack => MessageKind::Binary,
        };
        let mut answers = Vec::new();
        write_cut_message(
            &answer(load, hub_protocol, &payload).repeat(MESSAGES_TOGETHER),
            &mut answers,
        );
        let header = header(kind, true, u64::from(payload_bytes), None);
        Self {
            client_frame: client_frame(kind, &payload).len(),
            server_record: connection_data(&payload, DataMessageType::default()).len(),
            answer_record: answers.len().div_ceil(MESSAGES_TOGETHER),
            client_message: header.len() + payload_bytes as usize,
        }
    }
}

/// The service message with which an app server sends `payload`.
fn answer(load: &Load, hub_protocol: HubProtocol, payload: &[u8]) -> Vec<u8> {
    let calls = Calls::new(hub_protocol, payload.to_vec());
    let mut answer = Vec::new();
    match load {
        Load::Broadcast { .. } | Load::SlowConsumers { .. } => calls.send_to_all(&mut answer),
        Load::SendToConnection { .. } => calls.send_to_connection(&connection_id(), &mut answer),
        Load::Echo { .. }
        | Load::SendToUser { .. }
        | Load::SendToGroup { .. }
        | Load::Membership { .. }
        | Load::Idle
        | Load::Connect { .. }
        | Load::Reconnect { .. }
        | Load::Mixed { .. } => answer = connection_data(payload, DataMessageType::Invocation),
    }
    answer
}

fn connection_data(payload: &[u8], data_type: DataMessageType) -> Vec<u8> {
    let mut bytes = Vec::new();
    let data = ConnectionData {
        connection_id: connection_id().into(),
        payload,
        data_type,
        ..ConnectionData::default()
    };
    Message::from(data).encode(&mut bytes);
    bytes
}

/// All ids are equally long.
fn connection_id() -> String {
    "x".repeat(ConnectionId::TEXT_BYTES)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::job::Pacing;

    const PACING: Pacing = Pacing::Closed { depth: 1 };

    #[test]
    fn an_echo_of_2_kb_has_the_bytes_of_hubrings() {
        let records = FloorRecords::of(&Load::Echo { pacing: PACING }, HubProtocol::Json, 2048);
        let expected = FloorRecords {
            // Two bytes, two of the length, four of the mask.
            client_frame: 8 + 2048,
            // A length of two bytes; array, type, string of 22, binary of two bytes' length; an empty map.
            server_record: 2 + (1 + 1 + 23 + 3) + 2048 + 1,
            // The map has one pair of two bytes more. Of each frame of 4 KB eight bytes are header: rounded up, 5 for each message.
            answer_record: 2 + (1 + 1 + 23 + 3) + 2048 + 3 + 5,
            client_message: 4 + 2048,
        };
        assert_eq!(records, expected);
    }

    #[test]
    fn sends_name_what_they_have_to() {
        let answer_record =
            |load: Load| FloorRecords::of(&load, HubProtocol::Json, 128).answer_record;
        let broadcast = Load::Broadcast {
            burst: 1,
            overlap_percent: 0,
        };
        // Length, array, type, no exclusions, a map with "json" and the binary, an empty map: and of a frame's header less than a byte.
        assert_eq!(answer_record(broadcast), 2 + 3 + 1 + 5 + 2 + 128 + 1 + 1);
        let to_one = Load::SendToConnection { pacing: PACING };
        assert_eq!(answer_record(to_one), 2 + 2 + 24 + 1 + 5 + 2 + 128 + 1 + 1);
    }
}

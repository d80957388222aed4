//! Any message there can be, made from random bytes. Fewer and smaller bytes make a simpler message, so failures shrink.

use smallvec::SmallVec;

use crate::protocol::service::{
    AccessKeyRequest, AccessKeyResponse, Ack, BroadcastData, CheckConnectionExistenceWithAck,
    CheckGroupExistenceWithAck, CheckUserExistenceWithAck, CheckUserInGroupWithAck, Claims,
    ClientCompletion, ClientInvocation, CloseConnection, CloseConnectionWithAck,
    CloseConnectionsWithAck, CloseGroupConnectionsWithAck, CloseUserConnectionsWithAck,
    ConnectionData, ConnectionFlowControl, ConnectionReconnect, ErrorCompletion,
    FlowControlOperation, FlowControlTarget, GetConnectionClaims, GroupBroadcastData,
    GroupMemberQuery, HandshakeRequest, HandshakeResponse, Headers, JoinGroup, JoinGroupWithAck,
    LeaveGroup, LeaveGroupWithAck, Message, MessageType, MultiConnectionData,
    MultiGroupBroadcastData, MultiUserData, OpenConnection, Payloads, Ping, RefreshAuth,
    ServiceError, ServiceEvent, ServiceMapping, Text, Texts, Timestamp, UpdateConnectionClaims,
    UserData, UserJoinGroup, UserJoinGroupWithAck, UserLeaveGroup, UserLeaveGroupWithAck,
};

/// The message that these bytes stand for.
pub(super) fn message(random: &[u8]) -> Message<'static, Vec<u8>> {
    let mut draw = Draw(random.iter());
    let index = usize::from(draw.byte()) % MessageType::ALL.len();
    draw.message(MessageType::ALL[index])
}

/// Takes values from random bytes; when they are used up, zeroes and empty things.
struct Draw<'r>(std::slice::Iter<'r, u8>);

impl Draw<'_> {
    fn byte(&mut self) -> u8 {
        self.0.next().copied().unwrap_or_default()
    }

    fn boolean(&mut self) -> bool {
        self.byte() & 1 == 1
    }

    /// Of every order of magnitude, since the width on the wire depends on it.
    fn uint64(&mut self) -> u64 {
        let bits = u32::from(self.byte() % 65);
        let value = u64::from_be_bytes(std::array::from_fn(|_| self.byte()));
        value.checked_shr(64 - bits).unwrap_or_default()
    }

    fn int32(&mut self) -> i32 {
        let shift = self.byte() % 32;
        i32::from_be_bytes(std::array::from_fn(|_| self.byte())) >> shift
    }

    fn optional<T>(&mut self, value: impl FnOnce(&mut Self) -> T) -> Option<T> {
        self.boolean().then(|| value(self))
    }

    fn list<T, L: FromIterator<T>>(&mut self, mut value: impl FnMut(&mut Self) -> T) -> L {
        let count = match self.byte() {
            255 => 70_000,
            254 => 300,
            253 => 17,
            few => usize::from(few % 5),
        };
        (0..count).map(|_| value(self)).collect()
    }

    fn text(&mut self) -> Text<'static> {
        const LETTERS: [char; 8] = ['a', 'Z', '0', '"', '\u{1e}', 'é', '語', '🦀'];
        let letters: String = self.list(|draw| LETTERS[usize::from(draw.byte() % 8)]);
        let repeat = 1 + usize::from(self.byte() % 16);
        letters.repeat(repeat).into()
    }

    fn texts(&mut self) -> Texts<'static> {
        self.list(Self::text)
    }

    fn claims(&mut self) -> Claims<'static> {
        self.list(|draw| (draw.text(), draw.text()))
    }

    fn headers(&mut self) -> Headers<'static> {
        self.list(|draw| (draw.text(), draw.texts()))
    }

    fn bytes(&mut self) -> Vec<u8> {
        self.list(Self::byte)
    }

    fn payloads(&mut self) -> Payloads<'static, Vec<u8>> {
        let pairs: SmallVec<[_; 2]> = self.list(|draw| (draw.text(), draw.bytes()));
        pairs.into_iter().collect()
    }

    fn timestamp(&mut self) -> Timestamp {
        let seconds = self.uint64().cast_signed();
        let nanoseconds = if self.boolean() {
            self.uint64() % 1_000_000_000
        } else {
            0
        };
        Timestamp {
            seconds,
            nanoseconds: nanoseconds as u32,
        }
    }

    fn flow_control_target(&mut self) -> FlowControlTarget {
        if self.boolean() {
            FlowControlTarget::Server
        } else {
            FlowControlTarget::Client
        }
    }

    fn flow_control_operation(&mut self) -> FlowControlOperation {
        use FlowControlOperation::{Offline, Pause, PauseAck, Resume};
        [Pause, PauseAck, Resume, Offline][usize::from(self.byte() % 4)]
    }

    #[expect(
        clippy::too_many_lines,
        reason = "a table: one entry for each message, in the order of their numbers"
    )]
    fn message(&mut self, message_type: MessageType) -> Message<'static, Vec<u8>> {
        match message_type {
            MessageType::HandshakeRequest => HandshakeRequest {
                version: self.int32(),
                connection_type: self.int32().into(),
                target: self.text(),
                migration_level: self.int32().into(),
                allow_stateful_reconnects: self.boolean(),
            }
            .into(),
            MessageType::HandshakeResponse => HandshakeResponse {
                error_message: self.text(),
                connection_id: self.optional(Self::text),
            }
            .into(),
            MessageType::Ping => Ping {
                strings: self.list(Self::text),
            }
            .into(),
            MessageType::OpenConnection => OpenConnection {
                connection_id: self.text(),
                claims: self.claims(),
                headers: self.headers(),
                query_string: self.text(),
                protocol: self.optional(Self::text),
                tracing_id: self.optional(Self::uint64),
            }
            .into(),
            MessageType::CloseConnection => CloseConnection {
                connection_id: self.text(),
                error_message: self.text(),
                headers: self.headers(),
                tracing_id: self.optional(Self::uint64),
            }
            .into(),
            MessageType::ConnectionData => ConnectionData {
                connection_id: self.text(),
                payload: self.bytes(),
                data_type: self.int32().into(),
                is_partial: self.boolean(),
                tracing_id: self.optional(Self::uint64),
            }
            .into(),
            MessageType::MultiConnectionData => MultiConnectionData {
                connection_ids: self.texts(),
                payloads: self.payloads(),
                filter: self.optional(Self::text),
                tracing_id: self.optional(Self::uint64),
            }
            .into(),
            MessageType::UserData => UserData {
                user_id: self.text(),
                payloads: self.payloads(),
                filter: self.optional(Self::text),
                tracing_id: self.optional(Self::uint64),
            }
            .into(),
            MessageType::MultiUserData => MultiUserData {
                user_ids: self.texts(),
                payloads: self.payloads(),
                filter: self.optional(Self::text),
                tracing_id: self.optional(Self::uint64),
            }
            .into(),
            MessageType::BroadcastData => BroadcastData {
                excluded: self.texts(),
                payloads: self.payloads(),
                filter: self.optional(Self::text),
                tracing_id: self.optional(Self::uint64),
            }
            .into(),
            MessageType::JoinGroup => JoinGroup {
                connection_id: self.text(),
                group: self.text(),
                tracing_id: self.optional(Self::uint64),
            }
            .into(),
            MessageType::LeaveGroup => LeaveGroup {
                connection_id: self.text(),
                group: self.optional(Self::text),
                tracing_id: self.optional(Self::uint64),
            }
            .into(),
            MessageType::GroupBroadcastData => GroupBroadcastData {
                group: self.text(),
                excluded: self.texts(),
                payloads: self.payloads(),
                excluded_users: self.texts(),
                caller_user_id: self.optional(Self::text),
                filter: self.optional(Self::text),
                tracing_id: self.optional(Self::uint64),
            }
            .into(),
            MessageType::MultiGroupBroadcastData => MultiGroupBroadcastData {
                groups: self.texts(),
                payloads: self.payloads(),
                filter: self.optional(Self::text),
                tracing_id: self.optional(Self::uint64),
            }
            .into(),
            MessageType::ServiceError => ServiceError {
                error_message: self.text(),
            }
            .into(),
            MessageType::UserJoinGroup => UserJoinGroup {
                user_id: self.text(),
                group: self.text(),
                ttl_seconds: self.optional(Self::int32),
                tracing_id: self.optional(Self::uint64),
            }
            .into(),
            MessageType::UserLeaveGroup => UserLeaveGroup {
                user_id: self.text(),
                group: self.optional(Self::text),
                tracing_id: self.optional(Self::uint64),
            }
            .into(),
            MessageType::JoinGroupWithAck => JoinGroupWithAck {
                connection_id: self.text(),
                group: self.text(),
                ack_id: self.int32(),
                tracing_id: self.optional(Self::uint64),
            }
            .into(),
            MessageType::LeaveGroupWithAck => LeaveGroupWithAck {
                connection_id: self.text(),
                group: self.optional(Self::text),
                ack_id: self.int32(),
                tracing_id: self.optional(Self::uint64),
            }
            .into(),
            MessageType::Ack => Ack {
                ack_id: self.int32(),
                status: self.int32().into(),
                message: self.text(),
                payload: self.optional(Self::bytes).filter(|bytes| !bytes.is_empty()),
            }
            .into(),
            MessageType::CheckUserInGroupWithAck => CheckUserInGroupWithAck {
                user_id: self.text(),
                group: self.text(),
                ack_id: self.int32(),
                tracing_id: self.optional(Self::uint64),
            }
            .into(),
            MessageType::ServiceEvent => ServiceEvent {
                object: self.int32().into(),
                id: self.text(),
                kind: self.int32().into(),
                message: self.text(),
            }
            .into(),
            MessageType::CheckGroupExistenceWithAck => CheckGroupExistenceWithAck {
                group: self.text(),
                ack_id: self.int32(),
                tracing_id: self.optional(Self::uint64),
            }
            .into(),
            MessageType::CheckConnectionExistenceWithAck => CheckConnectionExistenceWithAck {
                connection_id: self.text(),
                ack_id: self.int32(),
                tracing_id: self.optional(Self::uint64),
            }
            .into(),
            MessageType::CheckUserExistenceWithAck => CheckUserExistenceWithAck {
                user_id: self.text(),
                ack_id: self.int32(),
                tracing_id: self.optional(Self::uint64),
            }
            .into(),
            MessageType::UserJoinGroupWithAck => UserJoinGroupWithAck {
                user_id: self.text(),
                group: self.text(),
                ack_id: self.int32(),
                ttl_seconds: self.optional(Self::int32),
                tracing_id: self.optional(Self::uint64),
            }
            .into(),
            MessageType::UserLeaveGroupWithAck => UserLeaveGroupWithAck {
                user_id: self.text(),
                group: self.optional(Self::text),
                ack_id: self.int32(),
                tracing_id: self.optional(Self::uint64),
            }
            .into(),
            MessageType::AccessKeyRequest => AccessKeyRequest {
                token: self.text(),
                kid: self.optional(Self::text),
            }
            .into(),
            MessageType::AccessKeyResponse => AccessKeyResponse {
                kid: self.optional(Self::text),
                access_key: self.optional(Self::text),
                error_type: self.optional(Self::text),
                error_message: self.optional(Self::text),
            }
            .into(),
            MessageType::CloseConnectionWithAck => CloseConnectionWithAck {
                connection_id: self.text(),
                reason: self.optional(Self::text),
                ack_id: self.int32(),
                tracing_id: self.optional(Self::uint64),
            }
            .into(),
            MessageType::CloseConnectionsWithAck => CloseConnectionsWithAck {
                reason: self.optional(Self::text),
                ack_id: self.int32(),
                excluded: self.texts(),
                tracing_id: self.optional(Self::uint64),
            }
            .into(),
            MessageType::CloseUserConnectionsWithAck => CloseUserConnectionsWithAck {
                user_id: self.text(),
                reason: self.optional(Self::text),
                ack_id: self.int32(),
                excluded: self.texts(),
                tracing_id: self.optional(Self::uint64),
            }
            .into(),
            MessageType::CloseGroupConnectionsWithAck => CloseGroupConnectionsWithAck {
                group: self.text(),
                reason: self.optional(Self::text),
                ack_id: self.int32(),
                excluded: self.texts(),
                tracing_id: self.optional(Self::uint64),
            }
            .into(),
            MessageType::ClientInvocation => ClientInvocation {
                invocation_id: self.text(),
                connection_id: self.text(),
                caller_server_id: self.text(),
                payloads: self.payloads(),
                tracing_id: self.optional(Self::uint64),
            }
            .into(),
            MessageType::ClientCompletion => ClientCompletion {
                invocation_id: self.text(),
                connection_id: self.text(),
                caller_server_id: self.text(),
                protocol: self.optional(Self::text),
                payload: self.bytes(),
                tracing_id: self.optional(Self::uint64),
            }
            .into(),
            MessageType::ErrorCompletion => ErrorCompletion {
                invocation_id: self.text(),
                connection_id: self.text(),
                caller_server_id: self.text(),
                error: self.text(),
                tracing_id: self.optional(Self::uint64),
            }
            .into(),
            MessageType::ServiceMapping => ServiceMapping {
                invocation_id: self.text(),
                connection_id: self.text(),
                instance_id: self.text(),
            }
            .into(),
            MessageType::ConnectionReconnect => ConnectionReconnect {
                connection_id: self.text(),
            }
            .into(),
            MessageType::ConnectionFlowControl => ConnectionFlowControl {
                connection_id: self.text(),
                target: self.flow_control_target(),
                operation: self.flow_control_operation(),
            }
            .into(),
            MessageType::GroupMemberQuery => GroupMemberQuery {
                group: self.text(),
                ack_id: self.int32(),
                top: self.optional(Self::int32),
                continuation_token: self.optional(Self::text),
                max_page_size: self.optional(Self::int32),
                tracing_id: self.optional(Self::uint64),
            }
            .into(),
            MessageType::RefreshAuth => RefreshAuth {
                connection_token: self.text(),
                claims: self.claims(),
                expire_time: self.timestamp(),
                ack_id: self.int32(),
            }
            .into(),
            MessageType::GetConnectionClaims => GetConnectionClaims {
                connection_token: self.text(),
                ack_id: self.int32(),
            }
            .into(),
            MessageType::UpdateConnectionClaims => UpdateConnectionClaims {
                connection_id: self.text(),
                claims: self.claims(),
            }
            .into(),
        }
    }
}

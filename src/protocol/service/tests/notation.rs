//! Prints a message in the notation of the vector files, from its fields alone: an account of the layouts that shares nothing with
//! the code that reads and writes them.

use crate::protocol::service::{
    Claims, DataMessageType, Headers, Message, MessageType, Payloads, Text, Timestamp,
};

/// The message in the notation of the vector files. `bytes_of` finds the bytes of a payload.
pub(super) fn notation<'p, P>(
    message: &'p Message<'_, P>,
    bytes_of: impl Fn(&'p P) -> &'p [u8] + Copy,
) -> String {
    let number = if let Message::Unknown(number) = message {
        *number
    } else {
        message.message_type().map_or(0, MessageType::number)
    };
    let mut elements = vec![number.to_string()];
    elements.extend(fields(message, bytes_of));
    format!("[{}]", elements.join(", "))
}

/// The elements behind the type.
#[expect(
    clippy::too_many_lines,
    reason = "a table: one entry for each message, in the order of their numbers"
)]
fn fields<'p, P>(
    message: &'p Message<'_, P>,
    bytes_of: impl Fn(&'p P) -> &'p [u8] + Copy,
) -> Vec<String> {
    let payloads = |payloads| map_of_bytes(payloads, bytes_of);
    match message {
        Message::HandshakeRequest(m) => vec![
            m.version.to_string(),
            m.connection_type.number().to_string(),
            text(&m.target),
            m.migration_level.number().to_string(),
            NONE.print(),
            m.allow_stateful_reconnects.to_string(),
        ],
        Message::HandshakeResponse(m) => vec![
            text(&m.error_message),
            NONE.print(),
            optional(m.connection_id.as_deref()),
        ],
        Message::Ping(m) => m.strings.iter().map(|item| text(item)).collect(),
        Message::OpenConnection(m) => vec![
            text(&m.connection_id),
            claims(&m.claims),
            headers(&m.headers),
            text(&m.query_string),
            Extensions {
                tracing: m.tracing_id,
                protocol: m.protocol.as_deref(),
                ..NONE
            }
            .print(),
        ],
        Message::CloseConnection(m) => vec![
            text(&m.connection_id),
            text(&m.error_message),
            headers(&m.headers),
            Extensions {
                tracing: m.tracing_id,
                ..NONE
            }
            .print(),
        ],
        Message::ConnectionData(m) => vec![
            text(&m.connection_id),
            bytes(bytes_of(&m.payload)),
            Extensions {
                tracing: m.tracing_id,
                data_type: m.data_type,
                is_partial: m.is_partial,
                ..NONE
            }
            .print(),
        ],
        Message::MultiConnectionData(m) => vec![
            texts(&m.connection_ids),
            payloads(&m.payloads),
            Extensions {
                tracing: m.tracing_id,
                filter: m.filter.as_deref(),
                ..NONE
            }
            .print(),
        ],
        Message::UserData(m) => vec![
            text(&m.user_id),
            payloads(&m.payloads),
            Extensions {
                tracing: m.tracing_id,
                filter: m.filter.as_deref(),
                ..NONE
            }
            .print(),
        ],
        Message::MultiUserData(m) => vec![
            texts(&m.user_ids),
            payloads(&m.payloads),
            Extensions {
                tracing: m.tracing_id,
                filter: m.filter.as_deref(),
                ..NONE
            }
            .print(),
        ],
        Message::BroadcastData(m) => vec![
            texts(&m.excluded),
            payloads(&m.payloads),
            Extensions {
                tracing: m.tracing_id,
                filter: m.filter.as_deref(),
                ..NONE
            }
            .print(),
        ],
        Message::JoinGroup(m) => vec![
            text(&m.connection_id),
            text(&m.group),
            Extensions {
                tracing: m.tracing_id,
                ..NONE
            }
            .print(),
        ],
        Message::LeaveGroup(m) => vec![
            text(&m.connection_id),
            optional(m.group.as_deref()),
            Extensions {
                tracing: m.tracing_id,
                ..NONE
            }
            .print(),
        ],
        Message::GroupBroadcastData(m) => vec![
            text(&m.group),
            texts(&m.excluded),
            payloads(&m.payloads),
            Extensions {
                tracing: m.tracing_id,
                filter: m.filter.as_deref(),
                ..NONE
            }
            .print(),
            texts(&m.excluded_users),
            optional(m.caller_user_id.as_deref()),
        ],
        Message::MultiGroupBroadcastData(m) => vec![
            texts(&m.groups),
            payloads(&m.payloads),
            Extensions {
                tracing: m.tracing_id,
                filter: m.filter.as_deref(),
                ..NONE
            }
            .print(),
        ],
        Message::ServiceError(m) => vec![text(&m.error_message)],
        Message::UserJoinGroup(m) => vec![
            text(&m.user_id),
            text(&m.group),
            Extensions {
                tracing: m.tracing_id,
                ttl: m.ttl_seconds,
                ..NONE
            }
            .print(),
        ],
        Message::UserLeaveGroup(m) => vec![
            text(&m.user_id),
            optional(m.group.as_deref()),
            Extensions {
                tracing: m.tracing_id,
                ..NONE
            }
            .print(),
        ],
        Message::JoinGroupWithAck(m) => vec![
            text(&m.connection_id),
            text(&m.group),
            m.ack_id.to_string(),
            Extensions {
                tracing: m.tracing_id,
                ..NONE
            }
            .print(),
        ],
        Message::LeaveGroupWithAck(m) => vec![
            text(&m.connection_id),
            optional(m.group.as_deref()),
            m.ack_id.to_string(),
            Extensions {
                tracing: m.tracing_id,
                ..NONE
            }
            .print(),
        ],
        Message::Ack(m) => {
            let mut fields = vec![
                m.ack_id.to_string(),
                m.status.number().to_string(),
                text(&m.message),
                NONE.print(),
            ];
            fields.extend(m.payload.as_ref().map(|payload| bytes(bytes_of(payload))));
            fields
        }
        Message::CheckUserInGroupWithAck(m) => vec![
            text(&m.user_id),
            text(&m.group),
            m.ack_id.to_string(),
            Extensions {
                tracing: m.tracing_id,
                ..NONE
            }
            .print(),
        ],
        Message::ServiceEvent(m) => vec![
            m.object.number().to_string(),
            text(&m.id),
            m.kind.number().to_string(),
            text(&m.message),
            NONE.print(),
        ],
        Message::CheckGroupExistenceWithAck(m) => vec![
            text(&m.group),
            m.ack_id.to_string(),
            Extensions {
                tracing: m.tracing_id,
                ..NONE
            }
            .print(),
        ],
        Message::CheckConnectionExistenceWithAck(m) => vec![
            text(&m.connection_id),
            m.ack_id.to_string(),
            Extensions {
                tracing: m.tracing_id,
                ..NONE
            }
            .print(),
        ],
        Message::CheckUserExistenceWithAck(m) => vec![
            text(&m.user_id),
            m.ack_id.to_string(),
            Extensions {
                tracing: m.tracing_id,
                ..NONE
            }
            .print(),
        ],
        Message::UserJoinGroupWithAck(m) => vec![
            text(&m.user_id),
            text(&m.group),
            m.ack_id.to_string(),
            Extensions {
                tracing: m.tracing_id,
                ttl: m.ttl_seconds,
                ..NONE
            }
            .print(),
        ],
        Message::UserLeaveGroupWithAck(m) => vec![
            text(&m.user_id),
            optional(m.group.as_deref()),
            m.ack_id.to_string(),
            Extensions {
                tracing: m.tracing_id,
                ..NONE
            }
            .print(),
        ],
        Message::AccessKeyRequest(m) => {
            vec![text(&m.token), optional(m.kid.as_deref()), NONE.print()]
        }
        Message::AccessKeyResponse(m) => vec![
            optional(m.kid.as_deref()),
            optional(m.access_key.as_deref()),
            optional(m.error_type.as_deref()),
            optional(m.error_message.as_deref()),
            NONE.print(),
        ],
        Message::CloseConnectionWithAck(m) => vec![
            text(&m.connection_id),
            optional(m.reason.as_deref()),
            m.ack_id.to_string(),
            Extensions {
                tracing: m.tracing_id,
                ..NONE
            }
            .print(),
        ],
        Message::CloseConnectionsWithAck(m) => vec![
            optional(m.reason.as_deref()),
            m.ack_id.to_string(),
            texts(&m.excluded),
            Extensions {
                tracing: m.tracing_id,
                ..NONE
            }
            .print(),
        ],
        Message::CloseUserConnectionsWithAck(m) => vec![
            text(&m.user_id),
            optional(m.reason.as_deref()),
            m.ack_id.to_string(),
            texts(&m.excluded),
            Extensions {
                tracing: m.tracing_id,
                ..NONE
            }
            .print(),
        ],
        Message::CloseGroupConnectionsWithAck(m) => vec![
            text(&m.group),
            optional(m.reason.as_deref()),
            m.ack_id.to_string(),
            texts(&m.excluded),
            Extensions {
                tracing: m.tracing_id,
                ..NONE
            }
            .print(),
        ],
        Message::ClientInvocation(m) => vec![
            text(&m.invocation_id),
            text(&m.connection_id),
            text(&m.caller_server_id),
            payloads(&m.payloads),
            Extensions {
                tracing: m.tracing_id,
                ..NONE
            }
            .print(),
        ],
        Message::ClientCompletion(m) => vec![
            text(&m.invocation_id),
            text(&m.connection_id),
            text(&m.caller_server_id),
            optional(m.protocol.as_deref()),
            bytes(bytes_of(&m.payload)),
            Extensions {
                tracing: m.tracing_id,
                protocol: m.protocol.as_deref(),
                ..NONE
            }
            .print(),
        ],
        Message::ErrorCompletion(m) => vec![
            text(&m.invocation_id),
            text(&m.connection_id),
            text(&m.caller_server_id),
            text(&m.error),
            Extensions {
                tracing: m.tracing_id,
                ..NONE
            }
            .print(),
        ],
        Message::ServiceMapping(m) => vec![
            text(&m.invocation_id),
            text(&m.connection_id),
            text(&m.instance_id),
            NONE.print(),
        ],
        Message::ConnectionReconnect(m) => vec![text(&m.connection_id), NONE.print()],
        Message::ConnectionFlowControl(m) => vec![
            text(&m.connection_id),
            wide(m.target as i32),
            wide(m.operation as i32),
            NONE.print(),
        ],
        Message::GroupMemberQuery(m) => vec![
            Extensions {
                tracing: m.tracing_id,
                ..NONE
            }
            .print(),
            text(&m.group),
            m.ack_id.to_string(),
            optional_number(m.top),
            optional(m.continuation_token.as_deref()),
            optional_number(m.max_page_size),
        ],
        Message::RefreshAuth(m) => vec![
            text(&m.connection_token),
            claims(&m.claims),
            time(m.expire_time),
            m.ack_id.to_string(),
            NONE.print(),
        ],
        Message::GetConnectionClaims(m) => vec![
            text(&m.connection_token),
            m.ack_id.to_string(),
            NONE.print(),
        ],
        Message::UpdateConnectionClaims(m) => {
            vec![text(&m.connection_id), claims(&m.claims), NONE.print()]
        }
        Message::Unknown(_) => Vec::new(),
    }
}

/// The map of extensions, as it shall stand on the wire.
struct Extensions<'m> {
    tracing: Option<u64>,
    ttl: Option<i32>,
    protocol: Option<&'m str>,
    filter: Option<&'m str>,
    data_type: DataMessageType,
    is_partial: bool,
}

const NONE: Extensions<'_> = Extensions {
    tracing: None,
    ttl: None,
    protocol: None,
    filter: None,
    data_type: DataMessageType::Unknown,
    is_partial: false,
};

impl Extensions<'_> {
    fn print(&self) -> String {
        let data_type = Some(self.data_type.number()).filter(|number| *number != 0);
        let pairs = [
            self.tracing.map(|id| format!("1: {id}")),
            self.ttl.map(|seconds| format!("2: {seconds}")),
            self.protocol
                .map(|protocol| format!("3: {}", text(protocol))),
            self.filter.map(|filter| format!("4: {}", text(filter))),
            data_type.map(|number| format!("5: {number}")),
            self.is_partial.then(|| "6: true".to_owned()),
        ];
        map(pairs.into_iter().flatten())
    }
}

fn text(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

fn optional(value: Option<&str>) -> String {
    value.map_or_else(|| "nil".to_owned(), text)
}

fn optional_number(value: Option<i32>) -> String {
    value.map_or_else(|| "nil".to_owned(), |value| value.to_string())
}

fn wide(value: i32) -> String {
    format!("i32({value})")
}

fn time(time: Timestamp) -> String {
    format!("time({}, {})", time.seconds, time.nanoseconds)
}

fn texts(texts: &[Text<'_>]) -> String {
    let texts: Vec<_> = texts.iter().map(|item| text(item)).collect();
    format!("[{}]", texts.join(", "))
}

fn claims(claims: &Claims<'_>) -> String {
    map(claims
        .iter()
        .map(|(kind, value)| format!("{}: {}", text(kind), text(value))))
}

fn headers(headers: &Headers<'_>) -> String {
    map(headers
        .iter()
        .map(|(name, values)| format!("{}: {}", text(name), texts(values))))
}

fn map_of_bytes<'p, P>(
    payloads: &'p Payloads<'_, P>,
    bytes_of: impl Fn(&'p P) -> &'p [u8],
) -> String {
    map(payloads
        .iter()
        .map(|(protocol, payload)| format!("{}: {}", text(protocol), bytes(bytes_of(payload)))))
}

fn map(pairs: impl Iterator<Item = String>) -> String {
    format!("{{{}}}", pairs.collect::<Vec<_>>().join(", "))
}

/// As text what begins like JSON, everything else in hex.
fn bytes(bytes: &[u8]) -> String {
    let json = str::from_utf8(bytes)
        .ok()
        .filter(|json| json.starts_with('{'));
    json.map_or_else(
        || format!("h'{}'", bytes.iter().copied().map(hex).collect::<String>()),
        |json| format!("bin{}", text(json)),
    )
}

fn hex(byte: u8) -> String {
    format!("{byte:02x}")
}

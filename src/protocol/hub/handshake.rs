//! The first record of a client connection, and the few messages that the service itself may have to send to a client.
//!
//! The request is `{"protocol":"json","version":1}` and the byte 0x1e; unknown members are skipped and their order is free. The
//! app server answers it, with `{}` or with an error in the words of ASP.NET Core. The service answers only when there is no
//! app server that could, and then in the same words.

use memchr::memchr;
use serde::Serialize;
use serde_json::Value;
use thiserror::Error;

use super::message::MessageProtocol;
use crate::protocol::negotiate::Transport;

/// What a client and its app server speak once the handshake is done.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum HubProtocol {
    /// JSON objects, each ended by 0x1e.
    Json,
    /// MessagePack arrays, each after its length.
    MessagePack,
    /// Blazor's own, in the shape of MessagePack.
    BlazorPack,
    /// One that an app has brought along. The service relays it, but can say nothing in it.
    Other(Box<str>),
}

impl HubProtocol {
    /// The protocol of that name. Like ASP.NET Core we compare without case.
    pub fn from_name(name: &str) -> Self {
        let known = [Self::Json, Self::MessagePack, Self::BlazorPack];
        known
            .into_iter()
            .find(|protocol| protocol.name().eq_ignore_ascii_case(name))
            .unwrap_or_else(|| Self::Other(name.into()))
    }

    /// The name in handshakes and in payload maps.
    pub fn name(&self) -> &str {
        match self {
            Self::Json => "json",
            Self::MessagePack => "messagepack",
            Self::BlazorPack => "blazorpack",
            Self::Other(name) => name,
        }
    }

    /// How its messages are cut and read, if that is known here.
    pub fn message_protocol(&self) -> Option<MessageProtocol> {
        match self {
            Self::Json => Some(MessageProtocol::Json),
            Self::MessagePack | Self::BlazorPack => Some(MessageProtocol::MessagePack),
            Self::Other(_) => None,
        }
    }

    /// Whether its records are text. Of one that we do not know we can only tell that bytes will do.
    pub fn is_text(&self) -> bool {
        *self == Self::Json
    }
}

/// A handshake found at the start of what a client has sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HandshakeRecord<'a> {
    /// The JSON, without the byte that ends it.
    pub json: &'a [u8],
    /// What came behind: the beginning of the hub protocol.
    pub rest: &'a [u8],
}

/// Looks for the handshake in `bytes`, which is all that a client has sent so far. `None` means that more must come; then the next
/// call need not look at these again, and is given their number as `scanned`.
///
/// Fails when `bytes_max` bytes, of which the last would have to end the record, hold none.
pub fn find_handshake(
    bytes: &[u8],
    scanned: usize,
    bytes_max: usize,
) -> Result<Option<HandshakeRecord<'_>>, HandshakeError> {
    let head = bytes.get(..bytes_max).unwrap_or(bytes);
    let unread = head.get(scanned..).unwrap_or_default();
    match memchr(RECORD_SEPARATOR, unread) {
        Some(offset) => {
            let (json, rest) = bytes.split_at(scanned + offset);
            Ok(Some(HandshakeRecord {
                json,
                rest: rest.get(1..).unwrap_or_default(),
            }))
        }
        None if head.len() == bytes_max => Err(HandshakeError::Canceled),
        None => Ok(None),
    }
}

/// What the client asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HandshakeRequest {
    /// The language of everything that follows.
    pub protocol: HubProtocol,
    /// The newest version of it that the client knows.
    pub version: i64,
}

impl HandshakeRequest {
    /// Reads a record from which the final 0x1e has been taken.
    pub fn parse(json: &[u8]) -> Result<Self, HandshakeError> {
        let value: Value = serde_json::from_slice(json).map_err(|_| HandshakeError::NotJson)?;
        let Value::Object(members) = &value else {
            return Err(HandshakeError::NotAnObject {
                found: type_name(&value),
            });
        };
        let content = || String::from_utf8_lossy(json).into();
        let protocol = match members.get("protocol") {
            Some(Value::String(name)) => HubProtocol::from_name(name),
            Some(_) => return Err(HandshakeError::ProtocolNotText),
            None => return Err(HandshakeError::MissingProtocol { content: content() }),
        };
        let version = match members.get("version") {
            Some(version) => version.as_i64().ok_or(HandshakeError::VersionNotInteger)?,
            None => return Err(HandshakeError::MissingVersion { content: content() }),
        };
        Ok(Self { protocol, version })
    }

    /// Refuses a protocol of bytes on a transport of text. One that is not known here may be of text: its app server knows.
    pub fn check_transport(&self, transport: Transport) -> Result<(), HandshakeError> {
        let is_binary = self.protocol.message_protocol() == Some(MessageProtocol::MessagePack);
        if transport.is_text_only() && is_binary {
            return Err(HandshakeError::TextOnly {
                name: self.protocol.name().into(),
            });
        }
        Ok(())
    }

    /// Whether one who speaks the protocols `served` can accept this.
    ///
    /// For whoever answers the handshake. A relay does not ask: what is served is for the app server to say.
    pub fn check(&self, served: &[HubProtocol]) -> Result<(), HandshakeError> {
        let name = || self.protocol.name().into();
        if !served.contains(&self.protocol) {
            return Err(HandshakeError::UnsupportedProtocol { name: name() });
        }
        if self.version > PROTOCOL_VERSION_MAX {
            return Err(HandshakeError::UnsupportedVersion {
                name: name(),
                version: self.version,
            });
        }
        Ok(())
    }
}

/// Why a handshake is refused. The message is for those who may see details; a client is told [`public_text`](Self::public_text).
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum HandshakeError {
    /// It did not come in time, or it has no end.
    #[error("Handshake was canceled.")]
    Canceled,
    /// Not JSON at all.
    #[error("{UNEXPECTED} JsonReaderException: The handshake request is not JSON.")]
    NotJson,
    /// JSON, but not an object.
    #[error(
        "{UNEXPECTED} InvalidDataException: Unexpected JSON Token Type '{found}'. Expected a JSON Object."
    )]
    NotAnObject {
        /// What it is instead.
        found: &'static str,
    },
    /// No member `protocol`.
    #[error(
        "{UNEXPECTED} InvalidDataException: Missing required property 'protocol'. Message content: {content}"
    )]
    MissingProtocol {
        /// The whole record.
        content: Box<str>,
    },
    /// The member `protocol` is no text.
    #[error("{UNEXPECTED} InvalidDataException: Expected 'protocol' to be of type String.")]
    ProtocolNotText,
    /// No member `version`.
    #[error(
        "{UNEXPECTED} InvalidDataException: Missing required property 'version'. Message content: {content}"
    )]
    MissingVersion {
        /// The whole record.
        content: Box<str>,
    },
    /// The member `version` is no whole number.
    #[error("{UNEXPECTED} InvalidDataException: Expected 'version' to be of type Number.")]
    VersionNotInteger,
    /// A protocol that is not served.
    #[error("The protocol '{name}' is not supported.")]
    UnsupportedProtocol {
        /// As asked for.
        name: Box<str>,
    },
    /// A version that is too new.
    #[error("The server does not support version {version} of the '{name}' protocol.")]
    UnsupportedVersion {
        /// Of the protocol.
        name: Box<str>,
        /// As asked for.
        version: i64,
    },
    /// A protocol of bytes, on a transport of text.
    #[error(
        "Cannot use the '{name}' protocol on the current transport. The transport does not support 'Binary' transfer format."
    )]
    TextOnly {
        /// Of the protocol.
        name: Box<str>,
    },
}

impl HandshakeError {
    /// What any client may be told.
    pub fn public_text(&self) -> String {
        match self {
            Self::NotJson
            | Self::NotAnObject { .. }
            | Self::MissingProtocol { .. }
            | Self::ProtocolNotText
            | Self::MissingVersion { .. }
            | Self::VersionNotInteger => UNEXPECTED.to_owned(),
            Self::Canceled
            | Self::UnsupportedProtocol { .. }
            | Self::UnsupportedVersion { .. }
            | Self::TextOnly { .. } => self.to_string(),
        }
    }
}

/// The answer to a handshake that is refused. After it the connection ends.
pub fn error_response(text: &str) -> Vec<u8> {
    json_record(&ErrorResponse { error: text })
}

/// The answer to a handshake that is accepted.
pub const ACCEPTED_RESPONSE: &[u8] = b"{}\x1e";

/// A ping, framed. Empty in a protocol that we do not know.
pub fn ping_message(protocol: &HubProtocol) -> &'static [u8] {
    match protocol {
        HubProtocol::Json => b"{\"type\":6}\x1e",
        HubProtocol::MessagePack | HubProtocol::BlazorPack => &[2, 0x91, 6],
        HubProtocol::Other(_) => &[],
    }
}

/// A close, framed: tells a client why it is let go and whether it may come back by itself.
///
/// Empty in a protocol that we do not know: such a client is only hung up on.
pub fn close_message(
    protocol: &HubProtocol,
    error: Option<&str>,
    allow_reconnect: bool,
) -> Vec<u8> {
    match protocol {
        HubProtocol::Json => json_record(&Close {
            r#type: 7,
            error,
            allow_reconnect,
        }),
        HubProtocol::MessagePack | HubProtocol::BlazorPack => {
            messagepack_close(error, allow_reconnect)
        }
        HubProtocol::Other(_) => Vec::new(),
    }
}

/// Finding is the same however the bytes arrive, and whatever is found can be answered.
#[cfg(any(test, fuzzing))]
#[expect(clippy::missing_panics_doc, reason = "to panic is how it reports")]
pub fn fuzz_hub_handshake(bytes: &[u8]) {
    const BYTES_MAX: usize = 4096;
    let json = |found: Result<Option<HandshakeRecord<'_>>, _>| {
        found.map(|record| record.map(|record| record.json.to_vec()))
    };
    let found = find_handshake(bytes, 0, BYTES_MAX);
    let mut received = Vec::new();
    let mut found_step_by_step = Ok(None);
    for byte in bytes {
        received.push(*byte);
        found_step_by_step = json(find_handshake(&received, received.len() - 1, BYTES_MAX));
        if found_step_by_step != Ok(None) {
            break;
        }
    }
    assert_eq!(json(found.clone()), found_step_by_step);
    let Ok(Some(record)) = found else { return };
    assert_eq!(record.json.len() + 1 + record.rest.len(), bytes.len());
    match HandshakeRequest::parse(record.json) {
        Ok(request) => {
            assert_eq!(
                HubProtocol::from_name(request.protocol.name()),
                request.protocol
            );
            assert_eq!(
                close_message(&request.protocol, None, true).is_empty(),
                ping_message(&request.protocol).is_empty()
            );
        }
        Err(error) => {
            let answer = error_response(&error.to_string());
            assert_eq!(
                memchr(RECORD_SEPARATOR, &answer),
                Some(answer.len() - 1),
                "an answer is one record"
            );
        }
    }
}

#[derive(Serialize)]
struct ErrorResponse<'a> {
    error: &'a str,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Close<'a> {
    r#type: u8,
    // Java's and C++'s clients fail on a null.
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<&'a str>,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    allow_reconnect: bool,
}

/// No control character stands raw in JSON, so the byte that ends the record cannot occur within it.
fn json_record(message: &impl Serialize) -> Vec<u8> {
    // Texts and numbers under fixed names: nothing here can fail to be written.
    let mut record = serde_json::to_vec(message).unwrap_or_default();
    record.push(RECORD_SEPARATOR);
    record
}

/// `[7, error or nil, allowReconnect]` behind its length, which is a base-128 number with the low group first.
fn messagepack_close(error: Option<&str>, allow_reconnect: bool) -> Vec<u8> {
    let mut body = rmp::encode::buffer::ByteBuf::new();
    let Ok(_) = rmp::encode::write_array_len(&mut body, 3);
    let Ok(_) = rmp::encode::write_uint(&mut body, 7);
    match error {
        Some(error) => {
            let Ok(()) = rmp::encode::write_str(&mut body, error);
        }
        None => {
            let Ok(()) = rmp::encode::write_nil(&mut body);
        }
    }
    let Ok(()) = rmp::encode::write_bool(&mut body, allow_reconnect);
    let body = body.into_vec();
    let mut message = Vec::with_capacity(body.len() + 2);
    let mut length = body.len();
    while length >= 0x80 {
        message.push(length as u8 | 0x80);
        length >>= 7;
    }
    message.push(length as u8);
    message.extend_from_slice(&body);
    message
}

/// In the words of .NET's JSON reader.
fn type_name(value: &Value) -> &'static str {
    match value {
        Value::Null => "Null",
        Value::Bool(true) => "True",
        Value::Bool(false) => "False",
        Value::Number(_) => "Number",
        Value::String(_) => "String",
        Value::Array(_) => "Array",
        Value::Object(_) => "Object",
    }
}

const RECORD_SEPARATOR: u8 = 0x1e;

/// The version that brought stateful reconnect. Everything below it is accepted as well, like ASP.NET Core does.
const PROTOCOL_VERSION_MAX: i64 = 2;

const UNEXPECTED: &str = "An unexpected error occurred during connection handshake.";

#[cfg(test)]
mod tests;

//! Hub messages as values, and where one ends and the next begins.
//!
//! A [`HubMessage`] is what an app server and a client say to each other once the hub handshake is done. A [`RecordBuffer`]
//! cuts a stream of bytes into records. [`MessageProtocol`] reads a record and writes a message; how that looks in either
//! protocol stands in `json` and `messagepack`. The rules are those of the `HubProtocol` page of SignalR.
//!
//! Invariants: nothing here allocates by a length that a peer only announces, and a record is never longer than the limit the
//! caller names.

use bytes::{Buf as _, Bytes, BytesMut};

use super::{json, messagepack};
use crate::frame::record::{find_separator, read_varint};

/// An argument, a result or an item of a stream. Both hub protocols read into and write from this one type.
pub type Value = rmpv::Value;

/// Headers of a message: pairs in the order received.
pub type Headers = Vec<(String, String)>;

/// One message of the hub protocol.
#[derive(Clone, Debug, PartialEq)]
pub enum HubMessage {
    /// Calls a method.
    Invocation {
        /// Headers, mostly none.
        headers: Headers,
        /// Names the call when an answer is wanted.
        invocation_id: Option<String>,
        /// The method.
        target: String,
        /// What the method is called with.
        arguments: Vec<Value>,
        /// Streams that the sender will feed.
        stream_ids: Vec<String>,
    },
    /// One item of a stream, in either direction.
    StreamItem {
        /// Headers, mostly none.
        headers: Headers,
        /// The call or stream that the item belongs to.
        invocation_id: String,
        /// The item.
        item: Value,
    },
    /// Ends a call or a stream.
    Completion {
        /// Headers, mostly none.
        headers: Headers,
        /// The call or stream that ends.
        invocation_id: String,
        /// How it ends.
        outcome: Outcome,
    },
    /// Calls a method that answers with a stream.
    StreamInvocation {
        /// Headers, mostly none.
        headers: Headers,
        /// Names the call.
        invocation_id: String,
        /// The method.
        target: String,
        /// What the method is called with.
        arguments: Vec<Value>,
        /// Streams that the sender will feed.
        stream_ids: Vec<String>,
    },
    /// Asks for the end of a stream. A completion still follows.
    CancelInvocation {
        /// Headers, mostly none.
        headers: Headers,
        /// The call that opened the stream.
        invocation_id: String,
    },
    /// Keeps the connection alive.
    Ping,
    /// The last message of a connection.
    Close {
        /// Why, if not in good order.
        error: Option<String>,
        /// Whether the client may connect again by itself.
        allow_reconnect: bool,
    },
    /// Stateful reconnect: everything up to this number has arrived.
    Ack {
        /// The last number received.
        sequence_id: i64,
    },
    /// Stateful reconnect: the number of the next message.
    Sequence {
        /// That number.
        sequence_id: i64,
    },
}

/// How a call or a stream ended.
#[derive(Clone, Debug, PartialEq)]
pub enum Outcome {
    /// Without a value: the end of a stream.
    Void,
    /// With a value, which is nil for a method that returns nothing.
    Result(Value),
    /// With an error text for the caller.
    Error(String),
}

/// A hub protocol that can be read and written here.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum MessageProtocol {
    /// JSON text, each record ended by 0x1E.
    Json,
    /// MessagePack arrays, each preceded by its length as a varint.
    MessagePack,
}

impl MessageProtocol {
    /// Both, in the order in which .NET writes them into a map of payloads.
    pub const ALL: [Self; 2] = [Self::Json, Self::MessagePack];

    /// The name used in handshakes and maps of payloads.
    pub fn name(self) -> &'static str {
        match self {
            Self::Json => "json",
            Self::MessagePack => "messagepack",
        }
    }

    /// The protocol of that name; names are compared without regard to case.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL
            .into_iter()
            .find(|protocol| protocol.name().eq_ignore_ascii_case(name))
    }

    /// Reads a record. `None` for a type of message that is not known, which the receiver skips.
    pub fn decode(self, record: &[u8]) -> Result<Option<HubMessage>, HubMessageError> {
        match self {
            Self::Json => json::decode(record),
            Self::MessagePack => messagepack::decode(record),
        }
    }

    /// Writes a message as .NET does, with its separator or length.
    pub fn encode(self, message: &HubMessage) -> Vec<u8> {
        match self {
            Self::Json => json::encode(message),
            Self::MessagePack => messagepack::encode(message),
        }
    }
}

/// What has come of a stream of hub messages and is not used up.
#[derive(Debug, Default)]
pub struct RecordBuffer {
    bytes: BytesMut,
    /// So many of the bytes hold no separator. A record that comes in many small pieces is thus looked through once, not once for each.
    scanned: usize,
}

impl RecordBuffer {
    /// Adds what has come.
    pub fn extend(&mut self, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
    }

    /// Takes the next whole record, without its separator or length. `None` when more bytes are needed.
    pub fn next(
        &mut self,
        protocol: MessageProtocol,
        bytes_max: usize,
    ) -> Result<Option<Bytes>, HubMessageError> {
        match protocol {
            MessageProtocol::Json => self.next_separated(bytes_max),
            MessageProtocol::MessagePack => self.next_prefixed(bytes_max),
        }
    }

    /// How many bytes are not used up.
    pub fn len(&self) -> usize {
        self.bytes.len()
    }

    /// Whether all bytes are used up.
    pub fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    fn next_separated(&mut self, bytes_max: usize) -> Result<Option<Bytes>, HubMessageError> {
        let unread = self.bytes.get(self.scanned..).unwrap_or_default();
        let end = find_separator(unread).map(|offset| self.scanned + offset);
        if end.unwrap_or(self.bytes.len()) > bytes_max {
            return Err(HubMessageError::TooLong { bytes_max });
        }
        let Some(end) = end else {
            self.scanned = self.bytes.len();
            return Ok(None);
        };
        let record = self.bytes.split_to(end).freeze();
        self.bytes.advance(1);
        self.scanned = 0;
        Ok(Some(record))
    }

    fn next_prefixed(&mut self, bytes_max: usize) -> Result<Option<Bytes>, HubMessageError> {
        let prefix = read_varint(&self.bytes).map_err(|_| HubMessageError::LengthPrefix)?;
        let Some((length, prefix_bytes)) = prefix else {
            return Ok(None);
        };
        let length = length as usize;
        if length > bytes_max {
            return Err(HubMessageError::TooLong { bytes_max });
        }
        if self.bytes.len() - prefix_bytes < length {
            return Ok(None);
        }
        self.bytes.advance(prefix_bytes);
        // What was scanned, if it was, belonged to the handshake.
        self.scanned = 0;
        Ok(Some(self.bytes.split_to(length).freeze()))
    }
}

/// What is wrong with bytes that should have been hub messages. The texts are those of ASP.NET Core, which clients may see
/// when detailed errors are on.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[expect(missing_docs, reason = "the text of each variant says it")]
pub enum HubMessageError {
    #[error(
        "The maximum message size of {bytes_max}B was exceeded. The message size can be configured in AddHubOptions."
    )]
    TooLong { bytes_max: usize },
    #[error("Messages over 2GB in size are not supported.")]
    LengthPrefix,
    #[error("Error reading JSON.")]
    NotJson,
    #[error("Unexpected JSON Token Type '{found}'. Expected a JSON Object.")]
    NotAnObject { found: &'static str },
    #[error("Missing required property '{property}'.")]
    Missing { property: &'static str },
    #[error("Expected '{property}' to be of type {expected}.")]
    PropertyType {
        property: &'static str,
        expected: &'static str,
    },
    #[error("Expected header '{name}' to be of type String.")]
    HeaderType { name: String },
    #[error("The 'error' and 'result' properties are mutually exclusive.")]
    ResultAndError,
    #[error("Reading '{field}' as {expected} failed.")]
    Field {
        field: &'static str,
        expected: &'static str,
    },
    #[error("Reading {shape} length for '{field}' failed.")]
    FieldLength {
        field: &'static str,
        shape: &'static str,
    },
    #[error("Null or empty target for {message} message.")]
    NoTarget { message: &'static str },
    #[error("Invalid invocation result kind.")]
    ResultKind,
}

/// An empty id means the same as none: no answer is wanted.
pub(super) fn wanted_id(id: Option<String>) -> Option<String> {
    id.filter(|id| !id.is_empty())
}

/// Messages for property tests, of every type.
#[cfg(test)]
pub(super) mod arbitrary {
    use proptest::collection::vec;
    use proptest::option;
    use proptest::prelude::*;

    use super::{Headers, HubMessage, Outcome, Value};

    fn headers() -> impl Strategy<Value = Headers> {
        vec(("[a-z]{1,8}", ".{0,8}"), 0..3).prop_map(|mut headers| {
            headers.sort();
            headers.dedup_by(|a, b| a.0 == b.0);
            headers
        })
    }

    /// Values that both protocols can carry unchanged.
    fn value() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Nil),
            any::<bool>().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            any::<u64>().prop_map(Value::from),
            (-1e9..1e9).prop_map(|f: f64| Value::from(f.trunc() + 0.5)),
            ".{0,12}".prop_map(Value::from),
        ];
        leaf.prop_recursive(3, 16, 4, |inner| {
            prop_oneof![
                vec(inner.clone(), 0..4).prop_map(Value::Array),
                vec((".{0,6}".prop_map(Value::from), inner), 0..4).prop_map(Value::Map),
            ]
        })
    }

    pub(in super::super) fn message() -> impl Strategy<Value = HubMessage> {
        let call = || {
            (
                headers(),
                "[A-Za-z]{1,9}",
                vec(value(), 0..4),
                vec("[0-9]{1,3}", 0..3),
            )
        };
        let outcome = prop_oneof![
            Just(Outcome::Void),
            value().prop_map(Outcome::Result),
            ".{0,20}".prop_map(Outcome::Error)
        ];
        prop_oneof![
            (option::of("[0-9a-f]{1,8}"), call()).prop_map(
                |(invocation_id, (headers, target, arguments, stream_ids))| {
                    HubMessage::Invocation {
                        headers,
                        invocation_id,
                        target,
                        arguments,
                        stream_ids,
                    }
                }
            ),
            ("[0-9a-f]{1,8}", call()).prop_map(
                |(invocation_id, (headers, target, arguments, stream_ids))| {
                    HubMessage::StreamInvocation {
                        headers,
                        invocation_id,
                        target,
                        arguments,
                        stream_ids,
                    }
                }
            ),
            (headers(), "[0-9]{1,4}", value()).prop_map(|(headers, invocation_id, item)| {
                HubMessage::StreamItem {
                    headers,
                    invocation_id,
                    item,
                }
            }),
            (headers(), "[0-9]{1,4}", outcome).prop_map(|(headers, invocation_id, outcome)| {
                HubMessage::Completion {
                    headers,
                    invocation_id,
                    outcome,
                }
            }),
            (headers(), "[0-9]{1,4}").prop_map(|(headers, invocation_id)| {
                HubMessage::CancelInvocation {
                    headers,
                    invocation_id,
                }
            }),
            Just(HubMessage::Ping),
            (option::of(".{1,20}"), any::<bool>()).prop_map(|(error, allow_reconnect)| {
                HubMessage::Close {
                    error,
                    allow_reconnect,
                }
            }),
            any::<i64>().prop_map(|sequence_id| HubMessage::Ack { sequence_id }),
            any::<i64>().prop_map(|sequence_id| HubMessage::Sequence { sequence_id }),
        ]
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn records(protocol: MessageProtocol, chunks: &[&[u8]]) -> Result<Vec<Bytes>, HubMessageError> {
        let (mut buffer, mut records) = (RecordBuffer::default(), Vec::new());
        for chunk in chunks {
            buffer.extend(chunk);
            while let Some(record) = buffer.next(protocol, 1000)? {
                records.push(record);
            }
        }
        assert!(buffer.is_empty(), "all of the input is used up");
        Ok(records)
    }

    #[test]
    fn records_are_found_wherever_the_input_is_cut() {
        let json: &[u8] = b"{\"type\":6}\x1e\x1e{\"a\":\"\xc3\xa9\"}\x1e";
        let messagepack: &[u8] = b"\x02\x91\x06\x00\x82\x00\x91\x06";
        for (protocol, input, count) in [
            (MessageProtocol::Json, json, 3),
            (MessageProtocol::MessagePack, messagepack, 3),
        ] {
            let whole = records(protocol, &[input]).unwrap();
            assert_eq!(whole.len(), count);
            let bytes: Vec<&[u8]> = input.chunks(1).collect();
            assert_eq!(records(protocol, &bytes).unwrap(), whole);
            for cut in 0..input.len() {
                assert_eq!(
                    records(protocol, &[&input[..cut], &input[cut..]]).unwrap(),
                    whole
                );
            }
        }
    }

    #[test]
    fn a_record_beyond_the_limit_is_refused_before_it_has_arrived() {
        let too_long = Err(HubMessageError::TooLong { bytes_max: 1000 });
        assert_eq!(records(MessageProtocol::Json, &[&[b'x'; 1001]]), too_long);
        assert_eq!(
            records(MessageProtocol::MessagePack, &[&[0xe9, 0x07]]),
            too_long
        );
        assert_eq!(
            records(
                MessageProtocol::MessagePack,
                &[&[0xff, 0xff, 0xff, 0xff, 0x07]]
            ),
            too_long
        );
    }

    #[test]
    fn a_length_of_more_than_31_bits_is_refused() {
        for prefix in [
            [0xff, 0xff, 0xff, 0xff, 0x0f],
            [0x80, 0x80, 0x80, 0x80, 0x80],
        ] {
            assert_eq!(
                records(MessageProtocol::MessagePack, &[&prefix]),
                Err(HubMessageError::LengthPrefix)
            );
        }
    }

    #[test]
    fn names_are_compared_without_case() {
        assert_eq!(
            MessageProtocol::from_name("JSON"),
            Some(MessageProtocol::Json)
        );
        assert_eq!(
            MessageProtocol::from_name("MessagePack"),
            Some(MessageProtocol::MessagePack)
        );
        assert_eq!(MessageProtocol::from_name("blazorpack"), None);
    }

    proptest! {
        #[test]
        fn what_is_written_reads_back_the_same(message in arbitrary::message()) {
            for protocol in MessageProtocol::ALL {
                let mut buffer = RecordBuffer::default();
                buffer.extend(&protocol.encode(&message));
                let record = buffer.next(protocol, 1 << 20).unwrap().unwrap();
                prop_assert!(buffer.is_empty());
                prop_assert_eq!(protocol.decode(&record).unwrap(), Some(message.clone()));
            }
        }

        #[test]
        fn no_bytes_make_it_panic(bytes in proptest::collection::vec(any::<u8>(), 0..64)) {
            for protocol in MessageProtocol::ALL {
                let mut buffer = RecordBuffer::default();
                buffer.extend(&bytes);
                let _ = protocol.decode(&bytes);
                while let Ok(Some(record)) = buffer.next(protocol, 50) {
                    let _ = protocol.decode(&record);
                }
            }
        }
    }
}

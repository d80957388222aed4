//! What the service must know of a hub message that it passes on: its type, which call it belongs to, which streams it opens.
//!
//! A message is read for that as little as possible. Its arguments, items and results are passed over without being built, so a
//! message of any size and depth costs no memory, and whether they are well formed is left to whoever they are for. Of its streams
//! only so many are told as anybody can make use of. The members of
//! JSON may come in any order, unknown ones are skipped and of a repeated one the last counts. Types and layouts are those of the
//! `HubProtocol` page of SignalR.

use std::borrow::Cow;
use std::fmt;

use serde::de::{Deserialize, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};
use smallvec::SmallVec;

use super::message::{HubMessageError, MessageProtocol};
use super::messagepack::Body;
use crate::limits::STREAM_IDS_READ_MAX;

/// See the module.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Envelope<'a> {
    /// The type of message.
    pub kind: Kind,
    /// The call that it opens or belongs to. An empty id means the same as none: no answer is wanted.
    pub invocation_id: Option<Cow<'a, str>>,
    /// The streams that the sender of a call will feed, the first [`STREAM_IDS_READ_MAX`] of them.
    pub stream_ids: SmallVec<[Cow<'a, str>; 1]>,
    /// The number in an `Ack` or a `Sequence`.
    pub sequence_id: Option<i64>,
}

/// The types of message, with their numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names are those of the HubProtocol page")]
pub enum Kind {
    Invocation,
    StreamItem,
    Completion,
    StreamInvocation,
    CancelInvocation,
    Ping,
    Close,
    Ack,
    Sequence,
    /// One of a later version.
    Unknown,
}

impl Kind {
    fn from_number(number: i64) -> Self {
        match number {
            1 => Self::Invocation,
            2 => Self::StreamItem,
            3 => Self::Completion,
            4 => Self::StreamInvocation,
            5 => Self::CancelInvocation,
            6 => Self::Ping,
            7 => Self::Close,
            8 => Self::Ack,
            9 => Self::Sequence,
            _ => Self::Unknown,
        }
    }
}

impl<'a> Envelope<'a> {
    /// Reads a record, without its separator or length.
    pub fn read(protocol: MessageProtocol, record: &'a [u8]) -> Result<Self, HubMessageError> {
        match protocol {
            MessageProtocol::Json => Self::read_json(record),
            MessageProtocol::MessagePack => Self::read_messagepack(record),
        }
    }

    fn new(kind: Kind) -> Self {
        Self {
            kind,
            invocation_id: None,
            stream_ids: SmallVec::new(),
            sequence_id: None,
        }
    }

    fn read_json(record: &'a [u8]) -> Result<Self, HubMessageError> {
        let members: Members<'a> = serde_json::from_slice(record).map_err(|error| {
            // Members may be anything, so nothing but the record itself can be of the wrong shape.
            if error.is_data() {
                let found = token_name(record);
                HubMessageError::NotAnObject { found }
            } else {
                HubMessageError::NotJson
            }
        })?;
        members.into_envelope()
    }

    fn read_messagepack(record: &'a [u8]) -> Result<Self, HubMessageError> {
        let mut body = Body(record);
        let elements = body.array("message")?;
        let mut envelope = Self::new(Kind::from_number(body.integer("messageType")?));
        match envelope.kind {
            Kind::Invocation | Kind::StreamInvocation => {
                body.skip("headers")?;
                envelope.invocation_id = wanted_id(body.borrowed_text("invocationId")?);
                // The JavaScript client leaves the stream ids out. Before them come the target and the arguments.
                if elements >= 6 {
                    body.skip("target")?;
                    body.skip("arguments")?;
                    for _ in 0..body.array("streamIds")? {
                        let id = body.borrowed_text("streamIds")?;
                        if envelope.stream_ids.len() < STREAM_IDS_READ_MAX {
                            envelope.stream_ids.extend(id.map(Cow::Borrowed));
                        }
                    }
                }
            }
            Kind::StreamItem | Kind::Completion | Kind::CancelInvocation => {
                body.skip("headers")?;
                envelope.invocation_id = wanted_id(body.borrowed_text("invocationId")?);
            }
            Kind::Ack | Kind::Sequence => {
                envelope.sequence_id = Some(body.integer("sequenceId")?);
            }
            Kind::Ping | Kind::Close | Kind::Unknown => {}
        }
        Ok(envelope)
    }
}

fn wanted_id(id: Option<&str>) -> Option<Cow<'_, str>> {
    id.filter(|id| !id.is_empty()).map(Cow::Borrowed)
}

/// The members of a JSON record that matter here.
#[derive(Default)]
struct Members<'a> {
    kind: Option<Member<'a>>,
    invocation_id: Option<Member<'a>>,
    stream_ids: Option<Member<'a>>,
    sequence_id: Option<Member<'a>>,
}

/// The value of one of them, of whatever type it is.
enum Member<'a> {
    Null,
    Integer(i64),
    Text(Cow<'a, str>),
    /// An array of texts.
    Texts(SmallVec<[Cow<'a, str>; 1]>),
    Other,
}

impl<'a> Members<'a> {
    fn into_envelope(self) -> Result<Envelope<'a>, HubMessageError> {
        let kind = integer("type", self.kind.as_ref())?
            .ok_or(HubMessageError::Missing { property: "type" })?;
        let mut envelope = Envelope::new(Kind::from_number(kind));
        match envelope.kind {
            Kind::Invocation | Kind::StreamInvocation => {
                envelope.invocation_id = text("invocationId", self.invocation_id)?;
                envelope.stream_ids = texts("streamIds", self.stream_ids)?;
            }
            Kind::StreamItem | Kind::Completion | Kind::CancelInvocation => {
                envelope.invocation_id = text("invocationId", self.invocation_id)?;
            }
            Kind::Ack | Kind::Sequence => {
                let property = "sequenceId";
                let id = integer(property, self.sequence_id.as_ref())?;
                envelope.sequence_id = Some(id.ok_or(HubMessageError::Missing { property })?);
            }
            Kind::Ping | Kind::Close | Kind::Unknown => {}
        }
        Ok(envelope)
    }
}

fn integer(
    property: &'static str,
    member: Option<&Member<'_>>,
) -> Result<Option<i64>, HubMessageError> {
    match member {
        None => Ok(None),
        Some(Member::Integer(integer)) => Ok(Some(*integer)),
        Some(Member::Null | Member::Text(_) | Member::Texts(_) | Member::Other) => {
            let expected = "Number";
            Err(HubMessageError::PropertyType { property, expected })
        }
    }
}

/// A text; null counts as absent, because some clients write it for what they leave out.
fn text<'a>(
    property: &'static str,
    member: Option<Member<'a>>,
) -> Result<Option<Cow<'a, str>>, HubMessageError> {
    match member {
        None | Some(Member::Null) => Ok(None),
        Some(Member::Text(text)) => Ok(Some(text).filter(|text| !text.is_empty())),
        Some(Member::Integer(_) | Member::Texts(_) | Member::Other) => {
            let expected = "String";
            Err(HubMessageError::PropertyType { property, expected })
        }
    }
}

fn texts<'a>(
    property: &'static str,
    member: Option<Member<'a>>,
) -> Result<SmallVec<[Cow<'a, str>; 1]>, HubMessageError> {
    match member {
        None | Some(Member::Null) => Ok(SmallVec::new()),
        Some(Member::Texts(texts)) => Ok(texts),
        Some(Member::Integer(_) | Member::Text(_) | Member::Other) => {
            let expected = "Array";
            Err(HubMessageError::PropertyType { property, expected })
        }
    }
}

/// What .NET calls the token at the start of JSON text that is no object.
fn token_name(json: &[u8]) -> &'static str {
    match json.trim_ascii_start().first() {
        Some(b'[') => "Array",
        Some(b'"') => "String",
        Some(b't') => "True",
        Some(b'f') => "False",
        Some(b'n') => "Null",
        Some(_) | None => "Number",
    }
}

impl<'de> Deserialize<'de> for Members<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visit;

        impl<'de> Visitor<'de> for Visit {
            type Value = Members<'de>;

            fn expecting(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
                out.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut members = Members::default();
                while let Some(name) = map.next_key()? {
                    let member = match name {
                        Name::Kind => &mut members.kind,
                        Name::InvocationId => &mut members.invocation_id,
                        Name::StreamIds => &mut members.stream_ids,
                        Name::SequenceId => &mut members.sequence_id,
                        Name::Other => {
                            map.next_value::<IgnoredAny>()?;
                            continue;
                        }
                    };
                    *member = Some(map.next_value()?);
                }
                Ok(members)
            }
        }

        deserializer.deserialize_map(Visit)
    }
}

/// The name of a member.
#[derive(serde::Deserialize)]
#[serde(field_identifier, rename_all = "camelCase")]
enum Name {
    #[serde(rename = "type")]
    Kind,
    InvocationId,
    StreamIds,
    SequenceId,
    #[serde(other)]
    Other,
}

impl<'de> Deserialize<'de> for Member<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(VisitMember)
    }
}

struct VisitMember;

impl<'de> Visitor<'de> for VisitMember {
    type Value = Member<'de>;

    fn expecting(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("anything")
    }

    fn visit_unit<E>(self) -> Result<Self::Value, E> {
        Ok(Member::Null)
    }

    fn visit_bool<E>(self, _: bool) -> Result<Self::Value, E> {
        Ok(Member::Other)
    }

    fn visit_i64<E>(self, integer: i64) -> Result<Self::Value, E> {
        Ok(Member::Integer(integer))
    }

    fn visit_u64<E>(self, integer: u64) -> Result<Self::Value, E> {
        Ok(i64::try_from(integer).map_or(Member::Other, Member::Integer))
    }

    fn visit_f64<E>(self, _: f64) -> Result<Self::Value, E> {
        Ok(Member::Other)
    }

    fn visit_borrowed_str<E>(self, text: &'de str) -> Result<Self::Value, E> {
        Ok(Member::Text(Cow::Borrowed(text)))
    }

    fn visit_str<E>(self, text: &str) -> Result<Self::Value, E> {
        Ok(Member::Text(Cow::Owned(text.to_owned())))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Self::Value, A::Error> {
        let mut texts = Some(SmallVec::<[_; 1]>::new());
        while let Some(entry) = seq.next_element()? {
            match entry {
                Member::Text(text) => {
                    if let Some(texts) = &mut texts
                        && texts.len() < STREAM_IDS_READ_MAX
                    {
                        texts.push(text);
                    }
                }
                Member::Null | Member::Integer(_) | Member::Texts(_) | Member::Other => {
                    texts = None;
                }
            }
        }
        Ok(texts.map_or(Member::Other, Member::Texts))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        while map.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
        Ok(Member::Other)
    }
}

/// Any record can be read, and what the envelope says is what the whole message says.
#[cfg(any(test, fuzzing))]
#[expect(clippy::missing_panics_doc, reason = "to panic is how it reports")]
pub fn fuzz_hub_envelope(record: &[u8]) {
    for protocol in MessageProtocol::ALL {
        let decoded = protocol.decode(record);
        let read = Envelope::read(protocol, record);
        match &decoded {
            Ok(Some(message)) => assert_eq!(read, Ok(Envelope::of(message))),
            Ok(None) => assert_eq!(read, Ok(Envelope::new(Kind::Unknown))),
            // An argument may be at fault, which an envelope does not look at.
            Err(_) => drop(read),
        }
    }
}

#[cfg(any(test, fuzzing))]
impl<'a> Envelope<'a> {
    /// The envelope of a message that has been read whole.
    fn of(message: &'a super::message::HubMessage) -> Self {
        use super::message::HubMessage as Message;

        let with_id = |kind, id: &'a str| Self {
            invocation_id: wanted_id(Some(id)),
            ..Self::new(kind)
        };
        let borrow = |ids: &'a [String]| {
            let ids = ids.iter().take(STREAM_IDS_READ_MAX);
            ids.map(Cow::from).collect()
        };
        match message {
            Message::Invocation {
                invocation_id,
                stream_ids,
                ..
            } => Self {
                stream_ids: borrow(stream_ids),
                ..with_id(
                    Kind::Invocation,
                    invocation_id.as_deref().unwrap_or_default(),
                )
            },
            Message::StreamInvocation {
                invocation_id,
                stream_ids,
                ..
            } => Self {
                stream_ids: borrow(stream_ids),
                ..with_id(Kind::StreamInvocation, invocation_id)
            },
            Message::StreamItem { invocation_id, .. } => with_id(Kind::StreamItem, invocation_id),
            Message::Completion { invocation_id, .. } => with_id(Kind::Completion, invocation_id),
            Message::CancelInvocation { invocation_id, .. } => {
                with_id(Kind::CancelInvocation, invocation_id)
            }
            Message::Ping => Self::new(Kind::Ping),
            Message::Close { .. } => Self::new(Kind::Close),
            Message::Ack { sequence_id } => Self {
                sequence_id: Some(*sequence_id),
                ..Self::new(Kind::Ack)
            },
            Message::Sequence { sequence_id } => Self {
                sequence_id: Some(*sequence_id),
                ..Self::new(Kind::Sequence)
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::message::{HubMessage, RecordBuffer, arbitrary};
    use super::*;

    const RECORD_BYTES_MAX: usize = 1 << 20;

    fn record(protocol: MessageProtocol, message: &HubMessage) -> Vec<u8> {
        let mut buffer = RecordBuffer::default();
        buffer.extend(&protocol.encode(message));
        let record = buffer.next(protocol, RECORD_BYTES_MAX).unwrap();
        record.expect("a whole record").to_vec()
    }

    fn json(text: &str) -> Result<Envelope<'_>, HubMessageError> {
        Envelope::read(MessageProtocol::Json, text.as_bytes())
    }

    fn messagepack(record: &[u8]) -> Result<Envelope<'_>, HubMessageError> {
        Envelope::read(MessageProtocol::MessagePack, record)
    }

    fn expected<'a>(kind: Kind, id: Option<&'a str>, streams: &[&'a str]) -> Envelope<'a> {
        Envelope {
            invocation_id: id.map(Cow::Borrowed),
            stream_ids: streams.iter().map(|id| Cow::Borrowed(*id)).collect(),
            ..Envelope::new(kind)
        }
    }

    #[test]
    fn json_as_clients_write_it() {
        let cases = [
            (
                r#"{"arguments":[{"type":3,"x":[[]]}],"invocationId":"0","target":"Echo","type":1}"#,
                expected(Kind::Invocation, Some("0"), &[]),
            ),
            (
                r#"{"type":4,"streamIds":["1","2"],"invocationId":"7","target":"Sum","arguments":[]}"#,
                expected(Kind::StreamInvocation, Some("7"), &["1", "2"]),
            ),
            (
                r#"{"type":1,"invocationId":null,"target":"Send","arguments":[],"streamIds":null}"#,
                expected(Kind::Invocation, None, &[]),
            ),
            (
                r#"{"type":3,"invocationId":"a\u0062c","result":null}"#,
                expected(Kind::Completion, Some("abc"), &[]),
            ),
            (
                r#"{"type":1,"type":6,"unknown":{"type":1}}"#,
                expected(Kind::Ping, None, &[]),
            ),
            (r#"{"type":77}"#, expected(Kind::Unknown, None, &[])),
        ];
        for (text, envelope) in cases {
            assert_eq!(json(text), Ok(envelope), "{text}");
        }
        let sequence = json(r#"{"type":9,"sequenceId":12}"#).unwrap();
        assert_eq!(sequence.sequence_id, Some(12));
    }

    #[test]
    fn messagepack_as_clients_write_it() {
        // [1, {}, "xyz", "method", [42]]: the JavaScript client leaves the stream ids out.
        let call = b"\x95\x01\x80\xa3xyz\xa6method\x91\x2a";
        let expect = expected(Kind::Invocation, Some("xyz"), &[]);
        assert_eq!(messagepack(call), Ok(expect));
        // [4, {"h": "v"}, "xyz", "method", [[nil, {1: bin}], ext], ["s"]]
        let stream = b"\x96\x04\x81\xa1h\xa1v\xa3xyz\xa6method\x92\x92\xc0\x81\x01\xc4\x01\xff\xd4\x05\x00\x91\xa1s";
        let expect = expected(Kind::StreamInvocation, Some("xyz"), &["s"]);
        assert_eq!(messagepack(stream), Ok(expect));
        // [3, {}, "xyz", 3, 42], [6], [1, {}, nil, "method", [], []]
        let completion = messagepack(b"\x95\x03\x80\xa3xyz\x03\x2a");
        assert_eq!(completion, Ok(expected(Kind::Completion, Some("xyz"), &[])));
        assert_eq!(
            messagepack(b"\x91\x06"),
            Ok(expected(Kind::Ping, None, &[]))
        );
        assert_eq!(
            messagepack(b"\x96\x01\x80\xc0\xa6method\x90\x90"),
            Ok(expected(Kind::Invocation, None, &[]))
        );
    }

    #[test]
    fn what_is_no_hub_message_is_refused() {
        let property_type =
            |property, expected| Err(HubMessageError::PropertyType { property, expected });
        assert_eq!(json(""), Err(HubMessageError::NotJson));
        assert_eq!(json("{\"type\":6"), Err(HubMessageError::NotJson));
        assert_eq!(json("{\"type\":6}{}"), Err(HubMessageError::NotJson));
        assert_eq!(
            json(" [6]"),
            Err(HubMessageError::NotAnObject { found: "Array" })
        );
        assert_eq!(
            json("{}"),
            Err(HubMessageError::Missing { property: "type" })
        );
        assert_eq!(json(r#"{"type":"6"}"#), property_type("type", "Number"));
        assert_eq!(
            json(r#"{"type":1,"invocationId":5}"#),
            property_type("invocationId", "String")
        );
        assert_eq!(
            json(r#"{"type":1,"streamIds":["1",2]}"#),
            property_type("streamIds", "Array")
        );
        for record in [
            &b""[..],
            b"\x06",
            b"\x90",
            b"\x91\xa1x",
            b"\x95\x01\x80\x05",
            b"\x95\x01\xdf\xff\xff\xff\xff\x00",
            b"\x96\x01\x80\xc0\xa1m\xdd\xff\xff\xff\xff\xc0",
            b"\x96\x01\x80\xc0\xa1m\x91\xc6\xff\xff\xff\xff",
            b"\x96\x01\x80\xc0\xa1m\x91\xc1\x90",
            b"\x92\x09",
        ] {
            assert!(messagepack(record).is_err(), "{record:x?}");
        }
    }

    #[test]
    fn depth_costs_nothing() {
        let mut nested = b"\x96\x01\x80\xa1i\xa1m".to_vec();
        nested.extend(std::iter::repeat_n(0x91, 100_000));
        nested.extend(b"\xc0\x90");
        assert_eq!(
            messagepack(&nested),
            Ok(expected(Kind::Invocation, Some("i"), &[]))
        );
        let (open, close) = ("[".repeat(100_000), "]".repeat(100_000));
        let nested = format!(r#"{{"arguments":{open}{close},"type":1,"invocationId":"i"}}"#);
        assert_eq!(
            json(&nested),
            Ok(expected(Kind::Invocation, Some("i"), &[]))
        );
    }

    /// An empty id is one byte on the wire and many in memory.
    #[test]
    fn streams_without_end_are_not_all_told() {
        let count = 10 * STREAM_IDS_READ_MAX as u32;
        let mut call = b"\x96\x04\x80\xa1i\xa1m\x90\xdd".to_vec();
        call.extend(count.to_be_bytes());
        call.extend(std::iter::repeat_n(0xa0, count as usize));
        assert_eq!(
            messagepack(&call).unwrap().stream_ids.len(),
            STREAM_IDS_READ_MAX
        );
        let ids = vec!["\"\""; count as usize].join(",");
        let call = format!(r#"{{"type":4,"invocationId":"i","streamIds":[{ids}]}}"#);
        assert_eq!(json(&call).unwrap().stream_ids.len(), STREAM_IDS_READ_MAX);
        let call = call.replace("]}", ",7]}");
        assert!(json(&call).is_err(), "but all are looked at");
    }

    proptest! {
        #[test]
        fn the_envelope_says_what_the_message_says(message in arbitrary::message()) {
            for protocol in MessageProtocol::ALL {
                let record = record(protocol, &message);
                prop_assert_eq!(Envelope::read(protocol, &record), Ok(Envelope::of(&message)));
            }
        }

        #[test]
        fn any_bytes_are_read_or_refused(
            record in proptest::collection::vec(any::<u8>(), 0..64)
        ) {
            fuzz_hub_envelope(&record);
        }

        #[test]
        fn so_are_messages_with_a_changed_byte(
            message in arbitrary::message(),
            place in any::<proptest::sample::Index>(),
            byte: u8,
        ) {
            for protocol in MessageProtocol::ALL {
                let mut record = record(protocol, &message);
                let place = place.index(record.len());
                record[place] = byte;
                fuzz_hub_envelope(&record);
            }
        }
    }
}

//! Hub messages as MessagePack arrays.
//!
//! An array may be longer than the message asks for: the surplus is skipped. Invocations may lack their last element, the
//! stream ids, because the JavaScript client leaves it out. Written are the forms of .NET: six elements for an invocation and
//! three for a close.

use rmp::decode as read;
use rmp::encode as write;

use super::message::{Headers, HubMessage, HubMessageError, Outcome, Value, wanted_id};
use crate::frame::record::write_varint;

/// How deep an argument may be nested.
const VALUE_DEPTH_MAX: usize = 64;

/// Bytes that the length of a record takes at most.
const LENGTH_PREFIX_BYTES_MAX: usize = 5;

/// Reads the body of one record, without its length. `None` for a type of message that is not known.
pub fn decode(record: &[u8]) -> Result<Option<HubMessage>, HubMessageError> {
    let mut body = Body(record);
    let elements = body.array("message")?;
    let message = match body.integer("messageType")? {
        1 => HubMessage::Invocation {
            headers: body.headers()?,
            invocation_id: wanted_id(body.optional_text("invocationId")?),
            target: body.target("Invocation")?,
            arguments: body.values("arguments")?,
            stream_ids: body.stream_ids(elements)?,
        },
        2 => HubMessage::StreamItem {
            headers: body.headers()?,
            invocation_id: body.text("invocationId")?,
            item: body.value("item")?,
        },
        3 => HubMessage::Completion {
            headers: body.headers()?,
            invocation_id: body.text("invocationId")?,
            outcome: body.outcome()?,
        },
        4 => HubMessage::StreamInvocation {
            headers: body.headers()?,
            invocation_id: body.text("invocationId")?,
            target: body.target("StreamInvocation")?,
            arguments: body.values("arguments")?,
            stream_ids: body.stream_ids(elements)?,
        },
        5 => HubMessage::CancelInvocation {
            headers: body.headers()?,
            invocation_id: body.text("invocationId")?,
        },
        6 => HubMessage::Ping,
        7 => HubMessage::Close {
            error: body.optional_text("error")?,
            allow_reconnect: elements > 2 && body.boolean("allowReconnect")?,
        },
        8 => HubMessage::Ack {
            sequence_id: body.integer("sequenceId")?,
        },
        9 => HubMessage::Sequence {
            sequence_id: body.integer("sequenceId")?,
        },
        _ => return Ok(None),
    };
    Ok(Some(message))
}

/// Writes one record, with its length.
pub fn encode(message: &HubMessage) -> Vec<u8> {
    let mut body = Vec::new();
    // Writing into memory cannot fail, so there is no error to hand on.
    let _ = write_message(&mut body, message);
    let mut record = Vec::with_capacity(body.len() + LENGTH_PREFIX_BYTES_MAX);
    write_varint(body.len() as u32, &mut record);
    record.extend_from_slice(&body);
    record
}

/// A record's body while it is being read.
pub(super) struct Body<'a>(pub(super) &'a [u8]);

impl<'a> Body<'a> {
    pub(super) fn array(&mut self, field: &'static str) -> Result<u32, HubMessageError> {
        let shape = "array";
        read::read_array_len(&mut self.0).map_err(|_| HubMessageError::FieldLength { field, shape })
    }

    pub(super) fn integer(&mut self, field: &'static str) -> Result<i64, HubMessageError> {
        let expected = "Int32";
        read::read_int(&mut self.0).map_err(|_| HubMessageError::Field { field, expected })
    }

    fn boolean(&mut self, field: &'static str) -> Result<bool, HubMessageError> {
        let expected = "Boolean";
        read::read_bool(&mut self.0).map_err(|_| HubMessageError::Field { field, expected })
    }

    fn text(&mut self, field: &'static str) -> Result<String, HubMessageError> {
        let expected = "String";
        self.optional_text(field)?
            .ok_or(HubMessageError::Field { field, expected })
    }

    fn optional_text(&mut self, field: &'static str) -> Result<Option<String>, HubMessageError> {
        Ok(self.borrowed_text(field)?.map(str::to_owned))
    }

    /// A text as it stands in the record, or nil.
    pub(super) fn borrowed_text(
        &mut self,
        field: &'static str,
    ) -> Result<Option<&'a str>, HubMessageError> {
        if let [0xc0, rest @ ..] = self.0 {
            self.0 = rest;
            return Ok(None);
        }
        let fault = HubMessageError::Field {
            field,
            expected: "String",
        };
        let Ok((text, rest)) = read::read_str_from_slice(self.0) else {
            return Err(fault);
        };
        self.0 = rest;
        Ok(Some(text))
    }

    /// Passes over one value, however deep it is nested.
    pub(super) fn skip(&mut self, field: &'static str) -> Result<(), HubMessageError> {
        let fault = HubMessageError::Field {
            field,
            expected: "value",
        };
        // A count that is only announced costs nothing: each value takes a byte at least.
        let mut values_left = 1_u64;
        while values_left > 0 {
            values_left -= 1;
            let size = read_size(&mut self.0).map_err(|_| fault.clone())?;
            values_left += size.values;
            self.0 = self.0.get(size.bytes..).ok_or_else(|| fault.clone())?;
        }
        Ok(())
    }

    fn target(&mut self, message: &'static str) -> Result<String, HubMessageError> {
        self.optional_text("target")?
            .filter(|target| !target.is_empty())
            .ok_or(HubMessageError::NoTarget { message })
    }

    fn headers(&mut self) -> Result<Headers, HubMessageError> {
        let (field, shape) = ("headers", "map");
        let count = read::read_map_len(&mut self.0)
            .map_err(|_| HubMessageError::FieldLength { field, shape })?;
        // Nothing is reserved for `count`: each pair must first be there.
        let mut headers = Headers::new();
        for _ in 0..count {
            headers.push((self.text("headers")?, self.text("headers")?));
        }
        Ok(headers)
    }

    fn value(&mut self, field: &'static str) -> Result<Value, HubMessageError> {
        // rmpv takes the byte that the format never uses for nil.
        let mut value = self.0;
        self.skip(field)?;
        let expected = "value";
        rmpv::decode::read_value_with_max_depth(&mut value, VALUE_DEPTH_MAX)
            .map_err(|_| HubMessageError::Field { field, expected })
    }

    fn values(&mut self, field: &'static str) -> Result<Vec<Value>, HubMessageError> {
        (0..self.array(field)?).map(|_| self.value(field)).collect()
    }

    /// The stream ids, the sixth element if there is one.
    fn stream_ids(&mut self, elements: u32) -> Result<Vec<String>, HubMessageError> {
        if elements < 6 {
            return Ok(Vec::new());
        }
        (0..self.array("streamIds")?)
            .map(|_| self.text("streamIds"))
            .collect()
    }

    fn outcome(&mut self) -> Result<Outcome, HubMessageError> {
        Ok(match self.integer("resultKind")? {
            1 => Outcome::Error(self.text("error")?),
            2 => Outcome::Void,
            3 => Outcome::Result(self.value("result")?),
            _ => return Err(HubMessageError::ResultKind),
        })
    }
}

/// What follows the head of a value.
struct Size {
    /// Bytes that belong to the value itself.
    bytes: usize,
    /// Values within it.
    values: u64,
}

/// Reads the head of a value.
fn read_size(input: &mut &[u8]) -> Result<Size, read::ValueReadError> {
    use read::RmpRead as _;
    use rmp::Marker;

    let (bytes, values) = match read::read_marker(input)? {
        Marker::FixPos(_) | Marker::FixNeg(_) | Marker::Null | Marker::True | Marker::False => {
            (0, 0)
        }
        // The one that the format never uses.
        Marker::Reserved => return Err(read::ValueReadError::TypeMismatch(Marker::Reserved)),
        Marker::U8 | Marker::I8 => (1, 0),
        Marker::U16 | Marker::I16 | Marker::FixExt1 => (2, 0),
        Marker::FixExt2 => (3, 0),
        Marker::U32 | Marker::I32 | Marker::F32 => (4, 0),
        Marker::FixExt4 => (5, 0),
        Marker::U64 | Marker::I64 | Marker::F64 => (8, 0),
        Marker::FixExt8 => (9, 0),
        Marker::FixExt16 => (17, 0),
        Marker::FixStr(bytes) => (usize::from(bytes), 0),
        Marker::Str8 | Marker::Bin8 => (usize::from(input.read_data_u8()?), 0),
        Marker::Str16 | Marker::Bin16 => (usize::from(input.read_data_u16()?), 0),
        Marker::Str32 | Marker::Bin32 => (input.read_data_u32()? as usize, 0),
        // With the byte that says of what kind the extension is.
        Marker::Ext8 => (usize::from(input.read_data_u8()?) + 1, 0),
        Marker::Ext16 => (usize::from(input.read_data_u16()?) + 1, 0),
        Marker::Ext32 => (input.read_data_u32()? as usize + 1, 0),
        Marker::FixArray(values) => (0, u64::from(values)),
        Marker::Array16 => (0, u64::from(input.read_data_u16()?)),
        Marker::Array32 => (0, u64::from(input.read_data_u32()?)),
        Marker::FixMap(pairs) => (0, u64::from(pairs) * 2),
        Marker::Map16 => (0, u64::from(input.read_data_u16()?) * 2),
        Marker::Map32 => (0, u64::from(input.read_data_u32()?) * 2),
    };
    Ok(Size { bytes, values })
}

type Written = Result<(), write::ValueWriteError>;

fn write_message(out: &mut Vec<u8>, message: &HubMessage) -> Written {
    match message {
        HubMessage::Invocation {
            headers,
            invocation_id,
            target,
            arguments,
            stream_ids,
        } => {
            write_start(out, 6, 1, headers)?;
            write_optional_text(out, invocation_id.as_deref())?;
            write_call(out, target, arguments, stream_ids)
        }
        HubMessage::StreamInvocation {
            headers,
            invocation_id,
            target,
            arguments,
            stream_ids,
        } => {
            write_start(out, 6, 4, headers)?;
            write::write_str(out, invocation_id)?;
            write_call(out, target, arguments, stream_ids)
        }
        HubMessage::StreamItem {
            headers,
            invocation_id,
            item,
        } => {
            write_start(out, 4, 2, headers)?;
            write::write_str(out, invocation_id)?;
            rmpv::encode::write_value(out, item)
        }
        HubMessage::Completion {
            headers,
            invocation_id,
            outcome,
        } => write_completion(out, headers, invocation_id, outcome),
        HubMessage::CancelInvocation {
            headers,
            invocation_id,
        } => {
            write_start(out, 3, 5, headers)?;
            write::write_str(out, invocation_id)
        }
        HubMessage::Ping => {
            out.extend_from_slice(&[0x91, 6]);
            Ok(())
        }
        HubMessage::Close {
            error,
            allow_reconnect,
        } => {
            out.extend_from_slice(&[0x93, 7]);
            write_optional_text(out, error.as_deref())?;
            out.push(if *allow_reconnect { 0xc3 } else { 0xc2 });
            Ok(())
        }
        HubMessage::Ack { sequence_id } => write_sequence_id(out, 8, *sequence_id),
        HubMessage::Sequence { sequence_id } => write_sequence_id(out, 9, *sequence_id),
    }
}

/// The head that all messages about a call share: elements, type, headers.
fn write_start(out: &mut Vec<u8>, elements: u32, kind: u8, headers: &Headers) -> Written {
    write::write_array_len(out, elements)?;
    out.push(kind);
    write::write_map_len(out, headers.len() as u32)?;
    for (name, value) in headers {
        write::write_str(out, name)?;
        write::write_str(out, value)?;
    }
    Ok(())
}

fn write_call(
    out: &mut Vec<u8>,
    target: &str,
    arguments: &[Value],
    stream_ids: &[String],
) -> Written {
    write::write_str(out, target)?;
    write::write_array_len(out, arguments.len() as u32)?;
    for argument in arguments {
        rmpv::encode::write_value(out, argument)?;
    }
    write::write_array_len(out, stream_ids.len() as u32)?;
    for id in stream_ids {
        write::write_str(out, id)?;
    }
    Ok(())
}

fn write_completion(
    out: &mut Vec<u8>,
    headers: &Headers,
    invocation_id: &str,
    outcome: &Outcome,
) -> Written {
    let (elements, kind) = match outcome {
        Outcome::Error(_) => (5, 1),
        Outcome::Void => (4, 2),
        Outcome::Result(_) => (5, 3),
    };
    write_start(out, elements, 3, headers)?;
    write::write_str(out, invocation_id)?;
    out.push(kind);
    match outcome {
        Outcome::Void => Ok(()),
        Outcome::Error(error) => write::write_str(out, error),
        Outcome::Result(result) => rmpv::encode::write_value(out, result),
    }
}

fn write_sequence_id(out: &mut Vec<u8>, kind: u8, sequence_id: i64) -> Written {
    out.extend_from_slice(&[0x92, kind]);
    write::write_sint(out, sequence_id)?;
    Ok(())
}

fn write_optional_text(out: &mut Vec<u8>, text: Option<&str>) -> Written {
    if let Some(text) = text {
        write::write_str(out, text)
    } else {
        out.push(0xc0);
        Ok(())
    }
}

#[cfg(test)]
mod tests;

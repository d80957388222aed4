//! Hub messages as JSON text.
//!
//! Reading does not care for the order of members and skips those it does not know; of a repeated member the last one counts.
//! Writing uses the order of .NET. JSON has no bytes: they become base64 text, as in .NET.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::message::{Headers, HubMessage, HubMessageError, Outcome, Value, wanted_id};

/// Reads one record, without its separator. `None` for a type of message that is not known.
pub fn decode(record: &[u8]) -> Result<Option<HubMessage>, HubMessageError> {
    let value = serde_json::from_slice(record).map_err(|_| HubMessageError::NotJson)?;
    let Value::Map(members) = value else {
        return Err(HubMessageError::NotAnObject {
            found: token_name(&value),
        });
    };
    let Some(kind) = Kind::of(&members)? else {
        return Ok(None);
    };
    Members::read(members)?.into_message(kind).map(Some)
}

/// Writes one record, with its separator.
pub fn encode(message: &HubMessage) -> Vec<u8> {
    let mut object = Object::new(Kind::of_message(message));
    match message {
        HubMessage::Invocation {
            headers,
            invocation_id,
            target,
            arguments,
            stream_ids,
        } => object.call(
            headers,
            invocation_id.as_deref(),
            target,
            arguments,
            stream_ids,
        ),
        HubMessage::StreamInvocation {
            headers,
            invocation_id,
            target,
            arguments,
            stream_ids,
        } => object.call(headers, Some(invocation_id), target, arguments, stream_ids),
        HubMessage::StreamItem {
            headers,
            invocation_id,
            item,
        } => {
            object.headers(headers);
            object.text("invocationId", invocation_id);
            object.value("item", item);
        }
        HubMessage::Completion {
            headers,
            invocation_id,
            outcome,
        } => {
            object.headers(headers);
            object.text("invocationId", invocation_id);
            match outcome {
                Outcome::Void => {}
                Outcome::Result(result) => object.value("result", result),
                Outcome::Error(error) => object.text("error", error),
            }
        }
        HubMessage::CancelInvocation {
            headers,
            invocation_id,
        } => {
            object.headers(headers);
            object.text("invocationId", invocation_id);
        }
        HubMessage::Ping => {}
        HubMessage::Close {
            error,
            allow_reconnect,
        } => {
            if let Some(error) = error {
                object.text("error", error);
            }
            if *allow_reconnect {
                object.value("allowReconnect", &Value::Boolean(true));
            }
        }
        HubMessage::Ack { sequence_id } | HubMessage::Sequence { sequence_id } => {
            object.value("sequenceId", &Value::from(*sequence_id));
        }
    }
    object.finish()
}

/// The types of message, with their numbers.
#[derive(Clone, Copy)]
enum Kind {
    Invocation = 1,
    StreamItem = 2,
    Completion = 3,
    StreamInvocation = 4,
    CancelInvocation = 5,
    Ping = 6,
    Close = 7,
    Ack = 8,
    Sequence = 9,
}

impl Kind {
    fn of(members: &[(Value, Value)]) -> Result<Option<Self>, HubMessageError> {
        let number = members
            .iter()
            .rfind(|(name, _)| name.as_str() == Some("type"))
            .map(|(_, number)| integer("type", number))
            .ok_or(HubMessageError::Missing { property: "type" })??;
        Ok(Some(match number {
            1 => Self::Invocation,
            2 => Self::StreamItem,
            3 => Self::Completion,
            4 => Self::StreamInvocation,
            5 => Self::CancelInvocation,
            6 => Self::Ping,
            7 => Self::Close,
            8 => Self::Ack,
            9 => Self::Sequence,
            _ => return Ok(None),
        }))
    }

    fn of_message(message: &HubMessage) -> Self {
        match message {
            HubMessage::Invocation { .. } => Self::Invocation,
            HubMessage::StreamItem { .. } => Self::StreamItem,
            HubMessage::Completion { .. } => Self::Completion,
            HubMessage::StreamInvocation { .. } => Self::StreamInvocation,
            HubMessage::CancelInvocation { .. } => Self::CancelInvocation,
            HubMessage::Ping => Self::Ping,
            HubMessage::Close { .. } => Self::Close,
            HubMessage::Ack { .. } => Self::Ack,
            HubMessage::Sequence { .. } => Self::Sequence,
        }
    }
}

/// The members of a message that any type knows, each of the right type.
#[derive(Default)]
struct Members {
    headers: Headers,
    invocation_id: Option<String>,
    target: Option<String>,
    arguments: Option<Vec<Value>>,
    stream_ids: Vec<String>,
    item: Option<Value>,
    result: Option<Value>,
    error: Option<String>,
    allow_reconnect: bool,
    sequence_id: Option<i64>,
}

impl Members {
    fn read(pairs: Vec<(Value, Value)>) -> Result<Self, HubMessageError> {
        let mut members = Self::default();
        for (name, value) in pairs {
            match name.as_str() {
                Some("headers") => members.headers = headers(value)?,
                Some("invocationId") => members.invocation_id = text("invocationId", value)?,
                Some("target") => members.target = text("target", value)?,
                Some("arguments") => members.arguments = Some(array("arguments", value)?),
                Some("streamIds") => members.stream_ids = texts("streamIds", value)?,
                Some("item") => members.item = Some(value),
                Some("result") => members.result = Some(value),
                Some("error") => members.error = text("error", value)?,
                Some("allowReconnect") => {
                    members.allow_reconnect = boolean("allowReconnect", &value)?;
                }
                Some("sequenceId") => members.sequence_id = Some(integer("sequenceId", &value)?),
                Some(_) | None => {}
            }
        }
        Ok(members)
    }

    fn into_message(self, kind: Kind) -> Result<HubMessage, HubMessageError> {
        let headers = self.headers;
        Ok(match kind {
            Kind::Invocation => HubMessage::Invocation {
                headers,
                invocation_id: wanted_id(self.invocation_id),
                target: required("target", wanted_id(self.target))?,
                arguments: required("arguments", self.arguments)?,
                stream_ids: self.stream_ids,
            },
            Kind::StreamInvocation => HubMessage::StreamInvocation {
                headers,
                invocation_id: required("invocationId", wanted_id(self.invocation_id))?,
                target: required("target", wanted_id(self.target))?,
                arguments: required("arguments", self.arguments)?,
                stream_ids: self.stream_ids,
            },
            Kind::StreamItem => HubMessage::StreamItem {
                headers,
                invocation_id: required("invocationId", self.invocation_id)?,
                item: required("item", self.item)?,
            },
            Kind::Completion => HubMessage::Completion {
                headers,
                invocation_id: required("invocationId", self.invocation_id)?,
                outcome: match (self.result, self.error) {
                    (Some(_), Some(_)) => return Err(HubMessageError::ResultAndError),
                    (Some(result), None) => Outcome::Result(result),
                    (None, Some(error)) => Outcome::Error(error),
                    (None, None) => Outcome::Void,
                },
            },
            Kind::CancelInvocation => HubMessage::CancelInvocation {
                headers,
                invocation_id: required("invocationId", self.invocation_id)?,
            },
            Kind::Ping => HubMessage::Ping,
            Kind::Close => HubMessage::Close {
                error: self.error,
                allow_reconnect: self.allow_reconnect,
            },
            Kind::Ack => HubMessage::Ack {
                sequence_id: required("sequenceId", self.sequence_id)?,
            },
            Kind::Sequence => HubMessage::Sequence {
                sequence_id: required("sequenceId", self.sequence_id)?,
            },
        })
    }
}

fn required<T>(property: &'static str, value: Option<T>) -> Result<T, HubMessageError> {
    value.ok_or(HubMessageError::Missing { property })
}

/// A text; null counts as absent, because some clients write it for what they leave out.
fn text(property: &'static str, value: Value) -> Result<Option<String>, HubMessageError> {
    if value.is_nil() {
        return Ok(None);
    }
    let Value::String(text) = value else {
        return Err(HubMessageError::PropertyType {
            property,
            expected: "String",
        });
    };
    Ok(text.into_str())
}

fn texts(property: &'static str, value: Value) -> Result<Vec<String>, HubMessageError> {
    array(property, value)?
        .into_iter()
        .map(|entry| required(property, text(property, entry)?))
        .collect()
}

fn array(property: &'static str, value: Value) -> Result<Vec<Value>, HubMessageError> {
    let Value::Array(values) = value else {
        return Err(HubMessageError::PropertyType {
            property,
            expected: "Array",
        });
    };
    Ok(values)
}

fn integer(property: &'static str, value: &Value) -> Result<i64, HubMessageError> {
    value.as_i64().ok_or(HubMessageError::PropertyType {
        property,
        expected: "Number",
    })
}

fn boolean(property: &'static str, value: &Value) -> Result<bool, HubMessageError> {
    value.as_bool().ok_or(HubMessageError::PropertyType {
        property,
        expected: "Boolean",
    })
}

fn headers(value: Value) -> Result<Headers, HubMessageError> {
    if value.is_nil() {
        return Ok(Headers::new());
    }
    let Value::Map(pairs) = value else {
        return Err(HubMessageError::PropertyType {
            property: "headers",
            expected: "StartObject",
        });
    };
    pairs
        .into_iter()
        .map(|(name, value)| {
            let name = name.as_str().unwrap_or_default().to_owned();
            if let Value::String(text) = value {
                Ok((name, text.into_str().unwrap_or_default()))
            } else {
                Err(HubMessageError::HeaderType { name })
            }
        })
        .collect()
}

/// What .NET calls the token that stands where an object should.
fn token_name(value: &Value) -> &'static str {
    match value {
        Value::Nil => "Null",
        Value::Boolean(true) => "True",
        Value::Boolean(false) => "False",
        Value::Integer(_) | Value::F32(_) | Value::F64(_) => "Number",
        Value::String(_) | Value::Binary(_) | Value::Ext(..) => "String",
        Value::Array(_) => "Array",
        Value::Map(_) => "Object",
    }
}

/// A JSON object while it is being written.
struct Object(Vec<u8>);

impl Object {
    fn new(kind: Kind) -> Self {
        Self(format!("{{\"type\":{}", kind as u8).into_bytes())
    }

    fn call(
        &mut self,
        headers: &Headers,
        invocation_id: Option<&str>,
        target: &str,
        arguments: &[Value],
        stream_ids: &[String],
    ) {
        self.headers(headers);
        if let Some(id) = invocation_id {
            self.text("invocationId", id);
        }
        self.text("target", target);
        self.name("arguments");
        write_array(&mut self.0, arguments, write_value);
        if !stream_ids.is_empty() {
            self.name("streamIds");
            write_array(&mut self.0, stream_ids, |out, id| write_text(out, id));
        }
    }

    fn headers(&mut self, headers: &Headers) {
        if headers.is_empty() {
            return;
        }
        self.name("headers");
        write_object(&mut self.0, headers, |out, (name, value)| {
            write_text(out, name);
            out.push(b':');
            write_text(out, value);
        });
    }

    fn text(&mut self, name: &str, text: &str) {
        self.name(name);
        write_text(&mut self.0, text);
    }

    fn value(&mut self, name: &str, value: &Value) {
        self.name(name);
        write_value(&mut self.0, value);
    }

    fn name(&mut self, name: &str) {
        self.0.push(b',');
        write_text(&mut self.0, name);
        self.0.push(b':');
    }

    fn finish(mut self) -> Vec<u8> {
        self.0.extend_from_slice(b"}\x1e");
        self.0
    }
}

fn write_value(out: &mut Vec<u8>, value: &Value) {
    match value {
        Value::Nil => out.extend_from_slice(b"null"),
        Value::Boolean(true) => out.extend_from_slice(b"true"),
        Value::Boolean(false) => out.extend_from_slice(b"false"),
        Value::Integer(integer) => out.extend_from_slice(integer.to_string().as_bytes()),
        // By way of text: widening the bits of 0.1 would give 0.10000000149011612.
        Value::F32(float) => write_float(out, float.to_string().parse().unwrap_or_default()),
        Value::F64(float) => write_float(out, *float),
        Value::String(text) => write_text(out, &String::from_utf8_lossy(text.as_bytes())),
        Value::Binary(bytes) | Value::Ext(_, bytes) => write_text(out, &STANDARD.encode(bytes)),
        Value::Array(values) => write_array(out, values, write_value),
        Value::Map(pairs) => write_object(out, pairs, |out, (name, value)| {
            write_name(out, name);
            out.push(b':');
            write_value(out, value);
        }),
    }
}

/// A whole number is written without a fraction, as .NET and JavaScript do. What is no number becomes null, as in JavaScript.
fn write_float(out: &mut Vec<u8>, float: f64) {
    if !float.is_finite() {
        out.extend_from_slice(b"null");
    } else if float.fract() == 0.0 && float.abs() < 1e15 {
        out.extend_from_slice(format!("{float:.0}").as_bytes());
    } else {
        out.extend_from_slice(serde_json::Value::from(float).to_string().as_bytes());
    }
}

/// The name of a member. MessagePack allows any value there, JSON only text.
fn write_name(out: &mut Vec<u8>, name: &Value) {
    match name {
        Value::String(_) | Value::Binary(_) | Value::Ext(..) => write_value(out, name),
        Value::Nil
        | Value::Boolean(_)
        | Value::Integer(_)
        | Value::F32(_)
        | Value::F64(_)
        | Value::Array(_)
        | Value::Map(_) => {
            let mut text = Vec::new();
            write_value(&mut text, name);
            write_text(out, &String::from_utf8_lossy(&text));
        }
    }
}

fn write_text(out: &mut Vec<u8>, text: &str) {
    let before = out.len();
    if serde_json::to_writer(&mut *out, text).is_err() {
        // Writing text into memory does not fail; were it to, the record must stay well-formed.
        out.truncate(before);
        out.extend_from_slice(b"\"\"");
    }
}

fn write_array<T>(out: &mut Vec<u8>, entries: &[T], write: impl Fn(&mut Vec<u8>, &T)) {
    write_list(out, *b"[]", entries, write);
}

fn write_object<T>(out: &mut Vec<u8>, entries: &[T], write: impl Fn(&mut Vec<u8>, &T)) {
    write_list(out, *b"{}", entries, write);
}

fn write_list<T>(
    out: &mut Vec<u8>,
    [open, close]: [u8; 2],
    entries: &[T],
    write: impl Fn(&mut Vec<u8>, &T),
) {
    out.push(open);
    for (index, entry) in entries.iter().enumerate() {
        if index > 0 {
            out.push(b',');
        }
        write(out, entry);
    }
    out.push(close);
}

#[cfg(test)]
mod tests;

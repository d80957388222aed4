//! The map with integer keys that nearly every message has at its end.
//!
//! Each message knows which of the values it owns and holds them as fields of its own; this is only their form on the wire.
//! The reader of an older SDK is thrown out of step by a key that its message does not own, so a message writes no others.
//! We pass over keys that we do not know, whatever their value is.

use super::reader::Reader;
use super::writer::MessagePackWriter;
use super::{DataMessageType, Fault, Text};

/// Every value that any message may own.
#[derive(Debug, Default)]
pub(super) struct Extensions<'a> {
    pub(super) tracing_id: Option<u64>,
    pub(super) ttl_seconds: Option<i32>,
    pub(super) protocol: Option<Text<'a>>,
    pub(super) filter: Option<Text<'a>>,
    pub(super) data_type: DataMessageType,
    pub(super) is_partial: bool,
}

impl<'a> Extensions<'a> {
    /// Nothing but a tracing id.
    pub(super) fn traced(tracing_id: Option<u64>) -> Self {
        Self {
            tracing_id,
            ..Self::default()
        }
    }

    /// A tracing id and a filter on the receivers.
    pub(super) fn filtered(filter: Option<&'a str>, tracing_id: Option<u64>) -> Self {
        Self {
            filter: filter.map(Text::from),
            ..Self::traced(tracing_id)
        }
    }

    /// Takes over what a map says.
    pub(super) fn read(&mut self, reader: &mut Reader<'_, 'a>) -> Result<(), Fault> {
        for _ in 0..reader.map()? {
            match reader.int32()? {
                TRACING_ID => self.tracing_id = Some(reader.uint64()?),
                TTL => self.ttl_seconds = Some(reader.int32()?),
                PROTOCOL => self.protocol = reader.optional_text()?,
                FILTER => self.filter = reader.optional_text()?,
                DATA_MESSAGE_TYPE => self.data_type = DataMessageType::read(reader)?,
                IS_PARTIAL => self.is_partial = reader.boolean()?,
                _ => reader.skip_value()?,
            }
        }
        Ok(())
    }

    /// Writes what is there, in the order of the keys.
    pub(super) fn write(&self, out: &mut impl MessagePackWriter) {
        let data_type = self.data_type.number();
        let count = usize::from(self.tracing_id.is_some())
            + usize::from(self.ttl_seconds.is_some())
            + usize::from(self.protocol.is_some())
            + usize::from(self.filter.is_some())
            + usize::from(data_type != 0)
            + usize::from(self.is_partial);
        out.map(count);
        if let Some(tracing_id) = self.tracing_id {
            out.int(TRACING_ID);
            out.uint(tracing_id);
        }
        if let Some(seconds) = self.ttl_seconds {
            out.int(TTL);
            out.int(seconds);
        }
        if let Some(protocol) = &self.protocol {
            out.int(PROTOCOL);
            out.text(protocol);
        }
        if let Some(filter) = &self.filter {
            out.int(FILTER);
            out.text(filter);
        }
        if data_type != 0 {
            out.int(DATA_MESSAGE_TYPE);
            out.int(data_type);
        }
        if self.is_partial {
            out.int(IS_PARTIAL);
            out.boolean(true);
        }
    }
}

const TRACING_ID: i32 = 1;
const TTL: i32 = 2;
const PROTOCOL: i32 = 3;
const FILTER: i32 = 4;
const DATA_MESSAGE_TYPE: i32 = 5;
const IS_PARTIAL: i32 = 6;

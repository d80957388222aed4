//! An app server asks the service to close clients, and to be told when it is done.

use super::decode::{DecodeError, Fields};
use super::extensions::Extensions;
use super::reader::Reader;
use super::writer::MessagePackWriter;
use super::{MessageType, Text, Texts};

/// Closes one client.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CloseConnectionWithAck<'a> {
    /// Names the client connection.
    pub connection_id: Text<'a>,
    /// What the client is told.
    pub reason: Option<Text<'a>>,
    /// What the answer shall carry.
    pub ack_id: i32,
    /// See [`super::OpenConnection::tracing_id`].
    pub tracing_id: Option<u64>,
}

impl<'a> CloseConnectionWithAck<'a> {
    pub(super) fn read(fields: &mut Fields<'_, 'a>) -> Result<Self, DecodeError> {
        let connection_id = fields.required("connection_id", Reader::text)?;
        let reason = fields.required("reason", Reader::optional_text)?;
        let ack_id = fields.required("ack_id", Reader::int32)?;
        let tracing_id = fields.extensions()?.tracing_id;
        Ok(Self {
            connection_id,
            reason,
            ack_id,
            tracing_id,
        })
    }

    pub(super) fn write(&self, out: &mut impl MessagePackWriter) {
        out.array(5);
        out.int(MessageType::CloseConnectionWithAck.number());
        out.text(&self.connection_id);
        out.optional_text(self.reason.as_deref());
        out.int(self.ack_id);
        Extensions::traced(self.tracing_id).write(out);
    }
}

/// Closes every client of the hub.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CloseConnectionsWithAck<'a> {
    /// What the client is told.
    pub reason: Option<Text<'a>>,
    /// What the answer shall carry.
    pub ack_id: i32,
    /// Connections to leave open.
    pub excluded: Texts<'a>,
    /// See [`super::OpenConnection::tracing_id`].
    pub tracing_id: Option<u64>,
}

impl<'a> CloseConnectionsWithAck<'a> {
    pub(super) fn read(fields: &mut Fields<'_, 'a>) -> Result<Self, DecodeError> {
        let reason = fields.required("reason", Reader::optional_text)?;
        let ack_id = fields.required("ack_id", Reader::int32)?;
        let excluded = fields.required("excluded", Reader::texts)?;
        let tracing_id = fields.extensions()?.tracing_id;
        Ok(Self {
            reason,
            ack_id,
            excluded,
            tracing_id,
        })
    }

    pub(super) fn write(&self, out: &mut impl MessagePackWriter) {
        out.array(5);
        out.int(MessageType::CloseConnectionsWithAck.number());
        out.optional_text(self.reason.as_deref());
        out.int(self.ack_id);
        out.texts(&self.excluded);
        Extensions::traced(self.tracing_id).write(out);
    }
}

/// Closes every client of a user.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CloseUserConnectionsWithAck<'a> {
    /// The user, letter case included.
    pub user_id: Text<'a>,
    /// What the client is told.
    pub reason: Option<Text<'a>>,
    /// What the answer shall carry.
    pub ack_id: i32,
    /// Connections to leave open.
    pub excluded: Texts<'a>,
    /// See [`super::OpenConnection::tracing_id`].
    pub tracing_id: Option<u64>,
}

impl<'a> CloseUserConnectionsWithAck<'a> {
    pub(super) fn read(fields: &mut Fields<'_, 'a>) -> Result<Self, DecodeError> {
        let user_id = fields.required("user_id", Reader::text)?;
        let reason = fields.required("reason", Reader::optional_text)?;
        let ack_id = fields.required("ack_id", Reader::int32)?;
        let excluded = fields.required("excluded", Reader::texts)?;
        let tracing_id = fields.extensions()?.tracing_id;
        Ok(Self {
            user_id,
            reason,
            ack_id,
            excluded,
            tracing_id,
        })
    }

    pub(super) fn write(&self, out: &mut impl MessagePackWriter) {
        out.array(6);
        out.int(MessageType::CloseUserConnectionsWithAck.number());
        out.text(&self.user_id);
        out.optional_text(self.reason.as_deref());
        out.int(self.ack_id);
        out.texts(&self.excluded);
        Extensions::traced(self.tracing_id).write(out);
    }
}

/// Closes every member of a group.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CloseGroupConnectionsWithAck<'a> {
    /// The group.
    pub group: Text<'a>,
    /// What the client is told.
    pub reason: Option<Text<'a>>,
    /// What the answer shall carry.
    pub ack_id: i32,
    /// Connections to leave open.
    pub excluded: Texts<'a>,
    /// See [`super::OpenConnection::tracing_id`].
    pub tracing_id: Option<u64>,
}

impl<'a> CloseGroupConnectionsWithAck<'a> {
    pub(super) fn read(fields: &mut Fields<'_, 'a>) -> Result<Self, DecodeError> {
        let group = fields.required("group", Reader::text)?;
        let reason = fields.required("reason", Reader::optional_text)?;
        let ack_id = fields.required("ack_id", Reader::int32)?;
        let excluded = fields.required("excluded", Reader::texts)?;
        let tracing_id = fields.extensions()?.tracing_id;
        Ok(Self {
            group,
            reason,
            ack_id,
            excluded,
            tracing_id,
        })
    }

    pub(super) fn write(&self, out: &mut impl MessagePackWriter) {
        out.array(6);
        out.int(MessageType::CloseGroupConnectionsWithAck.number());
        out.text(&self.group);
        out.optional_text(self.reason.as_deref());
        out.int(self.ack_id);
        out.texts(&self.excluded);
        Extensions::traced(self.tracing_id).write(out);
    }
}

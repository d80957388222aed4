//! Questions of yes or no, and the answer to every request that carries an ack id.

use super::decode::{DecodeError, Fields};
use super::extensions::Extensions;
use super::reader::{Payload, Reader};
use super::writer::MessagePackWriter;
use super::{AckStatus, MessageType, Text};

/// How a request went. Goes back on the server connection that asked.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Ack<'a, P> {
    /// That of the request.
    pub ack_id: i32,
    /// How it went.
    pub status: AckStatus,
    /// The same in words, or empty.
    pub message: Text<'a>,
    /// What was asked for. Never empty: an SDK that looks for a payload fails at an empty one, so that is written as none.
    pub payload: Option<P>,
}

impl<'a, P: Payload<'a>> Ack<'a, P> {
    pub(super) fn read(fields: &mut Fields<'_, 'a>) -> Result<Self, DecodeError> {
        let ack_id = fields.required("ack_id", Reader::int32)?;
        let status = fields.required("status", AckStatus::read)?;
        let message = fields.required("message", Reader::text)?;
        fields.extensions()?;
        let payload = fields.added("payload", Reader::optional_payload)?;
        Ok(Self {
            ack_id,
            status,
            message,
            payload,
        })
    }
}

impl<P: AsRef<[u8]>> Ack<'_, P> {
    pub(super) fn write(&self, out: &mut impl MessagePackWriter) {
        let payload = self
            .payload
            .as_ref()
            .map(AsRef::as_ref)
            .filter(|payload| !payload.is_empty());
        out.array(5 + usize::from(payload.is_some()));
        out.int(MessageType::Ack.number());
        out.int(self.ack_id);
        out.int(self.status.number());
        out.text(&self.message);
        Extensions::default().write(out);
        if let Some(payload) = payload {
            out.binary(payload);
        }
    }
}

/// Is this user in this group?
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CheckUserInGroupWithAck<'a> {
    /// The user, letter case included.
    pub user_id: Text<'a>,
    /// The group.
    pub group: Text<'a>,
    /// What the answer shall carry.
    pub ack_id: i32,
    /// See [`super::OpenConnection::tracing_id`].
    pub tracing_id: Option<u64>,
}

impl<'a> CheckUserInGroupWithAck<'a> {
    pub(super) fn read(fields: &mut Fields<'_, 'a>) -> Result<Self, DecodeError> {
        let user_id = fields.required("user_id", Reader::text)?;
        let group = fields.required("group", Reader::text)?;
        let ack_id = fields.required("ack_id", Reader::int32)?;
        let tracing_id = fields.extensions()?.tracing_id;
        Ok(Self {
            user_id,
            group,
            ack_id,
            tracing_id,
        })
    }

    pub(super) fn write(&self, out: &mut impl MessagePackWriter) {
        out.array(5);
        out.int(MessageType::CheckUserInGroupWithAck.number());
        out.text(&self.user_id);
        out.text(&self.group);
        out.int(self.ack_id);
        Extensions::traced(self.tracing_id).write(out);
    }
}

/// Does this group have a connection?
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CheckGroupExistenceWithAck<'a> {
    /// The group.
    pub group: Text<'a>,
    /// What the answer shall carry.
    pub ack_id: i32,
    /// See [`super::OpenConnection::tracing_id`].
    pub tracing_id: Option<u64>,
}

impl<'a> CheckGroupExistenceWithAck<'a> {
    pub(super) fn read(fields: &mut Fields<'_, 'a>) -> Result<Self, DecodeError> {
        let group = fields.required("group", Reader::text)?;
        let ack_id = fields.required("ack_id", Reader::int32)?;
        let tracing_id = fields.extensions()?.tracing_id;
        Ok(Self {
            group,
            ack_id,
            tracing_id,
        })
    }

    pub(super) fn write(&self, out: &mut impl MessagePackWriter) {
        out.array(4);
        out.int(MessageType::CheckGroupExistenceWithAck.number());
        out.text(&self.group);
        out.int(self.ack_id);
        Extensions::traced(self.tracing_id).write(out);
    }
}

/// Does this connection exist?
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CheckConnectionExistenceWithAck<'a> {
    /// Names the client connection.
    pub connection_id: Text<'a>,
    /// What the answer shall carry.
    pub ack_id: i32,
    /// See [`super::OpenConnection::tracing_id`].
    pub tracing_id: Option<u64>,
}

impl<'a> CheckConnectionExistenceWithAck<'a> {
    pub(super) fn read(fields: &mut Fields<'_, 'a>) -> Result<Self, DecodeError> {
        let connection_id = fields.required("connection_id", Reader::text)?;
        let ack_id = fields.required("ack_id", Reader::int32)?;
        let tracing_id = fields.extensions()?.tracing_id;
        Ok(Self {
            connection_id,
            ack_id,
            tracing_id,
        })
    }

    pub(super) fn write(&self, out: &mut impl MessagePackWriter) {
        out.array(4);
        out.int(MessageType::CheckConnectionExistenceWithAck.number());
        out.text(&self.connection_id);
        out.int(self.ack_id);
        Extensions::traced(self.tracing_id).write(out);
    }
}

/// Does this user have a connection?
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CheckUserExistenceWithAck<'a> {
    /// The user, letter case included.
    pub user_id: Text<'a>,
    /// What the answer shall carry.
    pub ack_id: i32,
    /// See [`super::OpenConnection::tracing_id`].
    pub tracing_id: Option<u64>,
}

impl<'a> CheckUserExistenceWithAck<'a> {
    pub(super) fn read(fields: &mut Fields<'_, 'a>) -> Result<Self, DecodeError> {
        let user_id = fields.required("user_id", Reader::text)?;
        let ack_id = fields.required("ack_id", Reader::int32)?;
        let tracing_id = fields.extensions()?.tracing_id;
        Ok(Self {
            user_id,
            ack_id,
            tracing_id,
        })
    }

    pub(super) fn write(&self, out: &mut impl MessagePackWriter) {
        out.array(4);
        out.int(MessageType::CheckUserExistenceWithAck.number());
        out.text(&self.user_id);
        out.int(self.ack_id);
        Extensions::traced(self.tracing_id).write(out);
    }
}

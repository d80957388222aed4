//! Who is in which group. A membership of a connection ends with it; one of a user stands also for connections to come.

use super::decode::{DecodeError, Fields};
use super::extensions::Extensions;
use super::reader::Reader;
use super::writer::MessagePackWriter;
use super::{MessageType, Text};

/// A connection joins a group.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct JoinGroup<'a> {
    /// Names the client connection.
    pub connection_id: Text<'a>,
    /// The group.
    pub group: Text<'a>,
    /// See [`super::OpenConnection::tracing_id`].
    pub tracing_id: Option<u64>,
}

impl<'a> JoinGroup<'a> {
    pub(super) fn read(fields: &mut Fields<'_, 'a>) -> Result<Self, DecodeError> {
        let connection_id = fields.required("connection_id", Reader::text)?;
        let group = fields.required("group", Reader::text)?;
        let tracing_id = fields.extensions()?.tracing_id;
        Ok(Self {
            connection_id,
            group,
            tracing_id,
        })
    }

    pub(super) fn write(&self, out: &mut impl MessagePackWriter) {
        out.array(4);
        out.int(MessageType::JoinGroup.number());
        out.text(&self.connection_id);
        out.text(&self.group);
        Extensions::traced(self.tracing_id).write(out);
    }
}

/// A connection leaves a group, or all of them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LeaveGroup<'a> {
    /// Names the client connection.
    pub connection_id: Text<'a>,
    /// The group; none means every group.
    pub group: Option<Text<'a>>,
    /// See [`super::OpenConnection::tracing_id`].
    pub tracing_id: Option<u64>,
}

impl<'a> LeaveGroup<'a> {
    pub(super) fn read(fields: &mut Fields<'_, 'a>) -> Result<Self, DecodeError> {
        let connection_id = fields.required("connection_id", Reader::text)?;
        let group = fields.required("group", Reader::optional_text)?;
        let tracing_id = fields.extensions()?.tracing_id;
        Ok(Self {
            connection_id,
            group,
            tracing_id,
        })
    }

    pub(super) fn write(&self, out: &mut impl MessagePackWriter) {
        out.array(4);
        out.int(MessageType::LeaveGroup.number());
        out.text(&self.connection_id);
        out.optional_text(self.group.as_deref());
        Extensions::traced(self.tracing_id).write(out);
    }
}

/// A user joins a group, with the connections of now and of later.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct UserJoinGroup<'a> {
    /// The user, letter case included.
    pub user_id: Text<'a>,
    /// The group.
    pub group: Text<'a>,
    /// How long the membership lasts; without, until it is ended.
    pub ttl_seconds: Option<i32>,
    /// See [`super::OpenConnection::tracing_id`].
    pub tracing_id: Option<u64>,
}

impl<'a> UserJoinGroup<'a> {
    pub(super) fn read(fields: &mut Fields<'_, 'a>) -> Result<Self, DecodeError> {
        let user_id = fields.required("user_id", Reader::text)?;
        let group = fields.required("group", Reader::text)?;
        let Extensions {
            ttl_seconds,
            tracing_id,
            ..
        } = fields.extensions()?;
        Ok(Self {
            user_id,
            group,
            ttl_seconds,
            tracing_id,
        })
    }

    pub(super) fn write(&self, out: &mut impl MessagePackWriter) {
        out.array(4);
        out.int(MessageType::UserJoinGroup.number());
        out.text(&self.user_id);
        out.text(&self.group);
        let ttl_seconds = self.ttl_seconds;
        Extensions {
            ttl_seconds,
            ..Extensions::traced(self.tracing_id)
        }
        .write(out);
    }
}

/// A user leaves a group, or all of them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct UserLeaveGroup<'a> {
    /// The user, letter case included.
    pub user_id: Text<'a>,
    /// The group; none means every group.
    pub group: Option<Text<'a>>,
    /// See [`super::OpenConnection::tracing_id`].
    pub tracing_id: Option<u64>,
}

impl<'a> UserLeaveGroup<'a> {
    pub(super) fn read(fields: &mut Fields<'_, 'a>) -> Result<Self, DecodeError> {
        let user_id = fields.required("user_id", Reader::text)?;
        let group = fields.required("group", Reader::optional_text)?;
        let tracing_id = fields.extensions()?.tracing_id;
        Ok(Self {
            user_id,
            group,
            tracing_id,
        })
    }

    pub(super) fn write(&self, out: &mut impl MessagePackWriter) {
        out.array(4);
        out.int(MessageType::UserLeaveGroup.number());
        out.text(&self.user_id);
        out.optional_text(self.group.as_deref());
        Extensions::traced(self.tracing_id).write(out);
    }
}

/// As [`JoinGroup`], to be answered.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct JoinGroupWithAck<'a> {
    /// Names the client connection.
    pub connection_id: Text<'a>,
    /// The group.
    pub group: Text<'a>,
    /// What the answer shall carry.
    pub ack_id: i32,
    /// See [`super::OpenConnection::tracing_id`].
    pub tracing_id: Option<u64>,
}

impl<'a> JoinGroupWithAck<'a> {
    pub(super) fn read(fields: &mut Fields<'_, 'a>) -> Result<Self, DecodeError> {
        let connection_id = fields.required("connection_id", Reader::text)?;
        let group = fields.required("group", Reader::text)?;
        let ack_id = fields.required("ack_id", Reader::int32)?;
        let tracing_id = fields.extensions()?.tracing_id;
        Ok(Self {
            connection_id,
            group,
            ack_id,
            tracing_id,
        })
    }

    pub(super) fn write(&self, out: &mut impl MessagePackWriter) {
        out.array(5);
        out.int(MessageType::JoinGroupWithAck.number());
        out.text(&self.connection_id);
        out.text(&self.group);
        out.int(self.ack_id);
        Extensions::traced(self.tracing_id).write(out);
    }
}

/// As [`LeaveGroup`], to be answered.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LeaveGroupWithAck<'a> {
    /// Names the client connection.
    pub connection_id: Text<'a>,
    /// The group; none means every group.
    pub group: Option<Text<'a>>,
    /// What the answer shall carry.
    pub ack_id: i32,
    /// See [`super::OpenConnection::tracing_id`].
    pub tracing_id: Option<u64>,
}

impl<'a> LeaveGroupWithAck<'a> {
    pub(super) fn read(fields: &mut Fields<'_, 'a>) -> Result<Self, DecodeError> {
        let connection_id = fields.required("connection_id", Reader::text)?;
        let group = fields.required("group", Reader::optional_text)?;
        let ack_id = fields.required("ack_id", Reader::int32)?;
        let tracing_id = fields.extensions()?.tracing_id;
        Ok(Self {
            connection_id,
            group,
            ack_id,
            tracing_id,
        })
    }

    pub(super) fn write(&self, out: &mut impl MessagePackWriter) {
        out.array(5);
        out.int(MessageType::LeaveGroupWithAck.number());
        out.text(&self.connection_id);
        out.optional_text(self.group.as_deref());
        out.int(self.ack_id);
        Extensions::traced(self.tracing_id).write(out);
    }
}

/// As [`UserJoinGroup`], to be answered.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct UserJoinGroupWithAck<'a> {
    /// The user, letter case included.
    pub user_id: Text<'a>,
    /// The group.
    pub group: Text<'a>,
    /// What the answer shall carry.
    pub ack_id: i32,
    /// How long the membership lasts; without, until it is ended.
    pub ttl_seconds: Option<i32>,
    /// See [`super::OpenConnection::tracing_id`].
    pub tracing_id: Option<u64>,
}

impl<'a> UserJoinGroupWithAck<'a> {
    pub(super) fn read(fields: &mut Fields<'_, 'a>) -> Result<Self, DecodeError> {
        let user_id = fields.required("user_id", Reader::text)?;
        let group = fields.required("group", Reader::text)?;
        let ack_id = fields.required("ack_id", Reader::int32)?;
        let Extensions {
            ttl_seconds,
            tracing_id,
            ..
        } = fields.extensions()?;
        Ok(Self {
            user_id,
            group,
            ack_id,
            ttl_seconds,
            tracing_id,
        })
    }

    pub(super) fn write(&self, out: &mut impl MessagePackWriter) {
        out.array(5);
        out.int(MessageType::UserJoinGroupWithAck.number());
        out.text(&self.user_id);
        out.text(&self.group);
        out.int(self.ack_id);
        let ttl_seconds = self.ttl_seconds;
        Extensions {
            ttl_seconds,
            ..Extensions::traced(self.tracing_id)
        }
        .write(out);
    }
}

/// As [`UserLeaveGroup`], to be answered.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct UserLeaveGroupWithAck<'a> {
    /// The user, letter case included.
    pub user_id: Text<'a>,
    /// The group; none means every group.
    pub group: Option<Text<'a>>,
    /// What the answer shall carry.
    pub ack_id: i32,
    /// See [`super::OpenConnection::tracing_id`].
    pub tracing_id: Option<u64>,
}

impl<'a> UserLeaveGroupWithAck<'a> {
    pub(super) fn read(fields: &mut Fields<'_, 'a>) -> Result<Self, DecodeError> {
        let user_id = fields.required("user_id", Reader::text)?;
        let group = fields.required("group", Reader::optional_text)?;
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
        out.int(MessageType::UserLeaveGroupWithAck.number());
        out.text(&self.user_id);
        out.optional_text(self.group.as_deref());
        out.int(self.ack_id);
        Extensions::traced(self.tracing_id).write(out);
    }
}

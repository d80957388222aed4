//! One hub message for many clients, or for one that is named. Always from an app server to the service.

use super::decode::{DecodeError, Fields};
use super::extensions::Extensions;
use super::reader::{Payload, Reader};
use super::writer::MessagePackWriter;
use super::{MessageType, Payloads, Text, Texts};

/// For the connections that are listed, often just one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MultiConnectionData<'a, P> {
    /// Names the client connections. Unknown ones are passed over.
    pub connection_ids: Texts<'a>,
    /// The hub message.
    pub payloads: Payloads<'a, P>,
    /// Which of the receivers, as an expression. The SDK for ASP.NET Core never says so.
    pub filter: Option<Text<'a>>,
    /// See [`super::OpenConnection::tracing_id`].
    pub tracing_id: Option<u64>,
}

impl<'a, P: Payload<'a>> MultiConnectionData<'a, P> {
    pub(super) fn read(fields: &mut Fields<'_, 'a>) -> Result<Self, DecodeError> {
        let connection_ids = fields.required("connection_ids", Reader::texts)?;
        let payloads = fields.required("payloads", Reader::payloads)?;
        let Extensions {
            filter, tracing_id, ..
        } = fields.extensions()?;
        Ok(Self {
            connection_ids,
            payloads,
            filter,
            tracing_id,
        })
    }
}

impl<P: AsRef<[u8]>> MultiConnectionData<'_, P> {
    pub(super) fn write(&self, out: &mut impl MessagePackWriter) {
        out.array(4);
        out.int(MessageType::MultiConnectionData.number());
        out.texts(&self.connection_ids);
        out.payloads(&self.payloads);
        Extensions::filtered(self.filter.as_deref(), self.tracing_id).write(out);
    }
}

/// For all connections of a user.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UserData<'a, P> {
    /// The user, letter case included.
    pub user_id: Text<'a>,
    /// The hub message.
    pub payloads: Payloads<'a, P>,
    /// Which of the receivers, as an expression. The SDK for ASP.NET Core never says so.
    pub filter: Option<Text<'a>>,
    /// See [`super::OpenConnection::tracing_id`].
    pub tracing_id: Option<u64>,
}

impl<'a, P: Payload<'a>> UserData<'a, P> {
    pub(super) fn read(fields: &mut Fields<'_, 'a>) -> Result<Self, DecodeError> {
        let user_id = fields.required("user_id", Reader::text)?;
        let payloads = fields.required("payloads", Reader::payloads)?;
        let Extensions {
            filter, tracing_id, ..
        } = fields.extensions()?;
        Ok(Self {
            user_id,
            payloads,
            filter,
            tracing_id,
        })
    }
}

impl<P: AsRef<[u8]>> UserData<'_, P> {
    pub(super) fn write(&self, out: &mut impl MessagePackWriter) {
        out.array(4);
        out.int(MessageType::UserData.number());
        out.text(&self.user_id);
        out.payloads(&self.payloads);
        Extensions::filtered(self.filter.as_deref(), self.tracing_id).write(out);
    }
}

/// For all connections of several users.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MultiUserData<'a, P> {
    /// The users.
    pub user_ids: Texts<'a>,
    /// The hub message.
    pub payloads: Payloads<'a, P>,
    /// Which of the receivers, as an expression. The SDK for ASP.NET Core never says so.
    pub filter: Option<Text<'a>>,
    /// See [`super::OpenConnection::tracing_id`].
    pub tracing_id: Option<u64>,
}

impl<'a, P: Payload<'a>> MultiUserData<'a, P> {
    pub(super) fn read(fields: &mut Fields<'_, 'a>) -> Result<Self, DecodeError> {
        let user_ids = fields.required("user_ids", Reader::texts)?;
        let payloads = fields.required("payloads", Reader::payloads)?;
        let Extensions {
            filter, tracing_id, ..
        } = fields.extensions()?;
        Ok(Self {
            user_ids,
            payloads,
            filter,
            tracing_id,
        })
    }
}

impl<P: AsRef<[u8]>> MultiUserData<'_, P> {
    pub(super) fn write(&self, out: &mut impl MessagePackWriter) {
        out.array(4);
        out.int(MessageType::MultiUserData.number());
        out.texts(&self.user_ids);
        out.payloads(&self.payloads);
        Extensions::filtered(self.filter.as_deref(), self.tracing_id).write(out);
    }
}

/// For every client of the hub but a few.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BroadcastData<'a, P> {
    /// Connections to leave out.
    pub excluded: Texts<'a>,
    /// The hub message.
    pub payloads: Payloads<'a, P>,
    /// Which of the receivers, as an expression. The SDK for ASP.NET Core never says so.
    pub filter: Option<Text<'a>>,
    /// See [`super::OpenConnection::tracing_id`].
    pub tracing_id: Option<u64>,
}

impl<'a, P: Payload<'a>> BroadcastData<'a, P> {
    pub(super) fn read(fields: &mut Fields<'_, 'a>) -> Result<Self, DecodeError> {
        let excluded = fields.required("excluded", Reader::texts)?;
        let payloads = fields.required("payloads", Reader::payloads)?;
        let Extensions {
            filter, tracing_id, ..
        } = fields.extensions()?;
        Ok(Self {
            excluded,
            payloads,
            filter,
            tracing_id,
        })
    }
}

impl<P: AsRef<[u8]>> BroadcastData<'_, P> {
    pub(super) fn write(&self, out: &mut impl MessagePackWriter) {
        out.array(4);
        out.int(MessageType::BroadcastData.number());
        out.texts(&self.excluded);
        out.payloads(&self.payloads);
        Extensions::filtered(self.filter.as_deref(), self.tracing_id).write(out);
    }
}

/// For the members of a group but a few.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GroupBroadcastData<'a, P> {
    /// The group.
    pub group: Text<'a>,
    /// Connections to leave out.
    pub excluded: Texts<'a>,
    /// The hub message.
    pub payloads: Payloads<'a, P>,
    /// Users to leave out.
    pub excluded_users: Texts<'a>,
    /// Who sent it, if it came from a client.
    pub caller_user_id: Option<Text<'a>>,
    /// Which of the receivers, as an expression. The SDK for ASP.NET Core never says so.
    pub filter: Option<Text<'a>>,
    /// See [`super::OpenConnection::tracing_id`].
    pub tracing_id: Option<u64>,
}

impl<'a, P: Payload<'a>> GroupBroadcastData<'a, P> {
    pub(super) fn read(fields: &mut Fields<'_, 'a>) -> Result<Self, DecodeError> {
        let group = fields.required("group", Reader::text)?;
        let excluded = fields.required("excluded", Reader::texts)?;
        let payloads = fields.required("payloads", Reader::payloads)?;
        let Extensions {
            filter, tracing_id, ..
        } = fields.extensions()?;
        let excluded_users = fields.added("excluded_users", Reader::texts)?;
        let caller_user_id = fields.added("caller_user_id", Reader::optional_text)?;
        Ok(Self {
            group,
            excluded,
            payloads,
            excluded_users,
            caller_user_id,
            filter,
            tracing_id,
        })
    }
}

impl<P: AsRef<[u8]>> GroupBroadcastData<'_, P> {
    pub(super) fn write(&self, out: &mut impl MessagePackWriter) {
        out.array(7);
        out.int(MessageType::GroupBroadcastData.number());
        out.text(&self.group);
        out.texts(&self.excluded);
        out.payloads(&self.payloads);
        Extensions::filtered(self.filter.as_deref(), self.tracing_id).write(out);
        out.texts(&self.excluded_users);
        out.optional_text(self.caller_user_id.as_deref());
    }
}

/// For the members of several groups.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MultiGroupBroadcastData<'a, P> {
    /// The groups.
    pub groups: Texts<'a>,
    /// The hub message.
    pub payloads: Payloads<'a, P>,
    /// Which of the receivers, as an expression. The SDK for ASP.NET Core never says so.
    pub filter: Option<Text<'a>>,
    /// See [`super::OpenConnection::tracing_id`].
    pub tracing_id: Option<u64>,
}

impl<'a, P: Payload<'a>> MultiGroupBroadcastData<'a, P> {
    pub(super) fn read(fields: &mut Fields<'_, 'a>) -> Result<Self, DecodeError> {
        let groups = fields.required("groups", Reader::texts)?;
        let payloads = fields.required("payloads", Reader::payloads)?;
        let Extensions {
            filter, tracing_id, ..
        } = fields.extensions()?;
        Ok(Self {
            groups,
            payloads,
            filter,
            tracing_id,
        })
    }
}

impl<P: AsRef<[u8]>> MultiGroupBroadcastData<'_, P> {
    pub(super) fn write(&self, out: &mut impl MessagePackWriter) {
        out.array(4);
        out.int(MessageType::MultiGroupBroadcastData.number());
        out.texts(&self.groups);
        out.payloads(&self.payloads);
        Extensions::filtered(self.filter.as_deref(), self.tracing_id).write(out);
    }
}

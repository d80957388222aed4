//! Requests whose answer is more than yes or no: members of a group, and the claims of a connection.

use super::decode::{DecodeError, Fields};
use super::extensions::Extensions;
use super::reader::Reader;
use super::writer::MessagePackWriter;
use super::{Claims, MessageType, Text, Timestamp};

/// Asks for the members of a group, a page at a time.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct GroupMemberQuery<'a> {
    /// The group.
    pub group: Text<'a>,
    /// What the answer shall carry.
    pub ack_id: i32,
    /// How many members at most, over all pages.
    pub top: Option<i32>,
    /// Where the page before ended, as the answer to it said.
    pub continuation_token: Option<Text<'a>>,
    /// How many members at most on this page. SDKs of early 2025 do not say.
    pub max_page_size: Option<i32>,
    /// See [`super::OpenConnection::tracing_id`].
    pub tracing_id: Option<u64>,
}

impl<'a> GroupMemberQuery<'a> {
    pub(super) fn read(fields: &mut Fields<'_, 'a>) -> Result<Self, DecodeError> {
        let tracing_id = fields.extensions()?.tracing_id;
        let group = fields.required("group", Reader::text)?;
        let ack_id = fields.required("ack_id", Reader::int32)?;
        let top = fields.required("top", Reader::optional_int32)?;
        let continuation_token = fields.added("continuation_token", Reader::optional_text)?;
        let max_page_size = fields.added("max_page_size", Reader::optional_int32)?;
        Ok(Self {
            group,
            ack_id,
            top,
            continuation_token,
            max_page_size,
            tracing_id,
        })
    }

    pub(super) fn write(&self, out: &mut impl MessagePackWriter) {
        out.array(7);
        out.int(MessageType::GroupMemberQuery.number());
        Extensions::traced(self.tracing_id).write(out);
        out.text(&self.group);
        out.int(self.ack_id);
        out.optional_int(self.top);
        out.optional_text(self.continuation_token.as_deref());
        out.optional_int(self.max_page_size);
    }
}

/// Gives a connection that stays open a new expiry, and new claims if there are any.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RefreshAuth<'a> {
    /// The connection's token, which only its client knows.
    pub connection_token: Text<'a>,
    /// The new claims. None means that the present ones stay.
    pub claims: Claims<'a>,
    /// The new expiry. [`Timestamp::LATEST`] means that the present one stays.
    pub expire_time: Timestamp,
    /// What the answer shall carry.
    pub ack_id: i32,
}

impl<'a> RefreshAuth<'a> {
    pub(super) fn read(fields: &mut Fields<'_, 'a>) -> Result<Self, DecodeError> {
        let connection_token = fields.required("connection_token", Reader::text)?;
        let claims = fields.required("claims", Reader::claims)?;
        let expire_time = fields.required("expire_time", Timestamp::read)?;
        let ack_id = fields.required("ack_id", Reader::int32)?;
        fields.extensions()?;
        Ok(Self {
            connection_token,
            claims,
            expire_time,
            ack_id,
        })
    }

    pub(super) fn write(&self, out: &mut impl MessagePackWriter) {
        out.array(6);
        out.int(MessageType::RefreshAuth.number());
        out.text(&self.connection_token);
        out.claims(&self.claims);
        self.expire_time.write(out);
        out.int(self.ack_id);
        Extensions::default().write(out);
    }
}

/// Asks for the claims of a connection. They come as the payload of the [`Ack`](super::Ack), in MessagePack.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct GetConnectionClaims<'a> {
    /// The connection's token, which only its client knows.
    pub connection_token: Text<'a>,
    /// What the answer shall carry.
    pub ack_id: i32,
}

impl<'a> GetConnectionClaims<'a> {
    pub(super) fn read(fields: &mut Fields<'_, 'a>) -> Result<Self, DecodeError> {
        let connection_token = fields.required("connection_token", Reader::text)?;
        let ack_id = fields.required("ack_id", Reader::int32)?;
        fields.extensions()?;
        Ok(Self {
            connection_token,
            ack_id,
        })
    }

    pub(super) fn write(&self, out: &mut impl MessagePackWriter) {
        out.array(4);
        out.int(MessageType::GetConnectionClaims.number());
        out.text(&self.connection_token);
        out.int(self.ack_id);
        Extensions::default().write(out);
    }
}

/// Tells the app server of a connection that its claims have changed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct UpdateConnectionClaims<'a> {
    /// Names the client connection.
    pub connection_id: Text<'a>,
    /// All its claims, as they are now.
    pub claims: Claims<'a>,
}

impl<'a> UpdateConnectionClaims<'a> {
    pub(super) fn read(fields: &mut Fields<'_, 'a>) -> Result<Self, DecodeError> {
        let connection_id = fields.required("connection_id", Reader::text)?;
        let claims = fields.required("claims", Reader::claims)?;
        fields.extensions()?;
        Ok(Self {
            connection_id,
            claims,
        })
    }

    pub(super) fn write(&self, out: &mut impl MessagePackWriter) {
        out.array(4);
        out.int(MessageType::UpdateConnectionClaims.number());
        out.text(&self.connection_id);
        out.claims(&self.claims);
        Extensions::default().write(out);
    }
}

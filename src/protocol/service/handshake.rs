//! Getting acquainted: the service handshake, and access keys for an app server that signs in with Microsoft Entra.

use super::decode::{DecodeError, Fields};
use super::extensions::Extensions;
use super::reader::Reader;
use super::writer::MessagePackWriter;
use super::{MessageType, MigrationLevel, ServerConnectionType, Text};

/// The first message of an app server on a server connection.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HandshakeRequest<'a> {
    /// Of the service protocol; 1 is the only one there is.
    pub version: i32,
    /// What the connection is for.
    pub connection_type: ServerConnectionType,
    /// Always empty. The instance that is meant stands in the URL.
    pub target: Text<'a>,
    /// When clients may move away from this connection.
    pub migration_level: MigrationLevel,
    /// Whether the hub lets clients reconnect with their state kept.
    pub allow_stateful_reconnects: bool,
}

impl<'a> HandshakeRequest<'a> {
    pub(super) fn read(fields: &mut Fields<'_, 'a>) -> Result<Self, DecodeError> {
        let version = fields.required("version", Reader::int32)?;
        let connection_type = fields.added("connection_type", ServerConnectionType::read)?;
        let target = fields.added("target", Reader::text)?;
        let migration_level = fields.added("migration_level", MigrationLevel::read)?;
        fields.extensions()?;
        let allow_stateful_reconnects =
            fields.added("allow_stateful_reconnects", Reader::boolean)?;
        Ok(Self {
            version,
            connection_type,
            target,
            migration_level,
            allow_stateful_reconnects,
        })
    }

    pub(super) fn write(&self, out: &mut impl MessagePackWriter) {
        out.array(7);
        out.int(MessageType::HandshakeRequest.number());
        out.int(self.version);
        out.int(self.connection_type.number());
        out.text(&self.target);
        out.int(self.migration_level.number());
        Extensions::default().write(out);
        out.boolean(self.allow_stateful_reconnects);
    }
}

/// The answer of the service.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HandshakeResponse<'a> {
    /// Why the connection is refused; empty if it is not.
    pub error_message: Text<'a>,
    /// The server connection's id, as the service knows it.
    pub connection_id: Option<Text<'a>>,
}

impl<'a> HandshakeResponse<'a> {
    pub(super) fn read(fields: &mut Fields<'_, 'a>) -> Result<Self, DecodeError> {
        let error_message = fields.required("error_message", Reader::text)?;
        fields.extensions()?;
        let connection_id = fields.added("connection_id", Reader::optional_text)?;
        Ok(Self {
            error_message,
            connection_id,
        })
    }

    pub(super) fn write(&self, out: &mut impl MessagePackWriter) {
        out.array(4);
        out.int(MessageType::HandshakeResponse.number());
        out.text(&self.error_message);
        Extensions::default().write(out);
        out.optional_text(self.connection_id.as_deref());
    }
}

/// Asks for the key with which to sign the access tokens of clients.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AccessKeyRequest<'a> {
    /// The app server's own token.
    pub token: Text<'a>,
    /// The key it has now.
    pub kid: Option<Text<'a>>,
}

impl<'a> AccessKeyRequest<'a> {
    pub(super) fn read(fields: &mut Fields<'_, 'a>) -> Result<Self, DecodeError> {
        let token = fields.required("token", Reader::text)?;
        let kid = fields.required("kid", Reader::optional_text)?;
        fields.extensions()?;
        Ok(Self { token, kid })
    }

    pub(super) fn write(&self, out: &mut impl MessagePackWriter) {
        out.array(4);
        out.int(MessageType::AccessKeyRequest.number());
        out.text(&self.token);
        out.optional_text(self.kid.as_deref());
        Extensions::default().write(out);
    }
}

/// The key, or why there is none.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AccessKeyResponse<'a> {
    /// Names the key.
    pub kid: Option<Text<'a>>,
    /// The key.
    pub access_key: Option<Text<'a>>,
    /// The kind of error.
    pub error_type: Option<Text<'a>>,
    /// The error in words.
    pub error_message: Option<Text<'a>>,
}

impl<'a> AccessKeyResponse<'a> {
    pub(super) fn read(fields: &mut Fields<'_, 'a>) -> Result<Self, DecodeError> {
        let kid = fields.required("kid", Reader::optional_text)?;
        let access_key = fields.required("access_key", Reader::optional_text)?;
        let error_type = fields.required("error_type", Reader::optional_text)?;
        let error_message = fields.required("error_message", Reader::optional_text)?;
        fields.extensions()?;
        Ok(Self {
            kid,
            access_key,
            error_type,
            error_message,
        })
    }

    pub(super) fn write(&self, out: &mut impl MessagePackWriter) {
        out.array(6);
        out.int(MessageType::AccessKeyResponse.number());
        out.optional_text(self.kid.as_deref());
        out.optional_text(self.access_key.as_deref());
        out.optional_text(self.error_type.as_deref());
        out.optional_text(self.error_message.as_deref());
        Extensions::default().write(out);
    }
}

//! The life of one client connection as its app server sees it, and what the service says about itself.

use std::borrow::Cow;

use super::decode::{DecodeError, Fields};
use super::extensions::Extensions;
use super::reader::{Payload, Reader};
use super::writer::MessagePackWriter;
use super::{
    Claims, DataMessageType, FlowControlOperation, FlowControlTarget, Headers, MessageType,
    ServiceEventKind, ServiceEventObject, Text,
};

/// A client has come, or has been moved here from another app server.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct OpenConnection<'a> {
    /// Names the client connection.
    pub connection_id: Text<'a>,
    /// What its access token says.
    pub claims: Claims<'a>,
    /// Of its HTTP request.
    pub headers: Headers<'a>,
    /// Of its HTTP request, with the question mark.
    pub query_string: Text<'a>,
    /// The hub protocol it speaks. Newer SDKs cannot do without.
    pub protocol: Option<Text<'a>>,
    /// For a client whose messages are followed through the system.
    pub tracing_id: Option<u64>,
}

impl<'a> OpenConnection<'a> {
    pub(super) fn read(fields: &mut Fields<'_, 'a>) -> Result<Self, DecodeError> {
        let connection_id = fields.required("connection_id", Reader::text)?;
        let claims = fields.required("claims", Reader::claims)?;
        let headers = fields.added("headers", Reader::headers)?;
        let query_string = fields.added("query_string", Reader::text)?;
        let Extensions {
            protocol,
            tracing_id,
            ..
        } = fields.extensions()?;
        Ok(Self {
            connection_id,
            claims,
            headers,
            query_string,
            protocol,
            tracing_id,
        })
    }

    pub(super) fn write(&self, out: &mut impl MessagePackWriter) {
        out.array(6);
        out.int(MessageType::OpenConnection.number());
        out.text(&self.connection_id);
        out.claims(&self.claims);
        out.headers(&self.headers);
        out.text(&self.query_string);
        let protocol = self.protocol.as_deref().map(Cow::Borrowed);
        Extensions {
            protocol,
            ..Extensions::traced(self.tracing_id)
        }
        .write(out);
    }
}

/// A client has gone, shall go, or moves to another app server.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CloseConnection<'a> {
    /// Names the client connection.
    pub connection_id: Text<'a>,
    /// Why. Often empty, also when there was an error.
    pub error_message: Text<'a>,
    /// Says where it moves to, if it does.
    pub headers: Headers<'a>,
    /// See [`OpenConnection::tracing_id`].
    pub tracing_id: Option<u64>,
}

impl<'a> CloseConnection<'a> {
    /// The close of this connection, without an error.
    pub fn of(connection_id: impl Into<Text<'a>>) -> Self {
        Self {
            connection_id: connection_id.into(),
            ..Self::default()
        }
    }

    pub(super) fn read(fields: &mut Fields<'_, 'a>) -> Result<Self, DecodeError> {
        let connection_id = fields.required("connection_id", Reader::text)?;
        let error_message = fields.required("error_message", Reader::text)?;
        let headers = fields.added("headers", Reader::headers)?;
        let tracing_id = fields.extensions()?.tracing_id;
        Ok(Self {
            connection_id,
            error_message,
            headers,
            tracing_id,
        })
    }

    pub(super) fn write(&self, out: &mut impl MessagePackWriter) {
        out.array(5);
        out.int(MessageType::CloseConnection.number());
        out.text(&self.connection_id);
        out.text(&self.error_message);
        out.headers(&self.headers);
        Extensions::traced(self.tracing_id).write(out);
    }
}

/// Bytes of one client, to it or from it. By far the most frequent message.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ConnectionData<'a, P> {
    /// Names the client connection.
    pub connection_id: Text<'a>,
    /// What the client sent, or is to receive, with the marks that part hub messages.
    pub payload: P,
    /// What the payload is. Only newer SDKs say so.
    pub data_type: DataMessageType,
    /// Whether more of the same hub message follows.
    pub is_partial: bool,
    /// See [`OpenConnection::tracing_id`].
    pub tracing_id: Option<u64>,
}

impl<'a, P: Payload<'a>> ConnectionData<'a, P> {
    pub(super) fn read(fields: &mut Fields<'_, 'a>) -> Result<Self, DecodeError> {
        let connection_id = fields.required("connection_id", Reader::text)?;
        let payload = fields.required("payload", Reader::payload)?;
        let Extensions {
            data_type,
            is_partial,
            tracing_id,
            ..
        } = fields.extensions()?;
        Ok(Self {
            connection_id,
            payload,
            data_type,
            is_partial,
            tracing_id,
        })
    }
}

impl<P: AsRef<[u8]>> ConnectionData<'_, P> {
    pub(super) fn write(&self, out: &mut impl MessagePackWriter) {
        out.array(4);
        out.int(MessageType::ConnectionData.number());
        out.text(&self.connection_id);
        out.binary(self.payload.as_ref());
        let Self {
            data_type,
            is_partial,
            ..
        } = *self;
        Extensions {
            data_type,
            is_partial,
            ..Extensions::traced(self.tracing_id)
        }
        .write(out);
    }
}

/// A client came back after it had been cut off: what was held of its last message is void.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ConnectionReconnect<'a> {
    /// Names the client connection.
    pub connection_id: Text<'a>,
}

impl<'a> ConnectionReconnect<'a> {
    pub(super) fn read(fields: &mut Fields<'_, 'a>) -> Result<Self, DecodeError> {
        let connection_id = fields.required("connection_id", Reader::text)?;
        fields.extensions()?;
        Ok(Self { connection_id })
    }

    pub(super) fn write(&self, out: &mut impl MessagePackWriter) {
        out.array(3);
        out.int(MessageType::ConnectionReconnect.number());
        out.text(&self.connection_id);
        Extensions::default().write(out);
    }
}

/// Stops and starts what the app server sends, for a client that moves between instances of the service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConnectionFlowControl<'a> {
    /// Names the client connection, or the server connection.
    pub connection_id: Text<'a>,
    /// Which of the two.
    pub target: FlowControlTarget,
    /// What shall happen, or has happened.
    pub operation: FlowControlOperation,
}

impl<'a> ConnectionFlowControl<'a> {
    pub(super) fn read(fields: &mut Fields<'_, 'a>) -> Result<Self, DecodeError> {
        let connection_id = fields.required("connection_id", Reader::text)?;
        let target = fields.required("target", FlowControlTarget::read)?;
        let operation = fields.required("operation", FlowControlOperation::read)?;
        Ok(Self {
            connection_id,
            target,
            operation,
        })
    }

    pub(super) fn write(&self, out: &mut impl MessagePackWriter) {
        out.array(5);
        out.int(MessageType::ConnectionFlowControl.number());
        out.text(&self.connection_id);
        // The SDK writes these two at full width; its own readers take any.
        out.wide_int(self.target as i32);
        out.wide_int(self.operation as i32);
        Extensions::default().write(out);
    }
}

/// The service cannot go on with this server connection.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ServiceError<'a> {
    /// Why.
    pub error_message: Text<'a>,
}

impl<'a> ServiceError<'a> {
    pub(super) fn read(fields: &mut Fields<'_, 'a>) -> Result<Self, DecodeError> {
        Ok(Self {
            error_message: fields.required("error_message", Reader::text)?,
        })
    }

    pub(super) fn write(&self, out: &mut impl MessagePackWriter) {
        out.array(2);
        out.int(MessageType::ServiceError.number());
        out.text(&self.error_message);
    }
}

/// Something the app server may want to know, and need not act on.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ServiceEvent<'a> {
    /// What it is about.
    pub object: ServiceEventObject,
    /// Names that object.
    pub id: Text<'a>,
    /// What happened to it.
    pub kind: ServiceEventKind,
    /// The same in words.
    pub message: Text<'a>,
}

impl<'a> ServiceEvent<'a> {
    pub(super) fn read(fields: &mut Fields<'_, 'a>) -> Result<Self, DecodeError> {
        let object = fields.required("object", ServiceEventObject::read)?;
        let id = fields.required("id", Reader::text)?;
        let kind = fields.required("kind", ServiceEventKind::read)?;
        let message = fields.required("message", Reader::text)?;
        fields.extensions()?;
        Ok(Self {
            object,
            id,
            kind,
            message,
        })
    }

    pub(super) fn write(&self, out: &mut impl MessagePackWriter) {
        out.array(6);
        out.int(MessageType::ServiceEvent.number());
        out.int(self.object.number());
        out.text(&self.id);
        out.int(self.kind.number());
        out.text(&self.message);
        Extensions::default().write(out);
    }
}

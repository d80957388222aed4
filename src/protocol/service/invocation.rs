//! An app server calls a method of a client and waits for its result.

use std::borrow::Cow;

use super::decode::{DecodeError, Fields};
use super::extensions::Extensions;
use super::reader::{Payload, Reader};
use super::writer::MessagePackWriter;
use super::{MessageType, Payloads, Text};

/// The call. Also goes to the app server that holds the client, so that it expects the result.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClientInvocation<'a, P> {
    /// Names the call, within the hub.
    pub invocation_id: Text<'a>,
    /// The client that is called.
    pub connection_id: Text<'a>,
    /// The app server that called.
    pub caller_server_id: Text<'a>,
    /// The hub message. Empty towards the app server that holds the client.
    pub payloads: Payloads<'a, P>,
    /// See [`super::OpenConnection::tracing_id`].
    pub tracing_id: Option<u64>,
}

impl<'a, P: Payload<'a>> ClientInvocation<'a, P> {
    pub(super) fn read(fields: &mut Fields<'_, 'a>) -> Result<Self, DecodeError> {
        let invocation_id = fields.required("invocation_id", Reader::text)?;
        let connection_id = fields.required("connection_id", Reader::text)?;
        let caller_server_id = fields.required("caller_server_id", Reader::text)?;
        let payloads = fields.required("payloads", Reader::payloads)?;
        let tracing_id = fields.extensions()?.tracing_id;
        Ok(Self {
            invocation_id,
            connection_id,
            caller_server_id,
            payloads,
            tracing_id,
        })
    }
}

impl<P: AsRef<[u8]>> ClientInvocation<'_, P> {
    pub(super) fn write(&self, out: &mut impl MessagePackWriter) {
        out.array(6);
        out.int(MessageType::ClientInvocation.number());
        out.text(&self.invocation_id);
        out.text(&self.connection_id);
        out.text(&self.caller_server_id);
        out.payloads(&self.payloads);
        Extensions::traced(self.tracing_id).write(out);
    }
}

/// The client's answer, from the app server that holds the client to the one that called.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ClientCompletion<'a, P> {
    /// Names the call, within the hub.
    pub invocation_id: Text<'a>,
    /// The client that answered.
    pub connection_id: Text<'a>,
    /// The app server that sent this, which need not be the one that called.
    pub caller_server_id: Text<'a>,
    /// The hub protocol of the payload. On the wire it stands in two places.
    pub protocol: Option<Text<'a>>,
    /// The hub message. Empty when the caller has its result already and the call can be forgotten.
    pub payload: P,
    /// See [`super::OpenConnection::tracing_id`].
    pub tracing_id: Option<u64>,
}

impl<'a, P: Payload<'a>> ClientCompletion<'a, P> {
    pub(super) fn read(fields: &mut Fields<'_, 'a>) -> Result<Self, DecodeError> {
        let invocation_id = fields.required("invocation_id", Reader::text)?;
        let connection_id = fields.required("connection_id", Reader::text)?;
        let caller_server_id = fields.required("caller_server_id", Reader::text)?;
        let protocol = fields.required("protocol", Reader::optional_text)?;
        let payload = fields.required("payload", Reader::payload)?;
        let extensions = fields.extensions()?;
        let protocol = protocol.or(extensions.protocol);
        let tracing_id = extensions.tracing_id;
        Ok(Self {
            invocation_id,
            connection_id,
            caller_server_id,
            protocol,
            payload,
            tracing_id,
        })
    }
}

impl<P: AsRef<[u8]>> ClientCompletion<'_, P> {
    pub(super) fn write(&self, out: &mut impl MessagePackWriter) {
        out.array(7);
        out.int(MessageType::ClientCompletion.number());
        out.text(&self.invocation_id);
        out.text(&self.connection_id);
        out.text(&self.caller_server_id);
        out.optional_text(self.protocol.as_deref());
        out.binary(self.payload.as_ref());
        let protocol = self.protocol.as_deref().map(Cow::Borrowed);
        Extensions {
            protocol,
            ..Extensions::traced(self.tracing_id)
        }
        .write(out);
    }
}

/// There will be no answer.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ErrorCompletion<'a> {
    /// Names the call, within the hub.
    pub invocation_id: Text<'a>,
    /// The client that was called.
    pub connection_id: Text<'a>,
    /// The app server that called.
    pub caller_server_id: Text<'a>,
    /// Why not, in the words the caller's code will see.
    pub error: Text<'a>,
    /// See [`super::OpenConnection::tracing_id`].
    pub tracing_id: Option<u64>,
}

impl<'a> ErrorCompletion<'a> {
    pub(super) fn read(fields: &mut Fields<'_, 'a>) -> Result<Self, DecodeError> {
        let invocation_id = fields.required("invocation_id", Reader::text)?;
        let connection_id = fields.required("connection_id", Reader::text)?;
        let caller_server_id = fields.required("caller_server_id", Reader::text)?;
        let error = fields.required("error", Reader::text)?;
        let tracing_id = fields.extensions()?.tracing_id;
        Ok(Self {
            invocation_id,
            connection_id,
            caller_server_id,
            error,
            tracing_id,
        })
    }

    pub(super) fn write(&self, out: &mut impl MessagePackWriter) {
        out.array(6);
        out.int(MessageType::ErrorCompletion.number());
        out.text(&self.invocation_id);
        out.text(&self.connection_id);
        out.text(&self.caller_server_id);
        out.text(&self.error);
        Extensions::traced(self.tracing_id).write(out);
    }
}

/// Tells the caller which instance of the service has the client: when that one is lost, so is the answer.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ServiceMapping<'a> {
    /// Names the call, within the hub.
    pub invocation_id: Text<'a>,
    /// The client that is called.
    pub connection_id: Text<'a>,
    /// The instance.
    pub instance_id: Text<'a>,
}

impl<'a> ServiceMapping<'a> {
    pub(super) fn read(fields: &mut Fields<'_, 'a>) -> Result<Self, DecodeError> {
        let invocation_id = fields.required("invocation_id", Reader::text)?;
        let connection_id = fields.required("connection_id", Reader::text)?;
        let instance_id = fields.required("instance_id", Reader::text)?;
        fields.extensions()?;
        Ok(Self {
            invocation_id,
            connection_id,
            instance_id,
        })
    }

    pub(super) fn write(&self, out: &mut impl MessagePackWriter) {
        out.array(5);
        out.int(MessageType::ServiceMapping.number());
        out.text(&self.invocation_id);
        out.text(&self.connection_id);
        out.text(&self.instance_id);
        Extensions::default().write(out);
    }
}

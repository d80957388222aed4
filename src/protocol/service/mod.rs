//! The service protocol: what an app server and the service say to each other.
//!
//! A server connection carries a stream of messages, each with its length in front. A message is a MessagePack array whose first
//! element is its type. This module turns one such array into a [`Message`] and back; cutting the stream into messages is the work
//! of [`crate::frame::record`].
//!
//! Reading is generous, because app servers of every age connect: arrays may be shorter (what was added later takes its default)
//! or longer (the rest is ignored), integers of any width, maps of values may hold unknown keys. Writing is strict: exactly the
//! bytes of the SDK `Microsoft.Azure.SignalR` 1.34.0. What is read borrows from the bytes it was read from. A payload is never
//! copied: [`decode()`] says where in the message it lies.
//!
//! | | |
//! |---|---|
//! | [`Message`], [`MessageType`] | the catalogue |
//! | [`decode()`], [`decode_whole`], [`DecodeError`] | bytes → message |
//! | [`Message::encode`] | message → bytes |
//! | [`connection_data_header`], [`write_open_connection`] | the hot path, which leaves out what is sent from elsewhere |
//! | [`ping`] | what the strings of a [`Ping`] mean |
//!
//! The layouts follow Microsoft's `ServiceProtocol.md` and, where that is out of date, what the SDK does on the wire.

#![expect(
    private_bounds,
    reason = "in which forms a payload can be read is decided here alone"
)]

mod ack;
mod catalogue;
mod close;
mod connection;
mod decode;
mod encode;
mod enumerations;
mod extensions;
mod fan_out;
mod group;
mod handshake;
mod invocation;
mod payloads;
pub mod ping;
mod query;
mod reader;
#[cfg(any(test, fuzzing))]
mod tests;
mod timestamp;
mod writer;

use std::borrow::Cow;

use smallvec::SmallVec;

pub use ack::{
    Ack, CheckConnectionExistenceWithAck, CheckGroupExistenceWithAck, CheckUserExistenceWithAck,
    CheckUserInGroupWithAck,
};
pub use catalogue::{Message, MessageType};
pub use close::{
    CloseConnectionWithAck, CloseConnectionsWithAck, CloseGroupConnectionsWithAck,
    CloseUserConnectionsWithAck,
};
pub use connection::{
    CloseConnection, ConnectionData, ConnectionFlowControl, ConnectionReconnect, OpenConnection,
    ServiceError, ServiceEvent,
};
pub use decode::{DecodeError, Fault, decode, decode_whole};
pub use encode::{
    CONNECTION_DATA_TRAILER, KEEP_ALIVE_PING, SmallHeader, connection_data_header,
    encode_open_connection_body, write_ack, write_close_connection, write_handshake_response,
    write_open_connection, write_ping, write_service_error,
};
pub use enumerations::{
    AckStatus, DataMessageType, FlowControlOperation, FlowControlTarget, MigrationLevel,
    ServerConnectionType, ServiceEventKind, ServiceEventObject,
};
pub use fan_out::{
    BroadcastData, GroupBroadcastData, MultiConnectionData, MultiGroupBroadcastData, MultiUserData,
    UserData,
};
pub use group::{
    JoinGroup, JoinGroupWithAck, LeaveGroup, LeaveGroupWithAck, UserJoinGroup,
    UserJoinGroupWithAck, UserLeaveGroup, UserLeaveGroupWithAck,
};
pub use handshake::{AccessKeyRequest, AccessKeyResponse, HandshakeRequest, HandshakeResponse};
pub use invocation::{ClientCompletion, ClientInvocation, ErrorCompletion, ServiceMapping};
pub use payloads::Payloads;
pub use ping::Ping;
pub use query::{GetConnectionClaims, GroupMemberQuery, RefreshAuth, UpdateConnectionClaims};
#[cfg(any(test, fuzzing))]
pub use tests::fuzz_service_message;
pub use timestamp::Timestamp;

/// A string of a message. Owned only where the string straddled two pieces.
pub type Text<'a> = Cow<'a, str>;

/// A list of connections, users or groups. Excluded lists mostly have no entry or one.
pub type Texts<'a> = SmallVec<[Text<'a>; 2]>;

/// Claims in order. A kind may come several times, once for each of its values.
pub type Claims<'a> = Vec<(Text<'a>, Text<'a>)>;

/// Headers in order, each with all its values.
pub type Headers<'a> = Vec<(Text<'a>, Texts<'a>)>;

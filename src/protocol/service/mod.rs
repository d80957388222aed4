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
//!
//! # What becomes of each message
//!
//! A message of an app server (*in*) is handled by the part of [`crate::routing`] that is named; what the service sends (*out*) comes
//! from there. One that comes in the wrong direction is skipped, as an unknown type is. Tests are modules of `routing::tests`, if no
//! other place is given; how each is read and written is tested by `service::tests::vectors` and `properties`.
//!
//! | | message | | handled by | tested by |
//! |--:|---|---|---|---|
//! | 1 | `HandshakeRequest` | in | `service_messages`: the first message, and only that | `bad_input`, `handshake` |
//! | 2 | `HandshakeResponse` | out | `service_messages`: accepts, or refuses with a text | `bad_input`, `handshake` |
//! | 3 | `Ping` | both | `service_messages`, `supervision`, `round_trip`, `rebalance`: see [pings](ping) | `closing`, `supervision`, `bad_input`, `service::tests::ping` |
//! | 4 | `OpenConnection` | out | `connections`: behind a client's hub handshake request; `migration` | `handshake`, `migration` |
//! | 5 | `CloseConnection` | both | `service_messages`, `connections`: for any client of the hub; `migration` | `closing`, `forwarding`, `migration` |
//! | 6 | `ConnectionData` | both | `connections`: relayed as it is | `relay`, `handshake` |
//! | 7 | `MultiConnectionData` | in | `fan_out` | `fan_out`, `forwarding`, data plane's `order_under_load` |
//! | 8 | `UserData` | in | `fan_out` | `fan_out`, data plane's `order_under_load` |
//! | 9 | `MultiUserData` | in | `fan_out` | `fan_out`, data plane's `order_under_load` |
//! | 10 | `BroadcastData` | in | `fan_out` | `fan_out`, data plane's `order_under_load` |
//! | 11 | `JoinGroup` | in | `groups` | `groups`, `bad_input` |
//! | 12 | `LeaveGroup` | in | `groups`; without a group, all of them | `groups`, `bad_input` |
//! | 13 | `GroupBroadcastData` | in | `fan_out`: without the excluded connections and users | `fan_out`, data plane's `order_under_load` |
//! | 14 | `MultiGroupBroadcastData` | in | `fan_out` | `fan_out`, data plane's `order_under_load` |
//! | 15 | `ServiceError` | out | `supervision`: before a server connection is closed for a cause | `supervision`, data plane's `faults`, `server_ends` |
//! | 16 | `UserJoinGroup` | in | `user_groups` | `user_groups` |
//! | 17 | `UserLeaveGroup` | in | `user_groups` | `user_groups` |
//! | 18 | `JoinGroupWithAck` | in | `groups` | `groups`, data plane's `order`, `races` |
//! | 19 | `LeaveGroupWithAck` | in | `groups` | `groups`, data plane's `order`, `races` |
//! | 20 | `Ack` | out | `router`: on the server connection that asked, or another of its app server | `groups`, `bad_input` |
//! | 21 | `CheckUserInGroupWithAck` | in | `requests` | `user_groups` |
//! | 22 | `ServiceEvent` | out | `router`: when the service stops, for the app's log | `closing` |
//! | 23 | `CheckGroupExistenceWithAck` | in | `requests`, `surveys` | `existence` |
//! | 24 | `CheckConnectionExistenceWithAck` | in | `requests` | `existence` |
//! | 25 | `CheckUserExistenceWithAck` | in | `requests`, `surveys` | `existence` |
//! | 26 | `UserJoinGroupWithAck` | in | `user_groups`, `surveys` | `user_groups` |
//! | 27 | `UserLeaveGroupWithAck` | in | `user_groups`, `surveys` | `user_groups` |
//! | 28 | `AccessKeyRequest` | in | `requests`: refused in words, Microsoft Entra is not supported | `refusals` |
//! | 29 | `AccessKeyResponse` | out | `requests`: the refusal | `refusals` |
//! | 30 | `CloseConnectionWithAck` | in | `requests` | `closes` |
//! | 31 | `CloseConnectionsWithAck` | in | `requests`, `surveys` | `closes` |
//! | 32 | `CloseUserConnectionsWithAck` | in | `requests`, `surveys` | `closes` |
//! | 33 | `CloseGroupConnectionsWithAck` | in | `requests`, `surveys` | `closes` |
//! | 34 | `ClientInvocation` | both | `invocations` | `invocations`, `bad_input` |
//! | 35 | `ClientCompletion` | both | `invocations` | `invocations`, `bad_input` |
//! | 36 | `ErrorCompletion` | both | `invocations` | `invocations`, `bad_input` |
//! | 37 | `ServiceMapping` | out | `invocations` | `invocations` |
//! | 38 | `ConnectionReconnect` | out | never sent: no part of a message is ever held back | `bad_input` |
//! | 39 | `ConnectionFlowControl` | both | `requests`: skipped, for the service never pauses an app server | `refusals` |
//! | 40 | `GroupMemberQuery` | in | `requests`, `surveys`: pages, in the order of the ids | `group_members` |
//! | 41 | `RefreshAuth` | in | `requests`: refused, claims do not change | `refusals` |
//! | 42 | `GetConnectionClaims` | in | `requests`: refused, claims are not kept | `refusals` |
//! | 43 | `UpdateConnectionClaims` | out | never sent, see 41 | `bad_input` |

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
mod group_members;
mod handshake;
mod invocation;
mod migration;
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
pub use group_members::GroupMemberPage;
pub use handshake::{AccessKeyRequest, AccessKeyResponse, HandshakeRequest, HandshakeResponse};
pub use invocation::{ClientCompletion, ClientInvocation, ErrorCompletion, ServiceMapping};
pub use migration::{MIGRATE_FROM, MIGRATE_TO, write_migration_in, write_migration_out};
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

//! All messages there are, each with its number.

use std::fmt;

use super::decode::{DecodeError, Fields};
use super::reader::Payload;
use super::writer::MessagePackWriter;
use super::{
    AccessKeyRequest, AccessKeyResponse, Ack, BroadcastData, CheckConnectionExistenceWithAck,
    CheckGroupExistenceWithAck, CheckUserExistenceWithAck, CheckUserInGroupWithAck,
    ClientCompletion, ClientInvocation, CloseConnection, CloseConnectionWithAck,
    CloseConnectionsWithAck, CloseGroupConnectionsWithAck, CloseUserConnectionsWithAck,
    ConnectionData, ConnectionFlowControl, ConnectionReconnect, ErrorCompletion,
    GetConnectionClaims, GroupBroadcastData, GroupMemberQuery, HandshakeRequest, HandshakeResponse,
    JoinGroup, JoinGroupWithAck, LeaveGroup, LeaveGroupWithAck, MultiConnectionData,
    MultiGroupBroadcastData, MultiUserData, OpenConnection, Ping, RefreshAuth, ServiceError,
    ServiceEvent, ServiceMapping, UpdateConnectionClaims, UserData, UserJoinGroup,
    UserJoinGroupWithAck, UserLeaveGroup, UserLeaveGroupWithAck,
};

/// Declares the messages and what must be said once for each: its number, and how to read and to write it.
macro_rules! catalogue {
    ($($number:literal $name:ident<$($parameter:tt),+>)+) => {
        /// Which message.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum MessageType {
            $(#[doc = concat!("Number ", $number, ", a [`", stringify!($name), "`](super::", stringify!($name), ").")]
            $name = $number,)+
        }

        impl MessageType {
            /// Every type, in the order of the numbers.
            pub const ALL: &[Self] = &[$(Self::$name),+];

            /// The type with this number, if there is one.
            pub fn from_number(number: i32) -> Option<Self> {
                match number {
                    $($number => Some(Self::$name),)+
                    _ => None,
                }
            }
        }

        /// One message. `P` is a payload: where it lies in the frame, or the bytes themselves.
        #[derive(Clone, Debug, PartialEq, Eq)]
        pub enum Message<'a, P> {
            $(#[doc = concat!("Type ", $number, ".")]
            $name($name<$($parameter),+>),)+
            /// A type that is not known. Whoever receives it passes over it.
            Unknown(i32),
        }

        impl<P> Message<'_, P> {
            /// Which message it is, if it is a known one.
            pub fn message_type(&self) -> Option<MessageType> {
                match self {
                    $(Self::$name(_) => Some(MessageType::$name),)+
                    Self::Unknown(_) => None,
                }
            }
        }

        impl<'a, P: Payload<'a>> Message<'a, P> {
            /// Reads the elements behind the type.
            pub(super) fn read(message_type: MessageType, fields: &mut Fields<'_, 'a>) -> Result<Self, DecodeError> {
                match message_type {
                    $(MessageType::$name => $name::read(fields).map(Self::$name),)+
                }
            }
        }

        impl<P: AsRef<[u8]>> Message<'_, P> {
            /// Writes the whole array.
            pub(super) fn write(&self, out: &mut Vec<u8>) {
                match self {
                    $(Self::$name(message) => message.write(out),)+
                    Self::Unknown(number) => {
                        out.array(1);
                        out.int(*number);
                    }
                }
            }
        }

        $(impl<'a, P> From<$name<$($parameter),+>> for Message<'a, P> {
            fn from(message: $name<$($parameter),+>) -> Self {
                Self::$name(message)
            }
        })+
    };
}

catalogue! {
    1 HandshakeRequest<'a>
    2 HandshakeResponse<'a>
    3 Ping<'a>
    4 OpenConnection<'a>
    5 CloseConnection<'a>
    6 ConnectionData<'a, P>
    7 MultiConnectionData<'a, P>
    8 UserData<'a, P>
    9 MultiUserData<'a, P>
    10 BroadcastData<'a, P>
    11 JoinGroup<'a>
    12 LeaveGroup<'a>
    13 GroupBroadcastData<'a, P>
    14 MultiGroupBroadcastData<'a, P>
    15 ServiceError<'a>
    16 UserJoinGroup<'a>
    17 UserLeaveGroup<'a>
    18 JoinGroupWithAck<'a>
    19 LeaveGroupWithAck<'a>
    20 Ack<'a, P>
    21 CheckUserInGroupWithAck<'a>
    22 ServiceEvent<'a>
    23 CheckGroupExistenceWithAck<'a>
    24 CheckConnectionExistenceWithAck<'a>
    25 CheckUserExistenceWithAck<'a>
    26 UserJoinGroupWithAck<'a>
    27 UserLeaveGroupWithAck<'a>
    28 AccessKeyRequest<'a>
    29 AccessKeyResponse<'a>
    30 CloseConnectionWithAck<'a>
    31 CloseConnectionsWithAck<'a>
    32 CloseUserConnectionsWithAck<'a>
    33 CloseGroupConnectionsWithAck<'a>
    34 ClientInvocation<'a, P>
    35 ClientCompletion<'a, P>
    36 ErrorCompletion<'a>
    37 ServiceMapping<'a>
    38 ConnectionReconnect<'a>
    39 ConnectionFlowControl<'a>
    40 GroupMemberQuery<'a>
    41 RefreshAuth<'a>
    42 GetConnectionClaims<'a>
    43 UpdateConnectionClaims<'a>
}

impl MessageType {
    /// The number on the wire.
    pub fn number(self) -> i32 {
        self as i32
    }
}

impl fmt::Display for MessageType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}

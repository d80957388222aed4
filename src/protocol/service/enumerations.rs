//! Numbers on the wire that have names.

use super::Fault;
use super::reader::Reader;

/// Declares an enumeration that may grow: a number without a name is kept, and written back as it came.
macro_rules! open_enumeration {
    ($(#[$meta:meta])* $name:ident { $($(#[$variant_meta:meta])* $variant:ident = $number:literal,)+ }) => {
        $(#[$meta])*
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
        pub enum $name {
            $($(#[$variant_meta])* $variant,)+
            /// A number that has no name here.
            Unrecognized(i32),
        }

        impl $name {
            /// The number on the wire.
            pub fn number(self) -> i32 {
                match self {
                    $(Self::$variant => $number,)+
                    Self::Unrecognized(number) => number,
                }
            }

            pub(super) fn read(reader: &mut Reader<'_, '_>) -> Result<Self, Fault> {
                reader.int32().map(Self::from)
            }
        }

        impl From<i32> for $name {
            fn from(number: i32) -> Self {
                match number {
                    $($number => Self::$variant,)+
                    _ => Self::Unrecognized(number),
                }
            }
        }
    };
}

open_enumeration! {
    /// What a server connection is for.
    ServerConnectionType {
        /// Takes clients and sends.
        #[default]
        Default = 0,
        /// As the default, but opened because the service asked for it.
        OnDemand = 1,
        /// Takes no clients; only sends.
        Weak = 2,
    }
}

open_enumeration! {
    /// When the clients of a server connection may move to another app server.
    MigrationLevel {
        /// Never.
        #[default]
        Off = 0,
        /// When the app server shuts down gracefully.
        ShutdownOnly = 1,
        /// Whenever their connection is lost.
        Any = 2,
    }
}

open_enumeration! {
    /// How a request went.
    AckStatus {
        /// Done; for a question, yes.
        #[default]
        Ok = 1,
        /// What it named is not there; for a question, no.
        NotFound = 2,
        /// It took too long.
        Timeout = 3,
        /// The service failed.
        InternalServerError = 4,
        /// Not allowed.
        Forbidden = 5,
    }
}

open_enumeration! {
    /// What a [`super::ServiceEvent`] is about.
    ServiceEventObject {
        /// A service process.
        #[default]
        ServiceInstance = 0,
        /// A client connection.
        Connection = 1,
        /// A user.
        User = 2,
        /// A group.
        Group = 3,
        /// A server connection.
        ServerConnection = 4,
    }
}

open_enumeration! {
    /// What happened to the object of a [`super::ServiceEvent`].
    ServiceEventKind {
        /// It restarts; connections to it will close.
        #[default]
        Reloading = 0,
        /// It is not valid.
        Invalid = 1,
        /// It does not exist.
        NotExisted = 2,
        /// Its buffer is full.
        BufferFull = 3,
    }
}

open_enumeration! {
    /// What the payload of a [`super::ConnectionData`] is, where the sender says so.
    DataMessageType {
        /// The sender does not say.
        #[default]
        Unknown = 0,
        /// The answer to the hub handshake.
        Handshake = 1,
        /// An invocation, a stream item, a completion or a cancellation.
        Invocation = 2,
        /// A ping, an ack or a sequence.
        Other = 3,
        /// The hub's goodbye.
        Close = 4,
    }
}

/// Whose flow a [`super::ConnectionFlowControl`] governs. Any other number is a fault: guessing could stop the wrong side.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum FlowControlTarget {
    /// One client's.
    Client = 1,
    /// That of a whole server connection.
    Server = 2,
}

impl FlowControlTarget {
    pub(super) fn read(reader: &mut Reader<'_, '_>) -> Result<Self, Fault> {
        match reader.int32()? {
            1 => Ok(Self::Client),
            2 => Ok(Self::Server),
            value => Err(Fault::UnknownValue { value }),
        }
    }
}

/// What shall happen to that flow. Any other number is a fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum FlowControlOperation {
    /// Stop it.
    Pause = 1,
    /// It has stopped.
    PauseAck = 2,
    /// Let it go on.
    Resume = 3,
    /// End it.
    Offline = 4,
}

impl FlowControlOperation {
    pub(super) fn read(reader: &mut Reader<'_, '_>) -> Result<Self, Fault> {
        match reader.int32()? {
            1 => Ok(Self::Pause),
            2 => Ok(Self::PauseAck),
            3 => Ok(Self::Resume),
            4 => Ok(Self::Offline),
            value => Err(Fault::UnknownValue { value }),
        }
    }
}

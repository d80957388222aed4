//! Every bound of the service, in one place, with what happens when it is reached.
//!
//! A bound that operators may want to move is a field of `ServiceConfig`, whose default stands here. The rest are constants: they
//! are either part of a protocol or have no better value for anybody.

use std::time::Duration;

// --- Start ---

/// Time that an address may be in use when the service starts. Longer: it ends with an error.
pub const ADDRESS_IN_USE_MAX: Duration = Duration::from_secs(5);
/// Time between tries to get such an address.
pub const ADDRESS_RETRY_DELAY: Duration = Duration::from_millis(20);

// --- Admission: before a connection belongs to a hub ---

/// Time in which a request head has to be complete. Later: the connection is closed without an answer.
pub const REQUEST_HEAD_TIMEOUT: Duration = Duration::from_secs(10);
/// Bytes that may follow a request head before its answer. More: 400.
pub const EARLY_BYTES_MAX: usize = 16 * 1024;
/// Connections of one shard that are being admitted at a time. More: the shard stops accepting until one is done.
pub const ADMISSIONS_MAX: usize = 4096;
/// Hubs of one service. More: 503.
pub const HUBS_MAX: usize = 4096;
/// Server connections of one service. More: 503, after which the SDK backs off.
pub const SERVER_CONNECTIONS_MAX: usize = 16_384;
/// Negotiated connections that have not been used yet. More: negotiate answers 503.
pub const PENDING_CONNECTIONS_MAX: usize = 200_000;
/// Time between negotiate and the connection. Later: 404.
pub const PENDING_CONNECTION_LIFETIME: Duration = Duration::from_secs(5);
/// Descriptors that are kept for other things than connections of clients and app servers.
pub const DESCRIPTORS_RESERVED: usize = 256;

// --- Client connections ---

/// Bytes of one WebSocket message from a client. More: close 1009. Azure has no limit here; this one keeps lengths in 32 bits.
pub const CLIENT_MESSAGE_BYTES_MAX: u64 = 64 * 1024 * 1024;
/// Frames of one WebSocket message. More: close 1009. Only endless empty fragments come near.
pub const FRAMES_PER_MESSAGE_MAX: u32 = 64 * 1024;
/// Bytes of a hub handshake request. More: the handshake is answered with an error.
pub const HUB_HANDSHAKE_BYTES_MAX: usize = 4 * 1024;
/// Time in which the hub handshake request has to be complete, unless the token says otherwise. Later: an error, then close 1000.
pub const HUB_HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(15);
/// Bytes waiting for a client behind those that are being sent. More, when the next message comes: the client is closed as a slow
/// consumer. A single message may be longer, for a client that has taken what came before. At as many bytes pings are not answered.
pub const CLIENT_OUTBOX_BYTES_MAX: usize = 1024 * 1024;
/// Bytes held for a client until its handshake response has passed. More, when the next message comes: the client is closed as a slow
/// consumer.
pub const CLIENT_HELD_BYTES_MAX: usize = CLIENT_OUTBOX_BYTES_MAX;
/// Time in which a client has to take some of what is sent to it. A client that takes nothing for longer is reset.
pub const CLIENT_STALL_MAX: Duration = Duration::from_secs(30);
/// Groups of one connection. More: the join is answered with an error.
pub const GROUPS_PER_CONNECTION_MAX: usize = 10_000;
/// Bytes of a group name or user id. More: the message is skipped.
pub const NAME_BYTES_MAX: usize = 1024;
/// Time between our close frame and the peer's. Later: the connection is reset.
pub const CLOSE_TIMEOUT: Duration = Duration::from_secs(5);

// --- Server connections ---

/// Bytes of one service message. More: `ServiceError`, then close. A 2 MB broadcast in two protocols is a 4 MB message.
pub const SERVICE_MESSAGE_BYTES_MAX: usize = 64 * 1024 * 1024;
/// Bytes of one WebSocket message from an app server, which may hold many service messages. More: close 1009.
pub const SERVER_WEBSOCKET_MESSAGE_BYTES_MAX: u64 = 1 << 40;
/// Service messages longer than this are put together in memory of their own instead of holding receive buffers back.
pub const ASSEMBLE_IN_PLACE_BYTES_MAX: usize = 64 * 1024;
/// Time in which the service handshake has to be complete. Later: close.
pub const SERVICE_HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(15);
/// Time between keep-alive pings to an app server.
pub const SERVER_PING_INTERVAL: Duration = Duration::from_secs(5);
/// Silence after which an app server counts as dead. Its clients are closed.
pub const SERVER_SILENCE_MAX: Duration = Duration::from_secs(30);
/// Bytes waiting for an app server at which the clients bound to it are no longer read.
pub const SERVER_OUTBOX_BYTES_HIGH: usize = 4 * 1024 * 1024;
/// Bytes waiting for an app server at which its clients are read again.
pub const SERVER_OUTBOX_BYTES_LOW: usize = 1024 * 1024;
/// Bytes waiting for an app server that end its connection: it takes many paused clients' last buffers to get there.
pub const SERVER_OUTBOX_BYTES_MAX: usize = 256 * 1024 * 1024;
/// Client invocations that a hub may have waiting on one shard. More: answered with an error.
pub const INVOCATIONS_PER_HUB_MAX: usize = 100_000;
/// Time after which a client invocation is answered with an error.
pub const INVOCATION_TIMEOUT: Duration = Duration::from_mins(10);

// --- Shards ---

/// Mails that wait for a shard. More: the server connection that sends the next one is no longer read until there is room.
pub const MAILBOX_DEPTH: usize = 16 * 1024;
/// Mails taken in one turn.
pub const MAILS_PER_TURN: usize = 1024;
/// Turns in a row before other tasks of the shard get their time.
pub const TURNS_IN_A_ROW: u32 = 16;
/// Time that turns in a row may take before the same. One turn may hold thousands of tiny messages.
pub const TIME_IN_A_ROW: Duration = Duration::from_millis(2);
/// Size of one receive buffer.
pub const RECEIVE_BUFFER_BYTES: usize = 8 * 1024;
/// Receive buffers that are lent to the kernel. A power of two.
pub const RECEIVE_BUFFERS_LENT: u16 = 256;
/// Receive buffers that may exist on one shard. At the limit, what waits in outboxes is copied out of them.
pub const RECEIVE_BUFFERS_MAX: usize = 8192;
/// Payloads up to this size are copied beside the frame header in front of them: a slice of their own would cost the kernel more.
pub const JOINT_COPY_BYTES_MAX: usize = 256;
/// Time between looks at deadlines.
pub const TICK: Duration = Duration::from_millis(500);
/// Time that connections get to close when the service stops.
pub const DRAIN_TIMEOUT: Duration = Duration::from_secs(5);

const _: () = assert!(
    RECEIVE_BUFFERS_LENT.is_power_of_two(),
    "the kernel indexes the buffer ring with a mask"
);
const _: () = assert!(
    RECEIVE_BUFFERS_LENT as usize <= RECEIVE_BUFFERS_MAX,
    "what is lent has to exist"
);
const _: () = assert!(
    SERVER_OUTBOX_BYTES_LOW < SERVER_OUTBOX_BYTES_HIGH
        && SERVER_OUTBOX_BYTES_HIGH < SERVER_OUTBOX_BYTES_MAX
);
const _: () = assert!(
    SERVER_PING_INTERVAL.as_secs() * 6 <= SERVER_SILENCE_MAX.as_secs(),
    "an app server answers pings, it sends none by itself"
);
const _: () = assert!(ASSEMBLE_IN_PLACE_BYTES_MAX >= 4 * RECEIVE_BUFFER_BYTES);

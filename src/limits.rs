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
/// Bytes that may follow a request head before its answer. More: 400; on the control plane they are not read before the answer has gone.
pub const EARLY_BYTES_MAX: usize = 16 * 1024;
/// Connections of one shard that are being admitted at a time. More: those whose heads have been waited for longest are closed without an
/// answer, and the shard accepts no more until one is done.
pub const ADMISSIONS_MAX: usize = 4096;
/// Connections that are closed for that at a time.
pub const HEADS_GIVEN_UP_AT_A_TIME: usize = 64;
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

// --- Plain HTTP, served by the control plane ---

/// Connections that wait for the control plane. More: 503.
pub const HANDED_OVER_DEPTH: usize = 4096;
/// Connections that wait to be taken back by a shard. More: 503.
pub const HANDED_BACK_DEPTH: usize = 1024;
/// Time between two requests on one connection. Longer: it is closed. Proxies keep connections for less (nginx for 60 s), so that they do
/// not send a request into one that is being closed.
pub const KEEP_ALIVE_MAX: Duration = Duration::from_secs(75);
/// Time in which a request's body has to come. Later: the request fails, and its connection ends.
pub const REQUEST_BODY_TIMEOUT: Duration = Duration::from_secs(30);

// --- Client connections ---

/// Bytes of one WebSocket message from a client. More: close 1009. Azure has no limit here; this one keeps lengths in 32 bits.
pub const CLIENT_MESSAGE_BYTES_MAX: u64 = 64 * 1024 * 1024;
/// Frames of one WebSocket message. More: close 1009. The longest message may come in frames of 64 bytes; only endless empty fragments
/// come near.
pub const FRAMES_PER_MESSAGE_MAX: u32 = 2 * 1024 * 1024;
/// Bytes of a hub handshake request. More: the handshake is answered with an error.
pub const HUB_HANDSHAKE_BYTES_MAX: usize = 4 * 1024;
/// Time in which the hub handshake request has to be complete, unless the token says otherwise. Later: an error, then close 1000.
pub const HUB_HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(15);
/// Bytes waiting for a client behind those that are being sent. More, when the next message comes: the client is closed as a slow
/// consumer. A single message may be longer, for a client that has taken what came before. At as many bytes pings are not answered.
pub const CLIENT_OUTBOX_BYTES_MAX: usize = 1024 * 1024;
/// Bytes waiting in the outlet of a client without a socket. More, when the next message comes: the client is closed as a slow consumer.
/// A socket's buffers in the kernel hold several MiB beside the outbox; here there are none between two polls.
/// As much again is in memory while a poll is being answered, with all that waited.
pub const OUTLET_BYTES_MAX: usize = 4 * 1024 * 1024;
/// What each message that waits in an outlet counts for beside its own bytes: there may be very many tiny ones.
pub const OUTLET_MESSAGE_OVERHEAD_BYTES: usize = 64;
/// Clients on Server-Sent Events or long polling of one shard. More: 503. Between two polls they have no socket, so descriptors do not
/// bound them.
pub const HTTP_CLIENTS_MAX: usize = 50_000;
/// Bytes held for a client until its handshake response has passed. More, when the next message comes: the client is closed as a slow
/// consumer.
pub const CLIENT_HELD_BYTES_MAX: usize = CLIENT_OUTBOX_BYTES_MAX;
/// Time in which a client has to take some of what is sent to it. A client that takes nothing for longer is reset.
pub const CLIENT_STALL_MAX: Duration = Duration::from_secs(30);
/// Groups of one connection. More: the join is answered with an error.
pub const GROUPS_PER_CONNECTION_MAX: usize = 10_000;
/// Bytes of a group name, a user id or an invocation's id. More: a join or an invocation is answered with an error and not carried
/// out, a client with such a user is refused with 400.
pub const NAME_BYTES_MAX: usize = 1024;
/// Time that a client of stateful reconnect may be without a socket. Later: it has left. As with the hosted service; 15 s with ASP.NET
/// Core.
pub const STATEFUL_AWAY_MAX: Duration = Duration::from_secs(30);
/// Clients of one shard that may be without a socket at a time. More: the loss of its socket is the end of the next one. They count
/// for no descriptor, so nothing else would bound them.
pub const STATEFUL_AWAY_CLIENTS_MAX: usize = 50_000;
/// Bytes kept for such a client until it has acknowledged them. More, when the next message comes: the oldest are given up, and unless
/// the client acknowledges them yet, the next loss of its socket is its end. If it has none, that is now: it is closed as a slow
/// consumer. ASP.NET Core keeps 100,000 and makes its writers wait; here nobody can be made to.
pub const STATEFUL_KEPT_BYTES_MAX: usize = 256 * 1024;
/// What each message kept counts for beside its own bytes.
pub const STATEFUL_KEPT_MESSAGE_OVERHEAD_BYTES: usize = 64;
/// Bytes of one hub message from such a client, which is passed on only as a whole. More: the client is closed with an error.
pub const STATEFUL_MESSAGE_BYTES_MAX: usize = 16 * 1024 * 1024;
/// Time between a message of such a client and the acknowledgement. As with ASP.NET Core.
pub const STATEFUL_ACK_DELAY: Duration = Duration::from_secs(1);
/// Bytes of such a client that are acknowledged at once: at twice as many Microsoft's clients stop sending.
pub const STATEFUL_ACK_BYTES: usize = 50_000;
/// Memberships of users that the service remembers for connections to come, marks of ended ones included. More: a join that is to be
/// remembered is answered with an error, and what ends is not marked. One takes up to 600 bytes and its names, on each shard.
pub const STANDING_MEMBERSHIPS_MAX: usize = 1_000_000;
/// Memberships of one user that stand without a time to live. More: the one that has been unchanged for longest stands no more.
pub const UNTIMED_MEMBERSHIPS_PER_USER_MAX: usize = 100;
/// Time after which a membership of a user that has no time to live stands no more.
pub const STANDING_MEMBERSHIP_LIFETIME: Duration = Duration::from_hours(365 * 24);
/// Time for which it is remembered that a membership has ended. A change that another shard sent earlier and that arrives later
/// could bring it back.
pub const STANDING_MARK_LIFETIME: Duration = Duration::from_mins(1);
/// Ended memberships that a shard forgets in one tick. More: they wait for the next.
pub const STANDING_MEMBERSHIPS_FORGOTTEN_PER_TICK: usize = 10_000;
/// Clients of one shard that are closed in one tick because their authentication has expired. More: in the next one.
pub const EXPIRIES_PER_TICK: usize = 10_000;
/// Bytes of a hub message that are kept until its end has come, for app servers that send pieces. More: the client gets the pieces, or is
/// closed if it has no WebSocket to get them on.
pub const PIECES_BYTES_MAX: usize = 16 * 1024 * 1024;
/// Bytes of one request by which a client without a WebSocket sends. More: 413, and the client is closed. As with the hosted service.
pub const POST_BYTES_MAX: usize = 1024 * 1024;
/// Time that a poll waits for something to say. Then: an empty answer, and the client polls again. Clients themselves give up after 100 s.
pub const POLL_TIMEOUT: Duration = Duration::from_secs(90);
/// Time that a client on long polling may be without a poll, unless its token says otherwise. Later: it has left. As with ASP.NET Core.
pub const POLL_INTERVAL_MAX: Duration = Duration::from_secs(15);
/// Time between looks at clients without a poll.
pub const POLL_INTERVAL_CHECK: Duration = Duration::from_secs(1);
/// Bytes taken from an outlet at a time for an event stream. What has been taken is in memory beside what waits.
pub const EVENTS_TAKEN_BYTES: usize = 64 * 1024;
/// Bytes of a poll's answer that are given to the connection at a time. For as long as there are some left, the poll counts as open.
pub const POLL_PART_BYTES: usize = 16 * 1024;
/// Time between our close frame and the peer's. Later: the connection is reset.
pub const CLOSE_TIMEOUT: Duration = Duration::from_secs(5);

// --- Server connections ---

/// Bytes of one service message. More: `ServiceError`, then close. A 2 MB broadcast in two protocols is a 4 MB message.
pub const SERVICE_MESSAGE_BYTES_MAX: usize = 64 * 1024 * 1024;
/// Elements of the lists and maps of one service message: connections, users, groups, the strings of a ping. More: the message is
/// skipped as malformed. An empty string is one byte on the wire and 24 in memory, so the bound on bytes alone would not do.
pub const SERVICE_MESSAGE_ELEMENTS_MAX: u32 = 1 << 20;
/// Bytes of one WebSocket message from an app server, which may hold many service messages. More: close 1009.
pub const SERVER_WEBSOCKET_MESSAGE_BYTES_MAX: u64 = 1 << 40;
/// Service messages longer than this are put together in memory of their own instead of holding receive buffers back.
pub const ASSEMBLE_IN_PLACE_BYTES_MAX: usize = 64 * 1024;
/// Time in which the service handshake has to be complete. Later: it is answered with an error, then close.
pub const SERVICE_HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(15);
/// Time between pings that measure the round trip to an app server.
pub const ECHO_INTERVAL: Duration = Duration::from_secs(10);
/// Time between two answers to the same question of a server connection. Asked again sooner, it gets none; the SDK asks every 5 s.
pub const QUERY_INTERVAL: Duration = Duration::from_millis(500);
/// Time between keep-alive pings to an app server.
pub const SERVER_PING_INTERVAL: Duration = Duration::from_secs(5);
/// Silence after which an app server counts as dead: `ServiceError`, then close. Its clients are closed at once.
pub const SERVER_SILENCE_MAX: Duration = Duration::from_secs(30);
/// Bytes waiting for an app server at which the clients bound to it are no longer read.
pub const SERVER_OUTBOX_BYTES_HIGH: usize = 4 * 1024 * 1024;
/// Bytes waiting for an app server at which its clients are read again.
pub const SERVER_OUTBOX_BYTES_LOW: usize = 1024 * 1024;
/// Bytes waiting for an app server that end its connection: it takes many paused clients' last buffers to get there. What waits is
/// dropped, and a `ServiceError` goes in its place.
pub const SERVER_OUTBOX_BYTES_MAX: usize = 256 * 1024 * 1024;
/// Time for which no server connection of a hub may have come before more are asked for. The SDK opens its first ones within
/// milliseconds, and those that it has lost within 60 ms.
pub const REBALANCE_SETTLE: Duration = Duration::from_millis(1500);
/// Time in which a server connection that was asked for is waited for. Later: it is asked for again, and waited for twice as long.
pub const REBALANCE_WAIT_MIN: Duration = Duration::from_secs(5);
/// The longest that is waited for one.
pub const REBALANCE_WAIT_MAX: Duration = Duration::from_mins(5);
/// Time that a client of an app server that shuts down is waited for, until nothing is open between the two. Later, its new calls wait
/// until it has moved: a client that always has a call open would else never move.
pub const MIGRATION_PATIENCE: Duration = Duration::from_secs(5);
/// Time after which such a client moves whatever is open; its open calls fail. The SDK gives an app server 30 s to shut down, counted
/// from before it says so, and hooks of the app may take some of that.
pub const MIGRATION_DEADLINE: Duration = Duration::from_secs(20);
/// Clients that are moved in one turn. More: in the next turns.
pub const MIGRATIONS_PER_TURN: usize = 64;
/// Calls and streams of a followed client that are known to be open. More: it counts as busy until it moves at the deadline, and those
/// that are not known get no answer then.
pub const FOLLOWED_CALLS_MAX: usize = 1024;
/// Streams of one call that are told of when it is passed on. More: the rest is left out, for so many are too many to be followed.
pub const STREAM_IDS_READ_MAX: usize = FOLLOWED_CALLS_MAX + 1;
/// Bytes of a followed client's message that are kept until its end has come. More: the same, for the message is not read; and the
/// client cannot be parked in the midst of it.
pub const FOLLOWED_RECORD_BYTES_MAX: usize = 1024 * 1024;
/// Bytes of a followed client that wait for its next app server. More: it is not read until it has one.
pub const FOLLOWED_HELD_BYTES_MAX: usize = 64 * 1024;
/// Time that clients are parked whose app server lets them move at any time, unless the operator wants another. Later: closed.
pub const PARKING_DEFAULT: Duration = Duration::from_secs(10);
/// Time before a parked client goes to a server connection that was there already. A process that dies loses all its connections, but
/// they are not all seen to be lost at the same moment.
pub const PARKING_PAUSE: Duration = Duration::from_millis(100);
/// Time that an operator may have clients parked. A client gives up by itself after 30 s in which it has heard nothing.
pub const PARKING_MAX: Duration = Duration::from_secs(25);
/// Client invocations that a hub may have waiting on one shard. More: answered with an error.
pub const INVOCATIONS_PER_HUB_MAX: usize = 100_000;
/// Time after which a client invocation is answered with an error.
pub const INVOCATION_TIMEOUT: Duration = Duration::from_mins(10);

/// Bytes of the reason that closed clients are told. More: the rest is cut off, for each of them gets a copy.
pub const CLOSE_REASON_BYTES_MAX: usize = 4 * 1024;
/// Requests to one shard that wait for the word of the others. More: answered with an error, and nothing is done.
pub const SURVEYS_MAX: usize = 10_000;
/// Time after which such a request is answered with a time-out. The SDK gives up by itself after ten seconds.
pub const SURVEY_TIMEOUT: Duration = Duration::from_secs(8);
/// Members on one page of a group's members, if the app server does not say how many.
pub const MEMBERS_PER_PAGE: usize = 200;
/// Members on one page at most. If the app server wants more, it gets so many.
pub const MEMBERS_PER_PAGE_MAX: usize = 1000;

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
/// Outboxes that a shard keeps for later use; others are given back.
pub const SPARE_OUTBOXES_MAX: usize = 4096;
/// Segments for which a spare outbox keeps room, and bytes of its joint buffer: it gives back what goes beyond.
pub const OUTBOX_SEGMENTS_KEPT: usize = 512;
/// See [`OUTBOX_SEGMENTS_KEPT`].
pub const OUTBOX_JOINT_BYTES_KEPT: usize = 16 * 1024;
/// Slices that one `sendmsg` takes (`IOV_MAX`). What goes beyond is sent when they have gone.
pub const SEND_SLICES_MAX: usize = 1024;
/// Lists of slices that a shard keeps for later sends: 4 MiB, if all of them have once been as long as they may. Only as many are in use
/// as gathered sends are in flight at one time.
pub const SPARE_SLICE_LISTS_MAX: usize = 256;
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
const _: () = assert!(
    MIGRATION_PATIENCE.as_secs() < MIGRATION_DEADLINE.as_secs()
        && MIGRATION_DEADLINE.as_secs() < 30,
    "the SDK closes what has not moved by then"
);
const _: () = assert!(ASSEMBLE_IN_PLACE_BYTES_MAX >= 4 * RECEIVE_BUFFER_BYTES);
const _: () = assert!(MEMBERS_PER_PAGE <= MEMBERS_PER_PAGE_MAX);
const _: () = assert!(
    STANDING_MARK_LIFETIME.as_secs() > SURVEY_TIMEOUT.as_secs(),
    "whoever has an answer must be able to rely on it"
);

//! What shards and the control plane count. A shard's counters are written by its own thread and read by anybody.

use std::sync::atomic::{AtomicU64, Ordering};

/// A number that only one thread changes.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    /// Adds `n`.
    pub fn add(&self, n: u64) {
        // A load and a store instead of a locked addition: nobody else writes.
        self.0.store(
            self.0.load(Ordering::Relaxed).wrapping_add(n),
            Ordering::Relaxed,
        );
    }

    /// Adds one.
    pub fn increment(&self) {
        self.add(1);
    }

    /// Replaces the value, for quantities that go up and down.
    pub fn set(&self, value: u64) {
        self.0.store(value, Ordering::Relaxed);
    }

    /// The value.
    pub fn value(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// A number that many threads change.
#[derive(Debug, Default)]
pub struct SharedCounter(AtomicU64);

impl SharedCounter {
    /// Adds one.
    pub fn increment(&self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }

    /// The value.
    pub fn value(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// Whether a counter only grows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CounterKind {
    /// It only grows.
    Total,
    /// It goes up and down.
    Gauge,
}

macro_rules! counters {
    ($(#[$attribute:meta])* $counters:ident of $counter:ident: $($kind:ident $name:ident: $help:literal,)*) => {
        $(#[$attribute])*
        #[derive(Debug, Default)]
        pub struct $counters {
            $(#[doc = $help] pub $name: $counter,)*
        }

        impl $counters {
            /// Each counter with its kind, name, help and value.
            pub fn each(&self) -> impl Iterator<Item = (CounterKind, &'static str, &'static str, u64)> {
                [$((CounterKind::$kind, stringify!($name), $help, self.$name.value()),)*].into_iter()
            }
        }
    };
}

counters! {
    /// The counters of the control plane.
    ControlCounters of SharedCounter:
    Total requests_refused: "Requests to negotiate and of clients without a WebSocket that were refused",
    Total negotiations: "Connection ids given out to clients",
    Total event_streams: "Streams of Server-Sent Events opened",
    Total polls: "Polls answered",
    Total posts: "Requests whose bytes were passed on for clients without a WebSocket",
    Total polls_missed: "Clients on long polling that left because they did not poll any more",
}

counters! {
    /// The counters of one shard.
    #[repr(align(128))]
    Counters of Counter:
    Gauge client_connections: "Client connections that the shard holds",
    Gauge http_clients: "Clients on Server-Sent Events or long polling that the shard holds",
    Gauge clients_away: "Clients without a socket that may resume on another one",
    Gauge kept_bytes: "Bytes kept for clients that may resume, until they have acknowledged them",
    Gauge server_connections: "Server connections that the shard holds",
    Gauge server_round_trip_us_max: "Longest round trip of a ping to an app server, smoothed, microseconds",
    Gauge admissions: "Connections that are being admitted",
    Gauge mailbox_depth: "Mails that waited at the last look",
    Gauge receive_buffers: "Receive buffers that exist",
    Gauge receive_buffers_lent: "Receive buffers that the kernel may fill",
    Gauge standing_memberships: "Memberships of users that are remembered, and marks of ended ones",
    Total accepted: "Connections accepted",
    Total refused: "Connections refused with an HTTP status",
    Total heads_given_up: "Connections closed before their request head was complete because too many others wanted in",
    Total handed_over: "Connections handed over to the control plane",
    Total handed_back: "Connections taken back from the control plane because they asked for an upgrade",
    Total clients_opened: "Client connections reported to an app server",
    Total clients_resumed: "Client connections that have gone on on another socket",
    Total clients_not_resumed: "Client connections that have ended because they did not come back in time",
    Total clients_not_awaited: "Client connections that have ended with their socket because too many had none",
    Total resumes_refused: "Sockets refused because the connection they wanted to resume has ended or is not theirs",
    Total clients_closed: "Client connections that have ended",
    Total clients_migrated: "Clients moved to another app server",
    Total clients_parked: "Clients kept when their server connection was lost",
    Total clients_reopened: "Parked clients that have got another server connection",
    Total calls_abandoned: "Open calls of clients answered with an error because their app server had gone",
    Total late_messages: "Messages of app servers dropped because their client had moved on",
    Total relayed_messages: "Messages relayed between a client and its app server, both directions",
    Total relayed_bytes: "Payload bytes relayed between a client and its app server, both directions",
    Total relays_crossed_shard: "Messages of a single client's relay that had to cross to another shard",
    Total fan_out_messages: "Messages that an app server sent to connections, users, groups or hubs",
    Total fan_out_deliveries: "Copies of such messages queued for clients of this shard",
    Total mails_posted: "Mails posted to other shards",
    Total mails_delayed: "Mails that found the other shard's mailbox full",
    Total service_messages: "Service messages received from app servers",
    Total service_messages_skipped: "Service messages of a type that is unknown or not supported",
    Total service_messages_malformed: "Service messages that could not be decoded",
    Total unknown_targets: "Messages for connections that are not here, as is normal after each client that leaves",
    Total joins_refused: "Joins refused because of a limit",
    Total invocations_refused: "Client invocations refused because of a limit",
    Total surveys: "Requests that were put to all shards",
    Total surveys_refused: "Requests refused because too many waited for the word of other shards",
    Total surveys_timed_out: "Requests given up because a shard did not speak in time",
    Total missing_payloads: "Deliveries left out because the message has no payload in the client's protocol",
    Total pieces_passed_on: "Pieces of hub messages that clients got because the whole was too long to be kept",
    Total pieces_given_up: "Clients on Server-Sent Events or long polling closed because such a whole was too long to be kept",
    Total copied_bytes_joint: "Payload bytes copied because they were tiny",
    Total copied_bytes_assembled: "Payload bytes copied because their message was long",
    Total copied_bytes_fan_out: "Payload bytes copied to make one frame for many clients",
    Total copied_bytes_outlet: "Payload bytes copied for clients on Server-Sent Events or long polling",
    Total copied_bytes_mail: "Payload bytes copied for another shard",
    Total copied_bytes_detached: "Payload bytes copied because receive buffers ran short",
    Total kept_given_up: "Frames not kept any longer for a client that may resume, because it acknowledged too little",
    Total slow_consumers: "Clients closed because too much waited for them",
    Total reads_paused: "Times that a client or an app server was not read because its receiver was full",
    Total protocol_errors: "Connections closed because their peer broke a rule",
    Total handshakes_failed: "Hub or service handshakes that failed or came late",
    Total silent_servers: "Server connections closed because nothing came for too long",
    Total servers_too_far_behind: "Server connections closed because too much waited for them",
    Total servers_asked_for: "Pings that asked an app server for a connection to a shard without one",
    Total servers_came_as_asked: "Server connections admitted to the shard that they were asked for",
    Total queries_skipped: "Status and servers queries left unanswered because they came too often",
    Total authentications_expired: "Clients closed because their authentication had expired",
    Total turns: "Turns of the data ring",
    Total wakes: "Times the shard was woken",
    Total receives: "Receive completions",
    Total sends: "Send completions",
    Total sent_frames: "Frames and service messages queued for sending",
    Total sent_bytes: "Bytes sent",
}

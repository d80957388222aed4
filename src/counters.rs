//! What a shard counts. Written by its own thread, read by anybody.

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

/// Whether a counter only grows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CounterKind {
    /// It only grows.
    Total,
    /// It goes up and down.
    Gauge,
}

macro_rules! counters {
    ($($kind:ident $name:ident: $help:literal,)*) => {
        /// The counters of one shard.
        #[derive(Debug, Default)]
        #[repr(align(128))]
        pub struct Counters {
            $(#[doc = $help] pub $name: Counter,)*
        }

        impl Counters {
            /// Each counter with its kind, name, help and value.
            pub fn each(&self) -> impl Iterator<Item = (CounterKind, &'static str, &'static str, u64)> {
                [$((CounterKind::$kind, stringify!($name), $help, self.$name.value()),)*].into_iter()
            }
        }
    };
}

counters! {
    Gauge client_connections: "Client connections that the shard holds",
    Gauge server_connections: "Server connections that the shard holds",
    Gauge admissions: "Connections that are being admitted",
    Gauge mailbox_depth: "Mails that waited at the last look",
    Gauge receive_buffers: "Receive buffers that exist",
    Gauge receive_buffers_lent: "Receive buffers that the kernel may fill",
    Total accepted: "Connections accepted",
    Total refused: "Connections refused with an HTTP status",
    Total handed_over: "Connections handed over to the control plane",
    Total clients_opened: "Client connections reported to an app server",
    Total clients_closed: "Client connections that have ended",
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
    Total missing_payloads: "Deliveries left out because the message has no payload in the client's protocol",
    Total copied_bytes_joint: "Payload bytes copied because they were tiny",
    Total copied_bytes_assembled: "Payload bytes copied because their message was long",
    Total copied_bytes_fan_out: "Payload bytes copied to make one frame for many clients",
    Total copied_bytes_mail: "Payload bytes copied for another shard",
    Total copied_bytes_detached: "Payload bytes copied because receive buffers ran short",
    Total slow_consumers: "Clients closed because too much waited for them",
    Total reads_paused: "Times that a socket was not read because its receiver was full",
    Total protocol_errors: "Connections closed because their peer broke a rule",
    Total handshakes_failed: "Hub or service handshakes that failed or came late",
    Total silent_servers: "Server connections closed because nothing came for too long",
    Total turns: "Turns of the data ring",
    Total wakes: "Times the shard was woken",
    Total receives: "Receive completions",
    Total sends: "Send completions",
    Total sent_frames: "Frames and service messages queued for sending",
    Total sent_bytes: "Bytes sent",
}

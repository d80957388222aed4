//! What is measured, and for how long.

use std::time::Duration;

use serde::Serialize;

use crate::job::{HubProtocol, Load};

/// A load and its dimensions.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Scenario {
    #[serde(flatten)]
    pub(crate) load: Load,
    pub(crate) clients: u32,
    pub(crate) payload_bytes: u32,
    pub(crate) server_connections: u32,
    pub(crate) shards: u32,
    pub(crate) hub_protocol: HubProtocol,
}

impl Scenario {
    /// What a message is.
    pub(crate) fn unit(&self) -> &'static str {
        match self.load {
            Load::Echo { .. } => "echo",
            Load::Broadcast { .. }
            | Load::SendToConnection { .. }
            | Load::SendToUser { .. }
            | Load::SendToGroup { .. }
            | Load::SlowConsumers { .. } => "delivery",
            Load::Membership { .. } => "join or leave",
            Load::Connect { .. } => "connect",
            Load::Reconnect { .. } => "reconnect",
            Load::Idle | Load::Mixed { .. } => "message",
        }
    }

    /// Whether it is measured by storms instead of windows.
    pub(crate) fn is_storm(&self) -> bool {
        matches!(self.load, Load::Reconnect { .. })
    }
}

/// How long each contestant is looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Timing {
    /// Before the first window, when sockets, caches and tables are still cold.
    pub(crate) first_warm_up: Duration,
    /// Before each of the others.
    pub(crate) warm_up: Duration,
    pub(crate) window: Duration,
    /// Windows of each contestant, one in each round.
    pub(crate) rounds: u32,
}

impl Timing {
    /// Time before the window of this round, counted from 0.
    pub(crate) fn warm_up_of(&self, round: u32) -> Duration {
        if round == 0 {
            self.first_warm_up.max(self.warm_up)
        } else {
            self.warm_up
        }
    }
}

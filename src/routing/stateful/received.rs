//! From a client to the service: numbers, and which messages have been here before.

use super::Fault;
use crate::limits::STATEFUL_ACK_BYTES;

/// What has come from a client.
#[derive(Debug, Default)]
pub(super) struct Received {
    /// Number of the last message that was new; 0 before the first.
    last: u64,
    /// How far back the client has gone: its next message is so many behind the one after `last`.
    behind: u64,
    /// It has resumed and has not said where it begins.
    awaits_sequence: bool,
    /// It has sent something that it does not know to have arrived.
    owes_ack: bool,
    /// How much of that it has sent.
    unacknowledged_bytes: usize,
}

impl Received {
    /// Whether nothing counts before the client has said where it begins.
    pub(super) fn awaits_sequence(&self) -> bool {
        self.awaits_sequence
    }

    /// A numbered message of so many bytes. Whether it is new.
    pub(super) fn number(&mut self, bytes: usize) -> bool {
        self.unacknowledged_bytes = self.unacknowledged_bytes.saturating_add(bytes);
        self.owes_ack = true;
        if self.behind > 0 {
            self.behind -= 1;
            return false;
        }
        self.last += 1;
        true
    }

    /// The client says that its next message is the one with `number`.
    pub(super) fn sequence(&mut self, number: u64) -> Result<(), Fault> {
        let next = self.last + 1;
        self.behind = next.checked_sub(number).ok_or(Fault::SequenceAhead)?;
        self.awaits_sequence = false;
        Ok(())
    }

    /// The client is back on another socket.
    pub(super) fn await_sequence(&mut self) {
        self.awaits_sequence = true;
        self.owes_ack = false;
        self.unacknowledged_bytes = 0;
    }

    /// Whether the client waits to be told what has arrived.
    pub(super) fn owes_ack(&self) -> bool {
        self.owes_ack
    }

    /// Whether it had better be told at once: it stops sending when it has to keep too much.
    pub(super) fn owes_ack_now(&self) -> bool {
        self.unacknowledged_bytes >= STATEFUL_ACK_BYTES
    }

    /// The number to tell it, if it waits.
    pub(super) fn take_ack(&mut self) -> Option<u64> {
        self.unacknowledged_bytes = 0;
        std::mem::take(&mut self.owes_ack).then_some(self.last)
    }
}

//! From the service to a client: numbers, and what the client may have to be sent again.

use std::collections::VecDeque;

use crate::chunk::Chunk;
use crate::limits::{STATEFUL_KEPT_BYTES_MAX, STATEFUL_KEPT_MESSAGE_OVERHEAD_BYTES};

/// What has been sent to a client and may not have arrived.
///
/// The numbers in `kept` follow on each other without a gap and end with `last`.
#[derive(Debug, Default)]
pub(super) struct Sent {
    kept: VecDeque<Kept>,
    /// What all of `kept` weighs.
    bytes: usize,
    /// Number of the last message; 0 before the first.
    last: u64,
    /// The client has received everything up to this number.
    acknowledged: u64,
    /// What had been sent when the client last resumed, and so was sent twice.
    resent: u64,
}

/// A whole WebSocket frame.
#[derive(Debug)]
struct Kept {
    frame: Chunk,
    /// Numbers of the first and the last message in it. Rarely more than one.
    first: u64,
    last: u64,
}

impl Sent {
    /// Numbers the messages of a frame, `numbered` of them, and keeps it. How many older frames had to be given up for it.
    pub(super) fn push(&mut self, frame: &Chunk, numbered: u32) -> usize {
        if numbered == 0 {
            return 0;
        }
        let mut given_up = 0;
        // As for an outbox: one message may be longer, but not come on top of too much.
        while self.bytes > STATEFUL_KEPT_BYTES_MAX && self.drop_front() {
            given_up += 1;
        }
        let first = self.last + 1;
        self.last += u64::from(numbered);
        let kept = Kept {
            frame: frame.clone(),
            first,
            last: self.last,
        };
        self.bytes += kept.weight();
        self.kept.push_back(kept);
        given_up
    }

    /// The client has received everything up to `number`.
    ///
    /// The clients of ASP.NET Core acknowledge by the highest number that they have ever received. While they are being sent again what
    /// they had, that is ahead of where they stand, and a `Sequence` beyond that place is an error to them. So what was sent twice is
    /// kept until they have received something that was not.
    pub(super) fn acknowledge(&mut self, number: u64) {
        let number = number.min(self.last);
        self.acknowledged = self.acknowledged.max(number);
        if number <= self.resent {
            return;
        }
        while self.kept.front().is_some_and(|kept| kept.last <= number) {
            self.drop_front();
        }
    }

    /// Whether nothing has been given up that the client may not have received.
    pub(super) fn is_complete(&self) -> bool {
        self.next_number() <= self.acknowledged + 1
    }

    /// The client is back: the number of the first message that it is sent now, and the frames.
    pub(super) fn resend(&mut self) -> (u64, impl Iterator<Item = Chunk> + '_) {
        self.resent = self.last;
        (self.next_number(), self.frames())
    }

    /// All that is kept.
    pub(super) fn frames(&self) -> impl Iterator<Item = Chunk> + '_ {
        self.kept.iter().map(|kept| kept.frame.clone())
    }

    /// What is kept weighs so much.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    fn next_number(&self) -> u64 {
        self.kept.front().map_or(self.last + 1, |kept| kept.first)
    }

    fn drop_front(&mut self) -> bool {
        let front = self.kept.pop_front();
        self.bytes -= front.as_ref().map_or(0, Kept::weight);
        if self.kept.is_empty() {
            self.kept = VecDeque::new();
        }
        front.is_some()
    }
}

impl Kept {
    fn weight(&self) -> usize {
        self.frame.len() + STATEFUL_KEPT_MESSAGE_OVERHEAD_BYTES
    }
}

//! One socket: the piece of a record that has come, and what waits to be sent.

use std::collections::VecDeque;

use crate::blocks::{BLOCK_BYTES, Blocks, Slice};

/// Pieces up to this size are copied behind the one before them. Without that, a record that comes byte by byte would hold a block for
/// each.
const COPIED_PIECE_BYTES_MAX: u32 = 256;

/// A client or a server connection.
#[derive(Debug)]
pub(crate) struct Connection {
    /// Its entry in the ring's table of files. `None`: it is over.
    pub(crate) file: Option<u32>,
    pub(crate) is_receiving: bool,
    pub(crate) sending: Sending,
    /// What has come of a record. Each slice is a use of its block.
    partial: Vec<Slice>,
    /// What waits, of which the front may be under way. Each slice is a use of its block.
    queue: VecDeque<Slice>,
}

/// How a connection's queue is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Sending {
    /// It is empty.
    Idle,
    /// It is to be sent at the end of the turn.
    Due,
    /// Its front is being sent.
    UnderWay,
    /// Nothing can be sent any more.
    Failed,
}

impl Connection {
    pub(crate) fn new(file: u32) -> Self {
        Self {
            file: Some(file),
            is_receiving: true,
            sending: Sending::Idle,
            partial: Vec::new(),
            queue: VecDeque::new(),
        }
    }

    /// Moves what has come of a record to `record`, which is empty.
    pub(crate) fn take_partial(&mut self, record: &mut Vec<Slice>) {
        record.append(&mut self.partial);
    }

    /// Keeps what has come of a record.
    pub(crate) fn keep_partial(&mut self, record: &mut Vec<Slice>) {
        self.partial.append(record);
    }

    /// Adds to what waits. Returns whether the connection has become due by that.
    pub(crate) fn push(&mut self, slice: Slice, blocks: &mut Blocks) -> bool {
        if self.file.is_none() || self.sending == Sending::Failed {
            return false;
        }
        let is_joined = self.queue.back_mut().is_some_and(|last| last.joins(slice));
        if !is_joined {
            blocks.hold(slice.block, 1);
            self.queue.push_back(slice);
        }
        let becomes_due = self.sending == Sending::Idle;
        if becomes_due {
            self.sending = Sending::Due;
        }
        becomes_due
    }

    /// What is to be sent next.
    pub(crate) fn queue(&self) -> impl Iterator<Item = Slice> {
        self.queue.iter().copied()
    }

    /// So many bytes of the queue have gone. Returns whether the rest is due now.
    pub(crate) fn advance(&mut self, mut bytes: u32, blocks: &mut Blocks) -> bool {
        while let Some(front) = self.queue.front_mut() {
            bytes -= front.split_to(bytes).len();
            if !front.is_empty() {
                break;
            }
            blocks.release(front.block);
            self.queue.pop_front();
        }
        let is_due = !self.queue.is_empty();
        self.sending = if is_due { Sending::Due } else { Sending::Idle };
        is_due
    }

    /// Sends nothing more.
    pub(crate) fn fail(&mut self, blocks: &mut Blocks) {
        self.sending = Sending::Failed;
        for slice in self.queue.drain(..) {
            blocks.release(slice.block);
        }
    }

    /// Receives nothing more.
    pub(crate) fn end_receiving(&mut self, blocks: &mut Blocks) {
        self.is_receiving = false;
        for slice in self.partial.drain(..) {
            blocks.release(slice.block);
        }
    }

    /// Whether the kernel is done with it and nothing waits.
    pub(crate) fn is_done(&self) -> bool {
        !self.is_receiving && matches!(self.sending, Sending::Idle | Sending::Failed)
    }
}

/// Adds a piece to a record: as a use of its block, or as a copy behind the piece before it.
pub(crate) fn add_piece(record: &mut Vec<Slice>, piece: Slice, blocks: &mut Blocks) {
    if let Some(last) = record.last_mut() {
        if last.joins(piece) {
            return;
        }
        // The last piece ends where its block's bytes ended, for else the record would go on there.
        let copy = Slice {
            block: last.block,
            start: last.end,
            end: last.end + piece.len(),
        };
        if piece.len() <= COPIED_PIECE_BYTES_MAX && copy.end <= BLOCK_BYTES {
            blocks.copy(piece, copy);
            last.end = copy.end;
            return;
        }
    }
    blocks.hold(piece.block, 1);
    record.push(piece);
}

//! The data ring: the one door to io_uring of the data plane.
//!
//! It owns what the kernel may touch at any time: the buffers lent for receiving, the outboxes being sent and the lists of their slices. Callers hand an outbox
//! over and get it back with its completion; they see received bytes only after the kernel is done with them. Nothing
//! outside this folder holds a pointer that the kernel uses.
//!
//! Invariants:
//! * An outbox in flight, and the list of its slices, is owned by `sends` until its completion has come.
//! * A lent block is owned by `buffers` until the completion that names it.
//! * When a ring is dropped, nothing is in flight any more that uses its memory.
//! * A descriptor given to [`Ring::receive`] or [`Ring::send`] stays open until its last completion: the caller's duty, which
//!   [`Completion`] makes possible, since each operation ends with exactly one completion that says so.

mod buffers;
pub mod probe;
mod sending;
pub mod wake;

use std::io;
use std::os::fd::{AsRawFd as _, RawFd};
use std::rc::Rc;
use std::time::Duration;

use io_uring::types::{CancelBuilder, Timespec};
use io_uring::{IoUring, cqueue, opcode, squeue, types};
use slab::Slab;

use self::buffers::BufferRing;
use self::sending::{Sending, SpareLists};
use self::wake::Wake;
use crate::chunk::Block;
use crate::routing::SocketKey;
use crate::shard::outbox::Outbox;

const SUBMISSIONS: u32 = 4096;
const COMPLETIONS: u32 = 4 * SUBMISSIONS;
const ENTER_GETEVENTS: u32 = 1;
/// Time that the kernel gets to cancel all operations. None of ours needs any.
const CANCEL_TIMEOUT: Duration = Duration::from_secs(1);

/// The ring of one shard. Made on the shard's own thread and used nowhere else.
pub struct Ring {
    uring: IoUring,
    buffers: BufferRing,
    sends: Slab<Sending>,
    spare_lists: SpareLists,
}

/// What the kernel reports.
#[derive(Debug)]
pub enum Completion {
    /// Bytes came for a socket.
    Received {
        /// The socket.
        socket: SocketKey,
        /// Holds the bytes from its start on. Nobody else refers to it.
        block: Rc<Block>,
        /// How many bytes came.
        bytes: usize,
        /// Whether the socket goes on receiving without being asked again.
        armed: bool,
    },
    /// A socket no longer receives.
    ReceiveEnded {
        /// The socket.
        socket: SocketKey,
        /// Why.
        cause: ReceiveEnd,
    },
    /// A cancellation came at a moment when the kernel did not find the receive, which goes on.
    CancelMissed {
        /// The socket.
        socket: SocketKey,
    },
    /// All of an outbox has been sent, or sending has failed.
    Sent {
        /// The socket.
        socket: SocketKey,
        /// What was to be sent.
        outbox: Box<Outbox>,
        /// How it went.
        result: io::Result<()>,
    },
}

/// Why a socket no longer receives.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ReceiveEnd {
    /// The peer has closed its side.
    PeerClosed,
    /// There was no buffer. It may be asked again when there is one.
    NoBuffer,
    /// We cancelled it.
    Cancelled,
    /// The connection is broken; the error number.
    Failed(i32),
}

impl Ring {
    /// Makes the ring, registers its buffers and has `wake` signalled for each completion.
    pub fn new(wake: &Wake) -> io::Result<Self> {
        let uring = IoUring::builder()
            .setup_single_issuer()
            .setup_defer_taskrun()
            .setup_submit_all()
            .setup_cqsize(COMPLETIONS)
            .setup_clamp()
            .dontfork()
            .build(SUBMISSIONS)?;
        let buffers = BufferRing::register(&uring.submitter())?;
        uring.submitter().register_eventfd(wake.as_raw_fd())?;
        Ok(Self {
            uring,
            buffers,
            sends: Slab::new(),
            spare_lists: SpareLists::default(),
        })
    }

    /// Starts receiving. Goes on until a completion says otherwise.
    pub fn receive(&mut self, fd: RawFd, socket: SocketKey) {
        let entry = opcode::RecvMulti::new(types::Fd(fd), buffers::GROUP)
            .build()
            .user_data(Tag::Receive(socket).to_bits());
        self.push(&entry);
    }

    /// Stops receiving. The completion is [`ReceiveEnd::Cancelled`], unless another one was faster; or there is
    /// [`Completion::CancelMissed`], and it has to be tried again.
    pub fn cancel_receive(&mut self, socket: SocketKey) {
        let entry = opcode::AsyncCancel::new(Tag::Receive(socket).to_bits())
            .build()
            .user_data(Tag::Cancel(socket).to_bits());
        self.push(&entry);
    }

    /// Sends an outbox, which must not be empty. One at a time for a socket.
    pub fn send(&mut self, fd: RawFd, socket: SocketKey, outbox: Box<Outbox>) {
        let vacant = self.sends.vacant_entry();
        let tag = Tag::Send(vacant.key() as u32);
        let sending = vacant.insert(Sending::new(fd, socket, outbox));
        let entry = sending
            .entry(&mut self.spare_lists)
            .user_data(tag.to_bits());
        self.push(&entry);
    }

    /// Whether so many buffers are in use that there may soon be none to receive into.
    pub fn is_short_of_buffers(&self) -> bool {
        self.buffers.is_short()
    }

    /// Whether a socket that had no buffer may be asked again.
    pub fn has_buffers(&self) -> bool {
        self.buffers.lent_count() > 0
    }

    /// Receive buffers that exist, and how many of them are lent to the kernel.
    pub fn buffer_counts(&self) -> (usize, usize) {
        (self.buffers.block_count(), self.buffers.lent_count())
    }

    /// Whether anything waits to be submitted.
    pub fn has_submissions(&mut self) -> bool {
        !self.uring.submission().is_empty()
    }

    /// Submits what waits, lets the kernel do its part and collects what it reports.
    pub fn turn(&mut self, completions: &mut Vec<Completion>) -> io::Result<()> {
        self.buffers.lend();
        self.enter()?;
        let mut resend = Vec::new();
        {
            let queue = self.uring.completion();
            for entry in queue {
                let completion = complete(
                    &mut self.buffers,
                    &mut self.sends,
                    &mut self.spare_lists,
                    &entry,
                    &mut resend,
                );
                completions.extend(completion);
            }
        }
        for index in resend {
            if let Some(sending) = self.sends.get_mut(index) {
                let entry = sending
                    .entry(&mut self.spare_lists)
                    .user_data(Tag::Send(index as u32).to_bits());
                self.push(&entry);
            }
        }
        Ok(())
    }

    fn push(&mut self, entry: &squeue::Entry) {
        loop {
            // SAFETY: What the entry points to is owned by `sends` or `buffers` until its completion, and the descriptor is open.
            if unsafe { self.uring.submission().push(entry) }.is_ok() {
                return;
            }
            // The queue is full: hand over what is in it. An error here shows again in the next turn, which reports it.
            if let Err(error) = self.uring.submit() {
                tracing::warn!(%error, "the data ring does not take submissions");
                std::thread::yield_now();
            }
        }
    }

    fn enter(&mut self) -> io::Result<()> {
        let submissions = self.uring.submission().len() as u32;
        // SAFETY: No argument is passed, and the flag asks only for completions to be made visible.
        match unsafe {
            self.uring
                .submitter()
                .enter::<()>(submissions, 0, ENTER_GETEVENTS, None)
        } {
            Ok(_) => Ok(()),
            // Interrupted, or the completion queue has to be emptied first: the next turn goes on.
            Err(error)
                if matches!(
                    error.raw_os_error(),
                    Some(libc::EINTR | libc::EBUSY | libc::EAGAIN)
                ) =>
            {
                Ok(())
            }
            Err(error) => Err(error),
        }
    }
}

impl Drop for Ring {
    /// Closing the ring ends its operations too, but only after it has returned: the memory might go first.
    fn drop(&mut self) {
        let submitter = self.uring.submitter();
        // That there was nothing to cancel is no fault either.
        let _ = submitter
            .register_sync_cancel(Some(Timespec::from(CANCEL_TIMEOUT)), CancelBuilder::any());
        // SAFETY: No argument is passed, and nothing is submitted: what has been cancelled is brought to its end.
        let _ = unsafe { submitter.enter::<()>(0, 0, ENTER_GETEVENTS, None) };
    }
}

impl std::fmt::Debug for Ring {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Ring")
            .field("buffers", &self.buffer_counts())
            .field("sends", &self.sends.len())
            .finish_non_exhaustive()
    }
}

/// Turns one entry of the completion queue into what the shard is told. A send that got rid of a part only is to be continued.
fn complete(
    buffers: &mut BufferRing,
    sends: &mut Slab<Sending>,
    spare_lists: &mut SpareLists,
    entry: &cqueue::Entry,
    resend: &mut Vec<usize>,
) -> Option<Completion> {
    match Tag::from_bits(entry.user_data())? {
        // A receive that has just been queued for its next round is not where the kernel looks for it.
        Tag::Cancel(socket) => matches!(-entry.result(), libc::ENOENT | libc::EALREADY)
            .then_some(Completion::CancelMissed { socket }),
        Tag::Receive(socket) => Some(complete_receive(buffers, socket, entry)),
        Tag::Send(index) => {
            let index = index as usize;
            let sending = sends.get_mut(index)?;
            let result = match entry.result() {
                error if error < 0 => Err(io::Error::from_raw_os_error(-error)),
                sent => {
                    if !sending.advance(sent.cast_unsigned() as usize) {
                        resend.push(index);
                        return None;
                    }
                    Ok(())
                }
            };
            let (socket, outbox) = sends.remove(index).into_parts(spare_lists);
            Some(Completion::Sent {
                socket,
                outbox,
                result,
            })
        }
    }
}

fn complete_receive(
    buffers: &mut BufferRing,
    socket: SocketKey,
    entry: &cqueue::Entry,
) -> Completion {
    let block = cqueue::buffer_select(entry.flags()).and_then(|id| buffers.taken(id));
    match (entry.result(), block) {
        (bytes, Some(block)) if bytes > 0 => Completion::Received {
            socket,
            block,
            bytes: bytes.cast_unsigned() as usize,
            armed: cqueue::more(entry.flags()),
        },
        (result, block) => {
            if let Some(block) = block {
                buffers.recycle(block);
            }
            let cause = match -result {
                0 => ReceiveEnd::PeerClosed,
                libc::ENOBUFS => ReceiveEnd::NoBuffer,
                libc::ECANCELED => ReceiveEnd::Cancelled,
                error => ReceiveEnd::Failed(error),
            };
            Completion::ReceiveEnded { socket, cause }
        }
    }
}

/// What an operation was, as the 64 bits that travel with it: 8 bits of kind, then an index or a socket's slot and generation.
enum Tag {
    Cancel(SocketKey),
    Receive(SocketKey),
    Send(u32),
}

impl Tag {
    fn to_bits(&self) -> u64 {
        match self {
            Self::Cancel(socket) => socket_bits(*socket),
            Self::Receive(socket) => 1 << 56 | socket_bits(*socket),
            Self::Send(index) => 2 << 56 | u64::from(*index),
        }
    }

    fn from_bits(bits: u64) -> Option<Self> {
        match bits >> 56 {
            0 => Some(Self::Cancel(socket_of(bits))),
            1 => Some(Self::Receive(socket_of(bits))),
            2 => Some(Self::Send(bits as u32)),
            _ => None,
        }
    }
}

fn socket_bits(socket: SocketKey) -> u64 {
    u64::from(socket.generation & 0x00ff_ffff) << 32 | u64::from(socket.slot)
}

fn socket_of(bits: u64) -> SocketKey {
    SocketKey {
        slot: bits as u32,
        generation: (bits >> 32) as u32 & 0x00ff_ffff,
    }
}

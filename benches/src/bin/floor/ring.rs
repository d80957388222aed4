//! The one door to io_uring: what is asked of the kernel and what it reports.
//!
//! It owns the memory that the kernel may touch at any time. Callers refer to it by slices, and hold a use of a slice's block from
//! [`Ring::send`] until [`Event::Sent`].

use std::io;
use std::os::fd::AsRawFd;
use std::sync::atomic::{AtomicU16, Ordering};

use io_uring::types::{BufRingEntry, Fd, Fixed};
use io_uring::{IoUring, Submitter, cqueue, opcode, squeue};

use crate::blocks::{Blocks, Slice};

/// Bytes in front of what is received that are free: room for what the relay has to put before it.
pub(crate) const HEADROOM_BYTES: u32 = 128;

const SUBMISSIONS: u32 = 4096;
const COMPLETIONS: u32 = 8 * SUBMISSIONS;
/// The most connections. The kernel takes no larger table.
const CONNECTIONS_MAX: u32 = 1 << 20;
/// Slices that one `sendmsg` takes (`IOV_MAX`).
const SLICES_PER_SEND_MAX: usize = 1024;
/// Slices of all sends that are submitted together. More are submitted in two goes.
const SLICES_MAX: usize = 16 * SLICES_PER_SEND_MAX;
/// The group of receive buffers.
const GROUP: u16 = 0;
/// Receive buffers that are lent to the kernel: a power of two, and entries that fill one page.
const LENT: u16 = 256;
const ENTER_GETEVENTS: u32 = 1;

/// Clients or server connections.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Side {
    Clients,
    Servers,
}

/// Which connection: its side and its index there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Place {
    pub(crate) side: Side,
    pub(crate) index: u32,
}

/// What the kernel reports. `goes_on`: the operation need not be asked for again.
#[derive(Debug)]
pub(crate) enum Event {
    /// A connection, as an entry of the table of files.
    Accepted {
        side: Side,
        file: io::Result<u32>,
        goes_on: bool,
    },
    /// Bytes have come. The use of their block passes to the caller.
    Received {
        place: Place,
        slice: Slice,
        goes_on: bool,
    },
    /// No buffer was there to receive into.
    NoBuffer { place: Place },
    /// The other end has closed its side, or the connection is broken.
    ReceiveEnded { place: Place },
    /// So many bytes have been sent. `None`: the connection is broken.
    Sent { place: Place, bytes: Option<u32> },
}

/// See the module.
pub(crate) struct Ring {
    uring: IoUring,
    lent: Lent,
    pub(crate) blocks: Blocks,
    /// What the sends that are not submitted yet point to. Submission copies it; up to there neither may grow beyond its capacity.
    slices: Vec<libc::iovec>,
    messages: Vec<libc::msghdr>,
}

/// The buffers lent to the kernel: a ring in memory shared with it.
struct Lent {
    entries: Box<Entries>,
    tail: u16,
    /// By buffer id: the block that the kernel may write into, which is a use of it.
    blocks: Vec<u32>,
    /// Buffer ids without a block.
    vacant: Vec<u16>,
}

/// Room for the entries: the kernel wants them to begin a page.
#[repr(C, align(4096))]
struct Entries([[u64; 2]; LENT as usize]);

const _: () = assert!(size_of::<BufRingEntry>() == size_of::<[u64; 2]>());

impl Ring {
    /// Makes a ring for so many connections, or as many as the kernel allows.
    pub(crate) fn new(connections: u32) -> io::Result<Self> {
        let uring = IoUring::builder()
            .setup_single_issuer()
            .setup_defer_taskrun()
            .setup_submit_all()
            .setup_cqsize(COMPLETIONS)
            .setup_clamp()
            .dontfork()
            .build(SUBMISSIONS)?;
        let submitter = uring.submitter();
        submitter.register_files_sparse(connections.min(CONNECTIONS_MAX))?;
        let lent = Lent::register(&submitter)?;
        Ok(Self {
            uring,
            lent,
            blocks: Blocks::default(),
            slices: Vec::with_capacity(SLICES_MAX),
            messages: Vec::with_capacity(SUBMISSIONS as usize),
        })
    }

    /// Accepts connections, which get entries in the table of files and no descriptors.
    pub(crate) fn accept(&mut self, listener: &impl AsRawFd, side: Side) -> io::Result<()> {
        let entry = opcode::AcceptMulti::new(Fd(listener.as_raw_fd()))
            .allocate_file_index(true)
            .build();
        self.push(&entry.user_data(Tag::Accept(side).to_bits()))
    }

    /// Receives whatever comes.
    pub(crate) fn receive(&mut self, file: u32, place: Place) -> io::Result<()> {
        let entry = opcode::RecvMulti::new(Fixed(file), GROUP).build();
        self.push(&entry.user_data(Tag::Receive(place).to_bits()))
    }

    /// Sends the first of the slices, as many as one call takes: all of their bytes, unless the connection breaks.
    pub(crate) fn send(
        &mut self,
        file: u32,
        place: Place,
        slices: impl Iterator<Item = Slice>,
    ) -> io::Result<()> {
        let has_room = self.slices.len() + SLICES_PER_SEND_MAX <= SLICES_MAX
            && self.messages.len() < self.messages.capacity();
        if !has_room {
            self.submit_all()?;
        }
        let start = self.slices.len();
        for slice in slices.take(SLICES_PER_SEND_MAX) {
            let bytes = self.blocks.bytes(slice);
            self.slices.push(libc::iovec {
                iov_base: bytes.as_ptr().cast_mut().cast(),
                iov_len: bytes.len(),
            });
        }
        let flags = libc::MSG_NOSIGNAL | libc::MSG_WAITALL;
        let gathered = self.slices.get_mut(start..).unwrap_or_default();
        let entry = if let [only] = gathered {
            let (address, bytes) = (only.iov_base.cast(), only.iov_len as u32);
            self.slices.truncate(start);
            let send = opcode::Send::new(Fixed(file), address, bytes);
            send.flags(flags).build()
        } else {
            // SAFETY: All zeros are a valid `msghdr`: no address, no slices, no control data.
            let mut message: libc::msghdr = unsafe { std::mem::zeroed() };
            message.msg_iov = gathered.as_mut_ptr();
            message.msg_iovlen = gathered.len();
            let message = self.messages.push_mut(message);
            let send = opcode::SendMsg::new(Fixed(file), std::ptr::from_ref(message));
            send.flags(flags.cast_unsigned()).build()
        };
        self.push(&entry.user_data(Tag::Send(place).to_bits()))
    }

    /// Gives a table entry back. There must be no operation under way on it.
    pub(crate) fn close(&mut self, file: u32) -> io::Result<()> {
        let entry = opcode::Close::new(Fixed(file)).build();
        self.push(&entry.user_data(Tag::Close.to_bits()))
    }

    /// Submits what waits, sleeps until there is something to report, and collects it.
    pub(crate) fn turn(&mut self, events: &mut Vec<Event>) -> io::Result<()> {
        self.lent.lend(&mut self.blocks);
        self.enter(1)?;
        self.forget_submitted();
        for entry in self.uring.completion() {
            events.extend(event(&mut self.lent, &entry));
        }
        Ok(())
    }

    fn push(&mut self, entry: &squeue::Entry) -> io::Result<()> {
        loop {
            // SAFETY: What the entry points to stays valid: blocks as long as this ring, lists of slices until it is submitted.
            if unsafe { self.uring.submission().push(entry) }.is_ok() {
                return Ok(());
            }
            // The queue is full. The new entry's own list is not submitted by this and stays.
            self.enter(0)?;
        }
    }

    /// Makes room for new lists of slices.
    fn submit_all(&mut self) -> io::Result<()> {
        while !self.uring.submission().is_empty() {
            self.enter(0)?;
        }
        self.forget_submitted();
        Ok(())
    }

    fn forget_submitted(&mut self) {
        if self.uring.submission().is_empty() {
            self.slices.clear();
            self.messages.clear();
        }
    }

    /// Submits, and waits for so many completions.
    fn enter(&mut self, wanted: u32) -> io::Result<()> {
        let submissions = self.uring.submission().len() as u32;
        let submitter = self.uring.submitter();
        // SAFETY: No argument is passed, and the flag asks only for completions to be made visible.
        let entered = unsafe { submitter.enter::<()>(submissions, wanted, ENTER_GETEVENTS, None) };
        match entered {
            Ok(_) => Ok(()),
            // Interrupted, or the completions have to be collected first: the next turn goes on.
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

impl Lent {
    fn register(submitter: &Submitter<'_>) -> io::Result<Self> {
        let mut entries = Box::new(Entries([[0; 2]; LENT as usize]));
        let address = entries.0.as_mut_ptr() as u64;
        // SAFETY: The memory holds that many entries, is page-aligned, and lives as long as the ring, which is dropped before it.
        unsafe { submitter.register_buf_ring_with_flags(address, LENT, GROUP, 0) }?;
        Ok(Self {
            entries,
            tail: 0,
            blocks: vec![0; usize::from(LENT)],
            vacant: (0..LENT).collect(),
        })
    }

    /// Fills the vacant places.
    fn lend(&mut self, blocks: &mut Blocks) {
        if self.vacant.is_empty() {
            return;
        }
        // The type of the entries has no public constructor, but its memory may hold anything.
        let entries = self.entries.0.as_mut_ptr().cast::<BufRingEntry>();
        while let Some(id) = self.vacant.pop() {
            let block = blocks.take();
            let room = blocks.memory(block).get_mut(HEADROOM_BYTES as usize..);
            let room = room.unwrap_or_default();
            // SAFETY: The place is below the number of entries.
            let entry = unsafe { entries.add(usize::from(self.tail & (LENT - 1))) };
            // SAFETY: It points to an entry, to which no other reference exists, and which the kernel reads only after the tail has moved.
            let entry = unsafe { &mut *entry };
            entry.set_addr(room.as_mut_ptr() as u64);
            entry.set_len(room.len() as u32);
            entry.set_bid(id);
            self.tail = self.tail.wrapping_add(1);
            if let Some(place) = self.blocks.get_mut(usize::from(id)) {
                *place = block;
            }
        }
        // SAFETY: `entries` points to the ring's first entry, whose tail field it is.
        let tail = unsafe { BufRingEntry::tail(entries) }.cast_mut();
        // SAFETY: The field is aligned, lives as long as `self`, and is written by nobody else.
        let tail = unsafe { AtomicU16::from_ptr(tail) };
        tail.store(self.tail, Ordering::Release);
    }

    /// What has come into the buffer that a completion names.
    fn taken(&mut self, id: u16, bytes: u32) -> Option<Slice> {
        let block = *self.blocks.get(usize::from(id))?;
        self.vacant.push(id);
        Some(Slice {
            block,
            start: HEADROOM_BYTES,
            end: HEADROOM_BYTES + bytes,
        })
    }
}

fn event(lent: &mut Lent, entry: &cqueue::Entry) -> Option<Event> {
    let result = match entry.result() {
        error if error < 0 => Err(io::Error::from_raw_os_error(-error)),
        number => Ok(number.cast_unsigned()),
    };
    let goes_on = cqueue::more(entry.flags());
    Some(match Tag::from_bits(entry.user_data())? {
        Tag::Close => return None,
        Tag::Accept(side) => Event::Accepted {
            side,
            file: result,
            goes_on,
        },
        Tag::Send(place) => Event::Sent {
            place,
            bytes: result.ok(),
        },
        Tag::Receive(place) => {
            let bytes = result.as_ref().map_or(0, |bytes| *bytes);
            let buffer = cqueue::buffer_select(entry.flags());
            match (buffer.and_then(|id| lent.taken(id, bytes)), result) {
                (Some(slice), _) => Event::Received {
                    place,
                    slice,
                    goes_on,
                },
                (None, Err(error)) if error.raw_os_error() == Some(libc::ENOBUFS) => {
                    Event::NoBuffer { place }
                }
                (None, _) => Event::ReceiveEnded { place },
            }
        }
    })
}

/// What an operation was, as the 64 bits that travel with it: its kind in the upper half, an index in the lower.
enum Tag {
    Close,
    Accept(Side),
    Receive(Place),
    Send(Place),
}

impl Tag {
    fn to_bits(&self) -> u64 {
        let (kind, side, index) = match *self {
            Self::Close => (0, Side::Clients, 0),
            Self::Accept(side) => (1, side, 0),
            Self::Receive(place) => (2, place.side, place.index),
            Self::Send(place) => (3, place.side, place.index),
        };
        kind << 33 | u64::from(side == Side::Servers) << 32 | u64::from(index)
    }

    fn from_bits(bits: u64) -> Option<Self> {
        let side = match bits >> 32 & 1 {
            0 => Side::Clients,
            _ => Side::Servers,
        };
        let index = bits as u32;
        let place = Place { side, index };
        match bits >> 33 {
            0 => Some(Self::Close),
            1 => Some(Self::Accept(side)),
            2 => Some(Self::Receive(place)),
            3 => Some(Self::Send(place)),
            _ => None,
        }
    }
}

//! The buffers that the kernel receives into: a provided buffer ring.
//!
//! The kernel takes the lent buffer at the head for whatever socket has data, and names it in the completion. Its place in the
//! ring is filled again, with another free block, before the next turn. So an idle connection holds no buffer at all.

use std::alloc::{Layout, alloc_zeroed, dealloc, handle_alloc_error};
use std::io;
use std::rc::Rc;
use std::sync::atomic::{AtomicU16, Ordering};

use io_uring::Submitter;
use io_uring::types::BufRingEntry;

use crate::chunk::{Block, BlockPool};
use crate::limits::{RECEIVE_BUFFER_BYTES, RECEIVE_BUFFERS_LENT, RECEIVE_BUFFERS_MAX};

/// The buffer group that receives name.
pub(super) const GROUP: u16 = 0;
const PAGE_BYTES: usize = 4096;

pub(super) struct BufferRing {
    /// Page-aligned memory shared with the kernel: one entry per lent buffer. Lives as long as the ring.
    entries: *mut BufRingEntry,
    tail: u16,
    /// By buffer id: the block that the kernel may write into. Its memory is reachable from here only.
    lent: Vec<Option<Rc<Block>>>,
    /// Buffer ids whose blocks have been taken.
    vacant: Vec<u16>,
    pool: BlockPool,
    blocks: usize,
}

impl BufferRing {
    pub(super) fn register(submitter: &Submitter<'_>) -> io::Result<Self> {
        let layout = Self::layout();
        // SAFETY: The layout's size is not zero.
        let memory = unsafe { alloc_zeroed(layout) };
        #[expect(
            clippy::cast_ptr_alignment,
            reason = "the layout asks for a whole page's alignment"
        )]
        let entries = memory.cast::<BufRingEntry>();
        if entries.is_null() {
            handle_alloc_error(layout);
        }
        let mut ring = Self {
            entries,
            tail: 0,
            lent: (0..RECEIVE_BUFFERS_LENT).map(|_| None).collect(),
            vacant: (0..RECEIVE_BUFFERS_LENT).rev().collect(),
            pool: BlockPool::new(RECEIVE_BUFFER_BYTES),
            blocks: 0,
        };
        // SAFETY: The memory holds that many entries, is page-aligned, and is freed only after the ring that uses it is gone.
        unsafe {
            submitter.register_buf_ring_with_flags(entries as u64, RECEIVE_BUFFERS_LENT, GROUP, 0)
        }?;
        ring.lend();
        Ok(ring)
    }

    /// Fills the vacant places with free blocks.
    pub(super) fn lend(&mut self) {
        if self.vacant.is_empty() {
            return;
        }
        while let Some(&id) = self.vacant.last() {
            let Some(block) = self.free_block() else {
                break;
            };
            self.vacant.pop();
            self.lend_block(id, block);
        }
        self.publish();
    }

    /// Takes the block that a completion names. `None` would be a completion for a buffer that was not lent.
    pub(super) fn taken(&mut self, id: u16) -> Option<Rc<Block>> {
        let block = self.lent.get_mut(usize::from(id))?.take()?;
        self.vacant.push(id);
        Some(block)
    }

    pub(super) fn recycle(&mut self, block: Rc<Block>) {
        self.pool.put(block);
    }

    pub(super) fn lent_count(&self) -> usize {
        self.lent.len() - self.vacant.len()
    }

    pub(super) fn block_count(&self) -> usize {
        self.blocks
    }

    /// No more blocks may be made, and few are free.
    pub(super) fn is_short(&self) -> bool {
        self.blocks >= RECEIVE_BUFFERS_MAX
            && self.pool.free_count() + self.lent_count() < self.lent.len() / 2
    }

    fn free_block(&mut self) -> Option<Rc<Block>> {
        self.pool.take().or_else(|| {
            (self.blocks < RECEIVE_BUFFERS_MAX).then(|| {
                self.blocks += 1;
                self.pool.grow()
            })
        })
    }

    fn lend_block(&mut self, id: u16, mut block: Rc<Block>) {
        let Some(alone) = Rc::get_mut(&mut block) else {
            debug_assert!(false, "a free block is referred to by nobody else");
            return;
        };
        let memory = alone.bytes_mut();
        let (address, length) = (memory.as_mut_ptr() as u64, memory.len() as u32);
        let place = usize::from(self.tail & (RECEIVE_BUFFERS_LENT - 1));
        // SAFETY: `place` is below the number of entries. The kernel reads an entry only after `publish`.
        let entry = unsafe { self.entries.add(place) };
        // SAFETY: It points to an entry that was zeroed when it was allocated, and no other reference to it exists.
        let entry = unsafe { &mut *entry };
        entry.set_addr(address);
        entry.set_len(length);
        entry.set_bid(id);
        self.tail = self.tail.wrapping_add(1);
        if let Some(slot) = self.lent.get_mut(usize::from(id)) {
            *slot = Some(block);
        }
    }

    fn publish(&mut self) {
        // SAFETY: `entries` points to the ring's first entry, whose tail field it is.
        let tail = unsafe { BufRingEntry::tail(self.entries) }.cast_mut();
        // SAFETY: The field is aligned, lives as long as the ring, and is written by nobody else.
        let tail = unsafe { AtomicU16::from_ptr(tail) };
        tail.store(self.tail, Ordering::Release);
    }

    fn layout() -> Layout {
        let bytes = size_of::<BufRingEntry>() * usize::from(RECEIVE_BUFFERS_LENT);
        Layout::from_size_align(bytes, PAGE_BYTES).unwrap_or_else(|_| Layout::new::<BufRingEntry>())
    }
}

impl Drop for BufferRing {
    fn drop(&mut self) {
        // SAFETY: Allocated with the same layout. The ring that the kernel uses it with is dropped before this field.
        unsafe { dealloc(self.entries.cast(), Self::layout()) };
    }
}

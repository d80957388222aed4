//! The memory that is received into and sent from: blocks of one size, counted by use.
//!
//! Invariants:
//! * A block is free exactly when nobody uses it. Lent to the kernel, holding a piece that is not complete, or waiting to be sent: each is
//!   a use of its own.
//! * A block's memory stays where it is until the program ends, so whatever address the kernel holds is valid.

use std::ops::Range;

/// Bytes of a block.
pub(crate) const BLOCK_BYTES: u32 = 16 * 1024;

/// All blocks, as many as were ever needed at a time. The last to become free is the first to be taken: its memory is in the cache.
#[derive(Debug, Default)]
pub(crate) struct Blocks {
    blocks: Vec<Block>,
    free: Vec<u32>,
}

#[derive(Debug)]
struct Block {
    memory: Box<[u8]>,
    uses: u32,
}

/// Some bytes of a block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Slice {
    pub(crate) block: u32,
    pub(crate) start: u32,
    pub(crate) end: u32,
}

impl Blocks {
    /// A block with one use: the caller's.
    pub(crate) fn take(&mut self) -> u32 {
        let index = self.free.pop().unwrap_or_else(|| {
            self.blocks.push(Block {
                memory: vec![0; BLOCK_BYTES as usize].into_boxed_slice(),
                uses: 0,
            });
            self.blocks.len() as u32 - 1
        });
        self.hold(index, 1);
        index
    }

    /// Adds so many uses.
    pub(crate) fn hold(&mut self, index: u32, uses: u32) {
        if let Some(block) = self.blocks.get_mut(index as usize) {
            block.uses += uses;
        }
    }

    /// Ends one use.
    pub(crate) fn release(&mut self, index: u32) {
        if let Some(block) = self.blocks.get_mut(index as usize) {
            block.uses -= 1;
            if block.uses == 0 {
                self.free.push(index);
            }
        }
    }

    /// Whether there is only one use.
    pub(crate) fn has_one_use(&self, index: u32) -> bool {
        let block = self.blocks.get(index as usize);
        block.is_some_and(|block| block.uses == 1)
    }

    /// A block's whole memory.
    pub(crate) fn memory(&mut self, index: u32) -> &mut [u8] {
        self.blocks
            .get_mut(index as usize)
            .map(|block| &mut *block.memory)
            .unwrap_or_default()
    }

    pub(crate) fn bytes(&self, slice: Slice) -> &[u8] {
        self.blocks
            .get(slice.block as usize)
            .and_then(|block| block.memory.get(slice.range()))
            .unwrap_or_default()
    }

    pub(crate) fn bytes_mut(&mut self, slice: Slice) -> &mut [u8] {
        self.memory(slice.block)
            .get_mut(slice.range())
            .unwrap_or_default()
    }

    /// Copies bytes to another block.
    pub(crate) fn copy(&mut self, from: Slice, to: Slice) {
        let pair = [from.block as usize, to.block as usize];
        if let Ok([from_block, to_block]) = self.blocks.get_disjoint_mut(pair)
            && let Some(bytes) = from_block.memory.get(from.range())
            && let Some(place) = to_block.memory.get_mut(to.range())
        {
            place.copy_from_slice(bytes);
        }
    }
}

impl Slice {
    fn range(self) -> Range<usize> {
        self.start as usize..self.end as usize
    }

    pub(crate) fn len(self) -> u32 {
        self.end - self.start
    }

    pub(crate) fn is_empty(self) -> bool {
        self.start == self.end
    }

    /// Cuts off the first `bytes`, or all if there are fewer.
    pub(crate) fn split_to(&mut self, bytes: u32) -> Self {
        let end = self.start + bytes.min(self.len());
        let front = Self { end, ..*self };
        self.start = end;
        front
    }

    /// Takes `next` in, if it lies right behind.
    pub(crate) fn joins(&mut self, next: Self) -> bool {
        let follows = self.block == next.block && self.end == next.start;
        if follows {
            self.end = next.end;
        }
        follows
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_block_is_taken_again_only_after_its_last_use() {
        let mut blocks = Blocks::default();
        let first = blocks.take();
        blocks.hold(first, 2);
        for _ in 0..2 {
            blocks.release(first);
            assert_ne!(blocks.take(), first);
        }
        assert!(blocks.has_one_use(first));
        blocks.release(first);
        assert_eq!(blocks.take(), first);
    }

    #[test]
    fn slices_are_cut_and_joined() {
        let whole = Slice {
            block: 3,
            start: 10,
            end: 20,
        };
        let mut rest = whole;
        let mut front = rest.split_to(4);
        assert_eq!((front.len(), rest.len()), (4, 6));
        let mut elsewhere = Slice { block: 4, ..front };
        assert!(!elsewhere.joins(rest));
        assert!(front.joins(rest));
        assert_eq!(front, whole);
        assert_eq!((rest.split_to(99).len(), rest.is_empty()), (6, true));
    }
}

//! Received bytes, shared by reference count and never copied.
//!
//! A [`Block`] is one piece of memory that the kernel or a decoder has filled. A [`Chunk`] is a view of a part of it. Cloning and
//! splitting a chunk touches a counter, not the bytes. When the last chunk of a block is dropped, a pooled block goes back to
//! its [`BlockPool`]; any other is freed.
//!
//! Chunks belong to one thread. What another shard shall see is copied into a `bytes::Bytes` first.

use std::cell::RefCell;
use std::fmt;
use std::ops::{Deref, Range};
use std::rc::{Rc, Weak};

/// A piece of memory that chunks point into.
pub struct Block {
    bytes: Box<[u8]>,
    /// Weak, since the pool owns its free blocks.
    home: Option<Weak<FreeBlocks>>,
}

impl Block {
    /// The memory, to be filled or decoded in place. Only whoever holds the block alone can reach it.
    pub fn bytes_mut(&mut self) -> &mut [u8] {
        &mut self.bytes
    }
}

impl From<Vec<u8>> for Block {
    /// Takes over memory of its own, which is freed with the last chunk.
    fn from(bytes: Vec<u8>) -> Self {
        Self {
            bytes: bytes.into_boxed_slice(),
            home: None,
        }
    }
}

impl fmt::Debug for Block {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Block")
            .field("bytes", &self.bytes.len())
            .field("pooled", &self.home.is_some())
            .finish()
    }
}

/// Blocks of one size that are not in use at the moment. Owned by one shard.
pub struct BlockPool {
    free: Rc<FreeBlocks>,
    block_bytes: usize,
}

type FreeBlocks = RefCell<Vec<Rc<Block>>>;

impl BlockPool {
    /// An empty pool for blocks of `block_bytes` each.
    pub fn new(block_bytes: usize) -> Self {
        Self {
            free: Rc::default(),
            block_bytes,
        }
    }

    /// Takes a free block, if there is one.
    pub fn take(&self) -> Option<Rc<Block>> {
        self.free.borrow_mut().pop()
    }

    /// Makes a block that will return to this pool. It is the caller who bounds how many exist.
    pub fn grow(&self) -> Rc<Block> {
        Rc::new(Block {
            bytes: vec![0; self.block_bytes].into_boxed_slice(),
            home: Some(Rc::downgrade(&self.free)),
        })
    }

    /// Puts back a block that nobody else refers to.
    pub fn put(&self, block: Rc<Block>) {
        debug_assert_eq!(Rc::strong_count(&block), 1, "a block in use was put back");
        self.free.borrow_mut().push(block);
    }

    /// How many blocks are free.
    pub fn free_count(&self) -> usize {
        self.free.borrow().len()
    }
}

impl fmt::Debug for BlockPool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BlockPool")
            .field("block_bytes", &self.block_bytes)
            .field("free", &self.free_count())
            .finish()
    }
}

/// A view of a part of a [`Block`].
pub struct Chunk {
    /// `None` only while being dropped.
    block: Option<Rc<Block>>,
    start: u32,
    end: u32,
}

impl Chunk {
    /// The part `range` of `block`.
    ///
    /// # Panics
    /// When the range does not lie within the block: that is a fault of ours, never a peer's.
    pub fn new(block: Rc<Block>, range: Range<usize>) -> Self {
        assert!(
            range.start <= range.end && range.end <= block.bytes.len(),
            "a chunk lies within its block"
        );
        let (start, end) = (range.start as u32, range.end as u32);
        Self {
            block: Some(block),
            start,
            end,
        }
    }

    /// The part `range` of this chunk, counted from its own start.
    ///
    /// # Panics
    /// When the range does not lie within this chunk.
    #[must_use]
    pub fn slice(&self, range: Range<usize>) -> Self {
        assert!(
            range.start <= range.end && range.end <= self.len(),
            "a slice lies within its chunk"
        );
        let start = self.start + range.start as u32;
        Self {
            block: self.block.clone(),
            start,
            end: start + (range.end - range.start) as u32,
        }
    }

    /// Whether this chunk holds a pooled block back from its pool.
    pub fn is_pooled(&self) -> bool {
        self.block
            .as_ref()
            .is_some_and(|block| block.home.is_some())
    }
}

impl From<Vec<u8>> for Chunk {
    /// Takes over memory of its own, which is freed with the last chunk.
    fn from(bytes: Vec<u8>) -> Self {
        let end = u32::try_from(bytes.len()).expect("no frame is longer than 4 GiB");
        Self {
            block: Some(Rc::new(Block {
                bytes: bytes.into_boxed_slice(),
                home: None,
            })),
            start: 0,
            end,
        }
    }
}

impl Deref for Chunk {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        match &self.block {
            Some(block) => block
                .bytes
                .get(self.start as usize..self.end as usize)
                .unwrap_or_default(),
            None => &[],
        }
    }
}

impl Clone for Chunk {
    fn clone(&self) -> Self {
        Self {
            block: self.block.clone(),
            start: self.start,
            end: self.end,
        }
    }
}

impl Drop for Chunk {
    fn drop(&mut self) {
        if let Some(block) = self.block.take()
            && Rc::strong_count(&block) == 1
            && let Some(home) = block.home.as_ref().and_then(Weak::upgrade)
        {
            home.borrow_mut().push(block);
        }
    }
}

impl fmt::Debug for Chunk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Chunk({} bytes)", self.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BLOCK_BYTES: usize = 16;

    fn filled(pool: &BlockPool) -> Rc<Block> {
        let mut block = pool.grow();
        let bytes = Rc::get_mut(&mut block).expect("it is new").bytes_mut();
        bytes.copy_from_slice(b"0123456789abcdef");
        block
    }

    #[test]
    fn a_slice_of_a_slice_counts_from_its_own_start() {
        let chunk = Chunk::from(b"0123456789".to_vec());
        let slice = chunk.slice(2..8);
        assert_eq!(&*slice, b"234567");
        assert_eq!(&*slice.slice(1..3), b"34");
        assert_eq!(&*slice.slice(6..6), b"");
        assert_eq!(&*slice.slice(0..6), &*slice);
        assert_eq!(&*chunk, b"0123456789");
    }

    #[test]
    #[should_panic(expected = "a slice lies within its chunk")]
    fn a_slice_does_not_reach_beyond_its_chunk_though_the_block_goes_on() {
        let chunk = Chunk::from(b"0123456789".to_vec()).slice(0..5);
        drop(chunk.slice(4..6));
    }

    #[test]
    #[should_panic(expected = "a chunk lies within its block")]
    fn a_chunk_does_not_reach_beyond_its_block() {
        let block = BlockPool::new(BLOCK_BYTES).grow();
        drop(Chunk::new(block, 0..BLOCK_BYTES + 1));
    }

    #[test]
    fn a_pooled_block_goes_home_with_the_last_of_its_chunks_and_not_before() {
        let pool = BlockPool::new(BLOCK_BYTES);
        let block = filled(&pool);
        let head = Chunk::new(Rc::clone(&block), 0..4);
        let tail = Chunk::new(block, 4..16);
        assert!(head.is_pooled() && tail.is_pooled());
        let (copy, part) = (head.clone(), tail.slice(1..2));
        for chunk in [head, tail, copy] {
            assert_eq!(pool.free_count(), 0);
            drop(chunk);
        }
        assert_eq!(&*part, b"5");
        assert_eq!(pool.free_count(), 0);
        drop(part);
        assert_eq!(pool.free_count(), 1);
    }

    #[test]
    fn a_block_that_came_home_is_used_again() {
        let pool = BlockPool::new(BLOCK_BYTES);
        drop(Chunk::new(filled(&pool), 0..0));
        assert_eq!(pool.free_count(), 1);
        let mut again = pool.take().expect("one is free");
        assert_eq!(pool.free_count(), 0);
        assert_eq!(
            Rc::get_mut(&mut again)
                .expect("nobody else has it")
                .bytes_mut()
                .len(),
            BLOCK_BYTES
        );
        pool.put(again);
        assert_eq!(pool.free_count(), 1);
    }

    #[test]
    fn a_chunk_may_outlive_every_other_handle_of_its_pool() {
        let pool = BlockPool::new(BLOCK_BYTES);
        let chunk = Chunk::new(filled(&pool), 3..5);
        drop(pool);
        assert_eq!(&*chunk, b"34");
    }

    #[test]
    fn memory_of_its_own_is_freed_and_goes_to_no_pool() {
        let chunk = Chunk::from(b"own".to_vec());
        assert!(!chunk.is_pooled());
        let block = Rc::downgrade(chunk.block.as_ref().expect("it is not being dropped"));
        let copy = chunk.clone();
        drop(chunk);
        assert_eq!(block.strong_count(), 1);
        drop(copy);
        assert_eq!(block.strong_count(), 0);
        let block = Chunk::new(Rc::new(Block::from(b"block".to_vec())), 1..3);
        assert!(!block.is_pooled());
        assert_eq!(&*block, b"lo");
    }
}

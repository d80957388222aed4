//! What every part of a worker needs to talk to its sockets.

use mio::{Registry, Token};

/// The first token that [`TokenAllocator`] gives away. Those below belong to the event loop.
pub(crate) const ALLOCATED_FIRST: usize = 1 << 40;

/// Lent to whoever is served by the event loop, for as long as that takes.
pub(crate) struct Io<'a> {
    pub(crate) registry: &'a Registry,
    pub(crate) tokens: &'a mut TokenAllocator,
    /// What is received is read where it lies here. All sockets share it.
    pub(crate) buffer: &'a mut [u8],
}

/// Gives away tokens for sockets. None is ever given away twice, so an event of a socket that is gone reaches nobody.
#[derive(Debug)]
pub(crate) struct TokenAllocator {
    next: usize,
}

impl TokenAllocator {
    pub(crate) fn new() -> Self {
        Self {
            next: ALLOCATED_FIRST,
        }
    }

    pub(crate) fn allocate(&mut self) -> Token {
        let token = Token(self.next);
        self.next += 1;
        token
    }
}

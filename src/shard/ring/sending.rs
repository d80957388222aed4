//! An outbox on its way out: the list of slices that the kernel reads, and how far it has come.

use std::os::fd::RawFd;
use std::ptr;

use io_uring::{opcode, squeue, types};

use crate::limits::{SEND_SLICES_MAX, SPARE_SLICE_LISTS_MAX};
use crate::routing::SocketKey;
use crate::shard::outbox::Outbox;

pub(super) struct Sending {
    fd: RawFd,
    socket: SocketKey,
    outbox: Box<Outbox>,
    /// Needed only for more than one slice.
    list: Option<Box<SliceList>>,
}

/// What `sendmsg` is told. Boxed: the kernel reads it after submission, while a [`Sending`] may be moved within its slab.
struct SliceList {
    slices: Vec<libc::iovec>,
    message: libc::msghdr,
}

/// Lists that are not in use.
#[derive(Default)]
pub(super) struct SpareLists {
    #[expect(
        clippy::vec_box,
        reason = "they move from here to sends as one pointer"
    )]
    lists: Vec<Box<SliceList>>,
}

impl Sending {
    pub(super) fn new(fd: RawFd, socket: SocketKey, outbox: Box<Outbox>) -> Self {
        Self {
            fd,
            socket,
            outbox,
            list: None,
        }
    }

    /// The operation that sends what is left.
    pub(super) fn entry(&mut self, spare: &mut SpareLists) -> squeue::Entry {
        let flags = libc::MSG_NOSIGNAL | libc::MSG_WAITALL;
        if let Some(only) = self.only_slice() {
            return opcode::Send::new(
                types::Fd(self.fd),
                only.iov_base.cast(),
                only.iov_len as u32,
            )
            .flags(flags)
            .build();
        }
        let list = self.list.get_or_insert_with(|| spare.take());
        list.fill(&self.outbox);
        opcode::SendMsg::new(types::Fd(self.fd), ptr::from_ref(&list.message))
            .flags(flags.cast_unsigned())
            .build()
    }

    /// Notes that so many bytes have gone. Whether that was all.
    pub(super) fn advance(&mut self, bytes: usize) -> bool {
        self.outbox.advance(bytes)
    }

    pub(super) fn into_parts(self, spare: &mut SpareLists) -> (SocketKey, Box<Outbox>) {
        if let Some(list) = self.list {
            spare.put(list);
        }
        (self.socket, self.outbox)
    }

    /// What is left, if it is one slice: then the kernel needs no list.
    fn only_slice(&self) -> Option<libc::iovec> {
        let (mut count, mut only) = (0, None);
        self.outbox.unsent(2, |bytes| {
            count += 1;
            only = Some(slice_of(bytes));
        });
        only.filter(|_| count == 1)
    }
}

impl SliceList {
    fn fill(&mut self, outbox: &Outbox) {
        self.slices.clear();
        outbox.unsent(SEND_SLICES_MAX, |bytes| self.slices.push(slice_of(bytes)));
        self.message.msg_iov = self.slices.as_mut_ptr();
        self.message.msg_iovlen = self.slices.len();
    }
}

impl Default for SliceList {
    fn default() -> Self {
        Self {
            slices: Vec::new(),
            // SAFETY: All zeros are a valid `msghdr`: no address, no slices, no control data.
            message: unsafe { std::mem::zeroed() },
        }
    }
}

impl SpareLists {
    #[expect(
        clippy::unnecessary_box_returns,
        reason = "it has to stay where it is while the kernel reads it"
    )]
    fn take(&mut self) -> Box<SliceList> {
        self.lists.pop().unwrap_or_default()
    }

    fn put(&mut self, mut list: Box<SliceList>) {
        if self.lists.len() < SPARE_SLICE_LISTS_MAX {
            list.slices.clear();
            self.lists.push(list);
        }
    }
}

fn slice_of(bytes: &[u8]) -> libc::iovec {
    libc::iovec {
        iov_base: bytes.as_ptr().cast_mut().cast(),
        iov_len: bytes.len(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::chunk::Chunk;
    use crate::limits::JOINT_COPY_BYTES_MAX;

    const SLICE_BYTES: usize = JOINT_COPY_BYTES_MAX + 1;

    fn sending(slices: usize) -> Sending {
        let mut outbox = Box::new(Outbox::default());
        for index in 0..slices {
            outbox.push_chunk(Chunk::from(vec![index as u8; SLICE_BYTES]));
        }
        let socket = SocketKey {
            slot: 0,
            generation: 0,
        };
        Sending::new(-1, socket, outbox)
    }

    /// Addresses and lengths, as the kernel is told them.
    fn told(sending: &Sending) -> Vec<(usize, usize)> {
        let list = sending.list.as_ref().unwrap();
        assert_eq!(list.message.msg_iov.cast_const(), list.slices.as_ptr());
        assert_eq!(list.message.msg_iovlen, list.slices.len());
        let told = |slice: &libc::iovec| (slice.iov_base as usize, slice.iov_len);
        list.slices.iter().map(told).collect()
    }

    /// The same, as the outbox has them.
    fn unsent(sending: &Sending) -> Vec<(usize, usize)> {
        let mut unsent = Vec::new();
        sending.outbox.unsent(SEND_SLICES_MAX, |bytes| {
            unsent.push((bytes.as_ptr() as usize, bytes.len()));
        });
        unsent
    }

    #[test]
    fn the_kernel_is_told_what_is_left_wherever_it_stopped() {
        let (mut spare, mut sending) = (SpareLists::default(), sending(3000));
        for sent in [
            0,
            1,
            SLICE_BYTES - 1,
            10 * SLICE_BYTES + 7,
            900 * SLICE_BYTES,
        ] {
            assert!(!sending.advance(sent));
            sending.entry(&mut spare);
            assert_eq!(told(&sending), unsent(&sending));
            assert_eq!(unsent(&sending).len(), SEND_SLICES_MAX);
        }
    }

    #[test]
    fn a_single_slice_needs_no_list_and_what_is_left_alone_does_not_either() {
        let (mut spare, mut alone) = (SpareLists::default(), sending(1));
        alone.entry(&mut spare);
        assert!(alone.list.is_none());

        let mut sending = sending(SEND_SLICES_MAX + 1);
        sending.entry(&mut spare);
        assert_eq!(told(&sending).len(), SEND_SLICES_MAX);
        assert!(!sending.advance(SEND_SLICES_MAX * SLICE_BYTES));
        assert!(sending.only_slice().is_some());
        sending.entry(&mut spare);
        assert!(sending.advance(SLICE_BYTES));
        sending.into_parts(&mut spare);
        assert_eq!(spare.lists.len(), 1);
    }

    #[test]
    fn a_list_that_is_used_again_shows_nothing_of_its_last_use() {
        let mut spare = SpareLists::default();
        let mut long = sending(100);
        long.entry(&mut spare);
        long.into_parts(&mut spare);
        let mut short = sending(2);
        short.entry(&mut spare);
        assert!(spare.lists.is_empty());
        assert_eq!(told(&short), unsent(&short));
        assert_eq!(told(&short).len(), 2);
    }

    #[test]
    fn no_more_lists_are_kept_than_the_limit_says() {
        let mut spare = SpareLists::default();
        let mut sendings: Vec<Sending> = (0..=SPARE_SLICE_LISTS_MAX).map(|_| sending(2)).collect();
        for sending in &mut sendings {
            sending.entry(&mut spare);
        }
        for sending in sendings {
            sending.into_parts(&mut spare);
        }
        assert_eq!(spare.lists.len(), SPARE_SLICE_LISTS_MAX);
    }
}

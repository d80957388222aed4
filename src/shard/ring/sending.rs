//! An outbox on its way out: the list of slices that the kernel reads, and how far it has come.

use std::os::fd::RawFd;
use std::ptr;

use io_uring::{opcode, squeue, types};

use crate::routing::SocketKey;
use crate::shard::outbox::Outbox;

/// Slices that one `sendmsg` takes (`IOV_MAX`).
const SLICES_MAX: usize = 1024;

pub(super) struct Sending {
    fd: RawFd,
    socket: SocketKey,
    outbox: Box<Outbox>,
    slices: Vec<libc::iovec>,
    /// Boxed: the kernel reads it after submission, while this struct may be moved within its slab.
    message: Box<libc::msghdr>,
}

impl Sending {
    pub(super) fn new(fd: RawFd, socket: SocketKey, outbox: Box<Outbox>) -> Self {
        // SAFETY: All zeros are a valid `msghdr`: no address, no slices, no control data.
        let message = Box::new(unsafe { std::mem::zeroed::<libc::msghdr>() });
        Self {
            fd,
            socket,
            outbox,
            slices: Vec::new(),
            message,
        }
    }

    /// The operation that sends what is left.
    pub(super) fn entry(&mut self) -> squeue::Entry {
        self.slices.clear();
        let slices = &mut self.slices;
        self.outbox.unsent(SLICES_MAX, |bytes| {
            slices.push(libc::iovec {
                iov_base: bytes.as_ptr().cast_mut().cast(),
                iov_len: bytes.len(),
            });
        });
        let flags = libc::MSG_NOSIGNAL | libc::MSG_WAITALL;
        if let [only] = self.slices.as_slice() {
            return opcode::Send::new(
                types::Fd(self.fd),
                only.iov_base.cast(),
                only.iov_len as u32,
            )
            .flags(flags)
            .build();
        }
        self.message.msg_iov = self.slices.as_mut_ptr();
        self.message.msg_iovlen = self.slices.len();
        opcode::SendMsg::new(types::Fd(self.fd), ptr::from_ref(&*self.message))
            .flags(flags.cast_unsigned())
            .build()
    }

    /// Notes that so many bytes have gone. Whether that was all.
    pub(super) fn advance(&mut self, bytes: usize) -> bool {
        self.outbox.advance(bytes)
    }

    pub(super) fn into_parts(self) -> (SocketKey, Box<Outbox>) {
        (self.socket, self.outbox)
    }
}

//! What wakes a shard: an eventfd that its ring, its mailbox and its own tasks signal.

use std::io;
use std::os::fd::{AsRawFd, FromRawFd as _, OwnedFd, RawFd};
use std::sync::Arc;

use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

/// A handle to signal or to wait on. Clones share the eventfd.
#[derive(Clone, Debug)]
pub struct Wake {
    fd: Arc<OwnedFd>,
}

impl Wake {
    /// Makes the eventfd.
    pub fn new() -> io::Result<Self> {
        // SAFETY: A system call without pointers.
        let fd = unsafe { libc::eventfd(0, libc::EFD_CLOEXEC | libc::EFD_NONBLOCK) };
        if fd < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: The descriptor has just been made and belongs to nobody else.
        let fd = unsafe { OwnedFd::from_raw_fd(fd) };
        Ok(Self { fd: Arc::new(fd) })
    }

    /// Wakes whoever waits. Signals add up: one wake-up may stand for many of them.
    pub fn signal(&self) {
        let one = 1_u64.to_ne_bytes();
        // SAFETY: The pointer is valid for the 8 bytes that an eventfd takes.
        let written = unsafe { libc::write(self.fd.as_raw_fd(), one.as_ptr().cast(), one.len()) };
        debug_assert_eq!(written, 8, "an eventfd is never full before 2^64 signals");
    }
}

/// Waits for signals, on a tokio runtime.
#[derive(Debug)]
pub struct Waiting {
    fd: AsyncFd<Wake>,
}

impl Wake {
    /// Starts to listen for signals.
    pub fn waiting(&self) -> io::Result<Waiting> {
        // SAFETY: The `Wake` that is handed over keeps its descriptor, always the same one, open for as long as it lives.
        let fd = unsafe { AsyncFd::register_with_interest(self.clone(), Interest::READABLE) }?;
        Ok(Waiting { fd })
    }
}

impl Waiting {
    /// Waits until a signal has come since the last one that was waited for.
    pub async fn signalled(&mut self) -> io::Result<()> {
        // The eventfd is never read: it is watched edge-triggered, and each signal is an edge.
        self.fd.readable().await?.clear_ready();
        Ok(())
    }
}

impl AsRawFd for Wake {
    fn as_raw_fd(&self) -> RawFd {
        self.fd.as_raw_fd()
    }
}

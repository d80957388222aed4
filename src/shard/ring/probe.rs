//! Whether this kernel, here and now, lets us have the rings that shards need; and if not, what to do about it.

use std::fs;
use std::io;

use io_uring::{IoUring, Probe, opcode};
use thiserror::Error;

use super::Ring;
use super::wake::Wake;

/// Why shards cannot run here.
#[derive(Debug, Error)]
pub enum ProbeError {
    /// The kernel has no io_uring.
    #[error("this kernel ({release}) has no io_uring: Linux 6.1 or newer is needed")]
    Missing {
        /// The kernel's release.
        release: String,
    },
    /// The kernel has it, but lacks a part.
    #[error("this kernel ({release}) lacks {feature}: Linux 6.1 or newer is needed")]
    TooOld {
        /// The kernel's release.
        release: String,
        /// What is lacking.
        feature: &'static str,
    },
    /// The administrator has switched it off.
    #[error(
        "io_uring is switched off on this machine (kernel.io_uring_disabled = {value}): set it to 0, or to 1 and let this process \
         belong to the group kernel.io_uring_group"
    )]
    Disabled {
        /// The setting's value.
        value: String,
    },
    /// Something forbids it.
    #[error(
        "io_uring is forbidden to this process, most likely by the seccomp profile of its container: use a profile that allows \
         io_uring_setup, io_uring_enter and io_uring_register"
    )]
    Forbidden,
    /// A limit on locked memory is in the way.
    #[error(
        "there is too little memory for the rings: raise the limit on locked memory (ulimit -l, LimitMEMLOCK) or the container's memory"
    )]
    NoMemory,
    /// Anything else.
    #[error("io_uring cannot be used: {0}")]
    Other(#[from] io::Error),
}

/// Makes a ring as a shard does, and throws it away.
pub fn probe() -> Result<(), ProbeError> {
    let uring = IoUring::new(8).map_err(explain)?;
    let mut operations = Probe::new();
    uring
        .submitter()
        .register_probe(&mut operations)
        .map_err(explain)?;
    let needed = [
        (opcode::Recv::CODE, "receiving"),
        (opcode::Send::CODE, "sending"),
        (opcode::SendMsg::CODE, "gathered sending"),
        (opcode::AsyncCancel::CODE, "cancelling"),
        (opcode::SendZc::CODE, "the operations of Linux 6.0"),
    ];
    for (code, feature) in needed {
        if !operations.is_supported(code) {
            return Err(ProbeError::TooOld {
                release: release(),
                feature,
            });
        }
    }
    // Deferred task work and buffer rings have no probe of their own: an older kernel refuses the flags.
    match Ring::new(&Wake::new()?) {
        Ok(_) => Ok(()),
        Err(error) if error.raw_os_error() == Some(libc::EINVAL) => Err(ProbeError::TooOld {
            release: release(),
            feature: "rings with deferred task work or provided buffers",
        }),
        Err(error) => Err(explain(error)),
    }
}

fn explain(error: io::Error) -> ProbeError {
    match error.raw_os_error() {
        Some(libc::ENOSYS) => ProbeError::Missing { release: release() },
        Some(libc::EPERM | libc::EACCES) => match setting("/proc/sys/kernel/io_uring_disabled") {
            Some(value) if value != "0" => ProbeError::Disabled { value },
            _ => ProbeError::Forbidden,
        },
        Some(libc::ENOMEM) => ProbeError::NoMemory,
        _ => ProbeError::Other(error),
    }
}

fn release() -> String {
    setting("/proc/sys/kernel/osrelease").unwrap_or_else(|| "unknown".to_owned())
}

fn setting(path: &str) -> Option<String> {
    Some(fs::read_to_string(path).ok()?.trim().to_owned())
}

//! No contestant at all: clients connect to the other side itself.
//!
//! The worker that listens as the backend of a WebSocket proxy is dialled without the proxy. Its round trip is what there is without any
//! service in between, so the difference is what a service adds.

use std::net::SocketAddr;

use super::Contestant;
use super::process::free_addresses;
use crate::error::LoadError;
use crate::job::{Target, Watched};

/// The bare connection.
#[derive(Debug)]
pub(crate) struct Direct {
    backend: SocketAddr,
}

impl Direct {
    /// Chooses where the worker will listen.
    pub(crate) fn new() -> Result<Self, LoadError> {
        let [backend] = free_addresses()?;
        Ok(Self { backend })
    }
}

impl Contestant for Direct {
    fn name(&self) -> &'static str {
        "direct"
    }

    fn target(&self) -> Target {
        Target::Hop {
            address: self.backend,
            backend: self.backend,
        }
    }

    fn watched(&self) -> Vec<Watched> {
        Vec::new()
    }

    fn resident_bytes(&self, _watched: &str) -> Result<u64, LoadError> {
        Ok(0)
    }
}

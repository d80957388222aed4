//! Who is measured: hubring, the floor beneath it, and its peers. Each is started as a process of its own on the cores that are measured,
//! and ends with its value.

pub(crate) mod direct;
pub(crate) mod floor;
pub(crate) mod guard;
pub(crate) mod haproxy;
pub(crate) mod kind;
pub(crate) mod nchan;
mod peer;
pub(crate) mod process;
pub(crate) mod pushpin;
pub(crate) mod sdk;
pub(crate) mod service;
pub(crate) mod tokio_relay;

use std::time::Duration;

use crate::error::LoadError;
use crate::job::{Target, Watched};
use crate::metrics::Metrics;

/// A running program that is measured.
pub(crate) trait Contestant {
    /// How it is called in tables: `hubring`, `floor`, `haproxy`, …
    fn name(&self) -> &'static str;

    /// How the workers talk to it.
    fn target(&self) -> Target;

    /// Whose CPU time is its price. The first of them is named `service`; others, such as `app server`, are shown beside it. Only
    /// [`SHARDS`](service::SHARDS) are a part of it.
    fn watched(&self) -> Vec<Watched>;

    /// Memory of the processes of the watched entry with this name (`Rss` of `smaps_rollup`).
    fn resident_bytes(&self, watched: &str) -> Result<u64, LoadError>;

    /// What it has counted so far, if it counts.
    fn metrics(&self) -> Result<Option<Metrics>, LoadError> {
        Ok(None)
    }

    /// How long it has to be under load until it is as fast as it will ever be.
    fn settling_time(&self) -> Duration {
        Duration::ZERO
    }

    /// Its version, for the report's head.
    fn version(&self) -> Option<String> {
        None
    }
}

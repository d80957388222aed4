//! What a shard is given by the service, and how it says that it cannot go on.

use std::io;
use std::net::TcpListener;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;

use super::Delivery;
use super::admission::gate::Gate;
use super::directory::Directory;
use super::mailbox::Postboxes;
use super::ring::wake::Wake;
use crate::counters::Counters;
use crate::id::ShardId;

/// What a shard shares with the rest of the service.
#[derive(Debug, Clone)]
pub struct Environment {
    /// Which shard it is.
    pub shard: ShardId,
    /// The core that its thread is pinned to, if any.
    pub core: Option<usize>,
    /// The way to all shards, itself included.
    pub postboxes: Postboxes<Delivery, Wake>,
    /// The hubs.
    pub directory: Arc<Directory>,
    /// What it counts.
    pub counters: Arc<Counters>,
    /// Who may come in.
    pub gate: Arc<Gate>,
    /// How long clients are kept whose server connection is lost, if they are.
    pub park_on_drop: Option<Duration>,
    /// Where it says that it could not go on.
    pub failed: mpsc::UnboundedSender<ShardError>,
}

/// Where a shard accepts connections.
#[derive(Debug)]
pub struct Listeners {
    /// Those of clients and app servers.
    pub service: TcpListener,
    /// Those of test suites of RFC 6455, on one shard at most: see [`crate::config::ServiceConfig::websocket_echo`].
    pub echo: Option<TcpListener>,
}

/// Why a shard could not go on.
#[derive(Debug, thiserror::Error)]
pub enum ShardError {
    /// Its runtime, data ring or wake-up could not be made.
    #[error("shard {shard} cannot start: {source}")]
    Start {
        /// Which.
        shard: ShardId,
        /// Why.
        source: io::Error,
    },
    /// The data ring failed.
    #[error("shard {shard} has lost its data ring: {source}")]
    Ring {
        /// Which.
        shard: ShardId,
        /// Why.
        source: io::Error,
    },
    /// The thread panicked.
    #[error("shard {0} has panicked")]
    Panic(ShardId),
}

/// Tells of a panic while it unwinds. Each task needs one: the runtime catches what unwinds out of a task.
#[derive(Clone, Debug)]
pub(super) struct PanicWatch {
    shard: ShardId,
    failed: mpsc::UnboundedSender<ShardError>,
}

impl PanicWatch {
    pub(super) fn new(environment: &Environment) -> Self {
        Self {
            shard: environment.shard,
            failed: environment.failed.clone(),
        }
    }

    /// Tells why the shard cannot go on. Nobody to tell means that nobody waits for the service any more.
    pub(super) fn report(&self, failure: ShardError) {
        let _ = self.failed.send(failure);
    }
}

impl Drop for PanicWatch {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.report(ShardError::Panic(self.shard));
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::task::LocalSet;

    use super::*;

    #[test]
    fn a_panic_that_the_runtime_catches_is_told_of() {
        let (failed, mut failures) = mpsc::unbounded_channel();
        let watch = PanicWatch {
            shard: ShardId(3),
            failed,
        };
        let runtime = tokio::runtime::Builder::new_current_thread()
            .build()
            .unwrap();
        runtime.block_on(LocalSet::new().run_until(async move {
            let in_order = watch.clone();
            let ends = tokio::task::spawn_local(async move { drop(in_order) });
            ends.await.unwrap();
            let task = tokio::task::spawn_local(async move {
                let _watch = watch;
                tokio::task::yield_now().await;
                panic!("as a test of the watch");
            });
            assert!(task.await.unwrap_err().is_panic());
        }));
        assert!(matches!(
            failures.try_recv(),
            Ok(ShardError::Panic(ShardId(3)))
        ));
        assert!(failures.try_recv().is_err(), "once is enough");
    }
}

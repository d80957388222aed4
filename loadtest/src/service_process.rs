//! The service under test: a process of its own, which ends with its owner.

use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use core_affinity::CoreId;
use hubring::protocol::connection_string::AccessKey;

use crate::error::LoadError;
use crate::metrics::{self, Metrics};
use crate::process_figures::{self, ThreadTimes};

/// Time until the service has to be healthy.
const START_TIMEOUT: Duration = Duration::from_secs(10);

/// Time between looks whether it is.
const HEALTH_INTERVAL: Duration = Duration::from_millis(10);

/// The service listens on loopback only, for a minute: it needs no secret.
const ACCESS_KEY: &str = "the key of a service that is only measured";

/// How the threads of the data plane are named. Linux cuts names after 15 bytes.
const SHARD_THREADS: &str = "hubring-shard-";

/// A running service with one shard. Dropping it kills it.
pub(crate) struct ServiceProcess {
    child: Child,
    listen: SocketAddr,
    admin: SocketAddr,
}

impl ServiceProcess {
    /// Starts the program at `path` on `service_core`, goes to `own_core` and waits until the service is healthy.
    pub(crate) fn start(
        path: &Path,
        service_core: usize,
        own_core: usize,
        stop: &AtomicBool,
    ) -> Result<Self, LoadError> {
        let [listen, admin] = free_addresses().map_err(LoadError::NoPort)?;
        // The process inherits the core, so that its other threads do not disturb us either.
        pin(service_core)?;
        let child = Command::new(path)
            .args(["serve", "--shards", "1", "--log", "warn"])
            .args(["--cores", &service_core.to_string()])
            .args(["--listen", &listen.to_string()])
            .args(["--admin", &admin.to_string()])
            .args(["--access-key", ACCESS_KEY])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .spawn();
        let child = child.map_err(|source| LoadError::StartService {
            path: path.to_owned(),
            source,
        })?;
        let mut service = Self {
            child,
            listen,
            admin,
        };
        pin(own_core)?;
        service.wait_until_healthy(stop)?;
        Ok(service)
    }

    /// Where clients and app servers connect.
    pub(crate) fn address(&self) -> SocketAddr {
        self.listen
    }

    /// The key that it accepts.
    pub(crate) fn access_key() -> Result<AccessKey, LoadError> {
        Ok(AccessKey::parse(ACCESS_KEY)?)
    }

    /// The times of its data plane so far.
    pub(crate) fn shard_times(&self) -> Result<ThreadTimes, LoadError> {
        process_figures::thread_times(&self.child.id().to_string(), SHARD_THREADS)
    }

    /// Memory that it holds at the moment.
    pub(crate) fn resident_bytes(&self) -> Result<u64, LoadError> {
        process_figures::resident_bytes(&self.child.id().to_string())
    }

    /// What it has counted so far.
    pub(crate) fn metrics(&self) -> Result<Metrics, LoadError> {
        metrics::read(self.admin)
    }

    fn wait_until_healthy(&mut self, stop: &AtomicBool) -> Result<(), LoadError> {
        let deadline = Instant::now() + START_TIMEOUT;
        while !metrics::is_healthy(self.admin) {
            if stop.load(Ordering::Relaxed) {
                return Err(LoadError::Interrupted);
            }
            if let Ok(Some(status)) = self.child.try_wait() {
                return Err(LoadError::ServiceEnded(status));
            }
            if Instant::now() > deadline {
                return Err(LoadError::ServiceNotHealthy(START_TIMEOUT.as_secs()));
            }
            std::thread::sleep(HEALTH_INTERVAL);
        }
        Ok(())
    }
}

impl Drop for ServiceProcess {
    fn drop(&mut self) {
        // It holds nothing that it would have to put away. If it has ended by itself there is nothing to kill.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn pin(core: usize) -> Result<(), LoadError> {
    if core_affinity::set_for_current(CoreId { id: core }) {
        Ok(())
    } else {
        Err(LoadError::NoSuchCore(core))
    }
}

/// Two ports that were free a moment ago.
fn free_addresses() -> std::io::Result<[SocketAddr; 2]> {
    let bind = || TcpListener::bind((Ipv4Addr::LOCALHOST, 0));
    let (first, second) = (bind()?, bind()?);
    Ok([first.local_addr()?, second.local_addr()?])
}

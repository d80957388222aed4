//! A service in this process, its counters, and the descriptors that it holds.

use std::fmt::Write as _;
use std::net::SocketAddr;
use std::num::NonZeroU16;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use hubring::config::ServiceConfig;
use hubring::counters::{Counter, Counters};
use hubring::id::HubName;
use hubring::inspector::Inspector;
use hubring::protocol::access_token::{Algorithm, Audience, TokenBuilder, UnixSeconds};
use hubring::service::Service;
use tokio::runtime::Runtime;

/// Longer than anything here may take.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);
const HUB: &str = "chat";

/// A running service with one hub.
pub(crate) struct Stage {
    runtime: Runtime,
    service: Option<Service>,
    inspector: Inspector,
    config: ServiceConfig,
    pub(crate) address: SocketAddr,
}

impl Stage {
    pub(crate) fn new(shards: u16) -> Self {
        Self::with(shards, |_| {})
    }

    pub(crate) fn with(shards: u16, change: impl FnOnce(&mut ServiceConfig)) -> Self {
        let mut config = ServiceConfig {
            listen: SocketAddr::from(([127, 0, 0, 1], 0)),
            admin: None,
            shards: NonZeroU16::new(shards),
            ..ServiceConfig::default()
        };
        change(&mut config);
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .unwrap();
        let service = runtime.block_on(Service::start(config.clone())).unwrap();
        Self {
            address: service.address(),
            inspector: service.inspector(),
            service: Some(service),
            runtime,
            config,
        }
    }

    /// The target and the token for a client's upgrade.
    pub(crate) fn client_request(&self) -> (String, String) {
        let hub = HubName::parse(HUB).unwrap();
        let audience = Audience::Client(&hub).text("http://localhost/");
        (format!("/client/?hub={HUB}"), self.sign(&audience))
    }

    /// The target and the token for a server connection's upgrade.
    pub(crate) fn server_request(&self, connection_id: &str) -> (String, String) {
        let hub = HubName::parse(HUB).unwrap();
        let audience = Audience::Server(&hub).text("http://localhost/");
        (
            format!("/server/?hub={HUB}&cid={connection_id}"),
            self.sign(&audience),
        )
    }

    /// A counter, over all shards.
    pub(crate) fn sum(&self, counter: impl Fn(&Counters) -> &Counter) -> u64 {
        let shards = self.inspector.counters();
        shards.iter().map(|shard| counter(shard).value()).sum()
    }

    /// Waits until a counter has this value.
    pub(crate) fn until(&self, what: &str, value: u64, counter: impl Fn(&Counters) -> &Counter) {
        until(&format!("{what} to be {value}"), || {
            self.sum(&counter) == value
        });
    }

    /// Stops the service, and says how long that took.
    pub(crate) fn drain(&mut self) -> Duration {
        let started = Instant::now();
        if let Some(service) = self.service.take() {
            self.runtime.block_on(service.drain()).unwrap();
        }
        started.elapsed()
    }

    /// Sockets that the service has open: its listeners and all connections.
    pub(crate) fn socket_count(&self) -> usize {
        let port = format!(":{:04X}", self.address.port());
        let table = std::fs::read_to_string("/proc/self/net/tcp").unwrap();
        let is_open = |row: &&str| {
            let fields: Vec<&str> = row.split_whitespace().collect();
            // Without an inode it is only the kernel that still knows it.
            fields[1].ends_with(&port) && fields[9] != "0"
        };
        table.lines().skip(1).filter(is_open).count()
    }

    fn sign(&self, audience: &str) -> String {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
        TokenBuilder::new()
            .life(
                UnixSeconds(now.as_secs().cast_signed()),
                Duration::from_hours(1),
                audience,
            )
            .sign(&self.config.access_keys[0], Algorithm::Hs256)
            .unwrap()
    }
}

impl Drop for Stage {
    fn drop(&mut self) {
        if std::thread::panicking() {
            // What the shards have counted often says more than the assertion.
            let mut text = String::new();
            for (shard, counters) in self.inspector.counters().iter().enumerate() {
                for (_, name, _, value) in counters.each().filter(|(.., value)| *value > 0) {
                    let _ = write!(text, " {name}={value}");
                }
                text = format!("shard {shard}:{text}\n");
            }
            eprintln!("{text}");
            // Its connections may hang: they are not waited for.
            self.service = None;
        } else {
            self.drain();
        }
    }
}

/// Waits until something is so.
///
/// # Panics
/// When it has not become so after [`PATIENCE`].
pub(crate) fn until(what: &str, mut is_so: impl FnMut() -> bool) {
    let started = Instant::now();
    while !is_so() {
        assert!(started.elapsed() < PATIENCE, "waited in vain for {what}");
        std::thread::sleep(Duration::from_millis(2));
    }
}

//! A service in this process, its counters, and the descriptors that it holds; or one in a process of its own, for load.

use std::fmt::Write as _;
use std::io::{BufRead as _, BufReader};
use std::net::SocketAddr;
use std::num::NonZeroU16;
use std::process::{Child, Command, Stdio};
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
    inspector: Option<Inspector>,
    process: Option<Child>,
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
        let runtime = runtime();
        let service = runtime.block_on(Service::start(config.clone())).unwrap();
        Self {
            address: service.address(),
            inspector: Some(service.inspector()),
            service: Some(service),
            process: None,
            runtime,
            config,
        }
    }

    /// A service in a process of its own, of the binary that `HUBRING_BIN` names if it names one. Its counters cannot be seen.
    pub(crate) fn of_process(shards: u16) -> Self {
        let binary = std::env::var("HUBRING_BIN")
            .unwrap_or_else(|_| env!("CARGO_BIN_EXE_hubring").to_owned());
        let mut process = Command::new(binary)
            .args(["serve", "--listen", "127.0.0.1:0", "--admin", "off"])
            .args(["--shards", &shards.to_string(), "--log", "warn"])
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(process.stdout.take().unwrap())
            .lines()
            .map_while(Result::ok);
        let port = lines
            .find_map(|line| {
                let (_, port) = line.split_once(";Port=")?;
                port.split(';').next()?.parse::<u16>().ok()
            })
            .expect("a connection string");
        // What else it prints must find a reader.
        std::thread::spawn(move || lines.for_each(drop));
        Self {
            address: SocketAddr::from(([127, 0, 0, 1], port)),
            inspector: None,
            service: None,
            process: Some(process),
            runtime: runtime(),
            config: ServiceConfig::default(),
        }
    }

    /// The target and the token for a client's upgrade.
    pub(crate) fn client_request(&self) -> (String, String) {
        self.client_request_with(&[])
    }

    /// The same with more claims in the token.
    pub(crate) fn client_request_with(&self, claims: &[(&str, &str)]) -> (String, String) {
        let hub = HubName::parse(HUB).unwrap();
        let audience = Audience::Client(&hub).text("http://localhost/");
        (format!("/client/?hub={HUB}"), self.sign(&audience, claims))
    }

    /// The target and the token for a server connection's upgrade.
    pub(crate) fn server_request(&self, connection_id: &str) -> (String, String) {
        let hub = HubName::parse(HUB).unwrap();
        let audience = Audience::Server(&hub).text("http://localhost/");
        (
            format!("/server/?hub={HUB}&cid={connection_id}"),
            self.sign(&audience, &[]),
        )
    }

    /// By shard: the ids of its server connections.
    pub(crate) fn server_connections(&self) -> Vec<Vec<String>> {
        let descriptions = self.runtime.block_on(self.inspector().describe()).unwrap();
        let ids = descriptions.into_iter().map(|shard| {
            let servers = shard.servers.into_iter();
            servers.map(|server| server.connection_id).collect()
        });
        ids.collect()
    }

    /// A counter, over all shards.
    pub(crate) fn sum(&self, counter: impl Fn(&Counters) -> &Counter) -> u64 {
        let shards = self.inspector().counters();
        shards.iter().map(|shard| counter(shard).value()).sum()
    }

    /// Waits until a counter has this value.
    pub(crate) fn until(&self, what: &str, value: u64, counter: impl Fn(&Counters) -> &Counter) {
        until(&format!("{what} to be {value}"), || {
            self.sum(&counter) == value
        });
    }

    /// The most memory that the service's own process has had at a time.
    pub(crate) fn peak_bytes(&self) -> usize {
        let process = self.process.as_ref().expect("a process of its own");
        let status = std::fs::read_to_string(format!("/proc/{}/status", process.id())).unwrap();
        let line = status.lines().find(|line| line.starts_with("VmHWM:"));
        let kibibytes = line.unwrap().split_whitespace().nth(1).unwrap();
        kibibytes.parse::<usize>().unwrap() * 1024
    }

    /// Stops the service, and says how long that took.
    pub(crate) fn drain(&mut self) -> Duration {
        let started = Instant::now();
        if let Some(service) = self.service.take() {
            self.runtime.block_on(service.drain()).unwrap();
        }
        started.elapsed()
    }

    /// Where messages are sent back, if the service was told to.
    pub(crate) fn echo_address(&self) -> SocketAddr {
        let service = self.service.as_ref().expect("a service in this process");
        service.echo_address().expect("an echo")
    }

    /// Sockets that the service has open: its listeners and all connections.
    pub(crate) fn socket_count(&self) -> usize {
        socket_count(self.address)
    }

    /// The same of the address on which messages are sent back.
    pub(crate) fn echo_socket_count(&self) -> usize {
        socket_count(self.echo_address())
    }

    fn inspector(&self) -> &Inspector {
        self.inspector.as_ref().expect("a service in this process")
    }

    fn sign(&self, audience: &str, claims: &[(&str, &str)]) -> String {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
        let builder = claims
            .iter()
            .fold(TokenBuilder::new(), |builder, (name, value)| {
                builder.claim(name, *value)
            });
        builder
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
        if let Some(process) = &mut self.process {
            let _ = process.kill();
            let _ = process.wait();
        }
        if std::thread::panicking() {
            // What the shards have counted often says more than the assertion.
            let mut text = String::new();
            let counters = self.inspector.as_ref().map(Inspector::counters);
            for (shard, counters) in counters.iter().flatten().enumerate() {
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

/// Open sockets of this process with this local address.
fn socket_count(address: SocketAddr) -> usize {
    let port = format!(":{:04X}", address.port());
    let table = std::fs::read_to_string("/proc/self/net/tcp").unwrap();
    let is_open = |row: &&str| {
        let fields: Vec<&str> = row.split_whitespace().collect();
        // Without an inode it is only the kernel that still knows it.
        fields[1].ends_with(&port) && fields[9] != "0"
    };
    table.lines().skip(1).filter(is_open).count()
}

fn runtime() -> Runtime {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .unwrap()
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

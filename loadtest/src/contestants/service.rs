//! hubring itself: started on cores of its own, or running already somewhere.

use std::net::{SocketAddr, ToSocketAddrs as _};
use std::path::Path;
use std::process::Command;
use std::sync::atomic::AtomicBool;

use hubring::protocol::connection_string::{AccessKey, ConnectionString};

use super::Contestant;
use super::process::{ProgramUnderTest, free_addresses};
use crate::error::LoadError;
use crate::job::{Target, Watched};
use crate::metrics::{self, Metrics};
use crate::process_figures;

/// It listens on loopback only, for a minute: it needs no secret.
pub(crate) const ACCESS_KEY: &str = "the key of a service that is only measured";

/// Under which name the threads of the data plane are shown, beside the whole service of which they are a part.
pub(crate) const SHARDS: &str = "shards";

/// How these threads are named. Linux cuts names after 15 bytes.
const SHARD_THREADS: &str = "hubring-shard-";

const HUB: &str = "loadtest";

const NAME: &str = "hubring";

/// A service of our own.
#[derive(Debug)]
pub(crate) struct Service {
    program: ProgramUnderTest,
    listen: SocketAddr,
    admin: SocketAddr,
    version: Option<String>,
}

impl Service {
    /// Starts the program at `path` and waits until it is healthy. Its shards share `cores` if these are fewer.
    pub(crate) fn start(
        path: &Path,
        shards: u32,
        cores: &[usize],
        own_cores: &[usize],
        stop: &AtomicBool,
    ) -> Result<Self, LoadError> {
        let [listen, admin] = free_addresses()?;
        // It takes the cores that it is started on: a list of cores among its arguments would have to have one for each shard.
        let mut command = Command::new(path);
        command
            .args(["serve", "--log", "warn"])
            .args(["--shards", &shards.to_string()])
            .args(["--listen", &listen.to_string()])
            .args(["--admin", &admin.to_string()])
            .args(["--access-key", ACCESS_KEY]);
        let mut program = ProgramUnderTest::start_on(&mut command, cores, own_cores)?;
        program.wait_until(stop, || metrics::is_healthy(admin))?;
        Ok(Self {
            program,
            listen,
            admin,
            version: version(path),
        })
    }
}

impl Contestant for Service {
    fn name(&self) -> &'static str {
        NAME
    }

    fn target(&self) -> Target {
        target(self.listen, self.listen.ip().to_string(), ACCESS_KEY)
    }

    fn watched(&self) -> Vec<Watched> {
        watched(self.program.id())
    }

    fn resident_bytes(&self, _watched: &str) -> Result<u64, LoadError> {
        process_figures::resident_bytes(&self.program.id().to_string())
    }

    fn metrics(&self) -> Result<Option<Metrics>, LoadError> {
        metrics::read(self.admin).map(Some)
    }

    fn version(&self) -> Option<String> {
        self.version.clone()
    }
}

/// A service that somebody else has started.
#[derive(Clone, Debug)]
pub(crate) struct AttachedService {
    address: SocketAddr,
    audience_host: String,
    access_key: AccessKey,
    admin: Option<SocketAddr>,
    process: Option<u32>,
}

impl AttachedService {
    /// Looks where it is. Counters come from `admin`, CPU time and memory from `process`, if they are known.
    pub(crate) fn find(
        connection_string: &str,
        admin: Option<SocketAddr>,
        process: Option<u32>,
    ) -> Result<Self, LoadError> {
        // What is wrong with it is not told: the words for that may quote the key, if a semicolon is missing.
        let connection_string =
            ConnectionString::parse(connection_string).map_err(|_| LoadError::ConnectionString)?;
        let endpoint = connection_string.client_endpoint();
        if endpoint.is_secure() {
            return Err(LoadError::TlsEndpoint(endpoint.url_base()));
        }
        let host = endpoint.host();
        let no_address = |source| LoadError::NoAddress {
            host: host.to_owned(),
            source,
        };
        let bare_host = host.trim_start_matches('[').trim_end_matches(']');
        let mut addresses = (bare_host, endpoint.port())
            .to_socket_addrs()
            .map_err(no_address)?;
        let address = addresses
            .next()
            .ok_or_else(|| no_address(std::io::ErrorKind::NotFound.into()))?;
        // The audience names the endpoint, whatever clients dial.
        let audience = connection_string.audience_base();
        let audience_host = audience
            .trim_start_matches("http://")
            .trim_start_matches("https://")
            .trim_end_matches('/');
        Ok(Self {
            address,
            audience_host: audience_host.to_owned(),
            access_key: connection_string.access_key().clone(),
            admin,
            process,
        })
    }
}

impl Contestant for AttachedService {
    fn name(&self) -> &'static str {
        NAME
    }

    fn target(&self) -> Target {
        target(
            self.address,
            self.audience_host.clone(),
            self.access_key.as_str(),
        )
    }

    fn watched(&self) -> Vec<Watched> {
        self.process.map(watched).unwrap_or_default()
    }

    fn resident_bytes(&self, _watched: &str) -> Result<u64, LoadError> {
        match self.process {
            Some(process) => process_figures::resident_bytes(&process.to_string()),
            None => Ok(0),
        }
    }

    fn metrics(&self) -> Result<Option<Metrics>, LoadError> {
        self.admin.map(metrics::read).transpose()
    }
}

/// How one talks to a service that clients find at `address`.
fn target(address: SocketAddr, audience_host: String, access_key: &str) -> Target {
    Target::Service {
        address,
        audience_host,
        hub: HUB.to_owned(),
        access_key: access_key.to_owned().into(),
        app_server_elsewhere: false,
        app_server: None,
    }
}

/// Its price is that of the whole process, as with everybody else: the control plane and the kernel's workers for `io_uring` work for
/// clients, too.
fn watched(process: u32) -> Vec<Watched> {
    let threads = [("service", ""), (SHARDS, SHARD_THREADS)];
    let watched = threads.map(|(name, threads)| Watched {
        name: name.to_owned(),
        processes: vec![process],
        threads: threads.to_owned(),
    });
    watched.into()
}

/// What the program says of itself, without its name.
fn version(path: &Path) -> Option<String> {
    let output = Command::new(path).arg("--version").output().ok()?;
    let text = String::from_utf8(output.stdout).ok()?;
    Some(text.split_whitespace().last()?.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_connection_string_says_where_to_attach() {
        let find = |text: &str| AttachedService::find(text, None, None);
        let service =
            find("Endpoint=http://127.0.0.1;Port=8888;AccessKey=a key that is long enough to be one;Version=1.0;")
                .unwrap();
        let Target::Service {
            address,
            audience_host,
            ..
        } = service.target()
        else {
            panic!("not a service");
        };
        assert_eq!(address.to_string(), "127.0.0.1:8888");
        assert_eq!(audience_host, "127.0.0.1");
        assert!(service.watched().is_empty());
        let attached = AttachedService {
            process: Some(1),
            ..service
        };
        let names = attached.watched().into_iter().map(|watched| watched.name);
        assert_eq!(names.collect::<Vec<_>>(), ["service", SHARDS]);
        let secure = find(
            "Endpoint=https://127.0.0.1;AccessKey=a key that is long enough to be one;Version=1.0;",
        );
        assert!(matches!(secure, Err(LoadError::TlsEndpoint(_))));
    }

    #[test]
    fn a_key_is_never_shown() {
        let key = "a key that nobody shall see";
        let find = |text: &str| AttachedService::find(text, None, None);
        let text = format!("Endpoint=http://127.0.0.1;Port=8888;AccessKey={key};Version=1.0;");
        let service = find(&text).unwrap();
        assert!(!format!("{service:?} {:?}", service.target()).contains(key));
        for malformed in [text.replace(";Port", "Port"), text.replace("8888;", "8888")] {
            let error = find(&malformed).unwrap_err();
            assert!(matches!(error, LoadError::ConnectionString));
            assert!(!format!("{error} {error:?}").contains(key));
        }
    }
}

//! The relay on tokio that comes with the benches: what one writes without `io_uring`. It is driven just as hubring is.

use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;
use std::sync::atomic::AtomicBool;

use super::Contestant;
use super::process::{ProgramUnderTest, accepts_connections, free_addresses};
use crate::error::LoadError;
use crate::job::{Target, Watched};
use crate::process_figures;

/// The file of the program, beside this one.
pub(crate) const PROGRAM: &str = "hubring-tokio-relay";

/// It listens on loopback only, for a minute: it needs no secret.
const ACCESS_KEY: &str = "the key of a relay that is only measured";

const HUB: &str = "loadtest";

/// A running relay.
#[derive(Debug)]
pub(crate) struct TokioRelay {
    program: ProgramUnderTest,
    address: SocketAddr,
}

impl TokioRelay {
    /// Starts the program at `path` and waits until it listens.
    pub(crate) fn start(
        path: &Path,
        core: usize,
        own_core: usize,
        stop: &AtomicBool,
    ) -> Result<Self, LoadError> {
        let [address] = free_addresses()?;
        let mut command = Command::new(path);
        command
            .args(["--listen", &address.to_string()])
            .args(["--access-key", ACCESS_KEY]);
        let mut program = ProgramUnderTest::start(&mut command, core, own_core)?;
        program.wait_until(stop, || accepts_connections(address))?;
        Ok(Self { program, address })
    }
}

impl Contestant for TokioRelay {
    fn name(&self) -> &'static str {
        "tokio-relay"
    }

    fn target(&self) -> Target {
        Target::Service {
            address: self.address,
            audience_host: self.address.ip().to_string(),
            hub: HUB.to_owned(),
            access_key: ACCESS_KEY.to_owned().into(),
            app_server_elsewhere: false,
            app_server: None,
        }
    }

    fn watched(&self) -> Vec<Watched> {
        vec![Watched {
            name: "service".to_owned(),
            processes: vec![self.program.id()],
            threads: String::new(),
        }]
    }

    fn resident_bytes(&self, _watched: &str) -> Result<u64, LoadError> {
        process_figures::resident_bytes(&self.program.id().to_string())
    }

    /// What it is made of does not change without us.
    fn version(&self) -> Option<String> {
        Some(env!("CARGO_PKG_VERSION").to_owned())
    }
}

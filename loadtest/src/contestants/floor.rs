//! The floor: a raw relay that has hubring's sockets and bytes and nothing else of it. What hubring costs is read against its price.

use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;
use std::sync::atomic::AtomicBool;

use super::Contestant;
use super::process::{ProgramUnderTest, accepts_connections, free_addresses};
use crate::error::LoadError;
use crate::job::{Target, Watched};
use crate::process_figures;
use crate::worker::floor_records::FloorRecords;

/// A running floor.
#[derive(Debug)]
pub(crate) struct Floor {
    program: ProgramUnderTest,
    clients: SocketAddr,
    servers: SocketAddr,
}

impl Floor {
    /// Starts the program at `path` and waits until it accepts connections. It relays records of these sizes only.
    pub(crate) fn start(
        path: &Path,
        records: FloorRecords,
        core: usize,
        own_core: usize,
        stop: &AtomicBool,
    ) -> Result<Self, LoadError> {
        let [clients, servers] = free_addresses()?;
        let mut command = Command::new(path);
        command
            .args(["--clients-listen", &clients.to_string()])
            .args(["--servers-listen", &servers.to_string()])
            .args(["--client-frame", &records.client_frame.to_string()])
            .args(["--server-record", &records.server_record.to_string()])
            .args(["--answer-record", &records.answer_record.to_string()])
            .args(["--client-message", &records.client_message.to_string()]);
        let mut program = ProgramUnderTest::start(&mut command, core, own_core)?;
        // It listens there last. A client that only looked would be counted among the clients.
        program.wait_until(stop, || accepts_connections(servers))?;
        Ok(Self {
            program,
            clients,
            servers,
        })
    }
}

impl Contestant for Floor {
    fn name(&self) -> &'static str {
        "floor"
    }

    fn target(&self) -> Target {
        Target::Floor {
            clients: self.clients,
            servers: self.servers,
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
}

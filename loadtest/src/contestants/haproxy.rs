//! `HAProxy` as a bare hop: it takes a client's WebSocket, opens one of its own to the backend, and relays what comes on either.

use std::net::SocketAddr;
use std::process::Command;
use std::sync::atomic::AtomicBool;

use super::Contestant;
use super::peer::{self, Peer, PrivateDirectory};
use super::process::{ProgramUnderTest, accepts_connections, free_addresses};
use crate::error::LoadError;
use crate::job::Target;

/// Descriptors that it needs beside those of the connections: listener and poller.
const OWN_DESCRIPTORS: u64 = 100;

/// Starts it and waits until it accepts. The backend may come later.
pub(crate) fn start(
    core: usize,
    own_core: usize,
    stop: &AtomicBool,
) -> Result<impl Contestant + use<>, LoadError> {
    let program = peer::find("haproxy")?;
    let [address, backend] = free_addresses()?;
    let directory = PrivateDirectory::new()?;
    let configuration = configuration(address, backend, peer::descriptors());
    let file = directory.write("haproxy.cfg", &configuration)?;
    let mut command = Command::new(&program);
    command.arg("-db").arg("-f").arg(file);
    let mut haproxy = ProgramUnderTest::start(&mut command, core, own_core)?;
    haproxy.wait_until(stop, || accepts_connections(address))?;
    Ok(Peer {
        name: "haproxy",
        target: Target::Hop { address, backend },
        version: peer::version(Command::new(program).arg("-v")),
        programs: vec![haproxy],
        directory,
    })
}

fn configuration(address: SocketAddr, backend: SocketAddr, descriptors: u64) -> String {
    // A connection has two sides.
    let connections = descriptors.saturating_sub(OWN_DESCRIPTORS) / 2;
    format!(
        "\
global
    # It has one core.
    nbthread 1
    # It would take any number of connections, but has only so many descriptors.
    maxconn {connections}
    # What a connection holds while it relays: several of our messages at once.
    tune.bufsize 16384
    # Splicing pays for what is larger than a buffer, and its pipes would take descriptors from the connections.
    nosplice

defaults
    # Bytes pass as they come. Reading the request would cost memory for each connection, and reading on behind it CPU for each message.
    mode tcp
    # A machine with one core may be busy for a while when all clients come at once.
    timeout connect 10s
    # Clients may be silent while others are measured.
    timeout client 1h
    timeout server 1h

listen hop
    bind {address} backlog 4096
    server backend {backend}
"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn haproxy_accepts_its_configuration() {
        let Ok(program) = peer::find("haproxy") else {
            eprintln!("skipped: haproxy is not installed");
            return;
        };
        let [address, backend] = free_addresses().unwrap();
        let directory = PrivateDirectory::new().unwrap();
        let text = configuration(address, backend, peer::descriptors());
        let file = directory.write("haproxy.cfg", &text).unwrap();
        let output = Command::new(program).arg("-c").arg("-f").arg(file).output();
        let output = output.unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{said}");
        assert!(!said.contains("WARNING"), "{said}");
    }
}

//! A peer to measure hubring against: a relay that does the service's core job as one writes it without `io_uring`, on tokio and
//! tokio-tungstenite. `hubring-tokio-relay --help`.
//!
//! What it does: server connections and clients come in on one port with signed access tokens; each client is bound to the server
//! connection that has the fewest; bytes flow both ways; sends go to all clients, to a group, to users and to connections; groups are joined
//! and left, with and without acks. What it does not do: negotiate (clients come with a token), transports other than WebSockets,
//! migration, client results, more than one core. So it has less to look after than the service, never more.
//!
//! It is meant to be good at what it does. Messages are decoded with the service's own decoder and never copied on their way through;
//! a fan-out shares one payload between all receivers; a task that wakes up sends everything that waits for its socket in one go.
//!
//! | | |
//! |---|---|
//! | `relay` | the port: upgrades and access tokens |
//! | `client`, `server` | the task of a client and of a server connection |
//! | `hub` | who is there, who belongs to whom, and what a service message does |
//!
//! All tasks run on one thread, so that what they share needs neither locks nor atomics: on one core that is the fastest runtime which
//! tokio has, for a worker thread would only add hand-overs.
//!
//! Bounds: every queue has a fixed length. A client waits for a full queue of its server connection; a server connection waits for nobody,
//! and a client whose queue is full is dropped.

#![forbid(unsafe_code)]

mod client;
mod hub;
mod relay;
mod server;
#[cfg(test)]
mod tests;

use std::net::SocketAddr;
use std::process::ExitCode;

use clap::Parser;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::net::TcpListener;
use tokio::runtime::{Builder, LocalOptions};

use self::relay::{Relay, RelayError};

/// Relays between clients and app servers that speak Azure SignalR's service protocol, on tokio, to compare hubring with.
#[derive(Debug, Parser)]
#[command(version)]
struct Cli {
    /// Where clients and app servers connect.
    #[arg(long, default_value = "127.0.0.1:8888")]
    listen: SocketAddr,
    /// The key that access tokens are signed with.
    #[arg(long)]
    access_key: String,
}

fn main() -> ExitCode {
    match run(&Cli::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("hubring-tokio-relay: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(cli: &Cli) -> Result<(), RelayError> {
    raise_descriptor_limit();
    let relay = Relay::new(&cli.access_key)?;
    let runtime = Builder::new_current_thread()
        .enable_all()
        .build_local(LocalOptions::default())?;
    runtime.block_on(async {
        let listener = TcpListener::bind(cli.listen).await?;
        tokio::select! {
            () = relay.serve(listener) => Ok(()),
            interrupted = tokio::signal::ctrl_c() => Ok(interrupted?),
        }
    })
}

/// As many descriptors as this process may have: each client takes one, and programs start with a limit that is lower than need be.
fn raise_descriptor_limit() {
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit {
        current: limit.maximum,
        maximum: limit.maximum,
    };
    // If it cannot be raised, connections beyond it wait.
    let _ = setrlimit(Resource::Nofile, raised);
}

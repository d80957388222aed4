//! The command line.

use std::num::NonZeroU32;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand};
use serde::Serialize;

use crate::payload::PAYLOAD_BYTES_MIN;

/// Measures what a message costs a hubring service.
///
/// Starts a service for each run, with one shard pinned to one core, and plays its clients and its app server on another core. CPU
/// times are those of the service's shard thread. Rates mean something only where that thread was busy all the time.
#[derive(Debug, Parser)]
#[command(name = "hubring-loadtest", version, max_term_width = 100)]
pub(crate) struct Cli {
    /// What to measure.
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Clients send, the app server sends back to the same client; each waits for its echo
    Echo {
        /// Messages that each client has under way
        #[arg(long, value_name = "N", default_value = "1")]
        depth: NonZeroU32,
        #[command(flatten)]
        args: RunArgs,
    },
    /// The app server sends to all clients, and again when all of them have received it
    Broadcast {
        /// Messages sent at once
        #[arg(long, value_name = "N", default_value = "1")]
        burst: NonZeroU32,
        #[command(flatten)]
        args: RunArgs,
    },
}

impl Command {
    /// What flows, and everything else.
    pub(crate) fn parts(&self) -> (Scenario, &RunArgs) {
        match self {
            Self::Echo { depth, args } => (Scenario::Echo { depth: depth.get() }, args),
            Self::Broadcast { burst, args } => (Scenario::Broadcast { burst: burst.get() }, args),
        }
    }
}

/// What flows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "scenario", rename_all = "lowercase")]
pub(crate) enum Scenario {
    /// From each client to the app server and back.
    Echo {
        /// Messages of each client under way.
        depth: u32,
    },
    /// From the app server to every client.
    Broadcast {
        /// Messages sent at once.
        burst: u32,
    },
}

impl Scenario {
    /// What is counted.
    pub(crate) fn unit(self) -> &'static str {
        match self {
            Self::Echo { .. } => "echo",
            Self::Broadcast { .. } => "delivery",
        }
    }
}

#[derive(Debug, Args, Serialize)]
pub(crate) struct RunArgs {
    /// Client connections
    #[arg(long, value_name = "N", default_value_t = 1000, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pub(crate) clients: u32,
    /// Bytes of a message, with the byte that ends it
    #[arg(long, value_name = "BYTES", default_value_t = 2048, value_parser = clap::value_parser!(u32).range(PAYLOAD_BYTES_MIN..=1 << 20))]
    pub(crate) size: u32,
    /// Server connections
    #[arg(long, value_name = "N", default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub(crate) server_connections: u32,
    /// Time that is measured in each run
    #[arg(long, value_name = "N", default_value_t = 10, value_parser = clap::value_parser!(u64).range(1..=3600))]
    pub(crate) seconds: u64,
    /// Time before that
    #[arg(long, value_name = "SECONDS", default_value_t = 2, value_parser = clap::value_parser!(u64).range(0..=600))]
    pub(crate) warm_up: u64,
    /// Runs, each with a service of its own
    #[arg(long, value_name = "N", default_value = "5")]
    pub(crate) runs: NonZeroU32,
    /// The service's program [default: hubring beside this program]
    #[arg(long, value_name = "PATH")]
    #[serde(skip)]
    pub(crate) service: Option<PathBuf>,
    /// Core for the service
    #[arg(long, value_name = "CORE", default_value_t = 0)]
    pub(crate) service_core: usize,
    /// Core for clients and app server
    #[arg(long, value_name = "CORE", default_value_t = 1)]
    pub(crate) own_core: usize,
    /// Print one JSON object instead of a table
    #[arg(long)]
    #[serde(skip)]
    pub(crate) json: bool,
}

impl RunArgs {
    pub(crate) fn measured(&self) -> Duration {
        Duration::from_secs(self.seconds)
    }

    pub(crate) fn warm_up(&self) -> Duration {
        Duration::from_secs(self.warm_up)
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn the_defaults_are_those_of_the_reference_figures() {
        let cli = Cli::try_parse_from(["hubring-loadtest", "echo"]).unwrap();
        let (scenario, args) = cli.command.parts();
        assert_eq!(scenario, Scenario::Echo { depth: 1 });
        assert_eq!(
            (args.clients, args.size, args.server_connections),
            (1000, 2048, 5)
        );
    }

    #[test]
    fn what_cannot_be_measured_is_refused() {
        for args in [
            ["broadcast", "--burst", "0"],
            ["echo", "--size", "8"],
            ["echo", "--clients", "0"],
            ["echo", "--runs", "0"],
        ] {
            assert!(Cli::try_parse_from(["hubring-loadtest"].iter().chain(&args)).is_err());
        }
    }
}

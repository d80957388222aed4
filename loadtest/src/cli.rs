//! The command line.

use std::ffi::OsString;
use std::net::SocketAddr;
use std::num::NonZeroU32;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand, ValueEnum};
use hubring::config::CoreList;

use crate::contestants::kind::ContestantKind;
use crate::coordinator::rows;
use crate::coordinator::scenario::{Scenario, Timing};
use crate::job::{HubProtocol, Load, Pacing, Secret};
use crate::worker::payload::PAYLOAD_BYTES_MIN;

/// Deliveries of sends that are under way unless something else is asked for: enough to keep a core busy.
const SENDS_UNDER_WAY: u32 = 512;

/// Measures what a message costs a hubring service.
///
/// It starts a service on a core of its own, or attaches to one that runs, and plays its clients and its app server on another core.
/// Figures are CPU time of the service per message, because that means the same on a machine that is too small or too noisy to keep
/// the service busy; rates are messages for each second of that CPU time.
#[derive(Debug, Parser)]
#[command(name = "hubring-loadtest", version, max_term_width = 100)]
pub(crate) struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Measure one scenario
    Run {
        /// What flows
        #[command(subcommand)]
        scenario: ScenarioCommand,
    },
    /// Measure every row of the table, with the floor and the peers beside it
    Table(TableArgs),
    /// Say where two results differ beyond noise; fails where the files cannot be read
    Compare {
        /// Result of `table --json` or `run --json`, the older one
        before: PathBuf,
        /// The newer one
        after: PathBuf,
        /// End with exit code 1 if a row has become worse
        #[arg(long)]
        fail_on_worse: bool,
    },
    /// Print a result again, or draw it
    Report {
        /// Result of `table --json` or `run --json`
        result: PathBuf,
        /// Write a page with plots instead of printing the table
        #[arg(long, value_name = "FILE")]
        html: Option<PathBuf>,
    },
    /// Play clients as told on standard input
    #[command(hide = true)]
    Worker,
    /// Become a program that ends with the process that has started this one
    #[command(hide = true)]
    Guard {
        /// That process
        owner: u32,
        /// The program and its arguments
        #[arg(required = true, trailing_var_arg = true, allow_hyphen_values = true)]
        command: Vec<OsString>,
    },
}

/// The scenarios. Their names and shapes are those of the performance guide of Azure SignalR Service, as far as that has them.
#[derive(Debug, Subcommand)]
pub(crate) enum ScenarioCommand {
    /// Clients send, the app server sends back to the same client
    Echo {
        /// Messages that each client has under way
        #[arg(long, value_name = "N", default_value = "1", conflicts_with = "rate")]
        depth: NonZeroU32,
        /// Messages a second, at their times whatever becomes of earlier ones
        #[arg(long, value_name = "PER_SECOND")]
        rate: Option<NonZeroU32>,
        #[command(flatten)]
        args: RunArgs,
    },
    /// The app server sends to all clients
    Broadcast {
        /// Messages sent at once
        #[arg(long, value_name = "N", default_value = "1")]
        burst: NonZeroU32,
        /// Part of a burst that may still be on its way when the next one is sent
        #[arg(long, value_name = "PERCENT", default_value_t = 0, value_parser = clap::value_parser!(u32).range(0..=90))]
        overlap: u32,
        #[command(flatten)]
        args: RunArgs,
    },
    /// The app server sends to one client after the other, by connection id
    SendToConnection {
        #[command(flatten)]
        pace: SendPace,
        #[command(flatten)]
        args: RunArgs,
    },
    /// The app server sends to one user after the other; each client is a user
    SendToUser {
        #[command(flatten)]
        pace: SendPace,
        #[command(flatten)]
        args: RunArgs,
    },
    /// The app server sends to one group of few clients after the other
    SmallGroups {
        #[command(flatten)]
        groups: GroupArgs<10>,
        #[command(flatten)]
        args: RunArgs,
    },
    /// The app server sends to one group of many clients after the other
    BigGroups {
        #[command(flatten)]
        groups: GroupArgs<100>,
        #[command(flatten)]
        args: RunArgs,
    },
    /// The app server joins clients to groups and takes them out again
    JoinLeave {
        /// Groups that there are
        #[arg(long, value_name = "N", default_value = "1000")]
        groups: NonZeroU32,
        #[command(flatten)]
        pace: SendPace,
        #[command(flatten)]
        args: RunArgs,
    },
    /// Clients connect, enter their hub and leave again; each of --clients is one that does so over and over
    Connect {
        #[command(flatten)]
        args: RunArgs,
    },
    /// All clients lose their connection at the same time and connect again
    Reconnect {
        /// Let the app server die, which closes the clients, instead of breaking their connections
        #[arg(long)]
        kill_app_server: bool,
        #[command(flatten)]
        args: RunArgs,
    },
    /// Clients are there and say nothing: memory and CPU time of each
    Idle {
        #[command(flatten)]
        args: RunArgs,
    },
    /// The app server sends to all clients while some of them do not read
    SlowConsumers {
        /// Clients that do not read
        #[arg(long, value_name = "N", default_value = "10")]
        stalled: NonZeroU32,
        /// Broadcasts a second
        #[arg(long, value_name = "PER_SECOND", default_value = "20")]
        rate: NonZeroU32,
        #[command(flatten)]
        args: RunArgs,
    },
    /// Echoes, broadcasts, sends to users and groups, joins and leaves together
    Mixed {
        /// Calls a second
        #[arg(long, value_name = "PER_SECOND", default_value = "5000")]
        rate: NonZeroU32,
        #[command(flatten)]
        args: RunArgs,
    },
}

/// How the app server paces what it sends.
#[derive(Clone, Copy, Debug, Args)]
pub(crate) struct SendPace {
    /// Sends under way [default: as many as make 512 deliveries]
    #[arg(long, value_name = "N", conflicts_with = "rate")]
    depth: Option<NonZeroU32>,
    /// Sends a second, at their times whatever becomes of earlier ones
    #[arg(long, value_name = "PER_SECOND")]
    rate: Option<NonZeroU32>,
}

#[derive(Clone, Copy, Debug, Args)]
pub(crate) struct GroupArgs<const MEMBERS: u32> {
    /// Clients in a group
    #[arg(long, value_name = "N", default_value_t = MEMBERS, value_parser = clap::value_parser!(u32).range(1..))]
    members: u32,
    /// Further groups that each client is in, to which nothing is sent
    #[arg(long, value_name = "N", default_value_t = 0)]
    idle_groups: u32,
    #[command(flatten)]
    pace: SendPace,
}

/// What all scenarios can be given.
#[derive(Debug, Args)]
pub(crate) struct RunArgs {
    /// Client connections [default: 1000; connect: 64; idle and reconnect: 10000]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub(crate) clients: Option<u32>,
    /// Bytes of a message, with the byte that ends it
    #[arg(long, value_name = "BYTES", default_value_t = 2048, value_parser = clap::value_parser!(u32).range(i64::from(PAYLOAD_BYTES_MIN)..=1 << 20))]
    pub(crate) size: u32,
    /// Server connections
    #[arg(long, value_name = "N", default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub(crate) server_connections: u32,
    /// Language of the clients
    #[arg(long, value_name = "NAME", value_enum, default_value = "json")]
    pub(crate) hub_protocol: HubProtocol,
    /// Time before each window in which nothing is counted, in seconds
    #[arg(long, value_name = "SECONDS", default_value = "1", value_parser = parse_seconds)]
    pub(crate) warm_up: Duration,
    /// Time of one window, in seconds
    #[arg(long, value_name = "SECONDS", default_value = "2", value_parser = parse_seconds)]
    pub(crate) window: Duration,
    /// Windows of each contestant, taken in turn; storms for reconnect
    #[arg(long, value_name = "N", default_value = "5")]
    pub(crate) windows: NonZeroU32,
    /// Measure the same relay without protocol beside it, where that is possible
    #[arg(long)]
    pub(crate) floor: bool,
    /// Peers to measure beside it: `none`, `all` that can do it, or names between commas
    #[arg(long, value_name = "LIST", default_value = "none", value_parser = parse_peers)]
    pub(crate) peers: Peers,
    #[command(flatten)]
    pub(crate) attach: AttachArgs,
    #[command(flatten)]
    pub(crate) placement: PlacementArgs,
    #[command(flatten)]
    pub(crate) output: OutputArgs,
}

/// A service that runs already.
#[derive(Debug, Args)]
#[command(next_help_heading = "A service that runs already")]
pub(crate) struct AttachArgs {
    /// Attach to the service with this connection string instead of starting one. Others on this machine can see what is given here:
    /// better set the variable
    #[arg(
        long,
        value_name = "STRING",
        env = "HUBRING_CONNECTION_STRING",
        hide_env_values = true,
        conflicts_with_all = ["service", "shards"]
    )]
    pub(crate) connection_string: Option<Secret>,
    /// Its admin port, to read its counters
    #[arg(long, value_name = "ADDR", requires = "connection_string")]
    pub(crate) admin: Option<SocketAddr>,
    /// Its process on this machine, to read its CPU time and memory
    #[arg(long, value_name = "PID", requires = "connection_string")]
    pub(crate) service_pid: Option<u32>,
}

/// Where everything runs.
#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "Where it runs")]
pub(crate) struct PlacementArgs {
    /// Shards of the service [default: one for each of its cores]
    #[arg(long, value_name = "N")]
    pub(crate) shards: Option<NonZeroU32>,
    /// Cores of the service, such as 0-3,8 [default: the first one that may be used]
    #[arg(long, value_name = "LIST")]
    pub(crate) service_cores: Option<CoreList>,
    /// Cores of clients and app server [default: the first one that may be used and is not the service's]
    #[arg(long, value_name = "LIST")]
    pub(crate) own_cores: Option<CoreList>,
    /// Processes that play the clients [default: one for each own core, and as many as descriptors demand]. The first of several plays
    /// the app server instead, with all server connections, in one thread: that core is the limit
    #[arg(long, value_name = "N")]
    pub(crate) processes: Option<NonZeroU32>,
    /// The service's program [default: hubring beside this program]
    #[arg(long, value_name = "PATH")]
    pub(crate) service: Option<PathBuf>,
}

#[derive(Debug, Args)]
#[command(next_help_heading = "Output")]
pub(crate) struct OutputArgs {
    /// Write everything that was measured
    #[arg(long, value_name = "FILE")]
    pub(crate) json: Option<PathBuf>,
    /// Write a page with plots
    #[arg(long, value_name = "FILE")]
    pub(crate) html: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub(crate) struct TableArgs {
    /// Take 3 minutes at most instead of 15
    #[arg(long)]
    pub(crate) quick: bool,
    /// Only these rows, by their keys; their neighbours in the same measurement come for nothing
    #[arg(long, value_name = "KEYS", value_delimiter = ',', value_parser = parse_row)]
    pub(crate) rows: Vec<String>,
    /// Leave the peers out
    #[arg(long)]
    pub(crate) no_peers: bool,
    #[command(flatten)]
    pub(crate) placement: PlacementArgs,
    #[command(flatten)]
    pub(crate) output: OutputArgs,
}

/// Which peers are asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Peers {
    /// All that can play the scenario.
    All,
    /// These. None of them means none.
    Named(Vec<ContestantKind>),
}

impl ScenarioCommand {
    /// How it is called.
    pub(crate) fn name(&self) -> &'static str {
        match self {
            Self::Echo { .. } => "echo",
            Self::Broadcast { .. } => "broadcast",
            Self::SendToConnection { .. } => "send-to-connection",
            Self::SendToUser { .. } => "send-to-user",
            Self::SmallGroups { .. } => "small-groups",
            Self::BigGroups { .. } => "big-groups",
            Self::JoinLeave { .. } => "join-leave",
            Self::Connect { .. } => "connect",
            Self::Reconnect { .. } => "reconnect",
            Self::Idle { .. } => "idle",
            Self::SlowConsumers { .. } => "slow-consumers",
            Self::Mixed { .. } => "mixed",
        }
    }

    pub(crate) fn args(&self) -> &RunArgs {
        match self {
            Self::Echo { args, .. }
            | Self::Broadcast { args, .. }
            | Self::SendToConnection { args, .. }
            | Self::SendToUser { args, .. }
            | Self::SmallGroups { args, .. }
            | Self::BigGroups { args, .. }
            | Self::JoinLeave { args, .. }
            | Self::Connect { args }
            | Self::Reconnect { args, .. }
            | Self::Idle { args }
            | Self::SlowConsumers { args, .. }
            | Self::Mixed { args, .. } => args,
        }
    }

    /// What is to be measured.
    pub(crate) fn scenario(&self) -> Scenario {
        let args = self.args();
        let clients = args.clients.unwrap_or(match self {
            Self::Connect { .. } => 64,
            Self::Idle { .. } | Self::Reconnect { .. } => 10_000,
            Self::Echo { .. }
            | Self::Broadcast { .. }
            | Self::SendToConnection { .. }
            | Self::SendToUser { .. }
            | Self::SmallGroups { .. }
            | Self::BigGroups { .. }
            | Self::JoinLeave { .. }
            | Self::SlowConsumers { .. }
            | Self::Mixed { .. } => 1000,
        });
        Scenario {
            load: self.load(clients),
            clients,
            payload_bytes: args.size,
            server_connections: args.server_connections,
            shards: args.placement.shards(),
            hub_protocol: args.hub_protocol,
        }
    }

    fn load(&self, clients: u32) -> Load {
        match self {
            Self::Echo { depth, rate, .. } => Load::Echo {
                pacing: rate.map_or(Pacing::Closed { depth: depth.get() }, open),
            },
            Self::Broadcast { burst, overlap, .. } => Load::Broadcast {
                burst: burst.get(),
                overlap_percent: *overlap,
            },
            Self::SendToConnection { pace, .. } => Load::SendToConnection {
                pacing: pace.pacing(1),
            },
            Self::SendToUser { pace, .. } => Load::SendToUser {
                pacing: pace.pacing(1),
            },
            Self::SmallGroups { groups, .. } => groups.load(),
            Self::BigGroups { groups, .. } => groups.load(),
            Self::JoinLeave { groups, pace, .. } => Load::Membership {
                groups: groups.get(),
                pacing: pace.pacing(1),
            },
            Self::Connect { .. } => Load::Connect { at_once: clients },
            Self::Reconnect {
                kill_app_server, ..
            } => Load::Reconnect {
                app_server_dies: *kill_app_server,
            },
            Self::Idle { .. } => Load::Idle,
            Self::SlowConsumers { stalled, rate, .. } => Load::SlowConsumers {
                stalled: stalled.get(),
                per_second: rate.get(),
            },
            Self::Mixed { rate, .. } => Load::Mixed {
                per_second: rate.get(),
            },
        }
    }
}

impl SendPace {
    fn pacing(self, deliveries_of_each: u32) -> Pacing {
        let usual = SENDS_UNDER_WAY.div_ceil(deliveries_of_each);
        let depth = self.depth.map_or(usual, NonZeroU32::get);
        self.rate.map_or(Pacing::Closed { depth }, open)
    }
}

impl<const MEMBERS: u32> GroupArgs<MEMBERS> {
    fn load(&self) -> Load {
        Load::SendToGroup {
            group_members: self.members,
            idle_groups: self.idle_groups,
            pacing: self.pace.pacing(self.members),
        }
    }
}

impl RunArgs {
    pub(crate) fn timing(&self) -> Timing {
        Timing {
            first_warm_up: self.warm_up,
            warm_up: self.warm_up,
            window: self.window,
            rounds: self.windows.get(),
        }
    }
}

impl PlacementArgs {
    /// How many shards the service has.
    pub(crate) fn shards(&self) -> u32 {
        let cores = self.service_cores.as_ref();
        let cores = cores.map_or(1, |cores| cores.indexes().len());
        self.shards
            .map_or_else(|| u32::try_from(cores).unwrap_or(u32::MAX), NonZeroU32::get)
    }
}

fn open(rate: NonZeroU32) -> Pacing {
    Pacing::Open {
        per_second: rate.get(),
    }
}

fn parse_seconds(text: &str) -> Result<Duration, String> {
    let seconds: f64 = text
        .parse()
        .map_err(|_| "not a number of seconds".to_owned())?;
    if (0.0..=3600.0).contains(&seconds) {
        Ok(Duration::from_secs_f64(seconds))
    } else {
        Err("not between 0 and 3600 seconds".to_owned())
    }
}

fn parse_peers(text: &str) -> Result<Peers, String> {
    match text {
        "none" => Ok(Peers::Named(Vec::new())),
        "all" => Ok(Peers::All),
        names => {
            let peers = names
                .split(',')
                .map(|name| ContestantKind::from_str(name.trim(), false));
            peers.collect::<Result<_, _>>().map(Peers::Named)
        }
    }
}

fn parse_row(text: &str) -> Result<String, String> {
    if rows::keys().any(|key| key == text) {
        Ok(text.to_owned())
    } else {
        let known: Vec<&str> = rows::keys().collect();
        Err(format!("there are {}", known.join(", ")))
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    fn parse(args: &str) -> Result<Cli, clap::Error> {
        Cli::try_parse_from(["hubring-loadtest"].into_iter().chain(args.split(' ')))
    }

    fn scenario(args: &str) -> Scenario {
        let Command::Run { scenario } = parse(args).unwrap().command else {
            panic!("{args} is not a run");
        };
        scenario.scenario()
    }

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn the_defaults_are_those_of_the_reference_figures() {
        let echo = scenario("run echo");
        let pacing = Pacing::Closed { depth: 1 };
        assert_eq!(echo.load, Load::Echo { pacing });
        assert_eq!(
            (echo.clients, echo.payload_bytes, echo.server_connections),
            (1000, 2048, 5)
        );
        assert_eq!(echo.shards, 1);
        let pacing = Pacing::Closed { depth: 52 };
        let load = scenario("run small-groups").load;
        assert!(
            matches!(load, Load::SendToGroup { group_members: 10, pacing: p, .. } if p == pacing)
        );
    }

    #[test]
    fn a_rate_makes_an_open_loop() {
        let pacing = Pacing::Open { per_second: 500 };
        assert_eq!(
            scenario("run send-to-user --rate 500").load,
            Load::SendToUser { pacing }
        );
    }

    #[test]
    fn both_hub_protocols_are_known_by_their_names() {
        let of = |args| scenario(args).hub_protocol;
        assert_eq!(of("run echo --hub-protocol json"), HubProtocol::Json);
        let message_pack = of("run echo --hub-protocol messagepack");
        assert_eq!(message_pack, HubProtocol::MessagePack);
    }

    #[test]
    fn shards_are_as_many_as_cores_unless_said_otherwise() {
        assert_eq!(scenario("run echo --service-cores 0-3").shards, 4);
        assert_eq!(
            scenario("run echo --service-cores 0-3 --shards 2").shards,
            2
        );
    }

    #[test]
    fn what_cannot_be_measured_is_refused() {
        for args in [
            "run",
            "run broadcast --burst 0",
            "run echo --size 8",
            "run echo --clients 0",
            "run echo --windows 0",
            "run echo --depth 2 --rate 5",
            "run echo --window -1",
            "run echo --peers apache",
            "run echo --admin 127.0.0.1:1",
            "table --rows no_such_row",
            "table --service-cores 3-1",
            "compare one.json",
        ] {
            assert!(parse(args).is_err(), "{args}");
        }
    }

    #[test]
    fn peers_and_rows_are_lists() {
        let Command::Run { scenario } = parse("run echo --peers haproxy,tokio-relay")
            .unwrap()
            .command
        else {
            panic!("not a run");
        };
        let peers = vec![ContestantKind::Haproxy, ContestantKind::TokioRelay];
        assert_eq!(scenario.args().peers, Peers::Named(peers));
        let Command::Table(table) = parse("table --quick --rows echo_2k,connects")
            .unwrap()
            .command
        else {
            panic!("not a table");
        };
        assert_eq!(table.rows, ["echo_2k", "connects"]);
    }
}

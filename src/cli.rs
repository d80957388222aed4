//! The command line.

use std::net::SocketAddr;
use std::num::NonZeroU16;
use std::time::Duration;

use clap::builder::FalseyValueParser;
use clap::{Args, Parser, Subcommand, ValueEnum};

use hubring::app_server::ShutdownMode;
use hubring::config::{CoreList, ServiceConfig};
use hubring::limits::PARKING_MAX;
use hubring::protocol::connection_string::AccessKey;

/// A self-hosted service that is wire-compatible with Azure SignalR Service.
///
/// App servers built with the Azure SignalR SDK connect to it with a connection string, their clients are redirected to it, and it
/// carries every message between them. Without a command it serves.
#[derive(Debug, Parser)]
#[command(
    name = "hubring",
    version,
    args_conflicts_with_subcommands = true,
    max_term_width = 100
)]
pub(crate) struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub(crate) command: Option<Command>,
    #[command(flatten)]
    pub(crate) serve: ServeArgs,
    #[command(flatten)]
    pub(crate) log: LogArgs,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Run the service (the default)
    Serve(ServeArgs),
    /// Run the reference app server: a hub at /chat, served through a service
    AppServer(AppServerArgs),
    /// Run the service and an app server with a chat page, to see it work
    Demo(DemoArgs),
}

#[derive(Debug, Args)]
pub(crate) struct ServeArgs {
    /// Address for clients and app servers; port 0 takes any free one
    #[arg(
        long,
        env = "HUBRING_LISTEN",
        value_name = "ADDR",
        default_value = "127.0.0.1:8888"
    )]
    pub(crate) listen: SocketAddr,
    /// Address for health, metrics and listings, or "off"; it is not guarded by any key
    #[arg(long, env = "HUBRING_ADMIN", value_name = "ADDR", default_value = "127.0.0.1:8889", value_parser = parse_admin)]
    pub(crate) admin: AdminAddress,
    /// Access key; may be given twice, so that keys can be changed without interruption [default: the key of Microsoft's emulator]
    #[arg(long = "access-key", env = "HUBRING_ACCESS_KEY", hide_env_values = true, value_name = "KEY", value_delimiter = ',', value_parser = parse_key)]
    pub(crate) access_keys: Vec<AccessKey>,
    /// Host that access tokens must have been made for; may be given several times [default: any]
    #[arg(
        long = "audience-host",
        env = "HUBRING_AUDIENCE_HOST",
        value_name = "HOST",
        value_delimiter = ','
    )]
    pub(crate) audience_hosts: Vec<Box<str>>,
    /// Threads of the data plane [default: one for each core]
    #[arg(long, env = "HUBRING_SHARDS", value_name = "N")]
    pub(crate) shards: Option<NonZeroU16>,
    /// Cores to pin them to, such as 0-3,8 [default: all that this process may use]
    #[arg(long, env = "HUBRING_CORES", value_name = "LIST")]
    pub(crate) cores: Option<CoreList>,
    /// Connections to accept at most [default: as many as there are descriptors for]
    #[arg(long, env = "HUBRING_CONNECTIONS_MAX", value_name = "N")]
    pub(crate) connections_max: Option<usize>,
    /// Believe the X-Forwarded-For that comes with a client: only behind a proxy that sets it
    #[arg(long, env = "HUBRING_TRUST_FORWARDED_FOR", value_parser = FalseyValueParser::new())]
    pub(crate) trust_forwarded_for: bool,
    /// Do not let clients resume a connection whose socket is lost, whatever their app server allows
    #[arg(long, env = "HUBRING_NO_STATEFUL_RECONNECT", value_parser = FalseyValueParser::new())]
    pub(crate) no_stateful_reconnect: bool,
    /// Keep clients for so long when their server connection is lost, for another one to take them; 0 closes them
    #[arg(
        long,
        env = "HUBRING_PARK_ON_DROP",
        value_name = "SECONDS",
        default_value_t = 0,
        value_parser = clap::value_parser!(u64).range(..=PARKING_MAX.as_secs())
    )]
    pub(crate) park_on_drop: u64,
    /// Permit the key that everybody knows on an address that can be reached from outside
    #[arg(long, env = "HUBRING_ALLOW_WELL_KNOWN_KEY_IN_PUBLIC", value_parser = FalseyValueParser::new())]
    pub(crate) allow_well_known_key_in_public: bool,
    /// Send every WebSocket message on this loopback address back, without asking for a token: for test suites of RFC 6455
    #[arg(long, env = "HUBRING_WEBSOCKET_ECHO", value_name = "ADDR", hide = true)]
    pub(crate) websocket_echo: Option<SocketAddr>,
}

#[derive(Debug, Args)]
pub(crate) struct AppServerArgs {
    /// Connection string of the service, as it prints it; may be given several times, for as many services
    #[arg(
        long = "connection-string",
        env = "HUBRING_CONNECTION_STRING",
        hide_env_values = true,
        value_name = "STRING",
        required = true
    )]
    pub(crate) connection_strings: Vec<String>,
    /// Connection string of a service that gets clients only while none of the others is there; may be given several times
    #[arg(
        long = "secondary",
        env = "HUBRING_SECONDARY_CONNECTION_STRING",
        hide_env_values = true,
        value_name = "STRING"
    )]
    pub(crate) secondary_connection_strings: Vec<String>,
    /// Address for negotiate requests
    #[arg(
        long,
        env = "HUBRING_APP_LISTEN",
        value_name = "ADDR",
        default_value = "127.0.0.1:5000"
    )]
    pub(crate) listen: SocketAddr,
    /// Server connections for each hub and service
    #[arg(
        long,
        env = "HUBRING_SERVER_CONNECTIONS",
        value_name = "N",
        default_value_t = 5,
        value_parser = clap::value_parser!(u16).range(1..=256)
    )]
    pub(crate) server_connections: u16,
    /// How many there may be together with those that the service asks for
    #[arg(
        long,
        env = "HUBRING_SERVER_CONNECTIONS_MAX",
        value_name = "N",
        default_value_t = 256,
        value_parser = clap::value_parser!(u16).range(1..=4096)
    )]
    pub(crate) max_connections: u16,
    /// What becomes of the clients on SIGTERM
    #[arg(
        long,
        env = "HUBRING_GRACEFUL",
        value_name = "MODE",
        default_value = "off"
    )]
    pub(crate) graceful: Graceful,
    /// Seconds after which the end does not wait for them any longer
    #[arg(
        long,
        env = "HUBRING_GRACEFUL_TIMEOUT",
        value_name = "SECONDS",
        default_value_t = 30
    )]
    pub(crate) graceful_timeout: u32,
    /// Serve the same hub a second time, at /second
    #[arg(long)]
    pub(crate) hub2: bool,
    /// Let anybody act on the hubs by HTTP, at /broadcast, /close, /mgmt and others: for tests
    #[arg(long)]
    pub(crate) actions: bool,
    /// Write a line of JSON to standard output for each client that comes or goes
    #[arg(long)]
    pub(crate) events: bool,
}

/// What becomes of an app server's clients when it goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Graceful {
    /// They are told to connect again
    Off,
    /// They have time to leave
    Wait,
    /// The service moves them to other app servers
    Migrate,
}

impl From<Graceful> for ShutdownMode {
    fn from(graceful: Graceful) -> Self {
        match graceful {
            Graceful::Off => Self::Off,
            Graceful::Wait => Self::WaitForClientsClose,
            Graceful::Migrate => Self::MigrateClients,
        }
    }
}

#[derive(Debug, Args)]
pub(crate) struct DemoArgs {
    #[command(flatten)]
    pub(crate) serve: ServeArgs,
    /// Address of the chat page
    #[arg(
        long,
        env = "HUBRING_APP_LISTEN",
        value_name = "ADDR",
        default_value = "127.0.0.1:5000"
    )]
    pub(crate) app_listen: SocketAddr,
}

#[derive(Debug, Clone, Args)]
pub(crate) struct LogArgs {
    /// What to log: a level, or levels by module as in `RUST_LOG`
    #[arg(
        long,
        env = "HUBRING_LOG",
        value_name = "FILTER",
        default_value = "info",
        global = true
    )]
    pub(crate) log: String,
    /// Form of the log, which goes to standard error
    #[arg(
        long,
        env = "HUBRING_LOG_FORMAT",
        value_name = "FORMAT",
        default_value = "human",
        global = true
    )]
    pub(crate) log_format: LogFormat,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum LogFormat {
    /// Lines for people, in colour on a terminal
    Human,
    /// One JSON object a line
    Json,
}

/// An address or none.
#[derive(Debug, Clone, Copy)]
pub(crate) struct AdminAddress(pub(crate) Option<SocketAddr>);

impl From<ServeArgs> for ServiceConfig {
    fn from(args: ServeArgs) -> Self {
        let defaults = Self::default();
        Self {
            listen: args.listen,
            admin: args.admin.0,
            access_keys: if args.access_keys.is_empty() {
                defaults.access_keys
            } else {
                args.access_keys
            },
            allow_well_known_key_in_public: args.allow_well_known_key_in_public,
            audience_hosts: args.audience_hosts,
            shards: args.shards,
            cores: args.cores,
            connections_max: args.connections_max,
            trust_forwarded_for: args.trust_forwarded_for,
            stateful_reconnect: !args.no_stateful_reconnect,
            park_on_drop: (args.park_on_drop > 0).then(|| Duration::from_secs(args.park_on_drop)),
            websocket_echo: args.websocket_echo,
        }
    }
}

fn parse_admin(text: &str) -> Result<AdminAddress, String> {
    if text == "off" {
        return Ok(AdminAddress(None));
    }
    text.parse()
        .map(|address| AdminAddress(Some(address)))
        .map_err(|_| "expected an address such as 127.0.0.1:8889, or \"off\"".to_owned())
}

fn parse_key(text: &str) -> Result<AccessKey, String> {
    AccessKey::parse(text).map_err(|error| error.to_string())
}

//! Why there is no figure. Every fault ends the whole measurement: half a figure is none.

use std::io;
use std::path::PathBuf;
use std::process::ExitStatus;

use hubring::frame::record::LengthError;
use hubring::frame::upgrade::{HeadError, UpgradeError};
use hubring::frame::websocket::{CloseFrame, FrameError};
use hubring::protocol::access_token::SignError;
use hubring::protocol::connection_string::ConnectionStringError;
use hubring::protocol::service::{AckStatus, DecodeError};
use thiserror::Error;

use crate::job::Load;

#[derive(Debug, Error)]
pub(crate) enum LoadError {
    #[error("interrupted")]
    Interrupted,
    #[error("signals cannot be caught: {0}")]
    Signals(io::Error),
    #[error("the service's core and one's own must differ: both are {0}")]
    SameCore(usize),
    #[error("{contestant} cannot play {scenario}")]
    CannotPlay {
        contestant: &'static str,
        scenario: &'static str,
    },
    #[error(
        "the connection string is not like Endpoint=http://localhost;Port=8888;AccessKey=…;Version=1.0;"
    )]
    ConnectionString,
    #[error("a service with TLS cannot be measured: {0}")]
    TlsEndpoint(String),
    #[error("{host} has no address: {source}")]
    NoAddress { host: String, source: io::Error },
    #[error("a worker cannot be started: {0}")]
    StartWorker(io::Error),
    #[error("{contestant}: {error}")]
    WorkerFailed { contestant: String, error: String },
    #[error("{0}: a worker ended without a word")]
    WorkerEnded(String),
    #[error("not all clients had joined their groups within {0} s")]
    NotJoined(u64),
    #[error("{contestant}: a worker has said nothing for {seconds} s")]
    WorkerSilent { contestant: String, seconds: u64 },
    #[error("{contestant}: a worker answered {reply}")]
    OddReply { contestant: String, reply: String },
    #[error("this process may not run on core {0}")]
    NoSuchCore(usize),
    #[error("{needed} descriptors are needed, at most {allowed} are allowed")]
    TooFewDescriptors { needed: u64, allowed: u64 },
    #[error("where this program lies is unknown, so --service must be given: {0}")]
    OwnPath(io::Error),
    #[error("cannot start {}: {source}", path.display())]
    StartService { path: PathBuf, source: io::Error },
    #[error("a program cannot be made to end with its owner: {0}")]
    Guard(io::Error),
    #[error("whoever was to own the program has ended")]
    OwnerEnded,
    #[error("{} ended at its start: {status}", path.display())]
    ProgramEnded { path: PathBuf, status: ExitStatus },
    #[error("{} was not ready within {seconds} s", path.display())]
    ProgramNotReady { path: PathBuf, seconds: u64 },
    #[error("{0} does not speak the service protocol, so no app server can be put behind it")]
    NoService(&'static str),
    #[error("{0} is not installed: scripts/install-peers")]
    NotInstalled(&'static str),
    #[error("the configuration {} cannot be written: {source}", path.display())]
    WriteConfiguration { path: PathBuf, source: io::Error },
    #[error("HUBRING_SDK_APP has to name the app server that is built with the SDK")]
    NoSdkApp,
    #[error("{other_side} has no part in {load:?}")]
    OtherSideCannot {
        other_side: &'static str,
        load: Load,
    },
    #[error("only text can be published: the hub protocol has to be JSON")]
    TextOnly,
    #[error("a publication was answered {0}")]
    PublishAnswer(String),
    #[error("cannot listen: {0}")]
    Listen(io::Error),
    #[error("a connection cannot be accepted: {0}")]
    Accept(io::Error),
    #[error("what came through the proxy is no request: {0}")]
    RequestHead(#[from] HeadError),
    #[error("what came through the proxy does not ask for a WebSocket: {0}")]
    NoUpgrade(#[from] UpgradeError),
    #[error("a client's frame came through the proxy without a mask")]
    UnmaskedFrame,
    #[error("no port is free: {0}")]
    NoPort(io::Error),
    #[error("cannot read {path}: {source}")]
    ReadProc { path: String, source: io::Error },
    #[error("{0} is not as expected")]
    OddProc(String),
    #[error("the service's metrics cannot be read: {0}")]
    Metrics(io::Error),
    #[error("the service's metrics were refused: {0}")]
    MetricsRefused(String),
    #[error("the service has no counter {0}")]
    NoCounter(String),
    #[error("the access key cannot be used: {0}")]
    AccessKey(#[from] ConnectionStringError),
    #[error("no access token: {0}")]
    Token(#[from] SignError),
    #[error("cannot connect: {0}")]
    Connect(io::Error),
    #[error("the upgrade was refused with status {status}")]
    UpgradeRefused { status: u16 },
    #[error("the app server refused to send, with status {status}")]
    AppServerRefused { status: u16 },
    #[error("a request was answered with something else than HTTP")]
    NoHttp,
    #[error("a hub cannot be named {0:?}")]
    HubName(String),
    #[error("the hub refused a client: {0}")]
    HubRefused(String),
    #[error("the connection of client {client} broke: {source}")]
    ClientBroke { client: u32, source: Box<Self> },
    #[error("the other side was not ready within {0} s")]
    OtherSideNotReady(u64),
    #[error(
        "no client has entered its hub for {seconds} s: {entered} have, {outside} have not; the last fault was: {last_fault}"
    )]
    NotEntered {
        entered: usize,
        outside: usize,
        seconds: u64,
        last_fault: String,
    },
    #[error(
        "nothing has arrived for {seconds} s, after {messages} messages: {clients_under_way} of clients are under way, and {} of the other side",
        if *other_side_is_quiet { "none" } else { "some" }
    )]
    NothingArrives {
        seconds: u64,
        messages: u64,
        clients_under_way: u64,
        other_side_is_quiet: bool,
    },
    #[error("the coordinator cannot be read: {0}")]
    Input(io::Error),
    #[error("the coordinator cannot be told: {0}")]
    Output(io::Error),
    #[error("the progress of other workers is unknown: {0}")]
    Progress(io::Error),
    #[error("the sockets cannot be polled: {0}")]
    Poll(io::Error),
    #[error("a connection failed: {0}")]
    Socket(io::Error),
    #[error("the service closed a connection without a word")]
    ClosedSilently,
    #[error("the service closed a connection: {}", close_text(.0.as_ref()))]
    Closed(Option<CloseFrame>),
    #[error("the service broke the WebSocket protocol: {0}")]
    Frame(#[from] FrameError),
    #[error("the service broke the framing of service messages: {0}")]
    Record(#[from] LengthError),
    #[error("the service sent a malformed message: {0}")]
    Message(#[from] DecodeError),
    #[error("the service refused a server connection: {0}")]
    HandshakeRefused(String),
    #[error("the service reports an error: {0}")]
    ServiceReports(String),
    #[error("the service refused a join or leave: {0:?}")]
    JoinRefused(AckStatus),
    #[error("sends to users ask for clients that are each a user of their own")]
    NoUser,
    #[error("client {0} received what was not sent to it")]
    WrongPayload(u32),
    #[error("the report cannot be written: {0}")]
    Json(#[from] serde_json::Error),
    #[error("cannot write {}: {source}", path.display())]
    WriteReport { path: PathBuf, source: io::Error },
    #[error("cannot read {}: {source}", path.display())]
    ReadReport { path: PathBuf, source: io::Error },
    #[error("{} is not a report of this program: {source}", path.display())]
    NotAReport {
        path: PathBuf,
        source: serde_json::Error,
    },
}

fn close_text(close: Option<&CloseFrame>) -> String {
    close.map_or_else(|| "no reason given".to_owned(), CloseFrame::to_string)
}

//! Why there is no figure. Every fault ends the whole measurement: half a figure is none.

use std::io;
use std::path::PathBuf;
use std::process::ExitStatus;

use hubring::frame::record::LengthError;
use hubring::frame::websocket::{CloseFrame, FrameError};
use hubring::protocol::access_token::SignError;
use hubring::protocol::connection_string::ConnectionStringError;
use hubring::protocol::service::DecodeError;
use thiserror::Error;

#[derive(Debug, Error)]
pub(crate) enum LoadError {
    #[error("interrupted")]
    Interrupted,
    #[error("signals cannot be caught: {0}")]
    Signals(io::Error),
    #[error("the service's core and one's own must differ: both are {0}")]
    SameCore(usize),
    #[error("this process may not run on core {0}")]
    NoSuchCore(usize),
    #[error("{needed} descriptors are needed, at most {allowed} are allowed")]
    TooFewDescriptors { needed: u64, allowed: u64 },
    #[error("where this program lies is unknown, so --service must be given: {0}")]
    OwnPath(io::Error),
    #[error("cannot start {}: {source}; --service names another program", path.display())]
    StartService { path: PathBuf, source: io::Error },
    #[error("the service ended at its start: {0}")]
    ServiceEnded(ExitStatus),
    #[error("the service was not healthy within {0} s")]
    ServiceNotHealthy(u64),
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
    #[error("the access key cannot be used: {0}")]
    AccessKey(#[from] ConnectionStringError),
    #[error("no access token: {0}")]
    Token(#[from] SignError),
    #[error("cannot connect: {0}")]
    Connect(io::Error),
    #[error("the service refused the upgrade: {0}")]
    Upgrade(Box<tungstenite::Error>),
    #[error("{clients} clients were not connected within {seconds} s")]
    ConnectTooSlow { clients: u32, seconds: u64 },
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
    #[error("client {0} received what was not sent to it")]
    WrongPayload(u32),
    #[error("nothing has arrived for {0} s")]
    Stalled(u64),
    #[error("the report cannot be written: {0}")]
    Json(#[from] serde_json::Error),
}

fn close_text(close: Option<&CloseFrame>) -> String {
    close.map_or_else(|| "no reason given".to_owned(), CloseFrame::to_string)
}

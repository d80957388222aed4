//! Who is at the other end of what a contestant relays: the app server, or whatever the contestant needs in its place.
//!
//! It shares the thread and the poll with the clients. Faults end the worker, so there is none to recover from.

pub(crate) mod app_elsewhere;
pub(crate) mod app_server;
mod backend;
mod echo_frames;
pub(crate) mod floor;
mod publish_answers;
mod publisher;

use std::time::Instant;

use mio::Token;

use self::app_elsewhere::AppElsewhere;
use self::app_server::AppServer;
use self::backend::Backend;
use self::floor::FloorSide;
use self::publisher::Publisher;
use super::access::TokenSigner;
use super::io::Io;
use crate::error::LoadError;
use crate::job::{Job, Target};

/// What the event loop asks of the other side.
///
/// Order: [`open`](Self::open); [`on_ready`](Self::on_ready) and [`on_turn`](Self::on_turn) from then on, also between measurements;
/// [`start`](Self::start) and [`stop`](Self::stop) around each measurement, which ends when [`is_quiet`](Self::is_quiet). No client
/// connects before it [`is_ready`](Self::is_ready) for the first time.
pub(crate) trait OtherSide {
    /// Connects or listens, and registers what it has under tokens of `io.tokens`. It need not wait until anything stands.
    fn open(&mut self, io: &mut Io<'_>) -> Result<(), LoadError>;

    /// Whether clients may come.
    fn is_ready(&self) -> bool;

    /// One of its sockets has something to read or room to write. `token` may be of a socket that it has closed.
    fn on_ready(&mut self, token: Token, io: &mut Io<'_>) -> Result<(), LoadError>;

    /// Once in each turn of the event loop: sends what is due. `arrived` counts the messages that all clients of all workers have
    /// received since the start.
    fn on_turn(&mut self, now: Instant, arrived: u64, io: &mut Io<'_>) -> Result<(), LoadError>;

    /// A measurement begins: messages may be sent.
    fn start(&mut self, now: Instant);

    /// Send nothing more but what was due before `end`, and answer what still comes.
    fn stop(&mut self, end: Instant);

    /// Whether nothing that it has sent is still under way, as far as `on_turn` and its own sockets have told it.
    fn is_quiet(&self) -> bool;

    /// When `on_turn` must be called at the latest, whether or not anything has happened.
    fn next_due(&self) -> Option<Instant>;

    /// Calls that are due at `now` but have not been made, or have not left.
    fn behind(&self, _now: Instant) -> u64 {
        0
    }

    /// Messages that it counts itself, since the start, beside those that the clients count.
    fn completed(&self) -> Option<u64> {
        None
    }

    /// When each of these was due, as far as they have come since the last look.
    fn take_done(&mut self) -> Vec<Instant> {
        Vec::new()
    }

    /// Drops all its connections at once, as if its process had been killed.
    fn die(&mut self, io: &mut Io<'_>);

    /// Comes back to life: builds up its connections again.
    fn rise(&mut self, io: &mut Io<'_>) -> Result<(), LoadError>;
}

/// The other side that `job` asks for, or `None` where a contestant needs none or another worker plays it.
pub(crate) fn for_job(job: &Job) -> Result<Option<Box<dyn OtherSide>>, LoadError> {
    if !job.plays_other_side {
        return Ok(None);
    }
    match &job.target {
        Target::Service {
            app_server_elsewhere: false,
            address,
            audience_host,
            hub,
            access_key,
            ..
        } => {
            let signer = TokenSigner::new(hub, access_key, audience_host)?;
            let app_server = AppServer::new(job, *address, hub, &signer)?;
            Ok(Some(Box::new(app_server)))
        }
        Target::Floor { servers, .. } => Ok(Some(Box::new(FloorSide::new(job, *servers)))),
        Target::SelfHost { address, .. }
        | Target::Service {
            app_server: Some(address),
            ..
        } => Ok(Some(Box::new(AppElsewhere::new(*address, job)))),
        Target::Service {
            app_server: None, ..
        } => Ok(None),
        Target::Hop { backend, .. } => {
            let backend = Backend::new(*backend, &job.load)?;
            Ok(Some(Box::new(backend)))
        }
        Target::Channel {
            publish_address,
            publish,
            format,
            ..
        } => {
            let publisher = Publisher::new(job, *publish_address, publish, *format)?;
            Ok(Some(Box::new(publisher)))
        }
    }
}

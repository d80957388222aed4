//! The app server: a handful of server connections that carry the traffic of all clients.
//!
//! On the wire it behaves as Microsoft's SDK 1.34 does, because that is what a service has to cope with: many service messages in one
//! WebSocket message, frames of 4 KB, answers in batches, each call on the server connection on which the SDK makes it.
//!
//! [`app`] and what it is made of decide everything and never see a socket; this module and [`link`] move the bytes.

mod app;
pub(in crate::worker) mod calls;
mod clients;
mod conversation;
mod link;
pub(in crate::worker) mod memberships;
pub(in crate::worker) mod streams;
#[cfg(test)]
mod tests;

use std::net::SocketAddr;
use std::time::Instant;

use mio::Token;

use self::app::App;
use self::link::Link;
use super::OtherSide;
use crate::error::LoadError;
use crate::job::Job;
use crate::worker::access::TokenSigner;
use crate::worker::io::Io;
use crate::worker::socket::Socket;
use crate::worker::upgrade::upgrade_request;

/// How the app server calls itself, and how the ids of its server connections begin.
const SERVER_ID: &str = "loadtest";

/// The other side of a service.
pub(crate) struct AppServer {
    app: App,
    links: Vec<Link>,
    address: SocketAddr,
    hub: String,
    access_token: String,
    server_connections: u32,
    payload_bytes: usize,
    /// How often it has come to life: a server connection never gets the id of an earlier one.
    life: u32,
}

impl AppServer {
    /// An app server for `hub` of the service at `address`.
    pub(crate) fn new(
        job: &Job,
        address: SocketAddr,
        hub: &str,
        signer: &TokenSigner,
    ) -> Result<Self, LoadError> {
        Ok(Self {
            app: App::new(job),
            links: Vec::new(),
            address,
            hub: hub.to_owned(),
            access_token: signer.for_app_server(SERVER_ID)?,
            server_connections: job.server_connections,
            payload_bytes: job.payload_bytes as usize,
            life: 0,
        })
    }

    fn connect(&mut self, io: &mut Io<'_>) -> Result<(), LoadError> {
        let Self { hub, life, .. } = self;
        for position in 0..self.server_connections {
            let target = format!("/server/?hub={hub}&cid={SERVER_ID}-{life}-{position}");
            let host = self.address.to_string();
            let request = upgrade_request(&host, &target, Some(&self.access_token));
            let socket = Socket::connect(self.address, None).map_err(LoadError::Connect)?;
            self.links
                .push(Link::open(socket, &request, position as usize, io)?);
        }
        Ok(())
    }

    fn queued_bytes(&self) -> usize {
        self.links.iter().map(Link::queued_bytes).sum()
    }
}

impl OtherSide for AppServer {
    fn open(&mut self, io: &mut Io<'_>) -> Result<(), LoadError> {
        self.connect(io)
    }

    fn is_ready(&self) -> bool {
        self.links.iter().all(Link::is_open) && self.app.is_accepted()
    }

    fn on_ready(&mut self, token: Token, io: &mut Io<'_>) -> Result<(), LoadError> {
        match self.links.iter_mut().find(|link| link.token == token) {
            Some(link) => link.on_ready(&mut self.app, io.buffer),
            None => Ok(()),
        }
    }

    fn on_turn(&mut self, now: Instant, arrived: u64, _io: &mut Io<'_>) -> Result<(), LoadError> {
        self.app.on_turn(now, arrived)?;
        self.links
            .iter_mut()
            .try_for_each(|link| link.send(&mut self.app))
    }

    fn start(&mut self, _now: Instant) {
        self.app.start();
    }

    fn stop(&mut self, end: Instant) {
        self.app.stop(end);
    }

    fn is_quiet(&self) -> bool {
        self.app.is_quiet() && self.queued_bytes() == 0
    }

    fn next_due(&self) -> Option<Instant> {
        self.app.next_due()
    }

    fn behind(&self, now: Instant) -> u64 {
        if !self.app.is_timed() {
            return 0;
        }
        // Of what is queued a payload is nearly all.
        let queued = self.queued_bytes().div_ceil(self.payload_bytes.max(1));
        self.app.behind(now) + queued as u64
    }

    fn completed(&self) -> Option<u64> {
        self.app.completed()
    }

    fn take_done(&mut self) -> Vec<Instant> {
        self.app.take_done()
    }

    fn die(&mut self, _io: &mut Io<'_>) {
        self.links.clear();
        self.app.begin(self.server_connections as usize);
    }

    fn rise(&mut self, io: &mut Io<'_>) -> Result<(), LoadError> {
        self.life += 1;
        self.connect(io)
    }
}

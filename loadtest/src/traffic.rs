//! The event loop: one thread, one poll, all connections of the app server and of the clients.
//!
//! A connection's token is its position, server connections first.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use mio::event::Event;
use mio::{Events, Poll};

use crate::app_server_side::{AppServerSide, burst};
use crate::cli::{RunArgs, Scenario};
use crate::clients::{Clients, Counts};
use crate::dial::Dialer;
use crate::error::LoadError;

/// Receive buffer that all connections share.
const BUFFER_BYTES: usize = 256 * 1024;

/// Events that one poll may bring.
const EVENTS: usize = 1024;

/// Time until a signal or the end of a run is noticed.
const POLL_TIMEOUT: Duration = Duration::from_millis(100);

/// Time without any message after which a run is given up.
const STALL_TIMEOUT: Duration = Duration::from_secs(10);

/// Time for all connections together.
const CONNECT_TIMEOUT: Duration = Duration::from_mins(1);

/// Clients that connect before the app server gets to answer those that have.
const CLIENTS_AT_ONCE: u32 = 128;

/// Everything that talks to one service.
pub(crate) struct Traffic {
    poll: Poll,
    events: Events,
    buffer: Box<[u8]>,
    app_server: AppServerSide,
    clients: Clients,
    broadcasts: Option<Broadcasts>,
    stop: Arc<AtomicBool>,
}

/// A burst that is sent again whenever all of it has arrived.
struct Broadcasts {
    burst: Vec<u8>,
    deliveries: u64,
    /// What all clients will have received when the current burst has arrived.
    received_then: u64,
}

impl Traffic {
    /// Opens all connections and waits until every one of them is ready. `stop` ends it early, now or later.
    pub(crate) fn open(
        args: &RunArgs,
        dialer: &Dialer,
        stop: Arc<AtomicBool>,
    ) -> Result<Self, LoadError> {
        let poll = Poll::new().map_err(LoadError::Poll)?;
        let app_server = AppServerSide::open(args.server_connections, dialer, poll.registry())?;
        let mut traffic = Self {
            poll,
            events: Events::with_capacity(EVENTS),
            buffer: vec![0; BUFFER_BYTES].into_boxed_slice(),
            app_server,
            clients: Clients::new(),
            broadcasts: None,
            stop,
        };
        let deadline = Instant::now() + CONNECT_TIMEOUT;
        traffic.turn_until(args, deadline, |traffic| traffic.app_server.is_accepted())?;
        for opened in 1..=args.clients {
            let tokens_before = traffic.app_server.count();
            traffic
                .clients
                .open(dialer, traffic.poll.registry(), tokens_before)?;
            if opened % CLIENTS_AT_ONCE == 0 || opened == args.clients {
                traffic.turn_until(args, deadline, |traffic| traffic.counts().entered == opened)?;
            }
        }
        Ok(traffic)
    }

    /// Sets the first messages going.
    pub(crate) fn start(&mut self, scenario: Scenario, args: &RunArgs) -> Result<(), LoadError> {
        match scenario {
            Scenario::Echo { depth } => self.clients.start_echo(depth, args.size as usize),
            Scenario::Broadcast { burst: count } => {
                let (burst, payload) = burst(count, args.size as usize);
                self.clients.expect(&payload);
                self.broadcasts = Some(Broadcasts {
                    burst,
                    deliveries: u64::from(count) * u64::from(args.clients),
                    received_then: 0,
                });
                self.send_next_burst()
            }
        }
    }

    /// Keeps the traffic flowing for this long.
    pub(crate) fn flow(&mut self, duration: Duration) -> Result<(), LoadError> {
        let end = Instant::now() + duration;
        let mut last_progress = (Instant::now(), self.counts().received);
        loop {
            self.turn()?;
            let now = Instant::now();
            let received = self.counts().received;
            if received != last_progress.1 {
                last_progress = (now, received);
            } else if now.duration_since(last_progress.0) > STALL_TIMEOUT {
                return Err(LoadError::Stalled(STALL_TIMEOUT.as_secs()));
            }
            if now >= end {
                return Ok(());
            }
        }
    }

    pub(crate) fn counts(&mut self) -> &mut Counts {
        self.clients.counts()
    }

    /// Serves every connection that is ready.
    fn turn(&mut self) -> Result<(), LoadError> {
        if self.stop.load(Ordering::Relaxed) {
            return Err(LoadError::Interrupted);
        }
        match self.poll.poll(&mut self.events, Some(POLL_TIMEOUT)) {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::Interrupted => return Ok(()),
            Err(error) => return Err(LoadError::Poll(error)),
        }
        let server_connections = self.app_server.count();
        for position in self.events.iter().map(Event::token) {
            match position.0.checked_sub(server_connections) {
                Some(client) => self.clients.on_ready(client, &mut self.buffer)?,
                None => self.app_server.on_ready(position.0, &mut self.buffer)?,
            }
        }
        self.send_next_burst()
    }

    /// Sends a burst, if there is one to send and the one before has arrived everywhere.
    fn send_next_burst(&mut self) -> Result<(), LoadError> {
        if let Some(broadcasts) = &mut self.broadcasts
            && self.clients.counts().received >= broadcasts.received_then
        {
            broadcasts.received_then += broadcasts.deliveries;
            self.app_server.send_broadcasts(&broadcasts.burst)?;
        }
        Ok(())
    }

    fn turn_until(
        &mut self,
        args: &RunArgs,
        deadline: Instant,
        is_done: impl Fn(&mut Self) -> bool,
    ) -> Result<(), LoadError> {
        while !is_done(self) {
            if Instant::now() > deadline {
                return Err(LoadError::ConnectTooSlow {
                    clients: args.clients,
                    seconds: CONNECT_TIMEOUT.as_secs(),
                });
            }
            self.turn()?;
        }
        Ok(())
    }
}

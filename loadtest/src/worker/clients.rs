//! All clients of a worker: who connects when, what may break, and what they have counted together.
//!
//! A client whose attempt to come in fails tries again after a short while. One that has come in must stay, unless a storm or
//! its own slowness is expected to end its connection.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use mio::event::Event;
use mio::{Registry, Token};

use super::client::{Client, Happened};
use super::due_time::SharedClock;
use super::inbox::Arrived;
use super::io::Io;
use super::latencies::{self, Latencies};
use super::pacing::Schedule;
use super::script::ClientScript;
use crate::error::LoadError;
use crate::job::{Job, Load, MIXED_SHARES, Pacing};

/// The token of the first client. Those below belong to others.
pub(crate) const CLIENT_FIRST: usize = 1 << 20;

/// Attempts under way at the same time while there is no hurry.
const ATTEMPTS_AT_ONCE: usize = 256;

/// Attempts that are begun before the connections that stand get their turn.
const ATTEMPTS_PER_TURN: usize = 64;

/// Time after which a client whose attempt has failed tries again.
const BACK_OFF: Duration = Duration::from_millis(100);

/// Every client of this worker.
pub(crate) struct Clients {
    job: Job,
    script: ClientScript,
    all: Vec<Client>,
    /// Who connects as soon as there is room.
    waiting: VecDeque<usize>,
    /// Who tries again, and when, in the order of time.
    backing_off: VecDeque<(Instant, usize)>,
    /// Attempts under way.
    attempts: usize,
    /// Clients that are in their hub.
    entered: usize,
    flow: Flow,
    storm: Option<Storm>,
    clock: SharedClock,
    counts: Counts,
    last_fault: Option<String>,
}

/// What all clients count together.
#[derive(Debug)]
pub(crate) struct Counts {
    /// Messages, or connects where these are what is measured, since the start.
    pub(crate) arrived: u64,
    /// Messages of clients that have not come back.
    pub(crate) under_way: u64,
    /// Attempts that failed and were made again, since the start.
    pub(crate) retries: u64,
    /// Clients that do not read and were closed for it, since the start.
    pub(crate) slow_closed: u64,
    pub(crate) latencies: Latencies,
}

/// What clients send of their own accord.
enum Flow {
    Nothing,
    /// One message for each that arrives.
    Closed,
    Open(Schedule),
    /// Connections instead of messages.
    Connects,
}

/// All clients come back.
#[derive(Debug)]
pub(crate) struct Storm {
    pub(crate) began: Instant,
    /// By position, who has not come back.
    is_missing: Vec<bool>,
    pub(crate) missing: usize,
    /// When each was back, in nanoseconds since it began.
    pub(crate) latencies: Histogram<u64>,
}

impl Clients {
    pub(crate) fn new(job: &Job, now: Instant) -> Result<Self, LoadError> {
        let script = ClientScript::for_job(job)?;
        let count = match job.load {
            // Each slot is a client that is always about to come in or to leave.
            Load::Connect { at_once } => {
                let share = u64::from(at_once) * u64::from(job.clients)
                    / u64::from(job.clients_total.max(1));
                share.clamp(1, u64::from(job.clients.max(1))) as u32
            }
            Load::Echo { .. }
            | Load::Broadcast { .. }
            | Load::SendToConnection { .. }
            | Load::SendToUser { .. }
            | Load::SendToGroup { .. }
            | Load::Membership { .. }
            | Load::Idle
            | Load::Reconnect { .. }
            | Load::SlowConsumers { .. }
            | Load::Mixed { .. } => job.clients,
        };
        let clients = (0..count)
            .map(|index| Client::new(&script, job.first_client + index, index as usize, now));
        Ok(Self {
            all: clients.collect(),
            script,
            job: job.clone(),
            waiting: VecDeque::new(),
            backing_off: VecDeque::new(),
            attempts: 0,
            entered: 0,
            flow: Flow::Nothing,
            storm: None,
            clock: SharedClock::look(),
            counts: Counts {
                arrived: 0,
                under_way: 0,
                retries: 0,
                slow_closed: 0,
                latencies: Latencies::default(),
            },
            last_fault: None,
        })
    }

    pub(crate) fn counts(&mut self) -> &mut Counts {
        &mut self.counts
    }

    /// Lets all of them connect, unless connecting is what is measured.
    pub(crate) fn open(&mut self) {
        if !matches!(self.job.load, Load::Connect { .. }) {
            self.waiting.extend(0..self.all.len());
        }
    }

    /// Clients that are on their way into their hub.
    pub(crate) fn outside(&self) -> usize {
        self.waiting.len() + self.backing_off.len() + self.attempts
    }

    /// Clients that are in their hub.
    pub(crate) fn entered(&self) -> usize {
        self.entered
    }

    /// Why the last attempt failed, if any has.
    pub(crate) fn last_fault(&self) -> Option<&str> {
        self.last_fault.as_deref()
    }

    /// A measurement begins.
    pub(crate) fn start(&mut self, now: Instant) -> Result<(), LoadError> {
        match self.job.load {
            Load::Echo {
                pacing: Pacing::Closed { depth },
            } => {
                self.flow = Flow::Closed;
                for client in &mut self.all {
                    client.send(depth, now)?;
                    self.counts.under_way += u64::from(depth);
                }
            }
            Load::Echo {
                pacing: Pacing::Open { per_second },
            } => self.flow = Flow::Open(Schedule::new(&self.job, f64::from(per_second), now)),
            Load::Mixed { per_second } => {
                let percent = f64::from(MIXED_SHARES.echoes_percent);
                let per_second = f64::from(per_second) * percent / 100.0;
                self.flow = Flow::Open(Schedule::new(&self.job, per_second, now));
            }
            Load::Connect { .. } => {
                self.flow = Flow::Connects;
                self.waiting.extend(0..self.all.len());
            }
            Load::Broadcast { .. }
            | Load::SendToConnection { .. }
            | Load::SendToUser { .. }
            | Load::SendToGroup { .. }
            | Load::Membership { .. }
            | Load::Idle
            | Load::Reconnect { .. }
            | Load::SlowConsumers { .. } => {}
        }
        Ok(())
    }

    /// Messages after which each client has had its turn, where that does not depend on a rate.
    pub(crate) fn round_messages(&self) -> u64 {
        let of_each = match self.job.load {
            Load::Echo {
                pacing: Pacing::Closed { depth },
            } => depth,
            Load::Broadcast { burst, .. } => burst,
            Load::SendToConnection {
                pacing: Pacing::Closed { .. },
            }
            | Load::SendToUser {
                pacing: Pacing::Closed { .. },
            }
            | Load::SendToGroup {
                pacing: Pacing::Closed { .. },
                ..
            }
            | Load::Connect { .. } => 1,
            Load::Echo { .. }
            | Load::SendToConnection { .. }
            | Load::SendToUser { .. }
            | Load::SendToGroup { .. }
            | Load::Membership { .. }
            | Load::Idle
            | Load::Reconnect { .. }
            | Load::SlowConsumers { .. }
            | Load::Mixed { .. } => 0,
        };
        self.all.len() as u64 * u64::from(of_each)
    }

    /// Nothing more is sent but what was due before `end`: it is late already, and counts.
    pub(crate) fn stop(&mut self, end: Instant) -> Result<(), LoadError> {
        self.send_due(end)?;
        if matches!(self.flow, Flow::Connects) {
            self.waiting.clear();
        }
        self.flow = Flow::Nothing;
        Ok(())
    }

    /// Whether nothing that clients have sent is under way, nor any client.
    pub(crate) fn is_quiet(&self) -> bool {
        let is_connecting = match self.job.load {
            Load::Connect { .. } => self.all.iter().any(Client::is_connected),
            Load::Echo { .. }
            | Load::Broadcast { .. }
            | Load::SendToConnection { .. }
            | Load::SendToUser { .. }
            | Load::SendToGroup { .. }
            | Load::Membership { .. }
            | Load::Idle
            | Load::Reconnect { .. }
            | Load::SlowConsumers { .. }
            | Load::Mixed { .. } => self.outside() > 0,
        };
        self.counts.under_way == 0 && !is_connecting
    }

    /// Messages that are due at `now` but have not left.
    pub(crate) fn behind(&self, now: Instant) -> u64 {
        match &self.flow {
            Flow::Open(schedule) => {
                let queued: u64 = self.all.iter().map(Client::queued).sum();
                schedule.behind(now) + queued
            }
            Flow::Nothing | Flow::Closed | Flow::Connects => 0,
        }
    }

    /// When [`on_turn`](Self::on_turn) has to be called at the latest.
    pub(crate) fn next_due(&self) -> Option<Instant> {
        let due = match &self.flow {
            Flow::Open(schedule) => schedule.next_due(),
            Flow::Nothing | Flow::Closed | Flow::Connects => None,
        };
        let again = self.backing_off.front().map(|(at, _)| *at);
        due.into_iter().chain(again).min()
    }

    /// Whether [`on_turn`](Self::on_turn) has something to do at once.
    pub(crate) fn is_in_a_hurry(&self) -> bool {
        !self.waiting.is_empty() && self.attempts < self.attempts_max()
    }

    /// Begins attempts and sends what is due.
    pub(crate) fn on_turn(&mut self, now: Instant, io: &mut Io<'_>) -> Result<(), LoadError> {
        while let Some((_, position)) = self.backing_off.pop_front_if(|(at, _)| *at <= now) {
            self.waiting.push_back(position);
        }
        for _ in 0..ATTEMPTS_PER_TURN {
            if self.attempts >= self.attempts_max() {
                break;
            }
            let Some(position) = self.waiting.pop_front() else {
                break;
            };
            self.begin_attempt(position, io.registry)?;
        }
        self.send_due(now)
    }

    /// The connection of the client at this position has something to read or room to write.
    pub(crate) fn on_ready(
        &mut self,
        position: usize,
        event: &Event,
        io: &mut Io<'_>,
    ) -> Result<(), LoadError> {
        let Some(client) = self.all.get_mut(position) else {
            return Ok(());
        };
        let is_ending = event.is_read_closed() || event.is_error();
        if client.is_stalled() {
            return if is_ending || event.is_write_closed() {
                self.on_break(position, LoadError::ClosedSilently, io.registry)
            } else {
                Ok(())
            };
        }
        let is_readable = event.is_readable() || is_ending;
        match client.on_ready(&self.script, is_readable, is_ending, io.buffer) {
            Ok(happened) => self.on_happened(position, happened, io.registry),
            Err(error) => self.on_break(position, error, io.registry),
        }
    }

    /// From now on all connections may break, and all are expected back.
    pub(crate) fn begin_storm(&mut self, now: Instant) {
        self.storm = Some(Storm {
            began: now,
            is_missing: vec![true; self.all.len()],
            missing: self.all.len(),
            latencies: latencies::histogram(),
        });
    }

    /// Breaks all connections; all clients come again at once.
    pub(crate) fn break_all(&mut self) {
        for client in &mut self.all {
            client.disconnect();
        }
        self.entered = 0;
        self.attempts = 0;
        self.backing_off.clear();
        self.waiting = (0..self.all.len()).collect();
    }

    pub(crate) fn storm(&self) -> Option<&Storm> {
        self.storm.as_ref()
    }

    /// From now on connections must stay again.
    pub(crate) fn end_storm(&mut self) -> Option<Storm> {
        self.storm.take()
    }

    fn send_due(&mut self, now: Instant) -> Result<(), LoadError> {
        if let Flow::Open(schedule) = &mut self.flow {
            while let Some((position, due)) = schedule.take_due(now) {
                if let Some(client) = self.all.get_mut(position) {
                    client.send(1, due)?;
                    self.counts.under_way += 1;
                }
            }
        }
        Ok(())
    }

    fn attempts_max(&self) -> usize {
        if self.storm.is_some() || matches!(self.flow, Flow::Connects) {
            usize::MAX
        } else {
            ATTEMPTS_AT_ONCE
        }
    }

    fn begin_attempt(&mut self, position: usize, registry: &Registry) -> Result<(), LoadError> {
        let Some(client) = self.all.get_mut(position) else {
            return Ok(());
        };
        self.attempts += 1;
        let begun = client.connect(
            self.script.address(),
            registry,
            Token(CLIENT_FIRST + position),
            Instant::now(),
        );
        begun.or_else(|error| self.on_break(position, error, registry))
    }

    fn on_happened(
        &mut self,
        position: usize,
        happened: Happened,
        registry: &Registry,
    ) -> Result<(), LoadError> {
        if happened.has_entered {
            self.on_entered(position, registry)?;
        }
        if happened.arrived.messages > 0 {
            self.on_arrived(position, happened.arrived)?;
        }
        if happened.has_left {
            self.on_left(position);
        }
        Ok(())
    }

    fn on_left(&mut self, position: usize) {
        if let Some(client) = self.all.get_mut(position) {
            client.disconnect();
        }
        if matches!(self.flow, Flow::Connects) {
            self.waiting.push_back(position);
        }
    }

    fn on_entered(&mut self, position: usize, registry: &Registry) -> Result<(), LoadError> {
        let Some(client) = self.all.get_mut(position) else {
            return Ok(());
        };
        self.attempts -= 1;
        let now = Instant::now();
        if let Some(storm) = &mut self.storm {
            storm.on_entered(position, now);
        }
        match self.job.load {
            Load::Connect { .. } => {
                self.counts.arrived += 1;
                self.counts.latencies.record(client.attempted_at(), now);
                return client.leave();
            }
            Load::SlowConsumers { stalled, .. } if client.number() < stalled => {
                client.stall(registry, Token(CLIENT_FIRST + position))?;
            }
            Load::Echo { .. }
            | Load::Broadcast { .. }
            | Load::SendToConnection { .. }
            | Load::SendToUser { .. }
            | Load::SendToGroup { .. }
            | Load::Membership { .. }
            | Load::Idle
            | Load::Reconnect { .. }
            | Load::SlowConsumers { .. }
            | Load::Mixed { .. } => {}
        }
        self.entered += 1;
        Ok(())
    }

    fn on_arrived(&mut self, position: usize, arrived: Arrived) -> Result<(), LoadError> {
        self.counts.arrived += u64::from(arrived.messages);
        let Some(client) = self.all.get_mut(position) else {
            return Ok(());
        };
        let now = Instant::now();
        for due in client.take_due_times() {
            if let Some(due) = self.clock.instant(due) {
                self.counts.latencies.record(due, now);
            }
        }
        if arrived.answers == 0 || client.under_way() == 0 {
            return Ok(());
        }
        let mut answered = 0;
        for _ in 0..arrived.answers {
            if let Some(due) = client.take_due() {
                self.counts.latencies.record(due, now);
                answered += 1;
            }
        }
        if matches!(self.flow, Flow::Closed) {
            client.send(answered, now)
        } else {
            self.counts.under_way -= u64::from(answered);
            Ok(())
        }
    }

    /// A connection has failed, or was closed from the other end.
    fn on_break(
        &mut self,
        position: usize,
        error: LoadError,
        registry: &Registry,
    ) -> Result<(), LoadError> {
        let Some(client) = self.all.get_mut(position) else {
            return Ok(());
        };
        if client.is_leaving() {
            self.on_left(position);
            return Ok(());
        }
        let (was_stalled, had_entered) = (client.is_stalled(), client.has_entered());
        self.counts.under_way -= client.under_way() as u64;
        client.disconnect();
        if !had_entered {
            // What breaks from the inside is no refusal, and would break again.
            if matches!(error, LoadError::Poll(_) | LoadError::WrongPayload(_)) {
                return Err(error);
            }
            self.attempts -= 1;
            self.counts.retries += 1;
            self.last_fault = Some(error.to_string());
            let again = Instant::now() + BACK_OFF;
            self.backing_off.push_back((again, position));
            return Ok(());
        }
        self.entered -= 1;
        if was_stalled {
            self.counts.slow_closed += 1;
        } else if self.storm.is_none() {
            return Err(LoadError::ClientBroke {
                client: client.number(),
                source: Box::new(error),
            });
        }
        self.begin_attempt(position, registry)
    }
}

impl Storm {
    fn on_entered(&mut self, position: usize, now: Instant) {
        if let Some(is_missing) = self.is_missing.get_mut(position)
            && std::mem::take(is_missing)
        {
            self.missing -= 1;
            let latency = now.saturating_duration_since(self.began);
            self.latencies.saturating_record(latency.as_nanos() as u64);
        }
    }
}

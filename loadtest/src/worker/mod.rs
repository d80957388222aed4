//! The worker: plays a share of the clients of one contestant and, if it is the first, the other side too.
//!
//! It does what the [commands](crate::job::Command) of the coordinator say, one after the other. Between them nothing is under way, but the
//! connections stay open, so the [`event_loop`] goes on: it answers pings and waits.
//!
//! The way of a message: [`clients`] send frames that the [`script`] of the target has prepared, when the [`pacing`] says so; the
//! [`other_side`] answers, or sends on its own account; each client's [`inbox`] counts what comes back.

pub(crate) mod access;
pub(crate) mod client;
pub(crate) mod clients;
mod commands;
mod due_time;
mod event_loop;
pub(crate) mod floor_records;
pub(crate) mod http_answer;
pub(crate) mod inbox;
pub(crate) mod io;
mod latencies;
pub(crate) mod other_side;
pub(crate) mod pacing;
pub(crate) mod payload;
mod progress;
mod sampling;
pub(crate) mod script;
pub(crate) mod socket;
pub(crate) mod upgrade;
pub(crate) mod web_socket;

use std::io::{BufRead, BufReader, stdin};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use self::commands::{Commands, reply};
use self::event_loop::EventLoop;
use self::latencies::Latencies;
use self::sampling::{Edge, recorded};
use crate::contestants::process::pin;
use crate::error::LoadError;
use crate::job::{Command, Job, Load, Reply, Sample, Storm, Target};

/// Time without any progress, while something is under way, after which a measurement is given up.
const STALL_TIMEOUT: Duration = Duration::from_secs(10);

/// Time without any client entering its hub after which the others are not waited for.
const OPEN_TIMEOUT: Duration = Duration::from_secs(20);

/// Time until all clients of all workers have to be in their groups, of which there may be a million.
const SETTLE_TIMEOUT: Duration = Duration::from_secs(100);

/// How often each client has its turn before the first window.
const WARM_UP_ROUNDS: u64 = 2;

/// Time after which a contestant that is so slow is measured all the same.
const ROUNDS_TIMEOUT: Duration = Duration::from_secs(2);

/// Time until all clients have to be back after a storm.
const STORM_TIMEOUT: Duration = Duration::from_secs(30);

/// Time after which a wait without an end is looked after.
const LOOK_INTERVAL: Duration = Duration::from_millis(100);

/// Descriptors besides those of clients and server connections.
const OTHER_DESCRIPTORS: u64 = 64;

/// Latencies of storms are told in microseconds.
const MICROSECOND_NS: u64 = 1000;

/// Does what standard input says until it ends.
pub(crate) fn run() -> ExitCode {
    match Worker::start().and_then(Worker::run) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let error = error.to_string();
            // If the coordinator is gone too, nobody is left to tell.
            let _ = reply(&Reply::Failed { error });
            ExitCode::FAILURE
        }
    }
}

struct Worker {
    job: Job,
    commands: Commands,
    event_loop: EventLoop,
    /// Whether the coordinator has gone while something was being done.
    is_abandoned: bool,
}

impl Worker {
    fn start() -> Result<Self, LoadError> {
        let job = Commands::read_job()?;
        pin(&[job.core])?;
        raise_descriptor_limit(&job)?;
        Self::new(job, BufReader::new(stdin()))
    }

    fn new(job: Job, input: impl BufRead + Send + 'static) -> Result<Self, LoadError> {
        let event_loop = EventLoop::new(&job)?;
        Ok(Self {
            commands: Commands::listen(input, event_loop.waker()?),
            event_loop,
            job,
            is_abandoned: false,
        })
    }

    fn run(mut self) -> Result<(), LoadError> {
        loop {
            if let Some(command) = self.commands.next()? {
                let answer = match command {
                    Command::Open => self.open()?,
                    Command::Measure {
                        warm_up_ms,
                        window_ms,
                        windows,
                    } => {
                        let warm_up = Duration::from_millis(warm_up_ms);
                        self.measure(warm_up, Duration::from_millis(window_ms), windows)?
                    }
                    Command::Storm => self.storm()?,
                };
                if !self.is_abandoned {
                    reply(&answer)?;
                }
            } else if self.is_abandoned || self.commands.have_ended() {
                return Ok(());
            } else if let Err(error) = self.event_loop.turn(None) {
                // When all workers end, some lose their connections before they hear of it.
                return if self.commands.have_ended() {
                    Ok(())
                } else {
                    Err(error)
                };
            }
        }
    }

    /// First the other side, without which clients would be refused, then the clients. At last the other side may still have to put the
    /// clients of all workers into groups.
    fn open(&mut self) -> Result<Reply, LoadError> {
        let opened = self
            .event_loop
            .with_other_side(|other_side, io| other_side.open(io));
        opened.transpose()?;
        let is_ready = |event_loop: &mut EventLoop| {
            let is_ready = event_loop.with_other_side(|other_side, _| other_side.is_ready());
            is_ready.unwrap_or(true)
        };
        let not_ready = LoadError::OtherSideNotReady(OPEN_TIMEOUT.as_secs());
        self.turn_until(OPEN_TIMEOUT, not_ready, is_ready)?;

        let began = Instant::now();
        self.event_loop.clients().open();
        loop {
            let (entered, outside) = (self.entered(), self.event_loop.clients().outside());
            if outside == 0 || self.is_abandoned {
                break;
            }
            let in_time = self.waits_until(OPEN_TIMEOUT, |event_loop| {
                let clients = event_loop.clients();
                clients.entered() != entered || clients.outside() == 0
            })?;
            if !in_time {
                return Err(self.not_entered(OPEN_TIMEOUT));
            }
        }
        let connect_us = began.elapsed().as_micros() as u64;
        // Those that have come are in their groups before anything is measured, memory not the least.
        let not_joined = LoadError::NotJoined(SETTLE_TIMEOUT.as_secs());
        self.turn_until(SETTLE_TIMEOUT, not_joined, |event_loop| {
            event_loop.is_quiet()
        })?;
        Ok(Reply::Opened { connect_us })
    }

    fn measure(
        &mut self,
        warm_up: Duration,
        window: Duration,
        windows: u32,
    ) -> Result<Reply, LoadError> {
        let messages_before = self.event_loop.messages();
        self.warm_up(warm_up)?;

        let mut samples = Vec::with_capacity(windows as usize);
        let mut before = self.edge()?;
        for _ in 0..windows {
            self.latencies().begin_window(before.at);
            self.flow_until(before.at + window)?;
            let edge = self.edge()?;
            samples.push(self.sample(&edge, &before));
            before = edge;
        }
        self.latencies().end_windows(before.at);

        self.event_loop.clients().stop(before.at)?;
        self.event_loop
            .with_other_side(|other_side, _| other_side.stop(before.at));
        self.drain()?;
        // The slowest of what was due in a window have arrived only now.
        for (sample, latencies) in samples.iter_mut().zip(self.latencies().take()) {
            sample.latencies = recorded(&latencies, 1);
        }
        Ok(Reply::Measured {
            samples,
            messages: self.event_loop.messages() - messages_before,
        })
    }

    /// Starts everything, and waits until it flows as it will go on to. Thousands of clients take their time for their first messages, and
    /// what they do first is not what they do later: so time counts only from then on, and it does not suffice before each client has had
    /// its turn twice. Several workers have nothing but the time, because their windows have to lie side by side.
    fn warm_up(&mut self, time: Duration) -> Result<(), LoadError> {
        let clients = self.event_loop.clients();
        let steady = clients.counts().arrived + WARM_UP_ROUNDS * clients.round_messages();
        clients.start(Instant::now())?;
        self.event_loop
            .with_other_side(|other_side, _| other_side.start(Instant::now()));
        self.flow_until(Instant::now() + time)?;
        if self.job.clients == self.job.clients_total {
            self.waits_until(ROUNDS_TIMEOUT, |event_loop| {
                event_loop.clients().counts().arrived >= steady
            })?;
        }
        Ok(())
    }

    fn storm(&mut self) -> Result<Reply, LoadError> {
        let app_server_dies = matches!(
            self.job.load,
            Load::Reconnect {
                app_server_dies: true
            }
        );
        let retries_before = self.event_loop.clients().counts().retries;
        let before = self.edge()?;
        self.event_loop.clients().begin_storm(before.at);
        reply(&Reply::Storming)?;
        if app_server_dies {
            let risen = self.event_loop.with_other_side(|other_side, io| {
                other_side.die(io);
                other_side.rise(io)
            });
            risen.transpose()?;
        } else {
            self.event_loop.clients().break_all();
        }
        self.waits_until(STORM_TIMEOUT, |event_loop| {
            let storm = event_loop.clients().storm();
            storm.is_none_or(|storm| storm.missing == 0)
        })?;
        let back_us = before.at.elapsed().as_micros() as u64;
        let watched = self.edge()?.watched_since(&before, &self.job.watched);
        let retries = self.event_loop.clients().counts().retries - retries_before;
        let storm = self.event_loop.clients().end_storm();
        Ok(Reply::Stormed(Storm {
            back_us,
            retries,
            failed: storm.as_ref().map_or(0, |storm| storm.missing as u64),
            watched,
            latencies: storm
                .map_or_else(Vec::new, |storm| recorded(&storm.latencies, MICROSECOND_NS)),
        }))
    }

    fn edge(&mut self) -> Result<Edge, LoadError> {
        let messages = self.event_loop.messages();
        let slow_closed = self.event_loop.clients().counts().slow_closed;
        Edge::take(&self.job.watched, messages, slow_closed)
    }

    fn latencies(&mut self) -> &mut Latencies {
        &mut self.event_loop.clients().counts().latencies
    }

    /// What the window that ends now has brought, apart from latencies.
    fn sample(&mut self, edge: &Edge, before: &Edge) -> Sample {
        let of_other_side = self
            .event_loop
            .with_other_side(|other_side, _| other_side.behind(edge.at));
        Sample {
            behind: self.event_loop.clients().behind(edge.at) + of_other_side.unwrap_or(0),
            ..edge.since(before, &self.job.watched)
        }
    }

    /// Keeps everything going until `end`.
    fn flow_until(&mut self, end: Instant) -> Result<(), LoadError> {
        let mut last_progress = (Instant::now(), self.event_loop.messages());
        while !self.is_abandoned {
            self.event_loop.turn(Some(end))?;
            self.is_abandoned = self.commands.have_ended();
            let now = Instant::now();
            let messages = self.event_loop.messages();
            if messages != last_progress.1 || self.event_loop.is_quiet() {
                last_progress = (now, messages);
            } else if now.duration_since(last_progress.0) > STALL_TIMEOUT {
                return Err(self.stalled());
            }
            if now >= end {
                break;
            }
        }
        Ok(())
    }

    /// Lets everything that is under way arrive.
    fn drain(&mut self) -> Result<(), LoadError> {
        loop {
            let messages = self.event_loop.messages();
            let in_time = self.waits_until(STALL_TIMEOUT, |event_loop| {
                event_loop.is_quiet() || event_loop.messages() != messages
            })?;
            if self.event_loop.is_quiet() || self.is_abandoned {
                return Ok(());
            }
            if !in_time {
                return Err(self.stalled());
            }
        }
    }

    fn turn_until(
        &mut self,
        timeout: Duration,
        otherwise: LoadError,
        is_done: impl Fn(&mut EventLoop) -> bool,
    ) -> Result<(), LoadError> {
        if self.waits_until(timeout, is_done)? {
            Ok(())
        } else {
            Err(otherwise)
        }
    }

    /// Keeps everything going until `is_done`. `false` if it was not in time.
    fn waits_until(
        &mut self,
        timeout: Duration,
        is_done: impl Fn(&mut EventLoop) -> bool,
    ) -> Result<bool, LoadError> {
        let deadline = Instant::now() + timeout;
        while !is_done(&mut self.event_loop) && !self.is_abandoned {
            let now = Instant::now();
            if now >= deadline {
                return Ok(false);
            }
            let look = deadline.min(now + LOOK_INTERVAL);
            self.event_loop.turn(Some(look))?;
            self.is_abandoned = self.commands.have_ended();
        }
        Ok(true)
    }

    fn entered(&mut self) -> usize {
        self.event_loop.clients().entered()
    }

    fn not_entered(&mut self, timeout: Duration) -> LoadError {
        let clients = self.event_loop.clients();
        LoadError::NotEntered {
            entered: clients.entered(),
            outside: clients.outside(),
            seconds: timeout.as_secs(),
            last_fault: clients.last_fault().unwrap_or("there was none").to_owned(),
        }
    }

    fn stalled(&mut self) -> LoadError {
        let messages = self.event_loop.messages();
        let other_side = self
            .event_loop
            .with_other_side(|other_side, _| other_side.is_quiet());
        LoadError::NothingArrives {
            seconds: STALL_TIMEOUT.as_secs(),
            messages,
            clients_under_way: self.event_loop.clients().counts().under_way,
            other_side_is_quiet: other_side.unwrap_or(true),
        }
    }
}

/// Programs start with a limit that is lower than need be. Only the higher one is firm.
fn raise_descriptor_limit(job: &Job) -> Result<(), LoadError> {
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit {
        current: limit.maximum,
        maximum: limit.maximum,
    };
    // If it cannot be raised, what counts is whether it suffices.
    let _ = setrlimit(Resource::Nofile, raised);
    let allowed = getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX);
    let needed = descriptors(job);
    if needed > allowed {
        return Err(LoadError::TooFewDescriptors { needed, allowed });
    }
    Ok(())
}

fn descriptors(job: &Job) -> u64 {
    let of_other_side = match job.target {
        // Every client, of whichever worker, comes back as a connection of the backend.
        Target::Hop { .. } if job.plays_other_side => u64::from(job.clients_total),
        Target::Hop { .. }
        | Target::Service { .. }
        | Target::Floor { .. }
        | Target::Channel { .. }
        | Target::SelfHost { .. } => u64::from(job.server_connections),
    };
    u64::from(job.clients) + of_other_side + OTHER_DESCRIPTORS
}

#[cfg(test)]
mod tests {
    use std::io::{PipeWriter, pipe};
    use std::sync::atomic::{AtomicU8, Ordering};

    use super::*;
    use crate::contestants::process::free_addresses;
    use crate::job::{HubProtocol, Pacing};

    const CLIENTS: u32 = 20;

    /// Clients whose WebSockets lead straight to a backend that sends everything back, with nothing to measure between them. The
    /// worker lives as long as the writer.
    fn worker(pacing: Pacing, hub_protocol: HubProtocol) -> (Worker, PipeWriter) {
        static WORKERS: AtomicU8 = AtomicU8::new(1);
        // A port may be taken by another test as soon as it has been found free, but not at an address of one's own.
        let [mut address] = free_addresses().unwrap();
        let number = WORKERS.fetch_add(1, Ordering::Relaxed);
        address.set_ip([127, 1, 0, number].into());
        let job = Job {
            target: Target::Hop {
                address,
                backend: address,
            },
            load: Load::Echo { pacing },
            clients: CLIENTS,
            first_client: 0,
            clients_total: CLIENTS,
            plays_other_side: true,
            server_connections: 0,
            payload_bytes: 2048,
            hub_protocol,
            checked_one_in: 2,
            progress: None,
            core: 0,
            watched: Vec::new(),
        };
        let (reader, writer) = pipe().unwrap();
        let mut worker = Worker::new(job, BufReader::new(reader)).unwrap();
        assert!(matches!(worker.open().unwrap(), Reply::Opened { .. }));
        (worker, writer)
    }

    fn timed(sample: &Sample) -> u64 {
        sample.latencies.iter().map(|(_, count)| count).sum()
    }

    fn measure(worker: &mut Worker) -> (Vec<Sample>, u64) {
        let ms = Duration::from_millis;
        let reply = worker.measure(ms(20), ms(50), 3).unwrap();
        let Reply::Measured { samples, messages } = reply else {
            panic!("{reply:?}");
        };
        (samples, messages)
    }

    #[test]
    fn each_client_has_so_many_echoes_under_way_and_none_when_it_is_over() {
        for protocol in [HubProtocol::Json, HubProtocol::MessagePack] {
            let (mut worker, _writer) = worker(Pacing::Closed { depth: 6 }, protocol);
            let mut messages_before = 0;
            for _ in 0..2 {
                let (samples, messages) = measure(&mut worker);
                let in_windows: u64 = samples.iter().map(|sample| sample.messages).sum();
                assert_eq!(samples.len(), 3);
                assert!(messages >= in_windows + u64::from(CLIENTS) * 6);
                // In a window messages are sent and others arrive, as many but for those under way at its edges.
                for sample in &samples {
                    let edges = u64::from(CLIENTS) * 6;
                    assert!(timed(sample).abs_diff(sample.messages) <= edges);
                }
                assert_eq!(worker.event_loop.clients().counts().under_way, 0);
                messages_before += messages;
                assert_eq!(worker.event_loop.messages(), messages_before);
            }
        }
    }

    #[test]
    fn no_window_begins_before_each_client_has_had_its_turn_twice() {
        let (mut worker, _writer) = worker(Pacing::Closed { depth: 6 }, HubProtocol::Json);
        worker.warm_up(Duration::ZERO).unwrap();
        let arrived = worker.event_loop.messages();
        assert!(arrived >= 2 * 6 * u64::from(CLIENTS), "{arrived}");
    }

    #[test]
    fn messages_leave_at_their_times_and_not_before() {
        let (mut worker, _writer) = worker(Pacing::Open { per_second: 1000 }, HubProtocol::Json);
        let began = Instant::now();
        let (samples, messages) = measure(&mut worker);
        let due = began.elapsed().as_millis() as u64 + 1;
        assert!(messages <= due, "{messages} of {due}");
        // So many are due until the last window ends, however late this thread runs.
        assert!(messages >= 170, "{messages}");
        // Every message that was due in a window has its latency there, whenever it left and came back.
        for sample in &samples {
            let due = Duration::from_secs_f64(sample.seconds).as_millis() as u64;
            assert!(timed(sample).abs_diff(due) <= 1, "{sample:?}");
        }
    }

    #[test]
    fn after_a_storm_all_clients_are_back_and_go_on() {
        let (mut worker, _writer) = worker(Pacing::Closed { depth: 1 }, HubProtocol::Json);
        for _ in 0..2 {
            let Reply::Stormed(storm) = worker.storm().unwrap() else {
                panic!("a storm was asked for");
            };
            assert_eq!(storm.failed, 0);
            let back: u64 = storm.latencies.iter().map(|(_, count)| count).sum();
            assert_eq!(back, u64::from(CLIENTS));
            let (_, messages) = measure(&mut worker);
            assert!(messages > 0);
        }
    }

    #[test]
    fn behind_a_hop_each_client_takes_two_descriptors() {
        let (mut worker, _writer) = worker(Pacing::Closed { depth: 1 }, HubProtocol::Json);
        let clients = u64::from(CLIENTS);
        assert_eq!(descriptors(&worker.job), 2 * clients + OTHER_DESCRIPTORS);
        worker.job.plays_other_side = false;
        assert_eq!(descriptors(&worker.job), clients + OTHER_DESCRIPTORS);
    }

    #[test]
    fn it_ends_with_its_input() {
        let (worker, writer) = worker(Pacing::Closed { depth: 1 }, HubProtocol::Json);
        drop(writer);
        worker.run().unwrap();
    }
}

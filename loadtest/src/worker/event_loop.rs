//! One thread, one poll, all sockets of a worker.

use std::io;
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::time::{Duration, Instant};

use mio::event::Event;
use mio::event::Source as _;
use mio::unix::SourceFd;
use mio::{Events, Interest, Poll, Registry, Token, Waker};
use rustix::time::{
    Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec, timerfd_create,
    timerfd_settime,
};

use super::clients::{CLIENT_FIRST, Clients};
use super::io::{ALLOCATED_FIRST, Io, TokenAllocator};
use super::other_side::{self, OtherSide};
use super::progress::{PROGRESS_FIRST, Progress};
use crate::error::LoadError;
use crate::job::Job;

/// The token of what only has to end the waiting.
const WAKE: Token = Token(0);

/// Receive buffer that all connections share.
const BUFFER_BYTES: usize = 256 * 1024;

/// Events that one poll may bring.
const EVENTS: usize = 1024;

/// Time before something is due that is spent looking instead of sleeping.
const ACTIVE_WAITING: Duration = Duration::from_micros(100);

/// The poll rounds up to milliseconds: it is precise enough for times beyond this one.
const ROUGH_WAITING_MIN: Duration = Duration::from_millis(4);

// Tokens lie in the order of those whose they are.
const _: () = assert!(WAKE.0 < PROGRESS_FIRST && PROGRESS_FIRST < CLIENT_FIRST);
const _: () = assert!(CLIENT_FIRST < ALLOCATED_FIRST);

/// Everything that has sockets.
pub(crate) struct EventLoop {
    poll: Poll,
    alarm: Alarm,
    events: Events,
    parts: Parts,
}

/// All but the poll.
pub(crate) struct Parts {
    pub(crate) clients: Clients,
    pub(crate) other_side: Option<Box<dyn OtherSide>>,
    progress: Progress,
    /// Messages that all clients of all workers have received, as far as it is known here.
    arrived: u64,
    tokens: TokenAllocator,
    buffer: Box<[u8]>,
}

impl EventLoop {
    pub(crate) fn new(job: &Job) -> Result<Self, LoadError> {
        let poll = Poll::new().map_err(LoadError::Poll)?;
        let progress = Progress::for_job(job, poll.registry())?;
        Ok(Self {
            alarm: Alarm::new(poll.registry())?,
            events: Events::with_capacity(EVENTS),
            parts: Parts {
                clients: Clients::new(job, Instant::now())?,
                other_side: other_side::for_job(job)?,
                progress,
                arrived: 0,
                tokens: TokenAllocator::new(),
                buffer: vec![0; BUFFER_BYTES].into_boxed_slice(),
            },
            poll,
        })
    }

    /// Ends the waiting of a turn from another thread.
    pub(crate) fn waker(&self) -> Result<Waker, LoadError> {
        Waker::new(self.poll.registry(), WAKE).map_err(LoadError::Poll)
    }

    pub(crate) fn clients(&mut self) -> &mut Clients {
        &mut self.parts.clients
    }

    /// The other side, if it is played here, with what it needs.
    pub(crate) fn with_other_side<T>(
        &mut self,
        act: impl FnOnce(&mut dyn OtherSide, &mut Io<'_>) -> T,
    ) -> Option<T> {
        let mut io = Io {
            registry: self.poll.registry(),
            tokens: &mut self.parts.tokens,
            buffer: &mut self.parts.buffer,
        };
        let other_side = self.parts.other_side.as_mut()?;
        Some(act(other_side.as_mut(), &mut io))
    }

    /// What has arrived here: what the clients have received, and what the other side counts itself.
    pub(crate) fn messages(&mut self) -> u64 {
        let other_side = self.parts.other_side.as_ref();
        let completed = other_side.and_then(|other_side| other_side.completed());
        self.parts.clients.counts().arrived + completed.unwrap_or(0)
    }

    /// Whether nothing is under way that is known here.
    pub(crate) fn is_quiet(&self) -> bool {
        let other_side = self.parts.other_side.as_ref();
        self.parts.clients.is_quiet() && other_side.is_none_or(|other_side| other_side.is_quiet())
    }

    /// Waits until something happens, is due, or `until` has come, and serves everything that is ready.
    pub(crate) fn turn(&mut self, until: Option<Instant>) -> Result<(), LoadError> {
        let now = Instant::now();
        let until = until.map(|until| until.saturating_duration_since(now));
        let timeout = match self.parts.waiting(now) {
            Waiting::Not => Some(Duration::ZERO),
            Waiting::Precisely(time) => {
                self.alarm.set(time)?;
                until
            }
            Waiting::Roughly(time) => time.into_iter().chain(until).min(),
        };
        match self.poll.poll(&mut self.events, timeout) {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::Interrupted => return Ok(()),
            Err(error) => return Err(LoadError::Poll(error)),
        }
        let registry = self.poll.registry();
        for event in &self.events {
            self.parts.on_event(event, registry)?;
        }
        self.parts.on_turn(registry)
    }
}

/// Ends the waiting of a turn at its time, in nanoseconds, where the poll counts in milliseconds.
struct Alarm {
    timer: OwnedFd,
}

impl Alarm {
    fn new(registry: &Registry) -> Result<Self, LoadError> {
        let timer = timerfd_create(
            TimerfdClockId::Monotonic,
            TimerfdFlags::NONBLOCK | TimerfdFlags::CLOEXEC,
        )
        .map_err(|error| LoadError::Poll(error.into()))?;
        // Each time that comes is an edge of its own, so nobody has to read that it has come.
        SourceFd(&timer.as_raw_fd())
            .register(registry, WAKE, Interest::READABLE)
            .map_err(LoadError::Poll)?;
        Ok(Self { timer })
    }

    /// Replaces what was set before. `time` is not zero.
    fn set(&self, time: Duration) -> Result<(), LoadError> {
        let once = Itimerspec {
            it_interval: Timespec::default(),
            it_value: Timespec {
                tv_sec: time.as_secs().cast_signed(),
                tv_nsec: time.subsec_nanos().into(),
            },
        };
        timerfd_settime(&self.timer, TimerfdTimerFlags::empty(), &once)
            .map_err(|error| LoadError::Poll(error.into()))?;
        Ok(())
    }
}

/// How to spend the time until something is due.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Waiting {
    /// By looking again and again.
    Not,
    /// Not for nothing, but for a short time.
    Precisely(Duration),
    /// In whole milliseconds, without an end if nothing will be due.
    Roughly(Option<Duration>),
}

impl Parts {
    fn waiting(&self, now: Instant) -> Waiting {
        if self.clients.is_in_a_hurry() {
            return Waiting::Not;
        }
        let other_side = self.other_side.as_ref();
        let other_due = other_side.and_then(|other_side| other_side.next_due());
        let due = self.clients.next_due().into_iter().chain(other_due).min();
        let left = due.map(|due| due.saturating_duration_since(now));
        waiting(left, matches!(self.progress, Progress::Alone))
    }

    fn on_event(&mut self, event: &Event, registry: &Registry) -> Result<(), LoadError> {
        let token = event.token();
        let mut io = Io {
            registry,
            tokens: &mut self.tokens,
            buffer: &mut self.buffer,
        };
        match token.0 {
            CLIENT_FIRST..ALLOCATED_FIRST => {
                self.clients
                    .on_ready(token.0 - CLIENT_FIRST, event, &mut io)
            }
            ALLOCATED_FIRST.. => match &mut self.other_side {
                Some(other_side) => other_side.on_ready(token, &mut io),
                None => Ok(()),
            },
            PROGRESS_FIRST..CLIENT_FIRST => self.progress.on_ready(token, registry, io.buffer),
            _ => Ok(()),
        }
    }

    fn on_turn(&mut self, registry: &Registry) -> Result<(), LoadError> {
        let mut io = Io {
            registry,
            tokens: &mut self.tokens,
            buffer: &mut self.buffer,
        };
        let now = Instant::now();
        self.clients.on_turn(now, &mut io)?;
        self.arrived = self.progress.exchange(self.clients.counts().arrived)?;
        let Some(other_side) = &mut self.other_side else {
            return Ok(());
        };
        for due in other_side.take_done() {
            self.clients.counts().latencies.record(due, now);
        }
        other_side.on_turn(now, self.arrived, &mut io)
    }
}

/// What is sent late counts against whoever is measured. But the poll sleeps for whole milliseconds, and a thread that is asleep takes
/// time to wake up. So what is almost due is waited for actively, unless there are other workers, who may need the same core.
fn waiting(left: Option<Duration>, is_alone: bool) -> Waiting {
    let active = if is_alone {
        ACTIVE_WAITING
    } else {
        Duration::ZERO
    };
    match left {
        Some(left) if left <= active => Waiting::Not,
        Some(left) if left < ROUGH_WAITING_MIN => Waiting::Precisely(left.saturating_sub(active)),
        Some(left) => Waiting::Roughly(Some(left.saturating_sub(ROUGH_WAITING_MIN / 2))),
        None => Waiting::Roughly(None),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_closer_something_is_due_the_more_precise_is_the_waiting() {
        let us = Duration::from_micros;
        for (left, alone, among_others) in [
            (None, Waiting::Roughly(None), Waiting::Roughly(None)),
            (
                Some(us(50_000)),
                Waiting::Roughly(Some(us(48_000))),
                Waiting::Roughly(Some(us(48_000))),
            ),
            (
                Some(us(500)),
                Waiting::Precisely(us(400)),
                Waiting::Precisely(us(500)),
            ),
            (Some(us(80)), Waiting::Not, Waiting::Precisely(us(80))),
            (Some(us(0)), Waiting::Not, Waiting::Not),
        ] {
            assert_eq!(waiting(left, true), alone);
            assert_eq!(waiting(left, false), among_others);
        }
    }
}

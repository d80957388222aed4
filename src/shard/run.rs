//! A shard's thread: its runtime, its tasks, and how it sleeps and wakes.

use std::cell::RefCell;
use std::io;
use std::rc::Rc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use super::admission::{self, Admission, Entrance};
use super::environment::{Environment, Listeners, PanicWatch, ShardError};
use super::mailbox::Mailbox;
use super::ring::wake::Wake;
use super::{Delivery, Shard};
use crate::limits::{TICK, TIME_IN_A_ROW, TURNS_IN_A_ROW};

/// Time until mails that found no room are posted again.
const POST_RETRY_DELAY: Duration = Duration::from_millis(1);

/// Starts a shard on a thread of its own. It ends after [`Delivery::Drain`], or when it cannot go on, which it reports.
pub fn start(
    environment: Environment,
    listeners: Listeners,
    mailbox: Mailbox<Delivery>,
    wake: Wake,
) -> io::Result<JoinHandle<()>> {
    let name = format!("hubring-shard-{}", environment.shard);
    std::thread::Builder::new().name(name).spawn(move || {
        let watch = PanicWatch::new(&environment);
        if let Err(error) = run(&environment, listeners, mailbox, &wake) {
            watch.report(error);
        }
    })
}

fn run(
    environment: &Environment,
    listeners: Listeners,
    mailbox: Mailbox<Delivery>,
    wake: &Wake,
) -> Result<(), ShardError> {
    let shard = environment.shard;
    if let Some(core) = environment.core
        && !core_affinity::set_for_current(core_affinity::CoreId { id: core })
    {
        tracing::warn!(%shard, core, "the shard's thread could not be pinned to its core");
    }
    let start_error = |source| ShardError::Start { shard, source };
    let runtime = tokio_uring::Runtime::new(&tokio_uring::builder()).map_err(start_error)?;
    runtime.block_on(async {
        let state = Shard::new(environment, mailbox, wake.clone()).map_err(start_error)?;
        let state = Rc::new(RefCell::new(state));
        let (admission, handed_back) = Admission::new(environment, Rc::clone(&state));
        let Listeners { service, echo } = listeners;
        let accept = |listener, entrance| {
            tokio_uring::spawn(admission::accept(listener, entrance, Rc::clone(&admission)))
        };
        let accepting = accept(service, Entrance::Service);
        let accepting_echoes = echo.map(|listener| accept(listener, Entrance::Echo));
        let taking_back =
            tokio_uring::spawn(admission::take_back(handed_back, Rc::clone(&admission)));
        let watch = PanicWatch::new(environment);
        let ticking = tokio_uring::spawn(tick(Rc::clone(&state), watch));
        let result = drive(&state, wake).await;
        accepting.abort();
        taking_back.abort();
        if let Some(accepting) = accepting_echoes {
            accepting.abort();
        }
        ticking.abort();
        result.map_err(|source| ShardError::Ring { shard, source })
    })
}

/// Turns the data ring whenever it is woken, until the shard is finished.
async fn drive(shard: &RefCell<Shard>, wake: &Wake) -> io::Result<()> {
    let mut waiting = wake.waiting()?;
    loop {
        let is_busy = turns_in_a_row(shard)?;
        if shard.borrow().is_finished(Instant::now()) {
            return Ok(());
        }
        if is_busy {
            // Admission and timers want their time too. The runtime hands its own submissions to the kernel only before it sleeps,
            // not when a task yields: so the shard sleeps, but sets its alarm off beforehand.
            wake.signal();
            waiting.signalled().await?;
            continue;
        }
        let has_delayed_mail = {
            let shard = shard.borrow();
            if !shard.mailbox.sleep() {
                continue;
            }
            shard.outgoing.has_delayed()
        };
        if has_delayed_mail {
            // Whether it was woken or the time was up: there is something to do.
            let _ = tokio::time::timeout(POST_RETRY_DELAY, waiting.signalled()).await;
        } else {
            waiting.signalled().await?;
        }
        let shard = shard.borrow();
        shard.mailbox.wake();
        shard.counters.wakes.increment();
    }
}

/// Turns until nothing is left or it is the others' turn. Whether there may be more.
fn turns_in_a_row(shard: &RefCell<Shard>) -> io::Result<bool> {
    let mut shard = shard.borrow_mut();
    let started = Instant::now();
    let mut now = started;
    for _ in 0..TURNS_IN_A_ROW {
        if !shard.turn(now)? {
            return Ok(false);
        }
        now = Instant::now();
        if now.duration_since(started) >= TIME_IN_A_ROW {
            break;
        }
    }
    Ok(true)
}

async fn tick(shard: Rc<RefCell<Shard>>, _watch: PanicWatch) {
    let mut interval = tokio::time::interval(TICK);
    interval.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        interval.tick().await;
        shard.borrow_mut().tick(Instant::now());
    }
}

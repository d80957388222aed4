//! The line to the coordinator: what it says is read by a thread of its own, which wakes the event loop.

use std::io::{self, BufRead, Write as _};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, TryRecvError, channel};

use mio::Waker;

use crate::error::LoadError;
use crate::job::{Command, Job, Reply};

/// What the coordinator says.
pub(crate) struct Commands {
    lines: Receiver<String>,
    has_ended: Arc<AtomicBool>,
    /// Outlives the thread that wakes: when a waker goes, a wake-up that nobody has seen yet goes with it.
    _waker: Arc<Waker>,
}

impl Commands {
    /// Reads the first line, which is the job.
    pub(crate) fn read_job() -> Result<Job, LoadError> {
        let mut line = String::new();
        io::stdin()
            .lock()
            .read_line(&mut line)
            .map_err(LoadError::Input)?;
        Ok(serde_json::from_str(&line)?)
    }

    /// Reads all that follows in `input`, until its end.
    pub(crate) fn listen(input: impl BufRead + Send + 'static, waker: Waker) -> Self {
        let (sender, lines) = channel();
        let has_ended = Arc::new(AtomicBool::new(false));
        let ended = Arc::clone(&has_ended);
        let waker = Arc::new(waker);
        let kept_waker = Arc::clone(&waker);
        std::thread::spawn(move || {
            for line in input.lines().map_while(Result::ok) {
                if sender.send(line).is_err() {
                    return;
                }
                // If the event loop is gone there is nobody to wake.
                let _ = waker.wake();
            }
            ended.store(true, Ordering::Relaxed);
            let _ = waker.wake();
        });
        Self {
            lines,
            has_ended,
            _waker: kept_waker,
        }
    }

    /// The next command, if one has come.
    pub(crate) fn next(&self) -> Result<Option<Command>, LoadError> {
        match self.lines.try_recv() {
            Ok(line) => Ok(Some(serde_json::from_str(&line)?)),
            Err(TryRecvError::Empty | TryRecvError::Disconnected) => Ok(None),
        }
    }

    /// Whether the coordinator has gone, so that nobody waits for what is being done.
    pub(crate) fn have_ended(&self) -> bool {
        self.has_ended.load(Ordering::Relaxed)
    }
}

/// Answers the coordinator.
pub(crate) fn reply(reply: &Reply) -> Result<(), LoadError> {
    let mut line = serde_json::to_vec(reply)?;
    line.push(b'\n');
    let mut output = io::stdout().lock();
    output.write_all(&line).map_err(LoadError::Output)?;
    output.flush().map_err(LoadError::Output)
}

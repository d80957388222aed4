//! The worker processes of one contestant: started with the value, killed with it.
//!
//! Every wait has an end: a worker that says nothing for too long is a fault, as is one that ends or says something that is no
//! [`Reply`]. A fault names the contestant, because several of them may be connected.

use std::io::{BufRead as _, BufReader, Write as _};
use std::os::unix::process::CommandExt as _;
use std::process::{Child, ChildStdin, ChildStdout, Command as Program, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::thread;
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use serde::Serialize;

use crate::error::LoadError;
use crate::job::{Command, CpuTimes, Job, Reply, Sample, Storm};

/// Time for what should take none, beside what was asked for.
const GRACE: Duration = Duration::from_secs(20);

/// Time until all connections are open and all groups joined.
const OPEN_TIMEOUT: Duration = Duration::from_mins(2);

/// Time for a storm. The worker itself gives up earlier.
const STORM_TIMEOUT: Duration = Duration::from_mins(1);

/// Time between looks whether the whole measurement is to stop.
const LOOK_INTERVAL: Duration = Duration::from_millis(50);

/// Significant digits of latencies: enough for percentiles to be right within 1 %.
const LATENCY_DIGITS: u8 = 2;

/// All workers of one contestant.
pub(crate) struct Workers {
    workers: Vec<Worker>,
}

/// What a contestant did in one measurement, over all its workers.
#[derive(Debug)]
pub(crate) struct Measured {
    pub(crate) samples: Vec<Sample>,
    /// Messages from the beginning of the warm-up to the last one that was under way.
    pub(crate) messages: u64,
}

impl Workers {
    /// Starts one worker for each job.
    pub(crate) fn start(
        contestant: &str,
        jobs: &[Job],
        stop: &Arc<AtomicBool>,
    ) -> Result<Self, LoadError> {
        let workers = jobs.iter().map(|job| Worker::start(contestant, job, stop));
        Ok(Self {
            workers: workers.collect::<Result<_, _>>()?,
        })
    }

    /// Opens all connections. Returns the time that the slowest worker needed.
    pub(crate) fn open(&mut self) -> Result<Duration, LoadError> {
        self.tell_all(&Command::Open)?;
        let mut longest = 0;
        for worker in &mut self.workers {
            let reply = worker.reply(OPEN_TIMEOUT)?;
            let Reply::Opened { connect_us } = reply else {
                return Err(worker.odd(&reply));
            };
            longest = longest.max(connect_us);
        }
        Ok(Duration::from_micros(longest))
    }

    /// Lets it flow for one window after a warm-up.
    pub(crate) fn measure(
        &mut self,
        warm_up: Duration,
        window: Duration,
    ) -> Result<Measured, LoadError> {
        let milliseconds = |time: Duration| u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
        self.tell_all(&Command::Measure {
            warm_up_ms: milliseconds(warm_up),
            window_ms: milliseconds(window),
            windows: 1,
        })?;
        let mut parts = Vec::new();
        for worker in &mut self.workers {
            let reply = worker.reply(warm_up + window + GRACE)?;
            let Reply::Measured { samples, messages } = reply else {
                return Err(worker.odd(&reply));
            };
            parts.push(Measured { samples, messages });
        }
        Ok(together(parts))
    }

    /// Breaks all connections and waits until they are back. The app server of the first worker may take the connections of the others
    /// with it, to whom that would be a fault if they did not know yet.
    pub(crate) fn storm(&mut self) -> Result<Storm, LoadError> {
        if let Some((first, others)) = self.workers.split_first_mut() {
            begin_storm(others)?;
            begin_storm(std::slice::from_mut(first))?;
        }
        let mut all = Storm::default();
        for worker in &mut self.workers {
            let reply = worker.reply(STORM_TIMEOUT)?;
            let Reply::Stormed(storm) = reply else {
                return Err(worker.odd(&reply));
            };
            all.back_us = all.back_us.max(storm.back_us);
            all.retries += storm.retries;
            all.failed += storm.failed;
            all.watched.extend(storm.watched);
            all.latencies.extend(storm.latencies);
        }
        Ok(all)
    }

    /// How many they are.
    pub(crate) fn count(&self) -> usize {
        self.workers.len()
    }

    fn tell_all(&mut self, command: &Command) -> Result<(), LoadError> {
        self.workers
            .iter_mut()
            .try_for_each(|worker| worker.tell(command))
    }
}

/// Tells workers of a storm, and waits until all of them expect it.
fn begin_storm(workers: &mut [Worker]) -> Result<(), LoadError> {
    for worker in &mut *workers {
        worker.tell(&Command::Storm)?;
    }
    for worker in workers {
        let reply = worker.reply(GRACE)?;
        if !matches!(reply, Reply::Storming) {
            return Err(worker.odd(&reply));
        }
    }
    Ok(())
}

/// One process.
struct Worker {
    contestant: String,
    child: Child,
    input: ChildStdin,
    replies: Receiver<Result<Reply, LoadError>>,
    stop: Arc<AtomicBool>,
}

impl Worker {
    fn start(contestant: &str, job: &Job, stop: &Arc<AtomicBool>) -> Result<Self, LoadError> {
        let program = std::env::current_exe().map_err(LoadError::OwnPath)?;
        // A group of its own: an interrupt at the terminal reaches only us, and we end the workers.
        let mut child = Program::new(program)
            .arg("worker")
            .process_group(0)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .map_err(LoadError::StartWorker)?;
        let (Some(input), Some(output)) = (child.stdin.take(), child.stdout.take()) else {
            unreachable!("both were asked for");
        };
        let mut worker = Self {
            contestant: contestant.to_owned(),
            child,
            input,
            replies: read_replies(contestant, output),
            stop: Arc::clone(stop),
        };
        worker.tell(job)?;
        Ok(worker)
    }

    fn tell(&mut self, what: &impl Serialize) -> Result<(), LoadError> {
        let mut line = serde_json::to_string(what)?;
        line.push('\n');
        // A worker that has failed reads no more; why it has failed is in its last reply.
        let _ = self.input.write_all(line.as_bytes());
        Ok(())
    }

    fn reply(&mut self, within: Duration) -> Result<Reply, LoadError> {
        let deadline = Instant::now() + within;
        loop {
            match self.replies.recv_timeout(LOOK_INTERVAL) {
                Ok(Ok(Reply::Failed { error })) => {
                    return Err(LoadError::WorkerFailed {
                        contestant: self.contestant.clone(),
                        error,
                    });
                }
                Ok(reply) => return reply,
                Err(RecvTimeoutError::Disconnected) => {
                    return Err(LoadError::WorkerEnded(self.contestant.clone()));
                }
                Err(RecvTimeoutError::Timeout) => {}
            }
            if self.stop.load(Ordering::Relaxed) {
                return Err(LoadError::Interrupted);
            }
            if Instant::now() > deadline {
                return Err(LoadError::WorkerSilent {
                    contestant: self.contestant.clone(),
                    seconds: within.as_secs(),
                });
            }
        }
    }

    fn odd(&self, reply: &Reply) -> LoadError {
        LoadError::OddReply {
            contestant: self.contestant.clone(),
            reply: format!("{reply:?}"),
        }
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A thread that waits for lines, because a pipe cannot be read with a time-out. It ends with the worker.
fn read_replies(contestant: &str, output: ChildStdout) -> Receiver<Result<Reply, LoadError>> {
    let (sender, receiver) = channel();
    let contestant = contestant.to_owned();
    thread::spawn(move || {
        for line in BufReader::new(output).lines().map_while(Result::ok) {
            let reply = serde_json::from_str(&line).map_err(|_| LoadError::OddReply {
                contestant: contestant.clone(),
                reply: line,
            });
            if sender.send(reply).is_err() {
                return;
            }
        }
    });
    receiver
}

/// What several workers saw of the same windows.
fn together(parts: Vec<Measured>) -> Measured {
    let mut all = Measured {
        samples: Vec::new(),
        messages: 0,
    };
    for part in parts {
        all.messages += part.messages;
        for (index, sample) in part.samples.into_iter().enumerate() {
            match all.samples.get_mut(index) {
                Some(sum) => add(sum, sample),
                None => all.samples.push(sample),
            }
        }
    }
    all
}

fn add(sum: &mut Sample, sample: Sample) {
    sum.seconds = sum.seconds.max(sample.seconds);
    sum.messages += sample.messages;
    sum.behind += sample.behind;
    sum.slow_closed += sample.slow_closed;
    sum.watched.extend(sample.watched);
    let CpuTimes {
        on_cpu_us,
        waiting_us,
        ..
    } = sample.own;
    sum.own.on_cpu_us += on_cpu_us;
    sum.own.waiting_us += waiting_us;
    sum.latencies.extend(sample.latencies);
}

/// Latencies as a worker gives them, in any order.
pub(crate) fn histogram(latencies: &[(u64, u64)]) -> Histogram<u64> {
    let mut histogram = Histogram::new(LATENCY_DIGITS).expect("so few digits are allowed");
    for (latency, count) in latencies {
        // It grows as it must, so there is nothing to refuse.
        let _ = histogram.record_n(*latency, *count);
    }
    histogram
}

#[cfg(test)]
mod tests {
    use super::*;

    fn part(messages: u64, watched: &[&str]) -> Measured {
        let times = |name: &&str| CpuTimes {
            name: (*name).to_owned(),
            on_cpu_us: 5.0,
            waiting_us: 0.0,
        };
        let sample = Sample {
            seconds: 1.0,
            messages,
            watched: watched.iter().map(times).collect(),
            own: times(&"own"),
            latencies: vec![(messages, 1)],
            ..Sample::default()
        };
        Measured {
            samples: vec![sample],
            messages: messages + 1,
        }
    }

    #[test]
    fn workers_are_added_up_and_the_service_is_counted_once() {
        let all = together(vec![part(10, &["service"]), part(20, &[])]);
        let sample = &all.samples[0];
        assert_eq!((sample.messages, all.messages), (30, 32));
        assert_eq!(sample.watched.len(), 1);
        assert!((sample.own.on_cpu_us - 10.0).abs() < f64::EPSILON);
        assert_eq!(histogram(&sample.latencies).len(), 2);
    }
}

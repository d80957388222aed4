//! One run: a fresh service, all connections, a warm-up, and the difference between two looks at everything that counts.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Instant;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use signal_hook::consts::{SIGINT, SIGTERM};

use crate::cli::{RunArgs, Scenario};
use crate::dial::Dialer;
use crate::error::LoadError;
use crate::metrics::Metrics;
use crate::process_figures::{ThreadTimes, thread_times};
use crate::report::{RoundTrips, Run, float};
use crate::service_process::ServiceProcess;
use crate::traffic::Traffic;

/// Descriptors for other things than connections.
const DESCRIPTORS_BESIDE: u64 = 64;

/// The counters of payload bytes that the service has copied.
const COPIES: [&str; 5] = [
    "copied_bytes_joint",
    "copied_bytes_assembled",
    "copied_bytes_fan_out",
    "copied_bytes_mail",
    "copied_bytes_detached",
];

/// What all runs have in common.
pub(crate) struct Measurement<'a> {
    scenario: Scenario,
    args: &'a RunArgs,
    service: PathBuf,
    stop: Arc<AtomicBool>,
}

impl<'a> Measurement<'a> {
    /// Checks what can be checked before anything is started.
    pub(crate) fn prepare(scenario: Scenario, args: &'a RunArgs) -> Result<Self, LoadError> {
        if args.service_core == args.own_core {
            return Err(LoadError::SameCore(args.own_core));
        }
        let connections = u64::from(args.clients) + u64::from(args.server_connections);
        require_descriptors(connections + DESCRIPTORS_BESIDE)?;
        let service = match &args.service {
            Some(path) => path.clone(),
            None => std::env::current_exe()
                .map_err(LoadError::OwnPath)?
                .with_file_name("hubring"),
        };
        // A signal must not leave a service behind, so it ends the run like any other fault.
        let stop = Arc::new(AtomicBool::new(false));
        for signal in [SIGINT, SIGTERM] {
            signal_hook::flag::register(signal, Arc::clone(&stop)).map_err(LoadError::Signals)?;
        }
        Ok(Self {
            scenario,
            args,
            service,
            stop,
        })
    }

    /// Measures once.
    pub(crate) fn run(&self) -> Result<Run, LoadError> {
        let Self { scenario, args, .. } = *self;
        let service =
            ServiceProcess::start(&self.service, args.service_core, args.own_core, &self.stop)?;
        let dialer = Dialer::new(service.address(), &ServiceProcess::access_key()?)?;
        let mut traffic = Traffic::open(args, &dialer, Arc::clone(&self.stop))?;
        traffic.start(scenario, args)?;
        traffic.flow(args.warm_up())?;

        traffic.counts().round_trips.reset();
        let metrics_before = service.metrics()?;
        let before = Look::now(&service, &mut traffic)?;
        traffic.flow(args.measured())?;
        let after = Look::now(&service, &mut traffic)?;
        let metrics_after = service.metrics()?;

        let mut run = figures(&before, &after, &metrics_before, &metrics_after);
        run.resident_bytes = float(service.resident_bytes()?);
        let round_trips = &traffic.counts().round_trips;
        if !round_trips.is_empty() {
            run.round_trips = Some(RoundTrips::of(round_trips));
        }
        Ok(run)
    }
}

/// The state of everything at one moment. The counters are not part of it, because to read them takes the service some time.
struct Look {
    at: Instant,
    service: ThreadTimes,
    own: ThreadTimes,
    received: u64,
}

impl Look {
    fn now(service: &ServiceProcess, traffic: &mut Traffic) -> Result<Self, LoadError> {
        Ok(Self {
            service: service.shard_times()?,
            own: thread_times("self", "")?,
            at: Instant::now(),
            received: traffic.counts().received,
        })
    }
}

fn figures(before: &Look, after: &Look, metrics_before: &Metrics, metrics_after: &Metrics) -> Run {
    let messages = float(after.received - before.received);
    let per_message = |value: f64| value / messages;
    let seconds = after.at.duration_since(before.at).as_secs_f64();
    let service = after.service.since(before.service);
    let (service, service_waited) = (service.on_cpu.as_secs_f64(), service.waiting.as_secs_f64());
    let own = after.own.since(before.own).on_cpu.as_secs_f64();
    let growth = |name| metrics_after.growth(metrics_before, name);
    Run {
        messages,
        messages_per_second: messages / seconds,
        service_us_per_message: per_message(service * 1e6),
        service_busy: service / seconds,
        service_disturbed: service_waited / seconds,
        own_us_per_message: per_message(own * 1e6),
        own_busy: own / seconds,
        resident_bytes: 0.0,
        round_trips: None,
        frames_per_send: growth("sent_frames") / growth("sends"),
        sends_per_message: per_message(growth("sends")),
        receives_per_message: per_message(growth("receives")),
        turns_per_message: per_message(growth("turns")),
        wakes_per_message: per_message(growth("wakes")),
        copied_bytes_per_message: per_message(COPIES.iter().map(|copy| growth(copy)).sum()),
        relays_crossed_shard: growth("relays_crossed_shard"),
    }
}

/// Raises the soft limit on descriptors if that is needed and possible.
fn require_descriptors(needed: u64) -> Result<(), LoadError> {
    let limit = getrlimit(Resource::Nofile);
    if limit.current.is_none_or(|current| current >= needed) {
        return Ok(());
    }
    let raised = Rlimit {
        current: Some(needed),
        maximum: limit.maximum,
    };
    setrlimit(Resource::Nofile, raised).map_err(|_| LoadError::TooFewDescriptors {
        needed,
        allowed: limit.maximum.unwrap_or(u64::MAX),
    })
}

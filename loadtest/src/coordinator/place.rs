//! Where everything runs, and what the whole measurement has in common.

use std::fs;
use std::iter;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Instant;

use hubring::config::CoreList;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use rustix::thread::{CpuSet, sched_getaffinity};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};

use super::scenario::Scenario;
use crate::cli::{AttachArgs, PlacementArgs};
use crate::contestants::Contestant;
use crate::contestants::kind::beside;
use crate::contestants::process::pin;
use crate::contestants::service::AttachedService;
use crate::error::LoadError;
use crate::job::{Job, Target};

/// Descriptors of a process for other things than connections.
const DESCRIPTORS_BESIDE: u64 = 64;

/// Clients of the process that plays the other side, if there are several. A process without any would have nothing to connect with.
const CLIENTS_OF_OTHER_SIDE: u32 = 1;

/// Descriptors of programs that take the limit as it is. Some reserve memory for all that they are allowed, so it is not raised further.
const DESCRIPTORS_OF_OTHERS: u64 = 65_536;

/// One client in so many compares what it receives: enough that no mix-up stays unnoticed, too few to be felt.
const CHECKED_ONE_IN: u32 = 64;

/// Cores, programs, and the wish to stop.
pub(crate) struct Place {
    /// The service's program.
    pub(crate) service: PathBuf,
    /// The service that is measured instead of one of our own.
    pub(crate) attached: Option<AttachedService>,
    pub(crate) service_cores: Vec<usize>,
    pub(crate) own_cores: Vec<usize>,
    processes: Option<u32>,
    /// Set by a signal, which must leave no process behind: it ends a measurement as any other fault does.
    pub(crate) stop: Arc<AtomicBool>,
    /// When the measurement began.
    pub(crate) started: Instant,
}

impl Place {
    /// Checks what can be checked before anything is started, and goes to one's own cores.
    pub(crate) fn take(
        placement: &PlacementArgs,
        attach: Option<&AttachArgs>,
    ) -> Result<Self, LoadError> {
        let (service_cores, own_cores) = cores(placement, &allowed_cores())?;
        let attached = match attach {
            Some(AttachArgs {
                connection_string: Some(connection_string),
                admin,
                service_pid,
            }) => Some(AttachedService::find(
                connection_string,
                *admin,
                *service_pid,
            )?),
            _ => None,
        };
        let service = match &placement.service {
            Some(path) => path.clone(),
            None => beside("hubring")?,
        };
        let stop = Arc::new(AtomicBool::new(false));
        let signals = [SIGHUP, SIGINT, SIGTERM].into_iter();
        for signal in signals.filter(|signal| !is_ignored(*signal)) {
            signal_hook::flag::register(signal, Arc::clone(&stop)).map_err(LoadError::Signals)?;
        }
        raise_descriptor_limit();
        if attached.is_none() {
            pin(&service_cores)?;
        }
        pin(&own_cores)?;
        Ok(Self {
            service,
            attached,
            service_cores,
            own_cores,
            processes: placement.processes.map(u32::from),
            stop,
            started: Instant::now(),
        })
    }

    /// What has to be known of it beside the figures.
    pub(crate) fn note(&self) -> Option<String> {
        let shared = common(&self.service_cores, &self.own_cores)?;
        Some(format!(
            "core {shared} is the only one, so service and load generator share it: figures are coarser than elsewhere"
        ))
    }

    /// What each worker of a contestant is told. The first one plays the other side.
    pub(crate) fn jobs(
        &self,
        contestant: &dyn Contestant,
        scenario: &Scenario,
        progress: Option<SocketAddr>,
    ) -> Vec<Job> {
        let target = contestant.target();
        let processes = self.processes_for(scenario, &target);
        let cores = self.own_cores.iter().copied().cycle();
        let shares = shares(scenario.clients, processes);
        let jobs = shares.zip(cores).enumerate();
        jobs.map(|(index, ((first_client, clients), core))| Job {
            target: target.clone(),
            load: scenario.load.clone(),
            clients,
            first_client,
            clients_total: scenario.clients,
            plays_other_side: index == 0,
            server_connections: scenario.server_connections,
            payload_bytes: scenario.payload_bytes,
            hub_protocol: scenario.hub_protocol,
            checked_one_in: CHECKED_ONE_IN,
            progress: progress.filter(|_| processes > 1),
            core,
            watched: if index == 0 {
                contestant.watched()
            } else {
                Vec::new()
            },
        })
        .collect()
    }

    /// As many as were asked for or as there are cores, but no process may need more descriptors than it can have. If that takes
    /// several, one more plays the other side.
    fn processes_for(&self, scenario: &Scenario, target: &Target) -> u32 {
        let wanted = self
            .processes
            .unwrap_or_else(|| u32::try_from(self.own_cores.len()).unwrap_or(u32::MAX));
        // A few clients make no work for several processes.
        let wanted = wanted.min(scenario.clients);
        let allowed = getrlimit(Resource::Nofile).maximum.unwrap_or(u64::MAX);
        let of_each_client = match target {
            // Each client comes back as a connection of the backend.
            Target::Hop { .. } => 2,
            Target::Service { .. }
            | Target::Floor { .. }
            | Target::Channel { .. }
            | Target::SelfHost { .. } => 1,
        };
        let beside = DESCRIPTORS_BESIDE + u64::from(scenario.server_connections);
        let most = (allowed.saturating_sub(beside) / of_each_client).max(1);
        let needed = u64::from(scenario.clients).div_ceil(most);
        let with_other_side = if needed > 1 || wanted > 1 {
            needed + 1
        } else {
            1
        };
        wanted.max(u32::try_from(with_other_side).unwrap_or(u32::MAX))
    }
}

/// Cores of the service and one's own. They differ unless there is only one.
fn cores(
    placement: &PlacementArgs,
    allowed: &[usize],
) -> Result<(Vec<usize>, Vec<usize>), LoadError> {
    let given = |list: &Option<CoreList>| list.as_ref().map(|cores| cores.indexes().to_vec());
    let first_beside = |taken: &[usize]| -> Vec<usize> {
        let core = allowed.iter().find(|core| !taken.contains(core));
        core.or_else(|| allowed.first())
            .copied()
            .into_iter()
            .collect()
    };
    let own = given(&placement.own_cores);
    let service = given(&placement.service_cores)
        .unwrap_or_else(|| first_beside(own.as_deref().unwrap_or_default()));
    let own = own.unwrap_or_else(|| first_beside(&service));
    match common(&service, &own) {
        Some(core) if allowed.len() > 1 => Err(LoadError::SameCore(core)),
        _ => Ok((service, own)),
    }
}

fn common(service: &[usize], own: &[usize]) -> Option<usize> {
    own.iter().copied().find(|core| service.contains(core))
}

/// Where this process may run.
fn allowed_cores() -> Vec<usize> {
    let allowed = sched_getaffinity(None).unwrap_or_default();
    let cores = 0..CpuSet::MAX_CPU;
    cores.filter(|core| allowed.is_set(*core)).collect()
}

/// Whether whoever started this program wants it to go on in spite of the signal, as `nohup` does: `SigIgn` has a bit for each (proc(5)).
fn is_ignored(signal: i32) -> bool {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let ignored = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    let ignored = ignored.and_then(|bits| u64::from_str_radix(bits.trim(), 16).ok());
    ignored.is_some_and(|bits| bits >> (signal - 1) & 1 == 1)
}

/// What is started from here inherits the limit. Whoever needs more raises its own.
fn raise_descriptor_limit() {
    let limit = getrlimit(Resource::Nofile);
    let highest = limit.maximum.unwrap_or(u64::MAX).min(DESCRIPTORS_OF_OTHERS);
    let raised = Rlimit {
        current: limit.current.map(|current| current.max(highest)),
        maximum: limit.maximum,
    };
    // If it cannot be raised, whoever wants for descriptors says so.
    let _ = setrlimit(Resource::Nofile, raised);
}

/// First client and number of clients of each process. Where there are several, the first one has as good as none: one thread plays the
/// whole other side, and clients beside it would be slower than those of the other processes.
fn shares(clients: u32, processes: u32) -> impl Iterator<Item = (u32, u32)> {
    let of_first = if processes > 1 {
        CLIENTS_OF_OTHER_SIDE
    } else {
        clients
    };
    let of_first = of_first.min(clients);
    let bound = move |index: u32| {
        let others = u64::from(processes.saturating_sub(1).max(1));
        let bound = u64::from(clients - of_first) * u64::from(index) / others;
        of_first + u32::try_from(bound).unwrap_or(clients - of_first)
    };
    let others =
        (1..processes).map(move |index| (bound(index - 1), bound(index) - bound(index - 1)));
    iter::once((0, of_first)).chain(others)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn service_and_load_generator_have_different_cores_if_there_are_two() {
        let cores = |service: Option<&str>, own: Option<&str>, allowed: &[usize]| {
            let list = |text: Option<&str>| text.map(|text| text.parse().unwrap());
            let placement = PlacementArgs {
                shards: None,
                service_cores: list(service),
                own_cores: list(own),
                processes: None,
                service: None,
            };
            cores(&placement, allowed).ok()
        };
        let both = |service: &[usize], own: &[usize]| Some((service.to_vec(), own.to_vec()));
        assert_eq!(cores(None, None, &[4, 5, 6]), both(&[4], &[5]));
        assert_eq!(cores(Some("5-6"), None, &[4, 5, 6]), both(&[5, 6], &[4]));
        assert_eq!(cores(None, Some("4"), &[4, 5]), both(&[5], &[4]));
        assert_eq!(cores(Some("4"), Some("4"), &[4, 5]), None);
        assert_eq!(cores(Some("4-5"), None, &[4, 5]), None);
        assert_eq!(cores(None, None, &[7]), both(&[7], &[7]));
        assert_eq!(cores(Some("7"), Some("7"), &[7]), both(&[7], &[7]));
    }

    #[test]
    fn every_client_is_played_by_one_process() {
        let of = |clients, processes| shares(clients, processes).collect::<Vec<_>>();
        assert_eq!(of(10, 1), [(0, 10)]);
        assert_eq!(of(10, 3), [(0, 1), (1, 4), (5, 5)]);
        assert_eq!(of(2, 2), [(0, 1), (1, 1)]);
    }
}

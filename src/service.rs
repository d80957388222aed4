//! One running service: its shards, its control plane, and how they start and stop together.

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use socket2::{Domain, Protocol, Socket, Type};
use tokio::sync::{mpsc, watch};

use crate::config::{ConfigError, ServiceConfig};
use crate::control::http_clients::remove_idle_clients;
use crate::control::{self, Control};
use crate::counters::Counters;
use crate::id::ShardId;
use crate::inspector::Inspector;
use crate::limits::{
    ADDRESS_IN_USE_MAX, ADDRESS_RETRY_DELAY, DESCRIPTORS_RESERVED, DRAIN_TIMEOUT,
    HANDED_OVER_DEPTH, MAILBOX_DEPTH,
};
use crate::shard::admission::gate::{Gate, HandedOver, Sockets};
use crate::shard::admission::identity::random;
use crate::shard::directory::Directory;
use crate::shard::mailbox::{Postboxes, mailbox};
use crate::shard::pending::PendingConnections;
use crate::shard::ring::probe::{ProbeError, probe};
use crate::shard::ring::wake::Wake;
use crate::shard::{self, Delivery, Environment, Listeners, ShardError};

const BACKLOG: i32 = 4096;

/// Why a service could not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The configuration makes no sense, or would be dangerous.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The kernel does not provide what is needed.
    #[error(transparent)]
    Kernel(#[from] ProbeError),
    /// An address cannot be listened on.
    #[error("cannot listen on {address}: {source}")]
    Listen {
        /// Which.
        address: SocketAddr,
        /// Why.
        source: io::Error,
    },
    /// A thread or a wake-up could not be made.
    #[error("cannot start a shard: {0}")]
    Shard(#[from] io::Error),
}

/// A running service. Dropping it does not stop it; [`Service::drain`] does.
#[derive(Debug)]
pub struct Service {
    config: ServiceConfig,
    admin: Option<SocketAddr>,
    inspector: Inspector,
    shards: Vec<JoinHandle<()>>,
    control: tokio::task::JoinHandle<()>,
    /// Tells the control plane that the service stops.
    draining: watch::Sender<bool>,
    /// What goes on beside it.
    tasks: Vec<tokio::task::JoinHandle<()>>,
    failures: mpsc::UnboundedReceiver<ShardError>,
}

impl Service {
    /// Starts all shards and the control plane, which runs on the tokio runtime that this is called on.
    pub async fn start(mut config: ServiceConfig) -> Result<Self, StartError> {
        config.validate()?;
        probe()?;
        let cores = cores(&config);
        let shard_count = shard_count(&config, &cores);
        let listeners = once_free(config.listen, || listen(config.listen, shard_count)).await?;
        if let Some(listener) = listeners.first() {
            config.listen = listener.local_addr()?;
        }

        // Before there are shards, which would go on without a service.
        let admin_listener = listen_for_admin(config.admin).await?;
        let echo_listener = listen_for_echo(&mut config).await?;

        let directory = Arc::new(Directory::new(shard_count));
        let (control, handed_over) = mpsc::channel(HANDED_OVER_DEPTH);
        let instance_id: Arc<str> = instance_id()?.into();
        let gate = Arc::new(gate(&config, &instance_id, control));
        let (failed, failures) = mpsc::unbounded_channel();
        let (inspector, shards) =
            start_shards(listeners, echo_listener, |shard, postboxes, counters| {
                Environment {
                    shard,
                    core: cores.get(shard.index() % cores.len().max(1)).copied(),
                    postboxes,
                    directory: Arc::clone(&directory),
                    counters,
                    gate: Arc::clone(&gate),
                    park_on_drop: config.park_on_drop,
                    failed: failed.clone(),
                }
            })?;
        let control = Control::new(directory, gate, &inspector);
        let (draining, is_draining) = watch::channel(false);
        let http_clients = Arc::clone(&control.http_clients);
        let removing = remove_idle_clients(http_clients, is_draining.clone());
        let mut tasks = vec![tokio::spawn(removing)];
        let control = tokio::spawn(control::serve(handed_over, control, is_draining));
        let admin = match admin_listener {
            Some(listener) => {
                let address = listener.local_addr()?;
                tasks.push(tokio::spawn(serve_admin(listener, inspector.clone())));
                Some(address)
            }
            None => None,
        };
        tracing::info!(listen = %config.listen, ?admin, shards = shard_count, ?cores, %instance_id, "the service is up");
        Ok(Self {
            config,
            admin,
            inspector,
            shards,
            control,
            draining,
            tasks,
            failures,
        })
    }

    /// Where clients and app servers connect.
    pub fn address(&self) -> SocketAddr {
        self.config.listen
    }

    /// Where operators look.
    pub fn admin_address(&self) -> Option<SocketAddr> {
        self.admin
    }

    /// Where WebSocket messages are sent back.
    pub fn echo_address(&self) -> Option<SocketAddr> {
        self.config.websocket_echo
    }

    /// What an app server has to be configured with.
    pub fn connection_string(&self) -> Result<String, ConfigError> {
        Ok(self.config.connection_string()?.text())
    }

    /// A way to look into it.
    pub fn inspector(&self) -> Inspector {
        self.inspector.clone()
    }

    /// Waits for a shard to fail. It never does, unless something is broken.
    pub async fn failure(&mut self) -> ShardError {
        match self.failures.recv().await {
            Some(failure) => failure,
            None => std::future::pending().await,
        }
    }

    /// Closes all connections in good order and ends all shards.
    pub async fn drain(mut self) -> Result<(), ShardError> {
        let deadline = tokio::time::Instant::now() + DRAIN_TIMEOUT;
        for postbox in self.inspector.postboxes().iter() {
            let mut delivery = Delivery::Drain;
            while let Err(back) = postbox.post(delivery) {
                delivery = back;
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        }
        self.draining.send_replace(true);
        let shards = self.shards;
        let joined = tokio::task::spawn_blocking(move || {
            for shard in shards {
                // A panic has been reported while it unwound.
                let _ = shard.join();
            }
        });
        let _ = joined.await;
        // Shards have ended the clients that it serves for them; what else it is at work on gets the rest of the time.
        if tokio::time::timeout_at(deadline, &mut self.control)
            .await
            .is_err()
        {
            self.control.abort();
        }
        for task in self.tasks {
            task.abort();
        }
        match self.failures.try_recv() {
            Ok(failure) => Err(failure),
            Err(_) => Ok(()),
        }
    }
}

/// Who may come in. `control` is where those go who belong to the control plane.
fn gate(config: &ServiceConfig, instance_id: &Arc<str>, control: mpsc::Sender<HandedOver>) -> Gate {
    Gate {
        instance_id: Arc::clone(instance_id),
        keys: config.token_keys(),
        pending: Arc::new(PendingConnections::default()),
        sockets: Arc::new(Sockets::new(sockets_max(config.connections_max))),
        trust_forwarded_for: config.trust_forwarded_for,
        stateful_reconnect: config.stateful_reconnect,
        control,
    }
}

/// Starts a shard for each listener. The first of them gets the one for echoes too.
fn start_shards(
    listeners: Vec<TcpListener>,
    mut echo: Option<TcpListener>,
    environment: impl Fn(ShardId, Postboxes<Delivery, Wake>, Arc<Counters>) -> Environment,
) -> io::Result<(Inspector, Vec<JoinHandle<()>>)> {
    let mut mailboxes = Vec::new();
    let mut postboxes = Vec::new();
    for _ in &listeners {
        let wake = Wake::new()?;
        let (postbox, mailbox) = mailbox(MAILBOX_DEPTH, wake.clone());
        mailboxes.push((mailbox, wake));
        postboxes.push(postbox);
    }
    let postboxes: Postboxes<Delivery, Wake> = postboxes.into();
    let counters: Arc<[Arc<Counters>]> = listeners.iter().map(|_| Arc::default()).collect();
    let mut shards = Vec::new();
    for (index, ((listener, (mailbox, wake)), counters)) in listeners
        .into_iter()
        .zip(mailboxes)
        .zip(counters.iter())
        .enumerate()
    {
        let environment = environment(
            ShardId(index as u16),
            Arc::clone(&postboxes),
            Arc::clone(counters),
        );
        let listeners = Listeners {
            service: listener,
            echo: echo.take(),
        };
        shards.push(shard::start(environment, listeners, mailbox, wake)?);
    }
    Ok((Inspector::new(postboxes, counters), shards))
}

fn shard_count(config: &ServiceConfig, cores: &[usize]) -> usize {
    match config.shards {
        Some(shards) => usize::from(shards.get()),
        None => cores.len().max(1),
    }
}

/// The cores that shards are pinned to, in the order of the shards.
fn cores(config: &ServiceConfig) -> Vec<usize> {
    match &config.cores {
        Some(list) => list.indexes().to_vec(),
        None => core_affinity::get_core_ids()
            .unwrap_or_default()
            .into_iter()
            .map(|core| core.id)
            .collect(),
    }
}

/// One listener per shard on the same address: the kernel spreads connections over them.
fn listen(address: SocketAddr, count: usize) -> io::Result<Vec<TcpListener>> {
    // Sharing the port must not let a second service on it by accident, so first it is seen to be free.
    let mut bound = socket(address, false)?
        .local_addr()?
        .as_socket()
        .unwrap_or(address);
    bound.set_ip(address.ip());
    (0..count)
        .map(|_| {
            let socket = socket(bound, true)?;
            socket.listen(BACKLOG)?;
            Ok(socket.into())
        })
        .collect()
}

/// Listens on an address, and waits a while if it is in use: the kernel takes the rings of a process apart, and closes the sockets in them,
/// only after that process has ended. A service that is started again at once would not get its own address.
async fn once_free<T>(
    address: SocketAddr,
    listen: impl Fn() -> io::Result<T>,
) -> Result<T, StartError> {
    let deadline = Instant::now() + ADDRESS_IN_USE_MAX;
    let mut is_told = false;
    loop {
        match listen() {
            Err(error) if error.kind() == io::ErrorKind::AddrInUse && Instant::now() < deadline => {
                if !is_told {
                    tracing::info!(%address, "waits for an address that is in use");
                    is_told = true;
                }
                tokio::time::sleep(ADDRESS_RETRY_DELAY).await;
            }
            listening => return listening.map_err(|source| StartError::Listen { address, source }),
        }
    }
}

fn socket(address: SocketAddr, is_shared: bool) -> io::Result<Socket> {
    let socket = Socket::new(
        Domain::for_address(address),
        Type::STREAM.cloexec(),
        Some(Protocol::TCP),
    )?;
    socket.set_reuse_address(true)?;
    socket.set_reuse_port(is_shared)?;
    socket.bind(&address.into())?;
    Ok(socket)
}

async fn listen_for_admin(
    address: Option<SocketAddr>,
) -> Result<Option<tokio::net::TcpListener>, StartError> {
    let Some(address) = address else {
        return Ok(None);
    };
    let listen = || {
        let socket = socket(address, false)?;
        socket.listen(BACKLOG)?;
        socket.set_nonblocking(true)?;
        tokio::net::TcpListener::from_std(socket.into())
    };
    once_free(address, listen).await.map(Some)
}

/// The address becomes the one that was found, as port 0 is none.
async fn listen_for_echo(config: &mut ServiceConfig) -> Result<Option<TcpListener>, StartError> {
    let Some(address) = config.websocket_echo else {
        return Ok(None);
    };
    let listener = once_free(address, || listen(address, 1)).await?.pop();
    if let Some(listener) = &listener {
        let address = listener.local_addr()?;
        tracing::info!(%address, "WebSocket messages are sent back");
        config.websocket_echo = Some(address);
    }
    Ok(listener)
}

async fn serve_admin(listener: tokio::net::TcpListener, inspector: Inspector) {
    if let Err(error) = axum::serve(listener, control::admin::router(inspector)).await {
        tracing::error!(%error, "the admin port is not served any more");
    }
}

/// Connections that there are descriptors for, after asking for as many descriptors as the system gives.
fn sockets_max(configured: Option<usize>) -> usize {
    let limit = rlimit::raise_descriptors().unwrap_or(1024);
    let possible = limit.saturating_sub(DESCRIPTORS_RESERVED).max(1);
    configured.map_or(possible, |configured| configured.min(possible))
}

fn instance_id() -> io::Result<String> {
    Ok(format!("{:016x}", random()? as u64))
}

mod rlimit {
    use std::io;

    /// Raises the soft limit on descriptors to the hard one, and says what it is.
    pub(super) fn raise_descriptors() -> io::Result<usize> {
        let mut limit = libc::rlimit {
            rlim_cur: 0,
            rlim_max: 0,
        };
        // SAFETY: The pointer is to a live `rlimit`.
        if unsafe { libc::getrlimit(libc::RLIMIT_NOFILE, &raw mut limit) } != 0 {
            return Err(io::Error::last_os_error());
        }
        limit.rlim_cur = limit.rlim_max;
        // SAFETY: As above. A refusal leaves the limit as it was.
        if unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &raw const limit) } != 0 {
            tracing::warn!(error = %io::Error::last_os_error(), "the limit on descriptors could not be raised");
        }
        Ok(limit.rlim_cur as usize)
    }
}

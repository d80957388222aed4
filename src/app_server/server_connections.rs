//! Keeping the server connections of a hub up, and taking them down.
//!
//! Each of the hub's connections has a task that opens it again whenever it ends. While none is up, only one of the tasks at a
//! time tries (a probe), and when it gets through the others follow at once: a service that is down is not asked five times as
//! often as needed. Time between attempts: [`BackOff`].

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use tokio::sync::{Mutex, OwnedMutexGuard};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, sleep_until, timeout};
use tracing::{info, warn};

use super::back_off::BackOff;
use super::client::SuddenEnd;
use super::hub_server::HubServer;
use super::lock::Lock;
use super::random;
use super::server_connection::{ServerConnection, connect};
use crate::protocol::service::Ping;
use crate::protocol::service::ping::{AppPing, ShutdownMode};

type Message<'a> = crate::protocol::service::Message<'a, &'a [u8]>;

/// Keeps the server connections of `hub` up. Never ends by itself.
pub(super) async fn keep_up(hub: &Arc<HubServer>) {
    let probe = Arc::new(Probe::default());
    let mut tasks = JoinSet::new();
    for _ in 0..hub.process.options.server_connections {
        tasks.spawn(keep_one_up(Arc::clone(hub), Arc::clone(&probe)));
    }
    tasks.spawn(ask_for_status(Arc::clone(hub)));
    // The tasks end with the set, when this future is dropped.
    while tasks.join_next().await.is_some() {}
}

/// Takes the server connections of `hub` down without cutting anybody off: no new clients, then a goodbye to each, then the end.
pub(super) async fn take_down(hub: &Arc<HubServer>) {
    hub.stop();
    let server_connections = hub.server_connections();
    join_all(
        server_connections
            .iter()
            .map(|connection| announce_end(connection)),
    )
    .await;
    for client in hub.clients() {
        client.end(SuddenEnd::Shutdown);
    }
    hub.without_clients(CLIENTS_TIMEOUT).await;
    for connection in &server_connections {
        connection.close();
    }
    let mut up = hub.watch_server_connections();
    // Neither an elapsed limit nor a hub that is gone changes anything: this is the end.
    let _ = timeout(CLOSE_TIMEOUT, up.wait_for(Vec::is_empty)).await;
}

/// Opens one more server connection because a service process wants one. When it ends, it is not opened again.
pub(super) fn open_on_demand(hub: &Arc<HubServer>, instance_id: &str) {
    if hub.is_stopping() || hub.server_connections().len() >= SERVER_CONNECTIONS_MAX {
        return;
    }
    let (hub, instance_id) = (Arc::clone(hub), instance_id.to_owned());
    tokio::spawn(async move {
        match connect(&hub, Some(&instance_id)).await {
            Ok(connected) => {
                let id = connected.id().to_owned();
                info!(hub = %hub.name, server_connection = id, "server connection up on demand");
                let lost = connected.run(&hub).await;
                info!(hub = %hub.name, server_connection = id, reason = %lost, "server connection on demand ended");
            }
            Err(error) => warn!(hub = %hub.name, %error, "no server connection on demand"),
        }
    });
}

/// Server connections of one hub beyond which none is opened on demand.
const SERVER_CONNECTIONS_MAX: usize = 256;

/// The service is told that we go every 5 s, until it has acknowledged or this has passed.
const FIN_TIMEOUT: Duration = Duration::from_secs(10);
const FIN_INTERVAL: Duration = Duration::from_secs(5);

/// For the goodbyes of all clients.
const CLIENTS_TIMEOUT: Duration = Duration::from_secs(10);

/// For the service to answer our close.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(6);

/// How often the service is asked whether the hub has clients, on one of the connections.
const STATUS_INTERVAL: Duration = Duration::from_secs(10);

/// Whose turn it is to find out whether the service is there again.
#[derive(Debug, Default)]
struct Probe {
    turn: Arc<Mutex<LastProbe>>,
    back_off: Lock<BackOff>,
}

#[derive(Debug, Default)]
struct LastProbe {
    started: Option<Instant>,
}

/// On what grounds an attempt is made.
enum Turn {
    /// The first of its task. All tasks make theirs together.
    First,
    /// Others of the hub's connections are up.
    Beside,
    /// None is up, and this one is to find out. No other begins while it is held.
    Probe { _turn: OwnedMutexGuard<LastProbe> },
}

async fn keep_one_up(hub: Arc<HubServer>, probe: Arc<Probe>) {
    let mut back_off = BackOff::default();
    let mut turn = Turn::First;
    loop {
        let started = Instant::now();
        let is_probe = matches!(turn, Turn::Probe { .. });
        match connect(&hub, None).await {
            Ok(connected) => {
                let id = connected.id().to_owned();
                info!(hub = %hub.name, server_connection = id, "server connection up");
                let up_since = Instant::now();
                drop(turn);
                let lost = connected.run(&hub).await;
                let lasted = up_since.elapsed();
                info!(hub = %hub.name, server_connection = id, reason = %lost, "server connection ended");
                back_off.on_end(lasted);
                if is_probe || lasted >= BackOff::LASTING {
                    probe.back_off.with(|back_off| back_off.on_end(lasted));
                }
            }
            Err(error) => {
                info!(hub = %hub.name, %error, "no server connection");
                match &turn {
                    Turn::First => {}
                    Turn::Beside => back_off.on_failure(),
                    Turn::Probe { .. } => probe.back_off.with(BackOff::on_failure),
                }
                drop(turn);
            }
        }
        if hub.is_stopping() {
            return;
        }
        turn = next_turn(&hub, &probe, back_off, started).await;
    }
}

/// Waits until the next attempt is due.
async fn next_turn(hub: &HubServer, probe: &Probe, back_off: BackOff, started: Instant) -> Turn {
    let chance = random::number() as u16;
    let mut up = hub.watch_server_connections();
    let probing = async {
        let mut turn = Arc::clone(&probe.turn).lock_owned().await;
        let delay = probe
            .back_off
            .with(|shared| (*shared).max(back_off).delay(chance));
        let last = turn.started.map_or(started, |probed| probed.max(started));
        sleep_until(last + delay).await;
        turn.started = Some(Instant::now());
        turn
    };
    tokio::select! {
        biased;
        // An error would mean that the hub is gone, and this task with it.
        _ = up.wait_for(|up| !up.is_empty()) => {}
        turn = probing => return Turn::Probe { _turn: turn },
    }
    sleep_until(started + back_off.delay(chance)).await;
    Turn::Beside
}

async fn ask_for_status(hub: Arc<HubServer>) {
    loop {
        sleep(STATUS_INTERVAL).await;
        if let Some(connection) = random::choose(&hub.server_connections()) {
            ping(connection, AppPing::StatusQuery);
        }
    }
}

/// Tells the service that this connection shall get no new clients, until it has understood.
async fn announce_end(connection: &ServerConnection) {
    let repeat = async {
        loop {
            ping(connection, AppPing::Fin(ShutdownMode::Off));
            sleep(FIN_INTERVAL).await;
        }
    };
    let acknowledged = async {
        tokio::select! {
            () = connection.fin_acknowledged() => {}
            () = repeat => {}
        }
    };
    if timeout(FIN_TIMEOUT, acknowledged).await.is_err() {
        warn!(
            server_connection = connection.id,
            "the service has not acknowledged the end"
        );
    }
}

fn ping(connection: &ServerConnection, ping: AppPing) {
    // An error means that the connection has just ended.
    let _ = connection.send_now(&Message::from(Ping::from(ping)));
}

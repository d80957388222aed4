//! Keeping the server connections of a hub up, to each endpoint as many.
//!
//! Each of the connections has a task that opens it again whenever it ends. While none to an endpoint is up, only one of its
//! tasks at a time tries (a probe), and when it gets through the others follow at once: a service that is down is not asked five
//! times as often as needed. Time between attempts: [`BackOff`]. A connection that was opened because the service asked for it is
//! not opened again.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Mutex, OwnedMutexGuard};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, sleep_until};
use tracing::{info, warn};

use super::back_off::BackOff;
use super::endpoint::HubEndpoint;
use super::hub_server::HubServer;
use super::lock::Lock;
use super::random;
use super::server_connection::{ServerConnection, connect};
use crate::protocol::service::Ping;
use crate::protocol::service::ping::AppPing;

type Message<'a> = crate::protocol::service::Message<'a, &'a [u8]>;

/// Keeps the server connections of `hub` up. Never ends by itself.
pub(super) async fn keep_up(hub: &Arc<HubServer>) {
    let mut tasks = JoinSet::new();
    for endpoint in &hub.endpoints {
        let probe = Arc::new(Probe::default());
        for _ in 0..hub.process.options.server_connections {
            let (hub, endpoint, probe) =
                (Arc::clone(hub), Arc::clone(endpoint), Arc::clone(&probe));
            tasks.spawn(keep_one_up(hub, endpoint, probe));
        }
        tasks.spawn(ask_for_status(Arc::clone(endpoint)));
    }
    // The tasks end with the set, when this future is dropped.
    while tasks.join_next().await.is_some() {}
}

/// Opens one more server connection because a service process wants one, unless there are as many as there may be.
pub(super) fn open_on_demand(hub: &Arc<HubServer>, endpoint: &Arc<HubEndpoint>, instance_id: &str) {
    let options = &hub.process.options;
    let (kept_up, max) = (options.server_connections, options.server_connections_max);
    if hub.is_stopping() {
        return;
    }
    let Some(place) = endpoint.begin_on_demand(kept_up, max) else {
        return;
    };
    let (hub, endpoint, instance_id) = (
        Arc::clone(hub),
        Arc::clone(endpoint),
        instance_id.to_owned(),
    );
    tokio::spawn(async move {
        let _place = place;
        match connect(&hub, &endpoint, Some(&instance_id)).await {
            // Nobody would close it.
            Ok(_) if hub.is_stopping() => {}
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
    /// Others of the connections are up.
    Beside,
    /// None is up, and this one is to find out. No other begins while it is held.
    Probe { _turn: OwnedMutexGuard<LastProbe> },
}

async fn keep_one_up(hub: Arc<HubServer>, endpoint: Arc<HubEndpoint>, probe: Arc<Probe>) {
    let mut back_off = BackOff::default();
    let mut turn = Turn::First;
    loop {
        let started = Instant::now();
        let is_probe = matches!(turn, Turn::Probe { .. });
        match connect(&hub, &endpoint, None).await {
            // Nobody would close it.
            Ok(_) if hub.is_stopping() => {}
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
        turn = next_turn(&endpoint, &probe, back_off, started).await;
    }
}

/// Waits until the next attempt is due.
async fn next_turn(
    endpoint: &HubEndpoint,
    probe: &Probe,
    back_off: BackOff,
    started: Instant,
) -> Turn {
    let chance = random::number() as u16;
    let mut up = endpoint.watch_server_connections();
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

async fn ask_for_status(endpoint: Arc<HubEndpoint>) {
    loop {
        sleep(STATUS_INTERVAL).await;
        if let Some(connection) = random::choose(&endpoint.server_connections()) {
            ping(connection, AppPing::StatusQuery);
        }
    }
}

/// Sends a ping on this connection.
pub(super) fn ping(connection: &ServerConnection, ping: AppPing) {
    // An error means that the connection has just ended.
    let _ = connection.send_now(&Message::from(Ping::from(ping)));
}

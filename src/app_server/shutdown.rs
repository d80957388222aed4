//! Taking the server connections of a hub down without cutting anybody off.
//!
//! Each is announced to the service by a ping, repeated until the service has understood that it shall send no new clients there.
//! What becomes of the clients that are here is said by the [`ShutdownMode`]:
//!
//! | | |
//! |---|---|
//! | `Off` | each is told to connect again, which leads it to another app server |
//! | `WaitForClientsClose` | [`Hub::stopping`](super::Hub::stopping) runs, then the clients have time to leave |
//! | `MigrateClients` | the same, while the service moves them to other app servers without their noticing |
//!
//! All of it ends at one deadline, and then the connections are closed whoever is left. What the hub does about clients that have
//! gone may take as long. A service that has not understood by then
//! would not carry a goodbye either, so none is sent. Weak connections have no clients and are closed without a word.

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use tokio::time::{Instant, sleep, timeout, timeout_at};
use tracing::{info, warn};

use super::client::SuddenEnd;
use super::clients::Clients;
use super::hub_server::HubServer;
use super::server_connection::ServerConnection;
use super::server_connections::ping;
use crate::protocol::service::ServerConnectionType;
use crate::protocol::service::ping::{AppPing, ShutdownMode};

/// Takes all server connections of `hub` down, as its process's options say.
pub(super) async fn take_down(hub: &Arc<HubServer>) {
    hub.stop();
    let options = &hub.process.options;
    let deadline = Instant::now() + options.shutdown_timeout;
    let server_connections = hub.server_connections();
    let announcements = server_connections
        .iter()
        .filter(|connection| connection.connection_type != ServerConnectionType::Weak)
        .map(|connection| announce(connection, options.shutdown_mode));
    if timeout_at(deadline, join_all(announcements)).await.is_ok() {
        let goodbyes = let_clients_go(hub, options.shutdown_mode, deadline);
        // Whoever is left at the deadline is cut off.
        let _ = timeout_at(deadline, goodbyes).await;
    } else {
        warn!(hub = %hub.name, "the service has not acknowledged the end");
    }
    close_all(hub).await;
    // Nobody on the wire waits any more, but `disconnected` may have something to save.
    let _ = timeout_at(deadline, hub.all_served()).await;
}

/// How often the service is told that we go.
const FIN_INTERVAL: Duration = Duration::from_secs(5);

/// For the service to answer our close.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(6);

/// Tells the service that this connection shall get no new clients, until it has understood or the connection is gone.
async fn announce(connection: &ServerConnection, mode: ShutdownMode) {
    let repeat = async {
        loop {
            ping(connection, AppPing::Fin(mode));
            sleep(FIN_INTERVAL).await;
        }
    };
    tokio::select! {
        () = connection.fin_acknowledged() => {}
        () = connection.closed() => {}
        () = repeat => {}
    }
}

async fn let_clients_go(hub: &Arc<HubServer>, mode: ShutdownMode, deadline: Instant) {
    match mode {
        ShutdownMode::Off => {
            for client in hub.clients() {
                client.end(SuddenEnd::Shutdown);
            }
        }
        ShutdownMode::WaitForClientsClose | ShutdownMode::MigrateClients => {
            hub.hub.stopping(&Clients::new(Arc::clone(hub), None)).await;
        }
    }
    if hub.without_clients(deadline).await {
        info!(hub = %hub.name, "all clients have gone");
    }
}

async fn close_all(hub: &HubServer) {
    for connection in hub.server_connections() {
        connection.close();
    }
    let closed = hub.endpoints.iter().map(|endpoint| async {
        let mut up = endpoint.watch_server_connections();
        // An error would mean that the hub is gone: this is the end either way.
        let _ = up.wait_for(Vec::is_empty).await;
    });
    let _ = timeout(CLOSE_TIMEOUT, join_all(closed)).await;
}

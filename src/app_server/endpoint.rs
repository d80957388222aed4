//! The endpoints of the service that the app server is connected to, and how one hub stands with each.
//!
//! Clients are sent to a primary endpoint that is online, and only while there is none to a secondary one. The server connections
//! to a secondary endpoint are weak: they carry sends, never a rebalance or a shutdown. Among several endpoints that are
//! online the choice is by chance, weighted by the room that each has said to have, where all have said so.

use std::fmt;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::sync::Arc;

use tokio::sync::watch;

use super::lock::Lock;
use super::server_connection::ServerConnection;
use crate::protocol::connection_string::ConnectionString;
use crate::protocol::service::ServerConnectionType;
use crate::protocol::service::ping::HubStatus;

/// An endpoint as the program has named it.
#[derive(Debug)]
pub(super) struct ServiceEndpoint {
    pub(super) connection_string: ConnectionString,
    pub(super) kind: EndpointKind,
}

/// What an endpoint is used for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum EndpointKind {
    /// Gets the clients.
    Primary,
    /// Gets the clients only while no primary endpoint is online.
    Secondary,
}

/// One hub at one endpoint.
pub(super) struct HubEndpoint {
    pub(super) service: Arc<ServiceEndpoint>,
    /// Their order matters: sends about the same name go to the same place in it.
    up: watch::Sender<Vec<Arc<ServerConnection>>>,
    on_demand_count: Lock<usize>,
    /// What the endpoint said last.
    status: Lock<Option<HubStatus>>,
}

impl HubEndpoint {
    pub(super) fn new(service: Arc<ServiceEndpoint>) -> Self {
        Self {
            service,
            up: watch::Sender::default(),
            on_demand_count: Lock::default(),
            status: Lock::default(),
        }
    }

    /// What a server connection that is kept up here is.
    pub(super) fn connection_type(&self) -> ServerConnectionType {
        match self.service.kind {
            EndpointKind::Primary => ServerConnectionType::Default,
            EndpointKind::Secondary => ServerConnectionType::Weak,
        }
    }

    /// The server connections that are up.
    pub(super) fn server_connections(&self) -> Vec<Arc<ServerConnection>> {
        self.up.borrow().clone()
    }

    /// To be told when server connections come and go.
    pub(super) fn watch_server_connections(&self) -> watch::Receiver<Vec<Arc<ServerConnection>>> {
        self.up.subscribe()
    }

    /// A server connection is up.
    pub(super) fn on_server_connection(&self, server_connection: &Arc<ServerConnection>) {
        self.up
            .send_modify(|up| up.push(Arc::clone(server_connection)));
    }

    /// A server connection is gone.
    pub(super) fn on_server_connection_lost(&self, server_connection: &Arc<ServerConnection>) {
        self.up
            .send_modify(|up| up.retain(|known| !Arc::ptr_eq(known, server_connection)));
    }

    /// Whether anything can be sent there.
    pub(super) fn is_online(&self) -> bool {
        self.up
            .borrow()
            .iter()
            .any(|connection| connection.is_open())
    }

    /// The server connection to send on: `via` if it leads here and is open, else one that depends on `key` alone, so that
    /// whatever is about the same key stays in order.
    pub(super) fn server_connection(
        &self,
        via: Option<&Arc<ServerConnection>>,
        key: &str,
    ) -> Option<Arc<ServerConnection>> {
        let up = self.up.borrow();
        let is_via =
            |known: &&Arc<ServerConnection>| via.is_some_and(|via| Arc::ptr_eq(known, via));
        if let Some(via) = up.iter().find(is_via).filter(|via| via.is_open()) {
            return Some(Arc::clone(via));
        }
        let mut hasher = DefaultHasher::new();
        key.hash(&mut hasher);
        let first = hasher.finish() as usize % up.len().max(1);
        let (before, from_first) = up.split_at_checked(first)?;
        let mut candidates = from_first.iter().chain(before);
        candidates.find(|known| known.is_open()).cloned()
    }

    /// The endpoint says how it stands with the hub.
    pub(super) fn on_status(&self, status: HubStatus) {
        self.status.with(|known| *known = Some(status));
    }

    /// How many more connections the endpoint has room for, if it has said so.
    fn room(&self) -> Option<u64> {
        let status = self.status.with(|status| *status)?;
        let capacity = status.capacity.filter(|capacity| *capacity > 0)?;
        let taken = status.client_count? + status.server_count?;
        Some(capacity.saturating_sub(taken))
    }

    /// Reserves a place among the server connections, of which there may be `max`, `kept_up` of them counted anyway.
    pub(super) fn begin_on_demand(
        self: &Arc<Self>,
        kept_up: usize,
        max: usize,
    ) -> Option<OnDemand> {
        let has_room = self.on_demand_count.with(|count| {
            let has_room = kept_up + *count < max;
            *count += usize::from(has_room);
            has_room
        });
        has_room.then(|| OnDemand(Arc::clone(self)))
    }
}

impl fmt::Debug for HubEndpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HubEndpoint")
            .field("kind", &self.service.kind)
            .field("server_connections", &self.up.borrow().len())
            .finish_non_exhaustive()
    }
}

/// The place of a server connection that was opened because the service asked for it. Dropping it gives the place back.
#[derive(Debug)]
pub(super) struct OnDemand(Arc<HubEndpoint>);

impl Drop for OnDemand {
    fn drop(&mut self) {
        self.0.on_demand_count.with(|count| *count -= 1);
    }
}

/// The endpoint that a client is sent to. `chance` is any number.
pub(super) fn choose_for_client(
    endpoints: &[Arc<HubEndpoint>],
    chance: u64,
) -> Option<&Arc<HubEndpoint>> {
    [EndpointKind::Primary, EndpointKind::Secondary]
        .into_iter()
        .find_map(|kind| {
            let online: Vec<_> = endpoints
                .iter()
                .filter(|endpoint| endpoint.service.kind == kind && endpoint.is_online())
                .collect();
            let rooms: Option<Vec<u64>> = online.iter().map(|endpoint| endpoint.room()).collect();
            let rooms = rooms.unwrap_or_else(|| vec![1; online.len()]);
            let index = choose_by_weight(&rooms, chance)?;
            online.get(index).copied()
        })
}

/// The place of one of the weights, each as likely as it is heavy. One without weight is taken as the lightest there can be: even
/// endpoints that are full have to say so themselves.
fn choose_by_weight(weights: &[u64], chance: u64) -> Option<usize> {
    let weights = || weights.iter().map(|weight| u128::from(*weight).max(1));
    let total: u128 = weights().sum();
    let mut left = u128::from(chance).checked_rem(total)?;
    weights().position(|weight| {
        let is_here = left < weight;
        left = left.saturating_sub(weight);
        is_here
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn endpoint() -> Arc<HubEndpoint> {
        let text = "Endpoint=http://localhost;AccessKey=key;";
        Arc::new(HubEndpoint::new(Arc::new(ServiceEndpoint {
            connection_string: ConnectionString::parse(text).unwrap(),
            kind: EndpointKind::Primary,
        })))
    }

    #[test]
    fn a_choice_is_as_likely_as_its_weight() {
        let chosen = |weights: &[u64]| {
            let mut counts = vec![0; weights.len()];
            for chance in 0..100 {
                counts[choose_by_weight(weights, chance).unwrap()] += 1;
            }
            counts
        };
        assert_eq!(chosen(&[30, 70]), [30, 70]);
        assert_eq!(chosen(&[1, 1]), [50, 50]);
        assert_eq!(chosen(&[0, 99]), [1, 99]);
        assert_eq!(choose_by_weight(&[], 7), None);
        assert_eq!(choose_by_weight(&[u64::MAX, u64::MAX], u64::MAX), Some(1));
    }

    #[test]
    fn the_room_is_known_once_all_of_it_has_been_said() {
        let endpoint = endpoint();
        let mut status = HubStatus {
            capacity: Some(100),
            client_count: Some(30),
            ..HubStatus::default()
        };
        endpoint.on_status(status);
        assert_eq!(endpoint.room(), None);
        status.server_count = Some(5);
        endpoint.on_status(status);
        assert_eq!(endpoint.room(), Some(65));
        status.client_count = Some(1000);
        endpoint.on_status(status);
        assert_eq!(endpoint.room(), Some(0));
        status.capacity = Some(0);
        endpoint.on_status(status);
        assert_eq!(endpoint.room(), None);
    }

    #[test]
    fn an_endpoint_without_server_connections_gets_no_client_and_no_message() {
        let endpoint = endpoint();
        assert!(endpoint.server_connection(None, "key").is_none());
        assert!(choose_for_client(&[endpoint], 0).is_none());
    }

    #[test]
    fn server_connections_on_demand_stay_below_the_highest_number() {
        let endpoint = endpoint();
        let first = endpoint.begin_on_demand(1, 3);
        let second = endpoint.begin_on_demand(1, 3);
        assert!(first.is_some() && second.is_some());
        assert!(endpoint.begin_on_demand(1, 3).is_none());
        drop(first);
        assert!(endpoint.begin_on_demand(1, 3).is_some());
    }
}

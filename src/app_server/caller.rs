//! The client on whose behalf a hub method runs.

use std::borrow::Cow;
use std::ops::Deref;
use std::sync::Arc;

use super::claims::Claim;
use super::client::{Client, SuddenEnd};
use super::clients::{Clients, Recipient, Recipients};
use super::groups::Groups;
use super::hub_server::HubServer;

/// A client, and from its point of view all the others. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Caller {
    pub(super) client: Arc<Client>,
    pub(super) hub: Arc<HubServer>,
}

impl Caller {
    /// The client's connection id. Other clients may know it.
    pub fn connection_id(&self) -> &str {
        &self.client.id
    }

    /// The user that the client belongs to, if it said so when it negotiated.
    pub fn user_id(&self) -> Option<&str> {
        self.client.user_id.as_deref()
    }

    /// What the client's access token says about the user.
    pub fn claims(&self) -> &[Claim] {
        &self.client.claims
    }

    /// The path at which the client has negotiated, without `/negotiate`: the hub's, as the app server's router saw it.
    pub fn path(&self) -> Option<Cow<'_, str>> {
        let query = self.query();
        let pairs = form_urlencoded::parse(query.strip_prefix('?').unwrap_or(query).as_bytes());
        let mut values = pairs.filter(|(name, _)| name == ORIGINAL_PATH);
        values.next().map(|(_, path)| path)
    }

    /// The query of the client's request, with its `?`.
    pub fn query(&self) -> &str {
        &self.client.query
    }

    /// The first value of a header of the client's request; its name compares without case.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.client.header(name)
    }

    /// All headers of the client's request, in the order received; a header with several values comes several times.
    pub fn headers(&self) -> impl Iterator<Item = (&str, &str)> {
        let headers = self.client.headers.iter();
        headers.map(|(name, value)| (name.as_str(), value.as_str()))
    }

    /// The app server that the service has moved the client from, if it has. The client has not noticed: what it is to know of this
    /// app server it has to be told.
    pub fn migrated_from(&self) -> Option<&str> {
        self.client.migrated_from()
    }

    /// The app server that the service has moved the client to. Known when it is disconnected here.
    pub fn migrated_to(&self) -> Option<&str> {
        self.client.migrated_to()
    }

    /// The name of the client's hub protocol, `json` or `messagepack`.
    pub fn protocol(&self) -> &'static str {
        self.client.protocol.name()
    }

    /// The hub's name.
    pub fn hub_name(&self) -> &str {
        self.hub.name.as_str()
    }

    /// The clients of the hub, to send to.
    pub fn clients(&self) -> CallerClients {
        let via = self.client.way.server_connection();
        CallerClients {
            clients: Clients::new(Arc::clone(&self.hub), Some(via)),
            caller: Arc::clone(&self.client),
        }
    }

    /// The groups of the hub.
    pub fn groups(&self) -> Groups {
        let via = self.client.way.server_connection();
        Groups::new(Arc::clone(&self.hub), Some(via))
    }

    /// Ends the client's connection. It will not reconnect by itself.
    pub fn abort(&self) {
        self.client.end(SuddenEnd::Aborted);
    }

    /// Waits until the client is gone. For methods that take long.
    pub async fn aborted(&self) {
        self.client.aborted().await;
    }
}

/// The part of a client's query that holds the path at which it has negotiated.
const ORIGINAL_PATH: &str = "asrs.op";

/// The clients of a hub as one of them sees them.
///
/// What is sent by way of this takes the caller's own server connection, so it arrives in the order in which it was sent. The exception,
/// as in the SDK, is what goes to one other client of this process: it takes that client's connection, in order with the client's results.
#[derive(Clone, Debug)]
pub struct CallerClients {
    clients: Clients,
    caller: Arc<Client>,
}

impl CallerClients {
    /// The caller itself.
    pub fn caller(&self) -> Recipient {
        self.clients.connection(&self.caller.id)
    }

    /// All but the caller.
    pub fn others(&self) -> Recipients {
        self.clients.all_except([&self.caller.id])
    }

    /// The members of a group but the caller.
    pub fn others_in_group(&self, group: &str) -> Recipients {
        self.clients.group_except(group, [&self.caller.id])
    }
}

impl Deref for CallerClients {
    type Target = Clients;

    fn deref(&self) -> &Clients {
        &self.clients
    }
}

//! What a program may ask and do about any client of the hub, wherever it is connected: is it there, close it.
//!
//! These are the calls that the Management SDK has beyond those of a hub.

use super::client::SuddenEnd;
use super::clients::{Clients, SendError};
use super::request::{RequestError, Requests};
use crate::protocol::service::{
    CheckConnectionExistenceWithAck, CheckUserExistenceWithAck, CloseConnection,
    CloseConnectionWithAck, CloseConnectionsWithAck, CloseUserConnectionsWithAck, Text, Texts,
};

/// Which clients a close leaves open, and what the others are told.
#[derive(Clone, Copy, Debug, Default)]
pub struct Close<'a> {
    /// What the clients are told.
    pub reason: Option<&'a str>,
    /// Connections that stay open. Without effect where a single connection is closed.
    pub except: &'a [&'a str],
}

impl Clients {
    /// Whether there is such a connection.
    pub async fn connection_exists(&self, connection_id: &str) -> Result<bool, RequestError> {
        let request = |ack_id| {
            CheckConnectionExistenceWithAck {
                connection_id: connection_id.into(),
                ack_id,
                tracing_id: None,
            }
            .into()
        };
        self.requests(connection_id).ask(request).await
    }

    /// Whether the user has a connection.
    pub async fn user_exists(&self, user_id: &str) -> Result<bool, RequestError> {
        let request = |ack_id| {
            CheckUserExistenceWithAck {
                user_id: user_id.into(),
                ack_id,
                tracing_id: None,
            }
            .into()
        };
        self.requests(user_id).ask(request).await
    }

    /// Closes a connection. Tells whether there was one.
    pub async fn close_connection(
        &self,
        connection_id: &str,
        close: Close<'_>,
    ) -> Result<bool, RequestError> {
        let request = |ack_id| {
            CloseConnectionWithAck {
                connection_id: connection_id.into(),
                reason: close.reason(),
                ack_id,
                tracing_id: None,
            }
            .into()
        };
        self.requests(connection_id).ask(request).await
    }

    /// Closes a connection, without an answer: done as soon as the message is on its way to the service.
    pub async fn close_connection_unacknowledged(
        &self,
        connection_id: &str,
        reason: &str,
    ) -> Result<(), SendError> {
        let message = CloseConnection {
            error_message: reason.into(),
            ..CloseConnection::of(connection_id)
        };
        self.requests(connection_id).tell(message).await
    }

    /// Closes all connections of a user.
    pub async fn close_user(&self, user_id: &str, close: Close<'_>) -> Result<bool, RequestError> {
        let request = |ack_id| {
            CloseUserConnectionsWithAck {
                user_id: user_id.into(),
                reason: close.reason(),
                ack_id,
                excluded: close.excluded(),
                tracing_id: None,
            }
            .into()
        };
        self.requests(user_id).order(request).await
    }

    /// Closes all connections of the hub.
    pub async fn close_all(&self, close: Close<'_>) -> Result<bool, RequestError> {
        let request = |ack_id| {
            CloseConnectionsWithAck {
                reason: close.reason(),
                ack_id,
                excluded: close.excluded(),
                tracing_id: None,
            }
            .into()
        };
        self.requests("").order(request).await
    }

    /// The connections that this process serves.
    pub fn connected_here(&self) -> Vec<String> {
        let clients = self.hub.clients();
        clients.iter().map(|client| client.id.clone()).collect()
    }

    /// Ends a connection that this process serves, as [`Caller::abort`](super::Caller::abort) does. Tells whether it does.
    pub fn abort(&self, connection_id: &str) -> bool {
        let client = self.hub.client(connection_id);
        client
            .map(|client| client.end(SuddenEnd::Aborted))
            .is_some()
    }

    fn requests<'a>(&'a self, key: &'a str) -> Requests<'a> {
        Requests {
            hub: &self.hub,
            via: self.via.as_ref(),
            key,
        }
    }
}

impl<'a> Close<'a> {
    /// With these words for the clients.
    pub fn because(reason: &'a str) -> Self {
        Self {
            reason: Some(reason),
            except: &[],
        }
    }

    pub(super) fn reason(self) -> Option<Text<'a>> {
        self.reason.map(Into::into)
    }

    pub(super) fn excluded(self) -> Texts<'a> {
        self.except.iter().map(|id| (*id).into()).collect()
    }
}

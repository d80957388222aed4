//! Groups: named sets of connections, kept by the service.

use std::sync::Arc;

use super::clients::SendError;
use super::hub::HubError;
use super::hub_server::HubServer;
use super::pending::AckError;
use super::server_connection::ServerConnection;
use crate::protocol::service::{JoinGroupWithAck, LeaveGroupWithAck, Message};

/// The groups of a hub.
///
/// A change is done when the service has acknowledged it: whatever is sent to the group afterwards sees it.
#[derive(Clone, Debug)]
pub struct Groups {
    hub: Arc<HubServer>,
    via: Option<Arc<ServerConnection>>,
}

/// Why a group could not be changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum GroupError {
    /// The request was not sent.
    #[error(transparent)]
    Send(#[from] SendError),
    /// The request was not answered, or refused.
    #[error(transparent)]
    Ack(#[from] AckError),
}

impl From<GroupError> for HubError {
    fn from(error: GroupError) -> Self {
        Self::Internal(error.to_string())
    }
}

impl Groups {
    pub(super) fn new(hub: Arc<HubServer>, via: Option<Arc<ServerConnection>>) -> Self {
        Self { hub, via }
    }

    /// Puts a connection into a group. Tells whether the connection exists.
    pub async fn add(&self, connection_id: &str, group: &str) -> Result<bool, GroupError> {
        let ack = self.hub.process.acks.begin();
        let message = JoinGroupWithAck {
            connection_id: connection_id.into(),
            group: group.into(),
            ack_id: ack.id,
            tracing_id: None,
        };
        self.send(group, &message.into()).await?;
        Ok(ack.wait().await?)
    }

    /// Takes a connection out of a group. Tells whether the connection exists.
    pub async fn remove(&self, connection_id: &str, group: &str) -> Result<bool, GroupError> {
        let ack = self.hub.process.acks.begin();
        let message = LeaveGroupWithAck {
            connection_id: connection_id.into(),
            group: Some(group.into()),
            ack_id: ack.id,
            tracing_id: None,
        };
        self.send(group, &message.into()).await?;
        Ok(ack.wait().await?)
    }

    async fn send(&self, group: &str, message: &Message<'_, &[u8]>) -> Result<(), SendError> {
        let server_connection = self.hub.server_connection(self.via.as_ref(), group)?;
        server_connection
            .send(message)
            .await
            .map_err(|_| SendError::ServerConnectionLost)
    }
}

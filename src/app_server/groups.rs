//! Groups: named sets of connections, kept by the service.
//!
//! A connection is a member until it is taken out or ends. A user may be a member too: then all connections are that the user has, or
//! comes to have for as long as the membership lasts.

use std::sync::Arc;
use std::time::Duration;

use super::administration::Close;
use super::clients::SendError;
use super::hub_server::HubServer;
use super::request::{RequestError, Requests};
use super::server_connection::ServerConnection;
use crate::protocol::service::{
    CheckGroupExistenceWithAck, CheckUserInGroupWithAck, CloseGroupConnectionsWithAck, JoinGroup,
    JoinGroupWithAck, LeaveGroup, LeaveGroupWithAck, UserJoinGroup, UserJoinGroupWithAck,
    UserLeaveGroup, UserLeaveGroupWithAck,
};

/// The groups of a hub.
///
/// A change is done when the service has acknowledged it: whatever is sent to the group afterwards sees it.
#[derive(Clone, Debug)]
pub struct Groups {
    pub(super) hub: Arc<HubServer>,
    pub(super) via: Option<Arc<ServerConnection>>,
}

impl Groups {
    pub(super) fn new(hub: Arc<HubServer>, via: Option<Arc<ServerConnection>>) -> Self {
        Self { hub, via }
    }

    /// Puts a connection into a group. Tells whether the connection exists.
    pub async fn add(&self, connection_id: &str, group: &str) -> Result<bool, RequestError> {
        let request = |ack_id| {
            JoinGroupWithAck {
                connection_id: connection_id.into(),
                group: group.into(),
                ack_id,
                tracing_id: None,
            }
            .into()
        };
        self.requests(group).ask(request).await
    }

    /// Takes a connection out of a group. Tells whether the connection exists.
    pub async fn remove(&self, connection_id: &str, group: &str) -> Result<bool, RequestError> {
        self.leave(connection_id, Some(group)).await
    }

    /// Takes a connection out of all groups. Tells whether the connection exists.
    pub async fn remove_from_all(&self, connection_id: &str) -> Result<bool, RequestError> {
        self.leave(connection_id, None).await
    }

    /// Puts a user into a group, for `lifetime` or, without one, until the user is taken out. A lifetime counts in whole seconds; none
    /// at all concerns the connections only that the user has now.
    pub async fn add_user(
        &self,
        user_id: &str,
        group: &str,
        lifetime: Option<Duration>,
    ) -> Result<bool, RequestError> {
        let request = |ack_id| {
            UserJoinGroupWithAck {
                user_id: user_id.into(),
                group: group.into(),
                ack_id,
                ttl_seconds: lifetime.map(seconds),
                tracing_id: None,
            }
            .into()
        };
        self.requests(group).order(request).await
    }

    /// Takes a user out of a group.
    pub async fn remove_user(&self, user_id: &str, group: &str) -> Result<bool, RequestError> {
        self.leave_user(user_id, Some(group)).await
    }

    /// Takes a user out of all groups.
    pub async fn remove_user_from_all(&self, user_id: &str) -> Result<bool, RequestError> {
        self.leave_user(user_id, None).await
    }

    /// Whether a user is in a group.
    pub async fn has_user(&self, user_id: &str, group: &str) -> Result<bool, RequestError> {
        let request = |ack_id| {
            CheckUserInGroupWithAck {
                user_id: user_id.into(),
                group: group.into(),
                ack_id,
                tracing_id: None,
            }
            .into()
        };
        self.requests(group).ask(request).await
    }

    /// Whether a group has a connection.
    pub async fn exists(&self, group: &str) -> Result<bool, RequestError> {
        let request = |ack_id| {
            CheckGroupExistenceWithAck {
                group: group.into(),
                ack_id,
                tracing_id: None,
            }
            .into()
        };
        self.requests(group).ask(request).await
    }

    /// Closes all connections that are in a group.
    pub async fn close(&self, group: &str, close: Close<'_>) -> Result<bool, RequestError> {
        let request = |ack_id| {
            CloseGroupConnectionsWithAck {
                group: group.into(),
                reason: close.reason(),
                ack_id,
                excluded: close.excluded(),
                tracing_id: None,
            }
            .into()
        };
        self.requests(group).order(request).await
    }

    /// The same changes without waiting for the service. What is sent to the group afterwards sees a change only if it takes the
    /// same server connection, as all does that one caller sends.
    pub fn unacknowledged(&self) -> UnacknowledgedGroups {
        UnacknowledgedGroups(self.clone())
    }

    async fn leave(&self, connection_id: &str, group: Option<&str>) -> Result<bool, RequestError> {
        let request = |ack_id| {
            LeaveGroupWithAck {
                connection_id: connection_id.into(),
                group: group.map(Into::into),
                ack_id,
                tracing_id: None,
            }
            .into()
        };
        let key = group.unwrap_or(connection_id);
        self.requests(key).ask(request).await
    }

    async fn leave_user(&self, user_id: &str, group: Option<&str>) -> Result<bool, RequestError> {
        let request = |ack_id| {
            UserLeaveGroupWithAck {
                user_id: user_id.into(),
                group: group.map(Into::into),
                ack_id,
                tracing_id: None,
            }
            .into()
        };
        let key = group.unwrap_or(user_id);
        self.requests(key).order(request).await
    }

    fn requests<'a>(&'a self, key: &'a str) -> Requests<'a> {
        Requests {
            hub: &self.hub,
            via: self.via.as_ref(),
            key,
        }
    }
}

/// The groups of a hub, changed without waiting for the service: see [`Groups::unacknowledged`].
#[derive(Clone, Debug)]
pub struct UnacknowledgedGroups(Groups);

impl UnacknowledgedGroups {
    /// Puts a connection into a group.
    pub async fn add(&self, connection_id: &str, group: &str) -> Result<(), SendError> {
        let message = JoinGroup {
            connection_id: connection_id.into(),
            group: group.into(),
            tracing_id: None,
        };
        self.0.requests(group).tell(message).await
    }

    /// Takes a connection out of a group, or of all.
    pub async fn remove(&self, connection_id: &str, group: Option<&str>) -> Result<(), SendError> {
        let message = LeaveGroup {
            connection_id: connection_id.into(),
            group: group.map(Into::into),
            tracing_id: None,
        };
        let key = group.unwrap_or(connection_id);
        self.0.requests(key).tell(message).await
    }

    /// Puts a user into a group: see [`Groups::add_user`].
    pub async fn add_user(
        &self,
        user_id: &str,
        group: &str,
        lifetime: Option<Duration>,
    ) -> Result<(), SendError> {
        let message = UserJoinGroup {
            user_id: user_id.into(),
            group: group.into(),
            ttl_seconds: lifetime.map(seconds),
            tracing_id: None,
        };
        self.0.requests(group).tell(message).await
    }

    /// Takes a user out of a group, or of all.
    pub async fn remove_user(&self, user_id: &str, group: Option<&str>) -> Result<(), SendError> {
        let message = UserLeaveGroup {
            user_id: user_id.into(),
            group: group.map(Into::into),
            tracing_id: None,
        };
        let key = group.unwrap_or(user_id);
        self.0.requests(key).tell(message).await
    }
}

fn seconds(lifetime: Duration) -> i32 {
    i32::try_from(lifetime.as_secs()).unwrap_or(i32::MAX)
}

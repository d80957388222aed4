//! The server connections that a message takes: one to each endpoint that it concerns.
//!
//! What is meant for clients that may be anywhere goes to every endpoint that is online, since each knows its own clients only.
//! What is meant for a client of this process takes that client's way alone.

use std::sync::Arc;

use smallvec::SmallVec;

use super::clients::SendError;
use super::server_connection::ServerConnection;
use crate::protocol::service::Message;

/// See the module's documentation. There is at least one.
#[derive(Clone, Debug)]
pub(super) struct Routes(SmallVec<[Arc<ServerConnection>; 1]>);

impl Routes {
    /// The routes through these server connections.
    pub(super) fn new(
        server_connections: impl IntoIterator<Item = Arc<ServerConnection>>,
    ) -> Result<Self, SendError> {
        let routes: SmallVec<_> = server_connections.into_iter().collect();
        if routes.is_empty() {
            Err(SendError::NoServerConnection)
        } else {
            Ok(Self(routes))
        }
    }

    /// How many there are.
    pub(super) fn count(&self) -> usize {
        self.0.len()
    }

    /// Each of them.
    pub(super) fn iter(&self) -> impl Iterator<Item = &Arc<ServerConnection>> {
        self.0.iter()
    }

    /// Queues a message on each. Gives the number of those that took it, which is not 0.
    pub(super) async fn send<P: AsRef<[u8]>>(
        &self,
        message: &Message<'_, P>,
    ) -> Result<usize, SendError> {
        let mut bytes = Vec::new();
        message.encode(&mut bytes);
        let mut count = 0;
        if let Some((last, others)) = self.0.split_last() {
            for route in others {
                count += usize::from(route.send_bytes(bytes.clone()).await.is_ok());
            }
            count += usize::from(last.send_bytes(bytes).await.is_ok());
        }
        if count == 0 {
            Err(SendError::ServerConnectionLost)
        } else {
            Ok(count)
        }
    }
}

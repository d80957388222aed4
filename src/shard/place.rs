//! Where a client is counted.

use std::sync::Arc;

use super::directory::{HubEntry, Reservation};
use super::pending::TokenHold;
use crate::id::ShardId;

/// A client's place: counted at its hub, its shard and its server connection until dropped.
#[derive(Debug)]
pub struct ClientPlace {
    /// Its hub.
    pub hub: Arc<HubEntry>,
    /// Its shard.
    pub shard: ShardId,
    /// Its server connection, if there was one for it.
    pub server: Option<Reservation>,
    /// Its connection token, if it has negotiated.
    pub token: Option<TokenHold>,
}

impl ClientPlace {
    /// Counts a client at its hub.
    pub fn new(
        hub: Arc<HubEntry>,
        shard: ShardId,
        server: Option<Reservation>,
        token: Option<TokenHold>,
    ) -> Self {
        hub.count_client(shard);
        Self {
            hub,
            shard,
            server,
            token,
        }
    }
}

impl Drop for ClientPlace {
    fn drop(&mut self) {
        self.hub.uncount_client(self.shard);
    }
}

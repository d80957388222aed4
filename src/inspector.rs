//! A look into a running service: what is on each shard, and what it has counted.

use std::sync::Arc;
use std::time::Duration;

use serde_json::json;
use tokio::sync::oneshot;

use crate::counters::Counters;
use crate::shard::mailbox::Postboxes;
use crate::shard::ring::wake::Wake;
use crate::shard::{Delivery, Description, ShardPostbox};

/// Time in which a shard that is alive says so.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(1);

/// Looks into a running service.
#[derive(Debug, Clone)]
pub struct Inspector {
    postboxes: Postboxes<Delivery, Wake>,
    counters: Arc<[Arc<Counters>]>,
}

impl Inspector {
    pub(crate) fn new(
        postboxes: Postboxes<Delivery, Wake>,
        counters: Arc<[Arc<Counters>]>,
    ) -> Self {
        Self {
            postboxes,
            counters,
        }
    }

    pub(crate) fn postboxes(&self) -> &[ShardPostbox] {
        &self.postboxes
    }

    /// The counters of each shard.
    pub fn counters(&self) -> Vec<Arc<Counters>> {
        self.counters.to_vec()
    }

    /// What is on each shard. `None` if one of them does not answer.
    pub async fn describe(&self) -> Option<Vec<Description>> {
        let mut replies = Vec::new();
        for postbox in self.postboxes.iter() {
            let (reply, description) = oneshot::channel();
            postbox.post(Delivery::Describe(reply)).ok()?;
            replies.push(description);
        }
        let mut descriptions = Vec::new();
        for description in replies {
            descriptions.push(
                tokio::time::timeout(ANSWER_TIMEOUT, description)
                    .await
                    .ok()?
                    .ok()?,
            );
        }
        Some(descriptions)
    }

    /// The same with the counters that tell what flows, as JSON.
    pub async fn overview(&self) -> Option<serde_json::Value> {
        let descriptions = self.describe().await?;
        let mut clients = Vec::new();
        let mut servers = Vec::new();
        let mut shards = Vec::new();
        for (shard, (description, counters)) in
            descriptions.iter().zip(self.counters.iter()).enumerate()
        {
            shards.push(json!({
                "id": shard,
                "clients": description.client_count,
                "server_connections": description.servers.len(),
                "groups": description.group_count,
                "relayed": counters.relayed_messages.value(),
                "fan_out": counters.fan_out_deliveries.value(),
            }));
            clients.extend(description.clients.iter().map(|client| {
                json!({
                    "id": client.id,
                    "user": client.user,
                    "hub": client.hub,
                    "protocol": client.protocol,
                    "server_connection": client.server_connection,
                    "shard": shard,
                })
            }));
            servers.extend(description.servers.iter().map(|server| {
                json!({ "id": server.connection_id, "server_id": server.server_id, "hub": server.hub, "shard": shard })
            }));
        }
        Some(json!({ "shards": shards, "clients": clients, "server_connections": servers }))
    }
}

//! A look into a running service: what is on each shard, and what it has counted.

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use serde_json::json;
use tokio::sync::oneshot;

use crate::counters::{ControlCounters, Counters};
use crate::shard::mailbox::Postboxes;
use crate::shard::ring::wake::Wake;
use crate::shard::{Delivery, Description, ShardPostbox};

/// Time in which a shard that is alive says so.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(1);

/// Time until a question that found no room is posted again.
const POST_RETRY_DELAY: Duration = Duration::from_millis(1);

/// Looks into a running service.
#[derive(Debug, Clone)]
pub struct Inspector {
    postboxes: Postboxes<Delivery, Wake>,
    counters: Arc<[Arc<Counters>]>,
    control_counters: Arc<ControlCounters>,
}

impl Inspector {
    pub(crate) fn new(
        postboxes: Postboxes<Delivery, Wake>,
        counters: Arc<[Arc<Counters>]>,
    ) -> Self {
        Self {
            postboxes,
            counters,
            control_counters: Arc::default(),
        }
    }

    /// The counters of the control plane.
    pub fn control_counters(&self) -> Arc<ControlCounters> {
        Arc::clone(&self.control_counters)
    }

    pub(crate) fn postboxes(&self) -> &Postboxes<Delivery, Wake> {
        &self.postboxes
    }

    /// The counters of each shard.
    pub fn counters(&self) -> Vec<Arc<Counters>> {
        self.counters.to_vec()
    }

    /// What is on each shard. `None` if one of them does not answer.
    pub async fn describe(&self) -> Option<Vec<Description>> {
        let descriptions = join_all(self.postboxes.iter().map(ask));
        let in_time = tokio::time::timeout(ANSWER_TIMEOUT, descriptions).await;
        in_time.ok()?.into_iter().collect()
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
                    "transport": client.transport.name(),
                    "protocol": client.protocol,
                    "server_connection": client.server_connection,
                    "shard": shard,
                })
            }));
            servers.extend(description.servers.iter().map(|server| {
                json!({
                    "id": server.connection_id,
                    "server_id": server.server_id,
                    "hub": server.hub,
                    "type": server.connection_type.map(|kind| format!("{kind:?}")),
                    "is_routable": server.is_routable,
                    "round_trip_us": server.round_trip.map(|time| time.as_micros() as u64),
                    "shard": shard,
                })
            }));
        }
        Some(json!({ "shards": shards, "clients": clients, "server_connections": servers }))
    }
}

/// Asks one shard. A full mailbox shows that it has much to do, not that it is stuck: it is waited for some room.
async fn ask(postbox: &ShardPostbox) -> Option<Description> {
    let (reply, description) = oneshot::channel();
    let mut delivery = Delivery::Describe(reply);
    while let Err(back) = postbox.post(delivery) {
        delivery = back;
        tokio::time::sleep(POST_RETRY_DELAY).await;
    }
    description.await.ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::shard::mailbox::mailbox;

    #[tokio::test]
    async fn a_shard_with_a_full_mailbox_is_waited_for() {
        let (postbox, mailbox) = mailbox(1, Wake::new().unwrap());
        assert!(postbox.post(Delivery::Drain).is_ok());
        let inspector = Inspector::new(Arc::new([postbox]), Arc::new([]));
        let shard = async {
            tokio::time::sleep(Duration::from_millis(20)).await;
            assert!(matches!(mailbox.take(), Some(Delivery::Drain)));
            loop {
                if let Some(Delivery::Describe(reply)) = mailbox.take() {
                    let _ = reply.send(Description::default());
                    return;
                }
                tokio::task::yield_now().await;
            }
        };
        let (descriptions, ()) = tokio::join!(inspector.describe(), shard);
        assert_eq!(descriptions.map(|each| each.len()), Some(1));
    }

    #[tokio::test]
    async fn a_shard_that_does_nothing_does_not_answer() {
        let (postbox, _mailbox) = mailbox(1, Wake::new().unwrap());
        assert!(postbox.post(Delivery::Drain).is_ok());
        let inspector = Inspector::new(Arc::new([postbox]), Arc::new([]));
        assert!(inspector.describe().await.is_none());
    }
}

//! Asks app servers for connections to shards that have none of a hub. Why, whom and when: [`crate::routing::rebalance`].

use std::time::Instant;

use super::Shard;
use crate::routing::HubId;

impl Shard {
    /// Looks for gaps in the hubs that have a server connection here. Each hub is looked after by one of its shards.
    pub(super) fn rebalance(&mut self, now: Instant) {
        if self.is_draining() || self.directory.shard_count() == 1 {
            return;
        }
        let mut hubs: Vec<HubId> = self
            .router
            .server_views()
            .map(|server| server.hub)
            .collect();
        hubs.sort_unstable();
        hubs.dedup();
        for hub in hubs {
            let Some(entry) = self.directory.hub_by_id(hub) else {
                continue;
            };
            for (through, shard) in entry.wanted_servers(self.id, now) {
                tracing::debug!(hub = %entry.name, %shard, server_id = %through.server_id, "asked for a server connection to a shard without one");
                self.router
                    .ask_for_server(hub, &through, shard, &mut self.effects);
            }
        }
        self.apply_effects(&[], None, now);
    }
}

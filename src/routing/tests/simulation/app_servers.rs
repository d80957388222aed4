//! What app servers do: they join, hang, shut down and die.
//!
//! An app server is a process with several server connections, all of one id. What hangs is the process: it holds its connections
//! and says nothing on any of them.

use super::*;
use crate::limits::SERVICE_HANDSHAKE_TIMEOUT;
use crate::protocol::service::MigrationLevel;
use crate::protocol::service::ServerConnectionType::{Default, OnDemand, Weak};

const SERVERS_MAX: usize = 8;
const LEVELS: [MigrationLevel; 3] = [
    MigrationLevel::Off,
    MigrationLevel::ShutdownOnly,
    MigrationLevel::Any,
];
const SERVER_IDS: [&str; 3] = ["a", "b", "c"];

/// What is known of a server connection besides what the world keeps.
pub(super) struct ServerModel {
    /// Its app server has stopped without closing it.
    pub(super) is_hung: bool,
    pub(super) last_spoke: Instant,
    pub(super) last_pinged: Instant,
    /// Shutdowns that were announced on it and not acknowledged.
    pub(super) fins: usize,
    pub(super) handshake_deadline: Instant,
    pub(super) migration_level: MigrationLevel,
}

impl Simulation {
    pub(super) fn server_joins(&mut self) {
        let hung = |simulation: &Self, server_id: &str| {
            simulation.servers_up().any(|server| {
                simulation.servers[server.0].is_hung
                    && *simulation.world.servers[server.0].server_id == *server_id
            })
        };
        let mut ids = SERVER_IDS.to_vec();
        ids.retain(|id| !hung(self, id));
        let Some(server_id) = self.random.pick_any(&ids) else {
            return;
        };
        if self.servers_up().count() >= SERVERS_MAX {
            return;
        }
        let shard = self.random.below(self.world.routers.len());
        let hub = self.random.pick(&HUBS);
        let choice = self.random.below(12);
        let kind = match choice {
            0 => "silent",
            1 => "mistaken",
            2 => "weak",
            3 => "on-demand",
            _ => "default",
        };
        self.log(format_args!(
            "app server {server_id} opens {kind} server connection {} of hub {} on shard {shard}",
            self.servers.len(),
            hub.0
        ));
        let now = self.world.now;
        self.servers.push(ServerModel {
            is_hung: false,
            last_spoke: now,
            last_pinged: now,
            fins: 0,
            handshake_deadline: now + SERVICE_HANDSHAKE_TIMEOUT,
            migration_level: MigrationLevel::Off,
        });
        match choice {
            0 => drop(self.world.adopt_server(shard, hub, server_id)),
            1 => self.mistaken_server(shard, hub, server_id),
            2 => self.right_server(shard, hub, server_id, Weak),
            3 => self.right_server(shard, hub, server_id, OnDemand),
            _ => self.right_server(shard, hub, server_id, Default),
        }
    }

    fn right_server(
        &mut self,
        shard: usize,
        hub: HubId,
        server_id: &str,
        connection_type: ServerConnectionType,
    ) {
        let server = self.world.adopt_server(shard, hub, server_id);
        let migration_level = self.random.pick(&LEVELS);
        self.servers[server.0].migration_level = migration_level;
        self.world.send(
            server,
            HandshakeRequest {
                version: 1,
                connection_type,
                migration_level,
                ..HandshakeRequest::default()
            },
        );
        assert_ne!(self.world.servers[server.0].standing, Standing::Unknown);
    }

    /// One that does not know how to begin.
    fn mistaken_server(&mut self, shard: usize, hub: HubId, server_id: &str) {
        let server = self.world.adopt_server(shard, hub, server_id);
        if self.random.one_in(2) {
            let version = 2;
            let request = HandshakeRequest {
                version,
                ..HandshakeRequest::default()
            };
            self.world.send(server, request);
        } else {
            self.world.send(server, broadcast("too early"));
        }
        assert_eq!(
            self.world.servers[server.0].ended,
            Some(CloseCause::BadHandshake)
        );
    }

    pub(super) fn server_ends(&mut self) {
        let up: Vec<ServerEnd> = self.servers_up().collect();
        let Some(server) = self.random.pick_any(&up) else {
            return;
        };
        match self.random.below(8) {
            0..=1 => self.server_is_lost(server),
            2..=3 => self.app_server_says_fin(server),
            4..=5 => self.app_server_hangs(server),
            6 => self.app_server_dies(server),
            _ => self.server_breaks_the_protocol(server),
        }
    }

    pub(super) fn server_is_lost(&mut self, server: ServerEnd) {
        self.log(format_args!("server connection {} is lost", server.0));
        self.world.lose_server(server);
    }

    fn app_server_says_fin(&mut self, server: ServerEnd) {
        let mode = self.random.pick(&["fin:0", "fin:1", "fin:1", "fin:2"]);
        for server in self.of_same_process(server) {
            if self.speaks(server) {
                self.log(format_args!("server connection {} says {mode}", server.0));
                self.servers[server.0].fins += 1;
                self.send(server, ping(&["shutdown", mode]));
                assert_eq!(self.world.servers[server.0].standing, Standing::SendOnly);
            }
        }
    }

    fn app_server_hangs(&mut self, server: ServerEnd) {
        let server_id = Arc::clone(&self.world.servers[server.0].server_id);
        self.log(format_args!("app server {server_id} hangs"));
        for server in self.of_same_process(server) {
            self.servers[server.0].is_hung = true;
        }
    }

    /// Its connections break one after the other, and mails arrive in between.
    fn app_server_dies(&mut self, server: ServerEnd) {
        let server_id = Arc::clone(&self.world.servers[server.0].server_id);
        self.log(format_args!("app server {server_id} dies"));
        for server in self.of_same_process(server) {
            self.server_is_lost(server);
            if self.random.one_in(2) {
                self.mail_arrives();
            }
        }
    }

    fn server_breaks_the_protocol(&mut self, server: ServerEnd) {
        self.log(format_args!(
            "server connection {} sends what cannot be read",
            server.0
        ));
        let ServerRecord { shard, key, .. } = self.world.servers[server.0];
        let mut effects = Vec::new();
        let now = self.world.now;
        self.world.routers[shard].on_server_fault(key, "unreadable", now, &mut effects);
        self.world.apply(shard, effects, &[]);
        assert!(!self.world.is_up(server));
    }

    fn of_same_process(&self, server: ServerEnd) -> Vec<ServerEnd> {
        let server_id = &self.world.servers[server.0].server_id;
        let is_same = |other: &ServerEnd| self.world.servers[other.0].server_id == *server_id;
        self.servers_up().filter(is_same).collect()
    }

    /// Lets an app server say something.
    pub(super) fn send<'a>(
        &mut self,
        server: ServerEnd,
        message: impl Into<Message<'a, &'a [u8]>>,
    ) {
        assert!(self.speaks(server), "who hangs says nothing");
        self.servers[server.0].last_spoke = self.world.now;
        self.world.send(server, message);
    }

    /// Whether a server connection is up, has shaken hands, and its app server does not hang.
    pub(super) fn speaks(&self, server: ServerEnd) -> bool {
        self.world.is_up(server)
            && self.world.servers[server.0].standing != Standing::Unknown
            && !self.servers[server.0].is_hung
    }

    pub(super) fn servers_up(&self) -> impl Iterator<Item = ServerEnd> + '_ {
        let ends = (0..self.world.servers.len()).map(ServerEnd);
        ends.filter(|server| self.world.is_up(*server))
    }

    /// Any server connection of a hub on which something can be said.
    pub(super) fn any_speaker(&mut self, hub: HubId) -> Option<ServerEnd> {
        self.any_speaker_with(|record| record.hub == hub)
    }

    pub(super) fn any_speaker_with(
        &mut self,
        is_so: impl Fn(&ServerRecord) -> bool,
    ) -> Option<ServerEnd> {
        let is_meant =
            |server: &ServerEnd| self.speaks(*server) && is_so(&self.world.servers[server.0]);
        let speakers: Vec<ServerEnd> = self.servers_up().filter(is_meant).collect();
        self.random.pick_any(&speakers)
    }
}

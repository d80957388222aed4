//! What must hold once all mails have arrived, and when all have gone.

use super::fan_out::{Audience, Excluded, ends};
use super::*;
use crate::limits::STANDING_MEMBERSHIP_LIFETIME;
use crate::protocol::service::MigrationLevel;

impl Simulation {
    /// Lets all mails arrive. Then nobody waits for anything any more.
    pub(super) fn settle(&mut self) {
        self.log(format_args!("all mails arrive"));
        self.world.settle();
        self.clients_move();
        self.read_all();
        self.settle_memberships();
        self.check_standing();
        self.check_ends();
        self.check_owed();
        self.check_requests();
        self.check_invocations();
        self.check_clients();
        self.check_servers();
    }

    /// The same, and then messages reach exactly those that they should, and questions are answered rightly.
    pub(super) fn look_round(&mut self) {
        self.settle();
        for hub in HUBS {
            let Some(server) = self.any_speaker(hub) else {
                continue;
            };
            let excluded = Vec::new();
            self.reaches(server, Audience::Hub { excluded }, |_, _| true);
            let user = self.random.pick(&USERS);
            self.reaches(server, Audience::Users(vec![user]), |of, client| {
                of.clients[client.0].user == Some(user)
            });
            let group = self.random.pick(&GROUPS);
            let audience = Audience::Group(group, Excluded::default());
            self.reaches(server, audience, |of, client| {
                of.memberships.is_member(group, client)
            });
            self.check_answers(server);
        }
    }

    fn reaches(
        &mut self,
        server: ServerEnd,
        audience: Audience,
        is_target: impl Fn(&Self, ClientEnd) -> bool,
    ) {
        self.followed = Some(self.number + 1);
        self.send_to(server, audience);
        self.world.deliver_all();
        self.read_all();
        self.followed = None;
        let hub = self.world.servers[server.0].hub;
        let expected: Vec<ClientEnd> = self
            .clients_known()
            .filter(|client| {
                let record = &self.world.clients[client.0];
                record.hub == hub
                    && record.is_answered
                    && !self.clients[client.0].is_dismissed
                    && is_target(self, *client)
            })
            .collect();
        let mut hearers = std::mem::take(&mut self.hearers);
        hearers.sort_unstable();
        assert_eq!(ends(&hearers), ends(&expected), "who hears it");
    }

    /// Who is still owed a message has left, has been dismissed, or waits for the answer to its handshake.
    fn check_owed(&self) {
        for (number, sending) in &self.sendings {
            for client in &sending.owed {
                let is_owed = self.world.is_connected(*client)
                    && self.world.clients[client.0].is_answered
                    && !self.clients[client.0].is_dismissed;
                assert!(!is_owed, "client {} has not heard {number}", client.0);
            }
        }
    }

    /// What the shards had to find out, the model learns now.
    fn settle_memberships(&mut self) {
        self.settle_user_groups();
        let world = &self.world;
        self.memberships.settle(|group, client| {
            let ClientRecord {
                shard, hub, key, ..
            } = world.clients[client.0];
            let hub = world.routers[shard].hubs.get(&hub);
            world.is_connected(client)
                && hub.is_some_and(|hub| hub.groups.members(group).contains(&key))
        });
    }

    /// Nobody is closed without a reason.
    fn check_ends(&mut self) {
        for client in (0..self.clients.len()).map(ClientEnd) {
            let (record, model) = (&self.world.clients[client.0], &self.clients[client.0]);
            let Some(cause) = record.ended.filter(|_| !model.is_accounted) else {
                continue;
            };
            let now = self.world.now;
            let is_right = match cause {
                CloseCause::AppServer => self.may_be_closed(client),
                CloseCause::ServerConnectionLost => {
                    let server = record.server.or(model.place);
                    server.is_some_and(|server| !self.world.is_up(server))
                }
                CloseCause::AuthenticationExpired => model.expires.is_some_and(|at| at <= now),
                CloseCause::HandshakeTimeout => model.handshake_deadline <= now,
                CloseCause::NoAppServer | CloseCause::BadHandshake => record.server.is_none(),
                CloseCause::SlowConsumer
                | CloseCause::Silent
                | CloseCause::NotResumed
                | CloseCause::ClientFault
                | CloseCause::ProtocolError
                | CloseCause::MessageTooLong
                | CloseCause::TooFarBehind
                | CloseCause::Drain => false,
            };
            assert!(is_right, "client {} is closed over {cause:?}", client.0);
            self.clients[client.0].is_accounted = true;
        }
        self.closes_ordered.clear();
    }

    fn check_clients(&self) {
        for client in self.clients_connected() {
            let (record, model) = (&self.world.clients[client.0], &self.clients[client.0]);
            assert!(!model.is_unwanted, "{client:?} was to be closed");
            if record.server.is_some() {
                self.check_binding(client);
                self.check_talk(client);
            }
        }
    }

    fn check_binding(&self, client: ClientEnd) {
        let record = &self.world.clients[client.0];
        let state = self.world.routers[record.shard].clients.get(record.key);
        let is_parked = state.is_some_and(|state| state.server.is_none());
        let is_up = record.server.is_some_and(|server| self.world.is_up(server));
        assert!(
            is_up != is_parked,
            "{client:?} is bound to one that lives, or waits"
        );
        let lost = record.server.map(|server| &self.servers[server.0]);
        let may_wait = lost.is_some_and(|lost| lost.migration_level == MigrationLevel::Any);
        assert!(!is_parked || self.parks || may_wait, "{client:?} waits");
    }

    fn check_servers(&self) {
        for end in self.servers_up() {
            assert_eq!(self.servers[end.0].fins, 0, "a shutdown is acknowledged");
            self.check_view(end);
            self.check_count(end);
        }
    }

    /// An app server has the clients that the service thinks it has. Those that it has dismissed it forgets by itself.
    fn check_view(&self, server: ServerEnd) {
        let is_dismissed = |client: &ClientEnd| self.clients[client.0].is_dismissed;
        let bound = |client: &ClientEnd| self.world.clients[client.0].server == Some(server);
        let dismissed = (0..self.clients.len()).map(ClientEnd).filter(is_dismissed);
        let dismissed: BTreeSet<&str> = dismissed.map(|client| self.world.id(client)).collect();
        let bound: BTreeSet<&str> = self
            .clients_known()
            .filter(|client| bound(client) && !is_dismissed(client))
            .map(|client| self.world.id(client))
            .collect();
        let known: BTreeSet<&str> = self.world.servers[server.0]
            .clients
            .iter()
            .map(String::as_str)
            .filter(|id| !dismissed.contains(id))
            .collect();
        assert_eq!(known, bound, "the clients of {server:?}");
    }

    /// Where shards count a client, there it is bound.
    fn check_count(&self, server: ServerEnd) {
        let ServerRecord { shard, key, .. } = self.world.servers[server.0];
        let bound = self.world.routers[shard].clients.iter();
        let bound = bound
            .filter(|(_, client)| client.server == Some(key))
            .count();
        assert_eq!(self.counted_at(server), bound, "clients of {server:?}");
    }

    /// Everybody goes, one after the other or all at once, and nothing is left.
    pub(super) fn end(mut self) {
        self.arriving.clear();
        if self.random.one_in(4) {
            self.log(format_args!("the service stops"));
            self.world.drain();
        }
        let connected: Vec<ClientEnd> = self.clients_connected().collect();
        for client in connected {
            self.log(format_args!("client {} leaves", client.0));
            self.world.leave(client);
            self.mail_arrives();
        }
        self.world.settle();
        self.read_all();
        self.check_requests();
        self.check_invocations();
        let servers: Vec<ServerEnd> = self.servers_up().collect();
        for server in servers {
            self.server_is_lost(server);
        }
        self.world.settle();
        self.pass(STANDING_MEMBERSHIP_LIFETIME);
        self.world.assert_empty();
        for router in &self.world.routers {
            assert!(router.deadlines.is_empty(), "deadlines");
        }
        for counters in &self.world.counters {
            assert_eq!(counters.client_connections.value(), 0);
            assert_eq!(counters.server_connections.value(), 0);
        }
    }
}

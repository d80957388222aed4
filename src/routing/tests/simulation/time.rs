//! Time passes, and who has been waited for long enough is given up.

use super::*;
use crate::limits::{SERVER_PING_INTERVAL, SERVER_SILENCE_MAX};

/// How long an app server that does not hang says nothing, at most.
const SERVER_PAUSE_MAX: Duration = Duration::from_secs(12);
/// No mail is under way for longer than a few times this.
const MAIL_DELAY_MAX: Duration = Duration::from_millis(1_500);

impl Simulation {
    pub(super) fn time_passes(&mut self) {
        let milliseconds = match self.random.below(40) {
            0 => 601_000,
            1..=2 => 31_000,
            3..=6 => 16_000,
            7..=18 => 1_000 + self.random.below(6_000),
            _ => self.random.below(1_000),
        };
        let time = Duration::from_millis(milliseconds as u64);
        if time > MAIL_DELAY_MAX {
            self.settle();
        }
        self.log(format_args!("{} ms pass", time.as_millis()));
        self.pass(time);
    }

    /// Time passes everywhere at once. When the shards notice, mails may come in between.
    pub(super) fn pass(&mut self, time: Duration) {
        self.world.now += time;
        self.living_servers_speak();
        let shard_count = self.world.routers.len();
        let first = self.random.below(shard_count);
        for shard in (0..shard_count).map(|offset| (first + offset) % shard_count) {
            if self.random.one_in(3) {
                self.mail_arrives();
            }
            self.world.tick(shard);
        }
        self.read_all();
        self.check_deadlines();
    }

    /// An app server that works answers pings, if it has nothing else to say.
    fn living_servers_speak(&mut self) {
        let servers: Vec<ServerEnd> = self.servers_up().collect();
        for server in servers {
            let silence = self.world.now - self.servers[server.0].last_spoke;
            if silence >= SERVER_PAUSE_MAX && self.speaks(server) {
                self.send(server, ping(&[]));
            }
        }
    }

    fn check_deadlines(&self) {
        let now = self.world.now;
        for end in self.servers_up() {
            let model = &self.servers[end.0];
            if self.world.servers[end.0].standing == Standing::Unknown {
                assert!(
                    now < model.handshake_deadline,
                    "{end:?} has not shaken hands"
                );
                continue;
            }
            assert!(
                now - model.last_spoke < SERVER_SILENCE_MAX,
                "{end:?} is silent"
            );
            assert!(
                now - model.last_pinged < SERVER_PING_INTERVAL,
                "{end:?} waits for a ping"
            );
        }
        for client in self.clients_connected() {
            let expires = self.clients[client.0].expires;
            assert!(expires.is_none_or(|at| now < at), "{client:?} has expired");
            let is_silent = self.world.clients[client.0].server.is_none();
            assert!(
                !is_silent || now < self.clients[client.0].handshake_deadline,
                "{client:?} has not shaken hands"
            );
        }
    }
}

//! Many worlds in which anything happens in any order, with mails that are late.
//!
//! The world itself looks for broken invariants after each event, for messages that overtake a handshake response, and for data that
//! reaches somebody behind the end. Here it is added up who must have heard what: each message at most once and in order; each question
//! answered once; and whenever all mails have arrived, groups, users and hubs reach exactly those that they should.
//!
//! A world follows from its seed alone. `HUBRING_SEED=17 cargo test --lib routing` runs the one world that failed.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use std::time::Duration;

use super::messages::{
    broadcast, completion, invocation, join, join_with_ack, leave, leave_with_ack, ping,
    to_connections, to_group, to_groups, to_user, to_users,
};
use super::*;

const SEEDS: u64 = 320;
const STEPS: usize = 180;
const SERVERS_MAX: usize = 8;
const CLIENTS_MAX: usize = 16;

const HUBS: [HubId; 2] = [CHAT, NEWS];
const SERVER_IDS: [&str; 3] = ["a", "b", "c"];
const USERS: [Option<&str>; 3] = [None, Some("ann"), Some("bob")];
const GROUPS: [&str; 3] = ["x", "y", "z"];

#[test]
fn all_invariants_hold_whatever_happens_in_whatever_order() {
    let only = std::env::var("HUBRING_SEED")
        .ok()
        .map(|seed| seed.parse().expect("a number"));
    let seeds = only.map_or(0..SEEDS, |seed| seed..seed + 1);
    for seed in seeds {
        let _told = TellSeed(seed);
        let mut simulation = Simulation::new(seed);
        for step in 1..=STEPS {
            simulation.step();
            if step % 60 == 0 {
                simulation.check_targets();
            }
        }
        simulation.end();
    }
}

struct Simulation {
    random: Random,
    world: World,
    /// Counts everything that has to be told apart: messages, acks, invocations.
    number: i32,
    profiles: Vec<Profile>,
    /// Those to whom their app server has said goodbye, or no.
    dismissed: BTreeSet<ClientEnd>,
    members: BTreeSet<(&'static str, ClientEnd)>,
    /// By client, server connection and way: the last message that came.
    last_heard: HashMap<(ClientEnd, usize, char), i32>,
    /// Who hears the message that is being followed.
    hearers: Vec<ClientEnd>,
    followed: Option<i32>,
    asked: BTreeMap<i32, ServerEnd>,
    acknowledged: BTreeSet<i32>,
    invoked: BTreeMap<String, ServerEnd>,
    mapped: BTreeSet<String>,
    answered: BTreeSet<String>,
    /// Invocations that an app server knows it will have to answer for another.
    announced: Vec<(ServerEnd, String, String)>,
}

// --- Events ---

impl Simulation {
    fn new(seed: u64) -> Self {
        let mut random = Random(seed);
        let shard_count = 1 + random.below(4) as u16;
        Self {
            random,
            world: World::new(shard_count),
            number: 0,
            profiles: Vec::new(),
            dismissed: BTreeSet::new(),
            members: BTreeSet::new(),
            last_heard: HashMap::new(),
            hearers: Vec::new(),
            followed: None,
            asked: BTreeMap::new(),
            acknowledged: BTreeSet::new(),
            invoked: BTreeMap::new(),
            mapped: BTreeSet::new(),
            answered: BTreeSet::new(),
            announced: Vec::new(),
        }
    }

    fn step(&mut self) {
        match self.random.below(100) {
            0..=5 => self.connect_server(),
            6..=15 => self.connect_client(),
            16..=27 => self.say_hello(),
            28..=39 => self.answer_handshake(),
            40..=44 => self.say_data(),
            45..=46 => self.leave(),
            47 => self.end_server(),
            48..=51 => self.close_from_server(),
            52..=68 => self.fan_out(),
            69..=80 => self.change_membership(),
            81..=84 => self.invoke(),
            85..=87 => self.complete(),
            88..=98 => self.take_mail(),
            _ => self
                .world
                .pass(Duration::from_secs(self.random.below(9) as u64)),
        }
        self.collect();
    }

    fn connect_server(&mut self) {
        if self.servers(|_| true).len() >= SERVERS_MAX {
            return;
        }
        let shard = self.random.below(self.world.routers.len());
        let hub = self.random.pick(&HUBS);
        let server_id = self.random.pick(&SERVER_IDS);
        match self.random.below(8) {
            0 => drop(self.world.adopt_server(shard, hub, server_id)),
            1 => drop(
                self.world
                    .server_of_type(shard, hub, server_id, ServerConnectionType::Weak),
            ),
            _ => drop(self.world.server(shard, hub, server_id)),
        }
    }

    fn connect_client(&mut self) {
        let routable = self.servers(|server| server.standing == Standing::Routable);
        if routable.is_empty() || self.clients(|_| true).len() >= CLIENTS_MAX {
            return;
        }
        let server = self.random.pick(&routable);
        let shards = self.world.routers.len();
        let protocols = [HubProtocol::Json, HubProtocol::MessagePack];
        let profile = Profile {
            user: self.random.pick(&USERS),
            protocol: protocols[self.random.below(2)].clone(),
            home: (self.random.below(4) == 0).then(|| self.random.below(shards) as u16),
            required_server_id: None,
        };
        self.world.adopt_client(server, &profile);
        self.profiles.push(profile);
    }

    fn say_hello(&mut self) {
        let silent = self.clients(|client| client.server.is_none());
        if let Some(client) = self.random.pick_any(&silent) {
            // The shard that its id names has long heard of it when its app server does.
            let home = self.world.clients[client.0].id.shard().index();
            while self.world.take_mail(home) {}
            let request = self.world.hello_of(client);
            let (head, tail) = request.split_at(self.random.below(request.len()));
            self.world.say(client, head);
            self.world.say(client, tail);
        }
    }

    fn answer_handshake(&mut self) {
        let opening = self.clients(|client| client.server.is_some() && !client.is_answered);
        let Some(client) = self.random.pick_any(&opening) else {
            return;
        };
        if self.random.below(8) == 0 {
            self.dismissed.insert(client);
            self.world
                .send_data(client, REJECTED, DataMessageType::Handshake);
        } else {
            self.world.accept(client);
        }
    }

    fn say_data(&mut self) {
        let known = self.clients(|client| client.server.is_some());
        let Some(client) = self.random.pick_any(&known) else {
            return;
        };
        self.world.say(client, "up");
        let is_open = self.world.clients[client.0].is_answered && !self.dismissed.contains(&client);
        if is_open {
            let server = self.world.clients[client.0].server.expect("it is known");
            let text = self.numbered(server, 'c');
            self.world
                .send_data(client, &text, DataMessageType::Invocation);
        }
    }

    fn leave(&mut self) {
        let connected = self.clients(|_| true);
        if let Some(client) = self.random.pick_any(&connected) {
            self.world.leave(client);
        }
    }

    fn end_server(&mut self) {
        let up = self.servers(|_| true);
        let Some(server) = self.random.pick_any(&up) else {
            return;
        };
        let is_ready = self.world.servers[server.0].standing != Standing::Unknown;
        if is_ready && self.random.below(2) == 0 {
            self.world.send(server, ping(&["shutdown", "fin:0"]));
        } else {
            self.world.lose_server(server);
        }
    }

    fn close_from_server(&mut self) {
        let known = self.clients(|client| client.server.is_some() && client.is_answered);
        let Some(client) = self.random.pick_any(&known) else {
            return;
        };
        if self.dismissed.contains(&client) {
            self.world.close_from_server(client);
        } else if self.random.below(2) == 0 {
            self.dismissed.insert(client);
            self.world.say_goodbye(client);
        } else if let Some(asking) = self.ready_server(self.world.clients[client.0].hub) {
            let id = self.world.id(client);
            self.world.send(asking, CloseConnection::of(id));
        }
    }

    fn fan_out(&mut self) {
        let hub = self.random.pick(&HUBS);
        let Some(server) = self.ready_server(hub) else {
            return;
        };
        let ids: Vec<&str> = (0..3).filter_map(|_| self.any_id()).collect();
        let way = if self.random.below(3) == 0 { 'c' } else { 'h' };
        let text = self.numbered(server, way);
        let (group, other) = (self.random.pick(&GROUPS), self.random.pick(&GROUPS));
        let message = match (way, self.random.below(5)) {
            ('c', _) => to_connections(&ids, &text),
            (_, 0) => broadcast(&text),
            (_, 1) => to_user("ann", &text),
            (_, 2) => to_users(&["ann", "bob", "ann"], &text),
            (_, 3) => to_group(group, &text),
            _ => to_groups(&[group, other], &text),
        };
        self.world.send(server, message);
    }

    /// Always asked for on the same shard for the same client: between shards there is no order that a model could know.
    fn change_membership(&mut self) {
        let known = self.clients(|client| client.server.is_some());
        let Some(client) = self.random.pick_any(&known) else {
            return;
        };
        let shard = client.0 % self.world.routers.len();
        let hub = self.world.clients[client.0].hub;
        let may_ask = |server: &ServerRecord| {
            (server.shard, server.hub) == (shard, hub) && server.standing != Standing::Unknown
        };
        let Some(asking) = self.random.pick_any(&self.servers(may_ask)) else {
            return;
        };
        let (id, group) = (self.world.id(client), self.random.pick(&GROUPS));
        self.number += 1;
        let choice = self.random.below(8);
        let message = match choice {
            0..=2 => join_with_ack(id, group, self.number),
            3 => join(id, group),
            4 => leave_with_ack(id, Some(group), self.number),
            5 => leave(id, Some(group)),
            6 => leave_with_ack(id, None, self.number),
            _ => leave(id, None),
        };
        match choice {
            0..=3 => drop(self.members.insert((group, client))),
            4..=5 => drop(self.members.remove(&(group, client))),
            _ => self.members.retain(|(_, member)| *member != client),
        }
        if [0, 1, 2, 4, 6].contains(&choice) {
            self.asked.insert(self.number, asking);
        }
        self.world.send(asking, message);
    }

    fn invoke(&mut self) {
        let hub = self.random.pick(&HUBS);
        let (Some(caller), Some(id)) = (self.ready_server(hub), self.any_id()) else {
            return;
        };
        self.number += 1;
        let invocation_id = format!("i{}", self.number);
        let server_id = Arc::clone(&self.world.servers[caller.0].server_id);
        let message = invocation(&invocation_id, id, &server_id);
        self.invoked.insert(invocation_id, caller);
        self.world.send(caller, message);
    }

    fn complete(&mut self) {
        self.announced
            .retain(|(server, ..)| self.world.is_up(*server));
        if self.announced.is_empty() {
            return;
        }
        let index = self.random.below(self.announced.len());
        let (server, invocation_id, id) = self.announced.swap_remove(index);
        let server_id = Arc::clone(&self.world.servers[server.0].server_id);
        self.world
            .send(server, completion(&invocation_id, &id, &server_id, "42"));
    }

    fn take_mail(&mut self) {
        let shard = self.random.below(self.world.routers.len());
        self.world.take_mail(shard);
    }
}

// --- What must hold ---

impl Simulation {
    /// Reads what everybody has received since the last event.
    fn collect(&mut self) {
        for end in (0..self.world.clients.len()).map(ClientEnd) {
            let speaks_json = self.world.clients[end.0].protocol == HubProtocol::Json;
            for text in self.world.heard(end) {
                let bare = text.strip_prefix("mp:");
                assert!(bare.is_none() || !speaks_json, "each gets its own encoding");
                self.note_heard(end, bare.unwrap_or(&text));
            }
        }
        for end in (0..self.world.servers.len()).map(ServerEnd) {
            for message in self.world.take(end) {
                self.note_received(end, &message);
            }
        }
    }

    fn note_heard(&mut self, client: ClientEnd, text: &str) {
        let parts: Vec<&str> = text.split(' ').collect();
        let ["message", server, way, number] = parts.as_slice() else {
            return;
        };
        let server: usize = server.parse().unwrap();
        let number: i32 = number.parse().unwrap();
        let record = &self.world.clients[client.0];
        assert_eq!(
            record.hub, self.world.servers[server].hub,
            "hubs do not mix"
        );
        // What names a connection that has moved goes another way than what names its hub.
        let has_moved = record.id.shard().index() != record.shard;
        let way = if has_moved {
            way.chars().next().unwrap()
        } else {
            ' '
        };
        let last = self.last_heard.insert((client, server, way), number);
        assert!(
            last < Some(number),
            "{client:?} hears from {server} on way {way:?}: {number} after {last:?}"
        );
        if self.followed == Some(number) {
            self.hearers.push(client);
        }
    }

    fn note_received(&mut self, server: ServerEnd, message: &Received) {
        let is_same_app_server = |asking: &ServerEnd| {
            let records = [&self.world.servers[server.0], &self.world.servers[asking.0]];
            let [one, other] = records.map(|record| (record.hub, &record.server_id));
            one == other
        };
        if let Message::Ack(ack) = message {
            assert!(is_same_app_server(&self.asked[&ack.ack_id]));
            assert!(self.acknowledged.insert(ack.ack_id), "acknowledged once");
        }
        if let Message::ClientInvocation(invocation) = message {
            let (invocation_id, id) = (&invocation.invocation_id, &invocation.connection_id);
            self.announced
                .push((server, invocation_id.to_string(), id.to_string()));
        }
        if let Message::ServiceMapping(mapping) = message {
            assert!(is_same_app_server(&self.invoked[&*mapping.invocation_id]));
            self.mapped.insert(mapping.invocation_id.to_string());
        }
        let answered = if let Message::ClientCompletion(completion) = message {
            &completion.invocation_id
        } else if let Message::ErrorCompletion(completion) = message {
            &completion.invocation_id
        } else {
            return;
        };
        assert!(is_same_app_server(&self.invoked[&**answered]));
        assert!(self.answered.insert(answered.to_string()), "answered once");
    }

    /// With all mails at their place, a message of each kind reaches exactly those that it should.
    fn check_targets(&mut self) {
        self.world.settle();
        self.collect();
        self.check_acks();
        self.check_views();
        for hub in HUBS {
            let Some(server) = self.ready_server(hub) else {
                continue;
            };
            self.expect(server, |_, _| true, broadcast);
            self.expect(
                server,
                |of, end| of.profiles[end.0].user == Some("ann"),
                |text| to_user("ann", text),
            );
            for group in GROUPS {
                let is_member = |of: &Self, end| of.members.contains(&(group, end));
                self.expect(server, is_member, |text| to_group(group, text));
            }
        }
    }

    fn expect(
        &mut self,
        server: ServerEnd,
        is_target: impl Fn(&Self, ClientEnd) -> bool,
        message: impl Fn(&str) -> Received,
    ) {
        let text = self.numbered(server, 'h');
        self.followed = Some(self.number);
        self.world.send(server, message(&text));
        self.world.settle();
        self.collect();
        let hub = self.world.servers[server.0].hub;
        let mut expected = self.clients(|client| client.hub == hub && client.is_answered);
        expected.retain(|end| !self.dismissed.contains(end) && is_target(self, *end));
        assert_eq!(std::mem::take(&mut self.hearers), expected);
        self.followed = None;
    }

    fn check_acks(&self) {
        for (ack_id, asking) in &self.asked {
            if self.world.is_up(*asking) {
                assert!(
                    self.acknowledged.contains(ack_id),
                    "who is there is answered"
                );
            }
        }
    }

    /// App servers have the clients that the service thinks they have. Those that they have dismissed they forget by themselves.
    fn check_views(&self) {
        let dismissed = self.dismissed.iter().map(|client| self.world.id(*client));
        let dismissed: BTreeSet<&str> = dismissed.collect();
        for end in self.servers(|_| true) {
            let bound = self.clients(|client| client.server == Some(end));
            let mut bound: Vec<&str> = bound.iter().map(|client| self.world.id(*client)).collect();
            bound.retain(|id| !dismissed.contains(id));
            bound.sort_unstable();
            let known = self.world.servers[end.0].clients.iter();
            let known = known
                .map(String::as_str)
                .filter(|id| !dismissed.contains(id));
            assert_eq!(known.collect::<Vec<_>>(), bound);
        }
    }

    /// Everybody goes, one after the other, and nothing is left.
    fn end(mut self) {
        self.check_targets();
        for client in self.clients(|_| true) {
            if self.world.is_connected(client) {
                self.leave();
            }
            self.take_mail();
        }
        for client in self.clients(|_| true) {
            self.world.leave(client);
        }
        self.world.settle();
        self.collect();
        for (invocation_id, caller) in &self.invoked {
            if self.mapped.contains(invocation_id) && self.world.is_up(*caller) {
                assert!(
                    self.answered.contains(invocation_id),
                    "nobody waits for ever"
                );
            }
        }
        for server in self.servers(|_| true) {
            self.world.lose_server(server);
        }
        self.world.settle();
        self.world.assert_empty();
    }
}

// --- Choices ---

impl Simulation {
    /// The server connections that are up, and so.
    fn servers(&self, is_so: impl Fn(&ServerRecord) -> bool) -> Vec<ServerEnd> {
        let ends = (0..self.world.servers.len()).map(ServerEnd);
        ends.filter(|end| self.world.is_up(*end) && is_so(&self.world.servers[end.0]))
            .collect()
    }

    /// The clients that are connected, and so.
    fn clients(&self, is_so: impl Fn(&ClientRecord) -> bool) -> Vec<ClientEnd> {
        let ends = (0..self.world.clients.len()).map(ClientEnd);
        ends.filter(|end| self.world.is_connected(*end) && is_so(&self.world.clients[end.0]))
            .collect()
    }

    fn ready_server(&mut self, hub: HubId) -> Option<ServerEnd> {
        let is_ready =
            |server: &ServerRecord| server.hub == hub && server.standing != Standing::Unknown;
        self.random.pick_any(&self.servers(is_ready))
    }

    /// The id of a client that is there or was there. No app server has heard of others.
    fn any_id(&mut self) -> Option<&'static str> {
        let mut known: Vec<ClientEnd> = (0..self.world.clients.len()).map(ClientEnd).collect();
        known.retain(|client| self.world.clients[client.0].server.is_some());
        let client = self.random.pick_any(&known)?;
        Some(self.world.id(client))
    }

    /// A message that tells whom it comes from, which way it goes, and its place.
    fn numbered(&mut self, server: ServerEnd, way: char) -> String {
        self.number += 1;
        format!("message {} {way} {}", server.0, self.number)
    }
}

/// `SplitMix64`: small, and good enough to choose among a few.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((mixed ^ (mixed >> 31)) % bound as u64) as usize
    }

    fn pick<T: Copy>(&mut self, choices: &[T]) -> T {
        choices[self.below(choices.len())]
    }

    fn pick_any<T: Copy>(&mut self, choices: &[T]) -> Option<T> {
        (!choices.is_empty()).then(|| self.pick(choices))
    }
}

/// Says which seed it was when a world fails.
struct TellSeed(u64);

impl Drop for TellSeed {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("to run this world alone: HUBRING_SEED={}", self.0);
        }
    }
}

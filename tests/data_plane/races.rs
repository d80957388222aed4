//! Clients join and leave groups while others send to them, on four shards at once. What was sent behind an acknowledgement obeys it,
//! whoever sends it; what was sent behind the request on the same server connection obeys it too; and in between each message comes
//! once or not at all.
//!
//! `HUBRING_RACES` says how many memberships change; without, the ignored test changes 100,000. Runs as [`crate::order_under_load`].

use std::collections::BTreeMap;
use std::time::Instant;

use hubring::frame::websocket::Data;
use hubring::protocol::service::{
    AckStatus, GroupBroadcastData, JoinGroupWithAck, LeaveGroupWithAck, Message,
    MultiConnectionData, Texts,
};

use crate::peers::{AppServer, Client, Heard, read};
use crate::stage::Stage;

const SHARDS: u16 = 4;
const SERVERS: usize = 4;
const CLIENTS: usize = 8;
const GROUPS: usize = 32;
/// Memberships that change in one round: half of all.
const CHANGES: usize = CLIENTS * GROUPS / 2;

#[test]
fn memberships_that_change_are_neither_late_nor_early() {
    run(races(20 * CHANGES));
}

#[test]
#[ignore = "100,000 races; scripts/test runs it"]
fn memberships_that_change_100_000_times_are_neither_late_nor_early() {
    run(races(100_000));
}

fn races(default: usize) -> usize {
    std::env::var("HUBRING_RACES").map_or(default, |count| count.parse().unwrap())
}

fn run(races: usize) {
    let stage = Stage::of_process(SHARDS);
    let mut servers = AppServer::connect_all(&stage, SERVERS);
    let clients: Vec<Client> = (0..CLIENTS)
        .map(|_| Client::connect(&stage, &mut servers).0)
        .collect();
    let mut course = Course {
        servers,
        clients,
        members: [[false; GROUPS]; CLIENTS],
        random: Random(7),
        deliveries: 0,
    };
    let rounds = races.div_ceil(CHANGES);
    let started = Instant::now();
    for round in 0..rounds {
        course.run_round(round);
    }
    let (races, took) = (rounds * CHANGES, started.elapsed());
    let deliveries = course.deliveries;
    println!("{races} races, {deliveries} deliveries in {took:.1?}: 0 lost, 0 extra");
}

struct Course {
    servers: Vec<AppServer>,
    clients: Vec<Client>,
    members: [[bool; GROUPS]; CLIENTS],
    random: Random,
    deliveries: usize,
}

/// One membership that changes.
#[derive(Clone, Copy)]
struct Change {
    client: usize,
    group: usize,
    /// The server connection that asks for it.
    server: usize,
    joins: bool,
}

/// How often a message may come to a client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Expected {
    Never,
    Once,
    AtMostOnce,
}

/// Client, then what it hears: the stage of the round, the sender and the group.
type Expectations = BTreeMap<(usize, char, usize, usize), Expected>;

impl Course {
    fn run_round(&mut self, round: usize) {
        let changes = self.changes();
        let mut expected = Expectations::new();
        let mut batches = Vec::new();
        for server in 0..SERVERS {
            batches.push(self.racing_batch(server, &changes, round, &mut expected));
        }
        for (server, batch) in self.servers.iter_mut().zip(&batches) {
            server.peer.send(Data::Binary, batch);
        }
        for change in &changes {
            self.members[change.client][change.group] = change.joins;
        }
        for (index, server) in self.servers.iter_mut().enumerate() {
            let asked = changes.iter().filter(|change| change.server == index);
            expect_acks(server, asked.count());
        }
        for index in 0..SERVERS {
            let batch = self.settled_batch(index, round, &mut expected);
            self.servers[index].peer.send(Data::Binary, &batch);
        }
        for client in 0..CLIENTS {
            self.check_client(client, round, &mut expected);
        }
        let missed: Vec<_> = expected
            .iter()
            .filter(|(_, expected)| **expected == Expected::Once)
            .collect();
        assert!(missed.is_empty(), "lost in round {round}: {missed:?}");
    }

    /// Half of all memberships, each asked for by any server connection.
    fn changes(&mut self) -> Vec<Change> {
        let mut pairs: Vec<usize> = (0..CLIENTS * GROUPS).collect();
        self.random.shuffle(&mut pairs);
        pairs.truncate(CHANGES);
        pairs
            .into_iter()
            .map(|pair| {
                let (client, group) = (pair % CLIENTS, pair / CLIENTS);
                Change {
                    client,
                    group,
                    server: self.random.below(SERVERS),
                    joins: !self.members[client][group],
                }
            })
            .collect()
    }

    /// What one server connection asks for, and a message to each group somewhere among it.
    fn racing_batch(
        &mut self,
        server: usize,
        changes: &[Change],
        round: usize,
        expected: &mut Expectations,
    ) -> Vec<u8> {
        enum Step {
            Change(Change),
            Send(usize),
        }
        let asked = changes.iter().filter(|change| change.server == server);
        let mut steps: Vec<Step> = asked.map(|change| Step::Change(*change)).collect();
        steps.extend((0..GROUPS).map(Step::Send));
        self.random.shuffle(&mut steps);
        let mut members = self.members;
        let mut batch = Vec::new();
        let mut ack_id = 0;
        for step in steps {
            match step {
                Step::Change(change) => {
                    members[change.client][change.group] = change.joins;
                    let id = &self.clients[change.client].id;
                    request(id, change, ack_id).encode(&mut batch);
                    // Every server connection uses the same ids.
                    ack_id += 1;
                }
                Step::Send(group) => {
                    let text = format!("r {server} {group} {round}\x1e");
                    to_group(group, &text).encode(&mut batch);
                    for (client, members) in members.iter().enumerate() {
                        let by_other = changes.iter().any(|change| {
                            (change.client, change.group) == (client, group)
                                && change.server != server
                        });
                        let expectation = match members[group] {
                            _ if by_other => Expected::AtMostOnce,
                            true => Expected::Once,
                            false => Expected::Never,
                        };
                        expected.insert((client, 'r', server, group), expectation);
                    }
                }
            }
        }
        batch
    }

    /// A message to each group when all changes have been acknowledged, then one to each client behind which nothing may come.
    fn settled_batch(&self, server: usize, round: usize, expected: &mut Expectations) -> Vec<u8> {
        let mut batch = Vec::new();
        for group in 0..GROUPS {
            let text = format!("s {server} {group} {round}\x1e");
            to_group(group, &text).encode(&mut batch);
            for (client, members) in self.members.iter().enumerate() {
                let expectation = if members[group] {
                    Expected::Once
                } else {
                    Expected::Never
                };
                expected.insert((client, 's', server, group), expectation);
            }
        }
        let fence = format!("f {server} 0 {round}\x1e");
        for client in &self.clients {
            to_connection(&client.id, &fence).encode(&mut batch);
        }
        batch
    }

    /// Reads what a client hears in a round, up to the last fence.
    fn check_client(&mut self, client: usize, round: usize, expected: &mut Expectations) {
        let mut fenced = [false; SERVERS];
        while fenced.contains(&false) {
            for record in records(&mut self.clients[client]) {
                let parts: Vec<&str> = record.split(' ').collect();
                let [stage, server, group, of_round] = parts.as_slice() else {
                    panic!("{record:?}");
                };
                let number = |text: &str| text.parse::<usize>().unwrap();
                let (server, group) = (number(server), number(group));
                assert_eq!(number(of_round), round, "extra: {record:?}");
                assert!(!fenced[server], "{record:?} behind the fence");
                if *stage == "f" {
                    fenced[server] = true;
                    continue;
                }
                let stage = stage.chars().next().unwrap();
                let once = expected
                    .insert((client, stage, server, group), Expected::Never)
                    .unwrap();
                assert_ne!(
                    once,
                    Expected::Never,
                    "extra in round {round} for client {client}: {record:?}"
                );
                self.deliveries += 1;
            }
        }
    }
}

fn expect_acks(server: &mut AppServer, count: usize) {
    let mut ack_ids: Vec<i32> = (0..count)
        .map(|_| match read(&server.next().unwrap()) {
            Message::Ack(ack) => {
                assert_eq!(ack.status, AckStatus::Ok);
                ack.ack_id
            }
            other => panic!("no ack: {other:?}"),
        })
        .collect();
    ack_ids.sort_unstable();
    let all = 0..i32::try_from(count).unwrap();
    assert!(ack_ids.into_iter().eq(all), "each once");
}

/// The next records, of which one frame has one each.
fn records(client: &mut Client) -> Vec<String> {
    let mut bytes = Vec::new();
    while !bytes.ends_with(b"\x1e") {
        match client.peer.hear() {
            Heard::Bytes(more) => bytes.extend_from_slice(&more),
            other => panic!("{other:?}"),
        }
    }
    let text = String::from_utf8(bytes).unwrap();
    text.split_terminator('\x1e').map(str::to_owned).collect()
}

fn request(id: &str, change: Change, ack_id: i32) -> Message<'_, &'static [u8]> {
    let group = group_name(change.group);
    if change.joins {
        JoinGroupWithAck {
            connection_id: id.into(),
            group: group.into(),
            ack_id,
            ..JoinGroupWithAck::default()
        }
        .into()
    } else {
        LeaveGroupWithAck {
            connection_id: id.into(),
            group: Some(group.into()),
            ack_id,
            ..LeaveGroupWithAck::default()
        }
        .into()
    }
}

fn to_group(group: usize, text: &str) -> Message<'_, &[u8]> {
    GroupBroadcastData {
        group: group_name(group).into(),
        excluded: Texts::new(),
        payloads: [("json", text.as_bytes())].into_iter().collect(),
        excluded_users: Texts::new(),
        caller_user_id: None,
        filter: None,
        tracing_id: None,
    }
    .into()
}

fn to_connection<'a>(id: &'a str, text: &'a str) -> Message<'a, &'a [u8]> {
    MultiConnectionData {
        connection_ids: std::iter::once(id.into()).collect(),
        payloads: [("json", text.as_bytes())].into_iter().collect(),
        filter: None,
        tracing_id: None,
    }
    .into()
}

fn group_name(group: usize) -> String {
    format!("group-{group}")
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

    fn shuffle<T>(&mut self, list: &mut [T]) {
        for end in (1..list.len()).rev() {
            list.swap(end, self.below(end + 1));
        }
    }
}

//! What the app server says under each load, read back with the service's own decoder.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::{Duration, Instant};

use hubring::frame::record::{RECORD_BYTES_MAX, VarintRecords};
use hubring::protocol::service::{
    Ack, HandshakeResponse, Message, OpenConnection, Payloads, decode_whole,
};

use super::app::App;
use crate::job::{HubProtocol, Job, Load, Pacing, Target};
use crate::worker::due_time;
use crate::worker::payload::{ECHO, OTHER_SIDE, invocation};

const SERVER_CONNECTIONS: u32 = 3;
const PAYLOAD_BYTES: u32 = 200;

pub(super) fn job(load: Load, clients: u32) -> Job {
    Job {
        target: Target::Service {
            address: SocketAddr::from((Ipv4Addr::LOCALHOST, 0)),
            audience_host: String::new(),
            hub: "loadtest".into(),
            access_key: String::new().into(),
            app_server_elsewhere: false,
            app_server: None,
        },
        load,
        clients,
        first_client: 0,
        clients_total: clients,
        plays_other_side: true,
        server_connections: SERVER_CONNECTIONS,
        payload_bytes: PAYLOAD_BYTES,
        hub_protocol: HubProtocol::Json,
        checked_one_in: 1,
        progress: None,
        core: 0,
        watched: Vec::new(),
    }
}

/// An app server whose clients have come and are in their groups: client n is user `un` on server connection n modulo all.
struct World {
    app: App,
    now: Instant,
    arrived: u64,
    acks: i32,
}

impl World {
    fn new(load: Load, clients: u32) -> Self {
        let mut world = Self {
            app: App::new(&job(load, clients)),
            now: Instant::now(),
            arrived: 0,
            acks: 0,
        };
        for connection in 0..SERVER_CONNECTIONS {
            world.hear(connection, HandshakeResponse::default());
        }
        assert!(world.app.is_accepted());
        assert_eq!(world.turn(), []);
        for client in 0..clients {
            world.open(client, &format!("u{client}"));
        }
        world
    }

    fn open(&mut self, client: u32, user_id: &str) {
        let open = OpenConnection {
            connection_id: format!("c{client}").into(),
            claims: vec![("nameid".into(), user_id.into())],
            protocol: Some("json".into()),
            ..OpenConnection::default()
        };
        self.hear(client % SERVER_CONNECTIONS, open);
    }

    fn hear<'a>(&mut self, connection: u32, message: impl Into<Message<'a, &'a [u8]>>) {
        let mut bytes = Vec::new();
        message.into().encode(&mut bytes);
        self.app.on_bytes(connection as usize, &bytes).unwrap();
    }

    /// Acknowledges everything that has asked for it.
    fn ack(&mut self, count: usize) {
        for _ in 0..count {
            self.acks += 1;
            let ack_id = self.acks;
            let ack = Ack {
                ack_id,
                ..Ack::default()
            };
            self.hear(0, ack);
        }
    }

    /// Lets a turn pass, and tells what was called in it, on which server connection.
    fn turn(&mut self) -> Vec<(usize, String)> {
        self.app.on_turn(self.now, self.arrived).unwrap();
        let mut calls = Vec::new();
        for connection in 0..SERVER_CONNECTIONS as usize {
            let outgoing = std::mem::take(self.app.outgoing(connection).unwrap());
            calls.extend(read(&outgoing).into_iter().map(|call| (connection, call)));
        }
        calls
    }

    /// Lets all clients join their groups, and begins a measurement.
    fn start(&mut self) -> Vec<(usize, String)> {
        self.app.start();
        loop {
            let calls = self.turn();
            let is_first_join = |call: &str| call.contains("joins group-");
            match calls.iter().filter(|(_, call)| is_first_join(call)).count() {
                0 => return calls,
                joins => self.ack(joins),
            }
        }
    }
}

fn read(bytes: &[u8]) -> Vec<String> {
    let (mut records, mut at) = (VarintRecords::new(RECORD_BYTES_MAX), 0);
    let mut calls = Vec::new();
    while let Some(piece) = records.next(bytes, &mut at).unwrap() {
        calls.extend(describe(&decode_whole(&bytes[piece.range]).unwrap()));
    }
    calls
}

#[expect(
    clippy::wildcard_enum_match_arm,
    reason = "an app server has to say no more than this"
)]
fn describe(message: &Message<'_, &[u8]>) -> Option<String> {
    let check = |payloads: &Payloads<'_, &[u8]>| {
        let bytes = PAYLOAD_BYTES as usize;
        let (mut expected, text) = invocation(HubProtocol::Json, ECHO, OTHER_SIDE, 0, bytes);
        let place = due_time::place(&expected, &text).unwrap();
        let (protocol, payload) = payloads.iter().next().unwrap();
        expected[place.clone()].copy_from_slice(&payload[place]);
        assert_eq!((protocol, payloads.iter().count()), ("json", 1));
        assert_eq!(*payload, expected);
    };
    Some(match message {
        Message::HandshakeRequest(_) => return None,
        Message::BroadcastData(data) => {
            check(&data.payloads);
            "to all".to_owned()
        }
        Message::MultiConnectionData(data) => {
            check(&data.payloads);
            format!("to {}", data.connection_ids.join(","))
        }
        Message::UserData(data) => {
            check(&data.payloads);
            format!("to {}", data.user_id)
        }
        Message::GroupBroadcastData(data) => {
            check(&data.payloads);
            format!("to {}", data.group)
        }
        Message::JoinGroupWithAck(join) => format!("{} joins {}", join.connection_id, join.group),
        Message::LeaveGroupWithAck(leave) => {
            let group = leave.group.as_deref().unwrap();
            format!("{} leaves {group}", leave.connection_id)
        }
        other => panic!("{other:?} was not to be expected"),
    })
}

fn on(connection: usize, call: &str) -> (usize, String) {
    (connection, call.to_owned())
}

const DEPTH_2: Pacing = Pacing::Closed { depth: 2 };

#[test]
fn where_clients_begin_the_app_server_is_silent() {
    for load in [
        Load::Echo { pacing: DEPTH_2 },
        Load::Connect { at_once: 5 },
        Load::Reconnect {
            app_server_dies: true,
        },
    ] {
        let mut world = World::new(load, 5);
        assert_eq!(world.start(), []);
        assert!(world.app.is_quiet());
        assert_eq!(world.app.next_due(), None);
        assert_eq!(world.app.completed(), None);
    }
}

#[test]
fn broadcasts_take_turns_and_a_burst_stays_together() {
    let load = Load::Broadcast {
        burst: 2,
        overlap_percent: 50,
    };
    let mut world = World::new(load, 4);
    assert_eq!(world.turn(), []);
    assert_eq!(world.start(), [on(0, "to all"), on(0, "to all")]);
    assert!(!world.app.is_quiet());
    world.arrived = 3;
    assert_eq!(world.turn(), []);
    world.arrived = 4;
    assert_eq!(world.turn(), [on(1, "to all"), on(1, "to all")]);
    world.app.stop(world.now);
    world.arrived = 15;
    assert_eq!(world.turn(), []);
    assert!(!world.app.is_quiet());
    world.arrived = 16;
    assert_eq!(world.turn(), []);
    assert!(world.app.is_quiet());
}

#[test]
fn a_client_is_called_on_its_own_server_connection() {
    let mut world = World::new(Load::SendToConnection { pacing: DEPTH_2 }, 4);
    assert_eq!(world.start(), [on(0, "to c0"), on(1, "to c1")]);
    world.arrived = 1;
    assert_eq!(world.turn(), [on(2, "to c2")]);
    world.arrived = 3;
    // The fourth lives where the first does, and then the first has its turn again.
    assert_eq!(world.turn(), [on(0, "to c3"), on(0, "to c0")]);
}

#[test]
fn a_user_is_always_called_on_the_same_server_connection() {
    let mut world = World::new(Load::SendToUser { pacing: DEPTH_2 }, 2);
    for round in 0..3 {
        world.arrived = 2 * round;
        let calls = if round == 0 {
            world.start()
        } else {
            world.turn()
        };
        assert_eq!(calls, [on(0, "to u0"), on(1, "to u1")]);
    }
}

#[test]
fn sends_to_users_want_each_client_to_be_one() {
    for user_id in ["", "u0"] {
        let mut world = World::new(Load::SendToUser { pacing: DEPTH_2 }, 1);
        world.open(1, user_id);
        world.app.start();
        assert!(world.app.on_turn(world.now, 0).is_err());
    }
}

#[test]
fn groups_are_called_when_all_clients_have_joined() {
    let load = Load::SendToGroup {
        group_members: 2,
        idle_groups: 1,
        pacing: DEPTH_2,
    };
    let mut world = World::new(load, 3);
    assert!(!world.app.is_quiet());
    world.app.start();
    assert_eq!(
        world.turn(),
        [
            on(0, "c0 joins group-0"),
            on(0, "c0 joins idle-0-0"),
            on(1, "c1 joins group-0"),
            on(1, "c1 joins idle-1-0"),
            on(2, "c2 joins group-1"),
            on(2, "c2 joins idle-2-0"),
        ]
    );
    world.ack(5);
    assert_eq!(world.turn(), []);
    world.ack(1);
    // Three deliveries for two calls: the second group has only one member.
    assert_eq!(world.turn(), [on(0, "to group-0"), on(1, "to group-1")]);
    world.arrived = 1;
    assert_eq!(world.turn(), [on(0, "to group-0")]);
}

#[test]
fn clients_join_and_leave_and_join_the_next() {
    let load = Load::Membership {
        groups: 2,
        pacing: DEPTH_2,
    };
    let mut world = World::new(load, 2);
    assert_eq!(
        world.start(),
        [on(0, "c0 joins member-0"), on(1, "c1 joins member-1")]
    );
    assert_eq!(world.turn(), []);
    world.ack(2);
    assert_eq!(
        world.turn(),
        [on(0, "c0 leaves member-0"), on(1, "c1 leaves member-1")]
    );
    world.ack(1);
    assert_eq!(world.app.completed(), Some(3));
    assert_eq!(world.app.take_done(), [world.now; 3]);
    assert_eq!(world.app.take_done(), []);
    assert_eq!(world.turn(), [on(0, "c0 joins member-1")]);
    world.app.stop(world.now);
    world.ack(1);
    assert!(!world.app.is_quiet());
    world.ack(1);
    assert!(world.app.is_quiet());
    assert_eq!(world.turn(), []);
}

#[test]
fn each_idle_client_joins_one_group() {
    let mut world = World::new(Load::Idle, 2);
    assert_eq!(
        world.turn(),
        [on(0, "c0 joins group-0"), on(1, "c1 joins group-1")]
    );
    world.ack(2);
    assert!(world.app.is_quiet());
}

#[test]
fn clients_that_read_nothing_are_not_waited_for() {
    let load = Load::SlowConsumers {
        stalled: 2,
        per_second: 10,
    };
    let mut world = World::new(load, 5);
    assert_eq!(world.start(), [on(0, "to all")]);
    assert_eq!(
        world.app.next_due(),
        Some(world.now + Duration::from_millis(100))
    );
    world.now += Duration::from_millis(250);
    assert_eq!(world.app.behind(world.now), 2);
    assert_eq!(world.turn(), [on(1, "to all"), on(2, "to all")]);
    assert_eq!(world.app.behind(world.now), 0);
    // What was due before the end is still made, however late.
    world.now += Duration::from_millis(100);
    world.app.stop(world.now);
    assert_eq!(world.turn(), [on(0, "to all")]);
    assert_eq!(
        (world.app.behind(world.now), world.app.next_due()),
        (0, None)
    );
    world.arrived = 12;
    world.turn();
    assert!(world.app.is_quiet());
}

#[test]
fn a_mixed_load_does_everything() {
    let mut world = World::new(Load::Mixed { per_second: 10_000 }, 20);
    let first = world.start();
    assert_eq!(
        first,
        [
            on(0, "to all"),
            on(0, "to u0"),
            on(0, "to group-0"),
            on(0, "c0 joins member-0"),
        ]
    );
    world.now += Duration::from_secs(1);
    let calls = world.turn();
    let count = |what: &str| calls.iter().filter(|(_, call)| call.contains(what)).count();
    // The last of a second may be due a rounding error later.
    for (what, expected) in [
        ("to all", 100),
        ("to u", 1500),
        ("to group", 150),
        (" joins ", 500),
    ] {
        assert!(
            count(what).abs_diff(expected) <= 1,
            "{what}: {}",
            count(what)
        );
    }
    world.app.stop(world.now);
    let memberships = 1 + count(" joins ") + count(" leaves ");
    world.ack(memberships);
    assert_eq!(world.app.completed(), Some(memberships as u64));
    world.arrived = 20 + 1 + 10;
    world.arrived += (20 * count("to all") + count("to u") + 10 * count("to group")) as u64;
    world.turn();
    assert!(world.app.is_quiet());
}

#[test]
fn after_its_death_it_begins_anew() {
    let load = Load::SendToConnection { pacing: DEPTH_2 };
    let mut world = World::new(load, 2);
    world.start();
    world.app.stop(world.now);
    world.app.begin(SERVER_CONNECTIONS as usize);
    assert!(!world.app.is_accepted());
    assert!(world.app.is_quiet());
    for connection in 0..SERVER_CONNECTIONS {
        world.hear(connection, HandshakeResponse::default());
    }
    world.open(7, "u7");
    assert_eq!(world.start(), [on(1, "to c7"), on(1, "to c7")]);
}

#[test]
fn echoes_are_under_way_until_they_arrive() {
    let mut world = World::new(Load::Echo { pacing: DEPTH_2 }, 1);
    let data = b"\x0a\x94\x06\xa2c0\xc4\x02a\x1e\x80";
    world.app.on_bytes(0, data).unwrap();
    assert!(!world.app.is_quiet());
    assert_eq!(
        world.app.outgoing(0).unwrap(),
        b"\x0c\x94\x06\xa2c0\xc4\x02a\x1e\x81\x05\x02"
    );
    world.app.outgoing(0).unwrap().clear();
    world.arrived = 1;
    assert_eq!(world.turn(), []);
    assert!(world.app.is_quiet());
}

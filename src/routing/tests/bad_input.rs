//! Whatever an app server sends: it harms nobody else, nothing of it is kept, and it is counted. Row by row of the table in
//! [`crate::routing`].

use std::time::Duration;

use proptest::prelude::*;
use rmpv::Value;

use super::messages::{
    ack, broadcast, completion, error_completion, invocation, join, join_with_ack, leave,
    leave_with_ack, mapping, ping, to_connections, to_group, to_group_except, to_groups, to_user,
    to_users,
};
use super::*;
use crate::counters::Counter;
use crate::frame::record::write_varint;
use crate::limits::{CLOSE_REASON_BYTES_MAX, NAME_BYTES_MAX};
use crate::protocol::service::{AckStatus, MessageType};
use crate::routing::fuzz_router;

/// Two shards: on each a server connection and an open client. The client on shard 0 has a user and is in a group.
struct Scene {
    world: World,
    servers: [ServerEnd; 2],
    clients: [ClientEnd; 2],
    /// Of another hub, on shard 0.
    foreign: ClientEnd,
}

impl Scene {
    fn new() -> Self {
        let mut world = World::new(2);
        let servers = [0, 1].map(|shard| world.server(shard, CHAT, &format!("app-{shard}")));
        let clients = [world.user(servers[0], "ann"), world.user(servers[1], "ann")];
        let other_hub = world.server(0, NEWS, "app-0");
        let foreign = world.client(other_hub);
        let id = world.id(clients[0]);
        world.send(servers[0], join(id, "g"));
        Self {
            world,
            servers,
            clients,
            foreign,
        }
    }

    fn id(&self, index: usize) -> &'static str {
        self.world.id(self.clients[index])
    }

    /// Sends a message on shard 0 and lets what follows from it happen.
    fn send_bytes(&mut self, message: &[u8]) {
        self.world.send_bytes(self.servers[0], message);
        self.world.settle();
    }

    fn send(&mut self, message: Received) {
        self.send_bytes(&encoded(message));
    }

    fn count(&self, counter: impl Fn(&Counters) -> &Counter) -> u64 {
        let counters = self.world.counters.iter();
        counters.map(|counters| counter(counters).value()).sum()
    }

    /// How much the routers hold, in all that an app server can add to.
    fn held(&self) -> Vec<usize> {
        let each = self.world.routers.iter().flat_map(|router| {
            [
                router.clients.len(),
                router.servers.len(),
                router.hubs.len(),
                router.group_count(),
                router.moved.len(),
                usize::from(router.invocations.is_empty()),
            ]
        });
        each.collect()
    }

    /// Nobody has heard of anything, and everybody is still served.
    fn assert_unharmed(&mut self) {
        for server in self.servers {
            assert_eq!(self.world.take(server), []);
        }
        for client in self.clients.into_iter().chain([self.foreign]) {
            assert_eq!(self.world.heard(client), [""; 0]);
        }
        self.send(broadcast("all is well"));
        for (index, client) in self.clients.into_iter().enumerate() {
            assert_eq!(self.world.heard(client), ["all is well"]);
            self.world.say(client, "up");
            assert_eq!(self.world.take(self.servers[index]).len(), 1);
        }
    }
}

#[test]
fn a_message_that_cannot_be_read_is_skipped() {
    let mut scene = Scene::new();
    let id = scene.id(0);
    let huge = [0xdd, 0xff, 0xff, 0xff, 0xff];
    let no_utf8 = Value::String(rmpv::Utf8String::from("x"));
    let malformed: Vec<(&str, Vec<u8>)> = vec![
        ("nothing", vec![]),
        ("no array", vec![0x07]),
        ("an empty array", vec![0x90]),
        ("a type that is no number", array([text("6")])),
        ("a short array", array([int(18), text(id), text("g")])),
        ("nil for a list", array([int(10), Value::Nil, map([])])),
        ("nil for a map", array([int(10), list([]), Value::Nil])),
        (
            "a number for a string",
            array([int(11), int(5), text("g"), map([])]),
        ),
        (
            "an ack id beyond 32 bits",
            array([int(18), text(id), text("g"), Value::from(1_u64 << 31)]),
        ),
        (
            "an ack id that is a string",
            array([int(18), text(id), text("g"), text("1"), map([])]),
        ),
        (
            "an extension value for a string",
            array([int(11), Value::Ext(5, vec![1]), no_utf8, map([])]),
        ),
        (
            "a string that is not UTF-8",
            [&[0x93, 0x0b, 0xa2, 0xff, 0xfe][..], &[0xa1, b'g']].concat(),
        ),
        ("bytes that end early", {
            let mut bytes = encoded(broadcast("x"));
            bytes.truncate(bytes.len() - 4);
            bytes
        }),
        ("2^32 connections", [&[0x93, 0x0a][..], &huge].concat()),
        ("2^32 elements", huge.to_vec()),
        ("2^32 strings", [&huge[..], &[0x03]].concat()),
        (
            "an operation that is unknown",
            array([int(39), text(id), int(1), int(9), map([])]),
        ),
    ];
    let held = scene.held();
    for (count, (what, bytes)) in (1..).zip(&malformed) {
        scene.send_bytes(bytes);
        let malformed = scene.count(|counters| &counters.service_messages_malformed);
        assert_eq!(malformed, count, "{what}");
    }
    scene.assert_unharmed();
    assert_eq!(scene.held(), held);
}

#[test]
fn an_unknown_type_and_one_of_the_other_direction_are_skipped() {
    let mut scene = Scene::new();
    let id = scene.id(0);
    let held = scene.held();
    let unknown = [0, -1, 44, 127, 1000, i32::MAX, i32::MIN].map(|number| array([int(number)]));
    let wrong_way = [
        array([int(1), int(1), int(0), text(""), int(0), map([])]),
        array([int(2), text("stop"), map([])]),
        array([int(4), text(id), map([]), map([]), text("?"), map([])]),
        array([int(15), text("stop")]),
        array([int(20), int(1), int(1), text(""), map([])]),
        array([int(22), int(1), text(id), int(2), text(""), map([])]),
        array([int(29), text("k"), text("v"), text(""), text(""), map([])]),
        array([int(37), text("i"), text(id), text("instance"), map([])]),
        array([int(38), text(id), map([])]),
        array([int(43), text(id), map([]), map([])]),
    ];
    for (count, bytes) in (1..).zip(unknown.iter().chain(&wrong_way)) {
        scene.send_bytes(bytes);
        let skipped = scene.count(|counters| &counters.service_messages_skipped);
        assert_eq!(skipped, count, "{bytes:02x?}");
    }
    scene.assert_unharmed();
    assert_eq!(scene.held(), held);
}

#[test]
fn only_a_handshake_request_may_come_first() {
    let first: [Vec<u8>; 6] = [
        encoded(ping(&[])),
        encoded(join("x", "g")),
        array([int(77)]),
        array([int(1)]),
        vec![],
        array([int(1), int(2), int(0), text("")]),
    ];
    for bytes in first {
        let mut scene = Scene::new();
        let server = scene.world.adopt_server(0, CHAT, "app-0");
        scene.world.send_bytes(server, &bytes);
        let answer = scene.world.take(server);
        let [Message::HandshakeResponse(response)] = answer.as_slice() else {
            panic!("{answer:?}");
        };
        assert_ne!(response.error_message, "", "{bytes:02x?}");
        let record = &scene.world.servers[server.0];
        assert_eq!(record.ended, Some(CloseCause::BadHandshake));
        // What it has sent behind that is not looked at.
        let key = record.key;
        let more = [Chunk::from(encoded(broadcast("x")))];
        let mut effects = Vec::new();
        scene.world.routers[0].on_server_message(key, &more, scene.world.now, &mut effects);
        assert!(effects.is_empty());
        scene.assert_unharmed();
    }
}

#[test]
fn an_id_that_is_not_of_this_hub_is_not_found() {
    let mut scene = Scene::new();
    let ids = [
        String::new(),
        "?".to_owned(),
        "A".repeat(22),
        "A".repeat(1 << 20),
        "\u{1f600}".repeat(6),
        scene.world.id(scene.foreign).to_owned(),
        ConnectionId::new(ShardId(0), 99).to_string(),
        ConnectionId::new(ShardId(1), 99).to_string(),
        ConnectionId::new(ShardId(2), 99).to_string(),
        ConnectionId::new(ShardId(u16::MAX), 99).to_string(),
    ];
    let held = scene.held();
    for id in &ids {
        let before = scene.count(|counters| &counters.unknown_targets);
        let silent = [
            Message::from(ConnectionData {
                connection_id: id.clone().into(),
                payload: &b"x"[..],
                ..ConnectionData::default()
            }),
            CloseConnection::of(id.clone()).into(),
            to_connections(&[id, id], "x"),
            join(id, "g"),
            leave(id, Some("g")),
            leave(id, None),
            completion("i", id, "app-0", "42"),
            error_completion("i", id, "app-0", "no"),
        ];
        for message in silent {
            scene.send(message);
        }
        assert_eq!(scene.world.take(scene.servers[0]), []);
        scene.send(join_with_ack(id, "g", 1));
        scene.send(leave_with_ack(id, None, 2));
        let not_found = [1, 2].map(|ack_id| ack(ack_id, AckStatus::NotFound));
        assert_eq!(scene.world.take(scene.servers[0]), not_found);
        scene.send(invocation("i", id, "app-0"));
        let error = format!("Connection {id} not found");
        let refusal = error_completion("i", id, "app-0", &error);
        assert_eq!(scene.world.take(scene.servers[0]), [refusal]);
        let unknown = scene.count(|counters| &counters.unknown_targets) - before;
        assert!(unknown >= 9, "{unknown} of {id:?}");
    }
    scene.assert_unharmed();
    assert_eq!(scene.held(), held);
}

/// The service keeps nothing under an ack id, so it does not matter which, nor whether another request has it.
#[test]
fn an_ack_id_may_be_any_number_and_in_use() {
    let mut scene = Scene::new();
    let (near, far) = (scene.id(0), scene.id(1));
    for ack_id in [0, -1, 7, 7, i32::MAX, i32::MIN] {
        for id in [near, far] {
            scene
                .world
                .send(scene.servers[0], join_with_ack(id, "g", ack_id));
        }
        scene.world.settle();
        let expected = [ack(ack_id, AckStatus::Ok), ack(ack_id, AckStatus::Ok)];
        assert_eq!(scene.world.take(scene.servers[0]), expected);
    }
    scene.assert_unharmed();
}

#[test]
fn what_is_named_again_is_reached_once() {
    let mut scene = Scene::new();
    let (near, far) = (scene.id(0), scene.id(1));
    scene.send(join(far, "g"));
    scene.send(join(near, "g"));
    let again = ["g"; 1000];
    scene.send(to_groups(&again, "groups"));
    scene.send(to_users(&["ann"; 1000], "users"));
    scene.send(to_connections(&[near, far].repeat(500), "connections"));
    scene.send(to_group_except("g", &[near; 1000], &[], "excluded"));
    for (client, excluded) in scene.clients.into_iter().zip([true, false]) {
        let heard = scene.world.heard(client);
        let expected = ["groups", "users", "connections", "excluded"];
        assert_eq!(heard, expected[..if excluded { 3 } else { 4 }]);
    }
    scene.send(to_group_except("g", &[], &["ann"; 1000], "nobody"));
    scene.assert_unharmed();
}

/// A short message that names one group again and again must not gather its members as often.
#[test]
fn names_without_end_cost_no_more_than_they_have_bytes() {
    const NAMES: usize = 100_000;
    let mut scene = Scene::new();
    for _ in 0..200 {
        let client = scene.world.user(scene.servers[0], "bob");
        let id = scene.world.id(client);
        scene.world.send(scene.servers[0], join(id, "crowd"));
    }
    scene.world.take(scene.servers[0]);
    let before = scene.count(|counters| &counters.fan_out_deliveries);
    let started = Instant::now();
    scene.send(to_groups(&vec!["crowd"; NAMES], "x"));
    scene.send(to_users(&vec!["bob"; NAMES], "x"));
    scene.send(to_group_except("crowd", &[], &vec!["bob"; NAMES], "x"));
    scene.send(to_group_except(
        "crowd",
        &["crowd"; 1000],
        &vec!["ann"; NAMES],
        "x",
    ));
    assert!(
        started.elapsed().as_secs() < 30,
        "as long as it takes to read them"
    );
    let delivered = scene.count(|counters| &counters.fan_out_deliveries) - before;
    assert_eq!(delivered, 600);
}

#[test]
fn of_payloads_that_are_given_twice_the_first_counts_and_without_any_nobody_is_reached() {
    let mut scene = Scene::new();
    let twice = vec![
        (text("JSON"), Value::Binary(b"first".to_vec())),
        (text("json"), Value::Binary(b"second".to_vec())),
    ];
    scene.send_bytes(&array([int(10), list([]), Value::Map(twice), map([])]));
    for client in scene.clients {
        assert_eq!(scene.world.heard(client), ["first"]);
    }
    let others = Value::Map(vec![(text("own"), Value::Binary(b"x".to_vec()))]);
    for payloads in [map([]), others] {
        let before = scene.count(|counters| &counters.missing_payloads);
        scene.send_bytes(&array([int(10), list([]), payloads.clone(), map([])]));
        let missing = scene.count(|counters| &counters.missing_payloads) - before;
        assert_eq!(missing, 2);
        let invocation = [int(34), text("i"), text(scene.id(1)), text("app-0")];
        scene.send_bytes(&array(invocation.into_iter().chain([payloads, map([])])));
        let answer = scene.world.take(scene.servers[0]);
        assert!(matches!(answer.as_slice(), [Message::ErrorCompletion(_)]));
    }
    scene.assert_unharmed();
}

#[test]
fn extensions_that_are_unknown_or_come_again_and_what_is_too_much_are_ignored() {
    let mut scene = Scene::new();
    let id = scene.id(0);
    let deep = (0..500).fold(int(1), |inner, _| list([inner]));
    let odd = vec![
        (int(99), map([])),
        (int(98), list([int(1), map([])])),
        (int(97), deep),
        (int(-5), Value::Ext(1, vec![0; 300])),
        (int(1), Value::from(1_u64)),
        (int(1), Value::from(u64::MAX)),
    ];
    let join = [int(18), text(id), text("h"), int(1), Value::Map(odd)];
    let mut message = array(join.into_iter().chain([int(5), list([text("more")])]));
    message.extend_from_slice(b"and bytes behind the array");
    scene.send_bytes(&message);
    assert_eq!(scene.world.take(scene.servers[0]), [ack(1, AckStatus::Ok)]);
    scene.send(to_group("h", "x"));
    assert_eq!(scene.world.heard(scene.clients[0]), ["x"]);
    scene.assert_unharmed();
}

#[test]
fn names_that_are_too_long_are_refused_and_counted() {
    let mut scene = Scene::new();
    let id = scene.id(1);
    let long = "x".repeat(NAME_BYTES_MAX + 1);
    let held = scene.held();
    scene.send(join(id, &long));
    scene.send(join_with_ack(id, &long, 1));
    let failed = ack(1, AckStatus::InternalServerError);
    assert_eq!(scene.world.take(scene.servers[0]), [failed]);
    for (invocation_id, caller) in [(&*long, "app-0"), ("i", &long)] {
        scene.send(invocation(invocation_id, id, caller));
        let error = "The invocation has too long an id.";
        let refusal = error_completion(invocation_id, id, caller, error);
        assert_eq!(scene.world.take(scene.servers[0]), [refusal]);
    }
    assert_eq!(scene.count(|counters| &counters.joins_refused), 2);
    assert_eq!(scene.count(|counters| &counters.invocations_refused), 2);
    // To send to what cannot exist is no fault.
    scene.send(to_group(&long, "x"));
    scene.send(to_user(&long, "x"));
    scene.send(leave(id, Some(&long)));
    scene.assert_unharmed();
    assert_eq!(scene.held(), held);
}

/// It is told to each client that is closed, so a long one would come to as much as all of them together.
#[test]
fn a_reason_that_is_too_long_is_cut() {
    let reason = "\u{e9}".repeat(CLOSE_REASON_BYTES_MAX);
    let mut scene = Scene::new();
    scene.send_bytes(&array([int(31), text(&reason), int(1), list([]), map([])]));
    assert_eq!(scene.world.take(scene.servers[0]).len(), 2);
    let shown = "\u{e9}".repeat(CLOSE_REASON_BYTES_MAX / 2);
    let close = format!("{{\"type\":7,\"error\":\"{shown}\",\"allowReconnect\":true}}\u{1e}");
    for client in scene.clients {
        assert_eq!(scene.world.heard(client), [close.as_str()]);
    }
    let foreign = scene.world.heard(scene.foreign);
    assert_eq!(foreign, [""; 0], "of another hub");
}

#[test]
fn pings_of_any_content_and_number_change_nothing() {
    let mut scene = Scene::new();
    let pings: [&[&'static str]; 9] = [
        &[],
        &["status"],
        &["shutdown", "fin:3"],
        &["shutdown"],
        &["", ""],
        &["echo", "1"],
        &["target", "instance"],
        &["offline", ""],
        &["#client", "-1", "#clientInHub", "many"],
    ];
    let held = scene.held();
    for _ in 0..1000 {
        for strings in pings {
            scene.world.send(scene.servers[0], ping(strings));
        }
    }
    assert_eq!(scene.world.take(scene.servers[0]), []);
    for _ in 0..1000 {
        scene.world.send(scene.servers[0], ping(&["status", "1"]));
    }
    let answers = scene.world.take(scene.servers[0]).len();
    assert_eq!(answers, 1, "the others are not due");
    assert_eq!(scene.count(|counters| &counters.queries_skipped), 999);
    scene.assert_unharmed();
    assert_eq!(scene.held(), held);
}

#[test]
fn an_answer_that_nobody_waits_for_and_one_given_twice_are_dropped() {
    let mut scene = Scene::new();
    let id = scene.id(1);
    scene.send(invocation("i", id, "app-0"));
    assert_eq!(scene.world.take(scene.servers[0]), [mapping("i", id)]);
    let heard = scene.world.heard(scene.clients[1]);
    assert_eq!(heard, ["invoke i"]);
    assert_eq!(
        scene.world.take(scene.servers[1]).len(),
        1,
        "its app server is told"
    );
    let answer = completion("i", id, "app-1", "42");
    for expected in [vec![answer.clone()], vec![], vec![]] {
        scene.world.send(scene.servers[1], answer.clone());
        scene.world.settle();
        assert_eq!(scene.world.take(scene.servers[0]), expected);
    }
    scene.send(error_completion("j", id, "app-0", "no"));
    scene.assert_unharmed();
}

// --- Damage of any kind ---

/// A message of each type, with connections, users, groups and server connections that exist.
fn valid_messages(scene: &Scene) -> Vec<Vec<u8>> {
    let (near, far) = (scene.id(0), scene.id(1));
    let foreign = scene.world.id(scene.foreign);
    let mut messages: Vec<Vec<u8>> = [
        broadcast("x"),
        to_connections(&[near, far, foreign], "x"),
        to_user("ann", "x"),
        to_users(&["ann", "bob"], "x"),
        to_group_except("g", &[near], &["bob"], "x"),
        to_groups(&["g", "h"], "x"),
        join(far, "h"),
        leave(near, None),
        join_with_ack(far, "g", 3),
        leave_with_ack(near, Some("g"), 4),
        invocation("i", far, "app-0"),
        completion("i", far, "app-1", "42"),
        error_completion("i", far, "app-1", "no"),
        ping(&["status", "1"]),
        ping(&["shutdown", "fin:2"]),
        CloseConnection::of(far).into(),
    ]
    .into_iter()
    .map(encoded)
    .collect();
    let relay = [int(6), text(near), Value::Binary(b"hi".to_vec()), map([])];
    messages.push(array(relay));
    // Of the others there is one shape: names, numbers and an empty list in places that suit some of them.
    for message_type in MessageType::ALL {
        let number = int(message_type.number());
        let names = [number.clone(), text(far), text("g"), int(5), map([])];
        messages.push(array(names));
        let with_list = [number, text("g"), Value::Nil, int(6), list([]), map([])];
        messages.push(array(with_list));
    }
    messages
}

proptest! {
    /// The world looks for broken invariants after each message.
    #[test]
    fn no_damage_to_messages_does_harm(
        damages in prop::collection::vec(
            (any::<prop::sample::Index>(), prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..4), any::<bool>()),
            1..40,
        ),
    ) {
        let mut scene = Scene::new();
        let messages = valid_messages(&scene);
        for (which, damage, is_far) in damages {
            let mut message = which.get(&messages).clone();
            for (at, byte) in damage {
                // Of a byte that is 0 the message is cut there instead.
                let at = at.index(message.len().max(1));
                if byte == 0 {
                    message.truncate(at);
                } else if let Some(damaged) = message.get_mut(at) {
                    *damaged = byte;
                }
            }
            let server = scene.servers[usize::from(is_far)];
            if scene.world.is_up(server) && !message.is_empty() {
                scene.world.send_bytes(server, &message);
            }
            scene.world.settle();
        }
        for client in scene.clients.into_iter().chain([scene.foreign]) {
            if scene.world.is_connected(client) {
                scene.world.leave(client);
            }
        }
        for end in (0..scene.world.servers.len()).map(ServerEnd) {
            if scene.world.is_up(end) {
                scene.world.lose_server(end);
            }
        }
        scene.world.settle();
        // Memberships of users stand for a year at most, unless a longer time was asked for.
        scene.world.pass(Duration::from_secs(i32::MAX as u64));
        scene.world.assert_empty();
    }
}

/// Besides, a message of each kind gets through the fuzzer's own world.
#[test]
fn the_fuzz_body_holds() {
    let scene = Scene::new();
    let [near, far] = [0, 1].map(|shard| ConnectionId::new(ShardId(shard), 0x5eed).to_string());
    let renamed = |message: &[u8]| {
        let mut message = message.to_vec();
        for (known, there) in [(scene.id(0), &near), (scene.id(1), &far)] {
            let windows = message.windows(known.len());
            let places: Vec<usize> = windows
                .enumerate()
                .filter_map(|(at, window)| (window == known.as_bytes()).then_some(at))
                .collect();
            for at in places {
                message[at..at + there.len()].copy_from_slice(there.as_bytes());
            }
        }
        message
    };
    let mut all = Vec::new();
    for (index, message) in (0_u8..).zip(valid_messages(&scene)) {
        let message = renamed(&message);
        let mut one = vec![index];
        write_varint(message.len() as u32, &mut one);
        one.extend_from_slice(&message);
        fuzz_router(&one);
        all.extend_from_slice(&one);
    }
    fuzz_router(&all);
    for end in (0..all.len()).step_by(31) {
        fuzz_router(&all[..end]);
    }
}

// --- MessagePack by hand ---

fn array(elements: impl IntoIterator<Item = Value>) -> Vec<u8> {
    let mut bytes = Vec::new();
    rmpv::encode::write_value(&mut bytes, &list(elements)).unwrap();
    bytes
}

fn list(elements: impl IntoIterator<Item = Value>) -> Value {
    Value::Array(elements.into_iter().collect())
}

fn map(pairs: [(Value, Value); 0]) -> Value {
    Value::Map(pairs.into())
}

fn int(number: i32) -> Value {
    Value::from(number)
}

fn text(text: &str) -> Value {
    Value::from(text)
}

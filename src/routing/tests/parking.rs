//! A server connection is lost and its clients notice nothing, as long as another one takes them in time.

use std::time::Duration;

use super::messages::broadcast;
use super::migration::data_in;
use super::*;
use crate::limits::{FOLLOWED_HELD_BYTES_MAX, PARKING_DEFAULT, PARKING_PAUSE};
use crate::protocol::service::ping::ShutdownMode;
use crate::protocol::service::{ClientInvocation, ErrorCompletion, MIGRATE_FROM, MigrationLevel};

const TIME: Duration = Duration::from_secs(8);

const CALL: &str = "{\"type\":1,\"invocationId\":\"7\",\"target\":\"Slow\",\"arguments\":[]}\u{1e}";
const SEND: &str = "{\"type\":1,\"target\":\"Note\",\"arguments\":[1]}\u{1e}";
const PING: &str = "{\"type\":6}\u{1e}";
const ABANDONED: &str = "{\"type\":3,\"invocationId\":\"7\",\"error\":\"The app server left before it answered.\"}\u{1e}";

fn parking_world() -> World {
    let mut world = World::new(1);
    world.routers[0].park_on_drop(Some(TIME));
    world
}

fn movable(world: &mut World, server_id: &str) -> ServerEnd {
    world.migrating_server(0, server_id, MigrationLevel::ShutdownOnly)
}

/// The app server that the last opening of a client names as its former one.
fn migrated_from(received: &[Received]) -> Option<String> {
    received.iter().find_map(|message| {
        let Message::OpenConnection(open) = message else {
            return None;
        };
        let (_, values) = open.headers.iter().find(|(name, _)| name == MIGRATE_FROM)?;
        values.first().map(ToString::to_string)
    })
}

#[test]
fn a_parked_client_goes_on_where_it_was() {
    let mut world = parking_world();
    let lost = movable(&mut world, "lost");
    let client = world.client(lost);
    world.say(client, CALL);
    let (half, other_half) = SEND.split_at(12);
    world.say(client, half);
    world.lose_server(lost);
    assert_eq!(world.heard(client), [ABANDONED, PING]);
    world.say(client, other_half);
    world.say(client, CALL);
    let other = world.server(0, NEWS, "other");
    world.pass(TIME / 2);
    assert_eq!(world.said_to(other), "");
    let new = movable(&mut world, "new");
    let received = world.take(new);
    assert_eq!(received, [], "the handshake response has been taken");
    assert_eq!(world.heard(client), [PING]);
    world.send_data(client, ABANDONED, DataMessageType::Invocation);
    assert_eq!(
        world.heard(client),
        [ABANDONED],
        "the new app server answers"
    );
    world.pass(TIME);
    assert!(
        world.is_connected(client),
        "its time does not count any more"
    );
    assert_eq!(world.counters[0].clients_parked.value(), 1);
    assert_eq!(world.counters[0].clients_reopened.value(), 1);
    world.leave(client);
    world.lose_server(new);
    world.lose_server(other);
    world.assert_empty();
}

#[test]
fn what_was_begun_is_said_again_and_what_was_held_follows() {
    let mut world = parking_world();
    let (lost, new) = (
        movable(&mut world, "lost"),
        world.adopt_server(0, CHAT, "new"),
    );
    let client = world.client_as(lost, &Profile::default());
    let (half, other_half) = SEND.split_at(12);
    world.say(client, half);
    world.lose_server(lost);
    world.say(client, other_half);
    world.say(client, &CALL[..9]);
    world.send(
        new,
        HandshakeRequest {
            version: 1,
            ..HandshakeRequest::default()
        },
    );
    let received = world.take(new);
    assert_eq!(migrated_from(&received).as_deref(), Some("lost"));
    assert_eq!(
        data_in(&received),
        [&*world.hello_of(client), SEND, &CALL[..9]].concat()
    );
    world.say(client, &CALL[9..]);
    assert_eq!(world.said_to(new), &CALL[9..]);
}

#[test]
fn the_same_app_server_comes_first() {
    let mut world = parking_world();
    let lost = movable(&mut world, "app");
    let same = movable(&mut world, "app");
    let _other = movable(&mut world, "other");
    let crowd: Vec<ClientEnd> = (0..3).map(|_| world.client(same)).collect();
    let client = world.client(lost);
    world.lose_server(lost);
    world.pass(PARKING_PAUSE);
    assert_eq!(
        world.server_of(client),
        same,
        "whatever it has to carry: {crowd:?}"
    );
}

#[test]
fn a_process_that_dies_takes_no_client_to_its_next_connection() {
    let mut world = parking_world();
    let dying = [movable(&mut world, "app"), movable(&mut world, "app")];
    let other = movable(&mut world, "other");
    let client = world.client(dying[0]);
    world.lose_server(dying[0]);
    world.say(client, SEND);
    world.lose_server(dying[1]);
    world.pass(PARKING_PAUSE);
    assert_eq!(
        world.said_to(other),
        [world.hello_of(client).as_str(), SEND].concat()
    );
    assert_eq!(world.counters[0].clients_parked.value(), 1);
}

#[test]
fn who_may_not_move_waits_for_its_own_app_server() {
    let mut world = parking_world();
    let fixed = world.server(0, CHAT, "fixed");
    let movable = movable(&mut world, "movable");
    let client = world.client(fixed);
    let tied = world.client_as(
        movable,
        &Profile {
            required_server_id: Some("movable"),
            ..Profile::default()
        },
    );
    let _other = world.server(0, CHAT, "other");
    world.lose_server(fixed);
    world.lose_server(movable);
    world.pass(Duration::from_secs(1));
    for client in [client, tied] {
        assert!(
            world.routers[0]
                .clients
                .get(world.clients[client.0].key)
                .unwrap()
                .server
                .is_none()
        );
    }
    let again = world.migrating_server(0, "fixed", MigrationLevel::Off);
    assert_eq!(world.server_of(client), again);
    world.pass(TIME);
    assert_eq!(
        world.clients[tied.0].ended,
        Some(CloseCause::ServerConnectionLost)
    );
}

#[test]
fn the_wait_is_bounded_in_time_and_bytes() {
    let mut world = parking_world();
    let lost = movable(&mut world, "lost");
    let client = world.client(lost);
    world.lose_server(lost);
    world.heard(client);
    let mut said = 0;
    while !world.clients[client.0].is_paused {
        assert!(said < 2 * FOLLOWED_HELD_BYTES_MAX, "it stops");
        world.say(client, SEND);
        said += SEND.len();
    }
    world.pass(TIME / 2);
    assert!(world.is_connected(client));
    world.pass(TIME / 2);
    assert_eq!(
        world.heard(client),
        ["{\"type\":7,\"allowReconnect\":true}\u{1e}"]
    );
    assert_eq!(
        world.clients[client.0].ended,
        Some(CloseCause::ServerConnectionLost)
    );
    world.assert_empty();
}

#[test]
fn others_reach_a_parked_client_and_nobody_asks_it() {
    let mut world = parking_world();
    let lost = world.server(0, CHAT, "lost");
    let client = world.client(lost);
    let id = world.id(client);
    let other = world.server(0, CHAT, "other");
    world.lose_server(lost);
    world.heard(client);
    world.send(other, broadcast("all"));
    assert_eq!(world.heard(client), ["all"]);
    let ask = ClientInvocation {
        invocation_id: "ask".into(),
        connection_id: id.into(),
        caller_server_id: "other".into(),
        payloads: payloads("question"),
        tracing_id: None,
    };
    world.send(other, ask);
    let refusal = ErrorCompletion {
        invocation_id: "ask".into(),
        connection_id: id.into(),
        caller_server_id: "other".into(),
        error: format!("Connection '{id}' has no app server at present.").into(),
        tracing_id: None,
    };
    assert_eq!(world.take(other), [refusal.into()]);
    assert_eq!(world.heard(client), [""; 0]);
    world.send(other, CloseConnection::of(id));
    assert_eq!(world.clients[client.0].ended, Some(CloseCause::AppServer));
}

#[test]
fn whose_end_is_decided_is_not_parked() {
    let mut world = parking_world();
    let lost = movable(&mut world, "lost");
    let opening = world.opening_client(lost, &Profile::default());
    let departing = world.client(lost);
    world.say_goodbye(departing);
    let hearing = world.client(lost);
    world.send_data(hearing, "{\"type\":", DataMessageType::Invocation);
    let leaving = world.client(lost);
    world.say(leaving, "{\"type\":7}\u{1e}");
    world.lose_server(lost);
    for client in [opening, departing, hearing, leaving] {
        assert!(!world.is_connected(client));
    }
    for mode in [ShutdownMode::Off, ShutdownMode::WaitForClientsClose] {
        let lost = movable(&mut world, "lost");
        let client = world.client(lost);
        world.fin(lost, mode);
        world.lose_server(lost);
        assert!(!world.is_connected(client));
    }
    let lost = movable(&mut world, "lost");
    let client = world.client(lost);
    world.fin(lost, ShutdownMode::MigrateClients);
    world.lose_server(lost);
    assert!(world.is_connected(client), "it was to move anyway");
    world.drain();
    assert_eq!(world.clients[client.0].ended, Some(CloseCause::Drain));
    world.assert_empty();
}

#[test]
fn an_app_server_can_allow_it_without_the_operator() {
    let mut world = World::new(1);
    let lost = world.migrating_server(0, "lost", MigrationLevel::Any);
    let clients = [world.client(lost), world.client(lost)];
    world.lose_server(lost);
    world.pass(PARKING_DEFAULT / 2);
    world.leave(clients[1]);
    assert!(world.is_connected(clients[0]));
    world.pass(PARKING_DEFAULT / 2);
    assert!(!world.is_connected(clients[0]));
    world.assert_empty();
}

#[test]
fn a_client_can_be_parked_again_and_again() {
    let mut world = parking_world();
    let mut server = movable(&mut world, "app");
    let client = world.client(server);
    for _ in 0..5 {
        world.lose_server(server);
        world.pass(TIME / 2);
        server = movable(&mut world, "app");
        assert_eq!(world.server_of(client), server);
    }
    world.lose_server(server);
    world.pass(TIME);
    assert!(!world.is_connected(client));
}

#[test]
fn an_app_server_that_is_lost_again_and_again_leaves_no_trace_of_each_time() {
    let mut world = parking_world();
    let mut server = movable(&mut world, "app");
    let client = world.client(server);
    for _ in 0..100 {
        world.now += Duration::from_millis(1);
        world.lose_server(server);
        server = movable(&mut world, "app");
    }
    assert!(world.is_connected(client));
    assert_eq!(world.counters[0].clients_reopened.value(), 100);
    assert!(world.routers[0].migration.parked.listed() <= 3);
}

//! A client's app server goes and its socket is lost, both in the same moments: it is kept whole, or ended once and wholly.

use std::time::Duration;

use super::migration::data_in;
use super::stateful::{call, sequence, stateful};
use super::*;
use crate::limits::{
    MIGRATION_DEADLINE, MIGRATION_PATIENCE, STATEFUL_AWAY_CLIENTS_MAX, STATEFUL_KEPT_BYTES_MAX,
    TICK,
};
use crate::protocol::service::MigrationLevel;
use crate::protocol::service::ping::ShutdownMode;

const PARKING: Duration = Duration::from_secs(8);

const HELLO: &str = "{\"protocol\":\"json\",\"version\":2}\u{1e}";
const CALL: &str = "{\"type\":1,\"invocationId\":\"7\",\"target\":\"Slow\",\"arguments\":[]}\u{1e}";
const SEND: &str = "{\"type\":1,\"target\":\"Note\",\"arguments\":[1]}\u{1e}";
const ABANDONED: &str = "{\"type\":3,\"invocationId\":\"7\",\"error\":\"The app server left before it answered.\"}\u{1e}";

#[test]
fn a_client_that_is_away_moves_and_comes_back_to_its_next_app_server() {
    let (mut world, old, client) = stage();
    let new = movable(&mut world, "new");
    world.say(client, SEND);
    world.lose(client);
    world.fin(old, ShutdownMode::MigrateClients);
    assert_eq!(world.server_of(client), new);
    world.take(new);
    world.send_data(client, &call("greeting"), DataMessageType::Invocation);
    world.lose_server(old);
    world.resume(client).unwrap();
    assert_eq!(world.heard(client), [sequence(1), call("greeting")]);
    let again = [&sequence(1), SEND, &call("next")].concat();
    assert_eq!(world.said(client, &again), [call("next")]);
    world.leave(client);
    world.lose_server(new);
    world.assert_empty();
}

#[test]
fn a_call_that_fails_while_its_client_is_away_fails_once() {
    for parks in [false, true] {
        let (mut world, old, client) = stage();
        world.say(client, CALL);
        world.lose(client);
        let new = if parks {
            world.lose_server(old);
            world.pass_in_order(TICK);
            movable(&mut world, "new")
        } else {
            let new = movable(&mut world, "new");
            world.fin(old, ShutdownMode::MigrateClients);
            assert_eq!(world.server_of(client), old, "its call is waited for");
            world.pass_in_order(MIGRATION_DEADLINE);
            new
        };
        assert_eq!(world.server_of(client), new);
        world.resume(client).unwrap();
        assert_eq!(world.heard(client), [sequence(1), ABANDONED.to_owned()]);
        let again = [&sequence(1), CALL, &call("next")].concat();
        assert_eq!(
            world.said(client, &again),
            [call("next")],
            "nor is it made again"
        );
    }
}

#[test]
fn a_client_may_come_back_while_it_has_no_app_server() {
    let (mut world, lost, client) = stage();
    world.lose(client);
    world.lose_server(lost);
    world.resume(client).unwrap();
    assert_eq!(world.heard(client), [sequence(1)]);
    world.say(client, &[&sequence(1), SEND].concat());
    let new = world.adopt_server(0, CHAT, "new");
    world.lose(client);
    world.send(new, movable_hello());
    assert_eq!(data_in(&world.take(new)), [HELLO, SEND].concat());
    world.resume(client).unwrap();
    let again = [&sequence(1), SEND, &call("next")].concat();
    assert_eq!(world.said(client, &again), [call("next")]);
}

#[test]
fn a_client_without_anything_ends_once_and_leaves_nothing() {
    type End<'a> = &'a dyn Fn(&mut World);
    let drain = |world: &mut World| world.drain();
    let wait = |world: &mut World| world.pass_in_order(PARKING);
    let expire = |world: &mut World| world.pass_in_order(PARKING / 2);
    let close = |world: &mut World| {
        let other = movable_of(world, "other", MigrationLevel::Off);
        let id = world.id(ClientEnd(0));
        world.send(other, CloseConnection::of(id));
        world.lose_server(other);
    };
    let ways: [(End<'_>, _, _); 4] = [
        (&drain, None, CloseCause::Drain),
        (&wait, None, CloseCause::ServerConnectionLost),
        (
            &expire,
            Some(PARKING / 2),
            CloseCause::AuthenticationExpired,
        ),
        (&close, None, CloseCause::AppServer),
    ];
    for (end, expiry, cause) in ways {
        let mut world = parking_world();
        world.expiry = expiry.map(|time| Expiry {
            at: world.now + time,
            allow_reconnect: true,
        });
        let lost = world.migrating_server(0, "lost", MigrationLevel::Off);
        let client = stateful(&mut world, lost, &Profile::default());
        world.say(client, CALL);
        world.lose(client);
        world.lose_server(lost);
        world.pass_in_order(TICK);
        end(&mut world);
        assert_eq!(world.clients[client.0].ended, Some(cause));
        world.assert_empty();
    }
}

#[test]
fn who_cannot_be_told_that_its_calls_have_failed_is_neither_parked_nor_moved() {
    for parks in [false, true] {
        let (mut world, old, client) = stage();
        world.say(client, CALL);
        world.lose(client);
        let much = call(&"x".repeat(STATEFUL_KEPT_BYTES_MAX));
        world.send_data(client, &much, DataMessageType::Invocation);
        if parks {
            world.lose_server(old);
        } else {
            movable(&mut world, "new");
            world.fin(old, ShutdownMode::MigrateClients);
            world.pass_in_order(MIGRATION_DEADLINE);
        }
        let ended = world.clients[client.0].ended;
        assert_eq!(ended, Some(CloseCause::SlowConsumer));
        assert_eq!(world.counters[0].clients_parked.value(), 0);
    }
}

#[test]
fn what_is_held_for_another_app_server_is_not_lost_with_its_client() {
    type End<'a> = &'a dyn Fn(&mut World, ClientEnd);
    let leave = |world: &mut World, client| world.leave(client);
    let drain = |world: &mut World, _: ClientEnd| world.drain();
    let ways: [End<'_>; 2] = [&leave, &drain];
    for end in ways {
        let mut world = World::new(1);
        let (old, _new) = (movable(&mut world, "old"), movable(&mut world, "new"));
        let client = world.client(old);
        world.say(client, CALL);
        world.fin(old, ShutdownMode::MigrateClients);
        world.pass(MIGRATION_PATIENCE);
        world.take(old);
        world.say(client, &[SEND, &SEND[..9]].concat());
        assert_eq!(world.said_to(old), "");
        end(&mut world, client);
        let told = world.take(old);
        assert_eq!(data_in(&told), [SEND, &SEND[..9]].concat());
        let end = CloseConnection::of(world.id(client)).into();
        assert_eq!(told.last(), Some(&end), "then it is told of the end");
    }
}

#[test]
fn what_comes_late_does_not_come_between_the_parts_of_a_message() {
    let mut world = World::new(1);
    let (old, new) = (movable(&mut world, "old"), movable(&mut world, "new"));
    let client = world.client(old);
    world.fin(old, ShutdownMode::MigrateClients);
    let (half, other_half) = SEND.split_at(12);
    world.send_from(new, client, half, DataMessageType::Invocation);
    world.send_from(old, client, SEND, DataMessageType::Invocation);
    world.send_from(new, client, other_half, DataMessageType::Invocation);
    world.send_from(old, client, SEND, DataMessageType::Invocation);
    assert_eq!(world.heard(client), [half, other_half, SEND]);
    assert_eq!(world.counters[0].late_messages.value(), 1);
}

#[test]
fn an_app_server_whose_clients_never_move_cannot_move_them() {
    let mut world = parking_world();
    let old = movable_of(&mut world, "old", MigrationLevel::Off);
    let _new = movable(&mut world, "new");
    let client = world.client(old);
    world.fin(old, ShutdownMode::MigrateClients);
    world.pass(MIGRATION_DEADLINE);
    assert_eq!(world.server_of(client), old);
}

#[test]
fn a_client_that_cannot_move_is_looked_at_once_however_many_app_servers_come() {
    const CLIENTS: usize = 200;
    let mut world = World::new(1);
    let old = movable(&mut world, "old");
    let tied = Profile {
        required_server_id: Some("old"),
        ..Profile::default()
    };
    for _ in 0..CLIENTS {
        world.client_as(old, &tied);
    }
    world.fin(old, ShutdownMode::MigrateClients);
    for number in 0..10 {
        movable(&mut world, &format!("new-{number}"));
    }
    assert!(world.turn() <= CLIENTS.div_ceil(crate::limits::MIGRATIONS_PER_TURN));
}

#[test]
fn so_many_clients_may_be_away_and_no_more() {
    let mut world = World::new(1);
    let server = world.server(0, CHAT, "app");
    let (router, now) = (&mut world.routers[0], world.now);
    let mut effects = Vec::new();
    for number in 0..=STATEFUL_AWAY_CLIENTS_MAX {
        let id = ConnectionId::new(ShardId(0), number as u128);
        let socket = SocketKey {
            slot: number as u32,
            generation: 0,
        };
        let new = NewClient {
            id,
            hub: CHAT,
            user: None,
            server: Some(world.servers[server.0].key),
            required_server_id: None,
            open_body: encode_open_connection_body(&[], &[], "?hub=chat"),
            handshake_timeout: HUB_HANDSHAKE_TIMEOUT,
            transport: Transport::WebSockets,
            is_stateful: true,
            expiry: None,
        };
        let client = router.on_client_adopted(socket, new, now, &mut effects);
        router.on_client_data(
            client,
            Chunk::from(HELLO.as_bytes().to_vec()),
            now,
            &mut effects,
        );
        let response = encoded(ConnectionData {
            connection_id: id.to_string().into(),
            payload: ACCEPTED.as_bytes(),
            data_type: DataMessageType::Handshake,
            ..ConnectionData::default()
        });
        let (server, response) = (world.servers[server.0].key, [Chunk::from(response)]);
        router.on_server_message(server, &response, now, &mut effects);
        let may_come_back = router.on_client_lost(client, now, &mut effects);
        assert_eq!(may_come_back, number < STATEFUL_AWAY_CLIENTS_MAX);
        effects.clear();
    }
    assert_eq!(world.counters[0].clients_not_awaited.value(), 1);
}

/// A client that may come back, and whose app server may be lost.
fn stage() -> (World, ServerEnd, ClientEnd) {
    let mut world = parking_world();
    let server = movable(&mut world, "old");
    let client = stateful(&mut world, server, &Profile::default());
    (world, server, client)
}

fn parking_world() -> World {
    let mut world = World::new(1);
    world.routers[0].park_on_drop(Some(PARKING));
    world
}

fn movable(world: &mut World, server_id: &str) -> ServerEnd {
    movable_of(world, server_id, MigrationLevel::ShutdownOnly)
}

fn movable_of(world: &mut World, server_id: &str, migration_level: MigrationLevel) -> ServerEnd {
    world.migrating_server(0, server_id, migration_level)
}

fn movable_hello() -> HandshakeRequest<'static> {
    HandshakeRequest {
        version: 1,
        migration_level: MigrationLevel::ShutdownOnly,
        ..HandshakeRequest::default()
    }
}

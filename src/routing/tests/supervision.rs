//! Server connections are kept alive and measured; none is closed for a cause without a word, and none is answered without end.

use std::time::Duration;

use super::messages::{broadcast, ping};
use super::*;
use crate::limits::{
    ECHO_INTERVAL, QUERY_INTERVAL, SERVER_SILENCE_MAX, SERVICE_HANDSHAKE_TIMEOUT, TICK,
};
use crate::protocol::service::{HandshakeResponse, ServiceError};
use crate::routing::{Origin, ServerRef};

fn service_error(text: &str) -> Received {
    let error = ServiceError {
        error_message: text.to_owned().into(),
    };
    error.into()
}

fn echoes(received: &[Received]) -> Vec<&Received> {
    let is_echo = |message: &&Received| matches!(message, Message::Ping(ping) if ping.value("echo").is_some());
    received.iter().filter(is_echo).collect()
}

#[test]
fn a_silent_server_connection_is_told_why_it_is_closed_and_its_clients_are_closed_at_once() {
    let mut world = World::new(1);
    let server = world.server(0, CHAT, "app");
    let client = world.client(server);
    world.pass(SERVER_SILENCE_MAX);
    let last = world.take(server).pop();
    let text = "Nothing came on the server connection for too long.";
    assert_eq!(last, Some(service_error(text)));
    assert_eq!(world.servers[server.0].ended, Some(CloseCause::Silent));
    assert_eq!(
        world.clients[client.0].ended,
        Some(CloseCause::ServerConnectionLost)
    );
    assert_eq!(world.counters[0].silent_servers.value(), 1);
}

#[test]
fn whatever_the_cause_its_words_fit_the_phase() {
    type Close = fn(&mut Router, ServerKey, Instant, &mut Vec<Effect>);
    let cases: [(Close, CloseCause, &str); 3] = [
        (
            |router, server, now, effects| router.on_server_fault(server, "bad", now, effects),
            CloseCause::ProtocolError,
            "bad",
        ),
        (
            |router, server, now, effects| {
                router.on_server_message_too_long(server, "long", now, effects);
            },
            CloseCause::MessageTooLong,
            "long",
        ),
        (
            Router::on_server_too_far_behind,
            CloseCause::TooFarBehind,
            "The app server does not take what its clients send.",
        ),
    ];
    for (close, cause, text) in cases {
        let mut world = World::new(1);
        let ready = world.server(0, CHAT, "app");
        let unready = world.adopt_server(0, CHAT, "app");
        let refusal = HandshakeResponse {
            error_message: text.into(),
            connection_id: Some("connection-1".into()),
        };
        for (server, words) in [(ready, service_error(text)), (unready, refusal.into())] {
            let mut effects = Vec::new();
            close(
                &mut world.routers[0],
                world.servers[server.0].key,
                world.now,
                &mut effects,
            );
            world.apply(0, effects, &[]);
            assert_eq!(world.take(server), [words]);
            assert_eq!(world.servers[server.0].ended, Some(cause));
        }
        world.assert_empty();
    }
}

#[test]
fn a_late_service_handshake_is_refused_so_that_the_sdk_backs_off() {
    let mut world = World::new(1);
    let server = world.adopt_server(0, CHAT, "app");
    world.pass(SERVICE_HANDSHAKE_TIMEOUT);
    let refusal = HandshakeResponse {
        error_message: "The handshake request did not come in time.".into(),
        connection_id: Some("connection-0".into()),
    };
    assert_eq!(world.take(server), [refusal.into()]);
    assert_eq!(
        world.servers[server.0].ended,
        Some(CloseCause::HandshakeTimeout)
    );
}

#[test]
fn what_is_asked_too_often_is_answered_once_in_a_while() {
    let mut world = World::new(1);
    let server = world.server(0, CHAT, "app");
    for query in [["status", "1"], ["servers", ""]] {
        for _ in 0..1000 {
            world.send(server, ping(&query));
        }
        assert_eq!(world.take(server).len(), 1);
        world.now += QUERY_INTERVAL;
        world.send(server, ping(&query));
        world.send(server, ping(&query));
        assert_eq!(world.take(server).len(), 1);
    }
    assert_eq!(world.counters[0].queries_skipped.value(), 2 * 1000);
    let other = world.server(0, CHAT, "app");
    world.send(other, ping(&["status", "1"]));
    assert_eq!(world.take(other).len(), 1, "each connection by itself");
}

#[test]
fn an_echo_measures_the_round_trip() {
    let mut world = World::new(1);
    let server = world.server(0, CHAT, "app");
    world.pass(ECHO_INTERVAL);
    let received = world.take(server);
    let [Message::Ping(echo)] = echoes(&received)[..] else {
        panic!("one echo, not {received:?}");
    };
    let round_trip = |world: &World| world.routers[0].server_views().next().unwrap().round_trip;
    for foreign in [
        ["echo", "x"],
        ["echo", "0"],
        ["echo", "18446744073709551616"],
    ] {
        world.send(server, ping(&foreign));
    }
    assert_eq!(world.take(server), [], "an echo is not answered");
    assert_eq!(round_trip(&world), None);
    world.now += Duration::from_millis(3);
    world.send(server, echo.clone());
    assert_eq!(round_trip(&world), Some(Duration::from_millis(3)));
    world.pass(TICK);
    assert_eq!(world.counters[0].server_round_trip_us_max.value(), 3000);
    world.pass(ECHO_INTERVAL);
    assert_eq!(echoes(&world.take(server)).len(), 1);
    world.pass(ECHO_INTERVAL);
    assert!(
        echoes(&world.take(server)).is_empty(),
        "one is under way still"
    );
}

#[test]
fn the_request_for_another_server_connection_finds_its_app_server_wherever_it_is() {
    let mut world = World::new(3);
    let near = world.server(0, CHAT, "near");
    let far = world.server(1, CHAT, "far");
    let second = world.server(2, CHAT, "far");
    let origin = |world: &World, server: ServerEnd| Origin {
        server: ServerRef {
            shard: ShardId(world.servers[server.0].shard as u16),
            server: world.servers[server.0].key,
        },
        server_id: Arc::clone(&world.servers[server.0].server_id),
    };
    let asked = |world: &mut World, through: &Origin, server: ServerEnd| {
        let mut effects = Vec::new();
        world.routers[0].ask_for_server(CHAT, through, ShardId(2), &mut effects);
        world.apply(0, effects, &[]);
        world.settle();
        assert_eq!(world.take(server), [ping(&["target", "instance.2"])]);
    };
    let (near_origin, far_origin) = (origin(&world, near), origin(&world, far));
    asked(&mut world, &near_origin, near);
    asked(&mut world, &far_origin, far);
    world.lose_server(far);
    asked(&mut world, &far_origin, second);
    assert_eq!(world.counters[0].servers_asked_for.value(), 3);
}

#[test]
fn a_type_without_a_name_takes_clients_and_a_target_changes_nothing() {
    let mut world = World::new(1);
    for (number, standing) in [
        (0, Standing::Routable),
        (1, Standing::Routable),
        (2, Standing::SendOnly),
        (3, Standing::Routable),
        (-1, Standing::Routable),
    ] {
        let server = world.adopt_server(0, CHAT, "app");
        let request = HandshakeRequest {
            version: 1,
            connection_type: number.into(),
            target: "elsewhere".into(),
            migration_level: 99.into(),
            ..HandshakeRequest::default()
        };
        world.send(server, request);
        assert_eq!(world.servers[server.0].standing, standing, "{number}");
        let views: Vec<_> = world.routers[0].server_views().collect();
        assert_eq!(
            views[server.0].connection_type,
            Some(ServerConnectionType::from(number))
        );
    }
    let sender = ServerEnd(2);
    world.send(sender, broadcast("a weak one sends all the same"));
}

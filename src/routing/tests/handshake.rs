//! Nobody hears of anybody before a handshake, and every handshake ends: accepted, refused or too late.

use std::time::Duration;

use super::messages::{broadcast, ping};
use super::*;
use crate::limits::{
    CLIENT_HELD_BYTES_MAX, HUB_HANDSHAKE_BYTES_MAX, SERVER_PING_INTERVAL, SERVER_SILENCE_MAX,
    SERVICE_HANDSHAKE_TIMEOUT, TICK,
};
use crate::protocol::service::{HandshakeResponse, OpenConnection};

#[test]
fn the_app_server_is_told_of_a_client_once_its_handshake_request_is_complete() {
    let mut world = World::new(1);
    let server = world.server(0, CHAT, "app");
    let client = world.adopt_client(server, &Profile::default());
    let request = "{\"protocol\":\"json\",\"version\":1}\u{1e}{\"type\":6}\u{1e}";
    let (head, tail) = request.split_at(12);
    world.say(client, head);
    assert_eq!(world.take(server), [], "half a request opens nothing");
    world.say(client, tail);
    let id = world.id(client);
    let open = OpenConnection {
        connection_id: id.into(),
        query_string: "?hub=chat".into(),
        protocol: Some("json".into()),
        ..OpenConnection::default()
    };
    let data = ConnectionData {
        connection_id: id.into(),
        payload: request.as_bytes(),
        ..ConnectionData::default()
    };
    assert_eq!(world.take(server), [open.into(), data.into()]);
    assert_eq!(
        world.heard(client),
        [""; 0],
        "it is the app server that answers"
    );
}

#[test]
fn the_bytes_of_an_open_connection_are_those_that_the_sdk_expects() {
    let mut world = World::new(1);
    let server = world.server(0, CHAT, "app");
    let client = world.adopt_client(server, &Profile::default());
    let ClientRecord { key, id, .. } = world.clients[client.0];
    let request = Chunk::from(world.hello_of(client).into_bytes());
    let mut effects = Vec::new();
    assert!(world.routers[0].on_client_data(key, request.clone(), world.now, &mut effects));
    let [Effect::ToServer { messages, .. }] = effects.as_slice() else {
        panic!("open and handshake request are one effect");
    };
    let mut expected = b"\x2c\x96\x04\xb6".to_vec();
    expected.extend_from_slice(&id.text());
    expected.extend_from_slice(b"\x80\x80\xa9?hub=chat\x81\x03\xa4json");
    expected.extend_from_slice(b"\x3c\x94\x06\xb6");
    expected.extend_from_slice(&id.text());
    expected.extend_from_slice(&[0xc4, request.len() as u8]);
    expected.extend_from_slice(&request);
    expected.push(0x80);
    assert_eq!(messages, &expected);
}

#[test]
fn what_is_sent_before_the_handshake_response_follows_it_in_order() {
    let mut world = World::new(1);
    let server = world.server(0, CHAT, "app");
    let early = world.adopt_client(server, &Profile::default());
    let client = world.opening_client(server, &Profile::default());
    let binary = world.opening_client(server, &Profile::speaking(HubProtocol::MessagePack));
    world.send(server, broadcast("one"));
    world.send(server, broadcast("two"));
    assert_eq!(world.heard(client), [""; 0]);
    world.accept(client);
    world.accept(binary);
    world.send(server, broadcast("three"));
    assert_eq!(world.heard(client), [ACCEPTED, "one", "two", "three"]);
    let kinds: Vec<_> = world.take_messages(binary);
    assert_eq!(
        kinds[0],
        (MessageKind::Binary, ACCEPTED.as_bytes().to_vec())
    );
    assert_eq!(kinds[2], (MessageKind::Binary, b"mp:two".to_vec()));
    assert_eq!(world.heard(early), [""; 0], "no app server knows of it");
}

#[test]
fn a_client_for_which_too_much_is_held_is_closed_and_no_other() {
    let mut world = World::new(1);
    let server = world.server(0, CHAT, "app");
    let other = world.client(server);
    let client = world.opening_client(server, &Profile::default());
    let large = "x".repeat(CLIENT_HELD_BYTES_MAX + 1);
    world.send(server, broadcast(&large));
    assert!(
        world.is_connected(client),
        "a single message may be longer than what may wait"
    );
    world.send(server, broadcast("one more"));
    assert_eq!(
        world.clients[client.0].ended,
        Some(CloseCause::SlowConsumer)
    );
    let id = world.id(client);
    assert_eq!(world.take(server), [CloseConnection::of(id).into()]);
    assert_eq!(world.counters[0].slow_consumers.value(), 1);
    assert_eq!(world.heard(other).len(), 2);
}

#[test]
fn a_rejection_is_text_and_nothing_comes_after_it() {
    let mut world = World::new(1);
    let server = world.server(0, CHAT, "app");
    let client = world.opening_client(server, &Profile::speaking(HubProtocol::MessagePack));
    world.send(server, broadcast("held"));
    world.send_data(client, REJECTED, DataMessageType::Handshake);
    world.send(server, broadcast("late"));
    let rejection = (MessageKind::Text, REJECTED.as_bytes().to_vec());
    assert_eq!(world.take_messages(client), [rejection]);
    world.close_from_server(client);
    assert_eq!(world.clients[client.0].ended, Some(CloseCause::AppServer));
    assert_eq!(
        world.take(server),
        [],
        "its app server knows that it has ended"
    );
}

#[test]
fn an_empty_message_is_no_handshake_response() {
    let mut world = World::new(1);
    let server = world.server(0, CHAT, "app");
    let client = world.opening_client(server, &Profile::default());
    world.send(server, broadcast("greeting"));
    world.send_data(client, "", DataMessageType::Unknown);
    assert_eq!(world.heard(client), [""; 0]);
    world.accept(client);
    assert_eq!(world.heard(client), [ACCEPTED, "greeting"]);
}

#[test]
fn a_bad_handshake_request_is_answered_in_the_words_of_aspnet_core() {
    let unexpected =
        "{\"error\":\"An unexpected error occurred during connection handshake.\"}\u{1e}";
    let endless = "x".repeat(HUB_HANDSHAKE_BYTES_MAX);
    let canceled = "{\"error\":\"Handshake was canceled.\"}\u{1e}";
    let cases = [
        ("hello\u{1e}", unexpected),
        ("\u{1e}", unexpected),
        ("{\u{1e}", unexpected),
        ("[]\u{1e}", unexpected),
        ("42\u{1e}", unexpected),
        ("{}\u{1e}", unexpected),
        ("{\"version\":1}\u{1e}", unexpected),
        ("{\"protocol\":\"json\"}\u{1e}", unexpected),
        ("{\"protocol\":42,\"version\":1}\u{1e}", unexpected),
        ("{\"protocol\":null,\"version\":1}\u{1e}", unexpected),
        (
            "{\"protocol\":\"json\",\"version\":\"1\"}\u{1e}",
            unexpected,
        ),
        // A hub message that happens to hold the byte which ends a handshake.
        ("\u{2}\u{1e}\u{6}", unexpected),
        (endless.as_str(), canceled),
    ];
    for (request, answer) in cases {
        let mut world = World::new(1);
        let server = world.server(0, CHAT, "app");
        let client = world.adopt_client(server, &Profile::default());
        world.say(client, request);
        assert_eq!(world.heard(client), [answer]);
        assert_eq!(
            world.clients[client.0].ended,
            Some(CloseCause::BadHandshake)
        );
        assert_eq!(world.take(server), [], "no app server was told of it");
    }
}

/// Which protocols are served, and in which versions, is for the app server to say: it answers, if with a refusal.
#[test]
fn a_protocol_or_version_that_nobody_knows_is_for_the_app_server_to_refuse() {
    for (protocol, version) in [("foo", 1), ("json", 3), ("json", 0), ("messagepack", -1)] {
        let mut world = World::new(1);
        let server = world.server(0, CHAT, "app");
        let client = world.adopt_client(server, &Profile::default());
        let request = format!("{{\"protocol\":\"{protocol}\",\"version\":{version}}}\x1e");
        world.say(client, &request);
        let received = world.take(server);
        let [Message::OpenConnection(open), Message::ConnectionData(data)] = received.as_slice()
        else {
            panic!("{received:?}");
        };
        assert_eq!(open.protocol.as_deref(), Some(protocol));
        assert_eq!(data.payload, request.as_bytes());
        assert_eq!(world.heard(client), [""; 0]);
    }
}

#[test]
fn a_handshake_request_that_does_not_come_in_time_is_canceled() {
    let mut world = World::new(1);
    let server = world.server(0, CHAT, "app");
    let slow = world.adopt_client(server, &Profile::default());
    // A hub message is no handshake, and more of one may come.
    world.say_bytes(slow, b"\x02\x91\x06");
    let client = world.client(server);
    world.pass(HUB_HANDSHAKE_TIMEOUT.saturating_sub(Duration::from_millis(1)));
    assert!(world.is_connected(slow));
    world.pass(Duration::from_millis(1));
    assert_eq!(
        world.heard(slow),
        ["{\"error\":\"Handshake was canceled.\"}\u{1e}"]
    );
    assert_eq!(
        world.clients[slow.0].ended,
        Some(CloseCause::HandshakeTimeout)
    );
    assert!(world.is_connected(client), "only those that are late");
}

#[test]
fn a_client_is_told_that_there_is_no_app_server() {
    let mut world = World::new(1);
    let client = world.adopt_client_with(0, CHAT, None, &Profile::default());
    world.say_hello(client);
    let answer = "{\"error\":\"No app server is connected to the service.\"}\u{1e}";
    assert_eq!(world.heard(client), [answer]);
    assert_eq!(world.clients[client.0].ended, Some(CloseCause::NoAppServer));
    world.assert_empty();
}

#[test]
fn a_client_whose_server_connection_is_lost_or_drains_before_its_handshake_gets_another() {
    let required = |server_id| Profile {
        required_server_id: Some(server_id),
        ..Profile::default()
    };
    for is_lost in [true, false] {
        let mut world = World::new(1);
        let first = world.server(0, CHAT, "a");
        let other_hub = world.server(0, NEWS, "a");
        let weak = world.server_of_type(0, CHAT, "a", ServerConnectionType::Weak);
        let unready = world.adopt_server(0, CHAT, "a");
        let second = world.server(0, CHAT, "b");
        let anywhere = world.adopt_client(first, &Profile::default());
        let bound_to_a = world.adopt_client(first, &required("a"));
        let bound_to_b = world.adopt_client(first, &required("b"));
        if is_lost {
            world.lose_server(first);
        } else {
            world.send(first, ping(&["shutdown", "fin:0"]));
        }
        for client in [anywhere, bound_to_a, bound_to_b] {
            world.say_hello(client);
        }
        assert_eq!(world.clients[anywhere.0].server, Some(second));
        assert_eq!(world.clients[bound_to_b.0].server, Some(second));
        assert_eq!(
            world.clients[bound_to_a.0].ended,
            Some(CloseCause::NoAppServer)
        );
        for server in [other_hub, weak, unready] {
            assert_eq!(world.take(server), []);
        }
    }
}

#[test]
fn a_service_handshake_is_accepted_and_all_shards_learn_of_the_connection() {
    let mut world = World::new(1);
    let server = world.adopt_server(0, CHAT, "app");
    // As SDK 1.34 sends it.
    world.send_bytes(server, b"\x97\x01\x01\x00\xa0\x00\x80\xc2");
    let response = HandshakeResponse {
        error_message: "".into(),
        connection_id: Some("connection-0".into()),
    };
    assert_eq!(world.take(server), [response.into()]);
    assert_eq!(world.servers[server.0].standing, Standing::Routable);
    let weak = world.server_of_type(0, CHAT, "app", ServerConnectionType::Weak);
    assert_eq!(world.servers[weak.0].standing, Standing::SendOnly);
}

#[test]
fn a_service_handshake_that_is_wrong_is_answered_with_an_error() {
    let version_2 = HandshakeRequest {
        version: 2,
        ..HandshakeRequest::default()
    };
    let cases: [(Received, &str); 2] = [
        (
            version_2.into(),
            "Version 2 of the service protocol is not supported.",
        ),
        (broadcast("early"), "A handshake request was expected."),
    ];
    for (message, error) in cases {
        let mut world = World::new(1);
        let server = world.adopt_server(0, CHAT, "app");
        world.send(server, message);
        let received = world.take(server);
        let [Message::HandshakeResponse(response)] = received.as_slice() else {
            panic!("an error makes the SDK back off, {received:?} does not");
        };
        assert_eq!(response.error_message, error);
        assert_eq!(
            world.servers[server.0].ended,
            Some(CloseCause::BadHandshake)
        );
        world.assert_empty();
    }
}

#[test]
fn a_service_handshake_that_does_not_come_in_time_ends_the_connection() {
    let mut world = World::new(1);
    let server = world.adopt_server(0, CHAT, "app");
    world.pass(SERVICE_HANDSHAKE_TIMEOUT.saturating_sub(Duration::from_millis(1)));
    assert!(world.is_up(server));
    world.pass(Duration::from_millis(1));
    assert_eq!(
        world.servers[server.0].ended,
        Some(CloseCause::HandshakeTimeout)
    );
    assert!(
        matches!(world.take(server)[..], [Message::HandshakeResponse(_)]),
        "no ping goes before a handshake response"
    );
}

#[test]
fn pings_come_often_enough_and_silence_ends_a_server_connection() {
    let mut world = World::new(1);
    let server = world.server(0, CHAT, "app");
    let lively = world.server(0, CHAT, "app");
    let client = world.client(server);
    let started = world.now;
    let mut pinged = started;
    while world.is_up(server) {
        world.send(lively, ping(&[]));
        world.pass(TICK);
        if world.take(lively).contains(&ping(&[])) {
            assert!(world.now - pinged <= SERVER_PING_INTERVAL);
            pinged = world.now;
        }
    }
    assert!(pinged > started);
    assert_eq!(world.servers[server.0].ended, Some(CloseCause::Silent));
    assert_eq!(world.now - started, SERVER_SILENCE_MAX);
    assert_eq!(
        world.clients[client.0].ended,
        Some(CloseCause::ServerConnectionLost)
    );
    assert!(world.is_up(lively));
}

//! One client and its app server: everything passes, in both directions, and what cannot be understood harms nobody.

use super::messages::{broadcast, ping};
use super::*;
use crate::protocol::service::{FlowControlOperation, FlowControlTarget};

#[test]
fn data_passes_both_ways_as_it_is() {
    for (protocol, kind) in [
        (HubProtocol::Json, MessageKind::Text),
        (HubProtocol::MessagePack, MessageKind::Binary),
        (HubProtocol::Other("own".into()), MessageKind::Binary),
    ] {
        let mut world = World::new(1);
        let server = world.server(0, CHAT, "app");
        let client = world.client_as(server, &Profile::speaking(protocol));
        world.say(client, "up");
        let id = world.id(client);
        let up = ConnectionData {
            connection_id: id.into(),
            payload: &b"up"[..],
            ..ConnectionData::default()
        };
        assert_eq!(world.take(server), [up.into()]);
        world.send_data(client, "down", DataMessageType::Invocation);
        assert_eq!(world.take_messages(client), [(kind, b"down".to_vec())]);
    }
}

/// What is wrong with a hub message is for the app server to say, in the words of its framework: the service does not read it.
#[test]
fn what_no_hub_protocol_allows_passes_as_it_is() {
    let json: &[&[u8]] = &[
        b"\x1e",
        b"{\"type\":6\x1e",
        b"null\x1e",
        b"\"foo\"\x1e",
        b"[42]\x1e",
        b"{}\x1e",
        b"{\"type\":\"foo\"}\x1e",
        b"{\"type\":1,\"invocationId\":42}\x1e",
        b"{\"type\":1,\"target\":\"x\"}\x1e",
        b"{\"type\":1,\"target\":\"x\",\"arguments\":{}}\x1e",
        b"{\"type\":3,\"invocationId\":\"1\",\"error\":\"e\",\"result\":1}\x1e",
        b"{\"type\":99}\x1e",
        b"{\"type\":8,\"sequenceId\":3}\x1e",
        b"\xff\xfe without any end",
    ];
    let messagepack: &[&[u8]] = &[
        b"\xff\xff\xff\xff\x0f",
        b"\x80\x80\x80\x80\x80",
        b"\xff\xff\xff\xff\x07",
        b"\x00",
        b"\x01\xc0",
        b"\x01\x90",
        b"\x04\x94\x01\x8a\xa1",
        b"\x02\x91\x01",
        b"\x03\x92\x01\x2a",
        b"\x07\x96\x01\x80\xc0\xc0\x90\x90",
        b"\x06\x94\x03\x80\xa1\x30\x04",
        b"\x02\x91\x63",
        b"\x03\x92\x08\x2a",
    ];
    for (protocol, messages) in [
        (HubProtocol::Json, json),
        (HubProtocol::MessagePack, messagepack),
    ] {
        let mut world = World::new(1);
        let server = world.server(0, CHAT, "app");
        let client = world.client_as(server, &Profile::speaking(protocol));
        let id = world.id(client);
        for &message in messages {
            world.say_bytes(client, message);
            let data = ConnectionData {
                connection_id: id.into(),
                payload: message,
                ..ConnectionData::default()
            };
            assert_eq!(world.take(server), [data.into()]);
        }
        assert_eq!(world.heard(client), [""; 0]);
        assert!(world.is_connected(client));
    }
}

#[test]
fn a_client_hears_its_app_server_on_any_connection_of_the_hub_and_of_no_other() {
    let mut world = World::new(2);
    let server = world.server(0, CHAT, "app");
    let second = world.server(0, CHAT, "app");
    let far = world.server(1, CHAT, "app");
    let other_hub = world.server(0, NEWS, "app");
    let client = world.client(server);
    let id = world.id(client);
    for (end, payload) in [(second, "second"), (far, "far"), (other_hub, "other hub")] {
        let data = ConnectionData {
            connection_id: id.into(),
            payload: payload.as_bytes(),
            data_type: DataMessageType::Invocation,
            ..ConnectionData::default()
        };
        world.send(end, data);
    }
    world.settle();
    assert_eq!(world.heard(client), ["second", "far"]);
    assert_eq!(world.counters[0].relays_crossed_shard.value(), 1);
}

#[test]
fn what_names_nobody_or_cannot_be_read_is_skipped() {
    let mut world = World::new(2);
    let server = world.server(0, CHAT, "app");
    let client = world.client(server);
    let nobody = ConnectionId::new(ShardId(7), 1).to_string();
    for id in ["", "not an id", nobody.as_str()] {
        let data = ConnectionData {
            connection_id: id.into(),
            payload: &b"lost"[..],
            ..ConnectionData::default()
        };
        world.send(server, data);
        world.send(server, CloseConnection::of(id));
    }
    for malformed in [
        &b""[..],
        b"\x01",
        b"\xc0",
        b"\x90",
        b"\x91\x06",
        b"\x91\xa1x",
        b"\x95\x12\xc1",
    ] {
        world.send_bytes(server, malformed);
    }
    assert_eq!(world.counters[0].service_messages_malformed.value(), 7);
    world.send(server, Message::Unknown(99));
    world.send(server, HandshakeRequest::default());
    let pause = crate::protocol::service::ConnectionFlowControl {
        connection_id: world.id(client).into(),
        target: FlowControlTarget::Client,
        operation: FlowControlOperation::Pause,
    };
    world.send(server, pause);
    assert_eq!(world.counters[0].service_messages_skipped.value(), 3);
    world.settle();
    assert!(world.is_up(server));
    world.send(server, broadcast("still here"));
    assert_eq!(world.heard(client), ["still here"]);
    assert_eq!(world.take(server), []);
}

#[test]
fn a_stream_that_cannot_be_read_on_ends_with_an_error() {
    let mut world = World::new(1);
    let server = world.server(0, CHAT, "app");
    let client = world.client(server);
    let key = world.servers[server.0].key;
    let mut effects = Vec::new();
    world.routers[0].on_server_fault(key, "bad length", world.now, &mut effects);
    world.apply(0, effects, &[]);
    let received = world.take(server);
    assert!(
        matches!(received.as_slice(), [Message::ServiceError(error)] if error.error_message == "bad length")
    );
    assert_eq!(
        world.servers[server.0].ended,
        Some(CloseCause::ProtocolError)
    );
    assert_eq!(
        world.clients[client.0].ended,
        Some(CloseCause::ServerConnectionLost)
    );
    world.assert_empty();
}

#[test]
fn queries_are_answered_and_other_pings_are_not() {
    let mut world = World::new(1);
    let server = world.server(0, CHAT, "app");
    world.send(server, ping(&["status", "1"]));
    world.send(server, ping(&["servers", ""]));
    assert_eq!(world.take(server).len(), 2);
    for strings in [
        &[][..],
        &["#clientInHub", "1", "#client", "1"],
        &["echo", "x"],
        &["status"],
    ] {
        world.send(server, ping(strings));
    }
    assert_eq!(world.take(server), []);
}

#[test]
fn a_slot_that_is_used_again_is_not_taken_for_its_former_owner() {
    let mut world = World::new(1);
    let server = world.server(0, CHAT, "a");
    let former = world.servers[server.0].key;
    world.lose_server(server);
    let next = world.server(0, CHAT, "b");
    let mut effects = Vec::new();
    world.routers[0].on_server_closed(former, world.now, &mut effects);
    world.routers[0].on_server_message(former, &[], world.now, &mut effects);
    assert!(effects.is_empty());
    let client = world.client(next);
    world.say(client, "hello");
    assert_eq!(world.take(next).len(), 1);
}

#[test]
fn pieces_of_hub_messages_reach_the_client_as_whole_ones() {
    for protocol in [HubProtocol::Json, HubProtocol::MessagePack] {
        let mut world = World::new(1);
        let server = world.server(0, CHAT, "app");
        let client = world.opening_client(server, &Profile::speaking(protocol.clone()));
        let (one, other) = if protocol == HubProtocol::Json {
            ("{\"type\":6,\"é\":1}\u{1e}", "{\"type\":6}\u{1e}")
        } else {
            ("\u{2}ab", "\u{3}cde")
        };
        let stream = [ACCEPTED, one, other].concat();
        for byte in stream.as_bytes().chunks(1) {
            send_piece(&mut world, server, client, byte);
        }
        assert_eq!(world.heard(client), [ACCEPTED, one, other]);

        // Several at once, and the beginning of one.
        let (head, tail) = other.as_bytes().split_at(1);
        let both = [one.as_bytes(), other.as_bytes(), head].concat();
        send_piece(&mut world, server, client, &both);
        assert_eq!(world.heard(client), [[one, other].concat()]);
        world.send(server, broadcast("between"));
        send_piece(&mut world, server, client, tail);
        let received = world.heard(client);
        assert_eq!(received.len(), 2);
        assert_eq!(received[1], other);
    }
}

fn send_piece(world: &mut World, server: ServerEnd, client: ClientEnd, bytes: &[u8]) {
    let data = ConnectionData {
        connection_id: world.id(client).into(),
        payload: bytes,
        ..ConnectionData::default()
    };
    let message = encoded(data);
    world.send_bytes(server, &message);
}

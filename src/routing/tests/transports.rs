//! Clients on Server-Sent Events and long polling are clients like any other, but for what their transport cannot carry.

use super::messages::broadcast;
use super::*;
use crate::limits::PIECES_BYTES_MAX;

const NO_SOCKET: [Transport; 2] = [Transport::ServerSentEvents, Transport::LongPolling];
const MESSAGE: &str = "{\"type\":6,\"é\":1}\u{1e}";

#[test]
fn a_protocol_of_bytes_is_refused_over_server_sent_events_and_no_app_server_is_told() {
    for (asked, name) in [
        ("messagepack", "messagepack"),
        ("MessagePack", "messagepack"),
        ("blazorpack", "blazorpack"),
    ] {
        let mut world = World::new(1);
        let server = world.server(0, CHAT, "app");
        let profile = Profile::over(Transport::ServerSentEvents, HubProtocol::Json);
        let client = world.adopt_client(server, &profile);
        let request = format!("{{\"protocol\":\"{asked}\",\"version\":1}}\u{1e}");
        world.say(client, &request);
        let refusal = format!(
            "{{\"error\":\"Cannot use the '{name}' protocol on the current transport. The transport does not support 'Binary' transfer format.\"}}\u{1e}"
        );
        assert_eq!(world.heard(client), [refusal]);
        assert_eq!(
            world.clients[client.0].ended,
            Some(CloseCause::BadHandshake)
        );
        assert_eq!(world.take(server), []);
        assert_eq!(world.counters[0].handshakes_failed.value(), 1);
    }
}

#[test]
fn every_other_protocol_is_for_the_app_server_to_judge() {
    let cases = [
        (Transport::ServerSentEvents, HubProtocol::Json),
        (
            Transport::ServerSentEvents,
            HubProtocol::Other("own".into()),
        ),
        (Transport::LongPolling, HubProtocol::MessagePack),
        (Transport::LongPolling, HubProtocol::BlazorPack),
    ];
    for (transport, protocol) in cases {
        let mut world = World::new(1);
        let server = world.server(0, CHAT, "app");
        world.client_as(server, &Profile::over(transport, protocol));
    }
}

/// The client asks for the version that brought stateful reconnect, and has been promised it.
#[test]
fn who_has_no_socket_to_lose_is_not_followed_by_a_state() {
    for transport in NO_SOCKET {
        let mut world = World::new(1);
        let server = world.server(0, CHAT, "app");
        let client = world.adopt_client(server, &Profile::over(transport, HubProtocol::Json));
        world.say(client, "{\"protocol\":\"json\",\"version\":2}\u{1e}");
        world.accept(client);
        world.send(server, broadcast(MESSAGE));
        assert_eq!(world.heard(client), [ACCEPTED, MESSAGE], "all at once");
        assert_eq!(world.counters[0].kept_bytes.value(), 0);
        let (key, id) = (world.clients[client.0].key, world.clients[client.0].id);
        assert!(world.routers[0].resumable(id, CHAT, None).is_err());
        let mut effects = Vec::new();
        assert!(!world.routers[0].on_client_lost(key, world.now, &mut effects));
        assert_eq!(world.counters[0].clients_away.value(), 0);
    }
}

/// An app server may call a piece whole; a client on a WebSocket would get it so.
#[test]
fn whatever_its_app_server_says_a_client_gets_whole_messages() {
    for transport in NO_SOCKET {
        let mut world = World::new(1);
        let server = world.server(0, CHAT, "app");
        let client = world.client_as(server, &Profile::over(transport, HubProtocol::Json));
        for cut in 0..=MESSAGE.len() {
            let (head, tail) = MESSAGE.as_bytes().split_at(cut);
            for piece in [head, tail] {
                send_typed(&mut world, client, piece, false);
            }
            assert_eq!(world.heard(client), [MESSAGE], "cut at {cut}");
        }
        let (head, tail) = MESSAGE.as_bytes().split_at(5);
        send_typed(
            &mut world,
            client,
            &[MESSAGE.as_bytes(), head].concat(),
            false,
        );
        world.send(server, broadcast("between\u{1e}"));
        send_typed(&mut world, client, tail, false);
        assert_eq!(world.heard(client), [MESSAGE, "between\u{1e}", MESSAGE]);
    }
}

#[test]
fn what_is_called_whole_behind_a_piece_is_its_end() {
    for transport in [NO_SOCKET.as_slice(), &[Transport::WebSockets]].concat() {
        let mut world = World::new(1);
        let server = world.server(0, CHAT, "app");
        let client = world.client_as(server, &Profile::over(transport, HubProtocol::Json));
        let (head, tail) = MESSAGE.as_bytes().split_at(5);
        send_typed(&mut world, client, head, true);
        assert_eq!(world.heard(client), [""; 0]);
        send_typed(&mut world, client, tail, false);
        assert_eq!(world.heard(client), [MESSAGE], "{transport:?}");
    }
}

#[test]
fn a_message_that_is_too_long_to_be_kept_ends_who_cannot_have_it_in_pieces() {
    let piece = "x".repeat(PIECES_BYTES_MAX / 4 + 1);
    for transport in NO_SOCKET {
        let mut world = World::new(1);
        let server = world.server(0, CHAT, "app");
        let other = world.client(server);
        let client = world.client_as(server, &Profile::over(transport, HubProtocol::Json));
        world.take(server);
        for _ in 0..4 {
            assert!(world.is_connected(client));
            send_typed(&mut world, client, piece.as_bytes(), true);
        }
        let close = "{\"type\":7,\"error\":\"Connection closed with an error. A message for it is too long.\",\"allowReconnect\":true}\u{1e}";
        assert_eq!(world.heard(client), [close]);
        assert_eq!(
            world.clients[client.0].ended,
            Some(CloseCause::MessageTooLong)
        );
        let id = world.id(client);
        assert_eq!(world.take(server), [CloseConnection::of(id).into()]);
        assert_eq!(world.counters[0].pieces_given_up.value(), 1);
        assert!(world.is_connected(other) && world.is_up(server));
    }
}

/// Data that says of itself what it is, and so that it is whole, unless it is `partial`.
fn send_typed(world: &mut World, client: ClientEnd, bytes: &[u8], partial: bool) {
    let server = world.clients[client.0].server.expect("it is bound");
    let data = ConnectionData {
        connection_id: world.id(client).into(),
        payload: bytes,
        data_type: DataMessageType::Invocation,
        is_partial: partial,
        ..ConnectionData::default()
    };
    let message = encoded(data);
    world.send_bytes(server, &message);
}

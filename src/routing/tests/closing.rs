//! Every end is told to those who have to know, once, and to nobody else.

use super::messages::{broadcast, ping};
use super::*;
use crate::protocol::service::{ServiceEvent, ServiceEventKind, ServiceEventObject};

const JSON_CLOSE: &str = "{\"type\":7,\"allowReconnect\":true}\u{1e}";
const GOODBYE: &str = "{\"type\":7}\u{1e}";

#[test]
fn a_client_that_leaves_is_reported_and_what_its_hub_says_then_is_dropped() {
    let mut world = World::new(1);
    let server = world.server(0, CHAT, "app");
    let client = world.client(server);
    let id = world.id(client);
    world.leave(client);
    assert_eq!(world.take(server), [CloseConnection::of(id).into()]);
    world.say_goodbye(client);
    world.send(server, CloseConnection::of(id));
    assert_eq!(world.take(server), []);
    let silent = world.adopt_client(server, &Profile::default());
    world.leave(silent);
    assert_eq!(world.take(server), [], "it never heard of that one");
}

#[test]
fn the_bytes_of_a_close_connection_are_those_that_the_sdk_expects() {
    let mut world = World::new(1);
    let server = world.server(0, CHAT, "app");
    let client = world.client(server);
    let ClientRecord { key, id, .. } = world.clients[client.0];
    let mut effects = Vec::new();
    world.routers[0].on_client_closed(key, world.now, &mut effects);
    let [Effect::ToServer { messages, .. }] = effects.as_slice() else {
        panic!("its app server is told");
    };
    let expected = [b"\x1c\x95\x05\xb6", &id.text()[..], b"\xa0\x80\x80"].concat();
    assert_eq!(messages, &expected);
}

#[test]
fn a_lost_server_connection_closes_exactly_its_own_clients() {
    let mut world = World::new(1);
    let server = world.server(0, CHAT, "app");
    let other = world.server(0, CHAT, "app");
    let spared = world.client(other);
    let json = world.client(server);
    let messagepack = world.client_as(server, &Profile::speaking(HubProtocol::MessagePack));
    let own = world.client_as(server, &Profile::speaking(HubProtocol::Other("own".into())));
    let opening = world.opening_client(server, &Profile::default());
    let departing = world.client(server);
    world.say_goodbye(departing);
    let unbound = world.adopt_client(server, &Profile::default());
    world.lose_server(server);
    let binary_close = (MessageKind::Binary, b"\x04\x93\x07\xc0\xc3".to_vec());
    assert_eq!(world.take_messages(messagepack), [binary_close]);
    assert_eq!(world.heard(json), [JSON_CLOSE]);
    assert_eq!(
        world.heard(own),
        [""; 0],
        "we know no words of its protocol"
    );
    let refusal = "{\"error\":\"The app server's connection to the service has ended.\"}\u{1e}";
    assert_eq!(world.heard(opening), [refusal]);
    assert_eq!(
        world.heard(departing),
        [GOODBYE],
        "its hub has said so itself"
    );
    for client in [json, messagepack, own, opening, departing] {
        assert_eq!(
            world.clients[client.0].ended,
            Some(CloseCause::ServerConnectionLost)
        );
    }
    assert_eq!(world.servers[server.0].standing, Standing::Gone);
    assert!(world.is_connected(spared));
    assert_eq!(world.take(other), []);
    world.say_hello(unbound);
    assert_eq!(world.clients[unbound.0].server, Some(other));
}

#[test]
fn a_close_after_a_goodbye_needs_no_answer() {
    let mut world = World::new(1);
    let server = world.server(0, CHAT, "app");
    let client = world.client(server);
    world.abort(client);
    assert_eq!(world.heard(client), [GOODBYE]);
    assert_eq!(world.clients[client.0].ended, Some(CloseCause::AppServer));
    assert_eq!(world.take(server), []);
}

#[test]
fn a_close_without_a_goodbye_is_answered_on_the_connection_that_has_the_client() {
    for asking_shard in [0, 1] {
        let mut world = World::new(2);
        let owner = world.server(1, CHAT, "app");
        let asking = world.server(asking_shard, CHAT, "management");
        for (error, farewell) in [
            ("", None),
            ("out", Some("{\"type\":7,\"error\":\"out\"}\u{1e}")),
        ] {
            let client = world.client(owner);
            let id = world.id(client);
            let close = CloseConnection {
                error_message: error.into(),
                ..CloseConnection::of(id)
            };
            world.send(asking, close);
            world.settle();
            assert_eq!(world.heard(client), Vec::from_iter(farewell));
            assert_eq!(world.clients[client.0].ended, Some(CloseCause::AppServer));
            assert_eq!(world.take(owner), [CloseConnection::of(id).into()]);
            assert_eq!(world.take(asking), []);
        }
    }
}

#[test]
fn a_close_with_an_error_is_told_in_the_words_that_the_client_understands() {
    let mut world = World::new(1);
    let server = world.server(0, CHAT, "app");
    let opening = world.opening_client(server, &Profile::speaking(HubProtocol::MessagePack));
    let messagepack = world.client_as(server, &Profile::speaking(HubProtocol::MessagePack));
    let own = world.client_as(server, &Profile::speaking(HubProtocol::Other("own".into())));
    for client in [opening, messagepack, own] {
        let id = world.id(client);
        let close = CloseConnection {
            error_message: "out".into(),
            ..CloseConnection::of(id)
        };
        world.send(server, close);
    }
    let refusal = (MessageKind::Text, b"{\"error\":\"out\"}\x1e".to_vec());
    assert_eq!(world.take_messages(opening), [refusal]);
    let close = (MessageKind::Binary, b"\x07\x93\x07\xa3out\xc2".to_vec());
    assert_eq!(world.take_messages(messagepack), [close]);
    assert_eq!(world.take_messages(own), []);
    assert_eq!(world.clients[own.0].ended, Some(CloseCause::AppServer));
}

#[test]
fn a_server_connection_that_shuts_down_keeps_its_clients_and_gets_no_more() {
    let mut world = World::new(1);
    let server = world.server(0, CHAT, "app");
    let client = world.client(server);
    for mode in ["fin:0", "fin:1", "fin:2"] {
        world.send(server, ping(&["shutdown", mode]));
        assert_eq!(world.take(server), [ping(&["shutdown", "finack"])]);
        assert_eq!(world.servers[server.0].standing, Standing::SendOnly);
    }
    let late = world.adopt_client(server, &Profile::default());
    world.say_hello(late);
    assert_eq!(world.clients[late.0].ended, Some(CloseCause::NoAppServer));
    world.say(client, "still");
    assert_eq!(world.take(server).len(), 1);
    world.send(server, broadcast("here"));
    world.send_data(client, JSON_CLOSE, DataMessageType::Close);
    world.lose_server(server);
    assert_eq!(
        world.heard(client),
        ["here", JSON_CLOSE],
        "one goodbye is enough"
    );
}

#[test]
fn a_drain_tells_everybody_and_leaves_nothing() {
    let mut world = World::new(2);
    let server = world.server(0, CHAT, "app");
    let far = world.server(1, CHAT, "app");
    let unready = world.adopt_server(1, CHAT, "app");
    let clients = [
        world.client(server),
        world.client_as(far, &Profile::with_home(0)),
    ];
    let early = world.adopt_client(server, &Profile::default());
    let ids = clients.map(|client| world.id(client));
    world.drain();
    for client in clients {
        assert_eq!(world.heard(client), [JSON_CLOSE]);
        assert_eq!(world.clients[client.0].ended, Some(CloseCause::Drain));
    }
    assert_eq!(
        world.heard(early),
        ["{\"error\":\"The service is shutting down.\"}\u{1e}"]
    );
    for (end, id) in [server, far].into_iter().zip(ids) {
        let event = ServiceEvent {
            object: ServiceEventObject::ServiceInstance,
            id: "instance".into(),
            kind: ServiceEventKind::Reloading,
            message: "The service is shutting down.".into(),
        };
        assert_eq!(
            world.take(end),
            [event.into(), CloseConnection::of(id).into()]
        );
        assert_eq!(world.servers[end.0].ended, Some(CloseCause::Drain));
    }
    assert_eq!(world.take(unready), []);
    assert_eq!(world.servers[unready.0].ended, Some(CloseCause::Drain));
    assert!(world.routers.iter().all(Router::is_draining));
    world.settle();
    world.assert_empty();
}

#[test]
fn hubs_and_users_last_as_long_as_their_clients() {
    let mut world = World::new(1);
    let server = world.server(0, CHAT, "app");
    let client = world.user(server, "ann");
    let other = world.user(server, "ann");
    world.leave(client);
    assert_eq!(world.routers[0].hubs.len(), 1);
    world.leave(other);
    assert!(world.routers[0].hubs.is_empty());
    let again = world.user(server, "ann");
    assert!(world.is_connected(again));
    let view = world.routers[0].client_views().next().unwrap();
    assert_eq!(
        (view.user, view.server_connection_id),
        (Some("ann"), Some("connection-0"))
    );
}

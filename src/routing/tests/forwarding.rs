//! Connections that live on another shard than their id names: they are found, and reached once.

use super::messages::{
    ack, broadcast, invocation, join_with_ack, mapping, to_connections, to_group,
};
use super::*;
use crate::protocol::service::AckStatus;

/// Four shards. The client's id names shard 2, but it lives on shard 1.
fn world_with_moved_client() -> (World, [ServerEnd; 4], ClientEnd) {
    let mut world = World::new(4);
    let servers = [0, 1, 2, 3].map(|shard| world.server(shard, CHAT, &format!("app-{shard}")));
    let client = world.client_as(servers[1], &Profile::with_home(2));
    (world, servers, client)
}

#[test]
fn a_moved_connection_is_found_from_every_shard() {
    let (mut world, servers, client) = world_with_moved_client();
    let id = world.id(client);
    for (ack_id, server) in (0..).zip(servers) {
        world.send(server, join_with_ack(id, "g", ack_id));
        world.settle();
        assert_eq!(world.take(server), [ack(ack_id, AckStatus::Ok)]);
        world.send(server, to_connections(&[id], "x"));
        world.send(server, to_group("g", "y"));
        world.settle();
        let mut heard = world.heard(client);
        heard.sort();
        assert_eq!(heard, ["x", "y"]);
    }
    world.send(servers[0], invocation("i", id, "app-0"));
    world.settle();
    assert_eq!(world.take(servers[0]), [mapping("i", id)]);
    world.send(servers[3], CloseConnection::of(id));
    world.settle();
    assert_eq!(world.clients[client.0].ended, Some(CloseCause::AppServer));
    assert!(world.routers[2].moved.is_empty());
}

#[test]
fn a_list_of_connections_reaches_each_once_even_if_one_has_moved_among_the_others() {
    let (mut world, servers, moved) = world_with_moved_client();
    // All on shard 1, where the moved one is too, or on shard 2, which its id names.
    let others = [
        world.client(servers[1]),
        world.client(servers[2]),
        world.client(servers[0]),
    ];
    let ids: Vec<&str> = others
        .iter()
        .chain([&moved])
        .map(|client| world.id(*client))
        .collect();
    for server in servers {
        world.send(server, to_connections(&ids, "once"));
        world.settle();
        for client in others.into_iter().chain([moved]) {
            assert_eq!(world.heard(client), ["once"]);
        }
    }
    assert!(world.counters[0].copied_bytes_mail.value() > 0);
}

#[test]
fn a_part_of_a_message_keeps_every_encoding() {
    let mut world = World::new(2);
    let server = world.server(0, CHAT, "app");
    let far = world.server(1, CHAT, "app");
    let near = world.client(server);
    let binary = world.client_as(far, &Profile::speaking(HubProtocol::MessagePack));
    let ids = [world.id(near), world.id(binary)];
    let text = "x".repeat(1000);
    world.send(server, to_connections(&[ids[0], ids[1]], &text));
    world.settle();
    assert_eq!(world.heard(near), [text.as_str()]);
    assert_eq!(world.heard(binary), [format!("mp:{text}")]);
}

#[test]
fn a_moved_connection_that_has_left_is_not_found() {
    let (mut world, servers, client) = world_with_moved_client();
    let id = world.id(client);
    world.leave(client);
    // The shard that its id names has not heard of it yet, so it still sends there.
    for shard in [0, 2] {
        let server = servers[shard];
        world.send(server, join_with_ack(id, "g", 1));
    }
    world.settle();
    for shard in [0, 2] {
        assert_eq!(world.take(servers[shard]), [ack(1, AckStatus::NotFound)]);
    }
    world.send(servers[3], to_connections(&[id], "lost"));
    world.settle();
    assert!(world.routers.iter().all(|router| router.moved.is_empty()));
}

#[test]
fn what_is_forwarded_is_never_sent_round_in_circles() {
    let mut world = World::new(3);
    let server = world.server(0, CHAT, "app");
    world.client(server);
    let ids = [1, 2].map(|shard| ConnectionId::new(ShardId(shard), 77).to_string());
    world.send(server, to_connections(&[&ids[0], &ids[1]], "lost"));
    world.send(server, join_with_ack(&ids[0], "g", 5));
    world.settle();
    assert_eq!(world.take(server), [ack(5, AckStatus::NotFound)]);
}

#[test]
fn shards_without_clients_of_the_hub_are_left_alone() {
    let mut world = World::new(3);
    let server = world.server(0, CHAT, "app");
    let far = world.server(1, CHAT, "app");
    let other_hub = world.server(2, NEWS, "app");
    world.client(far);
    world.client(other_hub);
    world.send(server, broadcast("x"));
    let waiting: Vec<usize> = world.mails.iter().map(VecDeque::len).collect();
    assert_eq!(waiting, [0, 1, 0]);
}

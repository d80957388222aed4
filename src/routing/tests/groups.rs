//! Joining and leaving: who asks is answered, and what was answered is seen by all.

use super::messages::{ack, join, join_with_ack, leave, leave_with_ack, to_group, to_groups};
use super::*;
use crate::limits::{GROUPS_PER_CONNECTION_MAX, NAME_BYTES_MAX};
use crate::protocol::service::AckStatus;

#[test]
fn joins_and_leaves_are_acknowledged_on_the_connection_that_asked() {
    for asking_shard in [0, 1] {
        let mut world = World::new(2);
        let owner = world.server(1, CHAT, "app");
        let asking = world.server(asking_shard, CHAT, "app");
        let client = world.client(owner);
        let id = world.id(client);
        let unknown = ConnectionId::new(ShardId(1), 99).to_string();
        world.send(asking, join_with_ack(id, "g", 1));
        world.send(asking, join_with_ack(id, "g", 2));
        world.send(asking, join_with_ack(&unknown, "g", 3));
        world.send(asking, leave_with_ack(id, Some("g"), 4));
        world.send(asking, leave_with_ack(id, Some("g"), 5));
        world.send(asking, leave_with_ack(&unknown, None, 6));
        world.send(asking, leave_with_ack(id, None, 0));
        world.settle();
        let mut acks = world.take(asking);
        // An answer that is found at once overtakes those that come from elsewhere.
        acks.sort_by_key(|message| format!("{message:?}"));
        let ok = |id| ack(id, AckStatus::Ok);
        let not_found = |id| ack(id, AckStatus::NotFound);
        assert_eq!(
            acks,
            [
                ok(0),
                ok(1),
                ok(2),
                not_found(3),
                ok(4),
                ok(5),
                not_found(6)
            ]
        );
        assert_eq!(world.take(owner), []);
    }
}

#[test]
fn an_id_that_nobody_can_have_is_not_found_at_once() {
    let mut world = World::new(2);
    let server = world.server(0, CHAT, "app");
    let other_hub = world.server(0, NEWS, "app");
    let foreign = world.client(other_hub);
    let foreign = world.id(foreign);
    let no_such_shard = ConnectionId::new(ShardId(2), 1).to_string();
    for (ack_id, id) in (1..).zip(["", "?", foreign, &no_such_shard]) {
        world.send(server, join_with_ack(id, "g", ack_id));
        assert_eq!(world.take(server), [ack(ack_id, AckStatus::NotFound)]);
    }
}

#[test]
fn an_acknowledged_join_is_seen_by_later_sends_from_any_shard() {
    let mut world = World::new(3);
    let asking = world.server(0, CHAT, "app");
    let owner = world.server(1, CHAT, "app");
    let third = world.server(2, CHAT, "app");
    let client = world.client(owner);
    let id = world.id(client);
    world.send(asking, join_with_ack(id, "g", 1));
    while world.take(asking).is_empty() {
        assert!((0..3).any(|shard| world.take_mail(shard)));
    }
    world.send(third, to_group("g", "from the third"));
    world.send(owner, to_group("g", "from its own"));
    world.send(asking, to_group("g", "from who asked"));
    world.settle();
    let mut heard = world.heard(client);
    heard.sort();
    assert_eq!(heard, ["from its own", "from the third", "from who asked"]);
}

#[test]
fn an_answer_finds_another_connection_of_the_same_app_server_on_any_shard() {
    for substitute_shard in 0..3 {
        let mut world = World::new(3);
        let asking = world.server(0, CHAT, "app");
        let owner = world.server(1, CHAT, "other");
        let other_hub = world.server(0, NEWS, "app");
        let unready = world.adopt_server(0, CHAT, "app");
        let substitute = world.server(substitute_shard, CHAT, "app");
        let client = world.client(owner);
        let id = world.id(client);
        world.send(asking, join_with_ack(id, "g", 7));
        world.lose_server(asking);
        world.settle();
        assert_eq!(world.take(substitute), [ack(7, AckStatus::Ok)]);
        for server in [owner, other_hub, unready] {
            assert_eq!(world.take(server), []);
        }
    }
}

#[test]
fn an_answer_for_an_app_server_that_is_gone_is_dropped() {
    let mut world = World::new(3);
    let asking = world.server(0, CHAT, "app");
    let owner = world.server(1, CHAT, "other");
    let client = world.client(owner);
    let id = world.id(client);
    world.send(asking, join_with_ack(id, "g", 7));
    world.lose_server(asking);
    world.settle();
    assert_eq!(world.take(owner), []);
    let unknown: u64 = world
        .counters
        .iter()
        .map(|counters| counters.unknown_targets.value())
        .sum();
    assert_eq!(unknown, 1);
}

#[test]
fn leaving_one_group_or_all_ends_what_is_heard() {
    let mut world = World::new(2);
    let server = world.server(0, CHAT, "app");
    let far = world.server(1, CHAT, "app");
    let clients = [
        world.client(server),
        world.client(far),
        world.client(server),
    ];
    for client in clients {
        let id = world.id(client);
        for group in ["a", "b", "c"] {
            world.send(server, join(id, group));
        }
    }
    let [stays, leaves_all, leaves_one] = clients;
    let (all_id, one_id) = (world.id(leaves_all), world.id(leaves_one));
    world.send(server, leave(all_id, None));
    world.send(server, leave(one_id, Some("b")));
    world.send(server, leave(one_id, Some("no such group")));
    world.send(server, to_group("b", "b"));
    world.send(server, to_groups(&["a", "c"], "ac"));
    world.settle();
    assert_eq!(world.heard(stays), ["b", "ac"]);
    assert_eq!(world.heard(leaves_all), [""; 0]);
    assert_eq!(world.heard(leaves_one), ["ac"]);
}

#[test]
fn a_membership_ends_with_its_connection() {
    let mut world = World::new(1);
    let server = world.server(0, CHAT, "app");
    let (client, other) = (world.client(server), world.client(server));
    for member in [client, other] {
        let id = world.id(member);
        world.send(server, join(id, "g"));
    }
    assert_eq!(world.routers[0].group_count(), 1);
    world.leave(client);
    world.send(server, to_group("g", "x"));
    assert_eq!(world.heard(other), ["x"]);
    world.leave(other);
    assert_eq!(world.routers[0].group_count(), 0);
    world.lose_server(server);
    world.assert_empty();
}

#[test]
fn a_client_may_join_before_its_handshake_response() {
    let mut world = World::new(1);
    let server = world.server(0, CHAT, "app");
    let client = world.opening_client(server, &Profile::default());
    let id = world.id(client);
    world.send(server, join_with_ack(id, "g", 1));
    world.send(server, to_group("g", "welcome"));
    assert_eq!(world.take(server), [ack(1, AckStatus::Ok)]);
    world.accept(client);
    assert_eq!(world.heard(client), [ACCEPTED, "welcome"]);
}

#[test]
fn too_many_groups_and_too_long_names_are_errors() {
    let mut world = World::new(1);
    let server = world.server(0, CHAT, "app");
    let client = world.client(server);
    let id = world.id(client);
    let longest = "x".repeat(NAME_BYTES_MAX);
    world.send(server, join_with_ack(id, &longest, 1));
    world.send(server, join_with_ack(id, &format!("{longest}x"), 2));
    let failed = |ack_id| ack(ack_id, AckStatus::InternalServerError);
    assert_eq!(world.take(server), [ack(1, AckStatus::Ok), failed(2)]);
    let key = world.clients[client.0].key;
    let groups = |world: &mut World, count| {
        let client = world.routers[0].clients.get_mut(key).expect("it is here");
        // As many as there may be, though all the same one: to join so many would take long.
        let membership = client.groups[0];
        client.groups.resize(count, membership);
    };
    groups(&mut world, GROUPS_PER_CONNECTION_MAX);
    let effects = world.effects_of(server, &encoded(join_with_ack(id, "one more", 3)));
    groups(&mut world, 1);
    world.apply(0, effects, &[]);
    assert_eq!(world.take(server), [failed(3)]);
}

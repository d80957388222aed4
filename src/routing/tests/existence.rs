//! Is there such a connection, user or group? The answer is that of the whole hub, whichever shard is asked.

use super::messages::{ack, connection_exists, group_exists, join, user_exists};
use super::*;
use crate::protocol::service::AckStatus;

/// Asks one server connection, and counts the mails that it takes.
fn ask(world: &mut World, server: ServerEnd, question: Received) -> (AckStatus, usize) {
    world.send(server, question);
    let mut mails = 0;
    while (0..world.routers.len()).any(|shard| world.take_mail(shard)) {
        mails += 1;
    }
    let answers = world.take(server);
    let [Message::Ack(answer)] = answers.as_slice() else {
        panic!("one answer, not {answers:?}");
    };
    assert_eq!(answers, [ack(5, answer.status)]);
    (answer.status, mails)
}

#[test]
fn what_exists_is_found_from_every_shard_and_what_does_not_is_not() {
    let mut world = World::new(3);
    let servers = [0, 1, 2].map(|shard| world.server(shard, CHAT, "app"));
    let other_hub = world.server(1, NEWS, "app");
    let client = world.client_as(
        servers[1],
        &Profile {
            home: Some(2),
            ..Profile::user("ann")
        },
    );
    let id = world.id(client);
    world.send(servers[0], join(id, "g"));
    world.settle();
    let unknown = ConnectionId::new(ShardId(2), 99).to_string();
    for server in servers {
        let mut answers = |question| ask(&mut world, server, question).0;
        assert_eq!(answers(connection_exists(id, 5)), AckStatus::Ok);
        assert_eq!(answers(user_exists("ann", 5)), AckStatus::Ok);
        assert_eq!(answers(group_exists("g", 5)), AckStatus::Ok);
        for unknown in [&unknown, "?", ""] {
            assert_eq!(answers(connection_exists(unknown, 5)), AckStatus::NotFound);
        }
        assert_eq!(answers(user_exists("bob", 5)), AckStatus::NotFound);
        assert_eq!(answers(group_exists("h", 5)), AckStatus::NotFound);
    }
    for question in [
        connection_exists(id, 5),
        user_exists("ann", 5),
        group_exists("g", 5),
    ] {
        let (status, _) = ask(&mut world, other_hub, question);
        assert_eq!(status, AckStatus::NotFound, "hubs do not mix");
    }
    world.leave(client);
    world.settle();
    for question in [
        connection_exists(id, 5),
        user_exists("ann", 5),
        group_exists("g", 5),
    ] {
        assert_eq!(ask(&mut world, servers[0], question).0, AckStatus::NotFound);
    }
}

#[test]
fn a_client_exists_from_when_its_app_server_is_told_of_it() {
    let mut world = World::new(1);
    let server = world.server(0, CHAT, "app");
    let client = world.adopt_client(server, &Profile::user("ann"));
    let id = world.id(client);
    for status in [AckStatus::NotFound, AckStatus::Ok] {
        for question in [connection_exists(id, 5), user_exists("ann", 5)] {
            assert_eq!(
                ask(&mut world, server, question),
                (status, 0),
                "nobody else is asked"
            );
        }
        if status == AckStatus::NotFound {
            world.say_hello(client);
            world.take(server);
        }
    }
}

#[test]
fn others_are_asked_only_if_they_could_change_the_answer() {
    let mut world = World::new(3);
    let server = world.server(0, CHAT, "app");
    let client = world.user(server, "ann");
    let id = world.id(client);
    world.send(server, join(id, "g"));
    for question in [
        connection_exists(id, 5),
        user_exists("ann", 5),
        group_exists("g", 5),
    ] {
        assert_eq!(ask(&mut world, server, question), (AckStatus::Ok, 0));
    }
    assert_eq!(
        ask(&mut world, server, user_exists("bob", 5)),
        (AckStatus::NotFound, 4)
    );
}

//! Questions to all shards: answered once, in time, and to whoever asked.

use std::time::Duration;

use super::messages::{ack, close_hub, group_exists, join, ping, user_exists, user_join_with_ack};
use super::*;
use crate::limits::{SURVEY_TIMEOUT, SURVEYS_MAX};
use crate::protocol::service::AckStatus;

#[test]
fn the_first_word_that_decides_is_the_answer_and_the_rest_is_not_needed() {
    let mut world = World::new(3);
    let servers = [0, 1, 2].map(|shard| world.server(shard, CHAT, "app"));
    let near = world.client(servers[1]);
    let far = world.client(servers[2]);
    for client in [near, far] {
        let id = world.id(client);
        world.send(servers[0], join(id, "g"));
    }
    world.settle();
    world.send(servers[0], group_exists("g", 1));
    assert!(world.take_mail(2) && world.take_mail(0));
    assert_eq!(world.take(servers[0]), [ack(1, AckStatus::Ok)]);
    world.settle();
    assert_eq!(world.take(servers[0]), []);
}

#[test]
fn a_no_needs_every_shard() {
    let mut world = World::new(3);
    let server = world.server(0, CHAT, "app");
    world.send(server, user_exists("ann", 1));
    assert!(world.take_mail(2) && world.take_mail(0));
    assert_eq!(world.take(server), []);
    world.settle();
    assert_eq!(world.take(server), [ack(1, AckStatus::NotFound)]);
}

#[test]
fn requests_with_the_same_ack_id_are_answered_each() {
    let mut world = World::new(2);
    let servers = [0, 0, 1].map(|shard| world.server(shard, CHAT, "app"));
    for server in servers {
        world.send(server, user_exists("ann", 1));
        world.send(server, user_exists("bob", 1));
    }
    world.settle();
    for server in servers {
        assert_eq!(
            world.take(server),
            [ack(1, AckStatus::NotFound), ack(1, AckStatus::NotFound)]
        );
    }
}

#[test]
fn an_answer_goes_to_another_connection_of_the_same_app_server_if_need_be() {
    let mut world = World::new(3);
    let asking = world.server(0, CHAT, "app");
    let other = world.server(1, CHAT, "other");
    let substitute = world.server(2, CHAT, "app");
    world.send(asking, user_join_with_ack("ann", "g", None, 1));
    world.lose_server(asking);
    world.settle();
    assert_eq!(world.take(substitute), [ack(1, AckStatus::Ok)]);
    assert_eq!(world.take(other), []);
}

#[test]
fn a_shard_that_does_not_speak_costs_a_time_out() {
    let mut world = World::new(3);
    let server = world.server(0, CHAT, "app");
    world.send(server, user_exists("ann", 1));
    world.pass(SURVEY_TIMEOUT.saturating_sub(Duration::from_millis(1)));
    world.send(server, user_exists("bob", 2));
    world.send(server, ping(&[]));
    world.take(server);
    world.pass(Duration::from_millis(1));
    let Some(Message::Ack(answer)) = world.take(server).pop() else {
        panic!("the older one is given up");
    };
    assert_eq!((answer.ack_id, answer.status), (1, AckStatus::Timeout));
    assert_eq!(world.counters[0].surveys_timed_out.value(), 1);
    world.settle();
    assert_eq!(
        world.take(server),
        [ack(2, AckStatus::NotFound)],
        "what comes late is not needed"
    );
}

#[test]
fn too_many_at_a_time_are_refused_before_anything_is_done() {
    let mut world = World::new(2);
    let server = world.server(0, CHAT, "app");
    let client = world.client(server);
    let question = encoded(user_exists("ann", 1));
    for _ in 0..SURVEYS_MAX {
        for effect in world.effects_of(server, &question) {
            let Effect::Post { shard, mail } = effect else {
                panic!("the other shard is asked");
            };
            world.mails[shard.index()].push_back((0, mail));
        }
    }
    world.send(server, close_hub(None, &[], 2));
    let answers = world.take(server);
    let [Message::Ack(answer)] = answers.as_slice() else {
        panic!("one answer, not {answers:?}");
    };
    assert_eq!(
        (answer.ack_id, answer.status),
        (2, AckStatus::InternalServerError)
    );
    assert_eq!(world.counters[0].surveys_refused.value(), 1);
    assert!(world.is_connected(client));
}

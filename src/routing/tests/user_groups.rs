//! Users in groups: with the connections they have, with those to come, for as long as was said, and the same on every shard.

use std::time::Duration;

use super::messages::{
    ack, is_user_in_group, join, to_group, user_join, user_join_with_ack, user_leave,
    user_leave_with_ack,
};
use super::*;
use crate::limits::{
    GROUPS_PER_CONNECTION_MAX, NAME_BYTES_MAX, STANDING_MARK_LIFETIME,
    STANDING_MEMBERSHIP_LIFETIME, STANDING_MEMBERSHIPS_MAX, UNTIMED_MEMBERSHIPS_PER_USER_MAX,
};
use crate::protocol::service::AckStatus;

const YEAR: Duration = STANDING_MEMBERSHIP_LIFETIME;

/// As recorded from the Management SDK.
#[test]
fn recorded_requests_are_answered_as_recorded() {
    let mut world = World::new(2);
    let server = world.server(0, CHAT, "app");
    let exchanges: [(&[u8], &[u8]); 6] = [
        (
            b"\x95\x1a\xa5alice\xa3ug1\x08\x80",
            b"\x95\x14\x08\x01\xa0\x80",
        ),
        (
            b"\x95\x1a\xa5alice\xa3ug2\x09\x81\x02\x0a",
            b"\x95\x14\x09\x01\xa0\x80",
        ),
        (
            b"\x95\x15\xa5alice\xa3ug1\x0c\x80",
            b"\x95\x14\x0c\x01\xa0\x80",
        ),
        (
            b"\x95\x15\xa3bob\xa3ug1\x0d\x80",
            b"\x95\x14\x0d\x02\xa0\x80",
        ),
        (
            b"\x95\x1b\xa5alice\xa3ug1\x0e\x80",
            b"\x95\x14\x0e\x01\xa0\x80",
        ),
        (
            b"\x95\x1b\xa5alice\xc0\x0f\x80",
            b"\x95\x14\x0f\x01\xa0\x80",
        ),
    ];
    for (request, answer) in exchanges {
        world.send_bytes(server, request);
        world.settle();
        let answers: Vec<Vec<u8>> = world.take(server).into_iter().map(encoded).collect();
        assert_eq!(answers, [answer]);
    }
}

#[test]
fn present_connections_join_on_every_shard_before_the_answer() {
    let mut world = World::new(3);
    let servers = [0, 1, 2].map(|shard| world.server(shard, CHAT, "app"));
    let ann = servers.map(|server| world.user(server, "ann"));
    let bob = world.user(servers[1], "bob");
    world.send(servers[0], user_join_with_ack("ann", "g", None, 7));
    while world.take(servers[0]).is_empty() {
        assert!((0..3).any(|shard| world.take_mail(shard)));
    }
    for client in ann {
        let shard = world.clients[client.0].shard;
        world.send(servers[shard], to_group("g", "x"));
    }
    world.settle();
    for client in ann {
        assert_eq!(world.heard(client), ["x", "x", "x"]);
    }
    assert_eq!(world.heard(bob), [""; 0]);
}

#[test]
fn later_connections_join_when_their_app_server_is_told_of_them() {
    for shard in [0, 1] {
        let mut world = World::new(2);
        let servers = [0, 1].map(|shard| world.server(shard, CHAT, "app"));
        let other_hub = world.server(shard, NEWS, "app");
        let waiting = world.adopt_client(servers[shard], &Profile::user("ann"));
        for group in ["g", "h"] {
            world.send(servers[0], user_join(/* offline */ "ann", group, None));
        }
        world.settle();
        world.say_hello(waiting);
        world.send(servers[shard], to_group("g", "welcome"));
        world.accept(waiting);
        assert_eq!(world.heard(waiting), [ACCEPTED, "welcome"]);
        let again = world.user(servers[shard], "ann");
        let foreign = world.user(other_hub, "ann");
        let stranger = world.user(servers[shard], "Ann");
        world.send(servers[shard], to_group("h", "x"));
        world.send(other_hub, to_group("h", "x"));
        assert_eq!(world.heard(again), ["x"]);
        for client in [foreign, stranger] {
            assert_eq!(world.heard(client), [""; 0]);
        }
    }
}

#[test]
fn a_membership_stands_as_long_as_was_said_and_present_members_stay() {
    let seconds = |seconds| Some(Duration::from_secs(seconds));
    let cases = [
        (None, Some(YEAR)),
        (Some(10), seconds(10)),
        (Some(0), None),
        (Some(-1), None),
        (Some(i32::MAX), seconds(i32::MAX as u64)),
    ];
    for (ttl, lasts) in cases {
        let mut world = World::new(2);
        let server = world.server(0, CHAT, "app");
        let present = world.user(server, "ann");
        world.send(server, user_join("ann", "g", ttl));
        world.settle();
        let stands = |world: &mut World| {
            world.send(server, is_user_in_group("ann", "g", 1));
            world.take(server) == [ack(1, AckStatus::Ok)]
        };
        assert_eq!(stands(&mut world), lasts.is_some());
        if let Some(lasts) = lasts {
            world.now += lasts.saturating_sub(Duration::from_millis(1));
            assert!(stands(&mut world));
            world.now += Duration::from_millis(1);
            assert!(!stands(&mut world));
        }
        let late = world.user(server, "ann");
        world.send(server, to_group("g", "x"));
        assert_eq!(world.heard(present), ["x"]);
        assert_eq!(world.heard(late), [""; 0]);
    }
}

#[test]
fn the_latest_word_on_how_long_counts() {
    let mut world = World::new(2);
    let server = world.server(0, CHAT, "app");
    let mut stands_after = |ttl: Option<i32>, time| {
        world.send(server, user_join("ann", "g", ttl));
        world.settle();
        world.now += time;
        world.send(server, is_user_in_group("ann", "g", 1));
        world.take(server) == [ack(1, AckStatus::Ok)]
    };
    let minute = Duration::from_mins(1);
    assert!(!stands_after(Some(10), minute));
    assert!(stands_after(Some(100), minute));
    assert!(stands_after(None, YEAR / 2));
    assert!(!stands_after(Some(10), minute));
    assert!(stands_after(None, minute));
    assert!(!stands_after(Some(0), Duration::ZERO));
}

#[test]
fn leaving_ends_what_stands_and_takes_all_connections_along() {
    for group in [Some("g"), None] {
        let mut world = World::new(2);
        let servers = [0, 1].map(|shard| world.server(shard, CHAT, "app"));
        let ann = servers.map(|server| world.user(server, "ann"));
        let bob = world.user(servers[1], "bob");
        for client in ann.into_iter().chain([bob]) {
            let id = world.id(client);
            world.send(servers[0], join(id, "g"));
            world.send(servers[0], join(id, "by id"));
        }
        world.send(servers[0], user_join("ann", "h", None));
        world.send(servers[0], user_leave_with_ack("ann", group, 1));
        world.send(servers[0], user_leave_with_ack("nobody", group, 2));
        world.settle();
        let answers = world.take(servers[0]);
        assert_eq!(answers, [ack(1, AckStatus::Ok), ack(2, AckStatus::Ok)]);
        let late = world.user(servers[1], "ann");
        for group in ["g", "h", "by id"] {
            world.send(servers[1], to_group(group, group));
        }
        world.settle();
        let (kept, stands): (&[&str], &[&str]) = match group {
            Some(_) => (&["h", "by id"], &["h"]),
            None => (&[], &[]),
        };
        for client in ann {
            assert_eq!(world.heard(client), kept);
        }
        assert_eq!(world.heard(late), stands);
        assert_eq!(world.heard(bob), ["g", "by id"]);
    }
}

/// Two shards hear of the same user and group at a time, and their mails cross.
#[test]
fn shards_that_change_the_same_at_once_agree_afterwards() {
    let changes = [
        user_join("ann", "g", None),
        user_join("ann", "g", Some(0)),
        user_join("ann", "h", Some(5)),
        user_leave("ann", Some("g")),
        user_leave("ann", None),
    ];
    for first in &changes {
        for second in &changes {
            for third in &changes {
                let mut world = World::new(3);
                let servers = [0, 1, 2].map(|shard| world.server(shard, CHAT, "app"));
                let present = servers.map(|server| world.user(server, "ann"));
                world.send(servers[2], user_join("ann", "g", None));
                world.settle();
                world.send(servers[1], first.clone());
                world.send(servers[0], second.clone());
                // The third is only late for one of the others.
                world.take_mail(2);
                world.send(servers[2], third.clone());
                world.settle();
                let later = servers.map(|server| world.user(server, "ann"));
                for group in ["g", "h"] {
                    world.send(servers[0], to_group(group, group));
                }
                world.settle();
                for same in [present, later] {
                    let heard = same.map(|client| world.heard(client));
                    assert!(
                        heard.iter().all(|each| *each == heard[0]),
                        "{first:?} {second:?} {third:?}: {heard:?}"
                    );
                }
            }
        }
    }
}

/// Joins, leaves and clients in any order, with mails that are late: once all have arrived, each connection is in the groups in which
/// its user stands, on whatever shard and since whenever it is there.
#[test]
fn every_connection_is_where_its_user_stands_whatever_the_order() {
    const USERS: [&str; 2] = ["ann", "bob"];
    const GROUPS: [&str; 3] = ["x", "y", "z"];
    for seed in 1..300_u64 {
        let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15);
        let mut below = |end: usize| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            (state >> 33) as usize % end
        };
        let mut world = World::new(3);
        let servers = [0, 1, 2].map(|shard| world.server(shard, CHAT, "app"));
        for _ in 0..40 {
            let (server, user, group) = (servers[below(3)], USERS[below(2)], GROUPS[below(3)]);
            match below(8) {
                0 => drop(world.user(server, user)),
                1..=2 => world.send(server, user_join(user, group, None)),
                3 => world.send(server, user_leave(user, Some(group))),
                4 if below(3) == 0 => world.send(server, user_leave(user, None)),
                _ => drop(world.take_mail(below(3))),
            }
        }
        world.settle();
        for router in &world.routers {
            for view in router.client_views() {
                let user = view.user.expect("all have one");
                for group in GROUPS {
                    let stands = router.user_groups.contains(CHAT, user, group, world.now);
                    let mut members = router.hubs[&CHAT].groups.members(group).iter();
                    let is_member = members
                        .any(|key| router.clients.get(*key).is_some_and(|it| it.id == view.id));
                    assert_eq!(is_member, stands, "seed {seed}: {user} in {group}");
                }
            }
        }
    }
}

#[test]
fn what_is_said_after_an_answer_counts_wherever_it_is_said() {
    let mut world = World::new(3);
    let servers = [0, 1, 2].map(|shard| world.server(shard, CHAT, "app"));
    // Its clock runs ahead of the others'.
    for _ in 0..10 {
        world.send(servers[2], user_join("bob", "g", Some(0)));
    }
    world.send(servers[2], user_join_with_ack("ann", "g", None, 1));
    while world.take(servers[2]).is_empty() {
        assert!((0..3).any(|shard| world.take_mail(shard)));
    }
    world.send(servers[0], user_leave("ann", Some("g")));
    world.settle();
    world.send(servers[2], is_user_in_group("ann", "g", 2));
    assert_eq!(world.take(servers[2]), [ack(2, AckStatus::NotFound)]);
}

#[test]
fn of_memberships_without_a_time_to_live_the_most_recent_are_kept() {
    let mut world = World::new(2);
    let servers = [0, 1].map(|shard| world.server(shard, CHAT, "app"));
    let present = world.user(servers[1], "ann");
    let group = |number: usize| format!("g{number}");
    for number in 0..UNTIMED_MEMBERSHIPS_PER_USER_MAX {
        world.send(servers[number % 2], user_join("ann", &group(number), None));
        world.settle();
    }
    world.send(servers[0], user_join("ann", "timed", Some(60)));
    // The oldest but one is now the oldest, and two make room.
    world.send(servers[0], user_join("ann", &group(0), None));
    world.send(servers[0], user_join("ann", "new", None));
    world.send(servers[0], user_join("ann", "newer", None));
    world.settle();
    let mut stands = |group: &str| {
        world.send(servers[1], is_user_in_group("ann", group, 1));
        world.take(servers[1]) == [ack(1, AckStatus::Ok)]
    };
    for group in [&group(0), &group(3), "timed", "new", "newer"] {
        assert!(stands(group), "{group}");
    }
    for number in [1, 2] {
        assert!(!stands(&group(number)), "{number}");
    }
    world.send(servers[1], to_group(&group(1), "x"));
    assert_eq!(world.heard(present), ["x"], "present members stay");
}

#[test]
fn what_has_ended_is_forgotten_and_a_hub_with_it() {
    let mut world = World::new(2);
    let server = world.server(0, CHAT, "app");
    world.send(server, user_join("ann", "short", Some(90)));
    world.send(server, user_join("ann", "left", None));
    world.send(server, user_leave("ann", Some("left")));
    world.send(server, user_leave("bob", None));
    world.lose_server(server);
    world.settle();
    let remembered = |world: &World| {
        world
            .counters
            .iter()
            .all(|it| it.standing_memberships.value() > 0)
    };
    world.pass(STANDING_MARK_LIFETIME);
    assert!(remembered(&world), "it outlives everybody");
    assert_eq!(world.counters[1].standing_memberships.value(), 1);
    world.pass(Duration::from_secs(90).saturating_sub(STANDING_MARK_LIFETIME));
    assert_eq!(world.counters[1].standing_memberships.value(), 0);
    world.assert_empty();
}

#[test]
fn a_single_shard_keeps_no_marks() {
    let mut world = World::new(1);
    let server = world.server(0, CHAT, "app");
    for group in ["g", "h"] {
        world.send(server, user_join_with_ack("ann", group, None, 1));
    }
    world.send(server, user_leave("ann", Some("g")));
    world.send(server, user_join("ann", "i", Some(0)));
    assert_eq!(world.counters[0].standing_memberships.value(), 1);
    world.send(server, user_leave("ann", None));
    world.lose_server(server);
    world.assert_empty();
}

#[test]
fn names_that_are_too_long_never_join_and_need_not_leave() {
    let mut world = World::new(2);
    let server = world.server(0, CHAT, "app");
    let longest = "x".repeat(NAME_BYTES_MAX);
    let too_long = format!("{longest}x");
    let failed = |ack_id| ack(ack_id, AckStatus::InternalServerError);
    world.send(server, user_join_with_ack(&longest, &longest, None, 1));
    world.send(server, user_join_with_ack(&too_long, "g", None, 2));
    world.send(server, user_join_with_ack("ann", &too_long, Some(0), 3));
    world.send(server, user_join("ann", &too_long, None));
    world.send(server, user_leave_with_ack("ann", Some(&too_long), 4));
    world.settle();
    let mut answers = world.take(server);
    answers.sort_by_key(|message| format!("{message:?}"));
    let ok = |ack_id| ack(ack_id, AckStatus::Ok);
    assert_eq!(answers, [ok(1), failed(2), failed(3), ok(4)]);
    assert_eq!(world.counters[0].joins_refused.value(), 3);
    assert_eq!(world.counters[0].standing_memberships.value(), 1);
}

#[test]
fn a_connection_in_too_many_groups_is_left_out_and_the_answer_says_so() {
    let mut world = World::new(2);
    let servers = [0, 1].map(|shard| world.server(shard, CHAT, "app"));
    let full = world.user(servers[1], "ann");
    let other = world.user(servers[0], "ann");
    let id = world.id(full);
    world.send(servers[1], join(id, "g"));
    let key = world.clients[full.0].key;
    let groups = |world: &mut World, count| {
        let client = world.routers[1].clients.get_mut(key).expect("it is here");
        // As many as there may be, though all the same one: to join so many would take long.
        let membership = client.groups[0];
        client.groups.resize(count, membership);
    };
    world.send(servers[0], user_join_with_ack("ann", "one more", None, 1));
    groups(&mut world, GROUPS_PER_CONNECTION_MAX);
    let (_, mail) = world.mails[1]
        .pop_front()
        .expect("the other shard is asked");
    let mut effects = Vec::new();
    let now = world.now;
    world.routers[1].on_mail(mail, now, &mut effects);
    groups(&mut world, 1);
    world.apply(1, effects, &[]);
    world.settle();
    assert_eq!(
        world.take(servers[0]),
        [ack(1, AckStatus::InternalServerError)]
    );
    world.send(servers[0], to_group("one more", "x"));
    world.settle();
    assert_eq!(
        (world.heard(full), world.heard(other)),
        (vec![], vec!["x".to_owned()])
    );
}

#[test]
fn as_much_is_remembered_as_may_be_and_no_more() {
    const { assert!(STANDING_MEMBERSHIPS_MAX >= 100 * GROUPS_PER_CONNECTION_MAX) };
    let mut world = World::new(1);
    let server = world.server(0, CHAT, "app");
    let join = |number: usize| encoded(user_join_with_ack("ann", &number.to_string(), Some(60), 1));
    let router = &mut world.routers[0];
    let key = world.servers[server.0].key;
    for number in 0..GROUPS_PER_CONNECTION_MAX {
        let chunk = [Chunk::from(join(number))];
        router.on_server_message(key, &chunk, world.now, &mut Vec::new());
    }
    world.send_bytes(server, &join(GROUPS_PER_CONNECTION_MAX));
    world.send_bytes(server, &join(0));
    let answers = [AckStatus::InternalServerError, AckStatus::Ok].map(|status| ack(1, status));
    assert_eq!(world.take(server), answers);
    // Another user may.
    world.send(server, user_join_with_ack("bob", "g", Some(60), 1));
    assert_eq!(world.take(server), [ack(1, AckStatus::Ok)]);
    world.pass(Duration::from_secs(15));
    let remembered = world.counters[0].standing_memberships.value();
    assert_eq!(remembered as usize, GROUPS_PER_CONNECTION_MAX + 1);
}

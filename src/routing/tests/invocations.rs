//! Client results: each question is answered once, to whom it was asked by.

use super::messages::{announcement, completion, error_completion, invocation, mapping, ping};
use std::time::Duration;

use super::*;
use crate::limits::INVOCATION_TIMEOUT;

#[test]
fn an_app_server_that_asks_its_own_client_gets_the_answer_as_data() {
    let mut world = World::new(1);
    let server = world.server(0, CHAT, "a");
    let client = world.client(server);
    let id = world.id(client);
    world.send(server, invocation("i", id, "a"));
    assert_eq!(world.heard(client), ["invoke i"]);
    assert_eq!(world.take(server), []);
    world.send(server, completion("i", id, "a", ""));
    world.leave(client);
    assert_eq!(
        world.take(server),
        [CloseConnection::of(id).into()],
        "nothing was waiting"
    );
}

#[test]
fn another_app_server_gets_the_answer_from_the_one_that_has_the_client() {
    for caller_shard in [0, 1] {
        let mut world = World::new(2);
        let owner = world.server(1, CHAT, "owner");
        let caller = world.server(caller_shard, CHAT, "caller");
        let client = world.client(owner);
        let id = world.id(client);
        world.send(caller, invocation("i", id, "caller"));
        world.settle();
        assert_eq!(world.take(owner), [announcement("i", id, "caller")]);
        assert_eq!(world.take(caller), [mapping("i", id)]);
        assert_eq!(world.heard(client), ["invoke i"]);
        let answer = completion("i", id, "owner", "42");
        world.send(owner, answer.clone());
        world.send(owner, answer.clone());
        world.settle();
        assert_eq!(world.take(caller), [answer], "once, and as it came");
        assert!(world.routers[1].invocations.is_empty());
    }
}

#[test]
fn the_announcement_comes_before_the_client_can_answer() {
    let mut world = World::new(1);
    let owner = world.server(0, CHAT, "owner");
    let caller = world.server(0, CHAT, "caller");
    let client = world.client(owner);
    let id = world.id(client);
    let effects = world.effects_of(caller, &encoded(invocation("i", id, "caller")));
    let place = |is_meant: fn(&Effect) -> bool| effects.iter().position(is_meant).unwrap();
    let announced =
        place(|effect| matches!(effect, Effect::ToServer { server, .. } if server.slot == 0));
    let asked = place(|effect| matches!(effect, Effect::RelayToClient { .. }));
    assert!(announced < asked);
}

#[test]
fn a_client_that_is_unknown_or_cannot_understand_is_answered_for() {
    for caller_shard in [0, 1] {
        let mut world = World::new(2);
        let owner = world.server(1, CHAT, "owner");
        let caller = world.server(caller_shard, CHAT, "caller");
        let own = Profile::speaking(HubProtocol::Other("own".into()));
        let strange = world.client_as(owner, &own);
        let strange = world.id(strange);
        let gone = ConnectionId::new(ShardId(1), 99).to_string();
        world.send(caller, invocation("i", &gone, "caller"));
        world.send(caller, invocation("j", strange, "caller"));
        world.send(caller, invocation("k", "?", "caller"));
        world.settle();
        let mut answers = world.take(caller);
        answers.sort_by_key(|message| format!("{message:?}"));
        let not_found = |invocation_id, id: &str| {
            error_completion(
                invocation_id,
                id,
                "caller",
                &format!("Connection {id} not found"),
            )
        };
        let no_payload = "The invocation has no payload for the protocol 'own' of the client.";
        let expected = [
            not_found("i", &gone),
            error_completion("j", strange, "caller", no_payload),
            not_found("k", "?"),
        ];
        assert_eq!(answers, expected);
        assert_eq!(world.take(owner), []);
    }
}

#[test]
fn a_client_that_ends_without_an_answer_is_answered_for() {
    for is_server_lost in [false, true] {
        let mut world = World::new(2);
        let owner = world.server(1, CHAT, "owner");
        let caller = world.server(0, CHAT, "caller");
        let (client, other) = (world.client(owner), world.client(owner));
        let (id, other_id) = (world.id(client), world.id(other));
        for (invocation_id, id) in [("i", &id), ("j", &id), ("k", &other_id)] {
            world.send(caller, invocation(invocation_id, id, "caller"));
        }
        world.settle();
        assert_eq!(world.take(caller).len(), 3);
        world.leave(client);
        if is_server_lost {
            world.lose_server(owner);
        }
        world.settle();
        let gone = |invocation_id, id: &str| {
            let error = format!("Connection '{id}' is disconnected.");
            error_completion(invocation_id, id, "caller", &error)
        };
        let mut expected = vec![gone("i", id), gone("j", id)];
        if is_server_lost {
            expected.push(gone("k", other_id));
        }
        assert_eq!(world.take(caller), expected);
    }
}

#[test]
fn an_answer_that_does_not_come_in_time_is_an_error() {
    let mut world = World::new(1);
    let owner = world.server(0, CHAT, "owner");
    let caller = world.server(0, CHAT, "caller");
    let client = world.client(owner);
    let id = world.id(client);
    world.send(caller, invocation("i", id, "caller"));
    world.take(caller);
    let step = Duration::from_secs(10);
    let mut waited = Duration::ZERO;
    let answer = loop {
        // Both app servers are alive.
        world.send(owner, ping(&[]));
        world.send(caller, ping(&[]));
        world.pass(step);
        waited += step;
        let is_answer = |message: &Received| matches!(message, Message::ErrorCompletion(_));
        if let Some(answer) = world.take(caller).into_iter().find(is_answer) {
            break answer;
        }
    };
    assert_eq!(waited, INVOCATION_TIMEOUT);
    assert_eq!(
        answer,
        error_completion("i", id, "caller", "The client did not answer in time.")
    );
    world.send(owner, completion("i", id, "owner", "late"));
    assert_eq!(world.take(caller), []);
    assert!(world.routers[0].invocations.is_empty());
}

#[test]
fn an_answer_reaches_another_connection_of_the_caller() {
    let mut world = World::new(2);
    let owner = world.server(1, CHAT, "owner");
    let caller = world.server(0, CHAT, "caller");
    let substitute = world.server(1, CHAT, "caller");
    let client = world.client(owner);
    let id = world.id(client);
    world.send(caller, invocation("i", id, "caller"));
    world.settle();
    world.lose_server(caller);
    let error = error_completion("i", id, "owner", "it threw");
    world.send(owner, error.clone());
    world.settle();
    assert_eq!(world.take(substitute), [error]);
}

#[test]
fn a_completion_may_come_on_any_connection_of_the_owner() {
    let mut world = World::new(2);
    let owner = world.server(1, CHAT, "owner");
    let elsewhere = world.server(0, CHAT, "owner");
    let caller = world.server(0, CHAT, "caller");
    let client = world.client(owner);
    let id = world.id(client);
    for (invocation_id, payload) in [("i", "42"), ("j", "")] {
        world.send(caller, invocation(invocation_id, id, "caller"));
        world.settle();
        world.take(caller);
        let answer = completion(invocation_id, id, "owner", payload);
        world.send(elsewhere, answer.clone());
        world.settle();
        let expected = if payload.is_empty() {
            vec![]
        } else {
            vec![answer]
        };
        assert_eq!(world.take(caller), expected);
        assert!(world.routers[1].invocations.is_empty());
    }
}

#[test]
fn the_same_invocation_id_in_two_hubs_means_two_invocations() {
    let mut world = World::new(1);
    let ends = [CHAT, NEWS].map(|hub| {
        let owner = world.server(0, hub, "owner");
        let caller = world.server(0, hub, "caller");
        let client = world.client(owner);
        let id = world.id(client);
        world.send(caller, invocation("i", id, "caller"));
        world.take(caller);
        (owner, caller, id)
    });
    for (owner, caller, id) in ends {
        let answer = completion("i", id, "owner", "mine");
        world.send(owner, answer.clone());
        assert_eq!(world.take(caller), [answer]);
    }
}

#[test]
fn an_invocation_id_that_is_used_again_means_the_later_invocation() {
    let mut world = World::new(1);
    let owner = world.server(0, CHAT, "owner");
    let caller = world.server(0, CHAT, "caller");
    let (former, client) = (world.client(owner), world.client(owner));
    for invoked in [former, client] {
        let id = world.id(invoked);
        world.send(caller, invocation("i", id, "caller"));
    }
    world.take(caller);
    world.leave(former);
    assert_eq!(world.take(caller), []);
    let answer = completion("i", world.id(client), "owner", "42");
    world.send(owner, answer.clone());
    assert_eq!(world.take(caller), [answer]);
}

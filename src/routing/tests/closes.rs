//! Closing clients on request: exactly those that are meant, with the reason, and their app servers are told.

use super::messages::{ack, broadcast, close_connection, close_group, close_hub, close_user, join};
use super::*;
use crate::protocol::service::AckStatus;

const JSON_CLOSE: &str = "{\"type\":7,\"allowReconnect\":true}\u{1e}";
const JSON_CLOSE_BYE: &str = "{\"type\":7,\"error\":\"bye\",\"allowReconnect\":true}\u{1e}";

/// Three shards with a client each, who are, in this order, ann, bob and ann. The first two are in group `g`. One more on another hub.
struct Crowd {
    world: World,
    servers: [ServerEnd; 3],
    clients: [ClientEnd; 3],
    foreign: ClientEnd,
}

impl Crowd {
    fn new() -> Self {
        let mut world = World::new(3);
        let servers = [0, 1, 2].map(|shard| world.server(shard, CHAT, "app"));
        let mut users = ["ann", "bob", "ann"].into_iter();
        let clients = servers.map(|server| world.user(server, users.next().expect("one each")));
        let other_hub = world.server(0, NEWS, "app");
        let foreign = world.user(other_hub, "ann");
        for client in &clients[..2] {
            let id = world.id(*client);
            world.send(servers[0], join(id, "g"));
        }
        let id = world.id(foreign);
        world.send(other_hub, join(id, "g"));
        world.settle();
        Self {
            world,
            servers,
            clients,
            foreign,
        }
    }

    /// Whom a request closes, by place. It is answered once it is done, and nobody of the other hub is closed.
    fn closed_by(request: impl FnOnce(&Self) -> Received) -> Vec<usize> {
        let mut crowd = Self::new();
        let request = request(&crowd);
        crowd.world.send(crowd.servers[0], request);
        crowd.world.settle();
        assert!(crowd.world.is_connected(crowd.foreign));
        let mut answers = crowd.world.take(crowd.servers[0]);
        assert_eq!(answers.pop(), Some(ack(1, AckStatus::Ok)));
        let is_closed = |client: &ClientEnd| !crowd.world.is_connected(*client);
        (0..3)
            .filter(|place| is_closed(&crowd.clients[*place]))
            .collect()
    }

    fn id(&self, place: usize) -> &'static str {
        self.world.id(self.clients[place])
    }
}

#[test]
fn exactly_those_that_are_meant_are_closed() {
    assert_eq!(Crowd::closed_by(|_| close_hub(None, &[], 1)), [0, 1, 2]);
    assert_eq!(
        Crowd::closed_by(|it| close_hub(None, &["?", it.id(1)], 1)),
        [0, 2]
    );
    assert_eq!(Crowd::closed_by(|_| close_user("ann", &[], 1)), [0, 2]);
    assert_eq!(
        Crowd::closed_by(|it| close_user("ann", &[it.id(0)], 1)),
        [2]
    );
    assert_eq!(Crowd::closed_by(|_| close_user("eve", &[], 1)), [0; 0]);
    assert_eq!(Crowd::closed_by(|_| close_group("g", &[], 1)), [0, 1]);
    assert_eq!(
        Crowd::closed_by(|it| close_group("g", &[it.id(1), it.id(0)], 1)),
        [0; 0]
    );
    assert_eq!(Crowd::closed_by(|_| close_group("h", &[], 1)), [0; 0]);
    assert_eq!(
        Crowd::closed_by(|it| close_connection(it.id(0), None, 1)),
        [0]
    );
    assert_eq!(
        Crowd::closed_by(|it| close_connection(it.id(2), None, 1)),
        [2]
    );
}

#[test]
fn a_client_that_is_not_there_cannot_be_closed() {
    let mut crowd = Crowd::new();
    let foreign = crowd.world.id(crowd.foreign);
    let gone = ConnectionId::new(ShardId(1), 99).to_string();
    for id in [foreign, &gone, "?"] {
        let server = crowd.servers[0];
        crowd.world.send(server, close_connection(id, None, 1));
        crowd.world.settle();
        assert_eq!(crowd.world.take(server), [ack(1, AckStatus::NotFound)]);
    }
    assert!(crowd.world.is_connected(crowd.foreign));
}

#[test]
fn the_client_hears_the_reason_and_its_app_server_that_it_is_gone() {
    for (reason, close) in [
        (None, JSON_CLOSE),
        (Some(""), JSON_CLOSE),
        (Some("bye"), JSON_CLOSE_BYE),
    ] {
        for asking_shard in [0, 1] {
            let mut world = World::new(2);
            let owner = world.server(1, CHAT, "app");
            let asking = world.server(asking_shard, CHAT, "management");
            let [one, all] = [world.client(owner), world.client(owner)];
            world.send(asking, close_connection(world.id(one), reason, 1));
            world.settle();
            world.send(asking, close_hub(reason, &[], 2));
            world.settle();
            assert_eq!(
                world.take(asking),
                [ack(1, AckStatus::Ok), ack(2, AckStatus::Ok)]
            );
            let ends = [one, all].map(|client| CloseConnection::of(world.id(client)).into());
            assert_eq!(world.take(owner), ends);
            for client in [one, all] {
                assert_eq!(world.heard(client), [close]);
                assert_eq!(world.clients[client.0].ended, Some(CloseCause::AppServer));
            }
        }
    }
}

#[test]
fn it_is_said_in_words_that_the_client_understands_and_once() {
    let mut world = World::new(1);
    let server = world.server(0, CHAT, "app");
    let messagepack = world.client_as(server, &Profile::speaking(HubProtocol::MessagePack));
    let opening = world.opening_client(server, &Profile::default());
    let silent = world.adopt_client(server, &Profile::default());
    let departing = world.client(server);
    world.say_goodbye(departing);
    world.heard(departing);
    world.send(server, close_hub(Some("bye"), &[], 1));
    let close = (MessageKind::Binary, b"\x07\x93\x07\xa3bye\xc3".to_vec());
    assert_eq!(world.take_messages(messagepack), [close]);
    assert_eq!(world.heard(opening), ["{\"error\":\"bye\"}\u{1e}"]);
    assert_eq!(
        world.heard(departing),
        [""; 0],
        "its hub has said so itself"
    );
    assert!(!world.is_connected(departing));
    assert!(world.is_connected(silent), "it is no client yet");
}

#[test]
fn what_was_sent_before_arrives_before_the_end() {
    let mut crowd = Crowd::new();
    let server = crowd.servers[0];
    crowd.world.send(server, broadcast("last words"));
    crowd.world.send(server, close_hub(None, &[], 1));
    crowd.world.send(server, broadcast("too late"));
    crowd.world.settle();
    for client in crowd.clients {
        assert_eq!(crowd.world.heard(client), ["last words", JSON_CLOSE]);
    }
}

#[test]
fn nobody_is_left_when_the_answer_comes() {
    let mut crowd = Crowd::new();
    let server = crowd.servers[0];
    crowd.world.send(server, close_hub(None, &[], 1));
    while crowd.world.take(server).last() != Some(&ack(1, AckStatus::Ok)) {
        assert!((0..3).any(|shard| crowd.world.take_mail(shard)));
    }
    assert!(
        crowd
            .clients
            .iter()
            .all(|client| !crowd.world.is_connected(*client))
    );
}

//! A message reaches all that it means, each once, and nobody else.

use super::messages::{
    broadcast, broadcast_except, join, ping, to_connections, to_group, to_group_except, to_groups,
    to_user, to_users,
};
use super::*;
use crate::protocol::service::BroadcastData;

/// A world of two shards with the same names in two hubs: three clients of each, of two users, all in the group "g".
struct Crowd {
    world: World,
    server: ServerEnd,
    chat: [ClientEnd; 3],
    news: [ClientEnd; 3],
}

impl Crowd {
    fn new() -> Self {
        let mut world = World::new(2);
        let mut of_hub = |hub| {
            let near = world.server(0, hub, "app");
            let far = world.server(1, hub, "app");
            let clients = [
                world.user(near, "ann"),
                world.user(near, "bob"),
                world.user(far, "ann"),
            ];
            for client in clients {
                let id = world.id(client);
                world.send(near, join(id, "g"));
            }
            world.settle();
            (near, clients)
        };
        let ((server, chat), (_, news)) = (of_hub(CHAT), of_hub(NEWS));
        Self {
            world,
            server,
            chat,
            news,
        }
    }

    /// Who hears a message, by place among the clients of its hub. Nobody of the other hub may.
    fn hearers(&mut self, message: Received) -> Vec<usize> {
        self.world.send(self.server, message);
        self.world.settle();
        for client in self.news {
            assert_eq!(self.world.heard(client), [""; 0], "hubs do not mix");
        }
        let mut hearers = Vec::new();
        for (place, client) in self.chat.into_iter().enumerate() {
            hearers.extend(self.world.heard(client).iter().map(|_| place));
        }
        hearers
    }

    fn id(&self, place: usize) -> &'static str {
        self.world.id(self.chat[place])
    }
}

#[test]
fn each_kind_of_target_is_reached_once_on_all_shards_and_in_its_hub_only() {
    let mut crowd = Crowd::new();
    let (first, third) = (crowd.id(0), crowd.id(2));
    let foreign = crowd.world.id(crowd.news[0]);
    assert_eq!(crowd.hearers(broadcast("x")), [0, 1, 2]);
    assert_eq!(
        crowd.hearers(broadcast_except(&[first, third, "?", foreign], "x")),
        [1]
    );
    assert_eq!(crowd.hearers(to_user("ann", "x")), [0, 2]);
    assert_eq!(crowd.hearers(to_user("Ann", "x")), [0; 0]);
    assert_eq!(
        crowd.hearers(to_users(&["ann", "bob", "ann", "eve"], "x")),
        [0, 1, 2]
    );
    assert_eq!(
        crowd.hearers(to_connections(&[first, third, first, foreign, "?"], "x")),
        [0, 2]
    );
    assert_eq!(crowd.hearers(to_connections(&[third], "x")), [2]);
    assert_eq!(crowd.hearers(to_connections(&[], "x")), [0; 0]);
    assert_eq!(crowd.hearers(to_group("g", "x")), [0, 1, 2]);
    assert_eq!(crowd.hearers(to_group("G", "x")), [0; 0]);
    assert_eq!(
        crowd.hearers(to_group_except("g", &[first], &["bob"], "x")),
        [2]
    );
    assert_eq!(crowd.hearers(to_group_except("g", &[], &["ann"], "x")), [1]);
    assert_eq!(crowd.hearers(to_groups(&["g", "h", "g"], "x")), [0, 1, 2]);
}

#[test]
fn members_of_several_groups_hear_it_once() {
    let mut crowd = Crowd::new();
    for place in [0, 2] {
        let id = crowd.id(place);
        crowd.world.send(crowd.server, join(id, "h"));
    }
    crowd.world.settle();
    assert_eq!(crowd.hearers(to_groups(&["h", "g"], "x")), [0, 1, 2]);
    assert_eq!(crowd.hearers(to_groups(&["h"], "x")), [0, 2]);
}

#[test]
fn everybody_gets_the_encoding_of_their_own_protocol() {
    let mut world = World::new(1);
    let server = world.server(0, CHAT, "app");
    let json = world.client(server);
    let more_json = world.client(server);
    let binary = world.client_as(server, &Profile::speaking(HubProtocol::MessagePack));
    let own = world.client_as(server, &Profile::speaking(HubProtocol::Other("own".into())));
    world.send(server, broadcast("x"));
    assert_eq!(
        world.take_messages(json),
        [(MessageKind::Text, b"x".to_vec())]
    );
    assert_eq!(
        world.take_messages(more_json),
        [(MessageKind::Text, b"x".to_vec())]
    );
    assert_eq!(
        world.take_messages(binary),
        [(MessageKind::Binary, b"mp:x".to_vec())]
    );
    assert_eq!(world.take_messages(own), []);
    assert_eq!(world.counters[0].missing_payloads.value(), 1);
    assert_eq!(world.counters[0].fan_out_deliveries.value(), 3);
    // The name of a protocol compares without case.
    let mut shouted = Payloads::default();
    shouted.push("MessagePack", &b"loud"[..]);
    let message = BroadcastData {
        excluded: [].into_iter().collect(),
        payloads: shouted,
        filter: None,
        tracing_id: None,
    };
    world.send(server, message);
    assert_eq!(world.heard(binary), ["loud"]);
    assert_eq!(world.heard(json), [""; 0]);
}

#[test]
fn a_client_that_has_been_said_goodbye_to_hears_no_more() {
    let mut world = World::new(1);
    let server = world.server(0, CHAT, "app");
    let (client, other) = (world.client(server), world.client(server));
    world.say_goodbye(client);
    world.heard(client);
    world.send(server, broadcast("late"));
    assert_eq!(world.heard(client), [""; 0]);
    assert_eq!(world.heard(other), ["late"]);
}

#[test]
fn one_frame_serves_all_and_a_single_payload_is_not_copied() {
    let mut world = World::new(1);
    let server = world.server(0, CHAT, "app");
    world.client(server);
    world.send(server, broadcast("0123456789"));
    assert_eq!(world.counters[0].copied_bytes_fan_out.value(), 0);
    world.client(server);
    world.client(server);
    world.send(server, broadcast("0123456789"));
    assert_eq!(world.counters[0].copied_bytes_fan_out.value(), 10);
}

#[test]
fn weak_and_draining_connections_send_like_any_other() {
    let mut world = World::new(1);
    let server = world.server(0, CHAT, "app");
    let weak = world.server_of_type(0, CHAT, "far away", ServerConnectionType::Weak);
    let client = world.client(server);
    world.send(weak, broadcast("from afar"));
    world.send(server, ping(&["shutdown", "fin:2"]));
    world.send(server, broadcast("before the end"));
    assert_eq!(world.heard(client), ["from afar", "before the end"]);
}

#[test]
fn what_one_connection_sends_arrives_in_order_on_every_shard() {
    let mut world = World::new(3);
    let server = world.server(0, CHAT, "app");
    let far = world.server(2, CHAT, "app");
    let client = world.user(far, "ann");
    let id = world.id(client);
    world.send(server, join(id, "g"));
    world.send(server, to_group("g", "1"));
    world.send(server, to_connections(&[id], "2"));
    world.send(server, to_user("ann", "3"));
    world.send(server, broadcast("4"));
    world.send(server, to_groups(&["g"], "5"));
    world.settle();
    assert_eq!(world.heard(client), ["1", "2", "3", "4", "5"]);
}

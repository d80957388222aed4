//! What a message to many costs: the same for each hub protocol and shard, and nothing for a client.

use hubring::protocol::service::{
    AckStatus, BroadcastData, GroupBroadcastData, JoinGroupWithAck, LeaveGroupWithAck, Message,
    MultiConnectionData, UserData,
};

use crate::peers::read;
use crate::scene::{Copied, Cost, ROUNDS, Scene};

const PAYLOAD: &[u8] = &[b'x'; 2048];
const GROUP: &str = "a group";
const USER: &str = "a user";
const ROUNDS_OF_COST: u64 = ROUNDS as u64;

/// Memory for the list of those in whose hub it is.
const ALLOCATIONS_OF_BROADCAST: u64 = 1;
/// Memory for the list of sockets, for the frame, and for the count of those who share it.
const ALLOCATIONS_OF_ENCODING: u64 = 3;
/// Memory for a copy of the message, and for the count of those who share it.
const ALLOCATIONS_OF_MAIL: u64 = 2;

#[test]
fn a_broadcast_costs_the_same_for_any_number_of_clients() {
    for clients in [12, 48] {
        let mut scene = Scene::new(1, 1, clients);
        let allocations = ALLOCATIONS_OF_BROADCAST + ALLOCATIONS_OF_ENCODING;
        let expected = each(allocations, one_frame());
        assert_cost(&mut scene, 0, &broadcast(), expected);
    }
}

#[test]
fn a_broadcast_costs_one_frame_for_each_hub_protocol() {
    let mut scene = Scene::new(1, 1, 12);
    for _ in 0..12 {
        scene.connect("messagepack", &[]);
    }
    let copied = Copied {
        fan_out: 2 * PAYLOAD.len() as u64,
        ..Copied::default()
    };
    let allocations = ALLOCATIONS_OF_BROADCAST + 2 * ALLOCATIONS_OF_ENCODING;
    assert_cost(&mut scene, 0, &broadcast(), each(allocations, copied));
}

/// The shard that has the server connection copies the message once for all others. Each of those puts it where its own memory is, and
/// makes its own frame.
#[test]
fn a_broadcast_costs_each_other_shard_one_more_copy() {
    const SHARDS: usize = 3;
    let mut scene = Scene::new(SHARDS as u16, SHARDS, 60);
    let message_bytes = framed_bytes(&broadcast());
    let copied = Copied {
        fan_out: (SHARDS * PAYLOAD.len()) as u64,
        mail: (SHARDS * message_bytes) as u64,
        ..Copied::default()
    };
    for shard in 0..SHARDS {
        let allocations = ALLOCATIONS_OF_BROADCAST + ALLOCATIONS_OF_ENCODING + ALLOCATIONS_OF_MAIL;
        let expected = each(allocations, copied);
        assert_cost(&mut scene, shard, &broadcast(), expected);
    }
}

/// There is nobody to share a frame with, so the payload goes out as it lies there.
#[test]
fn a_send_to_one_connection_or_user_allocates_nothing_and_copies_nothing() {
    let mut scene = Scene::new(1, 1, 12);
    scene.connect("json", &[("nameid", USER)]);
    let client = scene.clients.swap_remove(12);
    scene.clients = vec![client];
    let id = scene.clients[0].id.clone();
    for message in [to_connection(&id), to_user()] {
        assert_cost(&mut scene, 0, &message, Cost::default());
    }
}

/// Eight are listed in place, more need memory for the lists.
#[test]
fn a_send_to_a_small_group_or_user_allocates_for_the_frame_and_beyond_eight_for_the_lists() {
    for (clients, allocations) in [(8, 2), (10, 4)] {
        let mut scene = Scene::new(1, 1, 0);
        for _ in 0..clients {
            scene.connect("json", &[("nameid", USER)]);
        }
        for index in 0..clients {
            let id = scene.clients[index].id.clone();
            assert_eq!(ask(&mut scene, &join(&id)), AckStatus::Ok);
        }
        for message in [to_group(), to_user()] {
            let expected = each(allocations, one_frame());
            assert_cost(&mut scene, 0, &message, expected);
        }
    }
}

/// Memory for the answers, and while the group has no other member for the group itself: its name, its member, its client's list of groups.
#[test]
fn joins_and_leaves_allocate_for_their_answers() {
    let mut scene = Scene::new(1, 1, 2);
    let ids: Vec<String> = scene
        .clients
        .iter()
        .map(|client| client.id.clone())
        .collect();
    let assert_join_and_leave = |scene: &mut Scene, allocations| {
        let expected = each(allocations, Copied::default());
        let cost = scene.cost(0, expected, |scene| {
            assert_eq!(ask(scene, &join(&ids[0])), AckStatus::Ok);
            assert_eq!(ask(scene, &leave(&ids[0])), AckStatus::Ok);
        });
        assert_eq!(cost, expected);
    };
    assert_join_and_leave(&mut scene, 4);
    assert_eq!(ask(&mut scene, &join(&ids[1])), AckStatus::Ok);
    assert_join_and_leave(&mut scene, 2);
}

/// A message to all clients of the scene costs a shard so much.
fn assert_cost(scene: &mut Scene, shard: usize, message: &Message<'_, &[u8]>, expected: Cost) {
    let cost = scene.cost(shard, expected, |scene| {
        scene.servers[0].send(message);
        for client in &mut scene.clients {
            client.expect(PAYLOAD);
        }
    });
    assert_eq!(cost, expected, "shard {shard}");
}

/// The cost of rounds that need so much each.
fn each(allocations: u64, copied: Copied) -> Cost {
    Cost {
        allocations: allocations * ROUNDS_OF_COST,
        copied: Copied {
            joint: copied.joint * ROUNDS_OF_COST,
            fan_out: copied.fan_out * ROUNDS_OF_COST,
            mail: copied.mail * ROUNDS_OF_COST,
            buffers: copied.buffers * ROUNDS_OF_COST,
        },
    }
}

fn one_frame() -> Copied {
    Copied {
        fan_out: PAYLOAD.len() as u64,
        ..Copied::default()
    }
}

/// Sends a request and waits for its answer.
fn ask(scene: &mut Scene, request: &Message<'_, &[u8]>) -> AckStatus {
    scene.servers[0].send(request);
    let answer = scene.servers[0].next().expect("an answer");
    match read(&answer) {
        Message::Ack(ack) => ack.status,
        other => panic!("no answer: {other:?}"),
    }
}

/// Bytes of a message without its length prefix.
fn framed_bytes(message: &Message<'_, &[u8]>) -> usize {
    let mut framed = Vec::new();
    message.encode(&mut framed);
    let (bytes, _) = hubring::frame::record::read_varint(&framed)
        .unwrap()
        .unwrap();
    bytes as usize
}

fn broadcast() -> Message<'static, &'static [u8]> {
    let payloads = [("json", PAYLOAD), ("messagepack", PAYLOAD)];
    BroadcastData {
        excluded: [].into_iter().collect(),
        payloads: payloads.into_iter().collect(),
        filter: None,
        tracing_id: None,
    }
    .into()
}

fn to_connection(id: &str) -> Message<'_, &'static [u8]> {
    MultiConnectionData {
        connection_ids: [id.into()].into_iter().collect(),
        payloads: [("json", PAYLOAD)].into_iter().collect(),
        filter: None,
        tracing_id: None,
    }
    .into()
}

fn to_user<'a>() -> Message<'a, &'static [u8]> {
    UserData {
        user_id: USER.into(),
        payloads: [("json", PAYLOAD)].into_iter().collect(),
        filter: None,
        tracing_id: None,
    }
    .into()
}

fn to_group() -> Message<'static, &'static [u8]> {
    GroupBroadcastData {
        group: GROUP.into(),
        excluded: [].into_iter().collect(),
        payloads: [("json", PAYLOAD)].into_iter().collect(),
        excluded_users: [].into_iter().collect(),
        caller_user_id: None,
        filter: None,
        tracing_id: None,
    }
    .into()
}

fn join(id: &str) -> Message<'_, &'static [u8]> {
    JoinGroupWithAck {
        connection_id: id.into(),
        group: GROUP.into(),
        ack_id: 1,
        tracing_id: None,
    }
    .into()
}

fn leave(id: &str) -> Message<'_, &'static [u8]> {
    LeaveGroupWithAck {
        connection_id: id.into(),
        group: Some(GROUP.into()),
        ack_id: 1,
        tracing_id: None,
    }
    .into()
}

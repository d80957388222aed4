//! What a relayed message costs, from a client to its app server and back.

use hubring::frame::websocket::Data;
use hubring::limits::{JOINT_COPY_BYTES_MAX, RECEIVE_BUFFER_BYTES};

use crate::peers::{connection_data, frame};
use crate::scene::{Copied, Cost, ROUNDS, Scene};

const CLIENTS: usize = 16;

/// Frames of the SDK's are no longer.
const SDK_FRAME_BYTES: usize = 4096;

#[test]
fn an_echo_of_2_kb_allocates_nothing_and_copies_nothing() {
    let expected = Cost::default();
    assert_eq!(cost_of_echo(2048, expected), expected);
}

/// A slice of its own would cost the kernel more than copying so few bytes: they are written behind their frame's header.
#[test]
fn an_echo_of_64_bytes_allocates_nothing_and_copies_its_payload_once_each_way() {
    let expected = Cost {
        allocations: 0,
        copied: Copied {
            joint: 2 * 64 * (ROUNDS * CLIENTS) as u64,
            ..Copied::default()
        },
    };
    assert_eq!(cost_of_echo(64, expected), expected);
}

/// The same with all that travels at once in one piece: what all clients said in one read of the app server, and its answers in one
/// WebSocket message, cut as the SDK cuts it.
#[test]
fn echoes_in_batches_allocate_and_copy_only_around_cuts() {
    const PAYLOAD_BYTES: usize = 2048;
    let payload = vec![b'x'; PAYLOAD_BYTES];
    let mut scene = Scene::new(1, 1, CLIENTS);
    let bytes = CLIENTS * (PAYLOAD_BYTES + 64);
    let cuts = ROUNDS * (2 + bytes / SDK_FRAME_BYTES + bytes / RECEIVE_BUFFER_BYTES);
    let most = Cost {
        // One cut in seventy goes through the id of a connection, which is then put together in memory of its own. Twice that, and one for
        // luck, is still less than one for each round.
        allocations: cuts as u64 / 35 + 1,
        copied: Copied {
            // Where a payload is cut, one of its two ends may be tiny.
            joint: (cuts * JOINT_COPY_BYTES_MAX) as u64,
            ..Copied::default()
        },
    };
    let cost = scene.cost(0, most, |scene| {
        for client in &mut scene.clients {
            client.peer.send(Data::Binary, &payload);
        }
        let mut answers = Vec::new();
        for _ in 0..CLIENTS {
            let (id, heard) = scene.servers[0].next_data();
            assert!(heard == payload);
            answers.extend(connection_data(&id, &heard));
        }
        scene.servers[0].peer.send_raw(&cut(&answers));
        for client in &mut scene.clients {
            client.expect(&payload);
        }
    });
    assert!(most.allocations < ROUNDS as u64);
    assert!(cost.is_within(most), "{cost:?}");
}

/// A round is one echo of each client, one after the other.
fn cost_of_echo(payload_bytes: usize, expected: Cost) -> Cost {
    let payload = vec![b'x'; payload_bytes];
    let mut scene = Scene::new(1, 1, CLIENTS);
    let relayed = scene.count(|counters| &counters.relayed_messages);
    let cost = scene.cost(0, expected, |scene| {
        for client in &mut scene.clients {
            client.peer.send(Data::Binary, &payload);
            let (id, heard) = scene.servers[0].next_data();
            assert!(id == client.id && heard == payload);
            scene.servers[0].send_to(&id, &heard);
            client.expect(&payload);
        }
    });
    let relayed = scene.count(|counters| &counters.relayed_messages) - relayed;
    assert!(relayed >= 2 * (ROUNDS * CLIENTS) as u64);
    assert_eq!(scene.count(|counters| &counters.relays_crossed_shard), 0);
    cost
}

/// One WebSocket message in frames as the SDK makes them.
fn cut(message: &[u8]) -> Vec<u8> {
    let count = message.len().div_ceil(SDK_FRAME_BYTES);
    let frames = message
        .chunks(SDK_FRAME_BYTES)
        .enumerate()
        .map(|(index, part)| {
            let data = if index == 0 {
                Data::Binary
            } else {
                Data::Continue
            };
            frame(data, index + 1 == count, part)
        });
    frames.flatten().collect()
}

//! One message to many, from the service message to the outboxes, over any number of shards: how cost bends when the same clients are
//! spread over more of them.
//!
//! The shards work one after the other on this thread, so the figures are the CPU time of all of them together, without the hop from
//! mailbox to mailbox, which [`super::mailbox`] measures.

use std::hint::black_box;

use criterion::{BenchmarkId, Criterion, Throughput};
use hubring::chunk::Chunk;

use crate::messages::{broadcast, encoded, to_connection, to_group, to_user};
use crate::world::{GROUP_MEMBERS, World, group_name, shuffled, user_name};

/// A hub on one core, on a small machine, on a large one, and on more than any that there is.
const SHARD_COUNTS: [u16; 4] = [1, 2, 8, 64];
const CLIENTS: usize = 10_240;
const PAYLOAD_SIZES: [usize; 2] = [128, 2048];
const PAYLOAD: &[u8] = &[b'x'; 512];

pub(crate) fn bench(criterion: &mut Criterion) {
    for shard_count in SHARD_COUNTS {
        let world = &mut World::new(shard_count, CLIENTS);
        for payload_bytes in PAYLOAD_SIZES {
            let payload = vec![b'x'; payload_bytes];
            let message = [Chunk::from(encoded(broadcast(&payload)))];
            let operation = format!("broadcast_{payload_bytes}_bytes");
            send(criterion, world, &operation, CLIENTS, &[message]);
        }
        let groups = few_messages(|index| encoded(to_group(&group_name(index), PAYLOAD)));
        send(criterion, world, "group_of_10", GROUP_MEMBERS, &groups);
        let users = few_messages(|index| encoded(to_user(&user_name(index), PAYLOAD)));
        send(criterion, world, "user", 1, &users);
        let ids: Vec<String> = world
            .clients
            .iter()
            .map(|client| client.id.to_string())
            .collect();
        let connections = few_messages(|index| encoded(to_connection(&ids[index], PAYLOAD)));
        send(criterion, world, "connection", 1, &connections);
    }
}

/// The app server sends these messages by turns, on its connection to the first shard. Each has to reach so many clients.
fn send(
    criterion: &mut Criterion,
    world: &mut World,
    operation: &str,
    receivers: usize,
    messages: &[[Chunk; 1]],
) {
    let parameter = BenchmarkId::from_parameter(format!("{}_shards", world.shards.len()));
    let mut turns = messages.iter().cycle();
    let mut group = criterion.benchmark_group(format!("fan_out/{operation}"));
    group.throughput(Throughput::Elements(receivers as u64));
    group.bench_function(parameter, |bencher| {
        bencher.iter(|| {
            let delivered = world.send(0, black_box(turns.next().unwrap()));
            assert_eq!(delivered, receivers);
        });
    });
}

/// A message for each of some clients, whichever shards they are on.
fn few_messages(message: impl Fn(usize) -> Vec<u8>) -> Vec<[Chunk; 1]> {
    const MESSAGES: usize = 4096;
    shuffled(CLIENTS)
        .take(MESSAGES)
        .map(|index| [Chunk::from(message(index))])
        .collect()
}

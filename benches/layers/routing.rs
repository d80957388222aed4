//! The router of one shard, by operation, with few and with many clients. Each client is in ten groups, so there are as many groups as
//! clients. Clients are taken in an order that no cache foresees: what is to be seen is whether cost stays flat.
//!
//! Payloads are of 64 bytes. A router does not look at them, but for a frame that many share, which [`super::fan_out`] measures.

use std::cell::Cell;
use std::hint::black_box;

use criterion::measurement::WallTime;
use criterion::{BatchSize, BenchmarkGroup, BenchmarkId, Criterion, Throughput};
use hubring::chunk::Chunk;
use hubring::routing::Effect;

use crate::messages::{
    broadcast, data, encoded, join_with_ack, leave_with_ack, to_connection, to_group, to_user,
};
use crate::world::{World, group_name, new_client, shuffled, socket_of, user_name};

const CLIENT_COUNTS: [usize; 2] = [1_000, 18_000];
const BROADCAST_CLIENT_COUNTS: [usize; 2] = [1_000, 10_000];
const PAYLOAD: &[u8] = &[b'x'; 64];

pub(crate) fn bench(criterion: &mut Criterion) {
    for client_count in CLIENT_COUNTS {
        let world = &mut World::new(1, client_count);
        relay_to_server(criterion, world);
        hear(criterion, world, "relay_to_client", |_, id| {
            encoded(data(id, PAYLOAD))
        });
        hear(criterion, world, "send_to_connection", |_, id| {
            encoded(to_connection(id, PAYLOAD))
        });
        hear(criterion, world, "send_to_user", |index, _| {
            encoded(to_user(&user_name(index), PAYLOAD))
        });
        hear(criterion, world, "send_to_group_of_10", |index, _| {
            encoded(to_group(&group_name(index), PAYLOAD))
        });
        join_and_leave(criterion, world);
        open_and_close(criterion, world);
    }
    for client_count in BROADCAST_CLIENT_COUNTS {
        broadcast_to_all(criterion, &mut World::new(1, client_count));
    }
}

/// A client says something to its app server.
fn relay_to_server(criterion: &mut Criterion, world: &mut World) {
    let payload = Chunk::from(PAYLOAD.to_vec());
    let mut order = shuffled(world.clients.len());
    let mut effects = Vec::new();
    let name = parameter(world);
    group_of(criterion, "relay_to_server").bench_function(name, |bencher| {
        bencher.iter(|| {
            let client = world.clients[order.next().unwrap()];
            let router = &mut world.shards[0].router;
            router.on_client_data(client.key, payload.clone(), world.now, &mut effects);
            done(&mut effects);
        });
    });
}

/// The app server sends a message of each client, by turns. It is made beforehand, of the client's index and id.
fn hear(
    criterion: &mut Criterion,
    world: &mut World,
    operation: &str,
    message: impl Fn(usize, &str) -> Vec<u8>,
) {
    let clients = world.clients.iter().enumerate();
    let messages: Vec<[Chunk; 1]> = clients
        .map(|(index, client)| [Chunk::from(message(index, &client.id.to_string()))])
        .collect();
    let mut order = shuffled(messages.len());
    let mut effects = Vec::new();
    let name = parameter(world);
    group_of(criterion, operation).bench_function(name, |bencher| {
        bencher.iter(|| {
            let message = &messages[order.next().unwrap()];
            world.shards[0].hear(message, world.now, &mut effects);
            done(&mut effects);
        });
    });
}

/// One more group for a client, which has no other member, and out of it again. Both are acknowledged.
fn join_and_leave(criterion: &mut Criterion, world: &mut World) {
    let clients = world.clients.iter().enumerate();
    let messages: Vec<[[Chunk; 1]; 2]> = clients
        .map(|(index, client)| {
            let (id, group) = (client.id.to_string(), format!("own-group-{index}"));
            [
                [Chunk::from(encoded(join_with_ack(&id, &group)))],
                [Chunk::from(encoded(leave_with_ack(&id, &group)))],
            ]
        })
        .collect();
    let mut order = shuffled(messages.len());
    let mut effects = Vec::new();
    let name = parameter(world);
    group_of(criterion, "join_and_leave").bench_function(name, |bencher| {
        bencher.iter(|| {
            for message in &messages[order.next().unwrap()] {
                world.shards[0].hear(message, world.now, &mut effects);
                done(&mut effects);
            }
        });
    });
}

/// A client comes, is through both handshakes, and leaves. Its deadline stays behind until it is due, as with a real one.
fn open_and_close(criterion: &mut Criterion, world: &mut World) {
    let next = Cell::new(world.clients.len());
    let mut effects = Vec::new();
    let name = parameter(world);
    let (shard, now) = (&mut world.shards[0], world.now);
    let server = shard.server;
    group_of(criterion, "open_and_close").bench_function(name, |bencher| {
        bencher.iter_batched(
            || {
                let index = next.replace(next.get() + 1);
                (socket_of(index), new_client(0, index, server))
            },
            |(socket, new)| {
                let key = shard.open(socket, new, now, &mut effects);
                shard.router.on_client_closed(key, now, &mut effects);
                done(&mut effects);
            },
            BatchSize::SmallInput,
        );
    });
}

fn broadcast_to_all(criterion: &mut Criterion, world: &mut World) {
    let message = [Chunk::from(encoded(broadcast(PAYLOAD)))];
    let mut effects = Vec::new();
    let name = parameter(world);
    let mut group = group_of(criterion, "broadcast");
    group.throughput(Throughput::Elements(world.clients.len() as u64));
    group.bench_function(name, |bencher| {
        bencher.iter(|| {
            world.shards[0].hear(&message, world.now, &mut effects);
            done(&mut effects);
        });
    });
}

fn group_of<'a>(criterion: &'a mut Criterion, operation: &str) -> BenchmarkGroup<'a, WallTime> {
    let mut group = criterion.benchmark_group(format!("routing/{operation}"));
    group.throughput(Throughput::Elements(1));
    group
}

fn parameter(world: &World) -> BenchmarkId {
    BenchmarkId::from_parameter(format!("{}_clients", world.clients.len()))
}

/// What follows is looked at and dropped, as it is once carried out.
fn done(effects: &mut Vec<Effect>) {
    assert!(!black_box(&*effects).is_empty(), "something follows");
    effects.clear();
}

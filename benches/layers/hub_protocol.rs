//! What the service reads of the hub protocol: the handshake of every client, and of followed clients the envelope of each message.

use std::hint::black_box;

use criterion::{BenchmarkId, Criterion, Throughput};
use hubring::frame::record::find_separator;
use hubring::limits::HUB_HANDSHAKE_BYTES_MAX;
use hubring::protocol::hub::handshake::{HandshakeRequest, find_handshake};
use hubring::protocol::hub::message::MessageProtocol;
use hubring::protocol::hub::{Envelope, HubProtocol};

use crate::world::HANDSHAKE;

/// Bytes of the argument.
const SIZES: [usize; 3] = [16, 512, 2048];

pub(crate) fn bench(criterion: &mut Criterion) {
    handshake(criterion);
    records(criterion);
    envelope(criterion);
}

fn handshake(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("hub_protocol/handshake");
    group.throughput(Throughput::Elements(1));
    group.bench_function("request", |bencher| {
        bencher.iter(|| {
            let found = find_handshake(black_box(HANDSHAKE), 0, HUB_HANDSHAKE_BYTES_MAX);
            let record = found.unwrap().unwrap();
            HandshakeRequest::parse(record.json).unwrap()
        });
    });
    group.bench_function("protocol_name", |bencher| {
        bencher.iter(|| HubProtocol::from_name(black_box("messagepack")));
    });
}

/// Where a text record ends.
fn records(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("hub_protocol/find_separator");
    for size in SIZES {
        let mut record = json_invocation(size);
        record.push(0x1e);
        group.throughput(Throughput::Bytes(record.len() as u64));
        group.bench_function(BenchmarkId::from_parameter(size), |bencher| {
            bencher.iter(|| find_separator(black_box(&record)));
        });
    }
}

fn envelope(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("hub_protocol/envelope");
    for size in SIZES {
        for (name, protocol, record) in [
            ("json", MessageProtocol::Json, json_invocation(size)),
            (
                "messagepack",
                MessageProtocol::MessagePack,
                messagepack_invocation(size),
            ),
        ] {
            assert!(Envelope::read(protocol, &record).is_ok());
            group.throughput(Throughput::Bytes(record.len() as u64));
            group.bench_function(BenchmarkId::new(name, size), |bencher| {
                bencher.iter(|| black_box(Envelope::read(protocol, black_box(&record))).is_ok());
            });
        }
    }
}

fn json_invocation(argument_bytes: usize) -> Vec<u8> {
    let argument = "x".repeat(argument_bytes);
    format!(
        "{{\"type\":1,\"invocationId\":\"17\",\"target\":\"Echo\",\"arguments\":[\"{argument}\"]}}"
    )
    .into_bytes()
}

/// `[1, {}, "17", "Echo", [argument], []]`
fn messagepack_invocation(argument_bytes: usize) -> Vec<u8> {
    let mut record = b"\x96\x01\x80\xa217\xa4Echo\x91\xda".to_vec();
    record.extend((argument_bytes as u16).to_be_bytes());
    record.extend(vec![b'x'; argument_bytes]);
    record.push(0x90);
    record
}

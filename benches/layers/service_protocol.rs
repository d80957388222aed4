//! Service messages ⇄ bytes, by type. Payloads are of 2 KB: they are not looked at, only written.

use std::hint::black_box;

use criterion::{BatchSize, Criterion, Throughput};
use hubring::frame::record::VarintRecords;
use hubring::limits::SERVICE_MESSAGE_BYTES_MAX;
use hubring::protocol::service::{
    Ack, AckStatus, ClientCompletion, ClientInvocation, CloseConnection, KEEP_ALIVE_PING,
    MultiGroupBroadcastData, MultiUserData, OpenConnection, Ping, connection_data_header, decode,
};

use crate::messages::{
    Outgoing, broadcast, data, encoded, join_with_ack, leave_with_ack, to_connection, to_group,
    to_user,
};

const ID: &str = "_ty6mwEjRWeJq83v_ty6mA";
const PAYLOAD: &[u8] = &[b'x'; 2048];
/// Where a message that comes in two pieces is cut.
const CUT_AT: usize = 1000;

pub(crate) fn bench(criterion: &mut Criterion) {
    decode_whole(criterion);
    decode_cut(criterion);
    encode(criterion);
    header(criterion);
    split(criterion);
}

fn decode_whole(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("service_protocol/decode");
    group.throughput(Throughput::Elements(1));
    for (name, message) in messages() {
        let message = encoded(message);
        group.bench_function(name, |bencher| {
            bencher.iter(|| black_box(decode(&[black_box(&message)])).is_ok());
        });
    }
}

/// The same for a message that straddles two receive buffers.
fn decode_cut(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("service_protocol/decode_cut");
    group.throughput(Throughput::Elements(1));
    for (name, message) in [
        ("connection_data", data(ID, PAYLOAD)),
        ("broadcast", broadcast(PAYLOAD)),
    ] {
        let message = encoded(message);
        let (head, tail) = message.split_at(CUT_AT);
        group.bench_function(name, |bencher| {
            bencher.iter(|| black_box(decode(&[black_box(head), black_box(tail)])).is_ok());
        });
    }
}

/// With the payload, into memory that is there.
fn encode(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("service_protocol/encode");
    group.throughput(Throughput::Elements(1));
    for (name, message) in messages() {
        let mut bytes = Vec::with_capacity(2 * SERVICE_MESSAGE_ROOM_BYTES);
        group.bench_function(name, |bencher| {
            bencher.iter(|| {
                bytes.clear();
                black_box(&message).encode(&mut bytes);
                black_box(&bytes);
            });
        });
    }
}

/// What a relay to an app server writes in front of a payload.
fn header(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("service_protocol/encode_header");
    group.throughput(Throughput::Elements(1));
    group.bench_function("connection_data", |bencher| {
        bencher.iter(|| connection_data_header(black_box(ID), black_box(PAYLOAD.len())));
    });
}

/// Where messages begin and end in a receive buffer full of them.
fn split(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("service_protocol/split");
    for (name, message, count) in [
        ("keep_alive_ping", KEEP_ALIVE_PING.to_vec(), 1000),
        ("connection_data", framed(&data(ID, PAYLOAD)), 4),
    ] {
        group.throughput(Throughput::Elements(count as u64));
        let buffer = message.repeat(count);
        group.bench_function(name, |bencher| {
            bencher.iter_batched(
                || VarintRecords::new(SERVICE_MESSAGE_BYTES_MAX as u32),
                |mut records| {
                    let mut at = 0;
                    while let Some(piece) = records.next(black_box(&buffer), &mut at).unwrap() {
                        black_box(piece);
                    }
                },
                BatchSize::SmallInput,
            );
        });
    }
}

/// More than any message here takes, in both encodings.
const SERVICE_MESSAGE_ROOM_BYTES: usize = 4 * 1024;

/// One message of each type that is frequent with some app server.
fn messages() -> Vec<(&'static str, Outgoing<'static>)> {
    let users = ["ann", "bob", "eve"];
    vec![
        ("ping", Ping::default().into()),
        ("open_connection", open_connection().into()),
        ("close_connection", CloseConnection::of(ID).into()),
        ("connection_data", data(ID, PAYLOAD)),
        ("multi_connection_data", to_connection(ID, PAYLOAD)),
        ("user_data", to_user("ann", PAYLOAD)),
        (
            "multi_user_data",
            MultiUserData {
                user_ids: users.into_iter().map(Into::into).collect(),
                payloads: [("json", PAYLOAD)].into_iter().collect(),
                filter: None,
                tracing_id: None,
            }
            .into(),
        ),
        ("broadcast_data", broadcast(PAYLOAD)),
        ("group_broadcast_data", to_group("group-17", PAYLOAD)),
        (
            "multi_group_broadcast_data",
            MultiGroupBroadcastData {
                groups: users.into_iter().map(Into::into).collect(),
                payloads: [("json", PAYLOAD)].into_iter().collect(),
                filter: None,
                tracing_id: None,
            }
            .into(),
        ),
        ("join_group_with_ack", join_with_ack(ID, "group-17")),
        ("leave_group_with_ack", leave_with_ack(ID, "group-17")),
        ("ack", ack().into()),
        ("client_invocation", invocation().into()),
        ("client_completion", completion().into()),
    ]
}

fn open_connection() -> OpenConnection<'static> {
    let claims = [("nameid", "ann"), ("role", "admin"), ("aud", "chat")];
    OpenConnection {
        connection_id: ID.into(),
        claims: claims
            .into_iter()
            .map(|(kind, value)| (kind.into(), value.into()))
            .collect(),
        query_string: "?hub=chat&asrs.op=%2Fchat&asrs_request_id=x".into(),
        protocol: Some("json".into()),
        ..OpenConnection::default()
    }
}

fn ack() -> Ack<'static, &'static [u8]> {
    Ack {
        ack_id: 17,
        status: AckStatus::Ok,
        message: "".into(),
        payload: None,
    }
}

fn invocation() -> ClientInvocation<'static, &'static [u8]> {
    ClientInvocation {
        invocation_id: "s-17".into(),
        connection_id: ID.into(),
        caller_server_id: "app".into(),
        payloads: [("json", PAYLOAD)].into_iter().collect(),
        tracing_id: None,
    }
}

fn completion() -> ClientCompletion<'static, &'static [u8]> {
    ClientCompletion {
        invocation_id: "s-17".into(),
        connection_id: ID.into(),
        caller_server_id: "app".into(),
        protocol: Some("json".into()),
        payload: PAYLOAD,
        tracing_id: None,
    }
}

fn framed(message: &Outgoing<'_>) -> Vec<u8> {
    let mut bytes = Vec::new();
    message.encode(&mut bytes);
    bytes
}

//! Bytes ⇄ WebSocket frames, by size of the payload: whole, and cut as app servers and receive buffers cut them.

use std::hint::black_box;

use criterion::{BatchSize, BenchmarkId, Criterion, Throughput};
use hubring::frame::websocket::{self, Data, Decoder, Event, Limits, MessageKind, OpCode, Role};
use hubring::limits::RECEIVE_BUFFER_BYTES;

const SIZES: [usize; 5] = [16, 128, 2 * 1024, 16 * 1024, 64 * 1024];
/// Sizes that are cut at all.
const CUT_SIZES: [usize; 3] = [8 * 1024, 16 * 1024, 64 * 1024];
/// The SDK's frames are no longer.
const SDK_FRAME_BYTES: usize = 4096;
const MASK: [u8; 4] = [0x37, 0xfa, 0x21, 0x3d];

pub(crate) fn bench(criterion: &mut Criterion) {
    decode_whole(criterion);
    decode_cut(criterion);
    unmask(criterion);
    encode(criterion);
}

/// One frame in one buffer: what a client sends.
fn decode_whole(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("frame/decode");
    for size in SIZES {
        group.throughput(Throughput::Bytes(size as u64));
        let frame = frame(Data::Binary, true, &vec![b'x'; size]);
        group.bench_function(BenchmarkId::from_parameter(size), |bencher| {
            let mut decoder = decoder();
            bencher.iter_batched_ref(
                || frame.clone(),
                |frame| decode(&mut decoder, frame),
                BatchSize::SmallInput,
            );
        });
    }
}

/// One message in frames of 4 KB, in receive buffers that end where they will.
fn decode_cut(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("frame/decode_cut");
    for size in CUT_SIZES {
        group.throughput(Throughput::Bytes(size as u64));
        let message = message_in_frames(size);
        group.bench_function(BenchmarkId::from_parameter(size), |bencher| {
            let mut decoder = decoder();
            bencher.iter_batched_ref(
                || message.clone(),
                |message| {
                    for buffer in message.chunks_mut(RECEIVE_BUFFER_BYTES) {
                        decode(&mut decoder, buffer);
                    }
                },
                BatchSize::SmallInput,
            );
        });
    }
}

fn unmask(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("frame/unmask");
    for size in SIZES {
        group.throughput(Throughput::Bytes(size as u64));
        let mut payload = vec![b'x'; size];
        group.bench_function(BenchmarkId::from_parameter(size), |bencher| {
            bencher.iter(|| websocket::mask(black_box(&mut payload), black_box(MASK), 1));
        });
    }
}

/// Only the header: a payload stays where it is.
fn encode(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("frame/encode_header");
    for size in SIZES {
        group.throughput(Throughput::Elements(1));
        group.bench_function(BenchmarkId::from_parameter(size), |bencher| {
            bencher.iter(|| {
                websocket::header(MessageKind::Binary, true, black_box(size as u64), None)
            });
        });
    }
}

fn decoder() -> Decoder {
    let limits = Limits {
        message_bytes_max: u64::MAX,
        frames_per_message_max: u32::MAX,
        text_checked: false,
    };
    Decoder::new(Role::Server, limits)
}

fn decode(decoder: &mut Decoder, buffer: &mut [u8]) {
    let mut at = 0;
    while let Some(event) = decoder.next(buffer, &mut at).unwrap() {
        debug_assert!(matches!(event, Event::Data(_)), "only data was written");
        black_box(event);
    }
}

fn message_in_frames(size: usize) -> Vec<u8> {
    let payload = vec![b'x'; size];
    let frames = payload.chunks(SDK_FRAME_BYTES).enumerate();
    let frames = frames.map(|(index, part)| {
        let data = if index == 0 {
            Data::Binary
        } else {
            Data::Continue
        };
        frame(data, (index + 1) * SDK_FRAME_BYTES >= size, part)
    });
    frames.flatten().collect()
}

/// A masked frame.
fn frame(data: Data, is_final: bool, payload: &[u8]) -> Vec<u8> {
    let header = websocket::header(
        OpCode::Data(data),
        is_final,
        payload.len() as u64,
        Some(MASK),
    );
    let mut frame = header.to_vec();
    frame.extend_from_slice(payload);
    websocket::mask(&mut frame[header.len()..], MASK, 0);
    frame
}

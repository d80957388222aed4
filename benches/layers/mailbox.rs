//! The hop from shard to shard: posting and taking within one thread, in a stream between two, and with waking the reader each time.
//!
//! A reader is woken by its thread being unparked. In the service it is an eventfd that the runtime waits for, whose price is the
//! kernel's.

use std::hint::black_box;
use std::sync::mpsc::channel;
use std::thread::{JoinHandle, Thread};
use std::time::Instant;

use criterion::{Criterion, Throughput};
use hubring::id::{ConnectionId, ShardId};
use hubring::limits::MAILBOX_DEPTH;
use hubring::routing::Mail;
use hubring::shard::Delivery;
use hubring::shard::mailbox::{Mailbox, Postbox, Signal, mailbox};

pub(crate) fn bench(criterion: &mut Criterion) {
    within_one_thread(criterion);
    stream(criterion);
    round_trip(criterion);
}

/// What posting and taking cost by themselves.
fn within_one_thread(criterion: &mut Criterion) {
    let (postbox, mailbox) = mailbox(MAILBOX_DEPTH, Unpark(std::thread::current()));
    let mut group = criterion.benchmark_group("mailbox/within_one_thread");
    group.throughput(Throughput::Elements(1));
    group.bench_function("hop", |bencher| {
        bencher.iter(|| {
            post(&postbox, mail());
            black_box(mailbox.take())
        });
    });
}

/// One thread posts as fast as another takes: the price of memory that goes from core to core.
fn stream(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("mailbox/between_two_threads");
    group.throughput(Throughput::Elements(1));
    group.bench_function("hop_in_a_stream", |bencher| {
        bencher.iter_custom(|count| {
            let (postbox, reader) = reader(move |mailbox| {
                for _ in 0..count {
                    drop(black_box(next(mailbox)));
                }
            });
            let started = Instant::now();
            for _ in 0..count {
                post(&postbox, mail());
            }
            reader.join().unwrap();
            started.elapsed()
        });
    });
}

/// To a reader that sleeps, and back to one that sleeps too: two hops and two wake-ups.
fn round_trip(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("mailbox/between_two_threads");
    group.throughput(Throughput::Elements(1));
    group.bench_function("round_trip_with_wake", |bencher| {
        bencher.iter_custom(|count| {
            let (back, answers) = mailbox(MAILBOX_DEPTH, Unpark(std::thread::current()));
            let (postbox, reader) = reader(move |mailbox| {
                for _ in 0..count {
                    post(&back, next(mailbox));
                }
            });
            let started = Instant::now();
            for _ in 0..count {
                post(&postbox, mail());
                drop(black_box(next(&answers)));
            }
            let elapsed = started.elapsed();
            reader.join().unwrap();
            elapsed
        });
    });
}

type Mails = Mailbox<Delivery>;
type Post = Postbox<Delivery, Unpark>;

/// Wakes a reader that is parked.
#[derive(Clone)]
struct Unpark(Thread);

impl Signal for Unpark {
    fn signal(&self) {
        self.0.unpark();
    }
}

/// A thread with a mailbox of its own.
fn reader(work: impl FnOnce(&Mails) + Send + 'static) -> (Post, JoinHandle<()>) {
    let (tell, told) = channel();
    let thread = std::thread::spawn(move || {
        let (postbox, mailbox) = mailbox(MAILBOX_DEPTH, Unpark(std::thread::current()));
        tell.send(postbox).unwrap();
        work(&mailbox);
    });
    (told.recv().unwrap(), thread)
}

/// Waits for the next mail, as a shard does.
fn next(mailbox: &Mails) -> Delivery {
    loop {
        if let Some(delivery) = mailbox.take() {
            return delivery;
        }
        if mailbox.sleep() {
            std::thread::park();
            mailbox.wake();
        }
    }
}

fn post(postbox: &Post, mut delivery: Delivery) {
    while let Err(back) = postbox.post(delivery) {
        delivery = back;
        std::thread::yield_now();
    }
}

/// The lightest there is: what it holds is not what is measured.
fn mail() -> Delivery {
    let id = ConnectionId::new(ShardId(0), 17);
    Delivery::Mail(Mail::Moved { id, to: None })
}

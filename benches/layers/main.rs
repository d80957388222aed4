//! What each layer costs, taken by itself and without sockets.
//!
//! Names are `layer/operation/size`. What is measured is told apart from what is prepared; everything random comes from a fixed seed.
//! `cargo bench -p hubring-benches -- routing` runs one layer; `cargo test -p hubring-benches --benches` runs each measurement once, to
//! see that it works. Costs of the kernel are no part of this: those are the load generator's.

#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a measurement that cannot be set up fails by panicking"
)]

mod fan_out;
mod frame;
mod hub_protocol;
mod mailbox;
mod messages;
mod routing;
mod service_protocol;
mod world;

use std::time::Duration;

use criterion::Criterion;

fn main() {
    // All of it within three minutes: a measurement that is this short tells 5 % apart, and that is enough to see where cost has gone.
    let mut criterion = Criterion::default()
        .warm_up_time(Duration::from_millis(300))
        .measurement_time(Duration::from_millis(800))
        .sample_size(20)
        .nresamples(10_000)
        .configure_from_args();
    frame::bench(&mut criterion);
    service_protocol::bench(&mut criterion);
    hub_protocol::bench(&mut criterion);
    routing::bench(&mut criterion);
    fan_out::bench(&mut criterion);
    mailbox::bench(&mut criterion);
    criterion.final_summary();
}

//! The data plane from outside: real sockets, hand-made frames, and the counters to look at afterwards. One property per file.

#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test fails by panicking"
)]
#![expect(
    clippy::wildcard_enum_match_arm,
    reason = "whatever is not expected is a failure"
)]

mod admission;
mod back_pressure;
mod bad_input;
mod buffers;
mod conformance;
mod cuts;
mod drain;
mod echo;
mod expiry;
mod faults;
mod http_clients;
mod http_peers;
mod idle;
mod order;
mod order_under_load;
mod peers;
mod races;
mod rebalance;
mod resets;
mod resumption;
mod server_ends;
mod stage;

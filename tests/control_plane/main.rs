//! The control plane from outside: what becomes of a connection on which one HTTP request follows another. One property per file.

#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test fails by panicking"
)]
#![expect(
    clippy::wildcard_enum_match_arm,
    reason = "whatever is not expected is a failure"
)]

mod bad_heads;
mod departures;
mod drain;
mod http;
mod keep_alive;
#[expect(dead_code, reason = "the data plane's tests need more of it")]
#[path = "../data_plane/peers.rs"]
mod peers;
mod smuggling;
#[expect(dead_code, reason = "the data plane's tests need more of it")]
#[path = "../data_plane/stage.rs"]
mod stage;
mod transports;
mod upgrades;

//! What the data plane takes from the allocator, and what it copies, once it is warm: nothing for a relayed message.
//!
//! A whole service runs in this process, with real sockets on loopback, and only the memory that its shard's thread takes is counted.
//! Copied bytes are what the service counts itself, and the test knows how many bytes went through it.
//!
//! With `HUBRING_TRACE_ALLOCATIONS` set to a number, so many allocations of each cost that is taken are shown with where they come from.

#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test fails by panicking"
)]
#![expect(
    clippy::wildcard_enum_match_arm,
    reason = "whatever is not expected is a failure"
)]

mod counting;
mod fan_out;
mod relay;
mod scene;

#[path = "../data_plane/peers.rs"]
#[expect(dead_code, reason = "other tests need more of it")]
mod peers;
#[path = "../data_plane/stage.rs"]
#[expect(dead_code, reason = "other tests need more of it")]
mod stage;

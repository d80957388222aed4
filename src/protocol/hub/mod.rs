//! The language between clients and app servers, as SignalR's `HubProtocol` document defines it.
//!
//! A connection begins with a [`handshake`], always in JSON, in which the client names the hub protocol of everything after it.
//! The service reads that one record. What follows passes through it unread, unless the client is followed: then the service reads the
//! [`envelope`] of each message.

pub mod envelope;
pub mod handshake;
pub mod json;
pub mod message;
pub mod messagepack;

#[cfg(test)]
mod tests;

pub use envelope::Envelope;
#[cfg(any(test, fuzzing))]
pub use envelope::fuzz_hub_envelope;
#[cfg(any(test, fuzzing))]
pub use handshake::fuzz_hub_handshake;
pub use handshake::{HandshakeError, HandshakeRequest, HubProtocol};

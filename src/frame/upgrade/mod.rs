//! The HTTP/1.1 request that asks for a WebSocket, and the answers to it.
//!
//! Only what an upgrade needs of HTTP is here: the [head](RequestHead) of a request, whether it asks for a WebSocket as RFC 6455 §4.2.1
//! wants it, and complete responses without a body or with a line of text. Requests of any other kind are parsed just far enough to
//! tell them apart, and to know [where they end](BodyLength); whoever answers them parses them again.
//!
//! The parser is strict where lenience lets two programs disagree on where a request ends: bare line feeds, folded headers, blanks
//! before a colon, several hosts, a body in front of WebSocket frames. Such a request is refused, never repaired.

mod accept;
mod body;
mod head;
pub mod query;
#[cfg(test)]
mod recorded;
mod response;

#[cfg(any(test, fuzzing))]
mod properties;

pub use accept::{UpgradeError, UpgradeKey};
pub use body::{BodyError, BodyLength};
pub use head::{
    HEAD_BYTES_MAX, HEADERS_MAX, HeadError, RequestHead, TARGET_BYTES_MAX, origin_of_refused, parse,
};
#[cfg(any(test, fuzzing))]
pub use properties::fuzz_request_head;
pub use response::{CorsHeaders, add_cors_headers, cors_headers, refusal, switching_protocols};

//! Bytes ⇄ frames and records, without sockets.
//!
//! * [`websocket`]: RFC 6455 frames, decoded in place.
//! * [`upgrade`]: the HTTP/1.1 request that asks for a WebSocket, and its answers.
//! * [`record`]: the two ways in which SignalR marks where a message ends.
//! * [`server_sent_events`]: what clients read who cannot have a WebSocket.
#![forbid(unsafe_code)]

pub mod record;
pub mod server_sent_events;
pub mod upgrade;
pub mod websocket;

//! Frames ⇄ messages, without sockets.
//!
//! * [`service`]: what an app server and the service say to each other.
//! * [`hub`]: what a client and a hub say to each other. The service itself reads only the hub handshake.
//! * [`negotiate`]: the HTTP exchange that tells a client where to connect.
//! * [`access_token`], [`connection_string`]: who may come in, and how an app server is told of it.
#![forbid(unsafe_code)]

pub mod access_token;
pub mod connection_string;
pub mod hub;
pub mod negotiate;
pub mod service;

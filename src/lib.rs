//! A self-hosted service that is wire-compatible with Azure SignalR Service: app servers built with the Azure SignalR SDK connect to
//! it, their clients are redirected to it, and it carries every message between them. Linux, io_uring, one thread per core.
//!
//! Each module imports only from the rows above its own. Up to [`routing`] nothing knows a socket, a thread, a clock, randomness or
//! the environment: bytes and the time come in as arguments, values and effects go out.
//!
//! | | |
//! |---|---|
//! | [`id`], [`chunk`], [`limits`], [`counters`] | names and numbers, shared bytes, every bound of the service, what is counted |
//! | [`frame`] | bytes ⇄ frames: WebSocket, the HTTP upgrade, SignalR's records |
//! | [`protocol`] | frames ⇄ messages: service protocol, hub protocol, negotiate, access tokens |
//! | [`routing`] | messages → effects: who is connected, in which group, and where a message has to go |
//! | [`config`] | what an operator decides |
//! | [`shard`] | the data plane's I/O: one pinned thread per core, with all that concerns io_uring in [`shard::ring`] |
//! | [`inspector`] | a look into running shards |
//! | [`control`] | plain HTTP: negotiate, health, metrics, listings |
//! | [`service`] | a whole service, started and stopped as one |
//!
//! Apart from all that stands [`app_server`], the other end of the service protocol: with it a Rust program serves hubs behind the
//! service. It shares [`frame`], [`protocol`] and [`id`] with the service and nothing else.
//!
//! To read along with a message from a client: [`shard`] says what a turn is, `shard::receiving` decodes in place,
//! [`routing::Router::on_client_data`] says what follows, and `shard::delivery` queues it for its socket. To read along with a
//! connection: [`shard::admission`], then the order of calls in [`routing`]. What the wire looks like is said by
//! [`protocol::service`].
//!
//! As a library this is what the `hubring` program is made of, and its interfaces may change with any version; [`app_server`] is meant
//! to be used by others.

pub mod app_server;
pub mod chunk;
pub mod config;
pub mod control;
pub mod counters;
pub mod frame;
pub mod id;
pub mod inspector;
pub mod limits;
pub mod protocol;
pub mod routing;
pub mod service;
pub mod shard;

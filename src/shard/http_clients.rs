//! Clients whose transport is HTTP requests: on Server-Sent Events or long polling. They live in the control plane; here they are clients like
//! any other, with an [`Outlet`] in the place of a socket.
//!
//! | | a client on a socket | a client here |
//! |---|---|---|
//! | is named by | the slot of its socket | its slot here and [`SocketKey::OUTLET`] |
//! | sends | what the kernel has received | [`Delivery::HttpData`](super::Delivery::HttpData), answered when it has been passed on |
//! | is paused | it is not read | what it sends waits without an answer, one piece at most |
//! | is sent to | through an outbox, in frames | through its outlet, as whole hub messages |
//! | is too slow | more than it may waits behind what is being sent | more than it may waits in its outlet |
//! | is closed | a close frame behind what waits | the end of its outlet behind what waits |
//! | is gone | after its last completion | after [`Delivery::HttpClosed`](super::Delivery::HttpClosed) |
//!
//! Invariants:
//! * The control plane says of each client that has been adopted, once, that it has gone: also after the end of its outlet, when it has
//!   taken it or given it up. Until then the slot is kept, and a shard that drains waits for it.
//! * What a client sends is passed on in the order in which it came.
//! * A client that is resumed is heard only after the effects that are being carried out: what the router had held of it goes first.

use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use slab::Slab;
use tokio::sync::oneshot;

use super::outlet::Outlet;
use super::place::ClientPlace;
use super::{Chunk, Shard};
use crate::frame::websocket;
use crate::limits::{HTTP_CLIENTS_MAX, OUTLET_BYTES_MAX};
use crate::routing::{ClientKey, CloseCause, NewClient, SocketKey};

/// A client on another transport than a WebSocket, which belongs to this shard now.
#[derive(Debug)]
pub struct AdmittedHttpClient {
    /// What the router has to know.
    pub new: NewClient,
    /// Where it is counted.
    pub place: ClientPlace,
    /// Where what is sent to it goes.
    pub outlet: Arc<Outlet>,
    /// Is told by what name the shard knows it. Dropped if the shard does not take it.
    pub adopted: oneshot::Sender<SocketKey>,
}

/// Bytes from such a client.
#[derive(Debug)]
pub struct HttpData {
    /// Who.
    pub client: SocketKey,
    /// Hub messages, cut anywhere.
    pub bytes: Vec<u8>,
    /// Is told when they have been passed on, which may take until its app server has room. Dropped if the client is gone, or if others
    /// are waiting for that already.
    pub taken: oneshot::Sender<()>,
}

impl Shard {
    /// Takes over a client that the control plane serves.
    pub(super) fn adopt_http_client(&mut self, client: AdmittedHttpClient, now: Instant) {
        let AdmittedHttpClient {
            new,
            place,
            outlet,
            adopted,
        } = client;
        debug_assert_eq!(place.shard, self.id, "it is posted to where it belongs");
        if self.is_draining() || self.http_clients.len() >= HTTP_CLIENTS_MAX {
            self.counters.refused.increment();
            return;
        }
        let key = self.http_clients.insert(outlet);
        let client = self
            .router
            .on_client_adopted(key, new, now, &mut self.effects);
        if let Some(state) = self.http_clients.get_mut(key) {
            state.role = Some((client, place));
        }
        self.apply_effects(&[], None, now);
        self.count_http_clients();
        if adopted.send(key).is_err() {
            // It has gone before it could be told, so nobody will say so.
            self.on_http_closed(key, now);
        }
    }

    /// Such a client has sent something.
    pub(super) fn on_http_data(&mut self, data: HttpData, now: Instant) {
        let client = self.http_clients.get_mut(data.client);
        if client.is_some_and(|client| client.waiting.is_none()) {
            self.hear(data, now);
        }
    }

    /// Such a client has gone. What waits for it is of no use any more.
    pub(super) fn on_http_closed(&mut self, key: SocketKey, now: Instant) {
        let Some(client) = self.http_clients.remove(key) else {
            return;
        };
        // Somebody may yet wait for something to come.
        client.outlet.abort();
        if let Some((client, place)) = client.role {
            self.router.on_client_closed(client, now, &mut self.effects);
            self.apply_effects(&[], None, now);
            drop(place);
        }
        self.count_http_clients();
    }

    /// Passes on what has waited while its client was paused.
    pub(super) fn hear_resumed(&mut self, now: Instant) {
        while !self.http_clients.resumed.is_empty() {
            for key in std::mem::take(&mut self.http_clients.resumed) {
                let client = self.http_clients.get_mut(key);
                if let Some(data) = client.and_then(|client| client.waiting.take()) {
                    self.hear(data, now);
                }
            }
        }
    }

    /// Queues what is for one client, if it is such a client.
    #[cold]
    pub(super) fn relay_to_outlet(&mut self, key: SocketKey, payload: &[Chunk], now: Instant) {
        if !self.http_clients.contains(key) {
            return;
        }
        let slices: Vec<&[u8]> = payload.iter().map(|chunk| &**chunk).collect();
        let message = self.count_copied(slices.concat());
        self.push_to_outlet(key, message, now);
    }

    /// Queues what is for many, if this is such a client. They all share the `copy`, which the first of them makes.
    #[cold]
    pub(super) fn fan_out_to_outlet(
        &mut self,
        key: SocketKey,
        frame: &[u8],
        copy: &mut Option<Bytes>,
        now: Instant,
    ) {
        if !self.http_clients.contains(key) {
            return;
        }
        let message = copy.get_or_insert_with(|| {
            let payload = websocket::payload(frame);
            debug_assert!(payload.is_some(), "a fan-out is one whole frame");
            self.count_copied(payload.unwrap_or_default().to_vec())
        });
        self.push_to_outlet(key, message.clone(), now);
    }

    /// Ends an outlet whose client the router knows no more.
    pub(super) fn close_outlet(&mut self, key: SocketKey, cause: CloseCause) {
        let Some(client) = self.http_clients.get_mut(key) else {
            return;
        };
        tracing::debug!(shard = %self.id, ?cause, "closes a client without a socket");
        client.end(cause == CloseCause::SlowConsumer);
    }

    fn push_to_outlet(&mut self, key: SocketKey, message: Bytes, now: Instant) {
        let Some(client) = self.http_clients.get_mut(key) else {
            return;
        };
        if message.is_empty() {
            // Nobody could tell it from nothing.
            return;
        }
        let waiting = client.outlet.push(message);
        if waiting <= OUTLET_BYTES_MAX {
            return;
        }
        if let Some((client, place)) = client.end(true) {
            self.counters.slow_consumers.increment();
            tracing::info!(shard = %self.id, bytes = waiting, "closed a client that is too slow");
            self.router.on_client_closed(client, now, &mut self.effects);
            self.apply_effects(&[], None, now);
            drop(place);
        }
    }

    /// Passes on what a client has sent, unless it has to wait. Other than the few KB that are read of a socket at a time this may be
    /// much, so there has to be room before, or many clients together would bring down the server connection that they share.
    fn hear(&mut self, data: HttpData, now: Instant) {
        let key = data.client;
        let Some(who) = self.http_clients.known(key) else {
            return;
        };
        if let Some(server) = self.router.server_socket(who) {
            self.pause_client(key, server);
        }
        let Some(client) = self.http_clients.get_mut(key) else {
            return;
        };
        if client.is_paused {
            client.waiting = Some(data);
            return;
        }
        if !data.bytes.is_empty() {
            let payload = Chunk::from(data.bytes);
            self.router
                .on_client_data(who, payload, now, &mut self.effects);
            self.apply_effects(&[], None, now);
        }
        // Who has sent it may have stopped waiting.
        let _ = data.taken.send(());
    }

    fn count_copied(&self, message: Vec<u8>) -> Bytes {
        self.counters.copied_bytes_outlet.add(message.len() as u64);
        message.into()
    }

    fn count_http_clients(&self) {
        let count = self.http_clients.len() as u64;
        self.counters.http_clients.set(count);
    }
}

/// All such clients of a shard.
#[derive(Debug, Default)]
pub(super) struct HttpClients {
    slots: Slab<HttpClient>,
    generations: u32,
    /// Those that have been resumed while something of them waited.
    resumed: Vec<SocketKey>,
}

#[derive(Debug)]
struct HttpClient {
    generation: u32,
    /// Who it is and where it is counted, as long as the router knows it.
    role: Option<(ClientKey, ClientPlace)>,
    outlet: Arc<Outlet>,
    is_paused: bool,
    /// What it has sent since it was paused.
    waiting: Option<HttpData>,
}

impl HttpClients {
    pub(super) fn len(&self) -> usize {
        self.slots.len()
    }

    /// As the router knows it, if it does.
    fn known(&mut self, key: SocketKey) -> Option<ClientKey> {
        let (client, _) = self.get_mut(key)?.role.as_ref()?;
        Some(*client)
    }

    /// The place of one that the router knows.
    pub(super) fn place_mut(&mut self, key: SocketKey) -> Option<&mut ClientPlace> {
        let (_, place) = self.get_mut(key)?.role.as_mut()?;
        Some(place)
    }

    /// Lets what a client sends wait. False if it does already, or is not here.
    pub(super) fn pause(&mut self, key: SocketKey) -> bool {
        self.get_mut(key)
            .is_some_and(|client| !std::mem::replace(&mut client.is_paused, true))
    }

    /// Lets a client be heard again, though not at once: see [`Shard::hear_resumed`].
    pub(super) fn resume(&mut self, key: SocketKey) {
        if let Some(client) = self.get_mut(key) {
            client.is_paused = false;
            if client.waiting.is_some() {
                self.resumed.push(key);
            }
        }
    }

    fn insert(&mut self, outlet: Arc<Outlet>) -> SocketKey {
        self.generations = self.generations.wrapping_add(1);
        let generation = self.generations;
        let slot = self.slots.insert(HttpClient {
            generation,
            role: None,
            outlet,
            is_paused: false,
            waiting: None,
        });
        SocketKey {
            slot: slot as u32 | SocketKey::OUTLET,
            generation,
        }
    }

    fn contains(&mut self, key: SocketKey) -> bool {
        self.get_mut(key).is_some()
    }

    fn get_mut(&mut self, key: SocketKey) -> Option<&mut HttpClient> {
        self.slots
            .get_mut(slot_of(key)?)
            .filter(|client| client.generation == key.generation)
    }

    fn remove(&mut self, key: SocketKey) -> Option<HttpClient> {
        self.get_mut(key)?;
        self.slots.try_remove(slot_of(key)?)
    }
}

impl HttpClient {
    /// Nothing more is sent to it, nor heard of it. Who it was, if the router has not forgotten it already.
    fn end(&mut self, drops_what_waits: bool) -> Option<(ClientKey, ClientPlace)> {
        self.waiting = None;
        if drops_what_waits {
            self.outlet.abort();
        } else {
            self.outlet.end();
        }
        self.role.take()
    }
}

/// `None` for the key of a socket.
fn slot_of(key: SocketKey) -> Option<usize> {
    let is_outlet = key.slot & SocketKey::OUTLET != 0;
    is_outlet.then_some((key.slot & !SocketKey::OUTLET) as usize)
}

#[cfg(test)]
mod tests;

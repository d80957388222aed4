//! Client results: an app server asks a client, and the answer finds its way back.
//!
//! If the app server that asks is also the one that has the client, the answer travels as ordinary data and nothing is kept here. If
//! not, the client's own app server is told that an answer will come (it gets the invocation too, before the client does), hands the
//! answer back as a completion, and the service sends that on to who asked.

use std::collections::BTreeMap;
use std::ops::Range;
use std::rc::Rc;
use std::time::{Duration, Instant};

use rustc_hash::FxHashMap;

use super::service_messages::{Absent, Source};
use super::{Effect, HubId, Origin, Router};
use crate::frame::record::write_varint;
use crate::id::ConnectionId;
use crate::limits::{INVOCATIONS_PER_HUB_MAX, NAME_BYTES_MAX};
use crate::protocol::service::{
    ClientCompletion, ClientInvocation, ErrorCompletion, Message, Payloads, ServiceMapping,
};

/// How often it is looked whether an invocation has waited too long.
const EXPIRY_INTERVAL: Duration = Duration::from_secs(10);

/// Invocations that wait for a client of this shard whose app server is another one than asked.
#[derive(Debug, Default)]
pub(super) struct Invocations {
    by_hub: FxHashMap<HubId, FxHashMap<Rc<str>, Pending>>,
    /// What waits for each client, so that one that leaves costs no search, and neither does an answer of one that owes many.
    by_client: BTreeMap<(ConnectionId, u64), Rc<str>>,
    last_number: u64,
    next_expiry: Option<Instant>,
}

#[derive(Debug)]
struct Pending {
    client: ConnectionId,
    /// Tells it from others that wait for the same client.
    number: u64,
    caller: Origin,
    caller_server_id: Box<str>,
    since: Instant,
}

impl Router {
    pub(super) fn handle_invocation(
        &mut self,
        source: Source<'_>,
        invocation: &ClientInvocation<'_, Range<usize>>,
        now: Instant,
        effects: &mut Vec<Effect>,
    ) {
        let key = match self.locate_here(source, &invocation.connection_id, effects) {
            Ok(key) => key,
            Err(Absent::Elsewhere) => return,
            Err(Absent::Nowhere) => {
                let error = format!("Connection {} not found", invocation.connection_id);
                return self.refuse_invocation(source, invocation, &error, effects);
            }
        };
        let Some(client) = self.clients.get(key) else {
            return;
        };
        if invocation.payloads.get(client.protocol.name()).is_none() {
            let error = format!(
                "The invocation has no payload for the protocol '{}' of the client.",
                client.protocol.name()
            );
            return self.refuse_invocation(source, invocation, &error, effects);
        }
        let Some(owner) = client.server.and_then(|server| self.server(server)) else {
            let error = format!("Connection '{}' has no app server at present.", client.id);
            return self.refuse_invocation(source, invocation, &error, effects);
        };
        if *owner.server_id != *invocation.caller_server_id {
            let owner_socket = owner.socket;
            if let Some(error) = self.limit_reached(source.hub, invocation) {
                self.counters.invocations_refused.increment();
                return self.refuse_invocation(source, invocation, error, effects);
            }
            let pending = Pending {
                client: client.id,
                number: self.invocations.next_number(),
                caller: source.origin.clone(),
                caller_server_id: invocation.caller_server_id.as_ref().into(),
                since: now,
            };
            self.invocations
                .insert(source.hub, &invocation.invocation_id, pending);
            effects.push(Effect::ToServer {
                server: owner_socket,
                messages: announcement(invocation),
            });
            let mapping = self.mapping(invocation);
            self.answer(source.hub, source.origin, mapping, effects);
        }
        if let Some(client) = self.clients.get_mut(key)
            && let Some(traffic) = &mut client.traffic
        {
            traffic.on_invocation(&invocation.invocation_id);
        }
        self.deliver(source, &[key], &invocation.payloads, effects);
    }

    /// The client's app server has its answer. Without payload it says only that it needs no help: it asked itself.
    pub(super) fn handle_completion(
        &mut self,
        source: Source<'_>,
        completion: &ClientCompletion<'_, Range<usize>>,
        effects: &mut Vec<Effect>,
    ) {
        match self.invocations.take(source.hub, &completion.invocation_id) {
            Some(_) if completion.payload.is_empty() => {}
            Some(pending) => self.answer(source.hub, &pending.caller, as_received(source), effects),
            None => self.pass_completion_on(source, &completion.connection_id, effects),
        }
    }

    pub(super) fn handle_error_completion(
        &mut self,
        source: Source<'_>,
        completion: &ErrorCompletion<'_>,
        effects: &mut Vec<Effect>,
    ) {
        match self.invocations.take(source.hub, &completion.invocation_id) {
            Some(pending) => self.answer(source.hub, &pending.caller, as_received(source), effects),
            None => self.pass_completion_on(source, &completion.connection_id, effects),
        }
    }

    /// A client has left, or has lost its app server, without answering.
    pub(super) fn fail_invocations_of(
        &mut self,
        hub: HubId,
        client: ConnectionId,
        effects: &mut Vec<Effect>,
    ) {
        let failed = self.invocations.take_all_of(hub, client);
        if failed.is_empty() {
            return;
        }
        let error = format!("Connection '{client}' is disconnected.");
        self.fail(hub, failed, &error, effects);
    }

    pub(super) fn expire_invocations(
        &mut self,
        now: Instant,
        timeout: Duration,
        effects: &mut Vec<Effect>,
    ) {
        if self.invocations.next_expiry.is_some_and(|next| now < next) {
            return;
        }
        self.invocations.next_expiry = Some(now + EXPIRY_INTERVAL);
        let hubs: Vec<HubId> = self.invocations.by_hub.keys().copied().collect();
        for hub in hubs {
            let failed = self.invocations.take_older(hub, timeout, now);
            self.fail(hub, failed, "The client did not answer in time.", effects);
        }
    }

    fn fail(
        &mut self,
        hub: HubId,
        failed: Vec<(Rc<str>, Pending)>,
        error: &str,
        effects: &mut Vec<Effect>,
    ) {
        for (invocation_id, pending) in failed {
            let id = pending.client.text();
            let message = ErrorCompletion {
                invocation_id: (&*invocation_id).into(),
                connection_id: std::str::from_utf8(&id).unwrap_or_default().into(),
                caller_server_id: (&*pending.caller_server_id).into(),
                error: error.into(),
                tracing_id: None,
            };
            self.answer(hub, &pending.caller, encoded(message), effects);
        }
    }

    /// A completion may have come on a server connection of another shard than the client's.
    fn pass_completion_on(
        &mut self,
        source: Source<'_>,
        connection_id: &str,
        effects: &mut Vec<Effect>,
    ) {
        // If the client is here after all, or nowhere, nobody waits for this.
        let _ = self.locate_here(source, connection_id, effects);
    }

    fn refuse_invocation(
        &mut self,
        source: Source<'_>,
        invocation: &ClientInvocation<'_, Range<usize>>,
        error: &str,
        effects: &mut Vec<Effect>,
    ) {
        let message = ErrorCompletion {
            invocation_id: invocation.invocation_id.clone(),
            connection_id: invocation.connection_id.clone(),
            caller_server_id: invocation.caller_server_id.clone(),
            error: error.into(),
            tracing_id: None,
        };
        self.answer(source.hub, source.origin, encoded(message), effects);
    }

    /// Why an invocation must not be kept, if so.
    fn limit_reached(
        &self,
        hub: HubId,
        invocation: &ClientInvocation<'_, Range<usize>>,
    ) -> Option<&'static str> {
        let longest = invocation
            .invocation_id
            .len()
            .max(invocation.caller_server_id.len());
        if longest > NAME_BYTES_MAX {
            return Some("The invocation has too long an id.");
        }
        (self.invocations.count(hub) >= INVOCATIONS_PER_HUB_MAX)
            .then_some("Too many invocations wait for clients of this hub.")
    }

    /// Tells who asked on which instance the client is.
    fn mapping(&self, invocation: &ClientInvocation<'_, Range<usize>>) -> Vec<u8> {
        encoded(ServiceMapping {
            invocation_id: invocation.invocation_id.clone(),
            connection_id: invocation.connection_id.clone(),
            instance_id: (&*self.instance_id).into(),
        })
    }
}

impl Invocations {
    fn count(&self, hub: HubId) -> usize {
        self.by_hub.get(&hub).map_or(0, FxHashMap::len)
    }

    fn next_number(&mut self) -> u64 {
        self.last_number += 1;
        self.last_number
    }

    fn insert(&mut self, hub: HubId, invocation_id: &str, pending: Pending) {
        // An id that is used again means the later invocation.
        self.take(hub, invocation_id);
        let id: Rc<str> = invocation_id.into();
        let of_client = (pending.client, pending.number);
        self.by_client.insert(of_client, Rc::clone(&id));
        self.by_hub.entry(hub).or_default().insert(id, pending);
    }

    fn take(&mut self, hub: HubId, invocation_id: &str) -> Option<Pending> {
        let pending = self.take_from_hub(hub, invocation_id)?;
        self.by_client.remove(&(pending.client, pending.number));
        Some(pending)
    }

    /// In the order in which they came.
    fn take_all_of(&mut self, hub: HubId, client: ConnectionId) -> Vec<(Rc<str>, Pending)> {
        let of_client = self.by_client.range((client, 0)..=(client, u64::MAX));
        let ids: Vec<Rc<str>> = of_client.map(|(_, id)| Rc::clone(id)).collect();
        ids.into_iter()
            .filter_map(|id| self.take(hub, &id).map(|pending| (id, pending)))
            .collect()
    }

    fn take_older(&mut self, hub: HubId, age: Duration, now: Instant) -> Vec<(Rc<str>, Pending)> {
        let ids: Vec<Rc<str>> = match self.by_hub.get(&hub) {
            Some(by_id) => by_id
                .iter()
                .filter(|(_, pending)| now.duration_since(pending.since) >= age)
                .map(|(id, _)| Rc::clone(id))
                .collect(),
            None => Vec::new(),
        };
        ids.into_iter()
            .filter_map(|id| self.take(hub, &id).map(|pending| (id, pending)))
            .collect()
    }

    fn take_from_hub(&mut self, hub: HubId, invocation_id: &str) -> Option<Pending> {
        let by_id = self.by_hub.get_mut(&hub)?;
        let pending = by_id.remove(invocation_id);
        if by_id.is_empty() {
            self.by_hub.remove(&hub);
        }
        pending
    }
}

/// The invocation as the client's own app server gets it. It needs no payload: it will see the client's answer.
fn announcement(invocation: &ClientInvocation<'_, Range<usize>>) -> Vec<u8> {
    encoded(ClientInvocation {
        invocation_id: invocation.invocation_id.clone(),
        connection_id: invocation.connection_id.clone(),
        caller_server_id: invocation.caller_server_id.clone(),
        payloads: Payloads::default(),
        tracing_id: None,
    })
}

fn encoded<'a>(message: impl Into<Message<'a, &'a [u8]>>) -> Vec<u8> {
    let mut bytes = Vec::new();
    message.into().encode(&mut bytes);
    bytes
}

/// The message that is being handled, with its length prefix again.
fn as_received(source: Source<'_>) -> Vec<u8> {
    let length: usize = source.message.iter().map(|chunk| chunk.len()).sum();
    let mut bytes = Vec::with_capacity(length + 5);
    write_varint(length as u32, &mut bytes);
    for chunk in source.message {
        bytes.extend_from_slice(chunk);
    }
    bytes
}

#[cfg(test)]
impl Invocations {
    pub(super) fn is_empty(&self) -> bool {
        self.by_hub.is_empty() && self.by_client.is_empty()
    }

    /// What must hold between any two events.
    pub(super) fn check(&self, is_here: impl Fn(ConnectionId) -> bool) {
        let mut waiting = 0;
        for by_id in self.by_hub.values() {
            assert!(!by_id.is_empty(), "an empty table is removed");
            for (id, pending) in by_id {
                waiting += 1;
                assert!(
                    is_here(pending.client),
                    "nothing waits for a client that has left"
                );
                let of_client = self.by_client.get(&(pending.client, pending.number));
                assert_eq!(of_client, Some(id));
            }
        }
        assert_eq!(self.by_client.len(), waiting, "both tables hold the same");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::id::ShardId;
    use crate::routing::{ServerKey, ServerRef};

    /// Half are answered, half run out of time. A search among all that one client owes would take minutes for each half, and for
    /// the second one all at once.
    #[test]
    fn a_client_that_owes_many_answers_costs_no_search() {
        const HUB: HubId = HubId(0);
        let since = Instant::now();
        let server = ServerKey {
            slot: 0,
            generation: 1,
        };
        let caller = Origin {
            server: ServerRef {
                shard: ShardId(0),
                server,
            },
            server_id: "a".into(),
        };
        let client = ConnectionId::new(ShardId(0), 7);
        let mut invocations = Invocations::default();
        for number in 0..INVOCATIONS_PER_HUB_MAX {
            let pending = Pending {
                client,
                number: invocations.next_number(),
                caller: caller.clone(),
                caller_server_id: "a".into(),
                since,
            };
            invocations.insert(HUB, &number.to_string(), pending);
        }
        for number in (1..INVOCATIONS_PER_HUB_MAX).step_by(2) {
            assert!(invocations.take(HUB, &number.to_string()).is_some());
        }
        invocations.check(|_| true);
        let late = invocations.take_older(HUB, Duration::ZERO, since);
        assert_eq!(late.len(), INVOCATIONS_PER_HUB_MAX / 2);
        assert!(invocations.is_empty());
        let taken = since.elapsed();
        assert!(taken < Duration::from_secs(10), "{taken:?}");
    }
}

//! What keeps server connections going, and what ends those that must not go on.
//!
//! Every few seconds each is pinged, without which the SDK would say nothing and give up. From time to time the ping is an echo, which
//! measures the round trip. One on which nothing comes is closed, its clients with it, even if its socket takes nothing more.
//!
//! A server connection is never closed for a cause without a word: the SDK logs the text of a `ServiceError`, and stops writing to the
//! connection. Before the handshake response it would take that for a broken service, so there the response carries the text. When the
//! service stops there is no fault to report.

use std::time::Instant;

use super::server::ServerPhase;
use super::{CloseCause, Effect, Router, ServerKey};
use crate::limits::{SERVER_PING_INTERVAL, SERVER_SILENCE_MAX, TICK};
use crate::protocol::service::{self, KEEP_ALIVE_PING, write_ping};

const SILENT: &str = "Nothing came on the server connection for too long.";
const HANDSHAKE_LATE: &str = "The handshake request did not come in time.";
const TOO_FAR_BEHIND: &str = "The app server does not take what its clients send.";

impl Router {
    /// A server connection has broken the protocol in a way that leaves its stream unreadable.
    pub fn on_server_fault(
        &mut self,
        server: ServerKey,
        text: &str,
        now: Instant,
        effects: &mut Vec<Effect>,
    ) {
        self.close_server(server, CloseCause::ProtocolError, text, now, effects);
    }

    /// A message on a server connection is longer than it may be.
    pub fn on_server_message_too_long(
        &mut self,
        server: ServerKey,
        text: &str,
        now: Instant,
        effects: &mut Vec<Effect>,
    ) {
        self.close_server(server, CloseCause::MessageTooLong, text, now, effects);
    }

    /// More waits for an app server than may.
    pub fn on_server_too_far_behind(
        &mut self,
        server: ServerKey,
        now: Instant,
        effects: &mut Vec<Effect>,
    ) {
        let cause = CloseCause::TooFarBehind;
        self.close_server(server, cause, TOO_FAR_BEHIND, now, effects);
    }

    /// Closes a server connection for a cause, which its app server is told, and with it its clients.
    pub(super) fn close_server(
        &mut self,
        server: ServerKey,
        cause: CloseCause,
        text: &str,
        now: Instant,
        effects: &mut Vec<Effect>,
    ) {
        let Some(state) = self.server(server) else {
            return;
        };
        let socket = state.socket;
        let mut messages = Vec::new();
        match state.phase {
            // An error in the response, instead of a close, makes the SDK back off.
            ServerPhase::Handshake { .. } => {
                service::write_handshake_response(text, Some(&state.connection_id), &mut messages);
            }
            ServerPhase::Routable | ServerPhase::SendOnly => {
                service::write_service_error(text, &mut messages);
            }
        }
        effects.push(Effect::ToServer {
            server: socket,
            messages,
        });
        effects.push(Effect::CloseServer {
            server: socket,
            cause,
        });
        self.on_server_closed(server, now, effects);
    }

    pub(super) fn keep_servers_alive(&mut self, now: Instant, effects: &mut Vec<Effect>) {
        let mut lost = Vec::new();
        let mut slowest_us = 0;
        for (slot, server) in &mut self.servers {
            let key = ServerKey {
                slot: slot as u32,
                generation: server.generation,
            };
            if let ServerPhase::Handshake { deadline } = server.phase {
                if now >= deadline {
                    self.counters.handshakes_failed.increment();
                    lost.push((key, CloseCause::HandshakeTimeout, HANDSHAKE_LATE));
                }
                continue;
            }
            if now.duration_since(server.last_heard) >= SERVER_SILENCE_MAX {
                self.counters.silent_servers.increment();
                lost.push((key, CloseCause::Silent, SILENT));
                continue;
            }
            let mut messages = Vec::new();
            if now.duration_since(server.last_ping) + TICK >= SERVER_PING_INTERVAL {
                server.last_ping = now;
                messages.extend_from_slice(&KEEP_ALIVE_PING);
            }
            if let Some(number) = server.round_trip.poll(now) {
                write_ping(&["echo", &number.to_string()], &mut messages);
            }
            if !messages.is_empty() {
                effects.push(Effect::ToServer {
                    server: server.socket,
                    messages,
                });
            }
            if let Some(time) = server.round_trip.time() {
                slowest_us = slowest_us.max(time.as_micros() as u64);
            }
        }
        self.counters.server_round_trip_us_max.set(slowest_us);
        for (key, cause, text) in lost {
            self.close_server(key, cause, text, now, effects);
        }
    }
}

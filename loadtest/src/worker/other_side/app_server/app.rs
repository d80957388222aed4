//! The app server without its sockets: all server connections, the clients on them, and the calls that are due.
//!
//! Order: [`App::on_bytes`] for what has come on a server connection, [`App::on_turn`] once in each turn; after either,
//! [`App::outgoing`] is to be sent, as one WebSocket message of each server connection.
//!
//! Calls go out where those of the SDK go out: a send to a client on that client's own server connection, users and groups always on
//! the same one each, joins and leaves, which hub methods ask for, on the client's own. Broadcasts take turns, as those of hub methods
//! do whose callers are everywhere; the calls of a burst stay together.

use std::ops::Range;
use std::time::Instant;

use super::calls::Calls;
use super::clients::{Client, Clients, Turn};
use super::conversation::{Conversation, News};
use super::memberships::{GroupRule, Memberships, write_group_name};
use super::streams::{CallKind, Stream};
use crate::error::LoadError;
use crate::job::{HubProtocol, Job, Load};
use crate::worker::due_time::{self, SharedClock};
use crate::worker::payload::{ECHO, OTHER_SIDE, invocation};

/// Groups that clients join and leave in a mixed load.
const MIXED_CHANGED_GROUPS: u64 = 100;

/// Everything but sockets.
#[derive(Debug)]
pub(super) struct App {
    hub_protocol: HubProtocol,
    conversations: Vec<Conversation>,
    /// Empty unless clients are addressed one by one.
    clients: Clients,
    keeps_clients: bool,
    groups: GroupRule,
    memberships: Memberships,
    streams: Vec<Stream>,
    calls: Calls,
    clock: SharedClock,
    /// Where a hub message tells when it was due. None: it has no room for that.
    due_time_at: Option<Range<usize>>,
    /// How many get a broadcast and read it.
    receivers: u64,
    /// Groups that clients join and leave.
    changed_groups: u64,
    sending: Sending,
    /// Messages that were sent to clients beside echoes, once for each of them, and those that have arrived, echoes included.
    sent: u64,
    arrived: u64,
    group_name: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Sending {
    No,
    /// As soon as all clients are in their groups.
    Soon,
    Yes,
}

/// What only some loads need.
#[derive(Clone, Copy, Debug, Default)]
struct Needs {
    /// Clients are addressed one by one.
    clients: bool,
    /// Groups that clients join and leave.
    changed_groups: u64,
    /// Clients that read nothing.
    stalled_clients: u64,
}

impl Needs {
    fn of(load: &Load) -> Self {
        let none = Self::default();
        let clients = Self {
            clients: true,
            ..none
        };
        match *load {
            Load::SendToConnection { .. } | Load::SendToUser { .. } => clients,
            Load::Membership { groups, .. } => Self {
                changed_groups: u64::from(groups.max(1)),
                ..clients
            },
            Load::Mixed { .. } => Self {
                changed_groups: MIXED_CHANGED_GROUPS,
                ..clients
            },
            Load::SlowConsumers { stalled, .. } => Self {
                stalled_clients: stalled.into(),
                ..none
            },
            Load::Echo { .. }
            | Load::Broadcast { .. }
            | Load::SendToGroup { .. }
            | Load::Idle
            | Load::Connect { .. }
            | Load::Reconnect { .. } => none,
        }
    }
}

impl App {
    pub(super) fn new(job: &Job) -> Self {
        let clients = u64::from(job.clients_total);
        let groups = GroupRule::of(&job.load, clients);
        let payload_bytes = job.payload_bytes as usize;
        let (hub_message, text) = invocation(job.hub_protocol, ECHO, OTHER_SIDE, 0, payload_bytes);
        let needs = Needs::of(&job.load);
        let mut app = Self {
            hub_protocol: job.hub_protocol,
            conversations: Vec::new(),
            clients: Clients::default(),
            keeps_clients: needs.clients,
            groups,
            memberships: Memberships::new(groups),
            streams: Stream::of(job, groups),
            clock: SharedClock::look(),
            due_time_at: due_time::place(&hub_message, &text),
            calls: Calls::new(job.hub_protocol, hub_message),
            receivers: clients.saturating_sub(needs.stalled_clients),
            changed_groups: needs.changed_groups,
            sending: Sending::No,
            sent: 0,
            arrived: 0,
            group_name: String::new(),
        };
        app.begin(job.server_connections as usize);
        app
    }

    /// Begins all server connections, or begins them anew after they have been lost with whatever was under way on them.
    pub(super) fn begin(&mut self, server_connections: usize) {
        let reports_clients = self.keeps_clients || self.groups.has_groups();
        let begin = || Conversation::new(self.hub_protocol, reports_clients);
        self.conversations = std::iter::repeat_with(begin)
            .take(server_connections)
            .collect();
        self.clients = Clients::default();
        self.memberships.forget();
        self.sent = self.arrived;
    }

    /// Something has come on the server connection at this position.
    pub(super) fn on_bytes(&mut self, connection: usize, bytes: &[u8]) -> Result<(), LoadError> {
        let Self {
            conversations,
            clients,
            keeps_clients,
            memberships,
            ..
        } = self;
        let Some(conversation) = conversations.get_mut(connection) else {
            return Ok(());
        };
        conversation.on_bytes(bytes, &mut |news| match news {
            News::Opened {
                connection_id,
                user_id,
            } => {
                memberships.enter(connection_id, connection);
                if *keeps_clients {
                    clients.insert(Client {
                        connection_id: connection_id.into(),
                        user_id: user_id.unwrap_or_default().into(),
                        connection,
                    });
                }
            }
            News::Closed { connection_id } => clients.remove(connection_id),
            News::Acked { ack_id } => memberships.on_ack(ack_id),
        })
    }

    /// Answers what has been read and calls what is due. `arrived` counts the messages of all clients, echoes included.
    pub(super) fn on_turn(&mut self, now: Instant, arrived: u64) -> Result<(), LoadError> {
        self.arrived = arrived;
        self.memberships.send_joins(&mut self.conversations);
        if self.sending == Sending::Soon && self.memberships.are_complete() {
            self.start_streams(now)?;
        }
        if self.sending == Sending::Yes {
            self.call_all_due(now, |_| true);
        }
        Ok(())
    }

    /// What is to be sent on a server connection as one WebSocket message; whoever sends it clears it.
    pub(super) fn outgoing(&mut self, connection: usize) -> Option<&mut Vec<u8>> {
        let clients_in_hub = self.conversations.iter().map(Conversation::clients).sum();
        let conversation = self.conversations.get_mut(connection)?;
        conversation.answer_ping(clients_in_hub);
        Some(conversation.outgoing())
    }

    pub(super) fn start(&mut self) {
        self.sending = Sending::Soon;
    }

    /// What was due before `end` is late already, and counts.
    pub(super) fn stop(&mut self, end: Instant) {
        if self.sending == Sending::Yes {
            self.call_all_due(end, Stream::is_timed);
        }
        self.sending = Sending::No;
    }

    /// Whether calls are made at their times.
    pub(super) fn is_timed(&self) -> bool {
        self.sending == Sending::Yes && self.streams.iter().any(Stream::is_timed)
    }

    /// Calls that are due at `now` but have not been made.
    pub(super) fn behind(&self, now: Instant) -> u64 {
        let streams = self.streams.iter();
        let timed = streams.filter(|stream| self.sending == Sending::Yes && stream.is_timed());
        timed.map(|stream| stream.due(now, 0)).sum()
    }

    /// Whether the service has taken all server connections.
    pub(super) fn is_accepted(&self) -> bool {
        self.conversations.iter().all(Conversation::is_accepted)
    }

    /// Whether everything sent has arrived, and every join and leave is done.
    pub(super) fn is_quiet(&self) -> bool {
        self.deliveries_under_way() == 0
            && self.memberships.changing() == 0
            && self.memberships.are_complete()
    }

    pub(super) fn next_due(&self) -> Option<Instant> {
        if self.sending != Sending::Yes {
            return None;
        }
        self.streams.iter().filter_map(Stream::next_due).min()
    }

    /// Joins and leaves done, where they are measured.
    pub(super) fn completed(&self) -> Option<u64> {
        (self.changed_groups > 0).then(|| self.memberships.changed())
    }

    /// When the joins and leaves were due that are done since the last look.
    pub(super) fn take_done(&mut self) -> Vec<Instant> {
        self.memberships.take_done()
    }

    fn start_streams(&mut self, now: Instant) -> Result<(), LoadError> {
        let has_sends_to_users = self
            .streams
            .iter()
            .any(|stream| stream.kind() == CallKind::SendToUser);
        if has_sends_to_users && !self.clients.are_users_of_their_own() {
            return Err(LoadError::NoUser);
        }
        for stream in &mut self.streams {
            stream.start(now);
        }
        self.sending = Sending::Yes;
        Ok(())
    }

    fn call_all_due(&mut self, now: Instant, is_meant: impl Fn(&Stream) -> bool) {
        let mut streams = std::mem::take(&mut self.streams);
        for stream in streams.iter_mut().filter(|stream| is_meant(stream)) {
            self.call_due(stream, now);
        }
        self.streams = streams;
    }

    fn call_due(&mut self, stream: &mut Stream, now: Instant) {
        loop {
            let under_way = match stream.kind() {
                CallKind::Membership => self.memberships.changing(),
                CallKind::SendToAll
                | CallKind::SendToConnection
                | CallKind::SendToUser
                | CallKind::SendToGroup => self.deliveries_under_way(),
            };
            let due = stream.due(now, under_way);
            if due == 0 {
                return;
            }
            for _ in 0..due {
                let number = stream.next();
                let burst = stream.burst_of(number);
                let due = stream.time_of(number, now);
                if let Some(place) = self.due_time_at.clone() {
                    self.calls.set_due(due, self.clock, place);
                }
                if self.call(stream.kind(), number, burst, due).is_none() {
                    return;
                }
            }
        }
    }

    /// Makes one call. `None` if there is nobody whom it would reach.
    fn call(&mut self, kind: CallKind, number: u64, burst: u64, due: Instant) -> Option<()> {
        match kind {
            CallKind::SendToAll => self.send_to_all(burst),
            CallKind::SendToConnection => self.send_to_connection(number),
            CallKind::SendToUser => self.send_to_user(number),
            CallKind::SendToGroup => self.send_to_group(number),
            CallKind::Membership => self.change_membership(number, due),
        }
    }

    fn send_to_all(&mut self, burst: u64) -> Option<()> {
        self.sent += Some(self.receivers).filter(|receivers| *receivers > 0)?;
        self.calls
            .send_to_all(outgoing_of(&mut self.conversations, burst)?);
        Some(())
    }

    fn send_to_connection(&mut self, number: u64) -> Option<()> {
        let client = self.clients.in_turn(number)?.client;
        let conversation = self.conversations.get_mut(client.connection)?;
        self.calls
            .send_to_connection(&client.connection_id, conversation.outgoing());
        self.sent += 1;
        Some(())
    }

    fn send_to_user(&mut self, number: u64) -> Option<()> {
        let Turn {
            client, position, ..
        } = self.clients.in_turn(number)?;
        let out = outgoing_of(&mut self.conversations, position)?;
        self.calls.send_to_user(&client.user_id, out);
        self.sent += 1;
        Some(())
    }

    fn send_to_group(&mut self, number: u64) -> Option<()> {
        let (group, members) = self.groups.in_turn(number)?;
        write_group_name(group, &mut self.group_name);
        let out = outgoing_of(&mut self.conversations, group)?;
        self.calls.send_to_group(&self.group_name, out);
        self.sent += members;
        Some(())
    }

    /// In one round every client joins a group, in the next it leaves it, then it joins another.
    fn change_membership(&mut self, number: u64, due: Instant) -> Option<()> {
        let Turn {
            client,
            position,
            round,
        } = self.clients.in_turn(number)?;
        let conversation = self.conversations.get_mut(client.connection)?;
        let group = (position + round / 2).checked_rem(self.changed_groups)?;
        let joins = round.is_multiple_of(2);
        self.memberships
            .change(client, group, joins, due, conversation.outgoing());
        Some(())
    }

    /// Echoes and what was sent beside them, without what has arrived.
    fn deliveries_under_way(&self) -> u64 {
        let echoed: u64 = self.conversations.iter().map(Conversation::echoed).sum();
        (echoed + self.sent).saturating_sub(self.arrived)
    }
}

/// Where a call goes out that always takes the same server connection, by a number of what it is for.
fn outgoing_of(conversations: &mut [Conversation], number: u64) -> Option<&mut Vec<u8>> {
    let position = number.checked_rem(conversations.len() as u64)?;
    let conversation = conversations.get_mut(position as usize)?;
    Some(conversation.outgoing())
}

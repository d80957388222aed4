//! Joins and leaves: who is in which group, what is under way, and the acks.
//!
//! A client that has come joins its groups before anything is sent to them, as an app does in `OnConnectedAsync`: on its own server
//! connection, each with an ack, so many under way that the service is busy and no outbox grows. A million memberships are a matter of
//! counting; no name is kept.

use std::collections::VecDeque;
use std::fmt::Write as _;
use std::time::Instant;

use super::calls;
use super::clients::Client;
use super::conversation::Conversation;
use crate::job::Load;

/// Joins of new clients that may be under way at a time.
const JOINS_UNDER_WAY_MAX: u64 = 2048;

/// Clients that make one group of a mixed load.
const MIXED_GROUP_MEMBERS: u64 = 10;

/// All that has to do with groups.
#[derive(Debug)]
pub(super) struct Memberships {
    rule: GroupRule,
    /// Clients that have come so far.
    entered: u64,
    /// Those that have not asked for all their groups yet.
    entrants: VecDeque<Entrant>,
    /// Joins of entrants without an ack.
    entering: u64,
    /// Other joins and leaves without an ack.
    changing: u64,
    /// Other joins and leaves with one.
    changed: u64,
    /// When those without an ack were due, by ack id. Acks of different server connections may overtake each other, but not by much.
    due: VecDeque<(i32, Instant)>,
    /// When those were due that have got an ack since the last look.
    done: Vec<Instant>,
    last_ack_id: i32,
    /// The name of the group at hand, in memory that is used again.
    name: String,
}

/// Which groups a client is in.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(in crate::worker) struct GroupRule {
    /// So many clients make one group, in the order in which they came. None: there are no groups.
    members: Option<u64>,
    /// Further groups of each client, which it has to itself.
    idle_groups: u64,
    /// All clients there will be.
    clients: u64,
}

#[derive(Debug)]
struct Entrant {
    connection_id: Box<str>,
    connection: usize,
    number: u64,
    /// Groups that it has asked for.
    asked: u64,
}

impl GroupRule {
    pub(super) fn of(load: &Load, clients: u64) -> Self {
        let (members, idle_groups) = match *load {
            Load::SendToGroup {
                group_members,
                idle_groups,
                ..
            } => (Some(u64::from(group_members.max(1))), idle_groups.into()),
            Load::Mixed { .. } => (Some(MIXED_GROUP_MEMBERS), 0),
            Load::Idle => (Some(1), 0),
            Load::Echo { .. }
            | Load::Broadcast { .. }
            | Load::SendToConnection { .. }
            | Load::SendToUser { .. }
            | Load::Membership { .. }
            | Load::Connect { .. }
            | Load::Reconnect { .. }
            | Load::SlowConsumers { .. } => (None, 0),
        };
        Self {
            members,
            idle_groups,
            clients,
        }
    }

    pub(super) fn has_groups(self) -> bool {
        self.members.is_some()
    }

    /// The group whose turn it is, and how many are in it. `None` if there are no groups.
    pub(super) fn in_turn(self, number: u64) -> Option<(u64, u64)> {
        let members = self.members?;
        let group = number.checked_rem(self.clients.div_ceil(members))?;
        Some((group, members.min(self.clients - group * members)))
    }

    fn groups_per_client(self) -> u64 {
        self.members.map_or(0, |_| 1 + self.idle_groups)
    }

    /// Writes the name of the group that the client with this number asks for after `asked` others.
    fn write_name(self, number: u64, asked: u64, name: &mut String) {
        match asked.checked_sub(1) {
            None => write_group_name(number / self.members.unwrap_or(1), name),
            Some(idle) => rewrite(name, format_args!("idle-{number}-{idle}")),
        }
    }
}

impl Memberships {
    pub(super) fn new(rule: GroupRule) -> Self {
        Self {
            rule,
            entered: 0,
            entrants: VecDeque::new(),
            entering: 0,
            changing: 0,
            changed: 0,
            due: VecDeque::new(),
            done: Vec::new(),
            last_ack_id: 0,
            name: String::new(),
        }
    }

    /// A client has come.
    pub(super) fn enter(&mut self, connection_id: &str, connection: usize) {
        if self.rule.has_groups() {
            self.entrants.push_back(Entrant {
                connection_id: connection_id.into(),
                connection,
                number: self.entered,
                asked: 0,
            });
            self.entered += 1;
        }
    }

    /// Lets those that have come join their groups. They take turns, so that all server connections have their share.
    pub(super) fn send_joins(&mut self, conversations: &mut [Conversation]) {
        while self.entering < JOINS_UNDER_WAY_MAX {
            let Some(mut entrant) = self.entrants.pop_front() else {
                return;
            };
            self.rule
                .write_name(entrant.number, entrant.asked, &mut self.name);
            let ack_id = self.next_ack_id();
            if let Some(conversation) = conversations.get_mut(entrant.connection) {
                let out = conversation.outgoing();
                calls::join(&entrant.connection_id, &self.name, ack_id, out);
                self.entering += 1;
            }
            entrant.asked += 1;
            if entrant.asked < self.rule.groups_per_client() {
                self.entrants.push_back(entrant);
            }
        }
    }

    /// Lets `client` join a group or leave it, which was due at `due`.
    pub(super) fn change(
        &mut self,
        client: &Client,
        group: u64,
        joins: bool,
        due: Instant,
        out: &mut Vec<u8>,
    ) {
        rewrite(&mut self.name, format_args!("member-{group}"));
        let write = if joins { calls::join } else { calls::leave };
        let ack_id = self.next_ack_id();
        write(&client.connection_id, &self.name, ack_id, out);
        self.due.push_back((ack_id, due));
        self.changing += 1;
    }

    /// A join or leave is done. Entrants come first: no client changes groups before all have joined theirs.
    pub(super) fn on_ack(&mut self, ack_id: i32) {
        let position = self.due.iter().position(|(id, _)| *id == ack_id);
        let entry = position.and_then(|position| self.due.remove(position));
        self.done.extend(entry.map(|(_, due)| due));
        if self.entering > 0 {
            self.entering -= 1;
        } else {
            self.changing = self.changing.saturating_sub(1);
            self.changed += 1;
        }
    }

    /// When the joins and leaves were due that are done since the last look.
    pub(super) fn take_done(&mut self) -> Vec<Instant> {
        std::mem::take(&mut self.done)
    }

    /// Whether all clients have come and are in their groups, if there are any.
    pub(super) fn are_complete(&self) -> bool {
        !self.rule.has_groups()
            || self.entered >= self.rule.clients && self.entering == 0 && self.entrants.is_empty()
    }

    /// Joins and leaves under way, without those of clients that have just come.
    pub(super) fn changing(&self) -> u64 {
        self.changing
    }

    /// Joins and leaves done, counted alike.
    pub(super) fn changed(&self) -> u64 {
        self.changed
    }

    /// All server connections are gone, and with them all clients and acks.
    pub(super) fn forget(&mut self) {
        self.entered = 0;
        self.entrants.clear();
        self.entering = 0;
        self.changing = 0;
        self.due.clear();
    }

    fn next_ack_id(&mut self) -> i32 {
        self.last_ack_id = self.last_ack_id.checked_add(1).unwrap_or(1);
        self.last_ack_id
    }
}

/// Writes the name of a group that clients make together.
pub(super) fn write_group_name(group: u64, name: &mut String) {
    rewrite(name, format_args!("group-{group}"));
}

fn rewrite(name: &mut String, text: std::fmt::Arguments<'_>) {
    name.clear();
    name.write_fmt(text).expect("a string takes any text");
}

#[cfg(test)]
mod tests {
    use hubring::frame::record::{RECORD_BYTES_MAX, VarintRecords};
    use hubring::protocol::service::{Message, decode_whole};

    use super::*;
    use crate::job::{HubProtocol, Pacing};

    fn rule(group_members: u32, idle_groups: u32, clients: u64) -> GroupRule {
        let pacing = Pacing::Closed { depth: 1 };
        let load = Load::SendToGroup {
            group_members,
            idle_groups,
            pacing,
        };
        GroupRule::of(&load, clients)
    }

    /// Connection id and group of each join, by server connection.
    fn joins(conversations: &mut [Conversation]) -> Vec<Vec<(String, String)>> {
        let take = |conversation: &mut Conversation| {
            let bytes = std::mem::take(conversation.outgoing());
            let (mut records, mut at) = (VarintRecords::new(RECORD_BYTES_MAX), 0);
            let mut joins = Vec::new();
            while let Some(piece) = records.next(&bytes, &mut at).unwrap() {
                let Message::JoinGroupWithAck(join) = decode_whole(&bytes[piece.range]).unwrap()
                else {
                    continue;
                };
                joins.push((join.connection_id.to_string(), join.group.to_string()));
            }
            joins
        };
        conversations.iter_mut().map(take).collect()
    }

    #[test]
    fn so_many_clients_make_a_group_and_the_last_may_be_smaller() {
        let rule = rule(10, 0, 25);
        let groups: Vec<_> = (0..4).filter_map(|number| rule.in_turn(number)).collect();
        assert_eq!(groups, [(0, 10), (1, 10), (2, 5), (0, 10)]);
        assert_eq!(GroupRule::default().in_turn(0), None);
    }

    #[test]
    fn whoever_comes_joins_its_groups_on_its_own_server_connection() {
        let mut conversations = [(); 2].map(|()| Conversation::new(HubProtocol::Json, true));
        let mut memberships = Memberships::new(rule(2, 1, 3));
        for (number, connection_id) in ["a", "b", "c"].into_iter().enumerate() {
            memberships.enter(connection_id, number % 2);
        }
        assert!(!memberships.are_complete());
        memberships.send_joins(&mut conversations);
        let pair = |connection_id: &str, group: &str| (connection_id.into(), group.into());
        assert_eq!(
            joins(&mut conversations),
            [
                vec![
                    pair("a", "group-0"),
                    pair("c", "group-1"),
                    pair("a", "idle-0-0"),
                    pair("c", "idle-2-0"),
                ],
                vec![pair("b", "group-0"), pair("b", "idle-1-0")],
            ]
        );
        for left in (0..6).rev() {
            assert!(!memberships.are_complete());
            memberships.on_ack(6 - left);
            assert_eq!(memberships.are_complete(), left == 0);
        }
        assert_eq!((memberships.changing(), memberships.changed()), (0, 0));
    }

    #[test]
    fn a_million_joins_wait_for_acks() {
        let mut conversations = [Conversation::new(HubProtocol::Json, true)];
        let mut memberships = Memberships::new(rule(1, 999_999, 1));
        memberships.enter("a", 0);
        let mut asked = 0;
        for _ in 0..3 {
            memberships.send_joins(&mut conversations);
            let now_asked = joins(&mut conversations).concat().len() as u64;
            assert_eq!(now_asked, if asked == 0 { JOINS_UNDER_WAY_MAX } else { 7 });
            asked += now_asked;
            for ack_id in 1..=7 {
                memberships.on_ack(ack_id);
            }
        }
        assert!(!memberships.are_complete());
        memberships.forget();
        memberships.send_joins(&mut conversations);
        assert_eq!(joins(&mut conversations).concat(), []);
    }
}

//! Who is in which group, and who has asked for it.
//!
//! Two shards may ask at a time, and then only they know whose word is the later one. So until all mails have arrived, what concerns one
//! client or one user is asked for on one shard, and in one way, if an order is to be known. Otherwise it is *open*: once all mails
//! have arrived, the model learns the outcome, after the shards have been found to agree on it.

use super::*;

/// What the app servers have asked for.
#[derive(Default)]
pub(super) struct Memberships {
    members: BTreeMap<(&'static str, ClientEnd), Membership>,
    ever: BTreeSet<(&'static str, ClientEnd)>,
    asked: BTreeMap<Subject, Asked>,
    /// What the model cannot know.
    open: BTreeSet<(&'static str, ClientEnd)>,
}

struct Membership {
    /// The join has been acknowledged, or must have arrived: everybody's sends find the member.
    is_certain: bool,
    /// Whose later sends find the member in any case.
    asked_by: Option<ServerEnd>,
    ack_id: Option<i32>,
}

/// Whose memberships change together.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Subject {
    Client(ClientEnd),
    User(HubId, &'static str),
}

/// How a change reaches the shard of the client.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Path {
    Straight,
    /// By the shard that its id names.
    Roundabout,
}

struct Asked {
    shard: usize,
    path: Path,
}

impl Memberships {
    /// Whether what a server connection sends to a group now will find the client there.
    pub(super) fn is_certain(
        &self,
        group: &'static str,
        client: ClientEnd,
        server: ServerEnd,
    ) -> bool {
        let membership = self.members.get(&(group, client));
        !self.open.contains(&(group, client))
            && membership.is_some_and(|it| it.is_certain || it.asked_by == Some(server))
    }

    pub(super) fn has_ever_been(&self, group: &'static str, client: ClientEnd) -> bool {
        self.ever.contains(&(group, client))
    }

    pub(super) fn is_member(&self, group: &'static str, client: ClientEnd) -> bool {
        self.members.contains_key(&(group, client))
    }

    /// Whether a change can be asked for there without its order being unknown.
    pub(super) fn is_ordered(&self, subject: Subject, shard: usize, path: Path) -> bool {
        let asked = self.asked.get(&subject);
        asked.is_none_or(|asked| (asked.shard, asked.path) == (shard, path))
    }

    pub(super) fn note_asked(&mut self, subject: Subject, shard: usize, path: Path) {
        self.asked.entry(subject).or_insert(Asked { shard, path });
    }

    pub(super) fn note_open(&mut self, group: &'static str, client: ClientEnd) {
        self.ever.insert((group, client));
        self.open.insert((group, client));
    }

    pub(super) fn note_joined(
        &mut self,
        group: &'static str,
        client: ClientEnd,
        asked_by: Option<ServerEnd>,
        ack_id: Option<i32>,
    ) {
        self.ever.insert((group, client));
        let membership = self.members.entry((group, client)).or_insert(Membership {
            is_certain: false,
            asked_by: None,
            ack_id: None,
        });
        membership.asked_by = asked_by.or(membership.asked_by);
        membership.ack_id = ack_id.or(membership.ack_id);
    }

    pub(super) fn note_left(&mut self, group: Option<&'static str>, client: ClientEnd) {
        self.members
            .retain(|(of, member), _| *member != client || group.is_some_and(|group| group != *of));
    }

    /// What was asked for has been done.
    pub(super) fn note_done(&mut self, ack_id: i32) {
        for membership in self.members.values_mut() {
            membership.is_certain |= membership.ack_id == Some(ack_id);
        }
    }

    /// All mails have arrived. What could not be known is as `is_member` says.
    pub(super) fn settle(&mut self, is_member: impl Fn(&'static str, ClientEnd) -> bool) {
        for (group, client) in std::mem::take(&mut self.open) {
            self.note_left(Some(group), client);
            if is_member(group, client) {
                self.note_joined(group, client, None, None);
            }
        }
        for membership in self.members.values_mut() {
            membership.is_certain = true;
        }
        self.asked.clear();
    }
}

impl Simulation {
    pub(super) fn change_membership(&mut self) {
        let Some(client) = self.any_client_ever_known() else {
            return;
        };
        let hub = self.world.clients[client.0].hub;
        let (subject, path) = (self.subject_of(client), self.path_to(client));
        let Some(asking) = self.any_speaker(hub) else {
            return;
        };
        let shard = self.world.servers[asking.0].shard;
        if !self.memberships.is_ordered(subject, shard, path) {
            return;
        }
        self.memberships.note_asked(subject, shard, path);
        let (id, group) = (self.world.id(client), self.random.pick(&GROUPS));
        let ack_id = self.number();
        let choice = self.random.below(8);
        let message = match choice {
            0..=2 => join_with_ack(id, group, ack_id),
            3 => join(id, group),
            4 => leave_with_ack(id, Some(group), ack_id),
            5 => leave(id, Some(group)),
            6 => leave_with_ack(id, None, ack_id),
            _ => leave(id, None),
        };
        let ack_id = [0, 1, 2, 4, 6].contains(&choice).then_some(ack_id);
        let deed = match choice {
            0..=3 => format!("join {group}"),
            4..=5 => format!("leave {group}"),
            _ => "leave all groups".to_owned(),
        };
        self.log(format_args!(
            "server connection {} lets client {} {deed} (ack {ack_id:?})",
            asking.0, client.0
        ));
        // What names a connection that has moved goes a longer way than what names its group.
        let asked_by = (path == Path::Straight).then_some(asking);
        match choice {
            0..=3 => self
                .memberships
                .note_joined(group, client, asked_by, ack_id),
            4..=5 => self.note_leave(Some(group), client),
            _ => self.note_leave(None, client),
        }
        if choice > 3 {
            let lacks = GROUPS.into_iter().map(|group| (group, client));
            self.user_groups.may_lack.extend(lacks);
        }
        if let Some(ack_id) = ack_id {
            let was_there = self.world.is_connected(client);
            self.expect_ack(ack_id, asking, Wanted::OfClient { client, was_there });
        }
        self.send(asking, message);
    }

    /// Present members leave. What was sent to the group before may miss them.
    pub(super) fn note_leave(&mut self, group: Option<&'static str>, client: ClientEnd) {
        self.memberships.note_left(group, client);
        self.forgive_group(group, client);
    }

    fn subject_of(&self, client: ClientEnd) -> Subject {
        match self.clients[client.0].user {
            Some(user) => Subject::User(self.world.clients[client.0].hub, user),
            None => Subject::Client(client),
        }
    }

    fn path_to(&self, client: ClientEnd) -> Path {
        let record = &self.world.clients[client.0];
        if record.id.shard().index() == record.shard {
            Path::Straight
        } else {
            Path::Roundabout
        }
    }
}

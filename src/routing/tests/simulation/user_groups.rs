//! Users join and leave groups, with the connections they have and with those to come.

use super::groups::{Path, Subject};
use super::*;

/// What the model knows of the users' groups.
#[derive(Default)]
pub(super) struct UserGroupsModel {
    /// Until when a membership stands.
    standing: BTreeMap<(HubId, &'static str, &'static str), Instant>,
    /// Changes of which some shard may not have heard.
    unsettled: BTreeMap<(HubId, &'static str), Unsettled>,
    /// Clients that have been told to leave while their user may stand.
    pub(super) may_lack: BTreeSet<(&'static str, ClientEnd)>,
}

#[derive(Default)]
struct Unsettled {
    groups: BTreeSet<&'static str>,
    /// The outcome depends on when the shards hear of it.
    is_open: bool,
}

impl UserGroupsModel {
    pub(super) fn stands(
        &self,
        hub: HubId,
        user: &'static str,
        group: &'static str,
        now: Instant,
    ) -> bool {
        let until = self.standing.get(&(hub, user, group));
        until.is_some_and(|until| now < *until)
    }
}

impl Simulation {
    pub(super) fn change_user_groups(&mut self) {
        let hub = self.random.pick(&HUBS);
        let user = self.random.pick(&USERS);
        let Some(asking) = self.any_speaker(hub) else {
            return;
        };
        let shard = self.world.servers[asking.0].shard;
        let subject = Subject::User(hub, user);
        let is_ordered = self.memberships.is_ordered(subject, shard, Path::Straight);
        // Now and then it is the shards that have to find the order.
        if !is_ordered && !self.random.one_in(3) {
            return;
        }
        self.memberships.note_asked(subject, shard, Path::Straight);
        let group = self.random.pick(&GROUPS);
        let ttl_seconds = self.random.pick(&[None, None, Some(0), Some(1), Some(20)]);
        let ack_id = self.random.one_in(2).then(|| self.number());
        let choice = self.random.below(6);
        let message = match (choice, ack_id) {
            (0..=3, Some(ack_id)) => user_join_with_ack(user, group, ttl_seconds, ack_id),
            (0..=3, None) => user_join(user, group, ttl_seconds),
            (4, Some(ack_id)) => user_leave_with_ack(user, Some(group), ack_id),
            (4, None) => user_leave(user, Some(group)),
            (_, Some(ack_id)) => user_leave_with_ack(user, None, ack_id),
            (_, None) => user_leave(user, None),
        };
        let deed = match choice {
            0..=3 => format!("join {group}, time to live {ttl_seconds:?}"),
            4 => format!("leave {group}"),
            _ => "leave all groups".to_owned(),
        };
        self.log(format_args!(
            "server connection {} lets user {user} of hub {} {deed} (ack {ack_id:?})",
            asking.0, hub.0
        ));
        match choice {
            0..=3 => self.note_user_joins((hub, user, group), ttl_seconds, asking, ack_id),
            4 => self.note_user_leaves(hub, user, Some(group)),
            _ => self.note_user_leaves(hub, user, None),
        }
        if !is_ordered {
            self.note_open_user(hub, user);
        }
        if let Some(ack_id) = ack_id {
            self.expect_ack(ack_id, asking, Wanted::Done);
        }
        self.send(asking, message);
    }

    /// A client's app server has been told of it: it joins the groups of its user.
    pub(super) fn note_opened(&mut self, client: ClientEnd) {
        let Some(user) = self.clients[client.0].user else {
            return;
        };
        let hub = self.world.clients[client.0].hub;
        for group in GROUPS {
            if self.user_groups.stands(hub, user, group, self.world.now) {
                self.memberships.note_joined(group, client, None, None);
            }
        }
        if let Some(unsettled) = self.user_groups.unsettled.get(&(hub, user)) {
            let groups = if unsettled.is_open {
                GROUPS.into_iter().collect()
            } else {
                unsettled.groups.clone()
            };
            for group in groups {
                self.memberships.note_open(group, client);
            }
        }
    }

    fn note_user_joins(
        &mut self,
        (hub, user, group): (HubId, &'static str, &'static str),
        ttl_seconds: Option<i32>,
        asking: ServerEnd,
        ack_id: Option<i32>,
    ) {
        for client in self.connections_of(hub, user) {
            self.memberships
                .note_joined(group, client, Some(asking), ack_id);
        }
        let seconds = ttl_seconds.map_or(365 * 24 * 3600, i64::from);
        let until = self.world.now + Duration::from_secs(seconds.unsigned_abs());
        self.user_groups.standing.insert((hub, user, group), until);
        self.user_groups
            .unsettled
            .entry((hub, user))
            .or_default()
            .groups
            .insert(group);
    }

    fn note_user_leaves(&mut self, hub: HubId, user: &'static str, group: Option<&'static str>) {
        for client in self.connections_of(hub, user) {
            self.note_leave(group, client);
        }
        self.user_groups.standing.retain(|(of, who, what), _| {
            (*of, *who) != (hub, user) || group.is_some_and(|group| group != *what)
        });
        let unsettled = self.user_groups.unsettled.entry((hub, user)).or_default();
        unsettled.groups.extend(
            GROUPS
                .into_iter()
                .filter(|it| group.is_none_or(|one| one == *it)),
        );
    }

    /// Only the shards can say what comes of it.
    fn note_open_user(&mut self, hub: HubId, user: &'static str) {
        self.user_groups
            .unsettled
            .entry((hub, user))
            .or_default()
            .is_open = true;
        for client in self.connections_of(hub, user) {
            self.forgive_group(None, client);
            for group in GROUPS {
                self.memberships.note_open(group, client);
            }
        }
    }

    fn connections_of(&self, hub: HubId, user: &'static str) -> Vec<ClientEnd> {
        self.clients_known()
            .filter(|client| {
                self.world.clients[client.0].hub == hub && self.clients[client.0].user == Some(user)
            })
            .collect()
    }

    /// All mails have arrived, and the world has seen that all shards remember the same. So does the model, or learns it now.
    pub(super) fn settle_user_groups(&mut self) {
        let now = self.world.now;
        let memory = &self.world.routers[0].user_groups;
        for ((hub, user), unsettled) in std::mem::take(&mut self.user_groups.unsettled) {
            for group in GROUPS {
                let until = memory.standing_until(hub, user, group);
                let until = until.filter(|until| now < *until);
                let key = (hub, user, group);
                if unsettled.is_open {
                    self.user_groups.standing.remove(&key);
                    let learnt = until.map(|until| (key, until));
                    self.user_groups.standing.extend(learnt);
                }
                let known = self.user_groups.standing.get(&key).copied();
                assert_eq!(known.filter(|until| now < *until), until, "{key:?} stands");
            }
        }
    }

    /// Where a membership of a user stands, the connections are members, unless one of them has been told to leave by itself.
    pub(super) fn check_standing(&self) {
        for (hub, user, group) in self.user_groups.standing.keys().copied() {
            if !self.user_groups.stands(hub, user, group, self.world.now) {
                continue;
            }
            for client in self.connections_of(hub, user) {
                assert!(
                    self.memberships.is_member(group, client)
                        || self.user_groups.may_lack.contains(&(group, client)),
                    "{user} stands in {group}, and client {} does not",
                    client.0
                );
            }
        }
    }
}

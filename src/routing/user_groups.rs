//! User groups: a user is in a group, with the connections it has and with those to come.
//!
//! A user that joins takes its present connections into the group, as if each had joined by its id. Beyond that the membership
//! *stands*: a later connection of the user joins at the moment in which its app server is told of it. How long it stands is the
//! request's to say:
//!
//! | time to live | the membership stands |
//! |---|---|
//! | none | a year, and only if it is among the user's [`UNTIMED_MEMBERSHIPS_PER_USER_MAX`] most recent ones of this kind |
//! | 0, or less | not at all, and one that stood does so no longer |
//! | n | n seconds |
//!
//! When it ends by itself, present members stay. When the user leaves, all its connections leave too, also those that had joined by
//! their id.
//!
//! Memberships need neither clients nor a [`Hub`](super::hub::Hub): they outlive both. Each shard has all of them, so that to open a
//! client asks nobody. A change is made at once by the shard that hears of it and is sent to all others. Two shards may change the
//! same user's same group at a time, so every change carries a stamp: a Lamport clock's count, with the shard to break a tie. The
//! later stamp wins everywhere, in whatever order the changes arrive. For that to hold of what has *ended*, its stamp is kept for a
//! while, as a mark.
//!
//! Invariants:
//! * Once all mails have arrived, every shard remembers the same.
//! * `due` holds each word and each mark once, under the time at which it may be forgotten.
//! * A user is there if there is a word on it or its mark, a hub if it has users.

use std::collections::BTreeSet;
use std::rc::Rc;
use std::time::{Duration, Instant};

use rustc_hash::FxHashMap;
use smallvec::SmallVec;

use super::surveys::Findings;
use super::{ClientKey, HubId, Router};
use crate::id::ShardId;
use crate::limits::{
    GROUPS_PER_CONNECTION_MAX, STANDING_MARK_LIFETIME, STANDING_MEMBERSHIP_LIFETIME,
    STANDING_MEMBERSHIPS_FORGOTTEN_PER_TICK, STANDING_MEMBERSHIPS_MAX,
    UNTIMED_MEMBERSHIPS_PER_USER_MAX,
};

/// Something that a user joins or leaves, as one shard heard it and all have to make it.
#[derive(Debug)]
pub struct UserGroupChange {
    stamp: Stamp,
    user: Box<str>,
    deed: Deed,
    /// How long its stamp is kept even if nothing stands. `None`: not at all.
    marked_until: Option<Instant>,
}

/// As much stands as may: see [`STANDING_MEMBERSHIPS_MAX`] and [`GROUPS_PER_CONNECTION_MAX`].
#[derive(Debug, PartialEq, Eq)]
pub(super) struct TooManyMemberships;

/// What this shard remembers, which is what all of them do.
#[derive(Debug)]
pub(super) struct UserGroups {
    shard: ShardId,
    /// Without other shards nothing can be overtaken, and no marks are needed.
    is_alone: bool,
    clock: u64,
    hubs: FxHashMap<HubId, FxHashMap<Rc<str>, User>>,
    due: BTreeSet<Due>,
}

#[derive(Debug)]
enum Deed {
    Join {
        group: Box<str>,
        standing: Option<StandingMembership>,
        /// Groups of the user in which it no longer stands, to make room.
        displaced: Vec<Box<str>>,
    },
    Leave(Box<str>),
    LeaveAll,
}

/// When something was said, in an order on which all shards agree.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Stamp {
    count: u64,
    shard: ShardId,
}

#[derive(Debug, Default)]
struct User {
    /// When it last left all groups at once, and how long that is remembered.
    left_all: Option<(Stamp, Instant)>,
    groups: FxHashMap<Rc<str>, Word>,
}

/// The last word on one user and one group.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Word {
    stamp: Stamp,
    /// `None`: it has ended, and this is its mark.
    standing: Option<StandingMembership>,
    kept_until: Instant,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct StandingMembership {
    until: Instant,
    /// Its end was asked for.
    is_timed: bool,
}

/// What may be forgotten when. Without a group: that the user left all.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Due {
    at: Instant,
    hub: HubId,
    user: Rc<str>,
    group: Option<Rc<str>>,
}

impl Router {
    /// Makes a change that this or another shard has heard of. What was said later than it stays.
    pub(super) fn change_user_groups(&mut self, hub: HubId, change: &UserGroupChange) -> Findings {
        let is_news = self.user_groups.take_over(hub, change);
        self.count_standing_memberships();
        let Some(state) = self.hubs.get_mut(&hub).filter(|_| is_news) else {
            return Findings::Done(true);
        };
        let connections: SmallVec<[ClientKey; 4]> = state.user(&change.user).into();
        let groups = &mut state.groups;
        let mut is_whole = true;
        for connection in connections {
            match &change.deed {
                Deed::Join { group, .. } => {
                    let clients = &mut self.clients;
                    let joined = groups.join(group, connection, clients, GROUPS_PER_CONNECTION_MAX);
                    if joined.is_err() {
                        self.counters.joins_refused.increment();
                        is_whole = false;
                    }
                }
                Deed::Leave(group) => groups.leave(group, connection, &mut self.clients),
                Deed::LeaveAll => {
                    let memory = &self.user_groups;
                    let is_later = |group: &str| memory.has_word_on(hub, &change.user, group);
                    groups.leave_all_but(connection, &mut self.clients, is_later);
                }
            }
        }
        Findings::Done(is_whole)
    }

    /// Lets a client into the groups in which its user stands.
    pub(super) fn join_standing_groups(&mut self, key: ClientKey, now: Instant) {
        if self.user_groups.is_empty() {
            return;
        }
        let Some(client) = self.clients.get(key) else {
            return;
        };
        let (Some(user), hub) = (&client.user, client.hub) else {
            return;
        };
        let groups = self.user_groups.groups_of(hub, user, now);
        let Some(state) = self.hubs.get_mut(&hub) else {
            return;
        };
        for group in groups {
            let clients = &mut self.clients;
            let joined = state
                .groups
                .join(&group, key, clients, GROUPS_PER_CONNECTION_MAX);
            if joined.is_err() {
                self.counters.joins_refused.increment();
            }
        }
    }

    pub(super) fn forget_user_groups(&mut self, now: Instant) {
        if self.user_groups.forget_due(now) {
            self.count_standing_memberships();
        }
    }

    fn count_standing_memberships(&self) {
        let count = self.user_groups.len() as u64;
        self.counters.standing_memberships.set(count);
    }
}

impl UserGroups {
    pub(super) fn new(shard: ShardId, shard_count: u16) -> Self {
        Self {
            shard,
            is_alone: shard_count == 1,
            clock: 0,
            hubs: FxHashMap::default(),
            due: BTreeSet::new(),
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.hubs.is_empty()
    }

    /// Memberships and marks.
    fn len(&self) -> usize {
        self.due.len()
    }

    /// The change that makes a user join, to be made by [`Router::change_user_groups`].
    pub(super) fn join(
        &mut self,
        hub: HubId,
        user: &str,
        group: &str,
        ttl_seconds: Option<i32>,
        now: Instant,
    ) -> Result<UserGroupChange, TooManyMemberships> {
        let standing = match ttl_seconds {
            None => Some(StandingMembership {
                until: now + STANDING_MEMBERSHIP_LIFETIME,
                is_timed: false,
            }),
            Some(..=0) => None,
            Some(seconds) => Some(StandingMembership {
                until: now + Duration::from_secs(u64::from(seconds.unsigned_abs())),
                is_timed: true,
            }),
        };
        let known = self.user(hub, user);
        if standing.is_some() && !self.has_word_on(hub, user, group) {
            let of_user = known.map_or(0, |known| known.groups.len());
            if self.len() >= STANDING_MEMBERSHIPS_MAX || of_user >= GROUPS_PER_CONNECTION_MAX {
                return Err(TooManyMemberships);
            }
        }
        let displaced = match (standing, known) {
            (Some(standing), Some(known)) if !standing.is_timed => known.displaced_by(group, now),
            _ => Vec::new(),
        };
        let group = group.into();
        let deed = Deed::Join {
            group,
            standing,
            displaced,
        };
        Ok(self.stamped(user, deed, now))
    }

    /// The change that makes a user leave a group, or all.
    pub(super) fn leave(
        &mut self,
        user: &str,
        group: Option<&str>,
        now: Instant,
    ) -> UserGroupChange {
        let deed = match group {
            Some(group) => Deed::Leave(group.into()),
            None => Deed::LeaveAll,
        };
        self.stamped(user, deed, now)
    }

    /// Whether a user stands in a group, connected or not.
    pub(super) fn contains(&self, hub: HubId, user: &str, group: &str, now: Instant) -> bool {
        self.user(hub, user)
            .and_then(|user| user.groups.get(group))
            .is_some_and(|word| word.stands(now))
    }

    fn groups_of(&self, hub: HubId, user: &str, now: Instant) -> SmallVec<[Rc<str>; 8]> {
        let Some(user) = self.user(hub, user) else {
            return SmallVec::new();
        };
        let standing = user.groups.iter().filter(|(_, word)| word.stands(now));
        standing.map(|(group, _)| Rc::clone(group)).collect()
    }

    fn has_word_on(&self, hub: HubId, user: &str, group: &str) -> bool {
        self.user(hub, user)
            .is_some_and(|user| user.groups.contains_key(group))
    }

    fn user(&self, hub: HubId, user: &str) -> Option<&User> {
        self.hubs.get(&hub)?.get(user)
    }

    fn stamped(&mut self, user: &str, deed: Deed, now: Instant) -> UserGroupChange {
        self.clock += 1;
        let stamp = Stamp {
            count: self.clock,
            shard: self.shard,
        };
        // Where there is no room, a change that is late may undo this one.
        let is_marked = !self.is_alone && self.len() < STANDING_MEMBERSHIPS_MAX;
        UserGroupChange {
            stamp,
            user: user.into(),
            deed,
            marked_until: is_marked.then(|| now + STANDING_MARK_LIFETIME),
        }
    }

    /// Remembers a change. False if something later has been said already.
    fn take_over(&mut self, hub: HubId, change: &UserGroupChange) -> bool {
        self.clock = self.clock.max(change.stamp.count);
        let user = &*change.user;
        match &change.deed {
            Deed::Join {
                group,
                standing,
                displaced,
            } => {
                for group in displaced {
                    self.say(hub, user, group, change, None);
                }
                self.say(hub, user, group, change, *standing)
            }
            Deed::Leave(group) => self.say(hub, user, group, change, None),
            Deed::LeaveAll => self.say_left_all(hub, user, change),
        }
    }

    /// Takes a word on one group, unless there is a later one.
    fn say(
        &mut self,
        hub: HubId,
        user: &str,
        group: &str,
        change: &UserGroupChange,
        standing: Option<StandingMembership>,
    ) -> bool {
        let stamp = change.stamp;
        if let Some(known) = self.user(hub, user) {
            let last = known.groups.get(group).map(|word| word.stamp);
            let left_all = known.left_all.map(|(stamp, _)| stamp);
            if last.max(left_all) >= Some(stamp) {
                return false;
            }
        }
        self.forget_word(hub, user, group);
        let kept_until = change.marked_until.max(standing.map(|it| it.until));
        if let Some(kept_until) = kept_until {
            let word = Word {
                stamp,
                standing,
                kept_until,
            };
            self.keep(hub, user, group, word);
        }
        true
    }

    fn say_left_all(&mut self, hub: HubId, user: &str, change: &UserGroupChange) -> bool {
        let stamp = change.stamp;
        let known = self.user(hub, user);
        if known.is_some_and(|known| known.left_all.is_some_and(|(last, _)| last >= stamp)) {
            return false;
        }
        let earlier: Vec<Rc<str>> = known
            .into_iter()
            .flat_map(|known| &known.groups)
            .filter(|(_, word)| word.stamp < stamp)
            .map(|(group, _)| Rc::clone(group))
            .collect();
        for group in earlier {
            self.forget_word(hub, user, &group);
        }
        self.forget_left_all(hub, user);
        if let Some(until) = change.marked_until {
            let (user, known) = self.user_entry(hub, user);
            known.left_all = Some((stamp, until));
            self.due.insert(Due {
                at: until,
                hub,
                user,
                group: None,
            });
        }
        true
    }

    fn keep(&mut self, hub: HubId, user: &str, group: &str, word: Word) {
        let group: Rc<str> = group.into();
        let (user, known) = self.user_entry(hub, user);
        known.groups.insert(Rc::clone(&group), word);
        self.due.insert(Due {
            at: word.kept_until,
            hub,
            user,
            group: Some(group),
        });
    }

    /// A user, new if need be, and its name to be shared.
    fn user_entry(&mut self, hub: HubId, user: &str) -> (Rc<str>, &mut User) {
        let users = self.hubs.entry(hub).or_default();
        let name = match users.get_key_value(user) {
            Some((name, _)) => Rc::clone(name),
            None => user.into(),
        };
        (Rc::clone(&name), users.entry(name).or_default())
    }

    fn forget_word(&mut self, hub: HubId, user: &str, group: &str) {
        let word = self
            .hubs
            .get_mut(&hub)
            .and_then(|users| users.get_mut(user))
            .and_then(|known| known.groups.remove(group));
        if let Some(word) = word {
            self.due.remove(&Due {
                at: word.kept_until,
                hub,
                user: user.into(),
                group: Some(group.into()),
            });
            self.forget_user_if_unused(hub, user);
        }
    }

    fn forget_left_all(&mut self, hub: HubId, user: &str) {
        let mark = self
            .hubs
            .get_mut(&hub)
            .and_then(|users| users.get_mut(user))
            .and_then(|known| known.left_all.take());
        if let Some((_, at)) = mark {
            self.due.remove(&Due {
                at,
                hub,
                user: user.into(),
                group: None,
            });
            self.forget_user_if_unused(hub, user);
        }
    }

    fn forget_user_if_unused(&mut self, hub: HubId, user: &str) {
        let Some(users) = self.hubs.get_mut(&hub) else {
            return;
        };
        if users.get(user).is_some_and(User::is_empty) {
            users.remove(user);
            if users.is_empty() {
                self.hubs.remove(&hub);
            }
        }
    }

    /// Forgets what has ended and whose mark nobody needs any more: not all at once, if it is much. False if there was nothing.
    fn forget_due(&mut self, now: Instant) -> bool {
        let mut is_any = false;
        for _ in 0..STANDING_MEMBERSHIPS_FORGOTTEN_PER_TICK {
            let Some(due) = self.due.first().filter(|due| due.at <= now) else {
                break;
            };
            let (hub, user, group) = (due.hub, Rc::clone(&due.user), due.group.clone());
            match group {
                Some(group) => self.forget_word(hub, &user, &group),
                None => self.forget_left_all(hub, &user),
            }
            is_any = true;
        }
        is_any
    }
}

impl User {
    fn is_empty(&self) -> bool {
        self.left_all.is_none() && self.groups.is_empty()
    }

    /// The groups whose turn it is to be displaced when the user joins one more without saying for how long: the longest unchanged.
    fn displaced_by(&self, group: &str, now: Instant) -> Vec<Box<str>> {
        let mut untimed: Vec<(Stamp, &str)> = self
            .groups
            .iter()
            .filter(|(name, word)| {
                let is_timed = word.standing.is_some_and(|standing| standing.is_timed);
                ***name != *group && word.stands(now) && !is_timed
            })
            .map(|(name, word)| (word.stamp, &**name))
            .collect();
        let surplus = (untimed.len() + 1).saturating_sub(UNTIMED_MEMBERSHIPS_PER_USER_MAX);
        if surplus > 0 {
            untimed.sort_unstable();
        }
        let oldest = untimed.into_iter().take(surplus);
        oldest.map(|(_, name)| name.into()).collect()
    }
}

impl Word {
    fn stands(&self, now: Instant) -> bool {
        self.standing.is_some_and(|standing| now < standing.until)
    }
}

#[cfg(test)]
impl UserGroups {
    /// What must hold between any two events.
    pub(super) fn check(&self) {
        let mut kept = 0;
        let due = |at, hub, user: &Rc<str>, group: Option<&Rc<str>>| Due {
            at,
            hub,
            user: Rc::clone(user),
            group: group.map(Rc::clone),
        };
        for (hub, users) in &self.hubs {
            assert!(!users.is_empty(), "a hub without users is removed");
            for (name, user) in users {
                assert!(!user.is_empty(), "a user without groups is removed");
                for (group, word) in &user.groups {
                    assert!(
                        self.due
                            .contains(&due(word.kept_until, *hub, name, Some(group)))
                    );
                    let last = user.left_all.map(|(stamp, _)| stamp);
                    assert!(Some(word.stamp) > last, "what was left does not stand");
                }
                if let Some((_, until)) = user.left_all {
                    assert!(self.due.contains(&due(until, *hub, name, None)));
                    kept += 1;
                }
                kept += user.groups.len();
            }
        }
        assert_eq!(self.due.len(), kept, "nothing is due that is not kept");
    }

    /// Until when a user stands in a group.
    pub(super) fn standing_until(&self, hub: HubId, user: &str, group: &str) -> Option<Instant> {
        let word = self.user(hub, user)?.groups.get(group)?;
        word.standing.map(|standing| standing.until)
    }

    /// All that is remembered at this time, in an order of its own.
    pub(super) fn memory(&self, now: Instant) -> Vec<String> {
        let mut memory = Vec::new();
        for (hub, users) in &self.hubs {
            for (name, user) in users {
                let of_user = user.groups.iter().filter(|(_, word)| now < word.kept_until);
                memory.extend(
                    of_user.map(|(group, word)| format!("{hub:?} {name} {group} {word:?}")),
                );
                let left_all = user.left_all.filter(|(_, until)| now < *until);
                memory.extend(left_all.map(|mark| format!("{hub:?} {name} {mark:?}")));
            }
        }
        memory.sort();
        memory
    }
}

//! Named sets of client connections within one hub, on one shard.
//!
//! A group exists as long as it has members here. Membership is stored on both sides, and the client knows its place among the
//! members, so that leaving costs the same for a group of ten and of ten thousand.

use std::rc::Rc;

use rustc_hash::FxHashMap;
use slab::Slab;
use smallvec::SmallVec;

use super::ClientKey;
use super::clients::Clients;

/// A group within its hub and shard.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct GroupKey(u32);

#[derive(Debug, Default)]
pub(super) struct Groups {
    by_name: FxHashMap<Rc<str>, GroupKey>,
    groups: Slab<Group>,
}

#[derive(Debug)]
struct Group {
    name: Rc<str>,
    members: Vec<ClientKey>,
}

/// A client is in as many groups as it may be.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct TooManyGroups;

impl Groups {
    /// The members of a group. Empty if there is no such group here.
    pub(super) fn members(&self, name: &str) -> &[ClientKey] {
        self.by_name
            .get(name)
            .and_then(|key| self.groups.get(key.0 as usize))
            .map_or(&[], |group| &group.members)
    }

    /// Makes a client a member. Nothing changes if it is one.
    pub(super) fn join(
        &mut self,
        name: &str,
        member: ClientKey,
        clients: &mut Clients,
        groups_max: usize,
    ) -> Result<(), TooManyGroups> {
        let Some(client) = clients.get_mut(member) else {
            return Ok(());
        };
        let existing = self.by_name.get(name).copied();
        if existing.is_some_and(|key| client.groups.iter().any(|(group, _)| *group == key)) {
            return Ok(());
        }
        if client.groups.len() >= groups_max {
            return Err(TooManyGroups);
        }
        let key = existing.unwrap_or_else(|| self.create(name));
        if let Some(group) = self.groups.get_mut(key.0 as usize) {
            client.groups.push((key, group.members.len() as u32));
            group.members.push(member);
        }
        Ok(())
    }

    /// Ends a membership. Nothing changes if there is none.
    pub(super) fn leave(&mut self, name: &str, member: ClientKey, clients: &mut Clients) {
        let Some(key) = self.by_name.get(name).copied() else {
            return;
        };
        let Some(client) = clients.get_mut(member) else {
            return;
        };
        if let Some(index) = client.groups.iter().position(|(group, _)| *group == key) {
            let (_, place) = client.groups.swap_remove(index);
            self.remove_member(key, place, clients);
        }
    }

    /// Ends all memberships of a client.
    pub(super) fn leave_all(&mut self, member: ClientKey, clients: &mut Clients) {
        let Some(client) = clients.get_mut(member) else {
            return;
        };
        for (key, place) in std::mem::take(&mut client.groups) {
            self.remove_member(key, place, clients);
        }
    }

    /// Ends all memberships of a client but those in groups that `stays` names.
    pub(super) fn leave_all_but(
        &mut self,
        member: ClientKey,
        clients: &mut Clients,
        stays: impl Fn(&str) -> bool,
    ) {
        let Some(client) = clients.get_mut(member) else {
            return;
        };
        let is_left = |key: GroupKey| {
            let group = self.groups.get(key.0 as usize);
            group.is_none_or(|group| !stays(&group.name))
        };
        let (left, kept) = std::mem::take(&mut client.groups)
            .into_iter()
            .partition(|(key, _)| is_left(*key));
        client.groups = kept;
        let left: SmallVec<[(GroupKey, u32); 2]> = left;
        for (key, place) in left {
            self.remove_member(key, place, clients);
        }
    }

    /// Groups that exist here.
    pub(super) fn count(&self) -> usize {
        self.groups.len()
    }

    fn create(&mut self, name: &str) -> GroupKey {
        let name: Rc<str> = name.into();
        let key = GroupKey(self.groups.insert(Group {
            name: Rc::clone(&name),
            members: Vec::new(),
        }) as u32);
        self.by_name.insert(name, key);
        key
    }

    fn remove_member(&mut self, key: GroupKey, place: u32, clients: &mut Clients) {
        let Some(group) = self.groups.get_mut(key.0 as usize) else {
            return;
        };
        if place as usize >= group.members.len() {
            debug_assert!(false, "a membership names a place that exists");
            return;
        }
        group.members.swap_remove(place as usize);
        if let Some(moved) = group.members.get(place as usize)
            && let Some(moved) = clients.get_mut(*moved)
            && let Some(entry) = moved.groups.iter_mut().find(|(group, _)| *group == key)
        {
            entry.1 = place;
        }
        if group.members.is_empty() {
            let group = self.groups.remove(key.0 as usize);
            self.by_name.remove(&group.name);
        }
    }
}

#[cfg(test)]
impl Groups {
    /// What must hold between any two events. How many memberships there are.
    pub(super) fn check(&self, clients: &Clients) -> usize {
        assert_eq!(self.by_name.len(), self.groups.len());
        for (key, group) in &self.groups {
            let key = GroupKey(key as u32);
            assert_eq!(self.by_name.get(&group.name), Some(&key));
            assert!(!group.members.is_empty(), "an empty group is removed");
            for (place, member) in group.members.iter().enumerate() {
                let member = clients.get(*member).expect("a member exists");
                let mut places = Vec::new();
                for (group, place) in &member.groups {
                    if *group == key {
                        places.push(*place);
                    }
                }
                assert_eq!(places, [place as u32], "a member knows its place");
            }
        }
        self.groups
            .iter()
            .map(|(_, group)| group.members.len())
            .sum()
    }
}

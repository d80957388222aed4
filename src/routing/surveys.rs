//! Questions that no shard can answer alone: who is asked puts them to all others, and adds up what they say.
//!
//! ```text
//!  asked shard   finds out for itself ─► Mail::Question to each other ─► … Mail::Findings from each ─► answer
//!  other shards                          find out, or do what is asked ─► Mail::Findings back
//! ```
//!
//! Some questions are orders: to close clients, to change user groups. A shard speaks after it has carried them out, so whoever has
//! the answer knows that it is so everywhere. An order to which nobody wants an answer is posted in the same way, only without a
//! survey to come back to. In either case the asked shard acts first and posts in the order of its own actions: what one server
//! connection says happens in that order on every shard.
//!
//! Invariants:
//! * A survey that is open waits for at least one shard.
//! * It is answered once: by the last shard to speak, by the first whose word decides, or by time running out.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Instant;

use super::user_groups::UserGroupChange;
use super::{ClientKey, Effect, HubId, Mail, Origin, Router};
use crate::id::{ConnectionId, ShardId};
use crate::limits::{SURVEY_TIMEOUT, SURVEYS_MAX};
use crate::protocol::service::{Ack, AckStatus, GroupMemberPage, Message, write_ack};

/// What every shard is asked, or told to do.
#[derive(Debug)]
pub enum Question {
    /// Has this group a member?
    GroupExists(Box<str>),
    /// Has this user a connection?
    UserExists(Box<str>),
    /// Who is in a group?
    GroupMembers(MemberQuery),
    /// Close these clients.
    Close(CloseOrder),
    /// Let a user join or leave.
    ChangeUserGroups(UserGroupChange),
}

/// One page of a group's members, in the order of their connection ids.
#[derive(Debug)]
pub struct MemberQuery {
    /// The group.
    pub group: Box<str>,
    /// The last one of the page before.
    pub after: Option<ConnectionId>,
    /// As many as the page has.
    pub members_max: usize,
    /// No more are wanted behind this page.
    pub is_last_page: bool,
}

/// Clients to be closed.
#[derive(Debug)]
pub struct CloseOrder {
    /// Whose.
    pub target: CloseTarget,
    /// What they are told.
    pub reason: Option<Box<str>>,
    /// Those that stay, in the order of their ids.
    pub excluded: Vec<ConnectionId>,
}

/// Whose clients are closed.
#[derive(Debug)]
pub enum CloseTarget {
    /// The whole hub's.
    Hub,
    /// A user's.
    User(Box<str>),
    /// A group's.
    Group(Box<str>),
}

/// A survey, from anywhere.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SurveyRef {
    /// The shard that was asked.
    pub shard: ShardId,
    /// Which one of that shard.
    pub number: u64,
}

/// What one shard has to say, or several together.
#[derive(Debug)]
pub enum Findings {
    /// Whether there is what was asked for.
    Exists(bool),
    /// It has been done; false if a limit forbade a part of it.
    Done(bool),
    /// Members in no order, of each shard the first that belong on the page and one more.
    Members(Vec<Member>),
}

/// A member of a group.
#[derive(Debug)]
pub struct Member {
    /// The connection.
    pub id: ConnectionId,
    /// Its user.
    pub user: Option<Box<str>>,
}

/// The surveys for which this shard was asked.
#[derive(Debug, Default)]
pub(super) struct Surveys {
    /// In the order in which they began.
    open: BTreeMap<u64, Survey>,
    last_number: u64,
}

/// Who waits for an answer.
#[derive(Debug)]
pub(super) struct Asker {
    pub(super) hub: HubId,
    pub(super) origin: Origin,
    pub(super) ack_id: i32,
}

#[derive(Debug)]
struct Survey {
    asker: Asker,
    question: Arc<Question>,
    findings: Findings,
    /// Shards that have not spoken.
    waits_for: u16,
    since: Instant,
}

impl Router {
    /// Answers a question after it has been put to all shards.
    pub(super) fn survey(
        &mut self,
        asker: Asker,
        question: Question,
        now: Instant,
        effects: &mut Vec<Effect>,
    ) {
        if self.surveys.open.len() >= SURVEYS_MAX {
            self.counters.surveys_refused.increment();
            let error = "Too many requests wait for an answer.";
            let status = AckStatus::InternalServerError;
            return self.report_failure(&asker, &question, status, error, effects);
        }
        let findings = self.find_out(asker.hub, &question, effects);
        let waits_for = self.shard_count.saturating_sub(1);
        if waits_for == 0 || findings.are_final() {
            return self.report(&asker, &question, findings, effects);
        }
        self.counters.surveys.increment();
        let (hub, question) = (asker.hub, Arc::new(question));
        let number = self.surveys.begin(Survey {
            asker,
            question: Arc::clone(&question),
            findings,
            waits_for,
            since: now,
        });
        let shard = self.shard;
        self.post_question(hub, &question, Some(SurveyRef { shard, number }), effects);
    }

    /// Has all shards do something to which nobody wants an answer.
    pub(super) fn order(&mut self, hub: HubId, question: Question, effects: &mut Vec<Effect>) {
        self.find_out(hub, &question, effects);
        self.post_question(hub, &Arc::new(question), None, effects);
    }

    /// Another shard was asked.
    pub(super) fn handle_question(
        &mut self,
        hub: HubId,
        question: &Question,
        survey: Option<SurveyRef>,
        effects: &mut Vec<Effect>,
    ) {
        let findings = self.find_out(hub, question, effects);
        if let Some(SurveyRef { shard, number }) = survey {
            let mail = Mail::Findings { number, findings };
            effects.push(Effect::Post { shard, mail });
        }
    }

    /// Another shard has spoken. If the survey is over, it was not needed any more.
    pub(super) fn handle_findings(
        &mut self,
        number: u64,
        findings: Findings,
        effects: &mut Vec<Effect>,
    ) {
        if let Some(survey) = self.surveys.add(number, findings) {
            self.report(&survey.asker, &survey.question, survey.findings, effects);
        }
    }

    /// Gives up surveys that have lasted too long: a shard must be stuck.
    pub(super) fn expire_surveys(&mut self, now: Instant, effects: &mut Vec<Effect>) {
        while let Some(late) = self.surveys.take_late(now) {
            self.counters.surveys_timed_out.increment();
            let error = "Not all shards have answered in time.";
            self.report_failure(
                &late.asker,
                &late.question,
                AckStatus::Timeout,
                error,
                effects,
            );
        }
    }

    fn post_question(
        &self,
        hub: HubId,
        question: &Arc<Question>,
        survey: Option<SurveyRef>,
        effects: &mut Vec<Effect>,
    ) {
        let others = (0..self.shard_count).map(ShardId);
        for shard in others.filter(|shard| *shard != self.shard) {
            let question = Arc::clone(question);
            let mail = Mail::Question {
                hub,
                question,
                survey,
            };
            effects.push(Effect::Post { shard, mail });
        }
    }

    /// What this shard has to say.
    fn find_out(&mut self, hub: HubId, question: &Question, effects: &mut Vec<Effect>) -> Findings {
        let state = self.hubs.get(&hub);
        match question {
            Question::GroupExists(group) => {
                Findings::Exists(state.is_some_and(|hub| !hub.groups.members(group).is_empty()))
            }
            Question::UserExists(user) => {
                Findings::Exists(state.is_some_and(|hub| !hub.user(user).is_empty()))
            }
            Question::GroupMembers(query) => Findings::Members(self.find_members(hub, query)),
            Question::Close(order) => {
                self.close_all(hub, order, effects);
                Findings::Done(true)
            }
            Question::ChangeUserGroups(change) => self.change_user_groups(hub, change),
        }
    }

    fn find_members(&self, hub: HubId, query: &MemberQuery) -> Vec<Member> {
        let members = match self.hubs.get(&hub) {
            Some(hub) => hub.groups.members(&query.group),
            None => &[],
        };
        let mut found: Vec<(ConnectionId, ClientKey)> = members
            .iter()
            .filter_map(|key| Some((self.clients.get(*key)?.id, *key)))
            .filter(|(id, _)| query.after.is_none_or(|after| *id > after))
            .collect();
        // One more than asked for shows that there is a next page.
        let wanted = query.members_max + 1;
        if found.len() > wanted {
            found.select_nth_unstable(wanted);
            found.truncate(wanted);
        }
        let user = |key| self.clients.get(key).and_then(|client| client.user.clone());
        let member = |(id, key)| Member {
            id,
            user: user(key),
        };
        found.into_iter().map(member).collect()
    }

    fn close_all(&mut self, hub: HubId, order: &CloseOrder, effects: &mut Vec<Effect>) {
        let targets = match (self.hubs.get(&hub), &order.target) {
            (Some(hub), CloseTarget::Hub) => hub.clients(),
            (Some(hub), CloseTarget::User(user)) => hub.user(user),
            (Some(hub), CloseTarget::Group(group)) => hub.groups.members(group),
            (None, _) => &[],
        };
        let is_spared = |key: &ClientKey| {
            let client = self.clients.get(*key);
            client.is_some_and(|client| order.excluded.binary_search(&client.id).is_ok())
        };
        let targets: Vec<ClientKey> = targets
            .iter()
            .copied()
            .filter(|key| !is_spared(key))
            .collect();
        for client in targets {
            self.close_on_request(client, order.reason.as_deref(), effects);
        }
    }

    /// Answers a request with what has been found out.
    fn report(
        &mut self,
        asker: &Asker,
        question: &Question,
        findings: Findings,
        effects: &mut Vec<Effect>,
    ) {
        let status = match (findings, question) {
            (Findings::Members(members), Question::GroupMembers(query)) => {
                let page = page_of(members, query);
                return self.answer_with_page(asker, AckStatus::Ok, "", &page, effects);
            }
            (Findings::Exists(true) | Findings::Done(true), _) => AckStatus::Ok,
            (Findings::Exists(false), _) => AckStatus::NotFound,
            (Findings::Done(false) | Findings::Members(_), _) => AckStatus::InternalServerError,
        };
        self.answer_with_ack(asker, status, "", effects);
    }

    fn report_failure(
        &mut self,
        asker: &Asker,
        question: &Question,
        status: AckStatus,
        error: &str,
        effects: &mut Vec<Effect>,
    ) {
        if let Question::GroupMembers(_) = question {
            let nobody = GroupMemberPage::default();
            self.answer_with_page(asker, status, error, &nobody, effects);
        } else {
            self.answer_with_ack(asker, status, error, effects);
        }
    }

    /// Answers a request, saying more about it if `message` is not empty.
    pub(super) fn answer_with_ack(
        &mut self,
        asker: &Asker,
        status: AckStatus,
        message: &str,
        effects: &mut Vec<Effect>,
    ) {
        let mut messages = Vec::new();
        write_ack(asker.ack_id, status, message, &mut messages);
        self.answer(asker.hub, &asker.origin, messages, effects);
    }

    /// Answers a query for members. The SDK needs a page whatever the status is.
    pub(super) fn answer_with_page(
        &mut self,
        asker: &Asker,
        status: AckStatus,
        message: &str,
        page: &GroupMemberPage<'_>,
        effects: &mut Vec<Effect>,
    ) {
        let page = page.encode();
        let ack = Ack {
            ack_id: asker.ack_id,
            status,
            message: message.into(),
            payload: Some(&page),
        };
        let mut messages = Vec::new();
        Message::from(ack).encode(&mut messages);
        self.answer(asker.hub, &asker.origin, messages, effects);
    }
}

impl Surveys {
    fn begin(&mut self, survey: Survey) -> u64 {
        self.last_number += 1;
        self.open.insert(self.last_number, survey);
        self.last_number
    }

    /// Takes a shard's word. The survey, if that was the last that was needed.
    fn add(&mut self, number: u64, findings: Findings) -> Option<Survey> {
        let survey = self.open.get_mut(&number)?;
        survey.findings.add(findings);
        survey.waits_for = survey.waits_for.saturating_sub(1);
        if survey.waits_for > 0 && !survey.findings.are_final() {
            return None;
        }
        self.open.remove(&number)
    }

    fn take_late(&mut self, now: Instant) -> Option<Survey> {
        let oldest = self.open.first_entry()?;
        let is_late = now.duration_since(oldest.get().since) >= SURVEY_TIMEOUT;
        is_late.then(|| oldest.remove())
    }
}

impl Findings {
    /// Whether no other shard can change the answer.
    fn are_final(&self) -> bool {
        matches!(self, Self::Exists(true))
    }

    fn add(&mut self, other: Self) {
        match (self, other) {
            (Self::Exists(known), Self::Exists(more)) => *known |= more,
            (Self::Done(known), Self::Done(more)) => *known &= more,
            (Self::Members(known), Self::Members(more)) => known.extend(more),
            (Self::Exists(_) | Self::Done(_) | Self::Members(_), _) => {
                debug_assert!(false, "all shards answer the same question");
            }
        }
    }
}

/// The page, out of what all shards have found for it. Where it ends is known by its last member, so that nothing has to be kept from
/// one page to the next, and members who come and go meanwhile move nobody else across the end of a page.
fn page_of(mut members: Vec<Member>, query: &MemberQuery) -> GroupMemberPage<'static> {
    members.sort_unstable_by_key(|member| member.id);
    let has_more = members.len() > query.members_max && !query.is_last_page;
    members.truncate(query.members_max);
    let last = members.last().map(|member| member.id.to_string().into());
    let members = members
        .into_iter()
        .map(|member| {
            (
                member.id.to_string().into(),
                member.user.map(|user| String::from(user).into()),
            )
        })
        .collect();
    GroupMemberPage {
        members,
        continuation_token: last.filter(|_| has_more),
    }
}

#[cfg(test)]
impl Surveys {
    pub(super) fn is_empty(&self) -> bool {
        self.open.is_empty()
    }

    /// What must hold between any two events.
    pub(super) fn check(&self) {
        for survey in self.open.values() {
            assert!(
                survey.waits_for > 0 && !survey.findings.are_final(),
                "it is not over"
            );
        }
    }
}

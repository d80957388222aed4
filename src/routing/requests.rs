//! What app servers ask of the service: whether somebody is there, who is in a group, that somebody join, leave or be closed.
//!
//! | request | asked of | answer |
//! |---|---|---|
//! | a user joins or leaves a group | all shards | done everywhere; failed if a limit forbade it |
//! | is the user in the group? | this shard, which remembers as much as any | whether it *stands* there, see [`super::user_groups`] |
//! | does the connection exist? | the shard that has it | found, not found |
//! | does the user, does the group? | all shards, unless it does here | found if it has a connection |
//! | close a connection | the shard that has it | closed, not found |
//! | close those of a user, of a group, all | all shards | done, even if there were none |
//! | who is in the group? | all shards | a page, empty if nobody is |
//!
//! Whoever is closed hears the reason in a hub Close that lets it come back, and its app server gets a `CloseConnection`.
//!
//! What only a service with Microsoft Entra or with renewed access tokens can do is refused in words. Messages that only a service sends
//! are passed over, as are those that are not known: an app server may be newer.

use std::time::Instant;

use super::service_messages::{Absent, Decoded, Source};
use super::surveys::{Asker, CloseOrder, CloseTarget, MemberQuery, Question};
use super::{Effect, Router};
use crate::id::ConnectionId;
use crate::limits::{
    CLOSE_REASON_BYTES_MAX, MEMBERS_PER_PAGE, MEMBERS_PER_PAGE_MAX, NAME_BYTES_MAX,
};
use crate::protocol::service::{
    AccessKeyResponse, AckStatus, GroupMemberPage, GroupMemberQuery, Message, Text, Texts,
};

impl Router {
    #[expect(
        clippy::wildcard_enum_match_arm,
        reason = "an app server may be newer than this service"
    )]
    pub(super) fn handle_request(
        &mut self,
        source: Source<'_>,
        message: &Decoded<'_>,
        now: Instant,
        effects: &mut Vec<Effect>,
    ) {
        match message {
            Message::CheckConnectionExistenceWithAck(check) => {
                let status = self.find_connection(source, &check.connection_id, effects);
                self.acknowledge(source, check.ack_id, status, effects);
            }
            Message::CheckUserExistenceWithAck(check) => {
                let question = Question::UserExists((&*check.user_id).into());
                self.survey(source.asker(check.ack_id), question, now, effects);
            }
            Message::CheckGroupExistenceWithAck(check) => {
                let question = Question::GroupExists((&*check.group).into());
                self.survey(source.asker(check.ack_id), question, now, effects);
            }
            Message::GroupMemberQuery(query) => self.query_members(source, query, now, effects),
            Message::CloseConnectionWithAck(close) => {
                let reason = close.reason.as_deref();
                let status = self.close_one(source, &close.connection_id, reason, effects);
                self.acknowledge(source, close.ack_id, status, effects);
            }
            Message::CloseConnectionsWithAck(close) => {
                let order = close_order(CloseTarget::Hub, close.reason.as_ref(), &close.excluded);
                self.survey(source.asker(close.ack_id), order, now, effects);
            }
            Message::CloseUserConnectionsWithAck(close) => {
                let target = CloseTarget::User((&*close.user_id).into());
                let order = close_order(target, close.reason.as_ref(), &close.excluded);
                self.survey(source.asker(close.ack_id), order, now, effects);
            }
            Message::CloseGroupConnectionsWithAck(close) => {
                let target = CloseTarget::Group((&*close.group).into());
                let order = close_order(target, close.reason.as_ref(), &close.excluded);
                self.survey(source.asker(close.ack_id), order, now, effects);
            }
            other => self.handle_user_group_request(source, other, now, effects),
        }
    }

    #[expect(
        clippy::wildcard_enum_match_arm,
        reason = "an app server may be newer than this service"
    )]
    fn handle_user_group_request(
        &mut self,
        source: Source<'_>,
        message: &Decoded<'_>,
        now: Instant,
        effects: &mut Vec<Effect>,
    ) {
        match message {
            Message::UserJoinGroup(join) => {
                let place = UserGroup::new(&join.user_id, &join.group);
                self.join_user(source, place, join.ttl_seconds, None, now, effects);
            }
            Message::UserJoinGroupWithAck(join) => {
                let place = UserGroup::new(&join.user_id, &join.group);
                let asker = Some(source.asker(join.ack_id));
                self.join_user(source, place, join.ttl_seconds, asker, now, effects);
            }
            Message::UserLeaveGroup(leave) => {
                let group = leave.group.as_deref();
                self.leave_user(source, &leave.user_id, group, None, now, effects);
            }
            Message::UserLeaveGroupWithAck(leave) => {
                let group = leave.group.as_deref();
                let asker = Some(source.asker(leave.ack_id));
                self.leave_user(source, &leave.user_id, group, asker, now, effects);
            }
            Message::CheckUserInGroupWithAck(check) => {
                let (user, group) = (&check.user_id, &check.group);
                let stands = self.user_groups.contains(source.hub, user, group, now);
                let status = if stands {
                    AckStatus::Ok
                } else {
                    AckStatus::NotFound
                };
                self.acknowledge(source, check.ack_id, Some(status), effects);
            }
            other => self.refuse_request(source, other, effects),
        }
    }

    /// Says no where an app server waits for a word, and passes over the rest.
    #[expect(
        clippy::wildcard_enum_match_arm,
        reason = "an app server may be newer than this service"
    )]
    fn refuse_request(
        &mut self,
        source: Source<'_>,
        message: &Decoded<'_>,
        effects: &mut Vec<Effect>,
    ) {
        self.counters.service_messages_skipped.increment();
        // To claims that nobody keeps the answer is that of a connection which is not there: the app tells its client so and goes on,
        // while a failure would have it try again.
        let (ack_id, status) = match message {
            Message::AccessKeyRequest(_) => {
                let response = AccessKeyResponse {
                    error_type: Some("NotSupported".into()),
                    error_message: Some(ENTRA_NOT_SUPPORTED.into()),
                    ..AccessKeyResponse::default()
                };
                let mut messages = Vec::new();
                Message::<&[u8]>::from(response).encode(&mut messages);
                return self.answer(source.hub, source.origin, messages, effects);
            }
            Message::RefreshAuth(refresh) => (refresh.ack_id, AckStatus::NotFound),
            Message::GetConnectionClaims(get) => (get.ack_id, AckStatus::NotFound),
            // A `ConnectionFlowControl` can only say that a client's flow has stopped, for which this service never asks.
            other => {
                tracing::debug!(message = ?other.message_type(), "skipped a service message that is not supported");
                return;
            }
        };
        self.answer_with_ack(
            &source.asker(ack_id),
            status,
            RENEWAL_NOT_SUPPORTED,
            effects,
        );
    }

    fn find_connection(
        &mut self,
        source: Source<'_>,
        connection_id: &str,
        effects: &mut Vec<Effect>,
    ) -> Option<AckStatus> {
        match self.locate_here(source, connection_id, effects) {
            Ok(_) => Some(AckStatus::Ok),
            Err(Absent::Nowhere) => Some(AckStatus::NotFound),
            Err(Absent::Elsewhere) => None,
        }
    }

    fn close_one(
        &mut self,
        source: Source<'_>,
        connection_id: &str,
        reason: Option<&str>,
        effects: &mut Vec<Effect>,
    ) -> Option<AckStatus> {
        match self.locate_here(source, connection_id, effects) {
            Ok(client) => {
                self.close_on_request(client, reason.map(cut_reason), effects);
                Some(AckStatus::Ok)
            }
            Err(Absent::Nowhere) => Some(AckStatus::NotFound),
            Err(Absent::Elsewhere) => None,
        }
    }

    fn query_members(
        &mut self,
        source: Source<'_>,
        query: &GroupMemberQuery<'_>,
        now: Instant,
        effects: &mut Vec<Effect>,
    ) {
        let asker = source.asker(query.ack_id);
        let token = query.continuation_token.as_deref();
        let token = token.filter(|token| !token.is_empty());
        let after = token.and_then(ConnectionId::parse);
        if token.is_some() && after.is_none() {
            // To begin anew would never end, and to find nobody would be a lie.
            let status = AckStatus::InternalServerError;
            let nobody = GroupMemberPage::default();
            return self.answer_with_page(&asker, status, NOT_A_TOKEN, &nobody, effects);
        }
        let count = |count: i32| usize::try_from(count).unwrap_or(0);
        let page = query.max_page_size.map_or(MEMBERS_PER_PAGE, count);
        let page = page.clamp(1, MEMBERS_PER_PAGE_MAX);
        let wanted = query.top.map(count);
        let question = Question::GroupMembers(MemberQuery {
            group: (&*query.group).into(),
            after,
            members_max: wanted.map_or(page, |wanted| wanted.min(page)),
            is_last_page: wanted.is_some_and(|wanted| wanted <= page),
        });
        self.survey(asker, question, now, effects);
    }

    fn join_user(
        &mut self,
        source: Source<'_>,
        place: UserGroup<'_>,
        ttl_seconds: Option<i32>,
        asker: Option<Asker>,
        now: Instant,
        effects: &mut Vec<Effect>,
    ) {
        let UserGroup { user, group } = place;
        let memory = &mut self.user_groups;
        let change = if place.is_possible() {
            memory.join(source.hub, user, group, ttl_seconds, now).ok()
        } else {
            None
        };
        if let Some(change) = change {
            let order = Question::ChangeUserGroups(change);
            return self.survey_or_order(source, order, asker, now, effects);
        }
        self.counters.joins_refused.increment();
        if let Some(asker) = asker {
            self.answer_with_ack(&asker, AckStatus::InternalServerError, "", effects);
        }
    }

    fn leave_user(
        &mut self,
        source: Source<'_>,
        user: &str,
        group: Option<&str>,
        asker: Option<Asker>,
        now: Instant,
        effects: &mut Vec<Effect>,
    ) {
        let place = UserGroup::new(user, group.unwrap_or_default());
        if place.is_possible() {
            let order = Question::ChangeUserGroups(self.user_groups.leave(user, group, now));
            self.survey_or_order(source, order, asker, now, effects);
        } else if let Some(asker) = asker {
            // Nobody of such a name can ever have joined.
            self.answer_with_ack(&asker, AckStatus::Ok, "", effects);
        }
    }

    fn survey_or_order(
        &mut self,
        source: Source<'_>,
        order: Question,
        asker: Option<Asker>,
        now: Instant,
        effects: &mut Vec<Effect>,
    ) {
        match asker {
            Some(asker) => self.survey(asker, order, now, effects),
            None => self.order(source.hub, order, effects),
        }
    }
}

/// A user and one of its groups.
#[derive(Clone, Copy)]
struct UserGroup<'a> {
    user: &'a str,
    group: &'a str,
}

impl<'a> UserGroup<'a> {
    fn new(user: &'a str, group: &'a str) -> Self {
        Self { user, group }
    }

    fn is_possible(self) -> bool {
        self.user.len() <= NAME_BYTES_MAX && self.group.len() <= NAME_BYTES_MAX
    }
}

impl Source<'_> {
    fn asker(&self, ack_id: i32) -> Asker {
        Asker {
            hub: self.hub,
            origin: self.origin.clone(),
            ack_id,
        }
    }
}

fn cut_reason(reason: &str) -> &str {
    let end = reason.floor_char_boundary(CLOSE_REASON_BYTES_MAX);
    reason.get(..end).unwrap_or_default()
}

fn close_order(target: CloseTarget, reason: Option<&Text<'_>>, excluded: &Texts<'_>) -> Question {
    // An id that is not one of ours spares nobody.
    let mut excluded: Vec<ConnectionId> = excluded
        .iter()
        .filter_map(|id| ConnectionId::parse(id))
        .collect();
    excluded.sort_unstable();
    Question::Close(CloseOrder {
        target,
        reason: reason.map(|reason| cut_reason(reason).into()),
        excluded,
    })
}

const ENTRA_NOT_SUPPORTED: &str =
    "Microsoft Entra ID is not supported by this service; use an access key.";
const RENEWAL_NOT_SUPPORTED: &str = "This service does not renew the authentication of clients.";
const NOT_A_TOKEN: &str = "The continuation token is not one of this service.";

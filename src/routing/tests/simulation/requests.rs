//! What app servers want to be told: that something has been done, whether somebody is there, who is in a group.

use super::*;
use crate::protocol::service::{AckStatus, GroupMemberQuery};

/// A request that is to be acknowledged.
pub(super) struct Request {
    server: ServerEnd,
    wanted: Wanted,
    status: Option<AckStatus>,
    page: Option<Page>,
}

/// What the answer may be.
pub(super) enum Wanted {
    /// Something that concerns one client: yes if it is there, no if it is not.
    OfClient { client: ClientEnd, was_there: bool },
    /// Something that can always be done.
    Done,
    /// Whether there is something. Known only if nothing changes meanwhile.
    Exists(Option<bool>),
    /// A page of members.
    Members,
}

/// Connection ids with users, and where the next page begins.
type Page = (Vec<(String, Option<String>)>, Option<String>);

/// Clients that were to be closed, all those of a kind.
pub(super) struct CloseOrdered {
    hub: HubId,
    of: CloseOf,
    excluded: Vec<ClientEnd>,
}

#[derive(Clone, Copy, Debug)]
enum CloseOf {
    Hub,
    User(&'static str),
    Group(&'static str),
}

impl Simulation {
    pub(super) fn expect_ack(&mut self, ack_id: i32, server: ServerEnd, wanted: Wanted) {
        let request = Request {
            server,
            wanted,
            status: None,
            page: None,
        };
        self.requests.insert(ack_id, request);
    }

    /// An answer has come. From now on everybody's sends find what was asked for.
    pub(super) fn note_ack(
        &mut self,
        server: ServerEnd,
        ack_id: i32,
        status: AckStatus,
        payload: Option<&[u8]>,
    ) {
        let request = &self.requests[&ack_id];
        assert!(self.is_same_app_server(server, request.server));
        let is_yes = status == AckStatus::Ok;
        assert!(is_yes || status == AckStatus::NotFound, "{status:?}");
        let is_plausible = match request.wanted {
            Wanted::OfClient { client, was_there } => {
                if is_yes {
                    was_there
                } else {
                    !self.world.is_connected(client)
                }
            }
            Wanted::Done | Wanted::Members => is_yes,
            Wanted::Exists(expected) => expected.is_none_or(|expected| expected == is_yes),
        };
        assert!(is_plausible, "{ack_id}: {status:?} is not the answer");
        let page = payload.map(page_in);
        let request = self.requests.get_mut(&ack_id).expect("it was asked for");
        assert_eq!(request.status.replace(status), None, "acknowledged once");
        assert_eq!(page.is_some(), matches!(request.wanted, Wanted::Members));
        request.page = page;
        self.memberships.note_done(ack_id);
    }

    /// At any time: then there is an answer, whatever it says.
    pub(super) fn somebody_asks(&mut self) {
        let hub = self.random.pick(&HUBS);
        let (Some(asking), Some(client)) = (self.any_speaker(hub), self.any_client_ever_known())
        else {
            return;
        };
        let (user, group) = (self.random.pick(&USERS), self.random.pick(&GROUPS));
        let ack_id = self.number();
        let (what, message) = match self.random.below(4) {
            0 => ("a user exists", user_exists(user, ack_id)),
            1 => ("a group exists", group_exists(group, ack_id)),
            2 => {
                let id = self.world.id(client);
                ("a client exists", connection_exists(id, ack_id))
            }
            _ => (
                "a user is in a group",
                is_user_in_group(user, group, ack_id),
            ),
        };
        self.log(format_args!(
            "server connection {} asks whether {what} (ack {ack_id})",
            asking.0
        ));
        self.expect_ack(ack_id, asking, Wanted::Exists(None));
        self.send(asking, message);
    }

    /// Clients are closed, and their app servers are told.
    pub(super) fn many_are_closed(&mut self) {
        let hub = self.random.pick(&HUBS);
        let Some(asking) = self.any_speaker(hub) else {
            return;
        };
        let (user, group) = (self.random.pick(&USERS), self.random.pick(&GROUPS));
        let excluded = self.some_clients(2);
        let ids: Vec<&str> = excluded
            .iter()
            .map(|client| self.world.id(*client))
            .collect();
        let ack_id = self.number();
        let (of, message) = match self.random.below(5) {
            0 => (CloseOf::Hub, close_hub(Some("enough"), &ids, ack_id)),
            1..=2 => (CloseOf::User(user), close_user(user, &ids, ack_id)),
            3 => (CloseOf::Group(group), close_group(group, &ids, ack_id)),
            _ => return self.one_is_closed(asking, ack_id),
        };
        self.log(format_args!(
            "server connection {} wants {of:?} closed except {:?} (ack {ack_id})",
            asking.0,
            fan_out::ends(&excluded)
        ));
        let order = CloseOrdered { hub, of, excluded };
        let targets: Vec<ClientEnd> = self
            .clients_known()
            .filter(|client| {
                self.is_meant(*client, &order)
                    && match of {
                        CloseOf::Hub | CloseOf::User(_) => true,
                        CloseOf::Group(group) => {
                            self.memberships.is_certain(group, *client, asking)
                        }
                    }
            })
            .collect();
        for client in targets {
            // Whether it is still a member then, nobody can say if somebody else lets it leave.
            self.clients[client.0].is_unwanted |= !matches!(of, CloseOf::Group(_));
        }
        self.closes_ordered.push(order);
        self.expect_ack(ack_id, asking, Wanted::Done);
        self.send(asking, message);
    }

    fn one_is_closed(&mut self, asking: ServerEnd, ack_id: i32) {
        let Some(client) = self.any_client_ever_known() else {
            return;
        };
        if self.world.clients[client.0].hub != self.world.servers[asking.0].hub {
            return;
        }
        self.log(format_args!(
            "server connection {} wants client {} closed (ack {ack_id})",
            asking.0, client.0
        ));
        self.clients[client.0].is_unwanted = true;
        let was_there = self.world.is_connected(client);
        self.expect_ack(ack_id, asking, Wanted::OfClient { client, was_there });
        let message = close_connection(self.world.id(client), None, ack_id);
        self.send(asking, message);
    }

    fn is_meant(&self, client: ClientEnd, order: &CloseOrdered) -> bool {
        let is_of = match order.of {
            CloseOf::Hub => true,
            CloseOf::User(user) => self.clients[client.0].user == Some(user),
            CloseOf::Group(group) => self.memberships.has_ever_been(group, client),
        };
        is_of && self.world.clients[client.0].hub == order.hub && !order.excluded.contains(&client)
    }

    /// Whether somebody had a client closed since all mails had arrived.
    pub(super) fn may_be_closed(&self, client: ClientEnd) -> bool {
        let model = &self.clients[client.0];
        model.is_unwanted
            || model.is_dismissed
            || self
                .closes_ordered
                .iter()
                .any(|order| self.is_meant(client, order))
    }

    pub(super) fn check_requests(&self) {
        for (ack_id, request) in &self.requests {
            assert!(
                request.status.is_some() || !self.world.is_up(request.server),
                "who is there is answered: {ack_id}"
            );
        }
    }

    /// With all mails at their place, the answers are those of the model.
    pub(super) fn check_answers(&mut self, asking: ServerEnd) {
        let hub = self.world.servers[asking.0].hub;
        let (user, group) = (self.random.pick(&USERS), self.random.pick(&GROUPS));
        let members = self.members_of(hub, group);
        let ack_id = self.number();
        match self.random.below(5) {
            0 => {
                let is_there = self.clients_known().any(|client| {
                    self.world.clients[client.0].hub == hub
                        && self.clients[client.0].user == Some(user)
                });
                self.ask(asking, ack_id, is_there, user_exists(user, ack_id));
            }
            1 => {
                let message = group_exists(group, ack_id);
                self.ask(asking, ack_id, !members.is_empty(), message);
            }
            2 => {
                let stands = self.user_groups.stands(hub, user, group, self.world.now);
                let message = is_user_in_group(user, group, ack_id);
                self.ask(asking, ack_id, stands, message);
            }
            3 => {
                let Some(client) = self.any_client_ever_known() else {
                    return;
                };
                let is_there =
                    self.world.is_connected(client) && self.world.clients[client.0].hub == hub;
                let message = connection_exists(self.world.id(client), ack_id);
                self.ask(asking, ack_id, is_there, message);
            }
            _ => self.check_pages(asking, group, &members),
        }
    }

    fn ask(&mut self, asking: ServerEnd, ack_id: i32, expected: bool, message: Received) {
        self.expect_ack(ack_id, asking, Wanted::Exists(Some(expected)));
        self.send(asking, message);
        self.world.deliver_all();
        self.read_all();
    }

    /// Page by page, these are the members.
    fn check_pages(&mut self, asking: ServerEnd, group: &'static str, members: &[ClientEnd]) {
        let page_size = 1 + self.random.below(3);
        let mut found: Vec<(String, Option<String>)> = Vec::new();
        let mut token = None;
        loop {
            let ack_id = self.number();
            self.expect_ack(ack_id, asking, Wanted::Members);
            let query = GroupMemberQuery {
                group: group.into(),
                ack_id,
                continuation_token: token.map(Into::into),
                max_page_size: i32::try_from(page_size).ok(),
                ..GroupMemberQuery::default()
            };
            self.send(asking, query);
            self.world.deliver_all();
            self.read_all();
            let page = self.requests.get_mut(&ack_id).and_then(|it| it.page.take());
            let (part, next) = page.expect("it is answered");
            assert!(part.len() == page_size || next.is_none(), "a full page");
            found.extend(part);
            token = next;
            if token.is_none() {
                break;
            }
            assert!(found.len() <= members.len(), "pages come to an end");
        }
        let mut expected: Vec<(String, Option<String>)> = members
            .iter()
            .map(|client| {
                let user = self.clients[client.0].user.map(str::to_owned);
                (self.world.id(*client).to_owned(), user)
            })
            .collect();
        expected.sort_unstable();
        found.sort_unstable();
        assert_eq!(found, expected, "the members of {group}");
    }

    fn members_of(&self, hub: HubId, group: &'static str) -> Vec<ClientEnd> {
        self.clients_known()
            .filter(|client| {
                self.world.clients[client.0].hub == hub
                    && self.memberships.is_member(group, *client)
            })
            .collect()
    }
}

/// Reads `[[[connection id, user], …], continuation token]`.
fn page_in(payload: &[u8]) -> Page {
    let text = |value: &rmpv::Value| value.as_str().map(str::to_owned);
    let page = rmpv::decode::read_value(&mut &*payload).expect("it is MessagePack");
    let parts = page.as_array().expect("two parts");
    let members = parts[0].as_array().expect("a list");
    let members = members.iter().map(|member| {
        let pair = member.as_array().expect("two parts");
        (text(&pair[0]).expect("an id"), text(&pair[1]))
    });
    (members.collect(), text(&parts[1]))
}

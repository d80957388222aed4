//! What app servers send to clients, and who has to hear it.
//!
//! Each message has a number. Who is surely among its targets when it is sent is *owed* it: by the time that all mails have arrived, such
//! a client has heard it or is no longer there. Whoever hears it must be one that it may reach.

use super::talk::framed;
use super::*;
use crate::protocol::service::{
    BroadcastData, GroupBroadcastData, MultiConnectionData, MultiGroupBroadcastData, MultiUserData,
    Text, Texts, UserData,
};

/// A message that has been sent.
pub(super) struct Sending {
    pub(super) server: ServerEnd,
    audience: Audience,
    pub(super) owed: Vec<ClientEnd>,
}

/// Whom a message names.
pub(super) enum Audience {
    /// The client that it is said to by its own server connection, or by any other.
    One(ClientEnd),
    Connections(Vec<ClientEnd>),
    Users(Vec<&'static str>),
    Hub {
        excluded: Vec<ClientEnd>,
    },
    Group(&'static str, Excluded),
    Groups(Vec<&'static str>),
}

#[derive(Default)]
pub(super) struct Excluded {
    clients: Vec<ClientEnd>,
    users: Vec<&'static str>,
}

impl Simulation {
    pub(super) fn fan_out(&mut self) {
        let hub = self.random.pick(&HUBS);
        let Some(server) = self.any_speaker(hub) else {
            return;
        };
        if let Some(audience) = self.any_audience(hub, server) {
            self.send_to(server, audience);
        }
    }

    fn any_audience(&mut self, hub: HubId, server: ServerEnd) -> Option<Audience> {
        let (group, other) = (self.random.pick(&GROUPS), self.random.pick(&GROUPS));
        let user = self.random.pick(&USERS);
        Some(match self.random.below(11) {
            0..=1 => Audience::One(self.one_to_talk_to(hub, server)?),
            2..=3 => Audience::Connections(self.some_clients(3)),
            4 => Audience::Users(vec![user]),
            5 => Audience::Users(vec![user, self.random.pick(&USERS), user]),
            6..=7 => Audience::Hub {
                excluded: self.some_clients(1),
            },
            8 => Audience::Group(group, Excluded::default()),
            9 => Audience::Group(
                group,
                Excluded {
                    clients: self.some_clients(1),
                    users: vec![user],
                },
            ),
            _ => Audience::Groups(vec![group, other]),
        })
    }

    /// Its own client, mostly; or that of another. The latter has been answered, or it would take what it hears for the answer.
    fn one_to_talk_to(&mut self, hub: HubId, server: ServerEnd) -> Option<ClientEnd> {
        let only_own = !self.random.one_in(4);
        let may_hear: Vec<ClientEnd> = self
            .clients_known()
            .filter(|client| {
                let record = &self.world.clients[client.0];
                record.hub == hub
                    && record.is_answered
                    && !self.clients[client.0].is_dismissed
                    && (record.server == Some(server) || !only_own)
            })
            .collect();
        self.random.pick_any(&may_hear)
    }

    pub(super) fn some_clients(&mut self, clients_max: usize) -> Vec<ClientEnd> {
        let count = self.random.below(clients_max + 1);
        (0..count)
            .filter_map(|_| self.any_client_ever_known())
            .collect()
    }

    /// Sends a message of its own number. Who must hear it is written down.
    pub(super) fn send_to(&mut self, server: ServerEnd, audience: Audience) {
        let number = self.number();
        let hub = self.world.servers[server.0].hub;
        let owed: Vec<ClientEnd> = self
            .clients_known()
            .filter(|client| self.is_owed(*client, hub, server, &audience))
            .collect();
        self.log(format_args!(
            "server connection {} sends {number} to {}, owed to {:?}",
            server.0,
            self.told(&audience),
            ends(&owed)
        ));
        let text = format!("({} {} {number})", server.0, audience.way());
        self.post(server, &audience, &text);
        let sending = Sending {
            server,
            audience,
            owed,
        };
        self.sendings.insert(number, sending);
        self.read_all();
    }

    fn is_owed(
        &self,
        client: ClientEnd,
        hub: HubId,
        server: ServerEnd,
        audience: &Audience,
    ) -> bool {
        let model = &self.clients[client.0];
        let is_member = |group: &'static str| self.memberships.is_certain(group, client, server);
        let is_named = match audience {
            Audience::One(target) => *target == client,
            Audience::Connections(targets) => targets.contains(&client),
            Audience::Users(users) => model.user.is_some_and(|user| users.contains(&user)),
            Audience::Hub { excluded } => !excluded.contains(&client),
            Audience::Group(group, excluded) => {
                is_member(group)
                    && !excluded.clients.contains(&client)
                    && !model
                        .user
                        .is_some_and(|user| excluded.users.contains(&user))
            }
            Audience::Groups(groups) => groups.iter().any(|group| is_member(group)),
        };
        is_named && self.world.clients[client.0].hub == hub && !model.is_dismissed
    }

    /// Whether a client that hears a message is one that it may reach.
    pub(super) fn may_hear(&self, client: ClientEnd, sending: &Sending) -> bool {
        let model = &self.clients[client.0];
        let was_member = |group: &'static str| self.memberships.has_ever_been(group, client);
        let is_named = match &sending.audience {
            Audience::One(target) => *target == client,
            Audience::Connections(targets) => targets.contains(&client),
            Audience::Users(users) => model.user.is_some_and(|user| users.contains(&user)),
            Audience::Hub { excluded } => !excluded.contains(&client),
            Audience::Group(group, excluded) => {
                was_member(group)
                    && !excluded.clients.contains(&client)
                    && !model
                        .user
                        .is_some_and(|user| excluded.users.contains(&user))
            }
            Audience::Groups(groups) => groups.iter().any(|group| was_member(group)),
        };
        is_named && self.world.clients[client.0].hub == self.world.servers[sending.server.0].hub
    }

    /// A client is not in a group any more, or is about not to be: what was sent to that group before may miss it.
    pub(super) fn forgive_group(&mut self, group: Option<&'static str>, client: ClientEnd) {
        for sending in self.sendings.values_mut() {
            let is_concerned = match &sending.audience {
                Audience::Group(named, _) => group.is_none_or(|group| group == *named),
                Audience::Groups(_) => true,
                Audience::One(_)
                | Audience::Connections(_)
                | Audience::Users(_)
                | Audience::Hub { .. } => false,
            };
            if is_concerned {
                sending.owed.retain(|owed| *owed != client);
            }
        }
    }

    fn post(&mut self, server: ServerEnd, audience: &Audience, text: &str) {
        let json = kept(&framed(text, None, &HubProtocol::Json));
        let messagepack = kept(&framed(text, None, &HubProtocol::MessagePack));
        let mut payloads = Payloads::default();
        payloads.push("json", json);
        payloads.push("messagepack", messagepack);
        let ids = |clients: &[ClientEnd]| -> Texts<'static> {
            let ids = clients.iter().map(|client| self.world.id(*client));
            ids.map(Text::from).collect()
        };
        let message: Received = match audience {
            Audience::One(client) => ConnectionData {
                connection_id: self.world.id(*client).into(),
                payload: if self.world.clients[client.0].protocol.is_text() {
                    json
                } else {
                    messagepack
                },
                data_type: DataMessageType::Invocation,
                ..ConnectionData::default()
            }
            .into(),
            Audience::Connections(clients) => MultiConnectionData {
                connection_ids: ids(clients),
                payloads,
                filter: None,
                tracing_id: None,
            }
            .into(),
            Audience::Users(users) => to_these_users(users, payloads),
            Audience::Hub { excluded } => BroadcastData {
                excluded: ids(excluded),
                payloads,
                filter: None,
                tracing_id: None,
            }
            .into(),
            Audience::Group(group, excluded) => GroupBroadcastData {
                group: (*group).into(),
                excluded: ids(&excluded.clients),
                payloads,
                excluded_users: excluded.users.iter().copied().map(Text::from).collect(),
                caller_user_id: None,
                filter: None,
                tracing_id: None,
            }
            .into(),
            Audience::Groups(groups) => MultiGroupBroadcastData {
                groups: groups.iter().copied().map(Text::from).collect(),
                payloads,
                filter: None,
                tracing_id: None,
            }
            .into(),
        };
        self.send(server, message);
    }

    fn told(&self, audience: &Audience) -> String {
        if !self.journal.is_told() {
            return String::new();
        }
        match audience {
            Audience::One(client) => format!("client {}", client.0),
            Audience::Connections(clients) => format!("clients {:?}", ends(clients)),
            Audience::Users(users) => format!("users {users:?}"),
            Audience::Hub { excluded } => format!("the hub except {:?}", ends(excluded)),
            Audience::Group(group, excluded) => format!(
                "group {group} except {:?} and {:?}",
                ends(&excluded.clients),
                excluded.users
            ),
            Audience::Groups(groups) => format!("groups {groups:?}"),
        }
    }
}

impl Audience {
    /// What names a connection that has moved goes another way than what names its hub.
    fn way(&self) -> char {
        match self {
            Self::One(_) | Self::Connections(_) => 'c',
            Self::Users(_) | Self::Hub { .. } | Self::Group(..) | Self::Groups(_) => 'h',
        }
    }
}

fn to_these_users(users: &[&'static str], payloads: Payloads<'static, &'static [u8]>) -> Received {
    match users {
        [user] => UserData {
            user_id: (*user).into(),
            payloads,
            filter: None,
            tracing_id: None,
        }
        .into(),
        _ => MultiUserData {
            user_ids: users.iter().copied().map(Text::from).collect(),
            payloads,
            filter: None,
            tracing_id: None,
        }
        .into(),
    }
}

/// Ends as they stand in the journal.
pub(super) fn ends(clients: &[ClientEnd]) -> Vec<usize> {
    clients.iter().map(|client| client.0).collect()
}

//! Sending to clients: to one, to some, to all of a hub, on whichever app server they are.
//!
//! A message is encoded once for each hub protocol, and the service picks for each client the one that it speaks. Only to a
//! client of this process goes its own protocol alone, and by its own way: there it stays in order with what the hub answers it.

use std::sync::Arc;

use super::hub::HubError;
use super::hub_server::HubServer;
use super::routes::Routes;
use super::server_connection::ServerConnection;
use crate::protocol::hub::message::{HubMessage, MessageProtocol, Value};
use crate::protocol::service::{
    BroadcastData, ClientInvocation, GroupBroadcastData, Message, MultiConnectionData,
    MultiGroupBroadcastData, MultiUserData, Payloads, Texts, UserData,
};

/// The clients of a hub.
#[derive(Clone, Debug)]
pub struct Clients {
    pub(super) hub: Arc<HubServer>,
    /// The server connection to take, where order with something else matters.
    pub(super) via: Option<Arc<ServerConnection>>,
}

impl Clients {
    pub(super) fn new(hub: Arc<HubServer>, via: Option<Arc<ServerConnection>>) -> Self {
        Self { hub, via }
    }

    /// All clients of the hub.
    pub fn all(&self) -> Recipients {
        self.all_except::<&str>([])
    }

    /// All clients but these connections.
    pub fn all_except<T: AsRef<str>>(
        &self,
        connection_ids: impl IntoIterator<Item = T>,
    ) -> Recipients {
        self.to(To::All {
            excluded: owned(connection_ids),
        })
    }

    /// One connection.
    pub fn connection(&self, connection_id: &str) -> Recipient {
        Recipient {
            hub: Arc::clone(&self.hub),
            via: self.via.clone(),
            connection_id: connection_id.to_owned(),
        }
    }

    /// Several connections.
    pub fn connections<T: AsRef<str>>(
        &self,
        connection_ids: impl IntoIterator<Item = T>,
    ) -> Recipients {
        self.to(To::Connections(owned(connection_ids)))
    }

    /// All connections of a user.
    pub fn user(&self, user_id: &str) -> Recipients {
        self.to(To::User(user_id.to_owned()))
    }

    /// All connections of several users.
    pub fn users<T: AsRef<str>>(&self, user_ids: impl IntoIterator<Item = T>) -> Recipients {
        self.to(To::Users(owned(user_ids)))
    }

    /// The members of a group.
    pub fn group(&self, group: &str) -> Recipients {
        self.group_except::<&str>(group, [])
    }

    /// The members of a group but these connections.
    pub fn group_except<T: AsRef<str>>(
        &self,
        group: &str,
        connection_ids: impl IntoIterator<Item = T>,
    ) -> Recipients {
        self.to(To::Group {
            group: group.to_owned(),
            excluded: owned(connection_ids),
        })
    }

    /// The members of several groups, each of them once.
    pub fn groups<T: AsRef<str>>(&self, groups: impl IntoIterator<Item = T>) -> Recipients {
        self.to(To::Groups(owned(groups)))
    }

    fn to(&self, to: To) -> Recipients {
        Recipients {
            hub: Arc::clone(&self.hub),
            via: self.via.clone(),
            to,
        }
    }
}

/// Some clients to send to.
#[derive(Clone, Debug)]
pub struct Recipients {
    hub: Arc<HubServer>,
    via: Option<Arc<ServerConnection>>,
    to: To,
}

#[derive(Clone, Debug)]
enum To {
    All {
        excluded: Vec<String>,
    },
    Connections(Vec<String>),
    User(String),
    Users(Vec<String>),
    Group {
        group: String,
        excluded: Vec<String>,
    },
    Groups(Vec<String>),
}

/// Nothing could be sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SendError {
    /// There is no server connection at the moment.
    #[error("no server connection to the service is up")]
    NoServerConnection,
    /// The server connection that was to carry it has just ended.
    #[error("the server connection to the service was lost")]
    ServerConnectionLost,
}

impl From<SendError> for HubError {
    fn from(error: SendError) -> Self {
        Self::Internal(error.to_string())
    }
}

impl Recipients {
    /// Calls a method on each of them. Done as soon as the message is on its way to the service.
    pub async fn send(
        &self,
        target: &str,
        arguments: impl IntoIterator<Item = Value> + Send,
    ) -> Result<(), SendError> {
        let encoded = encode(None, target, arguments.into_iter().collect());
        let payloads = encoded
            .iter()
            .map(|(protocol, payload)| (protocol.name(), payload))
            .collect();
        if self.to.is_nobody() {
            return Ok(());
        }
        let (key, message) = self.to.message(payloads);
        let routes = self.hub.routes(self.via.as_ref(), key)?;
        routes.send(&message).await?;
        Ok(())
    }
}

impl To {
    fn is_nobody(&self) -> bool {
        match self {
            Self::Connections(names) | Self::Users(names) | Self::Groups(names) => names.is_empty(),
            Self::All { .. } | Self::User(_) | Self::Group { .. } => false,
        }
    }

    /// The message, and the name whose messages shall stay in order.
    fn message<'a, P>(&'a self, payloads: Payloads<'a, P>) -> (&'a str, Message<'a, P>) {
        let (filter, tracing_id) = (None, None);
        match self {
            Self::All { excluded } => {
                let excluded = texts(excluded);
                let message = BroadcastData {
                    excluded,
                    payloads,
                    filter,
                    tracing_id,
                };
                ("", message.into())
            }
            Self::Connections(ids) => {
                let connection_ids = texts(ids);
                let message = MultiConnectionData {
                    connection_ids,
                    payloads,
                    filter,
                    tracing_id,
                };
                ("", message.into())
            }
            Self::User(user_id) => {
                let message = UserData {
                    user_id: user_id.into(),
                    payloads,
                    filter,
                    tracing_id,
                };
                (user_id, message.into())
            }
            Self::Users(ids) => {
                let user_ids = texts(ids);
                let message = MultiUserData {
                    user_ids,
                    payloads,
                    filter,
                    tracing_id,
                };
                ("", message.into())
            }
            Self::Group { group, excluded } => {
                let message = GroupBroadcastData {
                    group: group.into(),
                    excluded: texts(excluded),
                    payloads,
                    excluded_users: Texts::new(),
                    caller_user_id: None,
                    filter,
                    tracing_id,
                };
                (group, message.into())
            }
            Self::Groups(groups) => {
                let groups = texts(groups);
                let message = MultiGroupBroadcastData {
                    groups,
                    payloads,
                    filter,
                    tracing_id,
                };
                ("", message.into())
            }
        }
    }
}

/// One client, which can also be asked for a result.
#[derive(Clone, Debug)]
pub struct Recipient {
    hub: Arc<HubServer>,
    via: Option<Arc<ServerConnection>>,
    connection_id: String,
}

impl Recipient {
    /// Calls a method on it. Done as soon as the message is on its way to the service.
    pub async fn send(
        &self,
        target: &str,
        arguments: impl IntoIterator<Item = Value> + Send,
    ) -> Result<(), SendError> {
        let arguments = arguments.into_iter().collect();
        // One that cannot be reached on its own way is sent to as if it were anywhere.
        let own = self.hub.client(&self.connection_id);
        let own = own.filter(|client| client.way.server_connection().is_open());
        let encoded = match &own {
            Some(client) => vec![encode_one(client.protocol, None, target, arguments)],
            None => encode(None, target, arguments),
        };
        let payloads = encoded
            .iter()
            .map(|(protocol, payload)| (protocol.name(), payload))
            .collect();
        let message = Message::from(MultiConnectionData {
            connection_ids: texts(std::slice::from_ref(&self.connection_id)),
            payloads,
            filter: None,
            tracing_id: None,
        });
        let routes = match &own {
            Some(client) => Routes::new([client.way.server_connection()])?,
            None => self.hub.routes(self.via.as_ref(), &self.connection_id)?,
        };
        routes.send(&message).await?;
        Ok(())
    }

    /// Calls a method on it and waits for what the client returns.
    ///
    /// Ends with an error when the client leaves. How long a client may take is for the caller to say: dropping the future
    /// gives the result up, without a word to the service or the client.
    pub async fn invoke(
        &self,
        target: &str,
        arguments: impl IntoIterator<Item = Value> + Send,
    ) -> Result<Value, HubError> {
        let process = &self.hub.process;
        let routes = self.hub.routes(self.via.as_ref(), &self.connection_id)?;
        let pending = process.results.begin(&self.connection_id, routes.count());
        let invocation_id = pending.invocation_id.clone();
        let encoded = encode(
            Some(&invocation_id),
            target,
            arguments.into_iter().collect(),
        );
        let message = Message::from(ClientInvocation {
            invocation_id: invocation_id.into(),
            connection_id: self.connection_id.as_str().into(),
            caller_server_id: process.server_id.as_str().into(),
            payloads: encoded
                .iter()
                .map(|(protocol, payload)| (protocol.name(), payload))
                .collect(),
            tracing_id: None,
        });
        let sent = routes.send(&message).await?;
        for _ in sent..routes.count() {
            let error = SendError::ServerConnectionLost.to_string();
            process
                .results
                .fail_one(&pending.invocation_id, &self.connection_id, &error);
        }
        pending.wait().await.map_err(HubError::Message)
    }
}

/// The invocation in every hub protocol.
fn encode(
    invocation_id: Option<&str>,
    target: &str,
    arguments: Vec<Value>,
) -> Vec<(MessageProtocol, Vec<u8>)> {
    let message = invocation(invocation_id, target, arguments);
    MessageProtocol::ALL
        .map(|protocol| (protocol, protocol.encode(&message)))
        .into()
}

fn encode_one(
    protocol: MessageProtocol,
    invocation_id: Option<&str>,
    target: &str,
    arguments: Vec<Value>,
) -> (MessageProtocol, Vec<u8>) {
    (
        protocol,
        protocol.encode(&invocation(invocation_id, target, arguments)),
    )
}

fn invocation(invocation_id: Option<&str>, target: &str, arguments: Vec<Value>) -> HubMessage {
    HubMessage::Invocation {
        headers: Vec::new(),
        invocation_id: invocation_id.map(str::to_owned),
        target: target.to_owned(),
        arguments,
        stream_ids: Vec::new(),
    }
}

fn owned<T: AsRef<str>>(names: impl IntoIterator<Item = T>) -> Vec<String> {
    names
        .into_iter()
        .map(|name| name.as_ref().to_owned())
        .collect()
}

fn texts(names: &[String]) -> Texts<'_> {
    names.iter().map(|name| name.as_str().into()).collect()
}

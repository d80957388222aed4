//! The ping: a keep-alive when it is empty, otherwise a small question, answer or command made of strings.
//!
//! The strings are by turns a key and its value; a key at the end without a value counts for nothing. Which purpose a ping serves
//! depends on the direction, so there is an enumeration for each: [`AppPing`] to the service, [`ServicePing`] to the app server.
//! A ping that is read serves the first purpose that applies, in the order in which the SDK looks.

use smallvec::{SmallVec, smallvec};

use super::decode::{DecodeError, Fields};
use super::reader::Reader;
use super::writer::MessagePackWriter;
use super::{MessageType, Text};

/// The strings of a ping.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Ping<'a> {
    pub(super) strings: SmallVec<[Text<'a>; 4]>,
}

impl<'a> Ping<'a> {
    /// The value of the first key that is exactly `key`.
    pub fn value(&self, key: &str) -> Option<&str> {
        self.pairs()
            .find(|(name, _)| *name == key)
            .map(|(_, value)| value)
    }

    /// All pairs.
    pub fn pairs(&self) -> impl Iterator<Item = (&str, &str)> {
        self.strings.chunks_exact(2).filter_map(|pair| match pair {
            [key, value] => Some((&**key, &**value)),
            _ => None,
        })
    }

    /// Whether it says nothing but that the sender is alive.
    pub fn is_empty(&self) -> bool {
        self.strings.is_empty()
    }

    fn of(key: &'a str, value: impl Into<Text<'a>>) -> Self {
        Self {
            strings: smallvec![key.into(), value.into()],
        }
    }

    fn and_count(mut self, key: &'a str, count: Option<u64>) -> Self {
        if let Some(count) = count {
            self.strings.extend([key.into(), count.to_string().into()]);
        }
        self
    }

    fn number(&self, key: &str) -> Option<u64> {
        self.value(key)?.parse().ok()
    }

    pub(super) fn read(fields: &mut Fields<'_, 'a>) -> Result<Self, DecodeError> {
        let mut ping = Self::default();
        fields.rest("strings", Reader::text, |text| ping.strings.push(text))?;
        Ok(ping)
    }

    pub(super) fn write(&self, out: &mut impl MessagePackWriter) {
        out.array(1 + self.strings.len());
        out.int(MessageType::Ping.number());
        for text in &self.strings {
            out.text(text);
        }
    }
}

impl<'a, T: Into<Text<'a>>> FromIterator<T> for Ping<'a> {
    fn from_iter<I: IntoIterator<Item = T>>(strings: I) -> Self {
        Self {
            strings: strings.into_iter().map(Into::into).collect(),
        }
    }
}

/// What an app server wants with a ping.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AppPing {
    /// It is alive, and may say how many clients it has.
    KeepAlive(ClientCounts),
    /// Does the hub have clients here?
    StatusQuery,
    /// Which app servers of the hub are connected here?
    ServersQuery,
    /// Give this server connection no new clients, and tell me when that is so.
    Fin(ShutdownMode),
    /// The echo of that number, sent back. Only numbers are sent out.
    Echo(u64),
    /// Anything else.
    Other,
}

/// How many clients an app server has of one hub.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ClientCounts {
    /// On all its server connections.
    pub in_hub: Option<u64>,
    /// On the one that carried the ping.
    pub here: Option<u64>,
}

/// What shall become of the clients of a server connection that shuts down.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ShutdownMode {
    /// The app server closes them.
    Off,
    /// They move to other app servers.
    MigrateClients,
    /// They stay until they leave.
    WaitForClientsClose,
}

impl AppPing {
    /// Reads a ping that an app server sent.
    pub fn parse(ping: &Ping<'_>) -> Self {
        let fin = ping.value(key::SHUTDOWN).and_then(ShutdownMode::parse);
        let counts = ClientCounts {
            in_hub: ping.number(key::CLIENTS_IN_HUB),
            here: ping.number(key::CLIENTS_HERE),
        };
        if let Some(mode) = fin {
            Self::Fin(mode)
        } else if let Some(number) = ping.number(key::ECHO) {
            Self::Echo(number)
        } else if ping.value(key::STATUS).is_some() {
            Self::StatusQuery
        } else if ping.value(key::SERVERS).is_some() {
            Self::ServersQuery
        } else if ping.is_empty() || counts != ClientCounts::default() {
            Self::KeepAlive(counts)
        } else {
            Self::Other
        }
    }
}

impl From<AppPing> for Ping<'_> {
    fn from(ping: AppPing) -> Self {
        match ping {
            AppPing::KeepAlive(counts) => Self::default()
                .and_count(key::CLIENTS_IN_HUB, counts.in_hub)
                .and_count(key::CLIENTS_HERE, counts.here),
            AppPing::StatusQuery => Self::of(key::STATUS, "1"),
            AppPing::ServersQuery => Self::of(key::SERVERS, ""),
            AppPing::Fin(mode) => Self::of(key::SHUTDOWN, mode.text()),
            AppPing::Echo(number) => Self::of(key::ECHO, number.to_string()),
            AppPing::Other => Self::default(),
        }
    }
}

impl ShutdownMode {
    fn parse(text: &str) -> Option<Self> {
        [Self::Off, Self::MigrateClients, Self::WaitForClientsClose]
            .into_iter()
            .find(|mode| mode.text() == text)
    }

    fn text(self) -> &'static str {
        match self {
            Self::Off => "fin:0",
            Self::MigrateClients => "fin:1",
            Self::WaitForClientsClose => "fin:2",
        }
    }
}

/// What the service wants with a ping.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ServicePing<'a> {
    /// It is alive.
    KeepAlive,
    /// Send me the same ping back.
    Echo(Text<'a>),
    /// This instance is lost, and with it its clients; an empty name means all instances.
    Offline(Text<'a>),
    /// The server connection gets no new clients any more.
    FinAck,
    /// Answers a status query.
    Status(HubStatus),
    /// Answers a servers query.
    Servers(ServersTag<'a>),
    /// Whether to put tracing ids on messages.
    MessageLog(bool),
    /// Open another server connection, to this instance.
    Rebalance(Text<'a>),
    /// Anything else.
    Other,
}

/// What the service has of one hub.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct HubStatus {
    /// Whether the hub has client connections at all.
    pub has_clients: bool,
    /// How many there are.
    pub client_count: Option<u64>,
    /// How many server connections there are.
    pub server_count: Option<u64>,
    /// How many client connections there may be.
    pub capacity: Option<u64>,
}

/// Which app servers of a hub are connected. The SDK compares the whole text between endpoints and over time.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ServersTag<'a> {
    /// When it was so, in .NET ticks: 100 ns since the year 1. Only a later tag replaces an earlier one.
    pub ticks: u64,
    /// The app servers' ids, parted by semicolons.
    pub ids: Text<'a>,
}

impl ServersTag<'_> {
    /// The tag for these app servers, named in an order that does not depend on the order in which they came.
    pub fn new<'s>(ticks: u64, ids: impl IntoIterator<Item = &'s str>) -> Self {
        let mut ids: Vec<&str> = ids.into_iter().collect();
        ids.sort_unstable();
        ids.dedup();
        Self {
            ticks,
            ids: ids.join(";").into(),
        }
    }
}

impl<'a> ServicePing<'a> {
    /// Reads a ping that the service sent.
    pub fn parse(ping: &'a Ping<'_>) -> Self {
        if let Some(value) = ping.value(key::ECHO) {
            Self::Echo(value.into())
        } else if let Some(instance) = ping.value(key::OFFLINE) {
            Self::Offline(instance.into())
        } else if ping.value(key::SHUTDOWN) == Some(FINACK) {
            Self::FinAck
        } else if let Some(status) = ping.value(key::STATUS) {
            Self::Status(HubStatus {
                has_clients: status == "1",
                client_count: ping.number(key::CLIENT_COUNT),
                server_count: ping.number(key::SERVER_COUNT),
                capacity: ping.number(key::CAPACITY),
            })
        } else if let Some((ticks, ids)) =
            ping.value(key::SERVERS).and_then(|tag| tag.split_once(':'))
        {
            ticks.parse().map_or(Self::Other, |ticks| {
                Self::Servers(ServersTag {
                    ticks,
                    ids: ids.into(),
                })
            })
        } else if let Some(switch) = ping.value(key::MESSAGE_LOG) {
            Self::MessageLog(switch == "1")
        } else if let Some(instance) = ping.value(key::TARGET) {
            Self::Rebalance(instance.into())
        } else if ping.is_empty() {
            Self::KeepAlive
        } else {
            Self::Other
        }
    }
}

impl<'a> From<ServicePing<'a>> for Ping<'a> {
    fn from(ping: ServicePing<'a>) -> Self {
        match ping {
            ServicePing::KeepAlive | ServicePing::Other => Self::default(),
            ServicePing::Echo(value) => Self::of(key::ECHO, value),
            ServicePing::Offline(instance) => Self::of(key::OFFLINE, instance),
            ServicePing::FinAck => Self::of(key::SHUTDOWN, FINACK),
            ServicePing::Status(status) => status.into(),
            ServicePing::Servers(tag) => {
                Self::of(key::SERVERS, format!("{}:{}", tag.ticks, tag.ids))
            }
            ServicePing::MessageLog(switch) => {
                Self::of(key::MESSAGE_LOG, if switch { "1" } else { "0" })
            }
            ServicePing::Rebalance(instance) => Self::of(key::TARGET, instance),
        }
    }
}

impl From<HubStatus> for Ping<'_> {
    fn from(status: HubStatus) -> Self {
        Self::of(key::STATUS, if status.has_clients { "1" } else { "0" })
            .and_count(key::CLIENT_COUNT, status.client_count)
            .and_count(key::SERVER_COUNT, status.server_count)
            .and_count(key::CAPACITY, status.capacity)
    }
}

/// The keys there are. Letter case matters.
mod key {
    pub(super) const CAPACITY: &str = "capacity";
    pub(super) const CLIENTS_HERE: &str = "#client";
    pub(super) const CLIENTS_IN_HUB: &str = "#clientInHub";
    pub(super) const CLIENT_COUNT: &str = "clientcount";
    pub(super) const ECHO: &str = "echo";
    pub(super) const MESSAGE_LOG: &str = "d-m";
    pub(super) const OFFLINE: &str = "offline";
    pub(super) const SERVERS: &str = "servers";
    pub(super) const SERVER_COUNT: &str = "servercount";
    pub(super) const SHUTDOWN: &str = "shutdown";
    pub(super) const STATUS: &str = "status";
    pub(super) const TARGET: &str = "target";
}

const FINACK: &str = "finack";

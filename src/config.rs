//! What an operator decides about a service.
//!
//! A [`ServiceConfig`] says what is wanted; where the wishes come from, flags or environment, is not its business. Every default is
//! fit for a developer's machine. [`ServiceConfig::validate`] refuses what would open a service to strangers by oversight.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::num::NonZeroU16;
use std::str::FromStr;
use std::time::Duration;

use thiserror::Error;

use crate::protocol::access_token::AccessKeys;
use crate::protocol::connection_string::{
    AccessKey, ConnectionString, ConnectionStringError, Endpoint,
};

/// Everything that can be set.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServiceConfig {
    /// Where clients and app servers connect.
    pub listen: SocketAddr,
    /// Where operators look. What stands there is not guarded by any key, so it is a port of its own, on loopback by default.
    pub admin: Option<SocketAddr>,
    /// Keys of which any opens the door. The first is the one to hand out.
    pub access_keys: Vec<AccessKey>,
    /// Permits the key that everybody knows on an address that everybody can reach.
    pub allow_well_known_key_in_public: bool,
    /// Hosts that an access token may have been made for. Empty: any, since the key alone decides who may come in.
    pub audience_hosts: Vec<Box<str>>,
    /// Threads of the data plane. By default one for each of the cores.
    pub shards: Option<NonZeroU16>,
    /// The cores to run on. By default all that the process may use.
    pub cores: Option<CoreList>,
    /// Connections of clients and app servers together. By default as many as there are descriptors for.
    pub connections_max: Option<usize>,
    /// Whether to believe an `X-Forwarded-For` that comes with a client: only behind a proxy that sets it.
    pub trust_forwarded_for: bool,
    /// Whether clients may survive the loss of their socket, where their app server allows it and they ask for it.
    pub stateful_reconnect: bool,
    /// How long clients are kept whose server connection is lost, for another one to take them. By default they are closed at once and
    /// come back by themselves.
    pub park_on_drop: Option<Duration>,
    /// Where every WebSocket message is sent back, to whoever asks: for test suites of RFC 6455, which know nothing of tokens. On loopback
    /// or nowhere.
    pub websocket_echo: Option<SocketAddr>,
}

impl Default for ServiceConfig {
    /// The addresses and the key of Microsoft's emulator, so that an app set up for that runs as it is.
    fn default() -> Self {
        Self {
            listen: SocketAddr::from((Ipv4Addr::LOCALHOST, 8888)),
            admin: Some(SocketAddr::from((Ipv4Addr::LOCALHOST, 8889))),
            access_keys: AccessKey::parse(WELL_KNOWN_KEY).into_iter().collect(),
            allow_well_known_key_in_public: false,
            audience_hosts: Vec::new(),
            shards: None,
            cores: None,
            connections_max: None,
            trust_forwarded_for: false,
            stateful_reconnect: true,
            park_on_drop: None,
            websocket_echo: None,
        }
    }
}

impl ServiceConfig {
    /// Refuses what cannot work, and what must not.
    pub fn validate(&self) -> Result<(), ConfigError> {
        let uses_well_known_key = self
            .access_keys
            .iter()
            .any(|key| key.as_str() == WELL_KNOWN_KEY);
        if uses_well_known_key && is_public(self.listen) && !self.allow_well_known_key_in_public {
            return Err(ConfigError::WellKnownKeyInPublic {
                listen: self.listen,
            });
        }
        if let Some(address) = self.websocket_echo.filter(|address| is_public(*address)) {
            return Err(ConfigError::EchoInPublic { address });
        }
        if let Some(host) = self.audience_hosts.iter().find(|host| !is_host(host)) {
            return Err(ConfigError::InvalidAudienceHost { host: host.clone() });
        }
        // Port 0 stands for any free port, which is never the same twice.
        if self.listen.port() != 0 && self.admin == Some(self.listen) {
            return Err(ConfigError::SameAddressTwice {
                address: self.listen,
            });
        }
        if let (Some(shards), Some(cores)) = (self.shards, &self.cores)
            && usize::from(shards.get()) > cores.indexes().len()
        {
            return Err(ConfigError::TooFewCores {
                shards,
                cores: cores.indexes().len(),
            });
        }
        if self.connections_max == Some(0) {
            return Err(ConfigError::NoConnections);
        }
        self.connection_string().map(|_| ())
    }

    /// What an app server on this machine has to be configured with. After port 0 has been bound, `listen` must be set to what it became.
    pub fn connection_string(&self) -> Result<ConnectionString, ConfigError> {
        let access_key = self.access_keys.first().ok_or(ConfigError::NoAccessKey)?;
        let (ip, port) = (self.listen.ip().to_canonical(), self.listen.port());
        let host = match (self.audience_hosts.first(), ip) {
            // A token names the host of the connection string: it has to be one that we accept.
            (Some(host), _) => host.to_string(),
            (None, ip) if ip.is_unspecified() => "localhost".to_owned(),
            (None, IpAddr::V4(ip)) => ip.to_string(),
            (None, IpAddr::V6(ip)) => format!("[{ip}]"),
        };
        // A port that is not known yet is left out.
        let url = if port == 0 {
            format!("http://{host}")
        } else {
            format!("http://{host}:{port}")
        };
        Ok(ConnectionString::new(
            Endpoint::parse(&url)?,
            access_key.clone(),
        ))
    }

    /// What decides whether a token is accepted.
    pub fn token_keys(&self) -> AccessKeys {
        AccessKeys::new(&self.access_keys).with_audience_hosts(self.audience_hosts.iter().cloned())
    }
}

/// Cores by their number, each at most once, in the order in which shards shall take them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CoreList(Vec<usize>);

impl CoreList {
    /// The numbers. There is at least one.
    pub fn indexes(&self) -> &[usize] {
        &self.0
    }
}

impl FromStr for CoreList {
    type Err = CoreListError;

    /// Reads numbers and ranges between commas, as `taskset` does: `0-3,8`.
    fn from_str(text: &str) -> Result<Self, CoreListError> {
        let mut indexes = Vec::new();
        for part in text.split(',').map(str::trim) {
            let (first, last) = part.split_once('-').unwrap_or((part, part));
            let (Some(first), Some(last)) = (core_index(first), core_index(last)) else {
                return Err(CoreListError::NotACore { part: part.into() });
            };
            if first > last {
                return Err(CoreListError::EmptyRange { part: part.into() });
            }
            for index in first..=last {
                if indexes.contains(&index) {
                    return Err(CoreListError::Duplicate { index });
                }
                indexes.push(index);
            }
        }
        Ok(Self(indexes))
    }
}

/// What is wrong with a configuration.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum ConfigError {
    /// Nobody could come in.
    #[error("no access key is configured")]
    NoAccessKey,
    /// Everybody could come in.
    #[error(
        "{listen} can be reached from outside, and the access key is the one that everybody knows: choose another"
    )]
    WellKnownKeyInPublic {
        /// The address in question.
        listen: SocketAddr,
    },
    /// Everybody could make the service work for nothing.
    #[error("{address} can be reached from outside, and the WebSocket echo asks nobody for a key")]
    EchoInPublic {
        /// The address in question.
        address: SocketAddr,
    },
    /// A host with a scheme, a port or a path, or none at all.
    #[error("{host:?} is not the name of a host")]
    InvalidAudienceHost {
        /// As given.
        host: Box<str>,
    },
    /// Both listeners on one address.
    #[error("{address} cannot serve operators and everybody else at once")]
    SameAddressTwice {
        /// The address in question.
        address: SocketAddr,
    },
    /// Shards would have to share a core.
    #[error("{shards} shards need a core each, but only {cores} are listed")]
    TooFewCores {
        /// As configured.
        shards: NonZeroU16,
        /// How many are listed.
        cores: usize,
    },
    /// A limit of 0.
    #[error("a service without connections is of no use")]
    NoConnections,
    /// The address does not make a connection string.
    #[error(transparent)]
    ConnectionString(#[from] ConnectionStringError),
}

/// What is wrong with a list of cores.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum CoreListError {
    /// Not a number, or too large a one.
    #[error("{part:?} is neither a core from 0 to {CORE_INDEX_MAX} nor a range of such")]
    NotACore {
        /// As written.
        part: Box<str>,
    },
    /// A range from high to low.
    #[error("{part:?} is a range of nothing")]
    EmptyRange {
        /// As written.
        part: Box<str>,
    },
    /// The same core twice.
    #[error("core {index} is listed twice")]
    Duplicate {
        /// The core.
        index: usize,
    },
}

/// The access key of Microsoft's emulator. It is printed in public documents.
pub const WELL_KNOWN_KEY: &str = "ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789ABCDEFGH";

/// Linux's `cpu_set_t` has 1024 bits.
const CORE_INDEX_MAX: usize = 1023;

/// Whether other machines may be able to connect.
fn is_public(address: SocketAddr) -> bool {
    !address.ip().to_canonical().is_loopback()
}

fn is_host(text: &str) -> bool {
    let url = format!("http://{text}/");
    Endpoint::parse(&url).is_ok_and(|endpoint| endpoint.host().eq_ignore_ascii_case(text))
}

fn core_index(text: &str) -> Option<usize> {
    text.trim()
        .parse()
        .ok()
        .filter(|index| *index <= CORE_INDEX_MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn listening_on(address: &str) -> ServiceConfig {
        ServiceConfig {
            listen: address.parse().unwrap(),
            ..ServiceConfig::default()
        }
    }

    fn own_key() -> Vec<AccessKey> {
        vec![AccessKey::parse("a key of our own").unwrap()]
    }

    fn connection_string(config: &ServiceConfig) -> String {
        config.connection_string().unwrap().text()
    }

    #[test]
    fn the_defaults_are_valid_and_those_of_the_emulator() {
        let config = ServiceConfig::default();
        assert_eq!(config.validate(), Ok(()));
        assert_eq!(
            connection_string(&config),
            "Endpoint=http://127.0.0.1;Port=8888;AccessKey=ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789ABCDEFGH;Version=1.0;"
        );
    }

    #[test]
    fn the_well_known_key_stays_at_home() {
        for address in [
            "127.0.0.1:1",
            "127.9.9.9:1",
            "[::1]:1",
            "[::ffff:127.0.0.1]:1",
        ] {
            assert_eq!(listening_on(address).validate(), Ok(()), "{address}");
        }
        for address in ["0.0.0.0:1", "[::]:1", "192.0.2.7:1", "[2001:db8::1]:1"] {
            let config = listening_on(address);
            let refused = Err(ConfigError::WellKnownKeyInPublic {
                listen: config.listen,
            });
            assert_eq!(config.validate(), refused, "{address}");
            assert_eq!(
                ServiceConfig {
                    access_keys: own_key(),
                    ..config.clone()
                }
                .validate(),
                Ok(())
            );
            let beside_our_own = [own_key(), config.access_keys.clone()].concat();
            assert_eq!(
                ServiceConfig {
                    access_keys: beside_our_own,
                    ..config.clone()
                }
                .validate(),
                refused
            );
            assert_eq!(
                ServiceConfig {
                    allow_well_known_key_in_public: true,
                    ..config
                }
                .validate(),
                Ok(())
            );
        }
    }

    #[test]
    fn the_echo_stays_at_home() {
        let echoing_on = |address: &str| ServiceConfig {
            websocket_echo: address.parse().ok(),
            ..ServiceConfig::default()
        };
        for address in ["127.0.0.1:0", "[::1]:9001"] {
            assert_eq!(echoing_on(address).validate(), Ok(()), "{address}");
        }
        for address in ["0.0.0.0:0", "[::]:9001", "192.0.2.7:1"] {
            let config = ServiceConfig {
                access_keys: own_key(),
                allow_well_known_key_in_public: true,
                ..echoing_on(address)
            };
            let refused = ConfigError::EchoInPublic {
                address: address.parse().unwrap(),
            };
            assert_eq!(config.validate(), Err(refused), "{address}");
        }
    }

    #[test]
    fn the_connection_string_names_a_host_that_tokens_may_name() {
        let start = |config: &ServiceConfig| {
            connection_string(config)
                .split("AccessKey")
                .next()
                .unwrap()
                .to_owned()
        };
        assert_eq!(
            start(&listening_on("0.0.0.0:80")),
            "Endpoint=http://localhost;Port=80;"
        );
        assert_eq!(
            start(&listening_on("192.0.2.7:81")),
            "Endpoint=http://192.0.2.7;Port=81;"
        );
        assert_eq!(
            start(&listening_on("[2001:db8::1]:82")),
            "Endpoint=http://[2001:db8::1];Port=82;"
        );
        assert_eq!(
            start(&listening_on("127.0.0.1:0")),
            "Endpoint=http://127.0.0.1;"
        );
        let named = ServiceConfig {
            audience_hosts: vec!["Chat.example.com".into()],
            ..ServiceConfig::default()
        };
        assert_eq!(named.validate(), Ok(()));
        assert_eq!(start(&named), "Endpoint=http://chat.example.com;Port=8888;");
    }

    #[test]
    fn contradictions_are_refused() {
        let default = ServiceConfig::default;
        let listen = default().listen;
        for (config, error) in [
            (
                ServiceConfig {
                    access_keys: Vec::new(),
                    ..default()
                },
                ConfigError::NoAccessKey,
            ),
            (
                ServiceConfig {
                    admin: Some(listen),
                    ..default()
                },
                ConfigError::SameAddressTwice { address: listen },
            ),
            (
                ServiceConfig {
                    connections_max: Some(0),
                    ..default()
                },
                ConfigError::NoConnections,
            ),
            (
                ServiceConfig {
                    shards: NonZeroU16::new(3),
                    cores: "0,1".parse().ok(),
                    ..default()
                },
                ConfigError::TooFewCores {
                    shards: NonZeroU16::new(3).unwrap(),
                    cores: 2,
                },
            ),
        ] {
            assert_eq!(config.validate(), Err(error));
        }
        for host in ["", "a:80", "http://a", "a/b", "::1"] {
            let config = ServiceConfig {
                audience_hosts: vec![host.into()],
                ..default()
            };
            assert_eq!(
                config.validate(),
                Err(ConfigError::InvalidAudienceHost { host: host.into() })
            );
        }
        let any_ports = ServiceConfig {
            admin: "127.0.0.1:0".parse().ok(),
            ..listening_on("127.0.0.1:0")
        };
        assert_eq!(any_ports.validate(), Ok(()));
    }

    #[test]
    fn cores_are_numbers_and_ranges() {
        let cores = |text: &str| text.parse::<CoreList>().map(|cores| cores.0);
        assert_eq!(cores("0-3,8"), Ok(vec![0, 1, 2, 3, 8]));
        assert_eq!(cores(" 5 , 2-2 "), Ok(vec![5, 2]));
        assert_eq!(
            cores("3-1"),
            Err(CoreListError::EmptyRange { part: "3-1".into() })
        );
        assert_eq!(cores("0-2,1"), Err(CoreListError::Duplicate { index: 1 }));
        for part in [
            "",
            "a",
            "-",
            "1-",
            "-1",
            "0-1024",
            "1-2-3",
            "0-99999999999999999999",
        ] {
            assert_eq!(
                cores(part),
                Err(CoreListError::NotACore { part: part.into() }),
                "{part}"
            );
        }
    }

    #[test]
    fn no_key_reaches_a_log() {
        assert!(!format!("{:?}", ServiceConfig::default()).contains(WELL_KNOWN_KEY));
    }
}

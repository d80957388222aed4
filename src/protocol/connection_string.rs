//! The one line with which an app server is pointed at a service: where it is, and the key that both sides share.
//!
//! `Endpoint=http://localhost;Port=8888;AccessKey=…;Version=1.0;`: the grammar is that of the Azure SignalR SDK. Parts stand
//! between semicolons, a name ends at the first `=`, names are compared without case, and names that are not known are skipped.
//! A value can hold no semicolon, so what has been parsed can always be written again.

use std::fmt;

use thiserror::Error;

/// Where a service is, and the key to it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConnectionString {
    endpoint: Endpoint,
    client_endpoint: Option<Endpoint>,
    server_endpoint: Option<Endpoint>,
    access_key: AccessKey,
}

impl ConnectionString {
    /// The string for a service that clients and app servers reach under the same address.
    pub fn new(endpoint: Endpoint, access_key: AccessKey) -> Self {
        Self {
            endpoint,
            client_endpoint: None,
            server_endpoint: None,
            access_key,
        }
    }

    /// Reads what [`text`](Self::text), Azure's portal or the emulator wrote.
    pub fn parse(text: &str) -> Result<Self, ConnectionStringError> {
        let parts = Parts::parse(text)?;
        if let Some(kind) = parts.auth_type.filter(|kind| {
            ENTRA_AUTH_TYPES
                .iter()
                .any(|entra| kind.eq_ignore_ascii_case(entra))
        }) {
            return Err(ConnectionStringError::EntraNotSupported {
                auth_type: kind.into(),
            });
        }
        if let Some(version) = parts.version.filter(|version| !is_version_1(version)) {
            return Err(ConnectionStringError::UnsupportedVersion {
                version: version.into(),
            });
        }
        let mut endpoint = Endpoint::parse(
            parts
                .endpoint
                .ok_or(ConnectionStringError::MissingEndpoint)?,
        )?;
        if let Some(text) = parts.port {
            let port = text.parse().ok().filter(|port| *port != 0);
            endpoint.port =
                Some(port.ok_or_else(|| ConnectionStringError::InvalidPort { port: text.into() })?);
        }
        Ok(Self {
            endpoint,
            client_endpoint: parts.client_endpoint.map(Endpoint::parse).transpose()?,
            server_endpoint: parts.server_endpoint.map(Endpoint::parse).transpose()?,
            access_key: AccessKey::parse(
                parts
                    .access_key
                    .ok_or(ConnectionStringError::MissingAccessKey)?,
            )?,
        })
    }

    /// The line to paste into an app server's settings. It holds the key.
    pub fn text(&self) -> String {
        let Endpoint {
            is_secure,
            host,
            port,
            path,
        } = &self.endpoint;
        let entry = |name: &str, value: Option<&str>| {
            value.map_or_else(String::new, |value| format!("{name}={value};"))
        };
        let endpoint = format!(
            "{}://{host}{}",
            scheme(*is_secure),
            path.trim_end_matches('/')
        );
        let port = port.map(|port| port.to_string());
        let client_endpoint = self.client_endpoint.as_ref().map(Endpoint::url_base);
        let server_endpoint = self.server_endpoint.as_ref().map(Endpoint::url_base);
        [
            entry("Endpoint", Some(&endpoint)),
            entry("Port", port.as_deref()),
            entry("AccessKey", Some(self.access_key.as_str())),
            entry("Version", Some("1.0")),
            entry("ClientEndpoint", client_endpoint.as_deref()),
            entry("ServerEndpoint", server_endpoint.as_deref()),
        ]
        .concat()
    }

    /// The key that signs access tokens.
    pub fn access_key(&self) -> &AccessKey {
        &self.access_key
    }

    /// What clients dial.
    pub fn client_endpoint(&self) -> &Endpoint {
        self.client_endpoint.as_ref().unwrap_or(&self.endpoint)
    }

    /// What app servers dial.
    pub fn server_endpoint(&self) -> &Endpoint {
        self.server_endpoint.as_ref().unwrap_or(&self.endpoint)
    }

    /// What `client/?hub=…` is appended to.
    pub fn client_url_base(&self) -> String {
        self.client_endpoint().url_base()
    }

    /// What `server/?hub=…` is appended to.
    pub fn server_url_base(&self) -> String {
        self.server_endpoint().url_base()
    }

    /// What an access token's audience begins with: always the endpoint itself, never one of the other two, and without its port.
    pub fn audience_base(&self) -> String {
        format!(
            "{}://{}/",
            scheme(self.endpoint.is_secure),
            self.endpoint.host
        )
    }
}

/// An absolute `http` or `https` URL, without query.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Endpoint {
    is_secure: bool,
    /// Lower case; an IPv6 address keeps its brackets.
    host: Box<str>,
    port: Option<u16>,
    /// Begins and ends in a slash.
    path: Box<str>,
}

impl Endpoint {
    /// Reads a URL such as `https://chat.example.com:8443/signalr`.
    pub fn parse(text: &str) -> Result<Self, ConnectionStringError> {
        Self::read(text).ok_or_else(|| ConnectionStringError::InvalidEndpoint {
            endpoint: text.into(),
        })
    }

    /// Whether the scheme is `https`.
    pub fn is_secure(&self) -> bool {
        self.is_secure
    }

    /// The host, lower case; an IPv6 address stands in brackets.
    pub fn host(&self) -> &str {
        &self.host
    }

    /// The port to dial, be it given or implied by the scheme.
    pub fn port(&self) -> u16 {
        self.port.unwrap_or_else(|| default_port(self.is_secure))
    }

    /// The URL with a slash at its end. A port that the scheme implies is not written.
    pub fn url_base(&self) -> String {
        let Self {
            is_secure,
            host,
            path,
            ..
        } = self;
        let scheme = scheme(*is_secure);
        match self.port.filter(|port| *port != default_port(*is_secure)) {
            Some(port) => format!("{scheme}://{host}:{port}{path}"),
            None => format!("{scheme}://{host}{path}"),
        }
    }

    fn read(text: &str) -> Option<Self> {
        let (scheme, rest) = text.split_once("://")?;
        let is_secure = match scheme {
            _ if scheme.eq_ignore_ascii_case("https") => true,
            _ if scheme.eq_ignore_ascii_case("http") => false,
            _ => return None,
        };
        let (authority, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
        if !path
            .bytes()
            .all(|byte| byte.is_ascii_graphic() && !matches!(byte, b'?' | b'#' | b';' | b'\\'))
        {
            return None;
        }
        let (host, port) = split_port(authority)?;
        let path = format!("{}/", path.trim_end_matches('/'));
        Some(Self {
            is_secure,
            host: host.to_ascii_lowercase().into(),
            port,
            path: path.into(),
        })
    }
}

/// The secret that app servers and the service share. Access tokens are signed with the bytes of its text, as they are.
///
/// Never empty, and always fit to stand in a connection string.
#[derive(Clone, PartialEq, Eq)]
pub struct AccessKey(Box<str>);

impl AccessKey {
    /// Takes any text that can stand in a connection string.
    pub fn parse(text: &str) -> Result<Self, ConnectionStringError> {
        if text.is_empty() {
            return Err(ConnectionStringError::MissingAccessKey);
        }
        if text.trim() != text || text.contains(|c: char| c == ';' || c.is_control()) {
            return Err(ConnectionStringError::InvalidAccessKey);
        }
        Ok(Self(text.into()))
    }

    /// The key itself. Not for logs.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for AccessKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("AccessKey(…)")
    }
}

/// What is wrong with a connection string. No message repeats the key.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum ConnectionStringError {
    /// Fewer than two parts.
    #[error(
        "a connection string looks like Endpoint=http://localhost;Port=8888;AccessKey=…;Version=1.0;"
    )]
    TooFewParts,
    /// The same name stands twice.
    #[error("{name} is given twice")]
    Duplicate {
        /// As written the second time.
        name: Box<str>,
    },
    /// No `Endpoint`, or an empty one.
    #[error("Endpoint is missing")]
    MissingEndpoint,
    /// Not a URL, or not one that we can dial.
    #[error("{endpoint:?} is not an absolute http or https URL without query")]
    InvalidEndpoint {
        /// As written.
        endpoint: Box<str>,
    },
    /// `Port` is not from 1 to 65535.
    #[error("Port is {port:?}, which is not from 1 to 65535")]
    InvalidPort {
        /// As written.
        port: Box<str>,
    },
    /// No `AccessKey`, or an empty one.
    #[error("AccessKey is missing")]
    MissingAccessKey,
    /// The key cannot stand in a connection string.
    #[error("the access key holds a semicolon or a control character, or has blanks around it")]
    InvalidAccessKey,
    /// Not version 1.x.
    #[error("Version is {version:?}; only 1.x is known")]
    UnsupportedVersion {
        /// As written.
        version: Box<str>,
    },
    /// `AuthType` asks for Microsoft Entra, which has no place without Azure.
    #[error("AuthType={auth_type} means Microsoft Entra, which is not supported: use an AccessKey")]
    EntraNotSupported {
        /// As written.
        auth_type: Box<str>,
    },
}

/// The values by name, none of them empty.
#[derive(Default)]
struct Parts<'a> {
    endpoint: Option<&'a str>,
    port: Option<&'a str>,
    access_key: Option<&'a str>,
    version: Option<&'a str>,
    client_endpoint: Option<&'a str>,
    server_endpoint: Option<&'a str>,
    auth_type: Option<&'a str>,
}

impl<'a> Parts<'a> {
    fn parse(text: &'a str) -> Result<Self, ConnectionStringError> {
        let mut parts = Self::default();
        let mut seen: Vec<String> = Vec::new();
        let texts = text
            .split(';')
            .map(str::trim)
            .filter(|part| !part.is_empty());
        if texts.clone().count() < 2 {
            return Err(ConnectionStringError::TooFewParts);
        }
        for (name, value) in texts.filter_map(|part| part.split_once('=')) {
            let name = name.trim().to_ascii_lowercase();
            if seen.contains(&name) {
                return Err(ConnectionStringError::Duplicate { name: name.into() });
            }
            let value = Some(value.trim()).filter(|value| !value.is_empty());
            match name.as_str() {
                "endpoint" => parts.endpoint = value,
                "port" => parts.port = value,
                "accesskey" => parts.access_key = value,
                "version" => parts.version = value,
                "clientendpoint" => parts.client_endpoint = value,
                "serverendpoint" => parts.server_endpoint = value,
                "authtype" => parts.auth_type = value,
                _ => {}
            }
            seen.push(name);
        }
        Ok(parts)
    }
}

/// `localhost:8888` → (`localhost`, 8888). `None` unless both are well formed.
fn split_port(authority: &str) -> Option<(&str, Option<u16>)> {
    // The colons within the brackets of an IPv6 address belong to the host.
    let host_end = match authority.strip_prefix('[') {
        Some(rest) => rest.find(']')? + 2,
        None => authority.find(':').unwrap_or(authority.len()),
    };
    let (host, port) = authority.split_at_checked(host_end)?;
    let port = match port.strip_prefix(':') {
        Some(port) => Some(port.parse().ok().filter(|port| *port != 0)?),
        None if port.is_empty() => None,
        None => return None,
    };
    is_host(host).then_some((host, port))
}

fn is_host(text: &str) -> bool {
    match text
        .strip_prefix('[')
        .and_then(|text| text.strip_suffix(']'))
    {
        Some(address) => address.parse::<std::net::Ipv6Addr>().is_ok(),
        None => {
            !text.is_empty()
                && text
                    .bytes()
                    .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_'))
        }
    }
}

/// `1.` and digits, after which the SDK lets letters, digits, `_`, `-` and `.` follow.
fn is_version_1(version: &str) -> bool {
    version.strip_prefix("1.").is_some_and(|rest| {
        rest.starts_with(|c: char| c.is_ascii_digit())
            && rest
                .chars()
                .all(|c| c.is_alphanumeric() || matches!(c, '_' | '-' | '.'))
    })
}

fn scheme(is_secure: bool) -> &'static str {
    if is_secure { "https" } else { "http" }
}

fn default_port(is_secure: bool) -> u16 {
    if is_secure { 443 } else { 80 }
}

const ENTRA_AUTH_TYPES: [&str; 4] = ["aad", "azure", "azure.app", "azure.msi"];

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> ConnectionString {
        ConnectionString::parse(text).unwrap()
    }

    #[test]
    fn the_emulators_string_is_read_and_written_alike() {
        let text = "Endpoint=http://localhost;Port=8888;AccessKey=ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789ABCDEFGH;Version=1.0;";
        let string = parse(text);
        assert_eq!(string.text(), text);
        assert_eq!(
            string.access_key().as_str(),
            "ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789ABCDEFGH"
        );
        assert_eq!(string.client_url_base(), "http://localhost:8888/");
        assert_eq!(string.server_url_base(), "http://localhost:8888/");
        assert_eq!(string.audience_base(), "http://localhost/");
        assert_eq!(
            (
                string.server_endpoint().host(),
                string.server_endpoint().port()
            ),
            ("localhost", 8888)
        );
    }

    #[test]
    fn names_have_no_case_values_keep_theirs_and_blanks_do_not_count() {
        let string = parse(
            " ENDPOINT = HTTPS://X.Service.SignalR.net/ ;; accesskey = Ab=c= ;unknown=1;nonsense; version=1.0-preview.1 ",
        );
        assert_eq!(string.access_key().as_str(), "Ab=c=");
        assert_eq!(string.client_url_base(), "https://x.service.signalr.net/");
        assert_eq!(string.server_endpoint().port(), 443);
        assert!(string.server_endpoint().is_secure());
    }

    #[test]
    fn clients_and_app_servers_may_have_addresses_of_their_own() {
        let string = parse(
            "Endpoint=https://a.test:1234;Port=443;AccessKey=k;ClientEndpoint=http://client.example.test:8080/asrs;ServerEndpoint=http://[::1]:9000",
        );
        assert_eq!(
            string.client_url_base(),
            "http://client.example.test:8080/asrs/"
        );
        assert_eq!(string.server_url_base(), "http://[::1]:9000/");
        assert_eq!(string.audience_base(), "https://a.test/");
        assert_eq!(parse(&string.text()), string);
    }

    #[test]
    fn each_fault_is_named() {
        use ConnectionStringError as E;
        let error = |text: &str| ConnectionString::parse(text).unwrap_err();
        assert_eq!(error(""), E::TooFewParts);
        assert_eq!(error("Endpoint=http://a"), E::TooFewParts);
        assert_eq!(
            error("Endpoint=http://a;endpoint=http://b;AccessKey=k"),
            E::Duplicate {
                name: "endpoint".into()
            }
        );
        assert_eq!(error("AccessKey=k;Version=1.0"), E::MissingEndpoint);
        assert_eq!(error("Endpoint=http://a;AccessKey="), E::MissingAccessKey);
        assert_eq!(
            error("Endpoint=http://a;Port=0;AccessKey=k"),
            E::InvalidPort { port: "0".into() }
        );
        assert_eq!(
            error("Endpoint=http://a;Port=65536;AccessKey=k"),
            E::InvalidPort {
                port: "65536".into()
            }
        );
        assert_eq!(
            error("Endpoint=http://a;AccessKey=k;Version=2.0"),
            E::UnsupportedVersion {
                version: "2.0".into()
            }
        );
        assert_eq!(
            error("Endpoint=http://a;AccessKey=a\u{1}"),
            E::InvalidAccessKey
        );
        for auth_type in ["aad", "Azure", "azure.app", "azure.msi"] {
            let text = format!("Endpoint=http://a;AuthType={auth_type};");
            assert_eq!(
                error(&text),
                E::EntraNotSupported {
                    auth_type: auth_type.into()
                }
            );
        }
        assert!(
            ConnectionString::parse("Endpoint=http://a;AuthType=accesskey;AccessKey=k").is_ok()
        );
    }

    #[test]
    fn an_endpoint_is_an_absolute_url_of_a_web_server() {
        for text in [
            "a",
            "ftp://a",
            "http://",
            "http:///x",
            "http://a?b",
            "http://a/#b",
            "http://a:",
            "http://a:0",
            "http://u@a",
            "http://a b",
            "http://[::1",
            "http://[::1]x",
            "http://[é]",
        ] {
            let error = Endpoint::parse(text).unwrap_err();
            assert_eq!(
                error,
                ConnectionStringError::InvalidEndpoint {
                    endpoint: text.into()
                }
            );
        }
        assert_eq!(
            Endpoint::parse("http://a:80/").unwrap().url_base(),
            "http://a/"
        );
        assert_eq!(
            Endpoint::parse("https://a:80").unwrap().url_base(),
            "https://a:80/"
        );
    }

    #[test]
    fn the_key_stays_out_of_logs() {
        let string = parse("Endpoint=http://a;AccessKey=hush");
        assert!(!format!("{string:?}").contains("hush"));
    }
}

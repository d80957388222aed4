//! The HTTP exchange that comes before a connection, as SignalR's `TransportProtocols` document defines it.
//!
//! A client asks twice. The app server answers first, with a [`Redirect`] to the service and an access token for it. The service
//! answers second, with a connection id and the transports it serves. Whatever goes wrong in the content of the question is
//! answered with status 200 and an `error` member, because that is what clients show to their users.

use std::borrow::Cow;
use std::ops::BitAnd;

use form_urlencoded::byte_serialize;
use serde::Serialize;
use thiserror::Error;

use crate::id::{ConnectionId, ConnectionToken, HubName};

/// What a client asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NegotiateRequest {
    /// The newest version that both sides know.
    pub version: NegotiateVersion,
    /// Whether the client would like to survive the loss of its transport. It is told so only if that is granted.
    pub wants_stateful_reconnect: bool,
}

impl NegotiateRequest {
    /// Reads the query of the request, with or without its `?`.
    ///
    /// Names are compared without case. After a redirect some clients repeat a name, always with the same value: the first counts.
    pub fn from_query(query: &str) -> Result<Self, NegotiateError> {
        let version = query_value(query, "negotiateVersion");
        let wants_stateful_reconnect = query_value(query, "useStatefulReconnect")
            .is_some_and(|value| value.eq_ignore_ascii_case("true"));
        Ok(Self {
            version: NegotiateVersion::parse(version.as_deref())?,
            wants_stateful_reconnect,
        })
    }
}

/// How ids are handed out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NegotiateVersion {
    /// One id, which is public and secret at once.
    Zero,
    /// A public id and a secret token.
    One,
}

impl NegotiateVersion {
    fn parse(text: Option<&str>) -> Result<Self, NegotiateError> {
        let Some(text) = text else {
            return Ok(Self::Zero);
        };
        let version: i32 = text
            .trim()
            .parse()
            .map_err(|_| NegotiateError::NonIntegerVersion)?;
        match version {
            0 => Ok(Self::Zero),
            1.. => Ok(Self::One),
            ..0 => Err(NegotiateError::UnsupportedVersion { version }),
        }
    }
}

/// The service's answer.
#[derive(Clone, Copy, Debug)]
pub struct NegotiateResponse {
    /// As asked for.
    pub version: NegotiateVersion,
    /// The public id.
    pub connection_id: ConnectionId,
    /// The secret; in version 0 it is not written, and the id takes its place.
    pub connection_token: ConnectionToken,
    /// Whether the connection is to survive the loss of its transport. Only a client that has asked may be told so.
    pub is_stateful: bool,
    /// What the client may choose from: what is served and what its access token permits.
    pub transports: Transports,
}

impl NegotiateResponse {
    /// The body of the answer.
    pub fn to_json(&self) -> String {
        let available_transports = self.transports.offers();
        let use_stateful_reconnect = self.is_stateful.then_some(true);
        match self.version {
            NegotiateVersion::Zero => to_json(&Body {
                use_stateful_reconnect,
                negotiate_version: Some(0),
                connection_id: Some(self.connection_id.to_string()),
                available_transports: Some(available_transports),
                ..Body::default()
            }),
            NegotiateVersion::One => to_json(&Body {
                use_stateful_reconnect,
                negotiate_version: Some(1),
                connection_id: Some(self.connection_id.to_string()),
                connection_token: Some(self.connection_token.text()),
                available_transports: Some(available_transports),
                ..Body::default()
            }),
        }
    }
}

/// The app server's answer: negotiate again over there, with this token.
#[derive(Clone, Copy, Debug)]
pub struct Redirect<'a> {
    /// See [`ClientUrl`].
    pub url: &'a str,
    /// What proves to the service that the app server has let this client in.
    pub access_token: &'a str,
}

impl Redirect<'_> {
    /// The body of the answer.
    pub fn to_json(&self) -> String {
        to_json(&Body {
            negotiate_version: Some(0),
            url: Some(self.url),
            access_token: Some(self.access_token),
            available_transports: Some(Vec::new()),
            ..Body::default()
        })
    }
}

/// The answer that makes a client's start fail with `text`.
pub fn error_response(text: &str) -> String {
    to_json(&Body {
        error: Some(text),
        ..Body::default()
    })
}

/// The parts of the URL that an app server sends a client to.
#[derive(Clone, Copy, Debug)]
pub struct ClientUrl<'a> {
    /// Ends in a slash: [`ConnectionString::client_url_base`](super::connection_string::ConnectionString::client_url_base).
    pub base: &'a str,
    /// With the app's prefix, if it has one.
    pub hub: &'a HubName,
    /// Path of the client's request as seen by the app, such as `/chat/negotiate`.
    pub path: &'a str,
    /// Query of the client's request without its `?`. It is carried over as it is.
    pub query: &'a str,
    /// Names this request in the logs of both sides.
    pub request_id: &'a str,
}

impl ClientUrl<'_> {
    /// The URL.
    pub fn text(&self) -> String {
        let mut url = format!("{}client/?hub={}", self.base, encode(self.hub.as_str()));
        if let Some(path) = self.hub_path() {
            url.push_str("&asrs.op=");
            url.push_str(&encode(path));
        }
        if !self.query.is_empty() {
            url.push('&');
            url.push_str(self.query);
        }
        url.push_str("&asrs_request_id=");
        url.push_str(&encode(self.request_id));
        url
    }

    /// The path under which the app knows the hub. Like the SDK we find none unless the path ends in `/negotiate`, in lower case.
    fn hub_path(&self) -> Option<&str> {
        let path = self.path.strip_suffix('/').unwrap_or(self.path);
        path.strip_suffix("/negotiate")
            .filter(|path| !path.is_empty())
    }
}

/// How messages travel between a client and the service.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Transport {
    /// One WebSocket.
    WebSockets,
    /// Events in a response that does not end, and requests in the other direction. Text only.
    ServerSentEvents,
    /// Responses that wait until there is something to say, and requests in the other direction.
    LongPolling,
}

impl Transport {
    /// As clients call it.
    pub fn name(self) -> &'static str {
        match self {
            Self::WebSockets => "WebSockets",
            Self::ServerSentEvents => "ServerSentEvents",
            Self::LongPolling => "LongPolling",
        }
    }

    /// Whether it carries nothing but text.
    pub fn is_text_only(self) -> bool {
        self == Self::ServerSentEvents
    }
}

impl From<Transport> for Transports {
    fn from(transport: Transport) -> Self {
        match transport {
            Transport::WebSockets => Self::WEB_SOCKETS,
            Transport::ServerSentEvents => Self::SERVER_SENT_EVENTS,
            Transport::LongPolling => Self::LONG_POLLING,
        }
    }
}

/// A set of transports. The bits are those of ASP.NET Core's `HttpTransportType`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Transports(u8);

impl Transports {
    /// None at all.
    pub const NONE: Self = Self(0);
    /// WebSockets alone.
    pub const WEB_SOCKETS: Self = Self(1);
    /// Server-Sent Events alone.
    pub const SERVER_SENT_EVENTS: Self = Self(2);
    /// Long polling alone.
    pub const LONG_POLLING: Self = Self(4);
    /// Everything that SignalR knows.
    pub const ALL: Self = Self(1 | 2 | 4);

    /// Reads a bit mask. Bits without a meaning are dropped.
    pub fn from_mask(mask: u32) -> Self {
        Self(mask as u8 & Self::ALL.0)
    }

    /// Whether every transport of `other` is in this set.
    pub fn contains(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }

    /// In the order in which clients shall try them.
    fn offers(self) -> Vec<TransportOffer> {
        TRANSPORT_OFFERS
            .into_iter()
            .filter(|(transport, _)| self.contains(*transport))
            .map(|(_, offer)| offer)
            .collect()
    }
}

impl BitAnd for Transports {
    type Output = Self;

    fn bitand(self, other: Self) -> Self {
        Self(self.0 & other.0)
    }
}

/// What is wrong with a client's question. The message is what [`error_response`] shall say.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum NegotiateError {
    /// The version is not a number of 32 bits.
    #[error("The client requested a non-integer protocol version.")]
    NonIntegerVersion,
    /// The version is below 0.
    #[error(
        "The client requested version '{version}', but the server does not support this version."
    )]
    UnsupportedVersion {
        /// As asked for.
        version: i32,
    },
}

/// All members there are, in the order in which ASP.NET Core writes them. Java's client fails on members that are null.
#[derive(Default, Serialize)]
#[serde(rename_all = "camelCase")]
struct Body<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    use_stateful_reconnect: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    negotiate_version: Option<u8>,
    #[serde(skip_serializing_if = "Option::is_none")]
    url: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    access_token: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    connection_id: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    connection_token: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    available_transports: Option<Vec<TransportOffer>>,
}

#[derive(Clone, Copy, Serialize)]
#[serde(rename_all = "camelCase")]
struct TransportOffer {
    transport: &'static str,
    transfer_formats: &'static [&'static str],
}

const TRANSPORT_OFFERS: [(Transports, TransportOffer); 3] = [
    (
        Transports::WEB_SOCKETS,
        TransportOffer {
            transport: "WebSockets",
            transfer_formats: &["Text", "Binary"],
        },
    ),
    (
        Transports::SERVER_SENT_EVENTS,
        TransportOffer {
            transport: "ServerSentEvents",
            transfer_formats: &["Text"],
        },
    ),
    (
        Transports::LONG_POLLING,
        TransportOffer {
            transport: "LongPolling",
            transfer_formats: &["Text", "Binary"],
        },
    ),
];

fn to_json(body: &Body<'_>) -> String {
    // Texts, numbers and lists of them: nothing here can fail to be written.
    serde_json::to_string(body).unwrap_or_default()
}

fn query_value<'a>(query: &'a str, name: &str) -> Option<Cow<'a, str>> {
    let query = query.strip_prefix('?').unwrap_or(query);
    form_urlencoded::parse(query.as_bytes())
        .find(|(key, _)| key.eq_ignore_ascii_case(name))
        .map(|(_, value)| value)
}

fn encode(text: &str) -> String {
    byte_serialize(text.as_bytes()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::id::ShardId;

    fn response(version: NegotiateVersion, transports: Transports) -> String {
        let connection_id = ConnectionId::new(ShardId(0), 0);
        NegotiateResponse {
            version,
            connection_id,
            connection_token: ConnectionToken::new(1),
            is_stateful: false,
            transports,
        }
        .to_json()
    }

    #[test]
    fn the_version_is_settled_as_aspnet_core_does() {
        let version =
            |query: &str| NegotiateRequest::from_query(query).map(|request| request.version);
        assert_eq!(version("hub=chat"), Ok(NegotiateVersion::Zero));
        assert_eq!(
            version("?hub=chat&negotiateVersion=0"),
            Ok(NegotiateVersion::Zero)
        );
        assert_eq!(
            version("hub=chat&NegotiateVersion=1"),
            Ok(NegotiateVersion::One)
        );
        assert_eq!(version("negotiateVersion=2"), Ok(NegotiateVersion::One));
        assert_eq!(
            version("negotiateVersion=1&hub=chat&negotiateVersion=1"),
            Ok(NegotiateVersion::One)
        );
        for text in ["abc", "", "1.0", "99999999999"] {
            assert_eq!(
                version(&format!("negotiateVersion={text}")),
                Err(NegotiateError::NonIntegerVersion)
            );
        }
        assert_eq!(
            version("negotiateVersion=-1"),
            Err(NegotiateError::UnsupportedVersion { version: -1 })
        );
    }

    #[test]
    fn the_wish_for_a_stateful_reconnect_is_noticed() {
        let wants = |query: &str| {
            NegotiateRequest::from_query(query)
                .unwrap()
                .wants_stateful_reconnect
        };
        assert!(wants("useStatefulReconnect=true&useStatefulReconnect=true"));
        assert!(!wants("useStatefulReconnect=false"));
        assert!(!wants("useAck=true"));
    }

    #[test]
    fn answers_have_the_members_of_their_version() {
        assert_eq!(
            response(NegotiateVersion::Zero, Transports::WEB_SOCKETS),
            r#"{"negotiateVersion":0,"connectionId":"AAAAAAAAAAAAAAAAAAAAAA","availableTransports":[{"transport":"WebSockets","transferFormats":["Text","Binary"]}]}"#
        );
        assert_eq!(
            response(NegotiateVersion::One, Transports::ALL),
            r#"{"negotiateVersion":1,"connectionId":"AAAAAAAAAAAAAAAAAAAAAA","connectionToken":"AAAAAAAAAAAAAAAAAAAAAQ","availableTransports":[{"transport":"WebSockets","transferFormats":["Text","Binary"]},{"transport":"ServerSentEvents","transferFormats":["Text"]},{"transport":"LongPolling","transferFormats":["Text","Binary"]}]}"#
        );
    }

    #[test]
    fn only_what_is_both_served_and_permitted_is_offered() {
        let permitted = Transports::from_mask(0xf5);
        assert!(
            permitted.contains(Transports::LONG_POLLING)
                && !permitted.contains(Transports::SERVER_SENT_EVENTS)
        );
        assert_eq!(permitted & Transports::WEB_SOCKETS, Transports::WEB_SOCKETS);
        assert!(
            response(
                NegotiateVersion::One,
                permitted & Transports::SERVER_SENT_EVENTS
            )
            .ends_with(r#""availableTransports":[]}"#)
        );
    }

    #[test]
    fn an_error_stands_alone() {
        assert_eq!(
            error_response(&NegotiateError::UnsupportedVersion { version: -1 }.to_string()),
            r#"{"error":"The client requested version '-1', but the server does not support this version."}"#
        );
        assert_eq!(
            error_response(&NegotiateError::NonIntegerVersion.to_string()),
            r#"{"error":"The client requested a non-integer protocol version."}"#
        );
    }

    /// Requests and answers recorded from Microsoft.Azure.SignalR 1.34.0.
    #[test]
    fn redirects_equal_those_of_the_sdk() {
        let url = |base: &str, hub: &str, path: &str, query: &str| {
            let hub = HubName::parse(hub).unwrap();
            ClientUrl {
                base,
                hub: &hub,
                path,
                query,
                request_id: "0HN0000000000-00000001-00000001",
            }
            .text()
        };
        let local = "http://localhost:8888/";
        assert_eq!(
            url(
                local,
                "Chat",
                "/chat/negotiate",
                "room=a%20b%2Bc&x=1&x=2&negotiateVersion=1"
            ),
            "http://localhost:8888/client/?hub=chat&asrs.op=%2Fchat&room=a%20b%2Bc&x=1&x=2&negotiateVersion=1&asrs_request_id=0HN0000000000-00000001-00000001"
        );
        assert_eq!(
            url(local, "Chat", "/chat/negotiate/", ""),
            "http://localhost:8888/client/?hub=chat&asrs.op=%2Fchat&asrs_request_id=0HN0000000000-00000001-00000001"
        );
        assert_eq!(
            url(local, "Chat", "/Chat/Negotiate", "negotiateVersion=1"),
            "http://localhost:8888/client/?hub=chat&negotiateVersion=1&asrs_request_id=0HN0000000000-00000001-00000001"
        );
        assert_eq!(
            url(
                "http://client.example.test:8080/asrs/",
                "app1_chat",
                "/api/v1/hubs/chat/negotiate",
                ""
            ),
            "http://client.example.test:8080/asrs/client/?hub=app1_chat&asrs.op=%2Fapi%2Fv1%2Fhubs%2Fchat&asrs_request_id=0HN0000000000-00000001-00000001"
        );
        assert_eq!(
            Redirect {
                url: "http://localhost:8888/client/?hub=chat&a=b",
                access_token: "x.y.z"
            }
            .to_json(),
            r#"{"negotiateVersion":0,"url":"http://localhost:8888/client/?hub=chat&a=b","accessToken":"x.y.z","availableTransports":[]}"#
        );
    }
}

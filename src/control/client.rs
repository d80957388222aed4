//! The endpoint of clients without a WebSocket: which request is for which transport, and what is refused.
//!
//! | | |
//! |---|---|
//! | `GET`, accepting `text/event-stream` | opens Server-Sent Events, and is their stream |
//! | any other `GET` | opens long polling, or polls |
//! | `POST` | brings what the client sends; opens long polling, if nothing has been opened |
//! | `DELETE` | ends long polling |
//!
//! Each names the connection token that the client got when it negotiated, and carries an access token. Texts and statuses are those of
//! ASP.NET Core, where it has any.

use std::error::Error;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::body::{Body, HttpBody as _};
use axum::extract::{ConnectInfo, Request, State};
use axum::http::request::Parts;
use axum::http::{HeaderMap, Method, StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use futures_util::StreamExt as _;
use tokio::time::sleep;

use super::http_clients::{HttpClient, Identity};
use super::{Control, answers, long_polling, server_sent_events};
use crate::frame::upgrade::query;
use crate::limits::{POLL_INTERVAL_MAX, POST_BYTES_MAX};
use crate::protocol::access_token::{AccessToken, Audience};
use crate::protocol::negotiate::Transport;
use crate::shard::admission::arrival::{Arriving, check_transport, place_client, user_of};
use crate::shard::admission::identity::{bearer, connection_token, hub_name, validate};
use crate::shard::admission::refusal::Refusal;
use crate::shard::mailbox::postbox_of;
use crate::shard::pending::{TakeError, TokenUse};

/// Time that a request waits for another one to let its client in: no longer than a shard takes for it.
const OPENING_MAX: Duration = Duration::from_secs(5);
/// Time between looks whether it has.
const OPENING_CHECK: Duration = Duration::from_millis(2);

/// Answers a request that is no upgrade.
pub(super) async fn client(
    State(control): State<Control>,
    ConnectInfo(peer): ConnectInfo<SocketAddr>,
    request: Request,
) -> Response {
    let (parts, body) = request.into_parts();
    let is_poll = parts.method == Method::GET && !wants_events(&parts.headers);
    let answer = match parts.method {
        Method::GET if is_poll => poll(&control, &parts, peer).await,
        Method::GET => stream(&control, &parts, peer).await,
        Method::POST => send(&control, &parts, peer, body).await,
        Method::DELETE => end(&control, &parts).await,
        _ => Err(Refusal {
            headers: &[("allow", "GET, POST, DELETE")],
            ..Refusal::new(405, "")
        }),
    };
    let answer = answer.unwrap_or_else(|refusal| {
        control.on_refused(&parts, &refusal);
        refusal.into_response()
    });
    if is_poll {
        (long_polling::NO_CACHE, answer).into_response()
    } else {
        answer
    }
}

async fn stream(control: &Control, parts: &Parts, peer: SocketAddr) -> Result<Response, Refusal> {
    let asked = Asked::new(control, parts)?;
    match asked
        .client_on(control, peer, Transport::ServerSentEvents)
        .await?
    {
        (_, Presence::Before) => Err(TakeError::InUse.into()),
        (client, Presence::New) => {
            control.counters.event_streams.increment();
            let clients = Arc::clone(&control.http_clients);
            Ok(server_sent_events::stream(client, clients))
        }
    }
}

async fn poll(control: &Control, parts: &Parts, peer: SocketAddr) -> Result<Response, Refusal> {
    let asked = Asked::new(control, parts)?;
    let answer = match asked
        .client_on(control, peer, Transport::LongPolling)
        .await?
    {
        (client, Presence::Before) => long_polling::poll(client, &control.http_clients).await,
        (_, Presence::New) => long_polling::first_poll(),
    };
    control.counters.polls.increment();
    Ok(answer)
}

async fn send(
    control: &Control,
    parts: &Parts,
    peer: SocketAddr,
    body: Body,
) -> Result<Response, Refusal> {
    let asked = Asked::new(control, parts)?;
    let client = match asked.find(control).await? {
        Found::Here(client) => client,
        // Some send their hub handshake before they poll for the first time.
        Found::Elsewhere(TokenUse::Waiting) => {
            let opened = asked.client_on(control, peer, Transport::LongPolling);
            opened.await?.0
        }
        Found::Elsewhere(TokenUse::InUse(Transport::WebSockets)) => {
            return Err(Refusal {
                headers: &[("allow", "GET")],
                ..Refusal::new(
                    405,
                    "POST requests are not allowed for WebSocket connections.",
                )
            });
        }
        Found::Elsewhere(TokenUse::InUse(_)) => return Err(TakeError::Unknown.into()),
    };
    // Who says how long it is need not send it.
    if body.size_hint().lower() > POST_BYTES_MAX as u64 {
        control.http_clients.remove(&client);
        return Err(ReadError::TooLong.into());
    }
    // In the order in which requests have come, whichever has its body first.
    let turn = client.turn_to_send().await;
    let bytes = read(body).await.inspect_err(|error| {
        if *error == ReadError::TooLong {
            control.http_clients.remove(&client);
        }
    })?;
    if !bytes.is_empty() {
        let sent = client.send(bytes, turn).await;
        sent.map_err(|_| Refusal::from(TakeError::Unknown))?;
        control.counters.posts.increment();
    }
    Ok(answers::empty(StatusCode::OK))
}

async fn end(control: &Control, parts: &Parts) -> Result<Response, Refusal> {
    const NOT_THIS_WAY: &str = "Cannot terminate this connection using the DELETE endpoint.";
    let asked = Asked::new(control, parts)?;
    let client = match asked.find(control).await? {
        Found::Here(client) => client,
        Found::Elsewhere(TokenUse::Waiting | TokenUse::InUse(Transport::WebSockets)) => {
            return Err(Refusal::bad_request(NOT_THIS_WAY));
        }
        Found::Elsewhere(TokenUse::InUse(_)) => return Err(TakeError::Unknown.into()),
    };
    if client.transport() != Transport::LongPolling {
        return Err(Refusal::bad_request(NOT_THIS_WAY));
    }
    control.http_clients.remove(&client);
    Ok(answers::empty(StatusCode::ACCEPTED))
}

/// A request of somebody who may ask, about one connection.
struct Asked<'a> {
    parts: &'a Parts,
    access_token: AccessToken,
    identity: Identity,
}

impl<'a> Asked<'a> {
    fn new(control: &Control, parts: &'a Parts) -> Result<Self, Refusal> {
        let query = query_of(parts);
        let hub = hub_name(query)?;
        let authorization = text_of(&parts.headers, &header::AUTHORIZATION);
        // Only what cannot have headers of its own, the event source of a browser, may put its token into the query.
        let from_query = query::last(query, "access_token").filter(|_| parts.method == Method::GET);
        let token = bearer(authorization).or(from_query.as_deref());
        let access_token = validate(&control.gate.keys, token, Audience::Client(&hub))?;
        let token = connection_token(query)?;
        let token = token.ok_or_else(|| Refusal::bad_request("Connection ID required"))?;
        let user = user_of(&access_token).map(Into::into);
        Ok(Self {
            parts,
            access_token,
            identity: Identity { token, hub, user },
        })
    }

    /// The client, on that transport. If it is not here yet, this request lets it in. A refusal if it is on another transport, or may not
    /// be on this one.
    async fn client_on(
        &self,
        control: &Control,
        peer: SocketAddr,
        transport: Transport,
    ) -> Result<(Arc<HttpClient>, Presence), Refusal> {
        check_transport(&self.access_token, transport)?;
        if let Found::Elsewhere(TokenUse::Waiting) = self.find(control).await?
            && let Some(client) = self.open(control, peer, transport).await?
        {
            return Ok((client, Presence::New));
        }
        // Here before, or let in by another request at the same moment.
        match self.find(control).await? {
            Found::Here(client) if client.transport() == transport => {
                Ok((client, Presence::Before))
            }
            Found::Here(client) => Err(TakeError::OtherTransport(client.transport()).into()),
            Found::Elsewhere(TokenUse::InUse(other)) if other != transport => {
                Err(TakeError::OtherTransport(other).into())
            }
            Found::Elsewhere(_) => Err(TakeError::Unknown.into()),
        }
    }

    /// The client, or what its connection token is if it is not here. A refusal if the token is nobody's.
    ///
    /// Another request may be letting it in at this moment: then it is waited for.
    async fn find(&self, control: &Control) -> Result<Found, Refusal> {
        let Identity { token, hub, .. } = &self.identity;
        let started = Instant::now();
        loop {
            if let Some(client) = control.http_clients.get(&self.identity)? {
                return Ok(Found::Here(client));
            }
            let token_use = control.gate.pending.token_use(*token, hub, Instant::now());
            let token_use = token_use.ok_or(TakeError::Unknown)?;
            let is_opening = matches!(
                token_use,
                TokenUse::InUse(Transport::ServerSentEvents | Transport::LongPolling)
            );
            if !is_opening || started.elapsed() > OPENING_MAX {
                return Ok(Found::Elsewhere(token_use));
            }
            sleep(OPENING_CHECK).await;
        }
    }

    /// Lets a client in that has negotiated, and binds it to this transport. None if another request was faster.
    async fn open(
        &self,
        control: &Control,
        peer: SocketAddr,
        transport: Transport,
    ) -> Result<Option<Arc<HttpClient>>, Refusal> {
        let Identity { token, hub, .. } = &self.identity;
        let entry = control.directory.hub(hub)?;
        let pending = &control.gate.pending;
        let expected = match pending.take(*token, hub, transport, Instant::now()) {
            Ok(expected) => expected,
            Err(TakeError::InUse) => return Ok(None),
            Err(error) => return Err(error.into()),
        };
        let arriving = Arriving {
            query: query_of(self.parts),
            headers: headers_of(&self.parts.headers),
            peer,
            transport,
        };
        let (new, place) = place_client(
            &arriving,
            &self.access_token,
            &entry,
            Some(expected),
            &control.gate,
            None,
        )?;
        let busy = || Refusal::unavailable("The service has as many clients as it may have.");
        let postbox = postbox_of(&control.postboxes, place.shard).cloned();
        let poll_interval_max = self.access_token.poll_interval_max();
        let opened = HttpClient::open(
            self.identity.clone(),
            poll_interval_max.unwrap_or(POLL_INTERVAL_MAX),
            postbox.ok_or_else(busy)?,
            new,
            place,
        );
        let client = opened.await.ok_or_else(busy)?;
        control.http_clients.insert(Arc::clone(&client));
        Ok(Some(client))
    }
}

/// Whether a client has been here before the request that asks for it.
enum Presence {
    Before,
    New,
}

/// Where a client is.
enum Found {
    Here(Arc<HttpClient>),
    /// Not on this transport, or not yet on any.
    Elsewhere(TokenUse),
}

/// Why the body of a request is not passed on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
enum ReadError {
    #[error("The request is longer than {POST_BYTES_MAX} bytes.")]
    TooLong,
    #[error("The request did not come in time.")]
    Late,
    #[error("The request cannot be read.")]
    Broken,
}

impl From<ReadError> for Refusal {
    fn from(error: ReadError) -> Self {
        let status = match error {
            ReadError::TooLong => 413,
            ReadError::Late => 408,
            ReadError::Broken => 400,
        };
        Self::new(status, error.to_string())
    }
}

impl From<&axum::Error> for ReadError {
    fn from(error: &axum::Error) -> Self {
        let causes = std::iter::successors(Some(error as &(dyn Error + 'static)), |&error| {
            error.source()
        });
        let mut causes = causes.filter_map(|cause| cause.downcast_ref::<io::Error>());
        if causes.any(|cause| cause.kind() == io::ErrorKind::TimedOut) {
            Self::Late
        } else {
            Self::Broken
        }
    }
}

/// All of a request's body.
async fn read(body: Body) -> Result<Vec<u8>, ReadError> {
    let mut bytes = Vec::with_capacity(body.size_hint().lower() as usize);
    let mut parts = body.into_data_stream();
    while let Some(part) = parts.next().await {
        let part = part.map_err(|error| ReadError::from(&error))?;
        if bytes.len() + part.len() > POST_BYTES_MAX {
            return Err(ReadError::TooLong);
        }
        bytes.extend_from_slice(&part);
    }
    Ok(bytes)
}

/// Whether the event stream is among what the client accepts.
fn wants_events(headers: &HeaderMap) -> bool {
    let accepted = headers.get_all(header::ACCEPT).iter();
    accepted
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .map(|media| media.split_once(';').map_or(media, |(media, _)| media))
        .any(|media| media.trim().eq_ignore_ascii_case("text/event-stream"))
}

fn query_of(parts: &Parts) -> &str {
    parts.uri.query().unwrap_or_default()
}

fn text_of<'a>(headers: &'a HeaderMap, name: &header::HeaderName) -> Option<&'a str> {
    headers.get(name).and_then(|value| value.to_str().ok())
}

/// Names and values of headers. They have been seen to be UTF-8 before.
fn headers_of(headers: &HeaderMap) -> Vec<(&str, &str)> {
    let texts = headers
        .iter()
        .map(|(name, value)| (name.as_str(), str::from_utf8(value.as_bytes())));
    texts
        .filter_map(|(name, value)| Some((name, value.ok()?)))
        .collect()
}

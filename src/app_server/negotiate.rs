//! What an app server says to a client that wants to connect: go to the service, with this token.
//!
//! The answer is that of the SDK, errors included. Pages of any origin may ask, with credentials, because a hub that is meant for
//! browsers is rarely served by the origin of its pages; who may come in is a matter of claims.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::{Request, State};
use axum::http::header::{
    ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS, ACCESS_CONTROL_MAX_AGE,
    ACCESS_CONTROL_REQUEST_HEADERS, CONTENT_TYPE, ORIGIN,
};
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderValue, StatusCode};
use axum::response::{IntoResponse as _, Response};
use axum::routing::post;
use tracing::warn;

use super::claims::{Claim, token_name};
use super::endpoint::choose_for_client;
use super::hub_server::HubServer;
use super::random;
use super::server_connection::unix_now;
use crate::frame::upgrade::add_cors_headers;
use crate::protocol::access_token::{Algorithm, Audience, SignError, TokenBuilder};
use crate::protocol::connection_string::ConnectionString;
use crate::protocol::negotiate::{ClientUrl, Redirect};

/// Says who a client is, from its negotiate request.
pub(super) type ClaimsOf = Arc<dyn Fn(&Parts) -> Vec<Claim> + Send + Sync>;

/// What a hub's negotiate endpoint needs.
#[derive(Clone)]
pub(super) struct Negotiate {
    pub(super) hub: Arc<HubServer>,
    pub(super) claims_of: ClaimsOf,
}

/// The endpoint of one hub, with and without a slash at its end.
pub(super) fn router(negotiate: Negotiate) -> Router {
    let path = format!("{}/negotiate", negotiate.hub.path.trim_end_matches('/'));
    let methods = || post(redirect).options(preflight);
    Router::new()
        .route(&format!("{path}/"), methods())
        .route(&path, methods())
        .with_state(negotiate)
}

/// How long a client may use its token to connect.
const ACCESS_TOKEN_LIFETIME: Duration = Duration::from_hours(1);

/// Tells the service how many endpoints there are, where there are several.
const ENDPOINT_COUNT_CLAIM: &str = "asrs.s.secn";

/// Tells the service that clients may read detailed errors.
const DETAILED_ERRORS_CLAIM: &str = "asrs.s.derror";

const NOT_CONNECTED: &str = "Azure SignalR Service is not connected yet, please try again later.";

async fn redirect(State(negotiate): State<Negotiate>, request: Request) -> Response {
    let (parts, _) = request.into_parts();
    let response = negotiate.answer(&parts);
    with_cors(response, &parts.headers)
}

/// A browser asks whether it may ask.
async fn preflight(request: Request) -> Response {
    let headers = request.headers();
    let mut response = StatusCode::NO_CONTENT.into_response();
    let answer = response.headers_mut();
    answer.insert(
        ACCESS_CONTROL_ALLOW_METHODS,
        HeaderValue::from_static("POST,OPTIONS"),
    );
    answer.insert(ACCESS_CONTROL_MAX_AGE, HeaderValue::from_static("7200"));
    if let Some(requested) = headers.get(ACCESS_CONTROL_REQUEST_HEADERS) {
        answer.insert(ACCESS_CONTROL_ALLOW_HEADERS, requested.clone());
    }
    with_cors(response, headers)
}

impl Negotiate {
    fn answer(&self, parts: &Parts) -> Response {
        let endpoint = choose_for_client(&self.hub.endpoints, random::number());
        let Some(endpoint) = endpoint.filter(|_| !self.hub.is_stopping()) else {
            return (StatusCode::INTERNAL_SERVER_ERROR, NOT_CONNECTED).into_response();
        };
        let connection_string = &endpoint.service.connection_string;
        let claims = (self.claims_of)(parts);
        let access_token = match self.access_token(connection_string, &claims) {
            Ok(access_token) => access_token,
            Err(error @ SignError::TooLong { .. }) => {
                return (StatusCode::PAYLOAD_TOO_LARGE, error.to_string()).into_response();
            }
            Err(error) => {
                warn!(hub = %self.hub.name, %error, "no access token for a client");
                return StatusCode::INTERNAL_SERVER_ERROR.into_response();
            }
        };
        let url = ClientUrl {
            base: &connection_string.client_url_base(),
            hub: &self.hub.name,
            path: parts.uri.path(),
            query: parts.uri.query().unwrap_or_default(),
            request_id: &format!("{:016x}", random::number()),
        }
        .text();
        let redirect = Redirect {
            url: &url,
            access_token: &access_token,
        };
        let json = HeaderValue::from_static("application/json");
        ([(CONTENT_TYPE, json)], redirect.to_json()).into_response()
    }

    fn access_token(
        &self,
        connection_string: &ConnectionString,
        claims: &[Claim],
    ) -> Result<String, SignError> {
        let process = &self.hub.process;
        let names: Vec<String> = claims
            .iter()
            .enumerate()
            .map(|(index, claim)| token_name(claim, claims.iter().take(index)))
            .collect();
        let mut token = TokenBuilder::new();
        let endpoint_count = process.endpoints.len();
        if endpoint_count > 1 {
            token = token.claim(ENDPOINT_COUNT_CLAIM, endpoint_count.to_string());
        }
        if process.options.detailed_errors {
            token = token.claim(DETAILED_ERRORS_CLAIM, "True");
        }
        for (name, claim) in names.iter().zip(claims) {
            token = token.claim(name, claim.value.as_str());
        }
        let audience = Audience::Client(&self.hub.name);
        token
            .life(
                unix_now(),
                ACCESS_TOKEN_LIFETIME,
                &audience.text(&connection_string.audience_base()),
            )
            .sign(connection_string.access_key(), Algorithm::Hs256)
    }
}

impl fmt::Debug for Negotiate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Negotiate")
            .field("hub", &self.hub)
            .finish_non_exhaustive()
    }
}

/// Allows the page that asked to read the answer, whatever it is.
fn with_cors(mut response: Response, request: &HeaderMap) -> Response {
    add_cors_headers(response.headers_mut(), request.get(ORIGIN));
    response
}

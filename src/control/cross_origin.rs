//! Cross-origin requests (Fetch standard §3.2): what lets a page of another origin use the service.
//!
//! Pages of any origin may: who may use the service is for the access token to say.

use axum::extract::Request;
use axum::http::{HeaderName, HeaderValue, Method, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse as _, Response};

use crate::frame::upgrade::add_cors_headers;

const REQUEST_PRIVATE_NETWORK: HeaderName =
    HeaderName::from_static("access-control-request-private-network");
const ALLOW_PRIVATE_NETWORK: HeaderName =
    HeaderName::from_static("access-control-allow-private-network");
/// Browsers ask again after two hours at the latest, whatever they are told.
const MAX_AGE_SECONDS: HeaderValue = HeaderValue::from_static("7200");
const TRUE: HeaderValue = HeaderValue::from_static("true");

/// Answers the question whether a page may ask, and marks every other answer as one that the page may see, or it would learn nothing of an
/// error. The question carries no token and is answered before anything is checked.
pub(super) async fn cross_origin(request: Request, next: Next) -> Response {
    let origin = request.headers().get(header::ORIGIN).cloned();
    let mut response = match preflight(&request) {
        Some(response) => response,
        None => next.run(request).await,
    };
    add_cors_headers(response.headers_mut(), origin.as_ref());
    response
}

/// The answer to a preflight, if the request is one.
fn preflight(request: &Request) -> Option<Response> {
    let asked = request.headers();
    let method = asked.get(header::ACCESS_CONTROL_REQUEST_METHOD)?;
    if request.method() != Method::OPTIONS {
        return None;
    }
    let mut response = StatusCode::NO_CONTENT.into_response();
    let headers = response.headers_mut();
    headers.insert(header::ACCESS_CONTROL_ALLOW_METHODS, method.clone());
    headers.insert(header::ACCESS_CONTROL_MAX_AGE, MAX_AGE_SECONDS);
    // An app may send headers of its own, so whatever is asked for is allowed.
    if let Some(names) = asked.get(header::ACCESS_CONTROL_REQUEST_HEADERS) {
        headers.insert(header::ACCESS_CONTROL_ALLOW_HEADERS, names.clone());
    }
    if asked.get(REQUEST_PRIVATE_NETWORK) == Some(&TRUE) {
        headers.insert(ALLOW_PRIVATE_NETWORK, TRUE);
    }
    Some(response)
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::body::Body;

    fn request(method: Method, headers: &[(&str, &str)]) -> Request {
        let mut request = Request::new(Body::empty());
        *request.method_mut() = method;
        for (name, value) in headers {
            let name = HeaderName::try_from(*name).unwrap();
            request
                .headers_mut()
                .append(name, value.parse::<HeaderValue>().unwrap());
        }
        request
    }

    #[test]
    fn a_preflight_is_allowed_what_it_asks_for() {
        let asked = [
            ("origin", "null"),
            ("access-control-request-method", "DELETE"),
            (
                "access-control-request-headers",
                "authorization,x-requested-with,x-own",
            ),
            ("access-control-request-private-network", "true"),
        ];
        let response = preflight(&request(Method::OPTIONS, &asked)).unwrap();
        assert_eq!(response.status(), StatusCode::NO_CONTENT);
        let headers = response.headers();
        for (name, value) in [
            ("access-control-allow-methods", "DELETE"),
            (
                "access-control-allow-headers",
                "authorization,x-requested-with,x-own",
            ),
            ("access-control-max-age", "7200"),
            ("access-control-allow-private-network", "true"),
        ] {
            assert_eq!(headers.get(name).unwrap(), value, "{name}");
        }
        let public = preflight(&request(Method::OPTIONS, &asked[..2])).unwrap();
        assert!(
            public
                .headers()
                .get("access-control-allow-private-network")
                .is_none()
        );
    }

    #[test]
    fn only_a_preflight_is_one() {
        assert!(preflight(&request(Method::OPTIONS, &[("origin", "null")])).is_none());
        let asked = [("access-control-request-method", "GET")];
        assert!(preflight(&request(Method::GET, &asked)).is_none());
    }
}

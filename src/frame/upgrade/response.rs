//! The answers to an upgrade: the switch, or a refusal.

use smallvec::{SmallVec, smallvec};
use tungstenite::http::{HeaderMap, HeaderName, HeaderValue, StatusCode};

use super::UpgradeKey;

/// The response after which the connection is a WebSocket. No extension and no subprotocol is ever agreed on.
pub fn switching_protocols(key: &UpgradeKey) -> Vec<u8> {
    let accept = key.accept();
    format!("HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Accept: {accept}\r\n\r\n")
        .into_bytes()
}

/// A complete response with a line of text, after which the connection ends.
///
/// A header of `extra` that would break out of its line is left out.
pub fn refusal(status: u16, body: &str, extra: &[(&str, &str)]) -> Vec<u8> {
    let reason = StatusCode::from_u16(status)
        .ok()
        .and_then(|status| status.canonical_reason())
        .unwrap_or_default();
    let body_bytes = body.len();
    let mut response = format!(
        "HTTP/1.1 {status} {reason}\r\nContent-Type: text/plain\r\nContent-Length: {body_bytes}\r\nConnection: close\r\n"
    );
    for (name, value) in extra {
        if !name
            .bytes()
            .chain(value.bytes())
            .any(|byte| byte.is_ascii_control())
        {
            response.extend([name, ": ", value, "\r\n"]);
        }
    }
    response.extend(["\r\n", body]);
    response.into_bytes()
}

/// Adds [`cors_headers`] to those of a response. A `Vary` that is there stays.
pub fn add_cors_headers(response: &mut HeaderMap, origin: Option<&HeaderValue>) {
    for (name, value) in cors_headers(origin.and_then(|origin| origin.to_str().ok())) {
        if let (Ok(name), Ok(value)) = (HeaderName::try_from(name), HeaderValue::try_from(value)) {
            response.append(name, value);
        }
    }
}

/// Headers for [`refusal`].
pub type CorsHeaders<'a> = SmallVec<[(&'static str, &'a str); 3]>;

/// What a browser must find in a response to show it to a page of another origin. Nothing for requests without an origin.
///
/// The origin is echoed, for SignalR clients send credentials, and then a wildcard does not count. Without these headers a page
/// learns of a refusal only that something went wrong.
pub fn cors_headers(origin: Option<&str>) -> CorsHeaders<'_> {
    let Some(origin) = origin else {
        return CorsHeaders::new();
    };
    smallvec![
        ("Access-Control-Allow-Origin", origin),
        ("Access-Control-Allow-Credentials", "true"),
        ("Vary", "Origin")
    ]
}

#[cfg(test)]
mod tests {
    use super::super::parse;
    use super::*;

    #[test]
    fn tungstenite_takes_the_switch_for_an_answer_to_its_request() {
        let request = tungstenite::client::IntoClientRequest::into_client_request(
            "ws://localhost/client/?hub=chat",
        )
        .unwrap();
        let (request, key) = tungstenite::handshake::client::generate_request(request).unwrap();
        let (head, head_bytes) = parse(&request).unwrap().unwrap();
        assert_eq!(head_bytes, request.len());
        assert_eq!(head.header("Sec-WebSocket-Key"), Some(key.as_str()));
        let response = switching_protocols(&head.check_upgrade().unwrap());

        let mut headers = [httparse::EMPTY_HEADER; 8];
        let mut parsed = httparse::Response::new(&mut headers);
        assert_eq!(
            parsed.parse(&response),
            Ok(httparse::Status::Complete(response.len()))
        );
        assert_eq!(parsed.code, Some(101));
        let accept = parsed
            .headers
            .iter()
            .find(|header| header.name == "Sec-WebSocket-Accept")
            .unwrap();
        assert_eq!(
            accept.value,
            tungstenite::handshake::derive_accept_key(key.as_bytes()).as_bytes()
        );
    }

    #[test]
    fn a_refusal_is_complete_and_ends_the_connection() {
        let response = refusal(
            404,
            "No such hub",
            &cors_headers(Some("https://app.example")),
        );
        let expected = "HTTP/1.1 404 Not Found\r\nContent-Type: text/plain\r\nContent-Length: 11\r\nConnection: close\r\n\
            Access-Control-Allow-Origin: https://app.example\r\nAccess-Control-Allow-Credentials: true\r\nVary: Origin\r\n\r\n\
            No such hub";
        assert_eq!(String::from_utf8(response).unwrap(), expected);
        assert!(cors_headers(None).is_empty());
    }

    #[test]
    fn a_page_is_named_as_it_names_itself() {
        let mut response = HeaderMap::new();
        response.insert("vary", HeaderValue::from_static("Accept"));
        add_cors_headers(&mut response, None);
        assert_eq!(response.len(), 1, "no page asks");
        add_cors_headers(&mut response, Some(&HeaderValue::from_static("null")));
        assert_eq!(response["access-control-allow-origin"], "null");
        assert_eq!(response["access-control-allow-credentials"], "true");
        let vary: Vec<&HeaderValue> = response.get_all("vary").iter().collect();
        assert_eq!(vary, ["Accept", "Origin"]);
    }

    #[test]
    fn a_refusal_cannot_be_broken_open() {
        let response = refusal(
            400,
            "",
            &[("X-Echo", "a\r\nSet-Cookie: b"), ("Retry-After", "1")],
        );
        let text = String::from_utf8(response).unwrap();
        assert!(!text.contains("Set-Cookie"));
        assert!(text.ends_with("Retry-After: 1\r\n\r\n"));
    }
}

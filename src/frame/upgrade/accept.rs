//! Whether a request may become a WebSocket (RFC 6455 §4.2.1).

use base64::Engine as _;
use base64::engine::general_purpose::{GeneralPurpose, GeneralPurposeConfig};
use tungstenite::handshake::derive_accept_key;

use super::RequestHead;

/// The version of the WebSocket protocol that RFC 6455 describes.
const WEBSOCKET_VERSION: &str = "13";

/// Bits behind the sixteenth byte mean nothing, and not every client leaves them zero.
const KEY_ENCODING: GeneralPurpose = GeneralPurpose::new(
    &base64::alphabet::STANDARD,
    GeneralPurposeConfig::new().with_decode_allow_trailing_bits(true),
);

impl RequestHead {
    /// Whether the request asks for a WebSocket, correctly or not.
    pub fn wants_websocket(&self) -> bool {
        self.has_element("upgrade", "websocket") && self.has_element("connection", "upgrade")
    }

    /// Checks all that the upgrade asks of a request.
    pub fn check_upgrade(&self) -> Result<UpgradeKey, UpgradeError> {
        if !self.wants_websocket() {
            return Err(UpgradeError::NotRequested);
        }
        if self.method() != "GET" {
            return Err(UpgradeError::Method);
        }
        if !self.is_http_1_1() {
            return Err(UpgradeError::HttpVersion);
        }
        self.check_no_body()?;
        if !self
            .header_values("sec-websocket-version")
            .eq([WEBSOCKET_VERSION])
        {
            return Err(UpgradeError::WebSocketVersion);
        }
        let mut keys = self.header_values("sec-websocket-key");
        match (keys.next(), keys.next()) {
            (Some(key), None) => UpgradeKey::parse(key).ok_or(UpgradeError::KeyMalformed),
            (None, _) => Err(UpgradeError::KeyMissing),
            (Some(_), Some(_)) => Err(UpgradeError::KeyRepeated),
        }
    }

    /// What follows the head are frames. A body would be taken for frames by us, and frames for a body by others.
    fn check_no_body(&self) -> Result<(), UpgradeError> {
        if self.header("transfer-encoding").is_some() {
            return Err(UpgradeError::Body);
        }
        for length in self.header_values("content-length") {
            if length.is_empty() || !length.bytes().all(|byte| byte.is_ascii_digit()) {
                return Err(UpgradeError::ContentLength);
            }
            if length.bytes().any(|byte| byte != b'0') {
                return Err(UpgradeError::Body);
            }
        }
        Ok(())
    }
}

/// The nonce of an upgrade. The response proves with it that it answers this request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UpgradeKey(String);

impl UpgradeKey {
    /// Reads the value of `Sec-WebSocket-Key`: 16 bytes in base64.
    fn parse(text: &str) -> Option<Self> {
        let mut bytes = [0; 18];
        let length = KEY_ENCODING.decode_slice(text, &mut bytes).ok()?;
        (length == 16).then(|| Self(text.to_owned()))
    }

    /// The value of `Sec-WebSocket-Accept`.
    pub fn accept(&self) -> String {
        derive_accept_key(self.0.as_bytes())
    }
}

/// Why a request is not upgraded.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum UpgradeError {
    /// An ordinary request.
    #[error("the request does not ask for a WebSocket")]
    NotRequested,
    /// Only GET can be upgraded.
    #[error("a WebSocket is asked for with GET")]
    Method,
    /// HTTP/1.0 knows no upgrade.
    #[error("a WebSocket is asked for in HTTP/1.1")]
    HttpVersion,
    /// A length above zero, or a transfer coding.
    #[error("a request for a WebSocket has no body")]
    Body,
    /// A length that is not a number.
    #[error("malformed Content-Length")]
    ContentLength,
    /// Another version than 13, or none.
    #[error("only version 13 of WebSocket is supported")]
    WebSocketVersion,
    /// No nonce.
    #[error("Sec-WebSocket-Key is missing")]
    KeyMissing,
    /// Several nonces.
    #[error("Sec-WebSocket-Key is repeated")]
    KeyRepeated,
    /// Not 16 bytes in base64.
    #[error("malformed Sec-WebSocket-Key")]
    KeyMalformed,
}

impl UpgradeError {
    /// The status of the response.
    pub fn status(self) -> u16 {
        match self {
            Self::NotRequested
            | Self::Method
            | Self::HttpVersion
            | Self::Body
            | Self::ContentLength
            | Self::KeyMissing
            | Self::KeyRepeated
            | Self::KeyMalformed => 400,
            Self::WebSocketVersion => 426,
        }
    }

    /// Headers that the response must have: with status 426, what to upgrade to (RFC 9110 §15.5.22, RFC 6455 §4.2.2).
    pub fn headers(self) -> &'static [(&'static str, &'static str)] {
        match self {
            Self::WebSocketVersion => &[
                ("Connection", "upgrade"),
                ("Upgrade", "websocket"),
                ("Sec-WebSocket-Version", WEBSOCKET_VERSION),
            ],
            Self::NotRequested
            | Self::Method
            | Self::HttpVersion
            | Self::Body
            | Self::ContentLength
            | Self::KeyMissing
            | Self::KeyRepeated
            | Self::KeyMalformed => &[],
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::parse;
    use super::*;

    /// The request of RFC 6455 §1.3, cut down to what matters.
    const ASKED: [&str; 5] = [
        "Host: server.example.com",
        "Upgrade: websocket",
        "Connection: Upgrade",
        "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
        "Sec-WebSocket-Version: 13",
    ];

    fn check(request_line: &str, headers: &[&str]) -> Result<UpgradeKey, UpgradeError> {
        let text = format!("{request_line}\r\n{}\r\n\r\n", headers.join("\r\n"));
        let (head, _) = parse(text.as_bytes()).unwrap().unwrap();
        head.check_upgrade()
    }

    fn with(header: &str) -> Result<UpgradeKey, UpgradeError> {
        check("GET /client/ HTTP/1.1", &[&ASKED[..], &[header]].concat())
    }

    fn instead(index: usize, header: &str) -> Result<UpgradeKey, UpgradeError> {
        let mut headers = ASKED;
        headers[index] = header;
        check("GET /client/ HTTP/1.1", &headers)
    }

    #[test]
    fn accepts_the_example_of_the_rfc() {
        let key = check("GET /chat HTTP/1.1", &ASKED).unwrap();
        assert_eq!(key.accept(), "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
    }

    #[test]
    fn tokens_are_found_in_lists_of_any_case() {
        assert!(instead(1, "upgrade: h2c, WebSocket").is_ok());
        assert!(instead(2, "CONNECTION: keep-alive , upgrade").is_ok());
        assert!(instead(2, "Connection: keep-alive\r\nConnection: Upgrade").is_ok());
        assert_eq!(
            instead(1, "Upgrade: websockets"),
            Err(UpgradeError::NotRequested)
        );
        assert_eq!(
            instead(2, "Connection: keep-alive"),
            Err(UpgradeError::NotRequested)
        );
    }

    #[test]
    fn refuses_what_the_rfc_forbids() {
        assert_eq!(
            check("POST /chat HTTP/1.1", &ASKED),
            Err(UpgradeError::Method)
        );
        assert_eq!(
            check("GET /chat HTTP/1.0", &ASKED),
            Err(UpgradeError::HttpVersion)
        );
        for version in [
            "Sec-WebSocket-Version: 8",
            "Sec-WebSocket-Version: 13, 8",
            "Origin: null",
        ] {
            let refused = instead(4, version).unwrap_err();
            assert_eq!(
                (refused, refused.status()),
                (UpgradeError::WebSocketVersion, 426)
            );
            assert!(refused.headers().contains(&("Sec-WebSocket-Version", "13")));
        }
        assert_eq!(instead(3, "Origin: null"), Err(UpgradeError::KeyMissing));
        assert_eq!(with(ASKED[3]), Err(UpgradeError::KeyRepeated));
        for key in [
            "",
            "dGhlIHNhbXBsZSBub25jZQ",
            "dGhlIHNhbXBsZSBub25j",
            "dGhlIHNhbXBsZSBub25jZWU=",
            "dGhlIHNhbXBsZSBub25 jZQ==",
        ] {
            assert_eq!(
                instead(3, &format!("Sec-WebSocket-Key: {key}")),
                Err(UpgradeError::KeyMalformed)
            );
        }
    }

    #[test]
    fn refuses_a_body() {
        assert!(with("Content-Length: 0").is_ok());
        assert_eq!(with("Content-Length: 5"), Err(UpgradeError::Body));
        assert_eq!(
            with("Content-Length: 0\r\nContent-Length: 5"),
            Err(UpgradeError::Body)
        );
        assert_eq!(with("Transfer-Encoding: chunked"), Err(UpgradeError::Body));
        for length in ["", "+0", "0, 0", "-1", "0x0"] {
            assert_eq!(
                with(&format!("Content-Length: {length}")),
                Err(UpgradeError::ContentLength)
            );
        }
    }
}

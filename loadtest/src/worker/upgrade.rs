//! The switch from HTTP to WebSocket, seen from the side that asks for it (RFC 6455 §4.1). No sockets here.

use std::fmt::Write as _;

use crate::error::LoadError;

/// A constant will do: whether the other end can compute the answer to it is not what is measured.
const KEY: &str = "dGhlIHNhbXBsZSBub25jZQ==";

/// Longest head that is read.
const HEAD_BYTES_MAX: usize = 16 * 1024;

const SWITCHING_PROTOCOLS: u16 = 101;

/// The whole request for `target`, which is path and query.
pub(crate) fn upgrade_request(host: &str, target: &str, access_token: Option<&str>) -> Vec<u8> {
    let mut request = format!(
        "GET {target} HTTP/1.1\r\nHost: {host}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {KEY}\r\n"
    );
    if let Some(access_token) = access_token {
        let _ = write!(request, "Authorization: Bearer {access_token}\r\n");
    }
    request.push_str("\r\n");
    request.into_bytes()
}

/// Reads the head of the answer, wherever it is cut, and keeps nothing of it but its status.
#[derive(Debug, Default)]
pub(crate) struct UpgradeAnswer {
    read_bytes: usize,
    /// The digits of the status, as a number.
    status: u16,
    /// How many bytes of the blank line that ends the head have just been read.
    end_bytes: usize,
}

impl UpgradeAnswer {
    /// Reads on. When the head has ended, and the upgrade was not refused, tells how many of `bytes` belonged to it.
    pub(crate) fn on_bytes(&mut self, bytes: &[u8]) -> Result<Option<usize>, LoadError> {
        const STATUS_LINE: &[u8] = b"HTTP/1.1 ";
        const END: &[u8] = b"\r\n\r\n";
        for (index, &byte) in bytes.iter().enumerate() {
            let at = self.read_bytes;
            self.read_bytes += 1;
            match STATUS_LINE.get(at) {
                // Also HTTP/1.0 may refuse.
                Some(expected) if *expected == byte || at == STATUS_LINE.len() - 2 => continue,
                None => {}
                Some(_) => return Err(LoadError::NoHttp),
            }
            if at < STATUS_LINE.len() + 3 {
                if !byte.is_ascii_digit() {
                    return Err(LoadError::NoHttp);
                }
                self.status = self.status * 10 + u16::from(byte - b'0');
                continue;
            }
            self.end_bytes = match END.get(self.end_bytes) {
                Some(expected) if *expected == byte => self.end_bytes + 1,
                Some(_) | None => usize::from(byte == b'\r'),
            };
            if self.end_bytes == END.len() {
                return match self.status {
                    SWITCHING_PROTOCOLS => Ok(Some(index + 1)),
                    status => Err(LoadError::UpgradeRefused { status }),
                };
            }
            if self.read_bytes > HEAD_BYTES_MAX {
                return Err(LoadError::NoHttp);
            }
        }
        Ok(None)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ACCEPTED: &[u8] = b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n\r\n";

    /// How many bytes the head has, when it is read in pieces of `step` bytes.
    fn read(bytes: &[u8], step: usize) -> Result<Option<usize>, LoadError> {
        let mut answer = UpgradeAnswer::default();
        for (index, part) in bytes.chunks(step).enumerate() {
            if let Some(count) = answer.on_bytes(part)? {
                return Ok(Some(index * step + count));
            }
        }
        Ok(None)
    }

    #[test]
    fn the_head_ends_at_the_same_byte_however_it_is_cut() {
        let bytes = [ACCEPTED, b"\x81\x03{}\x1e"].concat();
        for step in 1..=bytes.len() {
            assert_eq!(read(&bytes, step).unwrap(), Some(ACCEPTED.len()));
        }
        assert_eq!(read(&ACCEPTED[..ACCEPTED.len() - 1], 7).unwrap(), None);
        let odd = b"HTTP/1.1 101\r\nA: b\r\r\n\r\n";
        assert_eq!(read(odd, 1).unwrap(), Some(odd.len()));
    }

    #[test]
    fn a_refusal_is_an_error_with_its_status() {
        for step in [1, 5, 100] {
            let refused = b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\n\r\n";
            let error = read(refused, step).unwrap_err();
            assert!(matches!(error, LoadError::UpgradeRefused { status: 503 }));
            let other = read(b"SSH-2.0-OpenSSH_9.2p1\r\n", step).unwrap_err();
            assert!(matches!(other, LoadError::NoHttp));
        }
        let endless = [b"HTTP/1.1 200 OK\r\n".as_slice(), &[b'x'; HEAD_BYTES_MAX]].concat();
        assert!(matches!(read(&endless, 100), Err(LoadError::NoHttp)));
    }

    #[test]
    fn a_request_carries_the_token_and_ends_with_a_blank_line() {
        let request = upgrade_request("127.0.0.1:80", "/client/?hub=chat", Some("token"));
        let text = String::from_utf8(request).unwrap();
        assert!(text.starts_with("GET /client/?hub=chat HTTP/1.1\r\nHost: 127.0.0.1:80\r\n"));
        assert!(text.ends_with("\r\nAuthorization: Bearer token\r\n\r\n"));
    }
}

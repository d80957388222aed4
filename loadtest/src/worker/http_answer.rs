//! The answer to an HTTP request on a connection that stays open (RFC 9112): where it ends, and whether it is a good one. No sockets here.

use crate::error::LoadError;

/// Longest answer that is read.
const ANSWER_BYTES_MAX: usize = 64 * 1024;

const OK: u16 = 200;

/// Gathers one short answer, wherever it is cut. Requests are sent one at a time, so nothing comes behind it.
#[derive(Debug, Default)]
pub(crate) struct HttpAnswer {
    received: Vec<u8>,
}

impl HttpAnswer {
    /// Reads on. `true` when the answer is complete; the next bytes belong to the next answer.
    pub(crate) fn on_bytes(&mut self, bytes: &[u8]) -> Result<bool, LoadError> {
        self.received.extend_from_slice(bytes);
        if self.received.len() > ANSWER_BYTES_MAX {
            return Err(LoadError::NoHttp);
        }
        let is_complete = is_complete(&self.received)?;
        if is_complete {
            self.received.clear();
        }
        Ok(is_complete)
    }
}

fn is_complete(answer: &[u8]) -> Result<bool, LoadError> {
    let Some(head_bytes) = find(answer, b"\r\n\r\n") else {
        return Ok(false);
    };
    let (head, body) = answer.split_at(head_bytes);
    let body = body.get(4..).unwrap_or_default();
    let head = std::str::from_utf8(head).map_err(|_| LoadError::NoHttp)?;
    let mut lines = head.split("\r\n");
    let status = lines.next().and_then(status).ok_or(LoadError::NoHttp)?;
    if status != OK {
        return Err(LoadError::AppServerRefused { status });
    }
    for (name, value) in lines.filter_map(|line| line.split_once(':')) {
        let value = value.trim();
        if name.eq_ignore_ascii_case("content-length") {
            let length: usize = value.parse().map_err(|_| LoadError::NoHttp)?;
            return Ok(body.len() >= length);
        }
        if name.eq_ignore_ascii_case("transfer-encoding") && value.eq_ignore_ascii_case("chunked") {
            return ends_with_last_chunk(body);
        }
    }
    // One that ends with its connection would make us open another for each request.
    Err(LoadError::NoHttp)
}

fn status(line: &str) -> Option<u16> {
    let status = line.strip_prefix("HTTP/1.1 ")?.get(..3)?;
    status.parse().ok()
}

fn ends_with_last_chunk(body: &[u8]) -> Result<bool, LoadError> {
    let mut rest = body;
    loop {
        let Some(line_bytes) = find(rest, b"\r\n") else {
            return Ok(false);
        };
        let (line, behind) = rest.split_at(line_bytes);
        let line = std::str::from_utf8(line).map_err(|_| LoadError::NoHttp)?;
        let chunk_bytes = usize::from_str_radix(line, 16).map_err(|_| LoadError::NoHttp)?;
        // Each chunk ends with a line's end, the last and empty one too, as no trailers are asked for.
        let line_ends_bytes = 4;
        let Some(next) = chunk_bytes
            .checked_add(line_ends_bytes)
            .and_then(|bytes| behind.get(bytes..))
        else {
            return Ok(false);
        };
        if chunk_bytes == 0 {
            return Ok(true);
        }
        rest = next;
    }
}

fn find(bytes: &[u8], wanted: &[u8]) -> Option<usize> {
    bytes
        .windows(wanted.len())
        .position(|window| window == wanted)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_ends_at_the_same_byte_however_it_is_cut() {
        let answers: [&[u8]; 3] = [
            b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nDate: today\r\n\r\nok",
            b"HTTP/1.1 200 OK\r\ncontent-length:0\r\n\r\n",
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\n{\"a\":\r\nB\r\n0123456789}\r\n0\r\n\r\n",
        ];
        for bytes in answers {
            for step in 1..=bytes.len() {
                let mut answer = HttpAnswer::default();
                for _ in 0..2 {
                    let parts: Vec<&[u8]> = bytes.chunks(step).collect();
                    let (last, first) = parts.split_last().unwrap();
                    for part in first {
                        assert!(!answer.on_bytes(part).unwrap(), "cut every {step} bytes");
                    }
                    assert!(answer.on_bytes(last).unwrap(), "cut every {step} bytes");
                }
            }
        }
    }

    #[test]
    fn refusals_and_nonsense_are_errors() {
        let read = |bytes: &[u8]| HttpAnswer::default().on_bytes(bytes).unwrap_err();
        let refused = read(b"HTTP/1.1 500 Internal Server Error\r\nContent-Length: 0\r\n\r\n");
        assert!(matches!(
            refused,
            LoadError::AppServerRefused { status: 500 }
        ));
        for bytes in [
            &b"SSH-2.0\r\n\r\n"[..],
            b"HTTP/1.1 200 OK\r\n\r\n",
            b"HTTP/1.1 200 OK\r\nContent-Length: many\r\n\r\n",
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nx\r\n",
            &vec![b'x'; ANSWER_BYTES_MAX + 1],
        ] {
            assert!(matches!(read(bytes), LoadError::NoHttp));
        }
    }
}

//! Reads the answers to publications: HTTP, as much of it as two servers make use of. No sockets here.

use crate::error::LoadError;

const HEAD_END: &[u8] = b"\r\n\r\n";

/// Longest head that is read.
const HEAD_BYTES_MAX: usize = 16 * 1024;

/// What has come of the answers on one connection.
#[derive(Debug, Default)]
pub(super) struct PublishAnswers {
    /// Of the current answer, up to the blank line.
    head: Vec<u8>,
    /// What is to come of the body, once the head is complete.
    body_bytes: Option<u64>,
    is_closing: bool,
}

impl PublishAnswers {
    /// Reads on and tells how many answers are complete with these bytes. Anything but a success is an error.
    pub(super) fn on_bytes(&mut self, bytes: &[u8]) -> Result<u32, LoadError> {
        let mut completed = 0;
        let mut rest = bytes;
        while !rest.is_empty() {
            if let Some(body_bytes) = &mut self.body_bytes {
                let count = rest
                    .len()
                    .min(usize::try_from(*body_bytes).unwrap_or(usize::MAX));
                *body_bytes -= count as u64;
                rest = rest.get(count..).unwrap_or_default();
            } else {
                rest = self.on_head_bytes(rest)?;
            }
            // Also an answer without a body is complete here.
            if self.body_bytes == Some(0) {
                self.body_bytes = None;
                completed += 1;
            }
        }
        Ok(completed)
    }

    /// Whether the server has said that it closes the connection after this answer.
    pub(super) fn is_closing(&self) -> bool {
        self.is_closing
    }

    /// Reads the head and returns what is behind it.
    fn on_head_bytes<'a>(&mut self, bytes: &'a [u8]) -> Result<&'a [u8], LoadError> {
        for (index, byte) in bytes.iter().enumerate() {
            self.head.push(*byte);
            if self.head.ends_with(HEAD_END) {
                self.body_bytes = Some(self.body_bytes_of_head()?);
                self.head.clear();
                return Ok(bytes.get(index + 1..).unwrap_or_default());
            }
        }
        if self.head.len() > HEAD_BYTES_MAX {
            return Err(LoadError::PublishAnswer(self.status_line()));
        }
        Ok(&[])
    }

    fn body_bytes_of_head(&mut self) -> Result<u64, LoadError> {
        if !self.head.starts_with(b"HTTP/1.1 2") {
            return Err(LoadError::PublishAnswer(self.status_line()));
        }
        let head = String::from_utf8_lossy(&self.head).into_owned();
        let mut body_bytes = None;
        for (name, value) in head.lines().filter_map(|line| line.split_once(':')) {
            let value = value.trim();
            if name.eq_ignore_ascii_case("content-length") {
                body_bytes = value.parse().ok();
            } else if name.eq_ignore_ascii_case("connection") {
                self.is_closing = value.eq_ignore_ascii_case("close");
            }
        }
        // Where an answer without a length ends is not worth finding out: neither server sends one.
        body_bytes.ok_or_else(|| LoadError::PublishAnswer(self.status_line()))
    }

    fn status_line(&self) -> String {
        let line = self.head.split(|byte| *byte == b'\r').next();
        String::from_utf8_lossy(line.unwrap_or_default()).into_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEPT: &[u8] =
        b"HTTP/1.1 201 Created\r\nContent-Length: 5\r\nConnection: keep-alive\r\n\r\nhello";
    const EMPTY: &[u8] = b"HTTP/1.1 202 Accepted\r\ncontent-length: 0\r\n\r\n";
    const LAST: &[u8] =
        b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 10\r\n\r\nPublished\n";

    #[test]
    fn answers_are_counted_however_they_are_cut() {
        let bytes = [KEPT, EMPTY, KEPT, KEPT].concat();
        for step in 1..=bytes.len() {
            let mut answers = PublishAnswers::default();
            let counts = bytes.chunks(step).map(|part| answers.on_bytes(part));
            assert_eq!(
                counts.sum::<Result<u32, _>>().unwrap(),
                4,
                "in steps of {step}"
            );
            assert!(!answers.is_closing());
        }
        let mut answers = PublishAnswers::default();
        assert_eq!(answers.on_bytes(&bytes[..bytes.len() - 1]).unwrap(), 3);
    }

    #[test]
    fn a_server_may_close_after_an_answer() {
        let mut answers = PublishAnswers::default();
        assert_eq!(answers.on_bytes(LAST).unwrap(), 1);
        assert!(answers.is_closing());
    }

    #[test]
    fn a_refusal_and_what_cannot_be_understood_are_errors() {
        let endless = "x".repeat(HEAD_BYTES_MAX + 1);
        for (bytes, expected) in [
            (
                &b"HTTP/1.1 413 Too Large\r\nContent-Length: 0\r\n\r\n"[..],
                "HTTP/1.1 413 Too Large",
            ),
            (b"HTTP/1.1 200 OK\r\n\r\n", "HTTP/1.1 200 OK"),
            (b"SSH-2.0\r\n\r\n", "SSH-2.0"),
            (endless.as_bytes(), &endless),
        ] {
            let error = PublishAnswers::default().on_bytes(bytes).unwrap_err();
            assert!(matches!(error, LoadError::PublishAnswer(line) if line == expected));
        }
    }
}

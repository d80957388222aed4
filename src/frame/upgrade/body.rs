//! How long a request's body is (RFC 9112 §6).

use super::RequestHead;

/// Methods whose requests have no body here. One would mean nothing, and some programs would not see it (RFC 9110 §9.3).
const METHODS_WITHOUT_BODY: [&str; 3] = ["GET", "HEAD", "DELETE"];

/// Where a request's body ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BodyLength {
    /// After so many bytes. Without a body: 0.
    Exact(u64),
    /// The body itself says it.
    Chunked,
}

impl RequestHead {
    /// Where the body ends. Whatever another program could see differently is refused: what is a body to one of them is the next request
    /// to the other.
    pub fn body_length(&self) -> Result<BodyLength, BodyError> {
        let mut lengths = self.header_values("content-length");
        let mut codings = self.header_values("transfer-encoding");
        let length = match (lengths.next(), codings.next()) {
            (None, None) => BodyLength::Exact(0),
            (Some(length), None) => BodyLength::Exact(read_length(length)?),
            (None, Some(coding)) => self.read_coding(coding)?,
            (Some(_), Some(_)) => return Err(BodyError::LengthAndCoding),
        };
        if lengths.next().is_some() {
            return Err(BodyError::LengthRepeated);
        }
        if codings.next().is_some() {
            return Err(BodyError::CodingRepeated);
        }
        if length != BodyLength::Exact(0) && METHODS_WITHOUT_BODY.contains(&self.method()) {
            return Err(BodyError::Unexpected);
        }
        Ok(length)
    }

    fn read_coding(&self, coding: &str) -> Result<BodyLength, BodyError> {
        if !self.is_http_1_1() {
            Err(BodyError::CodingInHttp10)
        } else if coding.eq_ignore_ascii_case("chunked") {
            Ok(BodyLength::Chunked)
        } else if is_token(coding) {
            Err(BodyError::CodingUnknown)
        } else {
            Err(BodyError::CodingMalformed)
        }
    }
}

fn read_length(text: &str) -> Result<u64, BodyError> {
    // Rust would take a plus sign too.
    if text.is_empty() || !text.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(BodyError::LengthMalformed);
    }
    text.parse().map_err(|_| BodyError::LengthMalformed)
}

/// RFC 9110 §5.6.2.
fn is_token(text: &str) -> bool {
    !text.is_empty()
        && text
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte))
}

/// Why it is not known where a body ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BodyError {
    /// A length that is not a number, or more than 64 bits of one.
    #[error("malformed Content-Length")]
    LengthMalformed,
    /// Several lengths, be they equal.
    #[error("Content-Length is repeated")]
    LengthRepeated,
    /// A length and a transfer coding.
    #[error("Content-Length and Transfer-Encoding exclude each other")]
    LengthAndCoding,
    /// A transfer coding that is none, or a list of them.
    #[error("malformed Transfer-Encoding")]
    CodingMalformed,
    /// Several headers with transfer codings.
    #[error("Transfer-Encoding is repeated")]
    CodingRepeated,
    /// Another transfer coding than `chunked`.
    #[error("the transfer coding is not supported")]
    CodingUnknown,
    /// HTTP/1.0 knows no transfer coding.
    #[error("Transfer-Encoding is for HTTP/1.1")]
    CodingInHttp10,
    /// A body where none belongs.
    #[error("a request with this method has no body")]
    Unexpected,
}

impl BodyError {
    /// The status of the response.
    pub fn status(self) -> u16 {
        match self {
            Self::LengthMalformed
            | Self::LengthRepeated
            | Self::LengthAndCoding
            | Self::CodingMalformed
            | Self::CodingRepeated
            | Self::CodingInHttp10
            | Self::Unexpected => 400,
            Self::CodingUnknown => 501,
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::parse;
    use super::*;

    fn length_of(request_line: &str, headers: &str) -> Result<BodyLength, BodyError> {
        let text = format!("{request_line}\r\nHost: a\r\n{headers}\r\n");
        let (head, _) = parse(text.as_bytes()).unwrap().unwrap();
        head.body_length()
    }

    fn posted(headers: &str) -> Result<BodyLength, BodyError> {
        length_of("POST / HTTP/1.1", headers)
    }

    #[test]
    fn a_body_has_a_length_or_says_where_it_ends() {
        assert_eq!(posted(""), Ok(BodyLength::Exact(0)));
        assert_eq!(posted("Content-Length: 0\r\n"), Ok(BodyLength::Exact(0)));
        assert_eq!(posted("content-length: 007\r\n"), Ok(BodyLength::Exact(7)));
        let most = posted("Content-Length: 18446744073709551615\r\n");
        assert_eq!(most, Ok(BodyLength::Exact(u64::MAX)));
        for coding in ["chunked", "Chunked", " chunked\t"] {
            let length = posted(&format!("Transfer-Encoding: {coding}\r\n"));
            assert_eq!(length, Ok(BodyLength::Chunked));
        }
    }

    #[test]
    fn what_two_programs_could_see_differently_is_refused() {
        for length in [
            "",
            "+5",
            "-1",
            "0x5",
            "5 5",
            "5, 5",
            "5;",
            "٣",
            "18446744073709551616",
        ] {
            let refused = posted(&format!("Content-Length: {length}\r\n"));
            assert_eq!(refused, Err(BodyError::LengthMalformed), "{length:?}");
        }
        for coding in [
            "",
            "x, chunked",
            "chunked, chunked",
            ", chunked",
            "chunked;q=1",
            "\"chunked\"",
        ] {
            let refused = posted(&format!("Transfer-Encoding: {coding}\r\n"));
            assert_eq!(refused, Err(BodyError::CodingMalformed), "{coding:?}");
        }
        for coding in ["gzip", "identity", "xchunked"] {
            let refused = posted(&format!("Transfer-Encoding: {coding}\r\n"));
            assert_eq!(refused, Err(BodyError::CodingUnknown), "{coding:?}");
        }
        let (five, six) = ("Content-Length: 5\r\n", "content-length: 6\r\n");
        let coding = "Transfer-Encoding: chunked\r\n";
        let pair = |first, second| posted(&format!("{first}{second}")).unwrap_err();
        assert_eq!(pair(five, five), BodyError::LengthRepeated);
        assert_eq!(pair(five, six), BodyError::LengthRepeated);
        assert_eq!(pair(five, coding), BodyError::LengthAndCoding);
        assert_eq!(pair(coding, six), BodyError::LengthAndCoding);
        assert_eq!(pair(coding, coding), BodyError::CodingRepeated);
        let in_http_1_0 = length_of("POST / HTTP/1.0", coding);
        assert_eq!(in_http_1_0, Err(BodyError::CodingInHttp10));
        assert_eq!(BodyError::CodingUnknown.status(), 501);
        assert_eq!(BodyError::CodingMalformed.status(), 400);
    }

    #[test]
    fn a_body_where_none_belongs_is_refused() {
        for method in METHODS_WITHOUT_BODY {
            let line = format!("{method} / HTTP/1.1");
            for body in ["Content-Length: 1\r\n", "Transfer-Encoding: chunked\r\n"] {
                assert_eq!(length_of(&line, body), Err(BodyError::Unexpected));
            }
            let none = length_of(&line, "Content-Length: 0\r\n");
            assert_eq!(none, Ok(BodyLength::Exact(0)));
        }
    }

    proptest! {
        #[test]
        fn a_length_is_read_as_it_was_written(bytes: u64, zeros in 0..30_usize) {
            let header = format!("Content-Length: {}{bytes}\r\n", "0".repeat(zeros));
            prop_assert_eq!(posted(&header), Ok(BodyLength::Exact(bytes)));
        }

        /// Of headers that say something of the body there is at the most one, and it reads in one way.
        #[test]
        fn only_one_header_ever_tells_of_the_body(
            headers in proptest::collection::vec(
                ("(Content-Length|Transfer-Encoding|X)", "(chunked|5|0|, ?|gzip|;| ){0,3}"), 0..4),
        ) {
            let lines = headers.iter().map(|(name, value)| format!("{name}: {value}\r\n"));
            let text = lines.collect::<Vec<_>>().concat();
            let telling: Vec<_> = headers.iter().filter(|(name, _)| name != "X").collect();
            match (posted(&text), &telling[..]) {
                (Ok(length), []) => prop_assert_eq!(length, BodyLength::Exact(0)),
                (Ok(BodyLength::Chunked), [(name, value)]) => {
                    prop_assert_eq!((&**name, value.trim()), ("Transfer-Encoding", "chunked"));
                }
                (Ok(BodyLength::Exact(bytes)), [(name, value)]) => {
                    prop_assert_eq!((&**name, value.trim().parse()), ("Content-Length", Ok(bytes)));
                }
                (Ok(length), _) => prop_assert!(false, "{text:?} is read as {length:?}"),
                (Err(_), telling) => prop_assert!(!telling.is_empty()),
            }
        }
    }
}

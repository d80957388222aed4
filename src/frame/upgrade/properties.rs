//! What holds of every head and every query, for tests and for the fuzzer.

use super::{
    BodyLength, HEAD_BYTES_MAX, HEADERS_MAX, RequestHead, TARGET_BYTES_MAX, parse, query,
    switching_protocols,
};

/// Asserts that any bytes are refused, or read alike however much of them is there and whatever follows.
///
/// # Panics
/// When they are not.
pub fn fuzz_request_head(data: &[u8]) {
    check_query(&String::from_utf8_lossy(data));
    let Ok(Some((head, head_bytes))) = parse(data) else {
        return;
    };

    assert!(
        head_bytes <= data.len().min(HEAD_BYTES_MAX),
        "a head is a part of the input"
    );
    for cut in (0..head_bytes).rev().take(64).chain(0..head_bytes.min(64)) {
        let (part, _) = data.split_at(cut);
        assert!(
            matches!(parse(part), Ok(None)),
            "{cut} of {head_bytes} bytes are no head, nor a fault"
        );
    }
    let (part, _) = data.split_at(head_bytes);
    let (alone, alone_bytes) = parse(part)
        .ok()
        .flatten()
        .expect("what follows a head does not matter");
    assert_eq!(alone_bytes, head_bytes);
    assert!(alone.headers().eq(head.headers()) && alone.target() == head.target());

    check_head(&head, head_bytes);
}

fn check_head(head: &RequestHead, head_bytes: usize) {
    let text_bytes = head
        .headers()
        .map(|(name, value)| name.len() + value.len())
        .sum::<usize>();
    assert!(
        head.method().len() + head.target().len() + text_bytes < head_bytes,
        "nothing is added to a head"
    );
    assert!(head.headers().len() <= HEADERS_MAX && head.target().len() <= TARGET_BYTES_MAX);
    assert!(
        head.target().contains(head.query()) && head.path().len() <= head.target().len().max(1)
    );
    for (name, value) in head.headers() {
        assert!(!name.is_empty() && !value.contains(['\r', '\n', '\0']));
        assert!(head.header_values(name).any(|other| other == value));
    }
    check_query(head.query());
    match head.check_upgrade() {
        Ok(key) => {
            assert!(head.wants_websocket());
            assert!(switching_protocols(&key).ends_with(b"\r\n\r\n"));
        }
        Err(refused) => assert!(matches!(refused.status(), 400 | 426)),
    }
    check_body(head);
}

fn check_body(head: &RequestHead) {
    let count = |name| head.header_values(name).count();
    let told_of = (count("content-length"), count("transfer-encoding"));
    match head.body_length() {
        Ok(BodyLength::Chunked) => assert!(head.is_http_1_1() && told_of == (0, 1)),
        Ok(BodyLength::Exact(bytes)) => {
            assert!(told_of == (1, 0) || (told_of, bytes) == ((0, 0), 0));
        }
        Err(refused) => {
            assert!(matches!(refused.status(), 400 | 501) && told_of != (0, 0));
        }
    }
}

fn check_query(text: &str) {
    let cleaned = query::without_access_token(text);
    assert!(cleaned.len() <= text.len());
    assert_eq!(query::first(&cleaned, "access_token"), None);
    let others = query::pairs(text).filter(|(name, _)| !name.eq_ignore_ascii_case("access_token"));
    assert!(
        query::pairs(&cleaned).eq(others),
        "all else stays, in order"
    );
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::HeadError;
    use super::*;

    const REQUEST: &str = "GET /client/?hub=chat&id=%2B&access_token=e.y.j HTTP/1.1\r\nHost: a\r\nX-Two:  b c \r\nx-two: ü\r\n\r\n";

    #[test]
    fn reads_a_request() {
        let bytes = [REQUEST.as_bytes(), b"\x81\x80early"].concat();
        let (head, head_bytes) = parse(&bytes).unwrap().unwrap();
        assert_eq!(head_bytes, REQUEST.len());
        assert_eq!(
            (head.method(), head.path(), head.is_http_1_1()),
            ("GET", "/client/", true)
        );
        assert_eq!(head.query(), "hub=chat&id=%2B&access_token=e.y.j");
        assert_eq!(
            head.headers().collect::<Vec<_>>(),
            [("Host", "a"), ("X-Two", "b c"), ("x-two", "ü")]
        );
        assert_eq!(head.header("X-TWO"), Some("b c"));
        assert_eq!(
            head.header_values("x-two").collect::<Vec<_>>(),
            ["b c", "ü"]
        );
        assert_eq!(format!("{head:?}"), "RequestHead(GET /client/, 3 headers)");
        fuzz_request_head(&bytes);
    }

    #[test]
    fn reads_the_targets_that_proxies_send() {
        for (target, path, query) in [
            ("http://a:80/client/?hub=x", "/client/", "hub=x"),
            ("wss://a", "/", ""),
            ("HTTP://a?b=c", "/", "b=c"),
            ("*", "*", ""),
            ("/a?b?c", "/a", "b?c"),
            ("/?x=http://y/?z", "/", "x=http://y/?z"),
        ] {
            let request = format!("GET {target} HTTP/1.1\r\nHost: a\r\n\r\n");
            let (head, _) = parse(request.as_bytes()).unwrap().unwrap();
            assert_eq!((head.path(), head.query()), (path, query), "{target}");
        }
    }

    #[test]
    fn refuses_what_can_be_read_in_two_ways() {
        for (request, expected) in [
            ("GET / HTTP/1.1\nHost: a\r\n\r\n", HeadError::LineBreak),
            ("GET / HTTP/1.1\r\nHost: a\n\n", HeadError::LineBreak),
            ("\nGET / HTTP/1.1\r\nHost: a\r\n\r\n", HeadError::LineBreak),
            (
                "GET / HTTP/1.1\r\nHost: a\r\n b\r\n\r\n",
                HeadError::HeaderName,
            ),
            ("GET / HTTP/1.1\r\nHost : a\r\n\r\n", HeadError::HeaderName),
            (
                "GET / HTTP/1.1\r\nHost: a\r\n: b\r\n\r\n",
                HeadError::HeaderName,
            ),
            (
                "GET / HTTP/1.1\r\nHost: a\0b\r\n\r\n",
                HeadError::HeaderValue,
            ),
            (
                "GET / HTTP/1.1\r\nHost: a\r\nhost: a\r\n\r\n",
                HeadError::HostRepeated,
            ),
            (
                "GET / HTTP/1.1\r\nUpgrade: websocket\r\n\r\n",
                HeadError::HostMissing,
            ),
            ("GET a HTTP/1.1\r\nHost: a\r\n\r\n", HeadError::Target),
            ("GET /ü HTTP/1.1\r\nHost: a\r\n\r\n", HeadError::Target),
            ("GET  / HTTP/1.1\r\nHost: a\r\n\r\n", HeadError::RequestLine),
            ("GET / FTP/1.1\r\nHost: a\r\n\r\n", HeadError::RequestLine),
            ("GET / HTTP/2.0\r\nHost: a\r\n\r\n", HeadError::Version),
            ("\u{16}\u{3}\u{1}", HeadError::RequestLine),
        ] {
            assert_eq!(
                parse(request.as_bytes()).unwrap_err(),
                expected,
                "{request:?}"
            );
        }
        let not_utf8 = b"GET / HTTP/1.1\r\nHost: a\r\nX: \xff\r\n\r\n";
        assert_eq!(parse(not_utf8).unwrap_err(), HeadError::HeaderValue);
    }

    #[test]
    fn limits_are_kept_before_the_head_is_complete() {
        let status = |request: String| {
            parse(request.as_bytes())
                .map(|head| head.is_some())
                .map_err(HeadError::status)
        };
        let target =
            |bytes: usize| format!("GET /{} HTTP/1.1\r\nHost: a\r\n\r\n", "a".repeat(bytes - 1));
        assert_eq!(status(target(TARGET_BYTES_MAX)), Ok(true));
        assert_eq!(status(target(TARGET_BYTES_MAX + 1)), Err(414));
        assert_eq!(
            status(format!("GET /{}", "a".repeat(TARGET_BYTES_MAX))),
            Err(414)
        );

        let padded = |bytes: usize| {
            format!(
                "GET / HTTP/1.1\r\nHost: a\r\nX: {}\r\n\r\n",
                "a".repeat(bytes - 32)
            )
        };
        assert_eq!(status(padded(HEAD_BYTES_MAX)), Ok(true));
        assert_eq!(status(padded(HEAD_BYTES_MAX + 1)), Err(431));
        assert_eq!(
            status(padded(HEAD_BYTES_MAX + 4).trim_end().to_owned()),
            Err(431)
        );

        let many = |headers: usize| {
            format!(
                "GET / HTTP/1.1\r\nHost: a\r\n{}\r\n",
                "a: b\r\n".repeat(headers - 1)
            )
        };
        assert_eq!(status(many(HEADERS_MAX)), Ok(true));
        assert_eq!(status(many(HEADERS_MAX + 1)), Err(431));
    }

    proptest! {
        #[test]
        fn any_bytes_are_safe(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            fuzz_request_head(&bytes);
        }

        #[test]
        fn any_change_of_a_request_is_safe(at in 0..REQUEST.len(), byte in any::<u8>()) {
            let mut bytes = REQUEST.as_bytes().to_vec();
            bytes[at] = byte;
            fuzz_request_head(&bytes);
        }

        #[test]
        fn any_query_is_cleaned(query in "([aA]ccess(_|%5[fF])[tT]oken|[a-c=%&+]){0,9}(=x)?") {
            fuzz_request_head(query.as_bytes());
        }
    }
}

//! Heads that are no good in the midst of a connection get one answer or none, and end it.

use std::io::Write as _;
use std::time::{Duration, Instant};

use hubring::limits::REQUEST_HEAD_TIMEOUT;

use crate::http::{Http, NOTHING};
use crate::stage::{Stage, until};

/// Without these headers it would learn only that something went wrong.
#[test]
fn a_page_is_told_what_is_wrong_with_its_head() {
    let stage = Stage::new(1);
    let long = "a".repeat(13 * 1024);
    for (request, status) in [
        (format!("GET /{long} HTTP/1.1\r\nHost: a\r\n"), 414),
        (format!("GET / HTTP/1.1\r\nX: {long}\r\nY: {long}\r\n"), 431),
        ("GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n".to_owned(), 400),
        ("GET /?<a> HTTP/1.1\r\nHost: a\r\n".to_owned(), 400),
        (
            "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1, 1\r\n".to_owned(),
            400,
        ),
    ] {
        let (method_and_target, headers) = request.split_once("\r\n").unwrap();
        let request =
            format!("{method_and_target}\r\noRIGIN: https://page.example\r\n{headers}\r\n");
        for before in [None, Some(NOTHING)] {
            let mut http = Http::connect(&stage);
            if let Some(before) = before {
                assert_eq!(http.ask(before).status, 404);
            }
            let answer = http.ask(&request);
            assert_eq!(answer.status, status, "{request:.60}");
            let allowed = "access-control-allow-origin: https://page.example";
            assert!(answer.head.contains(allowed), "{answer:?}");
        }
    }
}

#[test]
fn a_head_that_is_refused_is_answered_and_ends_the_connection() {
    let stage = Stage::new(1);
    let head = "GET /nothing HTTP/1.1\r\nHost: localhost\r\n";
    let long = "a".repeat(13 * 1024);
    for (request, status) in [
        ("GET /nothing HTTP/1.1\nHost: localhost\n\n".to_owned(), 400),
        (format!("{head}X: a\0b\r\n\r\n"), 400),
        (format!("{head}X : a\r\n\r\n"), 400),
        (format!("{head} folded\r\n\r\n"), 400),
        (format!("{head}Host: other\r\n\r\n"), 400),
        ("GET /nothing HTTP/1.1\r\n\r\n".to_owned(), 400),
        ("GET nothing HTTP/1.1\r\nHost: a\r\n\r\n".to_owned(), 400),
        ("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_owned(), 505),
        (format!("GET /{long} HTTP/1.1\r\nHost: a\r\n\r\n"), 414),
        (format!("{head}X: {long}\r\nY: {long}\r\n\r\n"), 431),
        (format!("{head}{}\r\n", "X: a\r\n".repeat(200)), 431),
        ("\u{16}\u{3}\u{1}\u{2}".to_owned(), 400),
        (
            "GET /nothing?<a> HTTP/1.1\r\nHost: a\r\n\r\n".to_owned(),
            400,
        ),
    ] {
        let mut http = Http::connect(&stage);
        assert_eq!(http.ask(NOTHING).status, 404);
        let answer = http.ask(request.clone() + NOTHING);
        assert_eq!(answer.status, status, "{request:.100?}");
        assert!(answer.head.contains("connection: close"), "{answer:?}");
        http.expect_end();
    }
    until("sockets to be closed", || stage.socket_count() == 1);
}

#[test]
fn a_head_that_comes_byte_by_byte_is_not_waited_for_longer_than_it_may_take() {
    let stage = Stage::new(1);
    let mut http = Http::connect(&stage);
    assert_eq!(http.ask(NOTHING).status, 404);
    let started = Instant::now();
    let slowly = Duration::from_millis(500);
    let long = NOTHING.replace("\r\n\r\n", &format!("\r\nX: {}\r\n\r\n", "a".repeat(1000)));
    for byte in long.bytes() {
        if started.elapsed() > REQUEST_HEAD_TIMEOUT || http.stream.write_all(&[byte]).is_err() {
            break;
        }
        std::thread::sleep(slowly);
    }
    until("the socket to be closed", || stage.socket_count() == 1);
    let took = started.elapsed();
    assert!(
        took < REQUEST_HEAD_TIMEOUT + Duration::from_secs(2),
        "{took:?}"
    );
}

//! One connection carries any number of requests.

use crate::http::{Http, NOTHING, field, negotiate};
use crate::stage::{Stage, until};

#[test]
fn requests_follow_each_other_on_one_connection() {
    let stage = Stage::new(2);
    let mut http = Http::connect(&stage);
    let mut ids = Vec::new();
    for _ in 0..20 {
        let answer = http.ask(negotiate(&stage));
        assert!(!answer.head.contains("connection: close"), "{answer:?}");
        ids.push(field(&answer, "connectionId"));
        assert_eq!(http.ask(NOTHING).status, 404);
    }
    ids.sort();
    ids.dedup();
    assert_eq!(ids.len(), 20);
    assert_eq!(stage.sum(|all| &all.handed_over), 1);
    drop(http);
    until("the socket to be closed", || stage.socket_count() == 2);
}

#[test]
fn requests_that_are_sent_at_once_are_answered_in_order() {
    let stage = Stage::new(1);
    let mut http = Http::connect(&stage);
    let both = negotiate(&stage) + NOTHING;
    http.send(both.repeat(10));
    for _ in 0..10 {
        field(&http.answer(), "connectionToken");
        assert_eq!(http.answer().status, 404);
    }
    // Byte by byte it is all the same.
    for byte in both.bytes() {
        http.send([byte]);
    }
    assert_eq!((http.answer().status, http.answer().status), (200, 404));
}

#[test]
fn a_connection_ends_when_the_peer_says_so() {
    let stage = Stage::new(1);
    let close = NOTHING.replace("\r\n\r\n", "\r\nConnection: close\r\n\r\n");
    let old = "GET /nothing HTTP/1.0\r\n\r\n";
    for request in [&*close, old] {
        let mut http = Http::connect(&stage);
        assert_eq!(http.ask(NOTHING).status, 404);
        assert_eq!(http.ask(format!("{request}{NOTHING}")).status, 404);
        http.expect_end();
    }
}

/// Otherwise whoever asks for anything, and be it refused, could keep a place for as long as a connection is kept.
#[test]
fn connections_without_a_request_make_room_when_few_are_left() {
    const CONNECTIONS: usize = 16;
    let stage = Stage::with(1, |config| config.connections_max = Some(CONNECTIONS));
    let mut idle: Vec<Http> = Vec::new();
    for _ in 0..4 * CONNECTIONS {
        let mut http = Http::connect(&stage);
        assert_eq!(http.ask(NOTHING).status, 404);
        idle.push(http);
    }
    let mut first = idle.swap_remove(0);
    first.expect_end();
}

//! What one program takes for a body and another for a request: it gets one answer, and the request in it is never answered.

use crate::http::{Http, NOTHING, negotiate};
use crate::peers::head;
use crate::stage::{Stage, until};

/// Requests that hide another one, with the status of their answer.
fn shapes(hidden: &str) -> Vec<(String, u16)> {
    let bytes = hidden.len();
    let head = "POST /nothing HTTP/1.1\r\nHost: localhost\r\n";
    let length = format!("Content-Length: {bytes}\r\n");
    let none = "Content-Length: 0\r\n";
    let coding = "Transfer-Encoding: chunked\r\n";
    let chunked = format!("{bytes:x}\r\n{hidden}\r\n0\r\n\r\n");
    vec![
        // Two lengths.
        (format!("{head}{none}{length}\r\n{hidden}"), 400),
        (format!("{head}{length}{none}\r\n{hidden}"), 400),
        (format!("{head}{length}{length}\r\n{hidden}"), 400),
        (
            format!("{head}Content-Length: {bytes}, {bytes}\r\n\r\n{hidden}"),
            400,
        ),
        (
            format!("{head}Content-Length: 0{bytes}x\r\n\r\n{hidden}"),
            400,
        ),
        // A length and a coding.
        (format!("{head}{length}{coding}\r\n0\r\n\r\n{hidden}"), 400),
        (format!("{head}{coding}{none}\r\n{chunked}"), 400),
        // Two codings, and none that is known.
        (format!("{head}{coding}{coding}\r\n0\r\n\r\n{hidden}"), 400),
        (
            format!("{head}{coding}Transfer-Encoding: x\r\n\r\n0\r\n\r\n{hidden}"),
            400,
        ),
        (
            format!("{head}Transfer-Encoding: x, chunked\r\n\r\n0\r\n\r\n{hidden}"),
            400,
        ),
        (
            format!("{head}Transfer-Encoding: x\r\n\r\n0\r\n\r\n{hidden}"),
            501,
        ),
        // Headers that not everybody sees.
        (format!("{head}X: a\r\n {length}\r\n{hidden}"), 400),
        (format!("{head}X: a\n{length}\r\n{hidden}"), 400),
        (format!("{head}X: a\r{length}\r\n{hidden}"), 400),
        (format!("{head}X: a\0\r\n{length}\r\n{hidden}"), 400),
        (
            format!("{head}Content-Length : {bytes}\r\n\r\n{hidden}"),
            400,
        ),
        (format!("{head}\u{b}{length}\r\n{hidden}"), 400),
        (
            format!("{head}X: {}\r\n{length}\r\n{hidden}", "a".repeat(20_000)),
            431,
        ),
        // Bodies that not everybody expects.
        (
            format!("GET /nothing HTTP/1.1\r\nHost: localhost\r\n{length}\r\n{hidden}"),
            400,
        ),
        (
            format!("POST /nothing HTTP/1.0\r\n{coding}\r\n{chunked}"),
            400,
        ),
        // A coded body, and more than belongs to it.
        (format!("{head}{coding}\r\n{chunked}{hidden}"), 404),
        (format!("{head}{coding}\r\n0\r\n\r\n{hidden}"), 404),
        (
            format!("{head}{coding}\r\n{bytes:x}\n{hidden}\r\n0\r\n\r\n{hidden}"),
            404,
        ),
    ]
}

fn assert_hidden(stage: &Stage, hidden: &str) {
    for (request, status) in shapes(hidden) {
        for before in [0, 2] {
            let mut http = Http::connect(stage);
            http.send(NOTHING.repeat(before) + &request);
            for _ in 0..before {
                assert_eq!(http.answer().status, 404);
            }
            let answer = http.answer();
            assert_eq!(answer.status, status, "{request:?}");
            assert!(answer.head.contains("connection: close"), "{request:?}");
            http.expect_end();
        }
    }
}

#[test]
fn a_request_that_hides_in_another_one_is_never_answered() {
    let stage = Stage::new(1);
    assert_hidden(&stage, &negotiate(&stage));
    until("sockets to be closed", || stage.socket_count() == 1);
}

#[test]
fn an_upgrade_that_hides_in_a_request_never_reaches_a_shard() {
    let stage = Stage::new(1);
    let (target, token) = stage.client_request();
    assert_hidden(&stage, &head(&target, &token));
    assert_eq!(stage.sum(|all| &all.handed_back), 0);
    assert_eq!(stage.sum(|all| &all.client_connections), 0);
}

/// A body whose length is clear is a body, whatever stands in it and however it is answered.
#[test]
fn a_body_that_looks_like_a_request_is_a_body() {
    let stage = Stage::new(1);
    let (target, token) = stage.client_request();
    let mut http = Http::connect(&stage);
    for hidden in [NOTHING.to_owned(), negotiate(&stage), head(&target, &token)] {
        let bytes = hidden.len();
        let negotiating = negotiate(&stage).replace("Length: 0", &format!("Length: {bytes}"));
        http.send(negotiating + &hidden);
        assert_eq!(http.answer().status, 200);
        http.expect_silence();
    }
    assert_eq!(http.ask(NOTHING).status, 404);
    assert_eq!(stage.sum(|all| &all.handed_back), 0);
}

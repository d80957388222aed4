//! What one program takes for a body and another for a request: it gets one answer, and the request in it is never answered.

use crate::http::{Http, NOTHING, negotiate};
use crate::peers::head;
use crate::stage::{Stage, until};

/// Requests that hide another one, with the status of their answer. `HIDDEN` stands for it, `SIZE` for its length and `HEX` for the same in
/// a chunk. What does not begin with a method is a POST.
const SHAPES: [(&str, u16); 23] = [
    // Two lengths.
    (
        "Content-Length: 0\r\nContent-Length: SIZE\r\n\r\nHIDDEN",
        400,
    ),
    (
        "Content-Length: SIZE\r\nContent-Length: 0\r\n\r\nHIDDEN",
        400,
    ),
    (
        "Content-Length: SIZE\r\nContent-Length: SIZE\r\n\r\nHIDDEN",
        400,
    ),
    ("Content-Length: SIZE, SIZE\r\n\r\nHIDDEN", 400),
    ("Content-Length: 0SIZEx\r\n\r\nHIDDEN", 400),
    // A length and a coding.
    (
        "Content-Length: SIZE\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\nHIDDEN",
        400,
    ),
    (
        "Transfer-Encoding: chunked\r\nContent-Length: 0\r\n\r\nHEX\r\nHIDDEN\r\n0\r\n\r\n",
        400,
    ),
    // Two codings, and none that is known.
    (
        "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\nHIDDEN",
        400,
    ),
    (
        "Transfer-Encoding: chunked\r\nTransfer-Encoding: x\r\n\r\n0\r\n\r\nHIDDEN",
        400,
    ),
    ("Transfer-Encoding: x, chunked\r\n\r\n0\r\n\r\nHIDDEN", 400),
    ("Transfer-Encoding: x\r\n\r\n0\r\n\r\nHIDDEN", 501),
    // Headers that not everybody sees.
    ("X: a\r\n Content-Length: SIZE\r\n\r\nHIDDEN", 400),
    ("X: a\nContent-Length: SIZE\r\n\r\nHIDDEN", 400),
    ("X: a\rContent-Length: SIZE\r\n\r\nHIDDEN", 400),
    ("X: a\0\r\nContent-Length: SIZE\r\n\r\nHIDDEN", 400),
    ("Content-Length : SIZE\r\n\r\nHIDDEN", 400),
    ("\u{b}Content-Length: SIZE\r\n\r\nHIDDEN", 400),
    // Bodies that not everybody expects.
    (
        "GET /nothing HTTP/1.1\r\nHost: a\r\nContent-Length: SIZE\r\n\r\nHIDDEN",
        400,
    ),
    (
        "POST /nothing HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\nHEX\r\nHIDDEN\r\n0\r\n\r\n",
        400,
    ),
    // A coded body, and more than belongs to it.
    (
        "Transfer-Encoding: chunked\r\n\r\nHEX\r\nHIDDEN\r\n0\r\n\r\nHIDDEN",
        404,
    ),
    ("Transfer-Encoding: chunked\r\n\r\n0\r\n\r\nHIDDEN", 404),
    (
        "Transfer-Encoding: chunked\r\n\r\nHEX\nHIDDEN\r\n0\r\n\r\nHIDDEN",
        404,
    ),
    (
        "Transfer-Encoding: chunked\r\n\r\nHEX;x=\r\nHIDDEN\r\n0\r\nX: y\r\n\r\nHIDDEN",
        404,
    ),
];

fn request(shape: &str, hidden: &str) -> String {
    let line = if shape.contains(" /nothing ") {
        ""
    } else {
        "POST /nothing HTTP/1.1\r\nHost: a\r\n"
    };
    let bytes = hidden.len();
    let shape = shape.replace("SIZE", &bytes.to_string());
    let shape = shape.replace("HEX", &format!("{bytes:x}"));
    line.to_owned() + &shape.replace("HIDDEN", hidden)
}

fn assert_hidden(stage: &Stage, hidden: &str) {
    for (shape, status) in SHAPES {
        let request = request(shape, hidden);
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

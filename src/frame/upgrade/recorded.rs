//! Requests recorded from Microsoft.Azure.SignalR 1.34.0, read as they came. The tokens in them are tested with tokens.

use super::{RequestHead, parse, query, switching_protocols};

const SERVER_CONNECTION: &str = "GET /server/?hub=chat&cid=00000000-0000-4000-8000-000000000001 HTTP/1.1\r\n\
     Host: localhost:8888\r\n\
     Asrs-User-Agent: Microsoft.Azure.SignalR/1.34.0-rtm+9c449f38907b97c317ae93ed470d92ef3568a667 (.NET 10.0.12; Debian GNU/Linux 12 (bookworm); X64)\r\n\
     X-ASRS-Server-Id: s1_0123456789abcdef0123456789abcdef\r\n\
     X-Requested-With: XMLHttpRequest\r\n\
     Authorization: Bearer eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCIsImtpZCI6Ii0xMjM0NTY3ODkwIn0.eyJuYW1laWQiOiJzMV8wMTIzNDU2Nzg5YWJjZGVmMDEyMzQ1Njc4OWFiY2RlZiIsIm5iZiI6MTgwMDAwMDAwMCwiZXhwIjoxODAwMDAzNjAwLCJpYXQiOjE4MDAwMDAwMDAsImlzcyI6ImF6dXJlLXNpZ25hbHIiLCJhdWQiOiJodHRwOi8vbG9jYWxob3N0L3NlcnZlci8_aHViPWNoYXQifQ.0nHtOWl_TzflU2ZmtSTz-9olMEp0V2eAISVWlNZT9pw\r\n\
     Connection: Upgrade\r\n\
     Upgrade: websocket\r\n\
     Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\
     Sec-WebSocket-Version: 13\r\n\r\n";

const ON_DEMAND_CONNECTION: &str = "GET /server/?hub=chat&cid=00000000-0000-4000-8000-000000000001&target=instance2 HTTP/1.1\r\n\
     Host: localhost:8888\r\n\
     Asrs-User-Agent: Microsoft.Azure.SignalR/1.34.0-rtm+9c449f38907b97c317ae93ed470d92ef3568a667 (.NET 10.0.12; Debian GNU/Linux 12 (bookworm); X64)\r\n\
     X-ASRS-Server-Id: s1_0123456789abcdef0123456789abcdef\r\n\
     X-Requested-With: XMLHttpRequest\r\n\
     Authorization: Bearer eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCIsImtpZCI6Ii0xMjM0NTY3ODkwIn0.eyJuYW1laWQiOiJzMV8wMTIzNDU2Nzg5YWJjZGVmMDEyMzQ1Njc4OWFiY2RlZiIsIm5iZiI6MTgwMDAwMDAwMCwiZXhwIjoxODAwMDAzNjAwLCJpYXQiOjE4MDAwMDAwMDAsImlzcyI6ImF6dXJlLXNpZ25hbHIiLCJhdWQiOiJodHRwOi8vbG9jYWxob3N0L3NlcnZlci8_aHViPWNoYXQifQ.0nHtOWl_TzflU2ZmtSTz-9olMEp0V2eAISVWlNZT9pw\r\n\
     Connection: Upgrade\r\n\
     Upgrade: websocket\r\n\
     Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\
     Sec-WebSocket-Version: 13\r\n\r\n";

const ENTRA_CONNECTION: &str = "GET /server/?hub=chat&cid=00000000-0000-4000-8000-000000000001 HTTP/1.1\r\n\
     Host: localhost:8888\r\n\
     Asrs-User-Agent: Microsoft.Azure.SignalR/1.34.0-rtm+9c449f38907b97c317ae93ed470d92ef3568a667 (.NET 10.0.12; Debian GNU/Linux 12 (bookworm); X64)\r\n\
     X-ASRS-Server-Id: s1_0123456789abcdef0123456789abcdef\r\n\
     X-Requested-With: XMLHttpRequest\r\n\
     Authorization: Bearer eyJhbGciOiJSUzI1NiJ9.eyJmYWtlIjoxfQ.c2ln\r\n\
     Connection: Upgrade\r\n\
     Upgrade: websocket\r\n\
     Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\
     Sec-WebSocket-Version: 13\r\n\r\n";

const ACCESS_KEY_REQUEST: &str = "GET /api/v1/auth/accessKey HTTP/1.1\r\n\
     Host: localhost:8888\r\n\
     Authorization: Bearer eyJhbGciOiJSUzI1NiJ9.eyJmYWtlIjoxfQ.c2ln\r\n\
     traceparent: 00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-00\r\n\r\n";

fn head_of(request: &str) -> RequestHead {
    let (head, bytes) = parse(request.as_bytes()).unwrap().unwrap();
    assert_eq!(bytes, request.len());
    head
}

#[test]
fn a_server_connection_asks_for_an_upgrade() {
    for request in [SERVER_CONNECTION, ON_DEMAND_CONNECTION, ENTRA_CONNECTION] {
        let head = head_of(request);
        assert_eq!(head.path(), "/server/");
        assert!(head.wants_websocket());
        assert_eq!(query::first(head.query(), "hub").unwrap(), "chat");
        let connection_id = query::first(head.query(), "cid").unwrap();
        assert_eq!(connection_id, "00000000-0000-4000-8000-000000000001");
        let server_id = head.header("x-asrs-server-id").unwrap();
        assert_eq!(server_id, "s1_0123456789abcdef0123456789abcdef");
        assert!(
            head.header("authorization")
                .unwrap()
                .starts_with("Bearer ey")
        );
        assert!(
            head.header("asrs-user-agent")
                .unwrap()
                .ends_with("(bookworm); X64)")
        );
        let answer = switching_protocols(&head.check_upgrade().unwrap());
        let answer = String::from_utf8(answer).unwrap().to_lowercase();
        // The answer to the key of RFC 6455 §1.3.
        assert!(answer.starts_with("http/1.1 101 "), "{answer}");
        assert!(
            answer.contains("sec-websocket-accept: s3pplmbitxaq9kygzzhzrbk+xoo="),
            "{answer}"
        );
    }
}

#[test]
fn an_on_demand_connection_says_for_whom_it_is() {
    assert_eq!(
        query::first(head_of(SERVER_CONNECTION).query(), "target"),
        None
    );
    let head = head_of(ON_DEMAND_CONNECTION);
    assert_eq!(query::first(head.query(), "target").unwrap(), "instance2");
    assert_eq!(
        query::first("target=instance+2%2F%C3%A9", "target").unwrap(),
        "instance 2/é"
    );
}

#[test]
fn a_request_for_an_access_key_is_no_upgrade() {
    let head = head_of(ACCESS_KEY_REQUEST);
    assert_eq!(
        (head.method(), head.path()),
        ("GET", "/api/v1/auth/accessKey")
    );
    assert!(!head.wants_websocket());
}

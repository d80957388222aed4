//! What the two app servers are told of a client that moves from one to the other.
//!
//! Both messages differ from those of a client that comes or leaves by one header. The old app server then says nothing more to the
//! client, not even goodbye; the new one answers the client's handshake request, which is sent to it once more, for nobody to hear.

use super::reader::Reader;
use super::{CloseConnection, Fault, Message, OpenConnection, Text, Texts};

/// Header of an `OpenConnection`: the app server that had the client before.
pub const MIGRATE_FROM: &str = "Asrs-Migrate-From";
/// Header of a `CloseConnection`: the app server that gets the client.
pub const MIGRATE_TO: &str = "Asrs-Migrate-To";

/// Appends the [`CloseConnection`] of a client that moves to the app server `to`.
pub fn write_migration_out(connection_id: &str, to: &str, out: &mut Vec<u8>) {
    let message = CloseConnection {
        headers: vec![header(MIGRATE_TO, to)],
        ..CloseConnection::of(connection_id)
    };
    Message::<&[u8]>::from(message).encode(out);
}

/// Appends the [`OpenConnection`] of a client that comes from the app server `from`. `body` is what
/// [`super::encode_open_connection_body`] has made of it when it connected.
pub fn write_migration_in(
    connection_id: &str,
    body: &[u8],
    protocol: &str,
    from: &str,
    out: &mut Vec<u8>,
) -> Result<(), Fault> {
    let pieces = [body];
    let mut reader = Reader::new(&pieces);
    let mut message = OpenConnection {
        connection_id: connection_id.into(),
        claims: reader.claims()?,
        headers: reader.headers()?,
        query_string: reader.text()?,
        protocol: Some(protocol.into()),
        tracing_id: None,
    };
    message.headers.push(header(MIGRATE_FROM, from));
    Message::<&[u8]>::from(message).encode(out);
    Ok(())
}

fn header<'a>(name: &'a str, value: &'a str) -> (Text<'a>, Texts<'a>) {
    (name.into(), std::iter::once(value.into()).collect())
}

#[cfg(test)]
mod tests {
    use super::super::encode_open_connection_body;
    use super::*;

    #[test]
    fn the_bytes_of_a_migration_out_are_those_that_the_sdk_expects() {
        let mut out = Vec::new();
        write_migration_out("conn1", "server2", &mut out);
        let expected = b"\x24\x95\x05\xa5conn1\xa0\x81\xafAsrs-Migrate-To\x91\xa7server2\x80";
        assert_eq!(out, expected);
    }

    #[test]
    fn a_migration_in_adds_one_header_to_what_was_said_before() {
        let claims = [("role".into(), "a".into()), ("role".into(), "b".into())];
        let headers = [header("Host", "h")];
        let body = encode_open_connection_body(&claims, &headers, "?hub=chat");
        let mut out = Vec::new();
        write_migration_in("c", &body, "json", "server1", &mut out).unwrap();
        let expected = [
            &b"\x48\x96\x04\xa1c\x82\xa4role\xa1a\xa4role\xa1b\x82\xa4Host\x91\xa1h"[..],
            b"\xb1Asrs-Migrate-From\x91\xa7server1\xa9?hub=chat\x81\x03\xa4json",
        ]
        .concat();
        assert_eq!(out, expected);
    }

    #[test]
    fn a_body_that_is_none_is_refused() {
        let mut out = Vec::new();
        assert!(write_migration_in("c", b"\x81\xa1a", "json", "server1", &mut out).is_err());
        assert!(out.is_empty());
    }
}

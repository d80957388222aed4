//! A client whose app wants it is closed when its authentication expires.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use hubring::frame::websocket::Data;
use hubring::protocol::service::Message;

use crate::peers::{AppServer, HANDSHAKE, Heard, Peer, accept, read};
use crate::stage::Stage;

fn expiring(stage: &Stage, at: u64, more: &[(&str, &str)]) -> Result<Peer, u16> {
    let at = at.to_string();
    let mut claims = vec![("asrs.s.coae", "true"), ("asrs.s.aeo", &*at)];
    claims.extend(more);
    Peer::upgrade(stage, stage.client_request_with(&claims), &[])
}

fn now() -> u64 {
    let since_1970 = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    since_1970.as_secs()
}

#[test]
fn a_client_is_closed_in_the_second_in_which_its_authentication_expires() {
    let stage = Stage::new(1);
    let mut servers = AppServer::connect_all(&stage, 1);
    for (more, flag) in [
        (&[][..], ",\"allowReconnect\":true"),
        (&[("asrs.s.dc", "true")][..], ""),
    ] {
        let started = Instant::now();
        let mut client = expiring(&stage, now() + 2, more).unwrap();
        client.send(Data::Text, HANDSHAKE);
        let (_, id) = accept(&mut servers);
        assert_eq!(client.hear(), Heard::Bytes(b"{}\x1e".to_vec()));
        let close =
            format!("{{\"type\":7,\"error\":\"The authentication has expired.\"{flag}}}\x1e");
        assert_eq!(client.hear(), Heard::Bytes(close.into_bytes()));
        assert_eq!(client.hear(), Heard::Close(1000));
        let took = started.elapsed();
        assert!(
            (Duration::from_secs(1)..Duration::from_secs(4)).contains(&took),
            "{took:?}"
        );
        let message = servers[0].next().unwrap();
        let Message::CloseConnection(close) = read(&message) else {
            panic!("its app server is told");
        };
        assert_eq!(close.connection_id, id);
    }
    assert_eq!(stage.sum(|counters| &counters.authentications_expired), 2);
}

#[test]
fn who_is_signed_in_no_longer_is_not_let_in_and_who_is_for_ever_stays() {
    let stage = Stage::new(1);
    assert_eq!(expiring(&stage, now() - 1, &[]).err(), Some(401));
    assert_eq!(expiring(&stage, 0, &[]).err(), Some(401));
    let mut forever = expiring(&stage, i64::MAX.cast_unsigned(), &[]).unwrap();
    let heard = forever.hear_within(Duration::from_secs(1));
    assert_eq!(heard, Heard::Nothing);
}

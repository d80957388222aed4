//! What holds for all messages, all cuts and all bytes.

use proptest::prelude::*;

use super::notation::notation;
use super::{Framed, arbitrary, fuzz_service_message, hex};
use crate::protocol::service::{
    AckStatus, CONNECTION_DATA_TRAILER, ConnectionData, Message, MessageType, OpenConnection,
    connection_data_header, decode, encode_open_connection_body, write_ack, write_close_connection,
    write_handshake_response, write_open_connection, write_service_error,
};

proptest! {
    #[test]
    fn a_message_survives_being_written_and_read(random in prop::collection::vec(any::<u8>(), 0..400)) {
        let message = arbitrary::message(&random);
        let framed = Framed::of(&message);
        let read = framed.read();
        prop_assert_eq!(notation(&read, |payload| payload), notation(&message, |payload| payload));
        prop_assert_eq!(&Framed::of(&read).0, &framed.0);
    }

    #[test]
    fn a_frame_may_be_cut_anywhere(
        random in prop::collection::vec(any::<u8>(), 0..200),
        cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..6),
    ) {
        let message = arbitrary::message(&random);
        let framed = Framed::of(&message);
        let body = framed.body();
        let mut cuts: Vec<usize> = cuts.iter().map(|cut| cut.index(body.len() + 1)).collect();
        cuts.extend([0, body.len()]);
        cuts.sort_unstable();
        let pieces: Vec<&[u8]> = cuts.windows(2).map(|cut| &body[cut[0]..cut[1]]).collect();
        let read = decode(&pieces).unwrap();
        prop_assert_eq!(notation(&read, |range| &body[range.clone()]), notation(&message, |payload| payload));
    }

    #[test]
    fn no_bytes_do_harm(data in prop::collection::vec(any::<u8>(), 0..300)) {
        fuzz_service_message(&data);
    }

    #[test]
    fn no_damage_to_a_message_does_harm(
        random in prop::collection::vec(any::<u8>(), 0..200),
        damage in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..5),
    ) {
        let mut body = Framed::of(&arbitrary::message(&random)).body().to_vec();
        for (at, byte) in damage {
            let at = at.index(body.len());
            body[at] = byte;
        }
        body.truncate(2_000);
        fuzz_service_message(&body);
    }

    #[test]
    fn header_payload_and_trailer_are_a_connection_data(
        connection_id in ".{0,50}",
        payload in prop::collection::vec(any::<u8>(), 0..400),
    ) {
        let header = connection_data_header(&connection_id, payload.len());
        let message = ConnectionData { connection_id: connection_id.into(), payload: &*payload, ..ConnectionData::default() };
        prop_assert_eq!([&header, &*payload, &CONNECTION_DATA_TRAILER].concat(), Framed::of(&message.into()).0);
    }
}

#[test]
fn a_body_made_beforehand_gives_the_same_open_connection() {
    let open = OpenConnection {
        connection_id: "c".into(),
        claims: vec![("role".into(), "a".into()), ("role".into(), "b".into())],
        headers: vec![(
            "X-Forwarded-For".into(),
            ["203.0.113.7".into()].into_iter().collect(),
        )],
        query_string: "?hub=chat".into(),
        protocol: Some("json".into()),
        tracing_id: None,
    };
    let body = encode_open_connection_body(&open.claims, &open.headers, &open.query_string);
    let mut written = b"before".to_vec();
    write_open_connection("c", &body, "json", &mut written);
    let message: Message<'_, &[u8]> = open.into();
    assert_eq!(
        written.strip_prefix(b"before").unwrap(),
        Framed::of(&message).0
    );
}

#[test]
fn a_payload_of_70_000_bytes_survives() {
    let payload: Vec<u8> = (0..70_000_u32).map(|n| n as u8).collect();
    let message: Message<'_, &[u8]> = ConnectionData {
        connection_id: "conn5".into(),
        payload: &*payload,
        ..ConnectionData::default()
    }
    .into();
    let framed = Framed::of(&message);
    assert_eq!(framed.0[..3], [0xfe, 0xa2, 0x04], "a prefix of three bytes");
    let Message::ConnectionData(read) = framed.read() else {
        panic!("another message")
    };
    assert_eq!(read.payload, payload);
}

#[test]
fn the_header_of_our_own_connections_stays_inline() {
    let header = connection_data_header("AAAAAAAAAAAAAAAAAAAAAA", 0x7000_0000);
    assert!(!header.spilled());
}

#[test]
fn answers_of_the_service_are_written_as_recorded() {
    let cid = "00000000-0000-4000-8000-000000000001";
    assert_eq!(
        written(|out| write_handshake_response("", Some(cid), out)),
        hex(
            "2a9402a080d92430303030303030302d303030302d343030302d383030302d303030303030303030303031"
        )
    );
    assert_eq!(
        written(|out| write_ack(2, AckStatus::NotFound, "", out)),
        hex("0695140202a080")
    );
    assert_eq!(
        written(|out| write_close_connection("c1", "", out)),
        hex("089505a26331a08080")
    );
    assert_eq!(
        written(|out| write_service_error("no", out)),
        hex("05920fa26e6f")
    );
}

fn written(write: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
    let mut out = Vec::new();
    write(&mut out);
    out
}

#[test]
fn types_are_numbered_without_a_gap() {
    for (message_type, number) in MessageType::ALL.iter().zip(1..) {
        assert_eq!(message_type.number(), number);
        assert_eq!(MessageType::from_number(number), Some(*message_type));
    }
    assert_eq!(MessageType::from_number(0), None);
    assert_eq!(MessageType::from_number(44), None);
}

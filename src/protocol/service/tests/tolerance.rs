//! What is forgiven to a peer, and what is not.

use std::borrow::Cow;

use super::notation::notation;
use super::{Framed, hex};
use crate::protocol::service::{
    Ack, AckStatus, DecodeError, Fault, Message, MessageType, Timestamp, decode, decode_whole,
};

#[test]
fn an_unknown_type_is_passed_over() {
    assert_eq!(decode_whole(&hex("922c01")), Ok(Message::Unknown(44)));
    assert_eq!(decode_whole(&hex("91ff")), Ok(Message::Unknown(-1)));
}

#[test]
fn elements_and_bytes_beyond_the_layout_are_ignored() {
    assert_reads("9304a2696480a26578", r#"[4, "id", {}, {}, "", {}]"#);
    assert_reads(
        "9504a269648080a43f6b3d76a26578",
        r#"[4, "id", {}, {}, "?k=v", {}]"#,
    );
    assert_reads("9512a163a1670180", r#"[18, "c", "g", 1, {}]"#);
    assert_reads("9712a163a167018093010203c0", r#"[18, "c", "g", 1, {}]"#);
}

#[test]
fn integers_may_have_any_width() {
    for seven in [
        "07",
        "cc07",
        "cd0007",
        "ce00000007",
        "cf0000000000000007",
        "d007",
        "d10007",
        "d200000007",
        "d30000000000000007",
    ] {
        assert_reads(
            &format!("9512a163a167{seven}80"),
            r#"[18, "c", "g", 7, {}]"#,
        );
    }
    assert_reads("9512a163a167ff80", r#"[18, "c", "g", -1, {}]"#);
    assert_reads("95d200000012a163a1670180", r#"[18, "c", "g", 1, {}]"#);
}

#[test]
fn unknown_extensions_are_skipped_whatever_they_hold() {
    let values = [
        "00",
        "ff",
        "c0",
        "c2",
        "c3",
        "cc01",
        "cd0001",
        "ce00000001",
        "cf0000000000000001",
        "d001",
        "d10001",
        "d200000001",
        "d30000000000000001",
        "ca00000000",
        "cb0000000000000000",
        "a161",
        "d90161",
        "da000161",
        "db0000000161",
        "c40161",
        "c5000161",
        "c60000000161",
        "90",
        "9201a161",
        "dc000101",
        "dd0000000101",
        "80",
        "8101a161",
        "de00010102",
        "df000000010102",
        "d4ff00",
        "d5ff0000",
        "d6ff00000000",
        "d7ff0000000000000000",
        "d8ff00000000000000000000000000000000",
        "c701ff00",
        "c80001ff00",
        "c900000001ff00",
        "9191918191a16105",
    ];
    for value in values {
        assert_reads(
            &format!("940ba163a1678263{value}0107"),
            r#"[11, "c", "g", {1: 7}]"#,
        );
    }
}

#[test]
fn depth_of_what_is_skipped_costs_nothing() {
    let deep = "91".repeat(100_000) + "05";
    assert_reads(
        &format!("940ba163a1678263{deep}0107"),
        r#"[11, "c", "g", {1: 7}]"#,
    );
}

#[test]
fn nil_reads_as_empty_where_a_string_or_bytes_are_required() {
    assert_reads("930bc0c0", r#"[11, "", "", {}]"#);
    assert_reads("9306c0c0", r#"[6, "", h'', {}]"#);
    assert_reads("9303c0a161", r#"[3, "", "a"]"#);
}

#[test]
fn nil_is_no_list_and_no_map() {
    let faults = [
        (
            "930ac080",
            MessageType::BroadcastData,
            "excluded",
            "an array",
        ),
        ("930a90c0", MessageType::BroadcastData, "payloads", "a map"),
        ("9304a163c0", MessageType::OpenConnection, "claims", "a map"),
        (
            "9505a163a0c080",
            MessageType::CloseConnection,
            "headers",
            "a map",
        ),
        (
            "940ba163a167c0",
            MessageType::JoinGroup,
            "extensions",
            "a map",
        ),
    ];
    for (message, message_type, field, expected) in faults {
        assert_fault(
            message,
            message_type,
            field,
            Fault::Unexpected {
                expected,
                found: 0xc0,
            },
        );
    }
}

#[test]
fn a_count_takes_no_memory() {
    for (count, fault) in [
        ("00100000", Fault::Truncated),
        ("00100001", Fault::TooMany { count: 0x0010_0001 }),
        ("ffffffff", Fault::TooMany { count: u32::MAX }),
    ] {
        assert_fault(
            &format!("930add{count}"),
            MessageType::BroadcastData,
            "excluded",
            fault,
        );
        assert_fault(
            &format!("930a90df{count}"),
            MessageType::BroadcastData,
            "payloads",
            fault,
        );
        assert_fault(
            &format!("9304a163df{count}"),
            MessageType::OpenConnection,
            "claims",
            fault,
        );
        assert_fault(
            &format!("9504a16380df{count}"),
            MessageType::OpenConnection,
            "headers",
            fault,
        );
    }
    for count in ["7fffffff", "ffffffff"] {
        assert_fault(
            &format!("9506a163c6{count}"),
            MessageType::ConnectionData,
            "payload",
            Fault::Truncated,
        );
        assert_fault(
            &format!("9306db{count}61"),
            MessageType::ConnectionData,
            "connection_id",
            Fault::Truncated,
        );
        assert_fault(
            &format!("940ba163a1678163dd{count}"),
            MessageType::JoinGroup,
            "extensions",
            Fault::Truncated,
        );
        assert_fault(
            &format!("940ba163a1678163c9{count}"),
            MessageType::JoinGroup,
            "extensions",
            Fault::Truncated,
        );
    }
    assert_fault(
        "dd0000000303a0",
        MessageType::Ping,
        "strings",
        Fault::Truncated,
    );
    let count = u32::MAX - 1;
    assert_fault(
        "ddffffffff03",
        MessageType::Ping,
        "strings",
        Fault::TooMany { count },
    );
}

/// A message of 64 MiB could else take gigabytes: each empty string is one byte of it.
#[test]
fn what_is_kept_of_lists_within_lists_is_bounded_too() {
    let half = "dd00080000".to_owned() + &"a0".repeat(0x0008_0000);
    let headers = |lists: &str| format!("9504a1638082{lists}a0");
    assert!(decode_whole(&hex(&headers(&format!("a0{half}a090")))).is_ok());
    assert_fault(
        &headers(&format!("a0{half}a0{half}")),
        MessageType::OpenConnection,
        "headers",
        Fault::TooMany { count: 0x0008_0000 },
    );
}

#[test]
fn faults_are_named() {
    let missing =
        |message, message_type, field| assert_fault(message, message_type, field, Fault::Missing);
    missing("9212a163", MessageType::JoinGroupWithAck, "group");
    missing("9106", MessageType::ConnectionData, "connection_id");
    missing(
        "9327a163d200000001",
        MessageType::ConnectionFlowControl,
        "operation",
    );
    assert_fault(
        "930ba2fffea167",
        MessageType::JoinGroup,
        "connection_id",
        Fault::NotUtf8,
    );
    let unknown = |value| Fault::UnknownValue { value };
    assert_fault(
        "9527a163000180",
        MessageType::ConnectionFlowControl,
        "target",
        unknown(0),
    );
    assert_fault(
        "9527a163010580",
        MessageType::ConnectionFlowControl,
        "operation",
        unknown(5),
    );
    let wide = Fault::OutOfRange {
        expected: "a 32-bit integer",
        value: 1 << 31,
    };
    assert_fault(
        "9412a163a167ce80000000",
        MessageType::JoinGroupWithAck,
        "ack_id",
        wide,
    );
    let large = Fault::TooLarge { value: u64::MAX };
    assert_fault(
        "9412a163a167cfffffffffffffffff",
        MessageType::JoinGroupWithAck,
        "ack_id",
        large,
    );
    let negative = Fault::OutOfRange {
        expected: "no negative number",
        value: -1,
    };
    assert_fault(
        "940ba163a1678101ff",
        MessageType::JoinGroup,
        "extensions",
        negative,
    );
    assert_eq!(
        decode_whole(&[]),
        Err(DecodeError::NotAnArray(Fault::Truncated))
    );
    assert_eq!(
        decode_whole(&hex("90")),
        Err(DecodeError::NoType(Fault::Missing))
    );
    let error = decode_whole(&hex("930ba16305")).unwrap_err();
    assert_eq!(
        error.to_string(),
        "JoinGroup is malformed at its group: expected a string, found the byte 0x05"
    );
}

#[test]
fn a_timestamp_comes_in_three_forms() {
    let forms = [
        ("d6ff6553f100", 1_700_000_000, 0),
        ("d7ff000000046553f100", 1_700_000_000, 1),
        ("c70cff000000000000000000000001", 1, 0),
        ("c70cff00000000ffffffffffffffff", -1, 0),
        ("c704ff6553f100", 1_700_000_000, 0),
    ];
    for (form, seconds, nanoseconds) in forms {
        let message = hex(&format!("9629a17480{form}0180"));
        let Ok(Message::RefreshAuth(refresh)) = decode_whole(&message) else {
            panic!("{form}")
        };
        assert_eq!(
            refresh.expire_time,
            Timestamp {
                seconds,
                nanoseconds
            },
            "{form}"
        );
    }
    let refresh = |form| format!("9629a17480{form}0180");
    let foreign = Fault::Unexpected {
        expected: "a timestamp",
        found: 0x01,
    };
    assert_fault(
        &refresh("d60100000000"),
        MessageType::RefreshAuth,
        "expire_time",
        foreign,
    );
    let second = Fault::OutOfRange {
        expected: "less than a second of nanoseconds",
        value: 1_000_000_000,
    };
    assert_fault(
        &refresh("c70cff3b9aca000000000000000000"),
        MessageType::RefreshAuth,
        "expire_time",
        second,
    );
}

#[test]
fn an_ack_never_carries_an_empty_payload() {
    assert_reads("96140101a080c400", r#"[20, 1, 1, "", {}]"#);
    assert_reads("96140101a080c0", r#"[20, 1, 1, "", {}]"#);
    let ack = Ack {
        ack_id: 1,
        status: AckStatus::Ok,
        message: "".into(),
        payload: Some([]),
    };
    assert_eq!(Framed::of(&ack.into()).body(), hex("95140101a080"));
}

#[test]
fn a_protocol_is_found_whatever_its_letter_case() {
    let message = hex("930a9082a44a736f6ec40101ab6d6573736167657061636bc40102");
    let Ok(Message::BroadcastData(broadcast)) = decode_whole(&message) else {
        panic!()
    };
    assert_eq!(broadcast.payloads.get("json"), Some(&&[1][..]));
    assert_eq!(broadcast.payloads.get("MessagePack"), Some(&&[2][..]));
    assert_eq!(broadcast.payloads.get("blazorpack"), None);
}

#[test]
fn a_string_is_copied_only_if_it_straddles() {
    let message = hex("9306a6636f6e6e3035c40101");
    let id_of = |pieces: &[&'static [u8]]| match decode(pieces) {
        Ok(Message::ConnectionData(data)) => data.connection_id,
        other => panic!("{other:?}"),
    };
    let message: &'static [u8] = message.leak();
    for at in 0..=message.len() {
        let id = id_of(&[&message[..at], &[], &message[at..]]);
        assert_eq!(id, "conn05");
        assert_eq!(
            matches!(id, Cow::Owned(_)),
            (4..9).contains(&at),
            "cut at {at}"
        );
    }
}

fn assert_reads(message: &str, meaning: &str) {
    let message = hex(message);
    let read = decode_whole(&message).unwrap();
    assert_eq!(notation(&read, |payload| payload), meaning);
}

fn assert_fault(message: &str, message_type: MessageType, field: &'static str, fault: Fault) {
    let expected = DecodeError::Field {
        message: message_type,
        field,
        fault,
    };
    assert_eq!(decode_whole(&hex(message)), Err(expected), "{message}");
}

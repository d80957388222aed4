//! What is said on the wire, message by message.

use proptest::prelude::*;

use super::*;
use crate::frame::record::write_varint;
use crate::limits::{STATEFUL_ACK_BYTES, STATEFUL_KEPT_BYTES_MAX};

const CALL: &str = r#"{"type":1,"target":"x","arguments":[]}"#;

fn json() -> Stateful {
    Stateful::new(&HubProtocol::Json).unwrap()
}

fn chunk(bytes: impl AsRef<[u8]>) -> Chunk {
    Chunk::from(bytes.as_ref().to_vec())
}

/// Text records, as they stand on the wire.
fn text(records: &[&str]) -> String {
    records.join("\u{1e}") + "\u{1e}"
}

/// What the app server gets of some text records.
fn passed_on(stateful: &mut Stateful, records: &[&str]) -> String {
    joined(&stateful.receive(chunk(text(records))).unwrap())
}

fn joined(relayed: &[Chunk]) -> String {
    let bytes: Vec<u8> = relayed.iter().flat_map(|chunk| chunk.to_vec()).collect();
    String::from_utf8(bytes).unwrap()
}

/// Sends a text record to the client. The payload of its frame.
fn sent(stateful: &mut Stateful, record: &str) -> String {
    let payload = smallvec::smallvec![chunk(text(&[record]))];
    let (frame, content) = stateful.gather(&payload).unwrap();
    assert_eq!(stateful.keep(&frame, content), 0);
    payload_text(&frame)
}

fn payload_text(frame: &Chunk) -> String {
    assert!(frame.len() < 128 && frame[0] == 0x81 && usize::from(frame[1]) == frame.len() - 2);
    String::from_utf8(frame[2..].to_vec()).unwrap()
}

fn resumed(stateful: &mut Stateful) -> Vec<String> {
    stateful.resume().iter().map(payload_text).collect()
}

fn ack(stateful: &mut Stateful) -> Option<String> {
    stateful.on_ack_due();
    let ack = stateful.take_ack()?;
    Some(String::from_utf8(ack).unwrap())
}

/// The exchange that was captured between the JavaScript client and ASP.NET Core.
#[test]
fn the_exchange_is_that_of_aspnet_core() {
    let (x, y) = (
        r#"{"arguments":[],"invocationId":"0","target":"X","type":1}"#,
        r#"{"arguments":[],"invocationId":"1","target":"Y","type":1}"#,
    );
    let completion = |id: &str| format!(r#"{{"type":3,"invocationId":"{id}","result":null}}"#);
    let mut stateful = json();
    let ping = text(&[r#"{"type":6}"#]);
    assert_eq!(passed_on(&mut stateful, &[r#"{"type":6}"#]), ping);
    assert_eq!(ack(&mut stateful), None, "a ping has no number");
    assert_eq!(passed_on(&mut stateful, &[x]), text(&[x]));
    sent(&mut stateful, &completion("0"));
    sent(&mut stateful, CALL);
    sent(&mut stateful, CALL);
    assert_eq!(
        ack(&mut stateful),
        Some(text(&[r#"{"type":8,"sequenceId":1}"#]))
    );
    assert_eq!(ack(&mut stateful), None, "once is enough");
    assert_eq!(
        passed_on(&mut stateful, &[r#"{"type":8,"sequenceId":3}"#]),
        ""
    );
    assert_eq!(stateful.kept_bytes(), 0);
    let fourth = sent(&mut stateful, CALL);
    assert_eq!(passed_on(&mut stateful, &[y]), text(&[y]));
    let fifth = sent(&mut stateful, &completion("1"));

    stateful.leave();
    assert!(stateful.is_away() && stateful.is_resumable());
    let sequence = text(&[r#"{"type":9,"sequenceId":4}"#]);
    assert_eq!(resumed(&mut stateful), [sequence, fourth, fifth]);
    assert_eq!(
        passed_on(&mut stateful, &[r#"{"type":9,"sequenceId":2}"#, y]),
        ""
    );
    assert_eq!(
        ack(&mut stateful),
        Some(text(&[r#"{"type":8,"sequenceId":2}"#]))
    );
    assert_eq!(
        passed_on(&mut stateful, &[r#"{"type":8,"sequenceId":5}"#]),
        ""
    );
    let sixth = sent(&mut stateful, CALL);
    assert_eq!(
        passed_on(&mut stateful, &[r#"{"type":8,"sequenceId":6}"#]),
        ""
    );
    assert_eq!((sixth, stateful.kept_bytes()), (text(&[CALL]), 0));
}

#[test]
fn the_same_in_messagepack() {
    let mut stateful = Stateful::new(&HubProtocol::MessagePack).unwrap();
    // [1, {}, "0", "X", []] without stream ids, as the JavaScript client writes it; a ping; and a completion.
    let call = b"\x08\x95\x01\x80\xa10\xa1X\x90";
    let completion = b"\x06\x94\x03\x80\xa10\x02";
    let both = [&call[..], b"\x02\x91\x06"].concat();
    assert_eq!(joined_bytes(&stateful.receive(chunk(&both)).unwrap()), both);
    let payload = smallvec::smallvec![chunk(&completion[..3]), chunk(&completion[3..])];
    let (frame, content) = stateful.gather(&payload).unwrap();
    assert_eq!(&*frame, [b"\x82\x07", &completion[..]].concat());
    stateful.keep(&frame, content);
    assert_eq!(stateful.take_ack().unwrap(), b"\x03\x92\x08\x01");
    stateful.leave();
    let frames = stateful.resume();
    let frames: Vec<&[u8]> = frames.iter().map(|frame| &**frame).collect();
    assert_eq!(frames, [&b"\x82\x04\x03\x92\x09\x01"[..], &frame]);
    let again = [b"\x03\x92\x09\x01", &call[..]].concat();
    assert!(stateful.receive(chunk(again)).unwrap().is_empty());
    assert!(
        stateful
            .receive(chunk(b"\x03\x92\x08\x01"))
            .unwrap()
            .is_empty()
    );
}

#[test]
fn acks_and_sequences_end_here_and_their_neighbours_go_on_as_they_are() {
    let mut stateful = json();
    let (ping, ack, unknown) = (
        r#"{"type":6}"#,
        r#"{"type":8,"sequenceId":0}"#,
        r#"{"type":99}"#,
    );
    let input = chunk(text(&[CALL, ping, ack, unknown, "garbage", ack, ack, CALL]));
    let relayed = stateful.receive(input).unwrap();
    let parts: Vec<String> = relayed.chunks(1).map(joined).collect();
    assert_eq!(
        parts,
        [
            text(&[CALL, ping]),
            text(&[unknown, "garbage"]),
            text(&[CALL])
        ]
    );
    assert_eq!(stateful.received.take_ack(), Some(2));
}

#[test]
fn nothing_counts_on_a_new_socket_before_the_client_has_said_where_it_begins() {
    let mut stateful = json();
    passed_on(&mut stateful, &[CALL]);
    stateful.leave();
    stateful.resume();
    let early = [
        CALL,
        r#"{"type":6}"#,
        r#"{"type":7}"#,
        r#"{"type":8,"sequenceId":9}"#,
        "garbage",
    ];
    assert_eq!(passed_on(&mut stateful, &early), "");
    assert_eq!(ack(&mut stateful), None);
    assert!(stateful.is_resumable());
    let sequence = r#"{"type":9,"sequenceId":2}"#;
    assert_eq!(passed_on(&mut stateful, &[sequence, CALL]), text(&[CALL]));
    assert_eq!(stateful.received.take_ack(), Some(2));
}

#[test]
fn a_sequence_beyond_what_has_come_is_a_fault_and_any_before_it_is_not() {
    for (number, passes) in [(-1, 0), (0, 0), (1, 1), (2, 2), (3, 3)] {
        let mut stateful = json();
        passed_on(&mut stateful, &[CALL, CALL]);
        let sequence = format!(r#"{{"type":9,"sequenceId":{number}}}"#);
        let heard = passed_on(&mut stateful, &[&sequence, CALL, CALL, CALL]);
        assert_eq!(heard.len() / text(&[CALL]).len(), passes);
    }
    let ahead = chunk(text(&[r#"{"type":9,"sequenceId":2}"#]));
    let fault = json().receive(ahead).unwrap_err();
    assert_eq!(
        fault.to_string(),
        "Sequence ID greater than amount of messages we've received."
    );
}

#[test]
fn half_a_message_is_dropped_with_its_socket() {
    let mut stateful = json();
    let (half, rest) = CALL.split_at(9);
    assert!(stateful.receive(chunk(half)).unwrap().is_empty());
    stateful.leave();
    stateful.resume();
    let sequence = text(&[r#"{"type":9,"sequenceId":1}"#]);
    let again = stateful
        .receive(chunk(format!("{sequence}{half}")))
        .unwrap();
    assert!(again.is_empty());
    assert_eq!(passed_on(&mut stateful, &[rest]), text(&[CALL]));
}

#[test]
fn a_message_that_never_ends_is_a_fault() {
    let bytes_max = STATEFUL_MESSAGE_BYTES_MAX;
    let too_long = Fault::Unreadable(HubMessageError::TooLong { bytes_max });
    let mut stateful = json();
    let part = vec![b' '; bytes_max / 2];
    assert!(stateful.receive(chunk(&part)).unwrap().is_empty());
    assert!(stateful.receive(chunk(&part)).unwrap().is_empty());
    assert_eq!(stateful.receive(chunk(" ")).unwrap_err(), too_long);
    let mut announced = Vec::new();
    write_varint(bytes_max as u32 + 1, &mut announced);
    let mut stateful = Stateful::new(&HubProtocol::MessagePack).unwrap();
    assert_eq!(stateful.receive(chunk(announced)).unwrap_err(), too_long);
    let no_length = stateful_messagepack()
        .receive(chunk([0xff; 5]))
        .unwrap_err();
    assert_eq!(no_length, Fault::Unreadable(HubMessageError::LengthPrefix));
}

#[test]
fn what_an_app_server_cuts_is_put_together() {
    let mut stateful = json();
    let whole = text(&[CALL, CALL]);
    let (head, tail) = whole.split_at(CALL.len() + 5);
    let (frame, content) = stateful.gather(&smallvec::smallvec![chunk(head)]).unwrap();
    assert_eq!((payload_text(&frame), content.numbered), (text(&[CALL]), 1));
    let (middle, end) = tail.split_at(2);
    assert!(
        stateful
            .gather(&smallvec::smallvec![chunk(middle)])
            .is_none()
    );
    let (frame, content) = stateful.gather(&smallvec::smallvec![chunk(end)]).unwrap();
    assert_eq!((payload_text(&frame), content.numbered), (text(&[CALL]), 1));
}

#[test]
fn what_an_app_server_garbles_goes_on_as_it_is_and_ends_the_state() {
    let mut stateful = stateful_messagepack();
    let garbage = smallvec::smallvec![chunk([0xff; 6])];
    let (frame, content) = stateful.gather(&garbage).unwrap();
    assert_eq!((&frame[2..], content), (&[0xff; 6][..], Content::default()));
    assert!(!stateful.is_resumable());
}

#[test]
fn a_goodbye_of_either_side_ends_the_state() {
    let mut stateful = json();
    assert_eq!(
        passed_on(&mut stateful, &[r#"{"type":7}"#]),
        text(&[r#"{"type":7}"#])
    );
    assert!(!stateful.is_resumable());
    let mut stateful = json();
    sent(&mut stateful, r#"{"type":7,"allowReconnect":true}"#);
    assert!(!stateful.is_resumable());
}

#[test]
fn beyond_the_bound_the_oldest_is_given_up_until_the_client_catches_up() {
    let mut stateful = json();
    let large = format!(
        r#"{{"type":1,"target":"x","arguments":["{}"]}}"#,
        "x".repeat(60_000)
    );
    let payload = smallvec::smallvec![chunk(text(&[&large]))];
    let (frame, content) = stateful.gather(&payload).unwrap();
    let mut given_up = 0;
    for _ in 0..8 {
        given_up += stateful.keep(&frame, content);
    }
    assert_eq!((given_up, stateful.is_resumable()), (3, false));
    assert!(stateful.kept_bytes() <= STATEFUL_KEPT_BYTES_MAX + 2 * frame.len());
    passed_on(&mut stateful, &[r#"{"type":8,"sequenceId":2}"#]);
    assert!(!stateful.is_resumable(), "the third may be missing");
    passed_on(&mut stateful, &[r#"{"type":8,"sequenceId":3}"#]);
    assert!(stateful.is_resumable());
    passed_on(&mut stateful, &[r#"{"type":8,"sequenceId":99}"#]);
    assert_eq!(
        stateful.kept_bytes(),
        0,
        "more than there is means all of it"
    );
}

/// A client that is being sent again what it has acknowledges by its highest number, not by where it stands.
#[test]
fn what_was_sent_twice_is_kept_until_something_new_is_acknowledged() {
    let mut stateful = json();
    let first = sent(&mut stateful, CALL);
    let second = sent(&mut stateful, CALL);
    stateful.leave();
    stateful.resume();
    let sequence = r#"{"type":9,"sequenceId":1}"#;
    passed_on(&mut stateful, &[sequence, r#"{"type":8,"sequenceId":2}"#]);
    stateful.leave();
    let frames = resumed(&mut stateful);
    assert_eq!(
        frames,
        [text(&[sequence]), first, second],
        "it may stand at the first"
    );
    sent(&mut stateful, CALL);
    passed_on(&mut stateful, &[sequence, r#"{"type":8,"sequenceId":3}"#]);
    assert_eq!(stateful.kept_bytes(), 0);
}

#[test]
fn much_is_acknowledged_at_once() {
    let mut stateful = json();
    assert!(!stateful.begins_to_owe_ack() && !stateful.owes_ack_now());
    passed_on(&mut stateful, &[CALL]);
    assert!(stateful.begins_to_owe_ack() && !stateful.begins_to_owe_ack());
    let large = format!(
        r#"{{"type":1,"target":"{}"}}"#,
        "x".repeat(STATEFUL_ACK_BYTES)
    );
    passed_on(&mut stateful, &[&large]);
    assert!(stateful.owes_ack_now());
    assert!(stateful.take_ack().is_some());
    assert!(!stateful.owes_ack_now());
}

#[test]
fn a_protocol_that_cannot_be_read_has_no_state() {
    assert!(Stateful::new(&HubProtocol::Other("own".into())).is_none());
}

proptest! {
    /// However the bytes of a client arrive, its app server gets the same.
    #[test]
    fn any_cuts_give_the_same(cuts in proptest::collection::vec(1_usize..40, 1..60), in_text: bool) {
        let protocol = if in_text { MessageProtocol::Json } else { MessageProtocol::MessagePack };
        let messages: Vec<u8> = [6_i64, 8, 1, 9, 3, 8]
            .iter()
            .flat_map(|kind| protocol.encode(&message(*kind)))
            .collect();
        let new = || Stateful::new(&HubProtocol::from_name(protocol.name())).unwrap();
        let expected = joined_bytes(&new().receive(chunk(&messages)).unwrap());
        let mut stateful = new();
        let mut heard = Vec::new();
        let mut rest = &messages[..];
        for cut in cuts.iter().cycle() {
            let (piece, behind) = rest.split_at((*cut).min(rest.len()));
            heard.extend(joined_bytes(&stateful.receive(chunk(piece)).unwrap()));
            rest = behind;
            if rest.is_empty() {
                break;
            }
        }
        prop_assert_eq!(heard, expected);
        prop_assert!(stateful.incoming.is_empty());
    }
}

fn stateful_messagepack() -> Stateful {
    Stateful::new(&HubProtocol::MessagePack).unwrap()
}

fn joined_bytes(relayed: &[Chunk]) -> Vec<u8> {
    relayed.iter().flat_map(|chunk| chunk.to_vec()).collect()
}

fn message(kind: i64) -> HubMessage {
    use crate::protocol::hub::message::Outcome;
    match kind {
        1 => HubMessage::Invocation {
            headers: Vec::new(),
            invocation_id: None,
            target: "x".to_owned(),
            arguments: vec!["argument".into()],
            stream_ids: Vec::new(),
        },
        3 => HubMessage::Completion {
            headers: Vec::new(),
            invocation_id: "1".to_owned(),
            outcome: Outcome::Void,
        },
        8 => HubMessage::Ack { sequence_id: 1 },
        9 => HubMessage::Sequence { sequence_id: 1 },
        _ => HubMessage::Ping,
    }
}

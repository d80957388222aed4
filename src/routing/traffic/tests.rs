//! Whatever two ends say, and wherever it is cut: no byte is lost, none is said twice, and the client counts as quiet when it is.

use proptest::collection::vec;
use proptest::prelude::*;

use super::*;

const PROTOCOLS: [MessageProtocol; 2] = MessageProtocol::ALL;

fn traffic(protocol: MessageProtocol) -> Traffic {
    let introduction = Introduction {
        open_body: Box::default(),
        request: Box::default(),
        required_server_id: None,
    };
    Traffic::new(protocol, introduction)
}

fn parked() -> Parked {
    Parked {
        from: "app".into(),
        must_return: false,
        until: Instant::now(),
    }
}

fn call(id: Option<&str>, streams: &[&str]) -> HubMessage {
    HubMessage::Invocation {
        headers: Vec::new(),
        invocation_id: id.map(str::to_owned),
        target: "Do".to_owned(),
        arguments: vec!["argument".into()],
        stream_ids: streams.iter().map(|id| (*id).to_owned()).collect(),
    }
}

fn item(id: &str) -> HubMessage {
    HubMessage::StreamItem {
        headers: Vec::new(),
        invocation_id: id.to_owned(),
        item: 1.into(),
    }
}

fn completion(id: &str) -> HubMessage {
    HubMessage::Completion {
        headers: Vec::new(),
        invocation_id: id.to_owned(),
        outcome: Outcome::Void,
    }
}

/// Says all of `bytes`, in pieces of the lengths `cuts` as far as they go. What was relayed.
fn say(traffic: &mut Traffic, bytes: &[u8], cuts: &[usize]) -> Vec<u8> {
    let mut relayed = Vec::new();
    let mut cuts = cuts.iter();
    let mut rest = bytes;
    while !rest.is_empty() {
        let length = cuts.next().map_or(rest.len(), |cut| rest.len().min(*cut));
        let (mut piece, behind) = rest.split_at(length);
        rest = behind;
        while !piece.is_empty() {
            match traffic.on_client_bytes(piece) {
                Fate::Relayed => {
                    relayed.extend_from_slice(piece);
                    break;
                }
                Fate::RelayedTo(end) => {
                    relayed.extend_from_slice(&piece[..end]);
                    piece = &piece[end..];
                }
                Fate::Held(passing) => {
                    relayed.extend(passing);
                    break;
                }
            }
        }
    }
    relayed
}

fn records(protocol: MessageProtocol, bytes: &[u8]) -> Vec<Vec<u8>> {
    let (mut records, mut found) = (Records::new(protocol, usize::MAX), Vec::new());
    let pushed = records.push(bytes, |record| found.push(record.raw.to_vec()));
    assert!(pushed.is_ok() && records.is_at_boundary());
    found
}

#[test]
fn it_is_quiet_when_nothing_is_open() {
    for protocol in PROTOCOLS {
        let mut traffic = traffic(protocol);
        traffic.stage = Stage::Leaving;
        let from_client = |traffic: &mut Traffic, message| {
            traffic.on_client_bytes(&protocol.encode(&message));
            traffic.can_move()
        };
        let from_server = |traffic: &mut Traffic, message| {
            traffic.on_server_bytes(&protocol.encode(&message));
            traffic.can_move()
        };
        assert!(
            from_client(&mut traffic, call(None, &[])),
            "no answer is wanted"
        );
        assert!(!from_client(&mut traffic, call(Some("1"), &["s"])));
        assert!(!from_server(&mut traffic, item("1")), "a stream goes on");
        assert!(
            !from_server(&mut traffic, completion("1")),
            "another one too"
        );
        assert!(!from_client(&mut traffic, item("s")));
        assert!(from_client(&mut traffic, completion("s")));
        assert!(!from_server(&mut traffic, call(Some("q"), &[])));
        assert!(from_client(&mut traffic, completion("q")));
        traffic.on_invocation("r");
        assert!(!traffic.can_move());
        assert!(from_client(&mut traffic, completion("r")));
        let goodbye = HubMessage::Close {
            error: None,
            allow_reconnect: false,
        };
        assert!(!from_client(&mut traffic, goodbye), "it is leaving anyway");
        assert!(!traffic.can_park());
    }
}

#[test]
fn both_ends_must_have_ended_their_messages() {
    for protocol in PROTOCOLS {
        let message = protocol.encode(&call(None, &[]));
        for cut in 1..message.len() {
            let mut traffic = traffic(protocol);
            traffic.stage = Stage::Overdue;
            traffic.on_server_bytes(&message[..cut]);
            assert!(!traffic.can_move() && !traffic.can_park());
            traffic.on_server_bytes(&message[cut..]);
            assert!(traffic.can_move() && traffic.can_park());
            traffic.on_client_bytes(&message[..cut]);
            assert!(!traffic.can_move() && traffic.can_park());
            traffic.on_client_bytes(&message[cut..]);
            assert!(traffic.can_move());
        }
    }
}

#[test]
fn a_message_too_long_to_be_kept_makes_the_client_busy() {
    for protocol in PROTOCOLS {
        let mut traffic = traffic(protocol);
        traffic.stage = Stage::Leaving;
        let long = HubMessage::Invocation {
            headers: Vec::new(),
            invocation_id: None,
            target: "Do".to_owned(),
            arguments: vec!["x".repeat(FOLLOWED_RECORD_BYTES_MAX).into()],
            stream_ids: Vec::new(),
        };
        let bytes = protocol.encode(&long);
        let (head, tail) = bytes.split_at(bytes.len() - 1);
        for piece in head.chunks(8192) {
            traffic.on_client_bytes(piece);
        }
        assert!(!traffic.can_park(), "it could not be said again");
        traffic.on_client_bytes(tail);
        assert!(traffic.can_park() && !traffic.can_move());
        traffic.stage = Stage::Overdue;
        assert!(traffic.can_move());
        assert!(traffic.abandon_open().completions.is_empty());
        traffic.stage = Stage::Leaving;
        assert!(traffic.can_move(), "all that was open has been given up");
    }
}

#[test]
fn a_client_whose_messages_cannot_be_told_apart_stays() {
    let beyond = [0xff, 0xff, 0xff, 0xff, 0x0f, 1, 2, 3];
    let mut traffic = traffic(MessageProtocol::MessagePack);
    traffic.stage = Stage::Overdue;
    assert_eq!(
        say(&mut traffic, &beyond, &[]),
        beyond,
        "its app server will say so"
    );
    assert!(!traffic.can_move() && !traffic.can_park());

    let mut traffic = self::traffic(MessageProtocol::MessagePack);
    traffic.stage = Stage::Holding;
    assert!(say(&mut traffic, &beyond, &[3]).is_empty());
    assert_eq!(traffic.release(), beyond);
    assert!(!traffic.can_move());
}

#[test]
fn abandoned_calls_are_answered_in_the_protocol_of_the_client() {
    for protocol in PROTOCOLS {
        let mut traffic = traffic(protocol);
        for id in ["b", "a"] {
            traffic.on_client_bytes(&protocol.encode(&call(Some(id), &["s"])));
        }
        let abandoned = traffic.abandon_open();
        assert_eq!(abandoned.calls, 2);
        let answers: Vec<_> = records(protocol, &abandoned.completions)
            .into_iter()
            .map(|record| {
                let body = match protocol {
                    MessageProtocol::Json => &record[..record.len() - 1],
                    MessageProtocol::MessagePack => &record[1..],
                };
                protocol.decode(body).unwrap().unwrap()
            })
            .collect();
        let failed = |id: &str| HubMessage::Completion {
            headers: Vec::new(),
            invocation_id: id.to_owned(),
            outcome: Outcome::Error(CALL_ABANDONED.to_owned()),
        };
        assert_eq!(answers, [failed("a"), failed("b")]);
        assert!(!traffic.has_open());
    }
}

fn client_messages() -> impl Strategy<Value = Vec<HubMessage>> {
    let message = prop_oneof![
        prop::option::of("[0-9]").prop_map(|id| call(id.as_deref(), &[])),
        ("[0-9]", "[st]").prop_map(|(id, stream)| call(Some(&id), &[&stream])),
        "[st]".prop_map(|id| item(&id)),
        "[stq]".prop_map(|id| completion(&id)),
        Just(HubMessage::Ping),
    ];
    vec(message, 1..8)
}

fn encoded(protocol: MessageProtocol, messages: &[HubMessage]) -> Vec<u8> {
    messages
        .iter()
        .flat_map(|message| protocol.encode(message))
        .collect()
}

proptest! {
    #[test]
    fn a_loss_anywhere_loses_no_message_that_had_not_ended(
        messages in client_messages(),
        protocol in prop::sample::select(&PROTOCOLS),
        cuts in vec(1..20_usize, 0..20),
        at in any::<prop::sample::Index>(),
    ) {
        let bytes = encoded(protocol, &messages);
        let (before, after) = bytes.split_at(at.index(bytes.len() + 1));
        let mut traffic = traffic(protocol);
        let relayed = say(&mut traffic, before, &cuts);
        prop_assert_eq!(&relayed, before);
        traffic.park(parked());
        prop_assert!(say(&mut traffic, after, &cuts).is_empty());
        traffic.abandon_open();
        let held = traffic.settle();
        // The whole messages that the lost app server had, and the rest from a boundary on.
        let ended: usize = records(protocol, &bytes)
            .iter()
            .scan(0, |end, record| { *end += record.len(); Some(*end) })
            .filter(|end| *end <= before.len())
            .max()
            .unwrap_or(0);
        prop_assert_eq!(held, &bytes[ended..]);
    }

    #[test]
    fn holding_delays_calls_and_loses_nothing(
        messages in client_messages(),
        protocol in prop::sample::select(&PROTOCOLS),
        cuts in vec(1..20_usize, 0..20),
        at in any::<prop::sample::Index>(),
        loses: bool,
    ) {
        let bytes = encoded(protocol, &messages);
        let (before, after) = bytes.split_at(at.index(bytes.len() + 1));
        let mut traffic = traffic(protocol);
        let mut all = say(&mut traffic, before, &cuts);
        traffic.stage = Stage::Holding;
        all.extend(say(&mut traffic, after, &cuts));
        let relayed = records(protocol, &all);
        if loses {
            traffic.park(parked());
        }
        all.extend(traffic.release());
        let mut found = records(protocol, &all);
        let mut sent = records(protocol, &bytes);
        let is_call = |record: &Vec<u8>| {
            let protocol_calls = [&b"{\"type\":1,"[..], b"\x96\x01"];
            record.starts_with(protocol_calls[0]) || record[1..].starts_with(protocol_calls[1])
        };
        let calls = |records: &[Vec<u8>]| -> Vec<Vec<u8>> {
            records.iter().filter(|record| is_call(record)).cloned().collect()
        };
        prop_assert_eq!(calls(&found), calls(&sent), "calls keep their order");
        let begun = records_begun(protocol, &bytes, before.len());
        prop_assert!(calls(&relayed).len() <= calls(&sent[..begun]).len(), "no new call passes");
        found.sort();
        sent.sort();
        prop_assert_eq!(found, sent, "each message once");
    }
}

/// How many records begin before `end`.
fn records_begun(protocol: MessageProtocol, bytes: &[u8], end: usize) -> usize {
    let starts = records(protocol, bytes).into_iter().scan(0, |at, record| {
        let start = *at;
        *at += record.len();
        Some(start)
    });
    starts.filter(|start| *start < end).count()
}

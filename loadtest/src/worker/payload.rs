//! The hub message that is sent: an invocation with one string, as long as it takes to reach the wanted size.

use hubring::frame::record::RECORD_SEPARATOR;

use crate::job::HubProtocol;

/// Room for the invocation around the padding.
pub(crate) const PAYLOAD_BYTES_MIN: u32 = 96;

/// The sender's number in what the other side sends on its own account.
pub(crate) const OTHER_SIDE: u32 = u32::MAX;

/// Whom an invocation calls.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Call {
    pub(crate) method: &'static str,
    /// Whether a completion is wanted. All calls have the same id, since nobody has to tell them apart.
    pub(crate) is_answered: bool,
}

/// The call of our own app server, which sends back the message itself.
pub(crate) const ECHO: Call = Call {
    method: "echo",
    is_answered: false,
};

/// The string of every invocation: different for each `sender` and for each `turn`, so that a message that reaches the wrong client, or
/// in the wrong order, is noticed.
pub(crate) fn text(sender: u32, turn: u32, bytes: usize) -> String {
    let mut text = format!("{sender:010} {turn} ");
    let letters = ('a'..='z').cycle();
    text.extend(letters.take(bytes.saturating_sub(text.len())));
    text
}

/// What `sender` sends to our own app server, or what the app server sends: exactly `bytes` bytes with what ends or precedes it, if that is
/// at least [`PAYLOAD_BYTES_MIN`].
pub(crate) fn payload(protocol: HubProtocol, sender: u32, turn: u32, bytes: usize) -> Vec<u8> {
    invocation(protocol, ECHO, sender, turn, bytes).0
}

/// An invocation of exactly `bytes` bytes, and its string. In MessagePack a few sizes cannot be reached, such as 129 bytes: of those it is a
/// byte less.
pub(crate) fn invocation(
    protocol: HubProtocol,
    call: Call,
    sender: u32,
    turn: u32,
    bytes: usize,
) -> (Vec<u8>, String) {
    let record = |text: &str| match protocol {
        HubProtocol::Json => json_invocation(call, text),
        HubProtocol::MessagePack => message_pack_invocation(call, text),
    };
    // The lengths before the record and the string take up to eight bytes more than those of an empty string.
    let mut text_bytes = bytes.saturating_sub(record("").len() + 8);
    while record(&text(sender, turn, text_bytes + 1)).len() <= bytes {
        text_bytes += 1;
    }
    let text = text(sender, turn, text_bytes);
    (record(&text), text)
}

/// What ASP.NET answers to an invocation with this string.
pub(crate) fn completion(protocol: HubProtocol, text: &str) -> Vec<u8> {
    match protocol {
        HubProtocol::Json => json_record(&format!(
            r#"{{"type":3,"invocationId":"1","result":"{text}"}}"#
        )),
        HubProtocol::MessagePack => {
            let mut message = vec![0x95, 3, 0x80, 0xa1, b'1', 3];
            write_string(text, &mut message);
            with_length(&message)
        }
    }
}

/// How ASP.NET calls a method at its clients, without wanting a completion.
pub(crate) fn asp_net_invocation(
    protocol: HubProtocol,
    method: &str,
    arguments: [&str; 2],
) -> Vec<u8> {
    let [first, second] = arguments;
    match protocol {
        HubProtocol::Json => json_record(&format!(
            r#"{{"type":1,"target":"{method}","arguments":["{first}","{second}"]}}"#
        )),
        HubProtocol::MessagePack => {
            let mut message = vec![0x96, 1, 0x80, 0xc0];
            write_string(method, &mut message);
            message.push(0x92);
            write_string(first, &mut message);
            write_string(second, &mut message);
            message.push(0x90);
            with_length(&message)
        }
    }
}

fn json_invocation(call: Call, text: &str) -> Vec<u8> {
    let id = if call.is_answered {
        r#""invocationId":"1","#
    } else {
        ""
    };
    let method = call.method;
    json_record(&format!(
        r#"{{"type":1,{id}"target":"{method}","arguments":["{text}"]}}"#
    ))
}

fn json_record(message: &str) -> Vec<u8> {
    let mut record = message.as_bytes().to_vec();
    record.push(RECORD_SEPARATOR);
    record
}

/// `[1, headers, invocation id, method, [text]]`.
fn message_pack_invocation(call: Call, text: &str) -> Vec<u8> {
    let mut message = vec![0x95, 1, 0x80];
    message.extend_from_slice(if call.is_answered { b"\xa11" } else { b"\xc0" });
    write_string(call.method, &mut message);
    message.push(0x91);
    write_string(text, &mut message);
    with_length(&message)
}

fn write_string(text: &str, out: &mut Vec<u8>) {
    let bytes = text.len() as u32;
    match bytes {
        0..=31 => out.push(0xa0 | bytes as u8),
        32..=0xff => out.extend_from_slice(&[0xd9, bytes as u8]),
        0x100..=0xffff => {
            out.push(0xda);
            out.extend_from_slice(&(bytes as u16).to_be_bytes());
        }
        _ => {
            out.push(0xdb);
            out.extend_from_slice(&bytes.to_be_bytes());
        }
    }
    out.extend_from_slice(text.as_bytes());
}

fn with_length(message: &[u8]) -> Vec<u8> {
    let mut record = Vec::with_capacity(message.len() + 5);
    let mut rest = message.len();
    while rest > 0x7f {
        record.push(0x80 | (rest & 0x7f) as u8);
        rest >>= 7;
    }
    record.push(rest as u8);
    record.extend_from_slice(message);
    record
}

#[cfg(test)]
mod tests {
    use super::*;

    const ASP_NET: Call = Call {
        method: "Echo",
        is_answered: true,
    };

    #[test]
    fn a_payload_is_one_invocation_of_the_wanted_size() {
        for bytes in [PAYLOAD_BYTES_MIN as usize, 128, 512, 2048, 65_537] {
            let json = payload(HubProtocol::Json, OTHER_SIDE, 3, bytes);
            assert_eq!(json.len(), bytes);
            let (end, json) = json.split_last().unwrap();
            assert_eq!(*end, RECORD_SEPARATOR);
            let message: serde_json::Value = serde_json::from_slice(json).unwrap();
            assert_eq!(message["type"], 1);
            let packed = payload(HubProtocol::MessagePack, OTHER_SIDE, 3, bytes);
            assert_eq!(packed.len(), bytes);
        }
        assert_eq!(payload(HubProtocol::MessagePack, 1, 0, 129).len(), 128);
    }

    #[test]
    fn senders_and_turns_differ() {
        for protocol in [HubProtocol::Json, HubProtocol::MessagePack] {
            let first = payload(protocol, 1, 0, 128);
            assert_ne!(first, payload(protocol, 2, 0, 128));
            assert_ne!(first, payload(protocol, 1, 1, 128));
        }
    }

    #[test]
    fn invocation_and_completion_are_those_of_the_hub_protocol() {
        let (json, text) = invocation(HubProtocol::Json, ASP_NET, 7, 0, 100);
        let expected = format!(
            "{{\"type\":1,\"invocationId\":\"1\",\"target\":\"Echo\",\"arguments\":[\"{text}\"]}}\x1e"
        );
        assert_eq!(json, expected.into_bytes());
        let (packed, text) = invocation(HubProtocol::MessagePack, ASP_NET, 7, 0, 100);
        let start = b"\x63\x95\x01\x80\xa11\xa4Echo\x91\xd9";
        assert!(packed.starts_with(start), "{packed:x?}");
        assert!(packed.ends_with(text.as_bytes()));
        assert_eq!(
            completion(HubProtocol::MessagePack, "abc"),
            b"\x0a\x95\x03\x80\xa11\x03\xa3abc"
        );
        assert_eq!(
            completion(HubProtocol::Json, "abc"),
            b"{\"type\":3,\"invocationId\":\"1\",\"result\":\"abc\"}\x1e"
        );
    }
}

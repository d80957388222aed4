//! The hub message that is sent: an invocation in JSON, padded to the wanted size.

use hubring::frame::record::RECORD_SEPARATOR;

/// Room for the invocation around the padding.
pub(crate) const PAYLOAD_BYTES_MIN: i64 = 64;

const END: &str = "\"]}";

/// A payload of exactly `bytes` bytes, if that is at least [`PAYLOAD_BYTES_MIN`]. It differs from that of any other `sender`, so that
/// a message that reaches the wrong client is noticed.
pub(crate) fn payload(sender: u32, bytes: usize) -> Vec<u8> {
    let mut payload =
        format!(r#"{{"type":1,"target":"echo","arguments":["{sender:010} "#).into_bytes();
    let padded_bytes = bytes.saturating_sub(END.len() + 1);
    let letters = (b'a'..=b'z').cycle();
    payload.extend(letters.take(padded_bytes.saturating_sub(payload.len())));
    payload.extend_from_slice(END.as_bytes());
    payload.push(RECORD_SEPARATOR);
    payload
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_payload_is_one_invocation_of_the_wanted_size() {
        for bytes in [PAYLOAD_BYTES_MIN as usize, 128, 2048, 65_537] {
            let payload = payload(u32::MAX, bytes);
            assert_eq!(payload.len(), bytes);
            let (end, json) = payload.split_last().unwrap();
            assert_eq!(*end, RECORD_SEPARATOR);
            assert!(!json.contains(&RECORD_SEPARATOR));
            let message: serde_json::Value = serde_json::from_slice(json).unwrap();
            assert_eq!(message["type"], 1);
        }
        assert_ne!(payload(1, 64), payload(2, 64));
    }
}

//! What must hold for every message.
//!
//! *Vectors*: known bytes have a known meaning and are written again as they were. *Properties*: a message survives being written
//! and read; it does not matter where a frame is cut; no bytes do harm. *Tolerance*: what is forgiven, and what is not.

#[cfg(test)]
mod arbitrary;
#[cfg(test)]
mod documentation;
mod notation;
#[cfg(test)]
mod ping;
#[cfg(test)]
mod properties;
#[cfg(test)]
mod tolerance;
#[cfg(test)]
mod vectors;

use super::{Message, decode, decode_whole};
use notation::notation;

/// Takes any bytes for a message and checks what must hold whether or not they are one.
///
/// # Panics
/// When something does not hold.
pub fn fuzz_service_message(data: &[u8]) {
    let whole = decode_whole(data);
    for piece_bytes in [1, 2, 3, 7, 64] {
        let pieces: Vec<&[u8]> = data.chunks(piece_bytes).collect();
        match (&whole, decode(&pieces)) {
            (Ok(whole), Ok(cut)) => assert_eq!(
                notation(whole, |payload| payload),
                notation(&cut, |range| data
                    .get(range.clone())
                    .expect("a payload lies within its frame")),
                "cut into pieces of {piece_bytes} the message means the same"
            ),
            (Err(whole), Err(cut)) => assert_eq!(
                whole, &cut,
                "cut into pieces of {piece_bytes} the fault is the same"
            ),
            (whole, cut) => {
                panic!("whole it is {whole:?}, cut into pieces of {piece_bytes} {cut:?}")
            }
        }
    }
    if let Ok(message) = whole {
        let written = Framed::of(&message);
        assert_eq!(
            notation(&written.read(), |payload| payload),
            notation(&message, |payload| payload),
            "what is written means what was read"
        );
    }
}

/// A message with its length prefix.
struct Framed(Vec<u8>);

impl Framed {
    fn of<P: AsRef<[u8]>>(message: &Message<'_, P>) -> Self {
        let mut bytes = Vec::new();
        message.encode(&mut bytes);
        Self(bytes)
    }

    /// The message without its prefix, which must fit.
    fn body(&self) -> &[u8] {
        let prefix_bytes = self.0.iter().take_while(|byte| **byte >= 0x80).count() + 1;
        let (prefix, body) = self.0.split_at(prefix_bytes);
        let length = prefix
            .iter()
            .rev()
            .fold(0, |length, byte| length << 7 | usize::from(byte & 0x7f));
        assert_eq!(length, body.len(), "the length prefix is right");
        body
    }

    fn read(&self) -> Message<'_, &[u8]> {
        decode_whole(self.body()).expect("what is written can be read")
    }
}

#[cfg(test)]
fn hex(text: &str) -> Vec<u8> {
    (0..text.len())
        .step_by(2)
        .map(|at| u8::from_str_radix(&text[at..at + 2], 16).unwrap())
        .collect()
}

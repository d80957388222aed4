//! UTF-8, checked as it arrives.

/// The check of one text, which comes in parts that may end inside a character.
#[derive(Clone, Copy, Debug)]
pub(super) struct Utf8Check {
    /// The first `tail_bytes` hold a character that has begun and can still become valid.
    tail: [u8; 4],
    /// Less than 4: a fourth byte completes any character.
    tail_bytes: u8,
}

impl Utf8Check {
    /// An empty text.
    pub(super) const NEW: Self = Self {
        tail: [0; 4],
        tail_bytes: 0,
    };

    /// Whether the text can still be UTF-8 with `bytes` appended. `false` at the first byte that no continuation could save.
    #[must_use]
    pub(super) fn push(&mut self, mut bytes: &[u8]) -> bool {
        while self.tail_bytes > 0 {
            let Some((&next, rest)) = bytes.split_first() else {
                return true;
            };
            if !self.push_tail(next) {
                return false;
            }
            bytes = rest;
        }
        // Most text is ASCII, and that is found out several times faster than UTF-8.
        if bytes.is_ascii() {
            return true;
        }
        match str::from_utf8(bytes) {
            Ok(_) => true,
            Err(fault) if fault.error_len().is_some() => false,
            Err(fault) => bytes
                .iter()
                .skip(fault.valid_up_to())
                .all(|&byte| self.push_tail(byte)),
        }
    }

    /// Whether the text may end here.
    pub(super) fn is_complete(self) -> bool {
        self.tail_bytes == 0
    }

    /// Appends a byte to the unfinished character.
    fn push_tail(&mut self, byte: u8) -> bool {
        let tail_bytes = usize::from(self.tail_bytes) + 1;
        if let Some(slot) = self.tail.get_mut(tail_bytes - 1) {
            *slot = byte;
        }
        match str::from_utf8(self.tail.get(..tail_bytes).unwrap_or_default()) {
            Ok(_) => self.tail_bytes = 0,
            Err(fault) if fault.error_len().is_none() => self.tail_bytes += 1,
            Err(_) => return false,
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn agrees_with_the_whole_text_however_it_is_cut() {
        let texts: [&[u8]; 9] = [
            b"",
            b"plain",
            "κόσμε \u{10ffff} é中".as_bytes(),
            b"\xce\xba\xed\xa0\x80edited", // a surrogate
            b"\xf4\x90\x80\x80",           // beyond the last code point
            b"\xc0\xaf",                   // an overlong slash
            b"abc\xff",
            b"\xe4\xb8",
            b"\x80",
        ];
        for text in texts {
            for first in 0..=text.len() {
                for second in first..=text.len() {
                    let mut check = Utf8Check::NEW;
                    let parts = [&text[..first], &text[first..second], &text[second..]];
                    let is_text = parts.iter().all(|part| check.push(part)) && check.is_complete();
                    assert_eq!(
                        is_text,
                        str::from_utf8(text).is_ok(),
                        "{text:02x?} cut at {first} and {second}"
                    );
                }
            }
        }
    }

    #[test]
    fn fails_at_the_first_byte_that_cannot_be_saved() {
        // The third byte makes it a surrogate already, the fourth would only complete it.
        let mut check = Utf8Check::NEW;
        assert!(check.push(b"\xce\xba\xed"));
        assert!(!check.push(b"\xa0"));
        let mut check = Utf8Check::NEW;
        assert!(check.push(b"\xf4"));
        assert!(!check.push(b"\x90"));
    }
}

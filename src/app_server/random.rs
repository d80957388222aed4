//! Ids and chance, from the operating system.

use std::hash::{BuildHasher as _, RandomState};

/// Any number.
pub(super) fn number() -> u64 {
    // Nothing secret is made here: the ids that must not be guessed are the service's. So where the system has no randomness to
    // give, that of the standard library's hash maps will do.
    getrandom::u64().unwrap_or_else(|_| RandomState::new().hash_one(0))
}

/// 32 hexadecimal digits.
pub(super) fn hex() -> String {
    format!("{:016x}{:016x}", number(), number())
}

/// A random GUID (RFC 9562 §5.4), 36 characters.
pub(super) fn guid() -> String {
    let (high, low) = (number(), number());
    let high = high & !0xf000 | 0x4000;
    let low = low & !(0b11 << 62) | 0b10 << 62;
    format!(
        "{:08x}-{:04x}-{:04x}-{:04x}-{:012x}",
        high >> 32,
        high >> 16 & 0xffff,
        high & 0xffff,
        low >> 48,
        low & 0xffff_ffff_ffff
    )
}

/// One of `choices`, each as likely as the others.
pub(super) fn choose<T>(choices: &[T]) -> Option<&T> {
    let index = number() as usize % choices.len().max(1);
    choices.get(index)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_guid_has_the_form_of_version_4() {
        let guid = guid();
        let lengths: Vec<usize> = guid.split('-').map(str::len).collect();
        assert_eq!(lengths, [8, 4, 4, 4, 12]);
        assert_eq!(guid.as_bytes()[14], b'4');
        assert!(matches!(guid.as_bytes()[19], b'8' | b'9' | b'a' | b'b'));
        assert_ne!(guid, super::guid());
    }

    #[test]
    fn a_choice_is_one_of_those_offered() {
        assert_eq!(choose::<u8>(&[]), None);
        assert_eq!(choose(&[7]), Some(&7));
        assert!((0..100).all(|_| choose(&[1, 2, 3]).is_some()));
    }
}

//! The mask that a client lays over its payloads (RFC 6455 §5.3).

/// Masks or unmasks `bytes`, the first of which is byte `offset` of the payload.
///
/// Masking keeps proxies from mistaking a payload for HTTP; it hides nothing. The loops are shaped for the compiler to turn into
/// vector instructions.
pub fn mask(bytes: &mut [u8], key: [u8; 4], offset: usize) {
    let key = rotated(key, offset);
    let [a, b, c, d] = key;
    let wide = [
        a, b, c, d, a, b, c, d, a, b, c, d, a, b, c, d, a, b, c, d, a, b, c, d, a, b, c, d, a, b,
        c, d,
    ];
    let (blocks, rest) = bytes.as_chunks_mut::<32>();
    for block in blocks {
        xor(block, &wide);
    }
    let (words, rest) = rest.as_chunks_mut::<4>();
    for word in words {
        xor(word, &key);
    }
    xor(rest, &key);
}

/// The key as it applies from `offset` bytes further on.
pub(super) fn rotated(key: [u8; 4], offset: usize) -> [u8; 4] {
    u32::from_be_bytes(key)
        .rotate_left(8 * (offset % 4) as u32)
        .to_be_bytes()
}

#[inline]
fn xor(bytes: &mut [u8], key: &[u8]) {
    for (byte, key) in bytes.iter_mut().zip(key) {
        *byte ^= key;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equals_the_definition_at_every_length_and_offset() {
        let key = [0x37, 0xfa, 0x21, 0x3d];
        for length in 0..200u8 {
            for offset in 0..9 {
                let plain: Vec<u8> = (0..length).collect();
                let expected: Vec<u8> = plain
                    .iter()
                    .enumerate()
                    .map(|(i, byte)| byte ^ key[(i + offset) % 4])
                    .collect();
                let mut masked = plain.clone();
                mask(&mut masked, key, offset);
                assert_eq!(masked, expected, "{length} bytes from {offset}");
                mask(&mut masked, key, offset);
                assert_eq!(masked, plain);
            }
        }
    }
}

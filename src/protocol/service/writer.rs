//! Writes MessagePack, every value in its shortest form, as the SDK does.

use super::{Payloads, Text, Texts};

/// Something MessagePack is appended to.
///
/// Lengths are written with at most 32 bits. What is longer cannot be a frame; [`super::Message::encode`] says what then.
pub(super) trait MessagePackWriter {
    /// Appends bytes as they are.
    fn put(&mut self, bytes: &[u8]);

    /// The header of an array of `count` elements.
    fn array(&mut self, count: usize) {
        match count {
            0..=0x0f => self.put(&[0x90 | count as u8]),
            0x10..=0xffff => self.put_sized(0xdc, (count as u16).to_be_bytes()),
            _ => self.put_sized(0xdd, (count as u32).to_be_bytes()),
        }
    }

    /// The header of a map of `count` pairs.
    fn map(&mut self, count: usize) {
        match count {
            0..=0x0f => self.put(&[0x80 | count as u8]),
            0x10..=0xffff => self.put_sized(0xde, (count as u16).to_be_bytes()),
            _ => self.put_sized(0xdf, (count as u32).to_be_bytes()),
        }
    }

    /// An integer.
    fn int(&mut self, value: i32) {
        match value {
            0.. => self.uint(u64::from(value.cast_unsigned())),
            -0x20..=-1 => self.put(&(value as i8).to_be_bytes()),
            -0x80..=-0x21 => self.put_sized(0xd0, (value as i8).to_be_bytes()),
            -0x8000..=-0x81 => self.put_sized(0xd1, (value as i16).to_be_bytes()),
            _ => self.wide_int(value),
        }
    }

    /// An integer in five bytes, however small it is.
    fn wide_int(&mut self, value: i32) {
        self.put_sized(0xd2, value.to_be_bytes());
    }

    /// An integer or nil.
    fn optional_int(&mut self, value: Option<i32>) {
        match value {
            Some(value) => self.int(value),
            None => self.nil(),
        }
    }

    /// An integer that is not negative.
    fn uint(&mut self, value: u64) {
        match value {
            0..=0x7f => self.put(&[value as u8]),
            0x80..=0xff => self.put_sized(0xcc, [value as u8]),
            0x100..=0xffff => self.put_sized(0xcd, (value as u16).to_be_bytes()),
            0x1_0000..=0xffff_ffff => self.put_sized(0xce, (value as u32).to_be_bytes()),
            _ => self.put_sized(0xcf, value.to_be_bytes()),
        }
    }

    /// True or false.
    fn boolean(&mut self, value: bool) {
        self.put(&[0xc2 | u8::from(value)]);
    }

    /// Nothing.
    fn nil(&mut self) {
        self.put(&[0xc0]);
    }

    /// A string.
    fn text(&mut self, text: &str) {
        match text.len() {
            length @ 0..=0x1f => self.put(&[0xa0 | length as u8]),
            length @ 0x20..=0xff => self.put_sized(0xd9, [length as u8]),
            length @ 0x100..=0xffff => self.put_sized(0xda, (length as u16).to_be_bytes()),
            length => self.put_sized(0xdb, (length as u32).to_be_bytes()),
        }
        self.put(text.as_bytes());
    }

    /// A string or nil.
    fn optional_text(&mut self, text: Option<&str>) {
        match text {
            Some(text) => self.text(text),
            None => self.nil(),
        }
    }

    /// A list of strings.
    fn texts(&mut self, texts: &[Text<'_>]) {
        self.array(texts.len());
        for text in texts {
            self.text(text);
        }
    }

    /// A map of strings in which a key may come again.
    fn claims(&mut self, claims: &[(Text<'_>, Text<'_>)]) {
        self.map(claims.len());
        for (kind, value) in claims {
            self.text(kind);
            self.text(value);
        }
    }

    /// A map from strings to lists of strings.
    fn headers(&mut self, headers: &[(Text<'_>, Texts<'_>)]) {
        self.map(headers.len());
        for (name, values) in headers {
            self.text(name);
            self.texts(values);
        }
    }

    /// The header of `length` bytes.
    fn binary_header(&mut self, length: usize) {
        match length {
            0..=0xff => self.put_sized(0xc4, [length as u8]),
            0x100..=0xffff => self.put_sized(0xc5, (length as u16).to_be_bytes()),
            _ => self.put_sized(0xc6, (length as u32).to_be_bytes()),
        }
    }

    /// Bytes.
    fn binary(&mut self, bytes: &[u8]) {
        self.binary_header(bytes.len());
        self.put(bytes);
    }

    /// A map from hub protocols to bytes.
    fn payloads<P: AsRef<[u8]>>(&mut self, payloads: &Payloads<'_, P>) {
        self.map(payloads.len());
        for (protocol, payload) in payloads.iter() {
            self.text(protocol);
            self.binary(payload.as_ref());
        }
    }

    /// A marker and the bytes that belong to it, in one go.
    fn put_sized<const N: usize>(&mut self, marker: u8, bytes: [u8; N]) {
        self.put(&[marker]);
        self.put(&bytes);
    }
}

/// How many bytes the header of a string of `length` bytes takes.
pub(super) fn text_header_bytes(length: usize) -> usize {
    match length {
        0..=0x1f => 1,
        0x20..=0xff => 2,
        0x100..=0xffff => 3,
        _ => 5,
    }
}

/// How many bytes the header of `length` bytes takes.
pub(super) fn binary_header_bytes(length: usize) -> usize {
    match length {
        0..=0xff => 2,
        0x100..=0xffff => 3,
        _ => 5,
    }
}

impl MessagePackWriter for Vec<u8> {
    fn put(&mut self, bytes: &[u8]) {
        self.extend_from_slice(bytes);
    }
}

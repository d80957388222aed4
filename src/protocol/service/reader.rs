//! Reads MessagePack from bytes that need not be contiguous.
//!
//! Owns the position within a frame. A string or payload that lies within one piece is not copied. Memory is bounded by the bytes that
//! have come: a length is compared with what is left before memory is taken for it, a count of elements takes none, and there is a
//! bound to how many elements are kept. Formats as
//! in the MessagePack specification; every integer may come in any width.

use std::borrow::Cow;
use std::ops::Range;

use smallvec::SmallVec;

use super::{Claims, Fault, Headers, Payloads, Text, Texts};
use crate::limits::SERVICE_MESSAGE_ELEMENTS_MAX;

/// A position within a frame.
pub(super) struct Reader<'f, 'a> {
    /// What is left of the piece at the position.
    piece: &'a [u8],
    /// The pieces behind it.
    later: &'f [&'a [u8]],
    /// Where in the frame that piece ends.
    piece_end: usize,
    /// Elements of lists and maps that the frame may still have.
    elements_left: u32,
}

impl<'f, 'a> Reader<'f, 'a> {
    /// Starts at the first byte of a frame.
    pub(super) fn new(pieces: &'f [&'a [u8]]) -> Self {
        let (piece, later) = pieces
            .split_first()
            .map_or((&[][..], pieces), |(first, later)| (*first, later));
        Self {
            piece,
            later,
            piece_end: piece.len(),
            elements_left: SERVICE_MESSAGE_ELEMENTS_MAX,
        }
    }

    /// The header of an array: how many elements follow.
    #[inline]
    pub(super) fn array(&mut self) -> Result<u32, Fault> {
        match self.byte()? {
            marker @ 0x90..=0x9f => Ok(u32::from(marker & 0x0f)),
            0xdc => Ok(u32::from(self.uint16()?)),
            0xdd => self.uint32(),
            marker => Err(Fault::unexpected("an array", marker)),
        }
    }

    /// The header of a map: how many pairs follow.
    #[inline]
    pub(super) fn map(&mut self) -> Result<u32, Fault> {
        match self.byte()? {
            marker @ 0x80..=0x8f => Ok(u32::from(marker & 0x0f)),
            0xde => Ok(u32::from(self.uint16()?)),
            0xdf => self.uint32(),
            marker => Err(Fault::unexpected("a map", marker)),
        }
    }

    /// An integer that fits 32 bits.
    #[inline]
    pub(super) fn int32(&mut self) -> Result<i32, Fault> {
        match self.byte()? {
            small @ 0x00..=0x7f => Ok(i32::from(small)),
            marker => self.int32_after(marker),
        }
    }

    /// As [`Reader::int32`], or nil.
    pub(super) fn optional_int32(&mut self) -> Result<Option<i32>, Fault> {
        match self.byte()? {
            NIL => Ok(None),
            marker => self.int32_after(marker).map(Some),
        }
    }

    /// An integer that is not negative.
    pub(super) fn uint64(&mut self) -> Result<u64, Fault> {
        match self.byte()? {
            UINT64 => self.fixed().map(u64::from_be_bytes),
            marker => {
                let value = self.int64_after(marker)?;
                u64::try_from(value).map_err(|_| Fault::OutOfRange {
                    expected: "no negative number",
                    value,
                })
            }
        }
    }

    /// True or false.
    pub(super) fn boolean(&mut self) -> Result<bool, Fault> {
        match self.byte()? {
            0xc2 => Ok(false),
            0xc3 => Ok(true),
            marker => Err(Fault::unexpected("a boolean", marker)),
        }
    }

    /// A string. Nil reads as the empty one.
    #[inline]
    pub(super) fn text(&mut self) -> Result<Text<'a>, Fault> {
        Ok(self.optional_text()?.unwrap_or_default())
    }

    /// A string, or nil.
    #[inline]
    pub(super) fn optional_text(&mut self) -> Result<Option<Text<'a>>, Fault> {
        let length = match self.byte()? {
            NIL => return Ok(None),
            marker @ 0xa0..=0xbf => u32::from(marker & 0x1f),
            0xd9 => u32::from(self.byte()?),
            0xda => u32::from(self.uint16()?),
            0xdb => self.uint32()?,
            marker => return Err(Fault::unexpected("a string", marker)),
        };
        let text = match self.take(length as usize)? {
            Cow::Borrowed(bytes) => {
                Cow::Borrowed(str::from_utf8(bytes).map_err(|_| Fault::NotUtf8)?)
            }
            Cow::Owned(bytes) => Cow::Owned(String::from_utf8(bytes).map_err(|_| Fault::NotUtf8)?),
        };
        Ok(Some(text))
    }

    /// A list of strings.
    pub(super) fn texts(&mut self) -> Result<Texts<'a>, Fault> {
        let mut texts = SmallVec::new();
        let count = self.array()?;
        for _ in 0..self.elements(count)? {
            texts.push(self.text()?);
        }
        Ok(texts)
    }

    /// A map of strings in which a key may come again.
    pub(super) fn claims(&mut self) -> Result<Claims<'a>, Fault> {
        let mut claims = Vec::new();
        let count = self.map()?;
        for _ in 0..self.elements(count)? {
            claims.push((self.text()?, self.text()?));
        }
        Ok(claims)
    }

    /// A map from strings to lists of strings.
    pub(super) fn headers(&mut self) -> Result<Headers<'a>, Fault> {
        let mut headers = Vec::new();
        let count = self.map()?;
        for _ in 0..self.elements(count)? {
            headers.push((self.text()?, self.texts()?));
        }
        Ok(headers)
    }

    /// A map from hub protocols to bytes.
    pub(super) fn payloads<P: Payload<'a>>(&mut self) -> Result<Payloads<'a, P>, Fault> {
        let mut payloads = Payloads::default();
        let count = self.map()?;
        for _ in 0..self.elements(count)? {
            payloads.push(self.text()?, self.payload()?);
        }
        Ok(payloads)
    }

    /// Bytes. Nil reads as none at all.
    #[inline]
    pub(super) fn payload<P: Payload<'a>>(&mut self) -> Result<P, Fault> {
        let length = self.binary()?;
        P::take(self, length)
    }

    /// Bytes, of which nil and an empty run both mean that there is no payload.
    pub(super) fn optional_payload<P: Payload<'a>>(&mut self) -> Result<Option<P>, Fault> {
        match self.binary()? {
            0 => Ok(None),
            length => P::take(self, length).map(Some),
        }
    }

    /// The next `N` bytes.
    #[inline]
    pub(super) fn fixed<const N: usize>(&mut self) -> Result<[u8; N], Fault> {
        if let Some((bytes, rest)) = self.piece.split_first_chunk() {
            self.piece = rest;
            return Ok(*bytes);
        }
        let mut bytes = [0; N];
        for byte in &mut bytes {
            *byte = self.byte()?;
        }
        Ok(bytes)
    }

    /// The next byte.
    #[inline]
    pub(super) fn byte(&mut self) -> Result<u8, Fault> {
        loop {
            if let Some((&byte, rest)) = self.piece.split_first() {
                self.piece = rest;
                return Ok(byte);
            }
            self.next_piece()?;
        }
    }

    /// Passes over one value of any kind. Values within values are counted, not descended into, so depth costs nothing.
    pub(super) fn skip_value(&mut self) -> Result<(), Fault> {
        let mut values: u64 = 1;
        while values > 0 {
            values -= 1;
            let bytes = match self.byte()? {
                marker @ 0x80..=0x8f => {
                    values += 2 * u64::from(marker & 0x0f);
                    0
                }
                marker @ 0x90..=0x9f => {
                    values += u64::from(marker & 0x0f);
                    0
                }
                marker @ 0xa0..=0xbf => u32::from(marker & 0x1f),
                0xc4 | 0xd9 => u32::from(self.byte()?),
                0xc5 | 0xda => u32::from(self.uint16()?),
                0xc6 | 0xdb => self.uint32()?,
                0xdc => {
                    values += u64::from(self.uint16()?);
                    0
                }
                0xdd => {
                    values += u64::from(self.uint32()?);
                    0
                }
                0xde => {
                    values += 2 * u64::from(self.uint16()?);
                    0
                }
                0xdf => {
                    values += 2 * u64::from(self.uint32()?);
                    0
                }
                marker => self.bytes_of_scalar(marker)?,
            };
            self.skip(bytes as usize)?;
        }
        Ok(())
    }

    /// How many bytes follow the marker of a number, nil, a boolean or an extension value.
    fn bytes_of_scalar(&mut self, marker: u8) -> Result<u32, Fault> {
        /// An extension value has its kind before its bytes.
        const KIND: u32 = 1;
        Ok(match marker {
            0xcc | 0xd0 => 1,
            0xcd | 0xd1 => 2,
            0xca | 0xce | 0xd2 => 4,
            0xcb | 0xcf | 0xd3 => 8,
            0xd4..=0xd8 => KIND + (1 << (marker - 0xd4)),
            0xc7 => KIND + u32::from(self.byte()?),
            0xc8 => KIND + u32::from(self.uint16()?),
            0xc9 => self.uint32()?.checked_add(KIND).ok_or(Fault::Truncated)?,
            0xc1 => return Err(Fault::unexpected("a value", marker)),
            _nil_boolean_or_small_integer => 0,
        })
    }

    /// Allows for `count` more elements that will be kept: in memory one takes many times what it takes on the wire.
    #[inline]
    pub(super) fn elements(&mut self, count: u32) -> Result<u32, Fault> {
        match self.elements_left.checked_sub(count) {
            Some(left) => {
                self.elements_left = left;
                Ok(count)
            }
            None => Err(Fault::TooMany { count }),
        }
    }

    fn int32_after(&mut self, marker: u8) -> Result<i32, Fault> {
        let value = self.int64_after(marker)?;
        i32::try_from(value).map_err(|_| Fault::OutOfRange {
            expected: "a 32-bit integer",
            value,
        })
    }

    fn int64_after(&mut self, marker: u8) -> Result<i64, Fault> {
        Ok(match marker {
            0x00..=0x7f => i64::from(marker),
            0xe0..=0xff => i64::from(marker.cast_signed()),
            0xcc => i64::from(self.byte()?),
            0xcd => i64::from(self.uint16()?),
            0xce => i64::from(self.uint32()?),
            UINT64 => {
                let value = u64::from_be_bytes(self.fixed()?);
                i64::try_from(value).map_err(|_| Fault::TooLarge { value })?
            }
            0xd0 => i64::from(self.byte()?.cast_signed()),
            0xd1 => i64::from(self.uint16()?.cast_signed()),
            0xd2 => i64::from(self.uint32()?.cast_signed()),
            0xd3 => i64::from_be_bytes(self.fixed()?),
            _ => return Err(Fault::unexpected("an integer", marker)),
        })
    }

    fn uint16(&mut self) -> Result<u16, Fault> {
        self.fixed().map(u16::from_be_bytes)
    }

    fn uint32(&mut self) -> Result<u32, Fault> {
        self.fixed().map(u32::from_be_bytes)
    }

    /// The header of bytes: how many there are.
    #[inline]
    fn binary(&mut self) -> Result<usize, Fault> {
        let length = match self.byte()? {
            NIL => 0,
            0xc4 => u32::from(self.byte()?),
            0xc5 => u32::from(self.uint16()?),
            0xc6 => self.uint32()?,
            marker => return Err(Fault::unexpected("bytes", marker)),
        };
        Ok(length as usize)
    }

    /// The next `length` bytes, copied only if they lie in several pieces.
    #[inline]
    fn take(&mut self, length: usize) -> Result<Cow<'a, [u8]>, Fault> {
        if let Some((bytes, rest)) = self.piece.split_at_checked(length) {
            self.piece = rest;
            return Ok(Cow::Borrowed(bytes));
        }
        self.take_across(length)
    }

    #[cold]
    fn take_across(&mut self, length: usize) -> Result<Cow<'a, [u8]>, Fault> {
        if !self.holds(length) {
            return Err(Fault::Truncated);
        }
        while self.piece.is_empty() {
            self.next_piece()?;
        }
        if self.piece.len() >= length {
            return self.take(length);
        }
        let mut bytes = Vec::with_capacity(length);
        while bytes.len() < length {
            let (part, rest) = self
                .piece
                .split_at(self.piece.len().min(length - bytes.len()));
            bytes.extend_from_slice(part);
            self.piece = rest;
            if bytes.len() < length {
                self.next_piece()?;
            }
        }
        Ok(Cow::Owned(bytes))
    }

    fn skip(&mut self, mut length: usize) -> Result<(), Fault> {
        loop {
            if let Some((_, rest)) = self.piece.split_at_checked(length) {
                self.piece = rest;
                return Ok(());
            }
            length -= self.piece.len();
            self.next_piece()?;
        }
    }

    #[cold]
    fn next_piece(&mut self) -> Result<(), Fault> {
        let (piece, later) = self.later.split_first().ok_or(Fault::Truncated)?;
        self.piece = piece;
        self.later = later;
        self.piece_end += piece.len();
        Ok(())
    }

    fn position(&self) -> usize {
        self.piece_end - self.piece.len()
    }

    /// Whether `length` bytes are left. Looks at no more pieces than they lie in.
    fn holds(&self, length: usize) -> bool {
        let mut left = self.piece.len();
        let mut later = self.later.iter();
        while left < length {
            let Some(piece) = later.next() else {
                return false;
            };
            left += piece.len();
        }
        true
    }
}

/// How the bytes of a payload are handed on.
pub(super) trait Payload<'a>: Sized {
    /// Takes the next `length` bytes.
    fn take(reader: &mut Reader<'_, 'a>, length: usize) -> Result<Self, Fault>;
}

/// As a part of the frame, wherever its pieces lie.
impl Payload<'_> for Range<usize> {
    fn take(reader: &mut Reader<'_, '_>, length: usize) -> Result<Self, Fault> {
        let start = reader.position();
        reader.skip(length)?;
        Ok(start..start + length)
    }
}

/// As the bytes themselves, in a frame that is one piece.
impl<'a> Payload<'a> for &'a [u8] {
    fn take(reader: &mut Reader<'_, 'a>, length: usize) -> Result<Self, Fault> {
        let (bytes, rest) = reader
            .piece
            .split_at_checked(length)
            .ok_or(Fault::Truncated)?;
        reader.piece = rest;
        Ok(bytes)
    }
}

const NIL: u8 = 0xc0;
const UINT64: u8 = 0xcf;

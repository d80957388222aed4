//! Records: how SignalR marks where a message ends, inside frames that may be cut anywhere.
//!
//! There are two ways. MessagePack messages, of the hub protocol and of the service protocol alike, are preceded by their length as a
//! varint: seven bits per byte, the lowest first, the top bit set on all bytes but the last. Text messages end with the byte 0x1E.
//!
//! The splitter never gathers a record. It tells which parts of the input belong to it, so a length that is announced costs
//! nothing until its bytes arrive.

use std::ops::Range;

/// Ends a text record.
pub const RECORD_SEPARATOR: u8 = 0x1e;

/// The longest record that a length can announce: lengths are signed 32-bit numbers to most implementations.
pub const RECORD_BYTES_MAX: u32 = i32::MAX as u32;

/// The longest varint.
pub const VARINT_BYTES_MAX: usize = 5;

/// Where the first text record in `bytes` ends.
pub fn find_separator(bytes: &[u8]) -> Option<usize> {
    memchr::memchr(RECORD_SEPARATOR, bytes)
}

/// A length that no record can have.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LengthError {
    /// More than 31 bits, or a sixth byte.
    #[error("the length of a record is beyond 2 GiB")]
    OutOfRange,
    /// Our limit.
    #[error("a record has {bytes} bytes, {max} are allowed")]
    TooLong {
        /// Announced.
        bytes: u32,
        /// Allowed.
        max: u32,
    },
}

/// A part of a record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Piece {
    /// Where the bytes are in the input. Empty only if the whole record is.
    pub range: Range<usize>,
    /// How long the whole record is, without its length prefix.
    pub record_bytes: usize,
    /// Whether it is the first piece of its record.
    pub starts_record: bool,
    /// Whether it is the last piece of its record.
    pub ends_record: bool,
}

/// Splits a stream of bytes into records that are preceded by their length.
///
/// Call [`next`](Self::next) with a run of bytes until it answers `None`, then with the next run.
#[derive(Clone, Debug)]
pub struct VarintRecords {
    record_bytes_max: u32,
    length: Varint,
    /// Whether `length` is complete, so that what comes next is the record.
    is_inside: bool,
    /// What is still to come of the record.
    bytes_left: u32,
}

impl VarintRecords {
    /// A splitter at the start of a stream, whose records may have up to `record_bytes_max` bytes.
    pub fn new(record_bytes_max: u32) -> Self {
        Self {
            record_bytes_max,
            length: Varint::default(),
            is_inside: false,
            bytes_left: 0,
        }
    }

    /// Splits on from `input[*at..]` and moves `at` behind what it has read. `None` when all of `input` has been read.
    ///
    /// After an error nothing is known about where records begin: the stream has to be given up.
    pub fn next(&mut self, input: &[u8], at: &mut usize) -> Result<Option<Piece>, LengthError> {
        while !self.is_inside {
            let Some(&byte) = input.get(*at) else {
                return Ok(None);
            };
            *at += 1;
            let Some(record_bytes) = self.length.push(byte)? else {
                continue;
            };
            if record_bytes > self.record_bytes_max {
                self.length = Varint::default();
                return Err(LengthError::TooLong {
                    bytes: record_bytes,
                    max: self.record_bytes_max,
                });
            }
            self.is_inside = true;
            self.bytes_left = record_bytes;
        }

        let unread = input.len().saturating_sub(*at);
        let record_bytes = self.length.value;
        if unread == 0 && self.bytes_left > 0 {
            return Ok(None);
        }
        let taken = unread.min(self.bytes_left as usize);
        let start = *at;
        *at += taken;
        let starts_record = self.bytes_left == record_bytes;
        self.bytes_left -= taken as u32;
        let ends_record = self.bytes_left == 0;
        if ends_record {
            self.length = Varint::default();
            self.is_inside = false;
        }
        Ok(Some(Piece {
            range: start..*at,
            record_bytes: record_bytes as usize,
            starts_record,
            ends_record,
        }))
    }

    /// Whether a record has begun that has not ended.
    pub fn is_inside_record(&self) -> bool {
        self.is_inside || self.length.bytes > 0
    }
}

/// Appends `value` as a varint.
pub fn write_varint(value: u32, out: &mut impl Extend<u8>) {
    let mut rest = value;
    let bytes = varint_bytes(value);
    out.extend((1..=bytes).map(|index| {
        let byte = rest as u8 & 0x7f;
        rest >>= 7;
        if index < bytes { byte | 0x80 } else { byte }
    }));
}

/// How many bytes `value` takes as a varint.
pub fn varint_bytes(value: u32) -> usize {
    let bits = u32::BITS - (value | 1).leading_zeros();
    bits.div_ceil(7) as usize
}

/// Reads the varint at the start of `bytes` and tells how long it is. `None` if more bytes are needed.
pub fn read_varint(bytes: &[u8]) -> Result<Option<(u32, usize)>, LengthError> {
    let mut varint = Varint::default();
    for (index, &byte) in bytes.iter().enumerate() {
        if let Some(value) = varint.push(byte)? {
            return Ok(Some((value, index + 1)));
        }
    }
    Ok(None)
}

/// A varint as it arrives. Longer forms than needed are accepted, for some implementations write them.
#[derive(Clone, Copy, Debug, Default)]
struct Varint {
    value: u32,
    /// Read so far.
    bytes: u8,
}

impl Varint {
    /// Takes the next byte; the value, if it was the last.
    fn push(&mut self, byte: u8) -> Result<Option<u32>, LengthError> {
        // The fifth byte holds bits 28 to 30, and ends the number.
        if usize::from(self.bytes) + 1 == VARINT_BYTES_MAX && byte > 0x07 {
            return Err(LengthError::OutOfRange);
        }
        self.value |= u32::from(byte & 0x7f) << (7 * self.bytes);
        self.bytes += 1;
        Ok((byte & 0x80 == 0).then_some(self.value))
    }
}
/// Asserts that any bytes are split alike however they are cut, and that lengths are read as they are written.
///
/// # Panics
/// When they are not.
#[cfg(any(test, fuzzing))]
pub fn fuzz_varint_records(data: &[u8]) {
    let [record_bytes_max, step, input @ ..] = data else {
        return;
    };
    let record_bytes_max = u32::from(*record_bytes_max);
    let whole = Split::from_cuts(record_bytes_max, input, usize::MAX);
    for cuts in [1, 2, usize::from(*step).max(1)] {
        assert_eq!(whole, Split::from_cuts(record_bytes_max, input, cuts));
    }
    let payload_bytes =
        whole.records.iter().map(Vec::len).sum::<usize>() + whole.open.as_ref().map_or(0, Vec::len);
    assert!(
        payload_bytes <= input.len(),
        "nothing is added to the input"
    );

    let mut written = Vec::new();
    for record in &whole.records {
        write_varint(record.len() as u32, &mut written);
        written.extend_from_slice(record);
    }
    let again = Split::from_cuts(record_bytes_max, &written, usize::MAX);
    assert_eq!(
        (again.records, again.open, again.fault),
        (whole.records, None, None),
        "what was read can be written"
    );

    if let Ok(Some((value, read_bytes))) = read_varint(input) {
        assert!(
            value <= RECORD_BYTES_MAX
                && varint_bytes(value) <= read_bytes
                && read_bytes <= VARINT_BYTES_MAX
        );
    }
}

/// What a splitter has made of some input.
#[cfg(any(test, fuzzing))]
#[derive(Debug, Default, PartialEq, Eq)]
struct Split {
    records: Vec<Vec<u8>>,
    /// The record that had not ended.
    open: Option<Vec<u8>>,
    fault: Option<LengthError>,
}

#[cfg(any(test, fuzzing))]
impl Split {
    fn from_cuts(record_bytes_max: u32, input: &[u8], cut: usize) -> Self {
        let mut splitter = VarintRecords::new(record_bytes_max);
        let mut split = Self::default();
        for part in input.chunks(cut) {
            if let Err(fault) = split.feed(&mut splitter, part) {
                split.fault = Some(fault);
                break;
            }
        }
        assert!(split.open.is_none() || splitter.is_inside_record());
        split
    }

    fn feed(&mut self, splitter: &mut VarintRecords, part: &[u8]) -> Result<(), LengthError> {
        let mut at = 0;
        while let Some(piece) = splitter.next(part, &mut at)? {
            assert_eq!(piece.range.end, at);
            assert_eq!(piece.starts_record, self.open.is_none());
            let record = self.open.get_or_insert_default();
            record.extend_from_slice(
                part.get(piece.range)
                    .expect("a piece lies within the input"),
            );
            assert_eq!(piece.ends_record, record.len() == piece.record_bytes);
            if piece.ends_record {
                self.records.extend(self.open.take());
            }
        }
        assert_eq!(at, part.len(), "all of the input is read");
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn split(parts: &[&[u8]]) -> Split {
        let mut splitter = VarintRecords::new(RECORD_BYTES_MAX);
        let mut split = Split::default();
        split.fault = parts
            .iter()
            .find_map(|part| split.feed(&mut splitter, part).err());
        split
    }

    #[test]
    fn records_may_be_cut_anywhere() {
        let ping = split(&[b"\x02", b"\x91", b"\x06"]);
        assert_eq!(
            (ping.records, ping.open),
            (vec![b"\x91\x06".to_vec()], None)
        );

        let long = [b"\x01".as_slice(), &[0x90; 140]].concat();
        assert_eq!(split(&[b"\x8c", &long]).records, [long[1..].to_vec()]);

        // Ping, Completion, Close, and an Invocation of which five bytes came first.
        let before =
            b"\x02\x91\x06\x06\x94\x03\x80\xa1\x31\x02\x03\x92\x07\xc0\x0c\x95\x01\x80\xc0";
        let after = b"\xa3Foo\x92\x01\xa1x";
        let several = split(&[before, after]);
        let expected: [&[u8]; 4] = [
            b"\x91\x06",
            b"\x94\x03\x80\xa1\x31\x02",
            b"\x92\x07\xc0",
            b"\x95\x01\x80\xc0\xa3Foo\x92\x01\xa1x",
        ];
        assert_eq!(several.records, expected);
    }

    #[test]
    fn an_empty_record_is_a_record() {
        assert_eq!(
            split(&[b"\x00\x01\xc0\x00"]).records,
            [&b""[..], b"\xc0", b""]
        );
    }

    #[test]
    fn a_length_need_not_be_minimal() {
        assert_eq!(split(&[b"\x82\x00\x91\x06"]).records, [b"\x91\x06"]);
        assert_eq!(
            split(&[b"\x82\x80\x80\x80\x00\x91\x06"]).records,
            [b"\x91\x06"]
        );
    }

    #[test]
    fn a_length_beyond_2_gib_is_a_fault_and_one_below_is_waited_for() {
        for length in [
            b"\xff\xff\xff\xff\x0f".as_slice(),
            b"\x80\x80\x80\x80\x80",
            b"\xff\xff\xff\xff\xff\x01",
            b"\x80\x80\x80\x80\x08",
        ] {
            assert_eq!(split(&[length]).fault, Some(LengthError::OutOfRange));
            assert_eq!(read_varint(length), Err(LengthError::OutOfRange));
        }
        let longest = b"\xff\xff\xff\xff\x07";
        assert_eq!(read_varint(longest), Ok(Some((RECORD_BYTES_MAX, 5))));
        assert_eq!(split(&[longest, b"abc"]).open, Some(b"abc".to_vec()));

        let bounded = Split::from_cuts(1 << 20, longest, 1);
        assert_eq!(
            bounded.fault,
            Some(LengthError::TooLong {
                bytes: RECORD_BYTES_MAX,
                max: 1 << 20
            })
        );
    }

    #[test]
    fn a_splitter_survives_being_fed_after_a_fault() {
        for start in [b"\xff\xff\xff\xff\x07".as_slice(), b"\x80\x80\x80\x80\x08"] {
            let mut splitter = VarintRecords::new(9);
            assert!(splitter.next(start, &mut 0).is_err());
            for byte in 0..=u8::MAX {
                let _ = splitter.next(&[byte, byte], &mut 0);
            }
        }
    }

    #[test]
    fn separators_are_found() {
        assert_eq!(find_separator(b"{}\x1e{\"type\":6}\x1e"), Some(2));
        assert_eq!(find_separator(b"{}"), None);
    }

    #[test]
    fn the_fuzz_body_holds() {
        for data in [
            b"\x09\x03\x02\x91\x06\x00\x82".as_slice(),
            b"\xff\x01\x80\x80\x80\x80\x80",
            b"\x01\x02\x02\x91\x06",
            b"",
        ] {
            fuzz_varint_records(data);
        }
    }

    proptest! {
        #[test]
        fn any_bytes_are_split_alike(data in proptest::collection::vec(any::<u8>(), 0..300)) {
            fuzz_varint_records(&data);
        }

        #[test]
        fn lengths_are_read_as_they_are_written(bits in 0..32u32, random in any::<u32>()) {
            let value = random & RECORD_BYTES_MAX >> (31 - bits.min(31));
            let mut written = vec![];
            write_varint(value, &mut written);
            prop_assert_eq!(written.len(), varint_bytes(value));
            prop_assert_eq!(read_varint(&written), Ok(Some((value, written.len()))));
            prop_assert_eq!(read_varint(&written[..written.len() - 1]), Ok(None));
        }
    }
}

//! Bytes → message.

use std::ops::Range;

use thiserror::Error;

use super::extensions::Extensions;
use super::reader::{Payload, Reader};
use super::{Message, MessageType};

/// Reads one message, without its length prefix, from the pieces it arrived in. A payload is a range of bytes counted over all pieces.
///
/// Bytes behind the message's array are ignored, as the SDK ignores them.
pub fn decode<'a>(pieces: &[&'a [u8]]) -> Result<Message<'a, Range<usize>>, DecodeError> {
    read_message(pieces)
}

/// As [`decode`], for a message that lies in one piece. A payload is the bytes themselves.
pub fn decode_whole(frame: &[u8]) -> Result<Message<'_, &[u8]>, DecodeError> {
    read_message(&[frame])
}

/// Why bytes are not a message. The peer's fault, always.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum DecodeError {
    /// There is no array to begin with.
    #[error("a message is an array: {0}")]
    NotAnArray(Fault),
    /// The first element is not a number.
    #[error("a message begins with its type: {0}")]
    NoType(Fault),
    /// An element is not what the layout says.
    #[error("{message} is malformed at its {field}: {fault}")]
    Field {
        /// In which message.
        message: MessageType,
        /// Which element.
        field: &'static str,
        /// What is wrong with it.
        fault: Fault,
    },
}

/// What is wrong with one element.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum Fault {
    /// The message's array is too short to have it.
    #[error("the array ends before it")]
    Missing,
    /// The message's bytes end within it.
    #[error("the bytes end within it")]
    Truncated,
    /// It is of another kind.
    #[error("expected {expected}, found the byte {found:#04x}")]
    Unexpected {
        /// What should have come.
        expected: &'static str,
        /// The first byte of what came.
        found: u8,
    },
    /// It is a number that is too large or too small.
    #[error("expected {expected}, found {value}")]
    OutOfRange {
        /// What would have fitted.
        expected: &'static str,
        /// What came.
        value: i64,
    },
    /// It is a number that needs all 64 bits, where that is too large.
    #[error("{value} is too large")]
    TooLarge {
        /// What came.
        value: u64,
    },
    /// It is a number that means nothing here.
    #[error("{value} has no meaning")]
    UnknownValue {
        /// What came.
        value: i32,
    },
    /// It is a list that is longer than a message may have.
    #[error("{count} elements are too many")]
    TooMany {
        /// What it announces.
        count: u32,
    },
    /// It is a string, but not of UTF-8.
    #[error("the string is not UTF-8")]
    NotUtf8,
}

impl Fault {
    #[cold]
    pub(super) fn unexpected(expected: &'static str, found: u8) -> Self {
        Self::Unexpected { expected, found }
    }
}

fn read_message<'a, P: Payload<'a>>(pieces: &[&'a [u8]]) -> Result<Message<'a, P>, DecodeError> {
    let mut reader = Reader::new(pieces);
    let count = reader.array().map_err(DecodeError::NotAnArray)?;
    let left = count
        .checked_sub(1)
        .ok_or(DecodeError::NoType(Fault::Missing))?;
    let number = reader.int32().map_err(DecodeError::NoType)?;
    match MessageType::from_number(number) {
        Some(message) => Message::read(
            message,
            &mut Fields {
                reader,
                left,
                message,
            },
        ),
        None => Ok(Message::Unknown(number)),
    }
}

/// The elements of a message behind its type, read one after another.
pub(super) struct Fields<'f, 'a> {
    reader: Reader<'f, 'a>,
    /// Elements not yet read.
    left: u32,
    message: MessageType,
}

impl<'f, 'a> Fields<'f, 'a> {
    /// The next element, which every version of the message has.
    #[inline]
    pub(super) fn required<T>(
        &mut self,
        field: &'static str,
        read: impl FnOnce(&mut Reader<'f, 'a>) -> Result<T, Fault>,
    ) -> Result<T, DecodeError> {
        let value = match self.left.checked_sub(1) {
            Some(left) => {
                self.left = left;
                read(&mut self.reader)
            }
            None => Err(Fault::Missing),
        };
        value.map_err(|fault| self.fault(field, fault))
    }

    /// The next element, or its default where an older version of the message ends before it.
    #[inline]
    pub(super) fn added<T: Default>(
        &mut self,
        field: &'static str,
        read: impl FnOnce(&mut Reader<'f, 'a>) -> Result<T, Fault>,
    ) -> Result<T, DecodeError> {
        match self.left {
            0 => Ok(T::default()),
            _ => self.required(field, read),
        }
    }

    /// All elements that are left.
    pub(super) fn rest<T>(
        &mut self,
        field: &'static str,
        read: impl Fn(&mut Reader<'f, 'a>) -> Result<T, Fault>,
        mut keep: impl FnMut(T),
    ) -> Result<(), DecodeError> {
        self.reader
            .elements(self.left)
            .map_err(|fault| self.fault(field, fault))?;
        while self.left > 0 {
            keep(self.required(field, &read)?);
        }
        Ok(())
    }

    /// The map of extensions, which older versions do not have.
    #[inline]
    pub(super) fn extensions(&mut self) -> Result<Extensions<'a>, DecodeError> {
        let mut extensions = Extensions::default();
        self.added("extensions", |reader| extensions.read(reader))?;
        Ok(extensions)
    }

    fn fault(&self, field: &'static str, fault: Fault) -> DecodeError {
        DecodeError::Field {
            message: self.message,
            field,
            fault,
        }
    }
}

//! A point in time as MessagePack writes it: the extension type −1, in three lengths.

use super::Fault;
use super::reader::Reader;
use super::writer::MessagePackWriter;

/// Seconds since 1970 and a fraction of a second. Invariant of what is read: `nanoseconds < 1_000_000_000`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Timestamp {
    /// Whole seconds since the start of 1970, UTC.
    pub seconds: i64,
    /// The fraction.
    pub nanoseconds: u32,
}

impl Timestamp {
    /// The last moment .NET can express. As the expiry of a [`super::RefreshAuth`] it means that the present one stays.
    pub const LATEST: Self = Self {
        seconds: 253_402_300_799,
        nanoseconds: 999_999_900,
    };

    pub(super) fn read(reader: &mut Reader<'_, '_>) -> Result<Self, Fault> {
        let length = match reader.byte()? {
            0xd6 => 4,
            0xd7 => 8,
            0xc7 => reader.byte()?,
            marker => return Err(Fault::unexpected("a timestamp", marker)),
        };
        let kind = reader.byte()?;
        let (seconds, nanoseconds) = match (kind, length) {
            (KIND, 4) => (i64::from(u32::from_be_bytes(reader.fixed()?)), 0),
            (KIND, 8) => {
                let both = u64::from_be_bytes(reader.fixed()?);
                ((both & SECONDS_34_MAX).cast_signed(), (both >> 34) as u32)
            }
            (KIND, 12) => {
                let nanoseconds = u32::from_be_bytes(reader.fixed()?);
                (i64::from_be_bytes(reader.fixed()?), nanoseconds)
            }
            _ => return Err(Fault::unexpected("a timestamp", kind)),
        };
        if nanoseconds >= NANOSECONDS_PER_SECOND {
            let value = i64::from(nanoseconds);
            return Err(Fault::OutOfRange {
                expected: "less than a second of nanoseconds",
                value,
            });
        }
        Ok(Self {
            seconds,
            nanoseconds,
        })
    }

    /// Writes the shortest form that holds it.
    pub(super) fn write(self, out: &mut impl MessagePackWriter) {
        let nanoseconds = u64::from(self.nanoseconds);
        match (u32::try_from(self.seconds), u64::try_from(self.seconds)) {
            (Ok(seconds), _) if nanoseconds == 0 => {
                out.put(&[0xd6, KIND]);
                out.put(&seconds.to_be_bytes());
            }
            (_, Ok(seconds)) if seconds <= SECONDS_34_MAX => {
                out.put(&[0xd7, KIND]);
                out.put(&(nanoseconds << 34 | seconds).to_be_bytes());
            }
            _ => {
                out.put(&[0xc7, 12, KIND]);
                out.put(&self.nanoseconds.to_be_bytes());
                out.put(&self.seconds.to_be_bytes());
            }
        }
    }
}

/// The extension type −1.
const KIND: u8 = 0xff;
/// What the 34 bits for seconds hold in the form of 8 bytes.
const SECONDS_34_MAX: u64 = (1 << 34) - 1;
const NANOSECONDS_PER_SECOND: u32 = 1_000_000_000;

//! When a message of the other side was due, written into the message itself: whoever receives it, in whichever process, knows how long
//! it took.
//!
//! The time is that of the monotonic clock, which all processes of a machine share, in nanoseconds and as hexadecimal digits: they are
//! as long as letters of any string in JSON and in MessagePack, so they replace some.

use std::ops::Range;
use std::time::{Duration, Instant};

use rustix::time::{ClockId, clock_gettime};

/// Digits of a time.
const DIGITS: usize = 16;

/// Where the digits are in a string of [`text`](super::payload::text): behind the sender, the turn and the spaces.
const IN_TEXT: usize = 13;

/// Tells instants, of which nobody knows where they count from, in nanoseconds that mean the same in each process.
#[derive(Clone, Copy, Debug)]
pub(crate) struct SharedClock {
    instant: Instant,
    nanoseconds: u64,
}

impl SharedClock {
    /// Looks at both clocks. They are apart by the time between two calls, far less than any latency.
    pub(crate) fn look() -> Self {
        let time = clock_gettime(ClockId::Monotonic);
        let nanoseconds = time.tv_sec * 1_000_000_000 + time.tv_nsec;
        Self {
            instant: Instant::now(),
            nanoseconds: nanoseconds.cast_unsigned(),
        }
    }

    fn nanoseconds(self, instant: Instant) -> u64 {
        let since = instant.saturating_duration_since(self.instant);
        let before = self.instant.saturating_duration_since(instant);
        (self.nanoseconds + since.as_nanos() as u64).saturating_sub(before.as_nanos() as u64)
    }

    /// The instant so many nanoseconds after the clock began, if it can be told.
    pub(crate) fn instant(self, nanoseconds: u64) -> Option<Instant> {
        match nanoseconds.checked_sub(self.nanoseconds) {
            Some(since) => self.instant.checked_add(Duration::from_nanos(since)),
            None => self
                .instant
                .checked_sub(Duration::from_nanos(self.nanoseconds - nanoseconds)),
        }
    }

    /// Writes when a message was due to its place in it.
    pub(crate) fn write(self, due: Instant, place: Range<usize>, message: &mut [u8]) {
        let nanoseconds = self.nanoseconds(due);
        for (index, byte) in message.get_mut(place).into_iter().flatten().enumerate() {
            let digit = nanoseconds >> (4 * (DIGITS - 1 - index)) & 0xf;
            *byte = b"0123456789abcdef"
                .get(digit as usize)
                .copied()
                .unwrap_or_default();
        }
    }
}

/// Where the digits are in a message that holds this string.
pub(crate) fn place(message: &[u8], text: &str) -> Option<Range<usize>> {
    let text_at = message
        .windows(text.len().max(1))
        .position(|window| window == text.as_bytes())?;
    let start = text_at + IN_TEXT;
    (text.len() >= IN_TEXT + DIGITS).then_some(start..start + DIGITS)
}

/// Gathers the digits in the messages that one client receives, however these are cut.
#[derive(Debug)]
pub(crate) struct DueTimes {
    place: Range<usize>,
    digits: [u8; DIGITS],
    /// Of the messages that have arrived since the last look, in nanoseconds.
    read: Vec<u64>,
}

impl DueTimes {
    pub(crate) fn new(place: Range<usize>) -> Self {
        Self {
            place,
            digits: [0; DIGITS],
            read: Vec::new(),
        }
    }

    /// Reads a part of a message that begins at its byte number `read_bytes`.
    pub(crate) fn on_part(&mut self, part: &[u8], read_bytes: usize) {
        let start = self.place.start.max(read_bytes);
        let end = self.place.end.min(read_bytes + part.len());
        if start < end
            && let Some(from) = part.get(start - read_bytes..end - read_bytes)
            && let Some(to) = self
                .digits
                .get_mut(start - self.place.start..end - self.place.start)
        {
            to.copy_from_slice(from);
        }
    }

    /// The message is complete. What holds no time has none.
    pub(crate) fn on_end(&mut self) {
        let digits = std::mem::take(&mut self.digits);
        let digits = str::from_utf8(&digits).ok();
        self.read
            .extend(digits.and_then(|digits| u64::from_str_radix(digits, 16).ok()));
    }

    pub(crate) fn take(&mut self) -> impl Iterator<Item = u64> + '_ {
        self.read.drain(..)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::job::HubProtocol;
    use crate::worker::payload::{ECHO, OTHER_SIDE, PAYLOAD_BYTES_MIN, invocation};

    #[test]
    fn a_time_is_read_as_it_was_written_in_whichever_pieces_it_comes() {
        let clock = SharedClock::look();
        let bytes = PAYLOAD_BYTES_MIN as usize;
        for protocol in [HubProtocol::Json, HubProtocol::MessagePack] {
            let (mut message, text) = invocation(protocol, ECHO, OTHER_SIDE, 0, bytes);
            let place = place(&message, &text).unwrap();
            for due in [
                clock.instant + Duration::from_secs(5),
                clock.instant(clock.nanoseconds - 1_000_000).unwrap(),
            ] {
                clock.write(due, place.clone(), &mut message);
                for step in 1..=message.len() {
                    let mut due_times = DueTimes::new(place.clone());
                    let mut read_bytes = 0;
                    for part in message.chunks(step) {
                        due_times.on_part(part, read_bytes);
                        read_bytes += part.len();
                    }
                    due_times.on_end();
                    let read: Vec<_> = due_times.take().map(|read| clock.instant(read)).collect();
                    assert_eq!(read, [Some(due)]);
                }
            }
            assert_eq!(message.len(), bytes);
        }
    }

    #[test]
    fn letters_are_no_time() {
        let (message, text) = invocation(HubProtocol::Json, ECHO, OTHER_SIDE, 0, 200);
        let mut due_times = DueTimes::new(place(&message, &text).unwrap());
        due_times.on_part(&message, 0);
        due_times.on_end();
        assert_eq!(due_times.take().count(), 0);
    }

    #[test]
    fn clocks_of_two_processes_agree() {
        let (first, second) = (SharedClock::look(), SharedClock::look());
        let now = Instant::now();
        let apart = first.nanoseconds(now).abs_diff(second.nanoseconds(now));
        assert!(apart < 50_000_000, "{apart}");
    }
}

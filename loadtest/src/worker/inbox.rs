//! Counts the messages that a client receives and, if the client is one of those that check, compares every byte of them. No sockets here.
//!
//! Neither WebSocket messages nor what one read brings say where a hub message ends: several may share one, and each may be cut
//! anywhere. So they are counted by what ends or precedes them.

use std::ops::Range;
use std::rc::Rc;

use hubring::frame::record::{RECORD_BYTES_MAX, VarintRecords, find_separator};

use super::due_time::DueTimes;
use crate::error::LoadError;
use crate::job::HubProtocol;

/// How one tells where a message ends.
#[derive(Clone, Debug)]
pub(crate) enum Splitter {
    /// Behind a byte of its own.
    Separator,
    /// By a length in front, which is no part of the message.
    LengthPrefix(VarintRecords),
    /// After so many bytes.
    Fixed(usize),
}

impl Splitter {
    /// That of a hub protocol.
    pub(crate) fn of(protocol: HubProtocol) -> Self {
        match protocol {
            HubProtocol::Json => Self::Separator,
            HubProtocol::MessagePack => Self::LengthPrefix(VarintRecords::new(RECORD_BYTES_MAX)),
        }
    }

    /// The next part of a message in `bytes[*at..]`, of which `read_bytes` have been read before, and whether the message ends with it.
    fn next(
        &mut self,
        bytes: &[u8],
        at: &mut usize,
        read_bytes: usize,
    ) -> Result<Option<(Range<usize>, bool)>, LoadError> {
        let unread = bytes.get(*at..).unwrap_or_default();
        if let Self::LengthPrefix(records) = self {
            let piece = records.next(bytes, at)?;
            return Ok(piece.map(|piece| (piece.range, piece.ends_record)));
        }
        if unread.is_empty() {
            return Ok(None);
        }
        let end = match self {
            Self::Separator => find_separator(unread).map(|end| end + 1),
            Self::Fixed(message_bytes) => {
                let missing_bytes = message_bytes.saturating_sub(read_bytes);
                (missing_bytes <= unread.len()).then_some(missing_bytes)
            }
            Self::LengthPrefix(_) => None,
        };
        let start = *at;
        *at += end.unwrap_or(unread.len());
        Ok(Some((start..*at, end.is_some())))
    }
}

/// What a message must hold at a certain place to be counted. Others, such as hub pings and greetings, pass unseen.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Signature {
    pub(crate) at: usize,
    pub(crate) bytes: &'static [u8],
}

impl Signature {
    /// Whether a part of a message that begins at its byte number `read_bytes` does not contradict.
    fn allows(self, part: &[u8], read_bytes: usize) -> bool {
        let skipped_bytes = self.at.saturating_sub(read_bytes);
        let expected = self.bytes.get(read_bytes.saturating_sub(self.at)..);
        let part = part.get(skipped_bytes..).unwrap_or_default();
        expected
            .unwrap_or_default()
            .iter()
            .zip(part)
            .all(|(expected, byte)| expected == byte)
    }
}

/// What a client that checks has to receive: its own messages one after the other, again and again, and between them, at any time,
/// that of the other side, in which a part differs from time to time. A length prefix is no part of them.
#[derive(Clone, Debug, Default)]
pub(crate) struct Expected {
    pub(crate) own: Vec<Vec<u8>>,
    pub(crate) of_other_side: Option<Rc<[u8]>>,
    pub(crate) differing: Range<usize>,
}

/// What has arrived completely.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Arrived {
    pub(crate) messages: u32,
    /// Those among them that the client has asked for.
    pub(crate) answers: u32,
}

/// Which messages count. Without a signature all do.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Counted {
    pub(crate) messages: Option<Signature>,
    pub(crate) answers: Option<Signature>,
}

/// Reads what one client receives.
#[derive(Debug)]
pub(crate) struct Inbox {
    client: u32,
    splitter: Splitter,
    counted: Counted,
    /// How much of the message that is being received has been read.
    read_bytes: usize,
    /// Whether that message is one of those that are not counted.
    is_other: bool,
    /// Whether it is none of those that the client has asked for.
    is_no_answer: bool,
    check: Option<Box<Check>>,
    /// Of messages that the client has not asked for.
    due_times: Option<Box<DueTimes>>,
}

impl Inbox {
    /// For the client of this number.
    pub(crate) fn new(
        client: u32,
        splitter: Splitter,
        counted: Counted,
        expected: Option<Expected>,
    ) -> Self {
        Self {
            client,
            splitter,
            counted,
            read_bytes: 0,
            is_other: false,
            is_no_answer: false,
            check: expected.map(|expected| Box::new(Check::new(expected))),
            due_times: None,
        }
    }

    /// Reads when messages of the other side were due, too, from this place in them.
    pub(crate) fn with_due_times(self, place: Range<usize>) -> Self {
        Self {
            due_times: Some(Box::new(DueTimes::new(place))),
            ..self
        }
    }

    /// When the messages were due that have arrived since the last look, in nanoseconds of the shared clock.
    pub(crate) fn take_due_times(&mut self) -> impl Iterator<Item = u64> + '_ {
        self.due_times
            .iter_mut()
            .flat_map(|due_times| due_times.take())
    }

    /// Reads on and tells what has become complete.
    pub(crate) fn on_bytes(&mut self, bytes: &[u8]) -> Result<Arrived, LoadError> {
        let (mut arrived, mut at) = (Arrived::default(), 0);
        while let Some((range, ends)) = self.splitter.next(bytes, &mut at, self.read_bytes)? {
            let part = bytes.get(range).unwrap_or_default();
            let contradicts = |signature: Option<Signature>| {
                signature.is_some_and(|signature| !signature.allows(part, self.read_bytes))
            };
            self.is_other |= contradicts(self.counted.messages);
            self.is_no_answer |= contradicts(self.counted.answers);
            if let Some(check) = &mut self.check
                && !self.is_other
                && !check.accepts(part, self.read_bytes, ends)
            {
                return Err(LoadError::WrongPayload(self.client));
            }
            if let Some(due_times) = &mut self.due_times {
                due_times.on_part(part, self.read_bytes);
            }
            self.read_bytes += part.len();
            if ends {
                let is_unasked = self.counted.answers.is_none() || self.is_no_answer;
                if let Some(due_times) = &mut self.due_times
                    && is_unasked
                    && !self.is_other
                {
                    due_times.on_end();
                }
                arrived.messages += u32::from(!self.is_other);
                arrived.answers += u32::from(!self.is_other && !self.is_no_answer);
                self.begin_message();
            }
        }
        Ok(arrived)
    }

    fn begin_message(&mut self) {
        self.read_bytes = 0;
        self.is_other = false;
        self.is_no_answer = false;
    }

    /// A new connection begins: what was cut off will not come any more.
    pub(crate) fn reset(&mut self) {
        self.begin_message();
        match &mut self.splitter {
            Splitter::LengthPrefix(records) => *records = VarintRecords::new(RECORD_BYTES_MAX),
            Splitter::Separator | Splitter::Fixed(_) => {}
        }
        if let Some(check) = &mut self.check {
            check.next_own = 0;
        }
    }
}

#[derive(Debug)]
struct Check {
    expected: Expected,
    /// The one of its own messages that comes next.
    next_own: usize,
    /// Whether what has been read of the message is the beginning of that one.
    may_be_own: bool,
    /// Whether it is the beginning of the other side's.
    may_be_of_other_side: bool,
}

impl Check {
    fn new(expected: Expected) -> Self {
        Self {
            expected,
            next_own: 0,
            may_be_own: false,
            may_be_of_other_side: false,
        }
    }

    fn accepts(&mut self, part: &[u8], read_bytes: usize, ends: bool) -> bool {
        if read_bytes == 0 {
            self.may_be_own = true;
            self.may_be_of_other_side = true;
        }
        let agrees = |message: Option<&[u8]>, differing: Range<usize>| {
            let rest = message.and_then(|message| message.get(read_bytes..));
            let rest = rest.filter(|rest| !ends || rest.len() == part.len());
            let same = rest.and_then(|rest| rest.get(..part.len()));
            let outside = |bytes: &[u8]| {
                let [start, end] = [differing.start, differing.end]
                    .map(|at| at.saturating_sub(read_bytes).min(bytes.len()));
                bytes.get(..start) == part.get(..start) && bytes.get(end..) == part.get(end..)
            };
            same.is_some_and(outside)
        };
        let own = self.expected.own.get(self.next_own).map(Vec::as_slice);
        self.may_be_own &= agrees(own, 0..0);
        let of_other_side = self.expected.of_other_side.as_deref();
        self.may_be_of_other_side &= agrees(of_other_side, self.expected.differing.clone());
        if ends && self.may_be_own {
            self.next_own = (self.next_own + 1) % self.expected.own.len().max(1);
        }
        self.may_be_own || self.may_be_of_other_side
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const COUNTED: Signature = Signature {
        at: 0,
        bytes: br#"{"type":3"#,
    };

    const ALL: Counted = Counted {
        messages: None,
        answers: None,
    };

    fn expected() -> Expected {
        Expected {
            own: vec![b"first\x1e".to_vec(), b"second\x1e".to_vec()],
            of_other_side: Some(b"for all\x1e".as_slice().into()),
            differing: 1..2,
        }
    }

    /// Counts in `bytes`, in pieces of `step` bytes.
    fn count(inbox: &mut Inbox, bytes: &[u8], step: usize) -> Result<u32, LoadError> {
        let parts = bytes.chunks(step);
        parts.map(|part| Ok(inbox.on_bytes(part)?.messages)).sum()
    }

    fn counted(messages: Signature) -> Counted {
        Counted {
            messages: Some(messages),
            answers: None,
        }
    }

    #[test]
    fn messages_are_counted_however_they_are_cut() {
        let separated = b"{\"type\":6}\x1e{\"type\":3,\"x\":1}\x1e{\"type\":3}\x1e{}\x1e{\"type\"";
        let prefixed = b"\x02\x91\x06\x05\x95\x03abc\x03\x95\x03\xc0\x00\x04\x95";
        let type_3 = Signature { at: 1, bytes: &[3] };
        for step in 1..=separated.len() {
            let mut inbox = Inbox::new(0, Splitter::Separator, counted(COUNTED), None);
            assert_eq!(count(&mut inbox, separated, step).unwrap(), 2, "{step}");
            let mut inbox = Inbox::new(0, Splitter::Separator, ALL, None);
            assert_eq!(count(&mut inbox, separated, step).unwrap(), 4, "{step}");
            let splitter = Splitter::of(HubProtocol::MessagePack);
            let mut inbox = Inbox::new(0, splitter.clone(), counted(type_3), None);
            // The empty message contradicts nothing.
            assert_eq!(count(&mut inbox, prefixed, step).unwrap(), 3, "{step}");
            let mut inbox = Inbox::new(0, splitter, ALL, None);
            assert_eq!(count(&mut inbox, prefixed, step).unwrap(), 4, "{step}");
            let mut inbox = Inbox::new(0, Splitter::Fixed(7), ALL, None);
            assert_eq!(count(&mut inbox, &[b'x'; 27], step).unwrap(), 3, "{step}");
        }
    }

    #[test]
    fn answers_are_told_from_what_nobody_asked_for() {
        let counted = Counted {
            messages: None,
            answers: Some(Signature { at: 2, bytes: b"0" }),
        };
        let bytes = b"m 1\x1em 0\x1em 0\x1em 1\x1e";
        for step in 1..=bytes.len() {
            let mut inbox = Inbox::new(0, Splitter::Separator, counted, None);
            let arrived = bytes.chunks(step).map(|part| inbox.on_bytes(part).unwrap());
            let answers: u32 = arrived.map(|arrived| arrived.answers).sum();
            assert_eq!(answers, 2, "{step}");
        }
    }

    #[test]
    fn a_client_that_checks_accepts_its_own_in_order_and_those_of_the_other_side() {
        let bytes = b"first\x1esecond\x1efor all\x1efirst\x1ef0r all\x1esecond\x1e";
        for step in 1..=bytes.len() {
            let mut inbox = Inbox::new(0, Splitter::Separator, ALL, Some(expected()));
            assert_eq!(count(&mut inbox, bytes, step).unwrap(), 6, "{step}");
        }
    }

    #[test]
    fn what_is_wrong_short_long_or_out_of_order_is_noticed() {
        for bytes in [
            b"second\x1e".as_slice(),
            b"first\x1efirst\x1e",
            b"fist\x1e",
            b"firs\x1e",
            b"first!\x1e",
            b"for irst\x1e",
            b"f0r alt\x1e",
            b"fo0 all\x1e",
            b"\x1e",
        ] {
            for step in 1..=bytes.len() {
                let mut inbox = Inbox::new(7, Splitter::Separator, ALL, Some(expected()));
                let counted = count(&mut inbox, bytes, step);
                assert!(
                    matches!(counted, Err(LoadError::WrongPayload(7))),
                    "{bytes:?}"
                );
            }
        }
    }

    #[test]
    fn after_a_reset_it_begins_anew() {
        for splitter in [Splitter::Separator, Splitter::of(HubProtocol::MessagePack)] {
            let mut inbox = Inbox::new(0, splitter, ALL, None);
            assert_eq!(inbox.on_bytes(b"\x7fabc").unwrap().messages, 0);
            inbox.reset();
            assert_eq!(inbox.on_bytes(b"\x02a\x1e").unwrap().messages, 1);
        }
    }
}

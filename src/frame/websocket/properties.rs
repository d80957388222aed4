//! What holds of every input, for tests and for the fuzzer.

use super::{
    CloseFrame, Control, Decoder, Event, FrameError, Limits, MessageKind, OpCode, Piece, Role,
};
use super::{close_frame, control_frame, header, mask};

/// Asserts that any bytes decode alike however they are cut, and that what was decoded comes back from what the encoder makes of it.
///
/// # Panics
/// When they do not.
pub fn fuzz_websocket_frame(data: &[u8]) {
    let [choice, step, input @ ..] = data else {
        return;
    };
    let role = if choice & 1 == 0 {
        Role::Server
    } else {
        Role::Client
    };
    let limits = Limits {
        message_bytes_max: if choice & 2 == 0 { 1 << 20 } else { 64 },
        frames_per_message_max: 8,
        text_checked: choice & 4 == 0,
    };

    let whole = Decoded::from_cuts(role, limits, input, |_| usize::MAX);
    assert!(
        whole.payload_bytes() <= input.len(),
        "nothing is added to the input"
    );
    for cuts in [1, 2, usize::from(*step).max(1)] {
        whole.assert_alike(&Decoded::from_cuts(role, limits, input, |_| cuts));
    }
    whole.assert_alike(&Decoded::from_cuts(role, limits, input, |at| {
        usize::from(input.get(at).map_or(1, |byte| byte % 9)) + 1
    }));

    let limits = Limits {
        frames_per_message_max: u32::MAX,
        ..limits
    };
    let again = Decoded::from_cuts(
        role,
        limits,
        &encode(&whole.events, role, usize::from(*step).max(1)),
        |_| 7,
    );
    assert_eq!(
        (&again.events, again.fault),
        (&whole.events, None),
        "what was read can be written"
    );
}

/// What a decoder has made of some input, with the pieces of messages put together.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Decoded {
    pub(super) events: Vec<Whole>,
    /// The message that had not ended.
    pub(super) open: Option<(MessageKind, Vec<u8>)>,
    pub(super) fault: Option<FrameError>,
}

/// An event without the traces of how the input was cut.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Whole {
    Message(MessageKind, Vec<u8>),
    Ping(Vec<u8>),
    Pong(Vec<u8>),
    Close(Option<CloseFrame>),
}

impl Decoded {
    /// Decodes `input` in parts; `cut` tells how long the part that begins at some byte is to be.
    pub(super) fn from_cuts(
        role: Role,
        limits: Limits,
        input: &[u8],
        cut: impl Fn(usize) -> usize,
    ) -> Self {
        let mut decoder = Decoder::new(role, limits);
        let mut all = Self::default();
        let mut rest = input;
        while !rest.is_empty() && all.fault.is_none() {
            let (part, behind) = rest.split_at(cut(input.len() - rest.len()).min(rest.len()));
            all.feed(&mut decoder, &mut part.to_vec());
            rest = behind;
        }
        all
    }

    fn feed(&mut self, decoder: &mut Decoder, part: &mut [u8]) {
        let mut at = 0;
        loop {
            let before = at;
            let event = decoder.next(part, &mut at);
            assert!(
                before <= at && at <= part.len(),
                "the decoder moves on, within its input"
            );
            match event {
                Ok(Some(Event::Data(piece))) => {
                    assert!(
                        before <= piece.range.start && piece.range.end == at,
                        "a piece is what has just been read"
                    );
                    self.add(&piece, part);
                }
                Ok(Some(Event::Ping(payload))) => self.events.push(Whole::Ping(payload.to_vec())),
                Ok(Some(Event::Pong(payload))) => self.events.push(Whole::Pong(payload.to_vec())),
                Ok(Some(Event::Close(close))) => self.events.push(Whole::Close(close)),
                Ok(None) => {
                    assert_eq!(at, part.len(), "all of the input is read");
                    return;
                }
                Err(fault) => {
                    self.fault = Some(fault);
                    assert!(
                        matches!(decoder.next(part, &mut at), Ok(None)),
                        "after a fault everything is discarded"
                    );
                    return;
                }
            }
        }
    }

    fn add(&mut self, piece: &Piece, part: &[u8]) {
        assert_eq!(piece.starts_message, self.open.is_none());
        assert!(
            piece.ends_message || !piece.range.is_empty(),
            "an empty piece ends a message"
        );
        let (kind, bytes) = self.open.get_or_insert((piece.kind, Vec::new()));
        assert_eq!(*kind, piece.kind);
        bytes.extend_from_slice(
            part.get(piece.range.clone())
                .expect("a piece lies within the input"),
        );
        if piece.ends_message {
            self.events.extend(
                self.open
                    .take()
                    .map(|(kind, bytes)| Whole::Message(kind, bytes)),
            );
        }
    }

    fn payload_bytes(&self) -> usize {
        let open = self.open.as_ref().map_or(0, |(_, bytes)| bytes.len());
        let bytes = self.events.iter().map(|event| match event {
            Whole::Message(_, bytes) | Whole::Ping(bytes) | Whole::Pong(bytes) => bytes.len(),
            Whole::Close(close) => close.as_ref().map_or(0, |close| close.reason.len() + 2),
        });
        open + bytes.sum::<usize>()
    }

    /// `self` was decoded in one part. With a fault inside a payload more of that payload may have been seen when it came in parts.
    pub(super) fn assert_alike(&self, parts: &Self) {
        assert_eq!((&self.events, self.fault), (&parts.events, parts.fault));
        if self.fault.is_none() {
            assert_eq!(self.open, parts.open);
        } else if let Some((kind, bytes)) = &self.open {
            let (parts_kind, parts_bytes) = parts
                .open
                .as_ref()
                .expect("what is there in one part is there in several");
            assert!(kind == parts_kind && parts_bytes.starts_with(bytes));
        }
    }
}

/// Frames that a decoder for `role` reads as `events`, with messages cut into frames of `frame_bytes`.
pub(super) fn encode(events: &[Whole], role: Role, frame_bytes: usize) -> Vec<u8> {
    let key = (role == Role::Server).then_some([0x37, 0xfa, 0x21, 0x3d]);
    let mut written = Vec::new();
    for event in events {
        match event {
            Whole::Message(kind, bytes) => {
                write_message(*kind, bytes, key, frame_bytes, &mut written);
            }
            Whole::Ping(bytes) => written.extend(control_frame(Control::Ping, bytes, key)),
            Whole::Pong(bytes) => written.extend(control_frame(Control::Pong, bytes, key)),
            Whole::Close(Some(close)) => {
                written.extend(close_frame(close.code, &close.reason, key));
            }
            Whole::Close(None) => written.extend(control_frame(Control::Close, &[], key)),
        }
    }
    written
}

fn write_message(
    kind: MessageKind,
    bytes: &[u8],
    key: Option<[u8; 4]>,
    frame_bytes: usize,
    written: &mut Vec<u8>,
) {
    let mut opcode = OpCode::from(kind);
    let mut rest = bytes;
    loop {
        let (payload, behind) = rest.split_at(frame_bytes.min(rest.len()));
        written.extend_from_slice(&header(
            opcode,
            behind.is_empty(),
            payload.len() as u64,
            key,
        ));
        let mut payload = payload.to_vec();
        if let Some(key) = key {
            mask(&mut payload, key, 0);
        }
        written.extend(payload);
        if behind.is_empty() {
            return;
        }
        opcode = OpCode::Data(super::Data::Continue);
        rest = behind;
    }
}

//! What waits to be sent on one socket, as a list of slices.
//!
//! Headers and tiny payloads are written one behind the other into a joint buffer; larger payloads stay where they were received
//! and are referred to. An outbox exists only while something waits: an idle connection has none.

use std::ops::Range;

use crate::chunk::Chunk;
use crate::frame::websocket::{self, MessageKind};
use crate::limits::{JOINT_COPY_BYTES_MAX, OUTBOX_JOINT_BYTES_KEPT, OUTBOX_SEGMENTS_KEPT};

/// Most bytes of a WebSocket frame header without a mask.
const FRAME_HEADER_BYTES_MAX: usize = 10;

/// See the module.
#[derive(Debug, Default)]
pub struct Outbox {
    segments: Vec<Segment>,
    joint: Vec<u8>,
    bytes: usize,
    copied: usize,
    /// The WebSocket message that is being gathered, if any.
    message: Option<Message>,
    /// Where sending goes on: the segment, and the bytes of it that have gone.
    next: usize,
    offset: usize,
}

#[derive(Debug)]
enum Segment {
    Joint(Range<u32>),
    Chunk(Chunk),
}

/// A WebSocket message whose length is known only when it is closed: place is kept for its header.
#[derive(Debug)]
struct Message {
    segment: usize,
    header_at: usize,
    bytes_before: usize,
}

impl Outbox {
    /// Bytes that wait.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Whether nothing waits.
    pub fn is_empty(&self) -> bool {
        self.segments.is_empty()
    }

    /// Payload bytes that have been copied into the joint buffer since the last call.
    pub fn take_copied(&mut self) -> usize {
        std::mem::take(&mut self.copied)
    }

    /// Adds bytes by copying them.
    pub fn push_bytes(&mut self, bytes: &[u8]) {
        let start = self.joint.len() as u32;
        self.joint.extend_from_slice(bytes);
        self.bytes += bytes.len();
        let end = self.joint.len() as u32;
        match self.segments.last_mut() {
            Some(Segment::Joint(range)) if range.end == start => range.end = end,
            _ => self.segments.push(Segment::Joint(start..end)),
        }
    }

    /// Adds a payload by reference, or by copying it where that is cheaper.
    pub fn push_chunk(&mut self, chunk: Chunk) {
        if chunk.len() <= JOINT_COPY_BYTES_MAX {
            self.copied += chunk.len();
            self.push_bytes(&chunk);
        } else {
            self.bytes += chunk.len();
            self.segments.push(Segment::Chunk(chunk));
        }
    }

    /// Adds one whole WebSocket message.
    pub fn push_message(
        &mut self,
        kind: MessageKind,
        payload: impl IntoIterator<Item = Chunk>,
        payload_bytes: usize,
    ) {
        debug_assert!(
            self.message.is_none(),
            "a socket either gathers one message or sends many"
        );
        self.push_bytes(&websocket::header(kind, true, payload_bytes as u64, None));
        for chunk in payload {
            self.push_chunk(chunk);
        }
    }

    /// Opens a binary WebSocket message, unless one is open: all that is pushed until [`Self::close_message`] becomes its payload.
    pub fn open_message(&mut self) {
        if self.message.is_some() {
            return;
        }
        let header_at = self.joint.len();
        self.joint.extend_from_slice(&[0; FRAME_HEADER_BYTES_MAX]);
        let range = header_at as u32..self.joint.len() as u32;
        self.message = Some(Message {
            segment: self.segments.len(),
            header_at,
            bytes_before: self.bytes,
        });
        self.segments.push(Segment::Joint(range));
    }

    /// Writes the header of the open message, whose length is known now.
    pub fn close_message(&mut self) {
        let Some(message) = self.message.take() else {
            return;
        };
        let header = websocket::header(
            MessageKind::Binary,
            true,
            (self.bytes - message.bytes_before) as u64,
            None,
        );
        let header_end = message.header_at + FRAME_HEADER_BYTES_MAX;
        let header_start = header_end - header.len();
        if let Some(place) = self.joint.get_mut(header_start..header_end) {
            place.copy_from_slice(&header);
        }
        if let Some(Segment::Joint(range)) = self.segments.get_mut(message.segment) {
            range.start = header_start as u32;
        }
        self.bytes += header.len();
    }

    /// Copies what is still in receive buffers, so that these can be used again. How many bytes that were.
    pub fn detach(&mut self) -> usize {
        let mut copied = 0;
        for segment in &mut self.segments {
            if let Segment::Chunk(chunk) = segment
                && chunk.is_pooled()
            {
                copied += chunk.len();
                *chunk = Chunk::from(chunk.to_vec());
            }
        }
        copied
    }

    /// Shows the next slices that have not been sent, at most `slices_max` of them.
    pub fn unsent(&self, slices_max: usize, mut slice: impl FnMut(&[u8])) {
        let mut offset = self.offset;
        for segment in self.segments.iter().skip(self.next).take(slices_max) {
            let bytes = self.segment_bytes(segment);
            slice(bytes.get(offset..).unwrap_or_default());
            offset = 0;
        }
    }

    /// Notes that so many bytes have been sent. Whether that was all.
    pub fn advance(&mut self, mut sent: usize) -> bool {
        while let Some(segment) = self.segments.get(self.next) {
            let left = self.segment_bytes(segment).len() - self.offset;
            if sent < left {
                self.offset += sent;
                return false;
            }
            sent -= left;
            self.next += 1;
            self.offset = 0;
        }
        true
    }

    /// Forgets everything and keeps the memory for the next use.
    pub fn clear(&mut self) {
        self.segments.clear();
        self.segments.shrink_to(OUTBOX_SEGMENTS_KEPT);
        if self.joint.capacity() > OUTBOX_JOINT_BYTES_KEPT {
            self.joint = Vec::new();
        }
        self.joint.clear();
        *self = Self {
            segments: std::mem::take(&mut self.segments),
            joint: std::mem::take(&mut self.joint),
            ..Self::default()
        };
    }

    fn segment_bytes<'a>(&'a self, segment: &'a Segment) -> &'a [u8] {
        match segment {
            Segment::Joint(range) => self
                .joint
                .get(range.start as usize..range.end as usize)
                .unwrap_or_default(),
            Segment::Chunk(chunk) => chunk,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::rc::Rc;

    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;
    use crate::chunk::{Block, BlockPool};
    use crate::frame::websocket::{CONTROL_BYTES_MAX, Control, control_frame};

    const PING: [u8; 2] = [0x89, 0];

    /// A payload that is not copied.
    fn large(byte: u8) -> Chunk {
        Chunk::from(vec![byte; JOINT_COPY_BYTES_MAX + 1])
    }

    fn unsent(outbox: &Outbox, slices_max: usize) -> Vec<u8> {
        let mut bytes = Vec::new();
        outbox.unsent(slices_max, |slice| bytes.extend_from_slice(slice));
        bytes
    }

    fn all(outbox: &Outbox) -> Vec<u8> {
        unsent(outbox, usize::MAX)
    }

    fn slice_count(outbox: &Outbox) -> usize {
        let mut count = 0;
        outbox.unsent(usize::MAX, |_| count += 1);
        count
    }

    #[test]
    fn what_is_gathered_becomes_one_message_with_the_shortest_header() {
        let cases = [
            (0, vec![0x82, 0]),
            (125, vec![0x82, 125]),
            (126, vec![0x82, 126, 0, 126]),
            (65_535, vec![0x82, 126, 0xff, 0xff]),
            (65_536, vec![0x82, 127, 0, 0, 0, 0, 0, 1, 0, 0]),
        ];
        for (payload_bytes, header) in cases {
            let mut outbox = Outbox::default();
            outbox.open_message();
            outbox.open_message();
            let half = payload_bytes / 2;
            outbox.push_bytes(&vec![1; half]);
            outbox.push_chunk(Chunk::from(vec![1; payload_bytes - half]));
            outbox.close_message();
            outbox.close_message();
            let expected = [header, vec![1; payload_bytes]].concat();
            assert_eq!(all(&outbox), expected);
            assert_eq!(outbox.bytes(), expected.len());
        }
    }

    #[test]
    fn a_control_frame_goes_between_two_messages() {
        let mut outbox = Outbox::default();
        outbox.open_message();
        outbox.push_bytes(b"one");
        outbox.close_message();
        outbox.push_bytes(&PING);
        outbox.open_message();
        outbox.push_bytes(b"two");
        outbox.close_message();
        assert_eq!(all(&outbox), b"\x82\x03one\x89\x00\x82\x03two");
    }

    #[test]
    fn large_payloads_stay_where_they_are_and_small_ones_are_joined() {
        let mut outbox = Outbox::default();
        let small = Chunk::from(vec![1; JOINT_COPY_BYTES_MAX]);
        outbox.push_message(
            MessageKind::Text,
            [small.clone(), small],
            2 * JOINT_COPY_BYTES_MAX,
        );
        assert_eq!(slice_count(&outbox), 1);
        assert_eq!(outbox.take_copied(), 2 * JOINT_COPY_BYTES_MAX);
        assert_eq!(outbox.take_copied(), 0);
        let chunk = large(2);
        let address = chunk.as_ptr();
        outbox.push_message(MessageKind::Binary, [chunk.clone()], chunk.len());
        assert_eq!(
            slice_count(&outbox),
            2,
            "header and what was before it, then the payload"
        );
        assert_eq!(outbox.take_copied(), 0);
        let mut addresses = Vec::new();
        outbox.unsent(usize::MAX, |slice| addresses.push(slice.as_ptr()));
        assert_eq!(addresses[1], address);
    }

    #[test]
    fn sending_goes_on_at_every_byte() {
        let mut outbox = Outbox::default();
        outbox.push_message(MessageKind::Text, [large(1)], JOINT_COPY_BYTES_MAX + 1);
        outbox.push_message(MessageKind::Text, [Chunk::from(b"abc".to_vec())], 3);
        let expected = all(&outbox);
        for sent in 1..=expected.len() {
            assert_eq!(outbox.advance(1), sent == expected.len());
            assert_eq!(all(&outbox), expected[sent..]);
        }
        assert_eq!(
            outbox.bytes(),
            expected.len(),
            "what was queued, sent or not"
        );
    }

    #[test]
    fn detaching_gives_blocks_back_and_changes_no_byte() {
        let pool = BlockPool::new(1024);
        let mut outbox = Outbox::default();
        let pooled = Chunk::new(pool.grow(), 0..1024);
        outbox.push_message(
            MessageKind::Binary,
            [pooled, large(1)],
            1024 + JOINT_COPY_BYTES_MAX + 1,
        );
        outbox.advance(10);
        let (before, bytes) = (all(&outbox), outbox.bytes());
        assert_eq!(pool.free_count(), 0);
        assert_eq!(outbox.detach(), 1024, "only what is pooled");
        assert_eq!(pool.free_count(), 1);
        assert_eq!((all(&outbox), outbox.bytes()), (before, bytes));
        assert_eq!(outbox.detach(), 0);
    }

    #[test]
    fn a_cleared_outbox_is_as_new() {
        let mut outbox = Outbox::default();
        for joint_bytes in [10, OUTBOX_JOINT_BYTES_KEPT + 1] {
            outbox.open_message();
            outbox.push_bytes(&vec![0; joint_bytes]);
            outbox.push_chunk(large(1));
            outbox.advance(5);
            assert!(!outbox.is_empty());
            outbox.clear();
            assert!(outbox.is_empty());
            assert_eq!((outbox.bytes(), outbox.take_copied()), (0, 0));
            assert!(outbox.joint.capacity() <= OUTBOX_JOINT_BYTES_KEPT);
            outbox.push_bytes(b"next");
            assert_eq!(all(&outbox), b"next");
        }
    }

    #[derive(Clone, Debug)]
    enum Push {
        Bytes(usize),
        Chunk(usize),
        PooledChunk(usize),
        /// As a shard does it: the open message is closed first.
        Control(usize),
    }

    fn push() -> impl Strategy<Value = Push> {
        let length = || prop_oneof![0..40_usize, 250..260_usize, 1000..1100_usize];
        prop_oneof![
            length().prop_map(Push::Bytes),
            length().prop_map(Push::Chunk),
            length().prop_map(Push::PooledChunk),
            (0..CONTROL_BYTES_MAX).prop_map(Push::Control),
        ]
    }

    /// What the pushes come to on the wire, put together in the simplest way.
    fn expected(pushes: &[Push], is_gathering: bool) -> Vec<u8> {
        let mut wire = Vec::new();
        let mut gathered: Option<Vec<u8>> = None;
        let end_message = |gathered: &mut Option<Vec<u8>>, wire: &mut Vec<u8>| {
            if let Some(payload) = gathered.take() {
                let length = payload.len() as u64;
                wire.extend_from_slice(&websocket::header(MessageKind::Binary, true, length, None));
                wire.extend_from_slice(&payload);
            }
        };
        for (number, push) in (0..).zip(pushes) {
            match push {
                Push::Bytes(length) | Push::Chunk(length) | Push::PooledChunk(length) => {
                    let payload = vec![number; *length];
                    if is_gathering {
                        gathered.get_or_insert_default().extend(payload);
                    } else {
                        gathered = Some(payload);
                        end_message(&mut gathered, &mut wire);
                    }
                }
                Push::Control(length) => {
                    end_message(&mut gathered, &mut wire);
                    wire.extend(control_frame(Control::Pong, &vec![number; *length], None));
                }
            }
        }
        end_message(&mut gathered, &mut wire);
        wire
    }

    fn filled(pushes: &[Push], is_gathering: bool) -> Outbox {
        let pool = BlockPool::new(2048);
        let mut outbox = Outbox::default();
        for (number, push) in (0..).zip(pushes) {
            let chunk = |length: usize| Chunk::from(vec![number; length]);
            let pooled = |length: usize| {
                let mut block: Rc<Block> = pool.grow();
                Rc::get_mut(&mut block)
                    .expect("it is new")
                    .bytes_mut()
                    .fill(number);
                Chunk::new(block, 5..5 + length)
            };
            let payload = match push {
                Push::Bytes(length) | Push::Chunk(length) => chunk(*length),
                Push::PooledChunk(length) => pooled(*length),
                Push::Control(length) => {
                    outbox.close_message();
                    outbox.push_bytes(&control_frame(Control::Pong, &chunk(*length), None));
                    continue;
                }
            };
            if !is_gathering {
                let length = payload.len();
                outbox.push_message(MessageKind::Binary, [payload], length);
                continue;
            }
            outbox.open_message();
            match push {
                Push::Bytes(_) => outbox.push_bytes(&payload),
                Push::Chunk(_) | Push::PooledChunk(_) | Push::Control(_) => {
                    outbox.push_chunk(payload);
                }
            }
        }
        outbox.close_message();
        outbox
    }

    proptest! {
        #[test]
        fn whatever_is_pushed_and_however_it_is_sent_the_bytes_are_the_same(
            pushes in vec(push(), 1..20),
            is_gathering: bool,
            steps in vec((1..6_usize, 1..700_usize, any::<bool>()), 1..200),
        ) {
            let mut outbox = filled(&pushes, is_gathering);
            let expected = expected(&pushes, is_gathering);
            prop_assert_eq!(outbox.bytes(), expected.len());
            let mut sent = 0;
            for (slices_max, bytes_max, is_detaching) in steps {
                if is_detaching {
                    outbox.detach();
                }
                let shown = unsent(&outbox, slices_max);
                prop_assert!(expected[sent..].starts_with(&shown));
                prop_assert!(sent == expected.len() || !shown.is_empty());
                // The kernel takes what it likes of what it is shown.
                let taken = shown.len().min(bytes_max);
                sent += taken;
                prop_assert_eq!(outbox.advance(taken), sent == expected.len());
            }
            prop_assert_eq!(all(&outbox), &expected[sent..]);
            prop_assert!(outbox.advance(expected.len() - sent));
        }
    }
}

//! Server-Sent Events as SignalR's clients read them (HTML Living Standard §9.2).
//!
//! An event carries text and has only the field `data`: parsers of older .NET clients know no other. A line feed in the text would end the
//! line that it stands in, so the text is written line by line; a client puts the lines together again.

/// The comment that a stream begins with. A client waits for it before it sends anything.
pub const PREAMBLE: &[u8] = b":\r\n";

/// What stands in front of each line of text. The blank belongs to it: older .NET clients insist.
const FIELD: &[u8] = b"data: ";
const LINE_END: &[u8] = b"\r\n";

/// Appends an event with this text. The line breaks in it arrive as line feeds.
pub fn write_event(text: &[u8], out: &mut Vec<u8>) {
    if !text.is_empty() {
        for line in text.split(|&byte| byte == b'\n') {
            write_line(line, out);
        }
    }
    out.extend_from_slice(LINE_END);
}

/// How many bytes an event of so many bytes of text takes, if the text is one line.
pub fn event_bytes(text_bytes: usize) -> usize {
    FIELD.len() + text_bytes + 2 * LINE_END.len()
}

fn write_line(line: &[u8], out: &mut Vec<u8>) {
    out.extend_from_slice(FIELD);
    out.extend_from_slice(line.strip_suffix(b"\r").unwrap_or(line));
    out.extend_from_slice(LINE_END);
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn event(text: &[u8]) -> Vec<u8> {
        let mut out = Vec::new();
        write_event(text, &mut out);
        out
    }

    #[test]
    fn the_preamble_is_a_comment() {
        assert_eq!(PREAMBLE, [0x3a, 0x0d, 0x0a]);
    }

    #[test]
    fn a_hub_message_is_one_line() {
        assert_eq!(event(b"{}\x1e"), b"data: {}\x1e\r\n\r\n");
        assert_eq!(event(b"{}\x1e").len(), event_bytes(3));
    }

    #[test]
    fn text_is_written_line_by_line() {
        let cases: [(&[u8], &[u8]); 8] = [
            (b"a\nb", b"data: a\r\ndata: b\r\n\r\n"),
            (b"a\r\nb", b"data: a\r\ndata: b\r\n\r\n"),
            (b"a\n\nb", b"data: a\r\ndata: \r\ndata: b\r\n\r\n"),
            (b"a\n", b"data: a\r\ndata: \r\n\r\n"),
            (b"a\r\n", b"data: a\r\ndata: \r\n\r\n"),
            (b"\n", b"data: \r\ndata: \r\n\r\n"),
            (b"a\xff\nb", b"data: a\xff\r\ndata: b\r\n\r\n"),
            (b"", b"\r\n"),
        ];
        for (text, expected) in cases {
            assert_eq!(event(text), expected, "{text:?}");
        }
    }

    /// As a browser reads it, cut down to what we write.
    fn read(stream: &[u8]) -> Vec<Vec<u8>> {
        let mut events = Vec::new();
        let mut lines: Vec<&[u8]> = Vec::new();
        let mut rest = stream;
        while let Some(end) = memchr::memmem::find(rest, LINE_END) {
            let (line, behind) = (&rest[..end], &rest[end + 2..]);
            match line {
                [] if lines.is_empty() => {}
                [] => events.push(std::mem::take(&mut lines).join(&b'\n')),
                line => lines.push(line.strip_prefix(FIELD).expect("a field we write")),
            }
            rest = behind;
        }
        assert!(rest.is_empty() && lines.is_empty(), "an event is whole");
        events
    }

    proptest! {
        #[test]
        fn events_arrive_one_by_one_as_they_were(texts in prop::collection::vec("[a-z{}\":,\n\u{e9}\u{1e}]{1,30}", 0..8)) {
            let mut stream = Vec::new();
            for text in &texts {
                write_event(text.as_bytes(), &mut stream);
            }
            let expected: Vec<Vec<u8>> = texts.into_iter().map(String::into_bytes).collect();
            prop_assert_eq!(read(&stream), expected);
        }
    }
}

//! Every message that is known byte by byte.

use super::notation::notation;
use super::{Framed, hex};
use crate::protocol::service::{decode, decode_whole};

#[test]
fn published_messages_are_read_and_written() {
    let mut count = 0;
    for [usage, name, message, meaning] in rows(include_str!("published.tsv")) {
        let message = hex(message);
        let read = decode_whole(&message).unwrap_or_else(|error| panic!("{name}: {error}"));
        assert_eq!(notation(&read, |payload| payload), meaning, "{name}");
        match usage {
            "both" => assert_eq!(Framed::of(&read).body(), message, "{name}"),
            "read" => assert_eq!(
                notation(&Framed::of(&read).read(), |payload| payload),
                meaning,
                "{name}"
            ),
            other => panic!("{name}: {other} is no use"),
        }
        count += 1;
    }
    assert_eq!(count, 123);
}

#[test]
fn recorded_messages_are_read_and_written() {
    let mut count = 0;
    for [sender, name, message, meaning] in rows(include_str!("recorded.tsv")) {
        assert!(
            matches!(sender, "app" | "service"),
            "{name}: {sender} sends nothing"
        );
        assert_framed(name, &hex(message), meaning);
        count += 1;
    }
    assert_eq!(count, 96);
}

#[test]
fn derived_messages_are_read_and_written() {
    let mut count = 0;
    for [name, message, meaning] in rows(include_str!("derived.tsv")) {
        assert_framed(name, &hex(message), meaning);
        count += 1;
    }
    assert_eq!(count, 20);
}

/// What holds for a message with its length prefix: it means this, also cut anywhere in two, and is written so.
fn assert_framed(name: &str, message: &[u8], meaning: &str) {
    let framed = Framed(message.to_vec());
    let body = framed.body();
    let read = framed.read();
    assert_eq!(notation(&read, |payload| payload), meaning, "{name}");
    assert_eq!(Framed::of(&read).0, message, "{name}");
    for at in 0..=body.len() {
        let (left, right) = body.split_at(at);
        let read =
            decode(&[left, right]).unwrap_or_else(|error| panic!("{name}, cut at {at}: {error}"));
        assert_eq!(
            notation(&read, |range| &body[range.clone()]),
            meaning,
            "{name}, cut at {at}"
        );
    }
}

fn rows<const COLUMNS: usize>(file: &str) -> impl Iterator<Item = [&str; COLUMNS]> {
    file.lines()
        .filter(|line| !line.starts_with('#'))
        .map(|line| {
            let columns: Vec<_> = line.split('\t').collect();
            columns
                .try_into()
                .unwrap_or_else(|_| panic!("{line} has not {COLUMNS} columns"))
        })
}

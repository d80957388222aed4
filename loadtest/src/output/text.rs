//! Text on a terminal: colour, columns and lines that are not too long.
//!
//! A character is taken to be one column wide, which holds for all that is printed here.

use std::io::{IsTerminal as _, stdout};

/// Columns where nothing tells how many there are.
const COLUMNS_ELSEWHERE: usize = 140;

/// Fewer columns than these are not worth the trouble.
const COLUMNS_MIN: usize = 40;

/// Columns of standard output.
pub(crate) fn columns() -> usize {
    let size = rustix::termios::tcgetwinsize(stdout()).ok();
    let columns = size.map_or(0, |size| usize::from(size.ws_col));
    if columns == 0 {
        COLUMNS_ELSEWHERE
    } else {
        columns.max(COLUMNS_MIN)
    }
}

/// Whether there is colour.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Paint {
    Plain,
    Coloured,
}

/// What colour says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Colour {
    /// Better than asked for.
    Good,
    Fair,
    Doubtful,
    Bad,
    /// Of less weight than the rest.
    Dim,
    Bold,
}

impl Paint {
    /// Colour on a terminal, unless `NO_COLOR` asks for none (no-color.org).
    pub(crate) fn of_stdout() -> Self {
        let is_unwanted = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
        if stdout().is_terminal() && !is_unwanted {
            Self::Coloured
        } else {
            Self::Plain
        }
    }

    /// `text` in that colour, if there is any.
    pub(crate) fn paint(self, colour: Colour, text: &str) -> String {
        if self == Self::Plain || text.trim().is_empty() {
            return text.to_owned();
        }
        let code = match colour {
            Colour::Good => "1;32",
            Colour::Fair => "32",
            Colour::Doubtful => "33",
            Colour::Bad => "1;31",
            Colour::Dim => "2",
            Colour::Bold => "1",
        };
        format!("\u{1b}[{code}m{text}\u{1b}[0m")
    }
}

/// Columns that `text` takes.
pub(crate) fn width(text: &str) -> usize {
    text.chars().count()
}

/// `text` with spaces behind it, `columns` wide.
pub(crate) fn left(text: &str, columns: usize) -> String {
    format!("{text:<columns$}")
}

/// `text` with spaces before it, `columns` wide.
pub(crate) fn right(text: &str, columns: usize) -> String {
    format!("{text:>columns$}")
}

/// Breaks `text` between words into lines of at most `columns`. A longer word keeps a line of its own.
pub(crate) fn wrap(text: &str, columns: usize) -> Vec<String> {
    fill(text.split_whitespace(), " ", columns)
}

/// Joins `parts` by ` · ` into lines of at most `columns`; a part that is too long for one is broken between words.
pub(crate) fn flow(parts: &[String], columns: usize) -> Vec<String> {
    let pieces: Vec<String> = parts.iter().flat_map(|part| wrap(part, columns)).collect();
    fill(pieces.iter().map(String::as_str), " · ", columns)
}

fn fill<'a>(pieces: impl Iterator<Item = &'a str>, separator: &str, columns: usize) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    for piece in pieces {
        match lines.last_mut() {
            Some(line) if width(line) + width(separator) + width(piece) <= columns => {
                line.push_str(separator);
                line.push_str(piece);
            }
            _ => lines.push(piece.to_owned()),
        }
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_broken_between_words() {
        assert_eq!(wrap("one two three", 7), ["one two", "three"]);
        assert_eq!(
            wrap("incomprehensible word", 4),
            ["incomprehensible", "word"]
        );
        assert_eq!(wrap("", 4), [""; 0]);
        let parts = ["a b".to_owned(), "c d".to_owned(), "e f".to_owned()];
        assert_eq!(flow(&parts, 9), ["a b · c d", "e f"]);
    }

    #[test]
    fn columns_are_characters() {
        assert_eq!(left("µs", 4), "µs  ");
        assert_eq!(right("µs", 4), "  µs");
        assert_eq!(width("●●○"), 3);
    }

    #[test]
    fn without_colour_text_is_left_alone() {
        assert_eq!(Paint::Plain.paint(Colour::Bad, "x"), "x");
        assert_eq!(
            Paint::Coloured.paint(Colour::Bad, "x"),
            "\u{1b}[1;31mx\u{1b}[0m"
        );
        assert_eq!(Paint::Coloured.paint(Colour::Bad, "  "), "  ");
    }
}

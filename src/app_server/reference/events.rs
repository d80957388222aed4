//! What happens at the reference app server, as lines on standard output: one JSON object each, for tests and scripts to read.

use std::io::Write as _;
use std::time::{SystemTime, UNIX_EPOCH};

use serde_json::{Map, Value};

/// Writes events, or does not.
#[derive(Clone, Copy, Debug, Default)]
pub struct Events {
    is_on: bool,
}

impl Events {
    /// Writes every event.
    pub fn on() -> Self {
        Self { is_on: true }
    }

    /// Writes one: `t` is the time in milliseconds since 1970, `event` its name, and the members follow.
    pub(super) fn write<'a>(self, name: &str, members: impl IntoIterator<Item = (&'a str, Value)>) {
        if !self.is_on {
            return;
        }
        let since = SystemTime::now().duration_since(UNIX_EPOCH);
        let time = since.map_or(0, |since| since.as_millis() as u64);
        let mut line = Map::new();
        line.insert("t".to_owned(), time.into());
        line.insert("event".to_owned(), name.into());
        line.extend(
            members
                .into_iter()
                .map(|(key, value)| (key.to_owned(), value)),
        );
        // Whoever has closed the other end does not want to know.
        let _ = writeln!(std::io::stdout().lock(), "{}", Value::Object(line));
    }
}

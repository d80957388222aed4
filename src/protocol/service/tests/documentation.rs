//! The table of what becomes of each message names every message, and nothing that is not there.

use std::path::Path;

use crate::protocol::service::MessageType;

#[test]
fn every_type_has_its_row() {
    let rows: Vec<(String, String)> = rows()
        .into_iter()
        .map(|row| (row.number, row.name))
        .collect();
    let types = MessageType::ALL.iter();
    let expected: Vec<(String, String)> = types
        .map(|kind| (kind.number().to_string(), format!("`{kind}`")))
        .collect();
    assert_eq!(rows, expected);
}

#[test]
fn every_row_says_how_a_message_is_handled_and_tested() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let exists = |path: String| root.join(path).exists();
    for row in rows() {
        assert!(["in", "out", "both"].contains(&&*row.direction), "{row:?}");
        let handlers = names(&row.handled_by);
        let tests = names(&row.tested_by);
        assert!(!tests.is_empty(), "{row:?}");
        for name in handlers {
            assert!(
                exists(format!("src/routing/{name}.rs")),
                "{name} of {row:?}"
            );
        }
        for name in tests {
            let places = match name.strip_prefix("service::tests::") {
                Some(name) => vec![format!("src/protocol/service/tests/{name}.rs")],
                None => vec![
                    format!("src/routing/tests/{name}.rs"),
                    format!("src/routing/tests/{name}/mod.rs"),
                    format!("tests/data_plane/{name}.rs"),
                ],
            };
            assert!(places.into_iter().any(exists), "{name} of {row:?}");
        }
    }
}

#[derive(Debug)]
struct Row {
    number: String,
    name: String,
    direction: String,
    handled_by: String,
    tested_by: String,
}

/// The rows that begin with a number.
fn rows() -> Vec<Row> {
    let lines = include_str!("../mod.rs").lines();
    let rows = lines.filter_map(|line| {
        let cells = line.strip_prefix("//! |")?.strip_suffix('|')?;
        let cells: Vec<&str> = cells.split('|').map(str::trim).collect();
        let [number, name, direction, handled_by, tested_by] = cells.as_slice() else {
            return None;
        };
        number.parse::<u32>().ok()?;
        Some(Row {
            number: (*number).into(),
            name: (*name).into(),
            direction: (*direction).into(),
            handled_by: (*handled_by).into(),
            tested_by: (*tested_by).into(),
        })
    });
    rows.collect()
}

/// What stands in backticks.
fn names(cell: &str) -> Vec<&str> {
    cell.split('`').skip(1).step_by(2).collect()
}

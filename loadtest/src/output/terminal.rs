//! The table on a terminal.
//!
//! Each row takes a line with its figure and what that is worth, and below it, less bright, how it came about and what others reach.
//! Where the lines would be too long, the figure moves below its label too; nothing is left out at any width.

use crate::output::number::{duration, grouped, memory, percent, plain, ratio, short};
use crate::output::runs::rates;
use crate::output::text::{Colour, Paint, flow, left, right, width, wrap};
use crate::output::verdict::Spread;
use crate::results::{Head, Report, Row, Run, Verdict};

/// Columns between two others.
const GAP: &str = "  ";

/// A label that got fewer columns than these would be hard to read.
const LABEL_MIN: usize = 26;

/// Columns by which the second line of a row is moved in.
const INDENT: &str = "    ";

/// Marks a rate that comes from CPU time per message.
const STAR: &str = "*";

/// Marks a ratio to a floor that was not busy.
pub(crate) const DAGGER: &str = "†";

/// What that means.
pub(crate) const DAGGER_NOTE: &str = "† The floor's core was less than 95 % busy. With more to do it would cost less per message, so the ratio may be too good.";

const HEADINGS: [&str; Cells::COUNT] = [
    "median",
    "min–max",
    "unit",
    "verdict",
    "must / target / stretch",
    "÷ floor",
];

/// The whole report in at most `columns`: head, rows and notes.
pub(crate) fn table(report: &Report, columns: usize, paint: Paint) -> String {
    let mut lines = head(&report.head, columns, paint);
    lines.push(String::new());
    let rows: Vec<(&Row, Cells)> = report
        .rows
        .iter()
        .map(|row| (row, Cells::of(row)))
        .collect();
    let widths = Cells::widths(rows.iter().map(|(_, cells)| cells));
    let taken: usize = widths.iter().map(|width| width + GAP.len()).sum();
    let labels = rows.iter().map(|(row, _)| width(&row.label)).max();
    let room = columns.saturating_sub(taken).min(labels.unwrap_or(0));
    let is_wide = room >= LABEL_MIN.min(labels.unwrap_or(0));
    if is_wide {
        let headings = Cells(HEADINGS.map(str::to_owned)).line(widths);
        let line = format!("{}{headings}", left("", room));
        lines.push(paint.paint(Colour::Dim, line.trim_end()));
    }
    for (row, cells) in rows {
        if is_wide {
            lines.extend(wide(row, &cells, room, widths, paint));
        } else {
            lines.extend(narrow(row, &cells, columns, paint));
        }
        let room = columns.saturating_sub(INDENT.len());
        for line in flow(&circumstances(row, report), room) {
            lines.push(format!("{INDENT}{}", paint.paint(Colour::Dim, &line)));
        }
    }
    lines.extend(notes(report, columns));
    lines.join("\n") + "\n"
}

/// What a row looks like in columns.
struct Cells([String; Self::COUNT]);

impl Cells {
    const COUNT: usize = 6;
    const VERDICT: usize = 3;

    fn of(row: &Row) -> Self {
        let judgement = row.judgement();
        let verdict =
            judgement.map_or_else(String::new, |word| format!("{} {word}", row.verdict.sign()));
        let star = if row.is_from_cpu_time() { STAR } else { "" };
        let value = row.value.map_or_else(|| "–".to_owned(), short);
        Self([
            format!("{value}{star}"),
            range(row).unwrap_or_default(),
            row.unit.clone(),
            verdict,
            marks(row),
            floor_ratio(row),
        ])
    }

    /// How wide the columns have to be.
    fn widths<'a>(all: impl Iterator<Item = &'a Self>) -> [usize; Self::COUNT] {
        let mut widths = HEADINGS.map(width);
        for cells in all {
            for (widest, cell) in widths.iter_mut().zip(&cells.0) {
                *widest = width(cell).max(*widest);
            }
        }
        widths
    }

    /// The cells side by side: numbers to the right, text to the left.
    fn line(&self, widths: [usize; Self::COUNT]) -> String {
        self.padded(widths).concat()
    }

    fn padded(&self, widths: [usize; Self::COUNT]) -> [String; Self::COUNT] {
        let [value, range, unit, verdict, marks, floor] = &self.0;
        let [
            value_width,
            range_width,
            unit_width,
            verdict_width,
            marks_width,
            floor_width,
        ] = widths;
        let cells = [
            right(value, value_width),
            left(range, range_width),
            left(unit, unit_width),
            left(verdict, verdict_width),
            left(marks, marks_width),
            right(floor, floor_width),
        ];
        cells.map(|cell| format!("{GAP}{cell}"))
    }
}

/// A row whose label and cells stand side by side. A long label goes on below.
fn wide(
    row: &Row,
    cells: &Cells,
    room: usize,
    widths: [usize; Cells::COUNT],
    paint: Paint,
) -> Vec<String> {
    let label = wrap(&row.label, room);
    let mut lines = Vec::with_capacity(label.len());
    for (number, label) in label.iter().enumerate() {
        if number > 0 {
            lines.push(label.clone());
            continue;
        }
        let mut cells = cells.padded(widths);
        if let Some(verdict) = cells.get_mut(Cells::VERDICT) {
            *verdict = paint.paint(colour(row.verdict), verdict);
        }
        let line = format!("{}{}", left(label, room), cells.concat());
        lines.push(line.trim_end().to_owned());
    }
    lines
}

/// A row whose cells stand below its label.
fn narrow(row: &Row, cells: &Cells, columns: usize, paint: Paint) -> Vec<String> {
    let label = wrap(&row.label, columns);
    let mut lines: Vec<String> = label
        .iter()
        .map(|line| paint.paint(Colour::Bold, line))
        .collect();
    let [value, range, unit, verdict, marks, floor] = &cells.0;
    let mut parts = vec![joined(&[value, unit]), range.clone(), verdict.clone()];
    if !marks.is_empty() {
        parts.push(format!("must / target / stretch {marks}"));
    }
    if !floor.is_empty() {
        parts.push(format!("÷ floor {floor}"));
    }
    parts.retain(|part| !part.is_empty());
    for line in flow(&parts, columns.saturating_sub(GAP.len())) {
        // The verdict is what the eye looks for, so it has its colour here too.
        let coloured = paint.paint(colour(row.verdict), verdict);
        let line = if verdict.is_empty() {
            line
        } else {
            line.replacen(verdict.as_str(), &coloured, 1)
        };
        lines.push(format!("{GAP}{line}"));
    }
    lines
}

/// How the figure came about, and what others reach.
fn circumstances(row: &Row, report: &Report) -> Vec<String> {
    let mut parts = Vec::new();
    if let Some(run) = own_run(report, row) {
        parts.push(format!("{} clients", grouped(f64::from(run.clients))));
        if run.payload_bytes > 0 {
            parts.push(format!("{} bytes", grouped(f64::from(run.payload_bytes))));
        }
        parts.push(format!("{} server connections", run.server_connections));
        parts.extend(rate(run));
    }
    parts.extend(samples(row));
    if let Some(busy) = row.service_busy {
        parts.push(format!("service {} busy", percent(busy)));
    }
    if let Some(busy) = row.floor_busy {
        parts.push(format!("floor {} busy", percent(busy)));
    }
    if let Some(run) = own_run(report, row)
        && let Some(frames) = run.figures.get("frames_per_send")
    {
        parts.push(format!("{} frames per send", short(*frames)));
    }
    for (peer, figure) in &row.peers {
        let ours = row.value.filter(|value| *value > 0.0);
        let compared = ours.map_or_else(String::new, |ours| format!(" ({})", ratio(figure / ours)));
        parts.push(format!("{peer} {}{compared}", short(*figure)));
    }
    parts.extend(row.note.clone());
    parts
}

/// What has to be known to read the table.
fn notes(report: &Report, columns: usize) -> Vec<String> {
    let mut notes = Vec::new();
    if report.rows.iter().any(Row::is_from_cpu_time) {
        notes.push(
            "* As CPU per message: the service's core was less than 95 % busy, so the rate is what its CPU time per message allows."
                .to_owned(),
        );
    }
    if report.rows.iter().any(Row::is_floor_idle) {
        notes.push(DAGGER_NOTE.to_owned());
    }
    if report.rows.iter().any(|row| !row.peers.is_empty()) {
        notes.push("In brackets: the figure of a peer divided by ours.".to_owned());
    }
    notes.extend(report.head.notes.iter().cloned());
    let mut lines = Vec::new();
    if !notes.is_empty() {
        lines.push(String::new());
    }
    lines.extend(notes.iter().flat_map(|note| wrap(note, columns)));
    lines
}

/// Where, when and of what.
pub(crate) fn head(head: &Head, columns: usize, paint: Paint) -> Vec<String> {
    let title = format!(
        "hubring {}, commit {}: {}",
        head.version, head.commit, head.mode
    );
    let mut lines = wrap(&title, columns);
    for line in &mut lines {
        *line = paint.paint(Colour::Bold, line);
    }
    let names = facts(head).map(|(name, _)| width(name));
    let indent = names.into_iter().max().unwrap_or(0) + GAP.len();
    for (name, parts) in facts(head) {
        let mut name = name;
        for line in flow(&parts, columns.saturating_sub(indent)) {
            lines.push(paint.paint(Colour::Dim, &left(name, indent)) + &line);
            name = "";
        }
    }
    lines
}

/// The head without its title, in groups with their names. A group may be empty.
pub(crate) fn facts(head: &Head) -> [(&'static str, Vec<String>); 4] {
    let machine = vec![
        format!("Linux {}", head.kernel),
        head.cpu.clone(),
        format!("{} cores", head.cores),
        memory(head.memory_bytes),
    ];
    let busy = |share: Option<f64>| {
        share.map_or_else(String::new, |share| format!(", {} busy", percent(share)))
    };
    // Of a service that somebody else has started nothing of this is known.
    let service = if head.service_cores.is_empty() {
        "service not started here".to_owned()
    } else {
        format!(
            "service on core {}{}",
            cores(&head.service_cores),
            busy(head.service_busy)
        )
    };
    let utilisation = vec![
        service,
        format!(
            "load generator on core {}{}",
            cores(&head.own_cores),
            busy(head.own_busy)
        ),
    ];
    let time = vec![
        head.started.clone(),
        format!("took {}", duration(head.seconds)),
    ];
    [
        ("Machine", machine),
        ("Utilisation", utilisation),
        ("Time", time),
        ("Peers", peers(head)),
    ]
}

fn peers(head: &Head) -> Vec<String> {
    let peers = head.peers.iter();
    peers
        .map(|(name, version)| joined(&[name, version]))
        .collect()
}

fn cores(cores: &[usize]) -> String {
    let names: Vec<String> = cores.iter().map(usize::to_string).collect();
    names.join(", ")
}

/// The run of the service itself that a row was made from.
pub(crate) fn own_run<'a>(report: &'a Report, row: &Row) -> Option<&'a Run> {
    let name = row.run.as_ref().unwrap_or(&row.row);
    let mut runs = report.runs.iter();
    runs.find(|run| run.name == *name && run.contestant == "hubring")
}

/// `must / target / stretch`, as far as there are such marks.
pub(crate) fn marks(row: &Row) -> String {
    if row.marks().are_none() {
        return String::new();
    }
    let mark = |mark: Option<f64>| mark.map_or_else(|| "–".to_owned(), plain);
    [row.must, row.target, row.stretch].map(mark).join(" / ")
}

/// Messages a second: as many as were asked for in an open loop, otherwise as many as there were.
pub(crate) fn rate(run: &Run) -> Option<String> {
    let rate = Spread::of(&rates(run))?.median;
    (rate > 0.0).then(|| format!("{} a second", short(rate)))
}

/// What the floor's price is to the row's, marked if that is in doubt.
pub(crate) fn floor_ratio(row: &Row) -> String {
    let dagger = if row.is_floor_idle() { DAGGER } else { "" };
    row.floor_ratio
        .map_or_else(String::new, |floor| format!("{}{dagger}", ratio(floor)))
}

/// How many samples the median is of. One alone is none.
pub(crate) fn samples(row: &Row) -> Option<String> {
    match row.samples.len() {
        0 => None,
        1 => Some("one sample".to_owned()),
        count => Some(format!("{count} samples")),
    }
}

/// From the least to the greatest sample, if they differ.
pub(crate) fn range(row: &Row) -> Option<String> {
    let (min, max) = (row.min?, row.max?);
    (min < max).then(|| format!("{}–{}", short(min), short(max)))
}

fn colour(verdict: Verdict) -> Colour {
    match verdict {
        Verdict::Stretch => Colour::Good,
        Verdict::Target => Colour::Fair,
        Verdict::Must => Colour::Doubtful,
        Verdict::BelowMust => Colour::Bad,
        Verdict::Missing => Colour::Dim,
    }
}

fn joined(parts: &[&str]) -> String {
    parts.join(" ").trim().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::output::sample;

    #[test]
    fn a_wide_terminal_shows_a_row_in_one_line_and_its_circumstances_below() {
        let table = table(&sample::report(), 140, Paint::Plain);
        let lines: Vec<&str> = table.lines().collect();
        assert_eq!(lines[0], "hubring 0.1.0, commit a379861: quick");
        let echo = lines
            .iter()
            .position(|line| line.starts_with("Echo, 2 KB"))
            .unwrap();
        assert_eq!(
            lines[echo].split_whitespace().collect::<Vec<_>>().join(" "),
            "Echo, 2 KB, 1,000 clients, 5 server connections 5.61 5.40–5.93 µs CPU/echo ●●○ target 8 / 6.5 / 5 1.18×"
        );
        assert_eq!(
            [lines[echo + 1].trim(), lines[echo + 2].trim()],
            [
                "1,000 clients · 2,048 bytes · 5 server connections · 178 k a second · 5 samples · service 99 % busy · 7.82 frames per send",
                "haproxy 9.31 (1.66×) · tokio relay 14.2 (2.53×)"
            ]
        );
    }

    #[test]
    fn no_line_is_longer_than_the_terminal_is_wide_and_nothing_is_lost() {
        let report = sample::report();
        let words = |text: &str| {
            let text = text.replace("must / target / stretch", "");
            let mut words: Vec<String> = text
                .split_whitespace()
                .filter(|word| *word != "·" && word.chars().any(char::is_alphanumeric))
                .map(str::to_owned)
                .collect();
            words.sort();
            words
        };
        let wide = words(&table(&report, 240, Paint::Plain));
        for columns in [50, 72, 80, 100, 120, 132, 140, 200] {
            let table = table(&report, columns, Paint::Plain);
            for line in table.lines() {
                assert!(width(line) <= columns, "{columns}: {line}");
            }
            let words = words(&table);
            for word in &wide {
                let is_heading =
                    ["median", "min–max", "unit", "verdict", "floor"].contains(&word.as_str());
                assert!(is_heading || words.contains(word), "{columns}: {word}");
            }
        }
    }

    #[test]
    fn colour_adds_nothing_but_colour() {
        let report = sample::report();
        for columns in [60, 140] {
            let mut coloured = table(&report, columns, Paint::Coloured);
            assert!(coloured.contains('\u{1b}'));
            for code in ["1;32", "32", "33", "1;31", "2", "1", "0"] {
                coloured = coloured.replace(&format!("\u{1b}[{code}m"), "");
            }
            assert_eq!(coloured, table(&report, columns, Paint::Plain));
        }
    }

    #[test]
    fn a_rate_that_was_not_seen_is_marked() {
        let table = table(&sample::report(), 140, Paint::Plain);
        assert!(table.contains("142 k*"), "{table}");
        assert!(table.contains("As CPU per message"), "{table}");
        assert!(table.contains("··· missing"), "{table}");
    }

    #[test]
    fn an_empty_report_has_a_head() {
        let report = Report {
            head: Head::default(),
            rows: Vec::new(),
            runs: Vec::new(),
        };
        assert!(table(&report, 80, Paint::Plain).starts_with("hubring"));
    }
}

//! The table of the page: each row with its verdict, and its figure drawn against its marks.

use crate::output::html::bars::spread_line;
use crate::output::html::escape;
use crate::output::number::{grouped, percent, ratio, short};
use crate::output::terminal::{DAGGER_NOTE, floor_ratio, marks, own_run, range, rate, samples};
use crate::results::{Better, Report, Row, Verdict};

/// Drawn height of a bullet bar.
const HEIGHT: f64 = 22.0;

/// A figure farther off than this many times the farthest mark is drawn at the edge.
const BEYOND_MAX: f64 = 2.5;

/// The whole table.
pub(crate) fn table(report: &Report) -> String {
    if report.rows.is_empty() {
        return String::new();
    }
    let rows: String = report
        .rows
        .iter()
        .map(|row| table_row(row, report))
        .collect();
    let star = if report.rows.iter().any(Row::is_from_cpu_time) {
        " A figure with a star is a rate as CPU per message: the service's core was less than 95 % busy, and the rate is what its CPU time per message allows."
    } else {
        ""
    };
    let dagger = if report.rows.iter().any(Row::is_floor_idle) {
        format!(" {DAGGER_NOTE}")
    } else {
        String::new()
    };
    format!(
        "<section><h2>The table</h2><table class=\"rows\" role=\"table\"><thead role=\"rowgroup\"><tr role=\"row\"><th role=\"columnheader\" scope=\"col\">What</th><th role=\"columnheader\" scope=\"col\" class=\"number\">Median</th><th role=\"columnheader\" scope=\"col\">Verdict</th><th role=\"columnheader\" scope=\"col\">Must / target / stretch</th><th role=\"columnheader\" scope=\"col\" class=\"number\">÷ floor</th><th role=\"columnheader\" scope=\"col\">Peers, and ÷ ours</th></tr></thead><tbody role=\"rowgroup\">{rows}</tbody></table><p class=\"note\">Bars begin at zero. The bluer the ground, the better the mark that is reached there; orange is below must. The point is the median, the line through it goes from the least to the greatest sample.{star}{dagger}</p></section>"
    )
}

fn table_row(row: &Row, report: &Report) -> String {
    let floor = floor_ratio(row);
    format!(
        "<tr role=\"row\"><th role=\"rowheader\" scope=\"row\">{}{}</th><td role=\"cell\" class=\"number\" data-label=\"Median\">{}</td><td role=\"cell\" data-label=\"Verdict\">{}</td><td role=\"cell\" data-label=\"Marks\" class=\"against\">{}</td><td role=\"cell\" class=\"number\" data-label=\"÷ floor\">{floor}</td><td role=\"cell\" data-label=\"Peers\">{}</td></tr>",
        escape(&row.label),
        circumstances(row, report),
        figure(row),
        verdict(row),
        against(row),
        peers(row)
    )
}

fn circumstances(row: &Row, report: &Report) -> String {
    let mut parts = Vec::new();
    if let Some(run) = own_run(report, row) {
        parts.push(format!("{} clients", grouped(f64::from(run.clients))));
        if run.payload_bytes > 0 {
            parts.push(format!("{} bytes", grouped(f64::from(run.payload_bytes))));
        }
        parts.push(format!("{} server connections", run.server_connections));
        parts.extend(rate(run));
        if let Some(frames) = run.figures.get("frames_per_send") {
            parts.push(format!("{} frames per send", short(*frames)));
        }
    }
    parts.extend(samples(row));
    if let Some(busy) = row.service_busy {
        parts.push(format!("service {} busy", percent(busy)));
    }
    if let Some(busy) = row.floor_busy {
        parts.push(format!("floor {} busy", percent(busy)));
    }
    // A figure stays with its unit.
    let mut parts: Vec<String> = parts
        .iter()
        .map(|part| part.replace(' ', "\u{a0}"))
        .collect();
    parts.extend(row.note.clone());
    if parts.is_empty() {
        return String::new();
    }
    format!("<small>{}</small>", escape(&parts.join(" · ")))
}

fn figure(row: &Row) -> String {
    let Some(value) = row.value else {
        return "–".to_owned();
    };
    let star = if row.is_from_cpu_time() { "*" } else { "" };
    let range = range(row).map_or_else(String::new, |range| format!("<small>{range}</small>"));
    format!(
        "<div><strong>{}{star}</strong> <span class=\"unit\">{}</span>{range}</div>",
        short(value),
        escape(&row.unit)
    )
}

/// The verdict as a chip; nothing where there was nothing to reach.
fn verdict(row: &Row) -> String {
    let judgement = row.judgement();
    judgement.map_or_else(String::new, |word| chip(row.verdict, word))
}

/// A coloured label.
pub(crate) fn chip(verdict: Verdict, text: &str) -> String {
    let class = match verdict {
        Verdict::Stretch => "stretch",
        Verdict::Target => "target",
        Verdict::Must => "must",
        Verdict::BelowMust => "below",
        Verdict::Missing => "missing",
    };
    format!(
        "<span class=\"chip {class}\"><span aria-hidden=\"true\">{}</span> {}</span>",
        verdict.sign(),
        escape(text)
    )
}

/// The marks, and the figure drawn against them unless they are all zero.
fn against(row: &Row) -> String {
    if row.marks().are_none() {
        return String::new();
    }
    let sign = match row.better {
        Better::Less => "≤",
        Better::More => "≥",
    };
    let bullet = if farthest_mark(row) > 0.0 {
        bullet(row)
    } else {
        String::new()
    };
    format!("{bullet}<small>{sign} {}</small>", marks(row))
}

/// The figure over the ground of its marks.
fn bullet(row: &Row) -> String {
    let end = scale_end(row);
    let percent = |value: f64| (value / end * 100.0).clamp(0.0, 100.0);
    let mut svg = String::new();
    for (from, to, grade) in grounds(row, end) {
        svg += &ground(percent(from), percent(to), grade);
    }
    let middle = HEIGHT / 2.0;
    if let (Some(value), Some(min), Some(max)) = (row.value, row.min, row.max) {
        svg += &spread_line(percent(min), percent(max), middle);
        svg += &point(percent(value), middle);
    }
    let value = row.value.map_or_else(|| "not measured".to_owned(), short);
    format!(
        "<svg class=\"bullet\" width=\"100%\" height=\"{HEIGHT}\" role=\"img\"><title>{}: {} {}; must / target / stretch: {}</title>{svg}</svg>",
        escape(&row.label),
        escape(&value),
        escape(&row.unit),
        marks(row)
    )
}

fn ground(from: f64, to: f64, grade: u8) -> String {
    format!(
        "<rect class=\"ground grade{grade}\" x=\"{from:.2}%\" y=\"3\" width=\"{:.2}%\" height=\"{}\"/>",
        to - from,
        HEIGHT - 6.0
    )
}

/// Kept off the edges, where half of it would be cut off.
fn point(at: f64, middle: f64) -> String {
    let at = at.clamp(1.8, 98.2);
    format!("<circle class=\"point\" cx=\"{at:.2}%\" cy=\"{middle}\" r=\"4.5\"/>")
}

/// The figure at the right end.
fn scale_end(row: &Row) -> f64 {
    let farthest = farthest_mark(row);
    let value = row.max.or(row.value).unwrap_or(0.0);
    if farthest > 0.0 {
        (farthest * 1.2).max(value * 1.1).min(farthest * BEYOND_MAX)
    } else {
        (value * 1.2).max(1.0)
    }
}

fn farthest_mark(row: &Row) -> f64 {
    let marks = [row.must, row.target, row.stretch].into_iter().flatten();
    marks.fold(0.0, f64::max)
}

/// From where to where which grade is reached: 3 stretch, 2 target, 1 must, 0 less.
fn grounds(row: &Row, end: f64) -> Vec<(f64, f64, u8)> {
    let mut marks = [(row.stretch, 3), (row.target, 2), (row.must, 1)];
    if row.better == Better::More {
        marks.reverse();
    }
    let given = marks
        .into_iter()
        .filter_map(|(mark, grade)| Some((mark?.min(end), grade)));
    let given: Vec<(f64, u8)> = given.collect();
    let mut grounds = Vec::new();
    let mut from = 0.0;
    match row.better {
        // The best ground comes first, and each ends at its mark.
        Better::Less => {
            for (mark, grade) in given {
                grounds.push((from, mark, grade));
                from = mark;
            }
            grounds.push((from, end, 0));
        }
        // The worst comes first, and each begins at its mark.
        Better::More => {
            let mut reached = 0;
            for (mark, grade) in given {
                grounds.push((from, mark, reached));
                (from, reached) = (mark, grade);
            }
            grounds.push((from, end, reached));
        }
    }
    grounds.retain(|(from, to, _)| to > from);
    grounds
}

fn peers(row: &Row) -> String {
    if row.peers.is_empty() {
        return String::new();
    }
    let ours = row.value.filter(|value| *value > 0.0);
    let peer = |(name, figure): (&String, &f64)| {
        let compared = ours.map_or_else(String::new, |ours| {
            format!(" <span class=\"unit\">{}</span>", ratio(figure / ours))
        });
        format!("<li>{} {}{compared}</li>", escape(name), short(*figure))
    };
    let peers: String = row.peers.iter().map(peer).collect();
    format!("<ul class=\"peers\">{peers}</ul>")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::output::verdict::Marks;
    use crate::results::Head;

    fn row(better: Better, marks: [f64; 3], sample: f64) -> Row {
        let [must, target, stretch] = marks.map(Some);
        let marks = Marks {
            must,
            target,
            stretch,
        };
        Row::new("x", "X", "µs", better, marks).with_samples(vec![sample])
    }

    #[test]
    fn the_ground_shows_which_mark_is_reached_where() {
        let less = row(Better::Less, [8.0, 6.0, 5.0], 5.5);
        let expected = [(0.0, 5.0, 3), (5.0, 6.0, 2), (6.0, 8.0, 1), (8.0, 9.6, 0)];
        assert_eq!(grounds(&less, 9.6), expected);
        let more = row(Better::More, [100.0, 150.0, 200.0], 140.0);
        let expected = [
            (0.0, 100.0, 0),
            (100.0, 150.0, 1),
            (150.0, 200.0, 2),
            (200.0, 240.0, 3),
        ];
        assert_eq!(grounds(&more, 240.0), expected);
    }

    #[test]
    fn a_figure_far_off_does_not_squeeze_the_marks() {
        assert!(scale_end(&row(Better::Less, [8.0, 6.0, 5.0], 500.0)) <= 20.0);
        let zero = row(Better::Less, [0.0, 0.0, 0.0], 0.0);
        assert_eq!(against(&zero), "<small>≤ 0 / 0 / 0</small>");
    }

    #[test]
    fn names_are_escaped() {
        let mut row = row(Better::Less, [8.0, 6.0, 5.0], 5.5);
        row.label = "a <b> & \"c\"".to_owned();
        row.peers.insert("<script>".to_owned(), 1.0);
        let report = Report {
            head: Head::default(),
            rows: vec![row],
            runs: Vec::new(),
        };
        let html = table(&report);
        assert!(
            !html.contains("<b>") && !html.contains("<script>"),
            "{html}"
        );
    }
}

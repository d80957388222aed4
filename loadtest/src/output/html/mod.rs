//! The report as one page that needs nothing else: no script, no font, no picture from anywhere. It can be mailed, printed and read on
//! a telephone, in light and in dark.

mod bars;
mod chart;
mod plots;
mod rows;

use std::fs;
use std::path::Path;

use crate::error::LoadError;
use crate::output::azure_guide::{Comparison, Guide, comparisons};
use crate::output::number::{plain, ratio, short, time};
use crate::output::runs::{figure_label, series, settings};
use crate::output::terminal::facts;
use crate::output::verdict::Spread;
use crate::results::{Report, Run, Verdict};

/// How it looks.
const STYLE: &str = include_str!("report.css");

/// Writes the page to `path`.
pub(crate) fn write(report: &Report, path: &Path) -> Result<(), LoadError> {
    fs::write(path, page(report)).map_err(|source| LoadError::WriteReport {
        path: path.to_owned(),
        source,
    })
}

/// The whole page.
pub(crate) fn page(report: &Report) -> String {
    let sections = [
        head(report),
        rows::table(report),
        plots::cpu_section(report),
        plots::latency_section(report),
        plots::time_section(report),
        plots::memory_section(report),
        azure_section(report),
        notes(report),
        runs_section(report),
    ];
    format!(
        "<!DOCTYPE html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"/><meta name=\"viewport\" content=\"width=device-width, initial-scale=1\"/><meta name=\"color-scheme\" content=\"light dark\"/><title>hubring {}: {}</title><style>{STYLE}</style></head><body><main>{}</main></body></html>\n",
        escape(&report.head.commit),
        escape(&report.head.mode),
        sections.join("\n")
    )
}

/// `text` as it has to stand in HTML, between tags and in attributes.
pub(crate) fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            '\'' => escaped.push_str("&#39;"),
            other => escaped.push(other),
        }
    }
    escaped
}

fn head(report: &Report) -> String {
    let head = &report.head;
    let facts = facts(head);
    let given = facts.iter().filter(|(_, parts)| !parts.is_empty());
    let facts = given.map(|(name, parts)| {
        let parts: Vec<String> = parts.iter().map(|part| escape(part)).collect();
        format!("<dt>{name}</dt><dd>{}</dd>", parts.join(" · "))
    });
    let facts: Vec<String> = facts.collect();
    format!(
        "<header><h1>hubring {}, measured</h1><p class=\"lead\">Commit <code>{}</code>, {}</p><dl>{}</dl>{}</header>",
        escape(&head.version),
        escape(&head.commit),
        escape(&head.mode),
        facts.concat(),
        summary(report)
    )
}

/// How many rows have which verdict.
fn summary(report: &Report) -> String {
    let verdicts = [
        Verdict::Stretch,
        Verdict::Target,
        Verdict::Must,
        Verdict::BelowMust,
        Verdict::Missing,
    ];
    let judged = || {
        let rows = report.rows.iter();
        // Without a must, a figure that reaches nothing else has not been judged.
        rows.filter(|row| row.must.is_some() || row.verdict != Verdict::Must)
    };
    let chips = verdicts.into_iter().filter_map(|verdict| {
        let count = judged().filter(|row| row.verdict == verdict).count();
        (count > 0).then(|| rows::chip(verdict, &format!("{count} {}", verdict.word())))
    });
    let chips: Vec<String> = chips.collect();
    if chips.is_empty() {
        return String::new();
    }
    format!("<p class=\"summary\">{}</p>", chips.join(" "))
}

fn azure_section(report: &Report) -> String {
    let comparisons = comparisons(report);
    if comparisons.is_empty() {
        return String::new();
    }
    let rows: Vec<String> = comparisons.iter().map(azure_row).collect();
    format!(
        "<section><h2>Azure units replaced by one core</h2><p>The figures of Microsoft’s performance guide for Azure SignalR Service (2 KB messages, 99 % of them within a second) beside what one core carries here, by CPU time per message.</p><table class=\"plain\"><thead><tr><th scope=\"col\">2 KB messages</th><th scope=\"col\">Azure’s guide</th><th scope=\"col\" class=\"number\">One core of hubring</th><th scope=\"col\" class=\"number\">That is</th></tr></thead><tbody>{}</tbody></table></section>",
        rows.concat()
    )
}

fn azure_row(comparison: &Comparison) -> String {
    let unit = comparison.unit;
    let (guide, replaced) = match comparison.guide {
        Guide::PerUnit(rate) => (
            format!("{} {unit} per paid unit", plain(rate)),
            format!("<strong>{}</strong> units", plain(comparison.replaced())),
        ),
        Guide::AtMost { rate, units } => (
            format!(
                "{} {unit} with {units} units, no more with 100",
                plain(rate)
            ),
            format!("<strong>{}</strong> that", ratio(comparison.replaced())),
        ),
    };
    format!(
        "<tr><th scope=\"row\">{}</th><td>{guide}</td><td class=\"number\">{} {unit}</td><td class=\"number\">{replaced}</td></tr>",
        escape(comparison.what),
        short(comparison.ours)
    )
}

fn notes(report: &Report) -> String {
    let notes: Vec<String> = report
        .head
        .notes
        .iter()
        .map(|note| format!("<li>{}</li>", escape(note)))
        .collect();
    if notes.is_empty() {
        return String::new();
    }
    format!(
        "<section><h2>Notes</h2><ul>{}</ul></section>",
        notes.concat()
    )
}

/// All figures of all runs, folded away.
fn runs_section(report: &Report) -> String {
    if report.runs.is_empty() {
        return String::new();
    }
    let runs: Vec<String> = report
        .runs
        .iter()
        .map(|run| run_details(run, report))
        .collect();
    format!("<section><h2>Every run</h2>{}</section>", runs.concat())
}

fn run_details(run: &Run, report: &Report) -> String {
    let settings: Vec<String> = settings(run).iter().map(|part| escape(part)).collect();
    let spreads = series(run).into_iter().filter_map(|series| {
        let Spread { median, min, max } = Spread::of(&series.values)?;
        let range = format!("{}–{}", short(min), short(max));
        Some(details_row(&series.label, &short(median), &range))
    });
    let figures = run.figures.iter();
    let figures = figures.map(|(key, figure)| details_row(&figure_label(key), &short(*figure), ""));
    let latencies = run.latencies_us.iter();
    let latencies = latencies
        .map(|(percentile, us)| details_row(&format!("latency p{percentile}"), &time(*us), ""));
    let rows: String = spreads.chain(figures).chain(latencies).collect();
    format!(
        "<details><summary>{}: {}</summary><p class=\"note\">{}</p><table class=\"plain\"><thead><tr><th scope=\"col\">Figure</th><th scope=\"col\" class=\"number\">Median</th><th scope=\"col\" class=\"number\">Min–max</th></tr></thead><tbody>{rows}</tbody></table></details>",
        escape(&plots::title(report, &run.name)),
        escape(&run.contestant),
        settings.join(" · ")
    )
}

fn details_row(label: &str, median: &str, range: &str) -> String {
    format!(
        "<tr><th scope=\"row\">{}</th><td class=\"number\">{median}</td><td class=\"number\">{range}</td></tr>",
        escape(label)
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::output::sample;
    use crate::results::Head;

    /// Elements that have no end.
    const VOID: [&str; 1] = ["!DOCTYPE"];

    /// Fails unless each tag is ended, in the right order, and no attribute is left open.
    fn assert_well_formed(page: &str) {
        let mut open: Vec<&str> = Vec::new();
        let style_end = page.find("</style>").unwrap();
        let mut rest = page;
        while let Some(start) = rest.find('<') {
            // The style sheet is not HTML.
            let tag_end = rest[start..].find('>').expect("a tag ends") + start;
            let tag = &rest[start + 1..tag_end];
            assert!(!tag.contains('<'), "{tag}");
            assert_eq!(tag.matches('"').count() % 2, 0, "{tag}");
            let name = tag
                .trim_start_matches('/')
                .split([' ', '/'])
                .next()
                .unwrap();
            if let Some(name) = tag.strip_prefix('/') {
                assert_eq!(open.pop(), Some(name), "{tag}");
            } else if !tag.ends_with('/') && !VOID.contains(&name) {
                open.push(name);
            }
            rest = &rest[tag_end + 1..];
            if name == "style" && !tag.starts_with('/') {
                rest = &page[style_end..];
            }
        }
        assert!(open.is_empty(), "{open:?}");
    }

    #[test]
    fn the_page_is_well_formed_and_needs_nothing_else() {
        let page = page(&sample::report());
        assert_well_formed(&page);
        for outside in [
            "http:", "https:", "<script", "<link", "@import", "url(", " src=", " href=",
        ] {
            assert!(!page.contains(outside), "{outside}");
        }
        for fault in ["NaN", "inf", "<1.37>"] {
            assert!(!page.contains(fault), "{fault}");
        }
        // To look at in a browser.
        if let Ok(path) = std::env::var("HUBRING_SAMPLE_PAGE") {
            write(&sample::report(), path.as_ref()).unwrap();
        }
    }

    #[test]
    fn all_rows_and_sections_are_there() {
        let report = sample::report();
        let page = page(&report);
        for row in &report.rows {
            assert!(page.contains(&escape(&row.label)), "{}", row.label);
        }
        for section in [
            "The table",
            "CPU time per message",
            "Latency",
            "Over time",
            "Memory per client",
            "Azure units replaced by one core",
            "Notes",
            "Every run",
        ] {
            assert!(page.contains(&format!("<h2>{section}</h2>")), "{section}");
        }
    }

    #[test]
    fn every_drawing_says_what_it_shows() {
        let page = page(&sample::report());
        for drawing in page.split("role=\"img\">").skip(1) {
            assert!(drawing.starts_with("<title>"), "{}", &drawing[..80]);
        }
    }

    #[test]
    fn an_empty_report_is_a_page_too() {
        let report = Report {
            head: Head::default(),
            rows: Vec::new(),
            runs: vec![Run::default()],
        };
        assert_well_formed(&page(&report));
    }

    #[test]
    fn text_is_escaped() {
        assert_eq!(
            escape("<a b=\"c\" d='e'>&"),
            "&lt;a b=&quot;c&quot; d=&#39;e&#39;&gt;&amp;"
        );
    }
}

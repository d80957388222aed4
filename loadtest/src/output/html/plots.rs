//! What is drawn: CPU per message by contestant, latencies, figures over time, memory per client.

use crate::output::azure_guide::self_hosted;
use crate::output::html::bars::{self, Bar};
use crate::output::html::chart::{Axis, Chart, Line};
use crate::output::html::escape;
use crate::output::number::{grouped, plain, short, time};
use crate::output::runs::{cpu_us, is_saturating};
use crate::output::verdict::Spread;
use crate::results::{Report, Row, Run, Window};

/// Colours of the style sheet.
const COLOURS: usize = 8;

/// What a reference is called that is not of this report.
const REFERENCE: &str = "ASP.NET Core (elsewhere)";

/// Percentiles that have a tick.
const PERCENTILES: [f64; 5] = [50.0, 90.0, 99.0, 99.9, 99.99];

/// CPU time per message of all contestants, load by load.
pub(crate) fn cpu_section(report: &Report) -> String {
    let cards = names(report)
        .into_iter()
        .filter_map(|name| cpu_card(report, name));
    section(
        "CPU time per message",
        "Median over all windows of a run, with the least and the greatest. The floor is the same traffic between raw sockets without any protocol. Dashed: measured elsewhere, for comparison.",
        &cards.collect::<Vec<_>>(),
    )
}

/// Latency percentiles of the runs whose messages were sent on time, not when there was room. Of a single scenario, whatever it is.
pub(crate) fn latency_section(report: &Report) -> String {
    let charts = names(report)
        .into_iter()
        .filter_map(|name| latency_chart(report, name));
    let cards = charts.map(|chart| card(&chart.title, &[&chart]));
    let note = if report.runs.iter().any(is_on_time) {
        "From the time at which a message should have been sent, however late it was, until it arrived."
    } else {
        "From the time at which a message was sent, when an earlier one had arrived: it tells of the load more than of the service."
    };
    section("Latency", note, &cards.collect::<Vec<_>>())
}

/// Rate and CPU time of the runs in which the service set the pace. Of a single scenario, whoever did.
pub(crate) fn time_section(report: &Report) -> String {
    let cards = names(report)
        .into_iter()
        .filter_map(|name| time_card(report, name));
    let which = if is_single(report) {
        ""
    } else {
        "Runs in which the service's core was at least 95 % busy. "
    };
    let note =
        format!("{which}Contestants take turns, window by window, so each sees the same machine.");
    section("Over time", &note, &cards.collect::<Vec<_>>())
}

/// Memory per client of all who were measured.
pub(crate) fn memory_section(report: &Report) -> String {
    let is_memory = |row: &&Row| row.unit.starts_with("bytes") && row.value.is_some();
    let cards = report
        .rows
        .iter()
        .filter(is_memory)
        .map(|row| memory_card(report, row));
    section("Memory per client", "", &cards.collect::<Vec<_>>())
}

fn cpu_card(report: &Report, name: &str) -> Option<String> {
    let mut bars: Vec<Bar> = runs_of(report, name)
        .filter_map(|run| cpu_bar(report, run))
        .collect();
    if bars.len() < 2 && self_hosted(name).is_none() {
        return None;
    }
    bars.sort_by(|one, other| one.sum().total_cmp(&other.sum()));
    bars.extend(
        self_hosted(name)
            .filter(|_| !bars.is_empty())
            .map(|reference| Bar {
                name: REFERENCE.to_owned(),
                colour: None,
                parts: vec![(
                    "measured elsewhere".to_owned(),
                    f64::midpoint(reference.low, reference.high),
                )],
                spread: None,
                text: from_to(reference.low, reference.high),
            }),
    );
    let unit = runs_of(report, name)
        .next()
        .map_or("message", |run| &run.unit);
    let has_app_server = bars.iter().any(|bar| bar.parts.len() > 1);
    let note = if has_app_server {
        "Paler: CPU time of the app server."
    } else {
        ""
    };
    let caption = format!("{}: µs per {unit}", title(report, name));
    (!bars.is_empty()).then(|| bars::table(&caption, note, &bars))
}

fn cpu_bar(report: &Report, run: &Run) -> Option<Bar> {
    let service = Spread::of(&cpu_us(run, "service"))?;
    let mut parts = vec![("service".to_owned(), service.median)];
    let app_server = Spread::of(&cpu_us(run, "app server"));
    parts.extend(app_server.map(|spread| ("app server".to_owned(), spread.median)));
    let sum: f64 = parts.iter().map(|(_, value)| value).sum();
    let whole = app_server.is_none().then_some(service);
    let range = whole.map_or_else(String::new, |spread| {
        format!(" ({}–{})", short(spread.min), short(spread.max))
    });
    Some(Bar {
        name: run.contestant.clone(),
        colour: Some(colour(report, &run.contestant)),
        parts,
        spread: whole,
        text: format!("{}{range}", short(sum)),
    })
}

fn latency_chart(report: &Report, name: &str) -> Option<Chart> {
    let runs = runs_of(report, name)
        .filter(|run| (is_on_time(run) || is_single(report)) && run.latencies_us.len() > 1);
    let lines = runs.map(|run| Line {
        colour: colour(report, &run.contestant),
        name: run.contestant.clone(),
        points: run
            .latencies_us
            .iter()
            .filter(|(percentile, us)| *percentile < 100.0 && *us > 0.0)
            .map(|(percentile, us)| (rarity(*percentile), *us))
            .collect(),
    });
    let lines: Vec<Line> = lines.filter(|line| !line.points.is_empty()).collect();
    let (low, high) = ends(&lines)?;
    let description: Vec<String> = lines.iter().map(described).collect();
    let ticks = PERCENTILES.map(|percentile| (rarity(percentile), format!("{percentile}")));
    Some(Chart {
        title: title(report, name),
        description: description.join(". "),
        x: Axis::with_ticks("percentile", ticks.into(), percentile),
        y: Axis::log("latency", low, high, plain_time),
        lines,
    })
}

/// How rare it is that a message takes longer, in powers of ten: 1 for the 90th percentile, 2 for the 99th.
fn rarity(percentile: f64) -> f64 {
    -(1.0 - percentile / 100.0).log10()
}

fn percentile(rarity: f64) -> String {
    let percentile = (1.0 - 10_f64.powf(-rarity)) * 100.0;
    format!("p{}", (percentile * 1e4).round() / 1e4)
}

fn time_card(report: &Report, name: &str) -> Option<String> {
    let is_ours =
        |run: &&Run| run.contestant == "hubring" && (is_saturating(run) || is_single(report));
    runs_of(report, name).find(is_ours)?;
    let title = title(report, name);
    let unit = runs_of(report, name)
        .next()
        .map_or("message", |run| &run.unit);
    let cpu = |window: &Window| window.cpu_us_per_message.get("service").copied();
    let rates = over_time(
        report,
        name,
        format!("{title}: messages/s"),
        "messages/s",
        Window::rate,
    )?;
    let cpus = over_time(
        report,
        name,
        format!("{title}: CPU"),
        &format!("µs CPU/{unit}"),
        cpu,
    )?;
    Some(card(&title, &[&rates, &cpus]))
}

fn over_time(
    report: &Report,
    name: &str,
    title: String,
    label: &str,
    of: impl Fn(&Window) -> Option<f64>,
) -> Option<Chart> {
    let windows = || runs_of(report, name).flat_map(|run| &run.windows);
    let start = windows()
        .map(|window| window.at_seconds)
        .fold(f64::INFINITY, f64::min);
    let point = |window: &Window| {
        let value = of(window).filter(|value| value.is_finite())?;
        Some((window.at_seconds - start, value))
    };
    let lines = runs_of(report, name).map(|run| Line {
        colour: colour(report, &run.contestant),
        name: run.contestant.clone(),
        points: run.windows.iter().filter_map(&point).collect(),
    });
    let lines: Vec<Line> = lines.filter(|line| !line.points.is_empty()).collect();
    let (_, high) = ends(&lines)?;
    let last = lines
        .iter()
        .flat_map(|line| &line.points)
        .map(|(at, _)| *at)
        .fold(0.0, f64::max);
    let description: Vec<String> = lines.iter().map(described_over_time).collect();
    Some(Chart {
        title,
        description: description.join(". "),
        x: Axis::from_zero("seconds", last, plain),
        y: Axis::from_zero(label, high, plain),
        lines,
    })
}

/// Whether it is of one scenario instead of the table.
fn is_single(report: &Report) -> bool {
    report.rows.is_empty()
}

fn memory_card(report: &Report, row: &Row) -> String {
    let bar = |name: &str, value: f64, colour| Bar {
        name: name.to_owned(),
        colour,
        parts: vec![(name.to_owned(), value)],
        spread: None,
        text: short(value),
    };
    let ours = row.value.map(|value| bar("hubring", value, Some(0)));
    let peers = row.peers.iter();
    let peers = peers.map(|(name, value)| bar(name, *value, Some(colour(report, name))));
    let mut bars: Vec<Bar> = ours.into_iter().chain(peers).collect();
    bars.sort_by(|one, other| one.sum().total_cmp(&other.sum()));
    let reference = self_hosted(&row.row);
    bars.extend(reference.map(|reference| bar(REFERENCE, reference.high, None)));
    let caption = format!("{}: {}", row.label, row.unit);
    bars::table(&caption, row.note.as_deref().unwrap_or_default(), &bars)
}

/// A titled group of cards; nothing if there are none.
fn section(title: &str, note: &str, cards: &[String]) -> String {
    if cards.is_empty() {
        return String::new();
    }
    let note = if note.is_empty() {
        String::new()
    } else {
        format!("<p>{}</p>", escape(note))
    };
    format!(
        "<section><h2>{}</h2>{note}<div class=\"cards\">{}</div></section>",
        escape(title),
        cards.concat()
    )
}

/// Charts of the same lines with one legend.
fn card(title: &str, charts: &[&Chart]) -> String {
    let drawings: String = charts.iter().map(|chart| chart.svg()).collect();
    let legend = charts
        .first()
        .map_or_else(String::new, |chart| chart.legend());
    let class = if charts.len() > 1 {
        "card wide"
    } else {
        "card"
    };
    format!(
        "<figure class=\"{class}\"><figcaption>{}</figcaption><div class=\"charts\">{drawings}</div>{legend}</figure>",
        escape(title)
    )
}

/// What the load is called in the table, or else its name and its size.
pub(crate) fn title(report: &Report, name: &str) -> String {
    if let Some(row) = report.rows.iter().find(|row| row.row == name) {
        return row.label.clone();
    }
    let words = name.replace('_', " ");
    let mut characters = words.chars();
    let first = characters.next().map(char::to_uppercase);
    let mut parts: Vec<String> = vec![first.into_iter().flatten().chain(characters).collect()];
    if let Some(run) = runs_of(report, name).next() {
        parts.push(format!("{} clients", grouped(f64::from(run.clients))));
        if run.payload_bytes > 0 {
            parts.push(format!("{} bytes", grouped(f64::from(run.payload_bytes))));
        }
    }
    parts.join(", ")
}

/// Names of the loads, in the order in which they first ran.
fn names(report: &Report) -> Vec<&str> {
    let mut names: Vec<&str> = Vec::new();
    for run in &report.runs {
        if !names.contains(&run.name.as_str()) {
            names.push(&run.name);
        }
    }
    names
}

fn runs_of<'a>(report: &'a Report, name: &str) -> impl Iterator<Item = &'a Run> {
    report.runs.iter().filter(move |run| run.name == name)
}

/// The number of a contestant's colour, the same in all drawings: we are 0, the floor is 1.
fn colour(report: &Report, contestant: &str) -> usize {
    let mut others: Vec<&str> = Vec::new();
    let in_runs = report.runs.iter().map(|run| run.contestant.as_str());
    let in_rows = report
        .rows
        .iter()
        .flat_map(|row| row.peers.keys())
        .map(String::as_str);
    for name in in_runs.chain(in_rows) {
        if !["hubring", "floor"].contains(&name) && !others.contains(&name) {
            others.push(name);
        }
    }
    match contestant {
        "hubring" => 0,
        "floor" => 1,
        _ => {
            let place = others
                .iter()
                .position(|name| *name == contestant)
                .unwrap_or(0);
            2 + place % (COLOURS - 2)
        }
    }
}

/// Whether its latencies count from when a message should have been sent. What a storm takes is of that kind too.
fn is_on_time(run: &Run) -> bool {
    let scenario = &run.scenario;
    let is_open = scenario.pointer("/pacing/open").is_some();
    let kind = scenario.get("scenario").and_then(serde_json::Value::as_str);
    is_open || scenario.get("per_second").is_some() || kind == Some("reconnect")
}

/// The least and the greatest figure of all lines.
fn ends(lines: &[Line]) -> Option<(f64, f64)> {
    let values = lines
        .iter()
        .flat_map(|line| &line.points)
        .map(|(_, value)| *value);
    let (low, high) = values.fold((f64::INFINITY, 0.0), |(low, high): (f64, f64), value| {
        (low.min(value), high.max(value))
    });
    low.is_finite().then_some((low, high))
}

fn described(line: &Line) -> String {
    let points = line.points.iter();
    let points = points.map(|(rarity, us)| format!("{} {}", percentile(*rarity), time(*us)));
    format!("{}: {}", line.name, points.collect::<Vec<_>>().join(", "))
}

fn described_over_time(line: &Line) -> String {
    let values: Vec<f64> = line.points.iter().map(|(_, value)| *value).collect();
    Spread::of(&values).map_or_else(String::new, |Spread { median, min, max }| {
        format!(
            "{}: median {}, from {} to {}",
            line.name,
            short(median),
            short(min),
            short(max)
        )
    })
}

fn from_to(low: f64, high: f64) -> String {
    if (high - low).abs() < f64::EPSILON {
        plain(low)
    } else {
        format!("{}–{}", plain(low), plain(high))
    }
}

/// As on an axis: `500 µs`, `1 ms`.
fn plain_time(microseconds: f64) -> String {
    match microseconds {
        us if us < 999.5 => format!("{} µs", plain(us)),
        us if us < 999_500.0 => format!("{} ms", plain(us / 1e3)),
        us => format!("{} s", plain(us / 1e6)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::output::sample;

    #[test]
    fn contestants_keep_their_colours() {
        let report = sample::report();
        assert_eq!(
            (colour(&report, "hubring"), colour(&report, "floor")),
            (0, 1)
        );
        assert_ne!(colour(&report, "haproxy"), colour(&report, "tokio relay"));
    }

    #[test]
    fn percentiles_are_spread_by_how_rare_they_are() {
        assert_eq!(percentile(rarity(99.99)), "p99.99");
        assert_eq!(percentile(rarity(50.0)), "p50");
        assert!((rarity(99.9) - 3.0).abs() < 1e-9);
    }

    #[test]
    fn only_latencies_of_messages_sent_on_time_are_drawn() {
        let report = sample::report();
        assert!(latency_chart(&report, "echo_2k").is_none());
        let chart = latency_chart(&report, "latency_open").unwrap();
        assert_eq!(chart.lines.len(), 2);
        assert!(
            chart
                .description
                .contains("hubring: p50 184 µs, p90 410 µs")
        );
    }

    #[test]
    fn only_saturating_runs_are_drawn_over_time() {
        let report = sample::report();
        assert!(time_card(&report, "echo_2k").is_some());
        assert!(time_card(&report, "send_to_connection_1k").is_none());
    }
}

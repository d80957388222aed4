//! Runs on a terminal: each figure with its median, its spread and its windows.

use crate::output::number::{grouped, short, time};
use crate::output::terminal::head;
use crate::output::text::{Colour, Paint, flow, left, right, width, wrap};
use crate::output::verdict::{BUSY_MIN, Spread};
use crate::results::{Report, Run, Window};

/// Columns of one window's figure, with the gap before it.
const WINDOW_COLUMNS: usize = 10;

/// All runs of a report in at most `columns`.
pub(crate) fn text(report: &Report, columns: usize, paint: Paint) -> String {
    let mut lines = head(&report.head, columns, paint);
    for run in &report.runs {
        lines.push(String::new());
        lines.extend(section(run, columns, paint));
    }
    if report.runs.iter().any(is_not_busy) {
        lines.push(String::new());
        lines.extend(wrap(
            "Where the service was not busy all the time, messages/s tell of the load and the machine, not of what the service can do.",
            columns,
        ));
    }
    if !report.head.notes.is_empty() {
        lines.push(String::new());
    }
    let notes = report.head.notes.iter();
    lines.extend(notes.flat_map(|note| wrap(note, columns)));
    lines.join("\n") + "\n"
}

/// A figure of every window.
pub(crate) struct Series {
    pub(crate) label: String,
    pub(crate) values: Vec<f64>,
}

/// What the windows of a run have to tell.
pub(crate) fn series(run: &Run) -> Vec<Series> {
    let mut all = vec![Series {
        label: "messages/s".to_owned(),
        values: rates(run),
    }];
    for name in names(run, |window| window.cpu_us_per_message.keys()) {
        all.push(Series {
            label: format!("CPU of {name}, µs/message"),
            values: cpu_us(run, &name),
        });
    }
    for name in names(run, |window| window.busy.keys()) {
        all.push(Series {
            label: format!("{name} busy, %"),
            values: busy(run, &name).iter().map(|share| share * 100.0).collect(),
        });
    }
    all.push(Series {
        label: "service waited for its core, %".to_owned(),
        values: run
            .windows
            .iter()
            .map(|window| window.service_waited * 100.0)
            .collect(),
    });
    all.retain(|series| !series.values.is_empty());
    all
}

/// Messages per second, window by window.
pub(crate) fn rates(run: &Run) -> Vec<f64> {
    run.windows.iter().filter_map(Window::rate).collect()
}

/// CPU time per message of what is called `name`, window by window.
pub(crate) fn cpu_us(run: &Run, name: &str) -> Vec<f64> {
    let times = run
        .windows
        .iter()
        .filter_map(|window| window.cpu_us_per_message.get(name));
    times.copied().filter(|time| time.is_finite()).collect()
}

/// Share of the time in which `name` ran, window by window.
pub(crate) fn busy(run: &Run, name: &str) -> Vec<f64> {
    let shares = run
        .windows
        .iter()
        .filter_map(|window| window.busy.get(name));
    shares.copied().filter(|share| share.is_finite()).collect()
}

impl Window {
    /// Messages per second.
    #[expect(
        clippy::cast_precision_loss,
        reason = "it is exact up to 2^53, which takes longer than any run"
    )]
    pub(crate) fn rate(&self) -> Option<f64> {
        (self.seconds > 0.0).then(|| self.messages as f64 / self.seconds)
    }
}

/// Whether the service set the pace.
pub(crate) fn is_saturating(run: &Run) -> bool {
    Spread::of(&busy(run, "service")).is_some_and(|busy| busy.median >= BUSY_MIN)
}

/// A figure of the service's counters, in words.
pub(crate) fn figure_label(key: &str) -> String {
    key.replace('_', " ")
}

fn is_not_busy(run: &Run) -> bool {
    Spread::of(&busy(run, "service")).is_some_and(|busy| busy.median < BUSY_MIN)
}

fn section(run: &Run, columns: usize, paint: Paint) -> Vec<String> {
    let title = format!("{}: {}", run.name, run.contestant);
    let mut lines = vec![paint.paint(Colour::Bold, &title)];
    lines.extend(flow(&settings(run), columns));
    let series = series(run);
    let labels = series.iter().map(|series| width(&series.label));
    let figures = run.figures.keys().map(|key| width(&figure_label(key)));
    let label_width = labels.chain(figures).max().unwrap_or(0);
    // As many windows as there is room for; the spread is of all of them.
    let room = columns.saturating_sub(label_width + 2 * WINDOW_COLUMNS + 8);
    let shown = (room / WINDOW_COLUMNS).min(run.windows.len());
    lines.push(paint.paint(Colour::Dim, &headings(label_width, shown)));
    for series in &series {
        lines.extend(line(series, label_width, shown));
    }
    for (key, figure) in &run.figures {
        lines.push(format!(
            "{}{}",
            left(&figure_label(key), label_width),
            right(&short(*figure), WINDOW_COLUMNS)
        ));
    }
    let latencies: Vec<String> = run
        .latencies_us
        .iter()
        .map(|(percentile, us)| format!("p{percentile} {}", time(*us)))
        .collect();
    if !latencies.is_empty() {
        lines.extend(flow(
            &[vec!["latency".to_owned()], latencies].concat(),
            columns,
        ));
    }
    lines
}

/// What was running.
pub(crate) fn settings(run: &Run) -> Vec<String> {
    let count = |number: u32, one: &str, many: &str| {
        let word = if number == 1 { one } else { many };
        format!("{} {word}", grouped(f64::from(number)))
    };
    let mut settings = vec![count(run.clients, "client", "clients")];
    if run.payload_bytes > 0 {
        settings.push(count(run.payload_bytes, "byte", "bytes"));
    }
    if run.server_connections > 0 {
        settings.push(count(
            run.server_connections,
            "server connection",
            "server connections",
        ));
    }
    if run.shards > 0 {
        settings.push(count(run.shards, "shard", "shards"));
    }
    settings.push(format!("{} windows", run.windows.len()));
    settings.push(format!("a message is one {}", run.unit));
    settings
}

fn headings(label_width: usize, shown: usize) -> String {
    let mut line = left("", label_width);
    line += &right("median", WINDOW_COLUMNS);
    line += &right("min–max", WINDOW_COLUMNS + 8);
    for number in 1..=shown {
        line += &right(&format!("#{number}"), WINDOW_COLUMNS);
    }
    line
}

fn line(series: &Series, label_width: usize, shown: usize) -> Option<String> {
    let Spread { median, min, max } = Spread::of(&series.values)?;
    let mut line = left(&series.label, label_width);
    line += &right(&short(median), WINDOW_COLUMNS);
    line += &right(
        &format!("{}–{}", short(min), short(max)),
        WINDOW_COLUMNS + 8,
    );
    for value in series.values.iter().take(shown) {
        line += &right(&short(*value), WINDOW_COLUMNS);
    }
    Some(line)
}

/// The names that any window has, sorted.
fn names<'a, I: Iterator<Item = &'a String>>(
    run: &'a Run,
    of: impl Fn(&'a Window) -> I,
) -> Vec<String> {
    let mut names: Vec<String> = run.windows.iter().flat_map(of).cloned().collect();
    names.sort();
    names.dedup();
    names
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::output::sample;

    #[test]
    fn a_run_shows_its_figures_and_their_windows() {
        let mut report = sample::report();
        report.runs.truncate(1);
        let text = text(&report, 120, Paint::Plain);
        for part in [
            "echo_2k: hubring\n",
            "1,000 clients · 2,048 bytes · 5 server connections · 1 shard · 5 windows · a message is one echo\n",
            "CPU of service, µs/message",
            "service busy, %",
            "frames per send",
            "latency · p50 7.90 ms · p99 9.10 ms · p99.9 11.0 ms",
        ] {
            assert!(text.contains(part), "{part}\n{text}");
        }
        assert!(!text.contains("not busy"), "{text}");
    }

    #[test]
    fn windows_without_room_are_left_out_but_count() {
        let report = sample::report();
        let text = text(&report, 70, Paint::Plain);
        for line in text.lines() {
            assert!(width(line) <= 70, "{line}");
        }
        assert!(text.contains("not busy"), "{text}");
    }

    #[test]
    fn an_empty_run_does_no_harm() {
        let run = Run::default();
        assert!(!section(&run, 80, Paint::Plain).is_empty());
        assert!(!is_saturating(&run));
    }
}

//! Two reports side by side: where they differ beyond noise, and where not.
//!
//! A figure has changed if both hold:
//!
//! * its samples differ by more than chance, as the rank test of [`noise`](super::noise) has it, with a probability below 1 %. Five
//!   samples against five pass only if all of one side are greater than all of the other.
//! * its medians are 5 % or more apart. Programs that are the same differ from start to start by what the windows of one start do not
//!   show (where memory happens to lie, what else the machine does), and nobody acts on less.
//!
//! So two reports of the same program with 30 rows raise a false alarm in fewer than one of four comparisons even where noise is much
//! greater than 5 %, and next to never where it is less; a change of 15 % amid noise of 3 % is found practically always.
//!
//! A machine that is shared may be another one a minute later, for longer than a run takes. The floor tells: it is the same program in
//! both reports, so what has moved it is the machine. Where three of its runs or more are in both, medians have to be further apart than
//! the machine alone would move one of them in 99 of 100 cases.
//!
//! Reports from different machines, kernels, cores or modes are shown side by side but not judged.

use crate::output::noise::{least_probability, same_source_probability};
use crate::output::number::{duration, ratio, short};
use crate::output::runs::cpu_us;
use crate::output::text::{Colour, Paint, left, right, width, wrap};
use crate::output::verdict::Spread;
use crate::results::{Better, Head, Report, Row, Run};

/// From this probability on, chance may have made the difference.
const PROBABILITY_MAX: f64 = 0.01;

/// How far medians have to be apart to count, as a share of the lesser one.
const CHANGE_MIN: f64 = 0.05;

/// Runs of the floor that tell how far the machine has moved.
const FLOOR_RUNS_MIN: usize = 3;

/// Standard deviations within which 99 of 100 cases lie, and how many times the median distance one of those is (both of the normal curve).
const DEVIATIONS: f64 = 2.576;
const DEVIATION_BY_MEDIAN: f64 = 1.4826;

/// What has become of a figure.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Change {
    Better,
    Worse,
    Same,
    NotComparable(String),
}

/// Two reports, row by row.
#[derive(Debug)]
pub(crate) struct Comparison {
    before: String,
    after: String,
    /// Why nothing can be judged, if so.
    obstacles: Vec<String>,
    /// How far medians have to be apart.
    change_min: f64,
    pub(crate) lines: Vec<Line>,
}

/// One figure in both reports.
#[derive(Debug)]
pub(crate) struct Line {
    pub(crate) label: String,
    pub(crate) unit: String,
    pub(crate) before: Option<f64>,
    pub(crate) after: Option<f64>,
    /// The second divided by the first.
    pub(crate) ratio: Option<f64>,
    pub(crate) change: Change,
}

/// Compares all rows, and all runs of the service that belong to no row.
pub(crate) fn compare(before: &Report, after: &Report) -> Comparison {
    let obstacles = obstacles(&before.head, &after.head);
    let change_min = CHANGE_MIN.max(movement_of_machine(before, after));
    let mut lines = Vec::new();
    let (old, new) = (figures(before), figures(after));
    for figure in &old {
        let other = new.iter().find(|other| other.row == figure.row);
        lines.push(line(Some(figure), other, &obstacles, change_min));
    }
    for figure in &new {
        if !old.iter().any(|other| other.row == figure.row) {
            lines.push(line(None, Some(figure), &obstacles, change_min));
        }
    }
    Comparison {
        before: title(&before.head),
        after: title(&after.head),
        obstacles,
        change_min,
        lines,
    }
}

impl Comparison {
    /// Whether anything has become worse beyond noise.
    pub(crate) fn is_worse(&self) -> bool {
        self.count(|change| *change == Change::Worse) > 0
    }

    /// The comparison in at most `columns`.
    pub(crate) fn text(&self, columns: usize, paint: Paint) -> String {
        let mut lines = wrap(&format!("before: {}", self.before), columns);
        lines.extend(wrap(&format!("after:  {}", self.after), columns));
        for obstacle in &self.obstacles {
            let text = format!("not comparable: {obstacle}");
            let text = wrap(&text, columns);
            lines.extend(text.iter().map(|line| paint.paint(Colour::Doubtful, line)));
        }
        lines.push(String::new());
        let cells: Vec<[String; 5]> = self.lines.iter().map(Line::cells).collect();
        let mut widths = HEADINGS.map(width);
        for cells in &cells {
            for (widest, cell) in widths.iter_mut().zip(cells) {
                *widest = width(cell).max(*widest);
            }
        }
        let taken: usize = widths.iter().map(|width| width + 2).sum();
        let labels = self.lines.iter().map(|line| width(&line.label)).max();
        let room = columns
            .saturating_sub(taken)
            .clamp(LABEL_MIN, labels.unwrap_or(0).max(LABEL_MIN));
        let headings = row(HEADINGS.map(str::to_owned), widths).concat();
        lines.push(paint.paint(Colour::Dim, &format!("{}{headings}", left("", room))));
        for (line, cells) in self.lines.iter().zip(cells) {
            lines.extend(line.text(cells, room, widths, paint));
        }
        lines.push(String::new());
        lines.extend(wrap(&self.summary(), columns));
        lines.join("\n") + "\n"
    }

    fn summary(&self) -> String {
        let worse = self.count(|change| *change == Change::Worse);
        let better = self.count(|change| *change == Change::Better);
        let same = self.count(|change| *change == Change::Same);
        let other = self.lines.len() - worse - better - same;
        format!(
            "{worse} worse, {better} better, {same} the same within noise, {other} not comparable. A figure has changed if its medians are {:.0} % apart or more{} and chance would part its samples that far less than once in {:.0} times.",
            self.change_min * 100.0,
            if self.change_min > CHANGE_MIN {
                " (so far the machine moves, as the floor shows)"
            } else {
                ""
            },
            1.0 / PROBABILITY_MAX
        )
    }

    fn count(&self, is_it: impl Fn(&Change) -> bool) -> usize {
        self.lines.iter().filter(|line| is_it(&line.change)).count()
    }
}

const HEADINGS: [&str; 5] = ["before", "after", "ratio", "", "unit"];

/// Columns that a label gets in any case.
const LABEL_MIN: usize = 20;

impl Line {
    fn cells(&self) -> [String; 5] {
        let figure = |value: Option<f64>| value.map_or_else(|| "–".to_owned(), short);
        let change = match &self.change {
            Change::Better => "▲ better".to_owned(),
            Change::Worse => "▼ worse".to_owned(),
            Change::Same => "= same".to_owned(),
            Change::NotComparable(_) => "? not comparable".to_owned(),
        };
        let ratio = self.ratio.map(ratio).unwrap_or_default();
        [
            figure(self.before),
            figure(self.after),
            ratio,
            change,
            self.unit.clone(),
        ]
    }

    fn text(
        &self,
        cells: [String; 5],
        room: usize,
        widths: [usize; 5],
        paint: Paint,
    ) -> Vec<String> {
        let colour = match &self.change {
            Change::Better => Colour::Good,
            Change::Worse => Colour::Bad,
            Change::Same | Change::NotComparable(_) => Colour::Dim,
        };
        let [before, after, ratio, change, unit] = row(cells, widths);
        let cells = [before, after, ratio, paint.paint(colour, &change), unit].concat();
        let mut label = wrap(&self.label, room).into_iter();
        let first = label.next().unwrap_or_default();
        let mut lines = vec![
            format!("{}{cells}", left(&first, room))
                .trim_end()
                .to_owned(),
        ];
        lines.extend(label);
        if let Change::NotComparable(why) = &self.change
            && !why.is_empty()
        {
            lines.push(paint.paint(Colour::Dim, &format!("    {why}")));
        }
        lines
    }
}

fn row(cells: [String; 5], widths: [usize; 5]) -> [String; 5] {
    let [before, after, ratio, change, unit] = cells;
    let [before_width, after_width, ratio_width, change_width, _] = widths;
    let cells = [
        right(&before, before_width),
        right(&after, after_width),
        right(&ratio, ratio_width),
        left(&change, change_width),
        unit,
    ];
    cells.map(|cell| format!("  {cell}"))
}

/// A figure with its samples, of a row or a run.
struct Figure {
    row: String,
    label: String,
    unit: String,
    better: Better,
    value: Option<f64>,
    samples: Vec<f64>,
}

fn figures(report: &Report) -> Vec<Figure> {
    let rows = report.rows.iter().map(Figure::of);
    let runs = report.runs.iter().filter(|run| {
        let has_row = report.rows.iter().any(|row| row.row == run.name);
        run.contestant == "hubring" && !has_row
    });
    let runs = runs.filter_map(|run| {
        let samples = cpu_us(run, "service");
        Some(Figure {
            row: format!("run {}", run.name),
            label: format!("{}: CPU of the service", run.name),
            unit: format!("µs/{}", run.unit),
            better: Better::Less,
            value: Some(Spread::of(&samples)?.median),
            samples,
        })
    });
    rows.chain(runs).collect()
}

impl Figure {
    fn of(row: &Row) -> Self {
        Self {
            row: row.row.clone(),
            label: row.label.clone(),
            unit: row.unit.clone(),
            better: row.better,
            value: row.value,
            samples: row.samples.clone(),
        }
    }
}

fn line(
    before: Option<&Figure>,
    after: Option<&Figure>,
    obstacles: &[String],
    change_min: f64,
) -> Line {
    let named = after.or(before);
    let (old, new) = (
        before.and_then(|figure| figure.value),
        after.and_then(|figure| figure.value),
    );
    let ratio = match (old, new) {
        (Some(old), Some(new)) if old != 0.0 => Some(new / old),
        _ => None,
    };
    let change = match (before, after) {
        (Some(before), Some(after)) if obstacles.is_empty() => change(before, after, change_min),
        (Some(_), Some(_)) => Change::NotComparable(String::new()),
        (Some(_), None) => Change::NotComparable("only in the first report".to_owned()),
        _ => Change::NotComparable("only in the second report".to_owned()),
    };
    Line {
        label: named.map_or_else(String::new, |figure| figure.label.clone()),
        unit: named.map_or_else(String::new, |figure| figure.unit.clone()),
        before: old,
        after: new,
        ratio,
        change,
    }
}

fn change(before: &Figure, after: &Figure, change_min: f64) -> Change {
    let not_comparable = |why: &str| Change::NotComparable(why.to_owned());
    if (&before.unit, before.better) != (&after.unit, after.better) {
        return not_comparable("the figure is another one");
    }
    let (Some(old), Some(new)) = (before.value, after.value) else {
        return not_comparable("not measured in both");
    };
    let least = new.abs().min(old.abs());
    if (new - old).abs() < change_min * least || new.total_cmp(&old).is_eq() {
        return Change::Same;
    }
    if least_probability(before.samples.len(), after.samples.len()) >= PROBABILITY_MAX {
        return not_comparable("too few samples to tell a change from noise");
    }
    if same_source_probability(&before.samples, &after.samples) >= PROBABILITY_MAX {
        return Change::Same;
    }
    if after.better.reaches(new, old) {
        Change::Better
    } else {
        Change::Worse
    }
}

/// How far the machine alone moves a median, as a share of it: what has happened to the floor. 0 if that is not known.
fn movement_of_machine(before: &Report, after: &Report) -> f64 {
    let median = |run: &Run| Some(Spread::of(&cpu_us(run, "service"))?.median);
    let is_floor = |run: &&Run| run.contestant == "floor";
    let movements = before.runs.iter().filter(is_floor).filter_map(|run| {
        let mut others = after.runs.iter().filter(is_floor);
        let other = others.find(|other| other.name == run.name)?;
        Some((median(other)? / median(run)?).ln().abs())
    });
    let movements: Vec<f64> = movements.filter(|movement| movement.is_finite()).collect();
    match Spread::of(&movements) {
        Some(spread) if movements.len() >= FLOOR_RUNS_MIN => {
            (DEVIATIONS * DEVIATION_BY_MEDIAN * spread.median).exp_m1()
        }
        _ => 0.0,
    }
}

/// What keeps two reports from being comparable.
fn obstacles(before: &Head, after: &Head) -> Vec<String> {
    let cores = |head: &Head| {
        let (service, own) = (&head.service_cores, &head.own_cores);
        format!(
            "{} (service on {service:?}, load generator on {own:?})",
            head.cores
        )
    };
    let pairs = [
        ("processor", before.cpu.clone(), after.cpu.clone()),
        ("cores", cores(before), cores(after)),
        ("kernel", before.kernel.clone(), after.kernel.clone()),
        ("mode", before.mode.clone(), after.mode.clone()),
    ];
    let differing = pairs
        .into_iter()
        .filter(|(_, before, after)| before != after);
    differing
        .map(|(what, before, after)| format!("{what} {before} before, {after} after"))
        .collect()
}

fn title(head: &Head) -> String {
    format!(
        "commit {}, {}, {} in {}",
        head.commit,
        head.started,
        head.mode,
        duration(head.seconds)
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::output::sample::{self, Noise};
    use crate::output::verdict::Marks;

    /// How often a change from `before` to `after` counts as one, of 400 times.
    fn changes(before: f64, after: f64, deviation: f64, count: usize) -> [u32; 3] {
        let mut noise = Noise::new(7);
        let mut changes = [0; 3];
        for _ in 0..400 {
            let mut figure = |median| {
                let row = Row::new("x", "x", "µs", Better::Less, Marks::default());
                Figure::of(&row.with_samples(noise.samples(median, deviation, count)))
            };
            let index = match change(&figure(before), &figure(after), CHANGE_MIN) {
                Change::Worse => 0,
                Change::Better => 1,
                Change::Same => 2,
                Change::NotComparable(why) => panic!("{why}"),
            };
            changes[index] += 1;
        }
        changes
    }

    #[test]
    fn the_same_program_raises_hardly_any_alarm() {
        for (deviation, alarms_max) in [(0.01, 0), (0.03, 6), (0.1, 9), (0.3, 9)] {
            for count in [5, 8] {
                let [worse, better, _] = changes(6.0, 6.0, deviation, count);
                assert!(
                    worse + better <= alarms_max,
                    "{deviation} {count}: {worse} {better}"
                );
            }
        }
    }

    #[test]
    fn true_changes_are_found() {
        for count in [5, 8] {
            for (before, after, deviation, change) in [
                (6.0, 6.9, 0.03, 0),
                (6.9, 6.0, 0.03, 1),
                (6.0, 6.6, 0.01, 0),
            ] {
                let found = changes(before, after, deviation, count)[change];
                assert!(
                    found >= 390,
                    "{before} {after} {deviation} {count}: {found}"
                );
            }
        }
    }

    #[test]
    fn a_report_is_the_same_as_itself() {
        let report = sample::report();
        let comparison = compare(&report, &report);
        assert!(!comparison.is_worse());
        for line in &comparison.lines {
            let is_missing = line.before.is_none();
            assert!(is_missing || line.change == Change::Same, "{line:?}");
        }
        // Runs without a row are there too.
        assert!(
            comparison
                .lines
                .iter()
                .any(|line| line.label.starts_with("small_groups"))
        );
    }

    #[test]
    fn worse_and_better_depend_on_the_figure() {
        let before = sample::report();
        let mut after = before.clone();
        for row in &mut after.rows {
            let samples = row.samples.iter().map(|sample| sample * 1.2).collect();
            *row = row.clone().with_samples(samples);
        }
        let comparison = compare(&before, &after);
        let of = |label: &str| {
            let mut lines = comparison.lines.iter();
            lines.find(|line| line.label.starts_with(label)).unwrap()
        };
        assert_eq!(of("Echo, 2 KB").change, Change::Worse);
        assert_eq!(of("Broadcast 2 KB to 1,000").change, Change::Better);
        assert_eq!(of("Relays that crossed").change, Change::Same);
        assert!(comparison.is_worse());
        let text = comparison.text(120, Paint::Plain);
        assert!(text.contains("▼ worse") && text.contains("1.20×"), "{text}");
        for columns in [100, 140] {
            let text = comparison.text(columns, Paint::Plain);
            assert!(text.lines().all(|line| width(line) <= columns), "{text}");
        }
    }

    #[test]
    fn where_the_floor_has_moved_figures_have_to_move_further() {
        let before = sample::report();
        let mut after = before.clone();
        let floors = after
            .runs
            .iter_mut()
            .filter(|run| run.contestant == "floor");
        for window in floors.flat_map(|run| &mut run.windows) {
            for time in window.cpu_us_per_message.values_mut() {
                *time *= 1.1;
            }
        }
        assert!((movement_of_machine(&before, &after) - 0.44).abs() < 0.01);
        let worse_by = |factor: f64| {
            let mut after = after.clone();
            for row in &mut after.rows {
                let samples = row.samples.iter().map(|sample| sample * factor).collect();
                *row = row.clone().with_samples(samples);
            }
            compare(&before, &after).is_worse()
        };
        assert!(!worse_by(1.2));
        assert!(worse_by(1.6));
    }

    #[test]
    fn what_is_not_comparable_says_why() {
        let before = sample::report();
        let mut after = before.clone();
        after.rows.remove(0);
        let one_sample = after.rows[0].samples[0] * 2.0;
        after.rows[0] = after.rows[0].clone().with_samples(vec![one_sample]);
        let text = compare(&before, &after).text(140, Paint::Plain);
        assert!(text.contains("only in the first report"), "{text}");
        assert!(text.contains("too few samples"), "{text}");
        after.head.kernel = "6.12.1".to_owned();
        let comparison = compare(&before, &after);
        assert!(!comparison.is_worse());
        let text = comparison.text(140, Paint::Coloured);
        assert!(
            text.contains("kernel 6.1.0-28-amd64 before, 6.12.1 after"),
            "{text}"
        );
    }
}

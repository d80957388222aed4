//! Line charts as SVG without colours of its own: the page's style sheet paints `s0` to `s7`, in light and in dark.

use crate::output::html::escape;

/// Size of the drawing. A page shows it at about this width on a telephone and a little larger elsewhere, so that its text stays legible.
const WIDTH: f64 = 440.0;
const HEIGHT: f64 = 264.0;

/// Room for labels around the plot.
const LEFT: f64 = 58.0;
const RIGHT: f64 = 20.0;
const TOP: f64 = 30.0;
const BOTTOM: f64 = 44.0;

/// About so many lines across.
const TICKS: f64 = 5.0;

/// Lines over two axes.
#[derive(Debug)]
pub(crate) struct Chart {
    pub(crate) title: String,
    /// What can be seen, for those who cannot see it.
    pub(crate) description: String,
    pub(crate) x: Axis,
    pub(crate) y: Axis,
    pub(crate) lines: Vec<Line>,
}

/// One line with its points from left to right.
#[derive(Debug)]
pub(crate) struct Line {
    /// Number of its colour.
    pub(crate) colour: usize,
    pub(crate) name: String,
    pub(crate) points: Vec<(f64, f64)>,
}

/// From where to where, and what is written at it.
#[derive(Debug)]
pub(crate) struct Axis {
    label: String,
    low: f64,
    high: f64,
    is_log: bool,
    ticks: Vec<(f64, String)>,
    /// A figure on it, in words.
    format: fn(f64) -> String,
}

impl Axis {
    /// From 0 to a round figure that is not below `high`.
    pub(crate) fn from_zero(label: &str, high: f64, format: fn(f64) -> String) -> Self {
        let high = if high > 0.0 { high } else { 1.0 };
        let step = round_step(high / TICKS);
        let count = (high / step).ceil();
        let ticks = steps(count).map(|index| index * step);
        Self {
            label: label.to_owned(),
            low: 0.0,
            high: count * step,
            is_log: false,
            ticks: ticks.map(|tick| (tick, format(tick))).collect(),
            format,
        }
    }

    /// Powers of ten that hold `low` and `high`, with 2 and 5 between them where there is room.
    pub(crate) fn log(label: &str, low: f64, high: f64, format: fn(f64) -> String) -> Self {
        let (first, last) = (
            low.log10().floor(),
            high.log10().ceil().max(low.log10().floor() + 1.0),
        );
        let between: &[f64] = if last - first > 2.0 {
            &[1.0]
        } else {
            &[1.0, 2.0, 5.0]
        };
        let decades = steps(last - first).map(|index| 10_f64.powf(first + index));
        let ticks = decades.flat_map(|decade| between.iter().map(move |factor| decade * factor));
        let top = 10_f64.powf(last) * 1.000_1;
        Self {
            label: label.to_owned(),
            low: 10_f64.powf(first),
            high: 10_f64.powf(last),
            is_log: true,
            ticks: ticks
                .filter(|tick| *tick <= top)
                .map(|tick| (tick, format(tick)))
                .collect(),
            format,
        }
    }

    /// With ticks as they are given, evenly scaled.
    pub(crate) fn with_ticks(
        label: &str,
        ticks: Vec<(f64, String)>,
        format: fn(f64) -> String,
    ) -> Self {
        let values = ticks.iter().map(|(tick, _)| *tick);
        Self {
            label: label.to_owned(),
            low: values.clone().fold(f64::INFINITY, f64::min),
            high: values.fold(f64::NEG_INFINITY, f64::max),
            is_log: false,
            ticks,
            format,
        }
    }

    /// Where `value` lies, from 0 to 1.
    fn share(&self, value: f64) -> f64 {
        if self.is_log {
            (value / self.low).log10() / (self.high / self.low).log10()
        } else {
            (value - self.low) / (self.high - self.low)
        }
    }

    fn holds(&self, value: f64) -> bool {
        let share = self.share(value);
        (-0.001..=1.001).contains(&share)
    }
}

impl Chart {
    /// The drawing.
    pub(crate) fn svg(&self) -> String {
        let Self {
            title, description, ..
        } = self;
        let lines: String = self.lines.iter().map(|line| self.line(line)).collect();
        format!(
            "<svg class=\"chart\" viewBox=\"0 0 {WIDTH} {HEIGHT}\" role=\"img\"><title>{}</title><desc>{}</desc>{}{}{lines}</svg>",
            escape(title),
            escape(description),
            self.y_axis(),
            self.x_axis(),
        )
    }

    /// What the lines are.
    pub(crate) fn legend(&self) -> String {
        let entries: String = self.lines.iter().map(legend_entry).collect();
        format!("<ul class=\"legend\">{entries}</ul>")
    }

    fn x_axis(&self) -> String {
        let ticks = self.x.ticks.iter();
        let ticks: String = ticks.map(|(tick, text)| self.x_tick(*tick, text)).collect();
        let bottom = HEIGHT - BOTTOM;
        format!(
            "<line class=\"axis\" x1=\"{LEFT}\" x2=\"{}\" y1=\"{bottom}\" y2=\"{bottom}\"/>{ticks}<text x=\"{:.1}\" y=\"{:.1}\" class=\"label mid\">{}</text>",
            WIDTH - RIGHT,
            f64::midpoint(LEFT, WIDTH - RIGHT),
            HEIGHT - 8.0,
            escape(&self.x.label)
        )
    }

    fn x_tick(&self, tick: f64, text: &str) -> String {
        let (x, bottom) = (self.x_of(tick), HEIGHT - BOTTOM);
        format!(
            "<line class=\"axis\" x1=\"{x:.1}\" x2=\"{x:.1}\" y1=\"{bottom}\" y2=\"{:.1}\"/><text x=\"{x:.1}\" y=\"{:.1}\" class=\"tick mid\">{}</text>",
            bottom + 4.0,
            bottom + 17.0,
            escape(text)
        )
    }

    fn y_axis(&self) -> String {
        let ticks = self.y.ticks.iter();
        let ticks: String = ticks.map(|(tick, text)| self.y_tick(*tick, text)).collect();
        let label = escape(&self.y.label);
        format!("<text x=\"0\" y=\"13\" class=\"label\">{label}</text>{ticks}")
    }

    fn y_tick(&self, tick: f64, text: &str) -> String {
        let y = self.y_of(tick);
        format!(
            "<line class=\"grid\" x1=\"{LEFT}\" x2=\"{:.1}\" y1=\"{y:.1}\" y2=\"{y:.1}\"/><text x=\"{:.1}\" y=\"{:.1}\" class=\"tick end\">{}</text>",
            WIDTH - RIGHT,
            LEFT - 7.0,
            y + 4.0,
            escape(text)
        )
    }

    fn line(&self, line: &Line) -> String {
        let points = line.points.iter().copied();
        let held = points.filter(|(x, y)| self.x.holds(*x) && self.y.holds(*y));
        let held: Vec<(f64, f64)> = held.collect();
        let path = held.iter();
        let path = path.map(|(x, y)| format!("{:.1},{:.1}", self.x_of(*x), self.y_of(*y)));
        let path: Vec<String> = path.collect();
        let dots: String = held.iter().map(|(x, y)| self.dot(line, *x, *y)).collect();
        format!(
            "<g class=\"s{}\"><polyline class=\"line\" points=\"{}\"/>{dots}</g>",
            line.colour,
            path.join(" ")
        )
    }

    fn dot(&self, line: &Line, x: f64, y: f64) -> String {
        let (at, value) = ((self.x.format)(x), (self.y.format)(y));
        let text = format!("{}, {at}: {value}", line.name);
        format!(
            "<g class=\"dot\"><title>{}</title>{}</g>",
            escape(&text),
            marker(line.colour, self.x_of(x), self.y_of(y))
        )
    }

    fn x_of(&self, value: f64) -> f64 {
        LEFT + self.x.share(value) * (WIDTH - LEFT - RIGHT)
    }

    fn y_of(&self, value: f64) -> f64 {
        HEIGHT - BOTTOM - self.y.share(value) * (HEIGHT - TOP - BOTTOM)
    }
}

fn legend_entry(line: &Line) -> String {
    let colour = line.colour;
    format!(
        "<li><svg class=\"s{colour}\" width=\"28\" height=\"12\" aria-hidden=\"true\"><line class=\"line\" x1=\"1\" x2=\"27\" y1=\"6\" y2=\"6\"/><g class=\"dot\">{}</g></svg>{}</li>",
        marker(colour, 14.0, 6.0),
        escape(&line.name)
    )
}

/// A shape for each colour, so that lines can be told apart without it.
fn marker(colour: usize, x: f64, y: f64) -> String {
    let shape = match colour % 4 {
        0 => return format!("<circle cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"3.2\"/>"),
        1 => [(-2.8, -2.8), (2.8, -2.8), (2.8, 2.8), (-2.8, 2.8)],
        2 => [(0.0, -3.8), (3.6, 3.0), (-3.6, 3.0), (0.0, -3.8)],
        _ => [(0.0, -4.2), (4.2, 0.0), (0.0, 4.2), (-4.2, 0.0)],
    };
    let corners = shape.map(|(right, down)| format!("{:.1},{:.1}", x + right, y + down));
    format!("<polygon points=\"{}\"/>", corners.join(" "))
}

/// The next of 1, 2, 2.5, 5 and 10 times a power of ten.
fn round_step(step: f64) -> f64 {
    let power = 10_f64.powf(step.log10().floor());
    let factors = [1.0, 2.0, 2.5, 5.0];
    let factor = factors
        .into_iter()
        .find(|factor| factor * power >= step * 0.999);
    factor.unwrap_or(10.0) * power
}

/// 0, 1, … up to and with `last`.
fn steps(last: f64) -> impl Iterator<Item = f64> {
    std::iter::successors(Some(0.0), |step| Some(step + 1.0))
        .take_while(move |step| *step <= last + 0.001)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::output::number::plain;

    fn texts(axis: &Axis) -> Vec<&str> {
        axis.ticks.iter().map(|(_, text)| text.as_str()).collect()
    }

    #[test]
    fn ticks_are_round() {
        let axis = Axis::from_zero("", 178_000.0, plain);
        assert_eq!(texts(&axis), ["0", "50 k", "100 k", "150 k", "200 k"]);
        let axis = Axis::from_zero("", 5.93, plain);
        assert_eq!(texts(&axis), ["0", "2", "4", "6"]);
        let axis = Axis::from_zero("", 0.0, plain);
        assert_eq!(texts(&axis).first(), Some(&"0"));
        let axis = Axis::log("", 184.0, 34_000.0, plain);
        assert_eq!(texts(&axis), ["100", "1,000", "10 k", "100 k"]);
        let axis = Axis::log("", 20.0, 700.0, plain);
        assert_eq!(
            texts(&axis),
            ["10", "20", "50", "100", "200", "500", "1,000"]
        );
    }

    #[test]
    fn points_lie_within_the_drawing() {
        let chart = Chart {
            title: "a < b".to_owned(),
            description: "c & d".to_owned(),
            x: Axis::from_zero("s", 4.0, plain),
            y: Axis::from_zero("messages/s", 10.0, plain),
            lines: vec![Line {
                colour: 0,
                name: "hubring".to_owned(),
                points: vec![(0.0, 0.0), (4.0, 10.0), (5.0, 99.0), (2.0, f64::NAN)],
            }],
        };
        let svg = chart.svg();
        assert!(svg.contains("points=\"58.0,220.0 420.0,30.0\""), "{svg}");
        assert!(
            svg.contains("<title>a &lt; b</title><desc>c &amp; d</desc>"),
            "{svg}"
        );
        assert!(!svg.contains("NaN"), "{svg}");
    }
}

//! Bars with their names and figures, as a table: it reads well where there are no drawings, and fits a telephone.

use crate::output::html::escape;
use crate::output::verdict::Spread;

/// Drawn height of a bar.
const HEIGHT: f64 = 18.0;

/// One line.
#[derive(Debug)]
pub(crate) struct Bar {
    pub(crate) name: String,
    /// Number of its colour; `None` for a reference that was measured elsewhere.
    pub(crate) colour: Option<usize>,
    /// Stacked, each with its name.
    pub(crate) parts: Vec<(String, f64)>,
    /// Of the whole.
    pub(crate) spread: Option<Spread>,
    /// What is written beside it.
    pub(crate) text: String,
}

impl Bar {
    /// Where it ends.
    pub(crate) fn sum(&self) -> f64 {
        self.parts.iter().map(|(_, value)| value).sum()
    }

    fn end(&self) -> f64 {
        self.spread.map_or(0.0, |spread| spread.max).max(self.sum())
    }

    fn row(&self, scale: f64) -> String {
        let class = self
            .colour
            .map_or_else(|| "reference".to_owned(), |colour| format!("s{colour}"));
        let is_ours = self.colour == Some(0);
        format!(
            "<tr role=\"row\"{}><th role=\"rowheader\" scope=\"row\">{}</th><td role=\"cell\" class=\"track\"><svg class=\"{class}\" width=\"100%\" height=\"{HEIGHT}\" aria-hidden=\"true\">{}</svg></td><td role=\"cell\" class=\"number\">{}</td></tr>",
            if is_ours { " class=\"ours\"" } else { "" },
            escape(&self.name),
            self.drawing(scale),
            escape(&self.text)
        )
    }

    /// The parts one behind the other, and the spread over them.
    fn drawing(&self, scale: f64) -> String {
        let percent = |value: f64| (value / scale * 100.0).clamp(0.0, 100.0);
        let mut svg = String::new();
        let mut start = 0.0;
        for (number, (name, value)) in self.parts.iter().enumerate() {
            svg += &part(number, name, percent(start), percent(*value));
            start += value;
        }
        if let Some(Spread { min, max, .. }) = self.spread {
            svg += &spread_line(percent(min), percent(max), HEIGHT / 2.0);
        }
        svg
    }
}

fn part(number: usize, name: &str, start: f64, width: f64) -> String {
    format!(
        "<rect class=\"bar part{number}\" x=\"{start:.2}%\" y=\"2\" width=\"{width:.2}%\" height=\"{}\" rx=\"2\"><title>{}</title></rect>",
        HEIGHT - 4.0,
        escape(name)
    )
}

/// From the least to the greatest sample, in percent of the width.
pub(crate) fn spread_line(from: f64, to: f64, middle: f64) -> String {
    format!(
        "<line class=\"spread\" x1=\"{from:.2}%\" x2=\"{to:.2}%\" y1=\"{middle}\" y2=\"{middle}\"/>"
    )
}

/// All bars on one scale, with a caption.
pub(crate) fn table(caption: &str, note: &str, bars: &[Bar]) -> String {
    let scale = bars.iter().map(Bar::end).fold(0.0, f64::max);
    let scale = if scale > 0.0 { scale } else { 1.0 };
    let rows: String = bars.iter().map(|bar| bar.row(scale)).collect();
    let note = if note.is_empty() {
        String::new()
    } else {
        format!("<p class=\"note\">{}</p>", escape(note))
    };
    format!(
        "<figure class=\"card\"><table class=\"bars\" role=\"table\"><caption>{}</caption><tbody role=\"rowgroup\">{rows}</tbody></table>{note}</figure>",
        escape(caption)
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bars_share_one_scale() {
        let bar = |name: &str, value, colour| Bar {
            name: name.to_owned(),
            colour,
            parts: vec![("service".to_owned(), value)],
            spread: None,
            text: format!("{value} µs"),
        };
        let html = table(
            "CPU <µs>",
            "",
            &[bar("hubring", 5.0, Some(0)), bar("other", 20.0, None)],
        );
        assert!(
            html.contains("width=\"25.00%\"") && html.contains("width=\"100.00%\""),
            "{html}"
        );
        assert!(html.contains("<caption>CPU &lt;µs&gt;</caption>"), "{html}");
        assert!(!table("nothing", "", &[bar("x", 0.0, None)]).contains("NaN"));
    }
}

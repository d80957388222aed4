//! What a figure is worth: from samples to a row of the table.

use std::collections::BTreeMap;

use crate::results::{Better, Row, Verdict};

/// What a figure has to reach. Where a mark is missing, there is nothing to reach at that grade.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct Marks {
    pub(crate) must: Option<f64>,
    pub(crate) target: Option<f64>,
    pub(crate) stretch: Option<f64>,
}

impl Marks {
    /// The best mark that `value` reaches. Where there is no must, nothing is below it: the figure does what it must, and
    /// [`Row::judgement`] says how much that is.
    pub(crate) fn verdict(self, value: Option<f64>, better: Better) -> Verdict {
        let Some(value) = value.filter(|value| value.is_finite()) else {
            return Verdict::Missing;
        };
        let reaches = |mark: Option<f64>| mark.is_some_and(|mark| better.reaches(value, mark));
        if reaches(self.stretch) {
            Verdict::Stretch
        } else if reaches(self.target) {
            Verdict::Target
        } else if reaches(self.must) || self.must.is_none() {
            Verdict::Must
        } else {
            Verdict::BelowMust
        }
    }

    /// Whether there is nothing to reach.
    pub(crate) fn are_none(self) -> bool {
        self == Self::default()
    }
}

impl Better {
    /// Whether `value` is as good as `mark`.
    pub(crate) fn reaches(self, value: f64, mark: f64) -> bool {
        match self {
            Self::Less => value <= mark,
            Self::More => value >= mark,
        }
    }
}

impl Verdict {
    /// As in the JSON.
    pub(crate) fn word(self) -> &'static str {
        match self {
            Self::Stretch => "stretch",
            Self::Target => "target",
            Self::Must => "must",
            Self::BelowMust => "below must",
            Self::Missing => "missing",
        }
    }

    /// Tells the verdicts apart where there is no colour.
    pub(crate) fn sign(self) -> &'static str {
        match self {
            Self::Stretch => "●●●",
            Self::Target => "●●○",
            Self::Must => "●○○",
            Self::BelowMust => "○○○",
            Self::Missing => "···",
        }
    }
}

/// Share of the time in which the service has to run for a rate to be its own.
pub(crate) const BUSY_MIN: f64 = 0.95;

impl Row {
    /// A row that has not been measured.
    pub(crate) fn new(row: &str, label: &str, unit: &str, better: Better, marks: Marks) -> Self {
        Self {
            row: row.to_owned(),
            label: label.to_owned(),
            value: None,
            min: None,
            max: None,
            unit: unit.to_owned(),
            better,
            must: marks.must,
            target: marks.target,
            stretch: marks.stretch,
            verdict: Verdict::Missing,
            floor_ratio: None,
            floor_busy: None,
            peers: BTreeMap::new(),
            samples: Vec::new(),
            service_busy: None,
            run: None,
            note: None,
        }
    }

    /// The row with the figure that these samples make. What is not a number is no sample.
    pub(crate) fn with_samples(mut self, mut samples: Vec<f64>) -> Self {
        samples.retain(|sample| sample.is_finite());
        let spread = Spread::of(&samples);
        self.value = spread.map(|spread| spread.median);
        self.min = spread.map(|spread| spread.min);
        self.max = spread.map(|spread| spread.max);
        self.verdict = self.marks().verdict(self.value, self.better);
        self.samples = samples;
        self
    }

    /// What it has to reach.
    pub(crate) fn marks(&self) -> Marks {
        Marks {
            must: self.must,
            target: self.target,
            stretch: self.stretch,
        }
    }

    /// Its verdict in a word. A figure that has no must and reaches none of its other marks is below the least of them, which is no
    /// fault; where there are no marks there is nothing to say.
    pub(crate) fn judgement(&self) -> Option<&'static str> {
        match (self.verdict, self.must, self.target, self.stretch) {
            (Verdict::Must, None, Some(_), _) => Some("below target"),
            (Verdict::Must, None, None, Some(_)) => Some("below stretch"),
            (Verdict::Must, None, None, None) => None,
            (verdict, ..) => Some(verdict.word()),
        }
    }

    /// Whether the floor that it is compared with was not kept busy. It costs more per message then, and the ratio is too good.
    pub(crate) fn is_floor_idle(&self) -> bool {
        self.floor_busy.is_some_and(|busy| busy < BUSY_MIN)
    }

    /// Whether it is a rate that comes from CPU time per message, because something else than the service set the pace.
    pub(crate) fn is_from_cpu_time(&self) -> bool {
        let was_idle = self.service_busy.is_some_and(|busy| busy < BUSY_MIN);
        self.better == Better::More && was_idle && self.value.is_some()
    }
}

/// How far samples are apart.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Spread {
    pub(crate) median: f64,
    pub(crate) min: f64,
    pub(crate) max: f64,
}

impl Spread {
    /// `None` of nothing. The median of an even number of samples is the mean of the two in the middle.
    pub(crate) fn of(samples: &[f64]) -> Option<Self> {
        let mut sorted = samples.to_vec();
        sorted.sort_by(f64::total_cmp);
        let upper = *sorted.get(sorted.len() / 2)?;
        let lower = *sorted.get((sorted.len() - 1) / 2)?;
        Some(Self {
            median: f64::midpoint(lower, upper),
            min: *sorted.first()?,
            max: *sorted.last()?,
        })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// From the best to the worst.
    const ORDER: [Verdict; 4] = [
        Verdict::Stretch,
        Verdict::Target,
        Verdict::Must,
        Verdict::BelowMust,
    ];

    fn grade(verdict: Verdict) -> usize {
        ORDER.iter().position(|known| *known == verdict).unwrap()
    }

    /// Three marks in the order that `better` asks for, each of which may be missing.
    fn marks(better: Better) -> impl Strategy<Value = Marks> {
        let mark = || proptest::option::of(0.0..100.0_f64);
        (mark(), mark(), mark()).prop_map(move |(must, target, stretch)| {
            let mut given: Vec<f64> = [must, target, stretch].into_iter().flatten().collect();
            given.sort_by(f64::total_cmp);
            if better == Better::Less {
                given.reverse();
            }
            let mut given = given.into_iter();
            let mut next = |mark: Option<f64>| mark.and_then(|_| given.next());
            Marks {
                must: next(must),
                target: next(target),
                stretch: next(stretch),
            }
        })
    }

    fn better_and_marks() -> impl Strategy<Value = (Better, Marks)> {
        let better = prop_oneof![Just(Better::Less), Just(Better::More)];
        better.prop_flat_map(|better| marks(better).prop_map(move |marks| (better, marks)))
    }

    proptest! {
        #[test]
        fn a_better_figure_has_no_worse_verdict(
            (better, marks) in better_and_marks(),
            one in 0.0..100.0_f64,
            other in 0.0..100.0_f64,
        ) {
            let (good, bad) = match better {
                Better::Less => (one.min(other), one.max(other)),
                Better::More => (one.max(other), one.min(other)),
            };
            let of = |value| grade(marks.verdict(Some(value), better));
            prop_assert!(of(good) <= of(bad));
        }

        #[test]
        fn a_mark_is_reached_by_itself((better, marks) in better_and_marks()) {
            for (mark, verdict) in [
                (marks.stretch, Verdict::Stretch),
                (marks.target, Verdict::Target),
                (marks.must, Verdict::Must),
            ] {
                if let Some(value) = mark {
                    prop_assert!(grade(marks.verdict(Some(value), better)) <= grade(verdict));
                }
            }
        }

        #[test]
        fn without_a_figure_it_is_missing((better, marks) in better_and_marks()) {
            prop_assert_eq!(marks.verdict(None, better), Verdict::Missing);
            prop_assert_eq!(marks.verdict(Some(f64::NAN), better), Verdict::Missing);
        }

        #[test]
        fn the_median_lies_between_the_ends(samples in proptest::collection::vec(-1e9..1e9_f64, 1..20)) {
            let Spread { median, min, max } = Spread::of(&samples).unwrap();
            prop_assert!(min <= median && median <= max);
            let below = samples.iter().filter(|sample| **sample < median).count();
            let above = samples.iter().filter(|sample| **sample > median).count();
            prop_assert!(below <= samples.len() / 2 && above <= samples.len() / 2);
        }
    }

    #[test]
    fn without_a_must_nothing_is_below_it() {
        let judged = |target, stretch, value| {
            let marks = Marks {
                must: None,
                target,
                stretch,
            };
            let row = Row::new("", "", "", Better::Less, marks).with_samples(vec![value]);
            (row.verdict, row.judgement())
        };
        assert_eq!(judged(None, None, 3.0), (Verdict::Must, None));
        let below = (Verdict::Must, Some("below target"));
        assert_eq!(judged(Some(2.0), None, 3.0), below);
        let below = (Verdict::Must, Some("below stretch"));
        assert_eq!(judged(None, Some(2.0), 3.0), below);
        assert_eq!(judged(None, Some(2.0), 2.0).1, Some("stretch"));
    }

    #[test]
    fn a_row_takes_its_figure_from_its_samples() {
        let marks = Marks {
            must: Some(8.0),
            target: Some(6.5),
            stretch: Some(5.0),
        };
        let row = Row::new("echo_2k", "Echo", "µs", Better::Less, marks);
        assert_eq!(row.verdict, Verdict::Missing);
        let row = row.with_samples(vec![6.0, f64::NAN, 9.0, 5.5, 6.4, 5.0]);
        assert_eq!(
            (row.value, row.min, row.max),
            (Some(6.0), Some(5.0), Some(9.0))
        );
        assert_eq!(row.verdict, Verdict::Target);
        assert_eq!(row.samples.len(), 5);
    }

    #[test]
    fn the_median_is_in_the_middle() {
        assert_eq!(Spread::of(&[]), None);
        let spread = |median, min, max| Some(Spread { median, min, max });
        assert_eq!(Spread::of(&[3.0]), spread(3.0, 3.0, 3.0));
        assert_eq!(Spread::of(&[5.0, 1.0, 9.0]), spread(5.0, 1.0, 9.0));
        assert_eq!(Spread::of(&[4.0, 1.0, 2.0, 9.0]), spread(3.0, 1.0, 9.0));
    }
}

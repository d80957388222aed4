//! Whether two series of samples differ by more than chance.
//!
//! The test is Mann and Whitney's (Wilcoxon's rank sum): it looks only at which samples are greater than which, so neither a stray
//! window nor the shape of the noise misleads it. Its probabilities are counted out rather than taken from the normal curve, which is
//! not near enough for five samples; equal samples share their ranks.

/// Samples of each series that are ranked. A longer series is joined to that many means of neighbours, which also takes out much of
/// what samples taken one after the other have in common.
const RANKED_MAX: usize = 30;

/// The probability that two series from the same source are as far apart as these, whichever is the greater. 1 if one of them is empty.
pub(crate) fn same_source_probability(one: &[f64], other: &[f64]) -> f64 {
    let (one, other) = (joined(one), joined(other));
    if one.is_empty() || other.is_empty() {
        return 1.0;
    }
    let ranks = doubled_ranks(&one, &other);
    let observed: usize = ranks.iter().take(one.len()).sum();
    // Ranks are doubled so that shared ones are whole numbers; so is the mean of their sum.
    let mean = one.len() * (ranks.len() + 1);
    let distance = observed.abs_diff(mean);
    let ways = ways_by_sum(&ranks, one.len());
    let all: f64 = ways.iter().sum();
    let as_far: f64 = ways
        .iter()
        .enumerate()
        .filter(|(sum, _)| sum.abs_diff(mean) >= distance)
        .map(|(_, ways)| ways)
        .sum();
    as_far / all
}

/// The least probability that so many samples can give: the more, the less.
pub(crate) fn least_probability(one: usize, other: usize) -> f64 {
    let (one, other) = (one.min(RANKED_MAX), other.min(RANKED_MAX));
    let ranks: Vec<usize> = (1..=one + other).collect();
    let choices: f64 = ways_by_sum(&ranks, one).iter().sum();
    (2.0 / choices).min(1.0)
}

/// At most [`RANKED_MAX`] means of neighbours.
fn joined(samples: &[f64]) -> Vec<f64> {
    let size = samples.len().div_ceil(RANKED_MAX).max(1);
    let mean = |block: &[f64]| {
        Some(block.iter().sum::<f64>() / f64::from(u32::try_from(block.len()).ok()?))
    };
    samples.chunks(size).filter_map(mean).collect()
}

/// Twice the rank of each sample among all, those of `one` first. Equal samples get the mean of their ranks.
fn doubled_ranks(one: &[f64], other: &[f64]) -> Vec<usize> {
    let all: Vec<f64> = one.iter().chain(other).copied().collect();
    let rank = |sample: &f64| {
        let less = all
            .iter()
            .filter(|other| other.total_cmp(sample).is_lt())
            .count();
        let equal = all
            .iter()
            .filter(|other| other.total_cmp(sample).is_eq())
            .count();
        2 * less + equal + 1
    };
    all.iter().map(rank).collect()
}

/// In how many ways `chosen` of the ranks add up to each sum.
fn ways_by_sum(ranks: &[usize], chosen: usize) -> Vec<f64> {
    let sums: usize = ranks.iter().sum::<usize>() + 1;
    // One line for each number of ranks chosen so far.
    let mut ways = vec![vec![0.0; sums]; chosen + 1];
    if let Some(way) = ways.first_mut().and_then(|none| none.first_mut()) {
        *way = 1.0;
    }
    for &rank in ranks {
        // From the most ranks down, so that no rank is chosen twice.
        for number in (1..=chosen).rev() {
            let (fewer, more) = ways.split_at_mut(number);
            if let (Some(from), Some(to)) = (fewer.last(), more.first_mut()) {
                for (way, added) in to.iter_mut().skip(rank).zip(from) {
                    *way += added;
                }
            }
        }
    }
    ways.pop().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn assert_near(one: f64, other: f64) {
        assert!((one - other).abs() < 1e-9, "{one} {other}");
    }

    #[test]
    fn five_against_five_that_do_not_meet() {
        // Two of the 252 choices of five out of ten are that far apart.
        let low = [1.0, 2.0, 3.0, 4.0, 5.0];
        let high = [6.0, 7.0, 8.0, 9.0, 10.0];
        assert_near(same_source_probability(&low, &high), 2.0 / 252.0);
        assert_near(same_source_probability(&high, &low), 2.0 / 252.0);
        assert_near(least_probability(5, 5), 2.0 / 252.0);
    }

    #[test]
    fn the_probabilities_are_those_of_the_tables() {
        // Three against four with a rank sum of 7 at the lower end: (1, 2, 3) and (1, 2, 4), and the same at the upper end, of 35.
        assert_near(
            same_source_probability(&[1.0, 2.0, 4.0], &[3.0, 5.0, 6.0, 7.0]),
            4.0 / 35.0,
        );
        assert_near(least_probability(3, 4), 2.0 / 35.0);
    }

    #[test]
    fn equal_samples_tell_nothing() {
        assert_near(same_source_probability(&[3.0; 5], &[3.0; 5]), 1.0);
        assert_near(same_source_probability(&[], &[3.0; 5]), 1.0);
        assert_near(same_source_probability(&[1.0, 2.0], &[1.0, 2.0]), 1.0);
        assert_near(least_probability(0, 5), 1.0);
    }

    #[test]
    fn shared_ranks_are_counted_out_too() {
        // Ranks 1.5, 1.5, 3.5, 3.5: one choice of six gives the low pair, one the high pair.
        assert_near(same_source_probability(&[1.0, 1.0], &[2.0, 2.0]), 2.0 / 6.0);
    }

    #[test]
    fn long_series_take_no_longer() {
        let low: Vec<f64> = (0..2_000).map(f64::from).collect();
        let high: Vec<f64> = (0..3_000)
            .map(|sample| f64::from(sample) + 5_000.0)
            .collect();
        assert!(same_source_probability(&low, &high) < 1e-9);
    }
}

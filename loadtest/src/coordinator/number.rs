//! Numbers to reckon with.

use crate::output::verdict::Spread;

/// The median, if there is anything.
pub(crate) fn median(values: &[f64]) -> Option<f64> {
    Spread::of(values).map(|spread| spread.median)
}

/// A number of messages or bytes.
#[expect(
    clippy::cast_precision_loss,
    reason = "it is exact up to 2^53, which takes longer than any run"
)]
pub(crate) fn float(count: u64) -> f64 {
    count as f64
}

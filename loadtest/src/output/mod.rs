//! What people see of a measurement: the table on the terminal and how far it has come, the report as JSON and as a page to look at,
//! and the comparison of two reports.
//!
//! All of it but the progress is pure: a [`Report`](crate::results::Report) in, text out. What was measured and what it is worth is
//! settled before: verdicts are set where rows are made, in [`verdict`].

mod azure_guide;
pub(crate) mod compare;
pub(crate) mod html;
pub(crate) mod json;
mod noise;
pub(crate) mod number;
pub(crate) mod progress;
pub(crate) mod runs;
#[cfg(test)]
mod sample;
pub(crate) mod terminal;
pub(crate) mod text;
pub(crate) mod verdict;

//! The main process: it starts contestants and workers, lets the contestants run in turn, and makes a report of what they did.
//!
//! [`place`] knows where everything runs. [`measurement`] opens all contestants of a comparison and goes round them, window by window, so
//! that whatever disturbs the machine disturbs all of them alike; [`session`] is one contestant with its [`workers`]. [`rows`] says what
//! the table consists of, [`row_values`] how a row comes from runs, [`table`] plans the time and puts it together; [`run`] is the same
//! for a single scenario.

mod head;
mod measurement;
mod number;
pub(crate) mod place;
mod row_values;
pub(crate) mod rows;
pub(crate) mod run;
pub(crate) mod scenario;
mod session;

pub(crate) mod table;
mod workers;

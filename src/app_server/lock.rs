//! A mutex that cannot be held across an await, nor be poisoned.

use std::fmt;
use std::sync::{Mutex, PoisonError};

/// A value that several tasks change. Each change is short and does not wait for anything.
#[derive(Default)]
pub(super) struct Lock<T>(Mutex<T>);

impl<T> Lock<T> {
    pub(super) fn new(value: T) -> Self {
        Self(Mutex::new(value))
    }

    /// Looks at or changes the value. A panic within leaves the value as it is then: every change here is a single step.
    pub(super) fn with<R>(&self, change: impl FnOnce(&mut T) -> R) -> R {
        change(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl<T: fmt::Debug> fmt::Debug for Lock<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.with(|value| value.fmt(f))
    }
}

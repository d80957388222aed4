//! Why a request is not served, as it is told to who asked.

use crate::frame::upgrade::UpgradeError;
use crate::shard::directory::DirectoryFull;
use crate::shard::pending::TakeError;

/// A request that is refused.
#[derive(Debug)]
pub(crate) struct Refusal {
    pub(crate) status: u16,
    pub(crate) text: String,
    /// Headers that the status asks for.
    pub(crate) headers: &'static [(&'static str, &'static str)],
    /// What a token would have to be like.
    pub(crate) challenge: Option<String>,
}

impl Refusal {
    pub(crate) fn new(status: u16, text: impl Into<String>) -> Self {
        Self {
            status,
            text: text.into(),
            headers: &[],
            challenge: None,
        }
    }

    pub(crate) fn bad_request(text: &str) -> Self {
        Self::new(400, text)
    }

    pub(crate) fn unauthorized(text: &str) -> Self {
        Self {
            challenge: Some("Bearer".to_owned()),
            ..Self::new(401, text)
        }
    }

    pub(crate) fn not_found(text: impl Into<String>) -> Self {
        Self::new(404, text)
    }

    pub(crate) fn unavailable(text: impl Into<String>) -> Self {
        Self::new(503, text)
    }
}

impl From<UpgradeError> for Refusal {
    fn from(error: UpgradeError) -> Self {
        Self {
            headers: error.headers(),
            ..Self::new(error.status(), error.to_string())
        }
    }
}

impl From<TakeError> for Refusal {
    fn from(error: TakeError) -> Self {
        match error {
            TakeError::Unknown => Self::not_found(error.to_string()),
            TakeError::OtherTransport(_) => Self::bad_request(&error.to_string()),
            // As ASP.NET Core, without a word.
            TakeError::InUse | TakeError::Lives(_) => Self::new(409, ""),
        }
    }
}

impl From<DirectoryFull> for Refusal {
    fn from(full: DirectoryFull) -> Self {
        Self::unavailable(full.to_string())
    }
}

//! One hub message in every encoding that its receivers may want.

use smallvec::SmallVec;

use super::Text;

/// Hub protocol → bytes, in the order written. A hub has one or two protocols, so looking through them beats hashing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Payloads<'a, P> {
    pairs: SmallVec<[(Text<'a>, P); 2]>,
}

impl<'a, P> Payloads<'a, P> {
    /// The payload for a hub protocol. Its name compares without regard to ASCII case.
    pub fn get(&self, protocol: &str) -> Option<&P> {
        self.iter()
            .find(|(name, _)| name.eq_ignore_ascii_case(protocol))
            .map(|(_, payload)| payload)
    }

    /// Adds a payload behind the others.
    pub fn push(&mut self, protocol: impl Into<Text<'a>>, payload: P) {
        self.pairs.push((protocol.into(), payload));
    }

    /// All of them.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &P)> {
        self.pairs
            .iter()
            .map(|(protocol, payload)| (&**protocol, payload))
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.pairs.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.pairs.is_empty()
    }
}

impl<P> Default for Payloads<'_, P> {
    fn default() -> Self {
        Self {
            pairs: SmallVec::new(),
        }
    }
}

impl<'a, P, N: Into<Text<'a>>> FromIterator<(N, P)> for Payloads<'a, P> {
    fn from_iter<I: IntoIterator<Item = (N, P)>>(pairs: I) -> Self {
        Self {
            pairs: pairs
                .into_iter()
                .map(|(protocol, payload)| (protocol.into(), payload))
                .collect(),
        }
    }
}

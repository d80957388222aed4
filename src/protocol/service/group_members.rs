//! What the answer to a [`GroupMemberQuery`](super::GroupMemberQuery) carries.

use super::Text;
use super::writer::MessagePackWriter;

/// One page of a group's members. Goes as the payload of an [`Ack`](super::Ack), a MessagePack array of its own.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct GroupMemberPage<'a> {
    /// Each connection with its user, if it has one.
    pub members: Vec<(Text<'a>, Option<Text<'a>>)>,
    /// What the query for the next page shall carry. `None`: this is the last one.
    pub continuation_token: Option<Text<'a>>,
}

impl GroupMemberPage<'_> {
    /// The payload. It is never empty.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::new();
        out.array(2);
        out.array(self.members.len());
        for (connection_id, user_id) in &self.members {
            out.array(2);
            out.text(connection_id);
            out.optional_text(user_id.as_deref());
        }
        out.optional_text(self.continuation_token.as_deref());
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Accepted by the SDK 1.34.0.
    #[test]
    fn pages_are_those_that_the_sdk_reads() {
        let first = GroupMemberPage {
            members: vec![("c1".into(), Some("u1".into())), ("c2".into(), None)],
            continuation_token: Some("tok2".into()),
        };
        assert_eq!(
            first.encode(),
            b"\x92\x92\x92\xa2c1\xa2u1\x92\xa2c2\xc0\xa4tok2"
        );
        let last = GroupMemberPage {
            members: vec![("c3".into(), Some("u3".into()))],
            continuation_token: None,
        };
        assert_eq!(last.encode(), b"\x92\x91\x92\xa2c3\xa2u3\xc0");
        assert_eq!(GroupMemberPage::default().encode(), b"\x92\x90\xc0");
    }
}

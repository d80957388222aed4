//! Names and numbers that identify things, each a type of its own.

use std::fmt;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

/// One pinned thread of the data plane, counted from 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ShardId(pub u16);

impl ShardId {
    /// As an index into what exists once per shard.
    pub fn index(self) -> usize {
        usize::from(self.0)
    }
}

impl fmt::Display for ShardId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Names a client connection, in public: the app server and other clients may know it.
///
/// 16 bytes, written as 22 characters of base64url. Twelve of them are random. The other four say which shard holds the connection, so
/// that whoever has an id knows where to send: two bytes for the shard, two kept for the node. They are mixed with random ones, which
/// hides nothing but keeps ids from looking alike.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ConnectionId(u128);

impl ConnectionId {
    /// Characters of a written id.
    pub const TEXT_BYTES: usize = 22;

    /// An id for a connection on `shard`. Of `random` the low 96 bits are used.
    pub fn new(shard: ShardId, random: u128) -> Self {
        let place = u128::from(shard.0) ^ random & 0xffff_ffff;
        Self(place << 96 | random & ((1 << 96) - 1))
    }

    /// Reads a written id. `None` if we cannot have written it.
    pub fn parse(text: &str) -> Option<Self> {
        if text.len() != Self::TEXT_BYTES {
            return None;
        }
        let mut bytes = [0; 16];
        let length = URL_SAFE_NO_PAD.decode_slice(text, &mut bytes).ok()?;
        (length == bytes.len()).then(|| Self(u128::from_be_bytes(bytes)))
    }

    /// The shard on which the connection was to live when the id was made.
    pub fn shard(self) -> ShardId {
        ShardId((self.0 >> 96 ^ self.0) as u16)
    }

    /// The written form.
    pub fn text(self) -> [u8; Self::TEXT_BYTES] {
        encode(self.0)
    }
}

impl fmt::Display for ConnectionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(std::str::from_utf8(&self.text()).unwrap_or_default())
    }
}

impl fmt::Debug for ConnectionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// What a client proves with that it is the one who negotiated: the secret `id=` of its URL. Never logged.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct ConnectionToken(u128);

impl ConnectionToken {
    /// A token of 128 random bits.
    pub fn new(random: u128) -> Self {
        Self(random)
    }

    /// Reads a written token. `None` if we cannot have written it.
    pub fn parse(text: &str) -> Option<Self> {
        ConnectionId::parse(text).map(|id| Self(id.0))
    }

    /// The written form.
    pub fn text(self) -> String {
        String::from_utf8_lossy(&encode(self.0)).into_owned()
    }
}

impl From<ConnectionId> for ConnectionToken {
    /// In version 0 of negotiate one id serves as both.
    fn from(id: ConnectionId) -> Self {
        Self(id.0)
    }
}

impl fmt::Debug for ConnectionToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ConnectionToken(…)")
    }
}

/// A hub's name as it is compared: lower case, not empty, with the app's prefix if it has one.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct HubName(Arc<str>);

impl HubName {
    /// Longest name that is accepted, in bytes.
    pub const BYTES_MAX: usize = 256;

    /// Reads a name. `None` when it is empty, too long or holds a control character.
    pub fn parse(text: &str) -> Option<Self> {
        let fits = !text.is_empty()
            && text.len() <= Self::BYTES_MAX
            && !text.chars().any(char::is_control);
        fits.then(|| Self(text.to_lowercase().into()))
    }

    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for HubName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for HubName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&*self.0, f)
    }
}

fn encode(value: u128) -> [u8; ConnectionId::TEXT_BYTES] {
    let mut text = [0; ConnectionId::TEXT_BYTES];
    let length = URL_SAFE_NO_PAD.encode_slice(value.to_be_bytes(), &mut text);
    debug_assert_eq!(
        length,
        Ok(ConnectionId::TEXT_BYTES),
        "16 bytes are 22 characters"
    );
    text
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn an_id_is_made_of_characters_that_a_url_can_hold() {
        let id = ConnectionId::new(ShardId(3), 0x0123_4567_89ab_cdef_fedc_ba98);
        assert_eq!(id.to_string(), "_ty6mwEjRWeJq83v_ty6mA");
        assert_eq!(format!("{id:?}"), id.to_string());
    }

    #[test]
    fn what_we_cannot_have_written_is_no_id() {
        let foreign = [
            "",
            "_ty6mwEjRWeJq83v_ty6m",
            "_ty6mwEjRWeJq83v_ty6mAA",
            "_ty6mwEjRWeJq83v_ty6m=",
            "/ty6mwEjRWeJq83v/ty6mA",
            "_ty6mwEjRWeJq83v ty6mA",
            // Bits that belong to no byte.
            "_ty6mwEjRWeJq83v_ty6mB",
            // 22 bytes, but fewer characters.
            "ééééééééééé",
            "5e6b7c1a-9d0f-4f6e-8f6a-0123456789ab",
        ];
        for text in foreign {
            assert_eq!(ConnectionId::parse(text), None, "{text}");
            assert!(ConnectionToken::parse(text).is_none(), "{text}");
        }
    }

    #[test]
    fn a_token_keeps_its_secret() {
        let token = ConnectionToken::new(u128::MAX);
        assert_eq!(token.text(), "_____________________w");
        assert!(!format!("{token:?}").contains("__"));
        let id = ConnectionId::new(ShardId(1), 7);
        assert_eq!(ConnectionToken::from(id).text(), id.to_string());
    }

    #[test]
    fn names_of_hubs_compare_without_case_and_have_bounds() {
        assert_eq!(HubName::parse("App_Chat"), HubName::parse("app_chat"));
        assert_eq!(
            HubName::parse("Chat").expect("it is valid").as_str(),
            "chat"
        );
        let longest = "x".repeat(HubName::BYTES_MAX);
        assert!(HubName::parse(&longest).is_some());
        for name in ["", "a\nb", "\u{7f}", &format!("{longest}x")] {
            assert_eq!(HubName::parse(name), None);
        }
    }

    proptest! {
        #[test]
        fn an_id_is_read_as_it_was_written_and_names_its_shard(shard: u16, random: u128) {
            let id = ConnectionId::new(ShardId(shard), random);
            prop_assert_eq!(id.shard(), ShardId(shard));
            prop_assert_eq!(ConnectionId::parse(&id.to_string()), Some(id));
            prop_assert_eq!(id.to_string().into_bytes(), id.text().to_vec());
            let token = ConnectionToken::new(random);
            prop_assert!(ConnectionToken::parse(&token.text()) == Some(token));
        }

        #[test]
        fn what_can_be_read_is_what_would_be_written(text in "[A-Za-z0-9_-]{22}") {
            if let Some(id) = ConnectionId::parse(&text) {
                prop_assert_eq!(id.to_string(), text);
            }
        }

        #[test]
        fn any_text_can_be_looked_at(text: String) {
            if let Some(id) = ConnectionId::parse(&text) {
                prop_assert_eq!(id.to_string(), text.clone());
            }
            if let Some(name) = HubName::parse(&text) {
                prop_assert_eq!(HubName::parse(name.as_str()), Some(name));
            }
        }
    }
}

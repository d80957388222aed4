//! Query strings, without their question mark.
//!
//! Names are compared without regard to case, as ASP.NET does. A name may occur more than once.

use std::borrow::Cow;

/// The parameter with which browsers send their token.
const ACCESS_TOKEN: &str = "access_token";

/// All names and values, decoded, in order.
pub fn pairs(query: &str) -> impl Iterator<Item = (Cow<'_, str>, Cow<'_, str>)> {
    form_urlencoded::parse(query.as_bytes())
}

/// All values of a parameter, decoded, in order.
pub fn all<'a>(query: &'a str, name: &'a str) -> impl Iterator<Item = Cow<'a, str>> {
    pairs(query)
        .filter(move |(other, _)| other.eq_ignore_ascii_case(name))
        .map(|(_, value)| value)
}

/// The first value of a parameter, decoded.
pub fn first<'a>(query: &'a str, name: &'a str) -> Option<Cow<'a, str>> {
    all(query, name).next()
}

/// The last value of a parameter, decoded.
pub fn last<'a>(query: &'a str, name: &'a str) -> Option<Cow<'a, str>> {
    all(query, name).last()
}

/// The query without any access token, in whatever way its name is written. All other bytes stay as they are.
///
/// There may be several: one that the app had in the query of its negotiate URL, and the one that the browser appended.
pub fn without_access_token(query: &str) -> String {
    let mut kept = String::with_capacity(query.len());
    let mut is_first = true;
    for pair in query
        .split('&')
        .filter(|pair| first(pair, ACCESS_TOKEN).is_none())
    {
        if !is_first {
            kept.push('&');
        }
        kept.push_str(pair);
        is_first = false;
    }
    kept
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_values_whatever_the_case_of_their_name() {
        let query = "Hub=ch%61t&id=a%2Bb+c&HUB=two&flag&%68ub=3";
        assert_eq!(first(query, "hub").as_deref(), Some("chat"));
        assert_eq!(last(query, "hub").as_deref(), Some("3"));
        assert_eq!(all(query, "hub").collect::<Vec<_>>(), ["chat", "two", "3"]);
        assert_eq!(first(query, "ID").as_deref(), Some("a+b c"));
        assert_eq!(first(query, "flag").as_deref(), Some(""));
        assert_eq!(first(query, "asrs"), None);
        assert_eq!(last("", "hub"), None);
    }

    #[test]
    fn takes_out_every_access_token_and_nothing_else() {
        let cases = [
            ("", ""),
            ("access_token=x", ""),
            ("hub=chat&access_token=x", "hub=chat"),
            ("access_token=x&hub=chat", "hub=chat"),
            (
                "a=%7e+1&access_token=x&b=%7E&access_token=y&a=2",
                "a=%7e+1&b=%7E&a=2",
            ),
            ("Access_Token=x&access%5Ftoken=y&%61ccess_token&z", "z"),
            ("a=1&&b=2&", "a=1&&b=2&"),
            (
                "access_token2=x&my_access_token=y&a=access_token=z",
                "access_token2=x&my_access_token=y&a=access_token=z",
            ),
        ];
        for (query, expected) in cases {
            assert_eq!(without_access_token(query), expected, "{query}");
        }
    }
}

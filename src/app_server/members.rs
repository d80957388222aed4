//! The members of a group, page after page.
//!
//! A page comes as the payload of an ack, a MessagePack array: the members, each a connection id and a user id or nil, and what the
//! next page is asked for with, nil on the last one. Each endpoint is asked for its own members, one endpoint after the other.

use std::collections::VecDeque;
use std::sync::Arc;

use futures_util::stream::{self, Stream};

use super::clients::SendError;
use super::groups::Groups;
use super::request::{RequestError, ask_on};
use super::server_connection::ServerConnection;
use crate::protocol::hub::message::Value;
use crate::protocol::service::GroupMemberQuery;

/// A connection that is in a group.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "camelCase")]
pub struct GroupMember {
    /// The connection.
    pub connection_id: String,
    /// The user it belongs to, if there is one.
    pub user_id: Option<String>,
}

/// How much of a group is wanted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct MemberQuery {
    /// Members at most, over all pages.
    pub top: Option<u32>,
    /// Members of one page at most. Without it the service decides.
    pub page_size: Option<u32>,
}

impl Groups {
    /// The members of a group, a page at a time. Who comes or goes meanwhile may be among them or not.
    pub fn members(
        &self,
        group: &str,
        query: MemberQuery,
    ) -> impl Stream<Item = Result<Vec<GroupMember>, RequestError>> + Send + use<> {
        let routes = self.hub.routes(self.via.as_ref(), group);
        let (routes, error) = match routes {
            Ok(routes) => (routes.iter().cloned().collect(), None),
            Err(error) => (VecDeque::new(), Some(error)),
        };
        let pages = Pages {
            groups: self.clone(),
            group: group.to_owned(),
            routes,
            error,
            continuation: None,
            top_left: query.top,
            page_size: query.page_size,
        };
        stream::unfold(pages, |mut pages| async {
            let page = pages.next().await?;
            Some((page, pages))
        })
    }
}

/// What is still to be asked.
struct Pages {
    groups: Groups,
    group: String,
    /// The first is being asked.
    routes: VecDeque<Arc<ServerConnection>>,
    /// Why there is nobody to ask.
    error: Option<SendError>,
    /// Where the page before ended.
    continuation: Option<String>,
    top_left: Option<u32>,
    page_size: Option<u32>,
}

impl Pages {
    async fn next(&mut self) -> Option<Result<Vec<GroupMember>, RequestError>> {
        if let Some(error) = self.error.take() {
            return Some(Err(error.into()));
        }
        if self.top_left == Some(0) {
            return None;
        }
        let route = Arc::clone(self.routes.front()?);
        let page = self.ask(&route).await;
        match page {
            Ok((members, continuation)) => {
                let count = members.len() as u32;
                self.top_left = self.top_left.map(|left| left.saturating_sub(count));
                self.continuation = continuation;
                if self.continuation.is_none() {
                    self.routes.pop_front();
                }
                Some(Ok(members))
            }
            Err(error) => {
                self.routes.clear();
                Some(Err(error))
            }
        }
    }

    async fn ask(&self, route: &ServerConnection) -> Result<Page, RequestError> {
        let number = |number: u32| i32::try_from(number).unwrap_or(i32::MAX);
        let request = |ack_id| {
            GroupMemberQuery {
                group: self.group.as_str().into(),
                ack_id,
                top: self.top_left.map(number),
                continuation_token: self.continuation.as_deref().map(Into::into),
                max_page_size: self.page_size.map(number),
                tracing_id: None,
            }
            .into()
        };
        let answer = ask_on(&self.groups.hub, route, request).await?;
        answer
            .payload
            .and_then(|payload| read_page(&payload))
            .ok_or(RequestError::Unreadable)
    }
}

/// The members of a page, and what the next one is asked for with.
type Page = (Vec<GroupMember>, Option<String>);

/// How deep a page may be nested, where each array and each string counts twice.
const DEPTH_MAX: usize = 16;

fn read_page(mut payload: &[u8]) -> Option<Page> {
    let value = rmpv::decode::read_value_with_max_depth(&mut payload, DEPTH_MAX).ok()?;
    let Value::Array(parts) = value else {
        return None;
    };
    let mut parts = parts.into_iter();
    let Some(Value::Array(members)) = parts.next() else {
        return None;
    };
    let continuation = match parts.next() {
        Some(token) if !token.is_nil() => Some(token.as_str()?.to_owned()),
        Some(_) | None => None,
    };
    let members: Option<_> = members.iter().map(read_member).collect();
    Some((members?, continuation))
}

fn read_member(value: &Value) -> Option<GroupMember> {
    let fields = value.as_array()?;
    let user_id = fields.get(1).filter(|user_id| !user_id.is_nil());
    Some(GroupMember {
        connection_id: fields.first()?.as_str()?.to_owned(),
        user_id: match user_id {
            Some(user_id) => Some(user_id.as_str()?.to_owned()),
            None => None,
        },
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn member(connection_id: &str, user_id: Option<&str>) -> GroupMember {
        GroupMember {
            connection_id: connection_id.to_owned(),
            user_id: user_id.map(str::to_owned),
        }
    }

    #[test]
    fn pages_are_read_as_recorded() {
        let first = b"\x92\x92\x92\xa2c1\xa2u1\x92\xa2c2\xc0\xa4tok2";
        let members = vec![member("c1", Some("u1")), member("c2", None)];
        assert_eq!(read_page(first), Some((members, Some("tok2".to_owned()))));
        let last = b"\x92\x91\x92\xa2c3\xa2u3\xc0";
        assert_eq!(
            read_page(last),
            Some((vec![member("c3", Some("u3"))], None))
        );
        assert_eq!(read_page(b"\x92\x90\xc0"), Some((vec![], None)));
    }

    #[test]
    fn what_is_no_page_is_not_read() {
        let not_pages: [&[u8]; 7] = [
            b"",
            b"\xc0",
            b"\x90",
            b"\x92\xc0\xc0",
            b"\x92\x91\xa2c1\xc0",
            b"\x92\x90\x01",
            b"\x92\x91\x92\xa2c1\x07\xc0",
        ];
        for payload in not_pages {
            assert_eq!(read_page(payload), None, "{payload:02x?}");
        }
    }
}

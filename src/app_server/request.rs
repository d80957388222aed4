//! Requests to the service that it answers with an ack.
//!
//! Each endpoint is asked under an ack id of its own. With several endpoints one yes is enough where a question is asked or a single
//! connection is meant: each knows its own clients only, so "not here" of one says nothing about the others. What concerns a user, a
//! group or the hub has to be done by all of them.

use std::sync::Arc;

use bytes::Bytes;
use futures_util::StreamExt as _;
use futures_util::future::join_all;
use futures_util::stream::FuturesUnordered;

use super::clients::SendError;
use super::hub::HubError;
use super::hub_server::HubServer;
use super::pending::AckError;
use super::server_connection::ServerConnection;

type Message<'a> = crate::protocol::service::Message<'a, &'a [u8]>;

/// Why a request was not carried out, as far as is known.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RequestError {
    /// It was not sent.
    #[error(transparent)]
    Send(#[from] SendError),
    /// It was not answered in time, or refused.
    #[error(transparent)]
    Ack(#[from] AckError),
    /// The answer is not what was asked for.
    #[error("the service's answer cannot be read")]
    Unreadable,
}

impl From<RequestError> for HubError {
    fn from(error: RequestError) -> Self {
        Self::Internal(error.to_string())
    }
}

/// Where a request goes, unless it goes everywhere: what `key` names decides on the server connection, unless `via` is open.
#[derive(Clone, Copy, Debug)]
pub(super) struct Requests<'a> {
    pub(super) hub: &'a HubServer,
    pub(super) via: Option<&'a Arc<ServerConnection>>,
    pub(super) key: &'a str,
}

impl Requests<'_> {
    /// Asks every endpoint. Yes if one of them says yes; no only if all do.
    pub(super) async fn ask<'m>(
        self,
        request: impl Fn(i32) -> Message<'m>,
    ) -> Result<bool, RequestError> {
        let routes = self.hub.routes(self.via, self.key)?;
        let mut answers: FuturesUnordered<_> = routes
            .iter()
            .map(|route| ask_on(self.hub, route, &request))
            .collect();
        let mut result = Ok(false);
        while let Some(answer) = answers.next().await {
            match answer {
                Ok(Answer { is_yes: true, .. }) => return Ok(true),
                Ok(_) => {}
                Err(error) => result = Err(error),
            }
        }
        result
    }

    /// Has every endpoint do it to clients of its own, and waits for all of them. Fails if one of them does.
    pub(super) async fn order<'m>(
        self,
        request: impl Fn(i32) -> Message<'m>,
    ) -> Result<bool, RequestError> {
        let routes = self.hub.routes(self.via, self.key)?;
        let asked = routes.iter();
        let answers = join_all(asked.map(|route| ask_on(self.hub, route, &request))).await;
        answers
            .into_iter()
            .try_fold(false, |is_any_yes, answer| Ok(answer?.is_yes || is_any_yes))
    }

    /// Tells every endpoint, which does not answer.
    pub(super) async fn tell(self, message: impl Into<Message<'_>>) -> Result<(), SendError> {
        let routes = self.hub.routes(self.via, self.key)?;
        routes.send(&message.into()).await?;
        Ok(())
    }
}

/// What an endpoint answered.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) is_yes: bool,
    /// What was asked for, where that is more than yes or no.
    pub(super) payload: Option<Bytes>,
}

/// Asks one endpoint.
pub(super) async fn ask_on<'m>(
    hub: &HubServer,
    route: &ServerConnection,
    request: impl Fn(i32) -> Message<'m>,
) -> Result<Answer, RequestError> {
    let ack = hub.process.acks.begin();
    route
        .send(&request(ack.id))
        .await
        .map_err(|_| SendError::ServerConnectionLost)?;
    Ok(ack.wait().await?)
}

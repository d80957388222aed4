//! Admission of a socket that wants to take the place of a client's old one.

use tokio::sync::oneshot;

use super::arrival::user_of;
use super::client::watch_for_stalling;
use super::gate::SocketHold;
use super::refusal::Refusal;
use super::{Admission, Asked, duplicate};
use crate::frame::upgrade::{UpgradeKey, switching_protocols};
use crate::protocol::access_token::AccessToken;
use crate::routing::{HubId, ResumeError};
use crate::shard::Resumption;
use crate::shard::pending::Lodging;

/// Hands the socket to the shard of the client, which answers the upgrade if the client may have it.
pub(super) async fn resume_client(
    asked: &mut Asked<'_>,
    admission: &Admission,
    key: &UpgradeKey,
    hold: SocketHold,
    lodging: Lodging,
    hub: HubId,
    token: &AccessToken,
) -> Result<(), Refusal> {
    let fd = duplicate(asked.stream)?;
    if asked.stream.set_nodelay(true).is_err() {
        // It has gone meanwhile.
        return Ok(());
    }
    watch_for_stalling(&fd);
    let (answer, answered) = oneshot::channel();
    let resumption = Resumption {
        fd,
        hold,
        early: asked.take_early(),
        switching_protocols: switching_protocols(key),
        id: lodging.id,
        hub,
        user: user_of(token).map(Into::into),
        answer,
    };
    admission
        .shard
        .borrow_mut()
        .ask_to_resume(lodging.shard, Box::new(resumption));
    match answered.await {
        Ok(Ok(())) => Ok(()),
        Ok(Err(error @ ResumeError::Gone)) => Err(Refusal::not_found(error.to_string())),
        Ok(Err(error @ ResumeError::InUse)) => Err(Refusal::new(409, error.to_string())),
        Err(_) => Err(Refusal::unavailable("The service is shutting down.")),
    }
}

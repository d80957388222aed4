//! Admission of client connections that are WebSockets.

use std::os::fd::AsFd;
use std::time::Instant;

use socket2::SockRef;

use super::arrival::{Arriving, check_transport, place_client};
use super::identity::{bearer, connection_token, hub_name, validate};
use super::refusal::Refusal;
use super::resume::resume_client;
use super::{Admission, Asked, upgrade};
use crate::frame::upgrade::{RequestHead, query};
use crate::limits::CLIENT_STALL_MAX;
use crate::protocol::access_token::Audience;
use crate::protocol::negotiate::Transport;
use crate::shard::AdmittedClient;
use crate::shard::directory::HubEntry;
use crate::shard::pending::{Expected, Lodging, TakeError, TokenHold};

/// Upgrades a client and hands it to the shard of the server connection that is chosen for it.
pub(super) async fn admit_client(
    asked: &mut Asked<'_>,
    admission: &Admission,
) -> Result<(), Refusal> {
    let head = &asked.head;
    let hub = hub_name(head.query())?;
    let from_query = query::last(head.query(), "access_token");
    let token = bearer(head.header("authorization")).or(from_query.as_deref());
    let token = validate(&admission.gate.keys, token, Audience::Client(&hub))?;
    check_transport(&token, Transport::WebSockets)?;
    let key = head.check_upgrade()?;
    let hold = admission.hold_socket(asked.hold.take())?;
    let entry = admission.directory.hub(&hub)?;
    let expected = match expected(&asked.head, &entry, admission)? {
        Arrival::New(expected) => expected,
        Arrival::Back(lodging) => {
            return resume_client(asked, admission, &key, hold, lodging, entry.id, &token).await;
        }
    };
    let arriving = Arriving {
        query: asked.head.query(),
        headers: asked.head.headers().collect(),
        peer: asked.peer,
        transport: Transport::WebSockets,
    };
    let prefer = Some(admission.shard_id);
    let (new, place) = place_client(&arriving, &token, &entry, expected, &admission.gate, prefer)?;
    if let Some(fd) = upgrade(asked.stream, &key).await? {
        watch_for_stalling(&fd);
        let client = AdmittedClient {
            fd,
            hold,
            early: asked.take_early(),
            new,
            place,
        };
        admission
            .shard
            .borrow_mut()
            .admit_client(Box::new(client), Instant::now());
    }
    Ok(())
}

/// The kernel watches for clients that stop reading; a limit on what waits for them would not see one for whom little does.
pub(crate) fn watch_for_stalling(socket: &impl AsFd) {
    let stall = SockRef::from(socket).set_tcp_user_timeout(Some(CLIENT_STALL_MAX));
    if let Err(error) = stall {
        tracing::debug!(%error, "a client cannot be watched for stalling");
    }
}

/// Who has come.
enum Arrival {
    /// A new client, with what was kept for it when it negotiated. None: it did not negotiate with us, which it need not.
    New(Option<(Expected, TokenHold)>),
    /// One that is there already, and may have lost its socket.
    Back(Lodging),
}

fn expected(head: &RequestHead, hub: &HubEntry, admission: &Admission) -> Result<Arrival, Refusal> {
    let Some(token) = connection_token(head.query())? else {
        return Ok(Arrival::New(None));
    };
    let pending = &admission.gate.pending;
    match pending.take(token, &hub.name, Transport::WebSockets, Instant::now()) {
        Ok(expected) => Ok(Arrival::New(Some(expected))),
        Err(TakeError::Lives(lodging)) => Ok(Arrival::Back(lodging)),
        Err(error) => Err(error.into()),
    }
}

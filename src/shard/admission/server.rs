//! Admission of server connections.
//!
//! A `target` in the URL is what a `target` ping of ours has said: the connection belongs on the shard that it names. One that means another
//! instance, such as the one that ran here before, or that names no shard, changes nothing: the connection is welcome all the same.
//! The id (`cid`) is a name for people, chosen by the app server. It may be used twice, and need not be there.

use std::time::Instant;

use super::identity::{bearer, hub_name, validate};
use super::refusal::Refusal;
use super::{Admission, Asked, upgrade};
use crate::frame::upgrade::query;
use crate::limits::NAME_BYTES_MAX;
use crate::protocol::access_token::Audience;
use crate::routing::NewServer;
use crate::routing::rebalance::shard_of_target;
use crate::shard::AdmittedServer;

/// Upgrades a server connection and hands it to the shard for which it was asked, or to the one that has the fewest of its hub.
pub(super) async fn admit_server(
    asked: &mut Asked<'_>,
    admission: &Admission,
) -> Result<(), Refusal> {
    let head = &asked.head;
    let hub = hub_name(head.query())?;
    let token = validate(
        &admission.gate.keys,
        bearer(head.header("authorization")),
        Audience::Server(&hub),
    )?;
    let key = head.check_upgrade()?;
    let hold = admission.hold_socket(asked.hold.take())?;
    let entry = admission.directory.hub(&hub)?;
    let connection_id = query::first(head.query(), "cid").unwrap_or_default();
    let server_id = token
        .server_id()
        .or_else(|| head.header("x-asrs-server-id"))
        .unwrap_or(&connection_id);
    if connection_id.len() > NAME_BYTES_MAX || server_id.len() > NAME_BYTES_MAX {
        return Err(Refusal::bad_request(
            "The id of the server connection is too long.",
        ));
    }
    let new = NewServer {
        hub: entry.id,
        server_id: server_id.into(),
        connection_id: connection_id.into(),
    };
    let directory = &admission.directory;
    let wanted_on = query::first(head.query(), "target").and_then(|target| {
        shard_of_target(
            &target,
            &admission.gate.instance_id,
            directory.shard_count(),
        )
    });
    let place = directory.place_server(&entry, &new.server_id, wanted_on, admission.shard_id)?;
    if let Some(fd) = upgrade(asked.stream, &key).await? {
        let server = AdmittedServer {
            fd,
            hold,
            early: asked.take_early(),
            new,
            place,
        };
        if wanted_on.is_some() {
            admission.counters.servers_came_as_asked.increment();
        }
        admission
            .shard
            .borrow_mut()
            .admit_server(Box::new(server), Instant::now());
    }
    Ok(())
}

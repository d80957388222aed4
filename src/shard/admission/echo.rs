//! Admission of echo connections: the upgrade has to be right, and that is all.

use std::time::Instant;

use super::client::watch_for_stalling;
use super::refusal::Refusal;
use super::{Admission, Asked, upgrade};

/// Upgrades a connection, whatever its path, and leaves it on this shard.
pub(super) async fn admit_echo(
    asked: &mut Asked<'_>,
    admission: &Admission,
) -> Result<(), Refusal> {
    let key = asked.head.check_upgrade()?;
    let hold = admission.hold_socket(asked.hold.take())?;
    if let Some(fd) = upgrade(asked.stream, &key).await? {
        watch_for_stalling(&fd);
        let early = asked.take_early();
        let mut shard = admission.shard.borrow_mut();
        shard.adopt_echo(fd, hold, early, Instant::now());
    }
    Ok(())
}

//! The way between a client that is served here and its shard.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::sync::oneshot;

use crate::routing::{NewClient, SocketKey};
use crate::shard::outlet::Outlet;
use crate::shard::place::ClientPlace;
use crate::shard::{AdmittedHttpClient, Delivery, HttpData, ShardPostbox};

/// Time until a mail that found no room is posted again.
const POST_RETRY_DELAY: Duration = Duration::from_millis(1);

/// Sends to a shard what comes from one client, and holds what the shard has for it. The shard learns of its end, when it is dropped at
/// the latest.
#[derive(Debug)]
pub(super) struct Link {
    postbox: ShardPostbox,
    client: SocketKey,
    outlet: Arc<Outlet>,
    is_closed: AtomicBool,
}

/// The client is not there any more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Gone;

impl Link {
    /// Gives a client to its shard. `None` if the shard does not take it.
    pub(super) async fn open(
        postbox: ShardPostbox,
        new: NewClient,
        place: ClientPlace,
    ) -> Option<Self> {
        let outlet = Arc::new(Outlet::default());
        let (adopted, is_adopted) = oneshot::channel();
        let client = Box::new(AdmittedHttpClient {
            new,
            place,
            outlet: Arc::clone(&outlet),
            adopted,
        });
        post(&postbox, Delivery::HttpClient(client)).await;
        let client = is_adopted.await.ok()?;
        Some(Self::new(postbox, client, outlet))
    }

    pub(super) fn new(postbox: ShardPostbox, client: SocketKey, outlet: Arc<Outlet>) -> Self {
        Self {
            postbox,
            client,
            outlet,
            is_closed: AtomicBool::new(false),
        }
    }

    /// What the shard has for the client.
    pub(super) fn outlet(&self) -> &Outlet {
        &self.outlet
    }

    /// Sends bytes from the client, and waits until they have been passed on.
    pub(super) async fn send(&self, bytes: Vec<u8>) -> Result<(), Gone> {
        let (taken, is_taken) = oneshot::channel();
        let data = HttpData {
            client: self.client,
            bytes,
            taken,
        };
        post(&self.postbox, Delivery::HttpData(data)).await;
        is_taken.await.map_err(|_| Gone)
    }

    /// The client has gone.
    pub(super) fn close(&self) {
        if self.is_closed.swap(true, Ordering::Relaxed) {
            return;
        }
        let Err(delivery) = self.postbox.post(Delivery::HttpClosed(self.client)) else {
            return;
        };
        let postbox = self.postbox.clone();
        // Without a runtime the service has ended, and its shards with it.
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            runtime.spawn(async move { post(&postbox, delivery).await });
        }
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        self.close();
    }
}

/// Posts a mail as soon as there is room for it.
async fn post(postbox: &ShardPostbox, mut delivery: Delivery) {
    while let Err(back) = postbox.post(delivery) {
        delivery = back;
        tokio::time::sleep(POST_RETRY_DELAY).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::shard::mailbox::{Mailbox, mailbox};
    use crate::shard::ring::wake::Wake;

    const CLIENT: SocketKey = SocketKey {
        slot: 3,
        generation: 9,
    };

    fn link(depth: usize) -> (Link, Mailbox<Delivery>) {
        let (postbox, mailbox) = mailbox(depth, Wake::new().unwrap());
        (Link::new(postbox, CLIENT, Arc::default()), mailbox)
    }

    async fn next(mailbox: &Mailbox<Delivery>) -> Delivery {
        loop {
            match mailbox.take() {
                Some(delivery) => return delivery,
                None => tokio::task::yield_now().await,
            }
        }
    }

    #[tokio::test]
    async fn what_is_sent_waits_for_room_and_until_it_is_taken() {
        let (link, mailbox) = link(1);
        assert!(link.postbox.post(Delivery::Drain).is_ok());
        let shard = async {
            assert!(matches!(next(&mailbox).await, Delivery::Drain));
            let Delivery::HttpData(data) = next(&mailbox).await else {
                panic!("no data");
            };
            assert_eq!((data.client, &*data.bytes), (CLIENT, &b"abc"[..]));
            data.taken.send(()).unwrap();
        };
        let (sent, ()) = tokio::join!(link.send(b"abc".to_vec()), shard);
        assert_eq!(sent, Ok(()));
    }

    #[tokio::test]
    async fn what_a_shard_does_not_take_is_an_error() {
        let (link, mailbox) = link(1);
        let (sent, ()) = tokio::join!(link.send(Vec::new()), async {
            drop(next(&mailbox).await);
        });
        assert_eq!(sent, Err(Gone));
    }

    #[tokio::test]
    async fn the_end_is_told_once_even_if_there_is_no_room_at_first() {
        let (link, mailbox) = link(1);
        assert!(link.postbox.post(Delivery::Drain).is_ok());
        link.close();
        drop(link);
        assert!(matches!(next(&mailbox).await, Delivery::Drain));
        assert!(matches!(next(&mailbox).await, Delivery::HttpClosed(CLIENT)));
        tokio::task::yield_now().await;
        assert!(mailbox.take().is_none());
    }
}

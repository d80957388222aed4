//! Server connections that the service asks for.

use super::*;

const ON_DEMAND_HANDSHAKE: &str = "0897010101a00080c2";

#[tokio::test]
async fn each_wish_opens_one_connection_up_to_the_highest_number() {
    let service = Service::start().await;
    let running = service.app_server_with(|builder| builder.server_connections_max(3));
    let mut link = service.accept_and_shake_hands().await;
    for _ in 0..5 {
        link.ping(&["target", "instance 2/é"]).await;
    }
    let mut wished = Vec::new();
    for _ in 0..2 {
        let link = service.accept_and_expect(ON_DEMAND_HANDSHAKE).await;
        assert!(
            link.url.ends_with("&target=instance+2%2F%C3%A9"),
            "{}",
            link.url
        );
        wished.push(link);
    }
    link.expect_nothing().await;
    assert_eq!(
        running.app_server.states()[0].endpoints[0]
            .server_connections
            .len(),
        3
    );
}

#[tokio::test]
async fn one_that_ends_makes_room_and_is_not_opened_again() {
    let service = Service::start().await;
    let running = service.app_server_with(|builder| builder.server_connections_max(2));
    let mut link = service.accept_and_shake_hands().await;
    running.is_complete().await;
    let count = || {
        running.app_server.states()[0].endpoints[0]
            .server_connections
            .len()
    };
    for instance_id in ["i1", "i2"] {
        // The end of the one before may not have been noticed yet.
        let wished = loop {
            link.ping(&["target", instance_id]).await;
            let wished = service.accept_and_expect(ON_DEMAND_HANDSHAKE);
            if let Ok(wished) = timeout(Duration::from_secs(1), wished).await {
                break wished;
            }
        };
        assert!(wished.url.ends_with(instance_id));
        while count() != 2 {
            tokio::task::yield_now().await;
        }
        drop(wished);
        while count() != 1 {
            tokio::task::yield_now().await;
        }
    }
    let again = timeout(Duration::from_millis(200), service.accept());
    assert!(again.await.is_err(), "it was not asked for");
}

#[tokio::test]
async fn one_that_is_refused_is_not_tried_again() {
    let service = Service::start().await;
    let _running = service.app_server(1);
    let mut link = service.accept_and_shake_hands().await;
    link.ping(&["target", "i1"]).await;
    let mut wished = service.accept().await;
    wished.next_framed().await;
    let mut refusal = Vec::new();
    crate::protocol::service::write_handshake_response("not now", None, &mut refusal);
    wished.send_bytes(refusal).await;
    let again = timeout(Duration::from_millis(1500), service.accept());
    assert!(again.await.is_err(), "it was refused");
    link.expect_nothing().await;
}

//! Requests beyond those of a hub: what goes out for each, and what its acknowledgement means.

use futures_util::StreamExt as _;
use futures_util::future::select_all;

use super::*;
use crate::app_server::{
    AckError, Clients, Close, GroupMember, Groups, MemberQuery, RequestError, SendError,
};

/// A service and its app server with one server connection.
async fn connected() -> (Running, Link, Clients, Groups) {
    let service = Service::start().await;
    let running = service.app_server(1);
    let link = service.accept_and_shake_hands().await;
    running.is_complete().await;
    let app_server = &running.app_server;
    let (clients, groups) = (app_server.clients("chat"), app_server.groups("chat"));
    let (clients, groups) = (clients.unwrap(), groups.unwrap());
    (running, link, clients, groups)
}

/// Answers the request that has just gone out, whose bytes must be these.
async fn answered<T>(
    link: &mut Link,
    request: impl Future<Output = T>,
    frame: &str,
    ack_id: i32,
) -> T {
    let answer = async {
        link.expect_hex(frame).await;
        link.acknowledge(ack_id, AckStatus::Ok).await;
    };
    tokio::join!(request, answer).0
}

#[tokio::test]
async fn questions_and_closes_have_the_recorded_bytes() {
    let (_running, mut link, clients, groups) = connected().await;
    let link = &mut link;
    let yes = Ok(true);
    let asked = clients.connection_exists("connId");
    assert_eq!(
        answered(link, asked, "0b9418a6636f6e6e49640180", 1).await,
        yes
    );
    let asked = clients.user_exists("uid");
    assert_eq!(answered(link, asked, "089419a37569640280", 2).await, yes);
    let asked = groups.exists("group");
    assert_eq!(
        answered(link, asked, "0a9417a567726f75700380", 3).await,
        yes
    );
    let asked = groups.has_user("user", "group");
    assert_eq!(
        answered(link, asked, "0f9515a475736572a567726f75700480", 4).await,
        yes
    );
    let close = Close {
        reason: Some("why"),
        except: &["c1"],
    };
    let asked = clients.close_connection("c1", close);
    assert_eq!(
        answered(link, asked, "0b951ea26331a37768790580", 5).await,
        yes
    );
    let asked = clients.close_all(close);
    assert_eq!(
        answered(link, asked, "0c951fa37768790691a2633180", 6).await,
        yes
    );
    let asked = clients.close_user("u1", Close::because("why"));
    assert_eq!(
        answered(link, asked, "0c9620a27531a3776879079080", 7).await,
        yes
    );
    let asked = groups.close("g1", Close::default());
    assert_eq!(answered(link, asked, "099621a26731c0089080", 8).await, yes);
}

#[tokio::test]
async fn groups_are_changed_with_and_without_an_acknowledgement() {
    let (_running, mut link, _, groups) = connected().await;
    let link = &mut link;
    let yes = Ok(true);
    let minute = Some(Duration::from_mins(1));
    let asked = groups.add_user("u1", "g1", minute);
    assert_eq!(
        answered(link, asked, "0c951aa27531a267310181023c", 1).await,
        yes
    );
    let asked = groups.remove_user("u1", "g1");
    assert_eq!(
        answered(link, asked, "0a951ba27531a267310280", 2).await,
        yes
    );
    let asked = groups.remove_user_from_all("u1");
    assert_eq!(answered(link, asked, "08951ba27531c00380", 3).await, yes);
    let asked = groups.remove_from_all("c1");
    assert_eq!(answered(link, asked, "089513a26331c00480", 4).await, yes);

    let groups = groups.unacknowledged();
    groups.add("c1", "g1").await.unwrap();
    link.expect_hex("09940ba26331a2673180").await;
    groups.remove("c1", None).await.unwrap();
    link.expect_hex("07940ca26331c080").await;
    groups.add_user("u1", "g1", minute).await.unwrap();
    link.expect_hex("0b9410a27531a2673181023c").await;
    groups.remove_user("u1", Some("g1")).await.unwrap();
    link.expect_hex("099411a27531a2673180").await;
}

#[tokio::test]
async fn a_connection_is_closed_without_an_answer() {
    let (_running, mut link, clients, _) = connected().await;
    let sent = clients.close_connection_unacknowledged("elsewhere", "why");
    sent.await.unwrap();
    let close = CloseConnection {
        error_message: "why".into(),
        ..CloseConnection::of("elsewhere")
    };
    link.expect(Message::from(close)).await;
    assert!(!clients.abort("elsewhere"));
    link.open(A, "json").await;
    assert_eq!(clients.connected_here(), [A]);
    assert!(clients.abort(A));
    link.expect_json(A, DataMessageType::Close, r#"{"type":7}"#)
        .await;
    link.expect(Message::from(CloseConnection::of(A))).await;
}

#[tokio::test]
async fn the_members_of_a_group_come_page_after_page() {
    let (_running, mut link, _, groups) = connected().await;
    let query = MemberQuery {
        top: Some(3),
        page_size: Some(2),
    };
    let all = tokio::spawn(groups.members("g1", query).collect::<Vec<_>>());
    link.expect_hex("0a972880a267310103c002").await;
    let page = |ack_id, payload: &'static [u8]| {
        Message::from(Ack {
            ack_id,
            status: AckStatus::Ok,
            message: "".into(),
            payload: Some(payload),
        })
    };
    let first = b"\x92\x92\x92\xa2c1\xa2u1\x92\xa2c2\xc0\xa4tok2";
    link.send(page(1, first)).await;
    link.expect_hex("0e972880a267310201a4746f6b3202").await;
    link.send(page(2, b"\x92\x91\x92\xa2c3\xa2u3\xc0")).await;
    let member = |connection_id: &str, user_id: Option<&str>| GroupMember {
        connection_id: connection_id.to_owned(),
        user_id: user_id.map(str::to_owned),
    };
    let first = vec![member("c1", Some("u1")), member("c2", None)];
    let second = vec![member("c3", Some("u3"))];
    assert_eq!(all.await.unwrap(), [Ok(first), Ok(second)]);

    let all = tokio::spawn(
        groups
            .members("g1", MemberQuery::default())
            .collect::<Vec<_>>(),
    );
    link.expect_hex("0a972880a2673103c0c0c0").await;
    link.acknowledge(3, AckStatus::Ok).await;
    assert_eq!(all.await.unwrap(), [Err(RequestError::Unreadable)]);
}

#[tokio::test]
async fn an_answer_may_come_on_another_connection_than_the_question() {
    let service = Service::start().await;
    let running = service.app_server(2);
    let mut links = [
        service.accept_and_shake_hands().await,
        service.accept_and_shake_hands().await,
    ];
    running.is_complete().await;
    let clients = running.app_server.clients("chat").unwrap();
    let ask = |clients: Clients| tokio::spawn(async move { clients.user_exists("alice").await });

    let asked = ask(clients.clone());
    let (_, asking, _) =
        select_all(links.iter_mut().map(|link| Box::pin(link.next_framed()))).await;
    links[1 - asking].acknowledge(1, AckStatus::NotFound).await;
    assert_eq!(asked.await.unwrap(), Ok(false));

    // Also when the one that asked is gone.
    let asked = ask(clients.clone());
    links[asking].next_framed().await;
    let [first, second] = links;
    let (lost, mut left) = if asking == 0 {
        (first, second)
    } else {
        (second, first)
    };
    drop(lost);
    left.acknowledge(2, AckStatus::Ok).await;
    assert_eq!(asked.await.unwrap(), Ok(true));

    let asked = ask(clients);
    left.next_framed().await;
    left.acknowledge(3, AckStatus::Timeout).await;
    let timeout = RequestError::Ack(AckError::Timeout);
    assert_eq!(asked.await.unwrap(), Err(timeout));
}

#[tokio::test]
async fn without_a_server_connection_nothing_is_asked() {
    let service = Service::start().await;
    let running = service.app_server(1);
    let clients = running.app_server.clients("chat").unwrap();
    assert_eq!(
        clients.user_exists("alice").await,
        Err(RequestError::Send(SendError::NoServerConnection))
    );
}

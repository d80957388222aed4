//! What an app server says when it goes, in each of the three modes, and when nobody answers.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use super::*;
use crate::app_server::{Answer, Caller, Clients, Hub, HubError, Invocation, ShutdownMode};
use crate::protocol::service::Text;

const FIN_OFF: &str = "119303a873687574646f776ea566696e3a30";
const FIN_MIGRATE: &str = "119303a873687574646f776ea566696e3a31";
const FIN_WAIT: &str = "119303a873687574646f776ea566696e3a32";

/// A service, and its app server with the client A, that will go in this mode.
async fn with_mode(mode: ShutdownMode, seconds: u64) -> (Service, Running, Link) {
    let service = Service::start().await;
    let patience = Duration::from_secs(seconds);
    let running = service.app_server_with(|builder| builder.shutdown(mode, patience));
    let handshake = match mode {
        ShutdownMode::MigrateClients => "0897010100a00180c2",
        ShutdownMode::Off | ShutdownMode::WaitForClientsClose => "0897010100a00080c2",
    };
    let mut link = service.accept_and_expect(handshake).await;
    link.open(A, "json").await;
    (service, running, link)
}

impl Running {
    /// Tells it to go; `ends` waits for it.
    fn go(self) -> JoinHandle<()> {
        self.stop.send(()).unwrap();
        self.task
    }
}

async fn is_over(task: JoinHandle<()>) {
    timeout(PATIENCE, task).await.unwrap().unwrap();
}

#[tokio::test]
async fn off_tells_everybody_to_connect_again() {
    let (_service, running, mut link) = with_mode(ShutdownMode::Off, 30).await;
    let task = running.go();
    link.expect_hex(FIN_OFF).await;
    link.expect_nothing().await;
    link.ping(&["shutdown", "finack"]).await;
    let goodbye = r#"{"type":7,"allowReconnect":true}"#;
    link.expect_json(A, DataMessageType::Close, goodbye).await;
    link.expect_closed().await;
    is_over(task).await;
}

/// The service is slow, so that goodbyes have to wait for room in the queue.
#[tokio::test]
async fn no_server_connection_is_closed_before_the_goodbyes_are_on_it() {
    const LONG: usize = 5 << 20;
    let (_service, running, mut link) = with_mode(ShutdownMode::Off, 30).await;
    let clients = running.app_server.clients("chat").unwrap();
    // One is being written, one is in the queue, and one has no room there.
    tokio::spawn(async move {
        for _ in 0..3 {
            let arguments = ["all".into(), "x".repeat(LONG).into()];
            clients.all().send("recv", arguments).await.unwrap();
        }
    });
    tokio::time::sleep(Duration::from_millis(200)).await;
    let app_server = running.app_server.clone();
    let task = running.go();
    tokio::time::sleep(Duration::from_millis(50)).await;
    link.ping(&["shutdown", "finack"]).await;
    while app_server.states()[0].clients > 0 {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    tokio::time::sleep(Duration::from_millis(50)).await;
    let goodbye = br#"{"type":7,"allowReconnect":true}"#;
    let (mut long, mut goodbyes) = (0, 0);
    while let Some(frame) = link.next_frame().await {
        if frame.len() > LONG {
            long += 1;
        } else if frame.windows(goodbye.len()).any(|part| part == goodbye) {
            goodbyes += 1;
        }
    }
    assert_eq!((long, goodbyes), (3, 1));
    is_over(task).await;
}

#[tokio::test]
async fn a_service_that_does_not_answer_gets_no_goodbyes() {
    let (_service, running, mut link) = with_mode(ShutdownMode::Off, 1).await;
    let task = running.go();
    link.expect_hex(FIN_OFF).await;
    link.expect_closed().await;
    is_over(task).await;
}

#[tokio::test]
async fn the_announcement_is_repeated_until_it_is_acknowledged() {
    let (_service, running, mut link) = with_mode(ShutdownMode::Off, 30).await;
    let task = running.go();
    link.expect_hex(FIN_OFF).await;
    tokio::time::sleep(Duration::from_secs(2)).await;
    link.expect_hex(FIN_OFF).await;
    drop(link);
    is_over(task).await;
}

#[tokio::test]
async fn wait_lets_the_clients_leave() {
    let (_service, running, mut link) = with_mode(ShutdownMode::WaitForClientsClose, 30).await;
    let task = running.go();
    link.expect_hex(FIN_WAIT).await;
    link.ping(&["shutdown", "finack"]).await;
    link.client_sends_json(
        A,
        r#"{"type":1,"invocationId":"1","target":"Echo","arguments":["x"]}"#,
    )
    .await;
    let echo = r#"{"type":3,"invocationId":"1","result":"x"}"#;
    link.expect_json(A, DataMessageType::Invocation, echo).await;
    link.expect_nothing().await;
    link.client_leaves(A).await;
    let answer = r#"{"type":7,"allowReconnect":true}"#;
    link.expect_json(A, DataMessageType::Close, answer).await;
    link.expect_closed().await;
    is_over(task).await;
}

#[tokio::test]
async fn wait_ends_at_its_deadline_without_goodbyes() {
    let (_service, running, mut link) = with_mode(ShutdownMode::WaitForClientsClose, 1).await;
    let task = running.go();
    link.expect_hex(FIN_WAIT).await;
    link.ping(&["shutdown", "finack"]).await;
    link.expect_closed().await;
    is_over(task).await;
}

#[tokio::test]
async fn migrate_ends_when_the_last_client_has_moved() {
    let (_service, running, mut link) = with_mode(ShutdownMode::MigrateClients, 30).await;
    link.announce(B, "json").await;
    link.client_sends(B, b"{\"protocol\":\"json\",\"version\":1}\x1e")
        .await;
    link.next_framed().await;
    link.next_framed().await;
    let task = running.go();
    link.expect_hex(FIN_MIGRATE).await;
    link.ping(&["shutdown", "finack"]).await;
    for id in [A, B] {
        link.expect_nothing().await;
        let to: (Text<'_>, _) = (
            "Asrs-Migrate-To".into(),
            ["server2".into()].into_iter().collect(),
        );
        link.send(Message::from(CloseConnection {
            headers: vec![to],
            ..CloseConnection::of(id)
        }))
        .await;
    }
    link.expect_closed().await;
    is_over(task).await;
}

/// A hub that takes its time when a client has gone.
struct Slow(Arc<AtomicBool>);

impl Hub for Slow {
    async fn disconnected(&self, _: &Caller, _: Option<&str>) {
        tokio::time::sleep(Duration::from_millis(200)).await;
        self.0.store(true, Ordering::Relaxed);
    }

    async fn invoke(&self, _: &Caller, _: Invocation) -> Result<Answer, HubError> {
        Err(HubError::UnknownMethod)
    }
}

#[tokio::test]
async fn the_end_comes_when_the_hub_has_done_with_its_clients() {
    let service = Service::start().await;
    let is_done = Arc::new(AtomicBool::new(false));
    let hub = Slow(Arc::clone(&is_done));
    let running = service.app_server_with(|builder| builder.hub("slow", "/slow", hub));
    let mut links = [
        service.accept_and_shake_hands().await,
        service.accept_and_shake_hands().await,
    ];
    running.is_complete().await;
    let is_slow = |link: &&mut Link| link.url.contains("hub=slow");
    let link = links.iter_mut().find(is_slow).unwrap();
    link.announce(A, "json").await;
    link.client_sends(A, b"{\"protocol\":\"json\",\"version\":1}\x1e")
        .await;
    link.next_framed().await;
    let task = running.go();
    for mut link in links {
        link.expect_hex(FIN_OFF).await;
        link.ping(&["shutdown", "finack"]).await;
        if link.url.contains("hub=slow") {
            link.next_framed().await;
        }
        link.expect_closed().await;
    }
    is_over(task).await;
    assert!(is_done.load(Ordering::Relaxed));
}

/// A hub that says farewell to everybody.
struct Farewell;

impl Hub for Farewell {
    async fn stopping(&self, clients: &Clients) {
        clients.all().send("farewell", []).await.unwrap();
    }

    async fn invoke(&self, _: &Caller, _: Invocation) -> Result<Answer, HubError> {
        Err(HubError::UnknownMethod)
    }
}

#[tokio::test]
async fn the_hub_can_say_farewell_while_its_clients_are_waited_for() {
    let service = Service::start().await;
    let running = service.app_server_with(|builder| {
        builder
            .hub("farewell", "/farewell", Farewell)
            .shutdown(ShutdownMode::WaitForClientsClose, PATIENCE)
    });
    let (first, second) = (
        service.accept_and_shake_hands().await,
        service.accept_and_shake_hands().await,
    );
    running.is_complete().await;
    let task = running.go();
    for mut link in [first, second] {
        link.expect_hex(FIN_WAIT).await;
        link.ping(&["shutdown", "finack"]).await;
        if link.url.contains("hub=farewell") {
            let frame = link.next_framed().await;
            assert!(text(&frame).contains("farewell"), "{}", text(&frame));
        }
        link.expect_closed().await;
    }
    is_over(task).await;
}

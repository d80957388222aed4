//! Clients that the service moves here from another app server, and from here to another.

use std::sync::{Arc, Mutex};

use super::*;
use crate::app_server::{Answer, Caller, Hub, HubError, Invocation};
use crate::protocol::service::Texts;

/// A hub that notes who comes and goes, and answers every call, some after a while.
#[derive(Clone, Default)]
struct Noting(Arc<Mutex<Vec<String>>>);

impl Noting {
    fn note(&self, what: &str, caller: &Caller) {
        let from = caller.migrated_from().unwrap_or("nowhere");
        let note = format!("{what} from {from}");
        self.0.lock().unwrap().push(note);
    }

    async fn has(&self, notes: &[&str]) {
        let until_there = async {
            while *self.0.lock().unwrap() != notes {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        };
        let result = timeout(PATIENCE, until_there).await;
        result.unwrap_or_else(|_| panic!("{notes:?} were expected: {:?}", self.0.lock().unwrap()));
    }
}

impl Hub for Noting {
    async fn connected(&self, caller: &Caller) -> Result<(), HubError> {
        self.note("connected", caller);
        Ok(())
    }

    async fn disconnected(&self, caller: &Caller, error: Option<&str>) {
        assert_eq!(error, None);
        let to = caller.migrated_to().unwrap_or("nowhere");
        self.note(&format!("disconnected to {to}"), caller);
    }

    async fn invoke(&self, caller: &Caller, call: Invocation) -> Result<Answer, HubError> {
        if call.target() == "Wait" {
            caller.aborted().await;
        }
        Ok(Answer::Nothing)
    }
}

async fn with_noting() -> (Service, Running, Link, Noting) {
    let service = Service::start().await;
    let noting = Noting::default();
    let hub = noting.clone();
    let running = service.app_server_with(|builder| builder.hub("noting", "/noting", hub));
    loop {
        let link = service.accept_and_shake_hands().await;
        if link.url.contains("hub=noting") {
            return (service, running, link, noting);
        }
    }
}

impl Link {
    async fn move_in(&mut self, id: &str) {
        let from: Texts<'_> = ["server1".into()].into_iter().collect();
        self.send(Message::from(OpenConnection {
            connection_id: id.to_owned().into(),
            headers: vec![("asrs-migrate-from".into(), from)],
            protocol: Some("json".into()),
            ..OpenConnection::default()
        }))
        .await;
        self.client_sends(id, b"{\"protocol\":\"json\",\"version\":1}\x1e")
            .await;
    }

    async fn move_out(&mut self, id: &str) {
        let to: Texts<'_> = ["server2".into()].into_iter().collect();
        self.send(Message::from(CloseConnection {
            headers: vec![("Asrs-Migrate-To".into(), to)],
            ..CloseConnection::of(id)
        }))
        .await;
    }
}

fn call(id: u32, target: &str) -> String {
    format!(r#"{{"type":1,"invocationId":"{id}","target":"{target}","arguments":[]}}"#)
}

#[tokio::test]
async fn a_client_that_moves_in_gets_no_handshake_response() {
    let (_service, _running, mut link, noting) = with_noting().await;
    link.move_in(A).await;
    link.client_sends_json(A, &call(1, "Done")).await;
    let done = r#"{"type":3,"invocationId":"1","result":null}"#;
    link.expect_json(A, DataMessageType::Invocation, done).await;
    noting.has(&["connected from server1"]).await;
}

#[tokio::test]
async fn a_client_that_moves_out_is_told_nothing() {
    let (_service, running, mut link, noting) = with_noting().await;
    link.move_in(A).await;
    // What has come before the move is answered, as far as it takes no time.
    for id in 0..20 {
        link.client_sends_json(A, &call(id, "Done")).await;
    }
    link.move_out(A).await;
    for id in 0..20 {
        let done = format!(r#"{{"type":3,"invocationId":"{id}","result":null}}"#);
        link.expect_json(A, DataMessageType::Invocation, &done)
            .await;
    }
    noting
        .has(&[
            "connected from server1",
            "disconnected to server2 from server1",
        ])
        .await;
    link.expect_nothing().await;
    assert_eq!(
        running
            .app_server
            .clients("noting")
            .unwrap()
            .connected_here()
            .len(),
        0
    );
}

#[tokio::test]
async fn a_call_that_takes_longer_has_no_way_back() {
    let (_service, _running, mut link, noting) = with_noting().await;
    link.move_in(A).await;
    link.client_sends_json(A, &call(1, "Wait")).await;
    link.move_out(A).await;
    noting
        .has(&[
            "connected from server1",
            "disconnected to server2 from server1",
        ])
        .await;
    link.expect_nothing().await;
}

/// The service may bring a client back before its first stay here is quite over.
#[tokio::test]
async fn a_client_that_moves_out_and_in_again_is_served_anew() {
    let (_service, running, mut link, noting) = with_noting().await;
    link.move_in(A).await;
    link.move_out(A).await;
    link.move_in(A).await;
    link.client_sends_json(A, &call(1, "Done")).await;
    let done = r#"{"type":3,"invocationId":"1","result":null}"#;
    link.expect_json(A, DataMessageType::Invocation, done).await;
    while noting.0.lock().unwrap().len() < 3 {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    link.expect_nothing().await;
    let clients = running.app_server.clients("noting").unwrap();
    assert_eq!(clients.connected_here(), [A]);
}

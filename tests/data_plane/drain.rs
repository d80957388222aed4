//! A service that stops says goodbye to everybody and ends in time.

use std::time::Duration;

use hubring::limits::DRAIN_TIMEOUT;

use crate::peers::{AppServer, Client, Heard, Peer};
use crate::stage::{Stage, until};

#[test]
fn all_clients_are_told_that_they_may_come_back() {
    let mut stage = Stage::new(2);
    let mut servers = AppServer::connect_all(&stage, 2);
    let clients: Vec<Client> = (0..500)
        .map(|_| Client::connect(&stage, &mut servers).0)
        .collect();
    let listening = std::thread::spawn(move || {
        for mut client in clients {
            client.expect(b"{\"type\":7,\"allowReconnect\":true}\x1e");
            assert_eq!(client.peer.hear(), Heard::Close(1000));
            client.peer.close(1000.into());
            assert_eq!(client.peer.hear(), Heard::End);
        }
        for mut server in servers {
            while server.next().is_some() {}
        }
    });
    let took = stage.drain();
    listening.join().unwrap();
    assert!(took < DRAIN_TIMEOUT, "{took:?}");
    until("sockets to be closed", || stage.socket_count() == 0);
}

/// One client neither reads nor answers, so the service is stopping for as long as it may.
#[test]
fn nobody_is_let_in_while_the_service_stops_and_it_stops_in_time() {
    let mut stage = Stage::new(1);
    let mut servers = AppServer::connect_all(&stage, 1);
    let (stuck, _) = Client::connect(&stage, &mut servers);
    for _ in 0..20 {
        servers[0].send_to(&stuck.id, &vec![b'x'; 500_000]);
    }
    let requests = [stage.client_request(), stage.server_request("late")];
    let address = stage.address;
    let late = std::thread::spawn(move || {
        std::thread::sleep(Duration::from_millis(500));
        requests.map(|request| Peer::upgrade_at(address, request, &[]).err())
    });
    let took = stage.drain();
    assert_eq!(late.join().unwrap(), [Some(503), Some(503)]);
    assert!(took < DRAIN_TIMEOUT + Duration::from_secs(1), "{took:?}");
    until("sockets to be closed", || stage.socket_count() == 0);
}

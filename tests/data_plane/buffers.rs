//! Receive buffers are few. Whatever peers do, some are left to receive into.

use std::time::Instant;

use hubring::frame::websocket::Data;
use hubring::limits::{ASSEMBLE_IN_PLACE_BYTES_MAX, RECEIVE_BUFFERS_MAX};

use crate::peers::{AppServer, Client, connection_data, frame};
use crate::stage::{PATIENCE, Stage};

/// A service message that comes in crumbs, each in a buffer of its own, must not keep all buffers until it is whole.
#[test]
fn a_message_in_crumbs_does_not_hold_all_buffers() {
    let stage = Stage::new(1);
    let mut servers = AppServer::connect_all(&stage, 1);
    let (mut client, _) = Client::connect(&stage, &mut servers);
    let payload = vec![b'x'; ASSEMBLE_IN_PLACE_BYTES_MAX - 100];
    let bytes = frame(Data::Binary, true, &connection_data(&client.id, &payload));
    let crumbs = bytes.chunks(bytes.len() / (RECEIVE_BUFFERS_MAX + 500));
    for crumb in crumbs {
        let (received, started) = (stage.sum(|counters| &counters.receives), Instant::now());
        servers[0].peer.send_raw(crumb);
        while stage.sum(|counters| &counters.receives) == received {
            assert!(started.elapsed() < PATIENCE, "nothing is received any more");
            std::thread::yield_now();
        }
    }
    client.expect(&payload);
}

/// Many clients that do not read hold what is on its way to them, and it cannot be taken from them.
#[test]
fn messages_for_stalled_clients_do_not_hold_all_buffers() {
    let stage = Stage::new(1);
    let mut servers = AppServer::connect_all(&stage, 1);
    let clients: Vec<Client> = (0..8)
        .map(|_| Client::connect(&stage, &mut servers).0)
        .collect();
    let (mut reading, _) = Client::connect(&stage, &mut servers);
    let payload = vec![b'x'; 600];
    for round in 0..3000 {
        for client in &clients {
            servers[0].send_to(&client.id, &payload);
        }
        if round % 10 == 0 {
            servers[0].send_to(&reading.id, &payload);
            reading.expect(&payload);
        }
    }
}

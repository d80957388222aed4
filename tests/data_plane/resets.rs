//! A connection may break at any moment. Whenever it does, no descriptor, no counter and no place stays behind.

use std::io::Write as _;
use std::net::TcpStream;
use std::time::Duration;

use hubring::frame::websocket::Data;

use crate::peers::{AppServer, Client, HANDSHAKE, Peer, connection_data, frame, head};
use crate::stage::{Stage, until};

const ROUNDS: usize = 20;

#[test]
fn clients_reset_at_every_stage_leave_nothing_behind() {
    let stage = Stage::new(2);
    let mut servers = AppServer::connect_all(&stage, 2);
    let sockets = stage.socket_count();
    let (target, token) = stage.client_request();
    let request = head(&target, &token);
    let handshake = frame(Data::Text, true, HANDSHAKE);
    for round in 0..ROUNDS {
        // Before the head, within it, and right behind it, with and without more.
        for sent in [0, round * request.len() / ROUNDS, request.len()] {
            let mut stream = TcpStream::connect(stage.address).unwrap();
            stream.write_all(&request.as_bytes()[..sent]).unwrap();
            reset(stream);
        }
        let mut stream = TcpStream::connect(stage.address).unwrap();
        stream.write_all(request.as_bytes()).unwrap();
        stream.write_all(&handshake[..round % 7]).unwrap();
        reset(stream);
        // After the upgrade, within a frame and within the handshake.
        for sent in [0, 3, handshake.len() - 1] {
            let mut peer = Client::upgrade(&stage);
            peer.send_raw(&handshake[..sent]);
            peer.reset();
        }
        // With data on its way in both directions.
        let (mut client, server) = Client::connect(&stage, &mut servers);
        servers[server].send_to(&client.id, &vec![b'x'; 300_000]);
        client.send(&"y".repeat(10_000));
        client.peer.reset();
    }
    stage.until("clients", 0, |counters| &counters.client_connections);
    stage.until("admissions", 0, |counters| &counters.admissions);
    until("sockets to be closed", || stage.socket_count() == sockets);
}

#[test]
fn server_connections_reset_at_every_stage_close_their_clients_and_leave_nothing_behind() {
    let stage = Stage::new(2);
    let sockets = stage.socket_count();
    for round in 0..ROUNDS {
        Peer::upgrade(&stage, stage.server_request("bare"), &[])
            .unwrap()
            .reset();
        let mut servers = AppServer::connect_all(&stage, 2);
        let clients: Vec<Client> = (0..4)
            .map(|_| Client::connect(&stage, &mut servers).0)
            .collect();
        for (server, client) in servers.iter_mut().zip(&clients) {
            let message = connection_data(&client.id, &[b'x'; 3000]);
            let sent = message.len() * round / ROUNDS;
            server
                .peer
                .send_raw(&frame(Data::Binary, false, &message)[..8 + sent]);
        }
        for server in servers {
            server.peer.reset();
        }
        for mut client in clients {
            let (code, _) = client.peer.hear_end();
            assert_eq!(code, Some(1000));
        }
    }
    stage.until("clients", 0, |counters| &counters.client_connections);
    stage.until("server connections", 0, |counters| {
        &counters.server_connections
    });
    until("sockets to be closed", || stage.socket_count() == sockets);
}

fn reset(stream: TcpStream) {
    socket2::Socket::from(stream)
        .set_linger(Some(Duration::ZERO))
        .unwrap();
}

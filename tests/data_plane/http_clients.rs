//! Clients on Server-Sent Events and long polling obey the rules of those on WebSockets: of order, of limits, of back-pressure and of the
//! end.

use hubring::frame::websocket::Data;
use hubring::limits::{DRAIN_TIMEOUT, OUTLET_BYTES_MAX, SERVER_OUTBOX_BYTES_HIGH};
use hubring::protocol::service::{JoinGroupWithAck, Message};

use crate::back_pressure::broadcast;
use crate::http_peers::{Events, HttpClient, answer};
use crate::order::to_group;
use crate::peers::{AppServer, Client, HANDSHAKE, read};
use crate::stage::{Stage, until};

const GOODBYE: &[u8] = b"{\"type\":7,\"allowReconnect\":true}\x1e";

/// One message to a group, one to each of its members, in turn, with the members on two shards.
#[test]
fn what_is_sent_to_a_group_and_to_its_members_arrives_in_order_on_every_transport() {
    const ROUNDS: usize = 500;
    let stage = Stage::new(2);
    let mut servers = AppServer::connect_all(&stage, 2);
    let (mut socket, _) = Client::connect(&stage, &mut servers);
    let (polling, _) = HttpClient::polling(&stage, &mut servers);
    let (streaming, mut events, _) = HttpClient::streaming(&stage, &mut servers);
    let ids = [&socket.id, &polling.id, &streaming.id];
    for (number, id) in (1..).zip(ids) {
        let join = JoinGroupWithAck {
            connection_id: (&**id).into(),
            group: "g".into(),
            ack_id: number,
            ..JoinGroupWithAck::default()
        };
        servers[0].send(&join.into());
        let message = servers[0].next().unwrap();
        assert!(matches!(read(&message), Message::Ack(_)));
    }
    let mut expected = Vec::new();
    for round in 0..ROUNDS {
        let all = format!("{{\"to all\":{round}}}\x1e");
        servers[0].send(&to_group(all.as_bytes()));
        let own = format!("{{\"to one\":{round}}}\x1e");
        for id in ids {
            servers[0].send_to(id, own.as_bytes());
        }
        expected.extend([all, own].concat().into_bytes());
    }
    socket.expect(&expected);
    assert!(polled(&polling, expected.len()) == expected);
    assert!(streamed(&mut events, expected.len()) == expected);
    assert_eq!(polling.delete(), 202);
}

/// As fast as they are taken, and no faster: more would be too slow a client.
#[test]
fn a_hundred_thousand_messages_arrive_in_order() {
    const MESSAGES: usize = 100_000;
    const AT_A_TIME: usize = 2_000;
    let stage = Stage::new(1);
    let mut servers = AppServer::connect_all(&stage, 1);
    let (polling, _) = HttpClient::polling(&stage, &mut servers);
    let (_streaming, mut events, _) = HttpClient::streaming(&stage, &mut servers);
    for start in (0..MESSAGES).step_by(AT_A_TIME) {
        let (mut expected, mut sends) = (Vec::new(), Vec::new());
        for number in start..start + AT_A_TIME {
            let message = format!("{{\"n\":{number}}}\x1e");
            broadcast(message.as_bytes()).encode(&mut sends);
            expected.extend_from_slice(message.as_bytes());
        }
        servers[0].peer.send(Data::Binary, &sends);
        assert!(polled(&polling, expected.len()) == expected);
        assert!(streamed(&mut events, expected.len()) == expected);
    }
    assert_eq!(polling.delete(), 202);
}

#[test]
fn who_does_not_take_what_is_sent_is_closed_and_the_others_get_all_of_it() {
    let stage = Stage::new(1);
    let mut servers = AppServer::connect_all(&stage, 1);
    let (mut socket, _) = Client::connect(&stage, &mut servers);
    let (polling, _) = HttpClient::polling(&stage, &mut servers);
    let (idle, _) = HttpClient::polling(&stage, &mut servers);
    let (streaming, stalled, _) = HttpClient::streaming(&stage, &mut servers);
    let mut payload = vec![b'x'; 128 * 1024];
    payload.push(0x1e);
    let (mut sent, mut rounds_of_idle) = (0, 0);
    // What the kernel holds for a stalled stream comes on top.
    while stage.sum(|counters| &counters.slow_consumers) < 2 {
        assert!(sent < 400, "the stalled client goes on");
        servers[0].send(&broadcast(&payload));
        sent += 1;
        socket.expect(&payload);
        assert!(polled(&polling, payload.len()) == payload);
        if stage.sum(|counters| &counters.slow_consumers) == 0 {
            rounds_of_idle = sent;
        }
    }
    let waited = rounds_of_idle * payload.len();
    assert!(waited > OUTLET_BYTES_MAX, "closed after {waited} bytes");
    assert!(waited < 2 * OUTLET_BYTES_MAX, "closed after {waited} bytes");
    let closed = [(); 2].map(|()| closed_client(&mut servers[0]));
    assert_eq!(closed, [idle.id.clone(), streaming.id.clone()]);
    assert_eq!(idle.poll().0, 204, "what waited is dropped");
    assert_eq!(idle.poll().0, 404);
    drop(stalled);
    stage.until("clients", 2, |counters| &counters.client_connections);
    stage.until("clients without sockets", 1, |counters| {
        &counters.http_clients
    });
    assert_eq!(polling.delete(), 202);
}

/// Each of their requests is much more than is read of a socket at a time, and all of them wait for the same app server.
#[test]
fn what_clients_post_waits_for_room_at_their_app_server() {
    const CLIENTS: usize = 24;
    const POST_BYTES: usize = 1024 * 1024;
    let stage = Stage::new(1);
    let mut servers = AppServer::connect_all(&stage, 1);
    let clients: Vec<HttpClient> = (0..CLIENTS)
        .map(|_| HttpClient::polling(&stage, &mut servers).0)
        .collect();
    let expected: Vec<Vec<u8>> = (0..CLIENTS).map(|n| vec![n as u8; POST_BYTES]).collect();
    let before = stage.sum(|counters| &counters.relayed_bytes);
    let got = std::thread::scope(|scope| {
        for (client, body) in clients.iter().zip(&expected) {
            scope.spawn(move || {
                for _ in 0..2 {
                    assert_eq!(client.post(body), 200);
                }
            });
        }
        until("clients to be paused", || {
            stage.sum(|counters| &counters.reads_paused) > 0
        });
        let taken = stage.sum(|counters| &counters.relayed_bytes) - before;
        let most = SERVER_OUTBOX_BYTES_HIGH + POST_BYTES + KERNEL_BYTES;
        assert!(taken < most as u64, "{taken} bytes were taken in");
        let mut got = vec![Vec::new(); CLIENTS];
        while got.iter().any(|got| got.len() < 2 * POST_BYTES) {
            let (id, data) = servers[0].next_data();
            let from = clients.iter().position(|client| client.id == id).unwrap();
            got[from].extend_from_slice(&data);
        }
        got
    });
    for (got, expected) in got.iter().zip(&expected) {
        assert!(*got == expected.repeat(2));
    }
    for client in &clients {
        assert_eq!(client.delete(), 202);
    }
    assert_eq!(stage.sum(|counters| &counters.servers_too_far_behind), 0);
}

/// They have no socket between two polls, and what is sent to all of them is copied once.
#[test]
fn hundreds_of_clients_on_long_polling_get_what_is_sent_to_all() {
    const CLIENTS: usize = 600;
    const POLLING: usize = 200;
    const MESSAGE: &[u8] = b"{\"type\":1,\"target\":\"all\",\"arguments\":[]}\x1e";
    let stage = Stage::new(1);
    let mut servers = AppServer::connect_all(&stage, 1);
    let clients: Vec<HttpClient> = (0..CLIENTS)
        .map(|_| HttpClient::patient(&stage, &mut servers))
        .collect();
    assert_eq!(stage.sum(|counters| &counters.http_clients), CLIENTS as u64);
    let most = 2 + 10;
    until("sockets to be closed", || stage.socket_count() <= most);
    let copied = stage.sum(|counters| &counters.copied_bytes_outlet);
    let polls: Vec<_> = clients[..POLLING]
        .iter()
        .map(HttpClient::begin_poll)
        .collect();
    servers[0].send(&broadcast(MESSAGE));
    for poll in polls {
        assert_eq!(answer(poll), (200, MESSAGE.to_vec()));
    }
    for client in &clients[POLLING..] {
        assert_eq!(client.poll(), (200, MESSAGE.to_vec()));
    }
    let copied = stage.sum(|counters| &counters.copied_bytes_outlet) - copied;
    assert_eq!(copied, MESSAGE.len() as u64);
    for client in &clients {
        assert_eq!(client.delete(), 202);
    }
    stage.until("clients", 0, |counters| &counters.http_clients);
    stage.until("clients", 0, |counters| &counters.client_connections);
}

#[test]
fn an_app_server_that_is_lost_takes_its_clients_along_and_they_may_come_back() {
    let stage = Stage::new(1);
    let mut servers = AppServer::connect_all(&stage, 1);
    let (polling, _) = HttpClient::polling(&stage, &mut servers);
    let (idle, _) = HttpClient::polling(&stage, &mut servers);
    let (streaming, mut events, _) = HttpClient::streaming(&stage, &mut servers);
    let poll = polling.begin_poll();
    servers[0].send_to(&idle.id, b"last words\x1e");
    drop(servers);
    assert_eq!(answer(poll), (200, GOODBYE.to_vec()));
    assert_eq!(events.next().unwrap(), GOODBYE);
    assert_eq!(events.next(), None);
    assert_eq!(idle.poll(), (200, [b"last words\x1e", GOODBYE].concat()));
    for client in [polling, idle] {
        assert_eq!(client.poll().0, 204);
        assert_eq!(client.poll().0, 404);
    }
    assert_eq!(streaming.post(b"more"), 404);
    stage.until("clients", 0, |counters| &counters.http_clients);
}

#[test]
fn a_service_that_stops_says_so_to_all_who_can_hear_it_and_waits_for_nobody_else() {
    let mut stage = Stage::new(2);
    let mut servers = AppServer::connect_all(&stage, 2);
    let (polling, _) = HttpClient::polling(&stage, &mut servers);
    let _between_two_polls = HttpClient::polling(&stage, &mut servers);
    let (_streaming, mut events, _) = HttpClient::streaming(&stage, &mut servers);
    let handed_over = stage.sum(|counters| &counters.handed_over);
    let poll = polling.begin_poll();
    stage.until("handed over", handed_over + 1, |counters| {
        &counters.handed_over
    });
    let listening = std::thread::spawn(move || {
        assert_eq!(answer(poll), (200, GOODBYE.to_vec()));
        assert_eq!(events.next().unwrap(), GOODBYE);
        assert_eq!(events.next(), None);
        for mut server in servers {
            while server.next().is_some() {}
        }
    });
    let took = stage.drain();
    listening.join().unwrap();
    assert!(took < DRAIN_TIMEOUT, "{took:?}");
    until("sockets to be closed", || stage.socket_count() == 0);
}

/// A service that stops does not take clients any more, and one that nobody asks for any more does not stay.
#[test]
fn nothing_stays_of_clients_that_go_without_a_word() {
    let stage = Stage::new(1);
    let mut servers = AppServer::connect_all(&stage, 1);
    for _ in 0..50 {
        let (_, events, _) = HttpClient::streaming(&stage, &mut servers);
        drop(events);
        let silent = HttpClient::negotiate(&stage);
        drop(silent.events());
        let half = HttpClient::negotiate(&stage);
        let events = half.events();
        assert_eq!(half.post(&HANDSHAKE[..9]), 200);
        drop(events);
    }
    stage.until("clients", 0, |counters| &counters.http_clients);
    stage.until("clients", 0, |counters| &counters.client_connections);
    assert_eq!(stage.sum(|counters| &counters.clients_opened), 50);
}

/// More than the kernel holds for two sockets on loopback, as it tunes itself.
const KERNEL_BYTES: usize = 12 * 1024 * 1024;

/// Reads so many bytes of a client's polls, each of which has to end where a message does.
fn polled(client: &HttpClient, bytes: usize) -> Vec<u8> {
    let mut heard = Vec::new();
    while heard.len() < bytes {
        let (status, body) = client.poll();
        assert_eq!((status, body.last()), (200, Some(&0x1e)));
        heard.extend(body);
    }
    heard
}

/// The same of a stream of events.
fn streamed(events: &mut Events, bytes: usize) -> Vec<u8> {
    let mut heard = Vec::new();
    while heard.len() < bytes {
        let event = events.next().expect("the stream goes on");
        assert_eq!(event.last(), Some(&0x1e));
        heard.extend(event);
    }
    heard
}

/// Of whom the app server hears that it has been closed.
fn closed_client(server: &mut AppServer) -> String {
    let message = server.next().unwrap();
    match read(&message) {
        Message::CloseConnection(close) => close.connection_id.into_owned(),
        other => panic!("nobody is closed: {other:?}"),
    }
}

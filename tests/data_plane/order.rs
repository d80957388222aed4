//! What one server connection sends to one target arrives in the order sent, and a membership that was acknowledged holds, whatever
//! shards are involved.

use hubring::protocol::service::{
    AckStatus, GroupBroadcastData, JoinGroupWithAck, LeaveGroupWithAck, Message,
    MultiConnectionData,
};

use crate::peers::{AppServer, Client, Heard, read};
use crate::stage::Stage;

#[test]
fn many_server_connections_send_to_one_client_each_and_order_is_kept() {
    const SERVERS: usize = 8;
    const MESSAGES: usize = 10_000;
    let stage = Stage::new(4);
    let mut servers = AppServer::connect_all(&stage, SERVERS);
    let clients: Vec<Client> = (0..SERVERS)
        .map(|_| Client::connect(&stage, &mut servers).0)
        .collect();
    let ids: Vec<String> = clients.iter().map(|client| client.id.clone()).collect();
    std::thread::scope(|scope| {
        for (index, server) in servers.iter_mut().enumerate() {
            let targets = [&ids[(index + 1) % SERVERS], &ids[(index + 2) % SERVERS]];
            scope.spawn(move || {
                let mut bytes = Vec::new();
                for number in 0..MESSAGES {
                    let text = format!("{index} {number}\x1e");
                    let target = targets[number % 2];
                    to_connection(target, text.as_bytes()).encode(&mut bytes);
                    if bytes.len() > 3000 || number + 1 == MESSAGES {
                        server
                            .peer
                            .send(hubring::frame::websocket::Data::Binary, &bytes);
                        bytes.clear();
                    }
                }
            });
        }
        for mut client in clients {
            scope.spawn(move || {
                let mut next = [None; SERVERS];
                for _ in 0..MESSAGES {
                    let text = record(&mut client);
                    let (from, number) = text.split_once(' ').unwrap();
                    let (from, number): (usize, usize) =
                        (from.parse().unwrap(), number.parse().unwrap());
                    let expected = next[from].unwrap_or(number % 2);
                    assert_eq!(number, expected, "from server connection {from}");
                    next[from] = Some(number + 2);
                }
            });
        }
    });
    assert!(stage.sum(|counters| &counters.mails_posted) > 0);
}

#[test]
fn memberships_hold_as_soon_as_they_are_acknowledged() {
    const ROUNDS: i32 = 1000;
    let stage = Stage::new(2);
    let mut servers = AppServer::connect_all(&stage, 2);
    let mut bound: Vec<(Client, usize)> = (0..2)
        .map(|_| Client::connect(&stage, &mut servers))
        .collect();
    bound.sort_by_key(|(_, server)| *server);
    // On the shard of the second, so that the first asks across.
    let (mut client, server) = bound.pop().unwrap();
    assert_eq!(server, 1);
    let [asking, sending] = servers.as_mut_slice() else {
        unreachable!("there are two");
    };
    for round in 0..ROUNDS {
        // Who asks and who sends change places, so both directions are tried.
        let (asking, sending) = if round % 3 == 0 {
            (&mut *sending, &mut *asking)
        } else {
            (&mut *asking, &mut *sending)
        };
        asking.send(
            &JoinGroupWithAck {
                connection_id: (&*client.id).into(),
                group: "g".into(),
                ack_id: round,
                ..JoinGroupWithAck::default()
            }
            .into(),
        );
        expect_ack(asking, round);
        let text = format!("in {round}\x1e");
        sending.send(&to_group(text.as_bytes()));
        assert_eq!(format!("{}\x1e", record(&mut client)), text);
        asking.send(
            &LeaveGroupWithAck {
                connection_id: (&*client.id).into(),
                group: Some("g".into()),
                ack_id: round,
                ..LeaveGroupWithAck::default()
            }
            .into(),
        );
        expect_ack(asking, round);
        sending.send(&to_group(b"extra\x1e"));
        sending.send(&to_connection(&client.id, b"fence\x1e"));
        assert_eq!(record(&mut client), "fence");
    }
}

fn expect_ack(server: &mut AppServer, ack_id: i32) {
    let message = server.next().unwrap();
    match read(&message) {
        Message::Ack(ack) => assert_eq!((ack.ack_id, ack.status), (ack_id, AckStatus::Ok)),
        other => panic!("no ack: {other:?}"),
    }
}

/// One record, of clients that get each in a frame of its own.
fn record(client: &mut Client) -> String {
    let mut record = Vec::new();
    while !record.ends_with(b"\x1e") {
        match client.peer.hear() {
            Heard::Bytes(bytes) => record.extend_from_slice(&bytes),
            other => panic!("{other:?}"),
        }
    }
    record.pop();
    String::from_utf8(record).unwrap()
}

fn to_connection<'a>(id: &'a str, payload: &'a [u8]) -> Message<'a, &'a [u8]> {
    MultiConnectionData {
        connection_ids: std::iter::once(id.into()).collect(),
        payloads: [("json", payload)].into_iter().collect(),
        filter: None,
        tracing_id: None,
    }
    .into()
}

pub(crate) fn to_group(payload: &[u8]) -> Message<'_, &[u8]> {
    GroupBroadcastData {
        group: "g".into(),
        excluded: [].into_iter().collect(),
        payloads: [("json", payload)].into_iter().collect(),
        excluded_users: [].into_iter().collect(),
        caller_user_id: None,
        filter: None,
        tracing_id: None,
    }
    .into()
}

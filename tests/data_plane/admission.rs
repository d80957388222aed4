//! Who comes in, when there is no room or no time.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use hubring::frame::websocket::Data;
use hubring::limits::{ADMISSIONS_MAX, REQUEST_HEAD_TIMEOUT};

use crate::peers::{AppServer, Client, Heard, Peer, frame, head};
use crate::stage::{PATIENCE, Stage, until};

/// They all ask at the same moment, so a limit that is looked at before it is counted would let too many in.
#[test]
fn no_more_connections_are_let_in_than_there_may_be() {
    const MOST: usize = 20;
    let stage = Stage::with(2, |config| config.connections_max = Some(MOST));
    for _ in 0..3 {
        let request = stage.client_request();
        let streams: Vec<TcpStream> = (0..200)
            .map(|_| {
                let mut stream = TcpStream::connect(stage.address).unwrap();
                stream
                    .write_all(head(&request.0, &request.1).as_bytes())
                    .unwrap();
                stream
            })
            .collect();
        let (mut inside, mut refused) = (Vec::new(), 0);
        for stream in streams {
            match Peer::upgraded(stream) {
                Ok(peer) => inside.push(peer),
                Err(503) => refused += 1,
                Err(status) => panic!("status {status}"),
            }
        }
        assert_eq!((inside.len(), refused), (MOST, 200 - MOST));
        drop(inside);
        stage.until("clients", 0, |counters| &counters.client_connections);
        until("sockets to be closed", || stage.socket_count() == 2);
    }
}

/// All of them wait in the middle of their request heads, then all go on at the same moment.
#[test]
fn a_storm_of_connections_gets_in() {
    const CLIENTS: usize = 2500;
    let stage = Stage::new(1);
    let (target, token) = stage.client_request();
    let request = head(&target, &token);
    let (first, rest) = request.as_bytes().split_at(100);
    let mut streams: Vec<TcpStream> = (0..CLIENTS)
        .map(|_| {
            let mut stream = TcpStream::connect(stage.address).unwrap();
            stream.write_all(first).unwrap();
            stream
        })
        .collect();
    stage.until("admissions", CLIENTS as u64, |counters| {
        &counters.admissions
    });
    for stream in &mut streams {
        stream.write_all(rest).unwrap();
    }
    let peers: Vec<Peer> = streams
        .into_iter()
        .map(|stream| Peer::upgraded(stream).unwrap())
        .collect();
    stage.until("clients", CLIENTS as u64, |counters| {
        &counters.client_connections
    });
    drop(peers);
    stage.until("clients", 0, |counters| &counters.client_connections);
    until("sockets to be closed", || stage.socket_count() == 1);
}

#[test]
fn half_a_request_head_is_not_waited_for_longer_than_it_may_take() {
    let stage = Stage::new(1);
    let (target, token) = stage.client_request();
    let request = head(&target, &token);
    let started = Instant::now();
    let mut silent = TcpStream::connect(stage.address).unwrap();
    let mut trickling = TcpStream::connect(stage.address).unwrap();
    for stream in [&silent, &trickling] {
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
    }
    silent.write_all(&request.as_bytes()[..20]).unwrap();
    let mut byte = request.bytes();
    while started.elapsed() + Duration::from_secs(1) < REQUEST_HEAD_TIMEOUT {
        trickling.write_all(&[byte.next().unwrap()]).unwrap();
        std::thread::sleep(Duration::from_millis(300));
    }
    for stream in [&mut silent, &mut trickling] {
        assert_eq!(stream.read(&mut [0; 100]).unwrap_or(0), 0, "no answer");
    }
    let took = started.elapsed();
    assert!(
        took < REQUEST_HEAD_TIMEOUT + Duration::from_secs(2),
        "{took:?}"
    );
    until("sockets to be closed", || stage.socket_count() == 1);
}

/// Whoever opens connections and says nothing on them does not keep others out, not even for as long as a head may take.
#[test]
fn heads_that_do_not_come_make_room_for_others() {
    let stage = Stage::new(1);
    let silent: Vec<TcpStream> = (0..ADMISSIONS_MAX)
        .map(|_| {
            let mut stream = TcpStream::connect(stage.address).unwrap();
            stream.write_all(b"GET /client/").unwrap();
            stream
        })
        .collect();
    stage.until("admissions", ADMISSIONS_MAX as u64, |counters| {
        &counters.admissions
    });
    let started = Instant::now();
    let clients: Vec<Peer> = (0..100).map(|_| Client::upgrade(&stage)).collect();
    let took = started.elapsed();
    assert!(took < REQUEST_HEAD_TIMEOUT / 2, "{took:?}");
    let given_up = stage.sum(|all| &all.heads_given_up);
    assert!((1..=200).contains(&given_up), "{given_up}");
    // The oldest have gone, the others may go on.
    let mut ends = silent.iter().map(|stream| {
        stream.set_nonblocking(true).unwrap();
        (&*stream).read(&mut [0; 10]).is_ok_and(|bytes| bytes == 0)
    });
    assert!(
        ends.by_ref()
            .take(given_up as usize)
            .all(|has_ended| has_ended)
    );
    assert!(!ends.any(|has_ended| has_ended));
    drop((silent, clients));
    until("sockets to be closed", || stage.socket_count() == 1);
}

/// Others keep the shard at work without a break.
#[test]
fn a_busy_shard_lets_clients_in() {
    let stage = Stage::new(1);
    let mut servers = AppServer::connect_all(&stage, 1);
    let mut clients: Vec<Client> = (0..4)
        .map(|_| Client::connect(&stage, &mut servers).0)
        .collect();
    let is_over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        for client in &mut clients {
            let is_over = &is_over;
            scope.spawn(move || {
                let frames = frame(Data::Text, true, &[b'z'; 1000]).repeat(20);
                while !is_over.load(Ordering::Relaxed) {
                    client.peer.send_raw(&frames);
                }
            });
        }
        let server = &mut servers[0];
        let is_over = &is_over;
        scope.spawn(move || {
            while !is_over.load(Ordering::Relaxed) {
                assert!(matches!(server.peer.hear(), Heard::Bytes(_)));
            }
            while !matches!(
                server.peer.hear_within(Duration::from_millis(300)),
                Heard::Nothing
            ) {}
        });
        let mut slowest = Duration::ZERO;
        for _ in 0..10 {
            std::thread::sleep(Duration::from_millis(20));
            let started = Instant::now();
            drop(Client::upgrade(&stage));
            slowest = slowest.max(started.elapsed());
        }
        is_over.store(true, Ordering::Relaxed);
        assert!(slowest < Duration::from_secs(1), "{slowest:?}");
    });
}

//! Who does not read harms nobody but itself, and costs a bounded amount of memory.

use std::io::{ErrorKind, Write as _};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use hubring::frame::websocket::{self, Control, Data};
use hubring::protocol::service::{BroadcastData, Message};

use crate::peers::{AppServer, Client, Heard, MASK, frame};
use crate::stage::Stage;

/// More than the kernel holds for two sockets on loopback, as it tunes itself.
const KERNEL_BYTES: u64 = 24 * 1024 * 1024;

#[test]
fn a_client_that_does_not_read_a_broadcast_is_closed_and_the_others_get_all_of_it() {
    let stage = Stage::new(2);
    let mut servers = AppServer::connect_all(&stage, 2);
    let mut clients: Vec<Client> = (0..4)
        .map(|_| Client::connect(&stage, &mut servers).0)
        .collect();
    let stalled = clients.remove(0);
    let payload = vec![b'x'; 128 * 1024];
    let mut rounds = 0;
    while stage.sum(|counters| &counters.slow_consumers) == 0 {
        rounds += 1;
        assert!(rounds < 400, "the stalled client goes on");
        servers[0].send(&broadcast(&payload));
        for client in &mut clients {
            client.expect(&payload);
        }
    }
    stage.until("clients", 3, |counters| &counters.client_connections);
    servers[1].send(&broadcast(b"and on\x1e"));
    for client in &mut clients {
        client.expect(b"and on\x1e");
    }
    drop(stalled);
}

#[test]
fn an_app_server_that_does_not_read_stops_its_clients_until_it_reads_again() {
    const CLIENTS: usize = 4;
    const MESSAGES: usize = 10_000;
    let stage = Stage::new(1);
    let mut servers = AppServer::connect_all(&stage, 1);
    let mut clients: Vec<Client> = (0..CLIENTS)
        .map(|_| Client::connect(&stage, &mut servers).0)
        .collect();
    let mut expected: Vec<(String, Vec<u8>)> = clients
        .iter()
        .map(|client| (client.id.clone(), Vec::new()))
        .collect();
    std::thread::scope(|scope| {
        for client in &mut clients {
            scope.spawn(move || {
                for number in 0..MESSAGES {
                    client.send(&numbered(number));
                }
            });
        }
        let taken = settled(|| stage.sum(|counters| &counters.relayed_bytes));
        assert!(taken < KERNEL_BYTES, "{taken} bytes were taken in");
        assert!(stage.sum(|counters| &counters.reads_paused) > 0);
        assert_quiet(&stage);
        let whole: Vec<u8> = (0..MESSAGES)
            .flat_map(|n| numbered(n).into_bytes())
            .collect();
        while expected.iter().any(|(_, got)| got.len() < whole.len()) {
            let (id, data) = servers[0].next_data();
            let (_, got) = expected.iter_mut().find(|(known, _)| *known == id).unwrap();
            got.extend_from_slice(&data);
        }
        assert!(expected.iter().all(|(_, got)| *got == whole));
    });
}

/// It stops and goes on many times, so pauses and resumptions cross each other and what is on its way.
#[test]
fn an_app_server_that_reads_in_fits_bounds_what_is_taken_in() {
    const CLIENTS: usize = 6;
    let stage = Stage::new(1);
    let mut servers = AppServer::connect_all(&stage, 1);
    let mut clients: Vec<Client> = (0..CLIENTS)
        .map(|_| Client::connect(&stage, &mut servers).0)
        .collect();
    let (is_over, got_bytes) = (AtomicBool::new(false), AtomicU64::new(0));
    std::thread::scope(|scope| {
        for client in &mut clients {
            let is_over = &is_over;
            scope.spawn(move || {
                let frames = frame(Data::Text, true, &[b'z'; 1000]).repeat(64);
                while !is_over.load(Ordering::Relaxed) {
                    client.peer.send_raw(&frames);
                }
            });
        }
        let mut most = 0;
        for fit in 0..30 {
            let mut left = 3_000_000;
            while left > 0 {
                let (_, data) = servers[0].next_data();
                got_bytes.fetch_add(data.len() as u64, Ordering::Relaxed);
                left -= data.len().min(left);
            }
            std::thread::sleep(Duration::from_millis(if fit % 10 == 9 { 100 } else { 10 }));
            let taken = stage.sum(|counters| &counters.relayed_bytes);
            most = most.max(taken - got_bytes.load(Ordering::Relaxed));
        }
        is_over.store(true, Ordering::Relaxed);
        assert!(most < KERNEL_BYTES, "{most} bytes were taken in");
        // Whoever still writes has to come to its end.
        while servers[0]
            .next_within(Duration::from_millis(300))
            .is_ok_and(|next| next.is_some())
        {}
    });
}

#[test]
fn pings_of_a_client_that_does_not_read_are_not_hoarded() {
    const FLOOD_BYTES: usize = 48 * 1024 * 1024;
    let stage = Stage::new(1);
    let mut servers = AppServer::connect_all(&stage, 1);
    let (mut flooding, _) = Client::connect(&stage, &mut servers);
    let (mut other, _) = Client::connect(&stage, &mut servers);
    let ping = websocket::control_frame(Control::Ping, &[7; 125], Some(MASK));
    let flood = ping.repeat(1000);
    let frames_before = stage.sum(|counters| &counters.sent_frames);
    for _ in 0..FLOOD_BYTES / flood.len() {
        match flooding.peer.stream.write_all(&flood) {
            Ok(()) => {}
            Err(error)
                if matches!(
                    error.kind(),
                    ErrorKind::BrokenPipe | ErrorKind::ConnectionReset
                ) =>
            {
                break;
            }
            Err(error) => panic!("{error}"),
        }
    }
    settled(|| stage.sum(|counters| &counters.receives));
    let pongs = stage.sum(|counters| &counters.sent_frames) - frames_before;
    assert!(pongs * 127 < KERNEL_BYTES, "{pongs} pongs were made");
    other.peer.ping(b"still there?");
    assert_eq!(other.peer.hear(), Heard::Pong(b"still there?".to_vec()));
}

pub(crate) fn broadcast(payload: &[u8]) -> Message<'_, &[u8]> {
    BroadcastData {
        excluded: [].into_iter().collect(),
        payloads: [("json", payload)].into_iter().collect(),
        filter: None,
        tracing_id: None,
    }
    .into()
}

fn numbered(number: usize) -> String {
    format!("{number:>2047}\x1e")
}

/// A value that has not changed for a while.
fn settled(value: impl Fn() -> u64) -> u64 {
    let (mut last, mut since) = (value(), Instant::now());
    while since.elapsed() < Duration::from_millis(300) {
        std::thread::sleep(Duration::from_millis(5));
        let now = value();
        if now != last {
            (last, since) = (now, Instant::now());
        }
    }
    last
}

/// Waiting costs no turns.
fn assert_quiet(stage: &Stage) {
    let before = stage.sum(|counters| &counters.turns);
    std::thread::sleep(Duration::from_millis(500));
    let turns = stage.sum(|counters| &counters.turns) - before;
    assert!(turns < 30, "{turns} turns in half a second of waiting");
}

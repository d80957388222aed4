//! The floor, driven over sockets.
//!
//! Setup: the program on free ports, clients and server connections as plain blocking sockets. What must hold: every record arrives
//! exactly once, whole, in order and at the right place, however the bytes were cut and however many there are.

#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test fails by panicking"
)]

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::Duration;

/// Long enough for any machine: only a failing test waits for it.
const TIMEOUT: Duration = Duration::from_secs(30);
const ALL_CLIENTS: u32 = u32::MAX;

#[derive(Clone, Copy)]
struct Sizes {
    client_frame: usize,
    server_record: usize,
    answer_record: usize,
    client_message: usize,
}

/// As hubring's records of 2,048 bytes of payload.
const USUAL: Sizes = Sizes {
    client_frame: 2056,
    server_record: 2090,
    answer_record: 2094,
    client_message: 2052,
};

struct Floor {
    program: Child,
    sizes: Sizes,
    clients: SocketAddr,
    servers: SocketAddr,
}

impl Floor {
    fn start(sizes: Sizes) -> Self {
        let mut program = Command::new(env!("CARGO_BIN_EXE_hubring-floor"))
            .args(["--clients-listen", "127.0.0.1:0"])
            .args(["--servers-listen", "127.0.0.1:0"])
            .args(["--client-frame", &sizes.client_frame.to_string()])
            .args(["--server-record", &sizes.server_record.to_string()])
            .args(["--answer-record", &sizes.answer_record.to_string()])
            .args(["--client-message", &sizes.client_message.to_string()])
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(program.stdout.take().unwrap()).lines();
        let mut address = |side: &str| {
            let line = lines.next().unwrap().unwrap();
            line.strip_prefix(side).unwrap().trim().parse().unwrap()
        };
        Self {
            clients: address("clients"),
            servers: address("servers"),
            program,
            sizes,
        }
    }

    fn connect(address: SocketAddr) -> TcpStream {
        let stream = TcpStream::connect(address).unwrap();
        stream.set_nodelay(true).unwrap();
        stream.set_read_timeout(Some(TIMEOUT)).unwrap();
        stream.set_write_timeout(Some(TIMEOUT)).unwrap();
        stream
    }

    fn client(&self) -> TcpStream {
        Self::connect(self.clients)
    }

    fn server(&self) -> TcpStream {
        Self::connect(self.servers)
    }

    /// Clients that have been heard of, in the order of their indexes.
    fn known_clients(&self, count: u32, server: &mut TcpStream) -> Vec<TcpStream> {
        let mut clients: Vec<_> = (0..count).map(|_| self.client()).collect();
        for (index, client) in clients.iter_mut().enumerate() {
            client
                .write_all(&content(0, self.sizes.client_frame))
                .unwrap();
            assert_eq!(self.server_record(server).0, index as u32);
        }
        clients
    }

    /// The index and the content of the next record.
    fn server_record(&self, server: &mut TcpStream) -> (u32, Vec<u8>) {
        let record = read(server, self.sizes.server_record);
        let index = u32::from_le_bytes(record[..4].try_into().unwrap());
        let content_bytes = (self.sizes.server_record - 4).min(self.sizes.client_frame);
        (
            index,
            record[self.sizes.server_record - content_bytes..].to_vec(),
        )
    }

    fn answer(&self, index: u32, seed: u32) -> Vec<u8> {
        let mut record = content(seed, self.sizes.answer_record);
        record[..4].copy_from_slice(&index.to_le_bytes());
        record
    }

    fn assert_client_message(&self, client: &mut TcpStream, index: u32, seed: u32) {
        let message = read(client, self.sizes.client_message);
        let answer = self.answer(index, seed);
        let common = message.len().min(answer.len());
        assert_eq!(
            message[message.len() - common..],
            answer[answer.len() - common..],
            "seed {seed}"
        );
    }

    fn resident_kilobytes(&self) -> u64 {
        let path = format!("/proc/{}/status", self.program.id());
        let status = std::fs::read_to_string(path).unwrap();
        let line = status.lines().find(|line| line.starts_with("VmRSS"));
        let number = line.unwrap().split_whitespace().nth(1);
        number.unwrap().parse().unwrap()
    }
}

impl Drop for Floor {
    fn drop(&mut self) {
        let _ = self.program.kill();
        let _ = self.program.wait();
    }
}

fn content(seed: u32, bytes: usize) -> Vec<u8> {
    let mut state = seed.wrapping_mul(2_654_435_761) | 1;
    let next = || {
        state ^= state << 13;
        state ^= state >> 17;
        state ^= state << 5;
        state as u8
    };
    std::iter::repeat_with(next).take(bytes).collect()
}

/// The end of what arrived, which is the end of what was sent.
fn assert_ends_alike(arrived: &[u8], sent: &[u8]) {
    assert_eq!(arrived, &sent[sent.len() - arrived.len()..]);
}

fn read(stream: &mut TcpStream, bytes: usize) -> Vec<u8> {
    let mut record = vec![0; bytes];
    stream.read_exact(&mut record).unwrap();
    record
}

#[test]
fn records_of_all_sizes_pass_whole() {
    let sizes = [
        (1, 5, 4, 1),
        (1, 4, 5, 3),
        (100, 150, 200, 100),
        (2056, 2090, 2094, 2052),
        (20, 16, 16, 20),
        (16_256, 16_300, 16_300, 16_256),
        (16_384, 16_388, 16_384, 16_388),
        (70_008, 70_050, 70_060, 70_004),
    ];
    for (client_frame, server_record, answer_record, client_message) in sizes {
        let floor = Floor::start(Sizes {
            client_frame,
            server_record,
            answer_record,
            client_message,
        });
        let mut server = floor.server();
        let mut clients = floor.known_clients(3, &mut server);
        for seed in 1..20 {
            for (index, client) in (0..).zip(&mut clients) {
                let frame = content(seed, client_frame);
                client.write_all(&frame).unwrap();
                let (from, arrived) = floor.server_record(&mut server);
                assert_eq!(from, index);
                assert_ends_alike(&arrived, &frame);
                server.write_all(&floor.answer(index, seed)).unwrap();
                floor.assert_client_message(client, index, seed);
            }
            server.write_all(&floor.answer(ALL_CLIENTS, seed)).unwrap();
            for client in &mut clients {
                floor.assert_client_message(client, ALL_CLIENTS, seed);
            }
        }
    }
}

#[test]
fn records_pass_whole_wherever_they_are_cut() {
    for piece_bytes in [1, 3, 255, 256, 257, 1000] {
        let floor = Floor::start(USUAL);
        let mut server = floor.server();
        let mut clients = floor.known_clients(2, &mut server);
        for (index, client) in (0..).zip(&mut clients) {
            let frames = [content(1, 2056), content(2, 2056), content(3, 2056)];
            for piece in frames.concat().chunks(piece_bytes) {
                client.write_all(piece).unwrap();
                thread::yield_now();
            }
            for frame in &frames {
                let (from, arrived) = floor.server_record(&mut server);
                assert_eq!(from, index);
                assert_ends_alike(&arrived, frame);
            }
            let answers = [
                floor.answer(index, 4),
                floor.answer(ALL_CLIENTS, 5),
                floor.answer(index, 6),
            ];
            for piece in answers.concat().chunks(piece_bytes) {
                server.write_all(piece).unwrap();
                thread::yield_now();
            }
        }
        for (index, client) in (0..).zip(&mut clients) {
            // The first client's answers come before the second's; what was for all came to both.
            if index == 1 {
                floor.assert_client_message(client, ALL_CLIENTS, 5);
            }
            floor.assert_client_message(client, index, 4);
            floor.assert_client_message(client, ALL_CLIENTS, 5);
            floor.assert_client_message(client, index, 6);
            if index == 0 {
                floor.assert_client_message(client, ALL_CLIENTS, 5);
            }
        }
    }
}

#[test]
fn what_nobody_takes_yet_is_kept() {
    const RECORDS: u32 = 2000;
    let floor = Floor::start(USUAL);
    let mut server = floor.server();
    let clients = floor.known_clients(4, &mut server);
    let senders: Vec<_> = clients
        .iter()
        .map(|client| {
            let mut client = client.try_clone().unwrap();
            thread::spawn(move || {
                for seed in 0..RECORDS {
                    client.write_all(&content(seed, 2056)).unwrap();
                }
            })
        })
        .collect();
    for sender in senders {
        sender.join().unwrap();
    }
    let mut next = vec![0; clients.len()];
    for _ in 0..RECORDS * clients.len() as u32 {
        let (index, arrived) = floor.server_record(&mut server);
        let seed = &mut next[index as usize];
        assert_ends_alike(&arrived, &content(*seed, 2056));
        server.write_all(&floor.answer(index, *seed)).unwrap();
        *seed += 1;
    }
    for (index, mut client) in (0..).zip(clients) {
        for seed in 0..RECORDS {
            floor.assert_client_message(&mut client, index, seed);
        }
    }
}

#[test]
fn many_more_records_than_buffers_leave_nothing_behind() {
    const BATCHES: u32 = 600;
    let floor = Floor::start(USUAL);
    let mut server = floor.server();
    let mut clients = floor.known_clients(8, &mut server);
    let mut exchange = |seeds: std::ops::Range<u32>| {
        for seed in seeds {
            let frame = content(seed, 2056);
            for client in &mut clients {
                client.write_all(&frame.repeat(4)).unwrap();
            }
            for _ in 0..4 * clients.len() {
                let (index, arrived) = floor.server_record(&mut server);
                assert_ends_alike(&arrived, &frame);
                server.write_all(&floor.answer(index, seed)).unwrap();
            }
            server.write_all(&floor.answer(ALL_CLIENTS, seed)).unwrap();
            for (index, client) in (0..).zip(&mut clients) {
                for _ in 0..4 {
                    floor.assert_client_message(client, index, seed);
                }
                floor.assert_client_message(client, ALL_CLIENTS, seed);
            }
        }
        floor.resident_kilobytes()
    };
    let before = exchange(0..BATCHES / 4);
    let after = exchange(BATCHES / 4..BATCHES);
    // The records of the second part alone, kept once each way, would be more than 50 MB.
    assert!(after < before + 10_000, "{before} kB became {after} kB");
}

#[test]
fn bursts_for_all_reach_each_client_in_order() {
    for payload_bytes in [132, 2052, 17_000] {
        let sizes = Sizes {
            answer_record: payload_bytes + 20,
            client_message: payload_bytes,
            ..USUAL
        };
        let floor = Floor::start(sizes);
        let mut server = floor.server();
        let mut clients = floor.known_clients(40, &mut server);
        for round in 0..50 {
            let mut burst = Vec::new();
            for seed in 0..8 {
                burst.extend(floor.answer(ALL_CLIENTS, round * 8 + seed));
                burst.extend(floor.answer(seed, round + 1000));
            }
            server.write_all(&burst).unwrap();
            for (index, client) in (0..).zip(&mut clients) {
                for seed in 0..8 {
                    floor.assert_client_message(client, ALL_CLIENTS, round * 8 + seed);
                    if seed == index {
                        floor.assert_client_message(client, index, round + 1000);
                    }
                }
            }
        }
    }
}

#[test]
fn clients_are_spread_over_the_server_connections() {
    let floor = Floor::start(USUAL);
    // One that only looks whether somebody is there, as the one who started the program does.
    drop(floor.server());
    let mut servers: Vec<_> = (0..3).map(|_| floor.server()).collect();
    // A broadcast from each shows that all have been accepted.
    let mut first = floor.client();
    for server in &mut servers {
        server.write_all(&floor.answer(ALL_CLIENTS, 1)).unwrap();
        floor.assert_client_message(&mut first, ALL_CLIENTS, 1);
    }
    let mut others: Vec<_> = (1..7).map(|_| floor.client()).collect();
    for client in std::iter::once(&mut first).chain(&mut others) {
        client.write_all(&content(7, 2056)).unwrap();
    }
    for (number, server) in (0..).zip(&mut servers) {
        for _ in 0..if number == 0 { 3 } else { 2 } {
            assert_eq!(floor.server_record(server).0 % 3, number);
        }
    }
}

#[test]
fn a_lost_client_takes_nothing_else_along() {
    let floor = Floor::start(USUAL);
    let mut server = floor.server();
    let mut clients = floor.known_clients(3, &mut server);
    let mut lost = clients.remove(1);
    lost.write_all(&content(1, 1000)).unwrap();
    // With unread bytes in it a socket is reset when it closes.
    server.write_all(&floor.answer(1, 2)).unwrap();
    lost.peek(&mut [0]).unwrap();
    drop(lost);
    for seed in 3..50 {
        server.write_all(&floor.answer(1, seed)).unwrap();
        server.write_all(&floor.answer(ALL_CLIENTS, seed)).unwrap();
        for client in &mut clients {
            floor.assert_client_message(client, ALL_CLIENTS, seed);
        }
    }
    // When all have gone, counting begins again. There is no telling when the floor has noticed.
    drop(clients);
    let deadline = std::time::Instant::now() + TIMEOUT;
    loop {
        let mut client = floor.client();
        client.write_all(&content(9, 2056)).unwrap();
        if floor.server_record(&mut server).0 == 0 {
            return;
        }
        assert!(std::time::Instant::now() < deadline);
    }
}

#[test]
fn what_makes_no_sense_is_refused() {
    for (server_record, client_message) in [("3", "10"), ("3000", "10"), ("20", "0")] {
        let status = Command::new(env!("CARGO_BIN_EXE_hubring-floor"))
            .args(["--clients-listen", "127.0.0.1:0"])
            .args(["--servers-listen", "127.0.0.1:0"])
            .args(["--client-frame", "10", "--answer-record", "10"])
            .args(["--server-record", server_record])
            .args(["--client-message", client_message])
            .stderr(Stdio::null())
            .status()
            .unwrap();
        assert!(!status.success());
    }
}

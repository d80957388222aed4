//! Many server connections send at once, as fast as the service takes it, to connections, users, groups and the hub, across four shards:
//! every client gets exactly what is for it, from each sender in the order sent.
//!
//! The service runs in a process of its own. `HUBRING_ORDER_MESSAGES` says how many messages each sender sends; without, the ignored test
//! sends 100,000 each (6.4 million), which wants a release build: `HUBRING_BIN=…/release/hubring cargo test --test data_plane -- --ignored`.

use std::io::Write as _;
use std::net::TcpStream;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use hubring::frame::websocket::{Data, OpCode, header};
use hubring::id::{ConnectionId, ShardId};
use hubring::protocol::service::{
    AckStatus, BroadcastData, GroupBroadcastData, JoinGroupWithAck, Message, MultiConnectionData,
    MultiGroupBroadcastData, MultiUserData, Payloads, Texts, UserData,
};

use crate::peers::{AppServer, Client, HANDSHAKE, Heard, Peer, accept, read, read_some};
use crate::stage::{PATIENCE, Stage};

const SHARDS: u16 = 4;
const SENDERS: usize = 64;
const CLIENTS: usize = 8;
/// Messages of one batch, which is one WebSocket message. What the first of them is, the first of the next batch is too.
const BATCH: usize = 64;
/// Batches that a sender may be ahead of the slowest client: more would make that a slow consumer.
const BATCHES_AHEAD: u64 = 16;
/// Sender and number, in hexadecimal digits.
const PAYLOAD: &str = "ss__n__n";
/// What comes last of each sender.
const END: &str = "end of a";

#[test]
fn order_is_kept_whatever_is_sent_to() {
    run(messages_each(1_280));
}

#[test]
#[ignore = "6.4 million messages; scripts/test runs it"]
fn order_is_kept_for_millions_of_messages() {
    run(messages_each(100_000));
}

fn messages_each(default: usize) -> usize {
    std::env::var("HUBRING_ORDER_MESSAGES").map_or(default, |count| count.parse().unwrap())
}

fn run(messages_each: usize) {
    let batches = messages_each.div_ceil(BATCH) as u64;
    let stage = Stage::of_process(SHARDS);
    let mut servers = AppServer::connect_all(&stage, SENDERS);
    let clients = connect_clients(&stage, &mut servers);
    let ids: Vec<String> = clients.iter().map(|client| client.id.clone()).collect();
    join_groups(&mut servers[0], &ids);
    let progress: [AtomicU64; CLIENTS] = Default::default();
    let started = Instant::now();
    let received: u64 = std::thread::scope(|scope| {
        let senders: Vec<_> = servers
            .iter()
            .enumerate()
            .map(|(index, server)| {
                let sender = Sender::new(index, &ids);
                let mut stream = server.peer.stream.try_clone().unwrap();
                let progress = &progress;
                scope.spawn(move || sender.run(&mut stream, batches, progress))
            })
            .collect();
        let receivers: Vec<_> = clients
            .into_iter()
            .zip(&progress)
            .enumerate()
            .map(|(index, (client, progress))| {
                scope.spawn(move || Receiver::new(index).run(client, batches, progress))
            })
            .collect();
        for sender in senders {
            sender.join().unwrap();
        }
        receivers.into_iter().map(|it| it.join().unwrap()).sum()
    });
    let sent = batches * (BATCH * SENDERS) as u64;
    let took = started.elapsed();
    println!(
        "{sent} messages of {SENDERS} senders, {received} deliveries in {took:.1?}: 0 out of order, lost or twice"
    );
}

// --- Who there is, and what is for whom ---

/// As many clients on each shard.
fn connect_clients(stage: &Stage, servers: &mut [AppServer]) -> Vec<Client> {
    let mut clients: Vec<Client> = Vec::new();
    let shard_of = |client: &Client| ConnectionId::parse(&client.id).unwrap().shard();
    let started = Instant::now();
    while clients.len() < CLIENTS {
        assert!(started.elapsed() < PATIENCE, "clients do not spread");
        let mut peer = Peer::upgrade(
            stage,
            stage.client_request_with(&[("nameid", &user(clients.len()))]),
            &[],
        )
        .unwrap();
        peer.send(Data::Text, HANDSHAKE);
        let (_, id) = accept(servers);
        assert_eq!(peer.hear(), Heard::Bytes(b"{}\x1e".to_vec()));
        let client = Client { peer, id };
        let shard: ShardId = shard_of(&client);
        let there = clients.iter().filter(|other| shard_of(other) == shard);
        if there.count() < CLIENTS / usize::from(SHARDS) {
            clients.push(client);
        }
    }
    clients
}

fn join_groups(server: &mut AppServer, ids: &[String]) {
    for (client, id) in ids.iter().enumerate() {
        for group in (0..4).filter(|group| is_member(client, *group)) {
            let join = JoinGroupWithAck {
                connection_id: id.into(),
                group: group_name(group).into(),
                ack_id: 1,
                ..JoinGroupWithAck::default()
            };
            server.send(&join.into());
            loop {
                match read(&server.next().unwrap()) {
                    Message::Ack(ack) => break assert_eq!(ack.status, AckStatus::Ok),
                    // Of a client for which there was no place.
                    Message::CloseConnection(_) => {}
                    other => panic!("no ack: {other:?}"),
                }
            }
        }
    }
}

fn user(client: usize) -> String {
    format!("user-{}", client % 4)
}

fn group_name(group: usize) -> String {
    format!("group-{group}")
}

fn is_member(client: usize, group: usize) -> bool {
    client % 4 == group || (client + 3) % CLIENTS == group
}

/// Whom a message is for.
enum Target {
    Connection(usize),
    Connections([usize; 3]),
    User(usize),
    Users([usize; 2]),
    Group(usize),
    Groups([usize; 2]),
    Hub,
}

impl Target {
    /// The same for a number and for the one that is a batch further on.
    fn of(sender: usize, number: usize) -> Self {
        let turn = sender + number / 8;
        match number % 8 {
            0 | 1 => Self::Connection((turn + number) % CLIENTS),
            2 => Self::Connections([0, 3, 5].map(|step| (turn + step) % CLIENTS)),
            3 => Self::User(turn % 4),
            4 => Self::Users([turn % 4, (turn + 1) % 4]),
            5 => Self::Group(turn % 4),
            6 => Self::Groups([turn % 4, (turn + 1) % 4]),
            _ if turn.is_multiple_of(4) => Self::Hub,
            _ => Self::Connection(turn % CLIENTS),
        }
    }

    fn has(&self, client: usize) -> bool {
        match self {
            Self::Connection(one) => *one == client,
            Self::Connections(some) => some.contains(&client),
            Self::User(one) => *one == client % 4,
            Self::Users(some) => some.contains(&(client % 4)),
            Self::Group(one) => is_member(client, *one),
            Self::Groups(some) => some.iter().any(|group| is_member(client, *group)),
            Self::Hub => true,
        }
    }

    fn message<'a>(&self, ids: &'a [String], payload: &'a [u8]) -> Message<'a, &'a [u8]> {
        let connections = |some: &[usize]| MultiConnectionData {
            connection_ids: some.iter().map(|client| (&*ids[*client]).into()).collect(),
            payloads: payloads(payload),
            filter: None,
            tracing_id: None,
        };
        match self {
            Self::Connection(one) => connections(&[*one]).into(),
            Self::Connections(some) => connections(some).into(),
            Self::User(one) => UserData {
                user_id: user(*one).into(),
                payloads: payloads(payload),
                filter: None,
                tracing_id: None,
            }
            .into(),
            Self::Users(some) => MultiUserData {
                user_ids: some.iter().map(|client| user(*client).into()).collect(),
                payloads: payloads(payload),
                filter: None,
                tracing_id: None,
            }
            .into(),
            Self::Group(one) => GroupBroadcastData {
                group: group_name(*one).into(),
                excluded: Texts::new(),
                payloads: payloads(payload),
                excluded_users: Texts::new(),
                caller_user_id: None,
                filter: None,
                tracing_id: None,
            }
            .into(),
            Self::Groups(some) => MultiGroupBroadcastData {
                groups: some.iter().map(|group| group_name(*group).into()).collect(),
                payloads: payloads(payload),
                filter: None,
                tracing_id: None,
            }
            .into(),
            Self::Hub => BroadcastData {
                excluded: Texts::new(),
                payloads: payloads(payload),
                filter: None,
                tracing_id: None,
            }
            .into(),
        }
    }
}

fn payloads(payload: &[u8]) -> Payloads<'_, &[u8]> {
    [("json", payload)].into_iter().collect()
}

// --- Sending ---

/// One batch, made beforehand, in which only the numbers change.
struct Sender {
    frame: Vec<u8>,
    last: Vec<u8>,
    /// Where the numbers stand.
    numbers: Vec<usize>,
    /// By client: what it gets of one batch of every sender.
    shares: Vec<u64>,
}

impl Sender {
    fn new(index: usize, ids: &[String]) -> Self {
        let payload = format!("{index:02x}__n__n");
        assert_eq!(payload.len(), PAYLOAD.len());
        let mut messages = Vec::new();
        for number in 0..BATCH {
            let message = Target::of(index, number).message(ids, payload.as_bytes());
            message.encode(&mut messages);
        }
        let frame = frame_of(&messages);
        let mut last = Vec::new();
        Target::Hub.message(ids, END.as_bytes()).encode(&mut last);
        let at = |(at, window): (usize, &[u8])| (window == payload.as_bytes()).then_some(at + 2);
        let numbers: Vec<usize> = frame
            .windows(payload.len())
            .enumerate()
            .filter_map(at)
            .collect();
        assert_eq!(numbers.len(), BATCH);
        Self {
            frame,
            last: frame_of(&last),
            numbers,
            shares: (0..CLIENTS).map(share).collect(),
        }
    }

    fn run(mut self, stream: &mut TcpStream, batches: u64, progress: &[AtomicU64]) {
        for batch in 0..batches {
            self.wait(batch, progress);
            for (index, at) in self.numbers.iter().enumerate() {
                let mut number = batch as usize * BATCH + index;
                for digit in self.frame[*at..*at + 6].iter_mut().rev() {
                    *digit = b"0123456789abcdef"[number % 16];
                    number /= 16;
                }
            }
            stream.write_all(&self.frame).unwrap();
        }
        stream.write_all(&self.last).unwrap();
    }

    /// Until every client has got its part of what all senders have sent up to so many batches ago.
    fn wait(&self, batch: u64, progress: &[AtomicU64]) {
        let due = batch.saturating_sub(BATCHES_AHEAD);
        let started = Instant::now();
        while progress
            .iter()
            .zip(&self.shares)
            .any(|(got, share)| got.load(Ordering::Relaxed) < share * due)
        {
            assert!(started.elapsed() < PATIENCE, "a client does not get on");
            std::thread::sleep(Duration::from_millis(1));
        }
    }
}

/// With a mask of zeros a frame is masked as it is.
fn frame_of(messages: &[u8]) -> Vec<u8> {
    let opcode = OpCode::Data(Data::Binary);
    let mut frame = header(opcode, true, messages.len() as u64, Some([0; 4])).to_vec();
    frame.extend_from_slice(messages);
    frame
}

/// What a client gets of one batch of every sender.
fn share(client: usize) -> u64 {
    let wanted = (0..SENDERS).map(|sender| wanted(client, sender));
    wanted.map(|wanted| u64::from(wanted.count_ones())).sum()
}

/// Which messages of a batch are for a client, as bits.
fn wanted(client: usize, sender: usize) -> u64 {
    let is_for = |number: &usize| Target::of(sender, *number).has(client);
    (0..BATCH).filter(is_for).map(|number| 1 << number).sum()
}

// --- Receiving ---

struct Receiver {
    index: usize,
    wanted: Vec<u64>,
    /// By sender: the next number that may be for us.
    next: Vec<usize>,
    received: u64,
}

impl Receiver {
    fn new(index: usize) -> Self {
        Self {
            index,
            wanted: (0..SENDERS).map(|sender| wanted(index, sender)).collect(),
            next: vec![0; SENDERS],
            received: 0,
        }
    }

    /// Reads to the end, and returns how many messages that were.
    fn run(mut self, client: Client, batches: u64, progress: &AtomicU64) -> u64 {
        const FRAME_BYTES: usize = 2 + PAYLOAD.len();
        let mut stream = client.peer.stream;
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        let mut buffer = vec![0; 64 * 1024];
        let (mut filled, mut ends) = (0, 0);
        loop {
            let bytes = read_some(&mut stream, &mut buffer[filled..]);
            assert!(bytes > 0, "client {} was closed", self.index);
            filled += bytes;
            let whole = filled - filled % FRAME_BYTES;
            for frame in buffer[..whole].chunks_exact(FRAME_BYTES) {
                let (head, payload) = frame.split_at(2);
                assert_eq!(head, [0x81, PAYLOAD.len() as u8], "a text frame");
                if payload == END.as_bytes() {
                    ends += 1;
                } else {
                    self.note(payload);
                }
            }
            if ends == SENDERS {
                assert_eq!(self.received, share(self.index) * batches, "all of it");
                return self.received;
            }
            progress.store(self.received, Ordering::Relaxed);
            buffer.copy_within(whole..filled, 0);
            filled -= whole;
        }
    }

    fn note(&mut self, payload: &[u8]) {
        let (sender, number) = payload.split_at(2);
        let (sender, number) = (value(sender), value(number));
        let mut expected = self.next[sender];
        while self.wanted[sender] >> (expected % BATCH) & 1 == 0 {
            expected += 1;
        }
        assert_eq!(
            number, expected,
            "client {}, sender {sender}: another one comes next",
            self.index
        );
        self.next[sender] = number + 1;
        self.received += 1;
    }
}

fn value(digits: &[u8]) -> usize {
    let digit = |byte: &u8| (*byte as char).to_digit(16).expect("a digit") as usize;
    digits
        .iter()
        .fold(0, |value, byte| value * 16 + digit(byte))
}

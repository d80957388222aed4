//! A report as a measurement leaves it behind, for tests. All figures are invented.

use std::collections::BTreeMap;

use serde_json::json;

use crate::output::verdict::Marks;
use crate::results::{Better, Head, Report, Row, Run, Window};

/// Numbers around 1, the same at each start.
pub(crate) struct Noise(u64);

impl Noise {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    /// Roughly normal around 1: the sum of twelve even numbers has variance 1.
    pub(crate) fn around_one(&mut self, deviation: f64) -> f64 {
        let sum: f64 = (0..12).map(|_| self.even()).sum();
        rounded(1.0 + (sum - 6.0) * deviation)
    }

    pub(crate) fn samples(&mut self, median: f64, deviation: f64, count: usize) -> Vec<f64> {
        (0..count)
            .map(|_| rounded(median * self.around_one(deviation)))
            .collect()
    }

    /// From 0 to 1 (xorshift64).
    fn even(&mut self) -> f64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        f64::from((self.0 >> 32) as u32) / f64::from(u32::MAX)
    }
}

/// With so few digits that they are the same when they have been written and read.
fn rounded(value: f64) -> f64 {
    (value * 1e4).round() / 1e4
}

/// All kinds of rows and runs.
pub(crate) fn report() -> Report {
    Report {
        head: head(),
        rows: rows(),
        runs: runs(),
    }
}

fn head() -> Head {
    let peers = [
        ("haproxy", "2.6.12"),
        ("nchan", "1.3.6"),
        ("pushpin", "1.36.0"),
        ("tokio relay", "0.1.0"),
    ];
    Head {
        commit: "a379861".to_owned(),
        version: "0.1.0".to_owned(),
        kernel: "6.1.0-28-amd64".to_owned(),
        cpu: "AMD EPYC 7763 64-Core Processor".to_owned(),
        cores: 2,
        memory_bytes: 8_300_000_000,
        started: "2026-11-22T18:02:00Z".to_owned(),
        seconds: 168.4,
        mode: "quick".to_owned(),
        service_cores: vec![0],
        own_cores: vec![1],
        service_busy: Some(0.991),
        own_busy: Some(0.712),
        peers: peers
            .map(|(name, version)| (name.to_owned(), version.to_owned()))
            .into(),
        notes: vec![
            "ASP.NET Core is not measured: HUBRING_SDK_APP is not set.".to_owned(),
            "pushpin <1.37> did not answer within 20 s & was left out of broadcast_2k_9k."
                .to_owned(),
        ],
    }
}

/// Key, label, unit, the better way, must, target and stretch, the figure, and how much it varies.
type Shape = (
    &'static str,
    &'static str,
    &'static str,
    Better,
    [f64; 3],
    f64,
    f64,
);

/// A mark that there is not.
const NONE: f64 = -1.0;

const SHAPES: &[Shape] = &[
    (
        "echo_2k",
        "Echo, 2 KB, 1,000 clients, 5 server connections",
        "µs CPU/echo",
        Better::Less,
        [8.0, 6.5, 5.0],
        5.6,
        0.02,
    ),
    (
        "echo_512b_9k",
        "Echo, 512 B, 9,000 clients",
        "µs CPU/echo",
        Better::Less,
        [12.0, 9.0, 7.5],
        9.9,
        0.03,
    ),
    (
        "echo_floor_ratio",
        "The same relay as echo 2 KB ÷ floor",
        "×",
        Better::Less,
        [1.5, 1.25, 1.15],
        1.18,
        0.01,
    ),
    (
        "broadcast_2k",
        "Broadcast 2 KB to 1,000 clients, one message per round",
        "deliveries/s/core",
        Better::More,
        [250e3, 310e3, 350e3],
        318e3,
        0.02,
    ),
    (
        "broadcast_burst_2k",
        "Broadcast in bursts of 8, 2 KB",
        "deliveries/s/core",
        Better::More,
        [0.8e6, 1.2e6, 1.5e6],
        1.61e6,
        0.03,
    ),
    (
        "broadcast_2k_9k",
        "Broadcast 2 KB to 9,000 clients",
        "deliveries/s/core",
        Better::More,
        [160e3, 200e3, 230e3],
        151e3,
        0.03,
    ),
    (
        "send_to_connection_1k",
        "Send to one connection, 1,000 clients",
        "messages/s/core",
        Better::More,
        [100e3, 150e3, 200e3],
        142e3,
        0.03,
    ),
    (
        "groups_resident",
        "Groups of 10 members, resident",
        "groups",
        Better::More,
        [NONE, NONE, 1e6],
        1e6,
        0.0,
    ),
    (
        "latency_added_p50",
        "Latency added, closed loop, idle machine, p50",
        "µs",
        Better::Less,
        [100.0, 80.0, 30.0],
        71.0,
        0.05,
    ),
    (
        "latency_open_p99",
        "Latency, open loop, 20 k messages/s over 1,000 clients, p99",
        "µs",
        Better::Less,
        [2000.0, 1000.0, 500.0],
        1240.0,
        0.2,
    ),
    (
        "latency_open_p999",
        "Latency, open loop, 20 k messages/s over 1,000 clients, p99.9",
        "µs",
        Better::Less,
        [10e3, 5e3, 2e3],
        63e3,
        0.3,
    ),
    (
        "idle_memory",
        "Resident memory per idle client",
        "bytes/client",
        Better::Less,
        [3072.0, 1536.0, 700.0],
        1311.0,
        0.002,
    ),
    (
        "idle_cpu",
        "Idle CPU per connected client",
        "µs/s/client",
        Better::Less,
        [2.0, 0.5, 0.2],
        0.034,
        0.1,
    ),
    (
        "connects",
        "Full connects (upgrade, token, handshake, OpenConnection)",
        "connects/s/core",
        Better::More,
        [20e3, 30e3, 45e3],
        33.1e3,
        0.03,
    ),
    (
        "reconnect_18k",
        "18,000 clients reconnecting at once",
        "s",
        Better::Less,
        [3.0, 1.0, NONE],
        f64::NAN,
        0.0,
    ),
    (
        "relays_crossed_shard",
        "Relays that crossed a shard, in steady state",
        "relays",
        Better::Less,
        [0.0, NONE, NONE],
        0.0,
        0.0,
    ),
    (
        "sdk_echo",
        "Echo through the SDK: CPU of the app server",
        "µs CPU/echo",
        Better::Less,
        [NONE; 3],
        31.0,
        0.03,
    ),
];

fn row(shape: &Shape, noise: &mut Noise) -> Row {
    let (key, label, unit, better, marks, median, deviation) = *shape;
    let [must, target, stretch] = marks.map(|mark| (mark >= 0.0).then_some(mark));
    let marks = Marks {
        must,
        target,
        stretch,
    };
    let mut row = Row::new(key, label, unit, better, marks);
    if !median.is_nan() {
        row = row.with_samples(noise.samples(median, deviation, 5));
        row.service_busy = Some(0.99);
    }
    row
}

fn rows() -> Vec<Row> {
    let mut noise = Noise::new(1);
    let rows = SHAPES.iter().map(|shape| row(shape, &mut noise));
    let mut rows: Vec<Row> = rows.collect();
    let peers = |peers: &[(&str, f64)]| {
        let peers = peers.iter();
        peers
            .map(|(name, figure)| ((*name).to_owned(), *figure))
            .collect()
    };
    // The samples of some rows are given, because their text is checked.
    rows[0] = rows[0]
        .clone()
        .with_samples(vec![5.61, 5.40, 5.93, 5.58, 5.7]);
    rows[0].floor_ratio = Some(1.18);
    rows[0].peers = peers(&[("haproxy", 9.31), ("tokio relay", 14.2)]);
    rows[3].floor_ratio = Some(1.09);
    rows[3].peers = peers(&[("nchan", 121e3), ("pushpin", 48e3), ("tokio relay", 96e3)]);
    rows[6] = rows[6]
        .clone()
        .with_samples(vec![142e3, 139e3, 144e3, 141e3, 143e3]);
    rows[6].service_busy = Some(0.71);
    rows[11].peers = peers(&[("nchan", 4200.0), ("tokio relay", 9800.0)]);
    rows[11].note = Some("without 4.3 KB of the kernel".to_owned());
    rows[14].note = Some("too few descriptors: 20,000 are allowed".to_owned());
    rows
}

fn runs() -> Vec<Run> {
    let mut noise = Noise::new(2);
    let mut runs = Vec::new();
    for (name, shape, unit, contestants) in [
        (
            "echo_2k",
            json!({"scenario": "echo", "pacing": {"closed": {"depth": 1}}}),
            "echo",
            &[
                ("hubring", 5.6),
                ("floor", 4.75),
                ("haproxy", 9.31),
                ("tokio relay", 14.2),
                ("hubring + SDK", 5.9),
                ("ASP.NET Core", 44.0),
            ][..],
        ),
        (
            "broadcast_2k",
            json!({"scenario": "broadcast", "burst": 1, "overlap_percent": 10}),
            "delivery",
            &[
                ("hubring", 3.15),
                ("floor", 2.9),
                ("nchan", 8.26),
                ("pushpin", 20.8),
                ("tokio relay", 10.4),
            ],
        ),
        (
            "broadcast_burst_2k",
            json!({"scenario": "broadcast", "burst": 8, "overlap_percent": 10}),
            "delivery",
            &[("hubring", 0.62), ("floor", 0.58)],
        ),
        (
            "send_to_connection_1k",
            json!({"scenario": "send-to-connection", "pacing": {"closed": {"depth": 64}}}),
            "delivery",
            &[("hubring", 7.04)],
        ),
        (
            "small_groups",
            json!({"scenario": "send-to-group", "group_members": 10, "idle_groups": 0, "pacing": {"closed": {"depth": 64}}}),
            "delivery",
            &[("hubring", 3.6)],
        ),
    ] {
        for (index, (contestant, cpu)) in (0..).zip(contestants) {
            runs.push(saturating(
                name,
                &shape,
                unit,
                contestant,
                *cpu,
                index,
                contestants.len() as u32,
                &mut noise,
            ));
        }
    }
    for (contestant, factor) in [("hubring", 1.0), ("tokio relay", 2.3)] {
        runs.push(open_loop(contestant, factor));
    }
    runs
}

#[expect(clippy::too_many_arguments, reason = "it is called in one place only")]
fn saturating(
    name: &str,
    scenario: &serde_json::Value,
    unit: &str,
    contestant: &str,
    cpu: f64,
    index: u32,
    contestants: u32,
    noise: &mut Noise,
) -> Run {
    let window = |round: u32| {
        let cpu = rounded(cpu * noise.around_one(0.03));
        let busy = if name == "send_to_connection_1k" {
            0.71
        } else {
            0.985
        };
        let mut cpu_us_per_message: BTreeMap<String, f64> =
            [("service".to_owned(), cpu), ("own".to_owned(), 3.1)].into();
        if contestant.contains("SDK") {
            cpu_us_per_message.insert(
                "app server".to_owned(),
                rounded(31.0 * noise.around_one(0.03)),
            );
        }
        #[expect(clippy::cast_sign_loss, reason = "a rate is positive")]
        let messages = (busy / cpu * 1e6) as u64;
        Window {
            at_seconds: 12.0 + f64::from(round * contestants + index),
            seconds: 1.0,
            messages,
            cpu_us_per_message,
            busy: [("service".to_owned(), busy), ("own".to_owned(), 0.71)].into(),
            service_waited: 0.004,
            ..Window::default()
        }
    };
    Run {
        name: name.to_owned(),
        contestant: contestant.to_owned(),
        scenario: scenario.clone(),
        clients: 1000,
        payload_bytes: 2048,
        server_connections: 5,
        shards: 1,
        unit: unit.to_owned(),
        windows: (0..5).map(window).collect(),
        latencies_us: vec![(50.0, 7_900.0), (99.0, 9_100.0), (99.9, 11_000.0)],
        figures: [
            ("frames_per_send".to_owned(), 7.82),
            ("copied_bytes_per_message".to_owned(), 0.0),
            ("resident_bytes".to_owned(), 31e6),
        ]
        .into(),
    }
}

fn open_loop(contestant: &str, factor: f64) -> Run {
    let latencies = [
        (50.0, 184.0),
        (90.0, 410.0),
        (99.0, 1240.0),
        (99.9, 6300.0),
        (99.99, 14_800.0),
    ];
    let window = |round: u32| Window {
        at_seconds: 100.0 + f64::from(round),
        seconds: 1.0,
        messages: 20_000,
        cpu_us_per_message: [("service".to_owned(), rounded(7.7 * factor))].into(),
        busy: [("service".to_owned(), rounded(0.154 * factor))].into(),
        service_waited: 0.01,
        ..Window::default()
    };
    Run {
        name: "latency_open".to_owned(),
        contestant: contestant.to_owned(),
        scenario: json!({"scenario": "echo", "pacing": {"open": {"per_second": 20_000}}}),
        clients: 1000,
        payload_bytes: 2048,
        server_connections: 5,
        shards: 1,
        unit: "echo".to_owned(),
        windows: (0..5).map(window).collect(),
        latencies_us: latencies
            .map(|(percentile, time)| (percentile, rounded(time * factor)))
            .into(),
        figures: BTreeMap::new(),
    }
}

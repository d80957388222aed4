//! What clients wait for, and what it costs that they are there, come and come back.

use super::{Comparison, Pace, echo, entrants, extra, less, more, scenario, thousands};
use crate::contestants::kind::ContestantKind::{
    Direct, Floor, Haproxy, Hubring, SelfHost, TokioRelay,
};
use crate::coordinator::row_values::Figure;
use crate::job::{Load, Pacing};

pub(super) fn comparisons() -> Vec<Comparison> {
    [latencies(), connections(), storms()].concat()
}

fn latencies() -> Vec<Comparison> {
    let steady = Load::Echo {
        pacing: Pacing::Open { per_second: 20_000 },
    };
    let steady = scenario(steady, 1000, 2048);
    let percentile = |key, label, percentile, marks| {
        let run = "latency_open";
        less(key, label, "µs", marks, Figure::Latency { run, percentile })
    };
    vec![
        Comparison {
            name: "latency_added",
            entrants: entrants(
                "latency_added",
                &[Hubring, Direct],
                &scenario(echo(), 1, 2048),
            ),
            pace: Pace::Usual,
            rows: vec![
                less(
                    "latency_added_p50",
                    "Latency added, closed loop, idle machine, p50",
                    "µs",
                    [Some(100.0), Some(80.0), Some(30.0)],
                    Figure::LatencyAdded {
                        run: "latency_added",
                        percentile: 50.0,
                    },
                )
                .note("round trip through the service minus that of the same client connected to the other side itself"),
            ],
        },
        Comparison {
            name: "latency_open",
            entrants: [
                entrants("latency_open", &[Hubring, Floor], &steady),
                extra("latency_open", &[Haproxy, TokioRelay], &steady),
            ]
            .concat(),
            pace: Pace::Long,
            rows: vec![
                percentile(
                    "latency_open_p50",
                    "Latency, open loop, 20 k echoes/s of 2 KB over 1,000 clients, p50",
                    50.0,
                    [Some(300.0), Some(200.0), Some(150.0)],
                ),
                percentile(
                    "latency_open_p99",
                    "The same, p99",
                    99.0,
                    [Some(2000.0), Some(1000.0), Some(500.0)],
                ),
                percentile(
                    "latency_open_p999",
                    "The same, p99.9",
                    99.9,
                    [Some(10_000.0), Some(5000.0), Some(2000.0)],
                ),
            ],
        },
    ]
}

fn connections() -> Vec<Comparison> {
    let few = scenario(Load::Idle, 2000, 2048);
    let many = scenario(Load::Idle, 10_000, 2048);
    let connects = scenario(Load::Connect { at_once: 64 }, 64, 2048);
    let others = [TokioRelay, SelfHost];
    vec![
        Comparison {
            name: "idle_memory",
            entrants: [
                entrants("idle_memory_2k", &[Hubring], &few),
                entrants("idle_memory_10k", &[Hubring], &many),
                extra("idle_memory_2k", &others, &few),
                extra("idle_memory_10k", &others, &many),
            ]
            .concat(),
            pace: Pace::Glances,
            rows: vec![
                less(
                    "idle_memory",
                    "Resident memory per idle client (user, claims, one group)",
                    "bytes",
                    [Some(3000.0), Some(1500.0), Some(700.0)],
                    Figure::Memory {
                        many: "idle_memory_10k",
                        few: "idle_memory_2k",
                    },
                )
                .note("what 10,000 clients take more than 2,000, for each of these; without what the kernel keeps for a socket"),
            ],
        },
        Comparison {
            name: "idle",
            entrants: [
                entrants("idle", &[Hubring], &many),
                extra("idle", &others, &many),
            ]
            .concat(),
            pace: Pace::Long,
            rows: vec![
                less(
                    "idle_cpu",
                    "Idle CPU per connected client",
                    "µs/s",
                    [Some(2.0), Some(0.5), Some(0.2)],
                    Figure::CpuPerClientSecond { run: "idle" },
                ),
            ],
        },
        Comparison {
            name: "connects",
            entrants: [
                entrants("connects", &[Hubring], &connects),
                extra("connects", &others, &connects),
            ]
            .concat(),
            pace: Pace::Usual,
            rows: vec![more(
                "connects",
                "Full connects (upgrade, token, handshake, OpenConnection) and closes",
                "connects/s/core",
                thousands([20, 30, 45]),
                Figure::MessagesPerCpuSecond { run: "connects" },
            )],
        },
    ]
}

fn storms() -> Vec<Comparison> {
    let storm = |app_server_dies| Load::Reconnect { app_server_dies };
    let seconds = |key, label, marks| less(key, label, "s", marks, Figure::Seconds { run: key });
    vec![
        Comparison {
            name: "reconnect_18k",
            entrants: entrants(
                "reconnect_18k",
                &[Hubring],
                &scenario(storm(false), 18_000, 2048),
            ),
            pace: Pace::Storms,
            rows: vec![seconds(
                "reconnect_18k",
                "18,000 clients reconnect at once: all are back after",
                [Some(3.0), Some(1.0), None],
            )],
        },
        Comparison {
            name: "reconnect_18k_app_server_killed",
            entrants: entrants(
                "reconnect_18k_app_server_killed",
                &[Hubring],
                &scenario(storm(true), 18_000, 2048),
            ),
            pace: Pace::Storms,
            rows: vec![seconds(
                "reconnect_18k_app_server_killed",
                "The same when their app server is killed and comes back",
                [None, None, Some(1.0)],
            )],
        },
    ]
}

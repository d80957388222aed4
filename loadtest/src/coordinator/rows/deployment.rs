//! What it costs to have several shards, and what ASP.NET Core gains behind the service.

use super::{Comparison, Pace, broadcast, echo, entrants, extra, less, scenario};
use crate::contestants::kind::ContestantKind::{Hubring, Sdk, SelfHost};
use crate::coordinator::row_values::Figure;
use crate::coordinator::scenario::Scenario;
use crate::coordinator::session::Entrant;
use crate::job::Load;

/// Server connections where shards are compared: every shard gets some, and all have equally many in sum.
const SERVER_CONNECTIONS_OF_SHARDS: u32 = 40;

pub(super) fn comparisons() -> Vec<Comparison> {
    [shards(), sdk()].concat()
}

fn shards() -> Vec<Comparison> {
    const RUNS: [(&str, u32); 4] = [
        ("shards_1", 1),
        ("shards_2", 2),
        ("shards_4", 4),
        ("shards_8", 8),
    ];
    let entrant = |(run, shards)| Entrant {
        run,
        kind: Hubring,
        scenario: Scenario {
            shards,
            server_connections: SERVER_CONNECTIONS_OF_SHARDS,
            ..scenario(echo(), 1000, 2048)
        },
        is_extra: false,
    };
    let ratio = |run, label| {
        let marks = [Some(1.15), Some(1.08), Some(1.03)];
        less(
            run,
            label,
            "×",
            marks,
            Figure::CpuRatio {
                run,
                to: "shards_1",
            },
        )
        .note("echo, 2 KB; all shards share the service's cores")
    };
    vec![Comparison {
        name: "shards",
        entrants: RUNS.map(entrant).to_vec(),
        pace: Pace::Usual,
        rows: vec![
            ratio("shards_2", "CPU per echo, 2 shards ÷ 1 shard"),
            ratio("shards_4", "CPU per echo, 4 shards ÷ 1 shard"),
            ratio("shards_8", "CPU per echo, 8 shards ÷ 1 shard"),
            less(
                "relays_crossed_shard",
                "Relays that crossed a shard, in steady state, 2 to 8 shards",
                "relays",
                [Some(0.0), None, None],
                Figure::OfRun {
                    runs: &["shards_2", "shards_4", "shards_8"],
                    figure: "relays_crossed_shard",
                },
            ),
        ],
    }]
}

/// What our users would otherwise run, and what they run with us.
fn sdk() -> Vec<Comparison> {
    let idle = |clients| scenario(Load::Idle, clients, 2048);
    let to_all = scenario(broadcast(1), 1000, 2048);
    let both = "CPU of the service and of the app server together";
    vec![
        Comparison {
            name: "sdk_echo_2k",
            entrants: entrants(
                "sdk_echo_2k",
                &[Sdk, SelfHost],
                &scenario(echo(), 1000, 2048),
            ),
            pace: Pace::Usual,
            rows: vec![
                less(
                    "sdk_echo_2k",
                    "Echo with ASP.NET Core behind hubring, service and app server",
                    "µs CPU/echo",
                    [None; 3],
                    Figure::CpuOfAll { run: "sdk_echo_2k" },
                )
                .note(both),
            ],
        },
        Comparison {
            name: "sdk_memory",
            entrants: [
                entrants("sdk_memory_1k", &[Sdk], &idle(1000)),
                entrants("sdk_memory_5k", &[Sdk], &idle(5000)),
                extra("sdk_memory_1k", &[SelfHost], &idle(1000)),
                extra("sdk_memory_5k", &[SelfHost], &idle(5000)),
            ]
            .concat(),
            pace: Pace::Glances,
            rows: vec![
                less(
                    "sdk_app_server_memory",
                    "Memory of that app server for each idle client",
                    "bytes",
                    [None; 3],
                    Figure::AppServerMemory {
                        many: "sdk_memory_5k",
                        few: "sdk_memory_1k",
                    },
                )
                .note("what it holds with 5,000 clients more than with 1,000, for each of these"),
            ],
        },
        Comparison {
            name: "sdk_broadcast_2k",
            entrants: [
                entrants("sdk_broadcast_2k", &[Sdk], &to_all),
                extra("sdk_broadcast_2k", &[SelfHost], &to_all),
            ]
            .concat(),
            pace: Pace::Usual,
            rows: vec![
                less(
                    "sdk_broadcast_2k",
                    "Broadcast with ASP.NET Core behind hubring, service and app server",
                    "µs CPU/delivery",
                    [None; 3],
                    Figure::CpuOfAll {
                        run: "sdk_broadcast_2k",
                    },
                )
                .note(both),
            ],
        },
    ]
}

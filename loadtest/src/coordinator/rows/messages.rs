//! What a message costs: echoes, broadcasts, sends, groups and memberships.

use super::{
    Comparison, Pace, RowPlan, broadcast, echo, entrants, extra, less, more, scenario, thousands,
};
use crate::contestants::kind::ContestantKind::{
    self, Floor, Haproxy, Hubring, Nchan, Pushpin, TokioRelay,
};
use crate::coordinator::row_values::Figure;
use crate::job::{Load, Pacing};

/// Sends that are under way: enough to keep a core busy, too few to wait long.
const SENDS_UNDER_WAY: u32 = 512;

const DELIVERIES: &str = "deliveries/s/core";

pub(super) fn comparisons() -> Vec<Comparison> {
    [echoes(), broadcasts(), sends(), groups(), memberships()].concat()
}

fn echoes() -> Vec<Comparison> {
    let per_echo = "µs CPU/echo";
    vec![
        Comparison {
            name: "echo_2k",
            entrants: entrants(
                "echo_2k",
                &[Hubring, Floor, Haproxy, TokioRelay],
                &scenario(echo(), 1000, 2048),
            ),
            pace: Pace::Usual,
            rows: vec![
                less(
                    "echo_2k",
                    "Echo, 2 KB, 1,000 clients, 5 server connections",
                    per_echo,
                    [Some(8.0), Some(6.5), Some(5.0)],
                    Figure::CpuPerMessage { run: "echo_2k" },
                )
                .note("haproxy is a bare WebSocket hop: it knows no clients of a hub"),
                less(
                    "echo_floor_ratio",
                    "The same echo ÷ floor",
                    "×",
                    [Some(1.5), Some(1.25), Some(1.15)],
                    Figure::FloorRatio { run: "echo_2k" },
                ),
            ],
        },
        Comparison {
            name: "echo_512b_9k",
            entrants: entrants(
                "echo_512b_9k",
                &[Hubring, Floor],
                &scenario(echo(), 9000, 512),
            ),
            pace: Pace::Usual,
            rows: vec![less(
                "echo_512b_9k",
                "Echo, 512 B, 9,000 clients",
                per_echo,
                [Some(12.0), Some(9.0), Some(7.5)],
                Figure::CpuPerMessage {
                    run: "echo_512b_9k",
                },
            )],
        },
    ]
}

fn broadcasts() -> Vec<Comparison> {
    let comparison = |run, kinds: &[ContestantKind], scenario, label, marks| Comparison {
        name: run,
        entrants: entrants(run, kinds, &scenario),
        pace: Pace::Usual,
        rows: vec![more(
            run,
            label,
            DELIVERIES,
            marks,
            Figure::MessagesPerCpuSecond { run },
        )],
    };
    // In bursts Pushpin holds messages back for so long that it would hold up everybody else.
    let one_by_one = [Hubring, Floor, Nchan, Pushpin, TokioRelay];
    let bursts = scenario(broadcast(8), 1000, 2048);
    let mut in_bursts = comparison(
        "broadcast_burst_2k",
        &[Hubring, Floor],
        bursts.clone(),
        "Broadcast in bursts of 8, 2 KB",
        thousands([800, 1200, 1500]),
    );
    let peers = extra("broadcast_burst_2k", &[Nchan, TokioRelay], &bursts);
    in_bursts.entrants.extend(peers);
    vec![
        comparison(
            "broadcast_2k",
            &one_by_one,
            scenario(broadcast(1), 1000, 2048),
            "Broadcast 2 KB to 1,000 clients, one message per round",
            thousands([250, 310, 350]),
        ),
        in_bursts,
        comparison(
            "broadcast_burst_128b",
            &[Hubring, Floor],
            scenario(broadcast(8), 1000, 128),
            "Broadcast in bursts of 8, 128 B",
            thousands([1500, 2200, 3000]),
        ),
        comparison(
            "broadcast_2k_9k",
            &[Hubring, Floor],
            scenario(broadcast(1), 9000, 2048),
            "Broadcast 2 KB to 9,000 clients",
            thousands([160, 200, 230]),
        ),
    ]
}

fn sends() -> Vec<Comparison> {
    let pacing = Pacing::Closed {
        depth: SENDS_UNDER_WAY,
    };
    let to_connection = Load::SendToConnection { pacing };
    let to_user = Load::SendToUser { pacing };
    // Few and many clients take turns, so that flatness is not a matter of the minute.
    let few_by_connection = scenario(to_connection.clone(), 1000, 2048);
    let many_by_connection = scenario(to_connection, 18_000, 2048);
    let few_by_user = scenario(to_user.clone(), 1000, 2048);
    let many_by_user = scenario(to_user, 18_000, 2048);
    vec![
        Comparison {
            name: "send_to_connection",
            entrants: [
                entrants(
                    "send_to_connection_1k",
                    &[Hubring, Floor],
                    &few_by_connection,
                ),
                entrants(
                    "send_to_connection_18k",
                    &[Hubring, Floor],
                    &many_by_connection,
                ),
                extra("send_to_connection_1k", &[TokioRelay], &few_by_connection),
                extra("send_to_connection_18k", &[TokioRelay], &many_by_connection),
            ]
            .concat(),
            pace: Pace::Usual,
            rows: vec![
                send_rate(
                    "send_to_connection_1k",
                    "Send to one connection, 2 KB, 1,000 clients",
                ),
                send_rate(
                    "send_to_connection_18k",
                    "Send to one connection, 2 KB, 18,000 clients",
                ),
                flatness(
                    "send_flatness",
                    "Sends to a connection: rate at 18,000 clients ÷ at 1,000",
                    ["send_to_connection_18k", "send_to_connection_1k"],
                ),
            ],
        },
        Comparison {
            name: "send_to_user",
            entrants: [
                entrants("send_to_user_1k", &[Hubring], &few_by_user),
                entrants("send_to_user_18k", &[Hubring], &many_by_user),
                extra("send_to_user_1k", &[TokioRelay], &few_by_user),
                extra("send_to_user_18k", &[TokioRelay], &many_by_user),
            ]
            .concat(),
            pace: Pace::Usual,
            rows: vec![
                send_rate("send_to_user_1k", "Send to one user, 2 KB, 1,000 clients"),
                send_rate("send_to_user_18k", "Send to one user, 2 KB, 18,000 clients"),
                flatness(
                    "send_to_user_flatness",
                    "Sends to a user: rate at 18,000 clients ÷ at 1,000",
                    ["send_to_user_18k", "send_to_user_1k"],
                ),
            ],
        },
    ]
}

/// How much of the rate is left where there are many clients.
fn flatness(key: &'static str, label: &'static str, [run, to]: [&'static str; 2]) -> RowPlan {
    let figure = Figure::RatePercent { run, to };
    more(key, label, "%", [None, Some(90.0), None], figure)
}

fn send_rate(key: &'static str, label: &'static str) -> RowPlan {
    let figure = Figure::MessagesPerCpuSecond { run: key };
    let marks = thousands([100, 150, 200]);
    more(key, label, "messages/s/core", marks, figure)
}

fn groups() -> Vec<Comparison> {
    // As many deliveries are under way as in the broadcast that it is compared with.
    let small_groups = |idle_groups| Load::SendToGroup {
        group_members: 10,
        idle_groups,
        pacing: Pacing::Closed { depth: 100 },
    };
    let to_groups = scenario(small_groups(0), 1000, 2048);
    let to_all = scenario(broadcast(1), 1000, 2048);
    vec![
        Comparison {
            name: "small_groups",
            entrants: [
                entrants("small_groups", &[Hubring], &to_groups),
                entrants("small_groups_broadcast", &[Hubring], &to_all),
                extra("small_groups", &[TokioRelay], &to_groups),
                extra("small_groups_broadcast", &[TokioRelay], &to_all),
            ]
            .concat(),
            pace: Pace::Usual,
            rows: vec![more(
                "small_groups",
                "Small groups (10 members, 2 KB): delivery rate ÷ that of broadcast",
                "%",
                [Some(80.0), Some(90.0), None],
                Figure::RatePercent {
                    run: "small_groups",
                    to: "small_groups_broadcast",
                },
            )],
        },
        Comparison {
            name: "groups_resident",
            entrants: entrants(
                "groups_resident",
                &[Hubring],
                &scenario(small_groups(1000), 1000, 2048),
            ),
            pace: Pace::Usual,
            rows: vec![more(
                "groups_resident",
                "Groups resident while sends go to some",
                "groups",
                [None, None, Some(1e6)],
                Figure::IdleGroups {
                    run: "groups_resident",
                },
            )],
        },
    ]
}

fn memberships() -> Vec<Comparison> {
    let membership = Load::Membership {
        groups: 1000,
        pacing: Pacing::Closed {
            depth: SENDS_UNDER_WAY,
        },
    };
    let membership = scenario(membership, 1000, 2048);
    vec![Comparison {
        name: "join_leave",
        entrants: [
            entrants("join_leave", &[Hubring], &membership),
            extra("join_leave", &[TokioRelay], &membership),
        ]
        .concat(),
        pace: Pace::Usual,
        rows: vec![more(
            "join_leave",
            "Joins and leaves, each with its ack",
            "calls/s/core",
            [None, None, Some(500e3)],
            Figure::MessagesPerCpuSecond { run: "join_leave" },
        )],
    }]
}

//! The strings of a ping and what they mean.

use super::{Framed, hex};
use crate::protocol::service::ping::{
    AppPing, ClientCounts, HubStatus, Ping, ServersTag, ServicePing, ShutdownMode,
};
use crate::protocol::service::{KEEP_ALIVE_PING, Message, write_ping};

#[test]
fn the_first_value_of_a_key_counts() {
    let ping: Ping<'_> = ["a", "1", "b", "a", "A", "2", "a", "3", "trailing"]
        .into_iter()
        .collect();
    assert_eq!(ping.value("a"), Some("1"));
    assert_eq!(ping.value("A"), Some("2"));
    assert_eq!(ping.value("1"), None);
    assert_eq!(ping.value("trailing"), None);
}

#[test]
fn an_app_server_means_one_thing_at_a_time() {
    let cases: [(&[&str], AppPing); 11] = [
        (&[], AppPing::KeepAlive(ClientCounts::default())),
        (
            &["#clientInHub", "3", "#client", "1"],
            AppPing::KeepAlive(ClientCounts {
                in_hub: Some(3),
                here: Some(1),
            }),
        ),
        (&["#client", "many"], AppPing::Other),
        (&["status", "1"], AppPing::StatusQuery),
        (&["servers", ""], AppPing::ServersQuery),
        (&["shutdown", "fin:0"], AppPing::Fin(ShutdownMode::Off)),
        (
            &["shutdown", "fin:1"],
            AppPing::Fin(ShutdownMode::MigrateClients),
        ),
        (
            &["shutdown", "fin:2"],
            AppPing::Fin(ShutdownMode::WaitForClientsClose),
        ),
        (&["shutdown", "fin:3"], AppPing::Other),
        (&["echo", "7"], AppPing::Echo(7)),
        (&["echo", "x"], AppPing::Other),
    ];
    for (strings, meaning) in cases {
        let ping = strings.iter().copied().collect();
        assert_eq!(AppPing::parse(&ping), meaning, "{strings:?}");
        if meaning != AppPing::Other {
            assert_eq!(Ping::from(meaning), ping);
        }
    }
}

#[test]
fn the_service_means_one_thing_at_a_time() {
    let status = HubStatus {
        has_clients: true,
        client_count: Some(3),
        server_count: Some(5),
        capacity: Some(1000),
    };
    let cases: [(&[&str], ServicePing<'_>); 14] = [
        (&[], ServicePing::KeepAlive),
        (&["echo", "1"], ServicePing::Echo("1".into())),
        (
            &["offline", "instance1"],
            ServicePing::Offline("instance1".into()),
        ),
        (&["offline", ""], ServicePing::Offline("".into())),
        (&["shutdown", "finack"], ServicePing::FinAck),
        (&["status", "0"], ServicePing::Status(HubStatus::default())),
        (
            &[
                "status",
                "1",
                "clientcount",
                "3",
                "servercount",
                "5",
                "capacity",
                "1000",
            ],
            ServicePing::Status(status),
        ),
        (
            &["servers", "638468000000000000:server1;server2"],
            ServicePing::Servers(ServersTag::new(
                638_468_000_000_000_000,
                ["server2", "server1", "server2"],
            )),
        ),
        (&["servers", "late:server1"], ServicePing::Other),
        (&["d-m", "1"], ServicePing::MessageLog(true)),
        (&["d-m", "0"], ServicePing::MessageLog(false)),
        (
            &["target", "instance1"],
            ServicePing::Rebalance("instance1".into()),
        ),
        (&["shutdown", "fin:0"], ServicePing::Other),
        (&["Status", "1"], ServicePing::Other),
    ];
    for (strings, meaning) in cases {
        let ping = strings.iter().copied().collect();
        assert_eq!(ServicePing::parse(&ping), meaning, "{strings:?}");
        if meaning != ServicePing::Other {
            assert_eq!(Ping::from(meaning), ping);
        }
    }
}

#[test]
fn pings_are_written_with_their_length() {
    let mut written = Vec::new();
    write_ping(&["status", "1"], &mut written);
    assert_eq!(written, hex("0b9303a6737461747573a131"));
    let empty: Message<'_, &[u8]> = Ping::default().into();
    assert_eq!(Framed::of(&empty).0, KEEP_ALIVE_PING);
}

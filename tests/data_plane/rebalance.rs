//! A hub spreads over all shards: server connections are asked for where there are none, and put where they were asked for.

use std::collections::BTreeSet;
use std::time::Duration;

use crate::peers::AppServer;
use crate::stage::{Stage, until};

/// Waits until so many have been asked for, and says by what names.
fn targets(server: &mut AppServer, count: usize) -> Vec<String> {
    until("server connections to be asked for", || {
        let _ = server.next_within(Duration::from_millis(10));
        server.targets.len() >= count
    });
    server.targets.drain(..).collect()
}

fn connect_on_demand(stage: &Stage, target: &str) -> AppServer {
    let (path, token) = stage.server_request(&format!("for-{target}"));
    AppServer::connect_with(stage, (format!("{path}&target={target}"), token))
}

fn counts(stage: &Stage) -> Vec<usize> {
    stage.server_connections().iter().map(Vec::len).collect()
}

#[test]
fn every_shard_gets_one_and_a_lost_one_is_asked_for_again() {
    let stage = Stage::new(4);
    let mut server = AppServer::connect(&stage, "first");
    let asked = targets(&mut server, 3);
    assert_eq!(asked.iter().collect::<BTreeSet<_>>().len(), 3, "{asked:?}");
    let mut others: Vec<AppServer> = asked
        .iter()
        .map(|target| connect_on_demand(&stage, target))
        .collect();
    assert_eq!(counts(&stage), [1; 4]);
    assert_eq!(stage.sum(|counters| &counters.servers_came_as_asked), 3);
    drop(others.remove(0));
    stage.until("server connections", 3, |counters| {
        &counters.server_connections
    });
    // Whichever of them is asked: they are of one app server.
    others.push(server);
    let mut again = Vec::new();
    until("the lost one to be asked for", || {
        for server in &mut others {
            let _ = server.next_within(Duration::from_millis(5));
            again.extend(server.targets.drain(..));
        }
        !again.is_empty()
    });
    assert_eq!(again, asked[..1]);
}

#[test]
fn a_target_that_means_nothing_here_changes_nothing() {
    let stage = Stage::new(2);
    let mut first = AppServer::connect(&stage, "first");
    let asked = targets(&mut first, 1);
    let (instance, shard) = asked[0].rsplit_once('.').unwrap();
    let empty: usize = shard.parse().unwrap();
    for target in ["", "elsewhere.0", &format!("{instance}.2"), instance] {
        drop(connect_on_demand(&stage, target));
    }
    let _normal = connect_on_demand(&stage, "elsewhere.7");
    assert_eq!(stage.server_connections()[empty], ["for-elsewhere.7"]);
    assert_eq!(stage.sum(|counters| &counters.servers_came_as_asked), 0);
    let target = format!("{instance}.{}", 1 - empty);
    let _asked_for = connect_on_demand(&stage, &target);
    assert_eq!(counts(&stage)[1 - empty], 2);
}

#[test]
fn one_shard_asks_for_nothing() {
    let stage = Stage::new(1);
    let mut server = AppServer::connect(&stage, "only");
    assert!(server.next_within(Duration::from_secs(3)).is_err());
    assert!(server.targets.is_empty());
}

//! A shard that has nothing to do does nothing.

use std::time::Duration;

use crate::peers::{AppServer, Client};
use crate::stage::Stage;

#[test]
fn an_idle_service_takes_a_few_turns_a_second_however_many_clients_it_has() {
    let stage = Stage::new(2);
    assert_idle(&stage);
    let mut servers = AppServer::connect_all(&stage, 2);
    let clients: Vec<_> = (0..500)
        .map(|_| Client::connect(&stage, &mut servers))
        .collect();
    assert_idle(&stage);
    drop(clients);
}

fn assert_idle(stage: &Stage) {
    std::thread::sleep(Duration::from_millis(50));
    let look = || {
        [
            stage.sum(|counters| &counters.turns),
            stage.sum(|counters| &counters.wakes),
        ]
    };
    let [turns, wakes] = look();
    std::thread::sleep(Duration::from_secs(1));
    let [turns, wakes] = [look()[0] - turns, look()[1] - wakes];
    assert!(
        turns <= 40 && wakes <= 20,
        "{turns} turns and {wakes} wakes in a second"
    );
}

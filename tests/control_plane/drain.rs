//! A service that stops does not wait for connections on which nothing is asked.

use std::time::Duration;

use crate::http::{Http, NOTHING};
use crate::stage::{Stage, until};

#[test]
fn idle_connections_do_not_hold_up_a_service_that_stops() {
    let mut stage = Stage::new(2);
    let mut idle: Vec<Http> = (0..50).map(|_| Http::connect(&stage)).collect();
    for (index, http) in idle.iter_mut().enumerate() {
        assert_eq!(http.ask(NOTHING).status, 404);
        if index % 2 == 0 {
            // In the midst of a head.
            http.send(&NOTHING[..10]);
        }
    }
    let took = stage.drain();
    assert!(took < Duration::from_secs(2), "{took:?}");
    until("sockets to be closed", || stage.socket_count() == 0);
}

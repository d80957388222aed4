//! Who is signed in no longer is closed, at the time that the token says, and nobody else.

use std::time::Duration;

use super::*;
use crate::limits::{EXPIRIES_PER_TICK, TICK};

const LIFE: Duration = Duration::from_mins(20);

/// A client that is signed in for `life`.
fn expiring_client(
    world: &mut World,
    server: ServerEnd,
    life: Duration,
    allow_reconnect: bool,
) -> ClientEnd {
    world.expiry = Some(Expiry {
        at: world.now + life,
        allow_reconnect,
    });
    let client = world.adopt_client(server, &Profile::default());
    world.expiry = None;
    client
}

fn accepted(world: &mut World, server: ServerEnd, client: ClientEnd) {
    world.say_hello(client);
    world.take(server);
    world.accept(client);
    world.heard(client);
}

#[test]
fn a_client_is_closed_when_its_authentication_expires_and_its_app_server_is_told() {
    let mut world = World::new(1);
    let server = world.server(0, CHAT, "app");
    let other = world.client(server);
    let client = expiring_client(&mut world, server, LIFE, true);
    let diagnostic = expiring_client(&mut world, server, LIFE, false);
    accepted(&mut world, server, client);
    accepted(&mut world, server, diagnostic);
    let mut left = LIFE;
    while left > TICK {
        world.send(server, messages::ping(&[]));
        world.pass(TICK);
        left -= TICK;
    }
    world.take(server);
    assert!(world.is_connected(client) && world.is_connected(diagnostic));
    world.pass(left);
    let text = "{\"type\":7,\"error\":\"The authentication has expired.\"";
    assert_eq!(
        world.heard(client),
        [format!("{text},\"allowReconnect\":true}}\u{1e}")]
    );
    assert_eq!(world.heard(diagnostic), [format!("{text}}}\u{1e}")]);
    for client in [client, diagnostic] {
        assert_eq!(
            world.clients[client.0].ended,
            Some(CloseCause::AuthenticationExpired)
        );
    }
    let mut told = world.take(server);
    told.retain(|message| !matches!(message, Message::Ping(_)));
    let ids = [client, diagnostic].map(|client| world.id(client));
    assert_eq!(told, ids.map(|id| CloseConnection::of(id).into()));
    assert!(world.is_connected(other));
    assert_eq!(world.counters[0].authentications_expired.value(), 2);
}

#[test]
fn a_client_whose_handshake_is_not_through_is_refused() {
    let mut world = World::new(1);
    let server = world.server(0, CHAT, "app");
    let silent = expiring_client(&mut world, server, TICK, true);
    let opening = expiring_client(&mut world, server, TICK, true);
    world.say_hello(opening);
    world.take(server);
    world.pass(TICK);
    for client in [silent, opening] {
        let refusal = "{\"error\":\"The authentication has expired.\"}\u{1e}";
        assert_eq!(world.heard(client), [refusal]);
    }
    let id = world.id(opening);
    assert_eq!(world.take(server), [CloseConnection::of(id).into()]);
}

#[test]
fn who_leaves_before_is_forgotten() {
    let mut world = World::new(1);
    let server = world.server(0, CHAT, "app");
    for is_lost in [false, true] {
        let client = expiring_client(&mut world, server, LIFE, true);
        accepted(&mut world, server, client);
        if is_lost {
            world.lose_server(server);
        } else {
            world.leave(client);
        }
        assert_eq!(world.routers[0].expiries.list(), []);
    }
    world.pass(LIFE);
    assert_eq!(world.counters[0].authentications_expired.value(), 0);
}

#[test]
fn many_are_closed_in_slices() {
    let counters: Arc<Counters> = Arc::default();
    let mut router = Router::new(ShardId(0), 1, "instance", Arc::clone(&counters));
    let now = Instant::now();
    let expiry = Some(Expiry {
        at: now,
        allow_reconnect: true,
    });
    let mut effects = Vec::new();
    for number in 0..EXPIRIES_PER_TICK as u32 + 5 {
        let new = NewClient {
            id: ConnectionId::new(ShardId(0), u128::from(number)),
            hub: CHAT,
            user: None,
            server: None,
            required_server_id: None,
            open_body: Vec::new(),
            handshake_timeout: HUB_HANDSHAKE_TIMEOUT,
            transport: Transport::WebSockets,
            is_stateful: false,
            expiry,
        };
        router.on_client_adopted(ClientEnd(number as usize).socket(), new, now, &mut effects);
    }
    router.on_tick(now, &mut effects);
    assert_eq!(
        counters.authentications_expired.value(),
        EXPIRIES_PER_TICK as u64
    );
    router.on_tick(now, &mut effects);
    assert_eq!(router.client_views().count(), 0);
}

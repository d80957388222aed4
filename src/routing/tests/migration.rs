//! An app server shuts down and its clients go on at another one: no call loses its answer, nothing is heard twice or out of order.

use std::time::Duration;

use super::messages::{broadcast, join, to_group};
use super::*;
use crate::limits::{
    FOLLOWED_CALLS_MAX, FOLLOWED_HELD_BYTES_MAX, MIGRATION_DEADLINE, MIGRATION_PATIENCE,
    MIGRATIONS_PER_TURN,
};
use crate::protocol::service::ping::{AppPing, ShutdownMode};
use crate::protocol::service::{
    ClientInvocation, ErrorCompletion, MIGRATE_FROM, MIGRATE_TO, MigrationLevel, OpenConnection,
    Ping,
};

const CALL: &str = "{\"type\":1,\"invocationId\":\"7\",\"target\":\"Slow\",\"arguments\":[]}\u{1e}";
const ANSWER: &str = "{\"type\":3,\"invocationId\":\"7\",\"result\":1}\u{1e}";
const SEND: &str = "{\"type\":1,\"target\":\"Note\",\"arguments\":[1]}\u{1e}";
const PING: &str = "{\"type\":6}\u{1e}";
const ABANDONED: &str = "{\"type\":3,\"invocationId\":\"7\",\"error\":\"The app server left before it answered.\"}\u{1e}";

impl World {
    /// A server connection whose app server lets its clients move.
    pub(super) fn migrating_server(
        &mut self,
        shard: usize,
        server_id: &str,
        migration_level: MigrationLevel,
    ) -> ServerEnd {
        let server = self.adopt_server(shard, CHAT, server_id);
        self.send(
            server,
            HandshakeRequest {
                version: 1,
                migration_level,
                ..HandshakeRequest::default()
            },
        );
        self.take(server);
        server
    }

    fn leaving_server(&mut self, server_id: &str) -> ServerEnd {
        self.migrating_server(0, server_id, MigrationLevel::ShutdownOnly)
    }

    pub(super) fn fin(&mut self, server: ServerEnd, mode: ShutdownMode) {
        self.send(server, Ping::from(AppPing::Fin(mode)));
    }

    /// Lets shards move clients as long as there are some to be moved.
    pub(super) fn turn(&mut self) -> usize {
        let mut turns = 0;
        while self.routers[0].has_moves() {
            let mut effects = Vec::new();
            self.routers[0].on_turn(&mut effects);
            self.apply(0, effects, &[]);
            turns += 1;
        }
        turns
    }

    /// The app server `server` says something to a client that may not be its own.
    pub(super) fn send_from(
        &mut self,
        server: ServerEnd,
        client: ClientEnd,
        payload: &str,
        what: DataMessageType,
    ) {
        let id = self.id(client);
        let message = ConnectionData {
            connection_id: id.into(),
            payload: payload.as_bytes(),
            data_type: what,
            ..ConnectionData::default()
        };
        self.send(server, message);
    }

    /// What the clients have said to an app server since the last call.
    pub(super) fn said_to(&mut self, server: ServerEnd) -> String {
        data_in(&self.take(server))
    }

    pub(super) fn server_of(&self, client: ClientEnd) -> ServerEnd {
        self.clients[client.0].server.expect("it is bound")
    }
}

/// All data of clients among what an app server has received.
pub(super) fn data_in(received: &[Received]) -> String {
    let data = received.iter().filter_map(|message| {
        let Message::ConnectionData(data) = message else {
            return None;
        };
        Some(String::from_utf8_lossy(data.payload))
    });
    data.collect()
}

/// The FINACK, which every app server gets for its FIN.
fn is_fin_ack(message: &Received) -> bool {
    matches!(message, Message::Ping(ping) if ping.value("shutdown") == Some("finack"))
}

#[test]
fn a_quiet_client_moves_at_once() {
    let mut world = World::new(1);
    let (old, new) = (world.leaving_server("old"), world.leaving_server("new"));
    let client = world.user(old, "ann");
    let id = world.id(client);
    world.send(old, join(id, "team"));
    world.take(old);
    world.fin(old, ShutdownMode::MigrateClients);
    let told = world.take(old);
    assert!(is_fin_ack(&told[0]), "first the answer, then the clients");
    let out = CloseConnection {
        headers: vec![(MIGRATE_TO.into(), ["new".into()].into_iter().collect())],
        ..CloseConnection::of(id)
    };
    assert_eq!(told[1..], [out.into()]);
    let hello = world.hello_of(client);
    let open = OpenConnection {
        connection_id: id.into(),
        headers: vec![(MIGRATE_FROM.into(), ["old".into()].into_iter().collect())],
        query_string: "?hub=chat".into(),
        protocol: Some("json".into()),
        ..OpenConnection::default()
    };
    let request = ConnectionData {
        connection_id: id.into(),
        payload: hello.as_bytes().to_vec().leak() as &[u8],
        ..ConnectionData::default()
    };
    assert_eq!(world.take(new), [open.into(), request.into()]);
    assert_eq!(world.heard(client), [""; 0], "it notices nothing");
    assert_eq!(world.counters[0].clients_migrated.value(), 1);

    world.say(client, SEND);
    assert_eq!(world.said_to(new), SEND);
    world.send(new, to_group("team", "hi"));
    assert_eq!(world.heard(client), ["hi"], "groups stay");
    world.fin(old, ShutdownMode::MigrateClients);
    assert_eq!(world.take(old).len(), 1, "a second one is only answered");
    world.lose_server(old);
    assert!(world.is_connected(client));
    world.leave(client);
    world.lose_server(new);
    world.assert_empty();
}

#[test]
fn an_open_call_is_waited_for() {
    let mut world = World::new(1);
    let (old, new) = (world.leaving_server("old"), world.leaving_server("new"));
    let client = world.client(old);
    world.say(client, CALL);
    world.fin(old, ShutdownMode::MigrateClients);
    world.take(old);
    world.say(client, SEND);
    assert_eq!(world.said_to(old), SEND, "it goes on as before");
    world.send_data(client, ANSWER, DataMessageType::Invocation);
    assert_eq!(world.heard(client), [ANSWER]);
    assert_eq!(world.server_of(client), new);
}

#[test]
fn a_message_ends_where_it_began() {
    let mut world = World::new(1);
    let (old, new) = (world.leaving_server("old"), world.leaving_server("new"));
    let client = world.client(old);
    let (head, tail) = SEND.split_at(20);
    world.say(client, head);
    world.fin(old, ShutdownMode::MigrateClients);
    assert_eq!(world.server_of(client), old);
    world.take(old);
    world.say(client, tail);
    assert_eq!(world.said_to(old), tail);
    assert_eq!(world.server_of(client), new);
    world.say(client, SEND);
    assert_eq!(
        world.said_to(new),
        [&*world.hello_of(client), SEND].concat()
    );
}

#[test]
fn new_calls_are_held_after_a_while_and_what_ends_open_ones_is_not() {
    let mut world = World::new(1);
    let (old, new) = (world.leaving_server("old"), world.leaving_server("new"));
    let client = world.client(old);
    let id = world.id(client);
    world.say(client, CALL);
    world.say(
        client,
        &CALL
            .replace("\"target\"", "\"streamIds\":[\"s\"],\"target\"")
            .replace('7', "8"),
    );
    world.send(
        old,
        ClientInvocation {
            invocation_id: "ask".into(),
            connection_id: id.into(),
            caller_server_id: "old".into(),
            payloads: payloads("question"),
            tracing_id: None,
        },
    );
    world.heard(client);
    world.fin(old, ShutdownMode::MigrateClients);
    world.pass(MIGRATION_PATIENCE);
    world.take(old);
    let (half, other_half) = SEND.split_at(9);
    world.say(client, half);
    world.say(client, other_half);
    assert_eq!(world.said_to(old), "", "it waits");
    let item = "{\"type\":2,\"invocationId\":\"s\",\"item\":1}\u{1e}";
    let end = "{\"type\":3,\"invocationId\":\"s\"}\u{1e}";
    let result = "{\"type\":3,\"invocationId\":\"ask\",\"result\":1}\u{1e}";
    let cancel = "{\"type\":5,\"invocationId\":\"8\"}\u{1e}";
    let all = [item, SEND, PING, cancel, end, result].concat();
    world.say(client, &all);
    assert_eq!(
        world.said_to(old),
        [item, PING, cancel, end, result].concat()
    );
    let (half, other_half) = CALL.split_at(30);
    world.say(client, half);
    world.send_data(client, ANSWER, DataMessageType::Invocation);
    assert_eq!(world.server_of(client), old, "one call is still open");
    world.send_data(
        client,
        &ANSWER.replace('7', "8"),
        DataMessageType::Invocation,
    );
    assert_eq!(world.server_of(client), new);
    let hello = world.hello_of(client);
    assert_eq!(world.said_to(new), [&*hello, SEND, SEND, half].concat());
    world.say(client, other_half);
    assert_eq!(world.said_to(new), other_half);
    assert_eq!(world.counters[0].calls_abandoned.value(), 0);
}

#[test]
fn much_that_is_held_stops_the_reading() {
    let mut world = World::new(1);
    let (old, new) = (world.leaving_server("old"), world.leaving_server("new"));
    let client = world.client(old);
    world.say(client, CALL);
    world.fin(old, ShutdownMode::MigrateClients);
    world.pass(MIGRATION_PATIENCE);
    world.take(old);
    let mut said = String::new();
    while !world.clients[client.0].is_paused {
        assert!(said.len() < 2 * FOLLOWED_HELD_BYTES_MAX, "it stops");
        world.say(client, SEND);
        said += SEND;
    }
    world.send_data(client, ANSWER, DataMessageType::Invocation);
    assert!(!world.clients[client.0].is_paused);
    assert_eq!(world.said_to(new), [world.hello_of(client), said].concat());
}

#[test]
fn at_the_deadline_open_calls_fail() {
    let mut world = World::new(1);
    let (old, new) = (world.leaving_server("old"), world.leaving_server("new"));
    let asking = world.server(0, CHAT, "asking");
    let (client, talking) = (world.client(old), world.client(old));
    let id = world.id(client);
    world.say(client, CALL);
    world.send(
        asking,
        ClientInvocation {
            invocation_id: "ask".into(),
            connection_id: id.into(),
            caller_server_id: "asking".into(),
            payloads: payloads("question"),
            tracing_id: None,
        },
    );
    let (half, other_half) = SEND.split_at(9);
    world.say(talking, half);
    world.fin(old, ShutdownMode::MigrateClients);
    world.heard(client);
    world.take(asking);
    world.pass(MIGRATION_DEADLINE);
    assert_eq!(world.heard(client), [ABANDONED]);
    assert_ne!(world.server_of(client), old);
    let failed = ErrorCompletion {
        invocation_id: "ask".into(),
        connection_id: id.into(),
        caller_server_id: "asking".into(),
        error: format!("Connection '{id}' is disconnected.").into(),
        tracing_id: None,
    };
    assert!(world.take(asking).contains(&failed.into()));
    assert_eq!(
        world.server_of(talking),
        old,
        "it is in the midst of a message"
    );
    world.take(old);
    world.say(talking, &[other_half, SEND].concat());
    assert_eq!(world.said_to(old), other_half);
    assert!([new, asking].contains(&world.server_of(talking)));
    assert_eq!(world.counters[0].calls_abandoned.value(), 1);
}

#[test]
fn what_comes_late_is_heard_only_if_it_belongs_to_nothing() {
    let mut world = World::new(1);
    let (old, new) = (world.leaving_server("old"), world.leaving_server("new"));
    let client = world.client(old);
    world.fin(old, ShutdownMode::MigrateClients);
    assert_eq!(world.server_of(client), new);
    let late = [ANSWER, CALL, PING, "{\"type\":1", "", "\u{1e}"];
    for payload in late {
        world.send_from(old, client, payload, DataMessageType::Invocation);
    }
    world.send_from(old, client, "{\"type\":7}\u{1e}", DataMessageType::Close);
    world.send_from(new, client, ACCEPTED, DataMessageType::Handshake);
    assert_eq!(world.heard(client), [""; 0]);
    world.send_from(old, client, SEND, DataMessageType::Invocation);
    world.send_from(new, client, ANSWER, DataMessageType::Invocation);
    assert_eq!(world.heard(client), [SEND, ANSWER]);
    world.send(old, CloseConnection::of(world.id(client)));
    assert_eq!(world.clients[client.0].ended, Some(CloseCause::AppServer));
}

#[test]
fn a_client_in_its_handshake_moves_after_the_response() {
    let mut world = World::new(1);
    let (old, new) = (world.leaving_server("old"), world.leaving_server("new"));
    let client = world.opening_client(old, &Profile::speaking(HubProtocol::MessagePack));
    world.fin(old, ShutdownMode::MigrateClients);
    world.send(new, broadcast("early"));
    assert_eq!(world.server_of(client), old);
    world.accept(client);
    assert_eq!(world.heard(client), [ACCEPTED, "mp:early"]);
    assert_eq!(world.server_of(client), new);
}

#[test]
fn who_has_nowhere_to_go_waits_for_it() {
    let mut world = World::new(1);
    let old = world.leaving_server("old");
    let _same = world.leaving_server("old");
    let _weak = world.server_of_type(0, CHAT, "new", ServerConnectionType::Weak);
    let _elsewhere = world.server(0, NEWS, "new");
    let client = world.client(old);
    let tied = world.client_as(
        old,
        &Profile {
            required_server_id: Some("old"),
            ..Profile::default()
        },
    );
    let own = world.client_as(old, &Profile::speaking(HubProtocol::Other("own".into())));
    world.fin(old, ShutdownMode::MigrateClients);
    world.pass(MIGRATION_PATIENCE);
    world.take(old);
    world.say(client, CALL);
    assert_eq!(world.said_to(old), CALL, "nothing is held in vain");
    world.send_data(client, ANSWER, DataMessageType::Invocation);
    world.heard(client);
    world.pass(MIGRATION_DEADLINE);
    let new = world.leaving_server("new");
    assert_eq!(world.server_of(client), new);
    assert_eq!(world.server_of(tied), old, "its state is there");
    assert_eq!(
        world.server_of(own),
        old,
        "nobody knows where its messages end"
    );
    world.lose_server(old);
    assert!(world.is_connected(client) && !world.is_connected(tied) && !world.is_connected(own));
}

#[test]
fn held_calls_go_to_the_old_app_server_if_there_is_no_other_after_all() {
    let mut world = World::new(1);
    let (old, new) = (world.leaving_server("old"), world.leaving_server("new"));
    let client = world.client(old);
    world.say(client, CALL);
    world.fin(old, ShutdownMode::MigrateClients);
    world.pass(MIGRATION_PATIENCE);
    world.say(client, SEND);
    world.lose_server(new);
    world.take(old);
    world.pass(MIGRATION_DEADLINE);
    assert_eq!(world.said_to(old), SEND);
    world.send_data(client, ANSWER, DataMessageType::Invocation);
    assert_eq!(world.heard(client), [ANSWER]);
}

#[test]
fn a_client_with_more_open_than_is_followed_moves_at_the_deadline() {
    let mut world = World::new(1);
    let (old, new) = (world.leaving_server("old"), world.leaving_server("new"));
    let client = world.client(old);
    for call in 0..=FOLLOWED_CALLS_MAX {
        world.say(client, &CALL.replace('7', &call.to_string()));
    }
    for call in 0..=FOLLOWED_CALLS_MAX {
        world.send_data(
            client,
            &ANSWER.replace('7', &call.to_string()),
            DataMessageType::Invocation,
        );
    }
    world.fin(old, ShutdownMode::MigrateClients);
    assert_eq!(world.server_of(client), old, "it counts as busy");
    world.pass(MIGRATION_DEADLINE);
    assert_eq!(world.server_of(client), new);
}

#[test]
fn only_migration_moves() {
    for mode in [ShutdownMode::Off, ShutdownMode::WaitForClientsClose] {
        let mut world = World::new(1);
        let (old, _new) = (world.leaving_server("old"), world.leaving_server("new"));
        let client = world.client(old);
        world.fin(old, mode);
        world.pass(Duration::from_secs(1));
        assert_eq!(world.server_of(client), old);
    }
    let mut world = World::new(1);
    let (old, _new) = (world.server(0, CHAT, "old"), world.leaving_server("new"));
    let client = world.client(old);
    world.fin(old, ShutdownMode::MigrateClients);
    assert_eq!(
        world.server_of(client),
        old,
        "its app server never lets clients move"
    );
}

#[test]
fn many_clients_move_in_turns_to_where_the_fewest_are() {
    let mut world = World::new(1);
    let old = world.leaving_server("old");
    let (one, two) = (world.leaving_server("new"), world.leaving_server("newer"));
    let clients: Vec<ClientEnd> = (0..3 * MIGRATIONS_PER_TURN)
        .map(|_| world.client(old))
        .collect();
    world.fin(old, ShutdownMode::MigrateClients);
    let moved = |world: &World| {
        clients
            .iter()
            .filter(|client| world.server_of(**client) != old)
            .count()
    };
    assert_eq!(moved(&world), MIGRATIONS_PER_TURN);
    assert_eq!(world.turn(), 2);
    let at = |server| {
        clients
            .iter()
            .filter(|client| world.server_of(**client) == server)
            .count()
    };
    assert_eq!((at(one), at(two)), (clients.len() / 2, clients.len() / 2));
}

#[test]
fn congestion_puts_moves_off_until_the_next_tick() {
    let mut world = World::new(1);
    let (old, _new) = (world.leaving_server("old"), world.leaving_server("new"));
    let clients: Vec<ClientEnd> = (0..=MIGRATIONS_PER_TURN)
        .map(|_| world.client(old))
        .collect();
    world.fin(old, ShutdownMode::MigrateClients);
    world.routers[0].on_congestion();
    assert_eq!(world.turn(), 0);
    world.pass(Duration::from_millis(500));
    assert!(clients.iter().all(|client| world.server_of(*client) != old));
}

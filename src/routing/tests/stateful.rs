//! Stateful reconnect: a client that loses its socket is missed by nobody, unless it does not come back.

use std::time::Duration;

use super::messages::{broadcast, join, to_connections, to_group};
use super::*;
use crate::limits::{STATEFUL_ACK_DELAY, STATEFUL_AWAY_MAX, STATEFUL_KEPT_BYTES_MAX, TICK};
use crate::routing::ResumeError;

const HELLO: &str = "{\"protocol\":\"json\",\"version\":2}\u{1e}";
const CALL: &str = "{\"type\":1,\"target\":\"x\",\"arguments\":[]}\u{1e}";
const PING: &str = "{\"type\":6}\u{1e}";
const GOODBYE: &str = "{\"type\":7}\u{1e}";

/// Something that happens to a client.
type Act<'a> = &'a dyn Fn(&mut World, ClientEnd);

#[test]
fn what_a_client_misses_is_sent_when_it_is_back_and_its_app_server_notices_nothing() {
    let (mut world, server, client) = stage();
    let id = world.id(client);
    world.send(server, join(id, "group"));
    world.say(client, CALL);
    world.lose(client);
    world.lose_nothing_meanwhile(server, client);
    assert_eq!(world.counters[0].clients_away.value(), 1);
    assert!(world.counters[0].kept_bytes.value() > 0);
    world.resume(client).unwrap();
    let calls = [call("own"), call("all"), call("group"), call("named")];
    let heard = [&[sequence(1)][..], &calls].concat();
    assert_eq!(world.heard(client), heard);
    assert_eq!(world.counters[0].clients_away.value(), 0);
    assert_eq!(world.counters[0].clients_resumed.value(), 1);
    // It is not sure that its call has arrived, and has another.
    let again = [&sequence(1), CALL, &call("new"), &ack(4)].concat();
    assert_eq!(world.said(client, &again), [call("new")]);
    assert_eq!(
        world.said(client, &[call("later"), ack(4)].concat()),
        [call("later")]
    );
    world.send_data(client, &call("more"), DataMessageType::Invocation);
    assert_eq!(world.heard(client), [call("more")]);
    assert_eq!(world.said(client, &ack(5)), [""; 0]);
    assert_eq!(world.counters[0].kept_bytes.value(), 0);
    world.leave(client);
    assert_eq!(world.take(server), [CloseConnection::of(id).into()]);
}

#[test]
fn a_client_that_does_not_come_back_in_time_has_left() {
    let (mut world, server, client) = stage();
    let id = world.id(client);
    world.lose(client);
    world.pass_in_order(STATEFUL_AWAY_MAX.saturating_sub(TICK));
    world.resume(client).unwrap();
    world.heard(client);
    world.pass_in_order(STATEFUL_AWAY_MAX);
    world.lose(client);
    world.pass_in_order(STATEFUL_AWAY_MAX.saturating_sub(TICK));
    assert_eq!(world.closed(server), [""; 0], "it was there meanwhile");
    world.pass_in_order(TICK);
    assert_eq!(world.closed(server), [id]);
    assert_eq!(world.clients[client.0].ended, Some(CloseCause::NotResumed));
    assert_eq!(world.counters[0].clients_not_resumed.value(), 1);
    assert_eq!(world.resume(client), Err(ResumeError::Gone));
    world.lose_server(server);
    world.assert_empty();
}

#[test]
fn what_comes_has_a_number_from_the_first_message_on() {
    let mut world = World::new(1);
    let server = world.server(0, CHAT, "app");
    let client = world.adopt_client(server, &Profile::default());
    world.say(client, &[HELLO, CALL].concat());
    let taken = world.take(server);
    let [
        Message::OpenConnection(_),
        Message::ConnectionData(hello),
        Message::ConnectionData(call),
    ] = taken.as_slice()
    else {
        panic!("it is opened, and both are passed on: {taken:?}");
    };
    assert_eq!(
        (hello.payload, call.payload),
        (HELLO.as_bytes(), CALL.as_bytes())
    );
    // Held for the handshake response, which has no number.
    let greeting = self::call("greeting");
    world.send(server, broadcast(&greeting));
    world.accept(client);
    assert_eq!(world.heard(client), [ACCEPTED]);
    world.say(client, PING);
    assert_eq!(world.heard(client), [&*greeting]);
    world.lose(client);
    world.resume(client).unwrap();
    assert_eq!(world.heard(client), [sequence(1), greeting]);
    assert_eq!(world.said(client, &[&sequence(1), CALL].concat()), [""; 0]);
}

#[test]
fn nothing_comes_in_one_go_with_the_handshake_response() {
    let in_time = |world: &mut World, _: ClientEnd| {
        world.pass(TICK);
        world.pass(TICK);
    };
    let by_words = |world: &mut World, client| world.say(client, PING);
    let by_goodbye = |world: &mut World, client| world.say_goodbye(client);
    let by_drain = |world: &mut World, _: ClientEnd| world.drain();
    let ways: [(Act<'_>, Option<&str>); 4] = [
        (&in_time, None),
        (&by_words, None),
        (&by_goodbye, Some(GOODBYE)),
        (
            &by_drain,
            Some("{\"type\":7,\"allowReconnect\":true}\u{1e}"),
        ),
    ];
    for (begin, farewell) in ways {
        let mut world = World::new(1);
        let server = world.server(0, CHAT, "app");
        let client = world.adopt_client(server, &Profile::default());
        world.say(client, HELLO);
        world.send(server, broadcast(&call("held")));
        world.accept(client);
        world.send_data(client, &call("own"), DataMessageType::Invocation);
        world.send(server, broadcast(&call("all")));
        world.pass(TICK);
        assert_eq!(world.heard(client), [ACCEPTED]);
        begin(&mut world, client);
        let mut expected = vec![call("held"), call("own"), call("all")];
        expected.extend(farewell.map(str::to_owned));
        assert_eq!(world.heard(client), expected);
    }
}

#[test]
fn too_much_before_a_client_counts_closes_it() {
    let mut world = World::new(1);
    let server = world.server(0, CHAT, "app");
    let client = world.adopt_client(server, &Profile::default());
    world.say(client, HELLO);
    world.accept(client);
    for _ in 0..3 {
        assert!(world.is_connected(client));
        world.send(
            server,
            broadcast(&call(&"x".repeat(STATEFUL_KEPT_BYTES_MAX / 2))),
        );
    }
    assert_eq!(
        world.clients[client.0].ended,
        Some(CloseCause::SlowConsumer)
    );
}

#[test]
fn an_acknowledgement_comes_after_a_while_and_only_to_who_is_there() {
    let (mut world, _, client) = stage();
    world.say(client, CALL);
    world.pass(STATEFUL_ACK_DELAY.saturating_sub(TICK));
    assert_eq!(world.heard(client), [""; 0]);
    world.say(client, CALL);
    world.pass(TICK);
    assert_eq!(world.heard(client), [ack(2)]);
    world.pass_in_order(STATEFUL_ACK_DELAY * 3);
    assert_eq!(world.heard(client), [""; 0]);
    world.say(client, CALL);
    world.lose(client);
    world.pass(STATEFUL_ACK_DELAY);
    world.resume(client).unwrap();
    world.pass(STATEFUL_ACK_DELAY);
    assert_eq!(
        world.heard(client),
        [sequence(1)],
        "it has not said where it begins"
    );
    world.said(client, &[&sequence(3), CALL].concat());
    world.pass(STATEFUL_ACK_DELAY);
    assert_eq!(world.heard(client), [ack(3)]);
    let much = format!("{{\"type\":1,\"target\":\"{}\"}}\u{1e}", "x".repeat(60_000));
    world.say(client, &much);
    assert_eq!(
        world.heard(client),
        [ack(4)],
        "at once, or it would stop sending"
    );
}

#[test]
fn a_client_without_state_is_gone_with_its_socket() {
    let mut world = World::new(1);
    let server = world.server(0, CHAT, "app");
    let first_version = world.client(server);
    let own = HubProtocol::Other("own".into());
    let own = world.adopt_client(server, &Profile::speaking(own));
    world.say(own, &HELLO.replace("json", "own"));
    world.take(server);
    world.accept(own);
    let opening = world.adopt_client(server, &Profile::default());
    world.say(opening, HELLO);
    world.take(server);
    assert_eq!(world.resume(opening), Err(ResumeError::Gone));
    for client in [first_version, own] {
        assert_eq!(world.resume(client), Err(ResumeError::InUse));
    }
    for client in [first_version, own, opening] {
        let id = world.id(client);
        assert!(!world.try_lose(client));
        assert_eq!(world.closed(server), [id]);
        assert_eq!(world.resume(client), Err(ResumeError::Gone));
    }
}

#[test]
fn nobody_takes_the_place_of_another() {
    let mut world = World::new(1);
    let server = world.server(0, CHAT, "app");
    let client = stateful(&mut world, server, &Profile::user("ann"));
    let router = &world.routers[0];
    let id = world.clients[client.0].id;
    assert!(router.resumable(id, CHAT, Some("ann")).is_ok());
    let stranger = ConnectionId::new(ShardId(0), 99);
    for (id, hub, user) in [
        (id, CHAT, Some("bob")),
        (id, CHAT, None),
        (id, NEWS, Some("ann")),
        (stranger, CHAT, Some("ann")),
    ] {
        assert_eq!(router.resumable(id, hub, user), Err(ResumeError::Gone));
    }
}

#[test]
fn a_new_socket_takes_the_place_of_one_whose_loss_has_not_been_noticed() {
    let (mut world, server, client) = stage();
    world.send_data(client, &call("1"), DataMessageType::Invocation);
    world.say(client, "{\"type\":1,");
    assert_eq!(world.heard(client), [call("1")]);
    let old = world.clients[client.0].key;
    let key = world.routers[0].resumable(world.clients[client.0].id, CHAT, None);
    assert_eq!(key, Ok(old));
    let mut effects = Vec::new();
    let other = SocketKey {
        generation: 9,
        ..client.socket()
    };
    let taken = world.routers[0].on_client_resumed(old, other, &mut effects);
    assert_eq!(taken, Some(client.socket()));
    world.apply(0, effects, &[]);
    assert_eq!(world.heard(client), [sequence(1), call("1")]);
    assert_eq!(
        world.said(client, &[&sequence(1), CALL].concat()),
        [CALL],
        "half of one is forgotten"
    );
    assert_eq!(world.take(server), []);
}

#[test]
fn after_a_goodbye_the_loss_of_the_socket_is_the_end() {
    let by_client = |world: &mut World, client| world.say(client, GOODBYE);
    let by_hub = |world: &mut World, client| world.say_goodbye(client);
    let in_a_call = |world: &mut World, client| {
        world.send_data(client, GOODBYE, DataMessageType::Invocation);
    };
    let ways: [Act<'_>; 3] = [&by_client, &by_hub, &in_a_call];
    for say_goodbye in ways {
        let (mut world, server, client) = stage();
        say_goodbye(&mut world, client);
        world.take(server);
        assert_eq!(world.resume(client), Err(ResumeError::Gone));
        assert!(!world.try_lose(client));
        assert_eq!(world.closed(server), [world.id(client)]);
    }
}

#[test]
fn a_client_that_is_away_is_closed_without_words() {
    let by_hub = |world: &mut World, client| world.abort(client);
    let by_loss = |world: &mut World, client: ClientEnd| {
        let server = world.clients[client.0].server;
        world.lose_server(server.expect("it is bound"));
    };
    let by_drain = |world: &mut World, _: ClientEnd| world.drain();
    let ways: [(Act<'_>, CloseCause); 3] = [
        (&by_hub, CloseCause::AppServer),
        (&by_loss, CloseCause::ServerConnectionLost),
        (&by_drain, CloseCause::Drain),
    ];
    for (close, cause) in ways {
        let (mut world, _, client) = stage();
        world.send_data(client, &call("1"), DataMessageType::Invocation);
        world.lose(client);
        close(&mut world, client);
        assert_eq!(world.clients[client.0].ended, Some(cause));
        assert_eq!(world.resume(client), Err(ResumeError::Gone));
        assert_eq!(world.counters[0].kept_bytes.value(), 0);
        world.pass(STATEFUL_AWAY_MAX);
        assert_eq!(world.counters[0].clients_not_resumed.value(), 0);
    }
}

#[test]
fn too_much_for_a_client_that_is_away_closes_it() {
    for to_many in [true, false] {
        let (mut world, server, client) = stage();
        world.lose(client);
        let large = call(&"x".repeat(STATEFUL_KEPT_BYTES_MAX / 2));
        for _ in 0..3 {
            assert_eq!(world.closed(server), [""; 0]);
            if to_many {
                world.send(server, broadcast(&large));
            } else {
                world.send_data(client, &large, DataMessageType::Invocation);
            }
        }
        assert_eq!(
            world.clients[client.0].ended,
            Some(CloseCause::SlowConsumer)
        );
        assert_eq!(world.closed(server), [world.id(client)]);
        assert_eq!(world.counters[0].slow_consumers.value(), 1);
    }
}

#[test]
fn too_much_for_a_client_that_is_there_costs_it_only_its_state() {
    let (mut world, server, client) = stage();
    let large = call(&"x".repeat(STATEFUL_KEPT_BYTES_MAX));
    for _ in 0..4 {
        world.send(server, broadcast(&large));
    }
    assert_eq!(world.heard(client).len(), 4);
    assert_eq!(world.counters[0].kept_given_up.value(), 3);
    assert_eq!(world.resume(client), Err(ResumeError::Gone));
    world.said(client, &ack(3));
    assert!(world.resume(client).is_ok());
}

#[test]
fn a_wrong_sequence_is_told_and_is_the_end() {
    let (mut world, server, client) = stage();
    world.say(client, &sequence(2));
    let told = "{\"type\":7,\"error\":\"Connection closed with an error. Sequence ID greater than amount of messages we've received.\",\
                \"allowReconnect\":true}\u{1e}";
    assert_eq!(world.heard(client), [told]);
    assert_eq!(world.clients[client.0].ended, Some(CloseCause::ClientFault));
    assert_eq!(world.closed(server), [world.id(client)]);
    assert_eq!(world.resume(client), Err(ResumeError::Gone));
    assert_eq!(world.counters[0].protocol_errors.value(), 1);
}

#[test]
fn a_frame_is_shared_with_clients_that_have_no_state() {
    let (mut world, server, client) = stage();
    let (here, away) = (
        world.client(server),
        stateful(&mut world, server, &Profile::default()),
    );
    world.lose(away);
    world.send(server, broadcast(&call("1")));
    for client in [client, here] {
        assert_eq!(world.heard(client), [call("1")]);
    }
    world.resume(away).unwrap();
    assert_eq!(world.heard(away), [sequence(1), call("1")]);
}

fn stage() -> (World, ServerEnd, ClientEnd) {
    let mut world = World::new(1);
    let server = world.server(0, CHAT, "app");
    let client = stateful(&mut world, server, &Profile::default());
    (world, server, client)
}

pub(super) fn stateful(world: &mut World, server: ServerEnd, profile: &Profile) -> ClientEnd {
    let client = world.adopt_client(server, profile);
    world.say(client, HELLO);
    world.take(server);
    world.accept(client);
    assert_eq!(world.heard(client), [ACCEPTED]);
    world.say(client, PING);
    world.take(server);
    client
}

pub(super) fn call(argument: &str) -> String {
    format!("{{\"type\":1,\"target\":\"x\",\"arguments\":[\"{argument}\"]}}\u{1e}")
}

pub(super) fn ack(number: u32) -> String {
    format!("{{\"type\":8,\"sequenceId\":{number}}}\u{1e}")
}

pub(super) fn sequence(number: u32) -> String {
    format!("{{\"type\":9,\"sequenceId\":{number}}}\u{1e}")
}

impl World {
    pub(super) fn lose(&mut self, client: ClientEnd) {
        assert!(self.try_lose(client), "it may come back");
    }

    /// A client's socket is lost. Whether the client may come back. Until then it counts as one that has left: nothing may be sent to it.
    fn try_lose(&mut self, client: ClientEnd) -> bool {
        let record = &mut self.clients[client.0];
        record.has_left = true;
        let (shard, key) = (record.shard, record.key);
        let mut effects = Vec::new();
        let may_return = self.routers[shard].on_client_lost(key, self.now, &mut effects);
        self.apply(shard, effects, &[]);
        may_return
    }

    /// A client has another socket.
    pub(super) fn resume(&mut self, client: ClientEnd) -> Result<(), ResumeError> {
        let ClientRecord { shard, id, hub, .. } = self.clients[client.0];
        let key = self.routers[shard].resumable(id, hub, None)?;
        let socket = SocketKey {
            generation: 7,
            ..client.socket()
        };
        let mut effects = Vec::new();
        self.routers[shard].on_client_resumed(key, socket, &mut effects);
        self.clients[client.0].has_left = false;
        self.apply(shard, effects, &[]);
        Ok(())
    }

    /// What the app server gets of what a client says.
    pub(super) fn said(&mut self, client: ClientEnd, text: &str) -> Vec<String> {
        let server = self.clients[client.0].server.expect("it is bound");
        self.take(server);
        self.say(client, text);
        let payload = |message: Received| {
            let Message::ConnectionData(data) = message else {
                panic!("only data: {message:?}");
            };
            String::from_utf8_lossy(data.payload).into_owned()
        };
        self.take(server).into_iter().map(payload).collect()
    }

    /// Whom the app server has been told to have left. Nothing else but pings has come.
    fn closed(&mut self, server: ServerEnd) -> Vec<String> {
        let closed = |message: Received| {
            let Message::CloseConnection(close) = message else {
                assert!(
                    matches!(message, Message::Ping(_)),
                    "only ends: {message:?}"
                );
                return None;
            };
            Some(close.connection_id.into_owned())
        };
        self.take(server).into_iter().filter_map(closed).collect()
    }

    fn lose_nothing_meanwhile(&mut self, server: ServerEnd, client: ClientEnd) {
        let id = self.id(client);
        assert!(matches!(
            self.take(server).as_slice(),
            [Message::ConnectionData(_)]
        ));
        self.send_data(client, &call("own"), DataMessageType::Invocation);
        self.send_data(client, "{\"type\":6}\u{1e}", DataMessageType::Other);
        self.send(server, broadcast(&call("all")));
        self.send(server, to_group("group", &call("group")));
        self.send(server, to_connections(&[id], &call("named")));
        assert_eq!(self.take(server), []);
    }

    /// Time passes tick by tick, and app servers answer pings.
    pub(super) fn pass_in_order(&mut self, time: Duration) {
        let ticks = time.as_millis() / TICK.as_millis();
        for _ in 0..ticks {
            for server in 0..self.servers.len() {
                let ServerRecord { shard, key, .. } = self.servers[server];
                self.routers[shard].on_server_heard(key, self.now);
            }
            self.pass(TICK);
        }
    }
}

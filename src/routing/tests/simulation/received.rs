//! What everybody has received since the last look, held against who should.

use super::*;
use crate::protocol::service::ping::ServicePing;

impl Simulation {
    pub(super) fn read_all(&mut self) {
        // In the order in which it came: a client that moves is heard of on two server connections.
        let mut received: BTreeMap<ServerEnd, VecDeque<Received>> = BTreeMap::new();
        for server in std::mem::take(&mut self.world.heard) {
            let messages = received
                .entry(server)
                .or_insert_with(|| self.world.take(server).into());
            if let Some(message) = messages.pop_front() {
                self.server_hears(server, &message);
            }
        }
        // A call may be answered as soon as it has been read.
        for client in (0..self.world.clients.len()).map(ClientEnd) {
            if self.world.clients[client.0].received.is_empty() {
                continue;
            }
            for (_, payload) in self.world.take_messages(client) {
                self.client_hears(client, &payload);
            }
        }
    }

    fn client_hears(&mut self, client: ClientEnd, payload: &[u8]) {
        let Some((server, way, number)) = numbered(payload) else {
            return self.client_hears_words(client, payload);
        };
        self.journal.note(format_args!(
            "client {} hears {number} of server connection {server}",
            client.0
        ));
        let Some(sending) = self.sendings.get(&number) else {
            panic!("nobody has sent {number}");
        };
        assert_eq!(sending.server, ServerEnd(server));
        assert!(
            self.may_hear(client, sending),
            "{number} is none of the business of client {}",
            client.0
        );
        if let Some(sending) = self.sendings.get_mut(&number) {
            sending.owed.retain(|owed| *owed != client);
        }
        self.check_order(client, server, way, number);
        if self.followed == Some(number) {
            self.hearers.push(client);
        }
    }

    fn check_order(&mut self, client: ClientEnd, server: usize, way: char, number: i32) {
        let record = &self.world.clients[client.0];
        // What names a connection that has moved goes another way than what names its hub.
        let has_moved = record.id.shard().index() != record.shard;
        let way = if has_moved { way } else { ' ' };
        let last_heard = &mut self.clients[client.0].last_heard;
        let last = last_heard.insert((server, way), number);
        assert!(
            last < Some(number),
            "client {} hears from {server} on way {way:?}: {number} after {last:?}",
            client.0
        );
    }

    #[expect(
        clippy::wildcard_enum_match_arm,
        reason = "the world has looked at the rest"
    )]
    fn server_hears(&mut self, server: ServerEnd, message: &Received) {
        match message {
            Message::OpenConnection(open) => self.server_is_told(server, &open.connection_id),
            Message::ConnectionData(data) => {
                self.server_reads(server, &data.connection_id, data.payload);
            }
            Message::Ack(ack) => self.note_ack(server, ack.ack_id, ack.status, ack.payload),
            Message::ClientInvocation(invocation) => {
                self.note_announcement(server, &invocation.invocation_id);
            }
            Message::ServiceMapping(mapping) => {
                self.note_mapping(server, &mapping.invocation_id);
            }
            Message::ClientCompletion(completion) => {
                self.note_answer(server, &completion.invocation_id, true);
            }
            Message::ErrorCompletion(completion) => {
                self.note_answer(server, &completion.invocation_id, false);
            }
            Message::Ping(ping) => self.note_ping(server, &ServicePing::parse(ping)),
            _ => {}
        }
    }

    fn note_ping(&mut self, server: ServerEnd, ping: &ServicePing<'_>) {
        let model = &mut self.servers[server.0];
        if *ping == ServicePing::KeepAlive {
            model.last_pinged = self.world.now;
        } else if *ping == ServicePing::FinAck {
            let fins = model.fins.checked_sub(1);
            model.fins = fins.expect("a shutdown is acknowledged once");
        }
    }

    pub(super) fn client_named(&self, connection_id: &str) -> ClientEnd {
        let id = ConnectionId::parse(connection_id).expect("it is an id");
        let index = self.world.clients.iter().position(|client| client.id == id);
        ClientEnd(index.expect("it is known"))
    }

    pub(super) fn is_same_app_server(&self, server: ServerEnd, other: ServerEnd) -> bool {
        let records = [server, other].map(|end| &self.world.servers[end.0]);
        let [one, other] = records.map(|record| (record.hub, &record.server_id));
        one == other
    }
}

/// The server connection, way and number of a message that [`Simulation::send_to`] has sent.
fn numbered(payload: &[u8]) -> Option<(usize, char, i32)> {
    let end = payload.iter().position(|byte| *byte == b')')?;
    let start = payload[..end].iter().rposition(|byte| *byte == b'(')?;
    let text = std::str::from_utf8(&payload[start + 1..end]).ok()?;
    let parts: Vec<&str> = text.split(' ').collect();
    let [server, way, number] = parts.as_slice() else {
        return None;
    };
    Some((
        server.parse().ok()?,
        way.chars().next()?,
        number.parse().ok()?,
    ))
}

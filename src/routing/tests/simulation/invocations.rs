//! Client results: an app server calls a method of a client, and the app server that has the client hands the result back.

use super::talk::framed;
use super::*;
use crate::limits::INVOCATION_TIMEOUT;
use crate::protocol::service::ClientInvocation;

/// Looks for what has waited too long are this far apart, at most.
const EXPIRY_SLACK: Duration = Duration::from_secs(11);

/// A call of a client's method.
pub(super) struct Invoked {
    caller: ServerEnd,
    client: ClientEnd,
    /// When it was passed on to the client, if another app server has to answer; else when it was asked for.
    since: Instant,
    /// Its caller has been told that another app server will answer.
    is_mapped: bool,
    /// That app server, by one of its server connections, if it knows.
    announced_to: Option<ServerEnd>,
    is_completed: bool,
    is_answered: bool,
}

impl Simulation {
    pub(super) fn invoke(&mut self) {
        let hub = self.random.pick(&HUBS);
        let (Some(caller), Some(client)) = (self.any_speaker(hub), self.any_client_ever_known())
        else {
            return;
        };
        let number = self.number();
        self.log(format_args!(
            "server connection {} calls client {}, invocation {number}",
            caller.0, client.0
        ));
        let invoked = Invoked {
            caller,
            client,
            since: self.world.now,
            is_mapped: false,
            announced_to: None,
            is_completed: false,
            is_answered: false,
        };
        self.invoked.insert(number, invoked);
        let server_id = Arc::clone(&self.world.servers[caller.0].server_id);
        let text = format!("invocation {number}");
        let (json, messagepack) = (&HubProtocol::Json, &HubProtocol::MessagePack);
        let mut payloads = Payloads::default();
        payloads.push("json", kept(&framed(&text, Some(named(number)), json)));
        payloads.push(
            "messagepack",
            kept(&framed(&text, Some(named(number)), messagepack)),
        );
        let message = ClientInvocation {
            invocation_id: named(number).into(),
            connection_id: self.world.id(client).into(),
            caller_server_id: server_id.to_string().into(),
            payloads,
            tracing_id: None,
        };
        self.send(caller, message);
    }

    pub(super) fn complete(&mut self) {
        let waiting: Vec<(i32, ServerEnd, ClientEnd)> = self
            .invoked
            .iter()
            .filter(|(_, invoked)| !invoked.is_completed)
            .filter_map(|(number, invoked)| Some((*number, invoked.announced_to?, invoked.client)))
            .filter(|(_, server, _)| self.speaks(*server))
            .collect();
        let Some((number, server, client)) = self.random.pick_any(&waiting) else {
            return;
        };
        let server_id = Arc::clone(&self.world.servers[server.0].server_id);
        let hub = self.world.servers[server.0].hub;
        // It may use any of its connections.
        let Some(server) =
            self.any_speaker_with(|other| other.hub == hub && other.server_id == server_id)
        else {
            return;
        };
        self.log(format_args!(
            "server connection {} has the result of invocation {number}",
            server.0
        ));
        self.invoked
            .get_mut(&number)
            .expect("it exists")
            .is_completed = true;
        let may_say = self.world.is_connected(client) && !self.world.clients[client.0].is_paused;
        if may_say {
            self.client_answers(client, named(number));
        }
        let id = self.world.id(client);
        let message = if self.random.one_in(3) {
            error_completion(&named(number), id, &server_id, "it failed")
        } else {
            completion(&named(number), id, &server_id, "42")
        };
        self.send(server, message);
    }

    pub(super) fn note_announcement(&mut self, server: ServerEnd, invocation_id: &str) {
        let now = self.world.now;
        let invoked = self.invoked_named(invocation_id);
        assert_eq!(invoked.announced_to.replace(server), None, "told once");
        invoked.since = now;
        let client = invoked.client;
        assert_eq!(self.world.clients[client.0].server, Some(server));
    }

    pub(super) fn note_mapping(&mut self, server: ServerEnd, invocation_id: &str) {
        let invoked = self.invoked_named(invocation_id);
        assert!(!invoked.is_mapped, "told once");
        invoked.is_mapped = true;
        let caller = invoked.caller;
        assert!(self.is_same_app_server(server, caller));
    }

    pub(super) fn note_answer(&mut self, server: ServerEnd, invocation_id: &str, is_result: bool) {
        let invoked = self.invoked_named(invocation_id);
        assert!(!invoked.is_answered, "answered once");
        assert!(
            invoked.is_completed || !is_result,
            "a result comes from somebody"
        );
        invoked.is_answered = true;
        let caller = invoked.caller;
        assert!(self.is_same_app_server(server, caller));
    }

    /// With all mails at their place, only those wait who wait for a client that is there.
    pub(super) fn check_invocations(&self) {
        for (number, invoked) in &self.invoked {
            if invoked.is_answered || !self.world.is_up(invoked.caller) {
                continue;
            }
            let owner = self.world.clients[invoked.client.0].server;
            let owner = owner.expect("nobody calls a client that nobody knows");
            if invoked.is_mapped {
                assert!(!invoked.is_completed, "the result of {number} has come");
                assert!(
                    self.world.is_connected(invoked.client),
                    "nobody waits for one who has left: {number}"
                );
                assert_eq!(
                    invoked.announced_to, self.clients[invoked.client.0].bound,
                    "nobody else will answer {number}"
                );
                let age = self.world.now - invoked.since;
                assert!(
                    age < INVOCATION_TIMEOUT + EXPIRY_SLACK,
                    "{number} is too old"
                );
            } else {
                assert!(
                    self.clients[invoked.client.0].former.is_some()
                        || self.is_same_app_server(owner, invoked.caller),
                    "an app server that asks its own client sees the answer itself: {number}"
                );
            }
        }
    }

    fn invoked_named(&mut self, invocation_id: &str) -> &mut Invoked {
        let number = invocation_id.strip_prefix('i').map(str::parse);
        let number: i32 = number.expect("it is one of ours").unwrap();
        self.invoked.get_mut(&number).expect("it was asked for")
    }
}

fn named(number: i32) -> String {
    format!("i{number}")
}

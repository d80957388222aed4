//! What clients say and expect to hear, for each kind of target: prebuilt, and shared wherever it is the same for all.

use std::net::SocketAddr;
use std::ops::Range;
use std::rc::Rc;

use hubring::frame::websocket::{MessageKind, header};

use super::access::{TokenSigner, user_id};
use super::due_time;
use super::inbox::{Counted, Expected, Inbox, Signature, Splitter};
use super::payload::{self, Call, OTHER_SIDE};
use super::upgrade::upgrade_request;
use super::web_socket::client_frame;
use crate::error::LoadError;
use crate::job::{HubProtocol, Job, Load, Pacing, Target};

/// Different messages that a client which checks sends one after the other, so that it notices when the order is lost.
const TURNS: u32 = 4;

/// The sender in the messages of all clients that do not check.
const ANY_CLIENT: u32 = 999_999_999;

/// How the string begins in what clients send, because there are no more of them. That of the other side begins with another digit.
const CLIENT_STRING_START: &[u8] = b"0";

/// The method of an app on ASP.NET Core, which returns its argument.
const RETURNED: Call = Call {
    method: "Echo",
    is_answered: true,
};

/// What ends an invocation in JSON: `"]}` and the record separator.
const JSON_BYTES_BEHIND_STRING: usize = 4;

/// How clients talk to one target.
pub(crate) struct ClientScript {
    address: SocketAddr,
    dialect: Dialect,
    requests: Requests,
    hub_handshake: Option<Vec<u8>>,
    hub_protocol: HubProtocol,
    payload_bytes: usize,
    checked_one_in: u32,
    traffic: Traffic,
    /// The frames of all clients that do not check.
    frames: Rc<[u8]>,
    of_other_side: Rc<[u8]>,
    /// Where that tells when it was due, if it does.
    due_time_at: Option<Range<usize>>,
}

/// By what targets differ as far as clients are concerned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Dialect {
    /// A hub whose app server is ours: it sends back what it receives, and nothing else.
    Hub,
    /// A hub of an app on ASP.NET Core, which answers calls, greets, and sends pings.
    AspNet,
    /// Bare WebSockets without a hub.
    WebSocket,
    /// No upgrade; what comes has a fixed size.
    Raw,
}

/// What a client may receive apart from what the app says on its own account.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Traffic {
    has_echoes: bool,
    has_sends: bool,
    /// Sends are made at their times.
    is_timed: bool,
}

/// What a client asks for first.
enum Requests {
    /// Nothing: it is there as soon as it is connected.
    None,
    Shared(Vec<u8>),
    /// By position among the clients of this worker.
    Each(Vec<Box<[u8]>>),
}

impl ClientScript {
    /// Writes and signs everything that clients need to come in, so that a storm has nothing left to compute.
    pub(crate) fn for_job(job: &Job) -> Result<Self, LoadError> {
        let (address, dialect) = match &job.target {
            Target::Service {
                address,
                app_server_elsewhere: false,
                ..
            } => (*address, Dialect::Hub),
            Target::Service { address, .. } | Target::SelfHost { address, .. } => {
                (*address, Dialect::AspNet)
            }
            Target::Floor { clients, .. } => (*clients, Dialect::Raw),
            Target::Hop { address, .. } | Target::Channel { address, .. } => {
                (*address, Dialect::WebSocket)
            }
        };
        let traffic = Traffic::of(&job.load);
        let mut script = Self {
            address,
            dialect,
            requests: requests(job)?,
            hub_handshake: hub_handshake(dialect, job.hub_protocol),
            hub_protocol: job.hub_protocol,
            payload_bytes: job.payload_bytes as usize,
            checked_one_in: job.checked_one_in,
            traffic,
            frames: Rc::default(),
            of_other_side: Rc::default(),
            due_time_at: None,
        };
        script.frames = script.frames_of(ANY_CLIENT).concat().into();
        let (payload, text) = payload::invocation(
            job.hub_protocol,
            payload::ECHO,
            OTHER_SIDE,
            0,
            script.payload_bytes,
        );
        script.of_other_side = script.without_prefix(&payload).into();
        if dialect == Dialect::Hub && traffic.has_sends {
            script.due_time_at = due_time::place(&script.of_other_side, &text);
        }
        Ok(script)
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// The upgrade request of the client at this position, if it has to make one.
    pub(crate) fn request(&self, position: usize) -> Option<&[u8]> {
        match &self.requests {
            Requests::None => None,
            Requests::Shared(request) => Some(request),
            Requests::Each(requests) => requests.get(position).map(|request| &**request),
        }
    }

    /// The frame with which a client enters its hub, if there is one: the client has entered when it has been accepted.
    pub(crate) fn hub_handshake(&self) -> Option<&[u8]> {
        self.hub_handshake.as_deref()
    }

    /// Whether frames come from the target, or bare messages.
    pub(crate) fn is_framed(&self) -> bool {
        self.dialect != Dialect::Raw
    }

    /// What client `number` sends, one frame behind the other, and how many they are. All are equally long.
    pub(crate) fn frames(&self, number: u32) -> (Rc<[u8]>, u32) {
        if self.traffic.has_echoes && self.is_checked(number) {
            (self.frames_of(number).concat().into(), TURNS)
        } else {
            (Rc::clone(&self.frames), TURNS)
        }
    }

    /// Reads what client `number` receives.
    pub(crate) fn inbox(&self, number: u32) -> Inbox {
        let splitter = match self.dialect {
            Dialect::Raw => {
                let header = header(MessageKind::Text, true, self.payload_bytes as u64, None);
                Splitter::Fixed(header.len() + self.payload_bytes)
            }
            Dialect::Hub | Dialect::AspNet | Dialect::WebSocket => Splitter::of(self.hub_protocol),
        };
        let is_checked = self.is_checked(number);
        let expected = is_checked.then(|| self.expected(number));
        let inbox = Inbox::new(number, splitter, self.counted(), expected);
        // Sends without a pause are a matter of throughput: to read times in all of them would cost some, and a sample tells as much.
        match &self.due_time_at {
            Some(place) if is_checked || self.traffic.is_timed => {
                inbox.with_due_times(place.clone())
            }
            _ => inbox,
        }
    }

    /// The floor keeps nothing but sizes, and what an app on ASP.NET sends on its own account is its own affair.
    fn is_checked(&self, number: u32) -> bool {
        let can_be_known = match self.dialect {
            Dialect::Hub | Dialect::WebSocket => true,
            Dialect::AspNet => !self.traffic.has_sends,
            Dialect::Raw => false,
        };
        can_be_known && number.is_multiple_of(self.checked_one_in.max(1)) && self.checked_one_in > 0
    }

    fn expected(&self, number: u32) -> Expected {
        let own = if self.traffic.has_echoes {
            let answers = (0..TURNS).map(|turn| {
                let (payload, text) = self.message(number, turn);
                match self.dialect {
                    Dialect::AspNet => payload::completion(self.hub_protocol, &text),
                    Dialect::Hub | Dialect::WebSocket | Dialect::Raw => payload,
                }
            });
            answers
                .map(|answer| self.without_prefix(&answer).to_vec())
                .collect()
        } else {
            Vec::new()
        };
        Expected {
            own,
            of_other_side: self
                .traffic
                .has_sends
                .then(|| Rc::clone(&self.of_other_side)),
            differing: self.due_time_at.clone().unwrap_or_default(),
        }
    }

    fn counted(&self) -> Counted {
        match self.dialect {
            Dialect::AspNet => Counted {
                messages: Some(asp_net_signature(
                    self.hub_protocol,
                    self.traffic.has_echoes,
                )),
                answers: None,
            },
            Dialect::Hub if self.traffic.has_sends && self.traffic.has_echoes => {
                let (message, text) = self.message(0, 0);
                let string_at = self.without_prefix(&message).len() - text.len();
                let behind_bytes = match self.hub_protocol {
                    HubProtocol::Json => JSON_BYTES_BEHIND_STRING,
                    HubProtocol::MessagePack => 0,
                };
                Counted {
                    messages: None,
                    answers: Some(Signature {
                        at: string_at - behind_bytes,
                        bytes: CLIENT_STRING_START,
                    }),
                }
            }
            // Among our own there is nothing that does not count.
            Dialect::Hub | Dialect::WebSocket | Dialect::Raw => Counted::default(),
        }
    }

    fn frames_of(&self, number: u32) -> Vec<Vec<u8>> {
        let kind = kind(self.hub_protocol);
        (0..TURNS)
            .map(|turn| client_frame(kind, &self.message(number, turn).0))
            .collect()
    }

    fn message(&self, number: u32, turn: u32) -> (Vec<u8>, String) {
        let call = match self.dialect {
            Dialect::AspNet => RETURNED,
            Dialect::Hub | Dialect::WebSocket | Dialect::Raw => payload::ECHO,
        };
        payload::invocation(self.hub_protocol, call, number, turn, self.payload_bytes)
    }

    /// A message as [`Expected`] wants it.
    fn without_prefix<'a>(&self, message: &'a [u8]) -> &'a [u8] {
        match self.hub_protocol {
            HubProtocol::Json => message,
            HubProtocol::MessagePack => {
                let prefix_bytes = 1 + message.iter().take_while(|byte| **byte > 0x7f).count();
                message.get(prefix_bytes..).unwrap_or_default()
            }
        }
    }
}

impl Traffic {
    fn of(load: &Load) -> Self {
        let (has_echoes, has_sends) = match load {
            Load::Echo { .. } => (true, false),
            Load::Mixed { .. } => (true, true),
            Load::Broadcast { .. }
            | Load::SendToConnection { .. }
            | Load::SendToUser { .. }
            | Load::SendToGroup { .. }
            | Load::SlowConsumers { .. } => (false, true),
            Load::Membership { .. }
            | Load::Idle
            | Load::Connect { .. }
            | Load::Reconnect { .. } => (false, false),
        };
        Self {
            has_echoes,
            has_sends,
            is_timed: match load {
                Load::SendToConnection { pacing }
                | Load::SendToUser { pacing }
                | Load::SendToGroup { pacing, .. } => matches!(pacing, Pacing::Open { .. }),
                Load::SlowConsumers { .. } | Load::Mixed { .. } => true,
                Load::Echo { .. }
                | Load::Broadcast { .. }
                | Load::Membership { .. }
                | Load::Idle
                | Load::Connect { .. }
                | Load::Reconnect { .. } => false,
            },
        }
    }
}

/// What an app on ASP.NET sends that counts: completions of echoes, or else calls of the method that its test app calls.
fn asp_net_signature(protocol: HubProtocol, is_completion: bool) -> Signature {
    match (protocol, is_completion) {
        (HubProtocol::Json, true) => Signature {
            at: 0,
            bytes: br#"{"type":3"#,
        },
        (HubProtocol::Json, false) => Signature {
            at: 0,
            bytes: br#"{"type":1,"target":"recv""#,
        },
        (HubProtocol::MessagePack, true) => Signature { at: 1, bytes: &[3] },
        (HubProtocol::MessagePack, false) => Signature {
            at: 1,
            bytes: b"\x01\x80\xc0\xa4recv",
        },
    }
}

fn kind(protocol: HubProtocol) -> MessageKind {
    match protocol {
        HubProtocol::Json => MessageKind::Text,
        HubProtocol::MessagePack => MessageKind::Binary,
    }
}

fn hub_handshake(dialect: Dialect, protocol: HubProtocol) -> Option<Vec<u8>> {
    let name = match protocol {
        HubProtocol::Json => "json",
        HubProtocol::MessagePack => "messagepack",
    };
    let request = format!("{{\"protocol\":\"{name}\",\"version\":1}}\x1e");
    match dialect {
        Dialect::Hub | Dialect::AspNet => Some(client_frame(kind(protocol), request.as_bytes())),
        Dialect::WebSocket | Dialect::Raw => None,
    }
}

fn requests(job: &Job) -> Result<Requests, LoadError> {
    // Who is sent to as a user must be one, and idle clients are to be as large as those of real apps.
    let has_users = matches!(
        job.load,
        Load::SendToUser { .. } | Load::Idle | Load::Mixed { .. }
    );
    let numbers = job.first_client..job.first_client + job.clients;
    Ok(match &job.target {
        Target::Floor { .. } => Requests::None,
        Target::Service {
            address,
            audience_host,
            hub,
            access_key,
            ..
        } => {
            let signer = TokenSigner::new(hub, access_key, audience_host)?;
            let (host, target) = (address.to_string(), format!("/client/?hub={hub}"));
            if has_users {
                let requests: Result<Vec<_>, LoadError> = numbers
                    .map(|number| {
                        let token = signer.for_user(&user_id(number), job.load == Load::Idle)?;
                        Ok(upgrade_request(&host, &target, Some(&token)).into_boxed_slice())
                    })
                    .collect();
                Requests::Each(requests?)
            } else {
                let token = signer.for_any_client()?;
                Requests::Shared(upgrade_request(&host, &target, Some(&token)))
            }
        }
        Target::SelfHost { address, path } if has_users => {
            let request = |number| {
                let target = format!("{path}?user={}", user_id(number));
                upgrade_request(&address.to_string(), &target, None).into_boxed_slice()
            };
            Requests::Each(numbers.map(request).collect())
        }
        Target::SelfHost { address, path } => {
            Requests::Shared(upgrade_request(&address.to_string(), path, None))
        }
        Target::Hop { address, .. } => {
            Requests::Shared(upgrade_request(&address.to_string(), "/", None))
        }
        Target::Channel {
            address, subscribe, ..
        } => Requests::Shared(upgrade_request(&address.to_string(), subscribe, None)),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::worker::web_socket::MASKING_KEY;

    fn job(load: Load, hub_protocol: HubProtocol, app_server_elsewhere: bool) -> Job {
        Job {
            target: Target::Service {
                address: ([127, 0, 0, 1], 80).into(),
                audience_host: "localhost".to_owned(),
                hub: "chat".to_owned(),
                access_key: "a key".to_owned().into(),
                app_server_elsewhere,
                app_server: None,
            },
            load,
            clients: 3,
            first_client: 10,
            clients_total: 13,
            plays_other_side: false,
            server_connections: 0,
            payload_bytes: 200,
            hub_protocol,
            checked_one_in: 10,
            progress: None,
            core: 0,
            watched: Vec::new(),
        }
    }

    /// The messages in the frames of a client.
    fn messages(script: &ClientScript, number: u32) -> Vec<Vec<u8>> {
        let (frames, count) = script.frames(number);
        let frame_bytes = frames.len() / count as usize;
        let message = |frame: &[u8]| {
            let header = frame_bytes - 200;
            assert_eq!(frame[header - 4..header], MASKING_KEY);
            let mut message = frame[header..].to_vec();
            hubring::frame::websocket::mask(&mut message, MASKING_KEY, 0);
            message
        };
        frames.chunks(frame_bytes).map(message).collect()
    }

    const ECHO: Load = Load::Echo {
        pacing: Pacing::Closed { depth: 1 },
    };

    #[test]
    fn a_client_expects_its_echoes_and_nobody_elses() {
        for protocol in [HubProtocol::Json, HubProtocol::MessagePack] {
            let script = ClientScript::for_job(&job(ECHO, protocol, false)).unwrap();
            let own = messages(&script, 10).concat();
            let of_others = messages(&script, 11).concat();
            let arrived = script.inbox(10).on_bytes(&own).unwrap();
            assert_eq!((arrived.messages, arrived.answers), (TURNS, TURNS));
            assert!(script.inbox(10).on_bytes(&of_others).is_err());
            let unchecked = script.inbox(11).on_bytes(&own).unwrap();
            assert_eq!(unchecked.messages, TURNS);
        }
    }

    #[test]
    fn in_mixed_traffic_answers_are_told_from_sends() {
        let load = Load::Mixed { per_second: 1 };
        for protocol in [HubProtocol::Json, HubProtocol::MessagePack] {
            let script = ClientScript::for_job(&job(load.clone(), protocol, false)).unwrap();
            let send = payload::payload(protocol, OTHER_SIDE, 0, 200);
            for number in [10, 11] {
                let mut received = messages(&script, number);
                received.insert(1, send.clone());
                let arrived = script.inbox(number).on_bytes(&received.concat()).unwrap();
                assert_eq!((arrived.messages, arrived.answers), (TURNS + 1, TURNS));
            }
        }
    }

    #[test]
    fn of_an_app_on_asp_net_only_completions_count() {
        for protocol in [HubProtocol::Json, HubProtocol::MessagePack] {
            let script = ClientScript::for_job(&job(ECHO, protocol, true)).unwrap();
            let (_, text) = payload::invocation(protocol, RETURNED, 10, 0, 200);
            let greeting = payload::payload(protocol, 1, 0, 100);
            let received = [greeting, payload::completion(protocol, &text)].concat();
            let arrived = script.inbox(10).on_bytes(&received).unwrap();
            assert_eq!(arrived.messages, 1);
        }
    }

    #[test]
    fn users_have_requests_of_their_own() {
        let script = ClientScript::for_job(&job(Load::Idle, HubProtocol::Json, false)).unwrap();
        assert_ne!(script.request(0), script.request(1));
        assert_eq!(script.request(3), None);
        let script = ClientScript::for_job(&job(ECHO, HubProtocol::Json, false)).unwrap();
        assert_eq!(script.request(0), script.request(2));
        let request = script.request(0).unwrap();
        assert!(request.starts_with(b"GET /client/?hub=chat HTTP/1.1\r\n"));
    }

    #[test]
    fn the_hub_handshake_names_the_protocol() {
        let script = ClientScript::for_job(&job(ECHO, HubProtocol::Json, false)).unwrap();
        let frame = script.hub_handshake().unwrap().to_vec();
        let expected = client_frame(
            MessageKind::Text,
            b"{\"protocol\":\"json\",\"version\":1}\x1e",
        );
        assert_eq!(frame, expected);
    }
}

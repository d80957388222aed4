//! The reference hub: every kind of call that a hub can get and make.
//!
//! Tests, the demo and the load generator drive it, and any test that it passes can be run against a hub written with the SDK
//! that has the same methods. What it sends to clients is `recv(kind, text)`, on connecting `hello(connectionId, userId,
//! claims, query)`, and `question(text)`, which a client answers. What can be done from outside of a method stands in `actions`.

mod actions;
mod events;
mod run;

use std::time::Duration;

use axum::http::request::Parts;
use futures_util::stream;
use serde_json::Value as Json;

pub use self::events::Events;
pub use self::run::{ReferenceOptions, run_reference};
use super::{Answer, Caller, Claim, Hub, HubError, Invocation, Items, Recipients, Value};

/// See the module's documentation.
#[derive(Clone, Copy, Debug, Default)]
pub struct ReferenceHub {
    /// Where clients that come and go are told of: nowhere unless something else is said.
    pub events: Events,
}

impl Hub for ReferenceHub {
    async fn connected(&self, caller: &Caller) -> Result<(), HubError> {
        self.tell(
            caller,
            "connected",
            [("migratedFrom", caller.migrated_from().into())],
        );
        let hello = [
            caller.connection_id().into(),
            caller.user_id().map_or(Value::Nil, Value::from),
            claims(caller),
            caller.query().into(),
        ];
        Ok(caller.clients().caller().send("hello", hello).await?)
    }

    async fn disconnected(&self, caller: &Caller, error: Option<&str>) {
        let members = [
            ("reason", error.into()),
            ("migratedTo", caller.migrated_to().into()),
        ];
        self.tell(caller, "disconnected", members);
    }

    async fn invoke(&self, caller: &Caller, call: Invocation) -> Result<Answer, HubError> {
        match call.target() {
            "Echo" | "EchoBytes" | "EchoAny" | "Big" | "Slow" | "Nothing" | "Fail" | "Crash"
            | "AbortMe" | "Claims" | "Request" => answer(caller, call).await,
            "Join" | "Leave" => change_group(caller, call).await,
            "Ask" | "AskMe" => ask(caller, call).await,
            "Ticks" => ticks(self.events, caller, call),
            "Count" | "Sum" | "Upper" => stream(call).await,
            _ => send(caller, call).await,
        }
    }
}

impl ReferenceHub {
    fn tell<const N: usize>(self, caller: &Caller, event: &str, members: [(&str, Json); N]) {
        let who = [
            ("hub", caller.hub_name().into()),
            ("id", caller.connection_id().into()),
            ("user", caller.user_id().into()),
        ];
        self.events.write(event, who.into_iter().chain(members));
    }
}

/// Who a client is, from the query of its negotiate request: `?user=NAME` gives the user id and three sample claims, each
/// `&claim=type:value` one claim more.
pub fn claims_of(request: &Parts) -> Vec<Claim> {
    let query = request.uri.query().unwrap_or_default();
    let mut claims = Vec::new();
    let pairs = || form_urlencoded::parse(query.as_bytes());
    if let Some((_, user)) = pairs().find(|(name, value)| name == "user" && !value.is_empty()) {
        claims.push(Claim::new("nameid", user));
        claims.push(Claim::new("custom", "v1"));
        claims.push(Claim::new("role", "a"));
        claims.push(Claim::new("role", "b"));
    }
    let more = pairs()
        .filter(|(name, _)| name == "claim")
        .filter_map(|(_, claim)| {
            let (kind, value) = claim.split_once(':')?;
            (!kind.is_empty()).then(|| Claim::new(kind, value))
        });
    claims.extend(more);
    claims
}

/// Methods that answer their caller and nobody else.
async fn answer(caller: &Caller, mut call: Invocation) -> Result<Answer, HubError> {
    match call.target() {
        "Echo" => {
            let (text,): (String,) = call.bind()?;
            Ok(Answer::value(text))
        }
        "EchoBytes" => {
            let (bytes,): (Vec<u8>,) = call.bind()?;
            Ok(Answer::Value(Value::Binary(bytes)))
        }
        "EchoAny" => {
            let (value,): (Value,) = call.bind()?;
            Ok(Answer::Value(value))
        }
        "Big" => {
            let (length,): (u32,) = call.bind()?;
            Ok(Answer::value("x".repeat(length as usize)))
        }
        "Slow" => {
            let (milliseconds,): (u32,) = call.bind()?;
            tokio::select! {
                () = tokio::time::sleep(Duration::from_millis(milliseconds.into())) => {}
                () = caller.aborted() => return Err(HubError::Internal("The client is gone.".into())),
            }
            Ok(Answer::value(milliseconds))
        }
        _ => {
            let () = call.bind()?;
            answer_without_arguments(caller, call.target())
        }
    }
}

/// Those of them that take nothing.
fn answer_without_arguments(caller: &Caller, target: &str) -> Result<Answer, HubError> {
    match target {
        "Fail" => Err(HubError::new("boom")),
        "Crash" => Err(HubError::Internal("crash".into())),
        "AbortMe" => {
            caller.abort();
            Ok(Answer::Nothing)
        }
        "Claims" => Ok(Answer::Value(claims(caller))),
        "Request" => Ok(Answer::Value(request(caller))),
        _ => Ok(Answer::Nothing),
    }
}

/// Methods that send `recv`.
async fn send(caller: &Caller, mut call: Invocation) -> Result<Answer, HubError> {
    let clients = caller.clients();
    let (kind, recipients, text): (&str, Recipients, String) = match call.target() {
        "Broadcast" => {
            let (text,) = call.bind()?;
            ("all", clients.all(), text)
        }
        "Others" => {
            let (text,) = call.bind()?;
            ("others", clients.others(), text)
        }
        "AllExcept" => {
            let (ids, text): (Vec<String>, _) = call.bind()?;
            ("allexcept", clients.all_except(ids), text)
        }
        "Clients" => {
            let (ids, text): (Vec<String>, _) = call.bind()?;
            ("conns", clients.connections(ids), text)
        }
        "ToUser" => {
            let (user, text): (String, _) = call.bind()?;
            ("user", clients.user(&user), text)
        }
        "Users" => {
            let (users, text): (Vec<String>, _) = call.bind()?;
            ("users", clients.users(users), text)
        }
        "ToGroup" => {
            let (group, text): (String, _) = call.bind()?;
            ("group", clients.group(&group), text)
        }
        "ToGroupExcept" => {
            let (group, text): (String, _) = call.bind()?;
            let recipients = clients.group_except(&group, [caller.connection_id()]);
            ("groupexcept", recipients, text)
        }
        "OthersInGroup" => {
            let (group, text): (String, _) = call.bind()?;
            ("othersingroup", clients.others_in_group(&group), text)
        }
        "Groups" => {
            let (groups, text): (Vec<String>, _) = call.bind()?;
            ("groups", clients.groups(groups), text)
        }
        _ => return send_otherwise(caller, call).await,
    };
    recipients.send("recv", [kind.into(), text.into()]).await?;
    Ok(Answer::Nothing)
}

/// Methods that send `recv` to one client, or more than once.
async fn send_otherwise(caller: &Caller, mut call: Invocation) -> Result<Answer, HubError> {
    let clients = caller.clients();
    match call.target() {
        "Caller" => {
            let (text,): (String,) = call.bind()?;
            let message = ["caller".into(), text.into()];
            clients.caller().send("recv", message).await?;
        }
        "ToConn" => {
            let (id, text): (String, String) = call.bind()?;
            let message = ["conn".into(), text.into()];
            clients.connection(&id).send("recv", message).await?;
        }
        "GroupsExcept" => {
            let (groups, ids, text): (Vec<String>, Vec<String>, String) = call.bind()?;
            for group in groups {
                let message = ["groupsexcept".into(), text.as_str().into()];
                clients
                    .group_except(&group, &ids)
                    .send("recv", message)
                    .await?;
            }
        }
        "Flood" => {
            let (count, text): (u32, String) = call.bind()?;
            for index in 0..count {
                let message = ["flood".into(), format!("{text}{index}").into()];
                clients.all().send("recv", message).await?;
            }
        }
        _ => return Err(HubError::UnknownMethod),
    }
    Ok(Answer::Nothing)
}

async fn change_group(caller: &Caller, mut call: Invocation) -> Result<Answer, HubError> {
    let is_join = call.target() == "Join";
    let (group,): (String,) = call.bind()?;
    let (groups, id) = (caller.groups(), caller.connection_id());
    if is_join {
        groups.add(id, &group).await?;
        Ok(Answer::value("joined"))
    } else {
        groups.remove(id, &group).await?;
        Ok(Answer::value("left"))
    }
}

/// Methods that ask a client and answer what it answers. They end when the one who wanted to know is gone.
async fn ask(caller: &Caller, mut call: Invocation) -> Result<Answer, HubError> {
    let is_own = call.target() == "AskMe";
    let (argument,): (String,) = call.bind()?;
    let clients = caller.clients();
    let (recipient, question) = if is_own {
        (clients.caller(), argument)
    } else {
        (clients.connection(&argument), "q".to_owned())
    };
    tokio::select! {
        answer = recipient.invoke("question", [question.into()]) => Ok(Answer::Value(answer?)),
        () = caller.aborted() => Err(HubError::Internal("The client is gone.".into())),
    }
}

/// Methods with streams, in or out or both.
async fn stream(mut call: Invocation) -> Result<Answer, HubError> {
    match call.target() {
        "Count" => {
            let (count,): (i64,) = call.bind()?;
            Ok(Answer::stream(stream::iter((0..count).map(Ok))))
        }
        "Sum" => {
            let mut items = call.stream()?;
            let mut total = 0_i64;
            while let Some(item) = items.next::<i64>().await {
                total = total.wrapping_add(item?);
            }
            Ok(Answer::value(total))
        }
        _ => Ok(Answer::stream(stream::unfold(call.stream()?, upper))),
    }
}

/// A stream without end: the client has to cancel it.
fn ticks(events: Events, caller: &Caller, mut call: Invocation) -> Result<Answer, HubError> {
    let (milliseconds,): (u32,) = call.bind()?;
    let pause = Duration::from_millis(milliseconds.into());
    let first = Tick {
        number: 0,
        events,
        connection_id: caller.connection_id().to_owned(),
    };
    let next = move |mut tick: Tick| async move {
        if tick.number > 0 {
            tokio::time::sleep(pause).await;
        }
        tick.number += 1;
        Some((Ok(tick.number - 1), tick))
    };
    Ok(Answer::stream(stream::unfold(first, next)))
}

/// Says when the stream is dropped, whatever the reason.
struct Tick {
    number: u64,
    events: Events,
    connection_id: String,
}

impl Drop for Tick {
    fn drop(&mut self) {
        let id = self.connection_id.as_str().into();
        self.events.write("stream-ended", [("id", id)]);
    }
}

/// One item of a stream of texts, in capitals.
async fn upper(mut items: Items) -> Option<(Result<String, HubError>, Items)> {
    let item = items.next::<String>().await?;
    Some((item.map(|text| text.to_uppercase()), items))
}

/// The caller's claims as `type=value`.
fn claims(caller: &Caller) -> Value {
    let text = |claim: &Claim| Value::from(format!("{}={}", claim.kind, claim.value));
    Value::Array(caller.claims().iter().map(text).collect())
}

/// What is known of the caller's request.
fn request(caller: &Caller) -> Value {
    let text = |text: Option<&str>| text.map_or(Value::Nil, Value::from);
    let is_known = !caller.claims().is_empty();
    let name = caller.claims().iter().find(|claim| claim.kind == NAME);
    let forwarded = caller.header("X-Forwarded-For");
    let remote = forwarded.and_then(|addresses| addresses.split(',').next());
    let mut headers: Vec<(Value, Value)> = Vec::new();
    for (name, value) in caller.headers() {
        headers.push((name.into(), value.into()));
    }
    let members = [
        ("path", caller.path().as_deref().unwrap_or_default().into()),
        ("query", caller.query().into()),
        ("remote", text(remote.map(str::trim))),
        ("user", text(caller.user_id())),
        ("authenticationType", text(is_known.then_some("Bearer"))),
        ("name", text(name.map(|name| name.value.as_str()))),
        ("culture", "".into()),
        ("headers", Value::Map(headers)),
    ];
    Value::Map(members.map(|(name, value)| (name.into(), value)).into())
}

/// The claim that is a user's name to .NET.
const NAME: &str = "http://schemas.xmlsoap.org/ws/2005/05/identity/claims/name";

#[cfg(test)]
mod tests {
    use axum::http::Request;

    use super::*;

    #[test]
    fn the_query_says_who_the_client_is() {
        let claims = |query: &str| {
            let request = Request::post(format!("/chat/negotiate{query}"));
            claims_of(&request.body(()).unwrap().into_parts().0)
        };
        let sample = [
            ("nameid", "al ice"),
            ("custom", "v1"),
            ("role", "a"),
            ("role", "b"),
            ("x", "y:z"),
        ]
        .map(|(kind, value)| Claim::new(kind, value));
        assert_eq!(claims("?user=al+ice&claim=x%3Ay:z&claim=nonsense"), sample);
        assert_eq!(claims(""), []);
        assert_eq!(claims("?user="), []);
    }
}

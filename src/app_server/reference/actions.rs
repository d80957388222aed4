//! Acting on a hub from outside of its methods, by HTTP: what a program may do with [`Clients`] and [`Groups`].
//!
//! For tests and for trying things out: nobody is asked who they are. GET and POST do the same.
//!
//! | | |
//! |---|---|
//! | `/broadcast/{m}` `/user/{u}/{m}` `/group/{g}/{m}` `/conn/{id}/{m}` | send `recv` |
//! | `/join/{g}/{id}` `/leave/{g}/{id}` | group membership, answered after the ack |
//! | `/close/{id}` | aborts a connection of this process; asks the service to close any other. `?how=message` always asks, `&reason=` goes with it |
//! | `/invoke/{id}?q=&timeout=` | asks a client; 500 with the error otherwise |
//! | `/rate/{n}/{size}?group=&user=` | n sends as fast as possible; answers the time it took to write them |
//! | `/connections` | the connections that this process serves |
//! | `/mgmt/exists/conn/{id}` `…/user/{u}` `…/group/{g}` `/mgmt/ingroup/{u}/{g}` | questions |
//! | `/mgmt/userjoin/{u}/{g}?ttl=&ack=` `/mgmt/userleave/{u}[/{g}]?ack=` | groups of users |
//! | `/mgmt/connjoin/{id}/{g}` `/mgmt/connleave/{id}[/{g}]?ack=` | groups of connections |
//! | `/mgmt/close/conn/{id}` `…/user/{u}` `…/group/{g}` `…/all`, `?reason=&except=id,id` | closes |
//! | `/mgmt/members/{g}?top=&page=` | the members, page after page |
//!
//! What the service acknowledges is answered with `true` or `false`, the rest of `/mgmt` with `sent`, an error with 500 and its text.

use std::fmt;
use std::time::{Duration, Instant};

use axum::Router;
use axum::extract::{Path, Query, State};
use axum::handler::Handler;
use axum::http::StatusCode;
use axum::response::{IntoResponse as _, Json, Response};
use axum::routing::get;
use futures_util::TryStreamExt as _;
use serde::Deserialize;
use serde_json::json;

use super::super::{Clients, Close, Groups, MemberQuery, Recipients, SendError, Value};

/// The hub that is acted on.
#[derive(Clone, Debug)]
pub(super) struct Target {
    pub(super) clients: Clients,
    pub(super) groups: Groups,
}

/// The paths for one hub, each behind `prefix`.
pub(super) fn actions(prefix: &str, target: Target) -> Router {
    let router = Router::new();
    let router = route(router, prefix, "/broadcast/{m}", broadcast);
    let router = route(router, prefix, "/user/{u}/{m}", to_user);
    let router = route(router, prefix, "/group/{g}/{m}", to_group);
    let router = route(router, prefix, "/conn/{id}/{m}", to_connection);
    let router = route(router, prefix, "/join/{g}/{id}", join);
    let router = route(router, prefix, "/leave/{g}/{id}", leave);
    let router = route(router, prefix, "/close/{id}", close);
    let router = route(router, prefix, "/invoke/{id}", invoke);
    let router = route(router, prefix, "/rate/{n}/{size}", rate);
    let router = route(router, prefix, "/connections", connections);
    let router = route(router, prefix, "/mgmt/exists/{what}/{id}", exists);
    let router = route(router, prefix, "/mgmt/ingroup/{u}/{g}", in_group);
    let router = route(router, prefix, "/mgmt/userjoin/{u}/{g}", user_join);
    let router = route(router, prefix, "/mgmt/userleave/{u}", user_leave_all);
    let router = route(router, prefix, "/mgmt/userleave/{u}/{g}", user_leave);
    let router = route(router, prefix, "/mgmt/connjoin/{id}/{g}", connection_join);
    let router = route(router, prefix, "/mgmt/connleave/{id}", connection_leave_all);
    let router = route(router, prefix, "/mgmt/connleave/{id}/{g}", connection_leave);
    let router = route(router, prefix, "/mgmt/close/all", close_all);
    let router = route(router, prefix, "/mgmt/close/{what}/{id}", close_some);
    let router = route(router, prefix, "/mgmt/members/{g}", members);
    router.with_state(target)
}

fn route<T: 'static>(
    router: Router<Target>,
    prefix: &str,
    path: &str,
    handler: impl Handler<T, Target>,
) -> Router<Target> {
    router.route(
        &format!("{prefix}{path}"),
        get(handler.clone()).post(handler),
    )
}

async fn broadcast(State(target): State<Target>, Path(text): Path<String>) -> Response {
    send("http", text, target.clients.all()).await
}

async fn to_user(
    State(target): State<Target>,
    Path((user, text)): Path<(String, String)>,
) -> Response {
    send("touser", text, target.clients.user(&user)).await
}

async fn to_group(
    State(target): State<Target>,
    Path((group, text)): Path<(String, String)>,
) -> Response {
    send("togroup", text, target.clients.group(&group)).await
}

async fn to_connection(
    State(target): State<Target>,
    Path((id, text)): Path<(String, String)>,
) -> Response {
    let message = ["toconn".into(), text.into()];
    done(
        "ok",
        target.clients.connection(&id).send("recv", message).await,
    )
}

async fn join(State(target): State<Target>, Path((group, id)): Path<(String, String)>) -> Response {
    done("ok", target.groups.add(&id, &group).await)
}

async fn leave(
    State(target): State<Target>,
    Path((group, id)): Path<(String, String)>,
) -> Response {
    done("ok", target.groups.remove(&id, &group).await)
}

#[derive(Deserialize)]
struct CloseHow {
    how: Option<String>,
    reason: Option<String>,
}

async fn close(
    State(Target { clients, .. }): State<Target>,
    Path(id): Path<String>,
    Query(CloseHow { how, reason }): Query<CloseHow>,
) -> Response {
    if how.as_deref() != Some("message") && clients.abort(&id) {
        return "aborted".into_response();
    }
    let reason = reason.unwrap_or_default();
    let sent = clients.close_connection_unacknowledged(&id, &reason).await;
    done("asked the service", sent)
}

#[derive(Deserialize)]
struct Question {
    q: Option<String>,
    timeout: Option<u64>,
}

async fn invoke(
    State(target): State<Target>,
    Path(id): Path<String>,
    Query(Question { q, timeout }): Query<Question>,
) -> Response {
    let recipient = target.clients.connection(&id);
    let question = q.unwrap_or_else(|| "q".to_owned());
    let answer = recipient.invoke("question", [question.into()]);
    let limit = Duration::from_secs(timeout.unwrap_or(10));
    match tokio::time::timeout(limit, answer).await {
        Ok(Ok(answer)) => answer
            .as_str()
            .unwrap_or_default()
            .to_owned()
            .into_response(),
        Ok(Err(error)) => failed(error),
        Err(_) => failed("the client has not answered in time"),
    }
}

#[derive(Deserialize)]
struct Whom {
    group: Option<String>,
    user: Option<String>,
}

async fn rate(
    State(Target { clients, .. }): State<Target>,
    Path((count, size)): Path<(u32, u32)>,
    Query(whom): Query<Whom>,
) -> Response {
    let recipients = match (whom.group, whom.user) {
        (Some(group), _) => clients.group(&group),
        (None, Some(user)) => clients.user(&user),
        (None, None) => clients.all(),
    };
    let text = "x".repeat((size as usize).min(RATE_BYTES_MAX));
    let begin = Instant::now();
    for _ in 0..count {
        let message: [Value; 2] = ["rate".into(), text.as_str().into()];
        if let Err(error) = recipients.send("recv", message).await {
            return failed(error);
        }
    }
    let took = begin.elapsed().as_secs_f64();
    let per_second = f64::from(count) / took.max(f64::MIN_POSITIVE);
    Json(json!({ "n": count, "size": size, "ms": took * 1e3, "perSecond": per_second.round() }))
        .into_response()
}

/// Bytes of a text sent by `/rate`.
const RATE_BYTES_MAX: usize = 16 << 20;

async fn connections(State(target): State<Target>) -> Response {
    Json(target.clients.connected_here()).into_response()
}

async fn exists(
    State(Target { clients, groups }): State<Target>,
    Path((what, id)): Path<(String, String)>,
) -> Response {
    match what.as_str() {
        "conn" => answer(clients.connection_exists(&id).await),
        "user" => answer(clients.user_exists(&id).await),
        "group" => answer(groups.exists(&id).await),
        _ => (StatusCode::BAD_REQUEST, "conn, user or group").into_response(),
    }
}

async fn in_group(
    State(target): State<Target>,
    Path((user, group)): Path<(String, String)>,
) -> Response {
    answer(target.groups.has_user(&user, &group).await)
}

#[derive(Deserialize)]
struct ChangeHow {
    ttl: Option<u64>,
    ack: Option<bool>,
}

async fn user_join(
    State(Target { groups, .. }): State<Target>,
    Path((user, group)): Path<(String, String)>,
    Query(ChangeHow { ttl, ack }): Query<ChangeHow>,
) -> Response {
    let lifetime = ttl.map(Duration::from_secs);
    if ack.unwrap_or(true) {
        answer(groups.add_user(&user, &group, lifetime).await)
    } else {
        let groups = groups.unacknowledged();
        done("sent", groups.add_user(&user, &group, lifetime).await)
    }
}

async fn user_leave(
    State(Target { groups, .. }): State<Target>,
    Path((user, group)): Path<(String, String)>,
    Query(ChangeHow { ack, .. }): Query<ChangeHow>,
) -> Response {
    if ack.unwrap_or(true) {
        answer(groups.remove_user(&user, &group).await)
    } else {
        let groups = groups.unacknowledged();
        done("sent", groups.remove_user(&user, Some(&group)).await)
    }
}

async fn user_leave_all(
    State(Target { groups, .. }): State<Target>,
    Path(user): Path<String>,
    Query(ChangeHow { ack, .. }): Query<ChangeHow>,
) -> Response {
    if ack.unwrap_or(true) {
        answer(groups.remove_user_from_all(&user).await)
    } else {
        done(
            "sent",
            groups.unacknowledged().remove_user(&user, None).await,
        )
    }
}

async fn connection_join(
    State(target): State<Target>,
    Path((id, group)): Path<(String, String)>,
) -> Response {
    done(
        "sent",
        target.groups.unacknowledged().add(&id, &group).await,
    )
}

async fn connection_leave(
    State(Target { groups, .. }): State<Target>,
    Path((id, group)): Path<(String, String)>,
    Query(ChangeHow { ack, .. }): Query<ChangeHow>,
) -> Response {
    if ack.unwrap_or(true) {
        answer(groups.remove(&id, &group).await)
    } else {
        let groups = groups.unacknowledged();
        done("sent", groups.remove(&id, Some(&group)).await)
    }
}

async fn connection_leave_all(
    State(Target { groups, .. }): State<Target>,
    Path(id): Path<String>,
    Query(ChangeHow { ack, .. }): Query<ChangeHow>,
) -> Response {
    if ack.unwrap_or(true) {
        answer(groups.remove_from_all(&id).await)
    } else {
        done("sent", groups.unacknowledged().remove(&id, None).await)
    }
}

#[derive(Deserialize)]
struct CloseWhich {
    reason: Option<String>,
    except: Option<String>,
}

impl CloseWhich {
    fn except(&self) -> Vec<&str> {
        let except = self.except.iter();
        except.flat_map(|ids| ids.split(',')).collect()
    }
}

async fn close_some(
    State(Target { clients, groups }): State<Target>,
    Path((what, id)): Path<(String, String)>,
    Query(which): Query<CloseWhich>,
) -> Response {
    let except = which.except();
    let close = Close {
        reason: which.reason.as_deref(),
        except: &except,
    };
    match what.as_str() {
        "conn" => answer(clients.close_connection(&id, close).await),
        "user" => answer(clients.close_user(&id, close).await),
        "group" => answer(groups.close(&id, close).await),
        _ => (
            StatusCode::BAD_REQUEST,
            "conn/ID, user/ID, group/NAME or all",
        )
            .into_response(),
    }
}

async fn close_all(State(target): State<Target>, Query(which): Query<CloseWhich>) -> Response {
    let except = which.except();
    let close = Close {
        reason: which.reason.as_deref(),
        except: &except,
    };
    answer(target.clients.close_all(close).await)
}

#[derive(Deserialize)]
struct HowMany {
    top: Option<u32>,
    page: Option<u32>,
}

async fn members(
    State(target): State<Target>,
    Path(group): Path<String>,
    Query(HowMany { top, page }): Query<HowMany>,
) -> Response {
    let query = MemberQuery {
        top,
        page_size: page,
    };
    let pages = target.groups.members(&group, query);
    match pages.try_collect::<Vec<_>>().await {
        Ok(pages) => Json(pages).into_response(),
        Err(error) => failed(error),
    }
}

async fn send(kind: &str, text: String, recipients: Recipients) -> Response {
    let sent: Result<(), SendError> = recipients.send("recv", [kind.into(), text.into()]).await;
    done("ok", sent)
}

fn answer(result: Result<bool, impl fmt::Display>) -> Response {
    match result {
        Ok(is_yes) => is_yes.to_string().into_response(),
        Err(error) => failed(error),
    }
}

fn done<T>(word: &'static str, result: Result<T, impl fmt::Display>) -> Response {
    match result {
        Ok(_) => word.into_response(),
        Err(error) => failed(error),
    }
}

fn failed(error: impl fmt::Display) -> Response {
    (StatusCode::INTERNAL_SERVER_ERROR, error.to_string()).into_response()
}

//! The client-server API, as far as the bridge uses it.

use std::collections::HashMap;
use std::sync::Arc;

use axum::extract::{Path, Query, Request, State};
use axum::http::{StatusCode, Uri};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post, put};
use axum::{Json, Router};
use serde_json::{Value, json};

use super::{ALIAS, AS_TOKEN, BOT, GHOSTS, HS_TOKEN, ROOM, SERVER, Shared, push};

type Hs = State<Arc<Shared>>;
type Params = Query<HashMap<String, String>>;

pub(super) fn router(shared: Arc<Shared>) -> Router {
    let room = |rest: &str| format!("/_matrix/client/v3/rooms/{{room}}/{rest}");
    Router::new()
        .route(
            "/_matrix/client/versions",
            get(|| async { Json(json!({"versions": ["v1.11"]})) }),
        )
        .route("/_matrix/client/v3/register", post(register))
        .route(
            "/_matrix/client/v3/account/whoami",
            get(|| async { Json(json!({"user_id": BOT})) }),
        )
        .route(
            "/_matrix/client/v3/profile/{user}/displayname",
            put(set_name),
        )
        .route("/_matrix/client/v1/appservice/{id}/ping", post(ping))
        .route("/_matrix/client/v3/directory/room/{alias}", get(resolve))
        .route("/_matrix/client/v3/join/{room}", post(join))
        .route(&room("invite"), post(invite))
        .route(&room("leave"), post(leave))
        .route(&room("send/m.room.message/{txn}"), put(send))
        .route(&room("messages"), get(messages))
        .route(&room("context/{event}"), get(context))
        .route(
            &room("state/m.room.encryption/"),
            get(|| async { not_found() }),
        )
        .route(&room("state/m.room.member/{user}"), get(member))
        .fallback(unknown)
        .layer(middleware::from_fn_with_state(shared.clone(), guard))
        .with_state(shared)
}

/// Holds requests while the server hangs, and lets nobody in without the token.
async fn guard(State(hs): Hs, request: Request, next: Next) -> Response {
    let mut held = hs.held.subscribe();
    held.wait_for(|held| !held).await.expect("the sender lives");
    let token = request
        .headers()
        .get("authorization")
        .and_then(|value| value.to_str().ok());
    if request.uri().path() != "/_matrix/client/versions"
        && token != Some(&format!("Bearer {AS_TOKEN}"))
    {
        return error(StatusCode::UNAUTHORIZED, "M_UNKNOWN_TOKEN");
    }
    next.run(request).await
}

fn error(status: StatusCode, errcode: &str) -> Response {
    (
        status,
        Json(json!({"errcode": errcode, "error": "said the scripted server"})),
    )
        .into_response()
}

fn forbidden() -> Response {
    error(StatusCode::FORBIDDEN, "M_FORBIDDEN")
}

fn not_found() -> Response {
    error(StatusCode::NOT_FOUND, "M_NOT_FOUND")
}

fn ok() -> Response {
    Json(json!({})).into_response()
}

async fn unknown(State(hs): Hs, uri: Uri) -> Response {
    hs.record.surprise(format!("asked for {uri}"));
    error(StatusCode::NOT_FOUND, "M_UNRECOGNIZED")
}

/// The user that a request is made for; none when it is nobody's, or not made yet.
fn user(hs: &Shared, params: &Params) -> Option<String> {
    let user = params.get("user_id").map_or(BOT, String::as_str);
    let is_ours = user == BOT || user.starts_with(GHOSTS);
    (is_ours && hs.state().names.contains_key(user)).then(|| user.to_owned())
}

async fn register(State(hs): Hs, Json(body): Json<Value>) -> Response {
    if body["type"] != "m.login.application_service" {
        return error(StatusCode::UNAUTHORIZED, "M_FORBIDDEN");
    }
    let user = format!(
        "@{}:{SERVER}",
        body["username"].as_str().unwrap_or_default()
    );
    if user != BOT && !user.starts_with(GHOSTS) {
        return error(StatusCode::BAD_REQUEST, "M_EXCLUSIVE");
    }
    let mut state = hs.state();
    if state.names.contains_key(&user) {
        return error(StatusCode::BAD_REQUEST, "M_USER_IN_USE");
    }
    state.names.insert(user.clone(), user.clone());
    Json(json!({"user_id": user})).into_response()
}

async fn set_name(
    State(hs): Hs,
    Path(whose): Path<String>,
    params: Params,
    Json(body): Json<Value>,
) -> Response {
    let Some(user) = user(&hs, &params).filter(|user| *user == whose) else {
        return forbidden();
    };
    hs.state().names.insert(
        user,
        body["displayname"].as_str().unwrap_or_default().to_owned(),
    );
    ok()
}

async fn ping(State(hs): Hs) -> Response {
    let caller = hs.caller.borrow().clone();
    let Some(caller) = caller else {
        return error(StatusCode::BAD_GATEWAY, "M_CONNECTION_FAILED");
    };
    match push::call(
        &caller,
        "POST",
        "/_matrix/app/v1/ping",
        Some(HS_TOKEN),
        "{}",
    )
    .await
    {
        200 => {
            hs.pings.send_modify(|pings| *pings += 1);
            Json(json!({"duration_ms": 1})).into_response()
        }
        _ => error(StatusCode::BAD_GATEWAY, "M_BAD_STATUS"),
    }
}

async fn resolve(Path(alias): Path<String>) -> Response {
    if alias != ALIAS {
        return not_found();
    }
    Json(json!({"room_id": ROOM, "servers": [SERVER]})).into_response()
}

/// The bot may enter; ghosts need its invitation.
async fn join(State(hs): Hs, Path(room): Path<String>, params: Params) -> Response {
    let Some(user) = user(&hs, &params).filter(|_| room == ROOM) else {
        return forbidden();
    };
    let mut state = hs.state();
    let before = state.members.get(&user).cloned();
    if user != BOT && before.is_none() {
        return forbidden();
    }
    if before.as_deref() != Some("join") {
        let name = state.names.get(&user).cloned();
        state.members.insert(user.clone(), "join".to_owned());
        let content = json!({"membership": "join", "displayname": name});
        let event = state.event("m.room.member", &user, Some(&user), content);
        drop(state);
        hs.push(event, 0);
    }
    Json(json!({"room_id": ROOM})).into_response()
}

async fn invite(State(hs): Hs, Path(room): Path<String>, Json(body): Json<Value>) -> Response {
    let whom = body["user_id"].as_str().unwrap_or_default().to_owned();
    let mut state = hs.state();
    if room != ROOM
        || state.members.get(BOT).map(String::as_str) != Some("join")
        || state.members.contains_key(&whom)
    {
        return forbidden();
    }
    state.members.insert(whom, "invite".to_owned());
    ok()
}

async fn leave(State(hs): Hs, params: Params) -> Response {
    let Some(user) = user(&hs, &params) else {
        return forbidden();
    };
    hs.state().members.remove(&user);
    hs.record.surprise(format!("{user} left"));
    ok()
}

async fn send(
    State(hs): Hs,
    Path((room, txn)): Path<(String, String)>,
    params: Params,
    Json(content): Json<Value>,
) -> Response {
    let Some(user) = user(&hs, &params).filter(|_| room == ROOM) else {
        return forbidden();
    };
    let (answer, is_lost) = land(&hs, &user, txn, &content);
    if is_lost {
        hs.lost.send_modify(|lost| *lost += 1);
        std::future::pending::<()>().await;
    }
    answer
}

/// Puts a message into the room. Says whether the server ends before it can answer.
fn land(hs: &Shared, user: &str, txn: String, content: &Value) -> (Response, bool) {
    let refused = |response| (response, false);
    let (Some(body), Some(_)) = (content["body"].as_str(), content["msgtype"].as_str()) else {
        hs.record
            .surprise(format!("a message without body or type: {content}"));
        return refused(error(StatusCode::BAD_REQUEST, "M_BAD_JSON"));
    };
    let mut state = hs.state();
    if state.members.get(user).map(String::as_str) != Some("join") {
        return refused(forbidden());
    }
    if state.limited > 0 {
        state.limited -= 1;
        let body =
            json!({"errcode": "M_LIMIT_EXCEEDED", "error": "too fast", "retry_after_ms": 20});
        return refused((StatusCode::TOO_MANY_REQUESTS, Json(body)).into_response());
    }
    // Synapse's key is the application service's, not the ghost's.
    let meaning = format!("{user} {content}");
    if state
        .transactions
        .insert(txn.clone(), meaning.clone())
        .is_some_and(|before| before != meaning)
    {
        hs.record
            .surprise(format!("transaction id {txn} has two meanings"));
    }
    let author = state.names.get(user).cloned().unwrap_or_default();
    hs.record.show(author, body);
    let event = state.event("m.room.message", user, None, content.clone());
    let id = event["event_id"].clone();
    let is_lost = state.losing > 0;
    state.losing = state.losing.saturating_sub(1);
    drop(state);
    hs.push(event, 0);
    (Json(json!({"event_id": id})).into_response(), is_lost)
}

/// Pages of three, so that a look back has to turn them. What the filter leaves out is on no page.
async fn messages(State(hs): Hs, params: Params) -> Response {
    let state = hs.state();
    let timeline: Vec<&Value> = passing(&state.timeline, &params);
    let is_forward = params.get("dir").map(String::as_str) == Some("f");
    let from = params.get("from").and_then(|from| from.parse().ok());
    let from = from.unwrap_or(if is_forward { 0 } else { timeline.len() });
    let until = if is_forward {
        timeline.len().min(from + 3)
    } else {
        from.saturating_sub(3)
    };
    let mut chunk = timeline[from.min(until)..from.max(until)].to_vec();
    if !is_forward {
        chunk.reverse();
    }
    let mut page = json!({"start": from.to_string(), "chunk": chunk});
    // A real one does not know without looking whether anything follows, either.
    if until != from {
        page["end"] = until.to_string().into();
    }
    Json(page).into_response()
}

/// An event and the one after it.
async fn context(
    State(hs): Hs,
    Path((_, event)): Path<(String, String)>,
    params: Params,
) -> Response {
    let state = hs.state();
    let timeline = passing(&state.timeline, &params);
    let Some(at) = timeline.iter().position(|it| it["event_id"] == *event) else {
        return not_found();
    };
    let after: Vec<&Value> = timeline.iter().skip(at + 1).take(1).copied().collect();
    let end = at + 1 + after.len();
    Json(json!({"event": timeline[at], "events_after": after, "end": end.to_string()}))
        .into_response()
}

/// What of a timeline gets through a request's filter.
fn passing<'a>(timeline: &'a [Value], params: &Params) -> Vec<&'a Value> {
    let filter: Value = params
        .get("filter")
        .and_then(|filter| serde_json::from_str(filter).ok())
        .unwrap_or_default();
    let named = |key: &str, field: &Value| {
        filter[key]
            .as_array()
            .is_none_or(|names| names.contains(field))
    };
    let passes =
        |event: &&Value| named("types", &event["type"]) && named("senders", &event["sender"]);
    timeline.iter().filter(passes).collect()
}

async fn member(State(hs): Hs, Path((_, user)): Path<(String, String)>) -> Response {
    let state = hs.state();
    match (state.names.get(&user), state.members.get(&user)) {
        (Some(name), membership) => {
            let membership = membership.map_or("join", String::as_str);
            Json(json!({"membership": membership, "displayname": name})).into_response()
        }
        _ => not_found(),
    }
}

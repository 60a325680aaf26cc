//! What the homeserver asks over HTTP, up to the point where the session takes over.
//!
//! Whoever does not show the token gets nothing. A transaction that cannot be read at all is
//! refused; one bad event in it is skipped, so that it cannot wedge the homeserver's queue.

use bytes::Bytes;
use comity_bridge::{HttpExchange, Reports};
use http::{Response, StatusCode, header::CONTENT_TYPE};
use tokio::sync::oneshot;
use tracing::debug;

use crate::config::Config;
use crate::wire::event::{RoomEvent, Transaction};
use crate::wire::push::{Asked, Token};

/// A homeserver packs up to a hundred events of 64 KiB into a transaction, and what it knows of
/// devices. The gateway refuses longer ones with 413.
pub(crate) const MAX_BODY: usize = 16 * 1024 * 1024;

/// A transaction that waits for its answer.
pub(crate) struct Pushed {
    pub(crate) events: Vec<RoomEvent>,
    pub(crate) reply: oneshot::Sender<Response<Bytes>>,
}

/// Answers at once what can be answered at once, and returns transactions.
pub(crate) fn admit(config: &Config, reports: &Reports, exchange: HttpExchange) -> Option<Pushed> {
    let HttpExchange {
        request,
        client,
        reply,
    } = exchange;
    match Token::check(request.headers(), config.hs_token.expose()) {
        Token::Right => {}
        Token::Wrong => {
            reports.skip("unauthorised", format!("a wrong token from {client}"));
            answer(
                reply,
                refusal(StatusCode::FORBIDDEN, "M_FORBIDDEN", "wrong token"),
            );
            return None;
        }
        Token::Missing => {
            reports.skip("unauthorised", format!("no token from {client}"));
            answer(
                reply,
                refusal(StatusCode::UNAUTHORIZED, "M_MISSING_TOKEN", "no token"),
            );
            return None;
        }
    }
    let response = match Asked::parse(&config.prefix, request.method(), request.uri().path()) {
        Asked::Transaction(id) => {
            debug!(transaction = %id, bytes = request.body().len(), "transaction");
            match Transaction::parse(request.body()) {
                Ok(transaction) => {
                    return Some(Pushed {
                        events: read(&transaction, reports),
                        reply,
                    });
                }
                Err(error) => {
                    reports.skip(
                        "malformed",
                        format!("a transaction of {} bytes", request.body().len()),
                    );
                    let code = if error.is_data() {
                        "M_BAD_JSON"
                    } else {
                        "M_NOT_JSON"
                    };
                    refusal(StatusCode::BAD_REQUEST, code, "not a transaction")
                }
            }
        }
        Asked::Ping => done(),
        Asked::User(user) if user == *config.names.bot().as_str() => done(),
        // A ghost is made when its author first speaks, and there are no aliases of ours.
        Asked::User(_) | Asked::Room(_) => {
            refusal(StatusCode::NOT_FOUND, "M_NOT_FOUND", "not here")
        }
        Asked::OtherMethod => refusal(
            StatusCode::METHOD_NOT_ALLOWED,
            "M_UNRECOGNIZED",
            "another method",
        ),
        Asked::Unknown => refusal(StatusCode::NOT_FOUND, "M_UNRECOGNIZED", "no such path"),
    };
    answer(reply, response);
    None
}

fn read(transaction: &Transaction, reports: &Reports) -> Vec<RoomEvent> {
    let mut events = Vec::with_capacity(transaction.events.len());
    for raw in &transaction.events {
        match RoomEvent::parse(raw) {
            Ok(event) => events.push(event),
            Err(error) => reports.skip(
                "malformed",
                format!("an event of {} bytes: {error}", raw.get().len()),
            ),
        }
    }
    events
}

pub(crate) fn done() -> Response<Bytes> {
    json(StatusCode::OK, "{}".to_owned())
}

/// Come again later.
pub(crate) fn later() -> Response<Bytes> {
    refusal(
        StatusCode::SERVICE_UNAVAILABLE,
        "M_UNKNOWN",
        "busy, send it again",
    )
}

fn refusal(status: StatusCode, errcode: &str, error: &str) -> Response<Bytes> {
    json(
        status,
        serde_json::json!({"errcode": errcode, "error": error}).to_string(),
    )
}

fn json(status: StatusCode, body: String) -> Response<Bytes> {
    let mut response = Response::new(Bytes::from(body));
    *response.status_mut() = status;
    response.headers_mut().insert(
        CONTENT_TYPE,
        http::HeaderValue::from_static("application/json"),
    );
    response
}

/// Whether anybody has waited for it. Whoever asked may be gone.
pub(crate) fn answer(reply: oneshot::Sender<Response<Bytes>>, response: Response<Bytes>) -> bool {
    reply.send(response).is_ok()
}

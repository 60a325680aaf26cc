//! What other servers may ask of us (PROTOCOL 8, 9): who asks is proved here, what they get is in the modules below.
//!
//! Nothing that a stranger sends is looked at further than needed to refuse it.

mod gate;
mod push;
mod receive;
mod rooms;

use std::sync::Arc;

use bytes::Bytes;
use http::header::{CONTENT_TYPE, HOST, HeaderValue, RETRY_AFTER};
use http::{Method, Request, Response, StatusCode};
use serde::Serialize;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::ident::ServerName;
use crate::node::Node;
use crate::session::ShelfError;
use crate::wire::api::{
    ALIAS_PREFIX, GET_PATH, HEADS_PATH, HELLO_PATH, JOIN_PATH, KEYS_PATH, MAX_GET_IDS, MAX_PUSH,
    MAX_PUSH_EVENTS, MAX_REQUEST, MISSED_PATH, PUSH_PATH, Problem,
};
use crate::wire::requests::{self, Covered};

pub use gate::Gate;
pub use receive::{Entry, retry_all_pending, take_entry, take_given, take_named};

/// Answers requests of other servers.
pub struct Server {
    node: Arc<Node>,
    gate: Gate,
    shutdown: CancellationToken,
}

/// Why a request is not answered as it hoped.
#[derive(Debug)]
pub(crate) struct Refusal {
    status: StatusCode,
    error: &'static str,
    reason: String,
    retry_after: Option<u64>,
}

impl Refusal {
    fn new(status: StatusCode, error: &'static str, reason: impl Into<String>) -> Self {
        Self {
            status,
            error,
            reason: reason.into(),
            retry_after: None,
        }
    }

    /// Ask again later; nothing is wrong with the request.
    fn later(status: StatusCode, reason: impl Into<String>, secs: u64) -> Self {
        Self {
            retry_after: Some(secs),
            ..Self::new(status, "later", reason)
        }
    }

    /// The one answer for a room that we lack and for one that the asker is not in (attack F15).
    fn forbidden() -> Self {
        Self::new(
            StatusCode::FORBIDDEN,
            "forbidden",
            "unknown room, or not a member of it",
        )
    }

    fn malformed(reason: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "malformed", reason)
    }
}

impl From<ShelfError> for Refusal {
    fn from(error: ShelfError) -> Self {
        tracing::error!(%error, "request not answered");
        if error == ShelfError::Fault {
            let reason = "a fault of this server";
            return Self::new(StatusCode::INTERNAL_SERVER_ERROR, "fault", reason);
        }
        Self::later(
            StatusCode::SERVICE_UNAVAILABLE,
            "the store does not work",
            10,
        )
    }
}

type Answer = Result<Vec<u8>, Refusal>;

impl Server {
    pub fn new(node: Arc<Node>, shutdown: CancellationToken) -> Self {
        Self {
            node,
            gate: Gate::default(),
            shutdown,
        }
    }

    pub async fn answer(&self, request: Request<Bytes>) -> Response<Bytes> {
        let answer = self.route(&request).await;
        match answer {
            Ok(body) => respond(StatusCode::OK, body, None),
            Err(refusal) => {
                if refusal.status.is_client_error() {
                    let detail = format!(
                        "{} {}: {}",
                        request.method(),
                        request.uri().path(),
                        refusal.reason
                    );
                    self.node.reports.skip(refusal.error, clip(&detail));
                }
                let Refusal {
                    status,
                    error,
                    reason,
                    retry_after,
                } = refusal;
                let problem = Problem {
                    error: error.to_owned(),
                    reason,
                    retry_after,
                };
                respond(status, to_json(&problem), retry_after)
            }
        }
    }

    async fn route(&self, request: &Request<Bytes>) -> Answer {
        let path = request.uri().path();
        let method = request.method();
        match (method, path) {
            (&Method::GET, KEYS_PATH) => return Ok(self.node.document().to_bytes()),
            (&Method::GET, HELLO_PATH) => return Ok(self.hello()),
            _ => {}
        }
        let name = path
            .strip_prefix("/_chat/v1/")
            .map(|rest| rest.split('/').next().unwrap_or(""));
        match name {
            Some("push" | "get" | "heads" | "missed" | "join" | "alias") => {}
            Some("reconcile" | "backfill" | "invite" | "knock" | "user" | "media") => {
                let reason = "this version of the software does not implement it (PROTOCOL 14)";
                return Err(Refusal::new(
                    StatusCode::NOT_IMPLEMENTED,
                    "not-implemented",
                    reason,
                ));
            }
            _ => {
                return Err(Refusal::new(
                    StatusCode::NOT_FOUND,
                    "not-found",
                    "no such endpoint",
                ));
            }
        }
        let limit = if path == PUSH_PATH {
            MAX_PUSH
        } else {
            MAX_REQUEST
        };
        if request.body().len() > limit {
            return Err(Refusal::new(
                StatusCode::PAYLOAD_TOO_LARGE,
                "too-large",
                format!("at most {limit} bytes"),
            ));
        }
        let peer = self.authenticate(request).await?;
        let _turn = self
            .gate
            .enter(&peer, self.node.now_ms() / 1000)
            .ok_or_else(|| {
                Refusal::later(
                    StatusCode::TOO_MANY_REQUESTS,
                    "too many requests of yours are under way",
                    1,
                )
            })?;
        let body = request.body();
        match (method, path) {
            (&Method::POST, PUSH_PATH) => push::push(&self.node, &self.shutdown, &peer, body).await,
            (&Method::POST, JOIN_PATH) => {
                rooms::join(&self.node, &self.shutdown, &peer, body).await
            }
            (&Method::POST, GET_PATH) => rooms::get(&self.node, &peer, body).await,
            (&Method::POST, HEADS_PATH) => {
                let answer = rooms::heads(&self.node, &peer, body).await;
                if answer.is_ok() {
                    // Whoever asks was away, or could not reach us: perhaps it is we who missed something.
                    self.node.catch_up.asked_by(&peer, Instant::now());
                }
                answer
            }
            (&Method::POST, MISSED_PATH) => rooms::missed(&self.node, &peer, body).await,
            (&Method::GET, _) if path.starts_with(ALIAS_PREFIX) => {
                rooms::alias(&self.node, path.strip_prefix(ALIAS_PREFIX).unwrap_or("")).await
            }
            _ => Err(Refusal::new(
                StatusCode::METHOD_NOT_ALLOWED,
                "method",
                "another method is meant here",
            )),
        }
    }

    /// Proves who asks (PROTOCOL 8.2).
    async fn authenticate(&self, request: &Request<Bytes>) -> Result<ServerName, Refusal> {
        let refused =
            |reason: String| Refusal::new(StatusCode::UNAUTHORIZED, "unauthorised", reason);
        let own = self.node.server();
        let authority = authority(request)
            .ok_or_else(|| refused("Host is missing, or given twice".to_owned()))?;
        if authority != own.as_str() {
            return Err(refused(
                "the request is meant for another server".to_owned(),
            ));
        }
        let covered = Covered {
            method: request.method().as_str(),
            authority: own.as_str(),
            path: request.uri().path(),
            query: request.uri().query(),
            body: request.body(),
        };
        let claim = requests::parse(covered, request.headers())
            .map_err(|error| refused(error.to_string()))?;
        // Our own name in a stranger's request opened every door in an earlier protocol (hole L1).
        if claim.server == *own {
            return Err(refused(
                "the request bears this server's own name".to_owned(),
            ));
        }
        if !self.node.lists.admit(&claim.server) {
            return Err(Refusal::forbidden());
        }
        let now_ms = self.node.now_ms();
        claim
            .check_time(now_ms / 1000)
            .map_err(|error| refused(error.to_string()))?;
        let keys = self
            .node
            .keyring
            .get_for_stranger(&claim.server, &claim.kid, now_ms)
            .await
            .map_err(|error| {
                let reason = format!("the keys of {} are not to be had: {error}", claim.server);
                if error.is_ours() {
                    return Refusal::later(StatusCode::TOO_MANY_REQUESTS, reason, 2);
                }
                Refusal {
                    error: "unauthorised",
                    ..Refusal::later(StatusCode::UNAUTHORIZED, reason, 2)
                }
            })?;
        claim
            .verify(&keys)
            .map_err(|error| refused(error.to_string()))?;
        if !self.gate.is_new(&claim.server, &claim.nonce, now_ms / 1000) {
            return Err(refused("the request was here before".to_owned()));
        }
        self.node.keyring.heard_from(&claim.server);
        self.node.peers.heard_from(&claim.server);
        self.node.catch_up.heard_from(&claim.server, Instant::now());
        Ok(claim.server)
    }

    fn hello(&self) -> Vec<u8> {
        to_json(&serde_json::json!({
            "versions": [1],
            "server": self.node.server(),
            "software": concat!("comity/", env!("CARGO_PKG_VERSION")),
            "limits": { "push_bytes": MAX_PUSH, "push_events": MAX_PUSH_EVENTS, "get_ids": MAX_GET_IDS },
            "features": ["missed"],
            "clock": self.node.now_ms(),
        }))
    }
}

/// The authority that the request names: of the URI in HTTP/2, else of the one `Host` header.
fn authority(request: &Request<Bytes>) -> Option<&str> {
    if let Some(authority) = request.uri().authority() {
        return Some(authority.as_str());
    }
    let mut hosts = request.headers().get_all(HOST).iter();
    match (hosts.next(), hosts.next()) {
        (Some(host), None) => host.to_str().ok(),
        _ => None,
    }
}

fn respond(status: StatusCode, body: Vec<u8>, retry_after: Option<u64>) -> Response<Bytes> {
    let mut response = Response::new(Bytes::from(body));
    *response.status_mut() = status;
    response
        .headers_mut()
        .insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    if let Some(secs) = retry_after {
        response
            .headers_mut()
            .insert(RETRY_AFTER, HeaderValue::from(secs));
    }
    response
}

fn to_json(value: &impl Serialize) -> Vec<u8> {
    serde_json::to_vec(value).expect("names, numbers and raw JSON only")
}

fn clip(text: &str) -> String {
    text.chars().filter(|c| !c.is_control()).take(300).collect()
}

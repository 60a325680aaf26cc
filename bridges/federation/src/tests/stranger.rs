//! A server played by hand: it may sign and send whatever it likes.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use http::{Method, Request, Response};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use tokio::sync::watch;

use super::{Wire, server};
use crate::ident::{EventId, ServerName, UserAddress};
use crate::identity::Identity;
use crate::node::random_text;
use crate::session::compose::{Author, Place};
use crate::wire::api::{
    self, ALIAS_PREFIX, AliasAnswer, JOIN_PATH, Join, JoinAnswer, PUSH_PATH, Push, PushAnswer,
};
use crate::wire::event::{Draft, Event};
use crate::wire::requests::{self, Covered, Headers};
use comity_bridge::Clock;
use comity_bridge::test_util::{Harness, HttpCaller};

pub(super) type Routes = Arc<Mutex<HashMap<String, Vec<u8>>>>;

/// A stranger, who answers with a key document when asked for one.
pub(super) struct Stranger {
    pub(super) author: Author,
    pub(super) identity: Identity,
    wire: Wire,
    /// Answers by path, beside the key document.
    pub(super) routes: Routes,
    /// How often something was pushed to it.
    pub(super) pushed: watch::Sender<usize>,
    /// Its last event, its join among them, and its number.
    pub(super) place: Option<Place>,
    pub(super) membership: Option<EventId>,
    /// Its keys and its join, once it has entered a room.
    pub(super) entry: Vec<Event>,
    _listener: tokio::task::JoinHandle<()>,
}

impl Stranger {
    pub(super) fn new(name: &str, seed: u8, wire: &Wire) -> Self {
        let identity = Identity::from_seed(seed);
        let author = Author {
            server: server(name),
            key: identity.key.clone(),
        };
        let routes = Routes::default();
        let pushed = watch::Sender::new(0);
        let name = author.server.clone();
        let (caller, listener) =
            listen(name, identity.clone(), Arc::clone(&routes), pushed.clone());
        wire.connect(&author.server, caller);
        Self {
            author,
            identity,
            wire: wire.clone(),
            routes,
            pushed,
            place: None,
            membership: None,
            entry: Vec::new(),
            _listener: listener,
        }
    }

    pub(super) fn sign(
        &self,
        to: &str,
        method: &Method,
        path: &str,
        body: &[u8],
        created: u64,
    ) -> Headers {
        let covered = Covered {
            method: method.as_str(),
            authority: to,
            path,
            query: None,
            body,
        };
        requests::sign(
            covered,
            &self.author.server,
            &self.author.key,
            created,
            &random_text(20),
        )
    }

    pub(super) fn request(
        &self,
        to: &str,
        method: Method,
        path: &str,
        body: Vec<u8>,
    ) -> Request<Bytes> {
        let signed = self.sign(to, &method, path, &body, now_ms() / 1000);
        build(method, path, body, &signed)
    }

    pub(super) async fn send(&self, to: &str, request: Request<Bytes>) -> Response<Bytes> {
        use crate::client::Transport as _;
        self.wire
            .send(
                &server(to),
                request,
                1 << 24,
                std::time::Duration::from_secs(30),
            )
            .await
            .expect("an answer")
    }

    pub(super) async fn ask<T: DeserializeOwned>(
        &self,
        to: &str,
        method: Method,
        path: &str,
        body: Value,
    ) -> (u16, Option<T>) {
        let body = if body.is_null() {
            Vec::new()
        } else {
            serde_json::to_vec(&body).expect("JSON")
        };
        let answer = self.send(to, self.request(to, method, path, body)).await;
        (
            answer.status().as_u16(),
            serde_json::from_slice(answer.body()).ok(),
        )
    }

    /// Enters a room as an honest server does.
    pub(super) async fn join(&mut self, to: &str, name: &str) -> JoinAnswer {
        let (status, found) = self
            .ask::<AliasAnswer>(
                to,
                Method::GET,
                &format!("{ALIAS_PREFIX}{name}"),
                Value::Null,
            )
            .await;
        let found = found.unwrap_or_else(|| panic!("alias answered {status}"));
        let place = Place {
            room: found.room.clone(),
            parents: found.heads,
            depth: found.depth,
            hlc: (0, 0),
            previous: None,
        };
        let document = self.identity.document(&self.author.server, now_ms());
        let [keys, join] = self
            .author
            .entry(&place, &document, now_ms())
            .expect("well formed");
        self.follow(&join);
        self.membership = Some(join.id.clone());
        self.entry = vec![keys, join];
        let events = self
            .entry
            .iter()
            .cloned()
            .filter_map(|event| api::raw(event.into_bytes()))
            .collect();
        let body = serde_json::to_value(Join {
            room: found.room,
            events,
        })
        .expect("JSON");
        let (status, answer) = self.ask(to, Method::POST, JOIN_PATH, body).await;
        answer.unwrap_or_else(|| panic!("join answered {status}"))
    }

    /// The next event goes after this one.
    pub(super) fn follow(&mut self, event: &Event) {
        self.place = Some(Place {
            room: event.room.clone(),
            parents: vec![event.id.clone()],
            depth: event.depth,
            hlc: event.hlc,
            previous: Some((event.seq, event.id.clone())),
        });
    }

    /// A message of the server's own user, ready to be bent.
    pub(super) fn draft(&self, text: &str) -> Draft {
        let place = self.place.clone().expect("joined");
        let (seq, previous) = place.previous.expect("joined");
        Draft {
            room: Some(place.room),
            kind: "message",
            origin: self.author.server.clone(),
            sender: self.author.server.gateway(),
            seq: seq + 1,
            previous: Some(previous),
            parents: place.parents,
            auth: vec![self.membership.clone().expect("joined")],
            depth: place.depth + 1,
            hlc: (now_ms(), 0),
            body: json!({ "author": { "name": "mallory" }, "content": { "type": "message", "kind": "text", "text": { "plain": text } } }),
            prov: Vec::new(),
        }
    }

    /// Pushes events and returns status and code of each, `ok` without a code.
    pub(super) async fn push(&self, to: &str, events: &[&[u8]]) -> Vec<String> {
        let answer = self.push_raw(to, events).await;
        answer
            .results
            .into_iter()
            .map(|result| {
                result
                    .code
                    .unwrap_or_else(|| format!("{:?}", result.status).to_lowercase())
            })
            .collect()
    }

    pub(super) async fn push_raw(&self, to: &str, events: &[&[u8]]) -> PushAnswer {
        let events = events
            .iter()
            .map(|bytes| api::raw(bytes.to_vec()).expect("JSON"))
            .collect();
        let push = Push {
            txn: random_text(20),
            events,
        };
        let body = serde_json::to_vec(&push).expect("JSON");
        let answer = self
            .send(to, self.request(to, Method::POST, PUSH_PATH, body))
            .await;
        serde_json::from_slice(answer.body())
            .unwrap_or_else(|_| panic!("push answered {} {:?}", answer.status(), answer.body()))
    }

    pub(super) fn user(&self, local: &str) -> UserAddress {
        UserAddress::parse(&format!("{local}@{}", self.author.server)).expect("an address")
    }
}

pub(super) fn build(method: Method, path: &str, body: Vec<u8>, signed: &Headers) -> Request<Bytes> {
    Request::builder()
        .method(method)
        .uri(path)
        .header("content-digest", &signed.content_digest)
        .header("signature-input", &signed.signature_input)
        .header("signature", &signed.signature)
        .body(Bytes::from(body))
        .expect("well formed")
}

pub(super) fn now_ms() -> u64 {
    u64::try_from(Clock::System.now().0).expect("after 1970")
}

/// An HTTP server that has a key document, and whatever else the test says.
fn listen(
    name: ServerName,
    identity: Identity,
    routes: Routes,
    pushed: watch::Sender<usize>,
) -> (HttpCaller, tokio::task::JoinHandle<()>) {
    let (harness, mut link) = Harness::link("stranger");
    let caller = harness.http_caller();
    let listener = tokio::spawn(async move {
        let _harness = harness;
        while let Some(exchange) = link.http.recv().await {
            let path = exchange.request.uri().path();
            if path == PUSH_PATH {
                pushed.send_modify(|count| *count += 1);
            }
            let body = match path {
                api::KEYS_PATH => Some(identity.document(&name, now_ms()).to_bytes()),
                _ => routes.lock().expect("no panic").get(path).cloned(),
            };
            let mut answer = Response::new(Bytes::from(body.clone().unwrap_or_default()));
            if body.is_none() {
                *answer.status_mut() = http::StatusCode::NOT_FOUND;
            }
            drop(exchange.reply.send(answer));
        }
    });
    (caller, listener)
}

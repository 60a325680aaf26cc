//! A scripted homeserver: one room, the part of the client-server API that the bridge uses, and
//! transactions that are sent again until they are taken.
//!
//! Like a real one it keeps what it pushes until it is acknowledged, and shows the application
//! service its own ghosts' messages. Unlike a real one it has no memory for transaction ids, so
//! that looking into the room is the only way out of doubt; one id with two meanings is noted as
//! a surprise.

mod api;
mod push;

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use comity_bridge::test_util::HttpCaller;
use comity_bridge::test_util::conformance::Record;
use serde_json::{Value, json};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;

pub(crate) const SERVER: &str = "hs.test";
pub(crate) const ROOM: &str = "!room:hs.test";
pub(crate) const ALIAS: &str = "#rust:hs.test";
pub(crate) const AS_TOKEN: &str = "as-token-of-the-test";
pub(crate) const HS_TOKEN: &str = "hs-token-of-the-test";
pub(crate) const BOT: &str = "@comity_gw1.example_far:hs.test";
const GHOSTS: &str = "@_comity_gw1.example_far_";

/// The server. Its tasks end with the test's runtime.
pub(crate) struct Homeserver {
    shared: Arc<Shared>,
    address: SocketAddr,
    connections: Arc<Mutex<JoinSet<()>>>,
}

struct Shared {
    record: Record,
    state: Mutex<State>,
    pushes: mpsc::UnboundedSender<push::Push>,
    caller: watch::Sender<Option<HttpCaller>>,
    /// What is in the queue and has not been taken.
    pending: watch::Sender<usize>,
    held: watch::Sender<bool>,
    /// Pings of the bridge that came through.
    pings: watch::Sender<usize>,
    /// Messages that landed and whose answers nobody got.
    lost: watch::Sender<usize>,
}

#[derive(Default)]
struct State {
    names: HashMap<String, String>,
    members: HashMap<String, String>,
    timeline: Vec<Value>,
    transactions: HashMap<String, String>,
    events: u64,
    last_said: Option<Value>,
    /// How many of the next messages are refused for their rate, and of how many the answer gets lost.
    limited: usize,
    losing: usize,
}

impl Homeserver {
    pub(crate) async fn start() -> Self {
        let (pushes, queue) = mpsc::unbounded_channel();
        let shared = Arc::new(Shared {
            record: Record::new(),
            state: Mutex::default(),
            pushes,
            caller: watch::Sender::new(None),
            pending: watch::Sender::new(0),
            held: watch::Sender::new(false),
            pings: watch::Sender::new(0),
            lost: watch::Sender::new(0),
        });
        tokio::spawn(push::run(shared.clone(), queue));

        let inner = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let behind = inner.local_addr().expect("bound");
        let app = api::router(shared.clone());
        tokio::spawn(async move { axum::serve(inner, app).await });

        // In front of it stands a relay whose connections can be cut.
        let outer = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = outer.local_addr().expect("bound");
        let connections = Arc::new(Mutex::new(JoinSet::new()));
        let open = connections.clone();
        tokio::spawn(async move {
            while let Ok((mut near, _)) = outer.accept().await {
                lock(&open).spawn(async move {
                    if let Ok(mut far) = TcpStream::connect(behind).await {
                        tokio::io::copy_bidirectional(&mut near, &mut far)
                            .await
                            .ok();
                    }
                });
            }
        });
        Self {
            shared,
            address,
            connections,
        }
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    pub(crate) fn record(&self) -> &Record {
        &self.shared.record
    }

    /// Transactions go here from now on.
    pub(crate) fn push_to(&self, caller: HttpCaller) {
        self.shared.caller.send_replace(Some(caller));
    }

    /// Somebody says something.
    pub(crate) fn say(&self, author: &str, text: &str) {
        let event = self.leave_behind(author, text);
        self.shared.push(event, 1);
    }

    /// Somebody says something that no transaction brings.
    pub(crate) fn leave_behind(&self, author: &str, text: &str) -> Value {
        let user = format!("@{author}:{SERVER}");
        let content = json!({"msgtype": "m.text", "body": text});
        let mut state = self.shared.state();
        state.names.insert(user.clone(), author.to_owned());
        let event = state.event("m.room.message", &user, None, content);
        state.last_said = Some(event.clone());
        event
    }

    /// The last said line once more, in another transaction (synapse #11447).
    pub(crate) fn repeat(&self) {
        let event = self.shared.state().last_said.clone();
        if let Some(event) = event {
            self.shared.push(event, 0);
        }
    }

    /// Pushes something as it is; returns the status of the answer.
    pub(crate) async fn push_raw(&self, path: &str, token: Option<&str>, body: &str) -> u16 {
        let caller = self
            .shared
            .caller
            .borrow()
            .clone()
            .expect("a bridge is running");
        push::call(&caller, "PUT", path, token, body).await
    }

    /// Waits until everything that was pushed has been taken.
    pub(crate) async fn all_taken(&self) {
        self.shared
            .pending
            .subscribe()
            .wait_for(|pending| *pending == 0)
            .await
            .expect("the sender lives");
    }

    pub(crate) async fn ping(&self) {
        let caller = self
            .shared
            .caller
            .borrow()
            .clone()
            .expect("a bridge is running");
        push::call(
            &caller,
            "POST",
            "/_matrix/app/v1/ping",
            Some(HS_TOKEN),
            "{}",
        )
        .await;
    }

    pub(crate) fn cut(&self) {
        lock(&self.connections).abort_all();
    }

    /// The next messages are refused: too many in too short a time.
    pub(crate) fn limit(&self, messages: usize) {
        self.shared.state().limited = messages;
    }

    /// The next message lands, and the server ends before it can answer. It knows nothing of transaction ids afterwards.
    pub(crate) async fn restart_at_next_message(&self) {
        let mut lost = self.shared.lost.subscribe();
        let before = *lost.borrow_and_update();
        self.shared.state().losing = 1;
        lost.wait_for(|lost| *lost > before)
            .await
            .expect("the sender lives");
        self.cut();
    }

    /// Somebody takes back what was said last.
    pub(crate) fn redact_last(&self) {
        let mut state = self.shared.state();
        let last = state.timeline.last_mut().expect("something was said");
        last["content"] = json!({});
        last["unsigned"] = json!({"redacted_because": {"type": "m.room.redaction"}});
    }

    pub(crate) fn hold(&self, held: bool) {
        self.shared.held.send_replace(held);
    }
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        lock(&self.state)
    }

    fn push(&self, event: Value, lines: usize) {
        self.pending.send_modify(|pending| *pending += 1);
        self.pushes.send(push::Push { event, lines }).ok();
    }
}

impl State {
    fn event(
        &mut self,
        kind: &str,
        sender: &str,
        state_key: Option<&str>,
        content: Value,
    ) -> Value {
        self.events += 1;
        let now = comity_bridge::Clock::System.now().0;
        let mut event = json!({
            "event_id": format!("$event{}", self.events), "room_id": ROOM, "type": kind, "sender": sender,
            "origin_server_ts": now, "content": content, "unsigned": {"age": 1},
        });
        if let Some(key) = state_key {
            event["state_key"] = key.into();
        }
        self.timeline.push(event.clone());
        event
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

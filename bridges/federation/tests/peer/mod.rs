//! A peer played by hand, with one room that the bridge under test joins.

use std::collections::HashSet;
use std::net::Ipv4Addr;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use comity_bridge::test_util::HttpCaller;
use comity_bridge::test_util::conformance::{Facts, FarSide, Opening, Record};
use comity_bridge::{Bridge, Clock};
use comity_federation::ident::{Alias, EventId, Kid, RoomId, ServerName};
use comity_federation::session::compose::Author;
use comity_federation::wire::api::*;
use comity_federation::wire::event::{Draft, Event};
use comity_federation::wire::keys::KeyDocument;
use comity_federation::wire::requests::{self, Covered};
use comity_federation::wire::sign::{OwnKey, hash_text};
use http::header::HOST;
use http::{Method, Request, Response, StatusCode};
use serde_json::{Value, json};
use tokio::sync::{mpsc, watch};

use crate::wire::World;
use crate::wire::https::{Handler, Https};

const NAME: &str = "far.example";
const GATEWAY: &str = "gw1.example";
const ALIAS: &str = "#rust@far.example";
/// The pause of a peer whose event was not confirmed: short, since tests wait for it.
const AGAIN: Duration = Duration::from_millis(50);

pub(crate) struct Peer {
    world: World,
    front: Https,
    shared: Arc<Shared>,
    pushes: mpsc::UnboundedSender<Vec<u8>>,
}

struct Shared {
    author: Author,
    record: Record,
    room: Mutex<Room>,
    caller: watch::Sender<Option<HttpCaller>>,
}

/// The peer's copy of the room.
struct Room {
    id: RoomId,
    events: Vec<Event>,
    known: HashSet<EventId>,
    join: EventId,
    /// The last event of all, on which the next one builds.
    last: Event,
    /// The last event of the peer's own.
    own: Event,
    last_said: Option<Vec<u8>>,
    last_heard: Option<Vec<u8>>,
    numbers: u64,
}

impl Peer {
    pub(crate) async fn start() -> Self {
        let world = World::new().await;
        let key = OwnKey::from_seed(Kid::parse("k1").expect("a name"), &[42; 32]);
        let author = Author {
            server: server(NAME),
            key,
        };
        let alias = Alias::parse(ALIAS).expect("an alias");
        let genesis = author
            .genesis(&alias, &document(&author), "far", now_ms())
            .expect("well formed");
        let join = author.first_join(&genesis, now_ms()).expect("well formed");
        let room = Room {
            id: genesis.room.clone(),
            known: [genesis.id.clone(), join.id.clone()].into(),
            join: join.id.clone(),
            last: join.clone(),
            own: join.clone(),
            events: vec![genesis, join],
            last_said: None,
            last_heard: None,
            numbers: 0,
        };
        let shared = Arc::new(Shared {
            author,
            record: Record::new(),
            room: Mutex::new(room),
            caller: watch::Sender::new(None),
        });
        let inside = Arc::clone(&shared);
        let handler: Handler = Arc::new(move |request| {
            let shared = Arc::clone(&inside);
            Box::pin(async move { shared.answer(&request).await })
        });
        let front = Https::start(world.certificate(NAME), handler).await;
        world.dns.srv(NAME, 10, front.address.port(), NAME);
        world.dns.a(NAME, Ipv4Addr::LOCALHOST);
        let (pushes, queue) = mpsc::unbounded_channel();
        tokio::spawn(push_all(Arc::clone(&shared), queue));
        Self {
            world,
            front,
            shared,
            pushes,
        }
    }
}

/// Pushes one event after the other, each until it is acknowledged: a peer keeps what was not.
async fn push_all(shared: Arc<Shared>, mut queue: mpsc::UnboundedReceiver<Vec<u8>>) {
    let mut callers = shared.caller.subscribe();
    while let Some(event) = queue.recv().await {
        let txn = hash_text(&event);
        loop {
            // Before there is a bridge, and after it has gone, nobody is asked.
            if callers.wait_for(Option::is_some).await.is_err() {
                return;
            }
            callers.mark_unchanged();
            if shared.push(&txn, &event).await {
                break;
            }
            // A gateway that cannot confirm an event now says how long to wait (PROTOCOL 8), and nothing when that is over.
            tokio::select! {
                _ = callers.changed() => {}
                () = tokio::time::sleep(AGAIN) => {}
            }
        }
        shared.record.acknowledge(1);
    }
}

impl Shared {
    fn room(&self) -> MutexGuard<'_, Room> {
        self.room.lock().expect("no panic")
    }

    /// Calls the bridge's endpoints; nothing while there is no bridge.
    async fn call(&self, method: Method, path: &str, body: Vec<u8>) -> Option<Response<Bytes>> {
        let caller = self.caller.borrow().clone()?;
        let nonce = {
            let mut room = self.room();
            room.numbers += 1;
            format!("nonce-nonce-nonce-{}", room.numbers)
        };
        let covered = Covered {
            method: method.as_str(),
            authority: GATEWAY,
            path,
            query: None,
            body: &body,
        };
        let signed = requests::sign(
            covered,
            &self.author.server,
            &self.author.key,
            now_ms() / 1000,
            &nonce,
        );
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header(HOST, GATEWAY)
            .header("content-digest", signed.content_digest)
            .header("signature-input", signed.signature_input)
            .header("signature", signed.signature)
            .body(Bytes::from(body))
            .expect("well formed");
        Some(caller.call(request).await)
    }

    async fn push(&self, txn: &str, event: &[u8]) -> bool {
        let events = vec![raw(event.to_vec()).expect("JSON")];
        let body = serde_json::to_vec(&Push {
            txn: txn.to_owned(),
            events,
        })
        .expect("JSON");
        let Some(answer) = self.call(Method::POST, PUSH_PATH, body).await else {
            return false;
        };
        let answer: Option<PushAnswer> = serde_json::from_slice(answer.body()).ok();
        answer.is_some_and(|answer| matches!(answer.results[0].status, Status::Ok | Status::Dup))
    }

    /// What the peer's people say.
    fn compose(&self, author: &str, text: &str) -> Vec<u8> {
        let mut room = self.room();
        let event = Draft {
            room: Some(room.id.clone()),
            kind: "message",
            origin: self.author.server.clone(),
            sender: self.author.server.gateway(),
            seq: room.own.seq + 1,
            previous: Some(room.own.id.clone()),
            parents: vec![room.last.id.clone()],
            auth: vec![room.join.clone()],
            depth: room.last.depth + 1,
            hlc: (now_ms(), 0),
            body: json!({ "author": { "name": author }, "content": { "type": "message", "kind": "text", "text": { "plain": text } } }),
            prov: Vec::new(),
        }
        .sign(&self.author.key)
        .expect("well formed");
        room.own = event.clone();
        room.keep(event.clone());
        room.last_said = Some(event.bytes().to_vec());
        event.into_bytes()
    }

    async fn answer(&self, request: &Request<Bytes>) -> Response<Bytes> {
        let path = request.uri().path();
        let answer = match path {
            KEYS_PATH => Some(document(&self.author).to_bytes()),
            _ if !self.is_signed(request).await => None,
            JOIN_PATH => self.join(request.body()),
            PUSH_PATH => self.take(request.body()),
            GET_PATH => self.get(request.body()),
            HEADS_PATH => self.heads(),
            MISSED_PATH => self.missed(request.body()),
            _ if path.starts_with(ALIAS_PREFIX) => self.alias(),
            _ => None,
        };
        let mut response = Response::new(Bytes::from(answer.clone().unwrap_or_default()));
        if answer.is_none() {
            *response.status_mut() = StatusCode::FORBIDDEN;
        }
        response
    }

    /// Every request of the bridge is signed, by the key in its document.
    async fn is_signed(&self, request: &Request<Bytes>) -> bool {
        let caller = self.caller.borrow().clone();
        let Some(caller) = caller else { return false };
        let keys = caller
            .call(
                Request::get(KEYS_PATH)
                    .body(Bytes::new())
                    .expect("well formed"),
            )
            .await;
        let Ok(keys) = KeyDocument::parse_fetched(keys.body(), &server(GATEWAY), now_ms()) else {
            return false;
        };
        let covered = Covered {
            method: request.method().as_str(),
            authority: NAME,
            path: request.uri().path(),
            query: request.uri().query(),
            body: request.body(),
        };
        let verified =
            requests::parse(covered, request.headers()).and_then(|claim| claim.verify(&keys));
        if let Err(error) = &verified {
            self.record
                .surprise(format!("{} is not signed: {error}", request.uri()));
        }
        verified.is_ok()
    }

    fn alias(&self) -> Option<Vec<u8>> {
        let room = self.room();
        serde_json::to_vec(&AliasAnswer {
            room: room.id.clone(),
            alias: Alias::parse(ALIAS).ok()?,
            join: "open".to_owned(),
            servers: vec![server(NAME)],
            heads: vec![room.last.id.clone()],
            depth: room.last.depth,
            auth: vec![room.id.genesis()],
        })
        .ok()
    }

    fn join(&self, body: &[u8]) -> Option<Vec<u8>> {
        let join: Join = serde_json::from_slice(body).ok()?;
        let mut room = self.room();
        for raw in join.events {
            let event = Event::parse(raw.get().as_bytes()).ok()?;
            room.keep(event);
        }
        let raw_of = |event: &Event| raw(event.bytes().to_vec()).expect("JSON");
        let state = room
            .events
            .iter()
            .filter(|event| matches!(event.kind.as_str(), "member" | "key.doc"));
        serde_json::to_vec(&JoinAnswer {
            genesis: raw_of(&room.events[0]),
            state: state.map(raw_of).collect(),
            auth: Vec::new(),
            edge: vec![raw_of(&room.own)],
            heads: vec![room.last.id.clone()],
            servers: vec![server(NAME), server(GATEWAY)],
        })
        .ok()
    }

    fn take(&self, body: &[u8]) -> Option<Vec<u8>> {
        let push: Push = serde_json::from_slice(body).ok()?;
        let mut results = Vec::new();
        for raw in push.events {
            let event = Event::parse(raw.get().as_bytes()).ok()?;
            let id = Some(event.id.clone());
            let mut room = self.room();
            if room.known.contains(&event.id) {
                results.push(EventResult::of(id, Status::Dup));
                continue;
            }
            if event.kind == "message" {
                let body = event.body.clone().unwrap_or_default();
                let text = |value: &Value| value.as_str().unwrap_or("").to_owned();
                self.record.show(
                    text(&body["author"]["name"]),
                    text(&body["content"]["text"]["plain"]),
                );
                room.last_heard = Some(event.bytes().to_vec());
            }
            room.keep(event);
            results.push(EventResult::of(id, Status::Ok));
        }
        serde_json::to_vec(&PushAnswer { results }).ok()
    }

    fn heads(&self) -> Option<Vec<u8>> {
        let room = self.room();
        let heads = RoomHeads {
            heads: vec![room.last.id.clone()],
            count: room.events.len() as u64,
        };
        let rooms = [(room.id.clone(), heads)].into();
        serde_json::to_vec(&HeadsAnswer { rooms }).ok()
    }

    fn missed(&self, body: &[u8]) -> Option<Vec<u8>> {
        let missed: Missed = serde_json::from_slice(body).ok()?;
        let room = self.room();
        let lacking = room.events.iter().filter(|event| {
            let have = missed.have.get(&event.origin);
            have.is_none_or(|seq| event.seq > *seq)
        });
        serde_json::to_vec(&MissedAnswer {
            events: lacking
                .filter_map(|event| raw(event.bytes().to_vec()))
                .take(MAX_MISSED)
                .collect(),
            more: false,
        })
        .ok()
    }

    fn get(&self, body: &[u8]) -> Option<Vec<u8>> {
        let get: Get = serde_json::from_slice(body).ok()?;
        let room = self.room();
        let wanted = room
            .events
            .iter()
            .filter(|event| get.ids.contains(&event.id));
        serde_json::to_vec(&GetAnswer {
            events: wanted
                .filter_map(|event| raw(event.bytes().to_vec()))
                .collect(),
        })
        .ok()
    }
}

impl Room {
    fn keep(&mut self, event: Event) {
        if self.known.insert(event.id.clone()) {
            if event.depth > self.last.depth {
                self.last = event.clone();
            }
            self.events.push(event);
        }
    }
}

#[async_trait]
impl FarSide for Peer {
    fn facts(&self) -> Facts {
        Facts {
            acknowledges: true,
            repeats: true,
            reflects: true,
            idempotent: true,
            standing: false,
        }
    }

    fn record(&self) -> &Record {
        &self.shared.record
    }

    fn channel(&self) -> String {
        ALIAS.to_owned()
    }

    fn patience(&self) -> Duration {
        Duration::from_secs(60)
    }

    async fn bridge(&mut self, opening: &Opening) -> Box<dyn Bridge> {
        self.shared.caller.send_replace(Some(opening.http.clone()));
        self.world.bridge(&opening.gateway, self.network(), true)
    }

    async fn say(&mut self, author: &str, text: &str) {
        self.pushes
            .send(self.shared.compose(author, text))
            .expect("the task lives");
    }

    async fn repeat(&mut self) {
        let said = self
            .shared
            .room()
            .last_said
            .clone()
            .expect("something was said");
        assert!(self.shared.push("said-again", &said).await);
    }

    async fn reflect(&mut self) {
        let heard = self
            .shared
            .room()
            .last_heard
            .clone()
            .expect("something was shown");
        assert!(self.shared.push("shown-again", &heard).await);
    }

    async fn settle(&mut self) {
        let answer = self
            .shared
            .call(Method::GET, HELLO_PATH, Vec::new())
            .await
            .expect("a bridge");
        assert_eq!(answer.status(), 200);
    }

    async fn garbage(&mut self) {
        let bodies: [&[u8]; 6] = [
            b"",
            b"[[[[",
            b"\xff\xfe\x00",
            br#"{"txn":"g1","events":[{},[],null,1.5,"x"]}"#,
            br#"{"txn":1,"events":{}}"#,
            br#"{"txn":"g2","events":[{"v":1,"type":"message","seq":1e999}]}"#,
        ];
        for body in bodies {
            for path in [
                PUSH_PATH,
                JOIN_PATH,
                GET_PATH,
                HEADS_PATH,
                "/_chat/v1/alias/%ff",
                "/_chat/v1/nothing",
            ] {
                self.shared
                    .call(Method::POST, path, body.to_vec())
                    .await
                    .expect("a bridge");
            }
        }
        let deep = [
            b"{\"txn\":\"g3\",\"events\":[".to_vec(),
            vec![b'['; 100_000],
            vec![b']'; 100_000],
            b"]}".to_vec(),
        ]
        .concat();
        self.shared
            .call(Method::POST, PUSH_PATH, deep)
            .await
            .expect("a bridge");
        self.shared
            .call(Method::POST, PUSH_PATH, vec![b' '; 5 << 20])
            .await
            .expect("a bridge");
    }

    async fn cut(&mut self) {
        self.front.cut();
    }

    async fn hold(&mut self) {
        self.front.hold(true);
    }

    async fn release(&mut self) {
        self.front.hold(false);
    }

    fn injections(&self, says: &str) -> Vec<String> {
        vec![
            format!("\r\n{says}"),
            format!("\"}}}}}},{{\"content\":{{\"text\":{{\"plain\":\"{says}\"}}}}}}"),
            format!("\u{0}\u{1f}\\\"{says}"),
        ]
    }
}

fn document(author: &Author) -> KeyDocument {
    KeyDocument::compose(
        &author.server,
        &author.key,
        &author.key.public().hash(),
        0,
        now_ms(),
    )
}

fn server(name: &str) -> ServerName {
    ServerName::parse(name).expect("a name")
}

fn now_ms() -> u64 {
    u64::try_from(Clock::System.now().0).expect("after 1970")
}

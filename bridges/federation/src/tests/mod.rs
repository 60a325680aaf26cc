//! Gateways in one process, joined by a wire without sockets: what they say to each other and to strangers.

mod attacks;
mod catch_up;
mod damage;
mod equivocation;
mod out_of_reach;
mod stranger;

use std::collections::{HashMap, HashSet};
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use comity_bridge::event::MessageKind;
use comity_bridge::test_util::{Harness, HttpCaller, Told};
use comity_bridge::{
    Access, Bridge as _, BridgeError, Channel, ChannelState, JoinOptions, Link, Outcome,
    RoomAddress,
};
use http::header::{HOST, HeaderValue};
use http::{Request, Response};
use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::bridge::{FederationBridge, UNCLAIMED};
use crate::client::{Transport, TransportError};
use crate::config::{Config, Lists};
use crate::ident::ServerName;

fn server(name: &str) -> ServerName {
    ServerName::parse(name).expect("a name")
}

/// The wire between gateways of one test.
#[derive(Clone, Default)]
struct Wire {
    callers: Arc<Mutex<HashMap<ServerName, HttpCaller>>>,
    cut: Arc<Mutex<HashSet<ServerName>>>,
    records: Arc<Mutex<HashMap<ServerName, String>>>,
    /// Requests to these make the task that sends them panic.
    traps: Arc<Mutex<HashSet<ServerName>>>,
    /// Counts requests that found nobody, so that a test can wait for an attempt.
    failures: Arc<watch::Sender<usize>>,
}

impl Wire {
    fn connect(&self, name: &ServerName, caller: HttpCaller) {
        self.callers
            .lock()
            .expect("no panic")
            .insert(name.clone(), caller);
    }

    fn cut(&self, name: &str) {
        self.cut.lock().expect("no panic").insert(server(name));
    }

    fn mend(&self, name: &str) {
        self.cut.lock().expect("no panic").remove(&server(name));
    }

    /// Waits for `count` more requests that find nobody.
    async fn failed(&self, count: usize) {
        let mut failures = self.failures.subscribe();
        let start = *failures.borrow();
        failures
            .wait_for(|now| *now >= start + count)
            .await
            .expect("the wire is there");
    }
}

#[async_trait]
impl Transport for Wire {
    async fn send(
        &self,
        name: &ServerName,
        mut request: Request<Bytes>,
        limit: usize,
        patience: Duration,
    ) -> Result<Response<Bytes>, TransportError> {
        let caller = self.callers.lock().expect("no panic").get(name).cloned();
        let is_trap = self.traps.lock().expect("no panic").contains(name);
        assert!(!is_trap, "on purpose");
        let is_cut = self.cut.lock().expect("no panic").contains(name);
        let Some(caller) = caller.filter(|_| !is_cut) else {
            self.failures.send_modify(|count| *count += 1);
            return Err(TransportError::Connect(
                name.to_string(),
                "nobody there".to_owned(),
            ));
        };
        request
            .headers_mut()
            .insert(HOST, HeaderValue::from_str(name.as_str()).expect("ASCII"));
        let answer = tokio::time::timeout(patience, caller.call(request)).await;
        let answer = answer.map_err(|_| TransportError::Timeout(name.clone()))?;
        if answer.body().len() > limit {
            return Err(TransportError::TooLong(name.clone(), limit));
        }
        Ok(answer)
    }

    async fn key_record(&self, name: &ServerName) -> Result<Option<String>, TransportError> {
        Ok(self.records.lock().expect("no panic").get(name).cloned())
    }
}

/// A bridge under test, with the gateway's side of it.
struct Gateway {
    name: ServerName,
    harness: Harness,
    wire: Wire,
    run: JoinHandle<Result<(), BridgeError>>,
    unclaimed: Duration,
}

impl Gateway {
    fn start(name: &str, wire: &Wire) -> Self {
        let (harness, link) = Harness::link("peers");
        // Signatures are slow without optimisation, on a machine that has other things to do.
        harness.set_patience(Duration::from_secs(60));
        let name = server(name);
        let run = run(&name, wire, link, UNCLAIMED);
        wire.connect(&name, harness.http_caller());
        Self {
            name,
            harness,
            wire: wire.clone(),
            run,
            unclaimed: UNCLAIMED,
        }
    }

    /// Ends the run and begins another on the same data.
    async fn restart(&mut self) {
        self.restart_after(|_| {}).await;
    }

    /// The same, with something done to the data between the runs.
    async fn restart_after(&mut self, between: impl FnOnce(&Path)) {
        self.harness.shutdown();
        (&mut self.run)
            .await
            .expect("no panic")
            .expect("a clean end");
        between(&self.harness.state_dir());
        self.begin_again();
    }

    /// Begins another run, after one that has ended.
    fn begin_again(&mut self) {
        let link = self.harness.relink();
        self.run = run(&self.name, &self.wire, link, self.unclaimed);
        self.wire.connect(&self.name, self.harness.http_caller());
    }

    fn channel(&self, alias: &str) -> Channel {
        self.harness.channel(alias)
    }

    async fn host(&self, alias: &str) -> Channel {
        let channel = self.channel(alias);
        self.harness
            .join(&channel, options(true, Access::Open))
            .await;
        self.harness.wait_for_joined(&channel).await;
        channel
    }

    async fn join(&self, alias: &str) -> Channel {
        let channel = self.channel(alias);
        self.harness
            .join(&channel, options(false, Access::Off))
            .await;
        self.harness.wait_for_joined(&channel).await;
        channel
    }

    /// Somebody on another network of this gateway says something in the room.
    async fn say(&self, channel: &Channel, author: &str, text: &str) -> String {
        let delivery = self
            .harness
            .deliver(channel, author, text, MessageKind::Text)
            .await;
        assert_eq!(delivery.outcome().await, Outcome::Shown);
        delivery.parts()[0][0].0.clone()
    }

    /// The texts of the events that this gateway has got.
    fn heard(&self) -> Vec<String> {
        self.harness.seen(|seen| {
            seen.events
                .iter()
                .filter_map(|taken| taken.text().map(str::to_owned))
                .collect()
        })
    }
}

fn run(
    name: &ServerName,
    wire: &Wire,
    link: Link,
    unclaimed: Duration,
) -> JoinHandle<Result<(), BridgeError>> {
    let config = Config {
        server: name.clone(),
        dns: None,
        ca_file: None,
        allow_addresses: Vec::new(),
        lists: Lists::open(),
    };
    let network = link.reports.network_name().clone();
    let bridge = Box::new(FederationBridge {
        network,
        config,
        transport: Some(Arc::new(wire.clone())),
        unclaimed,
    });
    tokio::spawn(bridge.run(link))
}

fn options(hosted: bool, access: Access) -> JoinOptions {
    let room = RoomAddress::new("rust", "gw1.example").expect("an address");
    JoinOptions {
        room,
        hosted,
        access,
    }
}

const ROOM: &str = "#rust@a.example";

#[tokio::test]
async fn a_line_crosses_both_ways_and_the_second_gateway_knows_only_the_alias() {
    let wire = Wire::default();
    let (a, b) = (
        Gateway::start("a.example", &wire),
        Gateway::start("b.example", &wire),
    );
    let (on_a, on_b) = (a.host(ROOM).await, b.join(ROOM).await);

    let id = a.say(&on_a, "alice", "hello from a").await;
    let taken = b.harness.wait_for_text("hello from a").await;
    assert_eq!(taken.incoming.source_id.0, id);
    assert_eq!(taken.incoming.author.name, "alice");
    assert_eq!(taken.incoming.channel, on_b);
    assert_eq!(
        taken.incoming.via.last().map(String::as_str),
        Some("a.example")
    );

    b.say(&on_b, "bea", "hello from b").await;
    let taken = a.harness.wait_for_text("hello from b").await;
    // The harness's authors belong to another domain: they are users of b's federation network.
    let address = taken
        .incoming
        .author
        .address
        .expect("an address")
        .to_string();
    assert_eq!(address, "bea%40elsewhere.gw1.example@peers.b.example");
    assert_eq!(a.heard(), ["hello from b"]);
    assert_eq!(b.heard(), ["hello from a"]);
}

#[tokio::test]
async fn a_gateway_that_starts_first_finds_the_other_when_it_comes() {
    let wire = Wire::default();
    let b = Gateway::start("b.example", &wire);
    let channel = b.channel(ROOM);
    b.harness.join(&channel, options(false, Access::Off)).await;
    wire.failed(1).await;
    let a = Gateway::start("a.example", &wire);
    a.host(ROOM).await;
    b.harness.wait_for_joined(&channel).await;
}

#[tokio::test]
async fn what_one_of_three_says_reaches_the_other_two_once_and_in_order() {
    let wire = Wire::default();
    let (a, b) = (
        Gateway::start("a.example", &wire),
        Gateway::start("b.example", &wire),
    );
    let on_a = a.host(ROOM).await;
    let on_b = b.join(ROOM).await;
    b.say(&on_b, "bea", "before c").await;
    a.harness.wait_for_text("before c").await;
    let c = Gateway::start("c.example", &wire);
    let on_c = c.join(ROOM).await;
    for n in 0..20 {
        a.say(&on_a, "alice", &format!("a{n}")).await;
        b.say(&on_b, "bea", &format!("b{n}")).await;
        c.say(&on_c, "cleo", &format!("c{n}")).await;
    }
    for (gateway, others) in [(&a, ["b", "c"]), (&b, ["a", "c"]), (&c, ["a", "b"])] {
        for other in others {
            gateway.harness.wait_for_text(&format!("{other}19")).await;
        }
        for other in others {
            let heard: Vec<String> = gateway
                .heard()
                .into_iter()
                .filter(|text| text.starts_with(other) && text.len() <= 3)
                .collect();
            let said: Vec<String> = (0..20).map(|n| format!("{other}{n}")).collect();
            assert_eq!(heard, said, "{} about {other}", gateway.name);
        }
    }
    assert!(
        !c.heard().contains(&"before c".to_owned()),
        "what was said before a join is not shown"
    );
}

#[tokio::test]
async fn a_delivery_handed_over_again_is_the_same_event() {
    let wire = Wire::default();
    let (a, b) = (
        Gateway::start("a.example", &wire),
        Gateway::start("b.example", &wire),
    );
    let on_a = a.host(ROOM).await;
    b.join(ROOM).await;
    let first = a
        .harness
        .deliver(&on_a, "alice", "once", MessageKind::Text)
        .await;
    assert_eq!(first.outcome().await, Outcome::Shown);
    let again = a.harness.deliver_again(&first, true, None).await;
    assert_eq!(again.outcome().await, Outcome::Shown);
    assert_eq!(first.parts(), again.parts());
    a.say(&on_a, "alice", "after").await;
    b.harness.wait_for_text("after").await;
    assert_eq!(b.heard(), ["once", "after"]);
}

#[tokio::test]
async fn a_peer_that_was_away_gets_everything_once_and_in_order() {
    let wire = Wire::default();
    let (a, mut b) = (
        Gateway::start("a.example", &wire),
        Gateway::start("b.example", &wire),
    );
    let on_a = a.host(ROOM).await;
    let on_b = b.join(ROOM).await;
    wire.cut("b.example");
    for n in 0..120 {
        a.say(&on_a, "alice", &format!("{n}")).await;
    }
    b.restart().await;
    b.harness.join(&on_b, options(false, Access::Off)).await;
    b.harness.wait_for_joined(&on_b).await;
    wire.mend("b.example");
    // Anything from the peer ends the wait; nobody has to sit out the back-off.
    b.say(&on_b, "bea", "i am back").await;
    b.harness.wait_for_text("119").await;
    let said: Vec<String> = (0..120).map(|n| n.to_string()).collect();
    assert_eq!(b.heard(), said);
    assert_eq!(
        a.harness
            .wait_for_text("i am back")
            .await
            .incoming
            .author
            .name,
        "bea"
    );
}

#[tokio::test]
async fn a_restart_keeps_rooms_queues_and_keys() {
    let wire = Wire::default();
    let (mut a, b) = (
        Gateway::start("a.example", &wire),
        Gateway::start("b.example", &wire),
    );
    let on_a = a.host(ROOM).await;
    let on_b = b.join(ROOM).await;
    wire.cut("b.example");
    a.say(&on_a, "alice", "before the restart").await;
    a.restart().await;
    a.host(ROOM).await;
    wire.mend("b.example");
    a.say(&on_a, "alice", "after the restart").await;
    b.harness.wait_for_text("after the restart").await;
    assert_eq!(b.heard(), ["before the restart", "after the restart"]);
    b.say(&on_b, "bea", "still here").await;
    a.harness.wait_for_text("still here").await;
}

#[tokio::test]
async fn whoever_leaves_hears_no_more_and_may_come_back() {
    let wire = Wire::default();
    let (a, b) = (
        Gateway::start("a.example", &wire),
        Gateway::start("b.example", &wire),
    );
    let on_a = a.host(ROOM).await;
    let on_b = b.join(ROOM).await;
    a.say(&on_a, "alice", "one").await;
    b.harness.wait_for_text("one").await;
    b.say(&on_b, "bea", "bye").await;
    a.harness.wait_for_text("bye").await;
    b.harness.leave(&on_b).await;
    b.harness.try_wait_for_drained().await.expect("drained");
    b.harness
        .wait_for("b to have left", |seen| {
            (!seen.joined.contains(&on_b)).then_some(())
        })
        .await;
    b.join(ROOM).await;
    a.say(&on_a, "alice", "two").await;
    b.harness.wait_for_text("two").await;
    b.say(&on_b, "bea", "back").await;
    a.harness.wait_for_text("back").await;
}

#[tokio::test]
async fn a_room_that_is_not_asked_for_after_a_restart_is_closed_to_its_members() {
    let wire = Wire::default();
    let mut a = Gateway::start("a.example", &wire);
    let on_a = a.host(ROOM).await;
    let mut mallory = stranger::Stranger::new("m.example", 7, &wire);
    mallory.join("a.example", "rust").await;
    a.say(&on_a, "alice", "for us").await;
    a.unclaimed = Duration::ZERO;
    a.restart().await;
    let missed =
        serde_json::json!({ "room": mallory.place.clone().expect("joined").room, "have": {} });
    a.harness
        .wait_for("the room to be left", |seen| {
            let last = seen.told.iter().rev().find_map(|told| match told {
                Told::Channel(channel, state) if *channel == on_a => Some(state),
                _ => None,
            });
            matches!(last, Some(ChannelState::NotJoined { .. })).then_some(())
        })
        .await;
    let (status, _) = mallory
        .ask::<serde_json::Value>(
            "a.example",
            http::Method::POST,
            "/_chat/v1/missed",
            missed.clone(),
        )
        .await;
    assert_eq!(status, 403);
    // And it is the same room again when the operator thinks better of it.
    a.unclaimed = Duration::from_secs(60);
    a.restart().await;
    a.host(ROOM).await;
    let (status, _) = mallory
        .ask::<serde_json::Value>("a.example", http::Method::POST, "/_chat/v1/missed", missed)
        .await;
    assert_eq!(status, 200);
}

#[tokio::test]
async fn a_task_that_panics_ends_the_bridge_which_goes_on_when_it_is_started_again() {
    let wire = Wire::default();
    let (mut a, b) = (
        Gateway::start("a.example", &wire),
        Gateway::start("b.example", &wire),
    );
    let on_a = a.host(ROOM).await;
    b.join(ROOM).await;
    let trap = || wire.traps.lock().expect("no panic");
    trap().insert(server("b.example"));
    a.say(&on_a, "alice", "into the trap").await;
    let ended = (&mut a.run).await.expect("no panic of the bridge itself");
    assert!(matches!(ended, Err(BridgeError::Local(_))), "{ended:?}");
    trap().clear();
    a.begin_again();
    b.harness.wait_for_text("into the trap").await;
}

#[tokio::test]
async fn rooms_that_cannot_be_entered_say_why() {
    let wire = Wire::default();
    let a = Gateway::start("a.example", &wire);
    for (alias, hosted, access, wanted) in [
        ("#x@a.example", true, Access::Invite, "not built yet"),
        ("#y@a.example", true, Access::Off, "federation = \"open\""),
        ("#z@a.example", false, Access::Off, "federation = \"open\""),
        ("nonsense", false, Access::Off, "not the address of a room"),
        ("#w@b.example", false, Access::Off, "nobody there"),
    ] {
        let channel = a.channel(alias);
        a.harness.join(&channel, options(hosted, access)).await;
        a.harness
            .wait_for(&format!("a reason for {alias}"), |seen| {
                seen.told
                    .iter()
                    .any(|told| {
                        let text = format!("{told:?}");
                        text.contains(alias) && text.replace('\\', "").contains(wanted)
                    })
                    .then_some(())
            })
            .await;
    }
}

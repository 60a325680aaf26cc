//! The bridge at a real server: what was said while nobody listened, and what may have been said already.
//!
//! The server is Prosody of `tests/lab`, started if need be. `COMITY_TEST_XMPP` names another one, by hand, as
//! `ADDRESS SECRET COMPONENT COMPONENT ROOMS`: the components' port, their secret, one for the bridge, one for a person, and
//! the domain of its rooms.

mod person;
#[path = "../server/stream.rs"]
mod stream;

use std::collections::HashMap;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use comity_bridge::delivery::{Receipt, Refs};
use comity_bridge::event::MessageKind;
use comity_bridge::test_util::harness::{Harness, Line};
use comity_bridge::{
    Access, Bridge, BridgeKind, Channel, ConfigTable, Delivery, DeliveryKey, Event, JoinOptions,
    Link, Outcome, Receipts, Request, Timestamp,
};
use comity_xmpp::Xmpp;
use person::Person;
use tokio::sync::{Mutex, MutexGuard, mpsc};
use tokio::task::JoinHandle;

const PATIENCE: Duration = Duration::from_secs(60);
const LAB: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/lab/lab");

/// A component takes one connection at a time, so there is one test at a time.
static ONE: Mutex<()> = Mutex::const_new(());

/// Where the server is.
#[derive(Clone, Debug)]
struct Place {
    address: String,
    secret: String,
    bridge: String,
    person: String,
    rooms: String,
}

/// The bridge between a harness and a server, and somebody in its room.
struct Stage {
    place: Place,
    harness: Harness,
    channel: Channel,
    run: JoinHandle<()>,
    ann: Person,
    _alone: MutexGuard<'static, ()>,
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_said_between_two_runs_is_heard_in_order_and_once() {
    let mut stage = Stage::open("between").await;
    stage.ann.says(lines(0..3)).await;
    stage.hears(0..3).await;
    for round in 0..3 {
        stage.dies().await;
        let from = 3 + 300 * round;
        stage.ann.says(lines(from..from + 300)).await;
        stage.starts().await;
    }
    stage.ann.says(lines(903..906)).await;
    stage.hears(0..906).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_journal_that_hangs_costs_nothing() {
    let mut stage = Stage::open("hangs").await;
    stage.ann.says(lines(0..1)).await;
    stage.hears(0..1).await;
    stage.harness.freeze();
    stage.ann.says(lines(1..3_000)).await;
    // What is shown here meanwhile proves that the stream is read.
    let shown = stage.says("meanwhile").await;
    assert_eq!(shown, Outcome::Shown);
    stage.harness.thaw();
    stage.hears(0..3_000).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_said_before_a_death_is_not_said_again() {
    let mut stage = Stage::open("doubt").await;
    let long = "x".repeat(50_000);
    let first = stage
        .harness
        .deliver(&stage.channel, "al", "one", MessageKind::Text)
        .await;
    let second = stage
        .harness
        .deliver(&stage.channel, "al", &long, MessageKind::Text)
        .await;
    assert_eq!(first.outcome().await, Outcome::Shown);
    assert_eq!(second.outcome().await, Outcome::Shown);
    stage.dies().await;
    stage.starts().await;
    // As if the gateway had not noted it.
    let again = stage.harness.deliver_again(&first, true, None).await;
    assert_eq!(again.outcome().await, Outcome::Shown);
    assert_eq!(again.parts(), first.parts());
    // Of a message of two parts the first was noted, the second not; of another one nothing had been said.
    let mut plan = second.plan().expect("a plan of two parts");
    let noted = plan.done.remove(&1).expect("a second part");
    let again = stage.harness.deliver_again(&second, true, Some(plan)).await;
    assert_eq!(again.outcome().await, Outcome::Shown);
    assert_eq!(again.parts()[1], noted);
    assert_eq!(stage.says("two").await, Outcome::Shown);
    stage.ann.sees("two").await;
    let seen: Vec<usize> = stage.ann.seen().iter().map(|it| it.text.len()).collect();
    assert_eq!(seen.len(), 4, "{seen:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn lines_written_around_deaths_are_shown_in_order_and_once() {
    let mut stage = Stage::open("around").await;
    let mut handed = Vec::new();
    for round in 0..5 {
        for n in 0..20 {
            let text = format!("r{round} n{n}");
            let kind = MessageKind::Text;
            let handle = stage
                .harness
                .deliver(&stage.channel, "al", &text, kind)
                .await;
            handed.push(handle);
        }
        // Some are written, some are shown, some are not: nobody knows which.
        handed[round * 20 + 3 * round].outcome().await;
        stage.dies().await;
        stage.starts().await;
        for handle in &handed[round * 20..] {
            let over = handle.record().outcomes.first() == Some(&Outcome::Shown);
            if !over {
                let again = stage
                    .harness
                    .deliver_again(handle, true, handle.plan())
                    .await;
                assert_eq!(again.outcome().await, Outcome::Shown);
            }
        }
    }
    stage.ann.sees("r4 n19").await;
    let seen: Vec<String> = stage.ann.seen().into_iter().map(|it| it.text).collect();
    let said: Vec<String> = (0..100)
        .map(|n| format!("r{} n{}", n / 20, n % 20))
        .collect();
    assert_eq!(seen, said);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_frozen_server_was_given_is_shown_once() {
    if std::env::var("COMITY_TEST_XMPP").is_ok() {
        println!("does not apply: only the lab's server can be frozen");
        return;
    }
    let mut stage = Stage::open("frozen").await;
    assert_eq!(stage.says("before").await, Outcome::Shown);
    let frozen = Frozen::new();
    let kind = MessageKind::Text;
    let mut handed = Vec::new();
    for text in ["one", "two", "three"] {
        let handle = stage.harness.deliver(&stage.channel, "al", text, kind);
        handed.push(handle.await);
    }
    for handle in &handed {
        let outcome = handle.outcome().await;
        assert!(matches!(outcome, Outcome::Ambiguous { .. }), "{outcome:?}");
    }
    drop(frozen);
    stage.harness.wait_for_joined(&stage.channel).await;
    let mut again = Vec::new();
    for handle in &handed {
        again.push(stage.harness.deliver_again(handle, true, None).await);
    }
    for handle in again {
        assert_eq!(handle.outcome().await, Outcome::Shown);
    }
    stage.ann.says(["heard".to_owned()]).await;
    stage.harness.wait_for_text("heard").await;
    stage.ann.sees("three").await;
    let seen: Vec<String> = stage.ann.seen().into_iter().map(|it| it.text).collect();
    assert_eq!(seen, ["before", "one", "two", "three"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_late_line_bears_the_time_at_which_it_was_written() {
    let stage = Stage::open("late").await;
    let written = Timestamp(1_732_280_000_000);
    for text in ["first", "second"] {
        assert_eq!(stage.says_late(text, written).await, Outcome::Shown);
    }
    stage.ann.sees("second").await;
    let seen = stage.ann.seen();
    // Whether the room passes a stamp on is known only after the first.
    assert_eq!(seen[0].text, "[2024-11-22 12:53] first");
    for line in seen {
        assert_eq!(line.stamps, ["2024-11-22T12:53:20Z"], "{line:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_lines_are_shown_in_order_and_once() {
    let stage = Stage::open("many").await;
    let began = std::time::Instant::now();
    let lines = (0..2_000).map(|n| Line::new(format!("p{}", n % 5), format!("line {n}")));
    stage
        .harness
        .show(&stage.channel, lines.collect())
        .await
        .expect("shown");
    println!("2,000 lines in {:?}", began.elapsed());
    stage.ann.sees("line 1999").await;
    let seen: Vec<String> = stage.ann.seen().into_iter().map(|it| it.text).collect();
    assert_eq!(seen, self::lines(0..2_000).collect::<Vec<_>>());
}

impl Stage {
    async fn open(name: &str) -> Self {
        let alone = ONE.lock().await;
        let place = Place::find();
        let (harness, link) = Harness::link("jabber");
        harness.set_patience(PATIENCE);
        let room = format!("{name}-{}@{}", std::process::id(), place.rooms);
        let channel = harness.channel(&room);
        let run = run(&place, &harness, link);
        join(&harness, &channel).await;
        let ann = Person::join(&place, &place.person, &room, "ann").await;
        Self {
            place,
            harness,
            channel,
            run,
            ann,
            _alone: alone,
        }
    }

    /// Somebody elsewhere says a line.
    async fn says(&self, text: &str) -> Outcome {
        let kind = MessageKind::Text;
        let handle = self.harness.deliver(&self.channel, "al", text, kind).await;
        handle.outcome().await
    }

    async fn says_late(&self, text: &str, written: Timestamp) -> Outcome {
        let (lane, mut receipts) = mpsc::unbounded_channel();
        let event = event(text);
        let key = DeliveryKey {
            event: event.id,
            channel: self.channel.clone(),
        };
        let delivery = Delivery {
            key,
            event: Arc::new(event),
            refs: Refs::default(),
            late: Some(written),
            attempt: 1,
            doubt: false,
            plan: None,
            receipts: Receipts::new(1, lane),
        };
        self.harness.ask(Request::Deliver(delivery)).await;
        loop {
            match receipts.recv().await.expect("a receipt").1 {
                Receipt::Finish { outcome, .. } => return outcome,
                Receipt::Dropped => panic!("the bridge has dropped it"),
                Receipt::Plan { .. } | Receipt::Part { .. } => {}
            }
        }
    }

    /// Ends the bridge as a crash would.
    async fn dies(&mut self) {
        self.run.abort();
        assert!((&mut self.run).await.is_err());
    }

    async fn starts(&mut self) {
        let link = self.harness.relink();
        self.run = run(&self.place, &self.harness, link);
        join(&self.harness, &self.channel).await;
    }

    /// Everything that was heard from the beginning is these lines, in order, each once.
    async fn hears(&self, range: std::ops::Range<usize>) {
        let last = format!("line {}", range.end - 1);
        self.harness.wait_for_text(&last).await;
        let heard: Vec<String> = self.harness.seen(|seen| {
            let texts = seen.events.iter().filter_map(|taken| taken.text());
            texts.map(str::to_owned).collect()
        });
        assert_eq!(heard, lines(range).collect::<Vec<_>>());
        let gaps = self.harness.seen(|seen| {
            let gaps = seen.batches.iter().map(|batch| batch.gaps.len());
            gaps.sum::<usize>()
        });
        assert_eq!(gaps, 0);
    }
}

/// The lab's Prosody, not running until this is dropped.
struct Frozen;

impl Frozen {
    fn new() -> Self {
        lab(&["freeze", "prosody"]);
        Self
    }
}

impl Drop for Frozen {
    fn drop(&mut self) {
        lab(&["thaw", "prosody"]);
    }
}

impl Place {
    fn find() -> Self {
        if let Ok(named) = std::env::var("COMITY_TEST_XMPP") {
            let words: Vec<&str> = named.split_whitespace().collect();
            let [address, secret, bridge, person, rooms] = words[..] else {
                panic!("COMITY_TEST_XMPP='ADDRESS SECRET COMPONENT COMPONENT ROOMS'")
            };
            return Self {
                address: address.to_owned(),
                secret: secret.to_owned(),
                bridge: bridge.to_owned(),
                person: person.to_owned(),
                rooms: rooms.to_owned(),
            };
        }
        lab(&["up", "prosody"]);
        let env = lab(&["env"]);
        let values: HashMap<&str, &str> = env
            .lines()
            .filter_map(|line| line.split_once('='))
            .map(|(key, quoted)| (key, quoted.trim_matches('\'')))
            .collect();
        let components: Vec<&str> = values["XMPP_COMPONENTS"].split_whitespace().collect();
        let [.., bridge, person] = components[..] else {
            panic!("the lab has two components")
        };
        Self {
            address: format!("{}:{}", values["LAB_IP"], values["XMPP_COMPONENT_PORT"]),
            secret: values["XMPP_SECRET"].to_owned(),
            bridge: bridge.to_owned(),
            person: person.to_owned(),
            rooms: values["XMPP_MUC"].to_owned(),
        }
    }
}

fn lab(arguments: &[&str]) -> String {
    let output = Command::new(LAB)
        .args(arguments)
        .output()
        .expect("the lab's script");
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "lab {arguments:?}: {errors}");
    String::from_utf8(output.stdout).expect("UTF-8")
}

fn lines(range: std::ops::Range<usize>) -> impl Iterator<Item = String> {
    range.map(|n| format!("line {n}"))
}

/// Somebody elsewhere has said this.
fn event(text: &str) -> Event {
    static COUNT: AtomicU64 = AtomicU64::new(1);
    let number = COUNT.fetch_add(1, Ordering::Relaxed);
    let event = format!(
        r##"{{"id": "01JD9V7R0M8Q4Z3W2T6YB{number:05}", "room": "#rust@gw1.example", "seq": {number},
        "origin": {{"network": "irc", "channel": "#rust", "native_id": "{number}"}},
        "author": {{"id": "irc/al", "address": "al@irc.gw1.example", "name": "al", "avatar": null, "bot": false}},
        "time": 1732280000000, "received": 1732280000000, "via": ["gw1.example"], "ext": {{}},
        "content": {{"type": "message", "kind": "text", "text": {{"plain": "{text}", "spans": []}},
        "reply_to": null, "thread": null, "attachments": []}}}}"##
    );
    serde_json::from_str(&event).expect("an event")
}

async fn join(harness: &Harness, channel: &Channel) {
    let room = "#rust@gw1.example".parse().expect("a room");
    let options = JoinOptions {
        room,
        hosted: false,
        access: Access::Off,
    };
    harness.join(channel, options).await;
    harness.wait_for_joined(channel).await;
}

fn run(place: &Place, harness: &Harness, link: Link) -> JoinHandle<()> {
    let values = [
        ("component", &place.bridge),
        ("server", &place.address),
        ("secret", &place.secret),
    ];
    let values = values
        .into_iter()
        .map(|(key, value)| (key.to_owned(), value.as_str().into()))
        .collect();
    let network = "jabber".parse().expect("a network name");
    let table = ConfigTable::new("real.toml", "", values);
    let bridge: Box<dyn Bridge> = Xmpp
        .configure(harness.gateway(), &network, table)
        .unwrap_or_else(|problems| panic!("{problems:?}"));
    tokio::spawn(async move {
        bridge.run(link).await.expect("a run that ends well");
    })
}

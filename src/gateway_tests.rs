use std::path::Path;

use comity_bridge::test_util::scripted::{Reaction, ScriptedKind, ScriptedNetwork};
use comity_bridge::{Capabilities, DeliveryError};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::*;
use crate::config::sample;

pub(super) const ROOM: &str = "#room";

pub(super) struct World {
    pub(super) kind: &'static ScriptedKind,
    pub(super) dir: tempfile::TempDir,
}

impl World {
    pub(super) fn new() -> Self {
        let kind: &'static ScriptedKind = Box::leak(Box::default());
        let world = World {
            kind,
            dir: tempfile::tempdir().expect("a directory"),
        };
        for name in ["one", "two", "three"] {
            let window = Capabilities {
                window: 8,
                ..Capabilities::default()
            };
            world.network(name).set_capabilities(window);
        }
        world
    }

    pub(super) fn network(&self, name: &str) -> ScriptedNetwork {
        self.kind.network(name)
    }

    async fn gateway(&self) -> Gateway {
        let config = config(self.kind, self.dir.path());
        Gateway::start(config).await.expect("the gateway starts")
    }
}

pub(super) fn config(kind: &'static ScriptedKind, data_dir: &Path) -> Config {
    sample::scripted(kind, data_dir, &["one", "two", "three"])
}

fn lines(shown: &[String]) -> Vec<&str> {
    shown
        .iter()
        .map(|line| line.rsplit(' ').next().unwrap_or_default())
        .collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_line_is_shown_once_everywhere_else_and_acknowledged() {
    let world = World::new();
    let gateway = world.gateway().await;
    world.network("one").say(ROOM, "alice", "hello");
    for name in ["two", "three"] {
        assert_eq!(
            lines(&world.network(name).wait_shown(ROOM, 1).await),
            ["hello"]
        );
    }
    world.network("one").wait_acknowledged(1).await;
    gateway.stop().await;
    assert_eq!(
        world.network("one").shown(ROOM),
        Vec::<String>::new(),
        "no echo"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn what_waited_for_the_first_start_is_shown_by_every_network() {
    let world = World::new();
    world.network("one").say(ROOM, "alice", "early");
    let gateway = world.gateway().await;
    world.network("one").say(ROOM, "alice", "late");
    for name in ["two", "three"] {
        let shown = world.network(name).wait_shown(ROOM, 2).await;
        assert_eq!(lines(&shown), ["early", "late"], "{name}");
    }
    gateway.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_burst_keeps_its_order() {
    let world = World::new();
    let gateway = world.gateway().await;
    let wanted: Vec<String> = (0..200).map(|n| n.to_string()).collect();
    for number in &wanted {
        world.network("one").say(ROOM, "alice", number);
    }
    for name in ["two", "three"] {
        assert_eq!(
            lines(&world.network(name).wait_shown(ROOM, 200).await),
            wanted
        );
    }
    gateway.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_network_that_hangs_delays_only_itself_and_gets_everything() {
    let world = World::new();
    world.network("two").always(Reaction::Hang);
    let gateway = world.gateway().await;
    let wanted: Vec<String> = (0..50).map(|n| n.to_string()).collect();
    for number in &wanted {
        world.network("one").say(ROOM, "alice", number);
    }
    assert_eq!(
        lines(&world.network("three").wait_shown(ROOM, 50).await),
        wanted
    );
    assert_eq!(world.network("two").shown(ROOM).len(), 0);
    world.network("two").always(Reaction::Show);
    world.network("two").unhang();
    assert_eq!(
        lines(&world.network("two").wait_shown(ROOM, 50).await),
        wanted
    );
    gateway.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_network_that_is_down_at_the_start_keeps_no_other_from_starting() {
    let world = World::new();
    world.network("two").go_down();
    let gateway = world.gateway().await;
    world.network("one").say(ROOM, "alice", "hello");
    world.network("three").wait_shown(ROOM, 1).await;
    assert_eq!(world.network("two").shown(ROOM).len(), 0);
    world.network("two").come_up();
    assert_eq!(
        lines(&world.network("two").wait_shown(ROOM, 1).await),
        ["hello"]
    );
    gateway.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_not_shown_before_a_stop_is_shown_after_the_next_start() {
    let world = World::new();
    world.network("two").go_down();
    let gateway = world.gateway().await;
    for number in ["1", "2", "3"] {
        world.network("one").say(ROOM, "alice", number);
    }
    world.network("three").wait_shown(ROOM, 3).await;
    gateway.stop().await;
    world.network("two").come_up();
    let gateway = world.gateway().await;
    assert_eq!(
        lines(&world.network("two").wait_shown(ROOM, 3).await),
        ["1", "2", "3"]
    );
    assert_eq!(
        lines(&world.network("three").shown(ROOM)),
        ["1", "2", "3"],
        "not again"
    );
    gateway.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn after_an_ambiguous_outcome_the_next_attempt_is_told_so() {
    let world = World::new();
    world
        .network("two")
        .next(Reaction::Ambiguous { shown: true });
    let gateway = world.gateway().await;
    world.network("one").say(ROOM, "alice", "hello");
    let attempts = world.network("two").wait_attempts(2).await;
    assert_eq!((attempts[0].attempt, attempts[0].doubt), (1, false));
    assert_eq!((attempts[1].attempt, attempts[1].doubt), (2, true));
    assert_eq!(attempts[0].key, attempts[1].key);
    world.network("one").say(ROOM, "alice", "more");
    assert_eq!(
        lines(&world.network("two").wait_shown(ROOM, 2).await),
        ["hello", "more"],
        "shown once"
    );
    gateway.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bridge_that_panics_takes_no_other_down_and_comes_back() {
    let world = World::new();
    world.network("two").next(Reaction::Panic);
    let gateway = world.gateway().await;
    world.network("one").say(ROOM, "alice", "hello");
    assert_eq!(
        lines(&world.network("three").wait_shown(ROOM, 1).await),
        ["hello"]
    );
    assert_eq!(
        lines(&world.network("two").wait_shown(ROOM, 1).await),
        ["hello"],
        "by the next bridge"
    );
    gateway.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_delivery_given_up_is_a_dead_letter_and_its_successor_goes_on() {
    let world = World::new();
    world
        .network("two")
        .next(Reaction::GiveUp(DeliveryError::Forbidden("+m".to_owned())));
    let gateway = world.gateway().await;
    world.network("one").say(ROOM, "alice", "bad");
    world.network("one").say(ROOM, "alice", "good");
    assert_eq!(
        lines(&world.network("two").wait_shown(ROOM, 1).await),
        ["good"]
    );
    let metrics = gateway.metrics().clone();
    let journal = gateway.journal.clone();
    gateway.stop().await;
    let letters = journal.dead_list(Default::default(), Default::default(), 10);
    let letters = letters.await.expect("read");
    assert_eq!(
        letters
            .iter()
            .map(|letter| letter.reason.as_str())
            .collect::<Vec<_>>(),
        ["forbidden: +m"]
    );
    assert!(
        metrics.render().contains(r#"reason="forbidden""#),
        "{}",
        metrics.render()
    );
}

/// A bridge of somebody else between two of the room's channels: whatever is shown or said in one it says in the other, under its own
/// name, with the author's name before it and nothing that tells what it was.
#[derive(Clone)]
struct ForeignBridge {
    from: ScriptedNetwork,
    to: ScriptedNetwork,
}

impl ForeignBridge {
    /// Repeats all that the gateway shows, for ever.
    async fn run(self) {
        let mut repeated = 0;
        loop {
            for line in &self.from.wait_shown(ROOM, repeated + 1).await[repeated..] {
                self.to.say(ROOM, "fb", &format!("<comity> {line}"));
                repeated += 1;
            }
        }
    }

    /// Repeats what a person says.
    fn hears(&self, author: &str, text: &str) {
        self.from.say(ROOM, author, text);
        self.to.say(ROOM, "fb", &format!("<{author}> {text}"));
    }
}

async fn comes(network: &ScriptedNetwork, token: &str) {
    while copies(network, token) == 0 {
        let seen = network.shown(ROOM).len();
        network.wait_shown(ROOM, seen + 1).await;
    }
}

fn copies(network: &ScriptedNetwork, token: &str) -> usize {
    let shown = network.shown(ROOM);
    shown.iter().filter(|line| line.contains(token)).count()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_circle_through_a_foreign_bridge_adds_one_copy_and_is_cut() {
    let world = World::new();
    let gateway = world.gateway().await;
    let (one, two) = (world.network("one"), world.network("two"));
    let there = ForeignBridge {
        from: one.clone(),
        to: two.clone(),
    };
    let back = ForeignBridge {
        from: two.clone(),
        to: one.clone(),
    };
    there.hears("alice", "t-0-");
    let circle = [tokio::spawn(there.clone().run()), tokio::spawn(back.run())];
    let channels: Vec<Channel> = ["one", "two"]
        .iter()
        .map(|name| format!("{name}/{ROOM}").parse().expect("a channel"))
        .collect();
    let mut paused: Vec<_> = channels
        .iter()
        .map(|channel| gateway.board().channel(channel).expect("on the board"))
        .map(|board| board.paused.subscribe())
        .collect();
    let (first, second) = paused.split_at_mut(1);
    tokio::select! {
        found = first[0].wait_for(Option::is_some) => drop(found.expect("a board")),
        found = second[0].wait_for(Option::is_some) => drop(found.expect("a board")),
    }
    // The foreign bridge goes on, and so do people. Whoever is not in its way sees all of it.
    for number in 1..=20 {
        there.hears("alice", &format!("t-{number}-"));
    }
    let three = world.network("three");
    comes(&three, "<alice> t-20-").await;
    let metrics = gateway.metrics().render();
    assert!(metrics.contains("comity_breaker_open"), "{metrics}");
    for task in circle {
        task.abort();
        assert!(task.await.is_err(), "it never ends by itself");
    }

    // The operator has put the foreign bridge out. What it said last has come in before the channels are resumed, for a breaker that was
    // told to forget takes the next copy for the first.
    two.say(ROOM, "bob", "t-bob-");
    one.say(ROOM, "carol", "t-carol-");
    for last in ["t-bob-", "t-carol-"] {
        comes(&three, last).await;
    }
    for channel in &channels {
        gateway.gate.resume(channel);
    }
    // What waited is shown, and of each message at most one copy too many.
    for (network, last) in [(&one, "t-bob-"), (&two, "t-carol-")] {
        comes(network, last).await;
    }
    let (mut too_many, all) = (0, 20);
    for number in 0..=all {
        let token = format!("t-{number}-");
        let extra = [copies(&one, &token), copies(&two, &token) - 1];
        assert!(
            extra.iter().all(|extra| *extra <= 1),
            "{token}: {extra:?}\n{:#?}\n{:#?}",
            one.shown(ROOM),
            two.shown(ROOM)
        );
        too_many += extra.iter().sum::<usize>();
    }
    assert!(
        too_many <= 4,
        "{:?}\n{:?}",
        one.shown(ROOM),
        two.shown(ROOM)
    );
    gateway.stop().await;
}

/// Asks the admin listener, as a program of this machine does.
async fn ask(gateway: &Gateway, method: &str, path: &str) -> (u16, serde_json::Value) {
    let mut stream = TcpStream::connect(gateway.admin).await.expect("connected");
    let request = format!(
        "{method} {path} HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
    );
    stream.write_all(request.as_bytes()).await.expect("written");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.expect("an answer");
    let status = answer.split(' ').nth(1).and_then(|word| word.parse().ok());
    let (_, body) = answer.split_once("\r\n\r\n").expect("a body");
    (
        status.expect("a status"),
        serde_json::from_str(body).unwrap_or_default(),
    )
}

#[tokio::test(flavor = "multi_thread")]
async fn what_waits_is_told_by_network_and_age() {
    let world = World::new();
    world.network("two").go_down();
    let gateway = world.gateway().await;
    for number in ["1", "2", "3"] {
        world.network("one").say(ROOM, "alice", number);
    }
    world.network("three").wait_shown(ROOM, 3).await;
    let (status, queue) = ask(&gateway, "GET", "/v1/queue").await;
    assert_eq!(status, 200);
    let networks = queue["networks"].as_array().expect("networks");
    let two = networks.iter().find(|n| n["network"] == "two");
    let two = two.expect("the network");
    assert_eq!(two["waiting"], 3, "{queue}");
    assert_eq!(two["ages"][0], 3, "{queue}");
    assert_eq!(two["channels"][0]["channel"], "two/#room");
    assert_eq!(two["channels"][0]["joined"], false);
    gateway.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dead_letter_is_listed_with_its_reason_and_traced_and_dropped() {
    let world = World::new();
    world
        .network("two")
        .next(Reaction::GiveUp(DeliveryError::Forbidden("+m".to_owned())));
    let gateway = world.gateway().await;
    world.network("one").say(ROOM, "alice", "bad");
    world.network("one").say(ROOM, "alice", "good");
    world.network("two").wait_shown(ROOM, 1).await;
    // What is shown after it was written down after it.
    let channel: Channel = format!("two/{ROOM}").parse().expect("a channel");
    let board = gateway.board().channel(&channel).expect("on the board");
    let (room, mut list) = ("#room@gw1.example", serde_json::Value::Null);
    for _ in 0..500 {
        list = ask(&gateway, "GET", "/v1/dead?network=two").await.1;
        if board.done.load(Ordering::Relaxed) >= 2 && list["dead"][0].is_object() {
            break;
        }
        tokio::task::yield_now().await;
    }
    let letter = &list["dead"][0];
    assert_eq!(letter["reason"], "forbidden: +m", "{list}");
    assert_eq!((&letter["room"], &letter["seq"]), (&room.into(), &1.into()));
    let event = letter["event"].as_str().expect("an id").to_owned();

    let (_, none) = ask(&gateway, "GET", "/v1/dead?network=three").await;
    assert_eq!(none["dead"].as_array().map(Vec::len), Some(0));
    let path = format!("/v1/dead/two%2F%23room/{event}");
    let (status, shown) = ask(&gateway, "GET", &path).await;
    assert_eq!(status, 200);
    assert_eq!(shown["event"]["content"]["text"]["plain"], "bad", "{shown}");

    let (status, trace) = ask(&gateway, "GET", &format!("/v1/events/{event}/trace")).await;
    assert_eq!(status, 200);
    assert_eq!(trace["origin"], "one/#room");
    assert!(trace["committed"].is_i64(), "{trace}");
    let states: Vec<_> = trace["channels"]
        .as_array()
        .expect("channels")
        .iter()
        .map(|channel| (channel["channel"].as_str(), channel["state"].as_str()))
        .collect();
    assert!(
        states.contains(&(Some("two/#room"), Some("dead"))),
        "{trace}"
    );

    let steps = trace["channels"]
        .as_array()
        .expect("channels")
        .iter()
        .find(|channel| channel["channel"] == "two/#room")
        .map(|channel| channel["steps"].clone())
        .expect("the channel");
    assert_eq!(steps[0]["step"], "handed_over", "{trace}");
    assert_eq!(steps[1]["step"], "dead", "{trace}");

    let (status, error) = ask(&gateway, "POST", "/v1/dead/drop").await;
    assert_eq!(status, 400, "all of them only when asked for: {error}");
    let drop = format!("/v1/dead/drop?event={event}");
    assert_eq!(ask(&gateway, "POST", &drop).await.1["count"], 1);
    assert_eq!(ask(&gateway, "POST", &drop).await.0, 404, "once");
    assert_eq!(ask(&gateway, "GET", &path).await.0, 404);
    for path in [
        "/v1/events/nonsense/trace",
        "/v1/dead?event=x",
        "/v1/dead?wrong=1",
    ] {
        assert_eq!(ask(&gateway, "GET", path).await.0, 400, "{path}");
    }
    gateway.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dead_letter_is_shown_when_the_operator_asks_for_another_attempt() {
    let world = World::new();
    world
        .network("two")
        .next(Reaction::GiveUp(DeliveryError::Forbidden("+m".to_owned())));
    let gateway = world.gateway().await;
    world.network("one").say(ROOM, "alice", "bad");
    world.network("one").say(ROOM, "alice", "good");
    world.network("two").wait_shown(ROOM, 1).await;
    let retry = "/v1/dead/retry?network=two";
    while ask(&gateway, "POST", retry).await.1["count"] != 1 {
        tokio::task::yield_now().await;
    }
    let shown = world.network("two").wait_shown(ROOM, 2).await;
    assert!(shown.iter().any(|line| line.ends_with("bad")), "{shown:?}");
    while ask(&gateway, "GET", "/v1/dead?network=two").await.1["dead"][0].is_object() {
        tokio::task::yield_now().await;
    }
    gateway.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pile_of_dead_letters_is_tried_again_to_its_end_and_the_living_go_between() {
    const PILE: usize = 600;
    let world = World::new();
    let two = world.network("two");
    two.set_capabilities(Capabilities::default());
    for _ in 0..PILE {
        two.next(Reaction::GiveUp(DeliveryError::Forbidden("+m".to_owned())));
    }
    let gateway = world.gateway().await;
    for number in 0..PILE {
        world
            .network("one")
            .say(ROOM, "alice", &format!("bad-{number}"));
    }
    world.network("one").say(ROOM, "alice", "first");
    two.wait_shown(ROOM, 1).await;
    while ask(&gateway, "GET", "/v1/dead?network=two&limit=1000")
        .await
        .1["dead"]
        .as_array()
        .map(Vec::len)
        != Some(PILE)
    {
        tokio::task::yield_now().await;
    }
    let asked = ask(&gateway, "POST", "/v1/dead/retry?all=true").await.1;
    assert_eq!(asked["count"], PILE);
    world.network("one").say(ROOM, "alice", "living");
    let shown = two.wait_shown(ROOM, PILE + 2).await;
    let shown = lines(&shown);
    let living = shown.iter().position(|line| *line == "living");
    assert!(living.is_some_and(|at| at < PILE / 2), "{living:?}");
    gateway.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_letter_of_a_channel_that_is_not_configured_any_more_can_be_dropped_only() {
    let world = World::new();
    world
        .network("three")
        .next(Reaction::GiveUp(DeliveryError::Forbidden("+m".to_owned())));
    let gateway = world.gateway().await;
    world.network("one").say(ROOM, "alice", "bad");
    while !ask(&gateway, "GET", "/v1/dead").await.1["dead"][0].is_object() {
        tokio::task::yield_now().await;
    }
    gateway.stop().await;
    let config = sample::scripted(world.kind, world.dir.path(), &["one", "two"]);
    let gateway = Gateway::start(config).await.expect("the gateway starts");
    let (status, answer) = ask(&gateway, "POST", "/v1/dead/retry?all=true").await;
    assert_eq!(status, 404, "{answer}");
    assert!(
        answer["error"]
            .as_str()
            .is_some_and(|e| e.contains("not in the configuration")),
        "{answer}"
    );
    let (_, answer) = ask(&gateway, "POST", "/v1/dead/drop?all=true").await;
    assert_eq!(answer["count"], 1);
    gateway.stop().await;
}

//! The bridge against real servers (`tests/lab`): what each of them has is used, and what it has not is done without.

mod lab;
mod person;

use comity_bridge::{
    Access, BridgeError, BridgeKind, Channel, ConfigTable, Gap, JoinOptions, NetworkStatus,
    Outcome,
    event::MessageKind,
    test_util::{
        Harness,
        harness::{Seen, Told},
    },
};
use comity_irc::Irc;
use tokio::task::JoinHandle;

use person::Person;

struct Running {
    harness: Harness,
    address: String,
    channel: Channel,
    run: JoinHandle<Result<(), BridgeError>>,
}

impl Running {
    /// A bridge in a channel of its own.
    async fn start(address: &str) -> Self {
        let (harness, link) = Harness::link("real");
        let name = format!("#t{}", person::tag());
        let channel = harness.channel(&name);
        let mut running = Running {
            harness,
            address: address.to_owned(),
            channel,
            run: tokio::spawn(async { Ok(()) }),
        };
        running.run(link).await;
        running
    }

    async fn run(&mut self, link: comity_bridge::Link) {
        let values = [
            ("server", self.address.as_str()),
            ("tls", "none"),
            ("nick", "comity"),
        ];
        let nick = format!("c{}", self.channel.native().trim_start_matches("#t"));
        let mut table: serde_json::Map<String, serde_json::Value> = values
            .map(|(key, value)| (key.to_owned(), value.into()))
            .into_iter()
            .collect();
        table.insert("nick".to_owned(), nick.into());
        let table = ConfigTable::new("real.toml", "", table);
        let bridge = Irc
            .configure(self.harness.gateway(), self.harness.network(), table)
            .expect("a configuration");
        self.run = tokio::spawn(bridge.run(link));
        let options = JoinOptions {
            room: "#rust@gw1.example".parse().expect("a room"),
            hosted: false,
            access: Access::Off,
        };
        self.harness.join(&self.channel, options).await;
        self.harness.wait_for_joined(&self.channel).await;
    }

    async fn stop(&mut self) {
        self.harness.shutdown();
        let run = std::mem::replace(&mut self.run, tokio::spawn(async { Ok(()) }));
        run.await.expect("no panic").expect("no error");
    }

    async fn again(&mut self) {
        let link = self.harness.relink();
        self.run(link).await;
    }

    async fn shows(&self, text: &str) -> usize {
        let delivery = self
            .harness
            .deliver(&self.channel, "Al", text, MessageKind::Text)
            .await;
        assert_eq!(delivery.outcome().await, Outcome::Shown);
        delivery.parts().concat().len()
    }

    fn texts(&self) -> Vec<String> {
        let texts = |seen: &Seen| {
            let texts = seen.events.iter().filter_map(|taken| taken.text());
            texts.map(str::to_owned).collect()
        };
        self.harness.seen(texts)
    }

    fn gaps(&self) -> Vec<Gap> {
        let batches = |seen: &Seen| {
            let batches = seen.batches.iter();
            batches.flat_map(|batch| batch.gaps.clone()).collect()
        };
        self.harness.seen(batches)
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn on_inspircd_an_echo_is_the_receipt_and_no_event() {
    let at = Running::start(&lab::address("INSPIRCD_PORT")).await;
    let ann = Person::join(&at.address, at.channel.native()).await;
    let text: String = (0..20).map(|n| format!("line {n}\n")).collect();
    assert_eq!(at.shows(&text).await, 20, "a msgid for each line");
    ann.hears("<Al> line 19").await;
    let heard: Vec<String> = (0..20).map(|n| format!("<Al> line {n}")).collect();
    assert_eq!(ann.heard(), heard);
    ann.says("done").await;
    at.harness.wait_for_text("done").await;
    assert_eq!(at.texts(), ["done"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_inspircd_replays_at_joining_is_told_once_and_in_order() {
    let mut at = Running::start(&lab::address("INSPIRCD_PORT")).await;
    let ann = Person::join(&at.address, at.channel.native()).await;
    at.stop().await;
    // Whoever is alone in a channel has lost its operator: a new one is made with the mode.
    ann.leaves_and_returns().await;
    ann.sends(&format!("MODE {} +H 50:1h", at.channel.native()))
        .await;
    ann.says("before we were there again").await;
    at.again().await;
    ann.says("one").await;
    at.harness.wait_for_text("one").await;
    assert_eq!(at.shows("ours").await, 1);
    at.stop().await;
    ann.says("two").await;
    ann.says("three").await;
    at.again().await;
    ann.says("four").await;
    at.harness.wait_for_text("four").await;
    let texts = at.texts();
    assert_eq!(
        texts,
        ["before we were there again", "one", "two", "three", "four"]
    );
    let duplicates = at.harness.seen(|seen| seen.duplicates.len());
    assert!(duplicates >= 1, "the line that was heard last is replayed");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn on_ngircd_the_fence_is_the_receipt_and_a_restart_a_gap() {
    let mut at = Running::start(&lab::address("NGIRCD_PORT")).await;
    let ann = Person::join(&at.address, at.channel.native()).await;
    let text: String = (0..20).map(|n| format!("line {n}\n")).collect();
    assert_eq!(at.shows(&text).await, 0, "ngircd gives lines no ids");
    ann.hears("<Al> line 19").await;
    ann.says("one").await;
    at.harness.wait_for_text("one").await;
    assert_eq!(at.gaps(), []);
    at.stop().await;
    ann.says("unheard").await;
    at.again().await;
    ann.says("two").await;
    at.harness.wait_for_text("two").await;
    assert_eq!(at.texts(), ["one", "two"]);
    let gaps = at.gaps();
    assert_eq!(gaps.len(), 1);
    assert!(gaps[0].channel == at.channel && gaps[0].from <= gaps[0].until);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_network_is_online_on_each_server() {
    for port in ["NGIRCD_PORT", "INSPIRCD_PORT"] {
        let at = Running::start(&lab::address(port)).await;
        let online = |seen: &Seen| seen.told.contains(&Told::Network(NetworkStatus::Online));
        assert!(at.harness.seen(online));
    }
}

/// `ERGO=127.0.0.1:6667 cargo test -p comity-irc --test servers -- --ignored`: Ergo is in no package of Debian's.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs an Ergo server, at the address in ERGO"]
async fn what_ergo_keeps_is_fetched_and_what_landed_is_found() {
    let address = std::env::var("ERGO").expect("the address of an Ergo server");
    let mut at = Running::start(&address).await;
    let ann = Person::join(&at.address, at.channel.native()).await;
    ann.says("line-0").await;
    at.harness.wait_for_text("line-0").await;
    let first = at
        .harness
        .deliver(&at.channel, "Al", "ours\nours", MessageKind::Text)
        .await;
    assert_eq!(first.outcome().await, Outcome::Shown);
    assert_eq!(first.parts().concat().len(), 2);
    at.stop().await;
    for n in 1..250 {
        ann.says(&format!("line-{n}")).await;
    }
    at.again().await;
    ann.says("line-250").await;
    at.harness.wait_for_text("line-250").await;
    let said: Vec<String> = (0..=250).map(|n| format!("line-{n}")).collect();
    assert_eq!(at.texts(), said);
    assert_eq!(at.gaps(), []);
    // As if the receipts had been lost in a crash.
    let again = at.harness.deliver_again(&first, true, None).await;
    assert_eq!(again.outcome().await, Outcome::Shown);
    assert_eq!(at.shows("new").await, 1);
    ann.hears("<Al> new").await;
    assert_eq!(ann.heard(), ["<Al> ours", "<Al> ours", "<Al> new"]);
}

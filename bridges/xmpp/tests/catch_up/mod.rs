//! What was said while nobody here listened: after a restart, a cut, a death, and while the journal cannot take it.

use comity_bridge::test_util::harness::{Harness, Told};
use comity_bridge::{Access, Channel, JoinOptions, NetworkStatus};
use tokio::task::JoinHandle;

use super::configured;
use super::server::{ROOM, SECRET, Server};

/// The far side, the gateway's side, and the bridge between them.
struct Stage {
    server: Server,
    harness: Harness,
    channel: Channel,
    run: JoinHandle<()>,
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_said_between_two_runs_is_heard_in_order_and_once() {
    for dies in [false, true] {
        let mut stage = Stage::open(true).await;
        stage.says(0..3);
        stage.hears(0..3).await;
        if dies {
            stage.dies().await;
        } else {
            stage.stops().await;
        }
        stage.says(3..200);
        stage.starts().await;
        stage.says(200..210);
        stage.hears(0..210).await;
        assert!(stage.gaps().is_empty());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_said_during_a_cut_is_heard_in_order_and_once() {
    let stage = Stage::open(true).await;
    stage.says(0..3);
    stage.hears(0..3).await;
    for round in 0..3 {
        let generation = stage.server.online().await;
        stage.server.cut();
        stage.says(3 + 100 * round..3 + 100 * (round + 1));
        stage.server.reopened(generation).await;
    }
    stage.says(303..306);
    stage.hears(0..306).await;
    assert!(stage.gaps().is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_run_that_dies_at_any_time_loses_and_doubles_nothing() {
    let seed = std::env::var("COMITY_TEST_SEED").ok();
    let seed = seed.and_then(|seed| seed.parse().ok());
    let seed: u64 = seed.unwrap_or_else(|| u64::from(std::process::id()) * 7_919);
    println!("COMITY_TEST_SEED={seed}");
    let mut dice = seed;
    let mut stage = Stage::open(true).await;
    let mut said = 0;
    for _ in 0..15 {
        dice = dice.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        let (some, heard) = ((dice >> 33) as usize % 300, (dice >> 50) as usize % 100);
        stage.says(said..said + some);
        said += some;
        let before = stage.harness.seen(|seen| seen.events.len());
        let wanted = (before + heard).min(said);
        stage.harness.wait_for_events(wanted).await;
        stage.dies().await;
        stage.starts().await;
    }
    stage.hears(0..said).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_journal_that_hangs_costs_a_room_with_an_archive_nothing() {
    let stage = Stage::open(true).await;
    stage.says(0..1);
    stage.hears(0..1).await;
    stage.harness.freeze();
    stage.says(1..4_000);
    stage.harness.wait_for_hanging_commits(1).await;
    // Control traffic goes on, and what is said elsewhere can be shown.
    stage.server.settle().await;
    let shown = stage
        .harness
        .deliver(
            &stage.channel,
            "al",
            "meanwhile",
            comity_bridge::event::MessageKind::Text,
        )
        .await;
    assert_eq!(shown.outcome().await, comity_bridge::Outcome::Shown);
    stage.harness.thaw();
    stage.hears(0..4_000).await;
    stage.says(4_000..4_010);
    stage.hears(0..4_010).await;
    assert!(stage.gaps().is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_busy_gateway_gets_everything_later() {
    let stage = Stage::open(true).await;
    stage.harness.busy(5);
    stage.says(0..2_500);
    stage.hears(0..2_500).await;
    assert!(stage.gaps().is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_journal_that_hangs_costs_a_room_without_an_archive_a_counted_gap() {
    let stage = Stage::open(false).await;
    stage.says(0..1);
    stage.hears(0..1).await;
    stage.harness.freeze();
    stage.says(1..4_000);
    stage.harness.wait_for_hanging_commits(1).await;
    stage.server.settle().await;
    stage.harness.thaw();
    stage.harness.wait_for_skip("gap").await;
    stage
        .harness
        .wait_for("the gap to be told", |seen| {
            seen.batches
                .iter()
                .any(|batch| !batch.gaps.is_empty())
                .then_some(())
        })
        .await;
    stage.server.say("ann", "after the gap");
    stage.harness.wait_for_text("after the gap").await;
    let (heard, skipped) = stage.harness.seen(|seen| {
        let skipped = seen.skips.iter().filter(|skip| skip.reason == "gap");
        (seen.events.len(), skipped.count())
    });
    assert_eq!(heard + skipped, 4_001, "every line is heard or counted");
    assert!(heard > 900, "{heard}");
    assert_eq!(stage.gaps().len(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_room_that_was_made_anew_is_heard_from_its_beginning_with_a_gap_before_it() {
    let mut stage = Stage::open(true).await;
    stage.says(0..30);
    stage.hears(0..30).await;
    stage.stops().await;
    stage.server.make_anew();
    stage.says(30..100);
    stage.starts().await;
    stage.hears(0..100).await;
    assert_eq!(stage.gaps().len(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_room_that_is_bridged_for_the_first_time_begins_at_its_end() {
    for archive in [true, false] {
        let server = Server::start(archive).await;
        for n in 0..60 {
            server.say("ann", &format!("old {n}"));
        }
        let stage = Stage::with(server).await;
        stage.says(0..3);
        stage.hears(0..3).await;
        assert!(stage.gaps().is_empty());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_room_without_an_archive_is_filled_from_its_past_or_has_a_gap() {
    for (past, gaps) in [(20, 0), (0, 1)] {
        let mut stage = Stage::open(false).await;
        stage.server.show_past(past);
        stage.says(0..3);
        stage.hears(0..3).await;
        stage.stops().await;
        stage.says(3..10);
        stage.starts().await;
        if gaps == 0 {
            stage.hears(0..10).await;
        } else {
            stage
                .harness
                .wait_for("the gap to be told", |seen| {
                    seen.batches
                        .iter()
                        .any(|batch| !batch.gaps.is_empty())
                        .then_some(())
                })
                .await;
        }
        assert_eq!(stage.gaps().len(), gaps);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_is_away_is_told_of_once_an_attempt() {
    let stage = Stage::open(true).await;
    let before = stage.harness.seen(|seen| seen.told.len());
    let generation = stage.server.online().await;
    stage.server.cut();
    stage.server.reopened(generation).await;
    stage.harness.wait_for_joined(&stage.channel).await;
    let offline = stage.harness.seen(|seen| {
        let told = seen.told[before..].iter();
        told.filter(|told| matches!(told, Told::Network(NetworkStatus::Offline { .. })))
            .count()
    });
    assert_eq!(offline, 1);
}

impl Stage {
    async fn open(archive: bool) -> Self {
        Self::with(Server::start(archive).await).await
    }

    async fn with(server: Server) -> Self {
        let (harness, link) = Harness::link("jabber");
        let channel = harness.channel(ROOM);
        let run = run(&server, &harness, link);
        let stage = Self {
            server,
            harness,
            channel,
            run,
        };
        stage.join().await;
        stage
    }

    async fn join(&self) {
        let room = "#rust@gw1.example".parse().expect("a room");
        let options = JoinOptions {
            room,
            hosted: false,
            access: Access::Off,
        };
        self.harness.join(&self.channel, options).await;
        self.harness.wait_for_joined(&self.channel).await;
    }

    /// Ends the bridge in order, with the room told.
    async fn stops(&mut self) {
        self.harness.shutdown();
        (&mut self.run).await.expect("the bridge ends well");
    }

    /// Ends the bridge as a crash would: between any two steps of its task.
    async fn dies(&mut self) {
        self.run.abort();
        assert!((&mut self.run).await.is_err());
    }

    async fn starts(&mut self) {
        let link = self.harness.relink();
        self.run = run(&self.server, &self.harness, link);
        self.join().await;
    }

    /// Somebody says these lines.
    fn says(&self, lines: std::ops::Range<usize>) {
        for n in lines {
            self.server.say("ann", &format!("line {n}"));
        }
    }

    /// Everything that was heard from the beginning is these lines, in order, each once.
    async fn hears(&self, lines: std::ops::Range<usize>) {
        let last = format!("line {}", lines.end - 1);
        self.harness.wait_for_text(&last).await;
        // Whatever is to come twice has come when this answers.
        self.server.settle().await;
        let heard: Vec<String> = self.harness.seen(|seen| {
            let texts = seen.events.iter().filter_map(|taken| taken.text());
            texts.map(str::to_owned).collect()
        });
        let said: Vec<String> = lines.map(|n| format!("line {n}")).collect();
        assert_eq!(heard, said);
    }

    fn gaps(&self) -> Vec<comity_bridge::Gap> {
        self.harness.seen(|seen| {
            seen.batches
                .iter()
                .flat_map(|batch| batch.gaps.clone())
                .collect()
        })
    }
}

fn run(server: &Server, harness: &Harness, link: comity_bridge::Link) -> JoinHandle<()> {
    let bridge = configured(server, SECRET, "ghosts", harness.gateway());
    tokio::spawn(async move {
        bridge.run(link).await.expect("a run that ends well");
    })
}

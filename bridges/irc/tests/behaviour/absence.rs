//! What happens while we are not there, or cannot take in what is said.

use comity_bridge::{DeliveryError, Gap, Outcome, event::MessageKind};

use super::{Running, ask_into, configured, joined, start};
use crate::server::Manners;

/// Lines that may wait for the journal, here.
const MAX_WAITING: usize = 1000;

async fn with_little_room(manners: Manners) -> Running {
    let at = start(manners, &[("waiting_lines", "1000")]).await;
    at.back().await;
    at
}

fn with_history() -> Manners {
    Manners {
        history: true,
        ..Manners::default()
    }
}

impl Running {
    /// Ends the bridge, as the gateway does, and runs another with what is remembered.
    async fn restarted(mut self, meanwhile: impl FnOnce(&Self)) -> Self {
        self.harness.shutdown();
        self.run.await.expect("no panic").expect("no error");
        self.run = tokio::spawn(async { Ok(()) });
        meanwhile(&self);
        let link = self.harness.relink();
        let bridge = configured(&self.server, &self.harness, &[]);
        self.run = tokio::spawn(bridge.run(link));
        ask_into(&self.harness, &self.channel).await;
        self.harness.wait_for_joined(&self.channel).await;
        self
    }

    async fn back(&self) {
        self.harness.wait_for_joined(&self.channel).await;
    }

    fn gaps(&self) -> Vec<Gap> {
        let gaps = |seen: &comity_bridge::test_util::harness::Seen| {
            let batches = seen.batches.iter();
            batches.flat_map(|batch| batch.gaps.clone()).collect()
        };
        self.harness.seen(gaps)
    }

    async fn a_gap(&self, count: usize) -> Gap {
        let gaps = self.harness.wait_for("a gap", |seen| {
            let gaps: Vec<Gap> = seen.batches.iter().flat_map(|b| b.gaps.clone()).collect();
            (gaps.len() >= count).then_some(gaps)
        });
        gaps.await.pop().expect("counted")
    }

    fn texts(&self) -> Vec<String> {
        self.harness.seen(|seen| {
            let texts = seen.events.iter().filter_map(|taken| taken.text());
            texts.map(str::to_owned).collect()
        })
    }
}

fn numbered(count: usize) -> Vec<String> {
    (0..count).map(|n| format!("line-{n}")).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_said_during_a_cut_is_fetched_in_order() {
    let at = joined(with_history()).await;
    at.server.say("ann", "#rust", "line-0");
    at.harness.wait_for_text("line-0").await;
    at.server.cut();
    at.harness.wait_for_offline().await;
    for n in 1..180 {
        at.server.say("ann", "#rust", &format!("line-{n}"));
    }
    at.back().await;
    at.server.say("ann", "#rust", "line-180");
    at.harness.wait_for_text("line-180").await;
    assert_eq!(at.texts(), numbered(181));
    assert_eq!(at.gaps(), []);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_said_during_a_restart_is_fetched_and_ours_is_not() {
    let at = joined(with_history()).await;
    let ours = at
        .harness
        .deliver(&at.channel, "Al", "ours", MessageKind::Text)
        .await;
    assert_eq!(ours.outcome().await, Outcome::Shown);
    let at = at
        .restarted(|at| {
            for n in 0..3 {
                at.server.say("ann", "#rust", &format!("line-{n}"));
            }
        })
        .await;
    at.server.say("ann", "#rust", "line-3");
    at.harness.wait_for_text("line-3").await;
    assert_eq!(at.texts(), numbered(4));
    assert_eq!(at.gaps(), []);
    assert_eq!(ours.parts().concat().len(), 1, "the echo's msgid");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_without_history_leaves_a_gap_after_a_cut_and_after_a_restart() {
    let at = joined(Manners::default()).await;
    at.server.say("ann", "#rust", "first");
    at.harness.wait_for_text("first").await;
    assert_eq!(at.gaps(), []);
    at.server.cut();
    at.harness.wait_for_offline().await;
    at.back().await;
    let first = at.a_gap(1).await;
    assert!(
        first.channel == at.channel && first.from <= first.until,
        "{first:?}"
    );
    let at = at.restarted(|_| {}).await;
    let second = at.a_gap(2).await;
    assert!(
        first.until <= second.from && second.from <= second.until,
        "{second:?}"
    );
    at.server.say("ann", "#rust", "last");
    at.harness.wait_for_text("last").await;
    assert_eq!(at.gaps().len(), 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_kick_leaves_a_gap() {
    let at = joined(with_history()).await;
    at.server.say("ann", "#rust", "first");
    at.harness.wait_for_text("first").await;
    at.server.send(":op!o@h KICK #rust comity :out\r\n");
    at.harness
        .wait_for("the kick to be remembered", |seen| {
            let rows = &seen.remembered.writes;
            rows.values().any(|row| row.contains(" out ")).then_some(())
        })
        .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_line_whose_receipt_was_lost_is_found_and_not_sent_again() {
    let at = joined(with_history()).await;
    at.server.settle().await;
    at.server.behave(|manners| manners.silent = true);
    let text = "one\ntwo\none";
    let first = at
        .harness
        .deliver(&at.channel, "Al", text, MessageKind::Text)
        .await;
    at.server
        .wait_for(|lines| lines.iter().filter(|line| line.contains("PRIVMSG")).count() == 3)
        .await;
    at.server.cut();
    assert!(matches!(first.outcome().await, Outcome::Ambiguous { .. }));
    at.server.behave(|manners| manners.silent = false);
    at.back().await;
    let again = at.harness.deliver_again(&first, true, first.plan()).await;
    assert_eq!(again.outcome().await, Outcome::Shown);
    assert_eq!(
        again.parts().concat().len(),
        3,
        "the ids that the history has"
    );
    assert_eq!(at.server.record.shown().len(), 3);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_line_that_never_arrived_is_sent_again_before_what_follows() {
    let at = joined(with_history()).await;
    at.server.settle().await;
    at.server.behave(|manners| {
        manners.forgetful = true;
        manners.silent = true;
    });
    let first = at
        .harness
        .deliver(&at.channel, "Al", "lost", MessageKind::Text)
        .await;
    at.server
        .wait_for(|lines| lines.iter().any(|line| line.contains("PRIVMSG")))
        .await;
    at.server.cut();
    assert!(matches!(first.outcome().await, Outcome::Ambiguous { .. }));
    at.server.behave(|manners| {
        manners.forgetful = false;
        manners.silent = false;
    });
    at.back().await;
    let again = at.harness.deliver_again(&first, true, None).await;
    let next = at
        .harness
        .deliver(&at.channel, "Al", "next", MessageKind::Text)
        .await;
    assert_eq!(again.outcome().await, Outcome::Shown);
    assert_eq!(next.outcome().await, Outcome::Shown);
    let shown: Vec<String> = at
        .server
        .record
        .shown()
        .into_iter()
        .map(|shown| shown.text)
        .collect();
    assert_eq!(shown, ["<Al> lost", "<Al> next"]);
}

/// What becomes of a line in doubt on a server that keeps nothing.
async fn ambiguous(policy: &str) -> (Outcome, Vec<String>) {
    let at = start(Manners::default(), &[("ambiguous", policy)]).await;
    at.back().await;
    let first = at
        .harness
        .deliver(&at.channel, "Al", "hi", MessageKind::Text)
        .await;
    assert_eq!(first.outcome().await, Outcome::Shown);
    let again = at.harness.deliver_again(&first, true, None).await;
    let outcome = again.outcome().await;
    let shown = at.server.record.shown().into_iter().map(|shown| shown.text);
    (outcome, shown.collect())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_history_the_operator_decides_what_becomes_of_a_line_in_doubt() {
    let twice = ambiguous("duplicate").await;
    assert_eq!(twice.1, ["<Al> hi", "<Al> hi"]);
    let marked = ambiguous("mark").await;
    assert_eq!(marked.1, ["<Al> hi", "<Al> [again?] hi"]);
    let (outcome, shown) = ambiguous("drop").await;
    assert!(
        matches!(outcome, Outcome::GiveUp(DeliveryError::ConnectionLost(_))),
        "{outcome:?}"
    );
    assert_eq!(shown, ["<Al> hi"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pings_are_answered_and_a_gap_is_counted_while_the_journal_hangs() {
    let at = with_little_room(Manners::default()).await;
    // Past what is remembered of the join.
    at.server.say("ann", "#rust", "zeroth");
    at.harness.wait_for_text("zeroth").await;
    at.harness.freeze();
    at.server.say("ann", "#rust", "first");
    at.harness.wait_for_hanging_commits(1).await;
    for n in 0..MAX_WAITING + 100 {
        at.server.say("ann", "#rust", &format!("line-{n}"));
    }
    at.server.settle().await;
    let thrown_away = at.harness.seen(|seen| {
        let skips = seen.skips.iter();
        skips.filter(|skip| skip.reason == "gap").count()
    });
    assert_eq!(thrown_away, 100);
    at.harness.thaw();
    let gap = at.a_gap(1).await;
    assert!(gap.channel == at.channel && gap.from <= gap.until);
    at.server.say("ann", "#rust", "last");
    at.harness.wait_for_text("last").await;
    assert_eq!(at.texts().len(), MAX_WAITING + 3);
    assert_eq!(at.gaps(), [gap]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_with_history_is_left_while_the_journal_hangs_and_nothing_is_lost() {
    let at = with_little_room(with_history()).await;
    at.harness.freeze();
    for n in 0..MAX_WAITING + 200 {
        at.server.say("ann", "#rust", &format!("line-{n}"));
    }
    at.server
        .wait_for(|lines| lines.iter().any(|line| line.starts_with("QUIT")))
        .await;
    at.harness.thaw();
    let last = format!("line-{}", MAX_WAITING + 199);
    at.harness.wait_for_text(&last).await;
    assert_eq!(at.texts(), numbered(MAX_WAITING + 200));
    assert_eq!(at.gaps(), []);
}

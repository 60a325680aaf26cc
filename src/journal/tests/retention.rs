//! What is let go of, and what never is.

use std::sync::atomic::{AtomicI64, Ordering};

use comity_bridge::Clock;

use super::*;

const HOUR: Duration = Duration::from_secs(3600);
const DAY: Duration = Duration::from_secs(24 * 3600);

/// Days pass, and the machine's clock with them.
async fn days(journal: &Journal, wall: &Arc<AtomicI64>, days: i64) {
    for _ in 0..days * 24 {
        let now = wall.fetch_add(3_600_000, Ordering::Relaxed);
        let clock = Clock::Fixed(Arc::new(AtomicI64::new(now + 3_600_000)));
        journal
            .in_store(move |store| {
                store.set_clock(clock);
                store.pass(HOUR);
            })
            .await;
    }
}

fn wall() -> Arc<AtomicI64> {
    Arc::new(AtomicI64::new(Clock::System.now().0))
}

impl Fixture {
    fn keeping(&self, keep: Duration) -> (Journal, JournalThreads) {
        let config = JournalConfig {
            keep: Some(keep),
            ..JournalConfig::default()
        };
        Journal::open(self.dir.path(), &self.rooms, &config, Metrics::new([]))
            .expect("the journal opens")
    }
}

async fn count(journal: &Journal, table: &'static str) -> u64 {
    journal
        .in_store(move |store| {
            let sql = format!("SELECT count(*) FROM {table}");
            store.connection().query_row(&sql, [], |row| row.get(0))
        })
        .await
        .expect("read")
}

/// Shows all of these in a lane.
async fn show(journal: &Journal, lane: LaneId, seqs: RangeInclusive<u64>) {
    let progress = LaneWrite {
        done: *seqs.end(),
        tried: *seqs.end(),
        parts: seqs
            .map(|seq| (seq, 0, vec![NativeId(format!("$shown-{seq}"))]))
            .collect(),
        ..LaneWrite::default()
    };
    write(journal, lane, progress).await;
}

#[tokio::test]
async fn old_events_go_when_every_lane_has_finished_with_them_and_not_before() {
    let fixture = Fixture::new();
    let (journal, threads) = fixture.keeping(2 * DAY);
    let [home, libera] = fixture.lanes(&journal).await;
    let wall = wall();
    let mut report = append((1..=1000).map(said).collect());
    report.cursor = Some(Cursor("s42".to_owned()));
    journal.append(report).await;
    finish(&journal, libera, 1000).await;
    days(&journal, &wall, 10).await;
    assert_eq!(count(&journal, "events").await, 1000, "one lane needs them");
    show(&journal, home, 1..=500).await;
    days(&journal, &wall, 1).await;
    assert_eq!(
        count(&journal, "events").await,
        1000 - 447,
        "whole blocks up to 500"
    );
    show(&journal, home, 501..=1000).await;
    days(&journal, &wall, 1).await;
    for table in ["events", "natives", "shown"] {
        assert_eq!(count(&journal, table).await, 0, "{table}");
    }
    drop(journal);
    threads.join();

    let (journal, _threads) = fixture.keeping(2 * DAY);
    let remembered = journal.remembered(&network()).await.expect("read");
    assert_eq!(remembered.cursor, Some(Cursor("s42".to_owned())));
    let again = journal.append(append(vec![said(3), said(1001)])).await;
    let expected = vec![Verdict::Duplicate(id(3)), Verdict::Accepted(id(1001))];
    assert_eq!(
        again,
        Some(expected),
        "what was let go of is known all the same"
    );
    let [home, _] = fixture.lanes(&journal).await;
    let log = journal.events(home, 1000).await.expect("read");
    assert_eq!(seqs_and_ids(&log), [(1001, id(1001))]);
}

#[tokio::test]
async fn a_room_whose_events_are_all_gone_goes_on_counting() {
    let fixture = Fixture::new();
    let (journal, threads) = fixture.keeping(DAY);
    let [home, libera] = fixture.lanes(&journal).await;
    journal.append(append((1..=10).map(said).collect())).await;
    finish(&journal, home, 10).await;
    finish(&journal, libera, 10).await;
    days(&journal, &wall(), 3).await;
    assert_eq!(count(&journal, "events").await, 0);
    drop(journal);
    threads.join();
    let (journal, _threads) = fixture.keeping(DAY);
    let [home, _] = fixture.lanes(&journal).await;
    journal.append(append(vec![said(11)])).await;
    let log = journal.events(home, 10).await.expect("read");
    assert_eq!(seqs_and_ids(&log), [(11, id(11))]);
}

#[tokio::test]
async fn a_dead_letter_keeps_its_event_and_an_open_edit_keeps_its_message() {
    let fixture = Fixture::new();
    let (journal, _threads) = fixture.keeping(DAY);
    let [home, libera] = fixture.lanes(&journal).await;
    journal.append(append((1..=300).map(said).collect())).await;
    show(&journal, home, 1..=300).await;
    let wall = wall();
    let letter = DeadLetter {
        seq: 70,
        parked: true,
        reason: "forbidden".to_owned(),
        at: Timestamp(wall.load(Ordering::Relaxed) + 3 * 86_400_000),
    };
    let buried = LaneWrite {
        done: 300,
        tried: 300,
        dead: vec![letter],
        ..LaneWrite::default()
    };
    write(&journal, libera, buried).await;
    journal
        .append(append(vec![edit(301, "native-200", "x")]))
        .await;
    days(&journal, &wall, 3).await;
    let left = journal.dead_show(&channel("libera/#rust"), id(70)).await;
    assert!(left.expect("read").is_some(), "for the operator");
    assert!(journal.event_at(home, 69).await.expect("read").is_none());
    let named = journal.native_ids(home, id(200)).await.expect("read");
    assert_eq!(named, [NativeId::from("$shown-200")], "for the edit");
    assert_eq!(count(&journal, "events").await, 301 - 191 + 1);

    finish(&journal, home, 301).await;
    finish(&journal, libera, 301).await;
    assert!(
        journal
            .dead_drop(&channel("libera/#rust"), id(70))
            .await
            .expect("open")
    );
    days(&journal, &wall, 1).await;
    assert_eq!(count(&journal, "events").await, 0);
    assert_eq!(count(&journal, "dead").await, 0);
}

#[tokio::test]
async fn a_dead_letter_goes_when_it_is_old_itself_unless_it_is_to_be_tried_again() {
    let fixture = Fixture::new();
    let (journal, _threads) = fixture.keeping(2 * DAY);
    let [home, libera] = fixture.lanes(&journal).await;
    journal.append(append((1..=300).map(said).collect())).await;
    finish(&journal, home, 300).await;
    let wall = wall();
    let now = wall.load(Ordering::Relaxed);
    // Given up three days later.
    let letter = |seq| DeadLetter {
        seq,
        at: Timestamp(now + 3 * 86_400_000),
        ..DeadLetter::default()
    };
    let buried = LaneWrite {
        done: 300,
        tried: 300,
        plans: vec![(70, vec!["one".to_owned(), "two".to_owned()])],
        dead: vec![letter(70), letter(90)],
        ..LaneWrite::default()
    };
    write(&journal, libera, buried).await;
    let here = channel("libera/#rust");
    assert!(journal.dead_retry(&here, id(90)).await.expect("open"));
    days(&journal, &wall, 4).await;
    assert_eq!(count(&journal, "events").await, 2, "theirs alone");
    days(&journal, &wall, 2).await;
    let left = journal.again(libera).await.expect("read");
    assert_eq!(left.iter().map(|l| l.seq).collect::<Vec<_>>(), [90]);
    for table in ["events", "dead"] {
        assert_eq!(count(&journal, table).await, 1, "{table}");
    }
    assert_eq!(count(&journal, "plans").await, 0);
}

#[tokio::test]
async fn a_clock_that_jumps_by_a_year_takes_nothing_away() {
    let fixture = Fixture::new();
    let (journal, _threads) = fixture.keeping(30 * DAY);
    let [home, libera] = fixture.lanes(&journal).await;
    let wall = wall();
    journal.append(append((1..=200).map(said).collect())).await;
    finish(&journal, home, 200).await;
    finish(&journal, libera, 200).await;
    days(&journal, &wall, 1).await;
    let truth = wall.load(Ordering::Relaxed);
    for jump in [365, -365] {
        wall.store(truth + jump * 86_400_000, Ordering::Relaxed);
        // What is to be let go of after an hour of a wrong clock is what would be after two days.
        days(
            &journal,
            &Arc::new(AtomicI64::new(wall.load(Ordering::Relaxed))),
            1,
        )
        .await;
        wall.store(truth, Ordering::Relaxed);
        days(&journal, &wall, 1).await;
        assert_eq!(count(&journal, "events").await, 200, "{jump} days");
    }
}

#[tokio::test]
async fn what_was_taken_back_is_emptied_when_every_lane_is_past_it() {
    let fixture = Fixture::new();
    let (journal, _threads) = fixture.open();
    let [home, libera] = fixture.lanes(&journal).await;
    let secret = |number| {
        let text = Text::plain("a secret");
        draft(
            number,
            Content::Message(Message::of(MessageKind::Text, text)),
        )
    };
    let entries = vec![
        secret(1),
        edit(2, "native-1", "a secret, still"),
        redact(3, "native-1"),
        secret(4),
    ];
    journal.append(append(entries)).await;
    finish(&journal, home, 4).await;
    journal.in_store(|store| store.pass(HOUR)).await;
    let text = |logged: Logged| match &logged.event().expect("whole").content {
        Content::Message(message) => message.text.plain.clone(),
        Content::Edit(edit) => edit.text.plain.clone(),
        _ => String::new(),
    };
    let at = async |seq| {
        text(
            journal
                .event_at(home, seq)
                .await
                .expect("read")
                .expect("there"),
        )
    };
    assert_eq!(at(1).await, "a secret", "a lane may still have to show it");
    finish(&journal, libera, 4).await;
    journal.in_store(|store| store.pass(HOUR)).await;
    assert_eq!((at(1).await, at(2).await), (String::new(), String::new()));
    assert_eq!(at(4).await, "a secret", "another one");
}

#[tokio::test]
async fn the_file_shrinks_when_much_is_let_go_of() {
    let fixture = Fixture::new();
    let (journal, _threads) = fixture.keeping(DAY);
    let [home, libera] = fixture.lanes(&journal).await;
    journal.append(append((1..=6000).map(said).collect())).await;
    finish(&journal, home, 6000).await;
    finish(&journal, libera, 6000).await;
    let pages = || {
        journal.in_store(|store| {
            let pages = store
                .connection()
                .query_row("PRAGMA page_count", [], |row| row.get(0));
            pages.expect("read")
        })
    };
    let before: u64 = pages().await;
    days(&journal, &wall(), 3).await;
    let after: u64 = pages().await;
    assert!(after * 2 < before, "{before} pages became {after}");
}

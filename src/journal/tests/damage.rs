//! A disk that does not give back what it was given.

use std::fs::OpenOptions;
use std::os::unix::fs::FileExt;

use super::*;

impl Fixture {
    fn database(&self) -> PathBuf {
        self.dir.path().join("journal.sqlite")
    }

    /// Opens the journal, puts these into it and closes it, with all of it in the database and nothing in the log before it.
    async fn filled(&self, events: RangeInclusive<u64>) {
        let (journal, threads) = self.open();
        self.lanes(&journal).await;
        journal.append(append(events.map(said).collect())).await;
        drop(journal);
        threads.join();
        let connection = rusqlite::Connection::open(self.database()).expect("open");
        connection
            .query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(()))
            .expect("a checkpoint");
    }
}

impl Fixture {
    fn overwrite(&self, page: usize) {
        let file = OpenOptions::new()
            .write(true)
            .open(self.database())
            .expect("open");
        file.write_all_at(&[0xff; 4096], page as u64 * 4096)
            .expect("write");
    }

    /// Overwrites the page that has the 250th event's text.
    fn damage_the_250th(&self) {
        let bytes = std::fs::read(self.database()).expect("read");
        let needle = b"\"line 250\"";
        let found = bytes
            .windows(needle.len())
            .position(|window| window == needle);
        self.overwrite(found.expect("the text is in the file") / 4096);
    }

    fn damage_table(&self, name: &str) {
        let connection = rusqlite::Connection::open(self.database()).expect("open");
        let sql = "SELECT rootpage FROM sqlite_schema WHERE name = ?1";
        let root: usize = connection
            .query_row(sql, [name], |row| row.get(0))
            .expect("read");
        drop(connection);
        self.overwrite(root - 1);
    }
}

/// The whole log, page by page.
async fn read_all(journal: &Journal, lane: LaneId) -> Vec<Logged> {
    let mut log: Vec<Logged> = Vec::new();
    loop {
        let after = log.last().map_or(0, Logged::seq);
        let page = journal.events(lane, after).await.expect("read");
        if page.is_empty() {
            return log;
        }
        log.extend(page);
    }
}

#[tokio::test]
async fn a_row_that_is_no_event_has_its_place_in_the_log_and_hides_no_other() {
    let fixture = Fixture::new();
    fixture.filled(1..=5).await;
    let connection = rusqlite::Connection::open(fixture.database()).expect("open");
    connection
        .execute_batch(
            "UPDATE events SET json = substr(json, 1, 40) WHERE place & 0xffffffffff = 2;
             DELETE FROM events WHERE place & 0xffffffffff = 4;",
        )
        .expect("write");
    drop(connection);
    let (journal, _threads) = fixture.open();
    let [lane, _] = fixture.lanes(&journal).await;
    let log = read_all(&journal, lane).await;
    assert_eq!(
        log.iter().map(Logged::seq).collect::<Vec<_>>(),
        [1, 2, 3, 4, 5]
    );
    assert_eq!(seqs_and_ids(&log), [(1, id(1)), (3, id(3)), (5, id(5))]);
    assert!(
        journal
            .dead_show(&channel("home/!r"), id(2))
            .await
            .expect("read")
            .is_none()
    );
    let letter = DeadLetter {
        seq: 2,
        parked: true,
        reason: "damaged".to_owned(),
        at: Timestamp(1),
    };
    let parked = LaneWrite {
        done: 5,
        tried: 5,
        dead: vec![letter],
        ..LaneWrite::default()
    };
    write(&journal, lane, parked).await;
    let (entry, about) = journal
        .dead_show(&channel("home/!r"), id(2))
        .await
        .expect("read")
        .expect("parked");
    assert_eq!((entry.seq, about.event()), (2, None));
}

#[tokio::test]
async fn a_page_that_cannot_be_read_takes_no_other_with_it() {
    let fixture = Fixture::new();
    fixture.filled(1..=500).await;
    fixture.damage_the_250th();

    let (journal, _threads) = fixture.open();
    let [lane, _] = fixture.lanes(&journal).await;
    let log = read_all(&journal, lane).await;
    assert_eq!(
        log.iter().map(Logged::seq).collect::<Vec<_>>(),
        (1..=500).collect::<Vec<_>>()
    );
    let damaged: Vec<u64> = log
        .iter()
        .filter(|logged| logged.event().is_none())
        .map(Logged::seq)
        .collect();
    assert!(damaged.contains(&250) && damaged.len() < 30, "{damaged:?}");
    let more = journal.append(append(vec![said(501)])).await;
    assert_eq!(
        more,
        Some(vec![Verdict::Accepted(id(501))]),
        "the rest goes on"
    );
}

#[tokio::test]
async fn a_commit_that_touches_what_is_damaged_is_refused_and_others_are_not() {
    let fixture = Fixture::new();
    fixture.filled(1..=2000).await;
    fixture.damage_table("natives");
    let metrics = Metrics::new([&network()]);
    let config = JournalConfig::default();
    let (journal, _threads) =
        Journal::open(fixture.dir.path(), &fixture.rooms, &config, metrics.clone())
            .expect("the journal opens");
    let [lane, other] = fixture.lanes(&journal).await;
    let thaw = journal.freeze().await;
    let shown = LaneWrite {
        done: 1,
        tried: 1,
        parts: vec![(1, 0, vec![NativeId::from("$a")])],
        ..LaneWrite::default()
    };
    let mut unlucky = journal.write_lane(lane, shown).await.expect("open");
    let lucky = journal.append(append(vec![said(2001)]));
    let (lucky, ()) = tokio::join!(lucky, async { drop(thaw) });
    assert_eq!(lucky, Some(vec![Verdict::Accepted(id(2001))]));
    assert!(unlucky.try_recv().is_err(), "kept, not durable");
    // A second waits for each failure of the disk; damage is not waited for.
    let begun = std::time::Instant::now();
    for number in 2002..2022 {
        let taken = journal.append(append(vec![said(number)])).await;
        assert_eq!(taken, Some(vec![Verdict::Accepted(id(number))]));
        finish(&journal, other, number).await;
    }
    assert!(begun.elapsed() < Duration::from_secs(10), "no round waits");
    let writable = metrics.is_journal_writable();
    assert!(!writable, "people are told");
    assert!(unlucky.try_recv().is_err(), "still kept");
}

#[tokio::test]
async fn damage_that_only_readers_meet_is_told_and_stays() {
    let fixture = Fixture::new();
    fixture.filled(1..=5).await;
    fixture.damage_table("cursors");
    let metrics = Metrics::new([&network()]);
    let config = JournalConfig::default();
    let (journal, _threads) =
        Journal::open(fixture.dir.path(), &fixture.rooms, &config, metrics.clone())
            .expect("the journal opens");
    fixture.lanes(&journal).await;
    assert!(metrics.is_journal_writable());
    let error = journal.remembered(&network()).await.expect_err("damaged");
    assert!(error.is_damage(), "{error}");
    assert!(!metrics.is_journal_writable(), "people are told");
    metrics.journal_writable(true);
    assert!(!metrics.is_journal_writable(), "it does not pass");
}

#[tokio::test]
async fn a_file_that_is_no_journal_is_refused_with_its_name_and_left_as_it_is() {
    let fixture = Fixture::new();
    fixture.filled(1..=50).await;
    let file = OpenOptions::new()
        .write(true)
        .open(fixture.database())
        .expect("open");
    file.write_all_at(&[0; 100], 0).expect("write");
    drop(file);
    let before = std::fs::read(fixture.database()).expect("read");
    let Err(error) = fixture.try_open() else {
        panic!("it opens")
    };
    assert!(matches!(&error, JournalError::Damaged { path, .. } if *path == fixture.database()));
    assert!(
        error.to_string().contains("journal.sqlite is damaged"),
        "{error}"
    );
    assert_eq!(std::fs::read(fixture.database()).expect("read"), before);
}

#[tokio::test]
async fn a_lane_begins_where_what_is_known_of_single_events_cannot_be_read() {
    for table in ["troubles", "dead", "folded"] {
        let fixture = Fixture::new();
        fixture.filled(1..=5).await;
        let (journal, threads) = fixture.open();
        let [lane, _] = fixture.lanes(&journal).await;
        let tried = LaneWrite {
            done: 1,
            tried: 4,
            ..LaneWrite::default()
        };
        write(&journal, lane, tried).await;
        drop(journal);
        threads.join();
        let connection = rusqlite::Connection::open(fixture.database()).expect("open");
        connection
            .query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(()))
            .expect("a checkpoint");
        drop(connection);
        fixture.damage_table(table);
        let (journal, _threads) = fixture.open();
        let home = channel("home/!r");
        let (_, start) = journal.lane(fixture.room(), &home).await.expect(table);
        assert_eq!((start.done, start.tried, start.head), (1, 4, 5), "{table}");
    }
}

#[tokio::test]
async fn a_room_that_is_damaged_keeps_no_other_from_letting_go() {
    let mut fixture = Fixture::new();
    fixture.filled(1..=500).await;
    fixture.damage_the_250th();
    let other: RoomAddress = "#other@gw1.example".parse().expect("a room");
    fixture.rooms.push((other.clone(), Vec::new()));
    let config = JournalConfig {
        keep: Some(Duration::from_secs(24 * 3600)),
        ..JournalConfig::default()
    };
    let (journal, _threads) = Journal::open(
        fixture.dir.path(),
        &fixture.rooms,
        &config,
        Metrics::new([]),
    )
    .expect("the journal opens");
    let lanes = fixture.lanes(&journal).await;
    for lane in lanes {
        finish(&journal, lane, 500).await;
    }
    let elsewhere = (501..=510).map(|number| match said(number) {
        Entry::Event(mut draft) => {
            draft.room = other.clone();
            Entry::Event(draft)
        }
        entry => entry,
    });
    journal.append(append(elsewhere.collect())).await;
    let left: u64 = journal
        .in_store(|store| {
            for _ in 0..72 {
                store.pass(Duration::from_secs(3600));
            }
            let count = "SELECT count(*) FROM events WHERE place >= 2 << 40";
            let left = store.connection().query_row(count, [], |row| row.get(0));
            left.expect("read")
        })
        .await;
    assert_eq!(left, 0);
}

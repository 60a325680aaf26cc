//! What the journal promises, asked of it as the gateway does.

mod checkpoints;
mod damage;
mod full;
mod late;
mod letters;
mod migration;
mod model;

mod retention;
mod waiting;

use comity_bridge::event::{Edit, Message, MessageKind, React, ReactAction, Redact};
use comity_bridge::{Author, Content, Cursor, NativeRef, SourceId, Text, Timestamp, UserAddress};

use super::*;

struct Fixture {
    dir: tempfile::TempDir,
    rooms: Vec<(RoomAddress, Vec<Channel>)>,
}

impl Fixture {
    fn new() -> Self {
        let room = "#rust@gw1.example".parse().expect("a room");
        let channels = vec![channel("libera/#rust"), channel("home/!r")];
        Fixture {
            dir: tempfile::tempdir().expect("a directory"),
            rooms: vec![(room, channels)],
        }
    }

    fn open(&self) -> (Journal, JournalThreads) {
        self.try_open().expect("the journal opens")
    }

    /// The lane of `home/!r`, and one of `libera/#rust`, so that both hold retention up.
    async fn lanes(&self, journal: &Journal) -> [LaneId; 2] {
        let mut lanes = Vec::new();
        for name in ["home/!r", "libera/#rust"] {
            let lane = journal.lane(self.room(), &channel(name)).await;
            lanes.push(lane.expect("a lane").0);
        }
        [lanes[0], lanes[1]]
    }

    fn try_open(&self) -> Result<(Journal, JournalThreads), JournalError> {
        let config = JournalConfig::default();
        Journal::open(self.dir.path(), &self.rooms, &config, Metrics::new([]))
    }

    fn room(&self) -> &RoomAddress {
        &self.rooms[0].0
    }
}

fn channel(name: &str) -> Channel {
    name.parse().expect("a channel")
}

fn network() -> NetworkName {
    "libera".parse().expect("a name")
}

fn draft(number: u64, content: Content<NativeRef>) -> Entry {
    Entry::Event(Box::new(Draft {
        id: EventId::from_ulid(ulid::Ulid::from_parts(number, 7)),
        room: "#rust@gw1.example".parse().expect("a room"),
        channel: channel("libera/#rust"),
        source_id: SourceId(format!("native-{number}")),
        author: Author {
            id: "libera/alice".to_owned(),
            address: UserAddress::of("alice", "libera.gw1.example"),
            name: "alice".to_owned(),
            avatar: None,
            bot: false,
            unknown: BTreeMap::new(),
        },
        time: Timestamp(1),
        received: Timestamp(1),
        content,
        via: vec!["gw1.example".to_owned()],
        ext: BTreeMap::new(),
    }))
}

fn said(number: u64) -> Entry {
    draft(
        number,
        Content::Message(Message::of(
            MessageKind::Text,
            Text::plain(format!("line {number}")),
        )),
    )
}

fn edit(number: u64, target: &str, text: &str) -> Entry {
    draft(
        number,
        Content::Edit(Edit {
            target: target.into(),
            text: Text::plain(text),
            unknown: BTreeMap::new(),
        }),
    )
}

fn redact(number: u64, target: &str) -> Entry {
    draft(
        number,
        Content::Redact(Redact {
            target: target.into(),
            reason: None,
            unknown: BTreeMap::new(),
        }),
    )
}

fn react(number: u64, target: &str) -> Entry {
    draft(
        number,
        Content::React(React {
            target: target.into(),
            action: ReactAction::Add,
            emoji: "+1".to_owned(),
            unknown: BTreeMap::new(),
        }),
    )
}

/// Commits a lane's progress.
async fn write(journal: &Journal, lane: LaneId, write: LaneWrite) {
    let durable = journal.write_lane(lane, write).await.expect("open");
    durable.await.expect("durable");
}

/// The lane has finished with everything up to here.
async fn finish(journal: &Journal, lane: LaneId, done: u64) {
    let progress = LaneWrite {
        done,
        tried: done,
        ..LaneWrite::default()
    };
    write(journal, lane, progress).await;
}

fn append(entries: Vec<Entry>) -> Append {
    Append {
        network: network(),
        entries,
        cursor: None,
        writes: Vec::new(),
    }
}

fn seqs_and_ids(log: &[Logged]) -> Vec<(u64, EventId)> {
    let events = log.iter().filter_map(Logged::event);
    events.map(|event| (event.seq, event.id)).collect()
}

fn id(number: u64) -> EventId {
    EventId::from_ulid(ulid::Ulid::from_parts(number, 7))
}

#[tokio::test]
async fn what_is_committed_is_there_after_the_journal_is_opened_again() {
    let fixture = Fixture::new();
    let (journal, threads) = fixture.open();
    let mut report = append(vec![said(1), said(2)]);
    report.cursor = Some(Cursor("s42".to_owned()));
    report.writes = vec![
        ("alias".to_owned(), "!r".to_owned()),
        ("gone".to_owned(), String::new()),
    ];
    assert_eq!(
        journal.append(report).await,
        Some(vec![Verdict::Accepted(id(1)), Verdict::Accepted(id(2))])
    );
    drop(journal);
    threads.join();

    let (journal, _threads) = fixture.open();
    let remembered = journal.remembered(&network()).await.expect("read");
    assert_eq!(remembered.cursor, Some(Cursor("s42".to_owned())));
    assert_eq!(
        remembered.writes,
        BTreeMap::from([("alias".to_owned(), "!r".to_owned())])
    );
    assert_eq!(
        *journal
            .tail(fixture.room())
            .expect("a tail")
            .head()
            .borrow(),
        2
    );
    let (lane, start) = journal
        .lane(fixture.room(), &channel("home/!r"))
        .await
        .expect("a lane");
    assert_eq!(
        start,
        LaneStart {
            done: 2,
            tried: 2,
            head: 2,
            ..LaneStart::default()
        },
        "a new channel begins at the end"
    );
    let events = journal.events(lane, 0).await.expect("read");
    assert_eq!(seqs_and_ids(&events), [(1, id(1)), (2, id(2))]);
}

#[tokio::test]
async fn the_same_thing_reported_twice_is_one_event() {
    let fixture = Fixture::new();
    let (journal, _threads) = fixture.open();
    journal.append(append(vec![said(1)])).await;
    let verdicts = journal
        .append(append(vec![said(1), said(2), said(2)]))
        .await;
    let expected = [
        Verdict::Duplicate(id(1)),
        Verdict::Accepted(id(2)),
        Verdict::Duplicate(id(2)),
    ];
    assert_eq!(verdicts.as_deref(), Some(&expected[..]));
    assert_eq!(
        *journal
            .tail(fixture.room())
            .expect("a tail")
            .head()
            .borrow(),
        2,
        "no gap in seq"
    );
}

#[tokio::test]
async fn no_answer_leaves_and_no_lane_sees_an_event_before_it_is_committed() {
    let fixture = Fixture::new();
    let (journal, _threads) = fixture.open();
    let thaw = journal.freeze().await;
    let mut answer = Box::pin(journal.append(append(vec![said(1)])));
    let head = journal.tail(fixture.room()).expect("a tail").head();
    // Everything that can run without the writer has run when a yield comes back.
    for _ in 0..100 {
        assert!(futures_util::poll!(&mut answer).is_pending());
        tokio::task::yield_now().await;
    }
    assert_eq!(*head.borrow(), 0);
    drop(thaw);
    assert_eq!(answer.await, Some(vec![Verdict::Accepted(id(1))]));
    assert_eq!(*head.borrow(), 1);
}

#[tokio::test]
async fn a_native_reference_is_resolved_to_where_the_message_was_born_or_shown() {
    let fixture = Fixture::new();
    let (journal, _threads) = fixture.open();
    journal.append(append(vec![said(1)])).await;
    let (lane, _) = journal
        .lane(fixture.room(), &channel("libera/#rust"))
        .await
        .expect("a lane");
    let progress = LaneWrite {
        done: 1,
        tried: 3,
        parts: vec![(1, 0, vec![NativeId::from("$shown")])],
        ..LaneWrite::default()
    };
    write(&journal, lane, progress).await;
    let verdicts = journal
        .append(append(vec![
            edit(2, "native-1", "x"),
            edit(3, "$shown", "x"),
            edit(4, "$nobody", "x"),
        ]))
        .await;
    let expected = [
        Verdict::Accepted(id(2)),
        Verdict::Accepted(id(3)),
        // Held for a while: it may be on its way.
        Verdict::Accepted(id(4)),
    ];
    assert_eq!(verdicts.as_deref(), Some(&expected[..]));
    let events = journal.events(lane, 1).await.expect("read");
    assert!(
        events
            .iter()
            .filter_map(Logged::event)
            .all(|e| matches!(&e.content, Content::Edit(edit) if edit.target == id(1)))
    );
    let ids = journal.native_ids(lane, id(1)).await.expect("read");
    assert_eq!(ids, [NativeId::from("native-1"), NativeId::from("$shown")]);
}

#[tokio::test]
async fn every_name_of_many_that_a_lane_writes_at_once_leads_to_its_message() {
    const COUNT: u64 = 40;
    let fixture = Fixture::new();
    let (journal, _threads) = fixture.open();
    journal
        .append(append((1..=COUNT).map(said).collect()))
        .await;
    let [_, lane] = fixture.lanes(&journal).await;
    let names = |seq: u64| vec![NativeId(format!("${seq}")), NativeId::from("$the same")];
    let progress = LaneWrite {
        done: COUNT,
        tried: COUNT,
        // The last one twice, as after a doubt.
        parts: (1..=COUNT)
            .chain([COUNT])
            .map(|seq| (seq, 0, names(seq)))
            .collect(),
        ..LaneWrite::default()
    };
    write(&journal, lane, progress).await;
    let edits = (1..=COUNT).map(|seq| edit(100 + seq, &format!("${seq}"), "x"));
    journal.append(append(edits.collect())).await;
    let changes = journal.changes(lane, 1..=COUNT).await.expect("read");
    let targets: Vec<u64> = changes.iter().map(|change| change.target_seq).collect();
    assert_eq!(targets, (1..=COUNT).collect::<Vec<_>>());
}

#[tokio::test]
async fn a_lane_finds_its_place_its_plans_and_its_dead_letters_again() {
    let fixture = Fixture::new();
    let (journal, threads) = fixture.open();
    let (lane, _) = journal
        .lane(fixture.room(), &channel("home/!r"))
        .await
        .expect("a lane");
    journal
        .append(append(vec![said(1), said(2), said(3)]))
        .await;
    let letter = DeadLetter {
        seq: 1,
        parked: true,
        reason: "forbidden: +m".to_owned(),
        at: Timestamp(9),
    };
    let progress = LaneWrite {
        done: 1,
        tried: 5,
        parts: vec![(2, 0, vec![NativeId::from("$a")]), (2, 1, Vec::new())],
        plans: vec![(
            2,
            vec!["one".to_owned(), "two".to_owned(), "three".to_owned()],
        )],
        dead: vec![letter.clone()],
        ..LaneWrite::default()
    };
    write(&journal, lane, progress).await;
    drop(journal);
    threads.join();

    let (journal, _threads) = fixture.open();
    let (lane, start) = journal
        .lane(fixture.room(), &channel("home/!r"))
        .await
        .expect("a lane");
    assert_eq!(
        start,
        LaneStart {
            done: 1,
            tried: 5,
            head: 3,
            ..LaneStart::default()
        }
    );
    let plan = journal.plan(lane, 2).await.expect("read").expect("a plan");
    assert_eq!(plan.parts, ["one", "two", "three"]);
    assert_eq!(
        plan.done,
        BTreeMap::from([(0, vec![NativeId::from("$a")]), (1, Vec::new())])
    );
    let dead = journal.dead_list(DeadFilter::default(), DeadPlace::default(), 10);
    let dead: Vec<_> = dead
        .await
        .expect("read")
        .into_iter()
        .map(|l| (l.seq, l.reason))
        .collect();
    assert_eq!(dead, [(letter.seq, letter.reason)]);
}

#[tokio::test]
async fn a_journal_belongs_to_one_process_and_one_from_the_future_is_refused() {
    let fixture = Fixture::new();
    let (journal, threads) = fixture.open();
    let again = fixture.try_open();
    assert!(matches!(again, Err(JournalError::InUse(_))));
    drop(journal);
    threads.join();
    let connection =
        rusqlite::Connection::open(fixture.dir.path().join("journal.sqlite")).expect("open");
    connection
        .pragma_update(None, "user_version", 99)
        .expect("write");
    drop(connection);
    let newer = fixture.try_open();
    assert!(matches!(newer, Err(JournalError::Newer { found: 99, .. })));
}

#[tokio::test]
async fn a_lane_that_is_behind_reads_the_log_page_by_page_without_a_gap() {
    let fixture = Fixture::new();
    let (journal, _threads) = fixture.open();
    journal.append(append((1..=300).map(said).collect())).await;
    let (lane, _) = journal
        .lane(fixture.room(), &channel("home/!r"))
        .await
        .expect("a lane");
    let mut seen = Vec::new();
    while let Some(next) = journal
        .events(lane, seen.last().copied().unwrap_or(0))
        .await
        .expect("read")
        .first()
    {
        seen.push(next.seq());
    }
    assert_eq!(seen, (1..=300).collect::<Vec<_>>());
    journal.append(append(vec![said(301)])).await;
    let page = journal.events(lane, 299).await.expect("read");
    assert_eq!(
        page.iter().map(Logged::seq).collect::<Vec<_>>(),
        [300, 301],
        "a page that was not full"
    );
}

#[tokio::test]
async fn the_end_of_a_log_is_in_memory_up_to_a_number_of_bytes_whatever_they_say() {
    let fixture = Fixture::new();
    let (journal, _threads) = fixture.open();
    for number in 1..=20 {
        let mut message = Message::of(MessageKind::Text, Text::plain("short"));
        let long = "x".repeat(200_000);
        message.unknown.insert("long".to_owned(), long.into());
        let entry = draft(number, Content::Message(message));
        journal.append(append(vec![entry])).await;
    }
    let tail = journal.tail(fixture.room()).expect("a tail");
    assert!(
        tail.after(0, 64).is_none(),
        "the first is on the disk alone"
    );
    assert!(tail.after(15, 64).is_some());
}

#[test]
fn what_is_not_kept_in_memory_any_more_is_let_go_of_by_whoever_reads_next() {
    let tail = Tail::new(0, 0);
    let mut first = std::sync::Weak::new();
    for number in 1..=10_000 {
        let Entry::Event(draft) = said(number) else {
            panic!("a draft")
        };
        let event = Arc::new(draft.into_event(number, |_| None).expect("no references"));
        if number == 1 {
            first = Arc::downgrade(&event);
        }
        tail.push(vec![(event, 500)], 0);
    }
    assert!(first.upgrade().is_some(), "whoever adds has enough to do");
    assert!(tail.after(0, 64).is_none(), "it is on the disk alone");
    assert!(first.upgrade().is_none(), "nobody holds it");
    tail.forget_before(Timestamp(2));
    assert!(tail.after(9_999, 64).is_none(), "nothing is kept");
}

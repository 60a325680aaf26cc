//! Journals of earlier formats.

use rusqlite::params;

use super::*;

/// A journal as the first version left it: three events, the second shown in two parts, a dead letter, a lane, a cursor.
fn format_1(fixture: &Fixture) {
    let path = fixture.dir.path().join("journal.sqlite");
    let connection = rusqlite::Connection::open(path).expect("open");
    sqlite::make_format_1(&connection);
    connection
        .execute_batch(
            "INSERT INTO rooms VALUES (1, '#rust@gw1.example');
             INSERT INTO channels VALUES (1, 'libera/#rust'), (2, 'home/!r');
             INSERT INTO lanes VALUES (1, 2, 2, 3), (1, 1, 3, 3);
             INSERT INTO dead VALUES (2, (1 << 40) | 1, 1, 'forbidden: +m', 9);
             INSERT INTO plans VALUES (2, (1 << 40) | 3, '[\"one\",\"two\"]');
             INSERT INTO parts VALUES ((1 << 40) | 2, 2, 0, '$a'), ((1 << 40) | 2, 2, 0, '$b'),
                 ((1 << 40) | 2, 2, 1, '$c'), ((1 << 40) | 3, 2, 0, '');
             INSERT INTO cursors VALUES ('libera', 's42');",
        )
        .expect("the rows");
    for number in 1..=3 {
        let Entry::Event(draft) = said(number) else {
            panic!("a draft")
        };
        let event = draft.into_event(number, |_| None).expect("no references");
        connection
            .execute(
                "INSERT INTO events VALUES ((1 << 40) | ?1, ?2, 1, ?3, ?4)",
                params![
                    number,
                    event.id.to_bytes(),
                    event.origin.native_id.0,
                    serde_json::to_string(&event).expect("JSON")
                ],
            )
            .expect("a row");
    }
}

#[tokio::test]
async fn a_journal_of_the_first_format_keeps_everything() {
    let fixture = Fixture::new();
    format_1(&fixture);
    has_everything(&fixture).await;
}

#[tokio::test]
async fn a_conversion_that_was_killed_between_two_steps_goes_on() {
    let fixture = Fixture::new();
    format_1(&fixture);
    let path = fixture.dir.path().join("journal.sqlite");
    let connection = rusqlite::Connection::open(path).expect("open");
    connection
        .execute_batch("PRAGMA auto_vacuum = INCREMENTAL; VACUUM;")
        .expect("the file is rewritten");
    drop(connection);
    has_everything(&fixture).await;
}

async fn has_everything(fixture: &Fixture) {
    let (journal, _threads) = fixture.open();
    let home = channel("home/!r");
    let (lane, start) = journal.lane(fixture.room(), &home).await.expect("a lane");
    assert_eq!((start.done, start.tried, start.head), (2, 3, 3));
    let log = journal.events(lane, 0).await.expect("read");
    assert_eq!(seqs_and_ids(&log), [(1, id(1)), (2, id(2)), (3, id(3))]);
    assert_eq!(
        journal.standing(lane, id(1)).await.expect("read"),
        Standing::Dead
    );
    let ids = ["$a", "$b", "$c"].map(NativeId::from);
    assert_eq!(journal.native_ids(lane, id(2)).await.expect("read"), ids);
    let plan = journal.plan(lane, 3).await.expect("read").expect("a plan");
    assert_eq!(plan.done, BTreeMap::from([(0, Vec::new())]));
    let remembered = journal.remembered(&network()).await.expect("read");
    assert_eq!(remembered.cursor, Some(Cursor("s42".to_owned())));
    let mut answer = edit(4, "$c", "x");
    if let Entry::Event(draft) = &mut answer {
        draft.channel = home;
    }
    let verdicts = journal.append(append(vec![said(2), answer])).await;
    let expected = vec![Verdict::Duplicate(id(2)), Verdict::Accepted(id(4))];
    assert_eq!(verdicts, Some(expected));
    let changes = journal.changes(lane, 1..=3).await.expect("read");
    assert_eq!(
        changes.iter().map(|c| c.target_seq).collect::<Vec<_>>(),
        [2]
    );
    let mode: i64 = journal
        .in_store(|store| {
            store
                .connection()
                .query_row("PRAGMA auto_vacuum", [], |row| row.get(0))
        })
        .await
        .expect("read");
    assert_eq!(mode, 2, "the file can shrink");
}

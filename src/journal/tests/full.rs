//! A disk that is full, and one that is not any more.

use super::*;

async fn allow(journal: &Journal, pages: i64) {
    journal
        .in_store(move |store| {
            let now: i64 = store
                .connection()
                .query_row("PRAGMA page_count", [], |row| row.get(0))
                .expect("read");
            let limit = format!("PRAGMA max_page_count = {}", now + pages);
            store
                .connection()
                .query_row(&limit, [], |_| Ok(()))
                .expect("set");
        })
        .await;
}

#[tokio::test]
async fn a_full_disk_refuses_reports_keeps_what_lanes_know_and_recovers_by_itself() {
    let fixture = Fixture::new();
    let (journal, threads) = fixture.open();
    let [lane, _] = fixture.lanes(&journal).await;
    journal.append(append(vec![said(1), said(2)])).await;
    allow(&journal, 0).await;
    let many = || append((100..600).map(said).collect());
    assert_eq!(journal.append(many()).await, None, "nothing of it is taken");
    let shown = LaneWrite {
        done: 2,
        tried: 2,
        parts: vec![(1, 0, vec![NativeId("x".repeat(100_000))])],
        ..LaneWrite::default()
    };
    let mut durable = journal.write_lane(lane, shown).await.expect("open");
    assert_eq!(journal.append(many()).await, None);
    assert!(durable.try_recv().is_err(), "not durable yet");
    let head = journal.tail(fixture.room()).expect("a tail").head();
    assert_eq!(*head.borrow(), 2, "no lane sees what was refused");

    allow(&journal, 100_000).await;
    durable.await.expect("durable, without being asked again");
    let verdicts = journal.append(many()).await.expect("taken");
    assert_eq!(verdicts.len(), 500);
    drop(journal);
    threads.join();
    let (journal, _threads) = fixture.open();
    let (_, start) = journal
        .lane(fixture.room(), &channel("home/!r"))
        .await
        .expect("a lane");
    assert_eq!((start.done, start.head), (2, 502));
}

//! Lanes whose progress joins a group that is being written.

use super::*;

fn shown(seq: u64) -> LaneWrite {
    LaneWrite {
        done: seq,
        tried: seq,
        parts: vec![(seq, 0, vec![NativeId::from("$shown")])],
        ..LaneWrite::default()
    }
}

#[tokio::test]
async fn what_joins_a_group_is_committed_with_it() {
    let fixture = Fixture::new();
    let (journal, threads) = fixture.open();
    let [home, libera] = fixture.lanes(&journal).await;
    journal.append(append(vec![said(1)])).await;
    let commits = journal
        .in_store(move |store| {
            let mut lanes = vec![(home, shown(1), ())];
            let mut late = vec![(libera, shown(1), ())];
            let mut looks = 0;
            let no_report = std::iter::empty();
            let committed = store.commit(
                no_report,
                &mut lanes,
                std::iter::empty(),
                |lanes| {
                    looks += 1;
                    lanes.append(&mut late);
                },
                |_| (),
            );
            assert!(committed.is_ok());
            (lanes.len(), looks)
        })
        .await;
    assert_eq!(commits, (2, 2), "both, and nobody came after the second");
    drop(journal);
    threads.join();
    let (journal, _threads) = fixture.open();
    for name in ["home/!r", "libera/#rust"] {
        let (_, start) = journal
            .lane(fixture.room(), &channel(name))
            .await
            .expect("a lane");
        assert_eq!(start.done, 1, "{name}");
    }
}

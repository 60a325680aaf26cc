//! Reports whose target is not in the journal yet.

use super::*;

async fn seqs(journal: &Journal, lane: LaneId) -> Vec<(u64, EventId)> {
    seqs_and_ids(&journal.events(lane, 0).await.expect("read"))
}

#[tokio::test]
async fn a_change_that_comes_before_its_message_waits_for_it_even_across_a_restart() {
    let fixture = Fixture::new();
    let (journal, threads) = fixture.open();
    let verdicts = journal
        .append(append(vec![
            edit(2, "native-1", "better"),
            react(3, "native-2"),
        ]))
        .await;
    let held = [Verdict::Accepted(id(2)), Verdict::Accepted(id(3))];
    assert_eq!(verdicts.as_deref(), Some(&held[..]), "it is kept");
    let again = journal
        .append(append(vec![edit(2, "native-1", "better")]))
        .await;
    assert_eq!(again, Some(vec![Verdict::Duplicate(id(2))]));
    drop(journal);
    threads.join();

    let (journal, _threads) = fixture.open();
    let [lane, _] = fixture.lanes(&journal).await;
    assert_eq!(seqs(&journal, lane).await, []);
    journal.append(append(vec![said(1), said(4)])).await;
    assert_eq!(
        seqs(&journal, lane).await,
        [(1, id(1)), (2, id(2)), (3, id(3)), (4, id(4))],
        "right behind what it names, and what names it behind that"
    );
    let edit = Change {
        target_seq: 1,
        seq: 2,
        kind: ChangeKind::Edit,
    };
    let changes = journal.changes(lane, 1..=1).await.expect("read");
    assert_eq!(changes, [edit]);
    let tail = journal.tail(fixture.room()).expect("a tail");
    assert_eq!(tail.last_change(), 3);
}

#[tokio::test]
async fn a_change_is_released_when_a_lane_learns_what_its_target_is_called() {
    let fixture = Fixture::new();
    let (journal, _threads) = fixture.open();
    let [home, libera] = fixture.lanes(&journal).await;
    let mut entry = said(1);
    if let Entry::Event(draft) = &mut entry {
        draft.channel = channel("home/!r");
    }
    journal
        .append(append(vec![entry, redact(2, "$shown")]))
        .await;
    assert_eq!(seqs(&journal, home).await, [(1, id(1))]);
    let shown = LaneWrite {
        done: 1,
        tried: 1,
        parts: vec![(1, 0, vec![NativeId::from("$shown")])],
        ..LaneWrite::default()
    };
    write(&journal, libera, shown).await;
    assert_eq!(seqs(&journal, home).await, [(1, id(1)), (2, id(2))]);
}

#[tokio::test]
async fn what_never_comes_is_not_waited_for_for_ever_and_may_be_reported_again() {
    let fixture = Fixture::new();
    let (journal, _threads) = fixture.open();
    let [lane, _] = fixture.lanes(&journal).await;
    journal.append(append(vec![edit(2, "native-1", "x")])).await;
    assert_eq!(journal.in_store(|store| store.lose_patience()).await, 1);
    assert_eq!(journal.in_store(|store| store.lose_patience()).await, 0);
    journal.append(append(vec![said(1)])).await;
    assert_eq!(seqs(&journal, lane).await, [(1, id(1))], "it was let go of");
    let again = journal.append(append(vec![edit(2, "native-1", "x")])).await;
    assert_eq!(again, Some(vec![Verdict::Accepted(id(2))]));
    assert_eq!(seqs(&journal, lane).await, [(1, id(1)), (2, id(2))]);
}

#[tokio::test]
async fn a_network_that_names_nothing_but_unknown_messages_fills_no_disk() {
    let fixture = Fixture::new();
    let (journal, _threads) = fixture.open();
    let entries = (2..1002).map(|number| edit(number, "native-1", "x"));
    journal.append(append(entries.collect())).await;
    let refused = Verdict::Refused(comity_bridge::report::Refusal::UnknownTarget);
    let more = journal
        .append(append(vec![edit(2000, "native-1", "x"), said(3000)]))
        .await;
    assert_eq!(more, Some(vec![refused, Verdict::Accepted(id(3000))]));
}

#[tokio::test]
async fn one_that_begins_to_wait_when_another_ends_is_released_as_well() {
    let fixture = Fixture::new();
    let (journal, _threads) = fixture.open();
    let [lane, _] = fixture.lanes(&journal).await;
    journal.append(append(vec![edit(2, "native-1", "x")])).await;
    // In one commit: 2 ends waiting, then 4 begins to.
    journal
        .append(append(vec![said(1), edit(4, "native-3", "y")]))
        .await;
    journal.append(append(vec![said(3)])).await;
    let all = [(1, id(1)), (2, id(2)), (3, id(3)), (4, id(4))];
    assert_eq!(seqs(&journal, lane).await, all);
}

#[tokio::test]
async fn a_chain_of_a_thousand_that_wait_for_each_other_is_released() {
    let fixture = Fixture::new();
    let (journal, _threads) = fixture.open();
    let [lane, _] = fixture.lanes(&journal).await;
    let chain = (2..=1000).rev().map(|number| {
        let target = format!("native-{}", number - 1);
        edit(number, &target, "x")
    });
    journal.append(append(chain.collect())).await;
    journal.append(append(vec![said(1)])).await;
    let head = journal.tail(fixture.room()).expect("a tail").head();
    assert_eq!(*head.borrow(), 1000);
    let last = journal.event_at(lane, 1000).await.expect("read");
    assert_eq!(last.and_then(|e| e.event().map(|e| e.id)), Some(id(1000)));
}

//! What lanes and people write and ask about single events.

use super::*;

fn letter(seq: u64) -> DeadLetter {
    DeadLetter {
        seq,
        parked: true,
        reason: "forbidden: +m".to_owned(),
        at: Timestamp(9),
    }
}

fn buried(done: u64, letters: &[u64]) -> LaneWrite {
    LaneWrite {
        done,
        tried: done,
        dead: letters.iter().map(|seq| letter(*seq)).collect(),
        ..LaneWrite::default()
    }
}

async fn list(journal: &Journal) -> Vec<(u64, bool)> {
    let letters = journal
        .dead_list(DeadFilter::default(), DeadPlace::default(), 10)
        .await
        .expect("read");
    letters
        .iter()
        .map(|letter| (letter.seq, letter.again))
        .collect()
}

#[tokio::test]
async fn dead_letters_are_listed_shown_tried_again_and_dropped() {
    let fixture = Fixture::new();
    let (journal, threads) = fixture.open();
    let [lane, _] = fixture.lanes(&journal).await;
    let home = channel("home/!r");
    journal.append(append((1..=4).map(said).collect())).await;
    write(&journal, lane, buried(4, &[1, 2, 4])).await;
    assert_eq!(list(&journal).await, [(1, false), (2, false), (4, false)]);

    let first = journal
        .dead_list(DeadFilter::default(), DeadPlace::default(), 1)
        .await
        .expect("read");
    assert_eq!(first[0].event, Some(id(1)));
    let place = first[0].place.to_string().parse().expect("its own form");
    let rest = journal.dead_list(DeadFilter::default(), place, 10).await;
    assert_eq!(rest.expect("read").len(), 2);
    let elsewhere = DeadFilter {
        network: Some(network()),
        ..DeadFilter::default()
    };
    let none = journal.dead_list(elsewhere, DeadPlace::default(), 10).await;
    assert_eq!(none.expect("read"), []);

    let (shown, event) = journal
        .dead_show(&home, id(2))
        .await
        .expect("read")
        .expect("it is there");
    assert_eq!((shown.reason.as_str(), event.seq()), ("forbidden: +m", 2));

    let asked = journal.second_chances(lane);
    assert!(journal.dead_retry(&home, id(2)).await.expect("open"));
    asked.notified().await;
    assert!(
        !journal.dead_retry(&home, id(3)).await.expect("open"),
        "not dead"
    );
    assert!(journal.dead_drop(&home, id(4)).await.expect("open"));
    assert_eq!(list(&journal).await, [(1, false), (2, true)]);
    let standing = journal.standing(lane, id(4)).await.expect("read");
    assert_eq!(standing, Standing::NeverShown);
    let trace = journal.trace(id(4)).await.expect("read").expect("known");
    let of_home = trace.channels.iter().find(|seen| seen.channel == home);
    let step = of_home.map(|seen| &seen.step);
    assert!(matches!(step, Some(ChannelStep::Dropped(_))), "{step:?}");
    drop(journal);
    threads.join();

    let (journal, _threads) = fixture.open();
    let (lane, start) = journal.lane(fixture.room(), &home).await.expect("a lane");
    assert_eq!(
        start.again,
        [letter(2)],
        "a second chance outlives a restart"
    );
    let revived = LaneWrite {
        done: 4,
        tried: 4,
        parts: vec![(2, 0, vec![NativeId::from("$late")])],
        revived: vec![2],
        ..LaneWrite::default()
    };
    write(&journal, lane, revived).await;
    assert_eq!(list(&journal).await, [(1, false)]);
    let standing = journal.standing(lane, id(2)).await.expect("read");
    assert_eq!(standing, Standing::Shown(vec![NativeId::from("$late")]));
}

#[tokio::test]
async fn what_was_taken_back_is_no_dead_letter_any_more() {
    let fixture = Fixture::new();
    let (journal, _threads) = fixture.open();
    let [lane, _] = fixture.lanes(&journal).await;
    journal.append(append(vec![said(1), said(2)])).await;
    write(&journal, lane, buried(2, &[1, 2])).await;
    journal.append(append(vec![redact(3, "native-1")])).await;
    assert_eq!(list(&journal).await, [(2, false)]);
    assert!(
        !journal
            .dead_retry(&channel("home/!r"), id(1))
            .await
            .expect("open")
    );
    // Nor does a lane that had it in hand just then bring it back.
    write(&journal, lane, buried(2, &[1])).await;
    assert_eq!(list(&journal).await, [(2, false)]);
}

#[tokio::test]
async fn what_failed_is_remembered_until_it_is_finished() {
    let fixture = Fixture::new();
    let (journal, threads) = fixture.open();
    let [lane, _] = fixture.lanes(&journal).await;
    journal.append(append((1..=3).map(said).collect())).await;
    let trouble = |seq| Trouble {
        seq,
        attempts: 4,
        deaths: 2,
        doubt: true,
        why: "connection lost".to_owned(),
        at: Timestamp(7),
    };
    let failed = LaneWrite {
        done: 0,
        tried: 3,
        troubles: vec![trouble(1), trouble(2), trouble(3)],
        folded: vec![2, 3],
        ..LaneWrite::default()
    };
    write(&journal, lane, failed).await;
    finish(&journal, lane, 1).await;
    write(&journal, lane, buried(1, &[3])).await;
    drop(journal);
    threads.join();

    let (journal, threads) = fixture.open();
    let home = channel("home/!r");
    let (lane, start) = journal.lane(fixture.room(), &home).await.expect("a lane");
    assert_eq!(start.troubles, [trouble(2)]);
    assert_eq!(start.folded, [2, 3]);
    finish(&journal, lane, 3).await;
    drop(journal);
    threads.join();

    let (journal, _threads) = fixture.open();
    let (_, start) = journal.lane(fixture.room(), &home).await.expect("a lane");
    assert_eq!((start.troubles, start.folded), (Vec::new(), Vec::new()));
}

#[tokio::test]
async fn the_same_notice_is_said_once() {
    let fixture = Fixture::new();
    let (journal, _threads) = fixture.open();
    let [lane, _] = fixture.lanes(&journal).await;
    let Entry::Event(notice) = said(1) else {
        panic!("a draft")
    };
    for _ in 0..2 {
        let progress = LaneWrite {
            notices: vec![(*notice).clone()],
            ..LaneWrite::default()
        };
        write(&journal, lane, progress).await;
    }
    let log = journal.events(lane, 0).await.expect("read");
    assert_eq!(seqs_and_ids(&log), [(1, id(1))]);
}

#[tokio::test]
async fn a_lane_can_ask_what_an_event_is_to_its_channel() {
    let fixture = Fixture::new();
    let (journal, _threads) = fixture.open();
    journal.append(append(vec![said(1)])).await;
    let [home, libera] = fixture.lanes(&journal).await;
    journal.append(append((2..=5).map(said).collect())).await;
    let progress = LaneWrite {
        parts: vec![
            (2, 0, vec![NativeId::from("$a")]),
            (2, 1, vec![NativeId::from("$b")]),
        ],
        ..buried(4, &[3])
    };
    write(&journal, home, progress).await;
    let mut found = Vec::new();
    for number in 1..=6 {
        found.push(journal.standing(home, id(number)).await.expect("read"));
    }
    let shown = vec![NativeId::from("$a"), NativeId::from("$b")];
    let expected = [
        Standing::NeverShown,
        Standing::Shown(shown),
        Standing::Dead,
        Standing::Shown(Vec::new()),
        Standing::Waiting,
        Standing::NeverShown,
    ];
    assert_eq!(found, expected);
    let born = journal.standing(libera, id(2)).await.expect("read");
    assert_eq!(born, Standing::Origin(NativeId::from("native-2")));
}

#[tokio::test]
async fn a_trace_says_what_became_of_an_event_everywhere() {
    let fixture = Fixture::new();
    let (journal, _threads) = fixture.open();
    let [home, _] = fixture.lanes(&journal).await;
    journal.append(append(vec![said(1)])).await;
    let trace = journal.trace(id(1)).await.expect("read").expect("known");
    assert_eq!(trace.origin, channel("libera/#rust"));
    assert!(trace.committed.is_some());
    assert_eq!(trace.channels[0].step, ChannelStep::Waiting);
    let progress = LaneWrite {
        done: 1,
        tried: 1,
        parts: vec![(1, 0, vec![NativeId::from("$a")])],
        ..LaneWrite::default()
    };
    write(&journal, home, progress).await;
    let trace = journal.trace(id(1)).await.expect("read").expect("known");
    let [only] = &trace.channels[..] else {
        panic!("one other channel")
    };
    assert_eq!(
        (&only.channel, &only.step),
        (&channel("home/!r"), &ChannelStep::Finished)
    );
    assert_eq!(only.parts[0].ids, [NativeId::from("$a")]);
    assert!(only.parts[0].at.is_some());
    assert_eq!(journal.trace(id(9)).await.expect("read"), None);
}

#[tokio::test]
async fn the_plan_of_a_dead_letter_costs_later_writes_nothing_and_goes_with_the_letter() {
    let fixture = Fixture::new();
    let (journal, _threads) = fixture.open();
    let [lane, _] = fixture.lanes(&journal).await;
    journal.append(append((1..=3).map(said).collect())).await;
    let mut split = buried(1, &[1]);
    split.plans = vec![(1, vec!["one".to_owned(), "two".to_owned()])];
    write(&journal, lane, split).await;
    let tidy = journal.in_store(move |store| store.is_tidy(lane)).await;
    assert!(tidy, "what stays is not looked through by each write");
    finish(&journal, lane, 2).await;
    assert!(journal.plan(lane, 1).await.expect("read").is_some());
    journal
        .dead_drop(&channel("home/!r"), id(1))
        .await
        .expect("written");
    assert_eq!(journal.plan(lane, 1).await.expect("read"), None);
}

#[tokio::test]
async fn a_pile_of_letters_is_decided_about_page_by_page_in_bounded_time() {
    const PILE: u64 = 5000;
    let fixture = Fixture::new();
    let (journal, _threads) = fixture.open();
    let [lane, _] = fixture.lanes(&journal).await;
    journal.append(append((1..=PILE).map(said).collect())).await;
    let all: Vec<u64> = (1..=PILE).collect();
    write(&journal, lane, buried(PILE, &all)).await;
    // Where the event itself is gone the letter is still somebody's to decide about.
    let gone = |store: &mut sqlite::Store| {
        store.connection().execute(
            "DELETE FROM events WHERE id = (SELECT max(id) FROM events)",
            [],
        )
    };
    journal.in_store(gone).await.expect("written");
    let begun = std::time::Instant::now();
    for again in [true, false] {
        let (mut after, mut changed) = (DeadPlace::default(), 0);
        loop {
            let page = journal.dead_list(DeadFilter::default(), after, 1000).await;
            let places: Vec<_> = page.expect("read").iter().map(|l| l.place).collect();
            let Some(last) = places.last() else { break };
            after = *last;
            changed += journal.dead_change(places, again).await.expect("written");
        }
        assert_eq!(changed as u64, PILE);
        let asked = journal.again(lane).await.expect("read");
        assert_eq!(asked.len(), if again { AGAIN } else { 0 });
        assert_eq!(
            journal.is_asked_again(lane, PILE).await.expect("read"),
            again
        );
    }
    assert!(
        begun.elapsed() < Duration::from_secs(8),
        "{:?}",
        begun.elapsed()
    );
}

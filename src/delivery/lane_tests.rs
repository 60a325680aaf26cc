use super::*;
use crate::journal::AGAIN;

const NOW: Timestamp = Timestamp(1);

fn lane(done: u64, tried: u64, head: u64, window: usize) -> Lane {
    let mut lane = Lane::new(LaneStart {
        done,
        tried,
        head,
        ..LaneStart::default()
    });
    lane.set_window(window);
    commit(&mut lane);
    lane
}

fn commit(lane: &mut Lane) -> Option<LaneWrite> {
    let Write { write, .. } = lane.take_write()?;
    lane.written(write.done, write.tried);
    Some(write)
}

fn finish(outcome: Outcome) -> Receipt {
    Receipt::Finish {
        outcome,
        parts: Vec::new(),
    }
}

fn lost() -> DeliveryError {
    DeliveryError::ConnectionLost("test".to_owned())
}

#[test]
fn nothing_is_handed_over_before_the_journal_knows_that_it_may_be() {
    let mut lane = Lane::new(LaneStart {
        done: 5,
        tried: 5,
        head: 9,
        ..LaneStart::default()
    });
    lane.set_window(4);
    assert!(!lane.may_hand_over());
    let write = commit(&mut lane).expect("a write");
    assert_eq!((write.done, write.tried), (5, 13));
    assert!(lane.may_hand_over());
}

#[test]
fn no_more_than_a_window_is_out() {
    let mut lane = lane(0, 0, 9, 2);
    lane.hand_over(Vec::new());
    lane.hand_over(Vec::new());
    assert!(!lane.may_hand_over());
    lane.receipt(2, finish(Outcome::Shown), NOW);
    assert!(lane.may_hand_over());
    assert_eq!(lane.done(), 0, "the first is still out");
    lane.receipt(1, finish(Outcome::Shown), NOW);
    assert_eq!(lane.done(), 2);
}

#[test]
fn after_a_crash_what_may_have_been_tried_is_in_doubt_and_nothing_else() {
    let mut lane = lane(3, 9, 5, 4);
    assert_eq!(
        lane.hand_over(Vec::new()),
        Attempt {
            number: 1,
            doubt: true
        }
    );
    assert_eq!(
        lane.hand_over(Vec::new()),
        Attempt {
            number: 1,
            doubt: true
        }
    );
    assert_eq!(
        lane.hand_over(Vec::new()),
        Attempt {
            number: 1,
            doubt: false
        },
        "6 came after the restart"
    );
}

#[test]
fn a_failure_holds_the_lane_until_all_is_back_and_then_begins_at_the_first_unfinished() {
    let mut lane = lane(0, 0, 9, 4);
    for _ in 0..3 {
        lane.hand_over(Vec::new());
    }
    lane.receipt(1, finish(Outcome::Shown), NOW);
    lane.receipt(
        2,
        finish(Outcome::Retry {
            after: Duration::from_secs(7),
            why: lost(),
        }),
        NOW,
    );
    assert_eq!(lane.settle(), None, "3 is still out");
    assert!(!lane.may_hand_over());
    lane.receipt(3, finish(Outcome::NotAttempted), NOW);
    assert_eq!(
        lane.settle(),
        Some(Failure {
            after: Duration::from_secs(7),
            why: Some(lost())
        })
    );
    assert_eq!(lane.next(), 2);
    assert_eq!(
        lane.hand_over(Vec::new()),
        Attempt {
            number: 2,
            doubt: false
        }
    );
    assert_eq!(
        lane.hand_over(Vec::new()),
        Attempt {
            number: 1,
            doubt: false
        },
        "3 was not attempted"
    );
}

#[test]
fn what_was_shown_out_of_turn_is_not_shown_again() {
    let mut lane = lane(0, 0, 9, 4);
    lane.hand_over(Vec::new());
    lane.hand_over(Vec::new());
    lane.receipt(1, finish(Outcome::Ambiguous { why: lost() }), NOW);
    lane.receipt(2, finish(Outcome::Shown), NOW);
    assert!(lane.settle().is_some());
    assert_eq!(
        lane.hand_over(Vec::new()),
        Attempt {
            number: 2,
            doubt: true
        }
    );
    assert!(lane.step_over_finished());
    assert_eq!(lane.next(), 3);
    lane.receipt(1, finish(Outcome::Shown), NOW);
    assert_eq!(lane.done(), 2);
}

#[test]
fn a_dead_letter_is_kept_with_its_reason_and_its_successors_go_on() {
    let mut lane = lane(0, 0, 9, 4);
    lane.hand_over(Vec::new());
    let why = DeliveryError::TooLarge("9 MB".to_owned());
    assert_eq!(
        lane.receipt(1, finish(Outcome::GiveUp(why.clone())), NOW),
        Some(Note::Dead(1, why))
    );
    assert_eq!(lane.done(), 1);
    let write = commit(&mut lane).expect("a write");
    assert_eq!(
        write.dead,
        [DeadLetter {
            seq: 1,
            parked: false,
            reason: "too large: 9 MB".to_owned(),
            at: NOW
        }]
    );
}

#[test]
fn a_delivery_that_kills_its_bridge_three_times_is_parked_alone() {
    let mut lane = lane(0, 0, 9, 4);
    lane.hand_over(Vec::new());
    lane.hand_over(Vec::new());
    lane.receipt(1, Receipt::Dropped, NOW);
    lane.receipt(2, Receipt::Dropped, NOW);
    for death in [2, 3] {
        assert!(lane.settle().is_some());
        lane.hand_over(Vec::new());
        assert!(!lane.may_hand_over(), "one at a time after a death");
        let note = lane.receipt(1, Receipt::Dropped, NOW);
        assert_eq!(note.is_some(), death == 3);
    }
    assert_eq!(lane.done(), 1, "2 goes on");
}

#[test]
fn a_death_is_counted_for_the_first_in_hand_alone_in_whatever_order_they_come_back() {
    for order in [[1, 2, 3], [3, 2, 1], [2, 1, 3]] {
        let mut lane = lane(0, 0, 9, 4);
        for _ in order {
            lane.hand_over(Vec::new());
        }
        for seq in order {
            lane.receipt(seq, Receipt::Dropped, NOW);
        }
        assert!(lane.settle().is_some());
        let write = commit(&mut lane).expect("a write");
        let mut deaths: Vec<_> = write.troubles.iter().map(|t| (t.seq, t.deaths)).collect();
        deaths.sort_unstable();
        assert_eq!(deaths, [(1, 1), (2, 0), (3, 0)], "{order:?}");
    }
}

#[test]
fn what_had_failed_before_the_death_is_not_the_one_that_kills() {
    let mut lane = lane(0, 0, 9, 4);
    lane.hand_over(Vec::new());
    lane.hand_over(Vec::new());
    let outcome = Outcome::Retry {
        after: Duration::ZERO,
        why: lost(),
    };
    lane.receipt(1, finish(outcome), NOW);
    lane.receipt(2, Receipt::Dropped, NOW);
    let write = commit(&mut lane).expect("a write");
    let deaths: Vec<_> = write.troubles.iter().map(|t| (t.seq, t.deaths)).collect();
    assert_eq!(deaths, [(1, 0), (2, 1)]);
}

#[test]
fn events_that_are_not_for_the_channel_cost_no_commit_each() {
    let mut lane = lane(0, 0, 1000, 4);
    let mut writes = 0;
    for _ in 0..1000 {
        lane.pass();
        writes += u32::from(commit(&mut lane).is_some());
    }
    assert_eq!(lane.done(), 1000);
    assert!(writes <= 300, "{writes}");
}

#[test]
fn what_was_taken_back_is_in_the_journal_before_anything_behind_it_is_handed_over() {
    let mut lane = lane(0, 0, 9, 4);
    lane.hand_over(Vec::new());
    lane.cancel(&[5]);
    assert!(!lane.may_hand_over());
    assert_eq!(lane.needs_write(), Need::Now);
    // A write that began before does not tell of it.
    let write = lane.take_write().expect("a write").write;
    assert_eq!((write.done, &*write.folded), (0, &[5, 2][..]));
    assert!(!lane.may_hand_over());
    lane.written(write.done, write.tried);
    assert!(lane.may_hand_over());

    // After a crash only the first is in doubt, and the second and what took it back are stepped over.
    let mut lane = Lane::new(LaneStart {
        done: write.done,
        tried: write.tried,
        head: 9,
        folded: write.folded,
        ..LaneStart::default()
    });
    lane.set_window(4);
    assert!(lane.hand_over(Vec::new()).doubt);
    assert!(lane.step_over_finished());
    assert_eq!(lane.next(), 3);
}

#[test]
fn a_message_and_the_changes_shown_within_it_are_finished_together() {
    let mut lane = lane(0, 0, 9, 4);
    lane.hand_over(Vec::new());
    lane.hand_over(vec![5]);
    lane.receipt(2, finish(Outcome::Shown), NOW);
    let write = commit(&mut lane).expect("a write");
    assert_eq!((write.done, &*write.folded), (0, &[2, 5][..]));
}

#[test]
fn letters_are_taken_up_in_pages_and_those_of_an_earlier_run_are_in_doubt_to_the_last() {
    let letters = |seqs: std::ops::RangeInclusive<u64>| -> Vec<DeadLetter> {
        let letter = |seq| DeadLetter {
            seq,
            ..DeadLetter::default()
        };
        seqs.map(letter).collect()
    };
    let full = AGAIN as u64;
    let mut lane = Lane::new(LaneStart {
        done: 2 * full,
        tried: 2 * full,
        head: 2 * full,
        again: letters(1..=full),
        ..LaneStart::default()
    });
    for seq in 1..=full {
        assert!(!lane.wants_more_letters());
        assert_eq!(lane.next_again(), Some(seq));
        assert!(lane.hand_over_again(seq, Vec::new()).doubt);
        lane.receipt(seq, finish(Outcome::Shown), NOW);
    }
    assert!(lane.wants_more_letters());
    lane.try_again(&letters(full + 1..=full + 1));
    assert!(lane.is_again_in_doubt(full + 1), "it may have been out");
    lane.try_again(&letters(full + 2..=full + 2));
    assert!(!lane.is_again_in_doubt(full + 2), "asked for in this run");
}

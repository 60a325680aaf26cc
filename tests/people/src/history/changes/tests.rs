//! The judge of changes is judged: a clean run has no fault, and every kind of damage is found.

use super::*;

const RUN: &str = "r1";

fn message(id: &str, by: &str, own: bool, text: &str) -> Appeared {
    appeared(id, by, own, What::Message { text: text.into() })
}

fn appeared(id: &str, by: &str, own: bool, what: What) -> Appeared {
    Appeared {
        id: id.into(),
        by: by.into(),
        own,
        what,
    }
}

fn edit(of: &str, text: &str) -> What {
    What::Edit {
        of: of.into(),
        text: text.into(),
    }
}

fn redact(of: &str) -> What {
    What::Redact { of: of.into() }
}

fn reaction(of: &str, on: bool) -> What {
    What::Reaction {
        of: of.into(),
        emoji: "+1".into(),
        on,
    }
}

/// ann says three things in the first channel, edits the first twice and takes the second back; bob, in the second, puts a reaction on the
/// third. The third channel cannot change anything.
fn clean() -> Vec<Screen> {
    let screen = |channel: &str, changes, lines| Screen {
        channel: channel.into(),
        changes,
        lines,
    };
    vec![
        screen(
            "one/#r",
            true,
            vec![
                message("a0", "ann", true, "r1-ann-0- hello"),
                message("a1", "ann", true, "r1-ann-1- oops"),
                appeared("a2", "ann", true, edit("a0", "r1-ann-2- hullo")),
                appeared("a3", "ann", true, redact("a1")),
                message("a4", "ann", true, "r1-ann-4- bye"),
                appeared("a5", "ann", true, edit("a0", "r1-ann-5- hallo")),
                appeared("a6", "bob", false, reaction("a4", true)),
            ],
        ),
        screen(
            "two/#r",
            true,
            vec![
                message("b0", "ann", false, "r1-ann-0- hello"),
                message("b1", "ann", false, "r1-ann-1- oops"),
                appeared("b2", "ann", false, edit("b0", "r1-ann-2- hullo")),
                appeared("b3", "ann", false, redact("b1")),
                message("b4", "ann", false, "r1-ann-4- bye"),
                appeared("b5", "bob", true, reaction("b4", true)),
                appeared("b6", "ann", false, edit("b0", "r1-ann-5- hallo")),
            ],
        ),
        screen(
            "three/#r",
            false,
            vec![
                message("c0", "ann", false, "r1-ann-0- hello"),
                message("c1", "ann", false, "r1-ann-1- oops"),
                message("c2", "ann", false, "(edited) r1-ann-2- hullo"),
                message("c3", "ann", false, "r1-ann-4- bye"),
                message("c4", "ann", false, "(edited) r1-ann-5- hallo"),
            ],
        ),
    ]
}

fn faults_after(damage: impl FnOnce(&mut Vec<Screen>)) -> Vec<String> {
    let mut screens = clean();
    damage(&mut screens);
    let deeds = Deeds::of(RUN, &screens);
    let faults = deeds.check(&screens, |_, _| false);
    faults.iter().map(ToString::to_string).collect()
}

#[test]
fn a_clean_run_has_no_fault_and_is_counted() {
    assert_eq!(faults_after(|_| {}), [""; 0]);
    assert_eq!(
        Deeds::of(RUN, &clean()).counted(),
        "3 messages, 2 edits, 1 taken back, 1 reactions"
    );
}

#[test]
fn what_was_folded_into_its_message_is_no_fault() {
    let faults = faults_after(|screens| {
        let two = &mut screens[1].lines;
        two[0] = message("b0", "ann", false, "r1-ann-5- hallo");
        two.retain(|line| !["b1", "b2", "b3", "b6"].contains(&&*line.id));
        let three = &mut screens[2].lines;
        three[0] = message("c0", "ann", false, "r1-ann-5- hallo");
        three.retain(|line| !["c1", "c2", "c4"].contains(&&*line.id));
    });
    assert_eq!(faults, [""; 0]);
}

#[test]
fn an_edit_before_its_message_is_found() {
    let faults = faults_after(|screens| screens[1].lines.swap(0, 2));
    assert!(
        faults.contains(&"two/#r saw b2 before b0, which it edits".into()),
        "{faults:?}"
    );
}

#[test]
fn a_message_that_is_not_left_with_its_last_edit_is_found() {
    let stale = "is left with r1-ann-2- of r1-ann-0-, which has a newer text";
    let lost = faults_after(|screens| drop(screens[1].lines.pop()));
    assert_eq!(lost, [format!("two/#r {stale}")]);
    let swapped = faults_after(|screens| screens[1].lines.swap(2, 6));
    assert_eq!(swapped, [format!("two/#r {stale}")]);
    let without_edits = faults_after(|screens| screens[2].lines.swap(2, 4));
    assert_eq!(without_edits, [format!("three/#r {stale}")]);
}

#[test]
fn a_change_on_the_wrong_message_is_found() {
    let edit_of_another = faults_after(|screens| {
        screens[1].lines[2].what = edit("b1", "r1-ann-2- hullo");
    });
    assert_eq!(
        edit_of_another,
        ["two/#r sees r1-ann-2- on r1-ann-1-, and nobody did that"]
    );
    let taken_back_instead = faults_after(|screens| screens[1].lines[3].what = redact("b0"));
    assert_eq!(
        taken_back_instead,
        [
            "two/#r sees what takes it back on r1-ann-0-, and nobody did that",
            "two/#r still sees r1-ann-1-, which was taken back"
        ]
    );
    let reaction_to_another = faults_after(|screens| {
        screens[0].lines[6].what = reaction("a0", true);
    });
    assert_eq!(
        reaction_to_another,
        [
            "one/#r sees +1 by bob on r1-ann-0-, and nobody did that",
            "one/#r does not see +1 by bob on r1-ann-4-"
        ]
    );
}

#[test]
fn what_was_taken_back_and_is_there_in_the_end_is_found() {
    let lost = faults_after(|screens| drop(screens[1].lines.remove(3)));
    assert_eq!(lost, ["two/#r still sees r1-ann-1-, which was taken back"]);
    let shown_again = faults_after(|screens| {
        let again = message("b9", "ann", false, "(edited) r1-ann-1- oops");
        screens[1].lines.push(again);
    });
    assert_eq!(
        shown_again,
        [
            "two/#r saw r1-ann-1- 2 times",
            "two/#r still sees r1-ann-1-, which was taken back"
        ]
    );
}

#[test]
fn a_reaction_that_is_missing_doubled_or_left_is_found() {
    let missing = faults_after(|screens| drop(screens[0].lines.pop()));
    assert_eq!(missing, ["one/#r does not see +1 by bob on r1-ann-4-"]);
    let twice = faults_after(|screens| {
        let again = appeared("a9", "bob", false, reaction("a4", true));
        screens[0].lines.push(again);
    });
    assert_eq!(twice, ["one/#r saw +1 by bob on r1-ann-4- 2 times"]);
    let left = faults_after(|screens| {
        let off = appeared("b9", "bob", true, reaction("b4", false));
        screens[1].lines.push(off);
    });
    assert_eq!(
        left,
        ["one/#r still sees +1 by bob on r1-ann-4-, which was taken off"]
    );
}

#[test]
fn lost_doubled_swapped_echoed_and_strange_messages_are_found() {
    let lost = faults_after(|screens| drop(screens[1].lines.remove(4)));
    assert!(
        lost.contains(&"two/#r never saw r1-ann-4-".into()),
        "{lost:?}"
    );
    let doubled = faults_after(|screens| {
        let again = message("b9", "ann", false, "r1-ann-4- bye");
        screens[1].lines.push(again);
    });
    assert_eq!(doubled, ["two/#r saw r1-ann-4- 2 times"]);
    let as_new = faults_after(|screens| {
        screens[1].lines[6] = message("b6", "ann", false, "(edited) r1-ann-5- hallo");
    });
    assert_eq!(as_new, ["two/#r saw r1-ann-0- 2 times"]);
    let swapped = faults_after(|screens| screens[2].lines.swap(1, 3));
    assert_eq!(swapped, ["three/#r saw r1-ann-4- before r1-ann-1-"]);
    let echoed = faults_after(|screens| {
        let echo = message("a9", "ann", false, "r1-ann-4- bye");
        screens[0].lines.push(echo);
    });
    assert_eq!(echoed, ["one/#r got r1-ann-4- back"]);
    let strange = faults_after(|screens| {
        let other = message("b9", "ann", false, "r1-ann-9- who?");
        screens[1].lines.push(other);
    });
    assert_eq!(strange, ["two/#r saw what nobody said: r1-ann-9- who?"]);
}

#[test]
fn what_a_channel_has_refused_is_not_missed_there() {
    let mut screens = clean();
    let two = &mut screens[1].lines;
    two.retain(|line| line.id == "b1" || line.id == "b3");
    let deeds = Deeds::of(RUN, &screens);
    let refused = |channel: &str, deed: &Deed| channel == "two/#r" && !deed.redacted;
    let faults = deeds.check(&screens, refused);
    // bob's reaction was to what is not on his screen.
    let kinds: Vec<&str> = faults.iter().map(Fault::kind).collect();
    assert_eq!(kinds, ["misplaced"], "{faults:?}");
}

//! The judge is judged: a clean run has no fault, and every kind of damage is found.

use std::time::SystemTime;

use super::*;

const RUN: &str = "r1";

/// Two speakers on two networks, three lines each, seen by both and by a third.
struct Stage {
    account: Account,
    views: Vec<View>,
}

fn said(speaker: &str, network: &str, count: usize) -> Vec<Said> {
    Script::of(RUN, speaker, network).lines(count)
}

fn heard(said: &Said, own: bool) -> Heard {
    Heard {
        author: said.speaker.clone(),
        author_id: said.speaker.clone(),
        text: said.line.text.clone(),
        emote: said.line.emote,
        own,
        at: SystemTime::now(),
    }
}

impl Stage {
    fn clean() -> Self {
        let mut account = Account::new(RUN);
        account.add(said("ann", "irc", 6));
        account.add(said("bob", "xmpp", 6));
        let views = [("ann", "irc"), ("bob", "xmpp"), ("cy", "matrix")]
            .map(|(observer, network)| View {
                observer: observer.into(),
                network: network.into(),
                lines: account
                    .said
                    .iter()
                    .map(|said| heard(said, said.speaker == observer))
                    .collect(),
            })
            .into();
        Self { account, views }
    }

    /// The same, and ann has edited her last line.
    fn edited() -> Self {
        let mut stage = Self::clean();
        let mut script = Script::of(RUN, "ann", "irc");
        let last = script.lines(6).pop().expect("six lines");
        let edit = script.edit(&last);
        // Behind ann's own lines and before bob's, as she said it.
        stage.account.said.insert(6, edit.clone());
        for view in &mut stage.views {
            view.lines.push(heard(&edit, view.observer == "ann"));
        }
        stage
    }

    /// What the third person saw.
    fn lines(&mut self) -> &mut Vec<Heard> {
        &mut self.views[2].lines
    }

    fn faults(&self) -> Vec<String> {
        self.account
            .check(&self.views)
            .iter()
            .map(ToString::to_string)
            .collect()
    }
}

#[test]
fn a_clean_run_has_no_fault() {
    assert_eq!(Stage::clean().faults(), [""; 0]);
}

#[test]
fn a_lost_line_is_found() {
    let mut stage = Stage::clean();
    stage.lines().remove(2);
    assert_eq!(stage.faults(), ["cy never saw r1-ann-2-"]);
}

#[test]
fn a_doubled_line_is_found() {
    let mut stage = Stage::clean();
    let copy = stage.lines()[3].clone();
    stage.lines().push(copy);
    assert_eq!(stage.faults(), ["cy saw r1-ann-3- 2 times"]);
}

#[test]
fn two_swapped_lines_of_one_speaker_are_found() {
    let mut stage = Stage::clean();
    stage.lines().swap(7, 8);
    let faults = stage.faults();
    assert!(
        faults.contains(&"cy saw r1-bob-2- before r1-bob-1-".to_owned()),
        "{faults:?}"
    );
}

#[test]
fn people_who_disagree_about_the_order_of_two_speakers_are_found() {
    let mut stage = Stage::clean();
    stage.views.push(View {
        observer: "dee".into(),
        network: "federated".into(),
        lines: stage.views[2].lines.clone(),
    });
    assert_eq!(stage.faults(), [""; 0]);
    // ann's last line and bob's first.
    stage.lines().swap(5, 6);
    assert_eq!(
        stage.faults(),
        ["cy saw r1-bob-0- before r1-ann-5-, dee after it"]
    );
}

#[test]
fn a_network_may_show_its_own_lines_before_those_from_elsewhere() {
    let mut stage = Stage::clean();
    stage.views[1].lines.rotate_left(6);
    assert_eq!(stage.faults(), [""; 0]);
}

#[test]
fn an_echo_is_found() {
    let mut stage = Stage::clean();
    let mut echo = stage.views[0].lines[1].clone();
    echo.own = false;
    echo.author = "comity".into();
    stage.views[0].lines.push(echo);
    assert_eq!(stage.faults(), ["ann got r1-ann-1- back"]);
}

#[test]
fn a_line_that_nobody_said_is_found() {
    let mut stage = Stage::clean();
    let mut phantom = stage.lines()[0].clone();
    phantom.text = "r1-ann-99- hello".into();
    stage.lines().push(phantom);
    assert_eq!(
        stage.faults(),
        ["cy saw what nobody said: r1-ann-99- hello"]
    );
}

#[test]
fn changed_words_are_found() {
    let mut stage = Stage::clean();
    stage.lines()[0].text.push_str(" (edited)");
    let faults = stage.faults();
    assert!(
        matches!(&faults[..], [one] if one.starts_with("cy saw what nobody said")),
        "{faults:?}"
    );
}

#[test]
fn a_line_without_its_speakers_name_is_found() {
    let mut stage = Stage::clean();
    stage.lines()[0].author = "comity".into();
    let faults = stage.faults();
    assert!(
        matches!(&faults[..], [one] if one.starts_with("cy cannot tell who")),
        "{faults:?}"
    );
}

#[test]
fn a_name_in_front_of_the_words_is_a_name() {
    let mut stage = Stage::clean();
    let line = &mut stage.lines()[0];
    line.author = "comity".into();
    line.text = format!("<ann> {}", line.text);
    assert_eq!(stage.faults(), [""; 0]);
}

#[test]
fn a_slash_me_shown_as_words_is_found() {
    let mut stage = Stage::clean();
    stage.lines()[4].emote = false;
    let faults = stage.faults();
    assert!(
        matches!(&faults[..], [one] if one.starts_with("cy saw a /me as words")),
        "{faults:?}"
    );
}

#[test]
fn lines_of_other_runs_are_ignored() {
    let mut stage = Stage::clean();
    let mut stranger = stage.lines()[0].clone();
    stranger.text = "welcome to the room".into();
    stage.lines().insert(0, stranger);
    assert_eq!(stage.faults(), [""; 0]);
}

#[test]
fn a_line_that_goes_round_is_found() {
    let mut stage = Stage::clean();
    // A foreign bridge has carried ann's second line round: bob and cy see it twice, ann once.
    let copy = stage.views[1].lines[1].clone();
    for view in &mut stage.views {
        view.lines.push(Heard {
            own: false,
            ..copy.clone()
        });
    }
    let faults = stage.faults();
    for wanted in [
        "ann got r1-ann-1- back",
        "bob saw r1-ann-1- 2 times",
        "cy saw r1-ann-1- 2 times",
        "r1-ann-1- went round through irc, matrix, xmpp",
    ] {
        assert!(faults.contains(&wanted.to_owned()), "{faults:?}");
    }
}

#[test]
fn a_line_that_keeps_coming_back_to_its_own_network_is_found() {
    let mut stage = Stage::clean();
    let copy = Heard {
        own: false,
        ..stage.views[0].lines[1].clone()
    };
    stage.views[0].lines.extend([copy.clone(), copy]);
    let faults = stage.faults();
    assert!(
        faults.contains(&"r1-ann-1- went round through irc".to_owned()),
        "{faults:?}"
    );
}

#[test]
fn one_copy_too_many_at_one_place_is_no_circle() {
    let mut stage = Stage::clean();
    let copy = stage.lines()[3].clone();
    stage.lines().push(copy);
    assert!(!stage.faults().iter().any(|fault| fault.contains("round")));
}

#[test]
fn an_edit_before_its_message_is_found() {
    let mut stage = Stage::edited();
    assert_eq!(stage.faults(), [""; 0]);
    let lines = stage.lines();
    let edit = lines.pop().expect("the edit came last");
    lines.insert(0, edit);
    let faults = stage.faults();
    assert!(
        faults.contains(&"cy saw r1-ann-6- before r1-ann-5-, which it edits".to_owned()),
        "{faults:?}"
    );
}

#[test]
fn a_message_that_was_edited_before_it_was_shown_may_be_shown_once_as_edited() {
    let mut stage = Stage::edited();
    stage.lines().remove(5);
    assert_eq!(stage.faults(), [""; 0]);
    stage.lines().pop();
    assert_eq!(
        stage.faults(),
        ["cy never saw r1-ann-5-", "cy never saw r1-ann-6-"]
    );
}

#[test]
fn a_late_line_may_say_when_it_was_written() {
    let mut stage = Stage::clean();
    let lines = stage.lines();
    for (index, name) in [(0, "<ann>"), (4, "* ann")] {
        lines[index].author = "comity".into();
        lines[index].emote = false;
        lines[index].text = format!("[12:30] {name} {}", lines[index].text);
    }
    assert_eq!(stage.faults(), [""; 0]);
}

#[test]
fn a_report_counts_and_shows_only_the_first() {
    let mut stage = Stage::clean();
    stage.lines().clear();
    let faults = stage.account.check(&stage.views);
    let text = report(&faults);
    assert!(text.starts_with("12 lost, 12 in all\n"), "{text}");
    let many: Vec<Fault> = faults.iter().cycle().take(1000).cloned().collect();
    assert!(report(&many).lines().count() < 20);
}

/// Every kind of damage, dealt at random to one view: the checker is never content with it.
#[test]
fn damage_at_random_places_is_always_found() {
    use rand::{Rng, SeedableRng, rngs::StdRng};
    for seed in 0..500 {
        let mut dice = StdRng::seed_from_u64(seed);
        let mut stage = Stage::clean();
        let (damage, at) = (dice.random_range(0..3), dice.random_range(0..11));
        let lines = stage.lines();
        match damage {
            0 => drop(lines.remove(at)),
            1 => {
                let copy = lines[at].clone();
                lines.insert(dice.random_range(at..12), copy);
            }
            _ => {
                // Within one speaker: the order of two speakers at one observer alone is free.
                let at = if at == 5 { 4 } else { at };
                lines.swap(at, at + 1);
            }
        }
        let kinds: Vec<_> = stage
            .account
            .check(&stage.views)
            .iter()
            .map(Fault::kind)
            .collect();
        let wanted = ["lost", "doubled", "reordered"][damage];
        assert!(
            kinds.contains(&wanted),
            "seed {seed}: {wanted} in {kinds:?}"
        );
    }
}

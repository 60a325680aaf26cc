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
    let mut script = Script {
        run: RUN.into(),
        speaker: speaker.into(),
        network: network.into(),
        next: 0,
    };
    script.lines(count)
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

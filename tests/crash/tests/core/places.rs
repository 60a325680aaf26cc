//! Killed at the core's own steps of the crash matrix, and stopped there for a while.

use std::os::unix::process::ExitStatusExt;
use std::time::Duration;

use crate::life::{Core, Talk, continued};

/// Step of the crash matrix, name of the place, and the visits at which the process dies there.
pub(crate) struct Place {
    pub(crate) step: u8,
    pub(crate) name: &'static str,
    pub(crate) visits: &'static [u64],
}

pub(crate) const PLACES: &[Place] = &[
    Place {
        step: 3,
        name: "journal.inserted",
        visits: &[1, 2, 7, 60, 200],
    },
    Place {
        step: 4,
        name: "journal.committed",
        visits: &[1, 2, 7, 60, 200],
    },
    Place {
        step: 10,
        name: "journal.lane_committed",
        visits: &[1, 2, 7, 60, 200],
    },
    Place {
        step: 12,
        name: "journal.migrating",
        visits: &[1],
    },
    Place {
        step: 13,
        name: "journal.checkpoint",
        visits: &[1],
    },
    Place {
        step: 16,
        name: "journal.burying",
        visits: &[1, 2, 3, 7],
    },
];

#[test]
fn a_gateway_killed_at_the_journals_own_steps_loses_and_doubles_nothing() {
    killed_at_each(Talk::Numbers);
}

#[test]
fn edits_redactions_and_reactions_find_their_messages_through_deaths_at_the_journals_own_steps() {
    killed_at_each(Talk::Changes);
}

#[test]
fn a_gateway_stopped_at_the_journals_own_steps_goes_on_as_if_nothing_had_been() {
    let mut failed = Vec::new();
    for place in PLACES {
        let core = Core::new(Talk::Numbers, 0);
        let failpoint = format!("{}@{}=stop", place.name, place.visits[0]);
        let life = core.start(Some(&failpoint));
        if let Err(why) = life.stopped() {
            failed.push(format!("step {}: {failpoint}: {why}", place.step));
        }
        // How long it stands still is the test's subject.
        std::thread::sleep(Duration::from_secs(1));
        continued(life.id());
        let (status, printed) = life.ended();
        if !status.success() {
            failed.push(format!(
                "step {}: {failpoint}: {status}\n{printed}",
                place.step
            ));
        }
        failed.extend(judged(&core, place, 0));
    }
    assert!(failed.is_empty(), "{}", failed.join("\n"));
}

fn killed_at_each(talk: Talk) {
    let mut failed = Vec::new();
    for place in PLACES {
        let core = Core::new(talk, place.step.into());
        for visit in place.visits {
            let failpoint = format!("{}@{visit}", place.name);
            let (status, printed) = core.start(Some(&failpoint)).ended();
            if status.signal().is_none() || !printed.contains(&format!("failpoint {failpoint}")) {
                failed.push(format!(
                    "step {}: {failpoint} was never reached ({status})\n{printed}",
                    place.step
                ));
                break;
            }
        }
        failed.extend(judged(&core, place, place.visits.len()));
    }
    assert!(failed.is_empty(), "{}", failed.join("\n"));
}

/// Lets everything come through; what is wrong then.
pub(crate) fn judged(core: &Core, place: &Place, deaths: usize) -> Option<String> {
    let ended = core.finish().err();
    let verdict = core.verdict();
    println!(
        "step {}: {}: {}, {} copies where nothing can be asked",
        place.step, place.name, verdict.done, verdict.copies
    );
    let wrong: Vec<String> = ended.into_iter().chain(verdict.wrong(deaths)).collect();
    (!wrong.is_empty()).then(|| {
        format!(
            "step {}: {}: {}\n{}",
            place.step,
            place.name,
            wrong.join("\n"),
            core.kept()
        )
    })
}

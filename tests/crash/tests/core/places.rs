//! Killed at the core's own steps of the crash matrix, and stopped there for a while.

use std::os::unix::process::ExitStatusExt;
use std::process::Child;
use std::time::{Duration, Instant};

use comity_people::history::report;

use crate::life::{Core, DOUBT};

/// How long anything may take that takes milliseconds when all is well.
const PATIENCE: Duration = Duration::from_secs(60);

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
    let mut failed = Vec::new();
    for place in PLACES {
        let core = Core::new();
        for visit in place.visits {
            let failpoint = format!("{}@{visit}", place.name);
            let status = ended(core.start(Some(&failpoint)));
            if status.signal().is_none()
                || !core.printed().contains(&format!("failpoint {failpoint}"))
            {
                failed.push(format!(
                    "step {}: {failpoint} was never reached ({status})",
                    place.step
                ));
                break;
            }
        }
        failed.extend(judged(&core, place, DOUBT * place.visits.len()));
    }
    assert!(failed.is_empty(), "{}", failed.join("\n"));
}

#[test]
fn a_gateway_stopped_at_the_journals_own_steps_goes_on_as_if_nothing_had_been() {
    let mut failed = Vec::new();
    for place in PLACES {
        let core = Core::new();
        let failpoint = format!("{}@{}=stop", place.name, place.visits[0]);
        let child = core.start(Some(&failpoint));
        let id = child.id();
        if let Err(why) = stopped(id) {
            failed.push(format!("step {}: {failpoint}: {why}", place.step));
        }
        std::thread::sleep(Duration::from_secs(1));
        continued(id);
        let status = ended(child);
        if !status.success() {
            failed.push(format!("step {}: {failpoint}: {status}", place.step));
        }
        failed.extend(judged(&core, place, 0));
    }
    assert!(failed.is_empty(), "{}", failed.join("\n"));
}

/// Lets everything come through; what is wrong then.
pub(crate) fn judged(core: &Core, place: &Place, copies: usize) -> Vec<String> {
    let mut failed = Vec::new();
    let status = core.finish();
    if !status.success() {
        failed.push(format!("{}: {status}\n{}", place.name, core.printed()));
    }
    let verdict = core.verdict();
    println!(
        "step {}: {}: {} tokens, {} copies where nothing can be asked",
        place.step,
        place.name,
        core.acknowledged(),
        verdict.copies
    );
    if !verdict.faults.is_empty() {
        failed.push(format!("{}: {}", place.name, report(&verdict.faults)));
    }
    if !verdict.cursors_behind.is_empty() {
        failed.push(format!(
            "{}: cursors {:?}",
            place.name, verdict.cursors_behind
        ));
    }
    if verdict.copies > copies {
        failed.push(format!("{}: {} copies", place.name, verdict.copies));
    }
    if core.told() > core.refused() {
        failed.push(format!(
            "{}: told of {} dead letters",
            place.name,
            core.told()
        ));
    }
    failed
}

pub(crate) fn ended(mut child: Child) -> std::process::ExitStatus {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(status) = child.try_wait().expect("the child can be asked") {
            return status;
        }
        if Instant::now() > deadline {
            child.kill().expect("the child can be killed");
            return child.wait().expect("the child ends");
        }
        std::thread::sleep(Duration::from_millis(5));
    }
}

pub(crate) fn stopped(id: u32) -> Result<(), String> {
    let deadline = Instant::now() + PATIENCE;
    while Instant::now() < deadline {
        let stat = std::fs::read_to_string(format!("/proc/{id}/stat")).unwrap_or_default();
        let state = stat
            .rsplit_once(") ")
            .and_then(|(_, rest)| rest.chars().next());
        match state {
            Some('T') => return Ok(()),
            Some('Z') | None => return Err("never reached: it ended".to_owned()),
            _ => std::thread::sleep(Duration::from_millis(5)),
        }
    }
    Err("never reached".to_owned())
}

pub(crate) fn continued(id: u32) {
    std::process::Command::new("kill")
        .args(["-CONT", &id.to_string()])
        .status()
        .expect("kill runs");
}

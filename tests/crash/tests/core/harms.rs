//! The core's own steps with other harm than death: it stops there, and when it goes on, a minute has passed, or its disk is full or answers
//! with errors for a while.
//!
//! `COMITY_STOP` is the length of the stop in seconds; the long form stops for 60.

use std::thread::sleep;
use std::time::Duration;

use comity_people::disk::{BadDisk, SmallDisk};

use crate::life::{Core, Talk, continued};
use crate::places::{PLACES, Place, judged};

/// How long the disk goes on as it is.
const BROKEN: Duration = Duration::from_secs(1);

#[test]
#[ignore = "the long form, half a minute"]
fn a_gateway_whose_disk_is_full_at_the_journals_own_steps_loses_and_doubles_nothing() {
    each(|disk, id| {
        let disk = disk?;
        disk.fill().expect("it can be filled");
        continued(id);
        sleep(BROKEN);
        disk.free().expect("the file can be removed");
        Some(())
    });
}

#[test]
fn a_gateway_whose_disk_answers_with_errors_at_the_journals_own_steps_loses_and_doubles_nothing() {
    each(|_, id| {
        let bad = BadDisk::under(id, "pwrite64,fdatasync,fsync");
        let bad = bad.map_err(|why| println!("NOT TESTED HERE: {why}"));
        continued(id);
        let bad = bad.ok()?;
        sleep(BROKEN);
        drop(bad);
        Some(())
    });
}

#[test]
#[ignore = "the long form, six minutes"]
fn a_gateway_stopped_for_a_minute_at_the_journals_own_steps_goes_on_as_if_nothing_had_been() {
    let length = std::env::var("COMITY_STOP").ok();
    let length = length.and_then(|length| length.parse().ok()).unwrap_or(60);
    each(|_, id| {
        sleep(Duration::from_secs(length));
        continued(id);
        Some(())
    });
}

/// Every place in a core of its own.
fn each(harm: impl Fn(Option<&SmallDisk>, u32) -> Option<()>) {
    let failed: Vec<String> = PLACES.iter().flat_map(|place| one(place, &harm)).collect();
    assert!(failed.is_empty(), "{}", failed.join("\n"));
}

fn one(place: &Place, harm: &impl Fn(Option<&SmallDisk>, u32) -> Option<()>) -> Vec<String> {
    let core = Core::new(Talk::Numbers, 0);
    // Room for the whole log of everything that is said.
    let disk = SmallDisk::mount(&core.data_dir(), 192)
        .map_err(|why| println!("no file system may be mounted here: {why}"))
        .ok();
    let failpoint = format!("{}@{}=stop", place.name, place.visits[0]);
    let mut life = core.start(Some(&failpoint));
    if let Err(why) = life.stopped() {
        life.kill();
        return vec![format!("step {}: {failpoint}: {why}", place.step)];
    }
    if harm(disk.as_ref(), life.id()).is_none() {
        println!("NOT TESTED HERE: {}", place.name);
        continued(life.id());
    }
    let (status, printed) = life.ended();
    // One that has no journal yet has nothing to wait with: it says so and ends.
    if !status.success() && place.name != "journal.migrating" {
        return vec![format!(
            "step {}: {failpoint}: {status}\n{printed}",
            place.step
        )];
    }
    let failed = judged(&core, place, 0);
    // Before the directory that it is mounted in.
    drop(disk);
    failed.into_iter().collect()
}

//! A disk that is full: what was accepted is delivered, new input is refused in each network's own
//! way, and when there is space again everything goes on by itself. Nothing is lost from Matrix,
//! whose homeserver tries again, nor from a MUC, which has an archive.
//!
//! The data directory is a small file system in memory where this program may mount one. Where it
//! may not, it says so; the second test, a limit on the size of files, needs no rights at all.

use std::time::Duration;

use comity_people::{
    Lab, Talk, World, WorldPlan,
    disk::{SmallDisk, limit_files},
    talk::{IRC_WINDOW, grave},
};
use rand::Rng;
use tokio::time::Instant;

use crate::{PATIENCE, binary, dice};

/// How long it stays full.
const FULL: Duration = Duration::from_secs(4);

#[tokio::test]
async fn a_full_disk_refuses_new_input_and_recovers_by_itself() {
    let lab = Lab::up().await.unwrap();
    let plan = WorldPlan::unique(&lab, binary());
    let mut world = World::prepare(lab, plan).await.unwrap();
    let disk = match SmallDisk::mount(&world.first.data_dir(), 16) {
        Ok(disk) => disk,
        Err(why) => {
            println!(
                "NOT TESTED HERE: no file system may be mounted ({why}); the limit on the size of files is the other way"
            );
            return;
        }
    };
    tokio::try_join!(world.first.start(), world.second.start()).unwrap();
    world.connected().await.unwrap();
    full_for_a_while(&world, || disk.fill().unwrap(), || disk.free().unwrap()).await;
    // The journal is on the disk that is unmounted next.
    assert!(world.first.stop("TERM").await.unwrap().success());
}

#[tokio::test]
async fn a_journal_that_cannot_grow_refuses_new_input_and_recovers_by_itself() {
    let lab = Lab::up().await.unwrap();
    let plan = WorldPlan::unique(&lab, binary());
    let mut world = World::prepare(lab, plan).await.unwrap();
    // Whoever writes beyond the limit is told EFBIG, once the signal is ignored. The log, which is
    // limited as well, stays far below it.
    world.first.run_by(&["env", "--ignore-signal=XFSZ"]);
    tokio::try_join!(world.first.start(), world.second.start()).unwrap();
    world.connected().await.unwrap();
    let gateway = world.first.pid().unwrap();
    let limit = |bytes| limit_files(gateway, bytes).unwrap();
    full_for_a_while(&world, || limit(Some(131_072)), || limit(None)).await;
}

/// People talk, the journal cannot write for a while, and everything that was due has arrived.
async fn full_for_a_while(world: &World, fill: impl Fn(), free: impl FnOnce()) {
    let mut dice = dice();
    let mut talk = Talk::default();
    let people = world.people();
    for person in people {
        talk.line(person, &mut dice).await.unwrap();
    }
    fill();
    // The journal may have a little room left in its own files.
    let deadline = Instant::now() + PATIENCE;
    loop {
        talk.line(people[dice.random_range(0..4)], &mut dice)
            .await
            .unwrap();
        if world.first.log().contains("the journal cannot write") {
            break;
        }
        assert!(
            Instant::now() < deadline,
            "the journal goes on writing:\n{}",
            world.first.log()
        );
        fill();
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let full = Instant::now();
    while full.elapsed() < FULL {
        talk.line(people[dice.random_range(0..4)], &mut dice)
            .await
            .unwrap();
        assert!(
            world.first.page("healthz").await.is_ok(),
            "{}",
            world.first.log()
        );
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    free();
    world.connected().await.unwrap();
    let due = talk.due(world, &["ngircd"], &[]);
    let faults = world.judge(&due, PATIENCE * 2).await.unwrap();
    if let Some(faults) = grave(faults, &[(&world.plan.people[0], IRC_WINDOW)]) {
        panic!("run {}: {faults}\n{} lines", talk.run(), talk.len());
    }
}

//! Each step of the crash matrix on each network with other harm than death: the process stops there, and when it goes on, a minute has
//! passed, or its disk is full, or its disk answers with errors. The disk recovers after a while; nothing is lost, doubled or out of order but
//! what the contract excepts.
//!
//! The harm is real: a small file system in memory that is full, system calls that fail with EIO. Where a test may neither mount nor trace,
//! files may not grow instead, which SQLite takes for the same errors.

use std::time::Duration;

use anyhow::{Context, Result, bail};
use comity_people::disk::{BadDisk, SmallDisk, limit_files};
use comity_people::talk::IRC_WINDOW;
use comity_people::{Gateway, World};
use rand::seq::IndexedRandom;
use rand::{Rng, rngs::StdRng};
use tokio::time::{Instant, sleep};

use crate::run::{PATIENCE, gateway};
use crate::scene::Scene;
use crate::table::{self, Row, Victim, rows};
use crate::{dice, number, prepared};

/// How long a stop lasts in the long form. `COMITY_STOP` says otherwise.
const STOP: Duration = Duration::from_secs(60);
/// How long the disk goes on as it is after the gateway has said that it cannot write.
const BROKEN: Duration = Duration::from_secs(2);

/// What happens at the place.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Harm {
    /// SIGSTOP, for this long.
    Stop(Duration),
    /// ENOSPC: not a byte is left.
    Full,
    /// EIO: whatever is written to the disk or is to be kept by it.
    Errors,
}

#[tokio::test]
async fn a_gateway_whose_disk_fails_in_the_middle_goes_on_when_it_is_mended() {
    let mut dice = dice();
    let mut failed = Vec::new();
    let mut stage = Stage::new(true).await;
    stage.start().await;
    for (victim, harm) in [
        (Victim::Ngircd, Harm::Full),
        (Victim::Synapse, Harm::Errors),
        (Victim::Prosody, Harm::Full),
        (Victim::Host, Harm::Errors),
    ] {
        let all = rows(victim);
        let talks: Vec<&Row> = all
            .iter()
            .filter(|row| row.talk == table::Talk::Lines)
            .collect();
        let row = talks.choose(&mut dice).expect("rows with lines");
        if let Err(why) = stage.play(row, harm, &mut dice).await {
            failed.push(why);
        }
    }
    assert!(failed.is_empty(), "{}", failed.join("\n"));
}

#[tokio::test]
#[ignore = "the long form, half an hour"]
async fn a_gateway_harmed_at_any_step_of_plain_irc() {
    each(Victim::Ngircd).await;
}

#[tokio::test]
#[ignore = "the long form, half an hour"]
async fn a_gateway_harmed_at_any_step_of_irc_with_echoes() {
    each(Victim::Inspircd).await;
}

#[tokio::test]
#[ignore = "the long form, half an hour"]
async fn a_gateway_harmed_at_any_step_of_xmpp() {
    each(Victim::Prosody).await;
}

#[tokio::test]
#[ignore = "the long form, half an hour"]
async fn a_gateway_harmed_at_any_step_of_matrix() {
    each(Victim::Synapse).await;
}

#[tokio::test]
#[ignore = "the long form, half an hour"]
async fn a_gateway_harmed_at_any_step_towards_its_guests() {
    each(Victim::Host).await;
}

#[tokio::test]
#[ignore = "the long form, half an hour"]
async fn a_gateway_harmed_at_any_step_towards_its_host() {
    each(Victim::Guest).await;
}

/// Every row of one victim with every harm, in one world as long as it is sound.
async fn each(victim: Victim) {
    let mut dice = dice();
    let only = std::env::var("COMITY_PLACES").unwrap_or_default();
    let harms = std::env::var("COMITY_HARMS").unwrap_or_else(|_| "stop,full,errors".to_owned());
    let stop = number("COMITY_STOP").map_or(STOP, Duration::from_secs);
    let mut failed = Vec::new();
    for harm in harms.split(',') {
        let harm = match harm {
            "stop" => Harm::Stop(stop),
            "full" => Harm::Full,
            "errors" => Harm::Errors,
            other => panic!("COMITY_HARMS: {other} is none of stop, full, errors"),
        };
        let mut shared: Option<Stage> = None;
        for row in rows(victim)
            .iter()
            .filter(|row| row.place().contains(&only))
        {
            let is_first_start = row.talk == table::Talk::FirstStart;
            let mut stage = match shared.take().filter(|_| !is_first_start) {
                Some(stage) => stage,
                None => {
                    let mut stage = Stage::new(victim.is_first()).await;
                    if !is_first_start {
                        stage.start().await;
                    }
                    stage
                }
            };
            match stage.play(row, harm, &mut dice).await {
                Ok(()) => shared = Some(stage),
                Err(why) => failed.push(why),
            }
        }
    }
    assert!(failed.is_empty(), "{}", failed.join("\n"));
}

/// A world in which one gateway's directory is on a small disk of its own, where one may be mounted. Dropped before the world is.
struct Stage {
    disk: Option<SmallDisk>,
    world: World,
}

impl Stage {
    async fn new(is_first: bool) -> Stage {
        let mut world = prepared().await;
        let victim = gateway(&mut world, is_first);
        let disk = match SmallDisk::mount(&victim.data_dir(), 48) {
            Ok(disk) => Some(disk),
            Err(why) => {
                println!("no file system may be mounted here ({why}): files may not grow instead");
                None
            }
        };
        // Whoever writes beyond a limit is told so, once the signal is ignored.
        victim.run_by(&["env", "--ignore-signal=XFSZ"]);
        Stage { disk, world }
    }

    async fn start(&mut self) {
        tokio::try_join!(self.world.first.start(), self.world.second.start())
            .expect("both gateways start");
        self.world
            .connected()
            .await
            .expect("four people hear each other");
    }

    /// One row, and the judgement. An error is all that a report needs.
    async fn play(&mut self, row: &Row, harm: Harm, dice: &mut StdRng) -> Result<(), String> {
        let visit = match row.talk {
            table::Talk::Lines if row.step != 15 => dice.random_range(1..=3),
            _ => 1,
        };
        let failpoint = format!("{}@{visit}=stop", row.place());
        let began = Instant::now();
        match self.harmed(row, harm, &failpoint, dice).await {
            Ok(lines) => {
                println!(
                    "step {}: {failpoint}: {harm:?}: {lines} lines, {:?}",
                    row.step,
                    began.elapsed()
                );
                Ok(())
            }
            Err(why) => {
                let logs = [&self.world.first, &self.world.second].map(Gateway::keep_log);
                let why = format!(
                    "step {}: {failpoint}: {harm:?}: {why:#}\n    logs: {}",
                    row.step,
                    logs.join(" ")
                );
                println!("FAILED: {why}");
                Err(why)
            }
        }
    }

    async fn harmed(
        &mut self,
        row: &Row,
        harm: Harm,
        failpoint: &str,
        dice: &mut StdRng,
    ) -> Result<usize> {
        let Stage { disk, world } = self;
        let is_first = row.victim.is_first();
        if row.talk != table::Talk::FirstStart {
            let status = gateway(world, is_first).stop("TERM").await?;
            if !status.success() {
                bail!("SIGTERM: {status}");
            }
        }
        let mut scene = Scene::reach(world, row, failpoint, dice).await?;
        let victim = gateway(world, is_first);
        if !victim.is_stopped()? {
            bail!("it is not stopped");
        }
        let silent = row.talk == table::Talk::FirstStart;
        match harm {
            Harm::Stop(length) => {
                let until = Instant::now() + length;
                while Instant::now() < until {
                    if !silent {
                        for person in world.people() {
                            scene.talk.line(person, dice).await?;
                        }
                    }
                    sleep((length / 10).min(until - Instant::now())).await;
                }
                gateway(world, is_first).signal("CONT").await?;
            }
            Harm::Full | Harm::Errors => {
                let said = victim.log().len();
                let broken = Broken::begin(harm, victim, disk.as_ref(), dice)?;
                victim.signal("CONT").await?;
                let ended = cannot_write(world, &mut scene, said, is_first, silent, dice).await?;
                drop(broken);
                if ended {
                    gateway(world, is_first).start().await?;
                }
            }
        }
        world.connected().await?;
        let repeats = match harm {
            Harm::Stop(_) => 0,
            Harm::Full | Harm::Errors => IRC_WINDOW,
        };
        scene.judge(world, row, &[], repeats).await?;
        Ok(scene.talk.len())
    }
}

/// People talk until the gateway has said that it cannot write, and for a while longer. One that was only starting may end instead, and has to
/// say why: true.
async fn cannot_write(
    world: &mut World,
    scene: &mut Scene,
    said: usize,
    is_first: bool,
    silent: bool,
    dice: &mut StdRng,
) -> Result<bool> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let victim = gateway(world, is_first);
        let log = victim.log();
        let news = log.get(said..).context("the log grows")?;
        if let Some(status) = victim.ended()? {
            let names_it = news.contains("space") || news.contains("I/O error");
            if silent && status.code() == Some(1) && names_it {
                return Ok(true);
            }
            bail!("it ended with {status}:\n{news}");
        }
        if news.contains("the journal cannot write") {
            break;
        }
        if Instant::now() > deadline {
            bail!("the journal goes on writing:\n{news}");
        }
        if !silent {
            let people = world.people();
            scene
                .talk
                .line(people[dice.random_range(0..4)], dice)
                .await?;
        }
        sleep(Duration::from_millis(50)).await;
    }
    let mended = Instant::now() + BROKEN;
    while Instant::now() < mended {
        let victim = gateway(world, is_first);
        victim.page("healthz").await.context("it is alive")?;
        if victim.page("readyz").await.is_ok() {
            bail!("it says that it is ready");
        }
        // What is said before a gateway has ever been in its rooms is not said to it.
        if !silent {
            let people = world.people();
            scene
                .talk
                .line(people[dice.random_range(0..4)], dice)
                .await?;
        }
        sleep(Duration::from_millis(200)).await;
    }
    Ok(false)
}

/// A disk that takes nothing, until dropped.
enum Broken<'a> {
    Full(&'a SmallDisk),
    Errors(#[expect(dead_code, reason = "lives until it is dropped")] BadDisk),
    Limited(u32),
}

impl<'a> Broken<'a> {
    fn begin(
        harm: Harm,
        victim: &Gateway,
        disk: Option<&'a SmallDisk>,
        dice: &mut StdRng,
    ) -> Result<Broken<'a>> {
        let pid = victim.pid()?;
        if let (Harm::Full, Some(disk)) = (harm, disk) {
            disk.fill()?;
            return Ok(Broken::Full(disk));
        }
        if harm == Harm::Errors {
            // A disk that takes everything and keeps nothing is the worse one.
            let calls = ["pwrite64,fdatasync,fsync", "fdatasync,fsync"];
            let calls = calls.choose(dice).expect("two of them");
            match BadDisk::under(pid, calls) {
                Ok(bad) => return Ok(Broken::Errors(bad)),
                Err(why) => println!("{why}: files may not grow instead"),
            }
        }
        limit_files(pid, Some(131_072))?;
        Ok(Broken::Limited(pid))
    }
}

impl Drop for Broken<'_> {
    fn drop(&mut self) {
        match self {
            Broken::Full(disk) => disk.free().expect("the file can be removed"),
            // It goes with its value.
            Broken::Errors(_) => {}
            Broken::Limited(pid) => {
                // Fails where the process has ended.
                limit_files(*pid, None).ok();
            }
        }
    }
}

//! Each step of the crash matrix on each network: the process dies there, is started again, and
//! nothing is lost, doubled or out of order but what the contract excepts. A place that was never
//! reached is a failure.

use std::time::Duration;

use anyhow::{Context, Result, bail};
use comity_people::talk::{IRC_WINDOW, grave};
use comity_people::{Gateway, Talk, World};
use rand::{Rng, rngs::StdRng};

use crate::run::{PATIENCE, gateway, held, irc_behind, talk_until_it_is_over};
use crate::scene::Scene;
use crate::table::{self, Row, Victim, rows};
use crate::{dice, number, prepared, world};

#[tokio::test]
async fn a_gateway_that_dies_at_any_step_of_plain_irc() {
    each(Victim::Ngircd).await;
}

#[tokio::test]
async fn a_gateway_that_dies_at_any_step_of_irc_with_echoes() {
    each(Victim::Inspircd).await;
}

#[tokio::test]
async fn a_gateway_that_dies_at_any_step_of_xmpp() {
    each(Victim::Prosody).await;
}

#[tokio::test]
async fn a_gateway_that_dies_at_any_step_of_matrix() {
    each(Victim::Synapse).await;
}

#[tokio::test]
async fn a_gateway_that_dies_at_any_step_towards_its_guests() {
    each(Victim::Host).await;
}

#[tokio::test]
async fn a_gateway_that_dies_at_any_step_towards_its_host() {
    each(Victim::Guest).await;
}

#[tokio::test]
async fn a_gateway_stopped_for_a_while_in_the_middle_goes_on_as_if_nothing_had_been() {
    let mut dice = dice();
    let mut failed = Vec::new();
    let mut world = world().await;
    for victim in [
        Victim::Ngircd,
        Victim::Prosody,
        Victim::Synapse,
        Victim::Host,
    ] {
        let at = ["parsed", "committed", "written", "receipt"][dice.random_range(0..4)];
        let row = rows(victim)
            .into_iter()
            .find(|row| row.place().ends_with(at));
        let row = row.context("the table has it").unwrap();
        let failpoint = format!("{}@{}=stop", row.place(), dice.random_range(1..=3));
        if let Err(why) = paused(&mut world, &row, &failpoint, &mut dice).await {
            failed.push(format!("{failpoint}: {why:#}"));
        }
    }
    assert!(failed.is_empty(), "{}", failed.join("\n"));
}

/// Every row of one victim, in one world as long as it is sound.
async fn each(victim: Victim) {
    let mut dice = dice();
    let only = std::env::var("COMITY_PLACES").unwrap_or_default();
    let visits = number("COMITY_VISITS").unwrap_or(1);
    let mut failed = Vec::new();
    let mut shared: Option<World> = None;
    for row in rows(victim)
        .iter()
        .filter(|row| row.place().contains(&only))
    {
        for visit in 1..=visits {
            // With a single visit to try, another one each time; the seed says which.
            let visit = match row.talk {
                table::Talk::Lines if visits == 1 && row.step != 15 => dice.random_range(1..=3),
                _ => visit,
            };
            let failpoint = format!("{}@{visit}", row.place());
            let mut here = match shared.take() {
                Some(world) if row.talk != table::Talk::FirstStart => world,
                _ if row.talk == table::Talk::FirstStart => prepared().await,
                _ => world().await,
            };
            let began = std::time::Instant::now();
            match died(&mut here, row, &failpoint, &mut dice).await {
                Ok(lines) => {
                    println!(
                        "step {}: {failpoint}: {lines} lines, {:?}",
                        row.step,
                        began.elapsed()
                    );
                    shared = Some(here);
                }
                Err(why) => {
                    let logs = [&here.first, &here.second].map(Gateway::keep_log);
                    failed.push(format!(
                        "step {}: {failpoint}: {why:#}\n    logs: {}",
                        row.step,
                        logs.join(" ")
                    ));
                }
            }
        }
    }
    assert!(failed.is_empty(), "{}", failed.join("\n"));
}

/// One death at one place. Returns how many lines were said.
async fn died(world: &mut World, row: &Row, failpoint: &str, dice: &mut StdRng) -> Result<usize> {
    let is_first = row.victim.is_first();
    if row.talk != table::Talk::FirstStart {
        gateway(world, is_first).kill().await?;
    }
    let mut scene = Scene::reach(world, row, failpoint, dice).await?;
    let dying = gateway(world, is_first);
    if !dying.log().contains(&format!("failpoint {failpoint}")) {
        bail!("it died elsewhere:\n{}", last_lines(&dying.log()));
    }
    let held = held(dying)?;
    if row.talk != table::Talk::FirstStart {
        for person in world.people() {
            scene.talk.line(person, dice).await?;
        }
    }
    gateway(world, is_first).start().await?;
    world.connected().await?;
    // Only while it has something under way can it be shown again.
    let repeats = if row.is_before_sending() {
        0
    } else {
        IRC_WINDOW
    };
    scene.judge(world, row, &held, repeats).await?;
    Ok(scene.talk.len())
}

/// One stop at one place. Nothing may be lost or doubled: no connection ends within two seconds.
async fn paused(world: &mut World, row: &Row, failpoint: &str, dice: &mut StdRng) -> Result<()> {
    let mut talk = Talk::default();
    let (first, _, people) = world.parts();
    let status = first.stop("TERM").await?;
    if !status.success() {
        bail!("SIGTERM: {status}");
    }
    first.arm(Some(failpoint.to_owned()));
    first.spawn()?;
    talk_until_it_is_over(first, &people, &mut talk, dice).await?;
    for person in people {
        talk.line(person, dice).await?;
    }
    tokio::time::sleep(Duration::from_secs(2)).await;
    first.signal("CONT").await?;
    world.connected().await?;
    // It was starting, and not yet in the IRC channel, when the first of it was said.
    let irc = irc_behind(world, row.victim.is_first());
    let due = talk.due(world, irc.deaf, &[]);
    match grave(world.judge(&due, PATIENCE).await?, &[]) {
        Some(faults) => bail!("run {}: {faults}", talk.run()),
        None => Ok(()),
    }
}

fn last_lines(log: &str) -> String {
    let lines: Vec<&str> = log.lines().collect();
    lines[lines.len().saturating_sub(15)..].join("\n")
}

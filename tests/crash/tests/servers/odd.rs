//! What should never happen on a machine and in a program, and does: a clock that is a year off, and a delivery that makes its bridge panic.

use anyhow::{Result, bail};
use comity_people::talk::{IRC_WINDOW, grave};
use comity_people::world::{NGIRCD, PROSODY, SYNAPSE, tag};
use comity_people::{Gate, Gateway, Lab, Person, Talk, World, WorldPlan};
use rand::{Rng, rngs::StdRng};

use crate::run::PATIENCE;
use crate::{binary, dice, world};

/// In seconds.
const YEAR: i64 = 365 * 24 * 3600;

#[tokio::test]
async fn a_clock_that_jumps_by_a_year_loses_doubles_and_gives_up_nothing() {
    let mut dice = dice();
    let wrong_by = if dice.random() { YEAR } else { -YEAR };
    jumps(&[wrong_by], &mut dice).await;
}

#[tokio::test]
#[ignore = "the long form, a minute"]
async fn a_clock_that_jumps_forwards_and_backwards_loses_doubles_and_gives_up_nothing() {
    jumps(&[YEAR, -YEAR, 10 * YEAR], &mut dice()).await;
}

async fn jumps(wrong_by: &[i64], dice: &mut StdRng) {
    let lab = Lab::up().await.expect("the lab runs");
    let mut plan = WorldPlan::unique(&lab, binary());
    let gate = Gate::new(lab.ip(), &lab.address("NGIRCD")).await.unwrap();
    plan.links.ngircd = (gate.address().to_owned(), false);
    let mut world = World::prepare(lab, plan).await.unwrap();
    world.first.set_clock(0).unwrap();
    tokio::try_join!(world.first.start(), world.second.start()).unwrap();
    world.connected().await.unwrap();
    for wrong_by in wrong_by {
        let talk = jump(&mut world, &gate, *wrong_by, dice)
            .await
            .unwrap_or_else(|why| panic!("wrong by {wrong_by} s: {why:#}"));
        let due = talk.due(&world, &[], &[]);
        let faults = world.judge(&due, PATIENCE).await.unwrap();
        // Its link was cut while it had lines under way.
        if let Some(faults) = grave(faults, &[(&world.plan.people[NGIRCD], IRC_WINDOW)]) {
            panic!("run {}, wrong by {wrong_by} s: {faults}", talk.run());
        }
        println!(
            "wrong by {wrong_by} s and right again: {} lines",
            talk.len()
        );
    }
    for gateway in [&world.first, &world.second] {
        let dead = dead_letters(gateway).await;
        assert_eq!(dead, "no dead letters\n");
    }
    let log = world.first.log();
    assert!(
        log.contains("the clock of this machine has jumped"),
        "{log}"
    );
}

/// The clock is wrong and then right again, each time while messages wait for a network that is away and while they flow.
async fn jump(world: &mut World, gate: &Gate, wrong_by: i64, dice: &mut StdRng) -> Result<Talk> {
    let mut talk = Talk::default();
    for offset in [wrong_by, 0] {
        gate.shut();
        let (first, _, people) = world.parts();
        for round in 0..6 {
            if round == 3 {
                first.set_clock(offset)?;
            }
            // Nobody would hear who is behind the gate.
            talk.line(people[dice.random_range(1..4)], dice).await?;
        }
        gate.open();
        // Peers whose clocks differ by more than five minutes do not talk to each other, so the fourth may have to wait.
        let people = world.people();
        world.connected_among(&people[..=SYNAPSE]).await?;
        for person in people {
            talk.line(person, dice).await?;
        }
    }
    world.connected().await?;
    Ok(talk)
}

#[tokio::test]
async fn a_delivery_that_makes_its_bridge_panic_ends_as_a_dead_letter_and_the_rest_goes_on() {
    let mut dice = dice();
    let one = dice.random_range(0..PLACES.len());
    poisoned(&PLACES[one..=one], &mut dice).await;
}

#[tokio::test]
#[ignore = "the long form, two minutes"]
async fn a_delivery_that_makes_any_bridge_panic_ends_as_a_dead_letter_and_the_rest_goes_on() {
    poisoned(&PLACES, &mut dice()).await;
}

/// Where the bridge panics, the network that it is for, and the person there.
const PLACES: [(&str, &str, usize); 3] = [
    ("irc.handed", "ngircd", NGIRCD),
    ("xmpp.handed", "prosody", PROSODY),
    ("matrix.handed", "synapse", SYNAPSE),
];

async fn poisoned(places: &[(&str, &str, usize)], dice: &mut StdRng) {
    let mut world = world().await;
    for (place, network, victim) in places {
        poison(&mut world, place, network, *victim, dice)
            .await
            .unwrap_or_else(|why| panic!("{place}: {why:#}\n{}", world.first.log()));
    }
}

/// One person says something that the bridge of another's network cannot bear.
async fn poison(
    world: &mut World,
    place: &str,
    network: &str,
    victim: usize,
    dice: &mut StdRng,
) -> Result<()> {
    let poison = format!("poison{}", tag());
    let (first, _, _) = world.parts();
    first.stop("TERM").await?;
    first.arm(Some(format!("{place}=panic:{poison}")));
    first.start().await?;
    first.arm(None);
    world.connected().await?;
    let before = panics(&world.first);
    let mut talk = Talk::default();
    let others: Vec<&dyn Person> = (0..4)
        .filter(|place| *place != victim)
        .map(|place| world.people()[place])
        .collect();
    // Before it, behind it, and from whoever else is there.
    talk.line(others[0], dice).await?;
    others[0].say(&format!("{poison} kills")).await?;
    for _ in 0..6 {
        talk.line(others[dice.random_range(0..3)], dice).await?;
    }
    world.connected().await?;
    for person in world.people() {
        let has_it = person.heard().iter().any(|heard| heard.says(&poison));
        if has_it == (person.network() == network) {
            bail!("{} saw it: {has_it}", person.network());
        }
    }
    let due = talk.due(world, &[], &[]);
    let faults = world.judge(&due, PATIENCE).await?;
    if let Some(faults) = grave(faults, &[(&world.plan.people[NGIRCD], IRC_WINDOW)]) {
        bail!("run {}: {faults}", talk.run());
    }
    let dead = dead_letters(&world.first).await;
    if !dead.contains(&format!("{network}/")) {
        bail!("no dead letter on {network}: {dead}");
    }
    println!("{place}: {} panics, {dead}", panics(&world.first) - before);
    Ok(())
}

fn panics(gateway: &Gateway) -> usize {
    gateway
        .log()
        .matches("the bridge ended, it starts again")
        .count()
}

/// What `comity dead list` prints.
async fn dead_letters(gateway: &Gateway) -> String {
    let output = gateway.command(&["dead", "list"]).await.unwrap();
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout).unwrap()
}

//! Killed at random moments, for as long as is asked.

use std::time::{Duration, Instant};

use comity_people::talk::{IRC_WINDOW, grave};
use comity_people::{Talk, World};
use rand::{Rng, rngs::StdRng};

use crate::run::PATIENCE;
use crate::{dice, number, world};

/// Kills. `COMITY_KILLS` asks for more.
const KILLS: usize = 16;
/// After so many everything must have arrived.
const KILLS_OF_A_CYCLE: usize = 8;
/// After so many cycles people leave and others come, so that nobody has to remember everything.
const CYCLES_OF_A_WORLD: usize = 25;

#[tokio::test]
async fn four_people_talk_while_both_gateways_are_killed_at_random() {
    let mut dice = dice();
    let kills = number("COMITY_KILLS").map_or(KILLS, |kills| {
        usize::try_from(kills).expect("a number of kills")
    });
    let began = Instant::now();
    let (mut killed, mut tokens, mut cycles) = (0, 0, 0);
    let mut world = world().await;
    while killed < kills {
        if cycles > 0 && cycles % CYCLES_OF_A_WORLD == 0 {
            world = crate::world().await;
        }
        let here = KILLS_OF_A_CYCLE.min(kills - killed);
        let said = cycle(&mut world, here, &mut dice).await;
        killed += here;
        tokens += said;
        cycles += 1;
        println!(
            "cycle {cycles}: {killed} kills, {tokens} tokens, {:?}",
            began.elapsed()
        );
    }
    println!(
        "{killed} kills in {cycles} cycles, {tokens} tokens, no fault, {:?}",
        began.elapsed()
    );
}

/// Some kills, and the judgement. Returns how many lines were said.
async fn cycle(world: &mut World, kills: usize, dice: &mut StdRng) -> usize {
    let mut talk = Talk::default();
    let mut of_each = [0, 0];
    for _ in 0..kills {
        let moment = Duration::from_millis(dice.random_range(1..2000));
        let victim = dice.random_range(0..2);
        let (first, second, people) = world.parts();
        let until = tokio::time::Instant::now() + moment;
        while tokio::time::Instant::now() < until {
            let speaker = people[dice.random_range(0..4)];
            talk.line(speaker, dice)
                .await
                .expect("the servers take what is said");
            let pause = Duration::from_millis(dice.random_range(20..200));
            tokio::time::sleep_until(until.min(tokio::time::Instant::now() + pause)).await;
        }
        of_each[victim] += 1;
        let gateway = if victim == 0 { first } else { second };
        gateway.kill().await.expect("it runs");
        gateway.spawn().expect("it starts");
    }
    // The last one may not have come up yet.
    world
        .connected()
        .await
        .expect("four people hear each other again");
    // Plain IRC keeps nothing that is said while the gateway is away; no IRC server here can be asked what arrived.
    let due = talk.due(world, &["ngircd"], &[]);
    let faults = world
        .judge(&due, PATIENCE * 2)
        .await
        .expect("everything arrives");
    let [ngircd, _, inspircd] = world.plan.people.each_ref().map(String::as_str);
    let copies = [
        (ngircd, of_each[0] * IRC_WINDOW),
        (inspircd, of_each[1] * IRC_WINDOW),
    ];
    if let Some(faults) = grave(faults, &copies) {
        panic!("run {}, {of_each:?} kills: {faults}", talk.run());
    }
    talk.len()
}

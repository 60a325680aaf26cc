//! A gateway killed with SIGKILL at any moment and started again has lost nothing that it had
//! committed and doubled nothing.
//!
//! Two exceptions, both in the contract: the un-fenced lines of an IRC channel behind the killed
//! gateway may be shown twice, and lines said on IRC or in a MUC while it is down need not come.

use std::time::{Duration, Instant};

use comity_people::{
    Gate, Gateway, Lab, Person, World, WorldPlan,
    history::{Account, Fault, Said, Script, View},
    world::{INSPIRCD, NGIRCD, PROSODY, SYNAPSE, tag},
};
use rand::{Rng, rngs::StdRng};
use tokio::sync::watch;

use crate::{PATIENCE, binary, dice, world};

/// Kills in one test.
const KILLS: usize = 5;
/// Lines that an IRC bridge may have under way without a fence.
const IRC_WINDOW: usize = 5;

#[derive(Clone, Copy, Eq, PartialEq)]
enum Victim {
    First,
    Second,
}

#[tokio::test]
async fn matrix_lines_survive_kills_of_their_gateway_even_those_said_while_it_is_down() {
    survives(Victim::First, SYNAPSE, Due::Everything).await;
}

#[tokio::test]
async fn irc_lines_survive_kills_of_their_gateway_once_it_has_shown_them_anywhere() {
    survives(Victim::First, NGIRCD, Due::WhatSomeoneSaw).await;
}

#[tokio::test]
async fn xmpp_lines_survive_kills_of_their_gateway_once_it_has_shown_them_anywhere() {
    survives(Victim::First, PROSODY, Due::WhatSomeoneSaw).await;
}

#[tokio::test]
async fn lines_from_a_peer_survive_kills_of_the_gateway_that_hosts_the_room() {
    survives(Victim::First, INSPIRCD, Due::Everything).await;
}

#[tokio::test]
async fn lines_for_a_peer_survive_kills_of_the_peer() {
    survives(Victim::Second, PROSODY, Due::Everything).await;
}

#[tokio::test]
async fn irc_lines_survive_kills_of_the_peer_once_it_has_shown_them_anywhere() {
    survives(Victim::Second, INSPIRCD, Due::WhatSomeoneSaw).await;
}

#[tokio::test]
async fn matrix_lines_said_around_a_restart_arrive_though_nothing_follows_them() {
    let mut dice = dice();
    let mut world = world().await;
    let run = tag();
    let mut script = Script::new(&run, &world.synapse);
    let mut account = Account::new(&run);
    for round in 0..2 * KILLS {
        world.first.kill().await.unwrap();
        let (down, starting) = (script.text(), script.text());
        world.synapse.say(&down.line.text).await.unwrap();
        world.first.spawn().unwrap();
        let moment = Duration::from_millis(dice.random_range(0..1500));
        tokio::time::sleep(moment).await;
        let said = Instant::now();
        world.synapse.say(&starting.line.text).await.unwrap();
        for listener in [&world.ngircd as &dyn Person, &world.prosody] {
            listener.hears(&starting.token, PATIENCE).await.unwrap();
        }
        println!(
            "round {round}: said after {moment:?}, there after {:?}",
            said.elapsed()
        );
        account.add([down, starting]);
    }
    let views = [&world.ngircd as &dyn Person, &world.prosody].map(View::of);
    let faults = account.check(&views);
    let grave: Vec<_> = faults
        .iter()
        .filter(|fault| !matches!(fault, Fault::Doubled { .. }))
        .collect();
    assert_eq!(grave, Vec::<&Fault>::new());
}

#[tokio::test]
async fn committed_lines_that_nobody_has_seen_are_delivered_after_a_kill() {
    let lab = Lab::up().await.unwrap();
    let mut plan = WorldPlan::unique(&lab, binary());
    let prosody = Gate::new(lab.ip(), &plan.links.prosody).await.unwrap();
    let synapse = Gate::new(lab.ip(), &lab.address("MATRIX")).await.unwrap();
    plan.links.prosody = prosody.address().to_owned();
    plan.links.synapse = format!("http://{}", synapse.address());
    let mut world = World::start(lab, plan).await.unwrap();

    // From now on nothing leaves the first gateway.
    prosody.shut();
    synapse.shut();
    world.second.kill().await.unwrap();
    let before = events_in(&world.first, "ngircd").await;
    let run = tag();
    let said = Script::new(&run, &world.ngircd).lines(20);
    let lines: Vec<_> = said.iter().map(|said| said.line.clone()).collect();
    world.ngircd.burst(&lines).await.unwrap();
    world
        .first
        .metrics_until("twenty lines are committed", |metrics| {
            metrics.sum("comity_events_in_total", &[("network", "ngircd")]) >= before + 20.0
        })
        .await
        .unwrap();
    world.first.kill().await.unwrap();

    prosody.open();
    synapse.open();
    tokio::try_join!(world.first.start(), world.second.start()).unwrap();
    let mut account = Account::new(&run);
    account.add(said);
    let views = [
        &world.prosody as &dyn Person,
        &world.synapse,
        &world.inspircd,
    ];
    for listener in views {
        listener
            .hears(&format!("{run}-{}-19-", world.ngircd.name()), PATIENCE)
            .await
            .unwrap();
    }
    world.connected().await.unwrap();
    assert_eq!(account.check(&views.map(View::of)), []);
}

async fn events_in(gateway: &Gateway, network: &str) -> f64 {
    let metrics = gateway.metrics().await.unwrap();
    metrics.sum("comity_events_in_total", &[("network", network)])
}

/// Which lines must have arrived everywhere in the end.
#[derive(Clone, Copy)]
enum Due {
    Everything,
    WhatSomeoneSaw,
}

/// One person talks on while a gateway is killed at random moments; then everyone is asked.
async fn survives(victim: Victim, speaker: usize, due: Due) {
    let mut dice = dice();
    let mut world = world().await;
    let run = tag();
    let (first, second, people) = world.parts();
    let gateway = match victim {
        Victim::First => first,
        Victim::Second => second,
    };
    let script = Script::new(&run, people[speaker]);
    let stop = watch::Sender::new(false);
    let (said, ()) = tokio::join!(talk(people[speaker], script, stop.subscribe()), async {
        kill_again_and_again(gateway, &mut dice).await;
        stop.send_replace(true);
    });
    world.connected().await.unwrap();

    let mut account = Account::new(&run);
    account.add(said);
    if matches!(due, Due::WhatSomeoneSaw) {
        account = account.witnessed(&world.people().map(View::of));
    }
    let faults = world.judge(&account, PATIENCE * 2).await.unwrap();
    let behind = match victim {
        Victim::First => &world.ngircd,
        Victim::Second => &world.inspircd,
    };
    let (doubled_on_irc, grave): (Vec<_>, Vec<_>) = faults.into_iter().partition(
        |fault| matches!(fault, Fault::Doubled { observer, .. } if observer == behind.name()),
    );
    assert_eq!(grave, []);
    assert!(
        doubled_on_irc.len() <= KILLS * IRC_WINDOW,
        "more lines doubled on IRC than could be under way: {doubled_on_irc:?}"
    );
}

/// Says a few lines at a time until told to stop; returns what was said.
async fn talk(speaker: &dyn Person, mut script: Script, stop: watch::Receiver<bool>) -> Vec<Said> {
    // Slower than the slowest server, so that the queues stay short and the moments differ.
    let mut pace = tokio::time::interval(Duration::from_millis(200));
    let mut all = Vec::new();
    while !*stop.borrow() || all.len() < KILLS {
        pace.tick().await;
        let said = script.lines(2);
        let lines: Vec<_> = said.iter().map(|said| said.line.clone()).collect();
        speaker.burst(&lines).await.unwrap();
        all.extend(said);
    }
    all
}

/// Kills the gateway, running or still starting, and leaves it running.
async fn kill_again_and_again(gateway: &mut Gateway, dice: &mut StdRng) {
    for round in 0..KILLS {
        let moment = Duration::from_millis(dice.random_range(0..1500));
        tokio::time::sleep(moment).await;
        println!("kill {round} after {moment:?}");
        gateway.kill().await.unwrap();
        gateway.spawn().unwrap();
    }
    gateway.kill().await.unwrap();
    gateway.start().await.unwrap();
}

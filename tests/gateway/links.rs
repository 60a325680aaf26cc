//! A link that is slow, cut, half open, deaf one way or ends in the middle of something, while
//! everyone talks: nothing is lost, doubled or out of order.
//!
//! One gate stands in each link in turn. Two exceptions, both in the contract: what was said on
//! plain IRC while the gateway did not hear it, and what was under way to an IRC channel when the
//! link ended. The half-open ones end after two seconds, as when a router is back.

use std::time::Duration;

use comity_people::{
    Direction, Gate, Lab, Talk, Weather, World, WorldPlan,
    talk::{IRC_WINDOW, grave},
};
use rand::{Rng, rngs::StdRng};
use tokio::time::Instant;

use crate::{PATIENCE, binary, dice};

/// How long people talk over a spoilt link.
const SPOILT: Duration = Duration::from_secs(2);

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Link {
    Ngircd,
    Prosody,
    /// The gateway asks the homeserver.
    Synapse,
    /// The homeserver pushes to the gateway.
    Push,
    /// The guest asks and pushes to the host of the room.
    Host,
    /// The host asks and pushes to its guest.
    Guest,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Spoil {
    Slow,
    Cut,
    HalfOpen,
    DeafForth,
    DeafBack,
    TruncatedForth,
    TruncatedBack,
}

const SPOILS: [Spoil; 7] = [
    Spoil::Slow,
    Spoil::Cut,
    Spoil::HalfOpen,
    Spoil::DeafForth,
    Spoil::DeafBack,
    Spoil::TruncatedForth,
    Spoil::TruncatedBack,
];

#[tokio::test]
async fn a_spoilt_link_to_an_irc_server_loses_and_doubles_nothing() {
    spoilt(Link::Ngircd).await;
}

#[tokio::test]
async fn a_spoilt_link_to_an_xmpp_server_loses_and_doubles_nothing() {
    spoilt(Link::Prosody).await;
}

#[tokio::test]
async fn a_spoilt_link_to_a_homeserver_loses_and_doubles_nothing() {
    spoilt(Link::Synapse).await;
}

#[tokio::test]
async fn a_spoilt_link_from_a_homeserver_loses_and_doubles_nothing() {
    spoilt(Link::Push).await;
}

#[tokio::test]
async fn a_spoilt_link_to_the_gateway_that_hosts_the_room_loses_and_doubles_nothing() {
    spoilt(Link::Host).await;
}

#[tokio::test]
async fn a_spoilt_link_to_a_gateway_that_is_a_guest_loses_and_doubles_nothing() {
    spoilt(Link::Guest).await;
}

async fn spoilt(link: Link) {
    let mut dice = dice();
    let (mut world, mut gate) = gated(link, &mut dice).await;
    let gate = gate.take().or_else(|| world.push.take()).expect("a gate");
    world
        .connected()
        .await
        .expect("four people hear each other");
    let mut failed = Vec::new();
    for spoil in SPOILS {
        if matches!(link, Link::Ngircd | Link::Prosody) && spoil != Spoil::Slow {
            // A server that has cut the link so often is asked less and less; a new life begins afresh.
            assert!(world.first.stop("TERM").await.unwrap().success());
            world.first.start().await.unwrap();
            world.connected().await.unwrap();
        }
        let began = Instant::now();
        match round(&world, &gate, link, spoil, &mut dice).await {
            Ok(lines) => println!("{link:?} {spoil:?}: {lines} lines, {:?}", began.elapsed()),
            Err(why) => failed.push(format!("{link:?} {spoil:?}: {why}")),
        }
    }
    assert!(failed.is_empty(), "{}", failed.join("\n"));
}

/// A world with a gate in one link, both gateways running.
pub(crate) async fn gated(link: Link, dice: &mut StdRng) -> (World, Option<Gate>) {
    let lab = Lab::up().await.unwrap();
    let any = format!("{}:0", lab.ip());
    let seed = dice.random();
    let mut plan = WorldPlan::unique(&lab, binary());
    let mut gate = None;
    match link {
        Link::Ngircd => {
            let there = Gate::at(&any, &lab.address("NGIRCD"), seed).await.unwrap();
            plan.links.ngircd = (there.address().to_owned(), false);
            gate = Some(there);
        }
        Link::Prosody => {
            let there = Gate::at(&any, &plan.links.prosody, seed).await.unwrap();
            plan.links.prosody = there.address().to_owned();
            gate = Some(there);
        }
        Link::Synapse => {
            let there = Gate::at(&any, &lab.address("MATRIX"), seed).await.unwrap();
            plan.links.synapse = format!("http://{}", there.address());
            gate = Some(there);
        }
        Link::Push => plan.links.gated_push = true,
        Link::Host | Link::Guest => {}
    }
    let mut world = World::prepare(lab, plan).await.unwrap();
    if let Link::Host | Link::Guest = link {
        let behind = if link == Link::Host {
            &world.first
        } else {
            &world.second
        };
        let upstream = format!("{}:{}", world.lab.ip(), behind.public_port());
        let there = Gate::at(&any, &upstream, seed).await.unwrap();
        world
            .lab
            .point(behind.domain(), there.port())
            .await
            .unwrap();
        gate = Some(there);
    }
    tokio::try_join!(world.first.start(), world.second.start()).unwrap();
    (world, gate)
}

/// One fault, and the judgement when it is over. Returns how many lines were said.
async fn round(
    world: &World,
    gate: &Gate,
    link: Link,
    spoil: Spoil,
    dice: &mut StdRng,
) -> Result<usize, String> {
    let people = world.people();
    let mut talk = Talk::default();
    // The link is in use when it breaks.
    for person in people {
        talk.line(person, dice).await.map_err(in_words)?;
    }
    spoil_it(gate, spoil, dice);
    let over = Instant::now() + SPOILT;
    while Instant::now() < over {
        let speaker = people[dice.random_range(0..4)];
        talk.line(speaker, dice).await.map_err(in_words)?;
        tokio::time::sleep(Duration::from_millis(dice.random_range(0..200))).await;
        if spoil == Spoil::Cut && dice.random_ratio(1, 5) {
            gate.cut();
        }
    }
    gate.clear();
    world.connected().await.map_err(in_words)?;
    let is_whole = link != Link::Ngircd || spoil == Spoil::Slow;
    let deaf: &[&str] = if is_whole { &[] } else { &["ngircd"] };
    let due = talk.due(world, deaf, &[]);
    let faults = world.judge(&due, PATIENCE).await.map_err(in_words)?;
    // Some of the cuts come while it is connecting again.
    let most = if is_whole { 0 } else { 4 * IRC_WINDOW };
    match grave(faults, &[(&world.plan.people[0], most)]) {
        Some(faults) => Err(format!("run {}: {faults}", talk.run())),
        None => Ok(talk.len()),
    }
}

fn spoil_it(gate: &Gate, spoil: Spoil, dice: &mut StdRng) {
    let delay = Weather::Delay(Duration::from_millis(150));
    // In the middle of whatever passes: a line, a stanza, a head or a body.
    let middle = Weather::Truncate(dice.random_range(1..600));
    match spoil {
        Spoil::Slow => {
            gate.weather(Direction::Forth, delay);
            gate.weather(Direction::Back, delay);
        }
        Spoil::Cut => gate.cut(),
        Spoil::HalfOpen => {
            gate.weather(Direction::Forth, Weather::Swallow);
            gate.weather(Direction::Back, Weather::Swallow);
        }
        Spoil::DeafForth => gate.weather(Direction::Forth, Weather::Swallow),
        Spoil::DeafBack => gate.weather(Direction::Back, Weather::Swallow),
        Spoil::TruncatedForth => gate.weather(Direction::Forth, middle),
        Spoil::TruncatedBack => gate.weather(Direction::Back, middle),
    }
}

fn in_words(error: anyhow::Error) -> String {
    format!("{error:#}")
}

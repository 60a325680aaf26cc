//! A link that is half open for good: nothing that is sent on it arrives any more, and no reset ever comes. The daemon finds out by
//! its own questions, connects afresh and delivers everything. The other links go on meanwhile.
//!
//! Measured: 80 s to ngIRCd (asked after 20 s of silence, 60 s to answer), 77 s to Prosody (45 and 30), 62 s to Synapse (a message's own
//! patience), 19 s to the gateway that hosts the room, 2 s where the other side comes by a connection of its own: from Synapse, to a guest.
//!
//! That takes as long as the daemon's patience with a silent server, so these tests are asked for by name:
//! `cargo test --test gateway stranded -- --ignored --nocapture`.

use std::time::{Duration, SystemTime};

use comity_people::{
    Talk,
    talk::{IRC_WINDOW, grave},
    world::{INSPIRCD, NGIRCD, PROSODY, SYNAPSE, tag},
};
use tokio::time::sleep;

use crate::{
    PATIENCE, dice,
    links::{Link, gated},
};

/// A daemon that has not noticed by then never does.
const NEVER: Duration = Duration::from_secs(300);

#[tokio::test]
#[ignore = "minutes"]
async fn a_half_open_link_to_an_irc_server_is_noticed_and_everything_arrives() {
    stranded(Link::Ngircd, PROSODY, NGIRCD).await;
}

#[tokio::test]
#[ignore = "minutes"]
async fn a_half_open_link_to_an_xmpp_server_is_noticed_and_everything_arrives() {
    stranded(Link::Prosody, NGIRCD, PROSODY).await;
}

#[tokio::test]
#[ignore = "minutes"]
async fn a_half_open_link_to_a_homeserver_is_noticed_and_everything_arrives() {
    stranded(Link::Synapse, NGIRCD, SYNAPSE).await;
}

#[tokio::test]
#[ignore = "minutes"]
async fn a_half_open_link_from_a_homeserver_is_noticed_and_everything_arrives() {
    stranded(Link::Push, SYNAPSE, NGIRCD).await;
}

#[tokio::test]
#[ignore = "minutes"]
async fn a_half_open_link_to_the_gateway_that_hosts_the_room_is_noticed_and_everything_arrives() {
    stranded(Link::Host, INSPIRCD, NGIRCD).await;
}

#[tokio::test]
#[ignore = "minutes"]
async fn a_half_open_link_to_a_gateway_that_is_a_guest_is_noticed_and_everything_arrives() {
    stranded(Link::Guest, NGIRCD, INSPIRCD).await;
}

/// What `speaker` says has to cross the link to `listener`.
async fn stranded(link: Link, speaker: usize, listener: usize) {
    let mut dice = dice();
    let (mut world, mut gate) = gated(link, &mut dice).await;
    let gate = gate.take().or_else(|| world.push.take()).expect("a gate");
    world
        .connected()
        .await
        .expect("four people hear each other");
    let people = world.people();
    let mut talk = Talk::default();
    for person in people {
        talk.line(person, &mut dice).await.unwrap();
    }
    let before = gate.passed();
    gate.strand();
    let began = SystemTime::now();
    let mark = format!("can you hear me {}", tag());
    people[speaker].say(&mark).await.unwrap();
    let heard = people[listener].hears(&mark, NEVER);
    tokio::pin!(heard);
    let heard = loop {
        for person in people {
            talk.line(person, &mut dice).await.unwrap();
        }
        tokio::select! {
            heard = &mut heard => break heard.unwrap(),
            () = sleep(Duration::from_secs(6)) => {}
        }
    };
    let took = heard.at.duration_since(began).unwrap();
    println!(
        "{link:?}: noticed and caught up after {took:?}, {} new connections, {} lines",
        gate.passed() - before,
        talk.len()
    );
    // A guest also fetches by itself what it misses, over a link of its own.
    assert!(
        link == Link::Guest || gate.passed() > before,
        "the link was not half open"
    );
    world.connected().await.unwrap();
    // Nobody keeps what is said on plain IRC to those who cannot hear it.
    let (deaf, copies): (&[&str], usize) = match link {
        Link::Ngircd => (&["ngircd"], 2 * IRC_WINDOW),
        _ => (&[], 0),
    };
    let due = talk.due(&world, deaf, &[]);
    let faults = world.judge(&due, PATIENCE).await.unwrap();
    if let Some(faults) = grave(faults, &[(&world.plan.people[NGIRCD], copies)]) {
        panic!("run {}: {faults}", talk.run());
    }
}

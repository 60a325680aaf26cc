//! One of the servers stopped for ten seconds delays only itself and gets everything.
//!
//! Each of these tests has a lab of its own, since it takes servers away. A server
//! that is stopped ends all connections: its person comes back first, through a gate that keeps
//! the gateway out meanwhile, so that nothing is shown to an empty room. A frozen server keeps
//! them and answers nothing.

use std::{fs::File, time::Duration};

use comity_people::{
    Gate, Irc, Lab, Person, World, WorldPlan, Xmpp,
    history::{Account, Script, View},
    world::{INSPIRCD, NGIRCD, PROSODY, SYNAPSE, tag},
};
use tokio::time::Instant;

use crate::{PATIENCE, binary};

const TEN_SECONDS: Duration = Duration::from_secs(10);
/// What "delays only itself" means: the others hear each other this quickly meanwhile.
const AT_ONCE: Duration = Duration::from_secs(5);

#[tokio::test]
async fn ngircd_stopped_for_ten_seconds_delays_only_itself_and_gets_everything() {
    let (lab, _lock) = own_lab().await;
    let mut plan = WorldPlan::unique(&lab, binary());
    let gate = Gate::new(lab.ip(), &lab.address("NGIRCD")).await.unwrap();
    plan.links.ngircd = (gate.address().to_owned(), false);
    let mut world = World::start(lab, plan).await.unwrap();
    let absence = Absence::begin(&world, NGIRCD, Some(&gate)).await;
    let said = absence.talk(&world).await;
    absence.over().await;
    let channel = format!("#{}", world.plan.room);
    let (address, nick) = (world.lab.address("NGIRCD"), world.plan.people[0].clone());
    world.ngircd = Irc::join("ngircd", &address, &nick, &channel)
        .await
        .unwrap();
    absence.caught_up(&world, said, Some(&gate)).await;
}

#[tokio::test]
async fn inspircd_stopped_for_ten_seconds_delays_only_itself_and_gets_everything() {
    let (lab, _lock) = own_lab().await;
    let mut plan = WorldPlan::unique(&lab, binary());
    let gate = Gate::new(lab.ip(), &lab.address("INSPIRCD")).await.unwrap();
    plan.links.inspircd = (gate.address().to_owned(), false);
    let mut world = World::start(lab, plan).await.unwrap();
    let absence = Absence::begin(&world, INSPIRCD, Some(&gate)).await;
    let said = absence.talk(&world).await;
    absence.over().await;
    let channel = format!("#{}", world.plan.room);
    let (address, nick) = (world.lab.address("INSPIRCD"), world.plan.people[2].clone());
    world.inspircd = Irc::join("inspircd", &address, &nick, &channel)
        .await
        .unwrap();
    absence.caught_up(&world, said, Some(&gate)).await;
}

#[tokio::test]
async fn prosody_stopped_for_ten_seconds_delays_only_itself_and_gets_everything() {
    let (lab, _lock) = own_lab().await;
    let mut plan = WorldPlan::unique(&lab, binary());
    let gate = Gate::new(lab.ip(), &plan.links.prosody).await.unwrap();
    plan.links.prosody = gate.address().to_owned();
    let mut world = World::start(lab, plan).await.unwrap();
    let absence = Absence::begin(&world, PROSODY, Some(&gate)).await;
    let said = absence.talk(&world).await;
    absence.over().await;
    let room = world.prosody.room().to_string();
    let (account, nick) = (world.lab.xmpp_account("bob"), world.plan.people[1].clone());
    world.prosody = Xmpp::join(&account, &room, &nick, 0).await.unwrap();
    absence.caught_up(&world, said, Some(&gate)).await;
}

#[tokio::test]
async fn synapse_stopped_for_ten_seconds_delays_only_itself_and_gets_everything() {
    let (lab, _lock) = own_lab().await;
    let plan = WorldPlan::unique(&lab, binary());
    let world = World::start(lab, plan).await.unwrap();
    let absence = Absence::begin(&world, SYNAPSE, None).await;
    let said = absence.talk(&world).await;
    absence.over().await;
    absence.caught_up(&world, said, None).await;
}

#[tokio::test]
async fn ngircd_frozen_for_ten_seconds_delays_only_itself_and_gets_everything() {
    frozen(NGIRCD).await;
}

#[tokio::test]
async fn inspircd_frozen_for_ten_seconds_delays_only_itself_and_gets_everything() {
    frozen(INSPIRCD).await;
}

#[tokio::test]
async fn prosody_frozen_for_ten_seconds_delays_only_itself_and_gets_everything() {
    frozen(PROSODY).await;
}

#[tokio::test]
async fn synapse_frozen_for_ten_seconds_delays_only_itself_and_gets_everything() {
    frozen(SYNAPSE).await;
}

#[tokio::test]
async fn a_peer_stopped_for_ten_seconds_delays_only_itself_and_gets_everything() {
    let lab = Lab::up().await.unwrap();
    let plan = WorldPlan::unique(&lab, binary());
    let mut world = World::start(lab, plan).await.unwrap();
    let began = Instant::now();
    assert!(world.second.stop("TERM").await.unwrap().success());
    let said = talk_around(&world, INSPIRCD).await;
    tokio::time::sleep_until(began + TEN_SECONDS).await;
    world.second.start().await.unwrap();
    everything_arrived(&world, INSPIRCD, said).await;
}

async fn frozen(place: usize) {
    let (lab, _lock) = own_lab().await;
    let plan = WorldPlan::unique(&lab, binary());
    let world = World::start(lab, plan).await.unwrap();
    let began = Instant::now();
    let server = world.people()[place].network();
    world.lab.verb(&["freeze", server]).await.unwrap();
    let said = talk_around(&world, place).await;
    tokio::time::sleep_until(began + TEN_SECONDS).await;
    world.lab.verb(&["thaw", server]).await.unwrap();
    everything_arrived(&world, place, said).await;
}

/// A lab for this test alone as long as the file is held.
pub(crate) async fn own_lab() -> (Lab, File) {
    Lab::spare().await.expect("another lab runs")
}

/// A server is away.
struct Absence {
    place: usize,
    server: String,
    lab: Lab,
    began: Instant,
}

impl Absence {
    async fn begin(world: &World, place: usize, gate: Option<&Gate>) -> Self {
        let server = world.people()[place].network().to_owned();
        world.lab.verb(&["stop", &server]).await.unwrap();
        if let Some(gate) = gate {
            gate.shut();
        }
        Self {
            place,
            server,
            lab: world.lab.clone(),
            began: Instant::now(),
        }
    }

    async fn talk(&self, world: &World) -> Said {
        talk_around(world, self.place).await
    }

    /// Brings the server back when its ten seconds are over.
    async fn over(&self) {
        tokio::time::sleep_until(self.began + TEN_SECONDS).await;
        self.lab.verb(&["start", &self.server]).await.unwrap();
    }

    async fn caught_up(&self, world: &World, said: Said, gate: Option<&Gate>) {
        if let Some(gate) = gate {
            gate.open();
        }
        everything_arrived(world, self.place, said).await;
    }
}

/// What was said while a server was away, and under which mark.
struct Said {
    run: String,
    account: Account,
}

/// The three others talk, and hear each other at once.
async fn talk_around(world: &World, away: usize) -> Said {
    let run = tag();
    let mut account = Account::new(&run);
    let people = world.people();
    let present: Vec<&dyn Person> = (0..4)
        .filter(|place| *place != away)
        .map(|place| people[place])
        .collect();
    for speaker in &present {
        let said = Script::new(&run, *speaker).lines(10);
        let lines: Vec<_> = said.iter().map(|said| said.line.clone()).collect();
        speaker.burst(&lines).await.unwrap();
        let last = &said.last().expect("ten lines").token;
        for listener in present
            .iter()
            .filter(|other| other.name() != speaker.name())
        {
            listener
                .hears(last, AT_ONCE)
                .await
                .expect("a server that is away delays nobody else");
        }
        account.add(said);
    }
    let views: Vec<View> = present.iter().map(|person| View::of(*person)).collect();
    assert_eq!(account.check(&views), []);
    Said { run, account }
}

/// The one who was away hears all of it, once and in order, and can talk to the others again.
async fn everything_arrived(world: &World, away: usize, said: Said) {
    let listener = world.people()[away];
    for token in said.account.last_of_each().values() {
        listener.hears(token, PATIENCE).await.unwrap();
    }
    world.connected().await.unwrap();
    assert_eq!(
        said.account.check(&world.people().map(View::of)),
        [],
        "run {}",
        said.run
    );
}

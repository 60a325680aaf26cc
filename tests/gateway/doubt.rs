//! A homeserver that has taken a message, whose answer was lost, and which then forgot everything
//! that it remembered about transaction ids: the message is there once.

use comity_people::{
    Direction, Gate, Person, Weather, World, WorldPlan,
    history::{Account, Script, View, report},
    world::tag,
};

use crate::{PATIENCE, binary, stops::own_lab};

#[tokio::test]
async fn synapse_restarted_before_its_answer_came_has_each_line_once() {
    let (lab, _lock) = own_lab().await;
    let mut plan = WorldPlan::unique(&lab, binary());
    let gate = Gate::new(lab.ip(), &lab.address("MATRIX")).await.unwrap();
    plan.links.synapse = format!("http://{}", gate.address());
    let world = World::start(lab, plan).await.unwrap();
    let run = tag();
    let mut script = Script::new(&run, &world.ngircd);
    let mut account = Account::new(&run);
    for round in 0..2 {
        // What the gateway sends arrives; what the homeserver answers does not.
        gate.weather(Direction::Back, Weather::Swallow);
        let said = script.lines(3);
        let lines: Vec<_> = said.iter().map(|said| said.line.clone()).collect();
        world.ngircd.burst(&lines).await.unwrap();
        let first = &said[0].token;
        world.synapse.hears(first, PATIENCE).await.unwrap();
        account.add(said);
        // A restarted Synapse remembers no transaction id of an application service.
        world.lab.verb(&["stop", "synapse"]).await.unwrap();
        gate.clear();
        world.lab.verb(&["start", "synapse"]).await.unwrap();
        world.connected().await.unwrap();
        println!("round {round} is over");
    }
    let faults = account.check(&world.people().map(View::of));
    assert!(faults.is_empty(), "{}", report(&faults));
}

#[tokio::test]
async fn a_gateway_killed_and_synapse_restarted_before_the_answer_came_have_each_line_once() {
    let (lab, _lock) = own_lab().await;
    let mut plan = WorldPlan::unique(&lab, binary());
    let gate = Gate::new(lab.ip(), &lab.address("MATRIX")).await.unwrap();
    plan.links.synapse = format!("http://{}", gate.address());
    let mut world = World::start(lab, plan).await.unwrap();
    let run = tag();
    let said = Script::new(&run, &world.inspircd).lines(3);
    gate.weather(Direction::Back, Weather::Swallow);
    let lines: Vec<_> = said.iter().map(|said| said.line.clone()).collect();
    world.inspircd.burst(&lines).await.unwrap();
    world.synapse.hears(&said[0].token, PATIENCE).await.unwrap();
    world.first.kill().await.unwrap();
    world.lab.verb(&["stop", "synapse"]).await.unwrap();
    gate.clear();
    world.lab.verb(&["start", "synapse"]).await.unwrap();
    world.first.start().await.unwrap();
    world.connected().await.unwrap();
    let mut account = Account::new(&run);
    account.add(said);
    // The plain IRC channel of the killed gateway may show again what was under way.
    let views = [&world.prosody as &dyn Person, &world.synapse].map(View::of);
    let faults = account.check(&views);
    assert!(faults.is_empty(), "{}", report(&faults));
}

//! What strangers may send through an XMPP server, and what a broken server may send itself.

use comity_people::minidom::Element;
use comity_people::{Gate, Lab, Person, World, WorldPlan, world::tag};

use super::{counted, reconnects, refused};
use crate::{PATIENCE, binary, world};

#[tokio::test]
async fn a_malformed_stanza_is_skipped_and_counted_and_the_link_goes_on() {
    let lab = Lab::up().await.unwrap();
    let mut plan = WorldPlan::unique(&lab, binary());
    let gate = Gate::new(lab.ip(), &plan.links.prosody).await.unwrap();
    plan.links.prosody = gate.address().to_owned();
    let world = World::start(lab, plan).await.unwrap();
    let before = refused(&world.first.metrics().await.unwrap(), "prosody");

    let (room, component) = (world.prosody.room(), &world.slot.component);
    let deep = format!("{}{}", "<a>".repeat(1000), "</a>".repeat(1000));
    let stanzas = [
        format!("<message from='@@' to='{component}' type='groupchat'><body>x</body></message>"),
        format!(
            "<presence from='{room}/{}' to='{component}'/>",
            "n".repeat(5000)
        ),
        format!("<message from='{room}/x' to='a@b@c' type='nonsense'><body>x</body></message>"),
        "<iq type='get' id='1' from='@@'><q xmlns='urn:x'/></iq>".to_owned(),
        "<foo xmlns='urn:x'><bar/></foo>".to_owned(),
        format!("<message from='{room}/x' to='{component}'><x xmlns='urn:x'>{deep}</x></message>"),
    ];
    for stanza in stanzas {
        gate.inject(stanza.as_bytes()).unwrap();
    }
    counted(&world.first, "prosody", before, 1).await;
    world.connected().await.unwrap();
    assert_eq!(
        gate.passed(),
        1,
        "the link was lost:\n{}",
        world.first.log()
    );
    assert_eq!(reconnects(&world.first, "prosody").await, 0.0);
}

#[tokio::test]
async fn odd_stanzas_from_a_room_do_not_stop_the_next_line() {
    let world = world().await;
    let room = world.prosody.room().to_string();
    for inner in [
        "",
        "<body/>",
        "<subject>a subject</subject>",
        "<body>first</body><body xml:lang='de'>zweitens</body>",
        "<x xmlns='urn:x'/><body xmlns='urn:x'>not a body</body>",
    ] {
        let stanza = format!(
            "<message xmlns='jabber:client' type='groupchat' to='{room}'>{inner}</message>"
        );
        let stanza: Element = stanza.parse().unwrap();
        world.prosody.stanza(stanza).await.unwrap();
    }
    let line = format!("after the odd ones {}", tag());
    world.prosody.say(&line).await.unwrap();
    for listener in [
        &world.ngircd as &dyn Person,
        &world.synapse,
        &world.inspircd,
    ] {
        listener.hears(&line, PATIENCE).await.unwrap();
    }
    assert_eq!(reconnects(&world.first, "prosody").await, 0.0);
}

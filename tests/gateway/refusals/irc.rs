//! What a broken or hostile IRC server may send.

use comity_people::{Gate, Lab, World, WorldPlan};

use super::{counted, reconnects, refused};
use crate::binary;

#[tokio::test]
async fn a_malformed_line_is_skipped_and_counted_and_the_link_goes_on() {
    let lab = Lab::up().await.unwrap();
    let mut plan = WorldPlan::unique(&lab, binary());
    let gate = Gate::new(lab.ip(), &lab.address("NGIRCD")).await.unwrap();
    plan.links.ngircd = (gate.address().to_owned(), false);
    let world = World::start(lab, plan).await.unwrap();
    let before = refused(&world.first.metrics().await.unwrap(), "ngircd");

    let long = format!(
        ":x!y@z PRIVMSG #{} :{}",
        world.plan.room,
        "a".repeat(100_000)
    );
    let lines: [&[u8]; 6] = [
        b":",
        b"@tag-without-end",
        b":source.only ",
        b"\x01\x02\x03",
        b"\xff\xfe\xfd",
        long.as_bytes(),
    ];
    for line in lines {
        gate.inject(&[line, b"\r\n"].concat()).unwrap();
    }
    counted(&world.first, "ngircd", before, 1).await;
    world.connected().await.unwrap();
    assert_eq!(
        gate.passed(),
        1,
        "the link was lost:\n{}",
        world.first.log()
    );
    assert_eq!(reconnects(&world.first, "ngircd").await, 0.0);
}

#[tokio::test]
async fn a_certificate_for_another_name_is_refused() {
    let lab = Lab::up().await.unwrap();
    let plan = WorldPlan::unique(&lab, binary());
    // The server's certificate names the lab's address, and not the one that the gate has.
    let gate = Gate::new("127.0.200.1", &lab.address("NGIRCD_TLS"))
        .await
        .unwrap();
    let mut plan = plan;
    plan.links.ngircd = (gate.address().to_owned(), true);
    let mut world = World::prepare(lab, plan).await.unwrap();
    tokio::try_join!(world.first.start(), world.second.start()).unwrap();
    world
        .first
        .metrics_until("ngircd is tried", |_| gate.passed() >= 2)
        .await
        .unwrap();
    let metrics = world.first.metrics().await.unwrap();
    assert_eq!(
        metrics.sum("comity_network_online", &[("network", "ngircd")]),
        0.0
    );
    assert!(
        world.first.log().contains("ngircd"),
        "{}",
        world.first.log()
    );
}

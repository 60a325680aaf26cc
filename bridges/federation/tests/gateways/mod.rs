//! Two real bridges that find each other by DNS and speak TLS, on loopback.

use std::net::Ipv4Addr;
use std::sync::Arc;
use std::time::Duration;

use comity_bridge::event::MessageKind;
use comity_bridge::test_util::Harness;
use comity_bridge::{
    Access, BridgeKind as _, Channel, ConfigTable, GatewayInfo, JoinOptions, Outcome, RoomAddress,
};
use comity_federation::Federation;

use crate::wire::World;
use crate::wire::https::{Handler, Https};

const ROOM: &str = "#rust@a.example";

struct Gateway {
    harness: Harness,
    _front: Https,
}

/// Starts a gateway and what stands before it: a listener with a certificate for `proves`.
async fn start(world: &World, name: &str, proves: &str, allow_loopback: bool) -> Gateway {
    let (harness, link) = Harness::link("peers");
    harness.set_patience(Duration::from_secs(60));
    let gateway = GatewayInfo {
        domain: name.to_owned(),
        ..harness.gateway().clone()
    };
    tokio::spawn(world.bridge(&gateway, "peers", allow_loopback).run(link));
    let caller = harness.http_caller();
    let handler: Handler = Arc::new(move |request| {
        let caller = caller.clone();
        Box::pin(async move { caller.call(request).await })
    });
    let front = Https::start(world.certificate(proves), handler).await;
    world
        .dns
        .srv(name, 10, front.address.port(), &format!("chat.{name}"));
    world.dns.a(&format!("chat.{name}"), Ipv4Addr::LOCALHOST);
    Gateway {
        harness,
        _front: front,
    }
}

async fn join(gateway: &Gateway, hosted: bool) -> Channel {
    let channel = gateway.harness.channel(ROOM);
    let room = RoomAddress::new("rust", "gw1.example").expect("an address");
    let access = if hosted { Access::Open } else { Access::Off };
    gateway
        .harness
        .join(
            &channel,
            JoinOptions {
                room,
                hosted,
                access,
            },
        )
        .await;
    channel
}

async fn is_told(gateway: &Gateway, wanted: &str) {
    gateway
        .harness
        .wait_for(wanted, |seen| {
            seen.told
                .iter()
                .any(|told| format!("{told:?}").contains(wanted))
                .then_some(())
        })
        .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_gateways_find_each_other_by_srv_and_a_dead_target_does_not_matter() {
    let world = World::new().await;
    // Nothing listens there; it has the better priority.
    world.dns.srv("a.example", 1, 1025, "dead.a.example");
    world.dns.a("dead.a.example", Ipv4Addr::LOCALHOST);
    let a = start(&world, "a.example", "a.example", true).await;
    let b = start(&world, "b.example", "b.example", true).await;
    let on_a = join(&a, true).await;
    let on_b = join(&b, false).await;
    b.harness.wait_for_joined(&on_b).await;

    for (from, channel, to, text) in [(&a, &on_a, &b, "from a"), (&b, &on_b, &a, "from b")] {
        let delivery = from
            .harness
            .deliver(channel, "ann", text, MessageKind::Text)
            .await;
        assert_eq!(delivery.outcome().await, Outcome::Shown);
        assert_eq!(
            to.harness.wait_for_text(text).await.incoming.author.name,
            "ann"
        );
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_certificate_for_another_name_is_refused() {
    let world = World::new().await;
    // The certificate names the SRV target, which DNS alone vouches for.
    let a = start(&world, "a.example", "chat.a.example", true).await;
    let b = start(&world, "b.example", "b.example", true).await;
    join(&a, true).await;
    let channel = join(&b, false).await;
    is_told(&b, "does not prove its name").await;
    assert!(!b.harness.seen(|seen| seen.joined.contains(&channel)));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn f8_a_name_that_leads_to_loopback_is_not_followed() {
    let world = World::new().await;
    let a = start(&world, "a.example", "a.example", true).await;
    let b = start(&world, "b.example", "b.example", false).await;
    join(&a, true).await;
    join(&b, false).await;
    is_told(&b, "which is not a public address").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_domain_that_does_not_take_part_is_not_asked_elsewhere() {
    let world = World::new().await;
    let b = start(&world, "b.example", "b.example", true).await;
    world.dns.srv("a.example", 0, 0, ".");
    world.dns.a("a.example", Ipv4Addr::LOCALHOST);
    join(&b, false).await;
    is_told(&b, "says that it does not take part").await;
}

/// The TXT record that `comity keys` prints for a gateway.
fn record(gateway: &Gateway, name: &str) -> String {
    let info = GatewayInfo {
        domain: name.to_owned(),
        ..gateway.harness.gateway().clone()
    };
    let network = "peers".parse().expect("a name");
    let table = ConfigTable::new("peers.toml", "", serde_json::Map::new());
    let printed = (Federation.verbs()[0].run)(&info, &network, table).expect("keys");
    let quoted = printed.split('"').nth(1).expect("a TXT record");
    quoted.to_owned()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn f7_a_txt_record_is_believed_over_a_key_document() {
    let world = World::new().await;
    let a = start(&world, "a.example", "a.example", true).await;
    let b = start(&world, "b.example", "b.example", true).await;
    world
        .dns
        .txt("_chat-key.a.example", &record(&a, "a.example"));
    join(&a, true).await;
    let channel = join(&b, false).await;
    b.harness.wait_for_joined(&channel).await;

    // The record of another gateway: whoever answers for c.example is not who DNS says.
    let c = start(&world, "c.example", "c.example", true).await;
    world
        .dns
        .txt("_chat-key.c.example", &record(&a, "a.example"));
    join(&c, false).await;
    is_told(&c, "contradict each other").await;
}

//! What an operator does: checks, starts, looks, stops.

use std::{fs, process::Output};

use comity_people::{
    Gate, Gateway, GatewayPlan, Lab, Person, World, WorldPlan,
    history::{Account, Script, View},
    slots::MATRIX_NETWORK,
    world::tag,
};

use crate::{PATIENCE, binary, world};

fn text(output: &Output) -> String {
    format!(
        "{}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    )
}

#[tokio::test]
async fn a_network_that_is_down_at_the_start_does_not_keep_the_others_from_starting() {
    let lab = Lab::up().await.unwrap();
    let mut plan = WorldPlan::unique(&lab, binary());
    let gate = Gate::new(lab.ip(), &plan.links.prosody).await.unwrap();
    gate.shut();
    plan.links.prosody = gate.address().to_owned();
    let mut world = World::prepare(lab, plan).await.unwrap();
    tokio::try_join!(world.first.start(), world.second.start()).unwrap();
    let present = [
        &world.ngircd as &dyn Person,
        &world.synapse,
        &world.inspircd,
    ];
    world.connected_among(&present).await.unwrap();

    let run = tag();
    let said = Script::new(&run, &world.ngircd).lines(5);
    let lines: Vec<_> = said.iter().map(|said| said.line.clone()).collect();
    world.ngircd.burst(&lines).await.unwrap();
    gate.open();
    world.connected().await.unwrap();
    let mut account = Account::new(&run);
    account.add(said);
    assert_eq!(account.check(&world.people().map(View::of)), []);
}

#[tokio::test]
async fn a_bad_configuration_prints_every_problem_exits_2_and_touches_nothing() {
    let lab = Lab::up().await.unwrap();
    let gateway = Gateway::prepare(&GatewayPlan {
        binary: binary(),
        ip: lab.ip().to_owned(),
        domain: "Not A Domain".to_owned(),
        tls: None,
        rooms: vec![comity_people::Room {
            name: "room".to_owned(),
            federation: "perhaps",
            channels: vec!["nowhere/#room".to_owned()],
        }],
        networks: vec![
            (
                "ngircd".to_owned(),
                "protocol = \"irc\"\nnick = \"x\"\ncolour = \"red\"\n".to_owned(),
            ),
            ("prosody".to_owned(), "protocol = \"xmpp\"\n".to_owned()),
            (
                "odd".to_owned(),
                "protocol = \"carrier-pigeon\"\n".to_owned(),
            ),
        ],
    })
    .unwrap();
    for command in ["check", "run"] {
        let output = gateway.command(&[command]).await.unwrap();
        let printed = text(&output);
        assert_eq!(output.status.code(), Some(2), "{command}: {printed}");
        for part in [
            "comity.toml",
            "domain",
            "federation",
            "perhaps",
            "nowhere",
            "ngircd.toml",
            "server",
            "colour",
            "prosody.toml",
            "component",
            "odd.toml",
            "carrier-pigeon",
        ] {
            assert!(
                printed.contains(part),
                "{command} does not mention {part}:\n{printed}"
            );
        }
        assert!(
            !gateway.data_dir().exists(),
            "{command} made the data directory"
        );
    }
}

#[tokio::test]
async fn the_commands_answer_and_leave_a_good_configuration_as_it_is() {
    let world = world().await;
    let check = world.first.command(&["check"]).await.unwrap();
    assert!(check.status.success(), "{}", text(&check));

    let registration = world
        .first
        .command(&["registration", MATRIX_NETWORK])
        .await
        .unwrap();
    assert!(registration.status.success(), "{}", text(&registration));
    let again = world
        .first
        .command(&["registration", MATRIX_NETWORK])
        .await
        .unwrap();
    assert_eq!(registration.stdout, again.stdout);
    let (address, token) = world.slot.appservice(&world.lab).unwrap();
    let printed = text(&registration);
    for part in ["id:", "sender_localpart:", "namespaces:", &address, &token] {
        assert!(printed.contains(part), "no {part} in:\n{printed}");
    }
    let unknown = world
        .first
        .command(&["registration", "nowhere"])
        .await
        .unwrap();
    assert!(!unknown.status.success());
    assert!(text(&unknown).contains("nowhere"), "{}", text(&unknown));

    let rooms = text(&world.first.command(&["rooms"]).await.unwrap());
    let room = format!("#{}@{}", world.plan.room, world.first.domain());
    for part in [room.as_str(), "ngircd/", "prosody/", "synapse/"] {
        assert!(rooms.contains(part), "no {part} in:\n{rooms}");
    }
    let version = text(&world.first.command(&["version"]).await.unwrap());
    assert!(version.contains(env!("CARGO_PKG_VERSION")), "{version}");
}

#[tokio::test]
async fn health_and_metrics_tell_what_goes_on_per_network_and_name_no_room() {
    let world = world().await;
    assert!(world.first.page("healthz").await.is_ok());
    assert!(world.first.page("readyz").await.is_ok());
    let page = world.first.page("metrics").await.unwrap();
    let metrics = world.first.metrics().await.unwrap();
    for network in ["ngircd", "prosody", "synapse", "peers"] {
        for name in [
            "comity_events_in_total",
            "comity_events_out_total",
            "comity_delivery_seconds_count",
            "comity_lane_depth",
            "comity_lane_age_seconds",
            "comity_reconnects_total",
            "comity_network_online",
        ] {
            assert!(
                metrics.has(name, &[("network", network)]),
                "no {name} of {network} in:\n{page}"
            );
        }
        assert!(
            metrics.sum("comity_events_in_total", &[("network", network)]) >= 1.0,
            "{page}"
        );
        assert!(
            metrics.sum("comity_events_out_total", &[("network", network)]) >= 3.0,
            "{page}"
        );
    }
    assert!(
        metrics.sum("comity_journal_commit_seconds_count", &[]) >= 4.0,
        "{page}"
    );
    assert!(
        !page.contains(&world.plan.room),
        "metrics name a room:\n{page}"
    );
}

#[tokio::test]
async fn sigterm_and_sigint_end_in_order_and_nothing_is_lost_or_doubled_anywhere() {
    let mut world = world().await;
    let run = tag();
    let mut script = Script::new(&run, &world.synapse);
    let mut irc_script = Script::new(&run, &world.ngircd);
    let mut account = Account::new(&run);
    for signal in ["TERM", "INT"] {
        for (speaker, said) in [
            (&world.synapse as &dyn Person, script.lines(8)),
            (&world.ngircd, irc_script.lines(8)),
        ] {
            let lines: Vec<_> = said.iter().map(|said| said.line.clone()).collect();
            speaker.burst(&lines).await.unwrap();
            // The last line has been committed once anyone has seen it.
            let last = &said.last().expect("eight lines").token;
            world.prosody.hears(last, PATIENCE).await.unwrap();
            account.add(said);
        }
        let status = world.first.stop(signal).await.unwrap();
        assert!(
            status.success(),
            "SIG{signal}: {status}\n{}",
            world.first.log()
        );
        world.first.start().await.unwrap();
        world.connected().await.unwrap();
    }
    assert_eq!(world.judge(&account, PATIENCE).await.unwrap(), []);
}

#[tokio::test]
async fn the_data_directory_and_its_secrets_are_for_the_operator_alone() {
    use std::os::unix::fs::PermissionsExt as _;
    let world = world().await;
    let mode = fs::metadata(world.first.data_dir())
        .unwrap()
        .permissions()
        .mode();
    assert_eq!(mode & 0o077, 0, "{mode:o}");
    let log = world.first.log();
    let (_, token) = world.slot.appservice(&world.lab).unwrap();
    for secret in [world.lab.value("XMPP_SECRET"), &token] {
        assert!(!log.contains(secret), "a secret is in the log:\n{log}");
    }
}

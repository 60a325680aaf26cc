//! What strangers may send to the public listener, and peers that are not who they seem to be.

use std::net::SocketAddr;

use comity_people::reqwest::{self, Client, StatusCode};
use comity_people::{Gateway, Lab, World, WorldPlan, world::tag};
use serde_json::json;

use crate::{binary, world};

/// A client that reaches the gateway by its name, without DNS, and trusts the lab's authority.
fn stranger(lab: &Lab, gateway: &Gateway) -> Client {
    let authority = std::fs::read(lab.ca()).unwrap();
    let address: SocketAddr = format!("{}:{}", lab.ip(), gateway.public_port())
        .parse()
        .unwrap();
    Client::builder()
        .no_proxy()
        .tls_certs_only([reqwest::Certificate::from_pem(&authority).unwrap()])
        .resolve(gateway.domain(), address)
        .build()
        .unwrap()
}

fn url(gateway: &Gateway, path: &str) -> String {
    format!(
        "https://{}:{}{path}",
        gateway.domain(),
        gateway.public_port()
    )
}

fn is_refusal(status: StatusCode) -> bool {
    matches!(
        status,
        StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN | StatusCode::BAD_REQUEST
    )
}

#[tokio::test]
async fn an_unsigned_push_and_a_bad_signature_are_refused_and_the_link_goes_on() {
    let world = world().await;
    let client = stranger(&world.lab, &world.first);
    let hello = client
        .get(url(&world.first, "/_chat/v1/hello"))
        .send()
        .await
        .unwrap();
    assert_eq!(hello.status(), StatusCode::OK);

    let push = url(&world.first, "/_chat/v1/push");
    let body = json!({ "txn": tag(), "events": [] }).to_string();
    let unsigned = client.post(&push).body(body.clone()).send().await.unwrap();
    assert!(
        is_refusal(unsigned.status()),
        "unsigned: {}",
        unsigned.status()
    );

    let now = std::time::SystemTime::UNIX_EPOCH
        .elapsed()
        .unwrap()
        .as_secs();
    for signer in [world.second.domain(), world.first.domain(), "nobody.test"] {
        let signed = client
            .post(&push)
            .header(
                "Content-Digest",
                "sha-256=:47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=:",
            )
            .header(
                "Signature-Input",
                format!(
                    "chat=(\"@method\" \"@authority\" \"@path\" \"@query\" \"content-digest\");\
                     created={now};nonce=\"{0}{0}{0}\";keyid=\"{signer}/k1\";tag=\"chat1\"",
                    tag()
                ),
            )
            .header("Signature", format!("chat=:{}==:", "A".repeat(86)))
            .body(body.clone())
            .send()
            .await
            .unwrap();
        assert!(
            is_refusal(signed.status()),
            "signed as {signer}: {}",
            signed.status()
        );
    }
    for garbage in ["", "not json", "{\"txn\": 5}"] {
        let answer = client.post(&push).body(garbage).send().await.unwrap();
        assert!(
            answer.status().is_client_error(),
            "{garbage:?}: {}",
            answer.status()
        );
    }
    world.connected().await.unwrap();
}

#[tokio::test]
async fn what_is_too_large_or_unknown_is_refused_on_the_public_listener() {
    let world = world().await;
    let client = stranger(&world.lab, &world.first);
    let large = client
        .post(url(&world.first, "/_chat/v1/push"))
        .body(vec![b' '; 16 * 1024 * 1024])
        .send()
        .await;
    // The listener may answer, or close the connection before it has read all of it.
    if let Ok(answer) = large {
        assert!(answer.status().is_client_error(), "{}", answer.status());
    }
    for path in [
        "/",
        "/metrics",
        "/healthz",
        "/v1/rooms",
        "/_matrix/app/v1/ping",
        "/_chat/v2/push",
    ] {
        let answer = client.get(url(&world.first, path)).send().await.unwrap();
        assert!(
            answer.status().is_client_error(),
            "{path}: {}",
            answer.status()
        );
    }
    world.connected().await.unwrap();
}

#[tokio::test]
async fn a_room_that_does_not_exist_cannot_be_joined_and_disturbs_nobody() {
    let lab = Lab::up().await.unwrap();
    let plan = WorldPlan::unique(&lab, binary());
    let mut world = World::prepare(lab, plan).await.unwrap();
    rejoin(&mut world, "nosuchroom").await;
    world
        .second
        .metrics_until("the second gateway has asked", |_| {
            world.second.log().contains("nosuchroom")
        })
        .await
        .unwrap();
    hears_nothing_of_each_other(&world).await;
}

#[tokio::test]
async fn a_peer_with_a_certificate_for_another_name_is_refused() {
    let lab = Lab::up().await.unwrap();
    let plan = WorldPlan::unique(&lab, binary());
    let mut world = World::prepare(lab, plan).await.unwrap();
    // DNS says that the impostor's domain is at the first gateway, which has no certificate for it.
    let impostor = format!("impostor-{}.test", tag());
    world
        .lab
        .point(&impostor, world.first.public_port())
        .await
        .unwrap();
    let (room, domain) = (world.plan.room.clone(), world.first.domain().to_owned());
    let config = std::fs::read_to_string(world.second.config()).unwrap();
    let changed = config.replace(&format!("#{room}@{domain}"), &format!("#{room}@{impostor}"));
    std::fs::write(world.second.config(), changed).unwrap();
    tokio::try_join!(world.first.start(), world.second.start()).unwrap();
    world
        .second
        .metrics_until("the second gateway has tried", |_| {
            world.second.log().contains(&impostor)
        })
        .await
        .unwrap();
    hears_nothing_of_each_other(&world).await;
    let log = world.second.log().to_lowercase();
    assert!(log.contains("certificate"), "{log}");
}

/// Starts both gateways, the second asking for another room of the first.
async fn rejoin(world: &mut World, room: &str) {
    let config = std::fs::read_to_string(world.second.config()).unwrap();
    let changed = config.replace(
        &format!("peers/#{}@", world.plan.room),
        &format!("peers/#{room}@"),
    );
    std::fs::write(world.second.config(), changed).unwrap();
    tokio::try_join!(world.first.start(), world.second.start()).unwrap();
}

/// The first gateway's three people hear each other, the fourth hears none of them.
async fn hears_nothing_of_each_other(world: &World) {
    let people = world.people();
    let (inside, outside) = people.split_at(3);
    world.connected_among(inside).await.unwrap();
    for person in inside {
        let name = person.name();
        assert!(
            !outside[0]
                .heard()
                .iter()
                .any(|heard| heard.names(name, "hello")),
            "{name}"
        );
    }
}

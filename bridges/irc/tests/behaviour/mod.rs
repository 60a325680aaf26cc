//! What only IRC has, over a real socket: TLS, nicks, fences; in `absence`, gaps, catching up and doubt; in `cut`, last words.

mod absence;
mod cut;

use std::sync::Arc;

use comity_bridge::{
    Access, Bridge, BridgeKind, Channel, ConfigTable, DeliveryError, JoinOptions, NetworkStatus,
    Outcome,
    event::MessageKind,
    test_util::{Harness, harness::Told},
};
use comity_irc::Irc;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use tokio::task::JoinHandle;
use tokio_rustls::TlsAcceptor;

use super::server::{Manners, Server};

struct Running {
    server: Server,
    harness: Harness,
    channel: Channel,
    run: JoinHandle<Result<(), comity_bridge::BridgeError>>,
}

/// Starts a bridge against a server and asks it into a channel.
async fn start(manners: Manners, keys: &[(&str, &str)]) -> Running {
    let server = Server::start(manners).await;
    let (harness, link) = Harness::link("libera");
    let bridge = configured(&server, &harness, keys);
    let run = tokio::spawn(bridge.run(link));
    let channel = harness.channel("#rust");
    ask_into(&harness, &channel).await;
    Running {
        server,
        harness,
        channel,
        run,
    }
}

fn configured(server: &Server, harness: &Harness, keys: &[(&str, &str)]) -> Box<dyn Bridge> {
    let address = server.address.to_string();
    let mut values = serde_json::Map::new();
    for (key, value) in [("server", address.as_str()), ("tls", "none")]
        .iter()
        .chain(keys)
    {
        values.insert(
            (*key).to_owned(),
            match value.parse::<u64>() {
                Ok(number) => number.into(),
                Err(_) => value
                    .replace("PORT", &server.address.port().to_string())
                    .into(),
            },
        );
    }
    let table = ConfigTable::new("libera.toml", "", values);
    Irc.configure(harness.gateway(), harness.network(), table)
        .expect("a configuration")
}

async fn ask_into(harness: &Harness, channel: &Channel) {
    let room = "#rust@gw1.example".parse().expect("a room");
    let options = JoinOptions {
        room,
        hosted: false,
        access: Access::Off,
    };
    harness.join(channel, options).await;
}

async fn joined(manners: Manners) -> Running {
    let running = start(manners, &[]).await;
    running.harness.wait_for_joined(&running.channel).await;
    running
}

/// A certificate for `name` and the file of the authority that signed it.
fn certificate(name: &str) -> (TlsAcceptor, tempfile::NamedTempFile) {
    let mut params = CertificateParams::new(Vec::new()).expect("no names");
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let issuer = CertifiedIssuer::self_signed(params, KeyPair::generate().expect("a key"))
        .expect("an authority");
    let key = KeyPair::generate().expect("a key");
    let certificate = CertificateParams::new(vec![name.to_owned()])
        .expect("a name")
        .signed_by(&key, &issuer);
    let chain = vec![certificate.expect("a certificate").der().clone()];
    let key = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(key.serialize_der()));
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("versions")
        .with_no_client_auth()
        .with_single_cert(chain, key)
        .expect("a key that fits");
    let file = tempfile::NamedTempFile::new().expect("a file");
    std::fs::write(file.path(), issuer.pem()).expect("a file");
    (TlsAcceptor::from(Arc::new(config)), file)
}

async fn over_tls(name: &str) -> (Running, tempfile::NamedTempFile) {
    let (tls, ca) = certificate(name);
    let ca_file = ca.path().to_str().expect("a path").to_owned();
    let keys = [
        ("server", "localhost:PORT"),
        ("tls", "required"),
        ("ca_file", &ca_file),
        ("password", "hunter2"),
    ];
    (
        start(
            Manners {
                tls: Some(tls),
                ..Manners::default()
            },
            &keys,
        )
        .await,
        ca,
    )
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tls_with_an_authority_of_the_operators_own() {
    let (at, _ca) = over_tls("localhost").await;
    at.harness.wait_for_joined(&at.channel).await;
    let long = "word ".repeat(500);
    let delivery = at
        .harness
        .deliver(&at.channel, "Al", &long, MessageKind::Text)
        .await;
    assert_eq!(delivery.outcome().await, Outcome::Shown);
    assert_eq!(
        at.server.received().first().map(String::as_str),
        Some("PASS :hunter2")
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn i9_a_certificate_for_another_name_is_refused_and_nothing_is_said_in_clear() {
    let (at, _ca) = over_tls("irc.other.example").await;
    let why = at.harness.wait_for("the network to be offline", |seen| {
        seen.told.iter().find_map(|told| match told {
            Told::Network(NetworkStatus::Offline { why }) => Some(why.clone()),
            _ => None,
        })
    });
    let why = why.await;
    assert!(why.contains("certificate"), "{why}");
    assert_eq!(at.server.received(), [""; 0]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn i6_somebody_with_our_nick_does_not_keep_us_out() {
    let taken = vec!["comity".to_owned(), "comity_".to_owned()];
    let at = joined(Manners {
        taken,
        ..Manners::default()
    })
    .await;
    let delivery = at
        .harness
        .deliver(&at.channel, "Al", "hi", MessageKind::Text)
        .await;
    assert_eq!(delivery.outcome().await, Outcome::Shown);
    assert_eq!(at.server.record.shown()[0].author, "comity2");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn i11_a_channel_that_does_not_let_us_speak_gives_the_reason() {
    let at = joined(Manners {
        mute: Some(404),
        ..Manners::default()
    })
    .await;
    let refused = at
        .harness
        .deliver(&at.channel, "Al", "hi", MessageKind::Text)
        .await;
    let why = DeliveryError::Forbidden("Cannot send to channel".to_owned());
    assert_eq!(refused.outcome().await, Outcome::GiveUp(why));
    at.server.behave(|manners| manners.mute = None);
    let shown = at
        .harness
        .deliver(&at.channel, "Al", "hi again", MessageKind::Text)
        .await;
    assert_eq!(shown.outcome().await, Outcome::Shown);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn i11_a_channel_that_does_not_let_us_in_gives_the_reason() {
    let at = start(
        Manners {
            refuse_joins: Some((473, 1)),
            ..Manners::default()
        },
        &[],
    )
    .await;
    let told = Told::Channel(
        at.channel.clone(),
        comity_bridge::ChannelState::NotJoined {
            why: "Cannot join channel (473)".to_owned(),
        },
    );
    at.harness
        .wait_for("the refusal", |seen| {
            seen.told.contains(&told).then_some(())
        })
        .await;
    let delivery = at
        .harness
        .deliver(&at.channel, "Al", "hi", MessageKind::Text)
        .await;
    assert_eq!(delivery.outcome().await, Outcome::NotAttempted);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn lines_without_a_fence_are_in_doubt_after_a_cut_and_the_rest_is_not() {
    let at = joined(Manners::default()).await;
    // Past the fence of the JOIN.
    at.server.settle().await;
    at.server.behave(|manners| manners.deaf_to_pings = true);
    let mut deliveries = Vec::new();
    for n in 0..12 {
        let text = format!("line-{n}");
        deliveries.push(
            at.harness
                .deliver(&at.channel, "Al", &text, MessageKind::Text)
                .await,
        );
    }
    // The first window is at least one line; its fence stays open.
    at.server
        .wait_for(|lines| lines.iter().any(|line| line == "PING :fence-2"))
        .await;
    let written = at
        .server
        .received()
        .iter()
        .filter(|line| line.contains("line-"))
        .count();
    at.server.cut();
    for (n, delivery) in deliveries.iter().enumerate() {
        let outcome = delivery.outcome().await;
        match n < written {
            true => assert!(
                matches!(outcome, Outcome::Ambiguous { .. }),
                "{n}: {outcome:?}"
            ),
            false => assert_eq!(outcome, Outcome::NotAttempted, "{n}"),
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_gateways_end_is_said_to_the_server() {
    let at = joined(Manners::default()).await;
    let delivery = at
        .harness
        .deliver(&at.channel, "Al", "hi", MessageKind::Text)
        .await;
    assert_eq!(delivery.outcome().await, Outcome::Shown);
    at.harness.shutdown();
    at.run.await.expect("no panic").expect("no error");
    assert_eq!(
        at.server.received().last().map(String::as_str),
        Some("QUIT :the bridge stops")
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_channel_that_is_left_is_heard_no_more() {
    let at = joined(Manners::default()).await;
    at.harness.leave(&at.channel).await;
    at.server
        .wait_for(|lines| lines.iter().any(|line| line == "PART #rust"))
        .await;
    at.server.say("ann", "#rust", "anybody here?");
    at.harness.wait_for_skip("other_channel").await;
    assert_eq!(at.harness.seen(|seen| seen.events.len()), 0);
}

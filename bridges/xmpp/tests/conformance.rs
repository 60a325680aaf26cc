//! The contract's rules, kept over the wire, with ghosts and with a bot, in a room with an archive and in one without;
//! and what becomes of lines that nobody here has listened to (`catch_up`).

mod catch_up;
mod server;

use std::time::{Duration, Instant};

use async_trait::async_trait;
use comity_bridge::event::MessageKind;
use comity_bridge::test_util::conformance::{Facts, FarSide, Opening, Record};
use comity_bridge::test_util::harness::{Harness, Told};
use comity_bridge::{
    Access, Bridge, BridgeKind, ConfigTable, GatewayInfo, JoinOptions, NetworkStatus, Outcome,
};
use comity_xmpp::Xmpp;
use server::{COMPONENT, ROOM, SECRET, Server};

struct XmppServer {
    server: Server,
    users: &'static str,
}

impl XmppServer {
    async fn start(users: &'static str, archive: bool) -> Self {
        Self {
            server: Server::start(archive).await,
            users,
        }
    }
}

#[async_trait]
impl FarSide for XmppServer {
    fn facts(&self) -> Facts {
        Facts {
            acknowledges: false,
            repeats: true,
            reflects: true,
            idempotent: true,
            standing: true,
        }
    }

    fn record(&self) -> &Record {
        &self.server.record
    }

    fn channel(&self) -> String {
        ROOM.to_owned()
    }

    async fn bridge(&mut self, opening: &Opening) -> Box<dyn Bridge> {
        configured(&self.server, SECRET, self.users, &opening.gateway)
    }

    async fn say(&mut self, author: &str, text: &str) {
        self.server.say(author, text);
    }

    async fn repeat(&mut self) {
        self.server.repeat();
    }

    async fn settle(&mut self) {
        self.server.settle().await;
    }

    /// The stanzas that end other bridges' links, and what ends a stream by right.
    async fn garbage(&mut self) {
        let deep = format!(
            "<message>{}{}</message>",
            "<d>".repeat(3_000),
            "</d>".repeat(3_000)
        );
        let huge = format!(
            "<message from='{ROOM}/eve'><body>{}</body></message>",
            "x".repeat(1_000_000)
        );
        let long = format!("<message from='{ROOM}/eve' id='{}'/>", "x".repeat(9_000));
        for stanza in [
            "<message type='bogus' from='a@b'><body>x</body></message>",
            "<message type='' from='a@b'/>",
            "<presence from='a@b'><priority>high</priority></presence>",
            "<iq type='get' from='a@b'><ping xmlns='urn:xmpp:ping'/></iq>",
            "<message from='rust@muc.example/\u{1f600}' type='groupchat'><subject>x</subject></message>",
            "<message from='rust@muc.example/eve' type='groupchat' to='comity@bridge.example/gateway'>loose<body>&#x1;</body></message>",
            "<message xmlns='urn:elsewhere' from='a@b'/>",
            "<foo xmlns='urn:x'/>",
            "<p:x/>",
            "loose text",
            "\u{1}",
            &deep,
            &huge,
            &long,
        ] {
            self.server.raw(stanza);
        }
        self.server.settle().await;
        for end in [
            "<!DOCTYPE lolz [<!ENTITY lol 'lol'>]>",
            "<message></stream:stream>",
            "</stream:stream>",
        ] {
            let generation = self.server.online().await;
            self.server.raw(end);
            self.server.reopened(generation).await;
        }
    }

    async fn cut(&mut self) {
        self.server.cut();
    }

    async fn hold(&mut self) {
        self.server.hold(true);
    }

    async fn release(&mut self) {
        self.server.hold(false);
    }

    fn injections(&self, says: &str) -> Vec<String> {
        let message = format!(
            "<message type='groupchat' to='{ROOM}' from='comity@{COMPONENT}/gateway'><body>{says}</body></message>"
        );
        [
            format!("</body></message>{message}"),
            format!("]]></body></message>{message}"),
            format!("'/>{message}"),
            format!("\"/>{message}"),
            format!("</stream:stream>{message}"),
            format!("&#60;/body&#62;{message}"),
        ]
        .into()
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_wrong_secret_is_told_as_such_and_requests_are_still_drained() {
    let server = Server::start(true).await;
    let (harness, link) = Harness::link("jabber");
    tokio::spawn(configured(&server, "wrong", "ghosts", harness.gateway()).run(link));
    harness
        .wait_for("a refusal", |seen| {
            seen.told.iter().find_map(|told| match told {
                Told::Network(NetworkStatus::Offline { why }) if why.contains("secret") => Some(()),
                _ => None,
            })
        })
        .await;
    let channel = harness.channel(ROOM);
    for _ in 0..200 {
        let delivery = harness
            .deliver(&channel, "al", "x", MessageKind::Text)
            .await;
        assert_eq!(delivery.outcome().await, Outcome::NotAttempted);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_ends_every_stream_soon_is_asked_less_and_less_often() {
    let server = Server::start(true).await;
    let (harness, link) = Harness::link("jabber");
    tokio::spawn(configured(&server, SECRET, "ghosts", harness.gateway()).run(link));
    let mut waits = Vec::new();
    for _ in 0..3 {
        let generation = server.online().await;
        server.raw("</stream:stream>");
        let ended = Instant::now();
        server.reopened(generation).await;
        waits.push(ended.elapsed());
    }
    // One second, two, four; each by a fifth more or less.
    assert!(waits[2] > Duration::from_secs(3), "{waits:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_nick_that_stringprep_refuses_is_a_nick_like_any_other() {
    let server = Server::start(true).await;
    let (harness, link) = Harness::link("jabber");
    tokio::spawn(configured(&server, SECRET, "ghosts", harness.gateway()).run(link));
    let channel = harness.channel(ROOM);
    let room = "#rust@gw1.example".parse().expect("a room");
    let options = JoinOptions {
        room,
        hosted: false,
        access: Access::Off,
    };
    harness.join(&channel, options).await;
    harness.wait_for_joined(&channel).await;
    for nick in ["\u{1f600}", "\u{1fae0}", "a / b", "\u{202e}evil"] {
        server.say(nick, &format!("from {nick}"));
        let taken = harness.wait_for_text(&format!("from {nick}")).await;
        assert_eq!(taken.incoming.author.id, nick);
        assert!(!taken.incoming.author.name.contains('\u{202e}'));
    }
}

fn configured(
    server: &Server,
    secret: &str,
    users: &str,
    gateway: &GatewayInfo,
) -> Box<dyn Bridge> {
    let address = server.address.to_string();
    let values = [
        ("component", COMPONENT),
        ("server", &address),
        ("secret", secret),
        ("users", users),
    ];
    let values = values
        .into_iter()
        .map(|(key, value)| (key.to_owned(), value.into()))
        .collect();
    let network = "jabber".parse().expect("a network name");
    Xmpp.configure(gateway, &network, ConfigTable::new("far.toml", "", values))
        .unwrap_or_else(|problems| panic!("{problems:?}"))
}

mod ghosts {
    use super::XmppServer;
    comity_bridge::conformance_tests!(XmppServer::start("ghosts", true));
}

mod ghosts_without_archive {
    use super::XmppServer;
    comity_bridge::conformance_tests!(XmppServer::start("ghosts", false));
}

mod relay {
    use super::XmppServer;
    comity_bridge::conformance_tests!(XmppServer::start("relay", true));
}

//! The rules of the contract, with ghosts and with a relay, against a scripted homeserver.

mod homeserver;
mod promises;

use async_trait::async_trait;
use comity_bridge::test_util::conformance::{Facts, FarSide, Opening, Record};
use comity_bridge::{Bridge, BridgeKind, ConfigTable, GatewayInfo, NetworkName};
use homeserver::{ALIAS, AS_TOKEN, HS_TOKEN, Homeserver, SERVER};
use serde_json::{Value, json};

struct Matrix {
    homeserver: Homeserver,
    users: &'static str,
}

impl Matrix {
    async fn start(users: &'static str) -> Self {
        Self {
            homeserver: Homeserver::start().await,
            users,
        }
    }
}

#[async_trait]
impl FarSide for Matrix {
    fn facts(&self) -> Facts {
        Facts {
            acknowledges: true,
            repeats: true,
            reflects: true,
            idempotent: true,
            standing: false,
        }
    }

    fn record(&self) -> &Record {
        self.homeserver.record()
    }

    fn channel(&self) -> String {
        ALIAS.to_owned()
    }

    async fn bridge(&mut self, opening: &Opening) -> Box<dyn Bridge> {
        self.homeserver.push_to(opening.http.clone());
        let network = self.network().parse().expect("a network name");
        configured(&self.homeserver, &opening.gateway, &network, self.users)
    }

    async fn say(&mut self, author: &str, text: &str) {
        self.homeserver.say(author, text);
    }

    async fn repeat(&mut self) {
        self.homeserver.repeat();
    }

    async fn reflect(&mut self) {
        self.homeserver.all_taken().await;
    }

    async fn settle(&mut self) {
        self.homeserver.ping().await;
    }

    async fn garbage(&mut self) {
        let txn = "/_matrix/app/v1/transactions/g";
        for (path, token, body) in [
            (txn, None, "{}"),
            (txn, Some("wrong"), r#"{"events":[]}"#),
            (txn, Some(""), r#"{"events":[]}"#),
            (
                "/_matrix/app/v1/transactions/g?access_token=hs-token-of-the-test",
                None,
                r#"{"events":[]}"#,
            ),
            (txn, Some(HS_TOKEN), ""),
            (txn, Some(HS_TOKEN), "{\"events\":[{\"content\""),
            (txn, Some(HS_TOKEN), "[]"),
            (txn, Some(HS_TOKEN), r#"{"events":{}}"#),
            (
                "/_matrix/app/v1/transactions/%ff",
                Some(HS_TOKEN),
                r#"{"events":[]}"#,
            ),
            ("/etc/passwd", Some(HS_TOKEN), "{}"),
        ] {
            let status = self.homeserver.push_raw(path, token, body).await;
            assert!((400..500).contains(&status), "{path} {body}: {status}");
        }
        let bad_events = [
            "null".to_owned(),
            "7".to_owned(),
            "\"$x\"".to_owned(),
            "{}".to_owned(),
            format!("{}{}", "[".repeat(2_000), "]".repeat(2_000)),
            message(
                r#""sender":"@ann:hs.test""#,
                r#"{"msgtype":"m.text","body":{}}"#,
            ),
            message(
                r#""sender":"@ann:hs.test""#,
                r#"{"msgtype":"m.text","body":"x","n":1.5}"#,
            ),
            message(
                r#""sender":"@ann:hs.test""#,
                r#"{"msgtype":"m.text","body":"x","n":9007199254740993}"#,
            ),
            message(
                r#""sender":"@ann:hs.test""#,
                r#"{"msgtype":"m.text","body":"\u0000"}"#,
            ),
            message(r#""sender":"ann""#, r#"{"msgtype":"m.text","body":"x"}"#),
            message(
                r#""nobody":"@ann:hs.test""#,
                r#"{"msgtype":"m.text","body":"x"}"#,
            ),
            message(
                &format!(r#""sender":"@{}:hs.test""#, "a".repeat(300)),
                r#"{"msgtype":"m.text","body":"x"}"#,
            ),
        ];
        let body = format!(r#"{{"events":[{}]}}"#, bad_events.join(","));
        assert_eq!(
            self.homeserver
                .push_raw("/transactions/g2", Some(HS_TOKEN), &body)
                .await,
            200
        );
    }

    async fn cut(&mut self) {
        self.homeserver.cut();
    }

    async fn hold(&mut self) {
        self.homeserver.hold(true);
    }

    async fn release(&mut self) {
        self.homeserver.hold(false);
    }

    fn injections(&self, says: &str) -> Vec<String> {
        vec![
            format!(r#"","body":"{says}"#),
            format!("\"}}\n{{\"body\":\"{says}\"}}"),
            format!("/../m.room.message/1?user_id=@ann:hs.test&body={says}"),
            format!("\\u0022,\\u0022body\\u0022:\\u0022{says}"),
        ]
    }
}

/// A bridge for the scripted homeserver.
fn configured(
    homeserver: &Homeserver,
    gateway: &GatewayInfo,
    network: &NetworkName,
    users: &str,
) -> Box<dyn Bridge> {
    let values = json!({
        "homeserver": homeserver.url(), "server_name": SERVER, "as_token": AS_TOKEN, "hs_token": HS_TOKEN,
        "appservice": "127.0.0.1:1", "users": users,
    });
    let Value::Object(values) = values else {
        unreachable!("an object")
    };
    let table = ConfigTable::new("bridges.d/far.toml", "", values);
    comity_matrix::KIND
        .configure(gateway, network, table)
        .expect("a good configuration")
}

fn message(sender: &str, content: &str) -> String {
    format!(
        r#"{{"event_id":"$bad","room_id":"!room:hs.test","type":"m.room.message","origin_server_ts":1,{sender},"content":{content}}}"#
    )
}

mod ghosts {
    comity_bridge::conformance_tests!(super::Matrix::start("ghosts"));
}

mod relay {
    comity_bridge::conformance_tests!(super::Matrix::start("relay"));
}

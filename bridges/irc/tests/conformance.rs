//! The contract's rules, kept over the wire: against a server of the plain old kind, against one with tags, and against one that
//! has labels, echoes and history, too. `behaviour` has what only IRC has.

mod behaviour;
mod server;

use async_trait::async_trait;
use comity_bridge::{
    Bridge, BridgeKind, ConfigTable,
    test_util::conformance::{Facts, FarSide, Opening, Record},
};
use comity_irc::Irc;
use server::{Manners, Server};

const CHANNEL: &str = "#rust";

struct IrcServer {
    server: Server,
    facts: Facts,
}

impl IrcServer {
    async fn start(manners: Manners) -> Self {
        let facts = Facts {
            repeats: manners.tags || manners.history,
            reflects: manners.history,
            idempotent: manners.history,
            standing: true,
            ..Facts::default()
        };
        let server = Server::start(manners).await;
        IrcServer { server, facts }
    }
}

#[async_trait]
impl FarSide for IrcServer {
    fn facts(&self) -> Facts {
        self.facts
    }

    fn record(&self) -> &Record {
        &self.server.record
    }

    fn channel(&self) -> String {
        CHANNEL.to_owned()
    }

    async fn bridge(&mut self, opening: &Opening) -> Box<dyn Bridge> {
        let values = [
            ("server", self.server.address.to_string()),
            ("tls", "none".to_owned()),
        ];
        let values = values
            .into_iter()
            .map(|(key, value)| (key.to_owned(), value.into()));
        let table = ConfigTable::new("far.toml", "", values.collect());
        let network = self.network().parse().expect("a network name");
        Irc.configure(&opening.gateway, &network, table)
            .expect("a configuration")
    }

    async fn say(&mut self, author: &str, text: &str) {
        for line in text.lines() {
            self.server.say(author, CHANNEL, line);
        }
    }

    async fn repeat(&mut self) {
        self.server.repeat();
    }

    async fn settle(&mut self) {
        self.server.settle().await;
    }

    async fn garbage(&mut self) {
        let me = ":comity!~comity@bridge.example";
        for line in [
            "\r\n\r\n\n",
            " \r\n",
            ":\r\n",
            "@\r\n",
            "@a\r\n",
            "@;;=;a=\\ :x \r\n",
            ":x!y@z\r\n",
            ":x PRIVMSG\r\n",
            ":x PRIVMSG #rust\r\n",
            ":x!y@z PRIVMSG #rust :\x01\r\n",
            ":x!y@z PRIVMSG #rust :\x03\x02\r\n",
            ":x!y@z PRIVMSG @#rust,#rust :hi\r\n",
            "PRIVMSG #rust :from nobody\r\n",
            "001\r\n",
            ":s 005\r\n",
            ":s 404\r\n",
            ":s 433 comity\r\n",
            ":s 437 comity #rust :x\r\n",
            ":s 999999 a\r\n",
            "CAP\r\n",
            ":s CAP * NAK\r\n",
            "PONG\r\n",
            "PONG :fence-999\r\n",
            "KICK\r\n",
            ":x KICK #rust nobody\r\n",
            "JOIN\r\n",
            "NICK\r\n",
            "\0\0\0\r\n",
            "\x7f\r\n",
        ] {
            self.server.send(line);
        }
        self.server.send(format!(
            "{me} NICK\r\n{me} NICK :\r\n{me} JOIN\r\n{me} JOIN :\r\n{me} PART #other\r\n"
        ));
        self.server
            .send(b":x!y@z PRIVMSG #rust\xff :\xfe\xff\r\n\xc3\x28 \xa0\xa1\r\n");
        self.server
            .send([vec![b'x'; 1_000_000], b"\r\n".to_vec()].concat());
        self.server.send(
            [
                b"@".to_vec(),
                vec![b';'; 9000],
                b" PRIVMSG #rust :x\r\n".to_vec(),
            ]
            .concat(),
        );
        self.server.settle().await;
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
        ["\r\n", "\r", "\n", "\0", "\u{85}", "\u{2028}", "\x01\r\n"]
            .map(|end| format!("mal{end}PRIVMSG {CHANNEL} :{says}{end}QUIT :{says}"))
            .into()
    }
}

mod plain {
    use super::{IrcServer, Manners};

    comity_bridge::conformance_tests!(IrcServer::start(Manners::default()));
}

mod with_tags {
    use super::{IrcServer, Manners};

    comity_bridge::conformance_tests!(IrcServer::start(Manners {
        tags: true,
        ..Manners::default()
    }));
}

mod with_history {
    use super::{IrcServer, Manners};

    comity_bridge::conformance_tests!(IrcServer::start(Manners {
        history: true,
        ..Manners::default()
    }));
}

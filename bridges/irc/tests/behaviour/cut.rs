//! What the server said before it went is read, even when we hear of its going by a line that cannot be written.

use std::time::Duration;

use comity_bridge::{
    BridgeKind, ConfigTable, Outcome,
    event::MessageKind,
    test_util::{Harness, harness::DeliveryHandle},
};
use comity_irc::Irc;
use tokio::{
    io::{AsyncBufReadExt, AsyncWriteExt, BufReader},
    net::{TcpListener, TcpStream},
};

use super::ask_into;

/// A server that does nothing by itself.
struct Puppet(BufReader<TcpStream>);

impl Puppet {
    /// Reads up to a line that begins like this, and returns it.
    async fn hears(&mut self, begin: &str) -> String {
        let mut line = String::new();
        while !line.starts_with(begin) {
            line.clear();
            let count = self.0.read_line(&mut line).await.expect("a connection");
            assert_ne!(count, 0, "waited for {begin}");
        }
        line.trim_end().to_owned()
    }

    async fn says(&mut self, lines: &str) {
        let stream = self.0.get_mut();
        stream.write_all(lines.as_bytes()).await.expect("it reads");
    }

    /// Answers the next PING.
    async fn proves(&mut self) {
        let ping = self.hears("PING").await;
        let token = ping.strip_prefix("PING ").expect("a PING");
        self.says(&format!(":srv PONG srv {token}\r\n")).await;
    }

    /// Says this and is gone, with a reset. Nobody else runs meanwhile.
    fn dies(self, last_words: &str) {
        let stream = self.0.into_inner();
        let written = stream.try_write(last_words.as_bytes());
        assert_eq!(written.expect("room"), last_words.len());
        stream.set_zero_linger().expect("a socket");
    }
}

async fn delivered(harness: &Harness, text: &str) -> DeliveryHandle {
    let channel = harness.channel("#rust");
    harness
        .deliver(&channel, "Al", text, MessageKind::Text)
        .await
}

// One thread, so that the bridge writes before it can know that there is something to read.
#[tokio::test]
async fn what_came_before_a_line_that_could_not_be_written_counts() {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let (harness, link) = Harness::link("libera");
    let mut values = serde_json::Map::new();
    let address = listener.local_addr().expect("bound").to_string();
    values.insert("server".to_owned(), address.into());
    values.insert("tls".to_owned(), "none".into());
    values.insert("burst_lines".to_owned(), 64.into());
    let table = ConfigTable::new("libera.toml", "", values);
    let bridge = Irc
        .configure(harness.gateway(), harness.network(), table)
        .expect("a configuration");
    let run = tokio::spawn(bridge.run(link));
    let channel = harness.channel("#rust");
    ask_into(&harness, &channel).await;

    let (stream, _) = listener.accept().await.expect("the bridge");
    // The last words must be on their way before the reset throws away what is not.
    stream.set_nodelay(true).expect("a socket");
    let mut server = Puppet(BufReader::new(stream));
    server.hears("USER").await;
    server
        .says(":srv 421 * CAP :Unknown command\r\n:srv 001 comity :Welcome\r\n")
        .await;
    server.proves().await;
    server.hears("JOIN").await;
    server.says(":comity!~c@h JOIN #rust\r\n").await;
    server.proves().await;
    harness.wait_for_joined(&channel).await;

    let first = delivered(&harness, "first").await;
    server.hears("PRIVMSG").await;
    let fence = server.hears("PING").await;
    let token = fence.strip_prefix("PING ").expect("a PING");
    let second = delivered(&harness, "second").await;
    server.dies(&format!(
        ":srv PONG srv {token}\r\n:ann!a@h PRIVMSG #rust :last words\r\n"
    ));
    assert_eq!(first.outcome().await, Outcome::Shown);
    assert!(matches!(second.outcome().await, Outcome::Ambiguous { .. }));
    harness.wait_for_text("last words").await;
    harness.shutdown();
    let ended = tokio::time::timeout(Duration::from_secs(10), run).await;
    ended
        .expect("in time")
        .expect("no panic")
        .expect("no error");
}

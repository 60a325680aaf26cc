//! Somebody on IRC, with a client that knows nothing of tags.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use tokio::{
    io::{AsyncBufReadExt, AsyncWriteExt, BufReader},
    net::{TcpStream, tcp::OwnedReadHalf},
    sync::{Notify, mpsc},
};

const PATIENCE: Duration = Duration::from_secs(20);

pub(crate) struct Person {
    channel: String,
    to: mpsc::UnboundedSender<String>,
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    lines: Mutex<Vec<String>>,
    changed: Notify,
}

/// Letters that no other test has.
pub(crate) fn tag() -> String {
    let all = ulid::Ulid::new().to_string().to_lowercase();
    // The last half is random.
    all.chars().skip(14).collect()
}

impl Person {
    pub(crate) async fn join(address: &str, channel: &str) -> Self {
        let stream = TcpStream::connect(address).await.expect("a server");
        let (read, mut write) = stream.into_split();
        let (to, mut queued) = mpsc::unbounded_channel::<String>();
        let shared = Arc::new(Shared::default());
        tokio::spawn(listen(read, to.clone(), shared.clone()));
        tokio::spawn(async move {
            while let Some(line) = queued.recv().await {
                if write
                    .write_all(format!("{line}\r\n").as_bytes())
                    .await
                    .is_err()
                {
                    break;
                }
            }
        });
        let person = Person {
            channel: channel.to_owned(),
            to,
            shared,
        };
        let nick = format!("a{}", tag());
        person.queue(format!("NICK {nick}\r\nUSER {nick} 0 * :{nick}"));
        person.wait_for(|line| line.contains(" 001 ")).await;
        person.queue(format!("JOIN {channel}"));
        person.wait_for(|line| line.contains(" 366 ")).await;
        person
    }

    /// Says something; returns when the server has taken it.
    pub(crate) async fn says(&self, text: &str) {
        self.sends(&format!("PRIVMSG {} :{text}", self.channel))
            .await;
    }

    pub(crate) async fn sends(&self, line: &str) {
        let token = tag();
        self.queue(format!("{line}\r\nPING :{token}"));
        self.wait_for(|line| line.contains(" PONG ") && line.ends_with(&token))
            .await;
    }

    /// Becomes the operator of a channel that nobody else is in.
    pub(crate) async fn leaves_and_returns(&self) {
        self.sends(&format!("PART {0}\r\nJOIN {0}", self.channel))
            .await;
    }

    pub(crate) async fn hears(&self, text: &str) {
        let end = format!(" :{text}");
        self.wait_for(|line| line.contains(" PRIVMSG ") && line.ends_with(&end))
            .await;
    }

    /// All that was heard in the channel, in order.
    pub(crate) fn heard(&self) -> Vec<String> {
        let said = format!(" PRIVMSG {} :", self.channel);
        let lines = self
            .shared
            .lines
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let heard = lines.iter().filter_map(|line| line.split_once(&said));
        heard.map(|(_, text)| text.to_owned()).collect()
    }

    fn queue(&self, line: String) {
        // A connection that has ended shows in what is waited for.
        self.to.send(line).ok();
    }

    async fn wait_for(&self, mut look: impl FnMut(&str) -> bool) {
        let search = async {
            loop {
                let changed = self.shared.changed.notified();
                tokio::pin!(changed);
                changed.as_mut().enable();
                let found = {
                    let lines = self
                        .shared
                        .lines
                        .lock()
                        .unwrap_or_else(PoisonError::into_inner);
                    lines.iter().any(|line| look(line))
                };
                if found {
                    return;
                }
                changed.await;
            }
        };
        let found = tokio::time::timeout(PATIENCE, search).await;
        assert!(found.is_ok(), "waited in vain; heard {:#?}", self.heard());
    }
}

async fn listen(read: OwnedReadHalf, to: mpsc::UnboundedSender<String>, shared: Arc<Shared>) {
    let mut lines = BufReader::new(read).lines();
    while let Ok(Some(line)) = lines.next_line().await {
        if let Some(token) = line.strip_prefix("PING ") {
            to.send(format!("PONG {token}")).ok();
        }
        shared
            .lines
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push(line);
        shared.changed.notify_waiters();
    }
}

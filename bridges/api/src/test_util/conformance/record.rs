//! What the people of a network have seen, noted by the scripted server.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

/// One line as the network's people see it, after all unescaping of the wire.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Shown {
    /// The name beside the line: our bot's, or that of the user that stands for the author.
    pub author: String,
    /// The whole text as a client shows it, a relay's prefix included. Has line breaks where the network shows several lines as
    /// one message. An emote is what it says, without the wire's marks.
    pub text: String,
}

/// What a scripted server notes. Cheap to clone: the server's tasks and the suite share it.
#[derive(Clone, Debug, Default)]
pub struct Record {
    kept: Arc<(Mutex<Kept>, Notify)>,
}

#[derive(Debug, Default)]
struct Kept {
    shown: Vec<Shown>,
    acknowledged: usize,
    surprises: Vec<String>,
}

impl Record {
    /// Nothing yet.
    pub fn new() -> Self {
        Record::default()
    }

    /// The network's people see a line. A repeated send that the network recognises is not noted again.
    pub fn show(&self, author: impl Into<String>, text: impl Into<String>) {
        self.change(|kept| {
            kept.shown.push(Shown {
                author: author.into(),
                text: text.into(),
            });
        });
    }

    /// The bridge has told the network that it has `lines` more of the lines that were said.
    pub fn acknowledge(&self, lines: usize) {
        self.change(|kept| kept.acknowledged += lines);
    }

    /// The bridge sent something that no rule asks it for (a command that ends the connection, changes a topic, invites
    /// somebody). A surprise breaks the rule about commands.
    pub fn surprise(&self, what: impl Into<String>) {
        self.change(|kept| kept.surprises.push(what.into()));
    }

    /// What was seen, in order.
    pub fn shown(&self) -> Vec<Shown> {
        self.look().shown.clone()
    }

    /// How many lines were acknowledged.
    pub fn acknowledged(&self) -> usize {
        self.look().acknowledged
    }

    /// What nobody asked for.
    pub fn surprises(&self) -> Vec<String> {
        self.look().surprises.clone()
    }

    /// Waits, without a limit, until `look` is true of what was seen and acknowledged.
    pub async fn wait_until(&self, mut look: impl FnMut(&[Shown], usize) -> bool) {
        loop {
            let changed = self.kept.1.notified();
            tokio::pin!(changed);
            // Before the look, so that a change between look and wait is not missed.
            changed.as_mut().enable();
            {
                let kept = self.look();
                if look(&kept.shown, kept.acknowledged) {
                    return;
                }
            }
            changed.await;
        }
    }

    /// Waits, without a limit, until the network's people have seen this many lines.
    pub async fn wait_shown(&self, lines: usize) {
        self.wait_until(|shown, _| shown.len() >= lines).await;
    }

    fn look(&self) -> MutexGuard<'_, Kept> {
        self.kept.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn change(&self, change: impl FnOnce(&mut Kept)) {
        change(&mut self.look());
        self.kept.1.notify_waiters();
    }
}

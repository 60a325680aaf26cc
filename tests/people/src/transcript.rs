//! What one person saw in one room, in the order in which it arrived.
//!
//! A transcript never forgets and never sorts: losing, doubling and reordering are what it is
//! there to show. Waiting is by condition, never by time alone.

use std::{
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, SystemTime},
};

use anyhow::{Result, bail};
use tokio::sync::watch;

/// One line that a person saw.
#[derive(Clone, Debug)]
pub struct Heard {
    /// Who said it, as this person's client would show it: nick, occupant nick, display name.
    pub author: String,
    /// The network's own id of the author where that is another thing than the name (MXID).
    pub author_id: String,
    /// The text, without the wrapping of a `/me`.
    pub text: String,
    /// A `/me`.
    pub emote: bool,
    /// Said by this very person and not a copy that came back.
    pub own: bool,
    /// When it arrived here.
    pub at: SystemTime,
}

impl Heard {
    /// Whether `needle` stands in the text.
    pub fn says(&self, needle: &str) -> bool {
        self.text.contains(needle)
    }

    /// Whether the line names `speaker`: as its author, or in front of what was said, where one
    /// bot speaks for others.
    pub fn names(&self, speaker: &str, needle: &str) -> bool {
        let prefix = self.text.split(needle).next().unwrap_or_default();
        self.author.contains(speaker) || (prefix != self.text && prefix.contains(speaker))
    }
}

impl fmt::Display for Heard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.emote {
            write!(f, "* {} {}", self.author, self.text)
        } else {
            write!(f, "<{}> {}", self.author, self.text)
        }
    }
}

/// A growing list that can be waited on. Clones share it.
#[derive(Clone, Debug)]
pub struct Log<T> {
    items: Arc<Mutex<Vec<T>>>,
    ended: Arc<Mutex<Option<String>>>,
    changed: watch::Sender<()>,
}

/// The lines that one person saw in one room.
pub type Transcript = Log<Heard>;

impl<T> Default for Log<T> {
    fn default() -> Self {
        Self {
            items: Arc::default(),
            ended: Arc::default(),
            changed: watch::Sender::new(()),
        }
    }
}

impl<T: Clone + fmt::Display> Log<T> {
    /// Adds what has just arrived.
    pub fn push(&self, item: T) {
        locked(&self.items).push(item);
        self.changed.send_replace(());
    }

    /// Says that nothing more will come, and why: whoever waits is told at once.
    pub fn end(&self, why: impl Into<String>) {
        locked(&self.ended).get_or_insert_with(|| why.into());
        self.changed.send_replace(());
    }

    /// Why nothing more will come.
    pub fn ended(&self) -> Option<String> {
        locked(&self.ended).clone()
    }

    /// Everything so far, in order.
    pub fn all(&self) -> Vec<T> {
        locked(&self.items).clone()
    }

    /// How much there is so far; with [`Log::wait_from`], a place to wait from.
    pub fn len(&self) -> usize {
        locked(&self.items).len()
    }

    /// Whether nothing came yet.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Waits until `look` finds what it wants in the whole list. `what` is for the error.
    pub async fn wait_for<R>(
        &self,
        what: &str,
        within: Duration,
        look: impl Fn(&[T]) -> Option<R>,
    ) -> Result<R> {
        self.wait_from(0, what, within, look).await
    }

    /// Like [`Log::wait_for`], looking only at what came after the first `start` items.
    pub async fn wait_from<R>(
        &self,
        start: usize,
        what: &str,
        within: Duration,
        look: impl Fn(&[T]) -> Option<R>,
    ) -> Result<R> {
        let mut changed = self.changed.subscribe();
        let deadline = tokio::time::Instant::now() + within;
        loop {
            if let Some(found) = look(locked(&self.items).get(start..).unwrap_or_default()) {
                return Ok(found);
            }
            if let Some(why) = self.ended() {
                bail!("no {what}: {why}; {}", self.tail());
            }
            if tokio::time::timeout_at(deadline, changed.changed())
                .await
                .is_err()
            {
                bail!("no {what} within {within:?}; {}", self.tail());
            }
        }
    }

    /// The last lines, for an error message.
    fn tail(&self) -> String {
        const SHOWN: usize = 12;
        let items = locked(&self.items);
        let mut text = format!("{} came", items.len());
        for item in items.iter().skip(items.len().saturating_sub(SHOWN)) {
            text.push_str("\n    ");
            text.push_str(&item.to_string());
        }
        text
    }
}

/// A test that panicked while it held the lock has not spoilt a list of lines.
fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(author: &str, text: &str) -> Heard {
        Heard {
            author: author.into(),
            author_id: author.into(),
            text: text.into(),
            emote: false,
            own: false,
            at: SystemTime::now(),
        }
    }

    #[test]
    fn a_speaker_is_found_as_the_author_or_in_front_of_the_words() {
        assert!(line("alice", "hi there").names("alice", "hi"));
        assert!(line("comity", "<alice> hi there").names("alice", "hi"));
        assert!(!line("comity", "hi there alice").names("alice", "hi"));
        assert!(!line("comity", "<alice> hello").names("alice", "hi"));
    }

    #[tokio::test]
    async fn waiting_ends_when_the_line_arrives() {
        let log = Transcript::default();
        let writer = log.clone();
        let waiting = tokio::spawn(async move {
            log.wait_for("hello", Duration::from_secs(5), |lines| {
                lines.iter().position(|heard| heard.says("hello"))
            })
            .await
        });
        writer.push(line("a", "noise"));
        writer.push(line("b", "hello"));
        assert_eq!(waiting.await.unwrap().unwrap(), 1);
    }

    #[tokio::test]
    async fn waiting_on_an_ended_log_says_why_it_ended() {
        let log = Transcript::default();
        log.push(line("a", "the last line"));
        log.end("connection closed by the server");
        let error = log
            .wait_for("more", Duration::from_secs(5), |_| None::<()>)
            .await
            .unwrap_err()
            .to_string();
        assert!(error.contains("connection closed by the server"), "{error}");
        assert!(error.contains("the last line"), "{error}");
    }
}

//! What a person can do, whatever network they are on.

use std::time::Duration;

use anyhow::Result;
use async_trait::async_trait;

use crate::transcript::{Heard, Transcript};

/// How long a person waits for something that the servers on one machine do in milliseconds.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// Someone with a client of their own in one room of one network.
#[async_trait]
pub trait Person: Send + Sync {
    /// The name that others see.
    fn name(&self) -> &str;

    /// Which network they sit on, in words for reports: `ngircd`, `prosody`.
    fn network(&self) -> &str;

    /// What they saw so far.
    fn transcript(&self) -> &Transcript;

    /// Says lines one after the other; returns when the server has taken the last one.
    async fn burst(&self, lines: &[Line]) -> Result<()>;

    /// Says one line; returns when the server has taken it.
    async fn say(&self, text: &str) -> Result<()> {
        self.burst(&[Line::text(text)]).await
    }

    /// Says a `/me`; returns when the server has taken it.
    async fn act(&self, text: &str) -> Result<()> {
        self.burst(&[Line::emote(text)]).await
    }

    /// Everything seen so far, in order.
    fn heard(&self) -> Vec<Heard> {
        self.transcript().all()
    }

    /// Waits until a line with `needle` from someone else arrives.
    async fn hears(&self, needle: &str, within: Duration) -> Result<Heard> {
        let what = format!(
            "line with {needle:?} at {} ({})",
            self.name(),
            self.network()
        );
        self.transcript()
            .wait_for(&what, within, |heard| {
                heard
                    .iter()
                    .find(|line| !line.own && line.says(needle))
                    .cloned()
            })
            .await
    }
}

/// Something to say.
#[derive(Clone, Debug)]
pub struct Line {
    /// The words.
    pub text: String,
    /// A `/me`.
    pub emote: bool,
}

impl Line {
    /// Plain words.
    pub fn text(text: impl Into<String>) -> Self {
        Self {
            text: text.into(),
            emote: false,
        }
    }

    /// A `/me`.
    pub fn emote(text: impl Into<String>) -> Self {
        Self {
            text: text.into(),
            emote: true,
        }
    }
}

//! What a bridge has told, and what became of what it was handed.

use std::collections::BTreeSet;
use std::fmt;

use crate::capabilities::Capabilities;
use crate::delivery::{Outcome, Plan};
use crate::event::{Channel, Content, DeliveryKey, EventId};
use crate::report::{Batch, ChannelState, Incoming, NetworkStatus, Remembered, Skip};

/// All that a harness has seen, in order.
#[derive(Clone, Debug, Default)]
pub struct Seen {
    /// The batches that were committed.
    pub batches: Vec<Batch>,
    /// What became an event.
    pub events: Vec<Taken>,
    /// What was an event already (same channel, same source id).
    pub duplicates: Vec<Incoming>,
    /// Our own coming back, marked as such.
    pub echoes: Vec<Incoming>,
    /// Commits that hang in the frozen journal now.
    pub hanging_commits: usize,
    /// How often a commit was answered with `Busy`.
    pub busy_answers: usize,
    /// What the bridge could not take.
    pub skips: Vec<Skip>,
    /// What the bridge said about network, channels and capabilities, in order.
    pub told: Vec<Told>,
    /// Whether the network is online, after the last status.
    pub online: bool,
    /// The channels that can be written to; empty while the network is not online.
    pub joined: BTreeSet<Channel>,
    /// What the channels can show, if the bridge has said it.
    pub capabilities: Option<Capabilities>,
    /// What the bridge was handed, in order.
    pub handed: Vec<Handed>,
    /// Tokens of the deliveries that are over, in the order in which they ended.
    pub finished: Vec<u64>,
    /// What the next run of the bridge will find.
    pub remembered: Remembered,
}

/// An event that the journal has taken.
#[derive(Clone, Debug, PartialEq)]
pub struct Taken {
    /// The id that it got.
    pub event: EventId,
    /// What the bridge reported.
    pub incoming: Incoming,
}

impl Taken {
    /// What is said, if it is a message.
    pub fn text(&self) -> Option<&str> {
        text_of(&self.incoming)
    }
}

/// A word of the bridge about itself.
#[derive(Clone, Debug, PartialEq)]
pub enum Told {
    /// About its network.
    Network(NetworkStatus),
    /// About a channel.
    Channel(Channel, ChannelState),
    /// About what its channels can show.
    Capabilities(Capabilities),
}

/// A delivery in the bridge's hands, or past it.
#[derive(Clone, Debug)]
pub struct Handed {
    /// Marks the receipts of this attempt.
    pub token: u64,
    /// The same for every attempt.
    pub key: DeliveryKey,
    /// From 1.
    pub attempt: u32,
    /// A plan that the journal has not answered yet, or has refused.
    pub plan_asked: Option<Vec<String>>,
    /// The plan as it is durable, with the parts that have landed. A delivery of one part has none until that part lands.
    pub plan: Option<Plan>,
    /// How often the bridge landed a part of several that it had no durable plan for.
    pub unplanned_parts: usize,
    /// What became of it: one, when all is well.
    pub outcomes: Vec<Outcome>,
    /// The bridge dropped it without a word.
    pub dropped: bool,
}

impl Handed {
    /// True when the bridge will say no more about it.
    pub fn is_over(&self) -> bool {
        self.dropped || !self.outcomes.is_empty()
    }
}

impl Seen {
    /// The events that say this.
    pub fn saying<'a>(&'a self, text: &'a str) -> impl Iterator<Item = &'a Taken> {
        self.events
            .iter()
            .filter(move |taken| taken.text() == Some(text))
    }

    /// The attempt with this token.
    pub fn attempt(&self, token: u64) -> Option<&Handed> {
        self.handed.iter().find(|handed| handed.token == token)
    }

    pub(super) fn attempt_mut(&mut self, token: u64) -> Option<&mut Handed> {
        self.handed.iter_mut().find(|handed| handed.token == token)
    }
}

fn text_of(incoming: &Incoming) -> Option<&str> {
    match &incoming.content {
        Content::Message(message) => Some(&message.text.plain),
        _ => None,
    }
}

impl fmt::Display for Seen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for told in &self.told {
            match told {
                Told::Network(status) => writeln!(f, "  network {status:?}")?,
                Told::Channel(channel, state) => writeln!(f, "  channel {channel} {state:?}")?,
                Told::Capabilities(capabilities) => writeln!(f, "  {capabilities:?}")?,
            }
        }
        let mut incoming = |word: &str, incoming: &Incoming| {
            let said = match text_of(incoming) {
                Some(text) => format!("{text:?}"),
                None => incoming.content.type_name().to_owned(),
            };
            writeln!(
                f,
                "  {word} {} {} {:?}: {said}",
                incoming.channel, incoming.source_id, incoming.author.name
            )
        };
        for taken in &self.events {
            incoming("event", &taken.incoming)?;
        }
        for item in &self.duplicates {
            incoming("duplicate", item)?;
        }
        for item in &self.echoes {
            incoming("echo", item)?;
        }
        for skip in &self.skips {
            writeln!(f, "  skip {}: {}", skip.reason, skip.detail)?;
        }
        for handed in &self.handed {
            writeln!(
                f,
                "  delivery {} attempt {}: plan asked {:?}, plan {:?}, outcomes {:?}{}",
                handed.key,
                handed.attempt,
                handed.plan_asked,
                handed.plan,
                handed.outcomes,
                if handed.dropped { ", dropped" } else { "" }
            )?;
        }
        write!(
            f,
            "  commits: {} done, {} hanging, {} answered busy",
            self.batches.len(),
            self.hanging_commits,
            self.busy_answers
        )
    }
}

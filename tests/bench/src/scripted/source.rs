//! The network that reports: some batches under way at once, in order, like a bridge that reads on while a commit runs.

use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use async_trait::async_trait;
use comity_bridge::event::{Message, MessageKind};
use comity_bridge::{
    Answer, Batch, Bridge, BridgeError, BridgeKind, Channel, ChannelState, ConfigProblem,
    ConfigTable, Content, GatewayInfo, Incoming, Link, NativeAuthor, NetworkName, NetworkStatus,
    Reports, SourceId, Text,
};
use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use tokio::sync::mpsc::UnboundedReceiver;
use tokio::task::unconstrained;

use super::Messages;
use crate::pace::micros;

/// Reports under way at once.
const IN_FLIGHT: usize = 8;

/// Messages in one report when they have to wait.
const BATCH: usize = 64;

/// What the source is told.
pub(super) enum Command {
    /// As fast as they are committed.
    Flood { count: u64, batch: usize },
    /// One for each of these times.
    Say(Vec<Instant>),
}

pub(super) struct Source {
    epoch: Instant,
    messages: Messages,
    commands: Arc<Mutex<Option<UnboundedReceiver<Command>>>>,
}

impl Source {
    pub(super) fn new(
        epoch: Instant,
        messages: Messages,
        commands: UnboundedReceiver<Command>,
    ) -> Self {
        Source {
            epoch,
            messages,
            commands: Arc::new(Mutex::new(Some(commands))),
        }
    }
}

impl BridgeKind for Source {
    fn protocol(&self) -> &'static str {
        "source"
    }

    fn configure(
        &self,
        _: &GatewayInfo,
        _: &NetworkName,
        _: ConfigTable,
    ) -> Result<Box<dyn Bridge>, Vec<ConfigProblem>> {
        Ok(Box::new(SourceBridge {
            epoch: self.epoch,
            next: self.messages.first,
            text: self.messages.text.clone(),
            commands: Arc::clone(&self.commands),
        }))
    }
}

struct SourceBridge {
    epoch: Instant,
    next: u64,
    text: String,
    commands: Arc<Mutex<Option<UnboundedReceiver<Command>>>>,
}

impl SourceBridge {
    /// The due time travels in the source id, so that a late start of an event counts as latency.
    fn incoming(&mut self, channel: &Channel, due: Instant) -> Incoming {
        let number = self.next;
        self.next += 1;
        let due = micros(due.saturating_duration_since(self.epoch));
        // People do not say the same thing all the time; who does is looked at for circles.
        let text = format!("{} {number}", self.text);
        Incoming {
            channel: channel.clone(),
            source_id: SourceId(format!("{number}.{due}")),
            author: NativeAuthor::named("alice", "alice"),
            claimed: None,
            own: None,
            content: Content::Message(Message::of(MessageKind::Text, Text::plain(text))),
            via: Vec::new(),
        }
    }
}

#[async_trait]
impl Bridge for SourceBridge {
    async fn run(mut self: Box<Self>, mut link: Link) -> Result<(), BridgeError> {
        let channel: Channel = "source/#room".parse().expect("a channel");
        link.reports.network(NetworkStatus::Online);
        link.reports.channel(&channel, ChannelState::Joined);
        let taken = self
            .commands
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        let Some(mut commands) = taken else {
            return Err(BridgeError::Local(
                "the source was started twice".to_owned(),
            ));
        };
        let mut due: VecDeque<Instant> = VecDeque::new();
        let (mut flood, mut batch) = (0, BATCH);
        let mut commits: FuturesUnordered<Pin<Box<dyn Future<Output = ()> + Send>>> =
            FuturesUnordered::new();
        loop {
            while commits.len() < IN_FLIGHT && (flood > 0 || !due.is_empty()) {
                let incoming: Vec<Incoming> = if due.is_empty() {
                    let now = Instant::now();
                    let size = flood.min(batch as u64);
                    flood -= size;
                    (0..size).map(|_| self.incoming(&channel, now)).collect()
                } else {
                    let now = due.drain(..due.len().min(BATCH)).collect::<Vec<_>>();
                    now.into_iter()
                        .map(|due| self.incoming(&channel, due))
                        .collect()
                };
                // With a budget of its own, one could be polled before another that was made earlier.
                let commit = unconstrained(commit(link.reports.clone(), incoming));
                commits.push(Box::pin(commit));
            }
            tokio::select! {
                Some(command) = commands.recv() => match command {
                    Command::Flood { count, batch: size } => (flood, batch) = (flood + count, size),
                    Command::Say(times) => due.extend(times),
                },
                Some(()) = commits.next(), if !commits.is_empty() => {}
                Some(_) = link.requests.recv() => {}
                () = link.shutdown.cancelled() => return Ok(()),
            }
        }
    }
}

async fn commit(reports: Reports, incoming: Vec<Incoming>) {
    let mut batch = Batch {
        incoming,
        ..Batch::default()
    };
    // Whoever may have to ask again needs a copy, as bridges do.
    while reports.commit(batch.clone()).await == Answer::Busy {
        batch = Batch { ..batch };
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
}

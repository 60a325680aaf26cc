//! What was heard and is not committed yet, in order, with what is to be remembered of it. The connection is read on while a commit
//! runs, up to a bound; what becomes of more is the connection's to decide.

use std::{
    collections::{BTreeMap, VecDeque},
    pin::Pin,
    time::Duration,
};

use comity_bridge::{Answer, Batch, Channel, Gap, Incoming, Reports, Timestamp, failpoint};
use tokio::time::sleep;

use crate::memory::{Mark, Memory};

/// Messages that may wait for a commit: a third of a second of the fastest server. A connection that is not read is no way to have
/// more wait: ngircd 26.1 cuts it after some hundred kilobytes.
const MAX_WAITING: usize = 10_000;

/// Messages in one commit.
const MAX_BATCH: usize = 1024;

/// How long to wait when the gateway is busy.
const BUSY_PAUSE: Duration = Duration::from_millis(200);

type Commit = Pin<Box<dyn Future<Output = ()> + Send>>;

pub(crate) struct Intake {
    reports: Reports,
    waiting: VecDeque<Item>,
    committing: Option<Commit>,
    /// Channels of which lines are being thrown away, and since when.
    dropping: BTreeMap<Channel, Timestamp>,
}

#[expect(clippy::large_enum_variant, reason = "nearly all of them are messages")]
enum Item {
    /// A message, and how far its channel is heard with it.
    Heard(Incoming, Option<Mark>),
    /// How far a channel is heard, without a message.
    Mark(Channel, Option<Mark>),
    Gap(Gap),
    /// Until when the server was there.
    Present,
}

impl Intake {
    pub(crate) fn new(reports: Reports) -> Self {
        Self {
            reports,
            waiting: VecDeque::new(),
            committing: None,
            dropping: BTreeMap::new(),
        }
    }

    /// Takes a message, for which there must be room.
    pub(crate) fn add(&mut self, incoming: Incoming, mark: Option<Mark>) {
        self.waiting.push_back(Item::Heard(incoming, mark));
    }

    /// Throws a message away: the network keeps nothing, and cannot be told to wait.
    pub(crate) fn throw_away(&mut self, channel: &Channel, now: Timestamp) {
        self.dropping.entry(channel.clone()).or_insert(now);
        self.reports.skip(
            "gap",
            format!("{channel}: too much is waiting for the journal"),
        );
    }

    /// Notes how far a channel is heard, or forgets it.
    pub(crate) fn mark(&mut self, channel: &Channel, mark: Option<Mark>) {
        self.waiting.push_back(Item::Mark(channel.clone(), mark));
    }

    /// Returns how far a channel is heard with what waits, if anything of it does.
    pub(crate) fn last_mark(&self, channel: &Channel) -> Option<Mark> {
        self.waiting.iter().rev().find_map(|item| match item {
            Item::Heard(incoming, mark) if incoming.channel == *channel => mark.clone(),
            Item::Mark(about, mark) if about == channel => mark.clone(),
            _ => None,
        })
    }

    pub(crate) fn gap(&mut self, gap: Gap) {
        self.waiting.push_back(Item::Gap(gap));
    }

    pub(crate) fn is_idle(&self) -> bool {
        self.waiting.is_empty() && self.committing.is_none()
    }

    pub(crate) fn is_full(&self) -> bool {
        self.waiting.len() >= MAX_WAITING
    }

    /// There is room again: what was thrown away until now is a gap.
    pub(crate) fn end_gaps(&mut self, now: Timestamp) {
        if self.dropping.is_empty() || self.waiting.len() > MAX_WAITING / 2 {
            return;
        }
        for (channel, from) in std::mem::take(&mut self.dropping) {
            self.gap(Gap {
                channel,
                from,
                until: now,
            });
        }
    }

    /// Writes how long the server has been there, if that has not been written for a while and nothing else is.
    pub(crate) fn note_present(&mut self, memory: &mut Memory) {
        if self.is_idle()
            && let Some(row) = memory.poll_present(true)
        {
            self.commit(Batch {
                writes: vec![row],
                ..Batch::default()
            });
        }
    }

    /// The gateway stops: says what was thrown away, and until when the server was there.
    pub(crate) fn end(&mut self, memory: &mut Memory, now: Timestamp) {
        self.begin(memory);
        for (channel, from) in std::mem::take(&mut self.dropping) {
            self.gap(Gap {
                channel,
                from,
                until: now,
            });
        }
        self.waiting.push_back(Item::Present);
    }

    /// Begins a commit, if none runs and something waits.
    pub(crate) fn begin(&mut self, memory: &mut Memory) {
        if self.committing.is_some() || self.waiting.is_empty() {
            return;
        }
        let count = self.waiting.len().min(MAX_BATCH);
        let mut batch = Batch {
            incoming: Vec::with_capacity(count),
            ..Batch::default()
        };
        let mut marks: BTreeMap<Channel, Option<Mark>> = BTreeMap::new();
        for item in self.waiting.drain(..count) {
            match item {
                Item::Heard(incoming, mark) => {
                    if mark.is_some() {
                        marks.insert(incoming.channel.clone(), mark);
                    }
                    batch.incoming.push(incoming);
                }
                Item::Mark(channel, mark) => drop(marks.insert(channel, mark)),
                Item::Gap(gap) => batch.gaps.push(gap),
                Item::Present => batch.writes.push(memory.present_row()),
            }
        }
        for (channel, mark) in marks {
            match mark {
                Some(mark) => batch.writes.push(memory.set(&channel, mark)),
                None => batch.writes.extend(memory.forget(&channel)),
            }
        }
        // What was heard and waits on must lie after what is written as heard.
        if self.waiting.is_empty() {
            batch.writes.extend(memory.poll_present(false));
        }
        self.commit(batch);
    }

    /// Waits for the end of the commit that runs. Can be dropped and called again at any time; waits for ever when
    /// none runs.
    pub(crate) async fn progress(&mut self) {
        match &mut self.committing {
            Some(committing) => committing.await,
            None => std::future::pending().await,
        }
        self.committing = None;
    }

    fn commit(&mut self, batch: Batch) {
        self.committing = Some(Box::pin(commit(self.reports.clone(), batch)));
    }
}

async fn commit(reports: Reports, batch: Batch) {
    failpoint::reached("irc.parsed");
    loop {
        match reports.commit(batch.clone()).await {
            // Whatever the verdicts are, the gateway has counted them, and IRC wants no answer.
            Answer::Committed(_) => break,
            Answer::Busy => sleep(BUSY_PAUSE).await,
        }
    }
    failpoint::reached("irc.committed");
}

//! What was heard and is not committed yet, in order, with what is to be remembered of it. The connection is read on while a commit
//! runs, up to a bound; what becomes of more is the connection's to decide.

use std::{
    collections::{BTreeMap, VecDeque},
    pin::Pin,
    sync::Arc,
    time::Duration,
};

use comity_bridge::{Answer, Batch, Channel, Gap, Incoming, Reports, Timestamp, failpoint};
use tokio::time::{Sleep, sleep};

use crate::{
    inbound,
    memory::{Mark, Memory},
    session::Heard,
};

/// Bytes of messages that may wait for a commit. A burst of short lines is bounded by their number, one of long lines by this.
const MAX_WAITING_BYTES: usize = 32 * 1024 * 1024;

/// Messages in one commit. More would make other networks' commits wait.
const MAX_BATCH: usize = 1024;

/// So many messages in one commit are a flood. While one lasts, a commit for what came during the last would cost more than all else
/// that is done for a line: the next waits a moment, unless [`GATHERED`] wait for it.
const FLOOD: usize = 64;

/// See [`FLOOD`].
const GATHERED: usize = 256;

/// How long that moment is: as long as a commit may take.
const MOMENT: Duration = Duration::from_millis(2);

/// How long to wait when the gateway is busy.
const BUSY_PAUSE: Duration = Duration::from_millis(200);

type Commit = Pin<Box<dyn Future<Output = ()> + Send>>;

pub(crate) struct Intake {
    reports: Reports,
    /// How many may wait. A connection that is not read is no way to have more wait: ngircd 26.1 cuts it after some
    /// hundred kilobytes.
    max_waiting: usize,
    waiting: VecDeque<Item>,
    /// What the messages among them take.
    bytes: usize,
    committing: Option<Commit>,
    /// What runs is a flood's.
    is_flood: bool,
    /// After a flood's commit, until the next may begin.
    moment: Option<Pin<Box<Sleep>>>,
    /// Channels of which lines are being thrown away, and since when.
    dropping: BTreeMap<Channel, Timestamp>,
}

enum Item {
    Heard(Waiting),
    /// How far a channel is heard, without a message.
    Mark(Box<(Channel, Option<Mark>)>),
    Gap(Box<Gap>),
    /// Until when the server was there.
    Present,
}

/// A message as small as it can be: it becomes a report when its turn comes.
struct Waiting {
    heard: Box<Heard>,
    channel: Channel,
    /// The connection that it came on.
    epoch: Arc<str>,
    at: Timestamp,
}

impl Intake {
    pub(crate) fn new(reports: Reports, max_waiting: usize) -> Self {
        Self {
            reports,
            max_waiting,
            waiting: VecDeque::new(),
            bytes: 0,
            committing: None,
            is_flood: false,
            moment: None,
            dropping: BTreeMap::new(),
        }
    }

    /// Takes a message, for which there must be room.
    pub(crate) fn add(
        &mut self,
        heard: Box<Heard>,
        channel: Channel,
        epoch: &Arc<str>,
        at: Timestamp,
    ) {
        self.bytes += heard.bytes();
        self.waiting.push_back(Item::Heard(Waiting {
            heard,
            channel,
            epoch: Arc::clone(epoch),
            at,
        }));
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
        let mark = Box::new((channel.clone(), mark));
        self.waiting.push_back(Item::Mark(mark));
    }

    /// Returns how far a channel is heard with what waits, if anything of it does.
    pub(crate) fn last_mark(&self, channel: &Channel) -> Option<Mark> {
        self.waiting.iter().rev().find_map(|item| match item {
            Item::Heard(waiting) if waiting.channel == *channel => waiting.mark(),
            Item::Mark(mark) if mark.0 == *channel => mark.1.clone(),
            _ => None,
        })
    }

    pub(crate) fn gap(&mut self, gap: Gap) {
        self.waiting.push_back(Item::Gap(Box::new(gap)));
    }

    pub(crate) fn is_idle(&self) -> bool {
        self.waiting.is_empty() && self.committing.is_none()
    }

    pub(crate) fn is_full(&self) -> bool {
        self.waiting.len() >= self.max_waiting || self.bytes >= MAX_WAITING_BYTES
    }

    /// There is room again: what was thrown away until now is a gap.
    pub(crate) fn end_gaps(&mut self, now: Timestamp) {
        let is_half_full =
            self.waiting.len() > self.max_waiting / 2 || self.bytes > MAX_WAITING_BYTES / 2;
        if self.dropping.is_empty() || is_half_full {
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
            let batch = Batch {
                writes: vec![row],
                ..Batch::default()
            };
            self.commit(batch, Vec::new());
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
        let gathers = self.moment.is_some() && self.waiting.len() < GATHERED;
        if self.committing.is_some() || self.waiting.is_empty() || gathers {
            return;
        }
        self.moment = None;
        let count = self.waiting.len().min(MAX_BATCH);
        let mut batch = Batch::default();
        batch.incoming.reserve_exact(count);
        let mut heard = Vec::with_capacity(count);
        let mut marks: BTreeMap<Channel, Option<Mark>> = BTreeMap::new();
        for item in self.waiting.drain(..count) {
            match item {
                Item::Heard(waiting) => {
                    self.bytes -= waiting.heard.bytes();
                    if let Some(mark) = waiting.mark() {
                        marks.insert(waiting.channel.clone(), Some(mark));
                    }
                    match waiting.report() {
                        Ok(incoming) => {
                            batch.incoming.push(incoming);
                            heard.push(waiting);
                        }
                        Err(reason) => {
                            let from =
                                format!("from {} in {}", waiting.heard.nick, waiting.channel);
                            self.reports.skip(reason, from);
                        }
                    }
                }
                Item::Mark(mark) => drop(marks.insert(mark.0, mark.1)),
                Item::Gap(gap) => batch.gaps.push(*gap),
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
            // What a burst has taken is given back.
            self.waiting.shrink_to(MAX_BATCH);
        }
        self.commit(batch, heard);
    }

    /// Waits until the next commit may begin. Can be dropped and called again at any time; waits for ever when none
    /// runs.
    pub(crate) async fn progress(&mut self) {
        match (&mut self.committing, &mut self.moment) {
            (Some(committing), _) => {
                committing.await;
                self.committing = None;
                self.moment = self.is_flood.then(|| Box::pin(sleep(MOMENT)));
            }
            (None, Some(moment)) => {
                moment.await;
                self.moment = None;
            }
            (None, None) => std::future::pending().await,
        }
    }

    fn commit(&mut self, batch: Batch, heard: Vec<Waiting>) {
        let reports = self.reports.clone();
        self.is_flood = heard.len() >= FLOOD;
        self.committing = Some(Box::pin(commit(reports, batch, heard)));
    }
}

impl Waiting {
    fn report(&self) -> Result<Incoming, &'static str> {
        inbound::report(&self.heard, self.channel.clone(), &self.epoch)
    }

    /// How far its channel is heard with it, where the network gives lines ids.
    fn mark(&self) -> Option<Mark> {
        Mark::of(&self.heard, self.at)
    }
}

/// Commits a batch, which is remade of what was heard as often as the gateway is too busy for it: that is seldom, and a
/// copy for each try is not.
async fn commit(reports: Reports, mut batch: Batch, heard: Vec<Waiting>) {
    failpoint::reached("irc.parsed");
    loop {
        let (writes, gaps) = (batch.writes.clone(), batch.gaps.clone());
        match reports.commit(batch).await {
            // Whatever the verdicts are, the gateway has counted them, and IRC wants no answer.
            Answer::Committed(_) => break,
            Answer::Busy => sleep(BUSY_PAUSE).await,
        }
        batch = Batch {
            incoming: heard.iter().filter_map(|one| one.report().ok()).collect(),
            cursor: None,
            writes,
            gaps,
        };
    }
    failpoint::reached("irc.committed");
}

#[cfg(test)]
mod tests;

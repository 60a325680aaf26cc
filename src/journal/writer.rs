//! The writing thread: gathers while a commit runs, commits once for all, then answers.
//!
//! What a lane asks for may still join the group whose rows are being written: a lane hands nothing over beyond what it has said to
//! be tried, so under load it would stand still for the rest of one group and the whole of the next.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use comity_bridge::report::Refusal;
use comity_bridge::{RoomAddress, Verdict, failpoint};
use tokio::sync::{mpsc, oneshot};

use super::queue::{LaneAsk, Queue};
use super::report::Prepared;
use super::signals::Signals;
use super::sqlite::{Committed, DeadAsk, Files, Fresh, Log, Store, is_damage};
use super::vital::Vital;
use super::{Answered, Ask, JournalError, LaneId, PATIENCE, Tails};
use crate::metrics::Metrics;

type AppendAsk = (Prepared, oneshot::Sender<Answered>);
type LetterAsk = (DeadAsk, oneshot::Sender<Option<usize>>);

pub(super) struct Writer {
    store: Store,
    tails: Tails,
    log: Arc<Log>,
    signals: Signals,
    metrics: Metrics,
    /// Lane writes that are not durable yet. At most one a lane: a lane waits for its last one.
    lanes: Vec<LaneAsk>,
    /// Those that touch what is damaged: tried again now and then, and nobody else waits for them.
    stuck: Vec<LaneAsk>,
    failing: bool,
    /// Something could not be written because of what is in the file. That does not pass.
    damaged: bool,
}

impl Writer {
    pub(super) fn new(
        store: Store,
        tails: Tails,
        log: Arc<Log>,
        signals: Signals,
        metrics: Metrics,
    ) -> Self {
        Writer {
            store,
            tails,
            log,
            signals,
            metrics,
            lanes: Vec::new(),
            stuck: Vec::new(),
            failing: false,
            damaged: false,
        }
    }

    /// Starts the thread; it holds the files until it ends.
    pub(super) fn start(self, files: Files, asks: mpsc::Receiver<Ask>) -> JoinHandle<()> {
        thread::Builder::new()
            .name("journal".to_owned())
            .spawn(move || {
                // In tests a panic is that test's alone.
                let _vital = (!cfg!(test)).then_some(Vital);
                self.run(asks);
                drop(files);
            })
            .expect("a thread can be started at start-up")
    }

    fn run(mut self, asks: mpsc::Receiver<Ask>) {
        let mut asks = Queue::new(asks);
        loop {
            let group = if self.lanes.is_empty() {
                let Some(group) = asks.wait() else { return };
                group
            } else {
                // The last commit failed: lanes must not lose what they know, so try again.
                thread::sleep(PATIENCE);
                let closed = asks.is_closed();
                let group = asks.take();
                if closed && group.as_slice().is_empty() {
                    drop(group);
                    self.commit(Vec::new(), Vec::new(), &mut asks);
                    return;
                }
                group
            };
            let mut appends = Vec::new();
            let mut letters = Vec::new();
            let mut closing = false;
            let mut tick = false;
            for ask in group {
                match ask {
                    Ask::Append(append, reply) => appends.push((append, reply)),
                    Ask::Lane(lane, write, durable) => self.lanes.push((lane, write, durable)),
                    Ask::Dead(ask, reply) => letters.push((ask, reply)),
                    Ask::Tick => tick = true,
                    Ask::Close => closing = true,
                    #[cfg(test)]
                    Ask::Hold(thaw) => drop(thaw.recv()),
                    #[cfg(test)]
                    Ask::Do(ask) => ask(&mut self.store),
                }
            }
            if !(appends.is_empty() && letters.is_empty() && self.lanes.is_empty()) {
                self.commit(appends, letters, &mut asks);
            }
            if tick || closing {
                self.try_the_stuck();
            }
            if closing {
                return;
            }
            if tick && !self.failing {
                self.keep_house(&asks);
            }
        }
    }

    fn commit(&mut self, mut appends: Vec<AppendAsk>, letters: Vec<LetterAsk>, asks: &mut Queue) {
        let begun = Instant::now();
        let early = failpoint::is_set("journal.ack_early");
        let mut replies = Vec::new();
        let mut prepared = Vec::new();
        for (append, reply) in appends.drain(..) {
            prepared.push(append);
            replies.push(Some(reply));
        }
        let (lanes, late) = (&mut self.lanes, |lanes: &mut _| asks.lanes(lanes));
        let letter_asks = letters.iter().map(|(ask, _)| ask);
        let committed =
            self.store
                .commit(prepared.iter_mut(), lanes, letter_asks, late, |verdicts| {
                    if early {
                        answer(&mut replies, verdicts.to_vec(), Vec::new());
                        // Long enough for a kill to find what was promised and is not there.
                        thread::sleep(Duration::from_millis(20));
                    }
                });
        match committed {
            Ok(mut committed) => {
                self.succeeded();
                self.tell(letters, std::mem::take(&mut committed.dead));
                let verdicts = self.publish(committed, begun);
                answer(&mut replies, verdicts, prepared);
                for (_, write, durable) in self.lanes.drain(..) {
                    durable.send(write).ok();
                }
                if self.log.is_to_be_finished() {
                    self.store.finish_log();
                }
            }
            Err(error) if JournalError::is_passing(&error) => {
                self.failed(&error);
                replies.into_iter().flatten().for_each(refuse);
                for (_, reply) in letters {
                    reply.send(None).ok();
                }
            }
            // One of them has touched what is damaged: the others need not wait for it.
            Err(_) => {
                self.letters_alone(letters);
                self.one_by_one(prepared, replies);
            }
        }
    }

    fn one_by_one(
        &mut self,
        prepared: Vec<Prepared>,
        replies: Vec<Option<oneshot::Sender<Answered>>>,
    ) {
        for ask in std::mem::take(&mut self.lanes) {
            if let Some((error, ask)) = self.alone(ask) {
                if JournalError::is_passing(&error) {
                    self.failed(&error);
                    self.lanes.push(ask);
                } else {
                    let lane = ask.0;
                    tracing::error!(?lane, %error, "what a lane says touches what is damaged: that lane waits, the others go on");
                    if is_damage(&error) {
                        self.failed(&error);
                    }
                    self.stuck.push(ask);
                }
            }
        }
        for (mut append, reply) in prepared.into_iter().zip(replies) {
            let begun = Instant::now();
            let one = std::iter::once(&mut append);
            let mut no_lane: Vec<LaneAsk> = Vec::new();
            let no_letter = std::iter::empty();
            match self
                .store
                .commit(one, &mut no_lane, no_letter, |_| (), |_| ())
            {
                Ok(committed) => {
                    let verdicts = self.publish(committed, begun);
                    answer(&mut [reply], verdicts, vec![append]);
                }
                Err(error) => {
                    self.failed(&error);
                    reply.into_iter().for_each(refuse);
                }
            }
        }
    }

    /// Commits what one lane says; gives it back when that cannot be.
    fn alone(&mut self, ask: LaneAsk) -> Option<(rusqlite::Error, LaneAsk)> {
        let begun = Instant::now();
        let mut one = vec![ask];
        let no_letter = std::iter::empty();
        let committed = self
            .store
            .commit(std::iter::empty(), &mut one, no_letter, |_| (), |_| ());
        let (lane, write, durable) = one.pop()?;
        match committed {
            Ok(committed) => {
                self.publish(committed, begun);
                durable.send(write).ok();
                None
            }
            Err(error) => Some((error, (lane, write, durable))),
        }
    }

    /// Somebody may have mended the file, or the damage is one that comes and goes.
    fn try_the_stuck(&mut self) {
        for ask in std::mem::take(&mut self.stuck) {
            let lane = ask.0;
            match self.alone(ask) {
                Some((_, ask)) => self.stuck.push(ask),
                None => tracing::info!(?lane, "the lane's damaged place takes writes again"),
            }
        }
    }

    fn letters_alone(&mut self, letters: Vec<LetterAsk>) {
        for (ask, reply) in letters {
            let mut no_lane: Vec<LaneAsk> = Vec::new();
            let one = std::iter::once(&ask);
            match self
                .store
                .commit(std::iter::empty(), &mut no_lane, one, |_| (), |_| ())
            {
                Ok(committed) => self.tell(vec![(ask, reply)], committed.dead),
                Err(error) => {
                    tracing::error!(%error, "what was asked about a dead letter touches what is damaged in the journal");
                    reply.send(None).ok();
                }
            }
        }
    }

    /// Answers what people asked for, and wakes the lanes that have to do it.
    fn tell(&self, letters: Vec<LetterAsk>, lanes: Vec<Vec<LaneId>>) {
        for ((ask, reply), lanes) in letters.into_iter().zip(lanes) {
            self.log.add(lanes.len() as u64);
            reply.send(Some(lanes.len())).ok();
            if ask.again {
                let lanes: HashSet<LaneId> = lanes.into_iter().collect();
                lanes
                    .into_iter()
                    .for_each(|lane| self.signals.of(lane).notify_one());
            }
        }
    }

    /// What nobody waits for, a little at a time, while there is nothing else to do.
    fn keep_house(&mut self, asks: &Queue) {
        loop {
            match self.store.keep_house() {
                Ok(done) => {
                    for network in &done.expired {
                        let reason = Refusal::UnknownTarget.as_str();
                        self.metrics.refused(network, reason);
                        tracing::info!(%network, reason, "skipped: what it refers to did not come");
                    }
                    self.log.add(done.pages);
                    if !done.more || !asks.is_empty() {
                        return;
                    }
                }
                Err(error) => {
                    tracing::warn!(%error, "the journal could not be tidied; trying again later");
                    return;
                }
            }
        }
    }

    fn succeeded(&mut self) {
        if std::mem::take(&mut self.failing) {
            self.metrics.journal_writable(true);
            tracing::info!("the journal takes writes again");
        }
    }

    fn failed(&mut self, error: &rusqlite::Error) {
        if is_damage(error) {
            if !std::mem::replace(&mut self.damaged, true) {
                self.metrics.journal_damaged();
                tracing::error!(
                    %error,
                    "the journal is damaged: what touches the damage waits, all else goes on. Stop the gateway and put \
                     a copy in the file's place, or move it away to begin with an empty journal"
                );
            }
        } else if !std::mem::replace(&mut self.failing, true) {
            self.metrics.journal_writable(false);
            tracing::error!(%error, "the journal cannot write: new input is refused until it can");
        }
    }

    /// Counts, and lets the rooms' lanes see it.
    fn publish(&self, committed: Committed, begun: Instant) -> Vec<Vec<Verdict>> {
        let fresh: BTreeMap<RoomAddress, Fresh> = committed.fresh;
        let events: usize = fresh.values().map(|fresh| fresh.events.len()).sum();
        self.metrics.journal_commit(begun.elapsed(), events);
        self.log.add(events as u64 + 1);
        for (room, fresh) in fresh {
            if let Some(tail) = self.tails.get(&room) {
                tail.push(fresh.events, fresh.last_change);
            }
        }
        committed.verdicts
    }
}

/// A bridge that has gone reports again when it is back; the source ids tell.
fn answer(
    replies: &mut [Option<oneshot::Sender<Answered>>],
    verdicts: Vec<Vec<Verdict>>,
    spent: Vec<Prepared>,
) {
    let spent = spent
        .into_iter()
        .map(Some)
        .chain(std::iter::repeat_with(|| None));
    for ((reply, verdicts), spent) in replies.iter_mut().zip(verdicts).zip(spent) {
        if let Some(reply) = reply.take() {
            reply.send((Some(verdicts), spent)).ok();
        }
    }
}

fn refuse(reply: oneshot::Sender<Answered>) {
    reply.send((None, None)).ok();
}

//! What is on its way to channels: pacing, and the fence that tells what has arrived.
//!
//! IRC acknowledges nothing. After each window of lines a `PING` with a token goes out; a server
//! handles one connection's lines in order, so its `PONG` proves that it has parsed the lines before,
//! and every complaint about them has come by then. No line is sent while a fence stands open: the
//! rate follows the server's own throttling, and what a cut connection leaves in doubt is
//! one window at most.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    time::{Duration, Instant},
};

use crate::{
    ident::ChannelName,
    wire::{Command, LineTooLong, Trailing},
};

/// A server that throttles us may take long over one window: ngircd reads 256 bytes a second.
const FENCE_WITHIN: Duration = Duration::from_secs(120);

/// Names one submission to the driver. Unique within a session.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub(crate) struct SendId(pub(crate) u64);

/// Lines for one channel that stand or fall together. Without any it is only told when its turn comes:
/// what becomes of submissions is told in the order in which they came.
#[derive(Clone, Debug)]
pub(crate) struct Submission {
    pub(crate) id: SendId,
    pub(crate) channel: ChannelName,
    pub(crate) lines: Vec<SendLine>,
}

#[derive(Clone, Debug)]
pub(crate) struct SendLine {
    pub(crate) command: Command,
    /// The part that is on the network once this line is.
    pub(crate) completes: Option<u32>,
}

/// What became of a submission.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) enum Fate {
    /// The server has parsed all its lines and complained about none.
    Shown,
    /// No line of it has reached the channel.
    NotAttempted,
    /// Some parts are shown, the rest was certainly not sent.
    Interrupted,
    /// Lines were written, and the connection ended before the fence.
    Ambiguous,
    /// The channel does not take it; the server's words.
    Refused(String),
}

#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) enum SendEvent {
    Part(SendId, u32),
    Done(SendId, Fate),
}

/// A complaint of the server about a line to a channel.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) enum Complaint {
    /// We are not in the channel (any more); what was not shown can be sent again later.
    NotIn,
    /// We may not speak there.
    Forbidden(String),
}

#[derive(Debug)]
pub(crate) struct Sends {
    burst: usize,
    interval: Duration,
    queues: BTreeMap<ChannelName, VecDeque<Queued>>,
    /// Channels with something queued, in the order in which they are served, one line at a time.
    turn: VecDeque<ChannelName>,
    /// Channels that are lost: their queues wait only for what was written before.
    dropping: BTreeSet<ChannelName>,
    window: Vec<Written>,
    complaints: Vec<(ChannelName, Complaint)>,
    /// Lines since the last fence, joins and the like included.
    lines: usize,
    fences: u64,
    fence: Option<Fence>,
    not_before: Option<Instant>,
    events: VecDeque<SendEvent>,
}

#[derive(Debug)]
struct Queued {
    id: SendId,
    lines: VecDeque<SendLine>,
    /// Parts of it are known to be shown.
    shown: bool,
}

#[derive(Debug)]
struct Written {
    id: SendId,
    channel: ChannelName,
    /// False for a submission without lines, which only waits for those before it.
    line: bool,
    completes: Option<u32>,
    last: bool,
}

#[derive(Debug)]
struct Fence {
    token: String,
    deadline: Instant,
}

impl Sends {
    /// At most `burst` lines between two fences, and `interval` between two lines.
    pub(crate) fn new(burst: usize, interval: Duration) -> Self {
        Self {
            burst: burst.max(1),
            interval,
            queues: BTreeMap::new(),
            turn: VecDeque::new(),
            dropping: BTreeSet::new(),
            window: Vec::new(),
            complaints: Vec::new(),
            lines: 0,
            fences: 0,
            fence: None,
            not_before: None,
            events: VecDeque::new(),
        }
    }

    pub(crate) fn submit(&mut self, submission: Submission) {
        let Submission { id, channel, lines } = submission;
        let queue = self.queues.entry(channel.clone()).or_default();
        if queue.is_empty() {
            self.turn.push_back(channel);
        }
        queue.push_back(Queued {
            id,
            lines: lines.into(),
            shown: false,
        });
    }

    /// Takes back a submission of which nothing was written.
    pub(crate) fn cancel(&mut self, id: SendId) {
        let begun = self.window.iter().any(|written| written.id == id);
        for queue in self.queues.values_mut() {
            let found = queue
                .iter()
                .position(|queued| queued.id == id && !queued.shown && !begun);
            if let Some(at) = found {
                queue.remove(at);
                self.events
                    .push_back(SendEvent::Done(id, Fate::NotAttempted));
            }
        }
    }

    /// The channel is lost: nothing more is written to it, and its queue is given back, in order.
    pub(crate) fn drop_channel(&mut self, channel: &ChannelName) {
        self.dropping.insert(channel.clone());
        if !self
            .window
            .iter()
            .any(|written| written.channel == *channel)
        {
            self.give_back(channel);
        }
    }

    pub(crate) fn drop_all_channels(&mut self) {
        let channels: Vec<ChannelName> = self.queues.keys().cloned().collect();
        for channel in &channels {
            self.drop_channel(channel);
        }
    }

    pub(crate) fn handle_complaint(&mut self, channel: &ChannelName, complaint: Complaint) {
        // More complaints than lines in the window concern none of ours.
        let lines = self
            .window
            .iter()
            .filter(|written| written.line && written.channel == *channel)
            .count();
        let known = self
            .complaints
            .iter()
            .filter(|(about, _)| about == channel)
            .count();
        if known < lines {
            self.complaints.push((channel.clone(), complaint));
        }
    }

    /// Tells whether a line may go out now, a fence aside.
    pub(crate) fn is_open(&self, now: Instant) -> bool {
        self.fence.is_none()
            && self.lines < self.burst
            && self.not_before.is_none_or(|not_before| not_before <= now)
    }

    /// Notes a line that is not to a channel but costs the server as much.
    pub(crate) fn note_line(&mut self, now: Instant) {
        self.lines += 1;
        self.not_before = (!self.interval.is_zero()).then(|| now + self.interval);
    }

    /// Returns the next line: one for a channel, or the fence after them. `others` tells whether
    /// lines of another kind wait for the window, too.
    pub(crate) fn poll_transmit(&mut self, now: Instant, others: bool) -> Option<Command> {
        if self.is_open(now)
            && let Some(command) = self.next_line()
        {
            self.note_line(now);
            return Some(command);
        }
        let due = self.lines >= self.burst || (self.lines > 0 && self.is_idle() && !others);
        let may =
            self.fence.is_none() && self.not_before.is_none_or(|not_before| not_before <= now);
        (due && may).then(|| self.raise_fence(now).ok()).flatten()
    }

    /// Returns the fence for what was written, unless it is out already or there is nothing to prove.
    pub(crate) fn poll_last_fence(&mut self, now: Instant) -> Option<Command> {
        (self.fence.is_none() && self.lines > 0)
            .then(|| self.raise_fence(now).ok())
            .flatten()
    }

    /// Takes a PONG's token; returns whether it was the fence's.
    pub(crate) fn handle_pong(&mut self, token: &str) -> bool {
        if self.fence.as_ref().is_none_or(|fence| fence.token != token) {
            return false;
        }
        self.fence = None;
        self.lines = 0;
        self.settle();
        true
    }

    /// Returns when an open fence is overdue, or when the pause between two lines ends for which
    /// `others` or a queue of ours wait.
    pub(crate) fn next_timeout(&self, others: bool) -> Option<Instant> {
        match &self.fence {
            Some(fence) => Some(fence.deadline),
            None => self
                .not_before
                .filter(|_| others || self.lines > 0 || !self.is_idle()),
        }
    }

    pub(crate) fn is_overdue(&self, now: Instant) -> bool {
        self.fence
            .as_ref()
            .is_some_and(|fence| fence.deadline <= now)
    }

    /// The connection is gone. What was written after the last fence is in doubt.
    pub(crate) fn handle_end(&mut self) {
        let mut doubted = BTreeSet::new();
        for written in std::mem::take(&mut self.window) {
            if doubted.insert(written.id) {
                let fate = if written.line {
                    Fate::Ambiguous
                } else {
                    Fate::NotAttempted
                };
                self.events.push_back(SendEvent::Done(written.id, fate));
            }
        }
        for queue in self.queues.values_mut() {
            queue.retain(|queued| !doubted.contains(&queued.id));
        }
        let channels: Vec<ChannelName> = self.queues.keys().cloned().collect();
        for channel in &channels {
            self.give_back(channel);
        }
    }

    pub(crate) fn poll_event(&mut self) -> Option<SendEvent> {
        self.events.pop_front()
    }

    /// Nothing is left to write.
    fn is_idle(&self) -> bool {
        self.turn
            .iter()
            .all(|channel| self.dropping.contains(channel))
    }

    fn next_line(&mut self) -> Option<Command> {
        for _ in 0..self.turn.len() {
            let channel = self.turn.pop_front()?;
            if self.dropping.contains(&channel) {
                self.turn.push_back(channel);
                continue;
            }
            self.pass_empty(&channel);
            let Some(queue) = self.queues.get_mut(&channel) else {
                continue;
            };
            let queued = queue.front_mut()?;
            let line = queued.lines.pop_front()?;
            let (id, last) = (queued.id, queued.lines.is_empty());
            if last {
                queue.pop_front();
            }
            self.window.push(Written {
                id,
                channel: channel.clone(),
                line: true,
                completes: line.completes,
                last,
            });
            if last {
                self.pass_empty(&channel);
            }
            if self.queues.contains_key(&channel) {
                self.turn.push_back(channel);
            }
            return Some(line.command);
        }
        None
    }

    /// Moves submissions without lines on, behind what of their channel is written.
    fn pass_empty(&mut self, channel: &ChannelName) {
        let Some(queue) = self.queues.get_mut(channel) else {
            return;
        };
        while let Some(queued) = queue.pop_front_if(|queued| queued.lines.is_empty()) {
            let behind = self
                .window
                .iter()
                .any(|written| written.channel == *channel);
            match behind {
                true => self.window.push(Written {
                    id: queued.id,
                    channel: channel.clone(),
                    line: false,
                    completes: None,
                    last: true,
                }),
                false => self
                    .events
                    .push_back(SendEvent::Done(queued.id, Fate::Shown)),
            }
        }
        if queue.is_empty() {
            self.queues.remove(channel);
        }
    }

    fn raise_fence(&mut self, now: Instant) -> Result<Command, LineTooLong> {
        self.fences += 1;
        let token = format!("fence-{}", self.fences);
        let ping = Command::new("PING", [], Some(Trailing::new(&token)))?;
        self.fence = Some(Fence {
            token,
            deadline: now + FENCE_WITHIN,
        });
        self.not_before = (!self.interval.is_zero()).then(|| now + self.interval);
        Ok(ping)
    }

    /// Decides about every line of the window.
    ///
    /// A complaint names its channel, not its line. A channel that stops taking our lines (moderated,
    /// kicked) goes on doing so, so the complaints are taken to be about the last lines.
    fn settle(&mut self) {
        let window = std::mem::take(&mut self.window);
        let complaints = std::mem::take(&mut self.complaints);
        let mut finished = BTreeSet::new();
        for (at, written) in window.iter().enumerate() {
            let of_channel = |w: &&Written| w.line && w.channel == written.channel;
            let later = window
                .get(at + 1..)
                .unwrap_or_default()
                .iter()
                .filter(of_channel)
                .count();
            let mut about = complaints
                .iter()
                .filter(|(channel, _)| *channel == written.channel)
                .rev();
            match about.nth(later).filter(|_| written.line) {
                Some((_, complaint)) if finished.insert(written.id) => {
                    self.refuse(&window, written, complaint)
                }
                Some(_) => {}
                None => self.land(written),
            }
        }
        let lost: Vec<ChannelName> = self.dropping.iter().cloned().collect();
        for channel in &lost {
            self.give_back(channel);
        }
    }

    fn land(&mut self, written: &Written) {
        if let Some(part) = written.completes {
            self.events.push_back(SendEvent::Part(written.id, part));
        }
        if written.last {
            self.events
                .push_back(SendEvent::Done(written.id, Fate::Shown));
        } else if let Some(queued) = self.queued_mut(written) {
            queued.shown |= written.completes.is_some();
        }
    }

    fn refuse(&mut self, window: &[Written], written: &Written, complaint: &Complaint) {
        let before = self.queued_mut(written).is_some_and(|queued| queued.shown);
        let landed = |w: &&Written| w.id == written.id && w.completes.is_some();
        let in_window = window
            .iter()
            .take_while(|w| !std::ptr::eq(*w, written))
            .any(|w| landed(&w));
        let fate = match complaint {
            Complaint::Forbidden(words) => Fate::Refused(words.clone()),
            Complaint::NotIn if before || in_window => Fate::Interrupted,
            Complaint::NotIn => Fate::NotAttempted,
        };
        self.events.push_back(SendEvent::Done(written.id, fate));
        if let Some(queue) = self.queues.get_mut(&written.channel) {
            queue.retain(|queued| queued.id != written.id);
            if queue.is_empty() {
                self.queues.remove(&written.channel);
                self.turn.retain(|channel| *channel != written.channel);
            }
        }
    }

    fn queued_mut(&mut self, written: &Written) -> Option<&mut Queued> {
        let front = self.queues.get_mut(&written.channel)?.front_mut()?;
        (front.id == written.id).then_some(front)
    }

    fn give_back(&mut self, channel: &ChannelName) {
        self.dropping.remove(channel);
        self.turn.retain(|other| other != channel);
        for queued in self.queues.remove(channel).unwrap_or_default() {
            let fate = if queued.shown {
                Fate::Interrupted
            } else {
                Fate::NotAttempted
            };
            self.events.push_back(SendEvent::Done(queued.id, fate));
        }
    }
}

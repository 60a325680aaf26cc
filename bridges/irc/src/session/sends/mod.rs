//! What is on its way to channels: pacing, and the proof of what has arrived.
//!
//! Plain IRC acknowledges nothing. After each window of lines a `PING` with a token goes out; a server
//! handles one connection's lines in order, so its `PONG` proves that it has parsed the lines before,
//! and every complaint about them has come by then. What a cut connection leaves in doubt is one window of
//! `burst` lines at most. Small windows have one fence, and no line is sent while it stands open: the rate follows the
//! server's own throttling. Large ones, for servers that do not throttle us, have two fences, each for half of the
//! window, so that the server has work while the answer is on its way.
//!
//! Where the server has labels and echoes, each line is settled by its own answer, which brings the id that the network gave
//! it. The fences stay, for the lines that are never answered.

mod window;

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    time::{Duration, Instant},
};

use crate::{
    ident::ChannelName,
    outbound::LineKey,
    wire::{Command, Label, LineTooLong, Trailing},
};

use window::{Verdict, Window, Written};

/// How long a server may take to parse one window. Servers that throttle take seconds a line.
const FENCE_WITHIN: Duration = Duration::from_secs(120);

/// From this size on, a window has two fences.
const LARGE: usize = 32;

/// A delivery's lines as known to the driver. Unique within a session.
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
    /// What the line is found by in the channel's history.
    pub(crate) key: LineKey,
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
    /// Lines were written, and the connection ended before the proof.
    Ambiguous,
    /// The channel does not take it; the server's words.
    Refused(String),
}

#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) enum SendEvent {
    /// A part is shown, and the ids that the network gave its lines.
    Part(SendId, u32, Vec<String>),
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

/// Which tags the server takes on our lines.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(crate) struct Tagging {
    /// Answers bear the label of what they answer, and our own lines come back.
    pub(crate) labels: bool,
    /// Lines are kept with their client-only tags.
    pub(crate) keys: bool,
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
    window: Window,
    complaints: Vec<(ChannelName, Complaint)>,
    /// Lines that no fence has proved yet, joins and the like included.
    lines: usize,
    /// Those of them that stand before no fence yet.
    unfenced: usize,
    raised: u64,
    fences: VecDeque<Fence>,
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
struct Fence {
    number: u64,
    deadline: Instant,
    /// How many lines it proves beyond the fence before it.
    lines: usize,
    /// The window's end when it was raised.
    up_to: u64,
}

impl Sends {
    /// At most `burst` lines that are not proved, and `interval` between two lines.
    pub(crate) fn new(burst: usize, interval: Duration) -> Self {
        Self {
            burst: burst.max(1),
            interval,
            queues: BTreeMap::new(),
            turn: VecDeque::new(),
            dropping: BTreeSet::new(),
            window: Window::default(),
            complaints: Vec::new(),
            lines: 0,
            unfenced: 0,
            raised: 0,
            fences: VecDeque::new(),
            not_before: None,
            events: VecDeque::new(),
        }
    }

    pub(crate) fn submit(&mut self, submission: Submission) {
        let Submission { id, channel, lines } = submission;
        let queued = Queued {
            id,
            lines: lines.into(),
            shown: false,
        };
        match self.queues.get_mut(&channel) {
            Some(queue) => queue.push_back(queued),
            None => {
                self.queues
                    .insert(channel.clone(), VecDeque::from([queued]));
                self.turn.push_back(channel);
            }
        }
    }

    /// Takes back a submission of which nothing was written.
    pub(crate) fn cancel(&mut self, id: SendId) {
        let begun = self.window.has_id(id);
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
        if !self.window.has_channel(channel) {
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
        let lines = self.window.lines_of(channel);
        let known = self
            .complaints
            .iter()
            .filter(|(about, _)| about == channel)
            .count();
        if known < lines {
            self.complaints.push((channel.clone(), complaint));
        }
    }

    /// The server's answer to one line: it is shown, under this id, or refused.
    pub(crate) fn handle_answer(&mut self, label: u64, answer: Result<Option<String>, Complaint>) {
        let verdict = match answer {
            Ok(id) => Verdict::Shown(id),
            Err(complaint) => Verdict::Refused(complaint),
        };
        self.window.decide(label, verdict);
        // Answers come in order; one that comes early waits for those before it.
        while let Some(written) = self.window.pop_decided() {
            self.settle(written, None);
        }
        self.give_back_settled();
    }

    /// Tells whether a line may go out now.
    pub(crate) fn is_open(&self, now: Instant) -> bool {
        (self.fences.is_empty() || self.burst >= LARGE)
            && self.lines < self.burst
            && self.may_write(now)
    }

    /// Notes a line that is not to a channel but costs the server as much.
    pub(crate) fn note_line(&mut self, now: Instant) {
        self.lines += 1;
        self.unfenced += 1;
        self.not_before = (!self.interval.is_zero()).then(|| now + self.interval);
    }

    /// Returns the next line: one for a channel, or a fence. `others` tells whether
    /// lines of another kind wait for the window, too.
    pub(crate) fn poll_transmit(
        &mut self,
        now: Instant,
        others: bool,
        tagging: Tagging,
    ) -> Option<Command> {
        let (step, most) = match self.burst >= LARGE {
            true => (self.burst / 2, 2),
            false => (self.burst, 1),
        };
        let is_full = self.unfenced >= step || self.lines >= self.burst;
        if !is_full
            && self.is_open(now)
            && let Some(command) = self.next_line(tagging)
        {
            self.note_line(now);
            return Some(command);
        }
        let due = is_full || (self.is_idle() && !others);
        let may = self.unfenced > 0 && self.fences.len() < most && self.may_write(now);
        (due && may).then(|| self.raise_fence(now).ok()).flatten()
    }

    /// Returns the fence for what was written, unless it is out already or there is nothing to prove.
    pub(crate) fn poll_last_fence(&mut self, now: Instant) -> Option<Command> {
        (self.unfenced > 0)
            .then(|| self.raise_fence(now).ok())
            .flatten()
    }

    /// Takes a PONG's token; returns whether it was the next fence's.
    pub(crate) fn handle_pong(&mut self, token: &str) -> bool {
        let number = token.strip_prefix(FENCE).and_then(|n| n.parse().ok());
        let Some(fence) = self
            .fences
            .pop_front_if(|fence| Some(fence.number) == number)
        else {
            return false;
        };
        self.lines -= fence.lines;
        let mut complaints = std::mem::take(&mut self.complaints);
        while let Some(written) = self.window.pop_before(fence.up_to) {
            // A complaint names its channel, not its line. A channel that stops taking our lines (moderated,
            // kicked) goes on doing so, so the complaints are taken to be about the last lines.
            let complaint = match complaints.is_empty() || !written.line {
                true => None,
                false => {
                    let of_channel =
                        |(about, _): &(ChannelName, Complaint)| *about == written.channel;
                    let known = complaints.iter().filter(|c| of_channel(c)).count();
                    let left = self.window.lines_before(&written.channel, fence.up_to);
                    let first = complaints.iter().position(of_channel);
                    first
                        .filter(|_| known > left)
                        .map(|at| complaints.remove(at).1)
                }
            };
            self.settle(written, complaint);
        }
        self.give_back_settled();
        true
    }

    /// Returns when an open fence is overdue, or when the pause between two lines ends for which
    /// `others` or a queue of ours wait.
    pub(crate) fn next_timeout(&self, others: bool) -> Option<Instant> {
        let waits = others || self.lines > 0 || !self.is_idle();
        let blocked = self.lines >= self.burst || (!self.fences.is_empty() && self.burst < LARGE);
        let pause = self
            .not_before
            .filter(|_| waits && (!blocked || self.fences.is_empty()));
        let overdue = self.fences.front().map(|fence| fence.deadline);
        pause.into_iter().chain(overdue).min()
    }

    pub(crate) fn handle_timeout(&mut self, now: Instant) {
        // A pause that is over is nothing to wake up for.
        self.not_before.take_if(|not_before| *not_before <= now);
    }

    pub(crate) fn is_overdue(&self, now: Instant) -> bool {
        self.fences
            .front()
            .is_some_and(|fence| fence.deadline <= now)
    }

    /// The connection is gone. What was written and not proved is in doubt.
    pub(crate) fn handle_end(&mut self) {
        let mut doubted = BTreeSet::new();
        while let Some(written) = self.window.pop() {
            if !written.void && doubted.insert(written.id) {
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

    fn may_write(&self, now: Instant) -> bool {
        self.not_before.is_none_or(|not_before| not_before <= now)
    }

    fn next_line(&mut self, tagging: Tagging) -> Option<Command> {
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
            let label = self.window.push(Written {
                id,
                channel: channel.clone(),
                line: true,
                void: false,
                completes: line.completes,
                last,
                verdict: None,
            });
            let mut command = line.command;
            command.tags_mut().label = tagging.labels.then_some(Label::Sent(label));
            command.tags_mut().key = tagging.keys.then(|| line.key.to_string().into());
            if last {
                self.pass_empty(&channel);
            }
            if self.queues.contains_key(&channel) {
                self.turn.push_back(channel);
            }
            return Some(command);
        }
        None
    }

    /// Moves submissions without lines on, behind what of their channel is written.
    fn pass_empty(&mut self, channel: &ChannelName) {
        let Some(queue) = self.queues.get_mut(channel) else {
            return;
        };
        while let Some(queued) = queue.pop_front_if(|queued| queued.lines.is_empty()) {
            match self.window.has_channel(channel) {
                true => {
                    self.window.push(Written {
                        id: queued.id,
                        channel: channel.clone(),
                        line: false,
                        void: false,
                        completes: None,
                        last: true,
                        verdict: None,
                    });
                }
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
        self.raised += 1;
        let token = format!("{FENCE}{}", self.raised);
        let ping = Command::new("PING", [], Some(Trailing::new(&token)))?;
        self.fences.push_back(Fence {
            number: self.raised,
            deadline: now + FENCE_WITHIN,
            lines: std::mem::take(&mut self.unfenced),
            up_to: self.window.end(),
        });
        self.not_before = (!self.interval.is_zero()).then(|| now + self.interval);
        Ok(ping)
    }

    /// Decides about one line, the oldest of the window. `complaint` is what the channel as a whole has said.
    fn settle(&mut self, written: Written, complaint: Option<Complaint>) {
        if written.void {
            return;
        }
        match (written.verdict, complaint) {
            (Some(Verdict::Refused(complaint)), _) | (None, Some(complaint)) => {
                self.refuse(written.id, &written.channel, complaint)
            }
            (Some(Verdict::Shown(id)), _) => self.land(
                &written.channel,
                written.id,
                written.completes,
                written.last,
                id,
            ),
            (None, None) => self.land(
                &written.channel,
                written.id,
                written.completes,
                written.last,
                None,
            ),
        }
    }

    fn land(
        &mut self,
        channel: &ChannelName,
        id: SendId,
        completes: Option<u32>,
        last: bool,
        native: Option<String>,
    ) {
        let ids = self.window.collect_ids(id, native, completes.is_some());
        if let Some(part) = completes {
            self.events.push_back(SendEvent::Part(id, part, ids));
        }
        if last {
            self.events.push_back(SendEvent::Done(id, Fate::Shown));
        } else if completes.is_some() {
            match self.queued_mut(channel, id) {
                Some(queued) => queued.shown = true,
                None => self.window.note_shown(id),
            }
        }
    }

    fn refuse(&mut self, id: SendId, channel: &ChannelName, complaint: Complaint) {
        let shown = self
            .queued_mut(channel, id)
            .is_some_and(|queued| queued.shown);
        let shown = self.window.make_void(id) || shown;
        let fate = match complaint {
            Complaint::Forbidden(words) => Fate::Refused(words),
            Complaint::NotIn if shown => Fate::Interrupted,
            Complaint::NotIn => Fate::NotAttempted,
        };
        self.events.push_back(SendEvent::Done(id, fate));
        if let Some(queue) = self.queues.get_mut(channel) {
            queue.retain(|queued| queued.id != id);
            if queue.is_empty() {
                self.queues.remove(channel);
                self.turn.retain(|other| other != channel);
            }
        }
    }

    fn queued_mut(&mut self, channel: &ChannelName, id: SendId) -> Option<&mut Queued> {
        let front = self.queues.get_mut(channel)?.front_mut()?;
        (front.id == id).then_some(front)
    }

    /// Gives back the queues of lost channels that have nothing in the window any more.
    fn give_back_settled(&mut self) {
        if self.dropping.is_empty() {
            return;
        }
        let lost: Vec<ChannelName> = self.dropping.iter().cloned().collect();
        for channel in lost {
            if !self.window.has_channel(&channel) {
                self.give_back(&channel);
            }
        }
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

/// What a fence's token begins with.
const FENCE: &str = "fence-";

//! One connection to an IRC server as a state machine: lines and times go in (`handle_*`), lines
//! and events come out (`poll_*`). Opens no socket and reads no clock, and knows nothing of rooms,
//! other networks or the gateway.

mod batches;
mod caps;
mod channels;
mod farewell;
mod heard;
mod history;
mod isupport;
mod mask;
mod nick;
mod numerics;
mod registration;
mod sends;
#[cfg(test)]
mod tests;

use std::{
    collections::VecDeque,
    time::{Duration, Instant},
};

use batches::Batches;
use caps::Caps;
use channels::Channels;
use history::History;
use isupport::Isupport;
use mask::Mask;
use nick::Nick;
use sends::{Complaint, Sends, Tagging};

pub(crate) use farewell::Farewell;
pub(crate) use heard::{Heard, Verb};
pub(crate) use history::{Missing, OwnLine, Since};
pub(crate) use registration::Identity;
pub(crate) use sends::{Fate, SendEvent, SendId, SendLine, Submission};

use crate::{
    ident::ChannelName,
    wire::{Command, Label, Line, LineTooLong, Middle, Trailing},
};

/// How long the server may take from our first line to numeric 001, name and ident lookups included, and from there to the
/// end of what it says of itself.
const REGISTER_WITHIN: Duration = Duration::from_secs(90);

/// A server that says nothing for this long is asked whether it is there.
const PING_AFTER: Duration = Duration::from_secs(20);

/// How long it may take to answer that.
const PONG_WITHIN: Duration = Duration::from_secs(60);

/// Lines that may wait to be written although they wait for no window: answers, mostly.
const MAX_URGENT: usize = 1000;

/// Why the second of two names that the server takes for one is not joined.
const TWIN: &str = "the server takes it for another configured channel";

/// Token of the PING that marks the end of what a server says at the start.
const READY_TOKEN: &str = "ready";

#[derive(Clone, Debug)]
pub(crate) struct Settings {
    pub(crate) identity: Identity,
    pub(crate) burst_lines: usize,
    pub(crate) min_line_interval: Duration,
    /// Nicks that were ours on earlier connections.
    pub(crate) former_nicks: Vec<String>,
}

/// What the driver has to know.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Event {
    /// The server took us in, under this nick.
    Registered {
        nick: String,
    },
    /// We have another nick now.
    Renamed {
        nick: String,
    },
    /// Channels can be joined from now on.
    Ready,
    /// We are in. Whoever missed something there calls [`Session::catch_up`] before the next line is handled.
    Joined {
        channel: ChannelName,
        /// When, as the server says: a `time` tag.
        time: Option<String>,
    },
    /// We were asked to be where we are.
    StillIn(ChannelName),
    NotJoined(ChannelName, String),
    /// Somebody said something in one of our channels.
    Heard(Box<Heard>),
    /// Whatever the server keeps of what was missed there has been told.
    CaughtUp {
        channel: ChannelName,
        missing: Missing,
    },
    /// What of ours is in the channel, or nothing when the server does not say. Answers [`Session::look_back`].
    LookedBack(ChannelName, Option<Vec<OwnLine>>),
    /// Something was said that is not for a channel of ours.
    Skipped {
        reason: &'static str,
        detail: String,
    },
    Send(SendEvent),
    /// The connection is of no more use.
    Lost(Farewell),
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Phase {
    Registering,
    /// Registered; the server still talks about itself.
    Welcomed,
    Ready,
    Quitting,
    Over,
}

#[derive(Debug)]
pub(crate) struct Session {
    settings: Settings,
    phase: Phase,
    caps: Caps,
    isupport: Isupport,
    nick: Nick,
    mask: Mask,
    channels: Channels,
    sends: Sends,
    batches: Batches,
    history: History,
    /// Lines that wait for no window: registration, PONG, QUIT.
    urgent: VecDeque<Command>,
    events: VecDeque<Event>,
    /// Lines received, the bad ones included: with the connection's own name, what tells lines apart.
    received: u64,
    register_by: Instant,
    last_heard: Instant,
    pinged: bool,
    proved: bool,
    /// The last ERROR, in the server's words.
    closing: Option<String>,
}

impl Session {
    /// Starts a session on a connection that was just made.
    pub(crate) fn new(settings: Settings, now: Instant) -> Result<Self, LineTooLong> {
        let mut session = Self {
            phase: Phase::Registering,
            caps: Caps::default(),
            isupport: Isupport::default(),
            nick: Nick::new(&settings.identity.nick),
            mask: Mask::default(),
            channels: Channels::default(),
            sends: Sends::new(settings.burst_lines, settings.min_line_interval),
            batches: Batches::default(),
            history: History::default(),
            urgent: VecDeque::new(),
            events: VecDeque::new(),
            received: 0,
            register_by: now + REGISTER_WITHIN,
            last_heard: now,
            pinged: false,
            proved: false,
            closing: None,
            settings,
        };
        session.begin_registration()?;
        Ok(session)
    }

    /// Wants to be in a channel, now and after every loss of it.
    pub(crate) fn join(&mut self, name: &ChannelName) {
        let map = self.isupport.casemapping;
        match self.channels.find(name.as_str(), map) {
            None => self.channels.want(name, map),
            // Asked once more: the answer is the same.
            Some(known) if known == *name => {
                if self.channels.is_in(name.as_str(), map) {
                    self.events.push_back(Event::StillIn(known));
                }
            }
            Some(_) => self.not_joined(name.clone(), TWIN.to_owned()),
        }
    }

    pub(crate) fn leave(&mut self, name: &ChannelName) {
        if self.channels.unwant(name, self.isupport.casemapping) {
            self.urge(Command::new("PART", [name.middle()], None));
        }
        self.forget_history(name);
        self.sends.drop_channel(name);
    }

    /// Sends lines to a channel. Comes back at once if we are not in it.
    pub(crate) fn submit(&mut self, submission: Submission) {
        let is_in = self
            .channels
            .is_in(submission.channel.as_str(), self.isupport.casemapping);
        if self.phase == Phase::Ready && is_in {
            self.sends.submit(submission);
        } else {
            let done = SendEvent::Done(submission.id, Fate::NotAttempted);
            self.events.push_back(Event::Send(done));
        }
    }

    pub(crate) fn cancel(&mut self, id: SendId) {
        self.sends.cancel(id);
    }

    /// Says goodbye. What is written is still fenced; what is not comes back.
    pub(crate) fn quit(&mut self, reason: &str, now: Instant) {
        self.sends.drop_all_channels();
        self.urgent.extend(self.sends.poll_last_fence(now));
        self.urge(Command::new("QUIT", [], Some(Trailing::new(reason))));
        self.phase = Phase::Quitting;
    }

    /// The connection ended, whoever ended it.
    pub(crate) fn handle_end(&mut self, why: &str) {
        self.sends.handle_end();
        let words = self.closing.take();
        self.lose(Farewell::of_server(words.as_deref().unwrap_or(why)));
    }

    /// Counts a line that could not be parsed, so that line numbers stay true.
    pub(crate) fn handle_bad_line(&mut self, now: Instant) {
        self.note_received(now);
    }

    pub(crate) fn handle_line(&mut self, line: &Line<'_>, now: Instant) {
        self.note_received(now);
        if let Some(numeric) = line.numeric() {
            return self.handle_numeric(numeric, line, now);
        }
        let batch = self.batches.of(line);
        if batch.is_some_and(|batch| batch.history_of.is_some()) && !is_message(line) {
            // Joins and the like of a past in which we may have been somebody else.
            return self.handle_replayed_other(line);
        }
        match &*line.command {
            "PING" => self.urge(Command::new("PONG", [], Some(Trailing::new(line.param(0))))),
            "PONG" => self.handle_pong(line),
            "CAP" => {
                for command in self.caps.handle_line(line) {
                    self.urge(Ok(command));
                }
            }
            "PRIVMSG" => self.handle_said(Verb::Privmsg, line),
            "NOTICE" => self.handle_said(Verb::Notice, line),
            "JOIN" => self.handle_join(line, now),
            "BATCH" => {
                if let Some(ended) = self.batches.handle_line(line) {
                    self.handle_history_end(&ended);
                }
            }
            "ACK" => match self.batches.label(line) {
                Some(Label::Sent(label)) => self.sends.handle_answer(label, Ok(None)),
                Some(Label::Asked(number)) => self.handle_question_answered(number),
                None => {}
            },
            "FAIL" => self.handle_fail(line),
            "PART" => self.handle_gone(line.nick(), line.param(0), "made to leave", now),
            "KICK" => {
                let why = format!("kicked by {}: {}", line.nick(), line.param(2));
                self.handle_gone(line.param(1), line.param(0), &why, now);
            }
            "NICK" => {
                let map = self.isupport.casemapping;
                if self
                    .nick
                    .handle_change(line.nick(), line.param(0), now, map)
                {
                    let nick = line.param(0).to_owned();
                    self.events.push_back(Event::Renamed { nick });
                }
            }
            "QUIT" => self
                .nick
                .handle_gone(line.nick(), now, self.isupport.casemapping),
            "CHGHOST" if self.is_own(line.nick()) => self.mask.set(line.param(0), line.param(1)),
            "ERROR" => self.closing = Some(line.last_param().to_owned()),
            _ => {}
        }
    }

    pub(crate) fn handle_timeout(&mut self, now: Instant) {
        if self.is_registering() && self.register_by <= now {
            return self.lose(Farewell::silent("no registration within the time allowed"));
        }
        if self.sends.is_overdue(now)
            || (self.pinged && self.last_heard + PING_AFTER + PONG_WITHIN <= now)
        {
            return self.lose(Farewell::silent("the server does not answer"));
        }
        if !self.pinged && self.last_heard + PING_AFTER <= now {
            self.pinged = true;
            self.urge(Command::new("PING", [], Some(Trailing::new("still-there"))));
        }
        if self.phase != Phase::Ready {
            return;
        }
        self.sends.handle_timeout(now);
        let nicklen = self.isupport.nicklen;
        if let Some(nick) = self
            .nick
            .handle_timeout(now, nicklen)
            .and_then(Middle::parse)
        {
            self.urge(Command::new("NICK", [nick], None));
            self.sends.note_line(now);
        }
        for name in self.channels.handle_timeout(now) {
            self.not_joined(name, "the server does not answer the join".to_owned());
        }
        self.handle_history_timeout(now);
    }

    /// Returns when [`Session::handle_timeout`] wants to be called, if nothing else happens first.
    pub(crate) fn poll_timeout(&self) -> Option<Instant> {
        let watchdog = self.last_heard
            + PING_AFTER
            + if self.pinged {
                PONG_WITHIN
            } else {
                Duration::ZERO
            };
        let registration = self.is_registering().then_some(self.register_by);
        let later = match self.phase {
            Phase::Ready => [
                self.sends.next_timeout(self.channels.has_due()),
                self.nick.next_timeout(),
                self.channels.next_timeout(),
                self.next_history_timeout(),
            ],
            Phase::Over => return None,
            _ => [None; 4],
        };
        later
            .into_iter()
            .chain([Some(watchdog), registration])
            .flatten()
            .min()
    }

    /// Returns the next line to write. To be called when earlier ones are written, not before:
    /// a line that was returned counts as possibly sent.
    pub(crate) fn poll_transmit(&mut self, now: Instant) -> Option<Command> {
        if let Some(command) = self.urgent.pop_front() {
            return Some(command);
        }
        if self.phase != Phase::Ready {
            return None;
        }
        while self.sends.is_open(now)
            && let Some(name) = self.channels.take_due(now)
        {
            // A server may cut a name that is too long, and join us to another channel.
            if self
                .isupport
                .channellen
                .is_some_and(|limit| name.as_str().len() > limit)
            {
                self.handle_out(name.as_str(), "the name is too long for this server", now);
                continue;
            }
            self.sends.note_line(now);
            return Command::new("JOIN", [name.middle()], None).ok();
        }
        if self.sends.is_open(now)
            && let Some(question) = self.poll_question(now)
        {
            self.sends.note_line(now);
            return Some(question);
        }
        let others = self.channels.has_due() || self.has_question();
        let tagging = self.tagging();
        self.sends.poll_transmit(now, others, tagging)
    }

    pub(crate) fn poll_event(&mut self) -> Option<Event> {
        if let Some(event) = self.events.pop_front() {
            return Some(event);
        }
        self.sends.poll_event().map(Event::Send)
    }

    /// The server has taken in what we wrote when we could use channels: it works.
    pub(crate) fn is_proved(&self) -> bool {
        self.proved
    }

    /// Bytes of text that fit into one `verb` line to `channel`, as others receive it.
    pub(crate) fn text_budget(&self, verb: Verb, channel: &ChannelName) -> usize {
        // The 512 of RFC 2812 section 2.3 is the whole line as others receive it, and the server
        // puts our full mask in front when it passes the line on.
        let prefix = ":".len() + self.mask.longest(&self.nick, &self.isupport) + " ".len();
        let frame =
            verb.as_str().len() + " ".len() + channel.as_str().len() + " :".len() + "\r\n".len();
        self.isupport.linelen.saturating_sub(prefix + frame)
    }

    fn is_registering(&self) -> bool {
        matches!(self.phase, Phase::Registering | Phase::Welcomed)
    }

    fn note_received(&mut self, now: Instant) {
        self.received += 1;
        self.last_heard = now;
        self.pinged = false;
    }

    fn handle_pong(&mut self, line: &Line<'_>) {
        // Old servers pass a user's PONG on; only the server's own counts.
        if line
            .source
            .as_ref()
            .is_some_and(|source| source.user.is_some())
        {
            return;
        }
        let token = line.last_param();
        if token == READY_TOKEN {
            self.become_ready();
        } else if self.sends.handle_pong(token) || self.handle_joined_pong(token) {
            self.proved = true;
        }
    }

    /// Standard replies: a refusal in words for programs.
    fn handle_fail(&mut self, line: &Line<'_>) {
        let words = line.last_param();
        match self.batches.label(line) {
            Some(Label::Sent(label)) => {
                let complaint = Complaint::Forbidden(words.to_owned());
                self.sends.handle_answer(label, Err(complaint));
            }
            Some(Label::Asked(number)) => self.handle_question_failed(Some(number)),
            None if line.param(0).eq_ignore_ascii_case("CHATHISTORY") => {
                self.handle_question_failed(None);
            }
            None => {}
        }
    }

    fn tagging(&self) -> Tagging {
        let tags = self.caps.has("message-tags");
        let labels = self.caps.has("labeled-response") && self.caps.has("echo-message");
        Tagging {
            labels: tags && labels && self.caps.has("batch"),
            keys: tags && self.has_history(),
        }
    }

    fn handle_join(&mut self, line: &Line<'_>, now: Instant) {
        if !self.is_own(line.nick()) {
            return;
        }
        if let Some(source) = &line.source
            && let (Some(user), Some(host)) = (&source.user, &source.host)
        {
            self.mask.set(user, host);
        }
        match self
            .channels
            .handle_joined(line.param(0), now, self.isupport.casemapping)
        {
            Some(channel) => {
                let time = self.caps.has("server-time").then(|| line.tags.get("time"));
                let time = time.flatten().map(str::to_owned);
                self.events.push_back(Event::Joined { channel, time });
            }
            // Forwarded, or made to join by an operator: nobody asked for this channel.
            None => {
                if let Some(channel) = Middle::parse(line.param(0)) {
                    self.urge(Command::new("PART", [channel], None));
                }
            }
        }
    }

    /// Somebody is no longer in a channel; matters if it is us.
    fn handle_gone(&mut self, who: &str, channel: &str, why: &str, now: Instant) {
        if self.is_own(who) {
            self.handle_out(channel, why, now);
        }
    }

    fn handle_out(&mut self, channel: &str, why: &str, now: Instant) {
        if let Some(name) = self
            .channels
            .handle_out(channel, now, self.isupport.casemapping)
        {
            self.not_joined(name, why.to_owned());
        }
    }

    fn not_joined(&mut self, name: ChannelName, why: String) {
        self.forget_history(&name);
        self.sends.drop_channel(&name);
        self.events.push_back(Event::NotJoined(name, why));
    }

    fn is_own(&self, nick: &str) -> bool {
        self.nick.is_own(nick, self.isupport.casemapping)
    }

    fn lose(&mut self, farewell: Farewell) {
        if self.phase != Phase::Over {
            self.phase = Phase::Over;
            self.sends.handle_end();
            self.events.push_back(Event::Lost(farewell));
        }
    }

    /// Queues a line that waits for nothing. One that would be too long (a PONG with somebody's
    /// endless token) is left out: the server would not take it either.
    fn urge(&mut self, command: Result<Command, LineTooLong>) {
        if self.urgent.len() >= MAX_URGENT {
            return self.lose(Farewell::silent("the server does not read"));
        }
        self.urgent.extend(command.ok());
    }
}

fn is_message(line: &Line<'_>) -> bool {
    matches!(&*line.command, "PRIVMSG" | "NOTICE" | "BATCH")
}

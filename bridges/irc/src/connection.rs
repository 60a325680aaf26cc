//! One connection: socket, timers and requests around a session. Never stops reading, whatever
//! else is slow.

use std::{
    collections::BTreeSet,
    io,
    sync::Arc,
    time::{Duration, Instant},
};

use comity_bridge::{
    BridgeError, Channel, ChannelState, Delivery, Gap, NetworkStatus, Request, failpoint,
};
use futures_util::StreamExt;
use tokio::time::sleep_until;
use tokio_util::codec::{Decoder, FramedRead};
use tracing::{debug, info, trace, warn};
use ulid::Ulid;

use crate::{
    bridge::{Driver, Stream, unknown_channel},
    config::Config,
    deliveries::Planned,
    ident::ChannelName,
    memory::Mark,
    outbound::{self, Limits, Notes},
    session::{Event, Farewell, Heard, Missing, Session, Settings, Since, Verb},
    wire::{Codec, Frame, Line},
    writer::Writer,
};

/// How long goodbye may take: the fence of the last window, then the server's own end.
const GOODBYE_WITHIN: Duration = Duration::from_secs(1);

/// How long to read on when nothing can be written any more: what the server said before it went is on its way.
const READ_ON_FOR: Duration = Duration::from_secs(10);

/// Lines are taken from the session until so many bytes wait to be written.
const WRITE_AHEAD: usize = 16 * 1024;

/// Bytes that are read at once.
const READ_AHEAD: usize = 64 * 1024;

/// Lines and requests that are handled in one go, before anything else has its turn.
const IN_ONE_GO: usize = 256;

/// How a connection ended.
pub(crate) enum End {
    /// The gateway wanted it.
    Stopped,
    Lost {
        farewell: Farewell,
        /// How long channels could be used, if the server has done anything for us.
        online_for: Option<Duration>,
    },
}

struct Conversation {
    session: Session,
    /// This connection's name: with a line's number, an id for ever.
    epoch: Arc<str>,
    online_since: Option<Instant>,
    goodbye_by: Option<Instant>,
    /// Why nothing can be written, and until when to read what is left.
    unwritable: Option<(io::Error, Instant)>,
    lost: Option<Farewell>,
    /// Channels that we have been in on this connection.
    entered: BTreeSet<ChannelName>,
    /// We are wherever we were on the connection before, or know that we are not.
    settled: bool,
}

impl Driver {
    /// Speaks with a server until either side has enough.
    pub(crate) async fn converse(&mut self, stream: Box<dyn Stream>) -> Result<End, BridgeError> {
        let (reader, writer) = tokio::io::split(stream);
        let mut reader = FramedRead::with_capacity(reader, Codec::default(), READ_AHEAD);
        let mut writer = Writer::new(writer, self.config.tls.is_some());
        let settings = Settings {
            identity: self.config.identity.clone(),
            burst_lines: self.config.burst_lines,
            min_line_interval: self.config.min_line_interval,
            former_nicks: self.memory.nicks().to_vec(),
        };
        let session = Session::new(settings, Instant::now());
        let mut talk = Conversation {
            session: session.map_err(|error| BridgeError::Local(error.to_string()))?,
            epoch: Ulid::new().to_string().into(),
            online_since: None,
            goodbye_by: None,
            unwritable: None,
            lost: None,
            entered: BTreeSet::new(),
            settled: false,
        };
        self.memory.begin_connection();
        for name in self.channels.keys() {
            talk.session.join(name);
        }
        loop {
            let writable = talk.unwritable.is_none();
            if writable && writer.is_idle() {
                let now = Instant::now();
                while writer.waiting() < WRITE_AHEAD
                    && let Some(command) = talk.session.poll_transmit(now)
                {
                    trace!(network = %self.network, verb = command.verb(), "sends");
                    writer.push(&command);
                }
            }
            self.handle_events(&mut talk);
            if let Some(farewell) = talk.lost.take() {
                let proved = talk.online_since.filter(|_| talk.session.is_proved());
                let online_for = proved.map(|since| since.elapsed());
                return Ok(match talk.goodbye_by {
                    Some(_) if !self.overfull => End::Stopped,
                    _ => End::Lost {
                        farewell,
                        online_for,
                    },
                });
            }
            self.intake.end_gaps(self.clock.now());
            self.forget_unclaimed(Instant::now());
            self.intake.begin(&mut self.memory);
            let read_until = talk.unwritable.as_ref().map(|(_, until)| *until);
            let timers = [talk.session.poll_timeout(), talk.goodbye_by, read_until];
            let timer = timers.into_iter().flatten().min();
            tokio::select! {
                frame = reader.next() => {
                    failpoint::reached("irc.read");
                    self.handle_frame(frame, &mut talk);
                    // What came with it costs no wake-up of its own.
                    for _ in 0..IN_ONE_GO {
                        // An error of the stream comes again with the next read.
                        match next_in_buffer(&mut reader) {
                            Some(frame) => self.handle_frame(Some(Ok(frame)), &mut talk),
                            None => break,
                        }
                    }
                    if talk.settled {
                        self.memory.note_present(self.clock.now());
                        self.intake.note_present(&mut self.memory);
                    }
                }
                result = writer.progress(), if writable && !writer.is_idle() => {
                    if let Err(error) = result {
                        // What proves our last lines, and what was said last, may be here and not read yet.
                        talk.unwritable = Some((error, Instant::now() + READ_ON_FOR));
                    }
                }
                () = sleep_until(timer.unwrap_or_else(Instant::now).into()), if timer.is_some() => {
                    let now = Instant::now();
                    talk.session.handle_timeout(now);
                    if talk.goodbye_by.is_some_and(|by| by <= now) {
                        talk.session.handle_end("the server took too long over our goodbye");
                    }
                    if let Some((error, _)) = talk.unwritable.as_ref().filter(|(_, until)| *until <= now) {
                        talk.session.handle_end(&error.to_string());
                    }
                }
                request = self.requests.recv(), if talk.goodbye_by.is_none() => {
                    let mut request = request;
                    for _ in 0..IN_ONE_GO {
                        match request {
                            Some(request) => self.handle_request(request, &mut talk),
                            None => self.shutdown.cancel(),
                        }
                        request = match self.requests.try_recv() {
                            Ok(next) => Some(next),
                            Err(_) => break,
                        };
                    }
                }
                planned = self.deliveries.planned() => self.send(planned, &mut talk.session),
                () = self.intake.progress() => {}
                () = self.shutdown.cancelled(), if talk.goodbye_by.is_none() => {
                    self.say_goodbye(&mut talk, "the bridge stops");
                }
            }
        }
    }

    fn say_goodbye(&mut self, talk: &mut Conversation, words: &str) {
        let now = Instant::now();
        talk.session.quit(words, now);
        self.deliveries.bar_all(self.channels.keys());
        talk.goodbye_by = Some(now + GOODBYE_WITHIN);
    }

    fn handle_frame(&mut self, frame: Option<Result<Frame, io::Error>>, talk: &mut Conversation) {
        let now = Instant::now();
        let session = &mut talk.session;
        match frame {
            Some(Ok(Frame::Line(bytes))) => match Line::parse(&bytes) {
                Ok(line) => session.handle_line(&line, now),
                Err(error) => {
                    session.handle_bad_line(now);
                    self.reports
                        .skip("malformed", format!("{} bytes: {error}", bytes.len()));
                }
            },
            Some(Ok(Frame::TooLong)) => {
                session.handle_bad_line(now);
                self.reports
                    .skip("oversized", "a line longer than IRC allows");
            }
            Some(Err(error)) => session.handle_end(&error.to_string()),
            None => session.handle_end("the server closed the connection"),
        }
        self.handle_events(talk);
    }

    /// Passes on what the session has to say.
    fn handle_events(&mut self, talk: &mut Conversation) {
        while let Some(event) = talk.session.poll_event() {
            match event {
                Event::Registered { nick } => {
                    self.memory.note_nick(&nick);
                    if nick == self.config.identity.nick {
                        info!(network = %self.network, nick, "registered");
                    } else {
                        warn!(network = %self.network, nick, wished = self.config.identity.nick, "registered under another nick");
                    }
                }
                Event::Renamed { nick } => self.memory.note_nick(&nick),
                Event::Ready => {
                    talk.online_since = Some(Instant::now());
                    self.reports.network(NetworkStatus::Online);
                }
                Event::Joined { channel, time } => self.handle_joined(&channel, time, talk),
                Event::StillIn(name) => self.tell_state(&name, ChannelState::Joined),
                Event::NotJoined(name, why) => self.handle_not_joined(&name, why, talk),
                Event::Heard(heard) => self.handle_heard(heard, talk),
                Event::CaughtUp { channel, missing } => self.handle_caught_up(&channel, missing),
                Event::LookedBack(name, found) => {
                    let config = &self.config;
                    let limits = |session: &Session, verb| limits(config, session, &name, verb);
                    self.deliveries
                        .handle_looked_back(&name, found, limits, &mut talk.session);
                }
                Event::Skipped { reason, detail } => self.reports.skip(reason, detail),
                Event::Send(event) => self.deliveries.handle_event(event),
                Event::Lost(farewell) => talk.lost = Some(farewell),
            }
        }
    }

    /// We are in. What was said there since we were last is missing.
    fn handle_joined(&mut self, name: &ChannelName, time: Option<String>, talk: &mut Conversation) {
        let Some(channel) = self.channels.get(name).cloned() else {
            return;
        };
        let now = self.clock.now();
        match self.known(&channel) {
            Some(mark) => {
                let since = mark.since;
                let from = self.memory.last_heard(&channel).unwrap_or(now);
                self.missing.insert(
                    name.clone(),
                    Gap {
                        channel,
                        from,
                        until: now,
                    },
                );
                talk.session.catch_up(name, since, Instant::now());
            }
            None => {
                let since = Since { time, msgid: None };
                let mark = Mark {
                    at: now,
                    inside: true,
                    since,
                };
                self.intake.mark(&channel, Some(mark));
            }
        }
        talk.entered.insert(name.clone());
        self.settle(talk);
        self.tell_state(name, ChannelState::Joined);
    }

    /// Finds out whether we are wherever we were before. Until then the time at which we were last there stands still.
    fn settle(&self, talk: &mut Conversation) {
        talk.settled = self.channels.iter().all(|(name, channel)| {
            talk.entered.contains(name) || self.known(channel).is_none_or(|mark| !mark.inside)
        });
    }

    /// How far a channel is heard, with what waits for the journal.
    fn known(&self, channel: &Channel) -> Option<Mark> {
        let waiting = self.intake.last_mark(channel);
        waiting.or_else(|| self.memory.mark(channel).cloned())
    }

    /// What the server keeps of it is told; the rest is a gap.
    fn handle_caught_up(&mut self, name: &ChannelName, missing: Missing) {
        let Some(mut gap) = self.missing.remove(name) else {
            return;
        };
        let channel = gap.channel.clone();
        // Nothing but the time has changed, unless lines have.
        let since = self.known(&channel).unwrap_or_default().since;
        if missing == Missing::UntilNow {
            gap.until = self.clock.now();
        }
        if missing != Missing::Nothing {
            gap.from = gap.from.min(gap.until);
            self.intake.gap(gap);
        }
        let mark = Mark {
            at: self.clock.now(),
            inside: true,
            since,
        };
        self.intake.mark(&channel, Some(mark));
    }

    fn handle_not_joined(&mut self, name: &ChannelName, why: String, talk: &mut Conversation) {
        warn!(network = %self.network, channel = %name, why, "not in the channel");
        self.deliveries.bar(name);
        let was_in = talk.entered.remove(name);
        if let Some(channel) = self.channels.get(name)
            && let Some(mark) = self.known(channel).filter(|mark| mark.inside)
        {
            // Of one that we never came into, what is missing began with the connection before.
            let unheard = self.missing.remove(name).map(|gap| gap.from);
            let at = match was_in {
                true => unheard.unwrap_or_else(|| self.clock.now()),
                false => self.memory.last_heard(channel).unwrap_or(mark.at),
            };
            let mark = Mark {
                at,
                inside: false,
                ..mark
            };
            self.intake.mark(channel, Some(mark));
        }
        self.settle(talk);
        self.tell_state(name, ChannelState::NotJoined { why });
    }

    fn handle_heard(&mut self, heard: Box<Heard>, talk: &mut Conversation) {
        let Some(channel) = self.channels.get(&heard.channel) else {
            return;
        };
        if self.intake.is_full() {
            let keeps = talk.session.has_history() && heard.msgid.is_some();
            if !keeps {
                return self.intake.throw_away(channel, self.clock.now());
            }
            // The server keeps it: it is fetched when there is room again.
            if !std::mem::replace(&mut self.overfull, true) {
                warn!(network = %self.network, "too much waits for the journal: leaves until it is taken");
                self.say_goodbye(talk, "back when there is room");
            }
            return;
        }
        if self.overfull {
            return;
        }
        let now = self.clock.now();
        self.intake.add(heard, channel.clone(), &talk.epoch, now);
    }

    fn tell_state(&self, name: &ChannelName, state: ChannelState) {
        if let Some(channel) = self.channels.get(name) {
            debug!(network = %self.network, channel = %name, state = ?state, "channel");
            self.reports.channel(channel, state);
        }
    }

    fn handle_request(&mut self, request: Request, talk: &mut Conversation) {
        let session = &mut talk.session;
        match request {
            Request::Join(channel, _) => {
                if let Some(name) = self.want(channel) {
                    session.join(&name);
                    self.settle(talk);
                }
            }
            Request::Leave(channel) => {
                let name = self
                    .channels
                    .iter()
                    .find(|(_, known)| **known == channel)
                    .map(|(name, _)| name.clone());
                if let Some(name) = name {
                    self.channels.remove(&name);
                    self.missing.remove(&name);
                    self.intake.mark(&channel, None);
                    self.deliveries.bar(&name);
                    session.leave(&name);
                }
            }
            Request::Deliver(delivery) => self.take(delivery, session),
            Request::Cancel(key) => self.deliveries.cancel(key, Some(session)),
        }
    }

    fn take(&mut self, delivery: Delivery, session: &mut Session) {
        let channel = &delivery.key.channel;
        let Some((name, _)) = self.channels.iter().find(|(_, known)| *known == channel) else {
            let outcome = unknown_channel(channel);
            return delivery.receipts.finish(outcome);
        };
        let limits = limits(&self.config, session, name, outbound::verb(&delivery.event));
        let notes = Notes {
            late: delivery.late.map(|written| (written, self.clock.now())),
            ..Notes::default()
        };
        let name = name.clone();
        if let Some(planned) = self.deliveries.take(delivery, name, limits, notes) {
            self.deliveries.send(planned, limits, session);
        }
    }

    fn send(&mut self, planned: Planned, session: &mut Session) {
        let limits = limits(&self.config, session, &planned.channel, planned.verb());
        self.deliveries.send(planned, limits, session);
    }
}

fn limits(config: &Config, session: &Session, channel: &ChannelName, verb: Verb) -> Limits {
    let budget = session.text_budget(verb, channel);
    Limits {
        line_bytes: config
            .max_text_bytes
            .map_or(budget, |limit| limit.min(budget)),
        lines: config.max_lines.get(),
    }
}

/// Returns the next line that is read already.
fn next_in_buffer<T>(reader: &mut FramedRead<T, Codec>) -> Option<Frame> {
    let mut buffer = std::mem::take(reader.read_buffer_mut());
    let frame = reader.decoder_mut().decode(&mut buffer);
    *reader.read_buffer_mut() = buffer;
    frame.ok().flatten()
}

//! One connection: socket, timers and requests around a session. Never stops reading, whatever
//! else is slow.

use std::{
    io,
    time::{Duration, Instant},
};

use bytes::{Buf, BytesMut};
use comity_bridge::{BridgeError, ChannelState, NetworkStatus, Request};
use futures_util::StreamExt;
use tokio::{
    io::{AsyncWrite, AsyncWriteExt, WriteHalf},
    time::sleep_until,
};
use tokio_util::codec::FramedRead;
use tracing::{debug, info, trace, warn};
use ulid::Ulid;

use crate::{
    bridge::{Driver, Stream, unknown_channel},
    ident::ChannelName,
    inbound,
    outbound::{self, Limits},
    session::{Event, Farewell, Session, Settings, Verb},
    wire::{Codec, Frame, Line},
};

/// How long goodbye may take: the fence of the last window, then the server's own end.
const GOODBYE_WITHIN: Duration = Duration::from_secs(1);

/// Lines are taken from the session until so many bytes wait to be written.
const WRITE_AHEAD: usize = 4096;

/// How a connection ended.
pub(crate) enum End {
    /// The gateway wanted it.
    Stopped,
    Lost {
        farewell: Farewell,
        /// How long channels could be used, if they ever could.
        online_for: Option<Duration>,
    },
}

struct Conversation {
    session: Session,
    /// This connection's name: with a line's number, an id for ever.
    epoch: String,
    online_since: Option<Instant>,
    goodbye_by: Option<Instant>,
}

impl Driver {
    /// Speaks with a server until either side has enough.
    pub(crate) async fn converse(&mut self, stream: Box<dyn Stream>) -> Result<End, BridgeError> {
        let (reader, writer) = tokio::io::split(stream);
        let mut reader = FramedRead::new(reader, Codec::default());
        let mut writer = Writer {
            half: writer,
            buffer: BytesMut::new(),
            unflushed: false,
        };
        let settings = Settings {
            identity: self.config.identity.clone(),
            burst_lines: self.config.burst_lines,
            min_line_interval: self.config.min_line_interval,
        };
        let session = Session::new(settings, Instant::now());
        let mut talk = Conversation {
            session: session.map_err(|error| BridgeError::Local(error.to_string()))?,
            epoch: Ulid::new().to_string(),
            online_since: None,
            goodbye_by: None,
        };
        for name in self.channels.keys() {
            talk.session.join(name);
        }
        loop {
            if writer.is_idle() {
                let now = Instant::now();
                while writer.buffer.len() < WRITE_AHEAD
                    && let Some(command) = talk.session.poll_transmit(now)
                {
                    trace!(network = %self.network, verb = command.verb(), "sends");
                    command.write_to(&mut writer.buffer);
                }
            }
            if let Some(farewell) = self.handle_events(&mut talk) {
                let online_for = talk.online_since.map(|since| since.elapsed());
                return Ok(match talk.goodbye_by {
                    Some(_) => End::Stopped,
                    None => End::Lost {
                        farewell,
                        online_for,
                    },
                });
            }
            let timer = talk
                .session
                .poll_timeout()
                .into_iter()
                .chain(talk.goodbye_by)
                .min();
            tokio::select! {
                frame = reader.next() => self.handle_frame(frame, &mut talk.session),
                result = writer.progress(), if !writer.is_idle() => {
                    if let Err(error) = result {
                        talk.session.handle_end(&error.to_string());
                    }
                }
                () = sleep_until(timer.unwrap_or_else(Instant::now).into()), if timer.is_some() => {
                    let now = Instant::now();
                    talk.session.handle_timeout(now);
                    if talk.goodbye_by.is_some_and(|by| by <= now) {
                        talk.session.handle_end("the server took too long over our goodbye");
                    }
                }
                request = self.requests.recv(), if talk.goodbye_by.is_none() => match request {
                    Some(request) => self.handle_request(request, &mut talk.session),
                    None => self.shutdown.cancel(),
                },
                planned = self.deliveries.planned() => {
                    let limits = self.limits(&talk.session, &planned.channel, planned.verb());
                    self.deliveries.send(planned, limits, &mut talk.session);
                }
                () = self.intake.progress() => {}
                () = self.shutdown.cancelled(), if talk.goodbye_by.is_none() => {
                    let now = Instant::now();
                    talk.session.quit("the bridge stops", now);
                    self.deliveries.bar_all(self.channels.keys());
                    talk.goodbye_by = Some(now + GOODBYE_WITHIN);
                }
            }
        }
    }

    fn handle_frame(&mut self, frame: Option<Result<Frame, io::Error>>, session: &mut Session) {
        let now = Instant::now();
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
    }

    /// Passes on what the session has to say. Returns why, when the connection is over.
    fn handle_events(&mut self, talk: &mut Conversation) -> Option<Farewell> {
        let mut lost = None;
        while let Some(event) = talk.session.poll_event() {
            match event {
                Event::Registered { nick } if nick == self.config.identity.nick => {
                    info!(network = %self.network, nick, "registered");
                }
                Event::Registered { nick } => {
                    warn!(network = %self.network, nick, wished = self.config.identity.nick, "registered under another nick");
                }
                Event::Ready => {
                    talk.online_since = Some(Instant::now());
                    self.reports.network(NetworkStatus::Online);
                }
                Event::Joined(name) => self.tell_state(&name, ChannelState::Joined),
                Event::NotJoined(name, why) => {
                    warn!(network = %self.network, channel = %name, why, "not in the channel");
                    self.deliveries.bar(&name);
                    self.tell_state(&name, ChannelState::NotJoined { why });
                }
                Event::Heard(heard) => {
                    let Some(channel) = self.channels.get(&heard.channel) else {
                        continue;
                    };
                    match inbound::report(&heard, channel.clone(), &talk.epoch) {
                        Ok(incoming) => self.intake.add(incoming),
                        Err(reason) => self
                            .reports
                            .skip(reason, format!("from {} in {channel}", heard.nick)),
                    }
                }
                Event::Skipped { reason, detail } => self.reports.skip(reason, detail),
                Event::Send(event) => self.deliveries.handle_event(event),
                Event::Lost(farewell) => lost = Some(farewell),
            }
        }
        lost
    }

    fn tell_state(&self, name: &ChannelName, state: ChannelState) {
        if let Some(channel) = self.channels.get(name) {
            debug!(network = %self.network, channel = %name, state = ?state, "channel");
            self.reports.channel(channel, state);
        }
    }

    fn handle_request(&mut self, request: Request, session: &mut Session) {
        match request {
            Request::Join(channel, _) => {
                if let Some(name) = self.want(channel) {
                    session.join(&name);
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
                    self.deliveries.bar(&name);
                    session.leave(&name);
                }
            }
            Request::Deliver(delivery) => {
                let channel = &delivery.key.channel;
                match self.channels.iter().find(|(_, known)| *known == channel) {
                    Some((name, _)) => {
                        let name = name.clone();
                        let limits = self.limits(session, &name, outbound::verb(&delivery.event));
                        self.deliveries.take(delivery, name, limits);
                    }
                    None => {
                        let outcome = unknown_channel(channel);
                        delivery.receipts.finish(outcome);
                    }
                }
            }
            Request::Cancel(key) => self.deliveries.cancel(key, Some(session)),
        }
    }

    fn limits(&self, session: &Session, channel: &ChannelName, verb: Verb) -> Limits {
        let budget = session.text_budget(verb, channel);
        Limits {
            line_bytes: self
                .config
                .max_text_bytes
                .map_or(budget, |limit| limit.min(budget)),
            lines: self.config.max_lines.get(),
        }
    }
}

/// Writes what is in its buffer line by line, then flushes: TLS keeps back what a full socket did
/// not take.
struct Writer<T> {
    half: WriteHalf<T>,
    buffer: BytesMut,
    unflushed: bool,
}

impl<T: AsyncWrite> Writer<T> {
    fn is_idle(&self) -> bool {
        self.buffer.is_empty() && !self.unflushed
    }

    /// Makes one step. Can be dropped and called again at any time.
    async fn progress(&mut self) -> io::Result<()> {
        if self.buffer.is_empty() {
            self.half.flush().await?;
            self.unflushed = false;
            return Ok(());
        }
        self.unflushed = true;
        // One line, one TLS record: ngircd 26.1 takes 2,048 bytes out of a record and leaves the
        // rest in there until something else arrives, which, behind a fence, would be nothing.
        let line = self
            .buffer
            .iter()
            .position(|&byte| byte == b'\n')
            .map_or(self.buffer.len(), |end| end + 1);
        match self
            .half
            .write(self.buffer.get(..line).unwrap_or_default())
            .await?
        {
            0 => Err(io::ErrorKind::WriteZero.into()),
            written => {
                self.buffer.advance(written);
                Ok(())
            }
        }
    }
}

//! Transcripts. Every line of the client and every event must be named, in order:
//!
//! ```text
//! S: a line of the server          C: the next line of the client
//! E: the next event                J: a channel to join       L: one to leave
//! P: 7 #a one|two                  submission 7 of two parts  U: 7 cancels it
//! M: #a m1 time   what was missed since then is fetched        B: #a time   ours are looked for
//! +10                              ten seconds pass           Q: quit    X: the connection ends
//! ```

mod channels;
mod delivery;
mod history;
mod registration;

use std::time::{Duration, Instant};

use bytes::BytesMut;

use comity_bridge::EventId;

use super::*;
use crate::outbound::LineKey;
use crate::wire::{Line, Middle, Trailing};

pub(super) struct Play {
    pub(super) session: Session,
    now: Instant,
}

impl Play {
    pub(super) fn new(burst_lines: usize) -> Self {
        Self::with_interval(burst_lines, Duration::ZERO)
    }

    pub(super) fn with_interval(burst_lines: usize, min_line_interval: Duration) -> Self {
        let now = Instant::now();
        let identity = Identity {
            nick: "comity".to_owned(),
            username: Middle::parse("comity").expect("no space"),
            realname: Trailing::new("Comity"),
            password: None,
        };
        let settings = Settings {
            identity,
            burst_lines,
            min_line_interval,
            former_nicks: Vec::new(),
        };
        Self {
            session: Session::new(settings, now).expect("short lines"),
            now,
        }
    }

    /// A session that is registered and in `#a`.
    pub(super) fn in_a(burst_lines: usize) -> Self {
        let mut play = Self::new(burst_lines);
        play.run(
            "C: CAP LS 302
             C: NICK comity
             C: USER comity 0 * :Comity
             S: :srv 421 * CAP :Unknown command
             S: :srv 001 comity :Welcome
             E: registered comity
             C: PING :ready
             S: :srv 422 comity :No MOTD
             E: ready
             J: #a
             C: JOIN #a
             C: PING :fence-1
             S: :comity!~c@host.example JOIN #a
             E: joined #a
             S: :srv PONG srv :fence-1",
        );
        play
    }

    pub(super) fn run(&mut self, script: &str) {
        for step in script
            .lines()
            .map(str::trim)
            .filter(|step| !step.is_empty())
        {
            self.step(step);
        }
        self.nothing_left("the end");
    }

    fn step(&mut self, step: &str) {
        if let Some(seconds) = step.strip_prefix('+') {
            self.nothing_left(step);
            self.now += Duration::from_secs(seconds.parse().expect("seconds"));
            return self.session.handle_timeout(self.now);
        }
        let (kind, text) = step.split_once(':').expect("a step");
        let text = text.strip_prefix(' ').unwrap_or(text);
        if !matches!(kind, "C" | "E" | "P" | "J" | "M" | "B") {
            self.nothing_left(step);
        }
        match kind {
            "S" => {
                let line = Line::parse(text.as_bytes()).expect("a line");
                self.session.handle_line(&line, self.now);
            }
            "C" => assert_eq!(self.transmit().as_deref(), Some(text), "the client's line"),
            "E" => assert_eq!(
                self.session.poll_event().map(|e| told(&e)).as_deref(),
                Some(text),
                "the event"
            ),
            "J" => self.session.join(&channel(text)),
            "L" => self.session.leave(&channel(text)),
            "M" => {
                let mut words = text.split(' ');
                let name = channel(words.next().expect("a channel"));
                let mut known = || words.next().filter(|word| *word != "-").map(str::to_owned);
                let (msgid, time) = (known(), known());
                self.session
                    .catch_up(&name, Since { msgid, time }, self.now);
            }
            "B" => {
                let (name, until) = text.split_once(' ').expect("a time");
                self.session.look_back(&channel(name), until.to_owned());
            }
            "P" => self.submit(text),
            "U" => self.session.cancel(SendId(text.parse().expect("a number"))),
            "Q" => self.session.quit(text, self.now),
            "X" => self.session.handle_end(text),
            other => panic!("no step is called {other}"),
        }
    }

    fn submit(&mut self, text: &str) {
        let (id, rest) = text.split_once(' ').expect("an id");
        let (name, parts) = rest.split_once(' ').unwrap_or((rest, ""));
        let name = channel(name);
        let line = |(part, text): (usize, &str)| SendLine {
            command: Command::new("PRIVMSG", [name.middle()], Some(Trailing::new(text)))
                .expect("short"),
            completes: u32::try_from(part).ok(),
            key: LineKey {
                event: EventId::from_bytes([0; 16]),
                part: u32::try_from(part).expect("few"),
                piece: 0,
            },
        };
        let lines = parts
            .split('|')
            .filter(|part| !part.is_empty())
            .enumerate()
            .map(line)
            .collect();
        let id = SendId(id.parse().expect("a number"));
        self.session.submit(Submission {
            id,
            channel: name.clone(),
            lines,
        });
    }

    fn nothing_left(&mut self, before: &str) {
        assert_eq!(
            self.transmit(),
            None,
            "an unexpected line of the client before {before:?}"
        );
        let event = self.session.poll_event().map(|e| told(&e));
        assert_eq!(event, None, "an unexpected event before {before:?}");
    }

    fn transmit(&mut self) -> Option<String> {
        let command = self.session.poll_transmit(self.now)?;
        let mut out = BytesMut::new();
        command.write_to(&mut out);
        let text = String::from_utf8(out.to_vec()).expect("we write UTF-8");
        Some(text.strip_suffix("\r\n").expect("a line end").to_owned())
    }
}

fn channel(name: &str) -> ChannelName {
    ChannelName::parse(name).expect("a channel name")
}

fn told(event: &Event) -> String {
    match event {
        Event::Registered { nick } => format!("registered {nick}"),
        Event::Renamed { nick } => format!("renamed {nick}"),
        Event::StillIn(name) => format!("joined {name}"),
        Event::Ready => "ready".to_owned(),
        Event::Joined { channel, .. } => format!("joined {channel}"),
        Event::NotJoined(name, why) => format!("not joined {name}: {why}"),
        Event::Heard(heard) => format!(
            "heard {} {} {}: {}",
            heard.channel,
            heard.verb.as_str(),
            heard.nick,
            heard.text
        ),
        Event::Skipped { reason, .. } => format!("skipped {reason}"),
        Event::CaughtUp { channel, missing } => match missing {
            Missing::Nothing => format!("caught up {channel}"),
            Missing::UntilJoined => format!("caught up {channel} with a gap"),
            Missing::UntilNow => format!("caught up {channel} with a gap until now"),
        },
        Event::LookedBack(name, None) => format!("looked back {name}: unknown"),
        Event::LookedBack(name, Some(found)) => {
            let texts: Vec<&str> = found.iter().map(|own| own.text.as_str()).collect();
            format!("looked back {name}: {}", texts.join("|"))
        }
        Event::Send(SendEvent::Part(id, part, ids)) if ids.is_empty() => {
            format!("part {} {part}", id.0)
        }
        Event::Send(SendEvent::Part(id, part, ids)) => {
            format!("part {} {part} {}", id.0, ids.join(" "))
        }
        Event::Send(SendEvent::Done(id, fate)) => format!("done {} {fate:?}", id.0),
        Event::Lost(farewell) => format!("lost {:?}: {}", farewell.kind, farewell.why),
    }
}

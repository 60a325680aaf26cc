//! Judges conversations in which people change what they have said: edits, taking back, reactions.
//!
//! Each [`Screen`] is one channel as a client there shows it, own people and gateway alike, so that the screens alone tell what was done
//! and what came of it elsewhere. Only the end counts, and the way there in three things: a change never comes before the message that it
//! changes, it is put on that message and no other, and nothing appears twice.

use std::collections::{BTreeMap, HashMap, HashSet};

use serde::{Deserialize, Serialize};

use super::{Fault, token_in};

/// One channel, in the order in which its client showed things.
#[derive(Clone, Debug)]
pub struct Screen {
    /// `network/#channel`.
    pub channel: String,
    /// Whether messages can be changed here. Where they cannot, a new text comes as a new message and nothing else comes at all.
    pub changes: bool,
    /// What appeared.
    pub lines: Vec<Appeared>,
}

/// One thing that appeared in a channel.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct Appeared {
    /// What the network calls it.
    pub id: String,
    /// Who did it, as shown.
    pub by: String,
    /// One of the channel's own people did it, rather than the gateway for somebody elsewhere.
    pub own: bool,
    /// What it is.
    pub what: What,
}

/// Kinds of things that appear. Texts carry a token that no other text has; `of` is the id of an earlier message here.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum What {
    /// Somebody says something.
    Message {
        /// The words.
        text: String,
    },
    /// A message has a new text.
    Edit {
        /// Which.
        of: String,
        /// The words.
        text: String,
    },
    /// A message is taken back.
    Redact {
        /// Which.
        of: String,
    },
    /// A reaction is put on a message or taken off.
    Reaction {
        /// Which.
        of: String,
        /// The reaction.
        emoji: String,
        /// Put on.
        on: bool,
    },
    /// The gateway speaks for itself, to this channel alone.
    Notice {
        /// The words.
        text: String,
    },
}

/// What people did, told from what their own channels show.
#[derive(Clone, Debug, Default)]
pub struct Deeds {
    run: String,
    /// In the order of each channel.
    messages: Vec<Deed>,
    /// Every token to its message.
    by_token: HashMap<String, usize>,
    /// Whether a reaction is on in the end: message, who, which.
    reactions: BTreeMap<(usize, String, String), bool>,
    /// How many edits, how many messages taken back, how many reactions put on or taken off.
    counts: [usize; 3],
}

/// One message, and what became of it in the end.
#[derive(Clone, Debug)]
pub struct Deed {
    /// Where it was said.
    pub channel: String,
    /// Its tokens: as it was first said, then those of its edits.
    pub tokens: Vec<String>,
    /// Its texts, likewise.
    texts: Vec<String>,
    /// It was taken back.
    pub redacted: bool,
}

impl Deed {
    fn token(&self) -> String {
        self.tokens[0].clone()
    }
}

impl Deeds {
    /// What people did in these channels in the run called `run`.
    pub fn of(run: &str, screens: &[Screen]) -> Deeds {
        let mut deeds = Deeds {
            run: run.to_owned(),
            ..Deeds::default()
        };
        for screen in screens {
            deeds.say(screen);
        }
        for screen in screens {
            deeds.take_back_and_react(screen);
        }
        deeds
    }

    /// The messages.
    pub fn messages(&self) -> &[Deed] {
        &self.messages
    }

    /// How many things were done.
    pub fn count(&self) -> usize {
        self.messages.len() + self.counts.iter().sum::<usize>()
    }

    /// How much was done, in words.
    pub fn counted(&self) -> String {
        let [edits, redactions, reactions] = self.counts;
        let messages = self.messages.len();
        format!(
            "{messages} messages, {edits} edits, {redactions} taken back, {reactions} reactions"
        )
    }

    /// Every fault on these screens. What is `exempt` at a channel, because it refused a text of it, may be anything there.
    pub fn check(&self, screens: &[Screen], exempt: impl Fn(&str, &Deed) -> bool) -> Vec<Fault> {
        let mut faults = Vec::new();
        for screen in screens {
            let exempt = |deed: &Deed| exempt(&screen.channel, deed);
            let mut client = Client::new(self, screen, &exempt, &mut faults);
            for line in &screen.lines {
                client.show(line);
            }
            client.judge();
        }
        faults
    }

    fn say(&mut self, screen: &Screen) {
        let mut ids: HashMap<&str, usize> = HashMap::new();
        for line in screen.lines.iter().filter(|line| line.own) {
            match &line.what {
                What::Message { text } => {
                    let Some(token) = token_in(text, &self.run) else {
                        continue;
                    };
                    ids.insert(&line.id, self.messages.len());
                    self.by_token.insert(token.clone(), self.messages.len());
                    self.messages.push(Deed {
                        channel: screen.channel.clone(),
                        tokens: vec![token],
                        texts: vec![text.clone()],
                        redacted: false,
                    });
                }
                What::Edit { of, text } => {
                    let token = token_in(text, &self.run);
                    if let (Some(&index), Some(token)) = (ids.get(&**of), token) {
                        self.by_token.insert(token.clone(), index);
                        self.messages[index].tokens.push(token);
                        self.messages[index].texts.push(text.clone());
                        self.counts[0] += 1;
                    }
                }
                _ => {}
            }
        }
    }

    fn take_back_and_react(&mut self, screen: &Screen) {
        let mut ids: HashMap<&str, usize> = HashMap::new();
        for line in &screen.lines {
            match &line.what {
                What::Message { text } => {
                    let token = token_in(text, &self.run);
                    if let Some(&index) = token.and_then(|token| self.by_token.get(&token)) {
                        ids.insert(&line.id, index);
                    }
                }
                What::Redact { of } if line.own => {
                    if let Some(&index) = ids.get(&**of) {
                        self.messages[index].redacted = true;
                        self.counts[1] += 1;
                    }
                }
                What::Reaction { of, emoji, on } if line.own => {
                    if let Some(&index) = ids.get(&**of) {
                        let key = (index, line.by.clone(), emoji.clone());
                        self.reactions.insert(key, *on);
                        self.counts[2] += 1;
                    }
                }
                _ => {}
            }
        }
    }
}

/// A message as a client shows it now.
struct Bubble {
    message: usize,
    token: String,
    redacted: bool,
}

/// One client: shows what appears, and complains.
struct Client<'a> {
    deeds: &'a Deeds,
    screen: &'a Screen,
    exempt: &'a dyn Fn(&Deed) -> bool,
    faults: &'a mut Vec<Fault>,
    bubbles: Vec<Bubble>,
    ids: HashMap<String, usize>,
    /// How often each token came as a message from elsewhere.
    copies: HashMap<String, usize>,
    /// The reactions that are on, and how often each was put on: message, who, which.
    reactions: HashMap<(usize, String, String), bool>,
    /// The last message of each channel that appeared here.
    latest: HashMap<&'a str, usize>,
    appeared: HashSet<usize>,
}

impl<'a> Client<'a> {
    fn new(
        deeds: &'a Deeds,
        screen: &'a Screen,
        exempt: &'a dyn Fn(&Deed) -> bool,
        faults: &'a mut Vec<Fault>,
    ) -> Self {
        Client {
            deeds,
            screen,
            exempt,
            faults,
            bubbles: Vec::new(),
            ids: HashMap::new(),
            copies: HashMap::new(),
            reactions: HashMap::new(),
            latest: HashMap::new(),
            appeared: HashSet::new(),
        }
    }

    fn observer(&self) -> String {
        self.screen.channel.clone()
    }

    fn show(&mut self, line: &Appeared) {
        match &line.what {
            What::Message { text } => self.message(line, text),
            What::Edit { of, text } => {
                let Some(bubble) = self.bubble(of, &line.id) else {
                    return;
                };
                let Some((message, token)) = self.known(text) else {
                    return;
                };
                if self.bubbles[bubble].message != message {
                    return self.misplaced(&token, bubble);
                }
                self.bubbles[bubble].token = token;
            }
            What::Redact { of } => {
                let Some(bubble) = self.bubble(of, &line.id) else {
                    return;
                };
                if !self.deeds.messages[self.bubbles[bubble].message].redacted {
                    self.misplaced("what takes it back", bubble);
                }
                self.bubbles[bubble].redacted = true;
            }
            What::Reaction { of, emoji, on } => {
                let Some(bubble) = self.bubble(of, &line.id) else {
                    return;
                };
                let message = self.bubbles[bubble].message;
                let key = (message, line.by.clone(), emoji.clone());
                if !self.deeds.reactions.contains_key(&key) {
                    return self.misplaced(&format!("{} by {}", emoji, line.by), bubble);
                }
                let before = self.reactions.insert(key, *on);
                // Where it is on already, people see it a second time.
                if before == Some(true) && *on {
                    self.faults.push(Fault::Doubled {
                        observer: self.observer(),
                        token: format!("{emoji} by {} on {}", line.by, self.token_of(message)),
                        times: 2,
                    });
                }
            }
            What::Notice { .. } => {}
        }
    }

    fn message(&mut self, line: &Appeared, text: &str) {
        let Some((message, token)) = self.known(text) else {
            return;
        };
        let deed = &self.deeds.messages[message];
        if !line.own {
            *self.copies.entry(token.clone()).or_default() += 1;
            if deed.channel == self.screen.channel {
                self.faults.push(Fault::Echoed {
                    speaker: self.observer(),
                    token: token.clone(),
                });
            }
            if self.appeared.insert(message) && !(self.exempt)(deed) {
                let before = self.latest.insert(&deed.channel, message);
                if let Some(before) = before.filter(|before| *before > message) {
                    self.faults.push(Fault::Reordered {
                        observer: self.observer(),
                        first: deed.token(),
                        second: self.token_of(before),
                    });
                    self.latest.insert(&deed.channel, before);
                }
            }
        }
        self.ids.insert(line.id.clone(), self.bubbles.len());
        self.bubbles.push(Bubble {
            message,
            token,
            redacted: false,
        });
    }

    /// The message that a text belongs to; one that nobody said is a fault.
    fn known(&mut self, text: &str) -> Option<(usize, String)> {
        let token = token_in(text, &self.deeds.run)?;
        let found = self.deeds.by_token.get(&token).copied();
        let found = found.filter(|index| {
            let texts = &self.deeds.messages[*index].texts;
            texts.iter().any(|said| text.ends_with(said))
        });
        if found.is_none() {
            self.faults.push(Fault::Phantom {
                observer: self.observer(),
                text: text.to_owned(),
            });
        }
        Some((found?, token))
    }

    /// The message that a change is put on.
    fn bubble(&mut self, of: &str, change: &str) -> Option<usize> {
        let found = self.ids.get(of).copied();
        if found.is_none() {
            self.faults.push(Fault::EarlyEdit {
                observer: self.observer(),
                edit: change.to_owned(),
                of: of.to_owned(),
            });
        }
        found
    }

    fn misplaced(&mut self, change: &str, bubble: usize) {
        let on = self.token_of(self.bubbles[bubble].message);
        self.faults.push(Fault::Misplaced {
            observer: self.observer(),
            change: change.to_owned(),
            on,
        });
    }

    fn token_of(&self, message: usize) -> String {
        self.deeds.messages[message].token()
    }

    /// What is wrong with the end.
    fn judge(mut self) {
        for (index, deed) in self.deeds.messages.iter().enumerate() {
            if (self.exempt)(deed) {
                continue;
            }
            if deed.channel != self.screen.channel {
                self.judge_arrival(index, deed);
            }
            if self.screen.changes {
                self.judge_end(index, deed);
            }
        }
    }

    fn judge_arrival(&mut self, index: usize, deed: &Deed) {
        let (observer, token) = (self.observer(), deed.token());
        let copies = deed.tokens.iter().map(|t| self.copies.get(t).copied());
        let copies: Vec<usize> = copies.map(Option::unwrap_or_default).collect();
        // Where messages can be changed, a new text is no new message.
        let times = if self.screen.changes {
            copies.iter().sum()
        } else {
            copies.iter().copied().max().unwrap_or_default()
        };
        if times > 1 {
            self.faults.push(Fault::Doubled {
                observer: observer.clone(),
                token: token.clone(),
                times,
            });
        }
        if times == 0 && !deed.redacted {
            self.faults.push(Fault::Lost { observer, token });
            return;
        }
        let last = self.bubbles.iter().rfind(|shown| shown.message == index);
        if let Some(last) = last.filter(|_| !deed.redacted)
            && deed.tokens.last() != Some(&last.token)
        {
            self.faults.push(Fault::Stale {
                observer,
                token,
                shown: last.token.clone(),
            });
        }
    }

    fn judge_end(&mut self, index: usize, deed: &Deed) {
        let of_it = |shown: &&Bubble| shown.message == index;
        let is_visible = self
            .bubbles
            .iter()
            .filter(of_it)
            .any(|shown| !shown.redacted);
        if deed.redacted {
            if is_visible {
                self.faults.push(Fault::Visible {
                    observer: self.observer(),
                    token: deed.token(),
                });
            }
            return;
        }
        let wanted = self.deeds.reactions.range(
            (index, String::new(), String::new())..(index + 1, String::new(), String::new()),
        );
        for ((message, by, emoji), on) in wanted {
            let key = (*message, by.clone(), emoji.clone());
            let is_on = self.reactions.get(&key).copied().unwrap_or_default();
            if is_visible && is_on != *on {
                self.faults.push(Fault::Reaction {
                    observer: self.observer(),
                    token: deed.token(),
                    reaction: format!("{emoji} by {by}"),
                    wanted: *on,
                });
            }
        }
    }
}

#[cfg(test)]
mod tests;

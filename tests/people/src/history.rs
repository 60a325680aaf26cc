//! Judges what everyone saw: every line once, in order, under its speaker's name, and no other.
//!
//! Each person says lines with tokens that nobody else says ([`Script`]); afterwards the
//! [`Account`] of what was said is held against the transcripts. A fault names the person who
//! saw it and the line, so that a failed run can be read without a debugger.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    fmt,
};

use crate::{
    person::{Line, Person},
    transcript::Heard,
};

/// What one person is going to say: numbered lines with tokens of this run.
#[derive(Clone, Debug)]
pub struct Script {
    run: String,
    speaker: String,
    network: String,
    next: usize,
}

/// One line that was said.
#[derive(Clone, Debug)]
pub struct Said {
    /// `<run>-<speaker>-<n>-`, unique in the run and the prefix of no other.
    pub token: String,
    /// Who said it.
    pub speaker: String,
    /// Where.
    pub network: String,
    /// The words and how.
    pub line: Line,
}

impl Script {
    /// A script for `person` in the run called `run`.
    pub fn new(run: &str, person: &dyn Person) -> Self {
        Self {
            run: run.to_owned(),
            speaker: person.name().to_owned(),
            network: person.network().to_owned(),
            next: 0,
        }
    }

    /// The next plain line.
    pub fn text(&mut self) -> Said {
        self.line(false)
    }

    /// The next `/me`.
    pub fn emote(&mut self) -> Said {
        self.line(true)
    }

    /// The next `count` lines, every fifth of them a `/me`.
    pub fn lines(&mut self, count: usize) -> Vec<Said> {
        (0..count).map(|n| self.line(n % 5 == 4)).collect()
    }

    fn line(&mut self, emote: bool) -> Said {
        let token = format!("{}-{}-{}-", self.run, self.speaker, self.next);
        self.next += 1;
        let text = format!("{token} grüße, ツ & <b>{}</b>", self.next);
        Said {
            token,
            speaker: self.speaker.clone(),
            network: self.network.clone(),
            line: Line { text, emote },
        }
    }
}

/// What one person saw.
#[derive(Clone, Debug)]
pub struct View {
    /// Who saw it.
    pub observer: String,
    /// Where they sit.
    pub network: String,
    /// In the order of arrival.
    pub lines: Vec<Heard>,
}

impl View {
    /// What `person` saw so far.
    pub fn of(person: &dyn Person) -> Self {
        Self {
            observer: person.name().to_owned(),
            network: person.network().to_owned(),
            lines: person.heard(),
        }
    }
}

/// Something that must not happen.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Fault {
    /// A line never arrived.
    Lost { observer: String, token: String },
    /// A line arrived more than once.
    Doubled {
        observer: String,
        token: String,
        times: usize,
    },
    /// Two lines of one speaker arrived the wrong way round.
    Reordered {
        observer: String,
        first: String,
        second: String,
    },
    /// Two people saw the lines of a room in different orders.
    Diverged {
        observers: [String; 2],
        first: String,
        second: String,
    },
    /// A line with this run's mark that nobody said, or whose words were changed.
    Phantom { observer: String, text: String },
    /// A speaker's own line came back to them.
    Echoed { speaker: String, token: String },
    /// A line arrived without its speaker's name.
    Nameless { observer: String, shown: String },
    /// A `/me` arrived as words, or words as a `/me`.
    Kind { observer: String, shown: String },
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Lost { observer, token } => write!(f, "{observer} never saw {token}"),
            Self::Doubled {
                observer,
                token,
                times,
            } => write!(f, "{observer} saw {token} {times} times"),
            Self::Reordered {
                observer,
                first,
                second,
            } => write!(f, "{observer} saw {second} before {first}"),
            Self::Diverged {
                observers: [one, other],
                first,
                second,
            } => {
                write!(f, "{one} saw {first} before {second}, {other} after it")
            }
            Self::Phantom { observer, text } => {
                write!(f, "{observer} saw what nobody said: {text}")
            }
            Self::Echoed { speaker, token } => write!(f, "{speaker} got {token} back"),
            Self::Nameless { observer, shown } => {
                write!(f, "{observer} cannot tell who said it: {shown}")
            }
            Self::Kind { observer, shown } => {
                write!(
                    f,
                    "{observer} saw a /me as words or words as a /me: {shown}"
                )
            }
        }
    }
}

/// Everything that was said in one run.
#[derive(Clone, Debug, Default)]
pub struct Account {
    run: String,
    said: Vec<Said>,
}

impl Account {
    /// An empty account of the run called `run`.
    pub fn new(run: &str) -> Self {
        Self {
            run: run.to_owned(),
            said: Vec::new(),
        }
    }

    /// Writes down lines in the order in which one speaker said them.
    pub fn add(&mut self, said: impl IntoIterator<Item = Said>) {
        self.said.extend(said);
    }

    /// Everything said so far.
    pub fn said(&self) -> &[Said] {
        &self.said
    }

    /// Only those lines that somebody other than their speaker saw. What one network has shown
    /// was committed, and must be on all of them.
    pub fn witnessed(&self, views: &[View]) -> Self {
        let seen: HashSet<String> = views
            .iter()
            .flat_map(|view| view.lines.iter().filter(|heard| !heard.own))
            .filter_map(|heard| token_in(&heard.text, &self.run))
            .collect();
        let said = self
            .said
            .iter()
            .filter(|said| seen.contains(&said.token))
            .cloned()
            .collect();
        Self {
            run: self.run.clone(),
            said,
        }
    }

    /// The last line of each speaker: speaker and token.
    pub fn last_of_each(&self) -> BTreeMap<String, String> {
        self.said
            .iter()
            .map(|said| (said.speaker.clone(), said.token.clone()))
            .collect()
    }

    /// Every fault in what these people saw. Everything that was said counts as due.
    pub fn check(&self, views: &[View]) -> Vec<Fault> {
        let mut faults = Vec::new();
        let mut orders = Vec::new();
        for view in views {
            let seen = self.seen(view, &mut faults);
            self.check_copies(view, &seen, &mut faults);
            self.check_speakers(view, &seen, &mut faults);
            orders.push(seen);
        }
        for (i, one) in views.iter().enumerate() {
            for (j, other) in views.iter().enumerate().skip(i + 1) {
                self.check_agreement([one, other], [&orders[i], &orders[j]], &mut faults);
            }
        }
        faults
    }

    /// The said lines that `view` holds, by index, in order of arrival; phantoms are faults.
    fn seen(&self, view: &View, faults: &mut Vec<Fault>) -> Vec<usize> {
        let by_token: HashMap<&str, usize> = self
            .said
            .iter()
            .enumerate()
            .map(|(index, said)| (said.token.as_str(), index))
            .collect();
        let mut seen = Vec::new();
        for heard in &view.lines {
            // What a client shows of its own person's words proves nothing.
            if heard.own {
                continue;
            }
            let Some(token) = token_in(&heard.text, &self.run) else {
                continue;
            };
            let Some(&index) = by_token.get(token.as_str()) else {
                faults.push(Fault::Phantom {
                    observer: view.observer.clone(),
                    text: heard.text.clone(),
                });
                continue;
            };
            let said = &self.said[index];
            if said.speaker == view.observer && said.network == view.network {
                faults.push(Fault::Echoed {
                    speaker: view.observer.clone(),
                    token,
                });
                continue;
            }
            if !heard.text.ends_with(&said.line.text) {
                faults.push(Fault::Phantom {
                    observer: view.observer.clone(),
                    text: heard.text.clone(),
                });
            }
            if !heard.names(&said.speaker, &said.token) {
                faults.push(Fault::Nameless {
                    observer: view.observer.clone(),
                    shown: heard.to_string(),
                });
            }
            // One bot that speaks for others may write a `/me` as "* name waves".
            let as_emote = heard.emote || heard.text.starts_with("* ");
            if as_emote != said.line.emote {
                faults.push(Fault::Kind {
                    observer: view.observer.clone(),
                    shown: heard.to_string(),
                });
            }
            seen.push(index);
        }
        seen
    }

    fn check_copies(&self, view: &View, seen: &[usize], faults: &mut Vec<Fault>) {
        let mut copies: HashMap<usize, usize> = HashMap::new();
        for &index in seen {
            *copies.entry(index).or_default() += 1;
        }
        for (index, said) in self.said.iter().enumerate() {
            if said.speaker == view.observer && said.network == view.network {
                continue;
            }
            let observer = view.observer.clone();
            let token = said.token.clone();
            match copies.get(&index).copied().unwrap_or_default() {
                0 => faults.push(Fault::Lost { observer, token }),
                1 => {}
                times => faults.push(Fault::Doubled {
                    observer,
                    token,
                    times,
                }),
            }
        }
    }

    /// Order within each speaker. `said` holds a speaker's lines in the order of saying.
    fn check_speakers(&self, view: &View, seen: &[usize], faults: &mut Vec<Fault>) {
        let mut latest: BTreeMap<(&str, &str), usize> = BTreeMap::new();
        for index in first_copies(seen) {
            let said = &self.said[index];
            let key = (said.network.as_str(), said.speaker.as_str());
            if let Some(&before) = latest.get(&key)
                && before > index
            {
                faults.push(Fault::Reordered {
                    observer: view.observer.clone(),
                    first: said.token.clone(),
                    second: self.said[before].token.clone(),
                });
            }
            let newest = latest.entry(key).or_insert(index);
            *newest = (*newest).max(index);
        }
    }

    /// Order between two people: lines from one network have one order everywhere, and so have
    /// lines that came to both people from elsewhere. Their own networks show local lines first.
    fn check_agreement(&self, views: [&View; 2], seen: [&[usize]; 2], faults: &mut Vec<Fault>) {
        let networks: HashSet<&str> = self.said.iter().map(|said| said.network.as_str()).collect();
        let elsewhere: HashSet<&str> = networks
            .iter()
            .copied()
            .filter(|network| views.iter().all(|view| view.network != *network))
            .collect();
        let mut groups: Vec<HashSet<&str>> =
            networks.iter().map(|&one| HashSet::from([one])).collect();
        groups.push(elsewhere);
        for group in groups {
            let of_group = |seen: &[usize]| -> Vec<usize> {
                first_copies(seen)
                    .filter(|&index| group.contains(self.said[index].network.as_str()))
                    .collect()
            };
            let [one, other] = seen.map(of_group);
            let place: HashMap<usize, usize> = other
                .iter()
                .enumerate()
                .map(|(at, &index)| (index, at))
                .collect();
            let both: Vec<usize> = one
                .into_iter()
                .filter(|index| place.contains_key(index))
                .collect();
            // One fault for each pair of people is enough: the rest follows from it.
            if let Some(pair) = both
                .windows(2)
                .find(|pair| place[&pair[0]] > place[&pair[1]])
            {
                faults.push(Fault::Diverged {
                    observers: views.map(|view| view.observer.clone()),
                    first: self.said[pair[0]].token.clone(),
                    second: self.said[pair[1]].token.clone(),
                });
                return;
            }
        }
    }
}

/// The first copy of each line, in order of arrival.
fn first_copies(seen: &[usize]) -> impl Iterator<Item = usize> {
    let mut known = HashSet::new();
    seen.iter()
        .copied()
        .filter(move |&index| known.insert(index))
}

/// The token of run `run` in `text`: `<run>-<speaker>-<n>-`.
fn token_in(text: &str, run: &str) -> Option<String> {
    let (_, rest) = text.split_once(&format!("{run}-"))?;
    let mut parts = rest.splitn(3, '-');
    let (speaker, number) = (parts.next()?, parts.next()?);
    parts.next()?;
    Some(format!("{run}-{speaker}-{number}-"))
}

#[cfg(test)]
mod tests;

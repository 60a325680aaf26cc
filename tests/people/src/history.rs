//! Judges what everyone saw: every line once, in order, under its speaker's name, and no other.
//!
//! Each person says lines with tokens that nobody else says ([`Script`]); afterwards the
//! [`Account`] of what was said is held against the transcripts. A fault names the person who
//! saw it and the line, so that a failed run can be read without a debugger.

pub mod changes;
mod fault;

use std::collections::{BTreeMap, HashMap, HashSet};

pub use self::fault::{Fault, report};
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
    /// The token of the line that this one changes, where it is an edit.
    pub edits: Option<String>,
}

impl Script {
    /// A script for `person` in the run called `run`.
    pub fn new(run: &str, person: &dyn Person) -> Self {
        Self::of(run, person.name(), person.network())
    }

    /// A script for someone who is no [`Person`], such as a network in memory.
    pub fn of(run: &str, speaker: &str, network: &str) -> Self {
        Self {
            run: run.to_owned(),
            speaker: speaker.to_owned(),
            network: network.to_owned(),
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

    /// The next line, which takes the place of `earlier`.
    pub fn edit(&mut self, earlier: &Said) -> Said {
        let mut said = self.line(false);
        said.edits = Some(earlier.token.clone());
        said
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
            edits: None,
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
            self.check_edits(view, &seen, &mut faults);
            orders.push(seen);
        }
        self.check_circles(views, &mut faults);
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
            let as_emote = heard.emote || without_time(&heard.text).starts_with("* ");
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
        // A line whose edit came in time is shown as edited, and not as it was first.
        let replaced: HashSet<&str> = seen
            .iter()
            .filter_map(|&index| self.said[index].edits.as_deref())
            .collect();
        for (index, said) in self.said.iter().enumerate() {
            if said.speaker == view.observer && said.network == view.network {
                continue;
            }
            let observer = view.observer.clone();
            let token = said.token.clone();
            match copies.get(&index).copied().unwrap_or_default() {
                0 if replaced.contains(token.as_str()) => {}
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

    /// An edit may stand alone, or after its line; never before.
    fn check_edits(&self, view: &View, seen: &[usize], faults: &mut Vec<Fault>) {
        let mut edited: HashMap<&str, &str> = HashMap::new();
        for index in first_copies(seen) {
            let said = &self.said[index];
            if let Some(edit) = edited.get(said.token.as_str()) {
                faults.push(Fault::EarlyEdit {
                    observer: view.observer.clone(),
                    edit: (*edit).to_owned(),
                    of: said.token.clone(),
                });
            }
            if let Some(of) = &said.edits {
                edited.insert(of, &said.token);
            }
        }
    }

    /// A line that goes round leaves copies everywhere it passes, not only at one person.
    fn check_circles(&self, views: &[View], faults: &mut Vec<Fault>) {
        let counted: Vec<HashMap<String, usize>> = views
            .iter()
            .map(|view| {
                let mut copies = HashMap::new();
                for heard in view.lines.iter().filter(|heard| !heard.own) {
                    if let Some(token) = token_in(&heard.text, &self.run) {
                        *copies.entry(token).or_default() += 1;
                    }
                }
                copies
            })
            .collect();
        for said in &self.said {
            let mut extra: BTreeMap<&str, usize> = BTreeMap::new();
            for (view, copies) in views.iter().zip(&counted) {
                let itself = said.speaker == view.observer && said.network == view.network;
                let copies = copies.get(&said.token).copied().unwrap_or_default();
                let most = extra.entry(&view.network).or_default();
                *most = (*most).max(copies.saturating_sub(usize::from(!itself)));
            }
            extra.retain(|_, copies| *copies > 0);
            if extra.len() > 1 || extra.get(said.network.as_str()).is_some_and(|n| *n > 1) {
                faults.push(Fault::Looped {
                    token: said.token.clone(),
                    networks: extra.into_keys().map(str::to_owned).collect(),
                });
            }
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

/// What stands behind the time at which a late line was written, `[12:30] ` or `[2026-11-22 12:30] `.
fn without_time(text: &str) -> &str {
    text.strip_prefix('[')
        .and_then(|rest| rest.split_once("] "))
        .filter(|(time, _)| time.ends_with(|last: char| last.is_ascii_digit()))
        .map_or(text, |(_, rest)| rest)
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

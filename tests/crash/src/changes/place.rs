//! One channel of a scripted network: what its people see, in a file that outlives the gateway.

use std::collections::{HashMap, HashSet};
use std::fs::File;
use std::io::Write;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use comity_people::history::changes::{Appeared, What};
use serde::{Deserialize, Serialize};
use tokio::sync::{Notify, Semaphore};

use crate::stage::append_to;

/// One line of the file.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub(crate) struct Record {
    /// What people see.
    #[serde(flatten)]
    pub(crate) seen: Appeared,
    /// The delivery that it came with, by which a network that can be asked knows it.
    pub(crate) key: Option<String>,
}

/// The channel.
pub(crate) struct Place {
    /// `network/#channel`.
    pub(crate) channel: String,
    /// Whoever sits here.
    pub(crate) person: String,
    /// Tells the good nights of this life from those of others.
    pub(crate) life: String,
    /// Something has appeared.
    pub(crate) news: Notify,
    state: Mutex<State>,
    others: usize,
    asleep: Arc<Semaphore>,
}

struct State {
    records: Vec<Record>,
    by_key: HashMap<String, usize>,
    good_nights: HashSet<String>,
    file: File,
}

impl Place {
    /// The channel as earlier lives have left it. Its person goes to bed, in `asleep`, after the good nights of `others`.
    pub(crate) fn open(
        dir: &Path,
        channel: &str,
        others: usize,
        asleep: &Arc<Semaphore>,
    ) -> Arc<Place> {
        let path = dir.join(channel.replace("/#", "-"));
        let text = std::fs::read_to_string(&path).unwrap_or_default();
        let records: Vec<Record> = text
            .lines()
            .map(|line| serde_json::from_str(line).expect("whole lines are written"))
            .collect();
        let keys = records.iter().enumerate();
        let by_key = keys
            .filter_map(|(at, record)| Some((record.key.clone()?, at)))
            .collect();
        Arc::new(Place {
            channel: channel.to_owned(),
            person: channel.replace("/#", ""),
            life: std::process::id().to_string(),
            news: Notify::new(),
            state: Mutex::new(State {
                records,
                by_key,
                good_nights: HashSet::new(),
                file: append_to(&path),
            }),
            others,
            asleep: Arc::clone(asleep),
        })
    }

    /// The person does something. Returns what the network calls it.
    pub(crate) fn does(&self, what: What) -> String {
        self.appear(&self.person, true, what, None)
    }

    /// The gateway shows something that `by` did. Returns what the network calls it.
    pub(crate) fn shows(&self, by: &str, what: What, key: &str) -> String {
        let id = self.appear(by, false, what.clone(), Some(key.to_owned()));
        let hears = matches!(&what, What::Message { text } if text.contains(&self.good_night()));
        if hears && self.state().good_nights.insert(by.to_owned()) {
            let heard = self.state().good_nights.len();
            self.asleep.add_permits(usize::from(heard == self.others));
        }
        id
    }

    /// What stands in everyone's last message of this life.
    pub(crate) fn good_night(&self) -> String {
        format!("good night {}.", self.life)
    }

    /// What the network calls what came with this delivery, if it did come.
    pub(crate) fn known(&self, key: &str) -> Option<String> {
        let state = self.state();
        let at = state.by_key.get(key)?;
        Some(state.records[*at].seen.id.clone())
    }

    /// What appeared from a place on.
    pub(crate) fn from(&self, at: usize) -> Vec<Record> {
        self.state().records.get(at..).unwrap_or_default().to_vec()
    }

    /// How much has appeared.
    pub(crate) fn len(&self) -> usize {
        self.state().records.len()
    }

    fn appear(&self, by: &str, own: bool, what: What, key: Option<String>) -> String {
        let mut state = self.state();
        let at = state.records.len();
        let id = format!("n{at}");
        let record = Record {
            seen: Appeared {
                id: id.clone(),
                by: by.to_owned(),
                own,
                what,
            },
            key: key.clone(),
        };
        let mut line = serde_json::to_vec(&record).expect("it is JSON");
        line.push(b'\n');
        // One write, so that a kill leaves a whole line or none.
        state
            .file
            .write_all(&line)
            .expect("the test's directory can be written");
        if let Some(key) = key {
            state.by_key.insert(key, at);
        }
        state.records.push(record);
        drop(state);
        self.news.notify_one();
        id
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

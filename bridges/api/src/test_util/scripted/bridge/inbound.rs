//! What was heard, on its way to the journal: one commit at a time, in order.

use std::collections::{HashMap, VecDeque};
use std::pin::Pin;
use std::time::Duration;

use crate::event::{Channel, Content, Message, MessageKind, SourceId, Text};
use crate::report::{Answer, Batch, Cursor, Incoming, NativeAuthor, Reports};
use crate::test_util::scripted::fault::Fault;

/// How many lines are committed together.
const BATCH: usize = 256;

/// How long a busy journal is left alone.
const BUSY_PAUSE: Duration = Duration::from_millis(10);

type Commit = Pin<Box<dyn Future<Output = Vec<u64>> + Send>>;

pub(super) struct Inbound {
    waiting: VecDeque<(u64, Incoming)>,
    commit: Option<Commit>,
    run: u64,
    readings: u64,
    numbers: HashMap<u64, u64>,
}

impl Inbound {
    pub(super) fn new(run: u64) -> Self {
        Inbound {
            waiting: VecDeque::new(),
            commit: None,
            run,
            readings: 0,
            numbers: HashMap::new(),
        }
    }

    pub(super) fn heard(
        &mut self,
        id: u64,
        channel: Channel,
        key: &str,
        author: String,
        text: String,
        fault: Option<Fault>,
    ) {
        self.readings += 1;
        let source_id = match fault {
            Some(Fault::TextAsSourceId) => format!("{author}: {text}"),
            Some(Fault::CountsReadings) => format!("{}-{}", self.run, self.readings),
            Some(Fault::CountsFromTheStart) => {
                let next = self.numbers.len() as u64;
                self.numbers.entry(id).or_insert(next).to_string()
            }
            _ => id.to_string(),
        };
        // The key of a part is the delivery's, "/" and the number of the part.
        let own = match fault {
            Some(Fault::EchoAsEvent) => None,
            _ => key
                .rsplit_once('/')
                .and_then(|(delivery, _)| delivery.parse().ok()),
        };
        let incoming = Incoming {
            channel,
            source_id: SourceId(source_id),
            author: NativeAuthor::named(author.clone(), author),
            claimed: None,
            own,
            content: Content::Message(Message::of(MessageKind::Text, Text::plain(text))),
            via: Vec::new(),
        };
        self.waiting.push_back((id, incoming));
    }

    /// What is not in the journal's hands is shown again by the network on the next connection.
    pub(super) fn disconnected(&mut self) {
        self.waiting.clear();
    }

    pub(super) fn commits(&self) -> bool {
        self.commit.is_some()
    }

    /// Starts the next commit, if none is under way.
    pub(super) fn commit(&mut self, reports: &Reports, fault: Option<Fault>) {
        if self.commit.is_some() || self.waiting.is_empty() {
            return;
        }
        let count = self.waiting.len().min(BATCH);
        let (ids, incoming): (Vec<u64>, Vec<Incoming>) = self.waiting.drain(..count).unzip();
        let batch = Batch {
            cursor: ids.last().map(|id| Cursor(id.to_string())),
            incoming,
            writes: Vec::new(),
            gaps: Vec::new(),
        };
        let reports = reports.clone();
        self.commit = Some(Box::pin(async move {
            while reports.commit(batch.clone()).await == Answer::Busy {
                if fault == Some(Fault::DropsWhenBusy) {
                    break;
                }
                tokio::time::sleep(BUSY_PAUSE).await;
            }
            ids
        }));
    }

    /// Waits for the commit under way and returns what to acknowledge. Waits for ever without one.
    pub(super) async fn committed(&mut self) -> Vec<u64> {
        let Some(commit) = &mut self.commit else {
            return std::future::pending().await;
        };
        let ids = commit.await;
        self.commit = None;
        ids
    }
}

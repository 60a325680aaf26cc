//! The rooms' logs: the only part that may say "we have it".
//!
//! One thread owns the writing connection. It commits what has come together while the last commit ran, in one transaction
//! with one fsync: at once when idle, in groups under load. An answer leaves after the commit, never before, and
//! the room's lanes see an event only when it is durable.
//!
//! What only SQLite can do is inside `sqlite`; the rest of the gateway knows this page.

mod sqlite;
mod tail;
mod writer;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::Mutex;
use std::thread::JoinHandle;

use comity_bridge::report::Refusal;
use comity_bridge::{
    Author, Channel, Content, Cursor, DeliveryKey, Event, EventId, NativeId, NativeRef,
    NetworkName, Origin, Plan, Remembered, RoomAddress, SourceId, Timestamp, Verdict,
};
use thiserror::Error;
use tokio::sync::{mpsc, oneshot};

pub use tail::Tail;

use crate::metrics::Metrics;

/// Why the journal cannot do something. The fault is this machine's: its disk, its files.
#[derive(Debug, Error)]
pub enum JournalError {
    /// SQLite could not do it: the disk is full, the file is damaged, a permission is missing.
    #[error("the journal cannot be used")]
    Store(#[from] rusqlite::Error),
    /// Another process has it.
    #[error("{0} is in use by another process")]
    InUse(PathBuf),
    /// The directory or its lock cannot be made.
    #[error("{path} cannot be used")]
    Directory {
        /// What cannot be used.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// A later version of Comity wrote it.
    #[error("the journal has format {found}, this version knows up to {known}: use a newer Comity")]
    Newer {
        /// The format found.
        found: i64,
        /// The newest format that this version knows.
        known: i64,
    },
    /// The writing thread has ended.
    #[error("the journal is closed")]
    Closed,
}

/// An event on its way into the journal: everything but what is known only at the commit (`seq` and resolved references).
#[derive(Clone, Debug)]
pub struct Draft {
    /// Minted by the router.
    pub id: EventId,
    /// The room.
    pub room: RoomAddress,
    /// Where it was born.
    pub channel: Channel,
    /// What tells it from all others of that channel.
    pub source_id: SourceId,
    /// Who.
    pub author: Author,
    /// When, as the source says; already clamped.
    pub time: Timestamp,
    /// When it came in.
    pub received: Timestamp,
    /// What.
    pub content: Content<NativeRef>,
    /// The gateways that it passed, this one last.
    pub via: Vec<String>,
}

impl Draft {
    /// The event that it becomes at `seq`, or the reference that nobody knows.
    fn into_event(
        self,
        seq: u64,
        resolve: impl FnMut(&NativeRef) -> Option<EventId>,
    ) -> Result<Event, NativeRef> {
        Ok(Event {
            id: self.id,
            room: self.room,
            origin: Origin {
                network: self.channel.network().clone(),
                channel: self.channel.native().to_owned(),
                native_id: self.source_id,
                unknown: BTreeMap::new(),
            },
            author: self.author,
            seq,
            time: self.time,
            received: self.received,
            content: self.content.resolve(resolve)?,
            via: self.via,
            ext: BTreeMap::new(),
            unknown: BTreeMap::new(),
        })
    }
}

/// One incoming item after the router has seen it.
#[derive(Clone, Debug)]
pub enum Entry {
    /// To be an event.
    Event(Box<Draft>),
    /// One of ours that came back: the network's id for it.
    Receipt(DeliveryKey, NativeId),
    /// Not to be stored; the verdict is kept in its place.
    Refused(Refusal),
}

/// What one report asks to have committed, all or nothing.
#[derive(Debug)]
pub struct Append {
    /// The network that reports.
    pub network: NetworkName,
    /// In order.
    pub entries: Vec<Entry>,
    /// The network's new position.
    pub cursor: Option<Cursor>,
    /// The bridge's own facts.
    pub writes: Vec<(String, String)>,
}

/// What one lane asks to have committed.
#[derive(Clone, Debug, Default)]
pub struct LaneWrite {
    /// The lane has finished with everything up to here.
    pub done: u64,
    /// Nothing beyond this has been handed over.
    pub tried: u64,
    /// Native ids: `seq`, part, id.
    pub parts: Vec<(u64, u32, Vec<NativeId>)>,
    /// How a delivery was split.
    pub plans: Vec<(u64, Vec<String>)>,
    /// Deliveries given up.
    pub dead: Vec<DeadLetter>,
}

/// A delivery given up.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct DeadLetter {
    /// The event.
    pub seq: u64,
    /// True when it may be tried again as it is, once something else was mended.
    pub parked: bool,
    /// Why.
    pub reason: String,
    /// When.
    pub at: Timestamp,
}

/// Where a lane stood when the journal was opened.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct LaneStart {
    /// Finished up to here.
    pub done: u64,
    /// What lies between `done` and this may have been handed over.
    pub tried: u64,
    /// The last event of the room.
    pub head: u64,
}

/// Which lane.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub struct LaneId {
    pub(crate) room: i64,
    pub(crate) channel: i64,
}

/// The end of each room's log, in memory.
type Tails = Arc<BTreeMap<RoomAddress, Arc<Tail>>>;

enum Ask {
    Append(Append, oneshot::Sender<Option<Vec<Verdict>>>),
    Lane(LaneId, LaneWrite, oneshot::Sender<()>),
    Close,
    #[cfg(test)]
    Hold(std::sync::mpsc::Receiver<()>),
}

/// The open journal. Cheap to clone.
#[derive(Clone)]
pub struct Journal {
    asks: mpsc::Sender<Ask>,
    reader: Arc<Mutex<sqlite::Reader>>,
    tails: Tails,
}

/// The journal's threads; to be waited for when everything else has ended.
pub struct JournalThreads {
    writer: JoinHandle<()>,
    checkpoints: JoinHandle<()>,
}

impl JournalThreads {
    /// Waits until everything asked for is committed and the threads have ended. They end when the journal is closed, or
    /// when all [`Journal`]s are gone.
    pub fn join(self) {
        for thread in [self.writer, self.checkpoints] {
            if thread.join().is_err() {
                tracing::error!("a journal thread panicked");
            }
        }
    }
}

impl Journal {
    /// How many asks may wait for the writer.
    const QUEUE: usize = 1024;

    /// Opens the journal in `dir`, makes it when it is not there, and starts its threads.
    pub fn open(
        dir: &Path,
        rooms: &[(RoomAddress, Vec<Channel>)],
        metrics: Metrics,
    ) -> Result<(Journal, JournalThreads), JournalError> {
        let files = sqlite::Files::open(dir)?;
        let store = sqlite::Store::open(&files)?;
        let reader = sqlite::Reader::open(&files)?;
        let mut tails = BTreeMap::new();
        for (room, _) in rooms {
            let head = store.head(room)?;
            tails.insert(room.clone(), Arc::new(Tail::new(head)));
        }
        let tails = Arc::new(tails);
        let (asks, waiting) = mpsc::channel(Self::QUEUE);
        let (pages, checkpoints) = sqlite::checkpoints(&files, Arc::clone(&tails))?;
        let writer = writer::start(store, files, waiting, Arc::clone(&tails), pages, metrics);
        let journal = Journal {
            asks,
            reader: Arc::new(Mutex::new(reader)),
            tails,
        };
        Ok((
            journal,
            JournalThreads {
                writer,
                checkpoints,
            },
        ))
    }

    /// Commits a report. None when it cannot be stored now: nothing of it is.
    pub async fn append(&self, append: Append) -> Option<Vec<Verdict>> {
        let (reply, answer) = oneshot::channel();
        self.asks.send(Ask::Append(append, reply)).await.ok()?;
        answer.await.ok().flatten()
    }

    /// Commits a lane's progress; the receiver fires when it is durable. Never refused: while the disk is full it waits.
    pub async fn write_lane(
        &self,
        lane: LaneId,
        write: LaneWrite,
    ) -> Result<oneshot::Receiver<()>, JournalError> {
        let (done, durable) = oneshot::channel();
        self.asks
            .send(Ask::Lane(lane, write, done))
            .await
            .map_err(|_| JournalError::Closed)?;
        Ok(durable)
    }

    /// Commits what it was asked for until now, then takes nothing more.
    pub async fn close(&self) {
        // One that is closed already has nothing to do.
        self.asks.send(Ask::Close).await.ok();
    }

    /// The room's newest events, and a signal when there are more.
    pub fn tail(&self, room: &RoomAddress) -> Option<&Arc<Tail>> {
        self.tails.get(room)
    }

    /// Where a lane stands. A channel that is new to a room begins after the room's last event.
    pub async fn lane(
        &self,
        room: &RoomAddress,
        channel: &Channel,
    ) -> Result<(LaneId, LaneStart), JournalError> {
        let (room, channel) = (room.clone(), channel.clone());
        self.read(move |reader| reader.lane(&room, &channel)).await
    }

    /// Events of a room after `seq`, in order: at least one if there is one, at most a page.
    pub async fn events(&self, lane: LaneId, after: u64) -> Result<Vec<Arc<Event>>, JournalError> {
        self.read(move |reader| reader.events(lane.room, after))
            .await
    }

    /// How an earlier attempt of this lane split the event, and how far it got.
    pub async fn plan(&self, lane: LaneId, seq: u64) -> Result<Option<Plan>, JournalError> {
        self.read(move |reader| reader.plan(lane, seq)).await
    }

    /// The native ids, in this lane's channel, of an event: where it was shown or where it was born.
    pub async fn native_ids(
        &self,
        lane: LaneId,
        event: EventId,
    ) -> Result<Vec<NativeId>, JournalError> {
        self.read(move |reader| reader.native_ids(lane.channel, event))
            .await
    }

    /// What was kept for a network.
    pub async fn remembered(&self, network: &NetworkName) -> Result<Remembered, JournalError> {
        let network = network.clone();
        self.read(move |reader| reader.remembered(&network)).await
    }

    /// The deliveries of a lane that were given up.
    pub async fn dead_letters(&self, lane: LaneId) -> Result<Vec<DeadLetter>, JournalError> {
        self.read(move |reader| reader.dead_letters(lane)).await
    }

    async fn read<T: Send + 'static>(
        &self,
        ask: impl FnOnce(&mut sqlite::Reader) -> Result<T, rusqlite::Error> + Send + 'static,
    ) -> Result<T, JournalError> {
        let reader = Arc::clone(&self.reader);
        let answer = tokio::task::spawn_blocking(move || {
            // A reader that panicked half way holds nothing that the next one could trip over.
            let mut reader = reader
                .lock()
                .unwrap_or_else(std::sync::PoisonError::into_inner);
            ask(&mut reader)
        });
        Ok(answer.await.map_err(|_| JournalError::Closed)??)
    }

    /// Holds the writer until the sender is dropped: for tests of what must not happen before a commit.
    #[cfg(test)]
    pub(crate) async fn freeze(&self) -> std::sync::mpsc::Sender<()> {
        let (thaw, frozen) = std::sync::mpsc::channel();
        self.asks
            .send(Ask::Hold(frozen))
            .await
            .map_err(|_| "closed")
            .expect("the journal is open");
        thaw
    }
}

#[cfg(test)]
mod tests;

//! The rooms' logs: the only part that may say "we have it".
//!
//! One thread owns the writing connection. It commits what has come together while the last commit ran, in one transaction
//! with one fsync: at once when idle, in groups under load. An answer leaves after the commit, never before, and
//! the room's lanes see an event only when it is durable.
//!
//! What only SQLite can do is inside `sqlite`; the rest of the gateway knows this page.

mod letters;
mod progress;
mod queue;
mod report;
mod signals;
mod sqlite;
mod tail;
mod vital;
mod writer;

use std::collections::{BTreeMap, HashMap};
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use comity_bridge::{
    Channel, EventId, NativeId, NetworkName, Plan, Remembered, RoomAddress, Timestamp, Verdict,
};
use rusqlite::ErrorCode;
use thiserror::Error;
use tokio::sync::{Notify, mpsc, oneshot};

pub use letters::{ChannelStep, ChannelTrace, DeadEntry, DeadFilter, DeadPlace, PartTrace, Trace};
pub use progress::{
    Change, ChangeKind, DeadLetter, LaneId, LaneStart, LaneWrite, Logged, Standing, Trouble,
};
pub use report::{Append, Draft, Entry};
pub use tail::Tail;

use report::Prepared;
use signals::Signals;
use sqlite::{DeadAsk, DeadLetters};

use crate::config::JournalConfig;
use crate::metrics::Metrics;

/// Why the journal cannot do something. The fault is this machine's: its disk, its files.
#[derive(Debug, Error)]
pub enum JournalError {
    /// SQLite could not do it: a permission is missing, the disk fails.
    #[error("the journal cannot be used")]
    Store(#[from] rusqlite::Error),
    /// The file is not what was written to it. Nothing is changed or deleted.
    #[error(
        "{path} is damaged: put a copy in its place, or move it away to begin with an empty journal"
    )]
    Damaged {
        /// The database.
        path: PathBuf,
        /// What is wrong with it.
        source: rusqlite::Error,
    },
    /// No room even to open it.
    #[error("no space is left for {path}: make room on its disk")]
    NoSpace {
        /// The database.
        path: PathBuf,
        /// What could not be done.
        source: rusqlite::Error,
    },
    /// It cannot write now, and has not kept what it was asked to.
    #[error("the journal cannot write at the moment")]
    CannotWrite,
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

impl JournalError {
    /// The same, said of the database at `path`.
    fn at(self, path: &Path) -> JournalError {
        let JournalError::Store(source) = self else {
            return self;
        };
        let path = path.to_owned();
        let extended = source.sqlite_error().map(|error| error.extended_code);
        match source.sqlite_error_code() {
            // The index of the write-ahead log is a file of its own, and has no better word for it.
            _ if extended == Some(rusqlite::ffi::SQLITE_IOERR_SHMSIZE) => {
                JournalError::NoSpace { path, source }
            }
            Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase) => {
                JournalError::Damaged { path, source }
            }
            Some(ErrorCode::DiskFull) => JournalError::NoSpace { path, source },
            _ => JournalError::Store(source),
        }
    }

    /// True when what was written is not there any more: trying again does not help.
    pub fn is_damage(&self) -> bool {
        match self {
            JournalError::Damaged { .. } => true,
            JournalError::Store(error) => sqlite::is_damage(error),
            _ => false,
        }
    }

    /// True for what may be over in a moment: the disk is full, or answers with errors.
    fn is_passing(error: &rusqlite::Error) -> bool {
        matches!(
            error.sqlite_error_code(),
            Some(
                ErrorCode::DiskFull
                    | ErrorCode::SystemIoFailure
                    | ErrorCode::CannotOpen
                    | ErrorCode::OutOfMemory
                    | ErrorCode::DatabaseBusy
                    | ErrorCode::DatabaseLocked
                    | ErrorCode::ReadOnly
            )
        )
    }
}

/// How long to wait before trying again when the disk does not give or take.
const PATIENCE: Duration = Duration::from_secs(1);

/// Dead letters that a lane takes up at once to try them again.
pub const AGAIN: usize = 256;

/// The end of each room's log, in memory.
type Tails = Arc<BTreeMap<RoomAddress, Arc<Tail>>>;

/// None when nothing of a report could be stored. What was asked for comes back with it: to let go of all that is in it is work,
/// and the writing thread has enough.
type Answered = (Option<Vec<Verdict>>, Option<Prepared>);

enum Ask {
    Append(Prepared, oneshot::Sender<Answered>),
    Lane(LaneId, LaneWrite, oneshot::Sender<LaneWrite>),
    Dead(DeadAsk, oneshot::Sender<Option<usize>>),
    /// Time to keep house.
    Tick,
    Close,
    #[cfg(test)]
    Hold(std::sync::mpsc::Receiver<()>),
    #[cfg(test)]
    Do(Box<dyn FnOnce(&mut sqlite::Store) + Send>),
}

/// The open journal. Cheap to clone.
#[derive(Clone)]
pub struct Journal {
    asks: mpsc::Sender<Ask>,
    reader: Arc<Mutex<sqlite::Reader>>,
    tails: Tails,
    /// The same by the rooms' numbers, for rooms that have lanes.
    numbered: Arc<Mutex<HashMap<i64, Arc<Tail>>>>,
    signals: Signals,
    metrics: Metrics,
    database: Arc<Path>,
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
        config: &JournalConfig,
        metrics: Metrics,
    ) -> Result<(Journal, JournalThreads), JournalError> {
        let files = sqlite::Files::open(dir)?;
        let store = sqlite::Store::open(&files, rooms, config)?;
        let database: Arc<Path> = files.database().into();
        let at = |error| JournalError::Store(error).at(&database);
        let reader = sqlite::Reader::open(&files).map_err(at)?;
        let reader = Arc::new(Mutex::new(reader));
        let mut tails = BTreeMap::new();
        for (room, _) in rooms {
            let (head, last_change) = store.head(room).map_err(at)?;
            tails.insert(room.clone(), Arc::new(Tail::new(head, last_change)));
        }
        let tails = Arc::new(tails);
        let signals = Signals::default();
        let (asks, waiting) = mpsc::channel(Self::QUEUE);
        let (log, checkpoints) =
            sqlite::checkpoints(&files, Arc::clone(&tails), asks.downgrade()).map_err(at)?;
        let writer = writer::Writer::new(
            store,
            Arc::clone(&tails),
            log,
            signals.clone(),
            metrics.clone(),
        )
        .start(files, waiting);
        let journal = Journal {
            asks,
            reader,
            tails,
            numbered: Arc::default(),
            signals,
            metrics,
            database,
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
        self.asks
            .send(Ask::Append(Prepared::of(append), reply))
            .await
            .ok()?;
        let (verdicts, _) = answer.await.ok()?;
        verdicts
    }

    /// Commits a lane's progress; the receiver has it back when it is durable. Never refused: while the disk is full it waits.
    pub async fn write_lane(
        &self,
        lane: LaneId,
        write: LaneWrite,
    ) -> Result<oneshot::Receiver<LaneWrite>, JournalError> {
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
        let (address, channel) = (room.clone(), channel.clone());
        let lane = self
            .read(move |reader| reader.lane(&address, &channel))
            .await?;
        if let Some(tail) = self.tails.get(room) {
            self.numbered()
                .entry(lane.0.room)
                .or_insert_with(|| Arc::clone(tail));
        }
        Ok(lane)
    }

    /// The log of a lane's room after `seq`, in order and without a gap: at least one place if there is one, at most a page. What is damaged
    /// has its place, too.
    pub async fn events(&self, lane: LaneId, after: u64) -> Result<Vec<Logged>, JournalError> {
        let head = self.head_of(lane);
        self.read(move |reader| reader.events(lane.room, after, head))
            .await
    }

    /// What is at one place of the log of a lane's room; None when it was let go of.
    pub async fn event_at(&self, lane: LaneId, seq: u64) -> Result<Option<Logged>, JournalError> {
        self.read(move |reader| reader.event_at(lane, seq)).await
    }

    /// What changes these events, in the order of what is changed, then of the changes. [`Tail::last_change`] says without a look at the disk when
    /// there is nothing.
    pub async fn changes(
        &self,
        lane: LaneId,
        targets: RangeInclusive<u64>,
    ) -> Result<Vec<Change>, JournalError> {
        self.read(move |reader| reader.changes(lane, &targets))
            .await
    }

    /// What an event is to a lane's channel, as far as it is durable.
    pub async fn standing(&self, lane: LaneId, event: EventId) -> Result<Standing, JournalError> {
        self.read(move |reader| reader.standing(lane, event)).await
    }

    /// True when the log says that somebody took an event back.
    pub async fn is_taken_back(&self, event: EventId) -> Result<bool, JournalError> {
        self.read(move |reader| reader.is_taken_back(event)).await
    }

    /// Fires when somebody asked for another attempt at one of the lane's dead letters: ask [`Journal::again`].
    pub fn second_chances(&self, lane: LaneId) -> Arc<Notify> {
        self.signals.of(lane)
    }

    /// The first dead letters of a lane for which another attempt was asked, [`AGAIN`] of them at the most. To be answered with `revived` or with
    /// a new letter.
    pub async fn again(&self, lane: LaneId) -> Result<Vec<DeadLetter>, JournalError> {
        self.read(move |reader| reader.again(lane)).await
    }

    /// True while another attempt at this dead letter of a lane is asked for.
    pub async fn is_asked_again(&self, lane: LaneId, seq: u64) -> Result<bool, JournalError> {
        self.read(move |reader| reader.is_asked_again(lane, seq))
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

    /// The dead letters of all lanes, a page at a time: those after `after`, in an order that does not change.
    pub async fn dead_list(
        &self,
        filter: DeadFilter,
        after: DeadPlace,
        limit: usize,
    ) -> Result<Vec<DeadEntry>, JournalError> {
        self.read(move |reader| reader.dead_list(&filter, after, limit))
            .await
    }

    /// One dead letter and the event that it is about.
    pub async fn dead_show(
        &self,
        channel: &Channel,
        event: EventId,
    ) -> Result<Option<(DeadEntry, Logged)>, JournalError> {
        let channel = channel.clone();
        self.read(move |reader| reader.dead_show(&channel, event))
            .await
    }

    /// Asks for another attempt. False when there is no such dead letter.
    pub async fn dead_retry(
        &self,
        channel: &Channel,
        event: EventId,
    ) -> Result<bool, JournalError> {
        let one = DeadLetters::Of(channel.clone(), event);
        Ok(self.dead(one, true).await? > 0)
    }

    /// Takes a dead letter out of the list; it will never be shown. False when there is none.
    pub async fn dead_drop(&self, channel: &Channel, event: EventId) -> Result<bool, JournalError> {
        let one = DeadLetters::Of(channel.clone(), event);
        Ok(self.dead(one, false).await? > 0)
    }

    /// The same with a page of them, also where the event itself is gone: `again` for another attempt. How many were there.
    pub async fn dead_change(
        &self,
        letters: Vec<DeadPlace>,
        again: bool,
    ) -> Result<usize, JournalError> {
        self.dead(DeadLetters::At(letters), again).await
    }

    async fn dead(&self, letters: DeadLetters, again: bool) -> Result<usize, JournalError> {
        let (reply, answer) = oneshot::channel();
        let ask = DeadAsk { letters, again };
        self.asks
            .send(Ask::Dead(ask, reply))
            .await
            .map_err(|_| JournalError::Closed)?;
        let done = answer.await.map_err(|_| JournalError::Closed)?;
        done.ok_or(JournalError::CannotWrite)
    }

    /// What became of an event. None when the journal does not have it.
    pub async fn trace(&self, event: EventId) -> Result<Option<Trace>, JournalError> {
        self.read(move |reader| reader.trace(event)).await
    }

    /// For each of these times, latest first, how many of a room's events after `after` came in before it; and when the first of
    /// them came in. Cheap however many there are.
    pub async fn older_than(
        &self,
        room: &RoomAddress,
        after: u64,
        times: Vec<Timestamp>,
    ) -> Result<(Vec<u64>, Option<Timestamp>), JournalError> {
        let head = self.tail(room).map_or(0, |tail| *tail.head().borrow());
        let room = room.clone();
        self.read(move |reader| reader.older_than(&room, (after, head.max(after)), &times))
            .await
    }

    fn head_of(&self, lane: LaneId) -> u64 {
        let numbered = self.numbered();
        let tail = numbered.get(&lane.room);
        tail.map_or(0, |tail| *tail.head().borrow())
    }

    fn numbered(&self) -> std::sync::MutexGuard<'_, HashMap<i64, Arc<Tail>>> {
        self.numbered.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Reads; waits while the disk is full or fails, since a lane that gave up would stand still until the next start.
    async fn read<T: Send + 'static>(
        &self,
        ask: impl Fn(&mut sqlite::Reader) -> Result<T, rusqlite::Error> + Clone + Send + 'static,
    ) -> Result<T, JournalError> {
        let mut failing = false;
        loop {
            let (reader, ask) = (Arc::clone(&self.reader), ask.clone());
            let answer = tokio::task::spawn_blocking(move || {
                // A reader that panicked half way holds nothing that the next one could trip over.
                let mut reader = reader.lock().unwrap_or_else(PoisonError::into_inner);
                ask(&mut reader)
            });
            let answer = answer.await.map_err(|_| JournalError::Closed)?;
            match answer {
                Err(error) if JournalError::is_passing(&error) && !self.asks.is_closed() => {
                    if !std::mem::replace(&mut failing, true) {
                        tracing::error!(%error, "the journal cannot be read: trying again until it can");
                    }
                    tokio::time::sleep(PATIENCE).await;
                }
                answer => {
                    if failing && answer.is_ok() {
                        tracing::info!("the journal can be read again");
                    }
                    if answer.as_ref().is_err_and(sqlite::is_damage) {
                        self.metrics.journal_damaged();
                    }
                    return answer.map_err(|error| JournalError::Store(error).at(&self.database));
                }
            }
        }
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

    /// Runs this in the writing thread: for tests of what happens there.
    #[cfg(test)]
    pub(crate) async fn in_store<T: Send + 'static>(
        &self,
        ask: impl FnOnce(&mut sqlite::Store) -> T + Send + 'static,
    ) -> T {
        let (reply, answer) = oneshot::channel();
        let ask = Ask::Do(Box::new(move |store| {
            reply.send(ask(store)).ok();
        }));
        self.asks
            .send(ask)
            .await
            .map_err(|_| "closed")
            .expect("the journal is open");
        answer.await.expect("the journal is open")
    }
}

#[cfg(test)]
mod tests;

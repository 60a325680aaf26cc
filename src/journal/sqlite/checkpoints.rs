//! Keeps house beside the commit path: moves what is committed from the write-ahead log into the database, and lets go of
//! events in memory that nobody waits for.
//!
//! SQLite begins the log anew at the first commit that finds all of it moved. Under load there is always a commit that a checkpoint has not
//! seen, so the log would grow, and every commit would be written to new pages of memory and new blocks of the disk, which costs more than to
//! write over old ones. Once the log is long, the writing thread itself moves the little that is left, between two commits; it waits for nobody then,
//! while this thread would wait long for a moment without a commit, and all commits for this thread.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use comity_bridge::{Clock, Timestamp, failpoint};
use rusqlite::Connection;
use tokio::sync::mpsc;

use super::{Files, Store};
use crate::journal::{Ask, Tails};

/// Commits and events between two checkpoints.
const WORK: u64 = 2000;

/// From this length on the log is to begin anew. Pages.
const LONG: i64 = 8192;

/// Events stay in memory for this long. Milliseconds.
const KEPT: i64 = 30_000;

/// How often to look.
const ROUND: Duration = Duration::from_millis(200);

/// Rounds between two looks at the tails.
const ROUNDS: u32 = 25;

/// Rounds between two reminders to the writing thread that it has a house to keep.
const TICKS: u32 = 5;

/// What the two threads say to each other about the write-ahead log.
#[derive(Debug, Default)]
pub(crate) struct Log {
    /// Commits and events since the last checkpoint.
    work: AtomicU64,
    /// Nearly all of it is moved, and it is long.
    finish: AtomicBool,
}

impl Log {
    /// So much was written.
    pub(crate) fn add(&self, work: u64) {
        self.work.fetch_add(work, Ordering::Relaxed);
    }

    /// True, once, when the writing thread is to move the rest.
    pub(crate) fn is_to_be_finished(&self) -> bool {
        self.finish.load(Ordering::Relaxed) && self.finish.swap(false, Ordering::Relaxed)
    }
}

/// Starts the thread. It ends when the log's other owner is gone.
pub(crate) fn checkpoints(
    files: &Files,
    tails: Tails,
    asks: mpsc::WeakSender<Ask>,
) -> Result<(Arc<Log>, JoinHandle<()>), rusqlite::Error> {
    let connection = files.another()?;
    let log = Arc::<Log>::default();
    let shared = Arc::clone(&log);
    let thread = thread::Builder::new()
        .name("checkpoints".to_owned())
        .spawn(move || {
            let mut round = 0;
            while Arc::strong_count(&shared) > 1 {
                thread::park_timeout(ROUND);
                round += 1;
                if round % TICKS == 0
                    && let Some(asks) = asks.upgrade()
                {
                    // A queue that is full has better things to do.
                    asks.try_send(Ask::Tick).ok();
                }
                if round % ROUNDS == 0 {
                    let before = Timestamp(Clock::System.now().0 - KEPT);
                    tails.values().for_each(|tail| tail.forget_before(before));
                }
                if shared.work.load(Ordering::Relaxed) >= WORK {
                    shared.work.store(0, Ordering::Relaxed);
                    let long = checkpoint(&connection);
                    shared.finish.store(long, Ordering::Relaxed);
                }
            }
        })
        .expect("a thread can be started at start-up");
    Ok((log, thread))
}

/// Moves what there is; true when the log is long.
fn checkpoint(connection: &Connection) -> bool {
    let length = thread::scope(|scope| {
        if failpoint::is_set("journal.checkpoint") {
            // Not before and not after it, but somewhere in between.
            scope.spawn(|| failpoint::reached("journal.checkpoint"));
        }
        let length = pass(connection)?;
        if length >= LONG {
            // What came in meanwhile, so that little is left.
            pass(connection)?;
        }
        Ok(length)
    });
    match length {
        Ok(length) => length >= LONG,
        Err(error) => {
            failed(&error);
            false
        }
    }
}

/// Moves what the log has when it begins, and says how many pages that are.
fn pass(connection: &Connection) -> Result<i64, rusqlite::Error> {
    connection.query_row("PRAGMA wal_checkpoint(PASSIVE)", [], |row| row.get(1))
}

fn failed(error: &rusqlite::Error) {
    tracing::warn!(%error, "the journal's log could not be moved into its database; trying again later");
}

impl Store {
    /// Moves the rest of the write-ahead log, so that the next commit begins it anew.
    pub(crate) fn finish_log(&self) {
        if let Err(error) = pass(&self.connection) {
            failed(&error);
        }
    }
}

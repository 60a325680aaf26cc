//! Keeps house beside the commit path: moves what is committed from the write-ahead log into the database, and lets go of
//! events in memory that nobody waits for.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use comity_bridge::{Clock, Timestamp, failpoint};
use rusqlite::Connection;
use tokio::sync::mpsc;

use super::Files;
use crate::journal::{Ask, Tails};

/// Commits and events between two checkpoints.
const WORK: u64 = 2000;

/// A log longer than this makes the next commit wait for a whole checkpoint, so that it can begin anew. Bytes.
const LONGEST: u64 = 64 << 20;

/// Events stay in memory for this long. Milliseconds.
const KEPT: i64 = 30_000;

/// How often to look.
const ROUND: Duration = Duration::from_millis(200);

/// Rounds between two looks at the tails.
const ROUNDS: u32 = 25;

/// Rounds between two reminders to the writing thread that it has a house to keep.
const TICKS: u32 = 5;

/// Starts the thread. It ends when the counter's other owner is gone.
pub(crate) fn checkpoints(
    files: &Files,
    tails: Tails,
    asks: mpsc::WeakSender<Ask>,
) -> Result<(Arc<AtomicU64>, JoinHandle<()>), rusqlite::Error> {
    let connection = files.another()?;
    let wal = files.wal();
    let work = Arc::new(AtomicU64::new(0));
    let shared = Arc::clone(&work);
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
                if shared.load(Ordering::Relaxed) >= WORK {
                    shared.store(0, Ordering::Relaxed);
                    checkpoint(&connection, &wal);
                }
            }
        })
        .expect("a thread can be started at start-up");
    Ok((work, thread))
}

fn checkpoint(connection: &Connection, wal: &Path) {
    let length = std::fs::metadata(wal).map_or(0, |meta| meta.len());
    let mode = if length > LONGEST {
        "RESTART"
    } else {
        "PASSIVE"
    };
    let result = thread::scope(|scope| {
        if failpoint::is_set("journal.checkpoint") {
            // Not before and not after it, but somewhere in between.
            scope.spawn(|| failpoint::reached("journal.checkpoint"));
        }
        connection.query_row(&format!("PRAGMA wal_checkpoint({mode})"), [], |_| Ok(()))
    });
    if let Err(error) = result {
        tracing::warn!(%error, "the journal's log could not be moved into its database; trying again later");
    }
}

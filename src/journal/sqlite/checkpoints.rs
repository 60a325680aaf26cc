//! Moves what is committed from the write-ahead log into the database, off the commit path.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use super::Files;

/// Commits and events between two checkpoints.
const WORK: u64 = 2000;

/// A log longer than this makes the next commit wait for a whole checkpoint, so that it can begin anew. Bytes.
const LONGEST: u64 = 64 << 20;

/// Starts the thread. It ends when the counter's other owner is gone.
pub(crate) fn checkpoints(
    files: &Files,
) -> Result<(Arc<AtomicU64>, JoinHandle<()>), rusqlite::Error> {
    let connection = files.another()?;
    let wal = files.wal();
    let work = Arc::new(AtomicU64::new(0));
    let shared = Arc::clone(&work);
    let thread = thread::Builder::new()
        .name("checkpoints".to_owned())
        .spawn(move || {
            while Arc::strong_count(&shared) > 1 {
                thread::park_timeout(Duration::from_millis(200));
                if shared.load(Ordering::Relaxed) < WORK {
                    continue;
                }
                shared.store(0, Ordering::Relaxed);
                let length = std::fs::metadata(&wal).map_or(0, |meta| meta.len());
                let mode = if length > LONGEST { "RESTART" } else { "PASSIVE" };
                if let Err(error) = connection.query_row(&format!("PRAGMA wal_checkpoint({mode})"), [], |_| Ok(())) {
                    tracing::warn!(%error, "the journal's log could not be moved into its database");
                }
            }
        })
        .expect("a thread can be started at start-up");
    Ok((work, thread))
}

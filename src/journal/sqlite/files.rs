//! The journal's directory, its lock and its connections.

use std::fs::{DirBuilder, File, OpenOptions, TryLockError};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use rusqlite::{Connection, OpenFlags};

use super::schema::refuse_newer;
use crate::journal::JournalError;

/// The journal's files, held by this process alone as long as this lives.
#[derive(Debug)]
pub(crate) struct Files {
    database: PathBuf,
    rewritten: Arc<AtomicU64>,
    _lock: File,
}

impl Files {
    pub(crate) fn open(dir: &Path) -> Result<Files, JournalError> {
        let fails = |path: &Path| {
            let path = path.to_owned();
            move |source| JournalError::Directory { path, source }
        };
        // What people say is for the gateway's own user alone.
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(dir)
            .map_err(fails(dir))?;
        let lock_path = dir.join("journal.lock");
        let lock = OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .open(&lock_path)
            .map_err(fails(&lock_path))?;
        // Two gateways on one journal would both believe that they alone have what is in it.
        match lock.try_lock() {
            Ok(()) => Ok(Files {
                database: dir.join("journal.sqlite"),
                rewritten: Arc::default(),
                _lock: lock,
            }),
            Err(TryLockError::WouldBlock) => Err(JournalError::InUse(dir.to_owned())),
            Err(TryLockError::Error(source)) => Err(JournalError::Directory {
                path: lock_path,
                source,
            }),
        }
    }

    /// The one connection that writes. `synchronous=FULL`: a commit is on the disk when it returns. Checkpoints
    /// run elsewhere, so that no commit waits for one. A journal of a later version is refused before anything is written to it.
    pub(super) fn writer(&self) -> Result<Connection, JournalError> {
        let connection = Connection::open(&self.database)?;
        connection.busy_timeout(Duration::from_secs(30))?;
        refuse_newer(&connection)?;
        let pages: i64 = connection.pragma_query_value(None, "page_count", |row| row.get(0))?;
        if pages == 0 {
            // Says something to a new file only, and writes to every other.
            connection.pragma_update(None, "auto_vacuum", "INCREMENTAL")?;
        }
        connection.pragma_update(None, "journal_mode", "WAL")?;
        // What was erased is not to be found in the file's corners.
        connection.pragma_update(None, "secure_delete", "FAST")?;
        connection.pragma_update(None, "synchronous", "FULL")?;
        connection.pragma_update(None, "wal_autocheckpoint", 0)?;
        connection.pragma_update(None, "cache_size", -8000)?;
        connection.set_prepared_statement_cache_capacity(64);
        Ok(connection)
    }

    /// A connection beside it.
    pub(super) fn another(&self) -> Result<Connection, rusqlite::Error> {
        let connection = Connection::open_with_flags(
            &self.database,
            OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX,
        )?;
        connection.busy_timeout(Duration::from_secs(30))?;
        connection.pragma_update(None, "synchronous", "FULL")?;
        connection.pragma_update(None, "cache_size", -2000)?;
        connection.set_prepared_statement_cache_capacity(32);
        Ok(connection)
    }

    /// Counts how often something that was there was emptied or let go of, so that nobody shows it from memory.
    pub(super) fn rewritten(&self) -> Arc<AtomicU64> {
        Arc::clone(&self.rewritten)
    }

    /// The database.
    pub(crate) fn database(&self) -> &Path {
        &self.database
    }
}

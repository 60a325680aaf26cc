//! What is damaged in the file costs the event or the queue's place that it is, and nothing beside it.
//!
//! A full or failing disk is another matter: it concerns everything, is over some day, and undoes the whole transaction.

use rusqlite::{CachedStatement, ErrorCode, Params, Row};

use super::store::Store;
use crate::session::ShelfError;

impl Store<'_> {
    /// Runs `work` so that its failure undoes what it did, and nothing that was done before it in the same transaction.
    pub fn apart<T, E: From<ShelfError>>(
        &self,
        work: impl FnOnce(&Self) -> Result<T, E>,
    ) -> Result<T, E> {
        let run = |sql| -> Result<(), ShelfError> {
            self.db.prepare_cached(sql)?.execute([])?;
            Ok(())
        };
        run("SAVEPOINT apart")?;
        let result = work(self);
        if result.is_err() {
            run("ROLLBACK TO apart")?;
        }
        run("RELEASE apart")?;
        result
    }
}

/// Passes over what is damaged, and says so.
pub fn passed_over<T>(
    what: &'static str,
    found: Result<T, ShelfError>,
) -> Result<Option<T>, ShelfError> {
    match found {
        Ok(found) => Ok(Some(found)),
        Err(ShelfError::Damaged(why)) => {
            tracing::error!(
                what,
                why,
                "the federation's graph is damaged here; passed over"
            );
            Ok(None)
        }
        Err(error) => Err(error),
    }
}

/// The rows that can be read.
pub(super) fn readable<T>(
    what: &'static str,
    statement: &mut CachedStatement<'_>,
    params: impl Params,
    read: impl FnMut(&Row<'_>) -> rusqlite::Result<T>,
) -> Result<Vec<T>, ShelfError> {
    let mut found = Vec::new();
    for row in statement.query_map(params, read)? {
        found.extend(passed_over(what, row.map_err(ShelfError::from))?);
    }
    Ok(found)
}

impl From<rusqlite::Error> for ShelfError {
    fn from(error: rusqlite::Error) -> Self {
        use rusqlite::Error as E;
        let is_damage = match &error {
            // What was written here had the type and the form that it is read with.
            E::FromSqlConversionFailure(..)
            | E::IntegralValueOutOfRange(..)
            | E::InvalidColumnType(..)
            | E::Utf8Error(..) => true,
            other => matches!(
                other.sqlite_error_code(),
                Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase)
            ),
        };
        if is_damage {
            Self::Damaged(error.to_string())
        } else {
            Self::Database(error.to_string())
        }
    }
}

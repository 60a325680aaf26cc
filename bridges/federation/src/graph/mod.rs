//! Where the graph is kept: events, heads, rooms, members, peers' queues, and how far has been reported.
//!
//! One SQLite database in the network's state directory, used by one thread. Every job is one
//! transaction; when its answer is there, its changes are on disk (`synchronous=FULL`). The graph commits
//! before the gateway hears of an event; after a crash what lies beyond the "reported up to" mark is reported again.

mod damage;
mod missed;
mod queues;
mod rooms;
mod schema;
mod store;
mod unproved;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::thread;

use rusqlite::{Connection, TransactionBehavior};
use tokio::sync::{mpsc, oneshot};

pub use damage::passed_over;
pub use queues::{Pending, Queued, Shown, Unreported};
pub use store::Store;

use crate::session::ShelfError;

/// How many jobs may wait; a caller beyond that waits itself.
const MAX_JOBS: usize = 256;

type Job = Box<dyn FnOnce(&mut Connection) + Send>;

/// The graph's thread. Cheap to clone; the database is closed when the last clone is gone.
#[derive(Clone)]
pub struct Graph {
    jobs: mpsc::Sender<Job>,
}

impl Graph {
    /// Opens the database in `directory`, creating it at first use.
    pub fn open(directory: &Path) -> Result<Self, ShelfError> {
        Self::start(Connection::open(directory.join("graph.sqlite"))?)
    }

    /// A graph that is forgotten when it is dropped, for tests.
    #[cfg(test)]
    pub fn in_memory() -> Self {
        Self::start(Connection::open_in_memory().expect("memory")).expect("an empty database")
    }

    fn start(mut connection: Connection) -> Result<Self, ShelfError> {
        schema::prepare(&mut connection)?;
        let (jobs, mut inbox) = mpsc::channel::<Job>(MAX_JOBS);
        thread::Builder::new()
            .name("federation-graph".to_owned())
            .spawn(move || {
                while let Some(job) = inbox.blocking_recv() {
                    job(&mut connection);
                }
            })
            .map_err(|error| ShelfError::Database(error.to_string()))?;
        Ok(Self { jobs })
    }

    /// Waits for the graph's thread to end, which it does only by a fault of its own.
    pub async fn ended(&self) {
        self.jobs.closed().await;
    }

    /// Runs `work` in one transaction on the graph's thread and returns when it is on disk. An error or a panic undoes everything.
    pub async fn run<T, E, F>(&self, work: F) -> Result<T, E>
    where
        T: Send + 'static,
        E: From<ShelfError> + Send + 'static,
        F: FnOnce(&Store<'_>) -> Result<T, E> + Send + 'static,
    {
        let (answer, done) = oneshot::channel();
        let job: Job = Box::new(move |connection| {
            // Whoever asked may have gone away meanwhile; the work is done all the same.
            // A fault in it, which a stranger may have found, undoes its transaction and costs nobody else anything.
            let done = catch_unwind(AssertUnwindSafe(|| in_transaction(connection, work)));
            drop(answer.send(done.unwrap_or_else(|_| Err(ShelfError::Fault.into()))));
        });
        self.jobs.send(job).await.map_err(|_| ShelfError::Closed)?;
        done.await.map_err(|_| ShelfError::Closed)?
    }
}

fn in_transaction<T, E: From<ShelfError>>(
    connection: &mut Connection,
    work: impl FnOnce(&Store<'_>) -> Result<T, E>,
) -> Result<T, E> {
    let transaction = connection
        .transaction_with_behavior(TransactionBehavior::Immediate)
        .map_err(ShelfError::from)?;
    let result = work(&Store::new(&transaction))?;
    transaction.commit().map_err(ShelfError::from)?;
    Ok(result)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_fault_in_one_job_undoes_it_and_the_next_ones_are_done() {
        let graph = Graph::in_memory();
        let faulty = graph
            .run(|store| -> Result<(), ShelfError> {
                store.put_reported(7)?;
                panic!("on purpose")
            })
            .await;
        assert_eq!(faulty, Err(ShelfError::Fault));
        assert_eq!(graph.run(|store| store.reported()).await, Ok(0));
    }
}

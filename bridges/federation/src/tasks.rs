//! The bridge's own tasks. None of them ends unnoticed: what one of them did would be missing, silently and for good.
//!
//! A task that panics, or ends before the bridge does, ends the bridge with an error; the gateway logs that and starts it
//! again. Requests of other servers are not among them, and what they do on the graph's
//! thread ends with them: what a stranger sends must not stop us.

use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

/// Starts tasks, and knows of the first that was lost.
#[derive(Default)]
pub struct Tasks {
    lost: watch::Sender<Option<&'static str>>,
}

impl Tasks {
    /// Starts a task that comes to an end of its own.
    pub fn spawn(&self, name: &'static str, work: impl Future<Output = ()> + Send + 'static) {
        let watch = self.watch(name);
        tokio::spawn(async move {
            work.await;
            watch.relieve();
        });
    }

    /// Starts a task that is there until `shutdown`.
    pub fn spawn_lasting(
        &self,
        name: &'static str,
        shutdown: CancellationToken,
        work: impl Future<Output = ()> + Send + 'static,
    ) {
        let watch = self.watch(name);
        tokio::spawn(async move {
            work.await;
            if shutdown.is_cancelled() {
                watch.relieve();
            }
        });
    }

    /// Waits for the first task that is lost.
    pub async fn lost(&self) -> &'static str {
        let mut lost = self.lost.subscribe();
        loop {
            if let Some(name) = *lost.borrow_and_update() {
                return name;
            }
            if lost.changed().await.is_err() {
                // The sender is ours: it is there as long as we are.
                std::future::pending::<()>().await;
            }
        }
    }

    fn watch(&self, name: &'static str) -> Watch {
        Watch {
            name,
            lost: Some(self.lost.clone()),
        }
    }
}

/// Tells of a task unless it was told that all is well; a panic drops it, too.
struct Watch {
    name: &'static str,
    lost: Option<watch::Sender<Option<&'static str>>>,
}

impl Watch {
    /// All is well.
    fn relieve(mut self) {
        self.lost = None;
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        if let Some(lost) = self.lost.take() {
            lost.send_replace(Some(self.name));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_task_that_panics_or_ends_too_early_is_missed() {
        let tasks = Tasks::default();
        tasks.spawn("well", async {});
        tasks.spawn("panic", async { panic!("on purpose") });
        assert_eq!(tasks.lost().await, "panic");
        let tasks = Tasks::default();
        tasks.spawn_lasting("early", CancellationToken::new(), async {});
        assert_eq!(tasks.lost().await, "early");
    }

    #[tokio::test]
    async fn a_task_that_ends_with_the_bridge_is_not_missed() {
        let (tasks, shutdown) = (Tasks::default(), CancellationToken::new());
        let ended = shutdown.clone();
        tasks.spawn_lasting(
            "loop",
            shutdown.clone(),
            async move { ended.cancelled().await },
        );
        shutdown.cancel();
        tasks.spawn("last", async { panic!("on purpose") });
        assert_eq!(tasks.lost().await, "last");
    }
}

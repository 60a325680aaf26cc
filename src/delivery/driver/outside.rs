//! What changes seldom around a lane: the channel, the bridge, a pause, what the operator asks for.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use comity_bridge::{Capabilities, ChannelState, Request, Timestamp};
use tokio::sync::{Notify, mpsc, watch};
use tokio::task::AbortHandle;

use super::{Drain, LaneTask, RequestSlot, WINDOW_LIMIT};

/// All of it at one moment.
#[derive(Clone, Debug, Default)]
pub(super) struct Now {
    /// None while nothing may be handed over.
    pub(super) bridge: Option<mpsc::Sender<Request>>,
    pub(super) capabilities: Capabilities,
    pub(super) drained: bool,
    /// The channel has been joined since the last look.
    pub(super) came_back: bool,
    /// Somebody asked for another attempt at a dead letter.
    pub(super) again: bool,
}

/// Watches it, in a task of its own.
pub(super) struct Outside {
    state: watch::Receiver<ChannelState>,
    paused: watch::Receiver<Option<Timestamp>>,
    capabilities: watch::Receiver<Capabilities>,
    requests: RequestSlot,
    drain: Drain,
    flags: Arc<Flags>,
    watcher: AbortHandle,
}

#[derive(Default)]
struct Flags {
    changed: Notify,
    came_back: AtomicBool,
    again: AtomicBool,
    /// What was watched is gone.
    over: AtomicBool,
}

impl Outside {
    pub(super) fn watch(task: &LaneTask) -> Self {
        let flags = Arc::<Flags>::default();
        let outside = || Seen {
            state: task.board.state.subscribe(),
            paused: task.board.paused.subscribe(),
            capabilities: task.capabilities.clone(),
            requests: task.requests.clone(),
        };
        let chances = task.journal.second_chances(task.id);
        let watcher = tokio::spawn(watch(
            outside(),
            task.drain.clone(),
            chances,
            Arc::clone(&flags),
        ));
        let Seen {
            state,
            paused,
            capabilities,
            requests,
        } = outside();
        Outside {
            state,
            paused,
            capabilities,
            requests,
            drain: task.drain.clone(),
            flags,
            watcher: watcher.abort_handle(),
        }
    }

    /// Waits until there may be something new to look at.
    pub(super) async fn changed(&self) {
        self.flags.changed.notified().await;
    }

    pub(super) fn is_over(&self) -> bool {
        self.flags.over.load(Ordering::Acquire)
    }

    pub(super) fn look(&mut self) -> Now {
        let mut capabilities = self.capabilities.borrow().clone();
        capabilities.window = capabilities.window.clamp(1, WINDOW_LIMIT);
        let drained = self.drain.is_cancelled();
        let joined = *self.state.borrow() == ChannelState::Joined;
        let open = joined && self.paused.borrow().is_none() && !drained;
        Now {
            bridge: self.requests.borrow().clone().filter(|_| open),
            capabilities,
            drained,
            came_back: self.flags.came_back.swap(false, Ordering::AcqRel),
            again: self.flags.again.swap(false, Ordering::AcqRel),
        }
    }
}

impl Drop for Outside {
    fn drop(&mut self) {
        self.watcher.abort();
    }
}

struct Seen {
    state: watch::Receiver<ChannelState>,
    paused: watch::Receiver<Option<Timestamp>>,
    capabilities: watch::Receiver<Capabilities>,
    requests: RequestSlot,
}

async fn watch(mut seen: Seen, drain: Drain, chances: Arc<Notify>, flags: Arc<Flags>) {
    let over = loop {
        let changed = tokio::select! {
            changed = seen.state.changed() => {
                if *seen.state.borrow_and_update() == ChannelState::Joined {
                    flags.came_back.store(true, Ordering::Release);
                }
                changed
            }
            changed = seen.paused.changed() => changed,
            changed = seen.capabilities.changed() => changed,
            changed = seen.requests.changed() => changed,
            () = chances.notified() => {
                flags.again.store(true, Ordering::Release);
                Ok(())
            }
            () = drain.cancelled() => break false,
        };
        if changed.is_err() {
            break true;
        }
        flags.changed.notify_one();
    };
    flags.over.store(over, Ordering::Release);
    flags.changed.notify_one();
}

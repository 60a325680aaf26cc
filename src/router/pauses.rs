//! Channels that the loop breaker keeps anything from being shown in, until a time.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use comity_bridge::{Channel, Timestamp};
use tokio::task::AbortHandle;

use crate::board::Board;
use crate::metrics::Metrics;

/// Begins and ends pauses; their lanes see them on the board.
#[derive(Clone)]
pub(super) struct Pauses(Arc<Inner>);

struct Inner {
    board: Arc<Board>,
    metrics: Metrics,
    /// What ends the pauses that have begun: one for each channel at the most.
    timers: Mutex<HashMap<Channel, AbortHandle>>,
}

impl Pauses {
    pub(super) fn new(board: Arc<Board>, metrics: Metrics) -> Self {
        Pauses(Arc::new(Inner {
            board,
            metrics,
            timers: Mutex::default(),
        }))
    }

    /// Pauses a channel from now on for a while.
    pub(super) fn begin(&self, channel: &Channel, now: Timestamp, length: Duration) {
        let Some(board) = self.0.board.channel(channel) else {
            return;
        };
        let millis = i64::try_from(length.as_millis()).unwrap_or(i64::MAX);
        let until = Timestamp(now.0.saturating_add(millis));
        let timer = tokio::spawn({
            let (inner, channel) = (Arc::downgrade(&self.0), channel.clone());
            async move {
                tokio::time::sleep(length).await;
                if let Some(inner) = inner.upgrade() {
                    Pauses(inner).end_one(&channel, Some(until));
                }
            }
        });
        let mut timers = self.timers();
        if let Some(earlier) = timers.insert(channel.clone(), timer.abort_handle()) {
            earlier.abort();
        }
        if board.paused.send_replace(Some(until)).is_none() {
            self.0.metrics.network(channel.network()).breaker_open(true);
        }
    }

    /// Ends a channel's pause. False when there was none.
    pub(super) fn end(&self, channel: &Channel) -> bool {
        self.end_one(channel, None)
    }

    /// The same, of the pause that lasts until then alone: another may have begun just now in its place.
    fn end_one(&self, channel: &Channel, until: Option<Timestamp>) -> bool {
        let Some(board) = self.0.board.channel(channel) else {
            return false;
        };
        let mut timers = self.timers();
        if until.is_some() && *board.paused.borrow() != until {
            return false;
        }
        let timer = timers.remove(channel);
        let ended = board.paused.send_replace(None).is_some();
        drop(timers);
        if ended {
            let network = self.0.metrics.network(channel.network());
            network.breaker_open(false);
            tracing::info!(%channel, "the pause is over");
        }
        // Last, for it may be the very task that runs this.
        if let Some(timer) = timer {
            timer.abort();
        }
        ended
    }

    fn timers(&self) -> std::sync::MutexGuard<'_, HashMap<Channel, AbortHandle>> {
        self.0.timers.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        for timer in self
            .timers
            .get_mut()
            .unwrap_or_else(PoisonError::into_inner)
            .values()
        {
            timer.abort();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pauses() -> (Pauses, Channel) {
        let channel: Channel = "one/#r".parse().expect("a channel");
        let room = "#r@gw1.example".parse().expect("a room");
        let network = channel.network().clone();
        let metrics = Metrics::new([&network]);
        let board = Board::new(vec![(network, "irc")], vec![(room, vec![channel.clone()])]);
        (Pauses::new(Arc::new(board), metrics), channel)
    }

    fn board<'a>(pauses: &'a Pauses, channel: &Channel) -> &'a Arc<crate::board::ChannelBoard> {
        pauses.0.board.channel(channel).expect("on the board")
    }

    #[tokio::test]
    async fn a_pause_ends_by_itself_and_takes_the_place_of_an_earlier_one() {
        let (pauses, channel) = pauses();
        pauses.begin(&channel, Timestamp(0), Duration::from_secs(3600));
        pauses.begin(&channel, Timestamp(0), Duration::from_millis(1));
        let mut paused = board(&pauses, &channel).paused.subscribe();
        let ended = paused.wait_for(Option::is_none).await;
        assert!(ended.is_ok());
        let text = pauses.0.metrics.render();
        assert!(
            text.contains("comity_breaker_open{network=\"one\"} 0"),
            "{text}"
        );
        assert!(pauses.timers().is_empty());
    }

    #[tokio::test]
    async fn the_operator_ends_a_pause_once() {
        let (pauses, channel) = pauses();
        pauses.begin(&channel, Timestamp(0), Duration::from_secs(3600));
        assert!(board(&pauses, &channel).paused.borrow().is_some());
        assert!(pauses.end(&channel));
        assert!(!pauses.end(&channel));
        assert!(board(&pauses, &channel).paused.borrow().is_none());
    }

    #[tokio::test]
    async fn the_end_of_an_earlier_pause_does_not_end_a_later_one() {
        let (pauses, channel) = pauses();
        pauses.begin(&channel, Timestamp(0), Duration::from_secs(3600));
        let earlier = *board(&pauses, &channel).paused.borrow();
        pauses.begin(&channel, Timestamp(1), Duration::from_secs(3600));
        assert!(!pauses.end_one(&channel, earlier));
        assert!(board(&pauses, &channel).paused.borrow().is_some());
    }
}

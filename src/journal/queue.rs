//! What the writing thread is asked for, in order, but that lanes may go first.

use tokio::sync::{mpsc, oneshot};

use super::{Ask, LaneId, LaneWrite};

/// Asks gathered for one commit at the most, so that a commit stays a matter of milliseconds.
const GROUP: usize = 512;

pub(super) type LaneAsk = (LaneId, LaneWrite, oneshot::Sender<LaneWrite>);

pub(super) struct Queue {
    asks: mpsc::Receiver<Ask>,
    /// Taken, and not looked at.
    taken: Vec<Ask>,
}

impl Queue {
    pub(super) fn new(asks: mpsc::Receiver<Ask>) -> Self {
        Queue {
            asks,
            taken: Vec::with_capacity(GROUP),
        }
    }

    /// Waits until there is something. None when nothing will ever come.
    pub(super) fn wait(&mut self) -> Option<std::vec::Drain<'_, Ask>> {
        if self.taken.is_empty() && self.asks.blocking_recv_many(&mut self.taken, GROUP) == 0 {
            return None;
        }
        Some(self.take())
    }

    /// What there is now.
    pub(super) fn take(&mut self) -> std::vec::Drain<'_, Ask> {
        while self.taken.len() < GROUP
            && let Ok(ask) = self.asks.try_recv()
        {
            self.taken.push(ask);
        }
        self.taken.drain(..)
    }

    /// What lanes have asked for meanwhile. It depends on nothing that others ask for in between, but it does not go
    /// before what people or tests ask for.
    pub(super) fn lanes(&mut self, lanes: &mut Vec<LaneAsk>) {
        let is_report = |ask: &Ask| matches!(ask, Ask::Append(..));
        if !self.taken.iter().all(is_report) {
            return;
        }
        while self.taken.len() < GROUP
            && let Ok(ask) = self.asks.try_recv()
        {
            match ask {
                Ask::Lane(lane, write, durable) => lanes.push((lane, write, durable)),
                Ask::Append(..) => self.taken.push(ask),
                other => return self.taken.push(other),
            }
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.taken.is_empty() && self.asks.is_empty()
    }

    /// True when nothing more can be asked for.
    pub(super) fn is_closed(&self) -> bool {
        self.asks.is_closed()
    }
}

#[cfg(test)]
mod tests {
    use comity_bridge::Timestamp;

    use super::*;
    use crate::journal::report::Prepared;
    use crate::journal::{Append, Trouble};

    fn append() -> Ask {
        let nothing = Append {
            network: "libera".parse().expect("a name"),
            entries: Vec::new(),
            cursor: None,
            writes: Vec::new(),
        };
        Ask::Append(Prepared::of(nothing), oneshot::channel().0)
    }

    fn lane(channel: i64) -> Ask {
        let write = LaneWrite {
            troubles: vec![Trouble {
                seq: 1,
                attempts: 1,
                deaths: 0,
                doubt: false,
                why: String::new(),
                at: Timestamp(0),
            }],
            ..LaneWrite::default()
        };
        Ask::Lane(LaneId { room: 1, channel }, write, oneshot::channel().0)
    }

    /// A queue that was asked for these, and what joins the group that is being written.
    fn late(asked: Vec<Ask>) -> (Queue, Vec<i64>) {
        let (asks, waiting) = mpsc::channel(16);
        for ask in asked {
            assert!(asks.try_send(ask).is_ok(), "there is room");
        }
        let mut queue = Queue::new(waiting);
        let mut lanes = Vec::new();
        queue.lanes(&mut lanes);
        let joined = lanes.iter().map(|(lane, ..)| lane.channel).collect();
        (queue, joined)
    }

    #[test]
    fn lanes_join_the_group_that_is_being_written_and_reports_stay_in_order() {
        let (mut queue, joined) = late(vec![append(), lane(1), append(), lane(2)]);
        assert_eq!(joined, [1, 2]);
        let left: Vec<Ask> = queue.wait().expect("two reports").collect();
        assert_eq!(left.len(), 2);
        assert!(left.iter().all(|ask| matches!(ask, Ask::Append(..))));
        assert!(queue.is_empty());
        assert!(queue.wait().is_none(), "closed, and nothing is left");
    }

    #[test]
    fn nothing_goes_before_the_end() {
        let (mut queue, joined) = late(vec![lane(1), Ask::Close, lane(2)]);
        assert_eq!(joined, [1]);
        let mut lanes = Vec::new();
        queue.lanes(&mut lanes);
        assert!(lanes.is_empty());
        let left: Vec<Ask> = queue.wait().expect("two asks").collect();
        assert!(matches!(left[..], [Ask::Close, Ask::Lane(..)]));
    }
}

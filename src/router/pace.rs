//! Lets lanes keep up with whoever reports into their room.
//!
//! The newest events of a room are in memory, and lanes that keep up take them from there. A lane that has fallen behind reads
//! them from the disk again, one after the other, which costs more than everything else that is done for an event: a
//! network that reports as fast as it can would leave all lanes behind for as long as it does, and nobody would be served
//! sooner. So its answer is held back for a moment while a lane is behind that will have caught up soon. One that stands
//! still, or is slow, is not waited for.

use std::collections::HashMap;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use comity_bridge::RoomAddress;
use tokio::sync::watch;
use tokio::time::{Instant, sleep};

use crate::board::ChannelBoard;

/// A lane this far behind is waited for. Less than what is kept in memory.
const BEHIND: u64 = 1024;

/// A lane that needs longer than this to catch up is not, nor is one that does fewer events a second than [`QUICK`].
const SOON: Duration = Duration::from_secs(2);

/// Programs and servers on the same machine do more; networks with people, limits and distances do not.
const QUICK: f64 = 2000.0;

/// No answer is held back for longer.
const LONGEST: Duration = Duration::from_millis(50);

/// A lane's speed is measured over at least this long.
const SPAN: Duration = Duration::from_millis(20);

/// How far behind each room's lanes are, and how fast.
#[derive(Debug, Default)]
pub(super) struct Pace {
    rooms: HashMap<RoomAddress, Room>,
}

#[derive(Debug)]
struct Room {
    head: watch::Receiver<u64>,
    lanes: Vec<Lane>,
}

#[derive(Debug)]
struct Lane {
    board: Arc<ChannelBoard>,
    speed: Mutex<Speed>,
}

#[derive(Debug)]
struct Speed {
    since: Instant,
    done: u64,
    /// Events a second.
    rate: f64,
}

impl Pace {
    /// Adds a room: the end of its log, and its lanes.
    pub(super) fn add(
        &mut self,
        room: RoomAddress,
        head: watch::Receiver<u64>,
        boards: impl Iterator<Item = Arc<ChannelBoard>>,
    ) {
        let lanes = boards.map(Lane::new).collect();
        self.rooms.insert(room, Room { head, lanes });
    }

    /// Until when an answer may be held back that is given now, for all rooms that it is about.
    pub(super) fn limit() -> Instant {
        Instant::now() + LONGEST
    }

    /// Returns when the room's lanes have kept up, or are not worth waiting for, or it is time.
    pub(super) async fn keep(&self, room: &RoomAddress, until: Instant) {
        let Some(room) = self.rooms.get(room) else {
            return;
        };
        loop {
            let (head, now) = (*room.head.borrow(), Instant::now());
            let behind = room.lanes.iter().any(|lane| lane.will_catch_up(head, now));
            if !behind || now >= until {
                return;
            }
            sleep(Duration::from_millis(1)).await;
        }
    }
}

impl Lane {
    fn new(board: Arc<ChannelBoard>) -> Self {
        let speed = Speed {
            since: Instant::now(),
            done: 0,
            rate: 0.0,
        };
        Lane {
            board,
            speed: Mutex::new(speed),
        }
    }

    /// True when it is behind, and so quick that it will not be for long.
    fn will_catch_up(&self, head: u64, now: Instant) -> bool {
        let done = self.board.done.load(Ordering::Relaxed);
        let behind = head.saturating_sub(done);
        if behind < BEHIND {
            return false;
        }
        let mut speed = self.speed.lock().unwrap_or_else(PoisonError::into_inner);
        let since = now.saturating_duration_since(speed.since);
        if since >= SPAN {
            *speed = Speed {
                since: now,
                done,
                rate: done.saturating_sub(speed.done) as f64 / since.as_secs_f64(),
            };
        }
        speed.rate >= QUICK && behind as f64 <= speed.rate * SOON.as_secs_f64()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::board::Board;

    /// The speed of a lane that does so many events in each of some spans, and whether it is waited for in the end.
    fn is_waited_for(each_span: u64, head: u64) -> bool {
        let channel: comity_bridge::Channel = "net/#r".parse().expect("a channel");
        let room: RoomAddress = "#r@gw.example".parse().expect("a room");
        let networks = vec![(channel.network().clone(), "test")];
        let board = Board::new(networks, vec![(room, vec![channel.clone()])]);
        let board = Arc::clone(board.channel(&channel).expect("it is on the board"));
        let lane = Lane::new(Arc::clone(&board));
        let begun = Instant::now();
        let mut waits = false;
        for span in 1..=5 {
            board
                .done
                .store(each_span * u64::from(span), Ordering::Relaxed);
            waits = lane.will_catch_up(head, begun + 2 * SPAN * span);
        }
        waits
    }

    #[test]
    fn a_lane_that_stands_still_or_is_slow_is_not_waited_for() {
        assert!(!is_waited_for(0, 100_000));
        assert!(!is_waited_for(0, 2000));
        assert!(!is_waited_for(10, 2000));
    }

    #[test]
    fn a_lane_that_will_have_caught_up_at_once_is_waited_for() {
        assert!(is_waited_for(1000, 5000 + 3000));
    }

    #[test]
    fn a_lane_that_keeps_up_is_not_waited_for() {
        assert!(!is_waited_for(1000, 5000 + BEHIND - 1));
    }
}

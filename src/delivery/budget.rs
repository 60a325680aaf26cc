//! What the lanes of one network share: how much may be in the network's hands at once, and how much it is given in a second.
//!
//! A network that has just come back is given one delivery, and one more for each that it shows, so that the number doubles with each
//! round; when it says that it is too much, half of what it was given. From the sum of the windows on, lanes are bounded by their own
//! windows alone and the budget costs one look at a flag, unless there is a rate to keep. While something is short the lanes stand in
//! line for it, one delivery at a time: a lane with a long backlog gets no more turns than one with a single message.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::Instant;

/// A lane that is first in line waits no longer than this for others to finish: one channel that hangs holds up nobody else.
const PATIENCE: Duration = Duration::from_secs(5);

/// The budget of one network.
#[derive(Debug)]
pub struct Budget {
    /// Nothing is short.
    open: AtomicBool,
    lanes: AtomicU64,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    /// How many deliveries may be out.
    limit: usize,
    /// How many are, of those that were counted.
    out: usize,
    /// The sum of the windows of the lanes that have their channel.
    most: usize,
    pace: Option<Pace>,
    line: VecDeque<Waiting>,
}

#[derive(Debug)]
struct Waiting {
    lane: u64,
    since: Instant,
    wake: Arc<Notify>,
}

/// An even rate with room for small bursts.
#[derive(Debug)]
struct Pace {
    each: Duration,
    burst: Duration,
    /// When the next delivery is due if all come evenly.
    due: Instant,
}

/// What a lane that asked is told.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Turn {
    Now,
    /// It stands in line; it is woken when its turn comes, or has to look again at this time.
    Wait(Option<Instant>),
}

/// One lane's share.
#[derive(Debug)]
pub(super) struct Share {
    budget: Arc<Budget>,
    lane: u64,
    wake: Arc<Notify>,
    window: Option<usize>,
    /// Of its deliveries that are out, how many were counted.
    counted: usize,
    waits: bool,
}

impl Budget {
    /// The budget of a network that takes so many deliveries in a second, or as many as it can.
    pub fn new(per_second: Option<u32>) -> Arc<Budget> {
        let pace = per_second.filter(|rate| *rate > 0).map(|rate| {
            let each = Duration::from_secs(1) / rate;
            Pace {
                each,
                burst: each * (rate / 10).max(1),
                due: Instant::now(),
            }
        });
        Arc::new(Budget {
            open: AtomicBool::new(false),
            lanes: AtomicU64::new(0),
            state: Mutex::new(State {
                limit: 1,
                out: 0,
                most: 0,
                pace,
                line: VecDeque::new(),
            }),
        })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn ask(&mut self, lane: u64, wake: &Arc<Notify>, now: Instant) -> Turn {
        let place = self.line.iter().position(|waiting| waiting.lane == lane);
        if let Turn::Wait(until) = self.turn(place, now) {
            if place.is_none() {
                self.line.push_back(Waiting {
                    lane,
                    since: now,
                    wake: Arc::clone(wake),
                });
            }
            return Turn::Wait(until);
        }
        if place.is_some() {
            self.line.pop_front();
        }
        self.out += 1;
        if let Some(pace) = &mut self.pace {
            pace.due += pace.each;
        }
        self.call_first();
        Turn::Now
    }

    /// For a lane at this place in line, or behind it.
    fn turn(&mut self, place: Option<usize>, now: Instant) -> Turn {
        if place.unwrap_or(self.line.len()) > 0 {
            return Turn::Wait(None);
        }
        if self.out >= self.limit {
            let since = self.line.front().map_or(now, |first| first.since);
            let until = since + PATIENCE;
            if now < until {
                return Turn::Wait(Some(until));
            }
            self.limit = self.out + 1;
        }
        let early = self.pace.as_mut().and_then(|pace| pace.wait(now));
        early.map_or(Turn::Now, |until| Turn::Wait(Some(until)))
    }

    fn call_first(&self) {
        if let Some(first) = self.line.front() {
            first.wake.notify_one();
        }
    }

    fn leave_line(&mut self, lane: u64) {
        self.line.retain(|waiting| waiting.lane != lane);
        self.call_first();
    }
}

impl Pace {
    /// When the next delivery may go, if not now.
    fn wait(&mut self, now: Instant) -> Option<Instant> {
        self.due = self.due.max(now);
        let early = self.due.duration_since(now);
        (early + self.each > self.burst).then(|| self.due + self.each - self.burst)
    }
}

impl Share {
    pub(super) fn new(budget: Arc<Budget>) -> Self {
        Share {
            lane: budget.lanes.fetch_add(1, Ordering::Relaxed),
            budget,
            wake: Arc::default(),
            window: None,
            counted: 0,
            waits: false,
        }
    }

    /// Fires when the lane stands in line and its turn has come.
    pub(super) fn wake(&self) -> Arc<Notify> {
        Arc::clone(&self.wake)
    }

    /// The lane has its channel, with this window. The first one of a network begins slowly.
    pub(super) fn enter(&mut self, window: usize) {
        if self.window == Some(window) {
            return;
        }
        let mut state = self.budget.state();
        if state.most == 0 {
            state.limit = 1;
        }
        state.most = state.most + window - self.window.unwrap_or(0);
        self.window = Some(window);
        if state.limit < state.most {
            self.budget.open.store(false, Ordering::Relaxed);
        }
    }

    /// The lane has lost its channel.
    pub(super) fn leave(&mut self) {
        if let Some(window) = self.window.take() {
            self.budget.state().most -= window;
        }
        self.wait_no_more();
    }

    /// Asks for one delivery.
    pub(super) fn take(&mut self) -> Turn {
        if self.budget.open.load(Ordering::Relaxed) {
            self.waits = false;
            return Turn::Now;
        }
        let turn = self
            .budget
            .state()
            .ask(self.lane, &self.wake, Instant::now());
        self.waits = turn != Turn::Now;
        self.counted += usize::from(turn == Turn::Now);
        turn
    }

    pub(super) fn is_waiting(&self) -> bool {
        self.waits
    }

    /// Leaves the line, if it stands in it.
    pub(super) fn wait_no_more(&mut self) {
        if std::mem::take(&mut self.waits) {
            self.budget.state().leave_line(self.lane);
        }
    }

    /// What was asked for last was not needed.
    pub(super) fn unused(&mut self) {
        if self.counted == 0 {
            return;
        }
        self.counted -= 1;
        let mut state = self.budget.state();
        state.out -= 1;
        if let Some(pace) = &mut state.pace {
            pace.due -= pace.each;
        }
        state.call_first();
    }

    /// A delivery has come back.
    pub(super) fn put_back(&mut self, shown: bool) {
        if self.counted == 0 {
            return;
        }
        self.counted -= 1;
        let mut state = self.budget.state();
        state.out -= 1;
        if shown && state.limit < state.most {
            state.limit += 1;
        }
        if state.limit >= state.most && state.pace.is_none() {
            self.budget.open.store(true, Ordering::Relaxed);
            for waiting in &state.line {
                waiting.wake.notify_one();
            }
            state.line.clear();
        } else {
            state.call_first();
        }
    }

    /// The network says that it is given too much.
    pub(super) fn overloaded(&mut self) {
        let mut state = self.budget.state();
        self.budget.open.store(false, Ordering::Relaxed);
        state.limit = (state.limit.min(state.most) / 2).max(1);
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        self.leave();
        let mut state = self.budget.state();
        state.out -= self.counted;
        state.call_first();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shares(lanes: usize, window: usize, per_second: Option<u32>) -> Vec<Share> {
        let budget = Budget::new(per_second);
        (0..lanes)
            .map(|_| {
                let mut share = Share::new(Arc::clone(&budget));
                share.enter(window);
                share
            })
            .collect()
    }

    #[tokio::test(start_paused = true)]
    async fn a_network_that_is_back_begins_with_one_and_doubles_with_each_round() {
        let mut shares = shares(2, 8, None);
        let mut rounds = Vec::new();
        for _ in 0..6 {
            let mut round = 0;
            while round < 16 && shares[round % 2].take() == Turn::Now {
                round += 1;
            }
            for lane in 0..round {
                shares[lane % 2].put_back(true);
            }
            for share in &mut shares {
                share.wait_no_more();
            }
            rounds.push(round);
        }
        assert_eq!(rounds, [1, 2, 4, 8, 16, 16]);
    }

    #[tokio::test(start_paused = true)]
    async fn lanes_take_turns_while_something_is_short() {
        let mut shares = shares(2, 8, None);
        assert_eq!(shares[0].take(), Turn::Now);
        assert!(matches!(shares[1].take(), Turn::Wait(_)));
        assert!(
            matches!(shares[0].take(), Turn::Wait(None)),
            "behind the other"
        );
        shares[0].put_back(false);
        assert_eq!(shares[0].take(), Turn::Wait(None));
        let wake = shares[1].wake();
        wake.notified().await;
        assert_eq!(shares[1].take(), Turn::Now);
    }

    #[tokio::test(start_paused = true)]
    async fn one_that_hangs_holds_up_the_others_for_seconds_only() {
        let mut shares = shares(2, 8, None);
        assert_eq!(shares[0].take(), Turn::Now);
        let Turn::Wait(Some(until)) = shares[1].take() else {
            panic!("no wait")
        };
        tokio::time::sleep_until(until).await;
        assert_eq!(shares[1].take(), Turn::Now);
    }

    #[tokio::test(start_paused = true)]
    async fn overload_halves_what_a_network_is_given() {
        let mut shares = shares(1, 8, None);
        for _ in 0..8 {
            while shares[0].take() == Turn::Now && shares[0].counted > 0 {}
            while shares[0].counted > 0 {
                shares[0].put_back(true);
            }
        }
        assert_eq!(shares[0].take(), Turn::Now);
        assert_eq!(shares[0].counted, 0, "open");
        shares[0].overloaded();
        let mut taken = 0;
        while shares[0].take() == Turn::Now {
            taken += 1;
        }
        assert_eq!(taken, 4);
    }

    #[tokio::test(start_paused = true)]
    async fn a_rate_is_kept_over_all_lanes() {
        let mut shares = shares(3, 1000, Some(50));
        let begun = Instant::now();
        let mut taken = 0;
        while begun.elapsed() < Duration::from_secs(10) {
            let mut wait = None;
            for share in &mut shares {
                match share.take() {
                    Turn::Now => {
                        taken += 1;
                        share.put_back(true);
                    }
                    Turn::Wait(until) => wait = wait.or(until),
                }
            }
            if let Some(until) = wait {
                tokio::time::sleep_until(until).await;
            }
        }
        assert!((495..=510).contains(&taken), "{taken} in ten seconds");
    }

    #[tokio::test(start_paused = true)]
    async fn a_lane_that_goes_leaves_its_place_in_line() {
        let mut shares = shares(3, 8, None);
        assert_eq!(shares[0].take(), Turn::Now);
        assert!(matches!(shares[1].take(), Turn::Wait(_)));
        assert!(matches!(shares[2].take(), Turn::Wait(_)));
        drop(shares.remove(1));
        drop(shares.remove(0));
        assert_eq!(shares[0].take(), Turn::Now);
    }
}

//! How much of what a network has sent may wait for other networks.
//!
//! An event waits until every lane of its room has finished with it. What waits costs memory nowhere and disk in the journal, so there
//! is a limit for each network and one for all together; over it, reports are answered with `Busy` and their network is slowed
//! down in its own way until lanes have caught up.
//!
//! A room keeps runs: so many events of this network, then so many of that one, in the order of its log. How far the slowest lane
//! is from the log's end says how many of them still wait, from the last one backwards. Counted is what came in since the start; what
//! waited before has no network any more and counts in the total alone.

use std::collections::{HashMap, VecDeque};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use comity_bridge::{Channel, NetworkName, RoomAddress};
use tokio::sync::watch;

use crate::board::{Board, ChannelBoard};
use crate::config::JournalConfig;

/// Runs kept of one room. Beyond that, a network's new events are added to its last run, a little before their turn.
const RUNS: usize = 512;

/// Which network; none for what waited at the start.
type Source = Option<usize>;

/// What waits, by network and in all.
#[derive(Debug)]
pub(super) struct Quota {
    networks: Vec<(NetworkName, Level)>,
    all: Level,
    rooms: HashMap<RoomAddress, Room>,
}

/// One limit and what is counted against it.
#[derive(Debug)]
struct Level {
    limit: u64,
    waiting: AtomicU64,
    reached: AtomicBool,
}

#[derive(Debug)]
struct Room {
    channels: Vec<Arc<ChannelBoard>>,
    /// The end of its log.
    head: watch::Receiver<u64>,
    log: Mutex<Log>,
}

/// What waits in one room.
#[derive(Debug, Default)]
struct Log {
    runs: VecDeque<(Source, u64)>,
    /// All of them together.
    events: u64,
}

/// Whether a network may send more, and whether that is news.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(super) struct Leave {
    /// It may.
    pub(super) granted: bool,
    /// Its own limit was reached just now, or is not reached any more.
    pub(super) network: Option<Turn>,
    /// The same for the limit of all.
    pub(super) all: Option<Turn>,
}

/// A limit and what waits have crossed.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Turn {
    /// No more from now on.
    Reached,
    /// More from now on.
    Left,
}

impl Quota {
    pub(super) fn new(
        config: &JournalConfig,
        board: &Board,
        networks: &[NetworkName],
        rooms: impl IntoIterator<Item = (RoomAddress, Vec<Channel>, watch::Receiver<u64>)>,
    ) -> Self {
        let rooms = rooms.into_iter().map(|(address, channels, head)| {
            let channels = channels
                .iter()
                .filter_map(|channel| board.channel(channel).cloned())
                .collect();
            let log = Mutex::default();
            let room = Room {
                channels,
                head,
                log,
            };
            (address, room)
        });
        Quota {
            networks: networks
                .iter()
                .map(|name| (name.clone(), Level::new(config.waiting_per_network)))
                .collect(),
            all: Level::new(config.waiting),
            rooms: rooms.collect(),
        }
    }

    /// Counts what waited before the start. All lanes have to be on the board.
    pub(super) fn begin(&self) {
        for room in self.rooms.values() {
            let mut log = room.log.lock().unwrap_or_else(PoisonError::into_inner);
            let waiting = room.waiting();
            if waiting > 0 {
                log.push(None, waiting);
                self.all.add(waiting);
            }
        }
    }

    /// So many events of a network have just been committed to a room.
    pub(super) fn committed(&self, network: &NetworkName, room: &RoomAddress, events: u64) {
        let Some(room) = self.rooms.get(room) else {
            return;
        };
        let source = self.networks.iter().position(|(name, _)| name == network);
        if let Some(source) = source {
            self.networks[source].1.add(events);
        }
        self.all.add(events);
        let mut log = room.log.lock().unwrap_or_else(PoisonError::into_inner);
        log.push(source, events);
        if log.runs.len() >= RUNS / 2 {
            self.settle(room, &mut log);
        }
    }

    /// Asks for a network. Costs two loads while there is plenty of room.
    pub(super) fn ask(&self, network: &NetworkName) -> Leave {
        let Some((_, own)) = self.networks.iter().find(|(name, _)| name == network) else {
            return Leave {
                granted: true,
                ..Leave::default()
            };
        };
        if !(own.is_open() && self.all.is_open()) {
            self.settle_all();
        }
        Leave {
            granted: own.is_open() && self.all.is_open(),
            network: own.turn(),
            all: self.all.turn(),
        }
    }

    /// What waits of each network, and in all.
    pub(super) fn waiting(&self) -> (Vec<(&NetworkName, u64)>, u64) {
        self.settle_all();
        let networks = self
            .networks
            .iter()
            .map(|(name, level)| (name, level.waiting.load(Ordering::Relaxed)));
        (networks.collect(), self.all.waiting.load(Ordering::Relaxed))
    }

    fn settle_all(&self) {
        for room in self.rooms.values() {
            let mut log = room.log.lock().unwrap_or_else(PoisonError::into_inner);
            self.settle(room, &mut log);
        }
    }

    fn settle(&self, room: &Room, log: &mut Log) {
        log.keep(room.waiting(), |source, events| {
            self.all.take(events);
            if let Some(source) = source {
                self.networks[source].1.take(events);
            }
        });
    }
}

impl Room {
    /// How many events the slowest lane has before it.
    fn waiting(&self) -> u64 {
        let places = self
            .channels
            .iter()
            .map(|channel| channel.done.load(Ordering::Relaxed));
        let head = *self.head.borrow();
        head.saturating_sub(places.min().unwrap_or(head))
    }
}

impl Log {
    fn push(&mut self, source: Source, events: u64) {
        self.events += events;
        // When there are too many, one of the last few is the same network's.
        let known = if self.runs.len() < RUNS {
            self.runs.back_mut().filter(|(known, _)| *known == source)
        } else {
            self.runs
                .iter_mut()
                .rev()
                .find(|(known, _)| *known == source)
        };
        match known {
            Some((_, count)) => *count += events,
            None => self.runs.push_back((source, events)),
        }
    }

    /// Takes off the oldest until no more are left than wait. Events that are not in the runs yet only make it take off less.
    fn keep(&mut self, waiting: u64, mut over: impl FnMut(Source, u64)) {
        while self.events > waiting
            && let Some((source, count)) = self.runs.front_mut()
        {
            let finished = (*count).min(self.events - waiting);
            over(*source, finished);
            self.events -= finished;
            *count -= finished;
            if *count == 0 {
                self.runs.pop_front();
            }
        }
    }
}

impl Level {
    fn new(limit: u64) -> Self {
        Level {
            limit,
            waiting: AtomicU64::new(0),
            reached: AtomicBool::new(false),
        }
    }

    fn add(&self, events: u64) {
        self.waiting.fetch_add(events, Ordering::Relaxed);
    }

    fn take(&self, events: u64) {
        self.waiting.fetch_sub(events, Ordering::Relaxed);
    }

    /// Once reached, a tenth has to go first, so that not every single event is a turn.
    fn is_open(&self) -> bool {
        let waiting = self.waiting.load(Ordering::Relaxed);
        if self.reached.load(Ordering::Relaxed) {
            waiting <= self.limit - self.limit.div_ceil(10)
        } else {
            waiting < self.limit
        }
    }

    fn turn(&self) -> Option<Turn> {
        let reached = !self.is_open();
        if self.reached.load(Ordering::Relaxed) == reached {
            return None;
        }
        let news = self.reached.swap(reached, Ordering::Relaxed) != reached;
        news.then_some(if reached { Turn::Reached } else { Turn::Left })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Fixture {
        board: Board,
        room: RoomAddress,
        one: NetworkName,
        two: NetworkName,
        head: watch::Sender<u64>,
        quota: Quota,
    }

    fn fixture(per_network: u64, all: u64) -> Fixture {
        let room: RoomAddress = "#r@gw1.example".parse().expect("a room");
        let channels: Vec<Channel> = ["one/#r", "two/#r"]
            .iter()
            .map(|name| name.parse().expect("a channel"))
            .collect();
        let names: Vec<NetworkName> = vec![
            "one".parse().expect("a name"),
            "two".parse().expect("a name"),
        ];
        let rooms = vec![(room.clone(), channels)];
        let board = Board::new(
            names.iter().map(|name| (name.clone(), "irc")).collect(),
            rooms.clone(),
        );
        let config = JournalConfig {
            waiting_per_network: per_network,
            waiting: all,
            ..JournalConfig::default()
        };
        let head = watch::Sender::new(0);
        let rooms = rooms
            .into_iter()
            .map(|(room, channels)| (room, channels, head.subscribe()));
        let quota = Quota::new(&config, &board, &names, rooms);
        Fixture {
            board,
            room,
            one: names[0].clone(),
            two: names[1].clone(),
            head,
            quota,
        }
    }

    impl Fixture {
        fn committed(&self, network: &NetworkName, events: u64) {
            self.head.send_modify(|head| *head += events);
            self.quota.committed(network, &self.room, events);
        }

        fn done(&self, channel: &str, seq: u64) {
            let channel = channel.parse().expect("a channel");
            let board = self.board.channel(&channel).expect("on the board");
            board.done.store(seq, Ordering::Relaxed);
        }

        fn counts(&self) -> (u64, u64, u64) {
            let (networks, all) = self.quota.waiting();
            (networks[0].1, networks[1].1, all)
        }
    }

    #[test]
    fn what_one_network_sends_waits_until_the_slowest_lane_is_past_it() {
        let f = fixture(100, 1000);
        f.committed(&f.one, 3);
        f.committed(&f.two, 2);
        f.committed(&f.one, 1);
        assert_eq!(f.counts(), (4, 2, 6));
        f.done("one/#r", 6);
        assert_eq!(f.counts(), (4, 2, 6), "the other lane has it all to do");
        f.done("two/#r", 4);
        assert_eq!(f.counts(), (1, 1, 2));
        f.done("two/#r", 6);
        assert_eq!(f.counts(), (0, 0, 0));
    }

    #[test]
    fn a_network_over_its_limit_waits_and_the_others_do_not() {
        let f = fixture(10, 1000);
        f.committed(&f.one, 10);
        let leave = f.quota.ask(&f.one);
        assert!(!leave.granted);
        assert_eq!(leave.network, Some(Turn::Reached));
        assert_eq!(f.quota.ask(&f.one).network, None, "said once");
        assert!(f.quota.ask(&f.two).granted);
        f.done("one/#r", 10);
        f.done("two/#r", 0);
        assert!(!f.quota.ask(&f.one).granted);
        f.done("two/#r", 1);
        let leave = f.quota.ask(&f.one);
        assert!(leave.granted);
        assert_eq!(leave.network, Some(Turn::Left));
    }

    #[test]
    fn the_smallest_limit_lets_one_event_wait() {
        let f = fixture(1, 1000);
        assert!(f.quota.ask(&f.one).granted);
        f.committed(&f.one, 1);
        assert!(!f.quota.ask(&f.one).granted);
        f.done("one/#r", 1);
        f.done("two/#r", 1);
        assert!(f.quota.ask(&f.one).granted);
    }

    #[test]
    fn what_waited_before_the_start_counts_in_the_total_alone() {
        let f = fixture(10, 20);
        f.head.send_replace(100);
        f.done("one/#r", 100);
        f.done("two/#r", 80);
        f.quota.begin();
        assert_eq!(f.counts(), (0, 0, 20));
        let leave = f.quota.ask(&f.one);
        assert!(!leave.granted);
        assert_eq!((leave.network, leave.all), (None, Some(Turn::Reached)));
        f.done("two/#r", 100);
        f.committed(&f.one, 1);
        assert_eq!(f.counts(), (1, 0, 1));
        f.done("one/#r", 101);
        f.done("two/#r", 101);
        assert_eq!(f.counts(), (0, 0, 0));
    }

    #[test]
    fn networks_that_take_turns_for_ever_cost_bounded_memory_and_no_count() {
        let f = fixture(1_000_000, 1_000_000);
        for _ in 0..5_000 {
            f.committed(&f.one, 1);
            f.committed(&f.two, 1);
        }
        assert_eq!(f.counts(), (5_000, 5_000, 10_000));
        let runs = f.quota.rooms[&f.room].log.lock().expect("whole").runs.len();
        assert!(runs <= RUNS, "{runs}");
        f.done("one/#r", 10_000);
        f.done("two/#r", 10_000);
        assert_eq!(f.counts(), (0, 0, 0));
    }

    #[test]
    fn events_of_the_gateway_itself_do_not_put_the_count_out_for_long() {
        let f = fixture(100, 100);
        f.committed(&f.one, 2);
        f.head.send_replace(5);
        f.done("one/#r", 5);
        f.done("two/#r", 5);
        assert_eq!(f.counts(), (0, 0, 0));
        f.committed(&f.one, 2);
        assert_eq!(f.counts(), (2, 0, 2), "5 are done, 6 and 7 wait");
    }

    #[test]
    fn lanes_may_be_done_before_an_event_is_counted() {
        let f = fixture(100, 100);
        f.head.send_replace(1);
        f.done("one/#r", 1);
        f.done("two/#r", 1);
        assert_eq!(f.counts(), (0, 0, 0));
        f.quota.committed(&f.one, &f.room, 1);
        assert_eq!(f.counts(), (0, 0, 0));
    }
}

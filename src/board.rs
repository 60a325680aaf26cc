//! What is going on right now: which network is there, which channel is joined, how far each lane has come.
//!
//! Bridges and lanes write, the admin listener and the lanes read. It holds no event and decides nothing.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use comity_bridge::{
    Capabilities, Channel, ChannelState, NetworkName, NetworkStatus, RoomAddress, Timestamp,
};
use serde::Serialize;
use tokio::sync::watch;

/// All networks and channels of the configuration.
#[derive(Debug)]
pub struct Board {
    networks: BTreeMap<NetworkName, NetworkBoard>,
    channels: HashMap<Channel, Arc<ChannelBoard>>,
    rooms: BTreeMap<RoomAddress, Vec<Channel>>,
}

/// One network.
#[derive(Debug)]
pub struct NetworkBoard {
    /// The protocol's name.
    pub protocol: &'static str,
    /// Whether it is there.
    pub status: watch::Sender<NetworkStatus>,
    /// What its channels can show.
    pub capabilities: watch::Sender<Capabilities>,
    away: Mutex<Option<Away>>,
}

/// A network that has been said to be offline.
#[derive(Debug)]
struct Away {
    why: String,
    since: Instant,
}

/// One channel and its lane.
#[derive(Debug)]
pub struct ChannelBoard {
    /// Whether it can be written to.
    pub state: watch::Sender<ChannelState>,
    /// Events of the room that the lane has not finished with.
    pub depth: AtomicU64,
    /// When the oldest of those was received; 0 when there is none.
    pub oldest: AtomicI64,
    /// How far the lane has finished with the room's log.
    pub done: AtomicU64,
    /// While the loop breaker keeps anything from being handed over: when it will let go by itself.
    pub paused: watch::Sender<Option<Timestamp>>,
    /// What the lane did last.
    pub steps: Steps,
}

/// The last steps of one lane, for people who ask what became of an event.
#[derive(Debug, Default)]
pub struct Steps(Mutex<VecDeque<Step>>);

/// One thing that a lane did with one event.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Serialize)]
pub struct Step {
    /// The event's place in its room.
    pub seq: u64,
    /// When.
    pub at: Timestamp,
    /// What.
    #[serde(flatten)]
    pub what: StepKind,
}

/// What a lane did with an event.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Serialize)]
#[serde(tag = "step", rename_all = "snake_case")]
pub enum StepKind {
    /// It was given to the bridge.
    HandedOver {
        /// From 1.
        attempt: u32,
        /// Whether an earlier one may have reached the network.
        doubt: bool,
    },
    /// The bridge split it into so many parts.
    Planned {
        /// How many.
        parts: u32,
    },
    /// A part has landed.
    Landed {
        /// Its index.
        part: u32,
    },
    /// The network has it.
    Shown,
    /// It came back, to be tried again.
    Retry {
        /// Why.
        reason: &'static str,
    },
    /// It was given up.
    Dead {
        /// Why.
        reason: &'static str,
    },
    /// It is not shown here.
    Passed {
        /// Why.
        reason: &'static str,
    },
    /// It was shown, or taken back, within the message that it changes.
    Folded,
}

/// Steps kept of each lane.
const STEPS: usize = 1024;

impl Steps {
    /// Adds steps, in order; leaves `steps` empty.
    pub fn add(&self, steps: &mut Vec<Step>) {
        if steps.is_empty() {
            return;
        }
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        for step in steps.drain(..) {
            if known.len() >= STEPS {
                known.pop_front();
            }
            known.push_back(step);
        }
    }

    /// What is remembered of one event, in order.
    pub fn of(&self, seq: u64) -> Vec<Step> {
        let known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        known
            .iter()
            .filter(|step| step.seq == seq)
            .copied()
            .collect()
    }
}

impl Board {
    /// A board on which nothing is online yet.
    pub fn new(
        networks: Vec<(NetworkName, &'static str)>,
        rooms: Vec<(RoomAddress, Vec<Channel>)>,
    ) -> Self {
        let channels = rooms
            .iter()
            .flat_map(|(_, channels)| channels)
            .map(|channel| (channel.clone(), Arc::new(ChannelBoard::new())))
            .collect();
        let networks = networks
            .into_iter()
            .map(|(name, protocol)| (name, NetworkBoard::new(protocol)))
            .collect();
        Board {
            networks,
            channels,
            rooms: rooms.into_iter().collect(),
        }
    }

    /// One network of the configuration.
    pub fn network(&self, name: &NetworkName) -> Option<&NetworkBoard> {
        self.networks.get(name)
    }

    /// One channel of the configuration.
    pub fn channel(&self, channel: &Channel) -> Option<&Arc<ChannelBoard>> {
        self.channels.get(channel)
    }

    /// Says whether a network is there. While it is not, none of its channels is joined.
    pub fn set_network(&self, name: &NetworkName, status: NetworkStatus) {
        let Some(network) = self.networks.get(name) else {
            return;
        };
        network.log(name, &status);
        if let NetworkStatus::Offline { why } = &status {
            let channels = self.channels.iter();
            for (_, board) in channels.filter(|(channel, _)| channel.network() == name) {
                board.set_state(ChannelState::NotJoined {
                    why: format!("the network is away: {why}"),
                });
            }
        }
        network.status.send_replace(status);
    }

    /// Says whether a channel can be written to.
    pub fn set_channel(&self, channel: &Channel, state: ChannelState) {
        let Some(board) = self.channels.get(channel) else {
            return;
        };
        if board.set_state(state.clone()) {
            match state {
                ChannelState::Joined => tracing::info!(%channel, "joined"),
                ChannelState::NotJoined { why } => tracing::warn!(%channel, why, "not joined"),
            }
        }
    }

    /// The state of every network and room, for people.
    pub fn snapshot(&self, now: Timestamp) -> Snapshot {
        let networks = self
            .networks
            .iter()
            .map(|(name, network)| {
                let (status, why) = match &*network.status.borrow() {
                    NetworkStatus::Connecting => ("connecting", None),
                    NetworkStatus::Online => ("online", None),
                    NetworkStatus::Offline { why } => ("offline", Some(why.clone())),
                };
                NetworkSnapshot {
                    name: name.clone(),
                    protocol: network.protocol,
                    status,
                    why,
                }
            })
            .collect();
        let rooms = self
            .rooms
            .iter()
            .map(|(room, channels)| RoomSnapshot {
                room: room.clone(),
                channels: channels
                    .iter()
                    .filter_map(|channel| self.channel_snapshot(channel, now))
                    .collect(),
            })
            .collect();
        Snapshot { networks, rooms }
    }

    fn channel_snapshot(&self, channel: &Channel, now: Timestamp) -> Option<ChannelSnapshot> {
        let board = self.channels.get(channel)?;
        let (joined, why) = match &*board.state.borrow() {
            ChannelState::Joined => (true, None),
            ChannelState::NotJoined { why } => (false, Some(why.clone())),
        };
        let oldest = board.oldest.load(Ordering::Relaxed);
        let age_ms = if oldest == 0 {
            0
        } else {
            u64::try_from(now.0 - oldest).unwrap_or(0)
        };
        Some(ChannelSnapshot {
            channel: channel.clone(),
            joined,
            why,
            depth: board.depth.load(Ordering::Relaxed),
            age_ms,
            paused_ms: board
                .paused
                .borrow()
                .map(|until| u64::try_from(until.0 - now.0).unwrap_or(0)),
        })
    }
}

impl NetworkBoard {
    fn new(protocol: &'static str) -> Self {
        NetworkBoard {
            protocol,
            status: watch::Sender::new(NetworkStatus::Connecting),
            capabilities: watch::Sender::new(Capabilities::default()),
            away: Mutex::new(None),
        }
    }

    /// A network that stays away for the same reason is said to be so once, however often its bridge tries.
    fn log(&self, network: &NetworkName, status: &NetworkStatus) {
        let mut away = self.away.lock().unwrap_or_else(PoisonError::into_inner);
        match status {
            NetworkStatus::Connecting => tracing::debug!(%network, "connecting"),
            NetworkStatus::Online => match away.take() {
                Some(away) => {
                    let away_s = away.since.elapsed().as_secs();
                    tracing::info!(%network, away_s, "online");
                }
                None => tracing::info!(%network, "online"),
            },
            NetworkStatus::Offline { why } => match &mut *away {
                Some(away) if away.why == *why => {
                    tracing::debug!(%network, why, "still offline");
                }
                known => {
                    tracing::warn!(%network, why, "offline");
                    let since = known.as_ref().map_or_else(Instant::now, |away| away.since);
                    let why = why.clone();
                    *known = Some(Away { why, since });
                }
            },
        }
    }
}

impl ChannelBoard {
    fn new() -> Self {
        ChannelBoard {
            state: watch::Sender::new(ChannelState::NotJoined {
                why: "not asked for yet".to_owned(),
            }),
            depth: AtomicU64::new(0),
            oldest: AtomicI64::new(0),
            done: AtomicU64::new(0),
            paused: watch::Sender::new(None),
            steps: Steps::default(),
        }
    }

    /// True when it was another before.
    fn set_state(&self, state: ChannelState) -> bool {
        self.state.send_if_modified(|known| {
            let changes = *known != state;
            *known = state;
            changes
        })
    }
}

/// Everything on the board at one moment.
#[derive(Clone, Debug, Serialize)]
pub struct Snapshot {
    /// By name.
    pub networks: Vec<NetworkSnapshot>,
    /// By address.
    pub rooms: Vec<RoomSnapshot>,
}

/// One network at one moment.
#[derive(Clone, Debug, Serialize)]
pub struct NetworkSnapshot {
    /// Its configured name.
    pub name: NetworkName,
    /// The protocol's name.
    pub protocol: &'static str,
    /// `connecting`, `online` or `offline`.
    pub status: &'static str,
    /// Why it is offline.
    pub why: Option<String>,
}

/// One room at one moment.
#[derive(Clone, Debug, Serialize)]
pub struct RoomSnapshot {
    /// Its address.
    pub room: RoomAddress,
    /// Where it is shown.
    pub channels: Vec<ChannelSnapshot>,
}

/// One channel at one moment.
#[derive(Clone, Debug, Serialize)]
pub struct ChannelSnapshot {
    /// Its name.
    pub channel: Channel,
    /// Whether it can be written to.
    pub joined: bool,
    /// Why not.
    pub why: Option<String>,
    /// Events that wait for this channel.
    pub depth: u64,
    /// How long the oldest of them has waited.
    pub age_ms: u64,
    /// For how long the loop breaker will keep anything from being shown; none when it does not.
    pub paused_ms: Option<u64>,
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    #[derive(Clone, Default)]
    struct Log(Arc<Mutex<Vec<u8>>>);

    impl Write for Log {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().expect("whole").write(bytes)
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_network_that_stays_away_for_one_reason_is_warned_of_once() {
        let network: NetworkName = "libera".parse().expect("a name");
        let channel = Channel::new(network.clone(), "#rust").expect("a channel");
        let room: RoomAddress = "#rust@gw1.example".parse().expect("an address");
        let board = Board::new(vec![(network.clone(), "irc")], vec![(room, vec![channel])]);
        let log = Log::default();
        let written = log.clone();
        let subscriber = tracing_subscriber::fmt()
            .with_writer(move || written.clone())
            .with_ansi(false)
            .without_time()
            .finish();
        tracing::subscriber::with_default(subscriber, || {
            let offline = |why: &str| NetworkStatus::Offline {
                why: why.to_owned(),
            };
            for why in ["refused", "refused", "no route", "no route"] {
                board.set_network(&network, NetworkStatus::Connecting);
                board.set_network(&network, offline(why));
            }
            board.set_network(&network, NetworkStatus::Online);
        });
        let log = log.0.lock().expect("whole");
        let lines: Vec<&str> = std::str::from_utf8(&log)
            .expect("text")
            .lines()
            .map(|line| line.split(": ").last().unwrap_or(line))
            .collect();
        assert_eq!(
            lines,
            [
                "offline network=libera why=\"refused\"",
                "offline network=libera why=\"no route\"",
                "online network=libera away_s=0"
            ]
        );
    }
}

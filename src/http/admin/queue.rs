//! What waits, by age: for each network and each of its channels.

use std::collections::BTreeMap;
use std::sync::atomic::Ordering;
use std::time::Duration;

use axum::Json;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use comity_bridge::{Channel, Clock, NetworkName, RoomAddress, Timestamp};
use serde::Serialize;

use super::Admin;
use super::fault::Fault;
use crate::board::{ChannelSnapshot, NetworkSnapshot};

/// Where one column of ages ends and the next begins. Seconds; the last column has no end.
const LIMITS: [u64; 7] = [5, 60, 5 * 60, 20 * 60, 3600, 6 * 3600, 24 * 3600];

/// Everything that waits.
#[derive(Serialize)]
struct Queue {
    /// The limits of the columns.
    limits_s: [u64; LIMITS.len()],
    networks: Vec<Network>,
}

#[derive(Serialize)]
struct Network {
    network: NetworkName,
    status: &'static str,
    why: Option<String>,
    #[serde(flatten)]
    waits: Waits,
    channels: Vec<InChannel>,
}

#[derive(Serialize)]
struct InChannel {
    channel: Channel,
    room: RoomAddress,
    joined: bool,
    why: Option<String>,
    paused_ms: Option<u64>,
    #[serde(flatten)]
    waits: Waits,
}

/// How much waits, and for how long.
#[derive(Clone, Default, Serialize)]
struct Waits {
    waiting: u64,
    oldest_ms: u64,
    /// One for each column.
    ages: [u64; LIMITS.len() + 1],
}

pub(super) async fn queue(State(admin): State<Admin>) -> Result<Response, Fault> {
    let now = Clock::System.now();
    let snapshot = admin.board.snapshot(now);
    let mut networks: BTreeMap<NetworkName, Network> = snapshot
        .networks
        .into_iter()
        .map(|network| (network.name.clone(), Network::new(network)))
        .collect();
    for room in snapshot.rooms {
        for channel in room.channels {
            let waits = waits(&admin, &room.room, &channel.channel, now).await?;
            if let Some(network) = networks.get_mut(channel.channel.network()) {
                network.waits.add(&waits);
                network
                    .channels
                    .push(InChannel::new(channel, room.room.clone(), waits));
            }
        }
    }
    let queue = Queue {
        limits_s: LIMITS,
        networks: networks.into_values().collect(),
    };
    Ok(Json(queue).into_response())
}

/// What one channel's lane has before it.
async fn waits(
    admin: &Admin,
    room: &RoomAddress,
    channel: &Channel,
    now: Timestamp,
) -> Result<Waits, Fault> {
    let (Some(board), Some(tail)) = (admin.board.channel(channel), admin.journal.tail(room)) else {
        return Ok(Waits::default());
    };
    let done = board.done.load(Ordering::Relaxed);
    let waiting = tail.head().borrow().saturating_sub(done);
    if waiting == 0 {
        return Ok(Waits::default());
    }
    let times = LIMITS.map(|limit| Timestamp(now.0 - millis(Duration::from_secs(limit))));
    let (older, oldest) = admin.journal.older_than(room, done, times.to_vec()).await?;
    let mut ages = [0; LIMITS.len() + 1];
    let mut left = waiting;
    for (column, older) in ages.iter_mut().zip(older) {
        let older = older.min(left);
        *column = left - older;
        left = older;
    }
    ages[LIMITS.len()] = left;
    let oldest_ms = oldest.map_or(0, |at| u64::try_from(now.0 - at.0).unwrap_or(0));
    Ok(Waits {
        waiting,
        oldest_ms,
        ages,
    })
}

fn millis(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)
}

impl Waits {
    fn add(&mut self, more: &Waits) {
        self.waiting += more.waiting;
        self.oldest_ms = self.oldest_ms.max(more.oldest_ms);
        for (sum, ages) in self.ages.iter_mut().zip(more.ages) {
            *sum += ages;
        }
    }
}

impl Network {
    fn new(network: NetworkSnapshot) -> Self {
        Network {
            network: network.name,
            status: network.status,
            why: network.why,
            waits: Waits::default(),
            channels: Vec::new(),
        }
    }
}

impl InChannel {
    fn new(channel: ChannelSnapshot, room: RoomAddress, waits: Waits) -> Self {
        InChannel {
            channel: channel.channel,
            room,
            joined: channel.joined,
            why: channel.why,
            paused_ms: channel.paused_ms,
            waits,
        }
    }
}

//! The networks that show: one that works, and the ways in which one can stop.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use comity_bridge::{
    Bridge, BridgeError, BridgeKind, Capabilities, Channel, ChannelState, ConfigProblem,
    ConfigTable, Delivery, GatewayInfo, Link, NativeId, NetworkName, NetworkStatus, Outcome,
    Request,
};
use hdrhistogram::Histogram;
use tokio::sync::Notify;

use crate::pace::{histogram, record};

/// Deliveries in a target's hands at once: the most that a lane gives.
const WINDOW: usize = 256;

/// How a target behaves.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Manner {
    /// Shows at once, and gives each message an id.
    Works,
    /// Takes deliveries and never says what became of them.
    NeverAnswers,
    /// Is joined and reads nothing that it is asked.
    NeverReads,
    /// Is not there until it is told to come back.
    Away,
}

/// What one target has shown.
pub(crate) struct Shown {
    epoch: Instant,
    joined: AtomicBool,
    back: Notify,
    count: AtomicU64,
    /// The count that somebody waits for.
    goal: AtomicU64,
    reached: Notify,
    /// The number that comes next in order.
    next: AtomicU64,
    disorder: AtomicU64,
    latencies: Mutex<Histogram<u64>>,
}

impl Shown {
    pub(super) fn new(epoch: Instant) -> Self {
        Shown {
            epoch,
            joined: AtomicBool::new(false),
            back: Notify::new(),
            count: AtomicU64::new(0),
            goal: AtomicU64::new(u64::MAX),
            reached: Notify::new(),
            next: AtomicU64::new(u64::MAX),
            disorder: AtomicU64::new(0),
            latencies: Mutex::new(histogram()),
        }
    }

    pub(super) fn is_joined(&self) -> bool {
        self.joined.load(Ordering::Relaxed)
    }

    /// Lets a target that is away come back.
    pub(crate) fn come_back(&self) {
        self.back.notify_one();
    }

    /// How many.
    pub(crate) fn count(&self) -> u64 {
        self.count.load(Ordering::Relaxed)
    }

    /// Waits until it has shown this many.
    pub(super) async fn reached(&self, count: u64) {
        loop {
            let reached = self.reached.notified();
            self.goal.store(count, Ordering::SeqCst);
            if self.count.load(Ordering::SeqCst) >= count {
                return;
            }
            reached.await;
        }
    }

    /// How many did not follow the one before them: lost, doubled or swapped.
    pub(crate) fn disorder(&self) -> u64 {
        self.disorder.load(Ordering::Relaxed)
    }

    /// The number that would come next.
    pub(crate) fn next(&self) -> u64 {
        self.next.load(Ordering::Relaxed)
    }

    /// Microseconds from when each was due to when it was in the target's hands.
    pub(crate) fn latencies(&self) -> Histogram<u64> {
        self.latencies
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// Forgets the latencies so far.
    pub(crate) fn forget(&self) {
        self.latencies
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .reset();
    }

    fn note(&self, delivery: &Delivery) {
        let native = &delivery.event.origin.native_id.0;
        let (number, due) = native.split_once('.').unwrap_or((native, ""));
        let (number, due): (u64, u64) = (number.parse().unwrap_or(0), due.parse().unwrap_or(0));
        let next = self.next.swap(number + 1, Ordering::Relaxed);
        if next != u64::MAX && next != number {
            self.disorder.fetch_add(1, Ordering::Relaxed);
        }
        let late = self
            .epoch
            .elapsed()
            .saturating_sub(Duration::from_micros(due));
        let mut latencies = self
            .latencies
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        record(&mut latencies, late);
        drop(latencies);
        let count = self.count.fetch_add(1, Ordering::SeqCst) + 1;
        if count == self.goal.load(Ordering::SeqCst) {
            self.reached.notify_one();
        }
    }
}

pub(super) struct Target {
    manner: Manner,
    shown: Arc<Shown>,
}

impl Target {
    pub(super) fn new(manner: Manner, shown: Arc<Shown>) -> Self {
        Target { manner, shown }
    }
}

impl BridgeKind for Target {
    fn protocol(&self) -> &'static str {
        "target"
    }

    fn configure(
        &self,
        _: &GatewayInfo,
        network: &NetworkName,
        _: ConfigTable,
    ) -> Result<Box<dyn Bridge>, Vec<ConfigProblem>> {
        Ok(Box::new(TargetBridge {
            manner: self.manner,
            shown: Arc::clone(&self.shown),
            channel: format!("{network}/#room").parse().expect("a channel"),
        }))
    }
}

struct TargetBridge {
    manner: Manner,
    shown: Arc<Shown>,
    channel: Channel,
}

#[async_trait]
impl Bridge for TargetBridge {
    async fn run(self: Box<Self>, mut link: Link) -> Result<(), BridgeError> {
        link.reports.capabilities(Capabilities {
            window: WINDOW,
            ..Capabilities::default()
        });
        if self.manner == Manner::Away {
            link.reports.network(NetworkStatus::Offline {
                why: "stopped for the measurement".to_owned(),
            });
            tokio::select! {
                () = self.shown.back.notified() => {}
                () = link.shutdown.cancelled() => return Ok(()),
            }
        }
        link.reports.network(NetworkStatus::Online);
        link.reports.channel(&self.channel, ChannelState::Joined);
        self.shown.joined.store(true, Ordering::Relaxed);
        if self.manner == Manner::NeverReads {
            link.shutdown.cancelled().await;
            return Ok(());
        }
        let mut kept = Vec::new();
        loop {
            let request = tokio::select! {
                Some(request) = link.requests.recv() => request,
                () = link.shutdown.cancelled() => return Ok(()),
            };
            match request {
                Request::Deliver(delivery) if self.manner == Manner::NeverAnswers => {
                    kept.push(delivery)
                }
                Request::Deliver(mut delivery) => {
                    self.shown.note(&delivery);
                    let id = NativeId(format!("${}", delivery.event.id));
                    delivery.receipts.part(0, vec![id]);
                    delivery.receipts.finish(Outcome::Shown);
                }
                Request::Join(..) | Request::Leave(_) | Request::Cancel(_) => {}
            }
        }
    }
}

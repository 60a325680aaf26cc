//! The networks of the measurement: one that reports, three that show at once.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use comity_bridge::event::{Message, MessageKind};
use comity_bridge::{
    Answer, Batch, Bridge, BridgeError, BridgeKind, Capabilities, Channel, ChannelState,
    ConfigProblem, ConfigTable, Content, GatewayInfo, Incoming, Link, NativeAuthor, NativeId,
    NetworkName, NetworkStatus, Outcome, Request, SourceId, Text,
};
use hdrhistogram::Histogram;
use tokio::sync::{Notify, Semaphore};

/// What is sent.
pub(crate) struct Plan {
    pub(crate) events: u64,
    pub(crate) interval: Option<Duration>,
    pub(crate) batch: usize,
    pub(crate) in_flight: usize,
    pub(crate) text: String,
}

/// What the networks of one measurement share.
#[derive(Clone)]
pub(crate) struct Shared(Arc<Inner>);

struct Inner {
    plan: Plan,
    begun: Instant,
    deliveries: AtomicU64,
    commits: AtomicU64,
    joined: Semaphore,
    done: Notify,
    latencies: Mutex<Histogram<u64>>,
}

impl Shared {
    pub(crate) fn new(plan: Plan) -> Self {
        Shared(Arc::new(Inner {
            plan,
            begun: Instant::now(),
            deliveries: AtomicU64::new(0),
            commits: AtomicU64::new(0),
            joined: Semaphore::new(0),
            done: Notify::new(),
            latencies: Mutex::new(Histogram::new(3).expect("three digits are allowed")),
        }))
    }

    /// Waits until every event was shown three times.
    pub(crate) async fn finished(&self) {
        self.0.done.notified().await;
    }

    /// Microseconds from when an event was due to when it was in a target's hands.
    pub(crate) fn latencies(&self) -> Histogram<u64> {
        self.0
            .latencies
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// Reports that were answered.
    pub(crate) fn commits(&self) -> u64 {
        self.0.commits.load(Ordering::Relaxed)
    }

    fn micros(&self) -> u64 {
        u64::try_from(self.0.begun.elapsed().as_micros()).unwrap_or(u64::MAX)
    }
}

/// The network that reports.
pub(crate) struct Source(Shared);

impl Source {
    pub(crate) fn new(shared: Shared) -> Self {
        Source(shared)
    }
}

/// A network that shows.
pub(crate) struct Target(Shared);

impl Target {
    pub(crate) fn new(shared: Shared) -> Self {
        Target(shared)
    }
}

impl BridgeKind for Source {
    fn protocol(&self) -> &'static str {
        "source"
    }

    fn configure(
        &self,
        _: &GatewayInfo,
        _: &NetworkName,
        _: ConfigTable,
    ) -> Result<Box<dyn Bridge>, Vec<ConfigProblem>> {
        Ok(Box::new(SourceBridge(self.0.clone())))
    }
}

impl BridgeKind for Target {
    fn protocol(&self) -> &'static str {
        "target"
    }

    fn configure(
        &self,
        _: &GatewayInfo,
        _: &NetworkName,
        _: ConfigTable,
    ) -> Result<Box<dyn Bridge>, Vec<ConfigProblem>> {
        Ok(Box::new(TargetBridge(self.0.clone())))
    }
}

struct SourceBridge(Shared);

impl SourceBridge {
    /// The due time travels in the source id, so that a late start of an event counts as latency.
    fn incoming(&self, channel: &Channel, number: u64, due: u64) -> Incoming {
        Incoming {
            channel: channel.clone(),
            source_id: SourceId(format!("{number}.{due}")),
            author: NativeAuthor::named("alice", "alice"),
            claimed: None,
            own: None,
            content: Content::Message(Message::of(
                MessageKind::Text,
                Text::plain(&self.0.0.plan.text),
            )),
            via: Vec::new(),
        }
    }
}

#[async_trait]
impl Bridge for SourceBridge {
    async fn run(self: Box<Self>, link: Link) -> Result<(), BridgeError> {
        let channel: Channel = "source/#room".parse().expect("a channel");
        link.reports.network(NetworkStatus::Online);
        link.reports.channel(&channel, ChannelState::Joined);
        drop(self.0.0.joined.acquire_many(3).await);
        let plan = &self.0.0.plan;
        let permits = Arc::new(Semaphore::new(if plan.interval.is_some() {
            10_000
        } else {
            plan.in_flight
        }));
        let begun = Instant::now();
        let batch = if plan.interval.is_some() {
            1
        } else {
            plan.batch
        };
        let mut number = 0;
        while number < plan.events {
            if let Some(interval) = plan.interval {
                let due = begun + interval.mul_f64(number as f64);
                tokio::time::sleep_until(due.into()).await;
            }
            let due = self.0.micros();
            let size = (plan.events - number).min(batch as u64);
            let incoming = (number..number + size)
                .map(|n| self.incoming(&channel, n, due))
                .collect();
            number += size;
            let permit = Arc::clone(&permits)
                .acquire_owned()
                .await
                .expect("never closed");
            let (reports, shared) = (link.reports.clone(), self.0.clone());
            tokio::spawn(async move {
                let report = Batch {
                    incoming,
                    cursor: None,
                    writes: Vec::new(),
                    gaps: Vec::new(),
                };
                while reports.commit(report.clone()).await == Answer::Busy {}
                shared.0.commits.fetch_add(1, Ordering::Relaxed);
                drop(permit);
            });
        }
        link.shutdown.cancelled().await;
        Ok(())
    }
}

struct TargetBridge(Shared);

#[async_trait]
impl Bridge for TargetBridge {
    async fn run(self: Box<Self>, mut link: Link) -> Result<(), BridgeError> {
        link.reports.capabilities(Capabilities {
            window: 256,
            ..Capabilities::default()
        });
        link.reports.network(NetworkStatus::Online);
        let inner = &self.0.0;
        loop {
            let request = tokio::select! {
                Some(request) = link.requests.recv() => request,
                () = link.shutdown.cancelled() => return Ok(()),
            };
            match request {
                Request::Join(channel, _) => {
                    link.reports.channel(&channel, ChannelState::Joined);
                    inner.joined.add_permits(1);
                }
                Request::Deliver(mut delivery) => {
                    let native = &delivery.event.origin.native_id.0;
                    let due = native
                        .split_once('.')
                        .and_then(|(_, due)| due.parse::<u64>().ok())
                        .unwrap_or(0);
                    let late = self.0.micros().saturating_sub(due);
                    inner
                        .latencies
                        .lock()
                        .unwrap_or_else(PoisonError::into_inner)
                        .record(late)
                        .expect("the histogram grows");
                    delivery
                        .receipts
                        .part(0, vec![NativeId(format!("${}", delivery.event.id))]);
                    delivery.receipts.finish(Outcome::Shown);
                    let count = inner.deliveries.fetch_add(1, Ordering::Relaxed) + 1;
                    if count == inner.plan.events * 3 {
                        inner.done.notify_one();
                    }
                }
                Request::Leave(_) | Request::Cancel(_) => {}
            }
        }
    }
}

//! What one network counts.

use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use comity_bridge::NetworkName;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;

use super::families::{Families, NetworkLabel, PerReason, ReasonLabel};

/// The counters of one network. Cheap to clone; nothing is looked up but reasons.
#[derive(Clone)]
pub struct NetworkMetrics(Arc<Series>);

struct Series {
    network: String,
    events_in: Counter,
    events_out: Counter,
    delivery: Histogram,
    duplicates: Counter,
    reconnects: Counter,
    online: Gauge,
    lane_depth: Gauge,
    lane_age: Gauge<f64, AtomicU64>,
    waiting: Gauge,
    quota_reached: Gauge,
    gaps: Counter,
    breaker_open: Gauge,
    busy: Reasons,
    refused: Reasons,
    retries: Reasons,
    dead_letters: Reasons,
    passed: Reasons,
    revived: Counter,
    told: Counter,
}

/// A counter for each reason, in one network.
struct Reasons {
    family: PerReason,
    known: Mutex<Vec<(&'static str, Counter)>>,
}

impl NetworkMetrics {
    /// Those of `network`, at zero if they are new.
    pub(super) fn of(network: &NetworkName, families: &Families) -> Self {
        let label = NetworkLabel {
            network: network.to_string(),
        };
        NetworkMetrics(Arc::new(Series {
            network: network.to_string(),
            events_in: families.events_in.get_or_create_owned(&label),
            events_out: families.events_out.get_or_create_owned(&label),
            delivery: families.delivery.get_or_create_owned(&label),
            duplicates: families.duplicates.get_or_create_owned(&label),
            reconnects: families.reconnects.get_or_create_owned(&label),
            online: families.online.get_or_create_owned(&label),
            lane_depth: families.lane_depth.get_or_create_owned(&label),
            lane_age: families.lane_age.get_or_create_owned(&label),
            waiting: families.waiting.get_or_create_owned(&label),
            quota_reached: families.quota_reached.get_or_create_owned(&label),
            gaps: families.gaps.get_or_create_owned(&label),
            breaker_open: families.breaker_open.get_or_create_owned(&label),
            busy: Reasons::of(&families.busy, network, "quota"),
            refused: Reasons::of(&families.refused, network, "malformed"),
            retries: Reasons::of(&families.retries, network, "connection_lost"),
            dead_letters: Reasons::of(&families.dead_letters, network, "forbidden"),
            passed: Reasons::of(&families.passed, network, "not_shown_here"),
            revived: families.revived.get_or_create_owned(&label),
            told: families.told.get_or_create_owned(&label),
        }))
    }

    /// An event was committed.
    pub fn event_in(&self) {
        self.0.events_in.inc();
    }

    /// Something that a stranger sent did not become an event.
    pub fn refused(&self, reason: &'static str) {
        self.0.refused.count(&self.0.network, reason);
    }

    /// A delivery was shown, this long after its event was committed.
    pub fn event_out(&self, latency: Duration) {
        self.0.events_out.inc();
        self.0.delivery.observe(latency.as_secs_f64());
    }

    /// A delivery will be tried again.
    pub fn retry(&self, reason: &'static str) {
        self.0.retries.count(&self.0.network, reason);
    }

    /// A delivery was given up.
    pub fn dead_letter(&self, reason: &'static str) {
        self.0.dead_letters.count(&self.0.network, reason);
    }

    /// An event is not shown on the network.
    pub fn passed(&self, reason: &'static str) {
        self.0.passed.count(&self.0.network, reason);
    }

    /// A dead letter was shown after all.
    pub fn revived(&self) {
        self.0.revived.inc();
    }

    /// An author elsewhere is told that the network has not shown what they said.
    pub fn told(&self) {
        self.0.told.inc();
    }

    /// The network reported what was an event already.
    pub fn duplicate(&self) {
        self.0.duplicates.inc();
    }

    /// The network was lost and is being connected again.
    pub fn reconnect(&self) {
        self.0.reconnects.inc();
    }

    /// The network is there, or not.
    pub fn online(&self, online: bool) {
        self.0.online.set(i64::from(online));
    }

    /// So many events of the network wait for others.
    pub fn waiting(&self, events: u64) {
        let events = i64::try_from(events).unwrap_or(i64::MAX);
        self.0.waiting.set(events);
    }

    /// No more of the network's events are taken for now, or they are again.
    pub fn quota_reached(&self, reached: bool) {
        self.0.quota_reached.set(i64::from(reached));
    }

    /// Messages may have been missed.
    pub fn gap(&self) {
        self.0.gaps.inc();
    }

    /// One more channel is paused by the loop breaker, or one less.
    pub fn breaker_open(&self, open: bool) {
        if open {
            self.0.breaker_open.inc();
        } else {
            self.0.breaker_open.dec();
        }
    }

    /// A report was put off.
    pub fn busy(&self, reason: &'static str) {
        self.0.busy.count(&self.0.network, reason);
    }

    /// What waits in the network's lanes: their depths together, and the age of the oldest.
    pub fn lane(&self, depth: u64, oldest_age: Duration) {
        self.0
            .lane_depth
            .set(i64::try_from(depth).unwrap_or(i64::MAX));
        self.0.lane_age.set(oldest_age.as_secs_f64());
    }
}

impl Reasons {
    /// One reason is there from the start, so that the metric is there before anything has gone wrong.
    fn of(family: &PerReason, network: &NetworkName, first: &'static str) -> Self {
        let counter = family.get_or_create_owned(&ReasonLabel {
            network: network.to_string(),
            reason: first,
        });
        Reasons {
            family: family.clone(),
            known: Mutex::new(vec![(first, counter)]),
        }
    }

    fn count(&self, network: &str, reason: &'static str) {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, counter)) = known.iter().find(|(word, _)| *word == reason) {
            counter.inc();
            return;
        }
        let counter = self.family.get_or_create_owned(&ReasonLabel {
            network: network.to_owned(),
            reason,
        });
        counter.inc();
        known.push((reason, counter));
    }
}

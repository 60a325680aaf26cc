//! What the gateway counts, for `/metrics`.
//!
//! Every series carries the network's name and, where there is one, a reason out of a fixed list of words.
//! It must never carry the name of a room, a channel or a user: the series would tell who talks where, and
//! strangers could make as many as they like.
//!
//! The hot path holds a [`NetworkMetrics`], which touches nothing but its own counters; the methods of
//! [`Metrics`] that take a name look it up first.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::Duration;

use comity_bridge::NetworkName;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::{Family, MetricConstructor};
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::metrics::info::Info;
use prometheus_client::registry::{Registry, Unit};

/// The media type of [`Metrics::render`].
pub const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// From a local commit to a peer that was away for a day.
const DELIVERY_SECONDS: [f64; 16] = [
    0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 60.0, 3600.0,
    86400.0,
];

/// From a disk with a battery to one that is failing.
const COMMIT_SECONDS: [f64; 13] = [
    0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0, 5.0,
];

#[derive(Clone, Debug, EncodeLabelSet, Eq, Hash, PartialEq)]
struct NetworkLabel {
    network: String,
}

#[derive(Clone, Debug, EncodeLabelSet, Eq, Hash, PartialEq)]
struct ReasonLabel {
    network: String,
    // A word of the program, never of a stranger: the number of series has a limit.
    reason: &'static str,
}

#[derive(Clone)]
struct Seconds(&'static [f64]);

impl MetricConstructor<Histogram> for Seconds {
    fn new_metric(&self) -> Histogram {
        Histogram::new(self.0.iter().copied())
    }
}

type PerNetwork<M> = Family<NetworkLabel, M>;
type PerReason = Family<ReasonLabel, Counter>;

/// All counters of one gateway. Cheap to clone.
#[derive(Clone)]
pub struct Metrics(Arc<Inner>);

struct Inner {
    registry: Registry,
    families: Families,
    journal_commit: Histogram,
    journal_events: Counter,
    journal_writable: Gauge,
    waiting_in_all: Gauge,
    networks: RwLock<HashMap<NetworkName, NetworkMetrics>>,
}

struct Families {
    events_in: PerNetwork<Counter>,
    events_out: PerNetwork<Counter>,
    delivery: Family<NetworkLabel, Histogram, Seconds>,
    duplicates: PerNetwork<Counter>,
    reconnects: PerNetwork<Counter>,
    online: PerNetwork<Gauge>,
    lane_depth: PerNetwork<Gauge>,
    lane_age: PerNetwork<Gauge<f64, std::sync::atomic::AtomicU64>>,
    waiting: PerNetwork<Gauge>,
    quota_reached: PerNetwork<Gauge>,
    gaps: PerNetwork<Counter>,
    breaker_open: PerNetwork<Gauge>,
    busy: PerReason,
    refused: PerReason,
    retries: PerReason,
    dead_letters: PerReason,
    passed: PerReason,
    revived: PerNetwork<Counter>,
    told: PerNetwork<Counter>,
}

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
    lane_age: Gauge<f64, std::sync::atomic::AtomicU64>,
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

impl Metrics {
    /// Counters at zero, with a series for each of these networks.
    pub fn new<'a>(networks: impl IntoIterator<Item = &'a NetworkName>) -> Self {
        let mut registry = Registry::with_prefix("comity");
        registry.register(
            "build",
            "The running version",
            Info::new(vec![("version", env!("CARGO_PKG_VERSION"))]),
        );
        let journal_commit = Seconds(&COMMIT_SECONDS).new_metric();
        registry.register_with_unit(
            "journal_commit",
            "How long commits to the journal took, synchronisation with the disk included",
            Unit::Seconds,
            journal_commit.clone(),
        );
        let journal_events = Counter::default();
        registry.register(
            "journal_events",
            "Events committed to the journal",
            journal_events.clone(),
        );
        let journal_writable = Gauge::default();
        journal_writable.set(1);
        registry.register(
            "journal_writable",
            "0 while the disk takes nothing and new input is refused",
            journal_writable.clone(),
        );
        let waiting_in_all = Gauge::default();
        registry.register(
            "waiting_events",
            "Events that not all channels of their room have finished with, from all networks and from before the start",
            waiting_in_all.clone(),
        );
        let families = Families::register(&mut registry);
        let metrics = Metrics(Arc::new(Inner {
            registry,
            families,
            journal_commit,
            journal_events,
            journal_writable,
            waiting_in_all,
            networks: RwLock::default(),
        }));
        for network in networks {
            metrics.network(network);
        }
        metrics
    }

    /// The counters of one network, for whoever counts often.
    pub fn network(&self, network: &NetworkName) -> NetworkMetrics {
        let known = self
            .0
            .networks
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .get(network)
            .cloned();
        known.unwrap_or_else(|| {
            self.0
                .networks
                .write()
                .unwrap_or_else(PoisonError::into_inner)
                .entry(network.clone())
                .or_insert_with(|| self.0.families.of(network))
                .clone()
        })
    }

    /// An event was committed.
    pub fn event_in(&self, network: &NetworkName) {
        self.network(network).event_in();
    }

    /// Something that a stranger sent did not become an event.
    pub fn refused(&self, network: &NetworkName, reason: &'static str) {
        self.network(network).refused(reason);
    }

    /// A network reported what was an event already.
    pub fn duplicate(&self, network: &NetworkName) {
        self.network(network).duplicate();
    }

    /// A network was lost and is being connected again.
    pub fn reconnect(&self, network: &NetworkName) {
        self.network(network).reconnect();
    }

    /// A network is there, or not.
    pub fn network_online(&self, network: &NetworkName, online: bool) {
        self.network(network).online(online);
    }

    /// What waits in the lanes of a network: their depths together, and the age of the oldest.
    pub fn lane(&self, network: &NetworkName, depth: u64, oldest_age: Duration) {
        self.network(network).lane(depth, oldest_age);
    }

    /// The disk takes what is written, or not.
    pub fn journal_writable(&self, writable: bool) {
        self.0.journal_writable.set(i64::from(writable));
    }

    /// Whether the disk took what was written last.
    pub fn is_journal_writable(&self) -> bool {
        self.0.journal_writable.get() != 0
    }

    /// So many events wait, of all networks together.
    pub fn waiting_in_all(&self, events: u64) {
        let events = i64::try_from(events).unwrap_or(i64::MAX);
        self.0.waiting_in_all.set(events);
    }

    /// The journal has committed this many events.
    pub fn journal_commit(&self, took: Duration, events: usize) {
        self.0.journal_commit.observe(took.as_secs_f64());
        self.0.journal_events.inc_by(events as u64);
    }

    /// All series, in the OpenMetrics text format ([`CONTENT_TYPE`]).
    pub fn render(&self) -> String {
        let mut text = String::new();
        encode(&mut text, &self.0.registry).expect("a String takes all that is written to it");
        text
    }
}

impl NetworkMetrics {
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

impl Families {
    fn register(registry: &mut Registry) -> Self {
        let families = Families {
            events_in: Family::default(),
            events_out: Family::default(),
            delivery: Family::new_with_constructor(Seconds(&DELIVERY_SECONDS)),
            duplicates: Family::default(),
            reconnects: Family::default(),
            online: Family::default(),
            lane_depth: Family::default(),
            lane_age: Family::default(),
            waiting: Family::default(),
            quota_reached: Family::default(),
            gaps: Family::default(),
            breaker_open: Family::default(),
            busy: Family::default(),
            refused: Family::default(),
            retries: Family::default(),
            dead_letters: Family::default(),
            passed: Family::default(),
            revived: Family::default(),
            told: Family::default(),
        };
        registry.register(
            "events_in",
            "Events that the network reported and the journal committed",
            families.events_in.clone(),
        );
        registry.register(
            "events_out",
            "Deliveries that the network has shown",
            families.events_out.clone(),
        );
        registry.register_with_unit(
            "delivery",
            "From the commit of an event until the network has shown it",
            Unit::Seconds,
            families.delivery.clone(),
        );
        registry.register(
            "duplicates",
            "Reports of what was an event already",
            families.duplicates.clone(),
        );
        registry.register(
            "reconnects",
            "How often the network was lost and connected again",
            families.reconnects.clone(),
        );
        registry.register(
            "network_online",
            "1 while the network is connected and usable",
            families.online.clone(),
        );
        registry.register(
            "lane_depth",
            "Deliveries that wait in the network's lanes",
            families.lane_depth.clone(),
        );
        registry.register_with_unit(
            "lane_age",
            "How long the oldest waiting delivery of the network has waited",
            Unit::Seconds,
            families.lane_age.clone(),
        );
        registry.register(
            "waiting_from",
            "Events of the network that not all channels of their room have finished with",
            families.waiting.clone(),
        );
        registry.register(
            "quota_reached",
            "1 while so many events of the network wait that no more are taken",
            families.quota_reached.clone(),
        );
        registry.register(
            "gaps",
            "Stretches of time in which messages of the network may have been missed for good",
            families.gaps.clone(),
        );
        registry.register(
            "breaker_open",
            "Channels of the network that are paused because a foreign bridge sends our messages back",
            families.breaker_open.clone(),
        );
        registry.register(
            "busy",
            "Reports that were put off, by reason",
            families.busy.clone(),
        );
        registry.register(
            "refused",
            "What the network sent and what did not become an event, by reason",
            families.refused.clone(),
        );
        registry.register(
            "retries",
            "Deliveries put off to be tried again, by reason",
            families.retries.clone(),
        );
        registry.register(
            "dead_letters",
            "Deliveries given up, by reason",
            families.dead_letters.clone(),
        );
        registry.register(
            "not_shown",
            "Events that the network is not given since it cannot show them, by reason",
            families.passed.clone(),
        );
        registry.register(
            "dead_letters_revived",
            "Dead letters that were shown when they were tried again",
            families.revived.clone(),
        );
        registry.register(
            "authors_told",
            "Authors who were told that the network has not shown what they said",
            families.told.clone(),
        );
        families
    }

    fn of(&self, network: &NetworkName) -> NetworkMetrics {
        let label = NetworkLabel {
            network: network.to_string(),
        };
        NetworkMetrics(Arc::new(Series {
            network: network.to_string(),
            events_in: self.events_in.get_or_create_owned(&label),
            events_out: self.events_out.get_or_create_owned(&label),
            delivery: self.delivery.get_or_create_owned(&label),
            duplicates: self.duplicates.get_or_create_owned(&label),
            reconnects: self.reconnects.get_or_create_owned(&label),
            online: self.online.get_or_create_owned(&label),
            lane_depth: self.lane_depth.get_or_create_owned(&label),
            lane_age: self.lane_age.get_or_create_owned(&label),
            waiting: self.waiting.get_or_create_owned(&label),
            quota_reached: self.quota_reached.get_or_create_owned(&label),
            gaps: self.gaps.get_or_create_owned(&label),
            breaker_open: self.breaker_open.get_or_create_owned(&label),
            busy: Reasons::of(&self.busy, network, "quota"),
            refused: Reasons::of(&self.refused, network, "malformed"),
            retries: Reasons::of(&self.retries, network, "connection_lost"),
            dead_letters: Reasons::of(&self.dead_letters, network, "forbidden"),
            passed: Reasons::of(&self.passed, network, "not_shown_here"),
            revived: self.revived.get_or_create_owned(&label),
            told: self.told.get_or_create_owned(&label),
        }))
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

#[cfg(test)]
mod tests {
    use super::*;

    fn name(text: &str) -> NetworkName {
        text.parse().expect("a network name")
    }

    #[test]
    fn every_configured_network_is_there_at_zero() {
        let metrics = Metrics::new([&name("libera"), &name("home")]);
        let text = metrics.render();
        for line in [
            "comity_events_in_total{network=\"libera\"} 0",
            "comity_events_out_total{network=\"home\"} 0",
            "comity_delivery_seconds_count{network=\"home\"} 0",
            "comity_lane_depth{network=\"libera\"} 0",
            "comity_lane_age_seconds{network=\"libera\"} 0.0",
            "comity_network_online{network=\"home\"} 0",
            "comity_reconnects_total{network=\"home\"} 0",
            "comity_journal_commit_seconds_count 0",
            "comity_journal_writable 1",
            "comity_waiting_events 0",
            "comity_waiting_from{network=\"home\"} 0",
            "comity_quota_reached{network=\"home\"} 0",
            "comity_gaps_total{network=\"libera\"} 0",
            "comity_breaker_open{network=\"libera\"} 0",
            "comity_busy_total{network=\"libera\",reason=\"quota\"} 0",
            "comity_refused_total{network=\"libera\",reason=\"malformed\"} 0",
            "comity_retries_total{network=\"home\",reason=\"connection_lost\"} 0",
        ] {
            assert!(text.lines().any(|have| have == line), "{line}\n{text}");
        }
    }

    #[test]
    fn what_is_counted_is_shown_by_network_and_reason() {
        let libera = name("libera");
        let metrics = Metrics::new([&libera]);
        let handle = metrics.network(&libera);
        handle.event_in();
        metrics.event_in(&libera);
        handle.refused("malformed");
        metrics.refused(&libera, "malformed");
        metrics.refused(&libera, "loop");
        metrics.network(&libera).retry("rate_limited");
        metrics.network(&libera).dead_letter("too_large");
        metrics.network(&libera).event_out(Duration::from_millis(3));
        metrics.duplicate(&libera);
        metrics.reconnect(&libera);
        metrics.network_online(&libera, true);
        metrics.lane(&libera, 7, Duration::from_millis(1500));
        metrics.journal_commit(Duration::from_millis(2), 64);
        let text = metrics.render();
        for line in [
            "comity_events_in_total{network=\"libera\"} 2",
            "comity_refused_total{network=\"libera\",reason=\"malformed\"} 2",
            "comity_refused_total{network=\"libera\",reason=\"loop\"} 1",
            "comity_retries_total{network=\"libera\",reason=\"rate_limited\"} 1",
            "comity_dead_letters_total{network=\"libera\",reason=\"too_large\"} 1",
            "comity_events_out_total{network=\"libera\"} 1",
            "comity_delivery_seconds_bucket{le=\"0.005\",network=\"libera\"} 1",
            "comity_duplicates_total{network=\"libera\"} 1",
            "comity_reconnects_total{network=\"libera\"} 1",
            "comity_network_online{network=\"libera\"} 1",
            "comity_lane_depth{network=\"libera\"} 7",
            "comity_lane_age_seconds{network=\"libera\"} 1.5",
            "comity_journal_events_total 64",
            "comity_journal_commit_seconds_bucket{le=\"0.0025\"} 1",
        ] {
            assert!(text.lines().any(|have| have == line), "{line}\n{text}");
        }
    }
}

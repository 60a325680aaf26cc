//! What the gateway counts, for `/metrics`.
//!
//! Every series carries the network's name and, where there is one, a reason out of a fixed list of words.
//! It must never carry the name of a room, a channel or a user: the series would tell who talks where, and
//! strangers could make as many as they like.
//!
//! The hot path holds a [`NetworkMetrics`], which touches nothing but its own counters; the methods of
//! [`Metrics`] that take a name look it up first.

mod families;
mod network;

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use comity_bridge::NetworkName;
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::MetricConstructor;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::metrics::info::Info;
use prometheus_client::registry::{Registry, Unit};

use families::{Families, Seconds};
pub use network::NetworkMetrics;

/// The media type of [`Metrics::render`].
pub const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// From a disk with a battery to one that is failing.
const COMMIT_SECONDS: [f64; 13] = [
    0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0, 5.0,
];

/// All counters of one gateway. Cheap to clone.
#[derive(Clone)]
pub struct Metrics(Arc<Inner>);

struct Inner {
    registry: Registry,
    families: Families,
    journal_commit: Histogram,
    journal_events: Counter,
    journal_writable: Gauge,
    /// For good: damage does not pass by itself.
    journal_damaged: AtomicBool,
    waiting_in_all: Gauge,
    networks: RwLock<HashMap<NetworkName, NetworkMetrics>>,
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
            "0 while the disk takes nothing and new input is refused, and when the journal is damaged",
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
            journal_damaged: AtomicBool::new(false),
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
                .or_insert_with(|| NetworkMetrics::of(network, &self.0.families))
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
        let damaged = self.0.journal_damaged.load(Ordering::Relaxed);
        self.0.journal_writable.set(i64::from(writable && !damaged));
    }

    /// Something in the journal is damaged, and stays so while the gateway runs.
    pub fn journal_damaged(&self) {
        self.0.journal_damaged.store(true, Ordering::Relaxed);
        self.journal_writable(false);
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

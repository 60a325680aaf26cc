//! The metrics that every network has, and their words for whoever reads `/metrics`.

use std::fmt::Debug;
use std::hash::Hash;
use std::sync::atomic::AtomicU64;

use prometheus_client::encoding::{EncodeLabelSet, EncodeMetric};
use prometheus_client::metrics::TypedMetric;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::{Family, MetricConstructor};
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::{Registry, Unit};

/// From a local commit to a peer that was away for a day.
const DELIVERY_SECONDS: [f64; 16] = [
    0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 60.0, 3600.0,
    86400.0,
];

#[derive(Clone, Debug, EncodeLabelSet, Eq, Hash, PartialEq)]
pub(super) struct NetworkLabel {
    pub(super) network: String,
}

#[derive(Clone, Debug, EncodeLabelSet, Eq, Hash, PartialEq)]
pub(super) struct ReasonLabel {
    pub(super) network: String,
    // A word of the program, never of a stranger: the number of series has a limit.
    pub(super) reason: &'static str,
}

/// Histograms with these bounds.
#[derive(Clone, Debug)]
pub(super) struct Seconds(pub(super) &'static [f64]);

impl MetricConstructor<Histogram> for Seconds {
    fn new_metric(&self) -> Histogram {
        Histogram::new(self.0.iter().copied())
    }
}

pub(super) type PerNetwork<M> = Family<NetworkLabel, M>;
pub(super) type PerReason = Family<ReasonLabel, Counter>;

pub(super) struct Families {
    pub(super) events_in: PerNetwork<Counter>,
    pub(super) events_out: PerNetwork<Counter>,
    pub(super) delivery: Family<NetworkLabel, Histogram, Seconds>,
    pub(super) duplicates: PerNetwork<Counter>,
    pub(super) reconnects: PerNetwork<Counter>,
    pub(super) online: PerNetwork<Gauge>,
    pub(super) lane_depth: PerNetwork<Gauge>,
    pub(super) lane_age: PerNetwork<Gauge<f64, AtomicU64>>,
    pub(super) waiting: PerNetwork<Gauge>,
    pub(super) quota_reached: PerNetwork<Gauge>,
    pub(super) gaps: PerNetwork<Counter>,
    pub(super) breaker_open: PerNetwork<Gauge>,
    pub(super) busy: PerReason,
    pub(super) refused: PerReason,
    pub(super) retries: PerReason,
    pub(super) dead_letters: PerReason,
    pub(super) passed: PerReason,
    pub(super) revived: PerNetwork<Counter>,
    pub(super) told: PerNetwork<Counter>,
}

impl Families {
    /// All of them, with no network yet.
    pub(super) fn register(registry: &mut Registry) -> Self {
        let delivery = Family::new_with_constructor(Seconds(&DELIVERY_SECONDS));
        registry.register_with_unit(
            "delivery",
            "From the commit of an event until the network has shown it",
            Unit::Seconds,
            delivery.clone(),
        );
        let lane_age = PerNetwork::default();
        registry.register_with_unit(
            "lane_age",
            "How long the oldest waiting delivery of the network has waited",
            Unit::Seconds,
            lane_age.clone(),
        );
        let mut all = Registered(registry);
        Families {
            events_in: all.family("events_in", "Events that the network reported and the journal committed"),
            events_out: all.family("events_out", "Deliveries that the network has shown"),
            delivery,
            duplicates: all.family("duplicates", "Reports of what was an event already"),
            reconnects: all.family("reconnects", "How often the network was lost and connected again"),
            online: all.family("network_online", "1 while the network is connected and usable"),
            lane_depth: all.family("lane_depth", "Deliveries that wait in the network's lanes"),
            lane_age,
            waiting: all.family("waiting_from", "Events of the network that not all channels of their room have finished with"),
            quota_reached: all.family("quota_reached", "1 while so many events of the network wait that no more are taken"),
            gaps: all.family("gaps", "Stretches of time in which messages of the network may have been missed for good"),
            breaker_open: all.family("breaker_open", "Channels of the network that are paused because a foreign bridge sends our messages back"),
            busy: all.family("busy", "Reports that were put off, by reason"),
            refused: all.family("refused", "What the network sent and what did not become an event, by reason"),
            retries: all.family("retries", "Deliveries put off to be tried again, by reason"),
            dead_letters: all.family("dead_letters", "Deliveries given up, by reason"),
            passed: all.family("not_shown", "Events that the network is not given since it cannot show them, by reason"),
            revived: all.family("dead_letters_revived", "Dead letters that were shown when they were tried again"),
            told: all.family("authors_told", "Authors who were told that the network has not shown what they said"),
        }
    }
}

/// Makes families that are in the registry.
struct Registered<'a>(&'a mut Registry);

impl Registered<'_> {
    fn family<L, M>(&mut self, name: &str, help: &str) -> Family<L, M>
    where
        L: Clone + Debug + EncodeLabelSet + Eq + Hash + Send + Sync + 'static,
        M: Debug + Default + EncodeMetric + Send + Sync + TypedMetric + 'static,
    {
        let family = Family::default();
        self.0.register(name, help, family.clone());
        family
    }
}

//! Bad input is refused or skipped and counted, and everything else goes on.
//!
//! One file for each side that it may come from.

mod federation;
mod irc;
mod journal;
mod matrix;
mod xmpp;

use comity_people::{Gateway, metrics::Metrics};

/// What one network sent so far that was refused or skipped.
fn refused(metrics: &Metrics, network: &str) -> f64 {
    metrics.sum("comity_refused_total", &[("network", network)])
}

/// Waits until `count` more things than `before` were refused from that network.
async fn counted(gateway: &Gateway, network: &str, before: f64, count: usize) {
    let due = before + f64::from(u32::try_from(count).expect("a few"));
    gateway
        .metrics_until("everything bad is counted", |metrics| {
            refused(metrics, network) >= due
        })
        .await
        .unwrap();
}

/// How often the gateway lost this network and connected again.
async fn reconnects(gateway: &Gateway, network: &str) -> f64 {
    let metrics = gateway.metrics().await.unwrap();
    metrics.sum("comity_reconnects_total", &[("network", network)])
}

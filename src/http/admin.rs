//! Health, metrics and the API, for this machine alone.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use axum::extract::{Request, State};
use axum::http::header::{CONTENT_TYPE, HOST};
use axum::http::uri::Authority;
use axum::http::{HeaderMap, StatusCode};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use comity_bridge::{Clock, NetworkName};
use hyper_util::service::TowerToHyperService;
use serde_json::json;

use crate::board::{Board, Snapshot};
use crate::metrics::{self, Metrics};

/// What the admin listener shows.
#[derive(Clone)]
pub struct Admin {
    /// What is going on.
    pub board: Arc<Board>,
    /// What was counted.
    pub metrics: Metrics,
    /// Whether the gateway has started.
    pub ready: Readiness,
}

/// Whether the journal is open and every network was started. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct Readiness(Arc<AtomicBool>);

impl Readiness {
    /// Says that the gateway has started, or that it is about to stop.
    pub fn set(&self, ready: bool) {
        self.0.store(ready, Ordering::Release);
    }

    fn get(&self) -> bool {
        self.0.load(Ordering::Acquire)
    }
}

/// The pages, as a service for connections.
pub(super) fn service(admin: Admin) -> TowerToHyperService<Router> {
    let pages = Router::new()
        .route("/healthz", get(healthz))
        .route("/readyz", get(readyz))
        .route("/metrics", get(metrics))
        .route("/v1/rooms", get(rooms))
        .route("/v1/networks", get(networks))
        .layer(middleware::from_fn(only_for_this_machine))
        .with_state(admin);
    TowerToHyperService::new(pages)
}

/// Refuses what a browser brings on behalf of a web page whose name was pointed at this machine (DNS rebinding).
async fn only_for_this_machine(request: Request, next: Next) -> Response {
    let host = request
        .uri()
        .host()
        .map(str::to_owned)
        .or_else(|| host_of(request.headers()));
    if host.is_some_and(|host| is_this_machine(&host)) {
        next.run(request).await
    } else {
        let text = "this listener is for the machine itself: ask for localhost or its address\n";
        (StatusCode::MISDIRECTED_REQUEST, text).into_response()
    }
}

fn host_of(headers: &HeaderMap) -> Option<String> {
    let host = headers.get(HOST)?.to_str().ok()?;
    let authority: Authority = host.parse().ok()?;
    Some(authority.host().to_owned())
}

fn is_this_machine(host: &str) -> bool {
    let host = host.trim_start_matches('[').trim_end_matches(']');
    host.eq_ignore_ascii_case("localhost")
        || host.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback())
}

async fn healthz() -> &'static str {
    "ok\n"
}

async fn readyz(State(admin): State<Admin>) -> Response {
    let journal = admin.metrics.is_journal_writable();
    let ready = admin.ready.get() && journal;
    let status = if ready {
        StatusCode::OK
    } else {
        StatusCode::SERVICE_UNAVAILABLE
    };
    let networks = admin.snapshot().networks;
    (
        status,
        Json(json!({"ready": ready, "journal_writable": journal, "networks": networks})),
    )
        .into_response()
}

async fn metrics(State(admin): State<Admin>) -> Response {
    let mut lanes: BTreeMap<NetworkName, (u64, Duration)> = BTreeMap::new();
    let snapshot = admin.snapshot();
    for network in snapshot.networks {
        lanes.insert(network.name, (0, Duration::ZERO));
    }
    for channel in snapshot.rooms.iter().flat_map(|room| &room.channels) {
        let network = channel.channel.network().clone();
        let (depth, age) = lanes.entry(network).or_default();
        *depth += channel.depth;
        *age = (*age).max(Duration::from_millis(channel.age_ms));
    }
    for (network, (depth, age)) in lanes {
        admin.metrics.lane(&network, depth, age);
    }
    (
        [(CONTENT_TYPE, metrics::CONTENT_TYPE)],
        admin.metrics.render(),
    )
        .into_response()
}

async fn rooms(State(admin): State<Admin>) -> Response {
    Json(json!({"rooms": admin.snapshot().rooms})).into_response()
}

async fn networks(State(admin): State<Admin>) -> Response {
    Json(json!({"networks": admin.snapshot().networks})).into_response()
}

impl Admin {
    fn snapshot(&self) -> Snapshot {
        self.board.snapshot(Clock::System.now())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_admin_listener_answers_to_names_of_this_machine_only() {
        for good in ["localhost", "127.0.0.1", "127.0.0.9", "[::1]"] {
            assert!(is_this_machine(good), "{good}");
        }
        for bad in ["evil.example", "192.0.2.1", "localhost.evil.example", ""] {
            assert!(!is_this_machine(bad), "{bad}");
        }
    }
}

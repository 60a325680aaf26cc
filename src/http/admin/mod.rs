//! Health, metrics and the API, for this machine alone.
//!
//! | module | what |
//! |---|---|
//! | `guard` | keeps web pages out |
//! | `channels` | what the operator can do with one channel |
//! | `queue` | what waits, by age |
//! | `dead` | what was given up |
//! | `trace` | what became of one event |
//! | `fault` | why a question has no answer |

mod channels;
mod dead;
mod fault;
mod guard;
mod queue;
mod trace;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use axum::extract::State;
use axum::http::StatusCode;
use axum::http::header::CONTENT_TYPE;
use axum::middleware;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use comity_bridge::{Clock, NetworkName};
use hyper_util::service::TowerToHyperService;
use serde_json::json;

use crate::board::{Board, Snapshot};
use crate::journal::Journal;
use crate::metrics::{self, Metrics};
use crate::router::Gate;

/// What the admin listener shows.
#[derive(Clone)]
pub struct Admin {
    /// What is going on.
    pub board: Arc<Board>,
    /// What was counted.
    pub metrics: Metrics,
    /// Whether the gateway has started.
    pub ready: Readiness,
    /// What comes in.
    pub gate: Arc<Gate>,
    /// What has come in.
    pub journal: Journal,
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
        .route("/v1/channels/{channel}/resume", post(channels::resume))
        .route("/v1/queue", get(queue::queue))
        .route("/v1/events/{event}/trace", get(trace::trace))
        .route("/v1/dead", get(dead::list))
        .route("/v1/dead/retry", post(dead::retry))
        .route("/v1/dead/drop", post(dead::drop))
        .route(
            "/v1/dead/{channel}/{event}",
            get(dead::show).delete(dead::drop_one),
        )
        .route("/v1/dead/{channel}/{event}/retry", post(dead::retry_one))
        .route("/v1/dead/{channel}/{event}/drop", post(dead::drop_one))
        .layer(middleware::from_fn(guard::only_for_this_machine))
        .with_state(admin);
    TowerToHyperService::new(pages)
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
    admin.gate.count_waiting();
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

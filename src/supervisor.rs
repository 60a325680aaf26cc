//! One task per network: starts its bridge, starts it again with back-off when it ends, stops it in order.
//!
//! A bridge that panics or returns takes nobody else down; its deliveries come back to their lanes as in doubt.

use std::sync::Arc;
use std::time::Duration;

use comity_bridge::report::Intake;
use comity_bridge::{
    Bridge, BridgeError, BridgeKind, Channel, Clock, ConfigTable, Directory, Env, GatewayInfo,
    HttpExchange, JoinOptions, Link, NetworkName, NetworkStatus, Reports, Request,
};
use comity_net::Backoff;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::delivery::{RequestSlot, WINDOW_LIMIT};

/// HTTP requests that may wait for a bridge.
const HTTP_QUEUE: usize = 64;

/// How long a bridge may take to end when asked; then it is cut off.
const GOODBYE: Duration = Duration::from_secs(4);

/// A bridge that ran this long was well.
const WELL: Duration = Duration::from_secs(60);

/// Everything that it takes to run one network.
pub struct NetworkTask {
    /// Its name.
    pub name: NetworkName,
    /// Its protocol.
    pub kind: &'static dyn BridgeKind,
    /// Its configuration, to make the bridge again.
    pub table: ConfigTable,
    /// What the bridge may know of the gateway.
    pub gateway: GatewayInfo,
    /// Its channels.
    pub joins: Vec<(Channel, JoinOptions)>,
    /// Where its reports go.
    pub intake: Arc<dyn Intake>,
    /// Rooms and channels, to look up.
    pub directory: Directory,
    /// HTTP for its endpoints.
    pub http: mpsc::Receiver<HttpExchange>,
    /// Where the lanes find the bridge.
    pub requests: watch::Sender<Option<mpsc::Sender<Request>>>,
    /// Ends the network.
    pub stop: CancellationToken,
}

/// Why a bridge ended.
enum End {
    Asked,
    Permanent(BridgeError),
    Temporary(String),
}

impl NetworkTask {
    /// A slot in which no bridge is yet.
    pub fn slot() -> (watch::Sender<Option<mpsc::Sender<Request>>>, RequestSlot) {
        watch::channel(None)
    }

    /// Runs the network until it is stopped; `bridge` is the first one.
    pub async fn run(mut self, bridge: Box<dyn Bridge>) {
        let mut backoff = Backoff::default();
        let mut next = Some(bridge);
        loop {
            let bridge = match next.take() {
                Some(bridge) => Ok(bridge),
                None => self
                    .kind
                    .configure(&self.gateway, &self.name, self.table.clone()),
            };
            let begun = tokio::time::Instant::now();
            let end = match bridge {
                Ok(bridge) => self.run_once(bridge).await,
                Err(problems) => End::Temporary(
                    problems
                        .iter()
                        .map(ToString::to_string)
                        .collect::<Vec<_>>()
                        .join("; "),
                ),
            };
            self.requests.send_replace(None);
            let why = match end {
                End::Asked => return,
                End::Permanent(error) => {
                    tracing::error!(network = %self.name, %error, "the network is given up until the next start");
                    self.intake.network(
                        &self.name,
                        NetworkStatus::Offline {
                            why: error.to_string(),
                        },
                    );
                    // Nobody will take what comes for it: who asks is told so at once.
                    drop(self.http);
                    self.stop.cancelled().await;
                    return;
                }
                End::Temporary(why) => why,
            };
            if begun.elapsed() > WELL {
                backoff.reset();
            }
            let wait = backoff.next_wait();
            tracing::error!(network = %self.name, why, wait_ms = wait.as_millis() as u64, "the bridge ended, it starts again");
            self.intake
                .network(&self.name, NetworkStatus::Offline { why });
            tokio::select! {
                () = tokio::time::sleep(wait) => {}
                () = self.stop.cancelled() => return,
            }
        }
    }

    async fn run_once(&mut self, bridge: Box<dyn Bridge>) -> End {
        let capacity = self.joins.len() * (WINDOW_LIMIT + 1) + 1;
        let (requests, from_lanes) = mpsc::channel(capacity);
        let (http, from_http) = mpsc::channel(HTTP_QUEUE);
        for (channel, options) in &self.joins {
            // There is room for all of them: see the capacity.
            drop(requests.try_send(Request::Join(channel.clone(), options.clone())));
        }
        let state_dir = self.gateway.state_dir(&self.name);
        if let Err(error) = std::fs::create_dir_all(&state_dir) {
            return End::Temporary(format!("{} cannot be made: {error}", state_dir.display()));
        }
        let link = Link {
            reports: Reports::new(self.name.clone(), Arc::clone(&self.intake)),
            requests: from_lanes,
            directory: self.directory.clone(),
            http: from_http,
            env: Env {
                clock: Clock::System,
                state_dir,
                identity_dir: self.gateway.identity_dir(),
            },
            shutdown: self.stop.child_token(),
        };
        let mut task = tokio::spawn(bridge.run(link));
        self.requests.send_replace(Some(requests));
        let result = self.attend(&mut task, http).await;
        match result {
            _ if self.stop.is_cancelled() => End::Asked,
            Some(Ok(Err(error))) if !error.is_temporary() => End::Permanent(error),
            Some(Ok(Err(error))) => End::Temporary(error.to_string()),
            Some(Ok(Ok(()))) => End::Temporary("it returned without being asked".to_owned()),
            Some(Err(error)) if error.is_panic() => {
                End::Temporary("it panicked: a fault in Comity".to_owned())
            }
            Some(Err(error)) => End::Temporary(error.to_string()),
            None => End::Asked,
        }
    }

    /// Passes HTTP on while the bridge runs; none when it had to be cut off.
    async fn attend(
        &mut self,
        task: &mut JoinHandle<Result<(), BridgeError>>,
        http: mpsc::Sender<HttpExchange>,
    ) -> Option<Result<Result<(), BridgeError>, tokio::task::JoinError>> {
        loop {
            tokio::select! {
                result = &mut *task => return Some(result),
                Some(exchange) = self.http.recv() => {
                    // Dropped when the bridge is too busy: the client gets a 503.
                    drop(http.try_send(exchange));
                }
                () = self.stop.cancelled() => break,
            }
        }
        match tokio::time::timeout(GOODBYE, &mut *task).await {
            Ok(result) => Some(result),
            Err(_) => {
                tracing::warn!(network = %self.name, "the bridge did not end when asked and is cut off");
                task.abort();
                None
            }
        }
    }
}

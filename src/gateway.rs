//! Puts the parts together, starts them, and stops them in order.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use comity_bridge::{
    Bridge, Channel, Clock, ConfigProblem, Directory, Endpoint, HttpExchange, JoinOptions,
    NetworkName, RoomAddress,
};
use thiserror::Error;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::board::Board;
use crate::config::{Config, DeliveryConfig};
use crate::delivery::{Budget, Courtesy, Drain, LaneTask, RequestSlot};
use crate::http::{Admin, BindError, Listeners, Readiness};
use crate::journal::{Journal, JournalError, JournalThreads};
use crate::metrics::Metrics;
use crate::router::Gate;
use crate::supervisor::NetworkTask;

/// How long deliveries that are in a bridge's hands may take to come back when the gateway stops. The rest is
/// sent after the next start.
const FAREWELL: Duration = Duration::from_secs(3);

/// HTTP requests that may wait between the listeners and a network.
const HTTP_QUEUE: usize = 64;

/// Why the gateway does not start.
#[derive(Debug, Error)]
pub enum StartError {
    /// The configuration: the operator's to mend.
    #[error("{}", .0.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n"))]
    Config(Vec<ConfigProblem>),
    /// The journal.
    #[error(transparent)]
    Journal(#[from] JournalError),
    /// The listeners.
    #[error(transparent)]
    Http(#[from] BindError),
}

/// A running gateway.
pub struct Gateway {
    board: Arc<Board>,
    metrics: Metrics,
    ready: Readiness,
    lanes: JoinSet<()>,
    networks: JoinSet<()>,
    http: JoinSet<()>,
    drain: Drain,
    stop_networks: CancellationToken,
    stop_http: CancellationToken,
    journal: Journal,
    threads: JournalThreads,
    #[cfg(test)]
    gate: Arc<Gate>,
    #[cfg(test)]
    admin: std::net::SocketAddr,
}

/// What is made of one network before anything starts.
struct Prepared {
    name: NetworkName,
    bridge: Box<dyn Bridge>,
    http: mpsc::Receiver<HttpExchange>,
}

/// What the lanes of one network have in common.
struct Lanes<'a> {
    journal: &'a Journal,
    requests: RequestSlot,
    config: &'a DeliveryConfig,
    budget: Arc<Budget>,
    courtesy: &'a Arc<Courtesy>,
}

impl Gateway {
    /// Opens the journal and the listeners, then starts a lane for each channel and a task for each network. A network
    /// that is down keeps nobody else from starting.
    pub async fn start(config: Config) -> Result<Gateway, StartError> {
        let bridges = config.bridges().map_err(StartError::Config)?;
        let rooms: Vec<(RoomAddress, Vec<Channel>)> = config
            .rooms
            .iter()
            .map(|room| (room.address.clone(), room.channels.clone()))
            .collect();
        let names = config
            .networks
            .iter()
            .map(|network| (network.name.clone(), network.kind.protocol()));
        let board = Arc::new(Board::new(names.collect(), rooms.clone()));
        let metrics = Metrics::new(config.networks.iter().map(|network| &network.name));

        let mut endpoints: Vec<(NetworkName, Endpoint, mpsc::Sender<HttpExchange>)> = Vec::new();
        let mut prepared = Vec::new();
        for (network, bridge) in config.networks.iter().zip(bridges) {
            let (to_bridge, http) = mpsc::channel(HTTP_QUEUE);
            let declared = bridge.endpoints().into_iter();
            endpoints.extend(
                declared.map(|endpoint| (network.name.clone(), endpoint, to_bridge.clone())),
            );
            prepared.push(Prepared {
                name: network.name.clone(),
                bridge,
                http,
            });
        }
        let ready = Readiness::default();
        let listeners = Listeners::bind(&config.http, endpoints, metrics.clone()).await?;
        let (journal, threads) = Journal::open(
            &config.gateway.data_dir,
            &rooms,
            &config.journal,
            metrics.clone(),
        )?;

        let gate = Arc::new(Gate::new(
            &config,
            journal.clone(),
            Arc::clone(&board),
            metrics.clone(),
        ));
        let admin = Admin {
            board: Arc::clone(&board),
            metrics: metrics.clone(),
            ready: ready.clone(),
            gate: Arc::clone(&gate),
            journal: journal.clone(),
        };
        let mut gateway = Gateway {
            board,
            metrics,
            ready,
            lanes: JoinSet::new(),
            networks: JoinSet::new(),
            http: JoinSet::new(),
            drain: Drain::new(),
            stop_networks: CancellationToken::new(),
            stop_http: CancellationToken::new(),
            journal: journal.clone(),
            threads,
            #[cfg(test)]
            gate: Arc::clone(&gate),
            #[cfg(test)]
            admin: listeners.addresses()[0].1,
        };
        gateway
            .http
            .spawn(listeners.serve(admin, gateway.stop_http.clone()));
        let directory = Directory::new(rooms);
        // Every lane has its place in the journal before any network may report: a lane that is made after an event begins
        // behind it.
        let courtesy = Arc::new(Courtesy {
            domain: config.gateway.domain.clone(),
            networks: config
                .networks
                .iter()
                .filter(|network| network.delivery.tell_authors)
                .map(|network| network.name.clone())
                .collect(),
        });
        let mut tasks = Vec::new();
        for (network, prepared) in config.networks.iter().zip(prepared) {
            let (requests, slot) = NetworkTask::slot();
            let lanes = Lanes {
                journal: &journal,
                requests: slot,
                config: &network.delivery,
                budget: Budget::new(network.delivery.messages_per_second),
                courtesy: &courtesy,
            };
            for room in &config.rooms {
                for channel in room
                    .channels
                    .iter()
                    .filter(|channel| *channel.network() == network.name)
                {
                    gateway.start_lane(&lanes, &room.address, channel).await?;
                }
            }
            let task = NetworkTask {
                name: prepared.name,
                kind: network.kind,
                table: network.table.clone(),
                gateway: config.gateway.clone(),
                joins: joins(&config, &network.name),
                intake: Arc::clone(&gate) as _,
                directory: directory.clone(),
                http: prepared.http,
                requests,
                stop: gateway.stop_networks.clone(),
            };
            tasks.push((task, prepared.bridge));
        }
        gate.begin();
        for (task, bridge) in tasks {
            gateway.networks.spawn(task.run(bridge));
        }
        gateway.ready.set(true);
        Ok(gateway)
    }

    async fn start_lane(
        &mut self,
        lanes: &Lanes<'_>,
        room: &RoomAddress,
        channel: &Channel,
    ) -> Result<(), JournalError> {
        let journal = lanes.journal;
        let (id, start) = journal.lane(room, channel).await?;
        let (Some(tail), Some(channel_board), Some(network_board)) = (
            journal.tail(room),
            self.board.channel(channel),
            self.board.network(channel.network()),
        ) else {
            // All three are made of the same configuration.
            return Ok(());
        };
        channel_board.done.store(start.done, Ordering::Relaxed);
        let task = LaneTask {
            channel: channel.clone(),
            id,
            start,
            journal: journal.clone(),
            tail: Arc::clone(tail),
            board: Arc::clone(channel_board),
            capabilities: network_board.capabilities.subscribe(),
            requests: lanes.requests.clone(),
            config: lanes.config.clone(),
            budget: Arc::clone(&lanes.budget),
            courtesy: Arc::clone(lanes.courtesy),
            metrics: self.metrics.network(channel.network()),
            clock: Clock::System,
            drain: self.drain.clone(),
        };
        self.lanes.spawn(task.run());
        Ok(())
    }

    /// What is going on.
    pub fn board(&self) -> &Arc<Board> {
        &self.board
    }

    /// Counters.
    pub fn metrics(&self) -> &Metrics {
        &self.metrics
    }

    /// Stops: nothing more is handed over, what the bridges have in their hands comes back, the bridges say goodbye, the journal
    /// commits what it was told last.
    pub async fn stop(mut self) {
        self.ready.set(false);
        self.drain.cancel();
        let drained = async { while self.lanes.join_next().await.is_some() {} };
        if tokio::time::timeout(FAREWELL, drained).await.is_err() {
            tracing::info!(
                "some deliveries are still under way; they are looked after at the next start"
            );
        }
        self.stop_networks.cancel();
        while self.networks.join_next().await.is_some() {}
        // The bridges are gone, so every lane has everything back; what a bridge left running is no reason to stay.
        let settled = async { while self.lanes.join_next().await.is_some() {} };
        if tokio::time::timeout(FAREWELL, settled).await.is_err() {
            tracing::warn!("a lane did not end; what it had in hand is in doubt at the next start");
            self.lanes.shutdown().await;
        }
        self.stop_http.cancel();
        while self.http.join_next().await.is_some() {}
        self.journal.close().await;
        let threads = self.threads;
        if tokio::task::spawn_blocking(|| threads.join())
            .await
            .is_err()
        {
            tracing::error!("the journal did not end in order");
        }
    }
}

fn joins(config: &Config, network: &NetworkName) -> Vec<(Channel, JoinOptions)> {
    let mut joins = Vec::new();
    for room in &config.rooms {
        for channel in room
            .channels
            .iter()
            .filter(|channel| channel.network() == network)
        {
            let options = JoinOptions {
                room: room.address.clone(),
                hosted: room.is_hosted(channel),
                access: room.access,
            };
            joins.push((channel.clone(), options));
        }
    }
    joins
}

/// Runs a gateway until `shutdown` fires; `ready` is called once everything has started.
pub async fn run(
    config: Config,
    shutdown: CancellationToken,
    ready: impl FnOnce(),
) -> Result<(), StartError> {
    let gateway = Gateway::start(config).await?;
    ready();
    tracing::info!("started");
    shutdown.cancelled().await;
    tracing::info!("stopping");
    gateway.stop().await;
    tracing::info!("stopped");
    Ok(())
}

#[cfg(test)]
#[path = "gateway_tests.rs"]
mod tests;

#[cfg(test)]
#[path = "gateway_delivery_tests.rs"]
mod delivery_tests;

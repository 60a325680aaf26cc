//! The task of one federation network: the link on one side, other servers on the other.
//!
//! It owns nothing that has to survive: rooms, events and queues are in the graph.

use std::panic::AssertUnwindSafe;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use async_trait::async_trait;
use comity_bridge::{
    Bridge, BridgeError, Capabilities, Endpoint, HttpExchange, Link, Listener, NetworkName,
    NetworkStatus, Request, failpoint,
};
use comity_net::guard::Guard;
use comity_net::{resolver, tls};
use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use tokio::sync::{Notify, Semaphore, mpsc, watch};
use tokio_util::sync::CancellationToken;

use crate::catch_up::CatchUp;
use crate::client::{Https, Transport};
use crate::config::Config;
use crate::discovery::Discovery;
use crate::graph::Graph;
use crate::identity::Identity;
use crate::joining::Joins;
use crate::keyring::Keyring;
use crate::node::{Node, Progress};
use crate::peers::Peers;
use crate::server::{Server, retry_all_pending};
use crate::session::ShelfError;
use crate::session::compose::Author;
use crate::tasks::Tasks;
use crate::wire::api::{MAX_PUSH, PUSH_PATH};
use crate::{catch_up, inbound, outbound};

/// Deliveries of one room handed over at once; as many as go in one push.
const WINDOW: usize = 50;
/// Requests of other servers answered at once.
const MAX_EXCHANGES: usize = 256;
/// How often events that wait for a key are looked at again.
const PENDING_ROUND: Duration = Duration::from_secs(30);
/// The gateway asks for its rooms right after the start; what it has not asked for by then it does not want any more.
pub(crate) const UNCLAIMED: Duration = Duration::from_secs(30);
/// How long a test that kills us after an acknowledgement lets it travel.
const ACKED: Duration = Duration::from_millis(100);

/// One configured federation network.
pub struct FederationBridge {
    pub(crate) network: NetworkName,
    pub(crate) config: Config,
    /// The way to other servers; over the internet when there is none. For tests.
    pub(crate) transport: Option<Arc<dyn Transport>>,
    /// How long after the start a room of an earlier run that nobody has asked for is left.
    pub(crate) unclaimed: Duration,
}

#[async_trait]
impl Bridge for FederationBridge {
    fn endpoints(&self) -> Vec<Endpoint> {
        let endpoint = |prefix: &str| Endpoint {
            listener: Listener::Public,
            prefix: prefix.to_owned(),
            max_body: MAX_PUSH,
            // Every request with a body is signed (PROTOCOL 8.1).
            body_needs: &["content-digest", "signature-input", "signature"],
        };
        vec![endpoint("/_chat/"), endpoint("/.well-known/chat")]
    }

    async fn run(self: Box<Self>, link: Link) -> Result<(), BridgeError> {
        let Link {
            reports,
            mut requests,
            http,
            env,
            shutdown,
            ..
        } = link;
        reports.network(NetworkStatus::Connecting);
        let now_ms = u64::try_from(env.clock.now().0).unwrap_or(0);
        let identity = Identity::open(&env.identity_dir, now_ms)
            .map_err(|error| BridgeError::Local(error.to_string()))?;
        let graph =
            Graph::open(&env.state_dir).map_err(|error| BridgeError::Local(error.to_string()))?;
        let transport = match self.transport {
            Some(transport) => transport,
            None => internet(&self.config)?,
        };
        let node = Arc::new(Node {
            network: self.network,
            author: Author {
                server: self.config.server,
                key: identity.key.clone(),
            },
            identity,
            lists: self.config.lists,
            keyring: Keyring::new(Arc::clone(&transport), graph.clone()),
            graph,
            transport,
            tasks: Tasks::default(),
            peers: Peers::default(),
            catch_up: CatchUp::default(),
            reports: reports.clone(),
            clock: env.clock,
            is_behind: AtomicBool::new(false),
            arrived: Notify::new(),
            progress: watch::Sender::new(Progress::default()),
        });
        tracing::info!(network = %node.network, server = %node.server(), kid = %node.author.key.kid, "federation ready");
        reports.capabilities(Capabilities {
            window: WINDOW,
            ..Capabilities::default()
        });
        reports.network(NetworkStatus::Online);

        // Ends with this function, however it ends.
        let tasks = shutdown.child_token();
        let _end = tasks.clone().drop_guard();
        let lasting = |name, work: BoxFuture<'static, ()>| {
            node.tasks.spawn_lasting(name, tasks.clone(), work);
        };
        let shared = || (Arc::clone(&node), tasks.clone());
        let (inside, end) = shared();
        lasting("the reporter", inbound::report(inside, end).boxed());
        let (inside, end) = shared();
        lasting("the server", serve(inside, http, end).boxed());
        let (inside, end) = shared();
        lasting(
            "the care for what waits",
            look_after_pending(inside, end).boxed(),
        );
        let (inside, end) = shared();
        lasting("the catching up", catch_up::run(inside, end).boxed());
        resume(&node, &tasks)
            .await
            .map_err(|error| BridgeError::Local(error.to_string()))?;

        let mut joins = Joins::default();
        let mut unclaimed = pin!(tokio::time::sleep(self.unclaimed));
        let mut is_tidy = false;
        let mut batch = Vec::with_capacity(WINDOW);
        loop {
            let received = tokio::select! {
                received = requests.recv_many(&mut batch, WINDOW) => received,
                () = &mut unclaimed, if !is_tidy => {
                    joins.leave_unclaimed(&node, &tasks).await;
                    is_tidy = true;
                    continue;
                }
                () = shutdown.cancelled() => return Ok(()),
                name = node.tasks.lost() => return Err(fault(name)),
                () = node.graph.ended() => return Err(fault("the graph's thread")),
            };
            if received == 0 {
                return Ok(());
            }
            handle(&node, &mut joins, &mut batch, &tasks).await;
        }
    }
}

/// A task is gone: the whole bridge begins anew, and goes on where its store says.
fn fault(name: &str) -> BridgeError {
    tracing::error!(task = name, "a task of the federation has ended by a fault");
    BridgeError::Local(format!("{name} has ended by a fault"))
}

/// Does what is asked, in order; deliveries that follow each other share one transaction.
async fn handle(
    node: &Arc<Node>,
    joins: &mut Joins,
    batch: &mut Vec<Request>,
    tasks: &CancellationToken,
) {
    let mut deliveries = Vec::new();
    for request in batch.drain(..) {
        match request {
            Request::Deliver(delivery) => deliveries.push(delivery),
            Request::Join(channel, options) => {
                outbound::deliver(node, std::mem::take(&mut deliveries), tasks).await;
                joins.begin(node, channel, options, tasks);
            }
            Request::Leave(channel) => {
                outbound::deliver(node, std::mem::take(&mut deliveries), tasks).await;
                joins.end(node, &channel, tasks).await;
            }
            Request::Cancel(key) => {
                if let Some(index) = deliveries.iter().position(|delivery| delivery.key == key) {
                    deliveries
                        .remove(index)
                        .receipts
                        .finish(comity_bridge::Outcome::NotAttempted);
                }
            }
        }
    }
    outbound::deliver(node, deliveries, tasks).await;
}

fn internet(config: &Config) -> Result<Arc<dyn Transport>, BridgeError> {
    let resolver = match config.dns {
        Some(server) => resolver::at(server),
        None => resolver::system(),
    };
    let resolver = resolver.map_err(|error| BridgeError::Local(format!("no resolver: {error}")))?;
    let tls = tls::client_config(config.ca_file.as_deref())
        .map_err(|error| BridgeError::Local(error.to_string()))?;
    let guard = Guard::new(config.allow_addresses.clone());
    Ok(Arc::new(Https::new(Discovery::new(resolver, guard), &tls)))
}

/// Answers other servers, each request in a task of its own, a bounded number at once.
async fn serve(node: Arc<Node>, mut http: mpsc::Receiver<HttpExchange>, tasks: CancellationToken) {
    let server = Arc::new(Server::new(node, tasks.clone()));
    let places = Arc::new(Semaphore::new(MAX_EXCHANGES));
    loop {
        let next = async {
            let place = Arc::clone(&places).acquire_owned().await.ok()?;
            Some((place, http.recv().await?))
        };
        let next = tokio::select! {
            next = next => next,
            () = tasks.cancelled() => None,
        };
        let Some((place, exchange)) = next else {
            return;
        };
        let server = Arc::clone(&server);
        tokio::spawn(async move {
            let _place = place;
            let is_push = exchange.request.uri().path() == PUSH_PATH;
            let path = exchange.request.uri().path().to_owned();
            // A fault that a stranger has found costs the stranger's request alone.
            let answer = AssertUnwindSafe(server.answer(exchange.request)).catch_unwind();
            let Ok(answer) = answer.await else {
                tracing::error!(path, client = %exchange.client, "a request is not answered, by a fault");
                return;
            };
            // The client may have gone away.
            drop(exchange.reply.send(answer));
            if is_push && failpoint::is_set("federation.acked") {
                // The listener's task writes the answer; nothing tells when it has.
                tokio::time::sleep(ACKED).await;
                failpoint::reached("federation.acked");
            }
        });
    }
}

/// Goes on where the last run ended: with the queues, and by asking the others what we missed. The question also tells those
/// who could not reach us that we are back.
async fn resume(node: &Arc<Node>, tasks: &CancellationToken) -> Result<(), ShelfError> {
    for peer in node.graph.run(|store| store.neighbours()).await? {
        if peer != *node.server() {
            node.catch_up.owe(&peer);
        }
    }
    for peer in node.graph.run(|store| store.peers()).await? {
        node.peers.wake(node, &peer, tasks);
    }
    Ok(())
}

async fn look_after_pending(node: Arc<Node>, tasks: CancellationToken) {
    loop {
        tokio::select! {
            () = tokio::time::sleep(PENDING_ROUND) => {}
            () = tasks.cancelled() => return,
        }
        if let Err(error) = retry_all_pending(&node).await {
            tracing::error!(%error, "graph not readable");
        }
    }
}

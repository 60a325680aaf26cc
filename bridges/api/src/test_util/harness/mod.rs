//! The gateway's side of one [`Link`], in memory: what a bridge's test holds in its hands.
//!
//! The harness collects what the bridge reports, commits batches at once (or hangs, or says `Busy`, when
//! told to), hands over deliveries and records what becomes of them, and plays an HTTP client.
//! Every `wait_for_*` is a barrier: it returns as soon as the thing has happened, and panics after
//! [`Harness::patience`] with all that was seen until then.
//!
//! ```
//! # use comity_bridge::test_util::Harness;
//! # tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap().block_on(async {
//! let (harness, link) = Harness::link("libera");
//! // tokio::spawn(bridge.run(link));
//! harness.shutdown();
//! link.shutdown.cancelled().await;
//! # });
//! ```

mod deliveries;
mod http;
mod intake;
mod lane;
mod seen;

use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use thiserror::Error;
use tokio::sync::{Notify, mpsc, oneshot};
use tokio_util::sync::CancellationToken;

use crate::bridge::GatewayInfo;
use crate::capabilities::Capabilities;
use crate::delivery::Receipt;
use crate::event::{Channel, NetworkName};
use crate::http_inbox::HttpExchange;
use crate::link::{Clock, Directory, Env, JoinOptions, Link, Request};
use crate::report::Reports;

pub use deliveries::DeliveryHandle;
pub(crate) use deliveries::{event, message};
pub use http::HttpCaller;
pub use lane::{Line, NotShown};
pub use seen::{Handed, Seen, Taken, Told};

/// Requests that the harness may be ahead of the bridge. Small, so that a bridge which does not drain is found out.
pub const REQUEST_CAPACITY: usize = 64;

const PATIENCE: Duration = Duration::from_secs(10);

/// The gateway's domain in tests.
pub const DOMAIN: &str = "gw1.example";

/// Something did not happen in time.
#[derive(Clone, Debug, Error)]
#[error("waited {patience:?} in vain for {what}; seen until then:\n{seen}")]
pub struct TimedOut {
    /// What was waited for.
    pub what: String,
    /// For how long.
    pub patience: Duration,
    /// All that the harness has seen.
    pub seen: String,
}

/// The gateway's side of one link.
pub struct Harness {
    shared: Arc<Shared>,
    network: NetworkName,
    directory: Directory,
    requests: mpsc::Sender<Request>,
    /// Receipts of every delivery come on one lane, so that their order is kept.
    lane: mpsc::UnboundedSender<(u64, Receipt)>,
    http: mpsc::Sender<HttpExchange>,
    shutdown: CancellationToken,
    gateway: GatewayInfo,
    _data_dir: Arc<TempDir>,
}

pub(crate) struct Shared {
    state: Mutex<State>,
    changed: Notify,
    patience: Mutex<Duration>,
}

#[derive(Default)]
struct State {
    seen: Seen,
    frozen: bool,
    plans_frozen: bool,
    busy: usize,
    plans_to_refuse: usize,
    held_plans: Vec<(u64, Vec<String>, oneshot::Sender<()>)>,
    handles: std::collections::BTreeMap<u64, deliveries::Kept>,
}

impl Harness {
    /// A harness and the link that a bridge runs on. Needs a tokio runtime around it.
    pub fn link(network: &str) -> (Harness, Link) {
        Harness::link_with(network, Directory::default())
    }

    /// As [`Harness::link`], with rooms to look up.
    pub fn link_with(network: &str, directory: Directory) -> (Harness, Link) {
        let network: NetworkName = network.parse().expect("a network name of [a-z0-9-]+");
        let data_dir = Arc::new(TempDir::new());
        let gateway = GatewayInfo {
            domain: DOMAIN.to_owned(),
            public_url: Some(format!("https://{DOMAIN}")),
            data_dir: data_dir.0.clone(),
        };
        let shared = Arc::new(Shared {
            state: Mutex::default(),
            changed: Notify::new(),
            patience: Mutex::new(PATIENCE),
        });
        // Replaced by `relink`, which is the one place that makes links.
        let (requests, _) = mpsc::channel(1);
        let (http, _) = mpsc::channel(1);
        let (lane, receipts) = mpsc::unbounded_channel();
        tokio::spawn(deliveries::record(shared.clone(), receipts));
        let mut harness = Harness {
            shared,
            network,
            directory,
            requests,
            lane,
            http,
            shutdown: CancellationToken::new(),
            gateway,
            _data_dir: data_dir,
        };
        let link = harness.relink();
        (harness, link)
    }

    /// A link for the next run of the network's bridge: what was committed, remembered and written to the state
    /// directory is still there; channels have to be joined again.
    pub fn relink(&mut self) -> Link {
        let (requests, bridge_requests) = mpsc::channel(REQUEST_CAPACITY);
        let (http, bridge_http) = mpsc::channel(REQUEST_CAPACITY);
        self.requests = requests;
        self.http = http;
        self.shutdown = CancellationToken::new();
        self.shared.change(|state| {
            state.seen.online = false;
            state.seen.joined.clear();
        });
        let state_dir = self.gateway.state_dir(&self.network);
        std::fs::create_dir_all(&state_dir).expect("the temporary directory is writable");
        Link {
            reports: Reports::new(self.network.clone(), self.shared.clone()),
            requests: bridge_requests,
            directory: self.directory.clone(),
            http: bridge_http,
            env: Env {
                clock: Clock::System,
                state_dir,
                identity_dir: self.gateway.identity_dir(),
            },
            shutdown: self.shutdown.clone(),
        }
    }

    /// The gateway that the bridge is configured for; its directories are temporary.
    pub fn gateway(&self) -> &GatewayInfo {
        &self.gateway
    }

    /// The network's name.
    pub fn network(&self) -> &NetworkName {
        &self.network
    }

    /// A channel of this network.
    pub fn channel(&self, native: &str) -> Channel {
        Channel::new(self.network.clone(), native).expect("a native channel name")
    }

    /// Where the network's bridge keeps what is its own.
    pub fn state_dir(&self) -> std::path::PathBuf {
        self.gateway.state_dir(&self.network)
    }

    /// How long the barriers wait before they give up: 10 seconds, unless it was set.
    pub fn patience(&self) -> Duration {
        self.shared.patience()
    }

    /// Sets how long the barriers wait.
    pub fn set_patience(&self, patience: Duration) {
        *lock(&self.shared.patience) = patience;
    }

    // What the bridge is asked.

    /// Asks the bridge to be in a channel.
    pub async fn join(&self, channel: &Channel, options: JoinOptions) {
        self.ask(Request::Join(channel.clone(), options)).await;
    }

    /// Asks the bridge to leave a channel.
    pub async fn leave(&self, channel: &Channel) {
        self.ask(Request::Leave(channel.clone())).await;
    }

    /// Hands a request over. Panics when the bridge does not drain its requests.
    pub async fn ask(&self, request: Request) {
        if let Err(timed_out) = self.try_ask(request).await {
            panic!("{timed_out}");
        }
    }

    /// Hands a request over; an error when the bridge does not drain its requests.
    pub async fn try_ask(&self, request: Request) -> Result<(), TimedOut> {
        match tokio::time::timeout(self.patience(), self.requests.send(request)).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(_)) => Err(self
                .shared
                .timed_out("a request to be taken: the bridge has dropped its receiver")),
            Err(_) => Err(self.shared.timed_out("a request to be taken")),
        }
    }

    /// Waits until the bridge has taken every request that it was handed.
    pub async fn try_wait_for_drained(&self) -> Result<(), TimedOut> {
        let all_free = self.requests.reserve_many(REQUEST_CAPACITY);
        match tokio::time::timeout(self.patience(), all_free).await {
            Ok(Ok(_)) => Ok(()),
            Ok(Err(_)) | Err(_) => Err(self.shared.timed_out("all requests to be taken")),
        }
    }

    /// Asks the bridge to end.
    pub fn shutdown(&self) {
        self.shutdown.cancel();
    }

    /// Calls into the bridge's HTTP endpoints, also from other tasks.
    pub fn http_caller(&self) -> HttpCaller {
        HttpCaller::new(self.http.clone())
    }

    /// Plays an HTTP client: one request, one response; 503 when the bridge drops it.
    pub async fn http(
        &self,
        request: ::http::Request<bytes::Bytes>,
    ) -> ::http::Response<bytes::Bytes> {
        let caller = self.http_caller();
        match tokio::time::timeout(self.patience(), caller.call(request)).await {
            Ok(response) => response,
            Err(_) => panic!("{}", self.shared.timed_out("an HTTP response")),
        }
    }

    // How the journal answers.

    /// From now on commits and plans hang, as on a disk that does not answer.
    pub fn freeze(&self) {
        self.shared.change(|state| {
            state.frozen = true;
            state.plans_frozen = true;
        });
    }

    /// From now on plans hang, commits do not.
    pub fn freeze_plans(&self) {
        self.shared.change(|state| state.plans_frozen = true);
    }

    /// What hangs goes on, and the journal answers at once again.
    pub fn thaw(&self) {
        self.shared.thaw();
    }

    /// The next `times` commits are answered with `Busy`.
    pub fn busy(&self, times: usize) {
        self.shared.change(|state| state.busy = times);
    }

    /// The next `times` plans are refused.
    pub fn refuse_plans(&self, times: usize) {
        self.shared.change(|state| state.plans_to_refuse = times);
    }

    // What was seen.

    /// Looks at what was seen until now.
    pub fn seen<T>(&self, look: impl FnOnce(&Seen) -> T) -> T {
        look(&lock(&self.shared.state).seen)
    }

    /// Waits until `look` finds something in what was seen.
    pub async fn wait_for<T>(&self, what: &str, look: impl FnMut(&Seen) -> Option<T>) -> T {
        match self.try_wait_for(what, look).await {
            Ok(found) => found,
            Err(timed_out) => panic!("{timed_out}"),
        }
    }

    /// As [`Harness::wait_for`], with an error in place of a panic.
    pub async fn try_wait_for<T>(
        &self,
        what: &str,
        look: impl FnMut(&Seen) -> Option<T>,
    ) -> Result<T, TimedOut> {
        self.shared.wait_for(what, look).await
    }

    /// Waits until the network is online.
    pub async fn wait_for_online(&self) {
        self.wait_for("the network to be online", |seen| seen.online.then_some(()))
            .await;
    }

    /// Waits until the network is not online.
    pub async fn wait_for_offline(&self) {
        self.wait_for("the network to be offline", |seen| {
            (!seen.online).then_some(())
        })
        .await;
    }

    /// Waits until the bridge has said that a channel is joined, and it still is.
    pub async fn wait_for_joined(&self, channel: &Channel) {
        self.wait_for(&format!("{channel} to be joined"), |seen| {
            (seen.online && seen.joined.contains(channel)).then_some(())
        })
        .await;
    }

    /// Waits until there are at least `count` events, and returns all.
    pub async fn wait_for_events(&self, count: usize) -> Vec<Taken> {
        self.wait_for(&format!("{count} events"), |seen| {
            (seen.events.len() >= count).then(|| seen.events.clone())
        })
        .await
    }

    /// Waits for an event with this text, and returns the first.
    pub async fn wait_for_text(&self, text: &str) -> Taken {
        self.wait_for(&format!("an event that says {text:?}"), |seen| {
            seen.saying(text).next().cloned()
        })
        .await
    }

    /// Waits until something was skipped for this reason.
    pub async fn wait_for_skip(&self, reason: &str) {
        self.wait_for(&format!("a skip for the reason {reason:?}"), |seen| {
            seen.skips
                .iter()
                .any(|skip| skip.reason == reason)
                .then_some(())
        })
        .await;
    }

    /// Waits until at least `count` commits hang in the frozen journal.
    pub async fn wait_for_hanging_commits(&self, count: usize) {
        self.wait_for(&format!("{count} hanging commits"), |seen| {
            (seen.hanging_commits >= count).then_some(())
        })
        .await;
    }

    /// Waits until the bridge has said what its channels can show.
    pub async fn wait_for_capabilities(&self) -> Capabilities {
        self.wait_for("capabilities", |seen| seen.capabilities.clone())
            .await
    }
}

impl Shared {
    fn patience(&self) -> Duration {
        *lock(&self.patience)
    }

    fn change<T>(&self, change: impl FnOnce(&mut State) -> T) -> T {
        let done = change(&mut lock(&self.state));
        self.changed.notify_waiters();
        done
    }

    fn timed_out(&self, what: &str) -> TimedOut {
        TimedOut {
            what: what.to_owned(),
            patience: self.patience(),
            seen: lock(&self.state).seen.to_string(),
        }
    }

    async fn wait_for<T>(
        &self,
        what: &str,
        mut look: impl FnMut(&Seen) -> Option<T>,
    ) -> Result<T, TimedOut> {
        let search = async {
            loop {
                let changed = self.changed.notified();
                tokio::pin!(changed);
                // Before the look, so that a change between look and wait is not missed.
                changed.as_mut().enable();
                if let Some(found) = look(&lock(&self.state).seen) {
                    return found;
                }
                changed.await;
            }
        };
        tokio::time::timeout(self.patience(), search)
            .await
            .map_err(|_| self.timed_out(what))
    }
}

/// A test that panicked elsewhere shall not hide its message behind a poisoned lock.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

struct TempDir(std::path::PathBuf);

impl TempDir {
    fn new() -> Self {
        static COUNT: AtomicU64 = AtomicU64::new(0);
        let path = std::env::temp_dir().join(format!(
            "comity-harness-{}-{}",
            std::process::id(),
            COUNT.fetch_add(1, Ordering::Relaxed)
        ));
        std::fs::create_dir_all::<&Path>(&path).expect("the temporary directory is writable");
        TempDir(path)
    }
}

impl Drop for TempDir {
    fn drop(&mut self) {
        // A left-over in the temporary directory is no reason to fail a test.
        drop(std::fs::remove_dir_all(&self.0));
    }
}

//! Other servers' key documents: fetched, compared with DNS and with what is pinned, and kept for a while (PROTOCOL 4).

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use comity_net::Backoff;
use http::Request;
use tokio::sync::{Mutex as AsyncMutex, Semaphore, SemaphorePermit};
use tokio::time::Instant;

use crate::client::{Transport, TransportError};
use crate::graph::Graph;
use crate::ident::{Kid, ServerName};
use crate::session::ShelfError;
use crate::wire::api::KEYS_PATH;
use crate::wire::keys::{KeyDocument, KeyError, MAX_KEYS};

/// PROTOCOL 13.
const PATIENCE: Duration = Duration::from_secs(5);
/// A document is fetched anew after this time, though it be valid for longer.
const FRESH: Duration = Duration::from_secs(3600);
/// A key that the document does not have makes it be fetched anew, but not more often than this.
const FRESH_FOR_NEW_KEY: Duration = Duration::from_secs(30);
/// A failure is remembered from one second up to this.
const MAX_SULK: Duration = Duration::from_secs(600);
/// Documents of servers that were never met, fetched at once: whoever names a server makes us connect to it.
const MAX_STRANGERS: usize = 16;
/// And of those that were met. They do not wait for strangers.
const MAX_KNOWN: usize = 64;
/// Servers remembered; more are strangers who want to fill our memory.
const MAX_SERVERS: usize = 10_000;

/// Why a server's keys are not known.
#[derive(Debug, Clone, thiserror::Error)]
pub enum KeyringError {
    #[error(transparent)]
    Transport(#[from] TransportError),
    #[error("the key document was answered with status {0}")]
    Status(u16),
    #[error(transparent)]
    Document(#[from] KeyError),
    #[error(transparent)]
    Shelf(#[from] ShelfError),
    #[error("an attempt a moment ago did not succeed")]
    Sulking,
    #[error("too many servers at once")]
    Full,
    #[error("too many others are being asked for their keys")]
    Busy,
}

impl KeyringError {
    /// Whether the server was not asked, for want of a place: that says nothing about it.
    pub fn is_ours(&self) -> bool {
        matches!(self, Self::Full | Self::Busy)
    }
}

/// Who may wait for a place among those that are being asked.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Waiting {
    Patient,
    /// Servers that were met.
    KnownOnly,
}

/// What is known of the keys of other servers.
pub struct Keyring {
    transport: Arc<dyn Transport>,
    graph: Graph,
    entries: Mutex<HashMap<ServerName, Arc<Entry>>>,
    strangers: Semaphore,
    known: Semaphore,
}

#[derive(Default)]
struct Entry {
    /// Held while fetching, so that one question is asked once.
    fetching: AsyncMutex<()>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// And when it was fetched; that of an earlier run is not fresh, but better than none.
    document: Option<(Arc<KeyDocument>, Option<Instant>)>,
    sulk: Option<(Backoff, Instant)>,
}

impl Keyring {
    pub fn new(transport: Arc<dyn Transport>, graph: Graph) -> Self {
        Self {
            transport,
            graph,
            entries: Mutex::default(),
            strangers: Semaphore::new(MAX_STRANGERS),
            known: Semaphore::new(MAX_KNOWN),
        }
    }

    /// The document as it was last fetched; never waits.
    pub fn cached(&self, server: &ServerName) -> Option<Arc<KeyDocument>> {
        let entries = self.entries.lock().unwrap_or_else(PoisonError::into_inner);
        let state = entries
            .get(server)?
            .state
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        state
            .document
            .as_ref()
            .map(|(document, _)| Arc::clone(document))
    }

    /// The document of `server`, fetched when it is not fresh or lacks the key `kid`.
    pub async fn get(
        &self,
        server: &ServerName,
        kid: Option<&Kid>,
        now_ms: u64,
    ) -> Result<Arc<KeyDocument>, KeyringError> {
        self.obtain(server, kid, now_ms, Waiting::Patient).await
    }

    /// The same for somebody who has yet to prove who it is: a server that was never met waits for no place, since whoever
    /// waits takes one of the few that there are for requests.
    pub async fn get_for_stranger(
        &self,
        server: &ServerName,
        kid: &Kid,
        now_ms: u64,
    ) -> Result<Arc<KeyDocument>, KeyringError> {
        self.obtain(server, Some(kid), now_ms, Waiting::KnownOnly)
            .await
    }

    async fn obtain(
        &self,
        server: &ServerName,
        kid: Option<&Kid>,
        now_ms: u64,
        waiting: Waiting,
    ) -> Result<Arc<KeyDocument>, KeyringError> {
        let entry = self.entry(server)?;
        if let Some(document) = entry.fresh(kid, now_ms) {
            return Ok(document);
        }
        let is_known = self.is_known(&entry, server).await?;
        let may_wait = is_known || waiting == Waiting::Patient;
        let _one_at_a_time = match entry.fetching.try_lock() {
            Ok(turn) => turn,
            Err(_) if may_wait => entry.fetching.lock().await,
            Err(_) => return Err(KeyringError::Busy),
        };
        if let Some(document) = entry.fresh(kid, now_ms) {
            return Ok(document);
        }
        if entry.sulks() {
            return match entry.valid(now_ms) {
                Some(document) => Ok(document),
                None => self
                    .pinned(&entry, server, now_ms)
                    .await?
                    .ok_or(KeyringError::Sulking),
            };
        }
        let _turn = self.turn(is_known, may_wait).await?;
        match self.fetch(server, now_ms).await {
            Ok(document) => {
                let document = Arc::new(document);
                entry.remember(Arc::clone(&document));
                Ok(document)
            }
            Err(error) => {
                entry.sulk();
                tracing::debug!(%server, %error, "key document not fetched");
                let unreachable =
                    matches!(error, KeyringError::Transport(_) | KeyringError::Status(_));
                match entry.valid(now_ms) {
                    // What is not fresh but valid is better than nothing while its server is away.
                    Some(document) if unreachable => Ok(document),
                    None if unreachable => self.pinned(&entry, server, now_ms).await?.ok_or(error),
                    _ => Err(error),
                }
            }
        }
    }

    /// A place among those that are fetched now. To wait for one in vain says nothing about the server.
    async fn turn(
        &self,
        is_known: bool,
        may_wait: bool,
    ) -> Result<SemaphorePermit<'_>, KeyringError> {
        let places = if is_known {
            &self.known
        } else {
            &self.strangers
        };
        if !may_wait {
            return places.try_acquire().map_err(|_| KeyringError::Busy);
        }
        match tokio::time::timeout(PATIENCE, places.acquire()).await {
            Ok(Ok(turn)) => Ok(turn),
            Ok(Err(_)) | Err(_) => Err(KeyringError::Busy),
        }
    }

    /// Whether the server was ever met, however long ago.
    async fn is_known(&self, entry: &Entry, server: &ServerName) -> Result<bool, KeyringError> {
        if entry.has_document() {
            return Ok(true);
        }
        let name = server.clone();
        let pin = self.graph.run(move |store| store.pin(&name)).await?;
        Ok(pin.is_some())
    }

    /// The document of an earlier run, as long as it promised to be valid.
    async fn pinned(
        &self,
        entry: &Entry,
        server: &ServerName,
        now_ms: u64,
    ) -> Result<Option<Arc<KeyDocument>>, KeyringError> {
        let name = server.clone();
        let pinned = self
            .graph
            .run(move |store| Ok::<_, KeyringError>(store.pin(&name)?))
            .await?;
        let valid = pinned.filter(|document| document.valid_until > now_ms);
        Ok(valid.map(|document| {
            let document = Arc::new(document);
            entry.remember_old(Arc::clone(&document));
            document
        }))
    }

    /// Forgets a failure: the server has just shown that it is there.
    pub fn heard_from(&self, server: &ServerName) {
        let entries = self.entries.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(entry) = entries.get(server) {
            entry
                .state
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .sulk = None;
        }
    }

    fn entry(&self, server: &ServerName) -> Result<Arc<Entry>, KeyringError> {
        let mut entries = self.entries.lock().unwrap_or_else(PoisonError::into_inner);
        if entries.len() >= MAX_SERVERS && !entries.contains_key(server) {
            entries.retain(|_, entry| {
                let state = entry.state.lock().unwrap_or_else(PoisonError::into_inner);
                Arc::strong_count(entry) > 1 || state.document.is_some()
            });
            if entries.len() >= MAX_SERVERS {
                return Err(KeyringError::Full);
            }
        }
        Ok(Arc::clone(entries.entry(server.clone()).or_default()))
    }

    async fn fetch(&self, server: &ServerName, now_ms: u64) -> Result<KeyDocument, KeyringError> {
        let request = Request::get(KEYS_PATH)
            .body(Bytes::new())
            .expect("a constant path");
        let (answer, record) = tokio::join!(
            self.transport.send(server, request, MAX_KEYS, PATIENCE),
            self.transport.key_record(server),
        );
        let answer = answer?;
        if answer.status() != 200 {
            return Err(KeyringError::Status(answer.status().as_u16()));
        }
        let document = KeyDocument::parse_fetched(answer.body(), server, now_ms)?;
        // DNS that does not answer is not DNS that contradicts; but it must not be a way round the record, so the
        // attempt counts as failed.
        if let Some(record) = record? {
            document.check_txt(&record)?;
        }
        let pinned = document.clone();
        self.graph
            .run(move |store| {
                if let Some(before) = store.pin(&pinned.server)? {
                    before.stays(&pinned)?;
                }
                Ok::<(), KeyringError>(store.put_pin(&pinned)?)
            })
            .await?;
        Ok(document)
    }
}

impl Entry {
    fn fresh(&self, kid: Option<&Kid>, now_ms: u64) -> Option<Arc<KeyDocument>> {
        let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let (document, fetched) = state.document.as_ref()?;
        let has_key = kid.is_none_or(|kid| document.key(kid).is_some());
        let limit = if has_key { FRESH } else { FRESH_FOR_NEW_KEY };
        let is_fresh = fetched.is_some_and(|fetched| fetched.elapsed() < limit);
        (is_fresh && document.valid_until > now_ms).then(|| Arc::clone(document))
    }

    fn has_document(&self) -> bool {
        let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.document.is_some()
    }

    fn valid(&self, now_ms: u64) -> Option<Arc<KeyDocument>> {
        let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let (document, _) = state.document.as_ref()?;
        (document.valid_until > now_ms).then(|| Arc::clone(document))
    }

    fn sulks(&self) -> bool {
        let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state
            .sulk
            .as_ref()
            .is_some_and(|(_, until)| *until > Instant::now())
    }

    fn sulk(&self) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let mut backoff = state.sulk.take().map_or_else(
            || Backoff::new(Duration::from_secs(1), MAX_SULK),
            |(backoff, _)| backoff,
        );
        let until = Instant::now() + backoff.next_wait();
        state.sulk = Some((backoff, until));
    }

    fn remember(&self, document: Arc<KeyDocument>) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        *state = State {
            document: Some((document, Some(Instant::now()))),
            sulk: None,
        };
    }

    fn remember_old(&self, document: Arc<KeyDocument>) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.document = Some((document, None));
    }
}

#[cfg(test)]
mod tests {
    use async_trait::async_trait;
    use http::Response;
    use tokio::sync::watch;
    use tokio::task::JoinSet;

    use super::*;
    use crate::identity::Identity;

    /// Servers that never answer, and the number of those that are being asked.
    #[derive(Default)]
    struct Silence(watch::Sender<usize>);

    #[async_trait]
    impl Transport for Silence {
        async fn send(
            &self,
            _server: &ServerName,
            _request: Request<Bytes>,
            _limit: usize,
            _patience: Duration,
        ) -> Result<Response<Bytes>, TransportError> {
            self.0.send_modify(|asked| *asked += 1);
            std::future::pending().await
        }

        async fn key_record(&self, _server: &ServerName) -> Result<Option<String>, TransportError> {
            Ok(None)
        }
    }

    fn server(name: &str) -> ServerName {
        ServerName::parse(name).expect("a name")
    }

    #[tokio::test]
    async fn strangers_make_us_open_few_connections_and_keep_no_known_server_waiting() {
        let (silence, graph) = (Arc::new(Silence::default()), Graph::in_memory());
        let mut asked = silence.0.subscribe();
        let keyring = Arc::new(Keyring::new(silence, graph.clone()));
        let known = server("known.example");
        let document = Identity::from_seed(7).document(&known, 1);
        graph
            .run(move |store| store.put_pin(&document))
            .await
            .expect("pinned");

        let mut questions = JoinSet::new();
        let mut ask = |name: ServerName| {
            let keyring = Arc::clone(&keyring);
            // Long after the promise of the known one's pinned document.
            questions.spawn(async move { keyring.get(&name, None, u64::MAX).await.map(drop) });
        };
        for n in 0..100 {
            ask(server(&format!("s{n}.example")));
        }
        let full = asked.wait_for(|asked| *asked >= MAX_STRANGERS).await;
        drop(full.expect("the transport is there"));
        // Who has not proved anything yet does not wait for its turn; nor does whoever is being asked for already.
        let kid = Kid::parse("k1").expect("a name");
        for name in ["another.example", "s0.example"] {
            let name = server(name);
            let refused = keyring.get_for_stranger(&name, &kid, u64::MAX);
            let refused = tokio::time::timeout(PATIENCE / 5, refused).await;
            assert!(matches!(refused, Ok(Err(KeyringError::Busy))), "{name}");
        }
        ask(known);
        let more = asked.wait_for(|asked| *asked > MAX_STRANGERS).await;
        assert_eq!(*more.expect("the transport is there"), MAX_STRANGERS + 1);
    }
}

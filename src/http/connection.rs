//! Accepts connections and speaks HTTP on them, until shutdown. What is said is not its affair.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response};
use hyper::body::{Body, Incoming};
use hyper::service::Service;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::{Instant, MissedTickBehavior};
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::{debug, warn};

use super::limits::{Limits, Slot};

/// Connections of one listener.
const CONNECTIONS: usize = 1024;

/// Connections of one address.
const CONNECTIONS_OF_ONE: usize = 64;

/// How long a TLS handshake may take.
const HANDSHAKE: Duration = Duration::from_secs(10);

/// How long requests in hand may take at the end.
const GOODBYE: Duration = Duration::from_secs(3);

/// How often a connection is looked at.
const LOOK: Duration = Duration::from_secs(5);

/// How long to wait when this machine has no descriptors left.
const OUT_OF_DESCRIPTORS: Duration = Duration::from_millis(200);

/// Bytes of a request's head. RFC 9110 has no figure; common servers take 8 KiB.
const HEAD: usize = 16 * 1024;

/// Requests at once on one HTTP/2 connection.
const STREAMS: u32 = 64;

/// How patient a listener is.
#[derive(Clone, Copy)]
pub(super) struct Timeouts {
    /// For the first request, and for the head of each.
    pub(super) header: Duration,
    /// For a connection on which nothing is asked. None: for ever.
    pub(super) idle: Option<Duration>,
}

/// One listener.
pub(super) struct Server {
    name: String,
    listener: TcpListener,
    tls: Option<TlsAcceptor>,
    timeouts: Timeouts,
    limits: Arc<Limits>,
}

impl Server {
    pub(super) fn new(
        name: &str,
        listener: TcpListener,
        tls: Option<TlsAcceptor>,
        timeouts: Timeouts,
    ) -> Self {
        Server {
            name: name.to_owned(),
            listener,
            tls,
            timeouts,
            limits: Limits::new(CONNECTIONS, CONNECTIONS_OF_ONE),
        }
    }

    /// Runs until shutdown; `service` makes what answers one client.
    pub(super) async fn run<S, B>(
        self,
        service: impl Fn(SocketAddr) -> S,
        shutdown: CancellationToken,
    ) where
        S: Service<Request<Incoming>, Response = Response<B>, Error = Infallible>
            + Send
            + Sync
            + 'static,
        S::Future: Send + 'static,
        B: Body<Data = Bytes> + Send + 'static,
        B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        let connections = TaskTracker::new();
        loop {
            let accepted = tokio::select! {
                biased;
                () = shutdown.cancelled() => break,
                accepted = self.listener.accept() => accepted,
            };
            let (stream, client) = match accepted {
                Ok(accepted) => accepted,
                Err(error) if is_of_the_connection(&error) => continue,
                Err(error) => {
                    warn!(listener = self.name, %error, "cannot accept connections");
                    tokio::time::sleep(OUT_OF_DESCRIPTORS).await;
                    continue;
                }
            };
            let Some(slot) = self.limits.admit(client.ip()) else {
                debug!(listener = self.name, %client, "too many connections");
                continue;
            };
            let connection = Connection {
                client,
                timeouts: self.timeouts,
                shutdown: shutdown.clone(),
                _slot: slot,
            };
            let service = service(client);
            let tls = self.tls.clone();
            connections.spawn(async move { connection.run(stream, tls, service).await });
        }
        drop(self.listener);
        connections.close();
        connections.wait().await;
    }
}

/// One client's connection.
struct Connection {
    client: SocketAddr,
    timeouts: Timeouts,
    shutdown: CancellationToken,
    _slot: Slot,
}

impl Connection {
    async fn run<S, B>(self, stream: TcpStream, tls: Option<TlsAcceptor>, service: S)
    where
        S: Service<Request<Incoming>, Response = Response<B>, Error = Infallible> + Send + 'static,
        S::Future: Send + 'static,
        B: Body<Data = Bytes> + Send + 'static,
        B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        let client = self.client;
        if let Err(error) = stream.set_nodelay(true) {
            debug!(%client, %error, "cannot turn off delays");
        }
        let Some(acceptor) = tls else {
            return self.serve(stream, service).await;
        };
        let handshake = tokio::time::timeout(HANDSHAKE, acceptor.accept(stream));
        let handshake = tokio::select! {
            biased;
            () = self.shutdown.cancelled() => return,
            handshake = handshake => handshake,
        };
        match handshake {
            Ok(Ok(stream)) => self.serve(stream, service).await,
            Ok(Err(error)) => debug!(%client, %error, "no tls"),
            Err(_) => debug!(%client, "no tls in time"),
        }
    }

    async fn serve<I, S, B>(self, stream: I, service: S)
    where
        I: AsyncRead + AsyncWrite + Unpin + Send + 'static,
        S: Service<Request<Incoming>, Response = Response<B>, Error = Infallible> + Send + 'static,
        S::Future: Send + 'static,
        B: Body<Data = Bytes> + Send + 'static,
        B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        let activity = Arc::new(Activity::new());
        let builder = self.builder();
        let watched = Watched {
            service,
            activity: Arc::clone(&activity),
        };
        let mut connection = pin!(builder.serve_connection(TokioIo::new(stream), watched));
        let mut looks = tokio::time::interval(LOOK.min(self.timeouts.header));
        looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let why = loop {
            tokio::select! {
                result = connection.as_mut() => {
                    if let Err(error) = result {
                        debug!(client = %self.client, %error, "connection ended");
                    }
                    return;
                }
                () = self.shutdown.cancelled() => break "shutdown",
                _ = looks.tick() => {
                    if activity.is_over(&self.timeouts) {
                        break "idle";
                    }
                }
            }
        };
        connection.as_mut().graceful_shutdown();
        if tokio::time::timeout(GOODBYE, connection).await.is_err() {
            debug!(client = %self.client, why, "connection cut");
        }
    }

    fn builder(&self) -> auto::Builder<TokioExecutor> {
        let mut builder = auto::Builder::new(TokioExecutor::new());
        builder
            .http1()
            .timer(TokioTimer::new())
            .header_read_timeout(self.timeouts.header)
            .max_buf_size(HEAD);
        builder
            .http2()
            .timer(TokioTimer::new())
            .max_concurrent_streams(STREAMS)
            .max_header_list_size(HEAD as u32)
            // CVE-2023-44487: streams opened and reset at once.
            .max_pending_accept_reset_streams(20)
            .max_local_error_reset_streams(20)
            .keep_alive_interval(Duration::from_secs(20))
            .keep_alive_timeout(Duration::from_secs(10));
        builder
    }
}

/// True when the fault is the client's, so that the next one can be accepted at once.
fn is_of_the_connection(error: &std::io::Error) -> bool {
    use std::io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset};
    matches!(
        error.kind(),
        ConnectionAborted | ConnectionRefused | ConnectionReset
    )
}

/// What is going on on one connection.
struct Activity {
    begun: Instant,
    in_hand: AtomicUsize,
    /// When the last request ended, in milliseconds since `begun`; 0 before.
    last: AtomicU64,
}

impl Activity {
    fn new() -> Self {
        Activity {
            begun: Instant::now(),
            in_hand: AtomicUsize::new(0),
            last: AtomicU64::new(0),
        }
    }

    /// True when nothing was asked for too long.
    fn is_over(&self, timeouts: &Timeouts) -> bool {
        let last = self.last.load(Ordering::Acquire);
        if self.in_hand.load(Ordering::Acquire) > 0 {
            return false;
        }
        let quiet = self
            .begun
            .elapsed()
            .saturating_sub(Duration::from_millis(last));
        if last == 0 {
            // hyper's own limit begins when it knows the version, which takes a client that says something.
            quiet >= timeouts.header
        } else {
            timeouts.idle.is_some_and(|idle| quiet >= idle)
        }
    }
}

/// A request in hand.
struct InHand(Arc<Activity>);

impl InHand {
    fn new(activity: &Arc<Activity>) -> Self {
        activity.in_hand.fetch_add(1, Ordering::AcqRel);
        InHand(Arc::clone(activity))
    }
}

impl Drop for InHand {
    fn drop(&mut self) {
        let now = u64::try_from(self.0.begun.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.0.last.store(now.max(1), Ordering::Release);
        self.0.in_hand.fetch_sub(1, Ordering::AcqRel);
    }
}

/// A service whose requests are noted.
struct Watched<S> {
    service: S,
    activity: Arc<Activity>,
}

impl<S> Service<Request<Incoming>> for Watched<S>
where
    S: Service<Request<Incoming>>,
    S::Future: Send + 'static,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = futures_util::future::BoxFuture<'static, Result<S::Response, S::Error>>;

    fn call(&self, request: Request<Incoming>) -> Self::Future {
        let in_hand = InHand::new(&self.activity);
        let answer = self.service.call(request);
        Box::pin(async move {
            let answer = answer.await;
            drop(in_hand);
            answer
        })
    }
}

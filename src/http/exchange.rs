//! One request on its way to the network that answers it.

use std::convert::Infallible;
use std::fmt;
use std::future::Future;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use comity_bridge::{Endpoint, HttpExchange, NetworkName};
use http::header::{CONTENT_TYPE, HOST, RETRY_AFTER};
use http::{HeaderValue, Request, Response, StatusCode, Uri};
use http_body_util::{BodyExt, Full};
use hyper::body::{Body, Incoming};
use hyper::service::{Service, service_fn};
use tokio::sync::mpsc::error::TrySendError;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot};
use tracing::debug;

use crate::metrics::Metrics;

/// How long a body may take to arrive.
const BODY: Duration = Duration::from_secs(30);

/// How long a network may take to answer.
const ANSWER: Duration = Duration::from_secs(60);

/// Bytes of bodies that one listener holds at once, at least; twice its longest body if that is more.
const BODIES: usize = 64 * 1024 * 1024;

/// The unit in which those bytes are counted.
const UNIT: usize = 1024;

/// Where the requests of one path go.
pub(super) struct Route {
    network: NetworkName,
    prefix: String,
    max_body: usize,
    body_needs: &'static [&'static str],
    inbox: mpsc::Sender<HttpExchange>,
}

impl Route {
    pub(super) fn new(
        network: NetworkName,
        endpoint: &Endpoint,
        inbox: mpsc::Sender<HttpExchange>,
    ) -> Self {
        Route {
            network,
            prefix: endpoint.prefix.clone(),
            max_body: endpoint.max_body,
            body_needs: endpoint.body_needs,
            inbox,
        }
    }

    /// True when the path is the prefix, or goes on after it with a new segment.
    fn takes(&self, path: &str) -> bool {
        let rest = path.strip_prefix(self.prefix.as_str());
        rest.is_some_and(|rest| {
            rest.is_empty() || rest.starts_with('/') || self.prefix.ends_with('/')
        })
    }
}

/// The routes of one listener, and what it may hold.
pub(super) struct Exchanges {
    /// The longest prefix first.
    routes: Vec<Route>,
    bodies: Arc<Semaphore>,
    metrics: Metrics,
}

/// What answers one client.
pub(super) fn service(
    exchanges: Arc<Exchanges>,
    client: SocketAddr,
) -> impl Service<
    Request<Incoming>,
    Response = Response<Full<Bytes>>,
    Error = Infallible,
    Future = impl Future<Output = Result<Response<Full<Bytes>>, Infallible>> + Send + 'static,
> + Send
+ Sync
+ 'static {
    service_fn(move |request| {
        let exchanges = Arc::clone(&exchanges);
        async move { Ok(exchanges.answer(client, request).await) }
    })
}

/// Why a request did not get an answer of its network's.
enum Refused {
    NotFound,
    Unproved,
    TooLarge,
    TooSlow,
    Broken,
    Busy,
    Unanswered,
}

impl Refused {
    fn status(&self) -> StatusCode {
        match self {
            Refused::NotFound => StatusCode::NOT_FOUND,
            Refused::Unproved => StatusCode::UNAUTHORIZED,
            Refused::TooLarge => StatusCode::PAYLOAD_TOO_LARGE,
            Refused::TooSlow => StatusCode::REQUEST_TIMEOUT,
            Refused::Broken => StatusCode::BAD_REQUEST,
            Refused::Busy | Refused::Unanswered => StatusCode::SERVICE_UNAVAILABLE,
        }
    }

    /// A word for the counter.
    fn reason(&self) -> &'static str {
        match self {
            Refused::NotFound => "http_not_found",
            Refused::Unproved => "http_unproved",
            Refused::TooLarge => "http_too_large",
            Refused::TooSlow => "http_too_slow",
            Refused::Broken => "http_broken",
            Refused::Busy => "http_busy",
            Refused::Unanswered => "http_unanswered",
        }
    }

    fn response(&self) -> Response<Full<Bytes>> {
        let status = self.status();
        let text = format!("{}\n", status.canonical_reason().unwrap_or_default());
        let mut response = Response::new(Full::from(text));
        *response.status_mut() = status;
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/plain"));
        match self {
            Refused::Busy => drop(headers.insert(RETRY_AFTER, HeaderValue::from_static("1"))),
            Refused::Unanswered => drop(headers.insert(RETRY_AFTER, HeaderValue::from_static("5"))),
            _ => {}
        }
        response
    }
}

impl Exchanges {
    pub(super) fn new(mut routes: Vec<Route>, metrics: Metrics) -> Self {
        routes.sort_by_key(|route| std::cmp::Reverse(route.prefix.len()));
        let longest = routes.iter().map(|route| route.max_body).max().unwrap_or(0);
        let units = (BODIES / UNIT).max(longest / UNIT * 2);
        Exchanges {
            routes,
            bodies: Arc::new(Semaphore::new(units.min(Semaphore::MAX_PERMITS))),
            metrics,
        }
    }

    async fn answer<B>(&self, client: SocketAddr, request: Request<B>) -> Response<Full<Bytes>>
    where
        B: Body<Data = Bytes> + Unpin,
        B::Error: fmt::Display,
    {
        let path = request.uri().path();
        let Some(route) = self.routes.iter().find(|route| route.takes(path)) else {
            debug!(%client, "no network answers this path");
            return Refused::NotFound.response();
        };
        match self.exchange(route, client, request).await {
            Ok(response) => response.map(Full::from),
            Err(refused) => {
                let network = &route.network;
                debug!(%client, %network, reason = refused.reason(), "request refused");
                self.metrics.refused(network, refused.reason());
                refused.response()
            }
        }
    }

    async fn exchange<B>(
        &self,
        route: &Route,
        client: SocketAddr,
        request: Request<B>,
    ) -> Result<Response<Bytes>, Refused>
    where
        B: Body<Data = Bytes> + Unpin,
        B::Error: fmt::Display,
    {
        let (parts, body) = request.into_parts();
        let has = |name: &&str| parts.headers.contains_key(*name);
        if !body.is_end_stream() && !route.body_needs.iter().all(has) {
            return Err(Refused::Unproved);
        }
        let collected = tokio::time::timeout(BODY, self.collect(route, body)).await;
        let (body, held) = collected.map_err(|_| Refused::TooSlow)??;
        let mut request = Request::from_parts(parts, body);
        as_from_http1(&mut request);
        let (reply, answer) = oneshot::channel();
        let exchange = HttpExchange {
            request,
            client,
            reply,
        };
        match route.inbox.try_send(exchange) {
            Ok(()) => {}
            Err(TrySendError::Full(_)) => return Err(Refused::Busy),
            Err(TrySendError::Closed(_)) => return Err(Refused::Unanswered),
        }
        let answer = tokio::time::timeout(ANSWER, answer).await;
        drop(held);
        match answer {
            Ok(Ok(response)) => Ok(response),
            Ok(Err(_)) | Err(_) => Err(Refused::Unanswered),
        }
    }

    /// The body, and what it takes of what the listener may hold.
    async fn collect<B>(
        &self,
        route: &Route,
        mut body: B,
    ) -> Result<(Bytes, Vec<OwnedSemaphorePermit>), Refused>
    where
        B: Body<Data = Bytes> + Unpin,
        B::Error: fmt::Display,
    {
        if body.size_hint().lower() > route.max_body as u64 {
            return Err(Refused::TooLarge);
        }
        let mut collected = BytesMut::new();
        let mut held = Vec::new();
        let mut paid = 0;
        while let Some(frame) = body.frame().await {
            let frame = frame.map_err(|error| {
                debug!(%error, "the body broke off");
                Refused::Broken
            })?;
            let Ok(data) = frame.into_data() else {
                continue;
            };
            let length = collected.len() + data.len();
            if length > route.max_body {
                return Err(Refused::TooLarge);
            }
            while paid < length {
                // In steps, so that small frames do not make many permits.
                let units = (length - paid).div_ceil(UNIT).max(16);
                let permit = u32::try_from(units)
                    .ok()
                    .and_then(|units| Arc::clone(&self.bodies).try_acquire_many_owned(units).ok())
                    .ok_or(Refused::Busy)?;
                held.push(permit);
                paid += units * UNIT;
            }
            collected.extend_from_slice(&data);
        }
        Ok((collected.freeze(), held))
    }
}

/// HTTP/2 has the host in the address; a bridge finds it where HTTP/1.1 has it.
fn as_from_http1(request: &mut Request<Bytes>) {
    let uri = request.uri();
    let Some(authority) = uri.authority() else {
        return;
    };
    if let Ok(host) = HeaderValue::from_str(authority.as_str()) {
        request.headers_mut().entry(HOST).or_insert(host);
    }
    let path = request.uri().path_and_query().cloned();
    if let Some(path) = path {
        *request.uri_mut() = Uri::from(path);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_prefix_ends_at_a_segment() {
        let (inbox, _requests) = mpsc::channel(1);
        let route = |prefix: &str| {
            let endpoint = Endpoint {
                listener: comity_bridge::Listener::Public,
                prefix: prefix.to_owned(),
                max_body: 1,
                body_needs: &[],
            };
            Route::new("a".parse().expect("a name"), &endpoint, inbox.clone())
        };
        assert!(route("/_chat").takes("/_chat"));
        assert!(route("/_chat").takes("/_chat/v1"));
        assert!(!route("/_chat").takes("/_chatter"));
        assert!(route("/_chat/").takes("/_chat/v1"));
        assert!(!route("/_chat/").takes("/_chat"));
        assert!(route("/").takes("/anything"));
    }
}

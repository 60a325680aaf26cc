//! Requests to other servers: HTTPS to exactly an address that was checked, never anywhere else.
//!
//! SNI, `Host` and `@authority` are the server's domain, whatever host DNS sent us to; the certificate must
//! be valid for that domain (PROTOCOL 3.5). Redirects are answers like any other: not followed.

mod body;
mod first;

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use http::header::{ACCEPT, HOST};
use http::uri::Uri;
use http::{Method, Request, Response, Version};
use http_body_util::{BodyExt as _, LengthLimitError, Limited};
use hyper::client::conn::{http1, http2};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use rustls::pki_types::ServerName as TlsName;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_util::task::AbortOnDropHandle;

use self::body::RequestBody;
use self::first::first_of;
use crate::discovery::{Discovery, DiscoveryError, HTTPS, Place};
use crate::ident::ServerName;
use crate::wire::api::WellKnown;

/// How long an address may take to accept a connection and to prove its name.
const CONNECT: Duration = Duration::from_secs(10);
/// How long one address keeps the next from being tried beside it (RFC 8305, 5), and one target the next.
const NEXT_ADDRESS: Duration = Duration::from_millis(300);
const NEXT_TARGET: Duration = Duration::from_millis(1500);
/// How long a connection is quiet before the other end is asked whether it is there, and how long it may take to say so.
const KEEP_ALIVE: Duration = Duration::from_secs(15);
const KEEP_ALIVE_PATIENCE: Duration = Duration::from_secs(5);
/// Connections kept for the next request; beyond that, all that are idle are closed.
const MAX_KEPT: usize = 256;

/// How requests reach other servers.
#[async_trait]
pub trait Transport: Send + Sync {
    /// Sends a request, whose URI is a path, to `server`. The answer has at most `limit` bytes and comes within `patience`.
    async fn send(
        &self,
        server: &ServerName,
        request: Request<Bytes>,
        limit: usize,
        patience: Duration,
    ) -> Result<Response<Bytes>, TransportError>;

    /// The TXT record with the server's key, if there is one.
    async fn key_record(&self, server: &ServerName) -> Result<Option<String>, TransportError>;
}

/// Why a request has no answer.
#[derive(Debug, Clone, thiserror::Error)]
pub enum TransportError {
    #[error(transparent)]
    Discovery(#[from] DiscoveryError),
    #[error("cannot connect to {0}: {1}")]
    Connect(String, String),
    #[error("{server} at {place} does not prove its name: {why}")]
    Certificate {
        server: ServerName,
        place: String,
        why: String,
    },
    #[error("{0} did not answer in time")]
    Timeout(ServerName),
    #[error("{0} broke off: {1}")]
    Broken(ServerName, String),
    #[error("the answer of {0} is longer than {1} bytes")]
    TooLong(ServerName, usize),
}

/// The transport over the internet.
pub struct Https {
    discovery: Discovery,
    tls: TlsConnector,
    kept: Mutex<HashMap<ServerName, Connection>>,
}

/// An open connection, and the task that drives it.
struct Connection {
    sender: Sender,
    driver: Arc<AbortOnDropHandle<()>>,
}

enum Sender {
    One(http1::SendRequest<RequestBody>),
    Two(http2::SendRequest<RequestBody>),
}

impl Https {
    pub fn new(discovery: Discovery, tls: &rustls::ClientConfig) -> Self {
        let mut tls = tls.clone();
        tls.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        Self {
            discovery,
            tls: TlsConnector::from(Arc::new(tls)),
            kept: Mutex::default(),
        }
    }

    /// A connection from an earlier request. One of HTTP/2 may be used by several at once, so that a request that
    /// waits for its answer never stands in the way of another.
    fn reuse(&self, server: &ServerName) -> Option<Connection> {
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        let connection = kept.remove(server).filter(Connection::is_usable)?;
        if let Some(shared) = connection.share() {
            kept.insert(server.clone(), shared);
        }
        Some(connection)
    }

    fn keep(&self, server: &ServerName, connection: Connection) {
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        if kept.len() >= MAX_KEPT {
            kept.clear();
        }
        kept.insert(server.clone(), connection);
    }

    fn forget(&self, server: &ServerName) {
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        kept.remove(server);
    }

    /// Connects to the first place that answers and proves to be `server`.
    async fn connect(&self, server: &ServerName) -> Result<Connection, TransportError> {
        let mut places = self.discovery.by_srv(server).await?;
        if places.is_empty() {
            let host = server.as_str().to_owned();
            let own = Place { host, port: HTTPS };
            let well_known = self.well_known(server, &own).await;
            places.push(well_known.unwrap_or(own));
        }
        let attempts = places
            .into_iter()
            .map(|place| async move { self.connect_to(server, &place).await });
        first_of(attempts, NEXT_TARGET).await.unwrap_or_else(|| {
            let why = "no target".to_owned();
            Err(TransportError::Connect(server.to_string(), why))
        })
    }

    /// PROTOCOL 3.2. Whatever is wrong with it, 3.3 comes next.
    async fn well_known(&self, server: &ServerName, own: &Place) -> Option<Place> {
        let mut connection = self.connect_to(server, own).await.ok()?;
        let request = Request::get("/.well-known/chat.json")
            .body(Bytes::new())
            .ok()?;
        let answer = exchange(&mut connection, server, request, 4096);
        let answer = tokio::time::timeout(CONNECT, answer).await.ok()?.ok()?;
        let found: WellKnown =
            (answer.status() == 200).then(|| serde_json::from_slice(answer.body()).ok())??;
        Some(Place {
            host: found.host.as_str().to_owned(),
            port: found.port,
        })
    }

    async fn connect_to(
        &self,
        server: &ServerName,
        place: &Place,
    ) -> Result<Connection, TransportError> {
        let addresses = self.discovery.addresses(place).await?;
        let attempts = addresses
            .into_iter()
            .map(|address| self.connect_at(server, place, address));
        let first = first_of(attempts, NEXT_ADDRESS).await.unwrap_or_else(|| {
            Err(TransportError::Connect(
                place.host.clone(),
                "no address".to_owned(),
            ))
        });
        if let Err(error) = &first {
            tracing::debug!(%server, host = %place.host, port = place.port, %error, "target failed");
        }
        first
    }

    async fn connect_at(
        &self,
        server: &ServerName,
        place: &Place,
        address: SocketAddr,
    ) -> Result<Connection, TransportError> {
        let failed = |why| TransportError::Connect(format!("{} ({address})", place.host), why);
        let attempt = async {
            let stream = comity_net::dial::dial_address(address)
                .await
                .map_err(|error| failed(error.to_string()))?;
            let stream = self.prove(server, address.to_string(), stream).await?;
            Connection::start(server, stream).await
        };
        tokio::time::timeout(CONNECT, attempt)
            .await
            .unwrap_or_else(|_| Err(failed("timed out".to_owned())))
    }

    async fn prove(
        &self,
        server: &ServerName,
        place: String,
        stream: TcpStream,
    ) -> Result<TlsStream<TcpStream>, TransportError> {
        let refused = |why: String| TransportError::Certificate {
            server: server.clone(),
            place: place.clone(),
            why,
        };
        let name = TlsName::try_from(server.as_str().to_owned())
            .map_err(|error| refused(error.to_string()))?;
        self.tls
            .connect(name, stream)
            .await
            .map_err(|error| refused(error.to_string()))
    }
}

impl Connection {
    async fn start(
        server: &ServerName,
        stream: TlsStream<TcpStream>,
    ) -> Result<Self, TransportError> {
        let broken =
            |error: hyper::Error| TransportError::Broken(server.clone(), error.to_string());
        let is_two = stream.get_ref().1.alpn_protocol() == Some(b"h2");
        let io = TokioIo::new(stream);
        // What the driver says at its end, the request that was under way says as well.
        if is_two {
            // A link that died without a word is found out, and the next request gets a new one.
            let (sender, driver) = http2::Builder::new(TokioExecutor::new())
                .timer(TokioTimer::new())
                .keep_alive_interval(KEEP_ALIVE)
                .keep_alive_timeout(KEEP_ALIVE_PATIENCE)
                .handshake(io)
                .await
                .map_err(broken)?;
            let driver = tokio::spawn(async move { drop(driver.await) });
            Ok(Self {
                sender: Sender::Two(sender),
                driver: Arc::new(AbortOnDropHandle::new(driver)),
            })
        } else {
            let (sender, driver) = http1::handshake(io).await.map_err(broken)?;
            let driver = tokio::spawn(async move { drop(driver.await) });
            Ok(Self {
                sender: Sender::One(sender),
                driver: Arc::new(AbortOnDropHandle::new(driver)),
            })
        }
    }

    fn share(&self) -> Option<Self> {
        match &self.sender {
            Sender::One(_) => None,
            Sender::Two(sender) => Some(Self {
                sender: Sender::Two(sender.clone()),
                driver: Arc::clone(&self.driver),
            }),
        }
    }

    fn is_usable(&self) -> bool {
        match &self.sender {
            Sender::One(sender) => !sender.is_closed(),
            Sender::Two(sender) => !sender.is_closed(),
        }
    }
}

async fn exchange(
    connection: &mut Connection,
    server: &ServerName,
    request: Request<Bytes>,
    limit: usize,
) -> Result<Response<Bytes>, TransportError> {
    let broken = |error: hyper::Error| TransportError::Broken(server.clone(), error.to_string());
    let (mut parts, body) = request.into_parts();
    parts
        .headers
        .insert(ACCEPT, http::HeaderValue::from_static("application/json"));
    let path = parts
        .uri
        .path_and_query()
        .map_or("/", |path| path.as_str())
        .to_owned();
    let answer = match &mut connection.sender {
        Sender::One(sender) => {
            let host =
                http::HeaderValue::from_str(server.as_str()).expect("a server name is ASCII");
            parts.headers.insert(HOST, host);
            parts.version = Version::HTTP_11;
            sender.ready().await.map_err(broken)?;
            sender
                .send_request(Request::from_parts(parts, RequestBody::new(body)))
                .await
                .map_err(broken)?
        }
        Sender::Two(sender) => {
            let uri = Uri::builder()
                .scheme("https")
                .authority(server.as_str())
                .path_and_query(path);
            parts.uri = uri
                .build()
                .map_err(|error| TransportError::Broken(server.clone(), error.to_string()))?;
            parts.version = Version::HTTP_2;
            sender.ready().await.map_err(broken)?;
            sender
                .send_request(Request::from_parts(parts, RequestBody::new(body)))
                .await
                .map_err(broken)?
        }
    };
    let (parts, body) = answer.into_parts();
    let body = Limited::new(body, limit).collect().await.map_err(|error| {
        if error.is::<LengthLimitError>() {
            TransportError::TooLong(server.clone(), limit)
        } else {
            TransportError::Broken(server.clone(), error.to_string())
        }
    })?;
    Ok(Response::from_parts(parts, body.to_bytes()))
}

#[async_trait]
impl Transport for Https {
    async fn send(
        &self,
        server: &ServerName,
        request: Request<Bytes>,
        limit: usize,
        patience: Duration,
    ) -> Result<Response<Bytes>, TransportError> {
        let attempt = async {
            if let Some(mut connection) = self.reuse(server) {
                // A kept connection may have been closed a moment ago; then a new one is worth a try. Every
                // request of this protocol may be repeated: a push finds its events here, the others change nothing twice.
                if let Ok(answer) = exchange(&mut connection, server, copy(&request), limit).await {
                    self.keep(server, connection);
                    return Ok(answer);
                }
            }
            let mut connection = self.connect(server).await?;
            let answer = exchange(&mut connection, server, request, limit).await?;
            self.keep(server, connection);
            Ok(answer)
        };
        tokio::time::timeout(patience, attempt)
            .await
            .unwrap_or_else(|_| {
                // It may be dead: the next request does not wait on it again.
                self.forget(server);
                Err(TransportError::Timeout(server.clone()))
            })
    }

    async fn key_record(&self, server: &ServerName) -> Result<Option<String>, TransportError> {
        Ok(self.discovery.key_record(server).await?)
    }
}

fn copy(request: &Request<Bytes>) -> Request<Bytes> {
    let mut copy = Request::new(request.body().clone());
    *copy.method_mut() = Method::clone(request.method());
    *copy.uri_mut() = request.uri().clone();
    *copy.headers_mut() = request.headers().clone();
    copy
}

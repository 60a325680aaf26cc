//! The one HTTP client of a network: sends calls to the homeserver and reads the answers.
//!
//! It never retries and never follows a redirect: what a failure means for a message is decided
//! by the session.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use comity_bridge::failpoint;
use futures_util::stream::{self, StreamExt as _};
use http_body_util::StreamBody;
use hyper::body::Frame;
use rustls::{ClientConfig, RootCertStore};

use crate::config::Config;
use crate::wire::call::{Address, Answer, Call};
use crate::wire::fault::Fault;

/// A page of history may hold a hundred messages of 64 KiB.
const MAX_ANSWER: usize = 16 * 1024 * 1024;
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// How long a connection is kept for the next request. Shorter than any patience with an answer: when the way there is lost and nobody
/// says so, the first request finds out, and those after it do not try the other connections of that time.
const IDLE: Duration = Duration::from_secs(25);
/// How long a test that kills us half-way lets the first half travel.
const HALF: Duration = Duration::from_millis(50);

pub(crate) struct Client {
    http: reqwest::Client,
    address: Address,
}

/// Why no client can be made.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ClientError {
    #[error("certificates: {0}")]
    Tls(String),
    #[error("http client: {0}")]
    Http(#[from] reqwest::Error),
}

impl Client {
    pub(crate) fn new(config: &Config) -> Result<Self, ClientError> {
        let http = reqwest::Client::builder()
            .tls_backend_preconfigured(tls(&config.homeserver, config.ca_file.as_deref())?)
            .connect_timeout(CONNECT_TIMEOUT)
            .redirect(reqwest::redirect::Policy::none())
            // The homeserver is named in the configuration; a proxy of the environment is not.
            .no_proxy()
            .tcp_nodelay(true)
            .pool_max_idle_per_host(16)
            .pool_idle_timeout(IDLE)
            .user_agent(concat!("comity/", env!("CARGO_PKG_VERSION")))
            .build()?;
        Ok(Self {
            http,
            address: Address::new(&config.homeserver, config.as_token.expose()),
        })
    }

    pub(crate) async fn ask(&self, call: &Call) -> Result<Answer, Fault> {
        // A request that cannot be printed has not been sent; its ids were checked when they were
        // made, so this is about a server that gave us an id we cannot write down.
        let unprintable = |why: String| Fault::Refused {
            status: 400,
            errcode: "unprintable request".to_owned(),
            error: why,
        };
        let request = self
            .address
            .encode(call)
            .map_err(|error| unprintable(error.to_string()))?;
        let mut request =
            reqwest::Request::try_from(request).map_err(|error| unprintable(error.to_string()))?;
        *request.timeout_mut() = Some(patience(call));
        let is_send = matches!(call, Call::Send { .. });
        if is_send {
            halve(&mut request);
        }
        let response = self
            .http
            .execute(request)
            .await
            .map_err(|error| fault(&error))?;
        if is_send {
            failpoint::reached("matrix.written");
        }
        let (status, headers) = (response.status(), response.headers().clone());
        let body = read_body(response).await?;
        let mut response = http::Response::new(body);
        *response.status_mut() = status;
        *response.headers_mut() = headers;
        call.decode(response)
    }
}

/// For a test that kills the process when half of a message is written.
fn halve(request: &mut reqwest::Request) {
    if !failpoint::is_set("matrix.half") {
        return;
    }
    let bytes = request.body().and_then(|body| body.as_bytes());
    let bytes = Bytes::copy_from_slice(bytes.unwrap_or_default());
    let second = bytes.slice(bytes.len() / 2..);
    let halves = stream::iter([Ok(Frame::data(bytes.slice(..bytes.len() / 2)))]).chain(
        stream::once(async move {
            // The connection's task writes the first half meanwhile.
            tokio::time::sleep(HALF).await;
            failpoint::reached("matrix.half");
            Ok::<_, std::convert::Infallible>(Frame::data(second))
        }),
    );
    *request.body_mut() = Some(reqwest::Body::wrap(StreamBody::new(halves)));
}

async fn read_body(mut response: reqwest::Response) -> Result<Vec<u8>, Fault> {
    let mut body = Vec::new();
    while let Some(chunk) = response
        .chunk()
        .await
        .map_err(|error| Fault::Broken(describe(&error)))?
    {
        if body.len() + chunk.len() > MAX_ANSWER {
            return Err(Fault::Unreadable(format!("longer than {MAX_ANSWER} bytes")));
        }
        body.extend_from_slice(&chunk);
    }
    Ok(body)
}

/// How long a call may take. Joining a room of another server is slow.
fn patience(call: &Call) -> Duration {
    Duration::from_secs(match call {
        Call::Versions | Call::Whoami => 10,
        // Transactions wait for what a room says, and the homeserver hangs up after a minute.
        _ if call.is_of_timeline() => 10,
        Call::Join { .. } | Call::Resolve { .. } => 90,
        Call::Send { .. } | Call::History { .. } | Call::Ping { .. } => 60,
        _ => 30,
    })
}

fn tls(homeserver: &str, ca_file: Option<&Path>) -> Result<ClientConfig, ClientError> {
    if homeserver.starts_with("https:") {
        let config = comity_net::tls::client_config(ca_file)
            .map_err(|error| ClientError::Tls(error.to_string()))?;
        return Ok(Arc::unwrap_or_clone(config));
    }
    // Plain HTTP: nobody is trusted, and no certificate store has to exist.
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| ClientError::Tls(error.to_string()))?
        .with_root_certificates(RootCertStore::empty())
        .with_no_client_auth();
    Ok(config)
}

fn fault(error: &reqwest::Error) -> Fault {
    if error.is_connect() {
        Fault::Unreachable(describe(error))
    } else {
        Fault::Broken(describe(error))
    }
}

/// The innermost cause says what an operator can use; the outer ones repeat the URL.
fn describe(error: &reqwest::Error) -> String {
    if error.is_timeout() && !error.is_connect() {
        return "no answer in time".to_owned();
    }
    let mut cause: &dyn std::error::Error = error;
    while let Some(inner) = cause.source() {
        cause = inner;
    }
    cause.to_string()
}

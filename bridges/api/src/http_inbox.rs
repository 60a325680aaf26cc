//! HTTP that a bridge answers. The gateway owns the listeners; a bridge declares paths and gets whole requests.

use std::net::SocketAddr;

use bytes::Bytes;
use tokio::sync::oneshot;

/// Paths that a network answers.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Endpoint {
    /// On which listener.
    pub listener: Listener,
    /// Requests whose path is this, or begins with it, come to the bridge. Begins with `/`.
    pub prefix: String,
    /// Longer bodies are refused with 413 before the bridge sees them. Bytes.
    pub max_body: usize,
    /// A body that comes without each of these headers is refused with 401 before it is read: nobody answers for it.
    /// That they are true, the bridge has to find out.
    pub body_needs: &'static [&'static str],
}

/// Which listener.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Listener {
    /// The gateway's public one.
    Public,
    /// One of the network's own, plain HTTP, for loopback.
    Own(SocketAddr),
}

/// One HTTP request to answer. Dropped unanswered, the client gets a 503.
#[derive(Debug)]
pub struct HttpExchange {
    /// The whole request; the path is as it came, prefix included.
    pub request: http::Request<Bytes>,
    /// Who asks.
    pub client: SocketAddr,
    /// Where the answer goes.
    pub reply: oneshot::Sender<http::Response<Bytes>>,
}

//! An HTTP client without a socket: calls straight into a bridge's inbox.

use std::net::SocketAddr;

use bytes::Bytes;
use http::{Request, Response, StatusCode};
use tokio::sync::{mpsc, oneshot};

use crate::http_inbox::HttpExchange;

/// Calls a bridge's HTTP endpoints. Cheap to clone, usable from any task. It is of the run that it was made for.
#[derive(Clone, Debug)]
pub struct HttpCaller {
    inbox: mpsc::Sender<HttpExchange>,
    client: SocketAddr,
}

impl HttpCaller {
    pub(super) fn new(inbox: mpsc::Sender<HttpExchange>) -> Self {
        HttpCaller {
            inbox,
            client: SocketAddr::from(([127, 0, 0, 1], 40_000)),
        }
    }

    /// The same, as another client.
    pub fn from_address(mut self, client: SocketAddr) -> Self {
        self.client = client;
        self
    }

    /// One request and its response; 503 when the bridge drops it or is gone, as the gateway answers. No time limit.
    pub async fn call(&self, request: Request<Bytes>) -> Response<Bytes> {
        let (reply, response) = oneshot::channel();
        let exchange = HttpExchange {
            request,
            client: self.client,
            reply,
        };
        if self.inbox.send(exchange).await.is_err() {
            return unavailable();
        }
        response.await.unwrap_or_else(|_| unavailable())
    }
}

fn unavailable() -> Response<Bytes> {
    let mut response = Response::new(Bytes::new());
    *response.status_mut() = StatusCode::SERVICE_UNAVAILABLE;
    response
}

//! Asks the running daemon, through its admin API.

use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use http::header::HOST;
use http::{Request, StatusCode};
use http_body_util::{BodyExt, Empty};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use serde::de::DeserializeOwned;
use thiserror::Error;
use tokio::net::TcpStream;

/// How long the daemon may take.
const PATIENCE: Duration = Duration::from_secs(10);

/// Why the daemon did not tell.
#[derive(Debug, Error)]
pub(super) enum AskError {
    #[error(
        "no daemon answers at {address} ({fault}); is it running, and with this configuration?"
    )]
    NotThere {
        address: SocketAddr,
        fault: std::io::Error,
    },
    #[error("what answers at {address} does not speak http: {fault}")]
    NotHttp {
        address: SocketAddr,
        fault: hyper::Error,
    },
    #[error("{address} does not answer in time")]
    Slow { address: SocketAddr },
    #[error("what answers at {address} is not this daemon: it says {status}")]
    Refused {
        address: SocketAddr,
        status: StatusCode,
    },
    #[error("what answers at {address} is not this daemon: {fault}")]
    Strange {
        address: SocketAddr,
        fault: serde_json::Error,
    },
}

/// Gets a page of the daemon at `address`.
pub(super) fn ask<T: DeserializeOwned>(address: SocketAddr, path: &str) -> Result<T, AskError> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|fault| AskError::NotThere { address, fault })?;
    let (status, body) = runtime.block_on(async {
        tokio::time::timeout(PATIENCE, get(address, path))
            .await
            .map_err(|_| AskError::Slow { address })?
    })?;
    if status != StatusCode::OK {
        return Err(AskError::Refused { address, status });
    }
    serde_json::from_slice(&body).map_err(|fault| AskError::Strange { address, fault })
}

async fn get(address: SocketAddr, path: &str) -> Result<(StatusCode, Bytes), AskError> {
    let not_http = |fault| AskError::NotHttp { address, fault };
    let stream = TcpStream::connect(address)
        .await
        .map_err(|fault| AskError::NotThere { address, fault })?;
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream))
        .await
        .map_err(not_http)?;
    let request = Request::get(path)
        .header(HOST, address.to_string())
        .body(Empty::<Bytes>::new())
        .expect("the path and the address are ours");
    let asked = async {
        let response = sender.send_request(request).await?;
        let status = response.status();
        let body = response.into_body().collect().await?.to_bytes();
        Ok((status, body))
    };
    tokio::select! {
        answer = asked => answer.map_err(not_http),
        // It may end well before the answer is read, and then there is nothing to say.
        Err(fault) = connection => Err(not_http(fault)),
    }
}

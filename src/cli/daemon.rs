//! Asks the running daemon, through its admin API.

use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use http::header::HOST;
use http::{Method, Request, StatusCode};
use http_body_util::{BodyExt, Empty};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
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
    /// The daemon's own words.
    #[error("{0}")]
    Denied(String),
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
    send(address, Method::GET, path)
}

/// A page of the daemon as it is, for programs.
pub(super) fn raw(address: SocketAddr, path: &str) -> Result<String, AskError> {
    let page: Value = ask(address, path)?;
    Ok(format!("{page:#}\n"))
}

/// Sends the daemon at `address` what to do; `path` says all of it.
pub(super) fn tell<T: DeserializeOwned>(address: SocketAddr, path: &str) -> Result<T, AskError> {
    send(address, Method::POST, path)
}

/// One segment of a path, whatever is in it.
pub(super) fn segment(text: &str) -> String {
    let mut encoded = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            encoded.push(char::from(byte));
        } else {
            encoded.push_str(&format!("%{byte:02X}"));
        }
    }
    encoded
}

#[derive(Deserialize)]
struct Fault {
    error: String,
}

fn send<T: DeserializeOwned>(
    address: SocketAddr,
    method: Method,
    path: &str,
) -> Result<T, AskError> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|fault| AskError::NotThere { address, fault })?;
    let (status, body) = runtime.block_on(async {
        tokio::time::timeout(PATIENCE, exchange(address, method, path))
            .await
            .map_err(|_| AskError::Slow { address })?
    })?;
    if status != StatusCode::OK {
        return Err(match serde_json::from_slice::<Fault>(&body) {
            Ok(fault) => AskError::Denied(fault.error),
            Err(_) => AskError::Refused { address, status },
        });
    }
    serde_json::from_slice(&body).map_err(|fault| AskError::Strange { address, fault })
}

async fn exchange(
    address: SocketAddr,
    method: Method,
    path: &str,
) -> Result<(StatusCode, Bytes), AskError> {
    let not_http = |fault| AskError::NotHttp { address, fault };
    let stream = TcpStream::connect(address)
        .await
        .map_err(|fault| AskError::NotThere { address, fault })?;
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream))
        .await
        .map_err(not_http)?;
    let request = Request::builder()
        .method(method)
        .uri(path)
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_channel_is_one_segment_of_a_path() {
        assert_eq!(segment("libera/#rust"), "libera%2F%23rust");
        assert_eq!(segment("home/!a:b.example"), "home%2F%21a%3Ab.example");
    }
}

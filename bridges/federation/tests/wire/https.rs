//! An HTTPS server on loopback whose connections can be cut and whose answers can be held back.

use std::future::Future;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio_rustls::TlsAcceptor;

use super::Certificate;

pub(crate) type Answer = Pin<Box<dyn Future<Output = Response<Bytes>> + Send>>;
pub(crate) type Handler = Arc<dyn Fn(Request<Bytes>) -> Answer + Send + Sync>;

/// The server; it ends with the runtime.
pub(crate) struct Https {
    pub(crate) address: SocketAddr,
    generation: watch::Sender<u64>,
    held: watch::Sender<bool>,
}

impl Https {
    pub(crate) async fn start(certificate: Certificate, handler: Handler) -> Self {
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let mut config = rustls::ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .expect("versions")
            .with_no_client_auth()
            .with_single_cert(certificate.chain, certificate.key)
            .expect("a certificate");
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        let acceptor = TlsAcceptor::from(Arc::new(config));
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("bound");
        let (generation, held) = (watch::Sender::new(0), watch::Sender::new(false));
        let (generations, holds) = (generation.clone(), held.clone());
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (acceptor, handler) = (acceptor.clone(), Arc::clone(&handler));
                let (mut cut, held) = (generations.subscribe(), holds.subscribe());
                tokio::spawn(async move {
                    cut.mark_unchanged();
                    let serve = async {
                        let Ok(stream) = acceptor.accept(stream).await else {
                            return;
                        };
                        let service = service_fn(move |request: Request<Incoming>| {
                            answer(Arc::clone(&handler), held.clone(), request)
                        });
                        drop(
                            auto::Builder::new(TokioExecutor::new())
                                .serve_connection(TokioIo::new(stream), service)
                                .await,
                        );
                    };
                    tokio::select! {
                        () = serve => {}
                        _ = cut.changed() => {}
                    }
                });
            }
        });
        Self {
            address,
            generation,
            held,
        }
    }

    /// Drops every connection.
    pub(crate) fn cut(&self) {
        self.generation.send_modify(|generation| *generation += 1);
    }

    /// Holds every request back until it is released.
    pub(crate) fn hold(&self, held: bool) {
        self.held.send_replace(held);
    }
}

async fn answer(
    handler: Handler,
    mut held: watch::Receiver<bool>,
    request: Request<Incoming>,
) -> Result<Response<Full<Bytes>>, hyper::Error> {
    held.wait_for(|held| !held).await.ok();
    let (parts, body) = request.into_parts();
    let body = body.collect().await?.to_bytes();
    Ok(handler(Request::from_parts(parts, body))
        .await
        .map(Full::new))
}

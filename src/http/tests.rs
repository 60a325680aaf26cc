//! Listeners as clients meet them, over real sockets.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use comity_bridge::test_util::scripted::ScriptedKind;
use comity_bridge::{Endpoint, HttpExchange, Listener, NetworkName};
use http::{Request, Response, StatusCode};
use http_body_util::{BodyExt, Empty, Full};
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls::pki_types::ServerName;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::connection::{Server, Timeouts};
use super::exchange::{Exchanges, service};
use super::{Admin, BindError, Inbox, Listeners, Readiness};
use crate::board::Board;
use crate::config::{HttpConfig, TlsFiles, sample};
use crate::journal::Journal;
use crate::metrics::Metrics;
use crate::router::Gate;

#[tokio::test]
async fn a_request_goes_to_the_network_with_the_longest_prefix() {
    let (short, mut short_inbox) = endpoint("short", Listener::Public, "/_chat");
    let (long, mut long_inbox) = endpoint("long", Listener::Public, "/_chat/media");
    let gateway = Gateway::start(vec![short, long], None).await;
    let ask = |path: &'static str| get(gateway.public(), path);

    let (answer, exchange) = tokio::join!(ask("/_chat/media/x?y=1"), long_inbox.recv());
    assert_eq!(answer.0, StatusCode::IM_A_TEAPOT);
    let uri = exchange.expect("a request");
    assert_eq!(uri, "/_chat/media/x?y=1");

    let (answer, exchange) = tokio::join!(ask("/_chat/push"), short_inbox.recv());
    assert_eq!(answer.0, StatusCode::IM_A_TEAPOT);
    assert_eq!(exchange.expect("a request"), "/_chat/push");

    assert_eq!(ask("/_chatter").await.0, StatusCode::NOT_FOUND);
    assert_eq!(ask("/").await.0, StatusCode::NOT_FOUND);
    assert_eq!(ask("/metrics").await.0, StatusCode::NOT_FOUND);
}

#[tokio::test]
async fn a_body_that_nobody_answers_for_is_refused_before_it_is_read() {
    let (inbox, mut requests) = exchanges(
        "peers",
        Endpoint {
            body_needs: &["signature", "content-digest"],
            ..public("/_chat/")
        },
    );
    let gateway = Gateway::start(vec![inbox], None).await;
    // Of the body, nothing ever comes: who waits for it answers 408 after a long while.
    let ask = |headers: &str| {
        format!(
            "POST /_chat/push HTTP/1.1\r\nHost: localhost\r\n{headers}Content-Length: 9\r\n\r\n"
        )
    };
    for headers in ["", "Signature: x\r\n"] {
        let answer = tokio::time::timeout(Duration::from_secs(10), async {
            let mut stream = TcpStream::connect(gateway.public()).await.expect("connect");
            let request = ask(headers);
            stream.write_all(request.as_bytes()).await.expect("write");
            let mut answer = [0; 12];
            stream.read_exact(&mut answer).await.expect("an answer");
            String::from_utf8_lossy(&answer).into_owned()
        });
        assert_eq!(answer.await.expect("at once"), "HTTP/1.1 401");
    }
    // With them it is read, and without a body nothing is asked for.
    let signed = ask("Signature: x\r\nContent-Digest: y\r\nConnection: close\r\n");
    let asked =
        tokio::spawn(async move { raw(gateway.public(), &format!("{signed}123456789")).await });
    let exchange = requests.recv().await.expect("a request");
    assert_eq!(exchange.request.body(), "123456789");
    drop(exchange);
    assert!(asked.await.expect("no panic").starts_with("HTTP/1.1 503"));
}

#[tokio::test]
async fn each_network_has_its_own_listener_when_it_asks_for_one() {
    let free = "127.0.0.1:0".parse().expect("an address");
    let (own, mut inbox) = endpoint("home", Listener::Own(free), "/_matrix");
    let gateway = Gateway::start(vec![own], None).await;
    let (answer, path) = tokio::join!(get(gateway.at("home"), "/_matrix/x"), inbox.recv());
    assert_eq!(answer.0, StatusCode::IM_A_TEAPOT);
    assert_eq!(path.expect("a request"), "/_matrix/x");
    assert_eq!(
        get(gateway.public(), "/_matrix/x").await.0,
        StatusCode::NOT_FOUND
    );
}

#[tokio::test]
async fn a_body_that_is_too_long_is_refused_before_the_bridge_sees_it() {
    let (peers, mut inbox) = endpoint("peers", Listener::Public, "/_chat");
    let gateway = Gateway::start(vec![peers], None).await;
    for head in [
        "Content-Length: 1025\r\n\r\n".to_owned(),
        format!(
            "Transfer-Encoding: chunked\r\n\r\n401\r\n{}\r\n0\r\n\r\n",
            "x".repeat(1025)
        ),
    ] {
        let request = format!("PUT /_chat/push HTTP/1.1\r\nHost: a\r\n{head}");
        let answer = raw(gateway.public(), &request).await;
        assert!(answer.starts_with("HTTP/1.1 413 "), "{answer}");
    }
    assert!(inbox.try_recv().is_err());
    let text = gateway.metrics.render();
    let line = "comity_refused_total{network=\"peers\",reason=\"http_too_large\"} 2";
    assert!(text.contains(line), "{text}");
}

#[tokio::test]
async fn a_bridge_that_drops_a_request_makes_a_503_and_a_full_inbox_too() {
    let (inbox, mut requests) = mpsc::channel(1);
    let peers = (name("peers"), public("/_chat"), inbox.clone());
    let gateway = Gateway::start(vec![peers], None).await;

    let drop_it = async { drop(requests.recv().await) };
    let ((status, retry), ()) = tokio::join!(get(gateway.public(), "/_chat"), drop_it);
    assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(retry.as_deref(), Some("5"));

    let _taken = inbox.reserve().await.expect("the inbox is open");
    let (status, retry) = get(gateway.public(), "/_chat").await;
    assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(retry.as_deref(), Some("1"));
}

#[tokio::test]
async fn http2_over_tls_reaches_the_bridge_as_http1_does() {
    let (peers, mut inbox) = exchanges("peers", public("/_chat"));
    let pair = rcgen::generate_simple_self_signed(["gw1.example".to_owned()]).expect("a pair");
    let dir = tempfile::tempdir().expect("a directory");
    let files = TlsFiles {
        cert: dir.path().join("cert.pem"),
        key: dir.path().join("key.pem"),
    };
    std::fs::write(&files.cert, pair.cert.pem()).expect("write");
    std::fs::write(&files.key, pair.signing_key.serialize_pem()).expect("write");
    let gateway = Gateway::start(vec![peers], Some(files)).await;

    // Not TLS at all: the listener survives it.
    let nonsense = raw(gateway.public(), "GET /_chat HTTP/1.1\r\nHost: a\r\n\r\n").await;
    assert!(!nonsense.starts_with("HTTP/1.1 2"), "{nonsense}");

    let mut roots = rustls::RootCertStore::empty();
    roots.add(pair.cert.der().clone()).expect("a certificate");
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut client = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("versions")
        .with_root_certificates(roots)
        .with_no_client_auth();
    client.alpn_protocols = vec![b"h2".to_vec()];
    let stream = TcpStream::connect(gateway.public()).await.expect("connect");
    let host = ServerName::try_from("gw1.example").expect("a name");
    let stream = tokio_rustls::TlsConnector::from(Arc::new(client))
        .connect(host, stream)
        .await
        .expect("tls");
    assert_eq!(stream.get_ref().1.alpn_protocol(), Some(b"h2".as_slice()));
    let (mut sender, connection) =
        hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream))
            .await
            .expect("http/2");
    let connection = tokio::spawn(connection);
    let request = Request::put("https://gw1.example/_chat/push?a=b")
        .body(Full::<Bytes>::from("hello"))
        .expect("a request");
    let (answer, exchange) = tokio::join!(sender.send_request(request), async {
        let exchange = inbox.recv().await.expect("a request");
        let HttpExchange { request, reply, .. } = exchange;
        reply
            .send(Response::new(Bytes::from_static(b"hi")))
            .expect("the client waits");
        request
    });
    assert_eq!(answer.expect("an answer").status(), StatusCode::OK);
    assert_eq!(exchange.uri(), "/_chat/push?a=b");
    assert_eq!(exchange.headers()["host"], "gw1.example");
    assert_eq!(exchange.body(), "hello");
    connection.abort();
}

#[tokio::test]
async fn f25_a_client_that_says_nothing_or_half_a_head_is_let_go() {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("an address");
    let hasty = Timeouts {
        header: Duration::from_millis(50),
        idle: Some(Duration::from_millis(50)),
    };
    let server = Server::new("hasty", listener, None, hasty);
    let exchanges = Arc::new(Exchanges::new(Vec::new(), Metrics::new([&name("libera")])));
    let shutdown = CancellationToken::new();
    let serving = server.run(
        |client| service(Arc::clone(&exchanges), client),
        shutdown.clone(),
    );
    let clients = async {
        for said in [
            "",
            "GET / HTTP/1.1\r\nHost: a\r\n",
            "GET / HTTP/1.1\r\nHost: a\r\n\r\n",
        ] {
            // Returns when the server has closed the connection.
            raw(address, said).await;
        }
        shutdown.cancel();
    };
    tokio::join!(serving, clients);
}

#[tokio::test]
async fn shutdown_answers_what_is_in_hand_and_ends() {
    let (peers, mut inbox) = exchanges("peers", public("/_chat"));
    let gateway = Gateway::start(vec![peers], None).await;
    let asked = tokio::spawn(get(gateway.public(), "/_chat"));
    let exchange = inbox.recv().await.expect("a request");
    gateway.shutdown.cancel();
    exchange
        .reply
        .send(Response::new(Bytes::new()))
        .expect("the client waits");
    assert_eq!(asked.await.expect("an answer").0, StatusCode::OK);
    gateway.task.await.expect("the listeners end");
}

#[tokio::test]
async fn the_admin_pages_say_how_things_are() {
    let gateway = Gateway::start(Vec::new(), None).await;
    let admin = gateway.at("admin");
    assert_eq!(get(admin, "/healthz").await.0, StatusCode::OK);
    let readyz = page(admin, "/readyz").await;
    assert!(readyz.starts_with("HTTP/1.1 503 "), "{readyz}");
    gateway.ready.set(true);
    let readyz = page(admin, "/readyz").await;
    assert!(readyz.starts_with("HTTP/1.1 200 "), "{readyz}");
    assert!(
        readyz.contains(r#""name":"libera","protocol":"irc","status":"connecting""#),
        "{readyz}"
    );
    let metrics = page(admin, "/metrics").await;
    assert!(
        metrics.contains("comity_lane_depth{network=\"libera\"} 0"),
        "{metrics}"
    );
    let rooms = page(admin, "/v1/rooms").await;
    assert!(rooms.contains(r##""room":"#room@gw1.example""##), "{rooms}");
    let networks = page(admin, "/v1/networks").await;
    assert!(
        networks.contains(r#""networks":[{"name":"libera""#),
        "{networks}"
    );
    let rebound = raw(
        admin,
        "GET /v1/rooms HTTP/1.1\r\nHost: evil.example\r\nConnection: close\r\n\r\n",
    )
    .await;
    assert!(rebound.starts_with("HTTP/1.1 421 "), "{rebound}");
}

#[tokio::test]
async fn programs_of_this_machine_may_change_things_and_web_pages_may_not() {
    let gateway = Gateway::start(Vec::new(), None).await;
    let admin = gateway.at("admin");
    let post = |path: &str, header: &str| {
        let request = format!(
            "POST {path} HTTP/1.1\r\nHost: 127.0.0.1\r\n{header}Content-Length: 0\r\nConnection: close\r\n\r\n"
        );
        async move { raw(admin, &request).await }
    };
    let path = "/v1/channels/libera%2F%23room/resume";
    let answer = post(path, "").await;
    assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
    assert!(answer.contains(r#""was_paused":false"#), "{answer}");
    for header in [
        "Origin: https://evil.example\r\n",
        "Sec-Fetch-Site: cross-site\r\n",
    ] {
        let answer = post(path, header).await;
        assert!(answer.starts_with("HTTP/1.1 403 "), "{answer}");
    }
    let answer = post("/v1/channels/libera%2F%23other/resume", "").await;
    assert!(answer.starts_with("HTTP/1.1 404 "), "{answer}");
    assert!(
        answer.contains(r##"{"error":"no room is shown in libera/#other"}"##),
        "{answer}"
    );
    let answer = post("/v1/channels/nonsense/resume", "").await;
    assert!(answer.starts_with("HTTP/1.1 400 "), "{answer}");
}

#[tokio::test]
async fn a_listener_that_cannot_be_bound_names_its_key() {
    let taken = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = taken.local_addr().expect("an address");
    let config = HttpConfig {
        admin: "127.0.0.1:0".parse().expect("an address"),
        public: Some(address),
        tls: None,
    };
    let error = Listeners::bind(&config, Vec::new(), Metrics::new([]))
        .await
        .err()
        .expect("the port is taken");
    assert!(matches!(error, BindError::Address { .. }));
    assert_eq!(
        error.to_string(),
        format!("http.public: cannot listen on {address}")
    );
}

/// Listeners that are served.
struct Gateway {
    addresses: Vec<(String, SocketAddr)>,
    metrics: Metrics,
    ready: Readiness,
    shutdown: CancellationToken,
    task: JoinHandle<()>,
    _dir: tempfile::TempDir,
}

impl Gateway {
    async fn start(endpoints: Vec<Inbox>, tls: Option<TlsFiles>) -> Self {
        let free = "127.0.0.1:0".parse().expect("an address");
        let config = HttpConfig {
            admin: free,
            public: Some(free),
            tls,
        };
        let dir = tempfile::tempdir().expect("a directory");
        let admin = admin(dir.path());
        let (metrics, ready) = (admin.metrics.clone(), admin.ready.clone());
        let listeners = Listeners::bind(&config, endpoints, metrics.clone())
            .await
            .expect("free ports");
        let addresses = listeners
            .addresses()
            .into_iter()
            .map(|(name, address)| (name.to_owned(), address))
            .collect();
        let shutdown = CancellationToken::new();
        let task = tokio::spawn(listeners.serve(admin, shutdown.clone()));
        Gateway {
            addresses,
            metrics,
            ready,
            shutdown,
            task,
            _dir: dir,
        }
    }

    fn at(&self, listener: &str) -> SocketAddr {
        let found = self.addresses.iter().find(|(name, _)| name == listener);
        found.expect("the listener").1
    }

    fn public(&self) -> SocketAddr {
        self.at("public")
    }
}

fn admin(dir: &Path) -> Admin {
    let kind: &'static ScriptedKind = Box::leak(Box::default());
    let config = sample::scripted(kind, dir, &["libera"]);
    let room = &config.rooms[0];
    let rooms = vec![(room.address.clone(), room.channels.clone())];
    let metrics = Metrics::new([&name("libera")]);
    let board = Arc::new(Board::new(vec![(name("libera"), "irc")], rooms.clone()));
    let (journal, _threads) =
        Journal::open(dir, &rooms, &config.journal, metrics.clone()).expect("the journal opens");
    let gate = Gate::new(
        &config,
        journal.clone(),
        Arc::clone(&board),
        metrics.clone(),
    );
    Admin {
        board,
        metrics,
        ready: Readiness::default(),
        gate: Arc::new(gate),
        journal,
    }
}

fn name(text: &str) -> NetworkName {
    text.parse().expect("a network name")
}

fn public(prefix: &str) -> Endpoint {
    Endpoint {
        listener: Listener::Public,
        prefix: prefix.to_owned(),
        max_body: 1024,
        body_needs: &[],
    }
}

fn exchanges(network: &str, endpoint: Endpoint) -> (Inbox, mpsc::Receiver<HttpExchange>) {
    let (inbox, requests) = mpsc::channel(4);
    ((name(network), endpoint, inbox), requests)
}

/// A network that answers everything with 418; the receiver has what was asked.
fn endpoint(
    network: &str,
    listener: Listener,
    prefix: &str,
) -> (Inbox, mpsc::UnboundedReceiver<String>) {
    let endpoint = Endpoint {
        listener,
        ..public(prefix)
    };
    let (inbox, mut requests) = exchanges(network, endpoint);
    let (asked, paths) = mpsc::unbounded_channel();
    tokio::spawn(async move {
        while let Some(exchange) = requests.recv().await {
            asked
                .send(exchange.request.uri().to_string())
                .expect("the test listens");
            let mut response = Response::new(Bytes::new());
            *response.status_mut() = StatusCode::IM_A_TEAPOT;
            exchange.reply.send(response).expect("the client waits");
        }
    });
    (inbox, paths)
}

async fn get(address: SocketAddr, path: &'static str) -> (StatusCode, Option<String>) {
    let stream = TcpStream::connect(address).await.expect("connect");
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
        .await
        .expect("http");
    let connection = tokio::spawn(connection);
    let request = Request::get(path)
        .header("host", "localhost")
        .body(Empty::<Bytes>::new())
        .expect("a request");
    let answer = sender.send_request(request).await.expect("an answer");
    let retry = answer.headers().get("retry-after");
    let retry = retry.map(|value| value.to_str().expect("text").to_owned());
    let status = answer.status();
    answer
        .into_body()
        .collect()
        .await
        .expect("the whole answer");
    connection.abort();
    (status, retry)
}

async fn page(address: SocketAddr, path: &str) -> String {
    let request = format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
    raw(address, &request).await
}

async fn raw(address: SocketAddr, request: &str) -> String {
    let mut stream = TcpStream::connect(address).await.expect("connect");
    stream.write_all(request.as_bytes()).await.expect("write");
    let mut answer = Vec::new();
    let mut buffer = [0; 4096];
    loop {
        match stream.read(&mut buffer).await {
            Ok(0) | Err(_) => break,
            Ok(count) => answer.extend_from_slice(&buffer[..count]),
        }
        // A 413 may come on a connection that the server would keep open.
        if answer.starts_with(b"HTTP/1.1 413") {
            break;
        }
    }
    String::from_utf8_lossy(&answer).into_owned()
}

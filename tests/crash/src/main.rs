//! The gateway's core between scripted networks, run to be killed.
//!
//! `comity-crash DIR LAST`: the source network says the numbers 1, 2, 3, ... up to LAST, going on where the gateway's cursor
//! stands, and writes each number that was committed to `DIR/acknowledged`: a network that was told "we have it". Two targets append
//! what they show to `DIR/fenced` and `DIR/plain`: what people have seen. They are files, so that they outlive the kill as a network does.
//! `fenced` can be asked whether it has a delivery already; `plain` cannot, like a network without any idempotency.
//! When both have shown everything, the program ends by itself.

use std::collections::BTreeSet;
use std::fs::{File, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, Result};
use async_trait::async_trait;
use comity::config::{Config, HttpConfig, NetworkConfig, RoomConfig};
use comity::gateway::Gateway;
use comity_bridge::event::{Message, MessageKind};
use comity_bridge::{
    Access, Answer, Batch, Bridge, BridgeError, BridgeKind, Capabilities, Channel, ChannelState,
    ConfigProblem, ConfigTable, Content, Cursor, Delivery, GatewayInfo, Incoming, Link,
    NativeAuthor, NativeId, NetworkName, NetworkStatus, Outcome, Request, RoomAddress, SourceId,
    Text,
};
use tokio::sync::Semaphore;

fn main() -> Result<()> {
    let mut args = std::env::args().skip(1);
    let dir = PathBuf::from(args.next().context("a directory is missing")?);
    let last: u64 = args.next().context("the last number is missing")?.parse()?;
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()?
        .block_on(run(&dir, last))
}

async fn run(dir: &Path, last: u64) -> Result<()> {
    let finished = Arc::new(Semaphore::new(0));
    let source: &'static Source = Box::leak(Box::new(Source {
        dir: dir.to_owned(),
        last,
    }));
    let target = |name: &str, asks: bool| -> &'static Target {
        Box::leak(Box::new(Target {
            file: dir.join(name),
            asks,
            last,
            finished: Arc::clone(&finished),
        }))
    };
    let network = |name: &str, kind: &'static dyn BridgeKind| -> Result<NetworkConfig> {
        let table = ConfigTable::new("crash", "", serde_json::Map::new());
        Ok(NetworkConfig {
            name: name.parse()?,
            kind,
            file: PathBuf::new(),
            table,
            delivery: comity::config::DeliveryConfig::default(),
        })
    };
    let config = Config {
        gateway: GatewayInfo {
            domain: "crash.example".to_owned(),
            public_url: None,
            data_dir: dir.join("data"),
        },
        http: HttpConfig {
            admin: "127.0.0.1:0".parse()?,
            public: None,
            tls: None,
        },
        rooms: vec![RoomConfig {
            address: RoomAddress::new("room", "crash.example")?,
            channels: vec![
                "source/#room".parse()?,
                "fenced/#room".parse()?,
                "plain/#room".parse()?,
            ],
            hosted: Vec::new(),
            access: Access::Off,
        }],
        networks: vec![
            network("source", source)?,
            network("fenced", target("fenced", true))?,
            network("plain", target("plain", false))?,
        ],
        journal: comity::config::JournalConfig::default(),
    };
    let gateway = Gateway::start(config)
        .await
        .map_err(|e| anyhow::anyhow!("{e}"))?;
    drop(finished.acquire_many(2).await?);
    gateway.stop().await;
    Ok(())
}

fn append_to(path: &Path) -> File {
    OpenOptions::new()
        .create(true)
        .append(true)
        .open(path)
        .expect("the test's directory can be written")
}

struct Source {
    dir: PathBuf,
    last: u64,
}

impl BridgeKind for Source {
    fn protocol(&self) -> &'static str {
        "source"
    }

    fn configure(
        &self,
        _: &GatewayInfo,
        _: &NetworkName,
        _: ConfigTable,
    ) -> Result<Box<dyn Bridge>, Vec<ConfigProblem>> {
        Ok(Box::new(SourceBridge {
            acknowledged: append_to(&self.dir.join("acknowledged")),
            last: self.last,
        }))
    }
}

struct SourceBridge {
    acknowledged: File,
    last: u64,
}

#[async_trait]
impl Bridge for SourceBridge {
    async fn run(mut self: Box<Self>, link: Link) -> Result<(), BridgeError> {
        let channel: Channel = "source/#room".parse().expect("a channel");
        link.reports.network(NetworkStatus::Online);
        let remembered = link.reports.remembered().await;
        let mut next: u64 = remembered
            .cursor
            .and_then(|cursor| cursor.0.parse().ok())
            .unwrap_or(1);
        while next <= self.last {
            let size = (next % 7 + 1).min(self.last - next + 1);
            let incoming = (next..next + size)
                .map(|number| said(&channel, number))
                .collect();
            let cursor = Some(Cursor((next + size).to_string()));
            if let Answer::Committed(_) = link
                .reports
                .commit(Batch {
                    incoming,
                    cursor,
                    writes: Vec::new(),
                    gaps: Vec::new(),
                })
                .await
            {
                let lines: String = (next..next + size)
                    .map(|number| format!("{number}\n"))
                    .collect();
                self.acknowledged
                    .write_all(lines.as_bytes())
                    .expect("the test's directory can be written");
                next += size;
            }
        }
        link.shutdown.cancelled().await;
        Ok(())
    }
}

fn said(channel: &Channel, number: u64) -> Incoming {
    Incoming {
        channel: channel.clone(),
        source_id: SourceId(number.to_string()),
        author: NativeAuthor::named("alice", "alice"),
        claimed: None,
        own: None,
        content: Content::Message(Message::of(
            MessageKind::Text,
            Text::plain(number.to_string()),
        )),
        via: Vec::new(),
    }
}

struct Target {
    file: PathBuf,
    asks: bool,
    last: u64,
    finished: Arc<Semaphore>,
}

impl BridgeKind for Target {
    fn protocol(&self) -> &'static str {
        "target"
    }

    fn configure(
        &self,
        _: &GatewayInfo,
        _: &NetworkName,
        _: ConfigTable,
    ) -> Result<Box<dyn Bridge>, Vec<ConfigProblem>> {
        let seen = std::fs::read_to_string(&self.file).unwrap_or_default();
        Ok(Box::new(TargetBridge {
            shown: append_to(&self.file),
            seen: seen.lines().map(str::to_owned).collect(),
            asks: self.asks,
            last: self.last,
            finished: Arc::clone(&self.finished),
        }))
    }
}

struct TargetBridge {
    shown: File,
    seen: BTreeSet<String>,
    asks: bool,
    last: u64,
    finished: Arc<Semaphore>,
}

impl TargetBridge {
    fn deliver(&mut self, mut delivery: Delivery) {
        let number = delivery.event.origin.native_id.0.clone();
        if !(self.asks && delivery.doubt && self.seen.contains(&number)) {
            // One write, so that a kill leaves a whole line or none.
            self.shown
                .write_all(format!("{number}\n").as_bytes())
                .expect("the test's directory can be written");
        }
        delivery
            .receipts
            .part(0, vec![NativeId(format!("native-{number}"))]);
        delivery.receipts.finish(Outcome::Shown);
        if number == self.last.to_string() {
            self.finished.add_permits(1);
        }
    }
}

#[async_trait]
impl Bridge for TargetBridge {
    async fn run(mut self: Box<Self>, mut link: Link) -> Result<(), BridgeError> {
        link.reports.capabilities(Capabilities {
            window: 8,
            ..Capabilities::default()
        });
        link.reports.network(NetworkStatus::Online);
        loop {
            let request = tokio::select! {
                Some(request) = link.requests.recv() => request,
                () = link.shutdown.cancelled() => return Ok(()),
            };
            match request {
                Request::Join(channel, _) => link.reports.channel(&channel, ChannelState::Joined),
                Request::Deliver(delivery) => self.deliver(delivery),
                Request::Leave(_) | Request::Cancel(_) => {}
            }
        }
    }
}

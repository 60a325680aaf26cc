//! Measures the gateway's core.
//!
//! One *event* is one inbound event with three deliveries and their outcomes recorded. A source network reports, three target
//! networks show at once and give a native id, as a network would; everything between them is the gateway itself, on
//! the real disk. `tests/bench/README.md` has the figures and says how to read them.

mod networks;
mod report;

use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use clap::Parser;
use comity::config::{Config, HttpConfig, NetworkConfig, RoomConfig};
use comity::gateway::Gateway;
use comity_bridge::{Access, ConfigTable, GatewayInfo, RoomAddress};
use hdrhistogram::Histogram;

use networks::{Plan, Shared, Source, Target};

#[derive(Parser)]
struct Args {
    /// Events to send.
    #[arg(long, default_value_t = 200_000)]
    events: u64,
    /// Events a second, open loop; 0 sends as fast as the gateway commits.
    #[arg(long, default_value_t = 0)]
    rate: u64,
    /// Events in one report, when sending as fast as possible.
    #[arg(long, default_value_t = 64)]
    batch: usize,
    /// Reports under way at once, when sending as fast as possible.
    #[arg(long, default_value_t = 8)]
    in_flight: usize,
    /// Bytes of text in each message.
    #[arg(long, default_value_t = 120)]
    text: usize,
    /// Where the data directory is made; on the disk that is to be measured.
    #[arg(long, default_value = ".")]
    dir: PathBuf,
}

fn main() -> Result<()> {
    let args = Args::parse();
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()?
        .block_on(measure(args))
}

async fn measure(args: Args) -> Result<()> {
    let data = tempfile::tempdir_in(&args.dir).context("the data directory cannot be made")?;
    let shared = Shared::new(Plan {
        events: args.events,
        interval: (args.rate > 0).then(|| Duration::from_secs_f64(1.0 / args.rate as f64)),
        batch: args.batch,
        in_flight: args.in_flight,
        text: "x".repeat(args.text),
    });
    let config = config(&shared, data.path().to_owned())?;
    let floor = report::sync_floor(data.path())?;
    let before = report::Usage::now()?;
    let gateway = Gateway::start(config)
        .await
        .map_err(|e| anyhow::anyhow!("{e}"))?;
    let begun = Instant::now();
    shared.finished().await;
    let took = begun.elapsed();
    let used = report::Usage::now()?.since(before);
    let metrics = gateway.metrics().render();
    gateway.stop().await;
    let latencies: Histogram<u64> = shared.latencies();
    report::print(&report::Run {
        events: args.events,
        rate: args.rate,
        took,
        used,
        latencies,
        reports: shared.commits(),
        floor,
        commits: counter(&metrics, "comity_journal_commit_seconds_count"),
        journal: data.path().join("journal.sqlite"),
    })
}

/// The value of a counter without labels.
fn counter(metrics: &str, name: &str) -> u64 {
    let line = metrics.lines().find_map(|line| line.strip_prefix(name));
    line.and_then(|value| value.trim().parse().ok())
        .unwrap_or(0)
}

fn config(shared: &Shared, data_dir: PathBuf) -> Result<Config> {
    let network =
        |name: &str, kind: &'static dyn comity_bridge::BridgeKind| -> Result<NetworkConfig> {
            Ok(NetworkConfig {
                name: name.parse()?,
                kind,
                file: PathBuf::new(),
                table: ConfigTable::new("bench", "", serde_json::Map::new()),
                delivery: comity::config::DeliveryConfig::default(),
            })
        };
    let source: &'static Source = Box::leak(Box::new(Source::new(shared.clone())));
    let mut networks = vec![network("source", source)?];
    let mut channels = vec!["source/#room".parse()?];
    for name in ["one", "two", "three"] {
        let target: &'static Target = Box::leak(Box::new(Target::new(shared.clone())));
        networks.push(network(name, target)?);
        channels.push(format!("{name}/#room").parse()?);
    }
    Ok(Config {
        gateway: GatewayInfo {
            domain: "bench.example".to_owned(),
            public_url: None,
            data_dir,
        },
        http: HttpConfig {
            admin: "127.0.0.1:0".parse()?,
            public: None,
            tls: None,
        },
        rooms: vec![RoomConfig {
            address: RoomAddress::new("room", "bench.example")?,
            channels,
            hosted: Vec::new(),
            access: Access::Off,
        }],
        networks,
        journal: comity::config::JournalConfig::default(),
    })
}

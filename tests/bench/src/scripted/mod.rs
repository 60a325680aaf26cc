//! A real gateway between networks that exist in this process only: one that reports, some that show. Everything between
//! them is the gateway itself, on the disk that the data directory is on.

mod source;
mod target;

use std::path::Path;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use comity::config::{
    Config, DeliveryConfig, HttpConfig, JournalConfig, NetworkConfig, RoomConfig,
};
use comity::gateway::Gateway;
use comity_bridge::{Access, BridgeKind, ConfigTable, GatewayInfo, RoomAddress};
use hdrhistogram::Histogram;
use tokio::time::timeout;

use crate::pace::Schedule;
use source::{Command, Source};
use target::Target;

pub(crate) use target::{Manner, Shown};

/// What the messages are like.
#[derive(Clone, Debug)]
pub(crate) struct Messages {
    /// The number of the first.
    pub(crate) first: u64,
    /// What each says.
    pub(crate) text: String,
}

/// A gateway with its networks.
pub(crate) struct Stage {
    gateway: Gateway,
    commands: tokio::sync::mpsc::UnboundedSender<Command>,
    targets: Vec<Arc<Shown>>,
}

impl Stage {
    /// Starts it, and waits until every target is there that does not stay away.
    pub(crate) async fn start(
        data: &Path,
        messages: Messages,
        manners: &[Manner],
    ) -> Result<Stage> {
        let epoch = Instant::now();
        let (commands, asked) = tokio::sync::mpsc::unbounded_channel();
        let source = Source::new(epoch, messages, asked);
        let mut networks = vec![network("source", Box::leak(Box::new(source)))?];
        let mut channels = vec!["source/#room".parse()?];
        let mut targets = Vec::new();
        for (number, manner) in manners.iter().enumerate() {
            let name = format!("target{number}");
            let shown = Arc::new(Shown::new(epoch));
            let target = Target::new(*manner, Arc::clone(&shown));
            networks.push(network(&name, Box::leak(Box::new(target)))?);
            channels.push(format!("{name}/#room").parse()?);
            targets.push(shown);
        }
        let config = Config {
            gateway: GatewayInfo {
                domain: "bench.example".to_owned(),
                public_url: None,
                data_dir: data.to_owned(),
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
            journal: JournalConfig {
                waiting_per_network: 10_000_000,
                waiting: 10_000_000,
                ..JournalConfig::default()
            },
        };
        let gateway = Gateway::start(config)
            .await
            .map_err(|e| anyhow::anyhow!("{e}"))?;
        let stage = Stage {
            gateway,
            commands,
            targets,
        };
        for (manner, target) in manners.iter().zip(&stage.targets) {
            if *manner != Manner::Away {
                wait("a target is joined", || target.is_joined()).await?;
            }
        }
        Ok(stage)
    }

    /// What the target has shown.
    pub(crate) fn target(&self, number: usize) -> &Shown {
        &self.targets[number]
    }

    /// Reports this many messages as fast as the gateway commits.
    pub(crate) fn flood(&self, count: u64, batch: usize) {
        drop(self.commands.send(Command::Flood { count, batch }));
    }

    /// Reports one message that is due now.
    pub(crate) fn say(&self) {
        drop(self.commands.send(Command::Say(vec![Instant::now()])));
    }

    /// Reports a steady stream, open loop. The thread's result is how late it was itself.
    pub(crate) fn stream(&self, rate: u64, count: u64) -> JoinHandle<Histogram<u64>> {
        let commands = self.commands.clone();
        let schedule = Schedule {
            start: Instant::now() + Duration::from_millis(20),
            rate: rate as f64,
            count,
        };
        std::thread::spawn(move || {
            let sent = schedule.run(|due| {
                let due = due.iter().map(|(_, due)| *due).collect();
                commands.send(Command::Say(due))
            });
            sent.unwrap_or_else(|_| crate::pace::histogram())
        })
    }

    /// Waits until a target has shown this many in all.
    pub(crate) async fn shown(&self, number: usize, count: u64) -> Result<()> {
        let target = &self.targets[number];
        loop {
            let before = target.count();
            // It costs nothing to wait: what is measured shall not be how often somebody looks.
            match timeout(Duration::from_secs(30), target.reached(count)).await {
                Ok(()) => return Ok(()),
                Err(_) if target.count() > before => {}
                Err(_) => bail!("target {number} has shown {before} of {count} and shows no more"),
            }
        }
    }

    /// The value of one of the gateway's counters without labels.
    pub(crate) fn counter(&self, name: &str) -> u64 {
        let metrics = self.gateway.metrics().render();
        let line = metrics.lines().find_map(|line| line.strip_prefix(name));
        line.and_then(|value| value.trim().parse().ok())
            .unwrap_or(0)
    }

    pub(crate) async fn stop(self) {
        self.gateway.stop().await;
    }
}

fn network(name: &str, kind: &'static dyn BridgeKind) -> Result<NetworkConfig> {
    Ok(NetworkConfig {
        name: name.parse()?,
        kind,
        file: std::path::PathBuf::new(),
        table: ConfigTable::new("bench", "", serde_json::Map::new()),
        delivery: DeliveryConfig::default(),
    })
}

async fn wait(what: &str, is_so: impl Fn() -> bool) -> Result<()> {
    let begun = Instant::now();
    while !is_so() {
        if begun.elapsed() > Duration::from_secs(30) {
            bail!("{what}: not within 30 seconds");
        }
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    Ok(())
}

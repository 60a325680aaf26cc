//! The scripted network as a far side of the conformance suite.

use std::time::Duration;

use async_trait::async_trait;

use super::bridge::ScriptedBridge;
use super::fault::Fault;
use super::network::ScriptedNetwork;
use crate::bridge::Bridge;
use crate::capabilities::Capabilities;
use crate::test_util::conformance::{Facts, FarSide, Opening, Record};

const CHANNEL: &str = "#rust";

/// A scripted network, and bridges to it with one fault or none.
#[derive(Clone, Debug)]
pub struct ScriptedFarSide {
    network: ScriptedNetwork,
    fault: Option<Fault>,
    patience: Duration,
}

impl ScriptedFarSide {
    /// A network whose bridges keep all rules.
    pub async fn start() -> Self {
        ScriptedFarSide::with(None, Duration::from_secs(10))
    }

    /// A network whose bridges have this fault.
    pub fn with(fault: Option<Fault>, patience: Duration) -> Self {
        let network = ScriptedNetwork::new();
        network.set_capabilities(Capabilities {
            window: 4,
            ..Capabilities::default()
        });
        ScriptedFarSide {
            network,
            fault,
            patience,
        }
    }
}

#[async_trait]
impl FarSide for ScriptedFarSide {
    fn facts(&self) -> Facts {
        Facts {
            acknowledges: true,
            repeats: true,
            reflects: true,
            idempotent: true,
            standing: true,
        }
    }

    fn record(&self) -> &Record {
        self.network.record()
    }

    fn channel(&self) -> String {
        CHANNEL.to_owned()
    }

    async fn bridge(&mut self, _opening: &Opening) -> Box<dyn Bridge> {
        Box::new(ScriptedBridge::new(self.network.clone(), self.fault))
    }

    async fn say(&mut self, author: &str, text: &str) {
        self.network.say(CHANNEL, author, text);
    }

    async fn repeat(&mut self) {
        self.network.say_again();
    }

    async fn reflect(&mut self) {
        self.network.reflect();
    }

    async fn settle(&mut self) {
        self.network.ping().await;
    }

    async fn garbage(&mut self) {
        for line in [
            "",
            "\t\t\t",
            "LINE\tx",
            "LINE\t1\t#rust",
            "SEEN",
            "NONSENSE\0\u{feff}",
        ] {
            self.network.send_raw(line);
        }
        self.network.send_raw(&"x".repeat(100_000));
        self.network.ping().await;
    }

    async fn cut(&mut self) {
        self.network.cut();
    }

    async fn hold(&mut self) {
        self.network.hold();
    }

    async fn release(&mut self) {
        self.network.release();
    }

    fn injections(&self, says: &str) -> Vec<String> {
        ["\n", "\r", "\r\n"]
            .iter()
            .enumerate()
            .map(|(n, end)| format!("broken{end}SHOW\tkey-{n}\t{CHANNEL}\t{says}"))
            .collect()
    }

    fn patience(&self) -> Duration {
        self.patience
    }
}

//! The scripted bridge: the contract in its shortest form. One task owns everything; nothing in its loop waits for the
//! journal, for a plan or for the network, so that it always reads both sides.

mod inbound;
mod outbound;

use std::collections::{BTreeMap, BTreeSet};

use async_trait::async_trait;
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use super::fault::Fault;
use super::network::ScriptedNetwork;
use super::wire::{ToBridge, ToNetwork};
use crate::bridge::Bridge;
use crate::error::BridgeError;
use crate::event::Channel;
use crate::link::{Link, Request};
use crate::report::{ChannelState, NetworkStatus, Reports};

use inbound::Inbound;
use outbound::{Lane, Planned};

/// A bridge to a scripted network.
pub(super) struct ScriptedBridge {
    network: ScriptedNetwork,
    fault: Option<Fault>,
}

impl ScriptedBridge {
    pub(super) fn new(network: ScriptedNetwork, fault: Option<Fault>) -> Self {
        ScriptedBridge { network, fault }
    }
}

struct Running {
    network: ScriptedNetwork,
    fault: Option<Fault>,
    reports: Reports,
    connection: Option<mpsc::UnboundedReceiver<String>>,
    wanted: BTreeSet<Channel>,
    joined: BTreeSet<Channel>,
    inbound: Inbound,
    lanes: BTreeMap<Channel, Lane>,
    planning: JoinSet<Planned>,
    hanging: bool,
}

#[async_trait]
impl Bridge for ScriptedBridge {
    async fn run(self: Box<Self>, mut link: Link) -> Result<(), BridgeError> {
        let mut running = Running {
            inbound: Inbound::new(self.network.connections()),
            network: self.network,
            fault: self.fault,
            reports: link.reports.clone(),
            connection: None,
            wanted: BTreeSet::new(),
            joined: BTreeSet::new(),
            lanes: BTreeMap::new(),
            planning: JoinSet::new(),
            hanging: false,
        };
        running.reports.capabilities(running.network.capabilities());
        running.connect();
        let mut asked_to_end = false;
        loop {
            let busy = running.lanes.values().any(Lane::is_busy);
            if asked_to_end && !(running.has(Fault::FinishesFirst) && busy) {
                return Ok(());
            }
            let takes_requests = !(running.has(Fault::WaitsForTheNetwork) && busy);
            let reads = !(running.has(Fault::ReadsNothingInTheFrost) && running.inbound.commits());
            let reconnects = running.connection.is_none() && !running.has(Fault::StaysAway);
            let hangs_ended = running.network.hangs_ended();
            let network = running.network.clone();
            tokio::select! {
                biased;
                () = link.shutdown.cancelled(), if !asked_to_end => asked_to_end = true,
                request = link.requests.recv(), if takes_requests => match request {
                    Some(request) => running.request(request, &mut link.requests).await,
                    None => return Ok(()),
                },
                line = next_line(&mut running.connection), if reads => match line {
                    Some(line) => running.line(&line)?,
                    None => running.disconnected(),
                },
                acknowledge = running.inbound.committed() => running.acknowledge(&acknowledge),
                Some(planned) = running.planning.join_next() => {
                    running.planned(planned.map_err(|error| BridgeError::Local(error.to_string()))?);
                }
                () = network.hangs_end_after(hangs_ended), if running.hanging => running.unhang(),
                () = network.is_up(), if reconnects => running.connect(),
            }
            running.inbound.commit(&running.reports, running.fault);
        }
    }
}

/// The next line of the connection; none when it is lost. Waits for ever without one.
async fn next_line(connection: &mut Option<mpsc::UnboundedReceiver<String>>) -> Option<String> {
    match connection {
        Some(connection) => connection.recv().await,
        None => std::future::pending().await,
    }
}

impl Running {
    fn has(&self, fault: Fault) -> bool {
        self.fault == Some(fault)
    }

    fn send(&self, word: &ToNetwork) {
        self.network.receive(&word.print());
    }

    fn connect(&mut self) {
        self.reports.network(NetworkStatus::Connecting);
        self.connection = self.network.connect();
        if self.connection.is_none() {
            self.reports.network(NetworkStatus::Offline {
                why: "the network is down".to_owned(),
            });
            return;
        }
        if self.has(Fault::JoinedTooEarly) {
            for channel in &self.wanted {
                self.reports.channel(channel, ChannelState::Joined);
            }
        }
        self.send(&ToNetwork::Hello);
    }

    fn disconnected(&mut self) {
        self.connection = None;
        self.joined.clear();
        self.inbound.disconnected();
        if !self.has(Fault::NeverOffline) {
            self.reports.network(NetworkStatus::Offline {
                why: "the connection was cut".to_owned(),
            });
        }
        self.lose_what_is_in_hand();
    }

    async fn request(&mut self, request: Request, more: &mut mpsc::Receiver<Request>) {
        match request {
            Request::Join(channel, _) => {
                if self.has(Fault::JoinedTooEarly) {
                    self.reports.channel(&channel, ChannelState::Joined);
                }
                self.enter(&channel);
                self.wanted.insert(channel);
            }
            Request::Leave(channel) => {
                self.send(&ToNetwork::Exit {
                    channel: channel.native().to_owned(),
                });
                self.wanted.remove(&channel);
                self.joined.remove(&channel);
                let why = "left".to_owned();
                self.reports
                    .channel(&channel, ChannelState::NotJoined { why });
            }
            Request::Deliver(delivery) => {
                let channel = delivery.key.channel.clone();
                self.take(delivery);
                if self.has(Fault::LatestFirst) {
                    // Sees what else there is before it begins.
                    tokio::task::yield_now().await;
                    while let Ok(Request::Deliver(delivery)) = more.try_recv() {
                        self.take(delivery);
                    }
                }
                self.go_on(&channel);
            }
            Request::Cancel(key) => self.cancel(&key),
        }
    }

    fn enter(&self, channel: &Channel) {
        if self.connection.is_some() {
            self.send(&ToNetwork::Enter {
                channel: channel.native().to_owned(),
            });
        }
    }

    fn line(&mut self, line: &str) -> Result<(), BridgeError> {
        let Some(word) = ToBridge::parse(line) else {
            if self.has(Fault::DiesOfGarbage) {
                return Err(BridgeError::PeerMisbehaved("not a word".to_owned()));
            }
            let detail = format!("a line of {} bytes", line.len());
            self.reports.skip("malformed", detail);
            return Ok(());
        };
        match word {
            ToBridge::Welcome => {
                self.reports.network(NetworkStatus::Online);
                for channel in &self.wanted {
                    self.enter(channel);
                }
            }
            ToBridge::Entered { channel } => {
                if let Some(channel) = self.channel(channel)
                    && self.wanted.contains(&channel)
                {
                    self.reports.channel(&channel, ChannelState::Joined);
                    self.joined.insert(channel);
                }
            }
            ToBridge::Denied { channel } => {
                if let Some(channel) = self.channel(channel) {
                    let why = "the network denies it".to_owned();
                    self.reports
                        .channel(&channel, ChannelState::NotJoined { why });
                    self.joined.remove(&channel);
                }
            }
            ToBridge::Line {
                id,
                channel,
                key,
                author,
                text,
            } => {
                let Some(channel) = self.channel(channel) else {
                    self.reports.skip("malformed", "a channel's name");
                    return Ok(());
                };
                if self.has(Fault::AcknowledgesEarly) {
                    self.send(&ToNetwork::Acknowledge { id });
                }
                self.inbound
                    .heard(id, channel, &key, author, text, self.fault);
            }
            ToBridge::Seen { key, id } => self.seen(&key, id),
            ToBridge::Ping { number } => self.send(&ToNetwork::Pong { number }),
        }
        Ok(())
    }

    fn channel(&self, native: String) -> Option<Channel> {
        Channel::new(self.reports.network_name().clone(), native).ok()
    }

    fn acknowledge(&self, ids: &[u64]) {
        if self.connection.is_some() {
            for id in ids {
                self.send(&ToNetwork::Acknowledge { id: *id });
            }
        }
    }
}

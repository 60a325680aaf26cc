//! The task of one network: connects, stays connected, and answers the gateway all the while.

use std::{
    collections::BTreeMap,
    io,
    time::{Duration, Instant},
};

use async_trait::async_trait;
use comity_bridge::{
    Bridge, BridgeError, BridgeKind, Capabilities, Channel, ChannelState, Clock, ConfigProblem,
    ConfigTable, DeliveryError, Gap, GatewayInfo, Link, NetworkName, NetworkStatus, Outcome,
    Reports, Request,
};
use comity_net::backoff::{Backoff, STABLE};
use comity_net::dial;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    sync::mpsc,
    time::{sleep, timeout},
};
use tokio_rustls::TlsConnector;
use tokio_util::sync::CancellationToken;
use tracing::{debug, info, warn};

use crate::{
    config::{Config, Tls},
    connection::End,
    deliveries::Deliveries,
    ident::{Casemapping, ChannelName},
    intake::Intake,
    memory::Memory,
};

/// Deliveries of one channel in our hands: two bursts, so that one is ready when the other is proved.
const LEAST_WINDOW: usize = 16;

/// How long the other side may take for the TLS handshake.
const HANDSHAKE_WITHIN: Duration = Duration::from_secs(20);

/// The longest pause between two attempts, before jitter. A server that wants us to stay away says so, and gets more.
const LONGEST_PAUSE: Duration = Duration::from_secs(60);

/// A channel that nobody has asked for by then is not configured any more. Would it be remembered, what was said there
/// until it is configured again, perhaps in a year, would be fetched.
const UNCLAIMED: Duration = Duration::from_secs(10 * 60);

/// How long what was heard last may take into the journal when the gateway stops.
const LAST_COMMIT_WITHIN: Duration = Duration::from_millis(500);

/// IRC, as the configuration names it.
pub struct Irc;

impl BridgeKind for Irc {
    fn protocol(&self) -> &'static str {
        "irc"
    }

    fn channel(&self, native: &str) -> Result<String, String> {
        match ChannelName::parse(native) {
            // What the server's own mapping is it says only later. This one is the widest of those that fold ASCII alone.
            Ok(name) => Ok(Casemapping::default().fold(name.as_str()).into_owned()),
            Err(_) => Err(format!(
                "write \"network/#name\": #, &, + or !, then no space, comma or control character, at most {} bytes in all",
                ChannelName::MAX_BYTES
            )),
        }
    }

    fn configure(
        &self,
        _gateway: &GatewayInfo,
        network: &NetworkName,
        table: ConfigTable,
    ) -> Result<Box<dyn Bridge>, Vec<ConfigProblem>> {
        let config = Config::read(table)?;
        Ok(Box::new(IrcNetwork {
            network: network.clone(),
            config,
        }))
    }
}

struct IrcNetwork {
    network: NetworkName,
    config: Config,
}

#[async_trait]
impl Bridge for IrcNetwork {
    async fn run(self: Box<Self>, link: Link) -> Result<(), BridgeError> {
        if self.config.tls.is_none() {
            warn!(network = %self.network, server = self.config.host, "no TLS: everybody on the path can read and change what is said");
        }
        link.reports.capabilities(Capabilities {
            window: LEAST_WINDOW.max(2 * self.config.burst_lines),
            ..Capabilities::default()
        });
        let rows = link.reports.remembered().await.writes;
        let waiting_lines = self.config.waiting_lines;
        let memory = Memory::read(&rows, |name| Channel::new(self.network.clone(), name).ok());
        let mut driver = Driver {
            network: self.network,
            deliveries: Deliveries::new(self.config.ambiguous),
            config: self.config,
            clock: link.env.clock,
            memory,
            intake: Intake::new(link.reports.clone(), waiting_lines),
            reports: link.reports,
            requests: link.requests,
            shutdown: link.shutdown,
            channels: BTreeMap::new(),
            missing: BTreeMap::new(),
            forgets_at: Some(Instant::now() + UNCLAIMED),
            overfull: false,
        };
        driver.stay_connected().await
    }
}

/// Everything of one network that outlives a connection.
pub(crate) struct Driver {
    pub(crate) network: NetworkName,
    pub(crate) config: Config,
    pub(crate) reports: Reports,
    pub(crate) requests: mpsc::Receiver<Request>,
    pub(crate) shutdown: CancellationToken,
    pub(crate) clock: Clock,
    pub(crate) channels: BTreeMap<ChannelName, Channel>,
    pub(crate) memory: Memory,
    pub(crate) intake: Intake,
    pub(crate) deliveries: Deliveries,
    /// Channels that we are in again, and for how long we were not.
    pub(crate) missing: BTreeMap<ChannelName, Gap>,
    /// When what nobody has asked for is forgotten; nothing when it is.
    pub(crate) forgets_at: Option<Instant>,
    /// More was heard than the journal takes, and the rest is left with the server.
    pub(crate) overfull: bool,
}

/// The gateway stops, or this network does.
pub(crate) struct Stopped;

impl Driver {
    async fn stay_connected(&mut self) -> Result<(), BridgeError> {
        let mut backoff = Backoff::new(Duration::from_secs(1), LONGEST_PAUSE);
        loop {
            self.reports.network(NetworkStatus::Connecting);
            let config = &self.config;
            let dialled = dial_server(config.host.clone(), config.port, config.tls.clone());
            let connection = match self.meanwhile(dialled).await {
                Ok(connection) => connection,
                Err(Stopped) => break,
            };
            let (why, pause) = match connection {
                Ok(stream) => match self.converse(stream).await? {
                    End::Stopped => break,
                    End::Lost {
                        farewell,
                        online_for,
                    } => {
                        let pause = farewell.pause();
                        if is_good(online_for, pause) {
                            backoff.reset();
                        }
                        (farewell.why, pause)
                    }
                },
                Err(error) => (error.to_string(), Duration::ZERO),
            };
            self.deliveries.bar_all(self.channels.keys());
            self.missing.clear();
            // A server that asks us to stay away gets its pause on top of our own.
            let pause = backoff.next_wait() + pause;
            // That the network is offline is the gateway's to say.
            debug!(network = %self.network, retry_in_secs = pause.as_secs_f32(), "waits before it connects again");
            self.reports.network(NetworkStatus::Offline { why });
            if self.meanwhile(sleep(pause)).await.is_err() || self.take_in_all().await.is_err() {
                break;
            }
        }
        // How long we were there, as exactly as we know.
        self.intake.end(&mut self.memory, self.clock.now());
        if !self.intake.is_idle()
            && timeout(LAST_COMMIT_WITHIN, self.drain_intake())
                .await
                .is_err()
        {
            self.reports
                .skip("gap", "the journal did not take what was heard last");
        }
        info!(network = %self.network, "stopped");
        Ok(())
    }

    /// Forgets, when it is time, the channels of earlier runs that are none of this one.
    pub(crate) fn forget_unclaimed(&mut self, now: Instant) {
        if self.forgets_at.take_if(|at| *at <= now).is_none() {
            return;
        }
        let wanted = |known: &Channel| self.channels.values().any(|channel| channel == known);
        for channel in self.memory.unclaimed(wanted) {
            info!(network = %self.network, channel = %channel, "forgets a channel that is not configured any more");
            self.intake.mark(channel, None);
        }
    }

    /// Waits until the journal has what was heard: more waits with the server, which keeps it.
    async fn take_in_all(&mut self) -> Result<(), Stopped> {
        while self.overfull && !self.intake.is_idle() {
            self.answer().await?;
        }
        self.overfull = false;
        Ok(())
    }

    /// Waits for `work` and answers the gateway as a network that is away.
    async fn meanwhile<T>(&mut self, work: impl Future<Output = T>) -> Result<T, Stopped> {
        tokio::pin!(work);
        loop {
            tokio::select! {
                done = &mut work => return Ok(done),
                answered = self.answer() => answered?,
            }
        }
    }

    /// Answers one thing as a network that is away. Can be dropped and called again at any time.
    async fn answer(&mut self) -> Result<(), Stopped> {
        self.intake.begin(&mut self.memory);
        tokio::select! {
            () = self.shutdown.cancelled() => return Err(Stopped),
            request = self.requests.recv() => self.handle_request_offline(request.ok_or(Stopped)?),
            planned = self.deliveries.planned() => self.deliveries.give_back(planned),
            () = self.intake.progress() => {}
        }
        Ok(())
    }

    fn handle_request_offline(&mut self, request: Request) {
        match request {
            Request::Join(channel, _) => drop(self.want(channel)),
            Request::Leave(channel) => {
                self.channels.retain(|_, known| *known != channel);
                self.intake.mark(&channel, None);
            }
            Request::Deliver(delivery) => delivery.receipts.finish(Outcome::NotAttempted),
            Request::Cancel(key) => self.deliveries.cancel(key, None),
        }
    }

    /// Notes a channel to be in, unless it can be none.
    pub(crate) fn want(&mut self, channel: Channel) -> Option<ChannelName> {
        match ChannelName::parse(channel.native()) {
            Ok(name) => {
                self.channels.insert(name.clone(), channel);
                Some(name)
            }
            Err(error) => {
                warn!(network = %self.network, channel = %channel, "this channel cannot be joined");
                self.reports.channel(
                    &channel,
                    ChannelState::NotJoined {
                        why: error.to_string(),
                    },
                );
                None
            }
        }
    }

    async fn drain_intake(&mut self) {
        while !self.intake.is_idle() {
            self.intake.begin(&mut self.memory);
            self.intake.progress().await;
        }
    }
}

/// Tells whether a connection was no failed attempt. A server that asks for a `pause` wants fewer.
fn is_good(online_for: Option<Duration>, pause: Duration) -> bool {
    pause.is_zero() && online_for.is_some_and(|time| time >= STABLE)
}

/// What a channel that we never heard of gets.
pub(crate) fn unknown_channel(channel: &Channel) -> Outcome {
    Outcome::GiveUp(DeliveryError::NotJoined(format!(
        "{channel} was never asked for"
    )))
}

pub(crate) trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

async fn dial_server(host: String, port: u16, tls: Option<Tls>) -> io::Result<Box<dyn Stream>> {
    let tcp = dial(&host, port).await?;
    debug!(host, port, tls = tls.is_some(), "connected");
    let Some(tls) = tls else {
        return Ok(Box::new(tcp));
    };
    // The certificate is checked against the name that the operator wrote, not against any that
    // DNS may lead to. There is no way back to plain text.
    let handshake = TlsConnector::from(tls.client).connect(tls.name, tcp);
    match timeout(HANDSHAKE_WITHIN, handshake).await {
        Ok(stream) => Ok(Box::new(stream?)),
        Err(_) => Err(io::Error::new(
            io::ErrorKind::TimedOut,
            "the TLS handshake took too long",
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cuts_every_twenty_seconds_do_not_make_the_pauses_longer() {
        let seconds = |seconds| Some(Duration::from_secs(seconds));
        assert!(is_good(seconds(20), Duration::ZERO));
        assert!(!is_good(seconds(5), Duration::ZERO));
        assert!(!is_good(None, Duration::ZERO));
        assert!(!is_good(seconds(300), Duration::from_secs(60)));
    }
}

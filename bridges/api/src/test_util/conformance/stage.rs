//! One bridge between a harness and a far side, and what rules do with it.

use std::time::Duration;

use tokio::task::JoinHandle;

use super::Broken;
use super::far_side::{FarSide, Opening};
use super::record::Shown;
use crate::error::BridgeError;
use crate::event::Channel;
use crate::link::Link;
use crate::report::ChannelState;
use crate::test_util::harness::{Harness, Line, Taken, Told};

/// What the contract gives a bridge to end.
const SHUTDOWN: Duration = Duration::from_secs(2);

/// A running bridge, joined and online when a rule gets it.
pub struct Stage<F> {
    /// The network's side.
    pub far: F,
    /// The gateway's side.
    pub harness: Harness,
    /// Where everything happens.
    pub channel: Channel,
    run: Option<JoinHandle<Result<(), BridgeError>>>,
}

impl<F: FarSide> Stage<F> {
    pub(super) async fn open(far: F) -> Result<Self, Broken> {
        let (harness, link) = Harness::link_with(far.network(), far.directory());
        harness.set_patience(far.patience());
        let channel = harness.channel(&far.channel());
        let mut stage = Stage {
            far,
            harness,
            channel,
            run: None,
        };
        stage.run(link).await?;
        Ok(stage)
    }

    /// Starts the bridge once more, after [`Stage::stop`].
    pub(super) async fn start_again(&mut self) -> Result<(), Broken> {
        let link = self.harness.relink();
        self.run(link).await
    }

    async fn run(&mut self, link: Link) -> Result<(), Broken> {
        let opening = Opening {
            gateway: self.harness.gateway().clone(),
            http: self.harness.http_caller(),
        };
        let bridge = self.far.bridge(&opening).await;
        self.run = Some(tokio::spawn(bridge.run(link)));
        self.harness
            .try_ask(crate::link::Request::Join(
                self.channel.clone(),
                self.far.join_options(),
            ))
            .await?;
        let ready = self.ready().await;
        match ready {
            Err(Broken(why)) => match self.death().await {
                Some(died) => Err(Broken(format!("{why}\n  and {died}"))),
                None => Err(Broken(why)),
            },
            ready => ready,
        }
    }

    /// Waits until deliveries may be handed over.
    pub(super) async fn ready(&self) -> Result<(), Broken> {
        let what = format!("the network to be online and {} joined", self.channel);
        self.harness
            .try_wait_for(&what, |seen| {
                (seen.online && seen.joined.contains(&self.channel)).then_some(())
            })
            .await?;
        Ok(())
    }

    /// Asks the bridge to end and waits until it has, for the time that the contract gives it.
    pub(super) async fn stop(&mut self) -> Result<(), Broken> {
        self.harness.shutdown();
        let Some(mut run) = self.run.take() else {
            return Ok(());
        };
        match tokio::time::timeout(SHUTDOWN, &mut run).await {
            Ok(Ok(Ok(()))) => Ok(()),
            Ok(Ok(Err(error))) => Err(Broken(format!("run ended with an error: {error}"))),
            Ok(Err(panicked)) => Err(Broken(format!("run panicked: {panicked}"))),
            Err(_) => {
                run.abort();
                Err(Broken(format!(
                    "run had not ended {SHUTDOWN:?} after the shutdown"
                )))
            }
        }
    }

    /// Ends a rule. A bridge that died on the way breaks any rule.
    pub(super) async fn close(mut self, kept: bool) -> Result<(), Broken> {
        self.harness.thaw();
        let died = self.death().await;
        self.harness.shutdown();
        if let Some(run) = self.run.take() {
            run.abort();
        }
        match died {
            Some(died) => Err(Broken(if kept {
                died
            } else {
                format!("the bridge is gone: {died}")
            })),
            None => Ok(()),
        }
    }

    async fn death(&mut self) -> Option<String> {
        if !self.run.as_ref().is_some_and(JoinHandle::is_finished) {
            return None;
        }
        Some(match self.run.take()?.await {
            Ok(Ok(())) => "run ended without a shutdown".to_owned(),
            Ok(Err(error)) => format!("run ended: {error}"),
            Err(panicked) => format!("run panicked: {panicked}"),
        })
    }

    /// A stranger says a line, and it becomes an event.
    pub(super) async fn hear(&mut self, text: &str) -> Result<Taken, Broken> {
        self.far.say("ann", text).await;
        self.heard(text).await
    }

    /// Waits for the event of a line.
    pub(super) async fn heard(&self, text: &str) -> Result<Taken, Broken> {
        let what = format!("an event that says {text:?}");
        Ok(self
            .harness
            .try_wait_for(&what, |seen| seen.saying(text).next().cloned())
            .await?)
    }

    /// Somebody elsewhere says a line, and the network's people see it.
    pub(super) async fn show(&mut self, text: &str) -> Result<(), Broken> {
        self.harness
            .show(&self.channel, vec![Line::new("bea", text)])
            .await?;
        self.is_shown(text).await
    }

    /// Waits until people have seen a line with this in it.
    pub(super) async fn is_shown(&self, text: &str) -> Result<(), Broken> {
        let record = self.far.record();
        let search = record.wait_until(|shown, _| shown.iter().any(|s| s.text.contains(text)));
        self.in_time(&format!("people to see {text:?}"), search)
            .await
    }

    /// Waits for `wanted`, as long as the far side has patience.
    pub(super) async fn in_time<T>(
        &self,
        what: &str,
        wanted: impl Future<Output = T>,
    ) -> Result<T, Broken> {
        tokio::time::timeout(self.far.patience(), wanted)
            .await
            .map_err(|_| {
                let shown = self.far.record().shown();
                Broken(format!(
                    "waited in vain for {what}; people saw {shown:#?}, the gateway saw\n{}",
                    self.harness.seen(ToString::to_string)
                ))
            })
    }

    /// A round trip on the wire.
    pub(super) async fn settle(&mut self) -> Result<(), Broken> {
        let patience = self.far.patience();
        tokio::time::timeout(patience, self.far.settle())
            .await
            .map_err(|_| Broken("the bridge does not answer on the wire".to_owned()))
    }

    /// What people have seen with this in it.
    pub(super) fn shown_with(&self, text: &str) -> Vec<Shown> {
        let mut shown = self.far.record().shown();
        shown.retain(|s| s.text.contains(text));
        shown
    }

    /// How much the bridge has told about itself; what it tells later is after this mark.
    pub(super) fn mark(&self) -> usize {
        self.harness.seen(|seen| seen.told.len())
    }

    /// Waits until the channel was reported joined after a mark.
    pub(super) async fn joined_after(&self, mark: usize) -> Result<(), Broken> {
        let joined = Told::Channel(self.channel.clone(), ChannelState::Joined);
        let what = format!("{} to be joined again", self.channel);
        self.harness
            .try_wait_for(&what, |seen| {
                seen.told[mark..].contains(&joined).then_some(())
            })
            .await?;
        self.ready().await
    }

    /// Says that a rule has nothing to check here.
    pub(super) fn does_not_apply(&self, why: &str) -> Result<(), Broken> {
        eprintln!("does not apply: {why}");
        Ok(())
    }
}
